package batcher_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
	"github.com/boundedbatch/boundedbatchprocessor/batcher/batchertest"
)

// encoded is the size of that many items, from an identity on.
func encoded[T any](kind batchertest.Kind[T], first, items int) int {
	return kind.Bytes(kind.Make(first, items))
}

func TestBatchesKeepTheByteLimitAndAreFull(t *testing.T) {
	each(t, testByteLimit, testByteLimit, testByteLimit, testByteLimit)
}

func testByteLimit[T any](t *testing.T, kind batchertest.Kind[T]) {
	for _, requests := range []int{1, 7, 30, 300, 3000} { // items in each
		for _, items := range []int{0, 35} { // in a batch; 0: only bytes are limited
			for _, waits := range []bool{false, true} {
				set := defaults()
				set.SendBatchSize, set.SendBatchMaxSize, set.SendBatchMaxBytes = 100_000, 0, 40_000
				set.QueueSize = 1_000_000
				if items > 0 {
					set.SendBatchSize, set.SendBatchMaxSize = items, items
				}
				set.WaitForResult = waits
				r := newRig(t, kind, set, nil)
				var results []<-chan error
				for range 3000 / requests {
					results = append(results, r.goTry(t.Context(), requests))
					synctest.Wait()
				}
				time.Sleep(time.Second)
				for _, result := range results {
					require.NoError(t, <-result)
				}
				r.stop()
				batches := r.sink.Batches()
				for i, b := range batches {
					require.LessOrEqual(t, b.Bytes, 40_000, "requests of %d, batches of %d, waits: %v: batch %d of %d", requests, items, waits, i, len(batches))
					if items > 0 {
						require.LessOrEqual(t, len(b.IDs), items)
					} else if i < len(batches)-1 {
						require.GreaterOrEqual(t, b.Bytes, 36_000, "requests of %d: batch %d of %d", requests, i, len(batches))
					}
				}
				if items == 0 && kind.Name() != "profiles" {
					require.Equal(t, r.Stats().Batches[batcher.TriggerSize], int64(len(batches)-1), "full is a size")
				}
			}
		}
	}
}

// A batch that is filled to the last byte leaves at once, as one that has all its items.
func TestBatchThatReachesTheByteLimitLeaves(t *testing.T) {
	each(t, testByteSeal, testByteSeal, testByteSeal, testByteSeal)
}

func testByteSeal[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := defaults()
	joined := kind.Make(0, 5)
	kind.Move(kind.Make(5, 8), joined)
	set.SendBatchMaxBytes = kind.Bytes(joined)
	r := newRig(t, kind, set, nil)
	r.send(5)
	synctest.Wait()
	require.Empty(t, r.sink.Batches())
	r.send(8)
	synctest.Wait()
	require.Equal(t, []int{13}, r.sink.Sizes())
	r.stop()
}

func TestItemThatIsTooLargeIsLostAlone(t *testing.T) {
	each(t, testTooLargeItem, testTooLargeItem, testTooLargeItem)
}

// The limit is between the sizes of the items, so that some of each request are too large
// wherever they stand, and some requests have none that is not.
func testTooLargeItem[T any](t *testing.T, kind batchertest.Kind[T]) {
	const all = 400
	sizes := make([]int, all)
	smallest, largest := encoded(kind, 0, 1), 0
	for id := range sizes {
		sizes[id] = encoded(kind, id, 1)
		smallest, largest = min(smallest, sizes[id]), max(largest, sizes[id])
	}
	for seed := range uint64(20) {
		for _, waits := range []bool{false, true} {
			random := rand.New(rand.NewPCG(seed, 21))
			limit := smallest - 1 + random.IntN(largest-smallest+2)
			set := defaults()
			set.SendBatchMaxBytes, set.WaitForResult = limit, waits
			if seed%2 == 0 {
				set.SendBatchSize = 4
				set.SendBatchMaxSize = 4
			}
			var reported tooLargeEvents
			set.Observer = &reported
			r := newRig(t, kind, set, nil)
			lost := map[int]bool{}
			total := 0
			for r.next < all {
				first, n := r.next, min(1+random.IntN(40), all-r.next)
				in, worst := 0, 0
				for id := first; id < first+n; id++ {
					if sizes[id] > limit {
						lost[id] = true
						in++
						worst = max(worst, sizes[id])
					}
				}
				total += in
				err := r.try(t.Context(), n)
				if in == 0 {
					require.NoError(t, err)
					continue
				}
				require.ErrorIs(t, err, batcher.ErrItemTooLarge)
				require.True(t, consumererror.IsPermanent(err))
				require.Equal(t, codes.InvalidArgument, status.Code(err))
				require.EqualError(t, err, fmt.Sprintf(
					"Permanent error: items too large: %d of %d items exceed send_batch_max_bytes (%d) each, the largest takes %d bytes", in, n, limit, worst))
				require.Equal(t, [2]int{in, worst}, reported[len(reported)-1])
			}
			require.NoError(t, r.Shutdown(t.Context()))
			got := r.sink.Delivered()
			for id := range all {
				want := 1
				if lost[id] {
					want = 0
				}
				require.Equal(t, want, got[id], "item %d of %d bytes, limit %d", id, sizes[id], limit)
			}
			s := r.Stats()
			require.EqualValues(t, total, s.Dropped[batcher.DroppedItemTooLarge])
			require.EqualValues(t, all, s.Accepted)
			require.Zero(t, r.Partitions())
			for _, b := range r.sink.Batches() {
				require.LessOrEqual(t, b.Bytes, limit)
			}
			sealed := int64(0)
			for _, n := range s.Batches {
				sealed += n
			}
			require.EqualValues(t, len(r.sink.Batches()), sealed)
		}
	}
}

