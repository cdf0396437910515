package harness

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"go.opentelemetry.io/collector/pdata/pprofile/pprofileotlp"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/encoding/gzip" // which exporters use by default
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// server is a backend's side towards the network. It belongs to the goroutine of the test.
type server struct {
	grpcAddress, httpAddress string // the same in every life

	life  int        // how often it was killed
	close func()     // ends all connections at once and waits for the calls; nil: it is dead
	ended chan error // what the two servers end with; nil is as it should be
}

// GRPCAddress and HTTPAddress are where the backend listens while it lives.
func (b *Backend) GRPCAddress() string { return b.server.grpcAddress }

// HTTPAddress is like GRPCAddress.
func (b *Backend) HTTPAddress() string { return b.server.httpAddress }

// Kill ends the backend as the death of its process would: every connection breaks, no
// call under way gets an answer. What waits for Accept or Refuse is not taken.
func (b *Backend) Kill(tb testing.TB) {
	tb.Helper()
	b.stop(tb)
	b.server.life++
}

// Restart brings a killed backend back at its addresses, with its ledgers.
func (b *Backend) Restart(tb testing.TB) {
	tb.Helper()
	b.serve(tb)
}

// serve begins to listen, at the addresses of the last life if there was one.
func (b *Backend) serve(tb testing.TB) {
	tb.Helper()
	s := &b.server
	overGRPC := &serverListener{Listener: listen(tb, s.grpcAddress), ending: newEnding(), backend: b}
	overHTTP := &serverListener{Listener: listen(tb, s.httpAddress), ending: newEnding(), backend: b}
	s.grpcAddress, s.httpAddress = overGRPC.Addr().String(), overHTTP.Addr().String()

	grpcServer := grpc.NewServer(append(b.limits[:len(b.limits):len(b.limits)],
		grpc.WaitForHandlers(true), grpc.StatsHandler(&b.meter))...)
	ptraceotlp.RegisterGRPCServer(grpcServer, &tracesServer{backend: b, life: s.life})
	plogotlp.RegisterGRPCServer(grpcServer, &logsServer{backend: b, life: s.life})
	pmetricotlp.RegisterGRPCServer(grpcServer, &metricsServer{backend: b, life: s.life})
	pprofileotlp.RegisterGRPCServer(grpcServer, &profilesServer{backend: b, life: s.life})

	var calls sync.RWMutex // read: a call over HTTP is under way; gRPC counts its own
	mux := http.NewServeMux()
	handle(mux, b, s.life, &calls, traces)
	handle(mux, b, s.life, &calls, logs)
	handle(mux, b, s.life, &calls, metrics)
	handle(mux, b, s.life, &calls, profiles)
	httpServer := &http.Server{Handler: mux, ReadHeaderTimeout: patience}

	ended := make(chan error, 2)
	go func() { ended <- unlessStopped(grpcServer.Serve(overGRPC), grpc.ErrServerStopped) }()
	go func() { ended <- unlessStopped(httpServer.Serve(overHTTP), http.ErrServerClosed) }()
	s.ended = ended
	s.close = func() {
		grpcServer.Stop()
		_ = httpServer.Close() // it has no failure that matters
		calls.Lock()           // for good
	}
}

// unlessStopped returns nil for the error of a server that was stopped.
func unlessStopped(err, stopped error) error {
	if errors.Is(err, stopped) {
		return nil
	}
	return err
}

// stop ends the server unless it is dead.
func (b *Backend) stop(tb testing.TB) {
	tb.Helper()
	s := &b.server
	if s.close == nil {
		return
	}
	s.close()
	s.close = nil
	for range cap(s.ended) {
		if err := <-s.ended; err != nil {
			tb.Errorf("backend: %v", err)
		}
	}
}

