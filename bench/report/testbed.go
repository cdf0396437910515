package main

// What docs/testbed.md contains. The module e2e/testbed/ measures it.

// testbedItems and testbedAttributes are the loads under which the two processors are compared.
const (
	testbedItems      = "Items/signal=traces|logs|metrics/protocol=grpc|http"
	testbedAttributes = "Attributes/signal=traces/protocol=grpc/attributes=0|10|20|100"
	itemsWords        = "10,000 {signal} a second, {protocol}"
	attributesWords   = "1,000 spans a second with {attributes} attributes each, {protocol}"
)

var (
	residentMean = peerTerm(term{unit: "ram-MiB"})
	residentMax  = peerTerm(term{unit: "ram-max-MiB"})
)

const waiting = us + "+wait_for_result"

// underLoads is a row for either kind of load.
func underLoads(of func(peer string) term, bar bar) []row {
	return []row{
		{what: itemsWords, of: testbedItems, num: of(us), den: to(of, "batch"), against: "batch", bar: bar},
		{what: attributesWords, of: testbedAttributes, num: of(us), den: to(of, "batch"), against: "batch", bar: bar},
	}
}

// arrival is a row about what was received of what was sent, of a peer or, if that is empty, of those of the pattern.
func arrival(what string, of pattern, peer string, bar bar) row {
	r := row{what: what, of: of, num: term{unit: "received-items"}, den: &term{unit: "sent-items"}, against: "what was sent", bar: bar}
	if peer != "" {
		r.num.set, r.den.set = "impl="+peer, "impl="+peer
	}
	return r
}

var testbedPaper = paper{
	file: "testbed.md", results: "e2e/results", files: []string{"testbed-*.txt"},
	introduction: `# The Collector's testbed

<!-- Written by make testbed from e2e/results/. Change the results or bench/report/testbed.go, not this page. -->

boundedbatch and ` + "`batch`" + ` under the loads of the testbed that the Collector's contrib repository holds its own components
against: the same generators, senders, backend and limits, and a collector that ocb has built, in a process of its own. A run in
which the collector refuses its configuration, ends too early or with a status other than 0, refuses a sender, or exceeds
upstream's limits of CPU and memory for the scenario fails, as does one in which what was received is not what was sent;
upstream's scenarios pass then. [e2e/results/](../e2e/results/) has every run.

How the two are compared: they take turns, each first in every other pair, and a ratio is that of one pair. What counts is the
median of the pairs. Whatever else the machine does changes slowly against the length of a pair, so that it hits both sides or
spoils one pair, and a median does not care about one. Means, and the totals of all runs of each, would. CPU is that of the
collector's process by its own clock, from the beginning of the load to the last arrival, for each item: where a busy machine
lets the generator make less than the load, a percentage of a core would fall for both alike and hide a difference. Memory is
the mean of the resident set in the same time, read every 50 ms; most of it is the collector itself and its garbage
collector's headroom. What the testbed reads by itself, every 3 s since the start of the process, is beside that in the raw
results, and is what upstream's limits are held against; it is too coarse for a comparison.

`,
}

var testbed = report{
	paper: testbedPaper,
	groups: []group{
		{
			title: "Delivery",
			text: "What the backend has received of what was sent. What upstream's generator takes for one metric has 7 data points: with " +
				"metrics there are 70,000 data points a second.",
			command: "make testbed",
			rows: []row{
				arrival(itemsWords, testbedItems, us, atLeast(1)),
				arrival(attributesWords, testbedAttributes, us, atLeast(1)),
			},
		},
		{
			title: "CPU",
			text: "Requests of 100 items with the default configuration, or of 10 spans with attributes of 50 bytes (100), 1,000 (10) or 5,000 " +
				"(20) on average. With attributes, batches are limited in items so that the backend can take them (4 MiB), with the same " +
				"keys for both. With 100 kB a span the generator, which compresses in one goroutine, does not get to 1,000 a second.",
			command: "make testbed",
			rows:    underLoads(itemCPU, atMost(1.05)),
		},
		{
			title:   "Memory",
			text:    "The mean of the resident set in the same runs.",
			command: "make testbed",
			rows:    underLoads(residentMean, atMost(1.05)),
		},
		{
			title:   "Greatest memory",
			text:    "The greatest reading of the resident set in the same runs. It is a matter of when the garbage collector runs, and has no bar.",
			command: "make testbed",
			rows:    underLoads(residentMax, bar{}),
		},
		{
			title: "Queues and the memory limiter",
			text: "100 log records a second with an exporter's queue of 100 requests, which is never full; the same with a queue of 10 " +
				"requests and a backend that refuses until the queue is full; and 100,000 a second with a backend that refuses until the " +
				"memory limiter does, and for as long as a test takes after that. Upstream has no batching processor there: the " +
				"sender is refused, and sends again. With `wait_for_result` it is the same, and nothing is lost. Without it, as with " +
				"`batch`, the sender has been told that all is well when the queue refuses the batch. What is lost then is what the " +
				"exporter's queue has refused, and is counted by boundedbatch as failed, to the item; `batch` does not count it. " +
				"That, and that no record came twice, is asserted in each run. CPU and memory are not compared: 10 requests a " +
				"second take less CPU than its measurement is off, and with the limiter memory is what the limiter allows.",
			command: "make testbed",
			rows: []row{
				arrival("Queue not full, {impl}", "Queue/queue=100/impl=boundedbatch|batch", "", atLeast(1)),
				arrival("Queue full, with `wait_for_result`", "Queue/queue=10", waiting, atLeast(1)),
				arrival("Queue full, {impl}", "Queue/queue=10/impl=boundedbatch|batch", "", bar{}),
				arrival("Memory limiter hit, {impl}", "Limiter/limit=300/impl=boundedbatch|batch", "", atLeast(1)),
			},
		},
	},
}
