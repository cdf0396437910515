package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/boundedbatch/boundedbatchprocessor/e2e/internal/harness"
)

// collectorOf is a complete configuration around a section of processors, all of which
// are used by one pipeline.
func collectorOf(processors string, used ...string) string {
	return fmt.Sprintf(`
receivers: {otlp: {protocols: {grpc: {}}}}
exporters: {nop: {}}
%s
service:
  pipelines:
    traces: {receivers: [otlp], processors: [%s], exporters: [nop]}
`, processors, strings.Join(used, ", "))
}

// refusal is a bad configuration of the processor and what its refusal must name.
type refusal struct {
	settings string
	names    []string
}

func testRefusals(t *testing.T, refusals []refusal) {
	t.Helper()
	for _, tt := range refusals {
		t.Run(tt.settings, func(t *testing.T) {
			t.Parallel()
			status, output := harness.Validate(t, collectorOf("processors: {boundedbatch: "+tt.settings+"}", "boundedbatch"))
			assert.NotZero(t, status, "exit status")
			for _, name := range tt.names {
				assert.Contains(t, output, name)
			}
			assert.NotContains(t, output, "panic")
		})
	}
}

func TestValidateRefusesWhatCannotWork(t *testing.T) {
	testRefusals(t, []refusal{
		{"{timeout: -1s}", []string{"timeout: -1s ", "accepted are 0 and more"}},
		{"{send_batch_size: -1}", []string{"send_batch_size: -1 ", "accepted are 0 and more"}},
		{"{send_batch_max_size: -1}", []string{"send_batch_max_size: -1 ", "accepted are 0 (no limit)", "8192 or more"}},
		{"{send_batch_max_size: 8191}", []string{"send_batch_max_size: 8191 ", "accepted are 0 (no limit)", "8192 or more"}},
		{
			"{send_batch_size: 100, send_batch_max_size: 99}",
			[]string{"send_batch_max_size: 99 ", "send_batch_size (100)", "accepted are 0 (no limit)", "100 or more"},
		},
		{"{send_batch_max_bytes: -1}", []string{"send_batch_max_bytes: -1 ", "accepted are 0 (no limit)"}},
		{"{memory_limit: -1}", []string{"memory_limit: -1 ", "accepted are 0 (no limit)"}},
		{"{metadata_cardinality_limit: -1}", []string{"metadata_cardinality_limit: -1 ", "accepted are 0 (no limit)"}},
		{"{queue_size: -1}", []string{"queue_size: -1 ", "accepted are 8192"}},
		{"{queue_size: 0}", []string{"queue_size: 0 ", "accepted are 8192"}},
		{"{send_batch_size: 0, queue_size: 0}", []string{"queue_size: 0 ", "accepted are 1"}},
		{"{queue_size: 8191}", []string{"queue_size: 8191 ", "accepted are 8192", "send_batch_size"}},
		{"{send_batch_size: 100000}", []string{"queue_size: 98304 ", "accepted are 100000", "send_batch_size"}},
		{"{max_concurrent_exports: 0}", []string{"max_concurrent_exports: 0 ", "accepted are 1"}},
		{"{max_concurrent_exports: -3}", []string{"max_concurrent_exports: -3 ", "accepted are 1"}},
		{
			"{max_concurrent_exports_per_partition: -1}",
			[]string{"max_concurrent_exports_per_partition: -1 ", "accepted are 0"},
		},
		{
			"{max_concurrent_exports: 2, max_concurrent_exports_per_partition: 3}",
			[]string{"max_concurrent_exports_per_partition: 3 ", "accepted are 0", "max_concurrent_exports (2)"},
		},
		{"{export_timeout: -1ms}", []string{"export_timeout: -1ms ", "accepted are 0"}},
		{
			"{retry_on_failure: {enabled: true, initial_interval: 0s}}",
			[]string{"retry_on_failure::initial_interval: 0s ", "accepted is more than 0"},
		},
		{
			"{retry_on_failure: {enabled: true, initial_interval: 10s, max_interval: 1s}}",
			[]string{"retry_on_failure::max_interval: 1s ", "initial_interval (10s)", "accepted are 10s and more"},
		},
		{
			"{retry_on_failure: {enabled: true, multiplier: 0.5}}",
			[]string{"retry_on_failure::multiplier: 0.5 ", "accepted are 1 and more"},
		},
		{
			"{retry_on_failure: {enabled: true, randomization_factor: 2}}",
			[]string{"retry_on_failure::randomization_factor: 2 ", "accepted are 0 to 1"},
		},
		{
			"{retry_on_failure: {enabled: true, max_elapsed_time: 1s}}",
			[]string{"retry_on_failure::max_elapsed_time: 1s ", "initial_interval (5s)", "accepted are 0 (no limit)", "5s or more"},
		},
		{"{retry_on_failure: {initial_interval: -1s}}", []string{"retry_on_failure::initial_interval: -1s ", "accepted are 0 and more"}},
		{"{shutdown_timeout: -2m}", []string{"shutdown_timeout: -2m", "accepted are 0"}},
		{"{metadata_keys: [tenant, other, Tenant]}", []string{"metadata_keys::2", `"Tenant"`, "accepted is each key once"}},
		{`{metadata_keys: [tenant, ""]}`, []string{"metadata_keys::1", "empty", "accepted are"}},
		{`{resource_keys: [""]}`, []string{"resource_keys::0", "empty", "accepted are"}},
		{
			"{metadata_keys: [tenant], resource_keys: [service.name, Tenant]}",
			[]string{"resource_keys::1", `"Tenant"`, "metadata_keys::0", "accepted is each key once"},
		},
		// All mistakes are told at once.
		{
			"{timeout: -1s, queue_size: -7, metadata_keys: [a, a]}",
			[]string{"timeout: -1s ", "queue_size: -7 ", `"a"`},
		},
	})
}

