package pooling

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/featuregate"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/boundedbatch/boundedbatchprocessor/e2e/internal/harness"
)

// poolingGate makes the Collector reuse the memory of pdata.
const poolingGate = "pdata.useProtoPooling"

func TestMain(m *testing.M) {
	if err := featuregate.GlobalRegistry().Set(poolingGate, true); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

const (
	poisonous   = 60 // requests of all signals together
	senders     = 12 // per signal, of what is not poisonous
	largest     = 8  // items of a request
	failEvery   = 50 // exports; one of so many is refused for now
	sendTimeout = 2 * time.Minute

	// The backend refuses items from here on for good, of each signal from a power of two
	// of its own on.
	firstPoison  = 1 << 40
	poisonStride = 1 << 32
)

// Every item of 12,000 requests arrives intact and exactly once, however often its memory
// has been somebody else's, while batches are cut, repeated, and searched for what the
// backend refuses.
func TestPooledItemsArriveIntactExactlyOnce(t *testing.T) {
	for _, tt := range []struct {
		waiting  bool
		mutates  bool // the exporter, so that the processor copies what it may have to repeat
		divided  bool // by the tenants in it, of which a request has one or two
		merged   bool // what is equal in it is one
		requests int  // of all signals together
	}{
		{waiting: false, requests: 12_000},
		{waiting: true, requests: 12_000},
		{waiting: false, mutates: true, requests: 3_000},
		{waiting: true, mutates: true, requests: 3_000},
		{waiting: false, divided: true, requests: 3_000},
		{waiting: true, divided: true, requests: 3_000},
		{waiting: false, merged: true, requests: 3_000},
		{waiting: true, merged: true, requests: 3_000},
		{waiting: true, merged: true, mutates: true, requests: 3_000},
	} {
		t.Run(fmt.Sprintf("waiting=%t/mutates=%t/divided=%t/merged=%t", tt.waiting, tt.mutates, tt.divided, tt.merged), func(t *testing.T) {
			keys := "[]"
			if tt.divided {
				keys = "[" + harness.TenantKey + "]"
			}
			backend := harness.NewBackend(t)
			j := newJudge()
			backend.Judge(j.verdict)
			address, stop := startCollector(t, fmt.Sprintf(
				"{wait_for_result: %t, timeout: 20ms, send_batch_size: 60, send_batch_max_size: 70, resource_keys: %s, "+
					"merge_resources: %t, retry_on_failure: {enabled: true, initial_interval: 2ms, max_interval: 10ms}}",
				tt.waiting, keys, tt.merged),
				sink{backend: backend, mutates: tt.mutates})

			ctx, cancel := context.WithTimeout(t.Context(), sendTimeout)
			var sending sync.WaitGroup
			defer sending.Wait()
			defer cancel()
			journals := make(map[harness.Signal][]*harness.Journal)
			for i, signal := range harness.StableSignals() { // the exporter here takes no others
				good, poison := new(harness.Journal), harness.NewJournal(firstPoison+uint64(i)*poisonStride)
				journals[signal] = []*harness.Journal{good, poison}
				left := new(atomic.Int64)
				left.Store(int64(tt.requests-poisonous) / 3)
				for k := range senders {
					client := harness.NewGRPCClient(t, address, nil)
					rng := rand.New(rand.NewPCG(uint64(i), uint64(k)))
					sending.Go(func() {
						for left.Add(-1) >= 0 {
							ids := good.Take(1 + rng.IntN(largest))
							if err := client.Send(ctx, signal, ids); err != nil {
								t.Errorf("%s request with items %v: %v", signal.Name(), ids, err)
								return
							}
							good.Note(ids, harness.Acknowledged)
						}
					})
				}
				client := harness.NewGRPCClient(t, address, nil)
				sending.Go(func() { sendPoison(ctx, t, client, signal, poison, tt.waiting, j.alone[i]) })
			}
			sending.Wait()
			stop()

			for _, signal := range harness.StableSignals() {
				ledger := backend.Ledger(signal)
				var sent []harness.Sent
				for _, journal := range journals[signal] {
					sent = append(sent, journal.Sent()...)
				}
				require.NoError(t, ledger.Check(sent), signal.Name())
				t.Logf("%s: %d requests in %d batches, %d others were refused", signal.Name(),
					len(sent), len(ledger.Delivered()), len(ledger.Refused()))
				assert.Len(t, sent, tt.requests/3)
				assert.Greater(t, len(ledger.Refused()), poisonous/3)
			}
			assert.Greater(t, j.exports.Load(), int64(2*failEvery))
		})
	}
}

// judge is what the backend answers with.
type judge struct {
	exports atomic.Int64
	alone   [3]chan struct{} // sent to when the poison of a signal was refused alone
}

func newJudge() *judge {
	j := new(judge)
	for i := range j.alone {
		j.alone[i] = make(chan struct{}, poisonous)
	}
	return j
}

func (j *judge) verdict(ids []uint64) error {
	if j.exports.Add(1)%failEvery == 0 {
		return status.Error(codes.Unavailable, "not this one, not now")
	}
	if !slices.ContainsFunc(ids, func(id uint64) bool { return id >= firstPoison }) {
		return nil
	}
	if len(ids) == 1 {
		j.alone[(ids[0]-firstPoison)/poisonStride] <- struct{}{}
	}
	return consumererror.NewPermanent(status.Error(codes.InvalidArgument, "poison"))
}

// sendPoison sends requests that the backend refuses, one after the other, so that there
// is never more than one of them in a batch: the processor would take two for a backend
// that refuses everything.
func sendPoison(
	ctx context.Context, t *testing.T, client harness.Client, signal harness.Signal, journal *harness.Journal,
	waiting bool, alone <-chan struct{},
) {
	t.Helper()
	for range poisonous / 3 {
		ids := journal.Take(1)
		want := codes.OK
		if waiting {
			want = codes.InvalidArgument
		}
		err := client.Send(ctx, signal, ids)
		assert.Equal(t, want, status.Code(err), "%v", err)
		journal.Note(ids, harness.Refused)
		select {
		case <-alone:
		case <-ctx.Done():
			t.Errorf("poison %v of %s has not been found", ids, signal.Name())
			return
		}
	}
}
