package main

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strings"

	xfont "golang.org/x/image/font"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// drawing is a figure with its numbers.
type drawing struct {
	*figure
	panels []*panel
	xs     []string // values of the key of x, in all panels
	files  []*file
	absent []string // cases that the figure asks for
}

type panel struct {
	title string
	key   string
	cases []keys
	lines []*curve
}

// curve is a series in a panel.
type curve struct {
	series
	style
	points []point
	aside  float64 // how far points are from their x, so that two do not hide each other
}

type point struct {
	of keys
	spread
}

// draw collects the numbers of a figure; nil if there are none.
func (r *results) draw(f *figure) (*drawing, error) {
	d := &drawing{figure: f}
	all := r.expand(f)
	for _, of := range f.of.cases(r) {
		var there []string
		var missing []string
		points := make([]*measured, len(all))
		for i, s := range all {
			t := f.y.term
			t.set = s.set
			if s.unit != "" {
				t.unit, t.over = s.unit, ""
			}
			m, err := r.measure(f.of.bench(), of, &t, nil)
			switch {
			case err != nil:
				return nil, err
			case m != nil:
				points[i], there = m, append(there, s.name)
				d.files = appendNew(d.files, m.from.file)
			case !s.sparse:
				missing = append(missing, s.name)
			}
		}
		if len(there) == 0 {
			d.absent = append(d.absent, describe(f.of.bench(), of))
			continue
		}
		if len(missing) > 0 {
			return nil, fmt.Errorf("%s has %s, but not %s", describe(f.of.bench(), of), list(there), list(missing))
		}
		d.add(of, all, points)
	}
	if len(d.panels) == 0 {
		return nil, nil
	}
	slices.SortStableFunc(d.xs, func(a, b string) int { return int(math.Copysign(1, quantity(a)-quantity(b))) })
	return d, nil
}

// expand replaces a series for every value of a key by one for each.
func (r *results) expand(f *figure) (all []series) {
	for _, s := range f.series {
		key, every := strings.CutSuffix(s.set, "=*")
		if !every {
			all = append(all, s)
			continue
		}
		for _, v := range r.valuesOf(f.of.bench(), key, nil) {
			one := s
			one.name, one.set = v, key+"="+v
			all = append(all, one)
		}
	}
	return all
}

func (d *drawing) add(of keys, all []series, points []*measured) {
	i := slices.IndexFunc(d.panels, func(p *panel) bool { return p.key == of[d.panel] })
	if i < 0 {
		i = len(d.panels)
		p := &panel{key: of[d.panel]}
		if d.panel != "" {
			p.title = word(d.panel, p.key)
		}
		for n, s := range all {
			l := &curve{series: s, style: styleOf(s.name, n)}
			if d.y.stacked {
				l.style = styleOf("", n) // a layer that is called like a peer is not that peer
			}
			if d.x.scale == even {
				l.aside = 0.05 * (float64(n) - float64(len(all)-1)/2)
			}
			p.lines = append(p.lines, l)
		}
		d.panels = append(d.panels, p)
	}
	p := d.panels[i]
	p.cases = append(p.cases, of)
	d.xs = appendNew(d.xs, of[d.x.key])
	for i, m := range points {
		if m != nil {
			p.lines[i].points = append(p.lines[i].points, point{of, m.spread})
		}
	}
}

// position is where a value of the key of x is on the axis.
func (d *drawing) position(value string) float64 {
	if d.x.scale == even {
		return float64(slices.Index(d.xs, value))
	}
	at := quantity(value)
	if d.x.times != 0 {
		at *= d.x.times
	}
	return at
}

// height is where a number is on the axis.
func (d *drawing) height(v float64) float64 {
	if d.y.scale == log {
		return max(v, d.y.floor)
	}
	return v
}

// Sizes in pixels.
const (
	panelWidth  = 300
	singleWidth = 640
	panelHeight = 280
	titleHeight = 30
	legendRow   = 20
	panelTitle  = 26
	labelHeight = 20 // of the label of y, on its side
	margin      = 12
	gap         = 20 // between two panels
	thumbnail   = 34 // of a series in the legend

	titleSize = 15
	textSize  = 12
	tickSize  = 11
)

