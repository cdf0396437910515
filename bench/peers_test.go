package bench

import (
	"context"
	"errors"
	"sync"

	"github.com/open-telemetry/otel-arrow/collector/processor/concurrentbatchprocessor"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/exporter/exporterhelper"
	"go.opentelemetry.io/collector/processor"
	"go.opentelemetry.io/collector/processor/batchprocessor"
	"go.opentelemetry.io/collector/processor/processortest"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/boundedbatch/boundedbatchprocessor"
)

// peer is one of those that are compared.
type peer string

const (
	boundedbatch peer = "boundedbatch"
	batch        peer = "batch"
	// floor is the least that any batcher does: count the items, move the request
	// under one mutex into the open batch, hand a full batch to the sink.
	floor peer = "floor"
	// counting is less than any batcher does: it counts the items of a request and leaves it where it is.
	counting peer = "counting"
	// bytes is boundedbatch while it measures the size of every batch in bytes.
	bytes peer = "boundedbatch+bytes"
	// silent is boundedbatch without metrics.
	silent peer = "boundedbatch+silent"
	// none is no batcher: who takes a request and does nothing with it.
	none peer = "none"
	// helper is the queue and batch of exporterhelper.
	helper peer = "exporterhelper"
	// queuebatch is the same with the defaults of the queuebatch processor, which is a wrapper around it
	// and is not published as a module.
	queuebatch peer = "queuebatch"
	// concurrentbatch is otel-arrow's fork of batch, in which callers wait for their results.
	concurrentbatch peer = "concurrentbatch"
)

// queuebatchDefaults are where those of queuebatch differ from exporterhelper's.
var queuebatchDefaults = map[string]any{
	"num_consumers": 1, "queue_size": 10, "block_on_overflow": true, "batch": map[string]any{},
}

// create makes the processor of a peer with the given settings, by their names in YAML,
// over its defaults. It returns its Consume method too. The reader can see its metrics.
func create[T any](p peer, s *signal[T], settings map[string]any, next *sink[T], reader sdkmetric.Reader) (component.Component, sinkFunc[T], error) {
	var f processor.Factory
	switch p {
	case floor:
		fl := &floorProcessor[T]{signal: s, next: next.consume, open: s.empty(0)}
		return fl, fl.consume, nil
	case helper, queuebatch:
		return createHelper(p, s, settings, next, reader)
	case counting:
		return nothing{}, func(_ context.Context, data T) error {
			if s.items(data) == 0 {
				return errors.New("a request without items")
			}
			return nil
		}, nil
	case none:
		return nothing{}, func(context.Context, T) error { return nil }, nil
	case boundedbatch, bytes, silent:
		f = boundedbatchprocessor.NewFactory()
	case batch:
		f = batchprocessor.NewFactory()
	case concurrentbatch:
		f = concurrentbatchprocessor.NewFactory()
	}
	cfg := f.CreateDefaultConfig()
	if err := confmap.NewFromStringMap(settings).Unmarshal(cfg); err != nil {
		return nil, nil, err
	}
	set := processortest.NewNopSettings(f.Type())
	set.MeterProvider = meterProvider(p, reader)
	return s.create(f, set, cfg, next)
}

// createHelper makes an exporter with a queue of the given settings over the defaults.
// It has no deadline, as the processors have none.
func createHelper[T any](p peer, s *signal[T], settings map[string]any, next *sink[T], reader sdkmetric.Reader) (component.Component, sinkFunc[T], error) {
	queue := exporterhelper.NewDefaultQueueConfig()
	if err := confmap.NewFromStringMap(settings).Unmarshal(&queue); err != nil {
		return nil, nil, err
	}
	if err := errors.Join(queue.Validate(), queue.Batch.Get().Validate()); err != nil {
		return nil, nil, err
	}
	kind := component.MustNewType("sink")
	telemetry := processortest.NewNopSettings(kind).TelemetrySettings
	telemetry.MeterProvider = meterProvider(p, reader)
	return s.createHelper(exporter.Settings{ID: component.NewID(kind), TelemetrySettings: telemetry}, next,
		exporterhelper.WithQueue(configoptional.Some(queue)),
		exporterhelper.WithTimeout(exporterhelper.TimeoutConfig{Timeout: 0}))
}

// meterProvider is a real SDK that aggregates every measurement for a reader, as in a
// Collector. It drops the size of a batch in bytes, for all peers, because whoever
// has it measured pays more for it than for batching. The Collector itself drops that of
// batch at every metrics level below detailed, and knows of no other: hence the peer
// bytes, for whom nothing is dropped.
func meterProvider(p peer, reader sdkmetric.Reader) metric.MeterProvider {
	if p == silent {
		return noop.NewMeterProvider()
	}
	options := []sdkmetric.Option{sdkmetric.WithReader(reader)}
	if p != bytes {
		options = append(options, sdkmetric.WithView(sdkmetric.NewView(
			sdkmetric.Instrument{Name: "otelcol_*bytes"},
			sdkmetric.Stream{Aggregation: sdkmetric.AggregationDrop{}},
		)))
	}
	return sdkmetric.NewMeterProvider(options...)
}

type nothing struct{}

func (nothing) Start(context.Context, component.Host) error { return nil }
func (nothing) Shutdown(context.Context) error              { return nil }

// floorSize is the default send_batch_size of the other peers.
const floorSize = 8192

type floorProcessor[T any] struct {
	signal *signal[T]
	next   sinkFunc[T]

	// mu guards everything below.
	mu        sync.Mutex
	open      T
	items     int
	resources int // in the last batch: room to make in the next one
}

func (*floorProcessor[T]) Start(context.Context, component.Host) error { return nil }

func (f *floorProcessor[T]) consume(ctx context.Context, data T) error {
	items := f.signal.items(data)
	f.mu.Lock()
	f.signal.move(data, f.open)
	f.items += items
	if f.items < floorSize {
		f.mu.Unlock()
		return nil
	}
	full := f.seal()
	f.mu.Unlock()
	return f.next(ctx, full)
}

// seal returns what is open and opens the next batch. Requires f.mu held.
func (f *floorProcessor[T]) seal() T {
	full := f.open
	f.resources = f.signal.resources(full)
	f.open, f.items = f.signal.empty(f.resources), 0
	return full
}

func (f *floorProcessor[T]) Shutdown(ctx context.Context) error {
	f.mu.Lock()
	last, items := f.open, f.items
	f.mu.Unlock()
	if items == 0 {
		return nil
	}
	return f.next(ctx, last)
}
