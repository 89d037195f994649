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
	decided := decidePiece(d, &d.Pieces[0])
	onlyTrace := decided.OnlyTrace
	for i := range d.Pieces[1:] {
		one := decidePiece(d, &d.Pieces[1+i])
		onlyTrace = onlyTrace || one.OnlyTrace
		switch {
		case one.Held() && (!decided.Held() || one.Critical && !decided.Critical):
			decided = one
		case decided.Held():
		case one.Action != decided.Action || one.Ino != decided.Ino || one.Attr != decided.Attr:
			decided = hold(0, fmt.Sprintf("two structures would have to be rebuilt, %s and %s, each from the other",
				decided.AtFault, one.AtFault))
		}
	}
	decided.OnlyTrace = onlyTrace && decided.Held()
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
// claiming inode's counters, the bnobt, another owner of the blocks or the
// refcountbt speak against it.
func claimDoubted(d *Dispute, p *Piece) (Decision, bool) {
	c := p.Claim
	switch p.Space {
	case SpaceFree:
		h := hold(5, "a fork uses blocks that the bnobt calls free and the rmapbt does not give to it: no online repair is safe")
		h.Critical = true
		return h, true
	case SpaceUnknown:
		return hold(5, "the bnobt could not be asked"), true
	}
	if o := foreign(p.OtherClaims, c); o != nil {
		return hold(9, fmt.Sprintf("the blocks are claimed by %s and by %s", OwnerName(c.Owner), OwnerName(o.Owner))), true
	}
	if r := foreign(p.OtherRecords, c); r != nil {
		return hold(9, fmt.Sprintf("the rmapbt gives the blocks of %s to %s instead", OwnerName(c.Owner), OwnerName(r.Owner))), true
	}
	if why := p.sharingDoubted(); why != "" {
		return hold(9, why), true
	}
	if !c.IsInode() {
		return Decision{}, false // geometry claims need no counters
	}
	in := d.inode(c.Owner)
	if in.State != OwnerLive || in.Counters != CountersMatchFork {
		return hold(1, fmt.Sprintf("the counters of inode %d %s", c.Owner, in.Counters)), true
	}
	ran, flags := in.fork(c.Flags()&shadow.OffsetAttrFork != 0)
	switch {
	case !ran:
		return hold(1, "the kernel's own check of the fork gave no verdict"), true
	case flags.Has(ioctl.ScrubCorrupt):
		return hold(1, fmt.Sprintf("the kernel finds the fork of inode %d itself corrupt", c.Owner)), true
	case flags.Has(ioctl.ScrubXCorrupt):
		return Decision{}, false
	case flags.Has(ioctl.ScrubXFail) && p.RmapbtBad:
		// It was not compared, because the rmapbt is marked sick, and rightly so.
		return Decision{}, false
	case flags.Has(ioctl.ScrubXFail):
		return hold(1, "the kernel's own check of the fork could not compare everything, and it finds nothing wrong with the rmapbt"), true
	}
	return hold(1, "the kernel finds fork and rmapbt in agreement: this contradicts what scrubd sees, please report it"), true
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
	denied := d.Denied(p)
	in := d.inode(r.Owner)
	switch in.State {
	case OwnerDead:
		if denied {
			return blameExtra(8, p)
		}
		h := hold(8, fmt.Sprintf("inode %d does not exist, but the bnobt has its blocks allocated and nobody else claims them", r.Owner))
		h.OnlyTrace = true
		return h
	case OwnerUnreadable:
		return decideUnreadable(p, in, denied)
	case OwnerUnloadable:
		h := hold(16, fmt.Sprintf("the kernel refuses to load inode %d: only a repair that rewrites the inode and empties its forks could go on, and offline repair does the same", r.Owner))
		h.OnlyTrace = true
		return h
	case OwnerLive:
		return decideExtraLive(p, in, denied)
	default:
		return hold(2, fmt.Sprintf("the forks of inode %d cannot be read from here", r.Owner))
	}
}

// decideUnreadable is row 16: the fork that the record is of cannot be read.
func decideUnreadable(p *Piece, in *Inode, denied bool) Decision {
	attr := p.Record.Flags()&shadow.OffsetAttrFork != 0
	ran, flags := in.fork(attr)
	switch other := foreign(p.OtherRecords, p.Record); {
	case denied:
		return hold(16, fmt.Sprintf("the fork of inode %d cannot be read, and another witness denies this record of it", in.Ino))
	case attr != in.UnreadableAttr:
		// This fork was read and lacks the blocks; its counters cannot be told
		// apart from those of the other one.
		h := hold(16, fmt.Sprintf("the other fork of inode %d cannot be read, so that its counters do not tell whether this one lost the blocks", in.Ino))
		h.OnlyTrace = true
		return h
	case other != nil:
		return hold(16, fmt.Sprintf("the rmapbt gives the blocks to inode %d and to %s at once", in.Ino, OwnerName(other.Owner)))
	case !ran || !flags.Has(ioctl.ScrubCorrupt):
		return hold(16, fmt.Sprintf("the fork of inode %d cannot be read, and the kernel's own check of it does not find it corrupt", in.Ino))
	}
	return blameFork(16, in, p.Record)
}

