package testbed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/open-telemetry/opentelemetry-collector-contrib/testbed/testbed"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/boundedbatch/boundedbatchprocessor/e2e/internal/harness"
)

const (
	boundedbatch = "boundedbatch"
	batch        = "batch"
)

// setup is what a run is made of.
type setup struct {
	signal   string // traces, logs, metrics
	protocol string // grpc, http: towards the collector and away from it
	// processors of the pipeline in their order, each with its settings as YAML in flow style.
	processors []processor
	load       testbed.LoadOptions
	// exporter changes the exporter's configuration; nil: as it is.
	exporter func(*testbed.BaseOTLPDataReceiver)
	// limits of upstream's scenario; zero: none.
	limits testbed.ResourceSpec
	// least is the share of the load that has to be sent; 0: half.
	least float64
	// decide is what the backend answers; nil: it takes everything.
	decide func() error
	// recorded keeps what the backend has taken.
	recorded bool
}

type processor struct{ name, settings string }

// run is one collector under one load.
type run struct {
	*testbed.TestCase
	setup setup
	agent *agent
	load  *testbed.ProviderSender

	metrics string // address of the collector's metrics
	client  *http.Client
	cleanup func()
}

// begin starts a backend and a collector. An error after that comes with what the collector has logged.
func begin(t *testing.T, s setup) (r *run, err error) {
	t.Helper()
	binary, err := harness.Binary()
	if err != nil {
		return nil, err
	}
	sender, receiver, err := connections(s)
	if err != nil {
		return nil, err
	}
	if s.exporter != nil {
		s.exporter(receiver)
	}
	metrics, err := freePort()
	if err != nil {
		return nil, err
	}
	profiles, err := freePort()
	if err != nil {
		return nil, err
	}
	r = &run{
		setup: s, agent: newAgent(binary),
		metrics: net.JoinHostPort(testbed.DefaultHost, strconv.Itoa(metrics)),
		client:  &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second},
	}
	profile, err := filepath.Abs(filepath.Join("results", t.Name(), "cpu.prof")) // beside the test case's logs
	if err != nil {
		return nil, err
	}
	if r.cleanup, err = r.agent.PrepareConfig(t, configuration(s, sender, receiver, metrics, profiles, profile)); err != nil {
		return nil, err
	}
	options := []testbed.TestCaseOption{
		testbed.WithSkipResults(),
		// The testbed looks at the process only if there is a limit. With upstream's it would do nothing for a minute
		// if they were exceeded from the start; they are held against what it has seen when the agent has ended.
		testbed.WithResourceLimits(testbed.ResourceSpec{ExpectedMaxCPU: 1000, ExpectedMaxRAM: 8192}),
	}
	if s.decide != nil {
		options = append(options, testbed.WithDecisionFunc(s.decide))
	}
	r.TestCase = testbed.NewTestCase(t, testbed.NewPerfTestDataProvider(s.load), sender, receiver, r.agent,
		&testbed.PerfTestValidator{}, &testbed.PerformanceResults{}, options...)
	r.load = r.LoadGenerator.(*testbed.ProviderSender)
	if s.recorded {
		r.EnableRecording()
	}
	r.StartBackend()
	r.StartAgent()
	// StartAgent has waited for that, but does not tell.
	if r.agent.proc == nil || !r.load.IsReady() {
		return nil, r.end(errors.New("the agent does not listen"))
	}
	return r, nil
}

// end stops everything. Its error is why, if that is not nil, or else what the agent did that it should not have.
func (r *run) end(why error) error {
	why = errors.Join(why, r.agent.err())
	r.Stop()
	if err := r.agent.err(); why == nil {
		why = err
	}
	if why == nil {
		why = r.withinLimits()
	}
	r.cleanup()
	if why == nil {
		return nil
	}
	log, _ := os.ReadFile(r.ComposeTestResultFileName("agent.log")) // it was written, or there is nothing to show
	const shown = 8000
	return fmt.Errorf("%w\nsent %d, received %d; the end of the agent's log:\n%s", why, r.load.DataItemsSent(),
		r.MockBackend.DataItemsReceived(), log[max(0, len(log)-shown):])
}

// consumption is what the testbed has seen of the agent since its start. It waits until that has ended.
func (r *run) consumption() *testbed.ResourceConsumption {
	<-r.agent.watched
	return r.agent.GetTotalConsumption()
}

func (r *run) withinLimits() error {
	of, limits := r.consumption(), r.setup.limits
	var errs []error
	if limits.ExpectedMaxCPU > 0 && of.CPUPercentAvg > float64(limits.ExpectedMaxCPU) {
		errs = append(errs, fmt.Errorf("the agent took %.0f %% of a core, of %d", of.CPUPercentAvg, limits.ExpectedMaxCPU))
	}
	if limits.ExpectedMaxRAM > 0 && of.RAMMiBMax > limits.ExpectedMaxRAM {
		errs = append(errs, fmt.Errorf("the agent took %d MiB, of %d", of.RAMMiBMax, limits.ExpectedMaxRAM))
	}
	return errors.Join(errs...)
}

// await returns an error if cond does not come to hold within that time.
func (r *run) await(within time.Duration, what string, cond func() bool) error {
	if r.WaitForN(cond, within, what) {
		return r.agent.err()
	}
	if err := r.agent.err(); err != nil {
		return fmt.Errorf("while waiting until %s: %w", what, err)
	}
	return fmt.Errorf("not within %v: %s", within, what)
}

// sustain keeps the load up for as long as the testbed is told to. It returns early if the agent ends.
func (r *run) sustain() error {
	r.Sleep(r.Duration)
	return r.agent.err()
}

