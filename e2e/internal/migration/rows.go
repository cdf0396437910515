package migration

import "slices"

// unordered are the signals of which a tenant has several exports under way.
var unordered = []string{"traces", "logs"}

func differs(why *Reason, in ...Aspect) Difference { return Difference{Why: why, In: in} }

func (d Difference) of(signals ...string) Difference {
	d.Of = signals
	return d
}

// waits is the difference that callers wait in batch, where there are so many requests
// that they do with that many CPUs.
func waits(cpus int) Difference { return Difference{Why: callersWait, In: []Aspect{Waits}, CPUs: cpus} }

// Rows returns the table.
func Rows() []Row {
	return slices.Concat(timeoutRows(), sizeRows(), limitRows(), tenantRows(), failureRows(), lifeRows())
}

const (
	fewCPUs  = 2   // with which 20 requests, one in 30 ms, wait for exports of 100 ms
	manyCPUs = 256 // with which 300 requests wait
)

// timeout: when a batch leaves that is not full.
func timeoutRows() []Row {
	return []Row{
		{Config: "{}", Traffic: busy, Downstream: instant},
		{
			Config: "{}", Traffic: late, Downstream: instant,
			Differs: []Difference{differs(ticks, Batches, Instants)},
		},
		{
			Config: "{}", Traffic: sparse, Downstream: instant,
			Differs: []Difference{differs(ticks, Instants)},
		},
		{
			Config: "{timeout: 200ms}", Traffic: busy, Downstream: slow,
			Differs: []Difference{waits(fewCPUs), differs(ticks, Batches, Instants)},
		},
		{Config: "{timeout: 50ms}", Traffic: busy, Downstream: instant},
		{Config: "{timeout: 100ms}", Traffic: busy, Downstream: instant},
		{Config: "{timeout: 1s}", Traffic: busy, Downstream: instant},
		{Config: "{timeout: 1s}", Traffic: sparse, Downstream: instant},
		{Config: "{timeout: 10s}", Traffic: busy, Downstream: instant},
		{Config: "{timeout: 1h}", Traffic: busy, Downstream: instant},
		{
			Config: "{timeout: 20ms}", Traffic: busy, Downstream: instant,
			Differs: []Difference{differs(ticks, Instants)},
		},
		{
			Config: "{timeout: 1ms}", Traffic: busy, Downstream: instant,
			Differs: []Difference{differs(ticks, Instants)},
		},
		{Config: "{timeout: 0s}", Traffic: busy, Downstream: instant},
		{Config: "{timeout: 0s}", Traffic: late, Downstream: instant},
		{
			Config: "{timeout: 0s}", Traffic: busy, Downstream: slow,
			Differs: []Difference{waits(fewCPUs), differs(atOnce, Instants).of(unordered...), differs(batchesGrow, Batches, Instants).of("metrics")},
		},
		{
			Config: "{timeout: 0s}", Traffic: crowd, Downstream: paused,
			Differs: []Difference{waits(manyCPUs), differs(atOnce, Instants).of(unordered...), differs(batchesGrow, Batches)},
		},
	}
}

// send_batch_size: when it is full.
func sizeRows() []Row {
	return []Row{
		{Config: "{send_batch_size: 0}", Traffic: busy, Downstream: instant},
		{Config: "{send_batch_size: 0, timeout: 0s}", Traffic: late, Downstream: instant},
		{
			Config: "{send_batch_size: 0}", Traffic: busy, Downstream: slow,
			Differs: []Difference{waits(fewCPUs), differs(atOnce, Instants).of(unordered...)},
		},
		{Config: "{send_batch_size: 1}", Traffic: busy, Downstream: instant},
		{Config: "{send_batch_size: 1, timeout: 1h}", Traffic: late, Downstream: instant},
		{
			Config: "{send_batch_size: 1}", Traffic: crowd, Downstream: paused,
			Differs: []Difference{waits(manyCPUs), differs(atOnce, Instants).of(unordered...)},
		},
		{Config: "{send_batch_size: 10, timeout: 1s}", Traffic: busy, Downstream: instant},
		{Config: "{send_batch_size: 10, timeout: 1s}", Traffic: steady, Downstream: instant},
		{
			Config: "{send_batch_size: 10, timeout: 1h}", Traffic: busy, Downstream: uneven,
			Differs: []Difference{waits(fewCPUs), differs(atOnce, Instants, Order).of(unordered...)},
		},
		{
			Config: "{send_batch_size: 40, timeout: 1s}", Traffic: steady, Downstream: slow,
			Differs: []Difference{waits(fewCPUs), differs(atOnce, Instants).of(unordered...)},
		},
		{Config: "{send_batch_size: 100, timeout: 1h}", Traffic: busy, Downstream: instant},
		{
			Config: "{send_batch_size: 100, timeout: 100ms}", Traffic: busy, Downstream: instant,
			Differs: []Difference{differs(ticks, Batches, Instants)},
		},
		{
			Config: "{send_batch_size: 100, timeout: 1h}", Traffic: busy, Downstream: uneven,
			Differs: []Difference{waits(fewCPUs), differs(atOnce, Instants).of(unordered...)},
		},
		{Config: "{send_batch_size: 1000, timeout: 1h}", Traffic: busy, Downstream: instant},
		{Config: "{send_batch_size: 10000, timeout: 10s}", Traffic: busy, Downstream: instant},
		{Config: "{send_batch_size: 98304}", Traffic: busy, Downstream: instant},
	}
}

