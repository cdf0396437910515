package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var hunkHeader = regexp.MustCompile(`^@@ -(\d+),(\d+) \+(\d+),(\d+) @@\n$`)

// patched applies a unified diff, strictly: every line that it names must be where it says.
func patched(t *testing.T, text, diff string) string {
	t.Helper()
	if diff == "" {
		return text
	}
	old := strings.SplitAfter(text, "\n")
	lines := strings.SplitAfter(diff, "\n")
	require.True(t, strings.HasPrefix(lines[0], "--- a/") && strings.HasPrefix(lines[1], "+++ b/"), diff)
	lines = lines[2 : len(lines)-1]
	var out []string
	at, oldLeft, newLeft := 0, 0, 0
	for i, line := range lines {
		if header := hunkHeader.FindStringSubmatch(line); header != nil && oldLeft == 0 && newLeft == 0 {
			first := number(t, header[1])
			oldLeft, newLeft = number(t, header[2]), number(t, header[4])
			if oldLeft > 0 {
				first--
			}
			out = append(out, old[at:first]...)
			at = first
			expected := number(t, header[3])
			if newLeft > 0 {
				expected--
			}
			require.Len(t, out, expected, "a hunk begins at another line of the new text")
			continue
		}
		if strings.HasPrefix(line, `\`) {
			continue
		}
		content := line[1:]
		if i+1 < len(lines) && strings.HasPrefix(lines[i+1], `\`) {
			content = strings.TrimSuffix(content, "\n")
		}
		switch line[0] {
		case ' ', '-':
			require.Equal(t, old[at], content, "line %d", at+1)
			at++
			oldLeft--
			if line[0] == ' ' {
				out = append(out, content)
				newLeft--
			}
		case '+':
			out = append(out, content)
			newLeft--
		default:
			require.Fail(t, "no line of a diff", line)
		}
	}
	require.Zero(t, oldLeft)
	require.Zero(t, newLeft)
	return strings.Join(append(out, old[at:]...), "")
}

func number(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	require.NoError(t, err)
	return n
}

func TestDiffsAreThoseOfDiff(t *testing.T) {
	text := "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n13\n14\n15\n16\n17\n18\n19\n20"
	at := func(line string) int { return strings.Index("\n"+text, "\n"+line) }
	for name, tt := range map[string]struct {
		es   edits
		want string
	}{
		"nothing": {nil, ""},
		"no change after all": {
			edits{{at("5"), at("5") + 1, "5"}}, "",
		},
		"a line, and one that is in reach": {
			edits{{at("5"), at("5") + 1, "five"}, {at("12"), at("12"), "x\n"}},
			"--- a/f\n+++ b/f\n@@ -2,13 +2,14 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n 9\n 10\n 11\n+x\n 12\n 13\n 14\n",
		},
		"two that are not": {
			edits{{at("5"), at("6"), ""}, {at("13"), at("13") + 2, "x"}},
			"--- a/f\n+++ b/f\n@@ -2,7 +2,6 @@\n 2\n 3\n 4\n-5\n 6\n 7\n 8\n@@ -10,7 +9,7 @@\n 10\n 11\n 12\n-13\n+x\n 14\n 15\n 16\n",
		},
		"the first and the last": {
			edits{{0, 0, "0"}, {len(text), len(text), "\n21"}},
			"--- a/f\n+++ b/f\n@@ -1,4 +1,4 @@\n-1\n+01\n 2\n 3\n 4\n@@ -17,4 +17,5 @@\n 17\n 18\n 19\n-20\n" +
				"\\ No newline at end of file\n+20\n+21\n\\ No newline at end of file\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			diff := unifiedDiff("/f", text, tt.es)
			assert.Equal(t, tt.want, diff)
			result, err := tt.es.apply(text)
			require.NoError(t, err)
			assert.Equal(t, result, patched(t, text, diff))
		})
	}
}

// TestGitAppliesTheDiff: what is printed is for git apply and patch.
func TestGitAppliesTheDiff(t *testing.T) {
	inputs, err := filepath.Glob("testdata/*.in.yaml")
	require.NoError(t, err)
	for _, path := range inputs {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		m, result, err := migrate("f.yaml", string(text), atOf(strings.TrimSuffix(filepath.Base(path), ".in.yaml")))
		require.NoError(t, err)
		diff := unifiedDiff("f.yaml", string(text), m.edits)
		if diff == "" {
			continue
		}
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "f.yaml"), text, 0o600))
		cmd := exec.CommandContext(t.Context(), "git", "apply", "-")
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GIT_CEILING_DIRECTORIES="+filepath.Dir(dir))
		cmd.Stdin = strings.NewReader(diff)
		output, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s: %s", path, output)
		applied, err := os.ReadFile(filepath.Join(dir, "f.yaml"))
		require.NoError(t, err)
		assert.Equal(t, result, string(applied), path)
	}
}
