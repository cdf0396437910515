package batchertest

import (
	"encoding/binary"
	"strconv"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pprofile"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
)

// Profiles is the Kind of profiles. The identity of a sample is its first value. Requests that
// begin with different samples have dictionaries in different order, with entries that
// nothing refers to. Marshal tells what profiles mean, not how they are encoded: it puts what an index
// refers to in the place of the index.
func Profiles() Kind[*batcher.ProfilesData] {
	return Kind[*batcher.ProfilesData]{
		batcher.Profiles(), makeProfiles, bareProfiles, singleProfiles, marshalProfiles, EncodeProfiles,
		func(data *batcher.ProfilesData) ([]byte, error) {
			return new(pprofile.JSONMarshaler).MarshalProfiles(copyOf(data))
		},
		marshalSingleProfiles, &madeProfiles,
	}
}

// SameProfile tells whether the samples with these identities, which one request had, lie in one
// profile.
func SameProfile(ids ...int) bool {
	for _, id := range ids {
		if id/perMetric != ids[0]/perMetric || id/perScope != ids[0]/perScope || id/perResource != ids[0]/perResource {
			return false
		}
	}
	return true
}

// EncodeProfiles encodes data as it is sent, and leaves it as it is.
func EncodeProfiles(data *batcher.ProfilesData) ([]byte, error) {
	return new(pprofile.ProtoMarshaler).MarshalProfiles(copyOf(data))
}

// copyOf does not make data forget anything.
func copyOf(data *batcher.ProfilesData) pprofile.Profiles {
	s := batcher.Profiles()
	return s.Copy(data, 0, s.Resources(data)).Profiles()
}

func bareProfiles() *batcher.ProfilesData {
	pd := pprofile.NewProfiles()
	resource(pd.ResourceProfiles().AppendEmpty().Resource(), 0)
	return batcher.NewProfilesData(pd)
}

func makeProfiles(first, items int) *batcher.ProfilesData {
	pd := pprofile.NewProfiles()
	d := newLexicon(pd.Dictionary(), first%4)
	if first%2 == 1 {
		for id := first + items - 1; id >= first; id-- {
			d.stack(id)
		}
	}
	var r pprofile.ResourceProfiles
	var s pprofile.ScopeProfiles
	for id := first; id < first+items; id++ {
		opened := id == first || id%perResource == 0
		if opened {
			r = pd.ResourceProfiles().AppendEmpty()
			resource(r.Resource(), id)
			r.SetSchemaUrl(schema("resource", id/perResource))
		}
		if opened = opened || id%perScope == 0; opened {
			s = r.ScopeProfiles().AppendEmpty()
			scope(s.Scope(), id)
			s.SetSchemaUrl(schema("scope", id/perScope))
		}
		if opened || id%perMetric == 0 {
			d.profile(s.Profiles().AppendEmpty(), id/perMetric)
		}
		d.sample(s.Profiles().At(s.Profiles().Len()-1).Samples().AppendEmpty(), id)
	}
	return batcher.NewProfilesData(pd)
}

// eachSample tells of the samples one by one, with what they lie in. Meanwhile their profile has no
// samples.
func eachSample(data *batcher.ProfilesData, tell func(
	d pprofile.ProfilesDictionary, r pprofile.ResourceProfiles, s pprofile.ScopeProfiles, p pprofile.Profile, sample pprofile.Sample,
),
) {
	pd := copyOf(data)
	for _, r := range pd.ResourceProfiles().All() {
		for _, s := range r.ScopeProfiles().All() {
			for _, p := range s.Profiles().All() {
				samples := pprofile.NewSampleSlice()
				p.Samples().MoveAndAppendTo(samples)
				for _, sample := range samples.All() {
					tell(pd.Dictionary(), r, s, p, sample)
				}
				samples.MoveAndAppendTo(p.Samples())
			}
		}
	}
}

func identity(sample pprofile.Sample) int {
	if sample.Values().Len() == 0 {
		return -1
	}
	return int(sample.Values().At(0))
}

func singleProfiles(data *batcher.ProfilesData) (ids []int, single func(i int) *batcher.ProfilesData) {
	for _, r := range copyOf(data).ResourceProfiles().All() {
		for _, s := range r.ScopeProfiles().All() {
			for _, p := range s.Profiles().All() {
				for _, sample := range p.Samples().All() {
					ids = append(ids, identity(sample))
				}
			}
		}
	}
	return ids, func(i int) *batcher.ProfilesData {
		single, at := pprofile.NewProfiles(), 0
		eachSample(data, func(
			d pprofile.ProfilesDictionary, r pprofile.ResourceProfiles, s pprofile.ScopeProfiles, p pprofile.Profile, sample pprofile.Sample,
		) {
			if at++; at != i+1 {
				return
			}
			d.CopyTo(single.Dictionary())
			singleR := single.ResourceProfiles().AppendEmpty()
			r.Resource().CopyTo(singleR.Resource())
			singleR.SetSchemaUrl(r.SchemaUrl())
			singleS := singleR.ScopeProfiles().AppendEmpty()
			s.Scope().CopyTo(singleS.Scope())
			singleS.SetSchemaUrl(s.SchemaUrl())
			singleP := singleS.Profiles().AppendEmpty()
			p.CopyTo(singleP)
			sample.CopyTo(singleP.Samples().AppendEmpty())
		})
		return batcher.NewProfilesData(single)
	}
}

