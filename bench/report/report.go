package main

import "strings"

// The words of the specification in spec.go.

// report is a page of tables and plots.
type report struct {
	paper  paper
	groups []group
	plots  []figure
	// reasons says why a bar is missed, by how its name on the page begins: "CPU of a request: 10 spans, 1
	// producer, against batch", or less of it. Of several the longest counts. That of a bar which is met is not shown.
	reasons map[string]string
}

// reason is why the bar of that name is missed; "" if nothing is said.
func (r *report) reason(name string) (reason string) {
	longest := -1
	for beginning, why := range r.reasons {
		if strings.HasPrefix(name, beginning) && len(beginning) > longest {
			reason, longest = why, len(beginning)
		}
	}
	return reason
}

// paper is what is around the tables and plots.
type paper struct {
	file         string   // of the page, below docs/
	results      string   // the directory of its results, from the root of the repository
	files        []string // in it, as patterns; none: *.txt
	introduction string
	plots        string // before the first of them
}

// group is a table.
type group struct {
	title   string
	text    string
	command string // measures it again
	rows    []row
}

// row is a line of a table for each case of its pattern.
type row struct {
	what string // {key} is the value of that key in words
	of   pattern
	num  term
	den  *term // num is divided by it, round by round; nil: it is not
	// faster turns the quotient of two times upside down: how many times as fast num is.
	faster bool
	// medians divides the median of num by that of den, because a round by itself says too little.
	medians bool
	against string
	in      string // unit of what is measured; empty for a ratio
	bar     bar
	// worst shows only the case that is nearest to the bar, or furthest beyond it.
	worst bool
	// sparse: not everything need be measured; what is not is left out.
	sparse bool
}

// bar is what was promised. The zero value is no promise.
type bar struct {
	limit float64
	kind  barKind
}

type barKind int

const (
	noBar barKind = iota
	most
	least
)

func atMost(limit float64) bar  { return bar{limit, most} }
func atLeast(limit float64) bar { return bar{limit, least} }

// met requires a bar.
func (b bar) met(value float64) bool {
	if b.kind == least {
		return value >= b.limit
	}
	return value <= b.limit
}

// worse tells whether a is nearer to the bar than b, or further beyond it.
func (b bar) worse(a, than float64) bool {
	if b.kind == least {
		return a < than
	}
	return a > than
}

func (b bar) String() string {
	switch b.kind {
	case most:
		return "at most " + number(b.limit)
	case least:
		return "at least " + number(b.limit)
	default:
		return "none"
	}
}

// figure is a plot in a file of its own.
type figure struct {
	file    string // below plots/, without .svg
	title   string
	text    string // what is drawn, if the title does not say all of it
	command string // measures it again
	of      pattern
	panel   string // key: each of its values has a panel of its own. "": one panel
	x       xAxis
	y       yAxis
	series  []series
	takes   []take
}

type scale int

const (
	even   scale = iota // the values of a key side by side, whatever they are; not for y
	linear              // from 0
	log                 // base 10
)

type xAxis struct {
	key   string
	label string
	// phrase is the beginning of a sentence about one value: "with {producers}".
	phrase string
	scale  scale
	times  float64 // a factor; 0 is 1
}

type yAxis struct {
	label string
	// term is what is drawn; each series says of which benchmark.
	term
	scale scale
	// floor is where a logarithmic axis ends; what is less is drawn there.
	floor float64
	// stacked draws the series as layers of one bar for each x.
	stacked bool
}

// series is a line, or a layer of bars.
type series struct {
	name string // in the legend; it decides on the style
	set  string // keys besides those of the case: "impl=batch"; "part=*" is a series for each value
	unit string // if not that of the axis
	// sparse series need not be there wherever others are.
	sparse bool
}

// peers are series that differ in the key impl.
func peers(names ...string) (all []series) {
	for _, name := range names {
		all = append(all, series{name: name, set: "impl=" + name})
	}
	return all
}

// sparsely are peers that are measured at some x only.
func sparsely(names ...string) []series {
	all := peers(names...)
	for i := range all {
		all[i].sparse = true
	}
	return all
}

// take is a sentence below a plot with numbers of it, as round by round.
type take struct {
	at takeAt
	// num and den are sets of keys: "impl=batch".
	num, den string
	// text: %s is the number for each panel, {x} the phrase of the axis. Without {x} each number says
	// which x it is of.
	text string
	// most is the greatest round instead of the median, where that may be 0.
	most bool
}

type takeAt int

const (
	atEnds takeAt = iota // the first x and the last, a sentence each
	atLast
	atEach
	// atPeak is whichever x has the greatest number.
	atPeak
	// growth is from the first x to the last, of num; there is no den.
	growth
)
