package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/boundedbatch/boundedbatchprocessor/e2e/internal/harness"
)

// example is how a file in examples/ is tried: that what it says of itself is true.
type example struct {
	gates []string // that it says are needed
	// alone is for what is measured in time: nothing else runs meanwhile.
	alone bool
	try   func(t *testing.T, path string)
}

// tried are all of them, by their names.
var tried = map[string]example{
	"drop-in.yaml":         {try: tryDropIn},
	"grpc-4mib.yaml":       {try: tryFourMebibytes},
	"low-latency.yaml":     {try: tryLowLatency, alone: true},
	"multi-tenant.yaml":    {try: tryTenantsOfHeaders},
	"no-loss.yaml":         {try: tryNoLoss},
	"ordered-metrics.yaml": {try: tryOrderedMetrics},
	"profiles.yaml":        {try: tryProfiles, gates: []string{harness.ProfilesGate}},
	"quickstart.yaml":      {try: tryQuickstart},
	"short-hops.yaml":      {try: tryShortHops},
	"small-memory.yaml":    {try: trySmallMemory, alone: true},

	"multi-tenant-resources.yaml": {try: tryTenantsOfResources},
}

// Every example is valid, starts, takes items over every protocol that it has, hands them on, and stops; and does what it
// is for.
func TestExamplesWork(t *testing.T) {
	paths, err := filepath.Glob("../examples/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	for name := range tried {
		assert.Contains(t, paths, "../examples/"+name)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			this, is := tried[filepath.Base(path)]
			require.True(t, is, "nothing tries this example")
			if !this.alone {
				t.Parallel()
			}
			for _, gate := range this.gates {
				assert.Contains(t, readExample(t, path), "--feature-gates "+gate, "how to start it")
			}
			assert.Contains(t, readExample(t, "../examples/README.md"), "("+filepath.Base(path)+")", "the table of examples")
			status, output := harness.ValidateFile(t, path, this.gates...)
			require.Zero(t, status, output)
			this.try(t, path)
		})
	}
}

func readExample(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(text)
}

// startExample starts a collector on a file with a backend behind it.
func startExample(t *testing.T, path string, environment ...string) (*harness.Collector, *harness.Backend) {
	t.Helper()
	backend := harness.NewBackend(t)
	return startBefore(t, path, backend, environment...), backend
}

// startBefore is startExample for a backend that is there.
func startBefore(t *testing.T, path string, backend *harness.Backend, environment ...string) *harness.Collector {
	t.Helper()
	return harness.StartFile(t, path, append(environment, "OTLP_BACKEND="+backend.GRPCAddress())...)
}

// delivered are the items that deliver sends of a signal.
var delivered = harness.Range{Items: 200}

// deliver sends items of these signals over both protocols; all arrive.
func deliver(t *testing.T, col *harness.Collector, backend *harness.Backend, signals ...harness.Signal) {
	t.Helper()
	for _, signal := range signals {
		var journal harness.Journal
		for _, client := range col.Clients(t, nil) {
			sendSome(t.Context(), t, client, signal, &journal, 1, delivered.Items/2)
		}
		arrive(t, backend, signal, &journal)
	}
}

// journalAfterDeliver is for what is sent after deliver.
func journalAfterDeliver() *harness.Journal {
	journal := harness.NewJournal(delivered.First + uint64(delivered.Items))
	journal.Note(delivered, harness.Acknowledged)
	return journal
}

// arrive waits until everything in the journal has arrived, also through the queue of an exporter.
func arrive(t *testing.T, backend *harness.Backend, signal harness.Signal, journal *harness.Journal) {
	t.Helper()
	ledger := backend.Ledger(signal)
	ledger.Await(t, signal.Name()+" to arrive", func(l *harness.Ledger) bool {
		taken, _ := l.Taken()
		return taken >= journal.Items(harness.Acknowledged)
	})
	require.NoError(t, ledger.Check(journal.Sent()))
}

func tryQuickstart(t *testing.T, path string) {
	col := harness.StartFile(t, path)
	for _, signal := range harness.StableSignals() {
		var journal harness.Journal
		for _, client := range col.Clients(t, nil) {
			sendSome(t.Context(), t, client, signal, &journal, 1, 100)
		}
		col.AwaitItems(t, int64(journal.Taken()), signal, "delivered_items")
	}
	col.Stop(t)
}

// comment is one of YAML, in a line of its own or behind something.
var comment = regexp.MustCompile(`(?m)(^| )#.*$`)

