package verdict_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/verdict"
)

// soundFS and soundAG have nothing that stands against any repair.
func soundFS() *verdict.FS { return &verdict.FS{} }

func soundAG() *verdict.AG {
	ag := &verdict.AG{
		AGNo: 3, Scrubs: make(map[ioctl.ScrubType]verdict.Scrub), RmapReadable: true, SpaceCompared: true, ChunksCompared: true,
	}
	for t := ioctl.ScrubTypeSB; t <= ioctl.ScrubTypeREFCNTBT; t++ {
		ag.Scrubs[t] = verdict.Scrub{Ran: true}
	}
	return ag
}

func says(ag *verdict.AG, t ioctl.ScrubType, flags ioctl.ScrubFlags) {
	ag.Scrubs[t] = verdict.Scrub{Ran: true, Flags: flags}
}

// clauses lists the clauses of blockers, each once, in order.
func clauses(b []verdict.Blocker) (out []string) {
	for _, one := range b {
		if len(out) == 0 || out[len(out)-1] != one.Clause {
			out = append(out, one.Clause)
		}
	}
	return out
}

type clauseCase struct {
	name   string
	change func(*verdict.FS, *verdict.AG)
	want   []string // clauses that are broken
}

func checkClauses(t *testing.T, may func(*verdict.FS, *verdict.AG) []verdict.Blocker, base func(*verdict.AG), cases []clauseCase) {
	t.Helper()
	fresh := func() (*verdict.FS, *verdict.AG) {
		fs, ag := soundFS(), soundAG()
		if base != nil {
			base(ag)
		}
		return fs, ag
	}
	fs, ag := fresh()
	require.Empty(t, may(fs, ag), "nothing stands against it to begin with")
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			fs, ag := fresh()
			c.change(fs, ag)
			b := may(fs, ag)
			assert.Equal(t, c.want, clauses(b))
			for _, one := range b {
				assert.NotEmpty(t, one.Why)
			}
		})
	}
}

const (
	corrupt    = ioctl.ScrubCorrupt
	xcorrupt   = ioctl.ScrubXCorrupt
	xfail      = ioctl.ScrubXFail
	incomplete = ioctl.ScrubIncomplete
)

