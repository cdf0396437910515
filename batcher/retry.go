package batcher

import (
	"context"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v7"
)

// again is what a batch that has failed needs to be sent again.
type again[T any] struct {
	backoff backoff.ExponentialBackOff
	began   time.Time // of its first export
	due     grid[batch[T]]
}

// retryAt returns when a batch whose export has failed with err is to be sent again; zero
// if retries are off. The batch must be in flight.
func (b *Batcher[T]) retryAt(bt *batch[T], err error, began, now time.Time) time.Time {
	r := &b.set.Retry
	if !r.Enabled {
		return time.Time{}
	}
	if bt.again == nil {
		bt.again = &again[T]{began: began, backoff: backoff.ExponentialBackOff{
			InitialInterval:     r.InitialInterval,
			RandomizationFactor: r.RandomizationFactor,
			Multiplier:          r.Multiplier,
			MaxInterval:         r.MaxInterval,
		}}
		bt.again.due.owner = bt
	}
	return now.Add(max(bt.again.backoff.NextBackOff(), throttle(err)))
}

// mayRetry tells whether a batch may be sent again at that time. Requires b.mu held.
func (b *Batcher[T]) mayRetry(bt *batch[T], at time.Time) bool {
	if at.IsZero() {
		return false
	}
	if most := b.set.Retry.MaxElapsedTime; most > 0 && at.Sub(bt.again.began) > most {
		return false
	}
	return b.state < stateDraining || at.Before(b.lastRetry)
}

// exhausted is the error of a batch that must not be sent again.
func (b *Batcher[T]) exhausted(bt *batch[T], err error) error {
	return fmt.Errorf("no time is left to retry after %d exports in %v: %w", bt.attempts, time.Since(bt.again.began).Round(time.Millisecond), err)
}

// retryLater makes a batch wait for its retry: without a slot, and with its items still
// held. Where order is promised its partition waits with it, and it goes to the front of
// the line afterwards, so a search that it is a piece of can go on. It returns what
// leaves the budget with it, see proceed. Requires b.mu held.
func (b *Batcher[T]) retryLater(bt *batch[T], at time.Time, follow bool, end *ending[T]) (freed Size) {
	now := time.Now()
	if b.state == stateDraining && !at.Before(b.lastRetry) {
		at = now // judged before Shutdown began, which has sent the others that waited
	}
	bt.partition.retrying++
	b.countRetrying(bt.partition, bt.items)
	b.retries.startAt(&bt.again.due, at, now)
	if bt.piece != nil {
		return b.proceed(bt.piece, context.DeadlineExceeded, follow, end) // neither taken nor refused
	}
	return freed
}

// resend puts the batches that have waited long enough back into their lines.
func (b *Batcher[T]) resend() {
	b.mu.Lock()
	b.retries.fired()
	now := time.Now()
	for {
		bt, _ := b.retries.due(now)
		if bt == nil {
			break
		}
		b.requeue(bt, now)
	}
	b.retries.set(now)
	todo := b.dispatch()
	b.mu.Unlock()
	b.carryOut(todo)
}

// requeue puts a batch that waits for its retry before all others of its partition.
// Requires b.mu held.
func (b *Batcher[T]) requeue(bt *batch[T], now time.Time) {
	b.unwait(bt, now)
	p := bt.partition
	b.countSealed(p, bt.items)
	b.stats.Retries++
	p.line.pushFront(bt)
	b.queue(p)
}

// unwait ends the wait of a batch for its retry. Requires b.mu held.
func (b *Batcher[T]) unwait(bt *batch[T], now time.Time) {
	b.retries.stop(&bt.again.due, now)
	bt.partition.retrying--
	b.countRetrying(bt.partition, -bt.items)
}
