package boundedbatchprocessor

import (
	"fmt"
	"math"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/config/configretry"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/confmaptest"
)

func TestDefaultsAreThoseOfTheContract(t *testing.T) {
	require.Equal(t, &Config{
		Timeout:                          200 * time.Millisecond,
		SendBatchSize:                    8192,
		SendBatchMaxSize:                 0,
		SendBatchMaxBytes:                0,
		MetadataKeys:                     nil,
		MetadataCardinalityLimit:         1000,
		QueueSize:                        98304,
		MemoryLimit:                      0,
		BlockOnOverflow:                  true,
		MaxConcurrentExports:             10,
		MaxConcurrentExportsPerPartition: 0,
		ExportTimeout:                    0,
		WaitForResult:                    false,
		FlushWhenIdle:                    nil,
		MergeResources:                   false,
		RetryOnFailure: RetryConfig{ // configretry.NewDefaultBackOffConfig, but not enabled
			Enabled:             false,
			InitialInterval:     5 * time.Second,
			MaxElapsedTime:      5 * time.Minute,
			MaxInterval:         30 * time.Second,
			Multiplier:          1.5,
			RandomizationFactor: 0.5,
		},
		ShutdownTimeout: 30 * time.Second,
	}, NewFactory().CreateDefaultConfig())
	require.NoError(t, confmap.Validate(NewFactory().CreateDefaultConfig()))
}

func TestEmptyConfigurationIsTheDefault(t *testing.T) {
	cfg, err := decode(confmap.New())
	require.NoError(t, err)
	require.Equal(t, createDefaultConfig(), cfg)
}

func TestEveryKeyIsRead(t *testing.T) {
	conf, err := confmaptest.LoadConf(filepath.Join("testdata", "config.yaml"))
	require.NoError(t, err)
	cfg, err := decode(conf)
	require.NoError(t, err)
	require.Equal(t, &Config{
		Timeout:                          5 * time.Second,
		SendBatchSize:                    1000,
		SendBatchMaxSize:                 2000,
		SendBatchMaxBytes:                4_000_000,
		MetadataKeys:                     []string{"tenant", "X-Project"},
		MetadataCardinalityLimit:         50,
		ResourceKeys:                     []string{"service.namespace", "Team"},
		QueueSize:                        30000,
		MemoryLimit:                      1536 << 20,
		BlockOnOverflow:                  false,
		MaxConcurrentExports:             8,
		MaxConcurrentExportsPerPartition: 4,
		ExportTimeout:                    20 * time.Second,
		WaitForResult:                    true,
		FlushWhenIdle:                    new(false),
		MergeResources:                   true,
		RetryOnFailure: RetryConfig{
			Enabled:             true,
			InitialInterval:     time.Second,
			MaxElapsedTime:      10 * time.Minute,
			MaxInterval:         time.Minute,
			Multiplier:          2,
			RandomizationFactor: 0.25,
		},
		ShutdownTimeout: 90 * time.Second,
	}, cfg)

	for key, field := range keys() {
		require.True(t, conf.IsSet(key), "testdata/config.yaml does not set %s", key)
		is, byDefault := field(cfg).Interface(), field(createDefaultConfig().(*Config)).Interface()
		require.NotEqual(t, byDefault, is, "testdata/config.yaml sets %s to its default", key)
	}
}

// TestEverySettingReachesTheEngine: for each key of testdata/config.yaml, the engine
// gets other settings than without it.
func TestEverySettingReachesTheEngine(t *testing.T) {
	conf, err := confmaptest.LoadConf(filepath.Join("testdata", "config.yaml"))
	require.NoError(t, err)
	all, err := decode(conf)
	require.NoError(t, err)
	for key, field := range keys() {
		lacking := *all
		field(&lacking).Set(field(createDefaultConfig().(*Config)))
		if key == "flush_when_idle" {
			require.True(t, lacking.settings().FlushWhenIdle, "it follows wait_for_result")
		}
		require.NotEqual(t, all.settings(), lacking.settings(), "%s does not reach the engine", key)
	}
}

