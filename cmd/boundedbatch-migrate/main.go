// Command boundedbatch-migrate rewrites the batch and queuebatch processors of Collector configurations to
// boundedbatch. Run it with -h for its use; docs/migrate.md explains what changes and why.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

const usage = `boundedbatch-migrate rewrites the batch and queuebatch processors of a Collector's configuration to
boundedbatch, with their names in pipelines. Everything else in the file stays as it is, byte for byte: comments,
order, quotes, anchors, line ends. The result is read again and compared before it is shown or written.

usage: boundedbatch-migrate [flags] [file ...]

Without a file, or for "-", it reads standard input. By default it prints what would change as a unified diff.

flags:
  -w        write the result to the file (standard input: to standard output) instead of a diff
  -l        list the files that change instead of a diff
  -check    exit with 1 if anything changes, for CI; with -w too
  -at PATH  the configuration lies under these keys, divided by dots, as in -at spec.config

exit codes:
  0  nothing went wrong; with -check: nothing is to be changed
  1  with -check: something is to be changed, or was changed with -w
  2  an error: a file cannot be read, written, or rewritten without changing something else. It stays as it is

What needs a decision is printed to standard error as file:line:column: warning: ..., what is good to know as note.

examples:
  boundedbatch-migrate config.yaml              # show it
  boundedbatch-migrate config.yaml | git apply  # or patch -p1
  boundedbatch-migrate -w config.yaml           # do it
  boundedbatch-migrate -check -l conf/*.yaml    # in CI
  kubectl get otelcol gw -o yaml | boundedbatch-migrate -w -at spec.config | kubectl apply -f -
  boundedbatch-migrate -w -at config values.yaml   # values of the Helm chart
`

const (
	exitOK      = 0
	exitChanges = 1
	exitError   = 2
)

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

// options are the flags.
type options struct {
	write, list, check bool
	at                 []string
}

func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	var o options
	flags := flag.NewFlagSet("boundedbatch-migrate", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.BoolVar(&o.write, "w", false, "")
	flags.BoolVar(&o.list, "l", false, "")
	flags.BoolVar(&o.check, "check", false, "")
	at := flags.String("at", "", "")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprint(stdout, usage)
			return exitOK
		}
		fmt.Fprintf(stderr, "boundedbatch-migrate: %v; -h explains\n", err)
		return exitError
	}
	if *at != "" {
		o.at = strings.Split(*at, ".")
	}
	files := flags.Args()
	if len(files) == 0 {
		files = []string{"-"}
	}
	code := exitOK
	for _, file := range files {
		changed, err := o.process(file, stdin, stdout, stderr)
		switch {
		case err != nil:
			fmt.Fprintln(stderr, err)
			code = exitError
		case changed && o.check && code == exitOK:
			code = exitChanges
		}
	}
	return code
}

// process migrates one file. An error names it.
func (o *options) process(file string, stdin io.Reader, stdout, stderr io.Writer) (changed bool, err error) {
	name := file
	var text []byte
	if file == "-" {
		name = "<stdin>"
		text, err = io.ReadAll(stdin)
	} else {
		text, err = os.ReadFile(file)
	}
	if err != nil {
		return false, err
	}
	m, result, err := migrate(name, string(text), o.at)
	if err != nil {
		return false, err
	}
	for _, msg := range m.messages {
		fmt.Fprintf(stderr, "%s:%d:%d: %s: %s\n", name, msg.line, msg.column, msg.level, msg.text)
	}
	changed = result != string(text)
	out := ""
	if changed && o.list {
		out = name + "\n"
	}
	switch {
	case o.write && file == "-":
		out = result
	case o.write && changed:
		if err := replaceFile(file, string(text), result); err != nil {
			return false, err
		}
	case changed && !o.write && !o.list:
		out = unifiedDiff(filepath.ToSlash(name), string(text), m.edits)
	}
	if _, err := io.WriteString(stdout, out); err != nil {
		return false, fmt.Errorf("standard output: %w", err)
	}
	return changed, nil
}

// replaceFile gives a file another text. It stays the same file, with its owner, mode and links, also where it is
// mounted by itself; so it is written over, and the old text is put back if that fails.
func replaceFile(path, old, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if err = writeOver(f, text); err != nil {
		err = errors.Join(err, writeOver(f, old))
	}
	return errors.Join(err, f.Close())
}

func writeOver(f *os.File, text string) error {
	if _, err := f.WriteAt([]byte(text), 0); err != nil {
		return err
	}
	if err := f.Truncate(int64(len(text))); err != nil {
		return err
	}
	return f.Sync()
}
