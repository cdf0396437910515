package harness

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pprofile"
	"go.opentelemetry.io/collector/pdata/pprofile/pprofileotlp"
	"google.golang.org/grpc"
)

// ProfilesGate is the feature gate that lets a collector have pipelines of profiles.
const ProfilesGate = "service.profilesSupport"

// Astray is the identity of a sample whose stack is not in the dictionary. It is not bulky.
const Astray uint64 = 1 << 36

var profiles = &signal[pprofile.Profiles]{
	name:        "profiles",
	url:         "/v1development/profiles",
	inseparable: perProfile,
	generate:    generateProfiles,
	inspectAll:  inspectProfiles,
	marshal:     marshalProfiles,
	unmarshal:   (&pprofile.ProtoUnmarshaler{}).UnmarshalProfiles,
	text:        (&pprofile.JSONMarshaler{}).MarshalProfiles,
	export: func(ctx context.Context, cc *grpc.ClientConn, data pprofile.Profiles) (rejected, error) {
		resp, err := pprofileotlp.NewGRPCClient(cc).Export(ctx, pprofileotlp.NewExportRequestFromProfiles(data))
		if err != nil {
			return rejected{}, err
		}
		return rejectedProfiles(resp), nil
	},
	answer: func(body []byte) (rejected, error) {
		resp := pprofileotlp.NewExportResponse()
		err := resp.UnmarshalProto(body)
		return rejectedProfiles(resp), err
	},
}

func rejectedProfiles(resp pprofileotlp.ExportResponse) rejected {
	return rejected{resp.PartialSuccess().RejectedProfiles(), resp.PartialSuccess().ErrorMessage()}
}

// marshalProfiles encodes a copy: encoding replaces attributes of resources by references.
func marshalProfiles(data pprofile.Profiles) ([]byte, error) {
	c := pprofile.NewProfiles()
	data.CopyTo(c)
	return (&pprofile.ProtoMarshaler{}).MarshalProfiles(c)
}

// generateProfiles makes a dictionary whose order depends on where ids begins, sometimes with
// entries that nothing refers to. No two entries of it are equal.
func generateProfiles(ids Range) pprofile.Profiles {
	data := pprofile.NewProfiles()
	addProfiles(data, newDictionary(data.Dictionary(), ids.First%3), ids)
	return data
}

// addProfiles adds the samples in ids. Bulky ones have a profile each.
func addProfiles(data pprofile.Profiles, d *dictionary, ids Range) {
	var rp pprofile.ResourceProfiles
	var sp pprofile.ScopeProfiles
	var p pprofile.Profile
	walk(ids,
		func(variant uint64) {
			rp = data.ResourceProfiles().AppendEmpty()
			rp.SetSchemaUrl(fillResource(variant, rp.Resource()))
		},
		func(variant uint64) {
			sp = rp.ScopeProfiles().AppendEmpty()
			sp.SetSchemaUrl(fillScope(variant, sp.Scope()))
		},
		func(id uint64, first bool) {
			if first || id%perProfile == 0 || id >= Bulky {
				p = sp.Profiles().AppendEmpty()
				if !slim(id) {
					d.fillProfile(id/perProfile, p)
				}
			}
			d.fillSample(id, p.Samples().AppendEmpty())
		},
	)
}

// dictionary is one that is being filled, each entry once.
type dictionary struct {
	pprofile.ProfilesDictionary
	texts      map[string]int32
	functions  map[uint64]int32
	mappings   map[uint64]int32
	locations  map[uint64]int32
	stacks     map[uint64]int32
	links      map[uint64]int32
	attributes map[string]int32 // by key and value
}

// newDictionary begins with the empty entry of each table, and in some tables with so many entries
// that nothing refers to.
func newDictionary(d pprofile.ProfilesDictionary, unused uint64) *dictionary {
	d.StringTable().Append("")
	d.FunctionTable().AppendEmpty()
	d.MappingTable().AppendEmpty()
	d.LocationTable().AppendEmpty()
	d.StackTable().AppendEmpty()
	d.LinkTable().AppendEmpty()
	d.AttributeTable().AppendEmpty()
	x := &dictionary{
		ProfilesDictionary: d,
		texts:              map[string]int32{"": 0},
		functions:          make(map[uint64]int32),
		mappings:           make(map[uint64]int32),
		locations:          make(map[uint64]int32),
		stacks:             make(map[uint64]int32),
		links:              make(map[uint64]int32),
		attributes:         make(map[string]int32),
	}
	for n := range unused {
		x.function(functions + n)
		x.link(links + n)
		x.attribute("unused", fmt.Sprint(n))
	}
	return x
}