func TestFlushWhenIdleFollowsWaitForResultUnlessSet(t *testing.T) {
	for _, c := range []struct {
		conf map[string]any
		want bool
	}{
		{map[string]any{}, false},
		{map[string]any{"wait_for_result": true}, true},
		{map[string]any{"wait_for_result": true, "flush_when_idle": nil}, true},
		{map[string]any{"wait_for_result": true, "flush_when_idle": false}, false},
		{map[string]any{"wait_for_result": false, "flush_when_idle": true}, true},
		{map[string]any{"flush_when_idle": true}, true},
		{map[string]any{"flush_when_idle": false}, false},
	} {
		cfg, err := decode(confmap.NewFromStringMap(c.conf))
		require.NoError(t, err)
		require.Equal(t, c.want, cfg.settings().FlushWhenIdle, "%v", c.conf)
	}
}

// TestRetriesAreOffUnlessEnabled: everything else that is written about them counts only
// then, and what is not written keeps its default.
func TestRetriesAreOffUnlessEnabled(t *testing.T) {
	for _, c := range []struct {
		name string
		yaml string
		want func(*RetryConfig)
	}{
		{"no value", "retry_on_failure:", func(*RetryConfig) {}},
		{"an empty map", "retry_on_failure: {}", func(*RetryConfig) {}},
		{"enabled", "retry_on_failure: {enabled: true}", func(r *RetryConfig) { r.Enabled = true }},
		{"enabled as one key", "retry_on_failure::enabled: true", func(r *RetryConfig) { r.Enabled = true }},
		{"enabled without a value", "retry_on_failure: {enabled: }", func(*RetryConfig) {}},
		{"settings alone", "retry_on_failure: {initial_interval: 7s, multiplier: 3}", func(r *RetryConfig) {
			r.InitialInterval, r.Multiplier = 7*time.Second, 3
		}},
		{"without end", "retry_on_failure: {enabled: true, max_elapsed_time: 0}", func(r *RetryConfig) {
			r.Enabled, r.MaxElapsedTime = true, 0
		}},
		{"shorter than the longest pause", "retry_on_failure: {enabled: true, max_elapsed_time: 10s}", func(r *RetryConfig) {
			r.Enabled, r.MaxElapsedTime = true, 10*time.Second
		}},
		{"equal pauses", "retry_on_failure: {enabled: true, multiplier: 1, randomization_factor: 0}", func(r *RetryConfig) {
			r.Enabled, r.Multiplier, r.RandomizationFactor = true, 1, 0
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			written, err := confmap.NewRetrievedFromYAML([]byte(c.yaml))
			require.NoError(t, err)
			conf, err := written.AsConf()
			require.NoError(t, err)
			got, err := decode(conf)
			require.NoError(t, err)
			want := createDefaultConfig().(*Config)
			c.want(&want.RetryOnFailure)
			require.Equal(t, want, got)
			require.Equal(t, want.RetryOnFailure.Enabled, got.settings().Retry.Enabled)
		})
	}
}

// TestRetriesThatAreOffAreJudgedAsTheCollectorJudgesThem, but for the rule that
// RetryConfig names.
func TestRetriesThatAreOffAreJudgedAsTheCollectorJudgesThem(t *testing.T) {
	durations := []time.Duration{-time.Second, 0, time.Second, time.Minute}
	numbers := []float64{-1, 0, 0.5, 1, 2}
	refused := 0
	for _, initial := range durations {
		for _, elapsed := range durations {
			for _, longest := range durations {
				for _, multiplier := range numbers {
					for _, random := range numbers {
						collector := configretry.BackOffConfig{
							InitialInterval: initial, MaxElapsedTime: elapsed, MaxInterval: longest,
							Multiplier: multiplier, RandomizationFactor: random,
						}
						cfg := createDefaultConfig().(*Config)
						cfg.RetryOnFailure = RetryConfig(collector)
						if elapsed > 0 {
							collector.MaxInterval = min(longest, elapsed)
						}
						require.Equal(t, collector.Validate() != nil, cfg.Validate() != nil, "%+v", collector)
						if cfg.Validate() != nil {
							refused++
						}
					}
				}
			}
		}
	}
	require.NotZero(t, refused)
}

