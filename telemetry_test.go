package boundedbatchprocessor

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap/confmaptest"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/metric/metricdata/metricdatatest"
	"go.uber.org/zap"
	zapobserver "go.uber.org/zap/zaptest/observer"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
	"github.com/boundedbatch/boundedbatchprocessor/batcher/batchertest"
	"github.com/boundedbatch/boundedbatchprocessor/internal/metadatatest"
)

func TestHeldItemsAreCountedByState(t *testing.T) {
	eachSignal(t, func(t signalTest) {
		g := newGate()
		cfg := testConfig()
		cfg.MaxConcurrentExports, cfg.MaxConcurrentExportsPerPartition = 1, 1
		r := started(t, cfg, g.held)

		metadatatest.AssertEqualProcessorBoundedbatchHeldItems(t.T, r.tel, r.by("state", nil), ignoring...)
		metadatatest.AssertEqualProcessorBoundedbatchCapacityItems(t.T, r.tel, r.total(100), ignoring...)
		metadatatest.AssertEqualProcessorBoundedbatchLivePartitions(t.T, r.tel, r.total(0), ignoring...)
		metadatatest.AssertEqualProcessorBoundedbatchExportsInFlight(t.T, r.tel, r.total(0), ignoring...)

		for _, items := range []int{11, 12, 13, 4} {
			r.send(items)
		}
		synctest.Wait()
		metadatatest.AssertEqualProcessorBoundedbatchHeldItems(t.T, r.tel, r.by("state", counts{"in_flight": 11, "sealed": 25, "pending": 4}), ignoring...)
		metadatatest.AssertEqualProcessorBoundedbatchAcceptedItems(t.T, r.tel, r.total(40), ignoring...)
		metadatatest.AssertEqualProcessorBoundedbatchDeliveredItems(t.T, r.tel, r.total(0), ignoring...)
		metadatatest.AssertEqualProcessorBoundedbatchExportsInFlight(t.T, r.tel, r.total(1), ignoring...)
		metadatatest.AssertEqualProcessorBoundedbatchLivePartitions(t.T, r.tel, r.total(1), ignoring...)

		g.open()
		synctest.Wait()
		metadatatest.AssertEqualProcessorBoundedbatchHeldItems(t.T, r.tel, r.by("state", counts{"pending": 4}), ignoring...)
		metadatatest.AssertEqualProcessorBoundedbatchDeliveredItems(t.T, r.tel, r.total(36), ignoring...)
		metadatatest.AssertEqualProcessorBoundedbatchExportsInFlight(t.T, r.tel, r.total(0), ignoring...)

		time.Sleep(time.Minute)
		metadatatest.AssertEqualProcessorBoundedbatchHeldItems(t.T, r.tel, r.by("state", nil), ignoring...)
		metadatatest.AssertEqualProcessorBoundedbatchAcceptedItems(t.T, r.tel, r.total(40), ignoring...)
		metadatatest.AssertEqualProcessorBoundedbatchDeliveredItems(t.T, r.tel, r.total(40), ignoring...)
		metadatatest.AssertEqualProcessorBoundedbatchLivePartitions(t.T, r.tel, r.total(0), ignoring...)
		metadatatest.AssertEqualProcessorBoundedbatchCapacityItems(t.T, r.tel, r.total(100), ignoring...)
	})
}

func TestRefusedItemsAreCountedByCause(t *testing.T) {
	eachSignal(t, func(t signalTest) {
		g := newGate()
		cfg := testConfig()
		cfg.BlockOnOverflow = false
		r := newRig(t, cfg, g.held)
		require.Error(t, r.try(context.Background(), 1)) // before the start
		r.start()
		r.send(95)
		require.Error(t, r.try(context.Background(), 6))
		require.Error(t, r.try(context.Background(), 7))
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		require.Error(t, r.try(ended, 2))
		require.Error(t, r.try(context.Background(), 250))
		require.NoError(t, r.try(context.Background(), 0))

		down := make(chan error, 1)
		go func() { down <- r.Shutdown(context.Background()) }()
		synctest.Wait()
		require.Error(t, r.try(context.Background(), 20))
		metadatatest.AssertEqualProcessorBoundedbatchRefusedItems(t.T, r.tel,
			r.by("refused_cause", counts{"overflow": 13, "canceled": 2, "too_large": 250, "shutdown": 21}), ignoring...)
		metadatatest.AssertEqualProcessorBoundedbatchAcceptedItems(t.T, r.tel, r.total(95), ignoring...)
		g.open()
		require.NoError(t, <-down)
	})
}

func TestRestOfARequestCutShortIsCountedAsRefused(t *testing.T) {
	eachSignal(t, func(t signalTest) {
		g := newGate()
		r := started(t, testConfig(), g.held)
		r.send(30)
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		err := r.try(ctx, 155)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		ids, _, _ := r.rest(err)
		rest := int64(len(ids))
		require.Less(t, rest, int64(155))
		metadatatest.AssertEqualProcessorBoundedbatchAcceptedItems(t.T, r.tel, r.total(185-rest), ignoring...)
		metadatatest.AssertEqualProcessorBoundedbatchRefusedItems(t.T, r.tel, r.by("refused_cause", counts{"canceled": rest}), ignoring...)
		g.open()
	})
}