// marshalSingleProfiles does without a copy of the dictionary for each sample.
func marshalSingleProfiles(data *batcher.ProfilesData) (ids []int, encodings [][]byte) {
	var m *meaning
	eachSample(data, func(
		d pprofile.ProfilesDictionary, r pprofile.ResourceProfiles, s pprofile.ScopeProfiles, p pprofile.Profile, sample pprofile.Sample,
	) {
		if m == nil {
			m = newMeaning(d)
		}
		m.b = nil
		m.number(1)
		m.resource(r)
		m.number(1)
		m.scope(s)
		m.number(1)
		sample.CopyTo(p.Samples().AppendEmpty())
		m.profile(p)
		p.Samples().RemoveIf(func(pprofile.Sample) bool { return true })
		ids, encodings = append(ids, identity(sample)), append(encodings, m.b)
	})
	return ids, encodings
}

// lexicon fills a dictionary. It and meaning are much of what tests of profiles take, so that they do without fmt.
type lexicon struct {
	pprofile.ProfilesDictionary
	known map[entry]int32
	texts map[string]int32
}

// entry is what is called n among those of a kind.
type entry struct {
	kind string
	n    int
}

// newLexicon begins with so many entries in each table that nothing refers to.
func newLexicon(d pprofile.ProfilesDictionary, extras int) *lexicon {
	x := &lexicon{d, map[entry]int32{}, map[string]int32{"": 0}}
	d.StringTable().Append("")
	d.FunctionTable().AppendEmpty()
	d.MappingTable().AppendEmpty()
	d.LocationTable().AppendEmpty()
	d.StackTable().AppendEmpty()
	d.AttributeTable().AppendEmpty()
	d.LinkTable().AppendEmpty()
	for i := range extras {
		x.stack(-10 - i)
		x.link(-10 - i)
		x.attribute(-10 - i)
		x.numbered("extra ", i)
	}
	return x
}

// once returns the index under which add has added what is called like that.
func (x *lexicon) once(kind string, n int, add func() int32) int32 {
	i, known := x.known[entry{kind, n}]
	if !known {
		i = add()
		x.known[entry{kind, n}] = i
	}
	return i
}

func (x *lexicon) text(s string) int32 {
	i, known := x.texts[s]
	if !known {
		x.StringTable().Append(s)
		i = int32(x.StringTable().Len() - 1)
		x.texts[s] = i
	}
	return i
}

// numbered is text of a name and a number.
func (x *lexicon) numbered(name string, n int) int32 { return x.text(name + strconv.Itoa(n)) }

func (x *lexicon) function(n int) int32 {
	return x.once("function", n, func() int32 {
		f := x.FunctionTable().AppendEmpty()
		f.SetNameStrindex(x.numbered("function ", n))
		f.SetSystemNameStrindex(x.numbered("_function", n))
		f.SetFilenameStrindex(x.numbered("file ", n/3))
		f.SetStartLine(int64(n))
		return int32(x.FunctionTable().Len() - 1)
	})
}

func (x *lexicon) mapping(n int) int32 {
	return x.once("mapping", n, func() int32 {
		attribute := x.attribute(n)
		m := x.MappingTable().AppendEmpty()
		m.SetMemoryStart(uint64(n + 1))
		m.SetMemoryLimit(uint64(n + 2))
		m.SetFileOffset(uint64(n + 3))
		m.SetFilenameStrindex(x.numbered("binary ", n))
		m.AttributeIndices().Append(attribute)
		return int32(x.MappingTable().Len() - 1)
	})
}

func (x *lexicon) location(n int) int32 {
	return x.once("location", n, func() int32 {
		l := x.LocationTable().AppendEmpty()
		l.SetAddress(uint64(n + 1))
		l.SetMappingIndex(x.mapping(n / 3))
		l.AttributeIndices().Append(x.attribute(n+1), x.attribute(n))
		for i := range 2 {
			line := l.Lines().AppendEmpty()
			line.SetFunctionIndex(x.function(n / (i + 1)))
			line.SetLine(int64(n + i))
			line.SetColumn(int64(n + i + 1))
		}
		return int32(x.LocationTable().Len() - 1)
	})
}

