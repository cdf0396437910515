package main

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

const plotsDir = "plots"

// page writes the files of a report.
type page struct {
	report  report
	results *results
	files   map[string][]byte // by path below docs/
	notes   []string          // for whoever runs the program

	promised, kept int      // bars
	missed         []string // rows, with their group
	missedOf       []string // how many of each group
}

func (p *page) note(format string, args ...any) {
	p.notes = append(p.notes, fmt.Sprintf(format, args...))
}

func (p *page) write() error {
	var files []*file
	for _, e := range p.results.entries {
		files = appendNew(files, e.file)
	}
	for _, f := range files {
		if commit := f.value("commit"); strings.HasSuffix(commit, "-dirty") || commit == "unknown" {
			p.note("%s: commit %s is not in the repository", f.name, commit)
		}
	}
	var tables, figures bytes.Buffer
	for i := range p.report.groups {
		if err := p.group(&tables, &p.report.groups[i]); err != nil {
			return err
		}
	}
	for _, beginning := range slices.Sorted(maps.Keys(p.report.reasons)) {
		if !slices.ContainsFunc(p.missed, func(name string) bool { return strings.HasPrefix(name, beginning) }) {
			p.note("a reason is given, but it is not missed: %s", beginning)
		}
	}
	for i := range p.report.plots {
		if err := p.figure(&figures, &p.report.plots[i]); err != nil {
			return err
		}
	}
	var out bytes.Buffer
	out.WriteString(p.report.paper.introduction)
	fmt.Fprintf(&out, "%s\n", p.summary())
	out.Write(tables.Bytes())
	if figures.Len() > 0 {
		out.WriteString(p.report.paper.plots)
		out.Write(figures.Bytes())
	}
	p.files[p.report.paper.file] = out.Bytes()
	return nil
}

func (p *page) summary() string {
	switch {
	case p.promised == 0:
		return "Nothing that has a bar is in the results."
	case len(p.missed) == 0:
		return fmt.Sprintf("All %d bars are met.", p.promised)
	default:
		return wrap(fmt.Sprintf("%d of %d bars are met. Missed, each with the reason below its table: %s.", p.kept, p.promised, strings.Join(p.missedOf, "; ")))
	}
}

// group writes a table, if anything of it is in the results.
func (p *page) group(out *bytes.Buffer, g *group) error {
	before, promised, kept := len(p.notes), p.promised, p.kept
	var rows bytes.Buffer
	var files []*file
	var reasons causes
	for i := range g.rows {
		lines, err := p.lines(g, &g.rows[i])
		if err != nil {
			return fmt.Errorf("%s: %w", g.title, err)
		}
		for _, l := range lines {
			files = appendNew(files, l.from.file)
			met := "-"
			if l.row.bar.kind != noBar {
				p.promised++
				name := g.title + ": " + l.what
				if l.row.den != nil {
					name += ", against " + strings.Trim(l.against(), "`")
				}
				if l.row.bar.met(l.median) {
					p.kept++
					met = "yes"
				} else {
					met = "**missed**"
					p.missed = append(p.missed, name)
					reason := p.report.reason(name)
					if reason == "" {
						reason = "nothing is known about it yet"
						p.note("missed, and no reason is given: %s", name)
					}
					reasons.add(l.what, reason)
				}
			}
			fmt.Fprintf(&rows, "| %s | %s | %s | %s | %s | %s |\n", l.shown(), l.against(), l.value(), l.byThemselves(), l.row.bar, met)
		}
	}
	promised, kept = p.promised-promised, p.kept-kept
	if kept < promised {
		p.missedOf = append(p.missedOf, fmt.Sprintf("%s (%d of %d)", g.title, promised-kept, promised))
	}
	if rows.Len() == 0 {
		p.notes = p.notes[:before] // one for all rows
		p.note("left out: the table %q: nothing of it is in the results", g.title)
		return nil
	}
	fmt.Fprintf(out, "\n### %s\n\n%s\n\n", g.title, wrap(g.text))
	out.WriteString("| what | against | median (least to greatest) | medians by themselves | bar | met? |\n|---|---|---|---|---|---|\n")
	out.Write(rows.Bytes())
	if len(reasons.all) > 0 {
		fmt.Fprintf(out, "\n%s", reasons)
	}
	fmt.Fprintf(out, "\n%s", p.origin(g.command, files))
	return nil
}

// causes are the reasons for which bars of a table are missed, with what misses them.
type causes struct {
	all []string
	of  map[string][]string
}

func (c *causes) add(what, reason string) {
	if c.of == nil {
		c.of = make(map[string][]string)
	}
	c.all = appendNew(c.all, reason)
	c.of[reason] = appendNew(c.of[reason], what)
}

