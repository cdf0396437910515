package compat

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/boundedbatch/boundedbatchprocessor/e2e/internal/migration"
)

var update = flag.Bool("update", false, "write docs/compatibility.md")

const (
	pagePath = "../../docs/compatibility.md"
	pageHead = `# Compatibility with batch

<!-- Written by go test -C e2e/compat -run TestPage . -update; what is changed by hand is lost. -->

Renaming ` + "`batch:` to `boundedbatch:`" + ` is the whole migration: the five keys of ` + "`batch`" + ` have the same names, defaults and
meaning. What is not the same, on purpose, is on this page. It is made of the tables that the tests in
[e2e/compat](../e2e/compat/doc.go) go through, with ` + "`batch` v0.164.0" + ` at the side of ` + "`boundedbatch`" + `. Each row is tried with traces,
logs and metrics; both get the same requests at the same instants, and these are compared:

- **answers**: what callers get, an error, a permanent one, or none; **waits**: how long they wait for it;
- **items**: which arrive, how often, and whether every field of them, of their resource, scope and metric is what was sent;
- **batches**: which items travel together; **instants**: when each item is handed to the next component;
- **order**: of the items of each tenant, where they are not handed on at the same instant;
- **metadata**: what the next component sees of callers; **shutdown**: how long it takes and whether it fails.

A row without an entry in the last column is the same in all of that. The tests fail where the two differ without an entry
here, and also where they do not although there is one. The same configurations are tried with a built Collector and real OTLP
traffic, and so are the examples in the documentation of ` + "`batch`" + `, renamed.

The keys that ` + "`batch`" + ` does not have are at their defaults. Three of these matter to whoever comes from there: at most 98304 items are
held (` + "`queue_size`" + `), ten exports are made at once (` + "`max_concurrent_exports`" + `), and a shutdown takes 30 seconds at most
(` + "`shutdown_timeout`" + `).
`
)

// page writes the tables down.
func page() string {
	var b strings.Builder
	b.WriteString(pageHead)

	used := make(map[*migration.Reason]bool)
	var traffics []*migration.Traffic
	var downstreams []*migration.Downstream
	b.WriteString("\n## Traffic\n\n| configuration | traffic | next component | what differs |\n|---|---|---|---|\n")
	known := make(map[any]bool)
	for _, row := range migration.Rows() {
		var differs []string
		for _, d := range row.Differs {
			used[d.Why] = true
			differs = append(differs, entry(d))
		}
		traffic := row.Traffic.Name
		if row.Signal != "" {
			traffic += " (" + row.Signal + " only)"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", row.Config, traffic, row.Downstream.Name, strings.Join(differs, "; "))
		if !known[row.Traffic] {
			traffics = append(traffics, row.Traffic)
		}
		if !known[row.Downstream] {
			downstreams = append(downstreams, row.Downstream)
		}
		known[row.Traffic], known[row.Downstream] = true, true
	}
	b.WriteString("\nThe traffic is:\n\n")
	for _, t := range traffics {
		fmt.Fprintf(&b, "- *%s*: %s\n", t.Name, t.Text)
	}
	b.WriteString("\nThe next component is:\n\n")
	for _, d := range downstreams {
		fmt.Fprintf(&b, "- *%s*: %s\n", d.Name, d.Text)
	}
	b.WriteString("\n## Why\n\n")
	reasons(&b, used)

	b.WriteString("\n## Configurations that are refused\n\n" +
		"| configuration | `batch` | `boundedbatch` | why they differ |\n|---|---|---|---|\n")
	clear(used)
	for _, s := range migration.Settings() {
		why := ""
		if s.Why != nil {
			used[s.Why] = true
			why = s.Why.Name
		}
		fmt.Fprintf(&b, "| `%s` | %v | %v | %s |\n", s.Config, s.Batch, s.BoundedBatch, why)
	}
	b.WriteString("\n")
	reasons(&b, used)
	return b.String()
}

// entry is a difference in the last column.
func entry(d migration.Difference) string {
	var in []string
	for _, aspect := range d.In {
		in = append(in, string(aspect))
	}
	text := strings.Join(in, ", ")
	if len(d.Of) > 0 {
		text += " of " + strings.Join(d.Of, " and ")
	}
	return text + ": *" + d.Why.Name + "*"
}

func reasons(b *strings.Builder, used map[*migration.Reason]bool) {
	for _, r := range migration.Reasons() {
		if used[r] {
			fmt.Fprintf(b, "- **%s**: %s\n", r.Name, r.Text)
		}
	}
}

// docs/compatibility.md is what the tables say.
func TestPageIsWhatTheTablesSay(t *testing.T) {
	if *update {
		require.NoError(t, os.WriteFile(pagePath, []byte(page()), 0o644))
	}
	is, err := os.ReadFile(pagePath)
	require.NoError(t, err)
	assert.Equal(t, page(), string(is), "run go test -C e2e/compat -run TestPage . -update")
}
