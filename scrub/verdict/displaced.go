package verdict

import (
	"cmp"
	"slices"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/shadow"
)

// displacedRow is row 3b: a fork and the rmapbt have the very same offsets of one
// file, of the same length and state, and at other blocks. No length, counter or
// flag tells the two apart, but the blocks do: if the fork were right, those that
// only it names would be allocated and nobody else's; if the rmapbt is right,
// they are free or provably somebody else's, while those that only the rmapbt
// names are allocated, and nobody else's. The bnobt (W4) and the other owners
// (W6) so decide between W1 and W2, block by block, and all have to side with
// the rmapbt. What the file reads today is then free space or another file's
// data, and a rebuild from the rmapbt restores what it read before.
var displacedRow = Row{
	Number: 3, Letter: "b",
	Seen:    "fork and rmapbt have the same offsets at other blocks; every block that only the fork names is free or another's, and none that only the rmapbt names",
	AtFault: DataFork, Action: ActionRebuildFork,
	when: func(e *seen) bool { return e.d.sidesWithRecords(e.named, isAttr(e.r)) },
}

// displaced applies row 3b to a dispute as a whole.
func displaced(d *Dispute) (Decision, bool) {
	var owner *shadow.Rmap // the one mapping whose inode and fork all others share
	for i := range d.Pieces {
		for _, m := range []*shadow.Rmap{d.Pieces[i].Record, d.Pieces[i].Claim} {
			switch {
			case m == nil:
			case !m.HasOffset():
				return Decision{}, false
			case owner == nil:
				owner = m
			case m.Owner != owner.Owner || isAttr(m) != isAttr(owner):
				return Decision{}, false
			}
		}
	}
	if owner == nil {
		return Decision{}, false
	}
	e := &seen{d: d, p: &d.Pieces[0], r: owner, named: d.inode(owner.Owner)}
	if !displacedRow.when(e) {
		return Decision{}, false
	}
	return displacedRow.decide(e), true
}

// sidesWithRecords is the evidence of row 3b. Everything in the dispute is of
// one fork of inode in.
func (d *Dispute) sidesWithRecords(in *Inode, attr bool) bool {
	const bad = ioctl.ScrubCorrupt | ioctl.ScrubXCorrupt
	// The same number of blocks lies in both, so that the counters have to add up;
	// with the blocks of the forks' btrees as the rmapbt records them, because a
	// rebuild of the fork frees those.
	if in.State != OwnerLive || in.Counters != CountersMatchFork || in.Blocks != in.ForkBlocks {
		return false
	}
	if ran, flags := in.fork(attr); !ran || !flags.Any(bad) {
		return false
	}
	var claimed, recorded []fileRange
	denied := false
	for i := range d.Pieces {
		p := &d.Pieces[i]
		if p.Claim != nil {
			claimed = append(claimed, rangeOf(p.Claim))
		}
		if p.Record != nil {
			recorded = append(recorded, rangeOf(p.Record))
		}
		switch {
		case p.Record != nil && !p.standsFor(p.Record):
			return false
		case p.Record == nil && !p.claimDenied():
			return false
		case p.Record == nil:
			denied = true
		}
	}
	return denied && slices.Equal(joinRanges(claimed), joinRanges(recorded))
}

// standsFor tells whether the blocks of p are allocated and known to nobody else
// than m, but for owners that share them by the refcountbt's word.
func (p *Piece) standsFor(m *shadow.Rmap) bool {
	if p.Space != SpaceUsed || foreign(p.OtherClaims, m) != nil || foreign(p.OtherRecords, m) != nil {
		return false
	}
	if len(p.OtherClaims) == 0 && len(p.OtherRecords) == 0 {
		return true
	}
	for i := range p.OtherRecords {
		if !has(p.OtherClaims, &p.OtherRecords[i]) {
			return false // an owner that was not heard
		}
	}
	return p.Shared && !p.RefcountDenies && len(p.OtherClaims) == len(p.OtherRecords)
}

