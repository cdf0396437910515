package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/template"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/boundedbatch/boundedbatchprocessor/e2e/internal/harness"
)

const (
	// orgHeader is how a backend with several tenants is told whose a request is, as
	// ledgers have it.
	orgHeader = "x-scope-orgid"
	// anonymous is whose the items of no tenant are.
	anonymous = "anonymous"
)

// orgFrom is a headers_setter's header for a backend with several tenants, whose value is
// that of a client metadata key.
func orgFrom(key string) string {
	return fmt.Sprintf("{action: upsert, key: X-Scope-OrgID, from_context: %s, default_value: %s}", key, anonymous)
}

// organization is a tenant of tests that have many: its clients say whose they are, and
// its items have identities of their own.
type organization struct {
	name    string
	header  harness.Header
	journal *harness.Journal
}

// newOrganizations returns organizations, the first of which is anonymous.
func newOrganizations(count int) (all []organization) {
	for i := range count {
		org := organization{name: anonymous, journal: harness.NewJournal(uint64(i) * itemsPerTenant)}
		if i > 0 {
			org.name = fmt.Sprintf("org-%d", i)
			org.header = harness.Header{"x-tenant": {org.name}}
		}
		all = append(all, org)
	}
	return all
}

// organizationOf returns the name of the one of newOrganizations that has sent an item.
func organizationOf(id uint64) string {
	if i := id / itemsPerTenant; i > 0 {
		return fmt.Sprintf("org-%d", i)
	}
	return anonymous
}

// resourceTenantOf is organizationOf where it is the resource that says whose an item is.
func resourceTenantOf(id uint64) string {
	if name, set := harness.Tenant(id); set {
		return name
	}
	return anonymous
}

// allOf returns what all of the organizations have sent.
func allOf(orgs []organization) (sent []harness.Sent) {
	for _, org := range orgs {
		sent = append(sent, org.journal.Sent()...)
	}
	return sent
}

// requireOwned requires that the items of each batch are of one owner, and that the batch
// came with the header of that owner and no other.
func requireOwned(
	t *testing.T, batches []harness.Batch, ownerOf func(id uint64) string, headerOf func(owner string) harness.Header,
) {
	t.Helper()
	for i, b := range batches {
		owner := ownerOf(b.IDs[0])
		for _, id := range b.IDs {
			require.Equal(t, owner, ownerOf(id), "owner of item %d in batch %d, of %d items", id, i, len(b.IDs))
		}
		require.Equal(t, headerOf(owner), b.Header, "header of batch %d, of %d items", i, len(b.IDs))
	}
}

// orgOnly is the header of a batch in which nothing but the tenant is told.
func orgOnly(owner string) harness.Header { return harness.Header{orgHeader: {owner}} }

