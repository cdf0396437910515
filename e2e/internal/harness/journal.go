package harness

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
)

// Outcome is what a client knows of a request it has sent.
type Outcome uint8

// The outcomes.
const (
	// Acknowledged: every item has to arrive, exactly once if it was sent once.
	Acknowledged Outcome = iota
	// Refused: no item may arrive.
	Refused
	// Unknown: the answer, if there was one, does not tell. An item may arrive, once if
	// it was sent once.
	Unknown
)

// Sent is a request and its outcome.
type Sent struct {
	IDs      Range
	Outcome  Outcome
	Attempts int // how often the client sent it; 0 counts as 1
}

// Journal is what the clients of a test have sent. It may be used by several
// goroutines; the zero Journal is empty and hands out identities from 0 on.
type Journal struct {
	first uint64 // identity
	next  atomic.Uint64

	mu   sync.Mutex // guards sent
	sent []Sent
}

// NewJournal returns an empty journal that hands out identities from first on.
func NewJournal(first uint64) *Journal {
	j := &Journal{first: first}
	j.next.Store(first)
	return j
}

// Take returns identities that nobody else has.
func (j *Journal) Take(items int) Range {
	return Range{First: j.next.Add(uint64(items)) - uint64(items), Items: items}
}

// Taken returns how many identities have been handed out.
func (j *Journal) Taken() int { return int(j.next.Load() - j.first) }

// Note adds a request that was sent once.
func (j *Journal) Note(ids Range, outcome Outcome) { j.NoteAttempts(ids, outcome, 1) }

// NoteAttempts adds a request that was sent several times. The outcome is the last one.
func (j *Journal) NoteAttempts(ids Range, outcome Outcome, attempts int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.sent = append(j.sent, Sent{IDs: ids, Outcome: outcome, Attempts: attempts})
}

// Sent returns all requests noted so far.
func (j *Journal) Sent() []Sent {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.sent)
}

// Items returns the number of items in the requests with that outcome.
func (j *Journal) Items(outcome Outcome) (items int) {
	for _, s := range j.Sent() {
		if s.Outcome == outcome {
			items += s.IDs.Items
		}
	}
	return items
}

// Size returns the size of a request, 1 to most. Small and large ones occur alike:
// there are about as many below 10 as from 100 to 1,000.
func Size(rng *rand.Rand, most int) int {
	return min(most, int(math.Exp(rng.Float64()*math.Log(float64(most)+1))))
}

// Sizes returns the sizes of requests with that many items together. The largest and
// the smallest size are among them. Requires items > most.
func Sizes(rng *rand.Rand, items, most int) (sizes []int) {
	sizes = append(sizes, most, 1)
	for left := items - most - 1; left > 0; {
		n := min(left, Size(rng, most))
		sizes = append(sizes, n)
		left -= n
	}
	rng.Shuffle(len(sizes), func(i, j int) { sizes[i], sizes[j] = sizes[j], sizes[i] })
	return sizes
}
