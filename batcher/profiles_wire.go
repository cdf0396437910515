package batcher

import (
	"math/bits"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pprofile"
	"go.opentelemetry.io/collector/pdata/xpdata/entity"
)

// The encoded size of profiles depends on where in the dictionary everything is. The functions
// here tell it for the indices that a renumbering gives, without changing any.

// table is one of the tables of a dictionary.
type table int

const (
	stringTable table = iota
	functionTable
	mappingTable
	locationTable
	stackTable
	attributeTable
	linkTable
	tables // how many there are
)

var tableNames = [tables]string{"string", "function", "mapping", "location", "stack", "attribute", "link"}

// emptyEntries are the sizes of the first entries of tables, which mean that something is unset,
// as entries of the dictionary.
var emptyEntries = [tables]int{2, 2, 2, 2, 2, 4, 6}

// renumbering gives indices in another dictionary for those in this one.
type renumbering interface {
	// field is for an index in a field of its own. In those 0 is what is unset, and stays 0.
	field(t table, i int32) int32
	// listed is for an index in a list, where 0 is an entry like all others.
	listed(t table, i int32) int32
}

// asTheyAre leaves the indices as they are.
type asTheyAre struct{}

func (asTheyAre) field(_ table, i int32) int32  { return i }
func (asTheyAre) listed(_ table, i int32) int32 { return i }

// atMost gives indices at least as large as those of any dictionary with so many entries in each
// table, and as those that there are.
type atMost struct {
	entries [tables]int32
	// filled are the tables whose first entry is not empty. In another dictionary that entry
	// is not the first one.
	filled [tables]bool
}

func (a *atMost) field(t table, i int32) int32 {
	if i <= 0 {
		return i
	}
	return max(i, a.entries[t])
}

func (a *atMost) listed(t table, i int32) int32 {
	if i == 0 && a.filled[t] {
		return max(1, a.entries[t])
	}
	return a.field(t, i)
}

// asEntry is the size of a message or string of that size with its tag and its length.
func asEntry(n int) int { return 1 + varint(n) + n }

// textField is the size of a field that is absent when it is empty.
func textField(n int) int {
	if n == 0 {
		return 0
	}
	return asEntry(n)
}

func varint64(n uint64) int { return (bits.Len64(n|1) + 6) / 7 }

// numberField is the size of a number that is absent when it is 0.
func numberField(n uint64) int {
	if n == 0 {
		return 0
	}
	return 1 + varint64(n)
}

// indexVarint is the size of an index. A negative one takes ten bytes.
func indexVarint(i int32) int { return varint64(uint64(int64(i))) }

func indexField(i int32) int { return numberField(uint64(int64(i))) }

// indexList is the size of a list of indices.
func indexList(l pcommon.Int32Slice, t table, r renumbering) int {
	n := 0
	for k := range l.Len() {
		n += indexVarint(r.listed(t, l.At(k)))
	}
	return textField(n)
}

// profileSize is the size of p.
func profileSize(p pprofile.Profile, r renumbering) int {
	n := asEntry(valueTypeSize(p.SampleType(), r)) + asEntry(valueTypeSize(p.PeriodType(), r))
	for k := range p.Samples().Len() {
		n += asEntry(sampleSize(p.Samples().At(k), r))
	}
	if p.Time() != 0 {
		n += 9
	}
	n += numberField(p.DurationNano()) + numberField(uint64(p.Period()))
	n += 2
	if id := p.ProfileID(); !id.IsEmpty() {
		n += len(id)
	}
	n += numberField(uint64(p.DroppedAttributesCount()))
	n += textField(len(p.OriginalPayloadFormat())) + textField(p.OriginalPayload().Len())
	return n + indexList(p.AttributeIndices(), attributeTable, r)
}

func valueTypeSize(v pprofile.ValueType, r renumbering) int {
	return indexField(r.field(stringTable, v.TypeStrindex())) + indexField(r.field(stringTable, v.UnitStrindex()))
}

func sampleSize(s pprofile.Sample, r renumbering) int {
	n := indexField(r.field(stackTable, s.StackIndex())) + indexField(r.field(linkTable, s.LinkIndex()))
	n += indexList(s.AttributeIndices(), attributeTable, r)
	values, l := s.Values(), 0
	for k := range values.Len() {
		l += varint64(uint64(values.At(k)))
	}
	return n + textField(l) + textField(8*s.TimestampsUnixNano().Len())
}

// tableLen is the number of entries in a table.
func tableLen(d pprofile.ProfilesDictionary, t table) int {
	switch t {
	case stringTable:
		return d.StringTable().Len()
	case functionTable:
		return d.FunctionTable().Len()
	case mappingTable:
		return d.MappingTable().Len()
	case locationTable:
		return d.LocationTable().Len()
	case stackTable:
		return d.StackTable().Len()
	case attributeTable:
		return d.AttributeTable().Len()
	default:
		return d.LinkTable().Len()
	}
}

