package batcher

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
)

// The shorter way into a batch must not be open where the longer one is not. Each case is a batcher whose open batch has 2
// of at most 10 items, of 12 that may be held.
func TestPlainRequestsJoinOnlyWhereOthersWould(t *testing.T) {
	for _, c := range []struct {
		name  string
		items int
		but   func(b *Batcher[plog.Logs])
		joins bool
	}{
		{name: "there is room", items: 7, joins: true},
		{name: "into the last batch of the line", items: 7, joins: true, but: func(b *Batcher[plog.Logs]) {
			b.only.line.push(b.only.open)
			b.only.open = nil
		}},
		{name: "it would be full", items: 8},
		{name: "no items", items: 0},
		{name: "no batch", items: 1, but: func(b *Batcher[plog.Logs]) { b.only.open = nil }},
		{name: "shutting down", items: 1, but: func(b *Batcher[plog.Logs]) { b.state = stateDraining }},
		{name: "more than may be held", items: 7, but: func(b *Batcher[plog.Logs]) { b.budget.used = 6 }},
		{name: "somebody waits for room", items: 1, but: func(b *Batcher[plog.Logs]) {
			b.budget.wait(&b.only.account, Size{Items: 12}, Size{Items: 1}, nil)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			made := func() *Batcher[plog.Logs] {
				b, err := New(Logs(), Settings{SendBatchSize: 10, QueueSize: 12, MaxConcurrentExports: 1, BlockOnOverflow: true},
					func(context.Context, plog.Logs) error { return nil })
				require.NoError(t, err)
				b.state, b.budget.used, b.accepted = stateRunning, 2, 2
				b.only.open = &batch[plog.Logs]{partition: b.only, data: plog.NewLogs(), items: 2}
				if c.but != nil {
					c.but(b)
				}
				return b
			}
			request := func() plog.Logs {
				ld := plog.NewLogs()
				records := ld.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords()
				for range c.items {
					records.AppendEmpty()
				}
				return ld
			}
			plain, other, data := made(), made(), request()
			require.True(t, plain.plain)
			require.Equal(t, c.joins, plain.joinPlain(data, c.items))
			require.Equal(t, c.joins, other.join(new(caller[plog.Logs]), nil, request(), Size{Items: c.items}))
			require.Equal(t, c.joins, data.ResourceLogs().Len() == 0, "what joins is moved")
			require.Equal(t, other.budget.used, plain.budget.used)
			require.Equal(t, other.accepted, plain.accepted)
			require.Equal(t, other.stats, plain.stats)
		})
	}
}
