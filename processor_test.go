package boundedbatchprocessor

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/client"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/processor/processortest"
	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
	"github.com/boundedbatch/boundedbatchprocessor/batcher/batchertest"
	"github.com/boundedbatch/boundedbatchprocessor/internal/metadata"
	"github.com/boundedbatch/boundedbatchprocessor/internal/metadatatest"
)

func TestConsumeBeforeStartAndAfterShutdownIsRefusedRetryably(t *testing.T) {
	for _, c := range []struct {
		name string
		to   func(*rig)
		want error
	}{
		{"before start", func(*rig) {}, batcher.ErrNotStarted},
		{"after shutdown", func(r *rig) { r.start(); r.stop() }, batcher.ErrShutdown},
		{"after shutdown without start", func(r *rig) { r.stop() }, batcher.ErrShutdown},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachSignal(t, func(t signalTest) {
				r := newRig(t, testConfig(), nil)
				c.to(r)
				for _, items := range []int{0, 3, 10, 1000} {
					err := r.try(context.Background(), items)
					require.ErrorIs(t, err, c.want, "%d items", items)
					requireRetryable(t.T, err)
				}
				time.Sleep(time.Hour)
				require.Empty(t, r.sink.Batches())
			})
		})
	}
}

func TestConsumeDuringShutdownIsRefusedRetryably(t *testing.T) {
	eachSignal(t, func(t signalTest) {
		g := newGate()
		r := started(t, testConfig(), g.held)
		r.send(100) // all there is room for, in one batch
		waiting := r.goTry(context.Background(), 3)
		synctest.Wait()
		down := make(chan error, 1)
		go func() { down <- r.Shutdown(context.Background()) }()
		synctest.Wait()

		err := <-waiting
		require.ErrorIs(t, err, batcher.ErrShutdown)
		requireRetryable(t.T, err)
		for _, items := range []int{0, 3} {
			err := r.try(context.Background(), items)
			require.ErrorIs(t, err, batcher.ErrShutdown)
			requireRetryable(t.T, err)
		}
		g.open()
		require.NoError(t, <-down)
		require.Len(t, r.sink.Delivered(), 100)
	})
}

func TestRefusalForLackOfRoomIsRetryable(t *testing.T) {
	eachSignal(t, func(t signalTest) {
		g := newGate()
		cfg := testConfig()
		cfg.BlockOnOverflow = false
		r := started(t, cfg, g.held)
		r.send(98)
		err := r.try(context.Background(), 3)
		require.ErrorIs(t, err, batcher.ErrOverflow)
		require.EqualError(t, err, "no room: 98 of 100 items (queue_size) are held, 3 more do not fit")
		requireRetryable(t.T, err)
		g.open()
	})
}

func TestEndedContextIsRefusedEvenIfThereIsRoom(t *testing.T) {
	eachSignal(t, func(t signalTest) {
		r := started(t, testConfig(), nil)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		for _, items := range []int{3, 1000} {
			err := r.try(ctx, items)
			require.ErrorIs(t, err, context.Canceled)
			require.ErrorContains(t, err, fmt.Sprintf("request of %d items", items))
			requireRetryable(t.T, err)
		}
		r.stop()
		require.Empty(t, r.sink.Batches())
	})
}

func TestShutdownBeforeStartSucceeds(t *testing.T) {
	eachSignal(t, func(t signalTest) {
		r := newRig(t, testConfig(), nil)
		r.stop()
		r.stop()
		require.Error(t, r.Start(context.Background(), componenttest.NewNopHost()))
	})
}

func TestShutdownTwiceReturnsTheSame(t *testing.T) {
	eachSignal(t, func(t signalTest) {
		r := started(t, testConfig(), nil)
		r.send(3)
		r.stop()
		r.stop()
		require.Len(t, r.sink.Delivered(), 3)

		r = started(t, testConfig(), func(batchertest.Batch) error { return errRefused })
		r.send(3)
		first := r.Shutdown(context.Background())
		require.ErrorIs(t, first, errRefused)
		require.ErrorContains(t, first, "3 items were not delivered: 0 in flight, 0 sealed, 0 retrying, 3 failed during the shutdown")
		require.Equal(t, first, r.Shutdown(context.Background()))
	})
}