// manyPoints is from when on points are neither marked one by one nor have a bar.
const manyPoints = 20

func (d *drawing) svg() ([]byte, error) {
	width := singleWidth
	if n := len(d.panels); n > 1 {
		width = n*panelWidth + (n-1)*gap
	}
	rows := d.legend(vg.Length(width - 2*margin))
	height := margin + titleHeight + legendRow*len(rows) + panelHeight + margin

	canvas := vgsvg.New(vg.Length(width), vg.Length(height))
	c := draw.Crop(draw.New(canvas), margin, -margin, margin, -margin)

	title := textStyle(titleSize)
	title.Font.Weight, title.YAlign = xfont.WeightBold, text.YTop
	c.FillText(title, vg.Point{X: c.Min.X, Y: c.Max.Y}, d.title)
	c.Max.Y -= titleHeight
	for _, row := range rows {
		d.drawLegend(c, row)
		c.Max.Y -= legendRow
	}

	plots := make([]*plot.Plot, len(d.panels))
	for i, p := range d.panels {
		var err error
		if plots[i], err = d.plot(p); err != nil {
			return nil, err
		}
	}
	d.align(plots)
	if d.panel != "" {
		c.Max.Y -= panelTitle
	}
	ylabel := c.Min.X
	c.Min.X += labelHeight
	tiles := draw.Tiles{Rows: 1, Cols: len(plots), PadX: gap}
	for i, at := range plot.Align([][]*plot.Plot{plots}, tiles, c)[0] {
		plots[i].Draw(at)
		// Not plot.Title, which is in the middle of axis and data, nor plot.Y.Label, which takes room
		// above a logarithmic axis.
		data := plots[i].DataCanvas(at)
		title := textStyle(textSize)
		title.XAlign = text.XCenter
		c.FillText(title, vg.Point{X: data.Center().X, Y: c.Max.Y + 6}, d.panels[i].title)
		if i == 0 {
			title.Rotation, title.YAlign = math.Pi/2, text.YTop
			c.FillText(title, vg.Point{X: ylabel, Y: data.Center().Y}, d.y.label)
		}
	}

	var out bytes.Buffer
	if _, err := canvas.WriteTo(&out); err != nil {
		return nil, err
	}
	return themed(out.Bytes(), d.title, width, height)
}

func textStyle(size font.Length) text.Style {
	return text.Style{
		Color: ink.color(), Handler: plot.DefaultTextHandler,
		Font: font.From(font.Font{Typeface: "Liberation", Variant: "Sans"}, size),
	}
}

