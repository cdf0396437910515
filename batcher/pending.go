package batcher

import (
	"time"

	"go.opentelemetry.io/otel/trace"
)

// Trigger is the reason why a batch was sealed.
type Trigger uint8

// The reasons to seal a batch.
const (
	// TriggerSize: the batch reached SendBatchSize, or the next request would have
	// taken it past SendBatchMaxSize.
	TriggerSize Trigger = iota
	// TriggerTimeout: a tick of the partition.
	TriggerTimeout
	// TriggerIdle: an export slot was free and the timeout is 0.
	TriggerIdle
	// TriggerPressure: somebody waited for the budget and an export slot was free.
	TriggerPressure
	// TriggerEvicted: the partition made room for another one.
	TriggerEvicted
	// TriggerShutdown: the batcher is shutting down.
	TriggerShutdown

	triggerCount
)

// String returns the trigger as metrics and logs name it.
func (t Trigger) String() string {
	return [...]string{"size", "timeout", "idle", "pressure", "evicted", "shutdown"}[t]
}

// batch is a batch on its way: open (in partition.open), sealed (in partition.line),
// in flight. It is plain data, guarded by Batcher.mu until its export begins; from
// then on data belongs to the next consumer.
type batch[T any] struct {
	data  T
	items int

	// partition is whose open batch, line or export this is.
	partition *partition[T]
	// next is the batch behind this one in the partition's line; once taken out of
	// the line, the next one to launch in the same go.
	next *batch[T]

	// first is when the oldest item was accepted, and sealed when the batch closed.
	first, sealed time.Time
	trigger       Trigger

	// filling holds while a caller cuts its request to fill this batch up. It has its
	// place in the line already, so that nothing overtakes it, but must not leave.
	filling bool

	links   []trace.Link
	unlinks int // contributors beyond maxLinks
}

// maxLinks bounds the links of one export's span. 128 is the limit that
// OpenTelemetry SDKs apply by default (OTEL_SPAN_LINK_COUNT_LIMIT).
const maxLinks = 128

// link adds a contributor's span to those the export will be linked to.
func (b *batch[T]) link(sc trace.SpanContext) {
	if len(b.links) == maxLinks {
		b.unlinks++
		return
	}
	b.links = append(b.links, trace.Link{SpanContext: sc})
}

// line is a partition's sealed batches in the order in which they leave.
type line[T any] struct {
	front, back *batch[T]
}

func (l *line[T]) push(b *batch[T]) { l.append(b, b) }

// append puts the chain from first to last behind all others.
func (l *line[T]) append(first, last *batch[T]) {
	if l.back == nil {
		l.front = first
	} else {
		l.back.next = first
	}
	l.back = last
}

// insert puts the chain from first to last right behind b, which is in the line.
func (l *line[T]) insert(b, first, last *batch[T]) {
	last.next, b.next = b.next, first
	if l.back == b {
		l.back = last
	}
}

func (l *line[T]) pop() *batch[T] {
	b := l.front
	l.front, b.next = b.next, nil
	if l.front == nil {
		l.back = nil
	}
	return b
}
