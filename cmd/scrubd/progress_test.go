package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/scrub"
)

// newTestProgress shows progress in a buffer; width 0 is no terminal.
func newTestProgress(mode progressMode, width int) (*progress, *bytes.Buffer) {
	var out bytes.Buffer
	term := &terminal{w: &out}
	if width > 0 {
		term.width = func() int { return width }
	}
	p := newProgress(term, "/data", mode)
	p.held = func() *hold { return nil }
	return p, &out
}

func walkAt(done uint64, elapsed time.Duration) *scrub.ProgressEvent {
	return &scrub.ProgressEvent{
		Phase: scrub.PhaseWalk, Done: done, Total: 5000, Fraction: float64(done) / 10000, Elapsed: elapsed,
		Inodes: done, Findings: 2,
	}
}

func TestProgressLine(t *testing.T) {
	assert.Equal(t, "20% walk 2,000 of 5,000, 40s left, 2,000 inodes, 2 findings",
		statusLine(walkAt(2000, 10*time.Second)))
	assert.Equal(t, "0% metadata 3",
		statusLine(&scrub.ProgressEvent{Phase: scrub.PhaseMetadata, Done: 3, Elapsed: time.Second}))
	assert.Equal(t, "[####----------------]", bar(walkAt(2000, 0)))
	assert.Equal(t, "["+strings.Repeat("#", barWidth)+"]", bar(&scrub.ProgressEvent{Fraction: 7}))
}

func TestETA(t *testing.T) {
	for _, c := range []struct {
		fraction float64
		elapsed  time.Duration
		want     time.Duration
		ok       bool
	}{
		{0, time.Minute, 0, false},
		{0.5, time.Second, 0, false}, // too early
		{0.5, time.Minute, time.Minute, true},
		{0.999999, time.Minute, time.Second, true}, // never "0 s left"
		{1, time.Minute, 0, false},
	} {
		got, ok := eta(&scrub.ProgressEvent{Fraction: c.fraction, Elapsed: c.elapsed})
		assert.Equal(t, c.ok, ok, "%v", c)
		assert.Equal(t, c.want, got, "%v", c)
	}
}

func TestProgressBarFitsTheTerminalAndGoesAway(t *testing.T) {
	p, out := newTestProgress(progressBar, 40)
	p.event(walkAt(2000, 10*time.Second))
	assert.Equal(t, eraseLine+"[####----------------] 20% walk 2,000 …", out.String())
	out.Reset()
	_, err := p.term.Write([]byte("a message\n"))
	require.NoError(t, err)
	assert.Equal(t, eraseLine+"a message\n[####----------------] 20% walk 2,000 …", out.String())
	out.Reset()
	p.close()
	assert.Equal(t, eraseLine, out.String())
	out.Reset()
	p.close()
	assert.Empty(t, out.String(), "nothing is left to take away")
}

func TestProgressIsSilentWhereNobodyLooks(t *testing.T) {
	p, out := newTestProgress(progressNone, 0)
	for i := range 100 {
		p.event(walkAt(uint64(i), time.Duration(i)*time.Minute))
	}
	p.event(&scrub.RepairEvent{Began: true, What: "rebuild rmapbt of AG 0"})
	p.event(&scrub.FindingEvent{Finding: offsetFinding()})
	p.close()
	assert.Empty(t, out.String())
	p.print() // SIGUSR1
	assert.Equal(t, "scrubd: /data: 1% walk 99 of 5,000, 99 inodes, 2 findings\n", out.String())
}

func TestProgressBeforeTheFirstEvent(t *testing.T) {
	p, out := newTestProgress(progressNone, 0)
	p.print()
	assert.Equal(t, "scrubd: /data: starting\n", out.String())
	assert.Empty(t, p.inFlight())
}

func TestProgressLinesOfALog(t *testing.T) {
	p, out := newTestProgress(progressLines, 0)
	for i := range 61 { // a minute, one event a second
		p.event(walkAt(uint64(i), time.Duration(i)*time.Second))
	}
	p.event(&scrub.ProgressEvent{Phase: scrub.PhaseInodes, Elapsed: time.Minute})
	p.event(&scrub.RepairEvent{Began: true, What: "rebuild rmapbt of AG 0"})
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	require.Len(t, lines, 5, out.String())
	assert.Equal(t, "scrubd: /data: 0% inodes", lines[3])
	assert.Equal(t, "scrubd: /data: repair: rebuild rmapbt of AG 0", lines[4])
}

