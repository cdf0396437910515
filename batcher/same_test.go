package batcher_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pprofile"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/xpdata/entity"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
)

// headers are what elements must have in common to be merged.
type headers struct {
	resource    pcommon.Resource
	scope       pcommon.InstrumentationScope
	setResource func(schema string)
	setScope    func(schema string)
	// The elements that they belong to.
	ofResource, ofScope any
}

// set gives the headers something in every field.
func (h headers) set() {
	a := h.resource.Attributes()
	a.PutStr("text", "value")
	a.PutInt("number", 1)
	a.PutDouble("double", 1.5)
	a.PutBool("bool", true)
	a.PutEmptyBytes("bytes").FromRaw([]byte{1, 2, 3})
	a.PutEmptySlice("slice").AppendEmpty().SetStr("a")
	a.PutEmptyMap("map").PutStr("a", "b")
	h.resource.SetDroppedAttributesCount(1)
	ref := entity.ResourceEntityRefs(h.resource).AppendEmpty()
	ref.SetType("service")
	ref.SetSchemaUrl("entity schema")
	ref.IdKeys().Append("text", "number")
	ref.DescriptionKeys().Append("bool")
	h.setResource("resource schema")
	h.scope.SetName("name")
	h.scope.SetVersion("version")
	h.scope.Attributes().PutStr("text", "value")
	h.scope.SetDroppedAttributesCount(2)
	h.setScope("scope schema")
}

// refs are the entities of a resource.
func (h headers) refs() entity.EntityRefSlice { return entity.ResourceEntityRefs(h.resource) }

func (h headers) attributes() pcommon.Map { return h.resource.Attributes() }

// differences each make the headers mean something else, in one respect.
var differences = map[string]map[string]func(headers){
	"resource": {
		"no attribute":           func(h headers) { h.attributes().Remove("text") },
		"another one":            func(h headers) { h.attributes().PutStr("further", "value") },
		"another key":            func(h headers) { h.attributes().Remove("text"); h.attributes().PutStr("txet", "value") },
		"text":                   func(h headers) { h.attributes().PutStr("text", "valuf") },
		"empty text":             func(h headers) { h.attributes().PutStr("text", "") },
		"unset value":            func(h headers) { h.attributes().PutEmpty("text") },
		"number":                 func(h headers) { h.attributes().PutInt("number", 2) },
		"number as double":       func(h headers) { h.attributes().PutDouble("number", 1) },
		"number as text":         func(h headers) { h.attributes().PutStr("number", "1") },
		"double":                 func(h headers) { h.attributes().PutDouble("double", math.Nextafter(1.5, 2)) },
		"bool":                   func(h headers) { h.attributes().PutBool("bool", false) },
		"bytes":                  func(h headers) { h.attributes().PutEmptyBytes("bytes").FromRaw([]byte{1, 2, 4}) },
		"longer bytes":           func(h headers) { h.attributes().PutEmptyBytes("bytes").FromRaw([]byte{1, 2, 3, 0}) },
		"slice":                  func(h headers) { h.attributes().PutEmptySlice("slice").AppendEmpty().SetStr("b") },
		"longer slice":           func(h headers) { a, _ := h.attributes().Get("slice"); a.Slice().AppendEmpty() },
		"map":                    func(h headers) { h.attributes().PutEmptyMap("map").PutStr("a", "c") },
		"key in map":             func(h headers) { h.attributes().PutEmptyMap("map").PutStr("b", "b") },
		"empty map":              func(h headers) { h.attributes().PutEmptyMap("map") },
		"dropped attributes":     func(h headers) { h.resource.SetDroppedAttributesCount(0) },
		"schema":                 func(h headers) { h.setResource("resource schemb") },
		"no schema":              func(h headers) { h.setResource("") },
		"no entity":              func(h headers) { h.refs().RemoveIf(func(entity.EntityRef) bool { return true }) },
		"another entity":         func(h headers) { h.refs().AppendEmpty() },
		"type of entity":         func(h headers) { h.refs().At(0).SetType("host") },
		"schema of entity":       func(h headers) { h.refs().At(0).SetSchemaUrl("") },
		"keys of entity":         func(h headers) { h.refs().At(0).IdKeys().SetAt(1, "bool") },
		"order of keys":          func(h headers) { h.refs().At(0).IdKeys().FromRaw([]string{"number", "text"}) },
		"description of entity":  func(h headers) { h.refs().At(0).DescriptionKeys().Append("number") },
		"values of two keys":     func(h headers) { h.attributes().PutStr("text", "1"); h.attributes().PutStr("number", "value") },
		"value of another scope": func(h headers) { h.attributes().PutStr("name", "name") },
	},
	"scope": {
		"name":               func(h headers) { h.scope.SetName("namf") },
		"no name":            func(h headers) { h.scope.SetName("") },
		"version":            func(h headers) { h.scope.SetVersion("versiom") },
		"no version":         func(h headers) { h.scope.SetVersion("") },
		"name and version":   func(h headers) { h.scope.SetName("version"); h.scope.SetVersion("name") },
		"attribute":          func(h headers) { h.scope.Attributes().PutStr("text", "valuf") },
		"no attribute":       func(h headers) { h.scope.Attributes().Remove("text") },
		"dropped attributes": func(h headers) { h.scope.SetDroppedAttributesCount(0) },
		"schema":             func(h headers) { h.setScope("scope schemb") },
		"no schema":          func(h headers) { h.setScope("") },
	},
}

