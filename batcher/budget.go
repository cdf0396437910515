package batcher

// budget is the bound on what is held: 0 <= used <= capacity at every instant.
// Who does not fit waits in line, first come, first served. Nobody overtakes: while
// the first in line does not fit, those behind it wait too, and so does whoever
// comes new. It is plain data, guarded by Batcher.mu.
type budget struct {
	capacity int
	used     int
	waiting  list[waiter]
}

// waiter is one blocked caller.
type waiter struct {
	items int
	link  link[waiter]

	// granted tells that items have been taken for the waiter. Guarded by Batcher.mu.
	granted bool
	// wake is closed, without Batcher.mu, once the waiter is granted or the
	// batcher no longer admits anybody.
	wake chan struct{}
	// next chains the waiters that are to be woken after Batcher.mu is released.
	next *waiter
}

// take takes n items if they fit and nobody waits.
func (b *budget) take(n int) bool {
	if b.waiting.n > 0 || n > b.capacity-b.used {
		return false
	}
	b.used += n
	return true
}

// wait puts a caller of n items in line. Requires n <= capacity: more would wait
// for ever.
func (b *budget) wait(n int) *waiter {
	w := &waiter{items: n, wake: make(chan struct{})}
	w.link.owner = w
	b.waiting.pushBack(&w.link)
	return w
}

// release gives n items back and returns every waiter that now fits, chained.
func (b *budget) release(n int) *waiter {
	if n > b.used {
		panic("batcher: more items released than held")
	}
	b.used -= n
	return b.grant()
}

// leave takes a waiter out of the line, or gives back what it was granted, and
// returns those behind it that now fit.
func (b *budget) leave(w *waiter) *waiter {
	if w.granted {
		return b.release(w.items)
	}
	b.waiting.remove(&w.link)
	return b.grant()
}

func (b *budget) grant() (woken *waiter) {
	var last *waiter
	for b.waiting.front != nil {
		w := b.waiting.front.owner
		if w.items > b.capacity-b.used {
			break
		}
		b.waiting.remove(&w.link)
		b.used += w.items
		w.granted = true
		if last == nil {
			woken = w
		} else {
			last.next = w
		}
		last = w
	}
	return woken
}

// close empties the line without granting anything and returns who stood in it.
func (b *budget) close() (woken *waiter) {
	for b.waiting.front != nil {
		w := b.waiting.back.owner
		b.waiting.remove(&w.link)
		w.next = woken
		woken = w
	}
	return woken
}

// wakeAll wakes a chain of waiters. Requires that Batcher.mu is not held.
func wakeAll(w *waiter) {
	for w != nil {
		next := w.next
		close(w.wake)
		w = next
	}
}
