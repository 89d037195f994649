package verdict_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/verdict"
	"github.com/scrubd/scrubd/shadow"
)

func roomForRecord(p *verdict.Piece) { p.RoomForRecord = true }

func overruns(p *verdict.Piece) { p.OverrunsNext = true }

// counted: the inode counts eight blocks, as the rmapbts have of it, and its forks
// have some more.
func counted(more uint64) func(*verdict.Inode) {
	return func(in *verdict.Inode) {
		recorded(8)(in)
		in.ForkBlocks, in.Counters = 8+more, verdict.CountersMatchNeither
	}
}

// Row 12b: a fork that is out of order where it contradicts the rmapbt.
func TestRow12b(t *testing.T) {
	claim, record := data(72, 8, alice, 24), data(72, 8, alice, 16)
	decided := rebuildsFork(12, alice, false)
	decided.letter = "b"
	ofAttr := rebuildsFork(12, alice, true)
	ofAttr.letter = "b"
	bobs := []func(*verdict.Piece){roomForRecord, shared, alsoClaims(data(72, 8, bob, 0)), alsoRecords(data(72, 8, bob, 0))}
	bad := scrubbed(corrupt)
	checkDecisions(t, []decideCase{
		{"out of order", dispute(pieces(piece(claim, record, roomForRecord)), inode(alice, bad)), decided},
		{"an attribute fork", dispute(pieces(piece(attr(claim), attr(record), roomForRecord)), inode(alice, bad)), ofAttr},
		{"blocks that are shared", dispute(pieces(piece(claim, record, bobs...)), inode(alice, bad), inode(bob)), decided},
		{"the kernel finds the fork in order", dispute(pieces(piece(claim, record, roomForRecord)), inode(alice)), rebuildsRmapbt(12)},
	})
	for _, c := range []struct {
		name string
		p    verdict.Piece
		in   *verdict.Inode
	}{
		{"room for both", piece(claim, record), inode(alice, bad)},
		{"the flags differ too", piece(claim, unwritten(record), roomForRecord), inode(alice, bad)},
		{"another file's record", piece(claim, data(72, 8, bob, 16), roomForRecord), inode(alice, bad)},
		{"the blocks are free", piece(claim, record, roomForRecord, free), inode(alice, bad)},
		{"another file has them too", piece(claim, record, roomForRecord, alsoClaims(data(72, 8, bob, 0))), inode(alice, bad)},
		{"the counters are not the fork's", piece(claim, record, roomForRecord), inode(alice, bad, counters(verdict.CountersMatchNeither))},
		{"the sums do not add up", piece(claim, record, roomForRecord), inode(alice, bad, blocks(8, 9))},
		{"the kernel gave no verdict", piece(claim, record, roomForRecord), inode(alice, unscrubbed)},
		{"the inode cannot be read", piece(claim, record, roomForRecord), inode(alice, bad, is(verdict.OwnerUnreadable))},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := verdict.Decide(dispute(pieces(c.p), c.in, inode(bob)))
			assert.True(t, got.Held(), "%+v", got)
		})
	}
	both := dispute(pieces(piece(claim, record, roomForRecord), piece(data(90, 1, alice, 70), data(90, 1, alice, 60))), inode(alice, bad))
	got := verdict.Decide(both)
	assert.True(t, got.Held(), "one of two pieces is not out of order")
	// A fork has [0,10) at 5, so that the mapping after it, of which the record is
	// wrong, seems out of order as well.
	both = dispute(pieces(piece(data(72, 10, alice, 5), data(72, 10, alice, 0), roomForRecord),
		piece(data(90, 10, alice, 10), data(90, 10, alice, 16), roomForRecord)), inode(alice, bad))
	got = verdict.Decide(both)
	assert.True(t, got.Held(), "what both are held against is in question itself")
}

// Row 12: what lies in a directory or in attributes names its blocks by offset.
func TestRow12OfDirectories(t *testing.T) {
	claim, record := data(72, 8, alice, 24), data(72, 8, alice, 16)
	names := func(in *verdict.Inode) { in.NamesBad = true }
	attrs := func(in *verdict.Inode) { in.AttrsBad = true }
	trace := held(12, "only trace")
	trace.onlyTrace = true
	checkDecisions(t, []decideCase{
		{"a directory that is corrupt", dispute(pieces(piece(claim, record)), inode(alice, names)), trace},
		{"attributes that are", dispute(pieces(piece(attr(claim), attr(record))), inode(alice, attrs)), trace},
		{"only its attributes are", dispute(pieces(piece(claim, record)), inode(alice, attrs)), rebuildsRmapbt(12)},
		{"only its names are", dispute(pieces(piece(attr(claim), attr(record))), inode(alice, names)), rebuildsRmapbt(12)},
	})
}

