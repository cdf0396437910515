package batcher_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/consumer/consumererror"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
	"github.com/boundedbatch/boundedbatchprocessor/batcher/batchertest"
)

func TestConsumeOutsideOfStartAndShutdownIsRetryable(t *testing.T) {
	each(t, testOutside, testOutside, testOutside, testOutside)
}

func testOutside[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := defaults()
	b, err := batcher.New(kind.Signal, set, batchertest.NewSink(kind, nil).Consume)
	require.NoError(t, err)
	check := func(want error) {
		t.Helper()
		for _, n := range []int{0, 1, 2000} {
			err := b.Consume(t.Context(), kind.Make(0, n))
			require.ErrorIs(t, err, want, "%d items", n)
			require.False(t, consumererror.IsPermanent(err), "%d items", n)
		}
	}
	check(batcher.ErrNotStarted)
	require.NoError(t, b.Start())
	require.NoError(t, b.Shutdown(t.Context()))
	check(batcher.ErrShutdown)
	require.EqualValues(t, 4002, b.Stats().Refused[batcher.RefusedShutdown])
	require.Error(t, b.Start(), "once")
}

func TestShutdownBeforeStartAndTwice(t *testing.T) {
	each(t, testTwice, testTwice, testTwice, testTwice)
}

func testTwice[T any](t *testing.T, kind batchertest.Kind[T]) {
	b, err := batcher.New(kind.Signal, defaults(), batchertest.NewSink(kind, nil).Consume)
	require.NoError(t, err)
	require.NoError(t, b.Shutdown(t.Context()))
	require.NoError(t, b.Shutdown(t.Context()))
	require.Error(t, b.Start(), "not after a shutdown")
	require.ErrorIs(t, b.Consume(t.Context(), kind.Make(0, 1)), batcher.ErrShutdown)

	g := newGate()
	r := newRig(t, kind, defaults(), func(b batchertest.Batch) error {
		if err := g.wait(b.Ctx); err != nil {
			return err
		}
		return errRefused
	})
	r.send(5)
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { first <- r.Shutdown(context.Background()) }()
	synctest.Wait()
	go func() { second <- r.Shutdown(context.Background()) }()
	synctest.Wait()
	require.Empty(t, first)
	require.Empty(t, second)

	short, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	require.ErrorIs(t, r.Shutdown(short), context.DeadlineExceeded, "its own context ends first")
	g.open()
	err = <-first
	require.ErrorIs(t, err, errRefused)
	require.Same(t, err, <-second)
	require.Same(t, err, r.Shutdown(t.Context()))
}

func TestShutdownDeliversWhatWasAcceptedWithAllSlots(t *testing.T) {
	each(t, testDrain, testDrain, testDrain, testDrain)
}

func testDrain[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := defaults()
	set.MetadataKeys = []string{"tenant"}
	set.MaxConcurrentExports = 5
	r := newRig(t, kind, set, func(batchertest.Batch) error {
		time.Sleep(time.Second)
		return nil
	})
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"} {
		require.NoError(t, r.try(tenant(name), 10))
	}
	began := time.Now()
	r.stop()
	require.Equal(t, 2*time.Second, time.Since(began), "ten batches of a second in five slots")
	require.EqualValues(t, 10, r.Stats().Batches[batcher.TriggerShutdown])
	require.Equal(t, 5, r.sink.MostAtOnce())
	require.False(t, r.Armed())
	require.Zero(t, r.Partitions())
}

func TestShutdownWakesBlockedCallersAtOnce(t *testing.T) {
	each(t, testWakes, testWakes, testWakes, testWakes)
}

