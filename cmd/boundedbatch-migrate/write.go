package main

import (
	"strings"

	"go.yaml.in/yaml/v3"
)

// remark begins every comment that this command writes.
const remark = "# boundedbatch-migrate: "

// writer changes the text of one processor's settings.
type writer struct {
	m        *migration
	settings []setting
}

// of returns the setting that an entry is, nil if it stands for others.
func (w *writer) of(key *yaml.Node) *setting {
	for i := range w.settings {
		if s := &w.settings[i]; s.key == key && s.through == nil {
			return s
		}
	}
	return nil
}

// item is a part of what a mapping becomes: a key with its value, or a comment.
type item struct {
	text    string
	comment bool
	behind  bool // a comment in the line of what is before it
}

// lines puts items into lines, with commas behind keys in flow style.
func lines(items []item, comma string) (lines []string) {
	for _, it := range items {
		switch {
		case it.behind && len(lines) > 0:
			lines[len(lines)-1] += " " + it.text
		case it.comment:
			lines = append(lines, it.text)
		default:
			lines = append(lines, it.text+comma)
		}
	}
	return lines
}

// quoted is a new key in the quotes of another one, so that JSON stays JSON.
func quoted(like *yaml.Node, key string) string {
	if like.Style&yaml.DoubleQuotedStyle != 0 {
		return `"` + key + `"`
	}
	return key
}

// added says why there is a new key.
func (p pair) added() string { return remark + p.key + " is added: " + p.reason }

// itemsOf is a setting with its new text, and what is added behind it.
func itemsOf(s *setting, text string) (items []item) {
	if s.to != "" {
		items = append(items, item{text: text})
	} else {
		items = append(items, item{text: remark + s.path + " is left out: " + s.reason, comment: true})
		for _, line := range splitLines(text) {
			if line = strings.TrimSpace(line); line != "" {
				items = append(items, item{text: "# " + line, comment: true})
			}
		}
	}
	for _, p := range s.also {
		items = append(items, item{text: p.added(), comment: true}, item{text: quoted(s.key, p.key) + ": " + p.value})
	}
	return items
}

// writtenOut lists what came through an entry, in flow style. What is left out is only told, as it stays where it is.
func (w *writer) writtenOut(through *yaml.Node) (items []item, err error) {
	for i := range w.settings {
		s := &w.settings[i]
		if through != nil && s.through != through {
			continue
		}
		if s.to != "" {
			value, err := inFlow(s)
			if err != nil {
				return nil, w.m.src.errorAt(s.value, "cannot be written out: %s", err)
			}
			items = append(items, item{text: s.to + ": " + value})
		}
		for _, p := range s.also {
			items = append(items, item{text: p.key + ": " + p.value})
		}
	}
	return items, nil
}

// inFlow is a value in one line, without anchors.
func inFlow(s *setting) (string, error) {
	if s.instead != "" {
		return s.instead, nil
	}
	text, err := yaml.Marshal(bare(s.value))
	return strings.TrimSpace(string(text)), err
}

// bare copies a node without what would not fit into one line.
func bare(n *yaml.Node) *yaml.Node {
	n = resolve(n)
	c := &yaml.Node{Kind: n.Kind, Tag: n.Tag, Value: n.Value, Style: n.Style &^ (yaml.LiteralStyle | yaml.FoldedStyle)}
	if n.Kind != yaml.ScalarNode {
		c.Style |= yaml.FlowStyle
	}
	if strings.ContainsAny(n.Value, "\r\n") {
		c.Style = yaml.DoubleQuotedStyle
	}
	for _, child := range n.Content {
		c.Content = append(c.Content, bare(child))
	}
	return c
}

// writeOut puts settings in the place of an alias.
func (w *writer) writeOut(alias *yaml.Node) error {
	items, err := w.writtenOut(nil)
	if err != nil {
		return err
	}
	start, err := w.m.src.start(alias)
	if err != nil {
		return err
	}
	end, err := w.m.src.end(alias)
	if err != nil {
		return err
	}
	w.m.edits.replace(start, end, "{"+join(items)+"}")
	return nil
}

