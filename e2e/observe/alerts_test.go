package observe

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/boundedbatch/boundedbatchprocessor/e2e/internal/harness"
)

// What the backend refuses batches with.
var (
	permanent = status.Error(codes.InvalidArgument, "the backend refuses this for good")
	retryable = status.Error(codes.Unavailable, "the backend is busy")
)

// enough is how long an alert may take to fire, or to go away: for, a range and some scrapes are 25 s at most.
const enough = time.Minute

// scenario is a collector under a fault, and what Prometheus says of it.
type scenario struct {
	*testing.T
	prometheus *prometheus
	seen       *seen
	backend    *harness.Backend
	collector  *harness.Collector
	name       string // of the collector, as instance
}

// start starts the collector of a scenario and has it scraped.
func (s *scenario) start(cfg harness.Config) {
	s.Helper()
	s.backend = harness.NewBackend(s.T)
	cfg.Backend = s.backend
	s.collector = harness.Start(s.T, cfg)
	s.prometheus.scrape(s.T, s.name, s.collector)
}

// active returns the alerts of a name, signal and, if it is not empty, cause.
func (s *scenario) active(ctx context.Context, name string, signal harness.Signal, cause string) (found []alert, err error) {
	all, err := s.prometheus.alerts(ctx, s.name)
	for _, a := range all {
		if a.Labels["alertname"] == name && a.Labels["signal"] == signal.Name() && (cause == "" || a.Labels["cause"] == cause) {
			found = append(found, a)
		}
	}
	return found, err
}

// fires waits until an alert fires, and requires that its texts say where.
func (s *scenario) fires(name string, signal harness.Signal, cause string) {
	s.Helper()
	var firing alert
	harness.Within(s.T, enough, func(ctx context.Context) error {
		found, err := s.active(ctx, name, signal, cause)
		if err != nil {
			return err
		}
		for _, a := range found {
			if a.State == "firing" {
				firing = a
				return nil
			}
		}
		return fmt.Errorf("%s of %s %s does not fire: %v", name, signal.Name(), cause, found)
	})
	s.seen.note(s.seen.fired, name)
	for _, key := range []string{"summary", "description"} {
		text := firing.Annotations[key]
		assert.Contains(s.T, text, "boundedbatch", "%s of %s", key, name)
		assert.Contains(s.T, text, signal.Name(), "%s of %s", key, name)
		assert.Contains(s.T, text, cause, "%s of %s", key, name)
		assert.NotContains(s.T, text, "<no value>", "%s of %s", key, name)
		assert.NotContains(s.T, text, "error", "%s of %s", key, name)
	}
	assert.Contains(s.T, firing.Annotations["description"], s.name, name)
	assert.Equal(s.T, job, firing.Labels["job"], name)
	assert.NotEmpty(s.T, firing.Labels["severity"], name)
}

// recovers waits until an alert is neither firing nor pending.
func (s *scenario) recovers(name string, signal harness.Signal, cause string) {
	s.Helper()
	harness.Within(s.T, enough, func(ctx context.Context) error {
		found, err := s.active(ctx, name, signal, cause)
		if err == nil && len(found) > 0 {
			err = fmt.Errorf("%s of %s %s has not gone away: %v", name, signal.Name(), cause, found)
		}
		return err
	})
	s.seen.note(s.seen.recovered, name)
}

// load calls send again and again in a goroutine until stop is called, or the test ends.
func (s *scenario) load(every time.Duration, send func(ctx context.Context)) (stop func()) {
	s.Helper()
	ctx, cancel := context.WithCancel(s.Context())
	var sending sync.WaitGroup
	sending.Go(func() {
		again := time.NewTicker(every)
		defer again.Stop()
		for {
			select {
			case <-again.C:
				send(ctx)
			case <-ctx.Done():
				return
			}
		}
	})
	stop = sync.OnceFunc(func() { cancel(); sending.Wait() })
	s.Cleanup(stop)
	return stop
}

