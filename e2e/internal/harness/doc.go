// Package harness puts a built collector between real OTLP clients and a real OTLP
// backend, for tests that want to know what became of every single item.
//
// A [Signal] makes requests in which everything about an item follows from its
// identity, a number, also its size: from [Bulky] on it is anything up to 1 MiB. A [Client]
// sends them over gRPC or HTTP, and a [Journal] notes what the client was told. A [Backend]
// receives the batches over gRPC or HTTP, can be told to hold, refuse or ignore some or all of
// them, to be late, to end connections or to be killed, and enters what it accepts into a
// [Ledger] for each signal, which knows from an item's identity how it must look.
// [Ledger.Check] compares the two.
// A [Collector] is a child process, which may have several lives:
//
//	backend := harness.NewBackend(t)
//	col := harness.Start(t, harness.Config{Backend: backend, Processor: "{send_batch_size: 100}"})
//	err := col.GRPC(t, nil).Send(t.Context(), harness.Traces, harness.Range{First: 0, Items: 250})
//	...
//	col.Stop(t)
//
// Nothing here sleeps to let something happen. What happens in the test's process
// is told by channels; only a collector's metrics have to be polled, by [Until].
package harness