func (c causes) String() string {
	var out strings.Builder
	for _, reason := range c.all {
		fmt.Fprintf(&out, "%s\n", wrap(fmt.Sprintf("- Missed: %s: %s.", strings.Join(c.of[reason], "; "), reason)))
	}
	return out.String()
}

// line is one line of a table.
type line struct {
	*measured
	row   *row
	what  string
	which string // which of several the worst one is
}

// lines measures what a row says. What is not in the results is left out, with a note.
func (p *page) lines(g *group, r *row) (lines []line, err error) {
	cases, absent := r.of.cases(p.results), 0
	for _, of := range cases {
		m, err := p.results.measure(r.of.bench(), of, &r.num, r.den)
		if err != nil && (!r.sparse || !errors.Is(err, errMissing)) {
			return nil, err
		}
		if m == nil {
			absent++
			if !r.worst {
				p.note("left out of %q: %s: %s is not in the results", g.title, fill(r.what, of), describe(r.of.bench(), of))
			}
			continue
		}
		if r.medians {
			m.median = m.num.median / m.den.median
		}
		if r.faster {
			m.spread = spread{median: 1 / m.median, min: 1 / m.max, max: 1 / m.min, rounds: m.rounds}
		}
		l := line{measured: m, row: r, what: fill(r.what, of)}
		switch {
		case !r.worst:
			lines = append(lines, l)
		case len(lines) == 0 || r.bar.worse(m.median, lines[0].median):
			l.which = r.of.differs(of)
			lines = []line{l}
		}
	}
	switch measured := len(cases) - absent; {
	case measured == 0 && (r.worst || len(cases) == 0):
		p.note("left out of %q: %s: nothing like %s is in the results", g.title, r.what, r.of)
	case r.worst && absent > 0:
		p.note("in %q, %s: %d of %d cases are not in the results", g.title, lines[0].what, absent, len(cases))
		fallthrough
	case r.worst:
		lines[0].which = fmt.Sprintf("worst of %d: %s", measured, lines[0].which)
	}
	return lines, nil
}

// differs names what makes a case one of several.
func (p pattern) differs(of keys) string {
	var parts []string
	for _, part := range p.parts() {
		if part.value == "*" || strings.Contains(part.value, "|") {
			if v := of[part.key]; digits.MatchString(v) && words[part.key] == nil {
				parts = append(parts, counted(strings.TrimSuffix(part.key, "s"))(v))
			} else {
				parts = append(parts, word(part.key, v))
			}
		}
	}
	return strings.Join(parts, ", ")
}

func (l *line) shown() string {
	if l.which != "" {
		return fmt.Sprintf("%s (%s)", l.what, l.which)
	}
	return l.what
}

func (l *line) against() string {
	switch {
	case l.row.den == nil:
		return "-"
	case l.row.against == "":
		return l.row.den.set
	case strings.Contains(l.row.against, " "):
		return l.row.against
	default:
		return "`" + l.row.against + "`"
	}
}

func (l *line) value() string {
	text := number(l.median)
	if l.row.in != "" {
		text += " " + l.row.in
	}
	if l.rounds > 1 {
		text += fmt.Sprintf(" (%s to %s)", number(l.min), number(l.max))
	}
	return text
}

// byThemselves are the medians of both terms, which are not of the same round.
func (l *line) byThemselves() string {
	if l.row.den == nil {
		return "-"
	}
	num, den := number(l.num.median)+suffixes[l.row.num.unit], number(l.den.median)+suffixes[l.row.den.unit]
	return num + ", against " + den
}

// origin tells how to measure something again, and where it was measured.
func (p *page) origin(command string, files []*file) string {
	out := fmt.Sprintf("```sh\n%s\n```\n", command)
	for _, f := range files {
		out += "\n" + wrap(fmt.Sprintf("[%s](../%s/%s): %s.", f.name, p.report.paper.results, f.name, strings.Join(f.machine(), ", "))) + "\n"
	}
	return out
}

// headerWords are how the lines of a header read; "" is not shown, what is not here as it is.
var headerWords = map[string]string{
	"goos": "", "goarch": "", "pkg": "", "cpu": "%s", "cores": "%s cores", "go": "%s", "commit": "commit %s",
	"batchprocessor": "batch %s", "pdata": "pdata %s",
}

func (f *file) machine() (parts []string) {
	for _, kv := range f.header {
		format, known := headerWords[kv.key]
		switch {
		case !known:
			parts = append(parts, kv.key+" "+kv.value)
		case format != "":
			parts = append(parts, fmt.Sprintf(format, kv.value))
		}
	}
	if system := strings.Trim(f.value("goos")+"/"+f.value("goarch"), "/"); system != "" {
		parts = append(parts, system)
	}
	return parts
}

