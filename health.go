package boundedbatchprocessor

import (
	"errors"
	"sync"
	"time"

	"go.opentelemetry.io/collector/component/componentstatus"
	"go.uber.org/zap"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
)

// quiet is how long no export may fail before a failure counts as over: where only some
// batches fail, the log would otherwise get two lines a batch, and whoever watches the
// component's status two events. A failure that is followed by a success ends after that
// time by itself. If it took another success, as many lines would be saved, but a
// component would look ill for as long as it has nothing to send.
const quiet = 10 * time.Second

// tooLargeInterval is how long after a line about items that are too large the next one
// may follow.
const tooLargeInterval = time.Minute

// health tells when exports begin to fail and when they succeed again, however many fail
// in between: by a line in the log each, and by the component's status.
//
// What the next consumer refuses for good of a batch whose rest it takes, the isolated
// failures, has a spell and lines of its own: it says nothing about downstream, and
// must not hide when all exports begin to fail. The status never shows it. Whether the
// rest is taken is known only later, so its line waits for the next success. If a
// failure comes first, it is part of that.
//
// Items that are too large for any batch are no failure of an export. Their lines are
// about what was dropped since the one before.
type health struct {
	logger   *zap.Logger
	waits    bool // wait_for_result: callers are told what became of their items
	maxBytes int  // send_batch_max_bytes

	mu       sync.Mutex // guards what follows
	failing  spell
	isolated spell
	tooBig   oversize
	timer    *time.Timer // runs recheck; nil: not armed
	closed   bool        // no timer is armed any more
	status   statusReport
}

// spell is a time in which exports fail, all or some.
type spell struct {
	since     time.Time // the first failure; zero: there is no spell
	last      time.Time // the latest one
	succeeded bool      // an export has succeeded after it

	batches int // given up; of the isolated spell, parts of batches
	items   int // given up with them
	retries int // failed exports whose items were kept, to be sent again

	told  bool            // the isolated spell has its line
	first batcher.Outcome // what that line is about
}

// oversize is what was dropped as too large and has no line yet.
type oversize struct {
	items   int
	largest int         // bytes of the largest of them
	told    time.Time   // of the latest line; zero: there was none
	timer   *time.Timer // runs recheckTooLarge; nil: not armed
}

// textOnly is an error as it is logged and shown: what it says, if that is not too long. An error that names what failed
// has the data of a batch in it, which nothing counts once that has its outcome.
func textOnly(err error) error {
	if err == nil {
		return nil
	}
	return errors.New(batcher.ErrorText(err))
}

// ended notes the outcome of an export.
func (h *health) ended(e batcher.Export, o batcher.Outcome) {
	if o.Failed > 0 && o.Fate != batcher.FateFailed {
		// Parts of the same batch that were given up untried, since this was the last export
		// of its isolation.
		h.noteIsolated(batcher.Outcome{Cause: batcher.FailedPermanent, Failed: o.Failed})
	}
	// An error that names the part that is refused says that the rest is taken.
	named := o.Cause == batcher.FailedPermanent && o.Failed < e.Items
	switch {
	case o.Fate == batcher.FateDivided: // the exports of its parts will tell
	case o.Fate == batcher.FateDropped: // the error of the shutdown tells
	case o.Fate == batcher.FateDelivered:
		h.noteSuccess()
	case o.Fate == batcher.FateRetried:
		h.noteRetry(e, o)
	case o.Isolated:
		h.noteIsolated(o)
	case named:
		h.noteIsolated(o)
		h.noteSuccess()
	default:
		h.noteFailure(o)
	}
}

func (h *health) noteSuccess() {
	h.mu.Lock()
	if h.failing.since.IsZero() && h.isolated.since.IsZero() { // the usual case reads no clock
		h.mu.Unlock()
		return
	}
	h.failing.succeeded, h.isolated.succeeded = true, true
	h.settle()
}

func (h *health) noteRetry(e batcher.Export, o batcher.Outcome) {
	o.Err = textOnly(o.Err)
	h.mu.Lock()
	begins := h.beginFailing(o.Err)
	h.failing.retries++
	h.mu.Unlock()
	if begins {
		h.logger.Warn("Exports fail; their items are kept and sent again",
			zap.Stringer("cause", o.Cause), zap.Int("items", e.Items), zap.Duration("retry_in", o.RetryIn), zap.Error(o.Err))
		h.report()
	}
}

// noteFailure may be the second line of a spell: what began with retries now costs
// items.
func (h *health) noteFailure(o batcher.Outcome) {
	o.Err = textOnly(o.Err)
	h.mu.Lock()
	begins := h.beginFailing(o.Err)
	first := h.failing.batches == 0
	if untold := &h.isolated; !untold.told { // none, or they were the first to fail
		o.Failed += untold.items
		*untold = spell{}
	}
	h.failing.batches++
	h.failing.items += o.Failed
	h.mu.Unlock()
	if !first {
		return
	}
	message := "Exports fail"
	if !begins {
		message = "Exports still fail"
	}
	if h.waits {
		message += "; callers that wait are told, and the items are counted in failed_items"
	} else {
		message += "; their items are lost and counted in failed_items"
	}
	h.logger.Warn(message, zap.Stringer("cause", o.Cause), zap.Int("items", o.Failed), zap.Error(o.Err))
	h.report()
}

