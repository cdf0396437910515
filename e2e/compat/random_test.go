package compat

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/boundedbatch/boundedbatchprocessor/e2e/internal/harness"
	"github.com/boundedbatch/boundedbatchprocessor/e2e/internal/migration"
)

// Beyond the table: whatever the five keys say, as long as they leave room for all tenants,
// both answer alike and deliver the same items, in the same order, with the same metadata.
// boundedbatch keeps what the keys promise besides, which is what it may differ for.
func TestAnyConfigurationDeliversTheSameItems(t *testing.T) {
	for seed := range uint64(120) {
		row, timeout, maxSize := randomRow(rand.New(rand.NewPCG(7, seed)))
		name := fmt.Sprintf("%02d/%s", seed, row.Config)
		switch seed % 3 {
		case 0:
			t.Run(name+"/traces", func(t *testing.T) { testRandom(t, traces, row, timeout, maxSize) })
		case 1:
			t.Run(name+"/logs", func(t *testing.T) { testRandom(t, logs, row, timeout, maxSize) })
		case 2:
			t.Run(name+"/metrics", func(t *testing.T) { testRandom(t, metrics, row, timeout, maxSize) })
		}
	}
}

func testRandom[T any](t *testing.T, s *signal[T], row *migration.Row, timeout time.Duration, maxSize int) {
	t.Helper()
	t.Parallel()
	was, is := run(t, s, batch, row), run(t, s, boundedbatch, row)
	require.Empty(t, is.altered, "items that boundedbatch has altered")
	assert.Equal(t, was.arrivals(), is.arrivals())
	found := differences(was, is, s.ordered())
	for _, same := range []migration.Aspect{migration.Answers, migration.Order, migration.Metadata, migration.Shutdown} {
		assert.Empty(t, found[same], same)
	}

	sent := make(map[uint64]time.Duration)
	items := 0
	for _, r := range row.Traffic.Requests {
		for i := range uint64(r.IDs.Items) {
			sent[r.IDs.First+i] = r.At
		}
		items += r.IDs.Items
	}
	assert.Len(t, is.arrivals(), items)
	for _, e := range is.delivered {
		require.NotEmpty(t, e.ids)
		if maxSize > 0 {
			assert.LessOrEqual(t, len(e.ids), maxSize)
		}
		for _, id := range e.ids {
			require.LessOrEqual(t, e.began-sent[id], timeout, "item %d", id)
		}
	}
}

// randomRow returns a row for a next component that takes everything at once. All callers
// have every key.
func randomRow(rng *rand.Rand) (row *migration.Row, timeout time.Duration, maxSize int) {
	pick := func(from ...int) int { return from[rng.IntN(len(from))] }
	var keys []string
	timeout = time.Duration(pick(0, 1, 10, 37, 200, 1000, 3_600_000)) * time.Millisecond
	keys = append(keys, fmt.Sprintf("timeout: %v", timeout))
	size := pick(0, 1, 2, 10, 64, 100, 8192)
	keys = append(keys, fmt.Sprintf("send_batch_size: %d", size))
	if rng.IntN(3) > 0 {
		maxSize = max(1, size+pick(0, 1, 7, 100))
		keys = append(keys, fmt.Sprintf("send_batch_max_size: %d", maxSize))
	}
	tenants := 1
	if rng.IntN(2) > 0 {
		tenants = 1 + rng.IntN(5)
		keys = append(keys, pickText(rng, "metadata_keys: [x-tenant]", "metadata_keys: [X-TENANT, x-user]"),
			fmt.Sprintf("metadata_cardinality_limit: %d", pick(0, tenants, 1000)))
	}

	var journal harness.Journal
	traffic := &migration.Traffic{}
	var at time.Duration
	for i := range 5 + rng.IntN(20) {
		tenant := fmt.Sprint(rng.IntN(tenants))
		traffic.Requests = append(traffic.Requests, migration.Request{
			At:     at + time.Duration(i)*time.Microsecond, // never at the instant of a tick
			IDs:    journal.Take(pick(0, 1, harness.Size(rng, 300), harness.Size(rng, 300))),
			Header: harness.Header{"x-tenant": {tenant}, "x-user": {tenant, tenant}, "x-other": {fmt.Sprint(i)}},
		})
		at += time.Duration(pick(1, 3, 40, 150, 450)) * time.Millisecond
	}
	traffic.Ends = at + time.Duration(pick(1, 2000))*time.Millisecond
	return &migration.Row{Config: "{" + strings.Join(keys, ", ") + "}", Traffic: traffic, Downstream: &migration.Downstream{}}, timeout, maxSize
}

func pickText(rng *rand.Rand, from ...string) string { return from[rng.IntN(len(from))] }
