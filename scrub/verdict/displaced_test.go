package verdict_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/verdict"
	"github.com/scrubd/scrubd/shadow"
)

func rebuildsFork3b(ino ioctl.Ino, isAttr bool) decision {
	d := rebuildsFork(3, ino, isAttr)
	d.letter = "b"
	return d
}

func with(p verdict.Piece, more ...func(*verdict.Piece)) verdict.Piece {
	for _, f := range more {
		f(&p)
	}
	return p
}

func blocks(n, forks uint64) func(*verdict.Inode) {
	return func(in *verdict.Inode) { in.Blocks, in.ForkBlocks = n, forks }
}

// Row 3b: a fork has the offsets of a file at other blocks than the rmapbt.
func TestRow3b(t *testing.T) {
	home := piece(nil, data(72, 8, alice, 16)) // where the rmapbt has it
	away := piece(data(200, 8, alice, 16), nil)
	onFree := with(away, free)
	bobs := with(away, alsoClaims(data(200, 8, bob, 0)), alsoRecords(data(200, 8, bob, 0)))
	shift := pieces( // by 3 of 8 blocks, the last ones onto free space
		piece(nil, data(72, 3, alice, 16)),
		piece(data(75, 5, alice, 16), data(75, 5, alice, 19)),
		with(piece(data(80, 3, alice, 21), nil), free),
	)
	carols := []func(*verdict.Piece){shared, alsoClaims(data(72, 8, carol, 0)), alsoRecords(data(72, 8, carol, 0))}
	checkDecisions(t, []decideCase{
		{"onto free blocks", dispute(pieces(home, onFree), inode(alice)), rebuildsFork3b(alice, false)},
		{"the other way round", dispute(pieces(onFree, home), inode(alice)), rebuildsFork3b(alice, false)},
		{"shifted by less than its length", dispute(shift, inode(alice)), rebuildsFork3b(alice, false)},
		{"onto another file's blocks", dispute(pieces(home, bobs), inode(alice), inode(bob)), rebuildsFork3b(alice, false)},
		{
			"onto blocks that two others share", dispute(pieces(home, with(away, shared,
				alsoClaims(data(200, 8, bob, 0), data(200, 8, carol, 0)), alsoRecords(data(200, 8, bob, 0), data(200, 8, carol, 0)))), inode(alice)),
			rebuildsFork3b(alice, false),
		},
		{
			"onto its own blocks of another offset", dispute(pieces(home, with(away, alsoClaims(data(200, 8, alice, 64)), alsoRecords(data(200, 8, alice, 64)))), inode(alice)),
			rebuildsFork3b(alice, false),
		},
		{"onto a btree", dispute(pieces(home, with(away, alsoRecords(special(200, 8, shadow.OwnerAG)))), inode(alice)), rebuildsFork3b(alice, false)},
		{
			"onto a btree of another fork", dispute(pieces(home, with(away, alsoRecords(flagged(special(200, 8, bob), shadow.OffsetBmbtBlock)))), inode(alice)),
			rebuildsFork3b(alice, false),
		},
		{
			"attr fork", dispute(pieces(piece(nil, attr(data(72, 8, alice, 0))), with(piece(attr(data(200, 8, alice, 0)), nil), free)), inode(alice)),
			rebuildsFork3b(alice, true),
		},
		{"home is shared with others", dispute(pieces(with(home, carols...), onFree), inode(alice), inode(carol)), rebuildsFork3b(alice, false)},
		{"the kernel finds the fork corrupt", dispute(pieces(home, onFree), inode(alice, scrubbed(ioctl.ScrubCorrupt))), rebuildsFork3b(alice, false)},
		{
			"in two parts", dispute(pieces(home, with(piece(data(200, 4, alice, 16), nil), free), with(piece(data(300, 4, alice, 20), nil), free)), inode(alice)),
			rebuildsFork3b(alice, false),
		},
	})
	// Each witness turned round, alone: nothing is rebuilt from the rmapbt.
	for _, c := range []struct {
		name string
		d    *verdict.Dispute
	}{
		{"the bnobt has the fork's blocks in use", dispute(pieces(home, away), inode(alice))},
		{"the bnobt was not heard of the fork's blocks", dispute(pieces(home, with(away, unknownSpace)), inode(alice))},
		{"the bnobt has the record's blocks free", dispute(pieces(with(home, free), onFree), inode(alice))},
		{"the bnobt was not heard of the record's blocks", dispute(pieces(with(home, unknownSpace), onFree), inode(alice))},
		{"one block of the fork's is in use", dispute(pieces(home, with(piece(data(200, 7, alice, 16), nil), free), piece(data(207, 1, alice, 23), nil)), inode(alice))},
		{"another file claims the record's blocks", dispute(pieces(with(home, alsoClaims(data(72, 8, bob, 0))), onFree), inode(alice), inode(bob))},
		{"the rmapbt has a second owner for them", dispute(pieces(with(home, alsoRecords(data(72, 8, bob, 0))), onFree), inode(alice), inode(bob))},
		{"a chunk lies on them", dispute(pieces(with(home, alsoClaims(special(72, 8, shadow.OwnerInodes))), onFree), inode(alice))},
		{"a sharer of them that the refcountbt does not count", dispute(pieces(with(home, carols[1:]...), onFree), inode(alice), inode(carol))},
		{"and one that the kernel counts otherwise", dispute(pieces(with(home, append(carols, refcountDenies)...), onFree), inode(alice), inode(carol))},
		{"the other file does not claim its blocks", dispute(pieces(home, with(bobs, func(p *verdict.Piece) { p.OtherClaims = nil })), inode(alice), inode(bob))},
		{"the other file has no record of its blocks", dispute(pieces(home, with(bobs, func(p *verdict.Piece) { p.OtherRecords = nil })), inode(alice), inode(bob))},
		{"blocks that the fork could share", dispute(pieces(home, with(bobs, shared, refcountDenies)), inode(alice), inode(bob))},
		{"a btree, and the kernel finds the rmapbt bad", dispute(pieces(home, with(away, rmapbtBad, alsoRecords(special(200, 8, shadow.OwnerAG)))), inode(alice))},
		{"counters side with neither", dispute(pieces(home, onFree), inode(alice, counters(verdict.CountersMatchNeither)))},
		{"counters want more", dispute(pieces(home, onFree), inode(alice, counters(verdict.CountersMatchForkMissing)))},
		{"the sums do not add up: a btree block too many in the rmapbt", dispute(pieces(home, onFree), inode(alice, blocks(8, 9)))},
		{"the kernel finds nothing wrong with the fork", dispute(pieces(home, onFree), inode(alice, scrubbed(0)))},
		{"the kernel gave no verdict", dispute(pieces(home, onFree), inode(alice, unscrubbed))},
		{"the kernel could not compare", dispute(pieces(home, onFree), inode(alice, scrubbed(ioctl.ScrubXFail)))},
		{"the inode cannot be read", dispute(pieces(home, onFree), inode(alice, is(verdict.OwnerUnreadable)))},
		{"another offset", dispute(pieces(home, with(piece(data(200, 8, alice, 17), nil), free)), inode(alice))},
		{"shorter", dispute(pieces(home, with(piece(data(200, 7, alice, 16), nil), free)), inode(alice))},
		{"longer", dispute(pieces(home, with(piece(data(200, 9, alice, 16), nil), free)), inode(alice))},
		{"the fork says unwritten", dispute(pieces(home, with(piece(unwritten(data(200, 8, alice, 16)), nil), free)), inode(alice))},
		{"the rmapbt says unwritten", dispute(pieces(piece(nil, unwritten(data(72, 8, alice, 16))), onFree), inode(alice))},
		{"the other fork", dispute(pieces(home, with(piece(attr(data(200, 8, alice, 16)), nil), free)), inode(alice))},
		{"another inode's record", dispute(pieces(piece(nil, data(72, 8, bob, 16)), onFree), inode(alice), inode(bob))},
		{"the rmapbt has an offset twice", dispute(pieces(home, piece(nil, data(500, 8, alice, 16)), onFree), inode(alice))},
		{"nothing moved but offsets among its own blocks", dispute(pieces(piece(data(72, 8, alice, 24), data(72, 8, alice, 16)), piece(data(80, 8, alice, 16), data(80, 8, alice, 24))), inode(alice))},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := verdict.Decide(c.d)
			assert.NotEqual(t, verdict.ActionRebuildFork, got.Action)
			assert.NotEqual(t, "b", got.Letter)
		})
	}
}