type tooLargeEvents [][2]int

func (e *tooLargeEvents) ItemsTooLarge(items, largest int) { *e = append(*e, [2]int{items, largest}) }

func (*tooLargeEvents) AdmissionWaited(time.Duration)                              {}
func (*tooLargeEvents) Ticked(time.Duration)                                       {}
func (*tooLargeEvents) MeasuresBytes() bool                                        { return false }
func (*tooLargeEvents) ExportStarted(batcher.Export)                               {}
func (*tooLargeEvents) ExportEnded(batcher.Export, time.Duration, batcher.Outcome) {}

// With resource_keys, a waiting caller's error counts all of its request, not only the part.
func TestTooLargeItemsAreCountedOverAllPartsOfARequest(t *testing.T) {
	each(t, testTooLargeParts, testTooLargeParts, testTooLargeParts)
}

func testTooLargeParts[T any](t *testing.T, kind batchertest.Kind[T]) {
	for _, waits := range []bool{false, true} {
		set := defaults()
		set.ResourceKeys, set.WaitForResult, set.SendBatchMaxBytes = []string{"team"}, waits, 1
		r := newRig(t, kind, set, nil)
		err := r.try(t.Context(), 3*perTeam)
		require.ErrorContains(t, err, fmt.Sprintf("%d of %[1]d items exceed send_batch_max_bytes (1) each", 3*perTeam))
		require.Empty(t, r.sink.Batches())
		require.Zero(t, r.Stats().Held)
		require.Zero(t, r.Partitions())
		require.NoError(t, r.Shutdown(t.Context()))
	}
}

// When some of a request could not get in, the error is about these, tells of those that are
// too large as well, and carries only what is worth sending again.
func TestRestOfARequestHasNoItemsThatAreTooLarge(t *testing.T) {
	each(t, testRestAndTooLarge, testRestAndTooLarge, testRestAndTooLarge)
}

func testRestAndTooLarge[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := defaults()
	set.SendBatchSize, set.QueueSize, set.SendBatchMaxBytes = 10, 10, 1
	for id := range 40 {
		set.SendBatchMaxBytes = max(set.SendBatchMaxBytes, encoded(kind, id, 1))
	}
	set.SendBatchMaxBytes--
	hold := newGate()
	r := newRig(t, kind, set, hold.held)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err := r.try(ctx, 40)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.False(t, consumererror.IsPermanent(err))
	rest := partial(t, kind, err)
	s := r.Stats()
	require.EqualValues(t, 40-len(rest), s.Accepted)
	require.EqualValues(t, len(rest), s.Refused[batcher.RefusedCanceled])
	hold.open()
	require.NoError(t, r.Shutdown(t.Context()))
	require.Len(t, r.sink.Delivered(), int(s.Accepted-s.Dropped[batcher.DroppedItemTooLarge]))
}

// What has no items travels along where it fits beside a neighbour, and never makes a batch of
// its own.
func TestElementsWithoutItemsTravelAlong(t *testing.T) {
	each(t, testHollow(hollowTraces), testHollow(hollowLogs), testHollow(hollowMetrics), testHollow(hollowProfiles))
}

