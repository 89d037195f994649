package verdict_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/verdict"
	"github.com/scrubd/scrubd/shadow"
)

// What of a dispute other repairs in the AG have to mind.
func TestOpenIn(t *testing.T) {
	in1 := func(p verdict.Piece) verdict.Piece {
		p.AGNo = 1
		return p
	}
	d := dispute(pieces(
		in1(piece(data(5, 1, carol, 0), nil)),
		piece(data(72, 8, alice, 0), data(72, 8, bob, 0)),
	))
	assert.Equal(t, verdict.Open{What: "x", Inodes: []uint64{alice, bob}}, verdict.OpenIn(d, 0, "x"))
	assert.Equal(t, verdict.Open{What: "x", Inodes: []uint64{carol}, Uncovered: true}, verdict.OpenIn(d, 1, "x"))
	for _, c := range []struct {
		name string
		p    verdict.Piece
		want verdict.Open
	}{
		{"a claim alone", piece(data(72, 8, alice, 0), nil), verdict.Open{Inodes: []uint64{alice}, Uncovered: true}},
		{"covered by another", piece(data(72, 8, alice, 0), nil, alsoRecords(data(72, 8, bob, 0))), verdict.Open{Inodes: []uint64{bob, alice}, Counted: true, Visible: false}},
		{"a record alone", piece(nil, data(72, 8, alice, 0)), verdict.Open{Inodes: []uint64{alice}}},
		{"a record of free blocks", piece(nil, data(72, 8, alice, 0), free), verdict.Open{Inodes: []uint64{alice}, Visible: true}},
		{"two records", piece(nil, data(72, 8, alice, 0), alsoRecords(data(72, 8, bob, 0))), verdict.Open{Inodes: []uint64{bob, alice}, Counted: true, Visible: true}},
		{"shared", piece(data(72, 8, alice, 0), data(72, 8, alice, 1), shared), verdict.Open{Inodes: []uint64{alice}, Counted: true}},
		{"metadata", piece(data(72, 8, alice, 0), special(72, 8, shadow.OwnerAG)), verdict.Open{Inodes: []uint64{alice}, Metadata: true}},
		{"a fork's btree", piece(data(72, 8, alice, 0), nil, alsoRecords(flagged(special(72, 8, bob), shadow.OffsetBmbtBlock))), verdict.Open{Inodes: []uint64{alice}, Metadata: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			assert.Equal(t, c.want, verdict.OpenIn(dispute(pieces(c.p)), 0, ""))
		})
	}
}

// A repair waits for disputes about what it reads, and for no others.
func TestProvenBesideOthers(t *testing.T) {
	all := []ioctl.ScrubType{
		ioctl.ScrubTypeAGF, ioctl.ScrubTypeAGI, ioctl.ScrubTypeAGFL, ioctl.ScrubTypeBNOBT, ioctl.ScrubTypeINOBT,
		ioctl.ScrubTypeREFCNTBT, ioctl.ScrubTypeBMBTD, ioctl.ScrubTypeINODE,
	}
	minded := func(o verdict.Open) (out []ioctl.ScrubType) {
		for _, target := range all {
			ag := soundAG()
			ag.Open = []verdict.Open{o}
			if len(verdict.RmapbtProven(ag, target, alice)) > 0 {
				out = append(out, target)
			}
		}
		return out
	}
	const bno, refc, bmbt, core = ioctl.ScrubTypeBNOBT, ioctl.ScrubTypeREFCNTBT, ioctl.ScrubTypeBMBTD, ioctl.ScrubTypeINODE
	list := func(t ...ioctl.ScrubType) []ioctl.ScrubType { return t }
	assert.Empty(t, minded(verdict.Open{What: "x", Inodes: []uint64{bob}}))
	assert.Equal(t, list(bmbt, core), minded(verdict.Open{What: "x", Inodes: []uint64{bob, alice}}))
	assert.Equal(t, list(bno), minded(verdict.Open{What: "x", Uncovered: true}))
	assert.Equal(t, list(refc), minded(verdict.Open{What: "x", Counted: true}))
	assert.Equal(t, list(bno, refc), minded(verdict.Open{What: "x", Visible: true}))
	assert.Equal(t, all, minded(verdict.Open{What: "x", Metadata: true}))
}

