package batcher_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/client"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/consumer/consumererror/xconsumererror"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
	"github.com/boundedbatch/boundedbatchprocessor/batcher/batchertest"
)

func TestRandomTrafficKeepsEveryPromiseConcurrentSafe(t *testing.T) {
	each(t, testRandom, testRandom, testRandom, testRandom)
}

// seeds gives every run of a stress test other seeds, also under -count.
var seeds atomic.Uint64

// Random settings; callers with random requests that give up now and then, and some of
// them wait for the outcome; a downstream that accepts, dawdles, refuses everything or some
// items, for good or not, names what it refused, hangs and dies; a shutdown at any moment.
func testRandom[T any](t *testing.T, kind batchertest.Kind[T]) {
	rounds := 3
	if kind.Name() == "profiles" { // to check them takes three times as long
		rounds = 1
	}
	for range rounds {
		runRandom(t, kind, seeds.Add(1))
	}
}

// someSettings picks small bounds, so that they are reached. It makes every choice, whether that matters
// or not, so that each has its place.
func someSettings(choose batcher.Choices) batcher.Settings {
	oneIn := func(n int) bool { return choose.IntN(n) == 0 }
	set := batcher.Settings{
		Timeout:              time.Duration(choose.IntN(4)) * 10 * time.Millisecond,
		SendBatchSize:        choose.IntN(40),
		BlockOnOverflow:      !oneIn(3),
		MaxConcurrentExports: 1 + choose.IntN(4),
		ExportTimeout:        50 * time.Millisecond,
		ShutdownTimeout:      time.Duration(choose.IntN(3)) * 40 * time.Millisecond,
		WaitForResult:        !oneIn(2),
		FlushWhenIdle:        !oneIn(2),
		NextMutates:          choose.IntN(3) == 2,
		MergeResources:       choose.IntN(3) == 2,
	}
	set.QueueSize = max(1, set.SendBatchSize) + choose.IntN(80)
	if retries, long := !oneIn(2), oneIn(2); retries {
		set.Retry = batcher.Retry{
			Enabled: true, InitialInterval: 10 * time.Millisecond, Multiplier: 2, RandomizationFactor: 0.5,
			MaxInterval: 40 * time.Millisecond, MaxElapsedTime: 200 * time.Millisecond,
		}
		if long {
			set.Retry.MaxElapsedTime = 0
		}
	}
	if limited, more := !oneIn(2), choose.IntN(20); limited {
		set.SendBatchMaxSize = max(1, set.SendBatchSize) + more
	}
	if unlimited, most := choose.IntN(3) < 2, choose.IntN(5000); !unlimited {
		set.SendBatchMaxBytes = 100 + most
	}
	if unlimited, most := choose.IntN(3) < 2, choose.IntN(100_000); !unlimited {
		set.MemoryLimit = 500 + most
	}
	keys, live, exports := choose.IntN(6), choose.IntN(4), choose.IntN(set.MaxConcurrentExports+1)
	if keys < 3 {
		return set
	}
	set.MetadataCardinalityLimit, set.MaxConcurrentExportsPerPartition = live, exports
	if keys != 4 {
		set.MetadataKeys = []string{"tenant"}
	}
	if keys != 3 {
		set.ResourceKeys = []string{"team"}
	}
	return set
}

