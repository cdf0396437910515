package main

import (
	"strings"

	"go.yaml.in/yaml/v3"
)

// entry is one key of a mapping as a Collector sees it.
type entry struct {
	key, value *yaml.Node
	in         *yaml.Node // the mapping in whose text it is
	through    *yaml.Node // the key << that it came through; nil if the mapping has it itself
}

func (e *entry) name() string { return resolve(e.key).Value }

// resolve follows an alias. There are no cycles: what has one cannot be decoded.
func resolve(n *yaml.Node) *yaml.Node {
	for n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

func isMerge(key *yaml.Node) bool {
	return key.Kind == yaml.ScalarNode && key.Tag == "!!merge"
}

// entriesOf lists the entries of a mapping, or of an alias of one, in the order of the text, and then
// what it merges and does not have itself.
func entriesOf(n *yaml.Node) (entries []entry) {
	n = resolve(n)
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	seen := make(map[string]bool)
	for i := 0; i+1 < len(n.Content); i += 2 {
		if e := (entry{key: n.Content[i], value: n.Content[i+1], in: n}); !isMerge(e.key) {
			seen[e.name()] = true
			entries = append(entries, e)
		}
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if !isMerge(n.Content[i]) {
			continue
		}
		merged := []*yaml.Node{n.Content[i+1]}
		if list := resolve(n.Content[i+1]); list.Kind == yaml.SequenceNode {
			merged = list.Content
		}
		for _, m := range merged {
			for _, e := range entriesOf(m) {
				if !seen[e.name()] {
					seen[e.name()] = true
					e.through = n.Content[i]
					entries = append(entries, e)
				}
			}
		}
	}
	return entries
}

// lookup returns what is under a path of keys, nil if there is nothing.
func lookup(n *yaml.Node, path ...string) *yaml.Node {
	if e := lookupEntry(n, path...); e != nil {
		return e.value
	}
	return nil
}

func lookupEntry(n *yaml.Node, path ...string) (found *entry) {
	for _, key := range path {
		found = nil
		for _, e := range entriesOf(n) {
			if e.name() == key {
				found = &e
				break
			}
		}
		if found == nil {
			return nil
		}
		n = found.value
	}
	return found
}

// scalar returns the text of a scalar; ok is false for anything else, and for null.
func scalar(n *yaml.Node) (text string, ok bool) {
	n = resolve(n)
	if n == nil || n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		return "", false
	}
	return n.Value, true
}

func isNull(n *yaml.Node) bool {
	n = resolve(n)
	return n == nil || n.Kind == yaml.ScalarNode && n.Tag == "!!null"
}

// substituted tells whether the Collector puts something else in the place of a value.
func substituted(n *yaml.Node) bool {
	text, ok := scalar(n)
	return ok && strings.Contains(text, "${")
}

// integer returns a whole number, also one written as 1e6.
func integer(n *yaml.Node) (int64, bool) {
	n = resolve(n)
	if n == nil || n.Kind != yaml.ScalarNode {
		return 0, false
	}
	var v any
	if n.Decode(&v) != nil {
		return 0, false
	}
	switch v := v.(type) {
	case int:
		return int64(v), true
	case int64:
		return v, true
	case float64:
		if v == float64(int64(v)) {
			return int64(v), true
		}
	}
	return 0, false
}

// isFalse tells whether a value is false as the Collector decodes it, which takes null for the zero value.
func isFalse(n *yaml.Node) bool {
	var v any
	if resolve(n).Decode(&v) != nil {
		return false
	}
	enabled, ok := v.(bool)
	return v == nil || ok && !enabled
}

// componentID is the identity of a component: a type and, maybe, a name.
type componentID struct{ kind, name string }

// parseID reads an identity as the Collector does, spaces around its parts included.
func parseID(text string) (componentID, bool) {
	kind, name, named := strings.Cut(text, "/")
	id := componentID{strings.TrimSpace(kind), strings.TrimSpace(name)}
	return id, id.kind != "" && (!named || id.name != "")
}

func (id componentID) String() string {
	if id.name == "" {
		return id.kind
	}
	return id.kind + "/" + id.name
}

// migrates tells whether a processor is one of those that boundedbatch replaces.
func (id componentID) migrates() bool { return id.kind == "batch" || id.kind == "queuebatch" }

// batches tells whether a processor makes batches.
func (id componentID) batches() bool { return id.migrates() || id.kind == target }

// target is the type of the processor that this command migrates to.
const target = "boundedbatch"
