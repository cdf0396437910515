package scaleout

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/boundedbatch/boundedbatchprocessor/e2e/internal/harness"
)

var (
	resultsFlag = flag.String("results", "", "write what is measured to files in this directory, in the format of go test -bench")
	commitFlag  = flag.String("commit", "unknown", "the commit to name in those files")
)

// Without a collector this fails rather than skips: a suite that tests nothing must not pass.
func TestMain(m *testing.M) {
	flag.Parse()
	if path := os.Getenv(harness.BinaryVariable); path == "" {
		fmt.Fprintf(os.Stderr, "%s is not set: these tests need the collector of examples/scale-out/; run them with make scale-out\n", harness.BinaryVariable)
		os.Exit(1)
	} else if _, err := os.Stat(path); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v; make scale-out builds a collector and runs the tests\n", harness.BinaryVariable, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// example is the path of a file in examples/scale-out/.
func example(name string) string { return filepath.Join("../../examples/scale-out", name) }

// progress says on the standard output how far a test is.
func progress(tb testing.TB, format string, args ...any) {
	fmt.Printf("%s: %s\n", tb.Name(), fmt.Sprintf(format, args...))
}

// results is a file of results; nil: nobody wants it.
type results struct {
	tb   testing.TB
	file *os.File
}

// newResults begins the file with what there is to know of the machine and the versions.
func newResults(tb testing.TB, name string) *results {
	tb.Helper()
	if *resultsFlag == "" {
		return nil
	}
	file, err := os.Create(filepath.Join(*resultsFlag, fmt.Sprintf("%s-%d-cores.txt", name, runtime.NumCPU())))
	if err != nil {
		tb.Fatal(err)
	}
	r := &results{tb: tb, file: file}
	tb.Cleanup(func() {
		if err := file.Close(); err != nil {
			tb.Error(err)
		}
	})
	r.write("%spkg: %s\n\n", harness.Machine(*commitFlag), "github.com/boundedbatch/boundedbatchprocessor/e2e/scaleout")
	return r
}

// quantity is a number with its unit.
type quantity struct {
	value float64
	unit  string
}

// record writes a line of a benchmark of that name.
func (r *results) record(name string, of ...quantity) {
	if r == nil {
		return
	}
	var line strings.Builder
	fmt.Fprintf(&line, "Benchmark%s-%d\t1", name, runtime.GOMAXPROCS(0))
	for _, q := range of {
		fmt.Fprintf(&line, "\t%.6g %s", q.value, q.unit)
	}
	r.write("%s\n", line.String())
}

func (r *results) write(format string, args ...any) {
	if _, err := fmt.Fprintf(r.file, format, args...); err != nil {
		r.tb.Errorf("results: %v", err)
	}
}