func TestFailedItemsAreCountedByCause(t *testing.T) {
	eachSignal(t, func(t signalTest) {
		cfg := testConfig()
		cfg.SendBatchSize = 0
		cfg.ExportTimeout = 2 * time.Second
		cfg.MaxConcurrentExports, cfg.MaxConcurrentExportsPerPartition = 1, 1
		never := newGate()
		r := started(t, cfg, func(b batchertest.Batch) error {
			switch first := b.IDs[0]; {
			case first < 1:
				return consumererror.NewPermanent(errRefused)
			case first < 3:
				return errRefused
			case first < 7:
				return never.held(b)
			case first < 15: // the time is over, but downstream has a better reason
				_ = never.held(b)
				return consumererror.NewPermanent(errRefused)
			default:
				return nil
			}
		})
		for _, items := range []int{1, 2, 4, 8, 16} {
			r.send(items)
		}
		time.Sleep(time.Minute)
		metadatatest.AssertEqualProcessorBoundedbatchFailedItems(t.T, r.tel,
			r.by("failed_cause", counts{"permanent": 9, "retryable": 2, "timeout": 4}), ignoring...)
		metadatatest.AssertEqualProcessorBoundedbatchAcceptedItems(t.T, r.tel, r.total(31), ignoring...)
		metadatatest.AssertEqualProcessorBoundedbatchDeliveredItems(t.T, r.tel, r.total(16), ignoring...)
		metadatatest.AssertEqualProcessorBoundedbatchHeldItems(t.T, r.tel, r.by("state", nil), ignoring...)
		metadatatest.AssertEqualProcessorBoundedbatchExportDuration(t.T, r.tel, // two of parts, and both are refused
			histogram(r, "export_duration", 0.0, 0, 2, 2, 2, 2, 0), ignoring...)
	})
}

// TestDroppedItemsAreCountedWhileShuttingDown: 11 items hang in an export, 14 are
// sealed. At 19 of 20 seconds the sealed ones are given up; the export has a last
// second to return.
func TestDroppedItemsAreCountedWhileShuttingDown(t *testing.T) {
	eachSignal(t, func(t signalTest) {
		g := newGate()
		cfg := testConfig()
		cfg.MaxConcurrentExports, cfg.MaxConcurrentExportsPerPartition = 1, 1
		cfg.ShutdownTimeout = 20 * time.Second
		r := started(t, cfg, g.stuck)
		r.send(11)
		r.send(14)
		down := make(chan error, 1)
		go func() { down <- r.Shutdown(context.Background()) }()
		time.Sleep(19*time.Second - 1)
		metadatatest.AssertEqualProcessorBoundedbatchDroppedItems(t.T, r.tel, r.by("dropped_cause", nil), ignoring...)
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		metadatatest.AssertEqualProcessorBoundedbatchDroppedItems(t.T, r.tel, r.by("dropped_cause", counts{"shutdown": 14}), ignoring...)
		metadatatest.AssertEqualProcessorBoundedbatchHeldItems(t.T, r.tel, r.by("state", counts{"in_flight": 11}), ignoring...)
		require.Error(t, <-down)
		g.open()
	})
}

// TestCountsAreStillReportedAfterShutdown: the Collector shuts its pipelines down
// before its telemetry, whose last collection is the only one that can tell what the
// shutdown delivered and what it lost.
func TestCountsAreStillReportedAfterShutdown(t *testing.T) {
	eachSignal(t, func(t signalTest) {
		g := newGate()
		cfg := testConfig()
		cfg.MaxConcurrentExports, cfg.MaxConcurrentExportsPerPartition = 1, 1
		r := started(t, cfg, func(b batchertest.Batch) error {
			if b.Number == 0 {
				return nil
			}
			return g.stuck(b)
		})
		r.send(10)
		synctest.Wait()
		r.send(11)
		r.send(14)
		require.ErrorContains(t, r.Shutdown(context.Background()), "25 items were not delivered")
		defer g.open()
		if _, err := r.tel.GetMetric(prefix + "dropped_items"); err != nil {
			t.Fatal("nothing is reported after the shutdown:", err)
		}
		metadatatest.AssertEqualProcessorBoundedbatchAcceptedItems(t.T, r.tel, r.total(35), ignoring...)
		metadatatest.AssertEqualProcessorBoundedbatchDeliveredItems(t.T, r.tel, r.total(10), ignoring...)
		metadatatest.AssertEqualProcessorBoundedbatchDroppedItems(t.T, r.tel, r.by("dropped_cause", counts{"shutdown": 25}), ignoring...)
		metadatatest.AssertEqualProcessorBoundedbatchHeldItems(t.T, r.tel, r.by("state", nil), ignoring...)
	})
}

func TestBatchesAreCountedByTrigger(t *testing.T) {
	for _, c := range []struct {
		trigger string
		items   []int // in the batches of that trigger
		cause   func(t signalTest) *rig
	}{
		{"size", []int{10, 12}, func(t signalTest) *rig {
			r := started(t, testConfig(), nil)
			for _, items := range []int{4, 6, 12} {
				r.send(items)
			}
			return r
		}},
		{"timeout", []int{4, 5}, func(t signalTest) *rig {
			r := started(t, testConfig(), nil)
			r.send(4)
			time.Sleep(1500 * time.Millisecond)
			r.send(5)
			time.Sleep(500 * time.Millisecond)
			return r
		}},
		{"idle", []int{3, 8}, func(t signalTest) *rig {
			cfg := testConfig()
			cfg.Timeout = 0
			cfg.MaxConcurrentExports, cfg.MaxConcurrentExportsPerPartition = 1, 1
			g := newGate()
			r := started(t, cfg, g.held)
			r.send(3)
			synctest.Wait() // it is in flight: the others would still be let in
			r.send(4)
			r.send(4)
			g.open()
			return r
		}},
		{"pressure", []int{9}, func(t signalTest) *rig {
			cfg := testConfig()
			cfg.QueueSize = 10
			cfg.Timeout = time.Hour
			r := started(t, cfg, nil)
			r.send(9)
			r.send(2)
			return r
		}},
		{"evicted", []int{1, 2}, func(t signalTest) *rig {
			cfg := testConfig()
			cfg.MetadataKeys = []string{"tenant"}
			cfg.MetadataCardinalityLimit = 2
			cfg.Timeout = time.Hour
			r := started(t, cfg, nil)
			for i, name := range []string{"a", "b", "c", "d"} {
				require.NoError(t, r.try(tenant(name), i+1))
			}
			return r
		}},
		{"shutdown", []int{3}, func(t signalTest) *rig {
			g := newGate()
			r := started(t, testConfig(), g.held)
			r.send(3)
			down := make(chan error, 1)
			go func() { down <- r.Shutdown(context.Background()) }()
			t.Cleanup(func() {
				g.open()
				require.NoError(t, <-down)
			})
			return r
		}},
	} {
		t.Run("trigger="+c.trigger, func(t *testing.T) {
			eachSignal(t, func(t signalTest) {
				r := c.cause(t)
				synctest.Wait()
				require.ElementsMatch(t, c.items, r.sink.Sizes())
				metadatatest.AssertEqualProcessorBoundedbatchBatches(t.T, r.tel,
					r.by("trigger", counts{c.trigger: int64(len(c.items))}), ignoring...)
				metadatatest.AssertEqualProcessorBoundedbatchBatchItems(t.T, r.tel,
					histogram(r, "batch_items", toInt64(c.items)...), ignoring...)
			})
		})
	}
}