// The clauses under which an rmapbt may be rebuilt, each broken alone.
func TestMayRebuildRmapbt(t *testing.T) {
	cases := []clauseCase{
		{"a: a fork may be zapped", func(fs *verdict.FS, _ *verdict.AG) { fs.SickInodes = []string{"inode 5 is sick"} }, []string{"a"}},
		{"a: an inode could not be read", func(fs *verdict.FS, _ *verdict.AG) { fs.Unreadable = []string{"inode 5"} }, []string{"a"}},
		{"b: an owner failed its scrub", func(_ *verdict.FS, ag *verdict.AG) { ag.OwnersUnscrubbed = []string{"inode 5"} }, []string{"b"}},
		{"c: a held dispute is open", func(_ *verdict.FS, ag *verdict.AG) { ag.Held = []string{"blocks 3+4"} }, []string{"c"}},
		{"c: a candidate is unsettled", func(_ *verdict.FS, ag *verdict.AG) { ag.Unsettled = []string{"blocks 3+4"} }, []string{"c"}},
		{"d: an inode btree anywhere", func(fs *verdict.FS, _ *verdict.AG) { fs.InodeBtrees = []string{"inobt of AG 0"} }, []string{"d"}},
		{"e: bnobt and rmapbt differ", func(_ *verdict.FS, ag *verdict.AG) { ag.SpaceDisputes = []string{"blocks 3+4"} }, []string{"e"}},
		{"e: bnobt and rmapbt were not compared", func(_ *verdict.FS, ag *verdict.AG) { ag.SpaceCompared = false }, []string{"e"}},
		{"f: undenied blocks would be freed", func(_ *verdict.FS, ag *verdict.AG) { ag.Reaped = []string{"blocks 3+4"} }, []string{"f"}},

		{"the rmapbt itself may be bad in any way", func(_ *verdict.FS, ag *verdict.AG) {
			says(ag, ioctl.ScrubTypeRMAPBT, corrupt|xcorrupt|xfail)
			ag.RmapReadable, ag.Open, ag.Sick = false, []verdict.Open{{What: "blocks 3+4"}}, ioctl.AGHealthRmapbt
		}, nil},
		{"all at once", func(fs *verdict.FS, ag *verdict.AG) {
			fs.SickInodes, fs.InodeBtrees = []string{"x"}, []string{"x"}
			ag.OwnersUnscrubbed, ag.Held, ag.Reaped = []string{"x"}, []string{"x"}, []string{"x"}
			ag.SpaceCompared = false
		}, []string{"a", "b", "c", "d", "e", "f"}},

		// The rebuild takes CoW staging from the refcountbt.
		{"source: no verdict on the refcountbt", func(_ *verdict.FS, ag *verdict.AG) { delete(ag.Scrubs, ioctl.ScrubTypeREFCNTBT) }, []string{"source"}},
		{"source: the refcountbt check failed", func(_ *verdict.FS, ag *verdict.AG) { ag.Scrubs[ioctl.ScrubTypeREFCNTBT] = verdict.Scrub{} }, []string{"source"}},
		{"source: the refcountbt is corrupt", func(_ *verdict.FS, ag *verdict.AG) {
			says(ag, ioctl.ScrubTypeREFCNTBT, corrupt)
			ag.NoStaging = true
		}, []string{"source"}},
		{"source: the refcountbt check was not finished", func(_ *verdict.FS, ag *verdict.AG) {
			says(ag, ioctl.ScrubTypeREFCNTBT, incomplete)
			ag.NoStaging = true
		}, []string{"source"}},
		{"source: refcountbt and rmapbt disagree, and there is staging", func(_ *verdict.FS, ag *verdict.AG) { says(ag, ioctl.ScrubTypeREFCNTBT, xcorrupt) }, []string{"source"}},
		{"source: they were not compared, and there is staging", func(_ *verdict.FS, ag *verdict.AG) {
			says(ag, ioctl.ScrubTypeREFCNTBT, xfail)
			ag.Sick = ioctl.AGHealthRmapbt
		}, []string{"source"}},
		{"they disagree, and there is no staging", func(_ *verdict.FS, ag *verdict.AG) {
			says(ag, ioctl.ScrubTypeREFCNTBT, xcorrupt)
			ag.NoStaging = true
		}, nil},
		{"a preenable refcountbt", func(_ *verdict.FS, ag *verdict.AG) { says(ag, ioctl.ScrubTypeREFCNTBT, ioctl.ScrubPreen) }, nil},
	}
	for _, typ := range []ioctl.ScrubType{ioctl.ScrubTypeAGF, ioctl.ScrubTypeAGFL, ioctl.ScrubTypeBNOBT, ioctl.ScrubTypeCNTBT} {
		for _, flags := range []ioctl.ScrubFlags{corrupt, xcorrupt, incomplete, xfail} {
			cases = append(cases, clauseCase{fmt.Sprintf("e: %s %s", typ, flags), func(_ *verdict.FS, ag *verdict.AG) { says(ag, typ, flags) }, []string{"e"}})
		}
		cases = append(cases,
			clauseCase{fmt.Sprintf("e: no verdict on %s", typ), func(_ *verdict.FS, ag *verdict.AG) { delete(ag.Scrubs, typ) }, []string{"e"}},
			clauseCase{fmt.Sprintf("%s not compared with a sick rmapbt", typ), func(_ *verdict.FS, ag *verdict.AG) {
				says(ag, typ, xfail)
				ag.Sick = ioctl.AGHealthRmapbt
			}, nil})
	}
	checkClauses(t, verdict.MayRebuildRmapbt, nil, cases)
}

// A fork that was not held against the rmapbts takes the inode's own count.
func TestMayRebuildUnread(t *testing.T) {
	for _, c := range []struct {
		in      verdict.Inode
		blocked bool
	}{
		{verdict.Inode{Blocks: 8, Recorded: 8, RecordedKnown: true}, false},
		{verdict.Inode{Blocks: 8, Recorded: 8}, true},
		{verdict.Inode{Blocks: 8, Recorded: 7, RecordedKnown: true}, true},
		{verdict.Inode{Blocks: 8, Recorded: 9, RecordedKnown: true}, true},
		{verdict.Inode{RecordedKnown: true}, true},
	} {
		assert.Equal(t, c.blocked, len(verdict.MayRebuildUnread(&c.in)) > 0, "%+v", c.in)
	}
}

