package boundedbatchzextension

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime/pprof"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/extension/extensiontest"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
	"github.com/boundedbatch/boundedbatchprocessor/boundedbatchzextension/internal/metadata"
	"github.com/boundedbatch/boundedbatchprocessor/internal/inside"
)

func TestDefaultsAreCarefulAndValid(t *testing.T) {
	cfg := createDefaultConfig().(*Config)
	require.Equal(t, &Config{Endpoint: "localhost:55689"}, cfg)
	require.NoError(t, cfg.Validate())
	require.NoError(t, confmap.NewFromStringMap(map[string]any{"endpoint": "127.0.0.1:1", "show_metadata_values": true}).Unmarshal(cfg))
	require.Equal(t, &Config{Endpoint: "127.0.0.1:1", ShowMetadataValues: true}, cfg)
	require.ErrorContains(t, confmap.NewFromStringMap(map[string]any{"port": 1}).Unmarshal(cfg), "port")
}

func TestConfigurationsThatCannotWorkAreRefused(t *testing.T) {
	for endpoint, want := range map[string]string{
		"":                  `endpoint: "" is no host with a port; accepted is for instance localhost:55689`,
		"localhost":         `endpoint: "localhost" is no host with a port; accepted is for instance localhost:55689`,
		":55689":            `endpoint: ":55689" has no host; accepted are localhost:55689, and 0.0.0.0:55689 for all interfaces`,
		"localhost:http":    `endpoint: the port of "localhost:http" is no number from 0 to 65535`,
		"localhost:65536":   `endpoint: the port of "localhost:65536" is no number from 0 to 65535`,
		"http://localhost:": `endpoint: "http://localhost:" is no host with a port; accepted is for instance localhost:55689`,
	} {
		require.EqualError(t, (&Config{Endpoint: endpoint}).Validate(), want)
	}
	require.NoError(t, (&Config{Endpoint: "[::1]:0"}).Validate())
}

// started starts an extension, and returns the address of its page and what it logs.
func started(t *testing.T, endpoint string) (p *pages, url string, logged *observer.ObservedLogs) {
	t.Helper()
	core, logged := observer.New(zapcore.InfoLevel)
	set := extensiontest.NewNopSettings(metadata.Type)
	set.Logger = zap.New(core)
	cfg := &Config{Endpoint: endpoint}
	require.NoError(t, cfg.Validate())
	e, err := NewFactory().Create(t.Context(), set, cfg)
	require.NoError(t, err)
	require.NoError(t, e.Start(t.Context(), componenttest.NewNopHost()))
	return e.(*pages), logged.All()[0].ContextMap()["url"].(string), logged
}

func fetch(t *testing.T, url string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	require.NoError(t, err)
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(text)
}

func TestServerServesUntilItsShutdown(t *testing.T) {
	p, url, logged := started(t, "localhost:0")
	require.Len(t, logged.All(), 1, "no warning")
	status, body := fetch(t, url)
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, "No boundedbatch processor is running")

	second := newPages(extensiontest.NewNopSettings(metadata.Type), &Config{Endpoint: strings.TrimSuffix(strings.TrimPrefix(url, "http://"), path)})
	require.ErrorContains(t, second.Start(t.Context(), componenttest.NewNopHost()), "endpoint: listen tcp")
	require.NoError(t, second.Shutdown(t.Context()), "of one that did not start")
	require.NoError(t, p.Shutdown(t.Context()))
	require.NoError(t, p.Shutdown(t.Context()), "again")

	require.NoError(t, second.Start(t.Context(), componenttest.NewNopHost()), "as a Collector does that is configured anew")
	status, _ = fetch(t, url)
	require.Equal(t, http.StatusOK, status)
	require.NoError(t, second.Shutdown(t.Context()))
}

func TestOtherInterfacesAreWarnedOf(t *testing.T) {
	p, _, logged := started(t, "0.0.0.0:0")
	defer func() { require.NoError(t, p.Shutdown(t.Context())) }()
	require.Len(t, logged.All(), 2)
	require.Equal(t, zapcore.WarnLevel, logged.All()[1].Level)
	require.Contains(t, logged.All()[1].Message, "can be seen from other machines")
}

// A client that does not read its answer does not hold up a shutdown for longer than it takes to make a page.
func TestShutdownEndsWhateverClientsDo(t *testing.T) {
	p, url, _ := started(t, "localhost:0")
	entered := make(chan struct{})
	p.Register(inside.Source{Snapshot: func(ctx context.Context, _ batcher.Query) (batcher.Snapshot, error) {
		close(entered)
		<-ctx.Done()
		return batcher.Snapshot{}, ctx.Err()
	}})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	gone := make(chan error, 1)
	go func() {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err == nil {
			var resp *http.Response
			if resp, err = (&http.Transport{DisableKeepAlives: true}).RoundTrip(req); err == nil {
				err = resp.Body.Close()
			}
		}
		gone <- err
	}()
	<-entered
	ended, end := context.WithCancel(t.Context())
	end() // the Collector has no time left
	require.NoError(t, p.Shutdown(ended))
	require.Error(t, <-gone)
}

