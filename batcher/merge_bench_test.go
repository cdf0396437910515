package batcher

import (
	"fmt"
	"testing"

	"go.opentelemetry.io/collector/pdata/ptrace"
)

// BenchmarkMerge is of batches whose requests come in turn from five services, as they are when they are merged: decoded a
// while ago, and out of the caches since.
func BenchmarkMerge(b *testing.B) {
	for _, items := range []int{1, 10} {
		b.Run(fmt.Sprintf("items=%d", items), func(b *testing.B) { benchmarkMerge(b, items) })
	}
}

func benchmarkMerge(b *testing.B, items int) {
	const batchItems, services = 8192, 5
	encoded := make([][]byte, services)
	for i := range encoded {
		td := ptrace.NewTraces()
		rs := td.ResourceSpans().AppendEmpty()
		for n, value := range []string{
			fmt.Sprint("service-", i), "2.14.1", "627cc493-f310-47de-96bd-71410b7dec09", "shop", "shop-frontend-6d4cf56db6-xk2lp",
			"ip-10-0-12-34.eu-west-1.compute.internal", "opentelemetry", "go",
		} {
			rs.Resource().Attributes().PutStr(fmt.Sprint("some.resource.attribute.", n), value)
		}
		ss := rs.ScopeSpans().AppendEmpty()
		ss.Scope().SetName("github.com/shop/frontend")
		ss.Scope().SetVersion("1.2.3")
		for range items {
			s := ss.Spans().AppendEmpty()
			s.SetName("GET /api/products/{id}")
			for n := range 5 {
				s.Attributes().PutStr(fmt.Sprint("some.attribute.", n), fmt.Sprint("some value ", n))
			}
		}
		var err error
		if encoded[i], err = new(ptrace.ProtoMarshaler).MarshalTraces(td); err != nil {
			b.Fatal(err)
		}
	}
	signal, requests := Traces(), batchItems/items
	cold := make([]byte, 64<<20)
	for b.Loop() {
		b.StopTimer()
		batch := signal.New(requests)
		for i := range requests {
			td, err := new(ptrace.ProtoUnmarshaler).UnmarshalTraces(encoded[i%services])
			if err != nil {
				b.Fatal(err)
			}
			signal.Move(td, batch)
		}
		for i := 0; i < len(cold); i += 64 {
			cold[i]++
		}
		b.StartTimer()
		if _, joined := mergeData(signal, batch, true); !joined || signal.Resources(batch) != services {
			b.Fatal("not merged")
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*requests), "ns/resource")
	b.ReportMetric(0, "ns/op")
}
