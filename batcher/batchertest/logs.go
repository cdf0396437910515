package batchertest

import (
	"strconv"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
)

// Logs is the Kind of plog.Logs.
func Logs() Kind[plog.Logs] {
	return Kind[plog.Logs]{
		batcher.Logs(), makeLogs, bareLogs, all(singleLogs),
		new(plog.ProtoMarshaler).MarshalLogs, new(plog.ProtoMarshaler).MarshalLogs, new(plog.JSONMarshaler).MarshalLogs, nil, &madeLogs,
	}
}

func bareLogs() plog.Logs {
	data := plog.NewLogs()
	resource(data.ResourceLogs().AppendEmpty().Resource(), 0)
	return data
}

func makeLogs(first, items int) plog.Logs {
	data := plog.NewLogs()
	var r plog.ResourceLogs
	var s plog.ScopeLogs
	for id := first; id < first+items; id++ {
		opened := id == first || id%perResource == 0
		if opened {
			r = data.ResourceLogs().AppendEmpty()
			resource(r.Resource(), id)
			r.SetSchemaUrl(schema("resource", id/perResource))
		}
		if opened = opened || id%perScope == 0; opened {
			s = r.ScopeLogs().AppendEmpty()
			scope(s.Scope(), id)
			s.SetSchemaUrl(schema("scope", id/perScope))
		}
		logRecord(s.LogRecords().AppendEmpty(), id)
	}
	return data
}

func singleLogs(data plog.Logs) (ids []int, singles []plog.Logs) {
	for _, r := range data.ResourceLogs().All() {
		for _, s := range r.ScopeLogs().All() {
			// add returns the scope of a new request that holds just what s lies in.
			add := func(id int) plog.ScopeLogs {
				single := plog.NewLogs()
				singleR := single.ResourceLogs().AppendEmpty()
				r.Resource().CopyTo(singleR.Resource())
				singleR.SetSchemaUrl(r.SchemaUrl())
				singleS := singleR.ScopeLogs().AppendEmpty()
				s.Scope().CopyTo(singleS.Scope())
				singleS.SetSchemaUrl(s.SchemaUrl())
				ids, singles = append(ids, id), append(singles, single)
				return singleS
			}
			for _, record := range s.LogRecords().All() {
				record.CopyTo(add(int(record.Body().Int())).LogRecords().AppendEmpty())
			}
		}
	}
	return ids, singles
}

func logRecord(r plog.LogRecord, id int) {
	r.Body().SetInt(int64(id))
	r.SetTimestamp(pcommon.Timestamp(id + 1))
	r.SetSeverityText("info")
	r.SetEventName("event " + strconv.Itoa(id) + padding(id))
	r.SetTraceID(pcommon.TraceID{byte(id)})
	r.Attributes().PutEmptyMap("nested").PutInt("id", int64(id))
	r.SetDroppedAttributesCount(uint32(id + 1))
	r.SetFlags(plog.LogRecordFlags(id & 1))
}
