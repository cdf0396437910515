package batcher_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
	"github.com/boundedbatch/boundedbatchprocessor/batcher/batchertest"
)

// everything asks for all that there is.
func everything(order batcher.Order) batcher.Query {
	return batcher.Query{Order: order, Partitions: batcher.MostListed, Exports: batcher.MostListed}
}

// look takes a snapshot with everything in it, in which the parts agree with the whole.
func look[T any](r *rig[T]) batcher.Snapshot {
	r.t.Helper()
	s, err := r.Snapshot(context.Background(), everything(batcher.ByHeld))
	require.NoError(r.t, err)
	checkIdentity(r.t, s.Stats)
	var of batcher.Stats
	for _, p := range s.Partitions {
		of.Held += int64(p.Held)
		of.Pending += int64(p.Pending)
		of.Sealed += int64(p.Sealed)
		of.InFlight += int64(p.InFlight)
		of.Retrying += int64(p.Retrying)
		of.HeldBytes += int64(p.HeldBytes)
		of.ExportsInFlight += int64(p.Exports)
	}
	is := s.Stats
	require.Equal(r.t, batcher.Stats{
		Held: is.Held, Pending: is.Pending, Sealed: is.Sealed, InFlight: is.InFlight, Retrying: is.Retrying, HeldBytes: is.HeldBytes,
		ExportsInFlight: is.ExportsInFlight,
	}, of)
	require.Len(r.t, s.Partitions, s.Remembered)
	return s
}

// newPlain starts a batcher of what is good for nothing but to be counted. Everything is delivered at once.
func newPlain(t *testing.T, set batcher.Settings) *rig[plog.Logs] {
	t.Helper()
	b, err := batcher.New(batcher.Logs(), set, func(context.Context, plog.Logs) error { return nil })
	require.NoError(t, err)
	require.NoError(t, b.Start())
	return &rig[plog.Logs]{Batcher: b, t: t}
}

// named is what the partition of a tenant is called.
func named(tenant string) batcher.Name {
	return batcher.Name{Keys: []batcher.KeyValues{{Key: "tenant", Set: true, Values: []string{tenant}}}}
}

func TestSnapshotTellsWhatEachTenantHolds(t *testing.T) {
	each(t, testSnapshotOfTenants, testSnapshotOfTenants, testSnapshotOfTenants, testSnapshotOfTenants)
}

func testSnapshotOfTenants[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := defaults()
	set.MetadataKeys = []string{"Tenant"}
	set.MaxConcurrentExportsPerPartition = 1
	set.MemoryLimit = 1 << 30
	gate := newGate()
	r := newRig(t, kind, set, gate.held)
	send := func(who string, items int) { require.NoError(t, r.try(tenant(who), items)) }
	require.Equal(t, batcher.Stats{Capacity: 1000, CapacityBytes: 1 << 30}, look(r).Stats)

	send("a", 100)
	time.Sleep(300 * time.Millisecond)
	send("a", 100)
	time.Sleep(300 * time.Millisecond)
	send("a", 30)
	send("b", 7)
	time.Sleep(300 * time.Millisecond)
	s := look(r)
	require.Equal(t, 900*time.Millisecond, s.Oldest)
	require.Zero(t, s.LongestWait)
	require.Nil(t, s.LastFailure)
	require.False(t, s.ShuttingDown)
	require.Equal(t, []batcher.ExportState{
		{Name: named("a"), Items: 100, Trigger: batcher.TriggerSize, Age: 900 * time.Millisecond, Running: 900 * time.Millisecond},
	}, s.Exports)
	require.Equal(t, []batcher.Departure{{Name: named("a"), Trigger: batcher.TriggerSize, Items: 100, Ago: 900 * time.Millisecond}}, s.Recent)
	for i := range s.Partitions {
		require.Positive(t, s.Partitions[i].HeldBytes)
		s.Partitions[i].HeldBytes = 0
	}
	require.Equal(t, []batcher.PartitionState{
		{
			Name: named("a"), Held: 230, Pending: 30, Sealed: 100, InFlight: 100, Oldest: 900 * time.Millisecond, Exports: 1,
			Left: []batcher.Trigger{batcher.TriggerSize},
		},
		{Name: named("b"), Held: 7, Pending: 7, Oldest: 300 * time.Millisecond},
	}, s.Partitions)

	time.Sleep(1100 * time.Millisecond) // at 1.6 s both tick
	s = look(r)
	require.Equal(t, []batcher.ExportState{
		{Name: named("a"), Items: 100, Trigger: batcher.TriggerSize, Age: 2 * time.Second, Running: 2 * time.Second},
		{Name: named("b"), Items: 7, Trigger: batcher.TriggerTimeout, Age: 1400 * time.Millisecond, Running: 400 * time.Millisecond},
	}, s.Exports)
	require.Equal(t,
		batcher.Departure{Name: named("b"), Trigger: batcher.TriggerTimeout, Items: 7, Ago: 400 * time.Millisecond, Age: time.Second},
		s.Recent[0])
	require.Equal(t, 130, s.Partitions[0].Sealed)
	require.Equal(t, []batcher.Trigger{batcher.TriggerTimeout}, s.Partitions[1].Left)
	require.Equal(t, 1400*time.Millisecond, s.Partitions[1].Oldest)

	gate.open()
	time.Sleep(time.Hour)
	s = look(r)
	require.Zero(t, s.Stats.Held)
	require.Zero(t, s.Oldest)
	require.Empty(t, s.Exports)
	require.Empty(t, s.Partitions, "nothing is left of a tenant that holds nothing")
	require.Len(t, s.Recent, 4, "but for why its batches left")
	r.stop()
	require.True(t, look(r).ShuttingDown)
}

