package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/boundedbatch/boundedbatchprocessor/e2e/internal/harness"
)

// maxRequestMiB is what collectors take here over gRPC: every request of these tests.
const maxRequestMiB = 64

// onlyBytesSeal are settings of the processor with which nothing seals a batch but its size
// in bytes, and the end of the collector. The limit is exactly that of the backend: one byte
// more in a batch and it is refused.
var onlyBytesSeal = fmt.Sprintf(
	"timeout: 1h, send_batch_size: 1000000, queue_size: 1000000, send_batch_max_bytes: %d", harness.MessageLimit)

// bulkyTraffic returns requests of bulky items, the same each time: about 200 MiB of items
// between 10 bytes and 1 MiB, up to 100 in a request. Some requests are alone larger than a batch.
func bulkyTraffic(journal *harness.Journal, signal harness.Signal) (requests []harness.Range) {
	rng := rand.New(rand.NewPCG(2, uint64(len(signal.Name()))))
	for _, n := range harness.Sizes(rng, 2400, 100) {
		requests = append(requests, journal.Take(n))
	}
	return requests
}

// sendByFour has four clients send requests over gRPC. All of them must be acknowledged.
func sendByFour(
	t *testing.T, col *harness.Collector, signal harness.Signal, requests []harness.Range, journal *harness.Journal,
) {
	t.Helper()
	next := make(chan harness.Range, len(requests))
	for _, ids := range requests {
		next <- ids
	}
	close(next)
	var sending sync.WaitGroup
	for range 4 {
		client := col.GRPC(t, nil)
		sending.Go(func() { sendAll(t, client, signal, next, journal) })
	}
	sending.Wait()
}

// awaitSealed waits until all that is held is pending, and all else is delivered.
func awaitSealed(t *testing.T, col *harness.Collector, signal harness.Signal) {
	t.Helper()
	col.AwaitMetrics(t, func(s harness.Scrape) error {
		if err := s.Bounds(signal); err != nil {
			t.Fatal(err)
		}
		held, pending := s.Sum(signal, "held_items"), s.Sum(signal, "held_items", "state", "pending")
		if held != pending {
			return fmt.Errorf("%d items are held, of which %d are pending", held, pending)
		}
		return nil
	})
}

// A backend with the limit that gRPC servers have takes every batch, with nothing to spare
// between send_batch_max_bytes and that limit, and batches are full.
func TestNoBatchExceedsWhatAServerTakes(t *testing.T) {
	// What an item of 1 MiB needs around its text, and in a batch of its own around itself.
	const largestItem = 1<<20 + 2048
	for _, signal := range harness.Signals() {
		t.Run(signal.Name(), func(t *testing.T) {
			backend := harness.NewLimitedBackend(t)
			col := harness.Start(t, harness.Config{
				Backend: backend, Processor: "{" + onlyBytesSeal + "}", MaxRequestMiB: maxRequestMiB,
			})
			stop := col.Watch(t, func(s harness.Scrape) error { return s.Bounds(signal) })
			journal := harness.NewJournal(harness.Bulky)
			sendByFour(t, col, signal, bulkyTraffic(journal, signal), journal)
			awaitSealed(t, col, signal)
			stop()

			ledger := backend.Ledger(signal)
			sealed := ledger.Delivered()
			full := 0 // at least nine tenths
			for _, b := range sealed {
				require.LessOrEqual(t, b.Bytes, harness.MessageLimit)
				require.Greater(t, b.Bytes, harness.MessageLimit-largestItem, "another item would have fitted")
				if b.Bytes >= harness.MessageLimit*9/10 {
					full++
				}
			}
			require.Greater(t, len(sealed), 40)
			// Which item follows which is a matter of chance among four clients. About a fourth of
			// the batches meets one that is larger than the last tenth.
			assert.Greater(t, full, len(sealed)/2, "of %d batches", len(sealed))
			t.Logf("%d of %d batches are at least nine tenths full, the largest has %d bytes", full, len(sealed), ledger.LargestMessage())

			s, err := col.Scrape(t.Context())
			require.NoError(t, err)
			assert.EqualValues(t, len(sealed), s.Sum(signal, "batches", "trigger", "size"))
			assert.EqualValues(t, len(sealed), s.Sum(signal, "batches"), "whatever the trigger")
			for _, none := range []string{"refused_items", "failed_items", "dropped_items", "exports_in_flight", "waiting_callers"} {
				assert.Zero(t, s.Sum(signal, none), none)
			}
			col.Stop(t)
			require.NoError(t, ledger.Check(journal.Sent()))
			assert.Zero(t, backend.TooLarge())
			assert.LessOrEqual(t, ledger.LargestMessage(), harness.MessageLimit)
			assert.Len(t, ledger.Delivered(), len(sealed)+1, "with what was pending")
		})
	}
}

