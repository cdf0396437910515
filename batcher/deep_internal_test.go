package batcher

import (
	"context"
	"fmt"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/client"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
)

// A receiver decodes values that are nested half a many deep in 4 MiB. Text made of all of that would take more
// stack than a goroutine can have, which ends the process.
func TestKeysOfDeepValuesDifferAndTakeNoStack(t *testing.T) {
	type build func(pcommon.Value) pcommon.Value
	const many = 100_000
	defer debug.SetMaxStack(debug.SetMaxStack(32 << 20)) // usually it is 1 GB, for ten times as many
	slice := func(v pcommon.Value) pcommon.Value { return v.SetEmptySlice().AppendEmpty() }
	kvlist := func(v pcommon.Value) pcommon.Value { return v.SetEmptyMap().PutEmpty("k") }
	deep := func(level build, levels int, innermost string) pcommon.Map {
		m := pcommon.NewMap()
		v := m.PutEmpty("tenant")
		for range levels {
			v = level(v)
		}
		v.SetStr(innermost)
		return m
	}
	seen := make(map[string]string)
	for name, level := range map[string]build{"slices": slice, "maps": kvlist} {
		for _, levels := range []int{1, mostNested - 1, mostNested, mostNested + 1, 2 * mostNested, many} {
			for _, innermost := range []string{"a", "b"} {
				this := fmt.Sprint(innermost, " in ", levels, " ", name)
				m := deep(level, levels, innermost)
				key := string(appendResourceKey(nil, []string{"tenant"}, m))
				require.Equal(t, key, string(appendResourceKey(nil, []string{"tenant"}, m)), this)
				require.Empty(t, seen[key], this)
				seen[key] = this

				ctx, _ := partitionContext(t.Context(), key, nil, []string{"tenant"})
				text := client.FromContext(ctx).Metadata.Get("tenant")[0]
				v, _ := m.Get("tenant")
				if levels <= mostNested {
					require.Equal(t, v.AsString(), text, this)
				} else {
					open, end := "[", "]"
					if name == "maps" {
						open, end = `{"k":`, "}"
					}
					require.Equal(t, strings.Repeat(open, mostNested)+"null"+strings.Repeat(end, mostNested), text, this)
				}
			}
		}
	}
}

// What becomes of a value costs no more than a receiver spends on it, however deep it is.
func TestDeepValuesAreMeasuredMergedAndCut(t *testing.T) {
	const levels = 1000
	data := plog.NewLogs()
	for range 10 {
		rl := data.ResourceLogs().AppendEmpty()
		of := []pcommon.Value{rl.Resource().Attributes().PutEmpty("deep"), rl.Resource().Attributes().PutEmpty("deeper")}
		records := rl.ScopeLogs().AppendEmpty().LogRecords()
		for range 10 {
			of = append(of, records.AppendEmpty().Attributes().PutEmpty("deep"))
		}
		for i, v := range of {
			for n := range levels {
				if (n+i)%2 == 0 {
					v = v.SetEmptySlice().AppendEmpty()
				} else {
					v = v.SetEmptyMap().PutEmpty("k")
				}
			}
			v.SetInt(1)
		}
	}
	encoded, err := new(plog.ProtoMarshaler).MarshalLogs(data)
	require.NoError(t, err)
	var arrived atomic.Int64
	b, err := New(Logs(), Settings{
		Timeout: time.Millisecond, SendBatchSize: 7, SendBatchMaxSize: 7, SendBatchMaxBytes: len(encoded) / 2, QueueSize: 1000,
		MaxConcurrentExports: 2, MemoryLimit: 1 << 30, MergeResources: true, ResourceKeys: []string{"deep"},
	}, func(_ context.Context, ld plog.Logs) error { arrived.Add(int64(ld.LogRecordCount())); return nil })
	require.NoError(t, err)
	require.NoError(t, b.Start())
	require.NoError(t, b.Consume(t.Context(), data))
	require.NoError(t, b.Shutdown(t.Context()))
	require.EqualValues(t, 100, arrived.Load())
}
