package batcher

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/bits"
	"slices"
	"time"

	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pprofile"
	"go.opentelemetry.io/collector/pdata/ptrace"
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
	for l := b.live.front; l != nil; l = l.next {
		if l.owner.open != nil {
			most = max(most, len(l.owner.open.shares))
		}
	}
	return most
}

// The fuzzer needs the identity of a partition.
var (
	AppendKey         = appendKey
	AppendResourceKey = appendResourceKey
)

// PartitionContext is what the exports of a partition run under.
func PartitionContext(base context.Context, key string, metadataKeys, resourceKeys []string) context.Context {
	ctx, _ := partitionContext(base, key, metadataKeys, resourceKeys)
	return ctx
}

// RaceEnabled tells whether the race detector is on.
const RaceEnabled = raceEnabled

const MostKept = mostKept

// Measured returns the sizes of everything in data, and what they add up to.
func Measured[T any](s Signal[T], data T, bytes, heap bool) (*Sizes, Size) {
	z := new(Sizes)
	z.reset(bytes, heap, 1)
	s.Measure(data, z)
	return z, z.all()
}

// Check compares all that the engine keeps twice. It holds between any two steps.
func (b *Batcher[T]) Check() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	heap := b.heapAway
	var pending, sealed, inFlight, live, retrying, ready, held, waiting int
	all := maps.Values(b.partitions)
	if b.only != nil {
		all = slices.Values([]*partition[T]{b.only})
	}
	for p := range all {
		if b.only == nil && !p.holds() {
			return fmt.Errorf("partition %q holds nothing and is remembered", p.key)
		}
		if p.open != nil {
			if b.sharesBytes() && p.open.bytes != b.signal.Bytes(p.open.data) {
				return fmt.Errorf("%d bytes are open, %d counted", b.signal.Bytes(p.open.data), p.open.bytes)
			}
			pending += p.open.items
			heap += p.open.heap
		}
		inFlight += int(p.inFlight)
		if p.boarding && p.inFlight == 0 {
			return fmt.Errorf("partition %q is boarded without a slot", p.key)
		}
		retrying += int(p.retrying)
		for bt := p.line.front; bt != nil; bt = bt.next {
			sealed += bt.items
			heap += bt.heap
			if b.sharing == nil && !bt.size().within(b.limit) || bt.items < 1 && !bt.filling {
				return fmt.Errorf("sealed batch of %+v", bt.size())
			}
			if bt.piece != nil {
				sealed += bt.piece.behind()
			}
		}
		_, flush := b.mayFlush(p)
		switch in := p.ready.in; {
		case (flush || b.mayLeave(p)) && in == nil:
			return fmt.Errorf("partition %q could leave and is not ready", p.key)
		case in == nil:
		case in != b.ready.lists[p.inFlight]:
			return fmt.Errorf("partition %q is ready with %d exports and elsewhere", p.key, p.inFlight)
		case p.line.front != nil && !b.mayLeave(p), p.line.front == nil && !b.mayBePressed(p):
			return fmt.Errorf("partition %q is ready and cannot leave", p.key)
		default:
			ready++
		}
		switch in := p.fullest.in; {
		case (in != nil) != (b.budget.shared && b.set.BlockOnOverflow && b.mayBePressed(p)):
			return fmt.Errorf("partition %q could be pressed: %v, can be found: %v", p.key, b.mayBePressed(p), in != nil)
		case in != nil && in != &b.fullest.lists[bits.Len(uint(p.open.items))]:
			return fmt.Errorf("partition %q is not where its %d items belong", p.key, p.open.items)
		}
		held += p.account.held
		waiting += p.account.line.n
		if p.open != nil {
			var none T
			outer := 0
			for _, s := range p.open.shares {
				if s.Items == 0 && any(s.data) != any(none) {
					return errors.New("the data of a share that was withdrawn is kept")
				}
				outer += s.Bytes
			}
			if b.early && p.open.shares != nil {
				if n := b.sharing.outer(p.open.data); n != outer {
					return fmt.Errorf("%d bytes besides the dictionary, shares have %d", n, outer)
				}
				if stale := p.open.stale; stale.Items > p.open.items || 2*stale.Heap > p.open.heap {
					return fmt.Errorf("%+v withdrawn is kept beside %+v", stale, p.open.size())
				}
			}
		}
		if alive := p.open != nil || p.grid.armed(); alive {
			live++
		}
		if int(p.inFlight) > b.perPartition {
			return fmt.Errorf("partition %q has %d exports under way", p.key, p.inFlight)
		}
	}
	if err := b.checkAway(all); err != nil {
		return err
	}
	again := 0 // items that wait for a retry
	if b.retries != nil {
		if b.retries.grids.len() != retrying {
			return fmt.Errorf("%d batches wait for a retry, %d counted", b.retries.grids.len(), retrying)
		}
		for _, g := range b.retries.grids.heap {
			again += g.owner.items
			heap += g.owner.heap
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
	case b.budget.heapUsed > b.budget.heapCapacity || b.budget.heapUsed < heap:
		return fmt.Errorf("%d of %d bytes used by batches with %d", b.budget.heapUsed, b.budget.heapCapacity, heap)
	case s.Sealed < int64(sealed) || s.Sealed > int64(sealed) && inFlight == 0: // pieces behind one in flight are not seen here
		return fmt.Errorf("%d items in lines, %d counted as sealed", sealed, s.Sealed)
	case s.Retrying != int64(again):
		return fmt.Errorf("%d items wait for a retry, %d counted", again, s.Retrying)
	case b.budget.shared && held != b.budget.used || waiting != b.budget.waiting:
		return fmt.Errorf("%d held by partitions, %d used; %d callers in lines, %d counted", held, b.budget.used, waiting, b.budget.waiting)
	case b.accepted != accepted:
		return fmt.Errorf("%d items accepted, %d accounted for", b.accepted, accepted)
	case b.exports != inFlight || b.exports > b.set.MaxConcurrentExports:
		return fmt.Errorf("%d slots taken, %d exports under way", b.exports, inFlight)
	case live != b.live.n || b.only == nil && limit > 0 && live > limit:
		return fmt.Errorf("%d alive, %d on the list", live, b.live.n)
	case ready != b.ready.n:
		return fmt.Errorf("%d partitions are ready, %d counted", ready, b.ready.n)
	case b.exports < b.set.MaxConcurrentExports && b.ready.next(b.fewer()) != nil && b.state <= stateDraining:
		return fmt.Errorf("%q is ready and %d slots taken", b.ready.next(b.fewer()).key, b.exports)
	}
	return nil
}