// listen listens at an address, or at a free port if it is empty. A port that was given
// up can be somebody's for a moment, who connects from it.
func listen(tb testing.TB, address string) (l net.Listener) {
	tb.Helper()
	if address == "" {
		address = loopback + ":0"
	}
	Until(tb, func(ctx context.Context) (err error) {
		var lc net.ListenConfig
		l, err = lc.Listen(ctx, "tcp", address)
		return err
	})
	return l
}

type tracesServer struct {
	ptraceotlp.UnimplementedGRPCServer
	backend *Backend
	life    int
}

func (s *tracesServer) Export(ctx context.Context, r ptraceotlp.ExportRequest) (ptraceotlp.ExportResponse, error) {
	return ptraceotlp.NewExportResponse(), receive(ctx, s.backend, s.life, traces, r.Traces())
}

type logsServer struct {
	plogotlp.UnimplementedGRPCServer
	backend *Backend
	life    int
}

func (s *logsServer) Export(ctx context.Context, r plogotlp.ExportRequest) (plogotlp.ExportResponse, error) {
	return plogotlp.NewExportResponse(), receive(ctx, s.backend, s.life, logs, r.Logs())
}

type metricsServer struct {
	pmetricotlp.UnimplementedGRPCServer
	backend *Backend
	life    int
}

func (s *metricsServer) Export(ctx context.Context, r pmetricotlp.ExportRequest) (pmetricotlp.ExportResponse, error) {
	return pmetricotlp.NewExportResponse(), receive(ctx, s.backend, s.life, metrics, r.Metrics())
}

type profilesServer struct {
	pprofileotlp.UnimplementedGRPCServer
	backend *Backend
	life    int
}

func (s *profilesServer) Export(ctx context.Context, r pprofileotlp.ExportRequest) (pprofileotlp.ExportResponse, error) {
	return pprofileotlp.NewExportResponse(), receive(ctx, s.backend, s.life, profiles, r.Profiles())
}

// handle serves a signal over HTTP.
func handle[T any](mux *http.ServeMux, b *Backend, life int, calls *sync.RWMutex, s *signal[T]) {
	mux.HandleFunc("POST "+s.url, func(w http.ResponseWriter, r *http.Request) {
		if !calls.TryRLock() {
			return // killed
		}
		defer calls.RUnlock()
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the connection has ended
		}
		data, err := s.unmarshal(body)
		if err != nil {
			err = status.Error(codes.InvalidArgument, err.Error())
		} else {
			// As over gRPC, so that the rest need not know the protocol.
			ctx := withMessage(r.Context(), &message{bytes: len(body)})
			local := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
			ctx = peer.NewContext(ctx, &peer.Peer{Addr: httpPeer(r.RemoteAddr), LocalAddr: local})
			err = receive(metadata.NewIncomingContext(ctx, metadata.MD(r.Header)), b, life, s, data)
		}
		w.Header().Set("Content-Type", contentType)
		if err != nil { // otherwise the answer is an empty message, of no bytes
			refuseOverHTTP(w, status.Convert(err))
		}
	})
}

// httpPeer is the address of a peer over HTTP.
type httpPeer string

// Network implements net.Addr.
func (httpPeer) Network() string { return "tcp" }

// String implements net.Addr.
func (p httpPeer) String() string { return string(p) }

const contentType = "application/x-protobuf"

// refuseOverHTTP answers as OTLP has it for servers that know gRPC statuses.
func refuseOverHTTP(w http.ResponseWriter, s *status.Status) {
	code, known := map[codes.Code]int{
		codes.InvalidArgument:   http.StatusBadRequest,
		codes.PermissionDenied:  http.StatusForbidden,
		codes.ResourceExhausted: http.StatusTooManyRequests,
		codes.Unavailable:       http.StatusServiceUnavailable,
	}[s.Code()]
	if !known {
		code = http.StatusInternalServerError
	}
	if after := retryInfo(s); after > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(after/time.Second)))
	}
	w.WriteHeader(code)
	_, _ = w.Write(must(proto.Marshal(s.Proto()))) // the caller may have gone
}
