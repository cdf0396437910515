package batcher_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/consumer/consumererror/xconsumererror"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pprofile"
	"go.opentelemetry.io/collector/pdata/xpdata/entity"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
	"github.com/boundedbatch/boundedbatchprocessor/batcher/batchertest"
)

var profileKind = batchertest.Profiles()

func hollowProfiles(p *batcher.ProfilesData) {
	pd := p.Profiles()
	for _, rp := range pd.ResourceProfiles().All() {
		for _, sp := range rp.ScopeProfiles().All() {
			sp.Profiles().AppendEmpty().SetOriginalPayloadFormat("hollow")
		}
		rp.ScopeProfiles().AppendEmpty().Scope().SetName("hollow")
	}
	r := pd.ResourceProfiles().AppendEmpty()
	r.SetSchemaUrl("hollow")
	ref := entity.ResourceEntityRefs(r.Resource()).AppendEmpty()
	ref.SetType("type")
	ref.SetSchemaUrl("schema")
	ref.IdKeys().Append("a", "b")
	ref.DescriptionKeys().Append("c")
}

func countHollow(t *testing.T, p *batcher.ProfilesData) int {
	t.Helper()
	text, err := profileKind.JSON(p)
	require.NoError(t, err)
	return strings.Count(string(text), `"hollow"`)
}

// encodedProfiles is the size of what is sent. No copy of it remembers any size.
func encodedProfiles(t *testing.T, p *batcher.ProfilesData) int {
	t.Helper()
	encoded, err := batchertest.EncodeProfiles(p)
	require.NoError(t, err)
	return len(encoded)
}

func meaningOf(t *testing.T, p *batcher.ProfilesData) string {
	t.Helper()
	m, err := profileKind.Marshal(p)
	require.NoError(t, err)
	return string(m)
}

func requireIDs(t *testing.T, p *batcher.ProfilesData) []int {
	t.Helper()
	ids, err := profileKind.IDs(p)
	require.NoError(t, err)
	return ids
}

// reached counts the entries of each table that profiles and headers lead to, by name, and fails on
// an index that leads nowhere.
type reached struct {
	t *testing.T
	d pprofile.ProfilesDictionary

	strings, functions, mappings, locations, stacks, attributes, links map[int32]bool
}

// reach walks all of p.
func reach(t *testing.T, p *batcher.ProfilesData) (r *reached, d pprofile.ProfilesDictionary) {
	t.Helper()
	pd := profileKind.Copy(p, 0, profileKind.Resources(p)).Profiles()
	r = &reached{t: t, d: pd.Dictionary()}
	for _, m := range []*map[int32]bool{&r.strings, &r.functions, &r.mappings, &r.locations, &r.stacks, &r.attributes, &r.links} {
		*m = map[int32]bool{0: true}
	}
	for _, rp := range pd.ResourceProfiles().All() {
		r.header(rp.Resource().Attributes())
		for _, sp := range rp.ScopeProfiles().All() {
			r.header(sp.Scope().Attributes())
			for _, profile := range sp.Profiles().All() {
				r.profile(profile)
			}
		}
	}
	return r, pd.Dictionary()
}

// see tells whether an entry has not been seen yet.
func (r *reached) see(seen map[int32]bool, i int32, entries int) bool {
	r.t.Helper()
	require.GreaterOrEqual(r.t, i, int32(0))
	require.Less(r.t, int(i), max(entries, 1))
	if seen[i] {
		return false
	}
	seen[i] = true
	return true
}

func (r *reached) header(m pcommon.Map) {
	for k, v := range m.All() {
		r.name(k)
		r.nameIn(v)
	}
}

func (r *reached) nameIn(v pcommon.Value) {
	switch v.Type() {
	case pcommon.ValueTypeStr:
		r.name(v.Str())
	case pcommon.ValueTypeMap:
		r.header(v.Map())
	case pcommon.ValueTypeSlice:
		for _, e := range v.Slice().All() {
			r.nameIn(e)
		}
	default:
	}
}

func (r *reached) name(s string) {
	if i := slices.Index(r.d.StringTable().AsRaw(), s); i >= 0 {
		r.strings[int32(i)] = true
	}
}

func (r *reached) text(i int32) { r.see(r.strings, i, r.d.StringTable().Len()) }

func (r *reached) list(l pcommon.Int32Slice) {
	for _, i := range l.All() {
		if r.see(r.attributes, i, r.d.AttributeTable().Len()) {
			a := r.d.AttributeTable().At(int(i))
			r.text(a.KeyStrindex())
			r.text(a.UnitStrindex())
		}
	}
}

