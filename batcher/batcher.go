package batcher

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/collector/client"
	"go.opentelemetry.io/otel/trace"
)

// Batcher collects the requests of one signal into batches and hands these to the
// next consumer. All methods are safe for concurrent use.
type Batcher[T any] struct {
	// mu guards everything down to the next blank line. Under it we compute: nothing
	// waits, nothing calls the observer, the next consumer or another caller. What a
	// request that joins a batch looks at and changes comes first, up to the first half of
	// budget, in one cache line: each further one would travel between cores with the lock.
	mu         sync.Mutex
	state      state
	accepted   int64 // stats.Accepted
	budget     budget
	stats      Stats                    // Accepted, Pending, Held and the gauges are computed when asked for
	partitions map[string]*partition[T] // with keys: every partition that holds anything
	most       int                      // partitions that were in that map at once
	live       list[partition[T]]
	ready      ready[T]
	fullest    fullest[T]
	exports    int     // slots taken
	blocked    int     // callers that wait for room; one may stand in several lines
	woken      *waiter // chain of callers that were admitted and are not told yet, see dispatch
	heapAway   int     // of the budget: what is in flight, or being searched
	ticker     *ticker[partition[T]]
	retries    *ticker[batch[T]] // the batches that wait to be sent again
	empty      bool              // drained is closed
	lastRetry  time.Time         // while shutting down: no export is repeated after this
	failure    error             // the last failure of an export since Shutdown began
	flying     []*batch[T]       // what is in flight, in no order; see batch.slot
	recent     departures        // the batches that left last
	lastFailed *failedExport     // the last export that failed; nil: none did

	_ [64]byte // what follows is only read

	signal Signal[T]
	set    Settings
	next   func(context.Context, T) error
	began  time.Time     // of the batcher, for batch.called
	only   *partition[T] // the partition of a batcher without keys

	sharing      sharing[T] // the signal, if sizes do not add up; nil otherwise
	limit        Size       // most in a batch
	weighsBytes  bool       // limit.Bytes is set
	plain        bool       // there is one partition, nobody waits for results, and sizes add up
	early        bool       // requests are moved into a batch when they join it, not when it leaves
	weighsHeap   bool       // the budget is limited in heap
	heapCopies   int        // how often what is held lies in memory
	perPartition int        // most exports of one partition at once
	sharesSlots  bool       // how many it may have depends on how many slots are free, too
	ordered      bool       // the batches of a partition leave one after the other, whatever happens
	resends      bool       // batches can be sent again: downstream leaves them intact, or gets a copy
	copies       bool       // downstream gets a copy

	// base is what every export's context is made from; cancel ends them all.
	base   context.Context
	cancel context.CancelFunc

	stop      chan struct{} // closed: the scheduling goroutine ends
	scheduled chan struct{} // closed: it has ended, or never began
	drained   chan struct{} // closed: shutting down and nothing is held any more
	stopped   chan struct{} // closed: Shutdown is over
	err       error         // its result, written before stopped is closed
	over      atomic.Bool   // state is stateOver, for who does not hold mu

	bells sync.Pool // of bell; not one for all batchers: what is made in a bubble of testing/synctest must stay there

	itemBytes atomic.Int64 // what requests have for each of their items, roughly; rarely written
}

// state is where a batcher is in its life. It only moves forward.
type state uint8

const (
	stateNew      state = iota // Start is still to come: requests are refused
	stateRunning               // requests are admitted
	stateDraining              // requests are refused, what was admitted leaves
	stateStopped               // nothing begins to leave any more
	stateOver                  // exports still under way have been given up
)

