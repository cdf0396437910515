package pipeline

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// part is what a Collector does with its CPU.
type part string

const (
	decoding   part = "decode"     // from OTLP to pdata
	batching   part = "batching"   // the batching step itself, its metrics and its timers included
	encoding   part = "encode"     // from pdata to OTLP
	transport  part = "grpc"       // HTTP/2, gRPC, its metrics, and the network below it
	collecting part = "gc"         // garbage: marking, also by who allocates, and sweeping
	scheduling part = "scheduler"  // of goroutines, and waiting for the network
	components part = "components" // the rest: receiver, exporter, and what the service puts around them
)

var parts = []part{decoding, batching, encoding, transport, collecting, scheduling, components}

// owners are whose functions do something for themselves: the one nearest to the end of a stack
// is who the sample is of. Of several prefixes that fit the first counts. Packages that are
// not here, such as pdata and the runtime, work for whoever calls them.
var owners = []struct {
	prefix string
	part   part
}{
	{"github.com/boundedbatch/boundedbatchprocessor/bench/", components},
	{"github.com/boundedbatch/boundedbatchprocessor", batching},
	{"go.opentelemetry.io/collector/processor/batchprocessor", batching},
	{"go.opentelemetry.io/collector/exporter/exporterhelper/internal/queue", batching}, // and queuebatch
	{"go.opentelemetry.io/collector/exporter/", components},
	{"go.opentelemetry.io/collector/receiver/", components},
	{"go.opentelemetry.io/collector/service/", components},
	{"go.opentelemetry.io/collector/internal/", components},
	{"go.opentelemetry.io/collector/config/", transport}, // interceptors of configgrpc
	{"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/", transport},
	{"google.golang.org/grpc", transport},
	{"golang.org/x/net/", transport},
	{"net.", transport},
	{"net/http.", transport},
}

// collects are functions of the runtime for garbage: prefixes, without the package.
var collects = []string{
	"gc", "bgsweep", "bgscavenge", "(*gc", "wbBuf", "scanobject", "scanblock", "markroot", "sweepone", "(*sweepLock",
	"deductSweepCredit", "(*scavenger", "(*pageAlloc).scav",
}

// partOf tells whose a stack is, its end first.
func partOf(stack []string) part {
	for _, function := range stack {
		if name, ok := strings.CutPrefix(function, "runtime."); ok {
			for _, prefix := range collects {
				if strings.HasPrefix(name, prefix) {
					return collecting
				}
			}
		}
	}
	codec := part("")
	for _, function := range stack {
		if codec == "" && strings.HasPrefix(function, "go.opentelemetry.io/collector/pdata/") {
			switch {
			case strings.Contains(function, "UnmarshalProto"):
				codec = decoding
			case strings.Contains(function, "MarshalProto"), strings.Contains(function, "SizeProto"):
				codec = encoding
			}
		}
		for _, owner := range owners {
			if !strings.HasPrefix(function, owner.prefix) {
				continue
			}
			if owner.part == batching || codec == "" {
				return owner.part // what a batcher measures in bytes is its own affair
			}
			return codec
		}
	}
	switch {
	case codec != "":
		return codec
	case len(stack) > 0 && strings.HasPrefix(stack[len(stack)-1], "runtime."):
		return scheduling
	default:
		return components
	}
}

// shares are the parts of a profile, whose sum is 1, and the number of its samples.
func shares(p *profile.Profile) (counts map[part]float64, all float64) {
	counts = make(map[part]float64)
	for _, sample := range p.Sample {
		var stack []string
		for _, location := range sample.Location {
			for _, line := range location.Line { // what is inlined first
				stack = append(stack, line.Function.Name)
			}
		}
		n := float64(sample.Value[0])
		counts[partOf(stack)] += n
		all += n
	}
	for p := range counts {
		counts[p] /= all
	}
	return counts, all
}

// samplesPerSecond of CPU: as many as Linux takes with its usual clock of 250 Hz.
const samplesPerSecond = 250

// startProfile writes a CPU profile to w, until pprof.StopCPUProfile.
func startProfile(w io.Writer) error {
	// The rate of runtime/pprof is fixed, but it leaves one that is set already; the runtime says so
	// on standard error.
	runtime.SetCPUProfileRate(samplesPerSecond)
	return pprof.StartCPUProfile(w)
}

