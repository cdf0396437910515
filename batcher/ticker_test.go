package batcher_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
	"github.com/boundedbatch/boundedbatchprocessor/batcher/batchertest"
)

func TestNothingIsArmedBeforeThereIsData(t *testing.T) {
	each(t, testNothingArmed, testNothingArmed, testNothingArmed, testNothingArmed)
}

func testNothingArmed[T any](t *testing.T, kind batchertest.Kind[T]) {
	b, err := batcher.New(kind.Signal, defaults(), batchertest.NewSink(kind, nil).Consume)
	require.NoError(t, err)
	require.False(t, b.Armed())
	require.NoError(t, b.Start())
	time.Sleep(time.Hour)
	require.False(t, b.Armed())
	require.NoError(t, b.Consume(t.Context(), kind.Make(0, 1)))
	require.True(t, b.Armed())
	require.NoError(t, b.Shutdown(t.Context()))
	require.False(t, b.Armed())
}

func TestFirstTickIsOneTimeoutAfterTheFirstItem(t *testing.T) {
	each(t, testFirstTick, testFirstTick, testFirstTick, testFirstTick)
}

func testFirstTick[T any](t *testing.T, kind batchertest.Kind[T]) {
	for _, phase := range []time.Duration{0, 1, time.Millisecond, 999 * time.Millisecond, time.Second, 1500*time.Millisecond + 1} {
		r := newRig(t, kind, defaults(), nil)
		time.Sleep(phase)
		accepted := time.Now()
		r.send(1)
		time.Sleep(300 * time.Millisecond)
		r.send(1)
		time.Sleep(time.Hour)
		batches := r.sink.Batches()
		require.Len(t, batches, 1)
		require.Equal(t, time.Second, batches[0].At.Sub(accepted), "phase %v", phase)
		require.EqualValues(t, 1, r.Stats().Batches[batcher.TriggerTimeout])
		r.stop()
	}
}

func TestGridDoesNotDriftOverTenThousandTicks(t *testing.T) {
	each(t, testNoDrift, testNoDrift, testNoDrift, testNoDrift)
}

// Exports take two and a half intervals. Each item arrives at another moment of its
// interval, so that a grid restarted at an arrival or at an export would show.
func testNoDrift[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := defaults()
	set.MaxConcurrentExports = 3
	r := newRig(t, kind, set, func(batchertest.Batch) error {
		time.Sleep(2500 * time.Millisecond)
		return nil
	})
	random := rand.New(rand.NewPCG(1, 2))
	t0 := time.Now()
	r.send(1)
	const ticks = 10_000
	for k := 1; k < ticks; k++ {
		arrival := t0.Add(time.Duration(k)*set.Timeout + 1 + time.Duration(random.Int64N(int64(set.Timeout)-1)))
		time.Sleep(time.Until(arrival))
		r.send(1)
	}
	r.stopAfter(10 * time.Second)
	batches := r.sink.Batches()
	require.Len(t, batches, ticks)
	for k, b := range batches {
		require.Equal(t, time.Duration(k+1)*set.Timeout, b.At.Sub(t0), "tick %d", k+1)
	}
}

func TestItemDuringAnExportLeavesWhenASlotFreesOrAtItsTick(t *testing.T) {
	each(t, testDuringExport, testDuringExport, testDuringExport, testDuringExport)
}

func testDuringExport[T any](t *testing.T, kind batchertest.Kind[T]) {
	for _, c := range []struct {
		slots int
		want  time.Duration // after the start of the first export
	}{
		{1, 1500 * time.Millisecond}, // sealed by the tick at 1 s, the slot frees at 1.5 s
		{2, time.Second},
	} {
		set := defaults()
		set.MaxConcurrentExports = c.slots
		r := newRig(t, kind, set, func(batchertest.Batch) error {
			time.Sleep(1500 * time.Millisecond)
			return nil
		})
		r.send(1)
		time.Sleep(time.Second + 10*time.Millisecond) // the export began 10 ms ago
		r.send(1)
		time.Sleep(time.Minute)
		batches := r.sink.Batches()
		require.Len(t, batches, 2)
		require.Equal(t, c.want, batches[1].At.Sub(batches[0].At), "%d slots", c.slots)
		r.stop()
	}
}