// With metadata_keys a headers_setter behind sends the tenant of every batch, whether one
// request is in it or several, and nothing else that a client sent: even a header that it
// is told to pass on is not there.
func TestBatchCarriesItsTenantAndNoOtherHeaderOfItsClients(t *testing.T) {
	const (
		organizations = 40
		requests      = 3 // of each organization and protocol
		items         = 10
	)
	for _, tt := range []struct {
		name      string
		processor string
		batch     int // items; 0: as it happens
	}{
		{"single", "{metadata_keys: [x-tenant], send_batch_size: 0}", items},
		{"merged", "{metadata_keys: [X-Tenant], timeout: 1h, send_batch_size: 20}", 2 * items},
		{"waiting", "{metadata_keys: [x-tenant], wait_for_result: true}", 0},
	} {
		for _, exporter := range []string{"otlp_grpc", "otlp_http"} {
			t.Run(tt.name+"/"+exporter, func(t *testing.T) {
				t.Parallel()
				backend := harness.NewBackend(t)
				col := harness.Start(t, harness.Config{
					Backend: backend, Processor: tt.processor, Exporter: exporter,
					Headers: "[" + orgFrom("x-tenant") + ", " +
						"{action: upsert, key: Authorization, from_context: authorization, default_value: nobody's}]",
				})
				orgs := make(map[harness.Signal][]organization)
				var sending sync.WaitGroup
				for _, signal := range harness.Signals() {
					orgs[signal] = newOrganizations(organizations)
				}
				for i := range organizations {
					header := harness.Header{"authorization": {fmt.Sprintf("Bearer %d", i)}, "x-caller": {fmt.Sprint(i)}}
					for key, values := range orgs[harness.Traces][i].header {
						header[key] = values
					}
					for _, client := range col.Clients(t, header) {
						for _, signal := range harness.Signals() {
							sending.Go(func() { sendSome(t.Context(), t, client, signal, orgs[signal][i].journal, requests, items) })
						}
					}
				}
				sending.Wait()
				for _, signal := range harness.Signals() {
					col.AwaitItems(t, organizations*2*requests*items, signal, "delivered_items")
					ledger := backend.Ledger(signal)
					require.NoError(t, ledger.Check(allOf(orgs[signal])), signal.Name())
					requireOwned(t, ledger.Delivered(), organizationOf, func(owner string) harness.Header {
						return harness.Header{orgHeader: {owner}, "authorization": {"nobody's"}}
					})
					for _, b := range ledger.Delivered() {
						if tt.batch > 0 {
							require.Len(t, b.IDs, tt.batch)
						}
					}
				}
				col.Stop(t)
			})
		}
	}
}

// sendSome makes a number of requests, all of which must be acknowledged.
func sendSome(
	ctx context.Context, t *testing.T, client harness.Client, signal harness.Signal, journal *harness.Journal, requests, items int,
) {
	t.Helper()
	for range requests {
		ids := journal.Take(items)
		if err := send(ctx, client, signal, ids); err != nil {
			t.Errorf("%s over %s, items %v: %v", signal.Name(), client.Protocol(), ids, err)
			return
		}
		journal.Note(ids, harness.Acknowledged)
	}
}

// With resource_keys the tenants in a request go their own ways.
func TestTenantsInOneRequestArrivePartedUnderTheirOwnHeaders(t *testing.T) {
	const itemsPerClient = 8_000
	for _, tt := range []struct {
		name, processor string
		gates           []string
		maxSize         int // 0: no limit
	}{
		{name: "defaults", processor: "{resource_keys: [tenant.id]}"},
		{
			name: "limited", maxSize: 177,
			processor: "{resource_keys: [tenant.id], send_batch_size: 150, send_batch_max_size: 177, queue_size: 6000}",
		},
		{
			name:      "few partitions",
			processor: "{resource_keys: [tenant.id], metadata_cardinality_limit: 3}",
		},
		{name: "waiting", processor: "{resource_keys: [tenant.id], wait_for_result: true}"},
		{
			name: "pooled waiting limited", gates: []string{poolingGate}, maxSize: 177,
			processor: "{resource_keys: [tenant.id], wait_for_result: true, " +
				"send_batch_size: 150, send_batch_max_size: 177, queue_size: 6000}",
		},
	} {
		for _, signal := range harness.Signals() {
			t.Run(tt.name+"/"+signal.Name(), func(t *testing.T) {
				t.Parallel()
				backend := harness.NewBackend(t)
				col := harness.Start(t, harness.Config{
					Backend: backend, Processor: tt.processor, FeatureGates: tt.gates, Headers: "[" + orgFrom(harness.TenantKey) + "]",
				})
				stop := col.Watch(t, func(s harness.Scrape) error { return s.Bounds(signal) })
				var journal harness.Journal
				var sending sync.WaitGroup
				for i, client := range col.Clients(t, nil) {
					sizes := harness.Sizes(rand.New(rand.NewPCG(2, uint64(i))), itemsPerClient, largestRequest)
					sending.Go(func() {
						for _, n := range sizes {
							sendSome(t.Context(), t, client, signal, &journal, 1, n)
						}
					})
				}
				sending.Wait()
				col.AwaitItems(t, 2*itemsPerClient, signal, "delivered_items")
				stop()
				ledger := backend.Ledger(signal)
				require.NoError(t, ledger.Check(journal.Sent()))
				requireOwned(t, ledger.Delivered(), resourceTenantOf, orgOnly)
				if tt.maxSize > 0 {
					assert.LessOrEqual(t, ledger.Largest(), tt.maxSize)
				}
				col.Stop(t)
			})
		}
	}
}

