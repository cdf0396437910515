package batcher

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/xpdata/entity"
)

// measured is how the footprint of one signal is checked against the heap and the wire.
type measured[T any] struct {
	empty     func() T
	fill      func(T, *author, shape)
	marshal   func(T) ([]byte, error)
	unmarshal func([]byte) (T, error)
	size      func(T) int
	footprint func(T) int
	shapes    []shape // of this signal only
}

var (
	measuredTraces = measured[ptrace.Traces]{
		ptrace.NewTraces, fillTraces,
		new(ptrace.ProtoMarshaler).MarshalTraces, new(ptrace.ProtoUnmarshaler).UnmarshalTraces,
		new(ptrace.ProtoMarshaler).TracesSize, tracesFootprint,
		[]shape{
			{name: "children=1", items: 100, attributes: 5, children: 1},
			{name: "children=3", items: 100, attributes: 2, children: 3},
			{name: "children=40", items: 10, attributes: 5, children: 40},
			{name: "children=200/attributes=0", items: 10, children: 200},
			{name: "details", items: 100, attributes: 5, details: true},
		},
	}
	measuredLogs = measured[plog.Logs]{
		plog.NewLogs, fillLogs,
		new(plog.ProtoMarshaler).MarshalLogs, new(plog.ProtoUnmarshaler).UnmarshalLogs,
		new(plog.ProtoMarshaler).LogsSize, logsFootprint,
		[]shape{
			{name: "body=none", items: 100, attributes: 3, body: func(*author, pcommon.Value) {}},
			{name: "body=short", items: 100, body: shortText},
			{name: "body=long", items: 100, attributes: 3, body: longText},
			{name: "body=huge", items: 10, attributes: 3, body: hugeText},
			{name: "body=map", items: 100, attributes: 3, body: deepMap},
			{name: "details", items: 100, attributes: 5, details: true},
		},
	}
	measuredMetrics = measured[pmetric.Metrics]{
		pmetric.NewMetrics, fillMetrics,
		new(pmetric.ProtoMarshaler).MarshalMetrics, new(pmetric.ProtoUnmarshaler).UnmarshalMetrics,
		new(pmetric.ProtoMarshaler).MetricsSize, metricsFootprint,
		func() (shapes []shape) {
			for _, kind := range []pmetric.MetricType{
				pmetric.MetricTypeEmpty, pmetric.MetricTypeSum, pmetric.MetricTypeHistogram,
				pmetric.MetricTypeExponentialHistogram, pmetric.MetricTypeSummary,
			} {
				for _, s := range []shape{
					{name: "children=0", items: 1000},
					{name: "children=1", items: 100, attributes: 1, children: 1},
					{name: "children=10", items: 100, attributes: 5, children: 10},
					{name: "children=160", items: 100, attributes: 5, children: 160},
					{name: "perMetric=1", items: 100, attributes: 5, children: 12, perMetric: 1},
					{name: "perMetric=50/details", items: 500, attributes: 10, children: 20, perMetric: 50, details: true},
				} {
					s.kind, s.name = kind, fmt.Sprintf("kind=%v/%s", kind, s.name)
					shapes = append(shapes, s)
				}
			}
			return append(
				shapes,
				shape{name: "kind=Gauge/exemplars", kind: pmetric.MetricTypeGauge, items: 100, attributes: 5, children: 2, details: true},
				shape{name: "kind=Gauge/perMetric=1", kind: pmetric.MetricTypeGauge, items: 1000, attributes: 5, perMetric: 1},
			)
		}(),
	}
)

// TestFootprintIsWhatTheHeapHolds decodes many copies of a request, as a receiver does, and
// compares the estimate with what is left on the heap by a collection.
func TestFootprintIsWhatTheHeapHolds(t *testing.T) {
	t.Run("signal=traces", func(t *testing.T) { testFootprint(t, measuredTraces) })
	t.Run("signal=logs", func(t *testing.T) { testFootprint(t, measuredLogs) })
	t.Run("signal=metrics", func(t *testing.T) { testFootprint(t, measuredMetrics) })
}

