package main

// What the report contains: every table, every bar, every plot. What measures them again is beside
// them; what the words mean is in report.go and, for patterns and terms, in measure.go.

const (
	gate     = "make bench-results"
	suite    = "make bench"
	whole    = "make bench-pipeline"
	idleness = `go test -C bench -count 10 -timeout 20m -run 'TestIdle|TestMemoryOfTenant' . -results results/idle-2-cores.txt -commit "$(git describe --always)"`
)

// What is measured of one peer.
var (
	cpu       = peerTerm(term{unit: "cpu-ns/req"})
	elapsed   = peerTerm(term{unit: "ns/req"})
	itemCPU   = peerTerm(term{unit: "cpu-ns/item"})
	itemTime  = peerTerm(term{unit: "ns/item"})
	idleCPU   = peerTerm(term{unit: "cpu-ns/s", over: "bare-cpu-ns/s", times: percent})
	switches  = peerTerm(term{unit: "switches/s", over: "bare-switches/s"})
	tenantMem = peerTerm(term{unit: "heap-B/tenant"})
	// ownCPU is without what the producers do besides.
	ownCPU     = peerTerm(term{unit: "cpu-ns/req", over: "bare-cpu-ns/req", signed: true})
	bytesEach  = peerTerm(term{unit: "B/req"})
	allocsEach = peerTerm(term{unit: "allocs/req"})
	fullness   = peerTerm(term{unit: "fill"})
	answerTime = peerTerm(term{unit: "ms-answer/req"})
)

// percent of a core, from ns a second.
const percent = 1e-7

func peerTerm(t term) func(peer string) term {
	return func(peer string) term { t.set = "impl=" + peer; return t }
}

// configuredCPU is of a peer with a certain configuration.
func configuredCPU(peer, config string) term {
	return term{set: "impl=" + peer + " config=" + config, unit: "cpu-ns/item"}
}

// byteLimit is the CPU that a limit in bytes adds to a request.
func byteLimit(limit string) term {
	return term{set: "limit=" + limit, minus: "limit=none", unit: "cpu-ns/req"}
}

// byteRequests are of 8 sizes, as what was just decoded and as what has left the cache.
const byteRequests = "ByteLimits/signal=traces|logs|metrics/items=1|10|100|1000/attributes=5|20/cache=cold|warm"

var (
	// twice is the CPU of a whole request, and half that of one with half the items.
	twice = term{set: "impl=boundedbatch", unit: "cpu-ns/item", times: 2}
	half  = &term{set: "impl=boundedbatch items=/2", unit: "cpu-ns/item"}
	walk  = &term{set: "limit=walk", unit: "cpu-ns/req"}
	// batchAsItComes is the CPU of a pipeline with it.
	batchAsItComes = &term{set: "impl=batch config=defaults", unit: "cpu-ns/item"}
)

const us = "boundedbatch"

