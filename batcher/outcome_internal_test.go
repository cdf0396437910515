package batcher

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
)

// The interleaving: an export ends and settle lets go of the lock; Shutdown sees that
// nothing is held any more and is over; the caller is woken by that, before finish has
// told it its outcome.
func TestOutcomeIsKnownBeforeItIsTold(t *testing.T) {
	why := errors.New("why")
	open := make(chan struct{})
	b, err := New(Logs(), Settings{QueueSize: 1, MaxConcurrentExports: 1}, func(context.Context, plog.Logs) error { return nil })
	require.NoError(t, err)
	require.NoError(t, b.Shutdown(t.Context()))
	for _, c := range []struct {
		name  string
		batch *batch[plog.Logs]
		want  error
	}{
		{"delivered", &batch[plog.Logs]{settled: true}, nil},
		{"failed", &batch[plog.Logs]{settled: true, err: why}, why},
		{"not settled", &batch[plog.Logs]{}, errOutcomeUnknown},
		{"divided, and its part delivered", &batch[plog.Logs]{answers: []answer{{done: open, settled: true}}}, nil},
		{"divided, and its part failed", &batch[plog.Logs]{answers: []answer{{done: open, settled: true, err: why}}}, why},
		{"divided, and its part not settled", &batch[plog.Logs]{answers: []answer{{done: open}}}, errOutcomeUnknown},
	} {
		bt := c.batch
		bt.done = open
		ended, err := b.await(t.Context(), place[plog.Logs]{batch: bt})
		require.False(t, ended, c.name)
		require.Equal(t, c.want, err, c.name)
	}
}

// Both are there: the caller must not be told that there is no outcome.
func TestOutcomeGoesBeforeTheEndOfTheContext(t *testing.T) {
	why := errors.New("why")
	b, err := New(Logs(), Settings{QueueSize: 1, MaxConcurrentExports: 1}, func(context.Context, plog.Logs) error { return nil })
	require.NoError(t, err)
	done := make(chan struct{})
	close(done)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 {
		ended, err := b.await(ctx, place[plog.Logs]{batch: &batch[plog.Logs]{done: done, settled: true, err: why}})
		require.False(t, ended)
		require.Equal(t, why, err)
	}
}
