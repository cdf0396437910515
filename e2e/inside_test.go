package e2e

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/boundedbatch/boundedbatchprocessor/e2e/internal/harness"
)

// insidePage is what these tests read of the JSON of the boundedbatchz extension.
type insidePage struct {
	ValuesShown bool              `json:"metadata_values_shown"`
	Processors  []insideProcessor `json:"processors"`
}

type insideProcessor struct {
	ID     string `json:"id"`
	Signal string `json:"signal"`
	Held   struct {
		Items    int64 `json:"items"`
		Capacity int64 `json:"capacity_items"`
		Pending  int64 `json:"pending"`
		Sealed   int64 `json:"sealed"`
		InFlight int64 `json:"in_flight"`
		Retrying int64 `json:"retrying"`
	} `json:"held"`
	Oldest  float64 `json:"oldest_seconds"`
	Waiting struct {
		Callers int64   `json:"callers"`
		Longest float64 `json:"longest_seconds"`
	} `json:"waiting"`
	Exports struct {
		UnderWay int64 `json:"under_way"`
		Most     int64 `json:"most"`
		Listed   []struct {
			Partition insideName `json:"partition"`
			Items     int64      `json:"items"`
			Trigger   string     `json:"trigger"`
			Running   float64    `json:"running_seconds"`
		} `json:"listed"`
	} `json:"exports"`
	Batches []struct {
		Trigger string `json:"trigger"`
		Count   int64  `json:"count"`
	} `json:"batches"`
	Partitions struct {
		Live       int64 `json:"live"`
		Remembered int   `json:"remembered"`
		Listed     []struct {
			Name        insideName `json:"partition"`
			Held        int64      `json:"held"`
			Oldest      float64    `json:"oldest_seconds"`
			Waiting     int64      `json:"waiting"`
			LongestWait float64    `json:"longest_wait_seconds"`
			Left        []string   `json:"last_triggers"`
		} `json:"listed"`
	} `json:"partitions"`
}

type insideName struct {
	Keys []struct {
		Key    string   `json:"key"`
		Values []string `json:"values"`
	} `json:"keys"`
}

func (n *insideName) value() string {
	if len(n.Keys) == 1 && len(n.Keys[0].Values) == 1 {
		return n.Keys[0].Values[0]
	}
	return fmt.Sprint(n.Keys)
}

// lookInside returns what the page says of the processor of a signal.
func lookInside(t *testing.T, col *harness.Collector, signal harness.Signal, query string) (one insideProcessor, shown bool) {
	t.Helper()
	text, err := col.Inside(t.Context(), "/json", query)
	require.NoError(t, err)
	var all insidePage
	require.NoError(t, json.Unmarshal([]byte(text), &all), text)
	for _, p := range all.Processors {
		if p.Signal == signal.Name() {
			require.Equal(t, "boundedbatch", p.ID)
			require.Empty(t, one.ID, "there is one of each signal")
			one = p
		}
	}
	require.NotEmpty(t, one.ID, text)
	return one, all.ValuesShown
}

