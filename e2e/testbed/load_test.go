package testbed

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/open-telemetry/opentelemetry-collector-contrib/testbed/testbed"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// limit is how much boundedbatch may take of what batch takes.
const limit = 1.05

// drain is how long what was sent may take to arrive once the load has ended; upstream waits as long.
const drain = 10 * time.Second

// cost is what one collector has done and taken under a load.
type cost struct {
	sent, received uint64
	elapsed        time.Duration // of the load
	cpu            time.Duration // from its beginning to the last arrival
	mean, peak     float64       // resident set in that time, in bytes
	// total is what the testbed itself says: since the start of the process, in percent of a core and MiB.
	total testbed.ResourceConsumption
}

// perItem is the CPU time of an item in ns. It does not depend on how much of the load the generator could make.
func (c *cost) perItem() float64 { return float64(c.cpu) / float64(c.received) }

// measure runs a collector under a load, as Scenario10kItemsPerSecond and Scenario1kSPSWithAttrs do.
func measure(t *testing.T, s setup) (c cost, err error) {
	t.Helper()
	r, err := begin(t, s)
	if err != nil {
		return c, err
	}
	err = r.end(r.measure(&c))
	return c, err
}

func (r *run) measure(c *cost) error {
	before, err := r.agent.cpu()
	if err != nil {
		return err
	}
	r.agent.resetMemory()
	began := time.Now()
	r.StartLoad(r.setup.load)
	if err := r.await(drain, "the load has begun", func() bool { return r.load.DataItemsSent() > 0 }); err != nil {
		return err
	}
	if err := r.sustain(); err != nil {
		return err
	}
	r.StopLoad()
	c.elapsed = time.Since(began)
	if err := r.await(drain, "all that was sent has arrived", r.complete); err != nil {
		return err
	}
	after, err := r.agent.cpu()
	if err != nil {
		return err
	}
	c.cpu = after - before
	if c.mean, c.peak, err = r.agent.memory(); err != nil {
		return err
	}
	// Not before the collector has ended: that nothing comes twice is part of it.
	r.StopAgent()
	c.total = *r.consumption()
	c.sent, c.received = r.load.DataItemsSent(), r.MockBackend.DataItemsReceived()
	if c.sent != c.received {
		return fmt.Errorf("%d items were sent, and %d received", c.sent, c.received)
	}
	if refused := r.load.PermanentErrors() + r.load.NonPermanentErrors(); refused > 0 {
		return fmt.Errorf("%d items were refused", refused)
	}
	return r.enough(c.elapsed)
}

// compare lets the two processors take turns under a load and holds what they take against each other: pair by
// pair, because what else the machine does changes from minute to minute and hardly within a pair, and each of them
// first in every other pair, because it changes in one direction for a while. Of the quotients of the pairs the median
// counts, which a pair with a disturbance on one side does not move. A pair in which less than half of the load could
// be made is repeated.
func compare(t *testing.T, name string, with func(processor string) setup) {
	inScratch(t)
	var cpu, memory []float64
	pairs := *pairsFlag
	if testing.Short() {
		pairs = 1
	}
	for pair, spoiled := 0, 0; pair < pairs; {
		costs, err := measurePair(t, pair, with)
		if errors.Is(err, errLittleLoad) && spoiled < pairs {
			spoiled++
			reason, _, _ := strings.Cut(err.Error(), "\n") // without the agent's log
			t.Logf("%s: a pair is repeated, because the machine was too busy for the load: %s", name, reason)
			continue
		}
		require.NoError(t, err)
		pair++
		for _, processor := range []string{boundedbatch, batch} { // the same order in every pair
			recordCost(name, processor, costs[processor])
		}
		ours, theirs := costs[boundedbatch], costs[batch]
		cpu = append(cpu, ours.perItem()/theirs.perItem())
		memory = append(memory, ours.mean/theirs.mean)
		t.Logf("%s: CPU of an item %.0f and %.0f ns, resident %.1f and %.1f MiB, %d and %d items", name,
			ours.perItem(), theirs.perItem(), mebi(ours.mean), mebi(theirs.mean), ours.received, theirs.received)
	}
	t.Logf("%s: CPU %.3f of batch's %.3f, memory %.3f %.3f", name, median(cpu), cpu, median(memory), memory)
	if testing.Short() {
		return // one pair does not tell
	}
	assert.LessOrEqual(t, median(cpu), limit**marginFlag, "CPU, as a multiple of batch's")
	assert.LessOrEqual(t, median(memory), limit**marginFlag, "memory, as a multiple of batch's")
}

// measurePair measures both, one after the other; who is first changes from pair to pair.
func measurePair(t *testing.T, pair int, with func(processor string) setup) (map[string]cost, error) {
	t.Helper()
	order := []string{boundedbatch, batch}
	if pair%2 == 1 {
		slices.Reverse(order)
	}
	costs := make(map[string]cost)
	for _, processor := range order {
		c, err := measure(t, with(processor))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", processor, err)
		}
		costs[processor] = c
	}
	return costs, nil
}

