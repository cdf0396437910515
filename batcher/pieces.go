package batcher

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"
)

// nearlyFull tells whether a batch is so full that sealing it beats cutting the next
// request in two. Nil is empty.
func (b *Batcher[T]) nearlyFull(bt *batch[T]) bool {
	return bt != nil && (bt.items >= b.limit.Items-b.limit.Items/10 || bt.bytes >= b.limit.Bytes-b.limit.Bytes/10)
}

// tookAlong tells whether what is left of a request that was cut, and does not fit into an open batch that was opened
// meanwhile, has taken along something without items: then its sizes are not known. To cut it again everything would have
// to be measured again, and what has no items could find no room any more. It fits into a batch of its own.
func (b *Batcher[T]) tookAlong(bt *batch[T], size Size, sizes *Sizes) bool {
	return bt != nil && sizes == nil && b.weighs() && b.sharing == nil && size.within(b.limit)
}

// room is what fits into a batch besides what is in it. Nil is empty.
func (b *Batcher[T]) room(bt *batch[T]) Size {
	if bt == nil {
		return b.limit
	}
	return Size{b.limit.Items - bt.items, b.limit.Bytes - bt.bytes, math.MaxInt}
}

// fits tells whether data of that size can be put into an open batch. Nil is empty. Where the size is
// a bound, it is looked at more closely if that does not fit.
func (b *Batcher[T]) fits(bt *batch[T], data T, size Size) bool {
	room := b.room(bt)
	if size.Bytes > room.Bytes && b.sharesBytes() {
		if bt == nil {
			size.Bytes = b.signal.Bytes(data)
		} else {
			size.Bytes = b.sharing.added(data, bt.data)
		}
	}
	return size.within(room)
}

// part is a part of a request and its size.
type part[T any] struct {
	data T
	Size
}

// cuts is what becomes of a request, or of what is granted of it, when it is cut. Nothing
// of it is accepted yet.
type cuts[T any] struct {
	top part[T] // fills an open batch up; no items if there is none

	// full are further batches, from first to last.
	first, last *batch[T]
	n           int
	oversized   int // of them
	full        Size

	rest  part[T] // what is left behind them. It fits into a batch.
	sizes *Sizes  // of the rest; nil: only its size is known
	lost  lost[T]

	// loose are elements without items that did not fit beside the items next to them. What
	// no other part has room for either is left out: there is no batch without items.
	loose []part[T]

	// heap is what is not charged to any part yet of that which was taken from the budget.
	// Estimates of the parts may add up to more: what is cut in two is copied.
	heap int
}

// taken is the size of all that was cut off.
func (r *cuts[T]) taken() Size {
	return r.top.Size.plus(r.full).plus(r.rest.Size).plus(r.lost.Size)
}

// charge returns a size with the heap that it is charged.
func (r *cuts[T]) charge(s Size) Size {
	s.Heap = min(s.Heap, r.heap)
	r.heap -= s.Heap
	return s
}

// chargeRest charges the rest, if there is any, for more heap.
func (r *cuts[T]) chargeRest(heap int) {
	if r.rest.Items > 0 {
		r.rest.Heap += heap
		r.heap -= heap
	}
}

// cutUp cuts up to so much into batches that are no larger than size.
func (b *Batcher[T]) cutUp(c *caller[T], cut Cutter[T], size, most Size, r *cuts[T]) {
	b.cutItems(c, cut, size, most, r)
	if cut.Left().Items == 0 { // otherwise it goes on later
		b.cutLoose(cut, size, r)
	}
	if r.rest.Items > 0 && b.sharesBytes() {
		r.rest.Bytes = b.joining(r.rest.data)
	}
}

// cutLoose is cutUp for what comes behind the last item, and what is loose in the end.
func (b *Batcher[T]) cutLoose(cut Cutter[T], size Size, r *cuts[T]) {
	for left := cut.Left(); left != (Size{}); left = cut.Left() {
		first := cut.First()
		b.addLoose(r, part[T]{cut.Alone(), first})
	}
	b.restTakesAlong(r, size)
	for bt := r.first; bt != nil && len(r.loose) > 0; bt = bt.next {
		p := b.takeAlong(r, part[T]{bt.data, bt.size()}, size)
		r.full = r.full.plus(p.minus(bt.size()))
		bt.bytes, bt.heap = p.Bytes, p.Heap
	}
}

