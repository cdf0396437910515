package observe

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"text/template"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// adapterQuery is what prometheus-adapter asks Prometheus with the example's configuration, for two pods.
func adapterQuery(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../examples/scale-out/kubernetes/prometheus-adapter.yaml")
	require.NoError(t, err)
	var adapter struct {
		Rules struct {
			Custom []struct {
				MetricsQuery string `yaml:"metricsQuery"`
			} `yaml:"custom"`
		} `yaml:"rules"`
	}
	require.NoError(t, yaml.Unmarshal(text, &adapter))
	require.Len(t, adapter.Rules.Custom, 1)
	query, err := template.New("").Delims("<<", ">>").Parse(adapter.Rules.Custom[0].MetricsQuery)
	require.NoError(t, err)
	var asked strings.Builder
	require.NoError(t, query.Execute(&asked, map[string]string{
		"GroupBy": "pod", "LabelMatchers": `namespace="observability",pod=~"gateway-a|gateway-b"`,
	}))
	return asked.String()
}

// testAdapterQuery has promtool evaluate a query and returns what it has written, and if the values are as they should be.
func testAdapterQuery(t *testing.T, query string) (output string, passed bool) {
	t.Helper()
	type object map[string]any
	series := func(name, pod, signal, more, value string) object {
		return object{
			"series": fmt.Sprintf(`otelcol_processor_boundedbatch_%s{namespace="observability",pod=%q,signal=%q%s}`, name, pod, signal, more),
			"values": value,
		}
	}
	const pending, inFlight = `,state="pending"`, `,state="in_flight"`
	text, err := yaml.Marshal(object{"tests": []object{{
		"input_series": []object{
			series("held_items", "gateway-a", "logs", pending, "100"), series("capacity_items", "gateway-a", "logs", "", "1000"),
			series("held_bytes", "gateway-a", "logs", "", "750"), series("capacity_bytes", "gateway-a", "logs", "", "1000"),
			series("held_items", "gateway-b", "traces", pending, "200"), series("held_items", "gateway-b", "traces", inFlight, "300"),
			series("capacity_items", "gateway-b", "traces", "", "1000"),
			series("held_items", "gateway-b", "logs", inFlight, "300"), series("capacity_items", "gateway-b", "logs", "", "1000"),
			series("held_items", "other", "logs", inFlight, "900"), series("capacity_items", "other", "logs", "", "1000"),
		},
		"promql_expr_test": []object{{
			"expr": query, "eval_time": "0m",
			"exp_samples": []object{
				{"labels": `{pod="gateway-a"}`, "value": 0.75}, // bytes of logs
				{"labels": `{pod="gateway-b"}`, "value": 0.5},  // items of traces, in two states
			},
		}},
	}}})
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "adapter_test.yaml")
	require.NoError(t, os.WriteFile(path, text, 0o600))
	binary, err := promtoolBinary()
	require.NoError(t, err)
	out, err := exec.CommandContext(t.Context(), binary, "test", "rules", path).CombinedOutput()
	return string(out), err == nil
}

// What the autoscaler is told of a pod is the fuller of items and bytes, of its fullest pipeline.
func TestAdapterTellsHowFullAPodIs(t *testing.T) {
	t.Parallel()
	query := adapterQuery(t)
	output, passed := testAdapterQuery(t, query)
	assert.True(t, passed, output)
	for _, change := range [][2]string{
		{"max by", "min by"},
		{`"of", "bytes"`, `"of", "items"`},
		{"sum without (state)", "max without (state)"},
		{"capacity_bytes", "held_bytes"},
	} {
		require.Contains(t, query, change[0])
		_, passed := testAdapterQuery(t, strings.ReplaceAll(query, change[0], change[1]))
		assert.False(t, passed, "%s instead of %s passes", change[1], change[0])
	}
}
