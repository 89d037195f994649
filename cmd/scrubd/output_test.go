package main

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub"
)

var testTarget = target{Path: "data", MountPoint: "/data", Device: "/dev/sda2"}

var testStart = &scrub.StartEvent{
	RunID: "run-1", Path: "/data", Device: "/dev/sda2", UUID: "1b4e28ba-2fa1-11d2-883f-0016d3cca427",
	Mode: scrub.ModeRepair, Autofsck: "unset",
	Coverage: scrub.Coverage{
		Checked:     []string{"kernel scrub", "rmapbt against forks", "bnobt"},
		NotChecked:  []scrub.Uncovered{{What: "quotas", Why: "none are in use"}},
		KernelScrub: true, Repair: true, Rmapbt: true,
	},
}

// offsetFinding is a fault of design.md's table: an rmap with a wrong offset.
func offsetFinding() *scrub.Finding {
	return &scrub.Finding{
		ID: "f-1", AtFault: "rmapbt", Row: 12, Severity: scrub.Corruption, Outcome: scrub.Repaired,
		HasAG: true, AGNo: 0,
		Extents: []scrub.Extent{{AGNo: 0, StartBlock: 72, BlockCount: 16}},
		Files:   []scrub.File{{Ino: 432, Gen: 7, Path: "dir/file"}},
		Witnesses: []scrub.Witness{
			{Name: "fork", Says: "offset 0"}, {Name: "rmapbt", Says: "offset 25"}, {Name: "bnobt", Says: "in use"},
		},
		Summary:      "the rmapbt has another file offset than the file",
		Done:         []string{"rebuilt rmapbt of AG 0", "proof: equal to the forks"},
		EvidencePath: "/var/lib/scrubd/run-1",
	}
}

func heldFinding() *scrub.Finding {
	return &scrub.Finding{
		ID: "f-2", AtFault: "undecided", Row: 2, Severity: scrub.Corruption, Outcome: scrub.Held,
		HasAG: true, AGNo: 3,
		Extents:   []scrub.Extent{{AGNo: 3, StartBlock: 1, BlockCount: 1}},
		Files:     []scrub.File{{Ino: 500, Gen: 1}},
		Witnesses: []scrub.Witness{{Name: "fork", Says: "nothing"}, {Name: "rmapbt", Says: "inode 500 offset 0"}},
		Summary:   "the rmapbt has an extent that the file lacks",
		Reason:    "nobody denies the record: it may be the only trace of lost data",
		WaysOut: []scrub.WayOut{
			{Trust: "rmap", Effect: "the extent returns to the file", Command: "scrubd repair --finding f-2 --trust rmap"},
			{Trust: "fork", Effect: "the blocks become free", Command: "scrubd repair --finding f-2 --trust fork"},
		},
	}
}

func testSummary(findings ...*scrub.Finding) *scrub.Summary {
	return &scrub.Summary{
		RunID: "run-1", Mode: scrub.ModeRepair, Coverage: testStart.Coverage, Findings: findings, Complete: true,
		Inodes: 10003, Extents: 12555, AGs: 4, KernelCalls: 3210, Elapsed: 12340 * time.Millisecond,
		Dropped: 2, PeakPageableBytes: 3 << 20,
	}
}

// textOf is the text report of a run with these events and this end.
func textOf(t *testing.T, consistent bool, s *scrub.Summary, status int, err error) string {
	t.Helper()
	var out bytes.Buffer
	r := newTextReporter(&out, testTarget, consistent)
	r.event(testStart)
	r.end(s, status, err)
	require.NoError(t, r.failed())
	return out.String()
}

func TestTextReportOfOneRepairedFault(t *testing.T) {
	want := `/data: XFS on /dev/sda2, mode repair
checked: kernel scrub, rmapbt against forks, bnobt
not checked: quotas (none are in use)

REPAIRED corruption: the rmapbt has another file offset than the file
  where: AG 0 blocks 72-87, inode 432 dir/file
  witnesses: fork: offset 0; rmapbt: offset 25; bnobt: in use
  verdict: rmapbt is at fault (row 12)
  done: rebuilt rmapbt of AG 0; proof: equal to the forks (evidence: /var/lib/scrubd/run-1)

/data: 1 finding: 1 repaired
10,003 inodes, 12,555 extents in 4 AGs; 2 differences seen once and gone when looked at again; 3,210 kernel calls; 3.0 MiB of records, 12.3s
`
	assert.Equal(t, want, textOf(t, false, testSummary(offsetFinding()), 0, nil))
}

