package batcher_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
	"github.com/boundedbatch/boundedbatchprocessor/batcher/batchertest"
)

// greed is one tenant that sends a hundred times as much as each of twenty others, in
// batches of five items, which is more than downstream can take of all of them together.
type greed struct {
	name   string
	slots  int
	cap    int // exports of a tenant; 0: shared by the rule
	export time.Duration
	bursts bool // the twenty send at the same instants
	wait   bool // WaitForResult
}

func TestGreedyTenantDoesNotDelayTheOthers(t *testing.T) {
	for _, c := range []greed{
		{name: "shared", slots: 10, export: 50 * time.Millisecond},
		{name: "shared, at once", slots: 10, export: 50 * time.Millisecond, bursts: true},
		{name: "shared, longer exports", slots: 20, export: 100 * time.Millisecond},
		{name: "shared, callers wait", slots: 20, export: 100 * time.Millisecond, wait: true},
		{name: "an export each", slots: 10, cap: 1, export: 50 * time.Millisecond},
		{name: "an export each, longer ones", slots: 20, cap: 1, export: 100 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			each(t, testGreed[ptrace.Traces](c), testGreed[plog.Logs](c), testGreed[pmetric.Metrics](c), testGreed[*batcher.ProfilesData](c))
		})
	}
}

func testGreed[T any](c greed) func(*testing.T, batchertest.Kind[T]) {
	return func(t *testing.T, kind batchertest.Kind[T]) {
		const (
			others   = 20
			requests = 50 // of each, ten a second
			greedy   = "greedy"
		)
		set := perTenant()
		set.SendBatchSize, set.QueueSize = 5, 600
		set.MaxConcurrentExports, set.MaxConcurrentExportsPerPartition = c.slots, c.cap
		set.WaitForResult = c.wait
		var mu sync.Mutex // guards sent and waits
		sent := make([]time.Time, others*requests)
		var waits []time.Duration
		r := keepBooks(t, kind, set, func(_ context.Context, name string, data T) error {
			time.Sleep(c.export)
			if name == greedy {
				return nil
			}
			ids := kind.Identities(data)
			mu.Lock()
			defer mu.Unlock()
			for _, id := range ids {
				waits = append(waits, time.Since(sent[id]))
			}
			return nil
		})

		var enough atomic.Bool
		var all, small sync.WaitGroup
		for range 200 { // a thousand items a second
			all.Go(func() {
				for next := time.Now(); !enough.Load(); next = next.Add(time.Second) {
					time.Sleep(time.Until(next)) // it makes up for what it could not send in time
					if err := r.send(greedy, 5); err != nil {
						t.Errorf("greedy tenant refused with %v", err)
						return
					}
				}
			})
		}
		time.Sleep(5 * time.Second) // by now it has filled what it may
		for who := range others {
			random := rand.New(rand.NewPCG(8, uint64(who)))
			small.Go(func() {
				for i := range requests {
					id := who*requests + i
					mu.Lock()
					sent[id] = time.Now()
					mu.Unlock()
					consume := func() {
						if err := r.sendData(fmt.Sprint(who), kind.Make(id, 1)); err != nil {
							t.Errorf("tenant %d refused with %v", who, err)
						}
					}
					if c.wait {
						small.Go(consume)
					} else {
						consume()
					}
					pause := 100 * time.Millisecond
					if !c.bursts {
						pause = time.Duration(random.Int64N(int64(2 * pause)))
					}
					time.Sleep(pause)
				}
			})
		}
		small.Wait()
		time.Sleep(2*set.Timeout + c.export)
		overload := r.Stats()
		for who := range others {
			require.Equal(t, requests, r.of(fmt.Sprint(who)), "what it has sent has arrived")
		}
		enough.Store(true)
		all.Wait()
		time.Sleep(time.Minute)
		require.NoError(t, r.Shutdown(t.Context()))
		r.balance(t)

		require.Positive(t, overload.WaitingCallers, "the test is about an overload")
		require.Len(t, waits, others*requests)
		slices.Sort(waits)
		p50, p99, most := waits[len(waits)/2], waits[len(waits)*99/100], waits[len(waits)-1]
		t.Logf("from the call to the delivery: p50 %v, p99 %v, longest %v", p50, p99, most)
		require.Less(t, p99, 2*set.Timeout+c.export)
	}
}

