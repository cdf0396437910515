package batcher

import (
	"math/bits"
	"math/rand/v2"
	"slices"
	"sync"
)

// With Settings.MergeResources the entries of a batch that are equal but for what is in them become one: resources, in
// them scopes, and in these metrics. It is done once, in the export goroutine, before the first export. Each list is
// looked through once: an element whose signature was seen is compared with the first one of that signature, and if it
// is the same, its children move behind those of that one. Then the lists of children are looked through in turn, as they
// are now. So the first one decides the place, and children stay in their order.
//
// A batch that is refused for good is sent again in parts, along entries that there are no more. Therefore it is
// written down where each element came from: numbers in the order of the merged data, a pair for each list that was put
// behind another one.

const (
	// mergedItems is the most items for each entry of the outermost level, on average, with which a batch is merged. In
	// larger requests what is saved for each entry does not count.
	mergedItems = 100

	// mergeSample is how many entries of the outermost level are looked at before merging is given up, if they all
	// differ.
	mergeSample = 1000

	// mostAlike is how many elements of one signature an element is compared with that turn out to differ. So many have
	// been made to collide; one more stays where it is.
	mostAlike = 16
)

// run is a number of elements in a row that were in the same entry of the outermost level before merging. An element
// that is none of the innermost, but has no children, is a run by itself, with the complement of its entry.
type run struct{ entry, elements int32 }

// origins tells where what is in a merged batch was before.
type origins struct {
	runs    []run // in the order of the merged data
	entries int   // of the outermost level before
	// items are those of each entry before, where they are not as many as the innermost elements and no callers wait,
	// whose shares have them.
	items []int32
}

// itemsOf counts the items of each entry before.
func (o *origins) itemsOf() []int32 {
	if o.items != nil {
		return o.items
	}
	items := make([]int32, o.entries)
	for _, r := range o.runs {
		if r.entry >= 0 {
			items[r.entry] += r.elements
		}
	}
	return items
}

// Merger puts together what is equal in one batch. It is not safe for concurrent use.
type Merger struct {
	comparer
	keeps  bool  // origins are written down
	runs   []run // these
	joined bool  // something was put together

	sample int       // entries of the outermost level after which to give up; then 0
	slots  []int32   // hash table of the list that is looked through: one more than an index in groups; 0: free
	groups []group   // of the lists that are open
	links  []chained // origins of the children of their elements
	froms  []run     // the same of lists that are open, in a row
}

// group is an element that stays, with others that are equal.
type group struct {
	signature uint64
	index     int32 // of the element that stays, in its list as it was
	entry     int32 // where that came from
	head      int32 // one more than the index in links of where its children came from; 0: it has none
	tail      int32 // the same of the last of those
}

// chained is a run in the chain of one group.
type chained struct {
	run
	next int32 // one more than an index in links; 0: it is the last
}

// kin is what the elements of one list must have in common to be put together.
type kin[E any] struct {
	signature func(*Merger, E) uint64
	// same tells whether a is equal to b, whose signature is the last one that was asked for.
	same func(m *Merger, a, b E) bool
	// children counts what is in an element.
	children func(E) int
	// join moves the children of src behind those of dst.
	join func(dst, src E)
	// within goes on with the children of an element. They came from there.
	within func(m *Merger, e E, from []run)
}

// mergeAll merges the outermost list of a batch, and what is in it.
func mergeAll[E any, S sequence[E]](m *Merger, list S, k *kin[E]) {
	if !m.keeps {
		mergeList(m, list, k, nil)
		return
	}
	for i := range list.Len() {
		m.froms = append(m.froms, run{int32(i), 1})
	}
	mergeList(m, list, k, m.froms)
}

// mergeList merges one list, whose elements came from there, and what is in it. Without origins it does not matter where
// they came from.
func mergeList[E any, S sequence[E]](m *Merger, list S, k *kin[E], from []run) {
	n := list.Len()
	if n == 0 {
		m.leaf(from)
		return
	}
	groups, links := len(m.groups), len(m.links)
	if !findGroups(m, list, k, from) {
		return
	}
	if len(m.groups)-groups < n {
		m.joined = true
		i, g := int32(-1), groups
		list.RemoveIf(func(E) bool {
			if i++; g == len(m.groups) || m.groups[g].index != i {
				return true
			}
			g++
			return false
		})
	}
	for i := range list.Len() {
		froms := len(m.froms)
		if m.keeps {
			m.children(&m.groups[groups+i])
		}
		k.within(m, list.At(i), m.froms[froms:])
		m.froms = m.froms[:froms]
	}
	m.groups, m.links = m.groups[:groups], m.links[:links]
}

