package batchertest

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/collector/client"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
)

// CheckBatch compares a batch with the settings: its size, and that everything in it is of the
// partition that its context says. A single profile may exceed the limits, and is oversized then.
// tenant tells who sent an item.
func CheckBatch(signal string, set *batcher.Settings, b Batch, tenant func(id int) string) (oversized bool, err error) {
	tooMany := set.SendBatchMaxSize > 0 && len(b.IDs) > set.SendBatchMaxSize
	if tooMany || set.SendBatchMaxBytes > 0 && b.Bytes > set.SendBatchMaxBytes {
		if signal != "profiles" || !SameProfile(b.IDs...) {
			return false, fmt.Errorf("batch %v of %d bytes exceeds its limits", b.IDs, b.Bytes)
		}
		oversized = true
	}
	md := client.FromContext(b.Ctx).Metadata
	for _, id := range b.IDs {
		if len(set.ResourceKeys) > 0 {
			if Team(id) != Team(b.IDs[0]) || !slices.Equal(md.Get("team"), TeamText(id)) {
				return oversized, fmt.Errorf("item %d of the team %q is in batch %v of the team %q", id, TeamText(id), b.IDs, md.Get("team"))
			}
		}
		if len(set.MetadataKeys) > 0 && !slices.Equal(md.Get("tenant"), []string{tenant(id)}) {
			return oversized, fmt.Errorf("item %d of the tenant %q is in batch %v of the tenant %q", id, tenant(id), b.IDs, md.Get("tenant"))
		}
	}
	return oversized, nil
}

// Model says what a batcher may do, in the most simple way and seen from outside alone: a table of
// all items ever sent, and the export calls under way. Its methods return an error for what must not
// happen. It is safe for concurrent use.
type Model struct {
	signal string
	set    batcher.Settings

	mu      sync.Mutex // guards everything below
	items   map[int]*item
	calls   map[int]bool // under way, by their numbers
	lines   map[any]*line
	arrived int64 // items that downstream has accepted
}

// Request is one that was sent.
type Request struct {
	First, Items int
	Tenant       string
	// Order is the same for requests that were sent at the same time, and greater for later ones;
	// -1 where it is not known when the items were accepted.
	Order int
	// Since is when all of its items were accepted, or later; zero: it is not known, or some may not be.
	Since time.Time

	blurred bool // downstream refused one of its items, or of others in a batch with it, and not all
}

// item is one item. Its partition is that of its request and its team.
type item struct {
	request   *Request
	refused   bool
	exports   int
	left      time.Time // when the first of them began
	open      time.Time // and since when it might have
	inside    bool      // an export call
	delivered bool
}

// line is what has left of a partition.
type line struct {
	calls  int
	latest []int // the items of the latest batch that was sent for the first time
	last   [2]int
	// again: a batch that nothing may overtake has failed, and may wait to be sent again.
	again bool
	// open is when an export has ended that had left no slot for this partition. Unless the
	// partition is blocked now, it has not been since.
	open time.Time
}

// NewModel returns a model of a batcher with these settings.
func NewModel(signal string, set batcher.Settings) *Model {
	return &Model{signal: signal, set: set, items: map[int]*item{}, calls: map[int]bool{}, lines: map[any]*line{}}
}

// Sent says that a request is about to be consumed.
func (m *Model) Sent(r *Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id := r.First; id < r.First+r.Items; id++ {
		m.items[id] = &item{request: r}
		m.lineOf(id) // so that it is known when there is no slot for it
	}
}

// Refused says that Consume has refused these items.
func (m *Model) Refused(ids []int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range ids {
		if it := m.items[id]; it == nil || it.exports > 0 {
			return fmt.Errorf("item %d was refused and exported", id)
		}
		m.items[id].refused = true
	}
	return nil
}

// Delivered tells whether downstream has accepted all items of a request, and never only a part of a batch
// with some of them: callers of such a batch share its error.
func (m *Model) Delivered(r *Request) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.undelivered(r) == 0 && !r.blurred
}

// Undelivered counts the items of a request that downstream has not accepted.
func (m *Model) Undelivered(r *Request) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.undelivered(r)
}

func (m *Model) undelivered(r *Request) (n int) {
	for id := r.First; id < r.First+r.Items; id++ {
		if !m.items[id].delivered {
			n++
		}
	}
	return n
}

func (m *Model) lineOf(id int) *line {
	var key [2]any
	if len(m.set.MetadataKeys) > 0 {
		key[0] = m.items[id].request.Tenant
	}
	if len(m.set.ResourceKeys) > 0 {
		key[1] = Team(id)
	}
	if m.lines[key] == nil {
		m.lines[key] = &line{last: [2]int{-1, -1}}
	}
	return m.lines[key]
}

// Began says that an export call has begun.
func (m *Model) Began(b Batch) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range b.IDs {
		switch it := m.items[id]; {
		case it == nil:
			return fmt.Errorf("item %d was never sent", id)
		case it.refused:
			return fmt.Errorf("item %d was refused and is exported", id)
		case it.inside:
			return fmt.Errorf("item %d is in two exports at once", id)
		case it.delivered:
			return fmt.Errorf("item %d was delivered and is exported again", id)
		default:
			it.inside = true
			it.exports++
		}
	}
	if _, err := CheckBatch(m.signal, &m.set, b, func(id int) string { return m.items[id].request.Tenant }); err != nil {
		return err
	}
	l := m.lineOf(b.IDs[0])
	open := l.open
	if m.blocked(l) { // until now: a batch is not sent again after all, or no slots are kept for others any more
		open = b.At
	}
	for _, id := range b.IDs {
		if it := m.items[id]; it.exports == 1 {
			it.left, it.open = b.At, open
		}
	}
	l.again = false
	l.calls++
	m.calls[b.Number] = true
	if len(m.calls) > m.set.MaxConcurrentExports {
		return fmt.Errorf("%d exports at once", len(m.calls))
	}
	if l.calls > m.perPartition() {
		return fmt.Errorf("%d exports of a partition at once", l.calls)
	}
	if m.perPartition() == 1 {
		return m.inOrder(l, b)
	}
	return nil
}

