package batcher_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/client"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
	"github.com/boundedbatch/boundedbatchprocessor/batcher/batchertest"
)

func with(md map[string][]string) context.Context {
	return client.NewContext(context.Background(), client.Info{Metadata: client.NewMetadata(md)})
}

func tenant(name string) context.Context { return with(map[string][]string{"tenant": {name}}) }

func TestPartitionsDoNotMixAndDownstreamSeesTheirMetadata(t *testing.T) {
	each(t, testPartitions, testPartitions, testPartitions, testPartitions)
}

func testPartitions[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := defaults()
	set.MetadataKeys = []string{"Tenant", "user"}
	r := newRig(t, kind, set, nil)
	// Every entry is a partition of its own; upper case is of no account.
	callers := []map[string][]string{
		nil,
		{"tenant": {""}},
		{"tenant": {"a"}},
		{"tenant": {"A"}},
		{"tenant": {"a", "b"}},
		{"tenant": {"b", "a"}},
		{"tenant": {"a,b"}},
		{"tenant": {"a\x00b"}},
		{"tenant": {"a", "", "b"}},
		{"user": {"a"}},
		{"tenant": {"x"}, "user": {"y"}},
		{"tenant": {"x", "user", "y"}},
		{"tenant": {"x"}, "user": {""}},
		{"tenant": {"x"}},
	}
	owner := map[int]int{} // item to caller
	for round := range 3 {
		for i, md := range callers {
			owner[r.next] = i
			sent := map[string][]string{"authorization": {"secret"}}
			for k, v := range md {
				if round == 1 && k == "tenant" {
					k = "TENANT"
				}
				sent[k] = v
			}
			require.NoError(t, r.try(with(sent), 1))
		}
	}
	require.EqualValues(t, len(callers), r.Stats().LivePartitions)
	r.stop()
	batches := r.sink.Batches()
	require.Len(t, batches, len(callers))
	for _, b := range batches {
		require.Len(t, b.IDs, 3)
		info := client.FromContext(b.Ctx)
		for _, id := range b.IDs {
			want := callers[owner[id]]
			require.Equal(t, want["tenant"], info.Metadata.Get("tenant"))
			require.Equal(t, want["user"], info.Metadata.Get("user"))
		}
		require.Nil(t, info.Metadata.Get("authorization"))
		require.Nil(t, info.Auth)
		require.Nil(t, info.Addr)
	}
}

func TestExportRunsOnNobodysContext(t *testing.T) {
	each(t, testNobodysContext, testNobodysContext, testNobodysContext, testNobodysContext)
}

func testNobodysContext[T any](t *testing.T, kind batchertest.Kind[T]) {
	type key struct{}
	for _, requests := range []int{1, 2, 3} {
		r := newRig(t, kind, defaults(), nil)
		for range requests {
			ctx, cancel := context.WithTimeout(context.WithValue(with(map[string][]string{"authorization": {"secret"}}), key{}, 1), time.Millisecond)
			require.NoError(t, r.try(ctx, 1))
			cancel()
		}
		time.Sleep(time.Minute)
		batches := r.sink.Batches()
		require.Len(t, batches, 1)
		ctx := batches[0].Ctx
		_, deadline := ctx.Deadline()
		require.False(t, deadline)
		require.Nil(t, ctx.Value(key{}))
		require.NoError(t, ctx.Err())
		require.Nil(t, client.FromContext(ctx).Metadata.Get("authorization"))
		r.stop()
	}
}

func TestLimitCountsLivePartitions(t *testing.T) {
	each(t, testCardinality, testCardinality, testCardinality, testCardinality)
}

func testCardinality[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := defaults()
	set.MetadataKeys = []string{"tenant"}
	set.MetadataCardinalityLimit = 3
	r := newRig(t, kind, set, nil)
	for _, name := range []string{"a", "b", "c", "a", "d"} { // d evicts b, the least recently used
		require.NoError(t, r.try(tenant(name), 1))
	}
	synctest.Wait()
	batches := r.sink.Batches()
	require.Len(t, batches, 1)
	require.Equal(t, []int{1}, batches[0].IDs)
	s := r.Stats()
	require.EqualValues(t, 1, s.Evictions)
	require.EqualValues(t, 1, s.Batches[batcher.TriggerEvicted])
	require.EqualValues(t, 3, s.LivePartitions)
	require.Equal(t, 3, r.Partitions())
	r.stop()
}

