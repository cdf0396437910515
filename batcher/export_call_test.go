package batcher_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
	"github.com/boundedbatch/boundedbatchprocessor/batcher/batchertest"
)

func TestExportsAtOnceAreLimited(t *testing.T) {
	each(t, testAtOnce, testAtOnce, testAtOnce, testAtOnce)
}

func testAtOnce[T any](t *testing.T, kind batchertest.Kind[T]) {
	for _, c := range []struct{ slots, perPartition, want int }{
		{1, 0, 1}, {4, 0, 4}, {4, 2, 2}, {10, 10, 8}, // eight batches are all there is
	} {
		set := defaults()
		set.MaxConcurrentExports, set.MaxConcurrentExportsPerPartition = c.slots, c.perPartition
		g := newGate()
		r := newRig(t, kind, set, g.held)
		for range 8 {
			r.send(100)
		}
		synctest.Wait()
		require.Len(t, r.sink.Batches(), c.want)
		require.EqualValues(t, c.want, r.Stats().ExportsInFlight)
		g.open()
		r.stop()
		require.Equal(t, c.want, r.sink.MostAtOnce())
	}
}

func TestOneExportAtOnceKeepsTheOrderOfAcceptance(t *testing.T) {
	each(t, testOrder, testOrder, testOrder, testOrder)
}

// Large requests are cut outside the lock while small ones go past: their batches must
// not overtake what was accepted before.
func testOrder[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := defaults()
	set.SendBatchSize, set.SendBatchMaxSize = 10, 10
	set.MetadataKeys = []string{"tenant"}
	set.MaxConcurrentExports, set.MaxConcurrentExportsPerPartition = 4, 1
	r := newRig(t, kind, set, func(b batchertest.Batch) error {
		time.Sleep(time.Duration(b.Number%7) * time.Millisecond)
		return nil
	})
	const producers = 6
	var all sync.WaitGroup
	for p := range producers {
		all.Go(func() {
			next := 1_000_000 * p
			for i := range 150 {
				n := 1 + (p*31+i*17)%45
				if err := r.Consume(tenant(string(rune('a'+p%2))), kind.Make(next, n)); err != nil {
					t.Error(err)
				}
				next += n
			}
		})
	}
	all.Wait()
	require.NoError(t, r.Shutdown(t.Context()))
	next := map[int]int{}
	for _, b := range r.sink.Batches() {
		for _, id := range b.IDs {
			p := id / 1_000_000
			require.Equal(t, next[p], id%1_000_000, "producer %d", p)
			next[p]++
		}
	}
	require.Len(t, next, producers)
}

func TestSlotsGoRoundThePartitions(t *testing.T) { each(t, testRound, testRound, testRound, testRound) }

func testRound[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := defaults()
	set.MetadataKeys = []string{"tenant"}
	set.MaxConcurrentExports = 1
	step := make(chan struct{})
	r := newRig(t, kind, set, func(batchertest.Batch) error {
		<-step
		return nil
	})
	for range 3 {
		require.NoError(t, r.try(tenant("a"), 100))
	}
	require.NoError(t, r.try(tenant("b"), 100))
	require.NoError(t, r.try(tenant("c"), 100))
	go func() {
		for range 5 {
			step <- struct{}{}
		}
	}()
	r.stop()
	var order []int
	for _, b := range r.sink.Batches() {
		order = append(order, b.IDs[0]/100)
	}
	require.Equal(t, []int{0, 3, 4, 1, 2}, order, "b and c have nothing in flight")
}

func TestFailedExportIsCountedByCauseAndGivesTheRoomBack(t *testing.T) {
	each(t, testCauses, testCauses, testCauses, testCauses)
}

func testCauses[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := defaults()
	set.ExportTimeout = 3 * time.Second
	for _, c := range []struct {
		name    string
		respond func(batchertest.Batch) error
		want    batcher.FailedCause
	}{
		{"retryable", func(batchertest.Batch) error { return errRefused }, batcher.FailedRetryable},
		{"permanent", func(batchertest.Batch) error { return consumererror.NewPermanent(errRefused) }, batcher.FailedPermanent},
		{"timeout", newGate().held, batcher.FailedTimeout},
		{"permanent at the last moment", func(b batchertest.Batch) error {
			<-b.Ctx.Done()
			return consumererror.NewPermanent(b.Ctx.Err())
		}, batcher.FailedPermanent},
		{"a deadline that is not ours", func(batchertest.Batch) error { return context.DeadlineExceeded }, batcher.FailedRetryable},
		{"dead goroutine", func(batchertest.Batch) error { runtime.Goexit(); return nil }, batcher.FailedRetryable},
	} {
		r := newRig(t, kind, set, c.respond)
		r.send(100)
		time.Sleep(time.Minute)
		s := r.Stats()
		require.EqualValues(t, 100, s.Failed[c.want], c.name)
		require.Zero(t, s.Held, c.name)
		require.Zero(t, s.ExportsInFlight, c.name)
		require.NoError(t, r.Shutdown(t.Context()))
	}
}

