package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
)

const (
	collectorLog = "collector.log"
	batchesLog   = "batches.log"

	// readyLine is what the collector's service logs when every component has started.
	readyLine = "Everything is ready"
)

type ports struct{ grpc, http, metrics int }

// collector is a running child process.
type collector struct {
	ports  ports
	cmd    *exec.Cmd
	exited chan struct{} // closed when the process has ended and err is set
	err    error
	stderr *watcher
}

// startCollector validates the configuration, starts the collector on free ports and waits until it is ready.
func startCollector(ctx context.Context, opts options) (*collector, error) {
	// Ports are free when they are picked, not when the collector listens on them: on a clash, pick again.
	const attempts = 3
	for attempt := 1; ; attempt++ {
		p, err := freePorts(ctx)
		if err != nil {
			return nil, err
		}
		env := append(os.Environ(),
			"OTLP_GRPC_PORT="+strconv.Itoa(p.grpc), "OTLP_HTTP_PORT="+strconv.Itoa(p.http), "METRICS_PORT="+strconv.Itoa(p.metrics))
		if attempt == 1 {
			validate := exec.CommandContext(ctx, opts.collector, "validate", "--config", opts.config)
			validate.Env = env
			if out, err := validate.CombinedOutput(); err != nil {
				return nil, fmt.Errorf("%s does not validate: %w\n%s", opts.config, err, out)
			}
		}
		col, err := startOnce(ctx, opts, p, env)
		if err == nil {
			return col, nil
		}
		if attempt == attempts || col == nil || !col.stderr.contains("address already in use") {
			return nil, err
		}
	}
}

// startOnce returns the collector beside the error when it was started but did not become ready.
func startOnce(ctx context.Context, opts options, p ports, env []string) (*collector, error) {
	stdout, err := os.Create(filepath.Join(opts.logs, batchesLog))
	if err != nil {
		return nil, err
	}
	defer stdout.Close() // the child has its own descriptor
	log, err := os.Create(filepath.Join(opts.logs, collectorLog))
	if err != nil {
		return nil, err
	}
	col := &collector{ports: p, exited: make(chan struct{}), stderr: newWatcher(log, readyLine)}
	// Not CommandContext: that would kill the collector when the demo is interrupted, while kill and stop end it here.
	col.cmd = exec.Command(opts.collector, "--config", opts.config) //nolint:noctx // as said above
	col.cmd.Env, col.cmd.Stdout, col.cmd.Stderr = env, stdout, col.stderr
	// Should the collector leave children behind that hold its stderr, Wait does not wait for these.
	col.cmd.WaitDelay = 5 * time.Second
	if err := col.cmd.Start(); err != nil {
		log.Close()
		return nil, err
	}
	go func() {
		col.err = col.cmd.Wait()
		log.Close()
		close(col.exited)
	}()

	ready := time.NewTimer(readyTimeout)
	defer ready.Stop()
	select {
	case <-col.stderr.found:
		return col, nil
	case <-col.exited:
		return col, fmt.Errorf("collector ended before it was ready: %w", col.exitError())
	case <-ready.C:
		err = fmt.Errorf("collector not ready after %s; its log ends:\n%s", readyTimeout, col.stderr.tail())
	case <-ctx.Done():
		err = ctx.Err()
	}
	col.kill()
	return col, err
}

func (c *collector) metricsURL() string {
	return fmt.Sprintf("http://localhost:%d/metrics", c.ports.metrics)
}

// stop asks the collector to shut down and reports how that went.
func (c *collector) stop() error {
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("collector could not be told to stop: %w", err)
	}
	timeout := time.NewTimer(shutdownTimeout)
	defer timeout.Stop()
	select {
	case <-c.exited:
		if c.err != nil {
			return fmt.Errorf("collector did not stop cleanly: %w", c.exitError())
		}
		return nil
	case <-timeout.C:
		c.kill()
		return fmt.Errorf("collector had not stopped %s after SIGTERM and was killed; its log ends:\n%s", shutdownTimeout, c.stderr.tail())
	}
}

