package bench

import (
	"context"
	"fmt"
	"runtime"
	runtimemetrics "runtime/metrics"
	"testing"
	"time"

	"go.opentelemetry.io/collector/client"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// manyTenants is how many the peers are to keep apart.
const manyTenants = 10_000

// tenantKey is the client metadata key by which they do.
const tenantKey = "tenant"

// settingsByTenant are those of a peer that keeps tenants apart, with room for twice as
// many of them and of their requests.
func settingsByTenant(p peer, timeout time.Duration) map[string]any {
	keys := []string{tenantKey}
	if p == helper {
		return map[string]any{
			"queue_size": 2 * manyTenants, // a request keeps its place while it is pending
			"batch": map[string]any{
				"flush_timeout": timeout,
				"partition":     map[string]any{"metadata_keys": keys, "cache_size": 2 * manyTenants},
			},
		}
	}
	return map[string]any{"timeout": timeout, "metadata_keys": keys, "metadata_cardinality_limit": 2 * manyTenants}
}

func newTenantRig[T any](tb testing.TB, s *signal[T], p peer, timeout time.Duration) *rig[T] {
	tb.Helper()
	return newRig(tb, s, p, settingsByTenant(p, timeout), &sink[T]{entries: s.resources})
}

// tenantContext is that of a request of the i-th tenant.
func tenantContext(i int) context.Context {
	md := client.NewMetadata(map[string][]string{tenantKey: {fmt.Sprintf("tenant-%05d", i)}})
	return client.NewContext(context.Background(), client.Info{Metadata: md})
}

// introduce sends a request of one item under each of that many tenants. Who sends it
// keeps nothing: what is left of a context is the peer's.
func (r *rig[T]) introduce(tb testing.TB, tenants int) {
	tb.Helper()
	r.sink.mu.Lock()
	r.sink.expected = tenants
	r.sink.mu.Unlock()
	for i := range tenants {
		if err := r.consume(tenantContext(i), r.build(1)); err != nil {
			tb.Fatalf("%s answered a request with an error: %v", r.name, err)
		}
	}
}

// delivered waits until the sink has everything, which must be one batch of one item of
// each tenant, and forgets it.
func (r *rig[T]) delivered(tb testing.TB, tenants int) {
	tb.Helper()
	select {
	case <-r.sink.complete:
	case <-time.After(patience):
		tb.Fatalf("%s did not deliver the items of %d tenants in %v", r.name, tenants, patience)
	}
	batches := r.sink.take()
	r.sink.mu.Lock()
	r.sink.batches = nil // its capacity would count as the peer's
	r.sink.mu.Unlock()
	if len(batches) != tenants {
		tb.Fatalf("%s made %d batches of the requests of %d tenants", r.name, len(batches), tenants)
	}
	for _, b := range batches {
		if n := r.items(b); n != 1 {
			tb.Fatalf("%s delivered %d items of a tenant that sent one", r.name, n)
		}
	}
}

// tenantsKnown is the metric in which a peer says of how many tenants it keeps anything.
var tenantsKnown = map[peer]string{
	boundedbatch: "otelcol_processor_boundedbatch_live_partitions",
	batch:        "otelcol_processor_batch_metadata_cardinality",
	helper:       "otelcol_exporter_queue_batch_partition_cache_size",
}

// known is of how many tenants the peer keeps anything.
func (r *rig[T]) known(tb testing.TB) int {
	tb.Helper()
	var collected metricdata.ResourceMetrics
	if err := r.metrics.Collect(context.Background(), &collected); err != nil {
		tb.Fatalf("collect the metrics of %s: %v", r.name, err)
	}
	for _, scope := range collected.ScopeMetrics {
		for _, m := range scope.Metrics {
			if m.Name != tenantsKnown[r.name] {
				continue
			}
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				return int(data.DataPoints[0].Value)
			case metricdata.Gauge[int64]:
				return int(data.DataPoints[0].Value)
			}
		}
	}
	tb.Fatalf("%s has no metric %q", r.name, tenantsKnown[r.name])
	return 0
}

func (r *rig[T]) awaitKnown(tb testing.TB, tenants int) {
	tb.Helper()
	await(tb, fmt.Sprintf("%s keeps something of %d tenants", r.name, tenants), func() bool { return r.known(tb) == tenants })
}

// quiet waits until everybody else is asleep.
func quiet(tb testing.TB) {
	tb.Helper()
	awake := []runtimemetrics.Sample{{Name: "/sched/goroutines/running:goroutines"}, {Name: "/sched/goroutines/runnable:goroutines"}}
	await(tb, "everybody else is asleep", func() bool {
		runtimemetrics.Read(awake)
		return awake[0].Value.Uint64()+awake[1].Value.Uint64() == 1
	})
}

