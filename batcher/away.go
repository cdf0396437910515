package batcher

import (
	"slices"
	"time"
)

// away are the batches of one partition that have been launched and have no outcome yet: in flight, waiting for
// a retry, back in the line after that, or being searched for what they were refused for. Those that were open first
// come first. It is plain data, guarded by Batcher.mu.
type away[T any] struct {
	oldest *batch[T] // of a ring: oldest.older is the youngest
}

// add puts bt where it belongs, if it is not there already. Batches leave in the order in which they were opened, so
// that one that leaves for the first time is nearly always the youngest.
func (a *away[T]) add(bt *batch[T]) {
	switch {
	case bt.younger != nil:
		return
	case a.oldest == nil:
		bt.older, bt.younger, a.oldest = bt, bt, bt
		return
	}
	at := a.oldest.older
	for at.first.After(bt.first) {
		if at == a.oldest {
			a.oldest, at = bt, at.older
			break
		}
		at = at.older
	}
	bt.older, bt.younger = at, at.younger
	at.younger.older, at.younger = bt, bt
}

// remove takes bt away, if it is there.
func (a *away[T]) remove(bt *batch[T]) {
	if bt.younger == nil {
		return
	}
	if a.oldest == bt {
		a.oldest = bt.younger
	}
	if a.oldest == bt {
		a.oldest = nil
	}
	bt.older.younger, bt.younger.older = bt.younger, bt.older
	bt.older, bt.younger = nil, nil
}

// stages are the items of a partition that are in Stats.Sealed, Stats.InFlight and Stats.Retrying. They are kept where
// there are several partitions.
type stages struct{ sealed, inFlight, retrying int }

// countSealed counts items that are sealed in p, or not any more if there are less than 0. Requires b.mu held.
func (b *Batcher[T]) countSealed(p *partition[T], items int) {
	b.stats.Sealed += int64(items)
	p.items.sealed += items
}

// countInFlight is the same for items in flight. Requires b.mu held.
func (b *Batcher[T]) countInFlight(p *partition[T], items int) {
	b.stats.InFlight += int64(items)
	p.items.inFlight += items
}

// countRetrying is the same for items that wait for a retry. Requires b.mu held.
func (b *Batcher[T]) countRetrying(p *partition[T], items int) {
	b.stats.Retrying += int64(items)
	p.items.retrying += items
}

// takeOff notes that bt is in flight from now on. Requires b.mu held.
func (b *Batcher[T]) takeOff(bt *batch[T]) {
	bt.called.Store(0)
	b.flying = append(b.flying, bt)
	bt.slot = len(b.flying)
	if p := bt.partition; bt.piece == nil && bt.younger == nil { // for the first time
		p.away.add(bt)
		p.left.add(bt.trigger)
		b.recent.add(p.key, bt.trigger, bt.items, bt.first, bt.sealed)
	}
}

// land notes that bt is not in flight any more. Requires b.mu held.
func (b *Batcher[T]) land(bt *batch[T]) {
	last := len(b.flying) - 1
	b.flying[bt.slot-1] = b.flying[last]
	b.flying[bt.slot-1].slot = bt.slot
	b.flying[last] = nil
	b.flying = b.flying[:last]
	bt.slot = 0
}

// forgetFlying lets go of exports that outlive Shutdown, and returns the callers that are to be told so. Requires b.mu
// held and stateOver.
func (b *Batcher[T]) forgetFlying() (callers []bell) {
	for _, bt := range b.flying {
		if bt.piece != nil {
			callers = append(callers, bt.piece.forget()...)
			continue
		}
		bt.err = errOutcomeUnknown
		for i := range bt.shares {
			if told := bt.shares[i].told; told != nil {
				callers = append(callers, told)
			}
		}
	}
	b.flying = nil
	if b.only != nil {
		b.only.away = away[T]{}
		b.only.inFlight = 0
	}
	return callers
}

// triggers are why the last batches left. The last one has the lowest bits; each is a Trigger plus one.
type triggers uint32

const (
	triggerBits = 3
	mostLeft    = 10 // triggers that fit in
)

func (t *triggers) add(why Trigger) {
	*t = (*t<<triggerBits | triggers(why+1)) & (1<<(mostLeft*triggerBits) - 1)
}

// list returns them, the last one first.
func (t triggers) list() (all []Trigger) {
	for ; t > 0; t >>= triggerBits {
		all = append(all, Trigger(t&(1<<triggerBits-1))-1)
	}
	return all
}

// departures are the batches that left last. It is plain data, guarded by Batcher.mu.
type departures struct {
	ring [mostDepartures]departure
	n    int // batches that ever left
}

const mostDepartures = 16

// departure is what is kept of a batch that has left.
type departure struct {
	name          keptName
	trigger       Trigger
	items         int
	first, sealed time.Time
}

func (d *departures) add(key string, why Trigger, items int, first, sealed time.Time) {
	d.ring[d.n%mostDepartures] = departure{keepName(key), why, items, first, sealed}
	d.n++
}

// list returns them, the last one first.
func (d *departures) list() []departure {
	all := make([]departure, 0, mostDepartures)
	for i := d.n - 1; i >= max(0, d.n-mostDepartures); i-- {
		all = append(all, d.ring[i%mostDepartures])
	}
	return slices.Clip(all)
}

// keptName is the key of a partition that may be gone.
type keptName struct {
	key     string
	omitted bool // it was too long
}

// mostName is how many bytes the key of a partition may have to be kept when the partition is gone. What is kept is charged
// to nobody.
const mostName = 512

func keepName(key string) keptName {
	if len(key) > mostName {
		return keptName{omitted: true}
	}
	return keptName{key: key}
}
