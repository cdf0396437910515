package batcher_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
	"github.com/boundedbatch/boundedbatchprocessor/batcher/batchertest"
)

func TestSizeSealsABatch(t *testing.T) {
	each(t, testSizeSeals, testSizeSeals, testSizeSeals, testSizeSeals)
}

func testSizeSeals[T any](t *testing.T, kind batchertest.Kind[T]) {
	r := newRig(t, kind, defaults(), nil)
	for range 4 {
		r.send(60)
	}
	synctest.Wait()
	require.Equal(t, []int{120, 120}, r.sink.Sizes())
	require.EqualValues(t, 2, r.Stats().Batches[batcher.TriggerSize])
	r.stop()
}

func TestSizeZeroSealsEveryRequest(t *testing.T) {
	each(t, testSizeZero, testSizeZero, testSizeZero, testSizeZero)
}

func testSizeZero[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := defaults()
	set.SendBatchSize = 0
	set.MaxConcurrentExports = 1
	r := newRig(t, kind, set, nil)
	for _, n := range []int{1, 7, 250} {
		r.send(n)
	}
	synctest.Wait()
	require.Equal(t, []int{1, 7, 250}, r.sink.Sizes())
	r.stop()
}

func TestMaxSizeIsNeverExceeded(t *testing.T) {
	each(t, testMaxSize, testMaxSize, testMaxSize, testMaxSize)
}

func testMaxSize[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := defaults()
	set.SendBatchSize, set.SendBatchMaxSize = 100, 100
	set.MaxConcurrentExports = 1
	for _, c := range []struct {
		name     string
		requests []int
		want     []int
	}{
		{"a request that does not fit fills the open batch up", []int{60, 60, 80}, []int{100, 100}},
		{"unless the open batch is nearly full", []int{90, 60, 30}, []int{90, 90}},
		{"a batch that is not quite nearly full is filled up", []int{89, 60}, []int{100, 49}},
		{"a large request becomes full batches and a rest", []int{30, 430}, []int{100, 100, 100, 100, 60}},
		{"a rest that is exactly full leaves as well", []int{500}, []int{100, 100, 100, 100, 100}},
		{"nothing is cut at the border of a request", []int{100, 100, 1}, []int{100, 100, 1}},
	} {
		r := newRig(t, kind, set, nil)
		for _, n := range c.requests {
			r.send(n)
		}
		r.stop()
		require.Equal(t, c.want, r.sink.Sizes(), c.name)
		r.inOrder()
	}
}

func TestEmptyRequestEndsAtOnce(t *testing.T) { each(t, testEmpty, testEmpty, testEmpty, testEmpty) }

func testEmpty[T any](t *testing.T, kind batchertest.Kind[T]) {
	r := newRig(t, kind, defaults(), nil)
	require.NoError(t, r.Consume(context.Background(), kind.New(0)))
	time.Sleep(time.Minute)
	r.stop()
	require.Empty(t, r.sink.Batches())
	require.Zero(t, r.Stats().Accepted)
}
