package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Client is an OTLP client. It tries each request once: nil says that the collector
// has acknowledged all items of it. It may be used by several goroutines.
type Client interface {
	// Protocol is "grpc" or "http".
	Protocol() string
	// Send makes the request with the items in ids and waits for its answer. Over gRPC it also sends
	// the outgoing metadata of ctx. The error is a gRPC status over gRPC and, if there was an answer, an *HTTPError
	// over HTTP.
	Send(ctx context.Context, signal Signal, ids Range) error
}

// Header is metadata that a client sends with every request.
type Header map[string][]string

// HTTPError is an answer other than 200.
type HTTPError struct {
	StatusCode int
	Message    string        // of the status that OTLP puts into the body
	RetryAfter time.Duration // 0: the answer does not say
}

// Error implements error.
func (e *HTTPError) Error() string {
	return fmt.Sprintf("HTTP status %d: %s", e.StatusCode, e.Message)
}

// GRPC returns a client with a connection of its own, which ends with the test.
func (c *Collector) GRPC(tb testing.TB, header Header) Client {
	tb.Helper()
	return NewGRPCClient(tb, c.ports.address(c.ports.grpc), header)
}

// NewGRPCClient is Collector.GRPC for a server at any address.
func NewGRPCClient(tb testing.TB, address string, header Header) Client {
	tb.Helper()
	cc, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: pollInterval, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 10 * pollInterval},
			MinConnectTimeout: patience,
		}))
	if err != nil {
		tb.Fatalf("gRPC client: %v", err)
	}
	tb.Cleanup(func() { _ = cc.Close() })
	md := metadata.MD{}
	for key, values := range header {
		md.Append(key, values...)
	}
	return &grpcClient{cc: cc, metadata: md}
}

type grpcClient struct {
	cc       *grpc.ClientConn
	metadata metadata.MD
}

func (*grpcClient) Protocol() string { return "grpc" }

func (c *grpcClient) Send(ctx context.Context, signal Signal, ids Range) error {
	md, _ := metadata.FromOutgoingContext(ctx) // none: the same for all requests
	return signal.request(ids).export(metadata.NewOutgoingContext(ctx, metadata.Join(md, c.metadata)), c.cc)
}

// HTTP returns a client with connections of its own, which end with the test.
func (c *Collector) HTTP(tb testing.TB, header Header) Client {
	tb.Helper()
	client := newHTTPClient(tb, c.ports.address(c.ports.http), header)
	c.clients.add(client.transport)
	return client
}

func newHTTPClient(tb testing.TB, address string, header Header) *httpClient {
	tb.Helper()
	transport := &http.Transport{}
	tb.Cleanup(transport.CloseIdleConnections)
	return &httpClient{transport: transport, base: "http://" + address, header: header}
}

// transports are those of a collector's HTTP clients. Each can have a connection to spare
// that it has never used, for which an HTTP server that shuts down waits five seconds.
type transports struct {
	mu  sync.Mutex // guards all
	all []*http.Transport
}

func (t *transports) add(transport *http.Transport) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all = append(t.all, transport)
}

func (t *transports) closeIdle() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, transport := range t.all {
		transport.CloseIdleConnections()
	}
}

type httpClient struct {
	transport *http.Transport
	base      string
	header    Header
}

func (*httpClient) Protocol() string { return "http" }

func (c *httpClient) Send(ctx context.Context, signal Signal, ids Range) error {
	r := signal.request(ids)
	body, err := r.body()
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+r.path(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	for key, values := range c.header {
		req.Header[http.CanonicalHeaderKey(key)] = values
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := (&http.Client{Transport: c.transport}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After")) // absent: 0
		return &HTTPError{
			StatusCode: resp.StatusCode, Message: statusMessage(answer),
			RetryAfter: time.Duration(seconds) * time.Second,
		}
	}
	return r.answered(answer)
}

// statusMessage reads the google.rpc.Status that OTLP wants in the body of an error.
func statusMessage(body []byte) string {
	var status spb.Status
	if err := proto.Unmarshal(body, &status); err != nil {
		return fmt.Sprintf("not a google.rpc.Status (%v): %q", err, body)
	}
	return status.GetMessage()
}

// Clients returns a client of each protocol.
func (c *Collector) Clients(tb testing.TB, header Header) []Client {
	tb.Helper()
	return []Client{c.GRPC(tb, header), c.HTTP(tb, header)}
}

// Retryable tells if OTLP lets a client repeat a request that was answered with err. What
// is no answer, such as a broken connection, may be repeated too.
func Retryable(err error) bool {
	var answer *HTTPError
	if errors.As(err, &answer) {
		switch answer.StatusCode {
		case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			return true
		}
		return false
	}
	s, answered := status.FromError(err)
	if !answered {
		return err != nil
	}
	switch s.Code() {
	case codes.Canceled, codes.DeadlineExceeded, codes.Aborted, codes.OutOfRange, codes.Unavailable, codes.DataLoss:
		return true
	case codes.ResourceExhausted:
		return retryInfo(s) > 0
	}
	return false
}

// RetryDelay returns how long the server wants to be left alone before the request is
// repeated; 0 if it does not say.
func RetryDelay(err error) time.Duration {
	var answer *HTTPError
	if errors.As(err, &answer) {
		return answer.RetryAfter
	}
	return retryInfo(status.Convert(err))
}

// retryInfo returns the delay in a status; 0 if there is none.
func retryInfo(s *status.Status) time.Duration {
	for _, detail := range s.Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			return info.GetRetryDelay().AsDuration()
		}
	}
	return 0
}

// Throttled returns a status with which a server asks to be left alone for a while.
func Throttled(code codes.Code, delay time.Duration) error {
	s, err := status.New(code, "the backend has too much to do").
		WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(delay)})
	if err != nil {
		panic(err) // a code of OK
	}
	return s.Err()
}

// SendPersistently makes a request as a client does that repeats whatever may be repeated, as
// soon as it may, until it is acknowledged, refused for good, or ctx ends. It returns how often
// it has sent it.
func SendPersistently(ctx context.Context, client Client, signal Signal, ids Range) (attempts int, err error) {
	for {
		attempts++
		if err = client.Send(ctx, signal, ids); err == nil || !Retryable(err) {
			return attempts, err
		}
		again := time.NewTimer(max(pollInterval, RetryDelay(err)))
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return attempts, err
		}
	}
}
