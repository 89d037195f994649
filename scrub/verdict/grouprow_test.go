package verdict_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/verdict"
	"github.com/scrubd/scrubd/shadow"
)

// Rows 4, 7, 10, 14 and 15: what is decided with the evidence, and what is held
// without each piece of it.
func TestDecideGroup(t *testing.T) {
	const inobt, finobt, rmapbt = ioctl.ScrubTypeINOBT, ioctl.ScrubTypeFINOBT, ioctl.ScrubTypeRMAPBT
	seen := func(change ...func(*verdict.GroupSeen)) *verdict.GroupSeen {
		g := &verdict.GroupSeen{AG: soundAG()}
		for _, f := range change {
			f(g)
		}
		return g
	}
	scrub := func(typ ioctl.ScrubType, flags ioctl.ScrubFlags) func(*verdict.GroupSeen) {
		return func(g *verdict.GroupSeen) { says(g.AG, typ, flags) }
	}
	unreadable := func(g *verdict.GroupSeen) { g.AG.RmapReadable = false }
	owned := func(g *verdict.GroupSeen) { g.OwnedFree = true }
	leaked := func(g *verdict.GroupSeen) { g.Leaked = true }
	proven := func(g *verdict.GroupSeen) { g.LeakProven = true }
	btrees := func(g *verdict.GroupSeen) { g.InodeBtrees = true }
	counted := func(g *verdict.GroupSeen) { g.AG.InodesCounted = true }
	listed := func(g *verdict.GroupSeen) { g.AG.InodesListed = true }
	uncovered := func(g *verdict.GroupSeen) { g.AG.ChunksUncovered = []string{"chunk 128"} }
	suspects := func(types ...ioctl.ScrubType) func(*verdict.GroupSeen) {
		return func(g *verdict.GroupSeen) { g.Suspects = types }
	}
	for _, c := range []struct {
		name   string
		g      *verdict.GroupSeen
		row    int
		action verdict.Action
		at     verdict.Structure
	}{
		{"15", seen(unreadable, scrub(rmapbt, corrupt)), 15, verdict.ActionRebuildRmapbt, verdict.Rmapbt},
		{"15, and the kernel reads it", seen(unreadable), 15, verdict.ActionHold, verdict.Undecided},
		{"15, for the refcountbt's sake", seen(unreadable, scrub(ioctl.ScrubTypeREFCNTBT, corrupt)), 15, verdict.ActionHold, verdict.Refcountbt},
		{"15, and both are corrupt", seen(unreadable, scrub(rmapbt, corrupt), scrub(ioctl.ScrubTypeREFCNTBT, corrupt)), 15, verdict.ActionRebuildRmapbt, verdict.Rmapbt},
		{"15, and the kernel only finds a disagreement", seen(unreadable, scrub(rmapbt, xcorrupt)), 15, verdict.ActionHold, verdict.Undecided},
		{"15, and it was not asked", seen(unreadable, func(g *verdict.GroupSeen) { g.AG.Scrubs[rmapbt] = verdict.Scrub{Flags: corrupt} }), 15, verdict.ActionHold, verdict.Undecided},
		{"4", seen(owned), 4, verdict.ActionRebuildBnobt, verdict.Bnobt},
		{"4 before 7", seen(owned, leaked), 4, verdict.ActionRebuildBnobt, verdict.Bnobt},
		{"7", seen(leaked, proven), 7, verdict.ActionRebuildBnobt, verdict.Bnobt},
		{"7, in no quiet moment", seen(leaked), 7, verdict.ActionHold, verdict.Bnobt},
		{"10, the inobt is corrupt", seen(btrees, scrub(inobt, corrupt)), 10, verdict.ActionRebuildInobt, verdict.InodeBtree},
		{"10, the finobt is", seen(btrees, scrub(finobt, corrupt)), 10, verdict.ActionRebuildInobt, verdict.InodeBtree},
		{"10, they disagree, and the AGI sides with the rmapbt", seen(btrees, scrub(inobt, xcorrupt), counted), 10, verdict.ActionRebuildInobt, verdict.InodeBtree},
		{"10, they disagree, and the AGI sides with INUMBERS", seen(btrees, scrub(inobt, xcorrupt), listed, uncovered), 10, verdict.ActionRebuildRmapbt, verdict.Rmapbt},
		{"10, and every chunk has its record", seen(btrees, scrub(inobt, xcorrupt), listed), 10, verdict.ActionHold, verdict.Undecided},
		{"10, and the AGI counts neither", seen(btrees, scrub(inobt, xcorrupt), uncovered), 10, verdict.ActionHold, verdict.Undecided},
		{"14", seen(suspects(rmapbt)), 14, verdict.ActionRebuildRmapbt, verdict.Rmapbt},
		{"14, and another would do", seen(suspects(rmapbt, inobt)), 14, verdict.ActionHold, verdict.Undecided},
		{"14, and it is another", seen(suspects(inobt)), 14, verdict.ActionHold, verdict.Undecided},
		{"14, and none would do", seen(), 14, verdict.ActionHold, verdict.Undecided},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := verdict.DecideGroup(c.g)
			assert.Equal(t, c.row, got.Row)
			assert.Equal(t, c.action, got.Action)
			assert.Equal(t, c.at, got.AtFault)
			assert.Equal(t, got.Held(), got.Reason != "")
			assert.Equal(t, c.row == 4, got.Critical)
		})
	}
	for _, r := range verdict.GroupRows() {
		assert.NotEmpty(t, r.Seen)
		assert.NotZero(t, r.Number)
	}
}

