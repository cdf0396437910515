package e2e

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/boundedbatch/boundedbatchprocessor/e2e/internal/harness"
)

// disk is where an exporter has its queue. It is too small for what is to come.
type disk struct {
	directory string
	says      string                                     // what the system says when it is full
	fill      func(t *testing.T, col *harness.Collector) // from now on there is no more than a little room
	empty     func(t *testing.T, col *harness.Collector) // there is plenty of room
}

// mounted is a file system that is full when a MiB is in it.
func mounted(t *testing.T) disk {
	t.Helper()
	directory := t.TempDir()
	err := unix.Mount("tmpfs", directory, "tmpfs", 0, "size=1m")
	if err != nil {
		t.Skipf("no permission to mount a file system (%v): the limit of a file's size has to do", err)
	}
	t.Cleanup(func() { assert.NoError(t, unix.Unmount(directory, unix.MNT_DETACH)) })
	return disk{
		directory: directory,
		says:      unix.ENOSPC.Error(),
		fill:      func(*testing.T, *harness.Collector) {},
		empty: func(t *testing.T, _ *harness.Collector) {
			t.Helper()
			require.NoError(t, unix.Mount("tmpfs", directory, "tmpfs", unix.MS_REMOUNT, "size=256m"))
		},
	}
}

// limited is a file system on which the collector's files cannot grow beyond half a MiB. That is
// possible for everybody.
func limited(t *testing.T) disk {
	t.Helper()
	limit := func(t *testing.T, col *harness.Collector, size uint64) {
		t.Helper()
		limit := unix.Rlimit{Cur: size, Max: unix.RLIM_INFINITY}
		require.NoError(t, unix.Prlimit(col.PID(), unix.RLIMIT_FSIZE, &limit, nil))
	}
	return disk{
		directory: t.TempDir(),
		says:      unix.EFBIG.Error(),
		fill:      func(t *testing.T, col *harness.Collector) { t.Helper(); limit(t, col, 512<<10) },
		empty:     func(t *testing.T, col *harness.Collector) { t.Helper(); limit(t, col, unix.RLIM_INFINITY) },
	}
}

// The exporter behind has its queue on a disk, which is full before the backend is back. What the
// queue does not take fails, and is counted; clients that wait are told, and send it again. Every
// item that the queue has taken arrives once.
func TestDiskOfTheExportersQueueIsFull(t *testing.T) {
	for _, tt := range []struct {
		name string
		disk func(*testing.T) disk
	}{{"mounted", mounted}, {"limited", limited}} {
		for _, h := range []handling{counting, waiting, retrying} {
			t.Run(fmt.Sprintf("%s/%s", tt.name, h), func(t *testing.T) {
				t.Parallel()
				d := tt.disk(t)
				s := newSite(t, h, harness.Config{
					Storage: d.directory,
					Queue:   "{storage: file_storage, sizer: items, queue_size: 100000000, num_consumers: 2}",
				}, "")
				d.fill(t, s.col)
				watched := s.col.Watch(t, boundsOfStable)
				s.backend.Hold()
				effect := s.awaitEffect(t)
				stop := s.load(t)
				effect()
				d.empty(t, s.col)
				// In this order: the queue drops what it cannot mark as being sent.
				s.awaitDelivered(t)
				s.backend.Accept()
				stop()
				assert.NotZero(t, watched())
				assert.Contains(t, s.col.Log(), d.says, "why it failed")
				for _, signal := range s.signals {
					s.col.AwaitItems(t, 0, signal, "held_items")
				}
				now, err := s.col.Scrape(t.Context())
				require.NoError(t, err)
				for _, signal := range s.signals {
					delivered := int(now.Sum(signal, "delivered_items"))
					s.backend.Ledger(signal).Await(t, "the end of the queue", func(l *harness.Ledger) bool {
						taken, _ := l.Taken()
						return taken >= delivered
					})
				}
				s.balance(t)
				s.requireCause(t, "retryable")
				s.col.Stop(t)
			})
		}
	}
}
