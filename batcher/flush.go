package batcher

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"runtime/pprof"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// queue puts p where dispatch finds it, or takes it away. It is to be called when what
// mayLeave, mayFlush and mayBePressed look at has changed. Requires b.mu held.
func (b *Batcher[T]) queue(p *partition[T]) {
	_, flush := b.mayFlush(p)
	b.ready.put(p, flush || b.mayLeave(p))
	if b.budget.shared && b.set.BlockOnOverflow {
		b.fullest.put(p, b.mayBePressed(p))
	}
}

// mayLeave tells whether the first sealed batch of p may take a slot: it must be
// complete, the limit per partition not reached, and nothing before it wait for a retry
// where order is promised. Requires b.mu held.
func (b *Batcher[T]) mayLeave(p *partition[T]) bool {
	return p.line.front != nil && !p.line.front.filling && b.mayExport(p)
}

func (b *Batcher[T]) mayExport(p *partition[T]) bool {
	return int(p.inFlight) < b.perPartition && (p.retrying == 0 || !b.ordered)
}

// mayFlush tells whether the open batch of p is to leave as soon as a slot is free, and
// why. Requires b.mu held.
func (b *Batcher[T]) mayFlush(p *partition[T]) (Trigger, bool) {
	switch {
	case p.open == nil || p.line.front != nil:
		return 0, false
	case b.set.FlushWhenIdle && p.quiet():
		return TriggerIdle, true
	case !b.mayExport(p):
		return 0, false
	case b.set.Timeout == 0 && !p.boarding:
		return TriggerIdle, true
	}
	return TriggerPressure, p.account.line.n > 0
}

// mayBePressed tells whether the open batch of p could leave at once to make room for
// others. Requires b.mu held.
func (b *Batcher[T]) mayBePressed(p *partition[T]) bool {
	return p.open != nil && p.line.front == nil && b.mayExport(p)
}

// work is what is to be done once b.mu is free, see carryOut.
type work[T any] struct {
	run   *batch[T]     // chain of batches to export; each has its slot
	board *partition[T] // chain of partitions whose open batch is to be boarded; the same
	woken *waiter       // chain of callers that were admitted
}

// dispatch gives free export slots to partitions that are ready. When none is, and a
// newcomer waits for the budget, the fullest open batch leaves. When there is none either,
// what is held is stuck, or waits for what is: a piece of the newcomer's request is
// admitted, if no more fits. It is to be called when anything of that has changed.
// Requires b.mu held.
func (b *Batcher[T]) dispatch() (w work[T]) {
	w.woken, b.woken = b.woken, nil
	if b.state > stateDraining {
		return w
	}
	var last *batch[T]
	for b.exports < b.set.MaxConcurrentExports {
		bt, p := b.nextBatch()
		if p == nil {
			w.woken = chainWaiters(w.woken, b.budget.grantPiece()) // one: it wants a slot, too
			break
		}
		if bt == nil {
			p.inFlight++
			b.exports++
			p.boarding, p.boards, w.board = true, w.board, p
			b.queue(p)
			continue
		}
		b.launch(bt)
		if last == nil {
			w.run = bt
		} else {
			last.next = bt
		}
		last = bt
	}
	return w
}

// launch gives a slot to a batch that was taken out of its line. Requires b.mu held, and a
// free slot.
func (b *Batcher[T]) launch(bt *batch[T]) {
	bt.partition.inFlight++
	b.exports++
	b.heapAway += bt.heap
	b.countSealed(bt.partition, -bt.items)
	b.countInFlight(bt.partition, bt.items)
	b.takeOff(bt)
	b.queue(bt.partition)
}

// nextBatch returns the partition that is to have the next slot, and takes its batch out of
// the line. If there is none, its open batch is to be boarded. No partition: none is to have
// it. Requires b.mu held, and a free slot.
func (b *Batcher[T]) nextBatch() (*batch[T], *partition[T]) {
	fewer := b.fewer()
	for p := b.ready.next(fewer); p != nil; p = b.ready.next(fewer) {
		if p.line.front != nil {
			return p.line.pop(), p
		}
		if trigger, flush := b.mayFlush(p); flush {
			if trigger == TriggerIdle {
				return nil, p
			}
			b.seal(p, trigger, time.Now())
			return p.line.pop(), p
		}
		b.queue(p) // whoever waited for it to leave has come in
	}
	if !b.budget.newcomers() {
		return nil, nil
	}
	p := b.fullest.next(fewer)
	if p == nil {
		return nil, nil
	}
	b.seal(p, TriggerPressure, time.Now())
	return p.line.pop(), p
}

// fewer returns how many exports a partition must have fewer of under way to get one
// more: where partitions share the slots, as many as there are slots free. So there is
// always one left for a partition that has none: k stuck ones of ten slots take 5, then 3,
// then 1. Nobody new comes while shutting down. (A dynamic threshold, as in budget.)
// Requires b.mu held.
func (b *Batcher[T]) fewer() int {
	if b.sharesSlots && b.state == stateRunning {
		return b.set.MaxConcurrentExports - b.exports
	}
	return math.MaxInt
}

// carryOut wakes callers and starts an export goroutine for each batch, and for each
// partition that is to be boarded. Each has its slot already, so that there are never more
// than MaxConcurrentExports of them. Requires that b.mu is not held.
func (b *Batcher[T]) carryOut(w work[T]) {
	wakeAll(w.woken)
	for p := w.board; p != nil; {
		next := p.boards
		p.boards = nil
		go b.exportFrom(p)
		p = next
	}
	for bt := w.run; bt != nil; {
		next := bt.next
		bt.next = nil
		go b.export(bt)
		bt = next
	}
}

