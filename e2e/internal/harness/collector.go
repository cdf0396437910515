package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"text/template"
	"time"
)

// BinaryVariable is the environment variable with the path of the built collector.
const BinaryVariable = "BOUNDEDBATCH_COLLECTOR"

// Binary returns the path of the built collector, or an error that says how to get one.
func Binary() (string, error) {
	path := os.Getenv(BinaryVariable)
	if path == "" {
		return "", fmt.Errorf("%s is not set: these tests need a built collector; run them with make e2e or make observe-test", BinaryVariable)
	}
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%s: %w; make e2e builds a collector and runs the tests", BinaryVariable, err)
	}
	return path, nil
}

// Config is the configuration of a collector between clients and a backend: OTLP over
// gRPC and HTTP in, boundedbatch on all signals, OTLP out. Processor and Retry are YAML
// in flow style, such as {timeout: 0s}.
type Config struct {
	Backend   *Backend
	Processor string // boundedbatch's settings; empty: the defaults
	Retry     string // retry_on_failure of the exporter; empty: it does not retry
	Queue     string // sending_queue of the exporter; empty: it has none
	// Storage is the directory of a file_storage extension, for Queue; empty: there is none.
	Storage string
	// PanicAt puts a processor behind boundedbatch that panics when it is called for that batch of
	// a signal, the first is 1; 0: there is none. Such a collector takes no profiles.
	PanicAt int
	// Exporter is otlp_grpc, or otlp_http; empty: otlp_grpc.
	Exporter string
	// ReportStatus adds the health_check extension, which shows the status of every
	// component; see Collector.Health.
	ReportStatus bool
	// Profile adds the pprof extension, and leaves the garbage collector at its defaults
	// whatever the test's environment says; see Collector.LiveHeap.
	Profile bool
	// MaxRequestMiB is the largest request that the receiver takes over gRPC; 0: its default,
	// which is 4.
	MaxRequestMiB int
	// Headers are what the exporters send besides, as the headers of the headers_setter
	// extension: a list of maps. Empty: nothing.
	Headers string
	// Debug has everything logged, and adds the zpages extension and that of Inside; see Collector.Pages.
	Debug bool
	// Inside adds the boundedbatchz extension; see Collector.InsideAddress. ShowValues has it show the values of keys.
	Inside, ShowValues bool
	// FeatureGates are switched on, besides those that the other fields and profiles need.
	FeatureGates []string
	// Environment is added to that of the test's process: GOMAXPROCS=1.
	Environment []string
	// MovableClock makes a collector whose wall clock can be moved; see Collector.MoveClock.
	MovableClock bool
}

