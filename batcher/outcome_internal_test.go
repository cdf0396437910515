package batcher

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
)

// Shutdown is over. Callers whose exports have not returned are told that, once; who has an outcome already, or has
// left, is not told again: the bell may be somebody else's by then.
func TestOnlyWhoHasNoOutcomeIsForgotten(t *testing.T) {
	why := errors.New("why")
	b, err := New(Logs(), Settings{QueueSize: 1, MaxConcurrentExports: 1, WaitForResult: true}, func(context.Context, plog.Logs) error { return nil })
	require.NoError(t, err)
	batchOf := func(n int) (bt *batch[plog.Logs], at []place[plog.Logs]) {
		bt = &batch[plog.Logs]{partition: b.only}
		for range n {
			var w waits[plog.Logs]
			b.share(&w, bt, share[plog.Logs]{Size: Size{Items: 1}})
			at = append(at, w.first)
		}
		return bt, at
	}
	whole, ofWhole := batchOf(3)
	whole.shares[1] = share[plog.Logs]{} // was withdrawn

	divided, ofDivided := batchOf(4)
	divided.answers = []answer{{settled: true}, {settled: true, err: why}, {}, {}}
	it := &isolation[plog.Logs]{whole: divided}
	for i := range 4 {
		it.units = append(it.units, unit{from: i, to: i + 1, items: 1, share: i})
	}
	told, _ := batchOf(1) // settled: it is not flying any more

	b.mu.Lock()
	b.takeOff(whole)
	b.takeOff(it.cut(2, 3, nil)) // the fourth is to be tried later
	b.takeOff(it.cut(3, 4, nil))
	b.takeOff(told)
	b.land(told)
	forgotten := b.forgetFlying()
	b.mu.Unlock()
	require.Equal(t, []bell{ofWhole[0].told, ofWhole[2].told, ofDivided[2].told, ofDivided[3].told}, forgotten)
	require.NoError(t, told.err)
	require.NoError(t, divided.answers[0].err)
	require.Equal(t, why, divided.answers[1].err)
	for _, bell := range forgotten {
		bell <- struct{}{}
	}
	for _, at := range []place[plog.Logs]{ofWhole[0], ofWhole[2], ofDivided[2], ofDivided[3]} {
		ended, err := b.await(t.Context(), at)
		require.False(t, ended)
		require.Equal(t, errOutcomeUnknown, err)
	}
}

// Both are there: the caller must not be told that there is no outcome.
func TestOutcomeGoesBeforeTheEndOfTheContext(t *testing.T) {
	why := errors.New("why")
	b, err := New(Logs(), Settings{QueueSize: 1, MaxConcurrentExports: 1}, func(context.Context, plog.Logs) error { return nil })
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 {
		told := b.bell()
		told <- struct{}{}
		ended, err := b.await(ctx, place[plog.Logs]{batch: &batch[plog.Logs]{err: why}, told: told})
		require.False(t, ended)
		require.Equal(t, why, err)
	}
}

// A caller that leaves has let its bell to the batch, which will ring it. Nobody else may be given it.
func TestBellOfWhoLeavesIsNotUsedAgain(t *testing.T) {
	b, err := New(Logs(), Settings{QueueSize: 1, MaxConcurrentExports: 1}, func(context.Context, plog.Logs) error { return nil })
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	left := b.bell()
	ended, err := b.await(ctx, place[plog.Logs]{batch: &batch[plog.Logs]{}, told: left})
	require.True(t, ended)
	require.NoError(t, err)
	for range 100 {
		require.NotEqual(t, left, b.bell())
	}
}
