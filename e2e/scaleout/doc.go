// Package scaleout runs examples/scale-out/ for real: agents and gateways, each a collector of its own, on one machine. Gateways
// are killed under load, come back, go away for good and stop as they should; what senders were told is then compared, item by
// item, with what the backend has. And it measures what one, two and four gateways hand on.
//
// It needs the collector of examples/scale-out/builder-config.yaml in BOUNDEDBATCH_COLLECTOR. It is a module of its own so
// that make e2e does not need that. Run it with make scale-out from the root of the repository.
package scaleout
