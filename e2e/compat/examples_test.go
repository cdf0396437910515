package compat

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/confmap"

	"github.com/boundedbatch/boundedbatchprocessor/e2e/internal/migration"
)

var yamlBlock = regexp.MustCompile("(?s)```yaml\n(.*?)```")

// The examples that are tried are those that the documentation of batch has, all of them
// and as they are there.
func TestExamplesAreThoseOfBatch(t *testing.T) {
	dir := moduleOfBatch(t)
	readme, err := os.ReadFile(filepath.Join(dir, "README.md"))
	require.NoError(t, err)
	var documented []string
	for _, block := range yamlBlock.FindAllSubmatch(readme, -1) {
		documented = append(documented, string(block[1]))
	}
	// The file that the README refers to has the settings alone.
	file, err := os.ReadFile(filepath.Join(dir, "testdata", "config.yaml"))
	require.NoError(t, err)
	text := "processors:\n  batch:\n"
	for line := range strings.Lines(string(file)) {
		text += "    " + line
	}
	documented = append(documented, text)

	var tried []string
	for _, e := range migration.Examples() {
		tried = append(tried, e.Text)
	}
	assert.Equal(t, documented, tried)
}

// moduleOfBatch returns where the module of batch is, in the version that is compared.
func moduleOfBatch(t *testing.T) string {
	t.Helper()
	const module = "go.opentelemetry.io/collector/processor/batchprocessor"
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	require.NoError(t, err)
	return strings.TrimSpace(string(out))
}

// What an example says is a row of the table, so that its traffic is compared.
func TestExamplesAreInTheTable(t *testing.T) {
	rows := make(map[string]bool)
	for _, row := range migration.Rows() {
		cfg, err := configure(batch, row.Config)
		require.NoError(t, err)
		rows[shared(cfg)] = true
	}
	for _, e := range migration.Examples() {
		retrieved, err := confmap.NewRetrievedFromYAML([]byte(e.Text))
		require.NoError(t, err)
		conf, err := retrieved.AsConf()
		require.NoError(t, err)
		for _, name := range e.Used {
			key := "processors::batch" + name
			require.True(t, conf.IsSet(key), "%s in\n%s", key, e.Text)
			settings := confmap.New()
			if conf.Get(key) != nil {
				settings, err = conf.Sub(key)
				require.NoError(t, err)
			}
			cfg := batch.CreateDefaultConfig()
			require.NoError(t, settings.Unmarshal(cfg))
			assert.True(t, rows[shared(cfg)], "%s in\n%s", fmt.Sprint(key), e.Text)
		}
	}
}
