package verdict_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/verdict"
	"github.com/scrubd/scrubd/shadow"
)

// decision is what a case expects.
type decision struct {
	row       int
	letter    string
	action    verdict.Action
	atFault   verdict.Structure
	ino       ioctl.Ino
	attr      bool
	critical  bool
	onlyTrace bool
	reason    string // part of it
}

func rebuildsRmapbt(row int) decision {
	return decision{row: row, action: verdict.ActionRebuildRmapbt, atFault: verdict.Rmapbt}
}

func held(row int, reason string) decision {
	return decision{row: row, action: verdict.ActionHold, atFault: verdict.Undecided, reason: reason}
}

func onlyTrace(row int, reason string) decision {
	d := held(row, reason)
	d.onlyTrace = true
	return d
}

func critical(row int, reason string) decision {
	d := held(row, reason)
	d.critical = true
	return d
}

func rebuildsFork(row int, ino ioctl.Ino, isAttr bool) decision {
	d := decision{row: row, action: verdict.ActionRebuildFork, atFault: verdict.DataFork, ino: ino, attr: isAttr}
	if isAttr {
		d.atFault = verdict.AttrFork
	}
	return d
}

type decideCase struct {
	name string
	d    *verdict.Dispute
	want decision
}

func checkDecisions(t *testing.T, cases []decideCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got := verdict.Decide(c.d)
			assert.Equal(t, c.want.action, got.Action, "reason: %s", got.Reason)
			assert.Equal(t, c.want.row, got.Row, "reason: %s", got.Reason)
			assert.Equal(t, c.want.letter, got.Letter)
			assert.Equal(t, c.want.atFault, got.AtFault)
			assert.Equal(t, c.want.ino, got.Ino)
			assert.Equal(t, c.want.attr, got.Attr)
			assert.Equal(t, c.want.critical, got.Critical)
			assert.Equal(t, c.want.onlyTrace, got.OnlyTrace)
			assert.Contains(t, got.Reason, c.want.reason)
			assert.Equal(t, got.Action == verdict.ActionHold, got.Held())
			if got.Held() {
				assert.NotEmpty(t, got.Reason)
			} else {
				assert.Empty(t, got.Reason)
			}
		})
	}
}

