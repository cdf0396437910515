package batchertest_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pprofile"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
	"github.com/boundedbatch/boundedbatchprocessor/batcher/batchertest"
)

// Every test that has a sink relies on it. What an item should be is known from the second time on.
func TestItemThatWasAlteredIsNoticed(t *testing.T) {
	requireNoticed(t, batchertest.Traces(), map[string]func(ptrace.Traces){
		"resource": func(td ptrace.Traces) { td.ResourceSpans().At(0).Resource().Attributes().PutBool("new", true) },
		"scope":    func(td ptrace.Traces) { td.ResourceSpans().At(0).ScopeSpans().At(0).Scope().SetVersion("v2") },
		"span": func(td ptrace.Traces) {
			td.ResourceSpans().At(0).ScopeSpans().At(0).Spans().At(0).Events().At(0).SetTimestamp(1)
		},
	})
	requireNoticed(t, batchertest.Logs(), map[string]func(plog.Logs){
		"schema": func(ld plog.Logs) { ld.ResourceLogs().At(0).SetSchemaUrl("") },
		"record": func(ld plog.Logs) { ld.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0).SetSeverityText("") },
	})
	requireNoticed(t, batchertest.Metrics(), map[string]func(pmetric.Metrics){
		"metric": func(md pmetric.Metrics) { md.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().At(0).SetUnit("") },
	})
	const high = 1 << 40 // what 32 bits cannot hold
	profile := func(pd pprofile.Profiles) pprofile.Profile {
		return pd.ResourceProfiles().At(0).ScopeProfiles().At(0).Profiles().At(0)
	}
	location := func(pd pprofile.Profiles) pprofile.Location {
		stack := pd.Dictionary().StackTable().At(int(profile(pd).Samples().At(0).StackIndex()))
		return pd.Dictionary().LocationTable().At(int(stack.LocationIndices().At(0)))
	}
	mapping := func(pd pprofile.Profiles) pprofile.Mapping {
		return pd.Dictionary().MappingTable().At(int(location(pd).MappingIndex()))
	}
	changes := make(map[string]func(*batcher.ProfilesData))
	for name, change := range map[string]func(pprofile.Profiles){
		"period":      func(pd pprofile.Profiles) { profile(pd).SetPeriod(profile(pd).Period() + high) },
		"value":       func(pd pprofile.Profiles) { v := profile(pd).Samples().At(0).Values(); v.SetAt(1, v.At(1)+high) },
		"more values": func(pd pprofile.Profiles) { profile(pd).Samples().At(0).Values().Append(0) },
		"timestamp": func(pd pprofile.Profiles) {
			s := profile(pd).Samples().At(0).TimestampsUnixNano()
			s.SetAt(0, s.At(0)+high)
		},
		"no timestamps": func(pd pprofile.Profiles) { profile(pd).Samples().At(0).TimestampsUnixNano().FromRaw(nil) },
		"attribute":     func(pd pprofile.Profiles) { profile(pd).Samples().At(0).AttributeIndices().SetAt(0, 0) },
		"link":          func(pd pprofile.Profiles) { profile(pd).Samples().At(0).SetLinkIndex(0) },
		"stack":         func(pd pprofile.Profiles) { profile(pd).Samples().At(0).SetStackIndex(0) },
		"address":       func(pd pprofile.Profiles) { location(pd).SetAddress(location(pd).Address() + high) },
		"line":          func(pd pprofile.Profiles) { location(pd).Lines().At(0).SetLine(high) },
		"column":        func(pd pprofile.Profiles) { location(pd).Lines().At(0).SetColumn(high) },
		"function":      func(pd pprofile.Profiles) { location(pd).Lines().At(0).SetFunctionIndex(0) },
		"memory start":  func(pd pprofile.Profiles) { mapping(pd).SetMemoryStart(mapping(pd).MemoryStart() + high) },
		"memory limit":  func(pd pprofile.Profiles) { mapping(pd).SetMemoryLimit(0) },
		"file offset":   func(pd pprofile.Profiles) { mapping(pd).SetFileOffset(0) },
	} {
		changes[name] = func(p *batcher.ProfilesData) { change(p.Profiles()) }
	}
	requireNoticed(t, batchertest.Profiles(), changes)
}

func requireNoticed[T any](t *testing.T, kind batchertest.Kind[T], changes map[string]func(T)) {
	t.Helper()
	const first = 11 // none of whose properties is nothing
	for name, change := range changes {
		data := kind.Make(first, 3)
		ids, err := kind.IDs(data)
		require.NoError(t, err)
		require.Equal(t, []int{first, first + 1, first + 2}, ids)
		change(data)
		_, err = kind.IDs(data)
		require.ErrorContains(t, err, "was altered", "%s: %s", kind.Name(), name)
	}
}
