package harness

import (
	"sync"
	"time"
)

// Pace is how a backend answers that takes so many items a second and not more: batches one
// after the other, each when its items are done.
//
//	pace := harness.NewPace(2000)
//	backend.Judge(pace.Take)
type Pace struct {
	perItem time.Duration
	over    func()
	ended   chan struct{} // closed by over

	mu   sync.Mutex // guards next
	next time.Time  // when all items taken so far are done
}

// NewPace returns the pace of so many items a second.
func NewPace(items int) *Pace {
	ended := make(chan struct{})
	return &Pace{perItem: time.Second / time.Duration(items), over: sync.OnceFunc(func() { close(ended) }), ended: ended}
}

// Take is for Backend.Judge.
func (p *Pace) Take(ids []uint64) error {
	p.mu.Lock()
	now := time.Now()
	if p.next.Before(now) {
		p.next = now
	}
	p.next = p.next.Add(time.Duration(len(ids)) * p.perItem)
	done := time.NewTimer(p.next.Sub(now))
	p.mu.Unlock()
	defer done.Stop()
	select {
	case <-done.C:
	case <-p.ended:
	}
	return nil
}

// End has everything answered at once.
func (p *Pace) End() { p.over() }
