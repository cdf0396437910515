package batcher

import (
	"math"
	"math/bits"
	"slices"
	"sync"
)

// Size is what data weighs against the limits.
type Size struct {
	Items int
	// Bytes is the size in OTLP's binary encoding; only meaningful where a limit needs it.
	Bytes int
	// Heap is the estimated number of bytes of memory; 0 where no limit needs it.
	Heap int
}

func (s Size) plus(o Size) Size { return Size{s.Items + o.Items, s.Bytes + o.Bytes, s.Heap + o.Heap} }

func (s Size) minus(o Size) Size {
	return Size{s.Items - o.Items, s.Bytes - o.Bytes, s.Heap - o.Heap}
}

// least is the smaller of two sizes in each respect.
func (s Size) least(o Size) Size {
	return Size{min(s.Items, o.Items), min(s.Bytes, o.Bytes), min(s.Heap, o.Heap)}
}

// within tells whether s exceeds room in no respect.
func (s Size) within(room Size) bool {
	return s.Items <= room.Items && s.Bytes <= room.Bytes && s.Heap <= room.Heap
}

// entry is the size of an element of that content as an entry of the list it is in: with
// its tag, which takes one byte everywhere in OTLP, and its length.
func (s Size) entry() Size {
	s.Bytes = entrySize(s.Bytes)
	return s
}

// entrySize is the same for a number of bytes.
func entrySize(content int) int { return 1 + varint(content) + content }

// varint is the number of bytes in which Protocol Buffers encode a length.
func varint(n int) int { return (bits.Len(uint(n)|1) + 6) / 7 }

// content is the most bytes that an element may have whose entry must fit into that many;
// negative if there is no room for the smallest one.
func content(entry int) int {
	for length := 1; ; length++ {
		if n := entry - 1 - length; n < 0 || varint(n) <= length {
			return n
		}
	}
}

// frame is what an element with children has besides them. When it is cut, each part of it
// has a copy.
type frame struct {
	bytes int // encoded without children
	heap  int // charged once, to whoever takes the last child
	// inner is the encoded size, without children, of a message between the element and its
	// children, as a metric has one that tells its type. Its length changes with what is in
	// it. Negative: there is none.
	inner int
}

// around is the size of the element with children of that size.
func (f frame) around(children Size) Size {
	all := Size{children.Items, f.bytes + children.Bytes, f.heap + children.Heap}
	if f.inner >= 0 {
		all.Bytes += varint(f.inner+children.Bytes) - varint(f.inner)
	}
	return all
}

// inside is the most that the children may have if the entry of the element is to fit into
// room; negative if not even the frame fits.
func (f frame) inside(room Size) Size {
	room.Bytes = content(room.Bytes) - f.bytes
	room.Heap -= f.heap
	if f.inner < 0 {
		return room
	}
	for length := 1; ; length++ {
		if n := room.Bytes + varint(f.inner) - length; n < 0 || varint(f.inner+n) <= length {
			room.Bytes = n
			return room
		}
	}
}

// Sizes are the sizes of everything in one request, measured in one walk from front to
// back. A request that is cut is cut by them, so that no item is measured again.
type Sizes struct {
	bytes, heap bool // what is measured
	copies      int  // how often the data lies in memory

	total    Size      // of the entries of the outermost level
	outer    int       // heap of what they are in
	items    []weight  // one for each item
	elements []element // one for each element that has children, parents first
	heaviest int       // most heap of an item with all frames around it
	widest   int       // most heap that is copied where the frames around one item are cut
	inPieces int       // most heap of all pieces together; 0: see widest

	// While measuring:
	parents [3]int // the elements that are open
	copied  [3]int // heap of each that is copied when it is cut
	depth   int    // how many
	frames  int    // heap of their frames
}

// weight is one item's.
type weight struct{ bytes, heap int }

func (w weight) size() Size { return Size{1, w.bytes, w.heap} }

// element is one that has children.
type element struct {
	frame
	children Size // of their entries
	first    int  // index in items of the first item in it
	next     int  // index in elements of the first one that is not in it
}

func (e *element) size() Size { return e.around(e.children) }

// reset empties z for another request.
func (z *Sizes) reset(bytes, heap bool, copies int) {
	*z = Sizes{bytes: bytes, heap: heap, copies: copies, items: z.items[:0], elements: z.elements[:0]}
}

