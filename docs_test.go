package boundedbatchprocessor

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/confmap"
)

// typeNames are the words of the README for the types of the configuration.
var typeNames = map[reflect.Type]string{
	reflect.TypeFor[time.Duration](): "duration",
	reflect.TypeFor[int]():           "int",
	reflect.TypeFor[ByteSize]():      "size",
	reflect.TypeFor[float64]():       "float",
	reflect.TypeFor[bool]():          "bool",
	reflect.TypeFor[*bool]():         "bool",
	reflect.TypeFor[[]string]():      "list of strings",
}

// TestReadmeDocumentsEveryKeyWithItsDefault reads the table under "Configuration":
// the key in backticks, the default, the type, the unit, the effect.
func TestReadmeDocumentsEveryKeyWithItsDefault(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	documented := make(map[string][]string)
	for _, row := range tableUnder(string(readme), "## Configuration") {
		key := strings.Trim(row[0], "`")
		require.Equal(t, "`"+key+"`", row[0], "the first column is a key in backticks")
		require.NotContains(t, documented, key, "documented twice")
		documented[key] = row[1:]
	}
	require.NotEmpty(t, documented, "README.md has no table under ## Configuration")

	defaults := createDefaultConfig().(*Config)
	for key, field := range keys() {
		columns, found := documented[key]
		if !assert.True(t, found, "%s is not documented", key) {
			continue
		}
		require.Len(t, columns, 4, "default, type, unit and effect of %s", key)
		for i, column := range []string{"default", "type", "unit", "effect"} {
			assert.NotEmpty(t, columns[i], "%s of %s", column, key)
		}

		assert.Equal(t, typeNames[field(defaults).Type()], columns[1], "type of %s", key)
		if f := field(defaults); f.Kind() == reflect.Pointer {
			assert.True(t, f.IsNil(), "%s has a default of its own", key)
			other, follows := strings.CutPrefix(columns[0], "that of ")
			assert.True(t, follows, "default of %s", key)
			assert.Contains(t, keys(), strings.Trim(other, "`"), "default of %s", key)
			continue
		}
		// A default is written as in a configuration.
		value, err := confmap.NewRetrievedFromYAML([]byte(columns[0]))
		require.NoError(t, err, key)
		raw, err := value.AsRaw()
		require.NoError(t, err, key)
		var cfg Config
		if assert.NoError(t, confmap.NewFromStringMap(map[string]any{key: raw}).Unmarshal(&cfg), "default of %s", key) {
			assert.Equal(t, fmt.Sprint(field(defaults)), fmt.Sprint(field(&cfg)), "default of %s", key)
		}
	}
	for key := range documented {
		assert.Contains(t, keys(), key, "documented, but not a key")
	}
}

var image = regexp.MustCompile(`!\[([^\]]*)\]\(([^)]*)\)`)

// TestReadmeShowsPlotsOfTheReport: they are in docs/plots/, where make bench-report writes them, and whoever does
// not see them is told what they show.
func TestReadmeShowsPlotsOfTheReport(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	_, measured, _ := strings.Cut(string(readme), "\n## Measured\n")
	plots := image.FindAllStringSubmatch(measured, -1)
	require.GreaterOrEqual(t, len(plots), 2, "plots under ## Measured")
	for _, p := range plots {
		assert.NotEmpty(t, p[1], "what %s shows", p[2])
		assert.True(t, strings.HasPrefix(p[2], "docs/plots/"), p[2])
		assert.FileExists(t, p[2])
	}
	assert.Less(t, strings.Count(string(readme), "\n"), 250, "lines of README.md: what is longer belongs below docs/")
}

// tableUnder returns the cells of the first table between a heading and the next one,
// without the two rows at its head.
func tableUnder(markdown, heading string) (rows [][]string) {
	_, section, _ := strings.Cut(markdown, "\n"+heading+"\n")
	in := false
	for line := range strings.Lines(section) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "|"):
			in = true
			var cells []string
			for cell := range strings.SplitSeq(strings.Trim(line, "|"), "|") {
				cells = append(cells, strings.TrimSpace(cell))
			}
			rows = append(rows, cells)
		case in || strings.HasPrefix(line, "#"):
			return rows[min(2, len(rows)):]
		}
	}
	return rows[min(2, len(rows)):]
}
