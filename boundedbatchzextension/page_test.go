package boundedbatchzextension

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/boundedbatch/boundedbatchprocessor"
)

func TestPageShowsWhatProcessorsHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCollector(true)
		require.Contains(t, c.get(path).Body.String(), "No boundedbatch processor is running")
		require.Empty(t, c.page(t, "").Processors)

		hold := make(chan error)
		small := func(cfg *boundedbatchprocessor.Config) {
			cfg.SendBatchSize, cfg.QueueSize, cfg.MaxConcurrentExports, cfg.Timeout, cfg.MemoryLimit = 100, 200, 2, time.Second, 1<<20
		}
		p := c.start(t, "slow", small, func(context.Context, plog.Logs) error { return <-hold })
		require.NoError(t, p.ConsumeLogs(of("a"), logs(100)))
		time.Sleep(300 * time.Millisecond)
		require.NoError(t, p.ConsumeLogs(of("b"), logs(7)))
		go func() { assert.NoError(t, p.ConsumeLogs(of("a"), logs(90))) }()
		time.Sleep(400 * time.Millisecond)

		all := c.page(t, "")
		require.True(t, all.ValuesShown)
		require.Len(t, all.Processors, 1)
		one := all.Processors[0]
		require.Equal(t, "boundedbatch/slow", one.ID)
		require.Equal(t, "logs", one.Signal)
		require.False(t, one.ShuttingDown)
		require.Equal(t, seconds(700*time.Millisecond), one.Oldest)
		require.Equal(t, waiting{1, seconds(400 * time.Millisecond)}, one.Waiting)
		require.Nil(t, one.LastFailure)
		a := name{Keys: []keyValues{{Key: "tenant", Set: true, Values: []string{"a"}}}}
		b := name{Keys: []keyValues{{Key: "tenant", Set: true, Values: []string{"b"}}}}
		require.Equal(t, exports{1, 2, []export{{a, 100, "size", seconds(700 * time.Millisecond), seconds(700 * time.Millisecond), false}}}, one.Exports)
		require.Equal(t, []departure{{a, "size", 100, seconds(700 * time.Millisecond), 0}}, one.Recent)
		require.Positive(t, one.Held.Bytes)
		require.EqualValues(t, 1<<20, one.Held.CapacityBytes)
		one.Held.Bytes, one.Held.CapacityBytes = 0, 0
		require.Equal(t, held{Items: 107, Capacity: 200, Pending: 7, InFlight: 100}, one.Held)
		require.Equal(t, []triggered{{"size", 1}, {"timeout", 0}, {"idle", 0}, {"pressure", 0}, {"evicted", 0}, {"shutdown", 0}}, one.Batches)
		require.EqualValues(t, 1, one.Partitions.Live)
		require.Equal(t, 2, one.Partitions.Remembered)
		for i := range one.Partitions.Listed {
			require.Positive(t, one.Partitions.Listed[i].Bytes)
			one.Partitions.Listed[i].Bytes = 0
		}
		require.Equal(t, []partition{
			{
				Name: a, Held: 100, InFlight: 100, Oldest: seconds(700 * time.Millisecond), Exports: 1,
				Waiting: 1, LongestWait: seconds(400 * time.Millisecond), Left: []string{"size"},
			},
			{Name: b, Held: 7, Pending: 7, Oldest: seconds(400 * time.Millisecond), Left: []string{}},
		}, one.Partitions.Listed)

		html := c.get(path).Body.String()
		for _, text := range []string{
			"boundedbatch/slow</a> logs", "<strong>107</strong> of 200 items", "7 pending, 0 sealed, 100 in flight, 0 retrying", "<strong>700ms</strong>",
			"<strong>1</strong> caller", "the longest for 400ms", "tenant=&#34;a&#34;", "1 for 400ms", "2 of 2 that hold something", "size 1",
		} {
			require.Contains(t, html, text)
		}
		require.NotContains(t, html, "Last failed export")

		hold <- errors.New(`told: <b>"no"</b>` + "\x1b")
		synctest.Wait()
		one = c.page(t, "").Processors[0]
		require.Equal(t, &failure{a, "retryable", "failed", 100, 0, `told: <b>"no"</b>` + "\x1b"}, one.LastFailure)
		require.Contains(t, c.get(path).Body.String(), `told: &lt;b&gt;&#34;no&#34;&lt;/b&gt;\x1b`)
		close(hold)
		time.Sleep(time.Minute)
		require.Equal(t, seconds(time.Minute), c.page(t, "").Processors[0].LastFailure.Ago)
		require.NoError(t, p.Shutdown(t.Context()))
		require.Empty(t, c.page(t, "").Processors)
	})
}

