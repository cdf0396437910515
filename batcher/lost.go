package batcher

import (
	"fmt"

	"go.opentelemetry.io/collector/consumer/consumererror"
)

// lost are items of one request of which each alone exceeds SendBatchMaxBytes, or all of
// MemoryLimit, or which lie in a profile that exceeds all of QueueSize or MemoryLimit. They are
// accepted and dropped, so that their neighbours travel on.
type lost[T any] struct {
	Size         // Bytes is not used
	data    []T  // until they are dropped for good
	largest Size // in each respect, of what is never cut
}

// tooLarge tells whether what is never cut can never be sent, or never be held. What has more than
// one item may exceed the limits of a batch.
func (b *Batcher[T]) tooLarge(item Size) bool {
	return !b.budget.holds(item) || b.sharing == nil && item.Bytes > b.limit.Bytes
}

// add adds something that is alone too large, which may be an element without items.
func (l *lost[T]) add(data T, s Size) {
	l.data = append(l.data, data)
	if s.Items > 0 {
		l.note(s, s)
	}
}

func (l *lost[T]) note(s, largest Size) {
	l.Items += s.Items
	l.Heap += s.Heap
	l.largest = Size{max(l.largest.Items, largest.Items), max(l.largest.Bytes, largest.Bytes), max(l.largest.Heap, largest.Heap)}
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
		c.lost.note(l.Size, l.largest)
	}
	if give := l.plus(unused); give.Items > 0 || give.Heap > 0 {
		b.woken = chainWaiters(b.woken, b.release(p, give))
	}
}

// lostError is what a caller is told of the items of its request that were lost.
func (b *Batcher[T]) lostError(l *lost[T], items int) error {
	exceed := "exceed"
	if b.sharing != nil {
		exceed = "are in profiles that exceed"
	}
	var why string
	switch {
	case b.sharing == nil && l.largest.Bytes > b.limit.Bytes:
		why = fmt.Sprintf("send_batch_max_bytes (%d) each, the largest takes %d bytes", b.set.SendBatchMaxBytes, l.largest.Bytes)
	case l.largest.Items > b.set.QueueSize:
		why = fmt.Sprintf("queue_size (%d) each, the largest has %d items", b.set.QueueSize, l.largest.Items)
	default:
		why = fmt.Sprintf("memory_limit (%d) each, the largest takes about %d bytes of memory", b.set.MemoryLimit, l.largest.Heap)
	}
	return consumererror.NewPermanent(unacceptable{fmt.Errorf("%w: %d of %d items %s %s", ErrItemTooLarge, l.Items, items, exceed, why)})
}
