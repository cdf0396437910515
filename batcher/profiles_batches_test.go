package batcher_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/pdata/pprofile"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
	"github.com/boundedbatch/boundedbatchprocessor/batcher/batchertest"
)

// A profile is never cut. One that exceeds a limit travels alone; its neighbours do not, and
// everything arrives in order.
func TestProfileThatExceedsALimitTravelsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for seed := range uint64(60) {
			random := rand.New(rand.NewPCG(seed, 31))
			set := defaults()
			set.MaxConcurrentExports = 1
			set.WaitForResult = seed%2 == 1
			if seed%3 == 0 {
				set.SendBatchSize, set.SendBatchMaxSize = 1, 1 // two samples are too many
			} else {
				set.SendBatchMaxBytes = encoded(profileKind, 0, 1+random.IntN(3))
			}
			r := newRig(t, profileKind, set, nil)
			for r.next < 60 {
				r.send(min(1+random.IntN(20), 60-r.next))
			}
			r.stop()
			r.inOrder()
			oversized := int64(0)
			for _, b := range r.sink.Batches() {
				if set.SendBatchMaxSize > 0 && len(b.IDs) > set.SendBatchMaxSize || set.SendBatchMaxBytes > 0 && b.Bytes > set.SendBatchMaxBytes {
					require.True(t, batchertest.SameProfile(b.IDs...), "%v", b.IDs)
					oversized++
				}
			}
			require.Positive(t, oversized)
			require.Equal(t, oversized, r.Stats().Oversized)
			require.Zero(t, r.Stats().Dropped[batcher.DroppedItemTooLarge])
		}
	})
}

// profilesWith returns profiles with so many samples each.
func profilesWith(samples ...int) *batcher.ProfilesData {
	pd := pprofile.NewProfiles()
	all := pd.ResourceProfiles().AppendEmpty().ScopeProfiles().AppendEmpty().Profiles()
	for _, n := range samples {
		p := all.AppendEmpty()
		for range n {
			p.Samples().AppendEmpty().Values().Append(1)
		}
	}
	return batcher.NewProfilesData(pd)
}

// sizesOf starts a batcher whose batches' sizes are told.
func sizesOf(t *testing.T, set batcher.Settings) (*batcher.Batcher[*batcher.ProfilesData], *[]int) {
	t.Helper()
	sizes := new([]int)
	var mu sync.Mutex // guards them
	b, err := batcher.New(batcher.Profiles(), set, func(_ context.Context, p *batcher.ProfilesData) error {
		mu.Lock()
		*sizes = append(*sizes, p.Profiles().SampleCount())
		mu.Unlock()
		time.Sleep(time.Millisecond)
		return nil
	})
	require.NoError(t, err)
	require.NoError(t, b.Start())
	return b, sizes
}

// A profile with more samples than may be held at all can never be admitted. It is lost
// alone, and whoever sent it is told.
func TestProfileThatExceedsTheBudgetIsLostAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, waits := range []bool{false, true} {
			set := defaults()
			set.QueueSize, set.SendBatchSize, set.MaxConcurrentExports, set.WaitForResult = 50, 20, 1, waits
			var reported tooLargeEvents
			set.Observer = &reported
			b, sizes := sizesOf(t, set)
			err := b.Consume(t.Context(), profilesWith(5, 51, 7, 50, 60, 1))
			require.ErrorIs(t, err, batcher.ErrItemTooLarge)
			require.True(t, consumererror.IsPermanent(err))
			require.EqualError(t, err, "Permanent error: items too large: 111 of 174 items are in profiles that exceed queue_size (50) each, the largest has 60 items")
			require.Equal(t, 111, reported[0][0])
			require.NoError(t, b.Shutdown(t.Context()))
			require.Equal(t, []int{5, 7, 50, 1}, *sizes)
			s := b.Stats()
			require.EqualValues(t, 111, s.Dropped[batcher.DroppedItemTooLarge])
			require.EqualValues(t, 174, s.Accepted)
			require.Zero(t, s.Held)
			checkIdentity(t, s)
		}
	})
}

