package bench

import (
	"context"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/pcommon"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
)

// cost is what a run took of the process, all goroutines together: producers, batcher,
// exports and sink.
type cost struct {
	cpu     time.Duration // user and system
	elapsed time.Duration // until the sink had everything and every producer its last answer
	allocs  uint64
	bytes   uint64
	batches int // that the sink received

	requests int
	bare     time.Duration // CPU of the same without a batcher; 0: not measured
}

func (c *cost) add(d cost) {
	c.cpu += d.cpu
	c.elapsed += d.elapsed
	c.allocs += d.allocs
	c.bytes += d.bytes
	c.batches += d.batches
	c.requests += d.requests
}

// cpuTime is what the process has used so far.
func cpuTime() time.Duration {
	u := usage()
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func usage() (u syscall.Rusage) {
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // RUSAGE_SELF cannot fail
	}
	return u
}

// withoutGC runs without garbage collection but where the caller asks for it: whose
// turn it was to pay for the garbage of all would be chance. Every run leaves a bounded
// amount, and what a batcher allocates is reported beside its CPU.
func withoutGC(tb testing.TB) {
	tb.Helper()
	percent := debug.SetGCPercent(-1)
	tb.Cleanup(func() { debug.SetGCPercent(percent) })
}

// inWarmMemory runs without garbage collection, in memory that the process has already.
func inWarmMemory(tb testing.TB) {
	tb.Helper()
	withoutGC(tb)
	warm()
}

// warmHeap is how much memory the process takes before anything is measured, in bytes: what a comparison of loads needs for
// its requests and its garbage, but for the largest of all.
const warmHeap = 1 << 30

// unused is never touched, so that it takes addresses and no memory. The runtime keeps a tenth more than what is in use:
// with it, it keeps all of warmHeap and a fifth more. Where the garbage collector is on, it has nothing to do before as much
// again is in use.
var unused []byte

// warmed tells whether the process has warmHeap.
var warmed bool

// warm takes warmHeap from the operating system, and it stays until cool. A page of 4 kB costs a fault of a microsecond,
// and hundreds of them where the host of a virtual machine has to find the page first: more than what is measured, for
// whoever happens to use it first. What a collection frees, the runtime gives back in the background otherwise, at the
// cost of the same CPU, and the next run takes it again.
func warm() {
	if warmed {
		return
	}
	warmed = true
	if unused == nil {
		unused = make([]byte, 12*warmHeap)
	}
	const block, page = 64 << 20, 4 << 10
	blocks := make([][]byte, warmHeap/block)
	for i := range blocks {
		blocks[i] = make([]byte, block)
		for n := 0; n < block; n += page {
			blocks[i][n] = 1
		}
	}
	runtime.KeepAlive(blocks)
	runtime.GC()
}

// cool gives all memory back that is not in use. A process that has much of it is charged for milliseconds of CPU now and
// then, even if it sleeps.
func cool() {
	warmed = false
	debug.FreeOSMemory()
}

// sink is a downstream that keeps its batches. Entries are resources or items, whatever
// the case counts.
type sink[T any] struct {
	entries func(T) int
	delay   time.Duration // of every batch; 0: instant
	hangs   chan struct{} // until it is closed; nil: never
	// shares leaves what arrives to whoever sent it too: the sink does not declare that
	// it changes data, and nobody may.
	shares bool
	// cut is set where an entry may arrive in several pieces: with as many entries as expected everything may have
	// arrived. Whether it has is found out by counting items, when that is not measured any more.
	cut   bool
	items int // with cut: all that are to arrive

	// mu guards everything below.
	mu       sync.Mutex
	batches  []T
	arrived  int // entries
	expected int
	complete chan struct{} // one slot, filled once everything expected has arrived
}

func (s *sink[T]) consume(_ context.Context, data T) error {
	n := s.entries(data)
	if s.hangs != nil {
		<-s.hangs
	}
	if s.delay > 0 {
		time.Sleep(s.delay)
	}
	s.mu.Lock()
	s.batches = append(s.batches, data)
	s.arrived += n
	complete, maybe := s.arrived == s.expected, s.cut && s.arrived >= s.expected
	s.mu.Unlock()
	switch {
	case maybe:
		select {
		case s.complete <- struct{}{}:
		default:
		}
	case complete && !s.cut:
		s.complete <- struct{}{}
	}
	return nil
}