func TestShutdownTwiceAtOnceWaitsForTheFirst(t *testing.T) {
	eachSignal(t, func(t signalTest) {
		g := newGate()
		r := started(t, testConfig(), g.held)
		r.send(3)
		down := make(chan error, 2)
		for range 2 {
			go func() { down <- r.Shutdown(context.Background()) }()
		}
		synctest.Wait()
		require.Empty(t, down)
		g.open()
		require.NoError(t, <-down)
		require.NoError(t, <-down)
	})
}

func TestProcessorTakesItsDataOver(t *testing.T) {
	eachSignal(t, func(t signalTest) {
		r := newRig(t, testConfig(), nil)
		require.True(t, r.capabilities.MutatesData)
	})
}

func TestMetricsLeaveOneAtATimeUnlessConfigured(t *testing.T) {
	for _, c := range []struct {
		name           string
		perPartition   int
		tenants        int // 0: no keys
		metrics, other int // exports at once
	}{
		{"by default", 0, 0, 1, 5},
		{"by default with a tenant", 0, 1, 1, 4}, // of 8: no fewer than are left for others
		{"by default with tenants", 0, 3, 3, 7},  // 4, 2 and 1
		{"with a limit of one and no tenants", 1, 0, 1, 1},
		{"with a limit of one", 1, 1, 1, 1},
		{"with a limit of three", 3, 1, 3, 3},
		{"with a limit of two and tenants", 2, 3, 6, 6},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachSignal(t, func(t signalTest) {
				g := newGate()
				cfg := testConfig()
				cfg.QueueSize = 1000
				if c.tenants > 0 {
					cfg.MetadataKeys = []string{"tenant"}
				}
				cfg.MaxConcurrentExports = 8
				cfg.MaxConcurrentExportsPerPartition = c.perPartition
				r := started(t, cfg, g.held)
				for i := range max(1, c.tenants) {
					for range 5 {
						require.NoError(t, r.try(tenant(fmt.Sprint(i)), 10))
					}
				}
				synctest.Wait()
				want := c.other
				if t.name == "metrics" {
					want = c.metrics
				}
				require.Equal(t, want, r.sink.MostAtOnce())
				g.open()
				synctest.Wait()
				r.stop()
				require.Equal(t, want, r.sink.MostAtOnce())
				require.Len(t, r.sink.Delivered(), max(1, c.tenants)*50)
			})
		})
	}
}

func TestNopSettingsWork(t *testing.T) {
	for _, s := range signals() {
		t.Run("signal="+s.name, func(t *testing.T) {
			p, err := s.create(processortest.NewNopSettings(metadata.Type), testConfig(), consumer.Capabilities{}, func(b batchertest.Batch) error {
				if b.Number == 0 {
					return errRefused
				}
				return nil
			})
			require.NoError(t, err)
			require.NoError(t, p.Start(context.Background(), componenttest.NewNopHost()))
			require.NoError(t, p.consume(traced(1), 0, 10))
			require.NoError(t, p.consume(traced(2), 10, 25))
			_ = p.Shutdown(context.Background()) // whether it sees the failure depends on time
			require.NoError(t, p.sink.Err())
		})
	}
}

func TestInvalidConfigurationMakesNoProcessor(t *testing.T) {
	for _, s := range signals() {
		cfg := testConfig()
		cfg.QueueSize = 5
		_, err := s.create(processortest.NewNopSettings(metadata.Type), cfg, consumer.Capabilities{}, nil)
		require.ErrorContains(t, err, "queue_size: 5 is too small", s.name)
	}
}

