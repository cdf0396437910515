package bench

import (
	"context"
	"strconv"
	"testing"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/exporter/exporterhelper"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/processor"
)

// signal is what the comparisons need to know about one kind of pdata.
type signal[T any] struct {
	name string

	// build makes a request of that many items under one resource and one scope. Its
	// items are small: no batcher looks at what is in them.
	build func(items int) T
	// items counts spans, log records or data points.
	items func(T) int
	// bytes is the size of a request in OTLP's binary encoding.
	bytes func(T) int
	// encode and decode a request, which has strings of its own then, as from a receiver.
	encode func(T) []byte
	decode func([]byte) T
	// attributes hands out those of every item.
	attributes func(request T, each func(pcommon.Map))
	// resources counts the entries of the outermost level. It takes no time, so that
	// a sink may call it while others are measured.
	resources func(T) int

	// empty makes a request without items and with room for that many resources.
	empty func(resources int) T
	// move appends all of src to dst and leaves src empty.
	move func(src, dst T)
	// origin is the resource of the first entry of the outermost level.
	origin func(T) pcommon.Resource
	// originAt is the resource of an entry of the outermost level.
	originAt func(data T, entry int) pcommon.Resource
	// take moves an entry of the outermost level of a batch behind those of a request.
	take func(batch T, entry int, request T)
	// rejoin moves the items of a piece, all under one resource and one scope, behind
	// those of a request that build has made.
	rejoin func(piece, request T)

	// create makes a processor with its public factory.
	create func(processor.Factory, processor.Settings, component.Config, *sink[T]) (component.Component, sinkFunc[T], error)
	// createHelper makes an exporter of the exporterhelper package that hands on what
	// it would export.
	createHelper func(exporter.Settings, *sink[T], ...exporterhelper.Option) (component.Component, sinkFunc[T], error)
}

// must is for what we have encoded ourselves.
func must[V any](value V, err error) V {
	if err != nil {
		panic(err)
	}
	return value
}

// sinkFunc is a Consume method.
type sinkFunc[T any] = func(context.Context, T) error

// resource fills what every request of every signal says about its origin.
func resource(r pcommon.Resource) {
	r.Attributes().PutStr("service.name", "checkout")
	r.Attributes().PutStr("host.name", "node-7")
	r.Attributes().PutInt("process.pid", 4711)
}

// attribute is the i-th of an item's attributes. Most are strings.
func attribute(m pcommon.Map, i int) {
	key := attributeKeys[i]
	switch i % 5 {
	case 1:
		m.PutInt(key, int64(1)<<(3*i))
	case 4:
		m.PutBool(key, true)
	default:
		m.PutStr(key, key)
	}
}

// attributeKeys are twenty, as instrumentations use them.
var attributeKeys = []string{
	"http.request.method", "http.response.status_code", "url.path", "url.scheme", "tls.established",
	"server.address", "server.port", "client.address", "user_agent.original", "error",
	"network.protocol.name", "network.peer.port", "network.peer.address", "url.query", "session.new",
	"user.id", "thread.id", "thread.name", "code.function.name", "sampled",
}

const (
	scopeName = "example.com/checkout"
	itemName  = "POST /orders"
)

var instant = pcommon.NewTimestampFromTime(time.Unix(1_700_000_000, 0))

var traces = signal[ptrace.Traces]{
	name: "traces",
	build: func(items int) ptrace.Traces {
		td := ptrace.NewTraces()
		rs := td.ResourceSpans().AppendEmpty()
		resource(rs.Resource())
		ss := rs.ScopeSpans().AppendEmpty()
		ss.Scope().SetName(scopeName)
		ss.Spans().EnsureCapacity(items)
		for i := range items {
			s := ss.Spans().AppendEmpty()
			s.SetName(itemName)
			s.SetTraceID(pcommon.TraceID{1, 2, 3, byte(i >> 8), byte(i)})
			s.SetSpanID(pcommon.SpanID{1, byte(i >> 8), byte(i)})
			s.SetStartTimestamp(instant)
			s.SetEndTimestamp(instant)
		}
		return td
	},
	items:  ptrace.Traces.SpanCount,
	bytes:  new(ptrace.ProtoMarshaler).TracesSize,
	encode: func(data ptrace.Traces) []byte { return must(new(ptrace.ProtoMarshaler).MarshalTraces(data)) },
	decode: func(data []byte) ptrace.Traces { return must(new(ptrace.ProtoUnmarshaler).UnmarshalTraces(data)) },
	attributes: func(td ptrace.Traces, each func(pcommon.Map)) {
		for _, s := range spansOf(td).All() {
			each(s.Attributes())
		}
	},
	resources: func(td ptrace.Traces) int { return td.ResourceSpans().Len() },
	empty: func(resources int) ptrace.Traces {
		td := ptrace.NewTraces()
		td.ResourceSpans().EnsureCapacity(resources)
		return td
	},
	move:     func(src, dst ptrace.Traces) { src.ResourceSpans().MoveAndAppendTo(dst.ResourceSpans()) },
	origin:   func(td ptrace.Traces) pcommon.Resource { return td.ResourceSpans().At(0).Resource() },
	originAt: func(td ptrace.Traces, entry int) pcommon.Resource { return td.ResourceSpans().At(entry).Resource() },
	take: func(batch ptrace.Traces, entry int, request ptrace.Traces) {
		batch.ResourceSpans().At(entry).MoveTo(request.ResourceSpans().AppendEmpty())
	},
	rejoin: func(piece, request ptrace.Traces) {
		spansOf(piece).MoveAndAppendTo(spansOf(request))
	},
	create: func(f processor.Factory, set processor.Settings, cfg component.Config, next *sink[ptrace.Traces]) (component.Component, sinkFunc[ptrace.Traces], error) {
		sink, err := consumer.NewTraces(next.consume, next.capabilities())
		if err != nil {
			return nil, nil, err
		}
		p, err := f.CreateTraces(context.Background(), set, cfg, sink)
		if err != nil {
			return nil, nil, err
		}
		return p, p.ConsumeTraces, nil
	},
	createHelper: func(set exporter.Settings, next *sink[ptrace.Traces], options ...exporterhelper.Option) (component.Component, sinkFunc[ptrace.Traces], error) {
		e, err := exporterhelper.NewTraces(context.Background(), set, struct{}{}, next.consume, options...)
		if err != nil {
			return nil, nil, err
		}
		return e, e.ConsumeTraces, nil
	},
}

