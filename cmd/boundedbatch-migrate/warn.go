package main

import (
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// pipeline is what a pipeline is made of, as far as it can be seen.
type pipeline struct {
	name                             string
	receivers, processors, exporters []string
	lists                            *yaml.Node
}

func (m *migration) pipelines() (pipelines []pipeline) {
	for _, e := range entriesOf(lookup(m.root, "service", "pipelines")) {
		p := pipeline{name: e.name(), lists: e.value}
		p.receivers = names(lookup(e.value, "receivers"))
		p.processors = names(lookup(e.value, "processors"))
		p.exporters = names(lookup(e.value, "exporters"))
		pipelines = append(pipelines, p)
	}
	return pipelines
}

// names lists the identities in a list.
func names(list *yaml.Node) (names []string) {
	if list = resolve(list); list != nil && list.Kind == yaml.SequenceNode {
		for _, n := range list.Content {
			text, _ := scalar(n)
			if id, ok := parseID(text); ok {
				names = append(names, id.String())
			}
		}
	}
	return names
}

// warnOfDoubleBatching finds pipelines in which several components make batches of the same data: processors, and
// the queues of exporters, also behind connectors.
func (m *migration) warnOfDoubleBatching() {
	all := m.pipelines()
	batching := make(map[string]*entry) // exporters that batch, with the key that says so
	for _, e := range entriesOf(lookup(m.root, "exporters")) {
		queue := lookup(e.value, "sending_queue")
		if enabled := lookup(queue, "enabled"); enabled != nil && isFalse(enabled) {
			continue
		}
		batch := lookupEntry(queue, "batch")
		if batch == nil {
			continue
		}
		if enabled := lookup(batch.value, "enabled"); enabled != nil && isFalse(enabled) {
			continue
		}
		if id, ok := parseID(e.name()); ok {
			batching[id.String()] = batch
		}
	}
	connectors := make(map[string]bool)
	for _, e := range entriesOf(lookup(m.root, "connectors")) {
		if id, ok := parseID(e.name()); ok {
			connectors[id.String()] = true
		}
	}
	isBatcher := func(name string) bool {
		id, _ := parseID(name)
		return id.batches()
	}
	behind := make(map[string][]string) // pipelines that an exporter is behind
	for _, p := range all {
		first := slices.IndexFunc(p.processors, isBatcher)
		if first < 0 {
			continue
		}
		if second := slices.IndexFunc(p.processors[first+1:], isBatcher); second >= 0 {
			m.say(lookup(p.lists, "processors"), warning, "pipeline %s batches twice, in %s and in %s", p.name,
				p.processors[first], p.processors[first+1+second])
		}
		reached := map[string]bool{p.name: true}
		for line := []pipeline{p}; len(line) > 0; line = line[1:] {
			for _, exporter := range line[0].exporters {
				if batching[exporter] != nil && !slices.Contains(behind[exporter], p.name) {
					behind[exporter] = append(behind[exporter], p.name)
				}
				if !connectors[exporter] {
					continue
				}
				for _, next := range all {
					if !reached[next.name] && slices.Contains(next.receivers, exporter) {
						reached[next.name] = true
						line = append(line, next)
					}
				}
			}
		}
	}
	for exporter, pipelines := range behind {
		m.say(batching[exporter].key, warning, "exporter %s batches again what pipeline %s has batched (sending_queue::batch); "+
			"batching twice delays twice: remove one of them", exporter, strings.Join(pipelines, ", "))
	}
}

// oldNames are the names under which batch and queuebatch report about themselves.
var oldNames = regexp.MustCompile(`processor_(queue)?batch_|processor/(queue)?batchprocessor`)

// warnOfNames finds metrics and scopes of the old processors, in views and in scrape configurations for example.
func (m *migration) warnOfNames(n *yaml.Node) {
	if n.Kind == yaml.ScalarNode && oldNames.MatchString(n.Value) {
		m.say(n, warning, "metrics of batch and queuebatch are named here (%s); those of %s are otelcol_processor_%[2]s_*, see documentation.md",
			oldNames.FindString(n.Value), target)
	}
	for _, child := range n.Content {
		m.warnOfNames(child)
	}
}
