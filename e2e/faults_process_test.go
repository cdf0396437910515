package e2e

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/boundedbatch/boundedbatchprocessor/e2e/internal/harness"
)

// The process is killed again and again under load. Where clients wait for results, what was
// waiting has not been acknowledged: they send it again, and nothing is lost.
func TestKilledProcessLosesNothingThatWaitingClientsWereTold(t *testing.T) {
	t.Parallel()
	const kills = 6
	s := newSite(t, waiting, harness.Config{}, "")
	stop := s.load(t)
	for kill := range kills {
		s.awaitDelivered(t)
		if kill%2 == 1 { // for certain in the midst of exports
			s.backend.Hold()
			s.awaitHeldExport(t)
		}
		s.col.Signal(t, os.Kill)
		assert.Equal(t, -1, s.col.Exit(t), "exit status of what was killed")
		s.backend.Accept()
		s.col.Restart(t)
	}
	s.awaitDelivered(t)
	stop()
	for _, signal := range s.signals {
		s.col.AwaitItems(t, 0, signal, "held_items")
		sent := s.journals[signal].Sent()
		require.NoError(t, s.backend.Ledger(signal).Check(sent), signal.Name())
		repeated := 0
		for _, request := range sent {
			assert.Equal(t, harness.Acknowledged, request.Outcome)
			if request.Attempts > 1 {
				repeated++
			}
		}
		taken, _ := s.backend.Ledger(signal).Taken()
		assert.Positive(t, repeated)
		t.Logf("%s: %d requests, %d of them repeated; %d items acknowledged, %d taken", signal.Name(),
			len(sent), repeated, s.journals[signal].Items(harness.Acknowledged), taken)
	}
	s.col.Stop(t)
}

// awaitHeldExport waits until the backend holds an export of each signal.
func (s *site) awaitHeldExport(t *testing.T) {
	t.Helper()
	for _, signal := range s.signals {
		s.backend.Ledger(signal).Await(t, "an export", func(l *harness.Ledger) bool { return l.Waiting() > 0 })
	}
}

// Where nobody waits, a process that is killed loses what it holds, and no more.
func TestKilledProcessLosesWhatItHolds(t *testing.T) {
	t.Parallel()
	const callers = 6 // of a signal, see load
	s := newSite(t, counting, harness.Config{}, "")
	ctx, cancel := context.WithCancel(t.Context())
	var sending sync.WaitGroup
	defer sending.Wait()
	defer cancel()
	for i, signal := range s.signals {
		for k, client := range append(append(s.col.Clients(t, nil), s.col.Clients(t, nil)...), s.col.Clients(t, nil)...) {
			rng := rand.New(rand.NewPCG(uint64(i), uint64(k)))
			sending.Go(func() {
				journal := s.journals[signal]
				for {
					ids := journal.Take(harness.Size(rng, 30))
					if err := client.Send(ctx, signal, ids); err != nil {
						journal.Note(ids, harness.Refused) // blocked when the process was killed
						return
					}
					journal.Note(ids, harness.Acknowledged)
				}
			})
		}
	}
	s.awaitDelivered(t)
	s.settle(t)
	for _, signal := range s.signals { // then nothing moves any more
		s.col.AwaitItems(t, callers, signal, "waiting_callers")
	}
	last, err := s.col.Scrape(t.Context())
	require.NoError(t, err)
	s.col.Signal(t, os.Kill)
	s.col.Exit(t)
	sending.Wait()
	for _, signal := range s.signals {
		ledger := s.backend.Ledger(signal)
		ledger.Await(t, "the end of the calls", func(l *harness.Ledger) bool { return l.UnderWay() == 0 })
		s.backend.Accept()
		taken, _ := ledger.Taken()
		acknowledged, held := s.journals[signal].Items(harness.Acknowledged), int(last.Sum(signal, "held_items"))
		t.Logf("%s: %d items acknowledged, %d taken, %d held", signal.Name(), acknowledged, taken, held)
		assert.Positive(t, held)
		assert.EqualValues(t, acknowledged, last.Sum(signal, "accepted_items"))
		assert.EqualValues(t, taken, last.Sum(signal, "delivered_items"))
		assert.Equal(t, acknowledged, taken+held)
		sent := s.journals[signal].Sent()
		for i := range sent {
			if sent[i].Outcome == harness.Acknowledged {
				sent[i].Outcome = harness.Unknown // lost, or not
			}
		}
		require.NoError(t, ledger.Check(sent))
	}
}

