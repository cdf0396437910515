package e2e

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/boundedbatch/boundedbatchprocessor/e2e/internal/harness"
)

// The backend refuses all items of one tenant for good, while the others send too. With keys
// these notice nothing. Without keys they share batches with it, and some are refused with it:
// where clients wait they are told so, and in any case it is counted to the item.
func TestTenantWhoseItemsAreRefusedAddsUp(t *testing.T) {
	const (
		tenants  = 6
		refused  = 3  // the one
		requests = 60 // of each tenant, signal and protocol
		largest  = 30
	)
	for _, tt := range []struct {
		name, processor string
		keyed, waits    bool
	}{
		{"keyed/counting", "{metadata_keys: [x-tenant], send_batch_size: 100, timeout: 20ms}", true, false},
		{"keyed/waiting", "{metadata_keys: [x-tenant], send_batch_size: 100, timeout: 20ms, wait_for_result: true}", true, true},
		{"together/counting", "{send_batch_size: 100, timeout: 20ms}", false, false},
		{"together/waiting", "{send_batch_size: 100, timeout: 20ms, wait_for_result: true}", false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			backend := harness.NewBackend(t)
			bad := newOrganizations(tenants)[refused].name
			backend.Judge(func(ids []uint64) error {
				if slices.ContainsFunc(ids, func(id uint64) bool { return organizationOf(id) == bad }) {
					return permanent
				}
				return nil
			})
			col := harness.Start(t, harness.Config{Backend: backend, Processor: tt.processor})
			watched := col.Watch(t, boundsOfStable)
			orgs := make(map[harness.Signal][]organization)
			var sending sync.WaitGroup
			for i, signal := range harness.StableSignals() {
				orgs[signal] = newOrganizations(tenants)
				for k, org := range orgs[signal] {
					for j, client := range col.Clients(t, org.header) {
						rng := rand.New(rand.NewPCG(uint64(i), uint64(10*k+j)))
						sending.Go(func() {
							for range requests {
								ids := org.journal.Take(harness.Size(rng, largest))
								err := send(t.Context(), client, signal, ids)
								org.journal.Note(ids, outcomeOf(err))
								if err != nil && !assert.False(t, harness.Retryable(err), "%v", err) {
									return
								}
							}
						})
					}
				}
			}
			sending.Wait()
			for _, signal := range harness.StableSignals() {
				col.AwaitItems(t, 0, signal, "held_items")
			}
			assert.NotZero(t, watched())
			now, err := col.Scrape(t.Context())
			require.NoError(t, err)
			for _, signal := range harness.StableSignals() {
				var sentOfBad, sentOfOthers, acknowledged int
				for k, org := range orgs[signal] {
					acknowledged += org.journal.Items(harness.Acknowledged)
					if k == refused {
						sentOfBad += org.journal.Taken()
					} else {
						sentOfOthers += org.journal.Taken()
					}
				}
				sent, ledger := allOf(orgs[signal]), backend.Ledger(signal)
				taken, _ := ledger.Taken()
				delivered, failed := int(now.Sum(signal, "delivered_items")), int(now.Sum(signal, "failed_items", "cause", "permanent"))
				t.Logf("%s: %d items sent, %d of them of the one that is refused; %d acknowledged; %d delivered, %d failed; %d taken",
					signal.Name(), sentOfBad+sentOfOthers, sentOfBad, acknowledged, delivered, failed, taken)
				assert.EqualValues(t, sentOfBad+sentOfOthers, now.Sum(signal, "accepted_items"))
				assert.EqualValues(t, failed, now.Sum(signal, "failed_items"), "whatever the cause")
				assert.Equal(t, sentOfBad+sentOfOthers, delivered+failed)
				assert.Equal(t, taken, delivered)
				if tt.keyed {
					assert.Equal(t, sentOfBad, failed)
				} else {
					assert.GreaterOrEqual(t, failed, sentOfBad)
					assert.Positive(t, now.Sum(signal, "isolation_exports"))
				}
				if tt.waits {
					assert.Equal(t, acknowledged, delivered)
				} else {
					assert.Equal(t, acknowledged, sentOfBad+sentOfOthers)
					for i := range sent {
						switch {
						case organizationOf(sent[i].IDs.First) == bad:
							sent[i].Outcome = harness.Refused // by the backend
						case !tt.keyed:
							sent[i].Outcome = harness.Unknown
						}
					}
				}
				require.NoError(t, ledger.Check(sent), signal.Name())
			}
			col.Stop(t)
		})
	}
}

// outcomeOf is what a client knows that has sent a request once.
func outcomeOf(err error) harness.Outcome {
	if err != nil {
		return harness.Refused
	}
	return harness.Acknowledged
}