// A request larger than the budget gets in piece by piece, also where one of its profiles
// needs more room than a piece usually gets, and others hold some of it.
func TestLargeProfilesAreAdmittedPieceByPiece(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, keys := range [][]string{nil, {"tenant"}} {
			set := defaults()
			set.QueueSize, set.SendBatchSize, set.SendBatchMaxSize, set.MaxConcurrentExports = 100, 10, 10, 2
			set.MetadataKeys = keys
			b, sizes := sizesOf(t, set)
			other := make(chan error, 1)
			go func() {
				for range 40 {
					if err := b.Consume(t.Context(), profilesWith(9)); err != nil {
						other <- err
						return
					}
				}
				other <- nil
			}()
			require.NoError(t, b.Consume(t.Context(), profilesWith(90, 5, 3, 100, 40, 1, 1, 70, 8, 90)))
			require.NoError(t, <-other)
			require.NoError(t, b.Shutdown(t.Context()))
			total := 0
			for _, n := range *sizes {
				total += n
			}
			require.Equal(t, 408+360, total)
			require.EqualValues(t, 5, b.Stats().Oversized)
		}
	})
}

// What a caller withdraws leaves the size of its batch, where it has been merged with the others,
// and takes no more heap than what is left.
func TestWithdrawnProfilesHaveNoSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := defaults()
		set.WaitForResult, set.SendBatchMaxBytes, set.MemoryLimit = true, 20_000, 1<<20
		set.SendBatchSize, set.QueueSize = 2000, 2000
		r := newRig(t, profileKind, set, nil)
		leaves := func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			require.ErrorIs(t, <-r.goTry(ctx, 1), context.DeadlineExceeded)
			require.NoError(t, r.Check())
		}
		leaves()
		require.Zero(t, r.Stats().HeldBytes)
		kept := r.goTry(t.Context(), 5)
		synctest.Wait()
		held := r.Stats().HeldBytes
		most := held
		for range 500 { // in what is left of a second
			leaves()
			s := r.Stats()
			require.EqualValues(t, 5, s.Held)
			most = max(most, s.HeldBytes)
		}
		require.Greater(t, most, held)
		require.LessOrEqual(t, most, 2*held)
		last := r.goTry(t.Context(), 5)
		require.NoError(t, <-kept)
		require.NoError(t, <-last)
		require.NoError(t, r.Shutdown(t.Context()))
		require.Equal(t, []int{10}, r.sink.Sizes(), "no batch was full")
	})
}

// A sender whose dictionary begins with entries that are not empty gets batches within the limit,
// too: such a dictionary grows when something is merged into it.
func TestOddDictionariesKeepTheByteLimit(t *testing.T) {
	for seed := range uint64(50) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 41))
			set := defaults()
			set.SendBatchSize, set.SendBatchMaxBytes, set.WaitForResult = 1000, 500+random.IntN(8000), seed%3 == 0
			set.QueueSize, set.MaxConcurrentExports = 10_000, 1
			samples, arrived := 0, 0
			b, err := batcher.New(batcher.Profiles(), set, func(_ context.Context, p *batcher.ProfilesData) error {
				n := encodedProfiles(t, p)
				arrived += profileKind.Items(p)
				if known := profileKind.Bytes(p); known < n { // duplicates in its string table count, but are not sent
					return fmt.Errorf("%d bytes, %d counted", n, known)
				}
				if profiles := countProfiles(p); n > set.SendBatchMaxBytes && profiles > 1 {
					return fmt.Errorf("%d profiles with %d bytes, limit %d", profiles, n, set.SendBatchMaxBytes)
				}
				return nil
			})
			require.NoError(t, err)
			require.NoError(t, b.Start())
			results := make(chan error, 30)
			for i := range uint64(30) {
				p := newWild(1000*seed + i)
				samples += profileKind.Items(p)
				go func() { results <- b.Consume(t.Context(), p) }()
				synctest.Wait()
				require.NoError(t, b.Check())
			}
			for range 30 {
				require.NoError(t, <-results)
			}
			require.NoError(t, b.Shutdown(t.Context()))
			require.Equal(t, samples, arrived)
		})
	}
}

// countProfiles counts those with samples.
func countProfiles(p *batcher.ProfilesData) (n int) {
	for _, rp := range batcher.Profiles().Copy(p, 0, batcher.Profiles().Resources(p)).Profiles().ResourceProfiles().All() {
		for _, sp := range rp.ScopeProfiles().All() {
			for _, profile := range sp.Profiles().All() {
				if profile.Samples().Len() > 0 {
					n++
				}
			}
		}
	}
	return n
}