// join puts keys and values into one line.
func join(items []item) string {
	var texts []string
	for _, it := range items {
		if !it.comment {
			texts = append(texts, it.text)
		}
	}
	return strings.Join(texts, ", ")
}

// block changes settings in block style, line by line. indent is that of the processor's keys, less than 0 for
// the processor's own mapping, which decides it. Sections lose their first line, and theirs move to the left.
func (w *writer) block(mapping *yaml.Node, indent int) error {
	src := w.m.src
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		key, value := mapping.Content[i], mapping.Content[i+1]
		start, err := src.start(key)
		if err != nil {
			return err
		}
		if key.Kind != yaml.ScalarNode || !src.ownLine(start) {
			return src.misplaced(key)
		}
		here := start - src.lines[src.line(start)]
		if indent < 0 {
			indent = here
		}
		s := w.of(key)
		switch {
		case s == nil && !isMerge(key) && value.Kind == yaml.MappingNode && value.Style&yaml.FlowStyle == 0:
			err = w.section(key, value, start, here)
			if err == nil {
				err = w.block(value, indent)
			}
		case s == nil && !isMerge(key) && value.Kind == yaml.MappingNode:
			err = w.flowSection(value, start, indent)
		case s == nil:
			err = w.expand(key, value, start, here, indent)
		case s.to == "":
			err = w.leaveOut(s, start, here, indent)
		default:
			err = w.keep(s)
		}
		if err != nil {
			return err
		}
		if s != nil {
			var added []string
			for _, p := range s.also {
				added = append(added, p.added(), p.key+": "+p.value)
			}
			if err := w.m.insertLines(value, added, indent); err != nil {
				return err
			}
		}
	}
	return nil
}

// keep gives a setting its new key, and value if it has one.
func (w *writer) keep(s *setting) error {
	if s.key.Value != s.to {
		if err := w.m.rewrite(s.key, s.to); err != nil {
			return err
		}
	}
	if s.instead != "" {
		return w.m.replaceValue(s)
	}
	return nil
}

// lastLine returns the line in which an entry ends.
func (m *migration) lastLine(start int, value *yaml.Node) (int, error) {
	end, err := m.src.end(value)
	if err != nil {
		return 0, err
	}
	return m.src.line(max(start, end)), nil
}

// leaveOut makes a comment of a setting, with the reason above.
func (w *writer) leaveOut(s *setting, start, here, indent int) error {
	last, err := w.m.lastLine(start, s.value)
	if err != nil {
		return err
	}
	w.comment(start, last, here, indent, s.path+" is left out: "+s.reason)
	return nil
}

// comment makes comments of lines.
func (w *writer) comment(start, last, here, indent int, reason string) {
	m, first := w.m, w.m.src.line(start)
	m.edits.insert(m.src.lines[first], strings.Repeat(" ", indent)+remark+reason+m.src.newline(first))
	for line := first; line <= last; line++ {
		begin := m.src.lines[line]
		if strings.TrimSpace(m.src.rest(begin)) != "" {
			m.edits.insert(begin+min(here, m.src.indent(line)), "# ")
		}
	}
}

// expand writes out what a merge or an alias stands for, behind it.
func (w *writer) expand(key, value *yaml.Node, start, here, indent int) error {
	items, err := w.writtenOut(key)
	if err != nil {
		return err
	}
	last, err := w.m.lastLine(start, value)
	if err != nil {
		return err
	}
	w.comment(start, last, here, indent, "written out below, since the anchor has keys of queuebatch")
	return w.m.insertLines(value, lines(items, ""), indent)
}