func (x *lexicon) stack(n int) int32 {
	return x.once("stack", n, func() int32 {
		var locations []int32
		for i := range 1 + (n%4+4)%4 {
			locations = append(locations, x.location(n/(i+1)))
		}
		x.StackTable().AppendEmpty().LocationIndices().FromRaw(locations)
		return int32(x.StackTable().Len() - 1)
	})
}

func (x *lexicon) link(n int) int32 {
	return x.once("link", n, func() int32 {
		l := x.LinkTable().AppendEmpty()
		l.SetTraceID(pcommon.TraceID{1, 2: byte(n)})
		l.SetSpanID(pcommon.SpanID{1, 2: byte(n >> 8), 3: byte(n)})
		return int32(x.LinkTable().Len() - 1)
	})
}

func (x *lexicon) attribute(n int) int32 {
	return x.once("attribute", n, func() int32 {
		a := x.AttributeTable().AppendEmpty()
		a.SetKeyStrindex(x.numbered("attribute ", n/2))
		a.SetUnitStrindex(x.numbered("unit ", n%3))
		switch v := a.Value(); n % 7 {
		case 0:
			v.SetInt(int64(n))
		case 1:
			v.SetStr("value " + strconv.Itoa(n))
		case 2:
			v.SetDouble(float64(n) / 2)
		case 3:
			v.SetBool(n%2 == 0)
		case 4:
			v.SetEmptyBytes().FromRaw([]byte{byte(n), 1})
		case 5:
			v.SetEmptyMap().PutStr("n", strconv.Itoa(n))
		case 6:
			v.SetEmptySlice().AppendEmpty().SetInt(int64(n))
		}
		return int32(x.AttributeTable().Len() - 1)
	})
}

// profile sets what a profile is apart from its samples.
func (x *lexicon) profile(p pprofile.Profile, n int) {
	p.SampleType().SetTypeStrindex(x.numbered("type ", n%3))
	p.SampleType().SetUnitStrindex(x.numbered("unit ", n%2))
	p.PeriodType().SetTypeStrindex(x.numbered("period ", n%3))
	p.PeriodType().SetUnitStrindex(x.numbered("unit ", n%5))
	p.SetPeriod(int64(n + 1))
	p.SetTime(pcommon.Timestamp(n + 1))
	p.SetDurationNano(uint64(n + 2))
	p.SetProfileID(pprofile.ProfileID{1, 14: byte(n >> 8), 15: byte(n)})
	p.SetDroppedAttributesCount(uint32(n + 1))
	p.SetOriginalPayloadFormat("format " + strconv.Itoa(n))
	p.OriginalPayload().FromRaw([]byte{byte(n), 2})
	p.AttributeIndices().Append(x.attribute(n), x.attribute(n+1))
}

func (x *lexicon) sample(s pprofile.Sample, id int) {
	s.Values().FromRaw([]int64{int64(id), -int64(id)})
	s.TimestampsUnixNano().FromRaw([]uint64{uint64(id + 1), uint64(id + 2)})
	s.SetStackIndex(x.stack(id))
	if id%5 > 0 {
		s.SetLinkIndex(x.link(id / 2))
	}
	s.AttributeIndices().Append(x.attribute(id), x.attribute(id/2))
}

func marshalProfiles(data *batcher.ProfilesData) ([]byte, error) {
	pd := copyOf(data)
	m := newMeaning(pd.Dictionary())
	m.number(int64(pd.ResourceProfiles().Len()))
	for _, r := range pd.ResourceProfiles().All() {
		m.resource(r)
		m.number(int64(r.ScopeProfiles().Len()))
		for _, s := range r.ScopeProfiles().All() {
			m.scope(s)
			m.number(int64(s.Profiles().Len()))
			for _, p := range s.Profiles().All() {
				m.profile(p)
			}
		}
	}
	return m.b, nil
}

// meaning writes down what profiles mean. An index that leads nowhere panics.
type meaning struct {
	d pprofile.ProfilesDictionary
	b []byte

	// What is written already.
	resources               map[pprofile.ResourceProfiles][]byte
	scopes                  map[pprofile.ScopeProfiles][]byte
	attributeAt, locationAt map[int32][]byte // by index
}

func newMeaning(d pprofile.ProfilesDictionary) *meaning {
	return &meaning{
		d: d, resources: map[pprofile.ResourceProfiles][]byte{}, scopes: map[pprofile.ScopeProfiles][]byte{},
		attributeAt: map[int32][]byte{}, locationAt: map[int32][]byte{},
	}
}

// once appends to m what write does, and remembers it.
func once[K comparable](m *meaning, known map[K][]byte, key K, write func()) {
	written, is := known[key]
	if !is {
		before := m.b
		m.b = nil
		write()
		written, m.b = m.b, before
		known[key] = written
	}
	m.b = append(m.b, written...)
}

