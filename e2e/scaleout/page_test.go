package scaleout

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var updateFlag = flag.Bool("update", false, "write the tables of docs/scale-out.md")

const page = "../../docs/scale-out.md"

// table is one of the page: what is between two lines that say which it is.
type table struct {
	name, results string // of the table, of the file in e2e/results/
	head          string
	row           func(name string, values map[string]string) string
}

var tables = []table{
	{
		name: "gateways", results: "scale-out-2-cores.txt",
		head: "| gateways | items/s | times one | largest share |\n|---|---|---|---|\n",
		row: func(name string, v map[string]string) string {
			return fmt.Sprintf("| %s | %.0f | %.2f | %.2f |", key(name, "gateways"), number(v["items/s"]), number(v["x"]), number(v["share"]))
		},
	},
	{
		name: "partitions", results: "scale-out-kafka-2-cores.txt",
		head: "| `flush_when_idle` | partitions | items in a message | items/s | items in a batch |\n|---|---|---|---|---|\n",
		row: func(name string, v map[string]string) string {
			return fmt.Sprintf("| %s | %s | %s | %.0f | %.0f |", key(name, "flush_when_idle"), key(name, "partitions"), key(name, "items"),
				number(v["items/s"]), number(v["items/batch"]))
		},
	},
}

// number reads what record has written.
func number(text string) (value float64) {
	if _, err := fmt.Sscan(text, &value); err != nil {
		panic(fmt.Sprintf("%q is no number", text))
	}
	return value
}

// key returns a value from the name of a benchmark: 4 for gateways of ScaleOut/gateways=4.
func key(name, key string) string {
	for part := range strings.SplitSeq(name, "/") {
		if value, found := strings.CutPrefix(part, key+"="); found {
			return value
		}
	}
	panic(key + " is not in " + name)
}

// processors is what ends the name of a benchmark.
var processors = regexp.MustCompile(`-\d+$`)

func (tb table) render(t *testing.T) string {
	t.Helper()
	file, err := os.Open(filepath.Join("../results", tb.results))
	require.NoError(t, err)
	defer func() { _ = file.Close() }()
	text, rows := tb.head, 0
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 || !strings.HasPrefix(fields[0], "Benchmark") {
			continue
		}
		values := make(map[string]string)
		for i := 2; i+1 < len(fields); i += 2 {
			values[fields[i+1]] = fields[i]
		}
		text += tb.row(processors.ReplaceAllString(fields[0], ""), values) + "\n"
		rows++
	}
	require.NoError(t, lines.Err())
	require.NotZero(t, rows, tb.results)
	return text
}

// The numbers of docs/scale-out.md are those in e2e/results/.
func TestPageHasWhatWasMeasured(t *testing.T) {
	content, err := os.ReadFile(page)
	require.NoError(t, err)
	text := string(content)
	for _, tb := range tables {
		begin, end := fmt.Sprintf("<!-- table %s: make scale-out-results -->\n", tb.name), "<!-- end of table -->\n"
		before, rest, found := strings.Cut(text, begin)
		require.True(t, found, "the page has no %s", begin)
		got, after, found := strings.Cut(rest, end)
		require.True(t, found, "the table %s does not end", tb.name)
		want := tb.render(t)
		if *updateFlag {
			text = before + begin + want + end + after
			continue
		}
		assert.Equal(t, want, got, "the table %s: make scale-out-results writes it", tb.name)
	}
	if *updateFlag {
		require.NoError(t, os.WriteFile(page, []byte(text), 0o644))
	}
}
