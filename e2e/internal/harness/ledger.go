package harness

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Batch is one export call of the collector. Nobody changes it.
type Batch struct {
	IDs []uint64
	// Err is what the backend answered; nil: it has taken the items.
	Err error
}

// Ledger is what has reached the backend of one signal. It may be used by several
// goroutines.
type Ledger struct {
	mu       sync.Mutex // guards everything below
	arrivals map[uint64]int
	batches  []Batch
	altered  []string      // the first mostAltered of them
	under    int           // calls under way
	most     int           // of under, so far
	changed  chan struct{} // closed and replaced whenever something is entered
}

// mostAltered descriptions of altered items are enough.
const mostAltered = 5

func newLedger() *Ledger {
	return &Ledger{arrivals: make(map[uint64]int), changed: make(chan struct{})}
}

// began and ended enclose a call.
func (l *Ledger) began() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.under++
	l.most = max(l.most, l.under)
}

func (l *Ledger) ended(b Batch, altered []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.under--
	l.batches = append(l.batches, b)
	if b.Err == nil {
		for _, id := range b.IDs {
			l.arrivals[id]++
		}
	}
	if keep := min(len(altered), mostAltered-len(l.altered)); keep > 0 {
		l.altered = append(l.altered, altered[:keep]...)
	}
	close(l.changed)
	l.changed = make(chan struct{})
}

// Delivered returns the batches that the backend took.
func (l *Ledger) Delivered() []Batch { return l.choose(func(b Batch) bool { return b.Err == nil }) }

// Refused returns the batches that the backend did not take.
func (l *Ledger) Refused() []Batch { return l.choose(func(b Batch) bool { return b.Err != nil }) }

func (l *Ledger) choose(which func(Batch) bool) (chosen []Batch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range l.batches {
		if which(b) {
			chosen = append(chosen, b)
		}
	}
	return chosen
}

// Largest returns the number of items in the largest batch, delivered or not.
func (l *Ledger) Largest() (items int) {
	for _, b := range l.choose(func(Batch) bool { return true }) {
		items = max(items, len(b.IDs))
	}
	return items
}

// MostAtOnce returns how many calls were under way at the same time, at most.
func (l *Ledger) MostAtOnce() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.most
}

// Await waits until done is satisfied with what the ledger says. It is called again
// whenever a batch has been entered.
func (l *Ledger) Await(tb testing.TB, what string, done func(*Ledger) bool) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	for {
		l.mu.Lock()
		changed := l.changed
		l.mu.Unlock()
		if done(l) {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			tb.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// patience is how long a test waits for what has to happen soon.
const patience = 30 * time.Second

// Check compares what has arrived with what was sent, all of it: every acknowledged
// item exactly once, no refused one, the rest at most once, nothing that was not sent,
// and each item as its identity says. Nil if all of that holds.
func (l *Ledger) Check(sent []Sent) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var missing, repeated, refused tally
	known := 0
	for _, s := range sent {
		for i := range uint64(s.IDs.Items) {
			id := s.IDs.First + i
			n, arrived := l.arrivals[id]
			if arrived {
				known++
			}
			switch {
			case !arrived && s.Outcome == Acknowledged:
				missing.add(id)
			case arrived && s.Outcome == Refused:
				refused.add(id)
			case n > 1:
				repeated.add(id)
			}
		}
	}
	errs := []error{
		missing.err("were acknowledged but have not arrived"),
		repeated.err("arrived more than once"),
		refused.err("were refused but have arrived"),
	}
	if strangers := len(l.arrivals) - known; strangers > 0 {
		errs = append(errs, fmt.Errorf("%d items arrived that were never sent", strangers))
	}
	if len(l.altered) > 0 {
		errs = append(errs, errors.New(strings.Join(l.altered, "\n")))
	}
	return errors.Join(errs...)
}

// tally counts items and keeps the first few as examples.
type tally struct {
	items    int
	examples []uint64
}

func (t *tally) add(id uint64) {
	t.items++
	if len(t.examples) < 10 {
		t.examples = append(t.examples, id)
	}
}

func (t *tally) err(what string) error {
	if t.items == 0 {
		return nil
	}
	return fmt.Errorf("%d items %s, such as %d", t.items, what, slices.Sorted(slices.Values(t.examples)))
}