// send_batch_max_size: what is cut.
func limitRows() []Row {
	return []Row{
		{Config: "{send_batch_max_size: 0}", Traffic: busy, Downstream: instant},
		{Config: "{send_batch_max_size: 8192}", Traffic: large, Downstream: instant},
		{
			Config: "{send_batch_size: 0, send_batch_max_size: 1}", Traffic: busy, Downstream: instant,
			Differs: []Difference{differs(cutMetrics, Items).of("metrics")},
		},
		{
			Config: "{send_batch_size: 0, send_batch_max_size: 64}", Traffic: large, Downstream: instant,
			Differs: []Difference{differs(cutMetrics, Items).of("metrics")},
		},
		{
			Config: "{timeout: 0s, send_batch_size: 50, send_batch_max_size: 50}", Traffic: large, Downstream: instant,
			Differs: []Difference{differs(cutMetrics, Items).of("metrics")},
		},
		{Config: "{timeout: 0s, send_batch_max_size: 10000}", Traffic: large, Downstream: instant},
		{Config: "{timeout: 10s, send_batch_size: 10000, send_batch_max_size: 11000}", Traffic: large, Downstream: instant},
		{
			Config: "{send_batch_size: 1, send_batch_max_size: 1}", Traffic: busy, Downstream: instant,
			Differs: []Difference{differs(cutMetrics, Items).of("metrics")},
		},
		{
			Config: "{send_batch_size: 1, send_batch_max_size: 2, timeout: 1h}", Traffic: busy, Downstream: instant,
			Differs: []Difference{differs(cutMetrics, Items).of("metrics")},
		},
		{
			Config: "{send_batch_size: 9, send_batch_max_size: 9, timeout: 1h}", Traffic: busy, Downstream: instant,
			Differs: []Difference{differs(cutMetrics, Items).of("metrics")},
		},
		{
			Config: "{send_batch_size: 60, send_batch_max_size: 61, timeout: 1h}", Traffic: large, Downstream: instant,
			Differs: []Difference{differs(cutMetrics, Items).of("metrics")},
		},
		{
			Config: "{send_batch_size: 100, send_batch_max_size: 100, timeout: 1h}", Traffic: busy, Downstream: instant,
			Differs: []Difference{differs(border, Batches, Instants), differs(cutMetrics, Items).of("metrics")},
		},
		{
			Config: "{send_batch_size: 100, send_batch_max_size: 100, timeout: 1h}", Traffic: nearlyFull, Downstream: instant,
			Differs: []Difference{differs(border, Batches, Instants), differs(cutMetrics, Items).of("metrics")},
		},
		{
			Config: "{send_batch_size: 100, send_batch_max_size: 150, timeout: 1h}", Traffic: nearlyFull, Downstream: instant,
			Differs: []Difference{differs(cutMetrics, Items).of("metrics")},
		},
		{
			Config: "{send_batch_size: 100, send_batch_max_size: 300, timeout: 1h}", Traffic: large, Downstream: instant,
			Differs: []Difference{differs(cutMetrics, Items).of("metrics")},
		},
		{Config: "{send_batch_size: 100, send_batch_max_size: 1000, timeout: 1h}", Traffic: large, Downstream: instant},
		{
			Config: "{send_batch_size: 100, send_batch_max_size: 100, timeout: 1h}", Traffic: large, Downstream: uneven,
			Differs: []Difference{waits(fewCPUs), differs(atOnce, Instants, Shutdown).of(unordered...), differs(cutMetrics, Items).of("metrics")},
		},
	}
}

