package harness

import (
	"context"
	"sync/atomic"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
)

// message is what is known of a message from the network.
type message struct {
	bytes int // 0: it was not decoded
}

type messageKey struct{}

func withMessage(ctx context.Context, m *message) context.Context {
	return context.WithValue(ctx, messageKey{}, m)
}

// messageSize returns the size of the message that a call has brought; 0: it came without one.
func messageSize(ctx context.Context) int {
	if m, ok := ctx.Value(messageKey{}).(*message); ok {
		return m.bytes
	}
	return 0
}

// messageMeter sees what a gRPC server receives, also what it refuses before any handler
// hears of it. The calls of one RPC come one after the other.
type messageMeter struct{ tooLarge atomic.Int64 }

// TagRPC implements stats.Handler.
func (*messageMeter) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context {
	return withMessage(ctx, new(message))
}

// HandleRPC implements stats.Handler.
func (m *messageMeter) HandleRPC(ctx context.Context, event stats.RPCStats) {
	received := ctx.Value(messageKey{}).(*message)
	switch event := event.(type) {
	case *stats.InPayload:
		received.bytes = event.Length
	case *stats.End:
		if received.bytes == 0 && status.Code(event.Error) == codes.ResourceExhausted {
			m.tooLarge.Add(1)
		}
	}
}

// TagConn implements stats.Handler.
func (*messageMeter) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (*messageMeter) HandleConn(context.Context, stats.ConnStats) {}