// With the one word put back it is a configuration of batch, which delivers the same.
func tryDropIn(t *testing.T, path string) {
	col, backend := startExample(t, path)
	deliver(t, col, backend, harness.StableSignals()...)
	s, err := col.Scrape(t.Context())
	require.NoError(t, err)
	for _, signal := range harness.StableSignals() {
		require.EqualValues(t, delivered.Items, s.Sum(signal, "delivered_items"), "it is boundedbatch that has batched")
	}
	col.Stop(t)

	before := strings.ReplaceAll(comment.ReplaceAllString(readExample(t, path), ""), "boundedbatch", "batch")
	require.NotContains(t, before, "bounded")
	old := filepath.Join(t.TempDir(), "batch.yaml")
	require.NoError(t, os.WriteFile(old, []byte(before), 0o600))
	status, output := harness.ValidateFile(t, old)
	require.Zero(t, status, output)
	col, backend = startExample(t, old)
	deliver(t, col, backend, harness.StableSignals()...)
	col.Stop(t)
}

// A backend as grpc-go makes it takes every batch, also of a request that is larger than it would take.
func tryFourMebibytes(t *testing.T, path string) {
	backend := harness.NewLimitedBackend(t)
	col := startBefore(t, path, backend)
	deliver(t, col, backend, harness.StableSignals()...)
	for _, signal := range harness.StableSignals() {
		journal := harness.NewJournal(harness.Bulky)
		ids := journal.Take(100)
		require.Greater(t, signal.EncodedSize(ids), 3*harness.MessageLimit/2)
		require.NoError(t, send(t.Context(), col.HTTP(t, nil), signal, ids)) // which takes 20 MiB by default
		journal.Note(ids, harness.Acknowledged)
		journal.Note(delivered, harness.Acknowledged)
		arrive(t, backend, signal, journal)
		assert.LessOrEqual(t, backend.Ledger(signal).LargestMessage(), harness.MessageLimit)
	}
	assert.Zero(t, backend.TooLarge())
	col.Stop(t)
}

// Those who look at the backend have their items soon. A machine that is busy with something else makes all of it late for a
// while, so that one round of several has to be in time; with the default timeout none would be.
func tryLowLatency(t *testing.T, path string) {
	const (
		most   = 100 * time.Millisecond // ten times what the example promises, and half of the default timeout
		rounds = 10
	)
	col, backend := startExample(t, path)
	for _, signal := range harness.StableSignals() {
		var journal harness.Journal
		took := most
		for round := 0; round < rounds && took >= most; round++ {
			took = latency(t, col, backend, signal, &journal)
			t.Logf("%s: 99 %% of the items are at the backend within %v", signal.Name(), took)
		}
		assert.Less(t, took, most, "99 % of the items of "+signal.Name())
		s, err := col.Scrape(t.Context())
		require.NoError(t, err)
		batches := s.Sum(signal, "batch_age")
		assert.Greater(t, s.AtMost(signal, "batch_age", most.Seconds()), batches/2, "of %d batches, by the metric", batches)
	}
	col.Stop(t)
}

// latency has clients of both protocols send items at a steady pace, and returns how long 99 % of them took at most from there
// to the backend.
func latency(t *testing.T, col *harness.Collector, backend *harness.Backend, signal harness.Signal, journal *harness.Journal) time.Duration {
	t.Helper()
	const (
		requests = 100 // of each client
		every    = 5 * time.Millisecond
	)
	var mu sync.Mutex // guards sent
	sent := make(map[uint64]time.Time)
	var sending sync.WaitGroup
	for _, client := range col.Clients(t, nil) {
		sending.Go(func() {
			ticks := time.NewTicker(every)
			defer ticks.Stop()
			for range requests {
				ids := journal.Take(1)
				mu.Lock()
				sent[ids.First] = time.Now()
				mu.Unlock()
				if err := send(t.Context(), client, signal, ids); err != nil {
					t.Error(err)
					return
				}
				journal.Note(ids, harness.Acknowledged)
				<-ticks.C
			}
		})
	}
	sending.Wait()
	arrive(t, backend, signal, journal)
	var took []time.Duration
	for _, b := range backend.Ledger(signal).Delivered() {
		for _, id := range b.IDs {
			if at, is := sent[id]; is { // in this round
				took = append(took, b.Arrived.Sub(at))
			}
		}
	}
	slices.Sort(took)
	return took[len(took)*99/100]
}

func tryTenantsOfHeaders(t *testing.T, path string) { tryTenants(t, path, organizationOf) }