// rivals are equal tenants that all push as fast as they can.
type rivals struct {
	name    string
	tenants int
	cap     int // exports of a tenant; 0: shared by the rule
	items   int // in a request
	size    int // SendBatchSize
	queue   int // QueueSize
}

func TestEqualTenantsGetEqualSharesOfAnOverload(t *testing.T) {
	for _, c := range []rivals{
		{name: "twenty", tenants: 20, items: 80, size: 819, queue: 9830},
		{name: "thirty", tenants: 30, items: 40, size: 819, queue: 9830},
		{name: "fifty", tenants: 50, items: 40, size: 819, queue: 9830},
		{name: "fifty with an export each", tenants: 50, cap: 1, items: 40, size: 819, queue: 9830},
		{name: "small, five", tenants: 5, items: 7, size: 50, queue: 600},
		{name: "small, twenty", tenants: 20, items: 7, size: 50, queue: 600},
		{name: "small, twenty, little room", tenants: 20, items: 10, size: 50, queue: 100},
		{name: "small, twenty with an export each", tenants: 20, cap: 1, items: 7, size: 50, queue: 600},
	} {
		t.Run(c.name, func(t *testing.T) {
			each(t, testRivals[ptrace.Traces](c), testRivals[plog.Logs](c), testRivals[pmetric.Metrics](c), testRivals[*batcher.ProfilesData](c))
		})
	}
}

func testRivals[T any](c rivals) func(*testing.T, batchertest.Kind[T]) {
	return func(t *testing.T, kind batchertest.Kind[T]) {
		const window = 8 * time.Second
		set := perTenant()
		set.SendBatchSize, set.QueueSize = c.size, c.queue
		set.MaxConcurrentExportsPerPartition = c.cap
		var mu sync.Mutex // guards jitter
		jitter := rand.New(rand.NewPCG(6, 7))
		r := keepBooks(t, kind, set, func(context.Context, string, T) error {
			mu.Lock()
			took := time.Duration(50+jitter.IntN(100)) * time.Millisecond
			mu.Unlock()
			time.Sleep(took)
			return nil
		})
		var enough atomic.Bool
		var all sync.WaitGroup
		for who := range c.tenants {
			for range 3 {
				all.Go(func() {
					for !enough.Load() {
						if err := r.send(fmt.Sprint(who), c.items); err != nil {
							t.Errorf("tenant %d refused with %v", who, err)
							return
						}
					}
				})
			}
		}
		arrived := func() (items []float64) {
			for who := range c.tenants {
				items = append(items, float64(r.of(fmt.Sprint(who))))
			}
			return items
		}
		time.Sleep(3 * time.Second)
		before := arrived()
		time.Sleep(window)
		shares := arrived()
		var lines []string
		for i := range shares {
			shares[i] -= before[i]
			lines = append(lines, fmt.Sprint(shares[i]))
		}
		batches := r.Stats().Batches
		enough.Store(true)
		all.Wait()
		time.Sleep(time.Minute)
		require.NoError(t, r.Shutdown(t.Context()))
		r.balance(t)

		index, total := jain(shares)
		t.Logf("Jain's index %.4f, %.0f items a second, least %.0f and most %.0f of a tenant; batches %v",
			index, total/window.Seconds(), slices.Min(shares), slices.Max(shares), batches)
		require.GreaterOrEqual(t, index, 0.98, "%s", strings.Join(lines, " "))
		// A tenth of a second for each export in a slot, with all that a tenant may hold.
		best := 10 * set.MaxConcurrentExports * min(c.size, c.queue/c.tenants)
		require.Greater(t, total/window.Seconds(), 0.7*float64(best), "slots are not spent on fragments")
	}
}

// jain is Jain's index of fairness, from 1/n, where one has everything, to 1, and the sum.
func jain(shares []float64) (index, total float64) {
	squares := 0.0
	for _, x := range shares {
		total += x
		squares += x * x
	}
	return total * total / (float64(len(shares)) * squares), total
}
