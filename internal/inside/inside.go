// Package inside is how processors and the extensions that show what is in them find each other: a processor that starts
// looks through the extensions of its own Collector for a [Registry]. Nothing is global, so that several Collectors in one
// process, and one that is configured anew, have nothing to do with each other.
package inside

import (
	"context"

	"go.opentelemetry.io/collector/component"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
)

// Registry is an extension that shows what is in processors.
type Registry interface {
	// Register lets the extension look into a processor until unregister is called, which may be done twice.
	Register(s Source) (unregister func())
}

// Source is a processor for one signal. Several can have the same ID and signal, in different pipelines.
type Source struct {
	ID     component.ID
	Signal string
	// MaxExports is how many exports can be under way at once.
	MaxExports int
	// Snapshot tells what is in it. It can be called from many goroutines, also after unregister.
	Snapshot func(context.Context, batcher.Query) (batcher.Snapshot, error)
}

// Register registers a source with each extension of the host that is a Registry. There may be no host, where a program
// makes a processor by itself.
func Register(host component.Host, s Source) (unregister func()) {
	if host == nil {
		return func() {}
	}
	var all []func()
	for _, extension := range host.GetExtensions() {
		if r, ok := extension.(Registry); ok {
			all = append(all, r.Register(s))
		}
	}
	return func() {
		for _, unregister := range all {
			unregister()
		}
	}
}
