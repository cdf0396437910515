package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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
		return "", fmt.Errorf("%s is not set: these tests need a built collector; run them with make e2e", BinaryVariable)
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
	// Debug has everything logged, and adds the zpages extension; see Collector.Pages.
	Debug bool
	// FeatureGates are switched on, besides those that the other fields and profiles need.
	FeatureGates []string
}

// configText is rendered with a Config. Its ports come from the environment, as in
// the files of examples/. The exporter has no queue and no timeout: what the processor
// hands on is in flight until the backend has answered.
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
exporters:
  otlp_grpc:
    endpoint: {{.Backend.GRPCAddress}}
    tls: {insecure: true}
    compression: none
    timeout: 0s
    sending_queue: {enabled: false}
    retry_on_failure: {{or .Retry "{enabled: false}"}}
    auth: {{.Auth}}
  otlp_http:
    endpoint: http://{{.Backend.HTTPAddress}}
    compression: none
    timeout: 0s
    sending_queue: {enabled: false}
    retry_on_failure: {{or .Retry "{enabled: false}"}}
    auth: {{.Auth}}
extensions:
{{- if .Headers}}
  headers_setter: {headers: {{.Headers}}}
{{- end}}
{{- if .ReportStatus}}
  health_check:
    http: {endpoint: "` + loopback + `:${env:HEALTH_PORT}"}
    component_health: {include_permanent_errors: true, include_recoverable_errors: true, recovery_duration: 0s}
{{- end}}
{{- if .Debug}}
  zpages: {endpoint: "` + loopback + `:${env:ZPAGES_PORT}"}
{{- end}}
{{- if .Profile}}
  pprof: {endpoint: "` + loopback + `:${env:PPROF_PORT}"}
{{- end}}
service:
  extensions: [{{if .Headers}}headers_setter, {{end}}{{if .ReportStatus}}health_check, {{end}}{{if .Debug}}zpages, {{end}}{{if .Profile}}pprof{{end}}]
  pipelines:
    traces: {receivers: [otlp], processors: [boundedbatch], exporters: [{{or .Exporter "otlp_grpc"}}]}
    logs: {receivers: [otlp], processors: [boundedbatch], exporters: [{{or .Exporter "otlp_grpc"}}]}
    metrics: {receivers: [otlp], processors: [boundedbatch], exporters: [{{or .Exporter "otlp_grpc"}}]}
    profiles: {receivers: [otlp], processors: [boundedbatch], exporters: [{{or .Exporter "otlp_grpc"}}]}
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
	ports   ports
	cmd     *exec.Cmd
	log     *logText
	scraper *http.Client
	clients transports
	debug   bool // Config.Debug
	status  bool // Config.ReportStatus

	exited chan struct{} // closed when the process has ended and state is set
	state  *os.ProcessState
}

// Start starts a collector and waits until it is ready. It ends with the test, if not
// before. If the test fails, the test's log shows the configuration and what the
// collector wrote.
func Start(tb testing.TB, cfg Config) *Collector {
	tb.Helper()
	gates := append(slices.Clip(cfg.FeatureGates), profilesGate)
	if cfg.ReportStatus {
		gates = append(gates, statusGate)
	}
	var environment []string
	if cfg.Profile {
		environment = []string{"GOGC=", "GOMEMLIMIT="} // as if they were not set
	}
	c := start(tb, writeConfig(tb, cfg.yaml(tb)), environment, gates)
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
	return start(tb, path, environment, nil)
}

func start(tb testing.TB, path string, environment, gates []string) *Collector {
	tb.Helper()
	// Ports are free when they are picked, not when the collector listens on them: on
	// a clash, pick again.
	const attempts = 3
	for attempt := 1; ; attempt++ {
		c := launch(tb, path, environment, gates)
		err := c.awaitReady(tb.Context())
		if err == nil {
			return c
		}
		if attempt == attempts || !c.log.contains("address already in use") {
			tb.Fatalf("collector on %s: %v", path, err)
		}
	}
}