// How many there are of what samples share.
const (
	functions = 61
	mappings  = 7
	locations = 67
	stacks    = 71
	links     = 53
)

// once returns the index of an entry, which add adds the first time.
func once[K comparable](known map[K]int32, key K, add func() (index int32)) int32 {
	i, found := known[key]
	if !found {
		i = add()
		known[key] = i
	}
	return i
}

func (d *dictionary) text(s string) int32 {
	return once(d.texts, s, func() int32 {
		d.StringTable().Append(s)
		return int32(d.StringTable().Len() - 1)
	})
}

func (d *dictionary) function(n uint64) int32 {
	return once(d.functions, n, func() int32 {
		f := d.FunctionTable().AppendEmpty()
		f.SetNameStrindex(d.text(fmt.Sprintf("package/path/Type%d.Method%d", n%9, n)))
		f.SetSystemNameStrindex(d.text(fmt.Sprintf("_ZN4Type%d", n)))
		f.SetFilenameStrindex(d.text(fmt.Sprintf("source/of/package/file%d.go", n/4)))
		f.SetStartLine(int64(n))
		return int32(d.FunctionTable().Len() - 1)
	})
}

func (d *dictionary) mapping(n uint64) int32 {
	return once(d.mappings, n, func() int32 {
		m := d.MappingTable().AppendEmpty()
		m.SetMemoryStart(n << 20)
		m.SetMemoryLimit((n + 1) << 20)
		m.SetFileOffset(n << 12)
		m.SetFilenameStrindex(d.text(fmt.Sprintf("lib%d.so", n)))
		m.AttributeIndices().Append(d.attribute("build.id", fmt.Sprintf("%016x", mix(n))))
		return int32(d.MappingTable().Len() - 1)
	})
}

func (d *dictionary) location(n uint64) int32 {
	return once(d.locations, n, func() int32 {
		h := mix(n)
		l := d.LocationTable().AppendEmpty()
		l.SetAddress(n)
		if n%11 > 0 {
			l.SetMappingIndex(d.mapping(h % mappings))
		}
		l.AttributeIndices().Append(d.attribute("frame.type", fmt.Sprintf("frame-%d", n%4)))
		for i := range 1 + n%2 { // with what is inlined
			line := l.Lines().AppendEmpty()
			line.SetFunctionIndex(d.function((n + i*h) % functions))
			line.SetLine(int64(n + i))
			line.SetColumn(int64(h % 80))
		}
		return int32(d.LocationTable().Len() - 1)
	})
}

func (d *dictionary) stack(n uint64) int32 {
	return once(d.stacks, n, func() int32 {
		s := d.StackTable().AppendEmpty()
		for i := range 2 + n%3 {
			s.LocationIndices().Append(d.location(mix(n+i) % locations))
		}
		return int32(d.StackTable().Len() - 1)
	})
}

func (d *dictionary) link(n uint64) int32 {
	return once(d.links, n, func() int32 {
		l := d.LinkTable().AppendEmpty()
		l.SetTraceID(traceID(n))
		l.SetSpanID(spanID(n))
		return int32(d.LinkTable().Len() - 1)
	})
}

// attribute is one whose value is a text.
func (d *dictionary) attribute(key, value string) int32 {
	return d.attributeOf(key, "", value, func(v pcommon.Value) { v.SetStr(value) })
}

// attributeOf is one whose value is anything, which is called like that. Each key has only one unit.
func (d *dictionary) attributeOf(key, unit, called string, set func(pcommon.Value)) int32 {
	return once(d.attributes, key+"="+called, func() int32 {
		a := d.AttributeTable().AppendEmpty()
		a.SetKeyStrindex(d.text(key))
		a.SetUnitStrindex(d.text(unit))
		set(a.Value())
		return int32(d.AttributeTable().Len() - 1)
	})
}

