package batcher_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/client"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
	"github.com/boundedbatch/boundedbatchprocessor/batcher/batchertest"
)

// waiting are defaults with waiting callers and no group commit, so that a test decides
// which requests share a batch.
func waiting() batcher.Settings {
	set := defaults()
	set.WaitForResult = true
	return set
}

// goSend starts callers one after the other, each with a request of so many items that
// waits for its outcome.
func (r *rig[T]) goSend(ctx context.Context, items ...int) (results []<-chan error) {
	for _, n := range items {
		results = append(results, r.goTry(ctx, n))
		synctest.Wait()
	}
	return results
}

// same is n times the same value.
func same[V any](n int, v V) (all []V) {
	for range n {
		all = append(all, v)
	}
	return all
}

func TestWaitingCallerReturnsWithTheOutcomeOfItsBatch(t *testing.T) {
	each(t, testOwnOutcome, testOwnOutcome, testOwnOutcome, testOwnOutcome)
}

func testOwnOutcome[T any](t *testing.T, kind batchertest.Kind[T]) {
	r := newRig(t, kind, waiting(), func(b batchertest.Batch) error {
		time.Sleep(time.Duration(1+b.Number) * time.Minute)
		if b.Number == 1 {
			return errRefused
		}
		return nil
	})
	began := time.Now()
	first := r.goSend(t.Context(), 60, 40) // a batch
	second := r.goSend(t.Context(), 50, 50)
	for _, result := range first {
		require.NoError(t, <-result)
	}
	require.Equal(t, time.Minute, time.Since(began), "no caller waits for another batch than its own")
	for _, result := range second {
		require.Equal(t, errRefused, <-result)
	}
	require.Equal(t, 2*time.Minute, time.Since(began))
	require.NoError(t, r.Shutdown(t.Context()))
}

func TestWaitingCallerOfSeveralBatchesWaitsForAll(t *testing.T) {
	each(t, testSeveralBatches, testSeveralBatches, testSeveralBatches, testSeveralBatches)
}

func testSeveralBatches[T any](t *testing.T, kind batchertest.Kind[T]) {
	for _, items := range []int{250, 1000, 2050} { // cut at a batch's border, filling the budget, admitted in pieces
		set := waiting()
		set.SendBatchMaxSize = 100
		r := newRig(t, kind, set, func(batchertest.Batch) error { time.Sleep(time.Second); return nil })
		began := time.Now()
		neighbour := r.goSend(t.Context(), 30)[0]
		r.send(items)
		require.NoError(t, <-neighbour)
		batches := (items + 30 + 99) / 100
		require.Equal(t, time.Duration((batches+1)/2)*time.Second, time.Since(began).Truncate(time.Second), "%d items", items)
		r.stop()
	}
}

func TestErrorOfACallerKeepsWhatItMeans(t *testing.T) {
	each(t, testMeaning, testMeaning, testMeaning, testMeaning)
}

// special is an error that a caller looks for.
type special struct{ error }

func (s special) Unwrap() error { return s.error }

