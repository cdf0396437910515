// Package batcher collects telemetry into batches within bounds: the items it holds,
// the age of an item, the size of a batch, the exports under way, and the time that a
// shutdown takes. One generic core, [Batcher], serves every signal; a [Signal] tells it
// what to count and how to move and cut the data.
//
// It knows pdata and client metadata, and nothing of a Collector: no components, YAML,
// logs or metrics. Use it where pdata flows in a program of your own. Inside a Collector
// configure the boundedbatch processor instead, and where requests are large already, or
// every request must be acknowledged by its destination, do not batch at all.
//
// # Vocabulary
//
// A request is one call of Consume. An item is a span, a log record or a metric data
// point. Items are accepted when Consume takes responsibility, or refused, when it
// returns an error and keeps nothing. What was accepted is pending in an open batch, then
// sealed in a closed batch that waits for an export slot, then in flight in an export
// call, and ends as delivered, failed or dropped. Held is what is pending, sealed or in
// flight. A partition is what the requests with the same values of Settings.MetadataKeys
// share. A batch is sealed for a reason, its [Trigger].
//
// # Life of a request
//
//  1. Consume counts the items and reads the caller's context, without any lock.
//  2. If an open batch has room and is not filled by it, the request joins that batch, and
//     that is all. Otherwise admit takes the items from the budget. If they do not fit, the caller waits in line
//     or is refused.
//  3. accept, in the same critical section, moves the request's resources to the open
//     batch of its partition: one pointer each, no item is touched. If the batch would
//     overflow, fill cuts the request outside the lock.
//  4. seal closes the batch when it is full, at a tick of its partition's grid, or for
//     another [Trigger], and puts it into the partition's line.
//  5. dispatch gives a free slot to the first batch of a line; launch starts the export.
//  6. exportOne calls the next consumer. settle counts the outcome, gives the items back
//     to the budget, admits who waited for them, and goes on with the next sealed batch.
//
// # Files
//
//	batcher.go    Batcher: New, Start, Consume, and how items get into batches
//	pieces.go     requests that must be cut, because of a batch's size or of the budget
//	shutdown.go   the stages of Shutdown
//	flush.go      from sealed to delivered: ticks, slots, export calls, outcomes
//	budget.go     exact admission, first come first served
//	ticker.go     the grids of all partitions and the one timer
//	partition.go  identity, lookup, the limit of live partitions
//	pending.go    a batch and a partition's line, as plain data
//	splitter.go   one forward pass that cuts any signal
//	signal.go     what a signal must tell; traces.go, logs.go, metrics.go tell it
//	settings.go, observer.go, errors.go, list.go
//
// # Locks and goroutines
//
// There is one lock, Batcher.mu. It guards plain data: the budget, the grids, the lines,
// the slots and the counts. Under it we compute; whoever has to be woken, launched or told
// is collected and served after it is released. So there is no lock order to keep.
//
//	goroutine   started by  woken by             ends
//	callers     the user                         with Consume
//	schedule    Start       the timer            Shutdown closes stop
//	export      launch      (runs from launch)   when no sealed batch is left for its slot
//
// A caller that waits for room is woken by a grant, its context or Shutdown. An export
// slot is taken under the lock before its goroutine starts, so there are never more
// export goroutines than Settings.MaxConcurrentExports. An idle batcher has one goroutine,
// asleep, and no timer armed.
//
// # Invariants
//
//	0 <= held <= used <= capacity, and used is 0 in the end
//	accepted = delivered + failed + dropped + pending + sealed + in flight, at any instant
//	0 < items of a batch <= SendBatchMaxSize, if that is set
//	exports under way <= MaxConcurrentExports, and per partition its own limit
//	sealed - accepted <= Timeout for every item, but for a late wake-up
//	batches of a partition begin their exports in the order in which they were sealed
//
// # Not obvious
//
// A request that must be cut is cut outside the lock, while others go on. The batch it
// fills up has been sealed before, with filling set: it keeps its place in the line and
// stops what is behind it, or a batch accepted later could overtake it.
//
// The budget is taken before items are accepted and given back when their export has
// returned, so used also counts callers between the two. The counts in [Stats] do not.
//
// A partition with keys exists while it holds anything or ticks. Retiring it under the
// limit of live partitions seals it but does not forget it while it has a sealed batch or
// an export under way: if it came back as a new one, its batches could overtake the old.
package batcher