// section takes away the line in which a section begins, but for its comment, and moves what is in it.
func (w *writer) section(key, value *yaml.Node, start, here int) error {
	src := w.m.src
	end, err := src.end(key)
	if err != nil {
		return err
	}
	inner, err := src.start(value.Content[0])
	if err != nil {
		return err
	}
	first := src.line(start)
	if src.line(inner) == first {
		return src.misplaced(value)
	}
	// Colon, anchor and tag.
	rest := strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(src.rest(end)), ":"))
	for rest != "" && (rest[0] == '&' || rest[0] == '!') {
		_, rest, _ = strings.Cut(rest, " ")
		rest = strings.TrimSpace(rest)
	}
	switch {
	case rest == "":
		w.m.edits.replace(src.lines[first], src.next(first), "")
		w.m.gone[first] = true
	case rest[0] == '#':
		w.m.edits.replace(start, src.lineEnd(start)-len(src.rest(end))+strings.Index(src.rest(end), rest), "")
	default:
		return src.misplaced(value)
	}
	last, err := w.m.lastLine(inner, value)
	if err != nil {
		return err
	}
	innerIndent := inner - src.lines[src.line(inner)]
	// Comments behind the last entry that are indented like it.
	for last+1 < len(src.lines) && src.indent(last+1) >= innerIndent && strings.HasPrefix(strings.TrimSpace(src.rest(src.lines[last+1])), "#") {
		last++
	}
	for line := first + 1; line <= last; line++ {
		w.m.dedents[line] += innerIndent - here
	}
	return nil
}

// flowSection puts a section in flow style, with its key, into lines of their own.
func (w *writer) flowSection(value *yaml.Node, start, indent int) error {
	src := w.m.src
	items, err := w.items(value)
	if err != nil {
		return err
	}
	end, err := src.end(value)
	if err != nil {
		return err
	}
	first := src.line(start)
	w.m.edits.replace(start, end, strings.Join(lines(items, ""), src.newline(first)+strings.Repeat(" ", indent)))
	for line := first + 1; line <= src.line(end); line++ {
		w.m.gone[line] = true
	}
	return nil
}

// insertLines adds lines behind the entry that a value ends.
func (m *migration) insertLines(value *yaml.Node, lines []string, indent int) error {
	if len(lines) == 0 {
		return nil
	}
	end, err := m.src.end(value)
	if err != nil {
		return err
	}
	line := m.src.line(end)
	newline, next := m.src.newline(line), m.src.next(line)
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(strings.Repeat(" ", indent) + l + newline)
	}
	text := b.String()
	if m.src.lineEnd(end) == next { // no break behind the last line
		text = newline + strings.TrimSuffix(text, newline)
	}
	m.edits.insert(next, text)
	return nil
}

// insertBehind adds a key behind an entry, in the style of its mapping.
func (m *migration) insertBehind(e entry, p pair) error {
	if e.in.Style&yaml.FlowStyle != 0 {
		end, err := m.src.end(e.value)
		if err != nil {
			return err
		}
		m.edits.insert(end, ", "+quoted(e.key, p.key)+": "+p.value)
		return nil
	}
	start, err := m.src.start(e.key)
	if err != nil {
		return err
	}
	if !m.src.ownLine(start) {
		return m.src.misplaced(e.key)
	}
	indent := start - m.src.lines[m.src.line(start)]
	return m.insertLines(e.value, []string{p.added(), p.key + ": " + p.value}, indent)
}

// dedent moves lines to the left, all that moves them taken together.
func (m *migration) dedent() {
	for line, n := range m.dedents {
		begin := m.src.lines[line]
		if n = min(n, m.src.indent(line)); n > 0 && !m.gone[line] {
			m.edits.replace(begin, begin+n, "")
		}
	}
}

