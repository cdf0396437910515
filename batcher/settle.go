package batcher

import (
	"context"
	"time"
)

// verdict is what follows from the end of an export.
type verdict[T any] struct {
	Outcome
	late bool // Shutdown is over: nothing is to be done or told any more

	// failed is the number of items that Err is about: all, unless it names the part
	// that failed.
	failed int
	named  bool
	part   T

	apart   *isolation[T] // with FateDivided: its search, unless it only halves a piece
	follow  bool          // of a piece: an export is reserved for the next one
	general bool          // downstream refuses whatever it is sent
	retryAt time.Time     // with FateRetried

	told *failedExport // what Snapshot will tell of it; nil: it did not fail
}

// judge decides what is to become of a batch whose export has ended with err, and leaves
// doing it to settle.
func (b *Batcher[T]) judge(ctx context.Context, bt *batch[T], began time.Time, err error) verdict[T] {
	v := b.decide(ctx, bt, began, err)
	if v.Err != nil && !v.late {
		v.told = &failedExport{
			Failure: Failure{Cause: v.Cause, Items: bt.items, Error: ErrorText(v.Err)},
			name:    keepName(bt.partition.key), at: time.Now(),
		}
	}
	if v.Fate == FateFailed && v.Cause != FailedPermanent && bt.blurred && !v.named && b.set.WaitForResult && bt.callers() == 1 {
		// The rest of the request was delivered before: its sender need not repeat that.
		v.Err = b.signal.Partial(v.Err, b.signal.Copy(bt.data, 0, b.signal.Resources(bt.data)))
	}
	return v
}

// decide is judge but for the data that its error may have to carry.
func (b *Batcher[T]) decide(ctx context.Context, bt *batch[T], began time.Time, err error) (v verdict[T]) {
	if err == nil && bt.piece == nil { // nearly always, and not worth a turn at the lock
		v.late = b.over.Load()
		return v
	}
	if err == nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		v.late = b.state == stateOver
		v.reserveNext(bt)
		return v
	}
	v.Err, v.Cause, v.failed = err, failedCause(ctx, err), bt.items
	if part, ok := b.signal.FailedPart(err); ok {
		if n := b.signal.Items(part); 0 < n && n < bt.items {
			v.named, v.part, v.failed = true, part, n
		}
	}
	now := time.Now()
	var retryAt time.Time
	switch {
	case v.Cause != FailedPermanent:
		retryAt = b.retryAt(bt, err, began, now)
	case !v.named && b.resends && (bt.piece == nil || bt.piece.alone() && !b.set.WaitForResult):
		v.apart = newIsolation(bt, b.units(bt), err)
	}

	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.state == stateOver:
		v.late = true
	case b.state == stateStopped:
		v.Fate = FateDropped
	case v.Cause == FailedPermanent && !v.named && b.divisible(bt, v.apart, now) && (bt.piece == nil || bt.piece.of.reserve()):
		v.Fate = FateDivided
	case v.Cause != FailedPermanent && b.mayRetry(bt, retryAt):
		v.Fate, v.retryAt, v.RetryIn = FateRetried, retryAt, retryAt.Sub(now)
	default:
		v.Fate = FateFailed
		v.general = v.Cause == FailedPermanent && bt.piece.confirms(err)
		v.Isolated = v.Cause == FailedPermanent && bt.piece != nil && !v.general
		v.Failed = v.failed
		if !retryAt.IsZero() {
			v.Err = b.exhausted(bt, err)
		}
	}
	v.reserveNext(bt)
	return v
}

// reserveNext reserves an export for the piece behind bt, if its turn comes with this
// verdict. What is given up for want of one counts as failed. Requires b.mu held.
func (v *verdict[T]) reserveNext(bt *batch[T]) {
	pc := bt.piece
	if pc == nil || pc.next == nil || v.late || v.Fate == FateDropped || v.Fate == FateDivided && v.apart == nil {
		return
	}
	if v.follow = !v.general && pc.of.reserve(); !v.follow {
		v.Failed += pc.behind()
	}
}

// ending is what is to be done once b.mu is free.
type ending[T any] struct {
	woken  *waiter
	over   *batch[T] // chain of batches that have an outcome
	unused []T       // data that is not needed any more
}

