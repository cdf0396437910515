package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/licensecheck"
)

// accepted are the licences, by their SPDX identifiers, under which a dependency may be. Who distributes a Collector has to
// pass on notices and, of MPL-2.0, the sources of files that they change; nothing else.
var accepted = []string{"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MPL-2.0"}

// leastCovered is the least part of a file, in percent, that must be text of licences for these to be all that it says.
const leastCovered = 75

// module is one that a package of the component, or of its dependencies, comes from.
type module struct {
	Path, Version, Dir string
	Main               bool
	Replace            *module
}

// licencesPage lists them with their licences. It fails if one has none, or one that is not accepted.
func licencesPage() (string, error) {
	all, err := modules()
	if err != nil {
		return "", err
	}
	var page strings.Builder
	page.WriteString("# Licences of dependencies\n\n" +
		"What the component is built from, tests apart. Written by `make licences`, checked by `make release-check`.\n\n" +
		"| module | version | licence |\n|---|---|---|\n")
	var errs []error
	for _, path := range slices.Sorted(maps.Keys(all)) {
		m := all[path]
		found, err := licencesIn(m.Dir)
		if err == nil {
			err = judge(found)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s %s: %w", m.Path, m.Version, err))
			continue
		}
		fmt.Fprintf(&page, "| `%s` | %s | %s |\n", m.Path, m.Version, strings.Join(found, ", "))
	}
	return page.String(), errors.Join(errs...)
}

// modules are those that the processor and the extension are built from, by path, without the main one.
func modules() (map[string]module, error) {
	list := exec.CommandContext(context.Background(), "go", "list", "-deps", "-json=Module", ".", "./boundedbatchzextension")
	list.Stderr = os.Stderr
	out, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	all := make(map[string]module)
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct{ Module *module }
		switch err := decoder.Decode(&p); {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return nil, fmt.Errorf("go list: %w", err)
		}
		if m := p.Module; m != nil && !m.Main {
			if m.Replace != nil {
				m.Dir = m.Replace.Dir
			}
			all[m.Path] = *m
		}
	}
}

// licencesIn are the licences that the files in a directory are the text of.
func licencesIn(dir string) (found []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		upper := strings.ToUpper(entry.Name())
		if entry.IsDir() || !strings.HasPrefix(upper, "LICENSE") && !strings.HasPrefix(upper, "LICENCE") && !strings.HasPrefix(upper, "COPYING") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			return nil, err
		}
		coverage := licensecheck.Scan(text)
		if coverage.Percent < leastCovered {
			return nil, fmt.Errorf("%s: %.0f %% of it is a licence that is known; read it", entry.Name(), coverage.Percent)
		}
		for _, match := range coverage.Match {
			found = append(found, match.ID)
		}
	}
	slices.Sort(found)
	return slices.Compact(found), nil
}

func judge(found []string) error {
	if len(found) == 0 {
		return errors.New("no licence; look for one")
	}
	for _, id := range found {
		if !slices.Contains(accepted, id) {
			return fmt.Errorf("its licence is %s; accepted are %s", id, strings.Join(accepted, ", "))
		}
	}
	return nil
}
