package boundedbatchzextension

import (
	"context"
	"fmt"
	"hash/maphash"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/boundedbatch/boundedbatchprocessor/batcher"
)

// page is what is shown, and with these names what is in the JSON. docs/inside.md says what each field means.
type page struct {
	Taken       time.Time   `json:"taken"`
	ValuesShown bool        `json:"metadata_values_shown"`
	Processors  []processor `json:"processors"`

	Asked asked `json:"-"`
}

type processor struct {
	Number       int          `json:"number"`
	ID           string       `json:"id"`
	Signal       string       `json:"signal"`
	ShuttingDown bool         `json:"shutting_down"`
	Held         held         `json:"held"`
	Oldest       seconds      `json:"oldest_seconds"`
	Waiting      waiting      `json:"waiting"`
	Exports      exports      `json:"exports"`
	Batches      []triggered  `json:"batches"`
	Recent       []departure  `json:"recent_batches"`
	LastFailure  *failure     `json:"last_failure"`
	Partitions   partitionSet `json:"partitions"`
}

// held counts items, but for the last two.
type held struct {
	Items         int64 `json:"items"`
	Capacity      int64 `json:"capacity_items"`
	Pending       int64 `json:"pending"`
	Sealed        int64 `json:"sealed"`
	InFlight      int64 `json:"in_flight"`
	Retrying      int64 `json:"retrying"`
	Bytes         int64 `json:"bytes,omitempty"`
	CapacityBytes int64 `json:"capacity_bytes,omitempty"`
}

type waiting struct {
	Callers int64   `json:"callers"`
	Longest seconds `json:"longest_seconds"`
}

type exports struct {
	UnderWay int64    `json:"under_way"`
	Most     int      `json:"most"`
	Listed   []export `json:"listed"`
}

type export struct {
	Partition name    `json:"partition"`
	Items     int     `json:"items"`
	Trigger   string  `json:"trigger"`
	Oldest    seconds `json:"oldest_seconds"`
	Running   seconds `json:"running_seconds"`
	Part      bool    `json:"part"`
}

// triggered is how many batches left for a reason since the start.
type triggered struct {
	Trigger string `json:"trigger"`
	Count   int64  `json:"count"`
}

type departure struct {
	Partition name    `json:"partition"`
	Trigger   string  `json:"trigger"`
	Items     int     `json:"items"`
	Ago       seconds `json:"ago_seconds"`
	Age       seconds `json:"oldest_seconds"`
}

type failure struct {
	Partition name    `json:"partition"`
	Cause     string  `json:"cause"`
	Fate      string  `json:"fate"`
	Items     int     `json:"items"`
	Ago       seconds `json:"ago_seconds"`
	Error     string  `json:"error"`
}

// Became tells what happened to the items.
func (f *failure) Became() string {
	switch f.Fate {
	case batcher.FateRetried.String():
		return "are sent again"
	case batcher.FateDivided.String():
		return "are sent again in parts"
	case batcher.FateDropped.String():
		return "were dropped, because the time for the shutdown was over"
	}
	return "were given up"
}

type partitionSet struct {
	Live       int64       `json:"live"`
	Remembered int         `json:"remembered"`
	Listed     []partition `json:"listed"`
}

type partition struct {
	Name            name     `json:"partition"`
	Held            int      `json:"held"`
	Pending         int      `json:"pending"`
	Sealed          int      `json:"sealed"`
	InFlight        int      `json:"in_flight"`
	Retrying        int      `json:"retrying"`
	Bytes           int      `json:"bytes,omitempty"`
	Oldest          seconds  `json:"oldest_seconds"`
	Exports         int      `json:"exports"`
	RetryingBatches int      `json:"retrying_batches"`
	Waiting         int      `json:"waiting"`
	LongestWait     seconds  `json:"longest_wait_seconds"`
	Left            []string `json:"last_triggers"`
}

// name is what the items of a partition have in common.
type name struct {
	Keys    []keyValues `json:"keys"`
	Omitted bool        `json:"omitted,omitempty"`
}

type keyValues struct {
	Key    string   `json:"key"`
	Set    bool     `json:"set"`
	Values []string `json:"values"`
	More   int      `json:"more_values,omitempty"`

	shown bool // Values are values, and not what stands for them
}

// list is the values on the page.
func (k *keyValues) list() string {
	if !k.shown {
		return strings.Join(k.Values, ",")
	}
	quoted := make([]string, len(k.Values))
	for i, v := range k.Values {
		quoted[i] = strconv.Quote(v)
	}
	return strings.Join(quoted, ",")
}

// String is the name on the page. What is in quotes is a value, escaped; what begins with # stands for one.
func (n name) String() string {
	switch {
	case n.Omitted:
		return "(a name too long to be kept)"
	case len(n.Keys) == 0:
		return "(all)"
	}
	var all []string
	for _, k := range n.Keys {
		switch key := printable(k.Key); {
		case !k.Set:
			all = append(all, key+" unset")
		case k.More > 0:
			all = append(all, fmt.Sprintf("%s=%s and %d more", key, k.list(), k.More))
		default:
			all = append(all, key+"="+k.list())
		}
	}
	return strings.Join(all, ", ")
}

