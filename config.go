package boundedbatchprocessor

import (
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/configretry"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
)

// Config is the configuration of the boundedbatch processor. The first five keys are
// those of the batch processor, with the same defaults.
type Config struct {
	// Timeout is the longest an item stays pending. Default 200ms. 0: a batch leaves
	// as soon as an export slot is free, so that batches grow only while downstream
	// is busy.
	Timeout time.Duration `mapstructure:"timeout"`

	// SendBatchSize is the number of items that seals a batch. Default 8192.
	// 0: every request is sealed at once.
	SendBatchSize int `mapstructure:"send_batch_size"`

	// SendBatchMaxSize is the most items in a batch. Default 0, which is no limit;
	// otherwise at least SendBatchSize.
	SendBatchMaxSize int `mapstructure:"send_batch_max_size"`

	// SendBatchMaxBytes is the most bytes in a batch in OTLP's binary encoding, together
	// with SendBatchMaxSize. Default 0, which is no limit. An item that takes more by itself
	// is dropped, and whoever sent it gets a permanent error. A profile, which is never cut,
	// is a batch of its own then, also where it has more samples than SendBatchMaxSize.
	SendBatchMaxBytes ByteSize `mapstructure:"send_batch_max_bytes"`

	// MetadataKeys are the client metadata keys that separate partitions, whatever
	// their case. A key that is unset differs from one that is empty. Default none.
	MetadataKeys []string `mapstructure:"metadata_keys"`

	// MetadataCardinalityLimit is the most partitions alive at once. Default 1000;
	// 0 is no limit. One more seals and retires the least recently used; nobody is
	// refused for it.
	MetadataCardinalityLimit int `mapstructure:"metadata_cardinality_limit"`

	// ResourceKeys are the resource attributes that separate partitions too. A request with
	// several resources is divided among their partitions; exports carry the values as
	// client metadata under the same names. Default none.
	ResourceKeys []string `mapstructure:"resource_keys"`

	// QueueSize is the most items held, exactly: pending, sealed, in flight and
	// waiting for a retry. Default 98304; at least SendBatchSize.
	QueueSize int `mapstructure:"queue_size"`

	// MemoryLimit is the most bytes held, together with QueueSize: an estimate of what the
	// items take on the heap, which is several times their encoding. Default 0, which is no
	// limit.
	MemoryLimit ByteSize `mapstructure:"memory_limit"`

	// BlockOnOverflow tells what happens when QueueSize or MemoryLimit is reached. Default
	// true: callers wait, first come, first served, until their context ends. False: they
	// are refused with a retryable error.
	BlockOnOverflow bool `mapstructure:"block_on_overflow"`

	// MaxConcurrentExports is the most export calls under way at once. Default 10.
	MaxConcurrentExports int `mapstructure:"max_concurrent_exports"`

	// MaxConcurrentExportsPerPartition is the same for each partition. Default 0: 1
	// for metrics, whose order backends care about. For the other signals there is no limit
	// with one partition; with several, one takes a further slot only while it has fewer
	// exports under way than there are slots free. 1 keeps every partition in order.
	MaxConcurrentExportsPerPartition int `mapstructure:"max_concurrent_exports_per_partition"`

	// ExportTimeout is the deadline of one export call. Default 0, which is none.
	ExportTimeout time.Duration `mapstructure:"export_timeout"`

	// WaitForResult makes Consume return only when every item of a request has an
	// outcome, with that outcome. Default false: once the items are accepted.
	WaitForResult bool `mapstructure:"wait_for_result"`

	// FlushWhenIdle makes a batch leave at once where its partition has nothing on its
	// way and an export slot is free. Default nil, which is WaitForResult.
	FlushWhenIdle *bool `mapstructure:"flush_when_idle"`

	// RetryOnFailure says how batches are sent again that failed with a retryable error.
	// Default: the Collector's settings, but not enabled.
	RetryOnFailure RetryConfig `mapstructure:"retry_on_failure"`

	// MergeResources puts items under equal resources and scopes, and data points of equal metrics,
	// under one entry of their batch. Default false.
	MergeResources bool `mapstructure:"merge_resources"`

	// ShutdownTimeout is the longest a shutdown takes. Default 30s. 0: only the
	// deadline of the Collector's own context, which usually has none.
	ShutdownTimeout time.Duration `mapstructure:"shutdown_timeout"`

	// prevent unkeyed literal initialization
	_ struct{}
}

