package kubernetes

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"
)

// collector is what the tests want to know of a configuration.
type collector struct {
	Receivers struct {
		OTLP struct {
			Protocols map[string]struct {
				Endpoint string `json:"endpoint"`
			} `json:"protocols"`
		} `json:"otlp"`
	} `json:"receivers"`
	Processors struct {
		MemoryLimiter struct {
			LimitPercentage int64 `json:"limit_percentage"`
		} `json:"memory_limiter"`
		BoundedBatch struct {
			MemoryLimit     string `json:"memory_limit"`
			ShutdownTimeout string `json:"shutdown_timeout"`
		} `json:"boundedbatch"`
	} `json:"processors"`
	Exporters struct {
		LoadBalancing struct {
			Timeout        string `json:"timeout"`
			RetryOnFailure struct {
				MaxElapsedTime string `json:"max_elapsed_time"`
			} `json:"retry_on_failure"`
			Protocol struct {
				OTLP struct {
					Timeout string `json:"timeout"`
				} `json:"otlp"`
			} `json:"protocol"`
			Resolver struct {
				DNS struct {
					Interval string `json:"interval"`
					Timeout  string `json:"timeout"`
				} `json:"dns"`
			} `json:"resolver"`
		} `json:"load_balancing"`
	} `json:"exporters"`
	Extensions map[string]struct {
		Endpoint string `json:"endpoint"`
	} `json:"extensions"`
	Service struct {
		Pipelines map[string]any `json:"pipelines"`
	} `json:"service"`
}

func parse(t *testing.T, text string) (c collector) {
	t.Helper()
	require.NoError(t, yaml.Unmarshal([]byte(text), &c))
	return c
}

func duration(t *testing.T, text string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(text)
	require.NoError(t, err)
	return d
}

// bytesOf reads sizes as both GOMEMLIMIT and boundedbatch have them.
func bytesOf(t *testing.T, text string) int64 {
	t.Helper()
	number, found := strings.CutSuffix(text, "MiB")
	require.True(t, found, "%s is not in MiB", text)
	mebibytes, err := strconv.ParseInt(number, 10, 64)
	require.NoError(t, err)
	return mebibytes << 20
}

func environment(c *corev1.Container) map[string]string {
	values := make(map[string]string)
	for _, variable := range c.Env {
		values[variable.Name] = variable.Value
	}
	return values
}

// part is the pods of a file and what they run.
type part struct {
	name, runs string // the ConfigMap's key and the example's name
	manifests
	pod       *corev1.PodSpec
	container *corev1.Container
	collector
}

func parts(t *testing.T) (gateway, agent part) {
	t.Helper()
	of := func(name, runs string) part {
		p := part{name: name, runs: runs, manifests: load(t, name)}
		if p.deployment != nil {
			p.pod = &p.deployment.Spec.Template.Spec
		} else {
			p.pod = &p.daemons.Spec.Template.Spec
		}
		require.Len(t, p.pod.Containers, 1)
		p.container = &p.pod.Containers[0]
		require.Contains(t, p.config.Data, name)
		p.collector = parse(t, p.config.Data[name])
		return p
	}
	return of("gateway.yaml", "gateway.yaml"), of("agent.yaml", "agent-kubernetes.yaml")
}

// What is started by e2e/scaleout is what runs here.
func TestConfigMapsHaveTheExamples(t *testing.T) {
	gateway, agent := parts(t)
	for _, p := range []part{gateway, agent} {
		text, err := os.ReadFile(filepath.Join(scaleOut, p.runs))
		require.NoError(t, err)
		assert.Equal(t, string(text), p.config.Data[p.name], "ConfigMap of %s and %s", p.name, p.runs)
		assert.Equal(t, []string{"--config=/etc/otelcol/" + p.name}, p.container.Args)
		require.Len(t, p.pod.Volumes, 1)
		require.NotNil(t, p.pod.Volumes[0].ConfigMap)
		assert.Equal(t, p.config.Name, p.pod.Volumes[0].ConfigMap.Name)
		require.Len(t, p.container.VolumeMounts, 1)
		assert.Equal(t, p.pod.Volumes[0].Name, p.container.VolumeMounts[0].Name)
		assert.Equal(t, "/etc/otelcol", p.container.VolumeMounts[0].MountPath)
	}
}

// margin is what a pod is given to end besides what is reckoned.
const margin = 3 * time.Second

var summand = regexp.MustCompile(`(?m)^ +# +(\d+) s +\S`)

