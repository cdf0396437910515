package batcher

import (
	"cmp"
	"context"
	"math"
	"slices"
	"time"
)

// entry is a request, or a part of one, that waits for room. It can be admitted piece by
// piece.
type entry[T any] struct {
	key   []byte
	data  T
	left  Size      // what is not admitted yet; Bytes only until pieces are taken
	sizes *Sizes    // of data; nil: only left is known
	cut   Cutter[T] // set once pieces are taken from data
	apart bool      // data is not whole any more
	most  int       // items in the largest part of data that is never cut; 0: not known
	late  []T       // what was admitted too late to get into a batch

	partition *partition[T]
	waiter    *waiter // of that partition; nil: of none. It may be one that did not have to wait
	began     time.Time
}

// mostAtOnce bounds the batches that are admitted at once of a request larger than the
// budget.
const mostAtOnce = 256

// pieceSize is the number of items in a batch that is cut from a request while that gets in
// piece by piece.
func (b *Batcher[T]) pieceSize() int {
	return min(cmp.Or(b.set.SendBatchMaxSize, b.set.SendBatchSize, b.set.QueueSize), b.set.QueueSize)
}

// ask returns how much of an entry to wait for, and the least that is of use. If it is larger
// than the whole budget, or gets in piece by piece already, that is a quarter of the budget,
// in full batches, or one batch if that is more, so that it neither waits for all to be free
// nor keeps the line to itself.
func (b *Batcher[T]) ask(e *entry[T]) (piece, least Size) {
	least = Size{Items: b.mostTogether(e), Heap: b.heaviest(e)}
	if !e.apart && b.budget.holds(e.left) {
		return e.left, least
	}
	size := b.pieceSize()
	piece = e.left
	piece.Items = min(piece.Items, size*min(max(b.set.QueueSize/4/size, 1), mostAtOnce))
	if most := max(b.set.MemoryLimit/4, least.Heap); b.budget.heavy && most < piece.Heap {
		likely := int(float64(e.left.Items) * float64(most) / float64(e.left.Heap))
		piece.Items, piece.Heap = min(piece.Items, likely+1), most
	}
	piece.Items = max(piece.Items, least.Items)
	return piece, least
}

// mostTogether is the most items of an entry that are never cut, if they are not too many.
func (b *Batcher[T]) mostTogether(e *entry[T]) int {
	if b.sharing == nil {
		return 1
	}
	if e.most == 0 {
		e.most = b.sharing.most(e.data)
	}
	return max(1, min(e.most, e.left.Items, b.set.QueueSize))
}

// heaviest is the most heap that one item of an entry takes, if it is not too large. As long
// as its items have not been measured one by one it is what they take on average: it is a
// mistake at most once, because what is cut is measured.
func (b *Batcher[T]) heaviest(e *entry[T]) int {
	most := (e.left.Heap + e.left.Items - 1) / e.left.Items
	if e.sizes != nil {
		most = min(e.sizes.heaviest, e.left.Heap)
	}
	return min(most, b.set.MemoryLimit)
}

// mostInLines bounds the lines that one caller stands in at once: a request can be of a
// hundred thousand partitions, and whoever is granted has to be found.
const mostInLines = 64

// enterLate puts entries into batches as soon as there is room for each, in whatever order.
// The end of ctx and Shutdown end the wait with a refusal; what is not accepted then can be
// had from the entries. Requires b.mu held, and releases it.
func (b *Batcher[T]) enterLate(ctx context.Context, c *caller[T], entries []entry[T]) *refusal[T] {
	wake := make(chan struct{}, 1) // of all of them
	var ended error
	blocked := 0 // of b.blocked
	in, next := make([]*entry[T], 0, min(len(entries), mostInLines)), 0
	for {
		var r *refusal[T]
		for i := 0; i < len(in) && r == nil && ended == nil && b.state == stateRunning; i++ {
			if in[i].waiter.granted.Items > 0 {
				r = b.enterPiece(c, in[i])
			}
		}
		in = slices.DeleteFunc(in, func(e *entry[T]) bool { return e.waiter == nil && e.left.Items == 0 })
		if r == nil && len(in) == 0 && next == len(entries) {
			b.blocked -= blocked
			b.mu.Unlock()
			return nil
		}
		if r == nil && (ended != nil || b.state != stateRunning) {
			left := 0
			for i := range entries {
				left += entries[i].left.Items
			}
			r = b.closed(ended, left)
		}
		if r != nil {
			b.blocked -= blocked
			return b.leaveLine(r, in)
		}
		for ; len(in) < mostInLines && next < len(entries); next++ {
			in = append(in, &entries[next])
		}
		granted := false
		for _, e := range in {
			if e.waiter == nil {
				granted = b.standInLine(e, wake) || granted
			}
		}
		if !granted && blocked == 0 {
			blocked = 1
			b.blocked++
		}
		todo := b.dispatch()
		b.mu.Unlock()
		b.carryOut(todo)

		if !granted {
			select {
			case <-wake:
			case <-ctx.Done():
			}
		}
		ended = ctx.Err()
		b.mu.Lock()
	}
}

