package boundedbatchprocessor

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
	"github.com/boundedbatch/boundedbatchprocessor/batcher/batchertest"
)

const (
	lineLost          = "Exports fail; their items are lost and counted in failed_items"
	lineStillLost     = "Exports still fail; their items are lost and counted in failed_items"
	lineTold          = "Exports fail; callers that wait are told, and the items are counted in failed_items"
	lineStillTold     = "Exports still fail; callers that wait are told, and the items are counted in failed_items"
	lineRetried       = "Exports fail; their items are kept and sent again"
	lineAtEnd         = "Exports succeed again"
	lineIsolated      = "Parts of batches are refused; their items are lost and counted in failed_items"
	lineIsolatedAtEnd = "No more parts of batches are refused"
	lineTooLarge      = "Items are dropped because each of them, or its profile, exceeds send_batch_max_bytes, memory_limit or queue_size by itself; their callers are told, and they are counted in dropped_items"
)

func TestFailureIsOneLineWhenItBeginsAndOneWhenItEnds(t *testing.T) {
	healthy(t, func(t healthTest) {
		for range 100 {
			t.succeed()
		}
		t.requireLines()

		t.fail(8192, batcher.FailedPermanent, consumererror.NewPermanent(errRefused))
		t.requireLines(lineLost)
		line := t.logs.All()[0]
		require.Equal(t, zap.WarnLevel, line.Level)
		require.Equal(t, map[string]any{
			"cause": "permanent", "items": int64(8192), "error": "Permanent error: refused downstream",
		}, line.ContextMap())

		for range 60 {
			time.Sleep(time.Second)
			t.fail(100, batcher.FailedRetryable, errRefused)
		}
		t.requireLines(lineLost)

		time.Sleep(time.Hour)
		synctest.Wait()
		t.requireLines(lineLost) // a failure ends with a success, not by itself
		t.succeed()
		t.requireLines(lineLost, lineAtEnd)
		line = t.logs.All()[1]
		require.Equal(t, zap.InfoLevel, line.Level)
		require.Equal(t, map[string]any{
			"failed_for": time.Minute, "failed_batches": int64(61), "failed_items": int64(8192 + 6000), "retries": int64(0),
		}, line.ContextMap())

		for range 100 {
			t.succeed()
		}
		require.Equal(t, 2, t.logs.Len())
	})
}

func TestNextFailureIsCountedFromZero(t *testing.T) {
	healthy(t, func(t healthTest) {
		for n := 1; n <= 3; n++ {
			for range n {
				t.retry(5, time.Second)
				t.fail(7, batcher.FailedTimeout, errRefused)
			}
			time.Sleep(quiet)
			t.succeed()
			require.Equal(t, 3*n, t.logs.Len())
			require.Equal(t, "timeout", t.logs.All()[3*n-2].ContextMap()["cause"])
			require.Equal(t, map[string]any{
				"failed_for": time.Duration(0), "failed_batches": int64(n), "failed_items": int64(7 * n), "retries": int64(n),
			}, t.logs.All()[3*n-1].ContextMap())
		}
	})
}