// requests returns a load of requests whose answers do not matter.
func (s *scenario) requests(client harness.Client, signal harness.Signal, journal *harness.Journal, items int) func(context.Context) {
	return func(ctx context.Context) { _ = client.Send(ctx, signal, journal.Take(items)) }
}

// acknowledged returns a load of requests all of which must be acknowledged.
func (s *scenario) acknowledged(client harness.Client, signal harness.Signal, journal *harness.Journal, items int) func(context.Context) {
	return func(ctx context.Context) {
		if err := client.Send(ctx, signal, journal.Take(items)); err != nil && ctx.Err() == nil {
			assert.NoError(s.T, err)
		}
	}
}

// TestAlertsFireUnderFaultsAndRecover has a collector for each scenario, all at once. Then everything that dashboards/ asks has
// something to show.
func TestAlertsFireUnderFaultsAndRecover(t *testing.T) {
	t.Parallel()
	p := startPrometheus(t)
	began, seen := time.Now(), newSeen()
	scenarios := map[string]func(*scenario){
		"failing": failing, "retrying": retrying, "full": full, "full-of-bytes": fullOfBytes, "parts-refused": partsRefused,
		"evicting": evicting, "starved": starved, "large-profiles": largeProfiles, "dropping": dropping, "stopping": stopping,
		"pressed": pressed, "suffixed": suffixed,
	}
	var faults sync.WaitGroup
	faults.Add(len(scenarios))
	t.Run("scenario", func(t *testing.T) {
		run := func(name string, body func(*scenario)) {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				body(&scenario{T: t, prometheus: p, seen: seen, name: name})
			})
		}
		run(healthyName, func(s *scenario) { healthy(s, faults.Wait) })
		for name, body := range scenarios {
			run(name, func(s *scenario) {
				defer faults.Done()
				body(s)
			})
		}
	})
	if t.Failed() {
		return
	}
	alerts, recordings := readRules(t)
	for _, name := range alerts {
		assert.True(t, seen.fired[name], "%s was not seen to fire", name)
		assert.True(t, seen.recovered[name], "%s was not seen to go away", name)
	}
	for _, name := range recordings {
		found, err := p.queryRange(t.Context(), name, began)
		require.NoError(t, err)
		assert.True(t, shows(found), "%s was never anything but 0", name)
	}
	t.Run("dashboard", func(t *testing.T) { requireDashboardShows(t, p, began) })
}

const healthyName = "healthy"

// healthy has no alert while others have.
func healthy(s *scenario, faultsAreOver func()) {
	s.start(harness.Config{Processor: "{send_batch_size: 500, memory_limit: 64MiB}"})
	for _, signal := range harness.Signals() {
		for _, client := range s.collector.Clients(s.T, nil) {
			s.load(100*time.Millisecond, s.acknowledged(client, signal, new(harness.Journal), 50))
		}
	}
	faultsAreOver()
	// Not even pending. Ticks can be late in truth, where the machine has much else to do.
	found, err := s.prometheus.query(s.Context(), fmt.Sprintf(
		`count_over_time(ALERTS{instance=%q, alertname!="BoundedBatchTicksLate"}[10m])`, s.name))
	require.NoError(s.T, err)
	assert.Empty(s.T, found)
}

// failing has a backend that refuses for good, is dead, and does not answer in time.
func failing(s *scenario) {
	s.start(harness.Config{Processor: "{send_batch_size: 0, export_timeout: 200ms}"})
	s.load(50*time.Millisecond, s.acknowledged(s.collector.GRPC(s.T, nil), harness.Traces, new(harness.Journal), 10))
	s.backend.Refuse(permanent)
	s.fires("BoundedBatchItemsFailing", harness.Traces, "permanent")
	s.backend.Kill(s.T)
	s.fires("BoundedBatchItemsFailing", harness.Traces, "retryable")
	s.recovers("BoundedBatchItemsFailing", harness.Traces, "permanent")
	s.backend.Restart(s.T)
	s.backend.Hold()
	s.fires("BoundedBatchItemsFailing", harness.Traces, "timeout")
	s.backend.Accept()
	s.recovers("BoundedBatchItemsFailing", harness.Traces, "")
}

