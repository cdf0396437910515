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

// splitCase is a way to cut one large request into batches.
type splitCase struct {
	bench string // "" is Split
	name  string // of the most that is in a batch
	most  int
	// sizes are the requests to cut by signal, each twice the one before. The other peer is
	// measured at the first and at the last, once for eight rounds because it takes so long; "": there is none.
	sizes    map[string][]int
	other    peer
	settings map[peer]map[string]any
	inBytes  bool // most counts bytes, not items
	full     bool // measured only with -full
}

var splitCases = []*splitCase{
	{
		name: "100", most: 100, other: batch,
		sizes: map[string][]int{
			"logs":    {20_000, 40_000, 80_000, 160_000, 320_000},
			"traces":  {20_000, 40_000, 80_000},
			"metrics": {20_000, 40_000, 80_000},
		},
		settings: splitAt(100),
	},
	{
		name: "100", most: 100, other: batch, full: true,
		sizes: map[string][]int{
			"logs":    {50_000, 100_000},
			"traces":  {50_000, 100_000},
			"metrics": {50_000, 100_000},
		},
		settings: splitAt(100),
	},
	{
		name: "1000", most: 1000, other: batch, full: true,
		sizes: map[string][]int{
			"logs":    {50_000, 100_000},
			"traces":  {50_000, 100_000},
			"metrics": {50_000, 100_000},
		},
		settings: splitAt(1000),
	},
	{
		name: "1000", most: 1000, other: batch, full: true,
		sizes:    map[string][]int{"logs": {160_000, 320_000}},
		settings: splitAt(1000),
	},
	{
		name: "8kB", most: 8000, inBytes: true, other: helper,
		sizes: map[string][]int{
			"logs":    {10_000, 20_000, 40_000, 80_000, 160_000},
			"traces":  {10_000, 20_000, 40_000, 80_000, 160_000},
			"metrics": {10_000, 20_000, 40_000, 80_000, 160_000},
		},
		settings: map[peer]map[string]any{
			// A timeout of 0, so that the last batch, which is not full, need not wait.
			boundedbatch: {"send_batch_max_bytes": 8000, "queue_size": 1_000_000, "timeout": "0s"},
			helper: {
				"sizer": "bytes", "queue_size": 1_000_000_000,
				"batch": map[string]any{"sizer": "bytes", "min_size": 8000, "max_size": 8000, "flush_timeout": "1ms"},
			},
		},
	},
}

// splitAt are the settings of those that cut into batches of so many items.
func splitAt(size int) map[peer]map[string]any {
	settings := map[string]any{"send_batch_size": size, "send_batch_max_size": size}
	return map[peer]map[string]any{boundedbatch: settings, batch: settings}
}

func (sc *splitCase) caseName(s fmt.Stringer, items int, p peer) string {
	return fmt.Sprintf("signal=%s/items=%d/max=%s/impl=%s", s, items, sc.name, p)
}

// splitItems is how many items a round sends at each size.
const splitItems = 320_000

// moreSplits is how often all sizes are measured again while a limit is missed.
const moreSplits = 3

// BenchmarkSplit is the cost of cutting one request into batches of 100 items or 8,000 bytes.
func BenchmarkSplit(b *testing.B) {
	for _, sc := range splitCases {
		for _, s := range all {
			for _, items := range sc.sizes[s.String()] {
				for _, p := range []peer{boundedbatch, sc.other} {
					if p == sc.other && items > 40_000 {
						continue // its time grows with the square
					}
					b.Run(sc.caseName(s, items, p), func(b *testing.B) { s.benchmarkSplit(b, sc, p, items) })
				}
			}
		}
	}
}

