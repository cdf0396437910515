// Command report writes docs/performance.md, docs/testbed.md, docs/endurance.md and their plots from raw
// results, and nothing else: the same results make the same bytes. What is in the pages is told
// by the tables in spec.go, testbed.go and endurance.go.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

func main() {
	root := flag.String("root", "../..", "directory of the repository")
	check := flag.Bool("check", false, "write nothing, and fail if what is there is not what would be written")
	flag.Parse()

	if err := run(*root, *check); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// reports are all pages.
var reports = []report{performance, testbed, endurance}

func run(root string, check bool) error {
	files := make(map[string][]byte)
	for _, r := range reports {
		some, notes, err := build(filepath.Join(root, filepath.FromSlash(r.paper.results)), r)
		if err != nil {
			return err
		}
		for _, note := range notes {
			fmt.Fprintln(os.Stderr, note)
		}
		maps.Copy(files, some)
	}
	docs := filepath.Join(root, "docs")
	if check {
		return compare(docs, files)
	}
	return write(docs, files)
}

// build makes the files of the report by their path below docs/, and notes for whoever runs it.
func build(resultsDir string, r report) (files map[string][]byte, notes []string, err error) {
	all, err := load(resultsDir, r.paper.files)
	if err != nil {
		return nil, nil, err
	}
	p := &page{report: r, results: all, files: make(map[string][]byte)}
	if err := p.write(); err != nil {
		return nil, nil, err
	}
	return p.files, p.notes, nil
}

func write(docs string, files map[string][]byte) error {
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join(docs, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, files[name], 0o644); err != nil {
			return err
		}
	}
	// A plot that is no longer drawn would stay for ever.
	extra, err := unknownPlots(docs, files)
	for _, path := range extra {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

// compare tells which files are not as they would be written.
func compare(docs string, files map[string][]byte) error {
	var stale []error
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join(docs, filepath.FromSlash(name))
		if have, err := os.ReadFile(path); err != nil {
			stale = append(stale, err)
		} else if !bytes.Equal(have, files[name]) {
			stale = append(stale, fmt.Errorf("%s is not what the results say", path))
		}
	}
	extra, err := unknownPlots(docs, files)
	for _, path := range extra {
		stale = append(stale, fmt.Errorf("%s is of no plot", path))
	}
	if err := errors.Join(append(stale, err)...); err != nil {
		return fmt.Errorf("%w\nrun make bench-report", err)
	}
	return nil
}

// unknownPlots are the plots in docs that are not in files.
func unknownPlots(docs string, files map[string][]byte) (paths []string, err error) {
	entries, err := os.ReadDir(filepath.Join(docs, plotsDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		if files[plotsDir+"/"+e.Name()] == nil {
			paths = append(paths, filepath.Join(docs, plotsDir, e.Name()))
		}
	}
	return paths, nil
}
