package main

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write testdata/golden")

// sample has one of everything that a specification can say. Its results are made up.
var sample = report{
	paper: performancePaper,
	groups: []group{
		{
			title: "Ratios", text: "Round by round.", command: "make ratios",
			rows: []row{
				{what: "{signal}, {producers}", of: "Consume/signal=traces|logs|profiles/items=10/producers=1", num: cpu(us), den: to(cpu, "batch"), against: "batch", bar: atMost(0.2)},
				{what: "{signal}", of: "Contest/contest=slow_downstream/signal=logs", num: elapsed(us), den: to(elapsed, "batch"), faster: true, against: "batch", bar: atLeast(9)},
				{what: "limits", of: "ByteLimits/signal=logs/items=*/attributes=5/cache=cold", num: byteLimit("bytes"), den: walk, against: "measuring once", bar: atMost(1.4), worst: true},
				{what: "twice {signal}", of: "Split/signal=logs/max=100/items=40000|80000", num: twice, den: half, against: "half", bar: atMost(2.5), worst: true},
			},
		},
		{title: "Values", text: "By themselves.", command: "make values", rows: []row{
			{what: "CPU after {tenants}", of: "Idle/signal=logs/tenants=100|10000", num: idleCPU("batch"), in: "%"},
			{what: "CPU below that of the bare process", of: "Idle/signal=logs/tenants=100", num: idleCPU(us), in: "%"},
		}},
		{title: "Absent", text: "Not shown.", command: "make nothing", rows: []row{
			{what: "nothing", of: "Nothing/signal=logs", num: cpu(us)},
		}},
	},
	plots: []figure{
		requestCPU("10"),
		{
			file: "split", title: "Split", text: "On log axes.", command: "make split", of: "Split/signal=logs/items=*/max=100",
			x: xAxis{key: "items", label: "items", scale: log}, y: yAxis{label: "time (ns)", term: term{unit: "ns/item"}, scale: log},
			series: append(peers(us), sparsely("batch")...),
			takes:  []take{{at: growth, num: "impl=batch", text: "`batch` takes %s times as long"}},
		},
		{
			file: "memory", title: "Memory <held>", command: "make memory", of: "Memory/t_ms=*",
			x:      xAxis{key: "t_ms", label: "time (s)", scale: linear, times: 1e-3},
			y:      yAxis{label: "heap (MiB)", term: term{unit: "heap-B", times: 1.0 / (1 << 20)}, scale: linear},
			series: append(peers(us), series{name: "limit", set: "impl=boundedbatch", unit: "heap-limit-B"}),
			takes:  []take{{at: atPeak, num: "impl=boundedbatch", text: "boundedbatch holds %s MiB at most"}},
		},
		{
			file: "share", title: "Share", command: "make share", of: "Share/impl=*",
			x: xAxis{key: "impl", label: "batcher"}, y: yAxis{label: "CPU (ns)", term: term{unit: "cpu-ns/item"}, scale: linear, stacked: true},
			series: []series{{set: "part=*", sparse: true}},
		},
		{
			file: "idle", title: "Idle", command: "make idle", of: "Idle/signal=logs/tenants=*",
			x: xAxis{key: "tenants", label: "tenants", phrase: "after {tenants}"}, y: yAxis{label: "CPU (%)", term: idleCPU(""), scale: log, floor: 1e-5},
			series: peers(us, "batch"),
			takes:  []take{{at: atEnds, num: "impl=boundedbatch", den: "impl=batch", most: true, text: "{x} boundedbatch takes at most %s of `batch`'s CPU"}},
		},
		{file: "absent", title: "Absent", of: "Nothing/signal=*", x: xAxis{key: "signal"}, series: peers(us)},
	},
	reasons: map[string]string{
		"Ratios: spans, 1 producer, against batch": "the numbers are made up",
		"Ratios: nothing":                          "left behind",
	},
}

const sampleResults = "testdata/results"

func TestReportIsWhatItWas(t *testing.T) {
	files, _, err := build(sampleResults, sample)
	require.NoError(t, err)
	if *update {
		require.NoError(t, os.RemoveAll("testdata/golden"))
		require.NoError(t, write("testdata/golden", files))
	}
	require.NoError(t, compare("testdata/golden", files), "look at what go test -run TestReportIsWhatItWas . -update changes")
}

func TestReportIsTheSameEveryTime(t *testing.T) {
	first, notes, err := build(sampleResults, sample)
	require.NoError(t, err)
	for range 5 {
		again, same, err := build(sampleResults, sample)
		require.NoError(t, err)
		require.Equal(t, first, again)
		require.Equal(t, notes, same)
	}
}

