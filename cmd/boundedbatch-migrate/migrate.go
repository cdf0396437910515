package main

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// message is something that an operator should know, with its place.
type message struct {
	line, column int
	level        string
	text         string
}

const (
	warning = "warning" // may need a decision
	note    = "note"    // worth knowing
)

// migration is one configuration on its way to boundedbatch.
type migration struct {
	src      *source
	root     *yaml.Node // of the Collector's configuration
	at       []string   // keys that lead to it
	edits    edits
	messages []message

	renamed map[componentID]componentID
	edited  map[*yaml.Node]bool            // scalars and mappings whose changes are among the edits
	settled map[componentID]map[string]any // what the settings of a processor must be in the end
	raised  map[string]bool                // values of queue_size that were added
	dedents map[int]int                    // spaces to take from the beginning of a line
	gone    map[int]bool                   // lines that are replaced as a whole
}

// migrate rewrites a configuration. at names the keys under which it lies, if it is part of a larger file.
// The result is the same text with other words at the places that change: no comment, order,
// quote or anchor is lost. It has been read again and compared before it is returned.
func migrate(name, text string, at []string) (*migration, string, error) {
	m := &migration{
		src:     newSource(name, text),
		at:      at,
		renamed: make(map[componentID]componentID),
		edited:  make(map[*yaml.Node]bool),
		settled: make(map[componentID]map[string]any),
		raised:  make(map[string]bool),
		dedents: make(map[int]int),
		gone:    make(map[int]bool),
	}
	if !utf8.ValidString(text) {
		return nil, "", &positionError{name, 1, 1, "not in UTF-8"}
	}
	document, value, err := parse(m.src)
	if err != nil {
		return nil, "", err
	}
	if err := m.findRoot(document); err != nil {
		return nil, "", err
	}
	if m.root == nil {
		return m, text, nil
	}
	m.warnOfFurtherDocuments()
	if err := m.plan(); err != nil {
		return nil, "", err
	}
	m.warnOfDoubleBatching()
	m.warnOfNames(document)
	slices.SortStableFunc(m.messages, func(a, b message) int {
		return cmp.Or(a.line-b.line, a.column-b.column, strings.Compare(b.level, a.level), strings.Compare(a.text, b.text))
	})
	if len(m.edits) == 0 && len(m.dedents) == 0 {
		return m, text, nil
	}
	m.dedent()
	result, err := m.edits.apply(text)
	if err != nil {
		return nil, "", &positionError{name, 1, 1, "cannot be rewritten in place: " + err.Error()}
	}
	if err := m.verify(value, result); err != nil {
		return nil, "", err
	}
	return m, result, nil
}

func (m *migration) say(n *yaml.Node, level, format string, args ...any) {
	msg := message{max(1, n.Line), max(1, n.Column), level, fmt.Sprintf(format, args...)}
	if !slices.Contains(m.messages, msg) {
		m.messages = append(m.messages, msg)
	}
}

// parse reads the first document, which is all that a Collector reads, as nodes and as a value. What a Collector
// could not decode, such as a key that is there twice, is refused here.
func parse(src *source) (document *yaml.Node, value any, err error) {
	document = &yaml.Node{}
	if err := yaml.Unmarshal([]byte(src.text), document); err != nil {
		return nil, nil, yamlError(src, err)
	}
	if document.Kind == 0 {
		return document, nil, nil
	}
	if err := document.Decode(&value); err != nil {
		return nil, nil, yamlError(src, err)
	}
	return document, value, nil
}

var (
	yamlLine   = regexp.MustCompile(`line ([0-9]+): `)
	yamlAnchor = regexp.MustCompile(`anchor '([^']+)'`)
)

// yamlError gives an error of the parser the place that it names.
func yamlError(src *source, err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	var several *yaml.TypeError
	if errors.As(err, &several) && len(several.Errors) > 0 {
		text = several.Errors[0]
	}
	at := &positionError{src.name, 1, 1, text}
	if found := yamlLine.FindStringSubmatchIndex(text); found != nil {
		line, _ := strconv.Atoi(text[found[2]:found[3]])
		at.line = min(max(1, line), len(src.lines))
		at.column = src.indent(at.line-1) + 1
		at.text = text[:found[0]] + text[found[1]:]
	} else if found := yamlAnchor.FindStringSubmatch(text); found != nil {
		if i := strings.Index(src.text, "*"+found[1]); i >= 0 {
			at.line = src.line(i) + 1
			at.column = utf8.RuneCountInString(src.text[src.lines[at.line-1]:i]) + 1
		}
	}
	return at
}

func (m *migration) findRoot(document *yaml.Node) error {
	if document.Kind == 0 || len(document.Content) == 0 || isNull(document.Content[0]) {
		return nil
	}
	root := document.Content[0]
	for i, key := range m.at {
		next := lookup(root, key)
		if next == nil {
			return m.src.errorAt(root, "nothing is under %s", strings.Join(m.at[:i+1], "."))
		}
		root = next
	}
	root = resolve(root)
	if isNull(root) {
		return nil
	}
	if _, isText := scalar(root); isText && len(m.at) > 0 {
		return m.src.errorAt(root, "a text and no map; put it into a file of its own first")
	}
	if root.Kind != yaml.MappingNode {
		return m.src.errorAt(root, "no configuration of a Collector: not a map")
	}
	m.root = root
	if lookupEntry(root, "processors") == nil && lookupEntry(root, "service") == nil {
		m.say(root, warning, "neither processors nor service is here; is this a Collector's configuration, or is it under "+
			"another key (-at)?")
	}
	return nil
}

