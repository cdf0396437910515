package batcher

import (
	"errors"
	"slices"
	"sync"

	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/xpdata/pref"
)

// Metrics is the Signal of pmetric.Metrics. Its items are data points.
func Metrics() Signal[pmetric.Metrics] { return metrics{} }

type metrics struct{}

func (metrics) Name() string { return "metrics" }

func (metrics) New(resources int) pmetric.Metrics {
	md := pmetric.NewMetrics()
	md.ResourceMetrics().EnsureCapacity(resources)
	return md
}

func (metrics) Items(md pmetric.Metrics) int { return md.DataPointCount() }

func (metrics) Resources(md pmetric.Metrics) int { return md.ResourceMetrics().Len() }

func (metrics) Bytes(md pmetric.Metrics) int { return new(pmetric.ProtoMarshaler).MetricsSize(md) }

func (metrics) Move(src, dst pmetric.Metrics) {
	src.ResourceMetrics().MoveAndAppendTo(dst.ResourceMetrics())
}

func (metrics) Partial(err error, rest pmetric.Metrics) error {
	return consumererror.NewMetrics(err, rest)
}

func (metrics) FailedPart(err error) (pmetric.Metrics, bool) {
	partial, ok := errors.AsType[consumererror.Metrics](err)
	if !ok || partial.Data() == (pmetric.Metrics{}) { // made without data by mistake
		return pmetric.Metrics{}, false
	}
	return partial.Data(), true
}

func (metrics) Ref(md pmetric.Metrics) { pref.RefMetrics(md) }

func (metrics) Unref(md pmetric.Metrics) { pref.UnrefMetrics(md) }

func (metrics) Resource(md pmetric.Metrics, entry int) pcommon.Resource {
	return md.ResourceMetrics().At(entry).Resource()
}

func (metrics) Distribute(md pmetric.Metrics, to func(pcommon.Resource) pmetric.Metrics) {
	md.ResourceMetrics().RemoveIf(func(r pmetric.ResourceMetrics) bool {
		r.MoveTo(to(r.Resource()).ResourceMetrics().AppendEmpty())
		return true
	})
}

func (metrics) ItemsAt(md pmetric.Metrics, resource int) int {
	return resourceMetricsLevel.items(md.ResourceMetrics().At(resource))
}

func (s metrics) Copy(md pmetric.Metrics, from, to int) pmetric.Metrics {
	c := s.New(to - from)
	for i := from; i < to; i++ {
		md.ResourceMetrics().At(i).CopyTo(c.ResourceMetrics().AppendEmpty())
	}
	return c
}

func (metrics) Heap(md pmetric.Metrics) int { return metricsFootprint(md) }

// metricsAside are where the children of an element are put aside while it is measured without
// them, and the metadata of a metric while that is measured by itself.
type metricsAside struct {
	scopes  pmetric.ScopeMetricsSlice
	metrics pmetric.MetricSlice
	metric  pmetric.Metric
}

var metricsAsides = sync.Pool{New: func() any {
	return &metricsAside{pmetric.NewScopeMetricsSlice(), pmetric.NewMetricSlice(), pmetric.NewMetric()}
}}

func (metrics) Measure(md pmetric.Metrics, z *Sizes) {
	var enc pmetric.ProtoMarshaler
	aside := metricsAsides.Get().(*metricsAside)
	defer metricsAsides.Put(aside)
	z.begin(md.ResourceMetrics().Len())
	for i := range md.ResourceMetrics().Len() {
		r := md.ResourceMetrics().At(i)
		z.open(measureFrame(z, r, r.ScopeMetrics(), aside.scopes, enc.ResourceMetricsSize, resourceMetricsFootprint))
		for j := range r.ScopeMetrics().Len() {
			s := r.ScopeMetrics().At(j)
			z.open(measureFrame(z, s, s.Metrics(), aside.metrics, enc.ScopeMetricsSize, scopeMetricsFootprint))
			z.elements = slices.Grow(z.elements, s.Metrics().Len())
			for k := range s.Metrics().Len() {
				measureMetric(z, s.Metrics().At(k), aside)
			}
			z.close()
		}
		z.close()
	}
}

