package bench

import (
	"fmt"
	"slices"
	"time"
)

// loads are all of them, in the order in which they are measured.
var loads = slices.Concat(consumeLoads(), resourceLoads(), busyLoads(), pacedLoads, telemetryLoads, unalignedLoads,
	tenantLoads(), contests, latencyLoads(), scaleLoads())

var producerCases = []int{1, 8, 64}

// tuned are settings of exporterhelper for batches of that size: a large queue, and as many exports at once as
// boundedbatch has by default.
func tuned(size int) map[string]any {
	return map[string]any{
		"sizer": "items", "queue_size": 1_000_000, "num_consumers": 10, "block_on_overflow": true,
		"batch": map[string]any{"sizer": "items", "min_size": size, "flush_timeout": "200ms"},
	}
}

// requestsOf is how many requests make that many batches of the default size.
func requestsOf(batches, items int) int { return batches * ((floorSize + items - 1) / items) }

// consumeLoads are the steady state: default configuration, instant downstream, producers that do nothing else.
func consumeLoads() (all []*load) {
	for _, items := range []int{10, 100, 1} {
		for _, producers := range producerCases {
			l := &load{
				name: "Consume", keys: fmt.Sprintf("items=%d/producers=%d", items, producers), full: items == 1,
				items: items, producing: producing{producers: producers},
				settings: map[peer]map[string]any{boundedbatch: nil, batch: nil, floor: nil, counting: nil, helper: tuned(floorSize)},
				few:      map[peer]int{helper: requestsOf(max(2, items), items)},
			}
			all = append(all, l)
		}
	}
	return all
}

// resourceLoads are of requests that were collected from several places.
func resourceLoads() (all []*load) {
	for _, producers := range producerCases {
		all = append(all, &load{
			name: "Resources", keys: fmt.Sprintf("items=100/resources=10/producers=%d", producers), full: true,
			items: 100, resources: 10, producing: producing{producers: producers},
			settings: map[peer]map[string]any{boundedbatch: nil, batch: nil, floor: nil},
		})
	}
	return all
}

// busyLoads are of producers that have something else to do: a receiver decodes. The work is twenty times what is left, and a
// shared machine becomes faster and slower by more than that within a second: runs are short, of 25 ms, so that this meets all
// alike, and many.
func busyLoads() (all []*load) {
	for _, producers := range []int{1, 8} {
		all = append(all, &load{
			name: "Busy", keys: fmt.Sprintf("items=10/producers=%d/work=6us", producers),
			items: 10, requests: requestsOf(5, 10), producing: producing{producers: producers, work: 6 * time.Microsecond},
			settings: map[peer]map[string]any{boundedbatch: nil, batch: nil, helper: tuned(floorSize), none: nil},
			rounds:   8 * rounds,
		})
	}
	return all
}

// pacedLoads are of producers that are asleep most of the time. To wake up costs them 20 us, now more and now less: runs
// are short and many, so that this meets all alike, and end just before the first timeout. Where others want the machine,
// it differs by more than what is measured, so that the gate leaves it out: medians of 0.16 to 0.28 of batch became 0.5.
var pacedLoads = []*load{{
	name: "Paced", keys: "items=10/rate=2000", full: true,
	items: 10, requests: 398, producing: producing{producers: 1, every: time.Second / 2000}, rounds: 2 * rounds,
	settings: map[peer]map[string]any{boundedbatch: nil, batch: nil, helper: tuned(floorSize), none: nil},
}}

// telemetryLoads tell what the metrics of boundedbatch cost. That is less than rounds differ, so there are more of them.
var telemetryLoads = []*load{{
	name: "Telemetry", keys: "items=10/producers=1",
	items: 10, producing: producing{producers: 1}, rounds: 3 * rounds,
	settings: map[peer]map[string]any{bytes: nil, silent: nil},
}}

// unalignedLoads have batches that cannot be filled with whole requests.
var unalignedLoads = []*load{unaligned(10, floorSize), unaligned(100, floorSize), unaligned(30, 1000), unaligned(5000, 512)}

func unaligned(items, size int) *load {
	// What is left in the end waits for the timeout, and the test with it.
	settings := map[string]any{"send_batch_size": size, "send_batch_max_size": size, "timeout": "50ms"}
	return &load{
		name: "Unaligned", keys: fmt.Sprintf("items=%d/size=%d", items, size), full: items > size,
		items: items, requests: 720_000 / items, producing: producing{producers: 1}, cut: true,
		settings: map[peer]map[string]any{boundedbatch: settings, batch: settings, counting: nil},
	}
}