// What makes a collector stop in an orderly way: it is told to, or is told twice, or reads its
// configuration again.
var orderly = []struct {
	name string
	stop func(t *testing.T, s *site)
}{
	{"terminated", func(t *testing.T, s *site) {
		t.Helper()
		s.col.Stop(t)
		s.col.Restart(t)
	}},
	{"terminated twice", func(t *testing.T, s *site) {
		t.Helper()
		s.backend.Hold() // so that the second comes while it drains
		s.awaitHeldExport(t)
		s.col.Signal(t, syscall.SIGTERM)
		s.col.AwaitLog(t, shutdownLine)
		s.col.Signal(t, syscall.SIGTERM)
		s.backend.Accept()
		assert.Zero(t, s.col.Exit(t), "exit status")
		s.col.Restart(t)
	}},
	{"reloaded", func(t *testing.T, s *site) {
		t.Helper()
		s.col.Reload(t)
	}},
	{"reloaded while exports are under way", func(t *testing.T, s *site) {
		t.Helper()
		s.backend.Hold()
		s.awaitHeldExport(t)
		stopping := s.col.Expect(shutdownLine)
		reloaded := s.col.BeginReload(t)
		stopping(t)
		s.backend.Accept()
		reloaded(t)
	}},
}

// Collectors that stop in an orderly way, and start again with other settings, under load: what
// was acknowledged before, meanwhile and afterwards arrives exactly once, and what was not does
// not arrive. Clients repeat what may be repeated; whether they wait for results makes no
// difference.
func TestOrderlyStopLosesAndRepeatsNothing(t *testing.T) {
	const rounds = 4
	for _, tt := range orderly {
		for _, h := range []handling{counting, waiting} {
			t.Run(fmt.Sprintf("%s/%s", tt.name, h), func(t *testing.T) {
				t.Parallel()
				s := newSite(t, h, harness.Config{}, "")
				stop := s.load(t)
				for round := range rounds {
					s.awaitDelivered(t)
					s.col.Configure(t, harness.Config{
						Backend: s.backend, Processor: h.settings(fmt.Sprintf(", max_concurrent_exports: %d", 2+round)),
					})
					before := s.conns()
					tt.stop(t, s)
					s.awaitDelivered(t)
					if round == rounds-1 {
						stop()
						s.compareLife(t, before)
					}
				}
				s.requireExactlyOnce(t)
				s.col.Stop(t)
			})
		}
	}
}

// conns returns the connections that the collector has used so far.
func (s *site) conns() map[string]bool {
	used := make(map[string]bool)
	for _, signal := range s.signals {
		for _, b := range s.backend.Ledger(signal).Delivered() {
			used[b.Conn] = true
		}
	}
	return used
}

// compareLife requires that the processor has counted what the backend has taken since it started,
// over connections that were not there before.
func (s *site) compareLife(t *testing.T, before map[string]bool) {
	t.Helper()
	for _, signal := range s.signals {
		s.col.AwaitItems(t, 0, signal, "held_items")
	}
	now, err := s.col.Scrape(t.Context())
	require.NoError(t, err)
	for _, signal := range s.signals {
		taken := 0
		for _, b := range s.backend.Ledger(signal).Delivered() {
			if !before[b.Conn] {
				taken += len(b.IDs)
			}
		}
		assert.Positive(t, taken)
		assert.EqualValues(t, taken, now.Sum(signal, "accepted_items"), signal.Name())
		assert.EqualValues(t, taken, now.Sum(signal, "delivered_items"), signal.Name())
	}
}

// requireExactlyOnce requires that what was acknowledged has arrived once, however often a client
// had to send it.
func (s *site) requireExactlyOnce(t *testing.T) {
	t.Helper()
	for _, signal := range s.signals {
		sent := s.journals[signal].Sent()
		attempts := 0
		for i := range sent {
			attempts += sent[i].Attempts
			sent[i].Attempts = 1
		}
		require.NoError(t, s.backend.Ledger(signal).Check(sent), signal.Name())
		taken, _ := s.backend.Ledger(signal).Taken()
		assert.Equal(t, s.journals[signal].Items(harness.Acknowledged), taken, signal.Name())
		t.Logf("%s: %d requests in %d attempts, %d items", signal.Name(), len(sent), attempts, taken)
	}
}

