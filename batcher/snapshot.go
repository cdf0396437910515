package batcher

import (
	"cmp"
	"context"
	"runtime"
	"slices"
	"time"
)

// Snapshot is what is going on in a batcher. Ages and waits are measured up to the moment when they were read.
type Snapshot struct {
	// Stats are of one instant, and so are Exports, Recent and LastFailure.
	Stats Stats
	// ShuttingDown says that requests are refused and what is held leaves, or that this is over.
	ShuttingDown bool
	// Exports are those under way, the longest first, or if there are more than was asked for some of them.
	Exports []ExportState
	// Recent are the batches that left last, the last one first. What is sent again, whole or in parts, is not listed again.
	Recent []Departure
	// LastFailure is the last export that failed; nil: none did.
	LastFailure *Failure

	// What follows is read partition by partition, each at one instant.

	// Oldest is the age of the oldest item held; 0: nothing is.
	Oldest time.Duration
	// LongestWait is how long the caller waits for room that waits the longest; 0: none does.
	LongestWait time.Duration
	// Remembered is how many partitions there were that held something, or whose ticks were armed.
	Remembered int
	// Partitions are the first of them by the order that was asked for.
	Partitions []PartitionState
}

// PartitionState is what a partition holds. Counts are items unless the name says otherwise.
type PartitionState struct {
	Name Name
	// Held is what is taken of queue_size: what follows, and what was admitted this instant and is being moved in.
	Held                                int
	Pending, Sealed, InFlight, Retrying int
	// HeldBytes is what is taken of memory_limit, in estimated bytes of heap; 0 where that is not set.
	HeldBytes int
	// Oldest is the age of the oldest item held; 0: none is.
	Oldest time.Duration
	// Exports are under way, or about to begin.
	Exports int
	// RetryingBatches wait to be sent again.
	RetryingBatches int
	// Waiting callers, or parts of their requests, have no room yet.
	Waiting int
	// LongestWait is how long the first of them waits: for this piece of its request, if that is admitted in pieces.
	LongestWait time.Duration
	// Left is why its last ten batches left since it was remembered, the last one first.
	Left []Trigger
}

// ExportState is an export under way.
type ExportState struct {
	Name    Name
	Items   int
	Trigger Trigger
	// Age is that of its oldest item.
	Age time.Duration
	// Running is for how long the next consumer has not returned; 0: it is about to be called.
	Running time.Duration
	// Part says that it is a part of a batch that was refused for good.
	Part bool
}

// Departure is a batch that has left.
type Departure struct {
	Name    Name
	Trigger Trigger
	Items   int
	// Ago is how long ago it was sealed.
	Ago time.Duration
	// Age is how old its oldest item was then.
	Age time.Duration
}

// Failure is an export that has failed.
type Failure struct {
	Name  Name
	Cause FailedCause
	// Fate is what happened to its items then.
	Fate  Fate
	Items int
	// Error is what ErrorText makes of its error.
	Error string
	Ago   time.Duration
}

// Name is what the items of a partition have in common.
type Name struct {
	// Keys are Settings.MetadataKeys, in lower case, and Settings.ResourceKeys with their values. Nil where there are none.
	Keys []KeyValues
	// Omitted says that the name was too long to be kept.
	Omitted bool
}

// KeyValues is a key with its values. The strings may be anything, and of any length.
type KeyValues struct {
	Key string
	Set bool
	// Values are at most the first four. Those of resources are one, as text.
	Values []string
	More   int // values beyond those
}

// Query says what a Snapshot is to have in it.
type Query struct {
	Order      Order
	Partitions int // at most; no more than MostListed
	Exports    int // the same
}

// MostListed is the most partitions, and exports, of one Snapshot.
const MostListed = 1000

// Order is how partitions are ordered. Those that are equal have the order of the next one.
type Order uint8

// The orders of partitions.
const (
	ByHeld    Order = iota // who holds the most items first
	ByOldest               // who holds the oldest item first
	ByWaiting              // where a caller waits the longest for room first
)

// atOnce is how many partitions are read before others may have the lock.
const atOnce = 64

// Snapshot tells what is going on. It may be called at any time. Nothing is done for it by who sends requests. It
// takes the lock for 64 partitions at a time, so that requests hardly notice, and reads each partition there is. So
// a partition that comes meanwhile may be missing. The error is that of ctx.
func (b *Batcher[T]) Snapshot(ctx context.Context, q Query) (Snapshot, error) {
	partitions, exports := max(0, min(q.Partitions, MostListed)), max(0, min(q.Exports, MostListed))
	top := newTopRows(q.Order, partitions)
	flying := make([]flight, 0, min(exports, b.set.MaxConcurrentExports))

	b.mu.Lock()
	now := time.Now()
	s := Snapshot{Stats: b.statsNow(), ShuttingDown: b.state > stateRunning}
	for _, bt := range b.flying[:min(len(b.flying), exports)] {
		flying = append(flying, b.flightOf(bt, now))
	}
	recent, failed := b.recent, b.lastFailed
	if b.only != nil {
		b.read(&s, b.only, top, now)
		b.mu.Unlock()
	} else {
		b.mu.Unlock()
		if err := b.readAll(ctx, &s, top); err != nil {
			return Snapshot{}, err
		}
	}

	slices.SortFunc(flying, func(a, b flight) int { return cmp.Compare(b.Running, a.Running) })
	for _, f := range flying {
		f.Name = b.nameOf(f.key)
		s.Exports = append(s.Exports, f.ExportState)
	}
	for _, d := range recent.list() {
		s.Recent = append(s.Recent, Departure{b.keptNameOf(d.name), d.trigger, d.items, now.Sub(d.sealed), d.sealed.Sub(d.first)})
	}
	if failed != nil {
		f := failed.Failure
		f.Name, f.Ago = b.keptNameOf(failed.name), now.Sub(failed.at)
		s.LastFailure = &f
	}
	for _, r := range top.sorted() {
		if err := ctx.Err(); err != nil { // names can be long
			return Snapshot{}, err
		}
		r.Name, r.Left = b.nameOf(r.key), r.left.list()
		s.Partitions = append(s.Partitions, r.PartitionState)
	}
	return s, nil
}