func TestElementsThatDifferInAnythingStayApart(t *testing.T) {
	t.Run("signal=traces", func(t *testing.T) {
		testDifferences(t, tracesTree, func(td ptrace.Traces, i int) headers {
			r := td.ResourceSpans().At(i)
			s := r.ScopeSpans().At(0)
			return headers{r.Resource(), s.Scope(), r.SetSchemaUrl, s.SetSchemaUrl, r, s}
		}, func() ptrace.Traces {
			td := ptrace.NewTraces()
			td.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty().Spans().AppendEmpty()
			return td
		})
	})
	t.Run("signal=logs", func(t *testing.T) {
		testDifferences(t, logsTree, func(ld plog.Logs, i int) headers {
			r := ld.ResourceLogs().At(i)
			s := r.ScopeLogs().At(0)
			return headers{r.Resource(), s.Scope(), r.SetSchemaUrl, s.SetSchemaUrl, r, s}
		}, func() plog.Logs {
			ld := plog.NewLogs()
			ld.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
			return ld
		})
	})
	t.Run("signal=metrics", func(t *testing.T) {
		testDifferences(t, metricsTree, func(md pmetric.Metrics, i int) headers {
			r := md.ResourceMetrics().At(i)
			s := r.ScopeMetrics().At(0)
			return headers{r.Resource(), s.Scope(), r.SetSchemaUrl, s.SetSchemaUrl, r, s}
		}, func() pmetric.Metrics {
			md := pmetric.NewMetrics()
			m := md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics().AppendEmpty()
			m.SetEmptyGauge().DataPoints().AppendEmpty()
			return md
		})
	})
	t.Run("signal=profiles", func(t *testing.T) {
		testDifferences(t, profilesTree, func(p *batcher.ProfilesData, i int) headers {
			r := p.Profiles().ResourceProfiles().At(i)
			s := r.ScopeProfiles().At(0)
			return headers{r.Resource(), s.Scope(), r.SetSchemaUrl, s.SetSchemaUrl, r, s}
		}, func() *batcher.ProfilesData {
			pd := pprofile.NewProfiles()
			pd.ResourceProfiles().AppendEmpty().ScopeProfiles().AppendEmpty().Profiles().AppendEmpty().Samples().AppendEmpty()
			return batcher.NewProfilesData(pd)
		})
	})
}

// Three elements are merged. The second one differs from the others in one respect.
func testDifferences[T any](t *testing.T, of tree[T], at func(T, int) headers, element func() T) {
	merged := func(change func(headers)) []int {
		data := of.kind.New(3)
		for i := range 3 {
			of.kind.Move(element(), data)
			at(data, i).set()
		}
		change(at(data, 1))
		// Whatever their signatures are.
		same := []bool{
			batcher.Same(at(data, 0).ofResource, at(data, 1).ofResource), batcher.Same(at(data, 1).ofResource, at(data, 2).ofResource),
			batcher.Same(at(data, 0).ofScope, at(data, 1).ofScope), batcher.Same(at(data, 1).ofScope, at(data, 2).ofScope),
		}
		batcher.Merged(of.kind.Signal, data)
		require.Equal(t, 3, of.kind.Items(data))
		lists := of.lists(data)[:2]
		require.Equal(t, []bool{lists[0] == 1, lists[0] == 1, lists[1] == 1, lists[1] == 1}, same)
		return lists
	}
	require.Equal(t, []int{1, 1}, merged(func(headers) {}))
	for name, change := range differences["resource"] {
		require.Equal(t, []int{2, 1}, merged(change), "resource: %s", name)
	}
	for name, change := range differences["scope"] {
		require.Equal(t, []int{1, 2}, merged(change), "scope: %s", name)
	}
	require.Equal(t, []int{1, 1}, merged(func(h headers) {
		var keys []string
		values := pcommon.NewMap()
		h.attributes().MoveTo(values)
		for k := range values.All() {
			keys = append(keys, k)
		}
		slices.Reverse(keys)
		for _, k := range keys {
			v, _ := values.Get(k)
			v.CopyTo(h.attributes().PutEmpty(k))
		}
	}), "attributes in another order")
}