// Row 1: the fork has an extent, the rmapbt has no record of it or another one.
func TestRow1(t *testing.T) {
	missing := func(more ...func(*verdict.Piece)) []verdict.Piece {
		return pieces(piece(data(72, 8, alice, 0), nil, more...))
	}
	checkDecisions(t, []decideCase{
		{"no record", dispute(missing(), inode(alice)), rebuildsRmapbt(1)},
		{"no record, attr fork", dispute(pieces(piece(attr(data(72, 8, alice, 0)), nil)), inode(alice)), rebuildsRmapbt(1)},
		{"no record of the AG headers", dispute(pieces(piece(special(0, 1, shadow.OwnerFS), nil))), rebuildsRmapbt(1)},
		{
			"of another live inode, which lacks nothing",
			dispute(pieces(piece(data(72, 8, alice, 0), data(72, 8, bob, 0))), inode(alice), inode(bob)), rebuildsRmapbt(1),
		},
		{
			"attr flag and offset both wrong",
			dispute(pieces(piece(data(72, 8, alice, 0), attr(data(72, 8, alice, 3)))), inode(alice)), rebuildsRmapbt(1),
		},
		{
			"unwritten and offset both wrong",
			dispute(pieces(piece(data(72, 8, alice, 0), unwritten(data(72, 8, alice, 3)))), inode(alice)), rebuildsRmapbt(1),
		},
		// W3
		{
			"counters agree with the rmapbt",
			dispute(missing(), inode(alice, counters(verdict.CountersMatchForkMissing))), held(1, "agree with the rmapbt"),
		},
		{"counters agree with neither", dispute(missing(), inode(alice, counters(verdict.CountersMatchNeither))), held(1, "agree with neither")},
		{"counters are doubted", dispute(missing(), inode(alice, counters(verdict.CountersDoubted))), held(1, "inode itself corrupt")},
		{"counters are unknown", dispute(missing(), inode(alice, counters(verdict.CountersUnknown))), held(1, "could not be judged")},
		{"the claiming inode is gone", dispute(missing(), inode(alice, is(verdict.OwnerDead))), held(1, "inode 131")},
		{"the claiming inode was not judged", dispute(missing()), held(1, "could not be judged")},
		{
			"the inode that the record names lacks it",
			dispute(pieces(piece(data(72, 8, alice, 0), data(72, 8, bob, 0))), inode(alice), inode(bob, counters(verdict.CountersMatchForkMissing))),
			held(9, "each have a witness"),
		},
		{
			"the inode that the record names has odd counters",
			dispute(pieces(piece(data(72, 8, alice, 0), data(72, 8, bob, 0))), inode(alice), inode(bob, counters(verdict.CountersMatchNeither))),
			held(9, "could not be judged"),
		},
		{
			"the inode that the record names is silent",
			dispute(pieces(piece(data(72, 8, alice, 0), data(72, 8, bob, 0))), inode(alice), inode(bob, is(verdict.OwnerSilent))),
			held(9, "could not be judged"),
		},
		// W8
		{"the kernel gave no verdict on the fork", dispute(missing(), inode(alice, unscrubbed)), held(1, "gave no verdict")},
		{
			"the kernel finds the fork itself corrupt",
			dispute(missing(), inode(alice, scrubbed(ioctl.ScrubCorrupt|ioctl.ScrubXCorrupt))), held(1, "itself corrupt"),
		},
		{"the kernel finds no disagreement", dispute(missing(), inode(alice, scrubbed(0))), held(1, "contradicts")},
		{
			"the kernel could not compare, because it finds the rmapbt bad",
			dispute(missing(rmapbtBad), inode(alice, scrubbed(ioctl.ScrubXFail))), rebuildsRmapbt(1),
		},
		{
			"the kernel could not compare, and finds nothing wrong with the rmapbt",
			dispute(missing(), inode(alice, scrubbed(ioctl.ScrubXFail))), held(1, "could not compare everything"),
		},
		{
			"the kernel finds the rmapbt bad, and no disagreement",
			dispute(missing(rmapbtBad), inode(alice, scrubbed(0))), held(1, "contradicts"),
		},
		{
			"the verdict on the other fork does not count",
			dispute(missing(), inode(alice, func(in *verdict.Inode) { in.DataScrub = 0 })), held(1, "contradicts"),
		},
		{
			"for an attr fork the verdict on that counts",
			dispute(pieces(piece(attr(data(72, 8, alice, 0)), nil)), inode(alice, func(in *verdict.Inode) { in.AttrScrub = 0 })),
			held(1, "contradicts"),
		},
	})
}

// Row 5: a fork uses blocks that the bnobt calls free.
func TestRow5(t *testing.T) {
	checkDecisions(t, []decideCase{
		{"free", dispute(pieces(piece(data(72, 8, alice, 0), nil, free)), inode(alice)), critical(5, "calls free")},
		{"free, and the rmapbt names a dead inode", dispute(pieces(piece(data(72, 8, alice, 0), data(72, 8, ghost, 0), free)), inode(alice)), critical(5, "calls free")},
		{"the bnobt could not be asked", dispute(pieces(piece(data(72, 8, alice, 0), nil, unknownSpace)), inode(alice)), held(5, "could not be asked")},
		{"one free piece makes all critical", dispute(pieces(
			piece(data(72, 4, alice, 0), nil),
			piece(data(76, 4, alice, 4), nil, free),
		), inode(alice)), critical(5, "calls free")},
		{"critical before merely held", dispute(pieces(
			piece(nil, data(60, 4, alice, 20)),
			piece(data(76, 4, alice, 4), nil, free),
		), inode(alice)), decision{
			row: 5, action: verdict.ActionHold, atFault: verdict.Undecided, critical: true, onlyTrace: true,
		}},
		{"critical even behind two structures at fault", dispute(pieces(
			piece(data(72, 4, alice, 0), nil),
			piece(nil, data(90, 4, bob, 0)),
			piece(data(76, 4, alice, 4), nil, free),
		), inode(alice), inode(bob, counters(verdict.CountersMatchForkMissing))), critical(5, "calls free")},
	})
}