func TestSnapshotTellsWhoWaits(t *testing.T) {
	each(t, testSnapshotOfWaiting, testSnapshotOfWaiting, testSnapshotOfWaiting, testSnapshotOfWaiting)
}

func testSnapshotOfWaiting[T any](t *testing.T, kind batchertest.Kind[T]) {
	for _, keys := range [][]string{nil, {"tenant"}} {
		set := defaults()
		set.QueueSize, set.MaxConcurrentExports, set.MetadataKeys = 100, 1, keys
		gate := newGate()
		r := newRig(t, kind, set, gate.held)
		require.NoError(t, r.try(tenant("a"), 80)) // leaves to fill nothing, and to who waits no room
		for range 2 {
			r.goTry(tenant("a"), 50)
			time.Sleep(time.Second)
		}
		time.Sleep(time.Second)
		s := look(r)
		require.EqualValues(t, 2, s.Stats.WaitingCallers)
		require.Equal(t, 3*time.Second, s.LongestWait)
		require.Len(t, s.Partitions, 1)
		require.Equal(t, 2, s.Partitions[0].Waiting)
		require.Equal(t, 3*time.Second, s.Partitions[0].LongestWait)
		require.Len(t, s.Partitions[0].Name.Keys, len(keys))
		gate.open()
		time.Sleep(time.Hour)
		s = look(r)
		require.Zero(t, s.Stats.WaitingCallers)
		require.Zero(t, s.LongestWait)
		r.stop()
	}
}

func TestSnapshotTellsWhatFailedAndIsSentAgain(t *testing.T) {
	each(t, testSnapshotOfFailures, testSnapshotOfFailures, testSnapshotOfFailures, testSnapshotOfFailures)
}

func testSnapshotOfFailures[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := retrying()
	set.MetadataKeys = []string{"tenant"}
	long := strings.Repeat("x", 2000)
	r := newRig(t, kind, set, func(b batchertest.Batch) error {
		switch {
		case nameIn(b.Ctx) == "b":
			return consumererror.NewPermanent(fmt.Errorf("never: %s", long))
		case b.Number == 0:
			return errRefused
		}
		return nil
	})
	require.NoError(t, r.try(tenant("a"), 100))
	time.Sleep(500 * time.Millisecond)
	s := look(r)
	require.Equal(t, &batcher.Failure{
		Name: named("a"), Cause: batcher.FailedRetryable, Fate: batcher.FateRetried, Items: 100, Error: errRefused.Error(), Ago: 500 * time.Millisecond,
	}, s.LastFailure)
	require.Equal(t, []batcher.PartitionState{{
		Name: named("a"), Held: 100, Retrying: 100, Oldest: 500 * time.Millisecond, RetryingBatches: 1, Left: []batcher.Trigger{batcher.TriggerSize},
	}}, s.Partitions)
	require.Empty(t, s.Exports)

	time.Sleep(time.Second)
	require.NoError(t, r.try(tenant("b"), 100))
	time.Sleep(time.Second)
	s = look(r)
	require.Equal(t, named("b"), s.LastFailure.Name)
	require.Equal(t, batcher.FailedPermanent, s.LastFailure.Cause)
	require.Equal(t, "failed", s.LastFailure.Fate.String())
	require.Less(t, len(s.LastFailure.Error), 1100, "it is cut")
	require.Contains(t, s.LastFailure.Error, "never: xxx")
	require.Len(t, s.Recent, 2, "what was sent again left once")
	require.NoError(t, r.Shutdown(t.Context()))
}

