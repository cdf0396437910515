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
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
	"github.com/boundedbatch/boundedbatchprocessor/batcher/batchertest"
)

// perTeam is how many neighbours share a resource, and so a team.
const perTeam = 7

func TestResourcesAreDividedAmongPartitions(t *testing.T) {
	each(t, testDivided, testDivided, testDivided, testDivided)
}

func testDivided[T any](t *testing.T, kind batchertest.Kind[T]) {
	random := rand.New(rand.NewPCG(21, 22))
	for _, waits := range []bool{false, true} {
		set := defaults()
		set.MetadataKeys, set.ResourceKeys = []string{"Tenant"}, []string{"team"}
		set.MaxConcurrentExports, set.MaxConcurrentExportsPerPartition = 8, 1
		set.SendBatchSize, set.SendBatchMaxSize = 20, 30
		set.WaitForResult = waits
		r := newRig(t, kind, set, nil)
		owner := map[int]string{}
		for range 100 {
			who, n := fmt.Sprint(random.IntN(3)), 1+random.IntN(150)
			for id := r.next; id < r.next+n; id++ {
				owner[id] = who
			}
			require.NoError(t, r.try(with(map[string][]string{"tenant": {who}, "team": {"forged"}, "authorization": {"secret"}}), n))
		}
		r.stop()
		last := map[string]int{}
		for _, b := range r.sink.Batches() {
			md := client.FromContext(b.Ctx).Metadata
			require.LessOrEqual(t, len(b.IDs), 30)
			for _, id := range b.IDs {
				require.Equal(t, batchertest.Team(b.IDs[0]), batchertest.Team(id))
				require.Equal(t, owner[b.IDs[0]], owner[id])
				require.Equal(t, batchertest.TeamText(id), md.Get("TEAM"))
				require.Equal(t, []string{owner[id]}, md.Get("tenant"))
				partition := fmt.Sprint(owner[id], "/", batchertest.Team(id))
				require.GreaterOrEqual(t, id, last[partition], "order of acceptance")
				last[partition] = id
			}
			require.Nil(t, md.Get("authorization"))
		}
	}
}

// A request whose resources are of one partition, and one with many, takes a number of
// allocations that does not grow with the items.
func TestDividingCopiesNoItems(t *testing.T) {
	kind := batchertest.Logs()
	allocations := func(perResource int) float64 {
		set := defaults()
		set.ResourceKeys, set.Timeout = []string{"team"}, time.Hour
		set.SendBatchSize, set.QueueSize = 10_000_000, 10_000_000
		b, err := batcher.New(kind.Signal, set, func(context.Context, plog.Logs) error { return nil })
		require.NoError(t, err)
		require.NoError(t, b.Start())
		defer func() { require.NoError(t, b.Shutdown(context.Background())) }()
		const runs = 50
		requests := make([]plog.Logs, runs+1)
		for i := range requests {
			requests[i] = plog.NewLogs()
			for team := range 10 {
				rl := requests[i].ResourceLogs().AppendEmpty()
				rl.Resource().Attributes().PutInt("team", int64(team))
				records := rl.ScopeLogs().AppendEmpty().LogRecords()
				for range perResource {
					records.AppendEmpty()
				}
			}
		}
		next := 0
		return testing.AllocsPerRun(runs, func() {
			require.NoError(t, b.Consume(context.Background(), requests[next]))
			next++
		})
	}
	few, many := allocations(10), allocations(1000)
	t.Logf("10 resources in 10 partitions: %.0f allocations with 10 records each, %.0f with 1000", few, many)
	require.InDelta(t, few, many, 10)
	require.Less(t, many, 150.0)
}

func TestStuckPartitionDoesNotHoldUpTheRestOfARequest(t *testing.T) {
	each(t, testStuckPart, testStuckPart, testStuckPart, testStuckPart)
}

func testStuckPart[T any](t *testing.T, kind batchertest.Kind[T]) {
	stuck := func(id int) bool { return batchertest.Team(id) == 0 }
	for _, waits := range []bool{false, true} {
		set := defaults()
		set.ResourceKeys, set.WaitForResult = []string{"team"}, waits
		set.QueueSize, set.SendBatchSize = 200, 10
		set.MaxConcurrentExports = 4
		g := newGate()
		r := newRig(t, kind, set, func(b batchertest.Batch) error {
			if stuck(b.IDs[0]) {
				return g.wait(b.Ctx)
			}
			return nil
		})
		const teams = 13
		lines := 0
		for ; r.Stats().WaitingCallers == 0; lines++ {
			r.next = lines * teams * perTeam
			_ = r.goTry(t.Context(), perTeam)
			synctest.Wait()
		}
		ctx, cancel := context.WithCancel(t.Context())
		first := lines * teams * perTeam
		r.next = first
		result := r.goTry(ctx, teams*perTeam) // the first of them is stuck
		time.Sleep(2 * set.Timeout)
		require.Empty(t, result, "blocked by its first resource")
		got := r.sink.Delivered()
		for id := first; id < r.next; id++ {
			require.Equal(t, stuck(id), got[id] == 0, "item %d", id)
		}
		cancel()
		err := <-result
		require.ErrorIs(t, err, context.Canceled)
		require.False(t, consumererror.IsPermanent(err))
		if !waits {
			require.ErrorContains(t, err, "7 of 91 items were not accepted")
		}
		var want []int
		for id := first; id < first+perTeam; id++ {
			want = append(want, id)
		}
		require.Equal(t, want, partial(t, kind, err))
		g.open()
	}
}

