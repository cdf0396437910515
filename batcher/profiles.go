package batcher

import (
	"errors"

	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/consumer/consumererror/xconsumererror"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pprofile"
	"go.opentelemetry.io/collector/pdata/xpdata/pref"
)

// ProfilesData are profiles, and what is known about them, so that more can be merged into them
// without looking through their dictionary again. It is not safe for concurrent use.
//
// The first entry of each table of a dictionary is empty and means that something is unset. Some
// senders have something else there. Then an index 0 in a list is taken for that entry, and in a field of
// its own for unset.
type ProfilesData struct {
	pd pprofile.Profiles

	names  *headerNames // nil: not looked for
	filled [tables]bool // tables whose first entry is not empty; known with names

	sized bool // whether the sizes are known
	outer int  // encoded size of the entries of the outermost level
	dict  int  // encoded size of what is in the dictionary, with the names that it lacks

	index *dictionaryIndex // nil: nothing has been merged into it
}

// NewProfilesData wraps pd, which then belongs to the result.
func NewProfilesData(pd pprofile.Profiles) *ProfilesData { return &ProfilesData{pd: pd} }

// Profiles returns what is wrapped. Whoever gets it may change it: what was known about it is
// forgotten.
func (p *ProfilesData) Profiles() pprofile.Profiles {
	p.forget()
	return p.pd
}

func (p *ProfilesData) forget() { *p = ProfilesData{pd: p.pd} }

// lookUp finds the names.
func (p *ProfilesData) lookUp() {
	if p.names != nil {
		return
	}
	restoreNames(p.pd)
	p.names = namesOf(p.pd)
	for k := range tables {
		p.filled[k] = isFilled(p.pd.Dictionary(), k)
	}
}

// isFilled tells whether the first entry of a table is not empty.
func isFilled(d pprofile.ProfilesDictionary, k table) bool {
	if tableLen(d, k) == 0 {
		return false
	}
	return asEntry(tableEntrySize(d, k, 0, asTheyAre{})) != emptyEntries[k]
}

// measure finds the sizes.
func (p *ProfilesData) measure() {
	if p.sized {
		return
	}
	p.lookUp()
	p.outer = p.outerSize(0, p.pd.ResourceProfiles().Len(), asTheyAre{}, new(pprofile.ProtoMarshaler).ProfileSize)
	p.dict = p.lackingSize() + dictionarySize(p.pd.Dictionary(), asTheyAre{})
	p.sized = true
}

// lackingSize is the size of what encoding adds to the string table.
func (p *ProfilesData) lackingSize() (n int) {
	if p.pd.Dictionary().StringTable().Len() == 0 {
		n = emptyEntries[stringTable]
	}
	for _, s := range p.names.lacking {
		n += asEntry(len(s))
	}
	return n
}

// outerSize is the size of some entries of the outermost level with indices of r.
func (p *ProfilesData) outerSize(from, to int, r renumbering, profile func(pprofile.Profile) int) int {
	h := header{p.names, r}
	var n outerSize
	for i := from; i < to; i++ {
		rp := p.pd.ResourceProfiles().At(i)
		n.resource(h.resourceSize(rp))
		for j := range rp.ScopeProfiles().Len() {
			sp := rp.ScopeProfiles().At(j)
			n.scope(h.scopeSize(sp))
			for k := range sp.Profiles().Len() {
				n.profile(profile(sp.Profiles().At(k)))
			}
		}
	}
	return n.total()
}

// outerSize adds up the entries of the outermost level, told from front to back.
type outerSize struct {
	closed              int // size of the entries that are complete
	inResource, inScope int // size of what is in the open ones; -1: none is open
	begun               bool
}

func (n *outerSize) resource(size int) {
	n.closed = n.total()
	n.begun, n.inResource, n.inScope = true, size, -1
}

func (n *outerSize) scope(size int) {
	if n.inScope >= 0 {
		n.inResource += asEntry(n.inScope)
	}
	n.inScope = size
}

func (n *outerSize) profile(size int) { n.inScope += asEntry(size) }

