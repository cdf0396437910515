package observe

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/boundedbatch/boundedbatchprocessor/e2e/internal/harness"
)

// dashboards is where the files under test are.
const dashboards = "../../dashboards"

// job is what the collectors are scraped as.
const job = "otelcol"

// prometheusConfig has three arguments: where the rules are, the files that tell what to scrape, and how to change names.
const prometheusConfig = `
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [%s]
scrape_configs:
  - job_name: ` + job + `
    file_sd_configs: [{files: ["%s/*.json"], refresh_interval: 1s}]
%s
`

// relabeling returns what docs/operating.md has for collectors that add suffixes to names; others do not notice it.
func relabeling(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile("../../docs/operating.md")
	require.NoError(t, err)
	found := regexp.MustCompile(`(?m)^    metric_relabel_configs:\n(      - .*\n)+`).FindString(string(page))
	require.NotEmpty(t, found, "docs/operating.md has no metric_relabel_configs")
	return found
}

// minutes are times in rules. In names, such as rate5m, they are part of a word.
var minutes = regexp.MustCompile(`\b([0-9]+)m\b`)

// quicker returns rules with each minute of their times as a second.
func quicker(rules []byte) []byte { return minutes.ReplaceAll(rules, []byte("${1}s")) }

// prometheus is a running server with the rules of dashboards/, in which a minute is a second.
type prometheus struct {
	address string
	targets string // the directory of what is scraped
	client  *http.Client
}

// startPrometheus starts a server, which ends with the test.
func startPrometheus(t *testing.T) *prometheus {
	t.Helper()
	binary, err := prometheusBinary()
	require.NoError(t, err)
	dir := t.TempDir()
	rules, err := os.ReadFile(filepath.Join(dashboards, "rules.yaml"))
	require.NoError(t, err)
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	targets := filepath.Join(dir, "targets")
	require.NoError(t, os.Mkdir(targets, 0o700))
	config := write("prometheus.yml", fmt.Sprintf(prometheusConfig, write("rules.yaml", string(quicker(rules))), targets, relabeling(t)))

	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	p := &prometheus{targets: targets, client: &http.Client{Transport: transport}}
	// The port is free when it is picked, not when the server listens on it: on a clash, pick again.
	const attempts = 3
	for attempt := 1; ; attempt++ {
		var lc net.ListenConfig
		l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
		require.NoError(t, err)
		p.address = l.Addr().String()
		require.NoError(t, l.Close())
		log, exited := p.launch(t, binary, config, filepath.Join(dir, "data-"+strconv.Itoa(attempt)))
		clash := false
		harness.Until(t, func(ctx context.Context) error {
			select {
			case <-exited:
				clash = attempt < attempts && strings.Contains(log.String(), "address already in use")
				require.True(t, clash, "prometheus ended: %s", log)
				return nil
			default:
				return p.get(ctx, "/-/ready", nil, nil)
			}
		})
		if !clash {
			return p
		}
	}
}

// launch starts the process. What it writes may be read once exited is closed.
func (p *prometheus) launch(t *testing.T, binary, config, data string) (log *bytes.Buffer, exited <-chan struct{}) {
	t.Helper()
	log = new(bytes.Buffer)
	cmd := exec.CommandContext(t.Context(), binary, "--config.file="+config, "--storage.tsdb.path="+data,
		"--web.listen-address="+p.address, "--log.level=warn")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // it has files to close
	cmd.WaitDelay = 20 * time.Second
	require.NoError(t, cmd.Start())
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // it was told to end
		close(ended)
	}()
	t.Cleanup(func() {
		<-ended
		if t.Failed() {
			t.Logf("log of prometheus:\n%s", log)
		}
	})
	return log, ended
}

// get asks the server. Into may be nil.
func (p *prometheus) get(ctx context.Context, path string, params url.Values, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.address+path+"?"+params.Encode(), http.NoBody)
	if err != nil {
		return err
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if into == nil && resp.StatusCode == http.StatusOK {
		return nil
	}
	var answer struct {
		Data  json.RawMessage
		Error string
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s answers %s: %s", path, params, resp.Status, answer.Error)
	}
	return json.Unmarshal(answer.Data, into)
}

