package harness

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
)

// statusGate makes the health_check extension report the status of components.
const statusGate = "extension.healthcheck.useComponentStatus"

// Health is what the health_check extension says of something and its parts: of the
// collector with its pipelines, or of a pipeline with its components.
type Health struct {
	Healthy bool              `json:"healthy"`
	Status  string            `json:"status"` // such as StatusOK
	Error   string            `json:"error"`
	Parts   map[string]Health `json:"components"`

	// Code is the HTTP status of the answer, for the collector as a whole.
	Code int `json:"-"`
}

// Health asks a collector that was started with ReportStatus.
func (c *Collector) Health(ctx context.Context) (h Health, err error) {
	url := fmt.Sprintf("http://%s/status?verbose", c.ports.address(c.ports.health))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return h, err
	}
	resp, err := c.scraper.Do(req)
	if err != nil {
		return h, err
	}
	defer resp.Body.Close()
	h.Code = resp.StatusCode
	return h, json.NewDecoder(resp.Body).Decode(&h)
}

// Processor returns what is said of boundedbatch in the pipeline of a signal.
func (h Health) Processor(signal Signal) Health {
	return h.Parts["pipeline:"+signal.Name()].Parts["processor:boundedbatch"]
}

// AwaitHealth asks until done returns nil; its last error is why the test fails if that
// takes too long.
func (c *Collector) AwaitHealth(tb testing.TB, done func(Health) error) {
	tb.Helper()
	Until(tb, func(ctx context.Context) error {
		h, err := c.Health(ctx)
		if err != nil {
			return err
		}
		return done(h)
	})
}