// itemsSince counts the items of the batches from one on, and tells how many batches there are.
func (r *rig[T]) itemsSince(batch int) (items, batches int) {
	r.sink.mu.Lock()
	defer r.sink.mu.Unlock()
	for _, b := range r.sink.batches[batch:] {
		items += r.items(b)
	}
	return items, len(r.sink.batches)
}

// capabilities is what the sink declares to whoever sends to it.
func (s *sink[T]) capabilities() consumer.Option {
	return consumer.WithCapabilities(consumer.Capabilities{MutatesData: !s.shares})
}

// take returns the batches and forgets them.
func (s *sink[T]) take() []T {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.batches
	s.batches, s.arrived = make([]T, 0, cap(all)), 0
	return all
}

// rig is a peer at work between producers and a sink.
type rig[T any] struct {
	*signal[T]
	name      peer
	consume   sinkFunc[T]
	component component.Component
	sink      *sink[T]
	metrics   *sdkmetric.ManualReader
}

func newRig[T any](tb testing.TB, s *signal[T], p peer, settings map[string]any, next *sink[T]) *rig[T] {
	tb.Helper()
	next.complete = make(chan struct{}, 1)
	r := &rig[T]{signal: s, name: p, sink: next, metrics: sdkmetric.NewManualReader()}
	var err error
	if r.component, r.consume, err = create(p, s, settings, next, r.metrics); err != nil {
		tb.Fatalf("create %s: %v", p, err)
	}
	if err = r.component.Start(context.Background(), nil); err != nil {
		tb.Fatalf("start %s: %v", p, err)
	}
	return r
}

// stop shuts the peer down. Everything has been taken from the sink before: whatever
// comes now was delivered twice.
func (r *rig[T]) stop(tb testing.TB) {
	tb.Helper()
	r.shutdown(tb)
	for _, late := range r.sink.take() {
		tb.Errorf("%s delivered %d items more than it was given", r.name, r.items(late))
	}
}

// shutdown has the peer deliver what it still holds.
func (r *rig[T]) shutdown(tb testing.TB) {
	tb.Helper()
	if err := r.component.Shutdown(context.Background()); err != nil {
		tb.Fatalf("shut down %s: %v", r.name, err)
	}
}

// patience is how long a run may take before what is missing counts as lost.
const patience = time.Minute

// run sends the requests, divided among the producers, and waits until the sink has all
// entries and every producer the answer to its last request.
// What is not part of the work (starting the producers, reading the clocks) is outside
// the measurement.
func (r *rig[T]) run(tb testing.TB, requests []T, how producing, entries int) (c cost) {
	tb.Helper()
	r.sink.mu.Lock()
	r.sink.expected = entries
	r.sink.mu.Unlock()

	producers, before := how.producers, how.beforeRequest()
	ends := make(chan error, producers) // one of each: the first error it got, or nil
	begin := make(chan struct{})
	for i := range producers {
		next, end, step := len(requests)*i/producers, len(requests)*(i+1)/producers, 1
		if how.inStep {
			next, end, step = i, len(requests), producers
		}
		go func() {
			<-begin
			began := time.Now()
			for sent := 0; next < end; next += step {
				if before != nil {
					before(began, sent)
				}
				sent++
				if err := r.consume(how.context(next), requests[next]); err != nil {
					ends <- err
					return
				}
			}
			ends <- nil
		}()
	}
	lost := time.NewTimer(patience)
	defer lost.Stop()
	var memory, after runtime.MemStats
	runtime.ReadMemStats(&memory)
	cpu, began := cpuTime(), time.Now()

	close(begin)
	// skipped is the CPU that it took to find out that something was still missing.
	var skipped time.Duration
	working, complete, counted, missing := producers, entries == 0, 0, r.sink.items
	for working > 0 || !complete {
		select {
		case <-r.sink.complete:
			complete = true
		case err := <-ends:
			if err != nil {
				tb.Fatalf("%s answered a request with an error: %v", r.name, err)
			}
			working--
		case <-lost.C:
			r.sink.mu.Lock()
			arrived := r.sink.arrived
			r.sink.mu.Unlock()
			tb.Fatalf("%s delivered %d of %d entries in %v, and %d of %d producers were still at work",
				r.name, arrived, entries, patience, working, producers)
		}
		if working > 0 || !complete {
			continue
		}
		c.elapsed, c.cpu = time.Since(began), cpuTime()-cpu-skipped
		if r.sink.cut && entries > 0 {
			looked := cpuTime()
			var more int
			more, counted = r.itemsSince(counted)
			missing -= more
			complete = missing == 0
			skipped += cpuTime() - looked
		}
	}

	c.requests = len(requests)
	runtime.ReadMemStats(&after)
	r.sink.mu.Lock()
	c.batches = len(r.sink.batches)
	r.sink.mu.Unlock()
	c.allocs, c.bytes = after.Mallocs-memory.Mallocs, after.TotalAlloc-memory.TotalAlloc
	return c
}

