package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "write what the configurations in testdata/ become")

// TestConfigurationsOfAllShapes migrates each testdata/NAME.in.yaml and compares the result with NAME.out.yaml and what is said with
// NAME.messages. The module e2e has a Collector validate the results. foreign-at-PATH lies under the keys of PATH.
func TestConfigurationsOfAllShapes(t *testing.T) {
	inputs, err := filepath.Glob("testdata/*.in.yaml")
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(inputs), 40)
	for _, path := range inputs {
		name := strings.TrimSuffix(filepath.Base(path), ".in.yaml")
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			at := atOf(name)
			m, result, err := migrate(name, string(text), at)
			require.NoError(t, err)
			var messages strings.Builder
			for _, msg := range m.messages {
				fmt.Fprintf(&messages, "%d:%d: %s: %s\n", msg.line, msg.column, msg.level, msg.text)
			}
			golden(t, "testdata/"+name+".out.yaml", result)
			golden(t, "testdata/"+name+".messages", messages.String())
			requireOnlyIntended(t, string(text), result, at)

			for _, comment := range commentsIn(string(text)) {
				assert.Contains(t, result, comment, "a comment is lost")
			}
			again, twice, err := migrate(name, result, at)
			require.NoError(t, err)
			assert.Equal(t, result, twice, "migrating again changes something")
			assert.Empty(t, again.edits)
			assert.Equal(t, result, patched(t, string(text), unifiedDiff(name, string(text), m.edits)), "the diff does not lead there")
		})
	}
}

func atOf(name string) []string {
	if path, found := strings.CutPrefix(name, "foreign-at-"); found {
		return strings.Split(path, ".")
	}
	return nil
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(got), 0o600))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err, "go test -update writes it")
	assert.Equal(t, string(want), got, path)
}

// commentsIn lists what is behind signs that begin a comment, wherever these configurations have them.
func commentsIn(text string) (comments []string) {
	for _, found := range regexp.MustCompile(`(?:^|[ \t])(#[^\r\n]*)`).FindAllStringSubmatch(text, -1) {
		comments = append(comments, strings.TrimRight(found[1], " \t"))
	}
	return comments
}

// requireOnlyIntended decodes both texts and compares them without what is meant to change. It knows nothing of
// how the command works.
func requireOnlyIntended(t *testing.T, before, after string, at []string) {
	t.Helper()
	var was, is any
	require.NoError(t, yaml.Unmarshal([]byte(before), &was))
	require.NoError(t, yaml.Unmarshal([]byte(after), &is), "the result is no YAML:\n%s", after)
	wasBatchers, isBatchers := take(was, at), take(is, at)
	require.Equal(t, fmt.Sprint(was), fmt.Sprint(is), "something else changed:\n%s", after)
	require.Len(t, isBatchers, len(wasBatchers), "processors are missing")

	// Each batch processor is found again by its settings.
	for name, settings := range wasBatchers {
		if kind, _, _ := strings.Cut(name, "/"); strings.TrimSpace(kind) != "batch" {
			continue
		}
		assert.Condition(t, func() bool {
			for other, now := range isBatchers {
				if kind, _, _ := strings.Cut(other, "/"); strings.TrimSpace(kind) == target && sameBatch(settings, now) {
					return true
				}
			}
			return false
		}, "settings of %s: %v", name, settings)
	}
	for name := range isBatchers {
		kind, _, _ := strings.Cut(name, "/")
		assert.NotContains(t, []string{"batch", "queuebatch"}, strings.TrimSpace(kind), "in the result")
	}
}

func sameBatch(was, is any) bool {
	wasMap, ok := was.(map[string]any)
	isMap, also := is.(map[string]any)
	if !ok || !also {
		return fmt.Sprint(was) == fmt.Sprint(is)
	}
	for key, value := range isMap {
		old, has := wasMap[key]
		if !has && key != "queue_size" || has && fmt.Sprint(old) != fmt.Sprint(value) && fmt.Sprint(old)+"ns" != fmt.Sprint(value) {
			return false
		}
	}
	for key := range wasMap {
		if _, has := isMap[key]; !has {
			return false
		}
	}
	return true
}

// take removes all batchers from the processors and replaces their names in pipelines.
func take(value any, at []string) map[string]any {
	for _, key := range at {
		value, _ = value.(map[string]any)[key].(map[string]any)
	}
	root, _ := value.(map[string]any)
	taken := make(map[string]any)
	processors, _ := root["processors"].(map[string]any)
	for name, settings := range processors {
		if isBatcher(name) {
			taken[name] = settings
			delete(processors, name)
		}
	}
	service, _ := root["service"].(map[string]any)
	pipelines, _ := service["pipelines"].(map[string]any)
	for _, pipeline := range pipelines {
		p, _ := pipeline.(map[string]any)
		list, _ := p["processors"].([]any)
		list = slices.Clone(list)
		for i := range list {
			if name, ok := list[i].(string); ok && isBatcher(name) {
				list[i] = "a batcher"
			}
		}
		if list != nil {
			p["processors"] = list
		}
	}
	return taken
}

