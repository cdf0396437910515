package batcher

import (
	"sync/atomic"
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
	// TriggerIdle: an export slot was free, and the timeout is 0 or FlushWhenIdle is set
	// and the partition had nothing on its way.
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

// batch is a batch on its way: open (in partition.open), sealed (in partition.line), in
// flight, or waiting for a retry. It is plain data, guarded by Batcher.mu but while it is
// in flight: then it belongs to its export goroutine.
type batch[T any] struct {
	// data is what is in the batch. Where callers wait, their requests are in shares
	// until the first export puts them together here, unless Batcher.early is set; a piece
	// of another batch gets its data then too.
	data  T
	items int
	bytes int  // in OTLP's encoding, at most, if that is limited, until the batch is divided
	heap  int  // taken of the budget, if that is limited
	ready bool // data is set; only looked at where that happens late

	merged  bool     // what was equal in data is one since its first export
	origins *origins // what data was before; nil: it is as it was, or is never divided

	// shares are the requests in the batch whose callers wait, in order; one that was
	// withdrawn keeps its place with 0 items. Nil where nobody waits.
	shares []share[T]
	// stale is what was withdrawn and is in data still, to be left out of the export. It counts
	// for the heap of the batch, and not for its items.
	stale Size
	// err is the outcome, if callers wait. It is written before they are told.
	err error
	// answers is set when a batch whose callers wait is divided: from then on each share
	// has an outcome of its own, and the batch has none.
	answers []answer

	// partition is whose open batch, line or export this is.
	partition *partition[T]
	// next is the batch behind this one in the partition's line; once taken out of
	// the line, the next one to launch, or to end, in the same go.
	next *batch[T]

	// older and younger are its neighbours in partition.away; nil while it is not in there.
	older, younger *batch[T]
	// slot is its place in Batcher.flying, plus one, while it is in flight; 0 otherwise.
	slot int
	// called is when its last export call began: nanoseconds after Batcher.began, plus one; 0: it has not begun
	// yet. Written by the export goroutine, read by Snapshot.
	called atomic.Int64

	// first is when the oldest item was accepted, and sealed when the batch closed.
	first, sealed time.Time
	trigger       Trigger

	// filling holds while a caller cuts its request to fill this batch up. It has its
	// place in the line already, so that nothing overtakes it, but must not leave.
	filling bool

	links   []trace.Link
	unlinks int // contributors beyond maxLinks

	// wide tells which requests have more than one resource, where no callers wait: what
	// comes between them is one request a resource.
	wide []extent

	attempts int       // exports so far
	blurred  bool      // data is only a part of what the shares, or units, say
	lent     bool      // data was handed on while the batch kept a reference to it
	again    *again[T] // set once the batch has failed and is to be sent again
	piece    *piece[T] // set if this is a part of a batch that was divided
}

// extent is a run of resources: those from an index on, up to but without another.
type extent struct{ from, to int }

// share is one request's part of a batch whose callers wait.
type share[T any] struct {
	data      T   // in a batch that does not have it yet
	Size          // where the batch has its data, Bytes is without the dictionary
	resources int // known when the batch has its data
	link      int // one more than the index of its link; 0: none
	told      bell
}

// answer is the outcome of one share of a batch that was divided.
type answer struct {
	err     error
	settled bool // written before the caller is told
}

// maxLinks bounds the links of one export's span. 128 is the limit that
// OpenTelemetry SDKs apply by default (OTEL_SPAN_LINK_COUNT_LIMIT).
const maxLinks = 128

// link adds a contributor's span to those the export will be linked to, and returns
// one more than its index there, or 0 if there are too many.
func (b *batch[T]) link(sc trace.SpanContext) int {
	if len(b.links) == maxLinks {
		b.unlinks++
		return 0
	}
	b.links = append(b.links, trace.Link{SpanContext: sc})
	return len(b.links)
}

// callers counts the requests in a batch that share its outcome; at least 1.
func (b *batch[T]) callers() (n int) {
	if b.piece != nil {
		return b.piece.to - b.piece.from
	}
	for i := range b.shares {
		if b.shares[i].Items > 0 {
			n++
		}
	}
	return max(n, 1)
}

// size is what is in the batch.
func (b *batch[T]) size() Size { return Size{b.items, b.bytes, b.heap} }

// line is a partition's sealed batches in the order in which they leave.
type line[T any] struct {
	front, back *batch[T]
}

func (l *line[T]) push(b *batch[T]) { l.append(b, b) }

// pushFront puts b before all others.
func (l *line[T]) pushFront(b *batch[T]) {
	if l.back == nil {
		l.back = b
	}
	l.front, b.next = b, l.front
}

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

// remove takes out b, which is in the line.
func (l *line[T]) remove(b *batch[T]) {
	var before *batch[T]
	for bt := l.front; bt != b; bt = bt.next {
		before = bt
	}
	if before == nil {
		l.front = b.next
	} else {
		before.next = b.next
	}
	if l.back == b {
		l.back = before
	}
	b.next = nil
}

// last returns the last batch if what is accepted now may still join it; nil otherwise. It
// may while it waits for the first time, its data is not put together, and nothing is open that
// would be overtaken. So
// what comes while downstream is slow does not end up in a batch for each tick, and slots
// that go round are not spent on fragments.
func (l *line[T]) last() *batch[T] {
	b := l.back
	if b == nil || b.filling || b.ready || b.piece != nil {
		return nil
	}
	return b
}

func (l *line[T]) pop() *batch[T] {
	b := l.front
	l.front, b.next = b.next, nil
	if l.front == nil {
		l.back = nil
	}
	return b
}