// The opposite of row 3b: the record moved, and the blocks side with the fork.
func TestRow3bTurnedRound(t *testing.T) {
	checkDecisions(t, []decideCase{
		{"onto free blocks", dispute(pieces(piece(data(72, 8, alice, 16), nil), with(piece(nil, data(200, 8, alice, 16)), free)), inode(alice)), rebuildsRmapbt(1)},
	})
	got := verdict.Decide(dispute(pieces(piece(data(72, 8, alice, 16), nil, func(p *verdict.Piece) { p.Space = verdict.SpaceUsed }), piece(nil, data(200, 8, alice, 16))), inode(alice)))
	assert.True(t, got.Held(), "both in use, and nobody else's: a lost inode write, or a stray record")
}

// Row 11b: other files share blocks that this fork alone calls unwritten.
func TestRow11b(t *testing.T) {
	claim, record := unwritten(data(72, 8, alice, 0)), data(72, 8, alice, 0)
	bobs := []func(*verdict.Piece){shared, alsoClaims(data(72, 8, bob, 4)), alsoRecords(data(72, 8, bob, 4))}
	decided := rebuildsFork(11, alice, false)
	decided.letter = "b"
	checkDecisions(t, []decideCase{
		{"shared", dispute(pieces(piece(claim, record, bobs...)), inode(alice), inode(bob)), decided},
		{"not shared", dispute(pieces(piece(claim, record)), inode(alice)), held(11, "no third witness")},
	})
	for _, c := range []struct {
		name string
		p    verdict.Piece
		in   *verdict.Inode
	}{
		{"not marked as shared", piece(claim, record, bobs[1:]...), inode(alice)},
		{"the kernel counts otherwise", piece(claim, record, append(bobs, refcountDenies)...), inode(alice)},
		{"the sharer does not claim them", piece(claim, record, shared, bobs[2]), inode(alice)},
		{"the sharer has no record", piece(claim, record, shared, bobs[1]), inode(alice)},
		{"the sharer calls them unwritten too", piece(claim, record, shared, alsoClaims(unwritten(data(72, 8, bob, 4))), alsoRecords(unwritten(data(72, 8, bob, 4)))), inode(alice)},
		{"the blocks are free", piece(claim, record, append(bobs, free)...), inode(alice)},
		{"the bnobt was not heard", piece(claim, record, append(bobs, unknownSpace)...), inode(alice)},
		{"the offset differs", piece(claim, data(72, 8, alice, 8), bobs...), inode(alice)},
		{"the counters are not the fork's", piece(claim, record, bobs...), inode(alice, counters(verdict.CountersMatchNeither))},
		{"the sums do not add up", piece(claim, record, bobs...), inode(alice, blocks(8, 9))},
		{"the kernel finds nothing", piece(claim, record, bobs...), inode(alice, scrubbed(0))},
		{"the kernel gave no verdict", piece(claim, record, bobs...), inode(alice, unscrubbed)},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := verdict.Decide(dispute(pieces(c.p), c.in, inode(bob)))
			assert.True(t, got.Held(), "%+v", got)
		})
	}
}

