package batcher_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/client"
	"go.opentelemetry.io/collector/consumer/consumererror"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
	"github.com/boundedbatch/boundedbatchprocessor/batcher/batchertest"
)

// tenantOf is the tenant under which a batch was exported.
func tenantOf(b batchertest.Batch) string {
	return client.FromContext(b.Ctx).Metadata.Get("tenant")[0]
}

func TestPartitionsLeaveSlotsToOthers(t *testing.T) {
	each(t, testSlots, testSlots, testSlots, testSlots)
}

func testSlots[T any](t *testing.T, kind batchertest.Kind[T]) {
	for _, c := range []struct {
		name          string
		perPartition  int
		tenants       int // 0: no keys
		want          map[string]int
		whileShutting int // exports at once
	}{
		{name: "without keys", want: map[string]int{"": 10}, whileShutting: 10},
		{name: "without keys, with a limit", perPartition: 3, want: map[string]int{"": 3}, whileShutting: 3},
		{name: "one", tenants: 1, want: map[string]int{"0": 5}, whileShutting: 10},
		{name: "three", tenants: 3, want: map[string]int{"0": 5, "1": 3, "2": 1}, whileShutting: 10},
		{name: "a fourth takes what is left", tenants: 4, want: map[string]int{"0": 5, "1": 3, "2": 1, "3": 1}, whileShutting: 10},
		{name: "nine, one each", perPartition: 1, tenants: 9, want: map[string]int{
			"0": 1, "1": 1, "2": 1, "3": 1, "4": 1, "5": 1, "6": 1, "7": 1, "8": 1,
		}, whileShutting: 9},
		{name: "a limit is a limit and nothing more", perPartition: 7, tenants: 2, want: map[string]int{"0": 7, "1": 3}, whileShutting: 10},
	} {
		set := defaults()
		set.MaxConcurrentExports, set.MaxConcurrentExportsPerPartition = 10, c.perPartition
		set.QueueSize, set.SendBatchSize = 100_000, 10
		if c.tenants > 0 {
			set.MetadataKeys = []string{"tenant"}
		}
		g := newGate()
		r := newRig(t, kind, set, g.held)
		for i := range max(1, c.tenants) {
			for range 20 {
				require.NoError(t, r.try(tenant(fmt.Sprint(i)), 10))
			}
			synctest.Wait()
		}
		got := map[string]int{}
		for _, b := range r.sink.Batches() {
			if c.tenants == 0 {
				got[""]++
			} else {
				got[tenantOf(b)]++
			}
		}
		require.Equal(t, c.want, got, c.name)
		done := make(chan error)
		go func() { done <- r.Shutdown(t.Context()) }()
		synctest.Wait()
		require.EqualValues(t, c.whileShutting, r.Stats().ExportsInFlight, c.name)
		g.open()
		require.NoError(t, <-done, c.name)
		r.delivered(r.next)
	}
}

func TestSlotGoesToThePartitionWithTheFewestExports(t *testing.T) {
	each(t, testFewest, testFewest, testFewest, testFewest)
}

// Four slots, all of them taken, two by a, and batches of all wait. The exports end in the
// order in which they began: b is first, since it has waited for longer than c and has fewer
// than a; then a has none.
func testFewest[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := defaults()
	set.MetadataKeys = []string{"tenant"}
	set.MaxConcurrentExports, set.MaxConcurrentExportsPerPartition = 4, 3
	set.SendBatchSize = 10
	exports := make(chan chan struct{}, 100)
	r := newRig(t, kind, set, func(batchertest.Batch) error {
		end := make(chan struct{})
		exports <- end
		<-end
		return nil
	})
	for _, who := range []string{"a", "a", "b", "c", "a", "a", "b", "b", "c"} {
		require.NoError(t, r.try(tenant(who), 10))
		synctest.Wait()
	}
	for len(exports) > 0 {
		close(<-exports)
		synctest.Wait()
	}
	var order []string
	for _, b := range r.sink.Batches() {
		order = append(order, tenantOf(b))
	}
	require.Equal(t, []string{"a", "a", "b", "c", "b", "a", "c", "a", "b"}, order)
	r.stop()
}

func TestRequestsJoinTheBatchThatWaitsForASlot(t *testing.T) {
	each(t, testJoinLast, testJoinLast, testJoinLast, testJoinLast)
}

// A downstream that takes five ticks for an export gets few large batches, not one for
// each tick.
func testJoinLast[T any](t *testing.T, kind batchertest.Kind[T]) {
	for _, waits := range []bool{false, true} {
		set := defaults()
		set.MaxConcurrentExports, set.WaitForResult = 1, waits
		g := newGate()
		r := newRig(t, kind, set, g.held)
		var results []<-chan error
		for range 16 { // at 100 the batch is full and the next one begins
			results = append(results, r.goTry(t.Context(), 9))
			time.Sleep(set.Timeout + 1)
		}
		s := r.Stats()
		require.EqualValues(t, 9, s.InFlight)
		require.EqualValues(t, 15*9, s.Sealed+s.Pending)
		require.EqualValues(t, 3, s.Batches[batcher.TriggerTimeout])
		require.False(t, r.Armed())
		g.open()
		for _, result := range results {
			require.NoError(t, <-result)
		}
		r.stop()
		require.Equal(t, []int{9, 99, 36}, r.sink.Sizes())
	}
}

