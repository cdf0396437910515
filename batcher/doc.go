// Package batcher collects telemetry into batches within bounds: the items it holds,
// the age of an item, the size of a batch, the exports under way, and the time that a
// shutdown takes. One generic core, [Batcher], serves every signal; a [Signal] tells it
// what to count and how to move and cut the data.
//
// It knows pdata and client metadata, and nothing of a Collector: no components, YAML,
// logs or metrics. Use it where pdata flows in a program of your own. Inside a Collector
// configure the boundedbatch processor instead, and where requests are large already do not
// batch at all.
//
// # Vocabulary
//
// A request is one call of Consume. An item is a span, a log record, a metric data point or
// a profile sample. Items are accepted when Consume takes responsibility, or refused, when it
// returns an error and keeps nothing. What was accepted is pending in an open batch, then
// sealed in a batch that waits for an export slot, then in flight in an export
// call, perhaps retrying, and ends as delivered, failed or dropped. Held is what is pending,
// sealed, in flight or retrying. A partition is what the items with the same values of
// Settings.MetadataKeys and Settings.ResourceKeys share. A batch is sealed for a reason, its [Trigger]. With
// Settings.WaitForResult the outcome of its items is what Consume returns; a request's
// share of a batch is what the two have in common.
//
// # Life of a request
//
//  1. Consume counts the items, measures them where a limit is in bytes (measure), and reads
//     the caller's context, without any lock. A request with resources of several partitions
//     is divided (partsOf), and each part goes its way.
//  2. If an open batch has room and is not filled by it, or one waits for a slot, the request
//     joins that batch, and that is all. Otherwise admit takes the items from the budget. If
//     they do not fit, the caller waits in line (enterLate) or is refused.
//  3. accept, in the same critical section, moves the request's resources to the open
//     batch of its partition: one pointer each, no item is touched. If the batch would
//     overflow, fill cuts the request outside the lock.
//  4. seal closes the batch when it is full, at a tick of its partition's grid, or for
//     another [Trigger], and puts it into the partition's line.
//  5. dispatch gives a free slot to the first batch of a line; carryOut starts the export. An
//     open batch that is to leave as soon as a slot is free gets one, and is sealed when callers
//     that are about to run have joined it (board).
//  6. exportOne merges what is equal in the batch, if that is wanted, and calls the next
//     consumer. judge decides what follows. settle counts the outcome, gives the items back to
//     the budget, admits who waited for them, and goes on with the next sealed batch; or the
//     batch waits to be sent again (retryLater), or goes back into the line in parts (divide).
//  7. A caller that waits has its answer when all batches with a share of its request are
//     settled. If its context ends before, what is pending is withdrawn.
//
// # Files
//
//	batcher.go    Batcher: New, Start, Consume, and how items get into batches
//	late.go       requests, pieces and parts that wait for room
//	pieces.go     requests that must be cut to fit into batches
//	lost.go       items that no batch can take
//	resources.go  requests with resources of several partitions
//	shutdown.go   the stages of Shutdown
//	schedule.go   the scheduling goroutine: ticks, and when to send again
//	flush.go      from sealed to the next consumer: slots and export calls
//	merge.go      what is equal in a batch, put together before its first export
//	same.go       what is equal
//	ready.go      who may have the next slot; which open batch is the fullest
//	settle.go     what becomes of a batch when its export has ended
//	retry.go      what failed and is sent again as it is
//	isolation.go  what was refused for good and is sent again in parts
//	status.go     what gRPC statuses in errors say: whose fault, when to come back
//	join.go       one error of several outcomes; whose data is in it
//	outcome.go    callers that wait: their shares, answers and withdrawals
//	budget.go     exact admission, first come first served, fair among partitions
//	ticker.go     many instants, the earliest first, and one timer: grids, retries
//	key.go        the identity of a partition, and what downstream sees of it
//	partition.go  lookup, the limit of live partitions
//	away.go       what has left and has no outcome, how old it is, why the last batches left
//	snapshot.go   what is going on, for who wants to look inside
//	pending.go    a batch and a partition's line, as plain data
//	sizer.go      what requests weigh: items, bytes encoded, bytes of heap
//	footprint.go  how much heap Go has allocated for data; footprint_traces.go and so on
//	splitter.go   one forward pass that cuts any signal
//	signal.go     what a signal must tell; traces.go, logs.go, metrics.go tell it
//	profiles*.go  the same for profiles, which share a dictionary in a batch
//	settings.go, observer.go, errors.go, list.go, heap.go
//
// # Locks and goroutines
//
// There is one lock, Batcher.mu. It guards plain data: the budget, the grids, the lines,
// the slots and the counts. Under it we compute; whoever has to be woken, launched or told
// is collected and served after it is released. So there is no lock order to keep.
//
//	goroutine   started by  woken by             ends
//	callers     the user                         with Consume
//	schedule    Start       its two timers       Shutdown closes stop
//	export      carryOut    (runs from there)    when no batch is left for its slot
//
// One timer is for the ticks of all partitions, the other for all retries.
//
// A caller that waits for room is woken by a grant, its context or Shutdown; one that waits
// for its outcome by that, its context or the end of Shutdown, which says that it is not known. An export
// slot is taken under the lock before its goroutine starts, so there are never more
// export goroutines than Settings.MaxConcurrentExports. An idle batcher has one goroutine,
// asleep, and no timer armed.
//
// # Invariants
//
//	0 <= held <= used <= capacity, in items and in bytes of heap, and used is 0 in the end
//	accepted = delivered + failed + dropped + pending + sealed + in flight + retrying, at any instant
//	0 < items of a batch <= SendBatchMaxSize and bytes <= SendBatchMaxBytes, if these are set
//	  and it is not a single profile
//	exports under way <= MaxConcurrentExports, and per partition its own limit
//	held of a partition <= 7 x what was free when it was last admitted, if there are keys,
//	  but for one that held nothing
//	sealed - accepted <= Timeout for every item, but for a late wake-up
//	batches of a partition begin their exports in the order in which they were sealed, and
//	with one export per partition nothing overtakes a batch that is sent again
//	every share has exactly one answer, or was withdrawn
//
// # Not obvious
//
// A request that must be cut is cut outside the lock, while others go on. The batch it
// fills up has been sealed before, with filling set: it keeps its place in the line and
// stops what is behind it, or a batch accepted later could overtake it.
//
// The budget is taken before items are accepted and given back when they have an outcome,
// so used also counts callers that are about to move theirs in. The counts in [Stats] do
// not.
//
// An element that is cut in two is copied but for its children. What the copies will take is
// estimated when the request is measured, so that the pieces together are never charged more
// than was taken from the budget.
//
// In a batch profiles share one dictionary, so their sizes do not add up: see sharing in signal.go.
// With a limit in bytes their requests are therefore put together when they join a batch, also
// where callers wait.
//
// The heap of a batch stays taken until the last of its items has an outcome, also while
// only some of them are sent again: the data is kept until then.
//
// What is handed on is no longer ours, but may have to be sent again. Unless it declares
// that it mutates data, the next consumer leaves it as it is; otherwise it gets a copy, if a
// setting needs that. The engine holds a reference (Signal.Ref) to what it may need after
// others have let go of it: to a batch from its first export until it is settled, and to a
// request whose caller waits until it is put together with the others of its batch.
//
// Parts of a batch are copies, although moving would be cheaper: the consumer that has
// refused the batch may still read it, for instance as one of several behind a fan-out.
//
// Answers are given after b.mu is released, and Shutdown may be over before. A caller that
// is woken by that looks for its answer under the lock (known).
//
// A sealed batch takes what comes next while it waits for its first slot and nothing is open
// behind it (line.last). So its items were accepted before or after it was sealed, and in
// order.
//
// Who waits for room holds neither budget nor anything else that others wait for. The parts
// of one request wait side by side with one channel; each is placed as it is granted.
//
// A partition with keys exists while it holds anything or ticks. Retiring it under the
// limit of live partitions seals it but does not forget it while it has a sealed batch, an
// export under way or one to retry: if it came back as a new one, its batches could overtake the old.
package batcher
