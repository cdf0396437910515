package boundedbatchprocessor

import (
	"context"
	"fmt"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pprofile"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/processor"
	"go.opentelemetry.io/otel/trace/noop"
	"go.uber.org/zap"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
	"github.com/boundedbatch/boundedbatchprocessor/internal/inside"
	"github.com/boundedbatch/boundedbatchprocessor/internal/metadata"
)

// boundedBatch is the processor but for the name of its Consume method.
type boundedBatch[T any] struct {
	batcher   *batcher.Batcher[T]
	telemetry *telemetry
	set       batcher.Settings
	logger    *zap.Logger
	source    inside.Source // what extensions see of it
	leave     func()        // unregisters it from them; nil before Start
}

func newProcessor[T any](
	set processor.Settings, cfg *Config, signal batcher.Signal[T],
	nextIs consumer.Capabilities, next func(context.Context, T) error,
) (*boundedBatch[T], error) {
	engine := cfg.settings()
	tel, err := newTelemetry(set, signal.Name(), &health{
		logger: set.Logger, waits: engine.WaitForResult, maxBytes: engine.SendBatchMaxBytes,
	})
	if err != nil {
		return nil, fmt.Errorf("metrics of %s: %w", set.ID, err)
	}
	engine.Observer = tel
	engine.NextMutates = nextIs.MutatesData
	engine.Labels = []string{"component", set.ID.String()}
	if _, none := set.TracerProvider.(noop.TracerProvider); !none {
		engine.Tracer = metadata.Tracer(set.TelemetrySettings)
	}
	if signal.Name() == batcher.Metrics().Name() && engine.MaxConcurrentExportsPerPartition == 0 {
		engine.MaxConcurrentExportsPerPartition = 1
	}
	b, err := batcher.New(signal, engine, next)
	if err != nil {
		return nil, err
	}
	return &boundedBatch[T]{
		batcher: b, telemetry: tel, set: engine, logger: set.Logger,
		source: inside.Source{ID: set.ID, Signal: signal.Name(), MaxExports: engine.MaxConcurrentExports, Snapshot: b.Snapshot},
	}, nil
}

// Capabilities implements consumer.Consumer. Items are moved out of a request, so
// the request must be the processor's own.
func (p *boundedBatch[T]) Capabilities() consumer.Capabilities {
	return consumer.Capabilities{MutatesData: true}
}

// Start implements component.Component.
func (p *boundedBatch[T]) Start(_ context.Context, host component.Host) error {
	if err := p.batcher.Start(); err != nil {
		return err
	}
	if err := p.telemetry.observe(p.batcher.Stats); err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	p.logger.Info("Batching within bounds", p.guarantees()...)
	if needing := p.needsCopies(); len(needing) > 0 {
		message := "Every batch is copied before its export, because the next component may change it and its items may have to be sent again"
		if p.set.MemoryLimit > 0 {
			message += "; with its copy it counts twice in memory_limit"
		}
		p.logger.Info(message, zap.Strings("settings", needing))
	}
	p.telemetry.health.start(host)
	p.leave = inside.Register(host, p.source)
	return nil
}

// Shutdown implements component.Component. What it waits for can be looked at until it is over.
func (p *boundedBatch[T]) Shutdown(ctx context.Context) error {
	p.telemetry.health.close()
	if p.leave != nil {
		defer p.leave()
	}
	return p.batcher.Shutdown(ctx)
}

// needsCopies names the settings for whose sake batches are copied, if they are.
func (p *boundedBatch[T]) needsCopies() (needing []string) {
	if !p.set.NextMutates {
		return nil
	}
	if p.set.WaitForResult {
		needing = append(needing, "wait_for_result")
	}
	if p.set.Retry.Enabled {
		needing = append(needing, "retry_on_failure")
	}
	return needing
}

// guarantees is what the configuration promises, for the log line at start.
func (p *boundedBatch[T]) guarantees() []zap.Field {
	none := func(unlimited bool, limited zap.Field) zap.Field {
		if unlimited {
			return zap.String(limited.Key, "no limit")
		}
		return limited
	}
	answers, retried := "accepted", zap.String("retried_for", "no retry")
	if p.set.WaitForResult {
		answers = "outcome"
	}
	if p.set.Retry.Enabled {
		retried = none(p.set.Retry.MaxElapsedTime == 0, zap.Duration(retried.Key, p.set.Retry.MaxElapsedTime))
	}
	perPartition := none(p.set.MaxConcurrentExportsPerPartition == 0, zap.Int("exports_at_once_per_partition", p.set.MaxConcurrentExportsPerPartition))
	if p.set.MaxConcurrentExportsPerPartition == 0 && len(p.set.MetadataKeys)+len(p.set.ResourceKeys) > 0 {
		perPartition = zap.String(perPartition.Key, "as many as are left for others")
	}
	return []zap.Field{
		zap.String("answers", answers), // what the end of a Consume call says of its items
		zap.Int("most_items_held", p.set.QueueSize),
		none(p.set.MemoryLimit == 0, zap.Stringer("most_bytes_held", ByteSize(p.set.MemoryLimit))), // an estimate of heap
		zap.Duration("longest_added_latency_while_slots_are_free", p.set.Timeout),
		zap.Bool("leaves_at_once_when_idle", p.set.FlushWhenIdle || p.set.Timeout == 0),
		zap.Int("exports_at_once", p.set.MaxConcurrentExports),
		perPartition,
		none(p.set.SendBatchMaxSize == 0, zap.Int("most_items_in_a_batch", p.set.SendBatchMaxSize)),
		none(p.set.SendBatchMaxBytes == 0, zap.Stringer("most_bytes_in_a_batch", ByteSize(p.set.SendBatchMaxBytes))), // of OTLP
		retried,
		none(p.set.ShutdownTimeout == 0, zap.Duration("longest_shutdown", p.set.ShutdownTimeout)),
	}
}

type tracesProcessor struct{ *boundedBatch[ptrace.Traces] }

// ConsumeTraces implements consumer.Traces.
func (p tracesProcessor) ConsumeTraces(ctx context.Context, td ptrace.Traces) error {
	return p.batcher.Consume(ctx, td)
}

type metricsProcessor struct{ *boundedBatch[pmetric.Metrics] }

// ConsumeMetrics implements consumer.Metrics.
func (p metricsProcessor) ConsumeMetrics(ctx context.Context, md pmetric.Metrics) error {
	return p.batcher.Consume(ctx, md)
}

type logsProcessor struct{ *boundedBatch[plog.Logs] }

// ConsumeLogs implements consumer.Logs.
func (p logsProcessor) ConsumeLogs(ctx context.Context, ld plog.Logs) error {
	return p.batcher.Consume(ctx, ld)
}

type profilesProcessor struct {
	*boundedBatch[*batcher.ProfilesData]
}

// ConsumeProfiles implements xconsumer.Profiles.
func (p profilesProcessor) ConsumeProfiles(ctx context.Context, pd pprofile.Profiles) error {
	return p.batcher.Consume(ctx, batcher.NewProfilesData(pd))
}
