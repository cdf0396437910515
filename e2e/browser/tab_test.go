package browser

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// tab is a browser with one page in it, and what went wrong there by its own account.
type tab struct {
	*testing.T
	ctx context.Context

	mu       sync.Mutex // guards what follows
	troubles []string
}

// enough is how long a test may take in the browser.
const enough = 2 * time.Minute

// open starts a browser, which ends with the test.
func open(t *testing.T) *tab {
	t.Helper()
	path, err := chromium()
	require.NoError(t, err)
	options := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(path), chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.UserDataDir(t.TempDir()), chromedp.WindowSize(1280, 900),
	}
	for _, flag := range []string{"disable-quic", "disable-background-networking", "disable-component-update", "disable-sync"} {
		options = append(options, chromedp.Flag(flag, true))
	}
	ctx, cancel := context.WithTimeout(context.Background(), enough)
	t.Cleanup(cancel)
	ctx, end := chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(end)
	ctx, closed := chromedp.NewContext(ctx)
	t.Cleanup(closed)
	b := &tab{T: t, ctx: ctx}
	chromedp.ListenTarget(ctx, b.hear)
	b.run(log.Enable(), network.Enable(), runtime.Enable())
	return b
}

// hear notes what a browser reports that is wrong.
func (b *tab) hear(event any) {
	var trouble string
	switch e := event.(type) {
	case *log.EventEntryAdded:
		trouble = fmt.Sprintf("%s: %s", e.Entry.Level, e.Entry.Text)
	case *runtime.EventConsoleAPICalled:
		trouble = fmt.Sprintf("console %s", e.Type)
	case *runtime.EventExceptionThrown:
		trouble = e.ExceptionDetails.Error()
	case *network.EventLoadingFailed:
		trouble = "not loaded: " + e.ErrorText
	case *page.EventJavascriptDialogOpening:
		trouble = "dialog: " + e.Message
	default:
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.troubles = append(b.troubles, trouble)
}

// sound requires that nothing has gone wrong.
func (b *tab) sound() {
	b.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	require.Empty(b, b.troubles)
}

func (b *tab) run(actions ...chromedp.Action) {
	b.Helper()
	require.NoError(b, chromedp.Run(b.ctx, actions...))
}

// prefer has the browser ask for light or dark.
func (b *tab) prefer(scheme string) {
	b.Helper()
	b.run(emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}))
}

// visit loads an address.
func (b *tab) visit(url string) {
	b.Helper()
	b.run(chromedp.Navigate(url))
}

// eval returns what a piece of script says of the page. It is the browser's, not the page's, which permits none.
func eval[R any](b *tab, script string) (result R) {
	b.Helper()
	b.run(chromedp.Evaluate(script, &result))
	return result
}

// rows returns the texts of the cells of the tables with that class, row by row.
func (b *tab) rows(class string) [][]string {
	b.Helper()
	return eval[[][]string](b, fmt.Sprintf(
		`[...document.querySelectorAll("table.%s tbody tr")].map(tr => [...tr.cells].map(td => td.innerText.trim()))`, class))
}

// follow clicks on a link and waits for the page behind it.
func (b *tab) follow(selector string) {
	b.Helper()
	b.awaitPage(chromedp.Click(selector, chromedp.ByQuery))
}

// awaitPage waits for the next page, which the actions lead to, or nothing but time does.
func (b *tab) awaitPage(actions ...chromedp.Action) {
	b.Helper()
	response, err := chromedp.RunResponse(b.ctx, actions...)
	require.NoError(b, err)
	require.EqualValues(b, http.StatusOK, response.Status)
}