// Row 13: blocks of a fork's own btree that the rmapbt takes for data, and data
// that it takes for such.
func TestRow13(t *testing.T) {
	called := piece(data(72, 1, alice, 0), nil, alsoRecords(flagged(special(72, 1, alice), shadow.OffsetBmbtBlock)))
	tree := func(missing int64) func(*verdict.Inode) {
		return func(in *verdict.Inode) { in.BtreeKnown, in.BtreeMissing = true, missing }
	}
	stray := piece(nil, data(72, 1, alice, 0))
	lossless := func(d *verdict.Dispute) *verdict.Dispute {
		d.NothingLost = true
		return d
	}
	checkDecisions(t, []decideCase{
		{"data called a btree block", dispute(pieces(called), inode(alice, tree(-1))), rebuildsRmapbt(13)},
		{"and the tree has as many as recorded", dispute(pieces(called), inode(alice, tree(0))), held(9, "instead")},
		{"and the tree's blocks are not known", dispute(pieces(called), inode(alice, func(in *verdict.Inode) { in.BtreeMissing = -1 })), held(9, "instead")},
		{"and two too many", dispute(pieces(called), inode(alice, tree(-2))), held(9, "instead")},
		{"and another owner has a record too", dispute(pieces(with(called, alsoRecords(special(72, 1, shadow.OwnerAG)))), inode(alice, tree(-1))), held(9, "instead")},
		{"and the counters are not the fork's", dispute(pieces(called), inode(alice, tree(-1), counters(verdict.CountersMatchNeither))), held(1, "neither")},
		{"and the blocks are free", dispute(pieces(with(called, free)), inode(alice, tree(-1))), critical(5, "calls free")},
		{"and the kernel finds no disagreement", dispute(pieces(called), inode(alice, tree(-1), scrubbed(0))), held(1, "contradicts")},

		{"a btree block called data", lossless(dispute(pieces(stray), inode(alice, tree(1)))), rebuildsRmapbt(13)},
		{"and some block has no owner at all", dispute(pieces(stray), inode(alice, tree(1))), onlyTrace(2, "only trace")},
		{"and the tree has no more than recorded", lossless(dispute(pieces(stray), inode(alice, tree(0)))), onlyTrace(2, "only trace")},
		{"and the tree has one more still", lossless(dispute(pieces(stray), inode(alice, tree(2)))), onlyTrace(2, "only trace")},
		{"and the kernel finds no disagreement", lossless(dispute(pieces(stray), inode(alice, tree(1), scrubbed(0)))), onlyTrace(2, "only trace")},
		{"and another record lies there", lossless(dispute(pieces(with(stray, alsoRecords(data(72, 1, bob, 0)))), inode(alice, tree(1)))), onlyTrace(2, "only trace")},
		{"and the counters want it", lossless(dispute(pieces(with(stray, elsewhere)), inode(alice, tree(1), counters(verdict.CountersMatchForkMissing)))), held(3, "same offsets")},
	})
}