func TestRequestsThatAreNotForThePageAreRefused(t *testing.T) {
	c := newCollector(false)
	request := func(method, url, host string) *http.Request {
		r := httptest.NewRequest(method, url, http.NoBody)
		r.Host = host
		return r
	}
	for _, r := range []struct {
		request *http.Request
		status  int
		says    string
	}{
		{request(http.MethodGet, path, "localhost:55689"), http.StatusOK, ""},
		{request(http.MethodGet, path, "LOCALHOST"), http.StatusOK, ""},
		{request(http.MethodGet, path, "127.0.0.1:1"), http.StatusOK, ""},
		{request(http.MethodGet, path, "[::1]:1"), http.StatusOK, ""},
		{request(http.MethodGet, path, "[::1]"), http.StatusOK, ""},
		{request(http.MethodHead, path, "localhost"), http.StatusOK, ""},
		{request(http.MethodGet, "/", "localhost"), http.StatusFound, ""},
		{request(http.MethodGet, path, "evil.example:55689"), http.StatusForbidden, "not served under that name"},
		{request(http.MethodGet, path, ""), http.StatusForbidden, "not served under that name"},
		{request(http.MethodGet, path, "localhost.evil.example"), http.StatusForbidden, "not served under that name"},
		{request(http.MethodPost, path, "localhost"), http.StatusMethodNotAllowed, ""},
		{request(http.MethodGet, "/debug/pprof", "localhost"), http.StatusNotFound, ""},
		{request(http.MethodGet, path+"?sort=name", "localhost"), http.StatusBadRequest, "sort: accepted are held, oldest, waiting"},
		{request(http.MethodGet, path+"?limit=0", "localhost"), http.StatusBadRequest, "limit: accepted are numbers from 1 to 1000"},
		{request(http.MethodGet, path+"?limit=1001", "localhost"), http.StatusBadRequest, "limit: accepted are numbers from 1 to 1000"},
		{request(http.MethodGet, pathJSON+"?processor=x", "localhost"), http.StatusBadRequest, "processor: accepted are numbers"},
		{request(http.MethodGet, path+"?refresh=9999999999999999999", "localhost"), http.StatusBadRequest, "refresh: accepted are numbers from 1 to 3600"},
	} {
		w := c.do(r.request)
		require.Equal(t, r.status, w.Code, "%s %s of %q", r.request.Method, r.request.URL, r.request.Host)
		require.Contains(t, w.Body.String(), r.says)
		require.Equal(t, "nosniff", w.Header().Get("X-Content-Type-Options"))
		require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	}
	own := newCollector(false)
	own.pages.cfg.Endpoint = "collector.internal:80"
	require.Equal(t, http.StatusOK, own.do(request(http.MethodGet, path, "Collector.Internal")).Code)
}

// A page takes five seconds at most, and four are made at once: whoever asks for more hears so at once.
func TestPagesTakeBoundedTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCollector(false)
		c.pages.Register(inside.Source{Snapshot: func(ctx context.Context, _ batcher.Query) (batcher.Snapshot, error) {
			<-ctx.Done()
			return batcher.Snapshot{}, ctx.Err()
		}})
		answers := make(chan *httptest.ResponseRecorder)
		began := time.Now()
		for range mostBusy {
			go func() { answers <- c.get(path) }()
		}
		synctest.Wait()
		w := c.get(pathJSON)
		require.Equal(t, http.StatusServiceUnavailable, w.Code)
		require.Equal(t, "1", w.Header().Get("Retry-After"))
		require.Zero(t, time.Since(began))
		for range mostBusy {
			w := <-answers
			require.Equal(t, http.StatusServiceUnavailable, w.Code)
			require.Contains(t, w.Body.String(), "the page could not be made: context deadline exceeded")
		}
		require.Equal(t, mostTime, time.Since(began))
	})
}

func TestProcessorThatCannotBeReadIsNotLeftOut(t *testing.T) {
	c := newCollector(false)
	unregister := c.pages.Register(inside.Source{Snapshot: func(context.Context, batcher.Query) (batcher.Snapshot, error) {
		return batcher.Snapshot{}, errors.New("why")
	}})
	require.Equal(t, http.StatusServiceUnavailable, c.get(path).Code)
	unregister()
	unregister()
	require.Equal(t, http.StatusOK, c.get(path).Code)
}

// A profile of the Collector tells whose goroutines serve the page.
func TestServingGoroutinesAreLabelled(t *testing.T) {
	p, url, _ := started(t, "localhost:0")
	defer func() { require.NoError(t, p.Shutdown(t.Context())) }()
	status, _ := fetch(t, url) // it serves by now
	require.Equal(t, http.StatusOK, status)
	var all strings.Builder
	require.NoError(t, pprof.Lookup("goroutine").WriteTo(&all, 1))
	require.Contains(t, all.String(), `labels: {"component":"`+p.id.String()+`", "role":"serve"}`)
}
