package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/internal/lab"
	"github.com/scrubd/scrubd/service/metrics"
	"github.com/scrubd/scrubd/systemd"
)

// nodeExporter is where Debian's node_exporter reads files, and nodeUser the owner
// that the directory has in this test.
const (
	nodeExporter = "/var/lib/prometheus/node-exporter"
	nodeUser     = 4242
)

// serviceRig is the service with one filesystem, at /one.
type serviceRig struct {
	scrubd string
	fs     *lab.LoopFS
}

// serviceInLab boots a real systemd with the service installed.
func serviceInLab(t *testing.T, body func(t *testing.T, s *serviceRig)) {
	t.Helper()
	lab.Require(t, lab.SidTools)
	image := labImage(t, lab.MkfsOptions{}, func(fs *lab.LoopFS) {
		require.NoError(t, lab.Sample(fs.Dir(), lab.SampleSpec{Files: 30}))
		require.NoError(t, os.Mkdir(fs.Path("many"), 0o755))
		for i := range 100 {
			require.NoError(t, os.WriteFile(fs.Path(fmt.Sprint("many/", i)), nil, 0o600))
		}
	})
	serviceOn(t, image, body)
}

// serviceOn is serviceInLab with another filesystem.
func serviceOn(t *testing.T, image string, body func(t *testing.T, s *serviceRig)) {
	t.Helper()
	lab.InKernel(t, func(t *testing.T) {
		s := &serviceRig{scrubd: installed(t)}
		require.NoError(t, os.MkdirAll("/etc/scrubd", 0o755))
		require.NoError(t, os.MkdirAll(nodeExporter, 0o755))
		require.NoError(t, os.Chown(nodeExporter, nodeUser, nodeUser))
		dropIn(t, "scrubd@.service", "[Unit]\nStartLimitIntervalSec=0\n")
		s.fs = mountAt(t, image, "/one")
		body(t, s)
	}, lab.WithSystemd(), lab.WithTimeout(8*time.Minute))
}

// until waits until something is so. Where it is not in time, the service says
// how it stands. The limits are for a machine that has much else to do.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := monotonic(t) + 3*time.Minute; !is(); time.Sleep(300 * time.Millisecond) {
		if monotonic(t) < end {
			continue
		}
		for _, argv := range [][]string{
			{"scrubd", "status"},
			{"systemctl", "list-units", "--no-pager", "--all", "scrubd*", "xfs_*"},
			{"journalctl", "--no-pager", "-q", "-n", "60", "-t", "scrubd", "-t", "systemd", "-t", "kernel"},
		} {
			out, _ := exec.CommandContext(t.Context(), argv[0], argv[1:]...).CombinedOutput()
			t.Logf("%v:\n%s", argv, out)
		}
		t.Fatalf("not in time: %s", what)
	}
}

// monotonic is a clock that [jump] does not change.
func monotonic(t *testing.T) time.Duration {
	t.Helper()
	var now unix.Timespec
	require.NoError(t, unix.ClockGettime(unix.CLOCK_MONOTONIC, &now))
	return time.Duration(now.Nano())
}

// configure writes the configuration and starts the daemon with it.
func (s *serviceRig) configure(t *testing.T, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile("/etc/scrubd/scrubd.toml", []byte(text+"\n[metrics]\ntextfile_dir = \""+nodeExporter+"\"\n"), 0o600))
	host(t, "systemctl", "restart", "scrubd.service")
}

// finished is the number of runs of a filesystem that got through.
func finished(t *testing.T, mount string) int {
	t.Helper()
	return len(entries(t, "MESSAGE_ID="+systemd.KindRunFinished.ID, "XFS_MOUNT="+mount))
}

// runsOf is the history as the daemon tells it.
func (s *serviceRig) runsOf(t *testing.T, mount string) []map[string]any {
	t.Helper()
	return jsonOf(t, host(t, s.scrubd, "history", "--json", mount))
}

// state is the filesystem's state as the daemon tells it.
func (s *serviceRig) state(t *testing.T, mount string) map[string]any {
	t.Helper()
	for _, e := range jsonOf(t, host(t, s.scrubd, "status", "--json")) {
		if e["mount"] == mount {
			return e
		}
	}
	t.Fatalf("the daemon does not know %s", mount)
	return nil
}