// A value of a wrong type is named as it was written, with its key and what would be
// accepted. None is taken for something else: 1.5 items are not 1, and 5 of no unit
// are not 5ns.
func TestValidateRefusesWrongTypes(t *testing.T) {
	testRefusals(t, []refusal{
		{"{timeout: soon}", []string{"timeout", "soon", "accepted"}},
		{"{timeout: 5}", []string{"timeout", "5", "accepted"}},
		{"{timeout: true}", []string{"timeout", "true", "accepted"}},
		{"{send_batch_size: many}", []string{"send_batch_size", "many", "accepted"}},
		{`{send_batch_size: "100"}`, []string{"send_batch_size", "100", "accepted"}},
		{"{send_batch_size: 1.5}", []string{"send_batch_size", "1.5", "accepted"}},
		{"{send_batch_size: [1]}", []string{"send_batch_size", "[1]", "accepted"}},
		{"{queue_size: 1GiB}", []string{"queue_size", "1GiB", "accepted"}},
		{"{send_batch_max_bytes: 4M}", []string{"send_batch_max_bytes", "4M", "accepted", "MiB"}},
		{"{memory_limit: 80%}", []string{"memory_limit", "80%", "accepted"}},
		{"{memory_limit: 0.3KiB}", []string{"memory_limit", "0.3KiB", "accepted"}},
		{"{memory_limit: 1.0e+30}", []string{"memory_limit", "1e+30", "accepted"}},
		{"{memory_limit: true}", []string{"memory_limit", "true", "accepted"}},
		// More than fits into an integer: YAML reads the first as unsigned, the second as a float.
		{"{queue_size: 10000000000000000000}", []string{"queue_size", "10000000000000000000", "accepted"}},
		{"{queue_size: 1.0e+30}", []string{"queue_size", "1e+30", "accepted"}},
		{"{block_on_overflow: 1}", []string{"block_on_overflow", "1", "accepted"}},
		{`{block_on_overflow: "yes"}`, []string{"block_on_overflow", "yes", "accepted"}},
		{"{wait_for_result: 1}", []string{"wait_for_result", "1", "accepted"}},
		{`{flush_when_idle: "no"}`, []string{"flush_when_idle", "no", "accepted"}},
		{"{merge_resources: 1}", []string{"merge_resources", "1", "accepted"}},
		{"{retry_on_failure: true}", []string{"retry_on_failure", "true", "accepted"}},
		{"{retry_on_failure: {initial_interval: 5}}", []string{"retry_on_failure::initial_interval", "5", "accepted"}},
		{"{retry_on_failure: {multiplier: fast}}", []string{"retry_on_failure::multiplier", "fast", "accepted"}},
		{"{metadata_keys: [17]}", []string{"metadata_keys", "17", "accepted"}},
		{"{metadata_keys: {tenant: x}}", []string{"metadata_keys", "tenant", "accepted"}},
		{"{resource_keys: [true]}", []string{"resource_keys", "true", "accepted"}},
		{"{resource_keys: {service: name}}", []string{"resource_keys", "service", "accepted"}},
		{"{max_concurrent_exports: all}", []string{"max_concurrent_exports", "all", "accepted"}},
	})
}

