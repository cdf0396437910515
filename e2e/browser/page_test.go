package browser

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/boundedbatch/boundedbatchprocessor/e2e/internal/harness"
)

// hostile is the name of a tenant.
const hostile = `<img src=x onerror=alert(1)><script>alert(2)</script>`

// stuck starts a collector in which the items of some tenants do not move any more: the backend does not answer for them. One
// export has failed before.
func stuck(t *testing.T) *harness.Collector {
	t.Helper()
	backend := harness.NewBackend(t)
	col := harness.Start(t, harness.Config{
		Backend: backend, Inside: true, ShowValues: true,
		Processor: "{metadata_keys: [x-tenant], send_batch_size: 200, queue_size: 4000, memory_limit: 64MiB, timeout: 100ms, max_concurrent_exports: 8}",
	})
	var journals [2]harness.Journal
	signals := []harness.Signal{harness.Logs, harness.Traces}
	send := func(signal int, tenant string, items int) error {
		client := col.GRPC(t, harness.Header{"x-tenant": {tenant}})
		return client.Send(t.Context(), signals[signal], journals[signal].Take(items))
	}
	backend.Refuse(status.Error(codes.InvalidArgument, "field \"severity\" is <unknown>"))
	require.NoError(t, send(0, "globex", 200))
	col.AwaitItems(t, 200, harness.Logs, "failed_items")
	backend.Accept()
	for _, tenant := range []string{"hooli", "umbrella", "hooli", "stark"} {
		require.NoError(t, send(0, tenant, 210))
		require.NoError(t, send(1, tenant, 40))
	}
	col.AwaitItems(t, 840, harness.Logs, "delivered_items")
	col.AwaitItems(t, 160, harness.Traces, "delivered_items")
	backend.HoldAll()
	for signal := range signals {
		for i, tenant := range []string{"acme", "initech", hostile, "acme", "wayne"} {
			require.NoError(t, send(signal, tenant, []int{900, 420, 35, 260, 12}[i]))
		}
		go func() { _ = send(signal, "acme", 2500) }() // waits for room until the collector ends
	}
	col.AwaitMetrics(t, func(s harness.Scrape) error {
		for _, signal := range signals {
			waiting, pending := s.Sum(signal, "waiting_callers"), s.Sum(signal, "held_items", "state", "pending")
			if waiting != 1 || pending != 0 {
				return fmt.Errorf("%d wait, %d items are pending", waiting, pending)
			}
		}
		return nil
	})
	return col
}

