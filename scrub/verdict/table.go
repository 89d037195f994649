package verdict

import (
	"slices"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/shadow"
)

// Decide applies the arbitration table to a confirmed dispute between forks
// and rmapbt. A fork that moved as a whole is judged as a whole (row 3b); other
// pieces are judged one by one: a dispute of which one piece is held is held
// whole, and so is one whose pieces blame different structures.
func Decide(d *Dispute) Decision {
	if len(d.Pieces) == 0 {
		return hold(0, "there is no evidence")
	}
	if moved, ok := displaced(d); ok {
		if LostInode(d) {
			moved.Row, moved.Letter = 18, ""
		}
		return moved
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
			decided = hold(0, "two structures would have to be rebuilt, %s and %s, each from the other", decided.AtFault, one.AtFault)
		}
	}
	decided.OnlyTrace = onlyTrace && decided.Held()
	if LostInode(d) && (decided.Row == 2 || decided.Row == 3) && decided.Action != ActionRebuildRmapbt {
		decided.Row = 18
	}
	return decided
}

func decidePiece(d *Dispute, p *Piece) Decision {
	e := &seen{d: d, p: p, c: p.Claim, r: p.Record}
	if e.c != nil {
		e.claimant = d.inode(e.c.Owner)
	}
	if e.r != nil {
		e.named = d.inode(e.r.Owner)
		e.denied = d.Denied(p)
	}
	switch {
	case e.c != nil && e.r != nil:
		return decideBy(differing, e)
	case e.c != nil:
		return decideBy(missing, e)
	default:
		return decideBy(extra, e)
	}
}

// Table returns all lines about a piece, in the order in which they are tried:
// those that doubt a claim, those for a claim without record, those for a claim
// and another record, and those for a record without claim.
func Table() []Row {
	return slices.Concat([]Row{displacedRow, tooLong}, doubts, missing[1+len(doubts):], []Row{sharedUnwritten, outOfOrder}, differing[2+len(doubts):], extra)
}

// doubts hold a piece whose claim is itself not beyond doubt: the bnobt,
// another owner of the blocks, the refcountbt, the claiming inode's counters or
// the kernel speak against it.
var doubts = []Row{
	{
		Number: 5, Seen: "a fork maps blocks that the bnobt has free", AtFault: Undecided, Critical: true,
		when: func(e *seen) bool { return e.p.Space == SpaceFree },
		why:  say("a fork uses blocks that the bnobt calls free and the rmapbt does not give to it: no online repair is safe"),
	},
	{
		Number: 5, Seen: "a fork maps blocks, and the bnobt is silent", AtFault: Undecided,
		when: func(e *seen) bool { return e.p.Space == SpaceUnknown },
		why:  say("the bnobt could not be asked, or the gap that the claim would leave was not confirmed"),
	},
	{
		Number: 9, Seen: "another owner claims the blocks, which cannot share them", AtFault: Undecided,
		when: func(e *seen) bool { return foreign(e.p.OtherClaims, e.c) != nil },
		why:  (*seen).whyCrossed,
	},
	{
		Number: 9, Seen: "the rmapbt gives the blocks to an owner that cannot share them", AtFault: Undecided,
		when: func(e *seen) bool { return e.foreignRecord() != nil },
		why:  (*seen).whyGivenAway,
	},
	{
		Number: 9, Seen: "the refcountbt does not count the claimant among the owners", AtFault: Undecided,
		when: func(e *seen) bool { return e.p.sharingDoubted() != "" },
		why:  func(e *seen) string { return e.p.sharingDoubted() },
	},
	{
		Number: 1, Seen: "the counters of the claiming inode do not agree with its forks", AtFault: Undecided,
		when: func(e *seen) bool {
			return e.c.IsInode() && (e.claimant.State != OwnerLive || e.claimant.Counters != CountersMatchFork)
		},
		why: (*seen).whyClaimantCounters,
	},
	{
		Number: 1, Seen: "the kernel gave no verdict on the fork", AtFault: Undecided,
		when: func(e *seen) bool { return e.c.IsInode() && !e.claimRan() },
		why:  say("the kernel's own check of the fork gave no verdict"),
	},
	{
		Number: 1, Seen: "the kernel finds the fork itself corrupt", AtFault: Undecided,
		when: func(e *seen) bool { return e.c.IsInode() && e.claimScrub().Has(ioctl.ScrubCorrupt) },
		why:  (*seen).whyForkCorrupt,
	},
	{
		// An XFAIL is no word for the fork; it is excused where the reason is that
		// the rmapbt is marked sick, and rightly so.
		Number: 1, Seen: "the kernel could not compare, and finds nothing wrong with the rmapbt", AtFault: Undecided,
		when: func(e *seen) bool {
			return e.c.IsInode() && !e.claimScrub().Has(ioctl.ScrubXCorrupt) && e.claimScrub().Has(ioctl.ScrubXFail) && !e.p.RmapbtBad
		},
		why: say("the kernel's own check of the fork could not compare everything, and it finds nothing wrong with the rmapbt"),
	},
	{
		Number: 1, Seen: "the kernel finds fork and rmapbt in agreement", AtFault: Undecided,
		when: func(e *seen) bool { return e.c.IsInode() && !e.claimScrub().Any(ioctl.ScrubXCorrupt|ioctl.ScrubXFail) },
		why:  say("the kernel finds fork and rmapbt in agreement: this contradicts what scrubd sees, please report it"),
	},
}

