package boundedbatchzextension

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"net"
	"net/http"
	"runtime/pprof"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/extension"
	"go.uber.org/zap"

	"github.com/boundedbatch/boundedbatchprocessor/internal/inside"
)

// pages is the extension. Processors register with it when they start, which is after it has started itself, and go
// before it is shut down.
type pages struct {
	cfg    *Config
	id     component.ID
	logger *zap.Logger
	seed   maphash.Seed  // of the names that stand for values
	busy   chan struct{} // has a value for each page that is being made

	// Written by Start.
	server *http.Server
	cancel context.CancelFunc // ends pages that are being made
	served chan struct{}      // closed: the server has ended

	mu      sync.Mutex // guards what follows
	sources []numbered // in the order in which they came
	last    int        // number
}

// numbered is a source with a number by which one page can be asked for it.
type numbered struct {
	inside.Source
	number int
}

// Limits of the server.
const (
	mostBusy     = 4                // pages that are made at once
	mostTime     = 5 * time.Second  // for making one
	readTimeout  = 5 * time.Second  // for a request to arrive
	writeTimeout = 15 * time.Second // from then until its answer has left
	idleTimeout  = 30 * time.Second
	headerBytes  = 8 << 10
)

func newPages(set extension.Settings, cfg *Config) *pages {
	return &pages{cfg: cfg, id: set.ID, logger: set.Logger, seed: maphash.MakeSeed(), busy: make(chan struct{}, mostBusy)}
}

// Start implements component.Component.
func (p *pages) Start(ctx context.Context, host component.Host) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", p.cfg.Endpoint)
	if err != nil {
		return fmt.Errorf("endpoint: %w", err)
	}
	url := fmt.Sprintf("http://%s%s", listener.Addr(), path)
	p.logger.Info("What boundedbatch processors hold is shown to whoever asks", zap.String("url", url))
	if at, ok := listener.Addr().(*net.TCPAddr); ok && !at.IP.IsLoopback() {
		p.logger.Warn("The page can be seen from other machines, without TLS or authentication; localhost as the host of endpoint keeps it to this one",
			zap.String("endpoint", p.cfg.Endpoint))
	}
	base, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	p.server = &http.Server{
		Handler:           p.handler(),
		BaseContext:       func(net.Listener) context.Context { return base },
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    headerBytes,
		ErrorLog:          zap.NewStdLog(zap.NewNop()), // what clients do wrong is their business
	}
	p.served = make(chan struct{})
	go func() {
		defer close(p.served)
		pprof.SetGoroutineLabels(pprof.WithLabels(base, pprof.Labels("component", p.id.String(), "role", "serve"))) // and those of its requests
		if err := p.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			componentstatus.ReportStatus(host, componentstatus.NewFatalErrorEvent(fmt.Errorf("endpoint: %w", err)))
		}
	}()
	return nil
}

// Shutdown implements component.Component.
func (p *pages) Shutdown(ctx context.Context) error {
	if p.server == nil {
		return nil
	}
	defer p.cancel()
	ctx, cancel := context.WithTimeout(ctx, mostTime)
	defer cancel()
	err := p.server.Shutdown(ctx)
	if err != nil {
		err = p.server.Close() // of pages nobody fetches
	}
	<-p.served
	return err
}

// Register implements inside.Registry.
func (p *pages) Register(s inside.Source) (unregister func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last++
	number := p.last
	p.sources = append(p.sources, numbered{s, number})
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.sources = slices.DeleteFunc(slices.Clone(p.sources), func(s numbered) bool { return s.number == number })
	}
}

// registered returns the sources there are now.
func (p *pages) registered() []numbered {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.sources)
}