// flow changes settings in flow style: keys where they are if that is all, and otherwise the whole map.
func (w *writer) flow(mapping *yaml.Node) error {
	src := w.m.src
	simple := true
	for i := range w.settings {
		s := &w.settings[i]
		simple = simple && s.to != "" && s.through == nil && len(s.also) == 0 && !strings.Contains(s.path, "::")
	}
	if simple {
		for i := range w.settings {
			if err := w.keep(&w.settings[i]); err != nil {
				return err
			}
		}
		return nil
	}
	start, err := src.start(mapping)
	if err != nil {
		return err
	}
	end, err := src.end(mapping)
	if err != nil {
		return err
	}
	items, err := w.items(mapping)
	if err != nil {
		return err
	}
	text := src.text[start:end]
	if src.line(start) == src.line(end) {
		space := ""
		if strings.HasPrefix(text, "{ ") {
			space = " "
		}
		text = "{" + space + join(items) + space + "}"
		if join(items) == "" {
			text = "{}"
		}
		w.m.edits.replace(start, end, text)
		return nil
	}
	outer := src.indent(src.line(start))
	inner := outer + 2
	if first, err := src.start(mapping.Content[0]); err == nil && src.ownLine(first) {
		inner = first - src.lines[src.line(first)]
	}
	newline := src.newline(src.line(start))
	var b strings.Builder
	b.WriteString("{" + newline)
	for _, line := range lines(items, ",") {
		b.WriteString(strings.Repeat(" ", inner) + line + newline)
	}
	closing := end - 1
	if src.ownLine(closing) {
		outer = closing - src.lines[src.line(closing)]
	}
	b.WriteString(strings.Repeat(" ", outer) + "}")
	w.m.edits.replace(start, end, b.String())
	return nil
}

// items lists what a mapping in flow style becomes, comments in their places.
func (w *writer) items(mapping *yaml.Node) (items []item, err error) {
	src := w.m.src
	at, err := src.start(mapping)
	if err != nil {
		return nil, err
	}
	at++ // the brace
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		key, value := mapping.Content[i], mapping.Content[i+1]
		start, err := src.start(key)
		if err != nil {
			return nil, err
		}
		keyEnd, err := src.end(key)
		if err != nil {
			return nil, err
		}
		end, err := src.end(value)
		if err != nil {
			return nil, err
		}
		if start < at || keyEnd > max(end, keyEnd) {
			return nil, src.misplaced(key)
		}
		items = append(items, comments(src.text[at:start], i > 0)...)
		at = max(end, keyEnd)
		s := w.of(key)
		switch {
		case s == nil && !isMerge(key) && value.Kind == yaml.MappingNode:
			inner, err := w.items(value)
			if err != nil {
				return nil, err
			}
			items = append(items, comments(between(src, keyEnd, value), false)...)
			items = append(items, inner...)
		case s == nil:
			inner, err := w.writtenOut(key)
			if err != nil {
				return nil, err
			}
			items = append(items, inner...)
		default:
			text := src.text[start:at]
			if s.to != "" {
				text = quoted(s.key, s.to) + src.text[keyEnd:at]
				if s.instead != "" || strings.ContainsAny(text, "#\r\n") { // the latter cannot be joined with others
					value, err := inFlow(s)
					if err != nil {
						return nil, err
					}
					items = append(items, comments(between(src, keyEnd, s.value), false)...)
					text = quoted(s.key, s.to) + ": " + value
				}
			}
			items = append(items, itemsOf(s, text)...)
		}
	}
	end, err := src.end(mapping)
	if err != nil {
		return nil, err
	}
	return append(items, comments(src.text[at:end-1], len(mapping.Content) > 0)...), nil
}

// between is what is before a value, behind its key.
func between(src *source, keyEnd int, value *yaml.Node) string {
	start, err := src.start(value)
	if err != nil || start < keyEnd {
		return ""
	}
	return src.text[keyEnd:start]
}

// comments lists the comments in a text between entries. The first line of it may be that of an entry.
func comments(text string, behindEntry bool) (items []item) {
	for i, line := range splitLines(text) {
		if _, comment, found := strings.Cut(line, "#"); found {
			items = append(items, item{text: "#" + strings.TrimRight(comment, " \t"), comment: true, behind: behindEntry && i == 0})
		}
	}
	return items
}

func splitLines(text string) []string {
	return strings.Split(strings.ReplaceAll(text, "\r", "\n"), "\n")
}