func TestCallerStandsInFewLinesAtOnce(t *testing.T) {
	each(t, testFewLines, testFewLines, testFewLines, testFewLines)
}

// A request of a thousand partitions, and the room for two items: one item after the other
// gets in.
func testFewLines[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := defaults()
	set.ResourceKeys, set.QueueSize, set.SendBatchSize = []string{"resource"}, 2, 2
	g := newGate()
	r := newRig(t, kind, set, g.held)
	request := kind.New(0)
	const parts = 1000
	for i := range parts {
		kind.Move(kind.Make(i*perTeam, 1), request)
	}
	result := make(chan error)
	go func() { result <- r.Consume(t.Context(), request) }()
	synctest.Wait()
	require.LessOrEqual(t, r.Partitions(), 70)
	require.EqualValues(t, 1, r.Stats().WaitingCallers)
	g.open()
	require.NoError(t, <-result)
	require.Zero(t, r.Stats().WaitingCallers)
	require.NoError(t, r.Shutdown(t.Context()))
	require.Len(t, r.sink.Delivered(), parts)
}

func TestRefusedPartsComeBack(t *testing.T) {
	each(t, testRefusedParts, testRefusedParts, testRefusedParts, testRefusedParts)
}

func testRefusedParts[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := defaults()
	set.ResourceKeys, set.BlockOnOverflow = []string{"team"}, false
	set.QueueSize = 100
	g := newGate()
	r := newRig(t, kind, set, g.held)
	require.NoError(t, r.try(t.Context(), perTeam))
	require.NoError(t, r.try(t.Context(), 9*perTeam)) // 70 of 100
	err := r.try(t.Context(), 5*perTeam)              // three new partitions, then the first two again
	require.ErrorIs(t, err, batcher.ErrOverflow)
	rest := partial(t, kind, err)
	require.Subset(t, []int{91, 92, 93, 94, 95, 96, 97, 98, 99, 100, 101, 102, 103, 104}, rest)
	require.EqualValues(t, len(rest), r.Stats().Refused[batcher.RefusedOverflow])

	held := r.Stats().Held
	first := 13 * perTeam
	request := kind.Make(first, 2*perTeam) // of partitions that hold enough already
	for r.Consume(t.Context(), kind.Make(5000, 1)) == nil {
		continue
	}
	err = r.Consume(t.Context(), request)
	if isPartial(err) {
		t.Fatalf("a part of it was accepted at %d of 100 held: %v", held, err)
	}
	require.ErrorIs(t, err, batcher.ErrOverflow)
	ids, err := kind.IDs(request)
	require.NoError(t, err)
	require.Len(t, ids, 2*perTeam, "all of a request that is refused stays with the caller")

	require.ErrorIs(t, r.Consume(expired(t), request), context.Canceled)
	ids, err = kind.IDs(request)
	require.NoError(t, err)
	require.Len(t, ids, 2*perTeam)
	g.open()
	require.NoError(t, r.Shutdown(t.Context()))
	require.ErrorIs(t, r.Consume(t.Context(), request), batcher.ErrShutdown)
	require.ErrorIs(t, r.Consume(t.Context(), kind.New(0)), batcher.ErrShutdown)
	require.Equal(t, 2*perTeam, kind.Items(request))
}

