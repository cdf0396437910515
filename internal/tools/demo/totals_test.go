package main

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// exposition is what a collector shows that took 10 items of each signal over each protocol and delivered all of them,
// with counters named as the given suffix says.
func exposition(suffix string) string {
	var b strings.Builder
	for _, sig := range signals {
		for _, transport := range transports {
			fmt.Fprintf(&b, "otelcol_receiver_accepted_%s%s{receiver=\"otlp\",transport=%q} 10\n", sig.items, suffix, transport)
		}
		fmt.Fprintf(&b, "otelcol_exporter_sent_%s%s{exporter=\"debug\"} 20\n", sig.items, suffix)
	}
	for _, series := range []string{
		`accepted_items%[1]s{processor="boundedbatch",signal=%[2]q} 20`,
		`accepted_items%[1]s{processor="boundedbatch/other",signal=%[2]q} 7`,
		`delivered_items%[1]s{processor="boundedbatch",signal=%[2]q} 20`,
		`failed_items%[1]s{processor="boundedbatch",signal=%[2]q,cause="permanent"} 0`,
		`batches%[1]s{processor="boundedbatch",signal=%[2]q,trigger="size"} 1`,
		`batches%[1]s{processor="boundedbatch",signal=%[2]q,trigger="timeout"} 4`,
		`held_items{processor="boundedbatch",signal=%[2]q,state="pending"} 0`,
		`held_items{processor="boundedbatch",signal=%[2]q,state="in_flight"} 0`,
		`capacity_items{processor="boundedbatch",signal=%[2]q} 16`,
	} {
		for _, sig := range signals {
			fmt.Fprintf(&b, prefix+series+"\n", suffix, sig.name)
		}
	}
	return b.String()
}

func observed(t *testing.T, expositions ...string) *totals {
	t.Helper()
	totals := newTotals(10)
	for _, text := range expositions {
		s, err := parseScrape(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		totals.observe(s)
	}
	return totals
}

func TestAllDeliveredIsNoProblem(t *testing.T) {
	for _, suffix := range []string{"", "_total"} {
		totals := observed(t, exposition(suffix))
		if p := totals.problems(); len(p) > 0 {
			t.Errorf("suffix %q: %q", suffix, p)
		}
		if !totals.settled() {
			t.Errorf("suffix %q: not settled", suffix)
		}
	}
}

// Every account that differs must be a problem by itself: whichever of them is wrong, the demo fails.
func TestEachWrongAccountIsAProblem(t *testing.T) {
	for _, tt := range []struct{ name, was, is, problem string }{
		{
			"lost before the receiver", `accepted_spans{receiver="otlp",transport="http"} 10`,
			`accepted_spans{receiver="otlp",transport="http"} 9`, "traces: the receiver accepted over http 9 items, expected 10",
		},
		{
			"not accepted", `accepted_items{processor="boundedbatch",signal="logs"} 20`,
			`accepted_items{processor="boundedbatch",signal="logs"} 19`, "logs: boundedbatch accepted 19 items, expected 20",
		},
		{
			"not delivered", `delivered_items{processor="boundedbatch",signal="logs"} 20`,
			`delivered_items{processor="boundedbatch",signal="logs"} 19`, "logs: boundedbatch delivered 19 items, expected 20",
		},
		{
			"delivered twice", `sent_metric_points{exporter="debug"} 20`, `sent_metric_points{exporter="debug"} 21`,
			"metrics: the exporter sent 21 items, expected 20",
		},
		{
			"failed", `signal="traces",cause="permanent"} 0`, `signal="traces",cause="permanent"} 2`,
			"traces: boundedbatch failed to deliver 2 items, expected 0",
		},
		{
			"held for ever", `signal="logs",state="in_flight"} 0`, `signal="logs",state="in_flight"} 3`,
			"logs: boundedbatch still held at the end 3 items, expected 0",
		},
		{
			"no bound shown", `capacity_items{processor="boundedbatch",signal="logs"} 16`,
			`capacity_items{processor="boundedbatch",signal="logs"} 0`, "logs: boundedbatch shows no capacity_items",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text := exposition("")
			wrong := strings.Replace(text, tt.was, tt.is, 1)
			if wrong == text {
				t.Fatalf("nothing to replace: %s", tt.was)
			}
			got := observed(t, wrong).problems()
			if len(got) != 1 || got[0] != tt.problem {
				t.Errorf("got %q, want %q", got, tt.problem)
			}
		})
	}
}

func TestAnEmptyEndpointIsAProblemForEverySignal(t *testing.T) {
	all := strings.Join(observed(t, "").problems(), "\n")
	for _, sig := range signals {
		if !strings.Contains(all, sig.name+": boundedbatch counted no batch") {
			t.Errorf("%s missing from:\n%s", sig.name, all)
		}
	}
}

func TestABoundExceededInAnySampleIsAProblem(t *testing.T) {
	over := strings.Replace(exposition(""), `signal="logs",state="pending"} 0`, `signal="logs",state="pending"} 17`, 1)
	got := observed(t, over, exposition("")).problems()
	want := "logs: boundedbatch held 17 items, more than its capacity of 16"
	if len(got) != 1 || got[0] != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestTableHasEveryNumber(t *testing.T) {
	var b strings.Builder
	printTable(&b, observed(t, exposition("")), 1500*time.Millisecond)
	lines := strings.Split(b.String(), "\n")
	got := strings.Join(strings.Fields(lines[1]), " ")
	if want := "traces 20 20 5 4 0 16 size 1, timeout 4"; got != want {
		t.Errorf("got %q, want %q in:\n%s", got, want, b.String())
	}
}

func TestThousands(t *testing.T) {
	for count, want := range map[float64]string{0: "0", 999: "999", 1000: "1,000", 98304: "98,304", 1234567.6: "1,234,568"} {
		if got := thousands(count); got != want {
			t.Errorf("thousands(%v) = %q, want %q", count, got, want)
		}
	}
}
