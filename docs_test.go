package boundedbatchprocessor

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"

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

var testName = regexp.MustCompile("`((?:Test|Fuzz)[A-Z][A-Za-z0-9]*)`")

// TestDocsNameTestsThatThereAre: what docs/security.md promises is asserted by the tests it names.
func TestDocsNameTestsThatThereAre(t *testing.T) {
	page, err := os.ReadFile("docs/security.md")
	require.NoError(t, err)
	var code strings.Builder
	for _, pattern := range []string{"*_test.go", "batcher/*_test.go", "boundedbatchzextension/*_test.go", "e2e/*_test.go"} {
		files, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, file := range files {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			code.Write(text)
		}
	}
	named := testName.FindAllStringSubmatch(string(page), -1)
	require.NotEmpty(t, named)
	for _, name := range named {
		assert.Contains(t, code.String(), "func "+name[1]+"(", "named in docs/security.md")
	}
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

// TestEveryKeyHasItsSection: docs/configuration.md has a section for each key, with its default as the README has it, what it
// works together with, and when to change it.
func TestEveryKeyHasItsSection(t *testing.T) {
	page := readDoc(t, "docs/configuration.md")
	defaults := make(map[string]string)
	for _, row := range tableUnder(readDoc(t, "README.md"), "## Configuration") {
		defaults[strings.Trim(row[0], "`")] = row[1]
	}
	for key := range keys() {
		_, section, found := strings.Cut(page, "\n### `"+key+"`\n")
		if !assert.True(t, found, "docs/configuration.md has no section on %s", key) {
			continue
		}
		section, _, _ = strings.Cut(section, "\n#")
		said := "Default `" + defaults[key] + "`"
		switch {
		case defaults[key] == "[]":
			said = "Default none."
		case strings.HasPrefix(defaults[key], "that of "):
			said = "Default: " + defaults[key] + "."
		}
		assert.True(t, strings.HasPrefix(strings.TrimSpace(section), said), "the section on %s does not begin with %q", key, said)
		for _, part := range []string{"\n- Works with: ", "\n- Change it: "} {
			assert.Equal(t, 1, strings.Count(section, part), "%q in the section on %s", part, key)
		}
	}
	for _, heading := range regexp.MustCompile("(?m)^### `(.*)`$").FindAllStringSubmatch(page, -1) {
		assert.Contains(t, keys(), heading[1], "docs/configuration.md describes it, but it is no key")
	}
}

// TestEveryMetricIsExplained: docs/operating.md says of each what it means, and the README when to be woken.
func TestEveryMetricIsExplained(t *testing.T) {
	defined := metricNames(t)
	quoted, label := regexp.MustCompile("`([a-z_]+)`"), regexp.MustCompile(" by `[a-z]+`")
	for _, page := range []string{"docs/operating.md", "README.md"} {
		var explained []string
		for _, row := range tableUnder(readDoc(t, page), "## Metrics") {
			for _, name := range quoted.FindAllStringSubmatch(label.ReplaceAllString(row[0], ""), -1) {
				explained = append(explained, name[1])
			}
		}
		assert.ElementsMatch(t, defined, explained, page)
	}
}

// metricNames returns the names of metadata.yaml, without what all of them begin with.
func metricNames(t *testing.T) (defined []string) {
	t.Helper()
	retrieved, err := confmap.NewRetrievedFromYAML([]byte(readDoc(t, "metadata.yaml")))
	require.NoError(t, err)
	metadata, err := retrieved.AsConf()
	require.NoError(t, err)
	telemetry, err := metadata.Sub("telemetry::metrics")
	require.NoError(t, err)
	for name := range telemetry.ToStringMap() {
		defined = append(defined, strings.TrimPrefix(name, "processor_boundedbatch_"))
	}
	require.NotEmpty(t, defined)
	return defined
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
)

// TestLinksLeadSomewhere follows those within the repository, to files and to headings.
func TestLinksLeadSomewhere(t *testing.T) {
	pages := []string{"README.md", "CHANGELOG.md", "CONTRIBUTING.md"}
	for _, dir := range []string{"docs", "bench", "e2e"} {
		require.NoError(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.Name() == "testdata" {
				return fs.SkipDir
			}
			if filepath.Ext(path) == ".md" {
				pages = append(pages, path)
			}
			return err
		}))
	}
	for _, page := range pages {
		for _, to := range link.FindAllStringSubmatch(readDoc(t, page), -1) {
			if strings.Contains(to[1], "://") {
				continue
			}
			path, anchor, _ := strings.Cut(to[1], "#")
			target := page
			if path != "" {
				target = filepath.Join(filepath.Dir(page), path)
			}
			if _, err := os.Stat(target); !assert.NoError(t, err, "%s links to %s", page, to[1]) {
				continue
			}
			if anchor != "" {
				assert.Contains(t, anchors(readDoc(t, target)), anchor, "%s links to %s", page, to[1])
			}
		}
	}
}

// anchors are what links can lead to in a page: its headings in small letters, without punctuation and with hyphens for
// spaces.
func anchors(page string) (names []string) {
	for _, h := range heading.FindAllStringSubmatch(page, -1) {
		names = append(names, strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
				return unicode.ToLower(r)
			}
			return -1
		}, h[1]))
	}
	return names
}

func readDoc(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(content)
}
