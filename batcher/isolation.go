package batcher

import "time"

// A batch that is refused for good is sent again in parts, to find the units that it is
// refused for. These are requests, or the resources of a request that is the only one in
// the batch. Where nobody waits, a request that is found in the search is searched in turn,
// along its resources, so that the rest of it is delivered. One part is on its way at a
// time, from front to back, so that nothing overtakes; only what waits for a retry is
// overtaken, where no order is promised.
//
//	the first unit alone
//	  taken:   what is left holds the fault
//	  refused: a second unit alone
//	    refused alike: whatever is sent is refused. The search ends.
//	    else:          what is left may hold a fault
//	what may hold a fault is sent; if it is refused, it holds one
//	what holds a fault is halved: the first half may hold it, and if that is taken, the
//	second half holds it and is not sent before it is halved itself
//	a request that is found after the first units is divided along its resources
//
// With one faulty unit of n this takes at most 2 x log2(n) + 1 exports: halving takes one
// where the fault is in the second half and two where it is in the first, which is never
// the larger one, and the first unit takes one more. The scheme is binary splitting from
// group testing (Sobel and Groll 1959), which needs no guess of how many are faulty.

const (
	// maxIsolation is the most further exports of one batch. What is still together then
	// shares the error.
	maxIsolation = 64

	// generalFor is how long a failure counts as general after it was found to be: no
	// batch of the partition is divided meanwhile, unless one is delivered. It is short,
	// because a wrong verdict fails requests together with the faulty ones.
	generalFor = time.Second
)

// isolation is the search for the faulty units of one batch. Guarded by Batcher.mu, but
// for what does not change.
type isolation[T any] struct {
	whole *batch[T] // what was refused, and keeps its data until the search is over
	units []unit
	err   error // what it was refused with

	exports *int   // made or reserved, of all searches in the same batch
	left    int    // units without an outcome
	probing probes // what is known of the units sent alone in the beginning
	first   error  // what the first of them was refused with
}

// probes are the stages in which an isolation begins.
type probes uint8

const (
	probeFirst  probes = iota // the first unit alone is on its way
	probeSecond               // it was refused; a second one is on its way
	probesOver
)

// unit is what is not divided further.
type unit struct {
	from, to int // resources of the whole batch, before they were merged
	items    int
	share    int // whose it is, if callers wait
}

// piece is what makes a batch a part of another one.
type piece[T any] struct {
	of       *isolation[T]
	from, to int // units

	// next is the piece to be tried after this one. The chain is counted as sealed.
	next *batch[T]
	// faulty: the piece holds a fault, if the one before it does not.
	faulty bool
}

// units lists what the batch can be divided into. The batch must have been exported.
func (b *Batcher[T]) units(bt *batch[T]) (all []unit) {
	from := 0
	if bt.shares != nil {
		for i, s := range bt.shares {
			if s.Items > 0 {
				all = append(all, unit{from, from + s.resources, s.Items, i})
				from += s.resources
			}
		}
		return all
	}
	resources, itemsAt := b.signal.Resources(bt.data), func(r int) int { return b.signal.ItemsAt(bt.data, r) }
	if bt.origins != nil {
		before := bt.origins.itemsOf()
		resources, itemsAt = len(before), func(r int) int { return int(before[r]) }
	}
	wide := bt.wide
	if len(wide) == 1 && wide[0] == (extent{0, resources}) {
		wide = nil // the only request
	}
	for r := 0; r < resources; {
		to, items := r+1, 0
		if len(wide) > 0 && wide[0].from == r {
			to, wide = wide[0].to, wide[1:]
		}
		for ; r < to; r++ {
			items += itemsAt(r)
		}
		if items > 0 { // one without items goes with the next
			all = append(all, unit{from: from, to: to, items: items})
			from = to
		}
	}
	if len(all) > 0 {
		all[len(all)-1].to = resources
	}
	return all
}

// newIsolation begins a search, or returns nil if there is only one unit.
func newIsolation[T any](bt *batch[T], units []unit, err error) *isolation[T] {
	if len(units) < 2 {
		return nil
	}
	return &isolation[T]{whole: bt, units: units, err: err, exports: new(int), left: len(units)}
}

