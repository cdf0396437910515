package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestChangelogHasAnEntryForTheVersion(t *testing.T) {
	const old = "\n## v0.1.0 - 2026-01-01\n\n- begun\n"
	for _, c := range []struct{ changelog, version, want string }{
		{"# C\n\n## v0.2.0 - 2026-02-03\n\n### Added\n\n- more\n" + old, "v0.2.0", ""},
		{"# C\n\n## Unreleased\n\n## v0.2.0 - 2026-02-03\n\n- more\n" + old, "v0.2.0", ""},
		{"# C\n\n## v1.0.0-rc.1 - 2026-02-03\n\n- more\n", "v1.0.0-rc.1", ""},
		{"# C\n\n## Unreleased\n\n- forgotten\n\n## v0.2.0 - 2026-02-03\n\n- more\n", "v0.2.0", `what is under "Unreleased" belongs to v0.2.0`},
		{"# C\n" + old, "v0.2.0", `the newest entry of the changelog is "v0.1.0 - 2026-01-01", not v0.2.0`},
		{"# C\n\n## v0.2.0\n\n- more\n", "v0.2.0", `the entry of v0.2.0 has no date; accepted is "## v0.2.0 - 2006-01-02"`},
		{"# C\n\n## v0.2.0 - 2026-02-03\n" + old, "v0.2.0", "the entry of v0.2.0 says nothing"},
		{"# C\n", "v0.2.0", "the changelog has no entry for v0.2.0"},
		{"# C\n", "0.2.0", `"0.2.0" is no version; accepted are those like v0.1.0 or v1.2.3-rc.1`},
	} {
		err := checkChangelog(c.changelog, c.version)
		if c.want == "" {
			require.NoError(t, err, c.changelog)
			continue
		}
		require.EqualError(t, err, c.want, c.changelog)
	}
}

func TestLicencesAreFoundByTheirText(t *testing.T) {
	own, err := licencesIn("../../..")
	require.NoError(t, err)
	assert.Equal(t, []string{"Apache-2.0"}, own)

	dir := t.TempDir()
	none, err := licencesIn(dir)
	require.NoError(t, err)
	assert.Empty(t, none)

	require.NoError(t, os.WriteFile(filepath.Join(dir, "LICENSE"), []byte("You may look at it, but not touch it.\n"), 0o600))
	_, err = licencesIn(dir)
	require.EqualError(t, err, "LICENSE: 0 % of it is a licence that is known; read it")
}

func TestLicencesAreJudged(t *testing.T) {
	require.NoError(t, judge([]string{"Apache-2.0", "MIT"}))
	require.ErrorContains(t, judge([]string{"AGPL-3.0", "MIT"}), "its licence is AGPL-3.0; accepted are Apache-2.0, ")
	require.EqualError(t, judge(nil), "no licence; look for one")
}