// TestFailureEndsAfterAQuietTime: at the first success after it, and by itself if there
// was a success in it. Somebody who has nothing more to send is not ill for ever.
func TestFailureEndsAfterAQuietTime(t *testing.T) {
	for _, c := range []struct {
		name      string
		successes []time.Duration // after the failure at 0
		failures  []time.Duration // further ones
		end       time.Duration   // 0: none
	}{
		{"a success at once", []time.Duration{0}, nil, quiet},
		{"a success just before", []time.Duration{quiet - 1}, nil, quiet},
		{"a success in time", []time.Duration{quiet}, nil, quiet},
		{"a late success", []time.Duration{3 * quiet}, nil, 3 * quiet},
		{"many successes", []time.Duration{1, 2, quiet / 2, quiet - 1}, nil, quiet},
		{"no success", nil, nil, 0},
		{"no success after the last failure", []time.Duration{1}, []time.Duration{2}, 0},
		{"no success after the last failure, late", []time.Duration{1}, []time.Duration{quiet - 1}, 0},
		{"a success after each failure", []time.Duration{1, 7}, []time.Duration{6}, quiet + 6},
		{"a success after the timer found a failure", []time.Duration{1, quiet + 1}, []time.Duration{6}, quiet + 6},
		{"a success after the timer found nothing", []time.Duration{1, 2 * quiet}, []time.Duration{6}, 2 * quiet},
	} {
		t.Run(c.name, func(t *testing.T) {
			healthy(t, func(t healthTest) {
				t.fail(1, batcher.FailedRetryable, errRefused)
				for _, at := range c.failures {
					time.AfterFunc(at, func() { t.fail(1, batcher.FailedRetryable, errRefused) })
				}
				for _, at := range c.successes {
					time.AfterFunc(at, t.succeed)
				}
				if c.end == 0 {
					time.Sleep(time.Hour)
					t.requireLines(lineLost)
					return
				}
				time.Sleep(c.end - 1)
				synctest.Wait()
				t.requireLines(lineLost)
				time.Sleep(time.Nanosecond)
				synctest.Wait()
				t.requireLines(lineLost, lineAtEnd)
				time.Sleep(time.Hour)
				t.requireLines(lineLost, lineAtEnd)
			})
		})
	}
}

func TestSomeFailingBatchesAmongOthersAreOneFailure(t *testing.T) {
	healthy(t, func(t healthTest) {
		const batches = 1000
		for range batches { // one tenant's batches fail, the other's do not
			t.fail(10, batcher.FailedPermanent, errRefused)
			time.Sleep(quiet / 3)
			t.succeed()
			time.Sleep(quiet / 3)
		}
		t.requireLines(lineLost)
		t.requireStatus("StatusRecoverableError: refused downstream")
		time.Sleep(quiet)
		synctest.Wait()
		t.requireLines(lineLost, lineAtEnd)
		t.requireStatus("StatusRecoverableError: refused downstream", "StatusOK")
		require.EqualValues(t, batches, t.logs.All()[1].ContextMap()["failed_batches"])
	})
}

// TestLinesSayWhatBecomesOfTheItems: they are kept, lost, or reported to who sent them.
// What begins with retries and then costs items is worth a line more, once.
func TestLinesSayWhatBecomesOfTheItems(t *testing.T) {
	for _, c := range []struct {
		name  string
		waits bool
		do    func(healthTest)
		want  []string
	}{
		{"lost", false, func(t healthTest) { t.fail(3, batcher.FailedRetryable, errRefused) }, []string{lineLost}},
		{"told", true, func(t healthTest) { t.fail(3, batcher.FailedRetryable, errRefused) }, []string{lineTold}},
		{"kept", false, func(t healthTest) { t.retry(3, time.Second) }, []string{lineRetried}},
		{"kept for callers", true, func(t healthTest) { t.retry(3, time.Second) }, []string{lineRetried}},
		{"kept, then lost", false, func(t healthTest) {
			t.retry(3, time.Second)
			t.fail(3, batcher.FailedRetryable, errRefused)
			t.retry(3, time.Second)
			t.fail(3, batcher.FailedRetryable, errRefused)
		}, []string{lineRetried, lineStillLost}},
		{"kept, then told", true, func(t healthTest) {
			t.retry(3, time.Second)
			t.fail(3, batcher.FailedRetryable, errRefused)
			t.retry(3, time.Second)
			t.fail(3, batcher.FailedRetryable, errRefused)
		}, []string{lineRetried, lineStillTold}},
		{"lost, others kept", false, func(t healthTest) {
			t.fail(3, batcher.FailedPermanent, errRefused)
			t.retry(3, time.Second)
		}, []string{lineLost}},
		{"to be told by its parts", false, func(t healthTest) { t.end(batcher.FateDivided, 9, 0) }, nil},
		{"to be told by the shutdown", false, func(t healthTest) { t.end(batcher.FateDropped, 9, 0) }, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			healthy(t, func(t healthTest) {
				t.waits = c.waits
				c.do(t)
				t.requireLines(c.want...)
				time.Sleep(quiet)
				t.succeed()
				if len(c.want) > 0 {
					c.want = append(c.want, lineAtEnd)
				}
				t.requireLines(c.want...)
			})
		})
	}
}