// Both kinds of keys at once: a partition is a region that the client names and a tenant
// that the resource names.
func TestClientsAndResourcesSeparateTogether(t *testing.T) {
	const requests, items = 4, 1000
	regions := []string{"north", "south"}
	regionOf := func(id uint64) string { return regions[id/itemsPerTenant] }
	backend := harness.NewBackend(t)
	col := harness.Start(t, harness.Config{
		Backend:   backend,
		Processor: "{metadata_keys: [x-region], resource_keys: [tenant.id]}",
		Headers:   "[" + orgFrom(harness.TenantKey) + ", {action: upsert, key: X-Region, from_context: x-region}]",
	})
	for _, signal := range harness.Signals() {
		var sent []harness.Sent
		for i, region := range regions {
			journal := harness.NewJournal(uint64(i) * itemsPerTenant)
			for _, client := range col.Clients(t, harness.Header{"x-region": {region}}) {
				sendSome(t.Context(), t, client, signal, journal, requests, items)
			}
			sent = append(sent, journal.Sent()...)
		}
		col.AwaitItems(t, int64(2*len(regions)*requests*items), signal, "delivered_items")
		ledger := backend.Ledger(signal)
		require.NoError(t, ledger.Check(sent), signal.Name())
		requireOwned(t, ledger.Delivered(),
			func(id uint64) string { return resourceTenantOf(id) + " " + regionOf(id) },
			func(owner string) harness.Header {
				tenant, region, _ := strings.Cut(owner, " ")
				return harness.Header{orgHeader: {tenant}, "x-region": {region}}
			})
	}
	col.Stop(t)
}

// routingText is a collector behind whose processor a routing connector sends the tenants
// in Chosen to a backend of their own.
var routingText = template.Must(template.New("").Parse(`
receivers:
  otlp:
    protocols:
      grpc: {endpoint: "127.0.0.1:${env:OTLP_GRPC_PORT}"}
      http: {endpoint: "127.0.0.1:${env:OTLP_HTTP_PORT}"}
processors:
  boundedbatch: {{.Processor}}
connectors:
{{- range $signal := .Signals}}
  routing/{{$signal.Name}}:
    default_pipelines: [{{$signal.Name}}/shared]
    table:
{{- range $.Chosen}}
      - {context: request, condition: 'request["tenant.id"] == "{{.}}"', pipelines: [{{$signal.Name}}/chosen]}
{{- end}}
{{- end}}
exporters:
  otlp_grpc/chosen: {endpoint: "{{.ChosenBackend.GRPCAddress}}", tls: {insecure: true}, sending_queue: {enabled: false}}
  otlp_grpc/shared: {endpoint: "{{.SharedBackend.GRPCAddress}}", tls: {insecure: true}, sending_queue: {enabled: false}}
service:
  pipelines:
{{- range .Signals}}
    {{.Name}}: {receivers: [otlp], processors: [boundedbatch], exporters: [routing/{{.Name}}]}
    {{.Name}}/chosen: {receivers: [routing/{{.Name}}], exporters: [otlp_grpc/chosen]}
    {{.Name}}/shared: {receivers: [routing/{{.Name}}], exporters: [otlp_grpc/shared]}
{{- end}}
  telemetry:
    metrics:
      readers: [pull: {exporter: {prometheus: {host: 127.0.0.1, port: "${env:METRICS_PORT}"}}}]
`))

