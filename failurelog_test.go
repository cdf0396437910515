package boundedbatchprocessor

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
	"github.com/boundedbatch/boundedbatchprocessor/batcher/batchertest"
)

const (
	lineAtBegin = "Exports fail; their items are lost and counted in failed_items"
	lineAtEnd   = "Exports succeed again"
)

func TestFailureIsOneLineWhenItBeginsAndOneWhenItEnds(t *testing.T) {
	logged(t, func(t logTest) {
		for range 100 {
			t.ended(10, 0, nil)
		}
		require.Zero(t, t.logs.Len(), "a line while all is well")

		t.ended(8192, batcher.FailedPermanent, consumererror.NewPermanent(errRefused))
		require.Equal(t, 1, t.logs.Len())
		line := t.logs.All()[0]
		require.Equal(t, zap.WarnLevel, line.Level)
		require.Equal(t, lineAtBegin, line.Message)
		require.Equal(t, map[string]any{
			"cause": "permanent", "items": int64(8192), "error": "Permanent error: refused downstream",
		}, line.ContextMap())

		for range 60 {
			time.Sleep(time.Second)
			t.ended(100, batcher.FailedRetryable, errRefused)
		}
		require.Equal(t, 1, t.logs.Len(), "a line for each batch")

		time.Sleep(quiet)
		require.Equal(t, 1, t.logs.Len(), "a failure ends with a success, not by itself")
		t.ended(5, 0, nil)
		require.Equal(t, 2, t.logs.Len())
		line = t.logs.All()[1]
		require.Equal(t, zap.InfoLevel, line.Level)
		require.Equal(t, lineAtEnd, line.Message)
		require.Equal(t, map[string]any{
			"failed_for": time.Minute, "failed_batches": int64(61), "failed_items": int64(8192 + 6000),
		}, line.ContextMap())

		for range 100 {
			t.ended(10, 0, nil)
		}
		require.Equal(t, 2, t.logs.Len())
	})
}

func TestNextFailureIsCountedFromZero(t *testing.T) {
	logged(t, func(t logTest) {
		for n := 1; n <= 3; n++ {
			for range n {
				t.ended(7, batcher.FailedTimeout, errRefused)
			}
			time.Sleep(quiet)
			t.ended(1, 0, nil)
			require.Equal(t, 2*n, t.logs.Len())
			require.Equal(t, "timeout", t.logs.All()[2*n-2].ContextMap()["cause"])
			require.Equal(t, map[string]any{
				"failed_for": time.Duration(0), "failed_batches": int64(n), "failed_items": int64(7 * n),
			}, t.logs.All()[2*n-1].ContextMap())
		}
	})
}

func TestFailureEndsAfterAQuietTime(t *testing.T) {
	logged(t, func(t logTest) {
		t.ended(1, batcher.FailedRetryable, errRefused)
		time.Sleep(quiet - 1)
		t.ended(1, 0, nil)
		require.Equal(t, 1, t.logs.Len(), "too early: a batch failed just now")
		time.Sleep(time.Nanosecond)
		t.ended(1, 0, nil)
		require.Equal(t, 2, t.logs.Len())
	})
}

func TestSomeFailingBatchesAmongOthersAreOneFailure(t *testing.T) {
	logged(t, func(t logTest) {
		const batches = 1000
		for range batches { // one tenant's batches fail, the other's do not
			t.ended(10, batcher.FailedPermanent, errRefused)
			time.Sleep(quiet / 3)
			t.ended(10, 0, nil)
			time.Sleep(quiet / 3)
		}
		require.Equal(t, 1, t.logs.Len())
		time.Sleep(quiet)
		t.ended(10, 0, nil)
		require.Equal(t, 2, t.logs.Len())
		require.EqualValues(t, batches, t.logs.All()[1].ContextMap()["failed_batches"])
	})
}

func TestFailureLogConcurrentSafe(t *testing.T) {
	logged(t, func(t logTest) {
		var exports sync.WaitGroup
		for range 20 {
			exports.Go(func() {
				for range 50 {
					t.ended(1, batcher.FailedRetryable, errRefused)
					t.ended(1, 0, nil)
				}
			})
		}
		exports.Wait()
		require.Equal(t, 1, t.logs.FilterMessage(lineAtBegin).Len())
		time.Sleep(quiet)
		for range 20 {
			exports.Go(func() { t.ended(1, 0, nil) })
		}
		exports.Wait()
		ends := t.logs.FilterMessage(lineAtEnd)
		require.Equal(t, 1, ends.Len())
		require.EqualValues(t, 1000, ends.All()[0].ContextMap()["failed_batches"])
	})
}

// TestFlappingTenantsDoNotLogEveryBatch is the same through the processor: the batches
// of every other tenant fail.
func TestFlappingTenantsDoNotLogEveryBatch(t *testing.T) {
	eachSignal(t, func(t signalTest) {
		cfg := testConfig()
		cfg.MetadataKeys = []string{"tenant"}
		recovered := false
		r := started(t, cfg, func(b batchertest.Batch) error {
			if b.IDs[0]%2 == 1 && !recovered {
				return errRefused
			}
			return nil
		})
		tenants := []string{"good", "bad"}
		for i := range 200 { // identities tell the tenants apart: requests are of one item
			require.NoError(t, r.try(tenant(tenants[i%2]), 1))
			time.Sleep(700 * time.Millisecond)
		}
		time.Sleep(2 * time.Second) // the last ticks
		require.Len(t, r.sink.Delivered(), 100)
		lines := r.logs.FilterMessage(lineAtBegin)
		require.Equal(t, 1, lines.Len())
		require.Equal(t, map[string]any{"cause": "retryable", "items": int64(1), "error": errRefused.Error()},
			lines.All()[0].ContextMap())
		require.Equal(t, 2, r.logs.Len(), "besides that, only the line at start")

		recovered = true
		time.Sleep(quiet)
		require.NoError(t, r.try(tenant("bad"), 1))
		time.Sleep(2 * time.Second)
		require.Equal(t, 3, r.logs.Len())
		ends := r.logs.FilterMessage(lineAtEnd)
		require.Equal(t, 1, ends.Len())
		require.EqualValues(t, 100, ends.All()[0].ContextMap()["failed_items"])
	})
}

// logged runs a test of a failureLog in virtual time.
func logged(t *testing.T, test func(logTest)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zapcore.DebugLevel)
		test(logTest{t, &failureLog{logger: zap.New(core)}, logs})
	})
}

// logTest is a test of a failureLog.
type logTest struct {
	*testing.T
	*failureLog
	logs *observer.ObservedLogs
}