func TestRetriesAreCountedApartFromLosses(t *testing.T) {
	healthy(t, func(t healthTest) {
		t.retry(40, 5*time.Second)
		require.Equal(t, map[string]any{
			"cause": "retryable", "items": int64(40), "retry_in": 5 * time.Second, "error": "refused downstream",
		}, t.logs.All()[0].ContextMap())
		time.Sleep(5 * time.Second)
		t.retry(40, 7*time.Second)
		time.Sleep(7 * time.Second)
		t.succeed()
		time.Sleep(quiet)
		synctest.Wait()
		t.requireLines(lineRetried, lineAtEnd)
		require.Equal(t, map[string]any{
			"failed_for": 5 * time.Second, "failed_batches": int64(0), "failed_items": int64(0), "retries": int64(2),
		}, t.logs.All()[1].ContextMap())
	})
}

// TestIsolatedFailureSaysNothingAboutDownstream: it is logged apart where items are
// lost, not at all where their caller was told, and never shows in the status.
func TestIsolatedFailureSaysNothingAboutDownstream(t *testing.T) {
	permanent := consumererror.NewPermanent(errRefused)
	for _, c := range []struct {
		name string
		o    batcher.Outcome
	}{
		{"found by sending the parts", batcher.Outcome{Fate: batcher.FateFailed, Err: permanent, Failed: 20, Isolated: true}},
		{"named by the error", batcher.Outcome{Fate: batcher.FateFailed, Err: permanent, Failed: 3}},
		{"together with others", batcher.Outcome{Fate: batcher.FateFailed, Err: permanent, Failed: 50, Isolated: true}},
	} {
		for _, waits := range []bool{false, true} {
			name := c.name + ", lost"
			if waits {
				name = c.name + ", told"
			}
			t.Run(name, func(t *testing.T) {
				healthy(t, func(t healthTest) {
					t.waits = waits
					for range 5 {
						t.end(batcher.FateDivided, 100, 0)
						t.succeed()
						t.ended(batcher.Export{Items: 20}, c.o)
						time.Sleep(time.Second)
						t.succeed()
					}
					time.Sleep(quiet)
					synctest.Wait()
					t.requireStatus()
					if waits {
						t.requireLines()
						return
					}
					t.requireLines(lineIsolated, lineIsolatedAtEnd)
					require.Equal(t, map[string]any{
						"cause": "permanent", "items": int64(c.o.Failed), "error": permanent.Error(),
					}, t.logs.All()[0].ContextMap())
					require.Equal(t, map[string]any{
						"refused_for": 4 * time.Second, "refused_parts": int64(5), "refused_items": int64(5 * c.o.Failed),
					}, t.logs.All()[1].ContextMap())
				})
			})
		}
	}
}

// TestIsolatedFailuresDoNotHideThatAllExportsFail, neither its beginning nor its end.
func TestIsolatedFailuresDoNotHideThatAllExportsFail(t *testing.T) {
	healthy(t, func(t healthTest) {
		poison := func() {
			t.ended(batcher.Export{Items: 1, Part: true},
				batcher.Outcome{Fate: batcher.FateFailed, Err: errRefused, Failed: 1, Isolated: true})
		}
		for i := range 30 { // one poisoned request a second, and the exports of 5 seconds fail
			poison()
			if i >= 5 && i < 10 {
				t.fail(100, batcher.FailedRetryable, errRefused)
			} else {
				t.succeed()
			}
			time.Sleep(time.Second)
		}
		t.requireLines(lineIsolated, lineLost, lineAtEnd)
		t.requireStatus("StatusRecoverableError: refused downstream", "StatusOK")
		require.EqualValues(t, 500, t.logs.All()[2].ContextMap()["failed_items"])
		time.Sleep(quiet)
		synctest.Wait()
		t.requireLines(lineIsolated, lineLost, lineAtEnd, lineIsolatedAtEnd)
		require.EqualValues(t, 30, t.logs.All()[3].ContextMap()["refused_items"])
	})
}