func decideExtraLive(p *Piece, in *Inode, denied bool) Decision {
	switch {
	case in.Counters == CountersMatchFork && denied:
		return blameExtra(2, p)
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

// blameExtra blames the rmapbt for a record that is denied. A record of free
// blocks is one that the kernel's own check of the rmapbt has to find too.
func blameExtra(row int, p *Piece) Decision {
	if p.Space == SpaceFree && !p.RmapbtBad {
		return hold(row, "the kernel finds nothing wrong with the rmapbt although it owns free blocks: this contradicts what scrubd sees, please report it")
	}
	return blameRmapbt(row)
}

func blameFork(row int, in *Inode, r *shadow.Rmap) Decision {
	d := Decision{Row: row, AtFault: DataFork, Action: ActionRebuildFork, Ino: in.Ino, Gen: in.Gen}
	if r.Flags()&shadow.OffsetAttrFork != 0 {
		d.AtFault, d.Attr = AttrFork, true
	}
	return d
}

// Denied reports whether a second witness denies the record of piece p (the
// reap rule): the bnobt has the blocks free (W4), or another fork or known
// metadata claims them (W6). Another record of the rmapbt is no second witness;
// see mappedElsewhere for when it counts all the same.
//
// A claim that could share the blocks with the record denies it only where the
// refcountbt does not bear the record out: where it does not have the blocks as
// shared, or the kernel finds that it counts fewer owners than the rmapbt has.
// A lost clone leaves just the other picture: the other owner's claim, and a
// record that is counted.
func (d *Dispute) Denied(p *Piece) bool {
	if p.Space == SpaceFree || p.Claim != nil {
		return true
	}
	for i := range p.OtherClaims {
		o := &p.OtherClaims[i]
		// The rmapbt saying twice what a fork says once loses nothing either.
		twice := o.Owner == p.Record.Owner && o.Offset == p.Record.Offset
		if twice || !o.IsShareable() || !p.Record.IsShareable() || !p.Shared || p.RefcountDenies {
			return true
		}
	}
	return d.mappedElsewhere(p)
}

// mappedElsewhere reports whether the record of p strayed onto blocks of
// another owner: the rmapbt gives the blocks to somebody else too, and the fork
// that the record names maps all of its offsets to other blocks, which are in
// use and known to nobody but that fork.
//
// The first keeps blocks from being freed that no one else is known to own. The
// second is the bnobt's word for the fork: the blocks of a mapping that was lost
// with an inode write are free by now, or owned by somebody, be it the same
// inode at another offset. Blocks in use that have no record at all are those
// that the record was of before it strayed.
func (d *Dispute) mappedElsewhere(p *Piece) bool {
	if len(p.OtherClaims) == 0 && len(p.OtherRecords) == 0 {
		return false
	}
	from := p.Record.FileOffset()
	to := from + uint64(p.Count)
	for at := from; at < to; {
		next := at
		for i := range d.Pieces {
			o := &d.Pieces[i]
			c := o.Claim
			if c == nil || c.Owner != p.Record.Owner || (c.Flags()^p.Record.Flags())&shadow.OffsetAttrFork != 0 ||
				o.Record != nil || o.Space != SpaceUsed || len(o.OtherClaims) > 0 || len(o.OtherRecords) > 0 {
				continue
			}
			if c.FileOffset() <= at && at < c.FileOffset()+uint64(o.Count) {
				next = c.FileOffset() + uint64(o.Count)
			}
		}
		if next == at {
			return false
		}
		at = next
	}
	return true
}

// sharingDoubted says why the claim of p cannot be taken for one of several
// owners of its blocks, "" if it can or is the only one.
//
// A fork that went back in time (a lost inode write) claims blocks that another
// file may own by now; both are data, and could share them as far as their kind
// goes. The refcountbt decides: it has to have the blocks as shared, and if the
// rmapbt has fewer owners than the forks, the kernel has to find the refcountbt
// at odds with the rmapbt. Where it does not, these two agree with each other
// and are against the claim. An owner in the rmapbt that was not heard to claim
// the blocks may be a link, or a file that a lease keeps shut, and cannot be
// counted on to share them.
func (p *Piece) sharingDoubted() string {
	if !p.Claim.IsShareable() {
		return ""
	}
	claims, records := 1, 0
	heard := map[uint64]bool{p.Claim.Owner: true}
	for i := range p.OtherClaims {
		if o := &p.OtherClaims[i]; o.Owner != p.Claim.Owner || o.Offset != p.Claim.Offset {
			claims++
			heard[o.Owner] = true
		}
	}
	if p.Record != nil {
		records++
	}
	for i := range p.OtherRecords {
		records++
		if o := &p.OtherRecords[i]; !heard[o.Owner] {
			return fmt.Sprintf("the rmapbt gives the blocks to %s too, which was not heard to claim them", OwnerName(o.Owner))
		}
	}
	switch {
	case claims > 1 && !p.Shared:
		return fmt.Sprintf("the blocks are claimed by %s and by others, and the refcountbt does not have them as shared", OwnerName(p.Claim.Owner))
	case claims > 1 && claims > records && !p.RefcountDenies:
		return fmt.Sprintf("rmapbt and refcountbt agree that the blocks have fewer owners than claim them, %s among these", OwnerName(p.Claim.Owner))
	case claims == 1 && p.Record != nil && p.Record.Owner != p.Claim.Owner && p.Shared && p.RefcountDenies:
		return fmt.Sprintf("the refcountbt counts more owners of the blocks than %s, and the rmapbt names another one", OwnerName(p.Claim.Owner))
	}
	return ""
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
