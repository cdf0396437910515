package batcher_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/consumer/consumererror"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
	"github.com/boundedbatch/boundedbatchprocessor/batcher/batchertest"
)

// slowCut is a signal whose requests are not cut before the gate is opened.
type slowCut[T any] struct {
	batcher.Signal[T]
	cutting chan struct{} // one value for each call
	gate    gate
}

func (s slowCut[T]) Cut(data T, z *batcher.Sizes) batcher.Cutter[T] {
	s.cutting <- struct{}{}
	<-s.gate
	return s.Signal.Cut(data, z)
}

func TestRequestThatIsCutForTooLongIsRefusedAsAWhole(t *testing.T) {
	each(t, testTooLate, testTooLate, testTooLate, testTooLate)
}

// A caller cuts its request, which happens without the lock; meanwhile a shutdown runs out
// of time. Nothing may begin to leave any more, so the caller must get back what it has.
func testTooLate[T any](t *testing.T, kind batchertest.Kind[T]) {
	for _, c := range []struct {
		name  string
		set   func(*batcher.Settings)
		items int
	}{
		{"to fit into batches", func(s *batcher.Settings) { s.SendBatchMaxSize = 100 }, 150},
		{"to fit into many batches", func(s *batcher.Settings) { s.SendBatchMaxSize = 100 }, 450},
		{"to get rid of items that are too large", func(s *batcher.Settings) { s.SendBatchMaxBytes = 300 }, 150},
		{"to fit into memory", func(s *batcher.Settings) { s.MemoryLimit = 30_000 }, 150},
		{"to get in piece by piece", func(s *batcher.Settings) { s.QueueSize = 100 }, 150},
		{"piece by piece and to fit into batches", func(s *batcher.Settings) {
			s.QueueSize, s.SendBatchSize, s.SendBatchMaxSize = 100, 30, 30
		}, 150},
		{"a part of it", func(s *batcher.Settings) {
			s.ResourceKeys, s.SendBatchSize, s.SendBatchMaxSize = []string{"team"}, 5, 5
		}, 2 * perTeam},
		{"a part of it, piece by piece", func(s *batcher.Settings) {
			s.ResourceKeys, s.SendBatchSize, s.QueueSize = []string{"team"}, 3, 6
		}, 2 * perTeam},
	} {
		set := defaults()
		set.ShutdownTimeout = 10 * time.Second
		c.set(&set)
		signal := slowCut[T]{kind.Signal, make(chan struct{}, 100), newGate()}
		sink := batchertest.NewSink(kind, nil)
		b, err := batcher.New(signal, set, sink.Consume)
		require.NoError(t, err)
		require.NoError(t, b.Start())

		result := make(chan error)
		request := kind.Make(0, c.items)
		go func() { result <- b.Consume(t.Context(), request) }()
		<-signal.cutting
		require.NoError(t, b.Shutdown(t.Context()), c.name) // nothing that was accepted is lost
		signal.gate.open()
		err = <-result
		require.ErrorIs(t, err, batcher.ErrShutdown, c.name)
		require.False(t, consumererror.IsPermanent(err), c.name)
		synctest.Wait()
		require.Empty(t, sink.Batches(), c.name)
		rest, partly := kind.FailedPart(err)
		if !partly {
			rest = request
		}
		ids, err := kind.IDs(rest)
		require.NoError(t, errors.Join(err, sink.Err()), c.name)
		got := map[int]bool{}
		for _, id := range ids {
			got[id] = true
		}
		require.Len(t, got, c.items, c.name)
		require.Len(t, ids, c.items, c.name)
		s := b.Stats()
		require.EqualValues(t, c.items, s.Refused[batcher.RefusedShutdown], c.name)
		require.Zero(t, s.Accepted+s.Held, c.name)
	}
}
