package bench

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"testing"
	"time"
)

// contest is a use of batchers in which boundedbatch has to be so much better than others.
type contest struct {
	name      string
	items     int // in each request
	requests  int
	producers int
	delay     time.Duration // of every batch downstream
	// shares: the sink does not change what it gets, as exporters do not.
	shares   bool
	settings map[peer]map[string]any // of those that take part
	// few is how many requests a peer gets that would take too long for all of them. It counts what
	// an item takes.
	few map[peer]int

	faster map[peer]float64 // at least so many times their items a second
}

// slowBatch is the size of batches where downstream takes some time for each, so that it is what
// everybody waits for.
const slowBatch = 1000

var contests = []*contest{
	{
		name: "slow_downstream", items: 10, requests: 10_000, producers: 64, delay: 5 * time.Millisecond,
		settings: map[peer]map[string]any{
			boundedbatch: {"send_batch_size": slowBatch, "max_concurrent_exports": 10},
			batch:        {"send_batch_size": slowBatch},
			helper: {
				"sizer": "items", "queue_size": 1_000_000, "num_consumers": 10, "block_on_overflow": true,
				"batch": map[string]any{"sizer": "items", "min_size": slowBatch, "flush_timeout": "200ms"},
			},
		},
		faster: map[peer]float64{batch: 9.5, helper: 1.1},
	},
	{
		name: "defaults", items: 1, requests: 12 * floorSize, producers: 64,
		settings: map[peer]map[string]any{boundedbatch: nil, batch: nil, queuebatch: queuebatchDefaults},
		few:      map[peer]int{queuebatch: 40}, // ten for each flush_timeout
		faster:   map[peer]float64{batch: 2.5, queuebatch: 5000},
	},
	{
		name: "waiting", items: waitingItems, requests: waitingRequests, producers: waitingCallers, shares: true,
		settings: map[peer]map[string]any{
			boundedbatch: sealBySize[boundedbatch],
			concurrentbatch: {
				"send_batch_size": waitingCallers * waitingItems, "timeout": "200ms", "max_concurrency": 10,
			},
		},
		faster: map[peer]float64{concurrentbatch: 1},
	},
	{
		name: "waiting_defaults", items: waitingItems, requests: 20 * waitingCallers, producers: waitingCallers, shares: true,
		delay: 10 * time.Millisecond,
		settings: map[peer]map[string]any{
			boundedbatch: {"wait_for_result": true},
			helper:       {"wait_for_result": true, "batch": map[string]any{}},
		},
		few:    map[peer]int{helper: 2 * waitingCallers},
		faster: map[peer]float64{helper: 8},
	},
}

// TestContests holds boundedbatch against the batchers that people may choose instead, each in the way
// that shows what it was made for. Ratios are of one round each, and their median decides.
func TestContests(t *testing.T) {
	skipIfShort(t)
	table := newTable("contest", "peer", "items/s", "CPU/item", "boundedbatch: items/s of it", "at least", "CPU of it")
	defer table.print()
	for _, c := range contests {
		traces.contest(t, c, table)
		logs.contest(t, c, table)
	}
}

func nsPerItem(c cost, items int) float64  { return float64(c.elapsed) / float64(items) }
func cpuPerItem(c cost, items int) float64 { return float64(c.cpu) / float64(items) }

func (s *signal[T]) contest(t *testing.T, c *contest, table table) {
	t.Helper()
	withoutGC(t)
	peers := slices.Sorted(maps.Keys(c.settings))
	rigs, pools := make([]*rig[T], len(peers)), make([]*pool[T], len(peers))
	all := newPoolOf(s, c.items, c.requests)
	for i, p := range peers {
		rigs[i] = newRig(t, s, p, c.settings[p], &sink[T]{entries: s.resources, delay: c.delay, shares: c.shares})
		pools[i] = all
		if n := c.few[p]; n > 0 {
			pools[i] = newPoolOf(s, c.items, n)
		}
		pools[i].run(t, rigs[i], c.producers) // into the steady state
	}
	speed, cpu := map[peer][]float64{}, map[peer][]float64{} // ns an item
	for range rounds {
		runtime.GC()
		for i, p := range peers {
			took := pools[i].run(t, rigs[i], c.producers)
			items := c.items * len(pools[i].requests)
			speed[p], cpu[p] = append(speed[p], nsPerItem(took, items)), append(cpu[p], cpuPerItem(took, items))
			recordRequests(fmt.Sprintf("Contest/contest=%s/signal=%s/impl=%s", c.name, s.name, p), len(pools[i].requests), took)
		}
	}
	for i, p := range peers {
		rigs[i].stop(t)
		row := []any{c.name + " " + s.name, p, number(1e9 / median(speed[p])), number(median(cpu[p])) + " ns"}
		if p == boundedbatch {
			table.row(append(row, "", "", "")...)
			continue
		}
		faster, cheaper := median(quotients(speed[p], speed[boundedbatch])), median(quotients(cpu[boundedbatch], cpu[p]))
		least := c.faster[p]
		table.row(append(row, faster, least, cheaper)...)
		if faster**marginFlag < least {
			t.Errorf("%s, %s: %.3g times the items a second of %s, less than %.3g", c.name, s, faster, p, least)
		}
	}
}