func TestTextReportConsistent(t *testing.T) {
	want := `/data: XFS on DEVICE, mode repair
checked: kernel scrub, rmapbt against forks, bnobt
not checked: quotas (none are in use)

HELD corruption: the rmapbt has an extent that the file lacks
  where: AG 3 block 1, inode 500
  witnesses: fork: nothing; rmapbt: inode 500 offset 0
  verdict: undecided (row 2); nobody denies the record: it may be the only trace of lost data
  what to do: trust the rmap: the extent returns to the file [scrubd repair --finding f-2 --trust rmap] | or trust the fork: the blocks become free [scrubd repair --finding f-2 --trust fork]

/data: 1 finding: 1 held
10,003 inodes, 12,555 extents in 4 AGs
exit status 1: corruption is left
`
	assert.Equal(t, want, textOf(t, true, testSummary(heldFinding()), 1, nil))
}

func TestUncoveredPutsOneReasonOnce(t *testing.T) {
	assert.Equal(t, []string{"kernel-scrub and repair (too old)", "quotas (off)"}, uncovered([]scrub.Uncovered{
		{What: "kernel-scrub", Why: "too old"}, {What: "repair", Why: "too old"}, {What: "quotas", Why: "off"},
	}))
	assert.Empty(t, uncovered(nil))
}

func TestTextReportOfCleanRun(t *testing.T) {
	out := textOf(t, true, testSummary(), 0, nil)
	assert.Contains(t, out, "/data: clean: all that this kernel and filesystem allow to check is well\n")
	assert.NotContains(t, out, "exit status")
}

func TestTextReportOfWhatIsLegal(t *testing.T) {
	s := testSummary()
	s.Warnings, s.OptimizationsPossible = 1, 4
	out := textOf(t, true, s, s.ExitStatus(), nil)
	assert.Contains(t, out, "/data: no fault; 1 warning; 4 optimizations possible (--optimize)\n")
	assert.Contains(t, out, "exit status 2: warnings or possible optimizations are left\n")

	s = testSummary()
	s.Optimized = 4
	out = textOf(t, true, s, s.ExitStatus(), nil)
	assert.Contains(t, out, "/data: clean: all that this kernel and filesystem allow to check is well; 4 optimizations made\n")
}

// A run that left something out says so, at its start and in the line that says clean.
func TestTextReportOfAResumedRun(t *testing.T) {
	s := testSummary()
	s.Resumed = &scrub.Resumed{RunID: "run-0", Since: time.Date(2026, 11, 1, 2, 3, 4, 0, time.Local), AGs: 4, Inodes: 9000}
	var out bytes.Buffer
	r := newTextReporter(&out, testTarget, false)
	start := *testStart
	start.Resumed = s.Resumed
	r.event(&start)
	r.end(s, 0, nil)
	assert.Contains(t, out.String(), "\nresumed: scrubs of up to 9,000 inodes and of metadata of 4 AGs since 2026-11-01 02:03:04 are left out; forks and rmapbt are compared anew\n")
	assert.Contains(t, out.String(), "/data: clean: all that this kernel and filesystem allow to check is well; scrubs of 9,000 inodes and of metadata of 4 AGs since 2026-11-01 02:03:04 are an earlier run's\n")

	s.Resumed = &scrub.Resumed{RunID: "run-0", Anew: "something was found: it"}
	text := textOf(t, true, s, 0, nil)
	assert.Contains(t, text, "note: everything was checked anew after all: something was found: it\n")
	assert.NotContains(t, text, "an earlier run's")

	s = testSummary()
	s.Complete, s.Incomplete, s.Checkpoint = false, "stopped in phase inodes", true
	assert.Contains(t, textOf(t, true, s, 4, errors.New("stopped")), "note: a run with --resume can go on from here\n")
}

func TestTextReportNeverCallsTheUncheckedClean(t *testing.T) {
	s := testSummary()
	s.Unchecked = 3
	s.Notes = []string{"3 inodes could not be opened: a lease is held"}
	out := textOf(t, true, s, s.ExitStatus(), nil)
	assert.NotContains(t, out, "clean")
	assert.Contains(t, out, "note: 3 inodes could not be opened: a lease is held\n")
	assert.Contains(t, out, "no fault in what was checked; 3 objects could not be checked\n")
	assert.Contains(t, out, "exit status 4: the check could not be done or finished\n")

	s = testSummary()
	s.Complete, s.Incomplete = false, "stopped in phase walk at inode 1,234 of 5,000"
	out = textOf(t, true, s, s.ExitStatus(), errors.New("stopped"))
	assert.NotContains(t, out, "clean")
	assert.Contains(t, out, "/data: not finished: stopped in phase walk at inode 1,234 of 5,000\n")
}

