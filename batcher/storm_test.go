package batcher_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/pprof"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
	"github.com/boundedbatch/boundedbatchprocessor/batcher/batchertest"
)

const crowd = 10_000 // live partitions at a shutdown

func TestShutdownDeliversTenThousandTenants(t *testing.T) {
	eachAlone(t, testCrowdDrains, testCrowdDrains, testCrowdDrains, testCrowdDrains)
}

// Some of the tenants have something sealed or in flight as well, as the first tick has
// come for them.
func testCrowdDrains[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := perTenant()
	set.MaxConcurrentExportsPerPartition = 1
	before := runtime.NumGoroutine()
	r := keepBooks(t, kind, set, func(context.Context, string, T) error {
		time.Sleep(time.Millisecond)
		return nil
	})
	for i := range crowd {
		require.NoError(t, r.send(fmt.Sprint(i), 1+i%2))
		if i == crowd/10 {
			time.Sleep(set.Timeout)
		}
		if i < crowd/10 && i%2 == 0 {
			require.NoError(t, r.send(fmt.Sprint(i), 1))
		}
	}
	require.Greater(t, r.Stats().LivePartitions, int64(crowd*9/10))
	require.Less(t, runtime.NumGoroutine(), before+100)
	began := time.Now()
	require.NoError(t, r.Shutdown(t.Context()))
	took := time.Since(began)
	r.balance(t)
	require.Zero(t, r.Partitions())
	require.Equal(t, set.MaxConcurrentExports, r.most)
	most := time.Duration(crowd/set.MaxConcurrentExports+2) * time.Millisecond
	require.LessOrEqual(t, took, most+most/10, "all slots are in use")
}

func TestShutdownOfTenThousandTenantsEndsAtItsDeadline(t *testing.T) {
	each(t, testCrowdHangs, testCrowdHangs, testCrowdHangs, testCrowdHangs)
}

func testCrowdHangs[T any](t *testing.T, kind batchertest.Kind[T]) {
	for _, deaf := range []bool{false, true} { // downstream ignores its canceled context
		set := perTenant()
		set.ShutdownTimeout = 10 * time.Second
		want := 9500 * time.Millisecond
		if deaf {
			want = set.ShutdownTimeout
		}
		g := newGate()
		r := keepBooks(t, kind, set, func(ctx context.Context, _ string, _ T) error {
			if deaf {
				<-g
			}
			return g.wait(ctx)
		})
		for i := range crowd {
			require.NoError(t, r.send(fmt.Sprint(i), 1))
		}
		began := time.Now()
		err := r.Shutdown(t.Context())
		require.Equal(t, want, time.Since(began))
		var u *batcher.Undelivered
		require.ErrorAs(t, err, &u)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.EqualValues(t, set.MaxConcurrentExports, u.InFlight, "%v", err)
		require.EqualValues(t, crowd-set.MaxConcurrentExports, u.Sealed, "%v", err)
		s := r.Stats()
		checkIdentity(t, s)
		require.EqualValues(t, crowd, s.Dropped[batcher.DroppedShutdown])
		require.Zero(t, s.Held)
		g.open() // a late return changes nothing
		synctest.Wait()
		require.Equal(t, s, r.Stats())
	}
}

// The storm: three hundred tenants begin at the same time, so that the tick that seals
// their items and the one that finds them idle come at the same time for all of them.
// At that moment callers bring tenants new and old, which retires others, and the batcher
// is stopped. Three parties then take the same partitions off the same lists.
const stormTenants = 300

func TestStormAtTheIdleTickConcurrentSafe(t *testing.T) {
	storms(t, 4)
	t.Run("virtual", func(t *testing.T) {
		each(t, testStorms[ptrace.Traces](4), testStorms[plog.Logs](4), testStorms[pmetric.Metrics](4), testStorms[*batcher.ProfilesData](4))
	})
}

func TestAHundredAndFiftyStormsAtTheIdleTick(t *testing.T) {
	storms(t, 50)
	t.Run("virtual", func(t *testing.T) {
		each(t, testStorms[ptrace.Traces](10), testStorms[plog.Logs](10), testStorms[pmetric.Metrics](10), testStorms[*batcher.ProfilesData](10))
	})
}