func spansOf(td ptrace.Traces) ptrace.SpanSlice {
	return td.ResourceSpans().At(0).ScopeSpans().At(0).Spans()
}

var logs = signal[plog.Logs]{
	name: "logs",
	build: func(items int) plog.Logs {
		ld := plog.NewLogs()
		rl := ld.ResourceLogs().AppendEmpty()
		resource(rl.Resource())
		sl := rl.ScopeLogs().AppendEmpty()
		sl.Scope().SetName(scopeName)
		sl.LogRecords().EnsureCapacity(items)
		for range items {
			lr := sl.LogRecords().AppendEmpty()
			lr.SetTimestamp(instant)
			lr.SetSeverityNumber(plog.SeverityNumberInfo)
			lr.Body().SetStr(itemName)
		}
		return ld
	},
	items:  plog.Logs.LogRecordCount,
	bytes:  new(plog.ProtoMarshaler).LogsSize,
	encode: func(data plog.Logs) []byte { return must(new(plog.ProtoMarshaler).MarshalLogs(data)) },
	decode: func(data []byte) plog.Logs { return must(new(plog.ProtoUnmarshaler).UnmarshalLogs(data)) },
	attributes: func(ld plog.Logs, each func(pcommon.Map)) {
		for _, lr := range recordsOf(ld).All() {
			each(lr.Attributes())
		}
	},
	resources: func(ld plog.Logs) int { return ld.ResourceLogs().Len() },
	empty: func(resources int) plog.Logs {
		ld := plog.NewLogs()
		ld.ResourceLogs().EnsureCapacity(resources)
		return ld
	},
	move:     func(src, dst plog.Logs) { src.ResourceLogs().MoveAndAppendTo(dst.ResourceLogs()) },
	origin:   func(ld plog.Logs) pcommon.Resource { return ld.ResourceLogs().At(0).Resource() },
	originAt: func(ld plog.Logs, entry int) pcommon.Resource { return ld.ResourceLogs().At(entry).Resource() },
	take: func(batch plog.Logs, entry int, request plog.Logs) {
		batch.ResourceLogs().At(entry).MoveTo(request.ResourceLogs().AppendEmpty())
	},
	rejoin: func(piece, request plog.Logs) {
		recordsOf(piece).MoveAndAppendTo(recordsOf(request))
	},
	create: func(f processor.Factory, set processor.Settings, cfg component.Config, next *sink[plog.Logs]) (component.Component, sinkFunc[plog.Logs], error) {
		sink, err := consumer.NewLogs(next.consume, next.capabilities())
		if err != nil {
			return nil, nil, err
		}
		p, err := f.CreateLogs(context.Background(), set, cfg, sink)
		if err != nil {
			return nil, nil, err
		}
		return p, p.ConsumeLogs, nil
	},
	createHelper: func(set exporter.Settings, next *sink[plog.Logs], options ...exporterhelper.Option) (component.Component, sinkFunc[plog.Logs], error) {
		e, err := exporterhelper.NewLogs(context.Background(), set, struct{}{}, next.consume, options...)
		if err != nil {
			return nil, nil, err
		}
		return e, e.ConsumeLogs, nil
	},
}

func recordsOf(ld plog.Logs) plog.LogRecordSlice {
	return ld.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords()
}

// pointsPerMetric is how the data points of a request are spread over its metrics.
const pointsPerMetric = 5