func (r *reached) profile(p pprofile.Profile) {
	r.text(p.SampleType().TypeStrindex())
	r.text(p.SampleType().UnitStrindex())
	r.text(p.PeriodType().TypeStrindex())
	r.text(p.PeriodType().UnitStrindex())
	r.list(p.AttributeIndices())
	for _, s := range p.Samples().All() {
		r.list(s.AttributeIndices())
		r.see(r.links, s.LinkIndex(), r.d.LinkTable().Len())
		if !r.see(r.stacks, s.StackIndex(), r.d.StackTable().Len()) {
			continue
		}
		for _, i := range r.d.StackTable().At(int(s.StackIndex())).LocationIndices().All() {
			if r.see(r.locations, i, r.d.LocationTable().Len()) {
				r.location(r.d.LocationTable().At(int(i)))
			}
		}
	}
}

func (r *reached) location(l pprofile.Location) {
	r.list(l.AttributeIndices())
	if r.see(r.mappings, l.MappingIndex(), r.d.MappingTable().Len()) {
		m := r.d.MappingTable().At(int(l.MappingIndex()))
		r.text(m.FilenameStrindex())
		r.list(m.AttributeIndices())
	}
	for _, line := range l.Lines().All() {
		if r.see(r.functions, line.FunctionIndex(), r.d.FunctionTable().Len()) {
			f := r.d.FunctionTable().At(int(line.FunctionIndex()))
			r.text(f.NameStrindex())
			r.text(f.SystemNameStrindex())
			r.text(f.FilenameStrindex())
		}
	}
}

// requireMinimal fails if the dictionary has an entry that nothing leads to, but for the
// empty ones at its beginning.
func requireMinimal(t *testing.T, p *batcher.ProfilesData) {
	t.Helper()
	r, d := reach(t, p)
	for name, is := range map[string][2]int{
		"strings":    {len(r.strings), d.StringTable().Len()},
		"functions":  {len(r.functions), d.FunctionTable().Len()},
		"mappings":   {len(r.mappings), d.MappingTable().Len()},
		"locations":  {len(r.locations), d.LocationTable().Len()},
		"stacks":     {len(r.stacks), d.StackTable().Len()},
		"attributes": {len(r.attributes), d.AttributeTable().Len()},
		"links":      {len(r.links), d.LinkTable().Len()},
	} {
		require.Equal(t, is[0], max(is[1], 1), name)
	}
}