// TestKeysOfTheBatchProcessorKeepTheirMeaning reads what people have under batch:
// today, numbers without unit among it where they are unambiguous.
func TestKeysOfTheBatchProcessorKeepTheirMeaning(t *testing.T) {
	for _, c := range []struct {
		name string
		conf map[string]any
		want func(*Config)
	}{
		{"size and timeout", map[string]any{"timeout": "10s", "send_batch_size": 512, "send_batch_max_size": 1024}, func(cfg *Config) {
			cfg.Timeout, cfg.SendBatchSize, cfg.SendBatchMaxSize = 10*time.Second, 512, 1024
		}},
		{"zero needs no unit", map[string]any{"timeout": 0}, func(cfg *Config) { cfg.Timeout = 0 }},
		{"zero with a unit", map[string]any{"timeout": "0s"}, func(cfg *Config) { cfg.Timeout = 0 }},
		{"every request at once", map[string]any{"send_batch_size": 0}, func(cfg *Config) { cfg.SendBatchSize = 0 }},
		{"a limit equal to the size", map[string]any{"send_batch_max_size": 8192}, func(cfg *Config) { cfg.SendBatchMaxSize = 8192 }},
		{"tenants without limit", map[string]any{"metadata_keys": []any{"tenant"}, "metadata_cardinality_limit": 0}, func(cfg *Config) {
			cfg.MetadataKeys, cfg.MetadataCardinalityLimit = []string{"tenant"}, 0
		}},
		{"keys separated by commas", map[string]any{"metadata_keys": "tenant,project"}, func(cfg *Config) {
			cfg.MetadataKeys = []string{"tenant", "project"}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := createDefaultConfig().(*Config)
			c.want(want)
			got, err := decode(confmap.NewFromStringMap(c.conf))
			require.NoError(t, err)
			require.Equal(t, want, got)
		})
	}
}

// rejection is what an error must tell about one wrong key.
type rejection struct {
	key, value string
	accepted   string // a part of what the error says would be accepted
}

var upToMaxInt = fmt.Sprintf("up to %d", math.MaxInt)

