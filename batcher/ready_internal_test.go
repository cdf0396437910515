package batcher

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
)

// opened makes a partition with an open batch of that many items.
func opened(items int, inFlight int32) *partition[plog.Logs] {
	p := newPartition[plog.Logs](context.Background(), "")
	p.open = &batch[plog.Logs]{partition: p, items: items}
	p.inFlight = inFlight
	return p
}

func TestFullestIsTheFullestThatMayLeave(t *testing.T) {
	var f fullest[plog.Logs]
	require.Nil(t, f.next(10))
	best, second, busy := opened(900, 0), opened(800, 1), opened(1000, 2)
	for _, p := range []*partition[plog.Logs]{opened(600, 0), busy, best, opened(700, 0), second, opened(3, 0)} {
		f.put(p, true)
	}
	require.Same(t, busy, f.next(3))
	require.Same(t, best, f.next(2), "one has too many exports under way")
	f.put(best, false)
	require.Same(t, second, f.next(2))
	require.Equal(t, 700, f.next(1).open.items)
	second.open.items = 2
	f.update(second)
	require.Equal(t, 700, f.next(2).open.items)
	best.open.items = 5000
	f.update(best) // is not in
	require.Equal(t, 700, f.next(2).open.items)
}

func TestFullestDoesNotCompareThousands(t *testing.T) {
	var f fullest[plog.Logs]
	for range 10_000 {
		f.put(opened(512, 0), true)
	}
	f.put(opened(1023, 0), true)
	require.Equal(t, 512, f.next(1).open.items, "at least half of the fullest")
	f.put(opened(1024, 0), true)
	require.Equal(t, 1024, f.next(1).open.items)
}

// The interleaving: a caller waits for room in p, so that p's open batch is to leave before
// its tick; then room comes from elsewhere and the caller is admitted. A slot that becomes
// free must go to the next partition that is ready.
func TestPartitionThatIsReadyForNobodyIsPassed(t *testing.T) {
	set := Settings{
		Timeout: time.Hour, QueueSize: 100, SendBatchSize: 50, MaxConcurrentExports: 1, BlockOnOverflow: true, MetadataKeys: []string{"tenant"},
	}
	b, err := New(Logs(), set, func(context.Context, plog.Logs) error { return nil })
	require.NoError(t, err)
	b.state = stateRunning
	p, other := opened(10, 0), opened(10, 0)
	w := b.budget.wait(&p.account, items(95), items(1), nil)
	b.queue(p)
	require.Equal(t, 1, b.ready.n)
	other.line.push(other.open)
	other.open = nil
	b.queue(other)
	b.budget.remove(&p.account, w)
	b.budget.place(&p.account)

	todo := b.dispatch()
	require.NotNil(t, todo.run)
	require.Same(t, other, todo.run.partition)
	require.Zero(t, b.ready.n)
	require.NotNil(t, p.open)
}
