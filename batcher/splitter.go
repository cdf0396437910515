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
	// header copies to dst what both parts of an element that is cut in two must
	// have: all but its children. Nil for items, which are never cut.
	header func(src, dst E)
	// children opens what is inside the element. Nil for items.
	children func(E) inside[E]
}

// inside walks the children of one element of type E.
type inside[E any] interface {
	// take moves the next items to the children of dst. Requires that more are left.
	take(dst E, items int)
	// finish moves all that is left, children without items included.
	finish(dst E)
	// trim removes from the element what take left behind.
	trim()
}

// walker goes through a slice once, from front to back, however many pieces are
// taken from it.
type walker[E any] struct {
	level[E]
	src sequence[E]

	at   int       // index in src of the first element not yet moved
	left int       // while open: items not yet taken of the element at that index
	open inside[E] // set while the element at that index is partly taken
}

// take moves the next items from src to dst, and the elements without items that lie
// between them.
func (w *walker[E]) take(dst sequence[E], items int) {
	if w.children == nil {
		dst.EnsureCapacity(dst.Len() + min(items, w.src.Len()-w.at))
	}
	for items > 0 && w.at < w.src.Len() {
		e := w.src.At(w.at)
		if w.open == nil {
			if w.left = w.items(e); w.left <= items {
				w.move(e, dst.AppendEmpty())
				items -= w.left
				w.at++
				continue
			}
			w.open = w.children(e)
		}
		part := dst.AppendEmpty()
		w.header(e, part)
		if w.left > items {
			w.open.take(part, items)
			w.left -= items
			return
		}
		w.open.finish(part)
		w.open = nil
		w.at++
		items -= w.left
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

// nested walks the slice of C that of finds in an element E.
type nested[E, C any] struct {
	walker[C]
	of func(E) sequence[C]
}

func (n *nested[E, C]) take(dst E, items int) { n.walker.take(n.of(dst), items) }

func (n *nested[E, C]) finish(dst E) { n.walker.finish(n.of(dst)) }

// nest opens the children of e, which of finds and child describes.
func nest[E, C any](e E, of func(E) sequence[C], child level[C]) inside[E] {
	return &nested[E, C]{walker: walker[C]{level: child, src: of(e)}, of: of}
}

// cutter implements Cutter for any signal: the request is the outermost element.
type cutter[T any] struct {
	signal Signal[T]
	data   T
	inside inside[T]
}

// newCutter cuts data, whose outermost slice of finds and outermost describes.
func newCutter[T, E any](s Signal[T], data T, of func(T) sequence[E], outermost level[E]) Cutter[T] {
	return &cutter[T]{signal: s, data: data, inside: nest(data, of, outermost)}
}

func (c *cutter[T]) Next(items int) T {
	piece := c.signal.New(0)
	c.inside.take(piece, items)
	return piece
}

func (c *cutter[T]) Rest() T {
	c.inside.trim()
	rest := c.signal.New(0)
	c.signal.Move(c.data, rest)
	return rest
}

func one[E any](E) int { return 1 }
