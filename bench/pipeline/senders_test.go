package pipeline

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
)

const (
	// connections that the senders share: a Collector has many clients, of which each sends little.
	connections = 8
	// senders each wait for the answer to a request before they send the next one, which is
	// seldom due by then.
	senders = 64
	// differentRequests are encoded once and sent again and again.
	differentRequests = 256
)

func newSenders() (role, func()) {
	var pool []*grpc.ClientConn
	var requests [][]byte
	return func(o order) (answer, error) {
			switch o.Do {
			case "connect":
				requests = encoded(o.Items)
				for range connections {
					c, err := grpc.NewClient(o.Address, grpc.WithTransportCredentials(insecure.NewCredentials()),
						grpc.WithDefaultCallOptions(grpc.ForceCodecV2(raw{})))
					if err != nil {
						return answer{}, err
					}
					pool = append(pool, c)
				}
				return answer{}, nil
			case "send":
				return send(pool, requests, o.Requests, o.Rate)
			}
			return answer{}, fmt.Errorf("unknown order %q", o.Do)
		}, func() {
			for _, c := range pool {
				_ = c.Close()
			}
		}
}

// send sends n requests, each at its own instant, so many a second, whatever becomes of those
// before.
func send(pool []*grpc.ClientConn, requests [][]byte, n int, rate float64) (answer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience/2)
	defer cancel()
	errs := make([]error, senders)
	waits := make([]answer, senders)
	began := time.Now()
	var all sync.WaitGroup
	for s := range senders {
		connection := pool[s%len(pool)]
		all.Go(func() {
			for i := s; i < n; i += senders {
				time.Sleep(time.Until(began.Add(time.Duration(float64(i) / rate * float64(time.Second)))))
				sent := time.Now()
				if errs[s] = export(ctx, connection, requests[i%len(requests)]); errs[s] != nil {
					cancel()
					return
				}
				waits[s].Waited += time.Since(sent)
				waits[s].Longest = max(waits[s].Longest, time.Since(sent))
			}
		})
	}
	all.Wait()
	a := answer{Elapsed: time.Since(began)}
	for _, w := range waits {
		a.Waited += w.Waited
		a.Longest = max(a.Longest, w.Longest)
	}
	return a, errors.Join(errs...)
}

func export(ctx context.Context, c *grpc.ClientConn, request []byte) error {
	var reply []byte
	err := c.Invoke(ctx, "/opentelemetry.proto.collector.trace.v1.TraceService/Export", request, &reply, grpc.WaitForReady(true))
	if err != nil {
		return err
	}
	response := ptraceotlp.NewExportResponse()
	if err := response.UnmarshalProto(reply); err != nil {
		return err
	}
	if partial := response.PartialSuccess(); partial.RejectedSpans() != 0 {
		return fmt.Errorf("%d spans were rejected: %s", partial.RejectedSpans(), partial.ErrorMessage())
	}
	return nil
}

// raw is a codec of what is encoded already.
type raw struct{}

// Name implements encoding.CodecV2. It is part of the request's content type.
func (raw) Name() string { return "proto" }

// Marshal implements encoding.CodecV2.
func (raw) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}

// Unmarshal implements encoding.CodecV2.
func (raw) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

// encoded are requests with so many items as instrumented services send them: one resource, one scope, spans of
// an HTTP server and its clients.
func encoded(items int) [][]byte {
	random := rand.New(rand.NewPCG(1, 2))
	all := make([][]byte, differentRequests)
	for i := range all {
		var err error
		if all[i], err = ptraceotlp.NewExportRequestFromTraces(request(random, items)).MarshalProto(); err != nil {
			panic(err) // what we have made ourselves can be encoded
		}
	}
	return all
}

func request(random *rand.Rand, items int) ptrace.Traces {
	td := ptrace.NewTraces()
	rs := td.ResourceSpans().AppendEmpty()
	rs.SetSchemaUrl("https://opentelemetry.io/schemas/1.37.0")
	service := random.IntN(20)
	put(rs.Resource().Attributes(), "service.name", fmt.Sprintf("checkout-%d", service))
	put(rs.Resource().Attributes(), "service.version", fmt.Sprintf("2.%d.%d", service, random.IntN(10)))
	put(rs.Resource().Attributes(), "service.instance.id", fmt.Sprintf("%016x%016x", random.Uint64(), random.Uint64()))
	put(rs.Resource().Attributes(), "deployment.environment.name", "production")
	put(rs.Resource().Attributes(), "k8s.namespace.name", "shop")
	put(rs.Resource().Attributes(), "k8s.pod.name", fmt.Sprintf("checkout-%d-%08x", service, random.Uint32()))
	put(rs.Resource().Attributes(), "host.name", fmt.Sprintf("node-%d.internal", random.IntN(200)))
	put(rs.Resource().Attributes(), "telemetry.sdk.language", "go")
	ss := rs.ScopeSpans().AppendEmpty()
	ss.Scope().SetName("go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp")
	ss.Scope().SetVersion("0.70.0")
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	trace := id[[16]byte](random)
	parent := pcommon.SpanID{}
	for n := range items {
		s := ss.Spans().AppendEmpty()
		s.SetTraceID(trace)
		s.SetSpanID(id[[8]byte](random))
		s.SetParentSpanID(parent)
		parent = s.SpanID()
		s.SetName("GET /api/v1/orders/{id}/items")
		s.SetKind(ptrace.SpanKindServer)
		if n > 0 {
			s.SetKind(ptrace.SpanKindClient)
		}
		s.SetStartTimestamp(pcommon.NewTimestampFromTime(now.Add(time.Duration(random.IntN(1e9)))))
		s.SetEndTimestamp(pcommon.NewTimestampFromTime(now.Add(time.Second + time.Duration(random.IntN(1e9)))))
		a := s.Attributes()
		put(a, "http.request.method", "GET")
		put(a, "http.route", "/api/v1/orders/{id}/items")
		put(a, "url.path", fmt.Sprintf("/api/v1/orders/%d/items", random.IntN(1e6)))
		put(a, "server.address", "orders.shop.svc.cluster.local")
		put(a, "network.protocol.version", "1.1")
		put(a, "user_agent.original", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36")
		a.PutInt("http.response.status_code", 200)
		a.PutInt("server.port", 8080)
	}
	return td
}

func put(m pcommon.Map, key, value string) { m.PutStr(key, value) }

func id[T [8]byte | [16]byte](random *rand.Rand) (all T) {
	for i := range len(all) {
		all[i] = byte(random.Uint32())
	}
	return all
}