func tryTenantsOfResources(t *testing.T, path string) { tryTenants(t, path, resourceTenantOf) }

// The backend is told whose each request is.
func tryTenants(t *testing.T, path string, ownerOf func(id uint64) string) {
	t.Helper()
	const items = 2047 // of a request: the resources of all tenants
	col, backend := startExample(t, path)
	for _, signal := range harness.StableSignals() { // which the examples have pipelines of
		orgs := newOrganizations(3)
		for _, org := range orgs {
			for _, client := range col.Clients(t, org.header) {
				sendSome(t.Context(), t, client, signal, org.journal, 1, items)
			}
		}
		col.AwaitItems(t, int64(2*items*len(orgs)), signal, "delivered_items")
		ledger := backend.Ledger(signal)
		require.NoError(t, ledger.Check(allOf(orgs)))
		requireOwned(t, ledger.Delivered(), ownerOf, orgOnly)
	}
	col.Stop(t)
}

// A sender whose items are lost with the process has not been answered, and sends them again.
func tryNoLoss(t *testing.T, path string) {
	const items = 100
	col, backend := startExample(t, path)
	deliver(t, col, backend, harness.StableSignals()...)
	for _, signal := range harness.StableSignals() {
		backend.Hold()
		journal := journalAfterDeliver()
		clients := col.Clients(t, nil)
		var answered atomic.Int64
		var sending sync.WaitGroup
		for _, client := range clients {
			ids := journal.Take(items)
			sending.Go(func() {
				attempts, err := harness.SendPersistently(t.Context(), client, signal, ids)
				answered.Add(1)
				if err != nil {
					t.Error(err)
				}
				journal.NoteAttempts(ids, harness.Acknowledged, attempts)
			})
		}
		// One is on its way; the other waits behind it, or is on its way too.
		col.AwaitItems(t, int64(len(clients)*items), signal, "held_items")
		col.Signal(t, syscall.SIGKILL)
		col.Exit(t)
		require.Zero(t, answered.Load(), "answered before the backend has the items")
		backend.Accept()
		col.Restart(t)
		sending.Wait()
		require.NoError(t, backend.Ledger(signal).Check(journal.Sent()))
	}
	col.Stop(t)
}

// Little is held.
func tryShortHops(t *testing.T, path string) {
	const requests, items = 8, 1024
	col, backend := startExample(t, path)
	deliver(t, col, backend, harness.StableSignals()...)
	backend.Hold()
	journals := make(map[harness.Signal]*harness.Journal)
	for _, signal := range harness.StableSignals() {
		journals[signal] = journalAfterDeliver()
		sendSome(t.Context(), t, col.GRPC(t, nil), signal, journals[signal], requests, items)
		col.AwaitItems(t, requests*items, signal, "held_items")
		col.AwaitItems(t, requests*items, signal, "capacity_items")
	}
	backend.Accept()
	for signal, journal := range journals {
		arrive(t, backend, signal, journal)
	}
	col.Stop(t)
}

func tryProfiles(t *testing.T, path string) {
	backend := harness.NewBackend(t)
	col := harness.StartFileGated(t, path, []string{harness.ProfilesGate}, "OTLP_BACKEND="+backend.GRPCAddress())
	deliver(t, col, backend, harness.Profiles)
	require.Len(t, backend.Ledger(harness.Profiles).Delivered(), 1, "what comes within the timeout travels together")
	col.Stop(t)
}

