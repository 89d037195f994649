package verdict

import (
	"cmp"
	"slices"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/shadow"
)

// Difference is a confirmed difference between forks and rmapbt in one AG.
type Difference struct {
	AGNo ioctl.AGNumber
	shadow.Difference
}

// Extent is the block interval of d: that of the claim, or else the record.
func (d *Difference) Extent() (start, count uint32) {
	if d.HasClaim {
		return d.Claim.StartBlock, d.Claim.BlockCount
	}
	return d.Kernel.StartBlock, d.Kernel.BlockCount
}

// owners calls f with every inode that d names.
func (d *Difference) owners(f func(ino uint64)) {
	if d.HasClaim && d.Claim.IsInode() {
		f(d.Claim.Owner)
	}
	if d.HasKernel && d.Kernel.IsInode() {
		f(d.Kernel.Owner)
	}
}

// Group splits differences into sets that one fault may explain: those that
// name a common inode, and those whose blocks overlap or touch in one AG.
// Groups and their members come out in the order of AG and block.
func Group(diffs []Difference) [][]Difference {
	slices.SortStableFunc(diffs, func(a, b Difference) int {
		as, _ := a.Extent()
		bs, _ := b.Extent()
		return cmp.Or(cmp.Compare(a.AGNo, b.AGNo), cmp.Compare(as, bs))
	})
	sets := newSets(len(diffs))
	byInode := make(map[uint64]int)
	var reach uint64 // first block after everything seen so far in this AG
	for i := range diffs {
		d := &diffs[i]
		start, count := d.Extent()
		if i > 0 && diffs[i-1].AGNo == d.AGNo && uint64(start) <= reach {
			sets.join(i-1, i)
		} else {
			reach = 0
		}
		reach = max(reach, uint64(start)+uint64(count))
		d.owners(func(ino uint64) {
			if first, ok := byInode[ino]; ok {
				sets.join(first, i)
			} else {
				byInode[ino] = i
			}
		})
	}
	var groups [][]Difference
	index := make(map[int]int)
	for i := range diffs {
		root := sets.find(i)
		g, ok := index[root]
		if !ok {
			g = len(groups)
			index[root] = g
			groups = append(groups, nil)
		}
		groups[g] = append(groups[g], diffs[i])
	}
	return groups
}

// sets is a union-find over 0..n-1.
type sets []int

func newSets(n int) sets {
	s := make(sets, n)
	for i := range s {
		s[i] = i
	}
	return s
}

func (s sets) find(i int) int {
	for s[i] != i {
		s[i] = s[s[i]]
		i = s[i]
	}
	return i
}

func (s sets) join(a, b int) { s[s.find(b)] = s.find(a) }

// Record is an rmapbt record with what the refcountbt says of it.
type Record struct {
	shadow.Rmap
	Shared bool
}

// Range is blocks [Start, Start+Count).
type Range struct{ Start, Count uint32 }

func (r Range) end() uint64 { return uint64(r.Start) + uint64(r.Count) }

// Around is what the other witnesses say of the blocks of a difference; it may
// reach beyond them.
type Around struct {
	Free      []Range // from the bnobt
	FreeKnown bool
	Claims    []shadow.Rmap // by any fork or known metadata
	Records   []Record      // in the rmapbt
}

// Pieces cuts d where any witness changes its mind, and attaches to each piece
// what they say. Claims and records that are d's own sides are left out of the
// others, except where they stand there twice.
func Pieces(d *Difference, a *Around) []Piece {
	start, count := d.Extent()
	end := uint64(start) + uint64(count)
	cuts := []uint64{uint64(start), end}
	cut := func(lo, hi uint64) {
		for _, at := range [2]uint64{lo, hi} {
			if at > uint64(start) && at < end {
				cuts = append(cuts, at)
			}
		}
	}
	for _, f := range a.Free {
		cut(uint64(f.Start), f.end())
	}
	for i := range a.Claims {
		cut(uint64(a.Claims[i].StartBlock), a.Claims[i].End())
	}
	for i := range a.Records {
		cut(uint64(a.Records[i].StartBlock), a.Records[i].End())
	}
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)
	pieces := make([]Piece, 0, len(cuts)-1)
	for i := 1; i < len(cuts); i++ {
		pieces = append(pieces, pieceAt(d, a, uint32(cuts[i-1]), uint32(cuts[i]-cuts[i-1])))
	}
	return pieces
}

func pieceAt(d *Difference, a *Around, start, count uint32) Piece {
	p := Piece{AGNo: d.AGNo, Start: start, Count: count}
	if d.HasClaim {
		c := clip(d.Claim, start, count)
		p.Claim = &c
	}
	if d.HasKernel {
		r := clip(d.Kernel, start, count)
		p.Record = &r
	}
	if a.FreeKnown {
		p.Space = SpaceUsed
		for _, f := range a.Free {
			if f.Start <= start && f.end() >= uint64(start)+uint64(count) {
				p.Space = SpaceFree
			}
		}
	}
	own := p.Claim
	for i := range a.Claims {
		c := &a.Claims[i]
		if !covers(c, start, count) {
			continue
		}
		clipped := clip(*c, start, count)
		if own != nil && clipped == *own {
			own = nil // its own statement; a second one is another's
			continue
		}
		p.OtherClaims = append(p.OtherClaims, clipped)
	}
	ownRecord := p.Record
	shareable, shared := 0, 0
	for i := range a.Records {
		r := &a.Records[i]
		if !covers(&r.Rmap, start, count) {
			continue
		}
		if r.IsShareable() {
			shareable++
			if r.Shared {
				shared++
			}
		}
		clipped := clip(r.Rmap, start, count)
		if ownRecord != nil && clipped == *ownRecord {
			ownRecord = nil
			continue
		}
		p.OtherRecords = append(p.OtherRecords, clipped)
	}
	p.Shared = shareable > 0 && shared == shareable
	return p
}

func covers(r *shadow.Rmap, start, count uint32) bool {
	return r.StartBlock <= start && r.End() >= uint64(start)+uint64(count)
}

// clip cuts a mapping down to blocks [start, start+count), which it covers.
func clip(r shadow.Rmap, start, count uint32) shadow.Rmap {
	if r.HasOffset() {
		r.Offset += uint64(start - r.StartBlock)
	}
	r.StartBlock, r.BlockCount = start, count
	return r
}
