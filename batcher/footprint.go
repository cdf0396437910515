package batcher

import (
	"math/bits"
	"reflect"
	"sync"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/xpdata/entity"
)

// The footprint of data is the number of bytes of heap that it holds: every struct, slice, string,
// map and union that Go has allocated for it, each rounded up as the allocator does. It is an
// estimate in three ways:
//
//   - The public API does not tell the capacity of slices. It is taken to be what decoding leaves
//     behind, which appends one element at a time. A copy has tighter slices, and what
//     EnsureCapacity has reserved is not seen.
//   - Every string is taken to have memory of its own, as after decoding. In data made in a
//     program many strings may share theirs, or be constants.
//   - Objects of less than 16 bytes share blocks with those allocated before and after them. The
//     footprint of an item does not know its neighbours.
//
// The functions read their data and allocate nothing. The footprint of an item is without its
// slot in the slice of its parent. That of a container has the slots of its children, but not
// the children. So the footprints of the parts of a request add up to its own.

// meter adds up one item or container. The zero value has seen nothing.
type meter struct {
	bytes int   // all blocks
	tiny  uint8 // bytes in use of the open block for tiny objects; 0: none is open
}

// newMeter returns a meter that has seen a block of so many bytes. It sees to it that there are
// tables of the allocator's sizes.
func newMeter(block int) meter {
	asked.Do(askAllocator)
	return meter{bytes: block}
}

// total is the sum. Half of the open block is left to the next item, if it is free.
func (m *meter) total() int {
	if 0 < m.tiny && m.tiny <= tinyBlock/2 {
		return m.bytes - tinyBlock/2
	}
	return m.bytes
}

// text adds what a string points to.
func (m *meter) text(s string) {
	if len(s) >= len(steps[0]) {
		m.bytes += blockFor(len(s))
		return
	}
	m.step(len(s))
}

// step adds an object without pointers. Requires that it is shorter than a row of steps.
func (m *meter) step(bytes int) {
	s := steps[m.tiny%tinyBlock][bytes]
	m.bytes += int(s.bytes)
	m.tiny = s.tiny
}

// word adds an object of eight bytes without pointers, such as a number in a union.
func (m *meter) word() { m.step(8) }

// flag adds an object of one byte. It fits wherever a block is open.
func (m *meter) flag() {
	if m.tiny == 0 {
		m.bytes += tinyBlock
	}
	m.tiny = (m.tiny + 1) % tinyBlock
}

// array adds an array without pointers that has been made for exactly so many bytes.
func (m *meter) array(bytes int) {
	if bytes < len(steps[0]) {
		m.step(bytes)
		return
	}
	m.bytes += blockFor(bytes)
}

// attributes adds what a map holds: its slice of pairs and all in it.
func (m *meter) attributes(a pcommon.Map) {
	if a.Len() > 0 {
		m.pairs(a)
	}
}

func (m *meter) pairs(a pcommon.Map) {
	m.bytes += keyValues.of(a.Len())
	for k, v := range a.All() {
		m.text(k)
		m.value(v)
	}
}

// value adds what a value points to. The value itself lies in what holds it.
func (m *meter) value(v pcommon.Value) {
	if s := v.Str(); s != "" { // most values are, and to ask for the type takes longer
		m.bytes += stringBlock
		m.text(s)
		return
	}
	switch v.Type() {
	case pcommon.ValueTypeStr:
		m.bytes += stringBlock
	case pcommon.ValueTypeInt, pcommon.ValueTypeDouble:
		m.word()
	case pcommon.ValueTypeBool:
		m.flag()
	case pcommon.ValueTypeMap:
		m.bytes += pointerBlock + sliceBlock
		m.attributes(v.Map())
	case pcommon.ValueTypeSlice:
		m.bytes += pointerBlock + sliceBlock
		s := v.Slice()
		m.bytes += values.of(s.Len())
		for i := range s.Len() {
			m.value(s.At(i))
		}
	case pcommon.ValueTypeBytes:
		m.bytes += sliceBlock
		m.array(v.Bytes().Len())
	case pcommon.ValueTypeEmpty:
	}
}

// resource adds what a resource points to.
func (m *meter) resource(r pcommon.Resource) {
	m.attributes(r.Attributes())
	m.entities(r)
}

