package e2e

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/boundedbatch/boundedbatchprocessor/e2e/internal/harness"
)

// The health check sees a processor whose batches are refused, of each pipeline by
// itself, and sees it recover.
func TestHealthCheckShowsFailureAndRecovery(t *testing.T) {
	const items = 10
	for name, refusal := range map[string]error{"permanent": permanent, "retryable": retryable} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			backend := harness.NewBackend(t)
			col := harness.Start(t, harness.Config{
				Backend: backend, Processor: "{send_batch_size: 10}", ReportStatus: true,
			})
			client := col.GRPC(t, nil)
			sendOf := func(signal harness.Signal) {
				require.NoError(t, send(t.Context(), client, signal, harness.Range{Items: items}))
			}
			col.AwaitHealth(t, func(h harness.Health) error { return checkHealth(h) })
			for _, signal := range harness.Signals() {
				sendOf(signal)
				col.AwaitItems(t, items, signal, "delivered_items")
			}
			h, err := col.Health(t.Context())
			require.NoError(t, err)
			require.NoError(t, checkHealth(h))

			// One pipeline after the other gets into trouble.
			backend.Refuse(refusal)
			for i, signal := range harness.Signals() {
				sendOf(signal)
				col.AwaitItems(t, items, signal, "failed_items", "cause", name)
				col.AwaitHealth(t, func(h harness.Health) error { return checkHealth(h, harness.Signals()[:i+1]...) })
			}
			h, err = col.Health(t.Context())
			require.NoError(t, err)
			for _, signal := range harness.Signals() {
				assert.NotEmpty(t, h.Processor(signal).Error, signal.Name())
			}

			backend.Accept()
			for _, signal := range harness.Signals() {
				sendOf(signal)
				col.AwaitItems(t, 2*items, signal, "delivered_items")
			}
			col.AwaitHealth(t, func(h harness.Health) error { return checkHealth(h) })
			col.Stop(t)
		})
	}
}

// checkHealth returns an error unless the processors of exactly those signals, and for
// their sake the collector, are unhealthy.
func checkHealth(h harness.Health, unhealthy ...harness.Signal) error {
	code := http.StatusOK
	sick := make(map[harness.Signal]bool)
	for _, signal := range unhealthy {
		sick[signal] = true
		code = http.StatusInternalServerError
	}
	if h.Code != code || h.Healthy != (len(sick) == 0) {
		return fmt.Errorf("the collector answers %d: %+v", h.Code, h)
	}
	for _, signal := range harness.Signals() {
		if p := h.Processor(signal); p.Status == "" || p.Healthy == sick[signal] {
			return fmt.Errorf("the processor of %s is %+v", signal.Name(), p)
		}
	}
	return nil
}
