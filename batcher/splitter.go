package batcher

// sequence is what the slices of pdata have in common.
type sequence[E any] interface {
	Len() int
	At(int) E
	AppendEmpty() E
	EnsureCapacity(int)
	RemoveIf(func(E) bool)
}

// level tells the cutter about the elements of one level of nesting, such as
// resources, scopes or spans.
type level[E any] struct {
	// items counts the items in the element; 1 for an item itself.
	items func(E) int
	// move moves the whole element and leaves src empty.
	move func(src, dst E)
	// copy copies an item to dst. Nil for elements that have children.
	copy func(src, dst E)
	// header copies to dst what both parts of an element that is cut in two must have: all but
	// its children. What was in dst before is overwritten. Nil for items, which are never cut.
	header func(src, dst E)
	// children opens what is inside the element. Nil for items.
	children func(E) inside[E]
}

// inside walks the children of one element of type E.
type inside[E any] interface {
	// begin tells the walk how much the children are and where in z the first one of them,
	// and the first item in them, is found. Without z only items are counted.
	begin(z *Sizes, children Size, element, item int)
	// left is the size of what is left.
	left() Size
	// next is the size of the first item that is left, or child without items, with all that
	// it lies in. Requires that any is left.
	next() Size
	// take moves what fits into room to the children of dst and returns its size. Requires
	// that next fits.
	take(dst E, room Size) Size
	// alone moves what next tells of to the children of dst.
	alone(dst E)
	// finish moves all that is left, children without items included.
	finish(dst E)
	// trim removes from the element what take left behind.
	trim()
	// border adds to o what is partly taken, the outermost first, and tells where the rest begins.
	border(o *border)
	// empty tells whether there are no children.
	empty() bool
	// pick copies what p picks of the children to those of dst, and tells whether that is
	// any. It only reads.
	pick(dst E, p *Picker) bool
}

// walker goes through a slice once, from front to back, however many pieces are
// taken from it.
type walker[E any] struct {
	level[E]
	src    sequence[E]
	sizes  *Sizes // of the request; nil: only items count
	at     int    // index in src of the first element that is not moved whole
	mark   int    // index in sizes of that element: in its items, or in its elements
	behind Size   // of the elements not begun

	open  inside[E] // set while the element at that index is partly taken
	frame frame     // of that element
}

func (w *walker[E]) begin(z *Sizes, children Size, element, item int) {
	w.sizes, w.behind, w.mark = z, children, element
	if w.children == nil {
		w.mark = item
	}
}

// size is the size of the element at w.at, which is not open, as an entry.
func (w *walker[E]) size() Size {
	switch {
	case w.sizes == nil:
		return Size{Items: w.items(w.src.At(w.at))}
	case w.children == nil:
		return w.sizes.items[w.mark].size().entry()
	}
	return w.sizes.elements[w.mark].size().entry()
}

// step goes on to the next element.
func (w *walker[E]) step() {
	w.at++
	if w.sizes == nil {
		return
	}
	if w.children == nil {
		w.mark++
	} else {
		w.mark = w.sizes.elements[w.mark].next
	}
}

// descend opens the element at w.at, whose size is that.
func (w *walker[E]) descend(size Size) {
	w.behind = w.behind.minus(size)
	w.open = w.children(w.src.At(w.at))
	if w.sizes == nil {
		w.frame = frame{inner: -1}
		w.open.begin(nil, size, 0, 0)
		return
	}
	e := &w.sizes.elements[w.mark]
	w.frame = e.frame
	w.open.begin(w.sizes, e.children, w.mark+1, e.first)
}

// leave closes the open element after all of it has been taken.
func (w *walker[E]) leave() {
	w.open = nil
	w.step()
}

// around is the size of the open element, or a part of it, as an entry.
func (w *walker[E]) around(children Size) Size {
	if w.sizes == nil {
		return children
	}
	return w.frame.around(children).entry()
}

// inside is what fits into the open element.
func (w *walker[E]) inside(room Size) Size {
	if w.sizes == nil {
		return room
	}
	return w.frame.inside(room)
}

