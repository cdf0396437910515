package batcher_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/consumer/consumererror/xconsumererror"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
	"github.com/boundedbatch/boundedbatchprocessor/batcher/batchertest"
)

// The review of OpenTelemetry Rust's batch processors counted 2,560 records under a
// limit of 2,048: the queue plus a batch of 512 that had left it for its export.
func TestHangingDownstreamHoldsExactlyTheLimit(t *testing.T) {
	each(t, testExactLimit, testExactLimit, testExactLimit, testExactLimit)
}

func testExactLimit[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := defaults()
	set.QueueSize, set.SendBatchSize, set.SendBatchMaxSize = 2048, 512, 512
	set.MaxConcurrentExports = 1
	set.BlockOnOverflow = false
	g := newGate()
	r := newRig(t, kind, set, g.held)
	accepted := 0
	for range 10_000 {
		err := r.Consume(t.Context(), kind.Make(accepted, 1))
		if err == nil {
			accepted++
			continue
		}
		require.ErrorIs(t, err, batcher.ErrOverflow)
		require.False(t, consumererror.IsPermanent(err))
	}
	synctest.Wait()
	require.Equal(t, 2048, accepted)
	s := r.Stats()
	require.EqualValues(t, 2048, s.Held)
	require.EqualValues(t, 512, s.InFlight)
	require.EqualValues(t, 10_000-2048, s.Refused[batcher.RefusedOverflow])
	g.open()
	require.NoError(t, r.Shutdown(t.Context()))
	r.delivered(accepted)
}

func TestRoomComesBackWhenAnExportReturnsAndNotBefore(t *testing.T) {
	each(t, testRoom, testRoom, testRoom, testRoom)
}

func testRoom[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := defaults()
	set.QueueSize, set.MaxConcurrentExports = 200, 1
	gates := []gate{newGate(), newGate(), newGate()}
	r := newRig(t, kind, set, func(b batchertest.Batch) error { return gates[min(b.Number, 2)].wait(b.Ctx) })
	r.send(150) // one batch, in flight
	r.send(50)
	blocked := r.goTry(t.Context(), 120)
	time.Sleep(time.Hour)
	require.Equal(t, []int{150}, r.sink.Sizes())
	require.EqualValues(t, 1, r.Stats().WaitingCallers)
	require.Empty(t, blocked)
	gates[0].open()
	synctest.Wait()
	require.NoError(t, <-blocked)
	gates[1].open()
	gates[2].open()
	r.stop()
}

func TestBlockedCallersAreAdmittedFirstComeFirstServed(t *testing.T) {
	each(t, testFirstCome, testFirstCome, testFirstCome, testFirstCome)
}

func testFirstCome[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := defaults()
	set.QueueSize, set.MaxConcurrentExports = 100, 1
	g := newGate()
	r := newRig(t, kind, set, g.held)
	r.send(100)
	var blocked []<-chan error
	for i := range 20 {
		blocked = append(blocked, r.goTry(t.Context(), 60+i)) // no two of them fit at once
		synctest.Wait()
	}
	g.open()
	for _, result := range blocked {
		require.NoError(t, <-result)
	}
	r.stop()
	r.inOrder()
}

func TestBlockedCallerLeavesWhenItsContextEnds(t *testing.T) {
	each(t, testBlockedCanceled, testBlockedCanceled, testBlockedCanceled, testBlockedCanceled)
}

func testBlockedCanceled[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := defaults()
	set.QueueSize, set.MaxConcurrentExports = 100, 1
	g := newGate()
	r := newRig(t, kind, set, g.held)
	r.send(90)
	time.Sleep(2 * time.Second) // in flight
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	first := r.goTry(ctx, 80)
	synctest.Wait()
	second := r.goTry(t.Context(), 10) // fits, but behind the first
	synctest.Wait()
	require.Empty(t, second)
	err := <-first
	require.Equal(t, 50*time.Millisecond, time.Since(began))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.False(t, consumererror.IsPermanent(err))
	synctest.Wait()
	require.NoError(t, <-second, "the first no longer stands in its way")
	require.EqualValues(t, 80, r.Stats().Refused[batcher.RefusedCanceled])
	g.open()
	require.NoError(t, r.Shutdown(t.Context()))
	require.Len(t, r.sink.Delivered(), 100)
}

func TestEndedContextIsRefusedEvenIfThereIsRoom(t *testing.T) {
	each(t, testEndedContext, testEndedContext, testEndedContext, testEndedContext)
}

func testEndedContext[T any](t *testing.T, kind batchertest.Kind[T]) {
	r := newRig(t, kind, defaults(), nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, r.try(ctx, 5), context.Canceled)
	require.ErrorIs(t, r.try(ctx, 5000), context.Canceled)
	require.EqualValues(t, 5005, r.Stats().Refused[batcher.RefusedCanceled])
	require.Zero(t, r.Stats().Held)
}

func TestPressureSendsTheFullestBatchBeforeItsTick(t *testing.T) {
	each(t, testPressure, testPressure, testPressure, testPressure)
}