func TestPartitionsAreCountedAndSoAreEvictions(t *testing.T) {
	eachSignal(t, func(t signalTest) {
		cfg := testConfig()
		cfg.MetadataKeys = []string{"tenant"}
		cfg.MetadataCardinalityLimit = 3
		r := started(t, cfg, nil)
		for _, name := range []string{"a", "b", "a"} {
			require.NoError(t, r.try(tenant(name), 1))
		}
		metadatatest.AssertEqualProcessorBoundedbatchLivePartitions(t.T, r.tel, r.total(2), ignoring...)
		metadatatest.AssertEqualProcessorBoundedbatchEvictions(t.T, r.tel, r.total(0), ignoring...)
		for _, name := range []string{"c", "d", "e", "e"} {
			require.NoError(t, r.try(tenant(name), 1))
		}
		metadatatest.AssertEqualProcessorBoundedbatchLivePartitions(t.T, r.tel, r.total(3), ignoring...)
		metadatatest.AssertEqualProcessorBoundedbatchEvictions(t.T, r.tel, r.total(2), ignoring...)
		time.Sleep(time.Minute)
		metadatatest.AssertEqualProcessorBoundedbatchLivePartitions(t.T, r.tel, r.total(0), ignoring...)
		metadatatest.AssertEqualProcessorBoundedbatchEvictions(t.T, r.tel, r.total(2), ignoring...)
		metadatatest.AssertEqualProcessorBoundedbatchDeliveredItems(t.T, r.tel, r.total(7), ignoring...)
	})
}

func TestWaitForRoomIsMeasuredForThoseWhoWait(t *testing.T) {
	eachSignal(t, func(t signalTest) {
		g := newGate()
		r := started(t, testConfig(), g.held)
		r.send(100)
		metadatatest.AssertEqualProcessorBoundedbatchWaitingCallers(t.T, r.tel, r.total(0), ignoring...)
		ctx, cancel := context.WithTimeout(context.Background(), 4*time.Second)
		defer cancel()
		canceled := r.goTry(ctx, 3)
		synctest.Wait()
		admitted := r.goTry(context.Background(), 5)
		synctest.Wait()
		metadatatest.AssertEqualProcessorBoundedbatchWaitingCallers(t.T, r.tel, r.total(2), ignoring...)
		require.ErrorIs(t, <-canceled, context.DeadlineExceeded)
		metadatatest.AssertEqualProcessorBoundedbatchWaitingCallers(t.T, r.tel, r.total(1), ignoring...)
		time.Sleep(3500 * time.Millisecond)
		g.open()
		require.NoError(t, <-admitted)
		r.send(1)
		metadatatest.AssertEqualProcessorBoundedbatchWaitingCallers(t.T, r.tel, r.total(0), ignoring...)
		metadatatest.AssertEqualProcessorBoundedbatchAdmissionWait(t.T, r.tel, histogram(r, "admission_wait", 4, 7.5), ignoring...)
	})
}

func TestBatchAgeIsThatOfTheOldestItem(t *testing.T) {
	eachSignal(t, func(t signalTest) {
		g := newGate()
		cfg := testConfig()
		cfg.MaxConcurrentExports, cfg.MaxConcurrentExportsPerPartition = 1, 1
		r := started(t, cfg, g.held)
		r.send(3)
		time.Sleep(250 * time.Millisecond)
		r.send(7) // full: 250 ms
		time.Sleep(5 * time.Second)
		r.send(1) // on its tick: 1 s
		time.Sleep(900 * time.Millisecond)
		r.send(1)
		time.Sleep(time.Minute) // the time in line does not count
		g.open()
		synctest.Wait()
		metadatatest.AssertEqualProcessorBoundedbatchBatchAge(t.T, r.tel, histogram(r, "batch_age", 0.25, 1), ignoring...)
		metadatatest.AssertEqualProcessorBoundedbatchBatchItems(t.T, r.tel, histogram[int64](r, "batch_items", 10, 2), ignoring...)
	})
}

func TestTicksReportTheirLateness(t *testing.T) {
	eachSignal(t, func(t signalTest) {
		r := started(t, testConfig(), nil)
		time.Sleep(time.Hour)
		requireAbsent(r, "ticker_lateness") // nothing ticks before there is data
		for range 2 {
			r.send(1)
			time.Sleep(10 * time.Second) // two ticks: the second finds nothing
		}
		metadatatest.AssertEqualProcessorBoundedbatchTickerLateness(t.T, r.tel,
			histogram(r, "ticker_lateness", 0.0, 0, 0, 0), ignoring...)
	})
	t.Run("a late tick", func(t *testing.T) { // virtual time is never late
		tel := componenttest.NewTelemetry()
		observer, err := newTelemetry(metadatatest.NewSettings(tel), "traces", &health{logger: zap.NewNop()})
		require.NoError(t, err)
		observer.Ticked(30 * time.Millisecond)
		r := &rig{t: t, tel: tel, signal: "traces"}
		metadatatest.AssertEqualProcessorBoundedbatchTickerLateness(t, tel, histogram(r, "ticker_lateness", 0.03), ignoring...)
	})
}

