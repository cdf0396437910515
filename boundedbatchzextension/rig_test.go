package boundedbatchzextension

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/client"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/extension/extensiontest"
	"go.opentelemetry.io/collector/pdata/plog"
	collectorprocessor "go.opentelemetry.io/collector/processor"
	"go.opentelemetry.io/collector/processor/processortest"

	"github.com/boundedbatch/boundedbatchprocessor"
	"github.com/boundedbatch/boundedbatchprocessor/boundedbatchzextension/internal/metadata"
)

// collector is what a Collector is to its components, with one extension.
type collector struct {
	component.Host
	pages *pages
}

func newCollector(shown bool) *collector {
	return &collector{
		componenttest.NewNopHost(),
		newPages(extensiontest.NewNopSettings(metadata.Type), &Config{Endpoint: defaultEndpoint, ShowMetadataValues: shown}),
	}
}

func (c *collector) GetExtensions() map[component.ID]component.Component {
	return map[component.ID]component.Component{
		component.MustNewID("another"): struct{ component.Component }{},
		component.NewID(metadata.Type): c.pages,
	}
}

// start starts a processor of logs that hands batches to next.
func (c *collector) start(t *testing.T, name string, configure func(*boundedbatchprocessor.Config), next consumer.ConsumeLogsFunc) collectorprocessor.Logs {
	t.Helper()
	factory := boundedbatchprocessor.NewFactory()
	cfg := factory.CreateDefaultConfig().(*boundedbatchprocessor.Config)
	cfg.MetadataKeys = []string{"tenant"}
	if configure != nil {
		configure(cfg)
	}
	set := processortest.NewNopSettings(factory.Type())
	set.ID = component.NewIDWithName(factory.Type(), name)
	sink, err := consumer.NewLogs(next)
	require.NoError(t, err)
	p, err := factory.CreateLogs(t.Context(), set, cfg, sink)
	require.NoError(t, err)
	require.NoError(t, p.Start(t.Context(), c))
	return p
}

// get asks for a page.
func (c *collector) get(url string) *httptest.ResponseRecorder {
	return c.do(httptest.NewRequest(http.MethodGet, url, http.NoBody))
}

func (c *collector) do(r *http.Request) *httptest.ResponseRecorder {
	if r.Host == "example.com" { // httptest's
		r.Host = "localhost:55689"
	}
	w := httptest.NewRecorder()
	c.pages.handler().ServeHTTP(w, r)
	return w
}

// page asks for the JSON and reads it.
func (c *collector) page(t *testing.T, query string) (all page) {
	t.Helper()
	w := c.get(pathJSON + query)
	require.Equal(t, http.StatusOK, w.Code, w.Body.String())
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &all))
	return all
}

// UnmarshalJSON implements json.Unmarshaler.
func (s *seconds) UnmarshalJSON(text []byte) error {
	var n float64
	err := json.Unmarshal(text, &n)
	*s = seconds(n*1000+.5) * 1e6
	return err
}

func of(tenant string) context.Context {
	return client.NewContext(context.Background(), client.Info{Metadata: client.NewMetadata(map[string][]string{"tenant": {tenant}})})
}

func logs(records int) plog.Logs {
	data := plog.NewLogs()
	all := data.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords()
	for range records {
		all.AppendEmpty().Body().SetStr("text")
	}
	return data
}