func TestManyTenantsOverTimeAreNotRefusedAndNotRemembered(t *testing.T) {
	each(t, testManyTenants, testManyTenants, testManyTenants, testManyTenants)
}

func testManyTenants[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := defaults()
	set.MetadataKeys = []string{"tenant"}
	set.MetadataCardinalityLimit = 10
	r := newRig(t, kind, set, nil)
	random := rand.New(rand.NewPCG(9, 10))
	for i := range 5000 {
		require.NoError(t, r.try(tenant(fmt.Sprint(i)), 1))
		require.LessOrEqual(t, r.Stats().LivePartitions, int64(10))
		if random.IntN(10) == 0 {
			time.Sleep(300 * time.Millisecond)
		}
	}
	time.Sleep(time.Minute)
	require.Zero(t, r.Partitions())
	require.Zero(t, r.Stats().LivePartitions)
	require.False(t, r.Armed())
	r.stop()
	for _, b := range r.sink.Batches() {
		require.Len(t, b.IDs, 1)
	}
}

func TestPartitionWithAnExportUnderWayIsNotForgotten(t *testing.T) {
	each(t, testNotForgotten, testNotForgotten, testNotForgotten, testNotForgotten)
}

// With one export per partition a tenant that is evicted, and comes back while its
// export still runs, must wait for that export: its order is promised.
func testNotForgotten[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := defaults()
	set.MetadataKeys = []string{"tenant"}
	set.MetadataCardinalityLimit = 1
	set.MaxConcurrentExports, set.MaxConcurrentExportsPerPartition = 5, 1
	g := newGate()
	r := newRig(t, kind, set, func(b batchertest.Batch) error {
		if b.IDs[0] == 0 {
			return g.wait(b.Ctx)
		}
		return nil
	})
	require.NoError(t, r.try(tenant("a"), 1))
	require.NoError(t, r.try(tenant("b"), 1)) // evicts a, whose export hangs
	require.NoError(t, r.try(tenant("a"), 1)) // evicts b
	time.Sleep(time.Minute)
	require.Len(t, r.sink.Batches(), 2, "a's second batch waits")
	require.Equal(t, 1, r.Partitions())
	g.open()
	synctest.Wait()
	require.Len(t, r.sink.Batches(), 3)
	require.Zero(t, r.Partitions())
	r.stop()
}

func TestPartitionIsNotForgottenByATickDuringItsExport(t *testing.T) {
	each(t, testNotForgottenByTick, testNotForgottenByTick, testNotForgottenByTick, testNotForgottenByTick)
}

// The tick at 1 s starts an export that hangs, the one at 2 s finds nothing.
func testNotForgottenByTick[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := defaults()
	set.MetadataKeys = []string{"tenant"}
	set.MaxConcurrentExportsPerPartition = 1
	g := newGate()
	r := newRig(t, kind, set, g.held)
	require.NoError(t, r.try(tenant("a"), 1))
	time.Sleep(3 * time.Second)
	require.Zero(t, r.Stats().LivePartitions)
	require.Equal(t, 1, r.Partitions())
	require.NoError(t, r.try(tenant("a"), 1))
	time.Sleep(3 * time.Second)
	require.Len(t, r.sink.Batches(), 1, "its second batch waits for the first")
	g.open()
	r.stop()
}

func TestPartitionIsKeptUntilItsTickWhenAFullBatchHasLeft(t *testing.T) {
	each(t, testKeptUntilTick, testKeptUntilTick, testKeptUntilTick, testKeptUntilTick)
}