// Row 5b: a mapping that is longer than everybody else says.
func TestRow5b(t *testing.T) {
	tail := data(80, 2, alice, 24)
	onFree := piece(tail, nil, overruns, free)
	onBobs := piece(tail, nil, overruns, alsoClaims(data(80, 2, bob, 0)), alsoRecords(data(80, 2, bob, 0)))
	twice := piece(data(82, 1, alice, 26), nil, overruns, alsoClaims(data(82, 1, alice, 26)), alsoRecords(data(82, 1, alice, 26)))
	bad := scrubbed(corrupt)
	decided := rebuildsFork(5, alice, false)
	decided.letter = "b"
	checkDecisions(t, []decideCase{
		{"onto free blocks", dispute(pieces(onFree), inode(alice, bad, counted(2))), decided},
		{"onto another file's", dispute(pieces(onBobs), inode(alice, bad, counted(2)), inode(bob)), decided},
		{"onto the next mapping's own", dispute(pieces(onFree, twice), inode(alice, bad, counted(3))), decided},
	})
	for _, c := range []struct {
		name string
		p    verdict.Piece
		in   *verdict.Inode
	}{
		{"nothing is overrun", piece(tail, nil, free), inode(alice, bad, counted(2))},
		{"in use, and nobody else's", piece(tail, nil, overruns), inode(alice, bad, counted(2))},
		{"the bnobt was not heard", piece(tail, nil, overruns, unknownSpace), inode(alice, bad, counted(2))},
		{"another file claims them and has no record", piece(tail, nil, overruns, alsoClaims(data(80, 2, bob, 0))), inode(alice, bad, counted(2))},
		{"the inode counts them", onFree, inode(alice, bad, recorded(8), blocks(10, 10))},
		{"the inode counts one of them", onFree, inode(alice, bad, counted(2), func(in *verdict.Inode) { in.Blocks = 9 })},
		{"the forks have more besides", onFree, inode(alice, bad, counted(3))},
		{"the rmapbts could not all be read", onFree, inode(alice, bad, counted(2), func(in *verdict.Inode) { in.RecordedKnown = false })},
		{"the rmapbts have fewer", onFree, inode(alice, bad, counted(2), func(in *verdict.Inode) { in.Recorded = 7 })},
		{"the kernel finds no more than a disagreement", onFree, inode(alice, counted(2))},
		{"the kernel gave no verdict", onFree, inode(alice, unscrubbed, counted(2))},
		{"the inode cannot be read", onFree, inode(alice, bad, counted(2), is(verdict.OwnerUnreadable))},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := verdict.Decide(dispute(pieces(c.p), c.in, inode(bob)))
			assert.True(t, got.Held(), "%+v", got)
		})
	}
	metadata := piece(special(80, 1, shadow.OwnerFS), nil, overruns, free)
	got := verdict.Decide(dispute(pieces(metadata)))
	assert.True(t, got.Held(), "%+v", got)
}

// The inode btrees need not be in order for a rebuild of the free space where their
// chunks are vouched for by others.
func TestBnobtBesideInodeBtrees(t *testing.T) {
	const marks = ioctl.AGHealthBnobt | ioctl.AGHealthInobt
	base := func() *verdict.AG {
		ag := soundAG()
		ag.Sick, ag.InodesCounted, ag.NoMetadataLeaked = marks, true, true
		says(ag, ioctl.ScrubTypeBNOBT, xcorrupt)
		says(ag, ioctl.ScrubTypeINOBT, corrupt)
		for _, typ := range []ioctl.ScrubType{ioctl.ScrubTypeRMAPBT, ioctl.ScrubTypeREFCNTBT, ioctl.ScrubTypeFINOBT} {
			says(ag, typ, xfail)
		}
		ag.ForksUncompared = verdict.Uncompared{Count: 3, Marks: marks, Here: marks}
		return ag
	}
	assert.Empty(t, verdict.MayRebuildBnobt(base()))
	for name, change := range map[string]func(*verdict.AG){
		"not counted":           func(ag *verdict.AG) { ag.InodesCounted = false },
		"not compared":          func(ag *verdict.AG) { ag.ChunksCompared = false },
		"a chunk is missing":    func(ag *verdict.AG) { ag.ChunksUncovered = []string{"that of inode 64"} },
		"metadata has no owner": func(ag *verdict.AG) { ag.NoMetadataLeaked = false },
		"the refcountbt is sick as well": func(ag *verdict.AG) {
			ag.Sick |= ioctl.AGHealthRefcountbt
			ag.ForksUncompared.Here = ag.Sick
		},
		"a fork is not heard": func(ag *verdict.AG) { ag.ForksUnproven = []string{"that of inode 70"} },
	} {
		ag := base()
		change(ag)
		assert.NotEmpty(t, verdict.MayRebuildBnobt(ag), name)
	}
	assert.NotEmpty(t, verdict.MayRebuildRefcountbt(base(), nil), "what else is rebuilt asks for more")
	assert.NotEmpty(t, verdict.MayRebuildInobt(base()))
}