// launch starts the process.
func launch(tb testing.TB, path string, environment, gates []string) *Collector {
	tb.Helper()
	binary, err := Binary()
	if err != nil {
		tb.Fatal(err)
	}
	transport := &http.Transport{}
	tb.Cleanup(transport.CloseIdleConnections)
	c := &Collector{
		ports:   freePorts(tb),
		log:     newLogText(),
		scraper: &http.Client{Transport: transport},
		exited:  make(chan struct{}),
	}
	c.clients.add(transport)
	args := []string{"--config", path}
	if len(gates) > 0 {
		args = append(args, "--feature-gates", strings.Join(gates, ","))
	}
	c.cmd = exec.CommandContext(tb.Context(), binary, args...) // killed at the end of the test
	c.cmd.Env = slices.Concat(os.Environ(), c.ports.environment(), environment)
	c.cmd.Stdout, c.cmd.Stderr = c.log, c.log
	c.cmd.WaitDelay = 5 * time.Second
	if err := c.cmd.Start(); err != nil {
		tb.Fatalf("start collector: %v", err)
	}
	go func() {
		_ = c.cmd.Wait() // the state tells the same
		c.state = c.cmd.ProcessState
		close(c.exited)
	}()
	tb.Cleanup(func() {
		<-c.exited
		if tb.Failed() {
			text, _ := os.ReadFile(path) // the file was readable a moment ago
			tb.Logf("configuration of the collector:\n%s\nits log:\n%s", text, c.log)
		}
	})
	return c
}

// readyLine is what the collector logs when every component has started.
const readyLine = "Everything is ready"

func (c *Collector) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case <-c.log.mention(readyLine):
		return nil
	case <-c.exited:
		return fmt.Errorf("ended before it was ready: %v", c.state)
	case <-ctx.Done():
		return errors.New("is not ready in time")
	}
}

// AwaitLog waits until the collector has written text.
func (c *Collector) AwaitLog(tb testing.TB, text string) {
	tb.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-c.log.mention(text):
	case <-timer.C:
		tb.Fatalf("the collector has not logged %q within %v", text, patience)
	}
}

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

// ValidateFile is Validate for a file.
func ValidateFile(tb testing.TB, path string) (status int, output string) {
	tb.Helper()
	binary, err := Binary()
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "validate", "--config", path)
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

type ports struct{ grpc, http, metrics, health, pprof, zpages int }

// freePorts finds ports that nobody listens on.
func freePorts(tb testing.TB) ports {
	tb.Helper()
	var found [6]int
	for i := range found {
		var lc net.ListenConfig
		l, err := lc.Listen(tb.Context(), "tcp", loopback+":0")
		if err != nil {
			tb.Fatalf("find a free port: %v", err)
		}
		defer l.Close() //nolint:revive // closed together at the end, so that they differ
		_, port, err := net.SplitHostPort(l.Addr().String())
		if err == nil {
			found[i], err = strconv.Atoi(port)
		}
		if err != nil {
			tb.Fatalf("find a free port: %v", err)
		}
	}
	return ports{grpc: found[0], http: found[1], metrics: found[2], health: found[3], pprof: found[4], zpages: found[5]}
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
	}
}

// logText keeps what a process writes and tells those who wait for a text.
type logText struct {
	mu      sync.Mutex // guards everything below
	text    bytes.Buffer
	waiting map[string]chan struct{} // closed and removed when the text occurs
}

func newLogText() *logText { return &logText{waiting: make(map[string]chan struct{})} }

// Write implements io.Writer.
func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(p)
	for text, found := range l.waiting {
		if bytes.Contains(l.text.Bytes(), []byte(text)) {
			close(found)
			delete(l.waiting, text)
		}
	}
	return len(p), nil
}

// mention returns a channel that is closed once text has been written.
func (l *logText) mention(text string) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	found := l.waiting[text]
	switch {
	case found != nil:
	case bytes.Contains(l.text.Bytes(), []byte(text)):
		found = make(chan struct{})
		close(found)
	default:
		found = make(chan struct{})
		l.waiting[text] = found
	}
	return found
}

func (l *logText) contains(text string) bool { return strings.Contains(l.String(), text) }

// String returns all of it.
func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