func TestMetricsThatDifferInAnythingStayApart(t *testing.T) {
	numbers := func(points pmetric.NumberDataPointSlice) { points.AppendEmpty().SetIntValue(1) }
	types := map[string]func(pmetric.Metric){
		"none":  func(pmetric.Metric) {},
		"gauge": func(m pmetric.Metric) { numbers(m.SetEmptyGauge().DataPoints()) },
		"sum": func(m pmetric.Metric) {
			m.SetEmptySum().SetIsMonotonic(true)
			m.Sum().SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
			numbers(m.Sum().DataPoints())
		},
		"histogram": func(m pmetric.Metric) {
			m.SetEmptyHistogram().SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
			m.Histogram().DataPoints().AppendEmpty()
		},
		"exponential histogram": func(m pmetric.Metric) {
			m.SetEmptyExponentialHistogram().SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
			m.ExponentialHistogram().DataPoints().AppendEmpty()
		},
		"summary": func(m pmetric.Metric) { m.SetEmptySummary().DataPoints().AppendEmpty() },
	}
	differences := map[string]func(pmetric.Metric){
		"name":           func(m pmetric.Metric) { m.SetName("namf") },
		"description":    func(m pmetric.Metric) { m.SetDescription("descriptiom") },
		"no description": func(m pmetric.Metric) { m.SetDescription("") },
		"unit":           func(m pmetric.Metric) { m.SetUnit("2") },
		"metadata":       func(m pmetric.Metric) { m.Metadata().PutStr("key", "valuf") },
		"no metadata":    func(m pmetric.Metric) { m.Metadata().Clear() },
		"temporality": func(m pmetric.Metric) {
			const other = pmetric.AggregationTemporalityCumulative
			switch m.Type() {
			case pmetric.MetricTypeSum:
				m.Sum().SetAggregationTemporality(other)
			case pmetric.MetricTypeHistogram:
				m.Histogram().SetAggregationTemporality(other)
			case pmetric.MetricTypeExponentialHistogram:
				m.ExponentialHistogram().SetAggregationTemporality(other)
			default:
				m.SetName("has none")
			}
		},
		"monotonicity": func(m pmetric.Metric) {
			if m.SetUnit("only of sums"); m.Type() == pmetric.MetricTypeSum {
				m.SetUnit("1")
				m.Sum().SetIsMonotonic(false)
			}
		},
	}
	for of, set := range types {
		differences["type: "+of] = func(m pmetric.Metric) {
			other := pmetric.NewMetric()
			set(other)
			if other.Type() == m.Type() {
				m.SetName("has that type")
				return
			}
			name, description, unit, metadata := m.Name(), m.Description(), m.Unit(), pcommon.NewMap()
			m.Metadata().CopyTo(metadata)
			other.CopyTo(m)
			m.SetName(name)
			m.SetDescription(description)
			m.SetUnit(unit)
			metadata.CopyTo(m.Metadata())
		}
	}
	for of, set := range types {
		merged := func(change func(pmetric.Metric)) (metrics, points int) {
			md := pmetric.NewMetrics()
			for i := range 3 {
				m := md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics().AppendEmpty()
				set(m)
				m.SetName("name")
				m.SetDescription("description")
				m.SetUnit("1")
				m.Metadata().PutStr("key", "value")
				if i == 1 {
					change(m)
				}
			}
			before := md.DataPointCount()
			first := md.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics()
			at := func(i int) pmetric.Metric { return md.ResourceMetrics().At(i).ScopeMetrics().At(0).Metrics().At(0) }
			same := []bool{batcher.Same(at(0), at(1)), batcher.Same(at(1), at(2))}
			batcher.Merged(batcher.Metrics(), md)
			require.Equal(t, before, md.DataPointCount())
			metrics = first.Len()
			require.Equal(t, []bool{metrics == 1, metrics == 1}, same)
			return metrics, before
		}
		metrics, points := merged(func(pmetric.Metric) {})
		require.Equal(t, 1, metrics, of)
		require.Equal(t, map[bool]int{false: 3, true: 0}[of == "none"], points)
		for name, change := range differences {
			metrics, _ := merged(change)
			require.Equal(t, 2, metrics, "%s: %s", of, name)
		}
	}
}

