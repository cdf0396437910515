package batcher

import (
	"encoding/binary"
	"math"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pprofile"
)

// dictionaryIndex finds the entries of a dictionary by what is in them.
type dictionaryIndex struct {
	strings map[string]int32
	others  [tables]map[string]int32 // by their keys; none of strings
	texts   map[textAttribute]int32  // attributes whose value is a string, which can be long
	lens    [tables]int
	key     []byte // to be used again
}

// textAttribute is an attribute whose value is a string. Its key is none of appendEntryKey's, so that
// there is no copy of the string.
type textAttribute struct {
	key, unit int32
	value     string
}

// textAttributeOf returns entry i of table k in the other dictionary, if it is one.
func textAttributeOf(d pprofile.ProfilesDictionary, k table, i int, r renumbering) (textAttribute, bool) {
	if k != attributeTable {
		return textAttribute{}, false
	}
	a := d.AttributeTable().At(i)
	if a.Value().Type() != pcommon.ValueTypeStr {
		return textAttribute{}, false
	}
	return textAttribute{r.field(stringTable, a.KeyStrindex()), r.field(stringTable, a.UnitStrindex()), a.Value().Str()}, true
}

// find returns the index of an entry of table k in the other dictionary. If there is none like it, it
// will be at next.
func (x *dictionaryIndex) find(d pprofile.ProfilesDictionary, k table, i int, r renumbering, next int32) int32 {
	if text, is := textAttributeOf(d, k, i, r); is {
		return findOrAdd(x.texts, text, next)
	}
	x.key = appendEntryKey(x.key[:0], d, k, i, r)
	if known, ok := x.others[k][string(x.key)]; ok { // without a copy
		return known
	}
	x.others[k][string(x.key)] = next
	return next
}

// remove takes out an entry that find has added.
func (x *dictionaryIndex) remove(d pprofile.ProfilesDictionary, k table, i int, r renumbering) {
	if text, is := textAttributeOf(d, k, i, r); is {
		delete(x.texts, text)
		return
	}
	x.key = appendEntryKey(x.key[:0], d, k, i, r)
	delete(x.others[k], string(x.key))
}

func findOrAdd[K comparable](m map[K]int32, key K, next int32) int32 {
	if known, ok := m[key]; ok {
		return known
	}
	m[key] = next
	return next
}

// indexOf is the index of a dictionary. Among equal entries the first one counts, as it does
// when headers are encoded.
func indexOf(d pprofile.ProfilesDictionary) *dictionaryIndex {
	x := &dictionaryIndex{strings: make(map[string]int32, d.StringTable().Len()), texts: map[textAttribute]int32{}}
	for i := range d.StringTable().Len() {
		findOrAdd(x.strings, d.StringTable().At(i), int32(i))
	}
	for k := stringTable + 1; k < tables; k++ {
		n := tableLen(d, k)
		x.others[k] = make(map[string]int32, n)
		for i := range n {
			x.find(d, k, i, asTheyAre{}, int32(i))
		}
	}
	x.count(d)
	return x
}

// count notes how long the tables are.
func (x *dictionaryIndex) count(d pprofile.ProfilesDictionary) {
	for k := range tables {
		x.lens[k] = tableLen(d, k)
	}
}

// fresh tells whether the tables are as long as they were.
func (x *dictionaryIndex) fresh(d pprofile.ProfilesDictionary) bool {
	for k := range tables {
		if x.lens[k] != tableLen(d, k) {
			return false
		}
	}
	return true
}

// begun appends an empty entry to a table that has none.
func (x *dictionaryIndex) begun(d pprofile.ProfilesDictionary, k table) {
	appendEmptyEntry(d, k)
	x.lens[k] = 1
	if k == stringTable {
		x.strings[""] = 0
		return
	}
	x.find(d, k, 0, asTheyAre{}, 0)
}

// appendEntryKey appends what identifies an entry that is no string in the other dictionary: entries have
// the same key if and only if they are the same there.
func appendEntryKey(b []byte, d pprofile.ProfilesDictionary, k table, i int, r renumbering) []byte {
	put := func(n uint64) { b = binary.AppendUvarint(b, n) }
	field := func(k table, i int32) { put(uint64(uint32(r.field(k, i)))) }
	list := func(k table, l pcommon.Int32Slice) {
		put(uint64(l.Len()))
		for n := range l.Len() {
			put(uint64(uint32(r.listed(k, l.At(n)))))
		}
	}
	switch k {
	case functionTable:
		f := d.FunctionTable().At(i)
		field(stringTable, f.NameStrindex())
		field(stringTable, f.SystemNameStrindex())
		field(stringTable, f.FilenameStrindex())
		put(uint64(f.StartLine()))
	case mappingTable:
		m := d.MappingTable().At(i)
		put(m.MemoryStart())
		put(m.MemoryLimit())
		put(m.FileOffset())
		field(stringTable, m.FilenameStrindex())
		list(attributeTable, m.AttributeIndices())
	case locationTable:
		l := d.LocationTable().At(i)
		field(mappingTable, l.MappingIndex())
		put(l.Address())
		list(attributeTable, l.AttributeIndices())
		for n := range l.Lines().Len() {
			line := l.Lines().At(n)
			field(functionTable, line.FunctionIndex())
			put(uint64(line.Line()))
			put(uint64(line.Column()))
		}
	case stackTable:
		list(locationTable, d.StackTable().At(i).LocationIndices())
	case attributeTable:
		a := d.AttributeTable().At(i)
		field(stringTable, a.KeyStrindex())
		field(stringTable, a.UnitStrindex())
		b = appendValueKey(b, a.Value())
	default:
		l := d.LinkTable().At(i)
		trace, span := l.TraceID(), l.SpanID()
		b = append(append(b, trace[:]...), span[:]...)
	}
	return b
}

func appendValueKey(b []byte, v pcommon.Value) []byte {
	text := func(s string) { b = append(binary.AppendUvarint(b, uint64(len(s))), s...) }
	b = append(b, byte(v.Type()))
	switch v.Type() {
	case pcommon.ValueTypeStr:
		text(v.Str())
	case pcommon.ValueTypeBool:
		if v.Bool() {
			return append(b, 1)
		}
		return append(b, 0)
	case pcommon.ValueTypeInt:
		b = binary.AppendUvarint(b, uint64(v.Int()))
	case pcommon.ValueTypeDouble:
		b = binary.BigEndian.AppendUint64(b, math.Float64bits(v.Double()))
	case pcommon.ValueTypeBytes:
		b = binary.AppendUvarint(b, uint64(v.Bytes().Len()))
		for i := range v.Bytes().Len() {
			b = append(b, v.Bytes().At(i))
		}
	case pcommon.ValueTypeMap:
		b = binary.AppendUvarint(b, uint64(v.Map().Len()))
		for k, e := range v.Map().All() {
			text(k)
			b = appendValueKey(b, e)
		}
	case pcommon.ValueTypeSlice:
		b = binary.AppendUvarint(b, uint64(v.Slice().Len()))
		for _, e := range v.Slice().All() {
			b = appendValueKey(b, e)
		}
	case pcommon.ValueTypeEmpty:
	}
	return b
}
