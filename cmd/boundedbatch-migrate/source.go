package main

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// source is a configuration as text, and where its lines begin. Offsets are in bytes. A node
// knows where it begins but not where it ends, which is found in the text; whatever is not
// where it should be is an error, never a guess.
type source struct {
	name  string
	text  string
	lines []int // without a byte order mark, which is in no line
}

const byteOrderMark = "\ufeff"

func newSource(name, text string) *source {
	s := &source{name: name, text: text, lines: []int{0}}
	if strings.HasPrefix(text, byteOrderMark) {
		s.lines[0] = len(byteOrderMark)
	}
	for i := s.lines[0]; i < len(text); {
		n := breakAt(text[i:])
		i += max(n, 1)
		if n > 0 {
			s.lines = append(s.lines, i)
		}
	}
	return s
}

// breakAt returns the length of the line break that text begins with, or 0. These are the
// breaks that the parser counts.
func breakAt(text string) int {
	for _, b := range []string{"\r\n", "\n", "\r", "\u0085", "\u2028", "\u2029"} {
		if strings.HasPrefix(text, b) {
			return len(b)
		}
	}
	return 0
}

// positionError is about one place of a configuration.
type positionError struct {
	name         string
	line, column int
	text         string
}

func (e *positionError) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s", e.name, e.line, e.column, e.text)
}

func (s *source) errorAt(n *yaml.Node, format string, args ...any) error {
	return &positionError{s.name, max(1, n.Line), max(1, n.Column), fmt.Sprintf(format, args...)}
}

func (s *source) misplaced(n *yaml.Node) error {
	return s.errorAt(n, "this is written in a way that cannot be rewritten in place; write it in a simpler way first")
}

// start returns where the content of a node begins, behind its anchor and tag.
func (s *source) start(n *yaml.Node) (int, error) {
	if n.Line < 1 || n.Line > len(s.lines) {
		return 0, s.misplaced(n)
	}
	at := s.lines[n.Line-1]
	for range n.Column - 1 {
		if at >= len(s.text) {
			return 0, s.misplaced(n)
		}
		_, width := utf8.DecodeRuneInString(s.text[at:])
		at += width
	}
	if n.Kind == yaml.AliasNode {
		return at, nil
	}
	for at < len(s.text) && (s.text[at] == '&' || s.text[at] == '!') {
		for at < len(s.text) && !isBlank(s.text[at:]) {
			at++
		}
		at = s.skip(at, "")
	}
	return at, nil
}

func isBlank(text string) bool {
	return text == "" || text[0] == ' ' || text[0] == '\t' || breakAt(text) > 0
}

// skip goes on behind spaces, line breaks, comments and the given marks.
func (s *source) skip(at int, marks string) int {
	for at < len(s.text) {
		switch c := s.text[at]; {
		case c == ' ' || c == '\t' || strings.IndexByte(marks, c) >= 0:
			at++
		case breakAt(s.text[at:]) > 0:
			at += breakAt(s.text[at:])
		case c == '#':
			at = s.lineEnd(at)
		default:
			return at
		}
	}
	return at
}

// end returns where a node ends: behind its last character, before what follows in the line.
func (s *source) end(n *yaml.Node) (int, error) {
	at, err := s.start(n)
	if err != nil {
		return 0, err
	}
	rest := s.text[at:]
	switch {
	case n.Kind == yaml.AliasNode:
		if strings.HasPrefix(rest, "*"+n.Value) {
			return at + 1 + len(n.Value), nil
		}
	case n.Kind == yaml.ScalarNode && n.Style&yaml.DoubleQuotedStyle != 0 && strings.HasPrefix(rest, `"`):
		for i := 1; i < len(rest); i++ {
			switch rest[i] {
			case '\\':
				i++
			case '"':
				return at + i + 1, nil
			}
		}
	case n.Kind == yaml.ScalarNode && n.Style&yaml.SingleQuotedStyle != 0 && strings.HasPrefix(rest, "'"):
		for i := 1; i < len(rest); i++ {
			if rest[i] != '\'' {
				continue
			}
			if i+1 == len(rest) || rest[i+1] != '\'' {
				return at + i + 1, nil
			}
			i++
		}
	case n.Kind == yaml.ScalarNode && n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) == 0:
		if strings.HasPrefix(rest, n.Value) && !strings.ContainsAny(n.Value, "\r\n") {
			return at + len(n.Value), nil
		}
	case n.Kind == yaml.MappingNode && n.Style&yaml.FlowStyle != 0:
		return s.endOfFlow(n, at, '{', '}')
	case n.Kind == yaml.SequenceNode && n.Style&yaml.FlowStyle != 0:
		return s.endOfFlow(n, at, '[', ']')
	case n.Kind == yaml.MappingNode, n.Kind == yaml.SequenceNode:
		// The last child may be an entry of a sequence without text, which ends behind its dash.
		if len(n.Content) > 0 {
			return s.end(n.Content[len(n.Content)-1])
		}
	}
	return 0, s.misplaced(n)
}