const halfDisk = 320 << 20

// halvesOf makes two filesystems that lie on one loop device, by device mapper.
func halvesOf(t *testing.T, disk string) []string {
	t.Helper()
	loop, err := lab.AttachLoop(disk)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, loop.Close()) })
	var mounts []string
	for i, name := range []string{"left", "right"} {
		table := fmt.Sprintf("0 %d linear %s %d", halfDisk/512, loop.Name(), i*halfDisk/512)
		host(t, "dmsetup", "--noudevsync", "--noudevrules", "create", name, "--table", table)
		device := "/dev/dm-" + host(t, "dmsetup", "info", "-c", "--noheadings", "-o", "minor", name)
		host(t, "mkfs.xfs", "-q", device)
		mount := "/" + name
		require.NoError(t, os.MkdirAll(mount, 0o755))
		host(t, "mount", device, mount)
		t.Cleanup(func() { // the test's own context has ended by then
			for _, argv := range [][]string{{"umount", mount}, {"dmsetup", "--noudevsync", "remove", name}} {
				out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
				assert.NoError(t, err, "%v: %s", argv, out)
			}
		})
		mounts = append(mounts, mount)
	}
	return mounts
}

// span is when a run was there, by the clock that never jumps.
type span struct{ from, to int64 }

func (a span) overlaps(b span) bool { return a.from < b.to && b.from < a.to }

func spanOf(t *testing.T, mount string) span {
	t.Helper()
	at := func(k *systemd.Kind) int64 {
		list := entries(t, "MESSAGE_ID="+k.ID, "XFS_MOUNT="+mount)
		require.Len(t, list, 1, "%s of %s", k.Name, mount)
		text, ok := list[0]["__MONOTONIC_TIMESTAMP"].(string)
		require.True(t, ok)
		n, err := strconv.ParseInt(text, 10, 64)
		require.NoError(t, err)
		return n
	}
	return span{at(systemd.KindRunStarted), at(systemd.KindRunFinished)}
}

// What shares a disk, through device mapper and loop devices, is never checked
// together; what does not, is. The metrics have it all.
func TestServiceDisksInLab(t *testing.T) {
	disk := ""
	if !lab.Inside() {
		disk = filepath.Join(t.TempDir(), "disk")
		require.NoError(t, os.WriteFile(disk, nil, 0o600))
		require.NoError(t, os.Truncate(disk, 2*halfDisk))
		t.Setenv(envDisk, disk)
	}
	serviceInLab(t, func(t *testing.T, s *serviceRig) { s.disks(t, halvesOf(t, os.Getenv(envDisk))) })
}

// envDisk is a second image for the body of a test that runs inside the lab.
const envDisk = "SCRUBD_TEST_DISK"

func (s *serviceRig) disks(t *testing.T, halves []string) {
	s.configure(t, "[schedule]\nperiod = \"never\"\nmax_runs = 3\n")
	all := append([]string{s.fs.Dir()}, halves...)
	host(t, s.scrubd, append([]string{"run"}, all...)...)
	for _, mount := range all {
		a := call(t, "/", s.scrubd, "wait", mount)
		require.Zero(t, a.status, a.log)
	}
	one, left, right := spanOf(t, s.fs.Dir()), spanOf(t, halves[0]), spanOf(t, halves[1])
	assert.False(t, left.overlaps(right), "%v and %v on one disk", left, right)
	assert.True(t, one.overlaps(left) || one.overlaps(right), "%v, %v, %v", one, left, right)

	// The metrics are there for another user, in a directory of his own.
	name := filepath.Join(nodeExporter, metrics.Textfile)
	until(t, "the metrics of three runs", func() bool {
		text, err := os.ReadFile(name)
		return err == nil && strings.Count(string(text), `result="clean"`) == 6 && // last, and all, of each
			strings.Contains(string(text), `scrubd_kernel_call_duration_seconds_count{operation="check",scrub_type="rmapbt"}`)
	})
	info, err := os.Stat(name)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o644), info.Mode())
}

// Timers, with the daemon and without.
func TestServiceTimersInLab(t *testing.T) {
	serviceInLab(t, func(t *testing.T, s *serviceRig) {
		s.configure(t, "[schedule]\nperiod = \"never\"\n")
		t.Run("daemon", s.timer)
		t.Run("alone", s.timerAlone)
	})
}

