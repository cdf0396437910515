package batcher

import (
	"math"
	"math/bits"
	"slices"
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/xpdata/entity"
)

// When are two resources, scopes or maps the same? If they mean the same to whoever reads them: attributes may be in
// any order, but those that have one key must be in the same. Numbers are the same if their bits are, so that NaN is
// itself and 0 is not -0. Whatever is in doubt is not the same. pdata's own Equal differs in all of that, and takes
// {a, a} for the same as {a, b}.

// keyValue is an entry of a map.
type keyValue struct {
	key   string
	value pcommon.Value
}

// comparer finds out what is the same: first by signatures, which are cheap and equal for all that is the same, and then
// by looking at everything. It is not safe for concurrent use.
type comparer struct {
	// own are the attributes of what the last signature is of. They are compared with others.
	own []keyValue
	// stack are those of maps that are being compared.
	stack []keyValue
}

// forget lets go of the data that was compared.
func (c *comparer) forget() {
	clear(c.own[:cap(c.own)])
	clear(c.stack[:cap(c.stack)])
	c.own, c.stack = c.own[:0], c.stack[:0]
}

// signText is the signature of a text: of how long it is, and of its beginning, middle and end.
func signText(s string) uint64 {
	n := len(s)
	switch {
	case n >= 8:
		return mix(eight(s), mix(eight(s[n/2-4:]), eight(s[n-8:])+uint64(n)))
	case n > 0:
		return mix(uint64(s[0])<<16|uint64(s[n/2])<<8|uint64(s[n-1]), uint64(n))
	}
	return 0
}

// eight is the first eight bytes of s.
func eight(s string) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

// mix makes one signature of two numbers. Their order matters.
func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a^0x9e3779b97f4a7c15, b^0xd1b54a32d192ed03)
	return hi ^ lo
}

// signAttributes is the signature of a map whose entries are compared next. The order of entries does not matter.
func (c *comparer) signAttributes(m pcommon.Map) (sum uint64) {
	c.own = c.own[:0]
	for k, v := range m.All() {
		c.own = append(c.own, keyValue{k, v})
		sum += signEntry(k, v)
	}
	return sum
}

func signMap(m pcommon.Map) (sum uint64) {
	for k, v := range m.All() {
		sum += signEntry(k, v)
	}
	return sum
}

// signEntry hardly looks at the key: what differs mostly differs in a value. It looks at a byte of it, so that the key has
// come from memory, together with much else, when it is compared.
func signEntry(k string, v pcommon.Value) uint64 {
	sum := uint64(len(k))
	if k != "" {
		sum = sum<<8 | uint64(k[len(k)-1])
	}
	return mix(sum, signValue(v))
}

func signValue(v pcommon.Value) uint64 {
	if s := v.Str(); s != "" { // as most are; to ask for the type takes longer
		return signText(s)
	}
	switch v.Type() {
	case pcommon.ValueTypeStr:
		return 9
	case pcommon.ValueTypeInt:
		return mix(1, uint64(v.Int()))
	case pcommon.ValueTypeDouble:
		return mix(2, math.Float64bits(v.Double()))
	case pcommon.ValueTypeBool:
		if v.Bool() {
			return 3
		}
		return 4
	case pcommon.ValueTypeMap:
		return mix(5, signMap(v.Map()))
	case pcommon.ValueTypeSlice:
		sum := uint64(6)
		for _, e := range v.Slice().All() {
			sum = mix(sum, signValue(e))
		}
		return sum
	case pcommon.ValueTypeBytes:
		sum := uint64(7)
		for _, e := range v.Bytes().All() {
			sum = mix(sum, uint64(e))
		}
		return sum
	case pcommon.ValueTypeEmpty:
	}
	return 8
}

// signResource and signScope are signatures of what is compared by sameResource and sameScope next.
func (c *comparer) signResource(r pcommon.Resource, schema string) uint64 {
	sum := c.signAttributes(r.Attributes()) + signText(schema)
	return mix(sum, uint64(r.DroppedAttributesCount())<<32|uint64(entity.ResourceEntityRefs(r).Len()))
}

func (c *comparer) signScope(s pcommon.InstrumentationScope, schema string) uint64 {
	sum := c.signAttributes(s.Attributes()) + signText(schema)
	return mix(sum, mix(signText(s.Name()), signText(s.Version()))+uint64(s.DroppedAttributesCount()))
}

// sameResource tells whether a is the same as b, whose signature is the last one.
func (c *comparer) sameResource(a, b pcommon.Resource) bool {
	return a.DroppedAttributesCount() == b.DroppedAttributesCount() && c.sameAttributes(a.Attributes()) &&
		sameEntities(entity.ResourceEntityRefs(a), entity.ResourceEntityRefs(b))
}

