package batcher_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pprofile"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
	"github.com/boundedbatch/boundedbatchprocessor/batcher/batchertest"
)

// tree is how the elements of one signal lie in each other.
type tree[T any] struct {
	kind   batchertest.Kind[T]
	hollow hollow[T]
	// lists tells the lengths of all lists but the innermost, from front to back.
	lists func(T) []int
}

var (
	tracesTree = tree[ptrace.Traces]{batchertest.Traces(), hollowTraces, func(td ptrace.Traces) (n []int) {
		n = append(n, td.ResourceSpans().Len())
		for _, r := range td.ResourceSpans().All() {
			n = append(n, r.ScopeSpans().Len())
		}
		return n
	}}
	logsTree = tree[plog.Logs]{batchertest.Logs(), hollowLogs, func(ld plog.Logs) (n []int) {
		n = append(n, ld.ResourceLogs().Len())
		for _, r := range ld.ResourceLogs().All() {
			n = append(n, r.ScopeLogs().Len())
		}
		return n
	}}
	metricsTree = tree[pmetric.Metrics]{batchertest.Metrics(), hollowMetrics, func(md pmetric.Metrics) (n []int) {
		n = append(n, md.ResourceMetrics().Len())
		for _, r := range md.ResourceMetrics().All() {
			n = append(n, r.ScopeMetrics().Len())
			for _, s := range r.ScopeMetrics().All() {
				n = append(n, s.Metrics().Len())
			}
		}
		return n
	}}
	profilesTree = tree[*batcher.ProfilesData]{batchertest.Profiles(), hollowProfiles, func(p *batcher.ProfilesData) (n []int) {
		pd := p.Profiles()
		n = append(n, pd.ResourceProfiles().Len())
		for _, r := range pd.ResourceProfiles().All() {
			n = append(n, r.ScopeProfiles().Len())
		}
		return n
	}}
)

// Single items merge into what one request with all of them is.
func TestSingleItemsMergeIntoOneRequest(t *testing.T) {
	each(t, testMergeSingles, testMergeSingles, testMergeSingles)
}

func testMergeSingles[T any](t *testing.T, kind batchertest.Kind[T]) {
	const items = 60
	data := kind.New(0)
	for id := range items {
		kind.Move(kind.Make(id, 1), data)
	}
	joined, _ := batcher.Merged(kind.Signal, data)
	require.True(t, joined)
	got, err := kind.Marshal(data)
	require.NoError(t, err)
	want, err := kind.Marshal(kind.Make(0, items))
	require.NoError(t, err)
	require.Equal(t, want, got)
	joined, _ = batcher.Merged(kind.Signal, data)
	require.False(t, joined, "nothing is equal any more")
}

// mergedOrder is a model: the order that items have when each list is grouped, and the lengths of the lists. The
// identity of an item tells what it lies in. Its entry is the request that it came with.
func mergedOrder(ids []int, levels ...func(id int) int) (order, lists []int) {
	if len(levels) == 0 {
		return ids, nil
	}
	var keys []int
	groups := map[int][]int{}
	for _, id := range ids {
		key := levels[0](id)
		if groups[key] == nil {
			keys = append(keys, key)
		}
		groups[key] = append(groups[key], id)
	}
	lists = []int{len(keys)}
	for _, key := range keys {
		inner, innerLists := mergedOrder(groups[key], levels[1:]...)
		order, lists = append(order, inner...), append(lists, innerLists...)
	}
	return order, lists
}

// levels are what the identity of an item says about the elements it lies in.
func levels(signal string) []func(int) int {
	of := func(n int) func(int) int { return func(id int) int { return id / n } }
	if signal == "metrics" {
		return []func(int) int{of(7), of(3), of(2)}
	}
	return []func(int) int{of(7), of(3)}
}

