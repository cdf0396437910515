package main

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/perf/benchfmt"
)

// results are all that was measured.
type results struct {
	entries []*entry // in the order of the files' names and of their lines
}

// entry is one benchmark in one file: BenchmarkConsume/signal=logs/impl=batch-2.
type entry struct {
	bench  string // Consume
	keys   keys   // signal: logs, impl: batch, gomaxprocs: 2
	name   string // all of it, without the word Benchmark
	file   *file
	rounds []round // in the order of the lines
}

// round is one line.
type round struct {
	line   int
	values map[string]float64 // by unit
}

// file is a file of results, with what its header says of machine and versions.
type file struct {
	name   string
	header []keyValue
}

type keyValue struct{ key, value string }

type keys map[string]string

// has tells whether all of want is in k.
func (k keys) has(want keys) bool {
	for key, value := range want {
		if k[key] != value {
			return false
		}
	}
	return true
}

// headerKeys has to be in every header: numbers without them cannot be repeated.
var headerKeys = []string{"cpu", "go", "commit"}

func (f *file) value(key string) string {
	for _, kv := range f.header {
		if kv.key == key {
			return kv.value
		}
	}
	return ""
}

func (e *entry) at(i int) string { return fmt.Sprintf("%s:%d", e.file.name, e.rounds[i].line) }

// load reads the files of a directory whose names match one of the patterns, or all that may be results.
func load(dir string, patterns []string) (*results, error) {
	if len(patterns) == 0 {
		patterns = []string{"*.txt"}
	}
	var paths []string
	for _, pattern := range patterns {
		matching, err := filepath.Glob(filepath.Join(dir, pattern)) // sorted
		if err != nil {
			return nil, err
		}
		paths = append(paths, matching...)
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("no results in %s", dir)
	}
	all := &results{}
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		if err := all.read(filepath.Base(path), content); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (r *results) read(name string, content []byte) error {
	if err := onlyBenchmarks(name, content); err != nil {
		return err
	}
	f := &file{name: name}
	byName := make(map[string]*entry)
	lines := benchfmt.NewReader(bytes.NewReader(content), name)
	for lines.Scan() {
		switch line := lines.Result().(type) {
		case *benchfmt.SyntaxError:
			return line
		case *benchfmt.Result:
			full := line.Name.String()
			e := byName[full]
			if e == nil {
				e = &entry{name: full, file: f, keys: make(keys)}
				if err := e.parse(line); err != nil {
					return err
				}
				byName[full] = e
				r.entries = append(r.entries, e)
			}
			if err := e.add(line); err != nil {
				return err
			}
			if f.header == nil {
				for _, c := range line.Config {
					f.header = append(f.header, keyValue{c.Key, string(c.Value)})
				}
			}
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	if len(byName) == 0 {
		return fmt.Errorf("%s: no line of a benchmark", name)
	}
	for _, key := range headerKeys {
		if f.value(key) == "" {
			return fmt.Errorf("%s: no line %q before the first benchmark", name, key+": ...")
		}
	}
	return nil
}

var knownLine = regexp.MustCompile(`^(|Benchmark\S+\s+\d.*|\p{Ll}[^\s\p{Lu}:]*:(\s.*)?|Unit\s.*|PASS|ok\s.*)$`)

// onlyBenchmarks refuses lines that benchfmt would skip, such as the first half of a torn one, what a
// failed test says, and the marks of a merge.
func onlyBenchmarks(name string, content []byte) error {
	i := 0
	for line := range bytes.Lines(content) {
		i++
		if line = bytes.TrimRight(line, "\r\n"); !knownLine.Match(line) {
			return fmt.Errorf("%s:%d: neither a header nor a benchmark: %.60q", name, i, line)
		}
	}
	return nil
}

// parse takes the keys out of the name.
func (e *entry) parse(line *benchfmt.Result) error {
	base, parts := line.Name.Parts()
	e.bench = string(base)
	for _, part := range parts {
		key, value, found := strings.Cut(strings.TrimPrefix(string(part), "/"), "=")
		if procs, ok := strings.CutPrefix(string(part), "-"); ok {
			key, value, found = "gomaxprocs", procs, true
		}
		if !found {
			file, at := line.Pos()
			return fmt.Errorf("%s:%d: %q in the name is not key=value", file, at, part)
		}
		e.keys[key] = value
	}
	return nil
}

// perItem are the units of time that become items a second, by the key that says how many
// items one of them is.
var perItem = []struct{ unit, key string }{{"ns/item", ""}, {"ns/req", "items"}}

// add adds a line. Units are those of the file: benchfmt makes seconds of ns.
func (e *entry) add(line *benchfmt.Result) error {
	name, at := line.Pos()
	values := make(map[string]float64)
	for _, v := range line.Values {
		value, unit := v.Value, v.Unit
		if v.OrigUnit != "" {
			value, unit = v.OrigValue, v.OrigUnit
		}
		if math.IsNaN(value) || math.IsInf(value, 0) {
			return fmt.Errorf("%s:%d: %s is %v", name, at, unit, value)
		}
		if _, twice := values[unit]; twice {
			return fmt.Errorf("%s:%d: %s twice", name, at, unit)
		}
		values[unit] = value
	}
	for _, per := range perItem {
		items, err := 1, error(nil)
		if per.key != "" {
			items, err = strconv.Atoi(e.keys[per.key])
		}
		if _, found := values["items/s"]; !found && err == nil && values[per.unit] > 0 {
			values["items/s"] = 1e9 * float64(items) / values[per.unit]
		}
	}
	e.rounds = append(e.rounds, round{at, values})
	return nil
}

// find returns the one entry of a benchmark that has these keys and perhaps more; nil if there is none.
func (r *results) find(bench string, want keys) (*entry, error) {
	var found *entry
	for _, e := range r.entries {
		switch {
		case e.bench != bench || !e.keys.has(want):
		case found == nil:
			found = e
		default:
			return nil, fmt.Errorf("%s matches both %s (%s) and %s (%s): the specification has to say which",
				describe(bench, want), found.name, found.at(0), e.name, e.at(0))
		}
	}
	return found, nil
}

// describe writes a selection like the name of a benchmark.
func describe(bench string, k keys) string {
	parts := []string{bench}
	for key, value := range k {
		parts = append(parts, key+"="+value)
	}
	slices.Sort(parts[1:])
	return strings.Join(parts, "/")
}

var errMissing = errors.New("is not in the results")
