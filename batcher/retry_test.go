package batcher_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/client"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
	"github.com/boundedbatch/boundedbatchprocessor/batcher/batchertest"
)

// retrying are defaults with retries after 1, 2, 4, and from then on 5 seconds.
func retrying() batcher.Settings {
	set := defaults()
	set.Retry = batcher.Retry{Enabled: true, InitialInterval: time.Second, Multiplier: 2, MaxInterval: 5 * time.Second}
	return set
}

// times are when the calls of a sink began, after the first one.
func times[T any](r *rig[T]) (all []time.Duration) {
	for _, b := range r.sink.Batches() {
		all = append(all, b.At.Sub(r.sink.Batches()[0].At))
	}
	return all
}

// failing answers the first n calls with err and the others with nil.
func failing(n int, err error) func(batchertest.Batch) error {
	return func(b batchertest.Batch) error {
		if b.Number < n {
			return err
		}
		return nil
	}
}

func TestRetryableFailureIsSentAgainAfterBackoff(t *testing.T) {
	each(t, testBackoff, testBackoff, testBackoff, testBackoff)
}

func testBackoff[T any](t *testing.T, kind batchertest.Kind[T]) {
	for _, wait := range []bool{false, true} {
		set := retrying()
		set.WaitForResult = wait
		seen := &events{}
		set.Observer = seen
		r := newRig(t, kind, set, failing(5, errRefused))
		result := r.goSend(t.Context(), 100)[0]
		time.Sleep(10 * time.Second)
		require.EqualValues(t, 100, r.Stats().Retrying)
		require.EqualValues(t, 100, r.Stats().Held, "what waits for a retry stays within the bound")
		require.Zero(t, r.Stats().ExportsInFlight, "and takes no slot")
		require.Equal(t, wait, len(result) == 0)
		require.NoError(t, <-result)
		time.Sleep(time.Hour)
		require.Equal(t, []time.Duration{0, 1 * time.Second, 3 * time.Second, 7 * time.Second, 12 * time.Second, 17 * time.Second}, times(r))
		s := r.Stats()
		require.EqualValues(t, 5, s.Retries)
		require.Zero(t, s.Failed)
		require.Zero(t, seen.failed())
		require.Equal(t, batcher.Outcome{Fate: batcher.FateRetried, Err: errRefused, Cause: batcher.FailedRetryable, RetryIn: time.Second}, seen.outcomes[0])
		require.Equal(t, []int{1, 2, 3, 4, 5, 6}, seen.attempts())
		r.stop()
	}
}

func TestRetriesAreScatteredByTheRandomizationFactor(t *testing.T) {
	each(t, testJitter, testJitter, testJitter, testJitter)
}

// Of 50 batches that fail at the same instant, none comes back outside of half to one and a
// half of the pause, and they do not come back together.
func testJitter[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := retrying()
	set.QueueSize, set.MaxConcurrentExports = 5000, 50
	set.Retry.RandomizationFactor = 0.5
	r := newRig(t, kind, set, failing(50, errRefused))
	for range 50 {
		r.send(100)
	}
	time.Sleep(time.Minute)
	pauses := map[time.Duration]bool{}
	for _, pause := range times(r)[50:] {
		require.GreaterOrEqual(t, pause, time.Second/2)
		require.LessOrEqual(t, pause, time.Second*3/2)
		pauses[pause] = true
	}
	require.Greater(t, len(pauses), 25)
	r.stop()
}

func TestRetriesEndAtMaxElapsedTime(t *testing.T) {
	each(t, testMaxElapsed, testMaxElapsed, testMaxElapsed, testMaxElapsed)
}

func testMaxElapsed[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := retrying()
	set.WaitForResult = true
	set.Retry.MaxElapsedTime = 8 * time.Second
	r := newRig(t, kind, set, func(batchertest.Batch) error { return errRefused })
	began := time.Now()
	err := r.try(t.Context(), 100)
	require.Equal(t, 7*time.Second, time.Since(began), "the next one would be at 12 s")
	require.ErrorIs(t, err, errRefused)
	require.ErrorContains(t, err, "4 exports in 7s")
	require.False(t, consumererror.IsPermanent(err))
	require.EqualValues(t, 100, r.Stats().Failed[batcher.FailedRetryable])
	require.NoError(t, r.Shutdown(t.Context()))
}

func TestTheEndOfExportTimeoutIsRetried(t *testing.T) {
	each(t, testRetryTimeout, testRetryTimeout, testRetryTimeout, testRetryTimeout)
}

