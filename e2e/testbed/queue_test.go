package testbed

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/open-telemetry/opentelemetry-collector-contrib/testbed/testbed"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// gate is a backend that refuses everything, as if it were about to come back, until it is opened.
type gate struct{ open atomic.Bool }

func (g *gate) decide() error {
	if g.open.Load() {
		return nil
	}
	return status.Error(codes.Unavailable, "the backend is not there yet")
}

const (
	queueIsFull  = "sending queue is full"
	limiterIsHit = "Memory usage is above soft limit. Refusing data."
	// settle is how long what was refused may take to arrive after the backend has come back: the exporters wait
	// up to 5 s before they send again, with the half of it to and fro.
	settle = time.Minute
)

// queued is the load of TestLogOtlpSendingQueue: 10 requests of 10 records a second, with a queue of that many requests.
func queued(size int, processors ...processor) setup {
	return setup{
		signal: "logs", protocol: "grpc", processors: processors,
		// Whoever is refused sends again, for as long as it takes.
		load:     testbed.LoadOptions{DataItemsPerSecond: 100, ItemsPerBatch: 10, Parallel: 1, MaxDelay: settle},
		limits:   testbed.ResourceSpec{ExpectedMaxCPU: 80, ExpectedMaxRAM: 120},
		recorded: true,
		exporter: func(r *testbed.BaseOTLPDataReceiver) {
			r.WithRetry("retry_on_failure: {enabled: true}")
			r.WithQueue(fmt.Sprintf("sending_queue: {enabled: true, queue_size: %d}", size))
		},
	}
}

// TestQueueNotFull is OTLP-sending-queue-not-full: everything arrives, and no queue is ever full.
func TestQueueNotFull(t *testing.T) {
	if testing.Short() {
		t.Skip("one load is enough to see that the testbed works")
	}
	for _, name := range []string{boundedbatch, batch} {
		t.Run(name, func(t *testing.T) {
			inScratch(t)
			r, err := begin(t, queued(100, processor{name, "{}"}))
			require.NoError(t, err)
			var c cost
			err = r.measure(&c)
			if err == nil && r.logged(queueIsFull) {
				err = fmt.Errorf("the log has %q", queueIsFull)
			}
			if err == nil {
				err = r.arrived(0)
			}
			require.NoError(t, r.end(err))
			recordDelivery("Queue/queue=100", name, r, 0)
		})
	}
}

// TestQueueFull is OTLP-sending-queue-full: the backend refuses until the queue is full, and comes back then. Upstream
// has no processor there, so that the sender is told, and sends again. So it is with boundedbatch where the sender
// waits for the result. Otherwise the sender knows nothing, and what the queue does not take is lost, with
// boundedbatch as with batch; boundedbatch counts it.
func TestQueueFull(t *testing.T) {
	if testing.Short() {
		t.Skip("one load is enough to see that the testbed works")
	}
	for _, tt := range []struct {
		name, settings string
		told           bool
		counted        bool
	}{
		{name: boundedbatch, settings: "{wait_for_result: true}", told: true, counted: true},
		{name: boundedbatch, settings: "{}", counted: true},
		{name: batch, settings: "{}"},
	} {
		t.Run(tt.name+tt.settings, func(t *testing.T) {
			inScratch(t)
			var backend gate
			s := queued(10, processor{tt.name, tt.settings})
			s.decide = backend.decide
			r, err := begin(t, s)
			require.NoError(t, err)
			lost := uint64(0)
			err = r.fill(&backend, queueIsFull, 0)
			if err == nil && tt.told {
				err = r.await(settle, "all that was sent has arrived", r.complete)
			} else if err == nil {
				// What the exporter's queue has refused was never sent again.
				err = r.await(settle, "all that was not lost has arrived", func() bool {
					var known bool
					lost, known = r.lost("otelcol_exporter_enqueue_failed_log_records")
					return known && r.load.DataItemsSent() == r.MockBackend.DataItemsReceived()+lost
				})
			}
			if err == nil && !tt.told && lost == 0 {
				err = fmt.Errorf("nothing was lost: the queue was not full")
			}
			if err == nil && tt.counted {
				failed, known := r.lost("otelcol_processor_boundedbatch_failed_items")
				if !known || (!tt.told && failed != lost) {
					err = fmt.Errorf("boundedbatch has counted %d failed items of %d that were lost", failed, lost)
				}
			}
			if err == nil {
				err = r.arrived(lost)
			}
			require.NoError(t, r.end(err))
			impl := tt.name
			if tt.told {
				impl += "+wait_for_result"
			}
			recordDelivery("Queue/queue=10", impl, r, lost)
		})
	}
}