// measureMetric measures a metric and its data points, which lie in a message of their own.
func measureMetric(z *Sizes, m pmetric.Metric, aside *metricsAside) {
	var enc pmetric.ProtoMarshaler
	switch m.Type() {
	case pmetric.MetricTypeGauge:
		points := m.Gauge().DataPoints()
		z.open(metricFrame(z, m, 0, points.Len(), aside))
		z.list(points.Len(), func(i int) int { return enc.NumberDataPointSize(points.At(i)) }, func(i int) int { return numberPointFootprint(points.At(i)) })
	case pmetric.MetricTypeSum:
		inner := temporalitySize(m.Sum().AggregationTemporality())
		if m.Sum().IsMonotonic() {
			inner += 2
		}
		points := m.Sum().DataPoints()
		z.open(metricFrame(z, m, inner, points.Len(), aside))
		z.list(points.Len(), func(i int) int { return enc.NumberDataPointSize(points.At(i)) }, func(i int) int { return numberPointFootprint(points.At(i)) })
	case pmetric.MetricTypeHistogram:
		points := m.Histogram().DataPoints()
		z.open(metricFrame(z, m, temporalitySize(m.Histogram().AggregationTemporality()), points.Len(), aside))
		z.list(points.Len(), func(i int) int { return enc.HistogramDataPointSize(points.At(i)) }, func(i int) int { return histogramPointFootprint(points.At(i)) })
	case pmetric.MetricTypeExponentialHistogram:
		points := m.ExponentialHistogram().DataPoints()
		z.open(metricFrame(z, m, temporalitySize(m.ExponentialHistogram().AggregationTemporality()), points.Len(), aside))
		z.list(points.Len(), func(i int) int { return enc.ExponentialHistogramDataPointSize(points.At(i)) }, func(i int) int { return expHistogramPointFootprint(points.At(i)) })
	case pmetric.MetricTypeSummary:
		points := m.Summary().DataPoints()
		z.open(metricFrame(z, m, 0, points.Len(), aside))
		z.list(points.Len(), func(i int) int { return enc.SummaryDataPointSize(points.At(i)) }, func(i int) int { return summaryPointFootprint(points.At(i)) })
	case pmetric.MetricTypeEmpty:
		z.open(metricFrame(z, m, -1, 0, aside))
	}
	z.close()
}

// metricFrame measures a metric without its data points, which lie in a message that is of size
// inner without them. Often a metric has few points, and to put them aside, as is done with the
// children of other elements, would take as long as to measure them.
func metricFrame(z *Sizes, m pmetric.Metric, inner, points int, aside *metricsAside) (f frame, copied int) {
	f.inner = inner
	if z.bytes {
		f.bytes = textSize(m.Name()) + textSize(m.Description()) + textSize(m.Unit())
		if inner >= 0 {
			f.bytes += entrySize(inner)
		}
		if m.Metadata().Len() > 0 {
			m.Metadata().MoveTo(aside.metric.Metadata())
			f.bytes += new(pmetric.ProtoMarshaler).MetricSize(aside.metric)
			aside.metric.Metadata().MoveTo(m.Metadata())
		}
	}
	if z.heap {
		f.heap = metricFootprint(m)
		copied = f.heap - pointers.of(points)
	}
	return f, copied
}

// textSize is the encoded size of a string in a field of its own.
func textSize(s string) int {
	if s == "" {
		return 0
	}
	return entrySize(len(s))
}

// temporalitySize is the encoded size of a temporality, an enumeration that anybody may
// have put any number into.
func temporalitySize(t pmetric.AggregationTemporality) int {
	return numberField(uint64(int64(t))) // ten bytes if it is negative, on 32 bits as well
}

func (s metrics) Cut(md pmetric.Metrics, z *Sizes) Cutter[pmetric.Metrics] {
	return newCutter(s, md, z, resourceMetricsOf, resourceMetricsLevel)
}

func (metrics) Merge(data pmetric.Metrics, m *Merger) {
	mergeAll(m, data.ResourceMetrics(), &resourceMetricsKin)
}

func (s metrics) Pick(data pmetric.Metrics, p *Picker) pmetric.Metrics {
	return pickFrom(s, data, resourceMetricsOf, resourceMetricsLevel, p)
}

var (
	resourceMetricsKin = kin[pmetric.ResourceMetrics]{
		signature: func(m *Merger, e pmetric.ResourceMetrics) uint64 { return m.signResource(e.Resource(), e.SchemaUrl()) },
		same: func(m *Merger, a, b pmetric.ResourceMetrics) bool {
			return a.SchemaUrl() == b.SchemaUrl() && m.sameResource(a.Resource(), b.Resource())
		},
		children: func(e pmetric.ResourceMetrics) int { return e.ScopeMetrics().Len() },
		join:     func(dst, src pmetric.ResourceMetrics) { src.ScopeMetrics().MoveAndAppendTo(dst.ScopeMetrics()) },
		within: func(m *Merger, e pmetric.ResourceMetrics, from []run) {
			mergeList(m, e.ScopeMetrics(), &scopeMetricsKin, from)
		},
	}
	scopeMetricsKin = kin[pmetric.ScopeMetrics]{
		signature: func(m *Merger, e pmetric.ScopeMetrics) uint64 { return m.signScope(e.Scope(), e.SchemaUrl()) },
		same: func(m *Merger, a, b pmetric.ScopeMetrics) bool {
			return a.SchemaUrl() == b.SchemaUrl() && m.sameScope(a.Scope(), b.Scope())
		},
		children: func(e pmetric.ScopeMetrics) int { return e.Metrics().Len() },
		join:     func(dst, src pmetric.ScopeMetrics) { src.Metrics().MoveAndAppendTo(dst.Metrics()) },
		within:   func(m *Merger, e pmetric.ScopeMetrics, from []run) { mergeList(m, e.Metrics(), &metricKin, from) },
	}
	metricKin = kin[pmetric.Metric]{
		signature: signMetric,
		same:      sameMetric,
		children:  pointsInMetric,
		join:      joinMetric,
		within:    func(m *Merger, _ pmetric.Metric, from []run) { m.leaf(from) },
	}
)

