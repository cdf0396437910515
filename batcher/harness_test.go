package batcher_test

import (
	"context"
	"errors"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.uber.org/goleak"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
	"github.com/boundedbatch/boundedbatchprocessor/batcher/batchertest"
)

func TestMain(m *testing.M) {
	if os.Getenv(crashEnv) != "" {
		crash()
	}
	goleak.VerifyTestMain(m)
}

// longWithProfiles are tests that take minutes together for profiles with the race detector, which
// has the other signals to find something in. Without it they run, too, but not with -short.
var longWithProfiles = map[string]bool{
	"TestRefusedCallerIsFoundAndTheOthersAreDelivered":     true,
	"TestIsolationOfManyFaultyResourcesStaysInItsBound":    true,
	"TestBatchesKeepTheByteLimitAndAreFull":                true,
	"TestOneExportAtOnceKeepsTheOrderOfAcceptance":         true,
	"TestResourcesAreDividedAmongPartitions":               true,
	"TestRequestLargerThanTheBudgetIsAdmittedPieceByPiece": true,
	"TestFaultyRequestTakesNoOtherWithIt":                  true,
	"TestGridDoesNotDriftOverTenThousandTicks":             true,
	"TestMemoryAndItemsAreBothLimited":                     true,
	"TestIsolationEndsAfter64Exports":                      true,
}

// each runs one generic test body for every signal, each in a bubble of virtual time, while other tests run. Profiles
// are left out where the test is about cuts between any two items.
func each(
	t *testing.T,
	traces func(*testing.T, batchertest.Kind[ptrace.Traces]),
	logs func(*testing.T, batchertest.Kind[plog.Logs]),
	metrics func(*testing.T, batchertest.Kind[pmetric.Metrics]),
	profiles ...func(*testing.T, batchertest.Kind[*batcher.ProfilesData]),
) {
	t.Helper()
	t.Parallel()
	eachAlone(t, traces, logs, metrics, profiles...)
}

// eachAlone is each for tests that look at the whole process, or depend on when goroutines run.
func eachAlone(
	t *testing.T,
	traces func(*testing.T, batchertest.Kind[ptrace.Traces]),
	logs func(*testing.T, batchertest.Kind[plog.Logs]),
	metrics func(*testing.T, batchertest.Kind[pmetric.Metrics]),
	profiles ...func(*testing.T, batchertest.Kind[*batcher.ProfilesData]),
) {
	t.Helper()
	t.Run("signal=traces", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { traces(t, batchertest.Traces()) })
	})
	t.Run("signal=logs", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { logs(t, batchertest.Logs()) })
	})
	t.Run("signal=metrics", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { metrics(t, batchertest.Metrics()) })
	})
	if (batcher.RaceEnabled || testing.Short()) && longWithProfiles[t.Name()] {
		return
	}
	for _, test := range profiles {
		t.Run("signal=profiles", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, batchertest.Profiles()) })
		})
	}
}

// defaults are settings for tests: small, and without any limit that a test does not
// ask for.
func defaults() batcher.Settings {
	return batcher.Settings{
		Timeout:              time.Second,
		SendBatchSize:        100,
		QueueSize:            1000,
		BlockOnOverflow:      true,
		MaxConcurrentExports: 2,
		ShutdownTimeout:      time.Minute,
	}
}

// rig is a started batcher in front of a sink.
type rig[T any] struct {
	*batcher.Batcher[T]
	t    *testing.T
	kind batchertest.Kind[T]
	sink *batchertest.Sink[T]
	next int // identity of the next item sent
}

// newRig starts a batcher. At the end of the test it is shut down, if the test has
// not done so, and everything accepted must have an outcome.
func newRig[T any](t *testing.T, kind batchertest.Kind[T], set batcher.Settings, respond func(batchertest.Batch) error) *rig[T] {
	t.Helper()
	sink := batchertest.NewSink(kind, respond)
	b, err := batcher.New(kind.Signal, set, sink.Consume)
	require.NoError(t, err)
	require.NoError(t, b.Start())
	r := &rig[T]{Batcher: b, t: t, kind: kind, sink: sink}
	t.Cleanup(func() {
		_ = b.Shutdown(context.Background()) // a test that cares has asked for it
		time.Sleep(time.Hour)                // exports that outlive it end here
		require.NoError(t, sink.Err())
		s := b.Stats()
		checkIdentity(t, s)
		require.Zero(t, s.Held, "%+v", s)
		require.Zero(t, s.HeldBytes, "%+v", s)
		require.Zero(t, s.Pending+s.Sealed+s.InFlight+s.Retrying, "%+v", s)
	})
	return r
}

// send consumes a request of that many items with fresh identities.
func (r *rig[T]) send(items int) {
	r.t.Helper()
	require.NoError(r.t, r.try(context.Background(), items))
}

// try is send with a context, and returns the error.
func (r *rig[T]) try(ctx context.Context, items int) error {
	first := r.next
	r.next += items
	return r.Consume(ctx, r.kind.Make(first, items))
}

// goTry is try in another goroutine. The channel carries the error.
func (r *rig[T]) goTry(ctx context.Context, items int) <-chan error {
	data := r.kind.Make(r.next, items)
	r.next += items
	result := make(chan error, 1)
	go func() { result <- r.Consume(ctx, data) }()
	return result
}

// stop shuts down, and every item sent must have been delivered exactly once.
func (r *rig[T]) stop() {
	r.t.Helper()
	require.NoError(r.t, r.Shutdown(context.Background()))
	r.delivered(r.next)
}

// delivered checks that the items 0 to n-1 have arrived, each once, and no others.
func (r *rig[T]) delivered(n int) {
	r.t.Helper()
	got := r.sink.Delivered()
	require.Len(r.t, got, n)
	for id := range n {
		require.Equal(r.t, 1, got[id], "item %d", id)
	}
}

// inOrder checks that the items have arrived in the order of their identities, from 0 on.
func (r *rig[T]) inOrder() {
	r.t.Helper()
	next := 0
	for _, b := range r.sink.Batches() {
		for _, id := range b.IDs {
			require.Equal(r.t, next, id)
			next++
		}
	}
}

func checkIdentity(t *testing.T, s batcher.Stats) {
	t.Helper()
	out := s.Delivered + s.Pending + s.Sealed + s.InFlight + s.Retrying
	for _, n := range s.Failed {
		out += n
	}
	for _, n := range s.Dropped {
		out += n
	}
	require.Equal(t, s.Accepted, out, "%+v", s)
	require.LessOrEqual(t, s.Pending+s.Sealed+s.InFlight+s.Retrying, s.Held, "%+v", s)
	require.LessOrEqual(t, s.Held, s.Capacity, "%+v", s)
	for _, n := range []int64{s.Pending, s.Sealed, s.InFlight, s.Retrying, s.ExportsInFlight, s.LivePartitions, s.WaitingCallers} {
		require.GreaterOrEqual(t, n, int64(0), "%+v", s)
	}
}

// gate holds whoever waits at it until it is opened.
type gate chan struct{}

func newGate() gate { return make(gate) }

func (g gate) open() { close(g) }

// wait waits for the gate, or for the end of the export's context.
func (g gate) wait(ctx context.Context) error {
	select {
	case <-g:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// held is a sink's answer: nothing returns before the gate is opened.
func (g gate) held(b batchertest.Batch) error { return g.wait(b.Ctx) }

var errRefused = errors.New("refused downstream")
