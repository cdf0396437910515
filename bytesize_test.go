package boundedbatchprocessor

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/confmap"
)

// acceptedTexts are texts and how many bytes they mean, of those that fit into 32 bits.
var acceptedTexts = map[string]ByteSize{
	"0":          0,
	"0B":         0,
	"00":         0,
	"0.0GiB":     0,
	"4194304":    4194304,
	"4194304.0":  4194304,
	"0100":       100, // not octal
	"4194304B":   4194304,
	"4194304 B":  4194304,
	"4096KiB":    4194304,
	"4MiB":       4194304,
	"4 MiB":      4194304,
	"4.0MiB":     4194304,
	"1GiB":       1 << 30,
	"1.5GiB":     1536 << 20,
	"0.5KiB":     512,
	"4kB":        4000,
	"4KB":        4000,
	"4MB":        4_000_000,
	"0.1MB":      100_000,
	"1.5GB":      1_500_000_000,
	"0.001TB":    1_000_000_000,
	"2147483647": math.MaxInt32,

	// As people write it.
	"4mib": 4 << 20, "4MIB": 4 << 20, "4miB": 4 << 20, "4mb": 4e6, "4mB": 4e6, "4kib": 4096, "4KIB": 4096, "4kb": 4000, "17b": 17,
}

func TestByteSizeOfText(t *testing.T) {
	for text, want := range acceptedTexts {
		var got ByteSize
		require.NoError(t, got.UnmarshalText([]byte(text)), text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{
		"", " ", "B", "MiB", "many", "-1", "-4MiB", "+4MiB", " 4MiB", "4MiB ", "4\tMiB", "4MiB\n", "4,5MiB", "4_194_304", "4 194 304",
		".5MiB", "5.MiB", "1.2.3MiB", "1e6", "1e6B", "0x10", "0x10B", "NaN", "Inf", "infinity", "1/2", "1/2MiB", "50%",
		"4K", "4M", "4G", "4T", "4Ki", "4Mi", "4k", "4m", "4Mb", "4Mib", "4Kb", "4Gib", "4Tb", "4PiB", "4EB", "4 bytes", "4MiBs",
		"0.1MiB", "0.5", "0.5B", "1.0000001kB", "0.0001kB",
		"9223372036854775808", "8388608TiB", "9223372036854775.808kB", "10000000TB", strings.Repeat("9", 1000) + "TiB",
	} {
		got := ByteSize(17)
		err := got.UnmarshalText([]byte(text))
		require.ErrorContains(t, err, fmt.Sprintf("%q is no size; accepted are whole numbers of bytes up to", text))
		require.Equal(t, ByteSize(17), got, "changed in spite of the error")
	}
}

// TestByteSizeEndsWhereIntDoes: on 32 bits as well.
func TestByteSizeEndsWhereIntDoes(t *testing.T) {
	var got ByteSize
	require.NoError(t, got.UnmarshalText(fmt.Append(nil, math.MaxInt)))
	require.Equal(t, ByteSize(math.MaxInt), got)
	require.NoError(t, got.UnmarshalText(fmt.Appendf(nil, "%dB", math.MaxInt)))
	require.Error(t, got.UnmarshalText(fmt.Append(nil, uint(math.MaxInt)+1)))

	const gib = 1 << 30
	require.NoError(t, got.UnmarshalText(fmt.Appendf(nil, "%dGiB", math.MaxInt/gib)))
	require.Equal(t, ByteSize(math.MaxInt/gib*gib), got)
	require.Error(t, got.UnmarshalText(fmt.Appendf(nil, "%dGiB", math.MaxInt/gib+1)))

	for _, c := range []struct {
		value any
		fits  bool
	}{
		{0, true},
		{math.MaxInt, true},
		{int64(math.MaxInt), true},
		{int64(math.MaxInt32) + 1, math.MaxInt > math.MaxInt32},
		{float64(math.MaxInt32), true},
		{float64(math.MaxInt32) + 1, math.MaxInt > math.MaxInt32},
		{1e15, math.MaxInt > math.MaxInt32},
		{uint64(math.MaxUint64), false},
		{1e19, false},
		{math.Inf(1), false},
		{math.NaN(), false},
		{"1GiB", true},
		{"2GiB", math.MaxInt > math.MaxInt32},
	} {
		conf := confmap.NewFromStringMap(map[string]any{"memory_limit": c.value})
		_, err := decode(conf)
		require.Equal(t, c.fits, err == nil, "%T %[1]v: %v", c.value, err)
	}
}

// TestByteSizeIsWrittenAsItCanBeRead, without losing a byte.
func TestByteSizeIsWrittenAsItCanBeRead(t *testing.T) {
	for size, want := range map[ByteSize]string{
		0:             "0B",
		1:             "1B",
		999:           "999B",
		1000:          "1kB",
		1024:          "1KiB",
		1536:          "1536B",
		4_000_000:     "4MB",
		4 << 20:       "4MiB",
		4<<20 + 1:     "4194305B",
		4<<20 - 1:     "4194303B",
		4_500_000:     "4500kB",
		1536 << 20:    "1536MiB",
		1_000_000_000: "1GB",
		1 << 30:       "1GiB",
		1_024_000:     "1000KiB",
		math.MaxInt32: "2147483647B",
		-4 << 20:      "-4MiB",
	} {
		require.Equal(t, want, size.String())
		require.Equal(t, want, fmt.Sprint(size))
		text, err := json.Marshal(size)
		require.NoError(t, err)
		require.Equal(t, `"`+want+`"`, string(text))
		if size >= 0 {
			requireRoundTrip(t, size)
		}
	}
	for bit := range 63 {
		for _, size := range []int64{1<<bit - 1, 1 << bit, 1<<bit + 1, 1000 << bit, 3 << bit} {
			if size >= 0 && size <= math.MaxInt {
				requireRoundTrip(t, ByteSize(size))
			}
		}
	}
	requireRoundTrip(t, math.MaxInt)
}

func requireRoundTrip(t *testing.T, size ByteSize) {
	t.Helper()
	text, err := size.MarshalText()
	require.NoError(t, err)
	var read ByteSize
	require.NoError(t, read.UnmarshalText(text), "%s", text)
	require.Equal(t, size, read, "%s", text)
}

// TestPrintedConfigurationIsReadAgain: the Collector can print the configuration that it
// has.
func TestPrintedConfigurationIsReadAgain(t *testing.T) {
	cfg := createDefaultConfig().(*Config)
	cfg.SendBatchMaxBytes, cfg.MemoryLimit = 4_000_000, 1536<<20
	printed := confmap.New()
	require.NoError(t, printed.Marshal(cfg))
	require.Equal(t, "4MB", printed.Get("send_batch_max_bytes"))
	require.Equal(t, "1536MiB", printed.Get("memory_limit"))
	read, err := decode(confmap.NewFromStringMap(map[string]any{
		"send_batch_max_bytes": printed.Get("send_batch_max_bytes"),
		"memory_limit":         printed.Get("memory_limit"),
	}))
	require.NoError(t, err)
	require.Equal(t, cfg, read)
}

// TestSizesInYAML: as they are written in a file, and as a variable of the environment
// brings them, by itself or as a part of a text.
func TestSizesInYAML(t *testing.T) {
	for _, c := range []struct {
		yaml string
		env  string // the value of VALUE
		want ByteSize
	}{
		{"4194304", "", 4 << 20},
		{`"4194304"`, "", 4 << 20}, // without a unit it is bytes
		{"4e6", "", 4_000_000},
		{"4MiB", "", 4 << 20},
		{"4 MiB", "", 4 << 20},
		{`"1.5GiB"`, "", 1536 << 20},
		{"", "", 0},
		{"null", "", 0},
		{"${VALUE}", "4194304", 4 << 20},
		{"${VALUE}", "1.5GiB", 1536 << 20},
		{"${VALUE}", "1.5 GiB", 1536 << 20},
		{"${VALUE}", "", 0},
		{`"${VALUE}"`, "4194304", 4 << 20},
		{"${VALUE}MiB", "512", 512 << 20},
		{"${VALUE} MiB", "0.5", 1 << 19},
	} {
		t.Run(c.yaml+" "+c.env, func(t *testing.T) {
			cfg, err := decode(resolve(t, "memory_limit: "+c.yaml, c.env))
			require.NoError(t, err)
			require.Equal(t, c.want, cfg.MemoryLimit)
		})
	}
	for _, c := range []struct{ yaml, env, named string }{
		{"${VALUE}", "512M", `memory_limit: "512M" is no size`},
		{"${VALUE}", "true", "memory_limit: true is no size"},
		{"${VALUE}", "1.5", "memory_limit: 1.5 is no size"},
		{"${VALUE}", "-5", "memory_limit: -5 is negative"},
		{"${VALUE}MiB", "-5", `memory_limit: "-5MiB" is no size`},
		{"${VALUE}MiB", "", `memory_limit: "MiB" is no size`},
	} {
		t.Run(c.yaml+" "+c.env, func(t *testing.T) {
			_, err := decode(resolve(t, "memory_limit: "+c.yaml, c.env))
			require.ErrorContains(t, err, c.named)
		})
	}
}

// resolve reads a configuration as the Collector does, in which VALUE stands for value.
func resolve(t *testing.T, yaml, value string) *confmap.Conf {
	t.Helper()
	resolver, err := confmap.NewResolver(confmap.ResolverSettings{
		URIs: []string{"test:file"},
		ProviderFactories: []confmap.ProviderFactory{confmap.NewProviderFactory(func(confmap.ProviderSettings) confmap.Provider {
			return provider{"file": yaml, "VALUE": value}
		})},
		DefaultScheme: "test",
	})
	require.NoError(t, err)
	conf, err := resolver.Resolve(context.Background())
	require.NoError(t, err)
	return conf
}

// provider knows YAML by its name, as the provider of the environment does.
type provider map[string]string

func (p provider) Retrieve(_ context.Context, uri string, _ confmap.WatcherFunc) (*confmap.Retrieved, error) {
	return confmap.NewRetrievedFromYAML([]byte(p[strings.TrimPrefix(uri, p.Scheme()+":")]))
}

func (provider) Scheme() string                 { return "test" }
func (provider) Shutdown(context.Context) error { return nil }
