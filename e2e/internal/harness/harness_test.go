package harness

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	ossignal "os/signal"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/google/pprof/profile"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pprofile"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// An item is the same in whatever request it is made.
func TestItemFollowsFromItsIdentity(t *testing.T) {
	testItemFollowsFromItsIdentity(t, traces)
	testItemFollowsFromItsIdentity(t, logs)
	testItemFollowsFromItsIdentity(t, metrics)
	testItemFollowsFromItsIdentity(t, profiles)
}

func testItemFollowsFromItsIdentity[T any](t *testing.T, s *signal[T]) {
	t.Helper()
	for _, r := range []Range{{0, 2000}, {89 * 13 * 7, 1}, {1_000_000, 500}, {Bulky, 100}, {Giant - 1, 3}} {
		ids, altered := s.inspect(s.generate(r))
		assert.Empty(t, altered)
		require.Len(t, ids, r.Items)
		for i, id := range ids {
			require.Equal(t, r.First+uint64(i), id)
		}
	}
}

func TestIdentitiesAreThoseOfAnEncodedRequest(t *testing.T) {
	for _, s := range Signals() {
		encoded := s.Encoded(Range{First: 89, Items: 3})
		ids, err := s.Identities(encoded)
		require.NoError(t, err, s.Name())
		assert.Equal(t, []uint64{89, 90, 91}, ids, s.Name())
		_, err = s.Identities(encoded[:len(encoded)-1])
		require.Error(t, err, s.Name())
		_, err = s.Identities(bytes.ReplaceAll(encoded, []byte("tenant-1"), []byte("tenant-9")))
		require.ErrorContains(t, err, "altered", s.Name())
	}
}

func TestBulkyItemsAreOfAllSizes(t *testing.T) {
	for _, s := range Signals() {
		size := func(id uint64) int { return len(must(s.request(Range{First: id, Items: 1}).body())) }
		of := make(map[int]int) // items with a text of so many digits of bytes
		for id := Bulky; id < Bulky+1000; id++ {
			of[len(strconv.Itoa(bulk(id)))]++
			require.Greater(t, size(id), bulk(id))
			require.Less(t, size(id), bulk(id)+2048)
		}
		for digits := 2; digits <= 6; digits++ {
			assert.Greater(t, of[digits], 150, "%d digits", digits)
		}
		assert.Greater(t, size(Giant), MessageLimit)
		assert.Less(t, size(Bulky-1), 2048)
	}
}

func TestTenantIsThatOfTheItemsResource(t *testing.T) {
	seen := make(map[string]bool)
	for id := uint64(0); id < resources*perResource; id += 7 {
		want, set := Tenant(id)
		v, found := generateLogs(Range{First: id, Items: 1}).ResourceLogs().At(0).Resource().Attributes().Get(TenantKey)
		require.Equal(t, set, found)
		if set {
			require.Equal(t, want, v.Str())
		}
		seen[want] = true
	}
	assert.Len(t, seen, resources)
}

func TestMetricsAreOfAllKinds(t *testing.T) {
	kinds := make(map[pmetric.MetricType]bool)
	for _, rm := range generateMetrics(Range{Items: 1000}).ResourceMetrics().All() {
		for _, sm := range rm.ScopeMetrics().All() {
			for _, m := range sm.Metrics().All() {
				kinds[m.Type()] = true
			}
		}
	}
	assert.Len(t, kinds, 5)
}

