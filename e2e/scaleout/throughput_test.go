package scaleout

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/boundedbatch/boundedbatchprocessor/e2e/internal/harness"
)

// What one gateway can hand on at most is set here: so many exports at once, of so many items, to a backend that takes that long
// for each of them. It is little enough that no processor is busy with it, with four gateways neither: what grows is what
// gateways do, not what this machine does.
const (
	exportsAtOnce = 2
	itemsPerBatch = 100
	exportTakes   = 100 * time.Millisecond
	capacityOfOne = exportsAtOnce * itemsPerBatch * int(time.Second/exportTakes) // items a second
)

// Four gateways hand on more than two, and these more than one: as many times as their shares allow. What load balancing gives to
// each is not the same, and a request is answered when the last of its parts is.
func TestThroughputGrowsWithGateways(t *testing.T) {
	file := newResults(t, "scale-out")
	over := fmt.Sprintf("processors: {boundedbatch: {max_concurrent_exports: %d, send_batch_size: %d, send_batch_max_size: %d}}",
		exportsAtOnce, itemsPerBatch, itemsPerBatch)
	alone := 0.0
	for _, count := range []int{1, 2, 4} {
		t.Run(fmt.Sprintf("gateways=%d", count), func(t *testing.T) {
			backend := harness.NewBackend(t)
			backend.Delay(exportTakes)
			gateways := startGateways(t, gatewayFile, backend, count, over)
			agents := startBalancingAgents(t, 2, gateways)
			rate, largest := measureThroughput(t, backend, gateways, agents, 100*count)
			if count == 1 {
				alone = rate
			}
			progress(t, "%.0f items/s, %.2f times one gateway; the largest share of a gateway is %.2f", rate, rate/alone, largest)
			file.record(fmt.Sprintf("ScaleOut/gateways=%d", count), quantity{rate, "items/s"}, quantity{rate / alone, "x"},
				quantity{largest, "share"})
			most := float64(capacityOfOne) / largest // the gateway with the largest share is at its limit
			assert.LessOrEqual(t, rate, 1.05*most, "the backend is not the limit, as it should be")
			assert.GreaterOrEqual(t, rate, 0.6*most, "of what these shares allow")
			stopAll(t, agents...)
			stopAll(t, gateways...)
		})
	}
}

// measureThroughput returns how many spans a second arrive at the backend while that many batches do, and what part of them comes
// from the gateway that most come from.
func measureThroughput(
	t *testing.T, backend *harness.Backend, gateways, agents []*harness.Collector, batches int,
) (rate, largest float64) {
	t.Helper()
	const items = 50 // of a request
	// Of each agent: more than can be under way, and not so many that requests wait for longer than agents do.
	senders := 16 * len(gateways)
	ctx, cancel := context.WithCancel(t.Context())
	var journal harness.Journal
	var sending sync.WaitGroup
	for _, agent := range agents {
		for range senders {
			client := agent.GRPC(t, nil)
			sending.Go(func() {
				for ctx.Err() == nil {
					ids := journal.Take(items)
					if err := client.Send(ctx, harness.Traces, ids); err != nil && ctx.Err() == nil {
						t.Errorf("request with items %v: %v", ids, err)
						return
					}
				}
			})
		}
	}
	ledger := backend.Ledger(harness.Traces)
	await := func(count int) {
		ledger.Await(t, fmt.Sprintf("%d batches", count), func(l *harness.Ledger) bool { return len(l.Delivered()) >= count })
	}
	warm := batches / 4
	await(warm)
	before := deliveredBy(t, gateways)
	await(warm + batches)
	after := deliveredBy(t, gateways)
	cancel()
	sending.Wait()

	counted := 0
	measured := ledger.Delivered()[warm : warm+batches] // in the order of their answers
	for _, batch := range measured[1:] {
		counted += len(batch.IDs)
	}
	rate = float64(counted) / measured[batches-1].Answered.Sub(measured[0].Answered).Seconds()
	all := 0.0
	for i := range gateways {
		all += after[i] - before[i]
	}
	for i := range gateways {
		largest = max(largest, (after[i]-before[i])/all)
	}
	return rate, largest
}

func deliveredBy(t *testing.T, gateways []*harness.Collector) (items []float64) {
	t.Helper()
	for _, gateway := range gateways {
		s, err := gateway.Scrape(t.Context())
		require.NoError(t, err)
		items = append(items, float64(s.Sum(harness.Traces, "delivered_items")))
	}
	return items
}
