package batcher_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/consumer/consumererror"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
	"github.com/boundedbatch/boundedbatchprocessor/batcher/batchertest"
)

// poison answers a batch that holds any of the given items with a permanent error that
// names the first of them.
func poison(ids ...int) func(batchertest.Batch) error {
	return func(b batchertest.Batch) error {
		for _, id := range b.IDs {
			if slices.Contains(ids, id) {
				return poisoned(id)
			}
		}
		return nil
	}
}

func poisoned(id int) error {
	return consumererror.NewPermanent(status.Errorf(codes.InvalidArgument, "item %d", id))
}

// furtherExports is a model of the search: how many exports it takes if these units are
// faulty and fail unlike each other.
func furtherExports(faulty []bool, ordered bool) int {
	switch {
	case !faulty[0]:
		return 1 + halve(faulty[1:])
	case len(faulty) == 2:
		return 2
	case ordered:
		return 2 + send(faulty[2:])
	}
	return 2 + send(faulty[1:len(faulty)-1])
}

// send is the exports for units of which nothing is known, halve those for units that hold
// a fault.
func send(faulty []bool) int {
	if len(faulty) == 1 || !slices.Contains(faulty, true) {
		return 1
	}
	return 1 + halve(faulty)
}

func halve(faulty []bool) int {
	first, second := faulty[:len(faulty)/2], faulty[len(faulty)/2:]
	switch {
	case len(faulty) == 1:
		return 1
	case slices.Contains(first, true):
		return send(first) + send(second)
	}
	return 1 + halve(second)
}

// mostFor is the bound on the further exports for one faulty one of n callers.
func mostFor(n int) int { return int(2*math.Log2(float64(n)) + 1) }

func TestRefusedCallerIsFoundAndTheOthersAreDelivered(t *testing.T) {
	each(t, testFindOne, testFindOne, testFindOne, testFindOne)
}

// Every number of callers, every position of the faulty one, with and without order.
func testFindOne[T any](t *testing.T, kind batchertest.Kind[T]) {
	for _, slots := range []int{1, 3} {
		for n := 2; n <= 33; n++ {
			for bad := range n {
				findOne(t, kind, slots, n, bad)
			}
		}
	}
}

func findOne[T any](t *testing.T, kind batchertest.Kind[T], slots, n, bad int) {
	name := fmt.Sprintf("%d slots, %d callers, number %d is faulty", slots, n, bad)
	set := waiting()
	set.SendBatchSize, set.MaxConcurrentExports = 2*n, slots
	r := newRig(t, kind, set, poison(2*bad+1))
	results := r.goSend(t.Context(), same(n, 2)...)
	for i, result := range results {
		if i == bad {
			require.EqualError(t, <-result, poisoned(2*bad+1).Error(), name)
		} else {
			require.NoError(t, <-result, name)
		}
	}
	s := r.Stats()
	require.EqualValues(t, 2, s.Failed[batcher.FailedPermanent], name)
	require.EqualValues(t, 2*n-2, s.Delivered, name)
	further := len(r.sink.Batches()) - 1
	faulty := make([]bool, n)
	faulty[bad] = true
	require.Equal(t, furtherExports(faulty, slots == 1), further, name)
	require.LessOrEqual(t, further, mostFor(n), name)
	require.EqualValues(t, further, s.IsolationExports, name)
	require.EqualValues(t, 1, s.Batches[batcher.TriggerSize], name)
	require.NoError(t, r.Shutdown(t.Context()))
	got := r.sink.Delivered()
	require.Len(t, got, 2*n-2, name)
	last := -1
	for _, b := range r.sink.Batches()[1:] {
		if slots == 1 && poison(2*bad+1)(b) == nil {
			require.Greater(t, b.IDs[0], last, "%s: order", name)
			last = b.IDs[len(b.IDs)-1]
		}
	}
	for id := range got {
		require.Equal(t, 1, got[id], name)
	}
}

func TestSeveralRefusedCallersAreFound(t *testing.T) {
	each(t, testFindSeveral, testFindSeveral, testFindSeveral, testFindSeveral)
}