// divisible tells whether a batch that was refused is to be sent again in parts. Its own
// isolation is apart; nil if it has none. Requires b.mu held.
func (b *Batcher[T]) divisible(bt *batch[T], apart *isolation[T], now time.Time) bool {
	pc := bt.piece
	switch {
	case bt.blurred:
		return false
	case pc == nil:
		return apart != nil && !now.Before(bt.partition.general)
	case pc.to-pc.from > 1:
		return true
	}
	// A request alone is searched in turn, unless the last export is needed for those behind it.
	return apart != nil && pc.of.probing == probesOver && (pc.next == nil || *pc.of.exports < maxIsolation-1)
}

// reserve takes one of the exports that a batch may have for its search, if there is one
// left. It is to be taken when the export is decided on: until it is made, another part of
// the batch could take it. Requires b.mu held.
func (it *isolation[T]) reserve() bool {
	if *it.exports == maxIsolation {
		return false
	}
	*it.exports++
	return true
}

// divide sends a batch that was refused again in parts, the first of them in an export that
// is reserved. Its items count as sealed already. It returns what leaves the
// budget with that, see proceed. Requires b.mu held.
func (b *Batcher[T]) divide(bt *batch[T], apart *isolation[T], follow bool, end *ending[T]) (freed Size) {
	pc := bt.piece
	switch {
	case pc == nil:
		if bt.shares != nil {
			bt.answers = make([]answer, len(bt.shares))
		}
		b.heapAway += bt.heap // until the search is over, as its data is kept
		rest := apart.cut(1, len(apart.units), nil)
		rest.piece.faulty = true
		apart.reserve()
		b.try(apart.cut(0, 1, rest))
	case apart == nil:
		if pc.next != nil {
			pc.next.piece.faulty = false // nothing is known of it
		}
		if bt.lent {
			end.unused = append(end.unused, bt.data)
		}
		b.try(pc.halve())
	default:
		// What the request was found in goes on behind it.
		bt.heap = b.leaveUnit(pc, end).Heap // if it was the last: now for this copy of it
		b.heapAway += bt.heap
		bt.partition.away.add(bt)
		freed = b.proceed(pc, apart.err, follow, end)
		apart.exports, apart.probing = pc.of.exports, probesOver
		b.try(apart.cut(0, len(apart.units), nil).piece.halve())
	}
	return freed
}

// leaveUnit notes that the search has no more to do with a piece. It returns the heap that
// leaves the budget: that of the whole batch with the last piece. Requires b.mu held.
func (b *Batcher[T]) leaveUnit(pc *piece[T], end *ending[T]) (freed Size) {
	it := pc.of
	if it.left -= pc.to - pc.from; it.left > 0 {
		return freed
	}
	if it.whole.lent {
		end.unused = append(end.unused, it.whole.data)
	}
	b.heapAway -= it.whole.heap
	it.whole.partition.away.remove(it.whole)
	return Size{Heap: it.whole.heap}
}

// try puts a piece for which an export is reserved into the line, before all others.
// Requires b.mu held.
func (b *Batcher[T]) try(bt *batch[T]) {
	b.stats.IsolationExports++
	bt.partition.line.pushFront(bt)
}

// proceed goes on with the search after a piece has got an outcome: nil, delivered, or
// an error. Follow tells that an export is reserved for the next piece; if none is, that
// piece and those behind it are given up. It returns the number of items that are given
// up. Requires b.mu held.
func (b *Batcher[T]) proceed(pc *piece[T], err error, follow bool, end *ending[T]) (freed Size) {
	it, next := pc.of, pc.next
	pc.next = nil
	second := it.probing == probeFirst && isPermanent(err)
	if it.probing = probesOver; second {
		it.probing, it.first = probeSecond, err
	}
	if next == nil {
		return freed
	}
	n := next.piece
	n.faulty = n.faulty && err == nil
	switch {
	case b.state >= stateStopped:
		b.countSealed(next.partition, -next.items)
		return b.drop(next, end)
	case !follow:
		b.countSealed(next.partition, -next.items)
		b.stats.Failed[FailedPermanent] += int64(next.items)
		freed = Size{Items: next.items}
		return freed.plus(b.conclude(next, it.err, false, end))
	case second:
		b.try(n.probe(b.ordered))
	case n.faulty && n.to-n.from > 1:
		b.try(n.halve())
	default:
		b.try(next)
	}
	return freed
}