// metadata_keys and metadata_cardinality_limit: who shares a batch, and how it is marked.
func tenantRows() []Row {
	return []Row{
		{Config: "{metadata_keys: []}", Traffic: byTenants, Downstream: instant},
		{
			Config: "{metadata_keys: [x-tenant]}", Traffic: knownTenants, Downstream: instant,
			Differs: []Difference{differs(ticks, Batches, Instants)},
		},
		{
			Config: "{metadata_keys: [x-tenant]}", Traffic: byTenants, Downstream: instant,
			Differs: []Difference{differs(ticks, Instants), differs(unset, Metadata)},
		},
		{Config: "{metadata_keys: [X-Tenant], timeout: 1h}", Traffic: knownTenants, Downstream: instant},
		{
			Config: "{metadata_keys: [x-tenant, X-User], timeout: 1h}", Traffic: byTenants, Downstream: instant,
			Differs: []Difference{differs(unset, Metadata)},
		},
		{
			Config: "{metadata_keys: [x-nobody-has-it]}", Traffic: busy, Downstream: instant,
			Differs: []Difference{differs(unset, Metadata)},
		},
		{
			Config: "{metadata_keys: [tenant_id], metadata_cardinality_limit: 10}", Traffic: busy, Downstream: instant,
			Differs: []Difference{differs(unset, Metadata)},
		},
		{Config: "{metadata_keys: [x-tenant], timeout: 0s}", Traffic: knownTenants, Downstream: instant},
		{Config: "{metadata_keys: [x-tenant], send_batch_size: 0}", Traffic: knownTenants, Downstream: slow},
		{
			Config: "{metadata_keys: [x-tenant], send_batch_size: 50, send_batch_max_size: 50, timeout: 1h}", Traffic: knownTenants, Downstream: instant,
			Differs: []Difference{differs(cutMetrics, Items).of("metrics")},
		},
		{Config: "{metadata_keys: [x-tenant], metadata_cardinality_limit: 0, timeout: 1h}", Traffic: knownTenants, Downstream: instant},
		{Config: "{metadata_keys: [x-tenant], metadata_cardinality_limit: 7, timeout: 1h}", Traffic: knownTenants, Downstream: instant},
		{
			Config: "{metadata_keys: [x-tenant], metadata_cardinality_limit: 3}", Traffic: knownTenants, Downstream: instant,
			Differs: []Difference{differs(evicts, Answers, Items, Batches, Instants)},
		},
		{
			Config: "{metadata_keys: [x-tenant], metadata_cardinality_limit: 1, timeout: 1h}", Traffic: knownTenants, Downstream: instant,
			Differs: []Difference{differs(evicts, Answers, Items, Batches, Instants)},
		},
		{
			Config: "{metadata_keys: [x-tenant], metadata_cardinality_limit: 4}", Traffic: emptyFirst, Downstream: instant,
			Differs: []Difference{differs(evicts, Answers)},
		},
		{
			Config: "{metadata_keys: [x-tenant], timeout: 1h}", Traffic: manyTenants, Downstream: paused, Signal: "logs",
			Differs: []Difference{differs(held, Waits, Instants)},
		},
		{Config: "{metadata_cardinality_limit: 1}", Traffic: byTenants, Downstream: instant},
	}
}

// What the next component refuses.
func failureRows() []Row {
	return []Row{
		{Config: "{timeout: 100ms}", Traffic: busy, Downstream: away},
		{Config: "{timeout: 100ms}", Traffic: busy, Downstream: hostile},
		{
			Config: "{timeout: 100ms}", Traffic: busy, Downstream: picky,
			Differs: []Difference{differs(isolates, Items, Batches)},
		},
		{Config: "{send_batch_size: 1}", Traffic: busy, Downstream: picky},
	}
}

// What callers and the Collector do.
func lifeRows() []Row {
	return []Row{
		{Config: "{}", Traffic: emptyFirst, Downstream: instant},
		{
			Config: "{timeout: 100ms}", Traffic: gone, Downstream: instant,
			Differs: []Difference{differs(gaveUp, Answers, Items, Batches)},
		},
		{
			Config: "{timeout: 100ms}", Traffic: early, Downstream: instant,
			Differs: []Difference{differs(notStarted, Answers, Items, Batches), differs(ticks, Instants)},
		},
		{
			Config: "{timeout: 100ms}", Traffic: afterwards, Downstream: instant,
			Differs: []Difference{differs(hasEnded, Answers)},
		},
		{Config: "{}", Traffic: untilTheEnd, Downstream: instant},
		{Config: "{timeout: 1h}", Traffic: untilTheEnd, Downstream: instant},
		{
			Config: "{timeout: 100ms}", Traffic: untilTheEnd, Downstream: slow,
			Differs: []Difference{differs(atOnce, Instants, Shutdown).of(unordered...)},
		},
		{
			Config: "{timeout: 1h}", Traffic: untilTheEnd, Downstream: stuck,
			Differs: []Difference{differs(endsInTime, Items, Batches, Shutdown)},
		},
	}
}

// Evicts tells if batch refuses tenants of the row that boundedbatch does not.
func (r *Row) Evicts() bool {
	return slices.ContainsFunc(r.Differs, func(d Difference) bool { return d.Why == evicts })
}
