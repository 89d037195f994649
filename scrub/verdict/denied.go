package verdict

import (
	"fmt"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/shadow"
)

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
	return d.mappedElsewhere(p) || d.ownBtree(p)
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
