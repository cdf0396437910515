package batcher

import (
	"context"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/client"
	"go.opentelemetry.io/collector/pdata/plog"
)

func TestMapOfManyPartitionsIsNotKept(t *testing.T) {
	set := Settings{QueueSize: 1, MaxConcurrentExports: 1, MetadataKeys: []string{"tenant"}}
	b, err := New(Logs(), set, func(context.Context, plog.Logs) error { return nil })
	require.NoError(t, err)
	for _, c := range []struct{ partitions, most int }{{mapKept, mapKept}, {1, mapKept}, {mapKept + 1, 0}, {2, 2}} {
		var all []*partition[plog.Logs]
		for i := range c.partitions {
			tenant := string(binary.AppendUvarint(nil, uint64(i)))
			md := client.NewMetadata(map[string][]string{"tenant": {tenant}})
			all = append(all, b.partitionOf(appendKey(nil, set.MetadataKeys, md)))
		}
		for _, p := range all {
			require.NotZero(t, b.most)
			b.rest(p)
		}
		require.Empty(t, b.partitions)
		require.Equal(t, c.most, b.most)
	}
}