func testMeaning[T any](t *testing.T, kind batchertest.Kind[T]) {
	permanent := consumererror.NewPermanent(fmt.Errorf("x: %w", special{status.Error(codes.InvalidArgument, "bad")}))
	retryable := fmt.Errorf("y: %w", special{status.Error(codes.Unavailable, "busy")})
	other := errors.New("z")
	for _, c := range []struct {
		name      string
		errs      []error // of the batches of one request
		permanent bool
		code      codes.Code
		is        []error
		not       []error
	}{
		{"one permanent", []error{permanent, nil, nil}, true, codes.InvalidArgument, []error{permanent}, nil},
		{"one retryable", []error{nil, retryable, nil}, false, codes.Unavailable, []error{retryable}, nil},
		{"all permanent", []error{permanent, permanent, permanent}, true, codes.InvalidArgument, []error{permanent}, nil},
		{"retryable wins", []error{permanent, permanent, retryable}, false, codes.Unavailable, []error{retryable}, []error{permanent}},
		{"two retryable", []error{retryable, other, nil}, false, codes.Unavailable, []error{retryable, other}, nil},
		{"throttled without saying so", []error{throttled{status.Error(codes.ResourceExhausted, "429"), time.Minute}, nil, nil}, false, codes.ResourceExhausted, nil, nil},
		{"the first status", []error{other, nil, retryable}, false, codes.Unavailable, []error{retryable, other}, nil},
	} {
		set := waiting()
		set.SendBatchMaxSize, set.MaxConcurrentExports = 100, 1
		r := newRig(t, kind, set, func(b batchertest.Batch) error { return c.errs[b.IDs[0]/100] })
		err := r.try(t.Context(), 300)
		if code := status.Code(err); code == codes.ResourceExhausted {
			require.Equal(t, time.Minute, status.Convert(err).Details()[0].(*errdetails.RetryInfo).GetRetryDelay().AsDuration())
		} else {
			require.ErrorAs(t, err, new(special), c.name)
			require.Empty(t, status.Convert(err).Details(), c.name)
		}
		require.Equal(t, c.permanent, consumererror.IsPermanent(err), "%s: %v", c.name, err)
		require.Equal(t, c.code, status.Code(err), "%s: %v", c.name, err)
		for _, is := range c.is {
			require.ErrorIs(t, err, is, c.name)
			require.ErrorContains(t, err, is.Error(), c.name)
		}
		for _, not := range c.not {
			require.NotErrorIs(t, err, not, c.name)
			require.ErrorContains(t, err, not.Error(), "%s: it is told all the same", c.name)
		}
		require.NoError(t, r.Shutdown(t.Context()))
	}
}

func TestPartialErrorReachesOnlyACallerThatWasAlone(t *testing.T) {
	each(t, testPartialOwner, testPartialOwner, testPartialOwner, testPartialOwner)
}

func testPartialOwner[T any](t *testing.T, kind batchertest.Kind[T]) {
	reason := status.Error(codes.ResourceExhausted, "only a part")
	var r *rig[T]
	ready := newGate()
	r = newRig(t, kind, waiting(), func(b batchertest.Batch) error {
		<-ready
		return fmt.Errorf("wrapped: %w", r.kind.Partial(reason, r.kind.Make(b.IDs[0], 7)))
	})
	ready.open()
	alone := r.goSend(t.Context(), 100)[0]
	err := <-alone
	require.Equal(t, []int{0, 1, 2, 3, 4, 5, 6}, partial(t, kind, err))
	s := r.Stats()
	require.EqualValues(t, 93, s.Delivered, "what the error does not name was delivered")
	require.EqualValues(t, 7, s.Failed[batcher.FailedRetryable])

	for _, result := range r.goSend(t.Context(), 60, 40) {
		err := <-result
		require.False(t, isPartial(err), "%v", err)
		require.ErrorIs(t, err, reason)
		require.Equal(t, codes.ResourceExhausted, status.Code(err))
		require.False(t, consumererror.IsPermanent(err))
		var retryable *consumererror.Error
		require.ErrorAs(t, err, &retryable)
		require.True(t, retryable.IsRetryable())
		require.ErrorContains(t, err, "wrapped: ")
	}

	// In several batches: the parts would have to be joined, so neither is handed out.
	err = r.try(t.Context(), 100)
	require.True(t, isPartial(err))
	set := waiting()
	set.SendBatchMaxSize = 100
	two := newRig(t, kind, set, func(b batchertest.Batch) error {
		return r.kind.Partial(fmt.Errorf("batch %d", b.Number), r.kind.Make(b.IDs[0], 7))
	})
	err = two.try(t.Context(), 200)
	require.ErrorContains(t, err, "batch 0")
	require.ErrorContains(t, err, "batch 1")
	require.False(t, isPartial(err))
	require.NoError(t, two.Shutdown(t.Context()))
	require.NoError(t, r.Shutdown(t.Context()))
}

func TestCallerWhoseContextEndsWithdrawsWhatIsPending(t *testing.T) {
	each(t, testWithdraw, testWithdraw, testWithdraw, testWithdraw)
}

