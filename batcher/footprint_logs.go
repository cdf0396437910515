package batcher

import "go.opentelemetry.io/collector/pdata/plog"

// logsFootprint is the footprint of all of ld.
func logsFootprint(ld plog.Logs) int {
	rls := ld.ResourceLogs()
	n := requestFootprint(rls.Len())
	for i := range rls.Len() {
		rl := rls.At(i)
		n += resourceLogsFootprint(rl)
		sls := rl.ScopeLogs()
		for j := range sls.Len() {
			sl := sls.At(j)
			n += scopeLogsFootprint(sl)
			records := sl.LogRecords()
			for k := range records.Len() {
				n += logRecordFootprint(records.At(k))
			}
		}
	}
	return n
}

// resourceLogsFootprint is the footprint of rl without its scopes.
func resourceLogsFootprint(rl plog.ResourceLogs) int {
	return containerFootprint(rl.Resource(), rl.SchemaUrl(), rl.ScopeLogs().Len())
}

// scopeLogsFootprint is the footprint of sl without its records.
func scopeLogsFootprint(sl plog.ScopeLogs) int {
	return scopedFootprint(sl.Scope(), sl.SchemaUrl(), sl.LogRecords().Len())
}

// logRecordFootprint is the footprint of lr.
func logRecordFootprint(lr plog.LogRecord) int {
	m := newMeter(logRecordBlock)
	m.text(lr.SeverityText())
	m.value(lr.Body())
	m.attributes(lr.Attributes())
	m.text(lr.EventName())
	return m.total()
}

var logRecordBlock = blockOf[logRecordFields]()

type logRecordFields struct {
	_       valueFields
	_, _    string
	_       []byte
	_, _    uint64
	_, _, _ uint32
	_       [16]byte
	_       [8]byte
}