func (n *outerSize) total() int {
	if !n.begun {
		return 0
	}
	resource := n.inResource
	if n.inScope >= 0 {
		resource += asEntry(n.inScope)
	}
	return n.closed + asEntry(resource)
}

// prepare makes p ready for something to be merged into it: it gets an index, the names that its
// dictionary lacks, and a dictionary that begins with empty entries.
func (p *ProfilesData) prepare() {
	d := p.pd.Dictionary()
	if p.index != nil && p.index.fresh(d) {
		return
	}
	p.measure()
	p.lookUp()
	if p.filled != ([tables]bool{}) {
		other := NewProfilesData(pprofile.NewProfiles())
		other.index = indexOf(other.pd.Dictionary())
		other.sized, other.dict = true, emptyEntries[stringTable]
		other.merge(p)
		p.takeOver(other)
		return
	}
	if d.StringTable().Len() == 0 {
		d.StringTable().Append("")
	}
	d.StringTable().Append(p.names.lacking...)
	p.names = nil
	p.index = indexOf(d)
}

// merge moves everything in src to p, which is prepared.
func (p *ProfilesData) merge(src *ProfilesData) {
	d := p.pd.Dictionary()
	for k := range tables {
		if p.index.lens[k] == 0 && (k == stringTable || tableLen(src.pd.Dictionary(), k) > 0) {
			p.index.begun(d, k)
			if k != stringTable { // which counts anyway, because encoding adds that entry
				p.dict += emptyEntries[k]
			}
		}
	}
	t := newTransfer(src)
	defer t.free()
	p.outer += t.numberAll(src, p)
	p.dict = t.size
	t.build(d, true)
	rps := src.pd.ResourceProfiles()
	for _, rp := range rps.All() {
		for _, sp := range rp.ScopeProfiles().All() {
			for _, profile := range sp.Profiles().All() {
				t.profile(profile)
			}
		}
	}
	rps.MoveAndAppendTo(p.pd.ResourceProfiles())
	p.names = nil
	src.clear()
}

// takeOver moves everything in src to p, which is empty, without looking at it.
func (p *ProfilesData) takeOver(src *ProfilesData) {
	known := *src
	src.pd.ResourceProfiles().MoveAndAppendTo(p.pd.ResourceProfiles())
	src.pd.Dictionary().MoveTo(p.pd.Dictionary())
	known.pd = p.pd
	*p = known
	src.clear()
}

// clear empties p, whose entries of the outermost level have gone.
func (p *ProfilesData) clear() {
	pprofile.NewProfilesDictionary().MoveTo(p.pd.Dictionary())
	p.forget()
}

// Profiles is the Signal of profiles. Its items are samples. Requests are cut between profiles:
// the samples of one profile stay together. Profiles without samples travel along. A profile
// that exceeds SendBatchMaxSize or SendBatchMaxBytes by itself is a batch of its own.
//
// A request that does not pass Check is refused.
func Profiles() Signal[*ProfilesData] { return profiles{} }

type profiles struct{}

func (profiles) Name() string { return "profiles" }

func (profiles) New(resources int) *ProfilesData {
	pd := pprofile.NewProfiles()
	pd.ResourceProfiles().EnsureCapacity(resources)
	return NewProfilesData(pd)
}

func (profiles) Items(p *ProfilesData) int { return p.pd.SampleCount() }

func (profiles) Resources(p *ProfilesData) int { return p.pd.ResourceProfiles().Len() }

// Bytes is the size of the encoding, in which attributes of resources and scopes refer to the
// string table. It walks everything the first time only. Of a piece of data whose string table
// had duplicates it may be a few bytes more than that size.
func (profiles) Bytes(p *ProfilesData) int {
	p.measure()
	return p.outer + asEntry(p.dict)
}

func (profiles) check(p *ProfilesData) error { return p.Check() }

// normalize makes the first entries of the dictionary empty.
func (profiles) normalize(p *ProfilesData) {
	if p.lookUp(); p.filled != ([tables]bool{}) {
		p.prepare()
	}
}

// bound is more than Bytes where indices can be larger in the dictionary of the batch. It walks
// all of p.
func (profiles) bound(p *ProfilesData, limit int) int {
	return p.worst(func(table) int { return mostEntries(limit) })
}

