// Package panicker is a processor for tests of what happens when something downstream panics:
// it hands on what it gets, until it has been called as often as it was told.
package panicker

import (
	"context"
	"fmt"
	"sync/atomic"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/processor"
)

// NewFactory returns the factory of panicker. It takes what a Collector takes without a
// feature gate.
func NewFactory() processor.Factory {
	return processor.NewFactory(
		component.MustNewType("panicker"),
		func() component.Config { return new(Config) },
		processor.WithTraces(newTraces, component.StabilityLevelDevelopment),
		processor.WithLogs(newLogs, component.StabilityLevelDevelopment),
		processor.WithMetrics(newMetrics, component.StabilityLevelDevelopment),
	)
}

// Config is the processor's configuration.
type Config struct {
	// AtBatch is the batch of a signal that it panics at, 1 is the first; 0: it never does.
	AtBatch uint64 `mapstructure:"at_batch"`
}

// panicker is what the signals have in common.
type panicker struct {
	component.StartFunc
	component.ShutdownFunc

	signal  string
	atBatch uint64
	batches atomic.Uint64
}

func newPanicker(signal string, cfg component.Config) *panicker {
	return &panicker{signal: signal, atBatch: cfg.(*Config).AtBatch}
}

// Capabilities implements consumer.Consumer.
func (*panicker) Capabilities() consumer.Capabilities { return consumer.Capabilities{} }

func (p *panicker) count() {
	if n := p.batches.Add(1); n == p.atBatch {
		panic(fmt.Sprintf("panicker: batch %d of %s", n, p.signal))
	}
}

type traces struct {
	*panicker
	next consumer.Traces
}

func newTraces(_ context.Context, _ processor.Settings, cfg component.Config, next consumer.Traces) (processor.Traces, error) {
	return &traces{newPanicker("traces", cfg), next}, nil
}

// ConsumeTraces implements consumer.Traces.
func (p *traces) ConsumeTraces(ctx context.Context, data ptrace.Traces) error {
	p.count()
	return p.next.ConsumeTraces(ctx, data)
}

type logs struct {
	*panicker
	next consumer.Logs
}

func newLogs(_ context.Context, _ processor.Settings, cfg component.Config, next consumer.Logs) (processor.Logs, error) {
	return &logs{newPanicker("logs", cfg), next}, nil
}

// ConsumeLogs implements consumer.Logs.
func (p *logs) ConsumeLogs(ctx context.Context, data plog.Logs) error {
	p.count()
	return p.next.ConsumeLogs(ctx, data)
}

type metrics struct {
	*panicker
	next consumer.Metrics
}

func newMetrics(_ context.Context, _ processor.Settings, cfg component.Config, next consumer.Metrics) (processor.Metrics, error) {
	return &metrics{newPanicker("metrics", cfg), next}, nil
}

// ConsumeMetrics implements consumer.Metrics.
func (p *metrics) ConsumeMetrics(ctx context.Context, data pmetric.Metrics) error {
	p.count()
	return p.next.ConsumeMetrics(ctx, data)
}
