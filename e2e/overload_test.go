package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/boundedbatch/boundedbatchprocessor/e2e/internal/harness"
)

// What the backend refuses batches with.
var (
	permanent = status.Error(codes.InvalidArgument, "the backend refuses this for good")
	retryable = status.Error(codes.Unavailable, "the backend is busy")
)

func TestOverloadRefusesRetryablyAndHoldsExactlyTheBound(t *testing.T) {
	const bound = 1000
	for _, signal := range harness.Signals() {
		t.Run(signal.Name(), func(t *testing.T) {
			t.Parallel()
			backend := harness.NewBackend(t)
			backend.Hold()
			col := harness.Start(t, harness.Config{
				Backend:   backend,
				Processor: "{send_batch_size: 90, send_batch_max_size: 130, queue_size: 1000, block_on_overflow: false}",
			})
			stop := col.Watch(t, func(s harness.Scrape) error { return s.Bounds(signal) })

			// Several clients of both protocols at once send what still fits: whoever is
			// refused goes on with half the size, until not even one item fits.
			var journal harness.Journal
			var sending sync.WaitGroup
			for i, client := range append(col.Clients(t, nil), col.Clients(t, nil)...) {
				rng := rand.New(rand.NewPCG(uint64(i), bound))
				sending.Go(func() { sendWhatFits(t, client, signal, rng, &journal) })
			}
			sending.Wait()
			require.Equal(t, bound, journal.Items(harness.Acknowledged))
			col.AwaitItems(t, bound, signal, "held_items")
			col.AwaitItems(t, int64(journal.Items(harness.Refused)), signal, "refused_items", "cause", "overflow")
			assert.Empty(t, backend.Ledger(signal).Delivered())

			// More than ever fits is refused for good: a repetition would never succeed.
			for _, client := range col.Clients(t, nil) {
				ids := journal.Take(bound + 1)
				err := send(t.Context(), client, signal, ids)
				requireNotRetryable(t, err)
				require.ErrorContains(t, err, "queue_size")
				journal.Note(ids, harness.Refused)
			}
			col.AwaitItems(t, 2*(bound+1), signal, "refused_items", "cause", "too_large")

			backend.Accept()
			col.AwaitItems(t, bound, signal, "delivered_items")
			assert.NotZero(t, stop())
			require.NoError(t, backend.Ledger(signal).Check(journal.Sent()))

			// There is room again.
			for _, client := range col.Clients(t, nil) {
				ids := journal.Take(bound / 2)
				require.NoError(t, send(t.Context(), client, signal, ids))
				journal.Note(ids, harness.Acknowledged)
			}
			col.Stop(t)
			require.NoError(t, backend.Ledger(signal).Check(journal.Sent()))
			assert.LessOrEqual(t, backend.Ledger(signal).Largest(), 130)
		})
	}
}

// sendWhatFits sends requests until one with a single item is refused. Every refusal
// must be retryable.
func sendWhatFits(t *testing.T, client harness.Client, signal harness.Signal, rng *rand.Rand, journal *harness.Journal) {
	t.Helper()
	for size := 1 + rng.IntN(300); ; {
		ids := journal.Take(size)
		err := send(t.Context(), client, signal, ids)
		if err == nil {
			journal.Note(ids, harness.Acknowledged)
			continue
		}
		journal.Note(ids, harness.Refused)
		if !assert.NoError(t, checkRetryable(err)) || size == 1 {
			return
		}
		size /= 2
	}
}

// checkRetryable returns an error unless err is what OTLP has for a collector that
// has no room for the moment.
func checkRetryable(err error) error {
	var answer *harness.HTTPError
	switch {
	case errors.As(err, &answer):
		if answer.StatusCode != http.StatusServiceUnavailable {
			return fmt.Errorf("not 503: %w", err)
		}
	case status.Code(err) != codes.Unavailable:
		return fmt.Errorf("not UNAVAILABLE: %w", err)
	}
	return nil
}

// requireNotRetryable requires an answer after which OTLP clients do not repeat the request.
func requireNotRetryable(t *testing.T, err error) {
	t.Helper()
	require.Error(t, err)
	assert.False(t, harness.Retryable(err), "%v", err)
}

func TestBlockedClientWaitsUntilThereIsRoomOrItsContextEnds(t *testing.T) {
	const bound = 100
	for _, signal := range harness.Signals() {
		t.Run(signal.Name(), func(t *testing.T) {
			t.Parallel()
			backend := harness.NewBackend(t)
			backend.Hold()
			col := harness.Start(t, harness.Config{
				Backend: backend, Processor: "{send_batch_size: 10, queue_size: 100, block_on_overflow: true}",
			})
			var journal harness.Journal
			fill := journal.Take(bound)
			require.NoError(t, send(t.Context(), col.GRPC(t, nil), signal, fill))
			journal.Note(fill, harness.Acknowledged)
			col.AwaitItems(t, bound, signal, "held_items")

			canceled := int64(0) // items
			for _, client := range col.Clients(t, nil) {
				// One that is blocked for certain when its context ends.
				ids := journal.Take(7)
				journal.Note(ids, harness.Refused)
				ctx, cancel := context.WithCancel(t.Context())
				answer := make(chan error, 1)
				go func() { answer <- client.Send(ctx, signal, ids) }()
				col.AwaitItems(t, 1, signal, "waiting_callers")
				cancel()
				requireEnded(t, <-answer, context.Canceled, codes.Canceled)
				canceled += 7
				col.AwaitItems(t, canceled, signal, "refused_items", "cause", "canceled")
				col.AwaitItems(t, 0, signal, "waiting_callers")

				// And one with a deadline.
				ids = journal.Take(11)
				journal.Note(ids, harness.Refused)
				ctx, cancel = context.WithTimeout(t.Context(), 200*time.Millisecond)
				requireEnded(t, client.Send(ctx, signal, ids), context.DeadlineExceeded, codes.DeadlineExceeded)
				cancel()
				canceled += 11
				col.AwaitItems(t, canceled, signal, "refused_items", "cause", "canceled")
			}
			col.AwaitItems(t, bound, signal, "held_items")

			// Those with patience get in when the backend takes something.
			var waiting sync.WaitGroup
			for _, client := range col.Clients(t, nil) {
				ids := journal.Take(bound)
				journal.Note(ids, harness.Acknowledged)
				waiting.Go(func() { assert.NoError(t, send(t.Context(), client, signal, ids)) })
			}
			col.AwaitItems(t, 2, signal, "waiting_callers")
			backend.Accept()
			waiting.Wait()
			col.AwaitItems(t, 3*bound, signal, "delivered_items")
			require.NoError(t, backend.Ledger(signal).Check(journal.Sent()))
			col.Stop(t)
		})
	}
}

// requireEnded requires that a call has ended with its context: over HTTP as an error
// of the context, over gRPC as a status. The collector knows a gRPC client's deadline
// too; if its clock is the first to notice, the answer is a retryable refusal that
// names it.
func requireEnded(t *testing.T, err, want error, code codes.Code) {
	t.Helper()
	require.Error(t, err)
	s := status.Convert(err)
	if errors.Is(err, want) || s.Code() == code || s.Code() == codes.Unavailable && strings.Contains(s.Message(), want.Error()) {
		return
	}
	require.NoError(t, err, "not %v", want)
}
