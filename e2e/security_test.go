package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/boundedbatch/boundedbatchprocessor/e2e/internal/harness"
)

// neighbour is a tenant that does nothing wrong: it sends one small request after the other while others attack.
type neighbour struct {
	journal  harness.Journal
	slowest  time.Duration
	repeated int // requests that were refused for the moment
	stop     func()
}

// mostPatience is how long a request of a neighbour may take. It is a few milliseconds on a machine with nothing else
// to do.
const mostPatience = 10 * time.Second

func startNeighbour(t *testing.T, col *harness.Collector) *neighbour {
	t.Helper()
	n := new(neighbour)
	client := col.GRPC(t, harness.Header{"x-tenant": {"neighbour"}})
	over := make(chan struct{})
	var sending sync.WaitGroup
	sending.Go(func() {
		for {
			ids := n.journal.Take(3)
			began := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), sendTimeout)
			attempts, err := harness.SendPersistently(ctx, client, harness.Logs, ids)
			cancel()
			if err != nil {
				t.Errorf("request of the neighbour: %v", err)
				return
			}
			n.repeated += attempts - 1
			n.slowest = max(n.slowest, time.Since(began))
			n.journal.Note(ids, harness.Acknowledged)
			select {
			case <-over:
				return
			default:
			}
		}
	})
	n.stop = sync.OnceFunc(func() { close(over); sending.Wait() })
	t.Cleanup(n.stop)
	return n
}

// served requires that the neighbour had its answers soon, and that all it has sent arrives once, and as it was.
func (n *neighbour) served(t *testing.T, ledger *harness.Ledger) {
	t.Helper()
	n.stop()
	t.Logf("%d requests of the neighbour, %d repetitions, the slowest took %v",
		len(n.journal.Sent()), n.repeated, n.slowest.Round(time.Microsecond))
	assert.Less(t, n.slowest, mostPatience)
	arrivals := func() (missing, repeated int) {
		of := make(map[uint64]int)
		for _, b := range ledger.Delivered() {
			for _, id := range b.IDs {
				of[id]++
			}
		}
		for id := range uint64(n.journal.Taken()) {
			switch of[id] {
			case 0:
				missing++
			case 1:
			default:
				repeated++
			}
		}
		return missing, repeated
	}
	ledger.Await(t, "all items of the neighbour", func(*harness.Ledger) bool { missing, _ := arrivals(); return missing == 0 })
	_, repeated := arrivals()
	assert.Zero(t, repeated)
}

// watchBounds watches what must hold at every instant.
func watchBounds(t *testing.T, col *harness.Collector, partitions int64) (stop func()) {
	t.Helper()
	most := int64(0)
	stopWatch := col.Watch(t, func(s harness.Scrape) error {
		live := s.Sum(harness.Logs, "live_partitions")
		most = max(most, live)
		if live > partitions {
			return fmt.Errorf("%d partitions are alive", live)
		}
		if n := s.Sum(harness.Logs, "exports_in_flight"); n > 100 {
			return fmt.Errorf("%d exports are under way", n)
		}
		return s.Bounds(harness.Logs)
	})
	return func() { t.Helper(); t.Logf("%d scrapes, at most %d partitions alive", stopWatch(), most) }
}

// afterwards requires that nothing is left of an attack.
func afterwards(t *testing.T, col *harness.Collector, baseHeap, baseGoroutines int) {
	t.Helper()
	col.AwaitItems(t, 0, harness.Logs, "held_items")
	col.AwaitItems(t, 0, harness.Logs, "held_bytes")
	harness.Until(t, func(ctx context.Context) error { // connections end, and what pools keep is given up
		goroutines, err := col.Goroutines(ctx)
		if err != nil {
			return err
		}
		live, err := col.LiveHeap(ctx)
		if err != nil {
			return err
		}
		if goroutines > baseGoroutines+20 || live > baseHeap+4<<20 {
			return fmt.Errorf("%d goroutines were %d, %.1f MiB of heap were %.1f",
				goroutines, baseGoroutines, mebibytes(live), mebibytes(baseHeap))
		}
		return nil
	})
	s, err := col.Scrape(t.Context())
	require.NoError(t, err)
	assert.Zero(t, s.Sum(harness.Logs, "failed_items"))
	assert.Zero(t, s.Sum(harness.Logs, "dropped_items"))
}

