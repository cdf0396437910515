package e2e

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/boundedbatch/boundedbatchprocessor/e2e/internal/harness"
)

// Small requests of one program have nearly the same dictionary, which is most of what they are. A
// batch has one dictionary, with each entry once (which the ledger checks), and is as full as
// its limit in bytes allows.
func TestRequestsOfProfilesShareADictionaryWithinTheLimitInBytes(t *testing.T) {
	const (
		requests = 1600
		items    = 10
		limit    = 256 << 10
	)
	backend := harness.NewBackendWithLimit(t, limit)
	col := harness.Start(t, harness.Config{Backend: backend, Processor: fmt.Sprintf(
		"{timeout: 1h, send_batch_size: 1000000, queue_size: 1000000, send_batch_max_bytes: %d}", limit)})
	var journal harness.Journal
	var all []harness.Range
	sent := 0 // bytes
	for range requests {
		ids := journal.Take(items)
		all = append(all, ids)
		sent += harness.Profiles.EncodedSize(ids)
	}
	sendByFour(t, col, harness.Profiles, all, &journal)
	awaitSealed(t, col, harness.Profiles)
	ledger := backend.Ledger(harness.Profiles)
	require.Greater(t, len(ledger.Delivered()), 4)
	for _, b := range ledger.Delivered() {
		assert.Greater(t, b.Bytes, limit*9/10)
	}
	col.Stop(t)

	require.NoError(t, ledger.Check(journal.Sent()))
	assert.Zero(t, backend.TooLarge())
	assert.LessOrEqual(t, ledger.LargestMessage(), limit)
	delivered := 0 // bytes
	for _, b := range ledger.Delivered() {
		delivered += b.Bytes
	}
	t.Logf("%d requests of %d bytes became %d batches of %d bytes", requests, sent, len(ledger.Delivered()), delivered)
	assert.Less(t, delivered, sent/3)
}

// A profile that is larger than a batch may be is a batch of its own, which the backend takes or
// not. Its neighbours notice nothing.
func TestProfileThatExceedsABatchTravelsAlone(t *testing.T) {
	const neighbours = 20 // on each side
	giant := harness.Range{First: harness.Giant, Items: 1}
	before := harness.Range{First: harness.Giant - neighbours, Items: neighbours}
	after := harness.Range{First: harness.Giant + 1, Items: neighbours}
	request := harness.Range{First: before.First, Items: 2*neighbours + 1}
	for _, tt := range []struct {
		name    string
		backend func(testing.TB) *harness.Backend
		outcome harness.Outcome // of the giant
	}{
		{"taken", harness.NewBackend, harness.Acknowledged},
		{"refused", harness.NewLimitedBackend, harness.Refused},
	} {
		for _, wait := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/wait_for_result=%v", tt.name, wait), func(t *testing.T) {
				t.Parallel()
				backend := tt.backend(t)
				col := harness.Start(t, harness.Config{
					Backend:       backend,
					Processor:     fmt.Sprintf("{send_batch_max_bytes: %d, wait_for_result: %v}", harness.MessageLimit, wait),
					MaxRequestMiB: maxRequestMiB,
				})
				delivered, failed := int64(request.Items), int64(0)
				if tt.outcome == harness.Refused {
					delivered, failed = delivered-1, 1
				}
				err := send(t.Context(), col.GRPC(t, nil), harness.Profiles, request)
				if wait && tt.outcome == harness.Refused {
					requireCodes(t, err, codes.ResourceExhausted, http.StatusTooManyRequests)
					requireNotRetryable(t, err)
				} else {
					require.NoError(t, err)
				}
				col.AwaitItems(t, delivered, harness.Profiles, "delivered_items")
				col.AwaitItems(t, failed, harness.Profiles, "failed_items")
				s, err := col.Scrape(t.Context())
				require.NoError(t, err)
				assert.EqualValues(t, 1, s.Sum(harness.Profiles, "oversized_batches"))
				for _, none := range []string{"refused_items", "dropped_items", "held_items"} {
					assert.Zero(t, s.Sum(harness.Profiles, none), none)
				}
				col.Stop(t)

				ledger := backend.Ledger(harness.Profiles)
				require.NoError(t, ledger.Check([]harness.Sent{
					{IDs: before, Outcome: harness.Acknowledged},
					{IDs: giant, Outcome: tt.outcome},
					{IDs: after, Outcome: harness.Acknowledged},
				}))
				assert.EqualValues(t, failed, backend.TooLarge())
				for _, b := range ledger.Delivered() {
					if b.Bytes > harness.MessageLimit {
						assert.Equal(t, []uint64{harness.Giant}, b.IDs)
					}
				}
			})
		}
	}
}

// Of a request in which an index leads nowhere nothing is taken, and nobody else notices.
func TestProfilesWithAnIndexThatLeadsNowhereAreRefusedForGood(t *testing.T) {
	const items = 21
	astray := harness.Range{First: harness.Astray - items/2, Items: items}
	for _, wait := range []bool{false, true} {
		t.Run(fmt.Sprintf("wait_for_result=%v", wait), func(t *testing.T) {
			t.Parallel()
			backend := harness.NewBackend(t)
			col := harness.Start(t, harness.Config{Backend: backend, Processor: fmt.Sprintf("{wait_for_result: %v}", wait)})
			var journal harness.Journal
			journal.Note(astray, harness.Refused)
			refused := int64(0)
			for _, client := range col.Clients(t, nil) {
				sendSome(t.Context(), t, client, harness.Profiles, &journal, 1, items)
				err := send(t.Context(), client, harness.Profiles, astray)
				requireCodes(t, err, codes.InvalidArgument, http.StatusBadRequest)
				requireNotRetryable(t, err)
				require.ErrorContains(t, err, "stack table")
				refused += items
				sendSome(t.Context(), t, client, harness.Profiles, &journal, 1, items)
			}
			col.AwaitItems(t, 4*items, harness.Profiles, "delivered_items")
			s, err := col.Scrape(t.Context())
			require.NoError(t, err)
			assert.Equal(t, refused, s.Sum(harness.Profiles, "refused_items", "cause", "invalid"))
			assert.Equal(t, refused, s.Sum(harness.Profiles, "refused_items"), "whatever the cause")
			assert.EqualValues(t, 4*items, s.Sum(harness.Profiles, "accepted_items"))
			col.Stop(t)
			require.NoError(t, backend.Ledger(harness.Profiles).Check(journal.Sent()))
		})
	}
}
