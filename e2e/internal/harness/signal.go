package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc"
)

// Range is Items identities, from First on.
type Range struct {
	First uint64
	Items int
}

// String returns the range as failures name it.
func (r Range) String() string {
	return fmt.Sprintf("[%d, %d)", r.First, r.First+uint64(r.Items))
}

// Contains tells if an identity is in the range.
func (r Range) Contains(id uint64) bool { return id-r.First < uint64(r.Items) }

// OfTwoResources returns a range not far behind first, whose items make a request of two
// resources. Requires 1 < items <= 89.
func OfTwoResources(first uint64, items int) Range {
	border := (first/perResource + 2) * perResource
	return Range{First: border - uint64(items)/2, Items: items}
}

// Signal is a kind of telemetry. Its items are made from identities: resource, scope,
// metric and every field of an item are functions of its number, and neighbours share
// a resource, a scope and a metric for a while, as in real traffic.
type Signal interface {
	// Name is what the collector's pipelines and metrics call the signal.
	Name() string
	// DecodedHeap returns how many bytes of heap such a request takes when it is decoded, as
	// measured in this process.
	DecodedHeap(ids Range) int
	// EncodedSize returns how many bytes such a request has.
	EncodedSize(ids Range) int
	// Inseparable is the most neighbours that no batcher parts: 1 where it may cut between any
	// two items, otherwise the samples of a profile.
	Inseparable() int
	// Encoded returns such a request as OTLP has it in protobuf.
	Encoded(ids Range) []byte
	// Identities returns those of the items in an encoded request, or an error if one of them is not
	// as its identity says.
	Identities(encoded []byte) ([]uint64, error)
	// request makes the OTLP request with the items in ids.
	request(ids Range) request
}

// Traces, Logs, Metrics and Profiles are the signals. Metrics are of all five kinds, each of
// them in several forms. Items of profiles are samples.
var (
	Traces   Signal = traces
	Logs     Signal = logs
	Metrics  Signal = metrics
	Profiles Signal = profiles
)

// Signals returns all of them.
func Signals() []Signal { return append(StableSignals(), Profiles) }

// StableSignals returns those that a collector takes without a feature gate.
func StableSignals() []Signal { return []Signal{Traces, Logs, Metrics} }

// request is one OTLP request before it is sent.
type request interface {
	// export makes the gRPC call.
	export(ctx context.Context, cc *grpc.ClientConn) error
	// path and body are the HTTP request.
	path() string
	body() ([]byte, error)
	// answered reads the body of a successful HTTP response.
	answered(body []byte) error
}

// signal is what the kinds of telemetry differ in.
type signal[T any] struct {
	name        string
	url         string
	inseparable int

	generate func(ids Range) T
	// each visits every item, alone with its resource and scope. known is false for
	// an item that has lost its identity.
	each func(data T, visit func(id uint64, known bool, alone T))
	// inspectAll is inspect where items cannot be visited one by one; nil: they can.
	inspectAll func(data T) (ids []uint64, altered []string)
	marshal    func(data T) ([]byte, error)
	unmarshal  func(body []byte) (T, error)
	text       func(data T) ([]byte, error) // for people

	export func(ctx context.Context, cc *grpc.ClientConn, data T) (rejected, error)
	answer func(body []byte) (rejected, error)
}

// rejected is the partial success of an OTLP response.
type rejected struct {
	items   int64
	message string
}

func (r rejected) err() error {
	if r.items == 0 {
		return nil
	}
	return fmt.Errorf("partial success: %d items were rejected: %s", r.items, r.message)
}

// Name implements Signal.
func (s *signal[T]) Name() string { return s.name }

// EncodedSize implements Signal.
func (s *signal[T]) EncodedSize(ids Range) int { return len(s.Encoded(ids)) }

// Encoded implements Signal.
func (s *signal[T]) Encoded(ids Range) []byte { return s.encode(s.generate(ids)) }

// Inseparable implements Signal.
func (s *signal[T]) Inseparable() int { return s.inseparable }

// Identities implements Signal.
func (s *signal[T]) Identities(encoded []byte) ([]uint64, error) {
	data, err := s.unmarshal(encoded)
	if err != nil {
		return nil, err
	}
	ids, altered := s.inspect(data)
	if len(altered) > 0 {
		err = errors.New(altered[0])
	}
	return ids, err
}

func (s *signal[T]) request(ids Range) request {
	return &signalRequest[T]{signal: s, data: s.generate(ids)}
}

type signalRequest[T any] struct {
	signal *signal[T]
	data   T
}

func (r *signalRequest[T]) export(ctx context.Context, cc *grpc.ClientConn) error {
	part, err := r.signal.export(ctx, cc, r.data)
	if err != nil {
		return err
	}
	return part.err()
}

func (r *signalRequest[T]) path() string { return r.signal.url }

func (r *signalRequest[T]) body() ([]byte, error) { return r.signal.marshal(r.data) }

func (r *signalRequest[T]) answered(body []byte) error {
	part, err := r.signal.answer(body)
	if err != nil {
		return err
	}
	return part.err()
}

// inspect returns the identities in data, and a description of every item that is
// not, byte for byte with its resource, scope and metric or profile, what its identity says.
func (s *signal[T]) inspect(data T) (ids []uint64, altered []string) {
	if s.inspectAll != nil {
		return s.inspectAll(data)
	}
	s.each(data, func(id uint64, known bool, alone T) {
		if !known {
			altered = append(altered, fmt.Sprintf("an item has lost its identity: %s", s.print(alone)))
			return
		}
		ids = append(ids, id)
		want := s.generate(Range{First: id, Items: 1})
		if !bytes.Equal(s.encode(alone), s.encode(want)) {
			altered = append(altered, fmt.Sprintf("item %d was altered:\n got %s\nwant %s", id, s.print(alone), s.print(want)))
		}
	})
	return ids, altered
}

func (s *signal[T]) encode(data T) []byte { return must(s.marshal(data)) }

// print is for people, who do not want to see all of what is very large.
func (s *signal[T]) print(data T) []byte { return abbreviate(must(s.text(data))) }

func abbreviate(text []byte) []byte {
	const enough = 4096
	if len(text) > enough {
		return fmt.Appendf(text[:enough:enough], "... (%d bytes)", len(text))
	}
	return text
}

// must is for encoding what pdata itself has made, which cannot fail.
func must(encoded []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return encoded
}
