package bench

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// byteLimit is a way to limit boundedbatch in bytes. The limits are out of reach: what counts
// is what it takes to know how far away they are.
type byteLimit struct {
	peer
	settings map[string]any
	most     float64 // walks that a request may cost more than without limits
}

const (
	noByteLimit peer = "none"
	// walk measures each request once with the ProtoMarshaler and does nothing else. Limits in
	// bytes are held against it.
	walk peer = "walk"
)

var byteLimits = []byteLimit{
	{peer: walk},
	{peer: noByteLimit},
	{"bytes", map[string]any{"send_batch_max_bytes": "1GiB"}, maxBytesWalks},
	{"memory", map[string]any{"memory_limit": "1TiB"}, memoryLimitWalks},
	{"both", map[string]any{"send_batch_max_bytes": "1GiB", "memory_limit": "1TiB"}, bothLimitsWalks},
}

var (
	byteItems      = []int{1, 10, 100, 1000}
	byteAttributes = []int{5, 20} // of each item
)

// bytePoolAttributes is how many attributes the items of a run have, taken together. They take
// one to two hundred megabytes, more than fits into a core's cache.
const bytePoolAttributes = 1_000_000

// byteCache is where requests are when they are sent. Each group of them is read before, in a
// row, and then sent: one of few items is in the processor's own cache then, as what a receiver
// has just decoded. Of a group of all, what is sent first has long left it.
type byteCache struct {
	name  string
	group int // items
}

var byteCaches = []byteCache{{"cold", math.MaxInt}, {"warm", 500}}

func byteCaseName(s fmt.Stringer, items, attributes int, cache byteCache, l byteLimit) string {
	return fmt.Sprintf("ByteLimits/signal=%s/items=%d/attributes=%d/cache=%s/limit=%s", s, items, attributes, cache.name, l.peer)
}

// BenchmarkByteLimits is the cost of a request with limits in bytes, and that of a walk.
func BenchmarkByteLimits(b *testing.B) {
	attributes := byteAttributes[0]
	for _, s := range all {
		for _, items := range byteItems {
			for _, cache := range byteCaches {
				for _, l := range byteLimits {
					_, name, _ := strings.Cut(byteCaseName(s, items, attributes, cache, l), "/")
					b.Run(name, func(b *testing.B) { s.benchmarkByteLimit(b, items, attributes, cache, l) })
				}
			}
		}
	}
}

func (s *signal[T]) benchmarkByteLimit(b *testing.B, items, attributes int, cache byteCache, l byteLimit) {
	inWarmMemory(b)
	pl := newBytePool(s, items, attributes)
	r := newRig(b, s, boundedbatch, l.settings, &sink[T]{entries: s.resources})
	pl.run(b, r, producing{producers: 1}) // into the steady state
	runs, sum := 0, cost{}
	for b.Loop() {
		if runs%16 == 0 {
			runtime.GC()
		}
		sum.add(pl.send(b, r, l, cache))
		runs++
	}
	r.stop(b)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(cpuPerRequest(sum), "cpu-ns/req")
}

// TestByteLimitsCostAWalk holds what a request costs more with limits in bytes than without
// against a walk over the same request, round by round. What misses its limit is measured once
// more before that counts: there are many cases, and the machine may do something else
// during one of them.
func TestByteLimitsCostAWalk(t *testing.T) {
	skipIfShort(t)
	table := newTable("limits in bytes", "items", "attributes", "cache", "with", "CPU/req", "without", "walk", "more, in walks", "from", "to", "limit")
	defer table.print()
	sizes, attributesOf := byteItems, byteAttributes
	if !*fullFlag {
		sizes, attributesOf = []int{1, 1000}, byteAttributes[:1]
	}
	for _, s := range measured() {
		for _, items := range sizes {
			for _, attributes := range attributesOf {
				caches := s.compareByteLimits(t, items, attributes)
				if slices.ContainsFunc(caches, func(of comparison) bool { return slices.ContainsFunc(byteLimits[2:], of.missesWalk) }) {
					caches = s.compareByteLimits(t, items, attributes)
				}
				for i, of := range caches {
					cache := byteCaches[i].name
					ns := func(p peer) string { return number(of.median(p, cpuPerRequest)) + " ns" }
					for _, l := range byteLimits[2:] {
						more := of.more(l)
						table.row(s, items, attributes, cache, l.peer, ns(l.peer), ns(noByteLimit), ns(walk),
							median(more), slices.Min(more), slices.Max(more), bar{aim: l.most * byteTolerance}.verdict(median(more)))
						if of.missesWalk(l) {
							t.Errorf("%s, %d items of %d attributes, %s cache: with limit=%s a request costs %.2f walks more, not %.1f",
								s, items, attributes, cache, l.peer, median(more), l.most)
						}
					}
				}
			}
		}
	}
}

