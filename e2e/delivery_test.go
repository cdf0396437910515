package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/boundedbatch/boundedbatchprocessor/e2e/internal/harness"
)

// largestRequest is the most items that the tests put into a request.
const largestRequest = 5000

// poolingGate is the feature gate with which the Collector reuses the memory of pdata.
const poolingGate = "pdata.useProtoPooling"

// sendTimeout ends a request that has got stuck. No test waits for it to end.
const sendTimeout = 2 * time.Minute

func TestEveryItemArrivesExactlyOnceUnaltered(t *testing.T) {
	const contended = "{send_batch_size: 1500, send_batch_max_size: 1777, queue_size: 6000, max_concurrent_exports: 3}"
	for _, tt := range []struct {
		name, processor  string
		gates            []string
		environment      []string
		itemsPerProtocol int
		maxSize          int // 0: no limit
		exports          int
	}{
		{name: "defaults", processor: "{}", exports: 10, itemsPerProtocol: 100_000},
		// 1777 is prime: requests have to be cut. The queue is smaller than what the
		// clients have under way: they have to wait for it.
		{name: "limited", processor: contended, maxSize: 1777, exports: 3, itemsPerProtocol: 100_000},
		{name: "waiting", processor: "{wait_for_result: true}", exports: 10, itemsPerProtocol: 50_000},
		{
			name:      "waiting limited",
			processor: "{wait_for_result: true, send_batch_size: 1500, send_batch_max_size: 1777, queue_size: 6000}",
			maxSize:   1777, exports: 10, itemsPerProtocol: 50_000,
		},
		// The Collector reuses the memory of what it has handed on.
		{name: "pooled", processor: "{}", gates: []string{poolingGate}, exports: 10, itemsPerProtocol: 50_000},
		{
			name:      "pooled waiting limited",
			processor: "{wait_for_result: true, send_batch_size: 1500, send_batch_max_size: 1777, queue_size: 6000}",
			gates:     []string{poolingGate}, maxSize: 1777, exports: 10, itemsPerProtocol: 50_000,
		},
		// Whatever the number of threads that run Go code, also more than there are cores.
		{name: "GOMAXPROCS=1", processor: contended, environment: []string{"GOMAXPROCS=1"}, maxSize: 1777, exports: 3, itemsPerProtocol: 20_000},
		{name: "GOMAXPROCS=2", processor: contended, environment: []string{"GOMAXPROCS=2"}, maxSize: 1777, exports: 3, itemsPerProtocol: 20_000},
		{name: "GOMAXPROCS=8", processor: contended, environment: []string{"GOMAXPROCS=8"}, maxSize: 1777, exports: 3, itemsPerProtocol: 20_000},
	} {
		all := int64(2 * tt.itemsPerProtocol)
		for _, signal := range harness.Signals() {
			t.Run(tt.name+"/"+signal.Name(), func(t *testing.T) {
				backend := harness.NewBackend(t)
				col := harness.Start(t, harness.Config{Backend: backend, Processor: tt.processor, FeatureGates: tt.gates, Environment: tt.environment})
				stop := col.Watch(t, func(s harness.Scrape) error { return s.Bounds(signal) })

				var journal harness.Journal
				rng := rand.New(rand.NewPCG(1, uint64(len(signal.Name()))))
				var sending sync.WaitGroup
				for _, newClient := range []func(testing.TB, harness.Header) harness.Client{col.GRPC, col.HTTP} {
					requests := make(chan harness.Range)
					sizes := harness.Sizes(rng, tt.itemsPerProtocol, largestRequest)
					sending.Go(func() {
						defer close(requests)
						for _, n := range sizes {
							requests <- journal.Take(n)
						}
					})
					for range 3 {
						client := newClient(t, nil)
						sending.Go(func() { sendAll(t, client, signal, requests, &journal) })
					}
				}
				sending.Wait()
				col.AwaitItems(t, all, signal, "delivered_items")
				t.Logf("%d scrapes while the clients sent %d requests", stop(), len(journal.Sent()))

				ledger := backend.Ledger(signal)
				require.NoError(t, ledger.Check(journal.Sent()))
				assert.LessOrEqual(t, ledger.MostAtOnce(), tt.exports)
				if tt.maxSize > 0 {
					assert.LessOrEqual(t, ledger.Largest(), tt.maxSize)
					assert.Greater(t, ledger.Largest(), tt.maxSize-signal.Inseparable(), "requests are larger: they fill batches to the limit")
				}
				delivered := ledger.Delivered()
				for _, b := range delivered {
					require.NotEmpty(t, b.IDs, "a batch without items")
				}

				s, err := col.Scrape(t.Context())
				require.NoError(t, err)
				assert.Equal(t, all, s.Sum(signal, "accepted_items"))
				assert.Equal(t, all, s.Sum(signal, "delivered_items"))
				for _, none := range []string{
					"refused_items", "failed_items", "dropped_items", "held_items", "exports_in_flight", "waiting_callers",
				} {
					assert.Zero(t, s.Sum(signal, none), none)
				}
				assert.EqualValues(t, len(delivered), s.Sum(signal, "batches"))
				assert.EqualValues(t, len(delivered), s.Sum(signal, "batch_items"))
				assert.InDelta(t, all, s.Total(signal, "batch_items"), 0)
				col.Stop(t)
			})
		}
	}
}

