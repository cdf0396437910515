package batcher

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

func woken(w *waiter) (items []int) {
	for ; w != nil; w = w.next {
		items = append(items, w.items)
	}
	return items
}

func TestBudgetGrantsInOrder(t *testing.T) {
	b := budget{capacity: 10}
	require.True(t, b.take(10))
	for _, n := range []int{8, 1, 2} {
		b.wait(n)
	}
	require.Empty(t, woken(b.release(7)), "7 are free and 8 is first: nobody overtakes")
	require.False(t, b.take(1), "not even who comes new")
	require.Equal(t, []int{8, 1}, woken(b.release(2)))
	require.Empty(t, woken(b.release(1)))
	require.Equal(t, []int{2}, woken(b.release(1)))
	require.Equal(t, 10, b.used)
}

func TestBudgetWakesEveryWaiterThatFits(t *testing.T) {
	b := budget{capacity: 1000}
	require.True(t, b.take(1000))
	for range 1000 {
		b.wait(1)
	}
	require.Len(t, woken(b.release(999)), 999)
	require.Equal(t, 1000, b.used)
	require.Equal(t, 1, b.waiting.n)
}

func TestBudgetWaiterThatLeavesLetsOthersIn(t *testing.T) {
	b := budget{capacity: 10}
	require.True(t, b.take(5))
	large, small := b.wait(9), b.wait(4)
	require.Equal(t, []int{4}, woken(b.leave(large)))
	require.True(t, small.granted)
	require.Equal(t, 9, b.used)
	require.Empty(t, woken(b.leave(small)), "a grant that is not used is given back")
	require.Equal(t, 5, b.used)
}

func TestBudgetCloseGrantsNobody(t *testing.T) {
	b := budget{capacity: 3}
	require.True(t, b.take(3))
	for _, n := range []int{1, 2, 3} {
		b.wait(n)
	}
	require.Equal(t, []int{1, 2, 3}, woken(b.close()))
	require.Equal(t, 3, b.used)
	require.Zero(t, b.waiting.n)
}

// The budget is checked against a slice of waiters and a sum.
func TestBudgetIsExact(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	for range 200 {
		b := budget{capacity: 1 + random.IntN(50)}
		var held []int        // what was taken or granted
		var waiting []*waiter // in order
		used := func() (n int) {
			for _, h := range held {
				n += h
			}
			return n
		}
		grant := func(got *waiter) {
			var want []int
			for len(waiting) > 0 && used()+waiting[0].items <= b.capacity {
				want = append(want, waiting[0].items)
				held = append(held, waiting[0].items)
				waiting = waiting[1:]
			}
			require.Equal(t, want, woken(got))
		}
		for range 500 {
			switch n := 1 + random.IntN(b.capacity); random.IntN(4) {
			case 0, 1:
				fits := len(waiting) == 0 && used()+n <= b.capacity
				require.Equal(t, fits, b.take(n))
				if fits {
					held = append(held, n)
				} else {
					waiting = append(waiting, b.wait(n))
				}
			case 2:
				if len(held) > 0 {
					i := random.IntN(len(held))
					n := held[i]
					held = append(held[:i], held[i+1:]...)
					grant(b.release(n))
				}
			case 3:
				if len(waiting) > 0 {
					i := random.IntN(len(waiting))
					w := waiting[i]
					waiting = append(append([]*waiter(nil), waiting[:i]...), waiting[i+1:]...)
					grant(b.leave(w))
				}
			}
			require.Equal(t, used(), b.used)
			require.LessOrEqual(t, b.used, b.capacity)
			require.Equal(t, len(waiting), b.waiting.n)
		}
	}
}

func TestBudgetReleaseOfMoreThanIsHeldPanics(t *testing.T) {
	b := budget{capacity: 3, used: 1}
	require.PanicsWithValue(t, "batcher: more items released than held", func() { b.release(2) })
}
