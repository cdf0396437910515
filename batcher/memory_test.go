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

// heap is the estimate for that many items, from an identity on.
func heap[T any](kind batchertest.Kind[T], first, items int) int {
	return kind.Heap(kind.Make(first, items))
}

func TestMemoryAndItemsAreBothLimited(t *testing.T) {
	each(t, testBothLimits, testBothLimits, testBothLimits, testBothLimits)
}

// Producers push for ever while downstream hangs. What is held comes close to one of the
// limits, whichever is reached first, and never exceeds any. Once downstream goes on
// everything arrives.
func testBothLimits[T any](t *testing.T, kind batchertest.Kind[T]) {
	per := heap(kind, 0, 700) / 700 // of an item
	for _, c := range []struct {
		name          string
		items, memory int
		memoryFirst   bool
	}{
		{"memory", 1000, 300 * per, true},
		{"items", 300, 1000 * heap(kind, 5, 1), false},
	} {
		for _, size := range []int{1, 5, 40, 120} {
			for _, waits := range []bool{false, true} {
				set := defaults()
				set.SendBatchSize, set.QueueSize, set.MemoryLimit, set.WaitForResult = 20, c.items, c.memory, waits
				hold := newGate()
				r := newRig(t, kind, set, hold.held)
				var results []<-chan error
				for range 2000 / size {
					results = append(results, r.goTry(t.Context(), size))
					synctest.Wait()
					s := r.Stats()
					require.LessOrEqual(t, s.HeldBytes, s.CapacityBytes)
					require.LessOrEqual(t, s.Held, s.Capacity)
					require.NoError(t, r.Check())
				}
				time.Sleep(time.Minute)
				s := r.Stats()
				require.EqualValues(t, c.memory, s.CapacityBytes)
				require.Positive(t, s.WaitingCallers)
				if slack := int64(2 * heap(kind, 5, size)); c.memoryFirst {
					require.Greater(t, s.HeldBytes, s.CapacityBytes-slack, "%s, requests of %d", c.name, size)
				} else {
					require.Greater(t, s.Held, s.Capacity-int64(size), "%s, requests of %d", c.name, size)
				}
				hold.open()
				for _, result := range results {
					require.NoError(t, <-result)
				}
				r.stop()
				require.Zero(t, r.Stats().HeldBytes)
			}
		}
	}
}

func TestRequestLargerThanMemoryIsAdmittedInPieces(t *testing.T) {
	each(t, testMemoryPieces, testMemoryPieces, testMemoryPieces, testMemoryPieces)
}

func testMemoryPieces[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := defaults()
	set.QueueSize, set.SendBatchSize, set.SendBatchMaxSize, set.MaxConcurrentExports = 100_000, 50, 50, 1
	set.MemoryLimit = heap(kind, 0, 300)
	most := int64(0)
	var r *rig[T]
	r = newRig(t, kind, set, func(batchertest.Batch) error {
		s := r.Stats()
		most = max(most, s.HeldBytes)
		time.Sleep(time.Millisecond)
		return nil
	})
	r.send(5000)
	r.stop()
	require.LessOrEqual(t, most, int64(set.MemoryLimit))
	require.Greater(t, most, int64(set.MemoryLimit/2))

	// Cut short, the sender gets back what was not accepted.
	hold := newGate()
	r = newRig(t, kind, set, hold.held)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err := r.try(ctx, 5000)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	rest := partial(t, kind, err)
	require.EqualValues(t, 5000-len(rest), r.Stats().Accepted)
	require.Greater(t, len(rest), 4600)
	require.Less(t, len(rest), 5000)
	hold.open()
	require.NoError(t, r.Shutdown(t.Context()))
	r.delivered(5000 - len(rest))

	// Who does not wait is refused for good.
	set.BlockOnOverflow = false
	r = newRig(t, kind, set, nil)
	err = r.try(t.Context(), 5000)
	require.ErrorIs(t, err, batcher.ErrTooLarge)
	require.True(t, consumererror.IsPermanent(err))
	require.ErrorContains(t, err, fmt.Sprintf("which exceed memory_limit (%d), and block_on_overflow is off", set.MemoryLimit))
	require.NoError(t, r.Shutdown(t.Context()))
}

