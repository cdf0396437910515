package main

import (
	"fmt"
	"regexp"
	"strings"
)

// versionPattern is semantic versioning as Go has it: https://go.dev/ref/mod#versions.
var versionPattern = regexp.MustCompile(`^v(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)(-[0-9A-Za-z.-]+)?$`)

// checkChangelog fails unless the entry of a version, "## v1.2.3 - 2006-01-02", is the newest, apart from what is not released,
// and says something; and unless nothing is left under "Unreleased".
func checkChangelog(changelog, version string) error {
	if !versionPattern.MatchString(version) {
		return fmt.Errorf("%q is no version; accepted are those like v0.1.0 or v1.2.3-rc.1", version)
	}
	entries := regexp.MustCompile(`(?m)^## `).Split(changelog, -1)[1:]
	for i, entry := range entries {
		title, text, _ := strings.Cut(entry, "\n")
		said := strings.Contains(text, "\n- ")
		name, date, _ := strings.Cut(title, " - ")
		switch {
		case i == 0 && title == "Unreleased":
			if said {
				return fmt.Errorf("what is under %q belongs to %s", title, version)
			}
		case name != version:
			return fmt.Errorf("the newest entry of the changelog is %q, not %s", title, version)
		case !regexp.MustCompile(`^\d{4}-\d{2}-\d{2}$`).MatchString(date):
			return fmt.Errorf("the entry of %s has no date; accepted is \"## %[1]s - 2006-01-02\"", version)
		case !said:
			return fmt.Errorf("the entry of %s says nothing", version)
		default:
			return nil
		}
	}
	return fmt.Errorf("the changelog has no entry for %s", version)
}
