package batcher

import (
	"fmt"

	"go.opentelemetry.io/collector/consumer/consumererror"
)

// lost are items of one request of which each alone exceeds SendBatchMaxBytes, or all of
// MemoryLimit. They are accepted and dropped, so that their neighbours travel on.
type lost[T any] struct {
	Size         // Bytes is not used
	data    []T  // until they are dropped for good
	largest Size // in each respect
}

// tooLarge tells whether an item can never be sent, or never be held.
func (b *Batcher[T]) tooLarge(item Size) bool {
	return item.Bytes > b.limit.Bytes || b.budget.heavy && item.Heap > b.set.MemoryLimit
}

// add adds something that is alone too large, which may be an element without items.
func (l *lost[T]) add(data T, s Size) {
	l.data = append(l.data, data)
	l.note(s)
}

func (l *lost[T]) note(s Size) {
	if s.Items == 0 {
		return
	}
	l.Items += s.Items
	l.Heap += s.Heap
	l.largest = Size{1, max(l.largest.Bytes, s.Bytes), max(l.largest.Heap, s.Heap)}
}

// lose drops items that are too large, and gives back what was taken of the budget for them,
// and what was not used besides. Requires b.mu held.
func (b *Batcher[T]) lose(c *caller[T], p *partition[T], l *lost[T], unused Size) {
	b.accepted += int64(l.Items)
	b.stats.Dropped[DroppedItemTooLarge] += int64(l.Items)
	if l.Items > 0 {
		if c.lost == nil {
			c.lost = new(lost[T])
		}
		c.lost.note(Size{l.Items, l.largest.Bytes, l.largest.Heap})
	}
	if give := l.plus(unused); give.Items > 0 || give.Heap > 0 {
		b.woken = chainWaiters(b.woken, b.release(p, give))
	}
}

// lostError is what a caller is told of the items of its request that were lost.
func (b *Batcher[T]) lostError(l *lost[T], items int) error {
	err := fmt.Errorf("%w: %d of %d items exceed send_batch_max_bytes (%d) each, the largest takes %d bytes",
		ErrItemTooLarge, l.Items, items, b.set.SendBatchMaxBytes, l.largest.Bytes)
	if l.largest.Bytes <= b.limit.Bytes {
		err = fmt.Errorf("%w: %d of %d items exceed memory_limit (%d) each, the largest takes about %d bytes of memory",
			ErrItemTooLarge, l.Items, items, b.set.MemoryLimit, l.largest.Heap)
	}
	return consumererror.NewPermanent(unacceptable{err})
}
