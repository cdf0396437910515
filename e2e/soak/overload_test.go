package soak

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/boundedbatch/boundedbatchprocessor/e2e/internal/harness"
)

// overload is what a test of too much load does, and for how long.
type overload struct {
	offered int // items a second
	queue   int // items: queue_size, where that is the bound
	memory  int // bytes: memory_limit, where that is the bound

	quiet, over time.Duration // before and after; overloaded
	every       time.Duration // between two samples
	// least part of the rates that have to be reached.
	least float64
}

// overloadedBy is how many times as much comes as the backend takes.
const overloadedBy = 5

func overloads() overload {
	if *soakFlag {
		return overload{
			offered: 5000, queue: 20_000, memory: 8 << 20,
			quiet: 30 * time.Second, over: *overloadFlag, every: time.Second, least: 0.95,
		}
	}
	return overload{
		offered: 4000, queue: 4000, memory: 4 << 20,
		quiet: 3 * time.Second, over: 6 * time.Second, every: 250 * time.Millisecond, least: 0.8,
	}
}

const (
	// Neither fills the other's queue.
	producers = 20
	perBatch  = 200 // items
	exports   = 10

	// messageBuffer is how many bytes gRPC takes for a message of more than 32 KiB.
	messageBuffer = 1 << 20

	// recoveredWithin is how soon after the backend all is as before.
	recoveredWithin = 2 * time.Second
	// requestTimeout ends a request that has got stuck. No request waits for it to end.
	requestTimeout = 2 * time.Minute
)

// Five times as much comes as the backend takes. What is held stays within its bounds, and
// so does the live heap; the backend is kept busy all the time; whoever does not get in is told
// to come again, or waits. When the backend takes everything again, the backlog is gone within
// two seconds, and as much as before passes.
func TestOverloadStaysWithinItsBoundsAndEnds(t *testing.T) {
	if !*soakFlag {
		t.Parallel()
	}
	o := overloads()
	file := newResults(t, "overload")
	var writing sync.Mutex // of lines of the two tests into the file
	t.Run("modes", func(t *testing.T) {
		for _, tt := range []struct {
			name      string
			blocks    bool
			signal    harness.Signal
			processor string
		}{
			{
				name: "refuse", signal: harness.Logs,
				processor: fmt.Sprintf("block_on_overflow: false, queue_size: %d, memory_limit: 16MiB", o.queue),
			},
			{
				name: "block", blocks: true, signal: harness.Traces,
				processor: fmt.Sprintf("block_on_overflow: true, queue_size: 1000000, memory_limit: %d", o.memory),
			},
		} {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				run := &overloadRun{
					overload: o, signal: tt.signal, blocks: tt.blocks, journal: new(harness.Journal),
					record: func(name string, of ...quantity) {
						writing.Lock()
						defer writing.Unlock()
						file.record(fmt.Sprintf("%s/block_on_overflow=%v", name, tt.blocks), of...)
					},
				}
				run.test(t, tt.processor)
			})
		}
	})
	if !t.Failed() {
		soaked.Add(1)
	}
}

// overloadRun is one test of too much load.
type overloadRun struct {
	overload
	signal harness.Signal
	blocks bool
	record func(name string, of ...quantity)

	backend *harness.Backend
	col     *harness.Collector
	journal *harness.Journal
	began   time.Time
	refused atomic.Int64 // items

	heapBase, heapOthers int // bytes, see sample
}

// moment is a reading of the collector's counters.
type moment struct {
	at                                   time.Time
	accepted, delivered, refused         int64 // items
	held, capacity, heldBytes, mostBytes int64
	callers                              int64
}

