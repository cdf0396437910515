package batcher

import "time"

// Observer is told what happens. Its methods are called from many goroutines at
// once and never under a lock; they must return quickly, because a caller or an
// export waits for them. What can be counted is in Stats instead.
type Observer interface {
	// AdmissionWaited reports a caller that had to wait for room in the budget,
	// whether it was admitted in the end or not.
	AdmissionWaited(wait time.Duration)
	// Ticked reports how long after the instant it stands for a tick was carried out.
	Ticked(late time.Duration)
	// MeasuresBytes tells whether Export.Bytes is wanted. Measuring walks the batch.
	MeasuresBytes() bool
	// ExportStarted reports a batch about to be handed to the next consumer.
	ExportStarted(e Export)
	// ExportEnded reports its outcome, before the items leave the budget. A nil err is
	// success. Not called for an export that outlives Shutdown.
	ExportEnded(e Export, took time.Duration, cause FailedCause, err error)
}

// Export describes a batch in an export call.
type Export struct {
	Items int
	// Bytes is the size in OTLP's binary encoding, or -1 where not measured.
	Bytes   int
	Trigger Trigger
	// Age is how long the oldest item was pending when the batch was sealed.
	Age time.Duration
}

type nopObserver struct{}

func (nopObserver) AdmissionWaited(time.Duration)                         {}
func (nopObserver) Ticked(time.Duration)                                  {}
func (nopObserver) MeasuresBytes() bool                                   { return false }
func (nopObserver) ExportStarted(Export)                                  {}
func (nopObserver) ExportEnded(Export, time.Duration, FailedCause, error) {}

// Stats is what a batcher holds and has done, all at one instant, so that
//
//	Accepted = Delivered + Failed + Dropped + Pending + Sealed + InFlight
//
// where Failed and Dropped are summed over their causes. Counts are items unless
// the name says otherwise.
type Stats struct {
	Accepted  int64
	Delivered int64
	Refused   [refusedCauseCount]int64 // by RefusedCause
	Failed    [failedCauseCount]int64  // by FailedCause
	Dropped   [droppedCauseCount]int64 // by DroppedCause

	Pending  int64
	Sealed   int64
	InFlight int64

	// Held is what is taken of Capacity: the items above and those of callers that
	// were admitted this instant and are still being moved in.
	Held     int64
	Capacity int64

	Batches         [triggerCount]int64 // sealed batches by Trigger
	ExportsInFlight int64               // export calls under way
	LivePartitions  int64               // partitions with something pending or ticks armed
	WaitingCallers  int64
	Evictions       int64 // partitions retired to make room for another one
}
