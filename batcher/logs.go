package batcher

import (
	"errors"
	"sync"

	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/xpdata/pref"
)

// Logs is the Signal of plog.Logs. Its items are log records.
func Logs() Signal[plog.Logs] { return logs{} }

type logs struct{}

func (logs) Name() string { return "logs" }

func (logs) New(resources int) plog.Logs {
	ld := plog.NewLogs()
	ld.ResourceLogs().EnsureCapacity(resources)
	return ld
}

func (logs) Items(ld plog.Logs) int { return ld.LogRecordCount() }

func (logs) Resources(ld plog.Logs) int { return ld.ResourceLogs().Len() }

func (logs) Bytes(ld plog.Logs) int { return new(plog.ProtoMarshaler).LogsSize(ld) }

func (logs) Move(src, dst plog.Logs) {
	src.ResourceLogs().MoveAndAppendTo(dst.ResourceLogs())
}

func (logs) Partial(err error, rest plog.Logs) error {
	return consumererror.NewLogs(err, rest)
}

func (logs) FailedPart(err error) (plog.Logs, bool) {
	partial, ok := errors.AsType[consumererror.Logs](err)
	if !ok || partial.Data() == (plog.Logs{}) { // made without data by mistake
		return plog.Logs{}, false
	}
	return partial.Data(), true
}

func (logs) Ref(ld plog.Logs) { pref.RefLogs(ld) }

func (logs) Unref(ld plog.Logs) { pref.UnrefLogs(ld) }

func (logs) Resource(ld plog.Logs, entry int) pcommon.Resource {
	return ld.ResourceLogs().At(entry).Resource()
}

func (logs) Distribute(ld plog.Logs, to func(pcommon.Resource) plog.Logs) {
	ld.ResourceLogs().RemoveIf(func(r plog.ResourceLogs) bool {
		r.MoveTo(to(r.Resource()).ResourceLogs().AppendEmpty())
		return true
	})
}

func (logs) ItemsAt(ld plog.Logs, resource int) int {
	return resourceLogsLevel.items(ld.ResourceLogs().At(resource))
}

func (s logs) Copy(ld plog.Logs, from, to int) plog.Logs {
	c := s.New(to - from)
	for i := from; i < to; i++ {
		ld.ResourceLogs().At(i).CopyTo(c.ResourceLogs().AppendEmpty())
	}
	return c
}

func (logs) Heap(ld plog.Logs) int { return logsFootprint(ld) }

// logsAside are slices in which the children of an element are put aside while it is measured
// without them.
type logsAside struct {
	scopes plog.ScopeLogsSlice
	items  plog.LogRecordSlice
}

var logsAsides = sync.Pool{New: func() any {
	return &logsAside{plog.NewScopeLogsSlice(), plog.NewLogRecordSlice()}
}}

func (logs) Measure(ld plog.Logs, z *Sizes) {
	var enc plog.ProtoMarshaler
	aside := logsAsides.Get().(*logsAside)
	defer logsAsides.Put(aside)
	z.begin(ld.ResourceLogs().Len())
	for i := range ld.ResourceLogs().Len() {
		r := ld.ResourceLogs().At(i)
		z.open(measureFrame(z, r, r.ScopeLogs(), aside.scopes, enc.ResourceLogsSize, resourceLogsFootprint))
		for j := range r.ScopeLogs().Len() {
			s := r.ScopeLogs().At(j)
			z.open(measureFrame(z, s, s.LogRecords(), aside.items, enc.ScopeLogsSize, scopeLogsFootprint))
			items := s.LogRecords()
			z.list(items.Len(), func(k int) int { return enc.LogRecordSize(items.At(k)) }, func(k int) int { return logRecordFootprint(items.At(k)) })
			z.close()
		}
		z.close()
	}
}

func (s logs) Cut(ld plog.Logs, z *Sizes) Cutter[plog.Logs] {
	return newCutter(s, ld, z, resourceLogsOf, resourceLogsLevel)
}

func (logs) Merge(data plog.Logs, m *Merger) { mergeAll(m, data.ResourceLogs(), &resourceLogsKin) }

func (s logs) Pick(data plog.Logs, p *Picker) plog.Logs {
	return pickFrom(s, data, resourceLogsOf, resourceLogsLevel, p)
}

var (
	resourceLogsKin = kin[plog.ResourceLogs]{
		signature: func(m *Merger, e plog.ResourceLogs) uint64 { return m.signResource(e.Resource(), e.SchemaUrl()) },
		same: func(m *Merger, a, b plog.ResourceLogs) bool {
			return a.SchemaUrl() == b.SchemaUrl() && m.sameResource(a.Resource(), b.Resource())
		},
		children: func(e plog.ResourceLogs) int { return e.ScopeLogs().Len() },
		join:     func(dst, src plog.ResourceLogs) { src.ScopeLogs().MoveAndAppendTo(dst.ScopeLogs()) },
		within:   func(m *Merger, e plog.ResourceLogs, from []run) { mergeList(m, e.ScopeLogs(), &scopeLogsKin, from) },
	}
	scopeLogsKin = kin[plog.ScopeLogs]{
		signature: func(m *Merger, e plog.ScopeLogs) uint64 { return m.signScope(e.Scope(), e.SchemaUrl()) },
		same: func(m *Merger, a, b plog.ScopeLogs) bool {
			return a.SchemaUrl() == b.SchemaUrl() && m.sameScope(a.Scope(), b.Scope())
		},
		children: func(e plog.ScopeLogs) int { return e.LogRecords().Len() },
		join:     func(dst, src plog.ScopeLogs) { src.LogRecords().MoveAndAppendTo(dst.LogRecords()) },
		within:   func(m *Merger, _ plog.ScopeLogs, from []run) { m.leaf(from) },
	}
)

var (
	resourceLogsLevel = level[plog.ResourceLogs]{
		items: func(rl plog.ResourceLogs) (n int) {
			for i := range rl.ScopeLogs().Len() {
				n += rl.ScopeLogs().At(i).LogRecords().Len()
			}
			return n
		},
		move: plog.ResourceLogs.MoveTo,
		header: func(src, dst plog.ResourceLogs) {
			src.Resource().CopyTo(dst.Resource())
			dst.SetSchemaUrl(src.SchemaUrl())
		},
		children: func(rl plog.ResourceLogs) inside[plog.ResourceLogs] {
			return nest(rl, scopeLogsOf, scopeLogsLevel)
		},
	}
	scopeLogsLevel = level[plog.ScopeLogs]{
		items: func(sl plog.ScopeLogs) int { return sl.LogRecords().Len() },
		move:  plog.ScopeLogs.MoveTo,
		header: func(src, dst plog.ScopeLogs) {
			src.Scope().CopyTo(dst.Scope())
			dst.SetSchemaUrl(src.SchemaUrl())
		},
		children: func(sl plog.ScopeLogs) inside[plog.ScopeLogs] {
			return nest(sl, logRecordsOf, logRecordLevel)
		},
	}
	logRecordLevel = level[plog.LogRecord]{items: one[plog.LogRecord], move: plog.LogRecord.MoveTo, copy: plog.LogRecord.CopyTo}
)

func resourceLogsOf(ld plog.Logs) sequence[plog.ResourceLogs] { return ld.ResourceLogs() }

func scopeLogsOf(rl plog.ResourceLogs) sequence[plog.ScopeLogs] { return rl.ScopeLogs() }

func logRecordsOf(sl plog.ScopeLogs) sequence[plog.LogRecord] { return sl.LogRecords() }
