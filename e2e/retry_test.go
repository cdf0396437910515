package e2e

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/boundedbatch/boundedbatchprocessor/e2e/internal/harness"
)

// The processor itself repeats what the backend refuses for now, and holds it for as long
// as that takes. The exporter has neither a queue nor retries.
func TestProcessorRetriesUntilTheBackendIsBack(t *testing.T) {
	const requests, items = 8, 60 // per signal and protocol
	const all = 2 * requests * items
	const retry = "retry_on_failure: {enabled: true, initial_interval: 20ms, max_interval: 100ms, max_elapsed_time: 0s}"
	for _, tt := range []struct {
		name      string
		processor string
		dead      bool
	}{
		{name: "dead", dead: true, processor: "{send_batch_size: 70, send_batch_max_size: 100, " + retry + "}"},
		{name: "unavailable", processor: "{send_batch_size: 70, send_batch_max_size: 100, " + retry + "}"},
		{name: "one slot", processor: "{send_batch_size: 70, send_batch_max_size: 100, max_concurrent_exports: 1, " + retry + "}"},
		{name: "waiting", processor: "{wait_for_result: true, " + retry + "}"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			backend := harness.NewBackend(t)
			if tt.dead {
				backend.Kill(t)
			} else {
				backend.Refuse(retryable)
			}
			col := harness.Start(t, harness.Config{Backend: backend, Processor: tt.processor})
			stop := col.Watch(t, boundsOfAll)

			journals := make(map[harness.Signal]*harness.Journal)
			var sending sync.WaitGroup
			for _, signal := range harness.Signals() {
				journal := new(harness.Journal)
				journals[signal] = journal
				for range requests {
					for _, client := range col.Clients(t, nil) {
						ids := journal.Take(items)
						journal.Note(ids, harness.Acknowledged)
						sending.Go(func() {
							assert.NoError(t, send(t.Context(), client, signal, ids), "%s over %s", signal.Name(), client.Protocol())
						})
					}
				}
			}
			for _, signal := range harness.Signals() {
				col.AwaitMetrics(t, func(s harness.Scrape) error {
					retrying, retries := s.Sum(signal, "held_items", "state", "retrying"), s.Sum(signal, "retries")
					if held := s.Sum(signal, "held_items"); held != all || retrying <= 0 || retries < 5 {
						return fmt.Errorf("%s: %d of %d held items wait for a retry after %d retries", signal.Name(), retrying, held, retries)
					}
					return nil
				})
				assert.Empty(t, backend.Ledger(signal).Delivered())
			}

			backend.Accept()
			if tt.dead {
				backend.Restart(t)
			}
			for _, signal := range harness.Signals() {
				col.AwaitItems(t, all, signal, "delivered_items")
			}
			sending.Wait()
			assert.NotZero(t, stop())
			s, err := col.Scrape(t.Context())
			require.NoError(t, err)
			for _, signal := range harness.Signals() {
				for _, none := range []string{"refused_items", "failed_items", "dropped_items", "held_items", "isolation_exports"} {
					assert.Zero(t, s.Sum(signal, none), "%s of %s", none, signal.Name())
				}
				ledger := backend.Ledger(signal)
				require.NoError(t, ledger.Check(journals[signal].Sent()))
				if !tt.dead { // a dead backend counts nothing
					assert.EqualValues(t, len(ledger.Refused()), s.Sum(signal, "retries"))
				}
			}
			col.Stop(t)
		})
	}
}

// A server that asks to be left alone for a while is left alone, however short the
// processor's own interval is.
func TestRetryWaitsForAsLongAsTheServerAsks(t *testing.T) {
	const items = 50
	const delay = 2 * time.Second
	for _, exporter := range []string{"otlp_grpc", "otlp_http"} {
		for _, code := range []codes.Code{codes.ResourceExhausted, codes.Unavailable} {
			t.Run(fmt.Sprintf("%s/%v", exporter, code), func(t *testing.T) {
				t.Parallel()
				backend := harness.NewBackend(t)
				var seen sync.Map // the first item of each batch
				backend.Judge(func(ids []uint64) error {
					if _, again := seen.LoadOrStore(ids[0], true); again {
						return nil
					}
					return harness.Throttled(code, delay)
				})
				col := harness.Start(t, harness.Config{
					Backend: backend, Exporter: exporter,
					Processor: "{send_batch_size: 50, retry_on_failure: {enabled: true, initial_interval: 10ms, max_interval: 20ms}}",
				})
				for i, signal := range harness.Signals() {
					ids := harness.Range{First: uint64(i) * 1000, Items: items} // Judge sees all signals alike
					require.NoError(t, send(t.Context(), col.GRPC(t, nil), signal, ids))
				}
				for _, signal := range harness.Signals() {
					col.AwaitItems(t, items, signal, "delivered_items")
					col.AwaitItems(t, 1, signal, "retries")
					ledger := backend.Ledger(signal)
					require.Len(t, ledger.Refused(), 1)
					require.Len(t, ledger.Delivered(), 1)
					refused, delivered := ledger.Refused()[0], ledger.Delivered()[0]
					assert.Equal(t, refused.IDs, delivered.IDs)
					assert.GreaterOrEqual(t, delivered.Arrived.Sub(refused.Answered), delay, signal.Name())
				}
				col.Stop(t)
			})
		}
	}
}