// sweep sends requests, which made gives it anew, with every limit in bytes from one on, or from
// that of the largest request, to more than all need. No batch exceeds one.
func sweep(t *testing.T, set batcher.Settings, least int, made func() []*batcher.ProfilesData) {
	t.Helper()
	largest, most, samples := 0, 1000, 0
	for _, p := range made() {
		samples += profileKind.Items(p)
		largest, most = max(largest, encodedProfiles(t, p)), most+encodedProfiles(t, p)
	}
	if least == 0 {
		least = largest
	}
	outcomes := map[string]bool{}
	for limit := least; limit < most; limit += 7 { // what must not happen would for more than that
		synctest.Test(t, func(t *testing.T) {
			set := set
			set.SendBatchMaxBytes = limit
			var sent []*batcher.ProfilesData
			var mu sync.Mutex // guards it
			b, err := batcher.New(batcher.Profiles(), set, func(_ context.Context, p *batcher.ProfilesData) error {
				mu.Lock()
				sent = append(sent, p)
				mu.Unlock()
				time.Sleep(time.Millisecond)
				return nil
			})
			require.NoError(t, err)
			require.NoError(t, b.Start())
			var results []chan error
			for _, p := range made() {
				result := make(chan error, 1)
				results = append(results, result)
				go func() { result <- b.Consume(t.Context(), p) }()
				synctest.Wait()
				require.NoError(t, b.Check())
			}
			for _, result := range results {
				require.NoError(t, <-result)
			}
			require.NoError(t, b.Shutdown(t.Context()))
			arrived, resources := 0, 0
			for _, p := range sent {
				require.Positive(t, profileKind.Items(p))
				resources += profileKind.Resources(p)
				require.LessOrEqual(t, encodedProfiles(t, p), limit, "%d profiles, %d samples", countProfiles(p), profileKind.Items(p))
				arrived += profileKind.Items(p)
			}
			require.Equal(t, samples, arrived, "limit %d, %d batches, %+v", limit, len(sent), b.Stats())
			outcomes[fmt.Sprint(len(sent), " batches, ", resources, " resources")] = true
		})
	}
	require.Greater(t, len(outcomes), 1, "no limit made a difference")
}

// withAttributes returns one profile of one sample with so many attributes, named after it, whose
// indices begin at first.
func withAttributes(name string, n, first int) *batcher.ProfilesData {
	pd := pprofile.NewProfiles()
	d := pd.Dictionary()
	d.StringTable().Append("")
	for range first {
		d.AttributeTable().AppendEmpty()
	}
	sample := pd.ResourceProfiles().AppendEmpty().ScopeProfiles().AppendEmpty().Profiles().AppendEmpty().Samples().AppendEmpty()
	for i := range n {
		a := d.AttributeTable().AppendEmpty()
		a.SetKeyStrindex(int32(d.StringTable().Len()))
		d.StringTable().Append(fmt.Sprint(name, i))
		sample.AttributeIndices().Append(int32(first + i))
	}
	return batcher.NewProfilesData(pd)
}

// The indices of the second request take one byte each in its own dictionary, and two in that of
// the batch.
func TestIndicesThatGrowKeepTheByteLimit(t *testing.T) {
	for _, waits := range []bool{false, true} {
		set := defaults()
		set.WaitForResult = waits
		sweep(t, set, 0, func() []*batcher.ProfilesData {
			return []*batcher.ProfilesData{withAttributes("a", 130, 1), withAttributes("b", 100, 1)}
		})
	}
}

// What is left of a request, or granted of it, joins an open batch, too.
func TestIndicesOfAPieceThatGrowKeepTheByteLimit(t *testing.T) {
	set := defaults()
	set.SendBatchSize, set.QueueSize, set.MaxConcurrentExports = 3, 15, 1
	set.FlushWhenIdle = true // the first request takes the slot
	sweep(t, set, 0, func() []*batcher.ProfilesData {
		large := withAttributes("b", 100, 1)
		for i := range 15 { // more than the budget
			profileKind.Move(withAttributes(fmt.Sprint("c", i), 1, 1), large)
		}
		return []*batcher.ProfilesData{withAttributes("z", 1, 1), withAttributes("a", 130, 1), large}
	})
}

