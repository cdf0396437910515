package batcher_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
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

// checkCut cuts a request of that many items into pieces of random sizes up to most items,
// and bytes if that is not 0, and compares what comes out with what went in.
func checkCut[T any](t *testing.T, kind batchertest.Kind[T], hollow hollow[T], first, items, most, bytes int, seed uint64) {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 1))
	count := func(data T) int {
		text, err := kind.JSON(data)
		require.NoError(t, err)
		return strings.Count(string(text), `"hollow"`)
	}
	encoded := func(data T) int {
		encoding, err := kind.Marshal(data)
		require.NoError(t, err)
		return len(encoding)
	}
	request := kind.Make(first, items)
	if seed%2 == 0 {
		hollow(request)
	}
	wantHollow, resources := count(request), kind.Resources(request)
	var sizes *batcher.Sizes
	var total batcher.Size
	if bytes > 0 {
		before := encoded(request)
		sizes, total = batcher.Measured(kind.Signal, request, true, true)
		require.Equal(t, batcher.Size{Items: items, Bytes: before, Heap: kind.Heap(request)}, total)
		require.Equal(t, before, kind.Bytes(request))
		require.Equal(t, before, encoded(request), "measuring changes nothing")
	}
	cut := kind.Cut(request, sizes)
	if bytes == 0 {
		require.Nil(t, cut.RestSizes())
	}
	whole, alone := cut.Left(), false
	var got []int
	gotHollow, gotResources, pieces, heap := 0, 0, 0, 0
	joined, joinedBytes := kind.New(0), 0
	// arrived checks a piece that is said to have that size.
	arrived := func(piece T, size batcher.Size) {
		require.Equal(t, size.Items, kind.Items(piece))
		if bytes > 0 {
			require.Equal(t, encoded(piece), size.Bytes)
		}
		ids, err := kind.IDs(piece)
		require.NoError(t, err)
		got = append(got, ids...)
		gotHollow += count(piece)
		gotResources += kind.Resources(piece)
		heap += size.Heap
		pieces++
		joinedBytes += encoded(piece)
		kind.Move(piece, joined)
	}
	again := rand.New(rand.NewPCG(seed, 3))
	for last := false; !last; {
		if bytes > 0 && again.IntN(4) == 0 { // what is left becomes a request, whose sizes are known
			left, kept := cut.Left(), cut.RestSizes()
			require.NotNil(t, kept)
			request := cut.Rest()
			require.Nil(t, cut.RestSizes())
			_, measured := batcher.Measured(kind.Signal, request, true, true)
			require.Equal(t, measured.Bytes, left.Bytes)
			cut = kind.Cut(request, kept)
			require.Equal(t, left, cut.Left())
		}
		room := batcher.Size{Items: 1 + random.IntN(most), Bytes: math.MaxInt, Heap: math.MaxInt}
		if bytes > 0 {
			room.Bytes = random.IntN(bytes)
			if random.IntN(4) == 0 {
				room.Heap = random.IntN(20 * bytes)
			}
		}
		left := cut.Left()
		last = left.Items <= room.Items && left.Bytes <= room.Bytes
		if last {
			arrived(cut.Rest(), left)
			break
		}
		next := cut.First()
		piece, size := cut.Next(room)
		require.True(t, size.Items <= room.Items && (bytes == 0 || size.Bytes <= room.Bytes) && size.Heap <= room.Heap, "%+v in %+v", size, room)
		fits := next.Bytes <= room.Bytes && next.Heap <= room.Heap
		require.Equal(t, fits, kind.Resources(piece) > 0, "%+v in %+v", next, room)
		if !fits {
			alone = true
			arrived(cut.Alone(), next)
			if last = cut.Left() == (batcher.Size{}); last {
				require.Zero(t, kind.Resources(cut.Rest()))
			}
			continue
		}
		arrived(piece, size)
	}
	require.Len(t, got, items)
	for i, id := range got {
		require.Equal(t, first+i, id)
	}
	ids, err := kind.IDs(joined)
	require.NoError(t, err)
	require.Equal(t, got, ids)
	require.Equal(t, joinedBytes, encoded(joined), "what is put together is as long as its parts")
	require.Equal(t, wantHollow, gotHollow)
	require.LessOrEqual(t, gotResources, resources+pieces-1, "a resource is copied only where it is cut")
	if !alone { // what is taken out alone has frames of its own
		require.Equal(t, whole.Heap, heap)
	}
	if bytes == 0 {
		require.Zero(t, heap)
	}
}

func TestCutConservesEverything(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 2))
		first, items, most, bytes := random.IntN(50), 1+random.IntN(120), 1+random.IntN(40), 0
		if random.IntN(3) > 0 {
			bytes = 10 + random.IntN(5000)
		}
		name := fmt.Sprintf("first=%d/items=%d/most=%d/bytes=%d/seed=%d", first, items, most, bytes, seed)
		t.Run(name, func(t *testing.T) {
			checkCut(t, batchertest.Traces(), hollowTraces, first, items, most, bytes, seed)
			checkCut(t, batchertest.Logs(), hollowLogs, first, items, most, bytes, seed)
			checkCut(t, batchertest.Metrics(), hollowMetrics, first, items, most, bytes, seed)
		})
	}
}

func FuzzCut(f *testing.F) {
	f.Add(uint8(0), uint8(1), uint8(1), uint16(0), uint64(0))
	f.Add(uint8(6), uint8(30), uint8(4), uint16(0), uint64(2))
	f.Add(uint8(13), uint8(255), uint8(255), uint16(3000), uint64(7))
	f.Fuzz(func(t *testing.T, first, items, most uint8, bytes uint16, seed uint64) {
		if items == 0 || most == 0 {
			return
		}
		checkCut(t, batchertest.Traces(), hollowTraces, int(first), int(items), int(most), int(bytes), seed)
		checkCut(t, batchertest.Logs(), hollowLogs, int(first), int(items), int(most), int(bytes), seed)
		checkCut(t, batchertest.Metrics(), hollowMetrics, int(first), int(items), int(most), int(bytes), seed)
	})
}

func TestMoveAppendsAndEmpties(t *testing.T) { each(t, testMove, testMove, testMove, testMove) }

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
	encoded, err := kind.Wire(all)
	require.NoError(t, err)
	require.Len(t, encoded, kind.Bytes(all))
}