func (s *source) endOfFlow(n *yaml.Node, at int, opening, closing byte) (int, error) {
	if at >= len(s.text) || s.text[at] != opening {
		return 0, s.misplaced(n)
	}
	at++
	if len(n.Content) > 0 {
		end, err := s.end(n.Content[len(n.Content)-1])
		if err != nil {
			return 0, err
		}
		at = max(at, end)
	}
	at = s.skip(at, ",:?")
	if at >= len(s.text) || s.text[at] != closing {
		return 0, s.misplaced(n)
	}
	return at + 1, nil
}

// line returns the number of the line, from 0, that an offset is in.
func (s *source) line(at int) int {
	i, found := slices.BinarySearch(s.lines, at)
	if !found {
		i--
	}
	return max(i, 0)
}

// lineEnd returns where the line that an offset is in ends, before its break.
func (s *source) lineEnd(at int) int {
	for at < len(s.text) && breakAt(s.text[at:]) == 0 {
		at++
	}
	return at
}

// next returns where the line after a given one begins, or the end of the text.
func (s *source) next(line int) int {
	if line+1 < len(s.lines) {
		return s.lines[line+1]
	}
	return len(s.text)
}

// newline is the break of a line, or that of the first one where the last has none.
func (s *source) newline(line int) string {
	for _, l := range []int{line, 0} {
		end := s.lineEnd(s.lines[l])
		if n := breakAt(s.text[end:]); n > 0 {
			return s.text[end : end+n]
		}
	}
	return "\n"
}

// indent returns how many spaces a line begins with.
func (s *source) indent(line int) int {
	rest := s.text[s.lines[line]:]
	return len(rest) - len(strings.TrimLeft(rest, " "))
}

// rest is what a line has from an offset on, without its break.
func (s *source) rest(at int) string { return s.text[at:s.lineEnd(at)] }

// ownLine tells whether only spaces are before an offset in its line.
func (s *source) ownLine(at int) bool {
	line := s.line(at)
	return s.lines[line]+s.indent(line) == at
}

// edit replaces the bytes from start to end.
type edit struct {
	start, end int
	text       string
}

// edits are in no order; those at one place stay in theirs.
type edits []edit

func (es *edits) replace(start, end int, text string) { *es = append(*es, edit{start, end, text}) }
func (es *edits) insert(at int, text string)          { es.replace(at, at, text) }

// sorted brings edits in the order of the text. Insertions come before a replacement that
// begins at the same place.
func (es edits) sorted() edits {
	sorted := slices.Clone(es)
	slices.SortStableFunc(sorted, func(a, b edit) int {
		if a.start != b.start {
			return a.start - b.start
		}
		return min(a.end-a.start, 1) - min(b.end-b.start, 1)
	})
	return sorted
}

// apply returns the text with all edits made. They must not overlap.
func (es edits) apply(text string) (string, error) {
	var b strings.Builder
	at := 0
	for _, e := range es.sorted() {
		if e.start < at {
			return "", fmt.Errorf("two changes at one place, offset %d", e.start)
		}
		b.WriteString(text[at:e.start])
		b.WriteString(e.text)
		at = e.end
	}
	b.WriteString(text[at:])
	return b.String(), nil
}