// checkCutProfiles cuts a request of that many samples into random pieces, merges these in random
// groups, and compares what comes out with what went in.
func checkCutProfiles(t *testing.T, first, items, most, bytes int, seed uint64) {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 1))
	request := profileKind.Make(first, items)
	if seed%2 == 0 {
		hollowProfiles(request)
	}
	if seed%3 == 0 {
		request = sent(t, request)
	}
	wantHollow, before := countHollow(t, request), encodedProfiles(t, request)
	sizes, total := batcher.Measured(profileKind.Signal, request, true, true)
	require.Equal(t, batcher.Size{Items: items, Bytes: before, Heap: profileKind.Heap(request)}, total)
	require.Equal(t, before, encodedProfiles(t, request), "measuring changes nothing")

	cut := profileKind.Cut(request, sizes)
	require.Equal(t, total, cut.Left())
	var pieces []*batcher.ProfilesData
	var got []int
	gotHollow := 0
	arrived := func(piece *batcher.ProfilesData, size batcher.Size) {
		require.Equal(t, size.Items, profileKind.Items(piece))
		require.Equal(t, size.Bytes, profileKind.Bytes(piece))
		require.Equal(t, size.Bytes, encodedProfiles(t, piece))
		require.NoError(t, piece.Check())
		requireMinimal(t, piece)
		got = append(got, requireIDs(t, piece)...)
		gotHollow += countHollow(t, piece)
		if !batcher.RaceEnabled { // which has blocks of other sizes
			// Slices that have grown are larger than those that are made for a piece.
			w := float64(profileKind.Heap(piece))
			require.InDelta(t, w, size.Heap, w/4+300)
		}
		pieces = append(pieces, piece)
	}
	untouched := true
	for last := false; !last; untouched = false {
		room := batcher.Size{Items: 1 + random.IntN(most), Bytes: math.MaxInt, Heap: math.MaxInt}
		if bytes > 0 {
			room.Bytes = random.IntN(bytes)
		}
		if random.IntN(4) == 0 {
			room.Heap = random.IntN(total.Heap)
		}
		left := cut.Left()
		last = left.Items <= room.Items && left.Bytes <= room.Bytes || random.IntN(20) == 0
		if last {
			rest := cut.Rest()
			encoded := encodedProfiles(t, rest)
			require.LessOrEqual(t, encoded, left.Bytes)
			require.NoError(t, rest.Check())
			if untouched {
				require.Equal(t, encoded, left.Bytes)
			} else {
				requireMinimal(t, rest)
			}
			require.Equal(t, encoded, profileKind.Bytes(rest))
			require.Equal(t, batcher.Size{}, cut.Left())
			got = append(got, requireIDs(t, rest)...)
			gotHollow += countHollow(t, rest)
			require.LessOrEqual(t, profileKind.Heap(rest), left.Heap)
			pieces = append(pieces, rest)
			break
		}
		next := cut.First()
		piece, size := cut.Next(room)
		fits := next.Items <= room.Items && next.Bytes <= room.Bytes && next.Heap <= room.Heap
		require.Equal(t, fits, profileKind.Resources(piece) > 0, "%+v in %+v", next, room)
		if !fits {
			arrived(cut.Alone(), next)
		} else {
			require.True(t, size.Items <= room.Items && size.Bytes <= room.Bytes && size.Heap <= room.Heap, "%+v in %+v", size, room)
			arrived(piece, size)
		}
		if last = cut.Left() == (batcher.Size{}); last {
			require.Zero(t, profileKind.Resources(cut.Rest()))
		}
	}
	require.Len(t, got, items)
	for i, id := range got {
		require.Equal(t, first+i, id)
	}
	require.Equal(t, wantHollow, gotHollow)

	var want []string
	for _, piece := range pieces {
		want = append(want, meaningsOf(t, piece)...)
	}
	for len(pieces) > 1 {
		at := random.IntN(len(pieces) - 1)
		checkMerge(t, pieces[at+1], pieces[at])
		pieces = slices.Delete(pieces, at+1, at+2)
	}
	require.Equal(t, want, meaningsOf(t, pieces[0]))
}

// checkMerge moves src to dst.
func checkMerge(t *testing.T, src, dst *batcher.ProfilesData) {
	t.Helper()
	before, entries := profileKind.Bytes(dst), profileKind.Resources(src)+profileKind.Resources(dst)
	most := before + profileKind.Bytes(src)
	most += batcher.Growth(src, most)
	grown := -1
	if profileKind.Resources(dst) > 0 {
		var again int
		grown, again = batcher.Added(src, dst)
		require.Equal(t, grown, again)
		before = profileKind.Bytes(dst) // a first entry that was not empty has got another place
	}
	profileKind.Move(src, dst)
	if grown >= 0 {
		require.Equal(t, before+grown, profileKind.Bytes(dst))
	}
	require.Zero(t, profileKind.Resources(src))
	require.Equal(t, entries, profileKind.Resources(dst))
	require.Equal(t, encodedProfiles(t, dst), profileKind.Bytes(dst))
	require.LessOrEqual(t, profileKind.Bytes(dst), most)
	require.NoError(t, dst.Check())
}

// meaningsOf tells what each entry of the outermost level means.
func meaningsOf(t *testing.T, p *batcher.ProfilesData) (m []string) {
	t.Helper()
	for i := range profileKind.Resources(p) {
		m = append(m, meaningOf(t, profileKind.Copy(p, i, i+1)))
	}
	return m
}

// sent is p as it arrives elsewhere.
func sent(t *testing.T, p *batcher.ProfilesData) *batcher.ProfilesData {
	t.Helper()
	encoded, err := batchertest.EncodeProfiles(p)
	require.NoError(t, err)
	pd, err := new(pprofile.ProtoUnmarshaler).UnmarshalProfiles(encoded)
	require.NoError(t, err)
	return batcher.NewProfilesData(pd)
}

func TestCutProfilesConserves(t *testing.T) {
	for seed := range uint64(100) {
		random := rand.New(rand.NewPCG(seed, 2))
		first, items, most, bytes := random.IntN(50), 1+random.IntN(80), 1+random.IntN(40), 0
		if random.IntN(3) > 0 {
			bytes = 10 + random.IntN(8000)
		}
		t.Run(fmt.Sprintf("first=%d/items=%d/most=%d/bytes=%d/seed=%d", first, items, most, bytes, seed), func(t *testing.T) {
			checkCutProfiles(t, first, items, most, bytes, seed)
		})
	}
}

