package verdict

import (
	"fmt"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/shadow"
)

// Decide applies the arbitration table to a confirmed dispute between forks
// and rmapbt. Pieces are judged one by one; a dispute of which one piece is
// held is held whole, and so is one whose pieces blame different structures.
func Decide(d *Dispute) Decision {
	if len(d.Pieces) == 0 {
		return hold(0, "there is no evidence")
	}
	var decided Decision
	for i := range d.Pieces {
		one := decidePiece(d, &d.Pieces[i])
		switch {
		case i == 0:
			decided = one
		case one.Held() && (!decided.Held() || one.Critical && !decided.Critical):
			decided = one
		case decided.Held():
			decided.OnlyTrace = decided.OnlyTrace || one.OnlyTrace
		case one.Action != decided.Action || one.Ino != decided.Ino || one.Attr != decided.Attr:
			return hold(0, fmt.Sprintf("two structures would have to be rebuilt, %s and %s, each from the other",
				decided.AtFault, one.AtFault))
		}
	}
	return decided
}

func hold(row int, reason string) Decision {
	return Decision{Row: row, AtFault: Undecided, Action: ActionHold, Reason: reason}
}

func blameRmapbt(row int) Decision {
	return Decision{Row: row, AtFault: Rmapbt, Action: ActionRebuildRmapbt}
}

func decidePiece(d *Dispute, p *Piece) Decision {
	switch {
	case p.Claim != nil && p.Record != nil:
		return decideDiffering(d, p)
	case p.Claim != nil:
		return decideMissing(d, p)
	case p.Record != nil:
		return decideExtra(d, p)
	default:
		return hold(0, "there is no evidence")
	}
}

// decideMissing is row 1 (no rmap where a fork has an extent) and its limits,
// rows 5 and 9.
func decideMissing(d *Dispute, p *Piece) Decision {
	if h, held := claimDoubted(d, p); held {
		return h
	}
	if r := foreign(p.OtherRecords, p.Claim); r != nil {
		return hold(9, fmt.Sprintf("the rmapbt gives the blocks of inode %d to %s instead", p.Claim.Owner, OwnerName(r.Owner)))
	}
	return blameRmapbt(1)
}

// decideDiffering is rows 1, 8, 11 and 12: fork and rmapbt both know the
// blocks, and say different things of them.
func decideDiffering(d *Dispute, p *Piece) Decision {
	if h, held := claimDoubted(d, p); held {
		return h
	}
	c, r := p.Claim, p.Record
	if c.Owner == r.Owner {
		if c.Flags()&shadow.OffsetUnwritten != 0 && r.Flags()&shadow.OffsetUnwritten == 0 {
			return hold(11, "the fork says unwritten where the rmapbt says written, and no third witness speaks")
		}
		switch {
		case c.Flags() == r.Flags():
			return blameRmapbt(12)
		case c.Flags()^r.Flags() == shadow.OffsetUnwritten && c.FileOffset() == r.FileOffset():
			return blameRmapbt(11)
		default:
			return blameRmapbt(1)
		}
	}
	if !r.IsInode() {
		return hold(14, fmt.Sprintf("the rmapbt gives the blocks to %s, which only the kernel can check", OwnerName(r.Owner)))
	}
	switch in := d.inode(r.Owner); {
	case in.State == OwnerDead:
		return blameRmapbt(8)
	case in.State == OwnerLive && in.Counters == CountersMatchFork:
		return blameRmapbt(1)
	case in.State == OwnerLive && in.Counters == CountersMatchForkMissing:
		return hold(9, fmt.Sprintf("inodes %d and %d each have a witness for these blocks", c.Owner, r.Owner))
	default:
		return hold(9, fmt.Sprintf("inode %d, which the rmapbt names, could not be judged", r.Owner))
	}
}

// claimDoubted holds a piece whose claim is itself not beyond doubt: the
// claiming inode's counters, the bnobt, or another fork speak against it.
func claimDoubted(d *Dispute, p *Piece) (Decision, bool) {
	c := p.Claim
	switch p.Space {
	case SpaceFree:
		h := hold(5, "a fork uses blocks that the bnobt calls free and the rmapbt does not know: no online repair is safe")
		h.Critical = true
		return h, true
	case SpaceUnknown:
		return hold(5, "the bnobt could not be asked"), true
	}
	if o := foreign(p.OtherClaims, c); o != nil {
		return hold(9, fmt.Sprintf("the blocks are claimed by inode %d and by %s", c.Owner, OwnerName(o.Owner))), true
	}
	if !c.IsInode() {
		return Decision{}, false // geometry claims need no counters
	}
	in := d.inode(c.Owner)
	if in.State != OwnerLive || in.Counters != CountersMatchFork {
		return hold(1, fmt.Sprintf("the counters of inode %d %s", c.Owner, in.Counters)), true
	}
	ran, flags := in.DataRan, in.DataScrub
	if c.Flags()&shadow.OffsetAttrFork != 0 {
		ran, flags = in.AttrRan, in.AttrScrub
	}
	switch {
	case !ran:
		return hold(1, "the kernel's own check of the fork gave no verdict"), true
	case flags.Has(ioctl.ScrubCorrupt):
		return hold(1, fmt.Sprintf("the kernel finds the fork of inode %d itself corrupt", c.Owner)), true
	case !flags.Has(ioctl.ScrubXCorrupt) && !flags.Has(ioctl.ScrubXFail):
		return hold(1, "the kernel finds fork and rmapbt in agreement: this contradicts what scrubd sees, please report it"), true
	}
	return Decision{}, false
}

