package scaleout

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/boundedbatch/boundedbatchprocessor/e2e/internal/harness"
)

// Each file is valid as it is, without anything in the environment.
func TestExamplesAreValid(t *testing.T) {
	files, err := filepath.Glob(example("*.yaml"))
	require.NoError(t, err)
	require.Contains(t, files, example(gatewayFile))
	for _, path := range files {
		if filepath.Base(path) == "builder-config.yaml" {
			continue
		}
		status, output := harness.ValidateFile(t, path)
		assert.Zero(t, status, "%s: %s", path, output)
	}
}

// configuration is what the times are taken from.
type configuration struct {
	Processors struct {
		BoundedBatch struct {
			Timeout        time.Duration `yaml:"timeout"`
			RetryOnFailure retries       `yaml:"retry_on_failure"`
		} `yaml:"boundedbatch"`
	} `yaml:"processors"`
	Exporters struct {
		OTLP struct {
			Timeout time.Duration `yaml:"timeout"`
		} `yaml:"otlp_grpc"`
		Kafka struct {
			Timeout time.Duration `yaml:"timeout"`
		} `yaml:"kafka"`
		LoadBalancing struct {
			Timeout        time.Duration `yaml:"timeout"`
			RetryOnFailure retries       `yaml:"retry_on_failure"`
			Protocol       struct {
				OTLP struct {
					Timeout time.Duration `yaml:"timeout"`
				} `yaml:"otlp"`
			} `yaml:"protocol"`
		} `yaml:"load_balancing"`
	} `yaml:"exporters"`
}

type retries struct {
	MaxElapsedTime time.Duration `yaml:"max_elapsed_time"`
}

func readExample(t *testing.T, name string) (text string, cfg configuration) {
	t.Helper()
	content, err := os.ReadFile(example(name))
	require.NoError(t, err)
	require.NoError(t, yaml.Unmarshal(content, &cfg), name)
	return string(content), cfg
}

var senderTimeout = regexp.MustCompile(`OTEL_EXPORTER_OTLP_TIMEOUT=(\d+)`)

// Whoever waits does so for longer than the next one behind it takes: otherwise it repeats what is still under way. The longest
// times are in the comments too.
func TestTimesOfTheExamplesFitEachOther(t *testing.T) {
	text, gateway := readExample(t, gatewayFile)
	batch := gateway.Processors.BoundedBatch
	const batching = 200 * time.Millisecond // the default
	require.Zero(t, batch.Timeout, "not the default")
	answered := batching + batch.RetryOnFailure.MaxElapsedTime + gateway.Exporters.OTLP.Timeout
	assert.Contains(t, text, fmt.Sprintf("take %v s:", answered.Seconds()))

	const gateways = 3 // of the example
	for _, name := range []string{balancingFile, "agent-kubernetes.yaml"} {
		text, agent := readExample(t, name)
		balancing := agent.Exporters.LoadBalancing
		assert.Greater(t, balancing.Protocol.OTLP.Timeout, answered, "%s gives up before a gateway answers", name)
		assert.Greater(t, balancing.Timeout, gateways*answered, "%s gives up before the last gateway answers", name)
		longest := balancing.RetryOnFailure.MaxElapsedTime + balancing.Timeout
		assert.Contains(t, text, fmt.Sprintf("after %v s", longest.Seconds()), name)
		match := senderTimeout.FindStringSubmatch(text)
		require.NotEmpty(t, match, "%s says nothing of how long senders wait", name)
		milliseconds, err := strconv.Atoi(match[1])
		require.NoError(t, err)
		assert.Greater(t, time.Duration(milliseconds)*time.Millisecond, longest, "%s: senders give up before it answers", name)
	}

	_, kafka := readExample(t, "gateway-kafka.yaml")
	assert.Equal(t, batch.RetryOnFailure, kafka.Processors.BoundedBatch.RetryOnFailure)
	text, agent := readExample(t, "agent-kafka.yaml")
	assert.Contains(t, text, fmt.Sprintf("at most %v s", agent.Exporters.Kafka.Timeout.Seconds()))
}