func TestInspectNoticesEveryAlteration(t *testing.T) {
	for name, alter := range map[string]func(ptrace.ResourceSpans){
		"resource attribute":   func(rs ptrace.ResourceSpans) { rs.Resource().Attributes().PutBool("new", true) },
		"resource dropped":     func(rs ptrace.ResourceSpans) { rs.Resource().SetDroppedAttributesCount(99) },
		"resource schema URL":  func(rs ptrace.ResourceSpans) { rs.SetSchemaUrl("") },
		"scope name":           func(rs ptrace.ResourceSpans) { rs.ScopeSpans().At(0).Scope().SetName("") },
		"scope attribute":      func(rs ptrace.ResourceSpans) { rs.ScopeSpans().At(0).Scope().Attributes().Clear() },
		"scope schema URL":     func(rs ptrace.ResourceSpans) { rs.ScopeSpans().At(0).SetSchemaUrl("") },
		"trace state":          func(rs ptrace.ResourceSpans) { spanOf(rs).TraceState().FromRaw("") },
		"span dropped":         func(rs ptrace.ResourceSpans) { spanOf(rs).SetDroppedEventsCount(99) },
		"span of another item": func(rs ptrace.ResourceSpans) { spanOf(rs).SetSpanID(spanID(1)) },
		"lost identity":        func(rs ptrace.ResourceSpans) { spanOf(rs).SetSpanID(pcommon.SpanID{}) },
	} {
		data := generateTraces(Range{First: 100, Items: 1})
		alter(data.ResourceSpans().At(0))
		_, altered := traces.inspect(data)
		assert.Len(t, altered, 1, name)
	}

	for name, alter := range map[string]func(pmetric.Metric){
		"name":        func(m pmetric.Metric) { m.SetName("other") },
		"unit":        func(m pmetric.Metric) { m.SetUnit("other") },
		"description": func(m pmetric.Metric) { m.SetDescription("") },
		"metadata":    func(m pmetric.Metric) { m.Metadata().PutStr("other", "") },
		"temporality": func(m pmetric.Metric) { m.Sum().SetAggregationTemporality(pmetric.AggregationTemporalityUnspecified) },
		"monotonic":   func(m pmetric.Metric) { m.Sum().SetIsMonotonic(!m.Sum().IsMonotonic()) },
		"exemplars": func(m pmetric.Metric) {
			m.Sum().DataPoints().At(0).Exemplars().AppendEmpty()
		},
		"kind": func(m pmetric.Metric) { m.SetEmptySummary() },
	} {
		data := generateMetrics(Range{First: perMetric, Items: 1}) // a sum
		m := data.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().At(0)
		alter(m)
		ids, altered := metrics.inspect(data)
		if name == "kind" { // and no data point in it
			assert.Empty(t, ids)
			continue
		}
		assert.Len(t, altered, 1, name)
	}

	for name, alter := range map[string]func(pprofile.ProfilesDictionary, pprofile.Profile, pprofile.Sample){
		"type": func(_ pprofile.ProfilesDictionary, p pprofile.Profile, _ pprofile.Sample) {
			p.SampleType().SetTypeStrindex(0)
		},
		"period": func(_ pprofile.ProfilesDictionary, p pprofile.Profile, _ pprofile.Sample) { p.SetPeriod(99) },
		"profile ID": func(_ pprofile.ProfilesDictionary, p pprofile.Profile, _ pprofile.Sample) {
			p.SetProfileID(pprofile.ProfileID{})
		},
		"payload": func(_ pprofile.ProfilesDictionary, p pprofile.Profile, _ pprofile.Sample) {
			p.OriginalPayload().Append(9)
		},
		"attribute": func(_ pprofile.ProfilesDictionary, _ pprofile.Profile, s pprofile.Sample) {
			s.AttributeIndices().SetAt(0, s.AttributeIndices().At(1))
		},
		"no attributes": func(_ pprofile.ProfilesDictionary, _ pprofile.Profile, s pprofile.Sample) {
			s.AttributeIndices().FromRaw(nil)
		},
		"stack":         func(_ pprofile.ProfilesDictionary, _ pprofile.Profile, s pprofile.Sample) { s.SetStackIndex(0) },
		"stack astray":  func(_ pprofile.ProfilesDictionary, _ pprofile.Profile, s pprofile.Sample) { s.SetStackIndex(99) },
		"link":          func(_ pprofile.ProfilesDictionary, _ pprofile.Profile, s pprofile.Sample) { s.SetLinkIndex(0) },
		"value":         func(_ pprofile.ProfilesDictionary, _ pprofile.Profile, s pprofile.Sample) { s.Values().SetAt(1, 9999) },
		"other sample":  func(_ pprofile.ProfilesDictionary, _ pprofile.Profile, s pprofile.Sample) { s.Values().SetAt(0, 1) },
		"lost identity": func(_ pprofile.ProfilesDictionary, _ pprofile.Profile, s pprofile.Sample) { s.Values().FromRaw(nil) },
		"timestamp": func(_ pprofile.ProfilesDictionary, _ pprofile.Profile, s pprofile.Sample) {
			s.TimestampsUnixNano().Append(9)
		},
		"function": func(d pprofile.ProfilesDictionary, _ pprofile.Profile, _ pprofile.Sample) {
			d.FunctionTable().At(1).SetStartLine(99)
		},
		"mapping": func(d pprofile.ProfilesDictionary, _ pprofile.Profile, _ pprofile.Sample) {
			d.MappingTable().At(1).SetMemoryStart(9)
		},
		"frame": func(d pprofile.ProfilesDictionary, _ pprofile.Profile, _ pprofile.Sample) {
			d.LocationTable().At(1).SetAddress(999)
		},
		"line": func(d pprofile.ProfilesDictionary, _ pprofile.Profile, _ pprofile.Sample) {
			d.LocationTable().At(1).Lines().At(0).SetLine(99)
		},
		"order of stack": func(d pprofile.ProfilesDictionary, _ pprofile.Profile, _ pprofile.Sample) {
			d.StackTable().At(1).LocationIndices().SetAt(0, 2)
		},
		"trace": func(d pprofile.ProfilesDictionary, _ pprofile.Profile, _ pprofile.Sample) {
			d.LinkTable().At(1).SetSpanID(spanID(0))
		},
		"entry twice": func(d pprofile.ProfilesDictionary, _ pprofile.Profile, _ pprofile.Sample) {
			d.StringTable().Append("cpu")
		},
		"first entry": func(d pprofile.ProfilesDictionary, _ pprofile.Profile, _ pprofile.Sample) {
			d.FunctionTable().At(0).SetStartLine(1)
		},
	} {
		data := generateProfiles(Range{First: 114, Items: 1}) // with a stack and a link
		p := data.ResourceProfiles().At(0).ScopeProfiles().At(0).Profiles().At(0)
		alter(data.Dictionary(), p, p.Samples().At(0))
		_, altered := profiles.inspect(data)
		assert.Len(t, altered, 1, name)
	}

	data := generateLogs(Range{First: 100, Items: 1})
	data.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0).SetFlags(plog.LogRecordFlags(99))
	_, altered := logs.inspect(data)
	assert.Len(t, altered, 1)
}