// fillProfile makes one of 60 profiles, apart from their samples.
func (d *dictionary) fillProfile(n uint64, p pprofile.Profile) {
	n %= 60
	p.SampleType().SetTypeStrindex(d.text([]string{"cpu", "alloc_space", "wall"}[n%3]))
	p.SampleType().SetUnitStrindex(d.text([]string{"nanoseconds", "bytes", "nanoseconds"}[n%3]))
	if n%4 > 0 {
		p.PeriodType().SetTypeStrindex(d.text("cpu"))
		p.PeriodType().SetUnitStrindex(d.text("nanoseconds"))
		p.SetPeriod(int64(n))
	}
	p.SetTime(timestamp(n))
	p.SetDurationNano(n * 1000)
	p.SetProfileID(pprofile.ProfileID(traceID(n)))
	p.SetDroppedAttributesCount(uint32(n % 3))
	if n%5 == 0 {
		p.SetOriginalPayloadFormat("pprof")
		p.OriginalPayload().FromRaw([]byte{0x1f, 0x8b, byte(n)})
	}
	p.AttributeIndices().Append(d.attribute("profile.host", fmt.Sprintf("host-%d", n%5)))
}

// fillSample makes a sample, whose identity is its first value.
func (d *dictionary) fillSample(id uint64, s pprofile.Sample) {
	h := mix(id)
	if id >= Bulky {
		s.AttributeIndices().Append(d.attribute(textKey, text(id)))
	}
	if slim(id) {
		s.Values().Append(int64(id))
		return
	}
	s.Values().Append(int64(id), int64(h%1000))
	for i := range 1 + h%14 {
		s.TimestampsUnixNano().Append(uint64(timestamp(id + i)))
	}
	switch {
	case id == Astray:
		s.SetStackIndex(1 << 20)
	case h%10 > 0: // 0: no stack
		s.SetStackIndex(d.stack(h % stacks))
	}
	if h%3 == 0 {
		s.SetLinkIndex(d.link(h % links))
	}
	thread := h % 16
	s.AttributeIndices().Append(
		d.attribute("code", fmt.Sprintf("%08x", id)),
		d.attributeOf("thread.id", "{thread}", fmt.Sprint(thread), func(v pcommon.Value) { v.SetInt(int64(thread)) }))
	if h%5 == 0 {
		s.AttributeIndices().Append(d.attributeOf("nested", "", fmt.Sprint(h%97), func(v pcommon.Value) {
			v.SetEmptyMap().PutEmptyBytes("raw").FromRaw([]byte{byte(h % 97), 0})
		}))
	}
}

// inspectProfiles does what inspect does, for samples that share a dictionary. Those that it
// compares them with share one, too.
func inspectProfiles(data pprofile.Profiles) (ids []uint64, altered []string) {
	samples := samplesOf(data)
	var known []Range // the identities in samples
	for _, got := range samples {
		last := len(known) - 1
		switch {
		case !got.known:
		case last >= 0 && known[last].First+uint64(known[last].Items) == got.id:
			known[last].Items++
		default:
			known = append(known, Range{First: got.id, Items: 1})
		}
	}
	asMade := pprofile.NewProfiles()
	d := newDictionary(asMade.Dictionary(), 0)
	for _, r := range known {
		addProfiles(asMade, d, r)
	}
	wanted := samplesOf(asMade)
	for _, got := range samples {
		if !got.known {
			altered = append(altered, fmt.Sprintf("a sample has lost its identity: %s", abbreviate(got.meaning)))
			continue
		}
		want := wanted[0]
		wanted = wanted[1:]
		ids = append(ids, got.id)
		if !bytes.Equal(got.meaning, want.meaning) {
			altered = append(altered, fmt.Sprintf("sample %d was altered:\n got %s\nwant %s",
				got.id, abbreviate(got.meaning), abbreviate(want.meaning)))
		}
	}
	return ids, append(altered, checkDictionary(data.Dictionary())...)
}

// sample is one sample with its profile, scope and resource.
type sample struct {
	id      uint64
	known   bool   // false: it has lost its identity
	meaning []byte // what it says, with entries of the dictionary in the place of indices
}