func base(t *testing.T, col *harness.Collector) (heap, goroutines int) {
	t.Helper()
	heap, err := col.LiveHeap(t.Context())
	require.NoError(t, err)
	goroutines, err = col.Goroutines(t.Context())
	require.NoError(t, err)
	return heap, goroutines
}

// Every request is of a tenant that nobody has heard of before, and every other one is empty. Their names have NUL and
// control bytes in them, which only keys that end in -bin can have.
func TestFloodOfTenantsAndOfEmptyRequestsLeavesOthersServed(t *testing.T) {
	const (
		attackers = 4
		requests  = 2_500 // of each, and as many empty ones
		limit     = 50    // partitions
		first     = 1 << 30
	)
	backend := harness.NewBackend(t)
	col := harness.Start(t, harness.Config{
		Backend: backend, Profile: true,
		Processor: fmt.Sprintf("{metadata_keys: [x-tenant, name-bin], metadata_cardinality_limit: %d, memory_limit: 32MiB}", limit),
	})
	clients := make([]harness.Client, attackers)
	for i := range clients {
		clients[i] = col.GRPC(t, nil)
		require.NoError(t, send(t.Context(), clients[i], harness.Logs, harness.Range{}))
	}
	heap, goroutines := base(t, col)
	near := startNeighbour(t, col)
	stop := watchBounds(t, col, limit)
	journal := harness.NewJournal(first)
	began := time.Now()
	var attack sync.WaitGroup
	for i, client := range clients {
		attack.Go(func() {
			for n := range requests {
				ctx := metadata.AppendToOutgoingContext(t.Context(), "name-bin", fmt.Sprintf("%d\x00%d\x1b[31m\n\xff", i, n))
				ids := journal.Take(1)
				for _, ids := range []harness.Range{ids, {}} {
					if err := send(ctx, client, harness.Logs, ids); err != nil {
						t.Errorf("tenant %d of attacker %d: %v", n, i, err)
						return
					}
				}
				journal.Note(ids, harness.Acknowledged)
			}
		})
	}
	attack.Wait()
	t.Logf("%d tenants and as many empty requests in %v", journal.Taken(), time.Since(began).Round(time.Millisecond))
	ledger := backend.Ledger(harness.Logs)
	near.served(t, ledger)
	afterwards(t, col, heap, goroutines)
	stop()
	s, err := col.Scrape(t.Context())
	require.NoError(t, err)
	assert.EqualValues(t, journal.Taken()+near.journal.Taken(), s.Sum(harness.Logs, "accepted_items"), "empty requests are no items")
	assert.Positive(t, s.Sum(harness.Logs, "evictions"))
	require.NoError(t, ledger.Check(append(journal.Sent(), near.journal.Sent()...)))
	assert.NotContains(t, col.Log(), "\x1b[31m")
	col.Stop(t)
}

