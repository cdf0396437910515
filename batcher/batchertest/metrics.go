package batchertest

import (
	"strconv"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
)

// Metrics is the Kind of pmetric.Metrics.
func Metrics() Kind[pmetric.Metrics] {
	return Kind[pmetric.Metrics]{
		batcher.Metrics(), makeMetrics, bareMetrics, all(singleMetrics),
		new(pmetric.ProtoMarshaler).MarshalMetrics, new(pmetric.ProtoMarshaler).MarshalMetrics, new(pmetric.JSONMarshaler).MarshalMetrics, nil, &madeMetrics,
	}
}

func bareMetrics() pmetric.Metrics {
	data := pmetric.NewMetrics()
	resource(data.ResourceMetrics().AppendEmpty().Resource(), 0)
	return data
}

func makeMetrics(first, items int) pmetric.Metrics {
	data := pmetric.NewMetrics()
	var r pmetric.ResourceMetrics
	var s pmetric.ScopeMetrics
	for id := first; id < first+items; id++ {
		opened := id == first || id%perResource == 0
		if opened {
			r = data.ResourceMetrics().AppendEmpty()
			resource(r.Resource(), id)
			r.SetSchemaUrl(schema("resource", id/perResource))
		}
		if opened = opened || id%perScope == 0; opened {
			s = r.ScopeMetrics().AppendEmpty()
			scope(s.Scope(), id)
			s.SetSchemaUrl(schema("scope", id/perScope))
		}
		if opened || id%perMetric == 0 {
			metric(s.Metrics().AppendEmpty(), id)
		}
		dataPoint(s.Metrics().At(s.Metrics().Len()-1), id)
	}
	return data
}

func singleMetrics(data pmetric.Metrics) (ids []int, singles []pmetric.Metrics) {
	for _, r := range data.ResourceMetrics().All() {
		for _, s := range r.ScopeMetrics().All() {
			// add returns the scope of a new request that holds just what s lies in.
			add := func(id int) pmetric.ScopeMetrics {
				single := pmetric.NewMetrics()
				singleR := single.ResourceMetrics().AppendEmpty()
				r.Resource().CopyTo(singleR.Resource())
				singleR.SetSchemaUrl(r.SchemaUrl())
				singleS := singleR.ScopeMetrics().AppendEmpty()
				s.Scope().CopyTo(singleS.Scope())
				singleS.SetSchemaUrl(s.SchemaUrl())
				ids, singles = append(ids, id), append(singles, single)
				return singleS
			}
			for _, m := range s.Metrics().All() {
				singleMetric(m, func(id int) pmetric.Metric {
					to := add(id).Metrics().AppendEmpty()
					to.SetName(m.Name())
					to.SetUnit(m.Unit())
					to.SetDescription(m.Description())
					m.Metadata().CopyTo(to.Metadata())
					return to
				})
			}
		}
	}
	return ids, singles
}

// metric sets what a metric is apart from its data points. The type follows from the
// identity too.
func metric(m pmetric.Metric, id int) {
	n := id / perMetric
	m.SetName("metric " + strconv.Itoa(n))
	m.SetUnit("1")
	m.SetDescription("description")
	m.Metadata().PutInt("metadata", int64(n))
	temporality := pmetric.AggregationTemporality([]int32{1, 2, 0, 300, -1}[n/5%5]) // the last two come from the wire only
	switch n % 5 {
	case 0:
		m.SetEmptyGauge()
	case 1:
		m.SetEmptySum().SetAggregationTemporality(temporality)
		m.Sum().SetIsMonotonic(n/10%2 == 0)
	case 2:
		m.SetEmptyHistogram().SetAggregationTemporality(temporality)
	case 3:
		m.SetEmptyExponentialHistogram().SetAggregationTemporality(temporality)
	case 4:
		m.SetEmptySummary()
	}
}

// point is what the data points of all types have in common.
type point interface {
	Attributes() pcommon.Map
	SetTimestamp(pcommon.Timestamp)
	SetStartTimestamp(pcommon.Timestamp)
	SetFlags(pmetric.DataPointFlags)
}

