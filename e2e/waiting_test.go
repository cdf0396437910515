package e2e

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/boundedbatch/boundedbatchprocessor/e2e/internal/harness"
)

// answer is what a client was told of one request.
type answer struct {
	protocol string
	ids      harness.Range
	err      error
}

// requireCodes requires that a request was answered with one of the two, whichever the
// client's protocol has.
func requireCodes(t *testing.T, err error, grpcCode codes.Code, httpCode int) {
	t.Helper()
	require.Error(t, err)
	var answer *harness.HTTPError
	if errors.As(err, &answer) {
		require.Equal(t, httpCode, answer.StatusCode, "%v", err)
		return
	}
	require.Equal(t, grpcCode, status.Code(err), "%v", err)
}

// With wait_for_result the client of a collector without queues is told what the backend
// says: what to give up, what to repeat, and when. Nothing seals a batch but
// flush_when_idle, which is the default then.
func TestWaitingClientIsToldWhatTheBackendAnswers(t *testing.T) {
	const items = 10
	for _, exporter := range []string{"otlp_grpc", "otlp_http"} {
		for _, tt := range []struct {
			name      string
			answer    error // nil: the backend is dead
			grpcCode  codes.Code
			httpCode  int
			retryable bool
			delay     time.Duration // that the backend asks for
		}{
			{
				name: "unavailable", answer: retryable,
				grpcCode: codes.Unavailable, httpCode: http.StatusServiceUnavailable, retryable: true,
			},
			{
				name:     "dead",
				grpcCode: codes.Unavailable, httpCode: http.StatusServiceUnavailable, retryable: true,
			},
			{
				name: "throttled", answer: harness.Throttled(codes.ResourceExhausted, 7*time.Second),
				grpcCode: codes.ResourceExhausted, httpCode: http.StatusTooManyRequests, retryable: true, delay: 7 * time.Second,
			},
			{
				name: "invalid", answer: permanent,
				grpcCode: codes.InvalidArgument, httpCode: http.StatusBadRequest,
			},
			{
				name: "denied", answer: status.Error(codes.PermissionDenied, "not for you"),
				grpcCode: codes.PermissionDenied, httpCode: http.StatusForbidden,
			},
		} {
			t.Run(exporter+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				backend := harness.NewBackend(t)
				if tt.answer == nil {
					backend.Kill(t)
				} else {
					backend.Refuse(tt.answer)
				}
				col := harness.Start(t, harness.Config{
					Backend: backend, Processor: "{wait_for_result: true, timeout: 1h}", Exporter: exporter,
				})
				cause := map[bool]string{true: "retryable", false: "permanent"}[tt.retryable]
				journals := make(map[harness.Signal]*harness.Journal)
				for _, signal := range harness.Signals() {
					journal := new(harness.Journal)
					journals[signal] = journal
					for _, client := range col.Clients(t, nil) {
						ids := journal.Take(items)
						err := send(t.Context(), client, signal, ids)
						journal.Note(ids, harness.Refused)
						requireCodes(t, err, tt.grpcCode, tt.httpCode)
						assert.Equal(t, tt.retryable, harness.Retryable(err), "%v", err)
						assert.Equal(t, tt.delay, harness.RetryDelay(err), "%v", err)
						if tt.answer != nil {
							require.ErrorContains(t, err, status.Convert(tt.answer).Message())
						}
					}
					col.AwaitItems(t, 2*items, signal, "failed_items", "cause", cause)
				}

				backend.Accept()
				if tt.answer == nil {
					backend.Restart(t)
				}
				for _, signal := range harness.Signals() {
					journal := journals[signal]
					for _, client := range col.Clients(t, nil) {
						ids := journal.Take(items)
						_, err := harness.SendPersistently(t.Context(), client, signal, ids) // while the exporter connects
						require.NoError(t, err)
						journal.Note(ids, harness.Acknowledged)
					}
					require.NoError(t, backend.Ledger(signal).Check(journal.Sent()), "none of those that were refused")
					col.AwaitItems(t, 2*items, signal, "delivered_items")
				}
				col.Stop(t)
			})
		}
	}
}