func testKeptUntilTick[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := defaults()
	set.MetadataKeys = []string{"tenant"}
	set.SendBatchSize = 10
	r := newRig(t, kind, set, nil)
	fill := func() {
		require.NoError(t, r.try(tenant("a"), 5))
		time.Sleep(300 * time.Millisecond)
		require.NoError(t, r.try(tenant("a"), 5))
		synctest.Wait()
	}
	fill() // at 0.3 s
	require.EqualValues(t, 1, r.Stats().Batches[batcher.TriggerSize])
	require.Equal(t, 1, r.Partitions())
	require.EqualValues(t, 1, r.Stats().LivePartitions)

	time.Sleep(500 * time.Millisecond)
	accepted := time.Now() // at 0.8 s
	require.NoError(t, r.try(tenant("a"), 1))
	time.Sleep(time.Second)
	synctest.Wait()
	batches := r.sink.Batches()
	require.Len(t, batches, 2)
	require.Equal(t, time.Second, batches[1].At.Sub(accepted), "the first item after a full batch begins a new grid")
	time.Sleep(time.Second)
	synctest.Wait()
	require.Zero(t, r.Partitions())
	require.False(t, r.Armed())

	fill() // 0.3 s after its first item
	time.Sleep(700*time.Millisecond - 1)
	require.Equal(t, 1, r.Partitions())
	time.Sleep(time.Nanosecond)
	synctest.Wait()
	require.Zero(t, r.Partitions(), "nothing has come until its tick")
	require.Zero(t, r.Stats().LivePartitions)
	require.False(t, r.Armed())
	r.stop()
}

// What is only kept for what might come makes room first, and is no loss.
func TestPartitionThatOnlyIsKeptIsNotEvicted(t *testing.T) {
	each(t, testKeptIsNotEvicted, testKeptIsNotEvicted, testKeptIsNotEvicted, testKeptIsNotEvicted)
}

func testKeptIsNotEvicted[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := defaults()
	set.MetadataKeys = []string{"tenant"}
	set.MetadataCardinalityLimit = 2
	set.SendBatchSize = 10
	r := newRig(t, kind, set, nil)
	require.NoError(t, r.try(tenant("pending"), 1))
	for i := range 100 {
		require.NoError(t, r.try(tenant(fmt.Sprint(i)), 5))
		require.NoError(t, r.try(tenant(fmt.Sprint(i)), 5))
		synctest.Wait()
		require.Equal(t, 2, r.Partitions())
	}
	s := r.Stats()
	require.EqualValues(t, 100, s.Batches[batcher.TriggerSize])
	require.Zero(t, s.Evictions)
	r.stop()
}

func TestPartitionIsNotKeptForLong(t *testing.T) {
	each(t, testNotKeptForLong, testNotKeptForLong, testNotKeptForLong, testNotKeptForLong)
}

func testNotKeptForLong[T any](t *testing.T, kind batchertest.Kind[T]) {
	for timeout, kept := range map[time.Duration]int{batcher.MostKept: 1, batcher.MostKept + 1: 0} {
		set := defaults()
		set.MetadataKeys = []string{"tenant"}
		set.SendBatchSize = 10
		set.Timeout = timeout
		r := newRig(t, kind, set, nil)
		require.NoError(t, r.try(tenant("a"), 5))
		require.NoError(t, r.try(tenant("a"), 5))
		synctest.Wait()
		require.Equal(t, kept, r.Partitions(), timeout)
		require.Equal(t, kept > 0, r.Armed())
		r.stop()
		require.False(t, r.Armed())
	}
}

func FuzzPartitionKey(f *testing.F) {
	f.Add("a", "b", "", "", uint8(3), uint8(1))
	f.Add("x", "user", "y", "", uint8(0x31), uint8(0x13))
	f.Add("\x01", "\x00", "\x02\x01", "", uint8(0x22), uint8(0x11))
	keys := []string{"k1", "k2"}
	// shape picks how many of the values each key has; 0 leaves it unset.
	build := func(shape uint8, values []string) map[string][]string {
		md := map[string][]string{}
		for _, key := range keys {
			if n := min(int(shape&0xf)%5, len(values)); n > 0 {
				md[key], values = values[:n], values[n:]
			}
			shape >>= 4
		}
		return md
	}
	f.Fuzz(func(t *testing.T, a, b, c, d string, shape1, shape2 uint8) {
		one := build(shape1, []string{a, b, c, d})
		two := build(shape2, []string{d, c, a, b})
		key1 := batcher.AppendKey(nil, keys, client.NewMetadata(one))
		key2 := batcher.AppendKey(nil, keys, client.NewMetadata(two))
		require.Equal(t, fmt.Sprintf("%q", one) == fmt.Sprintf("%q", two), string(key1) == string(key2), "%q %q", one, two)
	})
}
