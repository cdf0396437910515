package harness

import (
	"context"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// Backend is an OTLP server over gRPC and HTTP for all signals. It accepts batches until
// it is told otherwise.
type Backend struct {
	ledgers map[Signal]*Ledger
	limits  []grpc.ServerOption // what its gRPC server takes; empty: as grpc-go has it
	meter   messageMeter
	server  server

	mu   sync.Mutex // guards gate
	gate gate
}

// gate is what the backend does with a batch.
type gate struct {
	opened chan struct{}            // not nil: wait until it is closed, then ask again
	stalls bool                     // whether nothing is read until then either
	holds  func(Batch) bool         // which batches wait for opened; nil: all
	judge  func(ids []uint64) error // not nil: answer what it says
}

// NewBackend starts a backend, which ends with the test. It takes batches of any size.
func NewBackend(tb testing.TB) *Backend {
	tb.Helper()
	return newBackend(tb, grpc.MaxRecvMsgSize(math.MaxInt32))
}

// MessageLimit is the size of the largest message in bytes that a gRPC server written in Go
// takes unless it is told otherwise.
const MessageLimit = 4 << 20

// NewLimitedBackend is NewBackend with a gRPC server as grpc-go makes it, which refuses
// messages above MessageLimit by itself.
func NewLimitedBackend(tb testing.TB) *Backend {
	tb.Helper()
	return newBackend(tb)
}

// NewBackendWithLimit is NewLimitedBackend for another limit in bytes.
func NewBackendWithLimit(tb testing.TB, limit int) *Backend {
	tb.Helper()
	return newBackend(tb, grpc.MaxRecvMsgSize(limit))
}

func newBackend(tb testing.TB, limits ...grpc.ServerOption) *Backend {
	tb.Helper()
	b := &Backend{ledgers: make(map[Signal]*Ledger), limits: limits}
	for _, s := range Signals() {
		b.ledgers[s] = newLedger()
	}
	b.serve(tb)
	tb.Cleanup(func() { b.stop(tb) })
	return b
}

// Ledger returns what has arrived of a signal.
func (b *Backend) Ledger(s Signal) *Ledger { return b.ledgers[s] }

// TooLarge returns how many messages the gRPC server has refused with RESOURCE_EXHAUSTED
// before they were decoded. No ledger knows of them.
func (b *Backend) TooLarge() int { return int(b.meter.tooLarge.Load()) }

// Hold makes every batch that arrives from now on wait for Accept, Refuse or Judge.
func (b *Backend) Hold() { b.set(gate{opened: make(chan struct{})}) }

// HoldIf makes those of the batches that arrive from now on wait, and takes the others.
// It is called by many goroutines at once, before the batch has an answer.
func (b *Backend) HoldIf(which func(Batch) bool) {
	b.set(gate{opened: make(chan struct{}), holds: which})
}

// Stall is Hold for a backend that reads nothing more of what comes over gRPC either, as if its
// process were stopped: what does not fit into the network's buffers stays where it is.
func (b *Backend) Stall() { b.set(gate{opened: make(chan struct{}), stalls: true}) }

// Accept takes every batch that waits or arrives.
func (b *Backend) Accept() { b.set(gate{}) }

// Refuse answers every batch that waits or arrives with a gRPC status, over HTTP with
// what OTLP has for it there.
func (b *Backend) Refuse(status error) {
	b.Judge(func([]uint64) error { return status })
}

// Judge answers every batch that waits or arrives with what verdict says of its items:
// nil, or a gRPC status. It is called by many goroutines at once.
func (b *Backend) Judge(verdict func(ids []uint64) error) { b.set(gate{judge: verdict}) }

func (b *Backend) set(g gate) {
	b.mu.Lock()
	was := b.gate
	b.gate = g
	b.mu.Unlock()
	if was.opened != nil {
		close(was.opened)
	}
}

// pass returns what the backend answers, once it answers. The end of ctx, that is of
// the collector's call, ends the wait.
func (b *Backend) pass(ctx context.Context, batch Batch) error {
	for {
		b.mu.Lock()
		g := b.gate
		b.mu.Unlock()
		switch {
		case g.opened != nil && (g.holds == nil || g.holds(batch)):
			select {
			case <-g.opened:
			case <-ctx.Done():
				return ctx.Err()
			}
		case g.judge != nil:
			return g.judge(batch.IDs)
		default:
			return nil
		}
	}
}

// receive handles one export call to a server in one of its lives.
func receive[T any](ctx context.Context, b *Backend, life int, s *signal[T], data T) error {
	batch := Batch{Life: life, Arrived: time.Now(), Header: headerOf(ctx), Bytes: messageSize(ctx)}
	l := b.ledgers[s]
	l.began()
	var altered []string
	batch.IDs, altered = s.inspect(data)
	batch.Err = b.pass(ctx, batch)
	batch.Answered = time.Now()
	l.ended(batch, altered)
	return batch.Err
}

// ofTheProtocols are the headers that OTLP calls have for their own sake.
var ofTheProtocols = []string{
	"content-type", "user-agent", "grpc-accept-encoding", // over gRPC
	"otlp-profiles-development-version", // of profiles
	"accept-encoding", "content-length", // and over HTTP
}

// headerOf returns what came with a call but for the headers of the protocols.
func headerOf(ctx context.Context) Header {
	header := make(Header)
	md, _ := metadata.FromIncomingContext(ctx) // none: in the test's own process
	for key, values := range md {
		if !strings.HasPrefix(key, ":") && !slices.Contains(ofTheProtocols, key) {
			header[key] = values
		}
	}
	return header
}

// ConsumeTraces receives a batch from a collector in the test's own process. It keeps
// nothing of the data and leaves it as it is. ConsumeLogs and ConsumeMetrics do the same.
func (b *Backend) ConsumeTraces(ctx context.Context, data ptrace.Traces) error {
	return receive(ctx, b, 0, traces, data)
}

// ConsumeLogs is ConsumeTraces for logs.
func (b *Backend) ConsumeLogs(ctx context.Context, data plog.Logs) error {
	return receive(ctx, b, 0, logs, data)
}

// ConsumeMetrics is ConsumeTraces for metrics.
func (b *Backend) ConsumeMetrics(ctx context.Context, data pmetric.Metrics) error {
	return receive(ctx, b, 0, metrics, data)
}