// missing: a fork has an extent, and the rmapbt no record of it.
var missing = slices.Concat([]Row{tooLong}, doubts, []Row{
	{
		Number: 13, Seen: "the rmapbt calls an extent of a fork a block of that fork's btree, and the tree has one block less",
		AtFault: Rmapbt, Action: ActionRebuildRmapbt,
		when: func(e *seen) bool { return e.d.calledBtree(e.p) },
	},
	{
		Number: 1, Seen: "a fork has an extent that the rmapbt lacks", AtFault: Rmapbt, Action: ActionRebuildRmapbt,
		when: func(*seen) bool { return true },
	},
})

// sharedUnwritten comes before the doubts: what it sees would be one.
var sharedUnwritten = Row{
	Number: 11, Letter: "b", Seen: "the fork says unwritten and the rmapbt written, and other files share the blocks: those are written",
	AtFault: DataFork, Action: ActionRebuildFork,
	when: (*seen).sharedSoWritten,
}

// tooLong comes before the doubts as well: it goes against the claim in all that
// they doubt it for.
var tooLong = Row{
	Number: 5, Letter: "b", Seen: "a fork has more blocks than its inode counts, of which the rmapbts have all; the mapping overruns the next one, and two witnesses deny the blocks",
	AtFault: DataFork, Action: ActionRebuildFork,
	when: (*seen).tooLong,
}

// outOfOrder comes before the doubts too: that the kernel finds the fork corrupt in
// itself is part of it. Fork and rmapbt have the same blocks of one file, so that
// nothing comes or goes, and its mappings around bear the rmapbt out.
var outOfOrder = Row{
	Number: 12, Letter: "b", Seen: "only the offset differs, the fork is corrupt in itself, and out of order there but for the offset of the rmapbt",
	AtFault: DataFork, Action: ActionRebuildFork,
	when: (*seen).outOfOrder,
}