// Row 2: the rmapbt has a record that a live inode's fork does not bear out,
// and the counters side with the fork.
func TestRow2(t *testing.T) {
	extra := func(more ...func(*verdict.Piece)) []verdict.Piece {
		return pieces(piece(nil, data(72, 8, alice, 16), more...))
	}
	checkDecisions(t, []decideCase{
		{"denied by the bnobt", dispute(extra(free), inode(alice)), rebuildsRmapbt(2)},
		{"denied by another fork", dispute(extra(alsoClaims(data(72, 8, bob, 0))), inode(alice)), rebuildsRmapbt(2)},
		{"denied by an inode chunk", dispute(extra(alsoClaims(special(72, 8, shadow.OwnerInodes))), inode(alice)), rebuildsRmapbt(2)},
		{"said twice", dispute(extra(alsoClaims(data(72, 8, alice, 16)), shared), inode(alice)), rebuildsRmapbt(2)},
		{
			"denied by the bnobt, and the kernel sees nothing",
			dispute(extra(func(p *verdict.Piece) { p.Space = verdict.SpaceFree }), inode(alice)), held(2, "contradicts"),
		},
		{"undenied: a lost inode write leaves just this", dispute(extra(), inode(alice)), onlyTrace(2, "only trace")},
		{"undenied, attr fork", dispute(pieces(piece(nil, attr(data(72, 8, alice, 0)))), inode(alice)), onlyTrace(2, "only trace")},
		{"undenied, unwritten", dispute(pieces(piece(nil, unwritten(data(72, 8, alice, 0)))), inode(alice)), onlyTrace(2, "only trace")},
		{"the bnobt could not be asked", dispute(extra(unknownSpace), inode(alice)), held(2, "could not be asked")},
		{"silent owner", dispute(extra(free), inode(alice, is(verdict.OwnerSilent))), held(2, "cannot be read from here")},
		{"unknown owner", dispute(extra(free), inode(alice, is(verdict.OwnerUnknown))), held(2, "cannot be read from here")},
		{"owner not judged", dispute(extra(free)), held(2, "cannot be read from here")},
		{"one undenied piece holds the denied ones", dispute(pieces(
			piece(nil, data(72, 4, alice, 16), free),
			piece(nil, data(76, 4, alice, 20)),
		), inode(alice)), onlyTrace(2, "only trace")},
	})
}

// Row 3: the counters side with the record that the fork lacks.
func TestRow3(t *testing.T) {
	lost := inode(alice, counters(verdict.CountersMatchForkMissing))
	extra := func(more ...func(*verdict.Piece)) []verdict.Piece {
		return pieces(piece(nil, data(72, 8, alice, 16), more...))
	}
	checkDecisions(t, []decideCase{
		{"data fork", dispute(extra(), lost), rebuildsFork(3, alice, false)},
		{"attr fork", dispute(pieces(piece(nil, attr(data(72, 8, alice, 0)))), lost), rebuildsFork(3, alice, true)},
		{"several extents of it", dispute(pieces(
			piece(nil, data(72, 8, alice, 16)), piece(nil, data(90, 8, alice, 24)),
		), lost), rebuildsFork(3, alice, false)},
		{"a lost clone", dispute(extra(shared, alsoClaims(data(72, 8, bob, 0)), alsoRecords(data(72, 8, bob, 0))), lost), rebuildsFork(3, alice, false)},
		{"counters agree with neither", dispute(extra(), inode(alice, counters(verdict.CountersMatchNeither))), held(3, "agree with neither")},
		{"counters doubted", dispute(extra(free), inode(alice, counters(verdict.CountersDoubted))), held(3, "inode itself corrupt")},
		{"counters unknown", dispute(extra(), inode(alice, counters(verdict.CountersUnknown))), held(3, "could not be judged")},
		{"denied by the bnobt", dispute(extra(free), lost), held(3, "another witness denies")},
		{"denied by another fork", dispute(extra(alsoClaims(data(72, 8, bob, 0))), lost), held(3, "another witness denies")},
		{"the rmapbt has a second owner", dispute(extra(alsoRecords(unwritten(data(72, 8, bob, 0)))), lost), held(3, "at once")},
		{"the rmapbt gives it to a btree too", dispute(extra(alsoRecords(special(72, 8, shadow.OwnerRefcbt))), lost), held(3, "at once")},
		{"both forks lost something", dispute(pieces(
			piece(nil, data(72, 8, alice, 16)), piece(nil, attr(data(90, 1, alice, 0))),
		), lost), held(0, "each from the other")},
		{"two inodes lost something", dispute(pieces(
			piece(nil, data(72, 8, alice, 16)), piece(nil, data(80, 8, bob, 0)),
		), lost, inode(bob, counters(verdict.CountersMatchForkMissing))), held(0, "each from the other")},
		{"the fork is blamed here and the rmapbt there", dispute(pieces(
			piece(nil, data(72, 8, alice, 16)), piece(data(80, 8, bob, 0), data(80, 8, bob, 9)),
		), lost, inode(bob)), held(0, "each from the other")},
	})
}