// await looks every few milliseconds whether something is so.
func await(tb testing.TB, what string, so func() bool) {
	tb.Helper()
	for began := time.Now(); !so(); time.Sleep(5 * time.Millisecond) {
		if time.Since(began) > patience {
			tb.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// memory is bytes in use.
type memory struct {
	heap   float64 // live objects
	stacks float64 // of goroutines: the runtime gives and takes them in pages
}

func memoryInUse() memory {
	runtime.GC()
	runtime.GC() // a sync.Pool keeps what it had for one collection more
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return memory{heap: float64(m.HeapAlloc), stacks: float64(m.StackInuse)}
}

// perTenant divides what has been added since before.
func (m memory) perTenant(before memory, tenants int) memory {
	return memory{heap: (m.heap - before.heap) / float64(tenants), stacks: max(0, m.stacks-before.stacks) / float64(tenants)}
}

func (m memory) String() string {
	if m.stacks < 1 {
		return number(m.heap)
	}
	return number(m.heap) + " + " + number(m.stacks)
}

const (
	// pendingTimeout keeps pending whatever comes.
	pendingTimeout = time.Hour
	// tickingTimeout is how long a tenant's ticks stay armed after its batch has left:
	// long enough to find out what is kept meanwhile.
	tickingTimeout = 2 * time.Second
)

// TestMemoryOfTenant counts what a peer keeps of a tenant that has one item pending, the
// item itself apart, and what boundedbatch keeps after it has left and until a tick
// finds nothing more. What the others keep of a tenant with nothing pending shows in
// TestIdle.
func TestMemoryOfTenant(t *testing.T) {
	skipIfShort(t)
	table := newTable("bytes a tenant (heap + stacks)", "state", "boundedbatch", "limit", "batch", "exporterhelper", "the data itself")
	defer table.print()
	limited := func(s fmt.Stringer, state string, of memory) string {
		if of.heap > bytesPerTenant {
			t.Errorf("%s: %.0f bytes for a tenant that is %s, more than %d", s, of.heap, state, bytesPerTenant)
		}
		return atMost(of.heap, bytesPerTenant)
	}
	for _, s := range all {
		data, of := s.memoryOfRequest(t), make(map[peer]memory)
		for _, p := range []peer{boundedbatch, batch, helper} {
			m := s.memoryPending(t, p)
			m.heap -= data.heap
			recordTenant(s.String(), "pending", p, m)
			of[p] = m
		}
		table.row(s, "pending", of[boundedbatch], limited(s, "pending", of[boundedbatch]), of[batch], of[helper], data.heap)
	}
	ticking := logs.memoryTicking(t)
	recordTenant(logs.name, "ticking", boundedbatch, ticking)
	table.row(&logs, "ticking", ticking, limited(&logs, "ticking", ticking), "", "", 0)
}

// memoryOfRequest is what a request of one item takes by itself.
func (s *signal[T]) memoryOfRequest(t *testing.T) memory {
	t.Helper()
	inWarmMemory(t)
	requests := make([]T, manyTenants)
	before := memoryInUse()
	for i := range requests {
		requests[i] = s.build(1)
	}
	after := memoryInUse()
	runtime.KeepAlive(requests)
	return after.perTenant(before, manyTenants)
}

// memoryPending is what the peer keeps of a tenant with one item pending, the item
// included.
func (s *signal[T]) memoryPending(t *testing.T, p peer) memory {
	t.Helper()
	inWarmMemory(t)
	quiet(t)
	before := memoryInUse()
	r := newTenantRig(t, s, p, pendingTimeout)
	r.introduce(t, manyTenants)
	r.awaitKnown(t, manyTenants)
	quiet(t)
	after := memoryInUse()
	r.shutdown(t)
	r.delivered(t, manyTenants)
	return after.perTenant(before, manyTenants)
}

// memoryTicking is what boundedbatch keeps of a tenant whose batch has left at a tick,
// until the next one.
func (s *signal[T]) memoryTicking(t *testing.T) memory {
	t.Helper()
	inWarmMemory(t)
	quiet(t)
	before := memoryInUse()
	r := newTenantRig(t, s, boundedbatch, tickingTimeout)
	r.introduce(t, manyTenants)
	r.delivered(t, manyTenants)
	quiet(t)
	after := memoryInUse()
	if known := r.known(t); known != manyTenants {
		t.Fatalf("only %d of %d tenants still had their ticks armed when the memory was measured", known, manyTenants)
	}
	r.stop(t)
	return after.perTenant(before, manyTenants)
}