// sendAll sends requests until there are no more. All of them must be acknowledged.
func sendAll(
	t *testing.T, client harness.Client, signal harness.Signal, requests <-chan harness.Range, journal *harness.Journal,
) {
	t.Helper()
	for ids := range requests {
		if err := send(t.Context(), client, signal, ids); err != nil {
			t.Errorf("%s request with items %v: %v", client.Protocol(), ids, err)
			journal.Note(ids, harness.Unknown)
			continue
		}
		journal.Note(ids, harness.Acknowledged)
	}
}

func send(ctx context.Context, client harness.Client, signal harness.Signal, ids harness.Range) error {
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	return client.Send(ctx, signal, ids)
}

func TestEmptyRequestIsAcknowledgedAndMakesNoBatch(t *testing.T) {
	backend := harness.NewBackend(t)
	col := harness.Start(t, harness.Config{Backend: backend, Processor: "{timeout: 0s}"})
	for _, signal := range harness.Signals() {
		for _, client := range col.Clients(t, nil) {
			require.NoError(t, send(t.Context(), client, signal, harness.Range{}), "%s over %s", signal.Name(), client.Protocol())
		}
	}
	s, err := col.Scrape(t.Context())
	require.NoError(t, err)
	for _, signal := range harness.Signals() {
		assert.Zero(t, s.Sum(signal, "accepted_items"))
		assert.Zero(t, s.Sum(signal, "batches"))
	}
	col.Stop(t)
	for _, signal := range harness.Signals() {
		assert.Empty(t, backend.Ledger(signal).Delivered())
	}
}

// A request that is larger than the whole queue goes through it piece by piece.
func TestRequestLargerThanTheQueuePassesInPieces(t *testing.T) {
	backend := harness.NewBackend(t)
	col := harness.Start(t, harness.Config{
		Backend: backend, Processor: "{send_batch_size: 70, send_batch_max_size: 100, queue_size: 300}",
	})
	for _, signal := range harness.Signals() {
		t.Run(signal.Name(), func(t *testing.T) {
			stop := col.Watch(t, func(s harness.Scrape) error { return s.Bounds(signal) })
			var journal harness.Journal
			for _, client := range col.Clients(t, nil) {
				ids := journal.Take(largestRequest)
				require.NoError(t, send(t.Context(), client, signal, ids), client.Protocol())
				journal.Note(ids, harness.Acknowledged)
			}
			col.AwaitItems(t, 2*largestRequest, signal, "delivered_items")
			stop()
			require.NoError(t, backend.Ledger(signal).Check(journal.Sent()))
			assert.LessOrEqual(t, backend.Ledger(signal).Largest(), 100)
		})
	}
	col.Stop(t)
}

func TestFailedItemsAreCountedByCause(t *testing.T) {
	const items = 50
	for _, tt := range []struct {
		cause     string
		processor string
		answer    func(*harness.Backend)
	}{
		{"permanent", "{send_batch_size: 50}", func(b *harness.Backend) { b.Refuse(permanent) }},
		{"retryable", "{send_batch_size: 50}", func(b *harness.Backend) { b.Refuse(retryable) }},
		{"timeout", "{send_batch_size: 50, export_timeout: 100ms}", (*harness.Backend).Hold},
	} {
		t.Run(tt.cause, func(t *testing.T) {
			backend := harness.NewBackend(t)
			tt.answer(backend)
			col := harness.Start(t, harness.Config{Backend: backend, Processor: tt.processor})
			client := col.GRPC(t, nil)
			for _, signal := range harness.Signals() {
				require.NoError(t, send(t.Context(), client, signal, harness.Range{Items: items}))
			}
			for _, signal := range harness.Signals() {
				col.AwaitItems(t, items, signal, "failed_items", "cause", tt.cause)
			}
			s, err := col.Scrape(t.Context())
			require.NoError(t, err)
			backend.Accept()
			for _, signal := range harness.Signals() {
				assert.EqualValues(t, items, s.Sum(signal, "failed_items"), "whatever the cause")
				assert.Zero(t, s.Sum(signal, "held_items"))
				require.NoError(t, send(t.Context(), client, signal, harness.Range{First: 1000, Items: items}))
				col.AwaitItems(t, items, signal, "delivered_items")
				require.NoError(t, backend.Ledger(signal).Check([]harness.Sent{
					{IDs: harness.Range{Items: items}, Outcome: harness.Refused},
					{IDs: harness.Range{First: 1000, Items: items}, Outcome: harness.Acknowledged},
				}))
			}
			col.Stop(t)
		})
	}
}

// The exporter repeats what the backend refuses for now; the processor holds the items
// for as long as that takes.
func TestItemsAreHeldWhileTheExporterRetries(t *testing.T) {
	backend := harness.NewBackend(t)
	backend.Refuse(retryable)
	col := harness.Start(t, harness.Config{
		Backend: backend, Processor: "{send_batch_size: 100, send_batch_max_size: 100}",
		Retry: "{enabled: true, initial_interval: 10ms, max_interval: 10ms, max_elapsed_time: 0s}",
	})
	var journal harness.Journal
	for _, signal := range harness.Signals() {
		for _, client := range col.Clients(t, nil) {
			ids := journal.Take(250)
			require.NoError(t, send(t.Context(), client, signal, ids))
			journal.Note(ids, harness.Acknowledged)
		}
		ledger := backend.Ledger(signal)
		ledger.Await(t, fmt.Sprintf("retries of %s", signal.Name()), func(l *harness.Ledger) bool { return len(l.Refused()) >= 12 })
		col.AwaitItems(t, 500, signal, "held_items")
		backend.Accept()
		col.AwaitItems(t, 500, signal, "delivered_items")
		require.NoError(t, ledger.Check(journal.Sent()))
		backend.Refuse(retryable)
		journal = harness.Journal{}
	}
	col.Stop(t)
}