func TestExportsAreTimedWhateverTheirOutcome(t *testing.T) {
	eachSignal(t, func(t signalTest) {
		r := started(t, testConfig(), func(b batchertest.Batch) error {
			if b.Number == 0 {
				time.Sleep(1500 * time.Millisecond)
				return errRefused
			}
			time.Sleep(250 * time.Millisecond)
			return nil
		})
		r.send(10)
		synctest.Wait()
		r.send(10)
		synctest.Wait()
		metadatatest.AssertEqualProcessorBoundedbatchExportsInFlight(t.T, r.tel, r.total(2), ignoring...)
		time.Sleep(time.Minute)
		metadatatest.AssertEqualProcessorBoundedbatchExportDuration(t.T, r.tel, histogram(r, "export_duration", 0.25, 1.5), ignoring...)
		metadatatest.AssertEqualProcessorBoundedbatchExportsInFlight(t.T, r.tel, r.total(0), ignoring...)
	})
}

func TestBatchBytesAreTheEncodedSizeOfOneBatchAnInterval(t *testing.T) {
	eachSignal(t, func(t signalTest) {
		r := started(t, testConfig(), nil)
		for _, items := range []int{10, 11, 84} {
			r.send(items)
			time.Sleep(measureInterval / 2)
		}
		small, large := t.bytes(t.T, 0, 10), t.bytes(t.T, 21, 84)
		require.Greater(t, large, small)
		metadatatest.AssertEqualProcessorBoundedbatchBatchBytes(t.T, r.tel,
			histogram(r, "batch_bytes", int64(small), int64(large)), ignoring...)
		metadatatest.AssertEqualProcessorBoundedbatchBatchItems(t.T, r.tel,
			histogram[int64](r, "batch_items", 10, 11, 84), ignoring...)
	})
}

// TestBatchBytesAreMeasuredOnlyWhileTheMetricIsEnabled: measuring walks the whole
// batch, which who drops the metric by a view must not pay for.
func TestBatchBytesAreMeasuredOnlyWhileTheMetricIsEnabled(t *testing.T) {
	drop := sdkmetric.NewView(
		sdkmetric.Instrument{Name: prefix + "batch_bytes"}, sdkmetric.Stream{Aggregation: sdkmetric.AggregationDrop{}})
	for _, c := range []struct {
		name     string
		options  []sdkmetric.Option
		measured int64
	}{
		{"enabled", nil, 2},
		{"dropped by a view", []sdkmetric.Option{sdkmetric.WithView(drop)}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tel := componenttest.NewTelemetry(componenttest.WithMetricOptions(c.options...))
				kind := batchertest.Logs()
				weighed := &weighing[plog.Logs]{Signal: kind}
				sink := batchertest.NewSink(kind, nil)
				p, err := newProcessor(metadatatest.NewSettings(tel), testConfig(), weighed, consumer.Capabilities{}, sink.Consume)
				require.NoError(t, err)
				require.NoError(t, p.Start(context.Background(), componenttest.NewNopHost()))
				for i := range 2 {
					require.NoError(t, p.batcher.Consume(context.Background(), kind.Make(10*i, 10)))
					time.Sleep(measureInterval)
				}
				require.Len(t, sink.Delivered(), 20)
				require.Equal(t, c.measured, weighed.times.Load())

				_, err = tel.GetMetric(prefix + "batch_bytes")
				require.Equal(t, c.measured > 0, err == nil)
				_, err = tel.GetMetric(prefix + "batch_items")
				require.NoError(t, err, "the view takes other metrics away")
				require.NoError(t, p.Shutdown(context.Background()))
			})
		})
	}
}

// weighing counts how often data is measured.
type weighing[T any] struct {
	batcher.Signal[T]
	times atomic.Int64
}

func (w *weighing[T]) Bytes(data T) int {
	w.times.Add(1)
	return w.Signal.Bytes(data)
}

// TestEveryMetricIsReported: whatever metadata.yaml defines, and only that, with
// every value that it lists for an attribute.
func TestEveryMetricIsReported(t *testing.T) {
	eachSignal(t, func(t signalTest) {
		g := newGate()
		cfg := testConfig()
		cfg.QueueSize = 10
		cfg.MemoryLimit = 1 << 30
		r := started(t, cfg, g.held)
		r.send(10)
		waiting := r.goTry(context.Background(), 3)
		synctest.Wait()
		g.open()
		require.NoError(t, <-waiting)
		time.Sleep(time.Minute)

		var all metricdata.ResourceMetrics
		require.NoError(t, r.tel.Reader.Collect(context.Background(), &all))
		require.Len(t, all.ScopeMetrics, 1)
		reported := make(map[string]map[string][]string) // metric to attribute to values
		for _, m := range all.ScopeMetrics[0].Metrics {
			reported[m.Name] = attributesOf(m)
		}
		defined := definition(t.T, "telemetry", "metrics")
		for name := range defined {
			of := definition(t.T, "telemetry", "metrics", name)
			attributes, found := reported["otelcol_"+name]
			if !assert.True(t, found, "%s is defined, but not reported", name) {
				continue
			}
			for _, a := range of["attributes"].([]any) {
				key, values := enumeration(t.T, a.(string))
				switch key {
				case "processor":
					values = []string{"boundedbatch"}
				case "signal":
					values = []string{t.name}
				}
				assert.ElementsMatch(t, values, attributes[key], "%s by %s", name, key)
			}
			assert.Len(t, attributes, len(of["attributes"].([]any)), "attributes of %s", name)
		}
		for name := range reported {
			assert.Contains(t, defined, strings.TrimPrefix(name, "otelcol_"), "reported, but not defined")
		}
	})
}

