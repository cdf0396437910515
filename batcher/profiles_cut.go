package batcher

import "go.opentelemetry.io/collector/pdata/pprofile"

// profilesCutter takes profiles apart. Each piece has a dictionary with just what its profiles
// refer to. How large it becomes is known by numbering the entries of that dictionary before
// anything is moved: a profile that does not fit is numbered once more, in the next piece.
type profilesCutter struct {
	data  *ProfilesData
	units []whole
	at    int  // the first unit that is left
	left  Size // of what is left. Bytes and Heap may be more after something has been taken.

	copies   int // how often the pieces lie in memory; 0: heap is of no interest
	transfer *transfer
	first    bool // the unit at that index is numbered, and nothing else
	outer    outerSize
	heap     int   // of what is in outer, without the dictionary
	open     whole // the last one that is in outer
}

// whole is what is never cut: a profile, or a scope or resource with nothing in it. Then the index of
// what it does not have is -1.
type whole struct {
	resource, scope, profile int
	items                    int
}

func newProfilesCutter(p *ProfilesData, z *Sizes) *profilesCutter {
	p.measure()
	p.lookUp()
	c := &profilesCutter{data: p}
	for i, rp := range p.pd.ResourceProfiles().All() {
		if rp.ScopeProfiles().Len() == 0 {
			c.units = append(c.units, whole{i, -1, -1, 0})
		}
		for j, sp := range rp.ScopeProfiles().All() {
			if sp.Profiles().Len() == 0 {
				c.units = append(c.units, whole{i, j, -1, 0})
			}
			for k, profile := range sp.Profiles().All() {
				items := profile.Samples().Len()
				c.units = append(c.units, whole{i, j, k, items})
				c.left.Items += items
			}
		}
	}
	if len(c.units) == 0 {
		return c
	}
	c.left.Bytes = profiles{}.Bytes(p)
	if z != nil && z.heap {
		c.copies = z.copies
		c.left.Heap = z.total.Heap
	}
	return c
}

func (c *profilesCutter) Left() Size { return c.left }

func (c *profilesCutter) First() Size {
	c.begin()
	return c.size(c.at + 1)
}

func (c *profilesCutter) Next(room Size) (*ProfilesData, Size) {
	if c.at == len(c.units) || room.Items <= 0 {
		return profiles{}.New(0), Size{}
	}
	c.begin()
	end, taken := c.fit(room, 0)
	if end == c.at {
		return profiles{}.New(0), Size{}
	}
	return c.build(end), taken
}

// fill numbers the units once for the dictionary of dst, to see how many fit, and then for the
// piece.
func (c *profilesCutter) fill(room Size, dst *ProfilesData) (*ProfilesData, Size) {
	if c.at == len(c.units) || room.Items <= 0 {
		return c.Next(room)
	}
	dst.prepare()
	c.ready()
	c.transfer.begin(dst.index, dst.dict)
	c.number(c.at)
	end, taken := c.fit(room, asEntry(dst.dict))
	c.transfer.back(mark{})
	if end == c.at {
		return profiles{}.New(0), Size{}
	}
	c.begin()
	for i := c.at + 1; i < end; i++ {
		c.number(i)
	}
	return c.build(end), taken
}

// fit numbers as many units as fit into room, and returns the first one that does not. The
// first one that is left is numbered already, and stays so. Of the bytes so many count for
// what was there before.
func (c *profilesCutter) fit(room Size, was int) (end int, taken Size) {
	taken = c.size(c.at + 1)
	taken.Bytes -= was
	if !taken.within(room) {
		return c.at, Size{}
	}
	for end = c.at + 1; end < len(c.units) && (taken.Items < room.Items || c.units[end].items == 0); end++ {
		if taken.Items+c.units[end].items > room.Items {
			break
		}
		mark, outer, heap, open := c.transfer.mark(), c.outer, c.heap, c.open
		c.number(end)
		more := Size{taken.Items + c.units[end].items, c.bytes() - was, c.weight()}
		if !more.within(room) {
			c.transfer.back(mark)
			c.outer, c.heap, c.open = outer, heap, open
			break
		}
		taken = more
	}
	return end, taken
}

func (c *profilesCutter) Alone() *ProfilesData {
	c.begin()
	return c.build(c.at + 1)
}

// RestSizes implements Cutter: a dictionary has other sizes for each part.
func (c *profilesCutter) RestSizes() *Sizes { return nil }

func (c *profilesCutter) Rest() *ProfilesData {
	rest := profiles{}.New(0)
	switch c.at {
	case len(c.units):
	case 0:
		c.end()
		profiles{}.Move(c.data, rest)
		c.units, c.left = nil, Size{}
	default:
		c.begin()
		for i := c.at + 1; i < len(c.units); i++ {
			c.number(i)
		}
		rest = c.build(len(c.units))
	}
	return rest
}

// begin numbers the first unit that is left, by itself.
func (c *profilesCutter) begin() {
	if c.first {
		return
	}
	c.ready()
	c.transfer.begin(nil, 0)
	c.number(c.at)
	c.first = true
}

