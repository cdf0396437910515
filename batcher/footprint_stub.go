package batcher

import (
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

func spanFootprint(s ptrace.Span) int                                        { return new(ptrace.ProtoMarshaler).SpanSize(s) * 4 }
func logRecordFootprint(s plog.LogRecord) int                                { return new(plog.ProtoMarshaler).LogRecordSize(s) * 4 }
func numberPointFootprint(s pmetric.NumberDataPoint) int                     { return 200 }
func histogramPointFootprint(s pmetric.HistogramDataPoint) int               { return 200 }
func expHistogramPointFootprint(s pmetric.ExponentialHistogramDataPoint) int { return 200 }
func summaryPointFootprint(s pmetric.SummaryDataPoint) int                   { return 200 }
func metricFootprint(m pmetric.Metric) int                                   { return 150 }
func resourceSpansFootprint(ptrace.ResourceSpans) int                        { return 100 }
func scopeSpansFootprint(ptrace.ScopeSpans) int                              { return 101 }
func resourceLogsFootprint(plog.ResourceLogs) int                            { return 102 }
func scopeLogsFootprint(plog.ScopeLogs) int                                  { return 103 }
func resourceMetricsFootprint(pmetric.ResourceMetrics) int                   { return 104 }
func scopeMetricsFootprint(pmetric.ScopeMetrics) int                         { return 105 }

func tracesFootprint(d ptrace.Traces) int {
	z := Sizes{heap: true, copies: 1}
	traces{}.Measure(d, &z)
	return z.total.Heap
}
func logsFootprint(d plog.Logs) int {
	z := Sizes{heap: true, copies: 1}
	logs{}.Measure(d, &z)
	return z.total.Heap
}
func metricsFootprint(d pmetric.Metrics) int {
	z := Sizes{heap: true, copies: 1}
	metrics{}.Measure(d, &z)
	return z.total.Heap
}