// A pod has the time that it can need: until nobody sends to it any more, until the last caller has its answer, and until what
// is held is drained.
func TestPodsAreGivenTheTimeToEnd(t *testing.T) {
	gateway, agent := parts(t)
	balancing := agent.Exporters.LoadBalancing
	grace := func(p part) (whole, preStop time.Duration) {
		require.NotNil(t, p.pod.TerminationGracePeriodSeconds)
		require.NotNil(t, p.container.Lifecycle)
		require.NotNil(t, p.container.Lifecycle.PreStop)
		require.NotNil(t, p.container.Lifecycle.PreStop.Sleep, "images of collectors have no shell: exec cannot sleep")
		return time.Duration(*p.pod.TerminationGracePeriodSeconds) * time.Second,
			time.Duration(p.container.Lifecycle.PreStop.Sleep.Seconds) * time.Second
	}

	whole, preStop := grace(gateway)
	const remembered = 30 * time.Second // the most that cluster DNS remembers, unless it is told otherwise
	learned := duration(t, balancing.Resolver.DNS.Interval) + duration(t, balancing.Resolver.DNS.Timeout) + remembered
	assert.Greater(t, preStop, learned, "agents may still send to a gateway that stops")
	answer := duration(t, balancing.Protocol.OTLP.Timeout)
	needed := preStop + answer + duration(t, gateway.Processors.BoundedBatch.ShutdownTimeout) + margin
	assert.GreaterOrEqual(t, whole, needed, "gateway: %v preStop, %v callers, %v shutdown_timeout, %v margin", preStop, answer,
		gateway.Processors.BoundedBatch.ShutdownTimeout, margin)
	// The sum is in a comment, too.
	said := time.Duration(0)
	for _, found := range summand.FindAllStringSubmatch(gateway.text, -1) {
		seconds, err := strconv.Atoi(found[1])
		require.NoError(t, err)
		said += time.Duration(seconds) * time.Second
	}
	assert.Equal(t, whole, said, "the comment adds up to something else")

	whole, preStop = grace(agent)
	longest := duration(t, balancing.RetryOnFailure.MaxElapsedTime) + duration(t, balancing.Timeout)
	assert.GreaterOrEqual(t, whole, preStop+longest+margin, "agent: %v preStop, %v until the last answer, %v margin", preStop, longest, margin)

	// Gateways do not go faster than they end.
	behavior := gateway.autoscaler.Spec.Behavior.ScaleDown
	for _, policy := range behavior.Policies {
		assert.Greater(t, int64(policy.PeriodSeconds), *gateway.pod.TerminationGracePeriodSeconds)
	}
}

// What boundedbatch may hold, what exporters encode and all else fit into what Go is told, that into the container, and the last
// line is above it.
func TestMemoryFitsIntoTheContainer(t *testing.T) {
	const (
		encoded = 120 << 20 // by exporters: 3 pipelines, 10 exports at once, 4 MiB each
		others  = 100 << 20
	)
	gateway, agent := parts(t)
	for _, p := range []part{gateway, agent} {
		limit := p.container.Resources.Limits.Memory().Value()
		require.NotZero(t, limit)
		assert.Equal(t, limit, p.container.Resources.Requests.Memory().Value(), "%s: what may be used is reserved", p.name)
		soft := bytesOf(t, environment(p.container)["GOMEMLIMIT"])
		assert.LessOrEqual(t, soft, limit*8/10, "%s: GOMEMLIMIT leaves too little of the container", p.name)
		assert.Greater(t, limit*p.Processors.MemoryLimiter.LimitPercentage/100, soft, "%s: memory_limiter comes before GOMEMLIMIT", p.name)
	}
	held := int64(len(gateway.Service.Pipelines)) * bytesOf(t, gateway.Processors.BoundedBatch.MemoryLimit) * 11 / 10
	soft := bytesOf(t, environment(gateway.container)["GOMEMLIMIT"])
	assert.LessOrEqual(t, held+encoded+others, soft)
	assert.Contains(t, gateway.text, fmt.Sprintf("are %d MiB", (held+encoded+others)>>20), "the comment says something else")
}

