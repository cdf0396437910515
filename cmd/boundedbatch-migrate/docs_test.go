package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

const documentation = "../../docs/migrate.md"

// rowsUnder returns the first two cells of the first table under a heading, keys without their backticks.
func rowsUnder(t *testing.T, heading string) (rows [][2]string) {
	t.Helper()
	text, err := os.ReadFile(documentation)
	require.NoError(t, err)
	_, section, found := strings.Cut(string(text), "\n"+heading+"\n")
	require.True(t, found, heading)
	section, _, _ = strings.Cut(section, "\n## ")
	for line := range strings.Lines(section) {
		cells := strings.Split(line, "|")
		if len(cells) >= 4 && strings.Contains(cells[1], "`") {
			rows = append(rows, [2]string{strings.TrimSpace(cells[1]), strings.Trim(strings.TrimSpace(cells[2]), "`")})
		}
	}
	require.NotEmpty(t, rows, heading)
	return rows[1:] // its head
}

// TestDocumentationNamesEveryKeyOfBatch: all of them stay.
func TestDocumentationNamesEveryKeyOfBatch(t *testing.T) {
	var keys []string
	for _, row := range rowsUnder(t, "## From batch") {
		keys = append(keys, strings.Trim(row[0], "`"))
		assert.Equal(t, strings.Trim(row[0], "`"), row[1])
	}
	assert.Equal(t, batchKeys, keys)
}

// TestDocumentationSaysWhatBecomesOfQueueBatch: each row is migrated, with the sizer that it names. A key that is not in
// the table is unknown to the command.
func TestDocumentationSaysWhatBecomesOfQueueBatch(t *testing.T) {
	values := map[string]string{
		"wait_for_result": "true", "block_on_overflow": "true", "sizer": "items", "storage": "file_storage", "batch::sizer": "items",
		"batch::enabled": "true", "batch::flush_timeout": "1s", "batch::partition::idle_timeout": "1s", "batch::partition::metadata_keys": "[a]",
	}
	named := regexp.MustCompile("^`([a-z_:]+)`(?: \\(`([a-z:]+): ([a-z]+)`\\))?$")
	documented := make(map[string]bool)
	for _, row := range rowsUnder(t, "## From queuebatch") {
		match := named.FindStringSubmatch(row[0])
		require.NotNil(t, match, row[0])
		path, sizer, unit := match[1], match[2], match[3]
		documented[path] = true
		value := values[path]
		if value == "" {
			value = "9000"
		}
		settings := nest(path, value)
		switch sizer {
		case "sizer":
			settings = "{sizer: " + unit + ", " + settings[1:]
		case "batch::sizer":
			settings = "{batch: {sizer: " + unit + ", " + nest(strings.TrimPrefix(path, "batch::"), value)[1:] + "}"
		}
		m, result, err := migrate("f.yaml", "processors: {queuebatch: "+settings+"}\n", nil)
		require.NoError(t, err, settings)
		var is struct{ Processors map[string]map[string]any }
		require.NoError(t, yaml.Unmarshal([]byte(result), &is))
		want := make(map[string]any)
		if row[1] != "-" {
			want[row[1]] = decoded(value)
		} else {
			assert.True(t, said(m, path), "nothing was said about %s", path)
		}
		assert.Equal(t, want, is.Processors["boundedbatch"], row[0])
	}
	for _, key := range []string{
		"wait_for_result", "sizer", "queue_size", "block_on_overflow", "storage", "num_consumers", "batch::enabled", "batch::flush_timeout",
		"batch::sizer", "batch::min_size", "batch::max_size", "batch::partition::metadata_keys", "batch::partition::cache_size",
		"batch::partition::idle_timeout",
	} {
		assert.True(t, documented[key], "%s of queuebatch is not documented", key)
	}
}

// nest is a map in flow style that has a value under a path.
func nest(path, value string) string {
	keys := strings.Split(path, "::")
	return "{" + strings.Join(keys, ": {") + ": " + value + strings.Repeat("}", len(keys))
}

// TestDocumentationNamesEveryFlag, as the help does.
func TestDocumentationNamesEveryFlag(t *testing.T) {
	text, err := os.ReadFile(documentation)
	require.NoError(t, err)
	for _, flag := range []string{" -w ", " -check ", " -l ", " -at "} {
		assert.Contains(t, string(text), flag)
		assert.Contains(t, usage, strings.TrimSpace(flag))
	}
}
