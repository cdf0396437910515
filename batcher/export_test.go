package batcher

import (
	"errors"
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

// MostShares is the length of the longest list of shares in an open batch, those that were
// withdrawn included.
func (b *Batcher[T]) MostShares() (most int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for l := b.pending.front; l != nil; l = l.next {
		most = max(most, len(l.owner.open.shares))
	}
	return most
}

// AppendKey gives the fuzzer the identity of a partition.
var AppendKey = appendKey

// Check compares all that the engine keeps twice. It holds between any two steps.
func (b *Batcher[T]) Check() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var pending, sealed, inFlight, live, open, retrying, eager int
	ready := map[*partition[T]]bool{}
	for _, l := range []*list[partition[T]]{&b.idle, &b.busy} {
		for e := l.front; e != nil; e = e.next {
			p := e.owner
			ready[p] = true
			if !b.mayLeave(p) || (p.inFlight == 0) != (l == &b.idle) {
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
		retrying += p.retrying
		for bt := p.line.front; bt != nil; bt = bt.next {
			sealed += bt.items
			if bt.items > b.maxItems || bt.items < 1 && !bt.filling {
				return fmt.Errorf("sealed batch of %d items", bt.items)
			}
			if bt.piece != nil {
				sealed += bt.piece.behind()
			}
		}
		if b.mayFlush(p) {
			eager++
			if p.eager.in != &b.eager {
				return fmt.Errorf("partition %q could be flushed and is not on the list", p.key)
			}
		}
		if p.open != nil {
			var none T
			for _, s := range p.open.shares {
				if s.items == 0 && any(s.data) != any(none) {
					return errors.New("the data of a share that was withdrawn is kept")
				}
			}
			open++
		}
		if alive := p.open != nil || p.grid.armed(); alive {
			live++
		}
		if b.mayLeave(p) && !ready[p] {
			return fmt.Errorf("partition %q could leave and is not on a list", p.key)
		}
		if p.inFlight > b.perPartition {
			return fmt.Errorf("partition %q has %d exports under way", p.key, p.inFlight)
		}
	}
	waiting := 0 // items that wait for a retry
	if b.retries != nil {
		if len(b.retries.heap) != retrying {
			return fmt.Errorf("%d batches wait for a retry, %d counted", len(b.retries.heap), retrying)
		}
		for _, g := range b.retries.heap {
			waiting += g.owner.items
			if g.owner.piece != nil {
				sealed += g.owner.piece.behind()
			}
		}
	}
	s := b.stats
	accepted := s.Delivered + sum(s.Failed[:]) + sum(s.Dropped[:]) + s.Sealed + s.InFlight + s.Retrying + int64(pending)
	limit := b.set.MetadataCardinalityLimit
	switch {
	case b.state == stateOver:
	case b.budget.used > b.budget.capacity || int64(b.budget.used) < int64(pending)+s.Sealed+s.InFlight+s.Retrying:
		return fmt.Errorf("%d of %d used by %d pending, %d sealed, %d in flight, %d retrying",
			b.budget.used, b.budget.capacity, pending, s.Sealed, s.InFlight, s.Retrying)
	case s.Sealed < int64(sealed) || s.Sealed > int64(sealed) && inFlight == 0: // pieces behind one in flight are not seen here
		return fmt.Errorf("%d items in lines, %d counted as sealed", sealed, s.Sealed)
	case s.Retrying != int64(waiting):
		return fmt.Errorf("%d items wait for a retry, %d counted", waiting, s.Retrying)
	case eager != b.eager.n || eager > 0 && b.exports < b.set.MaxConcurrentExports && b.state == stateRunning:
		return fmt.Errorf("%d partitions could be flushed, %d on the list, %d slots taken", eager, b.eager.n, b.exports)
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