func spanOf(rs ptrace.ResourceSpans) ptrace.Span { return rs.ScopeSpans().At(0).Spans().At(0) }

func TestLedgerTellsWhatIsNotAsSent(t *testing.T) {
	sent := []Sent{
		{IDs: Range{First: 0, Items: 3}, Outcome: Acknowledged},
		{IDs: Range{First: 3, Items: 2}, Outcome: Refused},
		{IDs: Range{First: 5, Items: 2}, Outcome: Unknown},
		{IDs: Range{First: 7, Items: 1}, Outcome: Acknowledged, Attempts: 3},
		{IDs: Range{First: 8, Items: 1}, Outcome: Unknown, Attempts: 2},
	}
	for _, tt := range []struct {
		name    string
		arrived []uint64
		wrong   string // empty: nothing
	}{
		{"exactly", []uint64{2, 1, 0, 7}, ""},
		{"one of the unknown", []uint64{0, 1, 2, 6, 7}, ""},
		{"as often as they were sent", []uint64{0, 1, 2, 7, 7, 7, 8, 8}, ""},
		{"one missing", []uint64{0, 2, 7}, "1 items were acknowledged but have not arrived, such as [1]"},
		{"one missing that was repeated", []uint64{0, 1, 2}, "1 items were acknowledged but have not arrived, such as [7]"},
		{"one twice", []uint64{0, 1, 2, 1, 7}, "1 items arrived more often than they were sent, such as [1]"},
		{"one of the unknown twice", []uint64{0, 1, 2, 5, 5, 7}, "1 items arrived more often than they were sent, such as [5]"},
		{"one too often", []uint64{0, 1, 2, 7, 7, 7, 7, 8, 8, 8}, "2 items arrived more often than they were sent, such as [7 8]"},
		{"a refused one", []uint64{0, 1, 2, 4, 7}, "1 items were refused but have arrived, such as [4]"},
		{"a stranger", []uint64{0, 1, 2, 7, 77}, "1 items arrived that were never sent"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLedger()
			l.began()
			l.ended(Batch{IDs: tt.arrived}, nil)
			l.began()
			l.ended(Batch{IDs: []uint64{0, 1, 2, 3}, Err: errors.New("refused by the backend")}, nil)
			err := l.Check(sent)
			if tt.wrong == "" {
				assert.NoError(t, err)
				return
			}
			assert.EqualError(t, err, tt.wrong)
		})
	}

	l := newLedger()
	l.began()
	l.ended(Batch{}, []string{"item 7 was altered"})
	assert.EqualError(t, l.Check(nil), "item 7 was altered")
}

func TestLedgerTellsWhatComesTwiceInOneLife(t *testing.T) {
	l := newLedger()
	for _, b := range []Batch{
		{IDs: []uint64{1, 2}},
		{IDs: []uint64{3}, Err: errors.New("refused by the backend")},
		{IDs: []uint64{3, 2}, Life: 1},
	} {
		l.began()
		l.ended(b, nil)
	}
	require.NoError(t, l.CheckLives())
	l.began()
	l.ended(Batch{IDs: []uint64{2}, Life: 1}, nil)
	assert.EqualError(t, l.CheckLives(), "1 items arrived more than once in one life of the backend, such as [2]")
}

// clientsOf returns clients that talk to a backend directly.
func clientsOf(t *testing.T, b *Backend, header Header) []Client {
	t.Helper()
	return []Client{NewGRPCClient(t, b.GRPCAddress(), header), newHTTPClient(t, b.HTTPAddress(), header)}
}