func (w *walker[E]) left() Size {
	if w.open == nil {
		return w.behind
	}
	return w.behind.plus(w.around(w.open.left()))
}

func (w *walker[E]) next() Size {
	if w.open == nil {
		size := w.size()
		if size.Items == 0 || w.children == nil {
			return size
		}
		w.descend(size)
	}
	return w.around(w.open.next())
}

// take moves elements from src to dst as long as they fit, and with them the elements
// without items that lie between.
func (w *walker[E]) take(dst sequence[E], room Size) (taken Size) {
	if w.children == nil {
		return w.takeItems(dst, room)
	}
	for room.Items > 0 && w.at < w.src.Len() {
		e := w.src.At(w.at)
		if w.open == nil {
			size := w.size()
			if size.within(room) {
				w.move(e, dst.AppendEmpty())
				w.behind, room, taken = w.behind.minus(size), room.minus(size), taken.plus(size)
				w.step()
				continue
			}
			if size.Items == 0 {
				break
			}
			w.descend(size)
		}
		inside := w.inside(room)
		if !w.open.next().within(inside) {
			break
		}
		part := dst.AppendEmpty()
		w.header(e, part)
		if left := w.open.left(); left.within(inside) {
			w.open.finish(part)
			w.leave()
			size := w.around(left)
			room, taken = room.minus(size), taken.plus(size)
			continue
		}
		size := w.around(w.open.take(part, inside))
		size.Heap -= w.frame.heap // goes with the last child
		return taken.plus(size)
	}
	return taken
}

// takeItems is take for items, of which so many are moved at once as fit.
func (w *walker[E]) takeItems(dst sequence[E], room Size) (taken Size) {
	n := w.src.Len() - w.at
	if w.sizes == nil {
		n = min(n, room.Items)
		taken.Items = n
	} else {
		for i, item := range w.sizes.items[w.mark : w.mark+n] {
			size := taken.plus(item.size().entry())
			if !size.within(room) {
				n = i
				break
			}
			taken = size
		}
		w.mark += n
	}
	dst.EnsureCapacity(dst.Len() + n)
	for range n {
		w.move(w.src.At(w.at), dst.AppendEmpty())
		w.at++
	}
	w.behind = w.behind.minus(taken)
	return taken
}

func (w *walker[E]) alone(dst sequence[E]) {
	e := w.src.At(w.at)
	if w.open == nil {
		size := w.size()
		if size.Items == 0 || w.children == nil {
			w.move(e, dst.AppendEmpty())
			w.behind = w.behind.minus(size)
			w.step()
			return
		}
		w.descend(size)
	}
	part := dst.AppendEmpty()
	w.header(e, part)
	if w.open.alone(part); w.open.left() == (Size{}) {
		w.leave()
	}
}

// finish moves all that is left from src to dst.
func (w *walker[E]) finish(dst sequence[E]) {
	dst.EnsureCapacity(dst.Len() + w.src.Len() - w.at)
	for ; w.at < w.src.Len(); w.at++ {
		e := w.src.At(w.at)
		if w.open == nil {
			w.move(e, dst.AppendEmpty())
			continue
		}
		part := dst.AppendEmpty()
		w.header(e, part)
		w.open.finish(part)
		w.open = nil
	}
}

// trim removes the empty shells that take left at the front of src.
func (w *walker[E]) trim() {
	if w.open != nil {
		w.open.trim()
	}
	i := 0
	w.src.RemoveIf(func(E) bool {
		i++
		return i <= w.at
	})
	w.at = 0
}

// border is where what is left of a request begins: the elements that a part was taken of, and what comes first then.
type border struct {
	depth int
	marks [len(Sizes{}.parents)]int  // index in Sizes.elements of each, the outermost first
	left  [len(Sizes{}.parents)]Size // of the children of each
	item  int                        // index in Sizes.items of the first one that is left; negative: it is the first in next
	next  int                        // index in Sizes.elements of the first one that nothing is taken of
}

