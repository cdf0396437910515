package pooling

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/provider/yamlprovider"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/otelcol"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/processor"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	"go.opentelemetry.io/collector/service/telemetry/otelconftelemetry"

	"github.com/boundedbatch/boundedbatchprocessor"
	"github.com/boundedbatch/boundedbatchprocessor/e2e/internal/harness"
)

// configText takes the path of the receiver's socket and the settings of the processor.
const configText = `yaml:
receivers: {otlp: {protocols: {grpc: {endpoint: %s, transport: unix}}}}
processors: {boundedbatch: %s}
exporters: {backend: }
service:
  pipelines:
    traces: {receivers: [otlp], processors: [boundedbatch], exporters: [backend]}
    logs: {receivers: [otlp], processors: [boundedbatch], exporters: [backend]}
    metrics: {receivers: [otlp], processors: [boundedbatch], exporters: [backend]}
  telemetry: {logs: {level: error}, metrics: {level: none}}
`

// startCollector runs a collector in front of a backend, until stop or the end of the
// test. It listens at address.
func startCollector(t *testing.T, processorSettings string, end sink) (address string, stop func()) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "otlp")
	col, err := otelcol.NewCollector(otelcol.CollectorSettings{
		BuildInfo:               component.NewDefaultBuildInfo(),
		Factories:               func() (otelcol.Factories, error) { return factories(end) },
		DisableGracefulShutdown: true, // signals are the test's
		SkipSettingGRPCLogger:   true, // it is the test's clients' too, which are at work
		ConfigProviderSettings: otelcol.ConfigProviderSettings{ResolverSettings: confmap.ResolverSettings{
			URIs:              []string{fmt.Sprintf(configText, socket, processorSettings)},
			ProviderFactories: []confmap.ProviderFactory{yamlprovider.NewFactory()},
		}},
	})
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- col.Run(context.Background()) }()
	harness.Until(t, func(context.Context) error {
		select {
		case err := <-ended:
			t.Fatalf("the collector has ended: %v", err)
		default:
		}
		if col.GetState() != otelcol.StateRunning {
			return errors.New("the collector does not run yet")
		}
		return nil
	})
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			col.Shutdown()
			require.NoError(t, <-ended)
		}
	}
	t.Cleanup(stop)
	return "unix://" + socket, stop
}

func factories(end sink) (f otelcol.Factories, err error) {
	f.Telemetry = otelconftelemetry.NewFactory()
	var errs [3]error
	f.Receivers, errs[0] = otelcol.MakeFactoryMap[receiver.Factory](otlpreceiver.NewFactory())
	f.Processors, errs[1] = otelcol.MakeFactoryMap[processor.Factory](boundedbatchprocessor.NewFactory())
	f.Exporters, errs[2] = otelcol.MakeFactoryMap[exporter.Factory](end.factory())
	return f, errors.Join(errs[:]...)
}

// sink is an exporter that shows what it gets to a backend in the same process.
type sink struct {
	component.StartFunc
	component.ShutdownFunc

	backend *harness.Backend
	// mutates says that the sink is of the kind that may change its data, and it does:
	// nothing is left of them.
	mutates bool
}

func (s sink) factory() exporter.Factory {
	return exporter.NewFactory(
		component.MustNewType("backend"),
		func() component.Config { return &struct{}{} },
		exporter.WithTraces(func(context.Context, exporter.Settings, component.Config) (exporter.Traces, error) {
			return s, nil
		}, component.StabilityLevelDevelopment),
		exporter.WithLogs(func(context.Context, exporter.Settings, component.Config) (exporter.Logs, error) {
			return s, nil
		}, component.StabilityLevelDevelopment),
		exporter.WithMetrics(func(context.Context, exporter.Settings, component.Config) (exporter.Metrics, error) {
			return s, nil
		}, component.StabilityLevelDevelopment),
	)
}

// Capabilities implements consumer.Consumer.
func (s sink) Capabilities() consumer.Capabilities {
	return consumer.Capabilities{MutatesData: s.mutates}
}

// ConsumeTraces implements consumer.Traces.
func (s sink) ConsumeTraces(ctx context.Context, data ptrace.Traces) error {
	err := s.backend.ConsumeTraces(ctx, data)
	data.ResourceSpans().RemoveIf(func(ptrace.ResourceSpans) bool { return s.mutates })
	return err
}

// ConsumeLogs implements consumer.Logs.
func (s sink) ConsumeLogs(ctx context.Context, data plog.Logs) error {
	err := s.backend.ConsumeLogs(ctx, data)
	data.ResourceLogs().RemoveIf(func(plog.ResourceLogs) bool { return s.mutates })
	return err
}

// ConsumeMetrics implements consumer.Metrics.
func (s sink) ConsumeMetrics(ctx context.Context, data pmetric.Metrics) error {
	err := s.backend.ConsumeMetrics(ctx, data)
	data.ResourceMetrics().RemoveIf(func(pmetric.ResourceMetrics) bool { return s.mutates })
	return err
}
