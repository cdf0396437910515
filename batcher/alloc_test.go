package batcher_test

import (
	"context"
	"math"
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
	"github.com/boundedbatch/boundedbatchprocessor/batcher/batchertest"
)

func TestNoAllocationPerRequestAndFewPerBatch(t *testing.T) {
	for _, c := range []struct {
		name                    string
		metadataKeys, resources []string
	}{
		{name: "keys=none"},
		{name: "keys=metadata", metadataKeys: []string{"Tenant", "user"}}, // reading metadata makes a copy of it
		{name: "keys=resource", resources: []string{"team"}},
	} {
		set := defaults()
		set.MetadataKeys, set.ResourceKeys = c.metadataKeys, c.resources
		eachAllocations(t, c.name, set, 50, 1000, 3)
	}
}

// A request with few items is measured as a whole, and one with many by what is in it.
func TestLimitsInBytesAllocateNothing(t *testing.T) {
	for _, c := range []struct {
		name             string
		maxBytes, memory int
	}{
		{name: "limit=bytes", maxBytes: math.MaxInt32},
		{name: "limit=memory", memory: math.MaxInt32},
		{name: "limit=both", maxBytes: math.MaxInt32, memory: math.MaxInt32},
	} {
		set := defaults()
		set.SendBatchMaxBytes, set.MemoryLimit = c.maxBytes, c.memory
		eachAllocations(t, c.name+"/items=3", set, 20, 1000, 3)
		if !batcher.RaceEnabled { // with it, a sync.Pool forgets at random
			eachAllocations(t, c.name+"/items=600", set, 4, 100, 600)
		}
	}
}

func eachAllocations(t *testing.T, name string, set batcher.Settings, batches, requests, items int) {
	t.Helper()
	t.Run(name+"/signal=traces", func(t *testing.T) {
		testAllocations[ptrace.Traces](t, batchertest.Traces(), set, batches, requests, items)
	})
	t.Run(name+"/signal=logs", func(t *testing.T) { testAllocations[plog.Logs](t, batchertest.Logs(), set, batches, requests, items) })
	t.Run(name+"/signal=metrics", func(t *testing.T) {
		testAllocations[pmetric.Metrics](t, batchertest.Metrics(), set, batches, requests, items)
	})
}

// Batches of a hundred requests or more: an allocation per request would count as many. One for
// each metadata key is the Collector's. A large request has several resources, and a batch writes
// down where they lie.
func testAllocations[T any](t *testing.T, kind batchertest.Kind[T], set batcher.Settings, batches, requests, items int) {
	set.SendBatchSize = requests * items
	set.QueueSize = 12 * set.SendBatchSize
	set.Timeout = 1 << 40 // the clock plays no part
	arrived := make(chan int, batches)
	b, err := batcher.New(kind.Signal, set, func(_ context.Context, data T) error {
		arrived <- kind.Items(data)
		return nil
	})
	require.NoError(t, err)
	require.NoError(t, b.Start())
	input := make([]T, requests)
	ctx := with(map[string][]string{"tenant": {"a"}, "user": {"b"}})
	require.NoError(t, b.Consume(ctx, kind.Make(0, items))) // something is always pending, or a partition would be made for each batch
	round := func() uint64 {
		for i := range input {
			input[i] = kind.Make(0, items)
		}
		defer debug.SetGCPercent(debug.SetGCPercent(-1)) // a collection empties pools: the first request fills them again
		if err := b.Consume(ctx, input[0]); err != nil {
			t.Error(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for _, data := range input[1:] {
			if err := b.Consume(ctx, data); err != nil {
				t.Error(err)
			}
		}
		require.Equal(t, set.SendBatchSize, <-arrived)
		runtime.ReadMemStats(&after)
		return after.Mallocs - before.Mallocs
	}
	least := round()
	for range batches - 1 {
		least = min(least, round())
	}
	require.NoError(t, b.Shutdown(ctx))
	most := 10
	if items > 500 {
		most = 20
	}
	t.Logf("%d allocations a batch of %d requests", least, requests)
	require.LessOrEqual(t, least, uint64(most+requests*len(set.MetadataKeys)))
}