func (s *signal[T]) benchmarkSplit(b *testing.B, sc *splitCase, p peer, items int) {
	inWarmMemory(b)
	sp := newSplit(b, s, sc, p, items)
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

// TestSplitIsLinear cuts one request of up to 320,000 items into batches of 100, and one of up
// to 160,000 into batches of 8,000 bytes. CPU is compared round by round, at every doubling. Time
// is held to the same limit from the smallest request to the largest: at a single doubling it
// depends more on what the processor's cache still holds and on what others do on the machine;
// of what they do, the best round of each size has the least. Rounds of the same size differ by a third
// of their CPU, and the median of eight ratios by a tenth from one test to the next: while any limit
// is missed there are as many rounds again, up to moreSplits times, and all of them decide.
func TestSplitIsLinear(t *testing.T) {
	skipIfShort(t)
	for _, sc := range splitCases {
		if !sc.full || *fullFlag {
			testSplitIsLinear(t, sc)
		}
	}
}

func testSplitIsLinear(t *testing.T, sc *splitCase) {
	t.Helper()
	table := newTable("split at "+sc.name, "items", "CPU", "per item", "growth", "time", "growth", "limit", fmt.Sprintf("%s's time", sc.other), "ratio to it")
	defer table.print()
	for _, s := range measured() {
		if len(sc.sizes[s.String()]) == 0 {
			continue
		}
		splits := untilMet(t, s, sc, func(splits []split) bool {
			last := &splits[len(splits)-1]
			return growsTooMuch(splits) || sc.shareIsHeld(last) && splitShare.missed(last.share(), *marginFlag)
		})
		for i, at := range splits {
			cpu, elapsed, limit, other, ratio := "", "", "", "", ""
			if i > 0 {
				half := &splits[i-1]
				growth := at.cpuGrowth(half)
				cpu, elapsed, limit = number(growth), number(at.best().Seconds()/half.best().Seconds()), atMost(growth, splitLimit)
				if growth > splitLimit {
					t.Errorf("%s, split at %s: %d items take %.2f times the CPU of %d, more than %.1f", s, sc.name, at.items, growth, half.items, splitLimit)
				}
			}
			if len(at.other) > 0 {
				share := at.share()
				other, ratio = round(median(at.other)), number(share)
				if sc.shareIsHeld(&at) {
					ratio += ", aim " + splitShare.verdict(share)
					if splitShare.missed(share, *marginFlag) {
						t.Errorf("%s, split at %s: %d items take %.3g of the time of %s, more than %.4g", s, sc.name, at.items, share, sc.other, splitShare.enforced())
					}
				}
			}
			table.row(s, at.items, round(at.cpu()), fmt.Sprintf("%d ns", int(at.cpu())/at.items), cpu, round(at.best()), elapsed, limit, other, ratio)
		}
		growth := timeGrowth(splits)
		table.row(s, "all", "", "", "", "", number(growth), atMost(growth, splitLimit))
		if growth > splitLimit {
			t.Errorf("%s, split at %s: the time grows %.2f times when the items double, more than %.1f", s, sc.name, growth, splitLimit)
		}
	}
}

// shareIsHeld tells whether it is promised how much less time this takes than the other peer.
func (sc *splitCase) shareIsHeld(at *split) bool {
	return sc == splitCases[0] && at.items == splitShareItems
}

// untilMet measures all sizes, and again while something is missed, moreSplits times at most. All rounds decide.
func untilMet(t *testing.T, s anySignal, sc *splitCase, missed func([]split) bool) []split {
	t.Helper()
	splits := s.compareSplit(t, sc)
	for n := 0; n < moreSplits && missed(splits); n++ {
		for i, again := range s.compareSplit(t, sc) {
			splits[i].rounds = append(splits[i].rounds, again.rounds...)
			splits[i].other = append(splits[i].other, again.other...)
		}
	}
	return splits
}

// splitRangeCase is of requests a hundred times as large as one another.
var splitRangeCase = &splitCase{
	bench: "SplitRange", name: "100", most: 100, settings: splitCases[0].settings,
	sizes: map[string][]int{"logs": {10_000, 1_000_000}, "traces": {10_000, 1_000_000}},
}

// TestSplitOfAMillion holds the time of an item of 1,000,000 against that of one of 10,000, round by round. It has more
// rounds while it is missed, as TestSplitIsLinear has.
func TestSplitOfAMillion(t *testing.T) {
	skipIfShort(t)
	table := newTable("split at 100", "items", "per item", "items", "per item", "ratio", "from", "to", "aim (held)")
	defer table.print()
	for _, s := range []anySignal{&traces, &logs} {
		splits := untilMet(t, s, splitRangeCase, func(splits []split) bool {
			return splitRange.missed(median(ratesOf(splits)), *marginFlag)
		})
		ratios := ratesOf(splits)
		ratio := median(ratios)
		table.row(s, splits[0].items, number(median(splits[0].perItem()))+" ns", splits[1].items, number(median(splits[1].perItem()))+" ns",
			ratio, slices.Min(ratios), slices.Max(ratios), splitRange.verdict(ratio))
		if splitRange.missed(ratio, *marginFlag) {
			t.Errorf("%s: an item of %d takes %.3g times as long as one of %d, more than %.4g", s, splits[1].items, ratio, splits[0].items, splitRange.enforced())
		}
	}
}

// ratesOf is how many times as long an item of the last takes as one of the first, round by round.
func ratesOf(splits []split) []float64 {
	return quotients(splits[len(splits)-1].perItem(), splits[0].perItem())
}

// growsTooMuch tells whether CPU or time does.
func growsTooMuch(splits []split) bool {
	for i := range splits[1:] {
		if splits[i+1].cpuGrowth(&splits[i]) > splitLimit {
			return true
		}
	}
	return timeGrowth(splits) > splitLimit
}

// timeGrowth is how many times the time grows when the items double, on average.
func timeGrowth(splits []split) float64 {
	least, most := splits[0].best(), splits[len(splits)-1].best()
	return math.Pow(most.Seconds()/least.Seconds(), 1/float64(len(splits)-1))
}

func round(d time.Duration) string { return d.Round(10 * time.Microsecond).String() }

// split is what cutting a request of that many items took.
type split struct {
	items  int
	rounds []cost          // of boundedbatch: mean CPU and best time of one request
	other  []time.Duration // of the other peer; none: not measured
}

// perItem is the time of an item in each round, in ns.
func (s *split) perItem() []float64 {
	times := make([]float64, len(s.rounds))
	for i, c := range s.rounds {
		times[i] = float64(c.elapsed) / float64(s.items)
	}
	return times
}

// share is the time it takes, as a share of the other peer's.
func (s *split) share() float64 { return s.elapsed().Seconds() / median(s.other).Seconds() }

// cpu is the median of the rounds.
func (s *split) cpu() time.Duration {
	values := make([]time.Duration, len(s.rounds))
	for i, c := range s.rounds {
		values[i] = c.cpu
	}
	return median(values)
}

// elapsed is the median of the rounds.
func (s *split) elapsed() time.Duration {
	values := make([]time.Duration, len(s.rounds))
	for i, c := range s.rounds {
		values[i] = c.elapsed
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

func (s *signal[T]) compareSplit(t *testing.T, sc *splitCase) []split {
	t.Helper()
	inWarmMemory(t)
	sizes := sc.sizes[s.name]
	all := make([]split, len(sizes))
	splitters := make([]*splitter[T], len(sizes))
	for i, items := range sizes {
		all[i].items = items
		splitters[i] = newSplit(t, s, sc, boundedbatch, items)
	}
	for range rounds {
		runtime.GC() // or each round would be in memory that nobody has used before
		for i, sp := range splitters {
			sp.run(t) // its memory is where the processor has not been lately
			// As many items for each size, so that a late clock tick weighs the same.
			n := max(1, splitItems/sp.items)
			one := cost{elapsed: patience}
			for range n {
				c := sp.run(t)
				one.cpu += c.cpu
				one.elapsed = min(one.elapsed, c.elapsed)
			}
			one.cpu /= time.Duration(n)
			all[i].rounds = append(all[i].rounds, one)
			recordSplit(cmp.Or(sc.bench, "Split"), sc.caseName(s, sp.items, boundedbatch), sp.items, one)
		}
	}
	for _, sp := range splitters {
		sp.stop(t)
	}
	for i, items := range sizes {
		if sc.other == "" || i > 0 && items < sizes[len(sizes)-1] {
			continue
		}
		runtime.GC()
		sp := newSplit(t, s, sc, sc.other, items)
		c := sp.run(t)
		sp.stop(t)
		all[i].other = append(all[i].other, c.elapsed)
		recordSplit(cmp.Or(sc.bench, "Split"), sc.caseName(s, items, sc.other), items, c)
	}
	return all
}

// splitter sends one request again and again through a peer that cuts it.
type splitter[T any] struct {
	*rig[T]
	*splitCase
	request T
	items   int
}

func newSplit[T any](tb testing.TB, s *signal[T], sc *splitCase, p peer, items int) *splitter[T] {
	tb.Helper()
	return &splitter[T]{newRig(tb, s, p, sc.settings[p], &sink[T]{entries: s.items}), sc, s.build(items), items}
}

// run sends the request, checks that all items have arrived and no batch is too large,
// and makes one request of them again.
func (sp *splitter[T]) run(tb testing.TB) cost {
	tb.Helper()
	c := sp.rig.run(tb, []T{sp.request}, producing{producers: 1}, sp.items)
	pieces := sp.sink.take()
	sp.request = pieces[0]
	arrived := 0
	for i, piece := range pieces {
		n := sp.signal.items(piece)
		size, unit := n, "items"
		if sp.inBytes {
			size, unit = sp.bytes(piece), "bytes"
		}
		if n == 0 || size > sp.most {
			tb.Fatalf("%s made a batch of %d %s, the limit is %d", sp.rig.name, size, unit, sp.most)
		}
		arrived += n
		if i > 0 {
			sp.rejoin(piece, sp.request)
		}
	}
	if arrived != sp.items {
		tb.Fatalf("%s delivered %d of %d items", sp.rig.name, arrived, sp.items)
	}
	return c
}
