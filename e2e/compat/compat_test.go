package compat

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/boundedbatch/boundedbatchprocessor/e2e/internal/migration"
)

// Whatever of a row is not the same for both has a reason in the table, and whatever has a
// reason is not the same.
func TestRenamedBatchDiffersOnlyWhereTheTableSaysWhy(t *testing.T) {
	for i, row := range migration.Rows() {
		name := fmt.Sprintf("%02d/%s/%s/%s", i+1, row.Config, row.Traffic.Name, row.Downstream.Name)
		t.Run(name+"/traces", func(t *testing.T) { testRow(t, traces, &row) })
		t.Run(name+"/logs", func(t *testing.T) { testRow(t, logs, &row) })
		t.Run(name+"/metrics", func(t *testing.T) { testRow(t, metrics, &row) })
	}
}

func testRow[T any](t *testing.T, s *signal[T], row *migration.Row) {
	t.Helper()
	if row.Signal != "" && row.Signal != s.Name() {
		return
	}
	t.Parallel()
	was, is := run(t, s, batch, row), run(t, s, boundedbatch, row)
	assert.Empty(t, is.altered, "items that boundedbatch has altered")
	found := differences(was, is, s.ordered())
	for _, in := range migration.Aspects() {
		difference, differs := found[in]
		reason := row.Reason(in, s.Name())
		switch {
		case differs && reason == nil:
			assert.Fail(t, "the two differ without a reason", "%s:\n%s", in, difference)
		case !differs && reason != nil && (reason.CPUs == 0 || runtime.NumCPU() <= reason.CPUs):
			assert.Fail(t, "the table has a reason for a difference that is not there", "%s: %s", in, reason.Why.Name)
		}
	}
}

// A row that nobody can tell apart would prove nothing if nothing arrived.
func TestTableHasFortyConfigurationsAndTraffic(t *testing.T) {
	configs := make(map[string]bool)
	used := make(map[*migration.Reason]bool)
	for _, row := range migration.Rows() {
		configs[row.Config] = true
		assert.NotEmpty(t, row.Traffic.Requests)
		for _, d := range row.Differs {
			used[d.Why] = true
			assert.NotEmpty(t, d.In)
		}
	}
	for _, s := range migration.Settings() {
		used[s.Why] = true
	}
	assert.GreaterOrEqual(t, len(configs), 40)
	for _, reason := range migration.Reasons() {
		assert.True(t, used[reason], "no row has the reason %q", reason.Name)
		delete(used, reason)
	}
	delete(used, nil)
	assert.Empty(t, used, "reasons that are not in the list")
}
