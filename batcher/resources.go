package batcher

import (
	"bytes"
	"context"

	"go.opentelemetry.io/collector/pdata/pcommon"
)

// consumeByResource is Consume where resources belong to partitions. The key holds what
// identifies the caller. Most requests are of one partition and stay as they are.
func (b *Batcher[T]) consumeByResource(ctx context.Context, c *caller[T], key []byte, data T) error {
	of := len(key)
	n := b.signal.Resources(data)
	if n == 0 {
		return b.consumeWhole(ctx, c, key, data)
	}
	key = b.appendResource(key, b.signal.Resource(data, 0))
	var buf [128]byte
	for i := 1; i < n; i++ {
		if bytes.Equal(key[of:], b.appendResource(buf[:0], b.signal.Resource(data, i))) {
			continue
		}
		if b.signal.Items(data) == 0 {
			break
		}
		parts := b.partsOf(bytes.Clone(key), of, data)
		for i := range parts {
			parts[i].left, parts[i].sizes = b.measure(parts[i].data)
		}
		return b.consumeParts(ctx, c, data, parts)
	}
	return b.consumeWhole(ctx, c, key, data)
}

func (b *Batcher[T]) appendResource(to []byte, r pcommon.Resource) []byte {
	return appendResourceKey(to, b.set.ResourceKeys, r.Attributes())
}

// partsOf moves the resources of a request to one part for each partition, in the order in
// which these come up. The key is that of the first resource, of which so many bytes
// identify the caller.
func (b *Batcher[T]) partsOf(key []byte, of int, data T) (parts []entry[T]) {
	places := make(map[string]int)
	add := func() int {
		places[string(key)] = len(parts)
		parts = append(parts, entry[T]{key: bytes.Clone(key), data: b.signal.New(1)})
		return len(parts) - 1
	}
	at := add()
	var buf [128]byte
	b.signal.Distribute(data, func(r pcommon.Resource) T {
		if own := b.appendResource(buf[:0], r); !bytes.Equal(key[of:], own) {
			key = append(key[:of], own...)
			place, known := places[string(key)]
			if !known {
				place = add()
			}
			at = place
		}
		return parts[at].data
	})
	return parts
}

// consumeParts is Consume for the parts that data was divided into. Those for which there
// is room go first, and the others as there comes to be room for each: a partition that is
// stuck must not hold up the others. If some are refused the error holds them; if all are,
// they go back to data.
func (b *Batcher[T]) consumeParts(ctx context.Context, c *caller[T], data T, parts []entry[T]) error {
	rest := b.signal.New(0)
	var late []entry[T]
	for _, e := range parts {
		c.items += e.left.Items
		switch {
		case e.left.Items == 0:
			b.signal.Move(e.data, rest) // of no account, but the caller's
		case !b.enterAtOnce(ctx, c, &e):
			late = append(late, e)
		}
	}
	if len(late) == 0 {
		return b.outcome(ctx, c)
	}
	ended := ctx.Err()
	b.mu.Lock()
	r := b.closed(ended, c.items)
	if r == nil && b.set.BlockOnOverflow {
		r = b.enterLate(ctx, c, late)
	} else {
		for i := range late {
			if r == nil || r.cause == RefusedTooLarge { // what is worth a retry goes before
				r = b.noRoom(late[i].key, late[i].left)
			}
		}
		b.mu.Unlock()
	}
	if r == nil {
		return b.outcome(ctx, c)
	}
	for i := range late {
		b.restOf(&late[i], rest)
	}
	refused := b.signal.Items(rest)
	r.err = b.refuse(r, refused)
	if refused == c.items {
		b.signal.Move(rest, data)
		return r.err
	}
	r.rest = rest
	return b.notAccepted(ctx, c, r, refused, c.items)
}

// enterAtOnce puts an entry into batches if that takes no wait, and tells whether it did.
func (b *Batcher[T]) enterAtOnce(ctx context.Context, c *caller[T], e *entry[T]) bool {
	ended := ctx.Err()
	b.lock()
	if ended == nil && b.join(c, e.key, e.data, e.left) {
		b.mu.Unlock()
		return true
	}
	var p *partition[T]
	if b.closed(ended, e.left.Items) == nil {
		p = b.admit(e.key, e.left)
	}
	if p == nil {
		b.mu.Unlock()
		return false
	}
	r := b.accept(c, p, e.data, e.left, e.sizes)
	if r != nil {
		e.late, e.left, e.apart = []T{r.rest}, Size{}, true
	}
	return r == nil
}