// Samples of a series arrive in the order in which they were sent, while the backend is slow, or busy now and then; and
// services do not wait for each other.
func tryOrderedMetrics(t *testing.T, path string) {
	const (
		services = 3
		requests = 40
		samples  = 10 // of a request
		every    = 50 * time.Millisecond
	)
	// Whatever comes next would overtake every second request, and what is repeated.
	backend := harness.NewRemoteWrite(t, func(request int) int {
		if request%2 == 0 {
			time.Sleep(3 * 200 * time.Millisecond) // three ticks
		}
		if request%5 == 3 {
			return http.StatusServiceUnavailable
		}
		return 0
	})
	col := harness.StartFile(t, path, "REMOTE_WRITE_URL="+backend.URL())
	cc, err := grpc.NewClient(col.GRPCAddress(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer cc.Close()
	var sending sync.WaitGroup
	for service := range services {
		sending.Go(func() {
			ticks := time.NewTicker(every)
			defer ticks.Stop()
			for request := range requests {
				data := pmetric.NewMetrics()
				rm := data.ResourceMetrics().AppendEmpty()
				rm.Resource().Attributes().PutStr("service.name", fmt.Sprint("service-", service))
				metric := rm.ScopeMetrics().AppendEmpty().Metrics().AppendEmpty()
				metric.SetName("ordered")
				gauge := metric.SetEmptyGauge()
				for sample := range samples {
					n := request*samples + sample
					p := gauge.DataPoints().AppendEmpty()
					p.SetIntValue(int64(n))
					p.SetTimestamp(pcommon.NewTimestampFromTime(time.UnixMilli(int64(1_700_000_000_000 + n))))
				}
				ctx, cancel := context.WithTimeout(t.Context(), sendTimeout)
				_, err := pmetricotlp.NewGRPCClient(cc).Export(ctx, pmetricotlp.NewExportRequestFromMetrics(data))
				cancel()
				if !assert.NoError(t, err) {
					return
				}
				<-ticks.C
			}
		})
	}
	sending.Wait()
	col.AwaitMetrics(t, func(s harness.Scrape) error {
		require.NoError(t, backend.Check())
		if n := s.Sum(harness.Metrics, "delivered_items"); n != services*requests*samples {
			return fmt.Errorf("%d points are delivered", n)
		}
		return nil
	})
	col.Stop(t)
	found := 0
	for labels, taken := range backend.Series() {
		if !strings.Contains(labels, "__name__=ordered") {
			continue
		}
		found++
		values := make(map[float64]bool)
		for _, s := range taken {
			values[s.Value] = true
		}
		assert.Len(t, values, requests*samples, labels)
	}
	assert.Equal(t, services, found, "series")
	assert.Greater(t, backend.MostAtOnce(), 1, "services travel in parallel")
}

// With GOMEMLIMIT=64MiB and a backend that hangs, senders that never stop are refused, retryably, and the process stays small.
// What was acknowledged arrives when the backend is back.
func trySmallMemory(t *testing.T, path string) {
	const (
		held     = 8 << 20 // of each signal
		senders  = 8       // of each signal
		items    = 300
		refusals = 50 // of each sender, until it has enough
		limit    = 64 << 20
	)
	require.Contains(t, readExample(t, path), "GOMEMLIMIT=64MiB", "how to start it")
	col, backend := startExample(t, path, "GOGC=", "GOMEMLIMIT=64MiB")
	deliver(t, col, backend, harness.StableSignals()...)
	idle, err := col.PrivateMemory()
	require.NoError(t, err)

	backend.Hold()
	journals := make(map[harness.Signal]*harness.Journal)
	var sending sync.WaitGroup
	for _, signal := range harness.StableSignals() {
		journal := journalAfterDeliver()
		journals[signal] = journal
		for i := range senders {
			client := col.Clients(t, nil)[i%2]
			sending.Go(func() {
				// Others would stay away for longer when they are refused.
				pause := time.NewTicker(20 * time.Millisecond)
				defer pause.Stop()
				for refused := 0; refused < refusals; {
					ids := journal.Take(items)
					err := send(t.Context(), client, signal, ids)
					if err == nil {
						journal.Note(ids, harness.Acknowledged)
						continue
					}
					journal.Note(ids, harness.Refused)
					if !assert.NoError(t, checkRetryable(err)) {
						return
					}
					refused++
					<-pause.C
				}
			})
		}
	}
	most := 0
	stop := col.Watch(t, func(s harness.Scrape) error {
		bytes, err := col.PrivateMemory()
		most = max(most, bytes)
		for _, signal := range harness.StableSignals() {
			if err := s.Bounds(signal); err != nil {
				return err
			}
		}
		return err
	})
	sending.Wait()
	stop()
	t.Logf("private memory: %.1f MiB at rest, at most %.1f MiB under overload", mebibytes(idle), mebibytes(most))
	assert.LessOrEqual(t, most, limit*5/4)
	s, err := col.Scrape(t.Context())
	require.NoError(t, err)
	for _, signal := range harness.StableSignals() {
		assert.EqualValues(t, held, s.Sum(signal, "capacity_bytes"), signal.Name())
		assert.Greater(t, s.Sum(signal, "held_bytes"), int64(held*9/10), "of "+signal.Name()+": it is full")
		assert.Positive(t, s.Sum(signal, "refused_items", "cause", "overflow"), signal.Name())
	}

	backend.Accept()
	for signal, journal := range journals {
		t.Logf("%s: %d items acknowledged, %d refused", signal.Name(), journal.Items(harness.Acknowledged), journal.Items(harness.Refused))
		arrive(t, backend, signal, journal)
	}
	col.Stop(t)
}
