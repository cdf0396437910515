//go:generate make generate

// Package boundedbatchprocessor is a batching processor for the OpenTelemetry
// Collector in which memory, the age of an item, the size of a batch, concurrent
// exports and the time of a shutdown are all bounded.
//
// Compile it into a Collector with the builder (ocb) and enable it in a pipeline as
// "boundedbatch". The first five configuration keys are those of the batch processor.
// To batch in a program of your own, without a Collector, use package batcher.
package boundedbatchprocessor