func samplesOf(data pprofile.Profiles) (samples []sample) {
	r := newResolver(data.Dictionary())
	for _, rp := range data.ResourceProfiles().All() {
		resource := header(func(to plog.ResourceLogs) {
			rp.Resource().CopyTo(to.Resource())
			to.SetSchemaUrl(rp.SchemaUrl())
		})
		for _, sp := range rp.ScopeProfiles().All() {
			scope := header(func(to plog.ResourceLogs) {
				sp.Scope().CopyTo(to.ScopeLogs().AppendEmpty().Scope())
				to.ScopeLogs().At(0).SetSchemaUrl(sp.SchemaUrl())
			})
			for _, p := range sp.Profiles().All() {
				profile := fmt.Sprintf("resource %s\nscope %s\nprofile %s", resource, scope, r.profile(p))
				for _, s := range p.Samples().All() {
					one := sample{known: s.Values().Len() > 0, meaning: []byte(profile)}
					if one.known {
						one.id = uint64(s.Values().At(0))
					}
					one.meaning = r.appendSample(one.meaning, s)
					samples = append(samples, one)
				}
			}
		}
	}
	return samples
}

// header describes a resource or a scope as it is in logs, which have no dictionary.
func header(set func(plog.ResourceLogs)) []byte {
	data := plog.NewLogs()
	set(data.ResourceLogs().AppendEmpty())
	return must((&plog.JSONMarshaler{}).MarshalLogs(data))
}

// resolver describes what indices refer to, each entry once.
type resolver struct {
	d                                                         pprofile.ProfilesDictionary
	functions, mappings, locations, stacks, links, attributes []string // empty: not described yet
}

func newResolver(d pprofile.ProfilesDictionary) *resolver {
	return &resolver{
		d, make([]string, d.FunctionTable().Len()), make([]string, d.MappingTable().Len()), make([]string, d.LocationTable().Len()),
		make([]string, d.StackTable().Len()), make([]string, d.LinkTable().Len()), make([]string, d.AttributeTable().Len()),
	}
}

// resolve returns the description of entry i of a table.
func resolve(i int32, table []string, describe func(i int) string) string {
	switch {
	case i == 0:
		return "unset"
	case i < 0 || int(i) >= len(table):
		return "nowhere"
	case table[i] == "":
		table[i] = describe(int(i))
	}
	return table[i]
}

func (r *resolver) text(i int32) string {
	if i < 0 || int(i) >= r.d.StringTable().Len() {
		return "nowhere"
	}
	return strconv.Quote(r.d.StringTable().At(int(i)))
}

func (r *resolver) function(i int32) string {
	return resolve(i, r.functions, func(i int) string {
		f := r.d.FunctionTable().At(i)
		return fmt.Sprint("{", r.text(f.NameStrindex()), " ", r.text(f.SystemNameStrindex()), " ", r.text(f.FilenameStrindex()), " ",
			f.StartLine(), "}")
	})
}

func (r *resolver) mapping(i int32) string {
	return resolve(i, r.mappings, func(i int) string {
		m := r.d.MappingTable().At(i)
		return fmt.Sprint("{", m.MemoryStart(), " ", m.MemoryLimit(), " ", m.FileOffset(), " ", r.text(m.FilenameStrindex()), " ",
			r.list(m.AttributeIndices(), r.attribute), "}")
	})
}

func (r *resolver) location(i int32) string {
	return resolve(i, r.locations, func(i int) string {
		l := r.d.LocationTable().At(i)
		var lines []string
		for _, line := range l.Lines().All() {
			lines = append(lines, fmt.Sprint("{", r.function(line.FunctionIndex()), " ", line.Line(), " ", line.Column(), "}"))
		}
		return fmt.Sprint("{", l.Address(), " ", r.mapping(l.MappingIndex()), " ", lines, " ", r.list(l.AttributeIndices(), r.attribute), "}")
	})
}

func (r *resolver) stack(i int32) string {
	return resolve(i, r.stacks, func(i int) string { return r.list(r.d.StackTable().At(i).LocationIndices(), r.location) })
}

func (r *resolver) link(i int32) string {
	return resolve(i, r.links, func(i int) string {
		l := r.d.LinkTable().At(i)
		return fmt.Sprint("{", l.TraceID(), " ", l.SpanID(), "}")
	})
}

func (r *resolver) attribute(i int32) string {
	return resolve(i, r.attributes, func(i int) string {
		a := r.d.AttributeTable().At(i)
		return fmt.Sprint("{", r.text(a.KeyStrindex()), " ", r.text(a.UnitStrindex()), " ", a.Value().Type(), " ", a.Value().AsString(), "}")
	})
}