// configText is rendered with a Config. Its ports come from the environment, as in
// the files of examples/. The exporter has no queue, unless it is given one, and no timeout:
// what the processor hands on is in flight until the backend has answered.
var configText = template.Must(template.New("").Parse(`
receivers:
  otlp:
    protocols:
      grpc:
        endpoint: ` + loopback + `:${env:OTLP_GRPC_PORT}
        include_metadata: true
        max_recv_msg_size_mib: {{.MaxRequestMiB}}
      http:
        endpoint: ` + loopback + `:${env:OTLP_HTTP_PORT}
        include_metadata: true
processors:
  boundedbatch: {{or .Processor "{}"}}
{{- if .PanicAt}}
  panicker: {at_batch: {{.PanicAt}}}
{{- end}}
exporters:
  otlp_grpc:
    endpoint: {{.Backend.GRPCAddress}}
    tls: {insecure: true}
    compression: none
    timeout: 0s
    sending_queue: {{or .Queue "{enabled: false}"}}
    retry_on_failure: {{or .Retry "{enabled: false}"}}
    auth: {{.Auth}}
  otlp_http:
    endpoint: http://{{.Backend.HTTPAddress}}
    compression: none
    timeout: 0s
    sending_queue: {{or .Queue "{enabled: false}"}}
    retry_on_failure: {{or .Retry "{enabled: false}"}}
    auth: {{.Auth}}
extensions:
{{- if .Headers}}
  headers_setter: {headers: {{.Headers}}}
{{- end}}
{{- if .Storage}}
  file_storage: {directory: "{{.Storage}}"}
{{- end}}
{{- if .ReportStatus}}
  health_check:
    http: {endpoint: "` + loopback + `:${env:HEALTH_PORT}"}
    component_health: {include_permanent_errors: true, include_recoverable_errors: true, recovery_duration: 0s}
{{- end}}
{{- if .Debug}}
  zpages: {endpoint: "` + loopback + `:${env:ZPAGES_PORT}"}
{{- end}}
{{- if or .Inside .Debug}}
  boundedbatchz: {endpoint: "` + loopback + `:${env:INSIDE_PORT}", show_metadata_values: {{.ShowValues}}}
{{- end}}
{{- if .Profile}}
  pprof: {endpoint: "` + loopback + `:${env:PPROF_PORT}"}
{{- end}}
service:
  extensions: [{{.Extensions}}]
  pipelines:
{{- range .Signals}}
    {{.}}: {receivers: [otlp], processors: [boundedbatch{{if $.PanicAt}}, panicker{{end}}], exporters: [{{or $.Exporter "otlp_grpc"}}]}
{{- end}}
  telemetry:
{{- if .Debug}}
    logs: {level: debug, sampling: {enabled: false}}
{{- end}}
    metrics:
      readers: [pull: {exporter: {prometheus: {host: ` + loopback + `, port: "${env:METRICS_PORT}"}}}]
`))

// Auth is the authenticator of the exporters; null: none.
func (cfg *Config) Auth() string {
	if cfg.Headers == "" {
		return "null"
	}
	return "{authenticator: headers_setter}"
}

// Extensions are those that are used.
func (cfg *Config) Extensions() string {
	var used []string
	for _, extension := range []struct {
		name string
		is   bool
	}{
		{"headers_setter", cfg.Headers != ""},
		{"file_storage", cfg.Storage != ""},
		{"health_check", cfg.ReportStatus},
		{"zpages", cfg.Debug},
		{"boundedbatchz", cfg.Debug || cfg.Inside},
		{"pprof", cfg.Profile},
	} {
		if extension.is {
			used = append(used, extension.name)
		}
	}
	return strings.Join(used, ", ")
}

// Signals are the pipelines.
func (cfg *Config) Signals() (names []string) {
	for _, signal := range Signals() {
		if signal != Profiles || cfg.PanicAt == 0 {
			names = append(names, signal.Name())
		}
	}
	return names
}

func (cfg *Config) yaml(tb testing.TB) string {
	tb.Helper()
	var text strings.Builder
	if err := configText.Execute(&text, cfg); err != nil {
		tb.Fatalf("configuration of the collector: %v", err)
	}
	return text.String()
}

// Collector is a running collector.
type Collector struct {
	path               string // of its configuration
	over               string // of a second one, which is merged over it; empty: there is none
	environment, gates []string
	movable            bool // Config.MovableClock
	debug, status      bool // Config.Debug, Config.ReportStatus

	ports    ports
	scraper  *http.Client
	clients  transports
	*process // in its present life
}

// process is one life of a collector.
type process struct {
	cmd    *exec.Cmd
	log    *logText
	clock  *clock        // nil: it cannot be moved
	exited chan struct{} // closed when the process has ended and state is set
	state  *os.ProcessState
}

// Start starts a collector and waits until it is ready. It ends with the test, if not
// before. If the test fails, the test's log shows the configuration and what the
// collector wrote.
func Start(tb testing.TB, cfg Config) *Collector {
	tb.Helper()
	gates := append(slices.Clip(cfg.FeatureGates), ProfilesGate)
	if cfg.ReportStatus {
		gates = append(gates, statusGate)
	}
	environment := slices.Clip(cfg.Environment)
	if cfg.Profile {
		environment = append(environment, "GOGC=", "GOMEMLIMIT=") // as if they were not set
	}
	c := start(tb, &Collector{path: writeConfig(tb, cfg.yaml(tb)), environment: environment, gates: gates, movable: cfg.MovableClock})
	c.debug, c.status = cfg.Debug, cfg.ReportStatus
	return c
}

