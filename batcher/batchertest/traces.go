package batchertest

import (
	"encoding/binary"
	"strconv"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
)

// Traces is the Kind of ptrace.Traces.
func Traces() Kind[ptrace.Traces] {
	return Kind[ptrace.Traces]{
		batcher.Traces(), makeTraces, bareTraces, all(singleTraces),
		new(ptrace.ProtoMarshaler).MarshalTraces, new(ptrace.ProtoMarshaler).MarshalTraces, new(ptrace.JSONMarshaler).MarshalTraces, nil, &madeTraces,
	}
}

func bareTraces() ptrace.Traces {
	data := ptrace.NewTraces()
	resource(data.ResourceSpans().AppendEmpty().Resource(), 0)
	return data
}

func makeTraces(first, items int) ptrace.Traces {
	data := ptrace.NewTraces()
	var r ptrace.ResourceSpans
	var s ptrace.ScopeSpans
	for id := first; id < first+items; id++ {
		opened := id == first || id%perResource == 0
		if opened {
			r = data.ResourceSpans().AppendEmpty()
			resource(r.Resource(), id)
			r.SetSchemaUrl(schema("resource", id/perResource))
		}
		if opened = opened || id%perScope == 0; opened {
			s = r.ScopeSpans().AppendEmpty()
			scope(s.Scope(), id)
			s.SetSchemaUrl(schema("scope", id/perScope))
		}
		span(s.Spans().AppendEmpty(), id)
	}
	return data
}

func singleTraces(data ptrace.Traces) (ids []int, singles []ptrace.Traces) {
	for _, r := range data.ResourceSpans().All() {
		for _, s := range r.ScopeSpans().All() {
			// add returns the scope of a new request that holds just what s lies in.
			add := func(id int) ptrace.ScopeSpans {
				single := ptrace.NewTraces()
				singleR := single.ResourceSpans().AppendEmpty()
				r.Resource().CopyTo(singleR.Resource())
				singleR.SetSchemaUrl(r.SchemaUrl())
				singleS := singleR.ScopeSpans().AppendEmpty()
				s.Scope().CopyTo(singleS.Scope())
				singleS.SetSchemaUrl(s.SchemaUrl())
				ids, singles = append(ids, id), append(singles, single)
				return singleS
			}
			for _, span := range s.Spans().All() {
				sid := span.SpanID()
				span.CopyTo(add(int(binary.BigEndian.Uint64(sid[:]))).Spans().AppendEmpty())
			}
		}
	}
	return ids, singles
}

func span(s ptrace.Span, id int) {
	var sid pcommon.SpanID
	binary.BigEndian.PutUint64(sid[:], uint64(id))
	s.SetSpanID(sid)
	s.SetName("span " + strconv.Itoa(id))
	s.TraceState().FromRaw("t=" + strconv.Itoa(id))
	s.Attributes().PutInt("id", int64(id))
	s.SetDroppedAttributesCount(uint32(id + 1))
	event := s.Events().AppendEmpty()
	event.SetName("event")
	event.Attributes().PutInt("id", int64(id))
	event.SetDroppedAttributesCount(uint32(id + 4))
	s.SetDroppedEventsCount(uint32(id + 2))
	link := s.Links().AppendEmpty()
	link.SetSpanID(sid)
	link.TraceState().FromRaw("of=link")
	link.Attributes().PutBool("id", id%2 == 0)
	link.SetDroppedAttributesCount(uint32(id + 5))
	link.SetFlags(uint32(id))
	s.SetDroppedLinksCount(uint32(id + 3))
	s.Status().SetMessage("message" + padding(id))
}