func (*resolver) list(indices pcommon.Int32Slice, one func(int32) string) string {
	var b strings.Builder
	for _, i := range indices.All() {
		b.WriteString(one(i))
	}
	return "[" + b.String() + "]"
}

// profile leaves the samples out.
func (r *resolver) profile(p pprofile.Profile) string {
	kind := func(v pprofile.ValueType) string { return r.text(v.TypeStrindex()) + " " + r.text(v.UnitStrindex()) }
	return fmt.Sprint("{", kind(p.SampleType()), " ", kind(p.PeriodType()), " ", p.Period(), " ", uint64(p.Time()), " ", p.DurationNano(), " ",
		p.ProfileID(), " ", p.DroppedAttributesCount(), " ", p.OriginalPayloadFormat(), " ",
		fmt.Sprintf("%x", p.OriginalPayload().AsRaw()), " ",
		r.list(p.AttributeIndices(), r.attribute), "}")
}

func (r *resolver) appendSample(b []byte, s pprofile.Sample) []byte {
	b = append(b, "\nvalues"...)
	for _, v := range s.Values().All() {
		b = strconv.AppendInt(append(b, ' '), v, 10)
	}
	b = append(b, "\ntimestamps"...)
	for _, v := range s.TimestampsUnixNano().All() {
		b = strconv.AppendUint(append(b, ' '), v, 10)
	}
	b = append(append(b, "\nlink "...), r.link(s.LinkIndex())...)
	b = append(append(b, "\nattributes "...), r.list(s.AttributeIndices(), r.attribute)...)
	return append(append(b, "\nstack "...), r.stack(s.StackIndex())...)
}

// checkDictionary describes the entries that are equal to an earlier one, of which those of a generated
// request are none, and the first ones that do not say that something is unset.
func checkDictionary(d pprofile.ProfilesDictionary) (wrong []string) {
	var b []byte // an entry
	number := func(n int64) { b = binary.AppendVarint(b, n) }
	list := func(indices pcommon.Int32Slice) {
		number(int64(indices.Len()))
		for _, i := range indices.All() {
			number(int64(i))
		}
	}
	table := func(name string, length int, write func(i int)) {
		seen := make(map[string]bool, length)
		for i := range length {
			b = b[:0]
			write(i)
			if i == 0 && len(bytes.Trim(b, "\x00")) > 0 {
				wrong = append(wrong, fmt.Sprintf("the first entry of the %s table is not empty", name))
			}
			if seen[string(b)] {
				wrong = append(wrong, fmt.Sprintf("entry %d of the %s table is there twice", i, name))
			}
			seen[string(b)] = true
		}
	}
	table("string", d.StringTable().Len(), func(i int) { b = append(b, d.StringTable().At(i)...) })
	table("function", d.FunctionTable().Len(), func(i int) {
		f := d.FunctionTable().At(i)
		number(int64(f.NameStrindex()))
		number(int64(f.SystemNameStrindex()))
		number(int64(f.FilenameStrindex()))
		number(f.StartLine())
	})
	table("mapping", d.MappingTable().Len(), func(i int) {
		m := d.MappingTable().At(i)
		number(int64(m.MemoryStart()))
		number(int64(m.MemoryLimit()))
		number(int64(m.FileOffset()))
		number(int64(m.FilenameStrindex()))
		list(m.AttributeIndices())
	})
	table("location", d.LocationTable().Len(), func(i int) {
		l := d.LocationTable().At(i)
		number(int64(l.Address()))
		number(int64(l.MappingIndex()))
		list(l.AttributeIndices())
		for _, line := range l.Lines().All() {
			number(int64(line.FunctionIndex()))
			number(line.Line())
			number(line.Column())
		}
	})
	table("stack", d.StackTable().Len(), func(i int) { list(d.StackTable().At(i).LocationIndices()) })
	table("link", d.LinkTable().Len(), func(i int) {
		l := d.LinkTable().At(i)
		trace, span := l.TraceID(), l.SpanID()
		b = append(append(b, trace[:]...), span[:]...)
	})
	table("attribute", d.AttributeTable().Len(), func(i int) {
		a := d.AttributeTable().At(i)
		number(int64(a.KeyStrindex()))
		number(int64(a.UnitStrindex()))
		number(int64(a.Value().Type()))
		b = append(b, a.Value().AsString()...)
	})
	return wrong
}