var groups = []group{
	{
		title: "CPU of a request",
		text: "Default configuration, instant downstream, producers that do nothing else: the CPU of the whole process, as a share " +
			"of what another batcher takes. The bars of data points are by a fifth wider. exporterhelper has a large queue and 10 consumers. " +
			"The floor counts the items, moves the request under one mutex into an open batch and hands on a full one; the first of these, " +
			"counting, is the first look at a request.",
		command: gate,
		rows: []row{
			{what: "10 {signal}, {producers}", of: "Consume/signal=traces|logs/items=10/producers=1", num: cpu(us), den: to(cpu, "batch"), against: "batch", bar: atMost(0.20)},
			{what: "10 {signal}, {producers}", of: "Consume/signal=traces|logs/items=10/producers=8|64", num: cpu(us), den: to(cpu, "batch"), against: "batch", bar: atMost(0.30)},
			{what: "10 {signal}, {producers}", of: "Consume/signal=metrics/items=10/producers=1", num: cpu(us), den: to(cpu, "batch"), against: "batch", bar: atMost(0.24)},
			{what: "10 {signal}, {producers}", of: "Consume/signal=metrics/items=10/producers=8", num: cpu(us), den: to(cpu, "batch"), against: "batch", bar: atMost(0.36)},
			{what: "10 {signal}, {producers}", of: "Consume/signal=metrics/items=10/producers=64", num: cpu(us), den: to(cpu, "batch"), against: "batch", bar: atMost(0.36)},
			{what: "10 {signal}, {producers}", of: "Consume/signal=traces|logs/items=10/producers=1|8|64", num: cpu(us), den: to(cpu, "exporterhelper"), against: "exporterhelper", bar: atMost(0.20), sparse: true},
			{what: "10 {signal}, {producers}", of: "Consume/signal=metrics/items=10/producers=1|8|64", num: cpu(us), den: to(cpu, "exporterhelper"), against: "exporterhelper", bar: atMost(0.24), sparse: true},
			{what: "100 {signal}, {producers}", of: "Consume/signal=traces|logs/items=100/producers=1", num: cpu(us), den: to(cpu, "batch"), against: "batch", bar: atMost(0.30)},
			{what: "100 {signal}, {producers}", of: "Consume/signal=traces|logs/items=100/producers=8", num: cpu(us), den: to(cpu, "batch"), against: "batch", bar: atMost(0.45)},
			{what: "100 {signal}, {producers}", of: "Consume/signal=traces|logs/items=100/producers=64", num: cpu(us), den: to(cpu, "batch"), against: "batch", bar: atMost(0.40)},
			{what: "100 {signal}, {producers}", of: "Consume/signal=metrics/items=100/producers=1", num: cpu(us), den: to(cpu, "batch"), against: "batch", bar: atMost(0.36)},
			{what: "100 {signal}, {producers}", of: "Consume/signal=metrics/items=100/producers=8", num: cpu(us), den: to(cpu, "batch"), against: "batch", bar: atMost(0.54)},
			{what: "100 {signal}, {producers}", of: "Consume/signal=metrics/items=100/producers=64", num: cpu(us), den: to(cpu, "batch"), against: "batch", bar: atMost(0.48)},
			{what: "100 {signal}, {producers}", of: "Consume/signal=traces|logs/items=100/producers=1|8|64", num: cpu(us), den: to(cpu, "exporterhelper"), against: "exporterhelper", bar: atMost(0.20), sparse: true},
			{what: "100 {signal}, {producers}", of: "Consume/signal=metrics/items=100/producers=1|8|64", num: cpu(us), den: to(cpu, "exporterhelper"), against: "exporterhelper", bar: atMost(0.24), sparse: true},
			{what: "10 {signal}, {producers}", of: "Consume/signal=traces|logs/items=10/producers=1", num: cpu(us), den: to(cpu, "floor"), against: "the floor", bar: atMost(2)},
			{what: "the floor, {items} {signal}, {producers}", of: "Consume/signal=traces|logs|metrics/items=10|100/producers=1|8|64", num: cpu("floor"), den: to(cpu, "batch"), against: "batch"},
			{what: "counting alone, {items} {signal}, {producers}", of: "Consume/signal=traces|logs|metrics/items=10|100/producers=1|8|64", num: cpu("counting"), den: to(cpu, "batch"), against: "batch", sparse: true},
			{what: "single {signal}, {producers}", of: "Consume/signal=traces|logs|metrics/items=1/producers=1|8|64", num: cpu(us), den: to(cpu, "batch"), against: "batch"},
			{what: "10 resources of 10 {signal}, {producers}", of: "Resources/signal=traces|logs|metrics/items=100/producers=1|8|64", num: cpu(us), den: to(cpu, "batch"), against: "batch"},
		},
	},
	{
		title: "CPU of a request among other work",
		text: "Requests of 10 items from producers that have something else to do, or are asleep. What is compared is what is left of " +
			"the CPU of the process when that of the same producers without a batcher is subtracted. A round says too little of it: the " +
			"ratio is of the two medians.",
		command: gate,
		rows: []row{
			{what: "6 µs of work between two requests, {signal}, {producers}", of: "Busy/signal=traces|logs/producers=1", num: ownCPU(us), den: to(ownCPU, "batch"), against: "batch", medians: true, bar: atMost(0.15)},
			{what: "6 µs of work between two requests, {signal}, {producers}", of: "Busy/signal=traces|logs/producers=8", num: ownCPU(us), den: to(ownCPU, "batch"), against: "batch", medians: true, bar: atMost(0.40)},
			{what: "6 µs of work between two requests, {signal}, {producers}", of: "Busy/signal=traces|logs/producers=1|8", num: ownCPU(us), den: to(ownCPU, "exporterhelper"), against: "exporterhelper", medians: true, bar: atMost(0.20)},
			{what: "2,000 requests a second, {signal}", of: "Paced/signal=traces|logs/rate=2000", num: ownCPU(us), den: to(ownCPU, "batch"), against: "batch", medians: true, bar: atMost(0.15)},
			{what: "2,000 requests a second, {signal}", of: "Paced/signal=traces|logs/rate=2000", num: ownCPU(us), den: to(ownCPU, "exporterhelper"), against: "exporterhelper", medians: true, bar: atMost(0.20)},
		},
	},
	{
		title:   "CPU of metrics",
		text:    "A request of 10 items with every metric of boundedbatch recorded by a real SDK, that of a batch's bytes included, as a multiple of the same without any.",
		command: gate,
		rows: []row{
			{what: "{signal}, {producers}", of: "Telemetry/signal=traces|logs/producers=1", num: cpu("boundedbatch+bytes"), den: to(cpu, "boundedbatch+silent"), against: "no metrics", bar: atMost(1.02)},
		},
	},
	{
		title: "Batches that requests do not divide",
		text: "`send_batch_size` and `send_batch_max_size` are the same. The CPU of the whole process; a batch of boundedbatch that is " +
			"nine tenths full may leave without a piece of the next request.",
		command: gate,
		rows: []row{
			{what: "10 {signal}, batches of {size}", of: "Unaligned/signal=traces|logs/items=10/size=8192", num: cpu(us), den: to(cpu, "batch"), against: "batch", bar: atMost(0.30)},
			{what: "100 {signal}, batches of {size}", of: "Unaligned/signal=traces|logs/items=100/size=8192", num: cpu(us), den: to(cpu, "batch"), against: "batch", bar: atMost(0.30)},
			{what: "30 {signal}, batches of {size}", of: "Unaligned/signal=traces|logs/items=30/size=1000", num: cpu(us), den: to(cpu, "batch"), against: "batch", bar: atMost(0.30)},
			{what: "{items} {signal}, batches of {size}", of: "Unaligned/signal=traces|logs/items=5000/size=512", num: cpu(us), den: to(cpu, "batch"), against: "batch"},
			{what: "counting alone, {items} {signal}", of: "Unaligned/signal=traces|logs/items=10|100/size=8192", num: cpu("counting"), den: to(cpu, "batch"), against: "batch"},
			{what: "counting alone, {items} {signal}", of: "Unaligned/signal=traces|logs/items=30/size=1000", num: cpu("counting"), den: to(cpu, "batch"), against: "batch"},
		},
	},
	{
		title:   "Fill of batches",
		text:    "100,000 items a second, so that a batch of the default size is full before the default timeout. The mean of the items of a batch, as a share of `send_batch_size`.",
		command: gate,
		rows: []row{
			{what: "requests of {items} {signal}", of: "Fill/signal=traces|logs/items=10|750/max=0", num: fullness(us), den: to(fullness, "batch"), against: "batch", bar: atLeast(0.98)},
			{what: "requests of {items} {signal}, the size is the maximum", of: "Fill/signal=traces|logs/items=10|100|750/max=8192", num: fullness(us), den: to(fullness, "batch"), against: "batch", bar: atLeast(0.90)},
		},
	},
	{
		title: "Merging",
		text: "`merge_resources`, requests of five services in turn, resources with 8 attributes: the CPU that it adds to a request, which is " +
			"one incoming resource; the CPU of encoding a batch and decoding it again; the encoded bytes.",
		command: gate,
		rows: []row{
			{what: "merging a resource, requests of {items} {signal}", of: "Merge/signal=traces|logs|metrics/items=1|10/impl=boundedbatch", num: term{set: "merge=true", minus: "merge=false", unit: "cpu-ns/req"}, in: "ns", bar: atMost(400)},
			{what: "encoding and decoding, requests of {items} {signal}", of: "Merge/signal=traces|logs|metrics/items=1/impl=boundedbatch", num: term{set: "merge=true", unit: "codec-cpu-ns/req"}, den: &term{set: "merge=false", unit: "codec-cpu-ns/req"}, against: "not merged", bar: atMost(0.5)},
			{what: "encoding and decoding, requests of {items} {signal}", of: "Merge/signal=traces|logs|metrics/items=10/impl=boundedbatch", num: term{set: "merge=true", unit: "codec-cpu-ns/req"}, den: &term{set: "merge=false", unit: "codec-cpu-ns/req"}, against: "not merged"},
			{what: "encoded bytes, requests of {items} {signal}", of: "Merge/signal=traces|logs|metrics/items=1/impl=boundedbatch", num: term{set: "merge=true", unit: "encoded-B/req"}, den: &term{set: "merge=false", unit: "encoded-B/req"}, against: "not merged", bar: atMost(0.4)},
		},
	},
	{
		title:   "Tenants",
		text:    "Requests of 10 items of tenants in turn, which one metadata key tells apart, in batches of 500 items, with 10,000 tenants of 50. What is allocated includes a request's share of its batch.",
		command: gate,
		rows: []row{
			{what: "CPU, {signal}, {tenants}, {producers}", of: "Tenants/signal=traces|logs/tenants=1000/producers=1|8", num: cpu(us), den: to(cpu, "batch"), against: "batch", bar: atMost(0.30)},
			{what: "CPU, {signal}, {tenants}, {producers}", of: "Tenants/signal=metrics/tenants=1000/producers=1|8", num: cpu(us), den: to(cpu, "batch"), against: "batch", bar: atMost(0.36)},
			{what: "CPU, {signal}, {tenants}, {producers}", of: "Tenants/signal=traces|logs/tenants=1|10000/producers=1|8", num: cpu(us), den: to(cpu, "batch"), against: "batch"},
			{what: "counting alone, {signal}, {tenants}, {producers}", of: "Tenants/signal=traces|logs|metrics/tenants=1000/producers=1|8", num: cpu("counting"), den: to(cpu, "batch"), against: "batch"},
			{what: "allocations of a request, {signal}, {tenants}, {producers}", of: "Tenants/signal=traces|logs/tenants=1000/producers=1|8", num: allocsEach(us), bar: atMost(1)},
		},
	},
	{
		title:   "Allocations",
		text:    "Everything that the process allocates counts, metrics and exports included.",
		command: gate,
		rows: []row{
			{what: "a batch", of: "Allocations/signal=traces|logs|metrics/items=1|10|100/producers=1|8", num: term{set: "impl=boundedbatch", unit: "allocs/batch"}, bar: atMost(10), worst: true},
			{what: "a request whose caller waits, {signal}, many in a batch", of: "Waiting/signal=traces|logs|metrics/callers=64/items=10/seal=size/next=reads/delay=0s", num: allocsEach(us), bar: atMost(2)},
			{what: "a batch whose callers wait, {signal}", of: "Waiting/signal=traces|logs|metrics/callers=64/items=10/seal=size/next=reads/delay=0s", num: term{set: "impl=boundedbatch", unit: "allocs/batch"}, bar: atMost(10), sparse: true},
			{what: "bytes of a request of 10 {signal}, {producers}", of: "Consume/signal=traces|logs/items=10/producers=1|8|64", num: bytesEach(us), den: to(bytesEach, "batch"), against: "batch", bar: atMost(0.45)},
			{what: "bytes of a request of {items} {signal}, {producers}", of: "Consume/signal=traces|logs/items=1|100/producers=1", num: bytesEach(us), den: to(bytesEach, "batch"), against: "batch"},
		},
	},
	{
		title: "Splitting",
		text: "One request, cut into batches of 100 items or 8,000 bytes. The others were measured once at a size, because " +
			"their time grows with the square.",
		command: gate,
		rows: []row{
			{what: "CPU of twice the items, {signal}, batches of {max}", of: "Split/signal=traces/max=100/items=40000|80000", num: twice, den: half, against: "half the items", bar: atMost(2.5), worst: true},
			{what: "CPU of twice the items, {signal}, batches of {max}", of: "Split/signal=logs/max=100/items=40000|80000|160000|320000", num: twice, den: half, against: "half the items", bar: atMost(2.5), worst: true},
			{what: "CPU of twice the items, {signal}, batches of {max}", of: "Split/signal=metrics/max=100/items=40000|80000", num: twice, den: half, against: "half the items", bar: atMost(2.5), worst: true},
			{what: "CPU of twice the items, all signals, batches of {max}", of: "Split/max=100|1000/signal=traces|logs|metrics/items=100000", num: twice, den: half, against: "half the items", bar: atMost(2.5), worst: true},
			{what: "CPU of twice the items, all signals, batches of {max}", of: "Split/max=8kB/signal=traces|logs|metrics/items=20000|40000|80000|160000", num: twice, den: half, against: "half the items", bar: atMost(2.5), worst: true},
			{what: "time of {items} {signal}, batches of {max}", of: "Split/signal=traces|metrics/max=100/items=80000", num: itemTime(us), den: to(itemTime, "batch"), against: "batch"},
			{what: "time of {items} {signal}, batches of {max}", of: "Split/signal=logs/max=100/items=320000", num: itemTime(us), den: to(itemTime, "batch"), against: "batch", bar: atMost(0.02)},
			{what: "time of {items} {signal}, batches of {max}", of: "Split/signal=traces|logs|metrics/max=100|1000/items=100000", num: itemTime(us), den: to(itemTime, "batch"), against: "batch"},
			{what: "time of {items} {signal}, batches of {max}", of: "Split/signal=logs/max=1000/items=320000", num: itemTime(us), den: to(itemTime, "batch"), against: "batch"},
			{what: "time of one of {items} {signal}, batches of {max}", of: "SplitRange/signal=traces|logs/max=100/items=1000000", num: itemTime(us), den: &term{set: "impl=boundedbatch items=10000", unit: "ns/item"}, against: "one of 10,000", bar: atMost(1.3)},
			{what: "time of {items} {signal}, batches of {max}", of: "Split/signal=traces|logs|metrics/max=8kB/items=160000", num: itemTime(us), den: to(itemTime, "exporterhelper"), against: "exporterhelper"},
		},
	},
	{
		title: "Limits in bytes",
		text: "What a request costs more with a limit than without, as a multiple of what it takes to measure its size once. The " +
			"gate lets each be missed by a fifth, because medians of the same code differ by a tenth.",
		command: gate,
		rows: []row{
			{what: "`send_batch_max_bytes`", of: byteRequests, num: byteLimit("bytes"), den: walk, against: "measuring once", bar: atMost(1), worst: true},
			{what: "`memory_limit`", of: byteRequests, num: byteLimit("memory"), den: walk, against: "measuring once", bar: atMost(1.5), worst: true},
			{what: "both", of: byteRequests, num: byteLimit("both"), den: walk, against: "measuring once", bar: atMost(2.5), worst: true},
		},
	},
	{
		title:   "Contests",
		text:    "How many times as many items a second as another batcher, in what that one was made for.",
		command: gate,
		rows: []row{
			{what: "5 ms downstream for each batch of 1000, {signal}", of: "Contest/contest=slow_downstream/signal=traces|logs", num: elapsed(us), den: to(elapsed, "batch"), faster: true, against: "batch", bar: atLeast(9.5)},
			{what: "5 ms downstream for each batch of 1000, {signal}", of: "Contest/contest=slow_downstream/signal=traces|logs", num: elapsed(us), den: to(elapsed, "exporterhelper"), faster: true, against: "exporterhelper", bar: atLeast(1.1)},
			{what: "the defaults, 64 producers of single {signal}", of: "Contest/contest=defaults/signal=traces|logs", num: elapsed(us), den: to(elapsed, "batch"), faster: true, against: "batch", bar: atLeast(2.5)},
			{what: "the defaults, 64 producers of single {signal}", of: "Contest/contest=defaults/signal=traces|logs", num: elapsed(us), den: to(elapsed, "queuebatch"), faster: true, against: "queuebatch", bar: atLeast(5000)},
			{what: "64 callers that wait, {signal}", of: "Contest/contest=waiting/signal=traces|logs", num: elapsed(us), den: to(elapsed, "concurrentbatch"), faster: true, against: "concurrentbatch", bar: atLeast(1.7)},
			{what: "CPU with 64 callers that wait, {signal}", of: "Contest/contest=waiting/signal=traces|logs", num: cpu(us), den: to(cpu, "concurrentbatch"), against: "concurrentbatch", bar: atMost(0.55)},
			{what: "64 callers that wait, default size of batches, 10 ms downstream, {signal}", of: "Contest/contest=waiting_defaults/signal=traces|logs", num: elapsed(us), den: to(elapsed, "exporterhelper"), faster: true, against: "exporterhelper", bar: atLeast(10)},
		},
	},
	{
		title:   "Idle tenants",
		text:    "After one item of each tenant has been delivered. What the bare process takes is subtracted.",
		command: idleness,
		rows: []row{
			{what: "CPU after {tenants}, percent of a core", of: "Idle/signal=logs/tenants=10000", num: idleCPU(us), in: "%", bar: atMost(0.2)},
			{what: "CPU after {tenants}", of: "Idle/signal=logs/tenants=10000", num: idleCPU(us), den: to(idleCPU, "batch"), against: "batch", bar: atMost(0.01)},
			{what: "goroutines after {tenants}", of: "Idle/signal=logs/tenants=10000", num: term{set: "impl=boundedbatch", unit: "goroutines"}, den: &term{set: "impl=boundedbatch tenants=1", unit: "goroutines"}, against: "1 tenant", bar: atMost(1)},
			{what: "context switches a second after {tenants}", of: "Idle/signal=logs/tenants=1|10000", num: switches(us), bar: atMost(10)},
			{what: "bytes of heap for a tenant with something pending, {signal}", of: "Tenant/signal=traces|logs|metrics/state=pending/tenants=10000", num: tenantMem(us), in: "B", bar: atMost(1500)},
			{what: "bytes of heap for a tenant between two ticks, {signal}", of: "Tenant/signal=logs/state=ticking/tenants=10000", num: tenantMem(us), in: "B", bar: atMost(1500)},
		},
	},
	{
		title:   "Memory",
		text:    "Heap that is held while downstream hangs, as a multiple of the limit: the most of all instants.",
		command: gate,
		rows: []row{
			{what: "the most that is held, {signal}", of: "Memory/signal=traces/t_ms=*", num: term{set: "impl=boundedbatch", unit: "heap-B"}, den: &term{set: "impl=boundedbatch", unit: "heap-limit-B"}, against: "the limit", bar: atMost(1.2), worst: true},
			{what: "the most that is held, {signal}", of: "Memory/signal=logs/t_ms=*", num: term{set: "impl=boundedbatch", unit: "heap-B"}, den: &term{set: "impl=boundedbatch", unit: "heap-limit-B"}, against: "the limit", bar: atMost(1.2), worst: true},
		},
	},
	{
		title: "Whole pipeline",
		text: "A Collector that takes spans over OTLP/gRPC and sends them on in batches, without compression: the CPU of its whole " +
			"process, the garbage collector included, at 4,000 requests of 10 spans a second or 1,000 of 100. The last rows compare " +
			"[short-hops.yaml](../examples/short-hops.yaml) with the defaults of `batch`.",
		command: whole,
		rows: []row{
			{what: "batching, part of all CPU, {request}, defaults", of: "Share/signal=traces/request=10", num: term{set: "impl=boundedbatch part=batching", unit: "percent"}, in: "%", bar: atMost(0.6)},
			{what: "the same for `batch`, {request}, defaults", of: "Share/signal=traces/request=10", num: term{set: "impl=batch part=batching", unit: "percent"}, in: "%"},
			{what: "{request}, batches of {size}", of: "Pipeline/signal=traces/request=10/size=8192", num: itemCPU(us), den: to(itemCPU, "batch"), against: "batch", bar: atMost(1)},
			{what: "{request}, batches of {size}", of: "Pipeline/signal=traces/request=100/size=8192", num: itemCPU(us), den: to(itemCPU, "batch"), against: "batch", bar: atMost(1)},
			{what: "{request}, batches of {size}", of: "Pipeline/signal=traces/request=10|100/size=1024|8192", num: itemCPU(us), den: to(itemCPU, "exporterhelper"), against: "exporterhelper"},
			{what: "mean time to the answer, {request}, batches of {size}", of: "Pipeline/signal=traces/request=10|100/size=8192", num: answerTime(us), den: to(answerTime, "batch"), against: "batch"},
			{what: "{request}, what is recommended for short hops", of: "Configured/signal=traces/request=10|100", num: configuredCPU(us, "short_hops"), den: batchAsItComes, against: "batch at its defaults", bar: atMost(0.85)},
			{what: "{request}, defaults", of: "Configured/signal=traces/request=10|100", num: configuredCPU(us, "defaults"), den: batchAsItComes, against: "batch at its defaults"},
		},
	},
}