// A collector that is to read its configuration again while its backend does not answer cannot
// hand on what it holds. It ends then, which is how the Collector takes an error of a component
// that stops, and tells how much that was.
func TestReloadThatCannotDrainEndsTheProcessAndTellsHowMuch(t *testing.T) {
	t.Parallel()
	const items = 500
	backend := harness.NewBackend(t)
	col := harness.Start(t, harness.Config{
		Backend: backend, Processor: "{send_batch_size: 100, send_batch_max_size: 100, shutdown_timeout: 500ms}",
	})
	backend.Hold()
	for _, signal := range harness.StableSignals() {
		for _, client := range col.Clients(t, nil) {
			require.NoError(t, send(t.Context(), client, signal, harness.Range{Items: items / 2}))
		}
		col.AwaitItems(t, items, signal, "held_items")
	}
	col.Signal(t, syscall.SIGHUP)
	assert.Equal(t, 1, col.Exit(t), "exit status")
	for _, signal := range harness.StableSignals() {
		assert.Empty(t, backend.Ledger(signal).Delivered())
	}
	told := strings.Count(col.Log(), fmt.Sprintf("%d items were not delivered", items))
	assert.GreaterOrEqual(t, told, len(harness.StableSignals()))
}

// A collector that reads its configuration 300 times, under load: each time all components stop
// and new ones start. Everything that was acknowledged arrives exactly once, and nothing is left
// behind of what has stopped.
func TestThreeHundredRestartsInARow(t *testing.T) {
	t.Parallel()
	const restarts = 300
	s := newSite(t, counting, harness.Config{Profile: true}, "")
	s.col.Reload(t)
	before := s.goroutines(t)
	stop := s.load(t)
	began := time.Now()
	for range restarts {
		awaitBatches(t, s.backend, s.signals, 1)
		s.col.Reload(t)
	}
	t.Logf("%d restarts in %v", restarts, time.Since(began))
	s.awaitDelivered(t)
	stop()
	for _, signal := range s.signals {
		s.col.AwaitItems(t, 0, signal, "held_items")
	}
	s.requireExactlyOnce(t)
	// Those of the export of a batch end soon after it.
	harness.Until(t, func(context.Context) error {
		if after := s.goroutines(t); after > before {
			return fmt.Errorf("%d goroutines of the processor instead of %d", after, before)
		}
		return nil
	})
	s.col.Stop(t)
}

// goroutines returns how many goroutines of the collector are the processor's.
func (s *site) goroutines(t *testing.T) int {
	t.Helper()
	n, err := s.col.GoroutinesIn(t.Context(), "boundedbatchprocessor/batcher.")
	require.NoError(t, err)
	return n
}

// A component downstream panics. The process is not ours to save, but it ends soon, with what the
// component had to say; clients that wait for results lose nothing, and where nobody waits no
// more is lost than was held.
func TestPanicDownstreamEndsTheProcessAndLosesNoMoreThanItHolds(t *testing.T) {
	const deaths = 3
	const bound = 3000 // queue_size, see settings
	for _, h := range []handling{waiting, counting} {
		t.Run(string(h), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, h, harness.Config{PanicAt: 20}, "")
			stop := s.load(t)
			for death := range deaths {
				s.col.AwaitLog(t, "panic: panicker: batch 20 of ")
				panicked := time.Now()
				assert.Equal(t, 2, s.col.Exit(t), "exit status")
				assert.Less(t, time.Since(panicked), 10*time.Second)
				assert.Contains(t, s.col.Log(), "panicker.(*panicker).count", "the panic's trace")
				if death == deaths-1 { // it is mended
					s.col.Configure(t, harness.Config{Backend: s.backend, Processor: h.settings("")})
				}
				s.col.Restart(t)
			}
			s.awaitDelivered(t)
			stop()
			for _, signal := range s.signals {
				s.col.AwaitItems(t, 0, signal, "held_items")
				ledger, sent := s.backend.Ledger(signal), s.journals[signal].Sent()
				taken, _ := ledger.Taken()
				lost := 0
				if h == counting {
					arrived := make(map[uint64]bool)
					for _, b := range ledger.Delivered() {
						for _, id := range b.IDs {
							arrived[id] = true
						}
					}
					lost = s.journals[signal].Items(harness.Acknowledged) - len(arrived)
					for i := range sent {
						sent[i].Outcome = harness.Unknown // lost, or not
					}
				}
				t.Logf("%s: %d items acknowledged, %d taken, %d lost", signal.Name(), s.journals[signal].Items(harness.Acknowledged), taken, lost)
				assert.GreaterOrEqual(t, lost, 0)
				assert.LessOrEqual(t, lost, deaths*bound)
				require.NoError(t, ledger.Check(sent), signal.Name())
			}
			s.col.Stop(t)
		})
	}
}

