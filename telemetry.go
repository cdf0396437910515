package boundedbatchprocessor

import (
	"context"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/collector/processor"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
	"github.com/boundedbatch/boundedbatchprocessor/internal/metadata"
)

// telemetry implements batcher.Observer with the metrics of metadata.yaml, and
// passes on to health how exports end.
type telemetry struct {
	builder  *metadata.TelemetryBuilder
	meter    metric.Meter
	attrs    []attribute.KeyValue
	recorded []metric.RecordOption // attrs, made once: a batch must not pay for it
	health   *health
	began    time.Time    // of the telemetry, for measured
	measured atomic.Int64 // nanoseconds after began before which no batch is measured again
}

// measureInterval is how often at most a batch is measured in bytes. That walks the
// whole batch and takes several times the CPU of batching it: once a second was half of
// what batching took in a Collector with 5,000 requests of 10 spans a second. And a Collector
// cannot be told to leave the metric out unless its metrics level is detailed.
const measureInterval = 10 * time.Second

func newTelemetry(set processor.Settings, signal string, h *health) (*telemetry, error) {
	builder, err := metadata.NewTelemetryBuilder(set.TelemetrySettings)
	if err != nil {
		return nil, err
	}
	attrs := []attribute.KeyValue{attribute.String("processor", set.ID.String()), attribute.String("signal", signal)}
	return &telemetry{
		builder:  builder,
		meter:    metadata.Meter(set.TelemetrySettings),
		attrs:    attrs,
		recorded: []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(attrs...))},
		health:   h,
		began:    time.Now(),
	}, nil
}

// observe reports stats at every collection. All of it comes from one call of stats,
// so that accepted = delivered + failed + dropped + held in every scrape.
func (t *telemetry) observe(stats func() batcher.Stats) (err error) {
	with := func(more ...attribute.KeyValue) metric.ObserveOption {
		return metric.WithAttributeSet(attribute.NewSet(append(more, t.attrs...)...))
	}
	plain := with()
	// by makes the options for one series per cause, state or trigger.
	by := func(key string, values ...string) (options []metric.ObserveOption) {
		for _, v := range values {
			options = append(options, with(attribute.String(key, v)))
		}
		return options
	}
	refused := by("cause", names[batcher.RefusedCause](len(batcher.Stats{}.Refused))...)
	failed := by("cause", names[batcher.FailedCause](len(batcher.Stats{}.Failed))...)
	dropped := by("cause", names[batcher.DroppedCause](len(batcher.Stats{}.Dropped))...)
	triggers := by("trigger", names[batcher.Trigger](len(batcher.Stats{}.Batches))...)
	states := by("state", "pending", "sealed", "in_flight", "retrying")

	b := t.builder
	// Never unregistered: a Collector collects once more after the shutdown, and only then
	// can see what that delivered and lost. The callback goes with the meter provider.
	_, err = t.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		s := stats()
		each := func(of metric.Int64Observable, options []metric.ObserveOption, values ...int64) {
			for i, v := range values {
				o.ObserveInt64(of, v, options[i])
			}
		}
		o.ObserveInt64(b.ProcessorBoundedbatchAcceptedItems, s.Accepted, plain)
		o.ObserveInt64(b.ProcessorBoundedbatchDeliveredItems, s.Delivered, plain)
		each(b.ProcessorBoundedbatchRefusedItems, refused, s.Refused[:]...)
		each(b.ProcessorBoundedbatchFailedItems, failed, s.Failed[:]...)
		each(b.ProcessorBoundedbatchDroppedItems, dropped, s.Dropped[:]...)
		each(b.ProcessorBoundedbatchHeldItems, states, s.Pending, s.Sealed, s.InFlight, s.Retrying)
		each(b.ProcessorBoundedbatchBatches, triggers, s.Batches[:]...)
		o.ObserveInt64(b.ProcessorBoundedbatchCapacityItems, s.Capacity, plain)
		if s.CapacityBytes > 0 { // no use is estimated of a limit that is not set
			o.ObserveInt64(b.ProcessorBoundedbatchHeldBytes, s.HeldBytes, plain)
			o.ObserveInt64(b.ProcessorBoundedbatchCapacityBytes, s.CapacityBytes, plain)
		}
		o.ObserveInt64(b.ProcessorBoundedbatchExportsInFlight, s.ExportsInFlight, plain)
		o.ObserveInt64(b.ProcessorBoundedbatchLivePartitions, s.LivePartitions, plain)
		o.ObserveInt64(b.ProcessorBoundedbatchWaitingCallers, s.WaitingCallers, plain)
		o.ObserveInt64(b.ProcessorBoundedbatchRetries, s.Retries, plain)
		o.ObserveInt64(b.ProcessorBoundedbatchIsolationExports, s.IsolationExports, plain)
		o.ObserveInt64(b.ProcessorBoundedbatchEvictions, s.Evictions, plain)
		o.ObserveInt64(b.ProcessorBoundedbatchOversizedBatches, s.Oversized, plain)
		return nil
	},
		b.ProcessorBoundedbatchAcceptedItems, b.ProcessorBoundedbatchDeliveredItems, b.ProcessorBoundedbatchRefusedItems,
		b.ProcessorBoundedbatchFailedItems, b.ProcessorBoundedbatchDroppedItems, b.ProcessorBoundedbatchHeldItems,
		b.ProcessorBoundedbatchBatches, b.ProcessorBoundedbatchCapacityItems, b.ProcessorBoundedbatchHeldBytes,
		b.ProcessorBoundedbatchCapacityBytes, b.ProcessorBoundedbatchExportsInFlight, b.ProcessorBoundedbatchLivePartitions,
		b.ProcessorBoundedbatchWaitingCallers, b.ProcessorBoundedbatchRetries, b.ProcessorBoundedbatchIsolationExports,
		b.ProcessorBoundedbatchEvictions, b.ProcessorBoundedbatchOversizedBatches,
	)
	return err
}