func (m *Model) perPartition() int {
	return cmp.Or(m.set.MaxConcurrentExportsPerPartition, m.set.MaxConcurrentExports)
}

// blocked tells whether nothing of a partition may leave before an export has ended: there is no slot, or none for it.
func (m *Model) blocked(l *line) bool {
	free := m.set.MaxConcurrentExports - len(m.calls)
	shares := m.divides() && m.set.MaxConcurrentExportsPerPartition == 0
	return free <= 0 || l.calls >= m.perPartition() || l.again || shares && l.calls >= free
}

// inOrder checks that a batch is (a part of) the one before, sent again, or comes behind everything
// that has left before.
func (m *Model) inOrder(l *line, b Batch) error {
	again := 0
	for _, id := range b.IDs {
		if slices.Contains(l.latest, id) {
			again++
		}
	}
	switch again {
	case len(b.IDs):
		return nil
	case 0:
	default:
		return fmt.Errorf("batch %v has some items of %v", b.IDs, l.latest)
	}
	before := l.last
	for _, id := range b.IDs {
		at := [2]int{m.items[id].request.Order, id}
		switch {
		case at[0] < 0:
			continue
		case at[0] < before[0], m.items[id].request == m.requestOf(before[1]) && id < before[1]:
			return fmt.Errorf("item %d comes behind item %d", id, before[1])
		case at[0] > l.last[0], at[0] == l.last[0] && id > l.last[1]:
			l.last = at
		}
		if !m.set.MergeResources { // which changes the order within a batch
			before = at
		}
	}
	l.latest = b.IDs
	return nil
}

func (m *Model) requestOf(id int) *Request {
	if it := m.items[id]; it != nil {
		return it.request
	}
	return nil
}

// Ended says that an export call returns now, and which of its items downstream has accepted.
func (m *Model) Ended(b Batch, accepted []int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.lines {
		if m.blocked(l) {
			l.open = time.Now()
		}
	}
	for _, id := range b.IDs {
		m.items[id].inside = false
		if 0 < len(accepted) && len(accepted) < len(b.IDs) {
			m.items[id].request.blurred = true
		}
	}
	for _, id := range accepted {
		m.items[id].delivered = true
		m.arrived++
	}
	delete(m.calls, b.Number)
	l := m.lineOf(b.IDs[0])
	l.calls--
	l.again = m.set.Retry.Enabled && m.perPartition() == 1 && len(accepted) < len(b.IDs)
}

// Check compares the model with what a batcher says of itself while nothing moves. Requires that its
// shutdown has not run out of time.
func (m *Model) Check(s *batcher.Stats, now time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	inside := int64(0)
	for _, it := range m.items {
		if it.inside {
			inside++
		}
	}
	limit := int64(max(1, m.set.SendBatchSize))
	switch {
	case s.ExportsInFlight != int64(len(m.calls)) || s.InFlight != inside:
		return fmt.Errorf("%d items in %d exports under way, the model has %d in %d", s.InFlight, s.ExportsInFlight, inside, len(m.calls))
	case s.Delivered != m.arrived:
		return fmt.Errorf("%d items delivered, %d have arrived", s.Delivered, m.arrived)
	case s.Capacity != int64(m.set.QueueSize) || s.CapacityBytes != int64(m.set.MemoryLimit):
		return fmt.Errorf("there is room for %d items and %d bytes, %d and %d are set", s.Capacity, s.CapacityBytes, m.set.QueueSize, m.set.MemoryLimit)
	case s.Held > s.Capacity || s.HeldBytes > s.CapacityBytes:
		return fmt.Errorf("%d items of %d held, %d bytes of %d", s.Held, s.Capacity, s.HeldBytes, s.CapacityBytes)
	case s.WaitingCallers > 0 && s.Held == 0:
		return errors.New("callers wait and nothing is held")
	case !m.divides() && s.Pending >= limit:
		return fmt.Errorf("%d items pending, %d seal a batch", s.Pending, limit)
	}
	return m.overdue(s, now)
}

func (m *Model) divides() bool { return len(m.set.MetadataKeys)+len(m.set.ResourceKeys) > 0 }

// overdue finds an item that has left later than it should have, or has not left yet: timeout after it was accepted,
// or when the export had ended that was in its way then.
func (m *Model) overdue(s *batcher.Stats, now time.Time) error {
	for _, l := range m.lines {
		l.again = l.again && s.Retrying > 0
	}
	for id, it := range m.items {
		if it.request.Since.IsZero() || it.refused {
			continue
		}
		due := it.request.Since.Add(m.set.Timeout)
		switch {
		case it.exports == 0 && now.After(due) && !m.blocked(m.lineOf(id)):
			return fmt.Errorf("item %d was accepted %v ago and has not left; the timeout is %v", id, now.Sub(it.request.Since), m.set.Timeout)
		case it.exports > 0 && it.left.After(due) && it.left.After(it.open):
			return fmt.Errorf("item %d left %v after it was accepted; the timeout is %v", id, it.left.Sub(it.request.Since), m.set.Timeout)
		}
	}
	return nil
}
