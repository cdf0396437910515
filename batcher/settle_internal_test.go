package batcher

import (
	"context"
	"errors"
	"testing"
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