// Probes ask the health_check extension, Services lead to receivers, selectors select, and agents look for the Service of the
// gateways.
func TestNamesAndPortsLeadSomewhere(t *testing.T) {
	gateway, agent := parts(t)
	for _, p := range []part{gateway, agent} {
		ports := make(map[string]string)
		for _, port := range p.container.Ports {
			ports[port.Name] = strconv.Itoa(int(port.ContainerPort))
		}
		assert.Contains(t, p.Receivers.OTLP.Protocols["grpc"].Endpoint, ":-"+ports["otlp-grpc"]+"}")
		assert.Contains(t, p.Receivers.OTLP.Protocols["http"].Endpoint, ":-"+ports["otlp-http"]+"}")
		assert.Contains(t, p.Extensions["health_check"].Endpoint, ":-"+ports["health"]+"}")
		assert.Contains(t, p.config.Data[p.name], "port: ${env:METRICS_PORT:-"+ports["metrics"]+"}")
		for _, probe := range []*corev1.Probe{p.container.StartupProbe, p.container.LivenessProbe, p.container.ReadinessProbe} {
			require.NotNil(t, probe)
			require.NotNil(t, probe.HTTPGet)
			assert.Equal(t, intstr.FromString("health"), probe.HTTPGet.Port)
		}
		for _, port := range p.service.Spec.Ports {
			assert.Contains(t, ports, port.TargetPort.String())
			assert.Equal(t, ports[port.TargetPort.String()], strconv.Itoa(int(port.Port)))
		}
		found := false
		for _, variable := range p.container.Env {
			if variable.Name == "LISTEN" {
				found = true
				require.NotNil(t, variable.ValueFrom)
				require.NotNil(t, variable.ValueFrom.FieldRef)
				assert.Equal(t, "status.podIP", variable.ValueFrom.FieldRef.FieldPath)
			}
		}
		assert.True(t, found, "%s listens where nobody can reach it", p.name)
	}

	labels := gateway.deployment.Spec.Template.Labels
	assert.Equal(t, labels, gateway.deployment.Spec.Selector.MatchLabels)
	assert.Equal(t, labels, gateway.service.Spec.Selector)
	assert.Equal(t, labels, gateway.disruption.Spec.Selector.MatchLabels)
	assert.Equal(t, gateway.deployment.Name, gateway.autoscaler.Spec.ScaleTargetRef.Name)
	assert.Equal(t, agent.daemons.Spec.Template.Labels, agent.daemons.Spec.Selector.MatchLabels)
	assert.Equal(t, agent.daemons.Spec.Template.Labels, agent.service.Spec.Selector)

	assert.Equal(t, corev1.ClusterIPNone, gateway.service.Spec.ClusterIP, "its name must resolve to the pods")
	host := fmt.Sprintf("%s.%s.svc.cluster.local", gateway.service.Name, gateway.service.Namespace)
	assert.Equal(t, host, environment(agent.container)["GATEWAY_HOST"])
	assert.Nil(t, gateway.deployment.Spec.Replicas, "who applies the file again undoes what the autoscaler has done")

	// The budget leaves some, and a new one comes before an old one goes.
	require.NotNil(t, gateway.disruption.Spec.MaxUnavailable)
	require.NotNil(t, gateway.autoscaler.Spec.MinReplicas)
	assert.Less(t, gateway.disruption.Spec.MaxUnavailable.IntValue(), int(*gateway.autoscaler.Spec.MinReplicas))
	assert.Zero(t, gateway.deployment.Spec.Strategy.RollingUpdate.MaxUnavailable.IntValue())
}

// adapter is the configuration of prometheus-adapter, as far as it is used.
type adapter struct {
	Rules struct {
		Custom []struct {
			SeriesQuery string `json:"seriesQuery"`
			Resources   struct {
				Overrides map[string]struct {
					Resource string `json:"resource"`
				} `json:"overrides"`
			} `json:"resources"`
			Name struct {
				As string `json:"as"`
			} `json:"name"`
			MetricsQuery string `json:"metricsQuery"`
		} `json:"custom"`
	} `json:"rules"`
}

var metricName = regexp.MustCompile(`otelcol_[a-z_]+`)

// The autoscaler asks for what the adapter gives, and that is made of metrics that there are. e2e/observe tests the query.
func TestAutoscalerAsksForWhatTheAdapterGives(t *testing.T) {
	gateway, _ := parts(t)
	text, err := os.ReadFile(filepath.Join(scaleOut, "kubernetes", "prometheus-adapter.yaml"))
	require.NoError(t, err)
	var a adapter
	require.NoError(t, yaml.UnmarshalStrict(text, &a))
	require.Len(t, a.Rules.Custom, 1)
	rule := a.Rules.Custom[0]
	asked := 0
	for _, metric := range gateway.autoscaler.Spec.Metrics {
		if metric.Pods != nil {
			asked++
			assert.Equal(t, rule.Name.As, metric.Pods.Metric.Name)
			require.NotNil(t, metric.Pods.Target.AverageValue)
			assert.Less(t, metric.Pods.Target.AverageValue.AsApproximateFloat64(), 0.9, "dashboards/rules.yaml warns of it")
		}
	}
	assert.Equal(t, 1, asked)
	documentation, err := os.ReadFile("../../documentation.md")
	require.NoError(t, err)
	names := metricName.FindAllString(rule.SeriesQuery+rule.MetricsQuery, -1)
	require.NotEmpty(t, names)
	for _, name := range names {
		assert.Contains(t, string(documentation), "### "+name+"\n")
	}
}