// New makes a batcher that hands its batches to next, which owns each batch from
// then on. Invalid settings are an error that names all of them. The batcher does
// nothing, and refuses requests, before Start.
func New[T any](signal Signal[T], set Settings, next func(context.Context, T) error) (*Batcher[T], error) {
	if err := set.Validate(); err != nil {
		return nil, err
	}
	if set.Observer == nil {
		set.Observer = nopObserver{}
	}
	b := &Batcher[T]{
		signal: signal,
		set:    set,
		next:   next,
		began:  time.Now(),

		// Where a setting is 0 the next larger bound applies.
		limit: Size{
			Items: cmp.Or(set.SendBatchMaxSize, math.MaxInt),
			Bytes: cmp.Or(set.SendBatchMaxBytes, math.MaxInt),
			Heap:  math.MaxInt,
		},
		weighsBytes:  set.SendBatchMaxBytes > 0,
		weighsHeap:   set.MemoryLimit > 0,
		heapCopies:   1,
		perPartition: cmp.Or(set.MaxConcurrentExportsPerPartition, set.MaxConcurrentExports),

		copies: set.NextMutates && (set.WaitForResult || set.Retry.Enabled),

		budget: budget{
			capacity: set.QueueSize, heapCapacity: set.MemoryLimit, heavy: set.MemoryLimit > 0,
			shared: set.divides(), blocks: set.BlockOnOverflow,
		},
		stop:      make(chan struct{}),
		scheduled: make(chan struct{}),
		drained:   make(chan struct{}),
		stopped:   make(chan struct{}),
	}
	b.sharing, _ = any(signal).(sharing[T])
	b.early = !set.WaitForResult || b.sharesBytes()
	b.plain = !set.divides() && !set.WaitForResult && b.sharing == nil
	b.itemBytes.Store(firstItemBytes)
	b.ordered = b.perPartition == 1
	b.resends = b.copies || !set.NextMutates
	if b.copies {
		b.heapCopies = 2 // one of them while it is in flight, but it must fit then
	}
	b.base, b.cancel = context.WithCancel(b.labelled("export"))
	if set.divides() {
		b.set.MetadataKeys = make([]string, len(set.MetadataKeys))
		for i, key := range set.MetadataKeys {
			b.set.MetadataKeys[i] = strings.ToLower(key) // as client.Metadata has them: a request need not pay for it
		}
		b.sharesSlots = set.MaxConcurrentExportsPerPartition == 0
		b.partitions = make(map[string]*partition[T])
	} else {
		b.only = newPartition[T](b.base, "")
	}
	return b, nil
}

// Start begins to admit requests. It starts the scheduling goroutine, which sleeps
// until the first tick is due; no timer is armed before there is data.
func (b *Batcher[T]) Start() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state != stateNew {
		return fmt.Errorf("the %s batcher can be started only once, and not after its shutdown", b.signal.Name())
	}
	b.state = stateRunning
	b.ticker = newTicker[partition[T]](max(b.set.Timeout, 1))
	b.retries = newTicker[batch[T]](1) // each batch has its own wait
	go b.schedule()
	return nil
}

// Consume takes responsibility for the items in data, or returns an error and keeps
// nothing of them. With BlockOnOverflow it waits for room in the budget; the end of ctx
// and Shutdown end the wait. A nil error says that the items are pending, not that they
// are delivered.
//
// With WaitForResult it then waits for what becomes of the items: nil says that all of
// them are delivered, and an error is that of their own exports, permanent or not as these
// were. When ctx ends, what is still pending is withdrawn and the rest may be delivered.
//
// A request that exceeds QueueSize or MemoryLimit is admitted piece by piece, and so is one of
// a partition that holds nothing, if less than that is free. One with resources of several
// partitions is divided. If that is cut short, the error (consumererror.Traces and its kin)
// holds the items that were not accepted. Every refusal but ErrTooLarge and ErrInvalid is worth
// a later try.
//
// Items that exceed SendBatchMaxBytes each, or all of MemoryLimit, are dropped, and the
// others go on. The error wraps ErrItemTooLarge then, whether the caller waits or not. A profile
// is never cut: one that exceeds a limit of batches is a batch of its own, and its samples are
// dropped if it exceeds all of QueueSize or MemoryLimit.
//
// Consume empties data, so the caller must own it.
func (b *Batcher[T]) Consume(ctx context.Context, data T) error {
	if !b.plain {
		return b.consumeOthers(ctx, data)
	}
	size, sizes, taken := b.consumePlain(ctx, data)
	if taken {
		return nil
	}
	return b.consume(ctx, &caller[T]{span: b.spanOf(ctx)}, nil, data, size, sizes)
}