var plots = []figure{
	requestCPU("10"),
	requestCPU("100"),
	{
		file: "latency", title: "Throughput against the latency of downstream",
		text: "64 producers of requests of 10 items, in batches of 640, with 10 exports at once where there is such a setting. `queuebatch` has its " +
			"own defaults, and `concurrentbatch` makes its callers wait.",
		command: gate,
		of:      "Latency/signal=*/delay=*", panel: "signal",
		x:      xAxis{key: "delay", label: "time of an export", phrase: "with {delay} for each export", scale: even},
		y:      yAxis{label: "items a second", term: term{unit: "items/s"}, scale: log},
		series: append(peers(us, "batch"), sparsely("exporterhelper", "queuebatch", "concurrentbatch")...),
		takes:  []take{{at: atEach, num: "impl=boundedbatch", den: "impl=batch", text: "{x} boundedbatch hands on %s times as many items a second as `batch`"}},
	},
	{
		file: "split", title: "Cutting one request into batches of 100",
		text:    "The time of one item: level where the whole grows in proportion to the items. `batch` was measured at some sizes only.",
		command: gate,
		of:      "Split/signal=traces|logs|metrics/items=*/max=100", panel: "signal",
		x:      xAxis{key: "items", label: "items of the request", phrase: "{items} {signal}", scale: log},
		y:      yAxis{label: "time of an item (ns)", term: term{unit: "ns/item"}, scale: log},
		series: append(peers(us), sparsely("batch")...),
		takes: []take{
			{at: atLast, num: "impl=boundedbatch", den: "impl=batch", text: "boundedbatch takes %s of `batch`'s time"},
			{at: growth, num: "impl=boundedbatch", text: "from the smallest request to the largest boundedbatch takes %s times as long for an item"},
			{at: growth, num: "impl=batch", text: "`batch` takes %s times as long"},
		},
	},
	{
		file: "idle", title: "CPU of idle tenants",
		text:    "What the bare process takes is subtracted; what is below 0.0001 % is drawn there.",
		command: idleness,
		of:      "Idle/signal=logs/tenants=*",
		x:       xAxis{key: "tenants", label: "tenants that have sent something", phrase: "after {tenants}", scale: even},
		y:       yAxis{label: "CPU (% of a core)", term: term{unit: "cpu-ns/s", over: "bare-cpu-ns/s", times: percent}, scale: log, floor: 1e-4},
		series:  append(peers(us), sparsely("batch", "exporterhelper")...),
		takes: []take{
			{at: atLast, num: "impl=boundedbatch", den: "impl=batch", most: true, text: "{x} boundedbatch takes at most %s of `batch`'s CPU"},
			{at: atLast, num: "impl=batch", text: "`batch` takes %s % of a core, with nothing to do"},
		},
	},
	{
		file: "memory", title: "Memory held while downstream hangs",
		text: "400 requests a second of 100 items, with 20 attributes each. boundedbatch has a memory_limit of 64 MiB; the others, at their " +
			"defaults, are bounded by their numbers of requests and exports.",
		command: gate,
		of:      "Memory/signal=*/t_ms=*", panel: "signal",
		x: xAxis{key: "t_ms", label: "time since downstream hangs (s)", scale: linear, times: 1e-3},
		y: yAxis{label: "live heap (MiB)", term: term{unit: "heap-B", times: 1.0 / (1 << 20)}, scale: linear},
		series: append(append(peers(us), sparsely("batch", "exporterhelper")...),
			series{name: "limit", set: "impl=boundedbatch", unit: "heap-limit-B"}),
		takes: []take{
			{at: atPeak, num: "impl=boundedbatch", text: "boundedbatch holds %s MiB at most"},
			{at: atPeak, num: "impl=batch", text: "`batch` holds %s MiB at most"},
			{at: atPeak, num: "impl=exporterhelper", text: "`exporterhelper` holds %s MiB at most"},
		},
	},
	{
		file: "scale", title: "Throughput against cores",
		text:    "64 producers that do nothing else.",
		command: gate,
		of:      "Scale/signal=*/procs=*", panel: "signal",
		x:      xAxis{key: "procs", label: "GOMAXPROCS", phrase: "with GOMAXPROCS={procs}", scale: even},
		y:      yAxis{label: "items a second", term: term{unit: "items/s"}, scale: linear},
		series: append(peers(us, "batch"), sparsely("floor")...),
		takes: []take{
			{at: atEach, num: "impl=boundedbatch", den: "impl=batch", text: "{x} boundedbatch hands on %s times as many items a second as `batch`"},
		},
	},
	{
		file: "scale-cpu", title: "CPU of a request against cores",
		text:    "64 producers that do nothing else.",
		command: gate,
		of:      "Scale/signal=*/procs=*", panel: "signal",
		x:      xAxis{key: "procs", label: "GOMAXPROCS", phrase: "with GOMAXPROCS={procs}", scale: even},
		y:      yAxis{label: "CPU of a request (ns)", term: term{unit: "cpu-ns/req"}, scale: linear},
		series: append(peers(us, "batch"), sparsely("floor")...),
		takes: []take{
			{at: atEach, num: "impl=boundedbatch", den: "impl=batch", text: "{x} boundedbatch takes %s of `batch`'s CPU"},
		},
	},
	{
		file: "pipeline", title: "CPU of a whole pipeline by size of batches",
		text:    "From OTLP/gRPC to OTLP/gRPC, at the same load. Batches always fill.",
		command: whole,
		of:      "Pipeline/signal=traces/request=10|100/size=*", panel: "request",
		x:      xAxis{key: "size", label: "items of a batch", phrase: "in batches of {size}", scale: log},
		y:      yAxis{label: "CPU of an item (ns)", term: term{unit: "cpu-ns/item"}, scale: linear},
		series: append(peers(us, "batch"), sparsely("exporterhelper")...),
		takes: []take{
			{at: atEach, num: "impl=boundedbatch", den: "impl=batch", text: "{x} a pipeline with boundedbatch takes %s of the CPU of one with `batch`"},
			{at: growth, num: "impl=boundedbatch", text: "from the smallest batches to the largest an item takes %s times the CPU with boundedbatch"},
			{at: growth, num: "impl=batch", text: "with `batch` it takes %s times as much"},
		},
	},
	{
		file: "share", title: "Where the CPU of a pipeline goes",
		text: "Requests of 10 spans, default configurations, by CPU profiles of the whole process. `grpc` is HTTP/2 and the network " +
			"too, `scheduler` the switching between goroutines, `components` the receiver, the exporter and what the Collector " +
			"puts around them.",
		command: whole,
		of:      "Share/signal=traces/request=10/impl=*",
		x:       xAxis{key: "impl", label: "batcher", scale: even},
		y:       yAxis{label: "CPU of an item (ns)", term: term{unit: "cpu-ns/item"}, scale: linear, stacked: true},
		series:  []series{{set: "part=*", sparse: true}},
	},
}