// callAll makes one request per client and returns the channel of their answers.
func callAll(
	ctx context.Context, clients []harness.Client, signal harness.Signal, journal *harness.Journal, items int,
) <-chan answer {
	answers := make(chan answer, len(clients))
	for _, client := range clients {
		ids := journal.Take(items)
		go func() { answers <- answer{client.Protocol(), ids, send(ctx, client, signal, ids)} }()
	}
	return answers
}

// occupy makes a request that the backend holds, so that those that follow are merged
// into one batch behind it, and returns the channel of its answer.
func occupy(
	t *testing.T, col *harness.Collector, backend *harness.Backend, signal harness.Signal, journal *harness.Journal, items int,
) <-chan answer {
	t.Helper()
	backend.Hold()
	first := callAll(t.Context(), []harness.Client{col.GRPC(t, nil)}, signal, journal, items)
	backend.Ledger(signal).Await(t, "the first request", func(l *harness.Ledger) bool { return l.Waiting() == 1 })
	return first
}

// One request that the backend refuses for good, among others in the same batch: it alone
// is refused, and none of the others is sent twice.
func TestPoisonRequestAmongTwentyIsRefusedAlone(t *testing.T) {
	const callers, items = 20, 10
	for _, signal := range harness.Signals() {
		for _, poisoned := range []string{"grpc", "http"} {
			t.Run(signal.Name()+"/"+poisoned, func(t *testing.T) {
				t.Parallel()
				backend := harness.NewBackend(t)
				col := harness.Start(t, harness.Config{Backend: backend, Processor: "{wait_for_result: true, timeout: 1h}"})
				stop := col.Watch(t, func(s harness.Scrape) error { return s.Bounds(signal) })
				var journal harness.Journal
				first := occupy(t, col, backend, signal, &journal, items)

				var clients []harness.Client
				for range callers / 2 {
					clients = append(clients, col.Clients(t, nil)...)
				}
				answers := callAll(t.Context(), clients, signal, &journal, items)
				col.AwaitItems(t, callers*items, signal, "held_items", "state", "pending")
				// In the midst of the batch. Identities are in the order of the clients, after
				// those of the first request.
				index := 12 + slices.IndexFunc(clients[12:], func(c harness.Client) bool { return c.Protocol() == poisoned })
				poison := harness.Range{First: uint64(1+index) * items, Items: items}
				backend.Judge(func(ids []uint64) error {
					if slices.ContainsFunc(ids, poison.Contains) {
						return permanent
					}
					return nil
				})

				require.NoError(t, (<-first).err)
				journal.Note(harness.Range{Items: items}, harness.Acknowledged)
				for range callers {
					a := <-answers
					if a.ids == poison {
						assert.Equal(t, poisoned, a.protocol)
						requireCodes(t, a.err, codes.InvalidArgument, http.StatusBadRequest)
						journal.Note(a.ids, harness.Refused)
						continue
					}
					require.NoError(t, a.err, "%s request with items %v", a.protocol, a.ids)
					journal.Note(a.ids, harness.Acknowledged)
				}
				col.AwaitItems(t, callers*items, signal, "delivered_items") // 19 and the first
				col.AwaitItems(t, items, signal, "failed_items", "cause", "permanent")
				stop()

				ledger := backend.Ledger(signal)
				require.NoError(t, ledger.Check(journal.Sent()))
				assert.Len(t, ledger.Refused()[0].IDs, callers*items, "they were merged")
				s, err := col.Scrape(t.Context())
				require.NoError(t, err)
				isolations := s.Sum(signal, "isolation_exports")
				assert.EqualValues(t, len(ledger.Refused())+len(ledger.Delivered())-2, isolations)
				assert.LessOrEqual(t, float64(isolations), 2*math.Log2(callers)+1)
				assert.Zero(t, s.Sum(signal, "retries"))
				col.Stop(t)
			})
		}
	}
}