func TestStartLogsOneLineOfGuarantees(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Config)
		want   map[string]any
	}{
		{"by default", func(*Config) {}, map[string]any{
			"answers":         "accepted",
			"most_items_held": int64(98304),
			"most_bytes_held": "no limit",
			"longest_added_latency_while_slots_are_free": 200 * time.Millisecond,
			"leaves_at_once_when_idle":                   false,
			"exports_at_once":                            int64(10),
			"most_items_in_a_batch":                      "no limit",
			"most_bytes_in_a_batch":                      "no limit",
			"retried_for":                                "no retry",
			"longest_shutdown":                           30 * time.Second,
		}},
		{"with every limit", func(cfg *Config) {
			cfg.QueueSize = 50000
			cfg.Timeout = 3 * time.Second
			cfg.MaxConcurrentExports = 4
			cfg.MaxConcurrentExportsPerPartition = 2
			cfg.SendBatchMaxSize = 9000
			cfg.SendBatchMaxBytes = 4_000_000
			cfg.MemoryLimit = 512 << 20
			cfg.WaitForResult = true
			cfg.RetryOnFailure.Enabled = true
			cfg.ShutdownTimeout = time.Minute
		}, map[string]any{
			"answers":         "outcome",
			"most_items_held": int64(50000),
			"most_bytes_held": "512MiB",
			"longest_added_latency_while_slots_are_free": 3 * time.Second,
			"leaves_at_once_when_idle":                   true,
			"exports_at_once":                            int64(4),
			"exports_at_once_per_partition":              int64(2),
			"most_items_in_a_batch":                      int64(9000),
			"most_bytes_in_a_batch":                      "4MB",
			"retried_for":                                5 * time.Minute,
			"longest_shutdown":                           time.Minute,
		}},
		{"without limits", func(cfg *Config) {
			cfg.Timeout = 0
			cfg.RetryOnFailure.Enabled = true
			cfg.RetryOnFailure.MaxElapsedTime = 0
			cfg.ShutdownTimeout = 0
		}, map[string]any{
			"answers":         "accepted",
			"most_items_held": int64(98304),
			"most_bytes_held": "no limit",
			"longest_added_latency_while_slots_are_free": time.Duration(0),
			"leaves_at_once_when_idle":                   true,
			"exports_at_once":                            int64(10),
			"most_items_in_a_batch":                      "no limit",
			"most_bytes_in_a_batch":                      "no limit",
			"retried_for":                                "no limit",
			"longest_shutdown":                           "no limit",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachSignal(t, func(t signalTest) {
				cfg := createDefaultConfig().(*Config)
				c.change(cfg)
				r := newRig(t, cfg, nil)
				require.Zero(t, r.logs.Len(), "a line before start")
				r.start()
				require.Equal(t, 1, r.logs.Len())
				line := r.logs.All()[0]
				require.Equal(t, zap.InfoLevel, line.Level)
				require.Equal(t, "Batching within bounds", line.Message)
				want := maps.Clone(c.want)
				if _, set := want["exports_at_once_per_partition"]; !set {
					want["exports_at_once_per_partition"] = "no limit"
					if t.name == "metrics" {
						want["exports_at_once_per_partition"] = int64(1)
					}
				}
				require.Equal(t, want, line.ContextMap())

				r.send(3)
				r.stop()
				require.Equal(t, 1, r.logs.Len(), "more lines than the one at start")
			})
		})
	}
}

// TestWaitingCallerGetsTheOutcome as soon as there is one, and as whoever called the
// processor understands it. Alone, it waits for its export only.
func TestWaitingCallerGetsTheOutcome(t *testing.T) {
	invalid := status.Error(codes.InvalidArgument, "no such dataset")
	const export, timeout = 20 * time.Millisecond, 5 * time.Second
	for _, c := range []struct {
		name      string
		answer    error // of the export
		after     time.Duration
		want      error
		permanent bool
		code      codes.Code
		causes    counts
	}{
		{"delivered", nil, export, nil, false, codes.OK, nil},
		{"refused", errRefused, export, errRefused, false, codes.Unavailable, counts{"retryable": 3}},
		{"refused for good", consumererror.NewPermanent(errRefused), export, errRefused, true, codes.Internal, counts{"permanent": 3}},
		{"refused with a status", consumererror.NewPermanent(invalid), export, invalid, true, codes.InvalidArgument, counts{"permanent": 3}},
		{"too late", nil, timeout, context.DeadlineExceeded, false, codes.Unavailable, counts{"timeout": 3}},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachSignal(t, func(t signalTest) {
				cfg := testConfig()
				cfg.WaitForResult = true
				cfg.Timeout = time.Hour
				cfg.ExportTimeout = timeout
				never := newGate()
				r := started(t, cfg, func(b batchertest.Batch) error {
					if c.after == timeout {
						return never.held(b)
					}
					time.Sleep(c.after)
					return c.answer
				})
				began := time.Now()
				err := r.try(context.Background(), 3)
				require.Equal(t, c.after, time.Since(began))
				if c.want == nil {
					require.NoError(t, err)
				} else {
					require.ErrorIs(t, err, c.want)
				}
				require.Equal(t, c.permanent, consumererror.IsPermanent(err))
				require.Equal(t, c.code, grpcCode(err))
				metadatatest.AssertEqualProcessorBoundedbatchFailedItems(t.T, r.tel, r.by("failed_cause", c.causes), ignoring...)
				metadatatest.AssertEqualProcessorBoundedbatchHeldItems(t.T, r.tel, r.by("state", nil), ignoring...)
			})
		})
	}
}