// expired is a context that has ended.
func expired(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

func TestResourcesWithoutItemsAreOfNoAccount(t *testing.T) {
	each(t, testNoAccount(hollowTraces), testNoAccount(hollowLogs), testNoAccount(hollowMetrics))
}

func testNoAccount[T any](hollow hollow[T]) func(*testing.T, batchertest.Kind[T]) {
	return func(t *testing.T, kind batchertest.Kind[T]) {
		set := defaults()
		set.ResourceKeys = []string{"resource", "team"}
		r := newRig(t, kind, set, nil)
		bare := kind.Bare()
		kind.Move(kind.Bare(), bare)
		hollow(bare)
		require.NoError(t, r.Consume(t.Context(), bare))
		require.Zero(t, r.Partitions())

		request := kind.Make(0, 2*perTeam)
		hollow(request)
		r.next = 2 * perTeam
		require.NoError(t, r.Consume(t.Context(), request))
		require.EqualValues(t, 2, r.Stats().LivePartitions)
		r.stop()
	}
}

func TestCallerOfSeveralPartitionsGetsOneAnswer(t *testing.T) {
	each(t, testOneAnswer, testOneAnswer, testOneAnswer, testOneAnswer)
}

func testOneAnswer[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := defaults()
	set.ResourceKeys, set.WaitForResult = []string{"team"}, true
	r := newRig(t, kind, set, func(b batchertest.Batch) error {
		switch batchertest.Team(b.IDs[0]) {
		case 3:
			return consumererror.NewPermanent(errRefused)
		case 4:
			return errRefused
		}
		return nil
	})
	require.NoError(t, r.try(t.Context(), 3*perTeam))
	refused := r.goTry(t.Context(), perTeam)
	retryable := r.goTry(t.Context(), perTeam)
	err := <-refused
	require.True(t, consumererror.IsPermanent(err))
	require.False(t, consumererror.IsPermanent(<-retryable))
	r.next = 13 * perTeam
	err = r.try(t.Context(), 13*perTeam)
	require.ErrorIs(t, err, errRefused)
	require.False(t, consumererror.IsPermanent(err), "a retry could deliver a part of it")
	require.ErrorContains(t, err, "1 parts of the request were refused for good")
	require.EqualValues(t, 14*perTeam, r.Stats().Delivered)
}

func FuzzResourceKey(f *testing.F) {
	f.Add("a", "b", "c", uint8(0x12), uint8(0x21))
	f.Add("", "1", "\x00", uint8(0), uint8(0x34))
	f.Add("1", "1", "1", uint8(0x12), uint8(0x13))
	f.Add("\x85", "\x88", "0", uint8(5), uint8(5)) // the same JSON: invalid UTF-8 is replaced
	f.Add("a", "a", "", uint8(6), uint8(7))        // the same JSON: a number
	f.Add("a", "a", "", uint8(0x86), uint8(0x96))
	names := []string{"k1", "k2"}
	build := func(shape uint8, texts ...string) (attributes ptrace.ResourceSpans, want map[string][]string) {
		r := ptrace.NewResourceSpans()
		want = map[string][]string{}
		for i, name := range names {
			text := texts[i]
			switch shape & 0xf % 10 {
			case 0:
				continue
			case 1:
				r.Resource().Attributes().PutEmpty(name)
			case 2:
				r.Resource().Attributes().PutStr(name, text)
			case 3:
				r.Resource().Attributes().PutInt(name, int64(len(text)))
			case 4:
				r.Resource().Attributes().PutEmptySlice(name).AppendEmpty().SetStr(text)
			case 5:
				r.Resource().Attributes().PutEmptyMap(name).PutStr(text, text)
			case 6:
				r.Resource().Attributes().PutEmptyMap(name).PutInt(text, 1)
			case 7:
				r.Resource().Attributes().PutEmptyMap(name).PutDouble(text, 1)
			case 8:
				m := r.Resource().Attributes().PutEmptySlice(name).AppendEmpty().SetEmptyMap()
				m.PutBool(text, true)
				m.PutStr("a"+text, "")
			case 9:
				m := r.Resource().Attributes().PutEmptySlice(name).AppendEmpty().SetEmptyMap()
				m.PutStr("a"+text, "") // in another order
				m.PutBool(text, true)
			}
			v, _ := r.Resource().Attributes().Get(name)
			want[name] = []string{v.AsString()}
			shape >>= 4
		}
		r.Resource().Attributes().PutStr("other", texts[2])
		return r, want
	}
	f.Fuzz(func(t *testing.T, a, b, c string, shape1, shape2 uint8) {
		one, texts := build(shape1, a, b, c)
		two, _ := build(shape2, b, a, c)
		md := client.NewMetadata(map[string][]string{"tenant": {a, b}, "secret": {c}})
		key1 := batcher.AppendResourceKey(batcher.AppendKey(nil, []string{"tenant", "none"}, md), names, one.Resource().Attributes())
		key2 := batcher.AppendResourceKey(batcher.AppendKey(nil, []string{"tenant", "none"}, md), names, two.Resource().Attributes())
		same := true
		for _, name := range names {
			v1, set1 := one.Resource().Attributes().Get(name)
			v2, set2 := two.Resource().Attributes().Get(name)
			same = same && set1 == set2 && (!set1 || v1.Equal(v2))
		}
		require.Equal(t, same, string(key1) == string(key2), "%q %q", key1, key2)

		seen := client.FromContext(batcher.PartitionContext(t.Context(), string(key1), []string{"tenant", "none"}, names)).Metadata
		require.Equal(t, []string{a, b}, seen.Get("tenant"))
		require.Nil(t, seen.Get("none"))
		require.Nil(t, seen.Get("secret"))
		for _, name := range names {
			require.Equal(t, texts[name], seen.Get(name))
		}
	})
}
