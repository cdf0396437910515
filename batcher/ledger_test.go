package batcher_test

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/client"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pprofile"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
	"github.com/boundedbatch/boundedbatchprocessor/batcher/batchertest"
)

// books is a started batcher with keys, in front of a next consumer that keeps accounts
// of tenants instead of remembering batches, so that a test can afford very many of both.
type books[T any] struct {
	*batcher.Batcher[T]
	kind    batchertest.Kind[T]
	respond func(ctx context.Context, tenant string, data T) error // nil accepts

	mu       sync.Mutex     // guards everything below
	accepted map[string]int // items, by tenant
	arrived  map[string]int // items that respond accepted, by tenant
	calls    map[string]int // export calls under way, by tenant
	most     int            // export calls that were under way at once
	inside   int
	last     time.Time // when respond accepted the last batch
}

// perTenant is what tests with tenants start from: the processor's defaults, but for the
// limit of live partitions.
func perTenant() batcher.Settings {
	return batcher.Settings{
		Timeout:              200 * time.Millisecond,
		SendBatchSize:        8192,
		QueueSize:            12 * 8192,
		BlockOnOverflow:      true,
		MetadataKeys:         []string{"tenant"},
		MaxConcurrentExports: 10,
		ShutdownTimeout:      30 * time.Second,
	}
}

// openBooks starts a batcher.
func openBooks[T any](
	t *testing.T, kind batchertest.Kind[T], set batcher.Settings, respond func(ctx context.Context, tenant string, data T) error,
) *books[T] {
	t.Helper()
	r := &books[T]{kind: kind, respond: respond, accepted: map[string]int{}, arrived: map[string]int{}, calls: map[string]int{}}
	b, err := batcher.New(kind.Signal, set, r.next)
	require.NoError(t, err)
	require.NoError(t, b.Start())
	r.Batcher = b
	return r
}

// keepBooks is openBooks for a test that has one batcher. At its end that is shut down, if
// the test has not done so, and must hold nothing.
func keepBooks[T any](
	t *testing.T, kind batchertest.Kind[T], set batcher.Settings, respond func(ctx context.Context, tenant string, data T) error,
) *books[T] {
	t.Helper()
	r := openBooks(t, kind, set, respond)
	t.Cleanup(func() {
		_ = r.Shutdown(context.Background()) // a test that cares has asked for it
		s := r.Stats()
		checkIdentity(t, s)
		require.Zero(t, s.Held, "%+v", s)
		require.Zero(t, r.Partitions())
	})
	return r
}

// next is the next consumer.
func (r *books[T]) next(ctx context.Context, data T) (err error) {
	items, tenant := r.kind.Items(data), nameIn(ctx)
	r.mu.Lock()
	r.calls[tenant]++
	r.inside++
	r.most = max(r.most, r.inside)
	r.mu.Unlock()
	if r.respond != nil {
		err = r.respond(ctx, tenant, data)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inside--
	if r.calls[tenant]--; r.calls[tenant] == 0 {
		delete(r.calls, tenant)
	}
	if err == nil {
		r.arrived[tenant] += items
		r.last = time.Now()
	}
	return err
}

// send consumes a request of that many items and books it if it is accepted.
func (r *books[T]) send(name string, items int) error { return r.sendData(name, plain[T](items)) }

func (r *books[T]) sendData(name string, data T) error {
	items := r.kind.Items(data)
	err := r.Consume(tenant(name), data)
	if err == nil {
		r.mu.Lock()
		r.accepted[name] += items
		r.mu.Unlock()
	}
	return err
}

// of returns how many items of a tenant have arrived.
func (r *books[T]) of(name string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.arrived[name]
}

// underWay returns the export calls that have not returned, by tenant.
func (r *books[T]) underWay() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.calls)
}

// balance checks that what was accepted from each tenant has arrived under its name.
func (r *books[T]) balance(t *testing.T) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	require.NotEmpty(t, r.accepted)
	for name, n := range r.accepted {
		if r.arrived[name] != n { // require.Equal would be called ten thousand times
			require.Equal(t, n, r.arrived[name], "tenant %q", name)
		}
	}
	require.Len(t, r.arrived, len(r.accepted))
}

// nameIn returns whose batch an export is.
func nameIn(ctx context.Context) string {
	if v := client.FromContext(ctx).Metadata.Get("tenant"); len(v) == 1 {
		return v[0]
	}
	return ""
}

// plain makes a request of items that are good for nothing but to be counted, some twenty
// times as fast as Kind.Make.
func plain[T any](items int) T {
	data := new(T)
	switch d := any(data).(type) {
	case *ptrace.Traces:
		*d = ptrace.NewTraces()
		spans := d.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty().Spans()
		spans.EnsureCapacity(items)
		for range items {
			spans.AppendEmpty()
		}
	case *plog.Logs:
		*d = plog.NewLogs()
		records := d.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords()
		records.EnsureCapacity(items)
		for range items {
			records.AppendEmpty()
		}
	case *pmetric.Metrics:
		*d = pmetric.NewMetrics()
		points := d.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics().AppendEmpty().SetEmptyGauge().DataPoints()
		points.EnsureCapacity(items)
		for range items {
			points.AppendEmpty()
		}
	case **batcher.ProfilesData:
		pd := pprofile.NewProfiles()
		all := pd.ResourceProfiles().AppendEmpty().ScopeProfiles().AppendEmpty().Profiles()
		for range items { // which stay together in one
			all.AppendEmpty().Samples().AppendEmpty()
		}
		*d = batcher.NewProfilesData(pd)
	default:
		panic(fmt.Sprintf("no plain %T", *data))
	}
	return *data
}