// What a shutdown waits for can be seen. Then the processor is gone, and others are still there.
func TestPageShowsAProcessorUntilItsShutdownIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, other := newCollector(false), newCollector(false) // two Collectors in one process
		hold := make(chan error)
		p := c.start(t, "1", nil, func(context.Context, plog.Logs) error { return <-hold })
		stays := c.start(t, "2", nil, func(context.Context, plog.Logs) error { return nil })
		elsewhere := other.start(t, "3", nil, func(context.Context, plog.Logs) error { return nil })
		require.Len(t, c.page(t, "").Processors, 2)
		require.Len(t, other.page(t, "").Processors, 1)
		require.Equal(t, "boundedbatch/2", c.page(t, "?processor=2").Processors[0].ID)
		require.Empty(t, c.page(t, "?processor=3").Processors)

		require.NoError(t, p.ConsumeLogs(of("a"), logs(1)))
		over := make(chan error)
		go func() { over <- p.Shutdown(context.Background()) }()
		synctest.Wait()
		one := c.page(t, "?processor=1").Processors[0]
		require.True(t, one.ShuttingDown)
		require.EqualValues(t, 1, one.Held.InFlight)
		require.Contains(t, c.get(path).Body.String(), "shutting down")
		close(hold)
		require.NoError(t, <-over)
		all := c.page(t, "").Processors
		require.Len(t, all, 1)
		require.Equal(t, 2, all[0].Number, "a number is not given away again")
		require.NoError(t, p.Shutdown(t.Context()), "again")
		require.NoError(t, stays.Shutdown(t.Context()))
		require.NoError(t, elsewhere.Shutdown(t.Context()))
		require.Empty(t, other.page(t, "").Processors)
	})
}

func TestValuesAreMaskedUnlessConfigured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		masks := func(c *collector) (all []string) {
			p := c.start(t, "", nil, func(context.Context, plog.Logs) error { return nil })
			for i, who := range []string{"secret-1", "secret-2"} {
				require.NoError(t, p.ConsumeLogs(of(who), logs(2-i)))
			}
			for _, url := range []string{path, pathJSON} {
				body := c.get(url).Body.String()
				require.Equal(t, c.pages.cfg.ShowMetadataValues, strings.Contains(body, "secret"), url)
			}
			for range 2 {
				all = nil
				for _, row := range c.page(t, "").Processors[0].Partitions.Listed {
					all = append(all, row.Name.Keys[0].Values...)
				}
			}
			require.NoError(t, p.Shutdown(t.Context()))
			return all
		}
		require.Equal(t, []string{"secret-1", "secret-2"}, masks(newCollector(true)))
		c := newCollector(false)
		first := masks(c)
		require.Regexp(t, "^#[0-9a-f]{12}$", first[0])
		require.NotEqual(t, first[0], first[1])
		require.Equal(t, first, masks(c), "the same value, the same mask")
		require.NotEqual(t, first, masks(newCollector(false)), "which nobody can compute elsewhere")
	})
}

func TestHostileValuesAreEscapedAndCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		attack := "</td><script>alert(1)</script>\x00\x1b[31m\u202e\"='\xff\r\n"
		for _, value := range []string{attack, attack + strings.Repeat("<i>é\x00", 200_000), strings.Repeat("é", 60), strings.Repeat("\xa9", 1000)} {
			for _, shown := range []bool{true, false} {
				c := newCollector(shown)
				p := c.start(t, "", nil, func(context.Context, plog.Logs) error { return errors.New(value) })
				require.NoError(t, p.ConsumeLogs(of(value), logs(1)))
				time.Sleep(time.Second)
				require.NoError(t, p.ConsumeLogs(of(value), logs(1)))
				for _, url := range []string{path, pathJSON} {
					body := c.get(url).Body.String()
					require.Less(t, len(body), 40_000, url)
					require.NotContains(t, body, "<script")
					require.NotContains(t, body, "<i>")
					require.True(t, url == pathJSON || !strings.ContainsFunc(body, func(r rune) bool {
						return r != '\n' && !unicode.IsPrint(r) || r == unicode.ReplacementChar
					}), "%s has what cannot be printed", url)
				}
				if len(value) > mostValue && shown {
					require.Contains(t, c.page(t, "").Processors[0].Partitions.Listed[0].Name.Keys[0].Values[0], fmt.Sprintf("... (%d bytes)", len(value)))
				}
				_ = p.Shutdown(t.Context()) // what fails meanwhile is its error
			}
		}
	})
}