// checkMerged merges the items of requests, made of random runs of identities in random order, and compares the outcome
// with the model. With hollow elements without items only what is promised of items is checked.
func checkMerged[T any](t *testing.T, of tree[T], items int, seed uint64) {
	t.Helper()
	kind, random := of.kind, rand.New(rand.NewPCG(seed, 3))
	withHollow := seed%3 == 0
	var requests [][]int
	for first := 0; first < items; {
		n := min(1+random.IntN(5), items-first)
		var ids []int
		for i := range n {
			ids = append(ids, first+i)
		}
		requests, first = append(requests, ids), first+n
	}
	random.Shuffle(len(requests), func(i, j int) { requests[i], requests[j] = requests[j], requests[i] })
	data, all := kind.New(0), []int(nil)
	var entries []int // the first one of each request, and of one behind the last
	for _, ids := range requests {
		request := kind.Make(ids[0], len(ids))
		if withHollow && random.IntN(2) == 0 {
			of.hollow(request)
		}
		entries = append(entries, kind.Resources(data))
		kind.Move(request, data)
		all = append(all, ids...)
	}
	entries = append(entries, kind.Resources(data))
	before := kind.Bytes(data)
	_, pick := batcher.Merged(kind.Signal, data)

	ids, err := kind.IDs(data)
	require.NoError(t, err)
	want, lists := mergedOrder(all, levels(kind.Name())...)
	require.Equal(t, want, ids)
	wire, err := kind.Wire(data)
	require.NoError(t, err)
	require.Len(t, wire, kind.Bytes(data))
	require.LessOrEqual(t, len(wire), before)
	if !withHollow {
		require.Equal(t, lists, of.lists(data))
	}

	count := func(data T) int {
		text, err := kind.JSON(data)
		require.NoError(t, err)
		return strings.Count(string(text), `"hollow"`)
	}
	hollow, together := 0, 0
	for from := 0; from < len(requests); {
		to := min(from+1+random.IntN(3), len(requests))
		part := pick(entries[from], entries[to])
		ids, err := kind.IDs(part)
		require.NoError(t, err)
		own := slices.Concat(requests[from:to]...)
		want := slices.DeleteFunc(slices.Clone(want), func(id int) bool { return !slices.Contains(own, id) })
		require.Equal(t, want, ids, "what came from requests %d to %d", from, to)
		_, lists := mergedOrder(want, levels(kind.Name())...)
		if !withHollow {
			require.Equal(t, lists, of.lists(part))
		}
		if kind.Name() == "profiles" {
			encoded, err := kind.Wire(part)
			require.NoError(t, err)
			require.Len(t, encoded, kind.Bytes(part))
		}
		hollow += count(part)
		together += len(ids)
		from = to
	}
	require.Equal(t, items, together)
	require.Equal(t, count(data), hollow, "what is without items comes along once")
	after, err := kind.Wire(data)
	require.NoError(t, err)
	require.Equal(t, wire, after, "picking only reads")
}

func TestMergedDataIsAsTheModelSays(t *testing.T) {
	for seed := range uint64(150) {
		items := 1 + rand.New(rand.NewPCG(seed, 4)).IntN(90)
		t.Run(fmt.Sprintf("items=%d/seed=%d", items, seed), func(t *testing.T) {
			checkMerged(t, tracesTree, items, seed)
			checkMerged(t, logsTree, items, seed)
			checkMerged(t, metricsTree, items, seed)
			if seed < 40 {
				checkMerged(t, profilesTree, items, seed)
			}
		})
	}
}

func FuzzMerge(f *testing.F) {
	f.Add(uint8(1), uint64(0))
	f.Add(uint8(30), uint64(2))
	f.Add(uint8(200), uint64(7))
	f.Fuzz(func(t *testing.T, items uint8, seed uint64) {
		if items == 0 {
			return
		}
		checkMerged(t, tracesTree, int(items), seed)
		checkMerged(t, logsTree, int(items), seed)
		checkMerged(t, metricsTree, int(items), seed)
		checkMerged(t, profilesTree, int(items%32)+1, seed)
	})
}

