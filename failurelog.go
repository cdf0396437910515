package boundedbatchprocessor

import (
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
)

// quiet is how long no export may fail before a success counts as the end of a
// failure: where only some batches fail, the log would otherwise get two lines a batch.
const quiet = 10 * time.Second

// failureLog writes one line when exports begin to fail and one when they succeed
// again, with counts, however many fail in between.
type failureLog struct {
	logger *zap.Logger

	mu sync.Mutex // guards failing
	failing
}

// failing is a period in which exports fail.
type failing struct {
	since   time.Time // the first failed export; zero: exports succeed
	last    time.Time // the latest one
	batches int       // failed in the period
	items   int       // in those batches
}

// ended notes the outcome of an export.
func (f *failureLog) ended(items int, cause batcher.FailedCause, err error) {
	f.mu.Lock()
	if err == nil && f.since.IsZero() { // the usual case reads no clock
		f.mu.Unlock()
		return
	}
	now := time.Now()
	begins, ends := false, false
	was := f.failing
	switch {
	case err != nil:
		begins = f.since.IsZero()
		if begins {
			f.failing = failing{since: now}
		}
		f.last = now
		f.batches++
		f.items += items
	case now.Sub(f.last) >= quiet:
		ends = true
		f.failing = failing{}
	}
	f.mu.Unlock()

	switch {
	case begins:
		f.logger.Warn("Exports fail; their items are lost and counted in failed_items",
			zap.Stringer("cause", cause), zap.Int("items", items), zap.Error(err))
	case ends:
		f.logger.Info("Exports succeed again", zap.Duration("failed_for", was.last.Sub(was.since)),
			zap.Int("failed_batches", was.batches), zap.Int("failed_items", was.items))
	}
}