// TestCommittedReportIsOfTheCommittedResults is make bench-report-check.
func TestCommittedReportIsOfTheCommittedResults(t *testing.T) {
	require.NoError(t, run("../..", true))
}

func TestPageHasItsOwnNameIntroductionAndResults(t *testing.T) {
	lines := "BenchmarkA/n=1/impl=boundedbatch-2\t1\t1 ns/req\nBenchmarkA/n=1/impl=batch-2\t1\t2 ns/req\n"
	own := one
	own.paper = paper{file: "own.md", introduction: "# Own\n\n", results: "own", files: []string{"own-*.txt"}}
	files, _, err := build(resultsOf(t, map[string]string{"own-1.txt": lines, "other.txt": lines}), own)
	require.NoError(t, err)
	require.Len(t, files, 1)
	page := string(files["own.md"])
	assert.True(t, strings.HasPrefix(page, "# Own\n\nNothing that has a bar"), page)
	assert.Contains(t, page, "[own-1.txt](../own/own-1.txt)")
}

func TestWhatIsNotMeasuredIsLeftOutAndSaid(t *testing.T) {
	files, notes, err := build(sampleResults, sample)
	require.NoError(t, err)
	assert.NotContains(t, string(files[performancePaper.file]), "Absent")
	assert.NotContains(t, files, "plots/absent.svg")
	for _, want := range []string{
		`left out: the table "Absent"`, `left out: the plot "Absent"`, `left out of "Ratios": samples, 1 producer`,
		"a reason is given, but it is not missed: Ratios: nothing", "missed, and no reason is given: Ratios: log records",
	} {
		assert.True(t, slices.ContainsFunc(notes, func(n string) bool { return strings.HasPrefix(n, want) }), "no note %q in %q", want, notes)
	}
}

func TestMissedBarIsShownWithItsReason(t *testing.T) {
	files, _, err := build(sampleResults, sample)
	require.NoError(t, err)
	page := string(files[performancePaper.file])
	assert.Contains(t, page, "| spans, 1 producer | `batch` | 0.25 (0.25 to 0.25) | 21.9 ns, against 87.7 ns | at most 0.2 | **missed** |")
	assert.Contains(t, page, "- Missed: spans, 1 producer: the numbers are made up.")
	assert.Contains(t, page, "- Missed: log records, 1 producer: nothing is known about it yet.")
	assert.Regexp(t, `3 of 5 bars are met\. Missed, each with the reason below its table: Ratios \(2 of 5\)\.`, page)
}

const header = "cpu: c\ngo: g\ncommit: 1\n\n"

// resultsOf writes files of results, with a header each.
func resultsOf(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, lines := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(header+lines), 0o600))
	}
	return dir
}

func TestUnreadableResultsNameFileAndLine(t *testing.T) {
	const good = "BenchmarkA/impl=batch-2\t1\t5 ns/req\n"
	for name, c := range map[string]struct{ lines, want string }{
		"torn name":       {good + "BenchmarkA/impl=ba", "r.txt:6: neither a header nor a benchmark"},
		"torn value":      {good + "BenchmarkA/impl=batch-2\t1\t5", "r.txt:6: missing units"},
		"no number":       {"BenchmarkA-2\t1\tfive ns/req\n", "r.txt:5: parsing measurement"},
		"not a number":    {"BenchmarkA-2\t1\tNaN ns/req\n", "r.txt:5: ns/req is NaN"},
		"unit twice":      {"BenchmarkA-2\t1\t5 ns/req 6 ns/req\n", "r.txt:5: ns/req twice"},
		"no key":          {good + "BenchmarkA/batch-2\t1\t5 ns/req\n", `r.txt:6: "/batch" in the name is not key=value`},
		"merge":           {"<<<<<<< HEAD\n" + good, "r.txt:5: neither a header nor a benchmark"},
		"failed":          {good + "--- FAIL: TestA\n", "r.txt:6: neither a header nor a benchmark"},
		"nothing":         {"", "r.txt: no line of a benchmark"},
		"header too late": {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := resultsOf(t, map[string]string{"r.txt": c.lines})
			if name == "header too late" {
				require.NoError(t, os.WriteFile(filepath.Join(dir, "r.txt"), []byte("cpu: c\ngo: g\n"+good+"commit: 1\n"), 0o600))
				c.want = `r.txt: no line "commit: ..." before the first benchmark`
			}
			_, _, err := build(dir, report{})
			require.ErrorContains(t, err, c.want)
		})
	}
	_, _, err := build(t.TempDir(), report{})
	require.ErrorContains(t, err, "no results in")
}