// TestStartSaysOnceThatBatchesAreCopied: only where that is so, and for whose sake.
func TestStartSaysOnceThatBatchesAreCopied(t *testing.T) {
	for _, c := range []struct {
		name         string
		nextMutates  bool
		waits, retry bool
		limit        ByteSize
		want         []any // the settings that the line names; nil: no line
	}{
		{"nothing needs it", true, false, false, 0, nil},
		{"for callers", true, true, false, 0, []any{"wait_for_result"}},
		{"for retries", true, false, true, 0, []any{"retry_on_failure"}},
		{"for both", true, true, true, 0, []any{"wait_for_result", "retry_on_failure"}},
		{"for both, within a limit", true, true, true, 1 << 30, []any{"wait_for_result", "retry_on_failure"}},
		{"data is left as it is", false, true, true, 1 << 30, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachSignal(t, func(t signalTest) {
				cfg := testConfig()
				cfg.WaitForResult, cfg.RetryOnFailure.Enabled = c.waits, c.retry
				cfg.MemoryLimit = c.limit
				t.next.MutatesData = c.nextMutates
				r := started(t, cfg, nil)
				lines := r.logs.FilterMessageSnippet("copied").All()
				require.Equal(t, len(lines)+1, r.logs.Len(), "besides the line of guarantees")
				if c.want == nil {
					require.Empty(t, lines)
					return
				}
				require.Len(t, lines, 1)
				require.Equal(t, zap.InfoLevel, lines[0].Level)
				require.Equal(t, map[string]any{"settings": c.want}, lines[0].ContextMap())
				require.Equal(t, c.limit > 0, strings.Contains(lines[0].Message, "counts twice in memory_limit"))
				r.send(10)
				r.send(10)
				require.Equal(t, 2, r.logs.Len(), "a line for each batch")
			})
		})
	}
}

// TestBatchIsSentAgainAsItWas, whatever the next consumer does to what it is given.
func TestBatchIsSentAgainAsItWas(t *testing.T) {
	for _, mutates := range []bool{false, true} {
		t.Run(fmt.Sprintf("mutates=%v", mutates), func(t *testing.T) {
			eachSignal(t, func(t signalTest) {
				cfg := testConfig()
				cfg.RetryOnFailure.Enabled = true
				t.next.MutatesData = mutates
				r := started(t, cfg, func(b batchertest.Batch) error {
					if b.Number < 2 {
						return errRefused
					}
					return nil
				})
				r.send(10)
				time.Sleep(time.Minute)
				require.Equal(t, []int{10, 10, 10}, r.sink.Sizes())
				require.Len(t, r.sink.Delivered(), 10)
			})
		})
	}
}

func TestRequestLargerThanTheQueueIsPermanentWhereNobodyWaits(t *testing.T) {
	eachSignal(t, func(t signalTest) {
		cfg := testConfig()
		cfg.BlockOnOverflow = false
		r := started(t, cfg, nil)
		err := r.try(context.Background(), 101)
		require.ErrorIs(t, err, batcher.ErrTooLarge)
		require.True(t, consumererror.IsPermanent(err))
		require.Equal(t, codes.InvalidArgument, grpcCode(err))
		require.ErrorContains(t, err, "request too large: 101 items exceed queue_size (100) and block_on_overflow is off")
		r.next = 0
		r.send(100)
		r.stop()
		require.Len(t, r.sink.Delivered(), 100)
	})
}

