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
	// Header is what the collector sent with them, keys in lower case, without the headers
	// that OTLP itself needs.
	Header Header
	// Bytes is the size of the message, without what gRPC or HTTP puts around it; 0 from a
	// collector in the test's own process.
	Bytes int
	// Err is what the backend answered; nil: it has taken the items.
	Err error
	// Unanswered says that the connection has ended instead: the collector cannot know Err.
	Unanswered bool
	// Conn names the connection that they came over; empty: from a collector in the test's own
	// process.
	Conn string
	// Life is how often the backend had been killed before.
	Life              int
	Arrived, Answered time.Time
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
	asked    int           // of under: whose batches are known, and have no answer yet
	changed  chan struct{} // closed and replaced whenever a call begins or ends
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

// asks follows began. What the backend is told after it is for this call too, if it waits.
func (l *Ledger) asks() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked++
	l.change()
}

func (l *Ledger) ended(b Batch, altered []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.under--
	l.asked--
	l.batches = append(l.batches, b)
	if b.Err == nil {
		for _, id := range b.IDs {
			l.arrivals[id]++
		}
	}
	if keep := min(len(altered), mostAltered-len(l.altered)); keep > 0 {
		l.altered = append(l.altered, altered[:keep]...)
	}
	l.change()
}

// change wakes those who wait. Requires l.mu held.
func (l *Ledger) change() {
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

// Taken returns how many items the backend took, each as often as it did, and of how many of
// them the collector cannot know.
func (l *Ledger) Taken() (all, unanswered int) {
	for _, b := range l.Delivered() {
		all += len(b.IDs)
		if b.Unanswered {
			unanswered += len(b.IDs)
		}
	}
	return all, unanswered
}

// Largest returns the number of items in the largest batch, delivered or not.
func (l *Ledger) Largest() (items int) {
	for _, b := range l.choose(func(Batch) bool { return true }) {
		items = max(items, len(b.IDs))
	}
	return items
}

// LargestMessage returns the number of bytes in the largest batch, delivered or not.
func (l *Ledger) LargestMessage() (size int) {
	for _, b := range l.choose(func(Batch) bool { return true }) {
		size = max(size, b.Bytes)
	}
	return size
}

// Waiting returns how many calls the backend knows and has not answered: those that it holds.
func (l *Ledger) Waiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.asked
}

// UnderWay returns how many calls have begun and not ended.
func (l *Ledger) UnderWay() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.under
}

// MostAtOnce returns how many calls were under way at the same time, at most.
func (l *Ledger) MostAtOnce() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.most
}

// Await waits until done is satisfied with what the ledger says. It is called again
// whenever a batch has arrived or been answered.
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
// item, no refused one, none more often than it was sent (an acknowledged item that was
// sent once exactly once, that is), nothing that was not sent, and each item as its
// identity says. Nil if all of that holds.
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
			case n > max(1, s.Attempts):
				repeated.add(id)
			}
		}
	}
	errs := []error{
		missing.err("were acknowledged but have not arrived"),
		repeated.err("arrived more often than they were sent"),
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

// CheckLives returns an error if the backend has taken an item twice in one of its lives.
// A client that gets each answer of its backend for certain unless the backend dies has
// no reason to repeat what was taken.
func (l *Ledger) CheckLives() error {
	var repeated tally
	taken := make(map[int]map[uint64]bool)
	for _, b := range l.Delivered() {
		if taken[b.Life] == nil {
			taken[b.Life] = make(map[uint64]bool)
		}
		for _, id := range b.IDs {
			if taken[b.Life][id] {
				repeated.add(id)
			}
			taken[b.Life][id] = true
		}
	}
	return repeated.err("arrived more than once in one life of the backend")
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
