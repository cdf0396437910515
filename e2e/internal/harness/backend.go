package harness

import (
	"context"
	"math"
	"net"
	"sync"
	"testing"

	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"google.golang.org/grpc"
)

// Backend is an OTLP server over gRPC for all signals. It accepts batches until it is
// told otherwise.
type Backend struct {
	address string
	ledgers map[Signal]*Ledger

	mu   sync.Mutex // guards gate
	gate gate
}

// gate is what the backend does with a batch.
type gate struct {
	opened chan struct{} // not nil: wait until it is closed, then ask again
	refuse error         // not nil: answer with it
}

// NewBackend starts a backend, which ends with the test.
func NewBackend(tb testing.TB) *Backend {
	tb.Helper()
	var lc net.ListenConfig
	listener, err := lc.Listen(tb.Context(), "tcp", loopback+":0")
	if err != nil {
		tb.Fatalf("backend: %v", err)
	}
	b := &Backend{address: listener.Addr().String(), ledgers: make(map[Signal]*Ledger)}
	for _, s := range Signals() {
		b.ledgers[s] = newLedger()
	}
	// How large a batch is, is the collector's business.
	server := grpc.NewServer(grpc.MaxRecvMsgSize(math.MaxInt32))
	ptraceotlp.RegisterGRPCServer(server, &tracesServer{backend: b})
	plogotlp.RegisterGRPCServer(server, &logsServer{backend: b})
	pmetricotlp.RegisterGRPCServer(server, &metricsServer{backend: b})
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	tb.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			tb.Errorf("backend: %v", err)
		}
	})
	return b
}

// Ledger returns what has arrived of a signal.
func (b *Backend) Ledger(s Signal) *Ledger { return b.ledgers[s] }

// Hold makes every batch that arrives from now on wait for Accept or Refuse.
func (b *Backend) Hold() { b.set(gate{opened: make(chan struct{})}) }

// Accept takes every batch that waits or arrives.
func (b *Backend) Accept() { b.set(gate{}) }

// Refuse answers every batch that waits or arrives with a gRPC status.
func (b *Backend) Refuse(status error) { b.set(gate{refuse: status}) }

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
func (b *Backend) pass(ctx context.Context) error {
	for {
		b.mu.Lock()
		g := b.gate
		b.mu.Unlock()
		if g.opened == nil {
			return g.refuse
		}
		select {
		case <-g.opened:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// receive handles one export call.
func receive[T any](ctx context.Context, b *Backend, s *signal[T], data T) error {
	l := b.ledgers[s]
	l.began()
	ids, altered := s.inspect(data)
	err := b.pass(ctx)
	l.ended(Batch{IDs: ids, Err: err}, altered)
	return err
}

type tracesServer struct {
	ptraceotlp.UnimplementedGRPCServer
	backend *Backend
}

func (s *tracesServer) Export(ctx context.Context, r ptraceotlp.ExportRequest) (ptraceotlp.ExportResponse, error) {
	return ptraceotlp.NewExportResponse(), receive(ctx, s.backend, traces, r.Traces())
}

type logsServer struct {
	plogotlp.UnimplementedGRPCServer
	backend *Backend
}

func (s *logsServer) Export(ctx context.Context, r plogotlp.ExportRequest) (plogotlp.ExportResponse, error) {
	return plogotlp.NewExportResponse(), receive(ctx, s.backend, logs, r.Logs())
}

type metricsServer struct {
	pmetricotlp.UnimplementedGRPCServer
	backend *Backend
}

func (s *metricsServer) Export(ctx context.Context, r pmetricotlp.ExportRequest) (pmetricotlp.ExportResponse, error) {
	return pmetricotlp.NewExportResponse(), receive(ctx, s.backend, metrics, r.Metrics())
}
