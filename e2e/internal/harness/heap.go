package harness

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strconv"
	"strings"
)

// LiveHeap returns how many bytes on the heap of a collector that was started with Profile are
// in use after a garbage collection. It is exact but for what is allocated while it is being
// measured, unlike the sum of a heap profile, which is made of samples.
func (c *Collector) LiveHeap(ctx context.Context) (bytes int, err error) {
	// What a sync.Pool keeps is given up at the second collection.
	for range 2 {
		if bytes, err = c.collectGarbage(ctx); err != nil {
			return 0, err
		}
	}
	return bytes, nil
}

// collectGarbage has a collection made and returns the heap in use after it.
func (c *Collector) collectGarbage(ctx context.Context) (bytes int, err error) {
	// gc: it collects before it profiles. debug: as text, after which come Go's memory statistics,
	// which are read before the profile is written.
	profile, err := c.profile(ctx, "heap?gc=1&debug=1")
	if err != nil {
		return 0, err
	}
	return heapInUse(string(profile))
}

// profile reads what net/http/pprof has under a name.
func (c *Collector) profile(ctx context.Context, name string) ([]byte, error) {
	url := fmt.Sprintf("http://%s/debug/pprof/%s", c.ports.address(c.ports.pprof), name)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := c.scraper.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", url, resp.Status)
	}
	return io.ReadAll(resp.Body)
}

// heapInUse reads runtime.MemStats.HeapAlloc from a heap profile in text.
func heapInUse(profile string) (bytes int, err error) {
	const name = "\n# HeapAlloc = "
	_, after, found := strings.Cut(profile, name)
	if !found {
		return 0, fmt.Errorf("no %q in the heap profile", strings.TrimSpace(name))
	}
	number, _, _ := strings.Cut(after, "\n")
	return strconv.Atoi(number)
}

// DecodedHeap implements Signal.
func (s *signal[T]) DecodedHeap(ids Range) int {
	const copies = 16 // so that what else happens to be allocated counts for less
	body := s.encode(s.generate(ids))
	var decoded [copies]T
	before := heapInUseHere()
	for i := range decoded {
		decoded[i] = decode(s, body)
	}
	after := heapInUseHere()
	runtime.KeepAlive(body)
	runtime.KeepAlive(decoded)
	return max(0, int(after)-int(before)) / copies
}

// decode decodes what pdata has encoded.
func decode[T any](s *signal[T], body []byte) T {
	data, err := s.unmarshal(body)
	if err != nil {
		panic(err)
	}
	return data
}

func heapInUseHere() uint64 {
	runtime.GC()
	runtime.GC() // for the pools
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}
