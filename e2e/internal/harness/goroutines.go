package harness

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Goroutines returns how many goroutines of a collector that was started with Profile have
// a text in their stack, such as the path of a package.
func (c *Collector) Goroutines(ctx context.Context, text string) (count int, err error) {
	// debug: as text, each with its stack.
	url := fmt.Sprintf("http://%s/debug/pprof/goroutine?debug=2", c.ports.address(c.ports.pprof))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return 0, err
	}
	resp, err := c.scraper.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("%s answers %s", url, resp.Status)
	}
	stacks, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	for stack := range strings.SplitSeq(string(stacks), "\n\n") {
		if strings.Contains(stack, text) {
			count++
		}
	}
	return count, nil
}
