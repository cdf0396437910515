package harness

import (
	"context"
	"encoding/binary"
	"fmt"

	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"google.golang.org/grpc"
)

var traces = &signal[ptrace.Traces]{
	name:        "traces",
	url:         "/v1/traces",
	inseparable: 1,
	generate:    generateTraces,
	each:        eachSpan,
	marshal:     (&ptrace.ProtoMarshaler{}).MarshalTraces,
	unmarshal:   (&ptrace.ProtoUnmarshaler{}).UnmarshalTraces,
	text:        (&ptrace.JSONMarshaler{}).MarshalTraces,
	export: func(ctx context.Context, cc *grpc.ClientConn, data ptrace.Traces) (rejected, error) {
		resp, err := ptraceotlp.NewGRPCClient(cc).Export(ctx, ptraceotlp.NewExportRequestFromTraces(data))
		if err != nil {
			return rejected{}, err
		}
		return rejectedSpans(resp), nil
	},
	answer: func(body []byte) (rejected, error) {
		resp := ptraceotlp.NewExportResponse()
		err := resp.UnmarshalProto(body)
		return rejectedSpans(resp), err
	},
}

func rejectedSpans(resp ptraceotlp.ExportResponse) rejected {
	return rejected{resp.PartialSuccess().RejectedSpans(), resp.PartialSuccess().ErrorMessage()}
}

func generateTraces(ids Range) ptrace.Traces {
	data := ptrace.NewTraces()
	var rs ptrace.ResourceSpans
	var ss ptrace.ScopeSpans
	walk(ids,
		func(variant uint64) {
			rs = data.ResourceSpans().AppendEmpty()
			rs.SetSchemaUrl(fillResource(variant, rs.Resource()))
		},
		func(variant uint64) {
			ss = rs.ScopeSpans().AppendEmpty()
			ss.SetSchemaUrl(fillScope(variant, ss.Scope()))
		},
		func(id uint64, _ bool) { fillSpan(id, ss.Spans().AppendEmpty()) },
	)
	return data
}

func fillSpan(id uint64, s ptrace.Span) {
	h := mix(id)
	if slim(id) {
		s.SetSpanID(spanID(id))
		s.SetName(text(id))
		return
	}
	s.SetTraceID(traceID(id))
	s.SetSpanID(spanID(id))
	s.SetParentSpanID(spanID(h))
	s.TraceState().FromRaw(fmt.Sprintf("e2e=%d", id))
	s.SetFlags(uint32(h % 4))
	s.SetName(fmt.Sprintf("operation-%d", h%50))
	s.SetKind(ptrace.SpanKind(h % 6))
	s.SetStartTimestamp(timestamp(id))
	s.SetEndTimestamp(timestamp(id + h%1000))
	fillAttributes(id, s.Attributes())
	s.SetDroppedAttributesCount(uint32(h % 3))
	s.SetDroppedEventsCount(uint32(h % 5))
	s.SetDroppedLinksCount(uint32(h % 7))
	s.Status().SetCode(ptrace.StatusCode(h % 3))
	if h%4 == 0 {
		s.Status().SetMessage("said why")
		event := s.Events().AppendEmpty()
		event.SetName("event")
		event.SetTimestamp(timestamp(id + 1))
		event.SetDroppedAttributesCount(uint32(h % 11))
		fillAttributes(id+1, event.Attributes())
	}
	if id >= Bulky {
		carrier := s.Attributes()
		if h%4 == 0 {
			carrier = s.Events().At(0).Attributes()
		}
		carrier.PutStr(textKey, text(id))
	}
	if h%8 == 0 {
		link := s.Links().AppendEmpty()
		link.SetTraceID(traceID(h))
		link.SetSpanID(spanID(h))
		link.TraceState().FromRaw("link=1")
		link.SetFlags(1)
		link.Attributes().PutBool("linked", true)
	}
}

func eachSpan(data ptrace.Traces, visit func(id uint64, known bool, alone ptrace.Traces)) {
	for _, rs := range data.ResourceSpans().All() {
		for _, ss := range rs.ScopeSpans().All() {
			for _, span := range ss.Spans().All() {
				alone := ptrace.NewTraces()
				ars := alone.ResourceSpans().AppendEmpty()
				rs.Resource().CopyTo(ars.Resource())
				ars.SetSchemaUrl(rs.SchemaUrl())
				ass := ars.ScopeSpans().AppendEmpty()
				ss.Scope().CopyTo(ass.Scope())
				ass.SetSchemaUrl(ss.SchemaUrl())
				span.CopyTo(ass.Spans().AppendEmpty())
				id := span.SpanID()
				visit(binary.BigEndian.Uint64(id[:])-1, !id.IsEmpty(), alone)
			}
		}
	}
}