// StartYAML is StartFile for a configuration that is not in a file.
func StartYAML(tb testing.TB, yaml string) *Collector {
	tb.Helper()
	return StartFile(tb, writeConfig(tb, yaml))
}

// StartFile starts a collector on a configuration that takes its ports from
// OTLP_GRPC_PORT, OTLP_HTTP_PORT and METRICS_PORT, as the files in examples/ do, and
// whatever else it takes from the environment.
func StartFile(tb testing.TB, path string, environment ...string) *Collector {
	tb.Helper()
	return StartFileGated(tb, path, nil, environment...)
}

// StartFileGated is StartFile with feature gates.
func StartFileGated(tb testing.TB, path string, gates []string, environment ...string) *Collector {
	tb.Helper()
	return start(tb, &Collector{path: path, gates: gates, environment: environment})
}

// StartFileOver is StartFile with a second configuration, in YAML, that is merged over that of the file.
func StartFileOver(tb testing.TB, path, over string, environment ...string) *Collector {
	tb.Helper()
	return start(tb, &Collector{path: path, over: writeConfig(tb, over), environment: environment})
}

// start begins a collector's first life.
func start(tb testing.TB, c *Collector) *Collector {
	tb.Helper()
	transport := &http.Transport{}
	tb.Cleanup(transport.CloseIdleConnections)
	c.scraper = &http.Client{Transport: transport}
	c.clients.add(transport)
	// Ports are free when they are picked, not when the collector listens on them: on
	// a clash, pick again.
	const attempts = 3
	for attempt := 1; ; attempt++ {
		c.ports = freePorts(tb)
		c.launch(tb)
		err := c.awaitReady(tb.Context())
		if err == nil {
			return c
		}
		if attempt == attempts || !c.log.contains("address already in use") {
			tb.Fatalf("collector on %s: %v", c.path, err)
		}
	}
}

// Restart starts a collector that has ended again, with the same configuration and ports, and
// waits until it is ready. Its log begins anew. No other method may be called meanwhile.
func (c *Collector) Restart(tb testing.TB) {
	tb.Helper()
	select {
	case <-c.exited:
	default:
		tb.Fatal("the collector to restart still runs")
	}
	c.launch(tb)
	if err := c.awaitReady(tb.Context()); err != nil {
		tb.Fatalf("collector on %s again: %v", c.path, err)
	}
}

// Configure writes another configuration, for the next Restart or SIGHUP.
func (c *Collector) Configure(tb testing.TB, cfg Config) {
	tb.Helper()
	replaceConfig(tb, c.path, cfg.yaml(tb))
}

// ConfigureOver writes another second configuration of a collector that StartFileOver has started, for
// the next Restart or SIGHUP.
func (c *Collector) ConfigureOver(tb testing.TB, over string) {
	tb.Helper()
	replaceConfig(tb, c.over, over)
}

// replaceConfig writes a configuration as a whole: the collector must not read half of it.
func replaceConfig(tb testing.TB, path, yaml string) {
	tb.Helper()
	next := path + ".next"
	if err := os.WriteFile(next, []byte(yaml), 0o600); err != nil {
		tb.Fatal(err)
	}
	if err := os.Rename(next, path); err != nil {
		tb.Fatal(err)
	}
}

// Reload makes the collector read its configuration again, and waits until every component has
// stopped and started.
func (c *Collector) Reload(tb testing.TB) {
	tb.Helper()
	c.BeginReload(tb)(tb)
}

// BeginReload is Reload without the wait (SIGHUP), for which it returns a function.
func (c *Collector) BeginReload(tb testing.TB) (wait func(testing.TB)) {
	tb.Helper()
	wait = c.Expect(readyLine)
	c.Signal(tb, syscall.SIGHUP)
	return wait
}

