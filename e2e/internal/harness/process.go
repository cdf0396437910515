package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
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
	text, err := c.processStatus("RssAnon:")
	if err != nil {
		return 0, err
	}
	kilobytes, err := strconv.Atoi(strings.TrimSuffix(text, " kB"))
	return kilobytes << 10, err
}

// withoutHangup returns what runs a program that ignores SIGHUP until it asks for it, see awaitSignals. Its process is the
// one that is started.
func withoutHangup(program string, args []string) (string, []string) {
	return "/bin/sh", append([]string{"-c", `trap "" HUP; exec "$0" "$@"`, program}, args...)
}

// awaitSignals waits until the collector listens to signals. It says that it is ready a moment before: a signal that comes
// between the two ends it, or, if it ignores that as after withoutHangup, is lost.
func (c *Collector) awaitSignals(ctx context.Context) error {
	for {
		hears, err := c.hears(syscall.SIGHUP)
		if hears || err != nil {
			return err
		}
		select {
		case <-c.exited:
			return fmt.Errorf("ended before it listened to signals: %v", c.state)
		case <-ctx.Done():
			return errors.New("does not listen to signals in time")
		case <-time.After(time.Millisecond):
		}
	}
}

// hears tells whether the process has a handler for a signal.
func (c *Collector) hears(signal syscall.Signal) (bool, error) {
	mask, err := c.processStatus("SigCgt:")
	if err != nil {
		return false, err
	}
	caught, err := strconv.ParseUint(mask, 16, 64)
	return caught>>(signal-1)&1 == 1, err
}

// processStatus is what a line of the system's status of the process says.
func (c *Collector) processStatus(name string) (string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if rest, is := strings.CutPrefix(line, name); is {
			return strings.TrimSpace(rest), nil
		}
	}
	return "", fmt.Errorf("no %s in the status of the process", name)
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
