package migration

import (
	"slices"
	"time"

	"github.com/boundedbatch/boundedbatchprocessor/e2e/internal/harness"
)

// Row is a configuration of batch and what comes of it under some traffic.
type Row struct {
	Config     string // settings, as YAML in flow style
	Traffic    *Traffic
	Downstream *Downstream
	Signal     string       // the only one it is tried with, for it takes long; empty: all
	Differs    []Difference // empty: nobody can tell the two apart
}

// Difference is what is not the same in a row, on purpose.
type Difference struct {
	In  []Aspect
	Why *Reason
	Of  []string // names of signals; empty: all of them
	// CPUs is with how many the difference shows; with more it may not. 0: with any number.
	CPUs int
}

// Reason returns the difference that a row has in an aspect for a signal; nil: none.
func (r *Row) Reason(in Aspect, signal string) *Difference {
	for i, d := range r.Differs {
		if slices.Contains(d.In, in) && (len(d.Of) == 0 || slices.Contains(d.Of, signal)) {
			return &r.Differs[i]
		}
	}
	return nil
}

// Aspect is one of the things that are compared.
type Aspect string

// The aspects. Where one of the two has not delivered an item, the others than Items and
// Batches leave that item out.
const (
	// Answers: what each Consume call returns: nil, an error, or a permanent one.
	Answers Aspect = "answers"
	// Waits: how long each Consume call takes.
	Waits Aspect = "waits"
	// Items: which items are delivered, how often, and whether anything about them changes.
	Items Aspect = "items"
	// Batches: which items travel together, in which order within their batch.
	Batches Aspect = "batches"
	// Instants: when each item is handed to the next component.
	Instants Aspect = "instants"
	// Order: in which order the items of a tenant are delivered. What is done at the same
	// instant has no order, but for metrics.
	Order Aspect = "order"
	// Metadata: which client metadata the next component sees with each item.
	Metadata Aspect = "metadata"
	// Shutdown: how long it takes, and whether it returns an error.
	Shutdown Aspect = "shutdown"
)

// Aspects returns all of them.
func Aspects() []Aspect {
	return []Aspect{Answers, Waits, Items, Batches, Instants, Order, Metadata, Shutdown}
}

// Reason is why the two differ.
type Reason struct {
	Name string // a few words
	Text string // what each of the two does
}

// Setting is a configuration that at least one of the two refuses, or takes for something
// else than the other.
type Setting struct {
	Config              string // as in Row
	Batch, BoundedBatch Verdict
	Why                 *Reason // nil: both refuse it
}

// Verdict is what a processor says of a configuration.
type Verdict uint8

// The verdicts.
const (
	Refuses Verdict = iota
	Accepts
)

// String returns what the page says.
func (v Verdict) String() string { return [...]string{"refuses it", "takes it"}[v] }

// Traffic is requests, each at its instant.
type Traffic struct {
	Name, Text string
	Requests   []Request
	Ends       time.Duration // when the processor is shut down
}

// Request is one Consume call.
type Request struct {
	Stage  Stage
	At     time.Duration // since the start of the processor
	IDs    harness.Range
	Header harness.Header // of its caller
	Ended  bool           // the caller has given up before the call
}

// Stage is a part of a processor's life.
type Stage uint8

// The stages.
const (
	Running Stage = iota
	BeforeStart
	AfterShutdown
)

// Downstream is how the next component behaves. A nil func is that of one that takes
// everything at once.
type Downstream struct {
	Name, Text string
	// Takes is how long a call takes that begins at an instant since the start.
	Takes func(at time.Duration, ids []uint64) time.Duration
	// Answer is what it returns, once that time is over.
	Answer func(at time.Duration, ids []uint64) Answer
}

// Answer is what the next component says of a batch.
type Answer uint8

// The answers.
const (
	Taken Answer = iota
	RefusedForNow
	RefusedForGood
)