// names lists what the values 0 to n-1 of an enumeration are called.
func names[E interface {
	~uint8
	String() string
}](n int) (all []string) {
	for i := range n {
		all = append(all, E(i).String())
	}
	return all
}

// AdmissionWaited implements batcher.Observer.
func (t *telemetry) AdmissionWaited(wait time.Duration) {
	t.builder.ProcessorBoundedbatchAdmissionWait.Record(context.Background(), wait.Seconds(), t.recorded...)
}

// Ticked implements batcher.Observer.
func (t *telemetry) Ticked(late time.Duration) {
	t.builder.ProcessorBoundedbatchTickerLateness.Record(context.Background(), late.Seconds(), t.recorded...)
}

// MeasuresBytes implements batcher.Observer.
func (t *telemetry) MeasuresBytes() bool {
	if !t.builder.ProcessorBoundedbatchBatchBytes.Enabled(context.Background()) {
		return false
	}
	// Monotonic: a clock that is set back must not stop the measuring.
	next, now := t.measured.Load(), int64(time.Since(t.began))
	return now >= next && t.measured.CompareAndSwap(next, now+int64(measureInterval))
}

// ItemsTooLarge implements batcher.Observer.
func (t *telemetry) ItemsTooLarge(items, largest int) {
	t.health.tooLarge(items, largest)
}

// ExportStarted implements batcher.Observer. What is sent again is no further batch.
func (t *telemetry) ExportStarted(e batcher.Export) {
	if e.Attempt > 1 || e.Part {
		return
	}
	ctx := context.Background()
	t.builder.ProcessorBoundedbatchBatchItems.Record(ctx, int64(e.Items), t.recorded...)
	t.builder.ProcessorBoundedbatchBatchAge.Record(ctx, e.Age.Seconds(), t.recorded...)
	if e.Bytes >= 0 {
		t.builder.ProcessorBoundedbatchBatchBytes.Record(ctx, int64(e.Bytes), t.recorded...)
	}
}

// ExportEnded implements batcher.Observer.
func (t *telemetry) ExportEnded(e batcher.Export, took time.Duration, o batcher.Outcome) {
	t.builder.ProcessorBoundedbatchExportDuration.Record(context.Background(), took.Seconds(), t.recorded...)
	t.health.ended(e, o)
}
