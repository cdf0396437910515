package harness

import (
	"context"
	"fmt"

	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"google.golang.org/grpc"
)

var logs = &signal[plog.Logs]{
	name:        "logs",
	url:         "/v1/logs",
	inseparable: 1,
	generate:    generateLogs,
	each:        eachLogRecord,
	marshal:     (&plog.ProtoMarshaler{}).MarshalLogs,
	unmarshal:   (&plog.ProtoUnmarshaler{}).UnmarshalLogs,
	text:        (&plog.JSONMarshaler{}).MarshalLogs,
	export: func(ctx context.Context, cc *grpc.ClientConn, data plog.Logs) (rejected, error) {
		resp, err := plogotlp.NewGRPCClient(cc).Export(ctx, plogotlp.NewExportRequestFromLogs(data))
		if err != nil {
			return rejected{}, err
		}
		return rejectedLogRecords(resp), nil
	},
	answer: func(body []byte) (rejected, error) {
		resp := plogotlp.NewExportResponse()
		err := resp.UnmarshalProto(body)
		return rejectedLogRecords(resp), err
	},
}

func rejectedLogRecords(resp plogotlp.ExportResponse) rejected {
	return rejected{resp.PartialSuccess().RejectedLogRecords(), resp.PartialSuccess().ErrorMessage()}
}

func generateLogs(ids Range) plog.Logs {
	data := plog.NewLogs()
	var rl plog.ResourceLogs
	var sl plog.ScopeLogs
	walk(ids,
		func(variant uint64) {
			rl = data.ResourceLogs().AppendEmpty()
			rl.SetSchemaUrl(fillResource(variant, rl.Resource()))
		},
		func(variant uint64) {
			sl = rl.ScopeLogs().AppendEmpty()
			sl.SetSchemaUrl(fillScope(variant, sl.Scope()))
		},
		func(id uint64, _ bool) { fillLogRecord(id, sl.LogRecords().AppendEmpty()) },
	)
	return data
}

func fillLogRecord(id uint64, r plog.LogRecord) {
	h := mix(id)
	if slim(id) {
		putIdentity(id, r.Attributes())
		r.Body().SetStr(text(id))
		return
	}
	r.SetTimestamp(timestamp(id))
	r.SetObservedTimestamp(timestamp(id + h%1000))
	r.SetSeverityNumber(plog.SeverityNumber(h % 25))
	r.SetSeverityText(fmt.Sprintf("severity-%d", h%25))
	putIdentity(id, r.Attributes())
	fillAttributes(id, r.Attributes())
	r.SetDroppedAttributesCount(uint32(h % 3))
	r.SetFlags(plog.LogRecordFlags(h % 2))
	if h%3 == 0 {
		r.SetTraceID(traceID(id))
		r.SetSpanID(spanID(id))
		r.SetEventName("event")
	}
	if id >= Bulky {
		if h%5 == 0 {
			r.Attributes().PutStr(textKey, text(id))
		} else {
			r.Body().SetStr(text(id))
		}
		return
	}
	switch h % 4 {
	case 0:
		r.Body().SetStr(fmt.Sprintf("message %d of the log", id))
	case 1:
		r.Body().SetEmptyMap().PutInt("number", int64(id))
	case 2:
		r.Body().SetEmptyBytes().FromRaw([]byte{0, 0xff, byte(id)})
	} // 3: no body
}

func eachLogRecord(data plog.Logs, visit func(id uint64, known bool, alone plog.Logs)) {
	for _, rl := range data.ResourceLogs().All() {
		for _, sl := range rl.ScopeLogs().All() {
			for _, record := range sl.LogRecords().All() {
				alone := plog.NewLogs()
				arl := alone.ResourceLogs().AppendEmpty()
				rl.Resource().CopyTo(arl.Resource())
				arl.SetSchemaUrl(rl.SchemaUrl())
				asl := arl.ScopeLogs().AppendEmpty()
				sl.Scope().CopyTo(asl.Scope())
				asl.SetSchemaUrl(sl.SchemaUrl())
				record.CopyTo(asl.LogRecords().AppendEmpty())
				id, known := identity(record.Attributes())
				visit(id, known, alone)
			}
		}
	}
}