// dataPoint appends the data point with the given identity.
func dataPoint(m pmetric.Metric, id int) {
	var p point
	var exemplars pmetric.ExemplarSlice
	switch m.Type() {
	case pmetric.MetricTypeGauge:
		dp := m.Gauge().DataPoints().AppendEmpty()
		dp.SetIntValue(int64(id))
		p, exemplars = dp, dp.Exemplars()
	case pmetric.MetricTypeSum:
		dp := m.Sum().DataPoints().AppendEmpty()
		dp.SetDoubleValue(float64(id))
		p, exemplars = dp, dp.Exemplars()
	case pmetric.MetricTypeHistogram:
		dp := m.Histogram().DataPoints().AppendEmpty()
		dp.BucketCounts().FromRaw([]uint64{1, uint64(id)})
		dp.ExplicitBounds().FromRaw([]float64{1})
		dp.SetMax(float64(id))
		dp.SetSum(float64(id))
		p, exemplars = dp, dp.Exemplars()
	case pmetric.MetricTypeExponentialHistogram:
		dp := m.ExponentialHistogram().DataPoints().AppendEmpty()
		dp.SetScale(int32(id % 20))
		dp.Positive().BucketCounts().FromRaw([]uint64{1, uint64(id)})
		dp.Negative().BucketCounts().FromRaw([]uint64{uint64(id) << 20})
		dp.Negative().SetOffset(int32(-id))
		dp.SetZeroThreshold(0.5)
		dp.SetZeroCount(uint64(id))
		p, exemplars = dp, dp.Exemplars()
	case pmetric.MetricTypeSummary:
		dp := m.Summary().DataPoints().AppendEmpty()
		dp.QuantileValues().AppendEmpty().SetValue(float64(id))
		p, exemplars = dp, pmetric.NewExemplarSlice()
	case pmetric.MetricTypeEmpty:
		panic("batchertest: metric without a type")
	}
	p.Attributes().PutInt("id", int64(id))
	p.Attributes().PutStr("padding", padding(id))
	p.SetStartTimestamp(pcommon.Timestamp(id + 1))
	p.SetTimestamp(pcommon.Timestamp(id + 2))
	p.SetFlags(pmetric.DataPointFlags(id & 1))
	exemplar := exemplars.AppendEmpty()
	exemplar.SetIntValue(int64(id))
	exemplar.SetTraceID(pcommon.TraceID{byte(id)})
	exemplar.FilteredAttributes().PutInt("id", int64(id))
}

// singleMetric copies each data point of m, with what belongs to m's type, to the
// metric that add returns for its identity.
func singleMetric(m pmetric.Metric, add func(id int) pmetric.Metric) {
	idOf := func(p point) int {
		id, _ := p.Attributes().Get("id")
		return int(id.Int())
	}
	switch m.Type() {
	case pmetric.MetricTypeGauge:
		for _, dp := range m.Gauge().DataPoints().All() {
			dp.CopyTo(add(idOf(dp)).SetEmptyGauge().DataPoints().AppendEmpty())
		}
	case pmetric.MetricTypeSum:
		for _, dp := range m.Sum().DataPoints().All() {
			to := add(idOf(dp)).SetEmptySum()
			to.SetAggregationTemporality(m.Sum().AggregationTemporality())
			to.SetIsMonotonic(m.Sum().IsMonotonic())
			dp.CopyTo(to.DataPoints().AppendEmpty())
		}
	case pmetric.MetricTypeHistogram:
		for _, dp := range m.Histogram().DataPoints().All() {
			to := add(idOf(dp)).SetEmptyHistogram()
			to.SetAggregationTemporality(m.Histogram().AggregationTemporality())
			dp.CopyTo(to.DataPoints().AppendEmpty())
		}
	case pmetric.MetricTypeExponentialHistogram:
		for _, dp := range m.ExponentialHistogram().DataPoints().All() {
			to := add(idOf(dp)).SetEmptyExponentialHistogram()
			to.SetAggregationTemporality(m.ExponentialHistogram().AggregationTemporality())
			dp.CopyTo(to.DataPoints().AppendEmpty())
		}
	case pmetric.MetricTypeSummary:
		for _, dp := range m.Summary().DataPoints().All() {
			dp.CopyTo(add(idOf(dp)).SetEmptySummary().DataPoints().AppendEmpty())
		}
	case pmetric.MetricTypeEmpty:
	}
}