// A request of several resources, one of which is refused for good, is found in its batch and then searched itself.
func TestSnapshotKnowsTheAgeOfWhatIsSearched(t *testing.T) {
	each(t, testSnapshotOfASearch, testSnapshotOfASearch, testSnapshotOfASearch)
}

func testSnapshotOfASearch[T any](t *testing.T, kind batchertest.Kind[T]) {
	const first, second, poison = 2, 60, 40
	set := defaults()
	set.SendBatchSize, set.MetadataKeys, set.MaxConcurrentExportsPerPartition = first+second, []string{"tenant"}, 1
	var r *rig[T]
	var accepted time.Time
	calls := 0
	r = newRig(t, kind, set, func(b batchertest.Batch) error {
		calls++
		time.Sleep(time.Second)
		if err := r.Check(); err != nil {
			t.Errorf("call %d: %v", calls, err)
		}
		s, err := r.Snapshot(context.Background(), everything(batcher.ByHeld))
		if err != nil || s.Oldest != time.Since(accepted) || len(s.Exports) != 1 || s.Exports[0].Running != time.Second || s.Exports[0].Part != (calls > 1) {
			t.Errorf("call %d: %+v, %v", calls, s, err)
		}
		if slices.Contains(b.IDs, poison) {
			return consumererror.NewPermanent(fmt.Errorf("call %d", calls))
		}
		return nil
	})
	accepted = time.Now()
	require.NoError(t, r.try(tenant("a"), first))
	require.NoError(t, r.try(tenant("a"), second))
	time.Sleep(time.Hour)
	synctest.Wait()
	require.Greater(t, calls, 4)
	s := look(r)
	require.Zero(t, s.Stats.Held)
	require.Len(t, s.Recent, 1, "the parts are of one batch")
	require.Greater(t, s.Stats.Delivered, int64(first), "the rest of the request was delivered")
	require.NoError(t, r.Shutdown(t.Context()))
}

func TestSnapshotListsTheFirstOfManyTenants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const tenants = 3000
		set := defaults()
		set.MetadataKeys, set.Timeout, set.QueueSize = []string{"tenant"}, time.Hour, 1_000_000
		r := newPlain(t, set)
		for i := range tenants {
			require.NoError(t, r.Consume(tenant(fmt.Sprintf("%04d", i)), plain[plog.Logs](1+i%7)))
			time.Sleep(time.Millisecond)
		}
		list := func(order batcher.Order, n int) (all []string) {
			s, err := r.Snapshot(t.Context(), batcher.Query{Order: order, Partitions: n})
			require.NoError(t, err)
			require.Equal(t, tenants, s.Remembered)
			require.Equal(t, tenants*time.Millisecond, s.Oldest)
			for _, p := range s.Partitions {
				all = append(all, p.Name.Keys[0].Values[0])
			}
			return all
		}
		require.Equal(t, []string{"0000", "0001", "0002"}, list(batcher.ByOldest, 3))
		require.Equal(t, []string{"0006", "0013", "0020"}, list(batcher.ByHeld, 3), "of those with seven items the oldest")
		require.Equal(t, []string{"0006", "0013", "0020"}, list(batcher.ByWaiting, 3), "nobody waits: who holds the most")
		require.Empty(t, list(batcher.ByHeld, 0))
		require.Empty(t, list(batcher.ByHeld, -1))
		require.Len(t, list(batcher.ByHeld, 1<<30), batcher.MostListed)

		ended, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := r.Snapshot(ended, everything(batcher.ByHeld))
		require.ErrorIs(t, err, context.Canceled)
		require.NoError(t, r.Shutdown(t.Context()))
	})
}