func requestCPU(items string) figure {
	return figure{
		file: "cpu-per-request-" + items, title: "CPU of a request of " + items + " items",
		text:    "`floor` is the least that any batcher does: count, move the request under one mutex, hand on a full batch. `counting` does nothing but count.",
		command: gate,
		of:      pattern("Consume/signal=traces|logs|metrics/items=" + items + "/producers=*"), panel: "signal",
		x:      xAxis{key: "producers", label: "producers", phrase: "with {producers}", scale: even},
		y:      yAxis{label: "CPU of a request (ns)", term: term{unit: "cpu-ns/req"}, scale: linear},
		series: append(peers(us, "batch"), sparsely("floor", "counting")...),
		takes:  []take{{at: atEach, num: "impl=boundedbatch", den: "impl=batch", text: "{x} boundedbatch takes %s of `batch`'s CPU"}},
	}
}

// to is what a peer is compared with.
func to(of func(peer string) term, peer string) *term { t := of(peer); return &t }

// reasons say why bars are missed, by how their names begin: "group: row".
var reasons = map[string]string{
	"CPU of a request: 10 spans, 1 producer, against batch":           oneProducer,
	"CPU of a request: 10 log records, 1 producer, against batch":     oneProducer,
	"CPU of a request: 10 spans, 1 producer, against the floor":       oneProducer,
	"CPU of a request: 10 log records, 1 producer, against the floor": oneProducer,
	"CPU of a request: 10 spans, ":                                    manyProducers,
	"CPU of a request: 10 log records, ":                              manyProducers,
	"CPU of a request: 10 data points, ":                              dataPoints,
	"CPU of a request: 100 spans, ":                                   hundredItems,
	"CPU of a request: 100 log records, ":                             hundredItems,
	"CPU of a request: 100 data points, ":                             dataPoints,
	"CPU of a request among other work: 6 µs":                         amongWork,
	"CPU of a request among other work: 2,000 requests a second":      paced,
	"CPU of metrics":                 metricsCost,
	"Merging: merging a resource":    mergePrice,
	"Merging: encoding and decoding": mergedCodec,
	"Contests: 5 ms downstream for each batch of 1000, spans, against exporterhelper": slowDownstream,
	"Batches that requests do not divide":                                             undivided,
	"Tenants: CPU":                                                                    tenantCPU,
	"Tenants: allocations of a request":                                               tenantAllocations,
	"Limits in bytes":                                                                 byteWalks,
	"Contests: 64 callers that wait":                                                  waitingCallers,
	"Contests: CPU with 64 callers":                                                   waitingCallers,
	"Whole pipeline: requests of 10 items, batches of 8,192, against batch":           sameSize,
	"Whole pipeline: batching, part of all CPU, requests of 10 items, defaults":       shareOfAll,
	"Whole pipeline: requests of 10 items, what is recommended for short hops, against batch at its defaults":  shortHops,
	"Whole pipeline: requests of 100 items, what is recommended for short hops, against batch at its defaults": shortHopsLarge,
}