// Row 17: several inodes of one AG, each by its rmapbt's fault.
func TestRow17(t *testing.T) {
	one := func(agno ioctl.AGNumber, ino uint64) *verdict.Dispute {
		p := piece(data(72, 8, ino, 0), nil)
		p.AGNo = agno
		return dispute(pieces(p), inode(ino))
	}
	all := []*verdict.Dispute{one(1, alice), one(1, bob), one(1, carol)}
	assert.True(t, verdict.LostLeaf(all))
	assert.False(t, verdict.LostLeaf(all[1:]))
	assert.False(t, verdict.LostLeaf([]*verdict.Dispute{one(1, alice), one(1, bob), one(2, carol)}))
	assert.False(t, verdict.LostLeaf([]*verdict.Dispute{one(1, alice), one(1, alice), one(1, alice)}))
	assert.False(t, verdict.LostLeaf([]*verdict.Dispute{dispute(pieces(piece(special(0, 1, shadow.OwnerFS), nil)))}))
}

// Row 18: one inode in several AGs. W3 on the side of the rmapbt gives its fork
// back, W3 on the side of the fork holds.
func TestRow18(t *testing.T) {
	at := func(agno ioctl.AGNumber, p verdict.Piece) verdict.Piece {
		p.AGNo = agno
		return p
	}
	lost := pieces(piece(nil, data(72, 8, alice, 16)), at(1, piece(nil, data(90, 8, alice, 24))))
	decided, moved := rebuildsFork(18, alice, false), rebuildsFork(18, alice, false)
	checkDecisions(t, []decideCase{
		{"W3 sides with the rmapbt", dispute(lost, inode(alice, counters(verdict.CountersMatchForkMissing))), decided},
		{"W3 sides with the fork", dispute(lost, inode(alice)), onlyTrace(18, "only trace")},
		{"it moved", dispute(pieces(piece(nil, data(72, 8, alice, 16)), at(1, with(piece(data(90, 8, alice, 16), nil), free))), inode(alice)), moved},
		{"another inode has a part in it", dispute(append(lost[:1:1], at(1, piece(nil, data(90, 8, bob, 24)))), inode(alice), inode(bob)), onlyTrace(2, "only trace")},
		{"denied, so that the rmapbts are wrong", dispute(pieces(with(lost[0], free), with(lost[1], free)), inode(alice)), rebuildsRmapbt(2)},
	})
	assert.False(t, verdict.LostInode(dispute(lost[:1], inode(alice))))
	assert.False(t, verdict.LostInode(dispute(pieces(piece(special(0, 1, shadow.OwnerFS), nil), at(1, piece(special(0, 1, shadow.OwnerFS), nil))))))
}
