// Package boundedbatchzextension is the boundedbatchz extension of the OpenTelemetry Collector: a page for operators, in
// HTML and as JSON, of what the boundedbatch processors of the same Collector hold, for whom, how old it is, why their
// last batches left and who waits for room. It costs nothing while nobody looks.
//
//go:generate mdatagen metadata.yaml
package boundedbatchzextension