// seconds is a duration that is written as a number of seconds.
type seconds time.Duration

// MarshalJSON implements json.Marshaler.
func (s seconds) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, "%.3f", time.Duration(s).Seconds()), nil
}

// String is how the page has it: with as many digits as matter.
func (s seconds) String() string {
	switch d := time.Duration(s); {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	default:
		return d.Round(time.Second).String()
	}
}

// look makes the page.
func (p *pages) look(ctx context.Context, what asked) (*page, error) {
	all := &page{Taken: time.Now(), ValuesShown: p.cfg.ShowMetadataValues, Processors: []processor{}, Asked: what}
	for _, s := range p.registered() {
		if what.Processor > 0 && what.Processor != s.number {
			continue
		}
		snapshot, err := s.Snapshot(ctx, batcher.Query{Order: orders[what.Sort], Partitions: what.Limit, Exports: what.Limit})
		if err != nil {
			return nil, err
		}
		all.Processors = append(all.Processors, p.processorOf(s, &snapshot))
	}
	return all, nil
}

func (p *pages) processorOf(s numbered, of *batcher.Snapshot) processor {
	st := &of.Stats
	all := processor{
		Number: s.number, ID: s.ID.String(), Signal: s.Signal, ShuttingDown: of.ShuttingDown,
		Held: held{
			Items: st.Held, Capacity: st.Capacity, Pending: st.Pending, Sealed: st.Sealed, InFlight: st.InFlight, Retrying: st.Retrying,
			Bytes: st.HeldBytes, CapacityBytes: st.CapacityBytes,
		},
		Oldest:  seconds(of.Oldest),
		Waiting: waiting{st.WaitingCallers, seconds(of.LongestWait)},
		Exports: exports{st.ExportsInFlight, s.MaxExports, []export{}},
		Recent:  []departure{},
		Partitions: partitionSet{
			Live: st.LivePartitions, Remembered: of.Remembered, Listed: []partition{},
		},
	}
	for why, n := range st.Batches {
		all.Batches = append(all.Batches, triggered{batcher.Trigger(why).String(), n})
	}
	for _, e := range of.Exports {
		all.Exports.Listed = append(all.Exports.Listed, export{
			p.nameOf(e.Name), e.Items, e.Trigger.String(), seconds(e.Age), seconds(e.Running), e.Part,
		})
	}
	for _, d := range of.Recent {
		all.Recent = append(all.Recent, departure{p.nameOf(d.Name), d.Trigger.String(), d.Items, seconds(d.Ago), seconds(d.Age)})
	}
	if f := of.LastFailure; f != nil {
		all.LastFailure = &failure{p.nameOf(f.Name), f.Cause.String(), f.Fate.String(), f.Items, seconds(f.Ago), f.Error}
	}
	for _, r := range of.Partitions {
		left := []string{}
		for _, why := range r.Left {
			left = append(left, why.String())
		}
		all.Partitions.Listed = append(all.Partitions.Listed, partition{
			Name: p.nameOf(r.Name), Held: r.Held, Pending: r.Pending, Sealed: r.Sealed, InFlight: r.InFlight, Retrying: r.Retrying,
			Bytes: r.HeldBytes, Oldest: seconds(r.Oldest), Exports: r.Exports, RetryingBatches: r.RetryingBatches,
			Waiting: r.Waiting, LongestWait: seconds(r.LongestWait), Left: left,
		})
	}
	return all
}

func (p *pages) nameOf(n batcher.Name) name {
	to := name{Omitted: n.Omitted, Keys: []keyValues{}}
	for _, k := range n.Keys {
		values := []string{}
		for _, v := range k.Values {
			values = append(values, p.show(v))
		}
		to.Keys = append(to.Keys, keyValues{k.Key, k.Set, values, k.More, p.cfg.ShowMetadataValues})
	}
	return to
}

// mostValue is how many bytes of a value are shown.
const mostValue = 100

// show is a value as it is shown, not too long; or what stands for it. That is made with a secret that lasts as long as
// the extension: nobody can find out the value by trying.
func (p *pages) show(value string) string {
	if !p.cfg.ShowMetadataValues {
		return fmt.Sprintf("#%012x", maphash.String(p.seed, value)>>16)
	}
	if len(value) <= mostValue {
		return value
	}
	end := mostValue
	for end > mostValue-utf8.UTFMax && !utf8.RuneStart(value[end]) {
		end--
	}
	return fmt.Sprintf("%s... (%d bytes)", value[:end], len(value))
}

// printable is a text with everything escaped that is not to be printed, but for quotes.
func printable(text string) string {
	quoted := strconv.Quote(text)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}
