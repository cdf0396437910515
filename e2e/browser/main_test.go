package browser

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/boundedbatch/boundedbatchprocessor/e2e/internal/harness"
)

var screenshot = flag.String("screenshot", "", "write a picture of the page to this file")

// Without its programs this fails rather than skips: a suite that tests nothing must not pass.
func TestMain(m *testing.M) {
	flag.Parse()
	_, err := harness.Binary()
	if err == nil {
		_, err = chromium()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// chromium returns the path of the browser.
func chromium() (string, error) {
	path := os.Getenv("BOUNDEDBATCH_CHROMIUM")
	if path == "" {
		path = "chromium"
	}
	found, err := exec.LookPath(path)
	if err != nil {
		return "", fmt.Errorf("these tests need chromium (on Debian: apt-get install chromium), in PATH or BOUNDEDBATCH_CHROMIUM: %w", err)
	}
	return found, nil
}
