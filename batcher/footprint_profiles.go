package batcher

import (
	"sync"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pprofile"
)

// profilesFootprint is the footprint of p with its dictionary. The strings in attributes of
// resources and scopes are taken to be those of the string table, if it has them, as after decoding.
func profilesFootprint(p *ProfilesData) int {
	n := 0
	return walkHeap(p, func(footprint int) { n += footprint }) + n
}

// profilesHeap is the footprint of profiles by the units that are never cut.
type profilesHeap struct {
	shared int   // of the dictionary, and of what profiles lie in
	units  []int // of each
	sum    int   // of units
}

func heapOf(p *ProfilesData) *profilesHeap {
	h := new(profilesHeap)
	h.shared = walkHeap(p, func(footprint int) {
		h.units = append(h.units, footprint)
		h.sum += footprint
	})
	return h
}

func (h *profilesHeap) total() int { return h.shared + h.sum }

// shares are what units count for, in proportion to what they have: with what they share
// they add up to the total. There is nothing to share if there are no units.
func (h *profilesHeap) shares(copies int) []int {
	shares := make([]int, len(h.units))
	before, charged := 0, 0
	for i, n := range h.units {
		before += n
		upTo := before + int(float64(h.shared)*(float64(before)/float64(h.sum)))
		shares[i] = copies * (upTo - charged)
		charged = upTo
	}
	return shares
}

// heaviest is the most that a unit counts for.
func (h *profilesHeap) heaviest() (most int) {
	for _, n := range h.shares(1) {
		most = max(most, n)
	}
	return most
}

// walkHeap tells the footprints of the units, in their order, and returns that of everything else.
func walkHeap(p *ProfilesData, unit func(footprint int)) int {
	p.lookUp()
	rps := p.pd.ResourceProfiles()
	m := newMeter(profilesRequestBlock)
	m.bytes += pointers.of(rps.Len())
	m.word() // the count of references
	m.dictionary(p.pd.Dictionary())
	for _, s := range p.names.lacking {
		m.text(s)
	}
	for i := range rps.Len() {
		rp := rps.At(i)
		sps := rp.ScopeProfiles()
		m.bytes += resourceProfilesBlock + pointers.of(sps.Len())
		m.shared(rp.Resource().Attributes())
		m.entities(rp.Resource())
		m.text(rp.SchemaUrl())
		if sps.Len() == 0 {
			unit(1)
		}
		for j := range sps.Len() {
			sp := sps.At(j)
			m.bytes += scopedBlock + pointers.of(sp.Profiles().Len())
			m.text(sp.Scope().Name())
			m.text(sp.Scope().Version())
			m.shared(sp.Scope().Attributes())
			m.text(sp.SchemaUrl())
			if sp.Profiles().Len() == 0 {
				unit(1)
			}
			for k := range sp.Profiles().Len() {
				unit(profileFootprint(sp.Profiles().At(k)))
			}
		}
	}
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
	m.texts(d.StringTable())
	functions := d.FunctionTable().Len()
	m.bytes += pointers.of(functions) + functions*functionBlock
	links := d.LinkTable().Len()
	m.bytes += pointers.of(links) + links*linkBlock
	mappings := d.MappingTable()
	m.bytes += pointers.of(mappings.Len()) + mappings.Len()*mappingBlock
	for i := range mappings.Len() {
		m.indices(mappings.At(i).AttributeIndices())
	}
	locations := d.LocationTable()
	m.bytes += pointers.of(locations.Len()) + locations.Len()*locationBlock
	for i := range locations.Len() {
		l := locations.At(i)
		lines := l.Lines().Len()
		m.bytes += pointers.of(lines) + lines*lineBlock
		m.indices(l.AttributeIndices())
	}
	stacks := d.StackTable()
	m.bytes += pointers.of(stacks.Len()) + stacks.Len()*stackBlock
	for i := range stacks.Len() {
		m.indices(stacks.At(i).LocationIndices())
	}
	attributes := d.AttributeTable()
	m.bytes += pointers.of(attributes.Len()) + attributes.Len()*attributeBlock
	for i := range attributes.Len() {
		m.value(attributes.At(i).Value())
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
