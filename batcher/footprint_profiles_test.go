package batcher

import (
	"fmt"
	"math"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pprofile"
)

// profilesShape says what a request of profiles looks like.
type profilesShape struct {
	profiles, samples int // samples of each profile
	functions         int
	depth             int // of stacks
	attributes        int // entries of their table
	perSample         int // attributes of a sample
	timestamps        int // of a sample
	perResource       int // profiles; 0: all
	long              int // bytes of the value of each attribute; 0: of all kinds
}

func profilesShapes() []profilesShape {
	return []profilesShape{
		{profiles: 1, samples: 1},
		{profiles: 1, samples: 100, functions: 100, depth: 20},
		{profiles: 1, samples: 10_000, functions: 2000, depth: 40, attributes: 50, perSample: 2, timestamps: 1},
		{profiles: 200, samples: 10, functions: 300, depth: 10, attributes: 20, perSample: 3, timestamps: 3},
		{profiles: 200, samples: 10, functions: 300, depth: 200, attributes: 5, timestamps: 20},
		{profiles: 100, samples: 1, functions: 10, depth: 3, attributes: 500, perSample: 5, perResource: 1},
		{profiles: 300, perResource: 3},
	}
}

func (s profilesShape) write() *ProfilesData { return s.writeAnother(0) }

// writeAnother makes a request whose strings are in no request with another number.
func (s profilesShape) writeAnother(n int) *ProfilesData {
	a := newAuthor()
	pd := pprofile.NewProfiles()
	d := pd.Dictionary()
	text := func(from, to int) int32 {
		d.StringTable().Append(fmt.Sprint(n, ".", d.StringTable().Len()) + a.text(from, to))
		return int32(d.StringTable().Len() - 1)
	}
	d.StringTable().Append("")
	d.FunctionTable().AppendEmpty()
	d.LinkTable().AppendEmpty()
	d.MappingTable().AppendEmpty()
	d.LocationTable().AppendEmpty()
	d.StackTable().AppendEmpty()
	d.AttributeTable().AppendEmpty()
	for range s.attributes {
		attribute := d.AttributeTable().AppendEmpty()
		attribute.SetKeyStrindex(text(5, 20))
		if mixedValue(a, attribute.Value()); s.long > 0 {
			attribute.Value().SetStr(fmt.Sprint(n, ".", attribute.KeyStrindex()) + strings.Repeat("x", s.long))
		}
	}
	for range s.functions {
		f := d.FunctionTable().AppendEmpty()
		f.SetNameStrindex(text(10, 80))
		f.SetFilenameStrindex(text(10, 60))
		l := d.LocationTable().AppendEmpty()
		l.SetAddress(1 << 40)
		for range 1 + a.IntN(2) {
			l.Lines().AppendEmpty().SetFunctionIndex(int32(d.FunctionTable().Len() - 1))
		}
		if a.IntN(4) == 0 {
			m := d.MappingTable().AppendEmpty()
			m.SetFilenameStrindex(text(10, 60))
			m.AttributeIndices().Append(0)
			d.LinkTable().AppendEmpty().SetTraceID(pcommon.TraceID{1})
		}
		stack := d.StackTable().AppendEmpty()
		for range s.depth {
			stack.LocationIndices().Append(int32(a.IntN(d.LocationTable().Len())))
		}
	}
	var sp pprofile.ScopeProfiles
	for i := range s.profiles {
		if i == 0 || s.perResource > 0 && i%s.perResource == 0 {
			rp := pd.ResourceProfiles().AppendEmpty()
			a.resource(rp.Resource(), shape{})
			sp = rp.ScopeProfiles().AppendEmpty()
			a.scope(sp.Scope())
		}
		p := sp.Profiles().AppendEmpty()
		p.SetTime(1)
		p.SetOriginalPayloadFormat(a.text(0, 5))
		p.OriginalPayload().FromRaw(make([]byte, a.IntN(2)*a.IntN(1000)))
		for range s.samples {
			sample := p.Samples().AppendEmpty()
			sample.Values().Append(a.Int64N(1000))
			if s.functions > 0 {
				sample.SetStackIndex(int32(1 + a.IntN(s.functions)))
			}
			for range s.perSample {
				sample.AttributeIndices().Append(int32(a.IntN(s.attributes)))
			}
			for range s.timestamps {
				sample.TimestampsUnixNano().Append(1 << 60)
			}
		}
	}
	return NewProfilesData(pd)
}

// TestFootprintOfProfilesIsWhatTheHeapHolds decodes many copies of a request, as a receiver does.
func TestFootprintOfProfilesIsWhatTheHeapHolds(t *testing.T) {
	if raceEnabled {
		t.Skip("with the race detector small objects do not share blocks")
	}
	decoded := newSpread()
	for _, s := range profilesShapes() {
		encoded, err := new(pprofile.ProtoMarshaler).MarshalProfiles(s.write().Profiles())
		require.NoError(t, err)
		footprint := func(pd pprofile.Profiles) int { return profilesFootprint(NewProfilesData(pd)) }
		estimate, held := hold(t, 8<<20, footprint, func() pprofile.Profiles {
			pd, err := new(pprofile.ProtoUnmarshaler).UnmarshalProfiles(encoded)
			require.NoError(t, err)
			return pd
		})
		runtime.KeepAlive(encoded) // until here, so that it counts neither before nor after
		decoded.add(estimate / held)
		t.Logf("%-100s %9.0f B held, estimate %+5.1f %%, %4.1f times the encoding", fmt.Sprintf("%+v", s), held, 100*(estimate/held-1), held/float64(len(encoded)))
		assert.InEpsilon(t, held, estimate, 0.10, "%+v", s)
	}
	t.Logf("estimates are %v of the heap", decoded)
}