// A long list is told in part.
func TestBlockersAreNamedInPart(t *testing.T) {
	fs := soundFS()
	for i := range 10 {
		fs.SickInodes = append(fs.SickInodes, fmt.Sprintf("inode %d", i))
	}
	b := verdict.MayRebuildRmapbt(fs, soundAG())
	require.Len(t, b, 4)
	assert.Equal(t, verdict.Blocker{Clause: "a", Why: "inode 2"}, b[2])
	assert.Equal(t, verdict.Blocker{Clause: "a", Why: "and 7 more"}, b[3])
}

// What it takes for an rmapbt to be the source of a repair.
func TestRmapbtProven(t *testing.T) {
	for _, target := range []ioctl.ScrubType{
		ioctl.ScrubTypeBNOBT, ioctl.ScrubTypeINOBT, ioctl.ScrubTypeREFCNTBT, ioctl.ScrubTypeAGF, ioctl.ScrubTypeBMBTD, ioctl.ScrubTypeBMBTA,
	} {
		t.Run(target.String(), func(t *testing.T) {
			proven := func(_ *verdict.FS, ag *verdict.AG) []verdict.Blocker { return verdict.RmapbtProven(ag, target, 0) }
			unless := []string{"proven"}
			checkClauses(t, proven, nil, []clauseCase{
				{"unreadable", func(_ *verdict.FS, ag *verdict.AG) { ag.RmapReadable = false }, unless},
				{"in dispute", func(_ *verdict.FS, ag *verdict.AG) {
					ag.Open = []verdict.Open{{What: "blocks 3+4", Inodes: []uint64{5}, Uncovered: true, Counted: true, Metadata: true}}
				}, unless},
				{"unsettled", func(_ *verdict.FS, ag *verdict.AG) { ag.Unsettled = []string{"blocks 3+4"} }, unless},
				{"corrupt", func(_ *verdict.FS, ag *verdict.AG) { says(ag, ioctl.ScrubTypeRMAPBT, corrupt) }, unless},
				{"xcorrupt", func(_ *verdict.FS, ag *verdict.AG) { says(ag, ioctl.ScrubTypeRMAPBT, xcorrupt) }, unless},
				{"incomplete", func(_ *verdict.FS, ag *verdict.AG) { says(ag, ioctl.ScrubTypeRMAPBT, incomplete) }, unless},
				{"xfail", func(_ *verdict.FS, ag *verdict.AG) { says(ag, ioctl.ScrubTypeRMAPBT, xfail) }, unless},
				{"no verdict", func(_ *verdict.FS, ag *verdict.AG) { delete(ag.Scrubs, ioctl.ScrubTypeRMAPBT) }, unless},
				{"the check failed", func(_ *verdict.FS, ag *verdict.AG) { ag.Scrubs[ioctl.ScrubTypeRMAPBT] = verdict.Scrub{} }, unless},
			})
		})
	}
}

// A repair that takes new blocks overwrites files where the bnobt calls blocks
// free that are in use.
func TestRmapbtProvenForWhatAllocates(t *testing.T) {
	for target, allocates := range map[ioctl.ScrubType]bool{
		ioctl.ScrubTypeINOBT: true, ioctl.ScrubTypeFINOBT: true, ioctl.ScrubTypeREFCNTBT: true,
		ioctl.ScrubTypeBMBTD: true, ioctl.ScrubTypeBMBTA: true,
		ioctl.ScrubTypeBNOBT: false, ioctl.ScrubTypeCNTBT: false, ioctl.ScrubTypeAGF: false, ioctl.ScrubTypeAGFL: false,
		ioctl.ScrubTypeAGI: false, ioctl.ScrubTypeINODE: false,
	} {
		var unless []string
		if allocates {
			unless = []string{"space"}
		}
		t.Run(target.String(), func(t *testing.T) {
			proven := func(_ *verdict.FS, ag *verdict.AG) []verdict.Blocker { return verdict.RmapbtProven(ag, target, 0) }
			cases := []clauseCase{{"bnobt and rmapbt differ", func(_ *verdict.FS, ag *verdict.AG) { ag.SpaceDisputes = []string{"blocks 3+4"} }, unless}}
			for _, typ := range []ioctl.ScrubType{ioctl.ScrubTypeBNOBT, ioctl.ScrubTypeCNTBT} {
				for _, flags := range []ioctl.ScrubFlags{corrupt, xcorrupt, incomplete, xfail} {
					cases = append(cases, clauseCase{fmt.Sprintf("%s %s", typ, flags), func(_ *verdict.FS, ag *verdict.AG) { says(ag, typ, flags) }, unless})
				}
			}
			checkClauses(t, proven, nil, cases)
		})
	}
}

