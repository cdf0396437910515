package boundedbatchprocessor

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/consumer/consumererror/xconsumererror"
	"go.opentelemetry.io/collector/consumer/xconsumer"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pprofile"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/processor"
	"go.opentelemetry.io/collector/processor/xprocessor"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
	"github.com/boundedbatch/boundedbatchprocessor/batcher/batchertest"
	"github.com/boundedbatch/boundedbatchprocessor/internal/metadatatest"
)

// signal is one kind of pdata with its type hidden, so that one test body serves all
// of them. Items are known by their identities (package batchertest).
type signal struct {
	name string
	// create makes a processor through the factory, in front of a sink that answers
	// with respond. If the sink is to change data, it takes everything out of it.
	create func(set processor.Settings, cfg *Config, next consumer.Capabilities, respond func(batchertest.Batch) error) (subject, error)
	// bytes is the size in OTLP's binary encoding of that many items from first on.
	bytes func(t *testing.T, first, items int) int
}

// subject is a processor under test.
type subject struct {
	component.Component
	capabilities consumer.Capabilities
	sink         sink
	// consume sends a request of that many items, numbered from first.
	consume func(ctx context.Context, first, items int) error
	// rest reads the items that an error of consume carries.
	rest func(error) (ids []int, found bool, altered error)
}

// sink is a batchertest.Sink of any signal.
type sink interface {
	Batches() []batchertest.Batch
	Sizes() []int
	Delivered() map[int]int
	MostAtOnce() int
	Err() error
}

func signals() []signal {
	factory := NewFactory().(xprocessor.Factory)
	return []signal{
		signalOf(batchertest.Traces(),
			func(set processor.Settings, cfg *Config, next func(context.Context, ptrace.Traces) error, is consumer.Capabilities) (consumer.Traces, component.Component, error) {
				to, err := consumer.NewTraces(next, consumer.WithCapabilities(is))
				if err != nil {
					return nil, nil, err
				}
				p, err := factory.CreateTraces(context.Background(), set, cfg, to)
				return p, p, err
			},
			consumer.Traces.ConsumeTraces,
			func(err error) (td ptrace.Traces, found bool) {
				var partial consumererror.Traces
				if found = errors.As(err, &partial); found {
					td = partial.Data()
				}
				return td, found
			}),
		signalOf(batchertest.Logs(),
			func(set processor.Settings, cfg *Config, next func(context.Context, plog.Logs) error, is consumer.Capabilities) (consumer.Logs, component.Component, error) {
				to, err := consumer.NewLogs(next, consumer.WithCapabilities(is))
				if err != nil {
					return nil, nil, err
				}
				p, err := factory.CreateLogs(context.Background(), set, cfg, to)
				return p, p, err
			},
			consumer.Logs.ConsumeLogs,
			func(err error) (ld plog.Logs, found bool) {
				var partial consumererror.Logs
				if found = errors.As(err, &partial); found {
					ld = partial.Data()
				}
				return ld, found
			}),
		signalOf(batchertest.Metrics(),
			func(set processor.Settings, cfg *Config, next func(context.Context, pmetric.Metrics) error, is consumer.Capabilities) (consumer.Metrics, component.Component, error) {
				to, err := consumer.NewMetrics(next, consumer.WithCapabilities(is))
				if err != nil {
					return nil, nil, err
				}
				p, err := factory.CreateMetrics(context.Background(), set, cfg, to)
				return p, p, err
			},
			consumer.Metrics.ConsumeMetrics,
			func(err error) (md pmetric.Metrics, found bool) {
				var partial consumererror.Metrics
				if found = errors.As(err, &partial); found {
					md = partial.Data()
				}
				return md, found
			}),
		signalOf(batchertest.Profiles(),
			func(set processor.Settings, cfg *Config, next func(context.Context, *batcher.ProfilesData) error, is consumer.Capabilities) (xconsumer.Profiles, component.Component, error) {
				to, err := xconsumer.NewProfiles(func(ctx context.Context, pd pprofile.Profiles) error {
					return next(ctx, batcher.NewProfilesData(pd))
				}, consumer.WithCapabilities(is))
				if err != nil {
					return nil, nil, err
				}
				p, err := factory.CreateProfiles(context.Background(), set, cfg, to)
				return p, p, err
			},
			func(to xconsumer.Profiles, ctx context.Context, p *batcher.ProfilesData) error {
				return to.ConsumeProfiles(ctx, p.Profiles())
			},
			func(err error) (*batcher.ProfilesData, bool) {
				var partial xconsumererror.Profiles
				if !errors.As(err, &partial) {
					return nil, false
				}
				return batcher.NewProfilesData(partial.Data()), true
			}),
	}
}

