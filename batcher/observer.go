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
	// ItemsTooLarge reports items of one request that were dropped because each alone
	// exceeds SendBatchMaxBytes, and the size of the largest in OTLP's binary encoding.
	ItemsTooLarge(items, largest int)
	// ExportStarted reports a batch about to be handed to the next consumer.
	ExportStarted(e Export)
	// ExportEnded reports its outcome, before the items leave the budget. Not called for
	// an export that outlives Shutdown.
	ExportEnded(e Export, took time.Duration, o Outcome)
}

// Export describes a batch in an export call.
type Export struct {
	Items int
	// Bytes is the size in OTLP's binary encoding, or -1 where not measured.
	Bytes   int
	Trigger Trigger
	// Age is how long the oldest item was pending when the batch was sealed.
	Age time.Duration
	// Attempt counts the exports of these items from 1; more than 1 is a retry.
	Attempt int
	// Part says that these are some of the items of a batch that was refused for good,
	// sent apart to find those that it was refused for.
	Part bool
}

// Outcome is what became of the items of an export.
type Outcome struct {
	Fate Fate
	// Err is what the next consumer returned; nil only with FateDelivered.
	Err error
	// Cause classifies Err.
	Cause FailedCause
	// Failed is the number of items that were given up. With FateFailed it can be less than
	// Export.Items, where the error named the part that failed, and more, where the outcome
	// of a part settled that of others; they are the reason why it can be more than 0 with
	// another fate, too.
	Failed int
	// RetryIn is how long after this export the next one of the same items follows, with
	// FateRetried.
	RetryIn time.Duration
	// Isolated says that the failure concerns these items alone: they are part of a batch
	// whose other items were sent apart from them.
	Isolated bool
}

// Fate is what happens to the items of an export next.
type Fate uint8

// The fates of an export.
const (
	FateDelivered Fate = iota
	FateFailed         // given up
	FateRetried        // to be sent again, after a wait
	FateDivided        // refused for good as a whole, to be sent again in parts
	FateDropped        // failed after the time for shutting down was over
)

// String returns the fate as pages name it.
func (f Fate) String() string {
	return [...]string{"delivered", "failed", "retried", "divided", "dropped"}[f]
}

type nopObserver struct{}

func (nopObserver) AdmissionWaited(time.Duration)              {}
func (nopObserver) Ticked(time.Duration)                       {}
func (nopObserver) MeasuresBytes() bool                        { return false }
func (nopObserver) ItemsTooLarge(int, int)                     {}
func (nopObserver) ExportStarted(Export)                       {}
func (nopObserver) ExportEnded(Export, time.Duration, Outcome) {}

// Stats is what a batcher holds and has done, all at one instant, so that
//
//	Accepted = Delivered + Failed + Dropped + Pending + Sealed + InFlight + Retrying
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
	Retrying int64 // failed, and waiting to be sent again

	// Held is what is taken of Capacity: the items above and those of callers that
	// were admitted this instant and are still being moved in.
	Held     int64
	Capacity int64
	// HeldBytes is what is taken of CapacityBytes, the memory limit, in estimated bytes of
	// heap. Both are 0 where there is no such limit: nothing is estimated then.
	HeldBytes     int64
	CapacityBytes int64

	Batches         [triggerCount]int64 // sealed batches by Trigger
	ExportsInFlight int64               // export calls under way, or about to begin
	LivePartitions  int64               // partitions with something pending or ticks armed
	WaitingCallers  int64
	Retries         int64 // batches sent again after a retryable failure
	// IsolationExports counts the further exports of batches that were refused for good,
	// by which those items were found that they were refused for.
	IsolationExports int64
	// Oversized counts batches that exceed SendBatchMaxSize or SendBatchMaxBytes, because they
	// consist of one profile, which is never cut.
	Oversized int64
	Evictions int64 // partitions retired to make room for another one
}