// tenantLoads are of tenants that fill batches in turn. With 10,000 of them these are a tenth as large, so that all of
// them fill one in a run.
func tenantLoads() (all []*load) {
	const items = 10
	for _, c := range []struct{ tenants, size int }{{1000, 500}, {1, 500}, {manyTenants, 50}} {
		for _, producers := range []int{1, 8} {
			settings := map[peer]map[string]any{counting: nil}
			for _, p := range []peer{boundedbatch, batch} {
				settings[p] = settingsByTenant(p, defaultTimeout)
				settings[p]["send_batch_size"] = c.size
			}
			settings[boundedbatch]["queue_size"] = 2 * max(c.tenants*c.size, floorSize)
			all = append(all, &load{
				name: "Tenants", keys: fmt.Sprintf("items=%d/tenants=%d/producers=%d", items, c.tenants, producers), full: c.tenants != 1000,
				items: items, requests: max(c.tenants, 1000) * c.size / items, producing: producing{producers: producers}, tenants: c.tenants,
				settings: settings,
			})
		}
	}
	return all
}

// slowBatch is the size of batches where downstream takes some time for each, so that it is what
// everybody waits for.
const slowBatch = 1000

// contests are uses of batchers in which boundedbatch has to be so much better than others, each in the way that shows
// what it was made for.
var contests = []*load{
	{
		name: "Contest", keys: "contest=slow_downstream",
		items: 10, requests: 10_000, producing: producing{producers: 64}, delay: 5 * time.Millisecond,
		settings: map[peer]map[string]any{
			boundedbatch: {"send_batch_size": slowBatch, "max_concurrent_exports": 10},
			batch:        {"send_batch_size": slowBatch},
			helper:       tuned(slowBatch),
		},
	},
	{
		name: "Contest", keys: "contest=defaults",
		items: 1, requests: 12 * floorSize, producing: producing{producers: 64},
		settings: map[peer]map[string]any{boundedbatch: nil, batch: nil, queuebatch: queuebatchDefaults},
		few:      map[peer]int{queuebatch: 20}, // ten for each flush_timeout
	},
	{
		name: "Contest", keys: "contest=waiting",
		items: waitingItems, requests: waitingRequests, producing: producing{producers: waitingCallers, inStep: true}, shares: true,
		settings: map[peer]map[string]any{
			boundedbatch: sealBySize[boundedbatch],
			concurrentbatch: {
				"send_batch_size": waitingCallers * waitingItems, "timeout": "200ms", "max_concurrency": 10,
			},
		},
	},
	{
		name: "Contest", keys: "contest=waiting_defaults",
		items: waitingItems, requests: 20 * waitingCallers, producing: producing{producers: waitingCallers, inStep: true}, shares: true,
		delay: 10 * time.Millisecond,
		settings: map[peer]map[string]any{
			boundedbatch: {"wait_for_result": true},
			helper:       {"wait_for_result": true, "batch": map[string]any{}},
		},
		few: map[peer]int{helper: 2 * waitingCallers},
	},
}

// latencyLoads tell what is left of the throughput when downstream takes its time. A batch is of as many items as the
// callers of concurrentbatch, who wait, can have under way.
func latencyLoads() (all []*load) {
	const size = waitingCallers * waitingItems
	for _, delay := range []time.Duration{0, 5 * time.Millisecond, 100 * time.Millisecond} {
		l := &load{
			name: "Latency", keys: fmt.Sprintf("items=%d/delay=%s", waitingItems, short(delay)), full: true,
			items: waitingItems, requests: 100 * waitingCallers, producing: producing{producers: waitingCallers},
			delay: delay, rounds: 3,
			settings: map[peer]map[string]any{
				boundedbatch:    {"send_batch_size": size, "max_concurrent_exports": 10},
				batch:           {"send_batch_size": size},
				helper:          tuned(size),
				queuebatch:      queuebatchDefaults,
				concurrentbatch: {"send_batch_size": size, "timeout": "200ms", "max_concurrency": 10},
			},
			few: map[peer]int{queuebatch: 20},
		}
		if delay >= 100*time.Millisecond { // one batch at a time
			l.few[batch], l.few[concurrentbatch] = 10*waitingCallers, 10*waitingCallers
			l.requests = 40 * waitingCallers
		}
		all = append(all, l)
	}
	return all
}

// short is a duration as in the name of a benchmark.
func short(d time.Duration) string {
	if d == 0 {
		return "0"
	}
	return d.String()
}

// scaleLoads tell what becomes of the cost when more producers run at once.
func scaleLoads() (all []*load) {
	for _, procs := range []int{1, 2, 4, 8} {
		all = append(all, &load{
			name: "Scale", keys: fmt.Sprintf("items=10/producers=64/procs=%d", procs), full: true,
			items: 10, producing: producing{producers: 64}, procs: procs, rounds: 4,
			settings: map[peer]map[string]any{boundedbatch: nil, batch: nil, floor: nil},
		})
	}
	return all
}