func isBatcher(name string) bool {
	kind, rest, named := strings.Cut(name, "/")
	if named && strings.TrimSpace(rest) == "" {
		return false // no identity
	}
	return slices.Contains([]string{"batch", "queuebatch", target}, strings.TrimSpace(kind))
}

// TestWhatCannotBeRewrittenIsRefused: with its place, and nothing is changed.
func TestWhatCannotBeRewrittenIsRefused(t *testing.T) {
	for name, tt := range map[string]struct{ text, place, says string }{
		"no YAML":             {"a: [\n", "1:1", "did not find expected"},
		"mapping in a value":  {"processors:\n  batch: a: b\n", "2:3", "mapping values are not allowed"},
		"tab as indentation":  {"processors:\n\tbatch:\n", "2:1", "cannot start any token"},
		"a key twice":         {"processors:\n  batch:\n  # again\n  batch:\n", "4:3", `"batch" already defined`},
		"unknown anchor":      {"processors:\n  batch: *b\n", "2:10", "unknown anchor 'b'"},
		"not UTF-8":           {"processors: \xff\n", "1:1", "UTF-8"},
		"UTF-16":              {"\xff\xfep\x00", "1:1", "UTF-8"},
		"a list":              {"- batch\n", "1:1", "not a map"},
		"an anchor in itself": {"processors: &a\n  batch: *a\n", "2:10", "contains itself"},
		"key over two lines": {
			"processors:\n  ? |-\n    batch\n  : {}\n", "2:5", "cannot be rewritten in place",
		},
		"escaped key":         {"processors:\n  \"b\\x61tch\": {}\n", "2:3", "cannot be rewritten in place"},
		"name as an exporter": {"service: {pipelines: {traces: {processors: [&b batch], exporters: [*b]}}}\n", "1:56", "exporters"},
		"anchor of an exporter": {
			"processors:\n  queuebatch: &q {num_consumers: 2}\nexporters:\n  otlp: {sending_queue: *q}\n", "4:10", "exporters::otlp::sending_queue",
		},
		"anchor on a section": {
			"processors:\n  queuebatch: {batch: &b {min_size: 1}}\nexporters:\n  otlp: {sending_queue: {batch: *b}}\n", "1:1", "unknown anchor 'b'",
		},
		"anchor on a size": {
			"processors:\n  batch: {send_batch_size: 100000}\n  batch/2: &s {send_batch_size: 100000}\nexporters:\n  otlp: {x: *s}\n", "5:10",
			"exporters::otlp::x",
		},
		"merged into another processor": {
			"processors:\n  batch: &b {send_batch_size: 100000}\n  other: {<<: *b}\n", "3:3", "processors::other",
		},
		"hidden settings": {"processors:\n  queuebatch: ${file:q.yaml}\n", "2:15", "cannot be seen here"},
		"hidden sizer":    {"processors:\n  queuebatch: {sizer: \"${env:S}\", queue_size: 1}\n", "2:23", "sizer must be requests, items or bytes"},
		"hidden batch":    {"processors:\n  queuebatch: {batch: \"${env:B}\"}\n", "2:23", "batch: what is in it cannot be seen"},
		"hidden enabled":  {"processors:\n  queuebatch: {batch: {enabled: \"${env:B}\"}}\n", "2:33", "batch::enabled must be true or false"},
		"requests":        {"processors:\n  queuebatch: {sizer: requests, batch: {min_size: 5}}\n", "2:23", "in requests"},
		"two of one name": {
			"processors:\n  queuebatch:\n    timeout: 1s\n    batch: {flush_timeout: 1s}\n", "4:13", "batch::flush_timeout would become timeout",
		},
		"an added one is there": {
			"processors:\n  queuebatch: {send_batch_size: 1, batch: {enabled: false}}\n", "2:44", "batch::enabled needs send_batch_size",
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := migrate("f.yaml", tt.text, nil)
			require.Error(t, err)
			assert.Regexp(t, "^f.yaml:"+tt.place+": ", err.Error())
			assert.Contains(t, err.Error(), tt.says)
		})
	}
}

// TestWhatIsNoConfigurationStaysAsItIs, be it empty.
func TestWhatIsNoConfigurationStaysAsItIs(t *testing.T) {
	for _, text := range []string{"", "\n", "# batch\n", "---\n", "null\n", "{}\n", "a: batch\n", "batch: {}\n", "%YAML 1.1\n---\n...\n"} {
		_, result, err := migrate("f.yaml", text, nil)
		require.NoError(t, err, "%q", text)
		assert.Equal(t, text, result)
	}
}

