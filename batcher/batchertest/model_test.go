package batchertest_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/client"
	"go.uber.org/goleak"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
	"github.com/boundedbatch/boundedbatchprocessor/batcher/batchertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// schedule is what a batcher might do, told to a model as if it had been seen.
type schedule struct {
	model    *batchertest.Model
	stats    batcher.Stats // as the batcher would tell them
	requests int
	calls    int
	failed   error // the first complaint
}

func (s *schedule) note(err error) {
	if s.failed == nil {
		s.failed = err
	}
}

// accept is a request of a tenant that is accepted at once.
func (s *schedule) accept(tenant string, first, items int) {
	s.model.Sent(&batchertest.Request{First: first, Items: items, Tenant: tenant, Order: s.requests, Since: time.Now()})
	s.requests++
	s.stats.Held += int64(items)
	s.stats.Pending += int64(items)
}

// leave begins an export.
func (s *schedule) leave(tenant string, ids ...int) batchertest.Batch {
	ctx := client.NewContext(context.Background(), client.Info{Metadata: client.NewMetadata(map[string][]string{"tenant": {tenant}})})
	b := batchertest.Batch{Number: s.calls, IDs: ids, Bytes: 10 * len(ids), Ctx: ctx, At: time.Now()}
	s.calls++
	s.note(s.model.Began(b))
	s.stats.Pending -= int64(len(ids))
	s.stats.InFlight += int64(len(ids))
	s.stats.ExportsInFlight++
	s.look()
	return b
}

// end ends it.
func (s *schedule) end(b batchertest.Batch, accepted ...int) {
	s.model.Ended(b, accepted)
	s.stats.InFlight -= int64(len(b.IDs))
	s.stats.ExportsInFlight--
	s.stats.Delivered += int64(len(accepted))
	s.stats.Held -= int64(len(b.IDs))
}

func (s *schedule) look() { s.note(s.model.Check(&s.stats, time.Now())) }

