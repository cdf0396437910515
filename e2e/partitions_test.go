package e2e

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/boundedbatch/boundedbatchprocessor/e2e/internal/harness"
)

// tenants are what clients may send under one metadata key, each of them a partition
// of its own: without the key, with an empty value, in another case, with two values.
var tenants = []harness.Header{
	nil,
	{"x-tenant": {""}},
	{"x-tenant": {"a"}},
	{"x-tenant": {"A"}},
	{"x-tenant": {"b"}},
	{"x-tenant": {"a", "b"}},
	{"x-tenant": {"b", "a"}},
	{"x-tenant": {"a,b"}},
}

// Each tenant's items have identities of their own, so that a batch shows whose it is.
const itemsPerTenant = 1_000_000

// newJournals returns a journal for each tenant.
func newJournals() (journals []*harness.Journal) {
	for i := range tenants {
		journals = append(journals, harness.NewJournal(uint64(i)*itemsPerTenant))
	}
	return journals
}

func allSent(journals []*harness.Journal) (sent []harness.Sent) {
	for _, j := range journals {
		sent = append(sent, j.Sent()...)
	}
	return sent
}

// requireUnmixed requires that the items of each batch are of one tenant, and returns
// the number of batches of each.
func requireUnmixed(t *testing.T, batches []harness.Batch) (perTenant []int) {
	t.Helper()
	perTenant = make([]int, len(tenants))
	for i, b := range batches {
		owner := b.IDs[0] / itemsPerTenant
		for _, id := range b.IDs {
			require.Equal(t, owner, id/itemsPerTenant, "batch %d has items of more than one tenant", i)
		}
		perTenant[owner]++
	}
	return perTenant
}

func TestEachTenantHasItsOwnBatch(t *testing.T) {
	backend := harness.NewBackend(t)
	col := harness.Start(t, harness.Config{
		// Nothing seals a batch before the end.
		Backend: backend, Processor: "{metadata_keys: [X-Tenant], timeout: 1h}",
	})
	for _, signal := range harness.Signals() {
		journals := newJournals()
		for i, tenant := range tenants {
			// The protocol does not matter: both requests go into one batch.
			for _, client := range col.Clients(t, tenant) {
				ids := journals[i].Take(30 + i)
				require.NoError(t, send(t.Context(), client, signal, ids))
				journals[i].Note(ids, harness.Acknowledged)
			}
		}
		col.AwaitItems(t, int64(len(tenants)), signal, "live_partitions")
		t.Cleanup(func() {
			assert.NoError(t, backend.Ledger(signal).Check(allSent(journals)))
		})
	}
	col.Stop(t)
	for _, signal := range harness.Signals() {
		for i, batches := range requireUnmixed(t, backend.Ledger(signal).Delivered()) {
			assert.Equal(t, 1, batches, "batches of %s of tenant %v", signal.Name(), tenants[i])
		}
	}
}

// More tenants than metadata_cardinality_limit are not refused; what is pending of the
// least recently used one leaves early.
func TestTenantsNeverMixUnderLoadWithFewerPartitionsThanTenants(t *testing.T) {
	const limit = 3
	const itemsPerClient = 5_000
	for _, signal := range harness.Signals() {
		t.Run(signal.Name(), func(t *testing.T) {
			t.Parallel()
			backend := harness.NewBackend(t)
			col := harness.Start(t, harness.Config{
				Backend: backend,
				Processor: fmt.Sprintf("{metadata_keys: [x-tenant], metadata_cardinality_limit: %d, "+
					"send_batch_size: 500, send_batch_max_size: 700, queue_size: 5000}", limit),
			})
			stop := col.Watch(t, func(s harness.Scrape) error {
				if live := s.Sum(signal, "live_partitions"); live > limit {
					return fmt.Errorf("%d live partitions exceed the limit of %d", live, limit)
				}
				return s.Bounds(signal)
			})
			journals := newJournals()
			var sending sync.WaitGroup
			for i, tenant := range tenants {
				for k, client := range col.Clients(t, tenant) {
					sizes := harness.Sizes(rand.New(rand.NewPCG(uint64(i), uint64(k))), itemsPerClient, 900)
					sending.Go(func() {
						for _, n := range sizes {
							ids := journals[i].Take(n)
							if err := send(t.Context(), client, signal, ids); err != nil {
								t.Errorf("tenant %v over %s: %v", tenant, client.Protocol(), err)
								return
							}
							journals[i].Note(ids, harness.Acknowledged)
						}
					})
				}
			}
			sending.Wait()
			col.AwaitItems(t, int64(2*itemsPerClient*len(tenants)), signal, "delivered_items")
			stop()
			ledger := backend.Ledger(signal)
			require.NoError(t, ledger.Check(allSent(journals)))
			requireUnmixed(t, ledger.Delivered())
			assert.LessOrEqual(t, ledger.Largest(), 700)
			s, err := col.Scrape(t.Context())
			require.NoError(t, err)
			assert.GreaterOrEqual(t, s.Sum(signal, "evictions"), int64(len(tenants)-limit))
			assert.Zero(t, s.Sum(signal, "refused_items"))
			col.Stop(t)
		})
	}
}
