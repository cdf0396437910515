package compat

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/client"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/processor"
	"go.opentelemetry.io/collector/processor/batchprocessor"
	"go.opentelemetry.io/collector/processor/processortest"

	"github.com/boundedbatch/boundedbatchprocessor"
	"github.com/boundedbatch/boundedbatchprocessor/e2e/internal/harness"
	"github.com/boundedbatch/boundedbatchprocessor/e2e/internal/migration"
)

// The two that are compared.
var (
	batch        = batchprocessor.NewFactory()
	boundedbatch = boundedbatchprocessor.NewFactory()
)

// configure returns the configuration of a processor as the Collector makes it of YAML.
func configure(f processor.Factory, yaml string) (component.Config, error) {
	retrieved, err := confmap.NewRetrievedFromYAML([]byte(yaml))
	if err != nil {
		return nil, err
	}
	settings, err := retrieved.AsConf()
	if err != nil {
		return nil, err
	}
	cfg := f.CreateDefaultConfig()
	if err := settings.Unmarshal(cfg); err != nil {
		return nil, err
	}
	return cfg, confmap.Validate(cfg)
}

// consume is a Consume method.
type consume[T any] func(context.Context, T) error

// signal is what traces, logs and metrics differ in.
type signal[T any] struct {
	harness.Pdata[T]
	create func(f processor.Factory, cfg component.Config, next consume[T]) (component.Component, consume[T], error)
	wanted *wanted
}

var (
	traces = &signal[ptrace.Traces]{
		Pdata: harness.TracesPdata, wanted: newWanted(harness.TracesPdata),
		create: func(f processor.Factory, cfg component.Config, next consume[ptrace.Traces]) (component.Component, consume[ptrace.Traces], error) {
			end, err := consumer.NewTraces(consumer.ConsumeTracesFunc(next))
			if err != nil {
				return nil, nil, err
			}
			p, err := f.CreateTraces(context.Background(), processortest.NewNopSettings(f.Type()), cfg, end)
			if err != nil {
				return nil, nil, err
			}
			return p, p.ConsumeTraces, nil
		},
	}
	logs = &signal[plog.Logs]{
		Pdata: harness.LogsPdata, wanted: newWanted(harness.LogsPdata),
		create: func(f processor.Factory, cfg component.Config, next consume[plog.Logs]) (component.Component, consume[plog.Logs], error) {
			end, err := consumer.NewLogs(consumer.ConsumeLogsFunc(next))
			if err != nil {
				return nil, nil, err
			}
			p, err := f.CreateLogs(context.Background(), processortest.NewNopSettings(f.Type()), cfg, end)
			if err != nil {
				return nil, nil, err
			}
			return p, p.ConsumeLogs, nil
		},
	}
	metrics = &signal[pmetric.Metrics]{
		Pdata: harness.MetricsPdata, wanted: newWanted(harness.MetricsPdata),
		create: func(f processor.Factory, cfg component.Config, next consume[pmetric.Metrics]) (component.Component, consume[pmetric.Metrics], error) {
			end, err := consumer.NewMetrics(consumer.ConsumeMetricsFunc(next))
			if err != nil {
				return nil, nil, err
			}
			p, err := f.CreateMetrics(context.Background(), processortest.NewNopSettings(f.Type()), cfg, end)
			if err != nil {
				return nil, nil, err
			}
			return p, p.ConsumeMetrics, nil
		},
	}
)

// ordered tells if even what is done at the same instant has an order.
func (s *signal[T]) ordered() bool { return s.Name() == harness.MetricsPdata.Name() }

// wanted is how items have to look, by their identity.
type wanted struct {
	encode func(id uint64) string

	mu   sync.Mutex // guards made
	made map[uint64]string
}

func newWanted[T any](p harness.Pdata[T]) *wanted {
	return &wanted{made: make(map[uint64]string), encode: func(id uint64) (text string) {
		p.Each(p.Request(harness.Range{First: id, Items: 1}), func(_ uint64, _ bool, encoded string) { text = encoded })
		return text
	}}
}

func (w *wanted) of(id uint64) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, made := w.made[id]; !made {
		w.made[id] = w.encode(id)
	}
	return w.made[id]
}

// record is what one of the two has done with the traffic of a row.
type record struct {
	answers   []answer // to the requests, in their order
	delivered []export // in the order in which they were done
	altered   map[uint64]string
	shutdown  answer
}