// mergedResources is how many resources two resources with those attributes are.
func mergedResources(t *testing.T, set ...func(pcommon.Map)) int {
	t.Helper()
	ld := plog.NewLogs()
	for _, set := range set {
		r := ld.ResourceLogs().AppendEmpty()
		set(r.Resource().Attributes())
		r.ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
	}
	batcher.Merged(batcher.Logs(), ld)
	require.Equal(t, len(set), ld.LogRecordCount())
	return ld.ResourceLogs().Len()
}

// attributesOf puts entries into a map that may have a key twice, as data from the wire may.
func attributesOf(t *testing.T, entries ...string) func(pcommon.Map) {
	t.Helper()
	var texts []string
	for _, e := range entries {
		key, value, _ := strings.Cut(e, "=")
		texts = append(texts, fmt.Sprintf(`{"key":%q,"value":%s}`, key, value))
	}
	ld, err := new(plog.JSONUnmarshaler).UnmarshalLogs([]byte(`{"resourceLogs":[{"resource":{"attributes":[` + strings.Join(texts, ",") + `]}}]}`))
	require.NoError(t, err)
	require.Equal(t, len(entries), ld.ResourceLogs().At(0).Resource().Attributes().Len())
	return ld.ResourceLogs().At(0).Resource().Attributes().CopyTo
}

func TestSameAttributes(t *testing.T) {
	text := func(key, value string) string { return fmt.Sprintf(`%s={"stringValue":%q}`, key, value) }
	kvs := func(key string, entries ...string) string {
		var texts []string
		for _, e := range entries {
			k, v, _ := strings.Cut(e, "=")
			texts = append(texts, fmt.Sprintf(`{"key":%q,"value":%s}`, k, v))
		}
		return fmt.Sprintf(`%s={"kvlistValue":{"values":[%s]}}`, key, strings.Join(texts, ","))
	}
	double := func(bits uint64) func(pcommon.Map) {
		return func(m pcommon.Map) { m.PutDouble("a", math.Float64frombits(bits)) }
	}
	nan := math.Float64bits(math.NaN())
	type attributes = func(pcommon.Map)
	of := func(entries ...string) attributes { return attributesOf(t, entries...) }
	for name, c := range map[string]struct {
		a, b attributes
		same bool
	}{
		"none":                              {of(), of(), true},
		"a key twice":                       {of(text("a", "1"), text("a", "2")), of(text("a", "1"), text("a", "2")), true},
		"a key twice, in another order":     {of(text("a", "1"), text("a", "2")), of(text("a", "2"), text("a", "1")), false},
		"a key twice, others move":          {of(text("a", "1"), text("b", "0"), text("a", "2")), of(text("b", "0"), text("a", "1"), text("a", "2")), true},
		"a key twice, others move, and not": {of(text("a", "1"), text("b", "0"), text("a", "2")), of(text("b", "0"), text("a", "2"), text("a", "1")), false},
		"twice the same and two":            {of(text("a", "1"), text("a", "1")), of(text("a", "1"), text("b", "1")), false},
		"two and twice the same":            {of(text("a", "1"), text("b", "1")), of(text("a", "1"), text("a", "1")), false},
		"different keys twice":              {of(text("a", "1"), text("a", "1"), text("b", "1")), of(text("a", "1"), text("b", "1"), text("b", "1")), false},
		"NaN":                               {double(nan), double(nan), true},
		"another NaN":                       {double(nan), double(nan ^ 1<<63), false},
		"zero and minus zero":               {double(0), double(1 << 63), false},
		"map in another order":              {of(kvs("m", text("a", "1"), text("b", "2"))), of(kvs("m", text("b", "2"), text("a", "1"))), true},
		"map in another order, another value": {
			of(kvs("m", text("a", "1"), text("b", "2"))), of(kvs("m", text("b", "1"), text("a", "2"))), false,
		},
		"map in a map": {
			of(kvs("m", kvs("m", text("a", "1"), text("b", "2")), text("c", "3"))),
			of(kvs("m", text("c", "3"), kvs("m", text("b", "2"), text("a", "1")))), true,
		},
		"map in a map, another value": {
			of(kvs("m", kvs("m", text("a", "1"), text("b", "2")), text("c", "3"))),
			of(kvs("m", text("c", "3"), kvs("m", text("b", "2"), text("a", "3")))), false,
		},
	} {
		want := 2
		if c.same {
			want = 1
		}
		require.Equal(t, want, mergedResources(t, c.a, c.b), name)
		require.Equal(t, want, mergedResources(t, c.b, c.a), name)
		if !c.same { // one that is equal to the second one finds it
			require.Equal(t, 2, mergedResources(t, c.a, c.b, c.a, c.b), name)
		}
	}
}