// begin begins a request with so many entries of the outermost level.
func (z *Sizes) begin(entries int) {
	if z.heap {
		z.outer = z.copies * requestFootprint(entries)
	}
}

// all is the size of the request.
func (z *Sizes) all() Size {
	size := z.total
	size.Heap += z.outer
	return size
}

// open begins an element that has children. It is to be closed after them. Of its frame so
// many bytes are copied when it is cut.
func (z *Sizes) open(f frame, copied int) {
	f.heap *= z.copies
	z.frames += f.heap
	z.copied[z.depth] = copied * z.copies
	z.parents[z.depth] = len(z.elements)
	z.depth++
	z.elements = append(z.elements, element{})
	e := &z.elements[len(z.elements)-1] // field by field: a whole element would be made on the stack and copied
	e.bytes, e.heap, e.inner, e.first = f.bytes, f.heap, f.inner, len(z.items)
}

// close ends the element that was opened last, and counts it for the one that it is in.
func (z *Sizes) close() {
	z.depth--
	z.copied[z.depth] = 0
	e := &z.elements[z.parents[z.depth]]
	e.next = len(z.elements)
	size := e.size()
	if z.frames -= e.heap; size.Items == 0 {
		z.heaviest = max(z.heaviest, z.frames+size.Heap)
	}
	in := &z.total
	if z.depth > 0 {
		in = &z.elements[z.parents[z.depth-1]].children
	}
	in.Items += size.Items
	in.Bytes += entrySize(size.Bytes)
	in.Heap += size.Heap
}

// list measures the items in the element that was opened last, of which there are n. There is
// nothing else in it.
func (z *Sizes) list(n int, bytes, heap func(i int) int) {
	first := len(z.items)
	z.items = slices.Grow(z.items, n)[:first+n]
	sum, most := Size{Items: n}, 0
	for i := range n {
		var w weight
		if z.bytes {
			w.bytes = bytes(i)
		}
		if z.heap {
			w.heap = heap(i) * z.copies
			most = max(most, w.heap)
		}
		z.items[first+i] = w
		sum.Bytes += entrySize(w.bytes) // as the cutter will count it, whether bytes are measured or not
		sum.Heap += w.heap
	}
	z.elements[z.parents[z.depth-1]].children = sum
	if n > 0 {
		z.heaviest = max(z.heaviest, z.frames+most)
		z.widest = max(z.widest, z.copied[0]+z.copied[1]+z.copied[2])
	}
}

// keep makes z the sizes of what is left of a request, of whose elements o have been taken in part.
func (z *Sizes) keep(o *border, left Size) {
	item := o.item
	if item < 0 {
		item = len(z.items)
		if o.next < len(z.elements) {
			item = z.elements[o.next].first
		}
	}
	z.items = z.items[:copy(z.items, z.items[item:])]
	gone := o.next - o.depth // elements
	for i, mark := range o.marks[:o.depth] {
		e := z.elements[mark]
		e.children, e.first, e.next = o.left[i], 0, e.next-gone
		z.elements[i] = e
	}
	z.elements = z.elements[:o.depth+copy(z.elements[o.depth:], z.elements[o.next:])]
	for i := range z.elements[o.depth:] {
		e := &z.elements[o.depth+i]
		e.first, e.next = e.first-item, e.next-gone
	}
	z.total = left
}

// unlimited is more than anything has.
var unlimited = Size{math.MaxInt, math.MaxInt, math.MaxInt}

// likelyCut tells whether a request of so many items is likely enough to be cut that everything
// in it is measured by itself at once. That takes a tenth longer, more or less, than to measure
// the whole, so it pays where a request is a tenth of a batch and one in ten is cut. That it has as
// many bytes for each item as others had is a guess. A request of which this was not foreseen is measured again if
// it is cut.
func (b *Batcher[T]) likelyCut(items int) bool {
	const share, large = 10, 500
	return items >= min(large, b.limit.Items/share) || int64(items)*b.itemBytes.Load() >= int64(b.limit.Bytes/share)
}

// firstItemBytes is what an item is taken to have before any was measured.
const firstItemBytes = 500