func (w *walker[E]) border(o *border) {
	switch {
	case w.open != nil:
		o.marks[o.depth], o.left[o.depth] = w.mark, w.open.left()
		o.depth++
		w.open.border(o)
	case w.children == nil:
		o.item, o.next = w.mark, w.sizes.elements[o.marks[o.depth-1]].next
	default:
		o.item, o.next = -1, w.mark
	}
}

func (w *walker[E]) empty() bool { return w.src.Len() == 0 }

func (w *walker[E]) pick(dst sequence[E], p *Picker) (picked bool) {
	if w.children == nil {
		for i := range w.src.Len() {
			if p.next() {
				w.copy(w.src.At(i), dst.AppendEmpty())
				picked = true
			}
		}
		return picked
	}
	spare := -1 // index in dst of a part that nothing was picked for
	for i := range w.src.Len() {
		e := w.src.At(i)
		if spare < 0 {
			spare = dst.Len()
			dst.AppendEmpty()
		}
		part := dst.At(spare)
		w.header(e, part)
		open := w.children(e)
		if open == nil || open.empty() {
			if !p.next() {
				continue
			}
		} else if !open.pick(part, p) {
			continue
		}
		picked, spare = true, -1
	}
	if spare >= 0 {
		i := -1
		dst.RemoveIf(func(E) bool { i++; return i == spare })
	}
	return picked
}

// nested walks the slice of C that of finds in an element E.
type nested[E, C any] struct {
	walker[C]
	of func(E) sequence[C]
}

func (n *nested[E, C]) take(dst E, room Size) Size { return n.walker.take(n.of(dst), room) }

func (n *nested[E, C]) alone(dst E) { n.walker.alone(n.of(dst)) }

func (n *nested[E, C]) finish(dst E) { n.walker.finish(n.of(dst)) }

func (n *nested[E, C]) pick(dst E, p *Picker) bool { return n.walker.pick(n.of(dst), p) }

// nest opens the children of e, which of finds and child describes.
func nest[E, C any](e E, of func(E) sequence[C], child level[C]) inside[E] {
	return &nested[E, C]{walker: walker[C]{level: child, src: of(e)}, of: of}
}

// cutter implements Cutter for any signal: the request is the outermost element.
type cutter[T any] struct {
	signal Signal[T]
	data   T
	sizes  *Sizes // nil: only items count
	inside inside[T]
	over   bool // Rest has been called
}

// newCutter cuts data, whose outermost slice of finds and outermost describes.
func newCutter[T, E any](s Signal[T], data T, sizes *Sizes, of func(T) sequence[E], outermost level[E]) Cutter[T] {
	c := &cutter[T]{signal: s, data: data, sizes: sizes, inside: nest(data, of, outermost)}
	if sizes == nil {
		c.inside.begin(nil, Size{Items: s.Items(data)}, 0, 0)
	} else {
		c.inside.begin(sizes, sizes.total, 0, 0)
	}
	return c
}

func (c *cutter[T]) Left() Size {
	if c.over {
		return Size{}
	}
	return c.inside.left()
}

func (c *cutter[T]) First() Size { return c.inside.next() }

func (c *cutter[T]) Next(room Size) (T, Size) {
	piece := c.signal.New(0)
	return piece, c.inside.take(piece, room)
}

func (c *cutter[T]) Alone() T {
	piece := c.signal.New(0)
	c.inside.alone(piece)
	return piece
}

func (c *cutter[T]) Rest() T {
	c.inside.trim()
	c.over = true
	rest := c.signal.New(0)
	c.signal.Move(c.data, rest)
	return rest
}

func (c *cutter[T]) RestSizes() *Sizes {
	if c.sizes == nil || c.over {
		return nil
	}
	var o border
	left := c.Left()
	c.inside.border(&o)
	c.sizes.keep(&o, left)
	return c.sizes
}

// pickFrom is Pick for data whose outermost slice of finds and outermost describes.
func pickFrom[T, E any](s Signal[T], data T, of func(T) sequence[E], outermost level[E], p *Picker) T {
	c := s.New(0)
	nest(data, of, outermost).pick(c, p)
	return c
}

func one[E any](E) int { return 1 }
