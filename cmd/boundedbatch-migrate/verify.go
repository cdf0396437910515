package main

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// verify reads the result as a Collector would and compares it with what it should be: everything as before, but
// for the names and settings of what was migrated. So a text that is misread is refused and never written.
func (m *migration) verify(before any, result string) error {
	_, after, err := parse(newSource(m.src.name, result))
	if err != nil {
		return m.src.errorAt(m.root, "cannot be rewritten in place, the result would be no YAML (%s); write anchors and settings "+
			"of batch and queuebatch in a simpler way first", err)
	}
	want := m.expected(before)
	m.forgive(want, after)
	if path, same := compare(want, after, nil); !same {
		at := m.root
		for i := len(path); i > 0; i-- {
			var doc yaml.Node
			if yaml.Unmarshal([]byte(m.src.text), &doc) != nil || len(doc.Content) == 0 {
				break
			}
			if e := lookupEntry(doc.Content[0], path[:i]...); e != nil {
				at = e.key
				break
			}
		}
		return m.src.errorAt(at, "cannot be rewritten in place: %s would not be what it should; if it shares an anchor with a "+
			"processor that is migrated, write it out first", strings.Join(path, "::"))
	}
	return nil
}

// expected is the value that the result must have.
func (m *migration) expected(before any) any {
	return under(before, m.at, func(root map[string]any) map[string]any {
		if processors, ok := root["processors"].(map[string]any); ok {
			renamed := make(map[string]any, len(processors))
			for key, value := range processors {
				id, ok := parseID(key)
				if settled, found := m.settled[id]; ok && found {
					if settled == nil {
						value = nil
					} else if _, wasMap := value.(map[string]any); wasMap {
						value = settled
					}
				}
				renamed[m.newName(key)] = value
			}
			root["processors"] = renamed
		}
		return changeMap(root, "service", func(service map[string]any) map[string]any {
			return changeMap(service, "pipelines", func(pipelines map[string]any) map[string]any {
				for name, value := range pipelines {
					pipeline, ok := value.(map[string]any)
					if !ok {
						continue
					}
					pipeline = copyMap(pipeline)
					pipelines[name] = pipeline
					if list, ok := pipeline["processors"].([]any); ok {
						list = slices.Clone(list)
						for i := range list {
							if text, ok := list[i].(string); ok {
								list[i] = m.newName(text)
							}
						}
						pipeline["processors"] = list
					}
				}
				return pipelines
			})
		})
	})
}

// forgive removes from the result a queue_size that a processor that was batch has merged from another one to which it was
// added.
func (m *migration) forgive(want, after any) {
	for _, key := range slices.Concat(m.at, []string{"processors"}) {
		wantMap, ok := want.(map[string]any)
		afterMap, also := after.(map[string]any)
		if !ok || !also {
			return
		}
		want, after = wantMap[key], afterMap[key]
	}
	was := make(map[componentID]bool)
	for from, to := range m.renamed {
		was[to] = from.kind == "batch"
	}
	processors, _ := after.(map[string]any)
	wanted, _ := want.(map[string]any)
	for name, value := range processors {
		settings, ok := value.(map[string]any)
		expected, also := wanted[name].(map[string]any)
		id, _ := parseID(name)
		if !ok || !also || !was[id] {
			continue
		}
		if _, has := expected["queue_size"]; !has && m.raised[fmt.Sprint(settings["queue_size"])] {
			delete(settings, "queue_size")
		}
	}
}

// under changes the map under a path of keys, and copies what is on the way.
func under(value any, path []string, f func(map[string]any) map[string]any) any {
	m, ok := value.(map[string]any)
	if !ok {
		return value
	}
	m = copyMap(m)
	if len(path) == 0 {
		return f(m)
	}
	m[path[0]] = under(m[path[0]], path[1:], f)
	return m
}

func changeMap(m map[string]any, key string, f func(map[string]any) map[string]any) map[string]any {
	if inner, ok := m[key].(map[string]any); ok {
		m[key] = f(copyMap(inner))
	}
	return m
}

func copyMap(m map[string]any) map[string]any {
	c := make(map[string]any, len(m))
	for key, value := range m {
		c[key] = value
	}
	return c
}

// compare returns the path of the first difference.
func compare(want, got any, path []string) ([]string, bool) {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			return path, false
		}
		for key := range g {
			if _, found := w[key]; !found {
				return append(path, key), false
			}
		}
		for key, value := range w {
			other, found := g[key]
			if !found {
				return append(path, key), false
			}
			if p, same := compare(value, other, append(path, key)); !same {
				return p, false
			}
		}
		return nil, true
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			return path, false
		}
		for i := range w {
			if _, same := compare(w[i], g[i], nil); !same {
				return path, false
			}
		}
		return nil, true
	case float64:
		if g, ok := got.(float64); ok && math.IsNaN(w) && math.IsNaN(g) {
			return nil, true
		}
	}
	return path, reflect.DeepEqual(want, got)
}
