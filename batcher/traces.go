package batcher

import (
	"errors"
	"sync"

	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/xpdata/pref"
)

// Traces is the Signal of ptrace.Traces. Its items are spans.
func Traces() Signal[ptrace.Traces] { return traces{} }

type traces struct{}

func (traces) Name() string { return "traces" }

func (traces) New(resources int) ptrace.Traces {
	td := ptrace.NewTraces()
	td.ResourceSpans().EnsureCapacity(resources)
	return td
}

func (traces) Items(td ptrace.Traces) int { return td.SpanCount() }

func (traces) Resources(td ptrace.Traces) int { return td.ResourceSpans().Len() }

func (traces) Bytes(td ptrace.Traces) int { return new(ptrace.ProtoMarshaler).TracesSize(td) }

func (traces) Move(src, dst ptrace.Traces) {
	src.ResourceSpans().MoveAndAppendTo(dst.ResourceSpans())
}

func (traces) Partial(err error, rest ptrace.Traces) error {
	return consumererror.NewTraces(err, rest)
}

func (traces) FailedPart(err error) (ptrace.Traces, bool) {
	partial, ok := errors.AsType[consumererror.Traces](err)
	if !ok || partial.Data() == (ptrace.Traces{}) { // made without data by mistake
		return ptrace.Traces{}, false
	}
	return partial.Data(), true
}

func (traces) Ref(td ptrace.Traces) { pref.RefTraces(td) }

func (traces) Unref(td ptrace.Traces) { pref.UnrefTraces(td) }

func (traces) Resource(td ptrace.Traces, entry int) pcommon.Resource {
	return td.ResourceSpans().At(entry).Resource()
}

func (traces) Distribute(td ptrace.Traces, to func(pcommon.Resource) ptrace.Traces) {
	td.ResourceSpans().RemoveIf(func(r ptrace.ResourceSpans) bool {
		r.MoveTo(to(r.Resource()).ResourceSpans().AppendEmpty())
		return true
	})
}

func (traces) ItemsAt(td ptrace.Traces, resource int) int {
	return resourceSpansLevel.items(td.ResourceSpans().At(resource))
}

func (s traces) Copy(td ptrace.Traces, from, to int) ptrace.Traces {
	c := s.New(to - from)
	for i := from; i < to; i++ {
		td.ResourceSpans().At(i).CopyTo(c.ResourceSpans().AppendEmpty())
	}
	return c
}

func (traces) Heap(td ptrace.Traces) int { return tracesFootprint(td) }

// tracesAside are slices in which the children of an element are put aside while it is measured
// without them.
type tracesAside struct {
	scopes ptrace.ScopeSpansSlice
	items  ptrace.SpanSlice
}

var tracesAsides = sync.Pool{New: func() any {
	return &tracesAside{ptrace.NewScopeSpansSlice(), ptrace.NewSpanSlice()}
}}

func (traces) Measure(td ptrace.Traces, z *Sizes) {
	var enc ptrace.ProtoMarshaler
	aside := tracesAsides.Get().(*tracesAside)
	defer tracesAsides.Put(aside)
	z.begin(td.ResourceSpans().Len())
	for i := range td.ResourceSpans().Len() {
		r := td.ResourceSpans().At(i)
		z.open(measureFrame(z, r, r.ScopeSpans(), aside.scopes, enc.ResourceSpansSize, resourceSpansFootprint))
		for j := range r.ScopeSpans().Len() {
			s := r.ScopeSpans().At(j)
			z.open(measureFrame(z, s, s.Spans(), aside.items, enc.ScopeSpansSize, scopeSpansFootprint))
			items := s.Spans()
			z.list(items.Len(), func(k int) int { return enc.SpanSize(items.At(k)) }, func(k int) int { return spanFootprint(items.At(k)) })
			z.close()
		}
		z.close()
	}
}

