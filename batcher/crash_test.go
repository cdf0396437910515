package batcher_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
	"github.com/boundedbatch/boundedbatchprocessor/batcher/batchertest"
)

const crashEnv = "BATCHER_TEST_CRASH"

// A panic downstream is not ours to hide: it must end the process with its own
// message, and nothing of ours may hang or count wrongly on the way there.
func TestPanicDownstreamEndsTheProcess(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	child := exec.CommandContext(ctx, os.Args[0]) //nolint:gosec // this test binary itself
	child.Env = append(os.Environ(), crashEnv+"=1")
	out, err := child.CombinedOutput()
	require.NoError(t, ctx.Err(), "the process hangs:\n%s", out)
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit, "%s", out)
	require.Equal(t, 2, exit.ExitCode(), "%s", out)
	require.Contains(t, string(out), "panic: downstream is broken")
	require.Contains(t, string(out), "ended: the next consumer did not return")
}

// crash is the child process of the test above.
func crash() {
	kind := batchertest.Logs()
	set := defaults()
	set.Observer = printer{}
	b, err := batcher.New(kind.Signal, set, batchertest.NewSink(kind, func(batchertest.Batch) error {
		panic("downstream is broken")
	}).Consume)
	if err != nil {
		panic(err)
	}
	if err := b.Start(); err != nil {
		panic(err)
	}
	if err := b.Consume(context.Background(), kind.Make(0, 100)); err != nil {
		panic(err)
	}
	<-time.After(time.Minute)
	os.Exit(0)
}

type printer struct{ *events }

func (printer) MeasuresBytes() bool          { return false }
func (printer) ExportStarted(batcher.Export) {}

func (printer) ExportEnded(_ batcher.Export, _ time.Duration, o batcher.Outcome) {
	fmt.Println("ended:", o.Err)
}