// Tenants with names of 1 MB are stuck, and there are more of them than memory_limit has room for.
func TestNamesOfAMegabyteStayWithinTheMemoryLimit(t *testing.T) {
	const (
		tenants = 60
		limit   = 16 << 20
		first   = 1 << 30
	)
	backend := harness.NewBackend(t)
	backend.HoldIf(func(b harness.Batch) bool { return b.IDs[0] >= first })
	col := harness.Start(t, harness.Config{
		Backend: backend, Profile: true,
		Processor: "{metadata_keys: [x-tenant, name-bin], memory_limit: 16MiB, block_on_overflow: false, max_concurrent_exports: 100}",
	})
	attacker := col.GRPC(t, nil)
	require.NoError(t, send(t.Context(), attacker, harness.Logs, harness.Range{}))
	heap, goroutines := base(t, col)
	near := startNeighbour(t, col)
	stop := watchBounds(t, col, tenants+1)
	journal := harness.NewJournal(first)
	refused := 0
	for n := range tenants {
		ids := journal.Take(1)
		ctx := metadata.AppendToOutgoingContext(t.Context(), "name-bin", fmt.Sprint(n, strings.Repeat("\x00", 1_000_000)))
		switch err := send(ctx, attacker, harness.Logs, ids); {
		case err == nil:
			journal.Note(ids, harness.Acknowledged)
		case status.Code(err) == codes.Unavailable:
			refused++
			journal.Note(ids, harness.Refused)
		default:
			t.Errorf("tenant %d: %v", n, err)
		}
	}
	assert.Greater(t, refused, tenants/2)
	assert.Less(t, refused, tenants-5)
	live, err := col.LiveHeap(t.Context())
	require.NoError(t, err)
	t.Logf("%d of %d tenants are refused; alive: base %.1f MiB and %.2f of memory_limit", refused, tenants, mebibytes(heap),
		float64(live-heap)/limit)
	assert.LessOrEqual(t, live, heap+limit*11/10+8<<20) // of connections, and of requests that are being decoded

	// What is larger than a receiver takes does not come in, and does no harm.
	ctx := metadata.AppendToOutgoingContext(t.Context(), "name-bin", strings.Repeat("x", 17<<20))
	require.Error(t, send(ctx, attacker, harness.Logs, harness.Range{First: first * 2, Items: 1}))
	large := col.HTTP(t, harness.Header{"X-Tenant": {strings.Repeat("x", 2<<20)}})
	require.Error(t, send(t.Context(), large, harness.Logs, harness.Range{First: first * 2, Items: 1}))

	ledger := backend.Ledger(harness.Logs)
	near.stop()
	backend.Accept()
	near.served(t, ledger)
	afterwards(t, col, heap, goroutines)
	stop()
	require.NoError(t, ledger.Check(append(journal.Sent(), near.journal.Sent()...)))
	col.Stop(t)
}

// bodies are requests that no client has reason to make. Each is of so many items.
func bodies() map[string]func() plog.Logs {
	request := func(resources int, each func(n int, rl plog.ResourceLogs)) func() plog.Logs {
		return func() plog.Logs {
			data := plog.NewLogs()
			for n := range resources {
				each(n, data.ResourceLogs().AppendEmpty())
			}
			return data
		}
	}
	record := func(rl plog.ResourceLogs) plog.LogRecord {
		return rl.ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
	}
	return map[string]func() plog.Logs{
		"100,000 resources of 100 tenants": request(100_000, func(n int, rl plog.ResourceLogs) {
			rl.Resource().Attributes().PutInt(harness.TenantKey, int64(n%100))
			record(rl)
		}),
		"5,000 tenants": request(5_000, func(n int, rl plog.ResourceLogs) {
			rl.Resource().Attributes().PutStr(harness.TenantKey, fmt.Sprintf("\x00%d\r\n", n))
			record(rl)
		}),
		"nested 1,000 deep": request(20, func(_ int, rl plog.ResourceLogs) {
			for _, v := range []pcommon.Value{
				rl.Resource().Attributes().PutEmpty(harness.TenantKey), rl.Resource().Attributes().PutEmpty("deep"),
				record(rl).Attributes().PutEmpty("deep"),
			} {
				for n := range 1000 {
					if n%2 == 0 {
						v = v.SetEmptySlice().AppendEmpty()
					} else {
						v = v.SetEmptyMap().PutEmpty("k")
					}
				}
				v.SetInt(1)
			}
		}),
		"a tenant of 4 MB": request(1, func(_ int, rl plog.ResourceLogs) {
			rl.Resource().Attributes().PutStr(harness.TenantKey, strings.Repeat("\x01", 4_000_000))
			record(rl)
		}),
		"a record of 19 MB": request(1, func(_ int, rl plog.ResourceLogs) {
			record(rl).Body().SetStr(strings.Repeat("\x01", 19_000_000))
		}),
		"20 keys in any order in 5,000 resources": request(5_000, func(n int, rl plog.ResourceLogs) {
			for k := range 20 {
				rl.Resource().Attributes().PutInt(fmt.Sprint("k", (k*7+n)%20), int64(k))
			}
			record(rl)
		}),
	}
}

