package main

// What the page about overload and long load contains, as spec.go says it of performance.

const (
	soak      = "make soak"
	recovered = "Recovery/block_on_overflow=false|true"
)

var endurance = report{
	paper: paper{
		file: "endurance.md", results: "e2e/results", files: []string{"overload-*.txt", "bleeding-*.txt", "timers-*.txt"},
		introduction: `# Endurance

<!-- Written by make bench-report from e2e/results/. Change the results or bench/report/, not this page. -->

What becomes of a built Collector under more load than its backend takes, and under a steady load for a long time. Each
test compares the Collector with itself, and fails if a bar is missed; [e2e/soak/](../e2e/soak/) has the tests and
[e2e/results/](../e2e/results/) every sample. In each of them every item that was acknowledged has arrived once, unaltered.
That a wall clock which steps changes nothing, and that a stopped process goes on without a burst, is tested in
[e2e/clock_test.go](../e2e/clock_test.go).

## What is promised, and what was measured

`,
		plots: `
## Plots
`,
	},
	groups: []group{
		{
			title: "Overload",
			text: "20 senders, of both protocols, offer 5,000 items a second for five minutes to a backend that takes 1,000 of them. Once " +
				"block_on_overflow is off and queue_size is 20,000 (log records), once it is on and memory_limit is 8 MiB (spans). What " +
				"may be alive is an idle Collector, memory_limit and a tenth, what receivers have decoded for the senders, and what gRPC " +
				"takes for the messages of ten exports.",
			command: soak,
			rows: []row{
				{what: "items held, {block_on_overflow}", of: "Overload/block_on_overflow=false/phase=before|overloaded|after/t_ms=*", num: term{unit: "held-items"}, den: &term{unit: "capacity-items"}, against: "the limit", bar: atMost(1), worst: true},
				{what: "bytes held, {block_on_overflow}", of: "Overload/block_on_overflow=true/phase=before|overloaded|after/t_ms=*", num: term{unit: "held-B"}, den: &term{unit: "capacity-B"}, against: "the limit", bar: atMost(1), worst: true},
				{what: "live heap, {block_on_overflow}", of: "Overload/block_on_overflow=false/phase=before|overloaded|after/t_ms=*", num: term{unit: "heap-B"}, den: &term{unit: "heap-limit-B"}, against: "what may be alive", bar: atMost(1), worst: true},
				{what: "live heap, {block_on_overflow}", of: "Overload/block_on_overflow=true/phase=before|overloaded|after/t_ms=*", num: term{unit: "heap-B"}, den: &term{unit: "heap-limit-B"}, against: "what may be alive", bar: atMost(1), worst: true},
				{what: "delivered while overloaded, {block_on_overflow}", of: recovered, num: term{unit: "overloaded-items/s"}, den: &term{unit: "backend-items/s"}, against: "what the backend takes", bar: atLeast(0.95)},
				{what: "from the end of the overload to no more held than before it, {block_on_overflow}", of: recovered, num: term{unit: "ms-recovery"}, in: "ms", bar: atMost(2000)},
				{what: "delivered afterwards, {block_on_overflow}", of: recovered, num: term{unit: "after-items/s"}, den: &term{unit: "before-items/s"}, against: "the rate before", bar: atLeast(0.95)},
			},
		},
		{
			title: "Slow bleeding",
			text: "16 tenants at a time, each with a connection of its own, make 25 requests and go, while metadata_cardinality_limit is 12; of all " +
				"signals, for half an hour, and one batch in 499 is refused once. Timers are counted under a load of their own, for five minutes. " +
				"What is held against its limit is the upper end of the 95 % confidence interval of the growth in a day (the slopes " +
				"between any two blocks of a thirtieth of the time, Theil and Sen): it is proved that not more is gained.",
			command: soak,
			rows: []row{
				{what: "goroutines", of: "Growth/of=goroutines", num: term{unit: "high-per-day"}, den: &term{unit: "limit-per-day"}, against: "the limit", bar: atMost(1)},
				{what: "live heap, bytes", of: "Growth/of=heap-B", num: term{unit: "high-per-day"}, den: &term{unit: "limit-per-day"}, against: "the limit", bar: atMost(1)},
				{what: "file descriptors", of: "Growth/of=files", num: term{unit: "high-per-day"}, den: &term{unit: "limit-per-day"}, against: "the limit", bar: atMost(1)},
				{what: "timers", of: "Growth/of=timers", num: term{unit: "high-per-day"}, den: &term{unit: "limit-per-day"}, against: "the limit", bar: atMost(1)},
				{what: "{of}, the median of the slopes", of: "Growth/of=goroutines|heap-B|files|timers", num: term{unit: "per-day"}, in: "a day"},
				{what: "load", of: "SteadyLoad/load=bleeding", num: term{unit: "items/s"}, in: "items/s"},
				{what: "tenants that came", of: "SteadyLoad/load=bleeding", num: term{unit: "tenants"}},
				{what: "items", of: "SteadyLoad/load=bleeding", num: term{unit: "items"}},
				{what: "load while timers are counted", of: "SteadyLoad/load=timers", num: term{unit: "items/s"}, in: "items/s"},
				{what: "tenants that came meanwhile", of: "SteadyLoad/load=timers", num: term{unit: "tenants"}},
			},
		},
	},
	plots: []figure{
		{
			file: "overload-items", title: "Items held under overload, callers are refused", command: soak,
			of:     "Overload/block_on_overflow=false/t_ms=*",
			x:      overloadTime,
			y:      yAxis{label: "items held", term: term{unit: "held-items"}, scale: linear},
			series: []series{{name: "held"}, {name: "limit", unit: "capacity-items"}},
		},
		{
			file: "overload-bytes", title: "Memory under overload, callers wait", command: soak,
			text: "The limit is what may be alive. The live heap is measured after a garbage collection at each sample.",
			of:   "Overload/block_on_overflow=true/t_ms=*",
			x:    overloadTime,
			y:    yAxis{label: "MiB", term: inMebibytes, scale: linear},
			series: []series{
				{name: "held"},
				{name: "memory_limit", unit: "capacity-B"},
				{name: "live heap", unit: "heap-B"},
				{name: "limit", unit: "heap-limit-B"},
			},
		},
		{
			file: "overload-rates", title: "Items a second under overload", command: soak,
			of: "Overload/block_on_overflow=false|true/t_ms=*", panel: "block_on_overflow",
			x:      overloadTime,
			y:      yAxis{label: "items a second", term: term{unit: "delivered-items/s"}, scale: linear},
			series: []series{{name: "delivered"}, {name: "refused", unit: "refused-items/s"}},
		},
		{
			file: "soak-counts", title: "Goroutines and file descriptors under a steady load", command: soak,
			of:     "Steady/load=bleeding/t_ms=*",
			x:      soakTime,
			y:      yAxis{label: "number", term: term{unit: "goroutines"}, scale: linear},
			series: []series{{name: "goroutines"}, {name: "file descriptors", unit: "files"}},
		},
		{
			file: "soak-heap", title: "Live heap under a steady load", command: soak,
			of:     "Steady/load=bleeding/t_ms=*",
			x:      soakTime,
			y:      yAxis{label: "MiB", term: term{unit: "heap-B", times: 1.0 / (1 << 20)}, scale: linear},
			series: []series{{name: "live heap"}},
		},
		{
			file: "soak-timers", title: "Timers under a steady load", command: soak,
			of:     "Steady/load=timers/t_ms=*",
			x:      soakTime,
			y:      yAxis{label: "number", term: term{unit: "timers"}, scale: linear},
			series: []series{{name: "timers"}},
		},
	},
}

var (
	overloadTime = xAxis{key: "t_ms", label: "time (s)", scale: linear, times: 1e-3}
	soakTime     = xAxis{key: "t_ms", label: "time (minutes)", scale: linear, times: 1.0 / 60_000}
	inMebibytes  = term{unit: "held-B", times: 1.0 / (1 << 20)}
)