// mostEntries is the most entries in a table of a dictionary of that size: each has at least two
// bytes. Indices are not longer than for 1<<30.
func mostEntries(bytes int) int { return min(bytes/2, 1<<30) }

func (profiles) added(src, dst *ProfilesData) int {
	dst.prepare()
	t := newTransfer(src)
	defer t.free()
	grown := t.numberAll(src, dst) + asEntry(t.size) - asEntry(dst.dict)
	t.back(mark{})
	return grown
}

// numberAll numbers what src refers to in the dictionary of dst, which is prepared, and returns the
// size of its entries of the outermost level then.
func (t *transfer) numberAll(src, dst *ProfilesData) int {
	t.begin(dst.index, dst.dict)
	return src.outerSize(0, src.pd.ResourceProfiles().Len(), t, func(profile pprofile.Profile) int { return profileSize(profile, t) })
}

func (profiles) outer(p *ProfilesData) int {
	p.measure()
	return p.outer
}

func (profiles) discount(p *ProfilesData, bytes int) { p.outer -= bytes }

func (s profiles) only(p *ProfilesData, entries []int) *ProfilesData {
	t := newTransfer(p)
	defer t.free()
	kept := s.New(len(entries))
	t.begin(nil, 0)
	t.numberEntries(p, entries)
	t.keepOrder()
	t.take(p, kept, entries, true)
	return kept
}

func (profiles) unprepare(p *ProfilesData) { p.index = nil }

func (profiles) fill(cut Cutter[*ProfilesData], room Size, dst *ProfilesData) (*ProfilesData, Size) {
	return cut.(*profilesCutter).fill(room, dst)
}

func (profiles) most(p *ProfilesData) (most int) {
	for _, rp := range p.pd.ResourceProfiles().All() {
		for _, sp := range rp.ScopeProfiles().All() {
			for _, profile := range sp.Profiles().All() {
				most = max(most, profile.Samples().Len())
			}
		}
	}
	return most
}

// worst is the most that the encoding of p, or of a part of it, can have where tables have no more
// than so many entries.
func (p *ProfilesData) worst(entries func(table) int) int {
	p.lookUp()
	r := &atMost{filled: p.filled}
	dict := p.lackingSize()
	for k := range tables {
		r.entries[k] = int32(entries(k))
		if p.filled[k] {
			dict += emptyEntries[k]
		}
	}
	dict += dictionarySize(p.pd.Dictionary(), r)
	outer := p.outerSize(0, p.pd.ResourceProfiles().Len(), r, func(profile pprofile.Profile) int { return profileSize(profile, r) })
	return outer + asEntry(dict)
}

// Move merges src into dst. What src's profiles refer to is looked up in the dictionary of dst,
// and added where it is not found. If dst is empty, src is taken over as it is.
func (profiles) Move(src, dst *ProfilesData) {
	switch {
	case src == dst:
	case src.pd.ResourceProfiles().Len() == 0:
		src.clear()
	case dst.pd.ResourceProfiles().Len() == 0:
		dst.takeOver(src)
	default:
		dst.prepare()
		dst.merge(src)
	}
}

func (profiles) Resource(p *ProfilesData, entry int) pcommon.Resource {
	return p.pd.ResourceProfiles().At(entry).Resource()
}

// Distribute gives each part the entries of the dictionary that it refers to. Equal entries are
// found only where one of the parts had something in it before.
func (s profiles) Distribute(p *ProfilesData, to func(pcommon.Resource) *ProfilesData) {
	rps := p.pd.ResourceProfiles()
	places := make(map[*ProfilesData]int)
	var parts []*ProfilesData
	var entries [][]int // of each part
	for i := range rps.Len() {
		part := to(rps.At(i).Resource())
		at, known := places[part]
		if !known {
			at = len(parts)
			places[part] = at
			parts, entries = append(parts, part), append(entries, nil)
		}
		entries[at] = append(entries[at], i)
	}
	if len(parts) == 1 {
		s.Move(p, parts[0])
		return
	}
	if len(parts) > 0 {
		t := newTransfer(p)
		defer t.free()
		for i, part := range parts {
			own := s.New(len(entries[i]))
			t.pick(p, own, entries[i], true)
			s.Move(own, part)
		}
	}
	rps.RemoveIf(func(pprofile.ResourceProfiles) bool { return true })
	p.clear()
}