// A model that never complained would agree with every batcher. So each promise is broken here once, by as little as can
// be, and each thing that looks like it and is none is done, too.
func TestModelComplainsOfWhatMustNotHappen(t *testing.T) {
	const timeout = 10 * time.Millisecond
	tenants := func(set *batcher.Settings) { set.MetadataKeys = []string{"tenant"} }
	ordered := func(set *batcher.Settings) { tenants(set); set.MaxConcurrentExportsPerPartition = 1 }
	retrying := func(set *batcher.Settings) { ordered(set); set.Retry.Enabled = true }
	single := func(set *batcher.Settings) { set.MaxConcurrentExports = 1 }
	for _, c := range []struct {
		name string
		set  func(*batcher.Settings) // nil: as below
		do   func(*schedule)
		want string // empty: no complaint
	}{
		// Age.
		{name: "an item leaves in time", do: func(s *schedule) {
			s.accept("a", 0, 1)
			time.Sleep(timeout)
			s.leave("a", 0)
		}},
		{name: "an item leaves at the next instant", do: func(s *schedule) {
			s.accept("a", 0, 1)
			time.Sleep(timeout + 1)
			s.leave("a", 0)
		}, want: "item 0 left 10.000001ms after it was accepted; the timeout is 10ms"},
		{name: "ticks come at twice the timeout", do: func(s *schedule) {
			time.Sleep(timeout / 2)
			s.accept("a", 0, 1)
			time.Sleep(timeout)
			s.accept("a", 1, 1)
			time.Sleep(timeout)
			s.leave("a", 0, 1)
		}, want: "item 0 left 20ms after"},
		{name: "the older item of a batch is too old", do: func(s *schedule) {
			s.accept("a", 0, 1)
			time.Sleep(timeout/2 + 1)
			s.accept("a", 1, 1)
			time.Sleep(timeout / 2)
			s.leave("a", 0, 1)
		}, want: "item 0 left"},
		{name: "an item stays", do: func(s *schedule) {
			s.accept("a", 0, 2)
			s.end(s.leave("a", 0), 0)
			time.Sleep(timeout + 1)
			s.look()
		}, want: "item 1 was accepted 10.000001ms ago and has not left"},
		{name: "it is late and known only when it has left", do: func(s *schedule) {
			r := &batchertest.Request{Items: 1, Tenant: "a"}
			s.model.Sent(r)
			since := time.Now()
			time.Sleep(timeout + 1)
			s.leave("a", 0)
			r.Since = since
			s.look()
		}, want: "item 0 left"},
		{name: "there was no slot", set: single, do: func(s *schedule) {
			s.accept("a", 0, 1)
			b := s.leave("a", 0)
			s.accept("a", 1, 1)
			time.Sleep(3 * timeout)
			s.look()
			s.end(b, 0)
			s.leave("a", 1)
		}},
		{name: "there was no slot for a partition that nothing has left yet", set: ordered, do: func(s *schedule) {
			s.accept("a", 0, 1)
			s.accept("b", 1, 1)
			s.leave("a", 0)
			b := s.leave("b", 1)
			s.accept("c", 2, 1)
			time.Sleep(3 * timeout)
			s.end(b, 1)
			s.leave("c", 2)
		}},
		{name: "there was no slot until a moment ago", set: single, do: func(s *schedule) {
			s.accept("a", 0, 1)
			b := s.leave("a", 0)
			s.accept("a", 1, 1)
			time.Sleep(3 * timeout)
			s.end(b, 0)
			time.Sleep(1 * time.Nanosecond)
			s.leave("a", 1)
		}, want: "item 1 left"},
		{name: "there was none when it came", set: single, do: func(s *schedule) {
			s.accept("a", 0, 1)
			b := s.leave("a", 0)
			s.accept("a", 1, 1)
			time.Sleep(timeout / 2)
			s.end(b, 0)
			time.Sleep(timeout/2 + 1)
			s.leave("a", 1)
		}, want: "item 1 left"},
		{name: "there was a slot all the time", do: func(s *schedule) {
			s.accept("a", 0, 1)
			b := s.leave("a", 0)
			s.accept("a", 1, 1)
			time.Sleep(3 * timeout)
			s.end(b, 0)
			s.leave("a", 1)
		}, want: "item 1 left"},
		{name: "its partition had one already", set: ordered, do: func(s *schedule) {
			s.accept("a", 0, 1)
			b := s.leave("a", 0)
			s.accept("a", 1, 1)
			time.Sleep(3 * timeout)
			s.look()
			s.end(b, 0)
			s.leave("a", 1)
		}},
		{name: "another partition had one", set: ordered, do: func(s *schedule) {
			s.accept("a", 0, 1)
			b := s.leave("a", 0)
			s.accept("b", 1, 1)
			time.Sleep(3 * timeout)
			s.end(b, 0)
			s.leave("b", 1)
		}, want: "item 1 left"},
		{name: "the last slot is kept for others", set: tenants, do: func(s *schedule) {
			s.accept("a", 0, 1)
			s.leave("a", 0)
			s.accept("a", 1, 1)
			time.Sleep(3 * timeout)
			s.look()
		}},
		{name: "and not for those", set: tenants, do: func(s *schedule) {
			s.accept("a", 0, 1)
			s.leave("a", 0)
			s.accept("b", 1, 1)
			time.Sleep(3 * timeout)
			s.look()
		}, want: "item 1 was accepted"},
		{name: "what failed is to be sent again first", set: retrying, do: func(s *schedule) {
			s.accept("a", 0, 1)
			s.end(s.leave("a", 0))
			s.stats.Retrying = 1
			s.accept("a", 1, 1)
			time.Sleep(3 * timeout)
			s.look()
			s.stats.Retrying = 0
			s.end(s.leave("a", 0), 0)
			s.leave("a", 1)
		}},
		{name: "what failed is given up", set: retrying, do: func(s *schedule) {
			s.accept("a", 0, 1)
			s.end(s.leave("a", 0))
			s.accept("a", 1, 1)
			s.look()
			time.Sleep(3 * timeout)
			s.look()
		}, want: "item 1 was accepted"},

		// Every item once, and nobody else's.
		{name: "nobody has sent it", do: func(s *schedule) { s.leave("a", 0) }, want: "item 0 was never sent"},
		{name: "its sender has it still", do: func(s *schedule) {
			s.accept("a", 0, 2)
			s.note(s.model.Refused([]int{1}))
			s.leave("a", 0, 1)
		}, want: "item 1 was refused and is exported"},
		{name: "its sender is given it back", do: func(s *schedule) {
			s.accept("a", 0, 2)
			s.leave("a", 0)
			s.note(s.model.Refused([]int{0, 1}))
		}, want: "item 0 was refused and exported"},
		{name: "twice at once", do: func(s *schedule) {
			s.accept("a", 0, 2)
			s.leave("a", 0)
			s.leave("a", 0, 1)
		}, want: "item 0 is in two exports at once"},
		{name: "twice one after the other", do: func(s *schedule) {
			s.accept("a", 0, 1)
			s.end(s.leave("a", 0), 0)
			s.leave("a", 0)
		}, want: "item 0 was delivered and is exported again"},
		{name: "again after a failure", do: func(s *schedule) {
			s.accept("a", 0, 1)
			s.end(s.leave("a", 0))
			s.leave("a", 0)
		}},
		{name: "with another tenant's", set: tenants, do: func(s *schedule) {
			s.accept("a", 0, 1)
			s.accept("b", 1, 1)
			s.leave("a", 0, 1)
		}, want: `item 1 of the tenant "b"`},

		// Limits.
		{name: "a batch has an item too many", do: func(s *schedule) {
			s.accept("a", 0, 5)
			s.leave("a", 0, 1, 2, 3, 4)
		}, want: "exceeds its limits"},
		{name: "an export too many", do: func(s *schedule) {
			s.accept("a", 0, 3)
			s.leave("a", 0)
			s.leave("a", 1)
			s.leave("a", 2)
		}, want: "3 exports at once"},
		{name: "an export of a partition too many", set: ordered, do: func(s *schedule) {
			s.accept("a", 0, 2)
			s.leave("a", 0)
			s.leave("a", 1)
		}, want: "2 exports of a partition at once"},
		{name: "an item held too many", do: func(s *schedule) {
			s.accept("a", 0, 1)
			s.stats.Held = 101
			s.look()
		}, want: "101 items of 100 held"},
		{name: "there is room for an item more than is set", do: func(s *schedule) {
			s.stats.Capacity++
			s.look()
		}, want: "room for 101 items and 0 bytes, 100 and 0 are set"},
		{name: "a batch is full and stays", do: func(s *schedule) {
			s.accept("a", 0, 4)
			s.look()
		}, want: "4 items pending, 4 seal a batch"},

		// Order.
		{name: "a later request comes first", set: ordered, do: func(s *schedule) {
			s.accept("a", 0, 1)
			s.accept("a", 1, 1)
			s.end(s.leave("a", 1), 1)
			s.leave("a", 0)
		}, want: "item 0 comes behind item 1"},
		{name: "a later item of a request comes first", set: ordered, do: func(s *schedule) {
			s.accept("a", 0, 2)
			s.leave("a", 1, 0)
		}, want: "item 0 comes behind item 1"},

		// What it says of itself.
		{name: "it counts an item that is not delivered", do: func(s *schedule) {
			s.accept("a", 0, 2)
			s.end(s.leave("a", 0, 1), 0)
			s.stats.Delivered++
			s.look()
		}, want: "2 items delivered, 1 have arrived"},
		{name: "it counts an item that is not in an export", do: func(s *schedule) {
			s.accept("a", 0, 2)
			s.leave("a", 0)
			s.stats.InFlight++
			s.look()
		}, want: "2 items in 1 exports under way, the model has 1 in 1"},
		{name: "callers wait for nothing", do: func(s *schedule) {
			s.stats.WaitingCallers = 1
			s.look()
		}, want: "callers wait and nothing is held"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				set := batcher.Settings{
					Timeout: timeout, SendBatchSize: 4, SendBatchMaxSize: 4, QueueSize: 100, MaxConcurrentExports: 2,
				}
				if c.set != nil {
					c.set(&set)
				}
				s := &schedule{model: batchertest.NewModel("logs", set)}
				s.stats.Capacity = int64(set.QueueSize)
				c.do(s)
				if c.want == "" {
					require.NoError(t, s.failed)
				} else {
					require.ErrorContains(t, s.failed, c.want)
				}
			})
		})
	}
}