func (r *overloadRun) test(t *testing.T, processor string) {
	const items = 50 // of a request
	r.backend = harness.NewBackend(t)
	r.col = harness.Start(t, harness.Config{
		Backend: r.backend, Profile: true,
		Processor: fmt.Sprintf("{send_batch_size: %d, send_batch_max_size: %d, max_concurrent_exports: %d, %s}",
			perBatch, perBatch, exports, processor),
	})
	clients := make([]harness.Client, producers)
	for i := range clients {
		if clients[i] = r.col.GRPC(t, nil); i%2 == 1 {
			clients[i] = r.col.HTTP(t, nil)
		}
		ids := r.journal.Take(1) // all clients are connected
		require.NoError(t, clients[i].Send(t.Context(), r.signal, ids))
		r.journal.Note(ids, harness.Acknowledged)
	}
	r.col.AwaitItems(t, 0, r.signal, "held_items")
	var err error
	r.heapBase, err = r.col.LiveHeap(t.Context())
	require.NoError(t, err)
	// What is not the processor's: what receivers have decoded for senders that wait, and what
	// exporters have encoded and keep until there is an answer.
	ids := harness.Range{First: 1 << 39, Items: items}
	require.LessOrEqual(t, r.signal.EncodedSize(harness.Range{First: 1 << 39, Items: perBatch}), messageBuffer)
	r.heapOthers = producers*r.signal.DecodedHeap(ids) + exports*messageBuffer

	over := make(chan struct{})
	var producing sync.WaitGroup
	defer producing.Wait()
	stop := sync.OnceFunc(func() { close(over) })
	defer stop()
	for _, client := range clients {
		producing.Go(func() { r.produce(t, client, items, over) })
	}

	r.began = time.Now()
	usual := r.watch(t, "before", r.quiet)
	before := rate(usual, delivered)

	takes := r.offered / overloadedBy
	pace := harness.NewPace(takes)
	r.backend.Judge(pace.Take)
	defer pace.End()
	loaded := r.watch(t, "overloaded", r.over)

	// The backend takes everything.
	opened := time.Now()
	r.backend.Accept()
	pace.End()
	backlog, recovery := r.recover(t, opened, usual)
	after := rate(r.watch(t, "after", r.quiet), delivered)

	// From when on it was full.
	full := loaded
	for len(full) > 0 && !r.isFull(full[0]) {
		full = full[1:]
	}
	require.GreaterOrEqual(t, len(full), 3, "the bound is never reached: it is no overload")
	during := rate(full, delivered)
	t.Logf("before %.0f items/s; overloaded %.0f of the %d items/s that the backend takes; a backlog of %d; recovered after %v; then %.0f items/s",
		before, during, takes, backlog, recovery.Round(time.Millisecond), after)
	r.record("Recovery",
		quantity{float64(recovery.Milliseconds()), "ms-recovery"}, quantity{before, "before-items/s"}, quantity{after, "after-items/s"},
		quantity{during, "overloaded-items/s"}, quantity{float64(takes), "backend-items/s"}, quantity{float64(backlog), "backlog-items"})
	assert.LessOrEqual(t, recovery, recoveredWithin)
	assert.Greater(t, before, 2*float64(takes), "there is no load to speak of")
	assert.GreaterOrEqual(t, during, r.least*float64(takes), "the backend has not enough to do")
	assert.GreaterOrEqual(t, after, r.least*before, "of the rate before")

	stop()
	producing.Wait()
	acknowledged, refused := int64(r.journal.Items(harness.Acknowledged)), int64(r.journal.Items(harness.Refused))
	r.col.AwaitItems(t, acknowledged, r.signal, "delivered_items")
	r.col.AwaitItems(t, 0, r.signal, "held_items")
	s, err := r.col.Scrape(t.Context())
	require.NoError(t, err)
	assert.Equal(t, acknowledged, s.Sum(r.signal, "accepted_items"))
	assert.Equal(t, refused, s.Sum(r.signal, "refused_items"))
	assert.Equal(t, refused, max(0, s.Sum(r.signal, "refused_items", "cause", "overflow")))
	assert.Zero(t, s.Sum(r.signal, "failed_items"))
	assert.Zero(t, s.Sum(r.signal, "dropped_items"))
	if r.blocks {
		assert.Zero(t, refused)
	} else {
		assert.NotZero(t, refused)
	}
	require.NoError(t, r.backend.Ledger(r.signal).Check(r.journal.Sent()))
	live, err := r.col.LiveHeap(t.Context())
	require.NoError(t, err)
	assert.LessOrEqual(t, live, r.heapBase+int(s.Sum(r.signal, "capacity_bytes"))/10, "the memory is free again")
	r.col.Stop(t)
}

// produce sends a request at each of its ticks, and skips those that come while one waits for
// its answer. A refusal must be one after which OTLP clients try again; this one goes on with
// other items.
func (r *overloadRun) produce(t *testing.T, client harness.Client, items int, over <-chan struct{}) {
	ticks := time.NewTicker(time.Second * time.Duration(producers*items) / time.Duration(r.offered))
	defer ticks.Stop()
	for {
		select {
		case <-over:
			return
		case <-ticks.C:
		}
		ids := r.journal.Take(items)
		ctx, cancel := context.WithTimeout(t.Context(), requestTimeout)
		err := client.Send(ctx, r.signal, ids)
		cancel()
		switch {
		case err == nil:
			r.journal.Note(ids, harness.Acknowledged)
		case harness.Retryable(err) && !r.blocks:
			r.journal.Note(ids, harness.Refused)
			r.refused.Add(int64(items))
		default:
			r.journal.Note(ids, harness.Unknown)
			t.Errorf("%s request with items %v: %v", client.Protocol(), ids, err)
			return
		}
	}
}

