package boundedbatchprocessor

import (
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
)

// statusReport is what the host knows of the component's status and what it is to be told
// next. The service itself reports the start and the end, and permits no OK once the
// shutdown has begun.
type statusReport struct {
	host      component.Host         // nil: not started yet, or shutting down: nothing is reported
	next      *componentstatus.Event // nil: nothing new
	reporting bool                   // a goroutine is in report, and goes on with next
}

// set makes e the next event, in place of one that has not been reported yet.
func (s *statusReport) set(e *componentstatus.Event) {
	if s.host != nil {
		s.next = e
	}
}

// start begins the reports of status. Called at the end of Start.
func (h *health) start(host component.Host) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.status.host = host
}

// report tells the host the latest status. A host is not called under a lock, so two
// goroutines could overtake each other, and the older event would stay for ever:
// therefore one of them reports for both.
func (h *health) report() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.status.reporting {
		return
	}
	h.status.reporting = true
	for h.status.host != nil && h.status.next != nil {
		host, e := h.status.host, h.status.next
		h.status.next = nil
		h.mu.Unlock()
		componentstatus.ReportStatus(host, e)
		h.mu.Lock()
	}
	h.status.reporting = false
}
