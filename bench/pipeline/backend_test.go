package pipeline

import (
	"context"
	"fmt"
	"math"
	"net"
	"sync"
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"google.golang.org/grpc"
)

// backend counts the spans that it gets.
type backend struct {
	ptraceotlp.UnimplementedGRPCServer

	mu             sync.Mutex // guards everything below
	items, batches int64
	expected       int64
	complete       chan struct{} // closed when as many have arrived as are expected; nil: nobody waits
}

func newBackend() (role, func()) {
	b := &backend{}
	server := grpc.NewServer(grpc.MaxRecvMsgSize(math.MaxInt32))
	ptraceotlp.RegisterGRPCServer(server, b)
	return func(o order) (answer, error) {
		switch o.Do {
		case "listen":
			listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
			if err != nil {
				return answer{}, err
			}
			go func() { _ = server.Serve(listener) }() // until Stop
			return answer{Address: listener.Addr().String()}, nil
		case "wait":
			return b.wait(int64(o.Items))
		case "count":
			b.mu.Lock()
			defer b.mu.Unlock()
			return answer{Items: b.items, Batches: b.batches}, nil
		}
		return answer{}, fmt.Errorf("unknown order %q", o.Do)
	}, server.Stop
}

// Export implements ptraceotlp.GRPCServer.
func (b *backend) Export(_ context.Context, request ptraceotlp.ExportRequest) (ptraceotlp.ExportResponse, error) {
	items := int64(request.Traces().SpanCount())
	b.mu.Lock()
	defer b.mu.Unlock()
	b.items += items
	b.batches++
	if b.complete != nil && b.items >= b.expected {
		close(b.complete)
		b.complete = nil
	}
	return ptraceotlp.NewExportResponse(), nil
}

// wait returns when as many items have arrived since the backend began, or after a time in
// which any batcher must have sent them.
func (b *backend) wait(items int64) (answer, error) {
	b.mu.Lock()
	complete := make(chan struct{})
	if b.items >= items {
		close(complete)
	} else {
		b.expected, b.complete = items, complete
	}
	b.mu.Unlock()

	lost := time.NewTimer(patience / 2)
	defer lost.Stop()
	select {
	case <-complete:
	case <-lost.C:
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.complete = nil
	if b.items < items {
		return answer{}, fmt.Errorf("%d of %d items have arrived, %v after they were sent", b.items, items, patience/2)
	}
	return answer{Items: b.items, Batches: b.batches}, nil
}
