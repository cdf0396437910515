package bench

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	memoryLimit    = 64 << 20 // of boundedbatch
	heldItems      = 100      // in each request, of heldAttributes each
	heldAttributes = 20
	heldRate       = 400 // requests a second
	heldProducers  = 4
	// heldWindow is long enough for everybody to reach a bound: exporterhelper's is 1000 requests.
	heldWindow = 4 * time.Second
	heldEvery  = 250 * time.Millisecond // there is a look at the heap
)

// heldSettings are the defaults but for a limit in bytes, which nobody else has.
var heldSettings = map[peer]map[string]any{
	boundedbatch: {"memory_limit": memoryLimit},
	batch:        nil,
	helper:       {"batch": map[string]any{}},
}

// TestMemoryHeld sends requests while downstream hangs, and looks at the live heap. Callers that are told to wait wait;
// what is refused is thrown away. Then downstream goes on, and whatever was accepted must arrive.
func TestMemoryHeld(t *testing.T) {
	skipIfShort(t)
	table := newTable("memory held", "peer", "most, in MiB", "accepted", "refused", "of the limit", "aim (held)")
	defer table.print()
	peers := []peer{boundedbatch}
	if *fullFlag {
		peers = append(peers, batch, helper)
	}
	for _, s := range measured() {
		for _, p := range peers {
			t.Run(fmt.Sprintf("signal=%s/impl=%s", s, p), func(t *testing.T) {
				of := s.memoryHeld(t, p)
				row := []any{s, p, of.most / (1 << 20), of.accepted, of.refused}
				if p != boundedbatch {
					table.row(append(row, "", "")...)
					return
				}
				ratio := of.most / memoryLimit
				table.row(append(row, ratio, heldOverLimit.verdict(ratio))...)
				if heldOverLimit.missed(ratio, 1) {
					t.Errorf("%.0f bytes are held, %.3g of the limit, more than %.4g", of.most, ratio, heldOverLimit.enforced())
				}
			})
		}
	}
}

// held is what a peer keeps while downstream hangs.
type held struct {
	most              float64 // bytes of heap
	accepted, refused int     // requests
}

func (s *signal[T]) memoryHeld(t *testing.T, p peer) (of held) {
	t.Helper()
	quiet(t)
	encoded := s.encode(newAttributed(s, heldItems, heldAttributes))
	before := memoryInUse()
	next := &sink[T]{entries: s.items, hangs: make(chan struct{})}
	r := newRig(t, s, p, heldSettings[p], next)

	var accepted, refused atomic.Int64
	var producers sync.WaitGroup
	stop := make(chan struct{})
	began := time.Now()
	for range heldProducers {
		producers.Go(func() {
			ticks := time.NewTicker(heldProducers * time.Second / heldRate)
			defer ticks.Stop()
			for {
				select {
				case <-stop:
					return
				case <-ticks.C:
				}
				if err := r.consume(context.Background(), s.decode(encoded)); err != nil {
					refused.Add(1)
				} else {
					accepted.Add(1)
				}
			}
		})
	}
	for at := time.Duration(0); at <= heldWindow; at += heldEvery {
		time.Sleep(time.Until(began.Add(at)))
		heap := max(0, liveHeap()-before.heap)
		of.most = max(of.most, heap)
		limit := ""
		if p == boundedbatch {
			limit = fmt.Sprintf("\t%d heap-limit-B", memoryLimit)
		}
		record("Memory/signal=%s/t_ms=%d/impl=%s-%d\t1\t%.4g heap-B%s\n", s.name, at.Milliseconds(), p, runtime.GOMAXPROCS(0), heap, limit)
	}
	close(next.hangs)
	close(stop)
	producers.Wait()
	r.shutdown(t)
	arrived := 0
	for _, b := range next.take() {
		arrived += s.items(b)
	}
	of.accepted, of.refused = int(accepted.Load()), int(refused.Load())
	if want := of.accepted * heldItems; arrived != want {
		t.Fatalf("%s accepted %d items and delivered %d", p, want, arrived)
	}
	return of
}

// liveHeap is what a collection leaves.
func liveHeap() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}
