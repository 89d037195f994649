package confirm

import (
	"slices"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/shadow"
)

// Against is what a candidate's claims are held against.
type Against int

// The other sides. Without an rmapbt only the last two are possible.
const (
	AgainstRmapbt Against = iota
	// AgainstBnobt: no fork may map what the bnobt has free.
	AgainstBnobt
	// AgainstForks: no two forks may map the same blocks.
	AgainstForks
)

// conflicts returns what the views' claims have in conflict with the other
// side of c, as differences that have a claim only.
func (s *Settler) conflicts(c *Candidate, views []view) ([]shadow.Difference, error) {
	var claims []shadow.Rmap
	for i := range views {
		claims = append(claims, views[i].claims...)
	}
	slices.SortFunc(claims, func(a, b shadow.Rmap) int { return shadow.Compare(&a, &b) })
	var out []shadow.Difference
	add := func(r *shadow.Rmap, lo, hi uint64) {
		if lo < hi {
			out = append(out, shadow.Difference{Kind: shadow.DiffMissing, HasClaim: true, Claim: cut(*r, lo, hi)})
		}
	}
	if c.Against == AgainstBnobt {
		free, err := s.free(c.Window)
		if err != nil {
			return nil, err
		}
		for i := range claims {
			for _, f := range free {
				add(&claims[i], max(uint64(claims[i].StartBlock), uint64(f.Start)),
					min(claims[i].End(), uint64(f.Start)+uint64(f.Count)))
			}
		}
		return out, nil
	}
	for i := range claims {
		for j := range claims {
			if i == j || claims[i].Owner == claims[j].Owner && claims[i].Offset == claims[j].Offset {
				continue
			}
			if s.geo.Has(ioctl.FlagReflink) && claims[i].IsShareable() && claims[j].IsShareable() {
				continue
			}
			add(&claims[i], max(uint64(claims[i].StartBlock), uint64(claims[j].StartBlock)), min(claims[i].End(), claims[j].End()))
		}
	}
	return out, nil
}

// cut returns blocks [lo, hi) of r.
func cut(r shadow.Rmap, lo, hi uint64) shadow.Rmap {
	if r.HasOffset() {
		r.Offset += lo - uint64(r.StartBlock)
	}
	r.StartBlock, r.BlockCount = uint32(lo), uint32(hi-lo)
	return r
}