func TestRequestLargerThanTheQueueIsAdmittedPieceByPiece(t *testing.T) {
	eachSignal(t, func(t signalTest) {
		cfg := testConfig()
		cfg.SendBatchMaxSize = 10
		g := newGate()
		r := started(t, cfg, g.held)
		sent := r.goTry(context.Background(), 1234)
		synctest.Wait()
		require.Empty(t, sent, "more was accepted than there is room for")
		require.Equal(t, []int{10, 10}, r.sink.Sizes())
		g.open()
		require.NoError(t, <-sent)
		r.stop()
		delivered := r.sink.Delivered()
		require.Len(t, delivered, 1234)
		for id, times := range delivered {
			require.Equal(t, 1, times, "item %d", id)
		}
	})
}

func TestRequestCutShortReturnsExactlyTheRest(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(cancel context.CancelFunc, r *rig)
		want error
	}{
		{"by its context", func(cancel context.CancelFunc, _ *rig) { cancel() }, context.Canceled},
		{"by shutdown", func(_ context.CancelFunc, r *rig) { go func() { _ = r.Shutdown(context.Background()) }() }, batcher.ErrShutdown},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachSignal(t, func(t signalTest) {
				g := newGate()
				r := started(t, testConfig(), g.held)
				r.send(30)
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				sent := r.goTry(ctx, 155) // items 30 to 184; at most 70 of them fit
				synctest.Wait()
				require.Empty(t, sent)
				c.end(cancel, r)
				err := <-sent
				require.ErrorIs(t, err, c.want)
				requireRetryable(t.T, err)
				rest, found, altered := r.rest(err)
				require.True(t, found, "the error carries no data")
				require.NoError(t, altered)
				require.GreaterOrEqual(t, len(rest), 85, "more was accepted than there is room for")
				require.Less(t, len(rest), 155, "nothing was accepted")
				accepted := 185 - len(rest)
				require.Equal(t, identities(accepted, len(rest)), rest)

				g.open()
				r.stop()
				delivered := r.sink.Delivered()
				require.Len(t, delivered, accepted)
				for _, id := range identities(0, accepted) {
					require.Equal(t, 1, delivered[id], "item %d", id)
				}
			})
		})
	}
}

// TestRequestCutShortNamesWhatWasRefused: how many of the items that the caller sent.
// The pieces in which they were to be admitted are nothing it knows of.
func TestRequestCutShortNamesWhatWasRefused(t *testing.T) {
	request := regexp.MustCompile(`request of (\d+) items`)
	eachSignal(t, func(t signalTest) {
		g := newGate()
		r := started(t, testConfig(), g.held)
		r.send(30)
		ctx, cancel := context.WithCancel(context.Background())
		sent := r.goTry(ctx, 155)
		synctest.Wait()
		cancel()
		err := <-sent
		rest, _, _ := r.rest(err)
		require.ErrorContains(t, err, fmt.Sprintf("%d of 155 items", len(rest)))
		if named := request.FindStringSubmatch(err.Error()); named != nil {
			require.Equal(t, "155", named[1], "%v", err)
		}
		g.open()
	})
}

func TestExportSpanIsARootLinkedToEveryTracedContributor(t *testing.T) {
	eachSignal(t, func(t signalTest) {
		r := started(t, testConfig(), nil)
		for _, ctx := range []context.Context{traced(1), context.Background(), unsampled(2), traced(3), traced(4)} {
			require.NoError(t, r.try(ctx, 2))
		}
		synctest.Wait()

		spans := r.tel.SpanRecorder.Ended()
		require.Len(t, spans, 1)
		span := spans[0]
		require.Equal(t, "export "+t.name, span.Name())
		require.False(t, span.Parent().IsValid(), "the span has a parent")
		require.Equal(t, otelcodes.Unset, span.Status().Code)
		var linked []trace.SpanContext
		for _, l := range span.Links() {
			linked = append(linked, l.SpanContext)
		}
		require.Equal(t, []trace.SpanContext{spanContext(1), spanContext(3), spanContext(4)}, linked)
		for _, sc := range linked {
			require.NotEqual(t, sc.TraceID(), span.SpanContext().TraceID())
		}
		require.ElementsMatch(t, []attribute.KeyValue{
			attribute.Int("batch.items", 10), attribute.String("batch.trigger", "size"), attribute.Int("batch.links_omitted", 0),
		}, span.Attributes())
		require.Equal(t, span.SpanContext(), trace.SpanContextFromContext(r.sink.Batches()[0].Ctx),
			"the export does not run under its span")
	})
}