// One fault fits 20 lines and a finding six, however much hangs on it.
func TestTextReportIsShort(t *testing.T) {
	f := heldFinding()
	for i := range 500 {
		f.Extents = append(f.Extents, scrub.Extent{AGNo: 3, StartBlock: ioctl.AGBlock(2 * i), BlockCount: 1})
		f.Files = append(f.Files, scrub.File{Ino: ioctl.Ino(600 + i), Path: fmt.Sprint("dir/", i)})
	}
	f.Done = []string{"rebuilt rmapbt of AG 3"}
	f.EvidencePath = "/var/lib/scrubd/run-1"
	f.Summary += "\nand a line\nof its own"
	s := testSummary(f)
	for i := range 30 {
		s.Notes = append(s.Notes, fmt.Sprint("note ", i))
	}
	out := textOf(t, false, s, 1, nil)
	assert.LessOrEqual(t, strings.Count(out, "\n"), 20, out)
	_, finding, _ := strings.Cut(out, "\n\n")
	finding, _, _ = strings.Cut(finding, "\n\n")
	assert.LessOrEqual(t, strings.Count(finding, "\n")+1, 6, finding)
	assert.Contains(t, finding, "and 498 more extents")
	assert.Contains(t, finding, "and 498 more files")
	assert.Contains(t, finding, `the file lacks\x0aand a line`)
}

func TestTextReportShowsTheWorstFirstAndNotAll(t *testing.T) {
	var findings []*scrub.Finding
	for i := range 60 {
		f := offsetFinding()
		f.ID, f.AGNo = fmt.Sprint("f", i), ioctl.AGNumber(i)
		findings = append(findings, f)
	}
	findings[59].Severity, findings[59].Summary = scrub.Critical, "a file uses free blocks"
	out := textOf(t, true, testSummary(findings...), 0, nil)
	assert.Equal(t, shownFindings, strings.Count(out, "\nREPAIRED "))
	assert.Contains(t, out, "… and 10 more; --json lists all of them\n")
	assert.Less(t, strings.Index(out, "a file uses free blocks"), strings.Index(out, "another file offset"))
	assert.Contains(t, out, "/data: 60 findings: 60 repaired\n")
}

func TestTextReportNamesTheCommandThatRepairs(t *testing.T) {
	for _, c := range []struct {
		mode     scrub.Mode
		autofsck string
		want     string
	}{
		{scrub.ModeCheck, "unset", "scrubd run --now --repair '/my data'"},
		{scrub.ModeCheck, "repair", "scrubd run --now --repair '/my data'"},
		{scrub.ModeCheck, "check", "scrubd run --now --repair --ignore-autofsck '/my data'"},
		{scrub.ModeOptimize, "unknown", "scrubd run --now --repair --ignore-autofsck '/my data'"},
		{scrub.ModeRepair, "", "scrubd run --now --repair '/my data' once what refused the repair agrees"},
	} {
		var out bytes.Buffer
		r := newTextReporter(&out, target{MountPoint: "/my data"}, true)
		r.event(&scrub.StartEvent{Mode: c.mode, Autofsck: c.autofsck})
		f := offsetFinding()
		f.Outcome, f.Done = scrub.Repairable, nil
		r.end(testSummary(f), 1, nil)
		assert.Contains(t, out.String(), "  what to do: "+c.want+"\n")
	}
}

// What comes from names on the disk must not drive the terminal.
func TestTextReportIsSafeForTerminals(t *testing.T) {
	f := offsetFinding()
	f.Files[0].Path = "evil\x1b[2J\nclean\xff"
	f.Witnesses[0].Says = "symlink to \x1b]0;title\a"
	out := textOf(t, true, testSummary(f), 0, nil)
	assert.NotContains(t, out, "\x1b")
	assert.NotContains(t, out, "\a")
	assert.Contains(t, out, `inode 432 "evil\x1b[2J\nclean\xff"`)
}

type fullWriter struct{ room int }

func (w *fullWriter) Write(p []byte) (int, error) {
	if w.room -= len(p); w.room < 0 {
		return 0, errors.New("disk full")
	}
	return len(p), nil
}

func TestReportersKeepTheFirstWriteError(t *testing.T) {
	for name, r := range map[string]reporter{
		"text": newTextReporter(&fullWriter{room: 10}, testTarget, true),
		"json": newJSONReporter(&fullWriter{room: 10}, "/data", true, true),
	} {
		r.event(testStart)
		require.ErrorContains(t, r.failed(), "disk full", name)
		r.end(testSummary(offsetFinding()), 0, nil)
		require.ErrorContains(t, r.failed(), "disk full", name)
	}
}

func TestShellQuote(t *testing.T) {
	for in, want := range map[string]string{
		"/data": "/data", "": "''", "/my data": "'/my data'", "/it's": `'/it'\''s'`, "/a;b": "'/a;b'", "/ünï": "/ünï", "$x": "'$x'",
	} {
		assert.Equal(t, want, shellQuote(in))
	}
}

func TestStatusText(t *testing.T) {
	assert.Equal(t, "corruption is left; the check could not be done or finished", statusText(5))
	assert.Empty(t, statusText(0))
}
