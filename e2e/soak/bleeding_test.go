package soak

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/boundedbatch/boundedbatchprocessor/e2e/internal/harness"
)

// steady is a load that a collector has for a long time, and what is measured of it.
type steady struct {
	name     string // of the results
	visitors int    // tenants at the same time
	requests int    // of each, before it goes
	items    int    // of a request
	rate     int    // items a second, all together
	refused  int64  // one batch of so many, once

	warmUp, measured time.Duration
	every            time.Duration // between two samples
	samples          int           // it goes on until there are so many
	environment      []string
	bounds           []bound
}

// bound is how much of something may be gained in a day.
type bound struct {
	what   string
	perDay float64
	of     func(context.Context, *harness.Collector) (int, error)
}

// Whatever tenants and requests take is given back. Day for day 350,000 tenants come, with 430
// million items: what a bound lets pass is far less than one for each of them.
func TestSteadyLoadLeaksNothing(t *testing.T) {
	load := steady{
		name: "bleeding", visitors: 16, requests: 25, items: 50, rate: 5000, refused: 499,
		warmUp: 3 * time.Minute, measured: *durationFlag, every: 5 * time.Second, samples: 5 * blocks,
		bounds: []bound{
			{"goroutines", 1000, func(ctx context.Context, col *harness.Collector) (int, error) { return col.Goroutines(ctx) }},
			{"heap-B", 128 << 20, func(ctx context.Context, col *harness.Collector) (int, error) { return col.LiveHeap(ctx) }},
			{"files", 1000, func(_ context.Context, col *harness.Collector) (int, error) { return col.OpenFiles() }},
		},
	}
	if !*soakFlag {
		load.inShort()
	}
	load.test(t)
}

// Timers are counted under another load, with fewer items and more tenants: for them the
// collector has to remember every allocation, which takes more CPU than all that it does else.
// In a day 860,000 tenants would come.
func TestTenantsLeaveNoTimers(t *testing.T) {
	load := steady{
		name: "timers", visitors: 16, requests: 5, items: 10, rate: 500, refused: 499,
		warmUp: time.Minute, measured: *durationFlag / 6, every: 5 * time.Second, samples: blocks / 2,
		environment: []string{harness.EveryAllocation},
		bounds: []bound{{"timers", 20_000, func(ctx context.Context, col *harness.Collector) (int, error) {
			objects, err := col.Objects(ctx)
			return objects.Timers, err
		}}},
	}
	if !*soakFlag {
		load.inShort()
	}
	load.test(t)
}

// inShort makes it a load for seconds.
func (load *steady) inShort() {
	load.requests, load.rate, load.refused = 5, load.rate/4, 7
	load.warmUp, load.measured, load.every, load.samples = 2*time.Second, 15*time.Second, time.Second, 3
}

// busy is what the backend answers now and then.
var busy = status.Error(codes.Unavailable, "the backend is busy")

