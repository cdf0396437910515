package batcher

import (
	"fmt"
	"maps"
	"slices"
)

// Armed tells whether the timer is armed.
func (b *Batcher[T]) Armed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ticker != nil && !b.ticker.firing.IsZero()
}

// Partitions counts the partitions that are remembered, alive or not.
func (b *Batcher[T]) Partitions() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.partitions)
}

// AppendKey gives the fuzzer the identity of a partition.
var AppendKey = appendKey

// Check compares all that the engine keeps twice. It holds between any two steps.
func (b *Batcher[T]) Check() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var pending, sealed, inFlight, live, open int
	ready := map[*partition[T]]bool{}
	for _, l := range []*list[partition[T]]{&b.idle, &b.busy} {
		for e := l.front; e != nil; e = e.next {
			p := e.owner
			ready[p] = true
			if p.line.front == nil || p.line.front.filling || p.inFlight >= b.perPartition || (p.inFlight == 0) != (l == &b.idle) {
				return fmt.Errorf("partition %q must not be on this list of ready ones", p.key)
			}
		}
	}
	all := maps.Values(b.partitions)
	if b.only != nil {
		all = slices.Values([]*partition[T]{b.only})
	}
	for p := range all {
		if b.only == nil && !p.holds() {
			return fmt.Errorf("partition %q holds nothing and is remembered", p.key)
		}
		pending += p.openItems()
		inFlight += p.inFlight
		for bt := p.line.front; bt != nil; bt = bt.next {
			sealed += bt.items
			if bt.items > b.maxItems || bt.items < 1 && !bt.filling {
				return fmt.Errorf("sealed batch of %d items", bt.items)
			}
		}
		if p.open != nil {
			open++
		}
		if alive := p.open != nil || p.grid.armed(); alive {
			live++
		}
		if p.line.front != nil && !p.line.front.filling && p.inFlight < b.perPartition && !ready[p] {
			return fmt.Errorf("partition %q could leave and is not on a list", p.key)
		}
		if p.inFlight > b.perPartition {
			return fmt.Errorf("partition %q has %d exports under way", p.key, p.inFlight)
		}
	}
	s := b.stats
	accepted := s.Delivered + sum(s.Failed[:]) + sum(s.Dropped[:]) + s.Sealed + s.InFlight + int64(pending)
	limit := b.set.MetadataCardinalityLimit
	switch {
	case b.state == stateOver:
	case b.budget.used > b.budget.capacity || b.budget.used < pending+sealed+int(s.InFlight):
		return fmt.Errorf("%d of %d used by %d pending, %d sealed, %d in flight", b.budget.used, b.budget.capacity, pending, sealed, s.InFlight)
	case s.Sealed != int64(sealed):
		return fmt.Errorf("%d items in lines, %d counted as sealed", sealed, s.Sealed)
	case s.Accepted != accepted:
		return fmt.Errorf("%d items accepted, %d accounted for", s.Accepted, accepted)
	case b.exports != inFlight || b.exports > b.set.MaxConcurrentExports:
		return fmt.Errorf("%d slots taken, %d exports under way", b.exports, inFlight)
	case live != b.live.n || open != b.pending.n || b.only == nil && limit > 0 && live > limit:
		return fmt.Errorf("%d alive, %d on the list; %d open, %d on the list", live, b.live.n, open, b.pending.n)
	case b.exports < b.set.MaxConcurrentExports && len(ready) > 0 && b.state <= stateDraining:
		return fmt.Errorf("%d partitions are ready and %d slots taken", len(ready), b.exports)
	}
	return nil
}