// logged tells whether the collector has logged that.
func (r *run) logged(text string) bool {
	log, err := os.ReadFile(r.ComposeTestResultFileName("agent.log"))
	return err == nil && bytes.Contains(log, []byte(text))
}

// complete tells whether everything has arrived.
func (r *run) complete() bool { return r.load.DataItemsSent() == r.MockBackend.DataItemsReceived() }

// scrape reads the collector's metrics.
func (r *run) scrape() (harness.Scrape, error) {
	ctx, cancel := context.WithTimeout(context.Background(), r.client.Timeout)
	defer cancel()
	return harness.ReadMetrics(ctx, r.client, r.metrics)
}

var errLittleLoad = errors.New("little was sent")

// enough is an error if little was sent, for the load and the time that it took.
func (r *run) enough(elapsed time.Duration) error {
	sent, points := float64(r.load.DataItemsSent()), float64(1)
	if r.setup.signal == "metrics" {
		points = pointsPerMetric
	}
	least := r.setup.least
	switch {
	case least > 0:
	case testing.Short():
		least = 0.01 // nothing is compared
	default:
		least = 0.5
	}
	if want := points * float64(r.setup.load.DataItemsPerSecond) * elapsed.Seconds(); sent == 0 || sent < least*want {
		return fmt.Errorf("%w: %.0f items were sent in %v, of %.0f", errLittleLoad, sent, elapsed, want)
	}
	return nil
}

// pointsPerMetric is how many data points upstream's generator makes for what it is told to be one item.
const pointsPerMetric = 7

// connections are what the load is sent by, and what the collector sends to.
func connections(s setup) (testbed.DataSender, *testbed.BaseOTLPDataReceiver, error) {
	in, err := freePort()
	if err != nil {
		return nil, nil, err
	}
	out, err := freePort()
	if err != nil {
		return nil, nil, err
	}
	receiver := testbed.NewOTLPDataReceiver(out)
	if s.protocol == "http" {
		receiver = testbed.NewOTLPHTTPDataReceiver(out)
	}
	const host = testbed.DefaultHost
	switch s.protocol + " " + s.signal {
	case "grpc traces":
		return testbed.NewOTLPTraceDataSender(host, in), receiver, nil
	case "grpc logs":
		return testbed.NewOTLPLogsDataSender(host, in), receiver, nil
	case "grpc metrics":
		return testbed.NewOTLPMetricDataSender(host, in), receiver, nil
	case "http traces":
		return testbed.NewOTLPHTTPTraceDataSender(host, in, ""), receiver, nil
	case "http logs":
		return testbed.NewOTLPHTTPLogsDataSender(host, in), receiver, nil
	case "http metrics":
		return testbed.NewOTLPHTTPMetricDataSender(host, in), receiver, nil
	}
	return nil, nil, fmt.Errorf("no sender of %s over %s", s.signal, s.protocol)
}

// configuration is upstream's (createConfigYaml), with a port of its own for whatever listens.
func configuration(s setup, sender testbed.DataSender, receiver testbed.DataReceiver, metrics, profiles int, profile string) string {
	var names []string
	var settings strings.Builder
	for _, p := range s.processors {
		names = append(names, p.name)
		fmt.Fprintf(&settings, "  %s: %s\n", p.name, p.settings)
	}
	return fmt.Sprintf(`
receivers:%[1]s
exporters:%[2]s
processors:
%[3]s
extensions:
  pprof: {endpoint: "%[4]s:%[5]d", save_to_file: %[11]q}
service:
  extensions: [pprof]
  telemetry:
    metrics:
      readers: [pull: {exporter: {prometheus: {host: %[4]s, port: %[6]d}}}]
  pipelines:
    %[7]s: {receivers: [%[8]s], processors: [%[9]s], exporters: [%[10]s]}
`, sender.GenConfigYAMLStr(), receiver.GenConfigYAMLStr(), settings.String(), testbed.DefaultHost, profiles, metrics,
		s.signal, sender.ProtocolName(), strings.Join(names, ", "), receiver.ProtocolName(), profile)
}

// freePort is one that nobody listens at. It is not of those that the system gives to connections: one of them
// could have it by the time it is needed.
func freePort() (int, error) {
	const first, last = 10_000, 30_000
	for {
		port := first + rand.IntN(last-first)
		var lc net.ListenConfig
		listener, err := lc.Listen(context.Background(), "tcp", net.JoinHostPort(testbed.DefaultHost, strconv.Itoa(port)))
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			return 0, err
		}
		return port, listener.Close()
	}
}

// arrivals counts how often each log record was received; upstream's generator numbers them from 1.
func arrivals(received []plog.Logs, sent uint64) (missing, repeated uint64, err error) {
	counts := make([]uint32, sent+1)
	for _, logs := range received {
		for _, resource := range logs.ResourceLogs().All() {
			for _, scope := range resource.ScopeLogs().All() {
				for _, record := range scope.LogRecords().All() {
					index, _ := record.Attributes().Get("item_index")
					item, err := strconv.ParseUint(strings.TrimPrefix(index.Str(), "item_"), 10, 64)
					if err != nil || item == 0 || item > sent {
						return 0, 0, fmt.Errorf("a record that was not sent: %q of %d", index.Str(), sent)
					}
					counts[item]++
				}
			}
		}
	}
	for _, n := range counts[1:] {
		if n == 0 {
			missing++
		} else {
			repeated += uint64(n - 1)
		}
	}
	return missing, repeated, nil
}
