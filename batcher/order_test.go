package batcher_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
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

// queues is traffic of fifty tenants whose order is promised, into a downstream that takes
// a random time for everything.
type queues struct {
	name     string
	exports  int // at once; 0: ten
	requests int // of a tenant
	most     int // items in a request
	change   func(*batcher.Settings)
	pause    time.Duration // the longest between two requests of a tenant
	failing  bool          // downstream fails retryably now and then
}

const (
	orderedTenants = 50
	perOrdered     = 1 << 20 // identities of a tenant's items
)

// ordered are the settings of all these tests.
func (q queues) settings() batcher.Settings {
	set := perTenant()
	set.Timeout = 20 * time.Millisecond
	set.SendBatchSize, set.QueueSize = 10, 20_000
	set.MaxConcurrentExportsPerPartition = 1
	if q.exports > 0 {
		set.MaxConcurrentExports = q.exports
	}
	if q.change != nil {
		q.change(&set)
	}
	return set
}

func TestTenantsKeepTheirOrderInParallel(t *testing.T) {
	retries := func(set *batcher.Settings) {
		set.Retry = batcher.Retry{
			Enabled: true, InitialInterval: 10 * time.Millisecond, Multiplier: 1.5,
			RandomizationFactor: 0.5, MaxInterval: 50 * time.Millisecond,
		}
	}
	few := func(set *batcher.Settings) { set.MetadataCardinalityLimit = 5 }
	waits := func(set *batcher.Settings) { set.WaitForResult = true }
	cuts := func(set *batcher.Settings) { set.SendBatchMaxSize = 10 }
	for _, q := range []queues{
		{name: "plain", requests: 20, most: 7},
		{name: "cut", requests: 10, most: 45, change: cuts},
		{name: "little room", requests: 15, most: 20, change: func(set *batcher.Settings) { set.QueueSize = 300 }},
		{name: "timeout 0", requests: 20, most: 7, pause: 20 * time.Millisecond, change: func(set *batcher.Settings) { set.Timeout = 0 }},
		{name: "callers wait", requests: 15, most: 7, pause: 30 * time.Millisecond, change: waits},
		{name: "callers wait, idle flushes", requests: 15, most: 7, pause: 30 * time.Millisecond, change: func(set *batcher.Settings) {
			waits(set)
			set.FlushWhenIdle = true
		}},
		{name: "retries", requests: 20, most: 7, pause: 20 * time.Millisecond, failing: true, change: retries},
		{name: "retired", requests: 15, most: 7, pause: 60 * time.Millisecond, change: few},
		{name: "all of it", requests: 10, most: 25, pause: 60 * time.Millisecond, failing: true, change: func(set *batcher.Settings) {
			retries(set)
			few(set)
			waits(set)
			cuts(set)
		}},
	} {
		t.Run(q.name, func(t *testing.T) {
			each(t, testTenantOrder[ptrace.Traces](q), testTenantOrder[plog.Logs](q), testTenantOrder[pmetric.Metrics](q), testTenantOrder[*batcher.ProfilesData](q))
		})
	}
}

func testTenantOrder[T any](q queues) func(*testing.T, batchertest.Kind[T]) {
	return func(t *testing.T, kind batchertest.Kind[T]) {
		took, most := runQueues(t, kind, q)
		t.Logf("%v, up to %d exports at once", took, most)
		require.GreaterOrEqual(t, most, 8, "tenants run in parallel")
	}
}

func TestOrderPerTenantCostsNoThroughput(t *testing.T) {
	each(t, testOrderThroughput, testOrderThroughput, testOrderThroughput, testOrderThroughput)
}

func testOrderThroughput[T any](t *testing.T, kind batchertest.Kind[T]) {
	q := queues{requests: 30, most: 7}
	parallel, _ := runQueues(t, kind, q)
	q.exports = 1
	serial, most := runQueues(t, kind, q)
	require.Equal(t, 1, most)
	t.Logf("%v with an export at once per tenant, %v with one of all: %.2f times as fast", parallel, serial, serial.Seconds()/parallel.Seconds())
	require.GreaterOrEqual(t, serial, 8*parallel)
}

// runQueues sends the traffic, checks the order in which it leaves, and returns how long
// it took to the last export and how many there were at once.
func runQueues[T any](t *testing.T, kind batchertest.Kind[T], q queues) (time.Duration, int) {
	set := q.settings()
	var mu sync.Mutex // guards expected and busy
	var expected [orderedTenants]int
	var busy [orderedTenants]bool
	jitter := rand.New(rand.NewPCG(3, 4))
	r := keepBooks(t, kind, set, func(_ context.Context, name string, data T) error {
		ids := kind.Identities(data)
		who, err := strconv.Atoi(name)
		if err != nil {
			t.Error(err)
			return err
		}
		mu.Lock()
		took, fails := time.Duration(1+jitter.IntN(100))*time.Millisecond, q.failing && jitter.IntN(4) == 0
		first := who*perOrdered + expected[who]
		if busy[who] {
			t.Errorf("tenant %d has two exports at once", who)
		}
		if i := slices.IndexFunc(ids, func(id int) bool { first++; return id != first-1 }); i >= 0 {
			t.Errorf("tenant %d: item %d where %d was next", who, ids[i]%perOrdered, first-1-who*perOrdered)
		}
		busy[who] = true
		mu.Unlock()
		time.Sleep(took)
		mu.Lock()
		defer mu.Unlock()
		busy[who] = false
		if fails {
			return errRefused // and come again
		}
		expected[who] += len(ids)
		return nil
	})

	began := time.Now()
	var all sync.WaitGroup
	for who := range orderedTenants {
		random := rand.New(rand.NewPCG(5, uint64(who)))
		all.Go(func() {
			next := who * perOrdered
			for range q.requests {
				data := kind.Make(next, 1+random.IntN(q.most))
				next += kind.Items(data)
				consume := func() {
					if err := r.sendData(fmt.Sprint(who), data); err != nil {
						t.Errorf("refused with %v", err)
					}
				}
				if set.WaitForResult {
					// Virtual time goes on when it has been accepted: there is room for all.
					all.Go(consume)
					time.Sleep(time.Nanosecond)
				} else {
					consume()
				}
				if q.pause > 0 {
					time.Sleep(time.Duration(random.Int64N(int64(q.pause))))
				}
			}
		})
	}
	all.Wait()
	time.Sleep(time.Hour)
	s := r.Stats()
	require.Zero(t, s.Held)
	require.Equal(t, s.Accepted, s.Delivered)
	if q.failing {
		require.Positive(t, s.Retries)
	}
	if set.MetadataCardinalityLimit > 0 {
		require.Greater(t, s.Evictions, int64(orderedTenants))
	}
	require.NoError(t, r.Shutdown(t.Context()))
	r.balance(t)
	return r.last.Sub(began), r.most
}
