package batcher

import (
	"math"
	"slices"
	"sync"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pprofile"
)

// transfer takes entries of one dictionary over into another one: those that are asked for and
// what they refer to, each once. First everything is only numbered, and so it is known how
// large it becomes; build then makes the entries.
type transfer struct {
	src     pprofile.ProfilesDictionary
	lacking []string     // strings that follow upon those of src
	lens    [tables]int  // of src, with those strings
	weighs  bool         // heap is of interest
	filled  [tables]bool // whose first entry is not empty

	index *dictionaryIndex // of what the destination has; nil: nothing
	base  [tables]int      // how many entries that is
	added [tables][]int32  // the indices in src of those to be added
	size  int              // of all entries of the destination, encoded
	meter meter            // of what is added: its heap, in a destination that has just that

	places [tables][]numbered // by the index in src
	round  uint32             // of numbering
}

// numbered is where an entry comes to lie. It only counts in its round.
type numbered struct {
	round uint32
	index int32
}

var transfers = sync.Pool{New: func() any { return new(transfer) }}

// newTransfer begins to transfer from p.
func newTransfer(p *ProfilesData) *transfer {
	p.lookUp()
	t := transfers.Get().(*transfer)
	t.src, t.lacking, t.filled, t.weighs = p.pd.Dictionary(), p.names.lacking, p.filled, false
	for k := range tables {
		t.lens[k] = tableLen(t.src, k)
	}
	t.lens[stringTable] = max(t.lens[stringTable], 1) + len(t.lacking)
	for k := range t.places {
		if n := t.lens[k]; n > cap(t.places[k]) {
			t.places[k] = make([]numbered, n)
		} else {
			t.places[k] = t.places[k][:n]
		}
	}
	return t
}

// free gives t back to be used for another transfer.
func (t *transfer) free() {
	t.src, t.lacking, t.index = pprofile.ProfilesDictionary{}, nil, nil
	transfers.Put(t)
}

// begin forgets what was numbered and begins again: for a dictionary with an index, which is
// of that size, or for a new one.
func (t *transfer) begin(index *dictionaryIndex, size int) {
	if t.round == math.MaxUint32 {
		for k := range t.places {
			clear(t.places[k][:cap(t.places[k])])
		}
		t.round = 0
	}
	t.round++
	t.index, t.size, t.meter = index, size, meter{}
	for k := range tables {
		t.added[k] = t.added[k][:0]
		switch {
		case index != nil && index.lens[k] > 0:
			t.base[k] = index.lens[k]
		case t.lens[k] > 0:
			t.base[k] = 1
			t.size += emptyEntries[k]
		default:
			t.base[k] = 0
		}
	}
}

// text is a string of src.
func (t *transfer) text(i int32) string {
	table := t.src.StringTable()
	if int(i) < table.Len() {
		return table.At(int(i))
	}
	if i -= int32(max(table.Len(), 1)); i < 0 {
		return "" // first in a table that is empty
	}
	return t.lacking[i]
}

func (t *transfer) field(k table, i int32) int32 {
	if i == 0 {
		return 0
	}
	return t.number(k, i)
}

func (t *transfer) listed(k table, i int32) int32 {
	if i == 0 && !t.filled[k] {
		return 0
	}
	return t.number(k, i)
}

// number returns the index of an entry in the destination. An entry that src does not have
// counts as unset.
func (t *transfer) number(k table, i int32) int32 {
	if i < 0 || int(i) >= t.lens[k] {
		return 0
	}
	if at := t.places[k][i]; at.round == t.round {
		return at.index
	}
	var size int
	if k == stringTable {
		size = len(t.text(i))
	} else {
		size = tableEntrySize(t.src, k, int(i), t) // which numbers what the entry refers to
	}
	next := int32(t.base[k] + len(t.added[k]))
	if t.index != nil {
		if known := t.find(k, i, next); known != next {
			t.places[k][i] = numbered{t.round, known}
			return known
		}
	}
	t.places[k][i] = numbered{t.round, next}
	t.added[k] = append(t.added[k], i)
	t.size += asEntry(size)
	if t.weighs {
		t.weigh(k, i)
	}
	return next
}

// weigh adds the heap of an entry.
func (t *transfer) weigh(k table, i int32) {
	if k == stringTable {
		t.meter.bytes += stringBlock
		t.meter.text(t.text(i))
		return
	}
	t.meter.bytes += pointerBlock
	t.meter.entry(t.src, k, int(i))
}

// find returns the index of an entry like that in the destination. If there is none, it
// will be at next.
func (t *transfer) find(k table, i, next int32) int32 {
	if k == stringTable {
		return findOrAdd(t.index.strings, t.text(i), next)
	}
	return t.index.find(t.src, k, int(i), t, next)
}

// unfind takes an entry that was numbered out of the index.
func (t *transfer) unfind(k table, i int32) {
	if k == stringTable {
		delete(t.index.strings, t.text(i))
		return
	}
	t.index.remove(t.src, k, int(i), t)
}

// mark is how far a transfer is.
type mark struct {
	added [tables]int
	size  int
	meter meter
}

func (t *transfer) mark() mark {
	m := mark{size: t.size, meter: t.meter}
	for k := range tables {
		m.added[k] = len(t.added[k])
	}
	return m
}