func TestRefusalForMemoryIsRetryable(t *testing.T) {
	each(t, testMemoryRefusal, testMemoryRefusal, testMemoryRefusal, testMemoryRefusal)
}

func testMemoryRefusal[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := defaults()
	set.MemoryLimit, set.BlockOnOverflow = heap(kind, 0, 40)+heap(kind, 40, 1)-1, false
	hold := newGate()
	r := newRig(t, kind, set, hold.held)
	r.send(40)
	err := r.try(t.Context(), 1)
	r.next--
	require.ErrorIs(t, err, batcher.ErrOverflow)
	require.False(t, consumererror.IsPermanent(err))
	require.EqualError(t, err, fmt.Sprintf("no room: %d of %d bytes (memory_limit) are held, %d more do not fit",
		heap(kind, 0, 40), set.MemoryLimit, heap(kind, 40, 1)))
	hold.open()
	time.Sleep(2 * time.Second)
	r.send(1)
	r.stop()
}

// An item that is heavier than all that may be held is lost alone, as one that is larger than
// a batch may be.
func TestItemThatIsTooHeavyIsLostAlone(t *testing.T) {
	each(t, testTooHeavy, testTooHeavy, testTooHeavy, testTooHeavy)
}

func testTooHeavy[T any](t *testing.T, kind batchertest.Kind[T]) {
	for _, waits := range []bool{false, true} {
		set := defaults()
		set.WaitForResult = waits
		set.MemoryLimit = heap(kind, 0, 1) / 2
		r := newRig(t, kind, set, nil)
		for _, n := range []int{1, 20} {
			err := r.try(t.Context(), n)
			require.ErrorIs(t, err, batcher.ErrItemTooLarge)
			require.True(t, consumererror.IsPermanent(err))
			exceed := "exceed"
			if kind.Name() == "profiles" {
				exceed = "are in profiles that exceed"
			}
			require.ErrorContains(t, err, fmt.Sprintf("%d of %[1]d items %s memory_limit (%d) each, the largest takes about ", n, exceed, set.MemoryLimit))
		}
		require.NoError(t, r.Shutdown(t.Context()))
		require.Empty(t, r.sink.Batches())
		require.EqualValues(t, 21, r.Stats().Dropped[batcher.DroppedItemTooLarge])
	}
}

// Where batches are copied for a downstream that changes its data, there must be room for
// both.
func TestCopiesCountInMemory(t *testing.T) {
	each(t, testCopiesCount, testCopiesCount, testCopiesCount, testCopiesCount)
}

func testCopiesCount[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := defaults()
	set.MemoryLimit, set.NextMutates, set.WaitForResult = 1<<30, true, true
	hold := newGate()
	r := newRig(t, kind, set, hold.held)
	large, small := r.goTry(t.Context(), 30), r.goTry(t.Context(), 3)
	synctest.Wait()
	require.EqualValues(t, 2*heap(kind, 0, 30)+2*heap(kind, 30, 3), r.Stats().HeldBytes)
	hold.open()
	require.NoError(t, <-large)
	require.NoError(t, <-small)
	r.stop()
}

// A request of items that take more than a quarter of the limit each, which is what pieces
// usually are.
func TestHeavyItemsAreAdmittedOneByOne(t *testing.T) {
	each(t, testHeavyItems, testHeavyItems, testHeavyItems, testHeavyItems)
}

func testHeavyItems[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := defaults()
	for id := range 40 {
		set.MemoryLimit = max(set.MemoryLimit, 3*heap(kind, id, 1)/2)
	}
	r := newRig(t, kind, set, nil)
	r.send(40)
	r.stop()
}

// What a caller withdraws leaves the budget and its batch: there is room for others in both.
func TestWhatIsWithdrawnHasNoSize(t *testing.T) {
	each(t, testWithdrawnSize, testWithdrawnSize, testWithdrawnSize)
}

