package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/boundedbatch/boundedbatchprocessor/e2e/internal/harness"
)

// handling is what becomes of what a fault makes fail.
type handling string

const (
	counting handling = "counting" // nobody waits and nothing is repeated: it is counted
	waiting  handling = "waiting"  // clients wait for results, and repeat
	retrying handling = "retrying" // the processor repeats
)

// site is a collector under load in front of a backend.
type site struct {
	backend  *harness.Backend
	col      *harness.Collector
	signals  []harness.Signal
	handling handling
	journals map[harness.Signal]*harness.Journal
}

// settings of the processor. No request of clients that wait is divided: of a part that fails they
// repeat the whole.
func (h handling) settings(more string) string {
	text := "send_batch_size: 100, timeout: 20ms, queue_size: 3000" + more
	switch h {
	case counting:
		text += ", send_batch_max_size: 100"
	case waiting:
		text += ", wait_for_result: true"
	case retrying:
		text += ", send_batch_max_size: 100, retry_on_failure: {enabled: true, initial_interval: 20ms, max_interval: 100ms, max_elapsed_time: 0s}"
	}
	return "{" + text + "}"
}

// newSite starts a collector with the stable signals under load.
func newSite(t *testing.T, h handling, cfg harness.Config, more string) *site {
	t.Helper()
	s := &site{
		backend: harness.NewBackend(t), signals: harness.StableSignals(), handling: h,
		journals: make(map[harness.Signal]*harness.Journal),
	}
	cfg.Backend, cfg.Processor = s.backend, h.settings(more)
	s.col = harness.Start(t, cfg)
	for _, signal := range s.signals {
		s.journals[signal] = new(harness.Journal)
	}
	return s
}

// load makes clients of both protocols send all signals until stop is called, which returns when
// they have their answers. Every request must be acknowledged in the end.
func (s *site) load(t *testing.T) (stop func()) {
	t.Helper()
	const clientsPerKind, largest = 3, 30
	ctx, cancel := context.WithTimeout(t.Context(), sendTimeout)
	over := make(chan struct{})
	var sending sync.WaitGroup
	for i, signal := range s.signals {
		for k := range clientsPerKind {
			for j, client := range s.col.Clients(t, nil) {
				rng := rand.New(rand.NewPCG(uint64(i), uint64(10*k+j)))
				sending.Go(func() { sendPersistently(ctx, t, client, signal, rng, largest, s.journals[signal], over) })
			}
		}
	}
	stop = sync.OnceFunc(func() {
		close(over)
		sending.Wait()
		cancel()
	})
	t.Cleanup(stop)
	return stop
}

// settle makes the backend hold what arrives, and returns when the collector knows of every
// other batch what became of it: what happens to the backend then is not about those.
func (s *site) settle(t *testing.T) {
	t.Helper()
	s.backend.HoldAll()
	for _, signal := range s.signals {
		taken, unanswered := s.backend.Ledger(signal).Taken()
		s.col.AwaitItems(t, int64(taken-unanswered), signal, "delivered_items")
	}
}

// awaitEffect returns a function that waits until a fault has made some items of every signal fail, or,
// where the processor repeats, batches.
func (s *site) awaitEffect(t *testing.T) (wait func()) {
	t.Helper()
	name, more := "failed_items", int64(20)
	if s.handling == retrying {
		name, more = "retries", 3
	}
	before, err := s.col.Scrape(t.Context())
	require.NoError(t, err)
	return func() {
		t.Helper()
		for _, signal := range s.signals {
			s.col.AwaitMetrics(t, func(now harness.Scrape) error {
				if got := now.Sum(signal, name) - before.Sum(signal, name); got < more {
					return fmt.Errorf("%d %s of %s since the fault began, instead of %d", got, name, signal.Name(), more)
				}
				return nil
			})
		}
	}
}

// boundsOfStable is Scrape.Bounds of every stable signal.
func boundsOfStable(s harness.Scrape) error {
	for _, signal := range harness.StableSignals() {
		if err := s.Bounds(signal); err != nil {
			return err
		}
	}
	return nil
}

// balance compares three books of what became of each signal: the journal of the clients, the
// metrics of the processor and the ledger of the backend. All clients must have their answers.
func (s *site) balance(t *testing.T) {
	t.Helper()
	for _, signal := range s.signals {
		s.col.AwaitItems(t, 0, signal, "held_items")
		s.backend.Ledger(signal).Await(t, "the end of the last call", func(l *harness.Ledger) bool { return l.UnderWay() == 0 })
	}
	now, err := s.col.Scrape(t.Context())
	require.NoError(t, err)
	for _, signal := range s.signals {
		assert.NoError(t, s.compare(t, signal, now), signal.Name())
	}
}

