package batcher

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLinkIsInOneListAtMost(t *testing.T) {
	var one, other list[account]
	a := newAccount()
	one.pushBack(&a.first)
	for _, l := range []*list[account]{&one, &other} {
		require.PanicsWithValue(t, "batcher: link is already in a list", func() { l.pushBack(&a.first) })
	}
	require.Equal(t, 1, one.n)
	require.Zero(t, other.n)
	one.remove(&a.first)
	other.pushBack(&a.first)
	require.Equal(t, 1, other.n)
}

// Lists are compared with slices.
func TestLinksAreInOrder(t *testing.T) {
	var l list[account]
	all := make([]*account, 5)
	for i := range all {
		all[i] = newAccount()
	}
	random := rand.New(rand.NewPCG(1, 2))
	var want []*account
	for range 10_000 {
		a := all[random.IntN(len(all))]
		want = slices.DeleteFunc(want, func(b *account) bool { return b == a })
		switch random.IntN(3) {
		case 0:
			l.remove(&a.first)
		case 1:
			l.moveToBack(&a.first)
			want = append(want, a)
		case 2:
			l.moveToFront(&a.first)
			want = slices.Insert(want, 0, a)
		}
		var forth, back []*account
		for e := l.front; e != nil; e = e.next {
			forth = append(forth, e.owner)
		}
		for e := l.back; e != nil; e = e.prev {
			back = append(back, e.owner)
		}
		slices.Reverse(back)
		require.Len(t, forth, l.n)
		require.True(t, slices.Equal(want, forth))
		require.True(t, slices.Equal(want, back))
	}
}