func testFindSeveral[T any](t *testing.T, kind batchertest.Kind[T]) {
	for _, c := range []struct {
		n   int
		bad []int
	}{
		{20, []int{3, 17}},
		{20, []int{0, 1}},
		{20, []int{0, 19}},
		{20, []int{18, 19}},
		{21, []int{2, 9, 14}},
		{2, []int{0, 1}},
		{5, []int{0, 1, 2, 3, 4}},
		{16, []int{0, 2, 4, 6, 8, 10, 12, 14}},
	} {
		for _, slots := range []int{1, 3} {
			name := fmt.Sprintf("%d slots: %v of %d", slots, c.bad, c.n)
			set := waiting()
			set.SendBatchSize, set.MaxConcurrentExports = c.n, slots
			r := newRig(t, kind, set, poison(c.bad...))
			for i, result := range r.goSend(t.Context(), same(c.n, 1)...) {
				if slices.Contains(c.bad, i) {
					require.EqualError(t, <-result, poisoned(i).Error(), name)
				} else {
					require.NoError(t, <-result, name)
				}
			}
			s := r.Stats()
			faulty := make([]bool, c.n)
			for _, i := range c.bad {
				faulty[i] = true
			}
			require.EqualValues(t, furtherExports(faulty, slots == 1), s.IsolationExports, name)
			require.EqualValues(t, len(c.bad), s.Failed[batcher.FailedPermanent], name)
			require.LessOrEqual(t, int(s.IsolationExports), len(c.bad)*mostFor(c.n), name)
			require.NoError(t, r.Shutdown(t.Context()))
			require.Len(t, r.sink.Delivered(), c.n-len(c.bad), name)
		}
	}
}

func TestIsolationEndsAfter64Exports(t *testing.T) {
	each(t, testBound, testBound, testBound, testBound)
}

// Every second of some 200 callers is faulty: too many to find them all. The number decides
// what kind of part is the last one.
func testBound[T any](t *testing.T, kind batchertest.Kind[T]) {
	for n := 190; n < 220; n++ {
		exhaust(t, kind, n)
	}
}

func exhaust[T any](t *testing.T, kind batchertest.Kind[T], n int) {
	var bad []int
	for i := 1; i < n; i += 2 {
		bad = append(bad, i)
	}
	set := waiting()
	set.SendBatchSize = n
	seen := &events{}
	set.Observer = seen
	r := newRig(t, kind, set, poison(bad...))
	refused := 0
	for i, result := range r.goSend(t.Context(), same(n, 1)...) {
		err := <-result
		if err != nil {
			refused++
			require.True(t, consumererror.IsPermanent(err))
		} else {
			require.NotContains(t, bad, i)
		}
	}
	s := r.Stats()
	require.EqualValues(t, 64, s.IsolationExports)
	require.Len(t, r.sink.Batches(), 65)
	require.EqualValues(t, refused, s.Failed[batcher.FailedPermanent])
	require.EqualValues(t, n-refused, s.Delivered)
	require.Equal(t, refused, seen.failed(), "all that is given up is told")
	require.NoError(t, r.Shutdown(t.Context()))
	require.Len(t, r.sink.Delivered(), n-refused)
	require.Less(t, refused, n)
}

func TestGeneralFailureIsNotIsolated(t *testing.T) {
	each(t, testGeneral, testGeneral, testGeneral, testGeneral)
}

func testGeneral[T any](t *testing.T, kind batchertest.Kind[T]) {
	for _, c := range []struct {
		name    string
		refusal func(n int) error
	}{
		{"the same words", func(int) error { return consumererror.NewPermanent(errRefused) }},
		{"a code that is about the sender", func(n int) error {
			return consumererror.NewPermanent(status.Errorf(codes.Unauthenticated, "request %d", n))
		}},
	} {
		for _, slots := range []int{1, 3} {
			bad := true
			set := waiting()
			set.SendBatchSize, set.MaxConcurrentExports = 20, slots
			seen := &events{}
			set.Observer = seen
			r := newRig(t, kind, set, func(b batchertest.Batch) error {
				if bad {
					return c.refusal(b.Number)
				}
				return nil
			})
			round := func(further int, refused bool) {
				t.Helper()
				before := r.Stats()
				results := r.goSend(t.Context(), same(20, 1)...)
				for _, result := range results {
					require.Equal(t, refused, <-result != nil, c.name)
				}
				s := r.Stats()
				require.EqualValues(t, further, s.IsolationExports-before.IsolationExports, c.name)
			}
			round(2, true)
			require.Equal(t, 20, seen.failed())
			last := seen.outcomes[len(seen.outcomes)-1]
			require.False(t, last.Isolated, "not the fault of those that were tried")
			round(0, true) // known
			time.Sleep(999 * time.Millisecond)
			round(0, true)
			time.Sleep(time.Millisecond)
			round(2, true) // looked at again after a second
			bad = false
			round(0, false) // a success
			bad = true
			round(2, true) // is the end of what was known
			require.NoError(t, r.Shutdown(t.Context()))
		}
	}
}