func TestBackendAnswersAlikeOverBothProtocols(t *testing.T) {
	for _, tt := range []struct {
		answer    error
		code      codes.Code
		http      int
		retryable bool
		delay     time.Duration
	}{
		{status.Error(codes.InvalidArgument, "why"), codes.InvalidArgument, http.StatusBadRequest, false, 0},
		{status.Error(codes.Internal, "why"), codes.Internal, http.StatusInternalServerError, false, 0},
		{status.Error(codes.Unavailable, "why"), codes.Unavailable, http.StatusServiceUnavailable, true, 0},
		{Throttled(codes.ResourceExhausted, 2*time.Second), codes.ResourceExhausted, http.StatusTooManyRequests, true, 2 * time.Second},
		{Throttled(codes.Unavailable, 3*time.Second), codes.Unavailable, http.StatusServiceUnavailable, true, 3 * time.Second},
	} {
		t.Run(fmt.Sprintf("%v/%v", tt.code, tt.delay), func(t *testing.T) {
			backend := NewBackend(t)
			for _, client := range clientsOf(t, backend, nil) {
				for _, signal := range Signals() {
					backend.Refuse(tt.answer)
					err := client.Send(t.Context(), signal, Range{Items: 10})
					require.Error(t, err)
					var answer *HTTPError
					if errors.As(err, &answer) {
						assert.Equal(t, tt.http, answer.StatusCode)
						assert.Equal(t, status.Convert(tt.answer).Message(), answer.Message)
					} else {
						assert.Equal(t, tt.code, status.Code(err))
					}
					assert.Equal(t, tt.retryable, Retryable(err))
					assert.Equal(t, tt.delay, RetryDelay(err))
					backend.Accept()
					require.NoError(t, client.Send(t.Context(), signal, Range{Items: 10}))
				}
			}
			for _, signal := range Signals() {
				assert.Len(t, backend.Ledger(signal).Refused(), 2)
				assert.Len(t, backend.Ledger(signal).Delivered(), 2)
			}
		})
	}
}

// What a backend does that resets connections is known, and whether it has taken what it did not
// answer. It ends when it is told to.
func TestBackendResetsConnections(t *testing.T) {
	for _, takes := range []bool{false, true} {
		backend := NewBackend(t)
		ledger := backend.Ledger(Logs)
		for i, client := range clientsOf(t, backend, nil) {
			ids := Range{First: uint64(i) * 100, Items: 10}
			backend.Hold()
			answers := make(chan error, 2)
			for range 2 { // at the same time, over gRPC over one connection
				go func() { answers <- client.Send(t.Context(), Logs, ids) }()
			}
			ledger.Await(t, "two calls", func(l *Ledger) bool { return l.Waiting() == 2 })
			backend.Reset(takes)
			for range 2 {
				err := <-answers
				require.Error(t, err)
				assert.True(t, Retryable(err), "%v", err)
			}
			ledger.Await(t, "the end", func(l *Ledger) bool { return l.UnderWay() == 0 })
			backend.Accept()
			attempts, err := SendPersistently(t.Context(), client, Logs, Range{First: uint64(i)*100 + 50, Items: 10})
			require.NoError(t, err, "after %d attempts", attempts)
		}
		all, unanswered := ledger.Taken()
		if takes {
			assert.Equal(t, 60, all)
			assert.Equal(t, 40, unanswered)
			assert.Empty(t, ledger.Refused())
		} else {
			assert.Equal(t, 20, all)
			assert.Zero(t, unanswered)
			assert.Len(t, ledger.Refused(), 4)
		}
	}
}

func TestBackendNeverAnswersWhatItIgnores(t *testing.T) {
	backend := NewBackend(t)
	ledger := backend.Ledger(Logs)
	for i, client := range clientsOf(t, backend, nil) {
		backend.Hold()
		ctx, cancel := context.WithCancel(t.Context())
		ignored := make(chan error, 1)
		go func() { ignored <- client.Send(ctx, Logs, Range{Items: 10}) }()
		ledger.Await(t, "a call", func(l *Ledger) bool { return l.Waiting() == 1 })
		backend.Ignore()
		backend.Accept()
		require.NoError(t, client.Send(t.Context(), Logs, Range{First: 10, Items: 10}))
		select {
		case err := <-ignored:
			t.Fatalf("%s was answered: %v", client.Protocol(), err)
		default:
		}
		cancel()
		require.Error(t, <-ignored)
		ledger.Await(t, "the end", func(l *Ledger) bool { return l.UnderWay() == 0 })
		assert.Len(t, ledger.Refused(), i+1)
	}
}

