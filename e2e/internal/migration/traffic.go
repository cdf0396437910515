package migration

import (
	"slices"
	"strconv"
	"time"

	"github.com/boundedbatch/boundedbatchprocessor/e2e/internal/harness"
)

// Requests come a microsecond more than a whole number of milliseconds after each other, and
// there are fewer than a thousand of them, so that none comes at the instant of a tick, whose
// grid begins with another one.
const jitter = time.Microsecond

// at is the instant of a request with the given number.
func at(n int, period time.Duration) time.Duration { return time.Duration(n) * (period + jitter) }

// mixedSizes are items of requests: one, some, many, none. Their borders fall at every phase
// to those of resources, scopes and metrics.
var mixedSizes = []int{3, 10, 0, 1, 100, 17, 5, 0, 250, 2, 40, 1, 1, 0, 64, 9, 30, 128, 4, 12}

// tenants are what callers may have under one metadata key: each is a partition of its own.
// The rest is nobody's business downstream.
var tenants = []harness.Header{
	{"authorization": {"secret"}},
	{"x-tenant": {""}},
	{"x-tenant": {"a"}, "authorization": {"another"}},
	{"x-tenant": {"A"}},
	{"X-Tenant": {"b"}, "X-User": {"me"}},
	{"x-tenant": {"a", "b"}},
	{"x-tenant": {"b", "a"}},
	{"x-tenant": {"a,b"}, "x-user": {"me", "you"}},
}

// numbered returns the headers of so many tenants.
func numbered(n int) (all []harness.Header) {
	for i := range n {
		all = append(all, harness.Header{"x-tenant": {strconv.Itoa(i)}})
	}
	return all
}

// evenly makes requests of the given sizes, one each period, the first after a while.
func evenly(first, period time.Duration, headers []harness.Header, sizes ...int) (all []Request) {
	var journal harness.Journal
	for i, n := range sizes {
		r := Request{At: first + at(i, period), IDs: journal.Take(n)}
		if len(headers) > 0 {
			r.Header = headers[i%len(headers)]
		}
		all = append(all, r)
	}
	return all
}

const (
	ms   = time.Millisecond
	ends = 3 * time.Second // of most traffic: later than any tick of the row
)

// The traffics.
var (
	busy = &Traffic{
		Name: "busy", Ends: ends,
		Text:     "20 requests of 0 to 250 items in 0.6 s, the first as soon as the processor has started",
		Requests: evenly(0, 30*ms, nil, mixedSizes...),
	}
	late = &Traffic{
		Name: "late", Ends: ends,
		Text:     "the same from 130 ms after the start on",
		Requests: evenly(130*ms, 30*ms, nil, mixedSizes...),
	}
	sparse = &Traffic{
		Name: "sparse", Ends: 20 * time.Second,
		Text:     "10 requests of 1 to 100 items, one in 730 ms",
		Requests: evenly(0, 730*ms, nil, 1, 10, 100, 1, 7, 60, 33, 2, 1, 5),
	}
	large = &Traffic{
		Name: "large", Ends: ends,
		Text:     "3 requests of 400 items between small ones",
		Requests: evenly(0, 40*ms, nil, 1, 400, 5, 30, 400, 99, 2, 400, 1),
	}
	nearlyFull = &Traffic{
		Name: "nearly full", Ends: ends,
		Text:     "requests of 95 and 80 items in turns",
		Requests: evenly(0, 30*ms, nil, 95, 80, 95, 80, 95, 80),
	}
	byTenants = &Traffic{
		Name: "tenants", Ends: ends,
		Text: "requests of eight tenants in turns: without x-tenant, with an empty one, with a, A, b, " +
			"with two values in either order, with a comma; some have other headers besides",
		Requests: evenly(0, 25*ms, tenants, slices.Concat(mixedSizes, []int{1, 1, 1, 1})...),
	}
	knownTenants = &Traffic{
		Name: "known tenants", Ends: ends,
		Text:     "the same without the requests that have no x-tenant",
		Requests: evenly(0, 25*ms, tenants[1:], slices.Concat(mixedSizes, []int{1})...),
	}
	manyTenants = &Traffic{
		Name: "many tenants", Ends: 20 * time.Second,
		Text:     "a request of 7600 items of each of 13 tenants: 98800 items, more than `queue_size`",
		Requests: evenly(0, 25*ms, numbered(13), slices.Repeat([]int{7600}, 13)...),
	}
	emptyFirst = &Traffic{
		Name: "empty", Ends: ends,
		Text:     "requests without items",
		Requests: evenly(0, 30*ms, tenants, 0, 0, 0, 0, 0, 0, 0, 0, 0),
	}
	steady = &Traffic{
		Name: "steady", Ends: ends,
		Text:     "20 requests of 10 items, one in 20 ms",
		Requests: evenly(0, 20*ms, nil, slices.Repeat([]int{10}, 20)...),
	}
	crowd = &Traffic{
		Name: "crowd", Ends: 2 * time.Minute,
		Text:     "300 requests of one item in 0.3 s",
		Requests: evenly(0, ms, nil, slices.Repeat([]int{1}, 300)...),
	}
	gone = &Traffic{
		Name: "gone", Ends: ends,
		Text:     "requests whose callers have given up, between others",
		Requests: everySecondEnded(evenly(0, 30*ms, nil, 10, 10, 10, 10, 10, 10)),
	}
	early = &Traffic{
		Name: "early", Ends: ends,
		Text:     "a request before the start, and others afterwards",
		Requests: staged(BeforeStart, 0, evenly(0, 30*ms, nil, 10, 10, 10)),
	}
	afterwards = &Traffic{
		Name: "afterwards", Ends: ends,
		Text:     "a request after the shutdown, and others before",
		Requests: staged(AfterShutdown, 2, evenly(0, 30*ms, nil, 10, 10, 10)),
	}
	untilTheEnd = &Traffic{
		Name: "until the end", Ends: 150 * ms,
		Text:     "5 requests of 10 items, and a shutdown while they are pending",
		Requests: evenly(0, 30*ms, nil, 10, 10, 10, 10, 10),
	}
)

func everySecondEnded(all []Request) []Request {
	for i := 1; i < len(all); i += 2 {
		all[i].Ended = true
	}
	return all
}

func staged(stage Stage, n int, all []Request) []Request {
	all[n].Stage = stage
	return all
}