func testWakes[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := defaults()
	set.QueueSize, set.ShutdownTimeout = 100, 0
	g := newGate()
	r := newRig(t, kind, set, g.held)
	r.send(100)
	var blocked []<-chan error
	for range 10 {
		blocked = append(blocked, r.goTry(t.Context(), 10))
	}
	time.Sleep(time.Hour)
	began := time.Now()
	over := make(chan error, 1)
	go func() { over <- r.Shutdown(context.Background()) }()
	for _, result := range blocked {
		err := <-result
		require.ErrorIs(t, err, batcher.ErrShutdown)
		require.False(t, consumererror.IsPermanent(err))
	}
	require.Zero(t, time.Since(began))
	time.Sleep(24 * time.Hour)
	require.Empty(t, over, "without a timeout it waits for the export")
	g.open()
	require.NoError(t, <-over)
	r.delivered(100)
	require.EqualValues(t, 100, r.Stats().Refused[batcher.RefusedShutdown])
}

func TestShutdownNeverOutlivesItsDeadline(t *testing.T) {
	each(t, testDeadline, testDeadline, testDeadline, testDeadline)
}

func testDeadline[T any](t *testing.T, kind batchertest.Kind[T]) {
	for _, c := range []struct {
		name             string
		timeout, context time.Duration // 0: none
		deaf             bool          // downstream ignores its canceled context
		want             time.Duration
	}{
		{"shutdown_timeout, exports that obey", 10 * time.Second, 0, false, 9500 * time.Millisecond},
		{"shutdown_timeout, exports that do not", 10 * time.Second, 0, true, 10 * time.Second},
		{"the context's deadline is earlier", 10 * time.Second, 2 * time.Second, true, 2 * time.Second},
		{"the context's deadline alone", 0, 2 * time.Second, true, 2 * time.Second},
		{"at most a second is kept back", time.Hour, 0, false, time.Hour - time.Second},
	} {
		set := defaults()
		set.MaxConcurrentExports = 1
		set.ShutdownTimeout = c.timeout
		g := newGate()
		r := newRig(t, kind, set, func(b batchertest.Batch) error {
			if c.deaf {
				<-g
			}
			return g.wait(b.Ctx)
		})
		r.send(100)
		r.send(200)
		r.send(7)
		ctx, cancel := context.WithCancel(context.Background())
		if c.context > 0 {
			ctx, cancel = context.WithTimeout(context.Background(), c.context)
		}
		began := time.Now()
		err := r.Shutdown(ctx)
		cancel()
		require.Equal(t, c.want, time.Since(began), c.name)
		var u *batcher.Undelivered
		require.ErrorAs(t, err, &u, c.name)
		require.EqualValues(t, 100, u.InFlight, c.name)
		require.EqualValues(t, 207, u.Sealed, c.name)
		require.ErrorIs(t, err, context.DeadlineExceeded, c.name)
		s := r.Stats()
		require.EqualValues(t, 307, s.Dropped[batcher.DroppedShutdown], c.name)
		checkIdentity(t, s)

		g.open() // a late return changes nothing
		synctest.Wait()
		require.Equal(t, s, r.Stats(), c.name)
		require.Len(t, r.sink.Batches(), 1, "nothing is called after the shutdown")
	}
}

func TestShutdownEndsWithItsContext(t *testing.T) {
	each(t, testContextEnds, testContextEnds, testContextEnds, testContextEnds)
}

func testContextEnds[T any](t *testing.T, kind batchertest.Kind[T]) {
	g := newGate()
	r := newRig(t, kind, defaults(), g.held)
	r.send(10)
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan error, 1)
	began := time.Now()
	go func() { over <- r.Shutdown(ctx) }()
	time.Sleep(time.Second)
	cancel()
	require.ErrorIs(t, <-over, context.Canceled)
	require.Equal(t, time.Second, time.Since(began))
}

func TestNobodyIsToldOfAnExportThatOutlivesShutdown(t *testing.T) {
	each(t, testOutlives, testOutlives, testOutlives, testOutlives)
}

func testOutlives[T any](t *testing.T, kind batchertest.Kind[T]) {
	for _, err := range []error{nil, errRefused} {
		set := defaults()
		seen := &events{}
		set.Observer = seen
		r := newRig(t, kind, set, func(batchertest.Batch) error { time.Sleep(time.Hour); return err })
		r.send(100)
		require.Error(t, r.Shutdown(t.Context()))
		time.Sleep(2 * time.Hour)
		began, ended := seen.exports()
		require.Equal(t, 1, began)
		require.Zero(t, ended)
		require.EqualValues(t, 100, r.Stats().Dropped[batcher.DroppedShutdown])
	}
}

