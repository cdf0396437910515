package harness

import (
	"context"
	"fmt"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"google.golang.org/grpc"
)

var metrics = &signal[pmetric.Metrics]{
	name:        "metrics",
	url:         "/v1/metrics",
	inseparable: 1,
	generate:    generateMetrics,
	each:        eachDataPoint,
	marshal:     (&pmetric.ProtoMarshaler{}).MarshalMetrics,
	unmarshal:   (&pmetric.ProtoUnmarshaler{}).UnmarshalMetrics,
	text:        (&pmetric.JSONMarshaler{}).MarshalMetrics,
	export: func(ctx context.Context, cc *grpc.ClientConn, data pmetric.Metrics) (rejected, error) {
		resp, err := pmetricotlp.NewGRPCClient(cc).Export(ctx, pmetricotlp.NewExportRequestFromMetrics(data))
		if err != nil {
			return rejected{}, err
		}
		return rejectedDataPoints(resp), nil
	},
	answer: func(body []byte) (rejected, error) {
		resp := pmetricotlp.NewExportResponse()
		err := resp.UnmarshalProto(body)
		return rejectedDataPoints(resp), err
	},
}

func rejectedDataPoints(resp pmetricotlp.ExportResponse) rejected {
	return rejected{resp.PartialSuccess().RejectedDataPoints(), resp.PartialSuccess().ErrorMessage()}
}

func generateMetrics(ids Range) pmetric.Metrics {
	data := pmetric.NewMetrics()
	var rm pmetric.ResourceMetrics
	var sm pmetric.ScopeMetrics
	var m pmetric.Metric
	walk(ids,
		func(variant uint64) {
			rm = data.ResourceMetrics().AppendEmpty()
			rm.SetSchemaUrl(fillResource(variant, rm.Resource()))
		},
		func(variant uint64) {
			sm = rm.ScopeMetrics().AppendEmpty()
			sm.SetSchemaUrl(fillScope(variant, sm.Scope()))
		},
		func(id uint64, first bool) {
			if first || id%perMetric == 0 {
				m = sm.Metrics().AppendEmpty()
				fillMetric(id/perMetric, m)
			}
			addDataPoint(id, m)
		},
	)
	return data
}

// fillMetric makes one of 60 metrics: five kinds, with each temporality, monotonic
// and not, with metadata and without.
func fillMetric(n uint64, m pmetric.Metric) {
	n %= 60
	m.SetName(fmt.Sprintf("metric.%d", n))
	m.SetDescription(fmt.Sprintf("what metric %d tells", n))
	m.SetUnit([]string{"", "By", "s", "{item}"}[n%4])
	if n%3 == 0 {
		m.Metadata().PutStr("origin", fmt.Sprintf("origin-%d", n))
	}
	temporality := pmetric.AggregationTemporality(1 + n/5%2)
	switch n % 5 {
	case 0:
		m.SetEmptyGauge()
	case 1:
		m.SetEmptySum().SetIsMonotonic(n/10%2 == 0)
		m.Sum().SetAggregationTemporality(temporality)
	case 2:
		m.SetEmptyHistogram().SetAggregationTemporality(temporality)
	case 3:
		m.SetEmptyExponentialHistogram().SetAggregationTemporality(temporality)
	case 4:
		m.SetEmptySummary()
	}
}

// point is what the data points of all kinds have in common.
type point interface {
	Attributes() pcommon.Map
	SetStartTimestamp(pcommon.Timestamp)
	SetTimestamp(pcommon.Timestamp)
}

func addDataPoint(id uint64, m pmetric.Metric) {
	h := mix(id)
	flags := pmetric.DefaultDataPointFlags.WithNoRecordedValue(h%31 == 0)
	var p point
	switch m.Type() {
	case pmetric.MetricTypeGauge:
		dp := m.Gauge().DataPoints().AppendEmpty()
		dp.SetIntValue(int64(h))
		dp.SetFlags(flags)
		p = dp
	case pmetric.MetricTypeSum:
		dp := m.Sum().DataPoints().AppendEmpty()
		dp.SetDoubleValue(float64(h%10000) / 7)
		dp.SetFlags(flags)
		fillExemplars(id, dp.Exemplars())
		p = dp
	case pmetric.MetricTypeHistogram:
		dp := m.Histogram().DataPoints().AppendEmpty()
		dp.SetCount(h % 100)
		dp.SetSum(float64(h % 1000))
		dp.SetMin(1)
		dp.SetMax(float64(h % 50))
		dp.BucketCounts().FromRaw([]uint64{h % 3, h % 5, h % 7})
		dp.ExplicitBounds().FromRaw([]float64{10, 20})
		dp.SetFlags(flags)
		fillExemplars(id, dp.Exemplars())
		p = dp
	case pmetric.MetricTypeExponentialHistogram:
		dp := m.ExponentialHistogram().DataPoints().AppendEmpty()
		dp.SetCount(h % 100)
		dp.SetSum(float64(h % 1000))
		dp.SetScale(int32(h % 20))
		dp.SetZeroCount(h % 4)
		dp.SetZeroThreshold(0.5)
		dp.Positive().SetOffset(int32(h % 9))
		dp.Positive().BucketCounts().FromRaw([]uint64{h % 3, h % 5})
		dp.Negative().BucketCounts().FromRaw([]uint64{h % 7})
		dp.SetFlags(flags)
		fillExemplars(id, dp.Exemplars())
		p = dp
	default:
		dp := m.Summary().DataPoints().AppendEmpty()
		dp.SetCount(h % 100)
		dp.SetSum(float64(h % 1000))
		q := dp.QuantileValues().AppendEmpty()
		q.SetQuantile(0.99)
		q.SetValue(float64(h % 77))
		dp.SetFlags(flags)
		p = dp
	}
	if id >= Bulky {
		p.Attributes().PutStr(textKey, text(id))
	}
	if slim(id) {
		putIdentity(id, p.Attributes())
		return
	}
	p.SetStartTimestamp(timestamp(id))
	p.SetTimestamp(timestamp(id + h%1000))
	putIdentity(id, p.Attributes())
	fillAttributes(id, p.Attributes())
}

