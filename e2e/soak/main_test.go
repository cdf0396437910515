package soak

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/boundedbatch/boundedbatchprocessor/e2e/internal/harness"
)

var (
	soakFlag     = flag.Bool("soak", false, "take as long as it takes to know; otherwise seconds")
	durationFlag = flag.Duration("soak.duration", 30*time.Minute, "how long the steady load is measured, with -soak")
	overloadFlag = flag.Duration("soak.overload", 5*time.Minute, "how long the overload lasts, with -soak")
	resultsFlag  = flag.String("results", "", "write what is measured to files in this directory, in the format of go test -bench")
	commitFlag   = flag.String("commit", "unknown", "the commit to name in those files")
)

// soaked is how many tests have measured all that they should.
var soaked atomic.Int64

// Without a collector this fails rather than skips. So does -soak if nothing was measured, as
// with a -run that matches nothing: a suite that tests nothing must not pass.
func TestMain(m *testing.M) {
	flag.Parse()
	if _, err := harness.Binary(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(suite{m})
}

type suite struct{ *testing.M }

// Run implements goleak.TestingM.
func (s suite) Run() int {
	code := s.M.Run()
	if code == 0 && *soakFlag && soaked.Load() == 0 {
		fmt.Fprintln(os.Stderr, "nothing was measured")
		return 1
	}
	return code
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
	r.write("%spkg: %s\n\n", harness.Machine(*commitFlag), "github.com/boundedbatch/boundedbatchprocessor/e2e/soak")
	return r
}

// quantity is a number with its unit.
type quantity struct {
	value float64
	unit  string
}

func (q quantity) String() string { return fmt.Sprintf("%.0f %s", q.value, q.unit) }

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

// progress says on the standard output how far a test is.
func progress(tb testing.TB, elapsed, of time.Duration, format string, args ...any) {
	fmt.Printf("%s: %v of %v: %s\n", tb.Name(), elapsed.Round(100*time.Millisecond), of, fmt.Sprintf(format, args...))
}

func mebibytes[T int | int64 | float64](bytes T) float64 { return float64(bytes) / (1 << 20) }
