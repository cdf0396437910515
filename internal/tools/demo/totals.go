package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// signalInfo says what a signal is called by those who count it.
type signalInfo struct {
	name         string // telemetrygen's command and its flag; the label `signal` of boundedbatch
	items        string // how the receiver's and the exporter's metrics end
	itemsPerUnit int    // items telemetrygen makes for each unit it is asked for
}

var (
	signals = []signalInfo{
		{name: "traces", items: "spans", itemsPerUnit: 2},
		{name: "logs", items: "log_records", itemsPerUnit: 1},
		{name: "metrics", items: "metric_points", itemsPerUnit: 1},
	}
	transports = []string{"grpc", "http"}
	// triggers in the order of the table; one that is not listed here is shown after these.
	triggers = []string{"size", "timeout", "idle", "pressure", "evicted", "shutdown"}
)

const prefix = "otelcol_processor_boundedbatch_"

// totals is what happened to each signal, in the order of signals.
type totals struct {
	perTransport float64 // items sent of each signal over each protocol
	signals      []signalTotals
}

type signalTotals struct {
	info         signalInfo
	perTransport float64

	received    map[string]float64 // by transport, as the receiver counts
	accepted    float64            // these down to capacity as boundedbatch counts
	delivered   float64
	failed      float64
	dropped     float64
	batches     map[string]float64 // by trigger
	held        float64            // in the last sample
	largestHeld float64            // of all samples
	capacity    float64
	exported    float64 // as the exporter counts
	exportFails float64
}

func newTotals(perTransport int) *totals {
	t := &totals{perTransport: float64(perTransport)}
	for _, info := range signals {
		t.signals = append(t.signals, signalTotals{info: info, perTransport: float64(perTransport)})
	}
	return t
}

// observe takes in one more scrape: counters replace those of the one before, the largest held is kept.
func (t *totals) observe(s scrape) {
	for i := range t.signals {
		t.signals[i].observe(s)
	}
}

func (t *signalTotals) observe(s scrape) {
	own := labels{"processor": "boundedbatch", "signal": t.info.name}
	t.received = s.by("otelcol_receiver_accepted_"+t.info.items, "transport", labels{"receiver": "otlp"})
	t.accepted = s.sum(prefix+"accepted_items", own)
	t.delivered = s.sum(prefix+"delivered_items", own)
	t.failed = s.sum(prefix+"failed_items", own)
	t.dropped = s.sum(prefix+"dropped_items", own)
	t.batches = s.by(prefix+"batches", "trigger", own)
	t.held = s.sum(prefix+"held_items", own)
	t.largestHeld = max(t.largestHeld, t.held)
	t.capacity = s.sum(prefix+"capacity_items", own)
	t.exported = s.sum("otelcol_exporter_sent_"+t.info.items, labels{"exporter": "debug"})
	t.exportFails = s.sum("otelcol_exporter_send_failed_"+t.info.items, labels{"exporter": "debug"})
}

func (t *signalTotals) sent() float64 { return t.perTransport * float64(len(transports)) }

func (t *signalTotals) batchCount() float64 {
	var n float64
	for _, count := range t.batches {
		n += count
	}
	return n
}

// settled reports whether nothing more can be expected: every account is complete. Until then it is worth waiting.
func (t *totals) settled() bool {
	for i := range t.signals {
		s := &t.signals[i]
		if s.exported < s.sent() || s.delivered < s.sent() || s.held > 0 {
			return false
		}
	}
	return true
}

// problems lists everything that is not as it should be, in words; none means that all is well. The sent count is what
// telemetrygen was asked for; everybody else's must equal it.
func (t *totals) problems() []string {
	var found []string
	for i := range t.signals {
		s := &t.signals[i]
		expect := func(got, want float64, who string) {
			if got != want {
				found = append(found, fmt.Sprintf("%s: %s %s items, expected %s", s.info.name, who, thousands(got), thousands(want)))
			}
		}
		for _, transport := range transports {
			expect(s.received[transport], s.perTransport, "the receiver accepted over "+transport)
		}
		expect(s.accepted, s.sent(), "boundedbatch accepted")
		expect(s.delivered, s.sent(), "boundedbatch delivered")
		expect(s.exported, s.sent(), "the exporter sent")
		expect(s.failed, 0, "boundedbatch failed to deliver")
		expect(s.dropped, 0, "boundedbatch dropped")
		expect(s.exportFails, 0, "the exporter failed to send")
		expect(s.held, 0, "boundedbatch still held at the end")
		if s.batchCount() == 0 {
			found = append(found, s.info.name+": boundedbatch counted no batch")
		}
		if s.capacity == 0 {
			found = append(found, s.info.name+": boundedbatch shows no capacity_items")
		} else if s.largestHeld > s.capacity {
			found = append(found, fmt.Sprintf("%s: boundedbatch held %s items, more than its capacity of %s",
				s.info.name, thousands(s.largestHeld), thousands(s.capacity)))
		}
	}
	return found
}

func (t *totals) progress() string {
	var b strings.Builder
	b.WriteString("delivered")
	for i := range t.signals {
		s := &t.signals[i]
		fmt.Fprintf(&b, "  %s %s (held %s)", s.info.name, thousands(s.delivered), thousands(s.held))
	}
	return b.String()
}

func printTable(w io.Writer, t *totals, took time.Duration) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "signal\titems sent\titems delivered\tbatches\tmean batch size\tlargest held\tof at most\t  batches by trigger")
	var delivered float64
	for i := range t.signals {
		s := &t.signals[i]
		delivered += s.exported
		mean := "-"
		if n := s.batchCount(); n > 0 {
			mean = thousands(s.delivered / n)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t  %s\n", s.info.name, thousands(s.sent()), thousands(s.exported),
			thousands(s.batchCount()), mean, thousands(s.largestHeld), thousands(s.capacity), byTrigger(s.batches))
	}
	table.Flush()
	fmt.Fprintf(w, "%s items in %s. Largest held is the largest of samples every %s: a peak between two is not seen.\n",
		thousands(delivered), took.Round(10*time.Millisecond), sampleInterval)
}

func byTrigger(batches map[string]float64) string {
	names := slices.Clone(triggers)
	for name := range batches {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names[len(triggers):])
	var parts []string
	for _, name := range names {
		if n := batches[name]; n > 0 {
			parts = append(parts, name+" "+thousands(n))
		}
	}
	return strings.Join(parts, ", ")
}

// thousands writes a count rounded to a whole number, with commas.
func thousands(count float64) string {
	digits := strconv.FormatFloat(count, 'f', 0, 64)
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return b.String()
}