// decideExtra is rows 2, 3, 8 and 16: the rmapbt has a record that no fork
// bears out.
func decideExtra(d *Dispute, p *Piece) Decision {
	r := p.Record
	if p.Space == SpaceUnknown {
		return hold(2, "the bnobt could not be asked")
	}
	if !r.IsInode() {
		return hold(14, fmt.Sprintf("the record of %s is one that only the kernel can check", OwnerName(r.Owner)))
	}
	denied := Denied(p)
	in := d.inode(r.Owner)
	switch in.State {
	case OwnerDead:
		if denied {
			return blameRmapbt(8)
		}
		h := hold(8, fmt.Sprintf("inode %d does not exist, but the bnobt has its blocks allocated and nobody else claims them", r.Owner))
		h.OnlyTrace = true
		return h
	case OwnerUnreadable:
		if denied {
			return hold(16, fmt.Sprintf("the fork of inode %d cannot be read, and another witness denies this record of it", r.Owner))
		}
		return blameFork(16, in, r)
	case OwnerLive:
		return decideExtraLive(p, in, denied)
	default:
		return hold(2, fmt.Sprintf("the forks of inode %d cannot be read from here", r.Owner))
	}
}

func decideExtraLive(p *Piece, in *Inode, denied bool) Decision {
	switch {
	case in.Counters == CountersMatchFork && denied:
		return blameRmapbt(2)
	case in.Counters == CountersMatchFork:
		h := hold(2, fmt.Sprintf("the record may be the only trace of data that inode %d lost: the fork and its counters lie in one sector, and nobody else denies it", in.Ino))
		h.OnlyTrace = true
		return h
	case in.Counters == CountersMatchForkMissing && !denied:
		if r := foreign(p.OtherRecords, p.Record); r != nil {
			return hold(3, fmt.Sprintf("the rmapbt gives the blocks to inode %d and to %s at once", in.Ino, OwnerName(r.Owner)))
		}
		return blameFork(3, in, p.Record)
	case in.Counters == CountersMatchForkMissing:
		return hold(3, fmt.Sprintf("the counters of inode %d side with the rmapbt, and another witness denies it", in.Ino))
	default:
		return hold(3, fmt.Sprintf("the counters of inode %d %s", in.Ino, in.Counters))
	}
}

func blameFork(row int, in *Inode, r *shadow.Rmap) Decision {
	d := Decision{Row: row, AtFault: DataFork, Action: ActionRebuildFork, Ino: in.Ino, Gen: in.Gen}
	if r.Flags()&shadow.OffsetAttrFork != 0 {
		d.AtFault, d.Attr = AttrFork, true
	}
	return d
}

// Denied reports whether a second witness denies the piece's record (the reap
// rule): the bnobt has the blocks free (W4), or another fork or known metadata
// claims them (W6).
//
// A claim that could share the blocks with the record denies it only where the
// refcountbt does not say that they are shared: a lost clone leaves just that
// picture, the other owner's claim and a record that the refcountbt bears out.
func Denied(p *Piece) bool {
	if p.Space == SpaceFree {
		return true
	}
	if p.Claim != nil {
		return true
	}
	for i := range p.OtherClaims {
		o := &p.OtherClaims[i]
		// The rmapbt saying twice what a fork says once loses nothing either.
		twice := o.Owner == p.Record.Owner && o.Offset == p.Record.Offset
		if twice || !o.IsShareable() || !p.Record.IsShareable() || !p.Shared {
			return true
		}
	}
	return false
}

// foreign returns the first of others that cannot stand beside c on the same
// blocks: of another owner or line, and not shareable with it.
func foreign(others []shadow.Rmap, c *shadow.Rmap) *shadow.Rmap {
	for i := range others {
		o := &others[i]
		if o.Owner == c.Owner && o.Offset == c.Offset {
			continue
		}
		if !o.IsShareable() || !c.IsShareable() {
			return o
		}
	}
	return nil
}

func (d *Dispute) inode(ino uint64) *Inode {
	if in, ok := d.Inodes[ino]; ok {
		return in
	}
	return &Inode{Ino: ioctl.Ino(ino)}
}

// OwnerName names an owner as a report does.
func OwnerName(owner uint64) string {
	switch owner {
	case shadow.OwnerFS:
		return "the AG headers"
	case shadow.OwnerLog:
		return "the log"
	case shadow.OwnerAG:
		return "the AG's free space and rmap btrees"
	case shadow.OwnerInobt:
		return "the inode btrees"
	case shadow.OwnerInodes:
		return "an inode chunk"
	case shadow.OwnerRefcbt:
		return "the refcount btree"
	case shadow.OwnerCoW:
		return "copy-on-write staging"
	default:
		if owner>>63 == 0 {
			return fmt.Sprintf("inode %d", owner)
		}
		return fmt.Sprintf("owner %d", int64(owner))
	}
}