func TestPageInABrowser(t *testing.T) {
	col := stuck(t)
	b := open(t)
	url := fmt.Sprintf("http://%s/debug/boundedbatchz", col.InsideAddress())

	b.visit(url)
	require.Equal(t, "boundedbatch: what is held", eval[string](b, "document.title"))
	var all struct {
		Processors []struct {
			Partitions struct {
				Listed []struct {
					Partition struct {
						Keys []struct {
							Values []string `json:"values"`
						} `json:"keys"`
					} `json:"partition"`
					Held int `json:"held"`
				} `json:"listed"`
			} `json:"partitions"`
		} `json:"processors"`
	}
	text, err := col.Inside(t.Context(), "/json", "")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal([]byte(text), &all))
	var names, held []string
	for _, p := range all.Processors {
		for _, row := range p.Partitions.Listed {
			names = append(names, fmt.Sprintf("x-tenant=%q", row.Partition.Keys[0].Values[0]))
			held = append(held, thousands(row.Held))
		}
	}
	require.Len(t, names, 8, "four tenants of two signals")
	require.Equal(t, names, column(b.rows("partitions"), 0), "what is shown is what is said")
	require.Equal(t, held, column(b.rows("partitions"), 1))
	require.Contains(t, names, fmt.Sprintf("x-tenant=%q", hostile))
	require.Equal(t, 0, eval[int](b, "document.querySelectorAll('img, script').length"), "a name is a text")
	require.NotEmpty(t, b.rows("exports"))
	require.NotEmpty(t, b.rows("recent"))
	body := eval[string](b, "document.body.innerText")
	for _, part := range []string{
		"boundedbatch logs", "boundedbatch traces", "1,627 of 4,000 items", "0 pending, ", "1 caller", "field \"severity\" is <unknown>",
		`items of x-tenant="globex": permanent; they were given up`,
	} {
		require.Contains(t, body, part)
	}

	// Links: another order, fewer rows, one processor, JSON.
	b.follow(`table.partitions th:nth-child(8) a`)
	require.Equal(t, "Oldest", eval[string](b, `document.querySelector("th[aria-sort]").innerText`))
	for _, table := range [][][]string{b.rows("partitions")[:4], b.rows("partitions")[4:]} {
		ages := column(table, 7)
		require.True(t, slices.IsSortedFunc(ages, func(x, y string) int { return -compareAges(t, x, y) }), "%v", ages)
	}
	b.follow(`section:has(table.partitions tbody tr) h2 a`)
	require.Len(t, b.rows("partitions"), 4, "of one processor")
	require.Contains(t, eval[string](b, "location.search"), "sort=oldest", "a link changes one thing")
	b.visit(url + "?limit=2")
	require.Len(t, b.rows("partitions"), 4, "two of each processor")
	require.Contains(t, eval[string](b, "document.body.innerText"), "2 of 4 that hold something")
	b.follow(`nav > a:last-child`)
	require.True(t, json.Valid([]byte(eval[string](b, "document.body.innerText"))))

	for _, scheme := range []string{"light", "dark"} {
		b.prefer(scheme)
		b.visit(url)
		ground := eval[string](b, "getComputedStyle(document.body).backgroundColor")
		require.Equal(t, scheme == "dark", luminance(t, ground) < .2, ground)
		for what, least := range map[string]float64{"body": 7, "td": 7, "a": 4.5, "th": 4.5, "dt": 4.5, ".none": 4.5, ".failure code": 4.5} {
			color := eval[string](b, fmt.Sprintf("getComputedStyle(document.querySelector(%q)).color", what))
			assert.GreaterOrEqual(t, contrast(t, color, ground), least, "%s on %s is %s in %s", color, ground, what, scheme)
		}
	}
	for _, width := range []int64{400, 800, 1280} {
		b.run(chromedp.EmulateViewport(width, 900))
		b.visit(url)
		require.Equal(t, width, eval[int64](b, "document.documentElement.scrollWidth"), "nothing but tables has to be moved sideways")
	}
	if *screenshot != "" {
		b.prefer("light")
		b.visit(url + "?processor=" + fmt.Sprint(eval[int](b, `+[...document.querySelectorAll("section")].find(s => s.innerText.startsWith("boundedbatch logs")).id.slice(1)`)))
		var picture []byte
		b.run(emulation.SetDeviceMetricsOverride(1280, 900, 1, false), chromedp.FullScreenshot(&picture, 100))
		require.NoError(t, os.WriteFile(*screenshot, picture, 0o644)) //nolint:gosec // for everybody to see
	}

	// It loads itself again, if that is asked for.
	taken := func() string { return eval[string](b, `document.querySelector("nav span").innerText`) }
	b.visit(url + "?refresh=2")
	first := taken()
	b.awaitPage()
	require.NotEqual(t, first, taken())
	b.sound()
}

func column(rows [][]string, at int) (cells []string) {
	for _, r := range rows {
		cells = append(cells, r[at])
	}
	return cells
}

func thousands(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%d,%03d", n/1000, n%1000)
}

func compareAges(t *testing.T, x, y string) int {
	t.Helper()
	a, err := time.ParseDuration(x)
	require.NoError(t, err)
	b, err := time.ParseDuration(y)
	require.NoError(t, err)
	return int(a - b)
}

// luminance is the relative luminance of a colour as browsers compute it, by WCAG 2.
func luminance(t *testing.T, color string) float64 {
	t.Helper()
	var r, g, b float64
	_, err := fmt.Sscanf(strings.ReplaceAll(color, ",", ""), "rgb(%f %f %f)", &r, &g, &b)
	require.NoError(t, err, color)
	linear := func(c float64) float64 {
		if c /= 255; c <= .04045 {
			return c / 12.92
		}
		return math.Pow((c+.055)/1.055, 2.4)
	}
	return .2126*linear(r) + .7152*linear(g) + .0722*linear(b)
}

// contrast is the contrast ratio of two colours, from 1 to 21.
func contrast(t *testing.T, a, b string) float64 {
	t.Helper()
	x, y := luminance(t, a), luminance(t, b)
	return (max(x, y) + .05) / (min(x, y) + .05)
}