// The batching step takes at most 0.6 % of a Collector's CPU.
func TestShareOfBatching(t *testing.T) {
	const limit = 0.6
	peers := []peer{{boundedbatch, configuration(boundedbatch, nil, noQueue)}}
	times, long := 1, 4**windowFlag
	if everything() {
		times = rounds()
		peers = append(peers, peer{batch, configuration(batch, nil, noQueue)})
	}
	percents, samples := make(map[string][]float64), 0.0
	dir := *profilesFlag
	if dir == "" {
		dir = t.TempDir()
	}
	for round := range times {
		for _, p := range peers {
			file := filepath.Join(dir, fmt.Sprintf("%s-%d.pprof", p.impl, round))
			pipe := newPipeline(t, p.config, small, defaultSize)
			pipe.collector.ask(t, order{Do: "profile", Profile: file})
			c := pipe.measure(t, small.portion(defaultSize, long))
			pipe.collector.ask(t, order{Do: "write the profile"})
			pipe.end(t)
			small.carried(t, p.impl, c)
			of, n := shares(read(t, file))
			for _, part := range parts {
				recordShare(small, p.impl, part, of[part], c)
			}
			t.Logf("%s: %s", p.impl, listed(of))
			percents[p.impl] = append(percents[p.impl], 100*of[batching])
			samples = n
		}
	}
	for impl, all := range percents {
		t.Logf("batching with %s: %.2f %% (%.2f)", impl, median(all), all)
	}
	// So few samples are of batching that their number is a matter of chance.
	chance := 2 * math.Sqrt(limit/100/samples) * 100
	if m := median(percents[boundedbatch]); m > limit**marginFlag+chance {
		t.Errorf("batching takes %.2f %% of the CPU, which must be at most %g %%, with a margin of %g and %.2f %% for chance",
			m, limit, *marginFlag, chance)
	}
}

func read(t *testing.T, path string) *profile.Profile {
	t.Helper()
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	p, err := profile.Parse(bytes.NewReader(content))
	require.NoError(t, err)
	require.NotEmpty(t, p.Sample, "samples of a profile of %v", time.Duration(p.DurationNanos))
	return p
}

func TestPartOfStack(t *testing.T) {
	const (
		us       = "github.com/boundedbatch/boundedbatchprocessor"
		peerName = "go.opentelemetry.io/collector/processor/batchprocessor."
		queue    = "go.opentelemetry.io/collector/exporter/exporterhelper/internal/queuebatch."
		exporter = "go.opentelemetry.io/collector/exporter/otlpexporter.(*baseExporter).pushTraces"
		service  = "go.opentelemetry.io/collector/service/internal/obsconsumer.obsconsumerTraces.ConsumeTraces"
		receiver = "go.opentelemetry.io/collector/receiver/otlpreceiver/internal/trace.(*Receiver).Export"
		move     = "go.opentelemetry.io/collector/pdata/ptrace.ResourceSpansSlice.MoveAndAppendTo"
		unmarsh  = "go.opentelemetry.io/collector/pdata/internal.(*Span).UnmarshalProto"
		marshal  = "go.opentelemetry.io/collector/pdata/internal.(*Span).MarshalProto"
		size     = "go.opentelemetry.io/collector/pdata/internal.(*Span).SizeProto"
		server   = "google.golang.org/grpc.(*Server).processUnaryRPC"
		client   = "google.golang.org/grpc.(*ClientConn).Invoke"
		consume  = us + "/batcher.(*Batcher[go.shape.struct { a int }]).Consume"
		alloc    = "runtime.mallocgc"
	)
	for _, tt := range []struct {
		want  part
		stack []string // the end first
	}{
		{batching, []string{"runtime.lock2", move, consume, us + ".tracesProcessor.ConsumeTraces", service, receiver, server}},
		{batching, []string{"go.opentelemetry.io/otel/sdk/metric.(*int64Inst).Add", us + ".(*telemetry).Flushed", us + "/batcher.(*Batcher[...]).settle"}},
		{batching, []string{move, peerName + "(*batchTraces).add", peerName + "(*shard[...]).startLoop"}},
		{batching, []string{size, peerName + "(*batchTraces).sizeBytes"}},
		{batching, []string{"runtime.chansend", queue + "(*asyncQueue[...]).Offer", exporter, service, receiver}},
		{decoding, []string{alloc, unmarsh, "google.golang.org/grpc.decode", server}},
		{encoding, []string{size, "google.golang.org/grpc.encode", client, exporter, us + "/batcher.(*Batcher[...]).exportOne"}},
		{encoding, []string{alloc, marshal, client, exporter, service, consume}},
		{transport, []string{"syscall.write", "internal/poll.(*FD).Write", "net.(*conn).Write", "google.golang.org/grpc/internal/transport.(*loopyWriter).run"}},
		{transport, []string{"runtime.selectgo", client, exporter, consume}},
		{components, []string{"time.Now", service, consume, service, receiver, server}},
		{components, []string{exporter, peerName + "(*batchTraces).export"}},
		{collecting, []string{"runtime.scanobject", "runtime.gcDrain", "runtime.gcBgMarkWorker"}},
		{collecting, []string{"runtime.gcAssistAlloc", alloc, unmarsh, server}},
		{collecting, []string{"runtime.(*sweepLocked).sweep", "runtime.(*mcentral).cacheSpan", alloc, consume}},
		{scheduling, []string{"runtime.futex", "runtime.findRunnable", "runtime.schedule", "runtime.mcall"}},
		{components, []string{us + "/bench/pipeline.serve", "runtime.main"}},
	} {
		assert.Equal(t, tt.want, partOf(tt.stack), "%v", tt.stack)
	}
}

// listed are shares in percent, in their order.
func listed(of map[part]float64) string {
	var all []string
	for _, p := range parts {
		all = append(all, fmt.Sprintf("%s %.1f %%", p, 100*of[p]))
	}
	return strings.Join(all, ", ")
}