// Unknown keys, misspelt or not built yet, are not ignored. The Collector itself
// refuses what is no map of settings at all.
func TestValidateRefusesUnknownKeys(t *testing.T) {
	testRefusals(t, []refusal{
		{"{send_batch_sise: 100}", []string{"boundedbatch", "send_batch_sise"}},
		{"{num_consumers: 10}", []string{"boundedbatch", "num_consumers"}},
		{"{limit_mib: 512}", []string{"boundedbatch", "limit_mib", "memory_limit"}},
		{"{retry_on_failure: {num_retries: 3}}", []string{"boundedbatch", "retry_on_failure::num_retries", "max_elapsed_time"}},
		{"{merge_resource: true}", []string{"boundedbatch", "merge_resource", "merge_resources"}},
		{"[timeout]", []string{"boundedbatch"}},
		{"quickly", []string{"boundedbatch"}},
	})
}

// workingEdges are settings at the edge of what works.
var workingEdges = []string{
	"",
	"{}",
	"{timeout: 0s, send_batch_size: 0, metadata_cardinality_limit: 0, export_timeout: 0s, shutdown_timeout: 0s}",
	"{send_batch_size: 0, queue_size: 1, max_concurrent_exports: 1, max_concurrent_exports_per_partition: 1}",
	"{send_batch_size: 100, send_batch_max_size: 100, queue_size: 100}",
	"{send_batch_max_size: 0}",
	"{send_batch_max_bytes: 0, memory_limit: 0}",
	"{send_batch_max_bytes: 1, memory_limit: 1}",
	`{send_batch_max_bytes: 4194304, memory_limit: "1073741824"}`,
	`{send_batch_max_bytes: 4MiB, memory_limit: "1.5 GiB"}`,
	"{metadata_keys: [], resource_keys: []}",
	"{metadata_keys: [x-tenant], resource_keys: [tenant.id, Tenant]}",
	"{wait_for_result: true, flush_when_idle: false}",
	"{merge_resources: true, resource_keys: [tenant.id], send_batch_max_bytes: 4MB}",
	"{flush_when_idle: , retry_on_failure: }",
	"{retry_on_failure: {enabled: true, initial_interval: 1ms, max_interval: 1ms, max_elapsed_time: 0s}}",
	"{retry_on_failure: {enabled: true, multiplier: 1, randomization_factor: 0, max_elapsed_time: 5s}}",
	"{metadata_keys: [tenant, x-tenant], block_on_overflow: false, export_timeout: 5s, shutdown_timeout: 1m}",
}

func TestValidateAcceptsTheEdgesOfWhatWorks(t *testing.T) {
	for _, settings := range workingEdges {
		t.Run(settings, func(t *testing.T) {
			t.Parallel()
			requireValid(t, collectorOf("processors: {boundedbatch: "+settings+"}", "boundedbatch"))
		})
	}
}

func requireValid(t *testing.T, yaml string) {
	t.Helper()
	status, output := harness.Validate(t, yaml)
	require.Zero(t, status, output)
}
