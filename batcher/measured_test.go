package batcher_test

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
	"github.com/boundedbatch/boundedbatchprocessor/batcher/batchertest"
)

// measuring is a signal that counts the items that are measured. Of what has a dictionary it does not tell.
type measuring[T any] struct {
	batcher.Signal[T]
	bytes, heap atomic.Int64
	beforeCut   func() // once; nil: nothing
}

func measured[T any](kind *batchertest.Kind[T]) *measuring[T] {
	c := &measuring[T]{Signal: kind.Signal}
	kind.Signal = c
	return c
}

func (c *measuring[T]) Bytes(data T) int {
	c.bytes.Add(int64(c.Items(data)))
	return c.Signal.Bytes(data)
}

func (c *measuring[T]) Heap(data T) int {
	c.heap.Add(int64(c.Items(data)))
	return c.Signal.Heap(data)
}

func (c *measuring[T]) Measure(data T, z *batcher.Sizes) {
	c.bytes.Add(int64(c.Items(data)))
	c.heap.Add(int64(c.Items(data)))
	c.Signal.Measure(data, z)
}

func (c *measuring[T]) Cut(data T, z *batcher.Sizes) batcher.Cutter[T] {
	if do := c.beforeCut; do != nil {
		c.beforeCut = nil
		do()
	}
	return c.Signal.Cut(data, z)
}

// Many callers send requests from a single item to three batches, so that what is left of one often meets a batch that
// another one has opened meanwhile.
func TestNoItemIsMeasuredTwice(t *testing.T) {
	each(t, testMeasuredOnce, testMeasuredOnce, testMeasuredOnce)
}

func testMeasuredOnce[T any](t *testing.T, kind batchertest.Kind[T]) {
	const limit = 30_000
	batch := limit * 1000 / encoded(kind, 0, 1000) // items
	for _, bytes := range []int{0, limit} {
		for _, memory := range []int{0, 1 << 30} {
			set := defaults()
			set.SendBatchSize, set.SendBatchMaxSize = batch, batch
			set.QueueSize = 1 << 30
			set.SendBatchMaxBytes, set.MemoryLimit = bytes, memory
			kind := kind
			c := measured(&kind)
			r := newRig(t, kind, set, nil)
			var producers sync.WaitGroup
			for i := range 8 {
				random := rand.New(rand.NewPCG(uint64(i), 41))
				for range 10 {
					items := 1 + random.IntN(min(3*batch, 1+random.IntN(3*batch)))
					data := kind.Make(r.next, items)
					r.next += items
					producers.Go(func() { _ = r.Consume(t.Context(), data) })
				}
				producers.Wait()
			}
			if bytes > 0 {
				require.EqualValues(t, r.next, c.bytes.Load(), "memory_limit: %d", memory)
			}
			if memory > 0 {
				require.EqualValues(t, r.next, c.heap.Load(), "send_batch_max_bytes: %d", bytes)
			}
			if bytes+memory == 0 {
				require.Zero(t, c.bytes.Load()+c.heap.Load())
			}
			r.stop()
			full := 0
			batches := r.sink.Batches()
			for _, b := range batches {
				require.LessOrEqual(t, len(b.IDs), batch)
				require.True(t, bytes == 0 || b.Bytes <= bytes)
				if len(b.IDs) >= batch-batch/10 || bytes > 0 && b.Bytes >= bytes-bytes/10 {
					full++
				}
			}
			require.GreaterOrEqual(t, full, len(batches)-1, "all but the last one are nine tenths full")
		}
	}
}

// A request is cut, and meanwhile another one opens a batch in which there is no room for what is left of the first: that
// is cut again, by the sizes that are known.
func TestWhatIsLeftIsCutByTheSizesThatAreKnown(t *testing.T) {
	each(t, testCutAgain, testCutAgain, testCutAgain)
}

func testCutAgain[T any](t *testing.T, kind batchertest.Kind[T]) {
	c := measured(&kind)
	set := defaults()
	set.SendBatchSize, set.QueueSize, set.SendBatchMaxBytes, set.MemoryLimit = 1_000_000, 1_000_000, 40_000, 1<<30
	set.MaxConcurrentExports = 1 // batches arrive in order
	items := func(bytes int) int { return bytes * 1000 / kind.Bytes(kind.Make(0, 1000)) }
	first, second := items(64_000), items(28_000)
	r := newRig(t, kind, set, nil)
	c.bytes.Store(0)
	c.heap.Store(0)
	c.beforeCut = func() { r.send(second) }
	data := kind.Make(r.next, first)
	r.next += first
	require.NoError(t, r.Consume(t.Context(), data))
	require.EqualValues(t, first+second, c.bytes.Load())
	require.EqualValues(t, first+second, c.heap.Load())
	r.stop()
	batches := r.sink.Batches()
	require.Len(t, batches, 3)
	for i, b := range batches {
		require.LessOrEqual(t, b.Bytes, 40_000, "batch %d", i)
		require.True(t, i == 2 || b.Bytes >= 36_000, "batch %d has %d bytes", i, b.Bytes)
	}
}