// TestBytesAreReportedWhileThereIsALimit: none is estimated otherwise, and 0 would say that
// nothing is held.
func TestBytesAreReportedWhileThereIsALimit(t *testing.T) {
	eachSignal(t, func(t signalTest) {
		r := started(t, testConfig(), nil)
		r.send(3)
		requireAbsent(r, "held_bytes")
		requireAbsent(r, "capacity_bytes")

		r.reportBytes(0, 5000)
		metadatatest.AssertEqualProcessorBoundedbatchHeldBytes(t.T, r.tel, r.total(0), ignoring...)
		metadatatest.AssertEqualProcessorBoundedbatchCapacityBytes(t.T, r.tel, r.total(5000), ignoring...)
		r.reportBytes(1234, 3000) // another pipeline of the same processor
		metadatatest.AssertEqualProcessorBoundedbatchHeldBytes(t.T, r.tel, r.total(1234), ignoring...)
		metadatatest.AssertEqualProcessorBoundedbatchCapacityBytes(t.T, r.tel, r.total(8000), ignoring...)
		metadatatest.AssertEqualProcessorBoundedbatchAcceptedItems(t.T, r.tel, r.total(3), ignoring...)
	})
}

// TestDroppedItemsAreCountedByCause: what the engine counts under a cause has its name.
func TestDroppedItemsAreCountedByCause(t *testing.T) {
	tel := componenttest.NewTelemetry()
	observer, err := newTelemetry(metadatatest.NewSettings(tel), "traces", &health{logger: zap.NewNop()})
	require.NoError(t, err)
	var s batcher.Stats
	s.Dropped[batcher.DroppedShutdown] = 1
	s.Dropped[batcher.DroppedCanceled] = 2
	s.Dropped[batcher.DroppedItemTooLarge] = 3
	require.NoError(t, observer.observe(func() batcher.Stats { return s }))
	r := &rig{t: t, tel: tel, signal: "traces"}
	metadatatest.AssertEqualProcessorBoundedbatchDroppedItems(t, tel,
		r.by("dropped_cause", counts{"shutdown": 1, "canceled": 2, "item_too_large": 3}), ignoring...)
}

// TestItemsTooLargeAreLoggedWithTheLimit, and what waits for its line is logged when the
// processor is shut down.
func TestItemsTooLargeAreLoggedWithTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := zapobserver.New(zap.WarnLevel)
		set := metadatatest.NewSettings(componenttest.NewTelemetry())
		set.Logger = zap.New(core)
		cfg := testConfig()
		cfg.SendBatchMaxBytes = 4 << 20
		p, err := newProcessor(set, cfg, batcher.Logs(), consumer.Capabilities{}, batchertest.NewSink(batchertest.Logs(), nil).Consume)
		require.NoError(t, err)
		require.NoError(t, p.Start(context.Background(), componenttest.NewNopHost()))
		p.telemetry.ItemsTooLarge(2, 5_000_000)
		p.telemetry.ItemsTooLarge(1, 6_000_000)
		require.Equal(t, 1, logs.Len())
		require.NoError(t, p.Shutdown(context.Background()))
		for i, want := range []map[string]any{
			{"items": int64(2), "largest_bytes": int64(5_000_000), "send_batch_max_bytes": int64(4 << 20)},
			{"items": int64(1), "largest_bytes": int64(6_000_000), "send_batch_max_bytes": int64(4 << 20)},
		} {
			require.Equal(t, lineTooLarge, logs.All()[i].Message)
			require.Equal(t, want, logs.All()[i].ContextMap())
		}
	})
}

// TestProcessorsOfTheSameNameAddUp: two pipelines that use one processor report the
// same series, and the reader sees their sum.
func TestProcessorsOfTheSameNameAddUp(t *testing.T) {
	eachSignal(t, func(t signalTest) {
		tel := componenttest.NewTelemetry()
		g := newGate()
		one := newRigWith(t, tel, testConfig(), g.held)
		two := newRigWith(t, tel, testConfig(), g.held)
		one.start()
		two.start()
		one.send(13)
		two.send(24)
		two.send(5)
		require.Error(t, one.consume(endedContext(), 0, 3))
		require.Error(t, two.consume(endedContext(), 0, 4))
		synctest.Wait()
		metadatatest.AssertEqualProcessorBoundedbatchAcceptedItems(t.T, tel, one.total(42), ignoring...)
		metadatatest.AssertEqualProcessorBoundedbatchHeldItems(t.T, tel, one.by("state", counts{"in_flight": 37, "pending": 5}), ignoring...)
		metadatatest.AssertEqualProcessorBoundedbatchRefusedItems(t.T, tel, one.by("refused_cause", counts{"canceled": 7}), ignoring...)
		metadatatest.AssertEqualProcessorBoundedbatchCapacityItems(t.T, tel, one.total(200), ignoring...)
		metadatatest.AssertEqualProcessorBoundedbatchExportsInFlight(t.T, tel, one.total(2), ignoring...)
		metadatatest.AssertEqualProcessorBoundedbatchBatches(t.T, tel, one.by("trigger", counts{"size": 2}), ignoring...)
		metadatatest.AssertEqualProcessorBoundedbatchBatchItems(t.T, tel, histogram[int64](one, "batch_items", 13, 24), ignoring...)
		g.open()
		time.Sleep(time.Minute)
		metadatatest.AssertEqualProcessorBoundedbatchDeliveredItems(t.T, tel, one.total(42), ignoring...)
	})
}

// TestStartAgainIsRefusedWithoutCountingTwice guards the registration of the
// counters, which a second one must not double.
func TestStartAgainIsRefusedWithoutCountingTwice(t *testing.T) {
	eachSignal(t, func(t signalTest) {
		r := started(t, testConfig(), nil)
		require.Error(t, r.Start(context.Background(), componenttest.NewNopHost()))
		r.send(3)
		metadatatest.AssertEqualProcessorBoundedbatchAcceptedItems(t.T, r.tel, r.total(3), ignoring...)
	})
}