// timer: it fires, the daemon runs, and the journal has it.
func (s *serviceRig) timer(t *testing.T) {
	before := finished(t, s.fs.Dir())
	dropIn(t, "scrubd@one.timer", "[Timer]\nOnCalendar=\nOnActiveSec=1s\nRandomizedDelaySec=0\nAccuracySec=100ms\nPersistent=no\n")
	host(t, "systemctl", "start", "scrubd@one.timer")
	until(t, "a run", func() bool { return finished(t, s.fs.Dir()) == before+1 })
	assert.Contains(t, host(t, "journalctl", "--no-pager", "-q", "-o", "cat", "-u", "scrubd-due@one.service"), "/one: queued")
	assert.Equal(t, "success", property(t, "scrubd-due@one.service", "Result"))
	host(t, "systemctl", "stop", "scrubd@one.timer")
	assert.NotContains(t, host(t, "journalctl", "--no-pager", "-q", "-o", "cat", "-u", "scrubd@one.service"), "SCRUBD_RUN_FLAGS")

	// With a period, what was checked in it is not checked once more.
	s.configure(t, "[schedule]\nperiod = \"7d\"\n")
	host(t, "systemctl", "start", "--wait", "scrubd-all.service")
	said := host(t, "journalctl", "--no-pager", "-q", "-o", "cat", "-u", "scrubd-all.service")
	assert.Contains(t, said, "/one: it was checked on ")
	assert.Equal(t, before+1, finished(t, s.fs.Dir()))
}

// timerAlone: where there is no daemon the request is carried out all the same,
// and a run by hand needs none either.
func (s *serviceRig) timerAlone(t *testing.T) {
	host(t, "systemctl", "stop", "scrubd.service", "scrubd.socket")
	before := finished(t, s.fs.Dir())
	host(t, "systemctl", "start", "--wait", "scrubd-due@one.service")
	assert.Equal(t, before, finished(t, s.fs.Dir()), "checked a moment ago")
	jump(t, 6*24*time.Hour)
	host(t, "systemctl", "start", "--wait", "scrubd-due@one.service")
	t.Log(host(t, "journalctl", "--no-pager", "-q", "-o", "cat", "-u", "scrubd-due@one.service"))
	assert.Equal(t, before+1, finished(t, s.fs.Dir()))
	assert.Equal(t, "success", property(t, "scrubd-due@one.service", "Result"))
	text, err := os.ReadFile(filepath.Join(nodeExporter, metrics.Textfile))
	require.NoError(t, err)
	assert.NotContains(t, string(text), "scrubd_filesystem_state{", "written by a run")
	assert.Contains(t, string(text), `scrubd_last_run_exit_status{mountpoint="/one"`)

	a := call(t, "/", s.scrubd, "run", "--now", "--no-progress", "/one")
	require.Zero(t, a.status, a.log)
	host(t, "systemctl", "start", "scrubd.socket", "scrubd.service")
	runs := s.runsOf(t, "/one")
	assert.Equal(t, "person", runs[len(runs)-1]["trigger"])
}

// jump sets the clock forward or back.
func jump(t *testing.T, d time.Duration) {
	t.Helper()
	ts, err := unix.TimeToTimespec(time.Now().Add(d))
	require.NoError(t, err)
	require.NoError(t, unix.ClockSettime(unix.CLOCK_REALTIME, &ts))
}

// A slot that was missed is made up for, in the window; what the window cuts goes on
// in the next.
func TestServiceWindowsInLab(t *testing.T) {
	serviceInLab(t, func(t *testing.T, s *serviceRig) { s.windows(t) })
}

