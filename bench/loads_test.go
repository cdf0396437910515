package bench

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// load is something that producers do with batchers. Those that take part do it in turns.
type load struct {
	name string // of the benchmark
	keys string // what makes it this one of several: "items=10/producers=1"
	full bool   // measured only with -full

	items     int // in each request
	resources int // that they are divided among; 0 is 1
	requests  int // in each run; 0: as many as newPool makes
	producing
	// tenants is how many there are; the requests are theirs in turn. 0: requests have none.
	tenants int

	settings map[peer]map[string]any // of those that take part
	// few is how many requests a peer gets that would take too long for all of them. What counts is the cost of one.
	few map[peer]int
	// cut: requests are cut, so that those of the next run have to be made anew.
	cut bool

	delay time.Duration // of every batch downstream
	// shares: the sink does not change what it gets, as exporters do not.
	shares bool

	procs  int // GOMAXPROCS; 0: as it is
	rounds int // 0: the usual number
}

func (l *load) String() string { return l.name + "/" + l.keys }

// benchmark is the name of the benchmark of a peer.
func (l *load) benchmark(signal fmt.Stringer, p peer) string {
	return fmt.Sprintf("%s/signal=%s/%s/impl=%s", l.name, signal, l.keys, p)
}

// quantity is something that a load costs.
type quantity struct {
	name string
	of   func(cost) float64
}

var (
	cpu = quantity{"CPU", cpuPerRequest}
	// ownCPU is what is left without the work of the producers themselves.
	ownCPU      = quantity{"own CPU", func(c cost) float64 { return float64(c.cpu-c.bare) / float64(c.requests) }}
	speed       = quantity{"items/s", func(c cost) float64 { return float64(c.requests) / c.elapsed.Seconds() }}
	allocated   = quantity{"bytes", bytesPerRequest}
	allocations = quantity{"allocations", allocsPerRequest}
)

// rounds is how often each comparison is repeated. Within a round the peers take turns,
// so that whatever else the machine does meets all of them.
const rounds = 8

// runsPerRound is how many runs of each peer a round adds up at least. The kernel may account the
// work of another core a clock tick late, which must not count: short runs are repeated until
// there are requestsPerRound.
const (
	runsPerRound     = 2
	requestsPerRound = 100_000
)

// moreLoads is how often a load is measured again while a claim is missed.
const moreLoads = 3

// TestLoads holds what requests cost against what they cost other batchers, each load in a test of its own. Ratios are
// of one round each, and their median decides, unless a claim says otherwise. What misses is measured again, up to three times, and all rounds decide: there are
// many claims, and the machine may do something else during one of them.
func TestLoads(t *testing.T) {
	skipIfShort(t)
	costs := newTable("load", "signal", "peer", "items/s", "CPU/req", "without the work", "B/req", "allocs/req", "req/batch")
	held := newTable("claim", "signal", "what", "against", "median", "from", "to", "aim (held)")
	defer held.print()
	defer costs.print()
	for _, l := range loads {
		if l.full && !*fullFlag {
			continue
		}
		t.Run(l.String(), func(t *testing.T) {
			for _, s := range measured() {
				t.Run(s.String(), func(t *testing.T) { testLoad(t, l, s, costs, held) })
			}
		})
	}
}

func testLoad(t *testing.T, l *load, s anySignal, costs, held table) {
	t.Helper()
	var own []claim
	if s != anySignal(&metrics) {
		own = claims[l.String()]
	}
	c := s.compare(t, l)
	for n := 0; n < moreLoads && slices.ContainsFunc(own, func(cl claim) bool { return c.misses(&cl) }); n++ {
		for p, again := range s.compare(t, l).of {
			c.of[p] = append(c.of[p], again...)
		}
	}
	for _, p := range slices.Sorted(maps.Keys(c.of)) {
		own := ""
		if c.of[p][0].bare > 0 {
			own = number(c.median(p, ownCPU.of)) + " ns"
		}
		costs.row(l, s, p, number(float64(l.items)*c.median(p, speed.of)), number(c.median(p, cpu.of))+" ns", own,
			c.median(p, allocated.of), c.median(p, allocations.of), c.median(p, requestsPerBatch))
	}
	for _, cl := range own {
		values, value := c.values(&cl), c.value(&cl)
		held.row(l, s, cl.of.name, cl.against, value, slices.Min(values), slices.Max(values), cl.verdict(value))
		if c.misses(&cl) {
			t.Errorf("%s of %s against %q: %.3g, the limit is %.4g", cl.of.name, cl.whose(), cl.against, value, cl.enforced())
		}
	}
}

