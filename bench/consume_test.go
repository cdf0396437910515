package bench

import (
	"fmt"
	"runtime"
	"testing"
)

var (
	peers         = []peer{boundedbatch, batch, floor, bytes}
	producerCases = []int{1, 8, 64}
)

// BenchmarkConsume is the cost of a request in the steady state: default configuration,
// instant downstream, producers that do nothing else.
func BenchmarkConsume(b *testing.B) {
	for _, s := range all {
		for _, items := range []int{1, 10, 100} {
			for _, producers := range producerCases {
				for _, p := range peers {
					b.Run(fmt.Sprintf("signal=%s/items=%d/producers=%d/impl=%s", s, items, producers, p), func(b *testing.B) {
						s.benchmarkConsume(b, p, items, producers)
					})
				}
			}
		}
	}
}

func (s *signal[T]) benchmarkConsume(b *testing.B, p peer, items, producers int) {
	withoutGC(b)
	pl := newPool(s, items)
	r := newRig(b, s, p, nil, &sink[T]{entries: s.resources})
	pl.run(b, r, producers) // into the steady state
	runs, sum := 0, cost{}
	b.ResetTimer()
	for b.Loop() {
		if runs%16 == 0 {
			runtime.GC()
		}
		sum.add(pl.run(b, r, producers))
		runs++
	}
	r.stop(b)
	requests := float64(runs * len(pl.requests))
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(sum.cpu)/requests, "cpu-ns/req")
	b.ReportMetric(float64(sum.elapsed)/requests, "ns/req")
	b.ReportMetric(float64(sum.allocs)/requests, "allocs/req")
	b.ReportMetric(float64(sum.bytes)/requests, "B/req")
	b.ReportMetric(requests*float64(items)/sum.elapsed.Seconds(), "items/s")
}