func TestOnlyPartsCountAsIsolated(t *testing.T) {
	each(t, testIsolated, testIsolated, testIsolated, testIsolated)
}

func testIsolated[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := waiting()
	seen := &events{}
	set.Observer = seen
	r := newRig(t, kind, set, poison(5, 105))
	require.EqualError(t, r.try(t.Context(), 100), poisoned(5).Error())
	require.False(t, seen.outcomes[0].Isolated, "it may as well be general")
	results := r.goSend(t.Context(), 50, 50)
	require.Error(t, <-results[0])
	require.NoError(t, <-results[1])
	require.Equal(t, batcher.FateDivided, seen.outcomes[1].Fate)
	require.Equal(t, batcher.FateFailed, seen.outcomes[2].Fate)
	require.True(t, seen.outcomes[2].Isolated)
	require.NoError(t, r.Shutdown(t.Context()))
}

func TestRefusalThatDependsOnSizeLosesNothing(t *testing.T) {
	each(t, testSizeRefused, testSizeRefused, testSizeRefused, testSizeRefused)
}

// A server that takes no more than 10 items refuses for good what it could take in parts.
func testSizeRefused[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := waiting()
	set.SendBatchSize = 60
	r := newRig(t, kind, set, func(b batchertest.Batch) error {
		if len(b.IDs) > 10 {
			return consumererror.NewPermanent(status.Error(codes.ResourceExhausted, "too large"))
		}
		return nil
	})
	for _, result := range r.goSend(t.Context(), same(20, 3)...) {
		require.NoError(t, <-result)
	}
	r.stop()
}

func TestRetryableErrorIsNeverDivided(t *testing.T) {
	each(t, testRetryableWhole, testRetryableWhole, testRetryableWhole, testRetryableWhole)
}

func testRetryableWhole[T any](t *testing.T, kind batchertest.Kind[T]) {
	r := newRig(t, kind, waiting(), func(batchertest.Batch) error { return errRefused })
	for _, result := range r.goSend(t.Context(), 50, 50) {
		require.Equal(t, errRefused, <-result)
	}
	require.Len(t, r.sink.Batches(), 1)
	require.NoError(t, r.Shutdown(t.Context()))
}

func TestWithdrawnCallersTakeNoPartInIsolation(t *testing.T) {
	each(t, testWithdrawnIsolation, testWithdrawnIsolation, testWithdrawnIsolation, testWithdrawnIsolation)
}

func testWithdrawnIsolation[T any](t *testing.T, kind batchertest.Kind[T]) {
	r := newRig(t, kind, waiting(), poison(25, 35))
	first := r.goSend(t.Context(), 10)[0]
	ctx, cancel := context.WithCancel(t.Context())
	gone := r.goSend(ctx, 10)[0]
	rest := r.goSend(t.Context(), 10, 10, 10)
	cancel()
	require.Error(t, <-gone)
	require.NoError(t, <-first)
	require.EqualError(t, <-rest[0], poisoned(25).Error())
	require.EqualError(t, <-rest[1], poisoned(35).Error())
	require.NoError(t, <-rest[2])
	require.NoError(t, r.Shutdown(t.Context()))
	require.Len(t, r.sink.Delivered(), 20)
}

func TestWithoutWaitingIsolationGoesAlongResources(t *testing.T) {
	each(t, testResources, testResources, testResources, testResources)
}

