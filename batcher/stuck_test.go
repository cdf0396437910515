package batcher_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
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

// stuck is a case of tenants whose exports hang while they go on sending as fast as they
// can, beside others that must not notice.
type stuck struct {
	name          string
	tenants       int // stuck ones
	cap           int // exports of a tenant; 0: shared by the rule
	theirs, other int // items of a stuck tenant's request, and of another's
	size          int // SendBatchSize; 0: the default
	queue         int // QueueSize; 0: twelve batches
	atOnce        bool
	wait, idle    bool // WaitForResult, FlushWhenIdle
	refuse        bool // not BlockOnOverflow
	retry         bool // their exports fail and are repeated instead of hanging
	limit         int  // MetadataCardinalityLimit
	slots         int  // that are taken in the end; 0: whatever they may
}

func TestStuckTenantsLeaveRoomForOthers(t *testing.T) {
	for _, c := range []stuck{
		{name: "single items", tenants: 3, theirs: 1, other: 1, size: 256},
		{name: "single items, larger than what is left", tenants: 3, theirs: 1, other: 100, size: 256, atOnce: true},
		{name: "requests of ten", tenants: 3, theirs: 10, other: 10, size: 512},
		{name: "the usual request", tenants: 3, theirs: 512, other: 512},
		{name: "the usual request, at once", tenants: 3, theirs: 512, other: 512, atOnce: true},
		{name: "requests of ten, larger than what is left", tenants: 3, theirs: 10, other: 200, size: 512},
		{name: "small batches", tenants: 3, theirs: 10, other: 10, size: 10, queue: 6144, slots: 9},
		{name: "large requests", tenants: 3, theirs: 1250, other: 10, size: 512},
		{name: "large requests, at once", tenants: 3, theirs: 1250, other: 32, size: 512, atOnce: true},
		{name: "large requests that take all they may", tenants: 3, theirs: 672, other: 32, size: 512},
		{name: "retried", tenants: 3, theirs: 512, other: 512, retry: true},
		{name: "retired", tenants: 3, theirs: 512, other: 10, limit: 20},
		{name: "larger than the queue", tenants: 3, theirs: 7000, other: 10, size: 512},
		{name: "callers wait", tenants: 3, theirs: 64, other: 10, size: 512, wait: true, idle: true},
		{name: "callers wait, no idle flushes", tenants: 3, theirs: 64, other: 64, size: 512, wait: true},
		{name: "refused", tenants: 3, theirs: 512, other: 10, refuse: true},
		{name: "refused, at once", tenants: 3, theirs: 10, other: 1, size: 512, refuse: true, atOnce: true},

		{name: "nine, single items", tenants: 9, cap: 1, theirs: 1, other: 1, size: 256, slots: 9},
		{name: "nine, the usual request", tenants: 9, cap: 1, theirs: 512, other: 512, slots: 9},
		{name: "nine, the usual request, at once", tenants: 9, cap: 1, theirs: 512, other: 512, atOnce: true, slots: 9},
		{name: "nine, large requests", tenants: 9, cap: 1, theirs: 1200, other: 10, size: 512, slots: 9},
		{name: "nine, retried", tenants: 9, cap: 1, theirs: 512, other: 10, retry: true},
		{name: "nine, callers wait", tenants: 9, cap: 1, theirs: 64, other: 10, size: 512, wait: true, idle: true, slots: 9},
		{name: "nine, refused", tenants: 9, cap: 1, theirs: 64, other: 1, refuse: true, slots: 9},
	} {
		t.Run(c.name, func(t *testing.T) {
			each(t, testStuck[ptrace.Traces](c), testStuck[plog.Logs](c), testStuck[pmetric.Metrics](c), testStuck[*batcher.ProfilesData](c))
		})
	}
}