// A routing connector behind the processor sees the tenant of a batch as it would see a
// client's header. It does not take profiles.
func TestRoutingConnectorSendsEachTenantsBatchesToItsBackend(t *testing.T) {
	const requests, items = 2, 3000 // of each signal and protocol
	chosen := []string{"tenant-3", "tenant-7", "tenant-8"}
	for _, tt := range []struct{ name, processor string }{
		{"not waiting", "{resource_keys: [tenant.id]}"},
		// The connector may change its data; so what may have to be sent again is copied.
		{"waiting", "{resource_keys: [tenant.id], wait_for_result: true}"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			forChosen, forOthers := harness.NewBackend(t), harness.NewBackend(t)
			var yaml strings.Builder
			require.NoError(t, routingText.Execute(&yaml, map[string]any{
				"Processor": tt.processor, "Signals": harness.StableSignals(), "Chosen": chosen,
				"ChosenBackend": forChosen, "SharedBackend": forOthers,
			}))
			col := harness.StartYAML(t, yaml.String())
			journals := make(map[harness.Signal]*harness.Journal)
			var sending sync.WaitGroup
			for _, signal := range harness.StableSignals() {
				journals[signal] = new(harness.Journal)
				for _, client := range col.Clients(t, nil) {
					sending.Go(func() { sendSome(t.Context(), t, client, signal, journals[signal], requests, items) })
				}
			}
			sending.Wait()
			for _, signal := range harness.StableSignals() {
				col.AwaitItems(t, 2*requests*items, signal, "delivered_items")
				toChosen, toOthers := divide(journals[signal].Sent(), func(id uint64) bool {
					return slices.Contains(chosen, resourceTenantOf(id))
				})
				require.NotEmpty(t, toChosen)
				require.NoError(t, forChosen.Ledger(signal).Check(toChosen), signal.Name())
				require.NoError(t, forOthers.Ledger(signal).Check(toOthers), signal.Name())
			}
			col.Stop(t)
		})
	}
}

// divide returns what was sent as requests of one item: those that which chooses, and the
// others.
func divide(sent []harness.Sent, which func(id uint64) bool) (chosen, others []harness.Sent) {
	for _, s := range sent {
		for i := range uint64(s.IDs.Items) {
			one := harness.Sent{IDs: harness.Range{First: s.IDs.First + i, Items: 1}, Outcome: s.Outcome}
			if which(one.IDs.First) {
				chosen = append(chosen, one)
			} else {
				others = append(others, one)
			}
		}
	}
	return chosen, others
}

// Three tenants whose exports are never answered, while their clients go on sending until
// they are blocked, leave room and export slots to all others: with default settings,
// every request of theirs is accepted and delivered.
func TestStuckTenantsLeaveRoomAndSlotsToAllOthers(t *testing.T) {
	const (
		organizations = 60
		requests      = 3 // of each that is not stuck, and protocol
		items         = 50
		largeRequest  = 3000 // of those that are
	)
	for _, signal := range harness.Signals() {
		t.Run(signal.Name(), func(t *testing.T) {
			t.Parallel()
			backend := harness.NewBackend(t)
			stuck, others := divideOrganizations(newOrganizations(organizations))
			backend.HoldIf(ofAny(stuck))
			col := harness.Start(t, harness.Config{
				Backend: backend, Processor: "{metadata_keys: [x-tenant]}", Headers: "[" + orgFrom("x-tenant") + "]",
			})
			stop := col.Watch(t, func(s harness.Scrape) error { return s.Bounds(signal) })

			ctx, cancel := context.WithCancel(t.Context())
			over := make(chan struct{})
			var sending sync.WaitGroup
			defer sending.Wait()
			defer cancel()
			for _, org := range stuck {
				for _, client := range col.Clients(t, org.header) {
					sending.Go(func() { sendUntil(ctx, t, over, client, signal, org.journal, largeRequest) })
				}
			}
			blocked := int64(2 * len(stuck))
			col.AwaitItems(t, blocked, signal, "waiting_callers")
			ledger := backend.Ledger(signal)
			awaitStuck(t, col, ledger, signal)

			sendPromptly(ctx, t, col, signal, others, requests, items)
			col.AwaitItems(t, int64(2*len(others)*requests*items), signal, "delivered_items")
			for _, b := range ledger.Delivered() {
				require.False(t, ofAny(stuck)(b), "a batch with items %v of a stuck tenant", b.IDs)
			}
			col.AwaitItems(t, blocked, signal, "waiting_callers")

			// And nothing of the stuck ones is lost when they are answered.
			close(over)
			backend.Accept()
			sending.Wait()
			col.AwaitItems(t, 0, signal, "held_items")
			stop()
			require.NoError(t, ledger.Check(append(allOf(stuck), allOf(others)...)))
			requireOwned(t, ledger.Delivered(), organizationOf, orgOnly)
			col.Stop(t)
		})
	}
}