// consumePlain takes a request if it is what most are, by the default configuration: nobody waits for it, no
// batch is to be linked to it, and it joins a batch as join has it. It tells whether it has taken it;
// otherwise nothing has happened but that it has been measured. Most of the time of such a request is
// waiting for memory, and the less code there is between two such waits, the more of them the
// processor does at once: so all of it is in one function, which takes three quarters of the time of what
// other requests go through. Requires b.plain.
func (b *Batcher[T]) consumePlain(ctx context.Context, data T) (size Size, sizes *Sizes, taken bool) {
	if size.Items = b.signal.Items(data); b.weighs() && size.Items > 0 {
		size, sizes = b.weigh(data, size)
	}
	if ctx.Err() != nil || b.set.Tracer != nil && b.spanOf(ctx).IsSampled() {
		return size, sizes, false
	}
	b.lock()
	p, sealed := b.only, false
	bt := p.open
	if bt == nil {
		bt, sealed = p.line.last(), true
	}
	if bt == nil || size.Items == 0 || b.state != stateRunning || !b.leavesOpen(bt, size) || !b.budget.takeAlone(&p.account, size) {
		b.mu.Unlock()
		return size, sizes, false
	}
	b.move(data, bt)
	bt.items += size.Items
	if b.weighs() { // an addition of nothing takes longer
		bt.bytes += size.Bytes
		bt.heap += size.Heap
	}
	b.accepted += int64(size.Items)
	if sealed {
		b.stats.Sealed += int64(size.Items)
	}
	b.mu.Unlock()
	sizes.free()
	return size, nil, true
}

// spanOf is the span that a caller is in, if batches are linked to such.
func (b *Batcher[T]) spanOf(ctx context.Context) (none trace.SpanContext) {
	if b.set.Tracer == nil {
		return none
	}
	return trace.SpanContextFromContext(ctx)
}

// consumeOthers is Consume for all that are not plain.
func (b *Batcher[T]) consumeOthers(ctx context.Context, data T) error {
	c := caller[T]{span: b.spanOf(ctx)}
	if b.sharing != nil {
		if err := b.sharing.check(data); err != nil {
			return b.refuse(invalid[T](err), b.signal.Items(data))
		}
	}
	if b.only != nil {
		return b.consumeWhole(ctx, &c, nil, data)
	}
	var buf [128]byte // stays on the stack while nothing keeps a key
	key := appendKey(buf[:0], b.set.MetadataKeys, client.FromContext(ctx).Metadata)
	if len(b.set.ResourceKeys) > 0 {
		return b.consumeByResource(ctx, &c, key, data)
	}
	return b.consumeWhole(ctx, &c, key, data)
}

// consumeWhole is Consume for a request of one partition.
func (b *Batcher[T]) consumeWhole(ctx context.Context, c *caller[T], key []byte, data T) error {
	size, sizes := b.measure(data)
	return b.consume(ctx, c, key, data, size, sizes)
}

// consume is consumeWhole for a request that is measured. It frees the sizes.
func (b *Batcher[T]) consume(ctx context.Context, c *caller[T], key []byte, data T, size Size, sizes *Sizes) error {
	c.items = size.Items
	if b.set.WaitForResult {
		c.waits.spare = b.bell()
	}
	ended := ctx.Err()
	b.lock()
	if ended == nil && b.join(c, key, data, size) {
		b.mu.Unlock()
		sizes.free()
		return b.outcome(ctx, c)
	}
	r := b.enter(ctx, ended, c, key, data, size, sizes)
	sizes.free()
	if unused := c.waits.spare; unused != nil {
		c.waits.spare = nil // it is anybody's now
		b.bells.Put(unused)
	}
	if r != nil {
		return b.partly(ctx, c, r, size.Items)
	}
	return b.outcome(ctx, c)
}

