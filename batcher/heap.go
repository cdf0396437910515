package batcher

import "container/heap"

// ordered is what a least has to know of its elements.
type ordered[E any] interface {
	// before tells whether the element comes before another one.
	before(other E) bool
	// index is where the element keeps its index, plus one; 0: it is in none.
	index() *int
}

// least keeps elements so that the first of them is the least. Each knows its place, so that
// one that has changed, or leaves, is not searched for. It is plain data.
type least[E ordered[E]] struct{ heap elements[E] }

// len counts the elements.
func (l *least[E]) len() int { return len(l.heap) }

// min returns the least element. Requires that there is one.
func (l *least[E]) min() E { return l.heap[0] }

// put adds e, or finds it a new place if it is there and has changed.
func (l *least[E]) put(e E) {
	if at := *e.index(); at > 0 {
		heap.Fix(&l.heap, at-1)
		return
	}
	heap.Push(&l.heap, e)
}

// remove takes e away. An e that is not there is left alone.
func (l *least[E]) remove(e E) {
	if at := *e.index(); at > 0 {
		heap.Remove(&l.heap, at-1)
	}
}

// elements implements heap.Interface.
type elements[E ordered[E]] []E

func (h elements[E]) Len() int           { return len(h) }
func (h elements[E]) Less(i, j int) bool { return h[i].before(h[j]) }

func (h elements[E]) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	*h[i].index(), *h[j].index() = i+1, j+1
}

func (h *elements[E]) Push(x any) {
	e := x.(E)
	*h = append(*h, e)
	*e.index() = len(*h)
}

func (h *elements[E]) Pop() any {
	last := len(*h) - 1
	e := (*h)[last]
	var none E
	(*h)[last] = none
	*h = (*h)[:last]
	*e.index() = 0
	return e
}