// post sends a body of OTLP over HTTP, which takes up to 20 MiB by default, and returns the status.
func post(t *testing.T, col *harness.Collector, body []byte) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), sendTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+col.HTTPAddress()+"/v1/logs", bytes.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/x-protobuf")
	transport := new(http.Transport)
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	require.NoError(t, err)
	return resp.StatusCode
}

// Whatever a request is made of that a receiver takes by default, it is delivered, in bounded time and without harm to
// others.
func TestHostileBodiesTakeBoundedTimeAndMemory(t *testing.T) {
	for name, processor := range map[string]string{
		"merged":  "{resource_keys: [tenant.id], memory_limit: 256MiB, merge_resources: true, send_batch_max_bytes: 32MiB}",
		"waiting": "{resource_keys: [tenant.id], memory_limit: 256MiB, wait_for_result: true, send_batch_max_size: 8192}",
	} {
		t.Run(name, func(t *testing.T) {
			backend := harness.NewBackend(t)
			col := harness.Start(t, harness.Config{Backend: backend, Profile: true, Processor: processor})
			heap, goroutines := base(t, col)
			near := startNeighbour(t, col)
			stop := watchBounds(t, col, 1000)
			items := 0
			for kind, build := range bodies() {
				data := build()
				items += data.LogRecordCount()
				body, err := new(plog.ProtoMarshaler).MarshalLogs(data)
				require.NoError(t, err)
				began := time.Now()
				assert.Equal(t, http.StatusOK, post(t, col, body), kind)
				took := time.Since(began)
				t.Logf("%s, %.1f MB: answered after %v", kind, float64(len(body))/1e6, took.Round(time.Millisecond))
				assert.Less(t, took, 2*mostPatience, kind)
			}
			assert.GreaterOrEqual(t, post(t, col, make([]byte, 21<<20)), http.StatusBadRequest, "what no receiver takes by default")
			near.served(t, backend.Ledger(harness.Logs))
			col.AwaitItems(t, int64(items+near.journal.Taken()), harness.Logs, "delivered_items")
			stop()
			afterwards(t, col, heap, goroutines)
			col.Stop(t)
		})
	}
}

// secret is in all that clients send: headers, attributes, texts.
const secret = "hunter2"

// secretRequest is a request of one record whose body is so long.
func secretRequest(length int) plog.Logs {
	data := plog.NewLogs()
	rl := data.ResourceLogs().AppendEmpty()
	rl.SetSchemaUrl("https://" + secret)
	rl.Resource().Attributes().PutStr(secret, secret)
	sl := rl.ScopeLogs().AppendEmpty()
	sl.Scope().SetName(secret)
	record := sl.LogRecords().AppendEmpty()
	record.Body().SetStr(secret + strings.Repeat(".", length))
	record.Attributes().PutStr("password", secret)
	return data
}