// pool is requests of equal size that go through one peer after another. What a sink
// has received becomes the requests of the next run, so that the memory is the same for
// all and bounded. Each gets its place again, and what is made for it lies between that of its
// neighbours: where producers meet, or tenants take turns, requests arrive in any
// order, and after some runs every one would lie somewhere else in memory. Then most of what
// is measured would be waiting for it, which no batcher can help.
type pool[T any] struct {
	*signal[T]
	requests   []T
	items      int  // in each request
	resources  int  // that they are divided among; 0 is 1
	attributes int  // of each item
	cut        bool // what a sink receives may be a piece of a request

	places []arrival // where each entry is in what a sink has received
}

// arrival is an entry of a batch.
type arrival struct{ batch, entry int }

// A pool is large enough for a run of tens of milliseconds, which many producers must
// share to meet each other, and small enough for a few hundred megabytes.
const (
	poolRequests = 50_000
	poolItems    = 1_000_000
)

// newPool makes as many requests as whole batches of the default size hold.
func newPool[T any](s *signal[T], items int) *pool[T] {
	return newPoolOf(s, items, wholeBatches(items))
}

func wholeBatches(items int) int {
	perBatch := requestsOf(1, items)
	return perBatch * min(poolRequests/perBatch, poolItems/(perBatch*items))
}

func newPoolOf[T any](s *signal[T], items, requests int) *pool[T] {
	p := &pool[T]{signal: s, requests: make([]T, requests), items: items}
	p.build()
	return p
}

// build makes the requests anew, and leaves no garbage.
func (p *pool[T]) build() {
	p.resources = max(1, p.resources)
	p.places = make([]arrival, len(p.requests)*p.resources)
	for i := range p.requests {
		p.requests[i] = p.entry(i * p.resources)
		for n := range p.resources - 1 {
			p.move(p.entry(i*p.resources+n+1), p.requests[i])
		}
	}
	runtime.GC()
}

// entry makes the n-th resource of all. It carries its number as the count of its dropped attributes, which no batcher
// looks at.
func (p *pool[T]) entry(n int) T {
	request := newAttributed(p.signal, p.items/p.resources, p.attributes)
	p.origin(request).SetDroppedAttributesCount(uint32(n))
	return request
}

// newAttributed makes a request whose items have that many attributes each.
func newAttributed[T any](s *signal[T], items, attributes int) T {
	request := s.build(items)
	s.attributes(request, func(m pcommon.Map) {
		for n := range attributes {
			attribute(m, n)
		}
	})
	return request
}

// run sends all requests of the pool through r, checks that all items have arrived, and
// makes requests of them again. What a sink shares is not ours to change: instead of it
// there will be new requests.
func (p *pool[T]) run(tb testing.TB, r *rig[T], how producing) cost {
	tb.Helper()
	if r.name == none || r.name == counting {
		return r.run(tb, p.requests, how, 0)
	}
	r.sink.items = len(p.requests) * p.items
	c := r.run(tb, p.requests, how, len(p.requests)*p.resources)
	p.reclaim(tb, r)
	return c
}

// reclaim checks that all items have arrived and makes requests of them again, in their order: what is made for one
// after another lies one behind another.
func (p *pool[T]) reclaim(tb testing.TB, r *rig[T]) {
	tb.Helper()
	anew := r.sink.shares || p.cut
	arrived, batches := 0, r.sink.take()
	for i, b := range batches {
		arrived += p.signal.items(b)
		if anew {
			continue
		}
		for entry := range p.signal.resources(b) {
			p.places[p.originAt(b, entry).DroppedAttributesCount()] = arrival{i, entry}
		}
	}
	if want := len(p.requests) * p.items; arrived != want {
		tb.Fatalf("%s delivered %d of %d items", r.name, arrived, want)
	}
	if anew {
		p.build()
		return
	}
	for i := range p.requests {
		p.requests[i] = p.empty(0)
		for _, at := range p.places[i*p.resources : (i+1)*p.resources] {
			p.take(batches[at.batch], at.entry, p.requests[i])
		}
	}
}
