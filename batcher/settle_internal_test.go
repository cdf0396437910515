package batcher

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/consumer/consumererror"
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
		b.accepted, b.stats.InFlight = 7, 7
		bt := &batch[plog.Logs]{partition: b.only, items: 7, again: &again[plog.Logs]{}}
		b.takeOff(bt)

		todo := b.settle(bt, verdict[plog.Logs]{Outcome: Outcome{Fate: fate, Err: errors.New("why")}, failed: 7, retryAt: time.Now()})
		require.Zero(t, todo)
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
			b.accepted, b.stats.InFlight = 7, 7
			bt := &batch[plog.Logs]{partition: b.only, items: 7, ready: true, data: plog.NewLogs(), again: &again[plog.Logs]{began: began}}
			bt.again.due.owner = bt
			b.takeOff(bt)
			b.mu.Unlock()

			todo := b.settle(bt, verdict[plog.Logs]{
				Outcome: Outcome{Fate: FateRetried, Err: errors.New("why")}, failed: 7, retryAt: began.Add(time.Hour),
			})
			require.Zero(t, todo)
			require.Zero(t, <-sent)
			<-b.drained
			close(b.stop)
			<-b.scheduled
		}
	})
}

// The interleaving: two parts of one batch are on their way at once, because no order is
// promised and one of them was sent again. One export is left for the search. Both are
// refused, and judged before either is settled.
func TestLastExportOfASearchIsGivenOnce(t *testing.T) {
	refusal := consumererror.NewPermanent(errors.New("why"))
	for _, c := range []struct {
		name      string
		err       error
		wide      bool // of two requests each, to be halved; else alone, with a part behind it
		wantFirst Fate
		failed    [2]int
	}{
		{"both are to be halved", refusal, true, FateDivided, [2]int{0, 14}},
		{"both have a part behind them", refusal, false, FateFailed, [2]int{7, 14}},
		{"both are delivered", nil, false, FateDelivered, [2]int{0, 7}},
	} {
		b, err := New(Logs(), Settings{QueueSize: 100, MaxConcurrentExports: 3, WaitForResult: true}, func(context.Context, plog.Logs) error { return nil })
		require.NoError(t, err)
		b.state = stateRunning
		exports := maxIsolation - 1
		whole := &batch[plog.Logs]{partition: b.only}
		it := &isolation[plog.Logs]{whole: whole, err: refusal, exports: &exports, left: 4, probing: probesOver}
		for i := range 4 {
			it.units = append(it.units, unit{from: i, to: i + 1, items: 7, share: i})
			whole.shares = append(whole.shares, share[plog.Logs]{Size: items(7), told: make(bell, 1)})
			whole.answers = append(whole.answers, answer{})
		}
		parts := []*batch[plog.Logs]{it.cut(0, 2, nil), it.cut(2, 4, nil)}
		if !c.wide {
			parts = []*batch[plog.Logs]{it.cut(0, 1, it.cut(1, 2, nil)), it.cut(2, 3, it.cut(3, 4, nil))}
		}
		var verdicts []verdict[plog.Logs]
		for i, part := range parts {
			v := b.judge(t.Context(), part, time.Now(), c.err)
			require.Equal(t, c.failed[i], v.Failed, "%s: part %d", c.name, i)
			verdicts = append(verdicts, v)
		}
		require.Equal(t, c.wantFirst, verdicts[0].Fate, c.name)
		b.budget.used, b.exports, b.only.inFlight = 28, 2, 2
		b.accepted = 28
		for _, part := range parts {
			b.stats.InFlight += int64(part.items)
			b.takeOff(part)
		}
		b.stats.Sealed = 28 - b.stats.InFlight
		for i, part := range parts {
			b.settle(part, verdicts[i])
		}
		s := b.Stats()
		require.EqualValues(t, 1, s.IsolationExports, c.name)
		require.EqualValues(t, c.failed[0]+c.failed[1], s.Failed[FailedPermanent], "%s: what is given up is what was told", c.name)
		require.Zero(t, s.Pending, c.name)
		require.Equal(t, maxIsolation, exports, c.name)
	}
}
