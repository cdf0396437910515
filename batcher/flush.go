package batcher

import (
	"context"
	"runtime/pprof"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// queue puts p on the lists of those that may take an export slot, for their first
// sealed batch or for what is pending, or takes it off. It is to be called when what
// mayLeave and mayFlush look at has changed. Requires b.mu held.
func (b *Batcher[T]) queue(p *partition[T]) {
	var ready, eager *list[partition[T]]
	if b.mayLeave(p) {
		ready = &b.busy
		if p.inFlight == 0 {
			ready = &b.idle
		}
	}
	if b.mayFlush(p) {
		eager = &b.eager
	}
	p.ready.moveTo(ready)
	p.eager.moveTo(eager)
}

// mayLeave tells whether the first sealed batch of p may take a slot: it must be
// complete, the limit per partition not reached, and nothing before it wait for a retry
// where order is promised. Requires b.mu held.
func (b *Batcher[T]) mayLeave(p *partition[T]) bool {
	return p.line.front != nil && !p.line.front.filling && b.mayExport(p)
}

func (b *Batcher[T]) mayExport(p *partition[T]) bool {
	return p.inFlight < b.perPartition && (p.retrying == 0 || !b.ordered)
}

// mayFlush tells whether the open batch of p is to leave as soon as a slot is free,
// without any other reason. Requires b.mu held.
func (b *Batcher[T]) mayFlush(p *partition[T]) bool {
	switch {
	case p.open == nil || p.line.front != nil:
		return false
	case b.set.FlushWhenIdle && p.quiet():
		return true
	}
	return b.set.Timeout == 0 && b.mayExport(p)
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
// and its partition flushes then, or a caller waits for the budget (the fullest). It
// tells whether it found one. Requires b.mu held.
func (b *Batcher[T]) sealEarly() bool {
	if b.eager.front != nil {
		b.seal(b.eager.front.owner, TriggerIdle, time.Now())
		return true
	}
	if b.budget.waiting.n == 0 {
		return false
	}
	var best *partition[T]
	for l := b.pending.front; l != nil; l = l.next {
		p := l.owner
		if !b.mayExport(p) || p.line.front != nil {
			continue // sealing would not bring it downstream any sooner
		}
		if best == nil || p.open.items > best.open.items {
			best = p
		}
	}
	if best == nil {
		return false
	}
	b.seal(best, TriggerPressure, time.Now())
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
	b.makeReady(bt)
	bt.attempts++
	e := Export{
		Items: bt.items, Bytes: -1, Trigger: bt.trigger, Age: bt.sealed.Sub(bt.first),
		Attempt: bt.attempts, Part: bt.piece != nil,
	}
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
		v := b.judge(ctx, bt, began, err)
		done(err)
		if !v.late {
			b.set.Observer.ExportEnded(e, time.Since(began), v.Outcome)
		}
		more = b.settle(bt, v)
		switch {
		case more == nil:
		case !returned:
			b.launch(more) // this goroutine ends here
		default:
			b.launch(more.next)
			more.next = nil
		}
	}()
	err = b.next(ctx, b.lend(bt))
	returned = true
	return nil // more, once it is settled
}

// makeReady gives a batch in flight its data, if it has none yet.
func (b *Batcher[T]) makeReady(bt *batch[T]) {
	switch {
	case bt.ready:
	case bt.piece != nil:
		from, to := bt.piece.resources()
		bt.data = b.signal.Copy(bt.piece.of.whole.data, from, to)
	case b.set.WaitForResult:
		b.putTogether(bt)
	}
	bt.ready = true
}

// lend returns what to hand to the next consumer. A batch that can be sent again keeps
// its data, until drop, by a reference of its own or by giving away a copy.
func (b *Batcher[T]) lend(bt *batch[T]) T {
	switch {
	case b.copies:
		return b.signal.Copy(bt.data, 0, b.signal.Resources(bt.data))
	case b.resends && !bt.lent:
		bt.lent = true
		b.signal.Ref(bt.data)
	}
	return bt.data
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
