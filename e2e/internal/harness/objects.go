package harness

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/google/pprof/profile"
)

// EveryAllocation is a variable of a collector's environment that makes it remember where each
// object was allocated, not only samples: its heap profile is complete. It costs CPU.
const EveryAllocation = "GODEBUG=memprofilerate=1"

// Objects is what a collector has on its heap after a garbage collection. Unlike LiveHeap it
// has nothing in it that was allocated since.
type Objects struct {
	Bytes int
	// Timers is the number of timers and tickers, whether they are armed or not, also of those that
	// are part of something else, such as a context with a deadline.
	Timers int
}

// Objects asks a collector that was started with Profile and EveryAllocation.
func (c *Collector) Objects(ctx context.Context) (o Objects, err error) {
	text, err := c.profile(ctx, "heap?gc=1")
	if err != nil {
		return o, err
	}
	heap, err := profile.ParseData(text)
	if err != nil {
		return o, err
	}
	return objectsIn(heap)
}

// objectsIn counts what is in use in a heap profile. Every timer is allocated by time.newTimer.
func objectsIn(heap *profile.Profile) (o Objects, err error) {
	index := func(name string) int {
		return slices.IndexFunc(heap.SampleType, func(v *profile.ValueType) bool { return v.Type == name })
	}
	objects, space := index("inuse_objects"), index("inuse_space")
	if objects < 0 || space < 0 || heap.Period != 1 {
		return o, fmt.Errorf("not a complete heap profile: one object in %d bytes is in it", heap.Period)
	}
	for _, s := range heap.Sample {
		o.Bytes += int(s.Value[space])
		if slices.ContainsFunc(s.Location, isNewTimer) {
			o.Timers += int(s.Value[objects])
		}
	}
	return o, nil
}

func isNewTimer(at *profile.Location) bool {
	return slices.ContainsFunc(at.Line, func(l profile.Line) bool { return l.Function.Name == "time.newTimer" })
}

// Goroutines returns how many goroutines a collector has that was started with Profile.
func (c *Collector) Goroutines(ctx context.Context) (count int, err error) {
	text, err := c.profile(ctx, "goroutine?debug=1")
	if err != nil {
		return 0, err
	}
	_, err = fmt.Sscanf(string(text), "goroutine profile: total %d", &count)
	return count, err
}

// GoroutinesIn returns how many of them have a text in their stack, such as the path of a package.
func (c *Collector) GoroutinesIn(ctx context.Context, text string) (count int, err error) {
	stacks, err := c.profile(ctx, "goroutine?debug=2") // as text, each with its stack
	if err != nil {
		return 0, err
	}
	for stack := range strings.SplitSeq(strings.TrimSpace(string(stacks)), "\n\n") {
		if strings.Contains(stack, text) {
			count++
		}
	}
	return count, nil
}