func TestNothingOvertakesByJoiningABatchThatWaitsForASlot(t *testing.T) {
	each(t, testJoinOrder, testJoinOrder, testJoinOrder, testJoinOrder)
}

func testJoinOrder[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := defaults()
	set.MaxConcurrentExports = 1
	g := newGate()
	r := newRig(t, kind, set, g.held)
	for _, items := range []int{5, 10} {
		r.send(items)
		time.Sleep(set.Timeout + 1)
	}
	r.send(95) // does not fit, and is open
	r.send(8)  // would fit into the one with 10, and fills the open one
	g.open()
	r.stop()
	require.Equal(t, []int{5, 10, 103}, r.sink.Sizes())
	r.inOrder()
}

func TestNothingJoinsABatchThatIsBeingFilledUp(t *testing.T) {
	each(t, testJoinFilling, testJoinFilling, testJoinFilling, testJoinFilling)
}

func testJoinFilling[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := defaults()
	set.SendBatchMaxSize, set.MaxConcurrentExports = set.SendBatchSize, 1
	signal := slowCut[T]{kind.Signal, make(chan struct{}, 1), newGate()}
	sink := batchertest.NewSink(kind, nil)
	b, err := batcher.New(signal, set, sink.Consume)
	require.NoError(t, err)
	require.NoError(t, b.Start())
	require.NoError(t, b.Consume(t.Context(), kind.Make(0, 50)))
	cut := make(chan error)
	go func() { cut <- b.Consume(t.Context(), kind.Make(50, 120)) }()
	<-signal.cutting
	require.NoError(t, b.Consume(t.Context(), kind.Make(170, 10)))
	signal.gate.open()
	require.NoError(t, <-cut)
	require.NoError(t, b.Shutdown(t.Context()))
	require.NoError(t, sink.Err())
	require.Equal(t, []int{100, 80}, sink.Sizes())
	require.Len(t, sink.Delivered(), 180)
}

func TestNothingJoinsAPartOfABatchThatWaitsForASlot(t *testing.T) {
	each(t, testJoinPart, testJoinPart, testJoinPart, testJoinPart)
}

// One of a's items is refused. While the rest of its batch waits for the slot, which b has,
// a sends on.
func testJoinPart[T any](t *testing.T, kind batchertest.Kind[T]) {
	for _, retries := range []bool{false, true} {
		set := defaults()
		set.MaxConcurrentExports, set.MetadataKeys = 1, []string{"tenant"}
		cause := consumererror.NewPermanent(errRefused)
		if retries {
			set.Retry = batcher.Retry{Enabled: true, InitialInterval: time.Nanosecond, Multiplier: 1, MaxInterval: time.Second}
			cause = errRefused
		}
		exports := make(chan chan error, 100)
		r := newRig(t, kind, set, func(batchertest.Batch) error {
			end := make(chan error)
			exports <- end
			return <-end
		})
		end := func(err error) {
			synctest.Wait()
			next := <-exports
			next <- err
			synctest.Wait()
		}
		for range 3 {
			require.NoError(t, r.try(tenant("a"), 5))
		}
		time.Sleep(set.Timeout + 1)
		require.NoError(t, r.try(tenant("b"), 5))
		time.Sleep(set.Timeout + 1)
		end(cause) // b has the slot now
		time.Sleep(time.Minute)
		require.NoError(t, r.try(tenant("a"), 5))
		time.Sleep(set.Timeout + 1)
		for r.Stats().Held > 0 {
			end(nil)
		}
		r.stop()
		for _, n := range r.sink.Sizes() {
			require.LessOrEqual(t, n, 15)
		}
	}
}

func TestPressureForgetsWhatWasWithdrawn(t *testing.T) {
	each(t, testWithdrawnPressure, testWithdrawnPressure, testWithdrawnPressure, testWithdrawnPressure)
}

// a's batch was the fullest; then one of its callers leaves, and b's is.
func testWithdrawnPressure[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := defaults()
	set.QueueSize, set.MaxConcurrentExports = 100, 1
	set.MetadataKeys, set.WaitForResult = []string{"tenant"}, true
	g := newGate()
	r := newRig(t, kind, set, g.held)
	ctx, cancel := context.WithCancel(tenant("a"))
	var results []<-chan error
	leaves := r.goTry(ctx, 40)
	results = append(results, r.goTry(tenant("a"), 8), r.goTry(tenant("b"), 20))
	synctest.Wait()
	cancel()
	require.ErrorIs(t, <-leaves, context.Canceled)
	results = append(results, r.goTry(tenant("c"), 65))
	synctest.Wait()
	require.Equal(t, []int{20}, r.sink.Sizes())
	g.open()
	for _, result := range results {
		require.NoError(t, <-result)
	}
}