// Requests of 14 items have two resources of 7.
func testResources[T any](t *testing.T, kind batchertest.Kind[T]) {
	for _, c := range []struct {
		mutates bool
		want    int // delivered
	}{
		{false, 140 - 7}, // the innocent half of the faulty request too
		{true, 0},        // nothing is left of what downstream has had
	} {
		set := defaults()
		set.SendBatchSize, set.NextMutates = 140, c.mutates
		r := newRig(t, kind, set, poison(75))
		for range 10 {
			r.send(14)
		}
		time.Sleep(time.Minute)
		s := r.Stats()
		require.EqualValues(t, c.want, s.Delivered)
		require.EqualValues(t, 140-c.want, s.Failed[batcher.FailedPermanent])
		require.NoError(t, r.Shutdown(t.Context()))
		require.Len(t, r.sink.Delivered(), c.want)
	}
}

func TestFaultyRequestTakesNoOtherWithIt(t *testing.T) {
	each(t, testFaultyRequest, testFaultyRequest, testFaultyRequest, testFaultyRequest)
}

// Ten requests of three resources each, one of which has faulty resources that are all
// refused in the same words. Neighbouring resources are from one sender: that they fail
// alike must not be taken for a general failure.
func testFaultyRequest[T any](t *testing.T, kind batchertest.Kind[T]) {
	for _, slots := range []int{1, 3} {
		for request := range 10 {
			for _, faulty := range [][]int{{0}, {1}, {2}, {0, 1}, {1, 2}, {0, 1, 2}} {
				name := fmt.Sprintf("%d slots, resources %v of request %d", slots, faulty, request)
				var bad []int
				for _, resource := range faulty {
					bad = append(bad, 21*request+7*resource)
				}
				set := defaults()
				set.SendBatchSize, set.MaxConcurrentExports = 210, slots
				r := newRig(t, kind, set, func(b batchertest.Batch) error {
					if poison(bad...)(b) != nil {
						return consumererror.NewPermanent(errRefused)
					}
					return nil
				})
				for range 10 {
					r.send(21)
				}
				synctest.Wait()
				lost := 7 * len(faulty)
				if request == 0 {
					lost = 21 // sent alone to begin with, and not divided
				}
				s := r.Stats()
				require.EqualValues(t, lost, s.Failed[batcher.FailedPermanent], name)
				require.LessOrEqual(t, int(s.IsolationExports), mostFor(10)+4, name)
				last := -1
				for _, b := range r.sink.Batches() {
					if slots == 1 && poison(bad...)(b) == nil {
						require.Greater(t, b.IDs[0], last, name)
						last = b.IDs[len(b.IDs)-1]
					}
				}
				require.NoError(t, r.Shutdown(t.Context()))
				require.Len(t, r.sink.Delivered(), 210-lost, name)
			}
		}
	}
}

func TestOnlyRequestOfABatchIsDividedAlongItsResources(t *testing.T) {
	each(t, testOnlyRequest, testOnlyRequest, testOnlyRequest, testOnlyRequest)
}

func testOnlyRequest[T any](t *testing.T, kind batchertest.Kind[T]) {
	for resource := range 10 {
		set := defaults()
		set.SendBatchSize = 70
		r := newRig(t, kind, set, poison(7*resource+3))
		r.send(70)
		synctest.Wait()
		require.EqualValues(t, 63, r.Stats().Delivered)
		require.LessOrEqual(t, int(r.Stats().IsolationExports), mostFor(10))
		require.NoError(t, r.Shutdown(t.Context()))
	}
}

func TestIsolationOfManyFaultyResourcesStaysInItsBound(t *testing.T) {
	each(t, testManyResources, testManyResources, testManyResources, testManyResources)
}

// Every second resource of every request is faulty, in unlike words: the searches within the
// requests share the bound of the batch. Their numbers decide where it is reached.
func testManyResources[T any](t *testing.T, kind batchertest.Kind[T]) {
	for requests := 8; requests < 24; requests++ {
		for size := 14; size <= 42; size += 7 {
			manyResources(t, kind, requests, size)
		}
	}
}

func manyResources[T any](t *testing.T, kind batchertest.Kind[T], requests, size int) {
	n := requests * size
	set := defaults()
	set.SendBatchSize = n
	set.QueueSize = n
	seen := &events{}
	set.Observer = seen
	r := newRig(t, kind, set, func(b batchertest.Batch) error {
		for _, id := range b.IDs {
			if id/7%2 == 1 {
				return poisoned(id)
			}
		}
		return nil
	})
	for range requests {
		r.send(size)
	}
	synctest.Wait()
	s := r.Stats()
	require.LessOrEqual(t, int(s.IsolationExports), 64)
	require.Len(t, r.sink.Batches(), int(s.IsolationExports)+1)
	require.Zero(t, s.Held)
	require.EqualValues(t, s.Failed[batcher.FailedPermanent], seen.failed())
	require.NoError(t, r.Shutdown(t.Context()))
	require.Len(t, r.sink.Delivered(), int(s.Delivered))
}

