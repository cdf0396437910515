package e2e

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/boundedbatch/boundedbatchprocessor/e2e/internal/harness"
)

// Without a collector this fails rather than skips: a suite that tests nothing must
// not pass.
func TestMain(m *testing.M) {
	if _, err := harness.Binary(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}