// The free space btrees take everything for free that has no record.
func TestMayRebuildBnobt(t *testing.T) {
	may := func(_ *verdict.FS, ag *verdict.AG) []verdict.Blocker { return verdict.MayRebuildBnobt(ag) }
	cases := []clauseCase{
		{"the rmapbt is in dispute", func(_ *verdict.FS, ag *verdict.AG) {
			ag.Open = []verdict.Open{{What: "blocks 3+4", Inodes: []uint64{5}, Uncovered: true, Counted: true, Metadata: true}}
		}, []string{"proven"}},
		{"the rmapbt is corrupt", func(_ *verdict.FS, ag *verdict.AG) { says(ag, ioctl.ScrubTypeRMAPBT, corrupt) }, []string{"proven"}},
		{"the rmapbt could not be compared with the sick bnobt", func(_ *verdict.FS, ag *verdict.AG) {
			says(ag, ioctl.ScrubTypeRMAPBT, xfail)
			says(ag, ioctl.ScrubTypeBNOBT, xcorrupt)
			ag.Sick = ioctl.AGHealthBnobt | ioctl.AGHealthRmapbt
		}, nil},
		{"nor with another sick btree", func(_ *verdict.FS, ag *verdict.AG) {
			says(ag, ioctl.ScrubTypeRMAPBT, xfail)
			ag.Sick = ioctl.AGHealthBnobt | ioctl.AGHealthInobt
		}, []string{"proven"}},
		{"the free space btrees may be bad in any way", func(_ *verdict.FS, ag *verdict.AG) {
			says(ag, ioctl.ScrubTypeBNOBT, corrupt|xcorrupt)
			says(ag, ioctl.ScrubTypeCNTBT, corrupt|xfail)
		}, nil},
		{"AGF corrupt, and every btree that it has the root of is sound", func(_ *verdict.FS, ag *verdict.AG) { says(ag, ioctl.ScrubTypeAGF, corrupt) }, nil},
		{"AGF corrupt, and the bnobt too", func(_ *verdict.FS, ag *verdict.AG) {
			says(ag, ioctl.ScrubTypeAGF, corrupt)
			says(ag, ioctl.ScrubTypeBNOBT, corrupt)
		}, []string{"source"}},
		{"AGF corrupt, and the cntbt was not checked", func(_ *verdict.FS, ag *verdict.AG) {
			says(ag, ioctl.ScrubTypeAGF, corrupt)
			delete(ag.Scrubs, ioctl.ScrubTypeCNTBT)
		}, []string{"source"}},
		{"no verdict on the AGF", func(_ *verdict.FS, ag *verdict.AG) { delete(ag.Scrubs, ioctl.ScrubTypeAGF) }, []string{"source"}},
		{"AGF counters follow the bnobt", func(_ *verdict.FS, ag *verdict.AG) { says(ag, ioctl.ScrubTypeAGF, xcorrupt) }, nil},
		{"a fork is not known to be in the rmapbt", func(_ *verdict.FS, ag *verdict.AG) { ag.ForksUnproven = []string{"symlink 5"} }, []string{"source"}},
		{"the AGFL disagrees, and its blocks are all counted", func(_ *verdict.FS, ag *verdict.AG) {
			says(ag, ioctl.ScrubTypeAGFL, xcorrupt|xfail)
			ag.AGBlocksCounted = true
		}, nil},
		{"the rmapbt disagrees, and all that is in it is vouched for", func(_ *verdict.FS, ag *verdict.AG) {
			says(ag, ioctl.ScrubTypeRMAPBT, xcorrupt|xfail)
			says(ag, ioctl.ScrubTypeBNOBT, xcorrupt)
			ag.Sick = ioctl.AGHealthBnobt | ioctl.AGHealthRmapbt
			ag.AGBlocksCounted = true
		}, nil},
		{"the rmapbt disagrees, and inode chunks are not vouched for", func(_ *verdict.FS, ag *verdict.AG) {
			says(ag, ioctl.ScrubTypeRMAPBT, xcorrupt)
			says(ag, ioctl.ScrubTypeINOBT, xcorrupt)
			ag.AGBlocksCounted = true
		}, []string{"proven", "source"}},
		{"the rmapbt is corrupt in itself, whoever counts", func(_ *verdict.FS, ag *verdict.AG) {
			says(ag, ioctl.ScrubTypeRMAPBT, corrupt)
			ag.AGBlocksCounted = true
		}, []string{"proven"}},
		{"the rmapbt disagrees, and nobody has counted", func(_ *verdict.FS, ag *verdict.AG) { says(ag, ioctl.ScrubTypeRMAPBT, xcorrupt) }, []string{"proven"}},
		{"the AGFL is corrupt in itself", func(_ *verdict.FS, ag *verdict.AG) {
			says(ag, ioctl.ScrubTypeAGFL, corrupt)
			ag.AGBlocksCounted = true
		}, []string{"source"}},
		{"the AGFL names another's blocks, which the rebuild would take from it", func(_ *verdict.FS, ag *verdict.AG) {
			says(ag, ioctl.ScrubTypeAGFL, xcorrupt)
			ag.AGBlocksCounted, ag.AGFLCrossed = true, true
		}, []string{"source"}},
	}
	for _, typ := range []ioctl.ScrubType{ioctl.ScrubTypeAGFL, ioctl.ScrubTypeINOBT, ioctl.ScrubTypeFINOBT, ioctl.ScrubTypeREFCNTBT} {
		for _, flags := range []ioctl.ScrubFlags{corrupt, xcorrupt, xfail, incomplete} {
			cases = append(cases, clauseCase{fmt.Sprintf("%s %s", typ, flags), func(_ *verdict.FS, ag *verdict.AG) { says(ag, typ, flags) }, []string{"source"}})
		}
		cases = append(cases,
			clauseCase{fmt.Sprintf("no verdict on %s", typ), func(_ *verdict.FS, ag *verdict.AG) { delete(ag.Scrubs, typ) }, []string{"source"}},
			clauseCase{fmt.Sprintf("%s not compared with a sick cntbt", typ), func(_ *verdict.FS, ag *verdict.AG) {
				says(ag, typ, xfail)
				ag.Sick = ioctl.AGHealthCntbt
			}, nil})
	}
	checkClauses(t, may, nil, cases)
}

