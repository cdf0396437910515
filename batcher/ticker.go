package batcher

import "time"

// grid is one partition's ticks: t0 + k x interval in monotonic time. Neither a
// slow export nor a late wake-up moves them.
type grid[P any] struct {
	owner *P
	next  time.Time
	at    int // index in ticker.grids, plus one; 0 while no tick is armed
	// lapsed is set where a tick is armed although the grid has ended: it only forgets the
	// owner, and what is next begins a new grid.
	lapsed bool
}

func (g *grid[P]) armed() bool { return g.at > 0 }

func (g *grid[P]) before(other *grid[P]) bool { return g.next.Before(other.next) }
func (g *grid[P]) index() *int                { return &g.at }

// ticker keeps the armed grids of all partitions, the earliest tick first, and one
// timer for that tick. With no grid armed the timer is stopped. It is guarded by
// Batcher.mu.
type ticker[P any] struct {
	interval time.Duration
	grids    least[*grid[P]] // that are armed, by their next tick

	// timer fires into the scheduling goroutine. It is stopped exactly while
	// firing is zero.
	timer  *time.Timer
	firing time.Time
}

func newTicker[P any](interval time.Duration) *ticker[P] {
	t := &ticker[P]{interval: interval, timer: time.NewTimer(interval)}
	t.timer.Stop()
	return t
}

// ticks tells whether a grid is armed and has not ended.
func (g *grid[P]) ticks() bool { return g.armed() && !g.lapsed }

// start arms a grid with t0 = now. Requires that it does not tick.
func (t *ticker[P]) start(g *grid[P], now time.Time) { t.startAt(g, now.Add(t.interval), now) }

// startAt arms a grid whose first tick is at the given time. Requires that it does not tick.
func (t *ticker[P]) startAt(g *grid[P], at, now time.Time) {
	g.next, g.lapsed = at, false
	t.grids.put(g)
	t.set(now)
}

// stop disarms a grid, if it is armed.
func (t *ticker[P]) stop(g *grid[P], now time.Time) {
	if !g.armed() {
		return
	}
	g.lapsed = false
	t.grids.remove(g)
	t.set(now)
}

// lapse ends a grid, but leaves its next tick armed, if it is.
func (t *ticker[P]) lapse(g *grid[P]) { g.lapsed = g.armed() }

// due returns the partition whose tick is the earliest if that tick is not after
// now, and how late it is. The caller must advance or stop its grid.
func (t *ticker[P]) due(now time.Time) (p *P, late time.Duration) {
	if t.grids.len() == 0 || t.grids.min().next.After(now) {
		return nil, 0
	}
	g := t.grids.min()
	return g.owner, now.Sub(g.next)
}

// advance moves a grid to its first tick after now. Ticks that were missed are
// skipped, not replayed.
func (t *ticker[P]) advance(g *grid[P], now time.Time) {
	late := now.Sub(g.next)
	g.next = now.Add(t.interval - late%t.interval)
	t.grids.put(g)
	t.set(now)
}

// fired notes that the timer has run out. The next change of a grid sets it again.
func (t *ticker[P]) fired() { t.firing = time.Time{} }

// set makes the timer fire at the earliest tick.
func (t *ticker[P]) set(now time.Time) {
	var earliest time.Time
	if t.grids.len() > 0 {
		earliest = t.grids.min().next
	}
	switch {
	case earliest.Equal(t.firing):
	case earliest.IsZero():
		t.timer.Stop()
	default:
		t.timer.Reset(earliest.Sub(now))
	}
	t.firing = earliest
}
