package batcher

import (
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pprofile"
)

// headerNames tells where in the string table the strings in the attributes of resources and
// scopes are. In memory they are in their place; encoding replaces them by indices and appends
// to the table those that it lacks.
type headerNames struct {
	at map[string]int32
	// lacking are those that will be appended, in that order. Their indices follow upon those
	// of the table as it is, or upon 0 if it is empty.
	lacking []string
}

// namesOf finds the strings of pd's headers in its table.
func namesOf(pd pprofile.Profiles) *headerNames {
	n := &headerNames{at: make(map[string]int32)}
	var order []string
	var lengths uint64 // a bit for each length modulo 64 that a string has
	note := func(s string) {
		if _, known := n.at[s]; !known {
			n.at[s] = -1
			order = append(order, s)
			lengths |= 1 << (len(s) % 64)
		}
	}
	for _, rp := range pd.ResourceProfiles().All() {
		eachName(rp.Resource().Attributes(), note)
		for _, sp := range rp.ScopeProfiles().All() {
			eachName(sp.Scope().Attributes(), note)
		}
	}
	table := pd.Dictionary().StringTable()
	if table.Len() == 0 {
		if _, known := n.at[""]; known {
			n.at[""] = 0
		}
	}
	for i, found := 0, 0; i < table.Len() && found < len(order); i++ {
		s := table.At(i)
		if lengths&(1<<(len(s)%64)) == 0 || i == 0 && s != "" {
			continue
		}
		if at, known := n.at[s]; known && at < 0 {
			n.at[s] = int32(i)
			found++
		}
	}
	next := int32(max(table.Len(), 1))
	for _, s := range order {
		if n.at[s] < 0 {
			n.at[s] = next
			n.lacking = append(n.lacking, s)
			next++
		}
	}
	return n
}

// eachName tells the strings that encoding replaces, in the order in which it comes upon them.
func eachName(m pcommon.Map, note func(string)) {
	for k, v := range m.All() {
		if k != "" {
			note(k)
		}
		eachNameIn(v, note)
	}
}

func eachNameIn(v pcommon.Value, note func(string)) {
	switch v.Type() {
	case pcommon.ValueTypeStr:
		note(v.Str())
	case pcommon.ValueTypeMap:
		eachName(v.Map(), note)
	case pcommon.ValueTypeSlice:
		for _, e := range v.Slice().All() {
			eachNameIn(e, note)
		}
	default:
	}
}

// restoreNames puts strings back in the place of indices. Whoever encodes profiles leaves
// the indices behind, and pdata then shows no key, and no value, where there are some. Profiles
// that have never been encoded are not changed.
func restoreNames(pd pprofile.Profiles) {
	if pd.IsReadOnly() || !lacksNames(pd) {
		return
	}
	headers := pprofile.NewProfiles()
	pd.Dictionary().StringTable().CopyTo(headers.Dictionary().StringTable())
	for _, rp := range pd.ResourceProfiles().All() {
		to := headers.ResourceProfiles().AppendEmpty()
		rp.Resource().Attributes().CopyTo(to.Resource().Attributes())
		for _, sp := range rp.ScopeProfiles().All() {
			sp.Scope().Attributes().CopyTo(to.ScopeProfiles().AppendEmpty().Scope().Attributes())
		}
	}
	encoded, err := new(pprofile.ProtoMarshaler).MarshalProfiles(headers)
	if err != nil {
		return
	}
	if headers, err = new(pprofile.ProtoUnmarshaler).UnmarshalProfiles(encoded); err != nil {
		return
	}
	for i, rp := range headers.ResourceProfiles().All() {
		to := pd.ResourceProfiles().At(i)
		rp.Resource().Attributes().MoveTo(to.Resource().Attributes())
		for j, sp := range rp.ScopeProfiles().All() {
			sp.Scope().Attributes().MoveTo(to.ScopeProfiles().At(j).Scope().Attributes())
		}
	}
}

// lacksNames tells whether any attribute of a resource or scope seems to have no key or no value.
func lacksNames(pd pprofile.Profiles) bool {
	for _, rp := range pd.ResourceProfiles().All() {
		if mapLacksNames(rp.Resource().Attributes()) {
			return true
		}
		for _, sp := range rp.ScopeProfiles().All() {
			if mapLacksNames(sp.Scope().Attributes()) {
				return true
			}
		}
	}
	return false
}

func mapLacksNames(m pcommon.Map) bool {
	for k, v := range m.All() {
		if k == "" || valueLacksNames(v) {
			return true
		}
	}
	return false
}

func valueLacksNames(v pcommon.Value) bool {
	switch v.Type() {
	case pcommon.ValueTypeEmpty:
		return true
	case pcommon.ValueTypeMap:
		return mapLacksNames(v.Map())
	case pcommon.ValueTypeSlice:
		for _, e := range v.Slice().All() {
			if valueLacksNames(e) {
				return true
			}
		}
	default:
	}
	return false
}
