package testbed

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/open-telemetry/opentelemetry-collector-contrib/testbed/testbed"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/boundedbatch/boundedbatchprocessor/e2e/internal/harness"
)

// What the testbed passes is an error here, see doc.go.

// small is a load for as long as it takes to see that something is wrong. A busy machine may make little of it.
func small(settings string) setup {
	return setup{
		signal: "logs", protocol: "grpc",
		processors: []processor{{boundedbatch, settings}},
		load:       testbed.LoadOptions{DataItemsPerSecond: 1000, ItemsPerBatch: 10, Parallel: 1, MaxDelay: time.Second},
		least:      0.01,
	}
}

// measureBriefly is measure for a second.
func measureBriefly(t *testing.T, s setup) (*run, error) {
	t.Helper()
	inScratch(t)
	r, err := begin(t, s)
	require.NoError(t, err)
	r.Duration = time.Second
	return r, r.end(r.measure(new(cost)))
}

func TestRefusedConfigurationIsAnError(t *testing.T) {
	inScratch(t)
	_, err := begin(t, small("{no_such_key: 1}"))
	require.ErrorContains(t, err, "otelcol validate ends with status 1")
	require.ErrorContains(t, err, "no_such_key")
}

func TestAgentThatDoesNotStartIsAnError(t *testing.T) {
	inScratch(t)
	script := filepath.Join(t.TempDir(), "otelcol")
	require.NoError(t, os.WriteFile(script, []byte("#!/bin/sh\n[ \"$1\" = validate ]\n"), 0o700)) //nolint:gosec // it is run
	t.Setenv(harness.BinaryVariable, script)
	_, err := begin(t, small("{}"))
	require.ErrorIs(t, err, errEnded)
}

func TestAgentThatEndsUnderLoadIsAnError(t *testing.T) {
	s := small("{}")
	arrived := make(chan struct{})
	s.decide = sync.OnceValue(func() error { close(arrived); return nil })
	inScratch(t)
	r, err := begin(t, s)
	require.NoError(t, err)
	go func() {
		<-arrived
		_ = r.agent.proc.Kill() // if it fails the test does
	}()
	require.ErrorIs(t, r.end(r.measure(new(cost))), errEnded)
}

func TestLossIsAnError(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for as long as what was sent may take to arrive")
	}
	s := small("{}")
	var once sync.Once
	s.decide = func() (err error) {
		once.Do(func() { err = status.Error(codes.InvalidArgument, "for good") })
		return err
	}
	_, err := measureBriefly(t, s)
	require.ErrorContains(t, err, "not within 10s: all that was sent has arrived")
}

func TestRefusedSenderIsAnError(t *testing.T) {
	s := small("{wait_for_result: true}")
	s.exporter = func(r *testbed.BaseOTLPDataReceiver) {
		r.WithRetry("retry_on_failure: {enabled: false}")
		r.WithQueue("sending_queue: {enabled: false}")
	}
	var once sync.Once
	s.decide = func() (err error) {
		once.Do(func() { err = status.Error(codes.Unavailable, "for now") })
		return err
	}
	_, err := measureBriefly(t, s)
	require.ErrorContains(t, err, "items were refused")
}

func TestLittleLoadIsAnError(t *testing.T) {
	s := small("{}")
	s.least = 2
	_, err := measureBriefly(t, s)
	require.ErrorIs(t, err, errLittleLoad)
}

func TestLimitThatIsExceededIsAnError(t *testing.T) {
	s := small("{}")
	s.limits = testbed.ResourceSpec{ExpectedMaxCPU: 1, ExpectedMaxRAM: 1}
	t.Setenv("TESTCASE_DURATION", "4s") // the testbed looks at the CPU every 3 s
	inScratch(t)
	_, err := measure(t, s)
	require.ErrorContains(t, err, "% of a core, of 1")
	require.ErrorContains(t, err, "MiB, of 1")
}

func TestRecordsThatAreMissingOrComeAgainAreSeen(t *testing.T) {
	s := small("{}")
	s.recorded = true
	r, err := measureBriefly(t, s)
	require.NoError(t, err)
	require.NoError(t, r.arrived(0))
	r.MockBackend.ReceivedLogs = append(r.MockBackend.ReceivedLogs, r.MockBackend.ReceivedLogs[0])
	require.ErrorContains(t, r.arrived(0), "0 are missing")
	r.MockBackend.ReceivedLogs = r.MockBackend.ReceivedLogs[:1]
	require.ErrorContains(t, r.arrived(0), "0 came again")
}