// merging are settings for a batch of that many items.
func merging(items int) batcher.Settings {
	set := defaults()
	set.SendBatchSize, set.QueueSize, set.MergeResources = items, max(items, 1000), true
	return set
}

// exported are the numbers of resources in the batches that were handed on.
type exported struct {
	mu        sync.Mutex
	resources []int
}

// newMerging starts a batcher in front of a consumer that only counts.
func newMerging[T any](t *testing.T, kind batchertest.Kind[T], set batcher.Settings) (*batcher.Batcher[T], *exported) {
	t.Helper()
	var e exported
	b, err := batcher.New(kind.Signal, set, func(_ context.Context, data T) error {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.resources = append(e.resources, kind.Resources(data))
		return nil
	})
	require.NoError(t, err)
	require.NoError(t, b.Start())
	t.Cleanup(func() { require.NoError(t, b.Shutdown(context.Background())) })
	return b, &e
}

func TestBatchesAreMergedOnlyIfAsked(t *testing.T) {
	each(t, testMergeIfAsked, testMergeIfAsked, testMergeIfAsked, testMergeIfAsked)
}

func testMergeIfAsked[T any](t *testing.T, kind batchertest.Kind[T]) {
	for i := range 8 { // where downstream mutates what it gets and nobody waits, nothing is kept in mind
		merge, waits, mutates := i&1 > 0, i&2 > 0, i&4 > 0
		set := merging(21)
		set.MergeResources, set.WaitForResult, set.NextMutates = merge, waits, mutates
		b, got := newMerging(t, kind, set)
		for id := range 21 {
			go func() {
				if err := b.Consume(context.Background(), kind.Make(id, 1)); err != nil {
					t.Error(err)
				}
			}()
			synctest.Wait()
		}
		want := 21
		if merge {
			want = 3
		}
		require.Equal(t, []int{want}, got.resources, "waits: %v, mutates: %v", waits, mutates)
	}
}

// What is saved for each resource does not count in large requests.
func TestLargeRequestsAreNotMerged(t *testing.T) {
	each(t, testMergeLarge, testMergeLarge, testMergeLarge)
}

func testMergeLarge[T any](t *testing.T, kind batchertest.Kind[T]) {
	for _, more := range []int{0, 1} {
		size := batcher.MergedItems + more
		b, got := newMerging(t, kind, merging(4*size))
		data := kind.New(0)
		for i := range 4 {
			kind.Move(packed(kind, i*size, size), data)
		}
		require.NoError(t, b.Consume(t.Context(), data))
		synctest.Wait()
		require.Equal(t, []int{[]int{1, 4}[more]}, got.resources)
	}
}

// packed is a request whose items lie in one resource that has nothing.
func packed[T any](kind batchertest.Kind[T], first, items int) T {
	data := kind.Make(first, items)
	switch data := any(data).(type) {
	case ptrace.Traces:
		spans := ptrace.NewSpanSlice()
		for _, r := range data.ResourceSpans().All() {
			for _, s := range r.ScopeSpans().All() {
				s.Spans().MoveAndAppendTo(spans)
			}
		}
		data.ResourceSpans().RemoveIf(func(ptrace.ResourceSpans) bool { return true })
		spans.MoveAndAppendTo(data.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty().Spans())
	case plog.Logs:
		records := plog.NewLogRecordSlice()
		for _, r := range data.ResourceLogs().All() {
			for _, s := range r.ScopeLogs().All() {
				s.LogRecords().MoveAndAppendTo(records)
			}
		}
		data.ResourceLogs().RemoveIf(func(plog.ResourceLogs) bool { return true })
		records.MoveAndAppendTo(data.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords())
	case pmetric.Metrics:
		metrics := pmetric.NewMetricSlice()
		for _, r := range data.ResourceMetrics().All() {
			for _, s := range r.ScopeMetrics().All() {
				s.Metrics().MoveAndAppendTo(metrics)
			}
		}
		data.ResourceMetrics().RemoveIf(func(pmetric.ResourceMetrics) bool { return true })
		metrics.MoveAndAppendTo(data.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics())
	}
	return data
}