// Whatever becomes of requests, nothing of what is in them or in their headers is logged, not even at level debug, nor
// shown in metrics, in the status of components or on zpages, nor told to another client. What a backend says of a batch is
// logged once, in one line, and up to a limit.
func TestNothingOfRequestsIsLoggedOrShown(t *testing.T) {
	for _, waits := range []bool{false, true} {
		t.Run(fmt.Sprintf("wait_for_result=%v", waits), func(t *testing.T) {
			t.Parallel()
			backend := harness.NewBackend(t)
			col := harness.Start(t, harness.Config{
				Backend: backend, Debug: true, ReportStatus: true, Headers: "[" + orgFrom("x-tenant") + "]",
				Processor: fmt.Sprintf("{metadata_keys: [x-tenant, x-token], metadata_cardinality_limit: 2, wait_for_result: %v, "+
					"send_batch_size: 100, timeout: 50ms, queue_size: 100, send_batch_max_bytes: 20000, block_on_overflow: false, shutdown_timeout: 1s}", waits),
			})
			cc, err := grpc.NewClient(col.GRPCAddress(), grpc.WithTransportCredentials(insecure.NewCredentials()))
			require.NoError(t, err)
			defer cc.Close()
			var told atomic.Pointer[[]string] // errors that others got
			told.Store(new([]string))
			export := func(ctx context.Context, client int, data plog.Logs) error {
				ctx = metadata.AppendToOutgoingContext(ctx,
					"x-tenant", fmt.Sprint(secret, "-tenant-", client), "x-token", secret, "authorization", "Bearer "+secret)
				_, err := plogotlp.NewGRPCClient(cc).Export(ctx, plogotlp.NewExportRequestFromLogs(data))
				return err
			}
			other := col.GRPC(t, harness.Header{"x-tenant": {"another"}})
			ask := func() {
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				if err := other.Send(ctx, harness.Logs, harness.Range{Items: 1}); err != nil {
					all := append(slices.Clone(*told.Load()), err.Error())
					told.Store(&all)
				}
			}
			exports := func(clients, length int) {
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				var sending sync.WaitGroup
				for client := range clients {
					sending.Go(func() { _ = export(ctx, client, secretRequest(length)) })
				}
				sending.Wait()
			}
			counted := func(name, label, value string, least int64) {
				t.Helper()
				col.AwaitMetrics(t, func(s harness.Scrape) error {
					if n := s.Sum(harness.Logs, name, label, value); n < least {
						return fmt.Errorf("%s of %s %s: %d", name, label, value, n)
					}
					return nil
				})
			}

			exports(10, 0) // delivered, and evicted
			exports(1, 30_000)
			counted("dropped_items", "cause", "item_too_large", 1)
			backend.Refuse(status.Error(codes.Unavailable, "a\nline \x1b[31m"+strings.Repeat("z", 5000)))
			exports(3, 0)
			counted("failed_items", "cause", "retryable", 1)
			ask()
			backend.Refuse(permanent)
			exports(20, 0)
			counted("failed_items", "cause", "permanent", 1)
			ask()

			// Some wait until their time is over, and find no room.
			backend.Hold()
			stuck, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			var sending sync.WaitGroup
			for client := range 300 {
				sending.Go(func() { _ = export(stuck, client, secretRequest(0)) })
			}
			counted("refused_items", "cause", "overflow", 1)
			ask()
			shown, err := col.Pages(t.Context())
			require.NoError(t, err)
			cancel()
			sending.Wait()
			if waits {
				counted("dropped_items", "cause", "canceled", 0)
			}
			col.Signal(t, syscall.SIGTERM)
			col.Exit(t)

			log := col.Log()
			assert.NotContains(t, log, secret, "the log")
			assert.NotContains(t, shown, secret, "metrics, status and zpages")
			assert.NotContains(t, strings.Join(*told.Load(), "\n"), secret, "errors that others get")
			if waits {
				assert.GreaterOrEqual(t, len(*told.Load()), 2, "another client was told of failures")
			}

			// That this sees what is logged, and where a failure is shown:
			assert.Contains(t, shown, "boundedbatch")
			assert.Contains(t, shown, "StatusRecoverableError")
			assert.NotContains(t, log, "\x1b[31m")
			assert.Regexp(t, `(?m)Exports fail; .*a\\nline \\u001b\[31mz{900}z*\.\.\. \(\d+ bytes\)`, log)
			for line := range strings.Lines(log) {
				assert.Less(t, len(line), 10_000)
			}
			assert.Equal(t, 1, strings.Count(log, "Exports fail; "), "lines about failures")
		})
	}
}
