package bench

import (
	"cmp"
	"fmt"
	"math"
	"runtime"
	"slices"
	"testing"
	"time"
)

// splitAt is the size of the pieces that one large request is cut into.
const splitAt = 100

var splitSettings = map[string]any{"send_batch_size": splitAt, "send_batch_max_size": splitAt}

// splitSizes are the requests to cut, each twice the one before. batch is measured at
// the first and, once because it takes so long, at the last.
var splitSizes = map[string][]int{
	"logs":    {20_000, 40_000, 80_000, 160_000, 320_000},
	"traces":  {20_000, 40_000, 80_000},
	"metrics": {20_000, 40_000, 80_000},
}

// splitItems is how many items a round sends at each size.
const splitItems = 320_000

// splitLimit is the most that CPU and time may grow when the items double.
const splitLimit = 2.5

// BenchmarkSplit is the cost of cutting one request into batches of 100 items.
func BenchmarkSplit(b *testing.B) {
	for _, s := range all {
		for _, items := range splitSizes[s.String()] {
			for _, p := range []peer{boundedbatch, batch} {
				if p == batch && items > 40_000 {
					continue // its time grows with the square
				}
				b.Run(fmt.Sprintf("signal=%s/items=%d/max=%d/impl=%s", s, items, splitAt, p), func(b *testing.B) {
					s.benchmarkSplit(b, p, items)
				})
			}
		}
	}
}

func (s *signal[T]) benchmarkSplit(b *testing.B, p peer, items int) {
	withoutGC(b)
	sp := newSplit(b, s, p, items)
	defer sp.stop(b)
	runs, sum := 0, cost{}
	for b.Loop() {
		runtime.GC()
		sum.add(sp.run(b))
		runs++
	}
	n := float64(runs * items)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(sum.elapsed)/n, "ns/item")
	b.ReportMetric(float64(sum.cpu)/n, "cpu-ns/item")
	b.ReportMetric(n/sum.elapsed.Seconds(), "items/s")
}

// TestSplitIsLinear cuts one request of up to 320,000 items into batches of 100. CPU is
// compared round by round, at every doubling. Time is held to the same limit from the
// smallest request to the largest: at a single doubling it depends more on what the
// processor's cache still holds and on what others do on the machine; of what they do,
// the best round of each size has the least.
func TestSplitIsLinear(t *testing.T) {
	skipIfShort(t)
	table := newTable("split at 100", "items", "CPU", "per item", "growth", "time", "growth", "limit", "batch's time", "ratio to it")
	defer table.print()
	for _, s := range all {
		splits := s.compareSplit(t, splitSizes[s.String()])
		for i, at := range splits {
			cpu, elapsed, limit, peer, ratio := "", "", "", "", ""
			if i > 0 {
				half := &splits[i-1]
				growth := at.cpuGrowth(half)
				cpu, elapsed, limit = number(growth), number(at.best().Seconds()/half.best().Seconds()), verdict(growth, splitLimit)
				if growth > splitLimit {
					t.Errorf("%s: %d items take %.2f times the CPU of %d, more than %.1f", s, at.items, growth, half.items, splitLimit)
				}
			}
			if at.batch > 0 {
				peer, ratio = round(at.batch), number(at.best().Seconds()/at.batch.Seconds())
			}
			table.row(s, at.items, round(at.cpu()), fmt.Sprintf("%d ns", int(at.cpu())/at.items), cpu, round(at.best()), elapsed, limit, peer, ratio)
		}
		doublings := float64(len(splits) - 1)
		growth := math.Pow(splits[len(splits)-1].best().Seconds()/splits[0].best().Seconds(), 1/doublings)
		table.row(s, "all", "", "", "", "", number(growth), verdict(growth, splitLimit))
		if growth > splitLimit {
			t.Errorf("%s: the time grows %.2f times when the items double, more than %.1f", s, growth, splitLimit)
		}
	}
}

func round(d time.Duration) string { return d.Round(10 * time.Microsecond).String() }

// split is what cutting a request of that many items took.
type split struct {
	items  int
	rounds []cost        // of boundedbatch: mean CPU and best time of one request
	batch  time.Duration // of batch; 0: not measured
}

// cpu is the median of the rounds.
func (s *split) cpu() time.Duration {
	values := make([]time.Duration, len(s.rounds))
	for i, c := range s.rounds {
		values[i] = c.cpu
	}
	return median(values)
}

// best is the shortest time.
func (s *split) best() time.Duration {
	return slices.MinFunc(s.rounds, func(a, b cost) int { return cmp.Compare(a.elapsed, b.elapsed) }).elapsed
}

// cpuGrowth is how many times the CPU of half it took, round by round.
func (s *split) cpuGrowth(half *split) float64 {
	ratios := make([]float64, len(s.rounds))
	for i, c := range s.rounds {
		ratios[i] = c.cpu.Seconds() / half.rounds[i].cpu.Seconds()
	}
	return median(ratios)
}

func (s *signal[T]) compareSplit(t *testing.T, sizes []int) []split {
	t.Helper()
	withoutGC(t)
	all := make([]split, len(sizes))
	splitters := make([]*splitter[T], len(sizes))
	for i, items := range sizes {
		all[i].items = items
		splitters[i] = newSplit(t, s, boundedbatch, items)
	}
	for range rounds {
		for i, sp := range splitters {
			runtime.GC()
			// As many items for each size, so that a late clock tick weighs the same.
			n := splitItems / sp.items
			one := cost{elapsed: patience}
			for range n {
				c := sp.run(t)
				one.cpu += c.cpu
				one.elapsed = min(one.elapsed, c.elapsed)
			}
			one.cpu /= time.Duration(n)
			all[i].rounds = append(all[i].rounds, one)
			recordSplit(s.name, sp.items, boundedbatch, one)
		}
	}
	for _, sp := range splitters {
		sp.stop(t)
	}
	for i, items := range sizes {
		if i > 0 && items < sizes[len(sizes)-1] {
			continue
		}
		runtime.GC()
		sp := newSplit(t, s, batch, items)
		c := sp.run(t)
		sp.stop(t)
		all[i].batch = c.elapsed
		recordSplit(s.name, items, batch, c)
	}
	return all
}

// splitter sends one request again and again through a peer that cuts it.
type splitter[T any] struct {
	*rig[T]
	request T
	items   int
}

func newSplit[T any](tb testing.TB, s *signal[T], p peer, items int) *splitter[T] {
	tb.Helper()
	return &splitter[T]{rig: newRig(tb, s, p, splitSettings, &sink[T]{entries: s.items}), request: s.build(items), items: items}
}

// run sends the request, checks that all items have arrived and no batch is too large,
// and makes one request of them again.
func (sp *splitter[T]) run(tb testing.TB) cost {
	tb.Helper()
	c := sp.rig.run(tb, []T{sp.request}, 1, sp.items)
	pieces := sp.sink.take()
	sp.request = pieces[0]
	arrived := 0
	for i, piece := range pieces {
		n := sp.signal.items(piece)
		if n == 0 || n > splitAt {
			tb.Fatalf("%s made a batch of %d items, the limit is %d", sp.name, n, splitAt)
		}
		arrived += n
		if i > 0 {
			sp.rejoin(piece, sp.request)
		}
	}
	if arrived != sp.items {
		tb.Fatalf("%s delivered %d of %d items", sp.name, arrived, sp.items)
	}
	return c
}
