package bench

import (
	"fmt"
	"runtime"
	"slices"
	"testing"

	"go.opentelemetry.io/collector/pdata/pcommon"
)

// Requests come in turn from five services whose resources have eight attributes.
const (
	mergeServices   = 5
	mergeAttributes = 5 // of each item
)

// mergeBatches is how many there are in a round, by the items of a request: a batch of 10 items a request is merged in a
// millisecond, and the kernel may account that a clock tick late.
var mergeBatches = map[int]int{1: 4, 10: 24}

// merging is what requests cost with merge_resources and without, round by round, and what it costs to encode and decode
// their batches.
type merging struct {
	consume, codec [2][]cost // without, with
	encoded        [2]int    // bytes of the last batch
}

// prices are what merging adds to the CPU of a request in each round, what encoding and decoding takes less, and what it takes
// of what it took.
func (m *merging) prices() (price, saved, codec []float64) {
	for i, with := range m.consume[1] {
		price = append(price, cpuPerRequest(with)-cpuPerRequest(m.consume[0][i]))
		saved = append(saved, cpuPerRequest(m.codec[0][i])-cpuPerRequest(m.codec[1][i]))
		codec = append(codec, cpuPerRequest(m.codec[1][i])/cpuPerRequest(m.codec[0][i]))
	}
	return price, saved, codec
}

// misses tells whether a bar for requests of that many items is missed.
func (m *merging) misses(items int) bool {
	price, saved, codec := m.prices()
	return mergeShare.missed(median(quotients(price, saved)), *marginFlag) ||
		items == 1 && mergedCodec.missed(median(codec), *marginFlag)
}

// add adds the rounds of another measurement.
func (m *merging) add(more merging) {
	for i := range m.consume {
		m.consume[i] = append(m.consume[i], more.consume[i]...)
		m.codec[i] = append(m.codec[i], more.codec[i]...)
	}
}

// TestMergingPays holds the CPU that merge_resources adds to a request, which is one incoming resource, against what encoding
// and decoding takes less for it. Everything is of one round; medians decide. What misses is measured again, up to three times,
// and all rounds decide: with 10 items a request what is saved is a tenth of what encoding and decoding takes, and
// some rounds differ by as much.
func TestMergingPays(t *testing.T) {
	skipIfShort(t)
	table := newTable("merge_resources", "items", "price", "bar", "saved", "price/saved", "from", "to", "bar",
		"encoding and decoding", "bar", "shrinks by", "bar")
	defer table.print()
	for _, s := range measured() {
		for _, items := range []int{1, 10} {
			of := s.compareMerging(t, items)
			for n := 0; n < moreLoads && of.misses(items); n++ {
				of.add(s.compareMerging(t, items))
			}
			price, saved, codec := of.prices()
			shares := quotients(price, saved)
			share, less, shrinks := median(shares), median(codec), float64(of.encoded[0])/float64(of.encoded[1])
			lessBar, shrinkBar := "none", "none"
			if items == 1 {
				lessBar, shrinkBar = mergedCodec.verdict(less), mergedShrink.verdict(shrinks)
				if mergedCodec.missed(less, *marginFlag) {
					t.Errorf("%s: encoding and decoding merged batches takes %.2f of what it took, more than %.2f", s, less, mergedCodec.enforced())
				}
				if mergedShrink.missed(shrinks, 1) {
					t.Errorf("%s: merged batches are %.2f times smaller, less than %.1f", s, shrinks, mergedShrink.enforced())
				}
			}
			// A time is no limit on machines like these; the share of what it saves is.
			table.row(s, items, number(median(price))+" ns", mergePrice.verdict(median(price)), number(median(saved))+" ns", share,
				slices.Min(shares), slices.Max(shares), mergeShare.verdict(share), less, lessBar, shrinks, shrinkBar)
			if mergeShare.missed(share, *marginFlag) {
				t.Errorf("%s, %d items: merging takes %.2f of what it saves, more than %.2f", s, items, share, mergeShare.enforced())
			}
		}
	}
}

// compareMerging measures requests of that many items.
func (s *signal[T]) compareMerging(t *testing.T, items int) (of merging) {
	t.Helper()
	inWarmMemory(t)
	perBatch := requestsOf(1, items)
	encoded := make([][]byte, perBatch)
	for i := range encoded {
		request := newAttributed(s, items, mergeAttributes)
		ofService(s.origin(request).Attributes(), fmt.Sprint("service-", i%mergeServices))
		encoded[i] = s.encode(request)
	}
	var rigs [2]*rig[T]
	for i := range rigs {
		// Batches are counted: there are fewer entries in those that are merged.
		rigs[i] = newRig(t, s, boundedbatch, map[string]any{"merge_resources": i == 1}, &sink[T]{entries: func(T) int { return 1 }})
	}
	for round := range rounds + 1 {
		var consume, codec [2]cost
		for range mergeBatches[items] {
			for i, r := range rigs {
				runtime.GC()
				requests := make([]T, perBatch)
				for j, b := range encoded {
					requests[j] = s.decode(b)
				}
				consume[i].add(r.run(t, requests, producing{producers: 1}, 1))
				c, size := s.recode(t, r.sink.take(), items*perBatch)
				c.requests = perBatch
				codec[i].add(c)
				of.encoded[i] = size
			}
		}
		if round == 0 {
			continue // into the steady state
		}
		for i := range rigs {
			of.consume[i] = append(of.consume[i], consume[i])
			of.codec[i] = append(of.codec[i], codec[i])
			name := fmt.Sprintf("Merge/signal=%s/items=%d/merge=%t", s, items, i == 1)
			recordMerging(name, consume[i], codec[i], float64(of.encoded[i])/float64(perBatch))
		}
	}
	for _, r := range rigs {
		r.stop(t)
	}
	return of
}

// ofService makes the attributes of a resource eight, such as those of a pod.
func ofService(a pcommon.Map, service string) {
	a.Clear()
	a.PutStr("service.name", service)
	a.PutStr("service.version", "2.14.1")
	a.PutStr("service.instance.id", "627cc493-f310-47de-96bd-71410b7dec09")
	a.PutStr("k8s.namespace.name", "production")
	a.PutStr("k8s.pod.name", service+"-6c9f8b7d5-x2x7k")
	a.PutStr("k8s.node.name", "ip-10-0-17-203.eu-central-1.compute.internal")
	a.PutStr("telemetry.sdk.name", "opentelemetry")
	a.PutStr("telemetry.sdk.language", "go")
}

// recode encodes batches and decodes them again, as the next hop does, and checks that there are so many items in them.
func (s *signal[T]) recode(t *testing.T, batches []T, items int) (c cost, size int) {
	t.Helper()
	var all []T
	began := cpuTime()
	for _, batch := range batches {
		encoded := s.encode(batch)
		size += len(encoded)
		all = append(all, s.decode(encoded))
	}
	c.cpu = cpuTime() - began
	for _, batch := range all {
		items -= s.items(batch)
	}
	if items != 0 {
		t.Fatalf("%d items are missing", items)
	}
	return c, size
}
