// Package batchertest helps to test what batches: data with an identity on every
// item, and a sink that checks what it gets and can be told to hold, refuse or die.
package batchertest

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/xpdata/entity"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
)

// Kind makes and reads one signal's data.
type Kind[T any] struct {
	batcher.Signal[T]
	// Make returns a request whose items have the identities first, first+1 and so on.
	// Every property that a batcher could lose on the way is set and depends on the
	// identity alone. Neighbours share metrics, scopes and resources.
	Make func(first, items int) T
	// Bare makes a request whose one resource holds no items.
	Bare func() T
	// Singles takes data apart into one request per item, without what the engine uses
	// for that, and returns the identities. It makes a request when it is asked for one.
	Singles func(T) (ids []int, single func(i int) T)
	// Marshal encodes data; equal data have equal encodings.
	Marshal func(T) ([]byte, error)
	// Wire encodes data as it is sent.
	Wire func(T) ([]byte, error)
	// JSON is for people.
	JSON func(T) ([]byte, error)
	// MarshalSingles is what Singles and Marshal make of data, for who can do that faster.
	MarshalSingles func(T) (ids []int, encodings [][]byte)

	made *encodings
}

// encodings are those of items that are alone, by their identities. Every Kind of a signal has the same: to make an
// item again for each check that it is as it was made takes as long as all the rest of many tests. It is safe for concurrent
// use.
type encodings struct {
	known sync.Map
	bytes atomic.Int64
}

var madeTraces, madeLogs, madeMetrics, madeProfiles encodings

// mostMade bounds the bytes of what is kept for a signal.
const mostMade = 32 << 20

// encoding is what the item with an identity encodes to if it is alone.
func (k Kind[T]) encoding(id int) ([]byte, error) {
	if known, ok := k.made.known.Load(id); ok {
		return known.([]byte), nil
	}
	encoding, err := k.Marshal(k.Make(id, 1))
	if err == nil && k.made.bytes.Add(int64(len(encoding))) <= mostMade {
		k.made.known.Store(id, encoding)
	}
	return encoding, err
}

// Runs of identities, counted from 0, that share a metric, a scope and a resource.
const (
	perMetric   = 2
	perScope    = 3
	perResource = 7
)

// IDs returns the identities of the items in data, in order, after checking that each
// item and all that it lies in is exactly as Make made it.
func (k Kind[T]) IDs(data T) ([]int, error) {
	ids, encodings, err := k.marshalSingles(data)
	if err != nil {
		return nil, err
	}
	for i, id := range ids {
		w, err := k.encoding(id)
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(encodings[i], w) {
			_, single := k.Singles(data)
			got, _ := k.JSON(single(i))
			was, _ := k.JSON(k.Make(id, 1))
			return nil, fmt.Errorf("item %d was altered:\n%s\nshould be\n%s", id, got, was)
		}
	}
	return ids, nil
}

func (k Kind[T]) marshalSingles(data T) (ids []int, encodings [][]byte, err error) {
	if k.MarshalSingles != nil {
		ids, encodings = k.MarshalSingles(data)
		return ids, encodings, nil
	}
	ids, single := k.Singles(data)
	for i := range ids {
		encoding, err := k.Marshal(single(i))
		if err != nil {
			return nil, nil, err
		}
		encodings = append(encodings, encoding)
	}
	return ids, encodings, nil
}

// Identities is IDs without any check.
func (k Kind[T]) Identities(data T) []int {
	ids, _ := k.Singles(data)
	return ids
}

// all returns what finds the singles among those that are made at once.
func all[T any](singles func(T) (ids []int, singles []T)) func(T) (ids []int, single func(i int) T) {
	return func(data T) ([]int, func(i int) T) {
		ids, made := singles(data)
		return ids, func(i int) T { return made[i] }
	}
}

func resource(r pcommon.Resource, id int) {
	r.Attributes().PutInt("resource", int64(id/perResource))
	if set := teams[Team(id)].set; set != nil {
		set(r.Attributes().PutEmpty("team"))
	}
	r.SetDroppedAttributesCount(uint32(id / perResource))
	if id/perResource%3 == 1 {
		ref := entity.ResourceEntityRefs(r).AppendEmpty()
		ref.SetType("service")
		ref.SetSchemaUrl(schema("entity", id/perResource))
		ref.IdKeys().Append("resource")
		ref.DescriptionKeys().Append("team", "nobody")
	}
}

// padding makes items differ in size: mostly a little, some by a length that takes a byte
// more to encode.
func padding(id int) string {
	n := id % 13
	if id%11 == 5 {
		n += 120
	}
	return strings.Repeat("p", n)
}

// teams are values of the resource attribute "team" that are all different, some of them
// only a little, and their texts. The first one is unset.
var teams = []struct {
	set  func(pcommon.Value)
	text string
}{
	{nil, ""},
	{func(pcommon.Value) {}, ""}, // set, to nothing
	{func(v pcommon.Value) { v.SetStr("") }, ""},
	{func(v pcommon.Value) { v.SetStr("1") }, "1"},
	{func(v pcommon.Value) { v.SetInt(1) }, "1"},
	{func(v pcommon.Value) { v.SetStr("true") }, "true"},
	{func(v pcommon.Value) { v.SetBool(true) }, "true"},
	{func(v pcommon.Value) { v.SetStr("a\x00b,c") }, "a\x00b,c"},
	{func(v pcommon.Value) { v.SetStr("A\x00b,c") }, "A\x00b,c"},
	{func(v pcommon.Value) { v.SetDouble(1.5) }, "1.5"},
	{func(v pcommon.Value) { v.SetEmptyBytes().FromRaw([]byte{0, 1}) }, "AAE="},
	{func(v pcommon.Value) { v.SetEmptySlice().AppendEmpty().SetStr("a") }, `["a"]`},
	{func(v pcommon.Value) { v.SetEmptyMap().PutInt("a", 1) }, `{"a":1}`},
}

// Team returns which value the attribute "team" of an item's resource has: items with
// the same number have the same one.
func Team(id int) int { return id / perResource % len(teams) }

// TeamText returns the texts of an item's team as client metadata has them.
func TeamText(id int) []string {
	if team := teams[Team(id)]; team.set != nil {
		return []string{team.text}
	}
	return nil
}

func scope(s pcommon.InstrumentationScope, id int) {
	s.SetName("scope " + strconv.Itoa(id/perScope))
	s.SetVersion("v1")
	s.Attributes().PutInt("scope", int64(id/perScope))
	s.SetDroppedAttributesCount(uint32(id / perScope))
}

func schema(of string, n int) string { return "https://example.com/" + of + "/" + strconv.Itoa(n) }
