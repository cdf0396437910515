// Package pooling tests the processor in a collector that reuses the memory of pdata
// (the feature gate pdata.useProtoPooling) within the test's own process, so that the
// race detector sees every access: a real OTLP receiver in front, and behind an exporter
// that looks at every item and keeps none.
//
// It is a module of its own because a whole collector is compiled into it. Run it with
// make e2e from the root of the repository.
package pooling