// A name cannot look like another one, or like two.
func TestNamesAreUnambiguous(t *testing.T) {
	shown := func(values ...string) name { return name{Keys: []keyValues{{"tenant", true, values, 0, true}}} }
	require.Equal(t, `tenant="a\", user=\"b"`, shown(`a", user="b`).String())
	require.Equal(t, `tenant="a","b"`, shown("a", "b").String())
	require.Equal(t, `tenant=""`, shown("").String())
	require.Equal(t, `tenant=`, shown().String())
	require.Equal(t, `tenant unset`, name{Keys: []keyValues{{Key: "tenant"}}}.String())
	require.Equal(t, `tenant=#1 and 3 more`, name{Keys: []keyValues{{"tenant", true, []string{"#1"}, 3, false}}}.String())
	require.Equal(t, "(all)", name{}.String())
	require.Equal(t, "(a name too long to be kept)", name{Omitted: true}.String())
}

func TestManyTenantsAreListedAsFarAsAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCollector(true)
		p := c.start(t, "", func(cfg *boundedbatchprocessor.Config) {
			cfg.MetadataCardinalityLimit, cfg.Timeout = 0, time.Hour
		}, func(context.Context, plog.Logs) error { return nil })
		for i := range 10_000 {
			require.NoError(t, p.ConsumeLogs(of(fmt.Sprintf("%05d", i)), logs(1+i%3)))
			time.Sleep(time.Millisecond)
		}
		for _, q := range []struct {
			query, first string
			listed       int
		}{
			{"", "00002", defaultLimit},
			{"?limit=1000", "00002", 1000},
			{"?limit=3&sort=oldest", "00000", 3},
			{"?limit=1&sort=waiting&refresh=5", "00002", 1},
		} {
			set := c.page(t, q.query).Processors[0].Partitions
			require.Len(t, set.Listed, q.listed, q.query)
			require.Equal(t, 10_000, set.Remembered)
			require.Equal(t, []string{q.first}, set.Listed[0].Name.Keys[0].Values, q.query)
		}
		html := c.get(path + "?limit=200&sort=oldest&refresh=2").Body.String()
		require.Equal(t, 200, strings.Count(html, `<tr><td class="name text">tenant=`))
		require.Contains(t, html, "200 of 10000 that hold something")
		require.Contains(t, html, `<meta http-equiv="refresh" content="2">`)
		require.Contains(t, html, `href="/debug/boundedbatchz?limit=200&amp;refresh=2&amp;sort=held"`)
		require.Contains(t, html, `href="/debug/boundedbatchz/json?limit=200&amp;sort=oldest"`)
		require.NoError(t, p.Shutdown(t.Context()))
	})
}

func TestPageWithoutKeysHasOnePartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCollector(false)
		p := c.start(t, "", func(cfg *boundedbatchprocessor.Config) { cfg.MetadataKeys = nil }, func(context.Context, plog.Logs) error { return nil })
		require.NoError(t, p.ConsumeLogs(t.Context(), logs(1)))
		require.Contains(t, c.get(path).Body.String(), `<td class="name text">(all)</td><td>1</td>`)
		time.Sleep(time.Hour)
		require.Contains(t, c.get(path).Body.String(), `<td class="name text">(all)</td><td>0</td>`)
		require.NoError(t, p.Shutdown(t.Context()))
	})
}

