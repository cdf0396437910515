package batcher

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Shutdown ends the batcher in stages: it refuses new requests and those that still
// wait; it seals what is pending; it exports what is sealed. When ctx ends or
// ShutdownTimeout is over, it cancels the exports and drops what is left.
//
// The error is an *Undelivered if any accepted item was not delivered, nil otherwise.
// Shutdown returns in time whatever the next consumer does: the last twentieth of the
// time, a second at most, is kept for canceled exports to return in. An export call
// that ignores its canceled context goes on, but its items are counted as dropped and
// nothing is called any more.
//
// It may be called before Start. A further call waits for the first and returns the
// same, or the error of its own ctx if that ends before.
func (b *Batcher[T]) Shutdown(ctx context.Context) error {
	began := time.Now()
	b.mu.Lock()
	first := b.state < stateDraining
	started := b.state == stateRunning
	if first {
		b.state = stateDraining
	}
	b.mu.Unlock()
	switch {
	case !first:
		select {
		case <-b.stopped:
			return b.err
		case <-ctx.Done():
			return ctx.Err()
		}
	case started:
		b.err = b.drain(ctx, began)
	default:
		b.mu.Lock()
		b.state = stateOver
		b.mu.Unlock()
	}
	b.cancel()
	close(b.stopped)
	return b.err
}

// drain carries out a shutdown whose stateDraining has begun.
func (b *Batcher[T]) drain(ctx context.Context, began time.Time) error {
	close(b.stop)
	<-b.scheduled

	b.mu.Lock()
	refused := b.budget.close()
	failedBefore := sum(b.stats.Failed[:])
	now := time.Now()
	for b.pending.front != nil {
		b.seal(b.pending.front.owner, TriggerShutdown, now)
	}
	for b.live.front != nil {
		p := b.live.front.owner // empty, but its ticks are armed
		b.ticker.stop(&p.grid, now)
		b.rest(p)
	}
	run := b.dispatch()
	b.noteDrained()
	b.mu.Unlock()
	wakeAll(refused)
	b.launch(run)

	cut, end := b.shutdownTimes(ctx, began)
	sealed, why := int64(0), b.await(ctx, cut)
	if why != nil {
		sealed = b.abort()
		_ = b.await(ctx, end) // how it ends shows in the counts below
	}

	b.mu.Lock()
	defer b.mu.Unlock()
	b.state = stateOver
	b.stats.Dropped[DroppedShutdown] += b.stats.InFlight
	b.budget.used -= int(b.stats.InFlight)
	b.stats.InFlight, b.exports = 0, 0
	clear(b.partitions)
	u := &Undelivered{
		InFlight: sum(b.stats.Dropped[:]) - sealed,
		Sealed:   sealed,
		Failed:   sum(b.stats.Failed[:]) - failedBefore,
		Err:      errors.Join(why, b.failure),
	}
	if u.InFlight+u.Sealed+u.Failed == 0 {
		return nil
	}
	return u
}

// shutdownTimes returns when exports are to be canceled and when Shutdown must have
// returned; both zero if there is no deadline.
func (b *Batcher[T]) shutdownTimes(ctx context.Context, began time.Time) (cut, end time.Time) {
	end, _ = ctx.Deadline()
	if t := b.set.ShutdownTimeout; t > 0 && (end.IsZero() || began.Add(t).Before(end)) {
		end = began.Add(t)
	}
	if end.IsZero() {
		return cut, end
	}
	return end.Add(-min(end.Sub(began)/20, time.Second)), end
}

// await waits until nothing is held. The error says why it stopped before: the time
// until came (never, if zero) or ctx ended.
func (b *Batcher[T]) await(ctx context.Context, until time.Time) error {
	var over <-chan time.Time
	if !until.IsZero() {
		timer := time.NewTimer(time.Until(until))
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-b.drained:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-over:
		return fmt.Errorf("the time for shutting down (shutdown_timeout %v) is over: %w", b.set.ShutdownTimeout, context.DeadlineExceeded)
	}
}

// abort drops every sealed batch, cancels the exports under way, and returns the
// number of items dropped.
func (b *Batcher[T]) abort() (dropped int64) {
	b.mu.Lock()
	b.state = stateStopped
	drop := func(p *partition[T]) {
		for p.line.front != nil {
			n := p.line.pop().items
			b.budget.used -= n
			dropped += int64(n)
		}
		b.queue(p)
		b.rest(p)
	}
	if b.only != nil {
		drop(b.only)
	}
	for _, p := range b.partitions {
		drop(p)
	}
	b.stats.Sealed -= dropped
	b.stats.Dropped[DroppedShutdown] += dropped
	b.noteDrained()
	b.mu.Unlock()
	b.cancel()
	return dropped
}

func sum(counts []int64) (total int64) {
	for _, n := range counts {
		total += n
	}
	return total
}
