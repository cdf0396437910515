package bench

import (
	"fmt"
	"runtime"
	"testing"
	"time"
)

const (
	// waitingCallers is how many callers wait for their results at once. Each sends its
	// next request when it has the answer to the one before.
	waitingCallers = 64
	waitingItems   = 10 // in each request
	// waitingRequests is as many for each caller, and few enough for the memory.
	waitingRequests = waitingCallers * 500
)

// waitingCase is a way in which the requests of callers that wait become batches.
type waitingCase struct {
	seal     string // what seals a batch
	next     string // what the sink does to its batches
	delay    time.Duration
	settings map[peer]map[string]any // of those that take part
}

// A batch of one request of each caller, so that none waits for the timeout. exporterhelper
// has no other way to a batch that does.
var sealBySize = map[peer]map[string]any{
	boundedbatch: {
		"wait_for_result": true, "flush_when_idle": false,
		"send_batch_size": waitingCallers * waitingItems, "timeout": "200ms",
	},
	helper: {
		"wait_for_result": true, "num_consumers": 10,
		"batch": map[string]any{"min_size": waitingCallers * waitingItems, "flush_timeout": "200ms"},
	},
}

// The default of a processor whose callers wait: what has come during an export leaves
// when it ends.
var sealWhenIdle = map[peer]map[string]any{boundedbatch: {"wait_for_result": true}}

// A batch that may have to be sent again is copied before it is sent to a sink that
// keeps it. The first case is the one with limits.
var waitingCases = []*waitingCase{
	{seal: "size", next: "reads", settings: sealBySize},
	{seal: "idle", next: "reads", settings: sealWhenIdle},
	{seal: "size", next: "keeps", settings: map[peer]map[string]any{boundedbatch: sealBySize[boundedbatch]}},
	{seal: "size", next: "reads", delay: time.Millisecond, settings: sealBySize},
	{seal: "idle", next: "reads", delay: time.Millisecond, settings: sealWhenIdle},
}

func (w *waitingCase) name(signal fmt.Stringer, p peer) string {
	return fmt.Sprintf("signal=%s/callers=%d/items=%d/seal=%s/next=%s/delay=%s/impl=%s",
		signal, waitingCallers, waitingItems, w.seal, w.next, w.delay, p)
}

func newWaitingRig[T any](tb testing.TB, s *signal[T], p peer, w *waitingCase) *rig[T] {
	tb.Helper()
	return newRig(tb, s, p, w.settings[p], &sink[T]{entries: s.resources, shares: w.next == "reads", delay: w.delay})
}

// BenchmarkWaiting is the cost of a request whose caller waits for its result.
func BenchmarkWaiting(b *testing.B) {
	for _, s := range all {
		for _, w := range waitingCases {
			for _, p := range []peer{boundedbatch, helper} {
				if w.settings[p] != nil {
					b.Run(w.name(s, p), func(b *testing.B) { s.benchmarkWaiting(b, p, w) })
				}
			}
		}
	}
}

func (s *signal[T]) benchmarkWaiting(b *testing.B, p peer, w *waitingCase) {
	inWarmMemory(b)
	pl := newPoolOf(s, waitingItems, waitingRequests)
	r := newWaitingRig(b, s, p, w)
	pl.run(b, r, producing{producers: waitingCallers, inStep: true}) // into the steady state
	runs, sum := 0, cost{}
	b.ResetTimer()
	for b.Loop() {
		runtime.GC()
		sum.add(pl.run(b, r, producing{producers: waitingCallers, inStep: true}))
		runs++
	}
	r.stop(b)
	requests := float64(runs * len(pl.requests))
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(sum.cpu)/requests, "cpu-ns/req")
	b.ReportMetric(float64(sum.elapsed)/requests, "ns/req")
	b.ReportMetric(float64(sum.allocs)/requests, "allocs/req")
	b.ReportMetric(float64(sum.bytes)/requests, "B/req")
	b.ReportMetric(requests/float64(sum.batches), "req/batch")
	b.ReportMetric(requests*waitingItems/sum.elapsed.Seconds(), "items/s")
}

// TestWaitingModeAllocatesAtMostTwicePerRequest counts every allocation of the process
// while callers wait for their results in the steady state. What batches of a few
// requests cost, and batches that have to be copied, is shown and has no limit.
func TestWaitingModeAllocatesAtMostTwicePerRequest(t *testing.T) {
	skipIfShort(t)
	table := newTable("callers wait", "seal", "next", "requests/batch", "allocations/request", "/batch", "limit", "B/req", "CPU/req")
	defer table.print()
	for _, s := range measured() {
		for i, w := range waitingCases {
			if w.delay > 0 {
				continue
			}
			of := s.measureWaiting(t, w)
			allocs, limited, shown := of.median(boundedbatch, allocsPerRequest), i == 0, "none"
			if limited {
				shown = atMost(allocs, waitingAllocs)
			}
			perBatch := of.median(boundedbatch, requestsPerBatch)
			table.row(s, w.seal, w.next, perBatch, allocs, allocs*perBatch, shown,
				of.median(boundedbatch, bytesPerRequest), number(of.median(boundedbatch, cpuPerRequest))+" ns")
			if limited && allocs > waitingAllocs {
				t.Errorf("%s: %.4g allocations a request whose caller waits, more than %d", s, allocs, waitingAllocs)
			}
			if limited && allocs*perBatch > allocsPerBatch {
				t.Errorf("%s: %.4g allocations a batch whose callers wait, more than %d", s, allocs*perBatch, allocsPerBatch)
			}
		}
	}
}

// measureWaiting is what boundedbatch takes, three times.
func (s *signal[T]) measureWaiting(t *testing.T, w *waitingCase) comparison {
	t.Helper()
	inWarmMemory(t)
	pl := newPoolOf(s, waitingItems, waitingRequests)
	r := newWaitingRig(t, s, boundedbatch, w)
	defer r.stop(t)
	pl.run(t, r, producing{producers: waitingCallers, inStep: true}) // into the steady state
	of := comparison{make(map[peer][]cost)}
	for range 3 {
		runtime.GC()
		c := pl.run(t, r, producing{producers: waitingCallers, inStep: true})
		of.of[boundedbatch] = append(of.of[boundedbatch], c)
		recordRequests("Waiting/"+w.name(s, boundedbatch), c)
	}
	return of
}