// Row 10: inodes whose chunk has no record are lost in a rebuild of the inobt.
func TestMayRebuildInobt(t *testing.T) {
	may := func(_ *verdict.FS, ag *verdict.AG) []verdict.Blocker { return verdict.MayRebuildInobt(ag) }
	inobtCorrupt := func(ag *verdict.AG) { says(ag, ioctl.ScrubTypeINOBT, corrupt) }
	checkClauses(t, may, inobtCorrupt, []clauseCase{
		{"it only disagrees", func(_ *verdict.FS, ag *verdict.AG) { says(ag, ioctl.ScrubTypeINOBT, xcorrupt) }, []string{"row 10"}},
		{"it only disagrees, and the AGI counts what the rmapbt has", func(_ *verdict.FS, ag *verdict.AG) {
			says(ag, ioctl.ScrubTypeINOBT, xcorrupt)
			ag.InodesCounted = true
		}, nil},
		{"and so, but inodes have no record there", func(_ *verdict.FS, ag *verdict.AG) {
			says(ag, ioctl.ScrubTypeINOBT, xcorrupt)
			ag.InodesCounted, ag.ChunksUncovered = true, []string{"inode 128"}
		}, []string{"row 10"}},
		{"the finobt is corrupt", func(_ *verdict.FS, ag *verdict.AG) {
			says(ag, ioctl.ScrubTypeINOBT, xfail)
			says(ag, ioctl.ScrubTypeFINOBT, corrupt)
		}, nil},
		{"the finobt only disagrees", func(_ *verdict.FS, ag *verdict.AG) {
			says(ag, ioctl.ScrubTypeINOBT, 0)
			says(ag, ioctl.ScrubTypeFINOBT, xcorrupt)
		}, []string{"row 10"}},
		{"chunks without a record", func(_ *verdict.FS, ag *verdict.AG) { ag.ChunksUncovered = []string{"inode 128"} }, []string{"row 10"}},
		{"chunks were not compared", func(_ *verdict.FS, ag *verdict.AG) { ag.ChunksCompared = false }, []string{"row 10"}},
		{"the rmapbt is in dispute", func(_ *verdict.FS, ag *verdict.AG) {
			ag.Open = []verdict.Open{{What: "blocks 3+4", Inodes: []uint64{5}, Uncovered: true, Counted: true, Metadata: true}}
		}, []string{"proven"}},
		{"the rmapbt could not be compared with the sick inobt", func(_ *verdict.FS, ag *verdict.AG) {
			says(ag, ioctl.ScrubTypeRMAPBT, xfail)
			ag.Sick = ioctl.AGHealthInobt
		}, nil},
	})
}