func (s *site) compare(t *testing.T, signal harness.Signal, now harness.Scrape) error {
	t.Helper()
	sent, ledger := s.journals[signal].Sent(), s.backend.Ledger(signal)
	var items, attempted int64 // the latter counts those of each attempt
	for i := range sent {
		items += int64(sent[i].IDs.Items)
		attempted += int64(sent[i].IDs.Items * sent[i].Attempts)
	}
	all, lostAnswers := ledger.Taken()
	taken, unanswered := int64(all), int64(lostAnswers)
	accepted, delivered, failed := now.Sum(signal, "accepted_items"), now.Sum(signal, "delivered_items"), now.Sum(signal, "failed_items")
	t.Logf("%s: %d items acknowledged, %d with repetitions; %d accepted, %d delivered, %d failed; %d taken, of which %d without an answer",
		signal.Name(), items, attempted, accepted, delivered, failed, taken, unanswered)

	var errs []error
	equal := func(what string, a, b int64) {
		if a != b {
			errs = append(errs, fmt.Errorf("%s: %d != %d", what, a, b))
		}
	}
	equal("sent and accepted", attempted, accepted)
	equal("accepted, and delivered or failed", accepted, delivered+failed)
	equal("refused and none", now.Sum(signal, "refused_items"), 0)
	equal("dropped and none", now.Sum(signal, "dropped_items"), 0)
	equal("taken by the backend, and delivered or not answered", taken, delivered+unanswered)
	switch s.handling {
	case counting:
		equal("sent and sent once", attempted, items)
		// What was lost is what failed, but for what the backend took without an answer.
		for i := range sent {
			sent[i].Outcome = harness.Unknown
		}
		equal("acknowledged, and taken or failed", items, taken+failed-unanswered)
	case waiting:
		equal("acknowledged and delivered", items, delivered)
	case retrying:
		equal("sent and sent once", attempted, items)
		equal("acknowledged and delivered", items, delivered)
		if unanswered > 0 { // these are repeated by the processor, as they must be
			for i := range sent {
				sent[i].Attempts = len(ledger.Delivered())
			}
		}
	}
	return errors.Join(append(errs, ledger.Check(sent))...)
}

// A fault of the backend: what happens to it, under load, until the effect can be seen, and how
// that ends.
type fault struct {
	name     string
	exporter string        // as in harness.Config
	timeout  time.Duration // export_timeout; 0: none
	cause    string        // of what fails; empty: nothing does
	strike   func(t *testing.T, s *site)
}

// strikeWith makes the backend behave in some way until that has had an effect, and then well.
func strikeWith(misbehave func(*harness.Backend)) func(*testing.T, *site) {
	return func(t *testing.T, s *site) {
		t.Helper()
		effect := s.awaitEffect(t)
		s.settle(t)
		misbehave(s.backend)
		effect()
		s.backend.Accept()
	}
}

// revive brings a backend back whose process has ended, whatever it did before.
func revive(t *testing.T, backend *harness.Backend) {
	t.Helper()
	backend.Accept()
	backend.Restart(t)
}

// slow makes the backend answer some exports of each signal late, and all others after them.
func slow(delay time.Duration) func(*testing.T, *site) {
	return func(t *testing.T, s *site) {
		t.Helper()
		s.settle(t)
		s.awaitHeldExport(t)
		s.backend.Delay(delay)
		s.backend.Hold()
		for _, signal := range s.signals {
			s.backend.Ledger(signal).Await(t, "late answers", func(l *harness.Ledger) bool {
				return slices.ContainsFunc(l.Delivered(), func(b harness.Batch) bool { return b.Answered.Sub(b.Arrived) >= delay })
			})
		}
		s.backend.Accept()
	}
}

// flap makes the backend change its mind ten times, every 200 ms.
func flap(off, on func(*testing.T, *site)) func(*testing.T, *site) {
	return func(t *testing.T, s *site) {
		t.Helper()
		effect := s.awaitEffect(t)
		next := time.NewTicker(200 * time.Millisecond)
		defer next.Stop()
		for range 5 {
			<-next.C
			off(t, s)
			<-next.C
			on(t, s)
		}
		effect()
	}
}

