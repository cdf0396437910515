package harness

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strings"
)

// Machine is how a file of results begins, in the format of go test -bench: the system, its processor, the version of Go, and
// the commit that was measured.
func Machine(commit string) string {
	return fmt.Sprintf("goos: %s\ngoarch: %s\ncpu: %s\ncores: %d\ngo: %s\ncommit: %s\n",
		runtime.GOOS, runtime.GOARCH, cpuModel(), runtime.NumCPU(), runtime.Version(), commit)
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
