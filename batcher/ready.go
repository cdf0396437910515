package batcher

import "math/bits"

// ready are the partitions that may take an export slot, for their first sealed batch or
// for what is pending. Slots go to those with the fewest exports under way, and round
// those that have equally many. It is plain data, guarded by Batcher.mu.
type ready[T any] struct {
	lists []*list[partition[T]] // by the number of exports under way
	n     int
}

// put adds p, or takes it away. It is to be called when p.inFlight has changed, too.
func (r *ready[T]) put(p *partition[T], in bool) {
	if p.ready.in != nil {
		r.n--
	}
	if !in {
		p.ready.moveTo(nil)
		return
	}
	for len(r.lists) <= int(p.inFlight) {
		r.lists = append(r.lists, new(list[partition[T]]))
	}
	p.ready.moveTo(r.lists[p.inFlight])
	r.n++
}

// next returns whose turn it is, of those with fewer than that many exports under way; nil
// if there is none.
func (r *ready[T]) next(fewer int) *partition[T] {
	if r.n == 0 {
		return nil
	}
	for _, l := range r.lists[:min(len(r.lists), fewer)] {
		if l.front != nil {
			return l.front.owner
		}
	}
	return nil
}

// fullest finds the partition whose open batch is the fullest of those that could leave
// at once. It is plain data, guarded by Batcher.mu.
//
// Items are added far more often than it is asked. So it keeps the partitions apart by the
// binary order of magnitude of their items, which seldom changes, and looks closer only
// when asked, at no more than a few. What it finds is the fullest if few compete, and at
// least half as full if thousands do.
type fullest[T any] struct {
	lists [bits.UintSize]list[partition[T]] // by the number of bits
}

// maxCompared bounds the partitions that fullest compares.
const maxCompared = 64

// put adds p, or takes it away.
func (f *fullest[T]) put(p *partition[T], in bool) {
	if !in {
		p.fullest.moveTo(nil)
		return
	}
	p.fullest.moveTo(&f.lists[bits.Len(uint(p.open.items))])
}

// update notes that the open batch of p has got more or fewer items, if p is in.
func (f *fullest[T]) update(p *partition[T]) {
	if p.fullest.in != nil {
		f.put(p, true)
	}
}

// next returns the fullest of those with fewer than that many exports under way; nil if
// there is none.
func (f *fullest[T]) next(fewer int) (best *partition[T]) {
	for i := len(f.lists) - 1; i >= 0 && best == nil; i-- {
		compared := 0
		for l := f.lists[i].front; l != nil && compared < maxCompared; l = l.next {
			p := l.owner
			if int(p.inFlight) >= fewer {
				continue // at most one for each slot
			}
			if best == nil || p.open.items > best.open.items {
				best = p
			}
			compared++
		}
	}
	return best
}