// retrying has a backend that is busy for so long that retries go on all the time; nothing is lost by it.
func retrying(s *scenario) {
	s.start(harness.Config{Processor: "{send_batch_size: 0, retry_on_failure: " +
		"{enabled: true, initial_interval: 100ms, max_interval: 500ms, max_elapsed_time: 0s}}"})
	s.load(200*time.Millisecond, s.acknowledged(s.collector.GRPC(s.T, nil), harness.Logs, new(harness.Journal), 10))
	s.backend.Refuse(retryable)
	s.fires("BoundedBatchRetriesSteady", harness.Logs, "")
	found, err := s.active(s.Context(), "BoundedBatchItemsFailing", harness.Logs, "")
	require.NoError(s.T, err)
	assert.Empty(s.T, found)
	s.backend.Accept()
	s.recovers("BoundedBatchRetriesSteady", harness.Logs, "")
}

// full has a backend that takes nothing, so that items, slots and callers all wait.
func full(s *scenario) {
	s.start(harness.Config{Processor: "{send_batch_size: 100, queue_size: 1000, max_concurrent_exports: 2}"})
	s.backend.Hold()
	client, journal := s.collector.GRPC(s.T, nil), new(harness.Journal)
	for range 10 {
		require.NoError(s.T, client.Send(s.Context(), harness.Logs, journal.Take(100)))
	}
	patient := s.load(50*time.Millisecond, s.acknowledged(client, harness.Logs, journal, 10))
	hasty := s.load(50*time.Millisecond, func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		defer cancel()
		_ = client.Send(ctx, harness.Logs, journal.Take(10)) // refused while there is no room
	})
	for _, name := range []string{
		"BoundedBatchItemsNearlyFull", "BoundedBatchExportsSaturated", "BoundedBatchCallersWaiting",
	} {
		s.fires(name, harness.Logs, "")
	}
	s.fires("BoundedBatchItemsRefused", harness.Logs, "canceled")
	s.backend.Accept()
	for _, name := range []string{
		"BoundedBatchItemsNearlyFull", "BoundedBatchExportsSaturated", "BoundedBatchCallersWaiting", "BoundedBatchItemsRefused",
	} {
		s.recovers(name, harness.Logs, "")
	}
	patient()
	hasty()
}

// fullOfBytes has a backend that takes nothing, and a limit in bytes at which callers are refused.
func fullOfBytes(s *scenario) {
	s.start(harness.Config{Processor: "{send_batch_size: 50, memory_limit: 256KiB, block_on_overflow: false}"})
	s.backend.Hold()
	client, journal := s.collector.HTTP(s.T, nil), new(harness.Journal)
	s.load(50*time.Millisecond, s.requests(client, harness.Traces, journal, 10))
	tooLarge := s.load(200*time.Millisecond, s.requests(client, harness.Traces, journal, 1000))
	s.fires("BoundedBatchBytesNearlyFull", harness.Traces, "")
	s.fires("BoundedBatchItemsRefused", harness.Traces, "overflow")
	s.fires("BoundedBatchItemsRefused", harness.Traces, "too_large")
	s.backend.Accept()
	tooLarge()
	s.recovers("BoundedBatchBytesNearlyFull", harness.Traces, "")
	s.recovers("BoundedBatchItemsRefused", harness.Traces, "")
}

// partsRefused has one sender among many whose items the backend refuses for good.
func partsRefused(s *scenario) {
	s.start(harness.Config{})
	const bad = 1 << 30 // where its identities begin
	s.backend.Judge(func(ids []uint64) error {
		if slices.ContainsFunc(ids, func(id uint64) bool { return id >= bad }) {
			return permanent
		}
		return nil
	})
	client := s.collector.GRPC(s.T, nil)
	s.load(10*time.Millisecond, s.acknowledged(client, harness.Logs, new(harness.Journal), 10))
	refused := s.load(500*time.Millisecond, s.acknowledged(client, harness.Logs, harness.NewJournal(bad), 10))
	s.fires("BoundedBatchPartsRefused", harness.Logs, "")
	refused()
	s.recovers("BoundedBatchPartsRefused", harness.Logs, "")
}