func TestExportSpanOfOneContributorIsARootToo(t *testing.T) {
	eachSignal(t, func(t signalTest) {
		r := started(t, testConfig(), nil)
		require.NoError(t, r.try(traced(1), 10))
		synctest.Wait()
		spans := r.tel.SpanRecorder.Ended()
		require.Len(t, spans, 1)
		require.False(t, spans[0].Parent().IsValid())
		require.Len(t, spans[0].Links(), 1)
	})
}

func TestExportSpanHasAtMost128LinksAndCountsTheRest(t *testing.T) {
	eachSignal(t, func(t signalTest) {
		cfg := testConfig()
		cfg.SendBatchSize, cfg.QueueSize = 1000, 1000
		r := started(t, cfg, nil)
		for i := range 131 {
			require.NoError(t, r.try(traced(i+1), 1))
		}
		r.stop()
		spans := r.tel.SpanRecorder.Ended()
		require.Len(t, spans, 1)
		require.Len(t, spans[0].Links(), 128)
		require.Zero(t, spans[0].DroppedLinks(), "it is the SDK that left links out")
		require.Contains(t, spans[0].Attributes(), attribute.Int("batch.links_omitted", 3))
	})
}

func TestRequestCutInTwoIsLinkedFromBothExports(t *testing.T) {
	eachSignal(t, func(t signalTest) {
		cfg := testConfig()
		cfg.SendBatchMaxSize = 10
		r := started(t, cfg, nil)
		require.NoError(t, r.try(traced(1), 6))
		require.NoError(t, r.try(traced(2), 14))
		r.stop()
		require.Len(t, r.sink.Batches(), 2)
		spans := r.tel.SpanRecorder.Ended()
		require.Len(t, spans, 2)
		for _, span := range spans {
			require.NotEmpty(t, span.Links())
			last := span.Links()[len(span.Links())-1]
			require.Equal(t, spanContext(2), last.SpanContext)
		}
	})
}

func TestFailedExportMarksItsSpan(t *testing.T) {
	eachSignal(t, func(t signalTest) {
		r := started(t, testConfig(), func(batchertest.Batch) error { return errRefused })
		require.NoError(t, r.try(traced(1), 10))
		synctest.Wait()
		spans := r.tel.SpanRecorder.Ended()
		require.Len(t, spans, 1)
		require.Equal(t, otelcodes.Error, spans[0].Status().Code)
		require.Equal(t, errRefused.Error(), spans[0].Status().Description)
		require.Len(t, spans[0].Events(), 1)
		require.Equal(t, "exception", spans[0].Events()[0].Name)
		require.Equal(t, []attribute.KeyValue{
			attribute.String("exception.type", "*errors.errorString"), attribute.String("exception.message", errRefused.Error()),
		}, spans[0].Events()[0].Attributes)
	})
}

