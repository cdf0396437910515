package batcher_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
	"github.com/boundedbatch/boundedbatchprocessor/batcher/batchertest"
)

func TestSettingsThatCannotWorkAreRejected(t *testing.T) {
	for want, change := range map[string]func(*batcher.Settings){
		"timeout: -1ns is negative; accepted are 0 and more":                             func(s *batcher.Settings) { s.Timeout = -1 },
		"send_batch_size: -1 is negative; accepted are 0 and more":                       func(s *batcher.Settings) { s.SendBatchSize = -1 },
		"metadata_cardinality_limit: -1 is negative; accepted are 0 (no limit) and more": func(s *batcher.Settings) { s.MetadataCardinalityLimit = -1 },
		"send_batch_max_size: 99 is less than send_batch_size (100); accepted are 0 (no limit) and 100 or more": func(s *batcher.Settings) {
			s.SendBatchMaxSize = 99
		},
		"send_batch_max_size: -1 is less than send_batch_size (0); accepted are 0 (no limit) and 0 or more": func(s *batcher.Settings) {
			s.SendBatchSize, s.SendBatchMaxSize = 0, -1
		},
		"send_batch_max_bytes: -1 is negative; accepted are 0 (no limit) and more": func(s *batcher.Settings) { s.SendBatchMaxBytes = -1 },
		"memory_limit: -1 is negative; accepted are 0 (no limit) and more":         func(s *batcher.Settings) { s.MemoryLimit = -1 },
		"queue_size: 99 is too small; accepted are 100 (the greater of 1 and send_batch_size) and more": func(s *batcher.Settings) {
			s.QueueSize = 99
		},
		"queue_size: 0 is too small; accepted are 1 (the greater of 1 and send_batch_size) and more": func(s *batcher.Settings) {
			s.QueueSize, s.SendBatchSize = 0, 0
		},
		"max_concurrent_exports: 0 is too small; accepted are 1 and more": func(s *batcher.Settings) { s.MaxConcurrentExports = 0 },
		"max_concurrent_exports_per_partition: 3 is out of range; accepted are 0 (the default) to max_concurrent_exports (2)": func(s *batcher.Settings) {
			s.MaxConcurrentExportsPerPartition = 3
		},
		"max_concurrent_exports_per_partition: -1 is out of range; accepted are 0 (the default) to max_concurrent_exports (2)": func(s *batcher.Settings) {
			s.MaxConcurrentExportsPerPartition = -1
		},
		"export_timeout: -1s is negative; accepted are 0 (none) and more":   func(s *batcher.Settings) { s.ExportTimeout = -time.Second },
		"shutdown_timeout: -1s is negative; accepted are 0 (none) and more": func(s *batcher.Settings) { s.ShutdownTimeout = -time.Second },
		"metadata_keys::1: the key is empty; accepted are names of client metadata": func(s *batcher.Settings) {
			s.MetadataKeys = []string{"a", ""}
		},
		`metadata_keys::2: "TENANT" is already listed at metadata_keys::0; accepted is each key once, whatever its case`: func(s *batcher.Settings) {
			s.MetadataKeys = []string{"tenant", "user", "TENANT"}
		},
		"resource_keys::0: the key is empty; accepted are names of resource attributes": func(s *batcher.Settings) {
			s.ResourceKeys = []string{""}
		},
		`resource_keys::1: "User" is already listed at metadata_keys::0; accepted is each key once, whatever its case`: func(s *batcher.Settings) {
			s.MetadataKeys, s.ResourceKeys = []string{"user"}, []string{"tenant", "User"}
		},
		"labels: 1 strings are no pairs of key and value": func(s *batcher.Settings) { s.Labels = []string{"component"} },
		"timeout: -1ns is negative; accepted are 0 and more\nsend_batch_size: -2 is negative; accepted are 0 and more": func(s *batcher.Settings) {
			s.Timeout, s.SendBatchSize = -1, -2
		},
	} {
		set := defaults()
		change(&set)
		kind := batchertest.Logs()
		b, err := batcher.New(kind.Signal, set, batchertest.NewSink(kind, nil).Consume)
		require.Nil(t, b)
		require.EqualError(t, err, want)
	}
	set := defaults()
	require.NoError(t, set.Validate())
}
