package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	oldConfig = "processors: {batch: {}}\nservice: {pipelines: {traces: {processors: [batch]}}}\n"
	newConfig = "processors: {boundedbatch: {}}\nservice: {pipelines: {traces: {processors: [boundedbatch]}}}\n"
)

func call(stdin string, args ...string) (code int, stdout, stderr string) {
	var out, errs strings.Builder
	code = run(args, strings.NewReader(stdin), &out, &errs)
	return code, out.String(), errs.String()
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o640))
	return path
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(text)
}

func TestADiffIsShownAndNothingWritten(t *testing.T) {
	path := write(t, oldConfig)
	code, out, errs := call("", path)
	assert.Equal(t, exitOK, code)
	assert.Contains(t, out, "\n-processors: {batch: {}}\n")
	assert.Contains(t, out, "\n+processors: {boundedbatch: {}}\n")
	assert.Contains(t, errs, path+":1:14: note: ")
	assert.Equal(t, oldConfig, read(t, path))
}

func TestWritingKeepsTheFile(t *testing.T) {
	path := write(t, oldConfig)
	link := filepath.Join(t.TempDir(), "link.yaml")
	require.NoError(t, os.Symlink(path, link))
	before, err := os.Stat(path)
	require.NoError(t, err)
	code, out, _ := call("", "-w", link)
	assert.Equal(t, exitOK, code)
	assert.Empty(t, out)
	assert.Equal(t, newConfig, read(t, path))
	info, err := os.Lstat(link)
	require.NoError(t, err)
	assert.NotZero(t, info.Mode()&fs.ModeSymlink, "the link is a file now")
	info, err = os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, fs.FileMode(0o640), info.Mode().Perm())
	assert.True(t, os.SameFile(before, info), "it is another file now")
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	assert.Len(t, entries, 1, "something is left over")
}

// TestWritingMayMakeAFileShorter: nothing of the old text is behind the new one.
func TestWritingMayMakeAFileShorter(t *testing.T) {
	path := write(t, "processors: {queuebatch: {batch: {enabled: true, sizer: items, partition: {idle_timeout: 10m}}}}\n")
	code, _, _ := call("", "-w", path)
	assert.Equal(t, exitOK, code)
	assert.Equal(t, "processors: {boundedbatch: {}}\n", read(t, path))
}

func TestAFileThatCannotBeWrittenIsAnError(t *testing.T) {
	code, _, errs := call("", "-w", filepath.Join(t.TempDir(), "missing.yaml"))
	assert.Equal(t, exitError, code)
	assert.Contains(t, errs, "missing.yaml")
	// A file on a disk that is full, or as good as.
	require.Error(t, replaceFile("/dev/full", "old", "new"))
}

func TestAFileThatNeedsNothingIsNotTouched(t *testing.T) {
	path := write(t, newConfig)
	long := time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)
	require.NoError(t, os.Chtimes(path, long, long))
	code, out, _ := call("", "-w", "-check", path)
	assert.Equal(t, exitOK, code)
	assert.Empty(t, out)
	after, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, long, after.ModTime().UTC(), "it was written")
}

func TestStandardInput(t *testing.T) {
	code, out, errs := call(oldConfig)
	assert.Equal(t, exitOK, code)
	assert.Contains(t, out, "+++ b/<stdin>\n")
	assert.Contains(t, errs, "<stdin>:1:14: note: ")

	code, out, _ = call(oldConfig, "-w")
	assert.Equal(t, exitOK, code)
	assert.Equal(t, newConfig, out)

	code, out, _ = call(newConfig, "-w", "-")
	assert.Equal(t, exitOK, code)
	assert.Equal(t, newConfig, out, "a filter passes on what needs nothing")

	code, out, _ = call("spec: {config: {processors: {batch: }}}", "-w", "-at", "spec.config")
	assert.Equal(t, exitOK, code)
	assert.Equal(t, "spec: {config: {processors: {boundedbatch: }}}", out)
}

func TestExitCodesOfCheck(t *testing.T) {
	was, is := write(t, oldConfig), write(t, newConfig)
	code, out, _ := call("", "-check", "-l", was, is)
	assert.Equal(t, exitChanges, code)
	assert.Equal(t, was+"\n", out)
	code, out, _ = call("", "-check", was)
	assert.Equal(t, exitChanges, code)
	assert.Contains(t, out, "+++ b/")
	code, _, _ = call("", "-check", is)
	assert.Equal(t, exitOK, code)
	code, _, _ = call("", "-check", "-w", was)
	assert.Equal(t, exitChanges, code, "what it was written about")
	code, _, _ = call("", "-check", "-w", was)
	assert.Equal(t, exitOK, code)
}

func TestAnErrorDoesNotStopTheOthers(t *testing.T) {
	was, bad := write(t, oldConfig), write(t, "processors: [\n")
	missing := filepath.Join(t.TempDir(), "missing.yaml")
	code, _, errs := call("", "-check", "-w", missing, bad, was)
	assert.Equal(t, exitError, code)
	assert.Contains(t, errs, missing)
	assert.Contains(t, errs, bad+":1:1: ")
	assert.Equal(t, newConfig, read(t, was))
	assert.Equal(t, "processors: [\n", read(t, bad))
}

func TestHelpAndMisuse(t *testing.T) {
	code, out, errs := call("", "-h")
	assert.Equal(t, exitOK, code)
	for _, word := range []string{"-w ", "-l ", "-check ", "-at ", "exit codes:", "examples:"} {
		assert.Contains(t, out, word)
	}
	assert.Empty(t, errs)
	code, out, errs = call("", "-force", "f.yaml")
	assert.Equal(t, exitError, code)
	assert.Empty(t, out)
	assert.Contains(t, errs, "-force")
}
