package batcher

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/trace"
)

// place is where a part of a waiting caller's request is: a share of a batch.
type place[T any] struct {
	batch *batch[T]
	share int
	told  bell // of the share
}

// bell tells one caller that one share of a batch has its outcome: it gets a value then, once.
// Each has its own, because whoever waits for a channel takes its lock to begin and to end: all
// callers of a batch would contend for one that they share.
type bell chan struct{}

// bell returns one that nobody waits for and nobody rings.
func (b *Batcher[T]) bell() bell {
	if used, ok := b.bells.Get().(bell); ok {
		return used
	}
	return make(bell, 1) // who rings does not wait
}

// waits is what a caller waits for: the places where its items are. Most requests are in
// one batch. It is small, because it lies on the stack of every Consume call.
type waits[T any] struct {
	first place[T]    // its batch is nil: there is none
	more  *[]place[T] // nil: no others
	spare bell        // for the next place; nil: none is at hand
}

// all walks through the places.
func (w *waits[T]) all(yield func(place[T]) bool) {
	if w.first.batch == nil || !yield(w.first) || w.more == nil {
		return
	}
	for _, at := range *w.more {
		if !yield(at) {
			return
		}
	}
}

// share adds a request to a batch whose callers wait, and notes where the caller finds
// its outcome. Requires b.mu held.
func (b *Batcher[T]) share(w *waits[T], bt *batch[T], s share[T]) {
	if s.told, w.spare = w.spare, nil; s.told == nil {
		s.told = b.bell()
	}
	bt.shares = append(bt.shares, s)
	at := place[T]{bt, len(bt.shares) - 1, s.told}
	switch {
	case w.first.batch == nil:
		w.first = at
	case w.more == nil:
		w.more = &[]place[T]{at}
	default:
		*w.more = append(*w.more, at)
	}
}

