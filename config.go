package boundedbatchprocessor

import (
	"time"

	"go.opentelemetry.io/collector/component"

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

	// MetadataKeys are the client metadata keys that separate partitions, whatever
	// their case. A key that is unset differs from one that is empty. Default none.
	MetadataKeys []string `mapstructure:"metadata_keys"`

	// MetadataCardinalityLimit is the most partitions alive at once. Default 1000;
	// 0 is no limit. One more seals and retires the least recently used; nobody is
	// refused for it.
	MetadataCardinalityLimit int `mapstructure:"metadata_cardinality_limit"`

	// QueueSize is the most items held, exactly: pending, sealed and in flight.
	// Default 98304; at least SendBatchSize.
	QueueSize int `mapstructure:"queue_size"`

	// BlockOnOverflow tells what happens when QueueSize is reached. Default true:
	// callers wait, first come, first served, until their context ends. False: they
	// are refused with a retryable error.
	BlockOnOverflow bool `mapstructure:"block_on_overflow"`

	// MaxConcurrentExports is the most export calls under way at once. Default 10.
	MaxConcurrentExports int `mapstructure:"max_concurrent_exports"`

	// MaxConcurrentExportsPerPartition is the same for each partition. Default 0: 1
	// for metrics, whose order backends care about, and no limit of its own for traces
	// and logs. 1 keeps every partition in order.
	MaxConcurrentExportsPerPartition int `mapstructure:"max_concurrent_exports_per_partition"`

	// ExportTimeout is the deadline of one export call. Default 0, which is none.
	ExportTimeout time.Duration `mapstructure:"export_timeout"`

	// ShutdownTimeout is the longest a shutdown takes. Default 30s. 0: only the
	// deadline of the Collector's own context, which usually has none.
	ShutdownTimeout time.Duration `mapstructure:"shutdown_timeout"`

	// prevent unkeyed literal initialization
	_ struct{}
}

func createDefaultConfig() component.Config {
	return &Config{
		Timeout:                  200 * time.Millisecond,
		SendBatchSize:            8192,
		MetadataCardinalityLimit: 1000,
		QueueSize:                98304,
		BlockOnOverflow:          true,
		MaxConcurrentExports:     10,
		ShutdownTimeout:          30 * time.Second,
	}
}

// Validate refuses a configuration that cannot work. Each error names the key, the
// value and what would be accepted.
func (cfg *Config) Validate() error {
	set := cfg.settings()
	return set.Validate()
}

// settings is the configuration as the engine takes it.
func (cfg *Config) settings() batcher.Settings {
	return batcher.Settings{
		Timeout:                          cfg.Timeout,
		SendBatchSize:                    cfg.SendBatchSize,
		SendBatchMaxSize:                 cfg.SendBatchMaxSize,
		MetadataKeys:                     cfg.MetadataKeys,
		MetadataCardinalityLimit:         cfg.MetadataCardinalityLimit,
		QueueSize:                        cfg.QueueSize,
		BlockOnOverflow:                  cfg.BlockOnOverflow,
		MaxConcurrentExports:             cfg.MaxConcurrentExports,
		MaxConcurrentExportsPerPartition: cfg.MaxConcurrentExportsPerPartition,
		ExportTimeout:                    cfg.ExportTimeout,
		ShutdownTimeout:                  cfg.ShutdownTimeout,
	}
}