func runRandom[T any](t *testing.T, kind batchertest.Kind[T], seed uint64) {
	random := rand.New(rand.NewPCG(seed, 11))
	set := someSettings(random)
	name := fmt.Sprintf("seed %d: %+v", seed, set)
	hostile := random.IntN(4) > 0

	var r *rig[T]
	var mu sync.Mutex // guards downstream
	downstream := rand.New(rand.NewPCG(seed, 12))
	check := func() {
		if err := r.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	ready := newGate()
	r = newRig(t, kind, set, func(b batchertest.Batch) error {
		<-ready
		mu.Lock()
		what, pause := downstream.IntN(12), time.Duration(downstream.IntN(20))*time.Millisecond
		mu.Unlock()
		check()
		select {
		case <-time.After(pause):
		case <-b.Ctx.Done(): // by export_timeout or shutdown
			return b.Ctx.Err()
		}
		if !hostile {
			return nil
		}
		if err := poison(b.IDs[0]/50*50 + 7)(b); err != nil {
			return err // some items are refused whenever they come
		}
		switch what {
		case 0:
			return errRefused
		case 1:
			return consumererror.NewPermanent(errRefused)
		case 2:
			<-b.Ctx.Done()
			return b.Ctx.Err()
		case 4:
			return kind.Partial(errRefused, kind.Make(b.IDs[len(b.IDs)/2], 1))
		case 5:
			return consumererror.NewPermanent(kind.Partial(errRefused, kind.Make(b.IDs[0], 1)))
		case 3:
			defer runtime.Goexit() // see TestSlotOfADyingExportGoesOn
			panic("downstream")
		}
		return nil
	})
	ready.open()

	const producers = 5
	var all sync.WaitGroup
	accepted := make([]map[int]int, producers) // item to tenant
	refused := make([][]int, producers)
	unknown := make([]map[int]int, producers) // the outcome was an error: item to tenant
	for p := range producers {
		accepted[p], unknown[p] = map[int]int{}, map[int]int{}
		random := rand.New(rand.NewPCG(seed, uint64(100+p)))
		all.Go(func() {
			next := 100_000 * p
			for range 40 {
				n := 1 + random.IntN(30)
				if random.IntN(10) == 0 {
					n = 1 + random.IntN(300)
				}
				who := random.IntN(6)
				ctx := client.NewContext(t.Context(), client.Info{Metadata: client.NewMetadata(map[string][]string{"tenant": {fmt.Sprint(who)}})})
				cancel := context.CancelFunc(func() {})
				if random.IntN(3) == 0 {
					ctx, cancel = context.WithTimeout(ctx, time.Duration(random.IntN(30))*time.Millisecond)
				}
				err := r.Consume(ctx, kind.Make(next, n))
				cancel()
				check()
				kept := map[int]bool{}
				for id := next; id < next+n; id++ {
					kept[id] = err == nil || errors.Is(err, batcher.ErrItemTooLarge)
				}
				if err != nil {
					if isPartial(err) {
						for id := range kept {
							kept[id] = true
						}
						for _, id := range partial(t, kind, err) {
							kept[id] = false
						}
					}
					if !set.WaitForResult && consumererror.IsPermanent(err) != (errors.Is(err, batcher.ErrTooLarge) || errors.Is(err, batcher.ErrItemTooLarge)) {
						t.Errorf("%s: %v", name, err)
					}
				}
				for id, is := range kept {
					switch {
					case is && (err == nil || !set.WaitForResult):
						accepted[p][id] = who
					case set.WaitForResult:
						unknown[p][id] = who
					default:
						refused[p] = append(refused[p], id)
					}
				}
				next += n
				time.Sleep(time.Duration(random.IntN(5)) * time.Millisecond)
			}
		})
	}
	if random.IntN(2) == 0 {
		all.Wait()
	} else {
		time.Sleep(time.Duration(random.IntN(200)) * time.Millisecond)
	}
	shutdown := r.Shutdown(t.Context())
	all.Wait()
	synctest.Wait()

	s := r.Stats()
	checkIdentity(t, s)
	require.Zero(t, s.Held, name)
	require.Zero(t, s.HeldBytes, name)
	require.Zero(t, r.Partitions(), name)
	got := r.sink.Delivered()
	require.Len(t, got, int(s.Delivered), name)
	total, lost := 0, 0
	for p := range producers {
		total += len(accepted[p])
		for id := range accepted[p] {
			if set.WaitForResult {
				require.Equal(t, 1, got[id], "%s: item %d has the outcome nil", name, id)
			}
			require.LessOrEqual(t, got[id], 1, "%s: item %d", name, id)
			if got[id] == 0 {
				lost++
			}
		}
		for id := range unknown[p] {
			require.LessOrEqual(t, got[id], 1, "%s: item %d", name, id)
		}
		for _, id := range refused[p] {
			require.Zero(t, got[id], "%s: item %d was refused", name, id)
		}
	}
	failed := int64(0)
	for _, n := range s.Failed {
		failed += n
	}
	require.Equal(t, s.Accepted, s.Delivered+failed+s.Dropped[batcher.DroppedShutdown]+s.Dropped[batcher.DroppedCanceled]+s.Dropped[batcher.DroppedItemTooLarge], name)
	if !set.WaitForResult {
		require.EqualValues(t, s.Accepted, total, name)
		require.EqualValues(t, failed+s.Dropped[batcher.DroppedShutdown]+s.Dropped[batcher.DroppedItemTooLarge], lost, name)
	}
	if shutdown == nil {
		require.Zero(t, s.Dropped[batcher.DroppedShutdown], name)
	}
	require.LessOrEqual(t, r.sink.MostAtOnce(), set.MaxConcurrentExports, name)
	oversized := 0
	for _, b := range r.sink.Batches() {
		one, err := batchertest.CheckBatch(kind.Name(), &set, b, func(id int) string {
			who, known := accepted[id/100_000][id]
			if !known {
				who = unknown[id/100_000][id]
			}
			return fmt.Sprint(who)
		})
		require.NoError(t, err, name)
		if one {
			oversized++
		}
	}
	if !hostile && shutdown == nil { // nothing was sent twice, or not at all
		require.EqualValues(t, oversized, s.Oversized, name)
	}
}

func isPartial(err error) bool {
	var td consumererror.Traces
	var ld consumererror.Logs
	var md consumererror.Metrics
	var pd xconsumererror.Profiles
	return errors.As(err, &td) || errors.As(err, &ld) || errors.As(err, &md) || errors.As(err, &pd)
}
