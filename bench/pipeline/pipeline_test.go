package pipeline

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/confmap"
)

// load is what the senders of a pipeline send.
type load struct {
	items int     // in a request
	rate  float64 // requests a second
}

// One is of clients that send what they have just done, the other of agents that have collected
// it already.
var (
	small = load{items: 10, rate: 4000}
	large = load{items: 100, rate: 1000}
)

func (l load) String() string { return fmt.Sprintf("request=%d", l.items) }

// portion is so many requests that they fill batches of n items and nothing remains, and at
// least those of d: nobody has to wait for a timeout then.
func (l load) portion(n int, d time.Duration) int {
	perBatch := (n + l.items - 1) / l.items
	most := int(l.rate * d.Seconds())
	return perBatch * max(1, (most+perBatch-1)/perBatch)
}

// cost is what a Collector's process took.
type cost struct {
	cpu     time.Duration // user and system
	allocs  uint64
	bytes   uint64
	gcs     uint32
	elapsed time.Duration // of sending
	waited  time.Duration // for answers, of all requests together
	longest time.Duration // the same for a single request
	items   int
	batches int64
}

func (c *cost) add(d cost) {
	c.cpu += d.cpu
	c.allocs += d.allocs
	c.bytes += d.bytes
	c.gcs += d.gcs
	c.elapsed += d.elapsed
	c.waited += d.waited
	c.longest = max(c.longest, d.longest)
	c.items += d.items
	c.batches += d.batches
}

// perItem is the CPU of an item in ns.
func (c cost) perItem() float64 { return float64(c.cpu) / float64(c.items) }

// answerTime is the mean time to the answer to a request in ms.
func (c cost) answerTime(l load) float64 {
	return c.waited.Seconds() * 1e3 * float64(l.items) / float64(c.items)
}

// pipeline is a Collector in a process of its own, between senders and a backend.
type pipeline struct {
	load                        load
	backend, collector, senders *child
	sent                        int // items
}

// warmUp is how much load there is before the measurement begins: connections, the size of
// the heap, of stacks and of pools are then what they stay.
const warmUp = time.Second

func newPipeline(t *testing.T, config section, l load, batch int) *pipeline {
	t.Helper()
	p := &pipeline{load: l, backend: start(t, "backend"), collector: start(t, "collector"), senders: start(t, "senders")}
	to := p.backend.ask(t, order{Do: "listen"}).Address
	at := p.collector.ask(t, order{Do: "run", Config: config, Address: to}).Address
	p.senders.ask(t, order{Do: "connect", Address: at, Items: l.items})
	p.send(t, l.portion(batch, warmUp))
	return p
}

// send sends n requests and returns when everything has arrived.
func (p *pipeline) send(t *testing.T, n int) (sent, arrived answer) {
	t.Helper()
	sent = p.senders.ask(t, order{Do: "send", Requests: n, Rate: p.load.rate})
	p.sent += n * p.load.items
	return sent, p.backend.ask(t, order{Do: "wait", Items: p.sent})
}

// measure is send, and tells what it took.
func (p *pipeline) measure(t *testing.T, n int) (c cost) {
	t.Helper()
	before := p.backend.ask(t, order{Do: "count"})
	began := p.collector.ask(t, order{Do: "read the clock"})
	sent, after := p.send(t, n)
	ended := p.collector.ask(t, order{Do: "read the clock"})
	return cost{
		cpu: ended.CPU - began.CPU, gcs: ended.GCs - began.GCs, allocs: ended.Mallocs - began.Mallocs, bytes: ended.Bytes - began.Bytes,
		elapsed: sent.Elapsed, waited: sent.Waited, longest: sent.Longest, items: int(after.Items - before.Items), batches: after.Batches - before.Batches,
	}
}

// end shuts everything down, and checks that nothing was lost and nothing came twice.
func (p *pipeline) end(t *testing.T) {
	t.Helper()
	p.collector.stop(t)
	p.senders.stop(t)
	if arrived := p.backend.ask(t, order{Do: "count"}).Items; arrived != int64(p.sent) {
		t.Fatalf("%d items were sent, and %d have arrived in the end", p.sent, arrived)
	}
	p.backend.stop(t)
}

// carried fails where the load was not what it should have been.
func (l load) carried(t *testing.T, impl string, costs ...cost) {
	t.Helper()
	var all cost
	for _, c := range costs {
		all.add(c)
	}
	planned := time.Duration(float64(all.items) / float64(l.items) / l.rate * float64(time.Second))
	if all.elapsed > planned+planned/10 {
		t.Errorf("the machine does not carry %g requests a second with %s: those of %v took %v", l.rate, impl, planned, all.elapsed)
	}
}

// peer is a Collector that takes part in a comparison.
type peer struct {
	impl   string
	config section
}

const (
	boundedbatch = "boundedbatch"
	batch        = "batch"
	helper       = "exporterhelper"
)

// noQueue is how exporters are behind a processor that batches.
var noQueue = section{"enabled": false}