// A call that does not come back is named when it is first seen, and then each
// time it has got twice as old.
func TestProgressNamesACallThatDoesNotComeBack(t *testing.T) {
	p, out := newTestProgress(progressNone, 0)
	for s := 30; s <= 130; s++ {
		e := walkAt(5, time.Duration(s)*time.Second)
		e.Call, e.CallAge = "scrub rmapbt AG 3", time.Duration(s)*time.Second
		p.event(e)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	require.Len(t, lines, 3, out.String())
	assert.Contains(t, lines[0], "scrub rmapbt AG 3 has been in the kernel for 30s; it cannot be interrupted")
	assert.Contains(t, lines[1], "for 1m0s")
	assert.Contains(t, lines[2], "for 2m0s")
	assert.Equal(t, "scrub rmapbt AG 3", p.inFlight())

	out.Reset()
	p.event(walkAt(6, 131*time.Second)) // it came back
	assert.Empty(t, p.inFlight())
	p.held = func() *hold { return &holds[0] }
	e := walkAt(6, 141*time.Second)
	e.Call, e.CallAge = "repair agf AG 0", 10*time.Second
	p.event(e)
	assert.Contains(t, out.String(), "repair agf AG 0 has been in the kernel for 10s; it waits because the filesystem is frozen")
	assert.Contains(t, out.String(), "xfs_freeze -u /data\n")
}

func TestProgressCriesOutOnceForWhatGetsWorse(t *testing.T) {
	p, out := newTestProgress(progressNone, 0)
	f := offsetFinding()
	f.Severity, f.Outcome, f.Summary = scrub.Critical, scrub.Repairable, "free space that a file uses"
	p.event(&scrub.FindingEvent{Finding: f})
	p.event(&scrub.FindingEvent{Finding: f})
	assert.Equal(t, "scrubd: /data: CRITICAL: free space that a file uses; AG 0 blocks 72-87, inode 432 dir/file\n", out.String())
}

func TestThreadsWaitIn(t *testing.T) {
	dir := t.TempDir()
	for tid, function := range map[string]string{"1": "futex_wait_queue", "2": "percpu_rwsem_wait\n"} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, tid), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, tid, "wchan"), []byte(function), 0o600))
	}
	assert.True(t, threadsWaitIn(dir, thawWaits...))
	assert.False(t, threadsWaitIn(dir, "schedule"))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "1", "stack"),
		[]byte("[<0>] schedule+0x4d/0x75\n[<0>] do_nanosleep+0x7f/0x163\n"), 0o600))
	assert.True(t, threadsWaitIn(dir, "do_nanosleep"))
	assert.False(t, threadsWaitIn(dir, "nanosleep"), "the end of a name is another name")
	assert.False(t, threadsWaitIn(filepath.Join(dir, "none"), thawWaits...))
}

func TestCut(t *testing.T) {
	assert.Equal(t, "häl…", cut("hällo", 4))
	assert.Equal(t, "hällo", cut("hällo", 5))
	assert.Empty(t, cut("hällo", 0))
	assert.Empty(t, cut("hällo", -1))
}

// Calls that only read are not named by the run. When one of them is held, the
// run stands still, and why is said.
func TestProgressSaysWhyARunStandsStill(t *testing.T) {
	p, out := newTestProgress(progressNone, 0)
	for s := range 60 {
		p.event(walkAt(5, time.Duration(s)*time.Second))
	}
	assert.Empty(t, out.String(), "it may be at work")
	p.held = func() *hold { return &holds[0] }
	for s := range 60 {
		p.event(walkAt(uint64(6+s), time.Duration(60+s)*time.Second))
	}
	assert.Empty(t, out.String(), "it moves")
	for s := range 60 {
		p.event(walkAt(66, time.Duration(120+s)*time.Second))
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	require.Len(t, lines, 3, out.String())
	assert.Equal(t, "scrubd: /data: a call has been in the kernel for 10s; it waits because the filesystem is frozen: "+
		"wait for the snapshot that froze it, or thaw it with xfs_freeze -u /data", lines[0])
	assert.Contains(t, lines[1], "for 20s")
	assert.Contains(t, lines[2], "for 40s")

	err := p.stuck()
	require.EqualError(t, err, "stopped while a kernel call had not come back: it waits because the filesystem is frozen")
	assert.Contains(t, advise(err), "xfs_freeze -u /data")
}
