package scaleout

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/boundedbatch/boundedbatchprocessor/e2e/internal/harness"
)

// signals are those that the examples have pipelines of.
var signals = harness.StableSignals()

// startGateways starts gateways of one backend. Over is merged over the example; empty: nothing is.
func startGateways(tb testing.TB, file string, backend *harness.Backend, count int, over string, environment ...string) []*harness.Collector {
	tb.Helper()
	var gateways []*harness.Collector
	for range count {
		gateways = append(gateways, harness.StartFileOver(tb, example(file), over,
			append(environment[:len(environment):len(environment)], "OTLP_BACKEND="+backend.GRPCAddress())...))
	}
	return gateways
}

// among is the configuration of agents that balance among these gateways.
func among(gateways []*harness.Collector) string {
	var addresses []string
	for _, gateway := range gateways {
		addresses = append(addresses, fmt.Sprintf("%q", gateway.GRPCAddress()))
	}
	// Less than in the example: nobody has to learn of anything, and agents that reload wait for it.
	balancing := fmt.Sprintf("{resolver: {static: {hostnames: [%s]}}, retry_on_failure: {max_elapsed_time: 2s}}", strings.Join(addresses, ", "))
	return fmt.Sprintf("exporters: {load_balancing: %[1]s, load_balancing/metrics: %[1]s}", balancing)
}

// kill ends a collector as the system does that has no memory left, or nobody expects.
func kill(tb testing.TB, col *harness.Collector) {
	tb.Helper()
	col.Signal(tb, syscall.SIGKILL)
	col.Exit(tb)
}

func stopAll(tb testing.TB, collectors ...*harness.Collector) {
	tb.Helper()
	for _, col := range collectors {
		col.Stop(tb)
	}
}

// load is what senders do: each sends one request after the other, and repeats it until it is acknowledged.
type load struct {
	journals map[harness.Signal]*harness.Journal
	over     chan struct{}
	sending  sync.WaitGroup
}

// startLoad has so many senders of each signal and protocol send to each agent, requests of up to largest items. It ends with
// the test, if not before.
func startLoad(tb testing.TB, agents []*harness.Collector, senders, largest int) *load {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	l := &load{journals: make(map[harness.Signal]*harness.Journal), over: make(chan struct{})}
	for _, signal := range signals {
		l.journals[signal] = new(harness.Journal)
	}
	for i, signal := range signals {
		for k := range senders {
			for n, agent := range agents {
				for m, client := range agent.Clients(tb, nil) {
					rng := rand.New(rand.NewPCG(uint64(i), uint64(n<<16|m<<8|k)))
					l.sending.Go(func() { l.send(ctx, tb, client, signal, rng, largest) })
				}
			}
		}
	}
	tb.Cleanup(func() {
		cancel()
		l.sending.Wait()
	})
	return l
}

func (l *load) send(ctx context.Context, tb testing.TB, client harness.Client, signal harness.Signal, rng *rand.Rand, largest int) {
	tb.Helper()
	journal := l.journals[signal]
	for {
		select {
		case <-l.over:
			return
		case <-ctx.Done():
			return
		default:
		}
		ids := journal.Take(harness.Size(rng, largest))
		attempts, err := harness.SendPersistently(ctx, client, signal, ids)
		if err != nil {
			journal.NoteAttempts(ids, harness.Unknown, attempts)
			if ctx.Err() == nil {
				tb.Errorf("%s request with items %v, attempt %d: %v", client.Protocol(), ids, attempts, err)
			}
			return
		}
		journal.NoteAttempts(ids, harness.Acknowledged, attempts)
	}
}

// finish waits until every sender has its last answer.
func (l *load) finish() {
	close(l.over)
	l.sending.Wait()
}

// awaitBatches waits until the backend has taken that many batches more of each signal.
func awaitBatches(tb testing.TB, backend *harness.Backend, more int) {
	tb.Helper()
	for _, signal := range signals {
		ledger := backend.Ledger(signal)
		want := len(ledger.Delivered()) + more
		ledger.Await(tb, fmt.Sprintf("%d batches of %s", more, signal.Name()), func(l *harness.Ledger) bool {
			return len(l.Delivered()) >= want
		})
	}
}

// awaitHeld waits until a gateway holds items of each of these signals.
func awaitHeld(tb testing.TB, gateway *harness.Collector, of ...harness.Signal) {
	tb.Helper()
	gateway.AwaitMetrics(tb, func(s harness.Scrape) error {
		for _, signal := range of {
			if s.Sum(signal, "held_items") <= 0 {
				return fmt.Errorf("it holds no %s", signal.Name())
			}
		}
		return nil
	})
}

// awaitDelivered waits until a gateway has delivered items of each signal in its present life.
func awaitDelivered(tb testing.TB, gateway *harness.Collector) {
	tb.Helper()
	gateway.AwaitMetrics(tb, func(s harness.Scrape) error {
		for _, signal := range signals {
			if s.Sum(signal, "delivered_items") <= 0 {
				return fmt.Errorf("it has delivered no %s", signal.Name())
			}
		}
		return nil
	})
}

// account is what became of the items of a signal.
type account struct {
	acknowledged int // to their senders
	arrived      int // of these
	extra        int // times that an item has arrived again
}

func (a account) String() string {
	return fmt.Sprintf("%d acknowledged, %d of them missing, %d arrived again", a.acknowledged, a.acknowledged-a.arrived, a.extra)
}

// reckon counts item by item.
func reckon(ledger *harness.Ledger, sent []harness.Sent) (a account) {
	arrivals := make(map[uint64]int)
	for _, batch := range ledger.Delivered() {
		for _, id := range batch.IDs {
			if arrivals[id]++; arrivals[id] > 1 {
				a.extra++
			}
		}
	}
	for _, s := range sent {
		if s.Outcome != harness.Acknowledged {
			continue
		}
		a.acknowledged += s.IDs.Items
		for i := range uint64(s.IDs.Items) {
			if arrivals[s.IDs.First+i] > 0 {
				a.arrived++
			}
		}
	}
	return a
}

// requireNothingLost requires that all acknowledged items have arrived, as often as they may: agents and receivers repeat
// what they have no answer to. Nothing has been altered, and nothing arrived that was not sent.
func requireNothingLost(tb testing.TB, backend *harness.Backend, l *load) {
	tb.Helper()
	for _, signal := range signals {
		sent := l.journals[signal].Sent()
		a := reckon(backend.Ledger(signal), sent)
		progress(tb, "%s: %v", signal.Name(), a)
		require.NotZero(tb, a.acknowledged, signal.Name())
		require.Equal(tb, a.acknowledged, a.arrived, "%s: %v", signal.Name(), a)
		for i := range sent {
			sent[i].Attempts = math.MaxInt
		}
		require.NoError(tb, backend.Ledger(signal).Check(sent), signal.Name())
	}
}
