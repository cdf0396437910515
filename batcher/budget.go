package batcher

import (
	"math"
	"time"
)

// budget is the bound on what is held: 0 <= used <= capacity at every instant, in items and,
// if that is limited, in bytes of heap. Each partition has an account in it. Who does not fit
// waits in the line of its account, first come, first served. It is plain data, guarded by
// Batcher.mu.
//
// With one account that is all. Where accounts share the budget each has a threshold that
// sinks with what is free: one that holds something is admitted only if afterwards
//
//	held <= 56 x free x free / capacity
//
// which is never more than seven times what is free. So one account gets at most seven
// eighths, two equal ones 0.46 each, and if many are stuck, one after the other, there is
// still room for another one: the n-th leaves roughly 1/(56 x n) of the capacity free. With
// seven times as the only rule it would be 1/8^n, which is less than one item of a default
// budget after the sixth. (Dynamic thresholds: Choudhury and Hahne, "Dynamic Queue Length
// Thresholds for Shared-Memory Packet Switches", 1998. The square is ours.) Where heap is
// limited, too, held is the larger part of the two that the account has, and free the
// smaller part of the two that is left. (Dominant shares: Ghodsi et al., "Dominant Resource
// Fairness", 2011.) So one number orders those who wait, whatever they wait for. An account takes
// heap by itself, too, from its first item to its last.
//
// An account that holds nothing, a newcomer, comes first, and leaves an eighth of the
// capacity or, if that is less, half of what is free. Nobody passes it. If its request is
// larger and waiting for others does not help, see Batcher.dispatch, it gets in piece by
// piece; where callers do not wait it is refused, unless nothing is held at all. All others
// are passed while they are over their threshold, and are granted in the order in which
// there is enough free for them. None of them starves: what it holds leaves, and then it
// comes first.
type budget struct {
	shared bool // accounts share it
	blocks bool // callers wait, so that a request can be admitted in pieces
	heavy  bool // heap is limited

	capacity int // items
	used     int
	first    list[account]   // who waits and holds nothing; every one if the budget is not shared
	over     least[*account] // who waits and holds something, by what must be free for it
	waiting  int             // callers in all lines

	heapCapacity int // bytes
	heapUsed     int
}

// account is what one partition has of the budget.
type account struct {
	held  int // items taken of the budget, if that is shared
	heap  int // bytes, the same
	own   int // bytes that the account takes besides its items, while it holds any
	paid  int // of own, taken of the budget
	line  list[waiter]
	first link[account]
	at    int     // index in budget.over, plus one; 0: not there
	need  float64 // while there: what must be free for the first in line
}

func (a *account) before(other *account) bool { return a.need < other.need }
func (a *account) index() *int                { return &a.at }

// waiter is one blocked caller.
type waiter struct {
	want Size
	// least is the smallest piece of it that is of any use; at least an item.
	least Size
	link  link[waiter]
	since time.Time // it stands in line; zero: it does not

	// granted is what has been taken for the waiter: all, or a part. Guarded by Batcher.mu.
	granted Size
	// wake gets a value, without Batcher.mu, once the waiter is granted or the batcher no
	// longer admits anybody. It has one slot and may belong to several waiters.
	wake chan<- struct{}
	// next chains the waiters that are to be woken after Batcher.mu is released.
	next *waiter
}

// fits tells whether s may be taken for a without a wait. Requires that nobody waits in
// a's line.
func (b *budget) fits(a *account, s Size) bool {
	switch {
	case s.Items > b.capacity-b.used, b.heavy && s.Heap > b.heapCapacity-b.heapUsed:
		return false
	case !b.shared:
		return true
	case a.held == 0:
		s.Heap += b.unpaid(a, s)
		if b.heavy && s.Heap > b.heapCapacity-b.heapUsed {
			return false
		}
		free := b.free()
		return b.weigh(s.Items, s.Heap) <= b.leaving(free, free/2) || b.used == 0 && !b.blocks
	}
	return b.need(a, s) <= b.free()
}