// TestBatchIsDescribedOnceHoweverOftenItIsSent: its size and age are those of its first
// export; the time of each export counts.
func TestBatchIsDescribedOnceHoweverOftenItIsSent(t *testing.T) {
	tel := componenttest.NewTelemetry()
	observer, err := newTelemetry(metadatatest.NewSettings(tel), "traces", &health{logger: zap.NewNop()})
	require.NoError(t, err)
	for i, e := range []batcher.Export{
		{Items: 100, Bytes: 5000, Age: time.Second, Attempt: 1},
		{Items: 100, Bytes: 5000, Age: time.Second, Attempt: 2},
		{Items: 7, Bytes: 300, Age: time.Second, Attempt: 1, Part: true},
		{Items: 7, Bytes: 300, Age: time.Second, Attempt: 2, Part: true},
		{Items: 20, Bytes: -1, Age: 2 * time.Second, Attempt: 1},
	} {
		observer.ExportStarted(e)
		observer.ExportEnded(e, time.Duration(i)*time.Second, batcher.Outcome{})
	}
	r := &rig{t: t, tel: tel, signal: "traces"}
	metadatatest.AssertEqualProcessorBoundedbatchBatchItems(t, tel, histogram[int64](r, "batch_items", 100, 20), ignoring...)
	metadatatest.AssertEqualProcessorBoundedbatchBatchBytes(t, tel, histogram[int64](r, "batch_bytes", 5000), ignoring...)
	metadatatest.AssertEqualProcessorBoundedbatchBatchAge(t, tel, histogram(r, "batch_age", 1.0, 2), ignoring...)
	metadatatest.AssertEqualProcessorBoundedbatchExportDuration(t, tel, histogram(r, "export_duration", 0.0, 1, 2, 3, 4), ignoring...)
}

// TestItemsThatWaitForARetryAreHeld, as a state of their own, and count against
// queue_size.
func TestItemsThatWaitForARetryAreHeld(t *testing.T) {
	eachSignal(t, func(t signalTest) {
		cfg := testConfig()
		cfg.RetryOnFailure.Enabled = true
		cfg.BlockOnOverflow = false
		r := started(t, cfg, func(b batchertest.Batch) error {
			if b.Number == 0 {
				return errRefused
			}
			return nil
		})
		r.send(12)
		r.send(4)
		synctest.Wait()
		metadatatest.AssertEqualProcessorBoundedbatchHeldItems(t.T, r.tel, r.by("state", counts{"retrying": 12, "pending": 4}), ignoring...)
		metadatatest.AssertEqualProcessorBoundedbatchRetries(t.T, r.tel, r.total(0), ignoring...)
		metadatatest.AssertEqualProcessorBoundedbatchFailedItems(t.T, r.tel, r.by("failed_cause", nil), ignoring...)
		require.EqualValues(t, 16, r.requireSum())
		require.ErrorIs(t, r.try(context.Background(), 85), batcher.ErrOverflow)

		time.Sleep(time.Minute)
		metadatatest.AssertEqualProcessorBoundedbatchHeldItems(t.T, r.tel, r.by("state", nil), ignoring...)
		metadatatest.AssertEqualProcessorBoundedbatchRetries(t.T, r.tel, r.total(1), ignoring...)
		metadatatest.AssertEqualProcessorBoundedbatchDeliveredItems(t.T, r.tel, r.total(16), ignoring...)
		metadatatest.AssertEqualProcessorBoundedbatchBatchItems(t.T, r.tel, histogram[int64](r, "batch_items", 12, 4), ignoring...)
	})
}

func TestRetriesThatEndAreFailures(t *testing.T) {
	eachSignal(t, func(t signalTest) {
		cfg := testConfig()
		cfg.RetryOnFailure = RetryConfig{
			Enabled: true, InitialInterval: time.Second, Multiplier: 2, MaxInterval: 4 * time.Second, MaxElapsedTime: 10 * time.Second,
		}
		r := started(t, cfg, func(batchertest.Batch) error { return errRefused })
		r.send(10)
		time.Sleep(time.Minute) // exports after 0, 1, 3 and 7 s
		metadatatest.AssertEqualProcessorBoundedbatchRetries(t.T, r.tel, r.total(3), ignoring...)
		metadatatest.AssertEqualProcessorBoundedbatchFailedItems(t.T, r.tel, r.by("failed_cause", counts{"retryable": 10}), ignoring...)
		require.Equal(t, 1, r.logs.FilterMessage(lineRetried).Len())
		require.Equal(t, 1, r.logs.FilterMessage(lineStillLost).Len())
		require.Zero(t, r.requireSum())
	})
}

// TestPoisonedRequestIsCountedByItself: among requests that share its batch, and with
// the further exports that it took to find it.
func TestPoisonedRequestIsCountedByItself(t *testing.T) {
	for _, waits := range []bool{false, true} {
		t.Run(fmt.Sprintf("wait_for_result=%v", waits), func(t *testing.T) {
			eachSignal(t, func(t signalTest) {
				cfg := testConfig()
				cfg.WaitForResult = waits
				cfg.FlushWhenIdle = new(false)
				const poison = 7
				r := started(t, cfg, func(b batchertest.Batch) error {
					if slices.Contains(b.IDs, poison) {
						return consumererror.NewPermanent(errRefused)
					}
					return nil
				})
				var answers []<-chan error
				for range 10 {
					answers = append(answers, r.goTry(context.Background(), 1))
					synctest.Wait() // in this order
				}
				for i, answer := range answers {
					if err := <-answer; waits && i == poison {
						require.True(t, consumererror.IsPermanent(err))
						require.ErrorIs(t, err, errRefused)
					} else {
						require.NoError(t, err, "caller %d", i)
					}
				}
				time.Sleep(time.Minute)
				metadatatest.AssertEqualProcessorBoundedbatchDeliveredItems(t.T, r.tel, r.total(9), ignoring...)
				metadatatest.AssertEqualProcessorBoundedbatchFailedItems(t.T, r.tel, r.by("failed_cause", counts{"permanent": 1}), ignoring...)
				metadatatest.AssertEqualProcessorBoundedbatchIsolationExports(t.T, r.tel, r.total(int64(len(r.sink.Batches())-1)), ignoring...)
				metadatatest.AssertEqualProcessorBoundedbatchBatchItems(t.T, r.tel, histogram[int64](r, "batch_items", 10), ignoring...)
				require.Greater(t, len(r.sink.Batches()), 2)
				require.Empty(t, r.host.reported(), "one request says nothing about the component")
				if waits {
					require.Equal(t, 1, r.logs.Len(), "its caller was told")
				} else {
					require.Equal(t, 1, r.logs.FilterMessage(lineIsolated).Len())
				}
			})
		})
	}
}