// storms are storms in real time, that many for each signal: in virtual time nothing
// happens while a timer is about to fire.
func storms(t *testing.T, rounds int) {
	t.Helper()
	t.Run("signal=traces", func(t *testing.T) { testStorms[ptrace.Traces](rounds)(t, batchertest.Traces()) })
	t.Run("signal=logs", func(t *testing.T) { testStorms[plog.Logs](rounds)(t, batchertest.Logs()) })
	t.Run("signal=metrics", func(t *testing.T) { testStorms[pmetric.Metrics](rounds)(t, batchertest.Metrics()) })
}

func testStorms[T any](rounds int) func(*testing.T, batchertest.Kind[T]) {
	return func(t *testing.T, kind batchertest.Kind[T]) {
		evictions, late := int64(0), int64(0)
		for range rounds {
			s := storm(t, kind, seeds.Add(1))
			evictions += s.Evictions
			late += s.Accepted - stormTenants
		}
		t.Logf("%d storms: %d tenants retired, %d items accepted around the idle tick", rounds, evictions, late)
	}
}

func storm[T any](t *testing.T, kind batchertest.Kind[T], seed uint64) batcher.Stats {
	watch := dumpAfter(time.Minute)
	defer watch.Stop()
	random := rand.New(rand.NewPCG(seed, 13))
	set := perTenant()
	set.Timeout = 4 * time.Millisecond
	set.SendBatchSize, set.QueueSize = 20, 1000
	set.MetadataCardinalityLimit = stormTenants - random.IntN(2)*random.IntN(stormTenants)
	set.MaxConcurrentExportsPerPartition = random.IntN(2)
	set.WaitForResult, set.FlushWhenIdle = random.IntN(4) == 0, random.IntN(4) == 0
	set.ShutdownTimeout = 0 // so that a hang is one
	r := openBooks(t, kind, set, nil)

	var all sync.WaitGroup
	push := func(name string, items int) bool {
		err := r.send(name, items)
		if err != nil && !errors.Is(err, batcher.ErrShutdown) {
			t.Errorf("refused with %v", err)
		}
		return err == nil
	}
	began := time.Now()
	for i := range stormTenants {
		if set.WaitForResult {
			all.Go(func() { push(fmt.Sprint(i), 1) })
		} else {
			push(fmt.Sprint(i), 1)
		}
	}
	// In real time the partitions do not begin quite at once: aim somewhere into the time
	// in which they become idle.
	idle := began.Add(2 * set.Timeout)
	if spread := time.Since(began); spread > 0 {
		idle = idle.Add(time.Duration(random.Int64N(int64(spread))))
	}
	for p := range 3 {
		random := rand.New(rand.NewPCG(seed, uint64(20+p)))
		early := time.Duration(random.Int64N(2) * random.Int64N(int64(set.Timeout/2))) // than the tick
		all.Go(func() {
			<-time.After(time.Until(idle.Add(-early)))
			for range random.IntN(200) {
				if !push(fmt.Sprint(random.IntN(2*stormTenants)), 1+random.IntN(25)) {
					return
				}
			}
		})
	}
	<-time.After(time.Until(idle))
	for range random.IntN(50) {
		runtime.Gosched()
	}
	require.NoError(t, r.Shutdown(context.Background()))
	all.Wait()
	s := r.Stats()
	checkIdentity(t, s)
	require.Zero(t, s.Held)
	require.Equal(t, s.Accepted, s.Delivered)
	require.Zero(t, r.Partitions())
	require.False(t, r.Armed())
	r.balance(t)
	return s
}

// dumpAfter tells what every goroutine is doing, and ends the process, unless it is
// stopped in time.
func dumpAfter(d time.Duration) *time.Timer {
	return time.AfterFunc(d, func() {
		_ = pprof.Lookup("goroutine").WriteTo(os.Stderr, 2)
		panic("it hangs")
	})
}