// While senders, tenants that come and go, and a shutdown are under way, each page is right in itself.
func TestPageIsRightWhileTrafficRunsConcurrentSafe(t *testing.T) {
	c := newCollector(true)
	var senders, lookers sync.WaitGroup
	done := make(chan struct{})
	for n := range 2 {
		p := c.start(t, fmt.Sprint(n), func(cfg *boundedbatchprocessor.Config) {
			cfg.SendBatchSize, cfg.QueueSize, cfg.Timeout, cfg.MetadataCardinalityLimit = 20, 400, time.Millisecond, 30
		}, func(context.Context, plog.Logs) error { return nil })
		senders.Go(func() {
			random := rand.New(rand.NewPCG(uint64(n), 1))
			for range 1000 {
				if err := p.ConsumeLogs(of(fmt.Sprint(random.IntN(60))), logs(1+random.IntN(10))); err != nil {
					t.Error(err)
				}
			}
			assert.NoError(t, p.Shutdown(context.Background()))
		})
	}
	for n := range 2 {
		lookers.Go(func() {
			for query := []string{"", "?sort=oldest&limit=7"}[n]; ; {
				for _, one := range c.page(t, query).Processors {
					h := one.Held
					ok := h.Items >= h.Pending+h.Sealed+h.InFlight+h.Retrying && h.Items <= 400 && one.Exports.UnderWay <= 10 && len(one.Exports.Listed) <= 10
					for _, row := range one.Partitions.Listed {
						ok = ok && row.Held >= row.Pending+row.Sealed+row.InFlight+row.Retrying && row.Held <= 400 && len(row.Name.Keys[0].Values) == 1
					}
					assert.True(t, ok, "%+v", one)
				}
				select {
				case <-done:
					return
				case <-time.After(time.Millisecond): // the senders are to get on
				}
			}
		})
	}
	senders.Wait()
	close(done)
	lookers.Wait()
	require.Empty(t, c.page(t, "").Processors)
}

// The style that is allowed is the one that is there, and there is nothing else to allow.
func TestPageBringsItsStyleAndNoScript(t *testing.T) {
	w := newCollector(false).get(path)
	require.Contains(t, w.Header().Get("Content-Security-Policy"), "style-src '"+styleHash+"'")
	_, style, _ := strings.Cut(w.Body.String(), "<style>")
	style, _, _ = strings.Cut(style, "</style>")
	require.Equal(t, styleText, style)
	require.NotContains(t, w.Body.String(), "<script")
	require.NotContains(t, pageText, "style=")
}

// docs/inside.md explains each field of the JSON.
func TestEveryFieldIsExplained(t *testing.T) {
	text, err := os.ReadFile("../docs/inside.md")
	require.NoError(t, err)
	_, says, _ := strings.Cut(string(text), "\n## What it says\n")
	explained := regexp.MustCompile("(?m)^\\| `([a-z_.\\[\\]]+)` \\|").FindAllStringSubmatch(says, -1)
	var have []string
	for _, e := range explained {
		have = append(have, e[1])
	}
	want := fields("", reflect.TypeFor[page]())
	slices.Sort(have)
	slices.Sort(want)
	require.Equal(t, want, have)
	cfg := createDefaultConfig().(*Config)
	for f, v := range reflect.ValueOf(*cfg).Fields() {
		require.Contains(t, string(text), fmt.Sprintf("\n| `%s` | %v | ", f.Tag.Get("mapstructure"), v))
	}
}

// fields lists the paths of what has no fields of its own. Names of partitions are explained once.
func fields(prefix string, of reflect.Type) (all []string) {
	for f := range of.Fields() {
		tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if tag == "" || tag == "-" {
			continue
		}
		at, kind := prefix+tag, f.Type
		if kind.Kind() == reflect.Slice {
			at, kind = at+"[]", kind.Elem()
		}
		if kind.Kind() == reflect.Pointer {
			kind = kind.Elem()
		}
		switch {
		case kind == reflect.TypeFor[name]() && prefix != "processors[].partitions.listed[].":
		case kind.Kind() == reflect.Struct && kind != reflect.TypeFor[time.Time]():
			all = append(all, fields(at+".", kind)...)
		default:
			all = append(all, at)
		}
	}
	return all
}

func TestNumbersAreReadable(t *testing.T) {
	for n, want := range map[any]string{0: "0", 999: "999", 1000: "1,000", int64(12345678): "12,345,678"} {
		require.Equal(t, want, count(n))
	}
	for n, want := range map[any]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", int64(5 << 30): "5.0 GiB", int64(3 << 50): "3072.0 TiB"} {
		require.Equal(t, want, size(n))
	}
	for d, want := range map[time.Duration]string{
		1234567 * time.Nanosecond: "1ms", 1234 * time.Millisecond: "1.2s", 61500 * time.Millisecond: "1m2s",
	} {
		require.Equal(t, want, seconds(d).String())
	}
	text, err := seconds(1234567890).MarshalJSON()
	require.NoError(t, err)
	require.Equal(t, "1.235", string(bytes.TrimSpace(text)))
	require.Equal(t, http.StatusOK, newCollector(false).get(path).Code)
}