// evicting has more tenants than it may keep apart.
func evicting(s *scenario) {
	s.start(harness.Config{Processor: "{metadata_keys: [x-tenant], metadata_cardinality_limit: 2, timeout: 1s}"})
	var others []func()
	for i := range 6 {
		client := s.collector.GRPC(s.T, harness.Header{"x-tenant": {fmt.Sprint(i)}})
		stop := s.load(200*time.Millisecond, s.acknowledged(client, harness.Traces, new(harness.Journal), 5))
		if i > 0 {
			others = append(others, stop)
		}
	}
	s.fires("BoundedBatchEvictionsSteady", harness.Traces, "")
	for _, stop := range others {
		stop()
	}
	s.recovers("BoundedBatchEvictionsSteady", harness.Traces, "")
}

// starved has no CPU for most of the time: here it is time itself that is the fault.
func starved(s *scenario) {
	s.start(harness.Config{Processor: "{timeout: 50ms}"})
	client := s.collector.GRPC(s.T, nil)
	s.load(20*time.Millisecond, s.acknowledged(client, harness.Metrics, new(harness.Journal), 5))
	runs := true
	stalls := s.load(150*time.Millisecond, func(context.Context) {
		runs = !runs
		s.collector.Signal(s.T, map[bool]syscall.Signal{true: syscall.SIGCONT, false: syscall.SIGSTOP}[runs])
	})
	s.fires("BoundedBatchTicksLate", harness.Metrics, "")
	stalls()
	s.collector.Signal(s.T, syscall.SIGCONT)
	s.recovers("BoundedBatchTicksLate", harness.Metrics, "")
}

// largeProfiles sends a profile, of five samples, that no batch may have.
func largeProfiles(s *scenario) {
	s.start(harness.Config{Processor: "{send_batch_size: 3, send_batch_max_size: 3}"})
	require.NoError(s.T, s.collector.GRPC(s.T, nil).Send(s.Context(), harness.Profiles, harness.Range{Items: 5}))
	s.fires("BoundedBatchProfilesTooLarge", harness.Profiles, "")
	s.recovers("BoundedBatchProfilesTooLarge", harness.Profiles, "")
}

// dropping has a sender that does not wait for its result, and one with an item that no batch can take.
func dropping(s *scenario) {
	s.start(harness.Config{
		Processor:     "{timeout: 1h, wait_for_result: true, flush_when_idle: false, send_batch_max_bytes: 4000000}",
		MaxRequestMiB: 8,
	})
	client := s.collector.GRPC(s.T, nil)
	ctx, leave := context.WithCancel(s.Context())
	answer := make(chan error, 1)
	go func() { answer <- client.Send(ctx, harness.Logs, harness.Range{Items: 10}) }()
	s.collector.AwaitItems(s.T, 10, harness.Logs, "held_items", "state", "pending")
	leave()
	require.Error(s.T, <-answer)
	require.Error(s.T, client.Send(s.Context(), harness.Logs, harness.Range{First: harness.Giant, Items: 1}))
	s.fires("BoundedBatchItemsDropped", harness.Logs, "canceled")
	s.fires("BoundedBatchItemsDropped", harness.Logs, "item_too_large")
	s.recovers("BoundedBatchItemsDropped", harness.Logs, "")
}

