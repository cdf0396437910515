package batcher

import "go.opentelemetry.io/collector/pdata/ptrace"

// tracesFootprint is the footprint of all of td.
func tracesFootprint(td ptrace.Traces) int {
	rss := td.ResourceSpans()
	n := requestFootprint(rss.Len())
	for i := range rss.Len() {
		rs := rss.At(i)
		n += resourceSpansFootprint(rs)
		sss := rs.ScopeSpans()
		for j := range sss.Len() {
			ss := sss.At(j)
			n += scopeSpansFootprint(ss)
			spans := ss.Spans()
			for k := range spans.Len() {
				n += spanFootprint(spans.At(k))
			}
		}
	}
	return n
}

// resourceSpansFootprint is the footprint of rs without its scopes.
func resourceSpansFootprint(rs ptrace.ResourceSpans) int {
	return containerFootprint(rs.Resource(), rs.SchemaUrl(), rs.ScopeSpans().Len())
}

// scopeSpansFootprint is the footprint of ss without its spans.
func scopeSpansFootprint(ss ptrace.ScopeSpans) int {
	return scopedFootprint(ss.Scope(), ss.SchemaUrl(), ss.Spans().Len())
}

// spanFootprint is the footprint of s.
func spanFootprint(s ptrace.Span) int {
	m := newMeter(spanBlock)
	m.text(s.TraceState().AsRaw())
	m.text(s.Name())
	m.attributes(s.Attributes())
	if events := s.Events(); events.Len() > 0 {
		m.bytes += pointers.of(events.Len()) + events.Len()*spanEventBlock
		for i := range events.Len() {
			e := events.At(i)
			m.text(e.Name())
			m.attributes(e.Attributes())
		}
	}
	if links := s.Links(); links.Len() > 0 {
		m.bytes += pointers.of(links.Len()) + links.Len()*spanLinkBlock
		for i := range links.Len() {
			l := links.At(i)
			m.text(l.TraceState().AsRaw())
			m.attributes(l.Attributes())
		}
	}
	m.text(s.Status().Message())
	return m.total()
}

var (
	spanBlock      = blockOf[spanFields]()
	spanEventBlock = blockOf[spanEventFields]()
	spanLinkBlock  = blockOf[spanLinkFields]()
)

type (
	spanFields struct {
		_, _    string
		_, _, _ []byte
		_       struct {
			_ string
			_ int32
		}
		_, _          uint64
		_, _, _, _, _ uint32
		_             [16]byte
		_, _          [8]byte
	}
	spanEventFields struct {
		_ string
		_ []byte
		_ uint64
		_ uint32
	}
	spanLinkFields struct {
		_    string
		_    []byte
		_, _ uint32
		_    [16]byte
		_    [8]byte
	}
)