func testHollow[T any](hollow hollow[T]) func(*testing.T, batchertest.Kind[T]) {
	return func(t *testing.T, kind batchertest.Kind[T]) {
		count := func(data T) int {
			text, err := kind.JSON(data)
			require.NoError(t, err)
			return strings.Count(string(text), `"hollow"`)
		}
		largest := 0
		for id := range 30 {
			largest = max(largest, encoded(kind, id, 1))
		}
		const alone = 200 // bytes, at most, of a resource with an element that has no items
		smallest := largest / 2
		if kind.Name() == "profiles" {
			smallest = 2 * largest // a profile may exceed it otherwise
		}
		for limit := smallest; limit < 80*largest; limit = limit*21/20 + 1 {
			set := defaults()
			set.SendBatchSize, set.SendBatchMaxBytes, set.MaxConcurrentExports = 1000, limit, 1
			items, hollows, emptiest := 0, 0, 0
			b, err := batcher.New(kind.Signal, set, func(_ context.Context, data T) error {
				require.LessOrEqual(t, kind.Bytes(data), limit)
				require.Positive(t, kind.Items(data))
				items += kind.Items(data)
				hollows += count(data)
				emptiest = max(emptiest, limit-kind.Bytes(data))
				return nil
			})
			require.NoError(t, err)
			require.NoError(t, b.Start())
			request := kind.Make(0, 30)
			hollow(request)
			want := count(request)
			err = b.Consume(t.Context(), request)
			require.NoError(t, b.Shutdown(t.Context()))
			s := b.Stats()
			require.Equal(t, s.Dropped[batcher.DroppedItemTooLarge] > 0, err != nil)
			require.EqualValues(t, 30-s.Dropped[batcher.DroppedItemTooLarge], items)
			require.LessOrEqual(t, hollows, want)
			if hollows < want { // there was no room for them anywhere
				require.Less(t, emptiest, alone, "limit %d, %d of %d arrived", limit, hollows, want)
			}
		}
	}
}

// A batch that is nine tenths full in bytes leaves as it is: the next request is not cut.
func TestBatchNearlyFullInBytesIsNotFilledUp(t *testing.T) {
	each(t, testBytesBorder, testBytesBorder, testBytesBorder, testBytesBorder)
}

func testBytesBorder[T any](t *testing.T, kind batchertest.Kind[T]) {
	for _, percent := range []int{89, 91} {
		set := defaults()
		set.SendBatchSize, set.SendBatchMaxBytes, set.MaxConcurrentExports = 1000, encoded(kind, 0, 60)*100/percent, 1
		r := newRig(t, kind, set, nil)
		r.send(60)
		r.send(40)
		r.stop()
		if percent > 90 {
			require.Equal(t, []int{60, 40}, r.sink.Sizes())
		} else {
			require.Greater(t, r.sink.Sizes()[0], 60)
		}
	}
}

// A caller that gives up while others of its items are too large is told of its own end first.
func TestCallerThatGivesUpAmongTooLargeItems(t *testing.T) {
	each(t, testGivesUpAmong, testGivesUpAmong, testGivesUpAmong)
}

func testGivesUpAmong[T any](t *testing.T, kind batchertest.Kind[T]) {
	smallest, largest := 0, 0 // identities
	for id := range 40 {
		if encoded(kind, id, 1) < encoded(kind, smallest, 1) {
			smallest = id
		}
		if encoded(kind, id, 1) > encoded(kind, largest, 1) {
			largest = id
		}
	}
	set := defaults()
	set.WaitForResult, set.SendBatchMaxBytes = true, encoded(kind, largest, 1)-1
	hold := newGate()
	r := newRig(t, kind, set, hold.held)
	request := kind.Make(smallest, 1)
	kind.Move(kind.Make(largest, 1), request)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	err := r.Consume(ctx, request)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.False(t, consumererror.IsPermanent(err))
	require.EqualValues(t, 1, r.Stats().Dropped[batcher.DroppedItemTooLarge])
	hold.open()
	require.NoError(t, r.Shutdown(t.Context()))
}

// The last full batch of a request whose last item is too large has nothing behind it. With
// room left, it does not take further requests where callers wait: its data is put together.
func TestNothingIsLostBehindAFullBatchThatWaits(t *testing.T) {
	each(t, testBehindFull, testBehindFull, testBehindFull)
}

func testBehindFull[T any](t *testing.T, kind batchertest.Kind[T]) {
	for _, waits := range []bool{false, true} {
		set := defaults()
		set.WaitForResult, set.SendBatchMaxBytes, set.MaxConcurrentExports = waits, encoded(kind, 1, 13)*2/3, 1
		hold := newGate()
		r := newRig(t, kind, set, hold.held)
		first := r.goTry(t.Context(), 1)
		time.Sleep(time.Second)     // takes the slot
		request := kind.Make(1, 14) // the items 1 to 13, and one that is too large
		last := kind.Resource(request, kind.Resources(request)-1)
		last.Attributes().PutStr("large", strings.Repeat("x", set.SendBatchMaxBytes))
		second := make(chan error, 1)
		go func() { second <- r.Consume(t.Context(), request) }()
		synctest.Wait()
		third := make(chan error, 1)
		go func() { third <- r.Consume(t.Context(), kind.Make(15, 1)) }()
		synctest.Wait()
		hold.open()
		require.NoError(t, <-first)
		<-second
		require.NoError(t, <-third)
		require.NoError(t, r.Shutdown(t.Context()))
		require.Equal(t, 1, r.sink.Delivered()[15])
	}
}
