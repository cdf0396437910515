package batcher

import "go.opentelemetry.io/collector/pdata/pmetric"

// metricsFootprint is the footprint of all of md.
func metricsFootprint(md pmetric.Metrics) int {
	rms := md.ResourceMetrics()
	n := requestFootprint(rms.Len())
	for i := range rms.Len() {
		rm := rms.At(i)
		n += resourceMetricsFootprint(rm)
		sms := rm.ScopeMetrics()
		for j := range sms.Len() {
			sm := sms.At(j)
			n += scopeMetricsFootprint(sm)
			ms := sm.Metrics()
			for k := range ms.Len() {
				m := ms.At(k)
				n += metricFootprint(m) + pointsFootprint(m)
			}
		}
	}
	return n
}

// resourceMetricsFootprint is the footprint of rm without its scopes.
func resourceMetricsFootprint(rm pmetric.ResourceMetrics) int {
	return containerFootprint(rm.Resource(), rm.SchemaUrl(), rm.ScopeMetrics().Len())
}

// scopeMetricsFootprint is the footprint of sm without its metrics.
func scopeMetricsFootprint(sm pmetric.ScopeMetrics) int {
	return scopedFootprint(sm.Scope(), sm.SchemaUrl(), sm.Metrics().Len())
}

// metricFootprint is the footprint of mt without its data points.
func metricFootprint(mt pmetric.Metric) int {
	m := newMeter(metricBlock)
	m.text(mt.Name())
	m.text(mt.Description())
	m.text(mt.Unit())
	switch mt.Type() {
	case pmetric.MetricTypeGauge:
		m.bytes += pointerBlock + sliceBlock + pointers.of(mt.Gauge().DataPoints().Len())
	case pmetric.MetricTypeSum:
		m.bytes += pointerBlock + sumBlock + pointers.of(mt.Sum().DataPoints().Len())
	case pmetric.MetricTypeHistogram:
		m.bytes += pointerBlock + aggregationBlock + pointers.of(mt.Histogram().DataPoints().Len())
	case pmetric.MetricTypeExponentialHistogram:
		m.bytes += pointerBlock + aggregationBlock + pointers.of(mt.ExponentialHistogram().DataPoints().Len())
	case pmetric.MetricTypeSummary:
		m.bytes += pointerBlock + sliceBlock + pointers.of(mt.Summary().DataPoints().Len())
	case pmetric.MetricTypeEmpty:
	}
	m.attributes(mt.Metadata())
	return m.total()
}

// pointsFootprint is the footprint of the data points of m.
func pointsFootprint(m pmetric.Metric) (n int) {
	switch m.Type() {
	case pmetric.MetricTypeGauge:
		return numberPointsFootprint(m.Gauge().DataPoints())
	case pmetric.MetricTypeSum:
		return numberPointsFootprint(m.Sum().DataPoints())
	case pmetric.MetricTypeHistogram:
		for i, points := 0, m.Histogram().DataPoints(); i < points.Len(); i++ {
			n += histogramPointFootprint(points.At(i))
		}
	case pmetric.MetricTypeExponentialHistogram:
		for i, points := 0, m.ExponentialHistogram().DataPoints(); i < points.Len(); i++ {
			n += expHistogramPointFootprint(points.At(i))
		}
	case pmetric.MetricTypeSummary:
		for i, points := 0, m.Summary().DataPoints(); i < points.Len(); i++ {
			n += summaryPointFootprint(points.At(i))
		}
	case pmetric.MetricTypeEmpty:
	}
	return n
}

func numberPointsFootprint(points pmetric.NumberDataPointSlice) (n int) {
	for i := range points.Len() {
		n += numberPointFootprint(points.At(i))
	}
	return n
}

// numberPointFootprint is the footprint of one point of a gauge or sum.
func numberPointFootprint(p pmetric.NumberDataPoint) int {
	m := newMeter(numberBlock)
	if p.ValueType() != pmetric.NumberDataPointValueTypeEmpty {
		m.word()
	}
	m.exemplars(p.Exemplars())
	m.attributes(p.Attributes())
	return m.total()
}

// histogramPointFootprint is the footprint of one point of a histogram.
func histogramPointFootprint(p pmetric.HistogramDataPoint) int {
	m := newMeter(histogramBlock)
	m.array(8 * p.BucketCounts().Len())
	m.array(8 * p.ExplicitBounds().Len())
	m.exemplars(p.Exemplars())
	m.attributes(p.Attributes())
	return m.total()
}

// expHistogramPointFootprint is the footprint of one point of an exponential histogram. Its
// counts vary in length on the wire, so decoding appends them one by one.
func expHistogramPointFootprint(p pmetric.ExponentialHistogramDataPoint) int {
	m := newMeter(expHistogramBlock)
	m.attributes(p.Attributes())
	m.bytes += counts.of(p.Positive().BucketCounts().Len()) + counts.of(p.Negative().BucketCounts().Len())
	m.exemplars(p.Exemplars())
	return m.total()
}

// summaryPointFootprint is the footprint of one point of a summary.
func summaryPointFootprint(p pmetric.SummaryDataPoint) int {
	m := newMeter(summaryBlock)
	quantiles := p.QuantileValues().Len()
	m.bytes += pointers.of(quantiles) + quantiles*quantileBlock
	m.attributes(p.Attributes())
	return m.total()
}

// exemplars adds what a slice of exemplars points to.
func (m *meter) exemplars(es pmetric.ExemplarSlice) {
	if es.Len() == 0 {
		return
	}
	m.bytes += exemplars.of(es.Len())
	for i := range es.Len() {
		e := es.At(i)
		if e.ValueType() != pmetric.ExemplarValueTypeEmpty {
			m.word()
		}
		m.attributes(e.FilteredAttributes())
	}
}

const quantileBlock = 16 // two numbers, and no pointers

var (
	metricBlock       = blockOf[metricFields]()
	sumBlock          = blockOf[sumFields]()
	aggregationBlock  = blockOf[aggregationFields]()
	numberBlock       = blockOf[numberFields]()
	histogramBlock    = blockOf[histogramFields]()
	expHistogramBlock = blockOf[expHistogramFields]()
	summaryBlock      = blockOf[summaryFields]()
)

type (
	metricFields struct {
		_, _, _ string
		_       any
		_       []byte
	}
	sumFields struct {
		_ []byte
		_ int32
		_ bool
	}
	// aggregationFields is a histogram of either kind.
	aggregationFields struct {
		_ []byte
		_ int32
	}
	numberFields struct {
		_    any
		_, _ []byte
		_, _ uint64
		_    uint32
	}
	histogramFields struct {
		_, _, _, _       []byte
		_, _, _, _, _, _ uint64
		_                [1]uint64
		_                uint32
	}
	bucketsFields struct {
		_ []byte
		_ int32
	}
	expHistogramFields struct {
		_, _                   bucketsFields
		_, _                   []byte
		_, _, _, _, _, _, _, _ uint64
		_                      [1]uint64
		_, _                   uint32
	}
	summaryFields struct {
		_, _       []byte
		_, _, _, _ uint64
		_          uint32
	}
	exemplarFields struct {
		_ any
		_ []byte
		_ uint64
		_ [16]byte
		_ [8]byte
	}
)