// A late answer is that of the calls that were there when it was said.
func TestBackendAnswersLate(t *testing.T) {
	const delay = 300 * time.Millisecond
	backend := NewBackend(t)
	ledger := backend.Ledger(Logs)
	for i, client := range clientsOf(t, backend, nil) {
		backend.Hold()
		late := make(chan error, 1)
		go func() { late <- client.Send(t.Context(), Logs, Range{Items: 10}) }()
		ledger.Await(t, "a call", func(l *Ledger) bool { return l.Waiting() == 1 })
		began := time.Now()
		backend.Delay(delay)
		backend.Refuse(status.Error(codes.Unavailable, "too late for the first"))
		require.Error(t, client.Send(t.Context(), Logs, Range{First: 10, Items: 10}))
		require.NoError(t, <-late)
		assert.GreaterOrEqual(t, time.Since(began), delay)

		// Who has given up by then has sent in vain.
		backend.Delay(time.Hour)
		ctx, cancel := context.WithTimeout(t.Context(), delay)
		require.Error(t, client.Send(ctx, Logs, Range{First: 20, Items: 10}))
		cancel()
		ledger.Await(t, "the end", func(l *Ledger) bool { return l.UnderWay() == 0 })
		assert.Len(t, ledger.Delivered(), i+1)
		backend.HoldAll() // nobody is under way
		backend.Accept()
	}
}

func TestBackendKnowsTheHeadersOfABatchAndHoldsSomeByThem(t *testing.T) {
	backend := NewBackend(t)
	backend.HoldIf(func(b Batch) bool { return len(b.Header["held"]) > 0 })
	answers := make(chan error)
	held := clientsOf(t, backend, Header{"Held": {"a", ""}})
	for _, client := range held {
		go func() { answers <- client.Send(t.Context(), Logs, Range{Items: 10}) }()
	}
	ledger := backend.Ledger(Logs)
	ledger.Await(t, "held calls", func(l *Ledger) bool { return l.Waiting() == len(held) })
	for _, client := range clientsOf(t, backend, nil) {
		require.NoError(t, client.Send(t.Context(), Logs, Range{Items: 10}))
	}
	backend.Accept()
	for range held {
		require.NoError(t, <-answers)
	}
	var headers []Header
	for _, b := range ledger.Delivered() {
		headers = append(headers, b.Header)
	}
	assert.Equal(t, []Header{{}, {}, {"held": {"a", ""}}, {"held": {"a", ""}}}, headers)
}

func TestRetryableIsWhatOTLPSays(t *testing.T) {
	assert.False(t, Retryable(nil))
	assert.False(t, Retryable(status.Error(codes.ResourceExhausted, "says not when")))
	assert.True(t, Retryable(&HTTPError{StatusCode: http.StatusTooManyRequests}))
	assert.True(t, Retryable(errors.New("connection refused")))
}

// A message of exactly the limit is taken, one byte more is not.
func TestLimitedBackendTakesMessagesUpToTheLimit(t *testing.T) {
	for _, tt := range []struct {
		bytes int
		code  codes.Code
	}{{MessageLimit, codes.OK}, {MessageLimit + 1, codes.ResourceExhausted}} {
		backend := NewLimitedBackend(t)
		cc, err := grpc.NewClient(backend.GRPCAddress(), grpc.WithTransportCredentials(insecure.NewCredentials()))
		require.NoError(t, err)
		data := generateLogs(Range{Items: 1})
		body := data.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0).Body()
		for missing := MessageLimit - 100; missing != 0; missing = tt.bytes - len(logs.encode(data)) {
			body.SetStr(strings.Repeat("x", len(body.Str())+missing))
		}
		_, err = logs.export(t.Context(), cc, data)
		assert.Equal(t, tt.code, status.Code(err), "%v", err)
		require.NoError(t, cc.Close())
		if tt.code == codes.OK {
			assert.Zero(t, backend.TooLarge())
			assert.Equal(t, tt.bytes, backend.Ledger(Logs).LargestMessage())
			continue
		}
		assert.Equal(t, 1, backend.TooLarge())
		assert.Empty(t, backend.Ledger(Logs).Refused(), "it was not decoded")
	}
}

// What a backend answers is not what its server refuses.
func TestTooLargeCountsNoAnswersOfTheBackend(t *testing.T) {
	backend := NewLimitedBackend(t)
	backend.Refuse(Throttled(codes.ResourceExhausted, time.Second))
	for _, client := range clientsOf(t, backend, nil) {
		require.Error(t, client.Send(t.Context(), Logs, Range{Items: 10}))
	}
	assert.Zero(t, backend.TooLarge())
	refused := backend.Ledger(Logs).Refused()
	require.Len(t, refused, 2)
	assert.Positive(t, refused[0].Bytes)
	assert.Equal(t, refused[0].Bytes, refused[1].Bytes, "over both protocols")
}

