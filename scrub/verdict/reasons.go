package verdict

import (
	"fmt"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/shadow"
)

const whyUnseen = "the kernel finds nothing wrong with the rmapbt although it owns free blocks: this contradicts what scrubd sees, please report it"

func isAttr(r *shadow.Rmap) bool { return r.Flags()&shadow.OffsetAttrFork != 0 }

func unwrittenOnly(c, r *shadow.Rmap) bool {
	return c.Flags()&shadow.OffsetUnwritten != 0 && r.Flags()&shadow.OffsetUnwritten == 0
}

func (e *seen) sameOwner() bool { return e.c.Owner == e.r.Owner }

func (e *seen) claimRan() bool {
	ran, _ := e.claimant.fork(isAttr(e.c))
	return ran
}

func (e *seen) claimScrub() ioctl.ScrubFlags {
	_, flags := e.claimant.fork(isAttr(e.c))
	return flags
}

func (e *seen) recordForkCorrupt() bool {
	ran, flags := e.named.fork(isAttr(e.r))
	return ran && flags.Has(ioctl.ScrubCorrupt)
}

// unseen: the kernel's own check of the rmapbt has to find a record of free
// blocks too.
func (e *seen) unseen() bool { return e.p.Space == SpaceFree && !e.p.RmapbtBad }

// foreignRecord is another record of the blocks that cannot stand beside the
// claim, unless the count of the fork's btree blocks shows what it truly is.
func (e *seen) foreignRecord() *shadow.Rmap {
	if e.d.calledBtree(e.p) {
		return nil
	}
	return foreign(e.p.OtherRecords, e.c)
}

// sharedSoWritten: unwritten blocks are never shared. Another file's fork claims
// these as written, rmapbt and refcountbt have both as owners of them, and only
// this fork calls them unwritten (W2, W5 and W6 against W1).
func (e *seen) sharedSoWritten() bool {
	if !e.sameOwner() || e.c.Flags() != shadow.OffsetUnwritten || e.r.Flags() != 0 || e.c.FileOffset() != e.r.FileOffset() {
		return false
	}
	in := e.claimant
	if in.State != OwnerLive || in.Counters != CountersMatchFork || in.Blocks != in.ForkBlocks ||
		!e.claimRan() || !e.claimScrub().Any(ioctl.ScrubCorrupt|ioctl.ScrubXCorrupt) {
		return false
	}
	if e.p.Space != SpaceUsed || !e.p.Shared || e.p.RefcountDenies {
		return false
	}
	for i := range e.p.OtherClaims {
		o := &e.p.OtherClaims[i]
		if !o.IsShareable() || !has(e.p.OtherRecords, o) {
			return false
		}
	}
	return len(e.p.OtherClaims) > 0 && len(e.p.OtherClaims) == len(e.p.OtherRecords)
}

// outOfOrder: the fork contradicts itself where it contradicts the rmapbt, and the
// counters of the inode, the bnobt and all other owners have nothing against either.
// It is the one difference of that inode: the mappings around, with which both are
// held to be in order or not, are those of the rmapbt too. A listing that lacks
// mappings, as one of a fork that is out of order may, does not add up to the counters.
func (e *seen) outOfOrder() bool {
	in := e.claimant
	for i := range e.d.Pieces {
		p := &e.d.Pieces[i]
		if p != e.p && (p.Claim != nil && p.Claim.Owner == e.c.Owner || p.Record != nil && p.Record.Owner == e.c.Owner) {
			return false
		}
	}
	return e.p.OffsetDiffers() && e.p.RoomForRecord &&
		in.State == OwnerLive && in.Counters == CountersMatchFork && in.Blocks == in.ForkBlocks &&
		e.claimRan() && e.claimScrub().Has(ioctl.ScrubCorrupt) && e.p.standsFor(e.r)
}

// tooLong: the inode counts as many blocks as the rmapbts have of it, and its forks
// have more by just those that no record covers.
func (e *seen) tooLong() bool {
	in := e.claimant
	// What the fork has twice, and the rmapbt once, at the same offset stays.
	twice := len(e.p.OtherClaims) == 1 && has(e.p.OtherClaims, e.c) && len(e.p.OtherRecords) == 1 && has(e.p.OtherRecords, e.c)
	if !e.p.OverrunsNext || !twice && !e.p.claimDenied() || in.State != OwnerLive ||
		!in.RecordedKnown || in.Recorded != in.Blocks || !e.claimRan() || !e.claimScrub().Has(ioctl.ScrubCorrupt) {
		return false
	}
	var over uint64
	for i := range e.d.Pieces {
		if p := &e.d.Pieces[i]; p.Claim != nil && p.Record == nil && p.Claim.Owner == e.c.Owner {
			over += uint64(p.Count)
		}
	}
	return in.ForkBlocks == in.Blocks+over
}