// Nothing but its number of items told that a request is larger than others were. Batches are full all the same.
func TestRequestThatIsLargerThanExpectedIsMeasuredAgain(t *testing.T) {
	each(t, testUnforeseen, testUnforeseen, testUnforeseen)
}

func testUnforeseen[T any](t *testing.T, kind batchertest.Kind[T]) {
	c := measured(&kind)
	set := defaults()
	set.SendBatchSize, set.QueueSize, set.SendBatchMaxBytes = 1_000_000, 1_000_000, 40_000
	items := 24_000 * 100 / kind.Bytes(kind.Make(0, 100))
	r := newRig(t, kind, set, nil)
	c.bytes.Store(0)
	batcher.ExpectItemBytes(r.Batcher, 1)
	r.send(items)
	batcher.ExpectItemBytes(r.Batcher, 1)
	r.send(items)
	synctest.Wait()
	require.EqualValues(t, 3*items, c.bytes.Load(), "the second is cut")
	require.Len(t, r.sink.Batches(), 1)
	require.Greater(t, r.sink.Batches()[0].Bytes, 36_000)

	batcher.ExpectItemBytes(r.Batcher, 1)
	c.bytes.Store(0)
	r.send(2 * items)
	require.EqualValues(t, 2*2*items, c.bytes.Load(), "no batch has room for it")
	r.send(2 * items)
	require.EqualValues(t, 3*2*items, c.bytes.Load(), "this is expected now")
	r.stop()
	for i, b := range r.sink.Batches() {
		require.LessOrEqual(t, b.Bytes, 40_000, "batch %d", i)
	}
}

// Items that are much larger than usual.
func TestLargeItemsAreExpectedAfterTheFirst(t *testing.T) {
	each(t, testLargeItems, testLargeItems, testLargeItems)
}

func testLargeItems[T any](t *testing.T, kind batchertest.Kind[T]) {
	const requests = 100
	c := measured(&kind)
	for _, bytes := range []int{0, 3000, 30_000, 300_000} {
		c.bytes.Store(0)
		set := defaults()
		set.SendBatchSize, set.QueueSize, set.SendBatchMaxBytes = 1_000_000, 1_000_000, max(10_000, 15*bytes/2)
		b, err := batcher.New(kind.Signal, set, func(context.Context, T) error { return nil })
		require.NoError(t, err)
		require.NoError(t, b.Start())
		items := 0
		for i := range requests {
			request := kind.Make(10*i, 3)
			items += 3
			kind.Resource(request, 0).Attributes().PutStr("large", strings.Repeat("x", bytes))
			require.NoError(t, b.Consume(t.Context(), request))
		}
		require.NoError(t, b.Shutdown(t.Context()))
		require.Greater(t, b.Stats().Batches[batcher.TriggerSize], int64(3))
		require.EqualValues(t, items, c.bytes.Load())
	}
}

// What has no items goes along with what is left, which is not measured again for that.
func TestWhatIsLeftTakesAlongWhatHasNoItems(t *testing.T) {
	logs := func(records, bytes int) plog.Logs {
		ld := plog.NewLogs()
		to := ld.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords()
		for range records {
			to.AppendEmpty().Body().SetStr(strings.Repeat("x", bytes))
		}
		return ld
	}
	c := &measuring[plog.Logs]{Signal: batcher.Logs()}
	set := defaults()
	set.SendBatchMaxBytes, set.MaxConcurrentExports = 40_000, 1
	var got []plog.Logs
	b, err := batcher.New(c, set, func(_ context.Context, ld plog.Logs) error {
		got = append(got, ld)
		return nil
	})
	require.NoError(t, err)
	require.NoError(t, b.Start())
	c.beforeCut = func() { require.NoError(t, b.Consume(t.Context(), logs(1, 20_000))) }

	request := plog.NewLogs()
	request.ResourceLogs().AppendEmpty().Resource().Attributes().PutStr("no items", strings.Repeat("x", 20_000))
	logs(1, 25_000).ResourceLogs().MoveAndAppendTo(request.ResourceLogs())
	logs(25, 1000).ResourceLogs().MoveAndAppendTo(request.ResourceLogs())
	require.NoError(t, b.Consume(t.Context(), request))
	require.NoError(t, b.Shutdown(t.Context()))
	records, without := 0, 0
	for _, ld := range got {
		require.LessOrEqual(t, c.Signal.Bytes(ld), 40_000)
		records += ld.LogRecordCount()
		for _, rl := range ld.ResourceLogs().All() {
			if _, is := rl.Resource().Attributes().Get("no items"); is {
				without++
				require.Zero(t, rl.ScopeLogs().Len())
			}
		}
	}
	require.Equal(t, 27, records)
	require.Equal(t, 1, without)
	require.Len(t, got, 3)
}