// cutItems is cutUp up to the last item.
func (b *Batcher[T]) cutItems(c *caller[T], cut Cutter[T], size, most Size, r *cuts[T]) {
	most.Bytes = math.MaxInt
	for cut.Left().Items > 0 {
		room := size.least(most)
		if left := cut.Left(); left.within(room) {
			r.sizes = cut.RestSizes()
			r.rest = part[T]{cut.Rest(), r.charge(left)}
			b.restTakesAlong(r, size)
			return
		}
		var next part[T]
		next.data, next.Size = cut.Next(room)
		switch {
		case next.Items > 0:
			most = most.minus(next.Size)
			next.Size = r.charge(next.Size)
			next = b.takeAlong(r, next, size)
			if cut.Left().Items == 0 || !cut.First().within(most) {
				r.rest = next
				return
			}
			b.addFull(c, r, next)
		case b.signal.Resources(next.data) > 0:
			b.addLoose(r, next)
		default:
			first := cut.First()
			switch {
			case b.tooLarge(first):
				r.lost.add(cut.Alone(), r.charge(first))
			case b.sharing != nil && first.Items == 0: // a profile without samples
				b.addLoose(r, part[T]{cut.Alone(), first})
				continue
			case b.sharing != nil && first.within(most):
				b.addFull(c, r, part[T]{cut.Alone(), r.charge(first)})
			default:
				return // what is granted does not suffice for more
			}
			most = most.minus(first)
		}
	}
}

// addLoose keeps an element without items for takeAlong.
func (b *Batcher[T]) addLoose(r *cuts[T], p part[T]) {
	if b.sharesBytes() {
		p.Bytes = b.joining(p.data)
	}
	r.loose = append(r.loose, p)
}

// takeAlong adds to a part, if it has items, what is loose, as far as it fits.
func (b *Batcher[T]) takeAlong(r *cuts[T], p part[T], size Size) part[T] {
	if p.Items == 0 {
		return p
	}
	kept := r.loose[:0]
	for _, l := range r.loose {
		if !p.plus(l.Size).within(size) {
			kept = append(kept, l)
			continue
		}
		b.signal.Move(l.data, p.data)
		p.Size = p.plus(r.charge(l.Size))
	}
	r.loose = kept
	return p
}

// restTakesAlong is takeAlong for the rest.
func (b *Batcher[T]) restTakesAlong(r *cuts[T], size Size) {
	loose := len(r.loose)
	r.rest = b.takeAlong(r, r.rest, size)
	if len(r.loose) < loose {
		r.sizes = nil
	}
}

// addFull makes a batch of a part.
func (b *Batcher[T]) addFull(c *caller[T], r *cuts[T], p part[T]) {
	bt := &batch[T]{data: p.data, items: p.Items, bytes: p.Bytes, heap: p.Heap, ready: true, trigger: TriggerSize}
	if c.span.IsSampled() {
		bt.link(c.span)
	}
	if r.last == nil {
		r.first = bt
	} else {
		r.last.next = bt
	}
	r.last = bt
	r.n++
	r.full = r.full.plus(p.Size)
	if !bt.size().within(b.limit) {
		r.oversized++
	}
}

// adopt makes the full batches among the cuts sealed batches of p, as of now. The caller
// puts them into the line. Requires b.mu held.
func (b *Batcher[T]) adopt(c *caller[T], p *partition[T], r *cuts[T], now time.Time) {
	for bt := r.first; bt != nil; bt = bt.next {
		bt.partition, bt.first, bt.sealed = p, now, now
		if b.set.WaitForResult {
			b.share(&c.waits, bt, share[T]{Size: bt.size(), link: len(bt.links)})
		}
	}
	b.accepted += int64(r.full.Items)
	b.countSealed(p, r.full.Items)
	b.stats.Batches[TriggerSize] += int64(r.n)
	b.stats.Oversized += int64(r.oversized)
}

// undo moves everything that was cut off to dst.
func (b *Batcher[T]) undo(r *cuts[T], dst T) {
	move := func(p part[T]) {
		if p.Items > 0 {
			b.signal.Move(p.data, dst)
		}
	}
	move(r.top)
	for bt := r.first; bt != nil; bt = bt.next {
		b.signal.Move(bt.data, dst)
	}
	for _, data := range r.lost.data {
		b.signal.Move(data, dst)
	}
	move(r.rest)
	for _, l := range r.loose {
		b.signal.Move(l.data, dst)
	}
}