// TestFootprintKnowsTheStructsOfProfiles reads the sizes out of the types of the wrappers.
func TestFootprintKnowsTheStructsOfProfiles(t *testing.T) {
	same := func(wrapper any, got reflect.Type) {
		t.Helper()
		want := reflect.TypeOf(wrapper).Field(0).Type.Elem()
		require.Equal(t, want.Size(), got.Size(), "%v", want)
	}
	same(pprofile.Profiles{}, reflect.TypeFor[profilesRequestFields]())
	same(pprofile.ResourceProfiles{}, reflect.TypeFor[resourceProfilesFields]())
	same(pprofile.ScopeProfiles{}, reflect.TypeFor[scopedFields]())
	same(pprofile.Profile{}, reflect.TypeFor[profileFields]())
	same(pprofile.Sample{}, reflect.TypeFor[sampleFields]())
	same(pprofile.Function{}, reflect.TypeFor[functionFields]())
	same(pprofile.Mapping{}, reflect.TypeFor[mappingFields]())
	same(pprofile.Location{}, reflect.TypeFor[locationFields]())
	same(pprofile.Line{}, reflect.TypeFor[lineFields]())
	same(pprofile.Stack{}, reflect.TypeFor[[]byte]())
	same(pprofile.KeyValueAndUnit{}, reflect.TypeFor[attributeFields]())
	same(pprofile.Link{}, reflect.TypeFor[linkFields]())
}

// BenchmarkProfiles tells what a sample costs.
func BenchmarkProfiles(b *testing.B) {
	shape := profilesShape{profiles: 100, samples: 100, functions: 1000, depth: 20, attributes: 50, perSample: 2, timestamps: 1}
	samples := float64(shape.profiles * shape.samples)
	original := shape.write()
	run := func(name string, do func(p *ProfilesData)) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				p := profiles{}.Copy(original, 0, 1)
				b.StartTimer()
				do(p)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/samples, "ns/sample")
		})
	}
	run("do=size", func(p *ProfilesData) { profiles{}.Bytes(p) })
	run("do=pdata-size", func(p *ProfilesData) { new(pprofile.ProtoMarshaler).ProfilesSize(p.pd) })
	run("do=bound", func(p *ProfilesData) { profiles{}.bound(p, 1<<20) })
	run("do=footprint", func(p *ProfilesData) { profilesFootprint(p) })
	run("do=check", func(p *ProfilesData) { _ = p.Check() })
	run("do=cut", func(p *ProfilesData) {
		cut := profiles{}.Cut(p, nil)
		for cut.Left().Items > 0 {
			cut.Next(Size{1000, 1 << 30, math.MaxInt})
		}
	})
	var dst *ProfilesData
	run("do=first-merge", func(p *ProfilesData) {
		dst = profiles{}.New(0)
		b.StopTimer()
		profiles{}.Move(profiles{}.Copy(original, 0, 1), dst)
		b.StartTimer()
		profiles{}.Move(p, dst)
	})
	run("do=merge", func(p *ProfilesData) {
		if dst.pd.ResourceProfiles().Len() > 100 {
			b.StopTimer()
			dst = profiles{}.New(0)
			profiles{}.Move(profiles{}.Copy(original, 0, 1), dst)
			profiles{}.Move(profiles{}.Copy(original, 0, 1), dst)
			b.StartTimer()
		}
		profiles{}.Move(p, dst)
	})
	run("do=pdata-merge", func(p *ProfilesData) {
		b.StopTimer()
		to := pprofile.NewProfiles()
		original.pd.CopyTo(to)
		b.StartTimer()
		_ = p.pd.MergeTo(to)
	})
}

// What the allocator says of slices is asked for when heap is estimated for the first time, and that may never be.
func TestProfilesAreCutWhereNoHeapWasEverEstimated(t *testing.T) {
	defer func(v, p growth) { values, pointers = v, p }(values, pointers)
	values, pointers = growth{}, growth{}
	pd := pprofile.NewProfiles()
	for i := range 300 { // more than have a place in growth.few
		pd.Dictionary().StringTable().Append(strings.Repeat("a", i))
		pd.Dictionary().StackTable().AppendEmpty()
	}
	all := pd.ResourceProfiles().AppendEmpty().ScopeProfiles().AppendEmpty().Profiles()
	for range 3 {
		all.AppendEmpty().Samples().AppendEmpty().SetStackIndex(299)
	}
	cut := profiles{}.Cut(NewProfilesData(pd), nil)
	require.Equal(t, 1, profiles{}.Items(cut.Alone()))
	piece, size := cut.Next(Size{1, math.MaxInt, math.MaxInt})
	require.Equal(t, 1, size.Items)
	require.Equal(t, 1, profiles{}.Items(piece))
	require.Equal(t, 1, profiles{}.Items(cut.Rest()))
}
