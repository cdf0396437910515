package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWatcherFindsAMarkerCutByWrites(t *testing.T) {
	var copied strings.Builder
	w := newWatcher(&copied, readyLine)
	pieces := []string{strings.Repeat("x", 2*keep), "Everything", " is re", "ady. ", "Everything is ready"}
	for i, piece := range pieces {
		if _, err := w.Write([]byte(piece)); err != nil {
			t.Fatal(err)
		}
		select {
		case <-w.found:
			if i < 3 {
				t.Fatalf("found after %q", piece)
			}
		default:
			if i >= 3 {
				t.Fatalf("not found after %q", piece)
			}
		}
	}
	if copied.String() != strings.Join(pieces, "") {
		t.Error("the copy differs from what was written")
	}
	if len(w.tail()) > keep {
		t.Errorf("keeps %d bytes, more than %d", len(w.tail()), keep)
	}
}

// script writes a stand-in for the collector: `validate` succeeds, anything else runs body.
func script(t *testing.T, body string) options {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "collector")
	text := "#!/usr/bin/env bash\n[ \"$1\" = validate ] && exit 0\n" + body
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return options{collector: path, config: "unused.yaml", logs: dir}
}

func TestPortTakenMeanwhileIsPickedAgain(t *testing.T) {
	opts := script(t, `
		if [ ! -e "$0.tried" ]; then
			touch "$0.tried"
			echo "listen tcp 127.0.0.1:$OTLP_GRPC_PORT: bind: address already in use" >&2
			exit 1
		fi
		sleep 60 >/dev/null 2>&1 &
		trap 'kill %1; exit 0' TERM
		echo "Everything is ready." >&2
		wait`)
	col, err := startCollector(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	defer col.kill()
	if err := col.stop(); err != nil {
		t.Error(err)
	}
}

func TestCollectorThatDoesNotStartIsAnError(t *testing.T) {
	_, err := startCollector(t.Context(), script(t, `echo "cannot build pipelines" >&2; exit 1`))
	if err == nil || !strings.Contains(err.Error(), "exit status 1") || !strings.Contains(err.Error(), "cannot build pipelines") {
		t.Errorf("got %v", err)
	}
}

func TestUncleanStopIsAnError(t *testing.T) {
	col, err := startCollector(t.Context(), script(t, `
		sleep 60 >/dev/null 2>&1 &
		trap 'kill %1; echo "3 items not delivered" >&2; exit 1' TERM
		echo "Everything is ready." >&2
		wait`))
	if err != nil {
		t.Fatal(err)
	}
	defer col.kill()
	if err := col.stop(); err == nil || !strings.Contains(err.Error(), "3 items not delivered") {
		t.Errorf("got %v", err)
	}
}
