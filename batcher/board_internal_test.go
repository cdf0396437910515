package batcher

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/client"
	"go.opentelemetry.io/collector/pdata/plog"
)

// aboard is a batcher with one slot, which a batch of one record that a caller waits for has got, and is
// to be boarded. Nobody carries that out but the test.
func aboard(t *testing.T, keys ...string) (b *Batcher[plog.Logs], c *caller[plog.Logs], sizes *[]int) {
	t.Helper()
	sizes = new([]int)
	b, err := New(Logs(), Settings{
		SendBatchSize: 10, QueueSize: 10, MaxConcurrentExports: 1, WaitForResult: true, FlushWhenIdle: true,
		MetadataKeys: keys,
	}, func(_ context.Context, ld plog.Logs) error {
		*sizes = append(*sizes, ld.LogRecordCount())
		return nil
	})
	require.NoError(t, err)
	require.NoError(t, b.Start())
	data := plog.NewLogs()
	data.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
	c = &caller[plog.Logs]{items: 1}
	b.mu.Lock()
	p := b.partitionOf(appendKey(nil, keys, client.Metadata{}))
	require.True(t, b.budget.take(&p.account, Size{Items: 1}))
	b.place(c, p, data, Size{Items: 1})
	todo := b.dispatch()
	b.mu.Unlock()
	require.Nil(t, todo.run)
	require.Same(t, p, todo.board)
	require.NoError(t, b.Check())
	require.EqualValues(t, 1, b.Stats().ExportsInFlight)
	require.EqualValues(t, 1, b.Stats().Pending)
	return b, c, sizes
}

func TestBoardingGivesItsSlotBackIfNobodyIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, c, sizes := aboard(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, b.leave(ctx, &c.waits), context.Canceled)
		require.NoError(t, b.Check())
		done := make(chan error)
		go func() { done <- b.Shutdown(t.Context()) }()
		synctest.Wait()
		require.EqualValues(t, 1, b.Stats().ExportsInFlight, "its goroutine is still to end")
		require.Nil(t, b.board(b.only))
		require.NoError(t, b.Check())
		require.Zero(t, b.Stats().ExportsInFlight)
		require.NoError(t, <-done)
		require.Empty(t, *sizes)
	})
}

// A partition of which nothing is left but its slot must not be forgotten: another one of the same name would not know of
// the slot.
func TestBoardedPartitionIsRememberedUntilItsSlotIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, c, _ := aboard(t, "tenant")
		p := c.waits.first.batch.partition
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, b.leave(ctx, &c.waits), context.Canceled)
		require.NoError(t, b.Check())
		b.mu.Lock()
		require.Same(t, p, b.partitionOf([]byte(p.key)))
		b.mu.Unlock()
		require.Nil(t, b.board(p))
		require.NoError(t, b.Check())
		require.Empty(t, b.partitions)
		require.NoError(t, b.Shutdown(t.Context()))
	})
}

// What is sealed while its partition is boarded leaves with the slot that boarding has, at once although
// more was expected.
func TestBoardingLeavesWithWhatWasSealedMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, c, sizes := aboard(t)
		b.mu.Lock()
		require.True(t, b.mayBoard(b.only))
		b.seal(b.only, TriggerTimeout, b.only.open.first)
		require.Nil(t, b.dispatch().run, "the only slot is taken")
		b.open(b.only)
		require.False(t, b.mayBoard(b.only), "what is open now must not keep what is sealed")
		b.only.open = nil
		b.rest(b.only)
		b.mu.Unlock()
		require.NoError(t, b.Check())
		bt := b.board(b.only)
		require.Same(t, c.waits.first.batch, bt)
		require.NoError(t, b.Check())
		b.export(bt)
		require.NoError(t, b.outcome(t.Context(), c))
		require.NoError(t, b.Shutdown(t.Context()))
		require.Equal(t, []int{1}, *sizes)
		require.Zero(t, b.Stats().Batches[TriggerIdle])
	})
}

// A shutdown that begins meanwhile seals what is open, and takes no slot from it.
func TestBoardingLeavesWhenShutdownBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, c, sizes := aboard(t)
		done := make(chan error)
		go func() { done <- b.Shutdown(t.Context()) }()
		synctest.Wait()
		require.NoError(t, b.Check())
		b.export(b.board(b.only))
		require.NoError(t, b.outcome(t.Context(), c))
		require.NoError(t, <-done)
		require.Equal(t, []int{1}, *sizes)
		require.EqualValues(t, 1, b.Stats().Batches[TriggerShutdown])
	})
}