// read takes a scrape and requires that it is within all bounds.
func (r *overloadRun) read(t *testing.T) moment {
	asked := time.Now()
	s, err := r.col.Scrape(t.Context())
	require.NoError(t, err)
	require.NoError(t, s.Bounds(r.signal))
	m := moment{
		at: asked.Add(time.Since(asked) / 2), accepted: s.Sum(r.signal, "accepted_items"), delivered: s.Sum(r.signal, "delivered_items"),
		refused: max(0, s.Sum(r.signal, "refused_items")),
		held:    s.Sum(r.signal, "held_items"), capacity: s.Sum(r.signal, "capacity_items"),
		heldBytes: s.Sum(r.signal, "held_bytes"), mostBytes: s.Sum(r.signal, "capacity_bytes"),
		callers: s.Sum(r.signal, "waiting_callers"),
	}
	require.Positive(t, m.capacity)
	require.Positive(t, m.mostBytes)
	return m
}

// isFull tells if what is held is as much as it may be: as good as no request fits.
func (r *overloadRun) isFull(m moment) bool {
	if r.blocks {
		return m.callers > 0 && m.heldBytes >= m.mostBytes*9/10
	}
	return m.held >= m.capacity*9/10
}

// watch reads again and again for a while, and each time has the live heap measured.
func (r *overloadRun) watch(t *testing.T, phase string, howLong time.Duration) (all []moment) {
	every := time.NewTicker(r.every)
	defer every.Stop()
	began, said := time.Now(), time.Now()
	for all = append(all, r.read(t)); all[len(all)-1].at.Sub(began) < howLong; {
		<-every.C
		live, err := r.col.LiveHeap(t.Context())
		require.NoError(t, err)
		m, last := r.read(t), all[len(all)-1]
		all = append(all, m)
		most := r.heapBase + r.heapOthers + int(m.mostBytes)*11/10
		assert.LessOrEqual(t, live, most, "live heap, %s", phase)
		seconds := m.at.Sub(last.at).Seconds()
		r.record(fmt.Sprintf("Overload/phase=%s/t_ms=%d", phase, m.at.Sub(r.began).Milliseconds()),
			quantity{float64(m.held), "held-items"}, quantity{float64(m.capacity), "capacity-items"},
			quantity{float64(m.heldBytes), "held-B"}, quantity{float64(m.mostBytes), "capacity-B"},
			quantity{float64(live), "heap-B"}, quantity{float64(most), "heap-limit-B"},
			quantity{float64(m.delivered-last.delivered) / seconds, "delivered-items/s"},
			quantity{float64(m.refused-last.refused) / seconds, "refused-items/s"},
			quantity{float64(m.callers), "callers"})
		if time.Since(said) >= 10*r.every {
			said = time.Now()
			progress(t, said.Sub(began), howLong, "%s: %d items acknowledged, %d refused, %d delivered, %d held (%.1f of %.0f MiB), live heap %.1f MiB",
				phase, m.accepted, m.refused, m.delivered, m.held, mebibytes(m.heldBytes), mebibytes(m.mostBytes), mebibytes(live))
		}
	}
	return all
}

// recover reads until no more is held than was usual before, and returns how much was held and
// how long that has taken.
func (r *overloadRun) recover(t *testing.T, opened time.Time, usual []moment) (backlog int64, took time.Duration) {
	most := int64(perBatch)
	for _, m := range usual {
		most = max(most, m.held)
	}
	harness.Until(t, func(context.Context) error {
		m := r.read(t)
		if backlog = max(backlog, m.held); m.held > most {
			return fmt.Errorf("%d items are held, %d before the overload", m.held, most)
		}
		took = m.at.Sub(opened)
		return nil
	})
	return backlog, took
}

func delivered(m moment) int64 { return m.delivered }

// rate is how much of something there was in a second. Requires two moments at least.
func rate(of []moment, what func(moment) int64) float64 {
	first, last := of[0], of[len(of)-1]
	return float64(what(last)-what(first)) / last.at.Sub(first.at).Seconds()
}
