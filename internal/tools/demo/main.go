// Command demo is what `make demo` runs: it starts a collector on a configuration, sends it spans, logs and metrics over
// gRPC and HTTP with telemetrygen, and prints what became of them. It ends with status 1 unless every item was
// delivered, exactly once by every account, and the collector stopped cleanly.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	readyTimeout    = 30 * time.Second // from the start of the process to the collector's word that it is ready
	sendTimeout     = 60 * time.Second // until telemetrygen has sent everything
	deliverTimeout  = 20 * time.Second // from the last request to the last item at the exporter
	shutdownTimeout = 40 * time.Second // more than the processor's shutdown_timeout of 30s
	sampleInterval  = 50 * time.Millisecond
)

type options struct {
	collector    string
	telemetrygen string
	config       string
	logs         string
	items        int
}

func main() {
	var opts options
	flag.StringVar(&opts.collector, "collector", "", "the collector's binary")
	flag.StringVar(&opts.telemetrygen, "telemetrygen", "", "telemetrygen's binary")
	flag.StringVar(&opts.config, "config", "", "the collector's configuration, whose ports are ${env:OTLP_GRPC_PORT}, ${env:OTLP_HTTP_PORT} and ${env:METRICS_PORT}")
	flag.StringVar(&opts.logs, "logs", "", "directory for what the programs print; it is emptied first")
	flag.IntVar(&opts.items, "items", 100_000, "items to send of each signal over each protocol; even, as a trace here has two spans")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, opts); err != nil {
		fmt.Fprintln(os.Stderr, "demo failed:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, opts options) error {
	if opts.collector == "" || opts.telemetrygen == "" || opts.config == "" || opts.logs == "" {
		return errors.New("-collector, -telemetrygen, -config and -logs are required")
	}
	if opts.items <= 0 || opts.items%2 != 0 {
		return fmt.Errorf("-items is %d; it must be positive and even", opts.items)
	}
	if err := os.RemoveAll(opts.logs); err != nil {
		return err
	}
	if err := os.MkdirAll(opts.logs, 0o750); err != nil {
		return err
	}

	began := time.Now()
	col, err := startCollector(ctx, opts)
	if err != nil {
		return err
	}
	defer col.kill()
	fmt.Printf("collector ready after %s: %s; its batches, one a line: %s\n",
		since(began), opts.config, filepath.Join(opts.logs, batchesLog))

	began = time.Now()
	fmt.Printf("sending %s items of each signal over gRPC and as many over HTTP, all at once\n", thousands(float64(opts.items)))
	totals, err := drive(ctx, opts, col)
	if err != nil {
		return err
	}
	took := time.Since(began)

	began = time.Now()
	stopErr := col.stop()
	if stopErr == nil {
		fmt.Printf("collector stopped by SIGTERM after %s, status 0\n", since(began))
	}

	fmt.Println()
	printTable(os.Stdout, totals, took)
	fmt.Println()

	problems := totals.problems()
	if stopErr != nil {
		problems = append(problems, stopErr.Error())
	}
	if len(problems) > 0 {
		return fmt.Errorf("%d problems (logs in %s):\n  %s", len(problems), opts.logs, strings.Join(problems, "\n  "))
	}
	fmt.Println("every item sent was delivered")
	return nil
}

// drive sends everything and samples the collector's metrics meanwhile. It returns when all has been delivered, and when
// that did not come about in time with what had; an error is only for what makes the numbers meaningless.
func drive(ctx context.Context, opts options, col *collector) (*totals, error) {
	ctx, cancel := context.WithCancel(ctx)
	sent := send(ctx, opts, col.ports) // nil once it has given its result
	defer func() {
		cancel()
		if sent != nil {
			for range sent { // no telemetrygen is left behind
			}
		}
	}()

	totals := newTotals(opts.items)
	deadline := time.NewTimer(sendTimeout)
	defer deadline.Stop()
	sample := time.NewTicker(sampleInterval)
	defer sample.Stop()
	progress := time.NewTicker(time.Second)
	defer progress.Stop()

	for {
		select {
		case err := <-sent:
			sent = nil
			if err != nil {
				return nil, err
			}
			deadline.Reset(deliverTimeout)
		case <-sample.C:
			s, err := scrapeMetrics(ctx, col.metricsURL())
			if err != nil {
				// The end of the collector says more than a connection it no longer answers.
				select {
				case <-col.exited:
					return nil, fmt.Errorf("collector ended by itself: %w", col.exitError())
				case <-time.After(time.Second):
					return nil, err
				}
			}
			totals.observe(s)
			if sent == nil && totals.settled() {
				return totals, nil
			}
		case <-progress.C:
			fmt.Println(" ", totals.progress())
		case <-deadline.C:
			if sent != nil {
				return nil, fmt.Errorf("telemetrygen still sending after %s; its logs are in %s", sendTimeout, opts.logs)
			}
			return totals, nil
		case <-col.exited:
			return nil, fmt.Errorf("collector ended by itself: %w", col.exitError())
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func since(t time.Time) time.Duration { return time.Since(t).Round(10 * time.Millisecond) }