func signalOf[T any, C interface{ Capabilities() consumer.Capabilities }](
	kind batchertest.Kind[T],
	create func(processor.Settings, *Config, func(context.Context, T) error, consumer.Capabilities) (C, component.Component, error),
	consume func(C, context.Context, T) error,
	partial func(error) (T, bool),
) signal {
	return signal{
		name: kind.Name(),
		create: func(set processor.Settings, cfg *Config, next consumer.Capabilities, respond func(batchertest.Batch) error) (subject, error) {
			sink := batchertest.NewSink(kind, respond)
			to := sink.Consume
			if next.MutatesData {
				to = func(ctx context.Context, data T) error {
					defer func() { kind.Move(data, kind.New(0)) }()
					return sink.Consume(ctx, data)
				}
			}
			c, comp, err := create(set, cfg, to, next)
			if err != nil {
				return subject{}, err
			}
			return subject{
				Component:    comp,
				capabilities: c.Capabilities(),
				sink:         sink,
				consume: func(ctx context.Context, first, items int) error {
					return consume(c, ctx, kind.Make(first, items))
				},
				rest: func(err error) ([]int, bool, error) {
					data, found := partial(err)
					if !found {
						return nil, false, nil
					}
					ids, altered := kind.IDs(data)
					return ids, true, altered
				},
			}, nil
		},
		bytes: func(t *testing.T, first, items int) int {
			t.Helper()
			encoded, err := kind.Wire(kind.Make(first, items))
			require.NoError(t, err)
			return len(encoded)
		},
	}
}

// signalTest is a test of one signal.
type signalTest struct {
	*testing.T
	signal
	next consumer.Capabilities // of the next consumer
}

// eachSignal runs a test for every signal, each in a bubble of virtual time.
func eachSignal(t *testing.T, test func(signalTest)) {
	t.Helper()
	for _, s := range signals() {
		t.Run("signal="+s.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(signalTest{T: t, signal: s}) })
		})
	}
}

// testConfig is a configuration for tests: small, and without any limit that a test
// does not ask for.
func testConfig() *Config {
	cfg := createDefaultConfig().(*Config)
	cfg.Timeout = time.Second
	cfg.SendBatchSize = 10
	cfg.QueueSize = 100
	cfg.MaxConcurrentExports = 2
	cfg.MaxConcurrentExportsPerPartition = 2
	cfg.ShutdownTimeout = time.Minute
	return cfg
}

// rig is a processor with its telemetry and its log.
type rig struct {
	subject
	t      *testing.T
	signal string
	tel    *componenttest.Telemetry
	logs   *observer.ObservedLogs
	host   *host
	next   int // identity of the next item sent
}

// newRig makes a processor that is not started yet. At the end of the test it is shut
// down, if the test has not done so.
func newRig(t signalTest, cfg *Config, respond func(batchertest.Batch) error) *rig {
	t.Helper()
	return newRigWith(t, componenttest.NewTelemetry(), cfg, respond)
}

// newRigWith is newRig with telemetry that the test has made.
func newRigWith(
	t signalTest, tel *componenttest.Telemetry, cfg *Config, respond func(batchertest.Batch) error,
) *rig {
	t.Helper()
	core, logs := observer.New(zapcore.DebugLevel)
	set := metadatatest.NewSettings(tel)
	set.Logger = zap.New(core)
	p, err := t.create(set, cfg, t.next, respond)
	require.NoError(t, err)
	r := &rig{subject: p, t: t.T, signal: t.name, tel: tel, logs: logs, host: newHost()}
	t.Cleanup(func() {
		_ = r.Shutdown(context.Background()) // a test that cares has asked for it
		require.NoError(t, r.sink.Err())
	})
	return r
}

// started makes a processor and starts it.
func started(t signalTest, cfg *Config, respond func(batchertest.Batch) error) *rig {
	t.Helper()
	r := newRig(t, cfg, respond)
	r.start()
	return r
}

func (r *rig) start() {
	r.t.Helper()
	require.NoError(r.t, r.Start(context.Background(), r.host))
}

// stop shuts down, which must succeed.
func (r *rig) stop() {
	r.t.Helper()
	require.NoError(r.t, r.Shutdown(context.Background()))
}

// send consumes a request of that many items with fresh identities.
func (r *rig) send(items int) {
	r.t.Helper()
	require.NoError(r.t, r.try(context.Background(), items))
}

// try is send with a context, and returns the error.
func (r *rig) try(ctx context.Context, items int) error {
	first := r.next
	r.next += items
	return r.consume(ctx, first, items)
}

// goTry is try in another goroutine. The channel carries the error.
func (r *rig) goTry(ctx context.Context, items int) <-chan error {
	first := r.next
	r.next += items
	result := make(chan error, 1)
	go func() { result <- r.consume(ctx, first, items) }()
	return result
}

// gate holds whoever waits at it until it is opened.
type gate chan struct{}

func newGate() gate { return make(gate) }

func (g gate) open() { close(g) }

// held is a sink's answer: nothing returns before the gate is opened or the export is
// canceled.
func (g gate) held(b batchertest.Batch) error {
	select {
	case <-g:
		return nil
	case <-b.Ctx.Done():
		return b.Ctx.Err()
	}
}

// stuck is a sink's answer that does not even listen to its context.
func (g gate) stuck(batchertest.Batch) error {
	<-g
	return nil
}

var errRefused = errors.New("refused downstream")

// identities returns first, first+1 and so on.
func identities(first, items int) []int {
	ids := make([]int, items)
	for i := range ids {
		ids[i] = first + i
	}
	return ids
}