// partly counts a refusal and returns its error, in which the sender finds the items
// that were not accepted, if the request was taken apart. Where callers wait, it is also
// about those that were accepted: unless they are delivered, or refused for good, the
// sender must repeat everything.
func (b *Batcher[T]) partly(ctx context.Context, c *caller[T], r *refusal[T], items int) error {
	if !r.apart {
		return b.refuse(r, items)
	}
	refused := b.signal.Items(r.rest)
	r.err = b.refuse(r, refused)
	return b.notAccepted(ctx, c, r, refused, items)
}

// notAccepted is partly for a refusal that is counted already.
func (b *Batcher[T]) notAccepted(ctx context.Context, c *caller[T], r *refusal[T], refused, items int) error {
	err := r.err
	if r.ended != nil {
		err = r.ended // the other words are about a piece
	}
	err = fmt.Errorf("%d of %d items were not accepted: %w", refused, items, err)
	switch outcome := b.outcome(ctx, c); {
	case outcome == nil:
	case isPermanent(outcome):
		err = fmt.Errorf("%w (the others were refused for good: %s)", err, outcome.Error())
	default:
		return errors.Join(err, withoutData(outcome))
	}
	return b.signal.Partial(err, r.rest)
}

// fill cuts a request that does not fit into the open batch of p: one part fills that
// batch up, further ones are full batches of their own, and what is left comes back, with its sizes. The
// cutting happens without b.mu. The batch to fill takes its place in the line before, so
// that nothing accepted later overtakes it. Requires b.mu held, and holds it again on
// return.
//
// If the time for shutting down ends meanwhile, nothing of the request is accepted:
// all of it comes back with the refusal.
func (b *Batcher[T]) fill(c *caller[T], p *partition[T], data T, size Size, sizes *Sizes) (*refusal[T], part[T], *Sizes) {
	if b.sharing != nil && sizes == nil && p.open != nil && b.budget.heavy {
		// It would fit into a batch of its own, and was not expected to be cut: what its parts have
		// in common will be there twice.
		if !b.budget.take(&p.account, Size{Heap: size.Heap}) {
			b.seal(p, TriggerSize, time.Now())
			return nil, part[T]{data, size}, nil
		}
		size.Heap *= 2
	}
	b.open(p)
	p.open.filling = true
	head := b.seal(p, TriggerSize, time.Now())
	room, there := b.room(head), head.data
	todo := b.dispatch() // what is ready need not wait for the cut
	b.mu.Unlock()
	b.carryOut(todo)

	cut := b.signal.Cut(data, b.sizesToCut(data, sizes))
	r := cuts[T]{heap: size.Heap}
	top := part[T]{}
	switch {
	case room == b.limit || !b.sharesBytes(): // it is empty, or what it has does not matter
		top.data, top.Size = cut.Next(room)
	default:
		top.data, top.Size = b.sharing.fill(cut, room, there)
	}
	if top.Items > 0 {
		top.Size = r.charge(top.Size)
		r.top = top
	} else if b.signal.Resources(top.data) > 0 {
		b.addLoose(&r, top)
	}
	b.cutUp(c, cut, b.limit, unlimited, &r)
	if b.sharing == nil { // otherwise each part was charged what it takes
		r.chargeRest(r.heap)
	}

	b.mu.Lock()
	if b.state >= stateStopped {
		all := b.signal.New(0)
		b.undo(&r, all)
		return b.tooLate(p, all, size), part[T]{all, size}, nil
	}
	head.filling = false
	if r.top.Items > 0 {
		b.put(c, head, r.top.data, r.top.Size)
		b.accepted += int64(r.top.Items)
		b.countSealed(p, r.top.Items)
	}
	b.adopt(c, p, &r, head.sealed)
	if r.n > 0 {
		p.line.insert(head, r.first, r.last)
	}
	if p.line.back != head {
		b.unprepare(head)
	}
	if head.items == 0 {
		p.line.remove(head)
		b.stats.Batches[TriggerSize]--
	}
	b.lose(c, p, &r.lost, Size{Heap: r.heap})
	b.queue(p)
	return nil, r.rest, r.sizes
}

// tooLate gives back what was admitted of a request that was not placed before the time
// for shutting down was over. Requires b.mu held.
func (b *Batcher[T]) tooLate(p *partition[T], rest T, size Size) *refusal[T] {
	b.release(p, size) // nobody waits any more
	b.rest(p)
	return &refusal[T]{cause: RefusedShutdown, err: ErrShutdown, rest: rest, apart: true}
}