// rejected has an entry for each file in testdata/rejected.
var rejected = map[string][]rejection{
	"negative_timeout":             {{"timeout", "-1s", "accepted are 0 and more"}},
	"negative_send_batch_size":     {{"send_batch_size", "-1", "accepted are 0 and more"}},
	"negative_send_batch_max_size": {{"send_batch_max_size", "-1", "accepted are 0 (no limit) and 8192 or more"}},
	"max_below_size":               {{"send_batch_max_size", "199", "accepted are 0 (no limit) and 200 or more"}},
	"max_below_default_size":       {{"send_batch_max_size", "1000", "accepted are 0 (no limit) and 8192 or more"}},
	"empty_metadata_key":           {{"metadata_keys::1", "empty", "accepted are names of client metadata"}},
	"duplicate_metadata_key":       {{"metadata_keys::2", `"Tenant" is already listed at metadata_keys::0`, "each key once, whatever its case"}},
	"empty_resource_key":           {{"resource_keys::1", "empty", "accepted are names of resource attributes"}},
	"duplicate_resource_key": {
		{"resource_keys::1", `"Tenant" is already listed at metadata_keys::0`, "each key once, whatever its case"},
		{"resource_keys::2", `"service.name" is already listed at resource_keys::0`, "each key once, whatever its case"},
	},
	"negative_send_batch_max_bytes":                 {{"send_batch_max_bytes", "-4194304", "accepted are 0 (no limit) and more"}},
	"negative_memory_limit":                         {{"memory_limit", "-1", "accepted are 0 (no limit) and more"}},
	"negative_metadata_cardinality_limit":           {{"metadata_cardinality_limit", "-5", "accepted are 0 (no limit) and more"}},
	"negative_queue_size":                           {{"queue_size", "-1", "accepted are 8192 (the greater of 1 and send_batch_size) and more"}},
	"zero_queue_size":                               {{"queue_size", "0", "accepted are 1 (the greater of 1 and send_batch_size) and more"}},
	"queue_below_size":                              {{"queue_size", "199", "accepted are 200 (the greater of 1 and send_batch_size) and more"}},
	"queue_below_default_size":                      {{"queue_size", "2000", "accepted are 8192 (the greater of 1 and send_batch_size) and more"}},
	"negative_max_concurrent_exports":               {{"max_concurrent_exports", "-3", "accepted are 1 and more"}},
	"zero_max_concurrent_exports":                   {{"max_concurrent_exports", "0", "accepted are 1 and more"}},
	"negative_max_concurrent_exports_per_partition": {{"max_concurrent_exports_per_partition", "-1", "to max_concurrent_exports (10)"}},
	"per_partition_above_all":                       {{"max_concurrent_exports_per_partition", "5", "to max_concurrent_exports (4)"}},
	"per_partition_above_default":                   {{"max_concurrent_exports_per_partition", "11", "to max_concurrent_exports (10)"}},
	"negative_export_timeout":                       {{"export_timeout", "-20ms", "accepted are 0 (none) and more"}},
	"negative_shutdown_timeout":                     {{"shutdown_timeout", "-1h", "accepted are 0 (none) and more"}},
	"zero_retry_initial_interval":                   {{"retry_on_failure::initial_interval", "0s", "accepted is more than 0"}},
	"negative_retry_initial_interval":               {{"retry_on_failure::initial_interval", "-1s", "accepted is more than 0"}},
	"retry_multiplier_below_one":                    {{"retry_on_failure::multiplier", "0.9", "accepted are 1 and more"}},
	"retry_multiplier_nan":                          {{"retry_on_failure::multiplier", "NaN", "accepted are 1 and more"}},
	"retry_max_interval_below_initial":              {{"retry_on_failure::max_interval", "30s", "accepted are 1m0s and more"}},
	"retry_randomization_factor_above_1":            {{"retry_on_failure::randomization_factor", "1.5", "accepted are 0 to 1"}},
	"retry_max_elapsed_time_below_initial":          {{"retry_on_failure::max_elapsed_time", "4s", "accepted are 0 (no limit) and 5s or more"}},
	"negative_retry_max_elapsed_time":               {{"retry_on_failure::max_elapsed_time", "-1m", "accepted are 0 (no limit) and 5s or more"}},
	"negative_retries_that_are_off": {
		{"retry_on_failure::initial_interval", "-1s", "accepted are 0 and more"},
		{"retry_on_failure::max_elapsed_time", "-2s", "accepted are 0 (no limit) and 0s or more"},
		{"retry_on_failure::max_interval", "-3s", "accepted are 0 and more"},
		{"retry_on_failure::multiplier", "-4", "accepted are 0 and more"},
		{"retry_on_failure::randomization_factor", "-5", "accepted are 0 to 1"},
	},
	"several": {
		{"timeout", "-2s", "accepted are 0 and more"},
		{"send_batch_max_size", "50", "accepted are 0 (no limit) and 100 or more"},
		{"send_batch_max_bytes", "-3", "accepted are 0 (no limit) and more"},
		{"memory_limit", "-5", "accepted are 0 (no limit) and more"},
		{"queue_size", "70", "accepted are 100 (the greater of 1 and send_batch_size) and more"},
		{"max_concurrent_exports", "0", "accepted are 1 and more"},
		{"export_timeout", "-3s", "accepted are 0 (none) and more"},
		{"metadata_keys::1", `"A" is already listed at metadata_keys::0`, "each key once"},
		{"metadata_keys::2", "empty", "accepted are names of client metadata"},
	},

	"unknown_key":           {{"send_batch_maxsize", "5", "send_batch_max_size"}},
	"unknown_key_case":      {{"Timeout", "3s", "timeout"}},
	"unknown_limit_mib":     {{"limit_mib", "512", "queue_size, memory_limit"}},
	"unknown_num_consumers": {{"num_consumers", "10", "max_concurrent_exports"}},

	"duration_without_unit":        {{"timeout", "5", "duration"}},
	"duration_without_unit_quoted": {{"timeout", "5", "duration"}},
	"duration_with_unknown_unit":   {{"export_timeout", "5 parsecs", "duration"}},
	"duration_bool":                {{"shutdown_timeout", "true", "duration"}},
	"duration_list":                {{"timeout", "1s", "duration"}},
	"int_string":                   {{"send_batch_size", "many", "int"}},
	"int_quoted":                   {{"queue_size", "98304", "int"}},
	"int_fraction":                 {{"send_batch_size", "1.5", "int"}},
	"int_beyond_range":             {{"queue_size", "100000000000000000000", "int"}},
	"int_bool":                     {{"max_concurrent_exports", "true", "int"}},
	"size_negative_with_unit":      {{"memory_limit", `"-512MiB"`, "size"}},
	"size_negative_quoted":         {{"send_batch_max_bytes", `"-4194304"`, "size"}},
	"size_word":                    {{"memory_limit", `"plenty"`, "such as 4194304 or with a unit (B, KiB, MiB, GiB, TiB, kB, MB, GB, TB)"}},
	"size_empty_string":            {{"memory_limit", `""`, "size"}},
	"size_unit_alone":              {{"memory_limit", `"MiB"`, "size"}},
	"size_unknown_unit":            {{"memory_limit", `"512M"`, "with a unit (B, KiB, MiB, GiB, TiB, kB, MB, GB, TB)"}},
	"size_bits":                    {{"send_batch_max_bytes", `"4Mb"`, "with a unit (B, KiB, MiB, GiB, TiB, kB, MB, GB, TB)"}},
	"size_percentage":              {{"memory_limit", `"80%"`, "size"}},
	"size_with_exponent":           {{"memory_limit", `"1e3MiB"`, "size"}},
	"size_of_two_numbers":          {{"memory_limit", `"1GiB 512MiB"`, "size"}},
	"size_fraction":                {{"send_batch_max_bytes", "4000000.5", "whole numbers of bytes"}},
	"size_fraction_of_a_byte":      {{"memory_limit", `"0.1MiB"`, "whole numbers of bytes"}},
	"size_beyond_range":            {{"memory_limit", "100000000000000000000", upToMaxInt}},
	"size_just_beyond_range":       {{"memory_limit", "9223372036854775808", upToMaxInt}},
	"size_beyond_range_quoted":     {{"memory_limit", `"9223372036854775808"`, upToMaxInt}},
	"size_beyond_range_with_unit":  {{"memory_limit", `"8388608TiB"`, upToMaxInt}},
	"size_nan":                     {{"memory_limit", "NaN", "size"}},
	"size_infinite":                {{"memory_limit", "+Inf", "size"}},
	"size_bool":                    {{"memory_limit", "true", "size"}},
	"size_list":                    {{"send_batch_max_bytes", "[4MiB]", "size"}},
	"size_map":                     {{"memory_limit", "map[bytes:4194304]", "size"}},
	"bool_word":                    {{"block_on_overflow", "yes", "bool"}},
	"bool_number":                  {{"block_on_overflow", "1", "bool"}},
	"list_map":                     {{"metadata_keys", "tenant", "list"}},
	"resource_keys_map":            {{"resource_keys", "service", "list"}},
	"list_number":                  {{"metadata_keys", "7", "list"}},
	"list_of_numbers":              {{"metadata_keys", "7", "string"}},
	"bool_pointer_word":            {{"flush_when_idle", "sometimes", "bool"}},
	"float_quoted":                 {{"retry_on_failure::multiplier", `"1.5"`, "number"}},
	"float_bool":                   {{"retry_on_failure::randomization_factor", "true", "number"}},
	"retry_bool":                   {{"retry_on_failure", "true", "map; accepted are maps with the keys enabled, initial_interval"}},
	"retry_list":                   {{"retry_on_failure", "[enabled]", "map"}},
	"retry_empty_string":           {{"retry_on_failure", `""`, "map"}},
	"retry_unknown_key":            {{"retry_on_failure::max_retries", "5", "accepted are enabled, initial_interval, max_elapsed_time, max_interval, multiplier, randomization_factor"}},
	"retry_unknown_map":            {{"retry_on_failure::backoff", "map[initial_interval:5s]", "accepted are enabled, initial_interval"}},
	"retry_duration_without_unit":  {{"retry_on_failure::initial_interval", "5", "duration"}},
	"retry_enabled_word":           {{"retry_on_failure::enabled", "yes", "bool"}},
	"several_types": {
		{"retry_on_failure::enabled", "1", "bool"},
		{"retry_on_failure::max_interval", "long", "duration"},
		{"timeout", "soon", "duration"},
		{"queue_size", "large", "int"},
		{"memory_limit", `"large"`, "size"},
		{"merge_resources", "5", "bool"},
	},
}

