package migration

// The reasons for differences in what becomes of traffic, in the order of the page.
var (
	ticks = &Reason{
		Name: "ticks",
		Text: "The timer of `batch` runs from the start on (with `metadata_keys` from a tenant's first request on) and " +
			"anew after each batch, and so an item waits for anything up to `timeout`. The ticks of `boundedbatch` " +
			"begin with the first item that waits, which so waits for all of `timeout`. They go on as long as each " +
			"finds something, at the same distance however long exports take. In neither does an item wait longer than " +
			"`timeout` for its batch to close, but in `batch` while an export is under way.",
	}
	atOnce = &Reason{
		Name: "exports at once",
		Text: "`batch` makes one export at a time (with `metadata_keys` one for each tenant) and nothing else goes on " +
			"meanwhile. `boundedbatch` has up to ten under way (`max_concurrent_exports`), for metrics one for each " +
			"tenant, and so a batch need not wait for the one before it, and can be done before it. " +
			"`max_concurrent_exports_per_partition: 1` restores the order.",
	}
	callersWait = &Reason{
		Name: "callers wait",
		Text: "While an export is under way, `batch` takes as many requests as there are CPUs, of any size, and the " +
			"caller of the next one waits until the export is over, whatever its deadline. In `boundedbatch` callers " +
			"wait once `queue_size` items are held, and no longer than their context allows. Of the rows, those with " +
			"20 requests and fewer are true with two CPUs and fewer.",
	}
	batchesGrow = &Reason{
		Name: "batches grow",
		Text: "With `timeout: 0s` every request is a batch of its own in `batch`. In `boundedbatch` it leaves as soon as " +
			"an export may begin; where downstream is so slow that it has to wait for that, what comes meanwhile joins " +
			"it, up to `send_batch_size`.",
	}
	border = &Reason{
		Name: "borders",
		Text: "Where the next request would overflow `send_batch_max_size`, `batch` cuts it so that the batch is full to " +
			"the last item. If at least nine tenths of the batch are full, `boundedbatch` closes it and leaves the " +
			"request in one piece.",
	}
	cutMetrics = &Reason{
		Name: "cut metrics",
		Text: "Where `send_batch_max_size` cuts a metric in two, `batch` loses the `metadata` of the first part. " +
			"`boundedbatch` keeps all of it.",
	}
	evicts = &Reason{
		Name: "evicts",
		Text: "At `metadata_cardinality_limit` combinations since its start, `batch` refuses every request of any " +
			"further one for good, even if it is empty. `boundedbatch` counts those with something pending or ticks to " +
			"come, and one more makes the batch of the least recently used one leave early. Nobody is refused.",
	}
	held = &Reason{
		Name: "items held",
		Text: "`batch` holds a pending batch of each tenant, however many there are. `boundedbatch` holds `queue_size` items of " +
			"all tenants together (98304). At that bound the fullest batch leaves early, and callers wait until there is " +
			"room.",
	}
	unset = &Reason{
		Name: "unset keys",
		Text: "For one of `metadata_keys` that a caller has not set, `batch` hands on the key with an empty list of " +
			"values, `boundedbatch` no key. Both return no values for it to whoever asks by name.",
	}
	isolates = &Reason{
		Name: "isolation",
		Text: "A batch that is refused for good is lost in `batch`, all of it. `boundedbatch` sends it again in parts " +
			"until what is refused is alone with its error.",
	}
	gaveUp = &Reason{
		Name: "callers that gave up",
		Text: "`batch` does not look at a caller's context. `boundedbatch` refuses a request whose caller has given up, " +
			"with the error of its context, so that a caller that repeats it does not send it twice.",
	}
	notStarted = &Reason{
		Name: "before the start",
		Text: "Before its start `batch` keeps as many requests as there are CPUs, and lets the next caller wait. " +
			"`boundedbatch` refuses them for now. The Collector starts processors before receivers.",
	}
	hasEnded = &Reason{
		Name: "after the shutdown",
		Text: "After its shutdown `batch` accepts requests and loses them. `boundedbatch` refuses them for now.",
	}
	endsInTime = &Reason{
		Name: "shutdown",
		Text: "The shutdown of `batch` waits for exports without end. That of `boundedbatch` ends after " +
			"`shutdown_timeout` (30s): it cancels what is under way, counts what is lost, and says so in its error.",
	}
)

// Reasons returns those that the table can have, in the order of the page.
func Reasons() []*Reason {
	return []*Reason{
		ticks, atOnce, callersWait, batchesGrow, border, cutMetrics, evicts, held, unset, isolates, gaveUp, notStarted, hasEnded, endsInTime,
		units, fractions, wraps, bound, emptyKeys,
	}
}

// The reasons for which one of the two refuses a configuration.
var (
	units = &Reason{
		Name: "durations without unit",
		Text: "`batch` takes a number without unit for nanoseconds. `boundedbatch` refuses it, but for 0.",
	}
	fractions = &Reason{
		Name: "fractions",
		Text: "`batch` takes 1.5 items for 1. `boundedbatch` refuses them.",
	}
	wraps = &Reason{
		Name: "numbers that do not fit",
		Text: "`batch` keeps the lowest 32 bits of a number of items: 4294967297 is 1, and 4294967296 is 0, which for a " +
			"limit means none. `boundedbatch` takes the number as it is written, or refuses it.",
	}
	bound = &Reason{
		Name: "more than the bound",
		Text: "A batch cannot be larger than what may be held. Raise `queue_size` (98304) to `send_batch_size` or, " +
			"better, twelve times as much.",
	}
	emptyKeys = &Reason{
		Name: "empty keys",
		Text: "`batch` takes an empty name of a metadata key, which no request has. `boundedbatch` refuses it.",
	}
)