// findGroups finds what is equal in a list and joins what is in that. It tells whether to go on.
func findGroups[E any, S sequence[E]](m *Merger, list S, k *kin[E], from []run) bool {
	n, first := list.Len(), len(m.groups)
	mask := m.clear(n)
	shift := bits.LeadingZeros64(mask)
	for i, left := 0, int32(0); i < n; i++ {
		var entry int32
		if m.keeps {
			if left == 0 {
				left = from[0].elements
			}
			entry = from[0].entry
			if left--; left == 0 {
				from = from[1:]
			}
		}
		e := list.At(i)
		children := int32(0)
		if m.keeps {
			children = int32(k.children(e))
		}
		if n == 1 { // with nothing to compare it with
			m.groups = append(m.groups, group{entry: entry})
			m.from(first, run{entry, children})
			break
		}
		signature, others := k.signature(m, e), 0
		for s := signature * scatter >> shift; ; s = (s + 1) & mask {
			g := int(m.slots[s]) - 1
			if g < 0 || others == mostAlike {
				m.groups = append(m.groups, group{signature: signature, index: int32(i), entry: entry})
				if g < 0 {
					m.slots[s] = int32(len(m.groups))
				}
				m.from(len(m.groups)-1, run{entry, children})
				break
			}
			if m.groups[g].signature != signature {
				continue
			}
			if known := list.At(int(m.groups[g].index)); k.same(m, known, e) {
				k.join(known, e)
				m.from(g, run{entry, children})
				break
			}
			others++
		}
		if i+1 == m.sample && len(m.groups) == m.sample {
			return false
		}
	}
	m.sample = 0
	return true
}

// scatter divides signatures among the places of a hash table. It is random: a sender who knew it could choose what
// lies in one place, and the time would grow with the square. (Multiplicative hashing: Dietzfelbinger et al., "A Reliable
// Randomized Algorithm for the Closest-Pair Problem", 1997.)
var scatter = rand.Uint64() | 1

// clear makes room in the hash table for n elements, and returns the mask of its indices.
func (m *Merger) clear(n int) uint64 {
	size := 1 << bits.Len(uint(2*n-1))
	m.slots = slices.Grow(m.slots[:0], size)[:size]
	clear(m.slots)
	return uint64(size - 1)
}

// from notes where further children of a group came from.
func (m *Merger) from(g int, r run) {
	if r.elements == 0 {
		return
	}
	of := &m.groups[g]
	if of.tail > 0 && m.links[of.tail-1].entry == r.entry {
		m.links[of.tail-1].elements += r.elements
		return
	}
	m.links = append(m.links, chained{run: r})
	last := int32(len(m.links))
	if of.tail > 0 {
		m.links[of.tail-1].next = last
	} else {
		of.head = last
	}
	of.tail = last
}

// children puts in a row where the children of a group came from. If it has none, that is where it came from itself.
func (m *Merger) children(g *group) {
	if g.head == 0 {
		m.froms = append(m.froms, run{g.entry, 0})
		return
	}
	for l := g.head; l > 0; l = m.links[l-1].next {
		m.froms = append(m.froms, m.links[l-1].run)
	}
}

// leaf writes down where the items in an element came from, or the element itself if there are none.
func (m *Merger) leaf(from []run) {
	if !m.keeps {
		return
	}
	if len(from) == 1 && from[0].elements == 0 {
		from[0] = run{^from[0].entry, 1}
	}
	m.runs = append(m.runs, from...)
}

var mergers = sync.Pool{New: func() any { return new(Merger) }}

// merge puts together what is equal in the data of a batch in flight that was not exported yet, unless it is not worth
// it.
func (b *Batcher[T]) merge(bt *batch[T]) {
	entries := b.signal.Resources(bt.data)
	if bt.items > entries*mergedItems {
		return
	}
	of := origins{entries: entries}
	if b.resends && b.sharing != nil && bt.shares == nil {
		of.items = make([]int32, entries)
		for i := range of.items {
			of.items[i] = int32(b.signal.ItemsAt(bt.data, i))
		}
	}
	if of.runs, bt.merged = mergeData(b.signal, bt.data, b.resends); bt.merged && b.resends {
		bt.origins = &of
	}
}

// mergeData tells whether anything in data was equal, and is one now. If it is kept in mind, it tells where everything
// was before.
func mergeData[T any](s Signal[T], data T, keep bool) (runs []run, joined bool) {
	m := mergers.Get().(*Merger)
	m.keeps, m.joined, m.sample = keep, false, mergeSample
	s.Merge(data, m)
	if m.joined && keep {
		runs = slices.Clone(m.runs)
	}
	joined = m.joined
	m.forget()
	m.runs, m.groups, m.links, m.froms = m.runs[:0], m.groups[:0], m.links[:0], m.froms[:0]
	mergers.Put(m)
	return runs, joined
}

// Picker tells which elements without children of merged data came from some of the entries that there were before.
type Picker struct {
	runs     []run
	done     int32 // elements of the first run that were told of
	from, to int32
}

func (o *origins) picker(from, to int) *Picker {
	return &Picker{runs: o.runs, from: int32(from), to: int32(to)}
}

// next tells it of the next element.
func (p *Picker) next() bool {
	r := p.runs[0]
	if r.entry < 0 {
		r.entry = ^r.entry
	}
	if p.done++; p.done == r.elements {
		p.runs, p.done = p.runs[1:], 0
	}
	return p.from <= r.entry && r.entry < p.to
}