func testWithdrawnSize[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := defaults()
	set.WaitForResult, set.MemoryLimit = true, 1<<20
	set.SendBatchMaxBytes = encoded(kind, 0, 5) + encoded(kind, 45, 5) + 1
	r := newRig(t, kind, set, nil)
	kept := r.goTry(t.Context(), 5)
	synctest.Wait()
	held := r.Stats().HeldBytes
	for range 4 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		withdrawn := r.goTry(ctx, 1)
		require.ErrorIs(t, <-withdrawn, context.DeadlineExceeded)
		cancel()
		require.Equal(t, held, r.Stats().HeldBytes)
	}
	r.next = 45
	last := r.goTry(t.Context(), 5)
	require.NoError(t, <-kept)
	require.NoError(t, <-last)
	require.NoError(t, r.Shutdown(t.Context()))
	require.Equal(t, []int{10}, r.sink.Sizes(), "no batch was full")
	require.Zero(t, r.Stats().HeldBytes)
}

func TestStuckTenantsLeaveMemoryToOthers(t *testing.T) {
	each(t, testStuckMemory, testStuckMemory, testStuckMemory, testStuckMemory)
}

// Nine tenants are stuck, each with an export, and push for ever. Memory is what is scarce. A
// newcomer's request, which takes more than what is left, arrives within two timeouts.
func testStuckMemory[T any](t *testing.T, kind batchertest.Kind[T]) {
	const tenants = 9
	set := defaults()
	set.MetadataKeys, set.MaxConcurrentExports, set.MaxConcurrentExportsPerPartition = []string{"tenant"}, 10, 1
	set.SendBatchSize, set.QueueSize, set.MemoryLimit = 20, 1_000_000, heap(kind, 0, 10_000)
	hold := newGate()
	r := newRig(t, kind, set, func(b batchertest.Batch) error {
		if client.FromContext(b.Ctx).Metadata.Get("tenant")[0][0] == 's' {
			return hold.wait(b.Ctx)
		}
		return nil
	})
	var results []<-chan error
	for i := range tenants {
		stuck := tenant(fmt.Sprint("s", i))
		for r.Stats().WaitingCallers == int64(i) { // until it waits, too
			results = append(results, r.goTry(stuck, 10))
			synctest.Wait()
		}
	}
	for i := range 10 {
		s := r.Stats()
		require.Less(t, s.CapacityBytes-s.HeldBytes, int64(heap(kind, r.next, 300)), "there is room for all of it")
		began := time.Now()
		require.NoError(t, r.try(tenant(fmt.Sprint("n", i%2)), 300))
		time.Sleep(2*set.Timeout - time.Since(began))
		delivered := r.sink.Delivered()
		for id := r.next - 300; id < r.next; id++ {
			require.Equal(t, 1, delivered[id])
		}
		require.NoError(t, r.Check())
	}
	hold.open()
	for _, result := range results {
		require.NoError(t, <-result)
	}
	r.stop()
}

// What an export that ignores its context has in it is given up, and so are its bytes.
func TestMemoryIsGivenBackWhenTheTimeForAShutdownIsOver(t *testing.T) {
	each(t, testMemoryAtShutdown, testMemoryAtShutdown, testMemoryAtShutdown, testMemoryAtShutdown)
}

func testMemoryAtShutdown[T any](t *testing.T, kind batchertest.Kind[T]) {
	for _, keys := range [][]string{nil, {"tenant"}} { // a tenant takes some by itself
		set := defaults()
		set.MemoryLimit, set.MaxConcurrentExports, set.SendBatchSize, set.ShutdownTimeout = 1<<20, 1, 10, time.Second
		set.MetadataKeys, set.MetadataCardinalityLimit = keys, 10
		hold := newGate()
		r := newRig(t, kind, set, func(batchertest.Batch) error { <-hold; return nil })
		r.send(10)
		r.send(10) // has no slot
		r.send(3)  // pending
		synctest.Wait()
		require.Positive(t, r.Stats().HeldBytes)
		require.Error(t, r.Shutdown(t.Context()))
		require.Zero(t, r.Stats().HeldBytes)
		hold.open()
		synctest.Wait()
		require.Zero(t, r.Stats().HeldBytes)
	}
}