func FuzzProfiles(f *testing.F) {
	f.Add(uint8(0), uint8(1), uint8(1), uint16(0), uint64(0))
	f.Add(uint8(6), uint8(30), uint8(4), uint16(0), uint64(2))
	f.Add(uint8(13), uint8(120), uint8(255), uint16(3000), uint64(7))
	f.Add(uint8(20), uint8(73), uint8(170), uint16(3235), uint64(170)) // a rest whose string table has grown
	f.Fuzz(func(t *testing.T, first, items, most uint8, bytes uint16, seed uint64) {
		if items == 0 || most == 0 {
			return
		}
		checkCutProfiles(t, int(first), int(items), int(most), int(bytes), seed)
	})
}

func TestMoveProfilesMergesDictionaries(t *testing.T) {
	all := profileKind.New(4)
	for i := range 12 {
		request := profileKind.Make(10*i, 10)
		if i%3 == 1 {
			request = sent(t, request)
		}
		checkMerge(t, request, all)
		require.Zero(t, profileKind.Items(request))
	}
	ids := requireIDs(t, all)
	require.Len(t, ids, 120)
	for i, id := range ids {
		require.Equal(t, i, id)
	}
	profileKind.Move(profileKind.New(0), all)
	require.Equal(t, 120, profileKind.Items(all))
	profileKind.Move(profileKind.Make(3, 2), all)
	require.Equal(t, encodedProfiles(t, all), profileKind.Bytes(all))
}

func TestMoveAddsOnlyWhatIsReached(t *testing.T) {
	all := profileKind.New(0)
	profileKind.Move(profileKind.Make(0, 10), all) // without extras
	profileKind.Move(profileKind.Make(7, 20), all)
	requireMinimal(t, all)
}

func TestTheSameProfileAgainAddsNothingToTheDictionary(t *testing.T) {
	all := profileKind.New(0)
	profileKind.Move(profileKind.Make(3, 40), all)
	entries := func() int {
		d := profileKind.Copy(all, 0, profileKind.Resources(all)).Profiles().Dictionary()
		return d.StringTable().Len() + d.FunctionTable().Len() + d.MappingTable().Len() + d.LocationTable().Len() +
			d.StackTable().Len() + d.AttributeTable().Len() + d.LinkTable().Len()
	}
	profileKind.Move(profileKind.Make(3, 40), all)
	want := entries()
	for range 1000 {
		profileKind.Move(profileKind.Make(3, 40), all)
	}
	require.Equal(t, want, entries())
	require.Equal(t, encodedProfiles(t, all), profileKind.Bytes(all))
}

// TestBytesIsTheEncoding is about data that is odd.
func TestBytesIsTheEncoding(t *testing.T) {
	for name, odd := range map[string]func(pprofile.Profiles){
		"nothing":        func(pprofile.Profiles) {},
		"resource alone": func(pd pprofile.Profiles) { pd.ResourceProfiles().AppendEmpty() },
		"no table": func(pd pprofile.Profiles) {
			r := pd.ResourceProfiles().AppendEmpty()
			r.Resource().Attributes().PutStr("a", "")
			r.Resource().Attributes().PutStr("b", "a")
			r.Resource().Attributes().PutEmptyMap("c").PutStr("d", "e")
		},
		"first string": func(pd pprofile.Profiles) {
			pd.Dictionary().StringTable().Append("a", "b")
			pd.ResourceProfiles().AppendEmpty().Resource().Attributes().PutStr("a", "")
		},
		"no strings in headers": func(pd pprofile.Profiles) {
			pd.Dictionary().StringTable().Append("", "", "b")
			pd.ResourceProfiles().AppendEmpty().ScopeProfiles().AppendEmpty().Scope().SetName("a")
		},
		"negative": func(pd pprofile.Profiles) {
			pd.Dictionary().FunctionTable().AppendEmpty().SetNameStrindex(-1)
			pd.Dictionary().StackTable().AppendEmpty().LocationIndices().Append(-5, 7, 1<<30)
			s := pd.ResourceProfiles().AppendEmpty().ScopeProfiles().AppendEmpty().Profiles().AppendEmpty().Samples().AppendEmpty()
			s.SetStackIndex(-3)
			s.Values().Append(-1, math.MinInt64)
		},
		"many names": func(pd pprofile.Profiles) {
			for i := range 500 {
				pd.ResourceProfiles().AppendEmpty().Resource().Attributes().PutStr(fmt.Sprint("key ", i), fmt.Sprint("value ", i))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			pd := pprofile.NewProfiles()
			odd(pd)
			p := batcher.NewProfilesData(pd)
			require.Equal(t, encodedProfiles(t, p), profileKind.Bytes(p))
			q := profileKind.Make(0, 5)
			most := profileKind.Bytes(p) + profileKind.Bytes(q) + batcher.Growth(p, 1<<20)
			profileKind.Move(p, q)
			require.Equal(t, encodedProfiles(t, q), profileKind.Bytes(q))
			require.LessOrEqual(t, profileKind.Bytes(q), most)

			pd = pprofile.NewProfiles()
			odd(pd)
			p = batcher.NewProfilesData(pd)
			profileKind.Move(profileKind.Make(0, 5), p)
			require.Equal(t, encodedProfiles(t, p), profileKind.Bytes(p))
			require.Len(t, requireIDs(t, onlyItems(p)), profileKind.Items(onlyItems(p)))
		})
	}
}