// Row 8: the record names no inode.
func TestRow8(t *testing.T) {
	extra := func(more ...func(*verdict.Piece)) []verdict.Piece {
		return pieces(piece(nil, data(72, 8, ghost, 0), more...))
	}
	checkDecisions(t, []decideCase{
		{"instead of the claimant", dispute(pieces(piece(data(72, 8, alice, 0), data(72, 8, ghost, 0))), inode(alice)), rebuildsRmapbt(8)},
		{"denied by the bnobt", dispute(extra(free)), rebuildsRmapbt(8)},
		{"denied by a fork", dispute(extra(alsoClaims(attr(data(72, 8, bob, 0))))), rebuildsRmapbt(8)},
		{
			"denied by the bnobt, and the kernel sees nothing",
			dispute(extra(func(p *verdict.Piece) { p.Space = verdict.SpaceFree })), held(8, "contradicts"),
		},
		{"undenied", dispute(extra()), onlyTrace(8, "does not exist")},
		{
			"instead of a claimant in doubt",
			dispute(pieces(piece(data(72, 8, alice, 0), data(72, 8, ghost, 0))), inode(alice, counters(verdict.CountersMatchNeither))),
			held(1, "agree with neither"),
		},
	})
}

// Row 9: two owners of the same blocks that cannot share them, or do not.
func TestRow9(t *testing.T) {
	claim := data(72, 8, alice, 0)
	checkDecisions(t, []decideCase{
		{"another fork's attr block", dispute(pieces(piece(claim, nil, alsoClaims(attr(data(72, 8, bob, 0))))), inode(alice)), held(9, "claimed by inode 131 and by inode 1000")},
		{"an inode chunk", dispute(pieces(piece(claim, nil, alsoClaims(special(72, 8, shadow.OwnerInodes)))), inode(alice)), held(9, "an inode chunk")},
		{"the rmapbt has a btree block there", dispute(pieces(piece(claim, nil, alsoRecords(special(72, 8, shadow.OwnerAG)))), inode(alice)), held(9, "instead")},
		{
			"and so beside a wrong record of its own",
			dispute(pieces(piece(claim, data(72, 8, alice, 9), alsoRecords(special(72, 8, shadow.OwnerInobt)))), inode(alice)), held(9, "instead"),
		},
		{
			"and so beside a record of nobody",
			dispute(pieces(piece(claim, data(72, 8, ghost, 0), alsoRecords(flagged(special(72, 8, bob), shadow.OffsetBmbtBlock)))), inode(alice)), held(9, "instead"),
		},
		{"unwritten blocks are not shared", dispute(pieces(piece(unwritten(claim), nil, alsoClaims(data(72, 8, bob, 0)))), inode(alice)), held(9, "inode 1000")},
		// A truncate that was lost, and the blocks given to another file since.
		{
			"went back in time to blocks of another file",
			dispute(pieces(piece(claim, nil, alsoClaims(data(72, 8, bob, 0)), alsoRecords(data(72, 8, bob, 0)))), inode(alice)),
			held(9, "does not have them as shared"),
		},
		{
			"went back in time to blocks that two others share",
			dispute(pieces(piece(claim, nil, shared, alsoClaims(data(72, 8, bob, 0), data(72, 8, carol, 0)),
				alsoRecords(data(72, 8, bob, 0), data(72, 8, carol, 0)))), inode(alice)),
			held(9, "fewer owners"),
		},
		{
			"the rmapbt names a second owner that nobody heard",
			dispute(pieces(piece(claim, nil, shared, alsoRecords(data(72, 8, bob, 0)))), inode(alice)), held(9, "was not heard"),
		},
		{
			"and so beside a record that is paired",
			dispute(pieces(piece(claim, data(72, 8, ghost, 0), shared, alsoRecords(data(72, 8, bob, 0)))), inode(alice)), held(9, "was not heard"),
		},
		// The record of one of several owners was lost: the kernel finds one too few.
		{
			"a shared extent lost one record",
			dispute(pieces(piece(claim, nil, shared, refcountDenies, alsoClaims(data(72, 8, bob, 0)), alsoRecords(data(72, 8, bob, 0)))), inode(alice)),
			rebuildsRmapbt(1),
		},
		{
			"a shared extent with one record of nobody",
			dispute(pieces(piece(claim, data(72, 8, ghost, 0), shared, alsoClaims(data(72, 8, bob, 0)), alsoRecords(data(72, 8, bob, 0)))), inode(alice)),
			rebuildsRmapbt(8),
		},
		{
			"a shared extent with one record unwritten",
			dispute(pieces(piece(claim, unwritten(claim), shared, alsoClaims(data(72, 8, bob, 0)), alsoRecords(data(72, 8, bob, 0)))), inode(alice)),
			rebuildsRmapbt(11),
		},
		{
			"a shared extent, and all records are lost",
			dispute(pieces(piece(claim, nil, refcountDenies, alsoClaims(data(72, 8, bob, 0)))), inode(alice)),
			held(9, "does not have them as shared"),
		},
		{
			"one claim and one record of two that the refcountbt counts",
			dispute(pieces(piece(claim, data(72, 8, bob, 0), shared, refcountDenies)), inode(alice), inode(bob)),
			held(9, "counts more owners"),
		},
		{
			"the refcountbt is at odds with the rmapbt elsewhere",
			dispute(pieces(piece(claim, data(72, 8, bob, 0), refcountDenies)), inode(alice), inode(bob)), rebuildsRmapbt(1),
		},
		{
			"part of the record is shared, these blocks are not",
			dispute(pieces(piece(claim, data(72, 8, bob, 0), shared)), inode(alice), inode(bob)), rebuildsRmapbt(1),
		},
	})
}