// pick takes some entries of the outermost level of src over to dst, which is empty. With move
// the entries are moved, but what several of them may refer to is copied.
func (t *transfer) pick(src, dst *ProfilesData, entries []int, move bool) {
	t.begin(nil, 0)
	dst.outer = t.numberEntries(src, entries)
	dst.dict, dst.sized = t.size, true
	t.take(src, dst, entries, move)
}

// numberEntries numbers what some entries of the outermost level refer to, and returns their size then.
func (t *transfer) numberEntries(src *ProfilesData, entries []int) (size int) {
	for _, i := range entries {
		size += src.outerSize(i, i+1, t, func(profile pprofile.Profile) int { return profileSize(profile, t) })
	}
	return size
}

// take is pick for entries that are numbered.
func (t *transfer) take(src, dst *ProfilesData, entries []int, move bool) {
	t.build(dst.pd.Dictionary(), false)
	for _, i := range entries {
		rp := dst.pd.ResourceProfiles().AppendEmpty()
		take(src.pd.ResourceProfiles().At(i), rp, move)
		for _, sp := range rp.ScopeProfiles().All() {
			for _, profile := range sp.Profiles().All() {
				t.profile(profile)
			}
		}
	}
}

func (profiles) ItemsAt(p *ProfilesData, resource int) (n int) {
	rp := p.pd.ResourceProfiles().At(resource)
	for j := range rp.ScopeProfiles().Len() {
		sp := rp.ScopeProfiles().At(j)
		for k := range sp.Profiles().Len() {
			n += sp.Profiles().At(k).Samples().Len()
		}
	}
	return n
}

// Copy copies the part of the dictionary that the entries refer to, or all of it if the copy
// has all entries.
func (s profiles) Copy(p *ProfilesData, from, to int) *ProfilesData {
	c := s.New(0)
	if from == 0 && to == p.pd.ResourceProfiles().Len() {
		p.pd.CopyTo(c.pd)
		return c
	}
	read := *p // what is found out is not written down: others may be reading
	if lacksNames(p.pd) {
		read = ProfilesData{pd: pprofile.NewProfiles()}
		p.pd.CopyTo(read.pd)
	}
	t := newTransfer(&read)
	defer t.free()
	entries := make([]int, 0, to-from)
	for i := from; i < to; i++ {
		entries = append(entries, i)
	}
	t.pick(&read, c, entries, false)
	return c
}

// Merge leaves the dictionary alone: what is equal refers to the same entries.
func (profiles) Merge(p *ProfilesData, m *Merger) {
	if p.names == nil {
		restoreNames(p.pd) // what has an index in place of a name looks like one without
	}
	mergeAll(m, p.pd.ResourceProfiles(), &resourceProfilesKin)
	p.sized = p.sized && !m.joined
}

var (
	resourceProfilesKin = kin[pprofile.ResourceProfiles]{
		signature: func(m *Merger, e pprofile.ResourceProfiles) uint64 {
			return m.signResource(e.Resource(), e.SchemaUrl())
		},
		same: func(m *Merger, a, b pprofile.ResourceProfiles) bool {
			return a.SchemaUrl() == b.SchemaUrl() && m.sameResource(a.Resource(), b.Resource())
		},
		children: func(e pprofile.ResourceProfiles) int { return e.ScopeProfiles().Len() },
		join:     func(dst, src pprofile.ResourceProfiles) { src.ScopeProfiles().MoveAndAppendTo(dst.ScopeProfiles()) },
		within: func(m *Merger, e pprofile.ResourceProfiles, from []run) {
			mergeList(m, e.ScopeProfiles(), &scopeProfilesKin, from)
		},
	}
	scopeProfilesKin = kin[pprofile.ScopeProfiles]{
		signature: func(m *Merger, e pprofile.ScopeProfiles) uint64 { return m.signScope(e.Scope(), e.SchemaUrl()) },
		same: func(m *Merger, a, b pprofile.ScopeProfiles) bool {
			return a.SchemaUrl() == b.SchemaUrl() && m.sameScope(a.Scope(), b.Scope())
		},
		children: func(e pprofile.ScopeProfiles) int { return e.Profiles().Len() },
		join:     func(dst, src pprofile.ScopeProfiles) { src.Profiles().MoveAndAppendTo(dst.Profiles()) },
		within:   func(m *Merger, _ pprofile.ScopeProfiles, from []run) { m.leaf(from) },
	}
)

