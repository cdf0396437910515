package harness

import (
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// Pdata is a signal for tests that have the processor in their own process, and so see the
// items as it does.
type Pdata[T any] struct{ signal *signal[T] }

// TracesPdata, LogsPdata and MetricsPdata are those of the signals of the same names.
var (
	TracesPdata  = Pdata[ptrace.Traces]{traces}
	LogsPdata    = Pdata[plog.Logs]{logs}
	MetricsPdata = Pdata[pmetric.Metrics]{metrics}
)

// Name is what the collector calls the signal.
func (p Pdata[T]) Name() string { return p.signal.name }

// Request returns the request with the items in ids.
func (p Pdata[T]) Request(ids Range) T { return p.signal.generate(ids) }

// Each visits the items of data in order, each with its encoding alone with its resource,
// scope and metric. known is false for an item that has lost its identity.
func (p Pdata[T]) Each(data T, visit func(id uint64, known bool, encoded string)) {
	p.signal.each(data, func(id uint64, known bool, alone T) {
		visit(id, known, string(p.signal.encode(alone)))
	})
}

// Print returns what Each encodes, for people.
func (p Pdata[T]) Print(encoded string) string {
	data, err := p.signal.unmarshal([]byte(encoded))
	if err != nil {
		return err.Error()
	}
	return string(p.signal.print(data))
}
