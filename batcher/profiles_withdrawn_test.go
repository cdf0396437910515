package batcher_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
)

// minimal is p with just what its profiles refer to in its dictionary.
func minimal(p *batcher.ProfilesData) *batcher.ProfilesData {
	n := profileKind.Resources(p)
	p.Profiles().ResourceProfiles().AppendEmpty() // a copy of everything would be one of the whole dictionary
	return profileKind.Copy(p, 0, n)
}

// Requests are merged with others that can be withdrawn. What those brought into the dictionary is
// not sent, although others may have used it; and without it the batch is not larger than it was.
func TestWithdrawnProfilesLeaveNothingBehind(t *testing.T) {
	seeds := uint64(60)
	if batcher.RaceEnabled {
		seeds = 6
	}
	for seed := range seeds {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 51))
			set := defaults()
			set.Timeout, set.SendBatchSize = time.Hour, 10_000
			set.SendBatchMaxBytes, set.WaitForResult = 1000+random.IntN(10_000), true
			set.MaxConcurrentExports, set.QueueSize = 1, 100_000
			if seed%2 == 0 {
				set.MemoryLimit = 16 << 20
			}
			arrived := map[int]int{}
			b, err := batcher.New(batcher.Profiles(), set, func(_ context.Context, p *batcher.ProfilesData) error {
				counted := profileKind.Bytes(p)
				n := encodedProfiles(t, p)
				assert.Equal(t, n, counted, "seed %d", seed)
				if countProfiles(p) > 1 {
					assert.LessOrEqual(t, n, set.SendBatchMaxBytes, "seed %d", seed)
				}
				requireMinimal(t, p)
				ids, err := profileKind.IDs(p)
				for _, id := range ids {
					arrived[id]++
				}
				return err
			})
			require.NoError(t, err)
			require.NoError(t, b.Start())

			type request struct {
				first, items int
				cancel       context.CancelFunc
				result       chan error
			}
			var all []*request
			next := 0
			for range 120 {
				r := &request{first: next, items: 1 + random.IntN(5), result: make(chan error, 1)}
				next += r.items
				var ctx context.Context
				ctx, r.cancel = context.WithCancel(t.Context())
				data := minimal(profileKind.Make(r.first, r.items))
				go func() { r.result <- b.Consume(ctx, data) }()
				all = append(all, r)
				synctest.Wait()
				for random.IntN(3) == 0 { // of those that wait, or have left
					all[max(0, len(all)-1-random.IntN(20))].cancel()
					synctest.Wait()
				}
				require.NoError(t, b.Check())
			}
			require.NoError(t, b.Shutdown(t.Context()))
			withdrawn := b.Stats().Dropped[batcher.DroppedCanceled]
			require.Positive(t, withdrawn)
			checkIdentity(t, b.Stats())
			require.Zero(t, b.Stats().HeldBytes)
			missing := int64(0)
			for _, r := range all {
				err := <-r.result
				r.cancel()
				for id := r.first; id < r.first+r.items; id++ {
					require.LessOrEqual(t, arrived[id], 1)
					if arrived[id] == 0 {
						require.Error(t, err)
						missing++
					}
				}
			}
			require.Equal(t, withdrawn, missing)
		})
	}
}