// unpaid is what an account takes by itself if it gets s: nothing if it holds something already.
// What would not fit even if nothing else were held is not taken, so that nobody waits for ever.
func (b *budget) unpaid(a *account, s Size) int {
	if !b.heavy || a.held > 0 || s.Items == 0 {
		return 0
	}
	return max(0, min(a.own, b.heapCapacity-s.Heap))
}

// holds tells whether the budget can ever hold s.
func (b *budget) holds(s Size) bool {
	return s.Items <= b.capacity && (!b.heavy || s.Heap <= b.heapCapacity)
}

// weigh is the larger part of the budget that so many items and bytes are of, in items.
func (b *budget) weigh(items, heap int) float64 {
	if !b.heavy {
		return float64(items)
	}
	return max(float64(items), float64(heap)*float64(b.capacity)/float64(b.heapCapacity))
}

// free is the smaller part of the budget that is free, in items.
func (b *budget) free() float64 {
	free := float64(b.capacity - b.used)
	if b.heavy {
		free = min(free, float64(b.heapCapacity-b.heapUsed)*float64(b.capacity)/float64(b.heapCapacity))
	}
	return free
}

// need is how much must be free for an account that holds something to take s and be
// within its threshold then.
func (b *budget) need(a *account, s Size) float64 {
	held := b.weigh(a.held+s.Items, a.heap+s.Heap)
	return b.weigh(s.Items, s.Heap) + math.Sqrt(held*float64(b.capacity)/56)
}

// leaving returns how much a newcomer may take that has to leave so much, or an eighth of
// the capacity if that is less; at least one item if it is free.
func (b *budget) leaving(free, leave float64) float64 {
	return max(min(1, free), free-math.Floor(min(leave, float64(b.capacity/8))))
}

// take takes s for a if it fits and nobody is to come before.
func (b *budget) take(a *account, s Size) bool {
	if a.line.n > 0 || b.first.n > 0 || !b.fits(a, s) {
		return false
	}
	b.add(a, s)
	return true
}

// takeAlone is take where a is the only account.
func (b *budget) takeAlone(a *account, s Size) bool {
	if b.first.n > 0 || s.Items > b.capacity-b.used {
		return false
	}
	if b.heavy {
		if s.Heap > b.heapCapacity-b.heapUsed {
			return false
		}
		b.heapUsed += s.Heap
		a.heap += s.Heap
	}
	b.used += s.Items
	return true
}

// add counts s for a. An account that has the budget for itself is spared a cache line that
// would travel between cores.
func (b *budget) add(a *account, s Size) {
	b.used += s.Items
	if b.heavy {
		if b.shared {
			s.Heap += b.pay(a, s)
		}
		b.heapUsed += s.Heap
		a.heap += s.Heap
	}
	if b.shared {
		a.held += s.Items
	}
}

// pay is what an account that is about to get s takes by itself, or gives back if it holds nothing then.
func (b *budget) pay(a *account, s Size) int {
	switch was := a.paid; {
	case a.held == 0:
		a.paid = b.unpaid(a, s)
		return a.paid
	case a.held+s.Items == 0:
		a.paid = 0
		return -was
	}
	return 0
}

// writeOff gives back what an account takes by itself, though it may hold items that are never released.
func (b *budget) writeOff(a *account) {
	b.heapUsed -= a.paid
	a.heap -= a.paid
	a.paid, a.own = 0, 0
}

// wait puts a caller in line who wants s, or a piece of it that is not less than least.
// Requires that least is something, and s does not exceed the capacity: more would wait for
// ever.
func (b *budget) wait(a *account, s, least Size, wake chan<- struct{}) *waiter {
	w := &waiter{want: s, least: least, wake: wake}
	w.link.owner = w
	a.line.pushBack(&w.link)
	b.waiting++
	b.place(a)
	return w
}

// release gives s of a back and returns every waiter that is granted, chained.
func (b *budget) release(a *account, s Size) *waiter {
	b.forfeit(a, s)
	b.place(a)
	return b.grant()
}

// forfeit gives s of a back without granting anything.
func (b *budget) forfeit(a *account, s Size) {
	if s.Items > b.used || b.shared && s.Items > a.held {
		panic("batcher: more items released than held")
	}
	if b.heavy && s.Heap > a.heap-a.paid {
		panic("batcher: more bytes released than held")
	}
	b.add(a, Size{Items: -s.Items, Heap: -s.Heap})
}

