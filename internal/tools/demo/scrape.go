package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// scrape is one reading of the collector's Prometheus endpoint.
type scrape map[string]*dto.MetricFamily

// labels select series: those that have at least these.
type labels map[string]string

func scrapeMetrics(ctx context.Context, url string) (scrape, error) {
	// The handler collects on demand; a scrape that takes longer than this means that the collector hangs.
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", url, resp.Status)
	}
	return parseScrape(resp.Body)
}

func parseScrape(r io.Reader) (scrape, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	return parser.TextToMetricFamilies(r)
}

// sum adds up the counters and gauges of that name whose series carry all of the labels; 0 if there are none.
func (s scrape) sum(name string, want labels) float64 {
	var total float64
	for _, m := range s.series(name, want) {
		total += value(m)
	}
	return total
}

// by does the same for each value of one more label.
func (s scrape) by(name, label string, want labels) map[string]float64 {
	totals := map[string]float64{}
	for _, m := range s.series(name, want) {
		totals[labelOf(m, label)] += value(m)
	}
	return totals
}

// series finds a counter with or without the suffix _total: which of the two the collector shows depends on how its
// reader is configured.
func (s scrape) series(name string, want labels) []*dto.Metric {
	family := s[name]
	if family == nil {
		family = s[name+"_total"]
	}
	var found []*dto.Metric
	for _, m := range family.GetMetric() {
		if matches(m, want) {
			found = append(found, m)
		}
	}
	return found
}

func matches(m *dto.Metric, want labels) bool {
	for name, value := range want {
		if labelOf(m, name) != value {
			return false
		}
	}
	return true
}

func labelOf(m *dto.Metric, name string) string {
	for _, pair := range m.GetLabel() {
		if pair.GetName() == name {
			return pair.GetValue()
		}
	}
	return ""
}

// value is that of whichever kind of metric this is; the getters of the others give 0.
func value(m *dto.Metric) float64 {
	return m.GetCounter().GetValue() + m.GetGauge().GetValue() + m.GetUntyped().GetValue()
}
