package bench

import (
	"fmt"
	"testing"
	"time"
)

// fillCase is a way to make batches of requests that come at a steady rate.
type fillCase struct {
	items int // in each request
	most  int // send_batch_max_size; 0: none. send_batch_size is floorSize
	full  bool
	bar
}

// Requests of 10 items fill any batch. Of 750 items there are ten in a batch that must not be larger than 8192, or
// ten and a piece.
var fillCases = []fillCase{
	{items: 10, bar: fillDefaults},
	{items: 10, most: floorSize, bar: fillSizeIsMax},
	{items: 750, most: floorSize, bar: fillSizeIsMax},
	{items: 750, bar: fillDefaults, full: true},
	{items: 100, most: floorSize, bar: fillSizeIsMax, full: true},
}

const (
	fillRate   = 100_000 // items a second: a batch of the default size is full long before the default timeout
	fillWindow = time.Second
)

// TestFill counts the items of batches, the last one apart, which has to wait for the timeout.
func TestFill(t *testing.T) {
	skipIfShort(t)
	table := newTable("fill of batches", "items", "most", "boundedbatch", "batch", "ratio to it", "aim (held)")
	defer table.print()
	for _, fc := range fillCases {
		if fc.full && !*fullFlag {
			continue
		}
		for _, s := range measured() {
			t.Run(fmt.Sprintf("signal=%s/items=%d/max=%d", s, fc.items, fc.most), func(t *testing.T) {
				of := make(map[peer]float64)
				for _, p := range []peer{boundedbatch, batch} {
					of[p] = s.fill(t, p, &fc)
					record("Fill/signal=%s/items=%d/max=%d/impl=%s\t1\t%.4g fill\n", s, fc.items, fc.most, p, of[p])
				}
				ratio := of[boundedbatch] / of[batch]
				table.row(s, fc.items, fc.most, of[boundedbatch], of[batch], ratio, fc.verdict(ratio))
				if fc.missed(ratio, 1) {
					t.Errorf("batches are %.3g as full as batch's, less than %.4g", ratio, fc.enforced())
				}
			})
		}
	}
}

// fill is the mean of the items of a batch, as a share of send_batch_size.
func (s *signal[T]) fill(t *testing.T, p peer, fc *fillCase) float64 {
	t.Helper()
	rate := fillRate / float64(fc.items) // requests
	pl := newPoolOf(s, fc.items, int(rate*fillWindow.Seconds()))
	how := producing{producers: 1, every: time.Duration(float64(time.Second) / rate)}
	// A batch may have a piece of a request: what counts are items.
	r := newRig(t, s, p, map[string]any{"send_batch_size": floorSize, "send_batch_max_size": fc.most}, &sink[T]{entries: s.items})
	r.run(t, pl.requests, how, len(pl.requests)*fc.items)
	batches, items, last := r.sink.take(), 0, 0
	for _, b := range batches {
		last = s.items(b)
		items += last
	}
	if want := len(pl.requests) * fc.items; items != want {
		t.Fatalf("%s delivered %d of %d items", p, items, want)
	}
	r.stop(t)
	return float64(items-last) / float64(len(batches)-1) / floorSize
}