func (e *seen) contentsCorrupt() bool {
	if isAttr(e.c) {
		return e.claimant.AttrsBad
	}
	return e.claimant.NamesBad
}

func has(set []shadow.Rmap, r *shadow.Rmap) bool {
	for i := range set {
		if set[i] == *r {
			return true
		}
	}
	return false
}

func (e *seen) whyCrossed() string {
	return fmt.Sprintf("the blocks are claimed by %s and by %s", OwnerName(e.c.Owner), OwnerName(foreign(e.p.OtherClaims, e.c).Owner))
}

func (e *seen) whyGivenAway() string {
	return fmt.Sprintf("the rmapbt gives the blocks of %s to %s instead", OwnerName(e.c.Owner), OwnerName(foreign(e.p.OtherRecords, e.c).Owner))
}

func (e *seen) whyClaimantCounters() string {
	return fmt.Sprintf("the counters of inode %d %s", e.c.Owner, e.claimant.Counters)
}

func (e *seen) whyForkCorrupt() string {
	return fmt.Sprintf("the kernel finds the fork of inode %d itself corrupt", e.c.Owner)
}

func (e *seen) whyMetadata() string {
	return fmt.Sprintf("the rmapbt gives the blocks to %s, which only the kernel can check", OwnerName(e.r.Owner))
}

func (e *seen) whyMetadataAlone() string {
	return fmt.Sprintf("the record of %s is one that only the kernel can check", OwnerName(e.r.Owner))
}

func (e *seen) whyBothWant() string {
	return fmt.Sprintf("inodes %d and %d each have a witness for these blocks", e.c.Owner, e.r.Owner)
}

func (e *seen) whyNamedUnjudged() string {
	return fmt.Sprintf("inode %d, which the rmapbt names, could not be judged", e.r.Owner)
}

func (e *seen) whyNoInode() string {
	return fmt.Sprintf("inode %d does not exist, but the bnobt has its blocks allocated and nobody else claims them", e.r.Owner)
}

func (e *seen) whyUnreadableDenied() string {
	return fmt.Sprintf("the fork of inode %d cannot be read, and another witness denies this record of it", e.named.Ino)
}

// whyOtherFork: this fork was read and lacks the blocks; its counters cannot be
// told apart from those of the other one.
func (e *seen) whyOtherFork() string {
	return fmt.Sprintf("the other fork of inode %d cannot be read, so that its counters do not tell whether this one lost the blocks", e.named.Ino)
}

func (e *seen) whyTwoOwners() string {
	return fmt.Sprintf("the rmapbt gives the blocks to inode %d and to %s at once", e.named.Ino, OwnerName(foreign(e.p.OtherRecords, e.r).Owner))
}

func (e *seen) whyKernelReadsIt() string {
	return fmt.Sprintf("the fork of inode %d cannot be read, and the kernel's own check of it does not find it corrupt", e.named.Ino)
}

// whyNotRecorded says why the rmapbts are not known to have all of the inode's
// blocks and none besides, "" if they are. A fork that is rebuilt from them unread
// would lose what has no record, and the count that could still tell with it.
func (in *Inode) whyNotRecorded() string {
	switch {
	case !in.RecordedKnown:
		return fmt.Sprintf("the records of inode %d, whose fork cannot be held against them, cannot all be read", in.Ino)
	case in.Recorded != in.Blocks || in.Blocks == 0:
		return fmt.Sprintf("the rmapbts have %d blocks of inode %d, which counts %d: its fork cannot be held against them", in.Recorded, in.Ino, in.Blocks)
	}
	return ""
}

func (e *seen) whyUnloadable() string {
	return fmt.Sprintf("the kernel refuses to load inode %d: only a repair that rewrites the inode and empties its forks could go on, and offline repair does the same", e.r.Owner)
}

func (e *seen) whySilent() string {
	return fmt.Sprintf("the forks of inode %d cannot be read from here", e.r.Owner)
}

func (e *seen) whyOnlyTrace() string {
	return fmt.Sprintf("the record may be the only trace of data that inode %d lost: the fork and its counters lie in one sector, and nobody else denies it", e.named.Ino)
}

func (e *seen) whyCountersDenied() string {
	return fmt.Sprintf("the counters of inode %d side with the rmapbt, and another witness denies it", e.named.Ino)
}

func (e *seen) whyNeither() string {
	return fmt.Sprintf("the counters of inode %d %s", e.named.Ino, e.named.Counters)
}

func (e *seen) whyContentsCorrupt() string {
	return fmt.Sprintf("the kernel finds the directory or attributes of inode %d corrupt, which speaks against the fork: the record may be the only trace of where the blocks belong", e.c.Owner)
}

func (e *seen) whyElsewhere() string {
	return fmt.Sprintf("the fork of inode %d maps the same offsets to other blocks", e.named.Ino)
}