func TestResourcesWithoutItemsAreNoUnits(t *testing.T) {
	each(t, testBareResources, testBareResources, testBareResources, testBareResources)
}

// They go with what comes behind them, or with the last unit.
func testBareResources[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := defaults()
	set.SendBatchSize = 14
	var resources []int
	b, err := batcher.New(kind.Signal, set, func(_ context.Context, data T) error {
		resources = append(resources, kind.Resources(data))
		ids, err := kind.IDs(data)
		if err != nil {
			t.Error(err)
		}
		return poison(3)(batchertest.Batch{IDs: ids})
	})
	require.NoError(t, err)
	require.NoError(t, b.Start())
	data := kind.New(0)
	for _, part := range []T{kind.Bare(), kind.Make(0, 7), kind.Bare(), kind.Make(7, 7), kind.Bare()} {
		kind.Move(part, data)
	}
	require.NoError(t, b.Consume(t.Context(), data))
	synctest.Wait()
	require.Equal(t, []int{5, 2, 3}, resources)
	require.EqualValues(t, 7, b.Stats().Delivered)
	require.NoError(t, b.Shutdown(t.Context()))
}

func TestPartialRefusalIsBelieved(t *testing.T) {
	each(t, testPartialRefusal, testPartialRefusal, testPartialRefusal, testPartialRefusal)
}

// Downstream says which items it refused for good: sending the rest again would double it.
func testPartialRefusal[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := defaults()
	r := newRig(t, kind, set, func(batchertest.Batch) error {
		return consumererror.NewPermanent(kind.Partial(errRefused, kind.Make(14, 2)))
	})
	r.send(50)
	r.send(50)
	time.Sleep(time.Minute)
	require.Len(t, r.sink.Batches(), 1)
	s := r.Stats()
	require.EqualValues(t, 98, s.Delivered)
	require.EqualValues(t, 2, s.Failed[batcher.FailedPermanent])
	require.NoError(t, r.Shutdown(t.Context()))
}

func TestIsolationKeepsTheOrderOfItsPartition(t *testing.T) {
	each(t, testIsolationOrder, testIsolationOrder, testIsolationOrder, testIsolationOrder)
}

// Batches behind the one that was refused wait until the last part of it has been sent.
func testIsolationOrder[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := defaults()
	set.SendBatchSize, set.MaxConcurrentExports = 70, 1
	bad := poison(8, 43)
	r := newRig(t, kind, set, func(b batchertest.Batch) error { time.Sleep(time.Second); return bad(b) })
	for range 30 {
		r.send(7)
	}
	time.Sleep(time.Hour)
	last := -1
	for _, b := range r.sink.Batches() {
		if bad(b) == nil {
			require.Equal(t, last+1, b.IDs[0]-skipped(last+1, b.IDs[0]))
			last = b.IDs[len(b.IDs)-1]
		}
	}
	require.Equal(t, 209, last)
	require.NoError(t, r.Shutdown(t.Context()))
	require.Len(t, r.sink.Delivered(), 210-14)
}

// skipped counts the items between two identities that belong to a faulty resource.
func skipped(from, to int) (n int) {
	for id := from; id < to; id++ {
		if id/7 == 1 || id/7 == 6 {
			n++
		}
	}
	return n
}

func TestPartsAreLinkedToTheirOwnCallers(t *testing.T) {
	each(t, testPartLinks, testPartLinks, testPartLinks, testPartLinks)
}