// readAll reads all partitions. The map may change while the lock is released, which the language allows.
func (b *Batcher[T]) readAll(ctx context.Context, s *Snapshot, top *topRows) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	for _, p := range b.partitions {
		if s.Remembered > 0 && s.Remembered%atOnce == 0 {
			b.mu.Unlock()
			runtime.Gosched()
			err := ctx.Err()
			b.mu.Lock()
			if err != nil {
				return err
			}
			now = time.Now()
		}
		b.read(s, p, top, now)
	}
	return nil
}

// read adds a partition to a snapshot. Requires b.mu held.
func (b *Batcher[T]) read(s *Snapshot, p *partition[T], top *topRows, now time.Time) {
	r := row{key: p.key, left: p.left, PartitionState: PartitionState{
		Held: p.account.held, Sealed: p.items.sealed, InFlight: p.items.inFlight, Retrying: p.items.retrying,
		HeldBytes: p.account.heap, Exports: int(p.inFlight), RetryingBatches: int(p.retrying), Waiting: p.account.line.n,
	}}
	if p.open != nil {
		r.Pending = p.open.items
	}
	if b.only != nil { // what one partition holds is not counted twice
		r.Held, r.HeldBytes, r.Pending = b.budget.used, b.budget.heapUsed, int(s.Stats.Pending)
		r.Sealed, r.InFlight, r.Retrying = int(s.Stats.Sealed), int(s.Stats.InFlight), int(s.Stats.Retrying)
	}
	if first, holds := p.oldest(); holds {
		r.Oldest = now.Sub(first)
	}
	if first := p.account.line.front; first != nil {
		r.LongestWait = now.Sub(first.owner.since)
	}
	s.Remembered++
	s.Oldest, s.LongestWait = max(s.Oldest, r.Oldest), max(s.LongestWait, r.LongestWait)
	top.consider(r)
}

// oldest returns when the oldest item of p was accepted that is in a batch, and tells whether there is one. Requires
// Batcher.mu held.
func (p *partition[T]) oldest() (first time.Time, holds bool) {
	for _, bt := range [...]*batch[T]{p.away.oldest, p.line.front, p.open} {
		if bt != nil && (!holds || bt.first.Before(first)) {
			first, holds = bt.first, true
		}
	}
	return first, holds
}

// flight is an export under way with the key of its partition.
type flight struct {
	ExportState
	key string
}

// flightOf reads an export under way. Requires b.mu held.
func (b *Batcher[T]) flightOf(bt *batch[T], now time.Time) flight {
	f := flight{key: bt.partition.key, ExportState: ExportState{
		Items: bt.items, Trigger: bt.trigger, Age: now.Sub(bt.first), Part: bt.piece != nil,
	}}
	if called := bt.called.Load(); called > 0 {
		f.Running = now.Sub(b.began.Add(time.Duration(called - 1)))
	}
	return f
}

// failedExport is a Failure as it is kept.
type failedExport struct {
	Failure
	name keptName
	at   time.Time
}

// nameOf is what a key says. Requires that b.mu is not held: it takes as long as the key is.
func (b *Batcher[T]) nameOf(key string) (n Name) {
	if b.only != nil {
		return n
	}
	return Name{Keys: readKey(key, b.set.MetadataKeys, b.set.ResourceKeys)}
}

func (b *Batcher[T]) keptNameOf(n keptName) Name {
	if n.omitted {
		return Name{Omitted: true}
	}
	return b.nameOf(n.key)
}

// row is a partition that may be listed.
type row struct {
	PartitionState
	key  string
	left triggers
	rank [3]int64
	at   int // index in topRows.least, plus one
}

func (r *row) before(other *row) bool { return slices.Compare(r.rank[:], other.rank[:]) < 0 }
func (r *row) index() *int            { return &r.at }

// topRows keeps the partitions that come first by an order. It makes room for them in the beginning, since they are
// considered under a lock.
type topRows struct {
	order Order
	rows  []row
	least least[*row]
}

func newTopRows(order Order, most int) *topRows {
	return &topRows{order, make([]row, 0, most), least[*row]{make(elements[*row], 0, most)}}
}

// consider puts r among the rows if it comes before one of them, or there is room.
func (t *topRows) consider(r row) {
	if cap(t.rows) == 0 {
		return
	}
	by := [3]int64{int64(r.Held), int64(r.Oldest), int64(r.LongestWait)}
	for i := range by {
		r.rank[i] = by[(int(t.order)+i)%len(by)]
	}
	if len(t.rows) < cap(t.rows) {
		t.rows = append(t.rows, r)
		t.least.put(&t.rows[len(t.rows)-1])
		return
	}
	if last := t.least.min(); last.before(&r) {
		r.at = last.at
		*last = r
		t.least.put(last)
	}
}

// sorted returns the rows, those that come first first. Equal ones have the order of their keys.
func (t *topRows) sorted() []row {
	slices.SortFunc(t.rows, func(a, b row) int {
		return cmp.Or(slices.Compare(b.rank[:], a.rank[:]), cmp.Compare(a.key, b.key))
	})
	return t.rows
}