// stopping has a shutdown that is too short. The pipelines stop one after the other, so that what the first has dropped is scraped.
func stopping(s *scenario) {
	s.start(harness.Config{Processor: "{send_batch_size: 10, shutdown_timeout: 4s}"})
	s.backend.Hold()
	client := s.collector.GRPC(s.T, nil)
	for _, signal := range harness.Signals() {
		require.NoError(s.T, client.Send(s.Context(), signal, harness.Range{Items: 10}))
	}
	s.collector.Signal(s.T, syscall.SIGTERM)
	var first harness.Signal
	harness.Within(s.T, enough, func(ctx context.Context) error {
		all, err := s.prometheus.alerts(ctx, s.name)
		for _, a := range all {
			for _, signal := range harness.Signals() {
				if a.Labels["alertname"] == "BoundedBatchItemsDropped" && a.Labels["signal"] == signal.Name() {
					first = signal
					return nil
				}
			}
		}
		if err == nil {
			err = fmt.Errorf("nothing is said to be dropped: %v", all)
		}
		return err
	})
	s.fires("BoundedBatchItemsDropped", first, "shutdown")
	assert.NotZero(s.T, s.collector.Exit(s.T), "status of a collector that has lost items")
	s.recovers("BoundedBatchItemsDropped", first, "shutdown")
}

// pressed has a bound that is small for its senders: batches leave because somebody waits, not because they are full.
func pressed(s *scenario) {
	s.start(harness.Config{Processor: "{send_batch_size: 500, queue_size: 500, timeout: 10s}"})
	var many []func()
	client := s.collector.GRPC(s.T, nil)
	for range 8 {
		many = append(many, s.load(20*time.Millisecond, s.acknowledged(client, harness.Traces, new(harness.Journal), 90)))
	}
	s.fires("BoundedBatchPressurePrevails", harness.Traces, "")
	for _, stop := range many {
		stop()
	}
	s.load(50*time.Millisecond, s.acknowledged(client, harness.Traces, new(harness.Journal), 100))
	s.recovers("BoundedBatchPressurePrevails", harness.Traces, "")
}

// suffixedConfig has an argument, the address of the backend.
const suffixedConfig = `
receivers: {otlp: {protocols: {grpc: {endpoint: "127.0.0.1:${env:OTLP_GRPC_PORT}"}}}}
processors: {boundedbatch: {timeout: 50ms}}
exporters:
  otlp_grpc: {endpoint: %q, tls: {insecure: true}, sending_queue: {enabled: false}, retry_on_failure: {enabled: false}}
service:
  pipelines: {logs: {receivers: [otlp], processors: [boundedbatch], exporters: [otlp_grpc]}}
  telemetry:
    metrics:
      readers:
        - pull:
            exporter:
              prometheus:
                {host: 127.0.0.1, port: "${env:METRICS_PORT}", without_type_suffix: false, without_units: false}
`

// suffixed has names with suffixes, which the relabeling of docs/operating.md takes away, and a backend that is busy.
func suffixed(s *scenario) {
	backend := harness.NewBackend(s.T)
	backend.Refuse(retryable)
	s.collector = harness.StartYAML(s.T, fmt.Sprintf(suffixedConfig, backend.GRPCAddress()))
	raw, err := s.collector.Scrape(s.Context())
	require.NoError(s.T, err)
	require.Contains(s.T, raw, "otelcol_processor_boundedbatch_accepted_items_total")
	s.prometheus.scrape(s.T, s.name, s.collector)
	s.load(20*time.Millisecond, s.acknowledged(s.collector.GRPC(s.T, nil), harness.Logs, new(harness.Journal), 10))
	s.fires("BoundedBatchItemsFailing", harness.Logs, "retryable")
	for _, recorded := range []string{"boundedbatch:ticker_lateness:p90_5m", "boundedbatch:batch_age:p99_5m", "boundedbatch:export_duration:p99_5m"} {
		found, err := s.prometheus.query(s.Context(), fmt.Sprintf("%s{instance=%q}", recorded, s.name))
		require.NoError(s.T, err)
		assert.NotEmpty(s.T, found, recorded)
	}
	backend.Accept()
	s.recovers("BoundedBatchItemsFailing", harness.Logs, "")
}