func testRetryTimeout[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := retrying()
	set.ExportTimeout = 10 * time.Second
	r := newRig(t, kind, set, func(b batchertest.Batch) error {
		if b.Number == 0 {
			<-b.Ctx.Done()
			return b.Ctx.Err()
		}
		return nil
	})
	r.send(100)
	time.Sleep(time.Minute)
	require.Equal(t, []time.Duration{0, 11 * time.Second}, times(r))
	r.stop()
}

func TestRetryHonoursWhatTheServerAsksFor(t *testing.T) {
	each(t, testThrottle, testThrottle, testThrottle, testThrottle)
}

func testThrottle[T any](t *testing.T, kind batchertest.Kind[T]) {
	busy, err := status.New(codes.ResourceExhausted, "busy").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(3 * time.Second)})
	require.NoError(t, err)
	for _, c := range []struct {
		name string
		err  error
		want time.Duration
	}{
		{"gRPC RetryInfo", busy.Err(), 3 * time.Second},
		{"wrapped", fmt.Errorf("export: %w", busy.Err()), 3 * time.Second},
		{"exporterhelper", fmt.Errorf("x: %w", throttled{errRefused, 90 * time.Second}), 90 * time.Second},
		{"shorter than the backoff", throttled{errRefused, time.Millisecond}, time.Second},
		{"none", errors.New("Throttle (soon), error: x"), time.Second},
	} {
		r := newRig(t, kind, retrying(), failing(1, c.err))
		r.send(100)
		time.Sleep(time.Hour)
		require.Equal(t, []time.Duration{0, c.want}, times(r), c.name)
		r.stop()
	}
}

// throttled reads like what exporterhelper.NewThrottleRetry returns.
type throttled struct {
	err   error
	delay time.Duration
}

func (t throttled) Error() string {
	return "Throttle (" + t.delay.String() + "), error: " + t.err.Error()
}

func (t throttled) Unwrap() error { return t.err }

func TestRetryKeepsTheOrderWhereItIsPromised(t *testing.T) {
	each(t, testRetryOrder, testRetryOrder, testRetryOrder, testRetryOrder)
}

// With one slot, or one per partition, nothing of the partition overtakes the batch that
// waits; another partition goes on.
func testRetryOrder[T any](t *testing.T, kind batchertest.Kind[T]) {
	for _, c := range []struct{ slots, perPartition int }{{1, 0}, {4, 1}} {
		set := retrying()
		set.MaxConcurrentExports, set.MaxConcurrentExportsPerPartition = c.slots, c.perPartition
		set.MetadataKeys = []string{"tenant"}
		set.Timeout = 100 * time.Millisecond
		r := newRig(t, kind, set, failing(2, errRefused))
		send := func(tenant string, n int) {
			ctx := client.NewContext(t.Context(), client.Info{Metadata: client.NewMetadata(map[string][]string{"tenant": {tenant}})})
			require.NoError(t, r.try(ctx, n))
			synctest.Wait()
		}
		send("a", 100) // fails at 0 and 1 s, arrives at 3 s
		send("a", 100)
		send("a", 7)
		require.NoError(t, r.Check())
		require.Equal(t, []int{100}, r.sink.Sizes())
		time.Sleep(2 * time.Second)
		send("b", 100)
		require.Equal(t, []int{100, 100, 100}, r.sink.Sizes(), "another partition is not held up")
		time.Sleep(time.Hour)
		next := []int{0, 0, 207, 0, 100, 200}
		for i, b := range r.sink.Batches() {
			require.Equal(t, next[i], b.IDs[0])
		}
		r.stop()
	}
}

func TestRetryDoesNotHoldUpWhatMayOvertake(t *testing.T) {
	each(t, testRetryOvertaken, testRetryOvertaken, testRetryOvertaken, testRetryOvertaken)
}

func testRetryOvertaken[T any](t *testing.T, kind batchertest.Kind[T]) {
	r := newRig(t, kind, retrying(), failing(1, errRefused))
	r.send(100)
	synctest.Wait()
	r.send(100)
	synctest.Wait()
	require.EqualValues(t, 100, r.Stats().Delivered)
	time.Sleep(time.Minute)
	r.stop()
}

func TestRetrySendsOnlyThePartThatFailed(t *testing.T) {
	each(t, testRetryPart, testRetryPart, testRetryPart, testRetryPart)
}

