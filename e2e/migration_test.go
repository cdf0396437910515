package e2e

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/template"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/boundedbatch/boundedbatchprocessor/e2e/internal/harness"
	"github.com/boundedbatch/boundedbatchprocessor/e2e/internal/migration"
)

// Renaming batch is the whole migration.
func TestValidateAcceptsTheConfigurationsOfBatchRenamed(t *testing.T) {
	for _, example := range migration.Examples() {
		for _, component := range []string{"batch", "boundedbatch"} {
			text, used := example.Of(component)
			t.Run(strings.Join(used, ","), func(t *testing.T) {
				t.Parallel()
				requireValid(t, collectorOf(text, used...))
			})
		}
	}
}

// exampleText is a collector around an example, whose processors are all in one pipeline.
// It takes the address of a backend, the processors' section and their names.
const exampleText = `
receivers:
  otlp:
    protocols:
      grpc: {endpoint: "127.0.0.1:${env:OTLP_GRPC_PORT}", include_metadata: true}
      http: {endpoint: "127.0.0.1:${env:OTLP_HTTP_PORT}", include_metadata: true}
exporters:
  otlp_grpc: {endpoint: %q, tls: {insecure: true}, sending_queue: {enabled: false}, retry_on_failure: {enabled: false}}
%s
service:
  pipelines:
    traces: {receivers: [otlp], processors: [%[3]s], exporters: [otlp_grpc]}
    logs: {receivers: [otlp], processors: [%[3]s], exporters: [otlp_grpc]}
    metrics: {receivers: [otlp], processors: [%[3]s], exporters: [otlp_grpc]}
  telemetry:
    metrics:
      readers: [pull: {exporter: {prometheus: {host: 127.0.0.1, port: "${env:METRICS_PORT}"}}}]
`

// The examples in the documentation of batch deliver with the name replaced what they
// deliver as they are.
func TestExamplesOfBatchWorkRenamed(t *testing.T) {
	for _, example := range migration.Examples() {
		for _, component := range []string{"batch", "boundedbatch"} {
			text, used := example.Of(component)
			t.Run(strings.Join(used, ","), func(t *testing.T) {
				t.Parallel()
				backend := harness.NewBackend(t)
				col := harness.StartYAML(t, fmt.Sprintf(exampleText, backend.GRPCAddress(), text, strings.Join(used, ", ")))
				for _, signal := range harness.StableSignals() {
					var journal harness.Journal
					for _, tenant := range []string{"a", "b"} {
						for _, client := range col.Clients(t, harness.Header{"tenant_id": {tenant}}) {
							for _, n := range []int{1, 250, 40} {
								ids := journal.Take(n)
								require.NoError(t, send(t.Context(), client, signal, ids))
								journal.Note(ids, harness.Acknowledged)
							}
						}
					}
					t.Cleanup(func() {
						assert.NoError(t, backend.Ledger(signal).Check(journal.Sent()), signal.Name())
					})
				}
				col.Stop(t) // the batches that wait for their timeout leave now
			})
		}
	}
}

