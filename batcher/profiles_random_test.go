package batcher_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pprofile"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
)

// wild makes profiles that no sender would: anything may refer to anything, equal entries
// are in a table twice, and the first one need not be empty.
type wild struct {
	*rand.Rand
	d      pprofile.ProfilesDictionary
	filled bool // first entries are like others
}

func newWild(seed uint64) *batcher.ProfilesData {
	w := &wild{Rand: rand.New(rand.NewPCG(seed, 3))}
	w.filled = seed%4 == 3
	pd := pprofile.NewProfiles()
	w.d = pd.Dictionary()
	sizes := [...]int{0, 1, 2, 20, 200}
	if seed%16 == 0 {
		sizes[4] = 20_000
	}
	size := func() int { return sizes[w.IntN(len(sizes))] }
	for i := range size() {
		if i > 0 || w.filled {
			w.d.StringTable().Append(w.word())
		} else {
			w.d.StringTable().Append("")
		}
	}
	w.fill(size(), func() { w.d.FunctionTable().AppendEmpty() }, func(int) {
		f := w.d.FunctionTable().At(w.d.FunctionTable().Len() - 1)
		f.SetNameStrindex(w.index(w.d.StringTable().Len()))
		f.SetFilenameStrindex(w.index(w.d.StringTable().Len()))
		f.SetStartLine(w.Int64N(3) - 1)
	})
	w.fill(size(), func() { w.d.AttributeTable().AppendEmpty() }, func(int) {
		a := w.d.AttributeTable().At(w.d.AttributeTable().Len() - 1)
		a.SetKeyStrindex(w.index(w.d.StringTable().Len()))
		a.SetUnitStrindex(w.index(w.d.StringTable().Len()))
		w.value(a.Value(), 0)
	})
	w.fill(size(), func() { w.d.MappingTable().AppendEmpty() }, func(int) {
		m := w.d.MappingTable().At(w.d.MappingTable().Len() - 1)
		m.SetFilenameStrindex(w.index(w.d.StringTable().Len()))
		m.SetMemoryStart(w.Uint64N(1000))
		w.list(m.AttributeIndices(), w.d.AttributeTable().Len())
	})
	w.fill(size(), func() { w.d.LocationTable().AppendEmpty() }, func(int) {
		l := w.d.LocationTable().At(w.d.LocationTable().Len() - 1)
		l.SetMappingIndex(w.index(w.d.MappingTable().Len()))
		l.SetAddress(w.Uint64N(1000))
		w.list(l.AttributeIndices(), w.d.AttributeTable().Len())
		for range w.IntN(3) {
			line := l.Lines().AppendEmpty()
			line.SetFunctionIndex(w.index(w.d.FunctionTable().Len()))
			line.SetColumn(w.Int64N(300) - 100)
		}
	})
	w.fill(size(), func() { w.d.StackTable().AppendEmpty() }, func(int) {
		w.list(w.d.StackTable().At(w.d.StackTable().Len()-1).LocationIndices(), w.d.LocationTable().Len())
	})
	w.fill(size(), func() { w.d.LinkTable().AppendEmpty() }, func(i int) {
		w.d.LinkTable().At(w.d.LinkTable().Len() - 1).SetTraceID(pcommon.TraceID{byte(i % 7)})
	})
	for range w.IntN(6) {
		r := pd.ResourceProfiles().AppendEmpty()
		w.header(r.Resource().Attributes(), 0)
		for range w.IntN(4) {
			s := r.ScopeProfiles().AppendEmpty()
			w.header(s.Scope().Attributes(), 0)
			for range w.IntN(6) {
				w.profile(s.Profiles().AppendEmpty())
			}
		}
	}
	return batcher.NewProfilesData(pd)
}

func (w *wild) fill(n int, add func(), set func(int)) {
	for i := range n {
		add()
		if i > 0 || w.filled {
			set(i)
		}
	}
}

func (w *wild) word() string { return fmt.Sprint("w", w.IntN(400)*w.IntN(2)) }

func (w *wild) index(entries int) int32 {
	if entries == 0 {
		return 0
	}
	return int32(w.IntN(entries))
}

func (w *wild) list(l pcommon.Int32Slice, entries int) {
	if entries > 0 {
		for range w.IntN(4) {
			l.Append(w.index(entries))
		}
	}
}

func (w *wild) value(v pcommon.Value, depth int) {
	switch w.IntN(8) {
	case 0:
		v.SetInt(w.Int64() >> w.IntN(64))
	case 1:
		v.SetBool(true)
	case 2:
		v.SetDouble(1)
	case 3:
		v.SetEmptyBytes().FromRaw(make([]byte, w.IntN(3)))
	case 4:
		if s := v.SetEmptySlice(); depth < 3 {
			for range w.IntN(3) {
				w.value(s.AppendEmpty(), depth+1)
			}
		}
	case 5:
		if m := v.SetEmptyMap(); depth < 3 {
			w.header(m, depth+1)
		}
	case 6:
		v.SetStr(w.word())
	case 7:
		v.SetStr("")
	}
}