func signMetric(m *Merger, e pmetric.Metric) uint64 {
	temporality, monotonic := pointsMean(e)
	sum := m.signAttributes(e.Metadata()) + mix(signText(e.Name()), signText(e.Description())) + signText(e.Unit())
	if monotonic {
		sum++
	}
	return mix(sum, uint64(e.Type())<<32|uint64(uint32(temporality)))
}

// sameMetric tells whether a is equal to b, whose signature is the last one, but for the data points.
func sameMetric(m *Merger, a, b pmetric.Metric) bool {
	temporality, monotonic := pointsMean(a)
	temporalityB, monotonicB := pointsMean(b)
	return a.Name() == b.Name() && a.Type() == b.Type() && temporality == temporalityB && monotonic == monotonicB &&
		a.Unit() == b.Unit() && a.Description() == b.Description() && m.sameAttributes(a.Metadata())
}

// pointsMean is what the type of a metric tells about all of its data points.
func pointsMean(m pmetric.Metric) (t pmetric.AggregationTemporality, monotonic bool) {
	switch m.Type() {
	case pmetric.MetricTypeSum:
		return m.Sum().AggregationTemporality(), m.Sum().IsMonotonic()
	case pmetric.MetricTypeHistogram:
		return m.Histogram().AggregationTemporality(), false
	case pmetric.MetricTypeExponentialHistogram:
		return m.ExponentialHistogram().AggregationTemporality(), false
	case pmetric.MetricTypeGauge, pmetric.MetricTypeSummary, pmetric.MetricTypeEmpty:
	}
	return 0, false
}

// joinMetric moves the data points of a metric behind those of another one of the same type.
func joinMetric(dst, src pmetric.Metric) {
	switch src.Type() {
	case pmetric.MetricTypeGauge:
		src.Gauge().DataPoints().MoveAndAppendTo(dst.Gauge().DataPoints())
	case pmetric.MetricTypeSum:
		src.Sum().DataPoints().MoveAndAppendTo(dst.Sum().DataPoints())
	case pmetric.MetricTypeHistogram:
		src.Histogram().DataPoints().MoveAndAppendTo(dst.Histogram().DataPoints())
	case pmetric.MetricTypeExponentialHistogram:
		src.ExponentialHistogram().DataPoints().MoveAndAppendTo(dst.ExponentialHistogram().DataPoints())
	case pmetric.MetricTypeSummary:
		src.Summary().DataPoints().MoveAndAppendTo(dst.Summary().DataPoints())
	case pmetric.MetricTypeEmpty:
	}
}

var (
	resourceMetricsLevel = level[pmetric.ResourceMetrics]{
		items: func(rm pmetric.ResourceMetrics) (n int) {
			for i := range rm.ScopeMetrics().Len() {
				n += pointsInScope(rm.ScopeMetrics().At(i))
			}
			return n
		},
		move: pmetric.ResourceMetrics.MoveTo,
		header: func(src, dst pmetric.ResourceMetrics) {
			src.Resource().CopyTo(dst.Resource())
			dst.SetSchemaUrl(src.SchemaUrl())
		},
		children: func(rm pmetric.ResourceMetrics) inside[pmetric.ResourceMetrics] {
			return nest(rm, scopeMetricsOf, scopeMetricsLevel)
		},
	}
	scopeMetricsLevel = level[pmetric.ScopeMetrics]{
		items: pointsInScope,
		move:  pmetric.ScopeMetrics.MoveTo,
		header: func(src, dst pmetric.ScopeMetrics) {
			src.Scope().CopyTo(dst.Scope())
			dst.SetSchemaUrl(src.SchemaUrl())
		},
		children: func(sm pmetric.ScopeMetrics) inside[pmetric.ScopeMetrics] {
			return nest(sm, metricsOf, metricLevel)
		},
	}
	metricLevel = level[pmetric.Metric]{
		items:    pointsInMetric,
		move:     pmetric.Metric.MoveTo,
		header:   metricHeader,
		children: pointsOf,
	}
	numberLevel       = level[pmetric.NumberDataPoint]{items: one[pmetric.NumberDataPoint], move: pmetric.NumberDataPoint.MoveTo, copy: pmetric.NumberDataPoint.CopyTo}
	histogramLevel    = level[pmetric.HistogramDataPoint]{items: one[pmetric.HistogramDataPoint], move: pmetric.HistogramDataPoint.MoveTo, copy: pmetric.HistogramDataPoint.CopyTo}
	expHistogramLevel = level[pmetric.ExponentialHistogramDataPoint]{
		items: one[pmetric.ExponentialHistogramDataPoint],
		move:  pmetric.ExponentialHistogramDataPoint.MoveTo,
		copy:  pmetric.ExponentialHistogramDataPoint.CopyTo,
	}
	summaryLevel = level[pmetric.SummaryDataPoint]{items: one[pmetric.SummaryDataPoint], move: pmetric.SummaryDataPoint.MoveTo, copy: pmetric.SummaryDataPoint.CopyTo}
)

