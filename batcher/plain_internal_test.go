package batcher

import (
	"cmp"
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
)

// sizedLogs are log records of a given size.
type sizedLogs struct {
	Signal[plog.Logs]
	size Size
}

func (l sizedLogs) Bytes(plog.Logs) int { return l.size.Bytes }
func (l sizedLogs) Heap(plog.Logs) int  { return l.size.Heap }

// The shorter way into a batch must not be open where the longer one is not. Each case is a batcher whose open batch has 2
// of at most 10 items, of 12 that may be held; 20 of less than 100 bytes, and 200 of the heap of 1000 that may be.
func TestPlainRequestsJoinOnlyWhereOthersWould(t *testing.T) {
	for _, c := range []struct {
		name  string
		size  Size
		but   func(b *Batcher[plog.Logs])
		joins bool
	}{
		{name: "there is room", size: Size{Items: 7}, joins: true},
		{name: "into the last batch of the line", size: Size{Items: 7}, joins: true, but: func(b *Batcher[plog.Logs]) {
			b.only.line.push(b.only.open)
			b.only.open = nil
		}},
		{name: "it would be full", size: Size{Items: 8}},
		{name: "no items", size: Size{}},
		{name: "no batch", size: Size{Items: 1}, but: func(b *Batcher[plog.Logs]) { b.only.open = nil }},
		{name: "shutting down", size: Size{Items: 1}, but: func(b *Batcher[plog.Logs]) { b.state = stateDraining }},
		{name: "more than may be held", size: Size{Items: 7}, but: func(b *Batcher[plog.Logs]) { b.budget.used = 6 }},
		{name: "somebody waits for room", size: Size{Items: 1}, but: func(b *Batcher[plog.Logs]) {
			b.budget.wait(&b.only.account, Size{Items: 12}, Size{Items: 1}, nil)
		}},
		{name: "it has bytes to spare", size: Size{Items: 1, Bytes: 79, Heap: 1}, joins: true},
		{name: "it would have all its bytes", size: Size{Items: 1, Bytes: 80, Heap: 1}},
		{name: "it is all the heap that is free", size: Size{Items: 1, Bytes: 1, Heap: 800}, joins: true},
		{name: "there is less heap free", size: Size{Items: 1, Bytes: 1, Heap: 801}},
	} {
		t.Run(c.name, func(t *testing.T) {
			made := func() *Batcher[plog.Logs] {
				set := Settings{SendBatchSize: 10, QueueSize: 12, MaxConcurrentExports: 1, BlockOnOverflow: true}
				if c.size.Bytes > 0 {
					set.SendBatchMaxBytes, set.MemoryLimit = 100, 1000
				}
				b, err := New(Signal[plog.Logs](sizedLogs{Logs(), c.size}), set, func(context.Context, plog.Logs) error { return nil })
				require.NoError(t, err)
				b.itemBytes.Store(0)
				b.state, b.accepted = stateRunning, 2
				b.only.open = &batch[plog.Logs]{partition: b.only, data: plog.NewLogs(), items: 2}
				if c.size.Bytes > 0 {
					b.only.open.bytes, b.only.open.heap = 20, 200
				}
				b.budget.add(&b.only.account, b.only.open.size())
				if c.but != nil {
					c.but(b)
				}
				return b
			}
			request := func() plog.Logs {
				ld := plog.NewLogs()
				records := ld.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords()
				for range c.size.Items {
					records.AppendEmpty()
				}
				return ld
			}
			plain, other, data := made(), made(), request()
			open := func(b *Batcher[plog.Logs]) (s Size) {
				if bt := cmp.Or(b.only.open, b.only.line.back); bt != nil {
					s = bt.size()
				}
				return s
			}
			require.True(t, plain.plain)
			_, _, taken := plain.consumePlain(t.Context(), data)
			require.Equal(t, c.joins, taken)
			require.Equal(t, c.joins, other.join(new(caller[plog.Logs]), nil, request(), c.size))
			require.Equal(t, c.joins, data.ResourceLogs().Len() == 0, "what joins is moved")
			require.Equal(t, open(other), open(plain))
			require.Equal(t, other.budget.used, plain.budget.used)
			require.Equal(t, other.budget.heapUsed, plain.budget.heapUsed)
			require.Equal(t, other.only.account.heap, plain.only.account.heap)
			require.Equal(t, other.accepted, plain.accepted)
			require.Equal(t, other.stats, plain.stats)
		})
	}
}