// A dictionary that begins with entries that are not empty has others in front of them as soon as
// something is merged into it.
func TestFirstEntriesThatAreNotEmptyKeepTheByteLimit(t *testing.T) {
	odd := func() *batcher.ProfilesData {
		p := withAttributes("a", 128, 0)
		pd := p.Profiles()
		for range 50 { // times an index that takes a byte more once it is not the last of 128
			pd.ResourceProfiles().At(0).ScopeProfiles().At(0).Profiles().At(0).Samples().At(0).AttributeIndices().Append(127)
		}
		return p
	}
	for _, waits := range []bool{false, true} {
		set := defaults()
		set.WaitForResult = waits
		sweep(t, set, encodedProfiles(t, odd())+60, func() []*batcher.ProfilesData {
			return []*batcher.ProfilesData{odd(), withAttributes("b", 1, 1)}
		})
	}
}

// What has no samples travels along where there is room for it in the dictionary of others.
func TestNamesThatTravelAlongKeepTheByteLimit(t *testing.T) {
	alone := encodedProfiles(t, withAttributes("b", 200, 1))
	sweep(t, defaults(), alone, func() []*batcher.ProfilesData {
		p := withAttributes("b", 200, 1)
		profileKind.Move(withAttributes("a", 130, 1), p)
		profileKind.Move(withAttributes("c", 200, 1), p)
		attributes := p.Profiles().ResourceProfiles().AppendEmpty().Resource().Attributes()
		for i := range 60 {
			attributes.PutStr(fmt.Sprint("k", i), fmt.Sprint("v", i))
		}
		return []*batcher.ProfilesData{p}
	})
}

// A profile without samples that is too large for any batch is left out.
func TestLargeProfileWithoutSamplesMakesNoBatch(t *testing.T) {
	alone := encodedProfiles(t, withAttributes("a", 10, 1))
	for _, before := range []bool{false, true} {
		sweep(t, defaults(), alone, func() []*batcher.ProfilesData {
			hollow := batcher.NewProfilesData(pprofile.NewProfiles())
			profile := hollow.Profiles().ResourceProfiles().AppendEmpty().ScopeProfiles().AppendEmpty().Profiles().AppendEmpty()
			profile.OriginalPayload().FromRaw(make([]byte, 3*alone))
			p := withAttributes("a", 10, 1)
			if before {
				profileKind.Move(p, hollow)
				p = hollow
			} else {
				profileKind.Move(hollow, p)
			}
			return []*batcher.ProfilesData{p}
		})
	}
}

// What requests have in common counts once in a batch, and does not seal it.
func TestCommonDictionaryCountsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := defaults()
		all := withAttributes("a", 130, 1)
		for range 19 {
			profileKind.Move(withAttributes("a", 130, 1), all)
		}
		set.SendBatchMaxBytes = profileKind.Bytes(all) + 1
		b, sizes := sizesOf(t, set)
		for range 20 {
			require.NoError(t, b.Consume(t.Context(), withAttributes("a", 130, 1)))
		}
		require.NoError(t, b.Shutdown(t.Context()))
		require.Equal(t, []int{20}, *sizes)
	})
}

// A request that contradicts itself is refused as a whole, whatever else is going on, and nothing of
// it is changed.
func TestProfilesWithAnIndexThatLeadsNowhereAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := defaults()
		set.ResourceKeys = []string{"team"}
		r := newRig(t, profileKind, set, nil)
		r.send(3)
		bad := profileKind.Make(3, 10)
		pd := bad.Profiles()
		pd.ResourceProfiles().At(0).ScopeProfiles().At(0).Profiles().At(0).Samples().At(0).SetStackIndex(1000)
		before, err := new(pprofile.JSONMarshaler).MarshalProfiles(pd)
		require.NoError(t, err)
		err = r.Consume(t.Context(), bad)
		require.ErrorIs(t, err, batcher.ErrInvalid)
		require.True(t, consumererror.IsPermanent(err))
		require.Equal(t, codes.InvalidArgument, status.Code(err))
		require.ErrorContains(t, err, "invalid request: profile 0 of scope 0 of resource 0 has index 1000 into the stack table, which has ")
		after, err := new(pprofile.JSONMarshaler).MarshalProfiles(bad.Profiles())
		require.NoError(t, err)
		require.JSONEq(t, string(before), string(after))
		s := r.Stats()
		require.EqualValues(t, 10, s.Refused[batcher.RefusedInvalid])
		require.EqualValues(t, 3, s.Accepted)
		r.stop()
	})
}
