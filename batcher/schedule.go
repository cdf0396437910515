package batcher

import (
	"runtime/pprof"
	"time"
)

// tickChunk is how many due partitions are sealed in one go before b.mu is given to
// others.
const tickChunk = 64

// schedule is the scheduling goroutine: it carries out ticks, and sends again what
// waited for that, until the end of Shutdown.
func (b *Batcher[T]) schedule() {
	defer close(b.scheduled)
	pprof.SetGoroutineLabels(b.labelled("schedule"))
	for {
		select {
		case <-b.stop:
			return
		case <-b.ticker.timer.C:
			for more := true; more; {
				more = b.tick()
			}
		case <-b.retries.timer.C:
			b.resend()
		}
	}
}

// tick seals what is pending in partitions whose tick has come, and tells whether
// there may be more of them. A partition without anything pending stops ticking.
func (b *Batcher[T]) tick() (more bool) {
	b.mu.Lock()
	b.ticker.fired()
	now := time.Now()
	ticks, latest := 0, time.Duration(0)
	for ; ticks < tickChunk; ticks++ {
		p, late := b.ticker.due(now)
		if p == nil {
			break
		}
		latest = max(latest, late)
		if p.open == nil {
			b.ticker.stop(&p.grid, now)
			b.rest(p)
			continue
		}
		b.seal(p, TriggerTimeout, now)
		b.ticker.advance(&p.grid, now)
	}
	b.ticker.set(now)
	todo := b.dispatch()
	b.mu.Unlock()
	b.carryOut(todo)
	if ticks > 0 {
		b.set.Observer.Ticked(latest)
	}
	return ticks == tickChunk
}
