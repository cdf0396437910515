package batcher

import "fmt"

// Check returns an error if an index that is reached from a profile is none of an entry of its
// table. In an empty table 0 is.
func (p *ProfilesData) Check() error {
	c := &indexCheck{p: p}
	for i, rp := range p.pd.ResourceProfiles().All() {
		for j, sp := range rp.ScopeProfiles().All() {
			for k, profile := range sp.Profiles().All() {
				c.where = func() string { return fmt.Sprintf("profile %d of scope %d of resource %d", k, j, i) }
				if profileSize(profile, c); c.err != nil {
					return c.err
				}
			}
		}
	}
	return nil
}

// indexCheck looks at every index that is reached. It is a renumbering that changes nothing.
type indexCheck struct {
	p     *ProfilesData
	lens  [tables]int
	seen  [tables][]bool
	where func() string
	err   error
}

func (c *indexCheck) field(k table, i int32) int32 { return c.listed(k, i) }

func (c *indexCheck) listed(k table, i int32) int32 {
	if c.err != nil {
		return 0
	}
	d := c.p.pd.Dictionary()
	if c.seen[k] == nil {
		c.lens[k] = tableLen(d, k)
		c.seen[k] = make([]bool, c.lens[k]+1)
	}
	if i < 0 || int(i) >= max(c.lens[k], 1) {
		c.err = fmt.Errorf("%s has index %d into the %s table, which has %d entries", c.where(), i, tableNames[k], c.lens[k])
		return 0
	}
	if !c.seen[k][i] && int(i) < c.lens[k] {
		c.seen[k][i] = true
		outside := c.where
		c.where = func() string { return fmt.Sprintf("entry %d of the %s table", i, tableNames[k]) }
		tableEntrySize(d, k, int(i), c)
		c.where = outside
	}
	return i
}