// one is a report with one row and one plot of what TestComparison writes.
var one = report{
	paper:  performancePaper,
	groups: []group{{title: "T", rows: []row{{what: "w", of: "A/n=1", num: elapsed(us), den: to(elapsed, "batch")}}}},
}

var onePlot = report{
	plots: []figure{{file: "f", of: "A/n=*", x: xAxis{key: "n"}, y: yAxis{term: term{unit: "ns/req"}, scale: linear}, series: peers(us, "batch")}},
}

func TestComparisonNeedsAllThatItCompares(t *testing.T) {
	line := func(impl, value string) string { return fmt.Sprintf("BenchmarkA/n=1/impl=%s-2\t1\t%s\n", impl, value) }
	ours, theirs := line(us, "5 ns/req"), line("batch", "10 ns/req")
	for name, c := range map[string]struct {
		files map[string]string
		of    report
		want  string
	}{
		"no other, table": {map[string]string{"r.txt": ours}, one, "r.txt:5 has A/n=1/impl=boundedbatch-2, but A/impl=batch/n=1 is not in the results"},
		"not us, table":   {map[string]string{"r.txt": theirs}, one, "r.txt:5 has A/n=1/impl=batch-2, but A/impl=boundedbatch/n=1 is not in the results"},
		"no other, plot":  {map[string]string{"r.txt": ours}, onePlot, "A/n=1 has boundedbatch, but not batch"},
		"rounds":          {map[string]string{"r.txt": ours + theirs + theirs + ours + theirs}, one, "2 rounds of A/n=1/impl=boundedbatch-2, but 3 of A/n=1/impl=batch-2"},
		"other file":      {map[string]string{"a.txt": ours, "b.txt": theirs}, one, "they did not take turns"},
		"twice":           {map[string]string{"a.txt": ours + theirs, "b.txt": ours + theirs}, one, "(a.txt:5) and A/n=1/impl=boundedbatch-2 (b.txt:5): the specification has to say which"},
		"other unit":      {map[string]string{"r.txt": ours + line("batch", "5 B/req")}, one, "r.txt:6: no ns/req"},
		"zero":            {map[string]string{"r.txt": ours + line("batch", "0 ns/req")}, one, "no ratio of 5 and 0"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := build(resultsOf(t, c.files), c.of)
			require.ErrorContains(t, err, c.want)
		})
	}
}

func TestReasonIsThatOfTheLongestBeginning(t *testing.T) {
	r := report{reasons: map[string]string{"CPU": "short", "CPU of a request: 10": "long"}}
	assert.Equal(t, "long", r.reason("CPU of a request: 10 spans"))
	assert.Equal(t, "short", r.reason("CPU of a request: 5 spans"))
	assert.Empty(t, r.reason("Fill"))
}

func TestRatiosAreOfOneRoundUnlessOfMedians(t *testing.T) {
	var lines string
	for _, round := range [][2]int{{10, 100}, {30, 60}, {40, 50}, {90, 100}} { // 0.1, 0.5, 0.8, 0.9; of the medians 0.4
		lines += fmt.Sprintf("BenchmarkA/n=1/impl=boundedbatch-2\t1\t%d ns/req\nBenchmarkA/n=1/impl=batch-2\t1\t%d ns/req\n", round[0], round[1])
	}
	ofMedians := one
	ofMedians.groups = slices.Clone(one.groups)
	ofMedians.groups[0].rows = slices.Clone(one.groups[0].rows)
	ofMedians.groups[0].rows[0].medians = true
	for want, of := range map[string]report{"0.8": one, "0.4": ofMedians} {
		files, _, err := build(resultsOf(t, map[string]string{"r.txt": lines}), of)
		require.NoError(t, err)
		assert.Contains(t, string(files[performancePaper.file]), "| w | impl=batch | "+want+" (0.1 to 0.9) | 40 ns, against 100 ns | none | - |")
	}
}

func TestResultsOfNoCommitAreSaid(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "r.txt"), []byte("cpu: c\ngo: g\ncommit: 1-dirty\nBenchmarkA-2 1 5 ns/req\n"), 0o600))
	_, notes, err := build(dir, report{})
	require.NoError(t, err)
	assert.Contains(t, notes, "r.txt: commit 1-dirty is not in the repository")
}

