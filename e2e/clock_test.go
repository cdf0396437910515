package e2e

import (
	"errors"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/boundedbatch/boundedbatchprocessor/e2e/internal/harness"
)

// steps are where the wall clock of a collector jumps to, one after the other, from that of
// the machine.
var steps = []time.Duration{
	2 * time.Hour, -2 * time.Hour, 30 * 365 * 24 * time.Hour, -30 * 365 * 24 * time.Hour, time.Second, 0,
}

// Somebody sets the wall clock, forwards and backwards, while requests come in steadily, an
// export waits for its answer and others are retried. Ticks stay where they were, no deadline
// comes earlier or later, and no metric of time measures the jump.
func TestWallClockThatStepsChangesNothing(t *testing.T) {
	t.Parallel()
	const (
		interval = 200 * time.Millisecond // timeout
		period   = 3 * interval           // between two steps
		items    = 10
	)
	signal, held := harness.Logs, harness.Traces
	backend := harness.NewBackend(t)
	col := harness.Start(t, harness.Config{
		Backend: backend, MovableClock: true,
		Processor: fmt.Sprintf("{timeout: %v, send_batch_size: 98304, export_timeout: 10m, shutdown_timeout: 10m, retry_on_failure: "+
			"{enabled: true, initial_interval: 50ms, max_interval: 50ms, max_elapsed_time: 10m}}", interval),
	})

	// An export that is not answered before all steps are over.
	isHeld := func(b harness.Batch) bool { return b.IDs[0] >= itemsPerTenant }
	backend.HoldIf(isHeld)
	stuck := harness.Range{First: itemsPerTenant, Items: items}
	require.NoError(t, send(t.Context(), col.GRPC(t, nil), held, stuck))
	backend.Ledger(held).Await(t, "an export", func(l *harness.Ledger) bool { return l.Waiting() == 1 })

	journal := new(harness.Journal)
	over := make(chan struct{})
	var sending sync.WaitGroup
	defer sending.Wait()
	stop := sync.OnceFunc(func() { close(over) })
	defer stop()
	for _, client := range col.Clients(t, nil) {
		sending.Go(func() { sendUntil(t.Context(), t, over, client, signal, journal, items) })
	}
	batches := func() int64 {
		s, err := col.Scrape(t.Context())
		require.NoError(t, err)
		return s.Sum(signal, "batches", "trigger", "timeout")
	}
	for _, step := range steps {
		began := time.Now()
		before := batches()
		col.MoveClock(t, step)
		clock, err := col.Clock(t.Context())
		require.NoError(t, err)
		require.WithinDuration(t, time.Now().Add(step), clock, 2*time.Second, "the clock has not moved")
		col.AwaitMetrics(t, func(s harness.Scrape) error {
			if got := s.Sum(signal, "batches", "trigger", "timeout") - before; got < int64(period/interval) {
				return fmt.Errorf("after a step to %v there were %d ticks", step, got)
			}
			return s.Bounds(signal)
		})
		took := time.Since(began)
		// One for each interval, one at either end, which is late or on time.
		assert.LessOrEqual(t, batches()-before, int64(time.Since(began)/interval)+2, "ticks after a step to %v, in %v", step, took)
	}

	// What is retried goes on so, and is not given up.
	backend.Refuse(retryable)
	awaitRetries := func() {
		s, err := col.Scrape(t.Context())
		require.NoError(t, err)
		before := s.Sum(signal, "retries")
		col.AwaitMetrics(t, func(s harness.Scrape) error {
			if got := s.Sum(signal, "retries") - before; got < 3 {
				return fmt.Errorf("%d retries", got)
			}
			return nil
		})
	}
	awaitRetries()
	for _, step := range steps {
		col.MoveClock(t, step)
		awaitRetries()
	}
	stop()
	backend.Accept()
	sending.Wait()
	taken := int64(journal.Taken())
	col.AwaitItems(t, taken, signal, "delivered_items")
	col.AwaitItems(t, items, held, "delivered_items")

	s, err := col.Scrape(t.Context())
	require.NoError(t, err)
	for _, of := range []harness.Signal{signal, held} {
		assert.Zero(t, s.Sum(of, "failed_items"), of.Name())
		assert.Zero(t, s.Sum(of, "dropped_items"), of.Name())
		for _, name := range []string{"batch_age", "ticker_lateness", "export_duration", "admission_wait"} {
			count, total := max(0, s.Sum(of, name)), s.Total(of, name)
			t.Logf("%s of %s: %d, in all %.3f s", name, of.Name(), count, total)
			assert.GreaterOrEqual(t, total, 0.0, "%s of %s", name, of.Name())
			assert.LessOrEqual(t, total, 120.0, "%s of %s, seconds in all", name, of.Name())
		}
		for _, name := range []string{"batch_age", "ticker_lateness"} {
			assert.Equal(t, max(0, s.Sum(of, name)), s.AtMost(of, name, 5), "%s of %s, up to 5 s", name, of.Name())
		}
	}

	// Nor does a shutdown end before it has drained.
	backend.Hold()
	last := journal.Take(items)
	require.NoError(t, send(t.Context(), col.GRPC(t, nil), signal, last))
	journal.Note(last, harness.Acknowledged)
	col.Signal(t, syscall.SIGTERM)
	backend.Ledger(signal).Await(t, "an export", func(l *harness.Ledger) bool { return l.Waiting() == 1 })
	col.MoveClock(t, time.Hour)
	backend.Accept()
	assert.Zero(t, col.Exit(t))
	require.NoError(t, backend.Ledger(signal).Check(journal.Sent()))
	require.NoError(t, backend.Ledger(held).Check([]harness.Sent{{IDs: stuck, Outcome: harness.Acknowledged}}))
}