// checkAway compares what is kept for Snapshot with what there is. Requires b.mu held.
func (b *Batcher[T]) checkAway(all iter.Seq[*partition[T]]) error {
	if b.state == stateOver {
		return nil
	}
	there, oldest := make(map[*partition[T]]stages), make(map[*partition[T]]time.Time)
	see := func(bt *batch[T], sealed, inFlight, retrying int) {
		p := bt.partition
		n := there[p]
		if bt.piece != nil {
			sealed += bt.piece.behind()
		}
		there[p] = stages{n.sealed + sealed, n.inFlight + inFlight, n.retrying + retrying}
		if first, seen := oldest[p]; !seen || bt.first.Before(first) {
			oldest[p] = bt.first
		}
	}
	for i, bt := range b.flying {
		if bt.slot != i+1 {
			return fmt.Errorf("slot %d has a batch of slot %d", i+1, bt.slot)
		}
		see(bt, 0, bt.items, 0)
	}
	if b.retries != nil {
		for _, g := range b.retries.grids.heap {
			see(g.owner, 0, 0, g.owner.items)
		}
	}
	boarding := 0
	for p := range all {
		for bt := p.line.front; bt != nil; bt = bt.next {
			see(bt, bt.items, 0, 0)
		}
		if p.open != nil {
			see(p.open, 0, 0, 0)
		}
		if p.boarding {
			boarding++
		}
		if b.only == nil && p.items != there[p] {
			return fmt.Errorf("partition %q counts %+v and has %+v", p.key, p.items, there[p])
		}
		if first, holds := p.oldest(); !first.Equal(oldest[p]) || holds != !first.IsZero() {
			return fmt.Errorf("partition %q has its oldest item since %v, %v is told", p.key, oldest[p], first)
		}
		away := 0
		for bt := p.away.oldest; bt != nil; bt = bt.younger {
			if away++; bt.younger.older != bt || bt.younger != p.away.oldest && bt.younger.first.Before(bt.first) {
				return fmt.Errorf("partition %q has batches away in no order", p.key)
			}
			if bt.younger == p.away.oldest {
				break
			}
		}
		if n := there[p]; away > 0 && n.sealed+n.inFlight+n.retrying == 0 {
			return fmt.Errorf("partition %q has %d batches away, and nothing but what is open", p.key, away)
		}
	}
	if len(b.flying)+boarding != b.exports {
		return fmt.Errorf("%d batches fly and %d partitions board with %d slots taken", len(b.flying), boarding, b.exports)
	}
	return nil
}

// Merged merges data as a batcher does. It tells whether anything was equal, and copies what came from some of the
// entries that there were.
func Merged[T any](s Signal[T], data T) (joined bool, pick func(from, to int) T) {
	runs, joined := mergeData(s, data, true)
	of := origins{runs: runs}
	return joined, func(from, to int) T {
		if !joined {
			return s.Copy(data, from, to)
		}
		return s.Pick(data, of.picker(from, to))
	}
}

// Same tells whether two elements are the same as far as merging is concerned.
func Same[E any](a, b E) bool {
	m := new(Merger)
	switch a := any(a).(type) {
	case ptrace.ResourceSpans:
		return same(m, &resourceSpansKin, a, b)
	case ptrace.ScopeSpans:
		return same(m, &scopeSpansKin, a, b)
	case plog.ResourceLogs:
		return same(m, &resourceLogsKin, a, b)
	case plog.ScopeLogs:
		return same(m, &scopeLogsKin, a, b)
	case pmetric.ResourceMetrics:
		return same(m, &resourceMetricsKin, a, b)
	case pmetric.ScopeMetrics:
		return same(m, &scopeMetricsKin, a, b)
	case pmetric.Metric:
		return same(m, &metricKin, a, b)
	case pprofile.ResourceProfiles:
		return same(m, &resourceProfilesKin, a, b)
	case pprofile.ScopeProfiles:
		return same(m, &scopeProfilesKin, a, b)
	}
	panic("nothing that is merged")
}

func same[E any](m *Merger, k *kin[E], a E, b any) bool {
	k.signature(m, b.(E))
	return k.same(m, a, b.(E))
}

// Limits of merging.
const (
	MergedItems = mergedItems
	MergeSample = mergeSample
	MostAlike   = mostAlike
)

// ExpectItemBytes makes b expect items of that many bytes.
func ExpectItemBytes[T any](b *Batcher[T], bytes int64) { b.itemBytes.Store(bytes) }