func TestGridGoesOnAfterATickAndStopsWhenATickFindsNothing(t *testing.T) {
	each(t, testGridGoesOn, testGridGoesOn, testGridGoesOn, testGridGoesOn)
}

func testGridGoesOn[T any](t *testing.T, kind batchertest.Kind[T]) {
	r := newRig(t, kind, defaults(), nil)
	t0 := time.Now()
	r.send(1)
	time.Sleep(time.Second + 10*time.Millisecond)
	r.send(1) // leaves at the grid's next tick, not a timeout from now
	time.Sleep(time.Second)
	batches := r.sink.Batches()
	require.Len(t, batches, 2)
	require.Equal(t, 2*time.Second, batches[1].At.Sub(t0))

	require.True(t, r.Armed(), "the tick at 3 s is still to come")
	require.EqualValues(t, 1, r.Stats().LivePartitions)
	time.Sleep(time.Second)
	synctest.Wait()
	require.False(t, r.Armed(), "it found nothing")
	require.Zero(t, r.Stats().LivePartitions)

	time.Sleep(123 * time.Millisecond)
	t1 := time.Now()
	r.send(1) // starts a grid of its own
	time.Sleep(time.Minute)
	require.Equal(t, time.Second, r.sink.Batches()[2].At.Sub(t1))
	r.stop()
}

func TestSizeFlushRestartsTheGridWithWhatRemains(t *testing.T) {
	each(t, testSizeRestarts, testSizeRestarts, testSizeRestarts, testSizeRestarts)
}

func testSizeRestarts[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := defaults()
	set.SendBatchMaxSize = 100
	r := newRig(t, kind, set, nil)
	r.send(50)
	time.Sleep(600 * time.Millisecond)
	flush := time.Now()
	r.send(70) // 20 remain
	time.Sleep(time.Minute)
	batches := r.sink.Batches()
	require.Len(t, batches, 2)
	require.Equal(t, time.Duration(0), batches[0].At.Sub(flush))
	require.Equal(t, time.Second, batches[1].At.Sub(flush))

	r.send(40)
	require.True(t, r.Armed())
	r.send(60) // none remain
	require.False(t, r.Armed())
	r.stop()
}

func TestTimeoutZeroSealsWheneverASlotIsFree(t *testing.T) {
	each(t, testTimeoutZero, testTimeoutZero, testTimeoutZero, testTimeoutZero)
}

func testTimeoutZero[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := defaults()
	set.Timeout = 0
	set.MaxConcurrentExports = 1
	g := newGate()
	r := newRig(t, kind, set, g.held)
	r.send(3)
	synctest.Wait() // it leaves at once
	for range 4 {
		r.send(3) // gather meanwhile
	}
	synctest.Wait()
	require.Equal(t, []int{3}, r.sink.Sizes())
	require.False(t, r.Armed())
	g.open()
	synctest.Wait()
	require.Equal(t, []int{3, 12}, r.sink.Sizes())
	require.EqualValues(t, 2, r.Stats().Batches[batcher.TriggerIdle])
	r.stop()
}

func TestNoItemIsPendingLongerThanTheTimeout(t *testing.T) {
	each(t, testAge, testAge, testAge, testAge)
}

// A sink with slots for everybody sees a batch at the instant it is sealed.
func testAge[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := defaults()
	set.SendBatchMaxSize = 130
	set.MaxConcurrentExports = 1000
	set.QueueSize = 1 << 20
	r := newRig(t, kind, set, nil)
	random := rand.New(rand.NewPCG(3, 4))
	var accepted []time.Time
	for range 300 {
		n := 1 + random.IntN(60)
		for range n {
			accepted = append(accepted, time.Now())
		}
		r.send(n)
		time.Sleep(time.Duration(random.Int64N(int64(time.Second))))
	}
	r.stopAfter(2 * time.Second)
	for _, b := range r.sink.Batches() {
		for _, id := range b.IDs {
			require.LessOrEqual(t, b.At.Sub(accepted[id]), set.Timeout, "item %d", id)
		}
	}
}

// stopAfter is stop once nothing more is due.
func (r *rig[T]) stopAfter(d time.Duration) {
	r.t.Helper()
	time.Sleep(d)
	s := r.Stats()
	require.Zero(r.t, s.Held, "%+v", s)
	require.NoError(r.t, r.Shutdown(context.Background()))
	r.delivered(r.next)
}