// noteItemBytes makes the guess better. It is about the most that the items of a request had lately: one that
// is too large makes requests be measured item by item that are not cut, and one that is too small makes a request
// be measured twice.
func (b *Batcher[T]) noteItemBytes(size Size) {
	const decay = 64 // requests, roughly
	if !b.weighsBytes {
		return
	}
	guess, is := b.itemBytes.Load(), int64((size.Bytes+size.Items-1)/size.Items)
	switch {
	case is > guess:
		b.itemBytes.Store(is)
	case is < guess/2:
		b.itemBytes.Store(guess - (guess-is+decay-1)/decay)
	}
}

var sizesPool = sync.Pool{New: func() any { return new(Sizes) }}

// free gives z back to be used for another request. Nil is no sizes.
func (z *Sizes) free() {
	if z != nil {
		sizesPool.Put(z)
	}
}

// weighs tells whether requests are measured.
func (b *Batcher[T]) weighs() bool { return b.weighsBytes || b.weighsHeap }

// measure returns the size of a request as far as limits need it, and the sizes of what is in
// it if it is likely to be cut, which are to be freed.
func (b *Batcher[T]) measure(data T) (size Size, z *Sizes) {
	if size.Items = b.signal.Items(data); b.weighs() && size.Items > 0 {
		return b.weigh(data, size)
	}
	return size, nil
}

// weigh is measure of what has that many items, where a limit needs more.
func (b *Batcher[T]) weigh(data T, size Size) (_ Size, z *Sizes) {
	if b.sharesBytes() {
		b.sharing.normalize(data)
	}
	if b.sharing != nil || !b.likelyCut(size.Items) {
		if b.weighsBytes {
			size.Bytes = b.joining(data)
		}
		if b.weighsHeap {
			size.Heap = b.signal.Heap(data) * b.heapCopies
		}
		b.noteItemBytes(size)
		if size.within(b.limit) && b.budget.holds(size) {
			return size, nil
		}
	}
	z = b.sizes(data, size.Items)
	size = z.all()
	b.noteItemBytes(size)
	// What is cut in two is copied, once for each batch that it will be in.
	batches := max((size.Items-1)/b.limit.Items, (size.Bytes-1)/b.limit.Bytes)
	size.Heap = max(size.Heap+batches*z.widest, z.inPieces)
	if b.sharesBytes() {
		size.Bytes = b.joining(data)
	}
	return size, z
}

// sharesBytes tells whether bytes are limited of data whose sizes do not add up. Then the size of
// a request, and of what is left of one, is more than it has: as much as it may add to a batch.
func (b *Batcher[T]) sharesBytes() bool { return b.sharing != nil && b.weighsBytes }

// joining is the most bytes that data adds to a batch.
func (b *Batcher[T]) joining(data T) int {
	if b.sharing == nil {
		return b.signal.Bytes(data)
	}
	return b.sharing.bound(data, b.limit.Bytes)
}

// sizesToCut returns z, if that is set, or measures data if a limit needs it.
func (b *Batcher[T]) sizesToCut(data T, z *Sizes) *Sizes {
	if z != nil || !b.weighs() {
		return z
	}
	return b.sizes(data, 0)
}

// sizes measures everything in data, which has at least so many items.
func (b *Batcher[T]) sizes(data T, items int) *Sizes {
	z := sizesPool.Get().(*Sizes)
	z.reset(b.weighsBytes, b.weighsHeap, b.heapCopies)
	z.items = slices.Grow(z.items, items)
	b.signal.Measure(data, z)
	return z
}

// movable is what slices of pdata have in common that can be put aside.
type movable[S any] interface {
	Len() int
	MoveAndAppendTo(S)
}

// measureFrame measures an element without its children, which are put aside meanwhile. It
// returns what to open the element with.
func measureFrame[E any, S movable[S]](z *Sizes, e E, children, aside S, bytes, heap func(E) int) (f frame, copied int) {
	f.inner = -1
	if z.heap {
		f.heap = heap(e)
		copied = f.heap - pointers.of(children.Len()) // each part has the slots of its own children
	}
	if z.bytes {
		children.MoveAndAppendTo(aside)
		f.bytes = bytes(e)
		aside.MoveAndAppendTo(children)
	}
	return f, copied
}