func TestRejectedConfigurationNamesKeyValueAndWhatWouldBeAccepted(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "rejected", "*.yaml"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	found := make(map[string]bool)
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		found[name] = true
		t.Run(name, func(t *testing.T) {
			want := rejected[name]
			require.NotEmpty(t, want, "testdata/rejected has a file that the table lacks")
			conf, err := confmaptest.LoadConf(file)
			require.NoError(t, err)
			_, err = decode(conf)
			require.Error(t, err)

			complaints := complaintsOf(err)
			assert.Len(t, complaints, len(want), "one complaint for each wrong key:\n%v", err)
			for _, w := range want {
				i := indexOf(complaints, w.key)
				if !assert.GreaterOrEqual(t, i, 0, "nothing about the key %s:\n%v", w.key, err) {
					continue
				}
				assert.Contains(t, complaints[i], w.value, "the value")
				assert.Contains(t, strings.ToLower(complaints[i]), strings.ToLower(w.accepted), "what would be accepted")
			}
		})
	}
	for name := range rejected {
		assert.True(t, found[name], "the table has an entry without a file: testdata/rejected/%s.yaml", name)
	}
}

// complaintsOf takes an error apart into its lines, without what the Collector puts
// before them: a heading, and two quotes with nothing in them for the configuration
// as a whole.
func complaintsOf(err error) (complaints []string) {
	for line := range strings.Lines(err.Error()) {
		line = strings.TrimPrefix(strings.TrimSpace(line), "'' ")
		if line != "" && line != "decoding failed due to the following error(s):" {
			complaints = append(complaints, line)
		}
	}
	return complaints
}