// A request that is much larger than a batch is cut so that not one item more would fit.
func TestPiecesOfALargeRequestAreFull(t *testing.T) {
	const (
		items       = 80_000
		largestItem = 1024 // with its resource, scope and metric
	)
	for _, signal := range harness.Signals() {
		t.Run(signal.Name(), func(t *testing.T) {
			largestPiece := signal.Inseparable() * largestItem
			backend := harness.NewLimitedBackend(t)
			col := harness.Start(t, harness.Config{
				Backend: backend, Processor: "{" + onlyBytesSeal + "}", MaxRequestMiB: maxRequestMiB,
			})
			var journal harness.Journal
			ids := journal.Take(items)
			require.NoError(t, send(t.Context(), col.GRPC(t, nil), signal, ids))
			journal.Note(ids, harness.Acknowledged)
			awaitSealed(t, col, signal)
			sealed := backend.Ledger(signal).Delivered()
			require.GreaterOrEqual(t, len(sealed), 2)
			for _, b := range sealed {
				assert.LessOrEqual(t, b.Bytes, harness.MessageLimit)
				assert.Greater(t, b.Bytes, harness.MessageLimit-largestPiece)
			}
			t.Logf("%d pieces, the largest has %d bytes", len(sealed), backend.Ledger(signal).LargestMessage())
			col.Stop(t)
			require.NoError(t, backend.Ledger(signal).Check(journal.Sent()))
			assert.Zero(t, backend.TooLarge())
		})
	}
}

// The same traffic without send_batch_max_bytes loses what is in batches that are too large.
// It shows that the backend does refuse them.
func TestWithoutALimitInBytesTheServerRefusesBatches(t *testing.T) {
	for _, signal := range harness.Signals() {
		t.Run(signal.Name(), func(t *testing.T) {
			backend := harness.NewLimitedBackend(t)
			col := harness.Start(t, harness.Config{
				Backend:       backend,
				Processor:     "{timeout: 100ms, send_batch_size: 1000000, queue_size: 1000000, send_batch_max_bytes: 0}",
				MaxRequestMiB: maxRequestMiB,
			})
			journal := harness.NewJournal(harness.Bulky)
			sendByFour(t, col, signal, bulkyTraffic(journal, signal), journal)
			col.AwaitItems(t, 0, signal, "held_items")
			s, err := col.Scrape(t.Context())
			require.NoError(t, err)
			assert.Positive(t, s.Sum(signal, "failed_items", "cause", "permanent"))
			assert.Positive(t, backend.TooLarge())
			t.Logf("%d of %d items failed, the backend refused %d messages",
				s.Sum(signal, "failed_items"), journal.Taken(), backend.TooLarge())
			require.Error(t, backend.Ledger(signal).Check(journal.Sent()), "items were acknowledged and are lost")
			col.Stop(t)
		})
	}
}

// An item that no batch can take is lost alone, and its sender is told.
func TestItemThatExceedsABatchIsRefusedForGoodAlone(t *testing.T) {
	const neighbours = 20 // on each side
	giant := harness.Range{First: harness.Giant, Items: 1}
	before := harness.Range{First: harness.Giant - neighbours, Items: neighbours}
	after := harness.Range{First: harness.Giant + 1, Items: neighbours}
	request := harness.Range{First: before.First, Items: 2*neighbours + 1}
	for _, wait := range []bool{false, true} {
		for _, signal := range harness.StableSignals() { // a profile that exceeds a batch travels alone
			t.Run(fmt.Sprintf("wait_for_result=%v/%s", wait, signal.Name()), func(t *testing.T) {
				backend := harness.NewLimitedBackend(t)
				col := harness.Start(t, harness.Config{
					Backend:       backend,
					Processor:     fmt.Sprintf("{send_batch_max_bytes: %d, wait_for_result: %v}", harness.MessageLimit, wait),
					MaxRequestMiB: maxRequestMiB,
				})
				var err error
				if wait {
					err = send(t.Context(), col.HTTP(t, nil), signal, request)
					var answer *harness.HTTPError
					require.ErrorAs(t, err, &answer)
					assert.Equal(t, http.StatusBadRequest, answer.StatusCode)
				} else {
					err = send(t.Context(), col.GRPC(t, nil), signal, request)
					assert.Equal(t, codes.InvalidArgument, status.Code(err))
				}
				requireNotRetryable(t, err)
				t.Log(err)
				require.ErrorContains(t, err, fmt.Sprintf("1 of %d items", request.Items))
				require.ErrorContains(t, err, fmt.Sprintf("send_batch_max_bytes (%d)", harness.MessageLimit))

				col.AwaitItems(t, 2*neighbours, signal, "delivered_items")
				s, err := col.Scrape(t.Context())
				require.NoError(t, err)
				assert.EqualValues(t, 1, s.Sum(signal, "dropped_items", "cause", "item_too_large"))
				assert.EqualValues(t, 1, s.Sum(signal, "dropped_items"), "whatever the cause")
				assert.Zero(t, s.Sum(signal, "failed_items"))
				assert.Zero(t, s.Sum(signal, "held_items"))
				assert.Contains(t, col.Log(), "send_batch_max_bytes")
				col.Stop(t)
				require.NoError(t, backend.Ledger(signal).Check([]harness.Sent{
					{IDs: before, Outcome: harness.Acknowledged},
					{IDs: giant, Outcome: harness.Refused},
					{IDs: after, Outcome: harness.Acknowledged},
				}))
				assert.Zero(t, backend.TooLarge())
			})
		}
	}
}