// A backend may answer with as many bytes as a message has, and quote what it was sent. What people are shown of that,
// in spans and in the error that a Collector logs when it ends, has a limit; what callers get is the error itself.
func TestLongErrorsAreWholeOnlyForCallers(t *testing.T) {
	const most = 1024
	long := status.Error(codes.InvalidArgument, strings.Repeat("x", 1<<20))
	for _, waits := range []bool{false, true} {
		t.Run(fmt.Sprintf("wait_for_result=%v", waits), func(t *testing.T) {
			eachSignal(t, func(t signalTest) {
				cfg := testConfig()
				cfg.WaitForResult, cfg.Timeout = waits, time.Hour
				cfg.FlushWhenIdle = new(false)
				r := started(t, cfg, func(batchertest.Batch) error { return consumererror.NewPermanent(long) })
				answer := r.goTry(traced(1), 3)
				synctest.Wait()
				err := r.Shutdown(context.Background())

				require.ErrorContains(t, err, "3 items were not delivered")
				require.ErrorContains(t, err, "bytes)")
				require.Less(t, len(err.Error()), 2*most)
				require.ErrorIs(t, err, long)
				require.True(t, consumererror.IsPermanent(err))
				require.Equal(t, codes.InvalidArgument, grpcCode(err))

				spans := r.tel.SpanRecorder.Ended()
				require.Len(t, spans, 1)
				shown := []string{spans[0].Status().Description}
				for _, a := range spans[0].Attributes() {
					shown = append(shown, a.Value.String())
				}
				for _, e := range spans[0].Events() {
					for _, a := range e.Attributes {
						shown = append(shown, a.Value.String())
					}
				}
				for _, text := range shown {
					require.Less(t, len(text), 2*most)
				}

				if told := <-answer; waits {
					require.ErrorContains(t, told, long.Error(), "a caller gets all of it")
					require.True(t, consumererror.IsPermanent(told))
					require.Equal(t, codes.InvalidArgument, grpcCode(told))
				} else {
					require.NoError(t, told)
				}
			})
		})
	}
}

func TestNoSpanWhereNobodyTraces(t *testing.T) {
	eachSignal(t, func(t signalTest) {
		r := started(t, testConfig(), nil)
		r.send(10)
		require.NoError(t, r.try(unsampled(1), 10))
		r.stop()
		require.Empty(t, r.tel.SpanRecorder.Started())
		require.Len(t, r.sink.Batches(), 2)
	})
}

// TestPipelinesOfOneProcessorAreIndependent: the Collector creates a component for
// each pipeline that names it, from one configuration.
func TestPipelinesOfOneProcessorAreIndependent(t *testing.T) {
	factory := NewFactory()
	cfg := factory.CreateDefaultConfig()
	set := processortest.NewNopSettings(metadata.Type)
	var all []component.Component
	for range 2 {
		traces, err := factory.CreateTraces(context.Background(), set, cfg, consumertest.NewNop())
		require.NoError(t, err)
		metrics, err := factory.CreateMetrics(context.Background(), set, cfg, consumertest.NewNop())
		require.NoError(t, err)
		all = append(all, traces, metrics)
	}
	require.Equal(t, createDefaultConfig(), cfg, "creating a component changes the configuration of the next")
	for _, c := range all {
		require.NoError(t, c.Start(context.Background(), componenttest.NewNopHost()))
	}
	for _, c := range all {
		require.NoError(t, c.Shutdown(context.Background()))
	}
}

// requireRetryable checks that whoever looks at the error tries again: a component
// that called Consume, and an OTLP client behind the Collector's receiver.
func requireRetryable(t *testing.T, err error) {
	t.Helper()
	require.False(t, consumererror.IsPermanent(err), "permanent: %v", err)
	require.Equal(t, codes.Unavailable, grpcCode(err))
}

// grpcCode is what the Collector's OTLP receiver makes of an error.
func grpcCode(err error) codes.Code {
	if s, ok := status.FromError(err); ok {
		return s.Code()
	}
	if consumererror.IsPermanent(err) {
		return codes.Internal
	}
	return codes.Unavailable
}

// tenant is the context of a caller with that value of the metadata key "tenant".
func tenant(name string) context.Context {
	return client.NewContext(context.Background(), client.Info{
		Metadata: client.NewMetadata(map[string][]string{"tenant": {name}}),
	})
}

// spanContext is a span's identity, sampled, made from n > 0.
func spanContext(n int) trace.SpanContext {
	return trace.NewSpanContext(trace.SpanContextConfig{
		TraceID:    trace.TraceID{14: byte(n >> 8), 15: byte(n)},
		SpanID:     trace.SpanID{6: byte(n >> 8), 7: byte(n)},
		TraceFlags: trace.FlagsSampled,
	})
}

// traced is the context of a caller inside that span.
func traced(n int) context.Context {
	return trace.ContextWithSpanContext(context.Background(), spanContext(n))
}

// unsampled is the context of a caller inside a span that nobody records.
func unsampled(n int) context.Context {
	return trace.ContextWithSpanContext(context.Background(), spanContext(n).WithTraceFlags(0))
}
