package harness

import (
	"context"
	"errors"
	"math"
	"net"
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
	"google.golang.org/grpc/peer"
)

// Backend is an OTLP server over gRPC and HTTP for all signals. It accepts batches until
// it is told otherwise.
type Backend struct {
	ledgers map[Signal]*Ledger
	limits  []grpc.ServerOption // what its gRPC server takes; empty: as grpc-go has it
	meter   messageMeter
	server  server

	mu        sync.Mutex // guards everything below
	gate      gate
	waiting   int                    // calls that wait for another gate
	answering int                    // calls that need not wait and are not in the ledger yet
	none      *sync.Cond             // one of the two has become 0
	conns     map[string]*serverConn // by their name, see connName
}

// gate is what the backend does with a batch.
type gate struct {
	opened  chan struct{}                 // not nil: wait until it is closed, then ask again
	stalls  bool                          // whether nothing is read until then either
	holds   func(Batch) bool              // which batches wait for opened; nil: all
	judge   func(*Ledger, []uint64) error // not nil: answer what it says
	ignores bool                          // never answer
	delay   time.Duration                 // answer that much later
	resets  bool                          // end the connection instead of answering
	takes   bool                          // and keep the batch nevertheless
}

// keeps tells whether a batch has to wait.
func (g *gate) keeps(batch Batch) bool {
	return g.opened != nil && (g.holds == nil || g.holds(batch))
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
	b := &Backend{ledgers: make(map[Signal]*Ledger), limits: limits, conns: make(map[string]*serverConn)}
	b.none = sync.NewCond(&b.mu)
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

// HoldAll is Hold that returns when no call is under way but those that wait.
func (b *Backend) HoldAll() {
	b.Hold()
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.answering > 0 {
		b.none.Wait()
	}
}

// HoldIf makes those of the batches that arrive from now on wait, and takes the others.
// It is called before the batch has an answer, and must not call the backend.
func (b *Backend) HoldIf(which func(Batch) bool) {
	b.set(gate{opened: make(chan struct{}), holds: which})
}

// Stall is Hold for a backend that reads nothing more of what comes either, as if its process
// were stopped: what does not fit into the network's buffers stays where it is. Connections are
// accepted by the system.
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
func (b *Backend) Judge(verdict func(ids []uint64) error) {
	b.JudgeEach(func(_ *Ledger, ids []uint64) error { return verdict(ids) })
}

// JudgeEach is Judge with the ledger of the batch's signal.
func (b *Backend) JudgeEach(verdict func(of *Ledger, ids []uint64) error) {
	b.set(gate{judge: verdict})
}

// Ignore never answers what waits or arrives. What is said after it is not for what waited, as
// with Delay and Reset.
func (b *Backend) Ignore() { b.setForAll(gate{ignores: true}) }

// Delay takes every batch that waits or arrives, that much later, unless the collector has given
// up by then.
func (b *Backend) Delay(delay time.Duration) { b.setForAll(gate{delay: delay}) }

// Reset ends the connection of every batch that waits or arrives, so that the peer is told of it
// at once (RST). Whether the backend has taken the batch before, takes says: it is then in the
// ledger as one that was not answered.
func (b *Backend) Reset(takes bool) { b.setForAll(gate{resets: true, takes: takes}) }

// setForAll is set that returns when nobody waits any more.
func (b *Backend) setForAll(g gate) {
	b.set(g)
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.waiting > 0 {
		b.none.Wait()
	}
}

func (b *Backend) set(g gate) {
	b.mu.Lock()
	was := b.gate
	b.gate = g
	b.mu.Unlock()
	if was.opened != nil {
		close(was.opened)
	}
}

// errReset is in the ledger for a batch whose connection the backend has ended.
var errReset = errors.New("the backend has reset the connection")

// pass returns what the backend answers, once it answers, and whether it can. The end of ctx,
// that is of the collector's call, ends the wait. The caller calls b.done when the answer is in
// the ledger.
func (b *Backend) pass(ctx context.Context, l *Ledger, batch Batch) (answered bool, err error) {
	g, dead := b.ask(ctx, l, batch)
	switch {
	case dead && g.takes:
		return false, nil
	case dead:
		return false, errReset
	case g.ignores:
		<-ctx.Done()
		return true, ctx.Err()
	case g.delay > 0:
		timer := time.NewTimer(g.delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		return true, ctx.Err() // which may have ended at the same time
	case g.keeps(batch):
		return true, ctx.Err() // it has ended
	case g.judge != nil:
		return true, g.judge(l, batch.IDs)
	}
	return true, ctx.Err() // nobody is there any more for the answer
}

// ask returns what is to be done with a batch, once it need not wait for that or ctx has ended,
// and ends its connection if that is it. Dead says that there is no connection to answer over.
// After set has returned, no connection is ended for what was said before.
func (b *Backend) ask(ctx context.Context, l *Ledger, batch Batch) (g gate, dead bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l.asks() // locked, so that nobody is told of this call before it can be told what to do
	for {
		g = b.gate
		if !g.keeps(batch) || ctx.Err() != nil {
			break
		}
		b.waiting++
		b.mu.Unlock()
		select {
		case <-g.opened:
		case <-ctx.Done():
		}
		b.mu.Lock()
		b.release(&b.waiting)
	}
	b.answering++
	conn := b.conns[batch.Conn] // nil: in the test's own process
	if g.resets && conn != nil {
		conn.reset()
	}
	return g, conn != nil && conn.wasReset
}

// done ends what ask has begun.
func (b *Backend) done() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.release(&b.answering)
}

// release takes one from a number. Requires b.mu held.
func (b *Backend) release(calls *int) {
	if *calls--; *calls == 0 {
		b.none.Broadcast()
	}
}

// receive handles one export call to a server in one of its lives.
func receive[T any](ctx context.Context, b *Backend, life int, s *signal[T], data T) error {
	batch := Batch{
		Life: life, Arrived: time.Now(), Header: headerOf(ctx), Bytes: messageSize(ctx), Conn: connOf(ctx),
	}
	l := b.ledgers[s]
	l.began()
	var altered []string
	batch.IDs, altered = s.inspect(data)
	answered, err := b.pass(ctx, l, batch)
	batch.Err, batch.Unanswered = err, !answered
	batch.Answered = time.Now()
	l.ended(batch, altered)
	b.done()
	return batch.Err
}

// connOf names the connection that a call has come over; empty: it is from the test's own process.
func connOf(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok {
		return connName(p.Addr, p.LocalAddr)
	}
	return ""
}

// connName names a connection. A client can use the same port for several servers.
func connName(client, server net.Addr) string { return client.String() + " to " + server.String() }

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