// TestMemoryLimiterHit is the scenario of that name: ten times the load on a backend that refuses, until the memory
// limiter refuses too, and for as long as a test takes after that; then everything has to arrive.
func TestMemoryLimiterHit(t *testing.T) {
	if testing.Short() {
		t.Skip("one load is enough to see that the testbed works")
	}
	for _, name := range []string{boundedbatch, batch} {
		t.Run(name, func(t *testing.T) {
			inScratch(t)
			var backend gate
			r, err := begin(t, setup{
				signal: "logs", protocol: "grpc",
				processors: []processor{
					{"memory_limiter", "{check_interval: 1s, limit_mib: 300, spike_limit_mib: 150}"}, {name, "{}"},
				},
				load:     testbed.LoadOptions{DataItemsPerSecond: 100_000, ItemsPerBatch: 1000, Parallel: 1, MaxDelay: 5 * settle},
				recorded: true,
				decide:   backend.decide,
				exporter: func(r *testbed.BaseOTLPDataReceiver) {
					r.WithRetry("retry_on_failure: {enabled: true, max_interval: 5s}")
					r.WithQueue("sending_queue: {enabled: true, queue_size: 100000, num_consumers: 20}")
					r.WithTimeout("timeout: 0s")
				},
			})
			require.NoError(t, err)
			err = r.fill(&backend, limiterIsHit, r.Duration)
			if err == nil {
				err = r.await(2*settle, "all that was sent has arrived", r.complete)
			}
			if err == nil {
				err = r.arrived(0)
			}
			if err == nil && r.load.NonPermanentErrors() == 0 {
				err = fmt.Errorf("the memory limiter has refused nothing")
			}
			require.NoError(t, r.end(err))
			recordDelivery("Limiter/limit=300", name, r, 0)
		})
	}
}

// fill keeps the load up until the collector logs that it can take no more, and for some time after that, and ends
// it after the backend has come back.
func (r *run) fill(backend *gate, until string, longer time.Duration) error {
	r.StartLoad(r.setup.load)
	err := r.await(2*settle, "the collector logs "+until, func() bool { return r.logged(until) })
	if err != nil {
		return err
	}
	r.Sleep(longer)
	if received := r.MockBackend.DataItemsReceived(); received > 0 {
		return fmt.Errorf("%d items were received by a backend that takes none", received)
	}
	backend.open.Store(true)
	if err := r.await(settle, "the backend receives again", func() bool { return r.MockBackend.DataItemsReceived() > 0 }); err != nil {
		return err
	}
	r.StopLoad()
	if refused := r.load.PermanentErrors(); refused > 0 {
		return fmt.Errorf("%d items were refused for good", refused)
	}
	return nil
}

// lost is the sum of a counter; whether it is there is told apart.
func (r *run) lost(metric string) (items uint64, known bool) {
	scrape, err := r.scrape()
	if err != nil {
		return 0, false
	}
	family, known := scrape[metric]
	for _, m := range family.GetMetric() {
		items += uint64(m.GetCounter().GetValue())
	}
	return items, known
}

// arrived is an error unless all but so many records were received, and none twice.
func (r *run) arrived(lost uint64) error {
	sent := r.load.DataItemsSent()
	missing, repeated, err := arrivals(r.MockBackend.GetReceivedLogs(), sent)
	if err != nil {
		return err
	}
	if sent == 0 || missing != lost || repeated > 0 {
		return fmt.Errorf("of %d records %d are missing, of which %d are accounted for, and %d came again", sent, missing, lost, repeated)
	}
	return nil
}

func recordDelivery(name, impl string, r *run, lost uint64) {
	received := r.MockBackend.DataItemsReceived()
	record("%s/signal=logs/protocol=grpc/impl=%s-%d\t%d\t%d sent-items\t%d received-items\t%d lost-items\t%d refused-items", name, impl,
		runtime.GOMAXPROCS(0), received, r.load.DataItemsSent(), received, lost, r.load.NonPermanentErrors())
}
