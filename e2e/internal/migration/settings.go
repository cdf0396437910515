package migration

// Settings returns configurations that are not for both what is written there.
func Settings() []Setting {
	return []Setting{
		{Config: "{timeout: -1s}"},
		{Config: "{timeout: soon}"},
		{Config: "{timeout: true}"},
		{Config: "{timeout: 9999999h}"},
		{Config: "{timeout: 5}", Batch: Accepts, Why: units},
		{Config: "{timeout: 5000000000}", Batch: Accepts, Why: units},
		{Config: "{timeout: 1.5}", Batch: Accepts, Why: units},

		{Config: "{send_batch_size: -1}"},
		{Config: "{send_batch_size: many}"},
		{Config: `{send_batch_size: "100"}`},
		{Config: "{send_batch_size: true}"},
		{Config: "{send_batch_size: [1]}"},
		{Config: "{send_batch_size: 1.5}", Batch: Accepts, Why: fractions},
		{Config: "{send_batch_size: 98305}", Batch: Accepts, Why: bound},
		{Config: "{send_batch_size: 4294967295}", Batch: Accepts, Why: bound},
		{Config: "{send_batch_size: 4294967296}", Batch: Accepts, Why: wraps},

		{Config: "{send_batch_max_size: -1}"},
		{Config: "{send_batch_max_size: 8191}"},
		{Config: "{send_batch_size: 100, send_batch_max_size: 99}"},
		{Config: "{send_batch_size: 1, send_batch_max_size: 1.5}", Batch: Accepts, Why: fractions},
		{Config: "{send_batch_max_size: 4294967296}", Batch: Accepts, BoundedBatch: Accepts, Why: wraps},
		{Config: "{send_batch_max_size: 4294967297}", BoundedBatch: Accepts, Why: wraps},

		{Config: "{metadata_keys: [a, b, A]}"},
		{Config: "{metadata_keys: [a, a]}"},
		{Config: "{metadata_keys: [17]}"},
		{Config: "{metadata_keys: [[a]]}"},
		{Config: "{metadata_keys: {a: b}}"},
		{Config: `{metadata_keys: [""]}`, Batch: Accepts, Why: emptyKeys},
		{Config: "{metadata_keys: [null]}", Batch: Accepts, Why: emptyKeys},

		{Config: "{metadata_cardinality_limit: -1}"},
		{Config: "{metadata_cardinality_limit: none}"},
		{Config: "{metadata_cardinality_limit: 1.5}", Batch: Accepts, Why: fractions},
		{Config: "{metadata_cardinality_limit: 4294967296}", Batch: Accepts, BoundedBatch: Accepts, Why: wraps},

		{Config: "{timeout: -1s, metadata_keys: [a, a]}"},
		{Config: "{TIMEOUT: 1s}"},
		{Config: "{send_batch_sise: 100}"},
		{Config: "[timeout]"},
		{Config: "quickly"},
	}
}

// Agreed returns further configurations that both accept, and take for the same.
func Agreed() []string {
	return []string{
		"", "{}", "null",
		"{timeout: }", "{timeout: 0}", `{timeout: "0"}`, "{timeout: 1ns}", "{timeout: 1h30m}", "{timeout: 2540400h}",
		"{send_batch_size: }", "{send_batch_size: 1e3}", "{send_batch_size: 98304}",
		"{send_batch_max_size: }", "{send_batch_max_size: 8192}", "{send_batch_max_size: 4294967295}",
		"{metadata_keys: }", "{metadata_keys: x-tenant}", "{metadata_keys: [X-Tenant, x-user]}",
		"{metadata_cardinality_limit: }", "{metadata_cardinality_limit: 4294967295}",
	}
}