func (w *wild) header(m pcommon.Map, depth int) {
	for range w.IntN(4) {
		w.value(m.PutEmpty(w.word()), depth)
	}
}

func (w *wild) profile(p pprofile.Profile) {
	p.SampleType().SetTypeStrindex(w.index(w.d.StringTable().Len()))
	p.PeriodType().SetUnitStrindex(w.index(w.d.StringTable().Len()))
	p.SetPeriod(w.Int64N(3) - 1)
	w.list(p.AttributeIndices(), w.d.AttributeTable().Len())
	for range w.IntN(200) * w.IntN(2) {
		s := p.Samples().AppendEmpty()
		s.SetStackIndex(w.index(w.d.StackTable().Len()))
		s.SetLinkIndex(w.index(w.d.LinkTable().Len()))
		w.list(s.AttributeIndices(), w.d.AttributeTable().Len())
		s.Values().Append(w.Int64() >> w.IntN(64))
	}
}

// checkWild compares everything that is said about sizes with encodings.
func checkWild(t *testing.T, seed uint64, most int) {
	t.Helper()
	p := newWild(seed)
	require.NoError(t, p.Check())
	want := meaningsOf(t, p)
	require.Equal(t, encodedProfiles(t, p), profileKind.Bytes(p))

	other := newWild(seed + 1)
	all := append(meaningsOf(t, other), want...)
	checkMergeBound(t, newWild(seed), other)
	require.Equal(t, all, meaningsOf(t, other))

	var sizes *batcher.Sizes
	if seed%8 < 4 {
		sizes, _ = batcher.Measured(profileKind.Signal, p, true, true)
	}
	cut := profileKind.Cut(p, sizes)
	random := rand.New(rand.NewPCG(seed, 4))
	merged := profileKind.New(0)
	for cut.Left() != (batcher.Size{}) {
		left := cut.Left()
		if random.IntN(10) == 0 {
			rest := cut.Rest()
			require.Equal(t, left.Items, profileKind.Items(rest))
			require.LessOrEqual(t, encodedProfiles(t, rest), left.Bytes)
			require.LessOrEqual(t, profileKind.Bytes(rest), left.Bytes)
			if sizes != nil {
				require.LessOrEqual(t, profileKind.Heap(rest), left.Heap)
			}
			checkMergeBound(t, rest, merged)
			break
		}
		size, room := cut.First(), batcher.Size{Items: 1 + random.IntN(500), Bytes: most, Heap: math.MaxInt}
		var piece *batcher.ProfilesData
		if size.Items <= room.Items && size.Bytes <= room.Bytes {
			piece, size = cut.Next(room)
			require.LessOrEqual(t, size.Bytes, most)
		} else {
			piece = cut.Alone()
		}
		require.Equal(t, size.Items, profileKind.Items(piece))
		require.LessOrEqual(t, encodedProfiles(t, piece), size.Bytes)
		require.NoError(t, piece.Check())
		checkMergeBound(t, piece, merged)
	}
	require.Equal(t, profileKind.Items(newWild(seed)), profileKind.Items(merged))
	require.NoError(t, merged.Check())
	require.Equal(t, profilesOf(t, newWild(seed)), profilesOf(t, merged))
}

// profilesOf tells what each profile means, with what it lies in.
func profilesOf(t *testing.T, p *batcher.ProfilesData) (m []string) {
	t.Helper()
	cut := profileKind.Cut(p, nil)
	for cut.Left() != (batcher.Size{}) {
		m = append(m, meaningOf(t, cut.Alone()))
	}
	return m
}

// checkMergeBound moves src to dst.
func checkMergeBound(t *testing.T, src, dst *batcher.ProfilesData) {
	t.Helper()
	most := profileKind.Bytes(dst) + profileKind.Bytes(src)
	most += batcher.Growth(src, most)
	if profileKind.Resources(dst) > 0 {
		grown, again := batcher.Added(src, dst)
		require.Equal(t, grown, again)
		most = min(most, profileKind.Bytes(dst)+grown) // an entry that is empty without being the first one counts
	}
	profileKind.Move(src, dst)
	require.LessOrEqual(t, encodedProfiles(t, dst), profileKind.Bytes(dst))
	require.LessOrEqual(t, profileKind.Bytes(dst), most)
}

func TestWildProfiles(t *testing.T) {
	for seed := range uint64(300) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) { checkWild(t, seed, 50+int(seed*seed)) })
	}
}

func FuzzWildProfiles(f *testing.F) {
	f.Add(uint64(16), uint16(1000))
	f.Fuzz(func(t *testing.T, seed uint64, most uint16) { checkWild(t, seed, int(most)) })
}
