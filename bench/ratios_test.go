package bench

import (
	"cmp"
	"fmt"
	"os"
	"runtime"
	"slices"
	"testing"
	"text/tabwriter"
)

// rounds is how often each comparison is repeated. Within a round the peers take turns,
// so that whatever else the machine does meets all of them.
const rounds = 8

// runsPerRound is how many runs of each peer a round adds up. The kernel may account the
// work of another core a clock tick late, which must not count.
const runsPerRound = 2

// cpuLimits is the most CPU of a request of 10 items, as a share of what batch takes, by
// producers. Data points have no limit: finding them takes longer than all the rest, for
// every batcher.
var cpuLimits = map[int]float64{1: 0.35, 8: 0.6, 64: 0.6}

// TestRatios holds the CPU of a request of 10 items against that of batch. Ratios are
// of one round each, and their median decides.
func TestRatios(t *testing.T) {
	skipIfShort(t)
	table := newTable("CPU a request of 10", "producers", "boundedbatch", "batch", "floor", "ratio to batch", "from", "to", "limit",
		"with bytes", "B/req", "of batch")
	defer table.print()
	for _, s := range all {
		for i, of := range s.compareConsume(t, 10, producerCases) {
			producers := producerCases[i]
			ratios := of.ratios(boundedbatch, batch, cpuPerRequest)
			ratio, limit, limited := median(ratios), cpuLimits[producers], s != anySignal(&metrics)
			shown := "none"
			if limited {
				shown = verdict(ratio, limit)
			}
			ns := func(p peer) string {
				if len(of.of[p]) == 0 {
					return ""
				}
				return number(of.median(p, cpuPerRequest)) + " ns"
			}
			table.row(s, producers, ns(boundedbatch), ns(batch), ns(floor), ratio, slices.Min(ratios), slices.Max(ratios), shown,
				ns(bytes), of.median(boundedbatch, bytesPerRequest), of.median(batch, bytesPerRequest))
			if limited && ratio > limit**marginFlag {
				t.Errorf("%s, %d producers: CPU per request is %.2f of batch's, more than %.2f", s, producers, ratio, limit)
			}
		}
	}
}

// gatePeers is who takes part with that many producers. What measuring the bytes of
// batches costs shows with one producer already, and takes long with many.
func gatePeers(producers int) []peer {
	if producers == 1 {
		return []peer{boundedbatch, batch, floor, bytes}
	}
	return []peer{boundedbatch, batch, floor}
}

// comparison is what each peer took in each round.
type comparison struct {
	requests int // in each round
	of       map[peer][]cost
}

// compareConsume measures requests of that many items with each number of producers.
func (s *signal[T]) compareConsume(t *testing.T, items int, producers []int) []comparison {
	t.Helper()
	withoutGC(t)
	pl := newPool(s, items)
	all := make([]comparison, len(producers))
	for i, n := range producers {
		all[i] = comparison{requests: runsPerRound * len(pl.requests), of: make(map[peer][]cost)}
		peers := gatePeers(n)
		rigs := make([]*rig[T], len(peers))
		for j, p := range peers {
			rigs[j] = newRig(t, s, p, nil, &sink[T]{entries: s.resources})
			pl.run(t, rigs[j], n) // into the steady state
		}
		for range rounds {
			runtime.GC()
			sums := make([]cost, len(rigs))
			for range runsPerRound {
				for j, r := range rigs {
					sums[j].add(pl.run(t, r, n))
				}
			}
			for j, r := range rigs {
				all[i].of[r.name] = append(all[i].of[r.name], sums[j])
				recordConsume(s.name, items, n, r.name, all[i].requests, sums[j])
			}
		}
		for _, r := range rigs {
			r.stop(t)
		}
	}
	return all
}

func cpuPerRequest(c cost, requests int) float64   { return float64(c.cpu) / float64(requests) }
func bytesPerRequest(c cost, requests int) float64 { return float64(c.bytes) / float64(requests) }

func (c *comparison) each(p peer, of func(cost, int) float64) []float64 {
	values := make([]float64, len(c.of[p]))
	for i, cost := range c.of[p] {
		values[i] = of(cost, c.requests)
	}
	return values
}

func (c *comparison) median(p peer, of func(cost, int) float64) float64 { return median(c.each(p, of)) }

// ratios divides round by round.
func (c *comparison) ratios(p, by peer, of func(cost, int) float64) []float64 {
	return quotients(c.each(p, of), c.each(by, of))
}

// quotients divides one by one.
func quotients(values, by []float64) []float64 {
	all := make([]float64, len(values))
	for i := range values {
		all[i] = values[i] / by[i]
	}
	return all
}

func median[N cmp.Ordered](values []N) N {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

func verdict(value, limit float64) string {
	if value > limit {
		return fmt.Sprintf("%.4g MISSED", limit)
	}
	return fmt.Sprintf("%.4g", limit)
}

func skipIfShort(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("measures for many seconds")
	}
}

// table is printed for people to read.
type table struct{ w *tabwriter.Writer }

func newTable(columns ...any) table {
	t := table{tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)}
	fmt.Fprintln(t.w)
	t.row(columns...)
	return t
}

func (t table) row(cells ...any) {
	for _, c := range cells {
		if f, ok := c.(float64); ok {
			c = number(f)
		}
		fmt.Fprint(t.w, c, "\t")
	}
	fmt.Fprintln(t.w)
}

func (t table) print() { _ = t.w.Flush() }

// number prints three digits or all before the point.
func number(f float64) string {
	if f >= 100 {
		return fmt.Sprintf("%.0f", f)
	}
	return fmt.Sprintf("%.3g", f)
}