// export is an export goroutine. It ends when no batch is left for its slot.
func (b *Batcher[T]) export(bt *batch[T]) {
	pprof.SetGoroutineLabels(b.base)
	for bt != nil {
		bt = b.exportOne(bt)
	}
}

// exportFrom is an export goroutine that begins with boarding.
func (b *Batcher[T]) exportFrom(p *partition[T]) { b.export(b.board(p)) }

// board gives callers that are about to run the chance to join the open batch of p, which
// has a slot, and seals it. It returns the batch to go on with in this goroutine, if there is
// one.
//
// When an export ends, all its callers wake, and each may have a next request at hand. The
// first of them finds the partition idle. If its request left alone, the others would have to
// wait for it: every other export would be of a single request. A yield lets those run that
// are runnable on this processor. Others may be on their way elsewhere, so it yields again
// while fewer requests are in than were in the batch before, and they keep coming. Who is
// alone finds as many as before after the first yield.
func (b *Batcher[T]) board(p *partition[T]) (bt *batch[T]) {
	for requests, left := 0, boardYields; ; left-- {
		runtime.Gosched()
		b.mu.Lock()
		n := 0
		if b.mayBoard(p) {
			n = b.requests(p.open)
		}
		if n == 0 || n >= p.extent || left == 0 {
			break
		}
		if n > requests {
			requests, left = n, boardYields
		}
		b.mu.Unlock()
	}
	if b.state == stateOver {
		b.mu.Unlock()
		return nil
	}
	p.boarding = false
	p.inFlight--
	b.exports--
	if trigger, flush := b.mayFlush(p); flush {
		b.seal(p, trigger, time.Now())
	}
	if b.mayLeave(p) {
		bt = p.line.pop()
		b.launch(bt)
	} else { // withdrawn, or sealed and on its way with another slot
		b.queue(p)
		b.rest(p)
		b.noteDrained()
	}
	todo := b.dispatch()
	b.mu.Unlock()
	b.carryOut(todo)
	return bt
}

// mayBoard tells whether the open batch of p may wait for more: nothing has been sealed
// meanwhile that needs the slot, and nobody waits for room, who could not join. Requires b.mu
// held.
func (b *Batcher[T]) mayBoard(p *partition[T]) bool {
	return b.state == stateRunning && p.open != nil && p.line.front == nil && b.budget.waiting == 0
}

// boardYields is how often board yields to nobody before it leaves.
const boardYields = 16

// goOn carries out work but for one batch, which it returns for the calling goroutine to
// export.
func (b *Batcher[T]) goOn(w work[T]) *batch[T] {
	bt := w.run
	if bt != nil {
		w.run, bt.next = bt.next, nil
	}
	b.carryOut(w)
	return bt
}

// exportOne hands a batch to the next consumer, settles it and returns a batch to go
// on with, if there is one.
func (b *Batcher[T]) exportOne(bt *batch[T]) (more *batch[T]) {
	b.makeReady(bt)
	if b.sharing != nil {
		b.sharing.unprepare(bt.data)
	}
	if b.set.MergeResources && bt.attempts == 0 && bt.piece == nil {
		b.merge(bt)
	}
	bt.attempts++
	e := Export{
		Items: bt.items, Bytes: -1, Trigger: bt.trigger, Age: bt.sealed.Sub(bt.first),
		Attempt: bt.attempts, Part: bt.piece != nil,
	}
	if b.weighsBytes && bt.piece == nil && bt.attempts == 1 && !bt.merged { // it is all there, as it was measured
		if e.Bytes = bt.bytes; b.sharesBytes() { // which may be a bound
			e.Bytes = b.signal.Bytes(bt.data)
		}
	} else if b.set.Observer.MeasuresBytes() {
		e.Bytes = b.signal.Bytes(bt.data)
	}
	b.set.Observer.ExportStarted(e)
	ctx, done := b.exportContext(bt)
	began := time.Now()
	bt.called.Store(int64(began.Sub(b.began)) + 1)
	err, returned := ErrDownstreamDied, false

	// Deferred, so that a panic or runtime.Goexit downstream settles the batch and
	// passes its slot on. We do not recover: a panic still ends the process.
	defer func() {
		v := b.judge(ctx, bt, began, err)
		done(err)
		if !v.late {
			b.set.Observer.ExportEnded(e, time.Since(began), v.Outcome)
		}
		todo := b.settle(bt, v)
		if !returned { // this goroutine ends here
			b.carryOut(todo)
			return
		}
		more = b.goOn(todo)
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
		bt.data = b.copyOf(bt.piece)
	case !b.early:
		b.putTogether(bt)
	case bt.stale.Items > 0:
		b.leaveOut(bt)
	}
	bt.ready = true
}

// copyOf copies the data of a piece.
func (b *Batcher[T]) copyOf(pc *piece[T]) T {
	from, to := pc.resources()
	whole := pc.of.whole
	if whole.origins != nil {
		return b.signal.Pick(whole.data, whole.origins.picker(from, to))
	}
	return b.signal.Copy(whole.data, from, to)
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
				// What span.RecordError adds, but for most of a text that is long.
				text := ErrorText(err)
				span.AddEvent("exception", trace.WithAttributes(
					attribute.String("exception.type", fmt.Sprintf("%T", err)), attribute.String("exception.message", text)))
				span.SetStatus(codes.Error, text)
			}
			span.End()
		}
		if cancel != nil {
			cancel()
		}
	}
}

// release gives what p held back to the budget and returns the callers to wake once b.mu is
// free. Requires b.mu held.
func (b *Batcher[T]) release(p *partition[T], s Size) *waiter {
	woken := b.budget.release(&p.account, s)
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