// Row 11: only the unwritten flag differs. Both ways, they are no tie.
func TestRow11(t *testing.T) {
	checkDecisions(t, []decideCase{
		{"rmapbt unwritten, fork written", dispute(pieces(piece(data(72, 8, alice, 0), unwritten(data(72, 8, alice, 0)))), inode(alice)), rebuildsRmapbt(11)},
		{"rmapbt written, fork unwritten", dispute(pieces(piece(unwritten(data(72, 8, alice, 0)), data(72, 8, alice, 0))), inode(alice)), held(11, "no third witness")},
		{
			"rmapbt written at another offset, fork unwritten",
			dispute(pieces(piece(unwritten(data(72, 8, alice, 0)), data(72, 8, alice, 5))), inode(alice)), held(11, "no third witness"),
		},
	})
}

// Row 12: only the offset differs.
func TestRow12(t *testing.T) {
	checkDecisions(t, []decideCase{
		{"data", dispute(pieces(piece(data(72, 8, alice, 0), data(72, 8, alice, 64))), inode(alice)), rebuildsRmapbt(12)},
		{"attr", dispute(pieces(piece(attr(data(72, 8, alice, 0)), attr(data(72, 8, alice, 64)))), inode(alice)), rebuildsRmapbt(12)},
		{"both unwritten", dispute(pieces(piece(unwritten(data(72, 8, alice, 0)), unwritten(data(72, 8, alice, 64)))), inode(alice)), rebuildsRmapbt(12)},
		{"counters against", dispute(pieces(piece(data(72, 8, alice, 0), data(72, 8, alice, 64))), inode(alice, counters(verdict.CountersMatchNeither))), held(1, "neither")},
	})
}

// Row 14: records that only the kernel can check.
func TestRow14(t *testing.T) {
	for _, owner := range []uint64{
		shadow.OwnerFS, shadow.OwnerLog, shadow.OwnerAG, shadow.OwnerInobt, shadow.OwnerInodes, shadow.OwnerRefcbt, shadow.OwnerCoW,
		shadow.OwnerUnknown,
	} {
		checkDecisions(t, []decideCase{
			{verdict.OwnerName(owner) + " instead of a fork", dispute(pieces(piece(data(72, 8, alice, 0), special(72, 8, owner))), inode(alice)), held(14, verdict.OwnerName(owner))},
			{verdict.OwnerName(owner) + " alone", dispute(pieces(piece(nil, special(72, 8, owner), free))), held(14, verdict.OwnerName(owner))},
		})
	}
}