// XFAIL is excused where the reason is a btree that the repair rebuilds.
func TestClean(t *testing.T) {
	const bno, cnt, ino, fino, rmap, refc = ioctl.AGHealthBnobt, ioctl.AGHealthCntbt, ioctl.AGHealthInobt,
		ioctl.AGHealthFinobt, ioctl.AGHealthRmapbt, ioctl.AGHealthRefcountbt
	for _, c := range []struct {
		name    string
		scrub   verdict.Scrub
		sick    ioctl.AGHealth
		t, to   ioctl.ScrubType
		want    bool
		missing bool
	}{
		{name: "clean", scrub: verdict.Scrub{Ran: true}, t: ioctl.ScrubTypeBNOBT, to: ioctl.ScrubTypeRMAPBT, want: true},
		{name: "clean, whatever is sick", scrub: verdict.Scrub{Ran: true}, sick: bno | refc, t: ioctl.ScrubTypeBNOBT, to: ioctl.ScrubTypeRMAPBT, want: true},
		{name: "preen and warnings", scrub: verdict.Scrub{Ran: true, Flags: ioctl.ScrubPreen | ioctl.ScrubWarning}, t: ioctl.ScrubTypeBNOBT, to: ioctl.ScrubTypeRMAPBT, want: true},
		{name: "not asked", missing: true, t: ioctl.ScrubTypeBNOBT, to: ioctl.ScrubTypeRMAPBT},
		{name: "did not run", t: ioctl.ScrubTypeBNOBT, to: ioctl.ScrubTypeRMAPBT},
		{name: "corrupt", scrub: verdict.Scrub{Ran: true, Flags: corrupt | xfail}, sick: rmap, t: ioctl.ScrubTypeBNOBT, to: ioctl.ScrubTypeRMAPBT},
		{name: "xcorrupt", scrub: verdict.Scrub{Ran: true, Flags: xcorrupt | xfail}, sick: rmap, t: ioctl.ScrubTypeBNOBT, to: ioctl.ScrubTypeRMAPBT},
		{name: "incomplete", scrub: verdict.Scrub{Ran: true, Flags: incomplete | xfail}, sick: rmap, t: ioctl.ScrubTypeBNOBT, to: ioctl.ScrubTypeRMAPBT},

		{name: "the target is sick", scrub: verdict.Scrub{Ran: true, Flags: xfail}, sick: rmap, t: ioctl.ScrubTypeBNOBT, to: ioctl.ScrubTypeRMAPBT, want: true},
		{name: "the target and itself are", scrub: verdict.Scrub{Ran: true, Flags: xfail}, sick: rmap | bno, t: ioctl.ScrubTypeBNOBT, to: ioctl.ScrubTypeRMAPBT, want: true},
		{name: "nothing is sick", scrub: verdict.Scrub{Ran: true, Flags: xfail}, t: ioctl.ScrubTypeBNOBT, to: ioctl.ScrubTypeRMAPBT},
		{name: "only itself is sick", scrub: verdict.Scrub{Ran: true, Flags: xfail}, sick: bno, t: ioctl.ScrubTypeBNOBT, to: ioctl.ScrubTypeRMAPBT},
		{name: "another is sick", scrub: verdict.Scrub{Ran: true, Flags: xfail}, sick: ino, t: ioctl.ScrubTypeBNOBT, to: ioctl.ScrubTypeRMAPBT},
		{name: "the target and another are", scrub: verdict.Scrub{Ran: true, Flags: xfail}, sick: rmap | ino, t: ioctl.ScrubTypeBNOBT, to: ioctl.ScrubTypeRMAPBT},
		{name: "the refcountbt, of which the rmapbt takes nothing", scrub: verdict.Scrub{Ran: true, Flags: xfail}, sick: rmap | refc, t: ioctl.ScrubTypeINOBT, to: ioctl.ScrubTypeRMAPBT, want: true},
		{name: "but the bnobt does", scrub: verdict.Scrub{Ran: true, Flags: xfail}, sick: bno | refc, t: ioctl.ScrubTypeINOBT, to: ioctl.ScrubTypeBNOBT},
		{name: "headers do not count", scrub: verdict.Scrub{Ran: true, Flags: xfail}, sick: rmap | ioctl.AGHealthAGF, t: ioctl.ScrubTypeBNOBT, to: ioctl.ScrubTypeRMAPBT, want: true},
		{name: "the target's own check", scrub: verdict.Scrub{Ran: true, Flags: xfail}, sick: rmap, t: ioctl.ScrubTypeRMAPBT, to: ioctl.ScrubTypeRMAPBT},

		{name: "bnobt and cntbt go together", scrub: verdict.Scrub{Ran: true, Flags: xfail}, sick: bno | cnt, t: ioctl.ScrubTypeRMAPBT, to: ioctl.ScrubTypeCNTBT, want: true},
		{name: "one of them", scrub: verdict.Scrub{Ran: true, Flags: xfail}, sick: cnt, t: ioctl.ScrubTypeRMAPBT, to: ioctl.ScrubTypeBNOBT, want: true},
		{name: "inobt and finobt go together", scrub: verdict.Scrub{Ran: true, Flags: xfail}, sick: ino | fino, t: ioctl.ScrubTypeRMAPBT, to: ioctl.ScrubTypeFINOBT, want: true},
		{name: "inobt for finobt", scrub: verdict.Scrub{Ran: true, Flags: xfail}, sick: ino, t: ioctl.ScrubTypeRMAPBT, to: ioctl.ScrubTypeFINOBT, want: true},
		{name: "the refcountbt goes alone", scrub: verdict.Scrub{Ran: true, Flags: xfail}, sick: refc, t: ioctl.ScrubTypeRMAPBT, to: ioctl.ScrubTypeREFCNTBT, want: true},
		{name: "a fork excuses nothing", scrub: verdict.Scrub{Ran: true, Flags: xfail}, sick: rmap, t: ioctl.ScrubTypeRMAPBT, to: ioctl.ScrubTypeBMBTD},
		{name: "a header excuses nothing", scrub: verdict.Scrub{Ran: true, Flags: xfail}, sick: bno, t: ioctl.ScrubTypeAGF, to: ioctl.ScrubTypeAGF},
	} {
		t.Run(c.name, func(t *testing.T) {
			ag := &verdict.AG{Sick: c.sick, Scrubs: map[ioctl.ScrubType]verdict.Scrub{c.t: c.scrub}}
			if c.missing {
				ag.Scrubs = nil
			}
			why, ok := ag.Clean(c.t, c.to)
			assert.Equal(t, c.want, ok, why)
			assert.Equal(t, ok, why == "")
		})
	}
}
