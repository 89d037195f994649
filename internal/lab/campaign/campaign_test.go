package campaign

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/internal/lab"
)

func TestCasesFollowFromTheirNames(t *testing.T) {
	t.Parallel()
	for _, one := range Plan(Double, 25, 7) {
		again, err := ParseCase(one.String())
		require.NoError(t, err)
		assert.Equal(t, one, again)
		assert.Equal(t, one.draw(3), again.draw(3))
		assert.Equal(t, one.draw(0).Geometry, one.draw(9).Geometry, "one base for all draws of a case")
		assert.Len(t, one.draw(0).Faults, map[Kind]int{Double: 2, Clean: 0}[one.Kind])
	}
	for _, bad := range []string{"", "single-1", "single-1-x", "single-x-1", "triple-1-1", "single-1-1-1"} {
		_, err := ParseCase(bad)
		require.Error(t, err, bad)
	}
}

func TestOneInTenHasNoFault(t *testing.T) {
	t.Parallel()
	clean := 0
	cases := Plan(Lost, 60, 1)
	for _, one := range cases {
		if one.Kind == Clean {
			clean++
			continue
		}
		assert.Contains(t, lab.LostClasses(), one.draw(0).Lost)
	}
	assert.Equal(t, 6, clean)
	assert.Len(t, cases, 66)
}

// TestEveryClassIsDrawn: no class of faults is left out of campaigns.
func TestEveryClassIsDrawn(t *testing.T) {
	t.Parallel()
	var drawn []lab.FaultClass
	for _, s := range structures {
		drawn = append(drawn, s.classes...)
	}
	slices.Sort(drawn)
	all := slices.Concat(lab.FaultClasses(), lab.RandomFaultClasses())
	slices.Sort(all)
	assert.Equal(t, all, slices.Compact(drawn))
}

// TestReasonsAreThoseOfTheDoc: the list of docs/campaign.md is the one that is
// judged by.
func TestReasonsAreThoseOfTheDoc(t *testing.T) {
	t.Parallel()
	root, err := lab.RepoRoot()
	require.NoError(t, err)
	text, err := os.ReadFile(filepath.Join(root, "docs", "campaign.md"))
	require.NoError(t, err)
	said := make(map[HoldReason]string)
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\| (.*) \\|$").FindAllStringSubmatch(string(text), -1) {
		said[HoldReason(m[1])] = m[2]
	}
	assert.Equal(t, HoldReasons, said)
}

const report = `/run/campaign: XFS on /dev/loop0, mode repair (autofsck property: repair)
checked: kernel-scrub, rmapbt, bnobt

REPAIRED corruption: the rmapbt is wrong about 12 blocks
  where: AG 0 blocks 132-143, inode 132 clones/base
  witnesses: fork: has them; rmapbt: has not
  verdict: rmapbt is at fault (row 1)
  done: rmapbt of AG 0

HELD corruption: fork and rmapbt disagree
  where: AG 1 block 3
  verdict: undecided (row 11); no third witness speaks

REPAIRED corruption: a counter
  verdict: inode is at fault (kernel scrub of inode, nlinks)

/run/campaign: 3 findings: 2 repaired, 1 held
`

func TestParseReport(t *testing.T) {
	t.Parallel()
	assert.Equal(t, []Finding{
		{Outcome: "repaired", AtFault: "rmapbt", Summary: "the rmapbt is wrong about 12 blocks", Lines: 5},
		{Outcome: "held", AtFault: "undecided", Summary: "fork and rmapbt disagree", Reason: "no third witness speaks", Lines: 3},
		{Outcome: "repaired", AtFault: "inode", Summary: "a counter", Lines: 2},
	}, parseReport(splitLines([]byte(report))))
	assert.Empty(t, parseReport([]string{"/mnt: clean: all that this kernel and filesystem allow to check is well"}))
}