const (
	oneProducer = "in a profile half of Consume is counting the items, which the floor does too, 0.2 the move into the batch, 0.15 the lock, " +
		"the rest calls, the budget and the context; another quarter of all is on the other core, which each export wakes: a goroutine, " +
		"its stack, its metrics, and looking for more to do before it sleeps again. The floor hands its batches on by itself. Tried: a " +
		"shorter way for requests without keys, limits in bytes and callers that wait (0.85 of the CPU, kept); all of it " +
		"in one function, from the count to the batch (0.81, kept); what it reads in one cache line (no difference); and a ring that " +
		"takes requests by compare-and-swap instead of the lock (1.1, not kept)"
	manyProducers = "in a profile with 8 producers half of Consume is waiting for the lock, a tenth giving it back, a sixth counting the " +
		"items. The floor, which only counts and moves under one mutex, takes more: see below. On an Intel Xeon boundedbatch took 0.23 of " +
		"`batch` with 64. Tried: a ring that takes requests by compare-and-swap instead of the lock (0.9 to 1.2 of the CPU, not kept)"
	dataPoints = "in a profile 0.8 of Consume is counting the data points, which are in one slice for each metric; `batch` and the floor " +
		"count them, too, and of 100, with 1 and 8 producers, the floor alone takes more than the bar. Tried: all of it in one function, from the count to the " +
		"batch, so that the processor waits for more memory at once (0.74 to 0.8 of the CPU, kept)"
	hundredItems = "a batch is of 82 requests, and its export costs some 10 µs whatever is in it: a goroutine, its stack, its metrics, a " +
		"core that wakes. To count 100 items is no dearer than 10. Tried: export goroutines that wait a second for the next batch, " +
		"with a stack that has grown already (0.99 to 1.08 of the CPU, not kept)"
	amongWork = "what is left when the work is subtracted is a twentieth of it, and others on the same host slow the work down by as much. " +
		"Medians of 36 measurements here were 0.07 to 0.14 with 1 producer, but for one of 0.16 and, in a busy hour, 0.18 and 0.26; of twelve " +
		"with 8 producers 0.29 to 0.42. Tried: runs a quarter as long and four times as many, so that this meets all alike (kept)"
	paced = "to wake up takes twenty times as long as the request; it is subtracted, and differs from run to run by more than what is " +
		"left. Medians of two runs by itself on a quiet machine were 0.13 and 0.15"
	metricsCost = "medians of twelve runs on two machines were 0.98 to 1.06, of rounds between 0.4 and 3: a request takes 60 to 160 ns, and 0.02 of it " +
		"is less than two runs of the same code differ by"
	mergePrice = "a signature of 8 attributes and an exact comparison, both of which read them all. In a profile of requests of 10 items 0.5 to 0.7 " +
		"of it is the first look at the attributes, some 30 cache lines that have left the cache since they were decoded; whoever " +
		"encodes them waits for them otherwise. Tried: to read the attributes of 16 resources at once, all that is in one place before " +
		"what that leads to, so that the processor waits for more memory at once (0.9 of the CPU for requests of ten items and 1.2 for " +
		"those of one, not kept). It is a time, not a ratio; the gate holds it against what encoding and decoding takes " +
		"less for the same request: medians of several runs were 0.2 to 0.43 of that for requests of one item and 0.39 to 1.11 for those " +
		"of ten"
	mergedCodec = "what is left is the items, with five attributes each, that nobody can share. Medians of eight runs on two machines were 0.41 " +
		"to 0.64"
	slowDownstream = "10 exports of 1,000 items in 5 ms are two million items a second at most, of which boundedbatch hands on 1.84 and exporterhelper " +
		"1.64 million. Medians of four other runs on this machine were 1.11 to 1.17, of log records 1.13 to 1.22"
	undivided = "in a profile 0.62 to 0.7 of Consume is counting the items, which is the first look at a request, made a while ago: four places " +
		"in memory, of which one tells where the next is. Who does nothing else waits for several requests at once, so that counting alone takes " +
		"less than that. Besides, where a batch is of 34 requests its export, which costs some 10 µs whatever is in it, is shared by no " +
		"more. Tried: a sink that does not count items while it is measured, as for other loads (0.9, kept)"
	tenantCPU = "in a profile with 8 producers 0.35 of all is waiting for the lock. Under it a request looks its tenant up and changes that, its " +
		"batch, and the order of last use, some nine cache lines that travel between the cores. With 1 producer, where nothing " +
		"travels, the bar is met. Tried: to keep a tenant until its next tick when a full batch has left (0.88 of the CPU, kept); " +
		"pauses between tries for the lock a quarter to a sixteenth as long (no difference); to note only the time of the last " +
		"request and find out who is the oldest when it is asked (0.9 to 1.05, not kept)"
	tenantAllocations = "client.Metadata.Get copies the values of a key, which is one, as the bar has it; the rest, five of a batch, is a request's " +
		"share of it, one of 50. Tried: to keep a tenant until its next tick when a full batch has left, instead of forgetting it and making " +
		"it anew for the next one (1.10 instead of 1.34, kept)"
	byteWalks = "the worst of 48 cases, of which medians of the same code differ by a tenth from run to run. The items of large " +
		"requests are measured one by one, since these are likely to be cut; of a request of one item a walk takes 90 to 230 ns, and " +
		"what is added to a batch's sizes is a part of it. Tried: the short way into a batch, which requests without such a limit " +
		"take (0.9 of the CPU of a request of one item, kept); to measure items in a loop without calls through function values (0.98 of " +
		"the CPU of a large one, not kept)"
	waitingCallers = "in a profile a quarter of Consume is the first look at a request, which concurrentbatchprocessor pays too, a quarter " +
		"waiting for the lock, a quarter sleeping and waking. An export costs some 10 µs, and 64 requests share it. Tried: a channel " +
		"for each caller instead of one for all callers of a batch and one for the end of Shutdown (0.84 of the CPU, kept); shorter " +
		"pauses between tries for the lock (no difference)"
	shareOfAll = "a profile of one round has 1,800 samples, of which 8 to 16 are of batching, so that medians of eight differ by a sixth by " +
		"chance. They were 0.44 % and 0.48 % on an AMD EPYC, and 0.81 % and 0.96 % on Intel Xeons. Nothing stands out: the move into the batch, " +
		"the lock, the span and the end of the context, counting. What takes 150 ns in a loop takes six times as long where other code " +
		"has had the caches meanwhile"
	sameSize = "batching itself takes less, but that is about a hundredth of all CPU, and two pipelines with the same batcher differ by up " +
		"to three in one measurement. Besides, `batch` makes senders wait while it exports (see the times to the answer), and what " +
		"has waited comes in one go: with it gRPC and encoding take less (see Where the CPU of a pipeline goes), which is about what " +
		"decoding and batching take more"
	shortHops = "more than half of the CPU is gRPC, the network and the scheduler (see Where the CPU of a pipeline goes): what the size of " +
		"batches can change, decoding, encoding and garbage collection, is about two fifths. 0.85 was expected where " +
		"decoding alone is more than half. Tried: other sizes (see CPU of a whole pipeline by size of batches)"
	shortHopsLarge = "batches of 1,024 hold less, are collected more often (gcs/s in the results), and the CPU of it all hardly changes"
)

var performance = report{paper: performancePaper, groups: groups, plots: plots, reasons: reasons}

var performancePaper = paper{
	file: "performance.md", results: "bench/results",
	introduction: `# Performance

<!-- Written by make bench-report from bench/results/. Change the results or bench/report/, not this page. -->

What boundedbatch costs, beside the batchers that people may choose instead. Within one round of a measurement all of them
take turns in one process, and a ratio is that of one round; what is shown is the median of the rounds, with the least and
the greatest. Ratios say more than times: another machine changes the times of all of them.
[bench/README.md](../bench/README.md) says how each case is measured and what is promised, and
[bench/results/](../bench/results/) has every round.

## What is promised, and what was measured

`,
	plots: `
## Plots

A point is the median of the rounds, and the bar through it goes from the least to the greatest.
`,
}
