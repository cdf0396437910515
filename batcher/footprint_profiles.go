package batcher

import (
	"sync"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pprofile"
)

// profilesFootprint is the footprint of p with its dictionary. The strings in attributes of
// resources and scopes are taken to be those of the string table, if it has them, as after decoding.
func profilesFootprint(p *ProfilesData) int {
	p.lookUp()
	rps := p.pd.ResourceProfiles()
	n := emptyProfilesFootprint() + pointers.of(rps.Len())
	var m meter
	m.dictionary(p.pd.Dictionary())
	for _, s := range p.names.lacking {
		m.text(s)
	}
	n += m.total()
	for i := range rps.Len() {
		rp := rps.At(i)
		sps := rp.ScopeProfiles()
		n += resourceProfilesFootprint(rp) + pointers.of(sps.Len())
		for j := range sps.Len() {
			sp := sps.At(j)
			n += scopeProfilesFootprint(sp) + pointers.of(sp.Profiles().Len())
			for k := range sp.Profiles().Len() {
				n += profileFootprint(sp.Profiles().At(k))
			}
		}
	}
	return n
}

// emptyProfilesFootprint is the footprint of a request with nothing in it.
func emptyProfilesFootprint() int {
	m := newMeter(profilesRequestBlock)
	m.word() // the count of references
	return m.total()
}

// resourceProfilesFootprint is the footprint of rp without its scopes.
func resourceProfilesFootprint(rp pprofile.ResourceProfiles) int {
	m := newMeter(resourceProfilesBlock)
	m.shared(rp.Resource().Attributes())
	m.entities(rp.Resource())
	m.text(rp.SchemaUrl())
	return m.total()
}

// scopeProfilesFootprint is the footprint of sp without its profiles.
func scopeProfilesFootprint(sp pprofile.ScopeProfiles) int {
	m := newMeter(scopedBlock)
	m.text(sp.Scope().Name())
	m.text(sp.Scope().Version())
	m.shared(sp.Scope().Attributes())
	m.text(sp.SchemaUrl())
	return m.total()
}

// profileFootprint is the footprint of p with its samples.
func profileFootprint(p pprofile.Profile) int {
	m := newMeter(profileBlock)
	m.text(p.OriginalPayloadFormat())
	m.array(p.OriginalPayload().Len())
	m.indices(p.AttributeIndices())
	samples := p.Samples()
	m.bytes += pointers.of(samples.Len()) + samples.Len()*sampleBlock
	for i := range samples.Len() {
		s := samples.At(i)
		m.indices(s.AttributeIndices())
		m.bytes += counts.of(s.Values().Len())
		m.array(8 * s.TimestampsUnixNano().Len())
	}
	return m.total()
}

// dictionary adds what the tables of d hold.
func (m *meter) dictionary(d pprofile.ProfilesDictionary) {
	for k := range tables {
		n := tableLen(d, k)
		m.bytes += slots(k, n)
		for i := range n {
			m.entry(d, k, i)
		}
	}
}

// slots is the footprint of a table of n entries without what these hold.
func slots(k table, n int) int {
	if k == stringTable {
		return values.of(n) // a string is as large as a value
	}
	return pointers.of(n)
}

// emptyEntryFootprints are the footprints of empty entries of each table, without their slots.
var emptyEntryFootprints = sync.OnceValue(func() (footprints [tables]int) {
	d := pprofile.NewProfilesDictionary()
	d.StringTable().Append("")
	d.FunctionTable().AppendEmpty()
	d.MappingTable().AppendEmpty()
	d.LocationTable().AppendEmpty()
	d.StackTable().AppendEmpty()
	d.AttributeTable().AppendEmpty()
	d.LinkTable().AppendEmpty()
	for k := range tables {
		m := newMeter(0)
		m.entry(d, k, 0)
		footprints[k] = m.total()
	}
	return footprints
})

// entry adds an entry of a table without its slot.
func (m *meter) entry(d pprofile.ProfilesDictionary, k table, i int) {
	switch k {
	case stringTable:
		m.text(d.StringTable().At(i))
	case functionTable:
		m.bytes += functionBlock
	case mappingTable:
		m.bytes += mappingBlock
		m.indices(d.MappingTable().At(i).AttributeIndices())
	case locationTable:
		l := d.LocationTable().At(i)
		lines := l.Lines().Len()
		m.bytes += locationBlock + pointers.of(lines) + lines*lineBlock
		m.indices(l.AttributeIndices())
	case stackTable:
		m.bytes += stackBlock
		m.indices(d.StackTable().At(i).LocationIndices())
	case attributeTable:
		m.bytes += attributeBlock
		m.value(d.AttributeTable().At(i).Value())
	default:
		m.bytes += linkBlock
	}
}

// indices adds a list of indices.
func (m *meter) indices(l pcommon.Int32Slice) {
	if n := l.Len(); n > 0 {
		m.bytes += indexGrowth().of(n)
	}
}

// shared adds what a map holds whose strings are those of the string table.
func (m *meter) shared(a pcommon.Map) {
	if a.Len() == 0 {
		return
	}
	m.bytes += keyValues.of(a.Len())
	for _, v := range a.All() {
		m.sharedValue(v)
	}
}

func (m *meter) sharedValue(v pcommon.Value) {
	switch v.Type() {
	case pcommon.ValueTypeStr:
		m.bytes += stringBlock
	case pcommon.ValueTypeMap:
		m.bytes += pointerBlock + sliceBlock
		m.shared(v.Map())
	case pcommon.ValueTypeSlice:
		m.bytes += pointerBlock + sliceBlock
		s := v.Slice()
		m.bytes += values.of(s.Len())
		for i := range s.Len() {
			m.sharedValue(s.At(i))
		}
	default:
		m.value(v)
	}
}

// indexGrowth is how lists of indices grow.
var indexGrowth = sync.OnceValue(func() *growth {
	newMeter(0)
	g := growthOf[int32]() // its first blocks are too short to have a header
	g.header = 0
	return &g
})

var (
	profilesRequestBlock  = blockOf[profilesRequestFields]()
	resourceProfilesBlock = blockOf[resourceProfilesFields]()
	profileBlock          = blockOf[profileFields]()
	sampleBlock           = blockOf[sampleFields]()
	functionBlock         = blockOf[functionFields]()
	mappingBlock          = blockOf[mappingFields]()
	locationBlock         = blockOf[locationFields]()
	lineBlock             = blockOf[lineFields]()
	stackBlock            = blockOf[[]byte]()
	attributeBlock        = blockOf[attributeFields]()
	linkBlock             = blockOf[linkFields]()
)

type (
	profilesRequestFields struct {
		_, _, _, _, _, _, _, _ []byte // one for the entries, and one for each table
	}
	resourceProfilesFields struct {
		_ resourceFields
		_ string
		_ []byte
	}
	profileFields struct {
		_             string
		_, _, _       []byte
		_, _, _       uint64
		_, _, _, _, _ uint32
		_             [16]byte
	}
	sampleFields struct {
		_, _, _ []byte
		_, _    int32
	}
	functionFields struct {
		_, _, _ int32
		_       int64
	}
	mappingFields struct {
		_       []byte
		_, _, _ uint64
		_       int32
	}
	locationFields struct {
		_, _ []byte
		_    uint64
		_    int32
	}
	lineFields struct {
		_    int32
		_, _ int64
	}
	attributeFields struct {
		_    valueFields
		_, _ int32
	}
	linkFields struct {
		_ [16]byte
		_ [8]byte
	}
)