// Pauses between tries for the lock, in turns of an empty loop, each about a third of a
// nanosecond on the machines it was tuned on.
const (
	firstPause = 1 << 12
	lastPause  = 1 << 14
)

// lock takes b.mu for a caller, and spins for some ten microseconds before it parks.
//
// What a request changes lies in four cache lines that come along with the lock. Passing
// them from core to core takes several times as long as the request itself, and sync.Mutex
// passes them for nearly every request where many callers contend, or parks, which takes
// longer still. So who finds the lock taken stays away for as long as some ten requests
// take: meanwhile the callers on the other core have the lines to themselves. Then it is
// the other way round. The pauses double, as in exponential backoff on a network (Anderson,
// "The Performance of Spin Lock Alternatives", 1990).
func (b *Batcher[T]) lock() {
	for pause := firstPause; !b.mu.TryLock(); pause *= 2 {
		if pause > lastPause {
			b.mu.Lock()
			return
		}
		for n := pause; n > 0; n-- {
			continue
		}
	}
}

// join does all there is to do for most requests: it puts one into an open batch that
// it does not fill, or into one that waits for a slot. Nothing is to be sealed, armed, cut,
// dispatched or woken for it: had the batch been due to leave, it would have left. It tells
// whether it did so. Requires b.mu held.
func (b *Batcher[T]) join(c *caller[T], key []byte, data T, size Size) bool {
	p := b.only
	if p == nil {
		p = b.partitions[string(key)]
	}
	if p == nil || b.state != stateRunning || size.Items == 0 {
		return false
	}
	bt := p.open
	if bt == nil {
		if bt = p.line.last(); bt == nil {
			return false
		}
	}
	if !b.leavesOpen(bt, size) || !b.budget.take(&p.account, size) {
		return false
	}
	b.add(c, bt, data, size)
	return true
}

// leavesOpen tells whether bt is not full with so much more in it.
func (b *Batcher[T]) leavesOpen(bt *batch[T], size Size) bool {
	return size.Items < b.set.SendBatchSize-bt.items && size.Bytes < b.limit.Bytes-bt.bytes
}

// caller is what one Consume call knows of its context, read before b.mu is taken because
// a context may be anybody's code, and of where its items are.
type caller[T any] struct {
	span  trace.SpanContext
	waits waits[T] // empty where it does not
	items int      // of its request
	lost  *lost[T] // of them; nil: none
}

// enter admits a request and puts it into batches: what join does not do. The error of the
// caller's context is ended. Requires b.mu held, and releases it.
func (b *Batcher[T]) enter(ctx context.Context, ended error, c *caller[T], key []byte, data T, size Size, sizes *Sizes) *refusal[T] {
	r := b.closed(ended, size.Items)
	if r != nil || size.Items == 0 {
		b.mu.Unlock()
		return r
	}
	if p := b.admit(key, size); p != nil {
		return b.accept(c, p, data, size, sizes)
	}
	if !b.set.BlockOnOverflow {
		r = b.noRoom(key, size)
		b.mu.Unlock()
		return r
	}
	line := []entry[T]{{key: bytes.Clone(key), data: data, left: size, sizes: sizes}} // so that the original stays on the stack
	if r = b.enterLate(ctx, c, line); r != nil && line[0].apart {
		r.rest, r.apart = b.signal.New(0), true
		b.restOf(&line[0], r.rest)
	}
	return r
}

// admit takes a request's part of the budget for a partition and returns it, or nil if it
// does not fit or somebody is to come before. Requires b.mu held, stateRunning, and items.
func (b *Batcher[T]) admit(key []byte, size Size) *partition[T] {
	if !b.budget.holds(size) {
		return nil
	}
	p := b.partitionOf(key)
	if b.budget.take(&p.account, size) {
		return p
	}
	b.rest(p)
	return nil
}