// launch starts the process.
func (c *Collector) launch(tb testing.TB) {
	tb.Helper()
	binary, err := Binary()
	if err != nil {
		tb.Fatal(err)
	}
	args := []string{"--config", c.path}
	if c.over != "" {
		args = append(args, "--config", c.over)
	}
	if len(c.gates) > 0 {
		args = append(args, "--feature-gates", strings.Join(c.gates, ","))
	}
	if !c.movable { // whose own start has to be traced
		binary, args = withoutHangup(binary, args)
	}
	p := &process{log: newLogText(), exited: make(chan struct{})}
	p.cmd = exec.CommandContext(tb.Context(), binary, args...) // killed at the end of the test
	p.cmd.Env = slices.Concat(os.Environ(), c.ports.environment(), c.environment)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.WaitDelay = 5 * time.Second
	if c.movable {
		p.clock, err = startWithMovableClock(p.cmd)
	} else {
		err = p.cmd.Start()
	}
	if err != nil {
		tb.Fatalf("start collector: %v", err)
	}
	go func() {
		_ = p.cmd.Wait() // the state tells the same
		p.state = p.cmd.ProcessState
		close(p.exited)
	}()
	tb.Cleanup(func() {
		<-p.exited
		if tb.Failed() {
			text, _ := os.ReadFile(c.path) // the file was readable a moment ago
			tb.Logf("configuration of the collector:\n%s\nits log:\n%s", text, p.log)
		}
	})
	c.process = p
}

// readyLine is what the collector logs when every component has started.
const readyLine = "Everything is ready"

func (c *Collector) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case <-c.log.mention(readyLine):
	case <-c.exited:
		return fmt.Errorf("ended before it was ready: %v", c.state)
	case <-ctx.Done():
		return errors.New("is not ready in time")
	}
	if c.movable {
		return nil
	}
	return c.awaitSignals(ctx)
}

// AwaitLog waits until the collector has written text in its present life.
func (c *Collector) AwaitLog(tb testing.TB, text string) {
	tb.Helper()
	c.awaitMention(tb, text, c.log.mention(text))
}

// Expect is AwaitLog for a text that the collector has yet to write, as it may have before. It
// returns a function that waits.
func (c *Collector) Expect(text string) (wait func(testing.TB)) {
	found := c.log.mentionFromNow(text)
	return func(tb testing.TB) {
		tb.Helper()
		c.awaitMention(tb, text, found)
	}
}

func (c *Collector) awaitMention(tb testing.TB, text string, found <-chan struct{}) {
	tb.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-found:
		return
	case <-c.exited:
	case <-timer.C:
		tb.Fatalf("the collector has not logged %q within %v", text, patience)
	}
	select { // its last words
	case <-found:
	default:
		tb.Fatalf("the collector has ended (%v) and not logged %q", c.state, text)
	}
}

// PID is the collector's process.
func (c *Collector) PID() int { return c.cmd.Process.Pid }

// Log returns what the collector has written so far.
func (c *Collector) Log() string { return c.log.String() }

// Signal sends a signal to the collector.
func (c *Collector) Signal(tb testing.TB, signal os.Signal) {
	tb.Helper()
	if err := c.cmd.Process.Signal(signal); err != nil {
		tb.Fatalf("signal %v to the collector: %v", signal, err)
	}
}

// Exit waits until the collector has ended and returns its status.
func (c *Collector) Exit(tb testing.TB) (status int) {
	tb.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-c.exited:
	case <-timer.C:
		tb.Fatalf("the collector has not ended within %v", patience)
	}
	return c.state.ExitCode()
}

// Stop ends the collector as service managers do. It must exit with status 0.
func (c *Collector) Stop(tb testing.TB) {
	tb.Helper()
	c.clients.closeIdle()
	c.Signal(tb, syscall.SIGTERM)
	if status := c.Exit(tb); status != 0 {
		tb.Errorf("after SIGTERM the collector exited with status %d", status)
	}
}