func TestCheckFindsWhatIsStale(t *testing.T) {
	files, _, err := build(sampleResults, sample)
	require.NoError(t, err)
	docs := t.TempDir()
	require.NoError(t, write(docs, files))
	require.NoError(t, compare(docs, files))

	path := filepath.Join(docs, "plots", "split.svg")
	for name, spoil := range map[string]func() error{
		"changed":    func() error { return os.WriteFile(path, append(files["plots/split.svg"], ' '), 0o600) },
		"missing":    func() error { return os.Remove(path) },
		"of no plot": func() error { return os.WriteFile(filepath.Join(docs, "plots", "old.svg"), nil, 0o600) },
	} {
		require.NoError(t, spoil(), name)
		require.Error(t, compare(docs, files), name)
		require.NoError(t, write(docs, files), name)
		require.NoError(t, compare(docs, files), "%s: written again", name)
	}
}

func TestNumbersHaveThreeDigits(t *testing.T) {
	for f, want := range map[float64]string{
		0: "0", 0.22549: "0.225", 0.5: "0.5", 2.5: "2.5", 9.996: "10", 12.34: "12.3", 1234.5: "1,234", 1234567: "1,234,567", 0.000591: "0.000591", -1234: "-1,234",
	} {
		assert.Equal(t, want, number(f))
	}
}

func TestBarsAreMetUpToTheLimit(t *testing.T) {
	assert.True(t, atMost(2).met(2))
	assert.False(t, atMost(2).met(2.01))
	assert.True(t, atLeast(2).met(2))
	assert.False(t, atLeast(2).met(1.99))
}

// contrast on the page on which a color is shown, after WCAG 2: text and what is as thin needs more.
const (
	textContrast    = 4.5
	graphicContrast = 3
)

func TestColorsCanBeSeenOnLightAndDark(t *testing.T) {
	assert.InDelta(t, 21, contrast("#FFFFFF", "#000000"), 0.01)
	assert.InDelta(t, 4.54, contrast("#FFFFFF", "#767676"), 0.01, "a known pair")
	require.Equal(t, shade{"#FFFFFF", "#0D1117"}, background, "the two pages")
	check := func(name string, s shade, least float64) {
		t.Helper()
		assert.GreaterOrEqual(t, contrast(s.light, background.light), least, "%s on a light page", name)
		assert.GreaterOrEqual(t, contrast(s.dark, background.dark), least, "%s on a dark page", name)
	}
	check("text", ink, textContrast)
	for name, s := range styles {
		check(name, s.shade, graphicContrast)
	}
	for i, s := range spare {
		check(fmt.Sprintf("spare %d", i), s.shade, graphicContrast)
	}
}

// TestSeriesDifferWithoutColor: two that have the same marker or the same dashes would be one for
// whoever does not see colors.
func TestSeriesDifferWithoutColor(t *testing.T) {
	named := slices.Collect(maps.Values(styles))
	for _, set := range [][]style{named, spare} {
		markers, lines := map[string]bool{}, map[string]bool{}
		for _, s := range set {
			markers[fmt.Sprintf("%T %v", s.marker, s.marker)] = true
			lines[fmt.Sprint(s.dashes)] = true
		}
		assert.Len(t, markers, len(set), "markers")
		assert.Len(t, lines, len(set), "dashes")
	}
	light := map[string]bool{} // a color is replaced wherever it is
	for _, s := range shades() {
		assert.False(t, light[s.light], "%s has two colors on a dark page", s.light)
		light[s.light] = true
	}
}

func TestPlotsAreSmallAndThemed(t *testing.T) {
	files, _, err := build(sampleResults, sample)
	require.NoError(t, err)
	plots := 0
	for name, content := range files {
		if filepath.Ext(name) != ".svg" {
			continue
		}
		plots++
		svg := string(content)
		assert.Less(t, len(svg), 60_000, name)
		assert.Contains(t, svg, "<text ", name)
		assert.NotContains(t, svg, "Liberation Sans;", "%s names a font of its own", name)
		_, drawn, _ := strings.Cut(svg, "</style>")
		for _, of := range svgColor.FindAllString(drawn, -1) {
			assert.Contains(t, svg, fmt.Sprintf("[style*=%q]{", of), "%s: no dark %s", name, of)
		}
		// What vgsvg leaves out is black, on any page.
		for _, text := range regexp.MustCompile(`(?s)<text .*?>`).FindAllString(drawn, -1) {
			assert.Contains(t, text, "fill:#", name)
		}
	}
	assert.Equal(t, 5, plots)
	_, err = themed([]byte(`<svg><path style="fill:#123456"/></svg>`), "", 1, 1)
	require.ErrorContains(t, err, "#123456 has no color for a dark page")
}
