package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// ordered is a mapping that remembers its order.
type ordered []field

type field struct {
	key   string
	value any // ordered, []string, string, int, bool or nil
}

func (o *ordered) maybe(r *rand.Rand, key string, value any) {
	if r.IntN(2) == 0 {
		*o = append(*o, field{key, value})
	}
}

// randomQueueBatch makes settings that queuebatch accepts, and what boundedbatch should have in their place.
func randomQueueBatch(r *rand.Rand) (settings ordered, want map[string]any) {
	want = make(map[string]any)
	keep := func(to string, in *ordered, key string, value any) {
		before := len(*in)
		in.maybe(r, key, value)
		if to != "" && len(*in) > before {
			want[to] = value
		}
	}
	keep("wait_for_result", &settings, "wait_for_result", r.IntN(2) == 0)
	keep("block_on_overflow", &settings, "block_on_overflow", r.IntN(2) == 0)
	keep("max_concurrent_exports", &settings, "num_consumers", 1+r.IntN(20))
	keep("", &settings, "storage", "file_storage")
	sizer := []string{"", "requests", "items", "bytes"}[r.IntN(4)]
	if sizer != "" {
		settings = append(settings, field{"sizer", sizer})
	}
	size := 8192 + r.IntN(200000)
	before := len(settings)
	settings.maybe(r, "queue_size", size)
	switch sized := len(settings) > before; {
	case sized && sizer == "items":
		want["queue_size"] = size
	case sized && sizer == "bytes":
		want["memory_limit"] = size
	}

	batchSizer := []string{"items", "bytes"}[r.IntN(2)]
	var batch ordered
	if sizer == "items" || sizer == "bytes" {
		if r.IntN(2) == 0 {
			batchSizer = sizer // inherited
		} else {
			batch = append(batch, field{"sizer", batchSizer})
		}
	} else {
		batch = append(batch, field{"sizer", batchSizer})
	}
	disabled := r.IntN(8) == 0
	minSize := r.IntN(120000)
	if sizer == batchSizer {
		minSize = r.IntN(8192)
	}
	batch = append(batch, field{"min_size", minSize})
	inBatch := make(map[string]any)
	if batchSizer == "items" {
		inBatch["send_batch_size"] = minSize
		if _, sized := want["queue_size"]; minSize > 98304 && !sized && !disabled {
			want["queue_size"] = 12 * minSize
		}
	}
	if r.IntN(2) == 0 {
		batch = append(batch, field{"max_size", minSize + 10})
		inBatch[map[string]string{"items": "send_batch_max_size", "bytes": "send_batch_max_bytes"}[batchSizer]] = minSize + 10
	}
	if r.IntN(2) == 0 {
		batch = append(batch, field{"flush_timeout", "250ms"})
		inBatch["timeout"] = "250ms"
	}
	if r.IntN(2) == 0 {
		var partition ordered
		if r.IntN(3) > 0 {
			partition = append(partition, field{"metadata_keys", []string{"a", "b c", "${env:D}"}})
			inBatch["metadata_keys"] = []any{"a", "b c", "${env:D}"}
		}
		if r.IntN(2) == 0 {
			partition = append(partition, field{"cache_size", 77})
			inBatch["metadata_cardinality_limit"] = 77
		}
		partition.maybe(r, "idle_timeout", "1m")
		shuffle(r, partition)
		batch = append(batch, field{"partition", partition})
	}
	if disabled {
		inBatch = map[string]any{"send_batch_size": 0}
	}
	if disabled || r.IntN(4) == 0 {
		batch = append(batch, field{"enabled", !disabled})
	}
	for key, value := range inBatch {
		want[key] = value
	}
	shuffle(r, batch)
	settings = append(settings, field{"batch", batch})
	shuffle(r, settings)
	return settings, want
}

func shuffle(r *rand.Rand, o ordered) {
	r.Shuffle(len(o), func(i, j int) { o[i], o[j] = o[j], o[i] })
}

// typist writes YAML in a random hand.
type typist struct {
	*rand.Rand
	newline  string
	comments int
}

func (y *typist) comment() string {
	y.comments++
	return fmt.Sprintf("# comment %d: {batch", y.comments)
}

func (y *typist) key(key string) string {
	return []string{key, key, key, `"` + key + `"`, "'" + key + "'"}[y.IntN(5)]
}

func (y *typist) block(o ordered, indent int) string {
	var b strings.Builder
	margin := strings.Repeat(" ", indent)
	for _, f := range o {
		if y.IntN(4) == 0 {
			b.WriteString(margin + y.comment() + y.newline)
		}
		if y.IntN(8) == 0 {
			b.WriteString(y.newline)
		}
		b.WriteString(margin + y.key(f.key) + ":")
		inner, isMap := f.value.(ordered)
		if isMap && len(inner) > 0 && y.IntN(3) > 0 {
			if y.IntN(3) == 0 {
				b.WriteString(" " + y.comment())
			}
			deeper := indent + 1 + y.IntN(4)
			b.WriteString(y.newline + y.block(inner, deeper))
			if y.IntN(4) == 0 {
				b.WriteString(strings.Repeat(" ", deeper) + y.comment() + y.newline)
			}
			continue
		}
		if list, isList := f.value.([]string); isList && y.IntN(2) == 0 {
			deeper := margin + strings.Repeat(" ", y.IntN(3))
			b.WriteString(y.newline)
			for _, text := range list {
				b.WriteString(deeper + "- " + y.flow(text, indent+2, false))
				if y.IntN(4) == 0 {
					b.WriteString(" " + y.comment())
				}
				b.WriteString(y.newline)
			}
			continue
		}
		b.WriteString(" " + y.flow(f.value, indent+2, y.IntN(3) == 0))
		if y.IntN(3) == 0 {
			b.WriteString("  " + y.comment())
		}
		b.WriteString(y.newline)
	}
	return b.String()
}