// beginFailing notes a failure that is not isolated, and tells whether a spell begins
// with it. Requires h.mu held; h.report is to be called after its release.
func (h *health) beginFailing(err error) bool {
	begins := h.failing.fail(time.Now())
	if begins {
		// Recoverable whatever the error: the service has no way back from a permanent
		// one, and downstream may be mended while we run.
		h.status.set(componentstatus.NewRecoverableErrorEvent(err))
	}
	return begins
}

// noteIsolated notes what was given up without others, if its callers do not know.
func (h *health) noteIsolated(o batcher.Outcome) {
	if h.waits {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.isolated.fail(time.Now()) {
		h.isolated.first = o
		h.isolated.first.Err = textOnly(o.Err)
	}
	h.isolated.batches++
	h.isolated.items += o.Failed
}

// settle ends the spells that are over, and has itself called again for one that will
// be if nothing fails until then. Requires h.mu held, and releases it.
func (h *health) settle() {
	now := time.Now()
	begins, first := h.isolated.tell(), h.isolated.first
	failing, recovered := h.failing.end(now)
	isolated, cleared := h.isolated.end(now)
	if recovered {
		h.status.set(componentstatus.NewEvent(componentstatus.StatusOK))
	}
	if h.timer == nil && !h.closed {
		// One timer is enough: spells that begin while it is armed are over later.
		if due := earlier(h.failing.due(now), h.isolated.due(now)); due > 0 {
			h.timer = time.AfterFunc(due, h.recheck)
		}
	}
	h.mu.Unlock()

	if begins {
		h.logger.Warn("Parts of batches are refused; their items are lost and counted in failed_items",
			zap.Stringer("cause", first.Cause), zap.Int("items", first.Failed), zap.Error(first.Err))
	}
	if recovered {
		h.logger.Info("Exports succeed again", zap.Duration("failed_for", failing.last.Sub(failing.since)),
			zap.Int("failed_batches", failing.batches), zap.Int("failed_items", failing.items), zap.Int("retries", failing.retries))
		h.report()
	}
	if cleared {
		h.logger.Info("No more parts of batches are refused", zap.Duration("refused_for", isolated.last.Sub(isolated.since)),
			zap.Int("refused_parts", isolated.batches), zap.Int("refused_items", isolated.items))
	}
}

func (h *health) recheck() {
	h.mu.Lock()
	h.timer = nil
	h.settle()
}

// close ends the reports of status, and tells what would have waited for its line. Called
// when Shutdown begins.
func (h *health) close() {
	h.mu.Lock()
	h.closed = true
	h.status.host = nil
	for _, timer := range []*time.Timer{h.timer, h.tooBig.timer} {
		if timer != nil {
			timer.Stop()
		}
	}
	h.tellTooLarge()
}

// tooLarge notes items that were dropped because each of them, or its profile, exceeds a limit by itself.
// The largest of them has that many bytes.
func (h *health) tooLarge(items, largest int) {
	h.mu.Lock()
	h.tooBig.items += items
	h.tooBig.largest = max(h.tooBig.largest, largest)
	h.tellTooLarge()
}

func (h *health) recheckTooLarge() {
	h.mu.Lock()
	h.tooBig.timer = nil
	h.tellTooLarge()
}

// tellTooLarge writes the line about what has none yet, or sees to it that it is written
// when the interval is over. When the health is closed nothing may come later, so there
// is a line at once. Requires h.mu held, and releases it.
func (h *health) tellTooLarge() {
	untold, now := h.tooBig, time.Now()
	wait := tooLargeInterval - now.Sub(untold.told)
	switch {
	case untold.items == 0:
		h.mu.Unlock()
	case wait > 0 && !h.closed:
		if untold.timer == nil {
			h.tooBig.timer = time.AfterFunc(wait, h.recheckTooLarge)
		}
		h.mu.Unlock()
	default:
		h.tooBig = oversize{told: now, timer: untold.timer}
		h.mu.Unlock()
		h.logger.Warn("Items are dropped because each of them, or its profile, exceeds send_batch_max_bytes, memory_limit or queue_size by itself; their callers are told, and they are counted in dropped_items",
			zap.Int("items", untold.items), zap.Int("largest_bytes", untold.largest), zap.Int("send_batch_max_bytes", h.maxBytes))
	}
}

// fail notes a failure, and tells whether a spell begins with it.
func (s *spell) fail(now time.Time) (begins bool) {
	begins = s.since.IsZero()
	if begins {
		*s = spell{since: now}
	}
	s.last, s.succeeded = now, false
	return begins
}

// tell tells whether the isolated spell is known to be one and has no line yet.
func (s *spell) tell() (begins bool) {
	begins = !s.since.IsZero() && s.succeeded && !s.told
	s.told = s.told || begins
	return begins
}

// end ends the spell if it is over, and returns what it was.
func (s *spell) end(now time.Time) (was spell, over bool) {
	if s.due(now) > 0 || s.since.IsZero() || !s.succeeded {
		return spell{}, false
	}
	was, *s = *s, spell{}
	return was, true
}

// due is the time until the spell is over if nothing fails any more. 0: it is over
// already, or there is none, or nothing has succeeded yet.
func (s *spell) due(now time.Time) time.Duration {
	if s.since.IsZero() || !s.succeeded {
		return 0
	}
	return max(0, quiet-now.Sub(s.last))
}

// earlier is the shorter of two durations of which 0 is none.
func earlier(a, b time.Duration) time.Duration {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}