// standInLine makes an entry wait, and tells if it does not have to. Requires b.mu held.
func (b *Batcher[T]) standInLine(e *entry[T], wake chan<- struct{}) (granted bool) {
	e.partition, e.began = b.partitionOf(e.key), time.Now()
	piece, least := b.ask(e)
	if b.budget.take(&e.partition.account, piece) {
		e.waiter = &waiter{granted: piece}
		return true
	}
	e.waiter = b.budget.wait(&e.partition.account, piece, least, wake)
	e.waiter.since = e.began
	b.queue(e.partition) // what is pending in it leaves sooner now
	return false
}

// enterPiece puts what was granted of an entry into batches. If that is too late, it
// returns the refusal. Requires b.mu held, and holds it again on return.
func (b *Batcher[T]) enterPiece(c *caller[T], e *entry[T]) (r *refusal[T]) {
	p, granted := e.partition, e.waiter.granted
	waits, waited := e.waiter.want.Items > 0, time.Since(e.began)
	e.waiter = nil
	if !e.apart && granted.Items == e.left.Items && granted.Heap == e.left.Heap {
		size := e.left
		e.left = Size{}
		r = b.accept(c, p, e.data, size, e.sizes)
	} else {
		r = b.enterCut(c, p, e, granted)
	}
	if r != nil {
		e.late, e.apart = append(e.late, r.rest), true
	}
	if waits {
		b.set.Observer.AdmissionWaited(waited)
	}
	b.mu.Lock()
	return r
}

// enterCut is enterPiece for what has to be cut. Requires b.mu held, and releases it.
func (b *Batcher[T]) enterCut(c *caller[T], p *partition[T], e *entry[T], granted Size) *refusal[T] {
	b.mu.Unlock()
	if !e.apart {
		e.sizes = b.sizesToCut(e.data, e.sizes)
		e.cut, e.apart = b.signal.Cut(e.data, e.sizes), true
	}
	r := cuts[T]{heap: granted.Heap}
	b.cutUp(c, e.cut, Size{b.pieceSize(), b.limit.Bytes, math.MaxInt}, granted, &r)
	if e.left.Items == r.taken().Items {
		if b.sharing == nil {
			r.chargeRest(min(r.heap, e.left.Heap-r.taken().Heap)) // what was estimated for copies
		}
		e.left = Size{}
	} else {
		left := e.left.minus(r.taken())
		e.left = Size{Items: left.Items, Heap: max(left.Heap, e.cut.Left().Heap)}
	}
	unused := Size{Items: granted.Items - r.taken().Items, Heap: r.heap}

	b.mu.Lock()
	if b.state >= stateStopped {
		refused := b.tooLate(p, b.signal.New(0), granted)
		b.mu.Unlock()
		b.undo(&r, refused.rest)
		return refused
	}
	b.lose(c, p, &r.lost, unused)
	if r.n > 0 {
		b.enterFull(c, p, &r)
	}
	return b.accept(c, p, r.rest.data, r.rest.Size, r.sizes)
}

// enterFull puts full batches into the line of p. Requires b.mu held.
func (b *Batcher[T]) enterFull(c *caller[T], p *partition[T], r *cuts[T]) {
	now := time.Now()
	if p.open != nil {
		b.seal(p, TriggerSize, now) // was accepted before
	}
	b.adopt(c, p, r, now)
	p.line.append(r.first, r.last)
	b.queue(p)
}

// leaveLine ends the wait of all entries. Requires b.mu held, and releases it.
func (b *Batcher[T]) leaveLine(r *refusal[T], entries []*entry[T]) *refusal[T] {
	var woken *waiter
	for _, e := range entries {
		if e.waiter != nil {
			woken = chainWaiters(woken, b.budget.leave(&e.partition.account, e.waiter))
			b.queue(e.partition)
			b.rest(e.partition)
		}
	}
	b.noteDrained()
	todo := b.dispatch()
	b.mu.Unlock()
	wakeAll(woken)
	b.carryOut(todo)
	for _, e := range entries {
		if e.waiter != nil && e.waiter.want.Items > 0 {
			b.set.Observer.AdmissionWaited(time.Since(e.began))
		}
	}
	return r
}

// restOf moves what was not accepted of an entry to dst.
func (b *Batcher[T]) restOf(e *entry[T], dst T) {
	for _, data := range e.late {
		b.signal.Move(data, dst)
	}
	switch {
	case e.left.Items == 0:
	case e.apart:
		b.signal.Move(e.cut.Rest(), dst)
	default:
		b.signal.Move(e.data, dst)
	}
}
