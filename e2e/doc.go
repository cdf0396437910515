// Package e2e tests the processor from outside: a built collector as a child process,
// real OTLP clients in front over gRPC and HTTP, and a real OTLP backend behind that
// knows every item by name. Run it with make e2e from the root of the repository,
// which builds the collector and passes its path in BOUNDEDBATCH_COLLECTOR.
//
// It needs nothing of the processor's module: what is tested is what users run. Only the
// tests in pooling/ have a collector in their own process, and those in compat/ the
// processor beside batch and no collector; those in observe/ need a Prometheus, those in
// scaleout/ a collector with load balancing and Kafka, those in kubernetes/ its types. What is in
// headerssetter/ is built into the collector, for want of the module that users have there,
// and so is what is in panicker/, to have something that panics. The
// tests in soak/ take seconds here, and as long as it takes with make soak.
package e2e
