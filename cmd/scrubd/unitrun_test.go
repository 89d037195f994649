package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub"
	"github.com/scrubd/scrubd/service/record"
	"github.com/scrubd/scrubd/systemd"
)

const testUUID = "0d0a5f11-5d5c-4a7e-9d0b-f0ddc0ffee00"

// unitEnv is the environment of a unit without a journal; heard are the
// notifications so far.
func unitEnv(t *testing.T) (stateDir string, heard func() string) {
	t.Helper()
	stateDir = filepath.Join(t.TempDir(), "state")
	name := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, conn.Close()) })
	for k, v := range map[string]string{
		"NOTIFY_SOCKET": name, "STATE_DIRECTORY": stateDir + ":/second", "JOURNAL_STREAM": "",
		"WATCHDOG_USEC": "180000000", "WATCHDOG_PID": strconv.Itoa(os.Getpid()),
	} {
		t.Setenv(k, v)
	}
	return stateDir, func() string {
		var all []string
		buf := make([]byte, 4096)
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return strings.Join(all, "\n")
			}
			all = append(all, string(buf[:n]))
		}
	}
}

func unitStart() *scrub.StartEvent {
	return &scrub.StartEvent{
		RunID: "00ff", Path: "/data", Device: "/dev/sdb", UUID: testUUID, Mode: scrub.ModeRepair,
		Coverage: scrub.Coverage{Checked: []string{"rmapbt"}, NotChecked: []scrub.Uncovered{{What: "repair", Why: "not built in"}}},
	}
}

func TestRunInAUnit(t *testing.T) {
	stateDir, heard := unitEnv(t)
	atRisk := heldFinding()
	atRisk.ID, atRisk.Severity, atRisk.Outcome = "risk", scrub.Critical, scrub.Repairable
	status, out, log := runOn(t, newKernel(t), func(_ context.Context, _ *ioctl.FS, o scrub.Options) (*scrub.Summary, error) {
		o.Events(unitStart())
		o.Events(&scrub.ProgressEvent{Phase: scrub.PhaseWalk, Done: 5, Inodes: 5, Fraction: 0.5})
		o.Events(&scrub.FindingEvent{Finding: atRisk})
		o.Events(&scrub.FindingEvent{Finding: atRisk})
		o.Events(&scrub.RepairEvent{What: "rebuild bnobt of AG 0", FindingID: "risk", Type: ioctl.ScrubTypeBNOBT, Began: true})
		o.Events(&scrub.RepairEvent{What: "rebuild bnobt of AG 0", FindingID: "risk", Type: ioctl.ScrubTypeBNOBT, Err: errors.New("no space")})
		o.Events(&scrub.ProgressEvent{Phase: scrub.PhaseInodes, Call: "scrub nlinks", CallAge: 3 * time.Minute})
		s := testSummary(heldFinding())
		s.RunID = "00ff"
		return s, nil
	}, func(o *runOptions) { o.service = true }, "/data")
	assert.Equal(t, exitCorruption, status)
	assert.Empty(t, out)
	var lines []string
	for line := range strings.Lines(log) {
		text, _, _ := strings.Cut(line, " MESSAGE_ID=")
		lines = append(lines, strings.TrimSpace(text))
	}
	text := strings.Join(lines, "\n")
	assert.Contains(t, text, "<5>/data: check begins, mode repair")
	assert.Contains(t, text, "<4>/data: not checked: repair (not built in)")
	assert.Equal(t, 1, strings.Count(text, "<2>/data: CRITICAL: "), text)
	assert.Contains(t, text, "<3>/data: rebuild bnobt of AG 0 failed: no space")
	assert.Contains(t, text, "<3>/data: scrub nlinks has been in the kernel for 3m")
	assert.Contains(t, text, "<3>/data: HELD corruption: ")
	assert.Contains(t, text, "<5>/data: 1 finding: 1 held")
	assert.Contains(t, log, "MESSAGE_ID="+systemd.KindHeld.ID)
	assert.Contains(t, log, " XFS_UUID="+testUUID)
	assert.Contains(t, log, " SCRUBD_EXIT_STATUS=1")

	said := heard()
	assert.Contains(t, said, "READY=1\nSTATUS=starting")
	assert.Contains(t, said, "WATCHDOG=1")
	assert.Contains(t, said, "STATUS=/data: 50% walk 5, 5 inodes")

	runs, err := record.New(stateDir).History(testUUID)
	require.NoError(t, err)
	require.Len(t, runs, 1)
	assert.Equal(t, "00ff", runs[0].RunID)
	assert.True(t, runs[0].Complete)
	assert.Equal(t, exitCorruption, runs[0].ExitStatus)
	assert.Equal(t, map[string]int{"held": 1}, runs[0].Findings)
	report, err := os.ReadFile(filepath.Join(record.New(stateDir).Reports(testUUID), runs[0].Report))
	require.NoError(t, err)
	messages := jsonLines(t, report)
	assert.Equal(t, "start", messages[0]["message_type"])
	assert.Equal(t, "summary", messages[len(messages)-1]["message_type"])
}

