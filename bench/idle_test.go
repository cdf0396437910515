package bench

import (
	"fmt"
	"runtime"
	"testing"
	"time"
)

// TestIdle sends one item under each of many tenants, waits until all of them have been
// delivered and nobody has anything more to do, and measures what the process does by
// itself then, over what it does without the peer.
func TestIdle(t *testing.T) {
	skipIfShort(t)
	table := newTable("idle", "tenants", "still known", "goroutines", "CPU of a core", "limit", "ratio to batch", "limit",
		"switches/s", "limit", "bytes a tenant (heap + stacks)")
	defer table.print()
	row := func(p peer, tenants int, of idle, cpuLimit, ratio, ratioLimit, switchesLimit string) {
		recordIdle(logs.name, p, tenants, of)
		table.row(p, tenants, of.known, of.goroutines, fmt.Sprintf("%.4f %%", of.cpu()), cpuLimit, ratio, ratioLimit,
			fmt.Sprintf("%.1f", of.switches()), switchesLimit, of.memory)
	}

	ofBatch := logs.measureIdle(t, batch, manyTenants)
	row(batch, manyTenants, ofBatch, "", "", "", "")
	if *fullFlag {
		row(helper, manyTenants, logs.measureIdle(t, helper, manyTenants), "", "", "", "")
	}

	many, one := logs.measureIdle(t, boundedbatch, manyTenants), logs.measureIdle(t, boundedbatch, 1)
	share := many.cpu() / ofBatch.cpu()
	row(boundedbatch, manyTenants, many, atMost(many.cpu(), idleCPU), fmt.Sprintf("%.4f", share), atMost(share, idleShare), atMost(many.switches(), idleSwitches))
	row(boundedbatch, 1, one, "", "", "", atMost(one.switches(), idleSwitches))

	if many.goroutines != one.goroutines {
		t.Errorf("%d goroutines after %d tenants, %d after one", many.goroutines, manyTenants, one.goroutines)
	}
	if many.cpu() > idleCPU {
		t.Errorf("%.2g %% of a core after %d tenants, more than %.2g %%", many.cpu(), manyTenants, idleCPU)
	}
	if share > idleShare**marginFlag {
		t.Errorf("CPU after %d tenants is %.4f of batch's, more than %.2f", manyTenants, share, idleShare)
	}
	for n, of := range map[int]idle{manyTenants: many, 1: one} {
		if of.switches() > idleSwitches {
			t.Errorf("%.1f switches a second after %d tenants, more than the %.1f of a process in which nobody wakes", of.switches(), n, idleSwitches)
		}
	}
}

// idle is what a peer takes while nobody sends it anything.
type idle struct {
	known      int    // tenants of which it keeps anything
	goroutines int    // that the process has because of it
	memory     memory // a tenant, its share of the peer itself included
	with       upkeep
	without    upkeep // before there was the peer
}

// cpu is the peer's own, in percent of a core; at least 0.
func (i *idle) cpu() float64 {
	return 100 * max(0, i.with.cpu-i.without.cpu).Seconds() / idleWindow.Seconds()
}

// switches is how many more a second there are with the peer than without; at least 0.
func (i *idle) switches() float64 {
	return float64(max(0, i.with.switches-i.without.switches)) / idleWindow.Seconds()
}

func (s *signal[T]) measureIdle(t *testing.T, p peer, tenants int) (of idle) {
	t.Helper()
	withoutGC(t)
	quiet(t)
	// Before, not after: what a peer leaves behind when it is shut down is its own.
	of.without = watch()
	goroutines, before := runtime.NumGoroutine(), memoryInUse()
	r := newTenantRig(t, s, p, defaultTimeout)
	r.introduce(t, tenants)
	r.delivered(t, tenants)
	of.known = tenants
	if p == boundedbatch {
		of.known = 0 // once a tick has found nothing more
	}
	r.awaitKnown(t, of.known)
	quiet(t)
	of.goroutines, of.memory = runtime.NumGoroutine()-goroutines, memoryInUse().perTenant(before, tenants)
	of.with = watch()
	if known := r.known(t); known != of.known {
		t.Fatalf("%s knew %d tenants before it was watched, and %d after", p, of.known, known)
	}
	r.stop(t)
	return of
}

// upkeep is what the process does in a window while nobody wants anything of it.
type upkeep struct {
	cpu      time.Duration
	switches int64 // how often a thread has gone to sleep, and so had been woken
}

// idleWindow is long enough for ten ticks of the default timeout.
const idleWindow = 2 * time.Second

// watch returns the least of two windows: what goes on for ever is in both of them, and
// what the runtime happens to tidy up is not. Memory is given back before, or the runtime
// would do that meanwhile.
func watch() upkeep {
	cool()
	a, b := watchOnce(), watchOnce()
	return upkeep{cpu: min(a.cpu, b.cpu), switches: min(a.switches, b.switches)}
}

func watchOnce() upkeep {
	cpu, switches := cpuTime(), usage().Nvcsw
	time.Sleep(idleWindow)
	return upkeep{cpu: cpuTime() - cpu, switches: usage().Nvcsw - switches}
}