// TestEveryClaimIsAboutALoad finds those that nobody would notice to be missed.
func TestEveryClaimIsAboutALoad(t *testing.T) {
	for name, own := range claims {
		i := slices.IndexFunc(loads, func(l *load) bool { return l.String() == name })
		if i < 0 {
			t.Errorf("no load is called %s", name)
			continue
		}
		for _, c := range own {
			for _, p := range []peer{c.whose(), c.against} {
				if _, found := loads[i].settings[p]; !found && p != "" {
					t.Errorf("%s: %s does not take part", name, p)
				}
			}
		}
	}
}

// comparison is what each peer took in each round.
type comparison struct{ of map[peer][]cost }

func cpuPerRequest(c cost) float64    { return float64(c.cpu) / float64(c.requests) }
func bytesPerRequest(c cost) float64  { return float64(c.bytes) / float64(c.requests) }
func allocsPerRequest(c cost) float64 { return float64(c.allocs) / float64(c.requests) }
func requestsPerBatch(c cost) float64 { return float64(c.requests) / float64(max(1, c.batches)) }

func (c *comparison) each(p peer, of func(cost) float64) []float64 {
	values := make([]float64, len(c.of[p]))
	for i, cost := range c.of[p] {
		values[i] = of(cost)
	}
	return values
}

func (c *comparison) median(p peer, of func(cost) float64) float64 { return median(c.each(p, of)) }

// values is what a claim is about, round by round.
func (c *comparison) values(cl *claim) []float64 {
	values := c.each(cl.whose(), cl.of.of)
	if cl.against == "" {
		return values
	}
	return quotients(values, c.each(cl.against, cl.of.of))
}

// value is what the claim is held to.
func (c *comparison) value(cl *claim) float64 {
	if cl.medians {
		return c.median(cl.whose(), cl.of.of) / c.median(cl.against, cl.of.of)
	}
	return median(c.values(cl))
}

func (c *comparison) misses(cl *claim) bool { return cl.missed(c.value(cl), cl.margin()) }

// compare has everybody who takes part in a load do it in turns.
func (s *signal[T]) compare(t *testing.T, l *load) comparison {
	t.Helper()
	inWarmMemory(t)
	if l.procs > 0 {
		before := runtime.GOMAXPROCS(l.procs)
		defer runtime.GOMAXPROCS(before)
	}
	peers := slices.Sorted(maps.Keys(l.settings))
	rigs, pools := make([]*rig[T], len(peers)), make([]*pool[T], len(peers))
	all := newLoadPool(s, l, "")
	how := l.how()
	for i, p := range peers {
		rigs[i], pools[i] = newLoadRig(t, s, p, l), all
		if l.few[p] > 0 {
			pools[i] = newLoadPool(s, l, p)
		}
		pools[i].run(t, rigs[i], how) // into the steady state
	}
	of := comparison{make(map[peer][]cost)}
	// Nothing is collected between rounds: the requests that are made again of batches would come to lie in the holes that
	// this leaves, each somewhere else, and more so for who comes first after it.
	for round := range cmp.Or(l.rounds, rounds) {
		sums := make(map[peer]*cost)
		for _, p := range peers {
			sums[p] = new(cost)
		}
		for run := range l.runs(len(all.requests)) {
			for i := range rigs {
				if (round+run)%2 == 1 { // who comes after whom is not always the same
					i = len(rigs) - 1 - i
				}
				sums[peers[i]].add(pools[i].run(t, rigs[i], how))
			}
		}
		for _, p := range peers {
			c := sums[p]
			if p == none {
				continue
			}
			if bare := sums[none]; bare != nil {
				c.bare = time.Duration(cpuPerRequest(*bare) * float64(c.requests))
			}
			of.of[p] = append(of.of[p], *c)
			recordRequests(l.benchmark(s, p), *c)
		}
	}
	for _, r := range rigs {
		r.stop(t)
	}
	return of
}

// runs is how many make a round. Nothing is gained by repeating what takes long anyway.
func (l *load) runs(requests int) int {
	switch {
	case l.name == "Contest", l.every > 0, l.work > 0, l.delay > 0:
		return 1
	case l.cut:
		return runsPerRound
	}
	return max(runsPerRound, requestsPerRound/requests)
}