// A unit goes on where the one before it was stopped, a person only when asked to. Its
// record is as old as what it left out.
func TestResumeInAUnit(t *testing.T) {
	for _, c := range []struct {
		service, resume, noResume, want bool
	}{{true, false, false, true}, {true, false, true, false}, {false, false, false, false}, {false, true, false, true}} {
		stateDir, _ := unitEnv(t)
		var got scrub.Options
		began, since := time.Now().UTC(), time.Now().UTC().Add(-time.Hour)
		status, _, log := runOn(t, newKernel(t), func(_ context.Context, _ *ioctl.FS, o scrub.Options) (*scrub.Summary, error) {
			got = o
			start, s := unitStart(), testSummary()
			if o.Resume {
				start.Resumed = &scrub.Resumed{RunID: "00fe", Since: since, AGs: 4, Inodes: 100}
				s.Resumed = start.Resumed
				s.Well = []scrub.WellAGs{{First: 0, Last: 2, Since: since}, {First: 3, Last: 3, Since: began}}
			}
			o.Events(start)
			return s, nil
		}, func(o *runOptions) { o.service, o.resume, o.noResume = c.service, c.resume, c.noResume }, "/data")
		require.Zero(t, status, log)
		assert.Equal(t, c.want, got.Resume, "%+v", c)
		if !c.service || !c.want {
			continue
		}
		assert.Contains(t, log, "<5>/data: goes on where run 00fe was stopped: 100 inodes are left out MESSAGE_ID="+systemd.KindResumed.ID)
		assert.Contains(t, log, "are an earlier run's MESSAGE_ID="+systemd.KindRunFinished.ID)
		store := record.New(stateDir)
		runs, err := store.History(testUUID)
		require.NoError(t, err)
		require.Len(t, runs, 1)
		assert.Equal(t, since, runs[0].ProvenSince())
		totals, err := store.Totals(testUUID)
		require.NoError(t, err)
		assert.Equal(t, []record.WellAGs{{First: 0, Last: 2, Since: since}, {First: 3, Last: 3, Since: began}}, totals.Well)
		assert.Equal(t, uint32(4), totals.AGs)
	}
}

// A run that looks at a few places says so, and is no complete one.
func TestPlacesInAUnit(t *testing.T) {
	stateDir, _ := unitEnv(t)
	status, _, log := runOn(t, newKernel(t), func(_ context.Context, _ *ioctl.FS, o scrub.Options) (*scrub.Summary, error) {
		start := unitStart()
		start.Only = []string{"AG 0"}
		o.Events(start)
		s := testSummary(heldFinding())
		s.RunID, s.Only = "00ff", start.Only
		return s, nil
	}, func(o *runOptions) { o.service, o.places.agnos = true, []string{"0"} }, "/data")
	assert.Equal(t, exitCorruption, status, log)
	assert.Contains(t, log, "<5>/data: check of AG 0 begins")
	assert.NotContains(t, log, "not checked")
	assert.Contains(t, log, "MESSAGE_ID="+systemd.KindSuspect.ID)
	assert.NotContains(t, log, "MESSAGE_ID="+systemd.KindHeld.ID)
	runs, err := record.New(stateDir).History(testUUID)
	require.NoError(t, err)
	require.Len(t, runs, 1)
	assert.Equal(t, []string{"AG 0"}, runs[0].Only)
	assert.False(t, runs[0].Complete)
}

