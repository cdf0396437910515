package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// beyondSchemas are the refused configurations of ../testdata/rejected that a schema cannot tell from good ones, and why.
var beyondSchemas = map[string]string{
	"duplicate_metadata_key.yaml":               "they differ in case",
	"max_below_default_size.yaml":               "depends on another key",
	"max_below_size.yaml":                       "depends on another key",
	"per_partition_above_all.yaml":              "depends on another key",
	"per_partition_above_default.yaml":          "depends on another key",
	"queue_below_default_size.yaml":             "depends on another key",
	"queue_below_size.yaml":                     "depends on another key",
	"retry_max_elapsed_time_below_initial.yaml": "depends on another key",
	"retry_max_interval_below_initial.yaml":     "depends on another key",
	"retry_multiplier_below_one.yaml":           "accepted while retries are off",
	"size_beyond_range_quoted.yaml":             "a pattern does not reckon",
	"size_beyond_range_with_unit.yaml":          "a pattern does not reckon",
	"size_fraction_of_a_byte.yaml":              "a pattern does not reckon",
	"zero_retry_initial_interval.yaml":          "accepted while retries are off",
}

// Editors are told by config.schema.json what the Collector will take: everything that is valid, and nothing of what is
// refused for a key by itself.
func TestSchemaTakesWhatTheCollectorTakes(t *testing.T) {
	ofCollector, ofProcessor := compileSchema(t, ""), compileSchema(t, "#/definitions/boundedbatch")

	examples, err := filepath.Glob("../examples/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, examples)
	for _, path := range examples {
		require.NoError(t, ofCollector.Validate(readYAML(t, path)), path)
	}
	require.NoError(t, ofProcessor.Validate(readYAML(t, "../testdata/config.yaml")), "every key that there is")
	for _, settings := range workingEdges {
		require.NoError(t, ofProcessor.Validate(parseYAML(t, []byte(settings))), settings)
	}

	rejected, err := filepath.Glob("../testdata/rejected/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, rejected)
	for _, path := range rejected {
		why, beyond := beyondSchemas[filepath.Base(path)]
		if err := ofProcessor.Validate(readYAML(t, path)); beyond {
			assert.NoError(t, err, "%s: %s, it says here", path, why)
		} else {
			assert.Error(t, err, path)
		}
	}

	for text, good := range map[string]bool{
		"processors: {boundedbatch/slow: {timeout: 1s}}":       true,
		"processors: {boundedbatch: , batch: {any: thing}}":    true,
		"processors: {boundedbatch: {queue_size: '${env:N}'}}": true,
		"processors: {boundedbatch/slow: {tiemout: 1s}}":       false,
		"processors: {boundedbatch: [timeout]}":                false,
	} {
		assert.Equal(t, good, ofCollector.Validate(parseYAML(t, []byte(text))) == nil, text)
	}
}

// compileSchema is config.schema.json, or what is in it at that place.
func compileSchema(t *testing.T, place string) *jsonschema.Schema {
	t.Helper()
	path, err := filepath.Abs("../config.schema.json")
	require.NoError(t, err)
	compiled, err := jsonschema.NewCompiler().Compile(path + place)
	require.NoError(t, err)
	return compiled
}

func readYAML(t *testing.T, path string) any {
	t.Helper()
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	return parseYAML(t, content)
}

// parseYAML is what a JSON parser would make of the same values. Of numbers that JSON does not have it makes their names.
func parseYAML(t *testing.T, content []byte) (value any) {
	t.Helper()
	var parsed any
	require.NoError(t, yaml.Unmarshal(content, &parsed))
	asJSON, err := json.Marshal(parsed)
	if unsupported := new(json.UnsupportedValueError); errors.As(err, &unsupported) {
		return unsupported.Str
	}
	require.NoError(t, err)
	value, err = jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
	require.NoError(t, err)
	return value
}