// ready prepares for another piece, of which nothing is numbered yet.
func (c *profilesCutter) ready() {
	if c.transfer == nil {
		c.transfer = newTransfer(c.data)
		c.transfer.weighs = c.copies > 0
	}
	c.outer, c.heap, c.open = outerSize{}, 0, whole{-1, -1, -1, 0}
}

// number adds a unit to the piece.
func (c *profilesCutter) number(i int) {
	u, h := c.units[i], header{c.data.names, c.transfer}
	rp := c.data.pd.ResourceProfiles().At(u.resource)
	if u.resource != c.open.resource {
		c.outer.resource(h.resourceSize(rp))
		c.open.scope = -1
		c.weigh(func() int { return resourceProfilesFootprint(rp) })
	}
	if u.scope >= 0 {
		sp := rp.ScopeProfiles().At(u.scope)
		if u.scope != c.open.scope {
			c.outer.scope(h.scopeSize(sp))
			c.weigh(func() int { return scopeProfilesFootprint(sp) })
		}
		if u.profile >= 0 {
			p := sp.Profiles().At(u.profile)
			c.outer.profile(profileSize(p, c.transfer))
			c.weigh(func() int { return profileFootprint(p) })
		}
	}
	c.open = u
	c.first = false
}

// bytes is the size of the piece so far.
func (c *profilesCutter) bytes() int { return c.outer.total() + asEntry(c.transfer.size) }

// weigh adds the footprint of an element, and its slot, if heap is of interest.
func (c *profilesCutter) weigh(footprint func() int) {
	if c.copies > 0 {
		c.heap += pointerBlock + footprint()
	}
}

// weight is the heap of the piece so far.
func (c *profilesCutter) weight() int {
	return c.copies * (emptyProfilesFootprint() + c.heap + c.transfer.meter.total())
}

// size is that of the piece, which ends before that unit.
func (c *profilesCutter) size(end int) Size {
	s := Size{Bytes: c.bytes(), Heap: c.weight()}
	for _, u := range c.units[c.at:end] {
		s.Items += u.items
	}
	return s
}

// build moves the units before end out, which are numbered.
func (c *profilesCutter) build(end int) *ProfilesData {
	if c.at == 0 && end < len(c.units) {
		c.leftAtMost()
	}
	piece := profiles{}.New(0)
	piece.outer, piece.dict, piece.sized = c.outer.total(), c.transfer.size, true
	c.transfer.build(piece.pd.Dictionary(), false)
	var rp pprofile.ResourceProfiles
	var sp pprofile.ScopeProfiles
	open := whole{-1, -1, -1, 0}
	for i := c.at; i < end; i++ {
		u := c.units[i]
		from := c.data.pd.ResourceProfiles().At(u.resource)
		if u.resource != open.resource {
			rp = piece.pd.ResourceProfiles().AppendEmpty()
			take(from.Resource(), rp.Resource(), end == len(c.units) || c.units[end].resource != u.resource)
			rp.SetSchemaUrl(from.SchemaUrl())
			open.scope = -1
		}
		if u.scope >= 0 {
			from := from.ScopeProfiles().At(u.scope)
			if u.scope != open.scope {
				sp = rp.ScopeProfiles().AppendEmpty()
				take(from.Scope(), sp.Scope(), end == len(c.units) || c.units[end].resource != u.resource || c.units[end].scope != u.scope)
				sp.SetSchemaUrl(from.SchemaUrl())
			}
			if u.profile >= 0 {
				c.take(from.Profiles().At(u.profile), sp.Profiles().AppendEmpty())
			}
		}
		open = u
		c.left.Items -= u.items
	}
	c.at, c.first = end, false
	if c.at == len(c.units) {
		c.end()
		c.left = Size{}
	}
	return piece
}

// leftAtMost raises what is left to the most that the rest can have, of which the size is not known
// any more: dictionaries of pieces have an entry for each string that the first one lacks, and
// first entries that are empty.
func (c *profilesCutter) leftAtMost() {
	entries := c.transfer.lens
	heap := 0
	for k := range tables {
		if c.data.filled[k] {
			entries[k]++
		}
		if c.copies == 0 {
			continue // the allocator may never have been asked
		}
		if c.data.filled[k] {
			heap += emptyEntryFootprints()[k]
		}
		heap += slots(k, entries[k]) - slots(k, tableLen(c.data.pd.Dictionary(), k))
	}
	c.left.Heap += c.copies * heap
	c.left.Bytes = c.data.worst(func(k table) int { return entries[k] - 1 })
}

// take moves a profile.
func (c *profilesCutter) take(from, to pprofile.Profile) {
	c.left.Bytes -= asEntry(new(pprofile.ProtoMarshaler).ProfileSize(from))
	if c.copies > 0 {
		c.left.Heap -= c.copies * profileFootprint(from)
	}
	from.MoveTo(to)
	c.transfer.profile(to)
}

// end lets go of what is only needed to cut.
func (c *profilesCutter) end() {
	if c.transfer != nil {
		c.transfer.free()
		c.transfer = nil
	}
}