// While the backend hangs, the page tells whose items are stuck since when, why their batches left, and who waits: the
// same as the metrics, which do not know tenants. It goes on after the Collector has been configured anew.
func TestPageAgreesWithMetricsWhileTheBackendHangs(t *testing.T) {
	for _, signal := range harness.Signals() {
		t.Run(signal.Name(), func(t *testing.T) {
			t.Parallel()
			backend := harness.NewBackend(t)
			backend.Hold()
			col := harness.Start(t, harness.Config{
				Backend: backend, Inside: true, ShowValues: true,
				Processor: "{metadata_keys: [x-tenant], send_batch_size: 100, queue_size: 500, max_concurrent_exports: 3, timeout: 100ms}",
			})
			var journal harness.Journal
			client := func(tenant string) []harness.Client {
				return []harness.Client{col.GRPC(t, harness.Header{"x-tenant": {tenant}})}
			}
			began := time.Now()
			for _, request := range []struct {
				tenant string
				items  int
			}{{"acme", 250}, {"zoo", 7}} {
				require.NoError(t, (<-callAll(t.Context(), client(request.tenant), signal, &journal, request.items)).err)
			}
			late := callAll(t.Context(), client("acme"), signal, &journal, 200)
			col.AwaitMetrics(t, func(s harness.Scrape) error {
				if waiting, flying := s.Sum(signal, "waiting_callers"), s.Sum(signal, "exports_in_flight"); waiting != 1 || flying != 2 {
					return fmt.Errorf("%d wait, %d exports are under way", waiting, flying)
				}
				return nil
			})
			metrics, err := col.Scrape(t.Context())
			require.NoError(t, err)
			sum := func(name string, label ...string) int64 { return max(0, metrics.Sum(signal, name, label...)) }

			page, shown := lookInside(t, col, signal, "")
			require.True(t, shown)
			held := page.Held
			require.Equal(t, sum("held_items"), held.Items)
			require.EqualValues(t, 257, held.Items)
			require.Equal(t, sum("capacity_items"), held.Capacity)
			for state, items := range map[string]int64{
				"pending": held.Pending, "sealed": held.Sealed, "in_flight": held.InFlight, "retrying": held.Retrying,
			} {
				require.Equal(t, sum("held_items", "state", state), items, state)
			}
			require.Equal(t, sum("waiting_callers"), page.Waiting.Callers)
			require.Equal(t, sum("exports_in_flight"), page.Exports.UnderWay)
			require.EqualValues(t, 3, page.Exports.Most)
			require.Equal(t, sum("live_partitions"), page.Partitions.Live)
			batches := int64(0)
			for _, b := range page.Batches {
				require.Equal(t, sum("batches", "trigger", b.Trigger), b.Count, b.Trigger)
				batches += b.Count
			}
			require.EqualValues(t, 2, batches)

			require.Len(t, page.Partitions.Listed, 2)
			acme, zoo := page.Partitions.Listed[0], page.Partitions.Listed[1]
			require.Equal(t, "acme", acme.Name.value())
			require.Equal(t, "zoo", zoo.Name.value())
			require.EqualValues(t, 250, acme.Held)
			require.EqualValues(t, 7, zoo.Held)
			require.Equal(t, []string{"size"}, acme.Left)
			require.Equal(t, []string{"timeout"}, zoo.Left)
			require.EqualValues(t, 1, acme.Waiting)
			require.Zero(t, zoo.Waiting)
			require.InDelta(t, acme.Oldest, page.Oldest, .0001)
			require.InDelta(t, acme.LongestWait, page.Waiting.Longest, .0001)
			require.Less(t, acme.LongestWait, acme.Oldest)
			require.GreaterOrEqual(t, acme.Oldest, zoo.Oldest)
			require.Len(t, page.Exports.Listed, 2)
			require.Equal(t, "acme", page.Exports.Listed[0].Partition.value(), "the one that runs the longest")
			require.EqualValues(t, 250, page.Exports.Listed[0].Items)

			// Nothing moves but the clock.
			again, _ := lookInside(t, col, signal, "sort=oldest&limit=1")
			require.Len(t, again.Partitions.Listed, 1)
			require.Equal(t, 2, again.Partitions.Remembered)
			require.Equal(t, "acme", again.Partitions.Listed[0].Name.value())
			for _, ages := range [][2]float64{
				{page.Oldest, again.Oldest},
				{page.Waiting.Longest, again.Waiting.Longest},
				{page.Exports.Listed[0].Running, again.Exports.Listed[0].Running},
			} {
				require.LessOrEqual(t, ages[0], ages[1])
				require.LessOrEqual(t, ages[1], time.Since(began).Seconds())
			}
			html, err := col.Inside(t.Context(), "", "")
			require.NoError(t, err)
			for _, text := range []string{"tenant=&#34;acme&#34;", "<strong>257</strong> of 500 items", "<strong>1</strong> caller"} {
				assert.Contains(t, html, text)
			}

			backend.Accept()
			require.NoError(t, (<-late).err)
			col.AwaitItems(t, 457, signal, "delivered_items")
			col.Reload(t)
			page, _ = lookInside(t, col, signal, "")
			require.Zero(t, page.Held.Items)
			for _, b := range page.Batches {
				require.Zero(t, b.Count, "of the new processor")
			}
			col.Stop(t)
		})
	}
}