func (m *meaning) number(n int64) { m.b = binary.AppendVarint(m.b, n) }

func (m *meaning) text(s string) {
	m.number(int64(len(s)))
	m.b = append(m.b, s...)
}

func (m *meaning) header(set func(plog.ResourceLogs)) {
	logs := plog.NewLogs()
	set(logs.ResourceLogs().AppendEmpty())
	encoded, err := new(plog.ProtoMarshaler).MarshalLogs(logs)
	if err != nil {
		panic(err)
	}
	m.text(string(encoded))
}

func (m *meaning) resource(r pprofile.ResourceProfiles) {
	once(m, m.resources, r, func() {
		m.header(func(to plog.ResourceLogs) { r.Resource().CopyTo(to.Resource()) })
		m.text(r.SchemaUrl())
	})
}

func (m *meaning) scope(s pprofile.ScopeProfiles) {
	once(m, m.scopes, s, func() {
		m.header(func(to plog.ResourceLogs) { s.Scope().CopyTo(to.ScopeLogs().AppendEmpty().Scope()) })
		m.text(s.SchemaUrl())
	})
}

func (m *meaning) name(i int32) {
	if i != 0 {
		m.text(m.d.StringTable().At(int(i)))
		return
	}
	m.text("")
}

func (m *meaning) names(v pprofile.ValueType) {
	m.name(v.TypeStrindex())
	m.name(v.UnitStrindex())
}

func (m *meaning) attributes(l pcommon.Int32Slice) {
	m.number(int64(l.Len()))
	for _, i := range l.All() {
		once(m, m.attributeAt, i, func() {
			a := m.d.AttributeTable().At(int(i))
			m.name(a.KeyStrindex())
			m.name(a.UnitStrindex())
			m.header(func(to plog.ResourceLogs) {
				a.Value().CopyTo(to.ScopeLogs().AppendEmpty().LogRecords().AppendEmpty().Body())
			})
		})
	}
}

func (m *meaning) profile(p pprofile.Profile) {
	m.names(p.SampleType())
	m.names(p.PeriodType())
	m.number(p.Period())
	m.number(int64(p.Time()))
	m.number(int64(p.DurationNano()))
	id := p.ProfileID()
	m.text(string(id[:]))
	m.number(int64(p.DroppedAttributesCount()))
	m.text(p.OriginalPayloadFormat())
	m.text(string(p.OriginalPayload().AsRaw()))
	m.attributes(p.AttributeIndices())
	m.number(int64(p.Samples().Len()))
	for _, s := range p.Samples().All() {
		m.sample(s)
	}
}

func (m *meaning) sample(s pprofile.Sample) {
	m.number(int64(s.Values().Len()))
	for _, v := range s.Values().All() {
		m.number(v)
	}
	m.number(int64(s.TimestampsUnixNano().Len()))
	for _, at := range s.TimestampsUnixNano().All() {
		m.number(int64(at))
	}
	m.attributes(s.AttributeIndices())
	trace, span := pcommon.TraceID{}, pcommon.SpanID{}
	if i := s.LinkIndex(); i != 0 {
		l := m.d.LinkTable().At(int(i))
		trace, span = l.TraceID(), l.SpanID()
	}
	m.b = append(append(m.b, trace[:]...), span[:]...)
	if s.StackIndex() == 0 {
		m.number(0)
		return
	}
	stack := m.d.StackTable().At(int(s.StackIndex())).LocationIndices()
	m.number(int64(stack.Len()))
	for _, i := range stack.All() {
		once(m, m.locationAt, i, func() { m.location(m.d.LocationTable().At(int(i))) })
	}
}

func (m *meaning) location(l pprofile.Location) {
	m.number(int64(l.Address()))
	m.attributes(l.AttributeIndices())
	mapping := pprofile.NewMapping()
	if i := l.MappingIndex(); i != 0 {
		mapping = m.d.MappingTable().At(int(i))
	}
	m.number(int64(mapping.MemoryStart()))
	m.number(int64(mapping.MemoryLimit()))
	m.number(int64(mapping.FileOffset()))
	m.name(mapping.FilenameStrindex())
	m.attributes(mapping.AttributeIndices())
	m.number(int64(l.Lines().Len()))
	for _, line := range l.Lines().All() {
		m.number(line.Line())
		m.number(line.Column())
		f := pprofile.NewFunction()
		if i := line.FunctionIndex(); i != 0 {
			f = m.d.FunctionTable().At(int(i))
		}
		m.name(f.NameStrindex())
		m.name(f.SystemNameStrindex())
		m.name(f.FilenameStrindex())
		m.number(f.StartLine())
	}
}
