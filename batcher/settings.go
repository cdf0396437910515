package batcher

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"
)

// Settings is what code passes to New. Fields correspond to the processor's
// configuration keys of the same name; unlike there, the zero value is no default
// but means what the field says.
type Settings struct {
	// Timeout is the longest an item stays pending. 0: seal as soon as an export
	// slot is free.
	Timeout time.Duration
	// SendBatchSize is the number of items that seals a batch. 0: every request is
	// sealed at once.
	SendBatchSize int
	// SendBatchMaxSize is the most items in a batch; 0 is no limit. Otherwise at
	// least SendBatchSize.
	SendBatchMaxSize int
	// SendBatchMaxBytes is the most bytes in a batch in OTLP's binary encoding; 0 is no
	// limit. An item that takes more by itself is dropped, and Consume returns an error that
	// wraps ErrItemTooLarge.
	SendBatchMaxBytes int

	// MetadataKeys are the client metadata keys that separate partitions. Their case
	// does not matter; a key that is unset differs from one that is empty.
	MetadataKeys []string
	// ResourceKeys are the resource attributes that separate partitions too. A request with
	// several resources is divided among their partitions. Exports carry the values as
	// client metadata under the same names. Case matters; an attribute that is unset differs
	// from one that is empty, and one value from another of the same text but another type.
	ResourceKeys []string
	// MetadataCardinalityLimit is the most partitions alive at once; 0 is no limit.
	MetadataCardinalityLimit int

	// QueueSize is the most items held. At least 1 and at least SendBatchSize. With
	// MetadataKeys or ResourceKeys a partition holds at most seven eighths of it, and the less
	// is free the less.
	QueueSize int
	// MemoryLimit is the most bytes held, as Signal.Heap estimates them, together with
	// QueueSize; 0 is no limit.
	MemoryLimit int
	// BlockOnOverflow makes callers wait for room rather than refusing them.
	BlockOnOverflow bool

	// MaxConcurrentExports is the most export calls under way at once; at least 1.
	MaxConcurrentExports int
	// MaxConcurrentExportsPerPartition is the same for each partition. 0: with MetadataKeys
	// or ResourceKeys a partition takes a further slot only while it has fewer exports under
	// way than there are slots free, so that one is left for others; without, it may take
	// all.
	MaxConcurrentExportsPerPartition int
	// ExportTimeout is the deadline of one export call; 0 is none.
	ExportTimeout time.Duration

	// WaitForResult makes Consume return only when every item of its request has an
	// outcome, with that outcome.
	WaitForResult bool
	// FlushWhenIdle seals what is pending in a partition as soon as an export slot is
	// free, the partition has nothing on its way (group commit), and callers who are about to
	// run have joined: no timer is waited for.
	FlushWhenIdle bool
	// Retry says how batches are sent again that failed with a retryable error.
	Retry Retry
	// NextMutates says that the next consumer may change the data it is given
	// (consumer.Capabilities.MutatesData). What may have to be sent again is then
	// copied before its export, if WaitForResult or Retry needs that.
	NextMutates bool

	// MergeResources puts the items under equal resources and scopes, and data points of equal
	// metrics, under one entry of their batch, before its first export. It is left out where requests
	// are large, or all differ.
	MergeResources bool

	// ShutdownTimeout is the longest Shutdown takes; 0 leaves it to its context.
	ShutdownTimeout time.Duration

	// Observer is told what happens; may be nil.
	Observer Observer
	// Tracer makes a span for each batch with traced contributors; nil for none.
	Tracer trace.Tracer
	// Labels are pprof labels for the batcher's goroutines, as keys and values in
	// turn. "role" and "signal" are added.
	Labels []string
}

// Retry is exponential backoff with jitter, as configretry.BackOffConfig has it.
type Retry struct {
	// Enabled: a batch that failed with a retryable error is sent again. The other
	// fields count only if it is set.
	Enabled bool
	// InitialInterval is the wait after the first failure; more than 0.
	InitialInterval time.Duration
	// Multiplier is what a wait grows by after each further failure; at least 1.
	Multiplier float64
	// MaxInterval is the longest wait, unless the server asks for a longer one; at
	// least InitialInterval.
	MaxInterval time.Duration
	// RandomizationFactor is the part of a wait that is left to chance, from 0 to 1.
	RandomizationFactor float64
	// MaxElapsedTime is the longest time from the first export of a batch to its last;
	// 0 is no limit.
	MaxElapsedTime time.Duration
}