// noRoom is the refusal of a request that does not fit and must not wait. Requires b.mu
// held.
func (b *Batcher[T]) noRoom(key []byte, size Size) *refusal[T] {
	if !b.budget.holds(size) {
		return tooLarge[T](size, &b.budget)
	}
	var a account
	if p := b.partitions[string(key)]; p != nil {
		a = p.account
	}
	return overflow[T](size, &a, &b.budget)
}

// closed tells why a request is refused whatever room there is, or nil. The error of
// the caller's context is ended. Requires b.mu held.
func (b *Batcher[T]) closed(ended error, items int) *refusal[T] {
	switch {
	case b.state == stateNew:
		return &refusal[T]{cause: RefusedShutdown, err: ErrNotStarted}
	case b.state != stateRunning:
		return &refusal[T]{cause: RefusedShutdown, err: ErrShutdown}
	case ended != nil:
		return canceled[T](ended, items)
	}
	return nil
}

// refuse counts a refusal and returns its error.
func (b *Batcher[T]) refuse(r *refusal[T], items int) error {
	b.mu.Lock()
	b.stats.Refused[r.cause] += int64(items)
	b.mu.Unlock()
	return r.err
}

// accept puts admitted items into the open batch of their partition and seals what
// is full. If the time for shutting down ends meanwhile, it returns the refusal with
// what it has not placed. Requires b.mu held, and releases it.
func (b *Batcher[T]) accept(c *caller[T], p *partition[T], data T, size Size, sizes *Sizes) *refusal[T] {
	cut := false
	for size.Items > 0 && !b.fits(p.open, data, size) {
		if b.nearlyFull(p.open) || cut && b.tookAlong(p.open, size, sizes) {
			b.seal(p, TriggerSize, time.Now())
			continue
		}
		r, rest, left := b.fill(c, p, data, size, sizes)
		if r != nil {
			b.mu.Unlock()
			return r
		}
		data, size, sizes, cut = rest.data, rest.Size, left, true
	}
	switch bt := p.line.last(); {
	case size.Items == 0: // all of it was in full batches, or lost
		b.rest(p)
	case bt != nil && p.open == nil && b.leavesOpen(bt, size):
		b.add(c, bt, data, size)
	default:
		b.place(c, p, data, size)
	}
	todo := b.dispatch()
	b.mu.Unlock()
	b.carryOut(todo)
	return nil
}

// place puts items that fit into the open batch of p, and seals it if it is due.
// Requires b.mu held.
func (b *Batcher[T]) place(c *caller[T], p *partition[T], data T, size Size) {
	b.open(p)
	b.add(c, p.open, data, size)
	switch {
	case b.state != stateRunning:
		b.seal(p, TriggerShutdown, time.Now())
	case !b.leavesOpen(p.open, Size{}):
		b.seal(p, TriggerSize, time.Now())
	default:
		if b.set.Timeout > 0 && !p.grid.ticks() {
			b.ticker.start(&p.grid, p.open.first)
		}
		b.queue(p) // it may be one that flushes at once
	}
}

// add moves items to a batch that has room for them: the open one of its partition, or the
// last one in its line. Requires b.mu held.
func (b *Batcher[T]) add(c *caller[T], bt *batch[T], data T, size Size) {
	b.put(c, bt, data, size)
	b.accepted += int64(size.Items)
	p := bt.partition
	if p.open != bt {
		b.countSealed(p, size.Items)
		return
	}
	if b.only == nil {
		b.live.moveToBack(&p.live)
		b.fullest.update(p)
	}
}

