package batcher

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/client"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pprofile"
)

// Tenants that each hold an item while downstream hangs take more for their names, and for what a partition is made of,
// than for their items. All of it is in the memory limit.
func TestLiveHeapOfManyTenantsStaysUnderTheMemoryLimit(t *testing.T) {
	t.Run("signal=traces", func(t *testing.T) { testTenantHeap(t, Traces(), measuredTraces.tenants(t)) })
	t.Run("signal=logs", func(t *testing.T) { testTenantHeap(t, Logs(), measuredLogs.tenants(t)) })
	t.Run("signal=metrics", func(t *testing.T) { testTenantHeap(t, Metrics(), measuredMetrics.tenants(t)) })
	t.Run("signal=profiles", func(t *testing.T) {
		encoded, err := new(pprofile.ProtoMarshaler).MarshalProfiles(profilesShapes()[0].write().pd)
		require.NoError(t, err)
		testTenantHeap(t, Profiles(), func() *ProfilesData {
			pd, err := new(pprofile.ProtoUnmarshaler).UnmarshalProfiles(encoded)
			require.NoError(t, err)
			return NewProfilesData(pd)
		})
	})
}

// tenants returns what makes requests of one small item.
func (m measured[T]) tenants(t *testing.T) (decode func() T) {
	t.Helper()
	encoded, err := m.marshal(m.write(shape{items: 1}))
	require.NoError(t, err)
	return func() T {
		data, err := m.unmarshal(encoded)
		require.NoError(t, err)
		return data
	}
}

func testTenantHeap[T any](t *testing.T, signal Signal[T], decode func() T) {
	if raceEnabled {
		t.Skip("with the race detector small objects do not share blocks")
	}
	for _, c := range []struct {
		name   string
		values int // of each tenant
		length int // of each value
		set    func(*Settings)
	}{
		{"short names", 1, 10, func(*Settings) {}},
		{"retired at once", 1, 10, func(s *Settings) { s.MetadataCardinalityLimit = 10 }},
		{"names of 1 kB", 1, 1000, func(*Settings) {}},
		{"names of 100 kB", 1, 100_000, func(s *Settings) { s.MetadataCardinalityLimit = 10 }},
		{"names of 1 MB", 1, 1_000_000, func(*Settings) {}},
		{"10,000 values", 10_000, 1, func(*Settings) {}},
		{"ten keys", 1, 10, func(s *Settings) {
			for i := range 9 {
				s.MetadataKeys = append(s.MetadataKeys, fmt.Sprint("another", i))
			}
		}},
	} {
		set := Settings{
			Timeout: time.Hour, SendBatchSize: 8192, QueueSize: 1 << 30, MemoryLimit: 16 << 20, MaxConcurrentExports: 4,
			MetadataKeys: []string{"tenant"},
		}
		c.set(&set)
		fillWithTenants(t, c.name, signal, decode, set, c.values, c.length)
	}
}

// fillWithTenants is a function of its own, so that nothing it has used is alive when the next one measures.
func fillWithTenants[T any](t *testing.T, name string, signal Signal[T], decode func() T, set Settings, values, length int) {
	stop := make(chan struct{})
	b, err := New(signal, set, func(context.Context, T) error { <-stop; return nil })
	require.NoError(t, err)
	require.NoError(t, b.Start())
	before := liveHeap()
	for tenants := 1; ; tenants++ {
		md := make(map[string][]string)
		for _, key := range set.MetadataKeys {
			md[key] = []string{fmt.Sprint(tenants, strings.Repeat("n", length))}
			for range values - 1 {
				md[key] = append(md[key], "n")
			}
		}
		ctx := client.NewContext(t.Context(), client.Info{Metadata: client.NewMetadata(md)})
		if err := b.Consume(ctx, decode()); err != nil {
			require.ErrorIs(t, err, ErrOverflow)
			break
		}
	}
	held, limit := int(liveHeap()-before), set.MemoryLimit
	s := b.Stats()
	require.LessOrEqual(t, s.HeldBytes, int64(limit))
	assert.LessOrEqual(t, held, limit*11/10, name)
	t.Logf("%-20s %6d tenants: %.3f of the limit is estimated, %.3f held; besides %d bytes each", name, s.Accepted,
		float64(s.HeldBytes)/float64(limit), float64(held)/float64(limit), (held-int(s.HeldBytes))/int(s.Accepted))
	close(stop)
	require.NoError(t, b.Shutdown(t.Context()))
	require.Zero(t, b.Stats().HeldBytes)
}