// Validate rejects what cannot work. The names in its errors are the configuration
// keys, because that is where most settings come from.
func (s *Settings) Validate() error {
	var errs []error
	reject := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	reject(s.Timeout < 0, "timeout: %v is negative; accepted are 0 and more", s.Timeout)
	reject(s.SendBatchSize < 0, "send_batch_size: %d is negative; accepted are 0 and more", s.SendBatchSize)
	reject(s.SendBatchMaxSize != 0 && s.SendBatchMaxSize < s.SendBatchSize,
		"send_batch_max_size: %d is less than send_batch_size (%d); accepted are 0 (no limit) and %[2]d or more",
		s.SendBatchMaxSize, s.SendBatchSize)
	reject(s.SendBatchMaxBytes < 0, "send_batch_max_bytes: %d is negative; accepted are 0 (no limit) and more", s.SendBatchMaxBytes)
	reject(s.MemoryLimit < 0, "memory_limit: %d is negative; accepted are 0 (no limit) and more", s.MemoryLimit)
	reject(s.MetadataCardinalityLimit < 0,
		"metadata_cardinality_limit: %d is negative; accepted are 0 (no limit) and more", s.MetadataCardinalityLimit)
	reject(s.QueueSize < max(1, s.SendBatchSize),
		"queue_size: %d is too small; accepted are %d (the greater of 1 and send_batch_size) and more",
		s.QueueSize, max(1, s.SendBatchSize))
	reject(s.MaxConcurrentExports < 1,
		"max_concurrent_exports: %d is too small; accepted are 1 and more", s.MaxConcurrentExports)
	reject(s.MaxConcurrentExportsPerPartition < 0 || s.MaxConcurrentExportsPerPartition > max(s.MaxConcurrentExports, 0),
		"max_concurrent_exports_per_partition: %d is out of range; accepted are 0 (the default) to max_concurrent_exports (%d)",
		s.MaxConcurrentExportsPerPartition, s.MaxConcurrentExports)
	reject(s.ExportTimeout < 0, "export_timeout: %v is negative; accepted are 0 (none) and more", s.ExportTimeout)
	if s.Retry.Enabled {
		r := &s.Retry
		reject(r.InitialInterval <= 0, "retry_on_failure::initial_interval: %v leaves no pause; accepted is more than 0", r.InitialInterval)
		reject(!(r.Multiplier >= 1), "retry_on_failure::multiplier: %v would shorten the pauses; accepted are 1 and more", r.Multiplier)
		reject(r.MaxInterval < r.InitialInterval,
			"retry_on_failure::max_interval: %v is less than initial_interval (%v); accepted are %[2]v and more", r.MaxInterval, r.InitialInterval)
		reject(!(r.RandomizationFactor >= 0 && r.RandomizationFactor <= 1),
			"retry_on_failure::randomization_factor: %v is out of range; accepted are 0 to 1", r.RandomizationFactor)
		reject(r.MaxElapsedTime != 0 && r.MaxElapsedTime < r.InitialInterval,
			"retry_on_failure::max_elapsed_time: %v is less than initial_interval (%v); accepted are 0 (no limit) and %[2]v or more",
			r.MaxElapsedTime, r.InitialInterval)
	}
	reject(s.ShutdownTimeout < 0, "shutdown_timeout: %v is negative; accepted are 0 (none) and more", s.ShutdownTimeout)
	reject(len(s.Labels)%2 != 0, "labels: %d strings are no pairs of key and value", len(s.Labels))

	// Downstream sees all of them as client metadata, which ignores case.
	seen := make(map[string]string, len(s.MetadataKeys)+len(s.ResourceKeys))
	check := func(list, what string, keys []string) {
		for i, key := range keys {
			lower, at := strings.ToLower(key), fmt.Sprintf("%s::%d", list, i)
			first, duplicate := seen[lower]
			if !duplicate {
				seen[lower] = at
			}
			reject(key == "", "%s: the key is empty; accepted are %s", at, what)
			reject(key != "" && duplicate, "%s: %q is already listed at %s; accepted is each key once, whatever its case", at, key, first)
		}
	}
	check("metadata_keys", "names of client metadata", s.MetadataKeys)
	check("resource_keys", "names of resource attributes", s.ResourceKeys)
	return errors.Join(errs...)
}

// divides tells whether there are several partitions.
func (s *Settings) divides() bool { return len(s.MetadataKeys)+len(s.ResourceKeys) > 0 }