// put makes data, which has that size, a part of bt, and leaves the batcher's counts to its
// caller. Requires b.mu held.
func (b *Batcher[T]) put(c *caller[T], bt *batch[T], data T, size Size) {
	link := 0
	if c.span.IsSampled() {
		link = bt.link(c.span)
	}
	switch {
	case !b.early:
		b.signal.Ref(data) // the caller may leave before the batch does
		b.share(&c.waits, bt, share[T]{data: data, Size: size, link: link})
	case b.set.WaitForResult:
		s := share[T]{Size: size, link: link, resources: b.signal.Resources(data)}
		was := b.sharing.outer(bt.data)
		b.signal.Move(data, bt.data)
		s.Bytes = b.sharing.outer(bt.data) - was
		b.share(&c.waits, bt, s)
	default:
		b.move(data, bt)
	}
	bt.items += size.Items
	if b.weighs() {
		bt.bytes += size.Bytes
		bt.heap += size.Heap
		if b.sharesBytes() {
			bt.bytes = b.signal.Bytes(bt.data)
		}
	}
}

// move puts a request for which nobody waits behind those in bt. Requires b.mu held.
func (b *Batcher[T]) move(data T, bt *batch[T]) {
	if n := b.signal.Resources(data); n > 1 {
		from := b.signal.Resources(bt.data)
		bt.wide = append(bt.wide, extent{from, from + n})
	}
	b.signal.Move(data, bt.data)
}

// open makes sure that p has an open batch. Requires b.mu held.
func (b *Batcher[T]) open(p *partition[T]) {
	if p.open != nil {
		return
	}
	now := time.Now()
	b.enliven(p, now)
	p.open = &batch[T]{partition: p, first: now}
	if b.set.WaitForResult {
		p.open.shares = make([]share[T], 0, p.extent)
	}
	if b.early {
		p.open.data = b.signal.New(p.extent)
	}
}

// seal closes what is open in p and puts it into the line. The grid of p goes on
// after a tick and ends otherwise: the next item starts it anew. Requires b.mu held
// and p.open set.
func (b *Batcher[T]) seal(p *partition[T], trigger Trigger, now time.Time) *batch[T] {
	bt := p.open
	p.open = nil
	p.extent = b.requests(bt)
	bt.sealed, bt.trigger = now, trigger
	b.unprepare(p.line.back) // nothing joins it any more
	p.line.push(bt)
	b.countSealed(p, bt.items)
	b.stats.Batches[trigger]++
	if trigger != TriggerTimeout {
		b.endGrid(p, now)
	}
	b.rest(p)
	b.queue(p)
	return bt
}

// requests is roughly how many requests are in a batch: resources, where nobody waits.
// Requires b.mu held.
func (b *Batcher[T]) requests(bt *batch[T]) int {
	if b.set.WaitForResult {
		return len(bt.shares)
	}
	return b.signal.Resources(bt.data)
}

// unprepare lets go of what is only needed to move requests into a batch, unless one is being cut for
// it: then whoever does so uses it. Nil is no batch. Requires b.mu held.
func (b *Batcher[T]) unprepare(bt *batch[T]) {
	if b.sharing != nil && bt != nil && !bt.filling && !bt.ready && bt.piece == nil && b.early {
		b.sharing.unprepare(bt.data)
	}
}

// Stats returns what the batcher holds and has done, all at one instant.
func (b *Batcher[T]) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.statsNow()
}

// statsNow is Stats. Requires b.mu held.
func (b *Batcher[T]) statsNow() Stats {
	s := b.stats
	s.Accepted = b.accepted
	s.Pending = s.Accepted - s.Delivered - s.Sealed - s.InFlight - s.Retrying
	for _, n := range s.Failed {
		s.Pending -= n
	}
	for _, n := range s.Dropped {
		s.Pending -= n
	}
	s.Held, s.Capacity = int64(b.budget.used), int64(b.budget.capacity)
	s.HeldBytes, s.CapacityBytes = int64(b.budget.heapUsed), int64(b.budget.heapCapacity)
	s.ExportsInFlight = int64(b.exports)
	s.LivePartitions = int64(b.live.n)
	s.WaitingCallers = int64(b.blocked)
	return s
}
