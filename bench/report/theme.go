package main

import (
	"bytes"
	"fmt"
	"image/color"
	"math"
	"regexp"
	"strings"

	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// shade is a color where the page is light, and the one in its place where it is dark.
type shade struct{ light, dark string } // #RRGGBB

// Colors that are not of a series. The background is drawn, so that a plot is readable on a page that
// does not follow the system's theme.
var (
	background = shade{"#FFFFFF", "#0D1117"}
	ink        = shade{"#1F2328", "#E6EDF3"} // titles, axes, labels
	grid       = shade{"#D8DEE4", "#2A3038"} // decoration: values can be read without
)

// style is how a series looks. Colors are after Okabe and Ito, darker where the page is light, so that
// they differ for everybody; markers and dashes differ too.
type style struct {
	shade
	marker draw.GlyphDrawer
	dashes []vg.Length
}

// styles of the peers: the same in every plot.
var styles = map[string]style{
	"boundedbatch":    {shade{"#0072B2", "#56B4E9"}, draw.CircleGlyph{}, nil},
	"batch":           {shade{"#C04A00", "#F0904A"}, square, dashes(7, 3)},
	"exporterhelper":  {shade{"#00805E", "#2EC79B"}, triangle, dashes(2, 2)},
	"floor":           {shade{"#6A737D", "#8B949E"}, diamond, dashes(1, 3)},
	"counting":        {shade{"#6C757F", "#8D96A0"}, wedge, dashes(1, 5)},
	"queuebatch":      {shade{"#9A4C80", "#DE93BF"}, cross, dashes(7, 2, 2, 2)},
	"concurrentbatch": {shade{"#8A6D00", "#E5C44A"}, plus, dashes(10, 3, 2, 3, 2, 3)},
	"limit":           {shade{"#24292E", "#D0D7DE"}, slab, dashes(4, 4)},
}

// spare are those of all other series, such as the layers of bars, in their order.
var spare = []style{
	{shade{"#0073B3", "#57B5EA"}, draw.CircleGlyph{}, nil},
	{shade{"#C14B01", "#F1914B"}, square, dashes(6, 3)},
	{shade{"#00815F", "#2FC89C"}, triangle, dashes(3, 2)},
	{shade{"#8B6E01", "#E6C54B"}, plus, dashes(9, 3, 2, 3)},
	{shade{"#9B4D81", "#DF94C0"}, cross, dashes(7, 3, 2, 3)},
	{shade{"#6B747E", "#8C959F"}, diamond, dashes(1, 2)},
	{shade{"#003F66", "#A8DAF7"}, wedge, dashes(5, 5)},
	{shade{"#6B2900", "#F9CBA6"}, slab, dashes(3, 3)},
}

// polygon is a filled marker: those of gonum's that are not round are mostly drawn with thin lines.
type polygon []vg.Point // of radius 1

func (p polygon) DrawGlyph(c *draw.Canvas, sty draw.GlyphStyle, at vg.Point) {
	corners := make([]vg.Point, len(p))
	for i, corner := range p {
		corners[i] = at.Add(corner.Scale(sty.Radius))
	}
	c.FillPolygon(sty.Color, corners)
}

var (
	square   = polygon{{X: -0.9, Y: -0.9}, {X: 0.9, Y: -0.9}, {X: 0.9, Y: 0.9}, {X: -0.9, Y: 0.9}}
	diamond  = polygon{{X: -1.2, Y: 0}, {X: 0, Y: -1.2}, {X: 1.2, Y: 0}, {X: 0, Y: 1.2}}
	triangle = polygon{{X: -1.1, Y: -0.9}, {X: 1.1, Y: -0.9}, {X: 0, Y: 1.2}}
	wedge    = polygon{{X: -1.1, Y: 0.9}, {X: 1.1, Y: 0.9}, {X: 0, Y: -1.2}}
	slab     = polygon{{X: -1.3, Y: -0.5}, {X: 1.3, Y: -0.5}, {X: 1.3, Y: 0.5}, {X: -1.3, Y: 0.5}}
	plus     = star(0)
	cross    = star(math.Pi / 4)
)

// star has four arms, turned by that angle.
func star(turned float64) (p polygon) {
	for i := range 4 {
		for _, corner := range [][2]float64{{0.35, 0.35}, {1.3, 0.35}, {1.3, -0.35}} {
			sin, cos := math.Sincos(turned - float64(i)*math.Pi/2)
			p = append(p, vg.Point{X: vg.Length(corner[0]*cos - corner[1]*sin), Y: vg.Length(corner[0]*sin + corner[1]*cos)})
		}
	}
	return p
}

func dashes(lengths ...vg.Length) []vg.Length { return lengths }

// styleOf is that of the nth series.
func styleOf(name string, n int) style {
	if s, found := styles[name]; found {
		return s
	}
	return spare[n%len(spare)]
}

func (s shade) color() color.RGBA { return parse(s.light) }

// parse requires #RRGGBB.
func parse(hex string) (c color.RGBA) {
	c.A = 255
	if _, err := fmt.Sscanf(hex, "#%02X%02X%02X", &c.R, &c.G, &c.B); err != nil {
		panic("not a color: " + hex)
	}
	return c
}

// contrast is that of WCAG 2: from 1 to 21.
func contrast(a, b string) float64 {
	x, y := luminance(parse(a)), luminance(parse(b))
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

func luminance(c color.RGBA) float64 {
	linear := func(v uint8) float64 {
		f := float64(v) / 255
		if f <= 0.04045 {
			return f / 12.92
		}
		return math.Pow((f+0.055)/1.055, 2.4)
	}
	return 0.2126*linear(c.R) + 0.7152*linear(c.G) + 0.0722*linear(c.B)
}

// shades are all of them.
func shades() []shade {
	all := []shade{background, ink, grid}
	for _, s := range styles {
		all = append(all, s.shade)
	}
	for _, s := range spare {
		all = append(all, s.shade)
	}
	return all
}

var (
	svgBegin = regexp.MustCompile(`(?s)^.*?<svg[^>]*>\n`)
	// svgFont is what vgsvg says of a font, but for its weight if that is bold.
	svgFont  = regexp.MustCompile(`font-family:[^;"]*;font-variant:[^;"]*;(?:font-weight:normal;)?`)
	svgStyle = regexp.MustCompile(`font-style:normal;`)
	svgColor = regexp.MustCompile(`(fill|stroke):(#[0-9A-F]{6})`)
)

const fonts = `Arial,Helvetica,"Liberation Sans",sans-serif`

// themed gives a drawing of vgsvg a title, a background, fonts that every system has, and other colors
// where the page is dark.
func themed(svg []byte, title string, width, height int) ([]byte, error) {
	dark := make(map[string]string)
	for _, s := range shades() {
		dark[s.light] = s.dark
	}
	var rules []string
	seen := make(map[string]bool)
	for _, found := range svgColor.FindAllSubmatch(svg, -1) {
		property, light := string(found[1]), string(found[2])
		if dark[light] == "" {
			return nil, fmt.Errorf("%s has no color for a dark page", light)
		}
		if declared := property + ":" + light; !seen[declared] {
			seen[declared] = true
			rules = append(rules, fmt.Sprintf("[style*=%q]{%s:%s!important}", declared, property, dark[light]))
		}
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img" aria-labelledby="title">
<title id="title">%s</title>
<style>
text{font-family:%s}
.background{fill:%s}
@media (prefers-color-scheme:dark){
.background{fill:%s}
%s
}
</style>
<rect class="background" width="100%%" height="100%%"/>
`, width, height, width, height, escape(title), fonts, background.light, background.dark, strings.Join(rules, "\n"))
	svg = svgBegin.ReplaceAll(svg, nil)
	svg = svgFont.ReplaceAll(svg, nil)
	svg = svgStyle.ReplaceAll(svg, nil)
	out.Write(svg)
	return out.Bytes(), nil
}

func escape(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(s)
}
