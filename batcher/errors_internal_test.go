package batcher

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/pdata/plog"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Which refusal is worth a later try, and what it says.
func TestRefusalsAndTheirMarks(t *testing.T) {
	for _, c := range []struct {
		refusal   *refusal[plog.Logs]
		cause     string
		permanent bool
		is        error
		text      string
	}{
		{
			overflow[plog.Logs](items(10), &account{held: 95}, &budget{used: 95, capacity: 100}), "overflow", false, ErrOverflow,
			"no room: 95 of 100 items (queue_size) are held, 10 more do not fit",
		},
		{
			overflow[plog.Logs](items(10), &account{held: 80}, &budget{used: 85, capacity: 100}), "overflow", false, ErrOverflow,
			"no room: 85 of 100 items (queue_size) are held, 80 of them of this partition; 10 more would leave too little to others",
		},
		{
			overflow[plog.Logs](Size{10, 0, 500}, &account{}, &budget{used: 50, capacity: 100, heavy: true, heapUsed: 900, heapCapacity: 1000}),
			"overflow", false, ErrOverflow,
			"no room: 900 of 1000 bytes (memory_limit) are held, 500 more do not fit",
		},
		{
			overflow[plog.Logs](Size{10, 0, 50}, &account{held: 5, heap: 600}, &budget{used: 50, capacity: 100, heavy: true, heapUsed: 900, heapCapacity: 1000}),
			"overflow", false, ErrOverflow,
			"no room: 900 of 1000 bytes (memory_limit) are held, 600 of them of this partition; 50 more would leave too little to others",
		},
		{
			tooLarge[plog.Logs](Size{10, 0, 1001}, &budget{capacity: 100, heavy: true, heapCapacity: 1000}), "too_large", true, ErrTooLarge,
			"Permanent error: request too large: 10 items take about 1001 bytes, which exceed memory_limit (1000), and block_on_overflow is off",
		},
		{
			tooLarge[plog.Logs](items(200000), &budget{capacity: 98304}), "too_large", true, ErrTooLarge,
			"Permanent error: request too large: 200000 items exceed queue_size (98304) and block_on_overflow is off",
		},
		{
			canceled[plog.Logs](context.DeadlineExceeded, 3), "canceled", false, context.DeadlineExceeded,
			"request of 3 items refused: context deadline exceeded",
		},
		{&refusal[plog.Logs]{cause: RefusedShutdown, err: ErrShutdown}, "shutdown", false, ErrShutdown, "shutting down"},
		{&refusal[plog.Logs]{cause: RefusedShutdown, err: ErrNotStarted}, "shutdown", false, ErrNotStarted, "not started"},
	} {
		require.Equal(t, c.cause, c.refusal.cause.String())
		require.Equal(t, c.permanent, consumererror.IsPermanent(c.refusal.err))
		require.ErrorIs(t, c.refusal.err, c.is)
		require.EqualError(t, c.refusal.err, c.text)
		// An OTLP receiver sends an error without a gRPC status as UNAVAILABLE, or as INTERNAL
		// if it is permanent. What is permanent here is the sender's fault.
		s, has := status.FromError(c.refusal.err)
		require.Equal(t, c.permanent, has)
		if has {
			require.Equal(t, codes.InvalidArgument, s.Code())
		}
	}
}

// late is a context whose deadline has passed and whose timer has not run yet.
type late struct{ context.Context }

func (late) Deadline() (time.Time, bool) { return time.Now(), true }

func TestFailuresAndTheirCauses(t *testing.T) {
	over, cancel := context.WithTimeout(t.Context(), -time.Second)
	defer cancel()
	for _, c := range []struct {
		ctx  context.Context
		err  error
		want string
	}{
		{t.Context(), errors.New("x"), "retryable"},
		{t.Context(), context.DeadlineExceeded, "retryable"}, // somebody else's deadline
		{t.Context(), status.Error(codes.Unavailable, "x"), "retryable"},
		{t.Context(), consumererror.NewPermanent(errors.New("x")), "permanent"},
		{t.Context(), fmt.Errorf("x: %w", consumererror.NewPermanent(errors.New("x"))), "permanent"},
		{t.Context(), errors.Join(errors.New("x"), consumererror.NewPermanent(errors.New("y"))), "permanent"},
		{over, errors.New("x"), "timeout"},
		{late{t.Context()}, status.Error(codes.DeadlineExceeded, "x"), "timeout"},
		{over, consumererror.NewPermanent(errors.New("x")), "permanent"},
	} {
		require.Equal(t, c.want, failedCause(c.ctx, c.err).String(), "%v", c.err)
	}
}

func TestUndeliveredNamesEveryLoss(t *testing.T) {
	why := errors.New("why")
	u := &Undelivered{InFlight: 1, Sealed: 20, Failed: 300, Err: why}
	require.EqualError(t, u, "321 items were not delivered: 1 in flight, 20 sealed, 0 retrying, 300 failed during the shutdown: why")
	require.ErrorIs(t, u, why)
}

// An error of the next consumer may be as long as a message, and quote one. Whoever is shown it gets the beginning;
// whoever asks what it is gets all of it.
func TestErrorsAreShownUpToALimit(t *testing.T) {
	whole := strings.Repeat("é", mostText/2)
	for _, c := range []struct{ says, want string }{
		{"", ""},
		{"why", "why"},
		{whole, whole},
		{whole + "x", whole + "... (1025 bytes)"},
		{"x" + whole, "x" + whole[:mostText-2] + "... (1025 bytes)"}, // between two characters
		{strings.Repeat("x", 16<<20), strings.Repeat("x", mostText) + "... (16777216 bytes)"},
	} {
		require.Equal(t, c.want, ErrorText(errors.New(c.says)))
	}
	require.Empty(t, ErrorText(nil))

	failure := consumererror.NewPermanent(consumererror.NewLogs(status.Error(codes.InvalidArgument, strings.Repeat("x", 16<<20)), plog.NewLogs()))
	u := &Undelivered{InFlight: 1, Err: errors.Join(context.DeadlineExceeded, failure)}
	require.Less(t, len(u.Error()), 2*mostText)
	require.Contains(t, u.Error(), "1 items were not delivered")
	require.Contains(t, u.Error(), context.DeadlineExceeded.Error(), "why there was no time comes first")
	require.ErrorIs(t, u, context.DeadlineExceeded)
	require.ErrorIs(t, u, failure)
	require.ErrorAs(t, u, new(consumererror.Logs))
	require.True(t, consumererror.IsPermanent(u))
	require.Equal(t, codes.InvalidArgument, status.Code(u))
}

func TestNamesOfTriggers(t *testing.T) {
	var got []string
	for trigger := range triggerCount {
		got = append(got, trigger.String())
	}
	require.Equal(t, []string{"size", "timeout", "idle", "pressure", "evicted", "shutdown"}, got)
	require.Equal(t, "shutdown", DroppedShutdown.String())
}