func resourceMetricsOf(md pmetric.Metrics) sequence[pmetric.ResourceMetrics] {
	return md.ResourceMetrics()
}

func scopeMetricsOf(rm pmetric.ResourceMetrics) sequence[pmetric.ScopeMetrics] {
	return rm.ScopeMetrics()
}

func metricsOf(sm pmetric.ScopeMetrics) sequence[pmetric.Metric] { return sm.Metrics() }

func pointsInScope(sm pmetric.ScopeMetrics) (n int) {
	for i := range sm.Metrics().Len() {
		n += pointsInMetric(sm.Metrics().At(i))
	}
	return n
}

func pointsInMetric(m pmetric.Metric) int {
	switch m.Type() {
	case pmetric.MetricTypeGauge:
		return m.Gauge().DataPoints().Len()
	case pmetric.MetricTypeSum:
		return m.Sum().DataPoints().Len()
	case pmetric.MetricTypeHistogram:
		return m.Histogram().DataPoints().Len()
	case pmetric.MetricTypeExponentialHistogram:
		return m.ExponentialHistogram().DataPoints().Len()
	case pmetric.MetricTypeSummary:
		return m.Summary().DataPoints().Len()
	case pmetric.MetricTypeEmpty:
	}
	return 0
}

// metricHeader repeats what identifies a metric, and its type with everything but
// the data points, so that both parts of a cut metric mean what the whole did.
func metricHeader(src, dst pmetric.Metric) {
	dst.SetName(src.Name())
	dst.SetDescription(src.Description())
	dst.SetUnit(src.Unit())
	src.Metadata().CopyTo(dst.Metadata())
	switch src.Type() {
	case pmetric.MetricTypeGauge:
		dst.SetEmptyGauge()
	case pmetric.MetricTypeSum:
		sum := dst.SetEmptySum()
		sum.SetAggregationTemporality(src.Sum().AggregationTemporality())
		sum.SetIsMonotonic(src.Sum().IsMonotonic())
	case pmetric.MetricTypeHistogram:
		dst.SetEmptyHistogram().SetAggregationTemporality(src.Histogram().AggregationTemporality())
	case pmetric.MetricTypeExponentialHistogram:
		dst.SetEmptyExponentialHistogram().SetAggregationTemporality(src.ExponentialHistogram().AggregationTemporality())
	case pmetric.MetricTypeSummary:
		dst.SetEmptySummary()
	case pmetric.MetricTypeEmpty:
		if dst.Type() != pmetric.MetricTypeEmpty {
			src.CopyTo(dst) // there is no other way to take a type away
		}
	}
}

// pointsOf opens a metric's data points. A metric of unknown type has none and is
// therefore never cut.
func pointsOf(m pmetric.Metric) inside[pmetric.Metric] {
	switch m.Type() {
	case pmetric.MetricTypeGauge:
		return nest(m, func(m pmetric.Metric) sequence[pmetric.NumberDataPoint] { return m.Gauge().DataPoints() }, numberLevel)
	case pmetric.MetricTypeSum:
		return nest(m, func(m pmetric.Metric) sequence[pmetric.NumberDataPoint] { return m.Sum().DataPoints() }, numberLevel)
	case pmetric.MetricTypeHistogram:
		return nest(m, func(m pmetric.Metric) sequence[pmetric.HistogramDataPoint] { return m.Histogram().DataPoints() }, histogramLevel)
	case pmetric.MetricTypeExponentialHistogram:
		return nest(m, func(m pmetric.Metric) sequence[pmetric.ExponentialHistogramDataPoint] {
			return m.ExponentialHistogram().DataPoints()
		}, expHistogramLevel)
	case pmetric.MetricTypeSummary:
		return nest(m, func(m pmetric.Metric) sequence[pmetric.SummaryDataPoint] { return m.Summary().DataPoints() }, summaryLevel)
	case pmetric.MetricTypeEmpty:
	}
	return nil
}
