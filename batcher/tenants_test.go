package batcher_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
	"github.com/boundedbatch/boundedbatchprocessor/batcher/batchertest"
)

// batch refuses the thousand and first tenant for the rest of its life, and keeps a
// goroutine for each of the thousand.
func TestAHundredThousandTenantsAreServedAndForgotten(t *testing.T) {
	eachAlone(
		t,
		func(t *testing.T, kind batchertest.Kind[ptrace.Traces]) { testTenants(t, kind, 20_000) },
		func(t *testing.T, kind batchertest.Kind[plog.Logs]) { testTenants(t, kind, 100_000) },
		func(t *testing.T, kind batchertest.Kind[pmetric.Metrics]) { testTenants(t, kind, 20_000) },
	)
}

// Every tenant sends an item and every fourth, after its successor's first, another one;
// every tenth is back for a third when it has long been retired. Some 130 come within a
// timeout, so that a part of them is retired by the limit and a part by their ticks.
func testTenants[T any](t *testing.T, kind batchertest.Kind[T], tenants int) {
	const limit, visits = 100, 3
	set := defaults()
	set.MetadataKeys = []string{"tenant"}
	set.MetadataCardinalityLimit = limit
	set.MaxConcurrentExports = 10

	var mu sync.Mutex // guards arrived and strays
	arrived := make([]uint8, visits*tenants)
	strays := 0
	pause := rand.New(rand.NewPCG(uint64(tenants), 1))
	r, err := batcher.New(kind.Signal, set, func(ctx context.Context, data T) error {
		ids := kind.Identities(data)
		name := nameIn(ctx)
		mu.Lock()
		for _, id := range ids {
			arrived[id]++
			if strconv.Itoa(id/visits) != name {
				strays++
			}
		}
		took := time.Duration(max(0, pause.IntN(12)-8)) * time.Millisecond
		mu.Unlock()
		time.Sleep(took) // a tenant may be retired meanwhile
		return nil
	})
	require.NoError(t, err)
	require.NoError(t, r.Start())
	t.Cleanup(func() { _ = r.Shutdown(context.Background()) })

	random := rand.New(rand.NewPCG(uint64(tenants), 2))
	visit := func(who, visit int) {
		if err := r.Consume(tenant(strconv.Itoa(who)), kind.Make(visits*who+visit, 1)); err != nil {
			require.NoError(t, err, "tenant %d", who)
		}
	}
	warmUp := tenants / 20
	var before, peak uint64
	for i := range tenants {
		if i == warmUp {
			before = liveHeap()
		}
		visit(i, 0)
		if i%4 == 1 {
			visit(i-1, 1)
		}
		if back := i - 10*limit; back >= 0 && i%10 == 0 {
			visit(back, 2)
		}
		if random.IntN(40) == 0 {
			time.Sleep(300 * time.Millisecond)
			s := r.Stats()
			require.LessOrEqual(t, s.LivePartitions, int64(limit))
			// Retired ones are remembered while they have exports to come.
			require.LessOrEqual(t, int64(r.Partitions()), limit+s.Sealed+s.ExportsInFlight)
		}
		if i == tenants-1 {
			peak = liveHeap()
		}
	}
	time.Sleep(time.Minute)
	require.Zero(t, r.Partitions())
	require.False(t, r.Armed())
	after := liveHeap()

	s := r.Stats()
	require.Zero(t, s.LivePartitions)
	require.Zero(t, s.Held)
	require.Equal(t, [len(s.Refused)]int64{}, s.Refused, "nobody is refused for the limit")
	require.Equal(t, s.Accepted, s.Delivered)
	require.Greater(t, s.Evictions, int64(tenants/2))
	require.LessOrEqual(t, s.Batches[batcher.TriggerEvicted], s.Evictions)
	require.Greater(t, s.Batches[batcher.TriggerEvicted], int64(tenants/4))
	require.Greater(t, s.Batches[batcher.TriggerTimeout], int64(tenants/10))
	t.Logf("%d tenants: %d retired by the limit, %d batches, live heap %+d bytes at the end and %+d at the last tenant",
		tenants, s.Evictions, sum(s.Batches[:]), int64(after)-int64(before), int64(peak)-int64(before))
	for _, heap := range []uint64{peak, after} {
		require.Less(t, int64(heap)-int64(before), int64(50*(tenants-warmUp)), "half of 100 bytes a tenant")
	}
	require.NoError(t, r.Shutdown(t.Context()))
	require.Zero(t, strays, "items in a batch of another tenant, or under another tenant's metadata")
	for who := range tenants {
		want := [visits]uint8{1, 0, 0}
		if who%4 == 0 {
			want[1] = 1
		}
		if who+10*limit < tenants && who%10 == 0 {
			want[2] = 1
		}
		if got := [visits]uint8(arrived[visits*who:]); got != want {
			require.Equal(t, want, got, "tenant %d", who)
		}
	}
}

func TestTenantsCostNoGoroutineEach(t *testing.T) {
	eachAlone(t, testTenantGoroutines, testTenantGoroutines, testTenantGoroutines, testTenantGoroutines)
}

func testTenantGoroutines[T any](t *testing.T, kind batchertest.Kind[T]) {
	r := keepBooks(t, kind, perTenant(), nil)
	before := runtime.NumGoroutine()
	for round := range 3 {
		for i := range 2000 {
			require.NoError(t, r.send(fmt.Sprint(i), 1))
		}
		require.Less(t, runtime.NumGoroutine(), before+100)
		require.EqualValues(t, 2000, r.Stats().LivePartitions)
		time.Sleep(time.Duration(1+round) * 100 * time.Millisecond)
	}
	time.Sleep(time.Minute)
	require.Zero(t, r.Partitions())
	r.balance(t)
}

// liveHeap is what the heap holds that something refers to.
func liveHeap() uint64 {
	runtime.GC()
	runtime.GC() // the first has left what pools keep
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func sum(counts []int64) (total int64) {
	for _, n := range counts {
		total += n
	}
	return total
}