// cut makes a piece of some units, to be followed by next.
func (it *isolation[T]) cut(from, to int, next *batch[T]) *batch[T] {
	w := it.whole
	bt := &batch[T]{
		partition: w.partition, first: w.first, sealed: w.sealed, trigger: w.trigger,
		piece: &piece[T]{of: it, from: from, to: to, next: next},
	}
	if w.shares == nil {
		bt.links, bt.unlinks = w.links, w.unlinks // whose the resources are is not known
	}
	for _, u := range it.units[from:to] {
		bt.items += u.items
		if w.shares == nil {
			continue
		}
		if i := w.shares[u.share].link; i > 0 {
			bt.link(w.links[i-1].SpanContext)
		}
	}
	return bt
}

// halve makes two pieces of one, the first no larger than the second, and returns the
// first.
func (pc *piece[T]) halve() *batch[T] {
	at := pc.from + (pc.to-pc.from)/2
	second := pc.of.cut(at, pc.to, pc.next)
	second.piece.faulty = true
	return pc.of.cut(pc.from, at, second)
}

// probe takes one unit off a piece and returns it as a piece of its own. Where order
// matters it is the next one. Elsewhere it is the last one, which is less likely to come
// from the sender of the first.
func (pc *piece[T]) probe(ordered bool) *batch[T] {
	from, to := pc.from, pc.from+1
	rest, restTo := to, pc.to
	if !ordered {
		from, to, rest, restTo = pc.to-1, pc.to, pc.from, pc.to-1
	}
	next := pc.next
	if rest < restTo {
		next = pc.of.cut(rest, restTo, next)
	}
	return pc.of.cut(from, to, next)
}

// resources are those of the whole batch, before they were merged, that the piece holds.
func (pc *piece[T]) resources() (from, to int) {
	return pc.of.units[pc.from].from, pc.of.units[pc.to-1].to
}

// alone tells whether this is a piece of one unit. Nil is no piece.
func (pc *piece[T]) alone() bool { return pc != nil && pc.to-pc.from == 1 }

// confirms tells whether the refusal of this piece with err shows that whatever is sent
// is refused. Nil is no piece.
func (pc *piece[T]) confirms(err error) bool {
	return pc != nil && pc.of.probing == probeSecond && alike(pc.of.first, err)
}

// behind counts the items of the pieces that are to be tried after this one.
func (pc *piece[T]) behind() (items int) {
	for bt := pc.next; bt != nil; bt = bt.piece.next {
		items += bt.items
	}
	return items
}

// answer sets the outcome of the piece's units; tell tells the callers that wait for it.
// The first requires Batcher.mu held, the second that it is not.
func (pc *piece[T]) answer(err error) {
	if answers := pc.of.whole.answers; answers != nil {
		for _, u := range pc.of.units[pc.from:pc.to] {
			answers[u.share].err, answers[u.share].settled = err, true
		}
	}
}

func (pc *piece[T]) tell() {
	if whole := pc.of.whole; whole.answers != nil {
		for _, u := range pc.of.units[pc.from:pc.to] {
			whole.shares[u.share].told <- struct{}{}
		}
	}
}

// forget is for the callers of a batch that is searched which have no answer yet. Their answer is that it is not known.
// Requires Batcher.mu held.
func (pc *piece[T]) forget() (callers []bell) {
	whole := pc.of.whole
	for i := range whole.answers {
		if a, told := &whole.answers[i], whole.shares[i].told; told != nil && !a.settled {
			a.err, a.settled = errOutcomeUnknown, true
			callers = append(callers, told)
		}
	}
	return callers
}
