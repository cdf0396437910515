package batcher

import (
	"context"
	"encoding/binary"
	"time"

	"go.opentelemetry.io/collector/client"
)

// partition is what the requests with the same values of the metadata keys share.
// It is plain data, guarded by Batcher.mu, and exists while it holds anything or its
// ticks are armed; the one partition of a batcher without keys exists for good.
type partition[T any] struct {
	key string
	// ctx is what every export of the partition runs under: the background context
	// with the partition's metadata and the profiler labels. Nothing of any caller.
	ctx context.Context

	open     *batch[T] // what is pending; nil: nothing
	line     line[T]   // what is sealed
	inFlight int       // exports under way
	retrying int       // batches that wait to be sent again
	extent   int       // resources, or shares, in the last batch sealed: room to make in the next one

	// general is until when permanent failures count as general, see isolation.
	general time.Time

	grid grid[partition[T]]

	// live orders the partitions with something pending or ticks armed by their last
	// request; pending those with something pending by their oldest item; ready those
	// whose first sealed batch may leave; eager those whose open batch may.
	live, pending, ready, eager link[partition[T]]
}

func newPartition[T any](ctx context.Context, key string) *partition[T] {
	p := &partition[T]{key: key, ctx: ctx}
	p.live.owner, p.pending.owner, p.ready.owner, p.eager.owner, p.grid.owner = p, p, p, p, p
	return p
}

// holds tells whether anything is left of the partition but its name.
func (p *partition[T]) holds() bool {
	return p.open != nil || !p.quiet() || p.grid.armed()
}

// quiet tells whether nothing of the partition is on its way.
func (p *partition[T]) quiet() bool {
	return p.line.front == nil && p.inFlight == 0 && p.retrying == 0
}

func (p *partition[T]) openItems() int {
	if p.open == nil {
		return 0
	}
	return p.open.items
}

// appendKey appends the identity of a request under the metadata keys: for each key
// one more than the number of its values, and each value behind its length, so that
// no two different lists of values look the same. An unset key is a 0.
func appendKey(to []byte, keys []string, md client.Metadata) []byte {
	for _, key := range keys {
		values := md.Get(key)
		if values == nil {
			to = append(to, 0)
			continue
		}
		to = binary.AppendUvarint(to, uint64(len(values))+1)
		for _, v := range values {
			to = binary.AppendUvarint(to, uint64(len(v)))
			to = append(to, v...)
		}
	}
	return to
}

// partitionContext is base with exactly the metadata that identifies the partition.
func partitionContext(base context.Context, keys []string, md client.Metadata) context.Context {
	own := make(map[string][]string, len(keys))
	for _, key := range keys {
		if values := md.Get(key); values != nil {
			own[key] = values
		}
	}
	return client.NewContext(base, client.Info{Metadata: client.NewMetadata(own)})
}

// partitionOf finds the partition of a request, or makes it. Requires b.mu held.
func (b *Batcher[T]) partitionOf(c *caller[T], key []byte) *partition[T] {
	if b.only != nil {
		return b.only
	}
	if p := b.partitions[string(key)]; p != nil {
		return p
	}
	p := newPartition[T](partitionContext(b.base, b.set.MetadataKeys, c.md), string(key))
	b.partitions[p.key] = p
	return p
}

// enliven makes p, which is about to get something pending, the last to be evicted,
// and evicts another one if p is one too many. Requires b.mu held.
func (b *Batcher[T]) enliven(p *partition[T], now time.Time) {
	if limit := b.set.MetadataCardinalityLimit; limit > 0 && p.live.in == nil && b.live.n >= limit {
		b.evict(b.live.front.owner, now)
	}
	b.live.moveToBack(&p.live)
}

// evict seals what is pending in p and forgets p as soon as its last export has
// ended. Requires b.mu held.
func (b *Batcher[T]) evict(p *partition[T], now time.Time) {
	b.stats.Evictions++
	b.ticker.stop(&p.grid, now)
	if p.open != nil {
		b.seal(p, TriggerEvicted, now)
	} else {
		b.rest(p)
	}
}

// rest takes p off the lists that it has no more reason to be in, and forgets it if
// it holds nothing. It is to be called when p may have run empty. Requires b.mu held.
func (b *Batcher[T]) rest(p *partition[T]) {
	if p.open == nil && !p.grid.armed() {
		b.live.remove(&p.live)
	}
	if b.only == nil && !p.holds() {
		delete(b.partitions, p.key)
	}
}