// tableEntrySize is the size of an entry of a table.
func tableEntrySize(d pprofile.ProfilesDictionary, t table, i int, r renumbering) int {
	switch t {
	case stringTable:
		return len(d.StringTable().At(i))
	case functionTable:
		f := d.FunctionTable().At(i)
		return indexField(r.field(stringTable, f.NameStrindex())) + indexField(r.field(stringTable, f.SystemNameStrindex())) +
			indexField(r.field(stringTable, f.FilenameStrindex())) + numberField(uint64(f.StartLine()))
	case mappingTable:
		m := d.MappingTable().At(i)
		return numberField(m.MemoryStart()) + numberField(m.MemoryLimit()) + numberField(m.FileOffset()) +
			indexField(r.field(stringTable, m.FilenameStrindex())) + indexList(m.AttributeIndices(), attributeTable, r)
	case locationTable:
		return locationSize(d.LocationTable().At(i), r)
	case stackTable:
		return indexList(d.StackTable().At(i).LocationIndices(), locationTable, r)
	case attributeTable:
		a := d.AttributeTable().At(i)
		return indexField(r.field(stringTable, a.KeyStrindex())) + indexField(r.field(stringTable, a.UnitStrindex())) +
			asEntry(valueSize(a.Value()))
	default:
		l := d.LinkTable().At(i)
		n := 4
		if id := l.TraceID(); !id.IsEmpty() {
			n += len(id)
		}
		if id := l.SpanID(); !id.IsEmpty() {
			n += len(id)
		}
		return n
	}
}

func locationSize(l pprofile.Location, r renumbering) int {
	n := indexField(r.field(mappingTable, l.MappingIndex())) + numberField(l.Address())
	for k := range l.Lines().Len() {
		line := l.Lines().At(k)
		n += asEntry(indexField(r.field(functionTable, line.FunctionIndex())) +
			numberField(uint64(line.Line())) + numberField(uint64(line.Column())))
	}
	return n + indexList(l.AttributeIndices(), attributeTable, r)
}

// dictionarySize is the size of all tables.
func dictionarySize(d pprofile.ProfilesDictionary, r renumbering) (n int) {
	for t := range tables {
		for i := range tableLen(d, t) {
			n += asEntry(tableEntrySize(d, t, i, r))
		}
	}
	return n
}

// valueSize is the size of a value in the dictionary, where strings are in their place.
func valueSize(v pcommon.Value) int {
	switch v.Type() {
	case pcommon.ValueTypeStr:
		return asEntry(len(v.Str()))
	case pcommon.ValueTypeMap:
		n := 0
		for k, e := range v.Map().All() {
			n += asEntry(textField(len(k)) + asEntry(valueSize(e)))
		}
		return asEntry(n)
	case pcommon.ValueTypeSlice:
		n := 0
		for _, e := range v.Slice().All() {
			n += asEntry(valueSize(e))
		}
		return asEntry(n)
	default:
		return scalarSize(v)
	}
}

// scalarSize is the size of a value without strings in it.
func scalarSize(v pcommon.Value) int {
	switch v.Type() {
	case pcommon.ValueTypeBool:
		return 2
	case pcommon.ValueTypeInt:
		return 1 + varint64(uint64(v.Int()))
	case pcommon.ValueTypeDouble:
		return 9
	case pcommon.ValueTypeBytes:
		return asEntry(v.Bytes().Len())
	default:
		return 0
	}
}

// header tells the sizes of resources and scopes. Encoding them replaces the strings in
// their attributes by indices of the string table.
type header struct {
	names *headerNames
	renumbering
}

// resourceSize is the size of an entry of the outermost level without its scopes.
func (h header) resourceSize(rp pprofile.ResourceProfiles) int {
	r := rp.Resource()
	n := h.attributesSize(r.Attributes()) + numberField(uint64(r.DroppedAttributesCount()))
	refs := entity.ResourceEntityRefs(r)
	for k := range refs.Len() {
		ref := refs.At(k)
		n += asEntry(textField(len(ref.SchemaUrl())) + textField(len(ref.Type())) + textsSize(ref.IdKeys()) + textsSize(ref.DescriptionKeys()))
	}
	return asEntry(n) + textField(len(rp.SchemaUrl()))
}

// scopeSize is the size of a scope's entry without its profiles.
func (h header) scopeSize(sp pprofile.ScopeProfiles) int {
	s := sp.Scope()
	n := textField(len(s.Name())) + textField(len(s.Version())) + h.attributesSize(s.Attributes()) +
		numberField(uint64(s.DroppedAttributesCount()))
	return asEntry(n) + textField(len(sp.SchemaUrl()))
}

func textsSize(s pcommon.StringSlice) (n int) {
	for k := range s.Len() {
		n += asEntry(len(s.At(k)))
	}
	return n
}

func (h header) attributesSize(m pcommon.Map) (n int) {
	for k, v := range m.All() {
		key := 0
		if k != "" {
			key = indexField(h.field(stringTable, h.names.at[k]))
		}
		n += asEntry(key + asEntry(h.valueSize(v)))
	}
	return n
}

func (h header) valueSize(v pcommon.Value) int {
	switch v.Type() {
	case pcommon.ValueTypeStr:
		return 1 + indexVarint(h.field(stringTable, h.names.at[v.Str()]))
	case pcommon.ValueTypeMap:
		return asEntry(h.attributesSize(v.Map()))
	case pcommon.ValueTypeSlice:
		n := 0
		for _, e := range v.Slice().All() {
			n += asEntry(h.valueSize(e))
		}
		return asEntry(n)
	default:
		return scalarSize(v)
	}
}