// sendUntil makes requests until it is over. All of them must be acknowledged.
func sendUntil(
	ctx context.Context, t *testing.T, over <-chan struct{},
	client harness.Client, signal harness.Signal, journal *harness.Journal, items int,
) {
	t.Helper()
	for !t.Failed() {
		select {
		case <-over:
			return
		default:
			sendSome(ctx, t, client, signal, journal, 1, items)
		}
	}
}

// The same where clients wait for results: those of stuck tenants do, all others have
// their answers.
func TestClientsOfOtherTenantsHaveTheirResultsWhileSomeAreStuck(t *testing.T) {
	const (
		organizations = 30
		requests      = 3 // of each that is not stuck, and protocol
		callers       = 8 // of each that is, and protocol
		items         = 10
	)
	for _, signal := range harness.Signals() {
		t.Run(signal.Name(), func(t *testing.T) {
			t.Parallel()
			backend := harness.NewBackend(t)
			stuck, others := divideOrganizations(newOrganizations(organizations))
			backend.HoldIf(ofAny(stuck))
			col := harness.Start(t, harness.Config{
				Backend: backend, Headers: "[" + orgFrom("x-tenant") + "]",
				// Each request is sealed at once, and takes a slot if it may.
				Processor: fmt.Sprintf("{metadata_keys: [x-tenant], wait_for_result: true, send_batch_size: %d}", items),
			})
			ctx, cancel := context.WithCancel(t.Context())
			var waiting sync.WaitGroup
			defer waiting.Wait()
			defer cancel()
			for _, org := range stuck {
				for _, client := range col.Clients(t, org.header) {
					for range callers {
						waiting.Go(func() { sendSome(ctx, t, client, signal, org.journal, 1, items) })
					}
				}
			}
			col.AwaitItems(t, int64(2*len(stuck)*callers*items), signal, "held_items")
			ledger := backend.Ledger(signal)
			awaitStuck(t, col, ledger, signal)

			sendPromptly(ctx, t, col, signal, others, requests, items)
			assert.Empty(t, allOf(stuck), "answered requests of stuck tenants")

			backend.Accept()
			waiting.Wait()
			require.NoError(t, ledger.Check(append(allOf(stuck), allOf(others)...)))
			requireOwned(t, ledger.Delivered(), organizationOf, orgOnly)
			col.Stop(t)
		})
	}
}

// divideOrganizations returns three of the organizations, and the rest.
func divideOrganizations(orgs []organization) (three, rest []organization) {
	return orgs[1:4], append(orgs[:1:1], orgs[4:]...)
}

// ofAny tells whether a batch came with the header of one of the organizations.
func ofAny(orgs []organization) func(harness.Batch) bool {
	return func(b harness.Batch) bool {
		return slices.ContainsFunc(orgs, func(org organization) bool { return slices.Equal(b.Header[orgHeader], []string{org.name}) })
	}
}