func TestStalledBackendReadsNothing(t *testing.T) {
	backend := NewBackend(t)
	client := NewGRPCClient(t, backend.GRPCAddress(), nil)
	require.NoError(t, client.Send(t.Context(), Logs, Range{Items: 1}))
	for _, goOn := range []func(){backend.Accept, func() { backend.Kill(t) }} {
		backend.Stall()
		answer := make(chan error, 1)
		go func() { answer <- client.Send(t.Context(), Logs, Range{First: Giant, Items: 1}) }()
		other := NewGRPCClient(t, backend.GRPCAddress(), nil) // who connects is not answered either
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		require.Error(t, other.Send(ctx, Logs, Range{First: 1, Items: 1}))
		cancel()
		assert.Zero(t, backend.Ledger(Logs).Waiting())
		goOn()
		if err := <-answer; err != nil {
			assert.True(t, Retryable(err), "%v", err)
		}
	}
}

func TestHeapInUseIsReadFromAProfile(t *testing.T) {
	bytes, err := heapInUse("heap profile: 1: 2 [3: 4] @ heap/1048576\n\n# runtime.MemStats\n# Alloc = 1\n# HeapAlloc = 2345\n# HeapSys = 9\n")
	require.NoError(t, err)
	assert.Equal(t, 2345, bytes)
	_, err = heapInUse("heap profile: 1: 2 [3: 4] @ heap/1048576\n")
	require.EqualError(t, err, `no "# HeapAlloc =" in the heap profile`)
}

func TestDecodedHeapIsMoreThanTheTextsAndNotMuchMore(t *testing.T) {
	for _, s := range Signals() {
		assert.InEpsilon(t, giantBulk, s.DecodedHeap(Range{First: Giant, Items: 1}), 0.02, s.Name())
	}
}

// What waits when the backend dies is not taken, and nobody is answered until it is
// back, at the same place.
func TestKilledBackendAnswersNobodyUntilItIsRestarted(t *testing.T) {
	backend := NewBackend(t)
	clients := clientsOf(t, backend, nil)
	for life := range 3 {
		backend.Hold()
		answers := make(chan error)
		for i, client := range clients {
			go func() { answers <- client.Send(t.Context(), Logs, Range{First: uint64(life*100 + i*10), Items: 10}) }()
		}
		backend.Ledger(Logs).Await(t, "held calls", func(l *Ledger) bool { return l.Waiting() == len(clients) })
		backend.Kill(t)
		for range clients {
			err := <-answers
			require.Error(t, err)
			assert.True(t, Retryable(err), "%v", err)
		}
		for _, client := range clients {
			require.Error(t, client.Send(t.Context(), Logs, Range{Items: 10}))
		}
		backend.Accept()
		backend.Restart(t)
		for i, client := range clients {
			attempts, err := SendPersistently(t.Context(), client, Logs, Range{First: uint64(1000 + life*100 + i*10), Items: 10})
			require.NoError(t, err)
			assert.Positive(t, attempts)
		}
	}
	delivered := backend.Ledger(Logs).Delivered()
	require.Len(t, delivered, 6)
	for i, b := range delivered {
		assert.Equal(t, 1+i/2, b.Life)
		assert.GreaterOrEqual(t, b.IDs[0], uint64(1000))
		assert.False(t, b.Answered.Before(b.Arrived))
	}
	assert.Len(t, backend.Ledger(Logs).Refused(), 6, "those that waited")
}

func TestSizesAddUp(t *testing.T) {
	sizes := Sizes(rand.New(rand.NewPCG(1, 2)), 100_000, 5000)
	total := 0
	for _, n := range sizes {
		assert.Positive(t, n)
		assert.LessOrEqual(t, n, 5000)
		total += n
	}
	assert.Equal(t, 100_000, total)
	assert.Contains(t, sizes, 1)
	assert.Contains(t, sizes, 5000)
}

