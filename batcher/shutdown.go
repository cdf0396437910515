package batcher

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Shutdown ends the batcher in stages: it refuses new requests and those that still
// wait for room; it seals what is pending; it exports what is sealed or waits for a retry,
// and repeats what fails if there is a deadline and time left until then. When ctx ends or
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
	cut, end := b.shutdownTimes(ctx)
	b.mu.Lock()
	switch b.state {
	case stateNew:
		b.state = stateOver
		b.mu.Unlock()
	case stateRunning:
		b.err = b.drain(ctx, cut, end)
	default:
		b.mu.Unlock()
		select {
		case <-b.stopped:
			return b.err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	b.cancel()
	close(b.stopped)
	return b.err
}

// drain carries out a shutdown. At cut exports are canceled, and at end it must have
// returned; both zero if there is no deadline. Requires b.mu held and stateRunning, and
// releases it.
func (b *Batcher[T]) drain(ctx context.Context, cut, end time.Time) error {
	b.state = stateDraining
	b.lastRetry = cut
	refused := b.budget.close()
	failedBefore := sum(b.stats.Failed[:])
	now := time.Now()
	for b.live.front != nil {
		p := b.live.front.owner
		b.ticker.stop(&p.grid, now)
		if p.open != nil {
			b.seal(p, TriggerShutdown, now)
		}
		b.rest(p)
	}
	for _, p := range b.partitions { // nobody waits in them any more
		b.rest(p)
	}
	for b.retries.grids.len() > 0 { // there may be no time for what they wait for
		b.requeue(b.retries.grids.min().owner, now)
	}
	todo := b.dispatch()
	b.noteDrained()
	b.mu.Unlock()
	wakeAll(refused)
	b.carryOut(todo)

	var u Undelivered
	why := b.awaitDrained(ctx, cut)
	if why != nil {
		u.Sealed, u.Retrying = b.abort()
		_ = b.awaitDrained(ctx, end) // how it ends shows in the counts below
	}
	close(b.stop)
	<-b.scheduled

	b.mu.Lock()
	b.state = stateOver
	b.over.Store(true)
	left := b.stats.InFlight + b.stats.Sealed // the latter are pieces of what is in flight
	b.stats.Dropped[DroppedShutdown] += left
	b.budget.used -= int(left)
	b.budget.heapUsed -= b.heapAway
	b.heapAway = 0
	b.stats.InFlight, b.stats.Sealed, b.exports = 0, 0, 0
	for _, p := range b.partitions {
		b.budget.writeOff(&p.account)
	}
	clear(b.partitions)
	forgotten := b.forgetFlying()
	u.InFlight = b.stats.Dropped[DroppedShutdown] - u.Sealed - u.Retrying
	u.Failed = sum(b.stats.Failed[:]) - failedBefore
	u.Err = errors.Join(why, b.failure)
	b.mu.Unlock()
	for _, told := range forgotten {
		told <- struct{}{}
	}
	if u.items() == 0 {
		return nil
	}
	return &u
}

// shutdownTimes returns when exports are to be canceled and when Shutdown must have
// returned; both zero if there is no deadline.
func (b *Batcher[T]) shutdownTimes(ctx context.Context) (cut, end time.Time) {
	began := time.Now()
	end, _ = ctx.Deadline()
	if t := b.set.ShutdownTimeout; t > 0 && (end.IsZero() || began.Add(t).Before(end)) {
		end = began.Add(t)
	}
	if end.IsZero() {
		return cut, end
	}
	return end.Add(-min(end.Sub(began)/20, time.Second)), end
}

// awaitDrained waits until nothing is held. The error says why it stopped before: the time
// until came (never, if zero) or ctx ended.
func (b *Batcher[T]) awaitDrained(ctx context.Context, until time.Time) error {
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

// abort drops every batch that is sealed or waits for a retry, cancels the exports under
// way, and returns the numbers of items dropped.
func (b *Batcher[T]) abort() (sealed, retrying int64) {
	var end ending[T]
	b.mu.Lock()
	b.state = stateStopped
	now := time.Now()
	for b.retries.grids.len() > 0 {
		bt := b.retries.grids.min().owner
		b.unwait(bt, now)
		retrying += int64(bt.items)
		b.budget.forfeit(&bt.partition.account, b.drop(bt, &end))
	}
	drop := func(p *partition[T]) {
		for p.line.front != nil {
			bt := p.line.pop()
			b.countSealed(p, -bt.items)
			b.budget.forfeit(&p.account, b.drop(bt, &end))
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
	sealed = b.stats.Dropped[DroppedShutdown] - retrying
	b.noteDrained()
	b.mu.Unlock()
	b.finish(end)
	b.cancel()
	return sealed, retrying
}

func sum(counts []int64) (total int64) {
	for _, n := range counts {
		total += n
	}
	return total
}
