package batcher

import (
	"errors"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

// alike tells whether two refusals have the same reason, which then is not in the data:
// they read the same, or both say that the sender is not who may send or does not send
// where it may.
func alike(a, b error) bool {
	if a.Error() == b.Error() {
		return true
	}
	return notForData(a) && notForData(b)
}

func notForData(err error) bool {
	s, ok := status.FromError(err)
	if !ok {
		return false
	}
	switch s.Code() {
	case codes.Unauthenticated, codes.PermissionDenied, codes.Unimplemented:
		return true
	}
	return false
}

// throttle returns how long the server behind an error asks its clients to wait: in
// google.rpc.RetryInfo, which OTLP prescribes for gRPC, or in what exporterhelper's
// NewThrottleRetry makes of a Retry-After header. The latter shows only in its text.
func throttle(err error) time.Duration {
	if s, ok := status.FromError(err); ok {
		if info := retryInfo(s); info != nil {
			return info.GetRetryDelay().AsDuration()
		}
	}
	for ; err != nil; err = errors.Unwrap(err) {
		rest, ok := strings.CutPrefix(err.Error(), "Throttle (")
		if !ok {
			continue
		}
		text, _, _ := strings.Cut(rest, ")")
		if wait, err := time.ParseDuration(text); err == nil {
			return wait
		}
	}
	return 0
}

// repeatable makes sure that what is worth a repetition reads like it for an OTLP client.
// Over gRPC one repeats RESOURCE_EXHAUSTED only if it comes with RetryInfo
// (opentelemetry-proto, docs/specification.md, "Failures"), which is not there if the code
// was made of an HTTP 429.
func repeatable(err error) error {
	s, ok := status.FromError(err)
	if !ok || s.Code() != codes.ResourceExhausted || isPermanent(err) || retryInfo(s) != nil {
		return err
	}
	if s, failed := s.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(throttle(err))}); failed == nil {
		return withStatus{err, s}
	}
	return err
}

// retryInfo is what a status says about when to repeat a request, or nil.
func retryInfo(s *status.Status) *errdetails.RetryInfo {
	for _, detail := range s.Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			return info
		}
	}
	return nil
}

// withStatus is an error with another gRPC status than its own.
type withStatus struct {
	error
	status *status.Status
}

// GRPCStatus is what google.golang.org/grpc/status looks for.
func (w withStatus) GRPCStatus() *status.Status { return w.status }

func (w withStatus) Unwrap() error { return w.error }
