package boundedbatchprocessor

import (
	"context"
	"fmt"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/processor"
	"go.opentelemetry.io/otel/trace/noop"
	"go.uber.org/zap"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
	"github.com/boundedbatch/boundedbatchprocessor/internal/metadata"
)

// boundedBatch is the processor but for the name of its Consume method.
type boundedBatch[T any] struct {
	batcher   *batcher.Batcher[T]
	telemetry *telemetry
	set       batcher.Settings
	logger    *zap.Logger
}

func newProcessor[T any](
	set processor.Settings, cfg *Config, signal batcher.Signal[T], next func(context.Context, T) error,
) (*boundedBatch[T], error) {
	tel, err := newTelemetry(set, signal.Name())
	if err != nil {
		return nil, fmt.Errorf("metrics of %s: %w", set.ID, err)
	}
	engine := cfg.settings()
	engine.Observer = tel
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
	return &boundedBatch[T]{batcher: b, telemetry: tel, set: engine, logger: set.Logger}, nil
}

// Capabilities implements consumer.Consumer. Items are moved out of a request, so
// the request must be the processor's own.
func (p *boundedBatch[T]) Capabilities() consumer.Capabilities {
	return consumer.Capabilities{MutatesData: true}
}

// Start implements component.Component.
func (p *boundedBatch[T]) Start(context.Context, component.Host) error {
	if err := p.batcher.Start(); err != nil {
		return err
	}
	if err := p.telemetry.observe(p.batcher.Stats); err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	p.logger.Info("Batching within bounds", p.guarantees()...)
	return nil
}

// Shutdown implements component.Component.
func (p *boundedBatch[T]) Shutdown(ctx context.Context) error {
	return p.batcher.Shutdown(ctx)
}

// guarantees is what the configuration promises, for the log line at start.
func (p *boundedBatch[T]) guarantees() []zap.Field {
	none := func(unlimited bool, limited zap.Field) zap.Field {
		if unlimited {
			return zap.String(limited.Key, "no limit")
		}
		return limited
	}
	return []zap.Field{
		zap.Int("most_items_held", p.set.QueueSize),
		zap.String("most_bytes_held", "no limit"),
		zap.Duration("longest_added_latency_while_slots_are_free", p.set.Timeout),
		zap.Int("exports_at_once", p.set.MaxConcurrentExports),
		none(p.set.MaxConcurrentExportsPerPartition == 0, zap.Int("exports_at_once_per_partition", p.set.MaxConcurrentExportsPerPartition)),
		none(p.set.SendBatchMaxSize == 0, zap.Int("most_items_in_a_batch", p.set.SendBatchMaxSize)),
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