// Validate runs `otelcol validate` on a configuration and returns the exit status and
// what it printed.
func Validate(tb testing.TB, yaml string) (status int, output string) {
	tb.Helper()
	return ValidateFile(tb, writeConfig(tb, yaml))
}

// ValidateFile is Validate for a file, and with feature gates.
func ValidateFile(tb testing.TB, path string, gates ...string) (status int, output string) {
	tb.Helper()
	binary, err := Binary()
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	args := []string{"validate", "--config", path}
	if len(gates) > 0 {
		args = append(args, "--feature-gates", strings.Join(gates, ","))
	}
	cmd := exec.CommandContext(ctx, binary, args...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		tb.Fatalf("validate %s: %v", path, err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

func writeConfig(tb testing.TB, yaml string) (path string) {
	tb.Helper()
	path = filepath.Join(tb.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(yaml), 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

// loopback is where everything listens.
const loopback = "127.0.0.1"

type ports struct{ grpc, http, metrics, health, pprof, zpages, inside int }

// freePorts finds ports that nobody listens on. They are below those that a system gives to
// whoever connects or asks for any: a collector that is restarted finds its ports free again.
func freePorts(tb testing.TB) ports {
	tb.Helper()
	const lowest, highest = 20_000, 32_000
	var found [7]int
	for i, attempts := 0, 0; i < len(found); attempts++ {
		port := lowest + rand.IntN(highest-lowest)
		var lc net.ListenConfig
		l, err := lc.Listen(tb.Context(), "tcp", net.JoinHostPort(loopback, strconv.Itoa(port)))
		if err != nil {
			if attempts == 100 {
				tb.Fatalf("find a free port: %v", err)
			}
			continue
		}
		defer l.Close() //nolint:revive // closed together at the end, so that they differ
		found[i] = port
		i++
	}
	return ports{grpc: found[0], http: found[1], metrics: found[2], health: found[3], pprof: found[4], zpages: found[5], inside: found[6]}
}

func (p ports) address(port int) string { return net.JoinHostPort(loopback, strconv.Itoa(port)) }

func (p ports) environment() []string {
	return []string{
		fmt.Sprintf("OTLP_GRPC_PORT=%d", p.grpc),
		fmt.Sprintf("OTLP_HTTP_PORT=%d", p.http),
		fmt.Sprintf("METRICS_PORT=%d", p.metrics),
		fmt.Sprintf("HEALTH_PORT=%d", p.health),
		fmt.Sprintf("PPROF_PORT=%d", p.pprof),
		fmt.Sprintf("ZPAGES_PORT=%d", p.zpages),
		fmt.Sprintf("INSIDE_PORT=%d", p.inside),
	}
}

// logText keeps what a process writes and tells those who wait for a text.
type logText struct {
	mu      sync.Mutex // guards everything below
	text    bytes.Buffer
	waiting []mention
}

// mention is a text that somebody waits for.
type mention struct {
	text  string
	from  int           // how much had been written that does not count
	found chan struct{} // closed when the text occurs
}

// settle closes found if the text occurs. Requires l.mu held.
func (m *mention) settle(l *logText) (found bool) {
	if found = bytes.Contains(l.text.Bytes()[m.from:], []byte(m.text)); found {
		close(m.found)
	}
	return found
}

func newLogText() *logText { return new(logText) }

// Write implements io.Writer.
func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(p)
	l.waiting = slices.DeleteFunc(l.waiting, func(m mention) bool { return m.settle(l) })
	return len(p), nil
}

// mention returns a channel that is closed once text has been written.
func (l *logText) mention(text string) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.await(text, 0)
}

// mentionFromNow is mention without what has been written already.
func (l *logText) mentionFromNow(text string) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.await(text, l.text.Len())
}

// await is mention from a place on. Requires l.mu held.
func (l *logText) await(text string, from int) <-chan struct{} {
	m := mention{text: text, from: from, found: make(chan struct{})}
	if !m.settle(l) {
		l.waiting = append(l.waiting, m)
	}
	return m.found
}

func (l *logText) contains(text string) bool { return strings.Contains(l.String(), text) }

// String returns all of it.
func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
