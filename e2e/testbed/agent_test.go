package testbed

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/open-telemetry/opentelemetry-collector-contrib/testbed/testbed"
	"github.com/shirou/gopsutil/v4/process"
	"golang.org/x/sys/unix"

	"github.com/boundedbatch/boundedbatchprocessor/e2e/internal/harness"
)

// agent is the testbed's child process, with a closer look at it: it notices when the collector ends by itself, and
// measures what it takes in a window of time that the test chooses. The testbed's own numbers begin with the start
// of the process, are taken every 3 s, and are whole MiB.
type agent struct {
	testbed.OtelcolRunner
	started bool
	proc    *process.Process

	stopping chan struct{} // closed before the process is told to end
	ended    chan struct{} // closed when it has ended without that
	watched  chan struct{} // closed when the testbed no longer looks at the process
	sampled  chan struct{} // closed when nobody reads its memory any more

	mu      sync.Mutex // guards everything below
	sum     float64    // of the resident sets since reset
	samples int
	peak    float64
	fault   error // what the agent did that it should not have
}

// sampleEvery is how often the size of the process is read.
const sampleEvery = 50 * time.Millisecond

// newAgent makes an agent that is not started yet.
func newAgent(binary string) *agent {
	return &agent{
		OtelcolRunner: testbed.NewChildProcessCollector(
			testbed.WithAgentExePath(binary),
			testbed.WithEnvVar("GOMAXPROCS", "2"), // as all of upstream's scenarios
			// As if they were not set: the garbage collector is at its defaults.
			testbed.WithEnvVar("GOGC", ""), testbed.WithEnvVar("GOMEMLIMIT", ""),
		),
		stopping: make(chan struct{}),
		ended:    make(chan struct{}),
		watched:  make(chan struct{}),
		sampled:  make(chan struct{}),
	}
}

var errEnded = errors.New("the agent has ended by itself")

// PrepareConfig implements [testbed.OtelcolRunner]. It refuses what the collector refuses.
func (a *agent) PrepareConfig(t *testing.T, config string) (func(), error) {
	t.Helper()
	if status, output := harness.Validate(t, config); status != 0 {
		return nil, fmt.Errorf("otelcol validate ends with status %d: %s\n%s", status, output, config)
	}
	return a.OtelcolRunner.PrepareConfig(t, config)
}

// Start implements [testbed.OtelcolRunner].
func (a *agent) Start(params testbed.StartParams) error {
	before, err := childrenOfThis()
	if err != nil {
		return err
	}
	if err := a.OtelcolRunner.Start(params); err != nil {
		return err
	}
	a.started = true
	after, err := childrenOfThis()
	if err != nil {
		return err
	}
	after = slices.DeleteFunc(after, func(p *process.Process) bool {
		return slices.ContainsFunc(before, func(known *process.Process) bool { return known.Pid == p.Pid })
	})
	if len(after) != 1 {
		return fmt.Errorf("%d new children instead of the agent alone: %v", len(after), after)
	}
	a.proc = after[0]
	go a.sample()
	return nil
}

// childrenOfThis are those of the test's process; the testbed does not tell which is the agent.
func childrenOfThis() ([]*process.Process, error) {
	self, err := process.NewProcess(int32(os.Getpid()))
	if err != nil {
		return nil, err
	}
	return self.Children()
}

// sample reads the size of the process until it is stopped, or has ended without that. Nobody waits for the process
// before it is stopped: until then it is a zombie.
func (a *agent) sample() {
	defer close(a.sampled)
	again := time.NewTicker(sampleEvery)
	defer again.Stop()
	for {
		status, err := a.proc.Status()
		if err != nil || len(status) == 0 || status[0] == process.Zombie {
			close(a.ended)
			return
		}
		if memory, err := a.proc.MemoryInfo(); err == nil && memory.RSS > 0 {
			a.mu.Lock()
			a.sum += float64(memory.RSS)
			a.samples++
			a.peak = max(a.peak, float64(memory.RSS))
			a.mu.Unlock()
		}
		select {
		case <-again.C:
		case <-a.stopping:
			return
		}
	}
}

// WatchResourceConsumption implements [testbed.OtelcolRunner]: what it returns ends the waits of the test case.
func (a *agent) WatchResourceConsumption() error {
	result := make(chan error, 1)
	go func() {
		result <- a.OtelcolRunner.WatchResourceConsumption()
		close(a.watched)
	}()
	var err error
	select {
	case err = <-result: // such as that a limit is exceeded, for which the agent was stopped
	case <-a.ended:
		err = errEnded
	}
	a.blame(err)
	return err
}

func (a *agent) blame(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fault = errors.Join(a.fault, err)
}

// Stop implements [testbed.OtelcolRunner].
func (a *agent) Stop() (bool, error) {
	if !a.started {
		return false, nil
	}
	select {
	case <-a.stopping:
		return false, nil // a second time
	default:
	}
	close(a.stopping)
	if a.proc != nil {
		<-a.sampled
	}
	stopped, err := a.OtelcolRunner.Stop() // an error if the status is not 0
	a.blame(err)
	return stopped, err
}

// err is what the agent did that it should not have.
func (a *agent) err() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.fault
}

// cpu is the time that the process has taken so far: its clock, which counts in ns, as clock_getcpuclockid(3) would
// name it. What /proc/PID/stat says comes in steps of 10 ms, a percent of what there is to compare.
func (a *agent) cpu() (time.Duration, error) {
	const precise = 2 // CPUCLOCK_SCHED
	var ts unix.Timespec
	if err := unix.ClockGettime(^a.proc.Pid<<3|precise, &ts); err != nil {
		return 0, fmt.Errorf("CPU clock of the agent: %w", err)
	}
	return time.Duration(ts.Nano()), nil
}

// resetMemory begins the window that memory is about.
func (a *agent) resetMemory() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sum, a.samples, a.peak = 0, 0, 0
}

// memory is the mean resident set in the window, and the greatest, in bytes.
func (a *agent) memory() (mean, peak float64, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.samples == 0 {
		return 0, 0, errors.New("the size of the agent was never read")
	}
	return a.sum / float64(a.samples), a.peak, nil
}