// settle counts the outcome of an export, gives back its slot and the items that have
// an outcome, and returns what may be launched now.
func (b *Batcher[T]) settle(bt *batch[T], v verdict[T]) (todo work[T]) {
	var end ending[T]
	b.mu.Lock()
	if b.state == stateOver {
		b.mu.Unlock()
		return todo
	}
	if b.state == stateStopped && v.Err != nil {
		v.Fate = FateDropped
	}
	if b.state >= stateDraining && v.Err != nil {
		b.failure = v.Err
	}
	p := bt.partition
	p.inFlight--
	b.exports--
	b.heapAway -= bt.heap
	b.countInFlight(p, -bt.items)
	b.land(bt)
	if v.told != nil {
		v.told.Fate = v.Fate
		b.lastFailed = v.told
	}

	delivered := bt.items - v.failed
	b.stats.Delivered += int64(delivered)
	bt.items = v.failed
	freed := Size{Items: delivered} // the heap goes with the last of the batch
	switch v.Fate {
	case FateDelivered:
		p.general = time.Time{}
		freed = freed.plus(b.conclude(bt, nil, v.follow, &end))
	case FateFailed:
		b.stats.Failed[v.Cause] += int64(bt.items)
		if v.general {
			p.general = time.Now().Add(generalFor)
		}
		freed.Items += bt.items
		freed = freed.plus(b.conclude(bt, v.Err, v.follow, &end))
	case FateDropped:
		freed = freed.plus(b.drop(bt, &end))
	case FateRetried:
		if v.named {
			b.narrow(bt, v.part, &end)
		}
		freed = freed.plus(b.retryLater(bt, v.retryAt, v.follow, &end))
	case FateDivided:
		b.countSealed(p, bt.items)
		freed = freed.plus(b.divide(bt, v.apart, v.follow, &end))
	}
	end.woken = b.release(p, freed)
	b.queue(p)
	b.rest(p)
	todo = b.dispatch()
	b.mu.Unlock()
	b.finish(end)
	return todo
}

// conclude gives a batch its outcome. If it is a piece, the search goes on with the next
// one, see proceed. It returns what leaves the budget, but for the batch's own items.
// Requires b.mu held.
func (b *Batcher[T]) conclude(bt *batch[T], err error, follow bool, end *ending[T]) (freed Size) {
	told := err
	if err != nil && b.set.WaitForResult {
		if told = repeatable(err); bt.callers() > 1 {
			told = withoutData(told)
		}
	}
	bt.err = told
	bt.next = end.over
	end.over = bt
	if bt.piece == nil {
		bt.partition.away.remove(bt)
		return Size{Heap: bt.heap}
	}
	bt.piece.answer(told)
	freed = b.leaveUnit(bt.piece, end)
	return freed.plus(b.proceed(bt.piece, err, follow, end))
}

// drop gives up a batch because the time for shutting down is over, and returns what leaves
// the budget. Requires b.mu held.
func (b *Batcher[T]) drop(bt *batch[T], end *ending[T]) (freed Size) {
	b.stats.Dropped[DroppedShutdown] += int64(bt.items)
	freed = Size{Items: bt.items}
	return freed.plus(b.conclude(bt, errDropped, false, end))
}

// narrow makes the part that downstream named as failed all that is left of a batch.
// Which callers it belongs to is not known, so that these stay together from now on.
// Requires b.mu held.
func (b *Batcher[T]) narrow(bt *batch[T], part T, end *ending[T]) {
	if bt.lent {
		end.unused = append(end.unused, bt.data)
		bt.lent = false
	}
	bt.data, bt.wide, bt.origins = part, nil, nil
	bt.blurred = bt.shares != nil || bt.piece != nil
}

// finish answers callers, wakes them and lets go of data. Requires that b.mu is not held.
func (b *Batcher[T]) finish(end ending[T]) {
	wakeAll(end.woken)
	for bt := end.over; bt != nil; {
		next := bt.next
		bt.next = nil
		if bt.piece != nil {
			bt.piece.tell()
		} else {
			bt.tell()
		}
		if bt.lent {
			b.signal.Unref(bt.data)
		}
		if !bt.ready && !b.early { // never exported: the shares still hold their data
			for i := range bt.shares {
				if s := &bt.shares[i]; s.Items > 0 {
					b.signal.Unref(s.data)
				}
			}
		}
		bt = next
	}
	for _, data := range end.unused {
		b.signal.Unref(data)
	}
}