func recordCost(name, processor string, c cost) {
	record("%s/impl=%s-%d\t%d\t%.5g cpu-ns/item\t%.4g ram-MiB\t%.4g ram-max-MiB\t%d sent-items\t%d received-items\t%.5g items/s\t"+
		"%.4g testbed-cpu-percent\t%d testbed-ram-MiB\t%d testbed-ram-max-MiB", name, processor, runtime.GOMAXPROCS(0), c.received,
		c.perItem(), mebi(c.mean), mebi(c.peak), c.sent, c.received, float64(c.sent)/c.elapsed.Seconds(),
		c.total.CPUPercentAvg, c.total.RAMMiBAvg, c.total.RAMMiBMax)
}

func mebi(bytes float64) float64 { return bytes / (1 << 20) }

// median of an even number is the upper one of the two in the middle, as in the report.
func median(values []float64) float64 { return slices.Sorted(slices.Values(values))[len(values)/2] }

// TestItems is TestTrace10kSPS, TestLog10kDPS and TestMetric10kDPS: 100 requests of 100 items a second. What upstream's
// generator takes for one item of metrics are 7 data points.
func TestItems(t *testing.T) {
	for _, tt := range []struct {
		signal, protocol string
		limits           testbed.ResourceSpec
	}{
		{"traces", "grpc", testbed.ResourceSpec{ExpectedMaxCPU: 20, ExpectedMaxRAM: 100}},
		{"traces", "http", testbed.ResourceSpec{ExpectedMaxCPU: 20, ExpectedMaxRAM: 100}},
		{"logs", "grpc", testbed.ResourceSpec{ExpectedMaxCPU: 30, ExpectedMaxRAM: 120}},
		{"logs", "http", testbed.ResourceSpec{ExpectedMaxCPU: 30, ExpectedMaxRAM: 120}},
		{"metrics", "grpc", testbed.ResourceSpec{ExpectedMaxCPU: 60, ExpectedMaxRAM: 105}},
		{"metrics", "http", testbed.ResourceSpec{ExpectedMaxCPU: 60, ExpectedMaxRAM: 100}},
	} {
		t.Run(tt.signal+" over "+tt.protocol, func(t *testing.T) {
			if testing.Short() && (tt.signal != "logs" || tt.protocol != "grpc") {
				t.Skip("one load is enough to see that the testbed works")
			}
			compare(t, fmt.Sprintf("Items/signal=%s/protocol=%s", tt.signal, tt.protocol), func(name string) setup {
				return setup{
					signal: tt.signal, protocol: tt.protocol,
					processors: []processor{{name, "{}"}},
					load:       testbed.LoadOptions{DataItemsPerSecond: 10_000, ItemsPerBatch: 100, Parallel: 1},
					limits:     tt.limits,
				}
			})
		})
	}
}

// TestAttributes is TestTrace1kSPSWithAttrs: 100 requests of 10 spans a second, each with attributes of up to twice that
// size. Upstream has no processor there. Batches are limited to what the backend takes in a gRPC message (4 MiB), with
// the same keys for both, and are full before their time is over: which comes first must not be a matter of chance.
func TestAttributes(t *testing.T) {
	if testing.Short() {
		t.Skip("one load is enough to see that the testbed works")
	}
	for _, tt := range []struct {
		attributes, size, most int
		limits                 testbed.ResourceSpec
		least                  float64
	}{
		{0, 0, 8192, testbed.ResourceSpec{ExpectedMaxCPU: 30, ExpectedMaxRAM: 150}, 0},
		{100, 50, 150, testbed.ResourceSpec{ExpectedMaxCPU: 120, ExpectedMaxRAM: 150}, 0},
		{10, 1000, 100, testbed.ResourceSpec{ExpectedMaxCPU: 100, ExpectedMaxRAM: 150}, 0},
		// The one goroutine that sends compresses, too: it does not get to 1,000 times 100 kB of random text a second.
		{20, 5000, 20, testbed.ResourceSpec{ExpectedMaxCPU: 250, ExpectedMaxRAM: 150}, 0.02},
	} {
		t.Run(fmt.Sprintf("%d*%dbytes", tt.attributes, tt.size), func(t *testing.T) {
			attributes := randomAttributes(tt.attributes, tt.size)
			name := fmt.Sprintf("Attributes/signal=traces/protocol=grpc/attributes=%d/size=%d/most=%d", tt.attributes, tt.size, tt.most)
			compare(t, name, func(name string) setup {
				return setup{
					signal: "traces", protocol: "grpc",
					processors: []processor{{name, fmt.Sprintf("{send_batch_size: %d, send_batch_max_size: %d}", tt.most, tt.most)}},
					load:       testbed.LoadOptions{DataItemsPerSecond: 1000, ItemsPerBatch: 10, Attributes: attributes},
					limits:     tt.limits,
					least:      tt.least,
				}
			})
		})
	}
}

// randomAttributes are as upstream makes them (constructLoadOptions), but the same every time: two processors whose
// spans differ in size cannot be compared.
func randomAttributes(n, size int) map[string]string {
	random := rand.New(rand.NewPCG(1, 2))
	text := func(length int) string {
		b := make([]byte, length)
		for i := range b {
			b[i] = byte(random.IntN(128))
		}
		return string(b)
	}
	attributes := make(map[string]string)
	for range n {
		key := text(random.IntN(199) + 1)
		attributes[key] = text(random.IntN(2*size-1) + 1)
	}
	return attributes
}
