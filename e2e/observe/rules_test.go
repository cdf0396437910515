package observe

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

func readRulesFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dashboards, name))
	require.NoError(t, err)
	return string(text)
}

// readRules returns the names of all alerts and of all that is recorded.
func readRules(t *testing.T) (alerts, recordings []string) {
	t.Helper()
	var file struct {
		Groups []struct {
			Rules []struct{ Alert, Record string }
		}
	}
	require.NoError(t, yaml.Unmarshal([]byte(readRulesFile(t, "rules.yaml")), &file))
	for _, group := range file.Groups {
		for _, r := range group.Rules {
			if r.Alert != "" {
				alerts = append(alerts, r.Alert)
			} else {
				recordings = append(recordings, r.Record)
			}
		}
	}
	require.NotEmpty(t, alerts)
	require.NotEmpty(t, recordings)
	return alerts, recordings
}

// unitTest runs the unit tests of the rules on other rules, and returns what promtool has written and if they passed.
func unitTest(t *testing.T, rules string) (output string, passed bool) {
	t.Helper()
	binary, err := promtoolBinary()
	require.NoError(t, err)
	dir := t.TempDir()
	for name, text := range map[string]string{"rules.yaml": rules, "rules_test.yaml": readRulesFile(t, "rules_test.yaml")} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	check, err := exec.CommandContext(t.Context(), binary, "check", "rules", filepath.Join(dir, "rules.yaml")).CombinedOutput()
	require.NoError(t, err, "promtool check rules: %s", check)
	out, err := exec.CommandContext(t.Context(), binary, "test", "rules", filepath.Join(dir, "rules_test.yaml")).CombinedOutput()
	return string(out), err == nil
}

func TestRulesPassTheirUnitTests(t *testing.T) {
	t.Parallel()
	output, passed := unitTest(t, readRulesFile(t, "rules.yaml"))
	assert.True(t, passed, output)
}

// block matches a rule, without comments before the next one.
var block = regexp.MustCompile(`(?m)^      - (?:alert|record): .*\n(?:        .*\n)+`)

var (
	forTime   = regexp.MustCompile(`for: ([0-9]+)m`)
	threshold = regexp.MustCompile(` > ([0-9.]+)\n`)
	window    = regexp.MustCompile(`\[([0-9]+)m\]`)
)

// mutations returns an alert, or what is recorded, with one thing changed each.
func mutations(t *testing.T, rule string) (mutated []string) {
	t.Helper()
	// change replaces the first that the pattern finds.
	change := func(pattern *regexp.Regexp, to string) {
		require.Regexp(t, pattern, rule)
		mutated = append(mutated, strings.Replace(rule, pattern.FindString(rule), to, 1))
	}
	number := func(pattern *regexp.Regexp) float64 {
		found := pattern.FindStringSubmatch(rule)
		require.NotNil(t, found, "%s in %s", pattern, rule)
		value, err := strconv.ParseFloat(found[1], 64)
		require.NoError(t, err)
		return value
	}
	if strings.Contains(rule, "- record:") {
		if window.MatchString(rule) {
			change(window, fmt.Sprintf("[%gm]", number(window)+2))
			change(window, fmt.Sprintf("[%gm]", number(window)-2))
		}
		return mutated
	}
	change(forTime, fmt.Sprintf("for: %gm", number(forTime)+1))
	change(forTime, fmt.Sprintf("for: %gm", number(forTime)-1))
	if value := number(threshold); value > 0 {
		change(threshold, fmt.Sprintf(" > %g\n", value*1.3))
		change(threshold, fmt.Sprintf(" > %g\n", value*0.8))
	} else {
		change(threshold, " >= 0\n")
		change(threshold, " < 0\n")
	}
	return mutated
}

// TestUnitTestsNoticeChangedRules: a threshold, a time or a range that is not what it was fails a unit test of its alert. All
// alerts are changed at once, or all that is recorded, since promtool says which alerts fail.
func TestUnitTestsNoticeChangedRules(t *testing.T) {
	t.Parallel()
	rules := readRulesFile(t, "rules.yaml")
	alerts, recordings := readRules(t)
	blocks := block.FindAllString(rules, -1)
	require.Len(t, blocks, len(alerts)+len(recordings))

	alertOf := make(map[string]string) // by what is recorded for it
	for _, b := range blocks {
		if fields := strings.Fields(b); fields[1] == "alert:" {
			recorded, _, _ := strings.Cut(fields[4], "{")
			alertOf[recorded] = fields[2]
		}
	}
	require.Len(t, alertOf, len(alerts))

	changed := make(map[string]string)    // rules by kind of change
	expected := make(map[string][]string) // the alerts it changes
	for _, b := range blocks {
		kind, alert := strings.Fields(b)[1], strings.Fields(b)[2]
		if kind == "record:" {
			alert = alertOf[alert]
		}
		if alert == "" {
			continue // no alert is about what is recorded here
		}
		for i, mutated := range mutations(t, b) {
			key := fmt.Sprintf("%s %d", kind, i)
			if changed[key] == "" {
				changed[key] = rules
			}
			require.NotEqual(t, b, mutated)
			changed[key] = strings.Replace(changed[key], b, mutated, 1)
			expected[key] = append(expected[key], alert)
		}
	}
	require.Len(t, changed, 6)
	for key, text := range changed {
		output, passed := unitTest(t, text)
		assert.False(t, passed)
		for _, alert := range expected[key] {
			assert.Contains(t, output, "alertname: "+alert+",", "no unit test notices that it is changed (%s)", key)
		}
	}
}