// back forgets what was numbered since the mark.
func (t *transfer) back(m mark) {
	t.size, t.meter = m.size, m.meter
	if t.index != nil { // before the numbers go, of which keys are made
		for k := range tables {
			for _, i := range t.added[k][m.added[k]:] {
				t.unfind(k, i)
			}
		}
	}
	for k := range tables {
		for _, i := range t.added[k][m.added[k]:] {
			t.places[k][i] = numbered{}
		}
		t.added[k] = t.added[k][:m.added[k]]
	}
}

// keepOrder numbers what is numbered, for a new dictionary, in the order in which src has it. Then
// no index is larger than in src, if the tables of src begin with empty entries.
func (t *transfer) keepOrder() {
	for k := range tables {
		slices.Sort(t.added[k])
		for n, i := range t.added[k] {
			t.places[k][i].index = int32(t.base[k] + n)
		}
	}
}

// build makes what was numbered in dst. With move what it consists of is moved there.
func (t *transfer) build(dst pprofile.ProfilesDictionary, move bool) {
	if t.index == nil {
		for k := range tables {
			if t.base[k] > 0 {
				makeRoom(dst, k, 1+len(t.added[k]))
				appendEmptyEntry(dst, k)
			}
		}
	}
	for _, i := range t.added[stringTable] {
		dst.StringTable().Append(t.text(i))
	}
	for _, i := range t.added[functionTable] {
		f := dst.FunctionTable().AppendEmpty()
		t.src.FunctionTable().At(int(i)).CopyTo(f)
		f.SetNameStrindex(t.field(stringTable, f.NameStrindex()))
		f.SetSystemNameStrindex(t.field(stringTable, f.SystemNameStrindex()))
		f.SetFilenameStrindex(t.field(stringTable, f.FilenameStrindex()))
	}
	for _, i := range t.added[mappingTable] {
		m := dst.MappingTable().AppendEmpty()
		take(t.src.MappingTable().At(int(i)), m, move)
		m.SetFilenameStrindex(t.field(stringTable, m.FilenameStrindex()))
		t.list(attributeTable, m.AttributeIndices())
	}
	for _, i := range t.added[locationTable] {
		l := dst.LocationTable().AppendEmpty()
		take(t.src.LocationTable().At(int(i)), l, move)
		l.SetMappingIndex(t.field(mappingTable, l.MappingIndex()))
		t.list(attributeTable, l.AttributeIndices())
		for n := range l.Lines().Len() {
			line := l.Lines().At(n)
			line.SetFunctionIndex(t.field(functionTable, line.FunctionIndex()))
		}
	}
	for _, i := range t.added[stackTable] {
		s := dst.StackTable().AppendEmpty()
		take(t.src.StackTable().At(int(i)), s, move)
		t.list(locationTable, s.LocationIndices())
	}
	for _, i := range t.added[attributeTable] {
		a := dst.AttributeTable().AppendEmpty()
		take(t.src.AttributeTable().At(int(i)), a, move)
		a.SetKeyStrindex(t.field(stringTable, a.KeyStrindex()))
		a.SetUnitStrindex(t.field(stringTable, a.UnitStrindex()))
	}
	for _, i := range t.added[linkTable] {
		t.src.LinkTable().At(int(i)).CopyTo(dst.LinkTable().AppendEmpty())
	}
	if t.index != nil {
		t.index.count(dst)
	}
}

// take copies or moves an entry.
func take[E interface {
	CopyTo(E)
	MoveTo(E)
}](src, dst E, move bool) {
	if move {
		src.MoveTo(dst)
	} else {
		src.CopyTo(dst)
	}
}

// list renumbers the indices of a list.
func (t *transfer) list(k table, l pcommon.Int32Slice) {
	for n := range l.Len() {
		l.SetAt(n, t.listed(k, l.At(n)))
	}
}

// profile renumbers the indices of a profile.
func (t *transfer) profile(p pprofile.Profile) {
	for _, v := range [...]pprofile.ValueType{p.SampleType(), p.PeriodType()} {
		v.SetTypeStrindex(t.field(stringTable, v.TypeStrindex()))
		v.SetUnitStrindex(t.field(stringTable, v.UnitStrindex()))
	}
	t.list(attributeTable, p.AttributeIndices())
	samples := p.Samples()
	for n := range samples.Len() {
		s := samples.At(n)
		s.SetStackIndex(t.field(stackTable, s.StackIndex()))
		s.SetLinkIndex(t.field(linkTable, s.LinkIndex()))
		t.list(attributeTable, s.AttributeIndices())
	}
}

func makeRoom(d pprofile.ProfilesDictionary, k table, n int) {
	switch k {
	case stringTable:
		d.StringTable().EnsureCapacity(n)
	case functionTable:
		d.FunctionTable().EnsureCapacity(n)
	case mappingTable:
		d.MappingTable().EnsureCapacity(n)
	case locationTable:
		d.LocationTable().EnsureCapacity(n)
	case stackTable:
		d.StackTable().EnsureCapacity(n)
	case attributeTable:
		d.AttributeTable().EnsureCapacity(n)
	default:
		d.LinkTable().EnsureCapacity(n)
	}
}

func appendEmptyEntry(d pprofile.ProfilesDictionary, k table) {
	switch k {
	case stringTable:
		d.StringTable().Append("")
	case functionTable:
		d.FunctionTable().AppendEmpty()
	case mappingTable:
		d.MappingTable().AppendEmpty()
	case locationTable:
		d.LocationTable().AppendEmpty()
	case stackTable:
		d.StackTable().AppendEmpty()
	case attributeTable:
		d.AttributeTable().AppendEmpty()
	default:
		d.LinkTable().AppendEmpty()
	}
}
