package boundedbatchprocessor

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/confmap"
)

// runbooks is where a user who reads an alert finds docs/operating.md.
const runbooks = "https://github.com/boundedbatch/boundedbatchprocessor/blob/main/docs/operating.md#"

// rule is an alerting or a recording rule of Prometheus.
type rule struct {
	Alert       string            `mapstructure:"alert"`
	Record      string            `mapstructure:"record"`
	Expr        string            `mapstructure:"expr"`
	For         string            `mapstructure:"for"`
	Labels      map[string]string `mapstructure:"labels"`
	Annotations map[string]string `mapstructure:"annotations"`
}

// readRules returns the rules of dashboards/rules.yaml.
func readRules(t *testing.T) (alerts, recordings []rule) {
	t.Helper()
	retrieved, err := confmap.NewRetrievedFromYAML([]byte(readDoc(t, "dashboards/rules.yaml")))
	require.NoError(t, err)
	conf, err := retrieved.AsConf()
	require.NoError(t, err)
	var file struct {
		Groups []struct {
			Name  string `mapstructure:"name"`
			Rules []rule `mapstructure:"rules"`
		} `mapstructure:"groups"`
	}
	require.NoError(t, conf.Unmarshal(&file))
	for _, group := range file.Groups {
		for _, r := range group.Rules {
			if r.Alert != "" {
				alerts = append(alerts, r)
			} else {
				recordings = append(recordings, r)
			}
		}
	}
	require.NotEmpty(t, alerts)
	require.NotEmpty(t, recordings)
	return alerts, recordings
}

// TestEveryAlertTellsWhereAndWhatToDo: an alert names its Collector, processor and signal, and the cause where there are
// several, and leads to a section of docs/operating.md.
func TestEveryAlertTellsWhereAndWhatToDo(t *testing.T) {
	alerts, recordings := readRules(t)
	_, sections, _ := strings.Cut(readDoc(t, "docs/operating.md"), "\n## What to do when\n")
	recorded := make(map[string]string)
	for _, r := range recordings {
		assert.Regexp(t, `^boundedbatch:[a-z_]+:[a-z0-9_]+$`, r.Record)
		assert.NotContains(t, recorded, r.Record, "recorded twice")
		recorded[r.Record] = r.Expr
	}
	operand := regexp.MustCompile(`^(boundedbatch:[a-z0-9_:]+)(\{[^}]*\})? > [0-9.]+$`)
	for _, a := range alerts {
		said := operand.FindStringSubmatch(a.Expr)
		if !assert.NotNil(t, said, "%s compares something recorded with a number: %s", a.Alert, a.Expr) {
			continue
		}
		assert.Contains(t, recorded, said[1], "of what %s is", a.Alert)
		assert.Regexp(t, `^BoundedBatch[A-Z]`, a.Alert)
		assert.Regexp(t, `^[1-9][0-9]*m$`, a.For, a.Alert)
		assert.Contains(t, []string{"critical", "warning", "info"}, a.Labels["severity"], a.Alert)
		anchor, ours := strings.CutPrefix(a.Annotations["runbook_url"], runbooks)
		assert.True(t, ours, "runbook of %s", a.Alert)
		assert.Contains(t, anchors(sections), anchor, "runbook of %s", a.Alert)
		for _, label := range []string{"processor", "signal"} {
			assert.Contains(t, a.Annotations["summary"], "{{ $labels."+label+" }}", a.Alert)
		}
		for _, label := range []string{"processor", "signal", "instance"} {
			assert.Contains(t, a.Annotations["description"], "{{ $labels."+label+" }}", a.Alert)
		}
		byCause := regexp.MustCompile(`(failed|refused|dropped)_items`).MatchString(said[1])
		assert.Equal(t, byCause, strings.Contains(a.Annotations["summary"], "{{ $labels.cause }}"), a.Alert)
		assert.Contains(t, a.Annotations["description"], "$value", a.Alert)
	}
}

// TestOperatingAgreesWithAlerts reads the table under "Rules" (alert, severity, of what, above, for, then), and the line with
// which each section on what to do names its alerts.
func TestOperatingAgreesWithAlerts(t *testing.T) {
	alerts, _ := readRules(t)
	page := readDoc(t, "docs/operating.md")
	documented := make(map[string][]string)
	for _, row := range tableUnder(page, "## Rules") {
		require.Len(t, row, 6, row[0])
		documented[strings.Trim(row[0], "`")] = row[1:]
	}
	leadingTo := make(map[string][]string) // alerts by section
	for _, a := range alerts {
		_, threshold, _ := strings.Cut(a.Expr, " > ")
		anchor := strings.TrimPrefix(a.Annotations["runbook_url"], runbooks)
		leadingTo[anchor] = append(leadingTo[anchor], a.Alert)
		row := documented[a.Alert]
		delete(documented, a.Alert)
		if !assert.NotNil(t, row, "docs/operating.md does not list %s", a.Alert) {
			continue
		}
		assert.Equal(t, a.Labels["severity"], row[0], "severity of %s", a.Alert)
		assert.Equal(t, threshold, row[2], "threshold of %s", a.Alert)
		assert.Equal(t, a.For, row[3], "time of %s", a.Alert)
		assert.True(t, strings.HasSuffix(row[4], "](#"+anchor+")"), "%s leads to %s, and not as its row says to %s", a.Alert, anchor, row[4])
	}
	assert.Empty(t, documented, "there are no such alerts")

	_, sections, _ := strings.Cut(page, "\n## What to do when\n")
	name := regexp.MustCompile("`(BoundedBatch[A-Za-z]+)`")
	for section := range strings.SplitSeq(sections, "\n### ") {
		title, text, _ := strings.Cut(section, "\n\n")
		if strings.TrimSpace(title) == "" {
			continue // before the first
		}
		anchor := anchors("### " + title)[0]
		first, _, _ := strings.Cut(text, "\n")
		if title == "A process was killed" {
			assert.True(t, strings.HasPrefix(first, "No alert: "), title)
			continue
		}
		var named []string
		for _, found := range name.FindAllStringSubmatch(first, -1) {
			named = append(named, found[1])
		}
		assert.NotEmpty(t, named, "%q has no alert", title)
		assert.ElementsMatch(t, leadingTo[anchor], named, "alerts of %q", title)
	}
}

