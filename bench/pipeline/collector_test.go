package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"runtime/pprof"
	"syscall"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/provider/yamlprovider"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/exporter/otlpexporter"
	"go.opentelemetry.io/collector/otelcol"
	"go.opentelemetry.io/collector/processor"
	"go.opentelemetry.io/collector/processor/batchprocessor"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	"go.opentelemetry.io/collector/service/telemetry/otelconftelemetry"

	"github.com/boundedbatch/boundedbatchprocessor"
)

// section is a map of a Collector's configuration.
type section = map[string]any

// configuration is that of a Collector whose only pipeline has at most one processor, with
// these settings, and an exporter with that queue. Everything else is the same for all: no
// compression, which batchers have no part in; metrics as in any Collector.
func configuration(processor string, settings, queue section) section {
	processors, used := section{}, []string{}
	if processor != "" {
		processors[processor], used = settings, []string{processor}
	}
	return section{
		"receivers":  section{"otlp": section{"protocols": section{"grpc": section{}}}},
		"processors": processors,
		"exporters": section{"otlp_grpc": section{
			"tls": section{"insecure": true}, "compression": "none",
			"sending_queue": queue, "retry_on_failure": section{"enabled": false},
		}},
		"service": section{
			"pipelines": section{"traces": section{
				"receivers": []string{"otlp"}, "processors": used, "exporters": []string{"otlp_grpc"},
			}},
			"telemetry": section{"logs": section{"level": "warn"}},
		},
	}
}

// addressed adds where a Collector listens, where it sends to, and where its metrics are read.
func addressed(config section, listens, sendsTo string, metrics int) section {
	dig(config, "receivers", "otlp", "protocols", "grpc")["endpoint"] = listens
	dig(config, "exporters", "otlp_grpc")["endpoint"] = sendsTo
	dig(config, "service", "telemetry")["metrics"] = section{
		"level": "normal",
		"readers": []any{section{"pull": section{"exporter": section{
			"prometheus": section{"host": "127.0.0.1", "port": metrics},
		}}}},
	}
	return config
}

func dig(m section, path ...string) section {
	for _, key := range path {
		m = m[key].(section)
	}
	return m
}

// collector is a whole Collector, alone in its process.
type collector struct {
	*otelcol.Collector
	ended   chan error
	profile *os.File
}

func newCollector() (role, func()) {
	c := &collector{}
	return c.do, c.end
}

func (c *collector) do(o order) (a answer, err error) {
	switch o.Do {
	case "run":
		return c.run(o)
	case "profile":
		if c.profile, err = os.Create(o.Profile); err != nil {
			return a, err
		}
		return a, startProfile(c.profile)
	case "write the profile":
		pprof.StopCPUProfile()
		return a, c.profile.Close()
	case "read the clock":
		return usage(), nil
	}
	return a, fmt.Errorf("unknown order %q", o.Do)
}

// run begins a Collector and returns when all of it is at work.
func (c *collector) run(o order) (a answer, err error) {
	listens, err := freePort()
	if err != nil {
		return a, err
	}
	metrics, err := freePort()
	if err != nil {
		return a, err
	}
	config, err := json.Marshal(addressed(o.Config, listens.String(), o.Address, metrics.Port)) // JSON is YAML
	if err != nil {
		return a, err
	}
	c.Collector, err = otelcol.NewCollector(otelcol.CollectorSettings{
		BuildInfo:               component.NewDefaultBuildInfo(),
		Factories:               factories,
		DisableGracefulShutdown: true, // it ends with its orders
		ConfigProviderSettings: otelcol.ConfigProviderSettings{ResolverSettings: confmap.ResolverSettings{
			URIs:              []string{"yaml:" + string(config)},
			ProviderFactories: []confmap.ProviderFactory{yamlprovider.NewFactory()},
		}},
	})
	if err != nil {
		return a, err
	}
	c.ended = make(chan error, 1)
	go func() {
		c.ended <- c.Run(context.Background())
	}()
	// A Collector does not tell when it is ready, only whether it is.
	again, late := time.NewTicker(10*time.Millisecond), time.After(patience/4)
	defer again.Stop()
	for c.GetState() != otelcol.StateRunning {
		select {
		case <-again.C:
		case err := <-c.ended:
			c.ended <- err
			return a, fmt.Errorf("the Collector has ended: %w", err)
		case <-late:
			return a, errors.Join(fmt.Errorf("the Collector is not at work after %v: %v", patience/4, c.GetState()),
				pprof.Lookup("goroutine").WriteTo(os.Stderr, 1))
		}
	}
	return answer{Address: listens.String()}, nil
}

func (c *collector) end() {
	if c.Collector == nil {
		return
	}
	c.Shutdown()
	if err := <-c.ended; err != nil {
		fmt.Fprintln(os.Stderr, "the Collector has ended:", err)
	}
}

// freePort is one that nobody listens at. It is not of those that the system gives to connections:
// one of them could have it by the time it is needed.
func freePort() (*net.TCPAddr, error) {
	for {
		const first, last = 10_000, 30_000
		listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", fmt.Sprintf("127.0.0.1:%d", first+rand.IntN(last-first)))
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return listener.Addr().(*net.TCPAddr), listener.Close()
	}
}

func factories() (f otelcol.Factories, err error) {
	f.Telemetry = otelconftelemetry.NewFactory()
	var errs [3]error
	f.Receivers, errs[0] = otelcol.MakeFactoryMap[receiver.Factory](otlpreceiver.NewFactory())
	f.Processors, errs[1] = otelcol.MakeFactoryMap[processor.Factory](boundedbatchprocessor.NewFactory(), batchprocessor.NewFactory())
	f.Exporters, errs[2] = otelcol.MakeFactoryMap[exporter.Factory](otlpexporter.NewFactory())
	return f, errors.Join(errs[:]...)
}

// usage is what the process has used so far.
func usage() (a answer) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // RUSAGE_SELF cannot fail
	}
	return answer{
		CPU:     time.Duration(u.Utime.Nano() + u.Stime.Nano()),
		Mallocs: m.Mallocs, Bytes: m.TotalAlloc, GCs: m.NumGC,
	}
}
