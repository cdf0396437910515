package batchertest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Batch is one call of a Sink.
type Batch struct {
	// Number counts the calls of the sink from 0, in the order in which they began.
	Number int
	IDs    []int
	Bytes  int // in OTLP's binary encoding
	Ctx    context.Context
	At     time.Time
}

// Sink is a next consumer that checks and remembers every batch. It is safe for
// concurrent use.
type Sink[T any] struct {
	kind    Kind[T]
	respond func(Batch) error

	mu        sync.Mutex // guards everything below
	batches   []Batch
	delivered map[int]int // identity to number of calls that accepted it
	inside    int
	most      int // that were inside at once
	err       error
}

// NewSink returns a sink that answers each batch with what respond returns; nil
// accepts everything. Respond may wait, panic, or end its goroutine.
func NewSink[T any](kind Kind[T], respond func(Batch) error) *Sink[T] {
	return &Sink[T]{kind: kind, respond: respond, delivered: make(map[int]int)}
}

// Consume is the function to give to batcher.New.
func (s *Sink[T]) Consume(ctx context.Context, data T) error {
	ids, err := s.kind.IDs(data)
	encoded, failed := s.kind.Wire(data)
	if err == nil {
		err = failed
	}
	s.mu.Lock()
	b := Batch{len(s.batches), ids, len(encoded), ctx, time.Now()}
	s.batches = append(s.batches, b)
	s.inside++
	s.most = max(s.most, s.inside)
	if err != nil && s.err == nil {
		s.err = err
	}
	if len(ids) == 0 && s.err == nil {
		s.err = fmt.Errorf("batch %d is empty", b.Number)
	}
	s.mu.Unlock()

	var accepted []int
	defer func() { // also when respond does not return
		s.mu.Lock()
		defer s.mu.Unlock()
		s.inside--
		for _, id := range accepted {
			s.delivered[id]++
		}
	}()
	if s.respond != nil {
		if err := s.respond(b); err != nil {
			accepted = s.unnamed(ids, err)
			return err
		}
	}
	accepted = ids
	return nil
}

// unnamed returns the items that an error does not name as failed, if it names any.
func (s *Sink[T]) unnamed(ids []int, err error) (others []int) {
	part, ok := s.kind.FailedPart(err)
	if !ok {
		return nil
	}
	named := s.kind.Identities(part)
	for _, id := range ids {
		if !slices.Contains(named, id) {
			others = append(others, id)
		}
	}
	return others
}

// Batches returns the calls so far, in the order in which they began.
func (s *Sink[T]) Batches() []Batch {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Batch(nil), s.batches...)
}

// Sizes returns the number of items in each batch so far.
func (s *Sink[T]) Sizes() (sizes []int) {
	for _, b := range s.Batches() {
		sizes = append(sizes, len(b.IDs))
	}
	return sizes
}

// Delivered returns how often each identity was accepted: in a batch that was answered
// with nil, or with an error that names other items as failed.
func (s *Sink[T]) Delivered() map[int]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[int]int, len(s.delivered))
	for id, n := range s.delivered {
		all[id] = n
	}
	return all
}

// MostAtOnce is the greatest number of calls that were under way at the same time.
func (s *Sink[T]) MostAtOnce() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.most
}

// Err tells whether a batch was empty or held an item that was altered.
func (s *Sink[T]) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}
