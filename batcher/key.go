package batcher

import (
	"context"
	"encoding/binary"
	"maps"
	"slices"

	"go.opentelemetry.io/collector/client"
	"go.opentelemetry.io/collector/pdata/pcommon"
)

// The identity of a partition is a string of bytes from which the values of its keys can
// be read again, so that no two different lists of values look the same: not their
// concatenation. Behind each other lie, for each of Settings.MetadataKeys, one more than
// the number of its values, and each value behind its length; for each of
// Settings.ResourceKeys one more than the type of its value, and its text behind its length.
// A map or slice follows as appendNested has it, because different ones can have the same
// text: it is JSON, which has one kind of number and no invalid UTF-8. A key that is unset is
// a 0.

// appendKey appends the part of an identity that comes from a caller's metadata.
func appendKey(to []byte, keys []string, md client.Metadata) []byte {
	for _, key := range keys {
		values := md.Get(key)
		if values == nil {
			to = append(to, 0)
			continue
		}
		to = binary.AppendUvarint(to, uint64(len(values))+1)
		for _, v := range values {
			to = appendText(to, v)
		}
	}
	return to
}

// appendResourceKey appends the part that comes from a resource. Values of different
// types are different although downstream sees both as text.
func appendResourceKey(to []byte, keys []string, attributes pcommon.Map) []byte {
	for _, key := range keys {
		v, set := attributes.Get(key)
		if !set {
			to = append(to, 0)
			continue
		}
		to = append(to, byte(v.Type())+1)
		to = appendText(to, textOf(v))
		if nests(v.Type()) {
			to = appendText(to, string(appendNested(nil, v)))
		}
	}
	return to
}

func nests(t pcommon.ValueType) bool { return t == pcommon.ValueTypeMap || t == pcommon.ValueTypeSlice }

// mostNested is how many maps and slices lie in one another in the text of a value, at most. To make a text of
// more takes a stack that grows with them: a value that a receiver can still decode could end the process.
const mostNested = 100

// textOf is what downstream sees of a value. What is nested deeper than mostNested is null there.
func textOf(v pcommon.Value) string {
	if !deeper(v, mostNested) {
		return v.AsString()
	}
	cut := pcommon.NewValueEmpty()
	_ = cut.FromRaw(rawUpTo(v, mostNested)) // which is made of values
	return cut.AsString()
}

// deeper tells whether more than so many maps and slices lie in one another.
func deeper(v pcommon.Value, levels int) bool {
	if !nests(v.Type()) {
		return false
	}
	if levels == 0 {
		return true
	}
	if v.Type() == pcommon.ValueTypeSlice {
		for _, e := range v.Slice().All() {
			if deeper(e, levels-1) {
				return true
			}
		}
		return false
	}
	for _, e := range v.Map().All() {
		if deeper(e, levels-1) {
			return true
		}
	}
	return false
}

// rawUpTo is Value.AsRaw without what lies in more than so many maps and slices.
func rawUpTo(v pcommon.Value, levels int) any {
	switch {
	case !nests(v.Type()):
		return v.AsRaw()
	case levels == 0:
		return nil
	case v.Type() == pcommon.ValueTypeSlice:
		s := make([]any, v.Slice().Len())
		for i, e := range v.Slice().All() {
			s[i] = rawUpTo(e, levels-1)
		}
		return s
	}
	m := make(map[string]any, v.Map().Len())
	for k, e := range v.Map().All() {
		m[k] = rawUpTo(e, levels-1)
	}
	return m
}

// unread is a value in another one that is still to be read.
type unread struct {
	value pcommon.Value
	key   string
	keyed bool
}

// appendNested appends a value and all that is in it: its type, how many elements follow, in
// a map by their keys, or else its text behind its length. It keeps a list of what is to come
// rather than calling itself, see mostNested.
func appendNested(to []byte, v pcommon.Value) []byte {
	for left := []unread{{value: v}}; len(left) > 0; {
		e := left[len(left)-1]
		left = left[:len(left)-1]
		if e.keyed {
			to = appendText(to, e.key)
		}
		v := e.value
		to = append(to, byte(v.Type()))
		switch v.Type() {
		case pcommon.ValueTypeSlice:
			s := v.Slice()
			to = binary.AppendUvarint(to, uint64(s.Len()))
			for i := s.Len() - 1; i >= 0; i-- {
				left = append(left, unread{value: s.At(i)})
			}
		case pcommon.ValueTypeMap:
			to = binary.AppendUvarint(to, uint64(v.Map().Len()))
			elements := make(map[string]pcommon.Value, v.Map().Len())
			for k, e := range v.Map().All() {
				elements[k] = e
			}
			for _, k := range slices.Backward(slices.Sorted(maps.Keys(elements))) {
				left = append(left, unread{elements[k], k, true})
			}
		default:
			to = appendText(to, v.AsString())
		}
	}
	return to
}

func appendText(to []byte, s string) []byte {
	to = binary.AppendUvarint(to, uint64(len(s)))
	return append(to, s...)
}

// partitionContext is base with exactly the metadata that identifies the partition, of which there are so
// many values. The strings in it are parts of key.
func partitionContext(base context.Context, key string, metadataKeys, resourceKeys []string) (of context.Context, count int) {
	own := make(map[string][]string, len(metadataKeys)+len(resourceKeys))
	left := keyReader(key)
	for _, name := range metadataKeys {
		n := left.number()
		if n == 0 {
			continue
		}
		values := make([]string, n-1)
		for i := range values {
			values[i] = left.text()
		}
		own[name] = values
		count += len(values)
	}
	for _, name := range resourceKeys {
		t := left.number()
		if t == 0 {
			continue
		}
		own[name] = []string{left.text()}
		count++
		if nests(pcommon.ValueType(t - 1)) {
			left.text()
		}
	}
	return client.NewContext(base, client.Info{Metadata: client.NewMetadata(own)}), count
}

// keyReader is what is left to read of the identity of a partition. The strings it returns are parts of it.
type keyReader string

// number is as binary.Uvarint, which wants bytes. What appendKey has written cannot end early.
func (r *keyReader) number() (n uint64) {
	for shift := 0; ; shift += 7 {
		c := (*r)[0]
		*r = (*r)[1:]
		n |= uint64(c&0x7f) << shift
		if c < 0x80 {
			return n
		}
	}
}

func (r *keyReader) text() string {
	n := r.number()
	s := (*r)[:n]
	*r = (*r)[n:]
	return string(s)
}

// mostValues is how many values of a key readKey returns.
const mostValues = 4

// readKey returns what a partition is identified by, without its longest lists.
func readKey(key string, metadataKeys, resourceKeys []string) []KeyValues {
	all := make([]KeyValues, 0, len(metadataKeys)+len(resourceKeys))
	left := keyReader(key)
	for _, name := range metadataKeys {
		of := KeyValues{Key: name}
		if n := left.number(); n > 0 {
			of.Set = true
			for i := range n - 1 {
				if v := left.text(); i < mostValues {
					of.Values = append(of.Values, v)
				} else {
					of.More++
				}
			}
		}
		all = append(all, of)
	}
	for _, name := range resourceKeys {
		of := KeyValues{Key: name}
		if t := left.number(); t > 0 {
			of.Set, of.Values = true, []string{left.text()}
			if nests(pcommon.ValueType(t - 1)) {
				left.text()
			}
		}
		all = append(all, of)
	}
	return all
}