func fillExemplars(id uint64, exemplars pmetric.ExemplarSlice) {
	if mix(id)%6 != 0 {
		return
	}
	e := exemplars.AppendEmpty()
	e.SetTraceID(traceID(id))
	e.SetSpanID(spanID(id))
	e.SetTimestamp(timestamp(id))
	e.SetIntValue(int64(id))
	e.FilteredAttributes().PutStr("filtered", "yes")
}

func eachDataPoint(data pmetric.Metrics, visit func(id uint64, known bool, alone pmetric.Metrics)) {
	for _, rm := range data.ResourceMetrics().All() {
		for _, sm := range rm.ScopeMetrics().All() {
			for _, m := range sm.Metrics().All() {
				// alone is a metric without data points, in its scope and resource.
				alone := func() (pmetric.Metrics, pmetric.Metric) {
					all := pmetric.NewMetrics()
					arm := all.ResourceMetrics().AppendEmpty()
					rm.Resource().CopyTo(arm.Resource())
					arm.SetSchemaUrl(rm.SchemaUrl())
					asm := arm.ScopeMetrics().AppendEmpty()
					sm.Scope().CopyTo(asm.Scope())
					asm.SetSchemaUrl(sm.SchemaUrl())
					am := asm.Metrics().AppendEmpty()
					am.SetName(m.Name())
					am.SetDescription(m.Description())
					am.SetUnit(m.Unit())
					m.Metadata().CopyTo(am.Metadata())
					return all, am
				}
				eachPointOf(m, alone, visit)
			}
		}
	}
}

func eachPointOf(
	m pmetric.Metric, alone func() (pmetric.Metrics, pmetric.Metric),
	visit func(id uint64, known bool, alone pmetric.Metrics),
) {
	visitPoint := func(attributes pcommon.Map, all pmetric.Metrics) {
		id, known := identity(attributes)
		visit(id, known, all)
	}
	switch m.Type() {
	case pmetric.MetricTypeGauge:
		for _, dp := range m.Gauge().DataPoints().All() {
			all, am := alone()
			dp.CopyTo(am.SetEmptyGauge().DataPoints().AppendEmpty())
			visitPoint(dp.Attributes(), all)
		}
	case pmetric.MetricTypeSum:
		for _, dp := range m.Sum().DataPoints().All() {
			all, am := alone()
			to := am.SetEmptySum()
			to.SetIsMonotonic(m.Sum().IsMonotonic())
			to.SetAggregationTemporality(m.Sum().AggregationTemporality())
			dp.CopyTo(to.DataPoints().AppendEmpty())
			visitPoint(dp.Attributes(), all)
		}
	case pmetric.MetricTypeHistogram:
		for _, dp := range m.Histogram().DataPoints().All() {
			all, am := alone()
			to := am.SetEmptyHistogram()
			to.SetAggregationTemporality(m.Histogram().AggregationTemporality())
			dp.CopyTo(to.DataPoints().AppendEmpty())
			visitPoint(dp.Attributes(), all)
		}
	case pmetric.MetricTypeExponentialHistogram:
		for _, dp := range m.ExponentialHistogram().DataPoints().All() {
			all, am := alone()
			to := am.SetEmptyExponentialHistogram()
			to.SetAggregationTemporality(m.ExponentialHistogram().AggregationTemporality())
			dp.CopyTo(to.DataPoints().AppendEmpty())
			visitPoint(dp.Attributes(), all)
		}
	case pmetric.MetricTypeSummary:
		for _, dp := range m.Summary().DataPoints().All() {
			all, am := alone()
			dp.CopyTo(am.SetEmptySummary().DataPoints().AppendEmpty())
			visitPoint(dp.Attributes(), all)
		}
	case pmetric.MetricTypeEmpty:
		all, _ := alone()
		visit(0, false, all) // it has lost its kind, and its data points with it
	}
}