// One after the other is the worst order: each takes all that it may of what is left.
func testStuck[T any](c stuck) func(*testing.T, batchertest.Kind[T]) {
	return func(t *testing.T, kind batchertest.Kind[T]) {
		set := perTenant()
		set.SendBatchSize = cmp.Or(c.size, set.SendBatchSize)
		set.QueueSize = cmp.Or(c.queue, 12*set.SendBatchSize)
		set.MaxConcurrentExportsPerPartition = c.cap
		set.WaitForResult, set.FlushWhenIdle = c.wait, c.idle
		set.BlockOnOverflow = !c.refuse
		set.MetadataCardinalityLimit = c.limit
		set.Retry = batcher.Retry{
			Enabled: c.retry, InitialInterval: 100 * time.Millisecond, Multiplier: 1.5, RandomizationFactor: 0.5, MaxInterval: time.Second,
		}
		g := newGate()
		r := keepBooks(t, kind, set, func(ctx context.Context, name string, _ T) error {
			switch {
			case !strings.HasPrefix(name, "stuck"):
				time.Sleep(100 * time.Microsecond)
				return nil
			case c.retry:
				select {
				case <-g:
					return nil
				default:
					return errRefused
				}
			}
			return g.wait(ctx)
		})

		producers := 3
		if c.wait {
			producers = set.QueueSize/c.theirs + 1
		}
		var enough atomic.Bool
		var all sync.WaitGroup
		for i := range c.tenants {
			for range producers {
				all.Go(func() {
					data := plain[T](c.theirs)
					for !enough.Load() {
						err := r.sendData(fmt.Sprint("stuck ", i), data)
						switch {
						case err == nil:
							data = plain[T](c.theirs)
						case c.refuse && errors.Is(err, batcher.ErrOverflow):
							time.Sleep(50 * time.Millisecond)
						case errors.Is(err, batcher.ErrShutdown): // the test has failed already
							return
						default:
							t.Errorf("stuck tenant refused with %v", err)
							return
						}
					}
				})
			}
			if !c.atOnce {
				time.Sleep(5 * set.Timeout)
			}
		}
		time.Sleep(5 * set.Timeout)
		s := r.Stats()
		t.Logf("%d of %d held, by tenants with %v exports", s.Held, s.Capacity, r.underWay())
		require.Greater(t, s.Held, s.Capacity*7/8-int64(c.theirs), "they take what they can get")
		require.Less(t, s.ExportsInFlight, int64(set.MaxConcurrentExports))
		if c.slots > 0 {
			require.EqualValues(t, c.slots, s.ExportsInFlight)
		}
		require.NoError(t, r.Check())

		// visit sends from each of so many tenants that have never been here.
		news := 0
		visit := func(n int) {
			first := news
			news += n
			for i := first; i < news; i++ {
				all.Go(func() {
					if err := r.send(fmt.Sprint(i), c.other); err != nil && !errors.Is(err, batcher.ErrShutdown) {
						t.Errorf("newcomer refused with %v", err)
					}
				})
			}
			time.Sleep(2 * set.Timeout)
			synctest.Wait()
			late := 0
			for i := first; i < news; i++ {
				if r.of(fmt.Sprint(i)) != c.other {
					late++
				}
			}
			require.Zero(t, late, "of %d newcomers, after two timeouts: %+v", n, r.Stats())
			require.NoError(t, r.Check())
		}
		visit(100)
		for range 10 {
			visit(1)
		}
		visit(30)

		enough.Store(true)
		g.open()
		all.Wait()
		time.Sleep(time.Minute)
		require.Zero(t, r.Stats().Held)
		require.Zero(t, r.Partitions())
		require.NoError(t, r.Shutdown(t.Context()))
		r.balance(t)
	}
}

func TestWithoutKeysTheOnePartitionMayUseEverything(t *testing.T) {
	each(t, testOnePartition, testOnePartition, testOnePartition, testOnePartition)
}

func testOnePartition[T any](t *testing.T, kind batchertest.Kind[T]) {
	for _, items := range []int{1, 10, 512, 7000} {
		set := perTenant()
		set.MetadataKeys = nil
		set.SendBatchSize, set.QueueSize = 512, 12*512
		g := newGate()
		r := keepBooks(t, kind, set, func(ctx context.Context, _ string, _ T) error { return g.wait(ctx) })
		var enough atomic.Bool
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				for !enough.Load() {
					if err := r.send("", items); err != nil {
						t.Errorf("refused with %v", err)
						return
					}
				}
			})
		}
		time.Sleep(10 * set.Timeout)
		s := r.Stats()
		if set.QueueSize%items == 0 || items > set.QueueSize {
			require.Equal(t, s.Capacity, s.Held, "requests of %d items", items)
		}
		require.Greater(t, s.Held, s.Capacity-int64(items))
		if items <= set.SendBatchSize {
			require.EqualValues(t, set.MaxConcurrentExports, s.ExportsInFlight)
		}
		enough.Store(true)
		g.open()
		all.Wait()
		time.Sleep(time.Minute)
		require.Zero(t, r.Stats().Held)
		require.NoError(t, r.Shutdown(t.Context()))
		r.balance(t)
	}
}

func TestTenantsThatComeAtOnceShareTheSlots(t *testing.T) {
	each(t, testShareSlots, testShareSlots, testShareSlots, testShareSlots)
}

// Their batches come in turns. Each takes a slot as long as it has fewer than are free.
func testShareSlots[T any](t *testing.T, kind batchertest.Kind[T]) {
	for _, want := range [][]int{ // exports under way, by tenant
		{5},
		{4, 3}, // after 3 and 3 there are four free, after 4 and 3 three
		{3, 3, 2},
		{1, 1, 1, 1, 1, 1, 1, 1, 1, 1},
		{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0},
	} {
		set := perTenant()
		set.SendBatchSize, set.Timeout = 1, time.Hour
		r := keepBooks(t, kind, set, func(context.Context, string, T) error {
			time.Sleep(time.Second)
			return nil
		})
		for range 20 {
			for who := range want {
				require.NoError(t, r.send(fmt.Sprint(who), 1))
			}
		}
		synctest.Wait()
		for who, n := range want {
			require.Equal(t, n, r.underWay()[fmt.Sprint(who)], "tenant %d of %v", who, r.underWay())
		}
		require.NoError(t, r.Check())
		time.Sleep(time.Hour)
		require.NoError(t, r.Shutdown(t.Context()))
		r.balance(t)
	}
}
