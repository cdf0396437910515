package main

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// pattern selects benchmarks by name: "Consume/signal=traces|logs/items=10/producers=*". Each way
// to choose one of the alternatives is a case; * stands for every value in the results. Keys that it
// does not name do not matter, as long as one benchmark is left.
type pattern string

func (p pattern) bench() string { bench, _, _ := strings.Cut(string(p), "/"); return bench }

// parts are the keys of a pattern with their alternatives.
func (p pattern) parts() (parts []keyValue) {
	for part := range strings.SplitSeq(string(p), "/") {
		if key, value, found := strings.Cut(part, "="); found {
			parts = append(parts, keyValue{key, value})
		}
	}
	return parts
}

// cases are all combinations, the last key varying fastest.
func (p pattern) cases(r *results) []keys {
	all := []keys{{}}
	for _, part := range p.parts() {
		var more []keys
		for _, k := range all {
			values := strings.Split(part.value, "|")
			if part.value == "*" {
				values = r.valuesOf(p.bench(), part.key, k)
			}
			for _, v := range values {
				with := maps.Clone(k)
				with[part.key] = v
				more = append(more, with)
			}
		}
		all = more
	}
	return all
}

// valuesOf are the values of a key in benchmarks with these other keys, least first; words
// stay in the order of the results.
func (r *results) valuesOf(bench, key string, others keys) (values []string) {
	for _, e := range r.entries {
		if v, found := e.keys[key]; found && e.bench == bench && e.keys.has(others) && !slices.Contains(values, v) {
			values = append(values, v)
		}
	}
	slices.SortStableFunc(values, func(a, b string) int { return cmp.Compare(quantity(a), quantity(b)) })
	return values
}

// quantity is the number in the value of a key: 10000, 5ms (in seconds); 0 if it is a word.
func quantity(value string) float64 {
	if f, err := strconv.ParseFloat(value, 64); err == nil {
		return f
	}
	if d, err := time.ParseDuration(value); err == nil {
		return d.Seconds()
	}
	return 0
}

// term is a number in each round of a benchmark.
type term struct {
	// set are the keys that it has besides those of the case, or instead of them: "impl=batch". A value
	// of /2 is half of what the case has: "impl=batch items=/2".
	set  string
	unit string
	// over is what to subtract, a unit of the same line. A difference below 0 counts as 0, unless signed: where
	// many rounds are about a small difference, those below it have to balance those above.
	over   string
	signed bool
	// minus is the set of another benchmark, whose unit is subtracted.
	minus string
	times float64 // a factor; 0 is 1
}

// keys are those of a case with the term's own.
func (t *term) keys(of keys, set string) keys {
	all := maps.Clone(of)
	for part := range strings.FieldsSeq(set) {
		key, value, _ := strings.Cut(part, "=")
		if by, divided := strings.CutPrefix(value, "/"); divided {
			value = strconv.FormatFloat(quantity(of[key])/quantity(by), 'f', -1, 64)
		}
		all[key] = value
	}
	return all
}

// sets are the benchmarks that a term needs.
func (t *term) sets() []string {
	if t.minus != "" {
		return []string{t.set, t.minus}
	}
	return []string{t.set}
}

// values is a term in each round, and the benchmark it is of.
func (r *results) values(bench string, of keys, t *term) (values []float64, from *entry, err error) {
	if from, err = r.find(bench, t.keys(of, t.set)); err != nil {
		return nil, nil, err
	}
	if from == nil {
		return nil, nil, fmt.Errorf("%s %w", describe(bench, t.keys(of, t.set)), errMissing)
	}
	if values, err = from.each(t.unit); err != nil {
		return nil, nil, err
	}
	if t.over != "" {
		bare, err := from.each(t.over)
		if err != nil {
			return nil, nil, err
		}
		for i := range values {
			if values[i] -= bare[i]; !t.signed {
				values[i] = max(0, values[i])
			}
		}
	}
	if t.minus != "" {
		less, other, err := r.values(bench, of, &term{set: t.minus, unit: t.unit})
		if err != nil {
			return nil, nil, err
		}
		if values, err = pair(values, less, from, other, func(a, b float64) float64 { return a - b }); err != nil {
			return nil, nil, err
		}
	}
	if t.times != 0 {
		for i := range values {
			values[i] *= t.times
		}
	}
	return values, from, nil
}

