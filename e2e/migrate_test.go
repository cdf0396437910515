package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/boundedbatch/boundedbatchprocessor/e2e/internal/harness"
)

const migrateCommand = "../cmd/boundedbatch-migrate"

// migrateTool builds boundedbatch-migrate.
func migrateTool(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "boundedbatch-migrate")
	build := exec.CommandContext(t.Context(), "go", "build", "-C", migrateCommand, "-buildvcs=false", "-o", path, ".")
	build.Env = append(os.Environ(), "GOWORK=off")
	output, err := build.CombinedOutput()
	require.NoError(t, err, "%s", output)
	return path
}

// migrated is what the command makes of a configuration.
func migrated(t *testing.T, tool, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	copied := filepath.Join(t.TempDir(), "config.yaml")
	require.NoError(t, os.WriteFile(copied, text, 0o600))
	output, err := exec.CommandContext(t.Context(), tool, "-w", copied).CombinedOutput()
	require.NoError(t, err, "%s", output)
	text, err = os.ReadFile(copied)
	require.NoError(t, err)
	return string(text)
}

// What boundedbatch-migrate makes of configurations of all shapes is valid for a Collector. So is what it is given,
// where this Collector can tell: it has batch, and no queuebatch.
func TestMigratedConfigurationsAreValid(t *testing.T) {
	tool := migrateTool(t)
	inputs, err := filepath.Glob(migrateCommand + "/testdata/*.in.yaml")
	require.NoError(t, err)
	validated := 0
	for _, path := range inputs {
		name := strings.TrimSuffix(filepath.Base(path), ".in.yaml")
		kind, _, _ := strings.Cut(name, "-")
		// foreign: in a larger file, or with components that this Collector does not have. The others have tests below.
		if kind == "foreign" || kind == "split" || kind == "invalid" {
			continue
		}
		validated++
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before, err := os.ReadFile(path)
			require.NoError(t, err)
			if !strings.Contains(string(before), "queuebatch") && name != "large-batches" {
				requireValid(t, string(before))
			}
			requireValid(t, migrated(t, tool, path))
		})
	}
	require.GreaterOrEqual(t, validated, 30)
}

// Two files that are one configuration, each migrated by itself.
func TestMigratedPartsFitTogether(t *testing.T) {
	tool := migrateTool(t)
	whole := "receivers: {otlp: {protocols: {grpc: }}}\nexporters: {nop: }\n" +
		migrated(t, tool, migrateCommand+"/testdata/split-processors.in.yaml") +
		migrated(t, tool, migrateCommand+"/testdata/split-pipelines.in.yaml")
	requireValid(t, whole)
}

// A key that batch or queuebatch would refuse is not lost: the Collector names it.
func TestMigratedMistakesAreNamed(t *testing.T) {
	tool := migrateTool(t)
	for processors, keys := range map[string][]string{
		"{batch: {send_batch_sise: 100}}": {"send_batch_sise"},
		"{queuebatch: {num_consumer: 4, batch: {min_sise: 10, partition: {metadata_key: a}}}}": {"num_consumer", "min_sise", "metadata_key"},
	} {
		path := filepath.Join(t.TempDir(), "config.yaml")
		require.NoError(t, os.WriteFile(path, []byte(collectorOf("processors: "+processors, processors[1:strings.Index(processors, ":")])), 0o600))
		status, output := harness.Validate(t, migrated(t, tool, path))
		assert.NotZero(t, status, processors)
		for _, key := range keys {
			assert.Contains(t, output, key)
		}
	}
}

// What docs/migrate.md shows of an exporter, before and after, is valid.
func TestDocumentedMigrationIsValid(t *testing.T) {
	text, err := os.ReadFile("../docs/migrate.md")
	require.NoError(t, err)
	blocks := strings.Split(string(text), "```yaml\n")[1:]
	require.Len(t, blocks, 2)
	for _, block := range blocks {
		block, _, _ = strings.Cut(block, "```")
		processors := "[]"
		if strings.Contains(block, "boundedbatch:") {
			processors = "[boundedbatch]"
		}
		requireValid(t, block+"receivers: {otlp: {protocols: {grpc: }}}\n"+
			"service: {pipelines: {traces: {receivers: [otlp], processors: "+processors+", exporters: [otlp_grpc]}}}\n")
	}
}

// The examples are migrated, and -check says so.
func TestExamplesNeedNoMigration(t *testing.T) {
	examples, err := filepath.Glob("../examples/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, examples)
	output, err := exec.CommandContext(t.Context(), migrateTool(t), append([]string{"-check", "-l"}, examples...)...).CombinedOutput()
	require.NoError(t, err, "%s", output)
	assert.Empty(t, string(output))
}