// TestRefusalIsIsolatedOnceOthersAreTaken: the first part that is refused may be the
// first of all.
func TestRefusalIsIsolatedOnceOthersAreTaken(t *testing.T) {
	alone := batcher.Outcome{Fate: batcher.FateFailed, Err: errRefused, Failed: 3, Isolated: true}
	for _, c := range []struct {
		name string
		do   func(healthTest)
		want []string
		lost int64 // items in the first line
	}{
		{"nothing follows", func(healthTest) {}, nil, 0},
		{"the rest is taken", func(t healthTest) { t.succeed() }, []string{lineIsolated}, 3},
		{"more are refused and the rest is taken", func(t healthTest) {
			t.ended(batcher.Export{Items: 3, Part: true}, alone)
			t.succeed()
		}, []string{lineIsolated}, 3},
		{"all are refused", func(t healthTest) { t.end(batcher.FateFailed, 97, 97) }, []string{lineLost}, 100},
		{"all are refused, later", func(t healthTest) {
			t.succeed()
			t.end(batcher.FateFailed, 97, 97)
		}, []string{lineIsolated, lineLost}, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			healthy(t, func(t healthTest) {
				t.end(batcher.FateDivided, 100, 0)
				t.ended(batcher.Export{Items: 3, Part: true}, alone)
				t.requireLines()
				c.do(t)
				t.requireLines(c.want...)
				if len(c.want) > 0 {
					require.Equal(t, c.lost, t.logs.All()[0].ContextMap()["items"])
				}
			})
		})
	}
}

// TestPartsGivenUpUntriedAreLost: the last export that a search is allowed can end as
// any other.
func TestPartsGivenUpUntriedAreLost(t *testing.T) {
	for _, c := range []struct {
		name string
		o    batcher.Outcome
		want []string
	}{
		{"delivered", batcher.Outcome{Failed: 70}, []string{lineIsolated}},
		{"retried", batcher.Outcome{
			Fate: batcher.FateRetried, Err: errRefused, Cause: batcher.FailedRetryable, Failed: 70,
		}, []string{lineRetried, lineIsolated}},
	} {
		t.Run(c.name, func(t *testing.T) {
			healthy(t, func(t healthTest) {
				t.ended(batcher.Export{Items: 5, Part: true}, c.o)
				t.succeed()
				t.requireLines(c.want...)
				require.Equal(t, map[string]any{"cause": "permanent", "items": int64(70)}, t.logs.All()[len(c.want)-1].ContextMap())
			})
		})
	}
}

// TestItemsTooLargeAreOneLineAtOnceAndThenOneAMinute: each line has all that was dropped
// since the one before, and no item is in two lines.
func TestItemsTooLargeAreOneLineAtOnceAndThenOneAMinute(t *testing.T) {
	healthy(t, func(t healthTest) {
		t.maxBytes = 4000
		t.tooLarge(2, 5000)
		t.requireTooLarge([]int64{2, 5000})
		require.Equal(t, zap.WarnLevel, t.logs.All()[0].Level)
		require.EqualValues(t, 4000, t.logs.All()[0].ContextMap()["send_batch_max_bytes"])

		for range 59 { // for 59 seconds
			time.Sleep(time.Second)
			t.tooLarge(1, 4001)
			t.tooLarge(1, 4500)
			t.tooLarge(1, 4100)
		}
		time.Sleep(time.Second - 1)
		synctest.Wait()
		t.requireTooLarge([]int64{2, 5000})
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		t.requireTooLarge([]int64{2, 5000}, []int64{3 * 59, 4500})

		time.Sleep(tooLargeInterval - 1) // nothing is dropped in this minute, until now
		t.tooLarge(7, 4007)
		t.requireTooLarge([]int64{2, 5000}, []int64{177, 4500})
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		t.requireTooLarge([]int64{2, 5000}, []int64{177, 4500}, []int64{7, 4007})

		time.Sleep(tooLargeInterval)
		t.tooLarge(1, 9000) // after a minute without any there is nothing to wait for
		t.requireTooLarge([]int64{2, 5000}, []int64{177, 4500}, []int64{7, 4007}, []int64{1, 9000})
		time.Sleep(time.Hour)
		synctest.Wait()
		t.requireTooLarge([]int64{2, 5000}, []int64{177, 4500}, []int64{7, 4007}, []int64{1, 9000})
		t.requireStatus()
	})
}