// flow writes a value in one line, or in several with comments.
func (y *typist) flow(value any, indent int, several bool) string {
	space := strings.Repeat(" ", y.IntN(2))
	if _, isMap := value.(ordered); isMap && several {
		space = y.newline + strings.Repeat(" ", indent)
		if y.IntN(2) == 0 {
			space = " " + y.comment() + space
		}
	}
	switch v := value.(type) {
	case ordered:
		var parts []string
		for _, f := range v {
			parts = append(parts, y.key(f.key)+": "+y.flow(f.value, indent+1, several && y.IntN(2) == 0))
		}
		return "{" + space + strings.Join(parts, ","+space) + space + "}"
	case []string:
		var parts []string
		for _, text := range v {
			parts = append(parts, y.flow(text, indent, false))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case string:
		if strings.ContainsAny(v, "{ ") || y.IntN(3) == 0 {
			return `"` + v + `"`
		}
		return v
	case nil:
		return "null"
	}
	return fmt.Sprint(value)
}

// TestRandomSettingsAreTranslated, in whatever way they are written: block and flow style, mixed, any indentation,
// order and line ends, and comments everywhere, which all survive.
func TestRandomSettingsAreTranslated(t *testing.T) {
	const configurations = 1000
	for seed := range uint64(configurations) {
		r := rand.New(rand.NewPCG(seed, 8))
		settings, want := randomQueueBatch(r)
		y := &typist{Rand: r, newline: []string{"\n", "\n", "\r\n"}[r.IntN(3)]}
		text := y.block(ordered{
			{"processors", ordered{{"batch", ordered{{"timeout", "1s"}}}, {"queuebatch/x", settings}, {"other", nil}}},
			{"service", ordered{{"pipelines", ordered{{"traces", ordered{{"processors", []string{"batch", "other", "queuebatch/x"}}}}}}}},
		}, 0)
		m, result, err := migrate("f.yaml", text, nil)
		require.NoError(t, err, "seed %d:\n%s", seed, text)
		var is struct {
			Processors map[string]map[string]any
			Service    struct {
				Pipelines struct{ Traces struct{ Processors []string } }
			}
		}
		require.NoError(t, yaml.Unmarshal([]byte(result), &is), "seed %d:\n%s", seed, result)
		require.Equal(t, []string{"boundedbatch", "other", "boundedbatch/x"}, is.Service.Pipelines.Traces.Processors)
		require.Equal(t, map[string]any{"timeout": "1s"}, is.Processors["boundedbatch"])
		require.Len(t, is.Processors, 3)
		got := is.Processors["boundedbatch/x"]
		if got == nil {
			got = make(map[string]any)
		}
		require.Equal(t, want, got, "seed %d:\n%s\nbecame\n%s", seed, text, result)
		for n := range y.comments {
			require.Contains(t, result, fmt.Sprintf("# comment %d: {batch", n+1), "seed %d:\n%s\nbecame\n%s", seed, text, result)
		}
		again, twice, err := migrate("f.yaml", result, nil)
		require.NoError(t, err)
		require.Empty(t, again.edits)
		require.Equal(t, result, twice)
		require.Equal(t, result, patched(t, text, unifiedDiff("f.yaml", text, m.edits)))
		if y.newline == "\r\n" {
			require.Equal(t, strings.Count(result, "\n"), strings.Count(result, "\r\n"), "line ends are mixed")
		}
		// Nothing that was set is lost without a word.
		for _, path := range flat(settings, "") {
			require.True(t, kept(want, path) || said(m, path), "seed %d: %s", seed, path)
		}
	}
}

// flat lists the paths of all keys.
func flat(o ordered, prefix string) (paths []string) {
	for _, f := range o {
		if inner, ok := f.value.(ordered); ok && len(inner) > 0 {
			paths = append(paths, flat(inner, prefix+f.key+"::")...)
			continue
		}
		paths = append(paths, prefix+f.key)
	}
	return paths
}

func said(m *migration, path string) bool {
	return slices.ContainsFunc(m.messages, func(msg message) bool { return strings.HasPrefix(msg.text, path+" is left out") })
}

func kept(want map[string]any, path string) bool {
	to := map[string][]string{
		"num_consumers": {"max_concurrent_exports"}, "queue_size": {"queue_size", "memory_limit"},
		"batch::min_size": {"send_batch_size"}, "batch::max_size": {"send_batch_max_size", "send_batch_max_bytes"},
		"batch::flush_timeout": {"timeout"}, "batch::partition::metadata_keys": {"metadata_keys"},
		"batch::partition::cache_size": {"metadata_cardinality_limit"},
		"wait_for_result":              {"wait_for_result"}, "block_on_overflow": {"block_on_overflow"},
	}[path]
	return slices.ContainsFunc(to, func(key string) bool { return want[key] != nil })
}
