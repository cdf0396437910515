package batcher

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"
)

// mostAtOnce bounds the batches that a request larger than the budget puts into the
// line in one critical section.
const mostAtOnce = 256

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
	b.stats.Accepted += int64(run.items)
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
// that were not accepted. Where callers wait, it is also about those that were: unless
// they are delivered, or refused for good, the sender must repeat everything.
func (b *Batcher[T]) partly(ctx context.Context, c *caller[T], r *refusal, items int, rest T) error {
	refused := b.signal.Items(rest)
	err := b.refuse(r, refused)
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
	return b.signal.Partial(err, rest)
}

// fill cuts a request that does not fit into the open batch of p: one piece fills
// that batch up, further ones are full batches of their own, and what is left comes
// back. The cutting happens without b.mu. The batch to fill takes its place in the
// line before, so that nothing accepted later overtakes it. Requires b.mu held, and
// holds it again on return.
//
// If the time for shutting down ends meanwhile, nothing of the request is accepted:
// all of it comes back with the refusal.
func (b *Batcher[T]) fill(c *caller[T], p *partition[T], data T, items int) (*refusal, T, int) {
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
		b.release(items) // nobody waits any more
		return &refusal{cause: RefusedShutdown, err: ErrShutdown}, all, items
	}
	b.put(c, head, top, room)
	head.items += room
	head.filling = false
	b.stats.Accepted += int64(room)
	b.stats.Sealed += int64(room)
	b.adopt(c, p, run, head.sealed)
	if run.n > 0 {
		p.line.insert(head, run.first, run.last)
	}
	b.queue(p)
	return nil, rest, left
}

// consumeInPieces admits a request that is larger than the whole budget: runs of full
// batches, and in the end what is left as a request of its own. It asks for a quarter of
// the budget at a time, or one batch if that is more, so that it neither waits for all to
// be free nor keeps the line to itself. The error of the caller's context is ended.
// Requires b.mu held, and releases it.
func (b *Batcher[T]) consumeInPieces(ctx context.Context, ended error, c *caller[T], key []byte, data T, items int) error {
	r := b.closed(ended, items)
	b.mu.Unlock()
	if r == nil && !b.set.BlockOnOverflow {
		r = tooLarge(items, b.set.QueueSize)
	}
	if r != nil {
		return b.refuse(r, items)
	}

	size := min(cmp.Or(b.set.SendBatchMaxSize, b.set.SendBatchSize, b.set.QueueSize), b.set.QueueSize)
	most := min(max(b.set.QueueSize/4/size, 1), mostAtOnce)
	cut := b.signal.Cut(data)
	left := items
	for left >= size {
		run := b.cutChain(c, cut, min(left/size, most), size, left)
		left -= run.items
		ended := ctx.Err()
		b.mu.Lock()
		if r := b.admit(ctx, ended, run.items); r != nil {
			rest := b.signal.New(0)
			b.undo(run, rest)
			if left > 0 {
				b.signal.Move(cut.Rest(), rest)
			}
			return b.partly(ctx, c, r, items, rest)
		}
		now := time.Now()
		p := b.partitionOf(c, key)
		if p.open != nil {
			b.seal(p, TriggerSize, now) // was accepted before
		}
		b.adopt(c, p, run, now)
		p.line.append(run.first, run.last)
		b.queue(p)
		launch := b.dispatch()
		b.mu.Unlock()
		b.launch(launch)
	}
	if left == 0 {
		return b.outcome(ctx, &c.waits)
	}
	rest := cut.Rest()
	ended = ctx.Err()
	b.mu.Lock()
	if r = b.admit(ctx, ended, left); r == nil {
		r, rest = b.accept(c, key, rest, left)
	}
	if r != nil {
		return b.partly(ctx, c, r, items, rest)
	}
	return b.outcome(ctx, &c.waits)
}