// TestItemsThatTheirCallerWithdrewAreDropped: what was pending when its context ended.
func TestItemsThatTheirCallerWithdrewAreDropped(t *testing.T) {
	eachSignal(t, func(t signalTest) {
		cfg := testConfig()
		cfg.WaitForResult = true
		cfg.FlushWhenIdle = new(false)
		r := started(t, cfg, nil)
		ctx, cancel := context.WithCancel(context.Background())
		gone := r.goTry(ctx, 3)
		synctest.Wait()
		stays := r.goTry(context.Background(), 4)
		synctest.Wait()
		cancel()
		require.ErrorIs(t, <-gone, context.Canceled)
		require.NoError(t, <-stays)
		metadatatest.AssertEqualProcessorBoundedbatchDroppedItems(t.T, r.tel, r.by("dropped_cause", counts{"canceled": 3}), ignoring...)
		metadatatest.AssertEqualProcessorBoundedbatchDeliveredItems(t.T, r.tel, r.total(4), ignoring...)
		require.Zero(t, r.requireSum())
	})
}

// TestScrapeIsOneSnapshot: two would not add up.
func TestScrapeIsOneSnapshot(t *testing.T) {
	tel := componenttest.NewTelemetry()
	observer, err := newTelemetry(metadatatest.NewSettings(tel), "traces", &health{logger: zap.NewNop()})
	require.NoError(t, err)
	snapshots := 0
	require.NoError(t, observer.observe(func() batcher.Stats {
		snapshots++
		return batcher.Stats{}
	}))
	var all metricdata.ResourceMetrics
	for scrapes := 1; scrapes <= 3; scrapes++ {
		require.NoError(t, tel.Reader.Collect(context.Background(), &all))
		require.Equal(t, scrapes, snapshots)
	}
}

// TestItemsAddUpInEveryScrapeConcurrentSafe: accepted = delivered + failed + dropped
// + held and held <= capacity in scrapes taken while many callers, exports and ticks
// change all of them.
func TestItemsAddUpInEveryScrapeConcurrentSafe(t *testing.T) {
	for _, c := range []struct {
		name         string
		waits, retry bool
	}{
		{"accepted", false, false},
		{"retried", false, true},
		{"waited for", true, false},
		{"waited for and retried", true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachSignal(t, func(t signalTest) { testItemsAddUp(t, c.waits, c.retry) })
		})
	}
}

func testItemsAddUp(t signalTest, waits, retry bool) {
	cfg := testConfig()
	cfg.WaitForResult = waits
	cfg.RetryOnFailure.Enabled = retry
	cfg.RetryOnFailure.InitialInterval = 5 * time.Millisecond
	cfg.RetryOnFailure.MaxInterval = 10 * time.Millisecond
	cfg.RetryOnFailure.MaxElapsedTime = 20 * time.Millisecond
	cfg.SendBatchMaxSize = 12
	cfg.MemoryLimit = 100_000
	cfg.ExportTimeout = 50 * time.Millisecond
	cfg.ShutdownTimeout = 100 * time.Millisecond
	cfg.MetadataKeys = []string{"tenant"}
	cfg.MetadataCardinalityLimit = 2
	never := newGate()
	r := started(t, cfg, func(b batchertest.Batch) error {
		switch b.Number % 7 {
		case 2:
			return errRefused
		case 3:
			return consumererror.NewPermanent(errRefused)
		case 4:
			return never.held(b)
		case 5:
			time.Sleep(time.Millisecond)
		}
		return nil
	})
	tenants := []context.Context{tenant("a"), tenant("b"), tenant("c")}
	const callers = 8
	requests, most := 20, 130 // each has at most so many items
	if t.name == "profiles" { // to make and check them takes far longer
		requests, most = 8, 40
	}
	var sending sync.WaitGroup
	for c := range callers {
		sending.Go(func() {
			for i := range requests {
				ctx, cancel := context.WithTimeout(tenants[(c+i)%3], time.Duration(i%5)*10*time.Millisecond)
				_ = r.consume(ctx, 10_000*c+150*i, 1+(7*c+13*i)%most)
				cancel()
			}
		})
	}
	var over atomic.Bool
	scrapes, moving := 0, 0
	var scraping sync.WaitGroup
	scraping.Go(func() {
		for !over.Load() {
			for range 5 { // while others run
				if held := r.requireSum(); held > 0 {
					moving++
				}
				scrapes++
			}
			time.Sleep(5 * time.Millisecond) // time passes only while all wait
		}
	})
	sending.Wait()
	r.requireSum()
	_ = r.Shutdown(context.Background()) // what fails during it is not what matters here
	over.Store(true)
	scraping.Wait()
	t.Logf("%d scrapes, %d of them while something was held", scrapes, moving)
	require.Positive(t, moving)
}