func testPressure[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := defaults()
	set.QueueSize, set.MaxConcurrentExports = 100, 1
	set.MetadataKeys = []string{"tenant"}
	r := newRig(t, kind, set, nil)
	began := time.Now()
	require.NoError(t, r.try(tenant("a"), 30))
	require.NoError(t, r.try(tenant("b"), 50))
	require.NoError(t, r.try(tenant("c"), 45), "does not fit until b has left")
	require.Zero(t, time.Since(began))
	synctest.Wait()
	require.Equal(t, []int{50}, r.sink.Sizes())
	require.EqualValues(t, 1, r.Stats().Batches[batcher.TriggerPressure])
	r.stop()
}

func TestPressureActsOnWhatAnAdmittedWaiterBrings(t *testing.T) {
	each(t, testPressureAgain, testPressureAgain, testPressureAgain, testPressureAgain)
}

// One caller after the other waits for all of the room. No batch gets full and no tick
// comes, so only pressure can move them on.
func testPressureAgain[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := defaults()
	set.QueueSize, set.SendBatchSize, set.Timeout = 100, 100, time.Hour
	r := newRig(t, kind, set, nil)
	began := time.Now()
	var results []<-chan error
	for range 50 {
		results = append(results, r.goTry(t.Context(), 60))
	}
	for _, result := range results {
		require.NoError(t, <-result)
	}
	require.Zero(t, time.Since(began))
	r.stop()
}

func TestRequestLargerThanTheBudgetWithoutBlockingIsPermanent(t *testing.T) {
	each(t, testTooLarge, testTooLarge, testTooLarge, testTooLarge)
}

func testTooLarge[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := defaults()
	set.BlockOnOverflow = false
	r := newRig(t, kind, set, nil)
	err := r.try(t.Context(), 1001)
	require.ErrorIs(t, err, batcher.ErrTooLarge)
	require.True(t, consumererror.IsPermanent(err))
	require.EqualError(t, err, "Permanent error: request too large: 1001 items exceed queue_size (1000) and block_on_overflow is off")
	require.EqualValues(t, 1001, r.Stats().Refused[batcher.RefusedTooLarge])
	require.NoError(t, r.try(t.Context(), 1000))
}

func TestRequestLargerThanTheBudgetIsAdmittedPieceByPiece(t *testing.T) {
	each(t, testPieces, testPieces, testPieces, testPieces)
}

func testPieces[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := defaults()
	set.SendBatchMaxSize = 150
	r := newRig(t, kind, set, func(batchertest.Batch) error {
		time.Sleep(time.Millisecond)
		return nil
	})
	r.send(10)
	r.send(25_000)
	r.stop()
	for _, n := range r.sink.Sizes() {
		require.LessOrEqual(t, n, 150)
	}
}

func TestPiecesDoNotOvertakeWhatWasAcceptedBefore(t *testing.T) {
	each(t, testPiecesOrder, testPiecesOrder, testPiecesOrder, testPiecesOrder)
}

func testPiecesOrder[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := defaults()
	set.MaxConcurrentExports = 1
	r := newRig(t, kind, set, nil)
	r.send(10) // pending when the large request comes
	r.send(5055)
	r.send(20)
	r.stop()
	r.inOrder()
}

// partial finds the data in an error that says which of its items were not accepted.
func partial[T any](t *testing.T, kind batchertest.Kind[T], err error) []int {
	t.Helper()
	var data any
	var td consumererror.Traces
	var ld consumererror.Logs
	var md consumererror.Metrics
	var pd xconsumererror.Profiles
	switch {
	case errors.As(err, &td):
		data = td.Data()
	case errors.As(err, &ld):
		data = ld.Data()
	case errors.As(err, &md):
		data = md.Data()
	case errors.As(err, &pd):
		data = batcher.NewProfilesData(pd.Data())
	}
	require.IsType(t, *new(T), data)
	ids, err := kind.IDs(data.(T))
	require.NoError(t, err)
	return ids
}

func TestPieceByPieceCutShortReturnsTheRest(t *testing.T) {
	each(t, testPiecesCut, testPiecesCut, testPiecesCut, testPiecesCut)
}

func testPiecesCut[T any](t *testing.T, kind batchertest.Kind[T]) {
	for _, c := range []struct {
		name  string
		end   func(r *rig[T], cancel func())
		cause error
	}{
		{"by its context", func(_ *rig[T], cancel func()) { cancel() }, context.Canceled},
		{"by shutdown", func(r *rig[T], _ func()) { go func() { _ = r.Shutdown(context.Background()) }() }, batcher.ErrShutdown},
	} {
		g := newGate()
		r := newRig(t, kind, defaults(), g.held)
		r.send(30)
		ctx, cancel := context.WithCancel(t.Context())
		result := r.goTry(ctx, 5000)
		time.Sleep(time.Hour) // as much as fits is in
		require.Empty(t, result)
		c.end(r, cancel)
		err := <-result
		require.ErrorIs(t, err, c.cause, c.name)
		require.False(t, consumererror.IsPermanent(err), c.name)
		rest := partial(t, kind, err)
		require.Equal(t, 5000-800, len(rest), "beside the 30 there is room for four times the whole batches in a quarter of 1000") //nolint:testifylint // Len prints them all
		g.open()
		require.NoError(t, r.Shutdown(t.Context()))
		got := r.sink.Delivered()
		for _, id := range rest {
			require.Zero(t, got[id], "%s: item %d both delivered and returned", c.name, id)
			got[id] = 1
		}
		require.Len(t, got, 5030, c.name)
		cancel()
	}
}
