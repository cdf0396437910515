package batcher_test

import (
	"context"
	"runtime"
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
		t.Run(c.name+"/signal=traces", func(t *testing.T) { testAllocations[ptrace.Traces](t, batchertest.Traces(), set) })
		t.Run(c.name+"/signal=logs", func(t *testing.T) { testAllocations[plog.Logs](t, batchertest.Logs(), set) })
		t.Run(c.name+"/signal=metrics", func(t *testing.T) { testAllocations[pmetric.Metrics](t, batchertest.Metrics(), set) })
	}
}

// Batches of 1,000 requests: an allocation per request would count a thousand. One for each
// metadata key is the Collector's.
func testAllocations[T any](t *testing.T, kind batchertest.Kind[T], set batcher.Settings) {
	const batches, requests, items = 50, 1000, 3
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
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for _, data := range input {
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
	t.Logf("%d allocations a batch of %d requests", least, requests)
	require.LessOrEqual(t, least, uint64(10+requests*len(set.MetadataKeys)))
}
