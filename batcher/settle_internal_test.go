package batcher

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
)

// The interleaving: an export fails and judge decides that the batch is to be sent again,
// or in parts; Shutdown's time is over and it drops what is sealed or retrying; settle must
// not bring the batch back to life.
func TestVerdictThatComesTooLateIsADrop(t *testing.T) {
	for _, fate := range []Fate{FateFailed, FateRetried, FateDivided} {
		b, err := New(Logs(), Settings{QueueSize: 7, MaxConcurrentExports: 1}, func(context.Context, plog.Logs) error { return nil })
		require.NoError(t, err)
		b.state = stateStopped
		b.budget.used, b.exports, b.only.inFlight = 7, 1, 1
		b.stats.Accepted, b.stats.InFlight = 7, 7
		bt := &batch[plog.Logs]{partition: b.only, items: 7, again: &again[plog.Logs]{}}

		run := b.settle(bt, verdict[plog.Logs]{Outcome: Outcome{Fate: fate, Err: errors.New("why")}, failed: 7, retryAt: time.Now()})
		require.Nil(t, run)
		s := b.Stats()
		require.EqualValues(t, 7, s.Dropped[DroppedShutdown])
		require.Zero(t, s.Held+s.Failed[FailedPermanent]+s.Sealed+s.Retrying+s.InFlight)
		require.Equal(t, errDropped, bt.err)
	}
}

// The interleaving: an export fails and judge decides that the batch is to be sent again in
// an hour; Shutdown begins and puts what waits for a retry back into the lines; only then
// does settle make this one wait. It must not wait any more than the others.
func TestRetryThatIsSettledAfterShutdownBeganDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, left := range []time.Duration{0, time.Minute} { // until the deadline; 0: there is none
			sent := make(chan time.Duration, 1)
			began := time.Now()
			set := Settings{QueueSize: 7, MaxConcurrentExports: 1}
			b, err := New(Logs(), set, func(context.Context, plog.Logs) error { sent <- time.Since(began); return nil })
			require.NoError(t, err)
			require.NoError(t, b.Start())
			b.mu.Lock()
			b.state = stateDraining
			if left > 0 {
				b.lastRetry = began.Add(left)
			}
			b.budget.used, b.exports, b.only.inFlight = 7, 1, 1
			b.stats.Accepted, b.stats.InFlight = 7, 7
			bt := &batch[plog.Logs]{partition: b.only, items: 7, ready: true, data: plog.NewLogs(), again: &again[plog.Logs]{began: began}}
			bt.again.due.owner = bt
			b.mu.Unlock()

			run := b.settle(bt, verdict[plog.Logs]{
				Outcome: Outcome{Fate: FateRetried, Err: errors.New("why")}, failed: 7, retryAt: began.Add(time.Hour),
			})
			require.Nil(t, run)
			require.Zero(t, <-sent)
			<-b.drained
			close(b.stop)
			<-b.scheduled
		}
	})
}