// outcome returns what became of the caller's items, once all of them have an outcome.
// Where callers do not wait that is nil at once, unless some were lost. The end of ctx ends the
// wait, and so does that of Shutdown, which gives an outcome to what has none.
func (b *Batcher[T]) outcome(ctx context.Context, c *caller[T]) error {
	w := &c.waits
	if c.lost != nil {
		b.set.Observer.ItemsTooLarge(c.lost.Items, c.lost.largest.Bytes)
	} else if w.first.batch == nil {
		return nil
	}
	if w.more == nil && c.lost == nil {
		ended, err := b.await(ctx, w.first)
		if ended {
			return b.leave(ctx, w)
		}
		return err
	}
	var errs []error
	if c.lost != nil {
		errs = append(errs, b.lostError(c.lost, c.items))
	}
	for at := range w.all {
		ended, err := b.await(ctx, at)
		if ended {
			return b.leave(ctx, w)
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	return joinOutcomes(errs)
}

// await waits for the outcome at one place, and tells if the caller's context ended
// before. An outcome counts, whatever else has ended.
func (b *Batcher[T]) await(ctx context.Context, at place[T]) (ended bool, err error) {
	if done := ctx.Done(); done == nil {
		<-at.told
	} else {
		select {
		case <-at.told:
		case <-done:
			select {
			case <-at.told:
			default:
				return true, nil // the bell may still be rung: nobody else may have it
			}
		}
	}
	b.bells.Put(at.told)
	if bt := at.batch; bt.answers == nil {
		return false, bt.err
	}
	return false, at.batch.answers[at.share].err
}

// tell tells the callers of a batch that it has an outcome.
func (b *batch[T]) tell() {
	for i := range b.shares {
		if told := b.shares[i].told; told != nil { // else it was withdrawn
			told <- struct{}{}
		}
	}
}

// leave withdraws what is pending of the items of a caller whose context has ended.
// What is sealed travels on.
func (b *Batcher[T]) leave(ctx context.Context, w *waits[T]) error {
	items, withdrawn := 0, 0
	var end ending[T]
	b.mu.Lock()
	for at := range w.all {
		s := &at.batch.shares[at.share]
		items += s.Items
		if at.batch.partition.open == at.batch {
			withdrawn += s.Items
			b.withdraw(at.batch, s, &end)
		}
	}
	b.noteDrained()
	todo := b.dispatch()
	b.mu.Unlock()
	b.finish(end)
	b.carryOut(todo)
	return fmt.Errorf("no outcome of %d items, %d of them withdrawn: %w", items, withdrawn, ctx.Err())
}

// withdraw takes a share out of an open batch. Requires b.mu held.
func (b *Batcher[T]) withdraw(bt *batch[T], s *share[T], end *ending[T]) {
	p := bt.partition
	freed := *s
	*s = share[T]{resources: s.resources}
	if b.early {
		freed.Size = b.strike(bt, freed.Size)
	} else {
		end.unused = append(end.unused, freed.data)
	}
	end.woken = chainWaiters(end.woken, b.budget.release(&p.account, freed.Size))
	b.stats.Dropped[DroppedCanceled] += int64(freed.Items)
	bt.items, bt.bytes, bt.heap = bt.items-freed.Items, bt.bytes-freed.Bytes, bt.heap-freed.Heap
	if freed.link > 0 {
		bt.links[freed.link-1].SpanContext = trace.SpanContext{} // a span without identity is no link
	}
	b.fullest.update(p)
	switch {
	case bt.items == 0:
		p.open = nil
		b.rest(p)
		b.queue(p)
	case len(bt.shares) >= b.set.SendBatchSize:
		// As many have joined as the batch may have items: callers that come and go must not
		// add up until its tick. Checked here, because nobody else can make it so.
		b.seal(p, TriggerSize, time.Now())
	}
}

// strike is withdraw for a share whose data is in that of the batch already. There it stays, and
// takes its heap, until it is more than what is not withdrawn. It returns what the batch has
// less now. Requires b.mu held.
func (b *Batcher[T]) strike(bt *batch[T], s Size) (freed Size) {
	b.sharing.discount(bt.data, s.Bytes)
	bt.stale = bt.stale.plus(Size{Items: s.Items, Heap: s.Heap})
	freed.Items = s.Items
	switch left := bt.size().minus(Size{Items: s.Items, Heap: bt.stale.Heap}); {
	case left.Items == 0:
		freed.Heap = bt.heap
	case left.Items < bt.stale.Items || left.Heap < bt.stale.Heap:
		freed.Heap = bt.stale.Heap
		was := b.sharing.outer(bt.data)
		b.leaveOut(bt)
		b.sharing.discount(bt.data, b.sharing.outer(bt.data)-was) // what is left still counts for as much as its shares say
	}
	freed.Bytes = bt.bytes - b.signal.Bytes(bt.data)
	return freed
}

// leaveOut takes what was withdrawn out of the data of a batch. Requires b.mu held, or the batch
// in flight.
func (b *Batcher[T]) leaveOut(bt *batch[T]) {
	var kept []int
	at := 0
	for i := range bt.shares {
		s := &bt.shares[i]
		for range s.resources {
			if s.Items > 0 {
				kept = append(kept, at)
			}
			at++
		}
		if s.Items == 0 {
			s.resources = 0
		}
	}
	bt.data = b.sharing.only(bt.data, kept)
	bt.stale = Size{}
}

// putTogether makes the data of a batch from its shares. The batch must be in flight.
func (b *Batcher[T]) putTogether(bt *batch[T]) {
	resources := 0
	for i := range bt.shares {
		if s := &bt.shares[i]; s.Items > 0 {
			s.resources = b.signal.Resources(s.data)
			resources += s.resources
		}
	}
	bt.data = b.signal.New(resources)
	for i := range bt.shares {
		if s := &bt.shares[i]; s.Items > 0 {
			b.signal.Move(s.data, bt.data)
			b.signal.Unref(s.data)
			var none T
			s.data = none
		}
	}
}