// sized are peers that make batches of n items. Their timeout is so long that batches always
// fill first.
func sized(n int, peers ...string) (all []peer) {
	const timeout = "1s"
	for _, p := range peers {
		config := configuration(p, section{"timeout": timeout, "send_batch_size": n}, noQueue)
		if p == helper {
			config = configuration("", nil, section{
				"sizer": "items", "queue_size": 98304, "block_on_overflow": true,
				"batch": section{"sizer": "items", "min_size": n, "flush_timeout": timeout},
			})
		}
		all = append(all, peer{p, config})
	}
	return all
}

// slice is how long each peer has its turn. A machine that others use too changes its mind about
// what an item costs within seconds.
const slice = 500 * time.Millisecond

// turns compares peers. In each round they are new processes, as what the same program costs
// differs from one to the next, and take turns in short slices, in some order and its opposite.
// The slices fill batches of that many items.
func turns(t *testing.T, name string, l load, batch int, peers []peer) (costs [][]cost) {
	t.Helper()
	costs = make([][]cost, len(peers))
	n := l.portion(batch, slice)
	slices := max(1, int(windowFlag.Seconds()*l.rate/float64(n)+0.5))
	for round := range rounds() {
		pipelines := make([]*pipeline, len(peers))
		for i, p := range peers {
			pipelines[i] = newPipeline(t, p.config, l, batch)
			costs[i] = append(costs[i], cost{})
		}
		for turn := range slices {
			for i := range peers {
				if turn%2 == 1 {
					i = len(peers) - 1 - i
				}
				i = (i + round) % len(peers)
				costs[i][round].add(pipelines[i].measure(t, n))
			}
		}
		for i, p := range peers {
			pipelines[i].end(t)
			recordRun(name, p.impl, l, costs[i][round])
		}
	}
	for i, p := range peers {
		l.carried(t, p.impl, costs[i]...)
		t.Logf("%s %s: %.0f ns of CPU an item, %.0f items a batch; answers after %.3f ms, at most %.1f", name, p.impl,
			median(each(costs[i], cost.perItem)), float64(costs[i][0].items)/float64(costs[i][0].batches),
			median(each(costs[i], func(c cost) float64 { return c.answerTime(l) })),
			median(each(costs[i], func(c cost) float64 { return c.longest.Seconds() * 1e3 })))
	}
	return costs
}

func each(costs []cost, f func(cost) float64) (all []float64) {
	for _, c := range costs {
		all = append(all, f(c))
	}
	return all
}

// median is that of the report: of an even number the upper one of the two in the middle.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// atMost checks the ratio of two costs, round by round.
func atMost(t *testing.T, what string, limit float64, of, by []cost) {
	t.Helper()
	ratios := make([]float64, len(of))
	for i := range of {
		ratios[i] = of[i].perItem() / by[i].perItem()
	}
	t.Logf("%s: %.3f of the CPU (%.3f), at most %g", what, median(ratios), ratios, limit)
	if m := median(ratios); m > limit*(*marginFlag) {
		t.Errorf("%s: %.3f of the CPU, which must be at most %g, with a margin of %g", what, m, limit, *marginFlag)
	}
}

// The same load in batches of the same size takes at most as much CPU of a Collector as with
// batch.
func TestPipelineBySizeOfBatches(t *testing.T) {
	sizes := map[load][]int{small: {8192}}
	if everything() {
		sizes = map[load][]int{small: {512, 1024, 2048, 4096, 8192, 16384}, large: {1024, 8192}}
	}
	for _, l := range []load{small, large} {
		for _, n := range sizes[l] {
			name := fmt.Sprintf("Pipeline/signal=traces/%v/size=%d", l, n)
			t.Run(name, func(t *testing.T) {
				peers := sized(n, boundedbatch, batch)
				if everything() && (n == 1024 || n == 8192) {
					peers = sized(n, boundedbatch, batch, helper)
				}
				costs := turns(t, name, l, n, peers)
				atMost(t, "against batch", 1, costs[0], costs[1])
			})
		}
	}
}

// With the configuration that is recommended for short hops a Collector takes at most 0.85 of
// the CPU that it takes with batch as it comes.
func TestPipelineOfShortHops(t *testing.T) {
	peers := []peer{
		{boundedbatch + "/config=short_hops", configuration(boundedbatch, recommended(t, "../../examples/short-hops.yaml"), noQueue)},
		{batch + "/config=defaults", configuration(batch, nil, noQueue)},
	}
	loads := []load{small}
	if everything() {
		peers = append(peers, peer{boundedbatch + "/config=defaults", configuration(boundedbatch, nil, noQueue)})
		loads = append(loads, large)
	}
	for _, l := range loads {
		t.Run(l.String(), func(t *testing.T) {
			costs := turns(t, "Configured/signal=traces/"+l.String(), l, defaultSize, peers)
			atMost(t, "against batch at its defaults", 0.85, costs[0], costs[1])
		})
	}
}

// defaultSize is the default send_batch_size.
const defaultSize = 8192

// recommended are the settings of the processor in an example.
func recommended(t *testing.T, path string) section {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	retrieved, err := confmap.NewRetrievedFromYAML(text)
	require.NoError(t, err)
	conf, err := retrieved.AsConf()
	require.NoError(t, err)
	settings, err := conf.Sub("processors::" + boundedbatch)
	require.NoError(t, err)
	require.NotEmpty(t, settings.AllKeys(), "settings of %s in %s", boundedbatch, path)
	return settings.ToStringMap()
}