// test has tenants come and go, more of them at the same time than may be alive in the
// processor, with a connection of their own each. Now and then the backend refuses a batch for
// the moment. Nothing may grow, and every item has to arrive once.
func (load *steady) test(t *testing.T) {
	if !*soakFlag {
		t.Parallel()
	}
	file := newResults(t, load.name)
	backend := harness.NewBackend(t)
	batches := make(map[*harness.Ledger]*atomic.Int64) // of each signal: chance must not spare one of them
	for _, signal := range harness.Signals() {
		batches[backend.Ledger(signal)] = new(atomic.Int64)
	}
	backend.JudgeEach(func(of *harness.Ledger, _ []uint64) error {
		if batches[of].Add(1)%load.refused == 0 {
			return busy
		}
		return nil
	})
	col := harness.Start(t, harness.Config{
		Backend: backend, Profile: true, Environment: load.environment,
		Processor: "{timeout: 2s, metadata_keys: [x-tenant], metadata_cardinality_limit: 12, export_timeout: 30s, " +
			"retry_on_failure: {enabled: true, initial_interval: 50ms, max_interval: 1s, max_elapsed_time: 0s}}",
	})

	journals := make(map[harness.Signal]*harness.Journal)
	for _, signal := range harness.Signals() {
		journals[signal] = new(harness.Journal)
	}
	var tenants, acknowledged atomic.Int64
	over := make(chan struct{})
	var visiting sync.WaitGroup
	defer visiting.Wait()
	leave := sync.OnceFunc(func() { close(over) })
	defer leave()
	for i := range load.visitors {
		visiting.Go(func() {
			requests := load.requests - i%load.requests // so that not all of them go at the same time
			for visit(t, col, load, i, tenants.Add(1), requests, journals, &acknowledged, over) {
				requests = load.requests
			}
		})
	}

	delivered := func() (items, held int64) {
		s, err := col.Scrape(t.Context())
		require.NoError(t, err)
		for _, signal := range harness.Signals() {
			require.NoError(t, s.Bounds(signal))
			items += s.Sum(signal, "delivered_items")
			held += s.Sum(signal, "held_items")
		}
		return items, held
	}
	began, said := time.Now(), time.Time{}
	every := time.NewTicker(load.every)
	defer every.Stop()
	measured := make([][]point, len(load.bounds))
	var firstItems, lastItems int64 // delivered at the first sample and the last
	for all := load.warmUp + load.measured; !t.Failed() && (time.Since(began) < all || len(measured[0]) < load.samples); {
		<-every.C
		at := time.Since(began)
		var quantities []quantity
		for i, b := range load.bounds {
			value, err := b.of(t.Context(), col)
			require.NoError(t, err)
			require.Positive(t, value, b.what)
			quantities = append(quantities, quantity{float64(value), b.what})
			if at >= load.warmUp {
				measured[i] = append(measured[i], point{at, float64(value)})
			}
		}
		items, held := delivered()
		if time.Since(said) >= 3*load.every {
			said = time.Now()
			progress(t, at, all, "%d tenants came, %d items acknowledged, %d delivered, %d held; %v", tenants.Load(), acknowledged.Load(), items, held, quantities)
		}
		if at < load.warmUp {
			continue
		}
		if firstItems == 0 {
			firstItems = items
		}
		lastItems = items
		file.record(fmt.Sprintf("Steady/load=%s/t_ms=%d", load.name, at.Milliseconds()),
			append(quantities, quantity{float64(items), "delivered-items"}, quantity{float64(held), "held-items"})...)
	}
	leave()
	visiting.Wait()

	// Everything adds up.
	for _, signal := range harness.Signals() {
		sent := int64(journals[signal].Taken())
		col.AwaitItems(t, sent, signal, "delivered_items")
		col.AwaitItems(t, 0, signal, "held_items")
		s, err := col.Scrape(t.Context())
		require.NoError(t, err)
		assert.Equal(t, sent, s.Sum(signal, "accepted_items"))
		for _, none := range []string{"refused_items", "failed_items", "dropped_items"} {
			assert.Zero(t, s.Sum(signal, none), none)
		}
		assert.Positive(t, s.Sum(signal, "evictions"), "nobody had to go")
		assert.Positive(t, s.Sum(signal, "retries"))
		require.NoError(t, backend.Ledger(signal).Check(journals[signal].Sent()))
	}
	col.Stop(t)

	samples := measured[0]
	elapsed := samples[len(samples)-1].at - samples[0].at
	perSecond := float64(lastItems-firstItems) / elapsed.Seconds()
	file.record("SteadyLoad/load="+load.name, quantity{perSecond, "items/s"}, quantity{float64(tenants.Load()), "tenants"},
		quantity{float64(acknowledged.Load()), "items"}, quantity{elapsed.Seconds(), "s-measured"})
	assert.Greater(t, perSecond, 0.5*float64(load.rate), "items a second")
	for i, b := range load.bounds {
		grows, middle := growth(measured[i]), inBlocks(measured[i], 1)[0].value
		t.Logf("%s: %.4g in the middle; grows by %.4g a day (95 %% between %.4g and %.4g)", b.what, middle, grows.slope, grows.low, grows.high)
		file.record("Growth/of="+b.what, quantity{grows.slope, "per-day"}, quantity{grows.low, "low-per-day"},
			quantity{grows.high, "high-per-day"}, quantity{b.perDay, "limit-per-day"}, quantity{middle, "median"})
		if err := grows.check(b.perDay); err != nil && *soakFlag {
			t.Errorf("%s: %v", b.what, err)
		}
	}
	if !t.Failed() {
		soaked.Add(1)
	}
}

// visit is one tenant that comes with a connection of its own, makes its requests, of all
// signals in turn, and goes. It tells if there may be another one.
func visit(
	t *testing.T, col *harness.Collector, load *steady, place int, tenant int64, requests int,
	journals map[harness.Signal]*harness.Journal, acknowledged *atomic.Int64, over <-chan struct{},
) (more bool) {
	stay := &stay{TB: t}
	defer stay.end()
	header := harness.Header{"x-tenant": {fmt.Sprintf("tenant-%d", tenant)}}
	client := col.GRPC(stay, header)
	if place%2 == 1 {
		client = col.HTTP(stay, header)
	}
	ticks := time.NewTicker(time.Second * time.Duration(load.visitors*load.items) / time.Duration(load.rate))
	defer ticks.Stop()
	signals := harness.Signals()
	for i := range requests {
		select {
		case <-over:
			return false
		case <-ticks.C:
		}
		signal := signals[(i+place)%len(signals)]
		ids := journals[signal].Take(load.items)
		ctx, cancel := context.WithTimeout(t.Context(), requestTimeout)
		err := client.Send(ctx, signal, ids)
		cancel()
		if err != nil {
			journals[signal].Note(ids, harness.Unknown)
			t.Errorf("%s request with items %v: %v", client.Protocol(), ids, err)
			return false
		}
		journals[signal].Note(ids, harness.Acknowledged)
		acknowledged.Add(int64(load.items))
	}
	return true
}

// stay is a test as far as the clients of one visit know: what would end with the test ends
// with the visit.
type stay struct {
	testing.TB
	ends []func()
}

// Cleanup implements testing.TB.
func (s *stay) Cleanup(end func()) { s.ends = append(s.ends, end) }

func (s *stay) end() {
	for _, end := range s.ends {
		end()
	}
}