// The same where nobody waits, wherever in the batch it is: the borders are those of
// resources then, of which the poisonous request has two.
func TestPoisonRequestTakesNoOtherWithItWhereNobodyWaits(t *testing.T) {
	const requests, items = 10, 10
	for _, signal := range harness.Signals() {
		for _, at := range []int{0, 4, requests - 1} {
			t.Run(fmt.Sprintf("%s/at=%d", signal.Name(), at), func(t *testing.T) {
				t.Parallel()
				backend := harness.NewBackend(t)
				col := harness.Start(t, harness.Config{
					Backend: backend, Processor: "{flush_when_idle: true, max_concurrent_exports: 1, timeout: 1h}",
				})
				var journal harness.Journal
				first := <-occupy(t, col, backend, signal, &journal, items)
				require.NoError(t, first.err)
				journal.Note(first.ids, harness.Acknowledged)

				client := col.HTTP(t, nil)
				var poison harness.Range
				for i := range requests {
					ids, outcome := journal.Take(items), harness.Acknowledged
					if i == at {
						poison, outcome = harness.OfTwoResources(1000, items), harness.Refused
						ids = poison
					}
					require.NoError(t, send(t.Context(), client, signal, ids))
					journal.Note(ids, outcome)
				}
				col.AwaitItems(t, requests*items, signal, "held_items", "state", "pending")
				backend.Judge(func(ids []uint64) error {
					if slices.ContainsFunc(ids, poison.Contains) {
						return permanent
					}
					return nil
				})
				col.AwaitItems(t, 0, signal, "held_items")
				ledger := backend.Ledger(signal)
				require.NoError(t, ledger.Check(journal.Sent()))
				assert.Len(t, ledger.Refused()[0].IDs, requests*items, "they were merged")
				col.AwaitItems(t, requests*items, signal, "delivered_items")
				col.AwaitItems(t, items, signal, "failed_items", "cause", "permanent")
				col.Stop(t)
			})
		}
	}
}

// What a client has pending leaves with it; those it was merged with notice nothing.
func TestWaitingClientThatLeavesTakesWhatIsPendingWithIt(t *testing.T) {
	const items = 10
	for _, signal := range harness.Signals() {
		t.Run(signal.Name(), func(t *testing.T) {
			t.Parallel()
			backend := harness.NewBackend(t)
			col := harness.Start(t, harness.Config{Backend: backend, Processor: "{wait_for_result: true, timeout: 1h}"})
			var journal harness.Journal
			first := occupy(t, col, backend, signal, &journal, items)
			staying := callAll(t.Context(), col.Clients(t, nil), signal, &journal, items)
			ctx, cancel := context.WithCancel(t.Context())
			leaving := callAll(ctx, col.Clients(t, nil), signal, &journal, items)
			col.AwaitItems(t, 4*items, signal, "held_items", "state", "pending")
			cancel()
			for range 2 {
				a := <-leaving
				require.Error(t, a.err)
				journal.Note(a.ids, harness.Refused)
			}
			col.AwaitItems(t, 2*items, signal, "dropped_items", "cause", "canceled")
			col.AwaitItems(t, 2*items, signal, "held_items", "state", "pending")

			backend.Accept()
			for _, a := range []answer{<-first, <-staying, <-staying} {
				require.NoError(t, a.err)
				journal.Note(a.ids, harness.Acknowledged)
			}
			col.AwaitItems(t, 0, signal, "held_items")
			require.NoError(t, backend.Ledger(signal).Check(journal.Sent()))
			col.Stop(t)
		})
	}
}

// Group commit: a client that sends one request after the other pays for the exports,
// not for the timeout.
func TestLoneWaitingClientDoesNotPayForTheTimeout(t *testing.T) {
	const requests = 100
	const timeout = 10 * time.Second // of one batch, and more than all requests may take
	backend := harness.NewBackend(t)
	col := harness.Start(t, harness.Config{
		Backend: backend, Processor: fmt.Sprintf("{wait_for_result: true, timeout: %v}", timeout),
	})
	for _, signal := range harness.Signals() {
		for _, client := range col.Clients(t, nil) {
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			for i := range requests {
				require.NoError(t, client.Send(ctx, signal, harness.Range{First: uint64(i), Items: 1}), "%s over %s, request %d",
					signal.Name(), client.Protocol(), i)
			}
			cancel()
		}
		col.AwaitItems(t, 2*requests, signal, "batches", "trigger", "idle")
	}
	col.Stop(t)
}