func (s *serviceRig) windows(t *testing.T) {
	s.configure(t, "")
	require.NoError(t, s.fs.Unmount())
	_, err := lab.InjectImage(s.fs.Image(), lab.Fault{Class: lab.FaultRmapOffset, Seed: 1})
	require.NoError(t, err)
	require.NoError(t, s.fs.Mount())
	require.NoError(t, os.WriteFile("/etc/scrubd/hook",
		[]byte("#!/bin/sh\ntouch /run/scrubd/waits\n[ -e /run/scrubd/go ] || exec sleep 600\n"), 0o700))
	dropIn(t, "scrubd@one.service", "[Service]\nEnvironment='SCRUBD_RUN_FLAGS=--before-repair /etc/scrubd/hook'\n")
	host(t, "systemctl", "stop", "scrubd.service", "scrubd.socket")
	jump(t, 21*24*time.Hour) // the machine was off
	opens := time.Now().Add(10 * time.Minute).Truncate(time.Minute)
	s.configure(t, fmt.Sprintf("[schedule]\nwindows = [\"%s-%s\"]\n",
		opens.Format("15:04"), opens.Add(time.Hour).Format("15:04")))
	before := len(s.runsOf(t, "/one"))
	st := s.state(t, "/one")
	assert.Equal(t, "idle", st["state"], "outside the window")
	next, err := time.Parse(time.RFC3339, fmt.Sprint(st["next"]))
	require.NoError(t, err)
	assert.True(t, next.Equal(opens), "%s, not %s", next, opens)

	jump(t, time.Until(opens)+time.Minute)
	until(t, "the missed slot is caught up", func() bool {
		_, err := os.Stat("/run/scrubd/waits")
		return err == nil
	})
	jump(t, time.Hour)
	until(t, "its window is over", func() bool { return s.state(t, "/one")["state"] == "idle" })
	require.NotEmpty(t, entries(t, "MESSAGE_ID="+systemd.KindPaused.ID, "XFS_MOUNT=/one"))
	runs := s.runsOf(t, "/one")
	require.Len(t, runs, before+1)
	assert.Equal(t, true, runs[before]["stopped"])

	require.NoError(t, os.WriteFile("/run/scrubd/go", nil, 0o600))
	jump(t, 23*time.Hour)
	until(t, "it goes on in the next", func() bool { return len(s.runsOf(t, "/one")) == before+2 })
	last := s.runsOf(t, "/one")[before+1]
	t.Logf("%v\n%s", last, host(t, "journalctl", "--no-pager", "-q", "-n", "60", "-u", "scrubd*"))
	assert.Equal(t, true, last["complete"])
	assert.NotZero(t, last["repairs"])
	until(t, "the end of the unit", func() bool { return s.state(t, "/one")["state"] == "idle" })
}

// A run that is killed is started again by systemd, and goes on where it was.
func TestServiceKilledInLab(t *testing.T) {
	image := labImage(t, lab.MkfsOptions{Args: []string{"-d", "agcount=2", "-m", "rmapbt=1,reflink=1"}}, func(fs *lab.LoopFS) {
		require.NoError(t, lab.Sample(fs.Dir(), lab.SampleSpec{Files: 4000}))
	})
	serviceOn(t, image, func(t *testing.T, s *serviceRig) {
		s.configure(t, "")
		dropIn(t, "scrubd@one.service", "[Service]\nRestartSec=1s\n")
		host(t, "systemctl", "start", "--no-block", "scrubd@one.service")
		until(t, "it is written down how far the run is", func() bool {
			found, err := filepath.Glob("/var/lib/scrubd/*/checkpoint")
			return err == nil && len(found) == 1
		})
		host(t, "systemctl", "kill", "--signal=KILL", "scrubd@one.service")
		until(t, "the run after it", func() bool { return finished(t, "/one") == 1 })
		until(t, "its record", func() bool { return len(s.runsOf(t, "/one")) > 0 })
		assert.Equal(t, "1", host(t, "systemctl", "show", "-p", "NRestarts", "--value", "scrubd@one.service"))
		runs := s.runsOf(t, "/one")
		last := runs[len(runs)-1]
		t.Logf("%v", last)
		assert.Equal(t, true, last["complete"])
		since, err := time.Parse(time.RFC3339, fmt.Sprint(last["checked_since"]))
		require.NoError(t, err)
		began, err := time.Parse(time.RFC3339, fmt.Sprint(last["began"]))
		require.NoError(t, err)
		assert.True(t, since.Before(began), "what the run before it had checked counts")
		assert.Empty(t, entries(t, "MESSAGE_ID="+systemd.KindFinding.ID))
	})
}