func TestScrapeAddsUpSeries(t *testing.T) {
	s, err := parseScrape(strings.NewReader(`
# TYPE otelcol_processor_boundedbatch_accepted_items counter
otelcol_processor_boundedbatch_accepted_items{signal="traces"} 30
# TYPE otelcol_processor_boundedbatch_delivered_items counter
otelcol_processor_boundedbatch_delivered_items{signal="traces"} 10
# TYPE otelcol_processor_boundedbatch_failed_items counter
otelcol_processor_boundedbatch_failed_items{cause="permanent",signal="traces"} 3
otelcol_processor_boundedbatch_failed_items{cause="timeout",signal="traces"} 2
otelcol_processor_boundedbatch_failed_items{cause="timeout",signal="logs"} 7
# TYPE otelcol_processor_boundedbatch_dropped_items counter
otelcol_processor_boundedbatch_dropped_items{cause="shutdown",signal="traces"} 0
# TYPE otelcol_processor_boundedbatch_held_items gauge
otelcol_processor_boundedbatch_held_items{signal="traces",state="pending"} 14
# TYPE otelcol_processor_boundedbatch_capacity_items gauge
otelcol_processor_boundedbatch_capacity_items{signal="traces"} 12
# TYPE otelcol_processor_boundedbatch_held_bytes gauge
otelcol_processor_boundedbatch_held_bytes{signal="traces"} 301
# TYPE otelcol_processor_boundedbatch_capacity_bytes gauge
otelcol_processor_boundedbatch_capacity_bytes{signal="traces"} 300
# TYPE otelcol_processor_boundedbatch_batch_items histogram
otelcol_processor_boundedbatch_batch_items_bucket{signal="traces",le="+Inf"} 4
otelcol_processor_boundedbatch_batch_items_sum{signal="traces"} 15
otelcol_processor_boundedbatch_batch_items_count{signal="traces"} 4
`))
	require.NoError(t, err)
	assert.EqualValues(t, 5, s.Sum(Traces, "failed_items"))
	assert.EqualValues(t, 2, s.Sum(Traces, "failed_items", "cause", "timeout"))
	assert.EqualValues(t, 4, s.Sum(Traces, "batch_items"))
	assert.InDelta(t, 15, s.Total(Traces, "batch_items"), 0)
	assert.EqualValues(t, Absent, s.Sum(Traces, "failed_items", "cause", "boredom"))
	assert.EqualValues(t, Absent, s.Sum(Metrics, "accepted_items"))
	require.EqualError(t, s.Bounds(Traces), "traces: accepted 30 != delivered 10 + failed 5 + dropped 0 + held 14\n"+
		"traces: held 14 exceeds the capacity of 12\n"+
		"traces: held 301 bytes exceed the capacity of 300")
	assert.EqualError(t, s.Bounds(Metrics), "metrics: counters are absent")
}

func TestLogTextTellsWhatIsWritten(t *testing.T) {
	l := newLogText()
	early := l.mention("ready")
	for _, part := range []string{"not re", "ady"} { // a text may come in pieces
		select {
		case <-early:
			t.Fatal("too early")
		default:
		}
		_, err := l.Write([]byte(part))
		require.NoError(t, err)
	}
	<-early
	<-l.mention("ready")
	assert.True(t, l.contains("not ready"))

	again := l.mentionFromNow("ready")
	for _, part := range []string{"y", "already"} {
		select {
		case <-again:
			t.Fatal("that was written before")
		default:
		}
		_, err := l.Write([]byte(part))
		require.NoError(t, err)
	}
	<-again
}