// between does something each time it is asked whether it has ended.
type between struct {
	context.Context
	do func()
}

func (c between) Err() error {
	c.do()
	return nil
}

// With many tenants the lock is free again and again, for as long as it takes to send something.
func TestSnapshotLetsOthersHaveTheLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const tenants = 1000
		set := defaults()
		set.MetadataKeys, set.Timeout, set.QueueSize = []string{"tenant"}, time.Hour, 1_000_000
		r := newPlain(t, set)
		for i := range tenants {
			require.NoError(t, r.Consume(tenant(fmt.Sprint(i)), plain[plog.Logs](1)))
		}
		sent := 0
		_, err := r.Snapshot(between{t.Context(), func() {
			require.NoError(t, r.Consume(tenant(fmt.Sprint("new", sent)), plain[plog.Logs](1)))
			sent++
		}}, batcher.Query{})
		require.NoError(t, err)
		require.GreaterOrEqual(t, sent, tenants/64)
		require.NoError(t, r.Shutdown(t.Context()))
	})
}

func TestSnapshotNamesPartitionsAsTheyAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := defaults()
		set.MetadataKeys, set.ResourceKeys = []string{"Tenant", "user"}, []string{"team", "place"}
		r := newPlain(t, set)
		data := plain[plog.Logs](1)
		attributes := data.ResourceLogs().At(0).Resource().Attributes()
		attributes.PutEmptyMap("place").PutStr("room", "<1>")
		attributes.PutInt("team", 7)
		hostile := "\x00\xff<script>\r\n" + strings.Repeat("n", 100_000)
		require.NoError(t, r.Consume(with(map[string][]string{"tenant": {hostile, "", "c", "d", "e", "f"}}), data))
		name := batcher.Name{Keys: []batcher.KeyValues{
			{Key: "tenant", Set: true, Values: []string{hostile, "", "c", "d"}, More: 2},
			{Key: "user"},
			{Key: "team", Set: true, Values: []string{"7"}},
			{Key: "place", Set: true, Values: []string{`{"room":"<1>"}`}},
		}}
		require.Equal(t, name, look(r).Partitions[0].Name)
		time.Sleep(time.Hour)
		require.Equal(t, batcher.Name{Omitted: true}, look(r).Recent[0].Name, "so long a name is not kept when its partition has gone")
		require.NoError(t, r.Consume(with(map[string][]string{"tenant": {}}), plain[plog.Logs](1)))
		time.Sleep(time.Hour)
		require.Equal(t, batcher.Name{Keys: []batcher.KeyValues{{Key: "tenant"}, {Key: "user"}, {Key: "team"}, {Key: "place"}}}, look(r).Recent[0].Name)
		require.NoError(t, r.Shutdown(t.Context()))
	})
}

// A partition keeps why its last ten batches left, and the batcher where its last 16 came from.
func TestSnapshotKeepsTheLastBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := defaults()
		r := newRig(t, batchertest.Logs(), set, nil)
		want := []batcher.Trigger{}
		for i := range 40 {
			if i%3 == 0 {
				r.send(set.SendBatchSize)
				want = append([]batcher.Trigger{batcher.TriggerSize}, want...)
			} else {
				r.send(1 + i)
				want = append([]batcher.Trigger{batcher.TriggerTimeout}, want...)
			}
			time.Sleep(set.Timeout)
			synctest.Wait()
			s := look(r)
			require.Equal(t, want[:min(len(want), 10)], s.Partitions[0].Left)
			require.Len(t, s.Recent, min(len(want), 16))
			for at, d := range s.Recent {
				require.Equal(t, want[at], d.Trigger)
			}
		}
		require.Equal(t, 39, look(r).Recent[1].Items)
		r.stop()
	})
}

