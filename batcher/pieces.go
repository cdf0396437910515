package batcher

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// nearlyFull tells whether a batch is so full that sealing it beats cutting the next
// request in two.
func nearlyFull(items, limit int) bool { return items >= limit-limit/10 }

// take cuts the next n of the items that are left.
func take[T any](cut Cutter[T], n, left int) T {
	if n == left {
		return cut.Rest()
	}
	return cut.Next(n)
}

// chain is a run of full batches, cut but not accepted yet.
type chain[T any] struct {
	first, last *batch[T]
	n           int // batches
	items       int
}

// cutChain cuts n batches of that many items each, of the items that are left.
func (b *Batcher[T]) cutChain(c *caller[T], cut Cutter[T], n, items, left int) (run chain[T]) {
	for ; run.n < n; run.n++ {
		bt := &batch[T]{data: take(cut, items, left-run.items), items: items, ready: true, trigger: TriggerSize}
		if b.set.WaitForResult {
			bt.done = make(chan struct{})
		}
		if c.span.IsSampled() {
			bt.link(c.span)
		}
		if run.last == nil {
			run.first = bt
		} else {
			run.last.next = bt
		}
		run.last = bt
		run.items += items
	}
	return run
}

// adopt makes the batches of a chain sealed batches of p, as of now. The caller puts
// them into the line. Requires b.mu held.
func (b *Batcher[T]) adopt(c *caller[T], p *partition[T], run chain[T], now time.Time) {
	for bt := run.first; bt != nil; bt = bt.next {
		bt.partition, bt.first, bt.sealed = p, now, now
		if b.set.WaitForResult {
			c.waits.share(bt, share[T]{items: bt.items, link: len(bt.links)})
		}
	}
	b.accepted += int64(run.items)
	b.stats.Sealed += int64(run.items)
	b.stats.Batches[TriggerSize] += int64(run.n)
}

// undo moves all items of a chain to dst.
func (b *Batcher[T]) undo(run chain[T], dst T) {
	for bt := run.first; bt != nil; bt = bt.next {
		b.signal.Move(bt.data, dst)
	}
}

// partly counts a refusal and returns its error, in which the sender finds the items
// that were not accepted, if the request was taken apart. Where callers wait, it is also
// about those that were accepted: unless they are delivered, or refused for good, the
// sender must repeat everything.
func (b *Batcher[T]) partly(ctx context.Context, c *caller[T], r *refusal[T], items int) error {
	if !r.apart {
		return b.refuse(r, items)
	}
	refused := b.signal.Items(r.rest)
	r.err = b.refuse(r, refused)
	return b.notAccepted(ctx, c, r, refused, items)
}

// notAccepted is partly for a refusal that is counted already.
func (b *Batcher[T]) notAccepted(ctx context.Context, c *caller[T], r *refusal[T], refused, items int) error {
	err := r.err
	if r.ended != nil {
		err = r.ended // the other words are about a piece
	}
	err = fmt.Errorf("%d of %d items were not accepted: %w", refused, items, err)
	switch outcome := b.outcome(ctx, &c.waits); {
	case outcome == nil:
	case isPermanent(outcome):
		err = fmt.Errorf("%w (the others were refused for good: %s)", err, outcome.Error())
	default:
		return errors.Join(err, withoutData(outcome))
	}
	return b.signal.Partial(err, r.rest)
}

// fill cuts a request that does not fit into the open batch of p: one piece fills
// that batch up, further ones are full batches of their own, and what is left comes
// back. The cutting happens without b.mu. The batch to fill takes its place in the
// line before, so that nothing accepted later overtakes it. Requires b.mu held, and
// holds it again on return.
//
// If the time for shutting down ends meanwhile, nothing of the request is accepted:
// all of it comes back with the refusal.
func (b *Batcher[T]) fill(c *caller[T], p *partition[T], data T, items int) (*refusal[T], T, int) {
	b.open(p)
	p.open.filling = true
	head := b.seal(p, TriggerSize, time.Now())
	room := b.maxItems - head.items
	b.mu.Unlock()

	cut := b.signal.Cut(data)
	top := cut.Next(room)
	left := items - room
	run := b.cutChain(c, cut, (left-1)/b.maxItems, b.maxItems, left)
	left -= run.items
	rest := cut.Rest()

	b.mu.Lock()
	if b.state >= stateStopped {
		all := b.signal.New(0)
		b.signal.Move(top, all)
		b.undo(run, all)
		b.signal.Move(rest, all)
		return b.tooLate(p, all, items), all, items
	}
	b.put(c, head, top, room)
	head.items += room
	head.filling = false
	b.accepted += int64(room)
	b.stats.Sealed += int64(room)
	b.adopt(c, p, run, head.sealed)
	if run.n > 0 {
		p.line.insert(head, run.first, run.last)
	}
	b.queue(p)
	return nil, rest, left
}

// tooLate gives back what was admitted of a request that was not placed before the time
// for shutting down was over. Requires b.mu held.
func (b *Batcher[T]) tooLate(p *partition[T], rest T, items int) *refusal[T] {
	b.release(p, items) // nobody waits any more
	b.rest(p)
	return &refusal[T]{cause: RefusedShutdown, err: ErrShutdown, rest: rest, apart: true}
}
