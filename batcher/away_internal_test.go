package batcher

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
)

// Whatever comes and goes in whatever order, the oldest is first, and nothing is lost.
func TestAwayIsInOrderOfAge(t *testing.T) {
	var a away[plog.Logs]
	var in []*batch[plog.Logs]
	random := rand.New(rand.NewPCG(1, 2))
	began := time.Now()
	for range 10_000 {
		if len(in) == 0 || len(in) < 20 && random.IntN(2) == 0 {
			bt := &batch[plog.Logs]{first: began.Add(time.Duration(random.IntN(15)))}
			a.add(bt)
			a.add(bt) // once is enough
			in = append(in, bt)
		} else {
			at := random.IntN(len(in))
			a.remove(in[at])
			a.remove(in[at])
			in = slices.Delete(in, at, at+1)
		}
		var found []*batch[plog.Logs]
		for bt := a.oldest; bt != nil && (len(found) == 0 || bt != a.oldest); bt = bt.younger {
			found = append(found, bt)
			if bt.younger.older != bt {
				t.Fatal("the neighbour of a batch has another neighbour")
			}
		}
		require.Len(t, found, len(in))
		for _, bt := range in { // by identity: what hangs together is equal, too
			require.True(t, slices.Contains(found, bt))
		}
		require.True(t, slices.IsSortedFunc(found, func(a, b *batch[plog.Logs]) int { return a.first.Compare(b.first) }))
	}
}

func TestTriggersKeepTheLastTen(t *testing.T) {
	var left triggers
	require.Empty(t, left.list())
	var want []Trigger
	for i := range 100 {
		why := Trigger(i * i % int(triggerCount))
		left.add(why)
		want = append([]Trigger{why}, want...)
		require.Equal(t, want[:min(len(want), mostLeft)], left.list())
	}
	require.Less(t, int(triggerCount), 1<<triggerBits, "one more than the last trigger fits in")
}

func TestLongNamesAreNotKept(t *testing.T) {
	require.Equal(t, keptName{key: strings.Repeat("n", mostName)}, keepName(strings.Repeat("n", mostName)))
	require.Equal(t, keptName{omitted: true}, keepName(strings.Repeat("n", mostName+1)))
}
