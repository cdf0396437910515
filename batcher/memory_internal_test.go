package batcher

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pprofile"
)

// TestLiveHeapStaysUnderTheMemoryLimit pushes decoded requests until none is taken any more,
// while downstream hangs, and compares what is on the heap with the limit.
func TestLiveHeapStaysUnderTheMemoryLimit(t *testing.T) {
	t.Run("signal=traces", func(t *testing.T) { testLiveHeap(t, Traces(), measuredTraces) })
	t.Run("signal=logs", func(t *testing.T) { testLiveHeap(t, Logs(), measuredLogs) })
	t.Run("signal=metrics", func(t *testing.T) { testLiveHeap(t, Metrics(), measuredMetrics) })
}

func testLiveHeap[T any](t *testing.T, signal Signal[T], m measured[T]) {
	if raceEnabled {
		t.Skip("with the race detector small objects do not share blocks")
	}
	for _, batches := range []struct {
		name string
		set  func(*Settings)
	}{
		{"whole", func(*Settings) {}},
		{"max_size", func(s *Settings) { s.SendBatchSize, s.SendBatchMaxSize = 100, 100 }},
		{"small_batches", func(s *Settings) { s.SendBatchSize, s.SendBatchMaxSize = 8, 8 }},
		{"max_bytes", func(s *Settings) { s.SendBatchMaxBytes = 50_000 }},
		{"partitions", func(s *Settings) { s.ResourceKeys = []string{"nobody has it"} }},
	} {
		for _, s := range []shape{
			{items: 1},
			{items: 1, attributes: 20},
			{items: 10, attributes: 5},
			{items: 100, attributes: 10, children: 3, details: true},
			{items: 1000, attributes: 5, perResource: 50},
			{items: 3000, attributes: 3},
			{items: 3000, details: true},
		} {
			set := Settings{
				Timeout: time.Hour, SendBatchSize: 8192, QueueSize: math.MaxInt32, MemoryLimit: 8 << 20, MaxConcurrentExports: 4,
			}
			batches.set(&set)
			encoded, err := m.marshal(m.write(s))
			require.NoError(t, err)
			name := fmt.Sprintf("%s, requests of %d items with %d attributes", batches.name, s.items, s.attributes)
			// A partition has seven eighths at most. Copies have tighter slices than are estimated, and small
			// batches consist of copies to a large part.
			full := set.ResourceKeys == nil && set.SendBatchSize > 8
			fillUp(t, name, signal, [][]byte{encoded}, m.unmarshal, set, full)
		}
	}
}

// Requests of profiles share what is in their dictionaries once they are in a batch, or nothing.
func TestLiveHeapOfProfilesStaysUnderTheMemoryLimit(t *testing.T) {
	if raceEnabled {
		t.Skip("with the race detector small objects do not share blocks")
	}
	unmarshal := func(encoded []byte) (*ProfilesData, error) {
		pd, err := new(pprofile.ProtoUnmarshaler).UnmarshalProfiles(encoded)
		return NewProfilesData(pd), err
	}
	for _, batches := range []struct {
		name string
		set  func(*Settings)
	}{
		{"whole", func(*Settings) {}},
		{"large_bytes", func(s *Settings) { s.SendBatchMaxBytes = 1 << 20 }},
		{"max_size", func(s *Settings) { s.SendBatchSize, s.SendBatchMaxSize = 100, 100 }},
		{"small_batches", func(s *Settings) { s.SendBatchSize, s.SendBatchMaxSize = 8, 8 }},
		{"max_bytes", func(s *Settings) { s.SendBatchMaxBytes = 50_000 }},
		{"partitions", func(s *Settings) { s.ResourceKeys = []string{"nobody has it"} }},
	} {
		for _, s := range append(profilesShapes()[:6], // the last one has no items
			profilesShape{profiles: 1, samples: 10, functions: 20, depth: 10, attributes: 5, perSample: 1},
			profilesShape{profiles: 1000, samples: 1, functions: 100, depth: 50},
			profilesShape{profiles: 50, samples: 2, functions: 100, depth: 3},
			profilesShape{profiles: 20, samples: 5, attributes: 20, perSample: 1, long: 20_000},
		) {
			for _, different := range []int{1, 40} {
				set := Settings{
					Timeout: time.Hour, SendBatchSize: 8192, QueueSize: math.MaxInt32, MemoryLimit: 32 << 20, MaxConcurrentExports: 4,
				}
				batches.set(&set)
				var encoded [][]byte
				for n := range different {
					e, err := new(pprofile.ProtoMarshaler).MarshalProfiles(s.writeAnother(n).pd)
					require.NoError(t, err)
					encoded = append(encoded, e)
				}
				fillUp(t, fmt.Sprintf("%s, %d different requests of %+v", batches.name, different, s), Profiles(), encoded, unmarshal, set, false)
			}
		}
	}
}

// fillUp is a function of its own, so that nothing it has used is alive when the next one
// measures.
func fillUp[T any](
	t *testing.T, name string, signal Signal[T], encoded [][]byte, unmarshal func([]byte) (T, error), set Settings, full bool,
) {
	stop := make(chan struct{})
	b, err := New(signal, set, func(context.Context, T) error { <-stop; return nil })
	require.NoError(t, err)
	require.NoError(t, b.Start())

	before := liveHeap()
	largest := 0
	for refused, n := 0, 0; refused < 3; n++ {
		data, err := unmarshal(encoded[n%len(encoded)])
		require.NoError(t, err)
		largest = signal.Heap(data)
		if err := b.Consume(t.Context(), data); err != nil {
			require.ErrorIs(t, err, ErrOverflow)
			refused++
		}
	}
	held, limit := int(liveHeap()-before), set.MemoryLimit
	stats := b.Stats()
	runtime.KeepAlive(encoded)
	require.LessOrEqual(t, stats.HeldBytes, int64(limit))
	assert.LessOrEqual(t, held, limit*11/10, name)
	if full {
		require.Greater(t, held, limit-limit/10-largest, name)
	}
	t.Logf("%-60s %.3f of the limit is estimated, %.3f held", name, float64(stats.HeldBytes)/float64(limit), float64(held)/float64(limit))
	close(stop)
	require.NoError(t, b.Shutdown(t.Context()))
	require.Zero(t, b.Stats().HeldBytes)
}