func (e *entry) each(unit string) ([]float64, error) {
	values := make([]float64, len(e.rounds))
	for i, r := range e.rounds {
		v, found := r.values[unit]
		if !found {
			return nil, fmt.Errorf("%s: no %s: it %w", e.at(i), unit, errMissing)
		}
		values[i] = v
	}
	return values, nil
}

// pair takes the first round of a with the first of b, and so on. Rounds are only comparable if both took
// turns, so there have to be as many. Of what was measured few times, because it takes long, the median is
// held against every round of the other.
func pair(a, b []float64, of, by *entry, f func(a, b float64) float64) ([]float64, error) {
	if of.file != by.file {
		return nil, fmt.Errorf("%s is in %s and %s in %s: they did not take turns", of.name, of.file.name, by.name, by.file.name)
	}
	n := max(len(a), len(b))
	if len(a) != len(b) && min(len(a), len(b)) > max(1, n/4) {
		return nil, fmt.Errorf("%s: %d rounds of %s, but %d of %s", of.file.name, len(a), of.name, len(b), by.name)
	}
	if len(a) < n {
		a = []float64{spreadOf(a).median}
	}
	if len(b) < n {
		b = []float64{spreadOf(b).median}
	}
	all := make([]float64, n)
	for i := range all {
		all[i] = f(a[min(i, len(a)-1)], b[min(i, len(b)-1)])
		if math.IsNaN(all[i]) || math.IsInf(all[i], 0) {
			return nil, fmt.Errorf("%s and %s: no ratio of %v and %v", of.at(min(i, len(a)-1)), by.at(min(i, len(b)-1)), a[min(i, len(a)-1)], b[min(i, len(b)-1)])
		}
	}
	return all, nil
}

// spread is what the rounds of something say.
type spread struct {
	median, min, max float64
	rounds           int
}

// spreadOf requires one value at least. The median of an even number is the upper one of the two
// in the middle, as in the gate, so that both agree on what is missed.
func spreadOf(values []float64) spread {
	sorted := slices.Sorted(slices.Values(values))
	return spread{median: sorted[len(sorted)/2], min: sorted[0], max: sorted[len(sorted)-1], rounds: len(sorted)}
}

// measured is a quotient of two terms, or a single one.
type measured struct {
	spread
	num, den spread // of each by itself; den has no rounds if there is none
	from     *entry
}

// measure returns nothing if none of what it needs is in the results, and an error if only a part is.
func (r *results) measure(bench string, of keys, num, den *term) (*measured, error) {
	var sets []string
	for _, t := range []*term{num, den} {
		if t != nil {
			sets = append(sets, t.sets()...)
		}
	}
	var found *entry
	var missing string
	for _, set := range sets {
		want := num.keys(of, set)
		e, err := r.find(bench, want)
		if err != nil {
			return nil, err
		}
		if e == nil {
			missing = describe(bench, want)
		} else {
			found = e
		}
	}
	if found == nil {
		return nil, nil
	}
	if missing != "" {
		return nil, fmt.Errorf("%s has %s, but %s %w", found.at(0), found.name, missing, errMissing)
	}
	values, from, err := r.values(bench, of, num)
	if err != nil {
		return nil, err
	}
	m := &measured{num: spreadOf(values), from: from}
	if den != nil {
		by, other, err := r.values(bench, of, den)
		if err != nil {
			return nil, err
		}
		m.den = spreadOf(by)
		if values, err = pair(values, by, from, other, func(a, b float64) float64 { return a / b }); err != nil {
			return nil, err
		}
	}
	m.spread = spreadOf(values)
	return m, nil
}
