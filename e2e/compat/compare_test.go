package compat

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/boundedbatch/boundedbatchprocessor/e2e/internal/migration"
)

// differences returns, for each aspect in which two records are not the same, what the
// first difference is. ordered: what is done at the same instant has an order.
func differences(was, is *record, ordered bool) map[migration.Aspect]string {
	found := make(map[migration.Aspect]string)
	note := func(in migration.Aspect, difference string) {
		if difference != "" {
			found[in] = difference
		}
	}
	note(migration.Answers, differ(of(was.answers, answer.String), of(is.answers, answer.String), "request %d: %v"))
	note(migration.Waits, differ(of(was.answers, answer.duration), of(is.answers, answer.duration), "request %d takes %v"))
	note(migration.Items, cmp.Or(
		differ(was.arrivals(), is.arrivals(), "item %d arrives, in batches: %v"),
		differ(was.altered, is.altered, "item %d: %s"),
	))
	note(migration.Batches, differ(was.batches(), is.batches(), "the batch that begins with item %d: %v"))
	whole := func(a answer) string { return fmt.Sprintf("%v after %v", a, a.took) }
	note(migration.Shutdown, differ(of([]answer{was.shutdown}, whole), of([]answer{is.shutdown}, whole), "%[2]s"))

	// In what follows items count that both have delivered.
	a, b := was.arrivals(), is.arrivals()
	both := func(id uint64) bool { return a[id] > 0 && b[id] > 0 }
	note(migration.Instants, differ(
		each(was, both, func(e *export) time.Duration { return e.began }),
		each(is, both, func(e *export) time.Duration { return e.began }), "item %d is handed on after %v"))
	note(migration.Metadata, differ(
		each(was, both, func(e *export) string { return e.metadata }),
		each(is, both, func(e *export) string { return e.metadata }), "item %d comes with metadata %s"))
	note(migration.Order, differ(was.order(both, ordered), is.order(both, ordered), "tenant %q: %v"))
	return found
}

// differ returns how two maps differ first, or nothing. The format takes a key and a value.
func differ[K cmp.Ordered, V any](was, is map[K]V, format string) string {
	keys := slices.Collect(maps.Keys(was))
	keys = slices.AppendSeq(keys, maps.Keys(is))
	slices.Sort(keys)
	show := func(of map[K]V, k K) string {
		if v, there := of[k]; there {
			return fmt.Sprintf(format, k, v)
		}
		return fmt.Sprintf("%v: nothing", k)
	}
	for _, k := range slices.Compact(keys) {
		if a, b := show(was, k), show(is, k); a != b {
			return fmt.Sprintf("batch: %s\nboundedbatch: %s", a, b)
		}
	}
	return ""
}

// of returns something of each answer.
func of[V any](answers []answer, get func(answer) V) map[int]V {
	all := make(map[int]V)
	for i, a := range answers {
		all[i] = get(a)
	}
	return all
}

// arrivals returns how often each item was delivered.
func (r *record) arrivals() map[uint64]int {
	n := make(map[uint64]int)
	for _, e := range r.delivered {
		for _, id := range e.ids {
			n[id]++
		}
	}
	return n
}

// batches returns the batches by their first item.
func (r *record) batches() map[uint64][]uint64 {
	all := make(map[uint64][]uint64)
	for _, e := range r.delivered {
		if len(e.ids) > 0 {
			all[e.ids[0]] = e.ids
		}
	}
	return all
}

// each returns something of the batch of each item that counts.
func each[V any](r *record, counts func(id uint64) bool, of func(*export) V) map[uint64]V {
	all := make(map[uint64]V)
	for i := range r.delivered {
		for _, id := range r.delivered[i].ids {
			if counts(id) {
				all[id] = of(&r.delivered[i])
			}
		}
	}
	return all
}

// order returns the items of each tenant that count in the order in which they were done.
func (r *record) order(counts func(id uint64) bool, ordered bool) map[string][]uint64 {
	done := slices.Clone(r.delivered)
	if !ordered {
		slices.SortStableFunc(done, func(a, b export) int {
			return cmp.Or(cmp.Compare(a.done, b.done), slices.Compare(a.ids, b.ids))
		})
	}
	all := make(map[string][]uint64)
	for _, e := range done {
		for _, id := range e.ids {
			if counts(id) {
				all[e.tenant] = append(all[e.tenant], id)
			}
		}
	}
	return all
}
