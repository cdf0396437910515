package main

import (
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// What boundedbatch has where nothing is set. The configurations in testdata/ that the module e2e has a Collector validate
// are at this edge.
const (
	defaultSendBatchSize = 8192
	defaultQueueSize     = 12 * defaultSendBatchSize
)

// pair is a key and a value that nobody wrote before.
type pair struct{ key, value, reason string }

// setting is one key of a processor and what becomes of it.
type setting struct {
	path       string // such as batch::min_size
	key, value *yaml.Node
	through    *yaml.Node // the key of the entry that it came through; nil if it is in the processor's own text
	to         string     // its new key; empty if it is left out
	reason     string     // why it is left out
	instead    string     // its new value, if it has one
	also       []pair     // what is added behind it
}

// batchKeys are the keys of batch, all of which boundedbatch has under the same name.
var batchKeys = []string{
	"timeout", "send_batch_size", "send_batch_max_size", "metadata_keys", "metadata_cardinality_limit",
}

// settleBatch looks at the settings of a batch processor, which stay as they are but for a value that boundedbatch would refuse.
func (m *migration) settleBatch(d definition) error {
	if !isNull(d.value) && resolve(d.value).Kind != yaml.MappingNode {
		m.say(d.value, warning, "what the settings of %s are cannot be seen here", d.id)
		return nil
	}
	var settled map[string]any
	if err := d.value.Decode(&settled); err != nil {
		return m.src.errorAt(d.value, "%s: keys must be texts", d.id)
	}
	hasQueueSize := lookup(d.value, "queue_size") != nil
	for _, e := range entriesOf(d.value) {
		if !slices.Contains(batchKeys, e.name()) {
			m.say(e.key, warning, "%s is no key of batch, and is left as it is", e.name())
			continue
		}
		s := setting{path: e.name(), key: e.key, value: e.value}
		switch s.path {
		case "timeout":
			m.settleTimeout(&s)
			if text, ok := scalar(s.value); ok && isZero(text) {
				m.say(s.key, warning, "timeout: 0 made batch send every request at once; %s seals as soon as an export slot is free, "+
					"so batches grow while all slots are busy (send_batch_size: 0 sends every request by itself)", target)
			}
		case "send_batch_size":
			m.settleSendBatchSize(&s, hasQueueSize)
		case "metadata_cardinality_limit":
			m.say(s.key, warning, "metadata_cardinality_limit counted all tenants since the start and refused further ones; "+
				"it counts those batched at the same time now, and nobody is refused for it")
		case "metadata_keys":
			for _, key := range resolve(s.value).Content {
				if text, ok := scalar(key); ok && text == "" {
					m.say(key, warning, "an empty key, which %s refuses", target)
				}
			}
		}
		if s.instead != "" {
			if err := m.replaceValue(&s); err != nil {
				return err
			}
			settled[s.path] = decoded(s.instead)
		}
		for _, p := range s.also {
			settled[p.key] = decoded(p.value)
			m.raised[p.value] = true
			if m.edited[s.key] {
				continue
			}
			m.edited[s.key] = true
			if err := m.insertBehind(e, p); err != nil {
				return err
			}
		}
	}
	m.settled[d.id] = settled
	return nil
}

// settleTimeout gives a number the unit that it had for the Collector.
func (m *migration) settleTimeout(s *setting) {
	n, ok := integer(s.value)
	if !ok || n == 0 || resolve(s.value).Tag != "!!int" {
		return
	}
	s.instead = strconv.FormatInt(n, 10) + "ns"
	m.say(s.value, warning, "%s: %d without a unit meant %s; was something else intended?", s.path, n, s.instead)
}

func isZero(text string) bool {
	digits := strings.TrimRight(text, "hmsunµ")
	n, err := strconv.ParseFloat(digits, 64)
	return err == nil && n == 0
}

// settleSendBatchSize adds the queue_size that a large batch needs.
func (m *migration) settleSendBatchSize(s *setting, hasQueueSize bool) {
	if hasQueueSize {
		return
	}
	if substituted(s.value) {
		m.say(s.value, warning, "if this is more than %d, add a queue_size of at least as much", defaultQueueSize)
		return
	}
	n, ok := integer(s.value)
	if !ok || n <= defaultQueueSize || n > 1<<50 {
		return
	}
	size := strconv.FormatInt(12*n, 10)
	s.also = append(s.also, pair{"queue_size", size, "twelve batches, as by default"})
	m.say(s.key, warning, "a batch of %d items needs more than the default queue_size (%d): added queue_size: %s, twelve "+
		"batches as by default; it is the most items held in memory", n, defaultQueueSize, size)
}

// replaceValue gives a setting another value where it is written. Aliases of that value follow.
func (m *migration) replaceValue(s *setting) error {
	n := resolve(s.value)
	if m.edited[n] {
		return nil
	}
	m.edited[n] = true
	if n.Style != 0 {
		return m.src.misplaced(n)
	}
	return m.rewrite(n, s.instead)
}

// decoded is the value of a text of YAML.
func decoded(text string) (value any) {
	if yaml.Unmarshal([]byte(text), &value) != nil {
		return text
	}
	return value
}

// settleQueueBatch translates the settings of a queuebatch processor, whose keys are those of exporters' sending_queue.
func (m *migration) settleQueueBatch(d definition, direct map[*yaml.Node]bool) error {
	if isNull(d.value) {
		m.settled[d.id] = nil
		return nil
	}
	mapping := resolve(d.value)
	if mapping.Kind != yaml.MappingNode {
		return m.src.errorAt(d.value, "what the settings of %s are cannot be seen here, and they have other names in %s: "+
			"rewrite them where they are, and rename the processor by hand", d.id, target)
	}
	settings := collect(mapping, "", nil)
	if err := m.translate(d, settings); err != nil {
		return err
	}
	settled := make(map[string]any)
	keys := make(map[string]*setting)
	for i := range settings {
		s := &settings[i]
		pairs := s.also
		if s.to != "" {
			var value any
			if err := s.value.Decode(&value); err != nil {
				return m.src.errorAt(s.value, "%s", err)
			}
			if s.instead != "" {
				value = decoded(s.instead)
			}
			if other := keys[s.to]; other != nil {
				return m.src.errorAt(s.key, "%s would become %s, which %s does already", s.path, s.to, other.path)
			}
			keys[s.to] = s
			settled[s.to] = value
		}
		for _, p := range pairs {
			if other := keys[p.key]; other != nil {
				return m.src.errorAt(s.key, "%s needs %s, which is set by %s", s.path, p.key, other.path)
			}
			keys[p.key] = s
			settled[p.key] = decoded(p.value)
		}
	}
	m.settled[d.id] = settled
	// Only comments are left of it then.
	if len(settled) == 0 && direct[mapping] && mapping.Style&yaml.FlowStyle == 0 {
		m.settled[d.id] = nil
	}
	if m.edited[mapping] || d.value.Kind == yaml.AliasNode && direct[mapping] {
		return nil // it is an alias of what is translated anyway
	}
	w := writer{m: m, settings: settings}
	if d.value.Kind == yaml.AliasNode {
		m.say(d.value, note, "the settings of %s are written out: their anchor has keys of queuebatch", d.id)
		return w.writeOut(d.value)
	}
	m.edited[mapping] = true
	if mapping.Style&yaml.FlowStyle != 0 {
		return w.flow(mapping)
	}
	return w.block(mapping, -1)
}

// collect lists the settings of a queuebatch processor, those in maps by their path.
func collect(mapping *yaml.Node, prefix string, through *yaml.Node) (settings []setting) {
	for _, e := range entriesOf(mapping) {
		s := setting{path: prefix + e.name(), key: e.key, value: e.value, through: through}
		if s.through == nil {
			s.through = e.through
		}
		if isSection(s.path) && len(entriesOf(e.value)) > 0 {
			by := s.through
			if by == nil && e.value.Kind == yaml.AliasNode {
				by = e.key
			}
			settings = append(settings, collect(e.value, s.path+"::", by)...)
			continue
		}
		settings = append(settings, s)
	}
	return settings
}

// isSection tells whether a key of queuebatch has keys of its own, which boundedbatch has one level higher.
func isSection(path string) bool { return path == "batch" || path == "batch::partition" }

// translate decides what becomes of each setting.
func (m *migration) translate(d definition, settings []setting) error {
	find := func(path string) *setting {
		for i := range settings {
			if settings[i].path == path {
				return &settings[i]
			}
		}
		return nil
	}
	// A sizer decides what the numbers are.
	sizer, batchSizer := "requests", "items"
	for _, key := range []string{"sizer", "batch::sizer"} {
		s := find(key)
		if s == nil {
			continue
		}
		text, ok := scalar(s.value)
		if !ok || !slices.Contains([]string{"requests", "items", "bytes"}, text) {
			return m.src.errorAt(s.value, "%s must be requests, items or bytes here, or what the sizes mean cannot be seen", key)
		}
		if key == "sizer" {
			sizer = text
			// Unless batch is null: an empty map inherits the sizer, too.
			batched := slices.ContainsFunc(settings, func(s setting) bool {
				return strings.HasPrefix(s.path, "batch::") || s.path == "batch" && !isNull(s.value)
			})
			if batched {
				batchSizer = text
			}
		} else {
			batchSizer = text
		}
	}
	batching := true
	if s := find("batch::enabled"); s != nil {
		text, _ := scalar(s.value)
		if text != "true" && text != "false" {
			return m.src.errorAt(s.value, "batch::enabled must be true or false here, or what the other settings do cannot be seen")
		}
		batching = text == "true"
	}
	if batching && batchSizer == "requests" {
		at := find("batch::sizer")
		if at == nil {
			at = find("sizer")
		}
		return m.src.errorAt(at.value, "queuebatch refuses to measure batches in requests; set batch::sizer to what was meant")
	}

	// The reason goes into the text; what to do about it is only said.
	drop := func(s *setting, level, reason, advice string) {
		s.to, s.reason = "", reason
		if advice != "" {
			advice = "; " + advice
		}
		m.say(s.key, level, "%s is left out: %s%s", s.path, reason, advice)
	}
	for i := range settings {
		s := &settings[i]
		inBatch, ok := strings.CutPrefix(s.path, "batch::")
		if ok && !batching && inBatch != "enabled" {
			drop(s, note, "batching was off", "")
			continue
		}
		switch s.path {
		case "wait_for_result", "block_on_overflow":
			s.to = s.path
		case "num_consumers":
			s.to = "max_concurrent_exports"
		case "queue_size":
			switch sizer {
			case "items":
				s.to = "queue_size"
				// What queuebatch compares only where both are in items.
				if n, ok := integer(s.value); ok && n > 0 && n < defaultSendBatchSize && batching && batchSizer == "bytes" {
					s.also = append(s.also, pair{"send_batch_size", strconv.FormatInt(n, 10), "at most queue_size"})
				}
			case "bytes":
				s.to = "memory_limit"
				m.say(s.key, warning, "queue_size in bytes becomes memory_limit, which counts the heap, not the encoding: usually 2.4 to 3.8 "+
					"times as much. For the same number of items multiply it by that; queue_size, in items, holds besides")
			default:
				drop(s, warning, "it counted requests", "boundedbatch counts items (queue_size, default 98304) and bytes (memory_limit)")
			}
		case "sizer", "batch::sizer":
			drop(s, note, "each key of boundedbatch has its unit", "")
		case "storage":
			if isNull(s.value) {
				drop(s, note, "it was not set", "")
				break
			}
			drop(s, warning, "boundedbatch holds items in memory only", "for a queue on disk use sending_queue::storage of the "+
				"exporter, or wait_for_result: true so that senders keep what is not delivered")
		case "batch", "batch::partition":
			if r := resolve(s.value); !isNull(r) && r.Kind != yaml.MappingNode {
				return m.src.errorAt(s.value, "%s: what is in it cannot be seen here; write it out first", s.path)
			}
			drop(s, note, "nothing is set in it", "")
		case "batch::enabled":
			if batching {
				drop(s, note, "boundedbatch always batches", "")
				break
			}
			drop(s, warning, "send_batch_size: 0 sends every request by itself", "")
			s.also = append(s.also, pair{"send_batch_size", "0", "in place of batch::enabled: false"})
		case "batch::flush_timeout":
			s.to = "timeout"
			m.settleTimeout(s)
		case "batch::min_size":
			if batchSizer == "bytes" {
				drop(s, warning, "it counted bytes", "boundedbatch has no trigger in bytes but the limit send_batch_max_bytes: batches "+
					"leave at it, at send_batch_size items (default 8192), or after timeout")
				break
			}
			s.to = "send_batch_size"
			hasQueueSize := find("queue_size") != nil && sizer == "items"
			m.settleSendBatchSize(s, hasQueueSize)
		case "batch::max_size":
			s.to = "send_batch_max_size"
			if batchSizer == "bytes" {
				s.to = "send_batch_max_bytes"
			}
		case "batch::partition::metadata_keys":
			s.to = "metadata_keys"
		case "batch::partition::cache_size":
			s.to = "metadata_cardinality_limit"
		case "batch::partition::idle_timeout":
			drop(s, note, "a partition that holds nothing costs nothing", "")
		default:
			s.to = s.path[strings.LastIndex(s.path, ":")+1:]
			m.say(s.key, warning, "%s is no key of queuebatch, and is left as it is", s.path)
		}
	}
	if s := find("sizer"); s != nil && batching && batchSizer == "bytes" && find("batch::min_size") == nil {
		m.say(s.key, warning, "batches left at 8192 bytes, the default of batch::min_size; they leave at 8192 items now (send_batch_size)")
	}
	if find("queue_size") == nil {
		m.say(d.key, note, "queuebatch held 10 requests, %s holds 98304 items by default (queue_size)", target)
	}
	if find("batch::partition::metadata_keys") != nil && find("batch::partition::cache_size") == nil {
		m.say(d.key, note, "queuebatch batched for 10000 partitions at a time, %s for 1000 by default "+
			"(metadata_cardinality_limit)", target)
	}
	return nil
}