// answer is what a call returned, and after how long.
type answer struct {
	err  error
	took time.Duration
}

// String returns what a caller acts upon.
func (a answer) String() string {
	switch {
	case consumererror.IsPermanent(a.err):
		return "a permanent error"
	case a.err != nil:
		return "an error"
	}
	return "nil"
}

func (a answer) duration() time.Duration { return a.took }

// export is a batch that the next component has taken.
type export struct {
	ids      []uint64
	metadata string        // all of it
	tenant   string        // of that, the keys that have values
	began    time.Duration // since the start
	done     time.Duration
}

// sink is the next component.
type sink[T any] struct {
	signal *signal[T]
	is     *migration.Downstream
	start  time.Time

	mu  sync.Mutex // guards all of rec
	rec *record
}

func (s *sink[T]) consume(ctx context.Context, data T) error {
	e := export{began: time.Since(s.start)}
	e.metadata, e.tenant = metadataOf(ctx)
	altered := make(map[uint64]string)
	s.signal.Each(data, func(id uint64, known bool, encoded string) {
		if !known {
			panic("an item has lost its identity: " + s.signal.Print(encoded))
		}
		e.ids = append(e.ids, id)
		if want := s.signal.wanted.of(id); encoded != want {
			altered[id] = fmt.Sprintf("got %s\nwant %s", s.signal.Print(encoded), s.signal.Print(want))
		}
	})
	if s.is.Takes != nil {
		select {
		case <-time.After(s.is.Takes(e.began, e.ids)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	verdict := migration.Taken
	if s.is.Answer != nil {
		verdict = s.is.Answer(e.began, e.ids)
	}
	switch verdict {
	case migration.RefusedForNow:
		return errors.New("not now")
	case migration.RefusedForGood:
		return consumererror.NewPermanent(errors.New("never"))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e.done = time.Since(s.start)
	s.rec.delivered = append(s.rec.delivered, e)
	maps.Copy(s.rec.altered, altered)
	return nil
}

// metadataOf returns all that a context says of a client, and whose it is.
func metadataOf(ctx context.Context) (all, tenant string) {
	info := client.FromContext(ctx)
	for _, key := range slices.Sorted(info.Metadata.Keys()) {
		values := info.Metadata.Get(key)
		entry := fmt.Sprintf("%s=%q ", key, values)
		all += entry
		if len(values) > 0 {
			tenant += entry
		}
	}
	if info.Addr != nil || info.Auth != nil {
		all += fmt.Sprintf("address %v, credentials %v", info.Addr, info.Auth)
	}
	return all, tenant
}

// run sends the traffic of a row through one of the two, in virtual time. Each request is
// settled before the next one comes, so that the outcome is the same every time.
func run[T any](t *testing.T, s *signal[T], f processor.Factory, row *migration.Row) (rec *record) {
	t.Helper()
	rec = &record{answers: make([]answer, len(row.Traffic.Requests)), altered: make(map[uint64]string)}
	synctest.Test(t, func(t *testing.T) {
		cfg, err := configure(f, row.Config)
		require.NoError(t, err)
		end := &sink[T]{signal: s, is: row.Downstream, rec: rec, start: time.Now()}
		p, consume, err := s.create(f, cfg, end.consume)
		require.NoError(t, err)

		var calls sync.WaitGroup
		send := func(stage migration.Stage) {
			for i, r := range row.Traffic.Requests {
				if r.Stage != stage {
					continue
				}
				if stage == migration.Running {
					time.Sleep(r.At - time.Since(end.start))
				}
				ctx, cancel := context.WithCancel(client.NewContext(t.Context(), client.Info{Metadata: client.NewMetadata(r.Header)}))
				if r.Ended {
					cancel()
				}
				calls.Go(func() {
					defer cancel()
					began := time.Now()
					err := consume(ctx, s.Request(r.IDs))
					rec.answers[i] = answer{err: err, took: time.Since(began)}
				})
				synctest.Wait()
			}
		}
		send(migration.BeforeStart)
		require.NoError(t, p.Start(t.Context(), componenttest.NewNopHost()))
		synctest.Wait()
		send(migration.Running)
		time.Sleep(row.Traffic.Ends - time.Since(end.start))
		stopped := time.Now()
		err = p.Shutdown(t.Context())
		rec.shutdown = answer{err: err, took: time.Since(stopped)}
		send(migration.AfterShutdown)
		calls.Wait()
	})
	return rec
}
