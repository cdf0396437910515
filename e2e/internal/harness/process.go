package harness

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// OpenFiles returns how many file descriptors a collector has, which includes its connections.
func (c *Collector) OpenFiles() (count int, err error) {
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", c.cmd.Process.Pid))
	return len(files), err
}

// PrivateMemory returns how many bytes of RAM a collector has for itself: what it has allocated, and not its program, which is
// mapped from a file and can be dropped.
func (c *Collector) PrivateMemory() (bytes int, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	const name = "RssAnon:"
	for line := range strings.Lines(string(text)) {
		if rest, is := strings.CutPrefix(line, name); is {
			kilobytes, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB"))
			return kilobytes << 10, err
		}
	}
	return 0, fmt.Errorf("no %s in the status of the process", name)
}

// AwaitStop waits until the process has stopped after a SIGSTOP.
func (c *Collector) AwaitStop(tb testing.TB) {
	tb.Helper()
	Until(tb, func(context.Context) error {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid))
		if err != nil {
			return err
		}
		// The state comes after the name, which is in parentheses and may contain anything.
		if state := stat[bytes.LastIndexByte(stat, ')')+2]; state != 'T' {
			return fmt.Errorf("the collector is in state %c", state)
		}
		return nil
	})
}

// MoveClock moves the wall clock of a collector that was started with MovableClock away from
// that of the machine. Its monotonic clock goes on as before, as when somebody sets the
// machine's.
func (c *Collector) MoveClock(tb testing.TB, from time.Duration) {
	tb.Helper()
	if err := c.clock.move(from); err != nil {
		tb.Fatalf("move the clock of the collector: %v", err)
	}
}

// Clock returns the wall clock of a collector, in seconds, from the date of an HTTP answer.
func (c *Collector) Clock(ctx context.Context) (time.Time, error) {
	url := fmt.Sprintf("http://%s/metrics", c.ports.address(c.ports.metrics))
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, url, http.NoBody)
	if err != nil {
		return time.Time{}, err
	}
	resp, err := c.scraper.Do(req)
	if err != nil {
		return time.Time{}, err
	}
	defer resp.Body.Close()
	return http.ParseTime(resp.Header.Get("Date"))
}