// gridPos is where a panel is, in columns of 24 and in rows.
type gridPos struct{ X, Y, W, H int }

// overlaps tells if two panels share a cell.
func (p gridPos) overlaps(o gridPos) bool {
	return p.X < o.X+o.W && o.X < p.X+p.W && p.Y < o.Y+o.H && o.Y < p.Y+p.H
}

// TestDashboardIsWhole checks what does not need Prometheus; every query is run by make observe-test.
func TestDashboardIsWhole(t *testing.T) {
	type source struct{ Type, UID string }
	var dashboard struct {
		Title, UID    string
		SchemaVersion int
		Panels        []struct {
			ID                       int
			Type, Title, Description string
			GridPos                  gridPos
			Datasource               source
			FieldConfig              struct{ Defaults struct{ Unit string } }
			Targets                  []struct {
				RefID, Expr string
				Datasource  source
			}
		}
		Templating struct {
			List []struct {
				Name, Type        string
				Query             any // a text, or an object
				Datasource        source
				Multi, IncludeAll bool
			}
		}
	}
	require.NoError(t, json.Unmarshal([]byte(readDoc(t, "dashboards/boundedbatch.json")), &dashboard))
	assert.NotEmpty(t, dashboard.Title)
	assert.NotEmpty(t, dashboard.UID, "what links to it")
	assert.Positive(t, dashboard.SchemaVersion)

	chosen := source{"prometheus", "${datasource}"}
	variables := make(map[string]bool)
	for _, v := range dashboard.Templating.List {
		variables[v.Name] = true
		if v.Name == "datasource" {
			assert.Equal(t, "datasource", v.Type)
			assert.Equal(t, "prometheus", v.Query)
			continue
		}
		assert.Equal(t, chosen, v.Datasource, "data source of $%s", v.Name)
		assert.True(t, v.Multi && v.IncludeAll, "$%s can be several and all", v.Name)
	}
	assert.Equal(t, map[string]bool{"datasource": true, "job": true, "instance": true, "processor": true, "signal": true}, variables)

	ids, titles, all := make(map[int]bool), make(map[string]bool), ""
	for i, p := range dashboard.Panels {
		assert.False(t, ids[p.ID], "two panels have the id %d", p.ID)
		assert.False(t, titles[p.Title], "two panels have the title %q", p.Title)
		ids[p.ID], titles[p.Title] = true, true
		assert.True(t, p.GridPos.W > 0 && p.GridPos.H > 0 && p.GridPos.X >= 0 && p.GridPos.X+p.GridPos.W <= 24, "place of %q", p.Title)
		for _, other := range dashboard.Panels[:i] {
			assert.False(t, p.GridPos.overlaps(other.GridPos), "%q and %q lie on each other", p.Title, other.Title)
		}
		if p.Type == "row" {
			continue
		}
		assert.NotEmpty(t, p.Description, "description of %q", p.Title)
		assert.NotEmpty(t, p.FieldConfig.Defaults.Unit, "unit of %q", p.Title)
		assert.Equal(t, chosen, p.Datasource, "data source of %q", p.Title)
		assert.NotEmpty(t, p.Targets, "queries of %q", p.Title)
		refs := make(map[string]bool)
		for _, target := range p.Targets {
			assert.False(t, refs[target.RefID], "two queries of %q are %s", p.Title, target.RefID)
			refs[target.RefID] = true
			assert.Equal(t, chosen, target.Datasource, "data source of %q", p.Title)
			all += target.Expr + "\n"
		}
	}
	metrics := metricNames(t)
	for _, name := range metrics {
		assert.Regexp(t, "otelcol_processor_boundedbatch_"+name+`(_bucket|_sum|_count)?\{`, all, "no panel shows it")
	}
	used := regexp.MustCompile(`otelcol_processor_boundedbatch_([a-z_]+?)(?:_bucket|_sum|_count)?[\[{)\s]`)
	for file, queries := range map[string]string{"the dashboard": all, "rules.yaml": readDoc(t, "dashboards/rules.yaml")} {
		found := used.FindAllStringSubmatch(queries, -1)
		assert.NotEmpty(t, found, file)
		for _, name := range found {
			assert.Contains(t, metrics, name[1], "%s asks for what is no metric", file)
		}
	}
}
