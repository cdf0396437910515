package batcher_test

import (
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/client"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
	"github.com/boundedbatch/boundedbatchprocessor/batcher/batchertest"
)

func TestGroupCommitCostsALoneCallerOnlyTheExport(t *testing.T) {
	eachAlone(t, testLoneCaller, testLoneCaller, testLoneCaller, testLoneCaller)
}

func testLoneCaller[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := waiting()
	set.FlushWhenIdle = true
	r := newRig(t, kind, set, func(batchertest.Batch) error { time.Sleep(time.Millisecond); return nil })
	began := time.Now()
	for range 100 {
		r.send(3)
	}
	require.Equal(t, 100*time.Millisecond, time.Since(began))
	require.EqualValues(t, 100, r.Stats().Batches[batcher.TriggerIdle])
	require.False(t, r.Armed())
	r.stop()
}

func TestGroupCommitMergesConcurrentCallers(t *testing.T) {
	eachAlone(t, testMerged, testMerged, testMerged, testMerged)
}

func testMerged[T any](t *testing.T, kind batchertest.Kind[T]) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // with more it depends on how fast each of them is
	const callers, rounds = 64, 10
	set := waiting()
	set.FlushWhenIdle = true
	set.SendBatchSize = 1000
	r := newRig(t, kind, set, func(batchertest.Batch) error { time.Sleep(10 * time.Millisecond); return nil })
	began := time.Now()
	done := make(chan error, callers)
	for c := range callers {
		requests := make([]T, rounds)
		for i := range requests {
			requests[i] = kind.Make((c*rounds+i)*7, 7)
		}
		go func() {
			for _, data := range requests {
				if err := r.Consume(t.Context(), data); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range callers {
		require.NoError(t, <-done)
	}
	// All are back before the next batch leaves, but in the beginning and in the end.
	require.LessOrEqual(t, time.Since(began), rounds*15*time.Millisecond)
	require.LessOrEqual(t, len(r.sink.Batches()), rounds*3/2)
	require.Equal(t, 1, r.sink.MostAtOnce(), "while one is in flight the others gather")
	require.NoError(t, r.Shutdown(t.Context()))
	r.delivered(callers * rounds * 7)
}

func TestGroupCommitIsEachPartitionsOwn(t *testing.T) {
	eachAlone(t, testGroupPartitions, testGroupPartitions, testGroupPartitions, testGroupPartitions)
}

// Two slots, three tenants: a tenant with nothing on its way goes as soon as a slot is
// free, in the order in which the tenants came; one with something in flight does not.
func testGroupPartitions[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := defaults()
	set.FlushWhenIdle = true
	set.MetadataKeys = []string{"tenant"}
	gates := []gate{newGate(), newGate(), newGate(), newGate()}
	r := newRig(t, kind, set, func(b batchertest.Batch) error { <-gates[b.Number]; return nil })
	send := func(tenant string) {
		ctx := client.NewContext(t.Context(), client.Info{Metadata: client.NewMetadata(map[string][]string{"tenant": {tenant}})})
		require.NoError(t, r.try(ctx, 1))
		synctest.Wait()
		require.NoError(t, r.Check())
	}
	of := func(batch int) string {
		return client.FromContext(r.sink.Batches()[batch].Ctx).Metadata.Get("tenant")[0]
	}
	send("a") // takes a slot
	send("a") // gathers
	send("b") // takes the other
	send("c") // waits for a slot
	send("c")
	require.Equal(t, []int{1, 1}, r.sink.Sizes())
	gates[1].open() // b is through
	synctest.Wait()
	require.Equal(t, []int{1, 1, 2}, r.sink.Sizes())
	require.Equal(t, "c", of(2))
	gates[0].open()
	synctest.Wait()
	require.Equal(t, "a", of(3))
	gates[2].open()
	gates[3].open()
	r.stop()
}

func TestGroupCommitKeepsTheTimeout(t *testing.T) {
	eachAlone(t, testGroupTimeout, testGroupTimeout, testGroupTimeout, testGroupTimeout)
}

func testGroupTimeout[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := defaults()
	set.FlushWhenIdle = true
	g := newGate()
	r := newRig(t, kind, set, g.held)
	r.send(1)
	synctest.Wait() // in flight: what came before would leave with it
	r.send(2)
	time.Sleep(time.Second)
	synctest.Wait()
	require.Equal(t, []int{1, 2}, r.sink.Sizes(), "a busy partition goes on with its ticks")
	g.open()
	r.stop()
}

func TestGroupCommitDoesNotHammerAFailingDownstream(t *testing.T) {
	eachAlone(t, testGroupRetry, testGroupRetry, testGroupRetry, testGroupRetry)
}

// While a batch waits for its retry its partition is not idle: what comes gathers.
func testGroupRetry[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := retrying()
	set.FlushWhenIdle = true
	set.Timeout = 2 * time.Second
	r := newRig(t, kind, set, failing(1, errRefused))
	r.send(1)
	synctest.Wait()
	for range 9 {
		r.send(1)
	}
	time.Sleep(999 * time.Millisecond)
	require.Equal(t, []int{1}, r.sink.Sizes())
	time.Sleep(time.Millisecond)
	synctest.Wait()
	require.Equal(t, []int{1, 1, 9}, r.sink.Sizes())
	r.stop()
}