// differing: fork and rmapbt both know the blocks, and say different things.
var differing = slices.Concat([]Row{sharedUnwritten, outOfOrder}, doubts, []Row{
	{
		Number: 11, Seen: "the fork says unwritten and the rmapbt written, and nobody else speaks", AtFault: Undecided,
		when: func(e *seen) bool { return e.sameOwner() && unwrittenOnly(e.c, e.r) },
		why:  say("the fork says unwritten where the rmapbt says written, and no third witness speaks"),
	},
	{
		// Blocks of a directory or of attributes name one another by their offsets.
		Number: 12, Seen: "only the offset differs, and the kernel finds the directory or attributes in the fork corrupt", AtFault: Undecided, OnlyTrace: true,
		when: func(e *seen) bool { return e.p.OffsetDiffers() && e.contentsCorrupt() },
		why:  (*seen).whyContentsCorrupt,
	},
	{
		Number: 12, Seen: "only the offset differs", AtFault: Rmapbt, Action: ActionRebuildRmapbt,
		when: func(e *seen) bool { return e.sameOwner() && e.c.Flags() == e.r.Flags() },
	},
	{
		Number: 11, Seen: "the rmapbt says unwritten and the fork written", AtFault: Rmapbt, Action: ActionRebuildRmapbt,
		when: func(e *seen) bool {
			return e.sameOwner() && e.c.Flags()^e.r.Flags() == shadow.OffsetUnwritten && e.c.FileOffset() == e.r.FileOffset()
		},
	},
	{
		Number: 1, Seen: "flags and offset differ", AtFault: Rmapbt, Action: ActionRebuildRmapbt,
		when: (*seen).sameOwner,
	},
	{
		Number: 14, Seen: "the rmapbt gives the blocks to metadata", AtFault: Undecided,
		when: func(e *seen) bool { return !e.r.IsInode() },
		why:  (*seen).whyMetadata,
	},
	{
		Number: 8, Seen: "the rmapbt names an inode that does not exist", AtFault: Rmapbt, Action: ActionRebuildRmapbt,
		when: func(e *seen) bool { return e.named.State == OwnerDead },
	},
	{
		Number: 1, Seen: "the rmapbt names another inode, which lacks nothing", AtFault: Rmapbt, Action: ActionRebuildRmapbt,
		when: func(e *seen) bool { return e.named.State == OwnerLive && e.named.Counters == CountersMatchFork },
	},
	{
		Number: 9, Seen: "the rmapbt names another inode, whose counters want the blocks", AtFault: Undecided,
		when: func(e *seen) bool { return e.named.State == OwnerLive && e.named.Counters == CountersMatchForkMissing },
		why:  (*seen).whyBothWant,
	},
	{
		Number: 9, Seen: "the rmapbt names another inode, which cannot be judged", AtFault: Undecided,
		when: func(*seen) bool { return true },
		why:  (*seen).whyNamedUnjudged,
	},
})