// A timer counts as long as something refers to it, whoever has made it.
func TestTimersAreCounted(t *testing.T) {
	count := func() Objects {
		runtime.GC()
		runtime.GC()
		var text bytes.Buffer
		require.NoError(t, pprof.Lookup("heap").WriteTo(&text, 0))
		heap, err := profile.Parse(&text)
		require.NoError(t, err)
		heap.Period = 1 // of this package it is 512 KiB, but for what is below
		o, err := objectsIn(heap)
		require.NoError(t, err)
		return o
	}
	rate := runtime.MemProfileRate
	runtime.MemProfileRate = 1
	defer func() { runtime.MemProfileRate = rate }()

	before := count()
	var kept [100]*time.Timer
	for i := range kept {
		kept[i] = time.NewTimer(time.Hour)
		kept[i].Stop()
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	ticker := time.NewTicker(time.Hour)
	function := time.AfterFunc(time.Hour, func() {})
	with := count()
	assert.InDelta(t, before.Timers+len(kept)+3, with.Timers, 2)
	assert.Greater(t, with.Bytes, before.Bytes)
	runtime.KeepAlive(kept)
	runtime.KeepAlive(ctx)
	cancel()
	ticker.Stop()
	function.Stop()
	runtime.KeepAlive(ticker)
	runtime.KeepAlive(function)
	assert.InDelta(t, before.Timers, count().Timers, 2)
}

func TestProfileOfSamplesHasNoExactNumbers(t *testing.T) {
	var text bytes.Buffer
	require.NoError(t, pprof.Lookup("heap").WriteTo(&text, 0))
	heap, err := profile.Parse(&text)
	require.NoError(t, err)
	_, err = objectsIn(heap)
	require.ErrorContains(t, err, "not a complete heap profile")
}

func TestPaceTakesNoMoreThanItsItemsPerSecond(t *testing.T) {
	const calls, items = 5, 20
	pace := NewPace(1000)
	began := time.Now()
	var taking sync.WaitGroup
	for range calls { // at the same time
		taking.Go(func() { assert.NoError(t, pace.Take(make([]uint64, items))) })
	}
	taking.Wait()
	assert.GreaterOrEqual(t, time.Since(began), calls*items*time.Millisecond)

	hour := make([]uint64, 3_600_000)
	// What waits is answered when the pace ends, and so is what comes later.
	taking.Go(func() { assert.NoError(t, pace.Take(hour)) })
	pace.End()
	taking.Wait()
	require.NoError(t, pace.Take(hour))
}

// A remote write backend says what Prometheus would say of the order.
func TestRemoteWriteRefusesWhatPrometheusRefuses(t *testing.T) {
	statuses := map[int]int{4: http.StatusServiceUnavailable}
	r := NewRemoteWrite(t, func(request int) int { return statuses[request] })
	write := func(series string, samples ...Sample) int {
		t.Helper()
		of := protowire.AppendTag(nil, timeSeriesLabels, protowire.BytesType)
		label := protowire.AppendString(protowire.AppendTag(nil, labelName, protowire.BytesType), "__name__")
		label = protowire.AppendString(protowire.AppendTag(label, labelValue, protowire.BytesType), series)
		of = protowire.AppendBytes(of, label)
		for _, s := range samples {
			sample := protowire.AppendFixed64(protowire.AppendTag(nil, sampleValue, protowire.Fixed64Type), math.Float64bits(s.Value))
			sample = protowire.AppendVarint(protowire.AppendTag(sample, sampleTimestamp, protowire.VarintType), uint64(s.Timestamp))
			of = protowire.AppendBytes(protowire.AppendTag(of, timeSeriesSamples, protowire.BytesType), sample)
		}
		body := protowire.AppendBytes(protowire.AppendTag(nil, writeTimeSeries, protowire.BytesType), of)
		return post(t, r.URL(), snappy.Encode(nil, body))
	}
	require.Equal(t, http.StatusNoContent, write("a", Sample{1, 10}, Sample{2, 20}))
	require.Equal(t, http.StatusNoContent, write("b", Sample{1, 5}), "of another series")
	require.Equal(t, http.StatusNoContent, write("a", Sample{2, 20}), "the same again")
	require.NoError(t, r.Check())
	require.Equal(t, http.StatusBadRequest, write("a", Sample{3, 20}), "another value of the same time")
	require.ErrorContains(t, r.Check(), "out of order")
	require.Equal(t, http.StatusServiceUnavailable, write("a", Sample{4, 30}))
	require.Equal(t, http.StatusBadRequest, write("a", Sample{5, 40}, Sample{6, 39}), "within a request")
	require.Equal(t, map[string][]Sample{
		"__name__=a": {{1, 10}, {2, 20}, {2, 20}, {5, 40}}, "__name__=b": {{1, 5}},
	}, r.Series())
	require.Equal(t, http.StatusBadRequest, post(t, r.URL(), []byte("no snappy")))
	require.ErrorContains(t, r.Check(), "snappy")
}

func post(t *testing.T, url string, body []byte) (status int) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(body))
	require.NoError(t, err)
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	return resp.StatusCode
}

// A program that ignores SIGHUP when it starts is sent one before it has asked for it, and goes on; after that it is known to
// listen. The program is this test.
func TestSignalIsHeardWhenItIsAskedFor(t *testing.T) {
	const child = "HARNESS_TEST_LISTENS"
	if os.Getenv(child) != "" {
		in := bufio.NewScanner(os.Stdin)
		fmt.Println("up")
		in.Scan()
		signals := make(chan os.Signal, 1)
		ossignal.Notify(signals, syscall.SIGHUP)
		fmt.Println("listens")
		in.Scan()
		return
	}
	program, args := withoutHangup(os.Args[0], []string{"-test.run", "^" + t.Name() + "$"})
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Env = append(os.Environ(), child+"=1")
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewScanner(out)
	reads := func(want string) {
		t.Helper()
		require.True(t, lines.Scan())
		require.Equal(t, want, lines.Text())
	}
	c := &Collector{process: &process{cmd: cmd, log: newLogText(), exited: make(chan struct{})}}
	reads("up")
	hears, err := c.hears(syscall.SIGHUP)
	require.NoError(t, err)
	require.False(t, hears)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorContains(t, c.awaitSignals(ctx), "does not listen to signals")
	c.Signal(t, syscall.SIGHUP)
	_, err = in.Write([]byte("\n"))
	require.NoError(t, err)
	reads("listens")
	require.NoError(t, c.awaitSignals(t.Context()))
	require.NoError(t, in.Close())
	reads("PASS")
	require.NoError(t, cmd.Wait())
}