// leave takes a waiter out of a's line, or gives back what it was granted, and
// returns those that are granted then.
func (b *budget) leave(a *account, w *waiter) *waiter {
	if w.granted.Items > 0 {
		return b.release(a, w.granted)
	}
	b.remove(a, w)
	b.place(a)
	return b.grant()
}

// remove takes a waiter out of a's line, if it is still in it.
func (b *budget) remove(a *account, w *waiter) {
	if w.link.in != nil {
		a.line.remove(&w.link)
		b.waiting--
	}
}

// place puts a among those who wait, or takes it away, after its line or what it holds
// has changed.
func (b *budget) place(a *account) {
	if a.line.n == 0 || a.held == 0 || !b.shared {
		b.over.remove(a)
		if a.line.n == 0 {
			b.first.remove(&a.first)
		} else if a.first.in == nil {
			b.first.pushBack(&a.first)
		}
		return
	}
	b.first.remove(&a.first)
	a.need = b.need(a, a.line.front.owner.want)
	b.over.put(a)
}

// grant admits everybody who may come in now.
func (b *budget) grant() (woken *waiter) {
	var last *waiter
	for {
		a := b.nextGrant()
		if a == nil {
			return woken
		}
		w := b.give(a, a.line.front.owner.want)
		if last == nil {
			woken = w
		} else {
			last.next = w
		}
		last = w
	}
}

// nextGrant returns whose first waiter may come in; nil: nobody's.
func (b *budget) nextGrant() *account {
	if b.first.front != nil {
		if a := b.first.front.owner; b.fits(a, a.line.front.owner.want) {
			return a
		}
		return nil
	}
	if b.over.len() > 0 && b.over.min().need <= b.free() {
		return b.over.min()
	}
	return nil
}

// newcomers tells whether anybody waits who holds nothing.
func (b *budget) newcomers() bool { return b.shared && b.first.n > 0 }

// grantPiece admits a piece of the first newcomer's request: a quarter of what is free, or
// all but an eighth of the capacity if that is more. It returns those that are granted
// then, nil if there is no newcomer or nothing is free.
func (b *budget) grantPiece() *waiter {
	if !b.newcomers() {
		return nil
	}
	free := b.free()
	a := b.first.front.owner
	w := a.line.front.owner
	most := b.leaving(free, free-math.Floor(free/4))
	piece := Size{Items: max(int(most), w.least.Items), Bytes: math.MaxInt}
	if b.heavy {
		piece.Heap = max(int(most/float64(b.capacity)*float64(b.heapCapacity))-a.own, w.least.Heap)
	}
	piece = piece.least(w.want)
	if piece.Items > b.capacity-b.used || b.heavy && piece.Heap+b.unpaid(a, piece) > b.heapCapacity-b.heapUsed {
		return nil
	}
	b.give(a, piece)
	w.next = b.grant() // a newcomer less in the way of others
	return w
}

// give takes s for the first in a's line.
func (b *budget) give(a *account, s Size) *waiter {
	w := a.line.front.owner
	b.remove(a, w)
	b.add(a, s)
	w.granted = s
	b.place(a)
	return w
}

// close empties all lines without granting anything and returns who stood in them.
func (b *budget) close() (woken *waiter) {
	empty := func(a *account) {
		for a.line.front != nil {
			w := a.line.back.owner
			b.remove(a, w)
			w.next = woken
			woken = w
		}
		b.place(a)
	}
	for b.first.front != nil {
		empty(b.first.front.owner)
	}
	for b.over.len() > 0 {
		empty(b.over.min())
	}
	return woken
}

// chainWaiters puts the chain that begins with b behind the one that begins with a.
func chainWaiters(a, b *waiter) *waiter {
	if a == nil {
		return b
	}
	last := a
	for last.next != nil {
		last = last.next
	}
	last.next = b
	return a
}

// wakeAll wakes a chain of waiters. Requires that Batcher.mu is not held.
func wakeAll(w *waiter) {
	for w != nil {
		next := w.next
		select {
		case w.wake <- struct{}{}:
		default:
		}
		w = next
	}
}