// Where the first entries all differ, others are not looked at.
func TestMergingEndsWhereAllDiffers(t *testing.T) {
	each(t, testMergeDiffers, testMergeDiffers, testMergeDiffers)
}

func testMergeDiffers[T any](t *testing.T, kind batchertest.Kind[T]) {
	for _, different := range []int{batcher.MergeSample - 1, batcher.MergeSample} {
		set := merging(different + 3)
		b, got := newMerging(t, kind, set)
		data := kind.New(0)
		for i := range different {
			kind.Move(kind.Make(7*i, 1), data)
		}
		for range 3 {
			kind.Move(kind.Make(0, 1), data)
		}
		require.NoError(t, b.Consume(t.Context(), data))
		synctest.Wait()
		want := different
		if different == batcher.MergeSample {
			want += 3
		}
		require.Equal(t, []int{want}, got.resources)
	}
}

// Which parts of a batch are sent again, and what callers are told, does not depend on whether it was merged.
func TestMergedBatchesAreDividedAsOthers(t *testing.T) {
	each(t, testMergeIsolation, testMergeIsolation, testMergeIsolation, testMergeIsolation)
}

func testMergeIsolation[T any](t *testing.T, kind batchertest.Kind[T]) {
	for seed := range uint64(60) {
		var first []string
		for _, merge := range []bool{false, true} {
			got := divideMerged(t, kind, seed, merge)
			if !merge {
				first = got
			}
			require.Equal(t, first, got, "seed %d", seed)
		}
	}
}

// divideMerged sends random requests whose resources are often equal, some of which are refused for good, and returns
// the items of each batch and what callers were told.
func divideMerged[T any](t *testing.T, kind batchertest.Kind[T], seed uint64, merge bool) (all []string) {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 5))
	requests := 2 + random.IntN(20)
	var sizes, order []int
	total := 0
	for i := range requests {
		order, sizes = append(order, i), append(sizes, 1+random.IntN(12))
		total += sizes[i]
	}
	firsts := make([]int, requests)
	for i := 1; i < requests; i++ {
		firsts[i] = firsts[i-1] + sizes[i-1]
	}
	random.Shuffle(requests, func(i, j int) { order[i], order[j] = order[j], order[i] })
	var bad []int
	for range 1 + random.IntN(4) {
		bad = append(bad, random.IntN(total))
	}
	set := merging(total)
	set.MergeResources, set.WaitForResult, set.NextMutates = merge, random.IntN(2) == 0, random.IntN(3) == 0
	if random.IntN(2) == 0 {
		set.SendBatchMaxBytes = 1 << 20
	}
	set.Retry = retrying().Retry
	set.MaxConcurrentExports = 1 + random.IntN(2)
	fails := random.IntN(3) // exports that fail in the beginning
	r := newRig(t, kind, set, func(b batchertest.Batch) error {
		if b.Number < fails {
			return errors.New("not now")
		}
		for _, id := range bad {
			if slices.Contains(b.IDs, id) { // whatever order they are in
				return poisoned(id)
			}
		}
		return nil
	})
	var results []<-chan error
	for _, i := range order {
		result := make(chan error, 1)
		results = append(results, result)
		go func() { result <- r.Consume(t.Context(), kind.Make(firsts[i], sizes[i])) }()
		synctest.Wait()
	}
	time.Sleep(time.Hour)
	for i, result := range results {
		all = append(all, fmt.Sprint("request ", order[i], ": ", <-result))
	}
	if set.WaitForResult { // otherwise one request is searched in turn, with resources in the order of the merged batch
		for _, b := range r.sink.Batches() {
			all = append(all, fmt.Sprint(slices.Sorted(slices.Values(b.IDs))))
		}
	}
	for id := range total {
		all = append(all, fmt.Sprint(id, " delivered ", r.sink.Delivered()[id]))
	}
	require.NoError(t, r.Shutdown(t.Context()))
	return all
}