// entities adds the references of a resource to entities.
func (m *meter) entities(r pcommon.Resource) {
	refs := entity.ResourceEntityRefs(r)
	m.bytes += pointers.of(refs.Len()) + refs.Len()*entityRefBlock
	for i := range refs.Len() {
		ref := refs.At(i)
		m.text(ref.SchemaUrl())
		m.text(ref.Type())
		m.texts(ref.IdKeys())
		m.texts(ref.DescriptionKeys())
	}
}

// scope adds what a scope points to.
func (m *meter) scope(s pcommon.InstrumentationScope) {
	m.text(s.Name())
	m.text(s.Version())
	m.attributes(s.Attributes())
}

// texts adds what a slice of strings points to.
func (m *meter) texts(s pcommon.StringSlice) {
	m.bytes += values.of(s.Len()) // a string is as large as a value
	for i := range s.Len() {
		m.text(s.At(i))
	}
}

// partitionFootprint is what a partition takes besides its items while it holds any: its key of so many bytes, what
// downstream sees of that, and the batch that is open, sealed or under way. A test holds it against the heap.
func partitionFootprint(key, values, keys int) int {
	m := newMeter(partitionBlock)
	m.array(key)
	m.array(values * 2 * wordBytes)
	return m.total() + keys*metadataBlock
}

const (
	partitionBlock  = 1264 // bytes of all structs, and of maps as they are on average
	metadataBlock   = 80   // of each key of metadata
	dictionaryBlock = 600  // of the index of a dictionary with next to nothing in it
)

// pdata's structs cannot be named here. Their sizes are those of structs with the same kinds of
// fields, and a test compares them.
var (
	pointerBlock   = blockOf[*byte]()
	stringBlock    = blockOf[string]()
	sliceBlock     = blockOf[[]byte]()
	entityRefBlock = blockOf[entityRefFields]()
)

type (
	keyValueFields struct {
		_ valueFields
		_ string
		_ int32
	}
	valueFields    struct{ _ any }
	resourceFields struct {
		_, _ []byte
		_    uint32
	}
	scopeFields struct {
		_, _ string
		_    []byte
		_    uint32
	}
	entityRefFields struct {
		_, _ string
		_, _ []byte
	}
	// requestFields is what a request of any signal is: a slice.
	requestFields struct{ _ []byte }
	// containerFields is an entry of the outermost level, of any signal.
	containerFields struct {
		_    resourceFields
		_    string
		_, _ []byte
	}
	// scopedFields is what is below it.
	scopedFields struct {
		_ string
		_ []byte
		_ scopeFields
	}
)

var (
	requestBlock   = blockOf[requestFields]()
	containerBlock = blockOf[containerFields]()
	scopedBlock    = blockOf[scopedFields]()
)

// requestFootprint is the footprint of a request without its entries: its slots, and the count of references.
func requestFootprint(entries int) int {
	m := newMeter(requestBlock)
	m.bytes += pointers.of(entries)
	m.word()
	return m.total()
}

// containerFootprint is the footprint of an entry of the outermost level without what is below it.
func containerFootprint(r pcommon.Resource, schemaURL string, children int) int {
	m := newMeter(containerBlock)
	m.bytes += pointers.of(children)
	m.resource(r)
	m.text(schemaURL)
	return m.total()
}

// scopedFootprint is the footprint of a scope's entry without its spans, log records or metrics.
func scopedFootprint(s pcommon.InstrumentationScope, schemaURL string, children int) int {
	m := newMeter(scopedBlock)
	m.bytes += pointers.of(children)
	m.scope(s)
	m.text(schemaURL)
	return m.total()
}

// Go's allocator hands out blocks of certain sizes. Which ones is its own affair: it is asked, by
// what capacity append leaves, the first time that anything is measured.
const (
	tinyBlock   = 16       // objects without pointers that are smaller share blocks of this size
	finely      = 1024     // up to here block sizes are multiples of 8, then of 128
	largestSize = 32 << 10 // what is larger gets whole pages

	wordBytes   = bits.UintSize / 8
	headerBytes = 8                         // lie before an object with pointers that is
	headerAbove = wordBytes * bits.UintSize // larger than what one word has a bit for each word of
)

var (
	asked sync.Once

	fineBlocks   [finely/8 + 1]uint16
	coarseBlocks [(largestSize-finely)/128 + 1]uint16
	pageBytes    int

	// steps tells, by the bytes in use of the open block for tiny objects and by the size of
	// an object without pointers, what that object adds. Larger ones are there as well, so that the
	// lengths of keys, which lie on both sides of 16, do not become a branch.
	steps [tinyBlock][64]step

	keyValues, values, exemplars, pointers, counts growth
)