func (s traces) Cut(td ptrace.Traces, z *Sizes) Cutter[ptrace.Traces] {
	return newCutter(s, td, z, resourceSpansOf, resourceSpansLevel)
}

func (traces) Merge(data ptrace.Traces, m *Merger) {
	mergeAll(m, data.ResourceSpans(), &resourceSpansKin)
}

func (s traces) Pick(data ptrace.Traces, p *Picker) ptrace.Traces {
	return pickFrom(s, data, resourceSpansOf, resourceSpansLevel, p)
}

var (
	resourceSpansKin = kin[ptrace.ResourceSpans]{
		signature: func(m *Merger, e ptrace.ResourceSpans) uint64 { return m.signResource(e.Resource(), e.SchemaUrl()) },
		same: func(m *Merger, a, b ptrace.ResourceSpans) bool {
			return a.SchemaUrl() == b.SchemaUrl() && m.sameResource(a.Resource(), b.Resource())
		},
		children: func(e ptrace.ResourceSpans) int { return e.ScopeSpans().Len() },
		join:     func(dst, src ptrace.ResourceSpans) { src.ScopeSpans().MoveAndAppendTo(dst.ScopeSpans()) },
		within: func(m *Merger, e ptrace.ResourceSpans, from []run) {
			mergeList(m, e.ScopeSpans(), &scopeSpansKin, from)
		},
	}
	scopeSpansKin = kin[ptrace.ScopeSpans]{
		signature: func(m *Merger, e ptrace.ScopeSpans) uint64 { return m.signScope(e.Scope(), e.SchemaUrl()) },
		same: func(m *Merger, a, b ptrace.ScopeSpans) bool {
			return a.SchemaUrl() == b.SchemaUrl() && m.sameScope(a.Scope(), b.Scope())
		},
		children: func(e ptrace.ScopeSpans) int { return e.Spans().Len() },
		join:     func(dst, src ptrace.ScopeSpans) { src.Spans().MoveAndAppendTo(dst.Spans()) },
		within:   func(m *Merger, _ ptrace.ScopeSpans, from []run) { m.leaf(from) },
	}
)

var (
	resourceSpansLevel = level[ptrace.ResourceSpans]{
		items: func(rs ptrace.ResourceSpans) (n int) {
			for i := range rs.ScopeSpans().Len() {
				n += rs.ScopeSpans().At(i).Spans().Len()
			}
			return n
		},
		move: ptrace.ResourceSpans.MoveTo,
		header: func(src, dst ptrace.ResourceSpans) {
			src.Resource().CopyTo(dst.Resource())
			dst.SetSchemaUrl(src.SchemaUrl())
		},
		children: func(rs ptrace.ResourceSpans) inside[ptrace.ResourceSpans] {
			return nest(rs, scopeSpansOf, scopeSpansLevel)
		},
	}
	scopeSpansLevel = level[ptrace.ScopeSpans]{
		items: func(ss ptrace.ScopeSpans) int { return ss.Spans().Len() },
		move:  ptrace.ScopeSpans.MoveTo,
		header: func(src, dst ptrace.ScopeSpans) {
			src.Scope().CopyTo(dst.Scope())
			dst.SetSchemaUrl(src.SchemaUrl())
		},
		children: func(ss ptrace.ScopeSpans) inside[ptrace.ScopeSpans] {
			return nest(ss, spansOf, spanLevel)
		},
	}
	spanLevel = level[ptrace.Span]{items: one[ptrace.Span], move: ptrace.Span.MoveTo, copy: ptrace.Span.CopyTo}
)

func resourceSpansOf(td ptrace.Traces) sequence[ptrace.ResourceSpans] { return td.ResourceSpans() }

func scopeSpansOf(rs ptrace.ResourceSpans) sequence[ptrace.ScopeSpans] { return rs.ScopeSpans() }

func spansOf(ss ptrace.ScopeSpans) sequence[ptrace.Span] { return ss.Spans() }