// scrape has a collector scraped under a name, and waits for the first scrape: what is counted later is seen to grow.
func (p *prometheus) scrape(t *testing.T, instance string, col *harness.Collector) {
	t.Helper()
	target, err := json.Marshal([]any{map[string]any{
		"targets": []string{col.MetricsAddress()}, "labels": map[string]string{"instance": instance},
	}})
	require.NoError(t, err)
	path := filepath.Join(p.targets, instance)
	require.NoError(t, os.WriteFile(path, target, 0o600))
	require.NoError(t, os.Rename(path, path+".json")) // whole, or not at all
	harness.Until(t, func(ctx context.Context) error {
		found, err := p.query(ctx, fmt.Sprintf("otelcol_processor_boundedbatch_accepted_items{instance=%q}", instance))
		if err == nil && len(found) == 0 {
			err = fmt.Errorf("%s is not scraped", instance)
		}
		return err
	})
}

// series is a result of a query.
type series struct {
	Labels map[string]string `json:"metric"`
	Points []point           `json:"values"`
	Point  point             `json:"value"`
}

// point is a value at a time.
type point struct {
	At    float64 // seconds of Unix time
	Value float64
}

// UnmarshalJSON implements json.Unmarshaler: a point is a list of a number and a number in quotes.
func (p *point) UnmarshalJSON(text []byte) error {
	var value string
	if err := json.Unmarshal(text, &[]any{&p.At, &value}); err != nil {
		return err
	}
	var err error
	p.Value, err = strconv.ParseFloat(value, 64)
	return err
}

// query returns what an expression is now.
func (p *prometheus) query(ctx context.Context, expr string) ([]series, error) {
	var answer struct{ Result []series }
	err := p.get(ctx, "/api/v1/query", url.Values{"query": {expr}}, &answer)
	return answer.Result, err
}

// queryRange returns what an expression was each second since a time.
func (p *prometheus) queryRange(ctx context.Context, expr string, since time.Time) ([]series, error) {
	var answer struct{ Result []series }
	err := p.get(ctx, "/api/v1/query_range", url.Values{
		"query": {expr}, "step": {"1"},
		"start": {strconv.FormatInt(since.Unix(), 10)}, "end": {strconv.FormatInt(time.Now().Unix(), 10)},
	}, &answer)
	return answer.Result, err
}

// shows tells if any point of some series is neither zero nor undefined.
func shows(all []series) bool {
	for _, s := range all {
		for _, p := range s.Points {
			if p.Value != 0 && !math.IsNaN(p.Value) {
				return true
			}
		}
	}
	return false
}

// largest returns the largest value of all points.
func largest(all []series) float64 {
	value := math.Inf(-1)
	for _, s := range all {
		for _, p := range s.Points {
			value = max(value, p.Value)
		}
	}
	return value
}

// alert is an alert that is pending or fires.
type alert struct {
	Labels      map[string]string
	Annotations map[string]string
	State       string
}

// alerts returns those of one collector.
func (p *prometheus) alerts(ctx context.Context, instance string) (found []alert, err error) {
	var answer struct{ Alerts []alert }
	if err := p.get(ctx, "/api/v1/alerts", nil, &answer); err != nil {
		return nil, err
	}
	for _, a := range answer.Alerts {
		if a.Labels["instance"] == instance {
			found = append(found, a)
		}
	}
	return found, nil
}

// seen is which alerts were seen to fire, and to go away after that. Several goroutines may use it.
type seen struct {
	mu        sync.Mutex // guards everything below
	fired     map[string]bool
	recovered map[string]bool
}

func newSeen() *seen { return &seen{fired: make(map[string]bool), recovered: make(map[string]bool)} }

func (s *seen) note(in map[string]bool, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	in[name] = true
}