// What keeps a run from starting is logged with what can be done, and is no
// record: nothing was checked.
func TestRefusalInAUnit(t *testing.T) {
	stateDir, _ := unitEnv(t)
	status, out, log := runOn(t, newKernel(t), nil, func(o *runOptions) { o.service = true }, "/boot")
	assert.Equal(t, exitOperational, status)
	assert.Empty(t, out)
	assert.Contains(t, log, "<3>/boot: not checked: ")
	assert.Contains(t, log, "MESSAGE_ID="+systemd.KindIncomplete.ID)
	assert.Contains(t, log, "SCRUBD_TO_DO=")
	list, err := record.New(stateDir).Filesystems()
	require.NoError(t, err)
	assert.Empty(t, list)

	forbidden := func(context.Context, *ioctl.FS, scrub.Options) (*scrub.Summary, error) {
		return nil, scrub.ErrForbidden
	}
	status, _, log = runOn(t, newKernel(t), forbidden, func(o *runOptions) { o.service = true }, "/data")
	assert.Equal(t, exitSkipped, status, log)
}

func TestStateDirOf(t *testing.T) {
	t.Setenv("STATE_DIRECTORY", "")
	assert.Equal(t, "/flag", stateDirOf("/flag"))
	assert.Equal(t, "/var/lib/scrubd", stateDirOf(""))
	t.Setenv("STATE_DIRECTORY", "/var/lib/private/x:/y")
	assert.Equal(t, "/var/lib/private/x", stateDirOf(""))
}

// A full or unwritable state directory costs the record, says so, and nothing
// else.
func TestUnitWithoutRoomForItsRecord(t *testing.T) {
	stateDir, _ := unitEnv(t)
	require.NoError(t, os.WriteFile(stateDir, nil, 0o600)) // a file where the directory goes
	status, _, log := runOn(t, newKernel(t), func(_ context.Context, _ *ioctl.FS, o scrub.Options) (*scrub.Summary, error) {
		o.Events(unitStart())
		return testSummary(), nil
	}, func(o *runOptions) { o.service = true }, "/data")
	assert.Zero(t, status)
	assert.Contains(t, log, "<4>/data: the record of this run is not ")
	assert.Contains(t, log, "<5>/data: clean")
}

// testUnit is a unitRun whose CPU time the test decides.
func testUnit(cpu *time.Duration) *unitRun {
	return &unitRun{notify: &systemd.Notifier{}, log: newLogger(&bytes.Buffer{}, true), cpu: func() time.Duration { return *cpu }}
}