func TestSnapshotAfterAShutdownThatGaveUpIsEmpty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, keys := range [][]string{nil, {"tenant"}} {
			set := defaults()
			set.MetadataKeys = keys
			gate := newGate()
			r := newRig(t, batchertest.Logs(), set, func(batchertest.Batch) error { <-gate; return nil })
			for range 4 {
				require.NoError(t, r.try(tenant("a"), 100))
			}
			seen := make(chan batcher.Snapshot, 1)
			time.AfterFunc(time.Second, func() {
				s, _ := r.Snapshot(context.Background(), everything(batcher.ByHeld))
				seen <- s
			})
			require.Error(t, r.Shutdown(t.Context()))
			during := <-seen
			require.True(t, during.ShuttingDown)
			require.Len(t, during.Exports, 2)
			require.EqualValues(t, 400, during.Stats.Held, "it tells what a shutdown waits for")
			s := look(r)
			require.Zero(t, s.Stats.Held)
			require.Zero(t, s.Oldest)
			require.Empty(t, s.Exports)
			gate.open()
		}
	})
}

func TestSnapshotHoldsWhileTrafficRunsConcurrentSafe(t *testing.T) {
	each(t, testSnapshotInTraffic, testSnapshotInTraffic, testSnapshotInTraffic, testSnapshotInTraffic)
}

func testSnapshotInTraffic[T any](t *testing.T, kind batchertest.Kind[T]) {
	set := retrying()
	set.Retry.InitialInterval = time.Millisecond
	set.MetadataKeys = []string{"tenant"}
	set.MetadataCardinalityLimit = 150
	set.Timeout = 5 * time.Millisecond
	set.MaxConcurrentExports = 8
	set.SendBatchSize = 10
	var mu sync.Mutex // guards chance
	chance := rand.New(rand.NewPCG(seeds.Add(1), 21))
	r := newRig(t, kind, set, func(batchertest.Batch) error {
		mu.Lock()
		what, pause := chance.IntN(10), time.Duration(chance.IntN(5))*time.Millisecond
		mu.Unlock()
		time.Sleep(pause)
		switch what {
		case 0:
			return errRefused
		case 1:
			return consumererror.NewPermanent(errRefused)
		}
		return nil
	})
	data := make(chan T, 200)
	for i := range cap(data) {
		data <- kind.Make(5*i, 5)
	}
	close(data)
	var senders, lookers sync.WaitGroup
	done := make(chan struct{})
	for n := range 4 {
		senders.Go(func() {
			random := rand.New(rand.NewPCG(uint64(n), 22))
			for d := range data {
				if err := r.Consume(tenant(fmt.Sprint(random.IntN(200))), d); err != nil {
					t.Error(err)
				}
				if random.IntN(10) == 0 {
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
	for n := range 2 {
		lookers.Go(func() {
			for {
				s, err := r.Snapshot(context.Background(), everything(batcher.Order(n)))
				if err != nil {
					t.Error(err)
				}
				checkRows(t, s)
				select {
				case <-done:
					return
				case <-time.After(2 * time.Millisecond): // the senders are to get on
				}
			}
		})
	}
	senders.Wait()
	close(done)
	lookers.Wait()
	require.NoError(t, r.Check())
	_ = r.Shutdown(t.Context()) // some of it is refused
	s := look(r)
	require.Zero(t, s.Stats.Held)
	require.Zero(t, s.Remembered)
}

// checkRows checks what holds in each row, although they are not of one instant.
func checkRows(t *testing.T, s batcher.Snapshot) {
	t.Helper()
	for _, p := range s.Partitions {
		ok := p.Held >= p.Pending+p.Sealed+p.InFlight+p.Retrying && min(p.Pending, p.Sealed, p.InFlight, p.Retrying, p.Exports, p.RetryingBatches) >= 0
		ok = ok && p.Oldest >= 0 && p.Oldest <= s.Oldest && (p.Retrying == 0) == (p.RetryingBatches == 0) && p.Exports <= 8
		ok = ok && p.LongestWait <= s.LongestWait && len(p.Left) <= 10 && len(p.Name.Keys) == 1 && len(p.Name.Keys[0].Values) == 1
		if !ok {
			t.Errorf("%+v in a snapshot with %v as the oldest", p, s.Oldest)
		}
	}
}