// onlyItems is a copy of the last entry.
func onlyItems(p *batcher.ProfilesData) *batcher.ProfilesData {
	n := profileKind.Resources(p)
	return profileKind.Copy(p, n-1, n)
}

// TestBytesOfDuplicatesIsABound is about a dictionary in which many strings are there twice, as
// no sender should make one.
func TestBytesOfDuplicatesIsABound(t *testing.T) {
	for first := range 20 {
		request := profileKind.Make(first, 60)
		pd := request.Profiles()
		table := pd.Dictionary().StringTable()
		n := table.Len()
		for i := range n {
			table.Append(table.At(i))
		}
		for _, f := range pd.Dictionary().FunctionTable().All() {
			f.SetNameStrindex(f.NameStrindex() + int32(n))
		}
		require.Equal(t, encodedProfiles(t, request), profileKind.Bytes(request))
		cut := profileKind.Cut(request, nil)
		for cut.Left().Items > 0 {
			piece, size := cut.Next(batcher.Size{Items: 10, Bytes: math.MaxInt, Heap: math.MaxInt})
			require.Equal(t, size.Bytes, profileKind.Bytes(piece))
			encoded := encodedProfiles(t, piece)
			require.LessOrEqual(t, encoded, size.Bytes)
			require.Less(t, float64(size.Bytes), 1.02*float64(encoded))
			requireIDs(t, piece)
		}
	}
}

func TestProfilesAreCutWithinTheLimit(t *testing.T) {
	request := profileKind.Make(0, 400)
	profileKind.Move(bigProfile(900, 3000), request)
	profileKind.Move(profileKind.Make(400, 100), request)
	const limit = 5000
	cut := profileKind.Cut(request, nil)
	room := batcher.Size{Items: math.MaxInt, Bytes: limit, Heap: math.MaxInt}
	items, alone, pieces := 0, 0, 0
	for cut.Left().Items > 0 {
		piece, size := cut.Next(room)
		if size.Items == 0 {
			first := cut.First()
			require.Greater(t, first.Bytes, limit)
			piece, size = cut.Alone(), first
			require.Equal(t, 900, profileKind.Items(piece))
			alone++
		} else {
			require.LessOrEqual(t, encodedProfiles(t, piece), limit)
		}
		require.Equal(t, size.Bytes, encodedProfiles(t, piece))
		requireMinimal(t, piece)
		items += size.Items
		pieces++
	}
	require.Equal(t, 1, alone)
	require.Equal(t, 400+900+100, items)
	require.Less(t, pieces, 50)
}

// bigProfile is one profile with so many samples, all of the same few stacks of a dictionary with so many functions.
func bigProfile(samples, functions int) *batcher.ProfilesData {
	pd := pprofile.NewProfiles()
	addBigProfiles(pd, 1, samples, functions)
	return batcher.NewProfilesData(pd)
}