func (d *drawing) plot(of *panel) (*plot.Plot, error) {
	p := plot.New() // without titles of the panel and of y: see svg
	p.BackgroundColor = nil
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		label, ticks := textStyle(textSize), textStyle(tickSize)
		// Where they stood in what plot.New made.
		label.XAlign, label.YAlign, label.Rotation = axis.Label.TextStyle.XAlign, axis.Label.TextStyle.YAlign, axis.Label.TextStyle.Rotation
		ticks.XAlign, ticks.YAlign = axis.Tick.Label.XAlign, axis.Tick.Label.YAlign
		axis.Label.TextStyle, axis.Tick.Label = label, ticks
		axis.Label.Padding = 4
		axis.Color, axis.Tick.Color = ink.color(), ink.color()
		axis.Width, axis.Tick.Width = 1, 1
		axis.Padding = 0
	}
	p.X.Label.Text = d.x.label
	p.Add(gridLines{})
	if d.y.stacked {
		return p, d.addBars(p, of)
	}
	for _, l := range of.lines {
		if err := d.addLine(p, l); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// gridLines is a line at each value of y that has a label, but not upon the axis of x.
type gridLines struct{}

func (gridLines) Plot(c draw.Canvas, p *plot.Plot) {
	_, y := p.Transforms(&c)
	for _, tick := range p.Y.Tick.Marker.Ticks(p.Y.Min, p.Y.Max) {
		if tick.Label != "" && tick.Value > p.Y.Min {
			c.StrokeLine2(draw.LineStyle{Color: grid.color(), Width: 1}, c.Min.X, y(tick.Value), c.Max.X, y(tick.Value))
		}
	}
}

type spreads struct {
	plotter.XYs
	plotter.YErrors
}

func (d *drawing) addLine(p *plot.Plot, l *curve) error {
	if len(l.points) == 0 {
		return nil
	}
	var all, marked plotter.XYs
	var errors plotter.YErrors
	every := 1 + len(l.points)/manyPoints
	for i, at := range l.points {
		xy := plotter.XY{X: d.position(at.of[d.x.key]) + l.aside, Y: d.height(at.median)}
		all = append(all, xy)
		if i%every == 0 {
			marked = append(marked, xy)
		}
		errors = append(errors, struct{ Low, High float64 }{xy.Y - d.height(at.min), d.height(at.max) - xy.Y})
	}
	line, err := plotter.NewLine(all)
	if err != nil {
		return err
	}
	line.LineStyle = l.lineStyle()
	if len(all) > 1 {
		p.Add(line)
	}
	if len(all) <= manyPoints {
		bars, err := plotter.NewYErrorBars(spreads{all, errors})
		if err != nil {
			return err
		}
		bars.LineStyle, bars.CapWidth = draw.LineStyle{Color: l.color(), Width: 1}, 6
		p.Add(bars)
	}
	if l.name == "limit" {
		return nil // a level, not something that was measured
	}
	marks, err := plotter.NewScatter(marked)
	if err != nil {
		return err
	}
	marks.GlyphStyle = l.glyphStyle()
	p.Add(marks)
	return nil
}

func (s *style) lineStyle() draw.LineStyle {
	return draw.LineStyle{Color: s.color(), Width: 2, Dashes: s.dashes}
}

func (s *style) glyphStyle() draw.GlyphStyle {
	return draw.GlyphStyle{Color: s.color(), Radius: 4, Shape: s.marker}
}

func (d *drawing) addBars(p *plot.Plot, of *panel) error {
	var below *plotter.BarChart
	for _, l := range of.lines {
		values := make(plotter.Values, len(d.xs))
		for _, at := range l.points {
			values[slices.Index(d.xs, at.of[d.x.key])] = at.median
		}
		bars, err := plotter.NewBarChart(values, vg.Length(min(80, 400/len(d.xs))))
		if err != nil {
			return err
		}
		bars.Color, bars.LineStyle = l.color(), draw.LineStyle{Color: background.color(), Width: 1.5}
		if below != nil {
			bars.StackOn(below)
		}
		below = bars
		p.Add(bars)
	}
	return nil
}

// align gives all panels the same axes.
func (d *drawing) align(plots []*plot.Plot) {
	xmin, xmax, ymin, ymax := math.Inf(1), math.Inf(-1), math.Inf(1), math.Inf(-1)
	for _, p := range plots {
		xmin, xmax = min(xmin, p.X.Min), max(xmax, p.X.Max)
		ymin, ymax = min(ymin, p.Y.Min), max(ymax, p.Y.Max)
	}
	for _, p := range plots {
		d.scaleX(&p.X, xmin, xmax)
		scaleY(&p.Y, d.y.scale, ymin, ymax)
	}
}

func (d *drawing) scaleX(axis *plot.Axis, from, to float64) {
	switch d.x.scale {
	case even:
		axis.Min, axis.Max = -0.5, float64(len(d.xs))-0.5
		var ticks plot.ConstantTicks
		for i, x := range d.xs {
			ticks = append(ticks, plot.Tick{Value: float64(i), Label: plain(x)})
		}
		axis.Tick.Marker = ticks
	case linear:
		axis.Min, axis.Max = 0, to
		axis.Tick.Marker = linearTicks(to)
	case log:
		axis.Scale = plot.LogScale{}
		axis.Min, axis.Max = from/1.15, to*1.15 // room for markers
		axis.Tick.Marker = d.ticksAtValues(axis.Min, axis.Max)
	}
}

// ticksAtValues are those of a logarithmic axis, with labels where there is room for one.
func (d *drawing) ticksAtValues(from, to float64) (ticks plot.ConstantTicks) {
	width := vg.Length(singleWidth)
	if len(d.panels) > 1 {
		width = panelWidth
	}
	style, free := textStyle(tickSize), vg.Length(0)
	for _, x := range d.xs {
		tick := plot.Tick{Value: d.position(x)}
		at := vg.Length(math.Log(tick.Value/from)/math.Log(to/from)) * (width - 60)
		if label := style.Width(plain(x)); at-label/2 >= free || free == 0 {
			tick.Label, free = plain(x), at+label/2+8
		}
		ticks = append(ticks, tick)
	}
	return ticks
}

func scaleY(axis *plot.Axis, s scale, from, to float64) {
	if s == log {
		axis.Scale = plot.LogScale{}
		axis.Min, axis.Max = below(from), above(to)
		axis.Tick.Marker = logTicks(axis.Min, axis.Max)
		axis.Max *= math.Pow(axis.Max/axis.Min, 0.03) // room for half a label
		return
	}
	ticks := linearTicks(to * 1.02)
	axis.Min, axis.Max = 0, max(to*1.05, ticks[len(ticks)-1].Value)
	axis.Tick.Marker = ticks
}

// steps of an axis within a power of 10.
var steps = []float64{1, 2, 5, 10}

// linearTicks are four to eight from 0.
func linearTicks(to float64) (ticks plot.ConstantTicks) {
	if to <= 0 {
		to = 1
	}
	power := math.Pow(10, math.Floor(math.Log10(to/4)))
	step := power
	for _, s := range steps {
		if s*power <= to/4 {
			step = s * power
		}
	}
	for i := 0; float64(i)*step <= to*1.0001; i++ {
		ticks = append(ticks, plot.Tick{Value: float64(i) * step, Label: number(float64(i) * step)})
	}
	return ticks
}

// below and above are the steps next to a number.
func below(v float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, s := range slices.Backward(steps) {
		if s*power <= v*1.0001 {
			return s * power
		}
	}
	return power
}

func above(v float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, s := range steps {
		if s*power >= v*0.9999 {
			return s * power
		}
	}
	return 10 * power
}

// logTicks have a label at every power of 10, and at 2 and 5 times that too if there are few.
func logTicks(from, to float64) (ticks plot.ConstantTicks) {
	decades := math.Log10(to / from)
	for power := math.Floor(math.Log10(from)); power <= math.Log10(to); power++ {
		for i := 1.0; i < 10; i++ {
			v := i * math.Pow(10, power)
			if v < from*0.9999 || v > to*1.0001 {
				continue
			}
			tick := plot.Tick{Value: v}
			switch {
			case i == 1 || decades < 2.5 && (i == 2 || i == 5):
				tick.Label = number(v)
			case decades > 4:
				continue
			}
			ticks = append(ticks, tick)
		}
	}
	return ticks
}

// legend puts the series that have points into rows that are not wider than that.
func (d *drawing) legend(width vg.Length) (rows [][]*curve) {
	var shown []string
	left := vg.Length(0)
	for _, p := range d.panels {
		for _, l := range p.lines {
			if len(l.points) == 0 || slices.Contains(shown, l.name) {
				continue
			}
			shown = append(shown, l.name)
			if left -= legendWidth(l); len(rows) == 0 || left < 0 {
				rows, left = append(rows, nil), width-legendWidth(l)
			}
			rows[len(rows)-1] = append(rows[len(rows)-1], l)
		}
	}
	return rows
}

func legendWidth(l *curve) vg.Length {
	style := textStyle(textSize)
	return thumbnail + 6 + style.Width(l.name) + 22
}

func (d *drawing) drawLegend(c draw.Canvas, row []*curve) {
	style := textStyle(textSize)
	style.YAlign = text.YCenter
	x, y := c.Min.X, c.Max.Y-legendRow/2
	for _, l := range row {
		switch {
		case d.y.stacked:
			c.FillPolygon(l.color(), []vg.Point{{X: x + 20, Y: y - 6}, {X: x + thumbnail, Y: y - 6}, {X: x + thumbnail, Y: y + 6}, {X: x + 20, Y: y + 6}})
		default:
			c.StrokeLine2(l.lineStyle(), x, y, x+thumbnail, y)
			if l.name != "limit" {
				c.DrawGlyph(l.glyphStyle(), vg.Point{X: x + thumbnail/2, Y: y})
			}
		}
		c.FillText(style, vg.Point{X: x + thumbnail + 6, Y: y}, l.name)
		x += legendWidth(l)
	}
}
