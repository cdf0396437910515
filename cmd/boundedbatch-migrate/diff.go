package main

import (
	"fmt"
	"strings"
)

// contextLines is how many lines around a change a diff shows, as everywhere.
const contextLines = 3

// change replaces the lines from first to before last, counted from 0.
type change struct {
	first, last int
	lines       []string
}

// unifiedDiff shows what edits do to a text, in the format of diff -u. The edits have been
// applied before, so they do not overlap.
func unifiedDiff(name, text string, es edits) string {
	old := strings.SplitAfter(text, "\n")
	if old[len(old)-1] == "" {
		old = old[:len(old)-1]
	}
	changes := changesOf(old, text, es.sorted())
	if len(changes) == 0 {
		return ""
	}
	var b strings.Builder
	path := strings.TrimPrefix(name, "/")
	fmt.Fprintf(&b, "--- a/%s\n+++ b/%s\n", path, path)
	write := func(sign, line string) {
		b.WriteString(sign + line)
		if !strings.HasSuffix(line, "\n") {
			b.WriteString("\n\\ No newline at end of file\n")
		}
	}
	shift := 0
	for len(changes) > 0 {
		n := 1
		for n < len(changes) && changes[n].first-changes[n-1].last <= 2*contextLines {
			n++
		}
		hunk := changes[:n]
		changes = changes[n:]
		from := max(0, hunk[0].first-contextLines)
		to := min(len(old), hunk[n-1].last+contextLines)
		grown := 0
		for _, c := range hunk {
			grown += len(c.lines) - (c.last - c.first)
		}
		fmt.Fprintf(&b, "@@ -%s +%s @@\n", lineRange(from, to-from), lineRange(from+shift, to-from+grown))
		shift += grown
		at := from
		for _, c := range hunk {
			for _, line := range old[at:c.first] {
				write(" ", line)
			}
			for _, line := range old[c.first:c.last] {
				write("-", line)
			}
			for _, line := range c.lines {
				write("+", line)
			}
			at = c.last
		}
		for _, line := range old[at:to] {
			write(" ", line)
		}
	}
	return b.String()
}

// lineRange is the place of a hunk: first line from 1 and number of lines; an empty one is behind
// the line that it names.
func lineRange(first, n int) string {
	if n == 0 {
		return fmt.Sprintf("%d,0", first)
	}
	return fmt.Sprintf("%d,%d", first+1, n)
}

// changesOf gathers edits by the lines that they touch.
func changesOf(old []string, text string, sorted edits) (changes []change) {
	starts := make([]int, 0, len(old)+1) // of lines, and the end
	at := 0
	for _, line := range old {
		starts = append(starts, at)
		at += len(line)
	}
	starts = append(starts, at)

	// What is added to a last line without a break belongs to it.
	within := func(at, line int) bool {
		return at < starts[line+1] || at == len(text) && line+1 == len(old) && !strings.HasSuffix(text, "\n")
	}
	line := 0
	for i := 0; i < len(sorted); {
		for line < len(old) && !within(sorted[i].start, line) {
			line++
		}
		first, last := line, min(line+1, len(old))
		first = min(first, last)
		n := i
		for n < len(sorted) && (n == i || last > first && within(sorted[n].start, last-1)) {
			for starts[last] < sorted[n].end {
				last++
			}
			n++
		}
		moved := make(edits, 0, n-i)
		for _, e := range sorted[i:n] {
			moved.replace(e.start-starts[first], e.end-starts[first], e.text)
		}
		// Cannot fail: these edits have been applied before.
		replaced, _ := moved.apply(text[starts[first]:starts[last]])
		lines := strings.SplitAfter(replaced, "\n")
		if lines[len(lines)-1] == "" {
			lines = lines[:len(lines)-1]
		}
		c := change{first, last, lines}
		for len(c.lines) > 0 && c.first < c.last && c.lines[0] == old[c.first] {
			c.first++
			c.lines = c.lines[1:]
		}
		for len(c.lines) > 0 && c.first < c.last && c.lines[len(c.lines)-1] == old[c.last-1] {
			c.last--
			c.lines = c.lines[:len(c.lines)-1]
		}
		switch n := len(changes); {
		case c.first == c.last && len(c.lines) == 0:
		case n > 0 && changes[n-1].last == c.first:
			changes[n-1].last = c.last
			changes[n-1].lines = append(changes[n-1].lines, c.lines...)
		default:
			changes = append(changes, c)
		}
		i = n
		line = max(line, last-1, 0)
	}
	return changes
}