func testWithdraw[T any](t *testing.T, kind batchertest.Kind[T]) {
	r := newRig(t, kind, waiting(), nil)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	began := time.Now()
	before := r.goSend(t.Context(), 10)[0]
	leaving := r.goSend(ctx, 20)[0]
	after := r.goSend(t.Context(), 30)[0]
	err := <-leaving
	require.Equal(t, 30*time.Millisecond, time.Since(began))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "20 items, 20 of them withdrawn")
	require.False(t, consumererror.IsPermanent(err))
	s := r.Stats()
	require.EqualValues(t, 20, s.Dropped[batcher.DroppedCanceled])
	require.EqualValues(t, 40, s.Pending)
	require.EqualValues(t, 40, s.Held, "the budget has them back")
	checkIdentity(t, s)
	require.NoError(t, r.Check())
	require.NoError(t, <-before)
	require.NoError(t, <-after)
	require.Equal(t, time.Second, time.Since(began), "others do not notice")
	require.NoError(t, r.Shutdown(t.Context()))
	got := r.sink.Delivered()
	require.Len(t, got, 40)
	for id := 10; id < 30; id++ {
		require.Zero(t, got[id])
	}
}

func TestLastCallerToLeaveLeavesNoBatch(t *testing.T) {
	each(t, testEmptied, testEmptied, testEmptied, testEmptied)
}

func testEmptied[T any](t *testing.T, kind batchertest.Kind[T]) {
	for _, keys := range [][]string{nil, {"tenant"}} {
		set := waiting()
		set.MetadataKeys = keys
		r := newRig(t, kind, set, nil)
		ctx, cancel := context.WithCancel(t.Context())
		left := r.goSend(ctx, 10, 20)
		cancel()
		for _, result := range left {
			require.ErrorIs(t, <-result, context.Canceled)
		}
		require.NoError(t, r.Check())
		require.Zero(t, r.Stats().Held)
		time.Sleep(time.Minute)
		require.Empty(t, r.sink.Batches(), "an empty batch is no batch")
		require.False(t, r.Armed())
		require.Zero(t, r.Partitions())
		began := time.Now()
		r.send(5)
		require.Equal(t, time.Second, time.Since(began))
		require.NoError(t, r.Shutdown(t.Context()))
	}
}

func TestCallersThatJoinAndLeaveDoNotGrowABatch(t *testing.T) {
	each(t, testShareBound, testShareBound, testShareBound, testShareBound)
}

// There is always one caller in the batch, so that it is never empty, and never two items.
func testShareBound[T any](t *testing.T, kind batchertest.Kind[T]) {
	r := newRig(t, kind, waiting(), nil) // send_batch_size 100
	leave := func() {}
	for range 1000 {
		ctx, cancel := context.WithCancel(t.Context())
		joined := r.goTry(ctx, 1)
		synctest.Wait()
		leave()
		synctest.Wait()
		require.LessOrEqual(t, r.MostShares(), 100)
		leave = func() { cancel(); <-joined }
	}
	leave()
	require.EqualValues(t, 1000, r.Stats().Accepted)
	require.EqualValues(t, 10, r.Stats().Delivered, "of every hundred the one that was in the batch when it was full")
	require.EqualValues(t, 990, r.Stats().Dropped[batcher.DroppedCanceled])
	require.NoError(t, r.Shutdown(t.Context()))
}

func TestPartitionThatWaitedForASlotCanBeEmptied(t *testing.T) {
	each(t, testEmptiedEager, testEmptiedEager, testEmptiedEager, testEmptiedEager)
}

// Of two tenants one has the slot, and the other's callers leave before it is free.
func testEmptiedEager[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := waiting()
	set.MetadataKeys, set.FlushWhenIdle, set.MaxConcurrentExports = []string{"tenant"}, true, 1
	g := newGate()
	r := newRig(t, kind, set, g.held)
	a := client.NewContext(t.Context(), client.Info{Metadata: client.NewMetadata(map[string][]string{"tenant": {"a"}})})
	ctx, cancel := context.WithCancel(t.Context())
	inFlight := r.goSend(a, 10)[0]
	left := r.goSend(ctx, 10)[0]
	cancel()
	require.Error(t, <-left)
	require.NoError(t, r.Check())
	g.open()
	require.NoError(t, <-inFlight)
	require.NoError(t, r.Shutdown(t.Context()))
	require.Equal(t, []int{10}, r.sink.Sizes())
}