// how is the way of producing, with a context for each tenant.
func (l *load) how() producing {
	how := l.producing
	for i := range l.tenants {
		how.contexts = append(how.contexts, tenantContext(i))
	}
	return how
}

// newLoadPool makes the requests of a peer that gets few of them, or with "" those of all others.
func newLoadPool[T any](s *signal[T], l *load, p peer) *pool[T] {
	requests := l.requests
	switch {
	case l.few[p] > 0:
		requests = l.few[p]
	case requests == 0:
		requests = wholeBatches(l.items)
	}
	pl := &pool[T]{signal: s, requests: make([]T, requests), items: l.items, resources: l.resources, cut: l.cut}
	pl.build()
	return pl
}

func newLoadRig[T any](tb testing.TB, s *signal[T], p peer, l *load) *rig[T] {
	tb.Helper()
	return newRig(tb, s, p, l.settings[p], &sink[T]{entries: s.resources, delay: l.delay, shares: l.shares, cut: l.cut})
}

// benchmarkLoads makes benchmarks of the loads of that name, for profiles and for compare.sh.
func benchmarkLoads(b *testing.B, name string) {
	b.Helper()
	for _, l := range loads {
		if l.name != name {
			continue
		}
		for _, s := range all {
			for _, p := range slices.Sorted(maps.Keys(l.settings)) {
				_, rest, _ := strings.Cut(l.benchmark(s, p), "/")
				b.Run(rest, func(b *testing.B) { s.benchmarkLoad(b, l, p) })
			}
		}
	}
}

func BenchmarkConsume(b *testing.B)   { benchmarkLoads(b, "Consume") }
func BenchmarkResources(b *testing.B) { benchmarkLoads(b, "Resources") }
func BenchmarkBusy(b *testing.B)      { benchmarkLoads(b, "Busy") }
func BenchmarkPaced(b *testing.B)     { benchmarkLoads(b, "Paced") }
func BenchmarkTelemetry(b *testing.B) { benchmarkLoads(b, "Telemetry") }
func BenchmarkUnaligned(b *testing.B) { benchmarkLoads(b, "Unaligned") }
func BenchmarkTenants(b *testing.B)   { benchmarkLoads(b, "Tenants") }
func BenchmarkLatency(b *testing.B)   { benchmarkLoads(b, "Latency") }
func BenchmarkContest(b *testing.B)   { benchmarkLoads(b, "Contest") }

func (s *signal[T]) benchmarkLoad(b *testing.B, l *load, p peer) {
	inWarmMemory(b)
	pl, how := newLoadPool(s, l, p), l.how()
	r := newLoadRig(b, s, p, l)
	pl.run(b, r, how) // into the steady state
	runs, sum := 0, cost{}
	b.ResetTimer()
	for b.Loop() {
		if runs%16 == 0 {
			runtime.GC()
		}
		sum.add(pl.run(b, r, how))
		runs++
	}
	r.stop(b)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(cpuPerRequest(sum), "cpu-ns/req")
	b.ReportMetric(float64(sum.elapsed)/float64(sum.requests), "ns/req")
	b.ReportMetric(allocsPerRequest(sum), "allocs/req")
	b.ReportMetric(bytesPerRequest(sum), "B/req")
	b.ReportMetric(float64(l.items)*speed.of(sum), "items/s")
}

// producing is how requests are sent.
type producing struct {
	producers int
	// inStep: none gets far ahead of the others, because they wait for each other. So that requests are sent in the order
	// in which they lie in memory, each takes every n-th then, and otherwise a stretch.
	inStep bool
	// work is what a producer does besides between two requests, as the time it takes if nobody disturbs it; 0: nothing.
	work time.Duration
	// every is the time from a producer's request to its next; one that is late catches up. 0: at once.
	every time.Duration
	// contexts are those of the requests, in turn; none: they have an empty one.
	contexts []context.Context
}

// beforeRequest is what a producer does before its i-th request. Without work and pace it is nil, because
// even an empty call would count.
func (p *producing) beforeRequest() func(began time.Time, i int) {
	switch {
	case p.every > 0:
		return func(began time.Time, i int) { time.Sleep(time.Until(began.Add(time.Duration(i) * p.every))) }
	case p.work > 0:
		turns := int(float64(p.work) / nsPerTurn())
		return func(time.Time, int) { spin(turns) }
	default:
		return nil
	}
}

// context is that of the i-th request of all.
func (p *producing) context(i int) context.Context {
	if len(p.contexts) == 0 {
		return context.Background()
	}
	return p.contexts[i%len(p.contexts)]
}