// TestItemsTooLargeAreToldBeforeTheEnd: those that waited for their line have it when the
// processor is closed, those that come later at once, and nothing comes after that.
func TestItemsTooLargeAreToldBeforeTheEnd(t *testing.T) {
	healthy(t, func(t healthTest) {
		t.close()
		t.requireLines()
	})
	healthy(t, func(t healthTest) {
		t.tooLarge(1, 100)
		t.close()
		t.requireTooLarge([]int64{1, 100})
	})
	healthy(t, func(t healthTest) {
		t.tooLarge(1, 100)
		time.Sleep(time.Second)
		t.tooLarge(2, 300)
		t.tooLarge(3, 200)
		t.close()
		t.requireTooLarge([]int64{1, 100}, []int64{5, 300})
		t.tooLarge(4, 150) // of a caller that was on its way
		t.requireTooLarge([]int64{1, 100}, []int64{5, 300}, []int64{4, 150})
		t.close()
		time.Sleep(time.Hour)
		synctest.Wait()
		t.requireTooLarge([]int64{1, 100}, []int64{5, 300}, []int64{4, 150})
	})
}

// TestItemsTooLargeAreAllToldConcurrentSafe: whatever comes at the instant at which a
// line is due, or while the processor is closed.
func TestItemsTooLargeAreAllToldConcurrentSafe(t *testing.T) {
	healthy(t, func(t healthTest) {
		const callers, each = 20, 50
		var callersDone sync.WaitGroup
		for c := range callers {
			callersDone.Go(func() {
				for i := range each {
					t.tooLarge(1, 1000+i)
					time.Sleep(time.Duration(1+c%3) * tooLargeInterval / 3)
				}
			})
		}
		time.Sleep(each/2*tooLargeInterval - 1)
		lines := t.logs.Len()
		time.Sleep(time.Nanosecond)
		t.close()
		assert.Equal(t, each/2, lines, "a line a minute")
		callersDone.Wait()
		items := int64(0)
		for _, line := range t.logs.All() {
			items += line.ContextMap()["items"].(int64)
		}
		require.EqualValues(t, callers*each, items)
	})
}

func TestHealthConcurrentSafe(t *testing.T) {
	healthy(t, func(t healthTest) {
		var exports sync.WaitGroup
		for range 20 {
			exports.Go(func() {
				for range 50 {
					t.fail(1, batcher.FailedRetryable, errRefused)
					t.succeed()
				}
			})
		}
		exports.Wait()
		t.requireLines(lineLost)
		time.Sleep(quiet)
		for range 20 {
			exports.Go(t.succeed)
		}
		exports.Wait()
		synctest.Wait()
		t.requireLines(lineLost, lineAtEnd)
		require.EqualValues(t, 1000, t.logs.All()[1].ContextMap()["failed_batches"])
		t.requireStatus("StatusRecoverableError: refused downstream", "StatusOK")
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
		lines := r.logs.FilterMessage(lineLost)
		require.Equal(t, 1, lines.Len())
		require.Equal(t, map[string]any{"cause": "retryable", "items": int64(1), "error": errRefused.Error()},
			lines.All()[0].ContextMap())
		require.Equal(t, 2, r.logs.Len(), "besides that, only the line at start")
		require.Len(t, r.host.reported(), 1)

		recovered = true
		time.Sleep(quiet)
		require.NoError(t, r.try(tenant("bad"), 1))
		time.Sleep(2 * time.Second)
		require.Equal(t, 3, r.logs.Len())
		ends := r.logs.FilterMessage(lineAtEnd)
		require.Equal(t, 1, ends.Len())
		require.EqualValues(t, 100, ends.All()[0].ContextMap()["failed_items"])
		require.Equal(t, []string{"StatusRecoverableError: refused downstream", "StatusOK"}, r.host.reported())
	})
}