// Also where there are more attributes than one looks for one by one.
func TestManyAttributesInAnyOrder(t *testing.T) {
	for _, n := range []int{2, 63, 64, 65, 1000} {
		ascending := func(m pcommon.Map) {
			for i := range n {
				m.PutInt(fmt.Sprint(i), int64(i))
			}
		}
		descending := func(differ int) func(pcommon.Map) {
			return func(m pcommon.Map) {
				for i := n - 1; i >= 0; i-- {
					m.PutInt(fmt.Sprint(i), int64(i))
				}
				if differ >= 0 { // two values change places, so that the signature is the same where their keys are as long
					m.PutInt(fmt.Sprint(differ), int64(differ+1))
					m.PutInt(fmt.Sprint(differ+1), int64(differ))
				}
			}
		}
		require.Equal(t, 1, mergedResources(t, ascending, descending(-1)), n)
		require.Equal(t, 2, mergedResources(t, ascending, descending(0)), n)
		require.Equal(t, 2, mergedResources(t, ascending, descending(n-2)), n)
		prefixed := func(first string) func(pcommon.Map) {
			return func(m pcommon.Map) {
				for i := n - 1; i >= 0; i-- {
					prefix := "x"
					if i == n-1 {
						prefix = first // hardly more than the length of a key is in a signature
					}
					m.PutInt(prefix+fmt.Sprint(i), int64(i))
				}
			}
		}
		sorted := pcommon.NewMap()
		for i := range n {
			sorted.PutInt("x"+fmt.Sprint(i), int64(i))
		}
		require.Equal(t, 1, mergedResources(t, sorted.CopyTo, prefixed("x")), n)
		require.Equal(t, 2, mergedResources(t, sorted.CopyTo, prefixed("y")), n)
	}
}

// Of one key the values must be in the same order, wherever it is among others.
func TestManyAttributesOfOneKey(t *testing.T) {
	const n = 100
	entry := func(key string, value int) string { return fmt.Sprintf(`%s={"intValue":"%d"}`, key, value) }
	var twice, others []string // values of one key, and of others
	for i := range n {
		twice, others = append(twice, entry("twice", i)), append(others, entry(fmt.Sprint("other", i), i))
	}
	swapped := slices.Clone(twice)
	swapped[3], swapped[70] = swapped[70], swapped[3]
	var mixed []string
	for i := range n {
		mixed = append(mixed, others[n-1-i], twice[i])
	}
	require.Equal(t, 1, mergedResources(t, attributesOf(t, slices.Concat(twice, others)...), attributesOf(t, mixed...)))
	require.Equal(t, 2, mergedResources(t, attributesOf(t, slices.Concat(swapped, others)...), attributesOf(t, mixed...)))
}

// Texts that a signature does not tell apart are compared. If there are very many of them, what is found to differ
// from some stays where it is: nobody can make this take long.
func TestEqualSignaturesAreNotTrusted(t *testing.T) {
	alike := func(i int) func(pcommon.Map) {
		text := []byte(strings.Repeat("x", 200))
		text[20] = byte('a' + i)
		return func(m pcommon.Map) { m.PutStr("key", string(text)) }
	}
	for _, n := range []int{2, batcher.MostAlike, 25} {
		var twice []func(pcommon.Map)
		for i := range 2 * n {
			twice = append(twice, alike(i%n))
		}
		got := mergedResources(t, twice...)
		if n <= batcher.MostAlike {
			require.Equal(t, n, got)
		} else { // those that come last are not found again
			require.Greater(t, got, n)
			require.Less(t, got, 2*n)
		}
	}
}
