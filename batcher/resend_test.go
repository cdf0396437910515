package batcher_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/consumer/consumererror"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
	"github.com/boundedbatch/boundedbatchprocessor/batcher/batchertest"
)

// What has been handed on and may have to be sent again: copies and references.

func TestMutatingDownstreamGetsCopies(t *testing.T) {
	each(t, testCopies, testCopies, testCopies, testCopies)
}

// Downstream empties what it gets and fails: the next export must hold everything again.
func testCopies[T any](t *testing.T, kind batchertest.Kind[T]) {
	for _, wait := range []bool{false, true} {
		set := retrying()
		set.Retry.Enabled = !wait
		set.WaitForResult, set.NextMutates = wait, true
		var exports [][]int
		b, err := batcher.New(kind.Signal, set, func(_ context.Context, data T) error {
			ids, err := kind.IDs(data)
			if err != nil {
				return consumererror.NewPermanent(err)
			}
			exports = append(exports, ids)
			kind.Move(data, kind.New(0))
			switch {
			case len(exports) > 3:
				return nil
			case wait:
				return poisoned(0)
			}
			return errRefused
		})
		require.NoError(t, err)
		require.NoError(t, b.Start())
		var results []chan error
		for i := range 2 {
			result := make(chan error, 1)
			results = append(results, result)
			go func() { result <- b.Consume(t.Context(), kind.Make(50*i, 50)) }()
			synctest.Wait()
		}
		for _, result := range results {
			if err := <-result; wait {
				require.EqualError(t, err, poisoned(0).Error())
			} else {
				require.NoError(t, err)
			}
		}
		time.Sleep(time.Minute)
		require.NoError(t, b.Shutdown(t.Context()))
		if wait {
			require.Len(t, exports, 3)
			require.Len(t, exports[1], 50)
			require.Len(t, exports[2], 50)
			continue
		}
		require.Len(t, exports, 4)
		for _, ids := range exports {
			require.Len(t, ids, 100)
		}
	}
}

func TestReferencesAreGivenBackExactlyOnce(t *testing.T) {
	each(t, testReferences, testReferences, testReferences, testReferences)
}

// counted counts the references that the engine holds.
type counted[T any] struct {
	batcher.Signal[T]
	refs, taken *atomic.Int64
}

func (c counted[T]) Ref(data T) { c.refs.Add(1); c.taken.Add(1); c.Signal.Ref(data) }

func (c counted[T]) Unref(data T) { c.refs.Add(-1); c.Signal.Unref(data) }

// The Collector gives its own reference back when Consume and the export return; the
// engine's are its own affair, and none is left whatever became of the items.
func testReferences[T any](t *testing.T, kind batchertest.Kind[T]) {
	for _, c := range []struct {
		name    string
		respond func(batchertest.Batch) error
	}{
		{"delivered", nil},
		{"refused", func(batchertest.Batch) error { return consumererror.NewPermanent(errRefused) }},
		{"one poisoned", poison(33)},
		{"two poisoned", poison(3, 66)},
		{"retried", failing(2, errRefused)},
		{"retried in part", failing(1, kind.Partial(errRefused, kind.Make(0, 40)))},
		{"given up", func(batchertest.Batch) error { return errRefused }},
		{"poisoned and retried", func(b batchertest.Batch) error {
			if b.Number%2 == 1 {
				return errRefused
			}
			return poison(5)(b)
		}},
		{"too late", func(b batchertest.Batch) error { <-b.Ctx.Done(); return b.Ctx.Err() }},
	} {
		for _, wait := range []bool{false, true} {
			name := fmt.Sprintf("%s, waiting: %v", c.name, wait)
			var refs, taken atomic.Int64
			own := kind
			own.Signal = counted[T]{kind.Signal, &refs, &taken}
			set := retrying()
			set.WaitForResult, set.MaxConcurrentExports = wait, 1
			set.Retry.MaxElapsedTime = 30 * time.Second
			r := newRig(t, own, set, c.respond)
			ctx, cancel := context.WithCancel(t.Context())
			var results []<-chan error
			for range 4 { // 100 items, 100 items, and what leaves before its batch does
				results = append(results, r.goSend(t.Context(), 25, 25, 25, 25)...)
			}
			results = append(results, r.goSend(ctx, 30, 40)...)
			cancel()
			synctest.Wait()
			time.Sleep(10 * time.Second)
			_ = r.Shutdown(t.Context())
			for _, result := range results {
				<-result
			}
			synctest.Wait()
			require.Zero(t, refs.Load(), name)
			require.NotZero(t, taken.Load(), name)
		}
	}
}
