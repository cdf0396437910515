package batcher

// list is a doubly linked list whose links lie within the owners themselves, so
// that adding and removing neither allocates nor searches. It is plain data.
type list[E any] struct {
	n           int
	front, back *link[E]
}

// link is an owner's place in a list. The zero value with owner set is in none.
type link[E any] struct {
	prev, next *link[E]
	in         *list[E] // nil: in no list
	owner      *E
}

// pushBack puts e last. Requires that e is in no list.
func (l *list[E]) pushBack(e *link[E]) {
	if e.in != nil {
		panic("batcher: link is already in a list")
	}
	e.in, e.prev = l, l.back
	if l.back != nil {
		l.back.next = e
	} else {
		l.front = e
	}
	l.back = e
	l.n++
}

// remove takes e out of l. An e that is not in l is left alone.
func (l *list[E]) remove(e *link[E]) {
	if e.in != l {
		return
	}
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		l.front = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	} else {
		l.back = e.prev
	}
	e.in, e.prev, e.next = nil, nil, nil
	l.n--
}

// moveTo puts e last into a list, or into none if it is nil, and leaves it alone if it is
// there already.
func (e *link[E]) moveTo(l *list[E]) {
	if e.in == l {
		return
	}
	if e.in != nil {
		e.in.remove(e)
	}
	if l != nil {
		l.pushBack(e)
	}
}

// moveToBack makes e the last of l, whether it was in l or in no list.
func (l *list[E]) moveToBack(e *link[E]) {
	if l.back == e {
		return
	}
	l.remove(e)
	l.pushBack(e)
}

// moveToFront makes e the first of l, whether it was in l or in no list.
func (l *list[E]) moveToFront(e *link[E]) {
	if l.front == e {
		return
	}
	l.remove(e)
	if l.front == nil {
		l.pushBack(e)
		return
	}
	e.in, e.next = l, l.front
	l.front.prev, l.front = e, e
	l.n++
}