// Row 16: a fork that cannot be read is rebuilt from the rmapbt, if the kernel
// too finds it corrupt and nobody denies what the rmapbt has of it.
func TestRow16(t *testing.T) {
	gone := func(more ...func(*verdict.Inode)) *verdict.Inode {
		return inode(alice, append([]func(*verdict.Inode){
			is(verdict.OwnerUnreadable), counters(verdict.CountersUnknown), scrubbed(ioctl.ScrubCorrupt), recorded(8),
		}, more...)...)
	}
	extra := func(more ...func(*verdict.Piece)) []verdict.Piece {
		return pieces(piece(nil, data(72, 8, alice, 0), more...))
	}
	extraAttr := pieces(piece(nil, attr(data(72, 8, alice, 0))))
	checkDecisions(t, []decideCase{
		{"data fork", dispute(extra(), gone()), rebuildsFork(16, alice, false)},
		{"attr fork", dispute(extraAttr, gone(attrLost)), rebuildsFork(16, alice, true)},
		{"the rmapbts lack some of its blocks", dispute(extra(), gone(recorded(7))), held(16, "have 7 blocks of inode 131, which counts 8")},
		{"the rmapbts have more than its blocks", dispute(extra(), gone(recorded(9))), held(16, "have 9 blocks")},
		{"not all records can be read", dispute(extra(), gone(func(in *verdict.Inode) { in.RecordedKnown = false })), held(16, "cannot all be read")},
		{"it counts no block", dispute(extra(), gone(func(in *verdict.Inode) { in.Blocks, in.Recorded = 0, 0 })), held(16, "counts 0")},
		{"denied", dispute(extra(free), gone()), held(16, "another witness denies")},
		{"of two owners at once", dispute(extra(alsoRecords(special(72, 8, shadow.OwnerCoW))), gone()), held(16, "at once")},
		{"the other fork is the one that cannot be read", dispute(extra(), gone(attrLost)), onlyTrace(16, "the other fork")},
		{"and the other way round", dispute(extraAttr, gone()), onlyTrace(16, "the other fork")},
		{"the kernel reads it", dispute(extra(), gone(scrubbed(0))), held(16, "does not find it corrupt")},
		{"the kernel only sees a disagreement", dispute(extra(), gone(scrubbed(ioctl.ScrubXCorrupt))), held(16, "does not find it corrupt")},
		{"the kernel gave no verdict", dispute(extra(), gone(unscrubbed)), held(16, "does not find it corrupt")},
		{"the claim of an unreadable inode", dispute(pieces(piece(data(72, 8, alice, 0), nil)), gone()), held(1, "inode 131")},
		{"as the owner that a record names instead", dispute(pieces(piece(data(72, 8, bob, 0), data(72, 8, alice, 0))), gone(), inode(bob)), held(9, "could not be judged")},
		{"cannot be loaded at all", dispute(extra(), gone(is(verdict.OwnerUnloadable))), onlyTrace(16, "refuses to load")},
		{"cannot be loaded, denied", dispute(extra(free), gone(is(verdict.OwnerUnloadable))), onlyTrace(16, "refuses to load")},
	})
}

func TestDecideWithoutEvidence(t *testing.T) {
	checkDecisions(t, []decideCase{
		{"no pieces", dispute(nil), held(0, "no evidence")},
		{"an empty piece", dispute(pieces(piece(nil, nil))), held(0, "no evidence")},
	})
}

// What is held is held whole, in whatever order the pieces come.
func TestDecideIsWhole(t *testing.T) {
	good := piece(data(72, 8, alice, 0), data(72, 8, alice, 64))
	bad := piece(nil, data(90, 8, alice, 8))
	for _, p := range [][]verdict.Piece{{good, bad}, {bad, good}, {good, bad, good}} {
		got := verdict.Decide(dispute(p, inode(alice)))
		assert.True(t, got.Held())
		assert.True(t, got.OnlyTrace)
		assert.Equal(t, 2, got.Row)
	}
	got := verdict.Decide(dispute(pieces(good, good), inode(alice)))
	assert.Equal(t, verdict.ActionRebuildRmapbt, got.Action)
	assert.False(t, got.OnlyTrace)
}

func TestNames(t *testing.T) {
	assert.Equal(t, "inode 131", verdict.OwnerName(131))
	assert.Equal(t, "the log", verdict.OwnerName(shadow.OwnerLog))
	assert.Equal(t, "owner -2", verdict.OwnerName(shadow.OwnerUnknown))
	assert.Equal(t, []string{"unknown", "allocated", "free"}, []string{
		verdict.SpaceUnknown.String(), verdict.SpaceUsed.String(), verdict.SpaceFree.String(),
	})
	said := make(map[string]bool)
	for _, c := range []verdict.Counters{
		verdict.CountersUnknown, verdict.CountersMatchFork, verdict.CountersMatchForkMissing,
		verdict.CountersMatchNeither, verdict.CountersDoubted,
	} {
		assert.NotEmpty(t, c.String())
		said[c.String()] = true
	}
	assert.Len(t, said, 5, "each relation has words of its own")
	p := piece(data(72, 8, alice, 0), nil)
	assert.Equal(t, uint32(80), p.End())
}
