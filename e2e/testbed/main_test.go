package testbed

import (
	"bytes"
	"flag"
	"fmt"
	"log"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/boundedbatch/boundedbatchprocessor/e2e/internal/harness"
)

var (
	resultsFlag = flag.String("results", "", "write what is measured to this file, in the format of go test -bench")
	marginFlag  = flag.Float64("margin", 1, "how far a limit may be missed before the tests fail, as a factor")
	commitFlag  = flag.String("commit", "unknown", "the commit to name in that file")
	pairsFlag   = flag.Int("pairs", 7, "how often the two processors take turns in a comparison")
)

// results is where the tests write every run they measure, for benchstat; nil: nowhere.
var results *os.File

// chatter is what the testbed logs; see inScratch.
var chatter talk

// Without a collector this fails rather than skips: a suite that tests nothing must not pass.
func TestMain(m *testing.M) {
	flag.Parse()
	log.SetOutput(&chatter)
	code := 1
	if _, err := harness.Binary(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else if err := openResults(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		code = m.Run()
	}
	if err := results.Close(); results != nil && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// inScratch makes a directory for what the testbed writes the current one, and shows what it logs if the test fails.
func inScratch(t *testing.T) {
	t.Helper()
	t.Chdir(t.TempDir())
	chatter.take()
	t.Cleanup(func() {
		if said := chatter.take(); t.Failed() {
			t.Logf("the testbed's log:\n%s", said)
		}
	})
}

// talk keeps what is written to it until it is taken.
type talk struct {
	mu   sync.Mutex // guards everything below
	text bytes.Buffer
}

// Write implements io.Writer.
func (l *talk) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *talk) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.text.Reset()
	return l.text.String()
}

// openResults begins the file of results with what there is to know of the machine and the versions.
func openResults() (err error) {
	if *resultsFlag == "" {
		return nil
	}
	if results, err = os.Create(*resultsFlag); err != nil {
		return err
	}
	fmt.Fprint(results, harness.Machine(*commitFlag))
	// Of the testbed, and of the collector: what ocb was told.
	for _, file := range []string{"go.mod", "../../builder-config.yaml"} {
		text, err := os.ReadFile(file) // tests run in the directory of their package
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(text)) {
			name, version, _ := strings.Cut(strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "- gomod:")), " ")
			if slices.Contains([]string{"testbed", "batchprocessor", "memorylimiterprocessor"}, path.Base(name)) && strings.HasPrefix(version, "v") {
				fmt.Fprintf(results, "%s: %s\n", path.Base(name), version)
			}
		}
	}
	duration := os.Getenv("TESTCASE_DURATION")
	if duration == "" {
		duration = "15s" // the testbed's default
	}
	fmt.Fprintf(results, "pairs: %d\nduration: %s\n", *pairsFlag, duration)
	fmt.Fprintf(results, "pkg: %s\n\n", "github.com/boundedbatch/boundedbatchprocessor/e2e/testbed")
	return nil
}

// record writes a run as a line of a benchmark.
func record(format string, args ...any) {
	if results != nil {
		fmt.Fprintf(results, "Benchmark"+format+"\n", args...)
	}
}
