// Package pipeline measures whole Collectors: OTLP over gRPC in, batches of OTLP over gRPC
// out, with boundedbatch in between or another batcher. The README tells how, and where the
// results are; make bench-pipeline runs it.
//
// It is a module of its own because whole Collectors are compiled into it.
package pipeline