// What downstream keeps of a batch that it has refused is only read.
func TestRefusedMergedBatchIsOnlyRead(t *testing.T) {
	each(t, testMergeReadOnly, testMergeReadOnly, testMergeReadOnly, testMergeReadOnly)
}

func testMergeReadOnly[T any](t *testing.T, kind batchertest.Kind[T]) {
	for _, waits := range []bool{false, true} {
		set := merging(20)
		set.WaitForResult = waits
		delivered := map[int]int{}
		b, err := batcher.New(kind.Signal, set, func(_ context.Context, data T) error {
			ids, err := kind.IDs(data)
			if err != nil {
				t.Error(err)
			}
			markReadOnly(data)
			if err := poison(11)(batchertest.Batch{IDs: ids}); err != nil {
				return err
			}
			for _, id := range ids {
				delivered[id]++
			}
			return nil
		})
		require.NoError(t, err)
		require.NoError(t, b.Start())
		for id := range 20 {
			go func() {
				err := b.Consume(context.Background(), kind.Make(id, 1))
				if refused := err != nil; refused != (waits && id == 11) {
					t.Error(err)
				}
			}()
			synctest.Wait()
		}
		require.NoError(t, b.Shutdown(t.Context()))
		require.Len(t, delivered, 19, "waits: %v", waits)
	}
}

func markReadOnly(data any) {
	switch data := data.(type) {
	case ptrace.Traces:
		data.MarkReadOnly()
	case plog.Logs:
		data.MarkReadOnly()
	case pmetric.Metrics:
		data.MarkReadOnly()
	case *batcher.ProfilesData:
		data.Profiles().MarkReadOnly()
	}
}

func TestMergedBatchIsSentAgainAsItIs(t *testing.T) {
	each(t, testMergeRetry, testMergeRetry, testMergeRetry, testMergeRetry)
}

func testMergeRetry[T any](t *testing.T, kind batchertest.Kind[T]) {
	for _, mutates := range []bool{false, true} {
		set := merging(30)
		set.Retry, set.NextMutates = retrying().Retry, mutates
		r := newRig(t, kind, set, func(b batchertest.Batch) error {
			switch b.Number {
			case 0:
				return errRefused
			case 1: // the rest is delivered
				return kind.Partial(errRefused, kind.Make(8, 3))
			}
			return nil
		})
		for range 30 {
			r.send(1)
		}
		time.Sleep(time.Minute)
		batches := r.sink.Batches()
		require.Len(t, batches, 3)
		require.Equal(t, batches[0].IDs, batches[1].IDs)
		require.Equal(t, batches[0].Bytes, batches[1].Bytes)
		require.Equal(t, []int{8, 9, 10}, batches[2].IDs)
		r.stop()
	}
}

// Limits hold for what was measured before. A size that is told is that of what is sent.
func TestSizeOfAMergedBatchIsExactOrUnknown(t *testing.T) {
	each(t, testMergeBytes, testMergeBytes, testMergeBytes, testMergeBytes)
}

func testMergeBytes[T any](t *testing.T, kind batchertest.Kind[T]) {
	for _, measures := range []bool{false, true} {
		for _, limit := range []int{0, 5000} {
			for _, step := range []int{1, 7} { // with 7 no two resources are equal
				set := merging(40)
				set.SendBatchMaxBytes = limit
				seen := &events{bytes: measures}
				set.Observer = seen
				r := newRig(t, kind, set, nil)
				for i := range 200 {
					require.NoError(t, r.Consume(t.Context(), kind.Make(step*i, 1)))
					synctest.Wait()
				}
				require.NoError(t, r.Shutdown(t.Context()))
				batches := r.sink.Batches()
				require.Len(t, seen.began, len(batches))
				for i, b := range batches {
					if limit > 0 {
						require.LessOrEqual(t, b.Bytes, limit)
					}
					if measures || limit > 0 && step == 7 {
						require.Equal(t, b.Bytes, seen.began[i].Bytes)
					} else {
						require.Equal(t, -1, seen.began[i].Bytes)
					}
				}
			}
		}
	}
}

