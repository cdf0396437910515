package batcher

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.opentelemetry.io/collector/consumer/consumererror"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// What Consume refuses a request with. Except for ErrTooLarge and ErrInvalid, which carry the
// Collector's permanent mark, a later try may succeed. The context's own error
// takes their place when the caller's context ends.
var (
	// ErrNotStarted refuses what comes before Start.
	ErrNotStarted = errors.New("not started")
	// ErrShutdown refuses what comes, or still waits for room, once Shutdown has begun.
	ErrShutdown = errors.New("shutting down")
	// ErrOverflow refuses what does not fit into queue_size or memory_limit at the moment.
	ErrOverflow = errors.New("no room")
	// ErrTooLarge refuses what would not fit even if nothing were held.
	ErrTooLarge = errors.New("request too large")
	// ErrInvalid refuses profiles in which an index leads nowhere.
	ErrInvalid = errors.New("invalid request")
)

// ErrItemTooLarge is the outcome of items of which each alone exceeds send_batch_max_bytes,
// or all of memory_limit, or that are in a profile that exceeds all of queue_size or
// memory_limit. It comes with the Collector's permanent mark.
var ErrItemTooLarge = errors.New("items too large")

// ErrDownstreamDied is the outcome of a batch when the call of the next consumer
// did not return: it panicked or ended its goroutine.
var ErrDownstreamDied = errors.New("the next consumer did not return")

// What ends the wait for an outcome when Shutdown is over before there is one. Both are
// worth a later try.
var (
	errDropped        = fmt.Errorf("%w: the time for it was over before the items were delivered", ErrShutdown)
	errOutcomeUnknown = fmt.Errorf("%w: the time for it was over before the outcome was known", ErrShutdown)
)

// RefusedCause says why items were refused.
type RefusedCause uint8

// The causes of a refusal.
const (
	RefusedOverflow RefusedCause = iota
	RefusedShutdown              // also: not started
	RefusedCanceled              // the caller's context ended first
	RefusedTooLarge
	RefusedInvalid

	refusedCauseCount
)

// String returns the cause as metrics name it.
func (c RefusedCause) String() string {
	return [...]string{"overflow", "shutdown", "canceled", "too_large", "invalid"}[c]
}

// FailedCause says why the export of accepted items failed.
type FailedCause uint8

// The causes of a failure.
const (
	FailedPermanent FailedCause = iota
	FailedRetryable
	FailedTimeout // the export timeout ended the call

	failedCauseCount
)

// String returns the cause as metrics and logs name it.
func (c FailedCause) String() string {
	return [...]string{"permanent", "retryable", "timeout"}[c]
}

// DroppedCause says why accepted items were never exported.
type DroppedCause uint8

// The causes of a drop.
const (
	// DroppedShutdown: the time for shutting down was over.
	DroppedShutdown DroppedCause = iota
	// DroppedCanceled: the context of the waiting caller ended while they were pending.
	DroppedCanceled
	// DroppedItemTooLarge: each of them alone exceeds SendBatchMaxBytes or MemoryLimit, or its
	// profile exceeds QueueSize or MemoryLimit.
	DroppedItemTooLarge

	droppedCauseCount
)

// String returns the cause as metrics name it.
func (c DroppedCause) String() string {
	return [...]string{"shutdown", "canceled", "item_too_large"}[c]
}

// failedCause classifies what the next consumer returned for an export that ran
// under ctx. A permanent error stays permanent even if the time was over as well.
func failedCause(ctx context.Context, err error) FailedCause {
	if consumererror.IsPermanent(err) {
		return FailedPermanent
	}
	// By the clock, not by ctx.Err: a server that was told the deadline may answer
	// before the timer of ctx has run.
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		return FailedTimeout
	}
	return FailedRetryable
}

func isPermanent(err error) bool { return consumererror.IsPermanent(err) }

// unacceptable is an error for which the sender is to blame. A receiver that finds no status
// in a permanent error answers that it has a fault itself (Internal, 500).
type unacceptable struct{ err error }

func (u unacceptable) Error() string { return u.err.Error() }

func (u unacceptable) Unwrap() error { return u.err }

// GRPCStatus makes it InvalidArgument over gRPC, and so 400 over HTTP.
func (u unacceptable) GRPCStatus() *status.Status {
	return status.New(codes.InvalidArgument, u.err.Error())
}