// awaitStuck waits until all exports of stuck tenants have arrived at the backend. Requires
// that they get no further slots, and nobody else any.
func awaitStuck(t *testing.T, col *harness.Collector, ledger *harness.Ledger, signal harness.Signal) {
	t.Helper()
	const allSlots = 10 // max_concurrent_exports
	col.AwaitMetrics(t, func(s harness.Scrape) error {
		slots := s.Sum(signal, "exports_in_flight")
		if arrived := ledger.Waiting(); int64(arrived) != slots {
			return fmt.Errorf("%d of %d exports have arrived", arrived, slots)
		}
		t.Logf("the stuck tenants have %d slots and %d items", slots, s.Sum(signal, "held_items"))
		return nil
	})
	assert.Less(t, ledger.Waiting(), allSlots, "slots of the stuck tenants")
}

// sendPromptly makes requests of each organization over each protocol, all at the same
// time. All of them must be acknowledged soon.
func sendPromptly(
	ctx context.Context, t *testing.T, col *harness.Collector, signal harness.Signal, orgs []organization, requests, items int,
) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	var sending sync.WaitGroup
	for _, org := range orgs {
		for _, client := range col.Clients(t, org.header) {
			sending.Go(func() { sendSome(ctx, t, client, signal, org.journal, requests, items) })
		}
	}
	sending.Wait()
}

// A stuck tenant in a request holds up the sender, and none of the other tenants in it.
func TestStuckTenantsDoNotHoldUpOthersInTheSameRequest(t *testing.T) {
	const (
		senders = 3    // of each protocol
		items   = 2047 // of a request: the resources of all tenants
	)
	stuck := []string{"tenant-2", "tenant-11", "tenant-21"}
	isStuck := func(id uint64) bool { return slices.Contains(stuck, resourceTenantOf(id)) }
	for _, signal := range harness.Signals() {
		t.Run(signal.Name(), func(t *testing.T) {
			t.Parallel()
			backend := harness.NewBackend(t)
			backend.HoldIf(func(b harness.Batch) bool { return slices.ContainsFunc(b.IDs, isStuck) })
			col := harness.Start(t, harness.Config{
				Backend: backend, Headers: "[" + orgFrom(harness.TenantKey) + "]",
				Processor: "{resource_keys: [tenant.id], send_batch_size: 300, queue_size: 3000}",
			})
			stop := col.Watch(t, func(s harness.Scrape) error { return s.Bounds(signal) })

			ctx, cancel := context.WithCancel(t.Context())
			over := make(chan struct{})
			var journal harness.Journal
			var sending sync.WaitGroup
			defer sending.Wait()
			defer cancel()
			for range senders {
				for _, client := range col.Clients(t, nil) {
					sending.Go(func() { sendUntil(ctx, t, over, client, signal, &journal, items) })
				}
			}
			// All senders are blocked, and everything else in their requests has been delivered.
			col.AwaitMetrics(t, func(s harness.Scrape) error {
				others := int64(0)
				for id := range uint64(journal.Taken()) {
					if !isStuck(id) {
						others++
					}
				}
				waiting, delivered := s.Sum(signal, "waiting_callers"), s.Sum(signal, "delivered_items")
				if waiting < 2*senders || delivered != others {
					return fmt.Errorf("%d wait, for %d senders, and %d of %d items were delivered", waiting, 2*senders, delivered, others)
				}
				return nil
			})
			ledger := backend.Ledger(signal)
			for _, b := range ledger.Delivered() {
				require.False(t, slices.ContainsFunc(b.IDs, isStuck))
			}

			close(over)
			backend.Accept()
			sending.Wait()
			col.AwaitItems(t, 0, signal, "held_items")
			stop()
			require.NoError(t, ledger.Check(journal.Sent()))
			requireOwned(t, ledger.Delivered(), resourceTenantOf, orgOnly)
			col.Stop(t)
		})
	}
}
