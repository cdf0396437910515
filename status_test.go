package boundedbatchprocessor

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.uber.org/zap"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
	"github.com/boundedbatch/boundedbatchprocessor/batcher/batchertest"
)

func TestStatusFollowsTheExports(t *testing.T) {
	permanent := consumererror.NewPermanent(errRefused)
	for _, c := range []struct {
		name  string
		err   error
		retry bool
	}{
		{"retryable", errRefused, false},
		{"permanent", permanent, false},
		{"while retrying", errRefused, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachSignal(t, func(t signalTest) {
				cfg := testConfig()
				cfg.RetryOnFailure.Enabled = c.retry
				var failing atomic.Bool
				r := started(t, cfg, func(batchertest.Batch) error {
					if failing.Load() {
						return c.err
					}
					return nil
				})
				r.send(10)
				synctest.Wait()
				require.Empty(t, r.host.reported(), "the service itself reports that all is well at the start")

				failing.Store(true)
				for range 3 {
					r.send(10)
					time.Sleep(time.Second)
				}
				want := []string{"StatusRecoverableError: " + c.err.Error()}
				require.Equal(t, want, r.host.reported())

				failing.Store(false)
				r.send(10)
				time.Sleep(time.Minute) // and nothing more is sent
				require.Equal(t, append(want, "StatusOK"), r.host.reported())
				r.stop()
				require.Equal(t, append(want, "StatusOK"), r.host.reported())
			})
		})
	}
}

// TestNoStatusOnceTheShutdownHasBegun: the service has reported that the component
// stops, and does not take a component's OK after that.
func TestNoStatusOnceTheShutdownHasBegun(t *testing.T) {
	for _, c := range []struct {
		name   string
		before error // of the exports before the shutdown
		during error
		want   []string
	}{
		{"recovered", errRefused, nil, []string{"StatusRecoverableError: refused downstream"}},
		{"failed", nil, errRefused, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachSignal(t, func(t signalTest) {
				g := newGate()
				r := started(t, testConfig(), func(b batchertest.Batch) error {
					if b.Number == 0 {
						return c.before
					}
					<-g
					return c.during
				})
				r.send(10)
				synctest.Wait()
				time.Sleep(quiet)
				r.send(3)
				down := make(chan error, 1)
				go func() { down <- r.Shutdown(context.Background()) }()
				synctest.Wait()
				g.open()
				require.Equal(t, c.during != nil, <-down != nil)
				time.Sleep(2 * quiet)
				require.Equal(t, c.want, r.host.reported())
			})
		})
	}
}

// TestNoRecoveryIsReportedAfterShutdown: what would have ended a failure after a quiet
// time is given up with the component.
func TestNoRecoveryIsReportedAfterShutdown(t *testing.T) {
	eachSignal(t, func(t signalTest) {
		r := started(t, testConfig(), func(b batchertest.Batch) error {
			if b.Number == 0 {
				return errRefused
			}
			return nil
		})
		r.send(10)
		synctest.Wait()
		r.send(10)
		synctest.Wait()
		r.stop()
		lines := r.logs.Len()
		time.Sleep(2 * quiet)
		require.Equal(t, []string{"StatusRecoverableError: refused downstream"}, r.host.reported())
		require.Equal(t, lines, r.logs.Len(), "logged after the shutdown")
	})
}

func TestNoStatusBeforeTheStart(t *testing.T) {
	h := &health{logger: zap.NewNop()}
	test := healthTest{T: t, health: h, host: newHost()}
	test.fail(1, batcher.FailedRetryable, errRefused)
	h.start(test.host)
	h.report()
	test.requireStatus()
}

// TestLatestStatusIsReportedLast: a goroutine (1) is about to report a failure; in the
// meantime another one (2) decides that exports have recovered. Had it reported that
// by itself, then (1) could come after it, and the component would look ill for ever.
// It must not wait for (1) either: the host may be slow.
func TestLatestStatusIsReportedLast(t *testing.T) {
	healthy(t, func(t healthTest) {
		hold := newGate()
		t.host.before = func(*componentstatus.Event) { <-hold }
		var one sync.WaitGroup
		one.Go(func() { t.fail(1, batcher.FailedRetryable, errRefused) }) // (1)
		synctest.Wait()
		time.Sleep(quiet)
		t.succeed() // (2)
		t.requireStatus()
		hold.open()
		one.Wait()
		t.requireStatus("StatusRecoverableError: refused downstream", "StatusOK")
	})
}

// TestHostIsCalledUnderNoLock: it may ask for what needs the same lock.
func TestHostIsCalledUnderNoLock(t *testing.T) {
	healthy(t, func(t healthTest) {
		t.host.before = func(*componentstatus.Event) {
			t.succeed()
			t.fail(1, batcher.FailedRetryable, errRefused)
		}
		t.fail(1, batcher.FailedRetryable, errRefused)
		t.requireStatus("StatusRecoverableError: refused downstream")
	})
}

// host is a component.Host that remembers what is reported to it.
type host struct {
	before func(*componentstatus.Event) // called at the beginning of Report; may be nil

	mu     sync.Mutex // guards events
	events []string
}

var _ componentstatus.Reporter = (*host)(nil)

func newHost() *host { return &host{} }

// GetExtensions implements component.Host.
func (*host) GetExtensions() map[component.ID]component.Component { return nil }

// Report implements componentstatus.Reporter.
func (h *host) Report(e *componentstatus.Event) {
	if h.before != nil {
		h.before(e)
	}
	text := e.Status().String()
	if e.Err() != nil {
		text += ": " + e.Err().Error()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, text)
}

// reported is every status and its error, in order.
func (h *host) reported() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.events...)
}