// addBigProfiles adds profiles of so many samples to pd. The stacks have 20 locations, of a
// dictionary with so many functions.
func addBigProfiles(pd pprofile.Profiles, n, samples, functions int) {
	d := pd.Dictionary()
	d.StringTable().Append("")
	d.FunctionTable().AppendEmpty()
	d.MappingTable().AppendEmpty()
	d.LocationTable().AppendEmpty()
	d.StackTable().AppendEmpty()
	for i := range functions {
		d.StringTable().Append(fmt.Sprint("example.com/a/rather/long/module/path.Function", i))
		d.FunctionTable().AppendEmpty().SetNameStrindex(int32(i + 1))
		l := d.LocationTable().AppendEmpty()
		l.SetAddress(uint64(1<<30 + i))
		l.Lines().AppendEmpty().SetFunctionIndex(int32(i + 1))
		stack := d.StackTable().AppendEmpty()
		for k := range 20 {
			stack.LocationIndices().Append(int32(1 + (i+k*k)%functions))
		}
	}
	rp := pd.ResourceProfiles().AppendEmpty()
	rp.Resource().Attributes().PutStr("service.name", "checkout")
	sp := rp.ScopeProfiles().AppendEmpty()
	for i := range n {
		p := sp.Profiles().AppendEmpty()
		p.SetTime(1)
		for k := range samples {
			s := p.Samples().AppendEmpty()
			s.Values().Append(int64(i*samples + k))
			s.TimestampsUnixNano().Append(1 << 60)
			s.SetStackIndex(int32(1 + (i*samples+k)%functions))
		}
	}
}

// requireLinear fails if a step takes more than 2.5 times the CPU with twice as much, in the best of some tries: what others
// do on the machine takes its caches, too, and who has more needs them more. What is quadratic takes 4 times as much in
// each. Garbage is not collected meanwhile: those who allocate would have to help.
func requireLinear(t *testing.T, half, all int, prepare func(n int) (step func())) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	measure := func(n int) time.Duration {
		var times []time.Duration
		for range 5 {
			step := prepare(n)
			runtime.GC()
			began := threadTime()
			step()
			times = append(times, threadTime()-began)
		}
		slices.Sort(times)
		return times[len(times)/2]
	}
	prepare(half)()
	const limit = 2.5
	best := math.Inf(1)
	for try := 0; try < 10 && best > limit; try++ {
		best = min(best, measure(all).Seconds()/measure(half).Seconds())
	}
	t.Logf("%d take %.2f times as long as %d", all, best, half)
	require.Less(t, best, limit)
}

// TestCuttingProfilesIsLinear doubles a request, and the number of pieces with it.
func TestCuttingProfilesIsLinear(t *testing.T) {
	if batcher.RaceEnabled || testing.Short() {
		t.Skip("measures time")
	}
	requireLinear(t, 2000, 4000, func(n int) (cutUp func()) {
		pd := pprofile.NewProfiles()
		addBigProfiles(pd, n, 50, n)
		p := batcher.NewProfilesData(pd)
		return func() {
			cut := profileKind.Cut(p, nil)
			for cut.Left().Items > 0 {
				cut.Next(batcher.Size{Items: 500, Bytes: 100_000, Heap: math.MaxInt})
			}
		}
	})
}

// TestMergingProfilesIsLinear doubles the number of requests that are merged.
func TestMergingProfilesIsLinear(t *testing.T) {
	if batcher.RaceEnabled || testing.Short() {
		t.Skip("measures time")
	}
	requireLinear(t, 100, 200, func(n int) (merge func()) {
		requests := make([]*batcher.ProfilesData, n)
		for i := range requests {
			requests[i] = profileKind.Make(20*i, 20)
		}
		return func() {
			all := profileKind.New(0)
			for _, r := range requests {
				profileKind.Move(r, all)
				profileKind.Bytes(all)
			}
		}
	})
}