// requireSum scrapes once, checks the identity of the items and returns what is held.
// It does so only while anything is reported.
func (r *rig) requireSum() (held int64) {
	r.t.Helper()
	var all metricdata.ResourceMetrics
	if err := r.tel.Reader.Collect(context.Background(), &all); err != nil {
		r.t.Error(err) // not fatal: this may be another goroutine than the test's
		return 0
	}
	if len(all.ScopeMetrics) == 0 {
		return 0
	}
	sums := make(map[string]int64)
	for _, m := range all.ScopeMetrics[0].Metrics {
		if data, ok := m.Data.(metricdata.Sum[int64]); ok {
			for _, dp := range data.DataPoints {
				if dp.Value < 0 { // with assert a scrape takes a quarter longer
					r.t.Errorf("%s: %d", m.Name, dp.Value)
				}
				sums[strings.TrimPrefix(m.Name, prefix)] += dp.Value
			}
		}
	}
	assert.Equal(r.t, sums["accepted_items"],
		sums["delivered_items"]+sums["failed_items"]+sums["dropped_items"]+sums["held_items"], "%v", sums)
	assert.LessOrEqual(r.t, sums["held_items"], sums["capacity_items"])
	assert.LessOrEqual(r.t, sums["held_bytes"], sums["capacity_bytes"])
	return sums["held_items"]
}

const prefix = "otelcol_processor_boundedbatch_"

// ignoring are the options of every comparison: values count, instants do not.
var ignoring = []metricdatatest.Option{metricdatatest.IgnoreTimestamp()}

// counts are values by cause, state or trigger. What is missing is 0.
type counts map[string]int64

// total is a metric of one series.
func (r *rig) total(v int64) []metricdata.DataPoint[int64] {
	return []metricdata.DataPoint[int64]{{Attributes: r.attributes(), Value: v}}
}

// by is a metric of one series for each value that metadata.yaml lists for an
// attribute.
func (r *rig) by(attr string, values counts) (points []metricdata.DataPoint[int64]) {
	r.t.Helper()
	key, all := enumeration(r.t, attr)
	for _, v := range all {
		points = append(points, metricdata.DataPoint[int64]{
			Attributes: r.attributes(attribute.String(key, v)), Value: values[v],
		})
	}
	for v := range values {
		require.Contains(r.t, all, v, "not in metadata.yaml")
	}
	return points
}

func (r *rig) attributes(more ...attribute.KeyValue) attribute.Set {
	return attribute.NewSet(append(more,
		attribute.String("processor", "boundedbatch"), attribute.String("signal", r.signal))...)
}

// histogram is what values make of a metric with the buckets of metadata.yaml.
func histogram[N int64 | float64](r *rig, metric string, values ...N) []metricdata.HistogramDataPoint[N] {
	r.t.Helper()
	var bounds []float64
	for _, b := range definition(r.t, "telemetry", "metrics", "processor_boundedbatch_"+metric, "histogram")["bucket_boundaries"].([]any) {
		switch b := b.(type) {
		case int:
			bounds = append(bounds, float64(b))
		case float64:
			bounds = append(bounds, b)
		}
	}
	dp := metricdata.HistogramDataPoint[N]{
		Attributes:   r.attributes(),
		Count:        uint64(len(values)),
		Bounds:       bounds,
		BucketCounts: make([]uint64, len(bounds)+1),
		Min:          metricdata.NewExtrema(slices.Min(values)),
		Max:          metricdata.NewExtrema(slices.Max(values)),
	}
	for _, v := range values {
		dp.Sum += v
		bucket, _ := slices.BinarySearch(bounds, float64(v))
		dp.BucketCounts[bucket]++
	}
	return []metricdata.HistogramDataPoint[N]{dp}
}

// reportBytes reports a memory limit as one processor more of the same name does, which
// holds nothing but bytes.
func (r *rig) reportBytes(held, capacity int64) {
	r.t.Helper()
	observer, err := newTelemetry(metadatatest.NewSettings(r.tel), r.signal, &health{logger: zap.NewNop()})
	require.NoError(r.t, err)
	require.NoError(r.t, observer.observe(func() batcher.Stats {
		return batcher.Stats{HeldBytes: held, CapacityBytes: capacity}
	}))
}

// requireAbsent checks that nothing at all has been recorded.
func requireAbsent(r *rig, metric string) {
	r.t.Helper()
	_, err := r.tel.GetMetric(prefix + metric)
	require.ErrorContains(r.t, err, "not found")
}

// metadataFile reads metadata.yaml once.
var metadataFile = sync.OnceValues(func() (map[string]any, error) {
	conf, err := confmaptest.LoadConf("metadata.yaml")
	if err != nil {
		return nil, err
	}
	return conf.ToStringMap(), nil
})

// definition is a part of metadata.yaml.
func definition(t *testing.T, path ...string) map[string]any {
	t.Helper()
	part, err := metadataFile()
	require.NoError(t, err)
	for _, key := range path {
		next, ok := part[key].(map[string]any)
		require.True(t, ok, "metadata.yaml has no %v", path)
		part = next
	}
	return part
}

// enumeration is the name of an attribute in the metrics, and the values that
// metadata.yaml lists for it.
func enumeration(t *testing.T, attr string) (key string, values []string) {
	t.Helper()
	of := definition(t, "attributes", attr)
	key = attr
	if name, ok := of["name_override"].(string); ok {
		key = name
	}
	list, _ := of["enum"].([]any)
	for _, v := range list {
		values = append(values, v.(string))
	}
	return key, values
}

// attributesOf lists the values of each attribute over all series of a metric.
func attributesOf(m metricdata.Metrics) map[string][]string {
	var sets []attribute.Set
	switch data := m.Data.(type) {
	case metricdata.Sum[int64]:
		for _, dp := range data.DataPoints {
			sets = append(sets, dp.Attributes)
		}
	case metricdata.Histogram[int64]:
		for _, dp := range data.DataPoints {
			sets = append(sets, dp.Attributes)
		}
	case metricdata.Histogram[float64]:
		for _, dp := range data.DataPoints {
			sets = append(sets, dp.Attributes)
		}
	}
	all := make(map[string][]string)
	for _, set := range sets {
		for _, kv := range set.ToSlice() {
			key, v := string(kv.Key), kv.Value.AsString()
			if !slices.Contains(all[key], v) {
				all[key] = append(all[key], v)
			}
		}
	}
	return all
}

func toInt64(ints []int) (all []int64) {
	for _, n := range ints {
		all = append(all, int64(n))
	}
	return all
}

// endedContext is the context of a caller that has given up.
func endedContext() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}