// mostText is how many bytes of an error are shown. It comes from downstream, which may write what it likes.
const mostText = 1024

// ErrorText is what an error says, as it is shown to people: in a log, a status or a span. If
// that is too long, it is the beginning and how many bytes it is: an error of the next consumer
// may quote all of a batch. Who has to be told of an error gets the error itself.
func ErrorText(err error) string {
	if err == nil {
		return ""
	}
	text := err.Error()
	if n := len(text); n > mostText {
		text = fmt.Sprintf("%s... (%d bytes)", strings.ToValidUTF8(text[:mostText], ""), n)
	}
	return text
}

// refusal is what was refused of a request, and why.
type refusal[T any] struct {
	cause RefusedCause
	err   error
	ended error // the error of the caller's context, if that is the cause
	// rest is what was not accepted of a request that has been taken apart. If it has not,
	// all of it is where it was.
	rest  T
	apart bool
}

// invalid is the refusal of a request that contradicts itself.
func invalid[T any](err error) *refusal[T] {
	return &refusal[T]{cause: RefusedInvalid, err: consumererror.NewPermanent(unacceptable{fmt.Errorf("%w: %w", ErrInvalid, err)})}
}

// canceled is the refusal of a caller whose context has ended.
func canceled[T any](ended error, items int) *refusal[T] {
	return &refusal[T]{cause: RefusedCanceled, err: fmt.Errorf("request of %d items refused: %w", items, ended), ended: ended}
}

// overflow is the refusal of a request for which there is no room now. Its partition has
// that account.
func overflow[T any](size Size, a *account, b *budget) *refusal[T] {
	key, unit, n, used, capacity, held := "queue_size", "items", size.Items, b.used, b.capacity, a.held
	if b.heavy && float64(size.Heap+b.heapUsed)/float64(b.heapCapacity) > float64(n+used)/float64(capacity) {
		key, unit, n, used, capacity, held = "memory_limit", "bytes", size.Heap, b.heapUsed, b.heapCapacity, a.heap
	}
	err := fmt.Errorf("%w: %d of %d %s (%s) are held, %d more do not fit", ErrOverflow, used, capacity, unit, key, n)
	if n <= capacity-used {
		err = fmt.Errorf("%w: %d of %d %s (%s) are held, %d of them of this partition; %d more would leave too little to others",
			ErrOverflow, used, capacity, unit, key, held, n)
	}
	return &refusal[T]{cause: RefusedOverflow, err: err}
}

// tooLarge is the refusal of a request for which there will never be room.
func tooLarge[T any](size Size, b *budget) *refusal[T] {
	err := fmt.Errorf("%w: %d items exceed queue_size (%d) and block_on_overflow is off", ErrTooLarge, size.Items, b.capacity)
	if size.Items <= b.capacity {
		err = fmt.Errorf("%w: %d items take about %d bytes, which exceed memory_limit (%d), and block_on_overflow is off",
			ErrTooLarge, size.Items, size.Heap, b.heapCapacity)
	}
	return &refusal[T]{cause: RefusedTooLarge, err: consumererror.NewPermanent(unacceptable{err})}
}

// Undelivered is the error of a Shutdown that could not deliver every item it had
// accepted. Counts are items.
type Undelivered struct {
	// InFlight items were in an export that did not succeed in time.
	InFlight int64
	// Sealed items waited for an export slot.
	Sealed int64
	// Retrying items had failed and waited to be sent again.
	Retrying int64
	// Failed items were refused by the next consumer during the shutdown.
	Failed int64
	// Err is the last failure of an export during the shutdown, or the context's
	// error if the time was over, or both.
	Err error
}

// Error names each kind of loss that occurred. Of Err it has ErrorText.
func (u *Undelivered) Error() string {
	return fmt.Sprintf("%d items were not delivered: %d in flight, %d sealed, %d retrying, %d failed during the shutdown: %s",
		u.items(), u.InFlight, u.Sealed, u.Retrying, u.Failed, ErrorText(u.Err))
}

func (u *Undelivered) items() int64 { return u.InFlight + u.Sealed + u.Retrying + u.Failed }

// Unwrap returns Err.
func (u *Undelivered) Unwrap() error { return u.Err }
