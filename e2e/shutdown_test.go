package e2e

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/boundedbatch/boundedbatchprocessor/e2e/internal/harness"
)

// shutdownLine is what the collector logs when it begins to stop, receivers first.
const shutdownLine = "Starting shutdown"

func TestTerminationUnderLoadLosesNothingAcknowledged(t *testing.T) {
	for seed, tt := range []struct {
		after   int  // acknowledged requests, of all signals
		held    bool // instead: when the backend has stalled and every client is blocked
		waiting bool // wait_for_result
	}{
		{after: 1},
		{after: 20},
		{after: 150},
		{after: 400},
		{held: true},
		{held: true},
		{after: 1, waiting: true},
		{after: 20, waiting: true},
		{after: 150, waiting: true},
	} {
		name := fmt.Sprintf("after=%d/waiting=%t", tt.after, tt.waiting)
		if tt.held {
			name = fmt.Sprintf("stalled/seed=%d", seed)
		}
		t.Run(name, func(t *testing.T) {
			const shutdownTimeout = 20 * time.Second
			backend := harness.NewBackend(t)
			if tt.held {
				backend.Hold()
			}
			col := harness.Start(t, harness.Config{
				Backend: backend,
				Processor: fmt.Sprintf("{send_batch_size: 1000, send_batch_max_size: 1300, queue_size: 20000, "+
					"shutdown_timeout: 20s, wait_for_result: %t}", tt.waiting),
			})

			// Clients of all kinds send until they are refused.
			journals := make(map[harness.Signal]*harness.Journal)
			var sending sync.WaitGroup
			var acknowledged atomic.Int64
			moment, terminated := make(chan struct{}), make(chan struct{})
			for i, signal := range harness.Signals() {
				journal := new(harness.Journal)
				journals[signal] = journal
				for k, client := range append(col.Clients(t, nil), col.Clients(t, nil)...) {
					rng := rand.New(rand.NewPCG(uint64(seed), uint64(10*i+k)))
					sending.Go(func() {
						for {
							ids := journal.Take(harness.Size(rng, largestRequest))
							if err := send(t.Context(), client, signal, ids); err != nil {
								journal.Note(ids, harness.Unknown)
								select {
								case <-terminated:
								default:
									t.Errorf("%s over %s refused before the end: %v", signal.Name(), client.Protocol(), err)
								}
								return
							}
							journal.Note(ids, harness.Acknowledged)
							if acknowledged.Add(1) == int64(tt.after) {
								close(moment)
							}
						}
					})
				}
			}
			if tt.held {
				for _, signal := range harness.Signals() {
					col.AwaitItems(t, 4, signal, "waiting_callers")
				}
			} else {
				<-moment
			}

			close(terminated)
			began := time.Now()
			col.Signal(t, syscall.SIGTERM)
			if tt.held {
				col.AwaitLog(t, shutdownLine)
				backend.Accept()
			}
			assert.Zero(t, col.Exit(t), "exit status")
			assert.Less(t, time.Since(began), shutdownTimeout)
			sending.Wait()
			for _, signal := range harness.Signals() {
				journal, ledger := journals[signal], backend.Ledger(signal)
				require.NoError(t, ledger.Check(journal.Sent()), signal.Name())
				assert.LessOrEqual(t, ledger.Largest(), 1300)
				t.Logf("%s: %d items acknowledged, %d batches", signal.Name(),
					journal.Items(harness.Acknowledged), len(ledger.Delivered()))
			}
		})
	}
}

// Clients that wait for results get an answer before the collector ends, whatever state
// their items are in: in flight, sealed, pending, or waiting for room.
func TestTerminationAnswersEveryWaitingClient(t *testing.T) {
	const callers, items = 5, 60 // callers per protocol
	const admitted = 6           // requests of each signal
	accept := func(_ *testing.T, b *harness.Backend) { b.Accept() }
	refuse := func(_ *testing.T, b *harness.Backend) { b.Refuse(retryable) }
	kill := func(t *testing.T, b *harness.Backend) { b.Kill(t) }
	for _, tt := range []struct {
		name    string
		end     func(*testing.T, *harness.Backend)
		outcome harness.Outcome
		retry   string // retry_on_failure of the processor
	}{
		{"accepted", accept, harness.Acknowledged, "{enabled: false}"},
		{"refused", refuse, harness.Refused, "{enabled: false}"},
		{"killed", kill, harness.Refused, "{enabled: false}"},
		// The receiver, which is the first to stop, waits for its clients; so retries go on
		// until their time is over.
		{"retried", refuse, harness.Refused, "{enabled: true, initial_interval: 20ms, max_interval: 50ms, max_elapsed_time: 500ms}"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			backend := harness.NewBackend(t)
			backend.Hold()
			col := harness.Start(t, harness.Config{
				Backend: backend,
				Processor: "{wait_for_result: true, timeout: 1h, send_batch_size: 100, send_batch_max_size: 100, " +
					"queue_size: 400, max_concurrent_exports: 2, retry_on_failure: " + tt.retry + "}",
			})
			journals := make(map[harness.Signal]*harness.Journal)
			answers := make(map[harness.Signal]<-chan answer)
			for _, signal := range harness.Signals() {
				journals[signal] = new(harness.Journal)
				var clients []harness.Client
				for range callers {
					clients = append(clients, col.Clients(t, nil)...)
				}
				answers[signal] = callAll(t.Context(), clients, signal, journals[signal], items)
				col.AwaitItems(t, admitted*items, signal, "held_items")
				col.AwaitItems(t, 2*callers-admitted, signal, "waiting_callers")
			}

			col.Signal(t, syscall.SIGTERM)
			col.AwaitLog(t, shutdownLine)
			tt.end(t, backend)
			for _, signal := range harness.Signals() {
				for range 2 * callers {
					a := <-answers[signal] // at the latest after sendTimeout
					journals[signal].Note(a.ids, tt.outcome)
					if tt.outcome == harness.Acknowledged {
						require.NoError(t, a.err)
						continue
					}
					require.NoError(t, checkRetryable(a.err))
				}
			}
			assert.Zero(t, col.Exit(t), "exit status")
			for _, signal := range harness.Signals() {
				require.NoError(t, backend.Ledger(signal).Check(journals[signal].Sent()), signal.Name())
			}
		})
	}
}

// What cannot be delivered in time is told, by the exit status and in the log, with
// its number.
func TestShutdownEndsInTimeAndTellsWhatWasNotDelivered(t *testing.T) {
	backend := harness.NewBackend(t)
	backend.Hold()
	col := harness.Start(t, harness.Config{
		Backend: backend, Processor: "{send_batch_size: 100, send_batch_max_size: 100, shutdown_timeout: 1s}",
	})
	sent := map[harness.Signal]int{harness.Traces: 210, harness.Logs: 220, harness.Metrics: 230, harness.Profiles: 240}
	for signal, items := range sent {
		require.NoError(t, send(t.Context(), col.GRPC(t, nil), signal, harness.Range{Items: items}))
		col.AwaitItems(t, int64(items), signal, "held_items")
	}
	began := time.Now()
	col.Signal(t, syscall.SIGTERM)
	assert.NotZero(t, col.Exit(t), "exit status")
	// One processor per signal, one after the other, each a second; the rest is what the
	// collector needs besides.
	assert.Less(t, time.Since(began), time.Duration(len(sent))*time.Second+5*time.Second)
	for signal, items := range sent {
		assert.Contains(t, col.Log(), fmt.Sprintf("%d items were not delivered", items), signal.Name())
		assert.Empty(t, backend.Ledger(signal).Delivered())
	}
}