// RetryConfig is the Collector's configretry.BackOffConfig without its method Validate.
// The Collector would call that too, and an operator would read about one mistake twice,
// the second time without the value. Its one rule that has no equivalent here is that
// MaxElapsedTime be at least MaxInterval: retries that end before they reach the longest
// pause work.
type RetryConfig configretry.BackOffConfig

func createDefaultConfig() component.Config {
	retry := configretry.NewDefaultBackOffConfig()
	retry.Enabled = false
	return &Config{
		Timeout:                  200 * time.Millisecond,
		SendBatchSize:            8192,
		MetadataCardinalityLimit: 1000,
		QueueSize:                98304,
		BlockOnOverflow:          true,
		MaxConcurrentExports:     10,
		RetryOnFailure:           RetryConfig(retry),
		ShutdownTimeout:          30 * time.Second,
	}
}

// Validate refuses a configuration that cannot work. Each error names the key, the
// value and what would be accepted.
func (cfg *Config) Validate() error {
	set := cfg.settings()
	return errors.Join(set.Validate(), cfg.RetryOnFailure.validate())
}

// validate refuses what the Collector refuses in settings that are not enabled, and so
// mean nothing to the engine.
func (r *RetryConfig) validate() error {
	if r.Enabled {
		return nil
	}
	var errs []error
	reject := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf("retry_on_failure::"+format, args...))
		}
	}
	reject(r.InitialInterval < 0, "initial_interval: %v is negative; accepted are 0 and more", r.InitialInterval)
	reject(r.RandomizationFactor < 0 || r.RandomizationFactor > 1,
		"randomization_factor: %v is out of range; accepted are 0 to 1", r.RandomizationFactor)
	reject(r.Multiplier < 0, "multiplier: %v is negative; accepted are 0 and more", r.Multiplier)
	reject(r.MaxInterval < 0, "max_interval: %v is negative; accepted are 0 and more", r.MaxInterval)
	reject(r.MaxElapsedTime < 0 || r.MaxElapsedTime != 0 && r.MaxElapsedTime < r.InitialInterval,
		"max_elapsed_time: %v is less than initial_interval (%v); accepted are 0 (no limit) and %[2]v or more",
		r.MaxElapsedTime, max(0, r.InitialInterval))
	return errors.Join(errs...)
}

// settings is the configuration as the engine takes it.
func (cfg *Config) settings() batcher.Settings {
	return batcher.Settings{
		Timeout:                          cfg.Timeout,
		SendBatchSize:                    cfg.SendBatchSize,
		SendBatchMaxSize:                 cfg.SendBatchMaxSize,
		SendBatchMaxBytes:                int(cfg.SendBatchMaxBytes),
		MetadataKeys:                     cfg.MetadataKeys,
		ResourceKeys:                     cfg.ResourceKeys,
		MetadataCardinalityLimit:         cfg.MetadataCardinalityLimit,
		QueueSize:                        cfg.QueueSize,
		MemoryLimit:                      int(cfg.MemoryLimit),
		BlockOnOverflow:                  cfg.BlockOnOverflow,
		MaxConcurrentExports:             cfg.MaxConcurrentExports,
		MaxConcurrentExportsPerPartition: cfg.MaxConcurrentExportsPerPartition,
		ExportTimeout:                    cfg.ExportTimeout,
		WaitForResult:                    cfg.WaitForResult,
		FlushWhenIdle:                    cfg.flushWhenIdle(),
		Retry: batcher.Retry{
			Enabled:             cfg.RetryOnFailure.Enabled,
			InitialInterval:     cfg.RetryOnFailure.InitialInterval,
			Multiplier:          cfg.RetryOnFailure.Multiplier,
			MaxInterval:         cfg.RetryOnFailure.MaxInterval,
			RandomizationFactor: cfg.RetryOnFailure.RandomizationFactor,
			MaxElapsedTime:      cfg.RetryOnFailure.MaxElapsedTime,
		},
		MergeResources:  cfg.MergeResources,
		ShutdownTimeout: cfg.ShutdownTimeout,
	}
}

// flushWhenIdle is FlushWhenIdle with its default.
func (cfg *Config) flushWhenIdle() bool {
	if cfg.FlushWhenIdle != nil {
		return *cfg.FlushWhenIdle
	}
	return cfg.WaitForResult
}