func (m *migration) warnOfFurtherDocuments() {
	decoder := yaml.NewDecoder(strings.NewReader(m.src.text))
	var document yaml.Node
	if decoder.Decode(&document) != nil {
		return
	}
	var further yaml.Node
	err := decoder.Decode(&further)
	if further.Kind == yaml.DocumentNode && len(further.Content) > 0 && !isNull(further.Content[0]) {
		m.say(further.Content[0], warning, "a further document, which is left as it is: a Collector reads only the first")
	} else if err != nil && further.Kind == 0 && err.Error() != "EOF" {
		m.say(m.root, warning, "what follows the first document is no YAML and is left as it is: a Collector reads only the first")
	}
}

// definition is a processor that is migrated.
type definition struct {
	id componentID
	entry
}

func (m *migration) plan() error {
	var definitions []definition
	taken := make(map[string]bool)
	processors := lookup(m.root, "processors")
	if substituted(processors) {
		m.say(processors, warning, "what processors are cannot be seen here: %s", resolve(processors).Value)
	}
	var order []componentID
	defined := make(map[componentID]bool)
	for _, e := range entriesOf(processors) {
		id, ok := parseID(e.name())
		switch {
		case !ok || resolve(e.key).Kind != yaml.ScalarNode:
		case id.migrates():
			definitions = append(definitions, definition{id, e})
			order = append(order, id)
			defined[id] = true
		default:
			taken[id.String()] = true
		}
	}
	references := m.references()
	for _, r := range references {
		id, ok := parseID(r.Value)
		switch {
		case !ok:
		case !id.migrates():
			taken[id.String()] = true
		case !defined[id]:
			order = append(order, id)
			if processors != nil {
				m.say(r, warning, "%s is not defined here; rename it where it is defined, too", id)
			}
		}
	}
	m.chooseNames(order, taken)

	for _, d := range definitions {
		if err := m.rename(d.key); err != nil {
			return err
		}
		if to := m.renamed[d.id]; to.String() != target && to.name != d.id.name {
			m.say(d.key, warning, "%s becomes %s: the shorter name is taken", d.id, to)
		}
	}
	for _, r := range references {
		if err := m.rename(r); err != nil {
			return err
		}
	}
	direct := make(map[*yaml.Node]bool) // settings of queuebatch that are translated where they are
	for _, d := range definitions {
		if d.id.kind == "queuebatch" && d.value.Kind == yaml.MappingNode {
			direct[d.value] = true
		}
	}
	for _, d := range definitions {
		var err error
		if d.id.kind == "batch" {
			err = m.settleBatch(d)
		} else {
			err = m.settleQueueBatch(d, direct)
		}
		if err != nil {
			return err
		}
	}
	m.noteDefaults(definitions)
	return nil
}

// references lists the scalars by which pipelines name their processors.
func (m *migration) references() (references []*yaml.Node) {
	for _, pipeline := range entriesOf(lookup(m.root, "service", "pipelines")) {
		list := lookup(pipeline.value, "processors")
		if substituted(list) {
			m.say(list, warning, "what the processors of pipeline %s are cannot be seen here: %s", pipeline.name(), resolve(list).Value)
		}
		if list = resolve(list); list == nil || list.Kind != yaml.SequenceNode {
			continue
		}
		for _, n := range list.Content {
			if text, ok := scalar(n); ok && substituted(n) {
				m.say(n, warning, "whether this is batch or queuebatch cannot be seen here: %s", text)
			} else if ok {
				references = append(references, resolve(n))
			}
		}
	}
	return references
}

// chooseNames decides what the migrated processors are called: boundedbatch with the same name if that is free.
// Otherwise the whole old identity becomes the name.
func (m *migration) chooseNames(order []componentID, taken map[string]bool) {
	for _, id := range order {
		if _, done := m.renamed[id]; done {
			continue
		}
		to := componentID{target, id.name}
		for n := 1; taken[to.String()]; n++ {
			to.name = id.String()
			if n > 1 {
				to.name += "_" + strconv.Itoa(n)
			}
		}
		taken[to.String()] = true
		m.renamed[id] = to
	}
}

// newName replaces identities in the text of a scalar, and leaves the spaces around them.
func (m *migration) newName(text string) string {
	id, ok := parseID(text)
	to, renamed := m.renamed[id]
	if !ok || !renamed {
		return text
	}
	trimmed := strings.TrimSpace(text)
	before, after, _ := strings.Cut(text, trimmed)
	if to.name == id.name {
		return before + target + strings.TrimPrefix(trimmed, id.kind) + after
	}
	return before + to.String() + after
}

func (m *migration) rename(n *yaml.Node) error {
	n = resolve(n)
	name := m.newName(n.Value)
	if m.edited[n] || n.Value == name {
		return nil
	}
	m.edited[n] = true
	return m.rewrite(n, name)
}

// rewrite gives a scalar another text in the same quotes.
func (m *migration) rewrite(n *yaml.Node, text string) error {
	start, err := m.src.start(n)
	if err != nil {
		return err
	}
	end, err := m.src.end(n)
	if err != nil {
		return err
	}
	if n.Kind == yaml.ScalarNode && n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0 {
		start++
		end--
	}
	// Whoever escapes letters must do so again.
	if n.Kind != yaml.ScalarNode || m.src.text[start:end] != n.Value {
		return m.src.misplaced(n)
	}
	m.edits.replace(start, end, text)
	return nil
}

// noteDefaults says once what is different where nothing is set.
func (m *migration) noteDefaults(definitions []definition) {
	for _, d := range definitions {
		if d.id.kind == "queuebatch" && lookup(d.value, "num_consumers") != nil {
			continue
		}
		m.say(d.key, note, "%s exported one batch at a time, %s up to 10 at once, metrics still in order; "+
			"max_concurrent_exports_per_partition: 1 keeps the order of all signals", d.id.kind, target)
		break
	}
}
