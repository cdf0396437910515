package batcher_test

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
	"github.com/boundedbatch/boundedbatchprocessor/batcher/batchertest"
)

// whileCut is a signal that tells when a request is going to be cut.
type whileCut[T any] struct {
	batcher.Signal[T]
	hook func()
}

func (s *whileCut[T]) Cut(data T, z *batcher.Sizes) batcher.Cutter[T] {
	s.hook()
	return s.Signal.Cut(data, z)
}

func TestFullBatchesLeaveWhileARequestIsCut(t *testing.T) {
	each(t, testLeavesWhileCut[ptrace.Traces], testLeavesWhileCut[plog.Logs], testLeavesWhileCut[pmetric.Metrics])
}

// Nine items are as good as full, so that the request behind them does not fill them up. It
// takes time to cut it, and they have what they need.
func testLeavesWhileCut[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := defaults()
	set.SendBatchSize, set.SendBatchMaxSize = 10, 10
	cut := &whileCut[T]{Signal: kind.Signal}
	kind.Signal = cut
	r := newRig(t, kind, set, nil)
	cuts := 0
	var err error
	var sizes []int
	cut.hook = func() {
		cuts++
		synctest.Wait()
		err, sizes = r.Check(), r.sink.Sizes()
	}
	r.send(9)
	r.send(25)
	require.Equal(t, 1, cuts)
	require.NoError(t, err)
	require.Equal(t, []int{9}, sizes)
	r.stop()
}