// indexOf finds the complaint that begins with key, or has it in the quotes that the
// Collector's decoder uses. -1 if there is none.
func indexOf(complaints []string, key string) int {
	for i, c := range complaints {
		if strings.HasPrefix(c, key+":") || strings.HasPrefix(c, "'"+key+"'") {
			return i
		}
	}
	return -1
}

// decode reads a configuration as the Collector does: over the defaults, then
// validated.
func decode(conf *confmap.Conf) (*Config, error) {
	cfg := NewFactory().CreateDefaultConfig()
	if err := conf.Unmarshal(&cfg); err != nil {
		return nil, err
	}
	if err := confmap.Validate(cfg); err != nil {
		return nil, err
	}
	return cfg.(*Config), nil
}

// keys returns every configuration key with its field, those of a map with the path to
// them.
func keys() map[string]func(*Config) reflect.Value {
	all := make(map[string]func(*Config) reflect.Value)
	var add func(path string, of reflect.Type, get func(*Config) reflect.Value)
	add = func(path string, of reflect.Type, get func(*Config) reflect.Value) {
		for i := range of.NumField() {
			f := of.Field(i)
			key := f.Tag.Get("mapstructure")
			if key == "" {
				continue
			}
			field := func(cfg *Config) reflect.Value { return get(cfg).Field(i) }
			if f.Type.Kind() == reflect.Struct {
				add(path+key+confmap.KeyDelimiter, f.Type, field)
			} else {
				all[path+key] = field
			}
		}
	}
	add("", reflect.TypeFor[Config](), func(cfg *Config) reflect.Value { return reflect.ValueOf(cfg).Elem() })
	return all
}
