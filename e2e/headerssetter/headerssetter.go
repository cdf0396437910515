// Package headerssetter stands in for the headers_setter extension of the Collector's
// contrib distribution, whose module the builder cannot fetch. It has the same type and
// does the same with the keys that examples/ and the tests need: what runs here runs
// there.
//
// An exporter that authenticates with it sends headers whose values are those of client
// metadata, which is where a batch carries what its partition was made of.
package headerssetter

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"go.opentelemetry.io/collector/client"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/extension"
	"go.opentelemetry.io/collector/extension/extensionauth"
	"google.golang.org/grpc/credentials"
)

// NewFactory returns the factory of headers_setter.
func NewFactory() extension.Factory {
	return extension.NewFactory(
		component.MustNewType("headers_setter"),
		func() component.Config { return new(Config) },
		func(_ context.Context, _ extension.Settings, cfg component.Config) (extension.Extension, error) {
			return &setter{headers: cfg.(*Config).Headers}, nil
		},
		component.StabilityLevelDevelopment,
	)
}

// Config is the extension's configuration.
type Config struct {
	Headers []Header `mapstructure:"headers"`
}

// Header is a header and where its value comes from.
type Header struct {
	Key string `mapstructure:"key"`
	// FromContext is the client metadata key that has the value.
	FromContext string `mapstructure:"from_context"`
	// DefaultValue is sent where that key is unset.
	DefaultValue string `mapstructure:"default_value"`
	// Action is what happens to a header that is there already. Only upsert, which
	// replaces it, is known here.
	Action string `mapstructure:"action"`
}

// Validate implements xconfmap.Validator.
func (c *Config) Validate() error {
	if len(c.Headers) == 0 {
		return errors.New("headers: none; accepted are one and more")
	}
	return nil
}

// Validate implements xconfmap.Validator.
func (h *Header) Validate() error {
	switch {
	case h.Key == "":
		return errors.New("key: empty; accepted is a header's name")
	case h.FromContext == "":
		return errors.New("from_context: empty; accepted is a client metadata key")
	case h.Action != "upsert":
		return fmt.Errorf("action: %q; accepted is upsert", h.Action)
	}
	return nil
}

// value returns what to send with an export call. Of several values none is the right
// one: the call fails.
func (h *Header) value(ctx context.Context) (string, error) {
	switch values := client.FromContext(ctx).Metadata.Get(h.FromContext); len(values) {
	case 0:
		return h.DefaultValue, nil
	case 1:
		return values[0], nil
	default:
		return "", fmt.Errorf("header %s: client metadata key %s has %d values", h.Key, h.FromContext, len(values))
	}
}

type setter struct {
	component.StartFunc
	component.ShutdownFunc

	headers []Header
}

var (
	_ extensionauth.GRPCClient      = (*setter)(nil)
	_ extensionauth.HTTPClient      = (*setter)(nil)
	_ credentials.PerRPCCredentials = (*setter)(nil)
)

// PerRPCCredentials implements extensionauth.GRPCClient.
func (s *setter) PerRPCCredentials() (credentials.PerRPCCredentials, error) { return s, nil }

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (s *setter) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	set := make(map[string]string, len(s.headers))
	for i := range s.headers {
		value, err := s.headers[i].value(ctx)
		if err != nil {
			return nil, err
		}
		set[s.headers[i].Key] = value
	}
	return set, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials.
func (*setter) RequireTransportSecurity() bool { return false }

// RoundTripper implements extensionauth.HTTPClient.
func (s *setter) RoundTripper(base http.RoundTripper) (http.RoundTripper, error) {
	return roundTripper{setter: s, base: base}, nil
}

type roundTripper struct {
	setter *setter
	base   http.RoundTripper
}

// RoundTrip implements http.RoundTripper, which must leave the request as it is.
func (r roundTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	set, err := r.setter.GetRequestMetadata(req.Context())
	if err != nil {
		return nil, err
	}
	req = req.Clone(req.Context())
	for key, value := range set {
		req.Header.Set(key, value)
	}
	return r.base.RoundTrip(req)
}
