package harness

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"testing"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// Client is an OTLP client. It tries each request once: nil says that the collector
// has acknowledged all items of it. It may be used by several goroutines.
type Client interface {
	// Protocol is "grpc" or "http".
	Protocol() string
	// Send makes the request with the items in ids and waits for its answer. The
	// error is a gRPC status over gRPC and, if there was an answer, an *HTTPError
	// over HTTP.
	Send(ctx context.Context, signal Signal, ids Range) error
}

// Header is metadata that a client sends with every request.
type Header map[string][]string

// HTTPError is an answer other than 200.
type HTTPError struct {
	StatusCode int
	Message    string // of the status that OTLP puts into the body
}

// Error implements error.
func (e *HTTPError) Error() string {
	return fmt.Sprintf("HTTP status %d: %s", e.StatusCode, e.Message)
}

// GRPC returns a client with a connection of its own, which ends with the test.
func (c *Collector) GRPC(tb testing.TB, header Header) Client {
	tb.Helper()
	cc, err := grpc.NewClient(c.ports.address(c.ports.grpc), grpc.WithTransportCredentials(insecure.NewCredentials()))
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
	return signal.request(ids).export(metadata.NewOutgoingContext(ctx, c.metadata), c.cc)
}

// HTTP returns a client with connections of its own, which end with the test.
func (c *Collector) HTTP(tb testing.TB, header Header) Client {
	tb.Helper()
	transport := &http.Transport{}
	tb.Cleanup(transport.CloseIdleConnections)
	return &httpClient{
		client: &http.Client{Transport: transport},
		base:   "http://" + c.ports.address(c.ports.http),
		header: header,
	}
}

type httpClient struct {
	client *http.Client
	base   string
	header Header
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
	req.Header.Set("Content-Type", "application/x-protobuf")
	resp, err := c.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return &HTTPError{StatusCode: resp.StatusCode, Message: statusMessage(answer)}
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