// A partition whose key is long is forgotten with its last item. Otherwise so many bytes would be held until its next
// tick and be charged to nobody.
func TestLongKeysAreNotKeptWithoutItems(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := New(Logs(), Settings{
			Timeout: time.Second, SendBatchSize: 10, QueueSize: 100, MaxConcurrentExports: 1, MemoryLimit: 1 << 20,
			MetadataKeys: []string{"tenant"},
		}, func(context.Context, plog.Logs) error { return nil })
		require.NoError(t, err)
		require.NoError(t, b.Start())
		decode := measuredLogs.tenants(t)
		for _, c := range []struct{ length, kept int }{{longKey / 2, 1}, {longKey, 0}} {
			for range 3 {
				require.NoError(t, b.Consume(withTenant(t.Context(), strings.Repeat("n", c.length)), decode()))
				require.Greater(t, b.Stats().HeldBytes, int64(c.length))
				require.EqualValues(t, 1, b.Stats().LivePartitions)
				time.Sleep(time.Second)
				synctest.Wait()
				require.Zero(t, b.Stats().HeldBytes)
				require.EqualValues(t, c.kept, b.Stats().LivePartitions)
				require.Equal(t, c.kept, b.Partitions())
				require.Equal(t, c.kept > 0, b.Armed())
			}
			time.Sleep(time.Second)
			synctest.Wait()
			require.Zero(t, b.Partitions())
		}
		require.NoError(t, b.Shutdown(t.Context()))
	})
}

// A key that takes more than all that may be held keeps nobody out, and nobody waiting for ever.
func TestKeyLargerThanTheMemoryLimitIsAdmittedAlone(t *testing.T) {
	for _, blocks := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			hold := make(chan struct{})
			b, err := New(Logs(), Settings{
				Timeout: time.Second, SendBatchSize: 10, QueueSize: 100, MaxConcurrentExports: 2, MemoryLimit: 100_000,
				MetadataKeys: []string{"tenant"}, BlockOnOverflow: blocks,
			}, func(context.Context, plog.Logs) error { <-hold; return nil })
			require.NoError(t, err)
			require.NoError(t, b.Start())
			decode := measuredLogs.tenants(t)
			consume := func(name string, length int) <-chan error {
				answer := make(chan error, 1)
				go func() { answer <- b.Consume(withTenant(t.Context(), name+strings.Repeat("n", length)), decode()) }()
				synctest.Wait()
				return answer
			}
			require.NoError(t, <-consume("a", 200_000))
			require.Equal(t, b.Stats().CapacityBytes, b.Stats().HeldBytes, "all there is")
			other := consume("b", 1)
			if !blocks {
				require.ErrorIs(t, <-other, ErrOverflow)
			}
			time.Sleep(time.Minute)
			close(hold)
			synctest.Wait()
			if blocks {
				require.NoError(t, <-other)
			}
			require.NoError(t, <-consume("b", 1))
			large := consume("c", 200_000) // while b holds something
			if !blocks {
				require.ErrorIs(t, <-large, ErrOverflow)
			} else {
				time.Sleep(time.Minute)
				require.NoError(t, <-large)
			}
			require.NoError(t, b.Shutdown(t.Context()))
			require.Zero(t, b.Stats().HeldBytes)
		})
	}
}

func withTenant(ctx context.Context, name string) context.Context {
	return client.NewContext(ctx, client.Info{Metadata: client.NewMetadata(map[string][]string{"tenant": {name}})})
}