// more is how many walks more than without limits a request cost with l, round by round.
func (c *comparison) more(l byteLimit) []float64 {
	values := c.each(l.peer, cpuPerRequest)
	without, walks := c.each(noByteLimit, cpuPerRequest), c.each(walk, cpuPerRequest)
	for i := range values {
		values[i] = (values[i] - without[i]) / walks[i]
	}
	return values
}

func (c *comparison) missesWalk(l byteLimit) bool {
	return median(c.more(l)) > l.most*byteTolerance**marginFlag
}

// compareByteLimits measures requests of that many items, with each state of the cache.
func (s *signal[T]) compareByteLimits(t *testing.T, items, attributes int) []comparison {
	t.Helper()
	inWarmMemory(t)
	pl := newBytePool(s, items, attributes)
	rigs := make([]*rig[T], len(byteLimits))
	for i, l := range byteLimits {
		rigs[i] = newRig(t, s, boundedbatch, l.settings, &sink[T]{entries: s.resources})
		pl.run(t, rigs[i], producing{producers: 1}) // into the steady state
	}
	all := make([]comparison, len(byteCaches))
	for i, cache := range byteCaches {
		all[i] = comparison{make(map[peer][]cost)}
		for range rounds {
			runtime.GC()
			sums := make([]cost, len(rigs))
			for range runsPerRound {
				for j, r := range rigs {
					sums[j].add(pl.send(t, r, byteLimits[j], cache))
				}
			}
			for j, l := range byteLimits {
				all[i].of[l.peer] = append(all[i].of[l.peer], sums[j])
				record("%s-%d\t%d\t%.4g cpu-ns/req\n", byteCaseName(s, items, attributes, cache, l), runtime.GOMAXPROCS(0),
					sums[j].requests, cpuPerRequest(sums[j]))
			}
		}
	}
	for _, r := range rigs {
		r.stop(t)
	}
	return all
}

func newBytePool[T any](s *signal[T], items, attributes int) *pool[T] {
	perBatch := (floorSize + items - 1) / items
	batches := bytePoolAttributes / (attributes + 5) / (perBatch * items) // an item itself is like five of them
	p := &pool[T]{signal: s, requests: make([]T, batches*perBatch), items: items, attributes: attributes}
	p.build()
	return p
}

// inGroups does something with each request of the pool, and returns the CPU that this took.
func (p *pool[T]) inGroups(tb testing.TB, cache byteCache, do func(T) error) (c cost) {
	tb.Helper()
	c.requests = len(p.requests)
	for group := range slices.Chunk(p.requests, max(1, cache.group/p.items)) {
		for _, request := range group {
			if err := p.measure(request); err != nil {
				tb.Fatal(err)
			}
		}
		began := cpuTime()
		for _, request := range group {
			if err := do(request); err != nil {
				tb.Fatal(err)
			}
		}
		c.cpu += cpuTime() - began
	}
	return c
}

// measure is a walk.
func (p *pool[T]) measure(request T) error {
	if p.bytes(request) == 0 {
		return fmt.Errorf("a request of %d items is empty", p.items)
	}
	return nil
}

// send sends the requests through r, checks that all items have arrived, and makes requests of
// them again. It returns the CPU that the calls took. A walk only reads them.
func (p *pool[T]) send(tb testing.TB, r *rig[T], l byteLimit, cache byteCache) cost {
	tb.Helper()
	if l.peer == walk {
		return p.inGroups(tb, cache, p.measure)
	}
	r.sink.mu.Lock()
	r.sink.expected = len(p.requests)
	r.sink.mu.Unlock()
	c := p.inGroups(tb, cache, func(request T) error { return r.consume(context.Background(), request) })
	select {
	case <-r.sink.complete:
	case <-time.After(patience):
		tb.Fatalf("%s did not deliver all requests in %v", r.name, patience)
	}
	p.reclaim(tb, r)
	return c
}