type step struct{ bytes, tiny uint8 }

func askAllocator() {
	size := 0
	for n := range largestSize + 1 {
		if n > size {
			size = roomFor[byte](n)
		}
		if n <= finely {
			fineBlocks[(n+7)/8] = uint16(size)
		} else {
			coarseBlocks[(n-finely+127)/128] = uint16(size)
		}
	}
	pageBytes = roomFor[byte](largestSize+1) - largestSize

	for tiny := range steps {
		for n := range steps[tiny] {
			steps[tiny][n] = takeStep(tiny, n)
		}
	}

	keyValues = growthOf[keyValueFields]()
	values = growthOf[valueFields]()
	exemplars = growthOf[exemplarFields]()
	pointers = growthOf[*byte]()
	counts = growthOf[uint64]()
}

// extended appends so many elements. It is not inlined, because then append could find room for the
// first few of them on the stack of the caller.
//
//go:noinline
func extended[E any](s []E, elements int) []E { return append(s, make([]E, elements)...) }

// roomFor is the capacity of a slice that append makes for so many elements.
func roomFor[E any](elements int) int { return cap(extended[E](nil, elements)) }

func takeStep(tiny, n int) step {
	switch {
	case n < 2: // strings of one byte are all in a table
		return step{0, uint8(tiny)}
	case n >= tinyBlock:
		return step{uint8(blockFor(n)), uint8(tiny)}
	}
	at := tiny
	for n%2 == 0 && at%min(n&-n, 8) != 0 {
		at++
	}
	switch {
	case tiny > 0 && at+n <= tinyBlock:
		return step{0, uint8((at + n) % tinyBlock)}
	case tiny == 0 || n < tiny:
		return step{tinyBlock, uint8(n)}
	default: // the older block has more room left and stays the open one
		return step{tinyBlock, uint8(tiny)}
	}
}

// blockFor is the block that an object without pointers gets.
func blockFor(bytes int) int {
	if bytes <= finely {
		return int(fineBlocks[(bytes+7)/8])
	}
	return coarseBlockFor(bytes)
}

func coarseBlockFor(bytes int) int {
	if bytes <= largestSize {
		return int(coarseBlocks[(bytes-finely+127)/128])
	}
	return (bytes + pageBytes - 1) / pageBytes * pageBytes
}

// blockOf is the block of a struct with pointers. It needs no tables.
func blockOf[E any]() int {
	words := int(reflect.TypeFor[E]().Size()) / wordBytes
	return roomFor[byte](roomFor[*byte](words) * wordBytes) // the second time with the header, if there is one
}

// growth is how the slice of one kind of elements grows when they are appended one by one.
type growth struct {
	few      [129]uint16 // the block, by the number of elements
	capacity int         // after the last of them
	size     int         // bytes of an element
	header   int         // headerBytes if elements have pointers
}

func growthOf[E any]() growth {
	g := growth{size: int(reflect.TypeFor[E]().Size())}
	if reflect.TypeFor[E]().Kind() != reflect.Uint64 {
		g.header = headerBytes
	}
	var s []E
	for n := range g.few {
		if n > cap(s) {
			s = extended(s[:cap(s)], 1)
		}
		g.few[n] = uint16(g.block(cap(s)))
	}
	g.capacity = cap(s)
	return g
}

// of is the block of a slice to which so many elements have been appended.
func (g *growth) of(elements int) int {
	if elements < len(g.few) {
		return int(g.few[elements])
	}
	return g.ofMany(elements)
}

// ofMany repeats how append grows: twice the capacity while it is below 256, a quarter and 192 more
// from there on, and what the block has room for.
func (g *growth) ofMany(elements int) int {
	c := g.capacity
	for c < elements {
		if c < 256 {
			c *= 2
		} else {
			c += (c + 3*256) / 4
		}
		block := g.block(c)
		if header := g.headerIn(c); block <= largestSize {
			block -= header
		}
		c = block / g.size
	}
	return g.block(c)
}

// block is the block of an array of so many elements.
func (g *growth) block(capacity int) int {
	return blockFor(capacity*g.size + g.headerIn(capacity))
}

func (g *growth) headerIn(capacity int) int {
	if bytes := capacity * g.size; bytes <= headerAbove || bytes > largestSize-headerBytes {
		return 0
	}
	return g.header
}
