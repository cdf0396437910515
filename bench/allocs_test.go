package bench

import (
	"runtime"
	"testing"
)

// TestAllocations counts every allocation of the process while requests go through
// boundedbatch in its steady state, metrics and exports included.
func TestAllocations(t *testing.T) {
	skipIfShort(t)
	table := newTable("signal", "items", "producers", "allocations/batch", "limit")
	defer table.print()
	for _, s := range measured() {
		for _, items := range []int{1, 10, 100} {
			for _, producers := range []int{1, 8} {
				allocs := s.allocsPerBatch(t, items, producers)
				recordAllocs(s.String(), items, producers, allocs)
				table.row(s, items, producers, allocs, atMost(allocs, allocsPerBatch))
				if allocs > allocsPerBatch {
					t.Errorf("%s, %d items, %d producers: %.4g allocations a batch, more than %d", s, items, producers, allocs, allocsPerBatch)
				}
			}
		}
	}
}

func (s *signal[T]) allocsPerBatch(t *testing.T, items, producers int) float64 {
	t.Helper()
	inWarmMemory(t)
	pl := newPool(s, items)
	r := newRig(t, s, boundedbatch, nil, &sink[T]{entries: s.resources})
	defer r.stop(t)
	pl.run(t, r, producing{producers: producers}) // into the steady state
	var allocs []float64
	for range 3 {
		c := pl.run(t, r, producing{producers: producers})
		allocs = append(allocs, float64(c.allocs)/float64(c.batches))
	}
	runtime.GC()
	return median(allocs)
}