// Every second of ten callers is traced. Its span is linked from the exports that its items
// are in, and from no others.
func testPartLinks[T any](t *testing.T, kind batchertest.Kind[T]) {
	spans := tracetest.NewSpanRecorder()
	set := waiting()
	set.Tracer = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)).Tracer("")
	r := newRig(t, kind, set, poison(33))
	caller := func(i int) trace.SpanContext {
		return trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{byte(i + 1)}, TraceFlags: trace.FlagsSampled})
	}
	leaving, cancel := context.WithCancel(trace.ContextWithSpanContext(t.Context(), caller(20)))
	defer cancel()
	var results []<-chan error
	for i := range 10 {
		ctx := t.Context()
		if i%2 == 0 {
			ctx = trace.ContextWithSpanContext(ctx, caller(i))
		}
		if i == 5 {
			left := r.goTry(leaving, 1)
			synctest.Wait()
			cancel()
			require.Error(t, <-left)
			r.next-- // its identity is free again
		}
		results = append(results, r.goSend(ctx, 10)...)
	}
	for _, result := range results {
		<-result
	}
	synctest.Wait()
	require.NoError(t, r.Shutdown(t.Context()))
	exports := map[int]int{} // caller to exports that its items were in
	for _, b := range r.sink.Batches() {
		for i := range 10 {
			if slices.Contains(b.IDs, 10*i) {
				exports[i]++
			}
		}
	}
	links := map[trace.SpanID]int{}
	for _, span := range spans.Ended() {
		for _, link := range span.Links() {
			links[link.SpanContext.SpanID()]++
		}
	}
	for i := range 10 {
		want := exports[i]
		if i%2 == 1 {
			want = 0
		}
		require.Equal(t, want, links[caller(i).SpanID()], "caller %d", i)
	}
	require.Zero(t, links[caller(20).SpanID()], "whoever withdrew is in no export")
}

func TestPartsAreLinkedToAllCallersWhereNobodyWaits(t *testing.T) {
	each(t, testAllLinks, testAllLinks, testAllLinks, testAllLinks)
}

// Whose the resources are is not known any more.
func testAllLinks[T any](t *testing.T, kind batchertest.Kind[T]) {
	spans := tracetest.NewSpanRecorder()
	set := defaults()
	set.Tracer = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)).Tracer("")
	r := newRig(t, kind, set, poison(33))
	for i := range 10 {
		sc := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{byte(i + 1)}, TraceFlags: trace.FlagsSampled})
		require.NoError(t, r.try(trace.ContextWithSpanContext(t.Context(), sc), 10))
	}
	synctest.Wait()
	require.NoError(t, r.Shutdown(t.Context()))
	require.Greater(t, len(spans.Ended()), 3)
	for _, span := range spans.Ended() {
		require.Len(t, span.Links(), 10)
	}
}

func TestIsolationGivesWayToShutdown(t *testing.T) {
	each(t, testIsolationShutdown, testIsolationShutdown, testIsolationShutdown, testIsolationShutdown)
}

// The refused batch's parts are on their way, the second of them hangs.
func testIsolationShutdown[T any](t *testing.T, kind batchertest.Kind[T]) {
	for _, c := range []struct {
		took  time.Duration
		hangs func(batchertest.Batch)
	}{
		{59 * time.Second, func(b batchertest.Batch) { <-b.Ctx.Done() }},
		{time.Minute, func(batchertest.Batch) { time.Sleep(30 * time.Minute) }}, // ignores its context
	} {
		shutIsolation(t, kind, c.took, c.hangs)
	}
}

func shutIsolation[T any](t *testing.T, kind batchertest.Kind[T], took time.Duration, hangs func(batchertest.Batch)) {
	set := waiting()
	set.SendBatchSize = 20
	bad := poison(0)
	r := newRig(t, kind, set, func(b batchertest.Batch) error {
		if b.Number == 2 {
			hangs(b)
			return b.Ctx.Err()
		}
		return bad(b)
	})
	results := r.goSend(t.Context(), same(20, 1)...)
	synctest.Wait()
	require.Len(t, r.sink.Batches(), 3)
	require.NoError(t, r.Check())
	var lost *batcher.Undelivered
	began := time.Now()
	require.ErrorAs(t, r.Shutdown(t.Context()), &lost)
	require.Equal(t, took, time.Since(began))
	require.EqualValues(t, 19, lost.InFlight+lost.Sealed)
	require.EqualError(t, <-results[0], poisoned(0).Error())
	for _, result := range results[1:] {
		err := <-result
		require.ErrorIs(t, err, batcher.ErrShutdown)
		require.False(t, consumererror.IsPermanent(err))
	}
	require.EqualValues(t, 19, r.Stats().Dropped[batcher.DroppedShutdown])
}
