package batcher

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMissedTicksAreSkippedNotReplayed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tk := newTicker[string](10 * time.Millisecond)
		name := "p"
		g := grid[string]{owner: &name}
		t0 := time.Now()
		tk.start(&g, t0)
		for late, want := range map[time.Duration]time.Duration{
			0:                       20 * time.Millisecond,
			time.Nanosecond:         20 * time.Millisecond,
			9999 * time.Microsecond: 20 * time.Millisecond,
			10 * time.Millisecond:   30 * time.Millisecond, // the tick at this very instant is missed as well
			57 * time.Millisecond:   70 * time.Millisecond,
		} {
			g.next = t0.Add(10 * time.Millisecond)
			now := g.next.Add(late)
			p, l := tk.due(now)
			require.Same(t, &name, p)
			require.Equal(t, late, l)
			tk.advance(&g, now)
			require.Equal(t, want, g.next.Sub(t0), "late by %v", late)
		}
		tk.stop(&g, t0)
		require.True(t, tk.firing.IsZero())
	})
}

// The ticker is checked against a plain map of grids.
func TestEarliestTickComesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const interval = 100 * time.Millisecond
		tk := newTicker[int](interval)
		random := rand.New(rand.NewPCG(5, 6))
		owners, grids := make([]int, 50), make([]grid[int], 50)
		model := map[int]time.Time{}
		for i := range owners {
			owners[i] = i
			grids[i].owner = &owners[i]
		}
		for range 20_000 {
			now := time.Now()
			for {
				p, late := tk.due(now)
				var earliest time.Time
				for _, next := range model {
					if earliest.IsZero() || next.Before(earliest) {
						earliest = next
					}
				}
				if p == nil {
					require.True(t, earliest.IsZero() || earliest.After(now))
					require.Equal(t, earliest, tk.firing)
					break
				}
				require.Equal(t, now.Sub(earliest), late)
				require.Equal(t, earliest, model[*p])
				if random.IntN(4) == 0 {
					tk.stop(&grids[*p], now)
					delete(model, *p)
					continue
				}
				tk.advance(&grids[*p], now)
				for !model[*p].After(now) {
					model[*p] = model[*p].Add(interval)
				}
			}
			i := random.IntN(len(owners))
			require.Equal(t, !model[i].IsZero(), grids[i].armed())
			switch {
			case !grids[i].armed():
				tk.start(&grids[i], now)
				model[i] = now.Add(interval)
			case random.IntN(3) == 0:
				tk.stop(&grids[i], now)
				delete(model, i)
			}
			time.Sleep(time.Duration(random.Int64N(int64(20 * time.Millisecond))))
		}
	})
}
