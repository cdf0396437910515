package batcher

import (
	"context"
	"runtime/pprof"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// tickChunk is how many due partitions are sealed in one go before b.mu is given to
// others.
const tickChunk = 64

// schedule is the scheduling goroutine: it carries out ticks until Shutdown.
func (b *Batcher[T]) schedule() {
	defer close(b.scheduled)
	pprof.SetGoroutineLabels(b.labelled("schedule"))
	for {
		select {
		case <-b.stop:
			return
		case <-b.ticker.timer.C:
			for more := true; more; {
				more = b.tick()
			}
		}
	}
}

// tick seals what is pending in partitions whose tick has come, and tells whether
// there may be more of them. A partition without anything pending stops ticking.
func (b *Batcher[T]) tick() (more bool) {
	b.mu.Lock()
	b.ticker.fired()
	now := time.Now()
	ticks, latest := 0, time.Duration(0)
	for ; ticks < tickChunk; ticks++ {
		p, late := b.ticker.due(now)
		if p == nil {
			break
		}
		latest = max(latest, late)
		if p.open == nil {
			b.ticker.stop(&p.grid, now)
			b.rest(p)
			continue
		}
		b.seal(p, TriggerTimeout, now)
		b.ticker.advance(&p.grid, now)
	}
	b.ticker.set(now)
	run := b.dispatch()
	b.mu.Unlock()
	b.launch(run)
	if ticks > 0 {
		b.set.Observer.Ticked(latest)
	}
	return ticks == tickChunk
}

// queue puts p on the list of those that may take an export slot, or takes it off:
// its first sealed batch must be complete and the limit per partition not reached.
// Requires b.mu held.
func (b *Batcher[T]) queue(p *partition[T]) {
	var in *list[partition[T]]
	switch {
	case p.line.front == nil || p.line.front.filling || p.inFlight >= b.perPartition:
	case p.inFlight == 0:
		in = &b.idle
	default:
		in = &b.busy
	}
	if p.ready.in == in {
		return
	}
	if p.ready.in != nil {
		p.ready.in.remove(&p.ready)
	}
	if in != nil {
		in.pushBack(&p.ready)
	}
}

// dispatch gives free export slots to sealed batches: round the partitions, those
// with nothing in flight first. When none is sealed, one that is pending may be. It
// returns the batches to launch, chained, once b.mu is free. Requires b.mu held.
func (b *Batcher[T]) dispatch() (run *batch[T]) {
	if b.state > stateDraining {
		return nil
	}
	var last *batch[T]
	for b.exports < b.set.MaxConcurrentExports {
		from := &b.idle
		if from.front == nil {
			from = &b.busy
		}
		if from.front == nil {
			if b.sealEarly() {
				continue
			}
			break
		}
		p := from.front.owner
		from.remove(&p.ready)
		bt := p.line.pop()
		p.inFlight++
		b.exports++
		b.stats.Sealed -= int64(bt.items)
		b.stats.InFlight += int64(bt.items)
		b.queue(p)
		if last == nil {
			run = bt
		} else {
			last.next = bt
		}
		last = bt
	}
	return run
}

// sealEarly seals one pending batch before its time, because an export slot is free
// and the timeout is 0 (the oldest batch) or a caller waits for the budget (the
// fullest). It tells whether it found one. Requires b.mu held.
func (b *Batcher[T]) sealEarly() bool {
	pressed := b.budget.waiting.n > 0
	if b.set.Timeout > 0 && !pressed {
		return false
	}
	var best *partition[T]
	for l := b.pending.front; l != nil; l = l.next {
		p := l.owner
		if p.inFlight >= b.perPartition || p.line.front != nil {
			continue // sealing would not bring it downstream any sooner
		}
		if best == nil || p.open.items > best.open.items {
			best = p
		}
		if b.set.Timeout == 0 {
			break
		}
	}
	if best == nil {
		return false
	}
	trigger := TriggerPressure
	if b.set.Timeout == 0 {
		trigger = TriggerIdle
	}
	b.seal(best, trigger, time.Now())
	return true
}

// launch starts an export goroutine for each batch of the chain. Each has its slot
// already, so that there are never more than MaxConcurrentExports of them. Requires
// that b.mu is not held.
func (b *Batcher[T]) launch(run *batch[T]) {
	for run != nil {
		next := run.next
		run.next = nil
		go b.export(run)
		run = next
	}
}

// export is an export goroutine. It ends when no sealed batch is left for its slot.
func (b *Batcher[T]) export(bt *batch[T]) {
	pprof.SetGoroutineLabels(b.base)
	for bt != nil {
		bt = b.exportOne(bt)
	}
}

// exportOne hands a batch to the next consumer, settles it and returns a batch to go
// on with, if there is one.
func (b *Batcher[T]) exportOne(bt *batch[T]) (more *batch[T]) {
	e := Export{Items: bt.items, Bytes: -1, Trigger: bt.trigger, Age: bt.sealed.Sub(bt.first)}
	if b.set.Observer.MeasuresBytes() {
		e.Bytes = b.signal.Bytes(bt.data)
	}
	b.set.Observer.ExportStarted(e)
	ctx, done := b.exportContext(bt)
	began := time.Now()
	err, returned := ErrDownstreamDied, false

	// Deferred, so that a panic or runtime.Goexit downstream settles the batch and
	// passes its slot on. We do not recover: a panic still ends the process.
	defer func() {
		cause := failedCause(ctx, err)
		done(err)
		b.set.Observer.ExportEnded(e, time.Since(began), cause, err)
		more = b.settle(bt, cause, err)
		switch {
		case more == nil:
		case !returned:
			b.launch(more) // this goroutine ends here
		default:
			b.launch(more.next)
			more.next = nil
		}
	}()
	err = b.next(ctx, bt.data)
	returned = true
	return nil // more, once it is settled
}

// exportContext returns what an export of bt runs under, and what to call with the
// outcome.
func (b *Batcher[T]) exportContext(bt *batch[T]) (context.Context, func(error)) {
	ctx, cancel := bt.partition.ctx, context.CancelFunc(nil)
	if b.set.ExportTimeout > 0 {
		ctx, cancel = context.WithTimeout(ctx, b.set.ExportTimeout)
	}
	var span trace.Span
	if len(bt.links) > 0 {
		ctx, span = b.set.Tracer.Start(ctx, "export "+b.signal.Name(), trace.WithNewRoot(), trace.WithLinks(bt.links...),
			trace.WithAttributes(
				attribute.Int("batch.items", bt.items),
				attribute.String("batch.trigger", bt.trigger.String()),
				attribute.Int("batch.links_omitted", bt.unlinks),
			))
	}
	return ctx, func(err error) {
		if span != nil {
			if err != nil {
				span.RecordError(err)
				span.SetStatus(codes.Error, err.Error())
			}
			span.End()
		}
		if cancel != nil {
			cancel()
		}
	}
}

// settle counts the outcome of an export, gives back its items and its slot, and
// returns what may be launched now.
func (b *Batcher[T]) settle(bt *batch[T], cause FailedCause, err error) (run *batch[T]) {
	b.mu.Lock()
	if b.state == stateOver {
		b.mu.Unlock()
		return nil
	}
	p, n := bt.partition, int64(bt.items)
	p.inFlight--
	b.exports--
	b.stats.InFlight -= n
	switch {
	case err == nil:
		b.stats.Delivered += n
	case b.state == stateStopped:
		b.stats.Dropped[DroppedShutdown] += n
	default:
		b.stats.Failed[cause] += n
	}
	if err != nil && b.state >= stateDraining {
		b.failure = err
	}
	woken := b.release(bt.items)
	b.queue(p)
	b.rest(p)
	run = b.dispatch()
	b.mu.Unlock()
	wakeAll(woken)
	return run
}

// release gives items back to the budget and returns the callers to wake once b.mu is
// free. Requires b.mu held.
func (b *Batcher[T]) release(items int) *waiter {
	woken := b.budget.release(items)
	b.noteDrained()
	return woken
}

// noteDrained tells a Shutdown under way when nothing is held any more. Requires
// b.mu held.
func (b *Batcher[T]) noteDrained() {
	if (b.state == stateDraining || b.state == stateStopped) && b.budget.used == 0 && b.exports == 0 && !b.empty {
		b.empty = true
		close(b.drained)
	}
}

// labelled is the background context with the profiler labels of a goroutine that has
// the given role.
func (b *Batcher[T]) labelled(role string) context.Context {
	labels := append([]string{"signal", b.signal.Name(), "role", role}, b.set.Labels...)
	return pprof.WithLabels(context.Background(), pprof.Labels(labels...))
}