// TestSmallConfigurations are those that are clearer beside what becomes of them.
func TestSmallConfigurations(t *testing.T) {
	for name, tt := range map[string]struct{ text, want string }{
		"line breaks of CR": {
			"processors:\r  batch:\r    send_batch_size: 100000\r",
			"processors:\r  boundedbatch:\r    send_batch_size: 100000\r    # boundedbatch-migrate: queue_size is added: twelve batches, as by default\r" +
				"    queue_size: 1200000\r",
		},
		"line breaks of Unicode": {
			"# a\u0085# b\u2028# c\u2029processors:\u0085  batch:\n", "# a\u0085# b\u2028# c\u2029processors:\u0085  boundedbatch:\n",
		},
		"an alias before what is merged": {
			"processors:\n  <<: {queuebatch: &q {num_consumers: 2}}\n  queuebatch/2: *q\n",
			"processors:\n  <<: {boundedbatch: &q {max_concurrent_exports: 2}}\n  boundedbatch/2: *q\n",
		},
		"a name that is taken in another file": {
			"service: {pipelines: {traces: {processors: [batch, boundedbatch]}}}\n",
			"service: {pipelines: {traces: {processors: [boundedbatch/batch, boundedbatch]}}}\n",
		},
		"a name of spaces": {"processors: {'batch/ ': {}}\n", "processors: {'batch/ ': {}}\n"},
		"no spaces":        {`{"processors":{"batch":{"timeout":"1s"}}}`, `{"processors":{"boundedbatch":{"timeout":"1s"}}}`},
		"an anchor and a tag, in two lines": {
			"service: {pipelines: {traces: {processors: [&a\n !!str # c\n batch]}}}\n",
			"service: {pipelines: {traces: {processors: [&a\n !!str # c\n boundedbatch]}}}\n",
		},
		"not a number": {"processors: {batch: {x: .nan}}\n", "processors: {boundedbatch: {x: .nan}}\n"},
	} {
		t.Run(name, func(t *testing.T) {
			_, result, err := migrate("f.yaml", tt.text, nil)
			require.NoError(t, err)
			assert.Equal(t, tt.want, result)
		})
	}
}

// TestNothingIsUnderAKey: -at must name what is there.
func TestNothingIsUnderAKey(t *testing.T) {
	_, _, err := migrate("f.yaml", "spec: {config: {}}\n", []string{"spec", "confg"})
	require.EqualError(t, err, "f.yaml:1:7: nothing is under spec.confg")
	_, _, err = migrate("f.yaml", "data:\n  relay: |\n    processors: {batch: {}}\n", []string{"data", "relay"})
	require.EqualError(t, err, "f.yaml:2:10: a text and no map; put it into a file of its own first")
}

// TestTheResultIsCompared: a change at the wrong place is noticed before anything is shown.
func TestTheResultIsCompared(t *testing.T) {
	const text = "processors: {batch: {timeout: 1s}}\nexporters: {batch: {}}\n"
	m, result, err := migrate("f.yaml", text, nil)
	require.NoError(t, err)
	_, before, err := parse(m.src)
	require.NoError(t, err)
	require.NoError(t, m.verify(before, result))
	for _, wrong := range []string{
		text,
		strings.Replace(result, "1s", "2s", 1),
		strings.Replace(result, "timeout", "time", 1),
		strings.Replace(result, "exporters: {batch", "exporters: {boundedbatch", 1),
		strings.Replace(result, "timeout: 1s", "timeout: 1s, queue_size: 1", 1),
		result + "extensions: {}\n",
		result + "]",
	} {
		require.Error(t, m.verify(before, wrong), wrong)
	}
}

// FuzzMigrate: any text is refused, or becomes one that differs only where it should, and stays so.
func FuzzMigrate(f *testing.F) {
	inputs, err := filepath.Glob("testdata/*.yaml")
	require.NoError(f, err)
	for _, path := range inputs {
		text, err := os.ReadFile(path)
		require.NoError(f, err)
		f.Add(string(text))
	}
	f.Fuzz(func(t *testing.T, text string) {
		m, result, err := migrate("f.yaml", text, nil)
		if err != nil {
			require.Regexp(t, `^f\.yaml:[0-9]+:[0-9]+: `, err.Error())
			return
		}
		if len(m.edits) == 0 {
			require.Equal(t, text, result)
			return
		}
		requireOnlyIntended(t, text, result, nil)
		_, twice, err := migrate("f.yaml", result, nil)
		require.NoError(t, err, "the result is refused:\n%s", result)
		require.Equal(t, result, twice)
		require.Equal(t, result, patched(t, text, unifiedDiff("f.yaml", text, m.edits)))
	})
}