var metrics = signal[pmetric.Metrics]{
	name: "metrics",
	build: func(items int) pmetric.Metrics {
		md := pmetric.NewMetrics()
		rm := md.ResourceMetrics().AppendEmpty()
		resource(rm.Resource())
		sm := rm.ScopeMetrics().AppendEmpty()
		sm.Scope().SetName(scopeName)
		for first := 0; first < items; first += pointsPerMetric {
			m := sm.Metrics().AppendEmpty()
			m.SetName("orders." + strconv.Itoa(first/pointsPerMetric))
			m.SetUnit("{order}")
			sum := m.SetEmptySum()
			sum.SetIsMonotonic(true)
			sum.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
			for range min(pointsPerMetric, items-first) {
				p := sum.DataPoints().AppendEmpty()
				p.SetStartTimestamp(instant)
				p.SetTimestamp(instant)
				p.SetIntValue(int64(first))
			}
		}
		return md
	},
	items:  pmetric.Metrics.DataPointCount,
	bytes:  new(pmetric.ProtoMarshaler).MetricsSize,
	encode: func(data pmetric.Metrics) []byte { return must(new(pmetric.ProtoMarshaler).MarshalMetrics(data)) },
	decode: func(data []byte) pmetric.Metrics { return must(new(pmetric.ProtoUnmarshaler).UnmarshalMetrics(data)) },
	attributes: func(md pmetric.Metrics, each func(pcommon.Map)) {
		for _, m := range metricsOf(md).All() {
			for _, p := range m.Sum().DataPoints().All() {
				each(p.Attributes())
			}
		}
	},
	resources: func(md pmetric.Metrics) int { return md.ResourceMetrics().Len() },
	empty: func(resources int) pmetric.Metrics {
		md := pmetric.NewMetrics()
		md.ResourceMetrics().EnsureCapacity(resources)
		return md
	},
	move:     func(src, dst pmetric.Metrics) { src.ResourceMetrics().MoveAndAppendTo(dst.ResourceMetrics()) },
	origin:   func(md pmetric.Metrics) pcommon.Resource { return md.ResourceMetrics().At(0).Resource() },
	originAt: func(md pmetric.Metrics, entry int) pcommon.Resource { return md.ResourceMetrics().At(entry).Resource() },
	take: func(batch pmetric.Metrics, entry int, request pmetric.Metrics) {
		batch.ResourceMetrics().At(entry).MoveTo(request.ResourceMetrics().AppendEmpty())
	},
	// A metric that was cut is made whole again, or each run would have more of them.
	rejoin: func(piece, request pmetric.Metrics) {
		from, to := metricsOf(piece), metricsOf(request)
		if last, first := to.At(to.Len()-1), from.At(0); last.Name() == first.Name() {
			first.Sum().DataPoints().MoveAndAppendTo(last.Sum().DataPoints())
			from.RemoveIf(func(m pmetric.Metric) bool { return m == first })
		}
		from.MoveAndAppendTo(to)
	},
	create: func(f processor.Factory, set processor.Settings, cfg component.Config, next *sink[pmetric.Metrics]) (component.Component, sinkFunc[pmetric.Metrics], error) {
		sink, err := consumer.NewMetrics(next.consume, next.capabilities())
		if err != nil {
			return nil, nil, err
		}
		p, err := f.CreateMetrics(context.Background(), set, cfg, sink)
		if err != nil {
			return nil, nil, err
		}
		return p, p.ConsumeMetrics, nil
	},
	createHelper: func(set exporter.Settings, next *sink[pmetric.Metrics], options ...exporterhelper.Option) (component.Component, sinkFunc[pmetric.Metrics], error) {
		e, err := exporterhelper.NewMetrics(context.Background(), set, struct{}{}, next.consume, options...)
		if err != nil {
			return nil, nil, err
		}
		return e, e.ConsumeMetrics, nil
	},
}

func metricsOf(md pmetric.Metrics) pmetric.MetricSlice {
	return md.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics()
}

// anySignal is a signal whatever its type of pdata.
type anySignal interface {
	String() string
	benchmarkLoad(b *testing.B, l *load, p peer)
	benchmarkSplit(b *testing.B, sc *splitCase, p peer, items int)
	compare(t *testing.T, l *load) comparison
	compareMerging(t *testing.T, items int) merging
	compareSplit(t *testing.T, sc *splitCase) []split
	benchmarkWaiting(b *testing.B, p peer, w *waitingCase)
	measureWaiting(t *testing.T, w *waitingCase) comparison
	benchmarkByteLimit(b *testing.B, items, attributes int, cache byteCache, l byteLimit)
	compareByteLimits(t *testing.T, items, attributes int) []comparison
	allocsPerBatch(t *testing.T, items, producers int) float64
	memoryOfRequest(t *testing.T) memory
	memoryHeld(t *testing.T, p peer) held
	fill(t *testing.T, p peer, fc *fillCase) float64
	memoryPending(t *testing.T, p peer) memory
}

// all is every signal.
var all = []anySignal{&traces, &logs, &metrics}

func (s *signal[T]) String() string { return s.name }