func testRetryPart[T any](t *testing.T, kind batchertest.Kind[T]) {
	for _, wait := range []bool{false, true} {
		set := retrying()
		set.WaitForResult = wait
		r := newRig(t, kind, set, func(b batchertest.Batch) error {
			if b.Number == 0 {
				return kind.Partial(errRefused, kind.Make(10, 20))
			}
			return nil
		})
		results := r.goSend(t.Context(), 50, 50)
		s := r.Stats()
		require.EqualValues(t, 80, s.Delivered)
		require.EqualValues(t, 20, s.Retrying)
		require.EqualValues(t, 20, s.Held, "what was taken has left the budget")
		for _, result := range results {
			require.NoError(t, <-result)
		}
		time.Sleep(time.Minute)
		require.Equal(t, []int{100, 20}, r.sink.Sizes())
		require.EqualValues(t, 100, r.Stats().Delivered)
		require.NoError(t, r.Shutdown(t.Context()))
	}
}

func TestLoneCallerRepeatsOnlyWhatIsLeftOfItsRequest(t *testing.T) {
	each(t, testWhatIsLeft, testWhatIsLeft, testWhatIsLeft, testWhatIsLeft)
}

// Of 100 items 80 are taken at once, and the others never, without being named again.
func testWhatIsLeft[T any](t *testing.T, kind batchertest.Kind[T]) {
	for _, callers := range []int{1, 2} {
		set := retrying()
		set.WaitForResult = true
		set.Retry.MaxElapsedTime = 5 * time.Second
		r := newRig(t, kind, set, func(b batchertest.Batch) error {
			if b.Number == 0 {
				return kind.Partial(errRefused, kind.Make(10, 20))
			}
			return errRefused
		})
		for _, result := range r.goSend(t.Context(), same(callers, 100/callers)...) {
			err := <-result
			require.ErrorIs(t, err, errRefused)
			require.ErrorContains(t, err, "3 exports in 3s")
			require.False(t, consumererror.IsPermanent(err))
			require.Equal(t, callers == 1, isPartial(err), "whose items are left is known of a lone caller only")
			if callers == 1 {
				ids := partial(t, kind, err)
				require.Len(t, ids, 20)
				require.Equal(t, 10, slices.Min(ids))
				require.Equal(t, 29, slices.Max(ids))
			}
		}
		require.EqualValues(t, 20, r.Stats().Failed[batcher.FailedRetryable])
		require.NoError(t, r.Shutdown(t.Context()))
	}
}

func TestPartThatIsNoPartIsTheWhole(t *testing.T) {
	each(t, testNoPart, testNoPart, testNoPart, testNoPart)
}

// An error that names nothing, everything, or more than there was, says nothing about parts.
func testNoPart[T any](t *testing.T, kind batchertest.Kind[T]) {
	for _, n := range []int{0, 100, 150} {
		for _, permanent := range []bool{false, true} {
			set := retrying()
			seen := &events{}
			set.Observer = seen
			r := newRig(t, kind, set, func(b batchertest.Batch) error {
				err := kind.Partial(errRefused, kind.Make(0, n))
				switch {
				case permanent:
					return consumererror.NewPermanent(err)
				case b.Number == 0:
					return err
				}
				return nil
			})
			r.send(100)
			time.Sleep(time.Minute)
			s := r.Stats()
			if permanent {
				require.EqualValues(t, 100, s.Failed[batcher.FailedPermanent])
				require.Equal(t, batcher.FateDivided, seen.outcomes[0].Fate)
			} else {
				require.Equal(t, []int{100, 100}, r.sink.Sizes())
				require.EqualValues(t, 100, s.Delivered)
			}
			require.NoError(t, r.Shutdown(t.Context()))
		}
	}
}

func TestCallersOfANamedPartShareItsRefusal(t *testing.T) {
	each(t, testRefusedPart, testRefusedPart, testRefusedPart, testRefusedPart)
}

// Whose items the part holds is not known, so it cannot be divided among callers.
func testRefusedPart[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := retrying()
	set.WaitForResult = true
	r := newRig(t, kind, set, func(b batchertest.Batch) error {
		if b.Number == 0 {
			return kind.Partial(errRefused, kind.Make(10, 20))
		}
		return poisoned(b.IDs[0])
	})
	for _, result := range r.goSend(t.Context(), 50, 50) {
		require.EqualError(t, <-result, poisoned(10).Error())
	}
	require.Equal(t, []int{100, 20}, r.sink.Sizes())
	require.EqualValues(t, 20, r.Stats().Failed[batcher.FailedPermanent])
	require.NoError(t, r.Shutdown(t.Context()))
}

func TestIsolatedPartThatFailsRetryablyIsSentAgain(t *testing.T) {
	each(t, testIsolatedRetry, testIsolatedRetry, testIsolatedRetry, testIsolatedRetry)
}