// A process that is stopped for five seconds and goes on has missed many ticks of each
// partition. It carries out one of them, late, and then the next ones at their instants. An
// export whose deadline has passed meanwhile is tried again; one that has more time is not.
func TestStoppedProcessSkipsTheTicksItHasMissed(t *testing.T) {
	t.Parallel()
	const (
		tenants  = 8
		interval = time.Second // timeout: so long that something is pending all the time
		stopped  = 5 * time.Second
		items    = 3
	)
	for _, tt := range []struct {
		name, settings string
		retried        bool
	}{
		{"no deadline", "", false},
		{"longer deadline", ", export_timeout: 30s", false},
		{"shorter deadline", ", export_timeout: 3s", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			signal, held := harness.Logs, harness.Traces
			backend := harness.NewBackend(t)
			col := harness.Start(t, harness.Config{
				Backend: backend,
				Processor: fmt.Sprintf("{timeout: %v, metadata_keys: [x-tenant], send_batch_size: 98304, retry_on_failure: "+
					"{enabled: true, initial_interval: 10ms, max_interval: 10ms, max_elapsed_time: 0s}%s}", interval, tt.settings),
			})
			orgs := newOrganizations(tenants)
			over := make(chan struct{})
			var sending sync.WaitGroup
			defer sending.Wait()
			stop := sync.OnceFunc(func() { close(over) })
			defer stop()
			for _, org := range orgs {
				client := col.GRPC(t, org.header)
				sending.Go(func() {
					for every := time.Tick(interval / 100); !t.Failed(); {
						select {
						case <-over:
							return
						case <-every:
							sendSome(t.Context(), t, client, signal, org.journal, 1, items)
						}
					}
				})
			}
			// All of them tick, and an export is under way.
			backend.HoldIf(func(b harness.Batch) bool { return b.IDs[0] >= tenants*itemsPerTenant })
			late := harness.NewJournal(tenants * itemsPerTenant)
			ids := late.Take(items)
			require.NoError(t, send(t.Context(), col.GRPC(t, nil), held, ids))
			backend.Ledger(held).Await(t, "an export", func(l *harness.Ledger) bool { return l.Waiting() == 1 })
			var before harness.Scrape
			var scraped time.Time
			col.AwaitMetrics(t, func(s harness.Scrape) error {
				before, scraped = s, time.Now()
				if s.Sum(signal, "batches", "trigger", "timeout") < tenants || s.Sum(signal, "held_items", "state", "pending") < tenants*items {
					return errors.New("not every tenant ticks")
				}
				return nil
			})

			col.Signal(t, syscall.SIGSTOP)
			col.AwaitStop(t)
			if !tt.retried {
				backend.Accept()
			}
			halted := time.Now()
			<-time.After(stopped) // the fault itself
			col.Signal(t, syscall.SIGCONT)
			went := time.Now()
			var after harness.Scrape
			ticked := before.Sum(signal, "batches", "trigger", "timeout")
			col.AwaitMetrics(t, func(s harness.Scrape) error {
				after = s
				if s.Sum(signal, "batches", "trigger", "timeout") < ticked+3*tenants {
					return errors.New("not every tenant ticks")
				}
				return s.Bounds(signal)
			})

			// The processor looks for ticks that are due, carries out one of each partition, and notes
			// by how much the latest was late: more than a second only where it was stopped. In all
			// there is one tick for each interval that it ran, and one for each of the three pieces of
			// time that may be cut.
			isLate := func(s harness.Scrape) int64 {
				return s.Sum(signal, "ticker_lateness") - s.AtMost(signal, "ticker_lateness", 1)
			}
			missed := isLate(after) - isLate(before)
			ran := int64(halted.Sub(scraped)/interval) + int64(time.Since(went)/interval)
			batches := after.Sum(signal, "batches", "trigger", "timeout") - ticked
			t.Logf("%d of %d times ticks were late by more than a second; %d batches in %d intervals", missed,
				after.Sum(signal, "ticker_lateness")-before.Sum(signal, "ticker_lateness"), batches, ran)
			assert.EqualValues(t, 1, missed, "ticks that were missed are carried out together, and once")
			assert.LessOrEqual(t, batches, tenants*(ran+3))

			backend.Accept()
			stop()
			sending.Wait()
			late.Note(ids, harness.Acknowledged)
			col.AwaitItems(t, items, held, "delivered_items")
			all := 0
			for _, org := range orgs {
				all += org.journal.Taken()
			}
			col.AwaitItems(t, int64(all), signal, "delivered_items")
			s, err := col.Scrape(t.Context())
			require.NoError(t, err)
			if tt.retried {
				assert.Positive(t, s.Sum(held, "retries"), "the deadline has passed")
			} else {
				assert.Zero(t, s.Sum(held, "retries"))
				require.Len(t, backend.Ledger(held).Delivered(), 1)
			}
			for _, of := range []harness.Signal{signal, held} {
				assert.Zero(t, s.Sum(of, "failed_items"), of.Name())
				assert.Zero(t, s.Sum(of, "dropped_items"), of.Name())
			}
			// An answer that nobody has read before the deadline is none: what was sent again has
			// arrived twice.
			sent := allOf(orgs)
			for i := range sent {
				if tt.retried {
					sent[i].Attempts = 2
				}
			}
			require.NoError(t, backend.Ledger(signal).Check(sent))
			require.NoError(t, backend.Ledger(held).Check(late.Sent()))
			col.Stop(t)
		})
	}
}
