package batcher

import (
	"context"
	"time"
)

// partition is what the items with the same values of the keys share. It is plain data,
// guarded by Batcher.mu, and exists while it holds anything, somebody waits for room in it,
// or its ticks are armed; the one partition of a batcher without keys exists for good.
type partition[T any] struct {
	key string
	// ctx is what every export of the partition runs under: the background context
	// with the partition's metadata and the profiler labels. Nothing of any caller.
	ctx context.Context

	account  account       // what is held, and who waits for room
	open     *batch[T]     // what is pending; nil: nothing
	line     line[T]       // what is sealed
	away     away[T]       // what has been launched and has no outcome yet
	inFlight int32         // exports under way
	retrying int32         // batches that wait to be sent again
	boarding bool          // an export goroutine has a slot for what is open, see board; counted in inFlight
	left     triggers      // why its last batches left
	items    stages        // what is held but for what is pending, with keys
	boards   *partition[T] // the next one to board, see carryOut
	extent   int           // resources, or shares, in the last batch sealed: room to make in the next one

	// general is until when permanent failures count as general, see isolation.
	general time.Time

	grid grid[partition[T]]

	// live orders the partitions with something pending or ticks armed by their last
	// request; ready and fullest are about what may leave, see there.
	live, ready, fullest link[partition[T]]
}

func newPartition[T any](ctx context.Context, key string) *partition[T] {
	p := &partition[T]{key: key, ctx: ctx}
	p.live.owner, p.ready.owner, p.fullest.owner, p.grid.owner = p, p, p, p
	p.account.first.owner = &p.account
	return p
}

// holds tells whether anything is left of the partition but its name.
func (p *partition[T]) holds() bool {
	return p.account.held > 0 || p.account.line.n > 0 || p.grid.armed() || p.boarding
}

// quiet tells whether nothing of the partition is on its way.
func (p *partition[T]) quiet() bool {
	return p.line.front == nil && p.inFlight == 0 && p.retrying == 0
}

// partitionOf finds the partition of a request, or makes it. Requires b.mu held.
func (b *Batcher[T]) partitionOf(key []byte) *partition[T] {
	if b.only != nil {
		return b.only
	}
	if p := b.partitions[string(key)]; p != nil {
		return p
	}
	own := string(key)
	ctx, values := partitionContext(b.base, own, b.set.MetadataKeys, b.set.ResourceKeys)
	p := newPartition[T](ctx, own)
	if b.weighsHeap {
		p.account.own = partitionFootprint(len(own), values, len(b.set.MetadataKeys)+len(b.set.ResourceKeys))
		if b.sharing != nil {
			p.account.own += dictionaryBlock
		}
	}
	b.partitions[own] = p
	b.most = max(b.most, len(b.partitions))
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
	if !p.grid.lapsed { // otherwise it was only kept for what might come
		b.stats.Evictions++
	}
	b.ticker.stop(&p.grid, now)
	if p.open != nil {
		b.seal(p, TriggerEvicted, now)
	} else {
		b.rest(p)
	}
}

// mostKept is the longest timeout with which a partition is kept until its next tick when a full batch has left.
const mostKept = 10 * time.Second

// endGrid ends the ticks of p, whose batch leaves before its tick. A partition with keys is kept until then
// if that is soon: who fills batches is likely to go on, and to forget a partition with each and make it
// anew takes most of the allocations of a small batch. It is the first to make room for another one.
// Requires b.mu held.
func (b *Batcher[T]) endGrid(p *partition[T], now time.Time) {
	if b.only != nil || b.set.Timeout > mostKept {
		b.ticker.stop(&p.grid, now)
		return
	}
	if b.ticker.lapse(&p.grid); p.grid.armed() {
		b.live.moveToFront(&p.live)
	}
}

// longKey is how many bytes a key may have whose partition is kept until its next tick when it holds nothing
// any more. So long the key is not charged to anybody.
const longKey = 4096

// mapKept is how many partitions a map of them may have had to be used again.
const mapKept = 64

// rest takes p off the lists that it has no more reason to be in, and forgets it if
// it holds nothing. It is to be called when p may have run empty. Requires b.mu held.
func (b *Batcher[T]) rest(p *partition[T]) {
	if len(p.key) > longKey && p.account.held == 0 {
		b.ticker.stop(&p.grid, time.Now())
	}
	if p.open == nil && !p.grid.armed() {
		b.live.remove(&p.live)
	}
	if b.only == nil && !p.holds() {
		delete(b.partitions, p.key)
		if len(b.partitions) == 0 && b.most > mapKept { // a map does not shrink
			b.partitions, b.most = make(map[string]*partition[T]), 0
		}
	}
}