// kill ends the process if it is still there, and waits for it.
func (c *collector) kill() {
	select {
	case <-c.exited:
	default:
		_ = c.cmd.Process.Kill() // fails only when the process has just ended
		<-c.exited
	}
}

// exitError requires that the process has exited.
func (c *collector) exitError() error {
	err := c.err
	if err == nil {
		err = errors.New("status 0")
	}
	return fmt.Errorf("%w; its log ends:\n%s", err, c.stderr.tail())
}

// send runs telemetrygen for every signal and protocol at the same time. When all have ended it gives one result, nil or
// what went wrong, and closes the channel.
func send(ctx context.Context, opts options, p ports) <-chan error {
	done := make(chan error, 1)
	var senders sync.WaitGroup
	var mu sync.Mutex
	var failures []error
	for _, sig := range signals {
		for _, transport := range transports {
			senders.Go(func() {
				if err := sendOne(ctx, opts, sig, transport, p); err != nil {
					mu.Lock()
					defer mu.Unlock()
					failures = append(failures, err)
				}
			})
		}
	}
	go func() {
		senders.Wait()
		done <- errors.Join(failures...)
		close(done)
	}()
	return done
}

func sendOne(ctx context.Context, opts options, sig signalInfo, transport string, p ports) error {
	count := opts.items / sig.itemsPerUnit
	args := []string{
		sig.name, "--" + sig.name, strconv.Itoa(count), "--rate", "0", "--timeout", "30s", "--otlp-insecure",
		"--service", "demo-" + transport,
	}
	if transport == "http" {
		args = append(args, "--otlp-http", "--otlp-endpoint", fmt.Sprintf("localhost:%d", p.http))
	} else {
		args = append(args, "--otlp-endpoint", fmt.Sprintf("localhost:%d", p.grpc))
	}
	log, err := os.Create(filepath.Join(opts.logs, fmt.Sprintf("telemetrygen-%s-%s.log", sig.name, transport)))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.CommandContext(ctx, opts.telemetrygen, args...)
	// telemetrygen sends spans through the SDK's span processor, which drops what exceeds its queue of 2048 without a word:
	// at full speed two thirds of them would never be sent.
	cmd.Env = append(os.Environ(), "OTEL_BSP_MAX_QUEUE_SIZE="+strconv.Itoa(opts.items))
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("telemetrygen %s over %s: %w (%s)", sig.name, transport, err, log.Name())
	}
	return nil
}

// freePorts finds three different ports that nobody listens on.
func freePorts(ctx context.Context) (ports, error) {
	var found [3]int
	for i := range found {
		var lc net.ListenConfig
		l, err := lc.Listen(ctx, "tcp", "localhost:0")
		if err != nil {
			return ports{}, err
		}
		defer l.Close() //nolint:revive // closed together at the end, so that the three differ
		addr, ok := l.Addr().(*net.TCPAddr)
		if !ok {
			return ports{}, fmt.Errorf("listener at %s has no port", l.Addr())
		}
		found[i] = addr.Port
	}
	return ports{grpc: found[0], http: found[1], metrics: found[2]}, nil
}

// watcher copies what a process prints to w, closes found when the marker has gone by, and keeps the end for messages.
type watcher struct {
	w      io.Writer
	marker []byte
	found  chan struct{}

	mu   sync.Mutex
	last []byte
	seen bool
}

// keep is how much of the output a watcher remembers; more than any line that is looked for.
const keep = 4096

func newWatcher(w io.Writer, marker string) *watcher {
	return &watcher{w: w, marker: []byte(marker), found: make(chan struct{})}
}

func (w *watcher) Write(p []byte) (int, error) {
	w.mu.Lock()
	w.last = append(w.last, p...)
	found := !w.seen && bytes.Contains(w.last, w.marker)
	w.seen = w.seen || found
	if len(w.last) > keep {
		w.last = append([]byte(nil), w.last[len(w.last)-keep:]...)
	}
	w.mu.Unlock()
	if found {
		close(w.found)
	}
	return w.w.Write(p)
}

func (w *watcher) contains(text string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return bytes.Contains(w.last, []byte(text))
}

func (w *watcher) tail() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(w.last)
}