// sameScope is the same for scopes.
func (c *comparer) sameScope(a, b pcommon.InstrumentationScope) bool {
	return a.Name() == b.Name() && a.Version() == b.Version() &&
		a.DroppedAttributesCount() == b.DroppedAttributesCount() && c.sameAttributes(a.Attributes())
}

func sameEntities(a, b entity.EntityRefSlice) bool {
	if a.Len() != b.Len() {
		return false
	}
	for i := range a.Len() {
		x, y := a.At(i), b.At(i)
		if x.Type() != y.Type() || x.SchemaUrl() != y.SchemaUrl() ||
			!x.IdKeys().Equal(y.IdKeys()) || !x.DescriptionKeys().Equal(y.DescriptionKeys()) {
			return false
		}
	}
	return true
}

// sameAttributes tells whether a map is the same as that whose signature is the last one.
func (c *comparer) sameAttributes(m pcommon.Map) bool { return c.sameMap(m, c.own) }

// sameMap tells whether a map is the same as one with those entries.
func (c *comparer) sameMap(m pcommon.Map, as []keyValue) bool {
	if m.Len() != len(as) {
		return false
	}
	i := 0
	for k, v := range m.All() {
		if k != as[i].key {
			return c.sameInAnyOrder(m, as)
		}
		if !c.sameValue(v, as[i].value) { // the keys before are the same, so this is the same occurrence of it
			return false
		}
		i++
	}
	return true
}

// sameInAnyOrder is sameMap for maps of equal length in which the keys are not in the same order.
func (c *comparer) sameInAnyOrder(m pcommon.Map, as []keyValue) bool {
	if len(as) > bits.UintSize {
		return c.sameSorted(m, as)
	}
	left := ^uint(0) >> (bits.UintSize - len(as)) // a bit for each entry that nothing was found to be the same as
	for k, v := range m.All() {
		i := find(as, left, k)
		if i < 0 || !c.sameValue(v, as[i].value) {
			return false
		}
		left &^= 1 << i
	}
	return true
}

// find is the index of the first of those that are left that has a key; -1: none has.
func find(as []keyValue, left uint, key string) int {
	for ; left != 0; left &= left - 1 {
		if i := bits.TrailingZeros(left); as[i].key == key {
			return i
		}
	}
	return -1
}

// sameSorted is sameInAnyOrder for large maps: its time does not grow with the square of their length.
func (c *comparer) sameSorted(m pcommon.Map, as []keyValue) bool {
	base := len(c.stack)
	defer func() { c.stack = c.stack[:base] }()
	c.push(m)
	c.stack = append(c.stack, as...)
	xs, ys := c.stack[base:base+len(as)], c.stack[base+len(as):]
	sortByKey(xs)
	sortByKey(ys)
	for i := range xs {
		if xs[i].key != ys[i].key || !c.sameValue(xs[i].value, ys[i].value) {
			return false
		}
	}
	return true
}

// push puts the entries of a map on the stack.
func (c *comparer) push(m pcommon.Map) {
	for k, v := range m.All() {
		c.stack = append(c.stack, keyValue{k, v})
	}
}

// sortByKey keeps entries with one key in their order.
func sortByKey(as []keyValue) {
	slices.SortStableFunc(as, func(a, b keyValue) int { return strings.Compare(a.key, b.key) })
}

func (c *comparer) sameValue(a, b pcommon.Value) bool {
	if s := b.Str(); s != "" && s == a.Str() { // as most are; to ask for the type takes longer
		return true
	}
	t := a.Type()
	if t != b.Type() {
		return false
	}
	switch t {
	case pcommon.ValueTypeStr:
		return a.Str() == b.Str()
	case pcommon.ValueTypeInt:
		return a.Int() == b.Int()
	case pcommon.ValueTypeDouble:
		return math.Float64bits(a.Double()) == math.Float64bits(b.Double())
	case pcommon.ValueTypeBool:
		return a.Bool() == b.Bool()
	case pcommon.ValueTypeMap:
		base := len(c.stack)
		c.push(b.Map())
		same := c.sameMap(a.Map(), c.stack[base:])
		c.stack = c.stack[:base]
		return same
	case pcommon.ValueTypeSlice:
		return c.sameSlice(a.Slice(), b.Slice())
	case pcommon.ValueTypeBytes:
		return a.Bytes().Equal(b.Bytes())
	case pcommon.ValueTypeEmpty:
		return true
	}
	return false
}

func (c *comparer) sameSlice(a, b pcommon.Slice) bool {
	if a.Len() != b.Len() {
		return false
	}
	for i := range a.Len() {
		if !c.sameValue(a.At(i), b.At(i)) {
			return false
		}
	}
	return true
}