// claimDenied tells whether two witnesses deny the claim of p: the bnobt has the
// blocks free and the rmapbt gives them to nobody; or they are another's by its
// own claim and the rmapbt, and cannot be or are not shared; or they are
// metadata by the rmapbt and by the kernel's check of all metadata.
func (p *Piece) claimDenied() bool {
	switch p.Space {
	case SpaceFree:
		return len(p.OtherClaims) == 0 && len(p.OtherRecords) == 0
	case SpaceUnknown:
		return false
	}
	for i := range p.OtherRecords {
		o := &p.OtherRecords[i]
		if !o.HasOffset() && !p.RmapbtBad {
			return true
		}
		if o.Owner == p.Claim.Owner && o.Offset == p.Claim.Offset || !has(p.OtherClaims, o) {
			continue
		}
		counted := p.Shared && !p.RefcountDenies && len(p.OtherClaims) == len(p.OtherRecords)
		if !o.IsShareable() || !p.Claim.IsShareable() || !p.Shared || counted {
			return true
		}
	}
	return false
}

// fileRange is a run of blocks of a fork.
type fileRange struct {
	start, count uint64
	unwritten    bool
}

func rangeOf(m *shadow.Rmap) fileRange {
	return fileRange{m.FileOffset(), uint64(m.BlockCount), m.Flags()&shadow.OffsetUnwritten != 0}
}

// joinRanges sorts runs and joins those that continue one another. Runs that
// overlap stay apart: a fork cannot map an offset twice.
func joinRanges(in []fileRange) []fileRange {
	slices.SortFunc(in, func(a, b fileRange) int { return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.count, b.count)) })
	var out []fileRange
	for _, r := range in {
		if n := len(out); n > 0 && out[n-1].start+out[n-1].count == r.start && out[n-1].unwritten == r.unwritten {
			out[n-1].count += r.count
			continue
		}
		out = append(out, r)
	}
	return out
}

// calledBtree tells whether the rmapbt calls what p claims blocks of the claiming
// fork's own btree (row 13): it records just as many such blocks too many as it
// calls extents of this inode that.
func (d *Dispute) calledBtree(p *Piece) bool {
	if p.Claim == nil || p.Record != nil || !p.Claim.HasOffset() {
		return false
	}
	in := d.inode(p.Claim.Owner)
	if !in.BtreeKnown || in.BtreeMissing >= 0 || len(p.OtherClaims) > 0 || !p.underOwnBtree() || len(p.OtherRecords) != 1 {
		return false
	}
	var called int64
	for i := range d.Pieces {
		if o := &d.Pieces[i]; o.Claim != nil && o.Claim.Owner == p.Claim.Owner && o.underOwnBtree() {
			called += int64(o.Count)
		}
	}
	return called == -in.BtreeMissing
}

// underOwnBtree: the rmapbt has the claimed blocks as those of the fork's btree.
func (p *Piece) underOwnBtree() bool {
	return slices.ContainsFunc(p.OtherRecords, func(r shadow.Rmap) bool {
		return r.Owner == p.Claim.Owner && r.Offset&shadow.OffsetBmbtBlock != 0 && (r.Offset^p.Claim.Offset)&shadow.OffsetAttrFork == 0
	})
}

// ownBtree tells whether the record of p is one of a block of the fork's own
// btree that the rmapbt calls an extent (row 13). The kernel has counted the
// blocks of the inode, so many of which are btree blocks that have no record as
// such; every allocated block of the filesystem has some record; so that the
// records which the fork does not bear out are those blocks' if they are just
// as many. A rebuild of the rmapbt then frees none of them.
func (d *Dispute) ownBtree(p *Piece) bool {
	if p.Record == nil || p.Claim != nil || !p.Record.HasOffset() || !d.NothingLost {
		return false
	}
	in := d.inode(p.Record.Owner)
	const bad = ioctl.ScrubCorrupt | ioctl.ScrubXCorrupt
	ran, flags := in.fork(isAttr(p.Record))
	if in.State != OwnerLive || in.Counters != CountersMatchFork || !in.BtreeKnown || in.BtreeMissing <= 0 || !ran || !flags.Any(bad) {
		return false
	}
	var extra int64
	for i := range d.Pieces {
		o := &d.Pieces[i]
		if o.Record == nil || o.Record.Owner != p.Record.Owner || o.Claim != nil {
			continue
		}
		if o.Space != SpaceUsed || len(o.OtherClaims) > 0 || len(o.OtherRecords) > 0 {
			return false
		}
		extra += int64(o.Count)
	}
	return extra == in.BtreeMissing
}