// sideBySide is a collector in which everything goes through both processors, each with
// every one of the configurations, to a backend for each of the two.
var sideBySide = template.Must(template.New("").Funcs(template.FuncMap{"signals": harness.StableSignals}).Parse(`
receivers:
  otlp:
    protocols:
      grpc: {endpoint: "127.0.0.1:${env:OTLP_GRPC_PORT}", include_metadata: true}
      http: {endpoint: "127.0.0.1:${env:OTLP_HTTP_PORT}", include_metadata: true}
processors:
{{- range $i, $config := .Configs}}{{range $component, $_ := $.Backends}}
  {{$component}}/{{$i}}: {{$config}}
{{- end}}{{end}}
extensions:
  headers_setter: {headers: [{action: upsert, key: X-Seen, from_context: x-tenant, default_value: none}]}
exporters:
{{- range $i, $config := .Configs}}{{range $component, $backend := $.Backends}}
  otlp_grpc/{{$component}}_{{$i}}:
    endpoint: {{$backend.GRPCAddress}}
    headers: {X-Configuration: "{{$i}}"}
    auth: {authenticator: headers_setter}
    tls: {insecure: true}
    compression: none
    timeout: 0s
    sending_queue: {enabled: false}
    retry_on_failure: {enabled: false}
{{- end}}{{end}}
service:
  extensions: [headers_setter]
  pipelines:
{{- range signals}}{{$signal := .}}{{range $i, $config := $.Configs}}{{range $component, $_ := $.Backends}}
    {{$signal.Name}}/{{$component}}_{{$i}}:
      {receivers: [otlp], processors: [{{$component}}/{{$i}}], exporters: [otlp_grpc/{{$component}}_{{$i}}]}
{{- end}}{{end}}{{end}}
  telemetry:
    metrics:
      readers: [pull: {exporter: {prometheus: {host: 127.0.0.1, port: "${env:METRICS_PORT}"}}}]
`))

// side is a collector as of sideBySide with its backends, by the type of the processor.
type side struct {
	*harness.Collector
	Configs  []string
	Backends map[string]*harness.Backend
}

func startSideBySide(t *testing.T, configs []string) *side {
	t.Helper()
	s := &side{Configs: configs, Backends: map[string]*harness.Backend{
		"batch": harness.NewBackend(t), "boundedbatch": harness.NewBackend(t),
	}}
	var yaml strings.Builder
	require.NoError(t, sideBySide.Execute(&yaml, s))
	s.Collector = harness.StartYAML(t, yaml.String())
	return s
}

// delivered returns how often each item of a signal has arrived from a processor with each
// of the configurations. No batch may be larger than its configuration allows, and each
// has to come with the tenant of all its items, if they are kept apart.
func (s *side) delivered(t *testing.T, component string, signal harness.Signal) (perConfig []map[uint64]int) {
	t.Helper()
	for range s.Configs {
		perConfig = append(perConfig, make(map[uint64]int))
	}
	for _, b := range s.Backends[component].Ledger(signal).Delivered() {
		i, err := strconv.Atoi(b.Header["x-configuration"][0])
		require.NoError(t, err)
		config := s.Configs[i]
		if limit := number(config, "send_batch_max_size"); limit > 0 {
			require.LessOrEqual(t, len(b.IDs), limit, "%s: %s", component, config)
		}
		for _, id := range b.IDs {
			perConfig[i][id]++
			seen := []string{"none"}
			if tenant := lonelyTenants[id/itemsPerTenant]; tenant != nil && strings.Contains(strings.ToLower(config), "x-tenant") {
				seen = tenant["x-tenant"]
			}
			require.Equal(t, seen, b.Header["x-seen"], "tenant of item %d: %s: %s", id, component, config)
		}
	}
	return perConfig
}

// number returns the value of a key in a configuration; 0 if it is not there.
func number(config, key string) int {
	found := regexp.MustCompile(key + `: (\d+)`).FindStringSubmatch(config)
	if found == nil {
		return 0
	}
	n, _ := strconv.Atoi(found[1]) // digits
	return n
}

// lonelyTenants are those of tenants that a header can tell: that have one value or none.
var lonelyTenants = slices.DeleteFunc(slices.Clone(tenants), func(h harness.Header) bool { return len(h["x-tenant"]) > 1 })

// configurations returns those of the table that have a row, but for those that evict, or
// only these.
func configurations(evicting bool) (configs []string) {
	evicts := make(map[string]bool)
	for _, row := range migration.Rows() {
		evicts[row.Config] = evicts[row.Config] || row.Evicts()
	}
	for _, row := range migration.Rows() {
		if evicts[row.Config] == evicting && !slices.Contains(configs, row.Config) {
			configs = append(configs, row.Config)
		}
	}
	return configs
}