// Ten callers, of which number 5 is faulty. The first one alone fails retryably, and so do
// numbers 5 and 6 together.
func testIsolatedRetry[T any](t *testing.T, kind batchertest.Kind[T]) {
	for slots, answered := range map[int][]int{
		1: nil,                   // all wait behind the first
		3: {1, 2, 3, 4, 7, 8, 9}, // nobody waits but for its own
	} {
		set := retrying()
		set.WaitForResult, set.MaxConcurrentExports = true, slots
		bad := poison(55)
		failed := map[int]bool{} // by the first item
		r := newRig(t, kind, set, func(b batchertest.Batch) error {
			if n := len(b.IDs); (n == 10 && b.IDs[0] == 0 || n == 20 && b.IDs[0] == 50) && !failed[b.IDs[0]] {
				failed[b.IDs[0]] = true
				return errRefused
			}
			return bad(b)
		})
		results := r.goSend(t.Context(), same(10, 10)...)
		require.NoError(t, r.Check())
		for i, result := range results {
			require.Equal(t, slices.Contains(answered, i), len(result) == 1, "%d slots: caller %d", slots, i)
		}
		for i, result := range results {
			if i == 5 {
				require.EqualError(t, <-result, poisoned(55).Error())
			} else {
				require.NoError(t, <-result)
			}
		}
		require.Len(t, failed, 2)
		require.EqualValues(t, 2, r.Stats().Retries)
		require.NoError(t, r.Shutdown(t.Context()))
		require.Len(t, r.sink.Delivered(), 90)
		if slots > 1 {
			continue
		}
		next := 0
		for _, b := range r.sink.Batches() {
			if len(b.IDs) == 100 || bad(b) != nil || b.IDs[0] != next {
				continue
			}
			if next += len(b.IDs); next == 50 {
				next = 60
			}
		}
		require.Equal(t, 100, next, "in order")
	}
}

func TestShutdownSendsAgainAtOnceAndAsLongAsThereIsTime(t *testing.T) {
	each(t, testRetryShutdown, testRetryShutdown, testRetryShutdown, testRetryShutdown)
}

func testRetryShutdown[T any](t *testing.T, kind batchertest.Kind[T]) {
	for _, c := range []struct {
		name  string
		limit time.Duration
		fails int
		took  time.Duration
		want  []time.Duration
		lost  string
	}{
		{
			"recovers", time.Minute, 3, 2500 * time.Millisecond,
			[]time.Duration{0, 500 * time.Millisecond, 2500 * time.Millisecond, 6500 * time.Millisecond},
			"",
		},
		{
			"never recovers", 20 * time.Second, 100, 16 * time.Second,
			[]time.Duration{0, 500 * time.Millisecond, 2500 * time.Millisecond, 6500 * time.Millisecond, 11500 * time.Millisecond, 16500 * time.Millisecond},
			"0 in flight, 0 sealed, 0 retrying, 100 failed during the shutdown",
		},
		{
			"without a limit the next failure is final", 0, 100, 0,
			[]time.Duration{0, 500 * time.Millisecond},
			"0 in flight, 0 sealed, 0 retrying, 100 failed during the shutdown",
		},
	} {
		set := retrying()
		set.ShutdownTimeout = c.limit
		r := newRig(t, kind, set, failing(c.fails, errRefused))
		r.send(100)
		time.Sleep(500 * time.Millisecond)
		began := time.Now()
		err := r.Shutdown(t.Context())
		if c.lost == "" {
			require.NoError(t, err, c.name)
			c.took = 6 * time.Second
		} else {
			require.ErrorContains(t, err, c.lost, c.name)
			require.ErrorIs(t, err, errRefused, c.name)
		}
		require.Equal(t, c.took, time.Since(began), c.name)
		require.Equal(t, c.want, times(r), c.name)
	}
}

func TestShutdownCountsWhatStillWaitsForARetry(t *testing.T) {
	each(t, testRetryingLost, testRetryingLost, testRetryingLost, testRetryingLost)
}

// The retry is due just before the deadline, but the caller's context ends first.
func testRetryingLost[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := retrying()
	set.WaitForResult = true
	set.Retry.InitialInterval, set.Retry.MaxInterval = 10*time.Second, 10*time.Second
	r := newRig(t, kind, set, func(batchertest.Batch) error { return errRefused })
	result := r.goSend(t.Context(), 100)[0]
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan error, 1)
	go func() { stopped <- r.Shutdown(ctx) }()
	time.Sleep(5 * time.Second)
	require.EqualValues(t, 100, r.Stats().Retrying)
	cancel()
	require.ErrorContains(t, <-stopped, "100 items were not delivered: 0 in flight, 0 sealed, 100 retrying, 0 failed")
	require.ErrorIs(t, <-result, batcher.ErrShutdown)
	require.EqualValues(t, 100, r.Stats().Dropped[batcher.DroppedShutdown])
}
