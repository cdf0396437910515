package e2e

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/boundedbatch/boundedbatchprocessor/e2e/internal/harness"
)

// pusher sends requests one after the other until it is told to stop.
type pusher struct {
	client  harness.Client
	signal  harness.Signal
	journal *harness.Journal
	rng     *rand.Rand
	largest int // items in a request

	waits atomic.Pointer[harness.Range] // the request that has no answer yet
}

// push returns when a request is answered after stop was closed. Every answer must be an
// acknowledgement.
func (p *pusher) push(t *testing.T, stop <-chan struct{}) {
	t.Helper()
	for {
		ids := p.journal.Take(harness.Size(p.rng, p.largest))
		p.waits.Store(&ids)
		if err := send(t.Context(), p.client, p.signal, ids); err != nil {
			t.Errorf("request with items %v: %v", ids, err)
			p.journal.Note(ids, harness.Unknown)
			return
		}
		p.journal.Note(ids, harness.Acknowledged)
		select {
		case <-stop:
			return
		default:
		}
	}
}

// While the backend hangs, senders that never stop cannot make a collector hold more than
// memory_limit says, nor the live heap grow by more than that and a tenth. Two things are not
// the processor's and come on top. What the receiver has decoded for senders that wait: there
// are four, the test knows which request each of them has sent, and measures what that takes
// by decoding it too. And what the exporter has encoded and cannot send, if the backend does
// not even read: no more than a full batch for each export under way.
func TestHeapStaysWithinTheMemoryLimitWhileTheBackendHangs(t *testing.T) {
	for _, tt := range []struct {
		name string
		hang func(*harness.Backend)
		// sent tells if exports that hang have been sent in full.
		sent    bool
		first   uint64 // identity
		largest int    // items in a request
	}{
		{name: "small items", hang: (*harness.Backend).Hold, sent: true, first: 0, largest: 1000},
		{name: "items from 10 B to 1 MiB", hang: (*harness.Backend).Hold, sent: true, first: harness.Bulky, largest: 15},
		{name: "backend that does not read", hang: (*harness.Backend).Stall, first: harness.Bulky, largest: 15},
	} {
		for _, signal := range harness.Signals() {
			t.Run(tt.name+"/"+signal.Name(), func(t *testing.T) {
				const limit = 64 << 20
				backend := harness.NewLimitedBackend(t)
				col := harness.Start(t, harness.Config{
					Backend: backend, Profile: true, MaxRequestMiB: maxRequestMiB,
					Processor: fmt.Sprintf("{queue_size: 10000000, memory_limit: 64MiB, send_batch_max_bytes: %d}", harness.MessageLimit),
				})

				// The base is an idle collector to which all clients are connected.
				journal := harness.NewJournal(tt.first)
				greetings := harness.NewJournal(1 << 39)
				pushers := make([]*pusher, 4)
				for i := range pushers {
					pushers[i] = &pusher{
						client: col.GRPC(t, nil), signal: signal, journal: journal,
						rng: rand.New(rand.NewPCG(3, uint64(i))), largest: tt.largest,
					}
					ids := greetings.Take(10)
					require.NoError(t, send(t.Context(), pushers[i].client, signal, ids))
					greetings.Note(ids, harness.Acknowledged)
				}
				col.AwaitItems(t, 0, signal, "held_items")
				base, err := col.LiveHeap(t.Context())
				require.NoError(t, err)

				tt.hang(backend)
				mostHeld := int64(0) // belongs to the watch until it has stopped
				check := func(s harness.Scrape) error {
					mostHeld = max(mostHeld, s.Sum(signal, "held_bytes"))
					if capacity := s.Sum(signal, "capacity_bytes"); capacity != limit {
						return fmt.Errorf("capacity_bytes is %d instead of %d", capacity, limit)
					}
					return s.Bounds(signal) // held <= capacity
				}
				stopWatch := col.Watch(t, check)
				stop := make(chan struct{})
				var pushing sync.WaitGroup
				for _, p := range pushers {
					pushing.Go(func() { p.push(t, stop) })
				}
				// Until all wait, and all that is held is where it stays: in exports that hang, or
				// sealed behind them.
				var exports int
				col.AwaitMetrics(t, func(s harness.Scrape) error {
					exports = int(s.Sum(signal, "exports_in_flight"))
					waiting, pending := s.Sum(signal, "waiting_callers"), s.Sum(signal, "held_items", "state", "pending")
					arrived := backend.Ledger(signal).Waiting()
					if int(waiting) != len(pushers) || pending > 0 || tt.sent && arrived != exports {
						return fmt.Errorf("%d callers wait, %d of %d exports have arrived, %d items are pending",
							waiting, arrived, exports, pending)
					}
					return nil
				})

				// Without scrapes: they leave garbage, which counts if it is made while the heap is
				// measured.
				scrapes := stopWatch()
				others := 0 // bytes that are not the processor's
				for _, p := range pushers {
					others += signal.DecodedHeap(*p.waits.Load())
				}
				if !tt.sent {
					others += exports * harness.MessageLimit
				}
				for range 3 {
					live, err := col.LiveHeap(t.Context())
					require.NoError(t, err)
					s, err := col.Scrape(t.Context())
					require.NoError(t, err)
					require.EqualValues(t, len(pushers), s.Sum(signal, "waiting_callers"))
					t.Logf("alive: base %.1f MiB, others at most %.1f MiB, and %.3f of memory_limit, of which %.3f are held; %d exports hang",
						mebibytes(base), mebibytes(others), float64(live-base-others)/limit,
						float64(s.Sum(signal, "held_bytes"))/limit, exports)
					assert.LessOrEqual(t, live, base+others+limit*11/10)
				}

				stopWatch = col.Watch(t, check)
				backend.Accept()
				close(stop)
				pushing.Wait()
				col.AwaitItems(t, 0, signal, "held_bytes")
				col.AwaitItems(t, int64(journal.Taken()+greetings.Taken()), signal, "delivered_items")
				scrapes += stopWatch()
				t.Logf("%d scrapes, the most held were %.3f of memory_limit", scrapes, float64(mostHeld)/limit)
				require.NoError(t, backend.Ledger(signal).Check(append(journal.Sent(), greetings.Sent()...)))
				assert.Zero(t, backend.TooLarge())
				live, err := col.LiveHeap(t.Context())
				require.NoError(t, err)
				assert.LessOrEqual(t, live, base+limit/10, "the memory is free again")
				col.Stop(t)
			})
		}
	}
}

func mebibytes(bytes int) float64 { return float64(bytes) / (1 << 20) }
