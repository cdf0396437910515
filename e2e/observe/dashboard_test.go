package observe

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// dashboard is of dashboards/boundedbatch.json what is asked of Prometheus.
type dashboard struct {
	Panels []struct {
		Title       string
		Targets     []struct{ Expr, LegendFormat string }
		FieldConfig struct {
			Defaults struct {
				Unit string
				Max  *float64
			}
		}
	}
	Templating struct {
		List []struct{ Name, Type, Definition string }
	}
}

// labelValues is how Grafana asks for the values of a label.
var labelValues = regexp.MustCompile(`^label_values\((.*), ([a-z]+)\)$`)

// inLegend is how a legend names a label.
var inLegend = regexp.MustCompile(`{{(\w+)}}`)

// requireDashboardShows runs every query of the dashboard. All faults have happened since began: each query must have something
// to show that is not 0, and nothing of what a variable does not select.
func requireDashboardShows(t *testing.T, p *prometheus, began time.Time) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dashboards, "boundedbatch.json"))
	require.NoError(t, err)
	var d dashboard
	require.NoError(t, json.Unmarshal(text, &d))

	selected := map[string]string{
		"__rate_interval": "5s", "__range": fmt.Sprintf("%ds", int(time.Since(began).Seconds())+1),
	}
	var variables []string
	for _, v := range d.Templating.List {
		if v.Type == "query" {
			variables = append(variables, v.Name)
			selected[v.Name] = ".*" // All
		}
	}
	require.NotEmpty(t, variables)
	// expand returns an expression with the variables as selected, but for one.
	expand := func(expr string, but ...string) string {
		for name, value := range selected {
			if len(but) > 0 && name == but[0] {
				value = but[1]
			}
			expr = strings.ReplaceAll(expr, "$"+name, value)
		}
		require.NotContains(t, expr, "$", "a variable that is not defined")
		return expr
	}

	for _, v := range d.Templating.List {
		if v.Type != "query" {
			continue
		}
		parts := labelValues.FindStringSubmatch(v.Definition)
		if !assert.NotNil(t, parts, "query of the variable %s: %s", v.Name, v.Definition) {
			continue
		}
		assert.Equal(t, v.Name, parts[2])
		found, err := p.queryRange(t.Context(), expand(parts[1]), began)
		require.NoError(t, err)
		if assert.NotEmpty(t, found, "values of the variable %s", v.Name) {
			assert.NotEmpty(t, found[0].Labels[parts[2]], "values of the variable %s", v.Name)
		}
	}

	queries := 0
	for _, panel := range d.Panels {
		for _, target := range panel.Targets {
			queries++
			found, err := p.queryRange(t.Context(), expand(target.Expr), began)
			require.NoError(t, err, "panel %q: %s", panel.Title, target.Expr)
			assert.True(t, shows(found), "panel %q has shown nothing but 0: %s", panel.Title, target.Expr)
			for _, label := range inLegend.FindAllStringSubmatch(target.LegendFormat, -1) {
				for _, s := range found {
					assert.NotEmpty(t, s.Labels[label[1]], "panel %q has no %s for its legend: %s", panel.Title, label[1], target.Expr)
				}
			}
			if limit := panel.FieldConfig.Defaults.Max; limit != nil { // a part of a limit, which was nearly reached
				assert.LessOrEqual(t, largest(found), *limit, "panel %q: %s", panel.Title, target.Expr)
				assert.Greater(t, largest(found), 0.9**limit, "panel %q: %s", panel.Title, target.Expr)
			}
			for _, name := range variables {
				found, err := p.queryRange(t.Context(), expand(target.Expr, name, "another"), began)
				require.NoError(t, err)
				assert.Empty(t, found, "panel %q does not heed $%s: %s", panel.Title, name, target.Expr)
			}
			// A collector without any fault has everything but alerts and callers that wait.
			if strings.Contains(target.Expr, "ALERTS") || strings.Contains(target.Expr, "admission_wait") {
				continue
			}
			found, err = p.queryRange(t.Context(), expand(target.Expr, "instance", healthyName), began)
			require.NoError(t, err)
			assert.NotEmpty(t, found, "panel %q is empty for a collector without faults: %s", panel.Title, target.Expr)
		}
	}
	assert.Greater(t, queries, 30)
}