// Each extent is compared with the btrees of its own AG.
func TestMarksOfOtherAGs(t *testing.T) {
	ag := soundAG()
	ag.ForksUncompared = verdict.Uncompared{Count: 3, Marks: ioctl.AGHealthRmapbt}
	assert.Empty(t, verdict.MayRebuildBnobt(ag))
	ag.ForksUncompared.Here = ioctl.AGHealthRmapbt
	assert.NotEmpty(t, verdict.MayRebuildBnobt(ag))
	ag.ForksUncompared = verdict.Uncompared{Count: 3}
	assert.NotEmpty(t, verdict.MayRebuildBnobt(ag), "why they left something out is not known")
}

// The AGF's roots of the free space btrees are found anew.
func TestMayFindRoots(t *testing.T) {
	base := func() *verdict.AG {
		ag := soundAG()
		ag.Sick = ioctl.AGHealthBnobt | ioctl.AGHealthAGF
		says(ag, ioctl.ScrubTypeAGF, corrupt)
		says(ag, ioctl.ScrubTypeBNOBT, corrupt)
		says(ag, ioctl.ScrubTypeRMAPBT, xfail)
		return ag
	}
	assert.Empty(t, verdict.MayFindRoots(base()))
	for name, change := range map[string]func(*verdict.AG){
		"the AGF only disagrees":      func(ag *verdict.AG) { says(ag, ioctl.ScrubTypeAGF, xcorrupt) },
		"no verdict on the AGF":       func(ag *verdict.AG) { delete(ag.Scrubs, ioctl.ScrubTypeAGF) },
		"the rmapbt cannot be read":   func(ag *verdict.AG) { ag.RmapReadable = false },
		"the rmapbt disagrees":        func(ag *verdict.AG) { says(ag, ioctl.ScrubTypeRMAPBT, xcorrupt) },
		"the rmapbt is marked":        func(ag *verdict.AG) { ag.Sick |= ioctl.AGHealthRmapbt },
		"the inobt disagrees":         func(ag *verdict.AG) { says(ag, ioctl.ScrubTypeINOBT, xcorrupt) },
		"the refcountbt was not done": func(ag *verdict.AG) { says(ag, ioctl.ScrubTypeREFCNTBT, incomplete) },
		"a dispute is open":           func(ag *verdict.AG) { ag.Open = []verdict.Open{{What: "blocks 3+4"}} },
		"one is not settled":          func(ag *verdict.AG) { ag.Unsettled = []string{"blocks 3+4"} },
		"the bnobt has what is owned": func(ag *verdict.AG) { ag.SpaceDisputes = []string{"blocks 3+4"} },
		"no btree of space is marked": func(ag *verdict.AG) { ag.Sick = ioctl.AGHealthAGF },
	} {
		ag := base()
		change(ag)
		assert.NotEmpty(t, verdict.MayFindRoots(ag), name)
	}
}

// The AGI's roots of the inode btrees are found anew.
func TestMayFindInodeRoots(t *testing.T) {
	base := func() *verdict.AG {
		ag := soundAG()
		ag.InodesCounted = true
		says(ag, ioctl.ScrubTypeINOBT, corrupt)
		says(ag, ioctl.ScrubTypeRMAPBT, xcorrupt|xfail)
		return ag
	}
	assert.Empty(t, verdict.MayFindInodeRoots(base()))
	for name, change := range map[string]func(*verdict.AG){
		"the rmapbt cannot be read": func(ag *verdict.AG) { ag.RmapReadable = false },
		"the rmapbt is corrupt":     func(ag *verdict.AG) { says(ag, ioctl.ScrubTypeRMAPBT, corrupt) },
		"the AGF is":                func(ag *verdict.AG) { says(ag, ioctl.ScrubTypeAGF, corrupt) },
		"a dispute is open":         func(ag *verdict.AG) { ag.Open = []verdict.Open{{What: "blocks 3+4"}} },
		"one is not settled":        func(ag *verdict.AG) { ag.Unsettled = []string{"blocks 3+4"} },
		"a chunk is missing":        func(ag *verdict.AG) { ag.ChunksUncovered = []string{"that of inode 64"} },
		"the inodes do not add up":  func(ag *verdict.AG) { ag.InodesCounted = false },
	} {
		ag := base()
		change(ag)
		assert.NotEmpty(t, verdict.MayFindInodeRoots(ag), name)
	}
}