func testFootprint[T any](t *testing.T, m measured[T]) {
	if raceEnabled {
		t.Skip("with the race detector small objects do not share blocks")
	}
	decoded, wire := newSpread(), newSpread()
	for _, s := range append(commonShapes(), m.shapes...) {
		encoded, err := m.marshal(m.write(s))
		require.NoError(t, err)
		estimate, held := hold(t, 8<<20, m.footprint, func() T {
			data, err := m.unmarshal(encoded)
			require.NoError(t, err)
			return data
		})
		runtime.KeepAlive(encoded) // until here, so that it counts neither before nor after
		decoded.add(estimate / held)
		wire.add(held / float64(len(encoded)))
		t.Logf("%-60s %9.0f B held, estimate %+5.1f %%, %4.1f times the encoding", s.name, held, 100*(estimate/held-1), held/float64(len(encoded)))
		assert.InEpsilon(t, held, estimate, 0.10, "%s", s.name)
	}
	t.Logf("estimates are %v of the heap, the heap is %v times the encoding", decoded, wire)
}

// TestFootprintOfDataMadeInAProgram is about data that was never encoded.
func TestFootprintOfDataMadeInAProgram(t *testing.T) {
	t.Run("signal=traces", func(t *testing.T) { testFootprintOfMade(t, measuredTraces) })
	t.Run("signal=logs", func(t *testing.T) { testFootprintOfMade(t, measuredLogs) })
	t.Run("signal=metrics", func(t *testing.T) { testFootprintOfMade(t, measuredMetrics) })
}

func testFootprintOfMade[T any](t *testing.T, m measured[T]) {
	if raceEnabled {
		t.Skip("with the race detector small objects do not share blocks")
	}
	made := newSpread()
	for _, s := range append(commonShapes(), m.shapes...) {
		if s.items*(s.attributes+1) > 6000 {
			continue // says nothing new and takes long: an attribute is looked for among all others first
		}
		estimate, held := hold(t, 3<<20, m.footprint, func() T { return m.write(s) })
		made.add(estimate / held)
		assert.InEpsilon(t, held, estimate, 0.15, "%s", s.name)
	}
	t.Logf("estimates are %v of the heap", made)
}

// hold makes copies until they have enough bytes to be measured, and returns what is estimated
// for one and what one holds.
func hold[T any](t *testing.T, enough int, footprint func(T) int, copied func() T) (estimate, held float64) {
	if testing.Short() {
		enough /= 4
	}
	estimated := footprint(copied())
	copies := make([]T, 1+enough/estimated)
	before := liveHeap()
	for i := range copies {
		copies[i] = copied()
	}
	after := liveHeap()
	for _, c := range copies {
		require.Equal(t, estimated, footprint(c))
	}
	runtime.KeepAlive(copies)
	return float64(estimated), float64(after-before) / float64(len(copies))
}

// liveHeap is what is reachable. The second collection frees what the first has taken out of pools.
func liveHeap() int64 {
	runtime.GC()
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}

type spread struct{ least, most float64 }

func newSpread() *spread { return &spread{1e9, 0} }

func (s *spread) add(x float64) { s.least, s.most = min(s.least, x), max(s.most, x) }

func (s *spread) String() string { return fmt.Sprintf("%.3f to %.3f", s.least, s.most) }

// shape says what a request looks like.
type shape struct {
	name        string
	items       int
	attributes  int                          // of each item
	value       func(*author, pcommon.Value) // of the attributes; nil: mixed
	keys        func(*author, int) string    // nil: as in semantic conventions
	body        func(*author, pcommon.Value) // of log records; nil: mixed
	children    int                          // events and links of a span; buckets, quantiles of a point
	perScope    int                          // items; 0: all of a resource
	perResource int                          // items; 0: all
	perMetric   int                          // points; 0: 10
	details     bool                         // what is seldom set: trace state, status, exemplars, metadata, entities
	kind        pmetric.MetricType           // Empty: all kinds in turn
}

