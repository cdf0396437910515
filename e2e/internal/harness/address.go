package harness

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// GRPCAddress is where the collector takes OTLP over gRPC, for requests that no Client makes.
func (c *Collector) GRPCAddress() string { return c.ports.address(c.ports.grpc) }

// HTTPAddress is the same for HTTP.
func (c *Collector) HTTPAddress() string { return c.ports.address(c.ports.http) }

// HealthAddress is where a health_check extension on HEALTH_PORT answers.
func (c *Collector) HealthAddress() string { return c.ports.address(c.ports.health) }

// InsideAddress is where the boundedbatchz extension listens.
func (c *Collector) InsideAddress() string { return c.ports.address(c.ports.inside) }

// Inside returns what the boundedbatchz extension shows, as HTML or, with format /json, as JSON. The query can be empty.
func (c *Collector) Inside(ctx context.Context, format, query string) (string, error) {
	return c.page(ctx, fmt.Sprintf("http://%s/debug/boundedbatchz%s?%s", c.InsideAddress(), format, query))
}

// Pages returns what the collector tells over HTTP about itself: its metrics as text, and, if it was started with
// ReportStatus or Debug, the status of its components and what the zpages and boundedbatchz extensions show.
func (c *Collector) Pages(ctx context.Context) (string, error) {
	var all strings.Builder
	urls := []string{fmt.Sprintf("http://%s/metrics", c.ports.address(c.ports.metrics))}
	if c.debug {
		for _, page := range []string{"servicez", "pipelinez", "extensionz", "featurez", "tracez"} {
			urls = append(urls, fmt.Sprintf("http://%s/debug/%s", c.ports.address(c.ports.zpages), page))
		}
		for _, format := range []string{"", "/json"} {
			urls = append(urls, fmt.Sprintf("http://%s/debug/boundedbatchz%s", c.InsideAddress(), format))
		}
		// Where tracez lists spans: those of a name that failed, and those that did not.
		for _, kind := range []string{"0", "1", "2"} {
			for _, name := range []string{"export logs", "boundedbatch/logs", "opentelemetry.proto.collector.logs.v1.LogsService/Export"} {
				urls = append(urls, fmt.Sprintf("http://%s/debug/tracez?zspanname=%s&ztype=%s&zlatencybucket=0",
					c.ports.address(c.ports.zpages), strings.ReplaceAll(name, " ", "%20"), kind))
			}
		}
	}
	if c.status {
		urls = append(urls, fmt.Sprintf("http://%s/status?verbose", c.ports.address(c.ports.health)))
	}
	for _, url := range urls {
		text, err := c.page(ctx, url)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&all, "%s\n%s\n", url, text)
	}
	return all.String(), nil
}

func (c *Collector) page(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", err
	}
	resp, err := c.scraper.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return string(text), err
}