// Entries of which nobody is told, because callers have withdrawn, do not move those behind them.
func TestWithdrawnRequestsAreNotMerged(t *testing.T) {
	each(t, testMergeWithdrawn, testMergeWithdrawn, testMergeWithdrawn, testMergeWithdrawn)
}

func testMergeWithdrawn[T any](t *testing.T, kind batchertest.Kind[T]) {
	for _, limit := range []int{0, 1 << 20} {
		set := merging(100)
		set.WaitForResult, set.SendBatchMaxBytes = true, limit
		r := newRig(t, kind, set, poison(9))
		var results []<-chan error
		for i := range 20 {
			ctx, cancel := context.WithCancel(t.Context())
			t.Cleanup(cancel)
			results = append(results, r.goTry(ctx, 1))
			synctest.Wait()
			if i%4 == 3 {
				cancel()
			}
		}
		time.Sleep(time.Minute)
		for i, result := range results {
			switch err := <-result; {
			case i%4 == 3:
				require.ErrorIs(t, err, context.Canceled)
			case i == 9:
				require.EqualError(t, err, poisoned(9).Error())
			default:
				require.NoError(t, err)
			}
		}
		require.NoError(t, r.Shutdown(t.Context()))
		require.Len(t, r.sink.Delivered(), 14)
	}
}

// fiveServices is what 1-item requests of five services are as a batch.
func fiveServices(n int) ptrace.Traces {
	td := ptrace.NewTraces()
	for i := range n {
		r := td.ResourceSpans().AppendEmpty()
		a := r.Resource().Attributes()
		service := fmt.Sprint("service-", i%5)
		a.PutStr("service.name", service)
		a.PutStr("service.namespace", "shop")
		a.PutStr("service.instance.id", service+"-6c9f8b7d5-x2x7k")
		a.PutStr("k8s.pod.name", service+"-6c9f8b7d5-x2x7k")
		a.PutStr("k8s.node.name", "node-17")
		a.PutStr("telemetry.sdk.name", "opentelemetry")
		a.PutStr("telemetry.sdk.language", "go")
		a.PutStr("telemetry.sdk.version", "1.40.0")
		s := r.ScopeSpans().AppendEmpty()
		s.Scope().SetName("go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp")
		s.Scope().SetVersion("0.62.0")
		span := s.Spans().AppendEmpty()
		span.SetName("GET /cart")
		span.SetTraceID([16]byte{byte(i), byte(i >> 8), 3})
		span.SetSpanID([8]byte{byte(i), byte(i >> 8), 3})
		span.SetStartTimestamp(1_700_000_000_000_000_000)
		span.SetEndTimestamp(1_700_000_000_001_000_000)
		span.Attributes().PutStr("http.request.method", "GET")
		span.Attributes().PutInt("http.response.status_code", 200)
		span.Attributes().PutStr("url.path", "/cart")
	}
	return td
}

func TestSingleItemsOfFiveServicesShrink(t *testing.T) {
	td := fiveServices(8192)
	s := batcher.Traces()
	before := s.Bytes(td)
	batcher.Merged(s, td)
	require.Equal(t, 5, s.Resources(td))
	require.GreaterOrEqual(t, float64(before)/float64(s.Bytes(td)), 2.5)
}

// A dictionary is shared, and what refers to it is not looked at: profiles stay as they are.
func TestMergedProfilesKeepTheirDictionary(t *testing.T) {
	kind := batchertest.Profiles()
	data := kind.New(0)
	for id := range 40 {
		kind.Move(kind.Make(id, 1), data)
	}
	before := pprofile.NewProfilesDictionary()
	data.Profiles().Dictionary().CopyTo(before)
	batcher.Merged(kind.Signal, data)
	require.Equal(t, before, data.Profiles().Dictionary())
	require.Equal(t, 6, kind.Resources(data))
}