func TestJudge(t *testing.T) {
	t.Parallel()
	repaired := Finding{Outcome: "repaired", AtFault: "rmapbt", Lines: 5}
	held := Finding{Outcome: "held", AtFault: "undecided", Lines: 5}
	rmap := Oracle{AtFault: []string{"rmapbt"}}
	tie := Oracle{AtFault: []string{"rmapbt"}, Hold: []HoldReason{UnwrittenTie}}
	for name, tc := range map[string]struct {
		kind   Kind
		o      Outcome
		oracle Oracle
		right  bool
		wrong  string
	}{
		"healed":            {Single, Outcome{Findings: []Finding{repaired}}, rmap, true, ""},
		"missed":            {Single, Outcome{}, rmap, false, "not noticed"},
		"wrong structure":   {Single, Outcome{Findings: []Finding{{Outcome: "repaired", AtFault: "bnobt"}}}, rmap, false, "was blamed"},
		"rightly held":      {Single, Outcome{Status: 1, Check: 1, Findings: []Finding{held}}, tie, true, ""},
		"wrongly held":      {Single, Outcome{Status: 1, Findings: []Finding{held}}, rmap, false, "wrongly held"},
		"failed":            {Single, Outcome{Findings: []Finding{{Outcome: "failed"}}}, tie, false, "failed"},
		"unsettled":         {Single, Outcome{Findings: []Finding{{Outcome: "unsettled"}}}, tie, false, "unsettled"},
		"too long":          {Single, Outcome{Findings: []Finding{{Outcome: "repaired", AtFault: "rmapbt", Lines: 7}}}, rmap, false, "7 lines"},
		"found again":       {Single, Outcome{Check: 1, Findings: []Finding{repaired}}, rmap, false, "a check after"},
		"offline finds":     {Single, Outcome{Offline: []string{"x"}, Findings: []Finding{repaired}}, rmap, false, "xfs_repair"},
		"image contradicts": {Single, Outcome{Contradictions: []string{"x"}, Findings: []Finding{repaired}}, rmap, false, "on the image"},
		"harmed":            {Single, Outcome{Harmed: []string{"f: data"}, Findings: []Finding{repaired}}, rmap, false, "HARMED"},
		"made free":         {Single, Outcome{Exposed: []string{"x"}, Findings: []Finding{repaired}}, rmap, false, "MADE FREE"},
		"hung":              {Single, Outcome{Hung: "in stage run"}, rmap, false, "HUNG"},
		"shut down":         {Single, Outcome{Shutdown: "EIO", Findings: []Finding{held}}, tie, false, "SHUTDOWN"},
		"clean":             {Clean, Outcome{}, Oracle{}, true, ""},
		"false alarm":       {Clean, Outcome{Findings: []Finding{held}}, Oracle{}, false, "false alarm"},
		"clean, status 4":   {Clean, Outcome{Status: 4}, Oracle{}, false, "exit status 4"},
	} {
		o := tc.o
		o.judgeScrubd(tc.kind, tc.oracle)
		assert.Equal(t, tc.right, o.Right && !o.Harm(), name)
		assert.Contains(t, strings.Join(o.Wrong, "\n"), tc.wrong, name)
		assert.Equal(t, tc.wrong == "", len(o.Wrong) == 0, "%s: %v", name, o.Wrong)
	}
}

// TestHarmIsNeitherBeforeNorClean: what the damage did is no harm of the run,
// and neither is what it took back.
func TestHarmIsNeitherBeforeNorClean(t *testing.T) {
	t.Parallel()
	snap := func(data ...string) lab.Snapshot {
		var s lab.Snapshot
		for i, d := range data {
			if d != "" {
				s.Entries = append(s.Entries, lab.SnapshotEntry{Path: string(rune('a' + i)), Data: d})
			}
		}
		return s
	}
	var o Outcome
	o.compare(snap("1", "1", "1", "1", "1"), snap("1", "2", "2", "2", "1"), snap("1", "1", "2", "3", ""))
	assert.Equal(t, []string{"b"}, o.Recovered)
	assert.Equal(t, 3, o.Damaged)
	require.Len(t, o.Harmed, 2)
	assert.True(t, strings.HasPrefix(o.Harmed[0], "d: "))
	assert.True(t, strings.HasPrefix(o.Harmed[1], "e: "))
}

// TestWhatIsMadeFreeIsHarm: but not what was free already because of the damage.
func TestWhatIsMadeFreeIsHarm(t *testing.T) {
	t.Parallel()
	const inode = "inode 7 has mode 0100644, and the inobt says allocated: false"
	const space = "bnobt of AG 0 and the gaps between what is owned: {start 1, blocks 2} is only in the first"
	const lost = "bnobt of AG 0 and the gaps between what is owned: {start 9, blocks 2} is only in the second"
	o := Outcome{Contradictions: []string{inode, space, lost}}
	o.worsened([]string{space})
	assert.Equal(t, []string{inode}, o.Exposed)
	assert.True(t, o.Harm())
}

func TestTableAndTargets(t *testing.T) {
	t.Parallel()
	ok := &Outcome{Noticed: true, Healed: true, Right: true, Findings: []Finding{{Lines: 5}}}
	held := &Outcome{Noticed: true, Held: true, Right: true, Findings: []Finding{{Lines: 6}}}
	missed := &Outcome{}
	results := make([]Result, 0, 21)
	for range 19 {
		results = append(results, Result{Case: Case{Kind: Single}, Scrubd: ok, Peer: missed})
	}
	results = append(results, Result{Case: Case{Kind: Single}, Scrubd: held}, Result{Case: Case{Kind: Clean}, Scrubd: &Outcome{Right: true}})
	assert.Empty(t, Targets(Single, results))
	var out strings.Builder
	require.NoError(t, Table(&out, results))
	assert.Regexp(t, `(?m)^faults noticed +20 of 20 \(100 %\) +0 of 19 \(0 %\)$`, out.String())
	assert.Regexp(t, `(?m)^rightly held +1 of 20 \(5 %\) +-$`, out.String())

	assert.Equal(t, []string{"1 faults were not noticed", "healed 85.7 %, less than 90 %"},
		Targets(Single, append(slices.Clone(results[:12]), results[19], Result{Case: Case{Kind: Single}, Scrubd: missed})))
	assert.Equal(t, []string{"harm in 1 cases"}, Targets(Lost, []Result{{
		Case: Case{Kind: Lost}, Scrubd: &Outcome{Noticed: true, Harmed: []string{"f"}},
	}}))
	assert.Equal(t, []string{"1 cases could not be run"}, Targets(Lost, []Result{{Case: Case{Kind: Lost}, Error: "no"}}))
	assert.Equal(t, []string{"1 filesystems without a fault were not clean"}, Targets(Double, append([]Result{{
		Case: Case{Kind: Clean}, Scrubd: &Outcome{Status: 4},
	}}, results[:3]...)))
}