// healthy runs a test of a health in virtual time.
func healthy(t *testing.T, test func(healthTest)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zapcore.DebugLevel)
		h := &health{logger: zap.New(core)}
		host := newHost()
		h.start(host)
		test(healthTest{t, h, logs, host})
	})
}

// healthTest is a test of a health.
type healthTest struct {
	*testing.T
	*health
	logs *observer.ObservedLogs
	host *host
}

func (t healthTest) succeed() { t.ended(batcher.Export{Items: 10}, batcher.Outcome{}) }

func (t healthTest) fail(items int, cause batcher.FailedCause, err error) {
	t.ended(batcher.Export{Items: items}, batcher.Outcome{Fate: batcher.FateFailed, Err: err, Cause: cause, Failed: items})
}

func (t healthTest) retry(items int, in time.Duration) {
	t.ended(batcher.Export{Items: items},
		batcher.Outcome{Fate: batcher.FateRetried, Err: errRefused, Cause: batcher.FailedRetryable, RetryIn: in})
}

// end is an export that ends with a permanent error and that fate.
func (t healthTest) end(fate batcher.Fate, items, failed int) {
	t.ended(batcher.Export{Items: items}, batcher.Outcome{
		Fate: fate, Err: consumererror.NewPermanent(errRefused), Cause: batcher.FailedPermanent, Failed: failed,
	})
}

// requireLines checks the messages of the log.
func (t healthTest) requireLines(want ...string) {
	t.Helper()
	var lines []string
	for _, line := range t.logs.All() {
		lines = append(lines, line.Message)
	}
	require.Equal(t, want, lines)
}

// requireTooLarge checks that the log is lines about items too large, each with a number of
// items and the bytes of the largest.
func (t healthTest) requireTooLarge(want ...[]int64) {
	t.Helper()
	var lines [][]int64
	for _, line := range t.logs.All() {
		require.Equal(t, lineTooLarge, line.Message)
		fields := line.ContextMap()
		lines = append(lines, []int64{fields["items"].(int64), fields["largest_bytes"].(int64)})
	}
	require.Equal(t, want, lines)
}

// requireStatus checks all the host was told.
func (t healthTest) requireStatus(want ...string) {
	t.Helper()
	require.Equal(t, want, t.host.reported())
}

// An error comes from downstream, which may put anything into it: a page of HTML, or a request. And one that names what
// failed has the data of a batch in it.
func TestErrorsAreToldUpToALimitAndWithoutData(t *testing.T) {
	healthy(t, func(t healthTest) {
		const most = 1024 // bytes of an error
		long := strings.Repeat("é", most)
		partial := consumererror.NewLogs(errors.New("x"+long), plog.NewLogs())
		t.fail(7, batcher.FailedPermanent, partial)
		text := fmt.Sprintf("x%s... (%d bytes)", long[:most-2], 1+len(long))
		last := t.logs.All()[t.logs.Len()-1]
		require.Equal(t, text, last.ContextMap()["error"])
		for _, field := range last.Context {
			if err, is := field.Interface.(error); is {
				require.NotErrorAs(t, err, new(consumererror.Logs), "%v has data", field.Key)
			}
		}
	})
}
