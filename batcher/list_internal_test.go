package batcher

import (
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