// Pick copies the part of the dictionary that the profiles refer to.
func (s profiles) Pick(p *ProfilesData, picker *Picker) *ProfilesData {
	all := s.New(0)
	p.pd.Dictionary().CopyTo(all.pd.Dictionary())
	nest(p.pd, resourceProfilesOf, resourceProfilesLevel).pick(all.pd, picker)
	entries := make([]int, all.pd.ResourceProfiles().Len())
	for i := range entries {
		entries[i] = i
	}
	c := s.New(len(entries))
	t := newTransfer(all)
	defer t.free()
	t.pick(all, c, entries, true)
	return c
}

// Levels of profiles are only for picking.
var (
	resourceProfilesLevel = level[pprofile.ResourceProfiles]{
		header: func(src, dst pprofile.ResourceProfiles) {
			src.Resource().CopyTo(dst.Resource())
			dst.SetSchemaUrl(src.SchemaUrl())
		},
		children: func(e pprofile.ResourceProfiles) inside[pprofile.ResourceProfiles] {
			return nest(e, scopeProfilesOf, scopeProfilesLevel)
		},
	}
	scopeProfilesLevel = level[pprofile.ScopeProfiles]{
		header: func(src, dst pprofile.ScopeProfiles) {
			src.Scope().CopyTo(dst.Scope())
			dst.SetSchemaUrl(src.SchemaUrl())
		},
		children: func(e pprofile.ScopeProfiles) inside[pprofile.ScopeProfiles] {
			return nest(e, profilesOf, profileLevel)
		},
	}
	profileLevel = level[pprofile.Profile]{copy: pprofile.Profile.CopyTo}
)

func resourceProfilesOf(pd pprofile.Profiles) sequence[pprofile.ResourceProfiles] {
	return pd.ResourceProfiles()
}

func scopeProfilesOf(e pprofile.ResourceProfiles) sequence[pprofile.ScopeProfiles] {
	return e.ScopeProfiles()
}

func profilesOf(e pprofile.ScopeProfiles) sequence[pprofile.Profile] { return e.Profiles() }

func (profiles) Partial(err error, rest *ProfilesData) error {
	return xconsumererror.NewProfiles(consumererror.NewRetryableError(err), rest.Profiles())
}

func (profiles) FailedPart(err error) (*ProfilesData, bool) {
	partial, ok := errors.AsType[xconsumererror.Profiles](err)
	if !ok || partial.Data() == (pprofile.Profiles{}) { // made without data by mistake
		return nil, false
	}
	return NewProfilesData(partial.Data()), true
}

func (profiles) Ref(p *ProfilesData) { pref.RefProfiles(p.pd) }

func (profiles) Unref(p *ProfilesData) { pref.UnrefProfiles(p.pd) }

func (profiles) Heap(p *ProfilesData) int { return profilesFootprint(p) }

// Measure writes down the totals, and what the heap of a piece with just one profile is. Nothing is
// cut by sizes that were measured before.
func (s profiles) Measure(p *ProfilesData, z *Sizes) {
	z.total.Items = s.Items(p)
	if z.bytes {
		z.total.Bytes = s.Bytes(p)
	}
	if !z.heap {
		return
	}
	z.total.Heap = z.copies * s.Heap(p)
	c := newProfilesCutter(p, z)
	for c.at = range c.units {
		c.first = false
		alone := c.First().Heap
		z.heaviest = max(z.heaviest, alone)
		z.inPieces += alone
	}
	c.end()
}

func (s profiles) Cut(p *ProfilesData, z *Sizes) Cutter[*ProfilesData] {
	return newProfilesCutter(p, z)
}