func commonShapes() (shapes []shape) {
	for _, items := range []int{1, 10, 100, 1000, 5000} {
		for _, attributes := range []int{0, 1, 5, 20, 50} {
			if testing.Short() && items*attributes > 20_000 {
				continue
			}
			shapes = append(shapes, shape{name: fmt.Sprintf("items=%d/attributes=%d", items, attributes), items: items, attributes: attributes})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(valueKinds)) {
		for _, attributes := range []int{1, 10} {
			shapes = append(shapes, shape{name: fmt.Sprintf("values=%s/attributes=%d", name, attributes), items: 100, attributes: attributes, value: valueKinds[name]})
		}
	}
	return append(
		shapes,
		shape{name: "keys=short/values=int", items: 100, attributes: 10, keys: shortKey, value: wholeNumber},
		shape{name: "keys=short/values=short", items: 100, attributes: 10, keys: shortKey, value: shortText},
		shape{name: "keys=short/values=bool", items: 100, attributes: 10, keys: shortKey, value: truth},
		shape{name: "resources=100/scopes=100", items: 100, attributes: 3, perResource: 1, perScope: 1},
		shape{name: "resources=20/scopes=100", items: 500, attributes: 5, perResource: 25, perScope: 5},
		shape{name: "scopes=300/attributes=0", items: 300, perScope: 1},
		shape{name: "resources=300/details", items: 300, perResource: 1, details: true},
	)
}

// author makes up what is in a request. Every string is new.
type author struct{ *rand.Rand }

func newAuthor() *author { return &author{rand.New(rand.NewPCG(1, 2))} }

func (a *author) text(from, to int) string {
	return strings.Repeat("x", from+a.IntN(to-from+1))
}

var conventional = strings.Fields(`http.request.method url.full user_agent.original server.address server.port
	http.response.status_code network.protocol.version client.address url.path url.scheme error.type db.system.name
	db.query.text db.collection.name rpc.method rpc.service messaging.destination.name messaging.operation.type
	thread.id thread.name code.function.name code.file.path code.line.number exception.type exception.message tenant user.id
	session.id k8s.pod.name k8s.namespace.name region zone peer level host`)

func conventionalKey(_ *author, i int) string {
	key := conventional[i*11%len(conventional)]
	if i >= len(conventional) {
		return fmt.Sprint(key, ".", i)
	}
	return strings.Clone(key)
}

func shortKey(_ *author, i int) string { return strings.Clone(fmt.Sprint("k", i)) }

var valueKinds = map[string]func(*author, pcommon.Value){
	"none": func(*author, pcommon.Value) {}, "short": shortText, "middle": middleText, "long": longText, "huge": hugeText, "int": wholeNumber, "double": realNumber,
	"bool": truth, "bytes": octets, "slice": textList, "nested": deepMap,
}

func shortText(a *author, v pcommon.Value)   { v.SetStr(a.text(2, 12)) }
func middleText(a *author, v pcommon.Value)  { v.SetStr(a.text(10, 60)) }
func longText(a *author, v pcommon.Value)    { v.SetStr(a.text(100, 1500)) }
func hugeText(a *author, v pcommon.Value)    { v.SetStr(a.text(3000, 50_000)) }
func wholeNumber(a *author, v pcommon.Value) { v.SetInt(a.Int64N(1 << 40)) }
func realNumber(a *author, v pcommon.Value)  { v.SetDouble(a.Float64()) }
func truth(a *author, v pcommon.Value)       { v.SetBool(a.IntN(2) > 0) }
func octets(a *author, v pcommon.Value)      { v.SetEmptyBytes().FromRaw(make([]byte, a.IntN(40))) }

func textList(a *author, v pcommon.Value) {
	s := v.SetEmptySlice()
	for range a.IntN(12) {
		shortText(a, s.AppendEmpty())
	}
}

func deepMap(a *author, v pcommon.Value) {
	m := v.SetEmptyMap()
	a.attributes(m, shape{attributes: 2 + a.IntN(4), value: middleText})
	textList(a, m.PutEmpty(strings.Clone("list")))
	inner := m.PutEmptyMap(strings.Clone("inner"))
	a.attributes(inner, shape{attributes: a.IntN(4), value: wholeNumber})
	textList(a, inner.PutEmpty(strings.Clone("codes")))
	inner.PutEmptySlice(strings.Clone("rows")).AppendEmpty().SetEmptyMap().PutBool(strings.Clone("ok"), true)
}

func mixedValue(a *author, v pcommon.Value) {
	switch a.IntN(10) {
	case 0, 1:
		wholeNumber(a, v)
	case 2:
		realNumber(a, v)
	case 3:
		truth(a, v)
	case 4:
		shortText(a, v)
	case 5:
		textList(a, v)
	default:
		middleText(a, v)
	}
}

func (a *author) attributes(m pcommon.Map, s shape) {
	value, key := s.value, s.keys
	if value == nil {
		value = mixedValue
	}
	if key == nil {
		key = conventionalKey
	}
	for i := range s.attributes {
		value(a, m.PutEmpty(key(a, i)))
	}
}

func (a *author) resource(r pcommon.Resource, s shape) {
	a.attributes(r.Attributes(), shape{attributes: 6, value: middleText})
	if s.details {
		refs := entity.ResourceEntityRefs(r)
		for range 2 {
			ref := refs.AppendEmpty()
			ref.SetType(a.text(4, 10))
			ref.SetSchemaUrl(a.text(20, 30))
			ref.IdKeys().FromRaw([]string{a.text(10, 20), a.text(5, 15)})
			ref.DescriptionKeys().FromRaw([]string{a.text(10, 20), a.text(5, 15), a.text(5, 15)})
		}
	}
}

func (a *author) scope(s pcommon.InstrumentationScope) {
	s.SetName(a.text(10, 40))
	s.SetVersion(a.text(5, 6))
	a.attributes(s.Attributes(), shape{attributes: a.IntN(2)})
}

// write makes a request of shape s.
func (m measured[T]) write(s shape) T {
	data := m.empty()
	if s.perResource == 0 {
		s.perResource = s.items
	}
	if s.perScope == 0 {
		s.perScope = s.perResource
	}
	if s.perMetric == 0 {
		s.perMetric = 10
	}
	m.fill(data, newAuthor(), s)
	return data
}

func fillTraces(td ptrace.Traces, a *author, s shape) {
	for first := 0; first < s.items; first += s.perResource {
		rs := td.ResourceSpans().AppendEmpty()
		rs.SetSchemaUrl(a.text(30, 40))
		a.resource(rs.Resource(), s)
		for n := 0; n < min(s.perResource, s.items-first); n += s.perScope {
			ss := rs.ScopeSpans().AppendEmpty()
			a.scope(ss.Scope())
			for range min(s.perScope, s.perResource-n, s.items-first-n) {
				fillSpan(ss.Spans().AppendEmpty(), a, s)
			}
		}
	}
}

func fillSpan(span ptrace.Span, a *author, s shape) {
	span.SetTraceID(pcommon.TraceID{1, 15: byte(a.IntN(256))})
	span.SetSpanID(pcommon.SpanID{1, 7: byte(a.IntN(256))})
	span.SetParentSpanID(pcommon.SpanID{2, 7: byte(a.IntN(256))})
	span.SetStartTimestamp(1 << 60)
	span.SetEndTimestamp(1<<60 + 1e6)
	span.SetKind(ptrace.SpanKindServer)
	span.SetName(a.text(5, 40))
	a.attributes(span.Attributes(), s)
	for range s.children {
		e := span.Events().AppendEmpty()
		e.SetTimestamp(1 << 60)
		e.SetName(a.text(5, 20))
		a.attributes(e.Attributes(), s)
	}
	for range s.children {
		l := span.Links().AppendEmpty()
		l.SetTraceID(pcommon.TraceID{3})
		l.SetSpanID(pcommon.SpanID{3})
		a.attributes(l.Attributes(), s)
		if s.details {
			l.TraceState().FromRaw(a.text(10, 60))
		}
	}
	if s.details {
		span.TraceState().FromRaw(a.text(10, 60))
		span.Status().SetMessage(a.text(0, 100))
		span.Status().SetCode(ptrace.StatusCodeError)
	}
}

func fillLogs(ld plog.Logs, a *author, s shape) {
	for first := 0; first < s.items; first += s.perResource {
		rl := ld.ResourceLogs().AppendEmpty()
		rl.SetSchemaUrl(a.text(30, 40))
		a.resource(rl.Resource(), s)
		for n := 0; n < min(s.perResource, s.items-first); n += s.perScope {
			sl := rl.ScopeLogs().AppendEmpty()
			a.scope(sl.Scope())
			for range min(s.perScope, s.perResource-n, s.items-first-n) {
				fillLogRecord(sl.LogRecords().AppendEmpty(), a, s)
			}
		}
	}
}

func fillLogRecord(lr plog.LogRecord, a *author, s shape) {
	lr.SetTimestamp(1 << 60)
	lr.SetObservedTimestamp(1 << 60)
	lr.SetSeverityNumber(plog.SeverityNumberInfo)
	lr.SetSeverityText(a.text(4, 5))
	body := s.body
	if body == nil {
		body = middleText
	}
	body(a, lr.Body())
	a.attributes(lr.Attributes(), s)
	if s.details {
		lr.SetEventName(a.text(10, 20))
		lr.SetTraceID(pcommon.TraceID{1})
		lr.SetSpanID(pcommon.SpanID{1})
	}
}

func fillMetrics(md pmetric.Metrics, a *author, s shape) {
	for first := 0; first < s.items; first += s.perResource {
		rm := md.ResourceMetrics().AppendEmpty()
		rm.SetSchemaUrl(a.text(30, 40))
		a.resource(rm.Resource(), s)
		for n := 0; n < min(s.perResource, s.items-first); n += s.perScope {
			sm := rm.ScopeMetrics().AppendEmpty()
			a.scope(sm.Scope())
			points := min(s.perScope, s.perResource-n, s.items-first-n)
			for i := 0; i < points; i += s.perMetric {
				one := s
				if one.kind == pmetric.MetricTypeEmpty {
					one.kind = pmetric.MetricTypeGauge + pmetric.MetricType(first+n+i/s.perMetric)%5
				}
				fillMetric(sm.Metrics().AppendEmpty(), a, min(s.perMetric, points-i), one)
			}
		}
	}
}

func fillMetric(m pmetric.Metric, a *author, points int, s shape) {
	m.SetName(a.text(10, 50))
	m.SetDescription(a.text(20, 100))
	m.SetUnit(a.text(1, 4))
	if s.details {
		a.attributes(m.Metadata(), shape{attributes: 2})
	}
	switch s.kind {
	case pmetric.MetricTypeGauge:
		m.SetEmptyGauge()
		for range points {
			fillNumber(m.Gauge().DataPoints().AppendEmpty(), a, s)
		}
	case pmetric.MetricTypeSum:
		m.SetEmptySum().SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
		for range points {
			fillNumber(m.Sum().DataPoints().AppendEmpty(), a, s)
		}
	case pmetric.MetricTypeHistogram:
		m.SetEmptyHistogram().SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
		for range points {
			fillHistogram(m.Histogram().DataPoints().AppendEmpty(), a, s)
		}
	case pmetric.MetricTypeExponentialHistogram:
		m.SetEmptyExponentialHistogram().SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
		for range points {
			fillExpHistogram(m.ExponentialHistogram().DataPoints().AppendEmpty(), a, s)
		}
	case pmetric.MetricTypeSummary:
		m.SetEmptySummary()
		for range points {
			fillSummary(m.Summary().DataPoints().AppendEmpty(), a, s)
		}
	case pmetric.MetricTypeEmpty:
	}
}

func fillNumber(p pmetric.NumberDataPoint, a *author, s shape) {
	p.SetTimestamp(1 << 60)
	p.SetStartTimestamp(1 << 60)
	if a.IntN(2) > 0 {
		p.SetIntValue(a.Int64N(1 << 30))
	} else {
		p.SetDoubleValue(a.Float64())
	}
	a.attributes(p.Attributes(), s)
	if s.details {
		fillExemplars(p.Exemplars(), a, 1)
	}
}

func fillHistogram(p pmetric.HistogramDataPoint, a *author, s shape) {
	p.SetTimestamp(1 << 60)
	p.SetStartTimestamp(1 << 60)
	p.SetCount(1000)
	p.SetSum(a.Float64())
	a.attributes(p.Attributes(), s)
	if s.children > 0 {
		p.BucketCounts().FromRaw(make([]uint64, s.children))
		p.ExplicitBounds().FromRaw(make([]float64, s.children-1))
	}
	if s.details {
		fillExemplars(p.Exemplars(), a, s.children/4)
	}
}

func fillExpHistogram(p pmetric.ExponentialHistogramDataPoint, a *author, s shape) {
	p.SetTimestamp(1 << 60)
	p.SetStartTimestamp(1 << 60)
	p.SetCount(1000)
	p.SetSum(a.Float64())
	a.attributes(p.Attributes(), s)
	for range s.children {
		p.Positive().BucketCounts().Append(a.Uint64N(1 << 20))
	}
	for range s.children / 3 {
		p.Negative().BucketCounts().Append(a.Uint64N(1 << 20))
	}
	if s.details {
		fillExemplars(p.Exemplars(), a, s.children/4)
	}
}

func fillSummary(p pmetric.SummaryDataPoint, a *author, s shape) {
	p.SetTimestamp(1 << 60)
	p.SetStartTimestamp(1 << 60)
	p.SetCount(1000)
	p.SetSum(a.Float64())
	a.attributes(p.Attributes(), s)
	for range s.children {
		q := p.QuantileValues().AppendEmpty()
		q.SetQuantile(a.Float64())
		q.SetValue(a.Float64())
	}
}

func fillExemplars(es pmetric.ExemplarSlice, a *author, n int) {
	for range n {
		e := es.AppendEmpty()
		e.SetTimestamp(1 << 60)
		e.SetDoubleValue(a.Float64())
		e.SetTraceID(pcommon.TraceID{1})
		e.SetSpanID(pcommon.SpanID{1})
		a.attributes(e.FilteredAttributes(), shape{attributes: a.IntN(3)})
	}
}

func TestFootprintsDoNotAllocate(t *testing.T) {
	t.Run("signal=traces", func(t *testing.T) { testFootprintAllocates(t, measuredTraces) })
	t.Run("signal=logs", func(t *testing.T) { testFootprintAllocates(t, measuredLogs) })
	t.Run("signal=metrics", func(t *testing.T) { testFootprintAllocates(t, measuredMetrics) })
}

func testFootprintAllocates[T any](t *testing.T, m measured[T]) {
	for _, s := range append(commonShapes(), m.shapes...) {
		if s.items <= 100 {
			data := m.write(s)
			require.Zero(t, testing.AllocsPerRun(1, func() { m.footprint(data) }), s.name)
		}
	}
}

// TestFootprintsKnowTheStructs reads the sizes of pdata's structs out of the types of its
// wrappers, whose first field points to what they wrap.
func TestFootprintsKnowTheStructs(t *testing.T) {
	same := func(want, got reflect.Type) {
		t.Helper()
		require.Equal(t, want.Size(), got.Size(), "%v", want)
	}
	pointers := func(want, got reflect.Type) {
		t.Helper()
		require.Equal(t, reflect.Pointer, want.Kind(), "%v", want)
		same(want.Elem(), got)
	}
	wrapped := func(wrapper any) reflect.Type {
		t.Helper()
		return reflect.TypeOf(wrapper).Field(0).Type.Elem()
	}
	element := func(of reflect.Type, field string) reflect.Type {
		t.Helper()
		f, ok := of.FieldByName(field)
		require.True(t, ok, "%v.%s", of, field)
		return f.Type.Elem()
	}
	union := func(wrapper any, field string) reflect.Type { // what the value of a union points to
		t.Helper()
		return reflect.ValueOf(wrapper).Field(0).Elem().FieldByName(field).Elem().Type().Elem()
	}

	span := wrapped(ptrace.Span{})
	same(span, reflect.TypeFor[spanFields]())
	pointers(element(span, "Events"), reflect.TypeFor[spanEventFields]())
	pointers(element(span, "Links"), reflect.TypeFor[spanLinkFields]())
	same(element(span, "Attributes"), reflect.TypeFor[keyValueFields]())
	same(wrapped(ptrace.ResourceSpans{}), reflect.TypeFor[containerFields]())
	same(wrapped(ptrace.ScopeSpans{}), reflect.TypeFor[scopedFields]())
	same(wrapped(ptrace.Traces{}), reflect.TypeFor[requestFields]())

	same(wrapped(plog.LogRecord{}), reflect.TypeFor[logRecordFields]())
	same(wrapped(plog.ResourceLogs{}), reflect.TypeFor[containerFields]())
	same(wrapped(plog.ScopeLogs{}), reflect.TypeFor[scopedFields]())
	same(wrapped(plog.Logs{}), reflect.TypeFor[requestFields]())

	same(wrapped(pmetric.Metric{}), reflect.TypeFor[metricFields]())
	same(wrapped(pmetric.Gauge{}), reflect.TypeFor[[]byte]())
	same(wrapped(pmetric.Sum{}), reflect.TypeFor[sumFields]())
	same(wrapped(pmetric.Histogram{}), reflect.TypeFor[aggregationFields]())
	same(wrapped(pmetric.ExponentialHistogram{}), reflect.TypeFor[aggregationFields]())
	same(wrapped(pmetric.Summary{}), reflect.TypeFor[[]byte]())
	same(wrapped(pmetric.NumberDataPoint{}), reflect.TypeFor[numberFields]())
	same(wrapped(pmetric.HistogramDataPoint{}), reflect.TypeFor[histogramFields]())
	same(wrapped(pmetric.ExponentialHistogramDataPoint{}), reflect.TypeFor[expHistogramFields]())
	summary := wrapped(pmetric.SummaryDataPoint{})
	same(summary, reflect.TypeFor[summaryFields]())
	require.EqualValues(t, quantileBlock, element(summary, "QuantileValues").Elem().Size())
	same(element(wrapped(pmetric.NumberDataPoint{}), "Exemplars"), reflect.TypeFor[exemplarFields]())
	same(wrapped(pmetric.ResourceMetrics{}), reflect.TypeFor[containerFields]())
	same(wrapped(pmetric.ScopeMetrics{}), reflect.TypeFor[scopedFields]())
	same(wrapped(pmetric.Metrics{}), reflect.TypeFor[requestFields]())

	pointers(element(wrapped(pcommon.Resource{}), "EntityRefs"), reflect.TypeFor[entityRefFields]())
	same(wrapped(pcommon.Resource{}), reflect.TypeFor[resourceFields]())
	same(wrapped(pcommon.InstrumentationScope{}), reflect.TypeFor[scopeFields]())
	same(wrapped(pcommon.Value{}), reflect.TypeFor[valueFields]())
	same(union(pcommon.NewValueStr(""), "Value"), reflect.TypeFor[string]())
	same(union(pcommon.NewValueBytes(), "Value"), reflect.TypeFor[[]byte]())
	same(union(pcommon.NewValueMap(), "Value"), reflect.TypeFor[*byte]())
	same(union(pcommon.NewValueMap(), "Value").Field(0).Type.Elem(), reflect.TypeFor[[]byte]())
	same(union(pcommon.NewValueSlice(), "Value").Field(0).Type.Elem(), reflect.TypeFor[[]byte]())
	same(union(pcommon.NewValueInt(1), "Value"), reflect.TypeFor[int64]())
	same(union(pcommon.NewValueDouble(1), "Value"), reflect.TypeFor[float64]())
	same(union(pcommon.NewValueBool(true), "Value"), reflect.TypeFor[bool]())
}

// TestBlocksAreThoseOfTheAllocator compares with what append finds room for.
func TestBlocksAreThoseOfTheAllocator(t *testing.T) {
	newMeter(0)
	for n := tinyBlock; n < largestSize+3*pageBytes; n += 1 + n/256 {
		require.Equal(t, roomFor[byte](n), blockFor(n), "%d bytes", n)
		words := n / wordBytes
		g := growth{size: wordBytes, header: headerBytes}
		require.Equal(t, roomFor[*byte](words)*wordBytes, g.block(words)-g.headerIn(words), "%d words", words)
	}
	require.Equal(t, 0, blockFor(0))
}

// TestGrowthIsThatOfAppend appends one by one.
func TestGrowthIsThatOfAppend(t *testing.T) {
	newMeter(0)
	testGrowth[keyValueFields](t, &keyValues)
	testGrowth[valueFields](t, &values)
	testGrowth[exemplarFields](t, &exemplars)
	testGrowth[*byte](t, &pointers)
	testGrowth[uint64](t, &counts)
}

func testGrowth[E any](t *testing.T, g *growth) {
	holder := reflect.New(reflect.TypeFor[[]E]()).Interface().(*[]E) // on the heap, as fields of pdata are
	require.Zero(t, g.of(0))
	for range 50_000 {
		var one E
		*holder = append(*holder, one)
		require.Equal(t, g.block(cap(*holder)), g.of(len(*holder)), "%d elements of %d bytes", len(*holder), g.size)
	}
}

// TestTinyObjectsShareBlocks makes objects in random order and compares with the heap.
func TestTinyObjectsShareBlocks(t *testing.T) {
	if raceEnabled {
		t.Skip("with the race detector small objects do not share blocks")
	}
	for _, sizes := range [][]int{{3, 8}, {11, 3}, {5}, {12, 7, 2}, {15, 1}, {9, 4, 8, 8, 14, 6}, {8}, {1}} {
		const rounds = 100_000
		strs := make([][]byte, 0, rounds*len(sizes))
		m := newMeter(0)
		before := liveHeap()
		for range rounds {
			for _, size := range sizes {
				strs = append(strs, make([]byte, size))
				if size == 1 {
					m.flag()
				} else {
					m.array(size)
				}
			}
		}
		held := liveHeap() - before
		runtime.KeepAlive(strs)
		require.InEpsilon(t, held, m.total(), 0.01, "%v", sizes)
	}
}

// TestFootprintsOfPartsAddUp takes requests apart.
func TestFootprintsOfPartsAddUp(t *testing.T) {
	td := measuredTraces.write(shape{items: 3, attributes: 2, children: 1})
	td.MarkReadOnly()
	want := requestFootprint(1)
	for _, rs := range td.ResourceSpans().All() {
		want += resourceSpansFootprint(rs)
		for _, ss := range rs.ScopeSpans().All() {
			want += scopeSpansFootprint(ss)
			for _, s := range ss.Spans().All() {
				want += spanFootprint(s)
			}
		}
	}
	require.Equal(t, want, tracesFootprint(td))
}

// BenchmarkFootprint compares with the walk that tells the size of the encoding: x-size is how
// many times as long a footprint takes, with the fastest of many short runs of each.
func BenchmarkFootprint(b *testing.B) {
	b.Run("signal=traces", func(b *testing.B) { benchmarkFootprint(b, measuredTraces) })
	b.Run("signal=logs", func(b *testing.B) { benchmarkFootprint(b, measuredLogs) })
	b.Run("signal=metrics", func(b *testing.B) { benchmarkFootprint(b, measuredMetrics) })
}

func benchmarkFootprint[T any](b *testing.B, m measured[T]) {
	for _, items := range []int{1, 10, 100} {
		for _, attributes := range []int{0, 5, 10, 20} {
			for _, values := range []string{"mixed", "middle", "int"} {
				if attributes == 0 && values != "mixed" {
					continue
				}
				b.Run(fmt.Sprintf("items=%d/attributes=%d/values=%s", items, attributes, values), func(b *testing.B) {
					encoded, err := m.marshal(m.write(shape{items: items, attributes: attributes, value: valueKinds[values]}))
					require.NoError(b, err)
					data, err := m.unmarshal(encoded)
					require.NoError(b, err)
					calls := max(1, 1000/(items*(attributes+1)))
					timed := func(walk func(T) int) time.Duration {
						start := time.Now()
						for range calls {
							walk(data)
						}
						return time.Since(start)
					}
					footprint, size := timed(m.footprint), timed(m.size)
					b.ReportAllocs()
					for b.Loop() {
						footprint = min(footprint, timed(m.footprint))
						size = min(size, timed(m.size))
					}
					b.ReportMetric(0, "ns/op")
					b.ReportMetric(float64(footprint.Nanoseconds())/float64(calls), "ns/footprint")
					b.ReportMetric(float64(footprint)/float64(size), "x-size")
				})
			}
		}
	}
}