// extra: the rmapbt has a record that no fork bears out.
var extra = []Row{
	{
		Number: 0, Seen: "nothing", AtFault: Undecided,
		when: func(e *seen) bool { return e.r == nil },
		why:  say("there is no evidence"),
	},
	{
		Number: 2, Seen: "a record without fork, and the bnobt is silent", AtFault: Undecided,
		when: func(e *seen) bool { return e.p.Space == SpaceUnknown },
		why:  say("the bnobt could not be asked"),
	},
	{
		Number: 14, Seen: "a record of metadata alone", AtFault: Undecided,
		when: func(e *seen) bool { return !e.r.IsInode() },
		why:  (*seen).whyMetadataAlone,
	},
	{
		Number: 8, Seen: "a record of free blocks of an inode that does not exist, and the kernel sees nothing", AtFault: Undecided,
		when: func(e *seen) bool { return e.named.State == OwnerDead && e.denied && e.unseen() },
		why:  say(whyUnseen),
	},
	{
		Number: 8, Seen: "the record's inode does not exist, and another witness denies it", AtFault: Rmapbt, Action: ActionRebuildRmapbt,
		when: func(e *seen) bool { return e.named.State == OwnerDead && e.denied },
	},
	{
		Number: 8, Seen: "the record's inode does not exist, and nobody denies it", AtFault: Undecided, OnlyTrace: true,
		when: func(e *seen) bool { return e.named.State == OwnerDead },
		why:  (*seen).whyNoInode,
	},
	{
		Number: 16, Seen: "the fork cannot be read, and another witness denies the record", AtFault: Undecided,
		when: func(e *seen) bool { return e.named.State == OwnerUnreadable && e.denied },
		why:  (*seen).whyUnreadableDenied,
	},
	{
		Number: 16, Seen: "the other fork cannot be read", AtFault: Undecided, OnlyTrace: true,
		when: func(e *seen) bool { return e.named.State == OwnerUnreadable && isAttr(e.r) != e.named.UnreadableAttr },
		why:  (*seen).whyOtherFork,
	},
	{
		Number: 16, Seen: "the fork cannot be read, and the rmapbt has two owners for its blocks", AtFault: Undecided,
		when: func(e *seen) bool {
			return e.named.State == OwnerUnreadable && foreign(e.p.OtherRecords, e.r) != nil
		},
		why: (*seen).whyTwoOwners,
	},
	{
		Number: 16, Seen: "the fork cannot be read, and the kernel does not find it corrupt", AtFault: Undecided,
		when: func(e *seen) bool { return e.named.State == OwnerUnreadable && !e.recordForkCorrupt() },
		why:  (*seen).whyKernelReadsIt,
	},
	{
		Number: 16, Seen: "the fork cannot be read, and the inode does not count as many blocks as the rmapbts have of it", AtFault: Undecided,
		when: func(e *seen) bool { return e.named.State == OwnerUnreadable && e.named.whyNotRecorded() != "" },
		why:  func(e *seen) string { return e.named.whyNotRecorded() },
	},
	{
		Number: 16, Seen: "the fork cannot be read, the kernel finds it corrupt, and the rmapbts have all blocks that the inode counts",
		AtFault: DataFork, Action: ActionRebuildFork,
		when: func(e *seen) bool { return e.named.State == OwnerUnreadable },
	},
	{
		Number: 16, Seen: "the inode cannot be loaded", AtFault: Undecided, OnlyTrace: true,
		when: func(e *seen) bool { return e.named.State == OwnerUnloadable },
		why:  (*seen).whyUnloadable,
	},
	{
		Number: 2, Seen: "the record's forks cannot be read from here", AtFault: Undecided,
		when: func(e *seen) bool { return e.named.State != OwnerLive },
		why:  (*seen).whySilent,
	},
	{
		Number: 13, Seen: "the rmapbt calls a block of a fork's btree an extent of the fork, and the tree has one block more",
		AtFault: Rmapbt, Action: ActionRebuildRmapbt,
		when: func(e *seen) bool { return e.d.ownBtree(e.p) },
	},
	{
		Number: 2, Seen: "a record of free blocks, and the kernel sees nothing", AtFault: Undecided,
		when: func(e *seen) bool { return e.named.Counters == CountersMatchFork && e.denied && e.unseen() },
		why:  say(whyUnseen),
	},
	{
		Number: 2, Seen: "the counters agree with the fork, and another witness denies the record", AtFault: Rmapbt, Action: ActionRebuildRmapbt,
		when: func(e *seen) bool { return e.named.Counters == CountersMatchFork && e.denied },
	},
	{
		Number: 2, Seen: "the counters agree with the fork, and nobody denies the record", AtFault: Undecided, OnlyTrace: true,
		when: func(e *seen) bool { return e.named.Counters == CountersMatchFork },
		why:  (*seen).whyOnlyTrace,
	},
	{
		Number: 3, Seen: "the counters agree with the record, and another witness denies it", AtFault: Undecided,
		when: func(e *seen) bool { return e.named.Counters == CountersMatchForkMissing && e.denied },
		why:  (*seen).whyCountersDenied,
	},
	{
		Number: 3, Seen: "the counters agree with the record, and the rmapbt has two owners for the blocks", AtFault: Undecided,
		when: func(e *seen) bool {
			return e.named.Counters == CountersMatchForkMissing && foreign(e.p.OtherRecords, e.r) != nil
		},
		why: (*seen).whyTwoOwners,
	},
	{
		Number: 3, Seen: "the counters agree with the record, and the fork has its offsets elsewhere", AtFault: Undecided,
		when: func(e *seen) bool { return e.named.Counters == CountersMatchForkMissing && e.p.Elsewhere },
		why:  (*seen).whyElsewhere,
	},
	{
		Number: 3, Seen: "the counters agree with the record, and nobody denies it", AtFault: DataFork, Action: ActionRebuildFork,
		when: func(e *seen) bool { return e.named.Counters == CountersMatchForkMissing },
	},
	{
		Number: 3, Seen: "the counters agree with neither", AtFault: Undecided,
		when: func(*seen) bool { return true },
		why:  (*seen).whyNeither,
	},
}