// One fault after the other, in any order, in front of the processor, behind it and to its own
// process, while the load goes on: clients that wait for results, and repeat, lose nothing.
func TestWaitingClientsLoseNothingWhateverComes(t *testing.T) {
	misbehaves := func(misbehave func(*harness.Backend)) func(*testing.T, *site) {
		return func(t *testing.T, s *site) {
			t.Helper()
			effect := s.awaitEffect(t)
			misbehave(s.backend)
			effect()
			s.backend.Accept()
		}
	}
	faults := map[string]func(*testing.T, *site){
		"backend refuses": misbehaves(func(b *harness.Backend) { b.Refuse(retryable) }),
		"backend throttles": misbehaves(func(b *harness.Backend) {
			b.Refuse(harness.Throttled(codes.ResourceExhausted, 100*time.Millisecond))
		}),
		"backend resets":           misbehaves(func(b *harness.Backend) { b.Reset(false) }),
		"backend takes and resets": misbehaves(func(b *harness.Backend) { b.Reset(true) }),
		"backend never answers":    misbehaves((*harness.Backend).Ignore),
		"backend is slow":          slowly,
		"backend dies": func(t *testing.T, s *site) {
			t.Helper()
			effect := s.awaitEffect(t)
			s.backend.Kill(t)
			effect()
			revive(t, s.backend)
		},
		"backend stops and dies": func(t *testing.T, s *site) {
			t.Helper()
			effect := s.awaitEffect(t)
			s.backend.Stall()
			effect()
			s.backend.Kill(t)
			revive(t, s.backend)
		},
		"killed": func(t *testing.T, s *site) {
			t.Helper()
			s.col.Signal(t, os.Kill)
			s.col.Exit(t)
			s.col.Restart(t)
		},
		"killed with a dead backend": func(t *testing.T, s *site) {
			t.Helper()
			s.backend.Kill(t)
			s.col.Signal(t, os.Kill)
			s.col.Exit(t)
			s.col.Restart(t)
			s.awaitEffect(t)()
			revive(t, s.backend)
		},
	}
	for _, o := range orderly {
		faults[o.name] = o.stop
	}
	names := slices.Sorted(maps.Keys(faults))
	for seed := range uint64(2) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, waiting, harness.Config{}, ", export_timeout: 1s")
			stop := s.load(t)
			rng := rand.New(rand.NewPCG(seed, seed))
			for _, i := range rng.Perm(len(names)) {
				t.Log(names[i])
				awaitBatches(t, s.backend, s.signals, 10)
				faults[names[i]](t, s)
			}
			awaitBatches(t, s.backend, s.signals, 10)
			stop()
			for _, signal := range s.signals {
				sent := s.journals[signal].Sent()
				require.NoError(t, s.backend.Ledger(signal).Check(sent), signal.Name())
				attempts := 0
				for _, request := range sent {
					assert.Equal(t, harness.Acknowledged, request.Outcome)
					attempts += request.Attempts
				}
				taken, _ := s.backend.Ledger(signal).Taken()
				t.Logf("%s: %d requests in %d attempts; %d items acknowledged, %d taken", signal.Name(),
					len(sent), attempts, s.journals[signal].Items(harness.Acknowledged), taken)
				assert.Greater(t, attempts, len(sent))
			}
			s.col.Stop(t)
		})
	}
}

// slowly makes the backend answer everything a bit late for a while.
func slowly(t *testing.T, s *site) {
	t.Helper()
	s.backend.Delay(300 * time.Millisecond)
	awaitBatches(t, s.backend, s.signals, 5)
	s.backend.Accept()
}