func TestCheckNamesAnIndexThatLeadsNowhere(t *testing.T) {
	for _, c := range []struct {
		want  string
		spoil func(pprofile.ProfilesDictionary, pprofile.Profile)
	}{
		{"into the stack table", func(d pprofile.ProfilesDictionary, p pprofile.Profile) {
			p.Samples().At(0).SetStackIndex(int32(d.StackTable().Len()))
		}},
		{"index -1 into the stack table", func(_ pprofile.ProfilesDictionary, p pprofile.Profile) { p.Samples().At(0).SetStackIndex(-1) }},
		{"index 1000 into the link table", func(_ pprofile.ProfilesDictionary, p pprofile.Profile) { p.Samples().At(0).SetLinkIndex(1000) }},
		{"profile 0 of scope 0 of resource 0 has index -7 into the attribute table", func(_ pprofile.ProfilesDictionary, p pprofile.Profile) {
			p.AttributeIndices().Append(-7)
		}},
		{"index 99999 into the attribute table", func(_ pprofile.ProfilesDictionary, p pprofile.Profile) {
			p.Samples().At(0).AttributeIndices().Append(99999)
		}},
		{"index 2147483647 into the string table", func(_ pprofile.ProfilesDictionary, p pprofile.Profile) {
			p.PeriodType().SetUnitStrindex(math.MaxInt32)
		}},
		{"of the stack table has index 500 into the location table", func(d pprofile.ProfilesDictionary, p pprofile.Profile) {
			d.StackTable().At(int(p.Samples().At(0).StackIndex())).LocationIndices().Append(500)
		}},
		{"of the location table has index 500 into the mapping table", func(d pprofile.ProfilesDictionary, _ pprofile.Profile) {
			for _, l := range d.LocationTable().All() {
				l.SetMappingIndex(500)
			}
		}},
		{"of the location table has index -2 into the function table", func(d pprofile.ProfilesDictionary, _ pprofile.Profile) {
			for _, l := range d.LocationTable().All() {
				l.Lines().AppendEmpty().SetFunctionIndex(-2)
			}
		}},
		{"of the function table has index 500000 into the string table", func(d pprofile.ProfilesDictionary, _ pprofile.Profile) {
			for _, f := range d.FunctionTable().All() {
				f.SetFilenameStrindex(500_000)
			}
		}},
		{"of the attribute table has index 500000 into the string table", func(d pprofile.ProfilesDictionary, _ pprofile.Profile) {
			for _, a := range d.AttributeTable().All() {
				a.SetKeyStrindex(500_000)
			}
		}},
		{"of the mapping table has index 9 into the string table, which has 0 entries", func(d pprofile.ProfilesDictionary, _ pprofile.Profile) {
			pprofile.NewProfilesDictionary().MoveTo(d)
			d.StackTable().AppendEmpty().LocationIndices().Append(0)
			d.LocationTable().AppendEmpty()
			d.MappingTable().AppendEmpty().SetFilenameStrindex(9)
		}},
	} {
		t.Run(c.want, func(t *testing.T) {
			broken := func() *batcher.ProfilesData {
				p := profileKind.Make(1, 2)
				require.NoError(t, p.Check())
				pd := p.Profiles()
				profile := pd.ResourceProfiles().At(0).ScopeProfiles().At(0).Profiles().At(0)
				if strings.Contains(c.want, "0 entries") {
					profile = pprofile.NewProfile()
					s := profile.Samples().AppendEmpty()
					s.Values().Append(1)
					pd.ResourceProfiles().RemoveIf(func(pprofile.ResourceProfiles) bool { return true })
					profile.MoveTo(pd.ResourceProfiles().AppendEmpty().ScopeProfiles().AppendEmpty().Profiles().AppendEmpty())
					profile = pd.ResourceProfiles().At(0).ScopeProfiles().At(0).Profiles().At(0)
				}
				c.spoil(pd.Dictionary(), profile)
				return p
			}
			require.ErrorContains(t, broken().Check(), c.want)

			// What is not checked may lose what leads nowhere, but nothing worse.
			all := profileKind.Make(7, 7)
			profileKind.Move(broken(), all)
			require.NoError(t, all.Check())
			all = broken()
			profileKind.Move(profileKind.Make(7, 7), all)
			cut := profileKind.Cut(broken(), nil)
			for cut.Left().Items > 0 {
				require.NoError(t, cut.Alone().Check())
			}
		})
	}
}

func TestCheckAllowsUnsetWithoutATable(t *testing.T) {
	pd := pprofile.NewProfiles()
	pd.ResourceProfiles().AppendEmpty().ScopeProfiles().AppendEmpty().Profiles().AppendEmpty().Samples().AppendEmpty().AttributeIndices().Append(0)
	require.NoError(t, batcher.NewProfilesData(pd).Check())
}