func TestPulse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var cpu time.Duration
		u := testUnit(&cpu)
		before := u.pulse()
		assert.Equal(t, before, u.pulse(), "nothing was done")
		u.event("/", &scrub.ProgressEvent{Phase: scrub.PhaseWalk, Done: 1})
		walked := u.pulse()
		assert.NotEqual(t, before.Work, walked.Work)
		u.event("/", &scrub.ProgressEvent{Phase: scrub.PhaseWalk, Done: 1, Elapsed: time.Hour})
		assert.Equal(t, walked.Work, u.pulse().Work, "that time goes by is no work")
		cpu += time.Minute
		sorting := u.pulse()
		assert.NotEqual(t, walked.Work, sorting.Work, "sorting is")
		cpu += 2 * busyLimit
		spinning := u.pulse()
		cpu += time.Minute
		assert.Equal(t, spinning.Work, u.pulse().Work, "but not for ever")

		u.event("/", &scrub.ProgressEvent{Phase: scrub.PhaseInodes, Call: "scrub rmapbt AG 3", CallAge: time.Minute})
		p := u.pulse()
		assert.Equal(t, systemd.Pulse{Work: p.Work, Call: "scrub rmapbt AG 3", CallAge: time.Minute, CallLimit: time.Hour}, p)
		u.event("/", &scrub.ProgressEvent{Phase: scrub.PhaseInodes, Done: 1})
		u.event("/", &scrub.RepairEvent{What: "rebuild rmapbt of AG 0", Began: true})
		time.Sleep(time.Minute)
		p = u.pulse()
		assert.Equal(t, "rebuild rmapbt of AG 0", p.Call)
		assert.Equal(t, time.Minute, p.CallAge, "a repair that never ends is not waited for for ever")
		assert.Equal(t, repairCallLimit, p.CallLimit)
		u.event("/", &scrub.RepairEvent{What: "rebuild rmapbt of AG 0"})
		assert.Empty(t, u.pulse().Call)
	})
}

func TestUnitWaitsForARepair(t *testing.T) {
	ended := func(late <-chan struct{}) bool {
		select {
		case <-late:
			return true
		default:
			return false
		}
	}
	synctest.Test(t, func(t *testing.T) { // no repair: the usual grace
		var cpu time.Duration
		late, stop := testUnit(&cpu).late(3 * time.Second)
		defer stop()
		time.Sleep(2900 * time.Millisecond)
		synctest.Wait()
		assert.False(t, ended(late))
		time.Sleep(time.Second)
		synctest.Wait()
		assert.True(t, ended(late))
	})
	synctest.Test(t, func(t *testing.T) { // a repair that ends
		var cpu time.Duration
		u := testUnit(&cpu)
		u.event("/", &scrub.RepairEvent{What: "rebuild", Began: true})
		late, stop := u.late(3 * time.Second)
		defer stop()
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		assert.False(t, ended(late))
		u.event("/", &scrub.RepairEvent{What: "rebuild"})
		time.Sleep(2 * time.Second)
		synctest.Wait()
		assert.True(t, ended(late))
	})
	synctest.Test(t, func(t *testing.T) { // one that does not
		var cpu time.Duration
		u := testUnit(&cpu)
		u.event("/", &scrub.RepairEvent{What: "rebuild", Began: true})
		late, stop := u.late(3 * time.Second)
		defer stop()
		time.Sleep(repairLimit - time.Second)
		synctest.Wait()
		assert.False(t, ended(late))
		time.Sleep(2 * time.Second)
		synctest.Wait()
		assert.True(t, ended(late))
	})
	synctest.Test(t, func(*testing.T) { // the run ended meanwhile: nothing is left behind
		var cpu time.Duration
		_, stop := testUnit(&cpu).late(3 * time.Second)
		stop()
		stop()
	})
}

func TestUnitStatus(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	assert.Equal(t, 3, unitStatus(ctx, 3, false))
	assert.Equal(t, exitSkipped, unitStatus(ctx, exitOperational, true))
	assert.Equal(t, 5, unitStatus(ctx, 5, true))
	cancel(&stopError{Signal: os.Interrupt})
	assert.Equal(t, exitStopped, unitStatus(ctx, exitOperational, false))
}

// docs/operations.md lists every kind of event, by its ID and priority.
func TestOperationsListsTheMessages(t *testing.T) {
	text, err := os.ReadFile("../../docs/operations.md")
	require.NoError(t, err)
	names := []string{2: "crit", 3: "err", 4: "warning", 5: "notice", 6: "info"}
	for _, k := range systemd.Kinds() {
		assert.Regexp(t, `(?m)^\| `+k.ID+` \| .+ \| `+names[k.Priority]+` \|$`, string(text), k.Name)
	}
	assert.Len(t, regexp.MustCompile(`(?m)^\| [0-9a-f]{32} `).FindAll(text, -1), len(systemd.Kinds()), "and no other")
}
