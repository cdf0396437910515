package batcher

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// entry is a request, or a part of one, that waits for room. It can be admitted piece by
// piece.
type entry[T any] struct {
	key   []byte
	data  T
	left  int       // items that are not admitted yet
	cut   Cutter[T] // set once pieces are taken from data
	apart bool      // data is not whole any more
	late  []T       // what was admitted too late to get into a batch

	partition *partition[T]
	waiter    *waiter // of that partition; nil: of none. With 0 items: it did not have to wait
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

// ask returns how many items of an entry to wait for. If it is larger than the whole budget,
// or gets in piece by piece already, these are a quarter of the budget, in full batches, or
// one batch if that is more, so that it neither waits for all to be free nor keeps the line
// to itself.
func (b *Batcher[T]) ask(e *entry[T]) int {
	if !e.apart && e.left <= b.set.QueueSize {
		return e.left
	}
	size := b.pieceSize()
	return min(e.left, size*min(max(b.set.QueueSize/4/size, 1), mostAtOnce))
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
			if in[i].waiter.granted > 0 {
				r = b.enterPiece(c, in[i])
			}
		}
		in = slices.DeleteFunc(in, func(e *entry[T]) bool { return e.waiter == nil && e.left == 0 })
		if r == nil && len(in) == 0 && next == len(entries) {
			b.blocked -= blocked
			b.mu.Unlock()
			return nil
		}
		if r == nil && (ended != nil || b.state != stateRunning) {
			left := 0
			for i := range entries {
				left += entries[i].left
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
	n := b.ask(e)
	if b.budget.take(&e.partition.account, n) {
		e.waiter = &waiter{granted: n}
		return true
	}
	e.waiter = b.budget.wait(&e.partition.account, n, wake)
	b.queue(e.partition) // what is pending in it leaves sooner now
	return false
}

// enterPiece puts what was granted of an entry into batches. If that is too late, it
// returns the refusal. Requires b.mu held, and holds it again on return.
func (b *Batcher[T]) enterPiece(c *caller[T], e *entry[T]) (r *refusal[T]) {
	p, n := e.partition, e.waiter.granted
	waits, waited := e.waiter.items > 0, time.Since(e.began)
	e.waiter = nil
	piece, rest := e.data, n
	var full chain[T]
	if n < e.left || e.apart {
		b.mu.Unlock()
		if !e.apart {
			e.cut, e.apart = b.signal.Cut(e.data), true
		}
		size := b.pieceSize()
		full = b.cutChain(c, e.cut, n/size, size, e.left)
		if rest -= full.items; rest > 0 {
			piece = take(e.cut, rest, e.left-full.items)
		}
		b.mu.Lock()
	}
	e.left -= n
	if b.state < stateStopped {
		if full.n > 0 {
			b.enterFull(c, p, full)
		}
		r = b.accept(c, p, piece, rest)
	} else {
		r = b.tooLate(p, b.signal.New(0), n)
		b.mu.Unlock()
		b.undo(full, r.rest)
		if rest > 0 {
			b.signal.Move(piece, r.rest)
		}
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

// enterFull puts full batches into the line of p. Requires b.mu held.
func (b *Batcher[T]) enterFull(c *caller[T], p *partition[T], full chain[T]) {
	now := time.Now()
	if p.open != nil {
		b.seal(p, TriggerSize, now) // was accepted before
	}
	b.adopt(c, p, full, now)
	p.line.append(full.first, full.last)
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
		if e.waiter != nil && e.waiter.items > 0 {
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
	case e.left == 0:
	case e.apart:
		b.signal.Move(e.cut.Rest(), dst)
	default:
		b.signal.Move(e.data, dst)
	}
}