func TestSlotOfADyingExportGoesOn(t *testing.T) { each(t, testDying, testDying, testDying, testDying) }

// Downstream panics. To keep the process, the panic is turned into the end of the
// goroutine, which looks the same from within: the call does not return.
func testDying[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := defaults()
	set.MaxConcurrentExports = 1
	r := newRig(t, kind, set, func(b batchertest.Batch) error {
		if b.Number%3 == 0 {
			defer runtime.Goexit()
			panic("downstream")
		}
		return nil
	})
	for range 9 {
		r.send(100)
	}
	synctest.Wait()
	s := r.Stats()
	require.EqualValues(t, 300, s.Failed[batcher.FailedRetryable])
	require.EqualValues(t, 600, s.Delivered)
	require.NoError(t, r.Shutdown(t.Context()))
}

func TestCallersOfADyingExportAreAnswered(t *testing.T) {
	each(t, testDyingWaiters, testDyingWaiters, testDyingWaiters, testDyingWaiters)
}

// As above, where callers wait: those whose export dies are told so, in a way that is worth a
// retry, and those that wait for its slot or for its room, get them.
func testDyingWaiters[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := defaults()
	set.MaxConcurrentExports, set.WaitForResult = 1, true
	set.SendBatchSize, set.QueueSize = 100, 200
	g := newGate()
	r := newRig(t, kind, set, func(b batchertest.Batch) error {
		if err := g.held(b); err != nil {
			return err
		}
		if b.Number == 0 {
			defer runtime.Goexit()
			panic("downstream")
		}
		return nil
	})
	dying := r.goTry(t.Context(), 100)
	synctest.Wait()
	sealed := r.goTry(t.Context(), 100)
	synctest.Wait()
	blocked := r.goTry(t.Context(), 100)
	synctest.Wait()
	require.EqualValues(t, 200, r.Stats().Held)
	g.open()
	err := <-dying
	require.ErrorIs(t, err, batcher.ErrDownstreamDied)
	require.False(t, consumererror.IsPermanent(err))
	require.NoError(t, <-sealed)
	require.NoError(t, <-blocked)
	require.EqualValues(t, 100, r.Stats().Failed[batcher.FailedRetryable])
	require.EqualValues(t, 200, r.Stats().Delivered)
	require.NoError(t, r.Shutdown(t.Context()))
}

func TestExportsCarryTheirDeadline(t *testing.T) {
	each(t, testExportTimeout, testExportTimeout, testExportTimeout, testExportTimeout)
}

func testExportTimeout[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := defaults()
	set.ExportTimeout = 3 * time.Second
	var deadlines []time.Duration
	r := newRig(t, kind, set, func(b batchertest.Batch) error {
		deadline, ok := b.Ctx.Deadline()
		if !ok {
			return errors.New("no deadline")
		}
		deadlines = append(deadlines, time.Until(deadline))
		return nil
	})
	r.send(100)
	r.stop()
	require.Equal(t, []time.Duration{3 * time.Second}, deadlines)
}

// events is an Observer that writes down what it is told.
type events struct {
	mu    sync.Mutex
	waits []time.Duration
	late  []time.Duration
	began []batcher.Export
	ended []error
	bytes bool

	outcomes []batcher.Outcome
}

// failed sums up what was reported as given up.
func (e *events) failed() (items int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, o := range e.outcomes {
		items += o.Failed
	}
	return items
}

func (e *events) AdmissionWaited(d time.Duration) {
	e.mu.Lock()
	e.waits = append(e.waits, d)
	e.mu.Unlock()
}
func (e *events) Ticked(d time.Duration) { e.mu.Lock(); e.late = append(e.late, d); e.mu.Unlock() }
func (e *events) MeasuresBytes() bool    { return e.bytes }

func (e *events) ItemsTooLarge(int, int) {}

func (e *events) ExportStarted(x batcher.Export) {
	e.mu.Lock()
	e.began = append(e.began, x)
	e.mu.Unlock()
}