func TestSealedItemsTravelOnWithoutTheirCaller(t *testing.T) {
	each(t, testTravelOn, testTravelOn, testTravelOn, testTravelOn)
}

func testTravelOn[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := waiting()
	set.MaxConcurrentExports = 1
	g := newGate()
	r := newRig(t, kind, set, g.held)
	ctx, cancel := context.WithCancel(t.Context())
	inFlight := r.goSend(ctx, 100)[0]
	sealed := r.goSend(ctx, 90, 10)
	stays := r.goSend(t.Context(), 10)[0]
	pending := r.goSend(ctx, 20)[0]
	cancel()
	for _, result := range append(sealed, inFlight, pending) {
		require.ErrorIs(t, <-result, context.Canceled)
	}
	require.EqualValues(t, 20, r.Stats().Dropped[batcher.DroppedCanceled])
	require.NoError(t, r.sink.Batches()[0].Ctx.Err(), "no export runs under a caller's context")
	g.open()
	require.NoError(t, <-stays)
	require.NoError(t, r.Shutdown(t.Context()))
	r.delivered(210)
}

func TestNothingOfAWaitingCallerGoesDownstream(t *testing.T) {
	each(t, testNoCaller, testNoCaller, testNoCaller, testNoCaller)
}

func testNoCaller[T any](t *testing.T, kind batchertest.Kind[T]) {
	type secret struct{}
	set := waiting()
	set.MetadataKeys, set.FlushWhenIdle = []string{"tenant"}, true
	r := newRig(t, kind, set, nil)
	ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), secret{}, 1), time.Hour)
	defer cancel()
	ctx = client.NewContext(ctx, client.Info{Metadata: client.NewMetadata(map[string][]string{"tenant": {"a"}, "authorization": {"b"}})})
	require.NoError(t, r.try(ctx, 10))
	got := r.sink.Batches()[0].Ctx
	_, has := got.Deadline()
	require.False(t, has)
	require.Nil(t, got.Value(secret{}))
	require.Equal(t, []string{"a"}, client.FromContext(got).Metadata.Get("tenant"))
	require.Nil(t, client.FromContext(got).Metadata.Get("authorization"))
	require.NoError(t, r.Shutdown(t.Context()))
}

func TestWithdrawalLetsBlockedCallersIn(t *testing.T) {
	each(t, testWithdrawalAdmits, testWithdrawalAdmits, testWithdrawalAdmits, testWithdrawalAdmits)
}

func testWithdrawalAdmits[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := waiting()
	set.QueueSize, set.MaxConcurrentExports = 200, 1
	g := newGate()
	r := newRig(t, kind, set, g.held)
	ctx, cancel := context.WithCancel(t.Context())
	inFlight := r.goSend(t.Context(), 110)[0]
	leaving := r.goSend(ctx, 90)[0]
	blocked := r.goSend(t.Context(), 80)[0]
	require.EqualValues(t, 1, r.Stats().WaitingCallers)
	cancel()
	require.Error(t, <-leaving)
	synctest.Wait()
	require.Zero(t, r.Stats().WaitingCallers)
	require.EqualValues(t, 80, r.Stats().Pending)
	g.open()
	require.NoError(t, <-inFlight)
	require.NoError(t, <-blocked)
	require.NoError(t, r.Shutdown(t.Context()))
}

func TestShutdownAnswersEveryWaitingCaller(t *testing.T) {
	each(t, testShutdownAnswers, testShutdownAnswers, testShutdownAnswers, testShutdownAnswers)
}

