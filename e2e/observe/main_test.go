package observe

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"go.uber.org/goleak"

	"github.com/boundedbatch/boundedbatchprocessor/e2e/internal/harness"
)

// Without its programs this fails rather than skips: a suite that tests nothing must not pass.
func TestMain(m *testing.M) {
	flag.Parse()
	_, err := harness.Binary()
	for _, find := range []func() (string, error){prometheusBinary, promtoolBinary} {
		if err == nil {
			_, err = find()
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	// The tests wait for Prometheus most of the time: all at once, whatever the number of cores.
	if err := flag.Set("test.parallel", "32"); err != nil {
		panic(err) // there is no such flag any more
	}
	goleak.VerifyTestMain(m)
}

func prometheusBinary() (string, error) { return binary("BOUNDEDBATCH_PROMETHEUS", "prometheus") }

func promtoolBinary() (string, error) { return binary("BOUNDEDBATCH_PROMTOOL", "promtool") }

// binary returns the path of a program, from an environment variable or PATH.
func binary(variable, name string) (string, error) {
	path := os.Getenv(variable)
	if path == "" {
		path = name
	}
	found, err := exec.LookPath(path)
	if err != nil {
		return "", fmt.Errorf("these tests need %s (on Debian: apt-get install prometheus), in PATH or %s: %w", name, variable, err)
	}
	return found, nil
}