func appendNew[T comparable](all []T, one T) []T {
	if slices.Contains(all, one) {
		return all
	}
	return append(all, one)
}

// figure writes a plot and what to take from it, if it is in the results.
func (p *page) figure(out *bytes.Buffer, f *figure) error {
	d, err := p.results.draw(f)
	if err != nil {
		return fmt.Errorf("plot %s: %w", f.file, err)
	}
	if d == nil {
		p.note("left out: the plot %q: nothing like %s is in the results", f.title, f.of)
		return nil
	}
	for _, absent := range d.absent {
		p.note("not in the plot %q: %s is not in the results", f.title, absent)
	}
	svg, err := d.svg()
	if err != nil {
		return fmt.Errorf("plot %s: %w", f.file, err)
	}
	path := plotsDir + "/" + f.file + ".svg"
	p.files[path] = svg
	sentences, err := p.results.takes(f, d)
	if err != nil {
		return fmt.Errorf("plot %s: %w", f.file, err)
	}
	fmt.Fprintf(out, "\n### %s\n\n![%s](%s)\n\n", f.title, f.title, path)
	if f.text != "" {
		sentences = append(sentences, f.text)
	}
	if len(sentences) > 0 {
		fmt.Fprintf(out, "%s\n\n", wrap(strings.Join(sentences, " ")))
	}
	out.WriteString(p.origin(f.command, d.files))
	return nil
}

// takes are the sentences about a plot.
func (r *results) takes(f *figure, d *drawing) (sentences []string, err error) {
	for _, t := range f.takes {
		num, den := f.y.term, (*term)(nil)
		num.set = t.num
		if t.den != "" {
			of := f.y.term
			of.set, den = t.den, &of
		}
		// Of each panel, the cases that have all that is needed.
		var of [][]taken
		for _, panel := range d.panels {
			var some []taken
			for _, c := range panel.cases {
				m, err := r.measureIfAll(f.of.bench(), c, &num, den)
				if err != nil {
					return nil, err
				}
				if m == nil {
					continue
				}
				value := m.median
				if t.most {
					value = m.max
				}
				some = append(some, taken{panel: panel.title, phrase: fill(f.x.phrase, c), value: value})
			}
			if len(some) > 0 {
				of = append(of, some)
			}
		}
		sentences = append(sentences, t.sentences(of, f)...)
	}
	return sentences, nil
}

// measureIfAll is measure, but what is there only in part counts as not there.
func (r *results) measureIfAll(bench string, of keys, num, den *term) (*measured, error) {
	for _, t := range []*term{num, den} {
		if t == nil {
			continue
		}
		for _, set := range t.sets() {
			if e, err := r.find(bench, t.keys(of, set)); e == nil || err != nil {
				return nil, err
			}
		}
	}
	return r.measure(bench, of, num, den)
}

// taken is the number of one panel at one x.
type taken struct {
	panel, phrase string
	value         float64
}

func (t *take) sentences(of [][]taken, f *figure) (all []string) {
	if len(of) == 0 {
		return nil
	}
	choose := func(at func(panel []taken) taken) {
		var picked []taken
		for _, panel := range of {
			picked = append(picked, at(panel))
		}
		all = append(all, t.sentence(picked, f))
	}
	last := func(panel []taken) taken { return panel[len(panel)-1] }
	switch t.at {
	case atLast:
		choose(last)
	case atEnds:
		choose(func(panel []taken) taken { return panel[0] })
		choose(last)
	case atEach:
		var phrases []string
		for _, panel := range of {
			for _, at := range panel {
				phrases = appendNew(phrases, at.phrase)
			}
		}
		for _, phrase := range phrases {
			var picked []taken
			for _, panel := range of {
				for _, at := range panel {
					if at.phrase == phrase {
						picked = append(picked, at)
					}
				}
			}
			all = append(all, t.sentence(picked, f))
		}
	case atPeak:
		choose(func(panel []taken) taken {
			return slices.MaxFunc(panel, func(a, b taken) int {
				if a.value < b.value {
					return -1
				}
				return 1
			})
		})
	case growth:
		choose(func(panel []taken) taken {
			return taken{panel: panel[0].panel, value: last(panel).value / panel[0].value}
		})
	}
	return all
}

func (t *take) sentence(of []taken, f *figure) string {
	var parts []string
	for _, at := range of {
		which := at.panel
		if (t.at == atLast || t.at == atEnds) && !strings.Contains(t.text, "{x}") && f.panel != "" {
			which = at.phrase
		} else if len(of) == 1 {
			which = ""
		}
		part := number(at.value)
		if which != "" {
			part += " (" + which + ")"
		}
		parts = append(parts, part)
	}
	text := strings.ReplaceAll(t.text, "{x}", of[0].phrase)
	return sentence(strings.Replace(text, "%s", list(parts), 1))
}
