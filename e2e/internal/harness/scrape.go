package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Scrape is one reading of a collector's metrics.
type Scrape map[string]*dto.MetricFamily

// prefix of every metric of the processor.
const prefix = "otelcol_processor_boundedbatch_"

// MetricsAddress is where the collector's metrics can be scraped.
func (c *Collector) MetricsAddress() string { return c.ports.address(c.ports.metrics) }

// Scrape reads the collector's metrics.
func (c *Collector) Scrape(ctx context.Context) (Scrape, error) {
	return ReadMetrics(ctx, c.scraper, c.MetricsAddress())
}

// ReadMetrics is Scrape for a collector that was not started here, with the address of its metrics.
func ReadMetrics(ctx context.Context, client *http.Client, address string) (Scrape, error) {
	url := fmt.Sprintf("http://%s/metrics", address)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", url, resp.Status)
	}
	return parseScrape(resp.Body)
}

func parseScrape(r io.Reader) (Scrape, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	return parser.TextToMetricFamilies(r)
}

// Absent is what Sum returns when there is no such series.
const Absent = -1

// Sum adds up the counters and gauges of the processor with that name (after
// otelcol_processor_boundedbatch_), for one signal and, if given, with one label's
// value. Of histograms it adds up the number of observations.
func (s Scrape) Sum(signal Signal, name string, label ...string) int64 {
	want := map[string]string{"signal": signal.Name()}
	for i := 0; i+1 < len(label); i += 2 {
		want[label[i]] = label[i+1]
	}
	total, found := 0.0, false
	for _, m := range s[prefix+name].GetMetric() {
		if has(m, want) {
			found = true
			total += m.GetCounter().GetValue() + m.GetGauge().GetValue() + m.GetUntyped().GetValue() +
				float64(m.GetHistogram().GetSampleCount())
		}
	}
	if !found {
		return Absent
	}
	return int64(total)
}

// Total adds up what was observed by a histogram of the processor.
func (s Scrape) Total(signal Signal, name string) (total float64) {
	for _, m := range s[prefix+name].GetMetric() {
		if has(m, map[string]string{"signal": signal.Name()}) {
			total += m.GetHistogram().GetSampleSum()
		}
	}
	return total
}

// AtMost returns how many observations of a histogram of the processor are not above a bound,
// which must be that of a bucket.
func (s Scrape) AtMost(signal Signal, name string, bound float64) (count int64) {
	for _, m := range s[prefix+name].GetMetric() {
		for _, b := range m.GetHistogram().GetBucket() {
			if has(m, map[string]string{"signal": signal.Name()}) && b.GetUpperBound() == bound {
				count += int64(b.GetCumulativeCount())
			}
		}
	}
	return count
}

func has(m *dto.Metric, want map[string]string) bool {
	matching := 0
	for _, pair := range m.GetLabel() {
		if v, asked := want[pair.GetName()]; asked && v == pair.GetValue() {
			matching++
		}
	}
	return matching == len(want)
}

// Bounds returns an error unless accepted = delivered + failed + dropped + held and
// held <= capacity for the signal, in items and, with a limit in bytes, in bytes.
func (s Scrape) Bounds(signal Signal) error {
	accepted, delivered := s.Sum(signal, "accepted_items"), s.Sum(signal, "delivered_items")
	failed, dropped := s.Sum(signal, "failed_items"), s.Sum(signal, "dropped_items")
	held, capacity := s.Sum(signal, "held_items"), s.Sum(signal, "capacity_items")
	if accepted == Absent || delivered == Absent || failed == Absent || dropped == Absent || held == Absent || capacity == Absent {
		return fmt.Errorf("%s: counters are absent", signal.Name())
	}
	var errs []error
	if accepted != delivered+failed+dropped+held {
		errs = append(errs, fmt.Errorf("%s: accepted %d != delivered %d + failed %d + dropped %d + held %d",
			signal.Name(), accepted, delivered, failed, dropped, held))
	}
	if held > capacity {
		errs = append(errs, fmt.Errorf("%s: held %d exceeds the capacity of %d", signal.Name(), held, capacity))
	}
	if held, capacity := s.Sum(signal, "held_bytes"), s.Sum(signal, "capacity_bytes"); held > capacity {
		errs = append(errs, fmt.Errorf("%s: held %d bytes exceed the capacity of %d", signal.Name(), held, capacity))
	}
	return errors.Join(errs...)
}

// AwaitMetrics scrapes until done returns nil; its last error is why the test fails
// if that takes too long.
func (c *Collector) AwaitMetrics(tb testing.TB, done func(Scrape) error) {
	tb.Helper()
	Until(tb, func(ctx context.Context) error {
		s, err := c.Scrape(ctx)
		if err != nil {
			return err
		}
		return done(s)
	})
}

// AwaitItems scrapes until a sum is what the test expects. Every scrape on the way must
// satisfy Bounds.
func (c *Collector) AwaitItems(tb testing.TB, want int64, signal Signal, name string, label ...string) {
	tb.Helper()
	c.AwaitMetrics(tb, func(s Scrape) error {
		if err := s.Bounds(signal); err != nil {
			tb.Fatal(err)
		}
		if got := s.Sum(signal, name, label...); got != want {
			return fmt.Errorf("%s of %s %v: %d instead of %d", name, signal.Name(), label, got, want)
		}
		return nil
	})
}

// Watch scrapes again and again and hands every scrape to check, until stop is
// called. Stop returns the number of scrapes and fails the test with the first error.
func (c *Collector) Watch(tb testing.TB, check func(Scrape) error) (stop func() (scrapes int)) {
	tb.Helper()
	var watching sync.WaitGroup
	over := make(chan struct{})
	scrapes := 0
	var failure error
	watching.Go(func() {
		// Not back to back: the scrapes would take the time of the traffic they watch.
		every := time.NewTicker(pollInterval)
		defer every.Stop()
		for failure == nil {
			s, err := c.Scrape(tb.Context())
			if err == nil {
				err = check(s)
			}
			if failure = err; err == nil {
				scrapes++
			}
			select {
			case <-over:
				return
			case <-every.C:
			}
		}
	})
	return sync.OnceValue(func() int {
		tb.Helper()
		close(over)
		watching.Wait()
		if failure != nil {
			tb.Errorf("scrape %d: %v", scrapes+1, failure)
		}
		return scrapes
	})
}

const pollInterval = 10 * time.Millisecond

// Until calls done again and again until it returns nil; its last error is why the
// test fails if that takes too long. It is the only form of waiting by time, and is
// for what another process can only be asked.
func Until(tb testing.TB, done func(context.Context) error) {
	tb.Helper()
	Within(tb, patience, done)
}

// Within is Until for what may take longer, or must not take as long.
func Within(tb testing.TB, limit time.Duration, done func(context.Context) error) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), limit)
	defer cancel()
	again := time.NewTicker(pollInterval)
	defer again.Stop()
	for reason := error(nil); ; {
		err := done(ctx)
		if err == nil {
			return
		}
		if reason == nil || ctx.Err() == nil {
			reason = err // not that the time was over in the middle of done
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			tb.Fatalf("not within %v: %v", limit, reason)
		}
	}
}