func TestShutdownTellsWhatFailedMeanwhile(t *testing.T) {
	each(t, testFailed, testFailed, testFailed, testFailed)
}

func testFailed[T any](t *testing.T, kind batchertest.Kind[T]) {
	r := newRig(t, kind, defaults(), func(b batchertest.Batch) error {
		if b.Number == 1 {
			return nil
		}
		return errRefused
	})
	r.send(100) // fails before: not the shutdown's business
	synctest.Wait()
	r.send(100)
	synctest.Wait()
	r.send(11)
	err := r.Shutdown(t.Context())
	require.EqualError(t, err, "11 items were not delivered: 0 in flight, 0 sealed, 0 retrying, 11 failed during the shutdown: refused downstream")
	var u *batcher.Undelivered
	require.ErrorAs(t, err, &u)
	require.EqualValues(t, 111, r.Stats().Failed[batcher.FailedRetryable])
}

func TestShutdownSparesExportsThatSucceedInTheLastMoment(t *testing.T) {
	each(t, testLastMoment, testLastMoment, testLastMoment, testLastMoment)
}

// Canceled at 9.5 s, the export returns at 9.8 s, and successfully.
func testLastMoment[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := defaults()
	set.ShutdownTimeout = 10 * time.Second
	r := newRig(t, kind, set, func(batchertest.Batch) error {
		time.Sleep(9800 * time.Millisecond)
		return nil
	})
	r.send(10)
	began := time.Now()
	r.stop()
	require.Equal(t, 9800*time.Millisecond, time.Since(began))
}

func TestStormOfStartTrafficAndStopConcurrentSafe(t *testing.T) {
	each(t, testStorm, testStorm, testStorm, testStorm)
}

// Callers, ticks, evictions and a shutdown at a random moment, over and over.
func testStorm[T any](t *testing.T, kind batchertest.Kind[T]) {
	rounds := 5
	if kind.Name() == "profiles" { // to make and check them takes far longer
		rounds = 1
	}
	for range rounds {
		round := seeds.Add(1) % 20
		set := defaults()
		set.MetadataKeys = []string{"tenant"}
		set.MetadataCardinalityLimit = 3
		set.SendBatchSize, set.SendBatchMaxSize, set.QueueSize = 10, 15, 50
		set.Timeout = 10 * time.Millisecond
		r := newRig(t, kind, set, func(batchertest.Batch) error {
			time.Sleep(time.Millisecond)
			return nil
		})
		const producers = 8
		accepted := make(chan []int, producers)
		for p := range producers {
			go func() {
				var mine []int
				defer func() { accepted <- mine }()
				for i := 0; ; i++ {
					first := 1_000_000*p + 1000*i
					n := 1 + (p*i)%37
					err := r.Consume(tenant(string(rune('a'+(p+i)%7))), kind.Make(first, n))
					var refused []int
					rest, partly := kind.FailedPart(err)
					if partly { // another piece was accepted
						refused, _ = kind.IDs(rest)
					}
					for id := first; id < first+n && (err == nil || partly); id++ {
						if !slices.Contains(refused, id) {
							mine = append(mine, id)
						}
					}
					if err != nil {
						if !errors.Is(err, batcher.ErrShutdown) {
							t.Errorf("refused with %v", err)
						}
						return
					}
				}
			}()
		}
		time.Sleep(time.Duration(round) * 1700 * time.Microsecond)
		require.NoError(t, r.Shutdown(t.Context()))
		got := r.sink.Delivered()
		for range producers {
			for _, id := range <-accepted {
				require.Equal(t, 1, got[id], "item %d", id)
				delete(got, id)
			}
		}
		require.Empty(t, got, "delivered though refused")
		require.Zero(t, r.Partitions())
	}
}