// TestFirstEntriesThatAreNotEmpty is about senders that do not leave the first entry of each
// table empty.
func TestFirstEntriesThatAreNotEmpty(t *testing.T) {
	odd := func() *batcher.ProfilesData {
		pd := pprofile.NewProfiles()
		d := pd.Dictionary()
		d.StringTable().Append("", "key")
		a := d.AttributeTable().AppendEmpty()
		a.SetKeyStrindex(1)
		a.Value().SetInt(5)
		d.LocationTable().AppendEmpty().SetAddress(7)
		d.StackTable().AppendEmpty()
		d.StackTable().AppendEmpty().LocationIndices().Append(0)
		for range 2 {
			s := pd.ResourceProfiles().AppendEmpty().ScopeProfiles().AppendEmpty().Profiles().AppendEmpty().Samples().AppendEmpty()
			s.SetStackIndex(1)
			s.AttributeIndices().Append(0)
			s.Values().Append(1)
		}
		return batcher.NewProfilesData(pd)
	}
	want := meaningsOf(t, odd())
	p := odd()
	checkMerge(t, odd(), p)
	require.Equal(t, append(want, want...), meaningsOf(t, p))
	q := profileKind.Make(1, 1)
	checkMerge(t, odd(), q)
	require.Equal(t, want, meaningsOf(t, q)[1:])
	cut := profileKind.Cut(odd(), nil)
	one := cut.Alone()
	left, rest := cut.Left(), cut.Rest()
	require.LessOrEqual(t, encodedProfiles(t, rest), left.Bytes)
	require.Equal(t, want, append(meaningsOf(t, one), meaningsOf(t, rest)...))
}

// TestProfilesSurviveBeingEncoded is about exporters, which leave indices in the place of
// names behind when they fail.
func TestProfilesSurviveBeingEncoded(t *testing.T) {
	encode := func(p *batcher.ProfilesData) *batcher.ProfilesData {
		encoded, err := new(pprofile.ProtoMarshaler).MarshalProfiles(p.Profiles())
		require.NoError(t, err)
		require.Len(t, encoded, profileKind.Bytes(p))
		return p
	}
	all := profileKind.Make(0, 20)
	profileKind.Move(encode(profileKind.Make(20, 20)), all)
	encode(all)
	profileKind.Move(profileKind.Make(40, 20), all)
	encode(all)
	require.Len(t, requireIDs(t, profileKind.Copy(all, 1, 2)), profileKind.ItemsAt(all, 1))
	encode(all)
	cut := profileKind.Cut(all, nil)
	got := 0
	for cut.Left().Items > 0 {
		piece, _ := cut.Next(batcher.Size{Items: 13, Bytes: math.MaxInt, Heap: math.MaxInt})
		got += len(requireIDs(t, piece))
	}
	require.Equal(t, 60, got)
}

func TestDistributeGivesEachPartWhatItReaches(t *testing.T) {
	request := profileKind.Make(0, 100)
	want := map[bool][]string{}
	odd := func(r pcommon.Resource) bool {
		v, _ := r.Attributes().Get("resource")
		return v.Int()%2 == 1
	}
	for i, m := range meaningsOf(t, request) {
		want[i%2 == 1] = append(want[i%2 == 1], m)
	}
	parts := map[bool]*batcher.ProfilesData{false: profileKind.New(1), true: profileKind.New(1)}
	profileKind.Distribute(request, func(r pcommon.Resource) *batcher.ProfilesData { return parts[odd(r)] })
	require.Zero(t, profileKind.Resources(request))
	for key, part := range parts {
		require.Equal(t, want[key], meaningsOf(t, part))
		require.Equal(t, encodedProfiles(t, part), profileKind.Bytes(part))
		requireMinimal(t, part)
	}
	one := profileKind.New(0)
	profileKind.Distribute(parts[true], func(pcommon.Resource) *batcher.ProfilesData { return one })
	require.Equal(t, want[true], meaningsOf(t, one))
}

func TestCopyOfProfilesReadsOnly(t *testing.T) {
	p := profileKind.Make(3, 50)
	p.Profiles().MarkReadOnly()
	want := meaningsOf(t, p)
	c := profileKind.Copy(p, 1, 4)
	require.Equal(t, want[1:4], meaningsOf(t, c))
	require.Equal(t, encodedProfiles(t, c), profileKind.Bytes(c))
	require.Equal(t, profileKind.ItemsAt(p, 1)+profileKind.ItemsAt(p, 2)+profileKind.ItemsAt(p, 3), profileKind.Items(c))
	requireMinimal(t, c)
}

func TestPartialProfiles(t *testing.T) {
	cause := errors.New("full")
	err := profileKind.Partial(cause, profileKind.Make(0, 3))
	require.ErrorIs(t, err, cause)
	rest, ok := profileKind.FailedPart(fmt.Errorf("wrapped: %w", err))
	require.True(t, ok)
	require.Equal(t, []int{0, 1, 2}, requireIDs(t, rest))
	_, ok = profileKind.FailedPart(cause)
	require.False(t, ok)
	_, ok = profileKind.FailedPart(xconsumererror.NewProfiles(cause, pprofile.Profiles{}))
	require.False(t, ok)
}
