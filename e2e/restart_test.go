package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/boundedbatch/boundedbatchprocessor/e2e/internal/harness"
)

// The backend dies and comes back, several times, under load. With wait_for_result and
// clients that repeat what they may repeat, nothing is lost, and nothing arrives twice but
// what a client itself repeated, because the backend died before it had answered.
func TestBackendDiesAndNothingIsLostOrRepeatedByTheProcessor(t *testing.T) {
	const (
		deaths         = 3
		clientsPerKind = 4
		largest        = 50 // items of a request
		batchesPerLife = 60
		refusedItems   = 500 // per death
	)
	for _, tt := range []struct {
		name, processor string
		divided         bool
	}{
		{name: "whole", processor: "{wait_for_result: true}"},
		// Many requests travel in two batches, of which one may be taken and the other not.
		{
			name:      "divided",
			processor: "{wait_for_result: true, send_batch_size: 30, send_batch_max_size: 40, queue_size: 1000}",
			divided:   true,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			backend := harness.NewBackend(t)
			col := harness.Start(t, harness.Config{Backend: backend, Processor: tt.processor})
			stop := col.Watch(t, boundsOfAll)

			ctx, cancel := context.WithCancel(t.Context())
			over := make(chan struct{})
			journals := make(map[harness.Signal]*harness.Journal)
			var sending sync.WaitGroup
			defer sending.Wait()
			defer cancel()
			for i, signal := range harness.Signals() {
				journal := new(harness.Journal)
				journals[signal] = journal
				for k := range clientsPerKind {
					for _, client := range col.Clients(t, nil) {
						rng := rand.New(rand.NewPCG(uint64(i), uint64(k)))
						sending.Go(func() { sendPersistently(ctx, t, client, signal, rng, largest, journal, over) })
					}
				}
			}

			for death := range deaths {
				awaitBatches(t, backend, harness.Signals(), batchesPerLife)
				if death%2 == 1 { // for certain in the midst of exports
					backend.Hold()
					for _, signal := range harness.Signals() {
						backend.Ledger(signal).Await(t, "an export", func(l *harness.Ledger) bool { return l.Waiting() > 0 })
					}
				}
				s, err := col.Scrape(t.Context())
				require.NoError(t, err)
				backend.Kill(t)
				for _, signal := range harness.Signals() {
					before := s.Sum(signal, "failed_items", "cause", "retryable")
					col.AwaitMetrics(t, func(s harness.Scrape) error {
						if got := s.Sum(signal, "failed_items", "cause", "retryable"); got < before+refusedItems {
							return fmt.Errorf("%d %s failed", got-before, signal.Name())
						}
						return nil
					})
				}
				backend.Accept()
				backend.Restart(t)
			}
			awaitBatches(t, backend, harness.Signals(), batchesPerLife)
			close(over)
			sending.Wait()
			assert.NotZero(t, stop())
			col.Stop(t)

			for _, signal := range harness.Signals() {
				sent, ledger := journals[signal].Sent(), backend.Ledger(signal)
				repeated := 0
				for _, s := range sent {
					if s.Attempts > 1 {
						repeated++
					}
				}
				t.Logf("%s: %d requests, %d of them repeated, %d batches", signal.Name(), len(sent), repeated, len(ledger.Delivered()))
				assert.NotZero(t, repeated)
				require.NoError(t, ledger.Check(sent), signal.Name())
				if !tt.divided {
					require.NoError(t, ledger.CheckLives(), signal.Name())
				}
			}
		})
	}
}

// sendPersistently sends requests until it is over, and repeats each until it is
// acknowledged.
func sendPersistently(
	ctx context.Context, t *testing.T, client harness.Client, signal harness.Signal, rng *rand.Rand, largest int,
	journal *harness.Journal, over <-chan struct{},
) {
	t.Helper()
	for {
		select {
		case <-over:
			return
		default:
		}
		ids := journal.Take(harness.Size(rng, largest))
		attempts, err := harness.SendPersistently(ctx, client, signal, ids)
		if err != nil {
			t.Errorf("%s request with items %v, attempt %d: %v", client.Protocol(), ids, attempts, err)
			journal.NoteAttempts(ids, harness.Unknown, attempts)
			return
		}
		journal.NoteAttempts(ids, harness.Acknowledged, attempts)
	}
}

// awaitBatches waits until the backend has taken that many batches more of each of the signals.
func awaitBatches(t *testing.T, backend *harness.Backend, signals []harness.Signal, more int) {
	t.Helper()
	for _, signal := range signals {
		ledger := backend.Ledger(signal)
		want := len(ledger.Delivered()) + more
		ledger.Await(t, fmt.Sprintf("%d batches of %s", more, signal.Name()), func(l *harness.Ledger) bool {
			return len(l.Delivered()) >= want
		})
	}
}

// boundsOfAll is Scrape.Bounds of every signal.
func boundsOfAll(s harness.Scrape) error {
	for _, signal := range harness.Signals() {
		if err := s.Bounds(signal); err != nil {
			return err
		}
	}
	return nil
}