func (e *events) ExportEnded(_ batcher.Export, _ time.Duration, o batcher.Outcome) {
	e.mu.Lock()
	e.ended = append(e.ended, o.Err)
	e.outcomes = append(e.outcomes, o)
	e.mu.Unlock()
}

// exports counts those that began and those that ended.
func (e *events) exports() (began, ended int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.began), len(e.ended)
}

// attempts lists the attempts that the exports were.
func (e *events) attempts() (all []int) {
	for _, x := range e.began {
		all = append(all, x.Attempt)
	}
	return all
}

// Where bytes are limited the size of a batch is known and nothing is measured for it. Of the
// part that is sent again after a failure it is not known.
func TestSizeOfABatchIsKnownWhereBytesAreLimited(t *testing.T) {
	each(t, testKnownSize, testKnownSize, testKnownSize, testKnownSize)
}

func testKnownSize[T any](t *testing.T, kind batchertest.Kind[T]) {
	for _, waits := range []bool{false, true} {
		set := retrying()
		set.SendBatchMaxBytes, set.WaitForResult = 1<<20, waits
		seen := &events{}
		set.Observer = seen
		r := newRig(t, kind, set, func(b batchertest.Batch) error {
			if b.Number == 0 {
				return kind.Partial(errRefused, kind.Make(3, 2))
			}
			return nil
		})
		first, second := r.goTry(t.Context(), 40), r.goTry(t.Context(), 3)
		require.NoError(t, <-first)
		require.NoError(t, <-second)
		r.stop()
		require.Len(t, seen.began, 2)
		require.Equal(t, r.sink.Batches()[0].Bytes, seen.began[0].Bytes)
		require.Equal(t, -1, seen.began[1].Bytes)
	}
}

func TestObserverIsTold(t *testing.T) {
	each(t, testObserver, testObserver, testObserver, testObserver)
}

func testObserver[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := defaults()
	set.QueueSize = 100
	seen := &events{bytes: true}
	set.Observer = seen
	r := newRig(t, kind, set, func(batchertest.Batch) error {
		time.Sleep(5 * time.Second)
		return errRefused
	})
	encoded, err := kind.Wire(kind.Make(0, 40))
	require.NoError(t, err)
	r.send(40)
	time.Sleep(200 * time.Millisecond)
	r.send(70) // pressure sends the 40, five seconds
	require.ErrorIs(t, r.Shutdown(t.Context()), errRefused)
	require.Equal(t, []time.Duration{5 * time.Second}, seen.waits)
	require.Equal(t, batcher.Export{Items: 40, Bytes: len(encoded), Trigger: batcher.TriggerPressure, Age: 200 * time.Millisecond, Attempt: 1}, seen.began[0])
	require.Equal(t, []error{errRefused, errRefused}, seen.ended)
	require.Empty(t, slices.DeleteFunc(seen.late, func(d time.Duration) bool { return d == 0 }))
}

func TestExportsAreLinkedToTheirTracedCallers(t *testing.T) {
	each(t, testLinks, testLinks, testLinks, testLinks)
}

// 131 callers share a batch; then one has a request for several.
func testLinks[T any](t *testing.T, kind batchertest.Kind[T]) {
	for _, waits := range []bool{false, true} {
		spans := tracetest.NewSpanRecorder()
		set := defaults()
		set.WaitForResult, set.SendBatchSize, set.SendBatchMaxSize = waits, 131, 131
		set.Tracer = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)).Tracer("")
		r := newRig(t, kind, set, nil)
		traced := func(i int) context.Context {
			return trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{
				TraceID: trace.TraceID{1}, SpanID: trace.SpanID{byte(i + 1)}, TraceFlags: trace.FlagsSampled,
			}))
		}
		var results []<-chan error
		for i := range 131 {
			results = append(results, r.goSend(traced(i), 1)...)
		}
		results = append(results, r.goSend(traced(200), 400)...)
		require.NoError(t, r.Shutdown(t.Context()))
		for _, result := range results {
			require.NoError(t, <-result)
		}
		ended := spans.Ended()
		require.Len(t, ended, len(r.sink.Batches()))
		require.GreaterOrEqual(t, len(ended), 1+400/131)
		require.Len(t, ended[0].Links(), 128)
		require.Contains(t, ended[0].Attributes(), attribute.Int("batch.links_omitted", 3))
		for _, span := range ended[1:] {
			require.Len(t, span.Links(), 1)
			require.Equal(t, trace.SpanID{201}, span.Links()[0].SpanContext.SpanID())
		}
	}
}