// What the kernel finds in an rmapbt is excused where an open dispute explains
// it that the repair does not read, and where metadata is vouched for.
func TestProvenExcused(t *testing.T) {
	seen := verdict.Open{What: "x", Inodes: []uint64{bob}, Visible: true}
	proven := func(flags ioctl.ScrubFlags, target ioctl.ScrubType, change ...func(*verdict.AG)) bool {
		ag := soundAG()
		says(ag, ioctl.ScrubTypeRMAPBT, flags)
		ag.Open, ag.Sick = []verdict.Open{seen}, ioctl.AGHealthRmapbt
		for _, f := range change {
			f(ag)
		}
		return len(verdict.RmapbtProven(ag, target, alice)) == 0
	}
	for _, target := range []ioctl.ScrubType{ioctl.ScrubTypeBMBTD, ioctl.ScrubTypeBMBTA, ioctl.ScrubTypeINODE, ioctl.ScrubTypeAGF, ioctl.ScrubTypeAGI} {
		assert.True(t, proven(xcorrupt, target), target)
		assert.False(t, proven(corrupt, target), target)
		assert.False(t, proven(xcorrupt|incomplete, target), target)
		assert.False(t, proven(xcorrupt, target, func(ag *verdict.AG) { ag.Open = nil }), target)
		assert.False(t, proven(xcorrupt, target, func(ag *verdict.AG) { ag.Open[0].Visible = false }), target)
		assert.False(t, proven(xcorrupt, target, func(ag *verdict.AG) { ag.Open[0].Metadata = true }), target)
		assert.False(t, proven(xcorrupt, target, func(ag *verdict.AG) { ag.RmapReadable = false }), target)
	}
	for target, vouch := range map[ioctl.ScrubType][]ioctl.ScrubType{
		ioctl.ScrubTypeAGF: {ioctl.ScrubTypeBNOBT, ioctl.ScrubTypeCNTBT, ioctl.ScrubTypeREFCNTBT, ioctl.ScrubTypeAGFL},
		ioctl.ScrubTypeAGI: {ioctl.ScrubTypeINOBT, ioctl.ScrubTypeFINOBT},
	} {
		for _, v := range vouch {
			for _, flags := range []ioctl.ScrubFlags{corrupt, xcorrupt, xfail, incomplete} {
				assert.False(t, proven(xcorrupt, target, func(ag *verdict.AG) { says(ag, v, flags) }), "%s beside %s", target, v)
			}
		}
	}
	for _, target := range []ioctl.ScrubType{ioctl.ScrubTypeINOBT, ioctl.ScrubTypeAGFL, ioctl.ScrubTypeBNOBT, ioctl.ScrubTypeREFCNTBT} {
		assert.False(t, proven(xcorrupt, target), target)
	}
	// The checks of free space left the comparison with that rmapbt out.
	xfails := func(ag *verdict.AG) {
		says(ag, ioctl.ScrubTypeBNOBT, xfail)
		says(ag, ioctl.ScrubTypeCNTBT, xfail)
	}
	assert.True(t, proven(xcorrupt, ioctl.ScrubTypeBMBTD, xfails))
	assert.False(t, proven(xcorrupt, ioctl.ScrubTypeBMBTD, xfails, func(ag *verdict.AG) { ag.Sick |= ioctl.AGHealthRefcountbt }))
	assert.False(t, proven(0, ioctl.ScrubTypeBMBTD, xfails, func(ag *verdict.AG) { ag.Sick = 0 }))
}

// trial is one where those named complain.
func trial(without ioctl.ScrubType, complain map[ioctl.ScrubType]ioctl.ScrubFlags) verdict.Trial {
	out := verdict.Trial{Without: without, Scrubs: make(map[ioctl.ScrubType]verdict.Scrub)}
	for t := ioctl.ScrubTypeSB; t <= ioctl.ScrubTypeREFCNTBT; t++ {
		out.Scrubs[t] = verdict.Scrub{Ran: true, Flags: complain[t]}
	}
	return out
}

// The vote rule: at fault is the one without which all others agree.
func TestSuspects(t *testing.T) {
	const rmap, ino, fino, bno, agfl = ioctl.ScrubTypeRMAPBT, ioctl.ScrubTypeINOBT, ioctl.ScrubTypeFINOBT, ioctl.ScrubTypeBNOBT, ioctl.ScrubTypeAGFL
	type flags = map[ioctl.ScrubType]ioctl.ScrubFlags
	list := func(t ...ioctl.ScrubType) []ioctl.ScrubType { return t }
	assert.Equal(t, list(rmap), verdict.Suspects([]verdict.Trial{
		trial(rmap, flags{rmap: xcorrupt, ino: xfail, bno: xfail}), trial(ino, flags{ino: corrupt, rmap: xcorrupt}),
	}))
	assert.Equal(t, list(rmap, ino), verdict.Suspects([]verdict.Trial{
		trial(rmap, flags{rmap: xcorrupt}), trial(ino, flags{ino: xcorrupt, fino: xcorrupt}),
	}), "each would do: another witness has to decide")
	assert.Empty(t, verdict.Suspects([]verdict.Trial{trial(rmap, flags{rmap: xcorrupt, agfl: xcorrupt}), trial(ino, flags{ino: corrupt, bno: corrupt})}))
	for _, f := range []ioctl.ScrubFlags{corrupt, xcorrupt, incomplete} {
		assert.Empty(t, verdict.Suspects([]verdict.Trial{trial(rmap, flags{agfl: f})}))
	}
	unran := trial(rmap, nil)
	unran.Scrubs[bno] = verdict.Scrub{}
	assert.Empty(t, verdict.Suspects([]verdict.Trial{unran}))
	assert.Equal(t, list(rmap), verdict.Suspects([]verdict.Trial{trial(rmap, flags{ioctl.ScrubTypeSB: corrupt})}), "a superblock is another matter")
	assert.Empty(t, verdict.Suspects(nil))
}

