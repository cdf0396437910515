package pipeline

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"path"
	"runtime"
	"strings"
	"testing"
	"time"
)

var (
	resultsFlag  = flag.String("results", "", "measure everything, and write it to this file in the format of go test -bench")
	marginFlag   = flag.Float64("margin", 1.25, "how far a limit may be missed before the tests fail, as a factor")
	commitFlag   = flag.String("commit", "unknown", "the commit to name in that file")
	roundsFlag   = flag.Int("rounds", 0, "rounds of each comparison; 0: 8 with -results, 3 without")
	windowFlag   = flag.Duration("window", 2*time.Second, "how long each peer is measured in a round")
	profilesFlag = flag.String("profiles", "", "keep the CPU profiles in this directory, for go tool pprof")
)

// results is where the tests write every round they measure, for benchstat; nil: nowhere.
var results *os.File

func TestMain(m *testing.M) {
	if name := os.Getenv(roleVariable); name != "" {
		if err := serve(name); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	code := 1
	if err := openResults(); err != nil {
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

// everything tells whether to measure all that is in the results, or only what has a limit.
func everything() bool { return *resultsFlag != "" }

func rounds() int {
	switch {
	case *roundsFlag != 0:
		return *roundsFlag
	case everything():
		return 8
	default:
		return 3
	}
}

// openResults begins the file of results with what there is to know of the machine and
// the versions.
func openResults() (err error) {
	if *resultsFlag == "" {
		return nil
	}
	if results, err = os.Create(*resultsFlag); err != nil {
		return err
	}
	fmt.Fprintf(results, "goos: %s\ngoarch: %s\ncpu: %s\ncores: %d\ngo: %s\ncommit: %s\n",
		runtime.GOOS, runtime.GOARCH, cpuModel(), runtime.NumCPU(), runtime.Version(), *commitFlag)
	mod, err := os.ReadFile("go.mod") // tests run in the directory of their package
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(mod)) {
		name, version, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch path.Base(name) {
		case "batchprocessor", "pdata", "otlpreceiver", "otlpexporter", "grpc":
			if strings.HasPrefix(name, "go.opentelemetry.io/collector/") || name == "google.golang.org/grpc" {
				fmt.Fprintf(results, "%s: %s\n", path.Base(name), version)
			}
		}
	}
	fmt.Fprintf(results, "pkg: %s\n\n", "github.com/boundedbatch/boundedbatchprocessor/bench/pipeline")
	return nil
}

// cpuModel is the processor's name, where the system tells.
func cpuModel() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	defer func() { _ = f.Close() }()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if key, value, found := strings.Cut(lines.Text(), ":"); found && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

// recordRun writes one round of a case as a line of a benchmark.
func recordRun(name, impl string, l load, c cost) {
	per := 1 / float64(c.items)
	record("%s/impl=%s-%d\t%d\t%.5g cpu-ns/item\t%.5g allocs/item\t%.5g B/item\t%.5g items/batch\t%.4g gcs/s\t%.4g ms-answer/req\t%.4g ms-answer-max\n",
		name, impl, runtime.GOMAXPROCS(0), c.items, float64(c.cpu)*per, float64(c.allocs)*per, float64(c.bytes)*per,
		float64(c.items)/float64(c.batches), float64(c.gcs)/c.elapsed.Seconds(),
		c.answerTime(l), c.longest.Seconds()*1e3)
}

// recordShare does the same for a part of a profile.
func recordShare(l load, impl string, p part, share float64, c cost) {
	record("Share/signal=traces/%v/impl=%s/part=%s-%d\t%d\t%.5g cpu-ns/item\t%.4g percent\n",
		l, impl, p, runtime.GOMAXPROCS(0), c.items, share*float64(c.cpu)/float64(c.items), 100*share)
}

func record(format string, args ...any) {
	if results != nil {
		fmt.Fprintf(results, "Benchmark"+format, args...)
	}
}