// once is that each item in the requests has arrived once.
func once(sent []harness.Sent) map[uint64]int {
	all := make(map[uint64]int)
	for _, s := range sent {
		for i := range uint64(s.IDs.Items) {
			all[s.IDs.First+i] = 1
		}
	}
	return all
}

// With every configuration of the table, each item that clients are sure of arrives once
// from boundedbatch, as it was sent, and the same from batch, which loses a part of
// some metrics.
func TestRenamedBatchDeliversTheSameItems(t *testing.T) {
	configs := configurations(false)
	require.Greater(t, len(configs), 40)
	s := startSideBySide(t, configs)
	journals := make(map[harness.Signal][]*harness.Journal)
	var sending sync.WaitGroup
	for _, signal := range harness.StableSignals() {
		for i, tenant := range lonelyTenants {
			journal := harness.NewJournal(uint64(i) * itemsPerTenant)
			journals[signal] = append(journals[signal], journal)
			for _, client := range s.Clients(t, tenant) {
				sending.Go(func() {
					for _, n := range []int{3, 0, 40, 1, 12} {
						ids := journal.Take(n)
						if err := send(t.Context(), client, signal, ids); err != nil {
							t.Errorf("tenant %v over %s: %v", tenant, client.Protocol(), err)
							return
						}
						journal.NoteAttempts(ids, harness.Acknowledged, len(configs)) // it arrives with each of them
					}
				})
			}
		}
	}
	sending.Wait()
	s.Stop(t) // what waits for its timeout leaves now
	for _, signal := range harness.StableSignals() {
		sent := allSent(journals[signal])
		require.NoError(t, s.Backends["boundedbatch"].Ledger(signal).Check(sent), signal.Name())
		if signal != harness.Metrics {
			require.NoError(t, s.Backends["batch"].Ledger(signal).Check(sent), signal.Name())
		}
		was, is := s.delivered(t, "batch", signal), s.delivered(t, "boundedbatch", signal)
		for i, config := range configs {
			require.Equal(t, once(sent), is[i], "boundedbatch: %s of %s", signal.Name(), config)
			require.Equal(t, was[i], is[i], "%s of %s", signal.Name(), config)
		}
	}
}

// Where batch refuses the tenants beyond metadata_cardinality_limit, boundedbatch delivers
// their items too.
func TestRenamedBatchRefusesNoTenant(t *testing.T) {
	configs := configurations(true)
	require.NotEmpty(t, configs)
	s := startSideBySide(t, configs)
	journals := make(map[harness.Signal][]*harness.Journal)
	for _, signal := range harness.StableSignals() {
		for i, tenant := range lonelyTenants {
			journal := harness.NewJournal(uint64(i) * itemsPerTenant)
			journals[signal] = append(journals[signal], journal)
			for _, client := range s.Clients(t, tenant) {
				ids := journal.Take(20)
				// The client hears of the refusals of all configurations.
				if err := send(t.Context(), client, signal, ids); slices.ContainsFunc(configs, func(config string) bool {
					return i >= number(config, "metadata_cardinality_limit")
				}) {
					require.ErrorContains(t, err, "too many batcher metadata-value combinations")
					assert.False(t, harness.Retryable(err), "%v", err)
				} else {
					require.NoError(t, err)
				}
				journal.NoteAttempts(ids, harness.Acknowledged, len(configs)) // by boundedbatch
			}
		}
	}
	s.Stop(t)
	for _, signal := range harness.StableSignals() {
		require.NoError(t, s.Backends["boundedbatch"].Ledger(signal).Check(allSent(journals[signal])), signal.Name())
		was, is := s.delivered(t, "batch", signal), s.delivered(t, "boundedbatch", signal)
		for i, config := range configs {
			known := journals[signal][:number(config, "metadata_cardinality_limit")]
			require.Equal(t, once(allSent(known)), was[i], "batch: %s of %s", signal.Name(), config)
			require.Equal(t, once(allSent(journals[signal])), is[i], "boundedbatch: %s of %s", signal.Name(), config)
		}
	}
}
