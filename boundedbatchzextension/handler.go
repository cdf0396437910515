package boundedbatchzextension

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
)

// Where the page is.
const (
	path     = "/debug/boundedbatchz"
	pathJSON = path + "/json"
)

// Limits of what a request can ask for.
const (
	defaultLimit = 50
	mostSeconds  = 3600 // between two refreshes
)

var orders = map[string]batcher.Order{"held": batcher.ByHeld, "oldest": batcher.ByOldest, "waiting": batcher.ByWaiting}

// asked is what the parameters of a request ask for.
type asked struct {
	Sort      string
	Limit     int // partitions, and exports, of each processor
	Processor int // its number; 0: all
	Refresh   int // seconds; 0: never
}

// with is the address of the page with one parameter changed.
func (a asked) with(name string, value any) string {
	q := url.Values{"sort": {a.Sort}, "limit": {strconv.Itoa(a.Limit)}}
	if a.Processor > 0 {
		q.Set("processor", strconv.Itoa(a.Processor))
	}
	if a.Refresh > 0 {
		q.Set("refresh", strconv.Itoa(a.Refresh))
	}
	if q.Set(name, fmt.Sprint(value)); q.Get(name) == "0" {
		q.Del(name)
	}
	return path + "?" + q.Encode()
}

// WithSort, WithLimit, WithProcessor and WithRefresh are links of the page.
func (a asked) WithSort(by string) string  { return a.with("sort", by) }
func (a asked) WithLimit(n int) string     { return a.with("limit", n) }
func (a asked) WithProcessor(n int) string { return a.with("processor", n) }
func (a asked) WithRefresh(s int) string   { return a.with("refresh", s) }

// JSON is the address of the same as JSON.
func (a asked) JSON() string {
	a.Refresh = 0
	return strings.Replace(a.with("", 0), path, pathJSON, 1)
}

// parse reads the parameters of a request. An error is for whoever sent it.
func parse(q url.Values) (a asked, err error) {
	a.Sort = "held"
	if s := q.Get("sort"); s != "" {
		if _, known := orders[s]; !known {
			return a, fmt.Errorf("sort: accepted are %s", strings.Join(slices.Sorted(maps.Keys(orders)), ", "))
		}
		a.Sort = s
	}
	for _, p := range []struct {
		name                  string
		to                    *int
		least, most, whenNone int
	}{
		{"limit", &a.Limit, 1, batcher.MostListed, defaultLimit},
		{"processor", &a.Processor, 1, 1 << 30, 0},
		{"refresh", &a.Refresh, 1, mostSeconds, 0},
	} {
		*p.to = p.whenNone
		if s := q.Get(p.name); s != "" {
			n, err := strconv.Atoi(s)
			if err != nil || n < p.least || n > p.most {
				return a, fmt.Errorf("%s: accepted are numbers from %d to %d", p.name, p.least, p.most)
			}
			*p.to = n
		}
	}
	return a, nil
}

// handler serves the page.
func (p *pages) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", http.RedirectHandler(path, http.StatusFound))
	mux.Handle("GET "+path, p.serve("text/html; charset=utf-8", render))
	mux.Handle("GET "+pathJSON, p.serve("application/json", func(to *bytes.Buffer, page *page) error {
		encoder := json.NewEncoder(to)
		encoder.SetIndent("", "  ")
		return encoder.Encode(page)
	}))
	return p.guard(mux)
}

// guard refuses what browsers send for others, and tells them not to.
func (p *pages) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", "default-src 'none'; img-src data:; style-src '"+styleHash+"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		if !p.isName(r.Host) {
			http.Error(w, "this page is not served under that name; accepted are localhost, addresses, and the host of endpoint", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// isName tells whether a Host header names this server. A page of somebody else whose name has been made to lead here
// (DNS rebinding) sends its own name; it could read what we answer.
func (p *pages) isName(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	own, _, _ := net.SplitHostPort(p.cfg.Endpoint)
	return strings.EqualFold(host, "localhost") || strings.EqualFold(host, own) || net.ParseIP(strings.Trim(host, "[]")) != nil
}

// serve answers with the page as write writes it.
func (p *pages) serve(contentType string, write func(*bytes.Buffer, *page) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		what, err := parse(r.URL.Query())
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		select {
		case p.busy <- struct{}{}:
			defer func() { <-p.busy }()
		default:
			w.Header().Set("Retry-After", "1")
			http.Error(w, fmt.Sprintf("%d pages are being made already", mostBusy), http.StatusServiceUnavailable)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), mostTime)
		defer cancel()
		var body bytes.Buffer
		all, err := p.look(ctx, what)
		if err == nil {
			err = write(&body, all)
		}
		if err != nil {
			http.Error(w, "the page could not be made: "+err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", contentType)
		_, _ = body.WriteTo(w) // who has gone needs no answer
	})
}
