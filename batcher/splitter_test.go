package batcher_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/boundedbatch/boundedbatchprocessor/batcher/batchertest"
)

// hollow puts elements without items, marked so that they can be counted, behind the
// children of every element.
type hollow[T any] func(T)

func hollowTraces(td ptrace.Traces) {
	for _, rs := range td.ResourceSpans().All() {
		rs.ScopeSpans().AppendEmpty().Scope().SetName("hollow")
	}
	td.ResourceSpans().AppendEmpty().SetSchemaUrl("hollow")
}

func hollowLogs(ld plog.Logs) {
	for _, rl := range ld.ResourceLogs().All() {
		rl.ScopeLogs().AppendEmpty().Scope().SetName("hollow")
	}
	ld.ResourceLogs().AppendEmpty().SetSchemaUrl("hollow")
}

func hollowMetrics(md pmetric.Metrics) {
	for _, rm := range md.ResourceMetrics().All() {
		for _, sm := range rm.ScopeMetrics().All() {
			sm.Metrics().AppendEmpty().SetName("hollow")
			m := sm.Metrics().AppendEmpty()
			m.SetName("hollow")
			m.SetEmptyHistogram().SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
		}
		rm.ScopeMetrics().AppendEmpty().Scope().SetName("hollow")
	}
	md.ResourceMetrics().AppendEmpty().SetSchemaUrl("hollow")
}

// checkCut cuts a request of that many items into pieces of random sizes up to most,
// and compares what comes out with what went in.
func checkCut[T any](t *testing.T, kind batchertest.Kind[T], hollow hollow[T], first, items, most int, seed uint64) {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 1))
	count := func(data T) int {
		text, err := kind.JSON(data)
		require.NoError(t, err)
		return bytes.Count(text, []byte(`"hollow"`))
	}
	request := kind.Make(first, items)
	if seed%2 == 0 {
		hollow(request)
	}
	wantHollow, resources := count(request), kind.Resources(request)
	cut := kind.Cut(request)
	var got []int
	gotHollow, gotResources, pieces := 0, 0, 0
	for left, last := items, false; !last; pieces++ {
		n := min(1+random.IntN(most), left)
		last = n == left
		var piece T
		if last {
			piece = cut.Rest()
		} else {
			piece = cut.Next(n)
		}
		require.Equal(t, n, kind.Items(piece))
		left -= n
		ids, err := kind.IDs(piece)
		require.NoError(t, err)
		got = append(got, ids...)
		gotHollow += count(piece)
		gotResources += kind.Resources(piece)
	}
	require.Len(t, got, items)
	for i, id := range got {
		require.Equal(t, first+i, id)
	}
	require.Equal(t, wantHollow, gotHollow)
	require.LessOrEqual(t, gotResources, resources+pieces-1, "a resource is copied only where it is cut")
}

func TestCutConservesEverything(t *testing.T) {
	for seed := range uint64(100) {
		random := rand.New(rand.NewPCG(seed, 2))
		first, items, most := random.IntN(50), 1+random.IntN(120), 1+random.IntN(40)
		name := fmt.Sprintf("first=%d/items=%d/most=%d/seed=%d", first, items, most, seed)
		t.Run(name, func(t *testing.T) {
			checkCut(t, batchertest.Traces(), hollowTraces, first, items, most, seed)
			checkCut(t, batchertest.Logs(), hollowLogs, first, items, most, seed)
			checkCut(t, batchertest.Metrics(), hollowMetrics, first, items, most, seed)
		})
	}
}

func FuzzCut(f *testing.F) {
	f.Add(uint8(0), uint8(1), uint8(1), uint64(0))
	f.Add(uint8(6), uint8(30), uint8(4), uint64(2))
	f.Add(uint8(13), uint8(255), uint8(255), uint64(7))
	f.Fuzz(func(t *testing.T, first, items, most uint8, seed uint64) {
		if items == 0 || most == 0 {
			return
		}
		checkCut(t, batchertest.Traces(), hollowTraces, int(first), int(items), int(most), seed)
		checkCut(t, batchertest.Logs(), hollowLogs, int(first), int(items), int(most), seed)
		checkCut(t, batchertest.Metrics(), hollowMetrics, int(first), int(items), int(most), seed)
	})
}

func TestMoveAppendsAndEmpties(t *testing.T) { each(t, testMove, testMove, testMove) }

func testMove[T any](t *testing.T, kind batchertest.Kind[T]) {
	all := kind.New(4)
	require.Zero(t, kind.Resources(all))
	for i := range 5 {
		request := kind.Make(10*i, 10)
		kind.Move(request, all)
		require.Zero(t, kind.Items(request))
		require.Zero(t, kind.Resources(request))
	}
	ids, err := kind.IDs(all)
	require.NoError(t, err)
	require.Len(t, ids, 50)
	for i, id := range ids {
		require.Equal(t, i, id)
	}
	encoded, err := kind.Marshal(all)
	require.NoError(t, err)
	require.Len(t, encoded, kind.Bytes(all))
}