func testShutdownAnswers[T any](t *testing.T, kind batchertest.Kind[T]) {
	for _, c := range []struct {
		name    string
		respond func(batchertest.Batch) error
		want    []error // of what is in flight, sealed, and pending
		at      []time.Duration
	}{
		{
			"drains", func(batchertest.Batch) error { time.Sleep(10 * time.Second); return nil },
			same[error](3, nil),
			[]time.Duration{10 * time.Second, 20 * time.Second, 30 * time.Second},
		},
		{
			"obeys its context", func(b batchertest.Batch) error { <-b.Ctx.Done(); return b.Ctx.Err() },
			same(3, batcher.ErrShutdown), same(3, 59*time.Second),
		},
		{
			"ignores its context", func(batchertest.Batch) error { time.Sleep(30 * time.Minute); return nil },
			same(3, batcher.ErrShutdown),
			[]time.Duration{time.Minute, 59 * time.Second, 59 * time.Second},
		},
	} {
		set := waiting()
		set.MaxConcurrentExports = 1
		r := newRig(t, kind, set, c.respond)
		began := time.Now()
		results := r.goSend(t.Context(), 100, 100, 50)
		times := make(chan [2]any, 3)
		for i, result := range results {
			go func() {
				err := <-result
				if !errors.Is(err, c.want[i]) || consumererror.IsPermanent(err) {
					t.Errorf("%s: %v", c.name, err)
				}
				times <- [2]any{i, time.Since(began)}
			}()
		}
		_ = r.Shutdown(t.Context())
		for range 3 {
			answered := <-times
			require.Equal(t, c.at[answered[0].(int)], answered[1], "%s: caller %v", c.name, answered[0])
		}
		time.Sleep(time.Hour)
	}
}

func TestRequestCutShortByShutdownTellsWhatBecameOfTheRest(t *testing.T) {
	each(t, testCutShortWaiting, testCutShortWaiting, testCutShortWaiting, testCutShortWaiting)
}

func testCutShortWaiting[T any](t *testing.T, kind batchertest.Kind[T]) {
	for _, c := range []struct {
		name    string
		err     error // of what was accepted
		partial bool  // the sender may repeat the rest alone
	}{
		{"delivered", nil, true},
		{"refused for good", consumererror.NewPermanent(errRefused), true},
		{"failed", errRefused, false},
	} {
		set := waiting()
		set.SendBatchMaxSize, set.MaxConcurrentExports = 100, 1
		g := newGate()
		r := newRig(t, kind, set, func(batchertest.Batch) error { <-g; return c.err })
		result := r.goSend(t.Context(), 3000)[0]
		require.EqualValues(t, 1000, r.Stats().Held)
		stopped := make(chan error, 1)
		go func() { stopped <- r.Shutdown(t.Context()) }()
		synctest.Wait()
		require.Empty(t, result, "%s: what was accepted has no outcome yet", c.name)
		g.open()
		err := <-result
		<-stopped
		require.ErrorIs(t, err, batcher.ErrShutdown, c.name)
		require.ErrorContains(t, err, "2000 of 3000 items were not accepted", c.name)
		require.False(t, consumererror.IsPermanent(err), c.name)
		require.Equal(t, c.partial, isPartial(err), c.name)
		if c.partial {
			require.Len(t, partial(t, kind, err), 2000, c.name)
		} else {
			require.ErrorIs(t, err, errRefused, c.name)
		}
	}
}

func TestCallerThatLeavesWhileItsRequestIsAdmittedRepeatsAllOfIt(t *testing.T) {
	each(t, testLeaveHalfway, testLeaveHalfway, testLeaveHalfway, testLeaveHalfway)
}

func testLeaveHalfway[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := waiting()
	set.SendBatchMaxSize, set.MaxConcurrentExports = 100, 1
	g := newGate()
	r := newRig(t, kind, set, g.held)
	ctx, cancel := context.WithCancel(t.Context())
	result := r.goSend(ctx, 3000)[0]
	cancel()
	err := <-result
	require.ErrorIs(t, err, context.Canceled)
	require.False(t, isPartial(err), "the outcome of the others is not known")
	g.open()
	require.NoError(t, r.Shutdown(t.Context()))
	require.Len(t, r.sink.Delivered(), 1000, "what was accepted was sealed")
}

func TestEmptyRequestHasAnOutcomeAtOnce(t *testing.T) {
	each(t, testEmptyWaiting, testEmptyWaiting, testEmptyWaiting, testEmptyWaiting)
}

func testEmptyWaiting[T any](t *testing.T, kind batchertest.Kind[T]) {
	r := newRig(t, kind, waiting(), func(batchertest.Batch) error { return errRefused })
	require.NoError(t, r.Consume(t.Context(), kind.New(0)))
	require.NoError(t, r.Shutdown(t.Context()))
}