// The AGFL is rebuilt from an rmapbt that everything else agrees with.
func TestMayRebuildAGFL(t *testing.T) {
	crossed := []string{"block 5"}
	may := func(_ *verdict.FS, ag *verdict.AG) []verdict.Blocker { return verdict.MayRebuildAGFL(ag, crossed) }
	base := func(ag *verdict.AG) {
		says(ag, ioctl.ScrubTypeAGFL, xcorrupt)
		says(ag, ioctl.ScrubTypeRMAPBT, xcorrupt)
		ag.Sick = ioctl.AGHealthRmapbt
		ag.AGBlocksCounted = true
	}
	cases := []clauseCase{
		{"the rmapbt cannot be read", func(_ *verdict.FS, ag *verdict.AG) { ag.RmapReadable = false }, []string{"proven"}},
		{"metadata is in dispute", func(_ *verdict.FS, ag *verdict.AG) { ag.Open = []verdict.Open{{What: "x", Metadata: true}} }, []string{"proven"}},
		{"blocks of files are in dispute", func(_ *verdict.FS, ag *verdict.AG) {
			ag.Open = []verdict.Open{{What: "x", Inodes: []uint64{5}, Uncovered: true, Counted: true, Visible: true}}
		}, nil},
		{"the bnobt is wrong", func(_ *verdict.FS, ag *verdict.AG) {
			ag.SpaceDisputes = []string{"x"}
			for _, typ := range []ioctl.ScrubType{ioctl.ScrubTypeBNOBT, ioctl.ScrubTypeCNTBT, ioctl.ScrubTypeAGF} {
				says(ag, typ, xcorrupt|xfail)
			}
		}, nil},
		{"nobody has counted", func(_ *verdict.FS, ag *verdict.AG) { ag.AGBlocksCounted = false }, []string{"vote"}},
		{"anything is unsettled", func(_ *verdict.FS, ag *verdict.AG) { ag.Unsettled = []string{"x"} }, []string{"proven"}},
		{"the rmapbt is corrupt", func(_ *verdict.FS, ag *verdict.AG) { says(ag, ioctl.ScrubTypeRMAPBT, corrupt) }, []string{"proven", "vote"}},
		{"no verdict on the rmapbt", func(_ *verdict.FS, ag *verdict.AG) { delete(ag.Scrubs, ioctl.ScrubTypeRMAPBT) }, []string{"proven", "vote"}},
	}
	// Whose blocks are left out has to be walked.
	for _, typ := range []ioctl.ScrubType{ioctl.ScrubTypeAGF, ioctl.ScrubTypeBNOBT, ioctl.ScrubTypeCNTBT, ioctl.ScrubTypeREFCNTBT} {
		for _, flags := range []ioctl.ScrubFlags{corrupt, incomplete} {
			cases = append(cases, clauseCase{fmt.Sprintf("%s %s", typ, flags), func(_ *verdict.FS, ag *verdict.AG) { says(ag, typ, flags) }, []string{"vote"}})
		}
	}
	checkClauses(t, may, base, cases)
	ag := soundAG()
	base(ag)
	assert.Equal(t, []string{"vote"}, clauses(verdict.MayRebuildAGFL(ag, nil)), "nobody claims a block of it")
}

// Row 10, turned against the rmapbt: the AGI counts what INUMBERS lists.
func TestBlameRmapbtForChunks(t *testing.T) {
	ag := soundAG()
	ag.ChunksUncovered, ag.InodesListed = []string{"chunk 128"}, true
	assert.True(t, verdict.BlameRmapbtForChunks(ag))
	for name, change := range map[string]func(*verdict.AG){
		"the AGI counts what the rmapbt has":  func(ag *verdict.AG) { ag.InodesCounted = true },
		"the AGI counts neither":              func(ag *verdict.AG) { ag.InodesListed = false },
		"no chunk lacks its record":           func(ag *verdict.AG) { ag.ChunksUncovered = nil },
		"the chunks were not compared at all": func(ag *verdict.AG) { ag.ChunksCompared = false },
	} {
		other := *ag
		change(&other)
		assert.False(t, verdict.BlameRmapbtForChunks(&other), name)
	}
}
