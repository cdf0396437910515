package bench

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"path"
	"runtime"
	"strings"
	"testing"
)

var (
	resultsFlag = flag.String("results", "", "write what the tests measure to this file, in the format of go test -bench")
	marginFlag  = flag.Float64("margin", 1, "how far a ratio to a peer or a walk may miss its limit before the tests fail, as a factor")
	fullFlag    = flag.Bool("full", false, "measure everything, not only what tells soonest that a limit is missed")
	commitFlag  = flag.String("commit", "unknown", "the commit to name in that file")
)

// results is where the tests write every round they measure, for benchstat; nil: nowhere.
var results *os.File

func TestMain(m *testing.M) {
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
		if name, version, _ := strings.Cut(strings.TrimSpace(line), " "); strings.HasSuffix(name, "/batchprocessor") || strings.HasSuffix(name, "/pdata") {
			fmt.Fprintf(results, "%s: %s\n", path.Base(name), version)
		}
	}
	fmt.Fprintf(results, "pkg: %s\n\n", "github.com/boundedbatch/boundedbatchprocessor/bench")
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

// recordRequests writes what requests cost in one round as a line of a benchmark of that name.
func recordRequests(name string, c cost) {
	per := 1 / float64(c.requests)
	record("%s-%d\t%d\t%.4g ns/req\t%.4g cpu-ns/req\t%.4g allocs/req\t%.4g B/req\t%.4g req/batch\t%.4g allocs/batch", name, runtime.GOMAXPROCS(0),
		c.requests, float64(c.elapsed)*per, cpuPerRequest(c), allocsPerRequest(c), bytesPerRequest(c), requestsPerBatch(c),
		float64(c.allocs)/float64(max(1, c.batches)))
	if results != nil {
		if c.bare > 0 {
			fmt.Fprintf(results, "\t%.4g bare-cpu-ns/req", float64(c.bare)*per)
		}
		fmt.Fprintln(results)
	}
}

// recordMerging does the same for requests whose batches were encoded and decoded then.
func recordMerging(name string, consume, codec cost, encoded float64) {
	record("%s/impl=boundedbatch-%d\t%d\t%.4g cpu-ns/req\t%.4g codec-cpu-ns/req\t%.4g encoded-B/req\n", name, runtime.GOMAXPROCS(0),
		consume.requests, cpuPerRequest(consume), cpuPerRequest(codec), encoded)
}

// recordSplit does the same for one request that was cut.
func recordSplit(bench, name string, items int, c cost) {
	per := 1 / float64(items)
	record("%s/%s-%d\t1\t%.4g ns/item\t%.4g cpu-ns/item\n", bench, name, runtime.GOMAXPROCS(0), float64(c.elapsed)*per, float64(c.cpu)*per)
}

// recordAllocs does the same for a count of allocations.
func recordAllocs(signal string, items, producers int, perBatch float64) {
	record("Allocations/signal=%s/items=%d/producers=%d/impl=%s-%d\t1\t%.4g allocs/batch\n",
		signal, items, producers, boundedbatch, runtime.GOMAXPROCS(0), perBatch)
}

// recordIdle does the same for what a second takes while a peer is idle, and without it.
func recordIdle(signal string, p peer, tenants int, of idle) {
	per := 1 / idleWindow.Seconds()
	record("Idle/signal=%s/tenants=%d/impl=%s-%d\t1\t%.4g cpu-ns/s\t%.4g bare-cpu-ns/s\t%.4g switches/s\t%.4g bare-switches/s\t"+
		"%d goroutines\t%.4g heap-B/tenant\t%.4g stack-B/tenant\n",
		signal, tenants, p, runtime.GOMAXPROCS(0), float64(of.with.cpu)*per, float64(of.without.cpu)*per,
		float64(of.with.switches)*per, float64(of.without.switches)*per, of.goroutines, of.memory.heap, of.memory.stacks)
}

// recordTenant does the same for what a peer keeps of a tenant.
func recordTenant(signal, state string, p peer, of memory) {
	record("Tenant/signal=%s/state=%s/tenants=%d/impl=%s-%d\t1\t%.4g heap-B/tenant\t%.4g stack-B/tenant\n",
		signal, state, manyTenants, p, runtime.GOMAXPROCS(0), of.heap, of.stacks)
}

func record(format string, args ...any) {
	if results != nil {
		fmt.Fprintf(results, "Benchmark"+format, args...)
	}
}
