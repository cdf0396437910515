package batcher

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/client"
	"go.opentelemetry.io/collector/pdata/plog"
)

// Tenants that nobody has heard of before send an item each, as fast as they can, and one that is known sends all the
// time. What is alive at once is bounded, and nothing is left of them. A million take 43 s on two cores that thirty
// others want as well, so here are fewer.
func TestFloodOfTenantsIsBoundedAndOthersAreServed(t *testing.T) {
	if raceEnabled {
		t.Skip("it is about time and memory")
	}
	const (
		tenants   = 300_000
		attackers = 4
		limit     = 1000
		memory    = 32 << 20
	)
	var arrived, known atomic.Int64
	b, err := New(Logs(), Settings{
		Timeout: 200 * time.Millisecond, SendBatchSize: 8192, QueueSize: 98304, MemoryLimit: memory, BlockOnOverflow: true,
		MaxConcurrentExports: 10, MetadataKeys: []string{"tenant"}, MetadataCardinalityLimit: limit,
	}, func(ctx context.Context, ld plog.Logs) error {
		arrived.Add(int64(ld.LogRecordCount()))
		if nameOf(ctx) == "known" {
			known.Add(int64(ld.LogRecordCount()))
		}
		return nil
	})
	require.NoError(t, err)
	require.NoError(t, b.Start())
	decode := measuredLogs.tenants(t)

	before := liveHeap()
	began, over := time.Now(), make(chan struct{})
	var attack, others sync.WaitGroup
	for i := range attackers {
		attack.Go(func() {
			for n := i; n < tenants; n += attackers {
				if err := b.Consume(withTenant(t.Context(), strconv.Itoa(n)), decode()); err != nil {
					t.Errorf("tenant %d: %v", n, err)
					return
				}
			}
		})
	}
	sent, slowest := int64(0), time.Duration(0)
	mostAlive, mostHeap := int64(0), int64(0)
	others.Go(func() {
		for {
			at := time.Now()
			if err := b.Consume(withTenant(t.Context(), "known"), decode()); err != nil {
				t.Errorf("the known tenant: %v", err)
				return
			}
			sent, slowest = sent+1, max(slowest, time.Since(at))
			s := b.Stats()
			mostAlive = max(mostAlive, s.LivePartitions)
			if s.HeldBytes > s.CapacityBytes || s.Held > s.Capacity {
				t.Errorf("more is held than may be: %+v", s)
			}
			if sent%10_000 == 0 {
				mostHeap = max(mostHeap, liveHeap()-before)
			}
			select {
			case <-over:
				return
			default:
			}
		}
	})
	attack.Wait()
	took := time.Since(began)
	close(over)
	others.Wait()
	require.NoError(t, b.Shutdown(t.Context()))
	after := liveHeap() - before
	t.Logf("%.0f tenants a second; the known one: %d requests, the slowest took %v; alive: %d partitions, %.1f MB of heap, %.1f MB in the end",
		tenants/took.Seconds(), sent, slowest, mostAlive, float64(mostHeap)/1e6, float64(after)/1e6)
	require.Less(t, took, time.Minute)
	require.Less(t, slowest, 5*time.Second)
	require.LessOrEqual(t, mostAlive, int64(limit))
	require.Less(t, mostHeap, int64(memory*3/2), "with what callers have that wait")
	require.Less(t, after, int64(1<<20))
	require.Equal(t, tenants+sent, arrived.Load())
	require.Equal(t, sent, known.Load())
	require.Zero(t, b.Partitions())
}

// One request can be of a hundred thousand tenants. Others do not wait until it is done.
func TestRequestOfAHundredThousandTenantsIsDivided(t *testing.T) {
	tenants := 100_000
	if raceEnabled {
		tenants = 10_000
	}
	for _, waits := range []bool{false, true} {
		t.Run(fmt.Sprintf("waits=%v", waits), func(t *testing.T) {
			var arrived atomic.Int64
			b, err := New(Logs(), Settings{
				Timeout: 10 * time.Millisecond, SendBatchSize: 100, QueueSize: 2000, BlockOnOverflow: true, WaitForResult: waits,
				MaxConcurrentExports: 10, ResourceKeys: []string{"tenant"}, MetadataCardinalityLimit: 1000,
			}, func(_ context.Context, ld plog.Logs) error { arrived.Add(int64(ld.LogRecordCount())); return nil })
			require.NoError(t, err)
			require.NoError(t, b.Start())
			data := plog.NewLogs()
			for n := range tenants {
				rl := data.ResourceLogs().AppendEmpty()
				rl.Resource().Attributes().PutInt("tenant", int64(n))
				rl.ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
			}
			before := liveHeap()
			began, done := time.Now(), make(chan error, 1)
			go func() { done <- b.Consume(t.Context(), data) }()
			sent, slowest := int64(0), time.Duration(0)
			for answered := false; !answered; {
				at := time.Now()
				small := plog.NewLogs()
				small.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
				require.NoError(t, b.Consume(t.Context(), small))
				sent, slowest = sent+1, max(slowest, time.Since(at))
				s := b.Stats()
				require.LessOrEqual(t, s.Held, s.Capacity)
				require.LessOrEqual(t, s.LivePartitions, int64(1000))
				select {
				case err := <-done:
					require.NoError(t, err)
					answered = true
				default:
				}
			}
			took := time.Since(began)
			require.NoError(t, b.Shutdown(t.Context()))
			t.Logf("answered after %v; of %d others the slowest took %v", took, sent, slowest)
			require.Less(t, took, 30*time.Second)
			require.Less(t, slowest, 5*time.Second)
			require.Equal(t, int64(tenants)+sent, arrived.Load())
			if !raceEnabled {
				require.Less(t, liveHeap()-before, int64(1<<20))
			}
		})
	}
}

func nameOf(ctx context.Context) string {
	return client.FromContext(ctx).Metadata.Get("tenant")[0]
}