// What goes wrong around the service: each is told, and nothing is lost.
func TestServiceTroubleInLab(t *testing.T) {
	serviceInLab(t, func(t *testing.T, s *serviceRig) {
		s.configure(t, "")
		t.Run("strangers", s.strangers)
		t.Run("clock", s.clock)
		t.Run("no room", s.noRoom)
		t.Run("wrong configuration", s.wrongConfiguration)
	})
}

// strangers: who is not root changes nothing, and a member of the group that may
// look may do no more.
func (s *serviceRig) strangers(t *testing.T) {
	s.configure(t, "[control]\nstatus_group = \"adm\"\n")
	adm := host(t, "sh", "-c", "getent group adm | cut -d: -f3")
	for _, c := range []struct {
		group string
		verb  string
		fine  bool
	}{
		{"1", "status", false},
		{"1", "history", false},
		{"1", "wait", false},
		{"1", "run", false},
		{"1", "pause", false},
		{adm, "status", true},
		{adm, "history", true},
		{adm, "run", false},
		{adm, "pause", false},
		{adm, "resume", false},
		{adm, "cancel", false},
	} {
		argv := []string{"setpriv", "--reuid=1", "--regid=" + c.group, "--clear-groups", s.scrubd, c.verb}
		if c.verb != "status" {
			argv = append(argv, "/one")
		}
		a := call(t, "/", argv...)
		if c.fine {
			assert.Zero(t, a.status, "%v: %s", argv, a.log)
			continue
		}
		assert.Equal(t, exitOperational, a.status, "%v: %s", argv, a.out)
		assert.Contains(t, a.log, "user 1 may not ", "%v", argv)
	}
	assert.Equal(t, "idle", s.state(t, "/one")["state"])
	assert.Zero(t, finished(t, "/one"))
}

// clock: one that is set back a year loses no record and stops no check.
func (s *serviceRig) clock(t *testing.T) {
	before := len(s.runsOf(t, "/one"))
	jump(t, -365*24*time.Hour)
	defer jump(t, 365*24*time.Hour)
	host(t, s.scrubd, "run", "/one")
	a := call(t, "/", s.scrubd, "wait", "/one")
	require.Zero(t, a.status, a.log)
	assert.Len(t, s.runsOf(t, "/one"), before+1)
	assert.Equal(t, "active", property(t, "scrubd.service", "ActiveState"))
}

// noRoom: a state directory that is full, and one that is read-only, cost no check
// and no record.
func (s *serviceRig) noRoom(t *testing.T) {
	host(t, "mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "none", "/var/lib/scrubd")
	defer host(t, "umount", "/var/lib/scrubd")
	_ = exec.CommandContext(t.Context(), "dd", "if=/dev/zero", "of=/var/lib/scrubd/fill", "bs=4k").Run() // until it is full
	before := finished(t, s.fs.Dir())
	for i, why := range []string{"no space left on device", "read-only file system"} {
		if i == 1 {
			host(t, "mount", "-o", "remount,ro", "/var/lib/scrubd")
		}
		startedUnit(t, "scrubd@one.service")
		assert.Equal(t, "success", property(t, "scrubd@one.service", "Result"))
		assert.Equal(t, before+1+i, finished(t, s.fs.Dir()))
		said := host(t, "journalctl", "--no-pager", "-q", "-o", "cat", "-n", "20", "-u", "scrubd@one.service")
		assert.Contains(t, said, "/one: the record of this run is not where it should be: it is in /run/scrubd")
		assert.Contains(t, said, why)
	}
	runs := s.runsOf(t, "/one")
	for _, r := range runs[len(runs)-2:] {
		assert.Equal(t, true, r["complete"], "the daemon finds what is aside")
	}
}

// wrongConfiguration: the daemon does not start with it, and says where it is
// wrong.
func (s *serviceRig) wrongConfiguration(t *testing.T) {
	require.NoError(t, os.WriteFile("/etc/scrubd/scrubd.toml", []byte("[schedule]\nwhen = 1\n"), 0o600))
	require.Error(t, exec.CommandContext(t.Context(), "systemctl", "restart", "scrubd.service").Run())
	said := host(t, "journalctl", "--no-pager", "-q", "-o", "cat", "-n", "20", "-u", "scrubd.service")
	assert.Contains(t, said, `/etc/scrubd/scrubd.toml:2: there is no setting "schedule.when"`)
	host(t, "systemctl", "stop", "scrubd.service", "scrubd.socket")
}