// Whatever happens to the backend under load: what clients were told, what the processor has
// counted and what the backend has taken are the same to the item. What fails is counted where
// nobody waits; where clients wait and repeat, or the processor does, nothing is lost.
func TestFaultsOfTheBackendAddUp(t *testing.T) {
	const grpcExporter, httpExporter = "otlp_grpc", "otlp_http"
	// So long that it ends only what the backend does not answer, however busy the machine is: what it
	// has taken and could not say in time would be in one book and not in the other.
	const silence = 2 * time.Second
	throttled := func(delay time.Duration) func(*testing.T, *site) {
		return func(t *testing.T, s *site) {
			t.Helper()
			strikeWith(func(b *harness.Backend) { b.Refuse(harness.Throttled(codes.ResourceExhausted, delay)) })(t, s)
			if s.handling == retrying {
				s.requireRest(t, delay)
			}
		}
	}
	kill := func(t *testing.T, s *site) {
		t.Helper()
		s.settle(t)
		s.backend.Kill(t)
	}
	for _, f := range []fault{
		{name: "killed", cause: "retryable", strike: func(t *testing.T, s *site) {
			effect := s.awaitEffect(t)
			kill(t, s)
			effect()
			revive(t, s.backend)
		}},
		// It reads nothing, as if it were stopped, and is killed in the end.
		{name: "stopped", timeout: silence, cause: "timeout", strike: func(t *testing.T, s *site) {
			effect := s.awaitEffect(t)
			s.settle(t)
			s.backend.Stall()
			effect()
			s.backend.Kill(t)
			revive(t, s.backend)
		}},
		{name: "never answers", timeout: silence, cause: "timeout", strike: strikeWith((*harness.Backend).Ignore)},
		{name: "never answers", exporter: httpExporter, timeout: silence, cause: "timeout", strike: strikeWith((*harness.Backend).Ignore)},
		{name: "answers too late", timeout: silence, cause: "timeout", strike: strikeWith(func(b *harness.Backend) {
			b.Delay(3 * silence / 2)
		})},
		{name: "answers after 1s", strike: slow(time.Second)},
		{name: "answers after 10s", strike: slow(10 * time.Second)},
		{name: "resets", cause: "retryable", strike: strikeWith(func(b *harness.Backend) { b.Reset(false) })},
		{name: "resets", exporter: httpExporter, cause: "retryable", strike: strikeWith(func(b *harness.Backend) { b.Reset(false) })},
		{name: "takes and resets", cause: "retryable", strike: strikeWith(func(b *harness.Backend) { b.Reset(true) })},
		{name: "takes and resets", exporter: httpExporter, cause: "retryable", strike: strikeWith(func(b *harness.Backend) { b.Reset(true) })},
		{name: "throttles", cause: "retryable", strike: throttled(300 * time.Millisecond)},
		{name: "throttles", exporter: httpExporter, cause: "retryable", strike: throttled(time.Second)},
		{name: "flaps", cause: "retryable", strike: flap(
			func(_ *testing.T, s *site) { s.backend.Refuse(retryable) },
			func(_ *testing.T, s *site) { s.backend.Accept() },
		)},
		{name: "dies and lives", exporter: httpExporter, cause: "retryable", strike: flap(
			kill,
			func(t *testing.T, s *site) { revive(t, s.backend) },
		)},
	} {
		exporter := f.exporter
		if exporter == "" {
			exporter = grpcExporter
		}
		for _, h := range []handling{counting, waiting, retrying} {
			if h == retrying && f.cause == "" {
				continue // there is nothing to repeat
			}
			t.Run(fmt.Sprintf("%s/%s/%s", f.name, exporter, h), func(t *testing.T) {
				t.Parallel()
				s := newSite(t, h, harness.Config{Exporter: exporter}, fmt.Sprintf(", export_timeout: %v", f.timeout))
				watched := s.col.Watch(t, boundsOfStable)
				stop := s.load(t)
				s.awaitDelivered(t)
				f.strike(t, s)
				s.awaitDelivered(t) // it has recovered
				stop()
				assert.NotZero(t, watched())
				s.balance(t)
				s.requireCause(t, f.cause)
				s.col.Stop(t)
			})
		}
	}
}

// awaitDelivered waits until some hundred items more of every signal are delivered.
func (s *site) awaitDelivered(t *testing.T) {
	t.Helper()
	const items = 500
	before, err := s.col.Scrape(t.Context())
	require.NoError(t, err)
	for _, signal := range s.signals {
		s.col.AwaitMetrics(t, func(now harness.Scrape) error {
			if got := now.Sum(signal, "delivered_items") - before.Sum(signal, "delivered_items"); got < items {
				return fmt.Errorf("%d %s more are delivered instead of %d", got, signal.Name(), items)
			}
			return nil
		})
	}
}

// requireCause requires that items have failed with that cause, if that is what becomes of them,
// or that none has.
func (s *site) requireCause(t *testing.T, cause string) {
	t.Helper()
	now, err := s.col.Scrape(t.Context())
	require.NoError(t, err)
	for _, signal := range s.signals {
		if cause == "" || s.handling == retrying {
			assert.Zero(t, now.Sum(signal, "failed_items"), signal.Name())
			continue
		}
		assert.Positive(t, now.Sum(signal, "failed_items", "cause", cause), signal.Name())
		assert.Zero(t, now.Sum(signal, "failed_items", "cause", "permanent"), signal.Name())
	}
}

// requireRest requires that no batch was repeated sooner than the backend had asked for.
func (s *site) requireRest(t *testing.T, delay time.Duration) {
	t.Helper()
	for _, signal := range s.signals {
		ledger := s.backend.Ledger(signal)
		refused := make(map[uint64]time.Time) // the last time, by the first item
		for _, b := range ledger.Refused() {
			if at, again := refused[b.IDs[0]]; again {
				assert.GreaterOrEqual(t, b.Arrived.Sub(at), delay, "%s after the first repetition", signal.Name())
			}
			refused[b.IDs[0]] = b.Answered
		}
		for _, b := range ledger.Delivered() {
			if at, again := refused[b.IDs[0]]; again {
				assert.GreaterOrEqual(t, b.Arrived.Sub(at), delay, signal.Name())
			}
		}
	}
}
