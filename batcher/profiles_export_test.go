package batcher

// Growth is how much larger p can become by being merged into something else.
func Growth(p *ProfilesData, limit int) int { return profiles{}.bound(p, limit) - profiles{}.Bytes(p) }

// Added is by how much dst is to grow if src is moved into it. It is found out twice: nothing stays
// behind from the first time.
func Added(src, dst *ProfilesData) (n, again int) {
	return profiles{}.added(src, dst), profiles{}.added(src, dst)
}
