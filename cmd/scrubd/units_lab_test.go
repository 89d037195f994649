package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/internal/lab"
	"github.com/scrubd/scrubd/scrub/freeze"
	"github.com/scrubd/scrubd/service/record"
	"github.com/scrubd/scrubd/systemd"
)

// host runs a program of the system that systemd runs.
func host(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	require.NoError(t, err, "%s %v: %s", name, args, out)
	return strings.TrimSpace(string(out))
}

// installed is the program with its units, as an administrator installs them.
func installed(t *testing.T) string {
	t.Helper()
	const scrubd = "/usr/local/sbin/scrubd"
	host(t, "install", "-D", "-m", "0755", program(t), scrubd)
	a := call(t, "/", scrubd, "units", "install")
	require.Zero(t, a.status, a.log)
	require.Contains(t, a.out, "/usr/local/lib/systemd/system/scrubd@.service\n")
	host(t, "journalctl", "--update-catalog")
	return scrubd
}

// dropIn sets options of a unit.
func dropIn(t *testing.T, unit, text string) {
	t.Helper()
	dir := filepath.Join("/run/systemd/system", unit+".d")
	require.NoError(t, os.MkdirAll(dir, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "test.conf"), []byte(text), 0o600))
	host(t, "systemctl", "daemon-reload")
}

// mountAt mounts an image of the host at a directory of the system in the lab.
func mountAt(t *testing.T, image, dir string) *lab.LoopFS {
	t.Helper()
	fs, err := lab.OpenLoopFS(image, dir, "nouuid") // a copy has its UUID
	require.NoError(t, err)
	require.NoError(t, fs.Mount())
	t.Cleanup(func() { assert.NoError(t, fs.Close()) })
	return fs
}

// entries are the entries of the journal that match.
func entries(t *testing.T, matches ...string) []map[string]any {
	t.Helper()
	host(t, "journalctl", "--sync")
	out := host(t, "journalctl", append([]string{"--no-pager", "-q", "-o", "json"}, matches...)...)
	var list []map[string]any
	for line := range strings.Lines(out) {
		var m map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &m))
		list = append(list, m)
	}
	return list
}

func property(t *testing.T, unit, name string) string {
	t.Helper()
	return host(t, "systemctl", "show", "-P", name, unit)
}

// The units as they are installed, under a real systemd: a repair inside the
// sandbox, found in the journal; a fault that is held; stop; a stall.
func TestUnitsInLab(t *testing.T) {
	lab.Require(t, lab.SidTools)
	image := labImage(t, lab.MkfsOptions{}, func(fs *lab.LoopFS) {
		require.NoError(t, lab.Sample(fs.Dir(), lab.SampleSpec{Files: 60}))
	})
	held := image + ".held"
	if !lab.Inside() {
		require.NoError(t, lab.CopyImage(held, image))
		_, err := lab.InjectImage(held, lab.Fault{Class: lab.FaultForkUnwritten, Seed: 1})
		require.NoError(t, err)
		_, err = lab.InjectImage(image, lab.Fault{Class: lab.FaultFreeUsed, Seed: 1})
		require.NoError(t, err)
	}
	lab.InKernel(t, func(t *testing.T) {
		scrubd := installed(t)
		require.NoError(t, os.MkdirAll("/etc/scrubd", 0o755))
		require.NoError(t, os.WriteFile("/etc/scrubd/on-failure",
			[]byte("#!/bin/sh\necho \"$1\" >> /run/failures\n"), 0o700))
		// A name that has to be escaped, and one that stands for itself.
		bad, tie := mountAt(t, image, "/data one-a"), mountAt(t, held, "/two")
		unit, err := systemd.InstanceUnit("scrubd@.service", bad.Dir())
		require.NoError(t, err)
		assert.Equal(t, host(t, "systemd-escape", "--path", "--template=scrubd@.service", bad.Dir()), unit)

		t.Run("analyze", func(t *testing.T) { analyze(t, unit, "1.6") })
		t.Run("analyze daemon", func(t *testing.T) { analyze(t, "scrubd.service", "2.6") })
		t.Run("repair", func(t *testing.T) { repairInUnit(t, unit, bad) })
		t.Run("held", func(t *testing.T) { heldInUnit(t, tie) })
		t.Run("stop", func(t *testing.T) { stopUnit(t, unit, bad) })
		t.Run("stall", func(t *testing.T) { stallUnit(t, unit) })
		t.Run("daemon", func(t *testing.T) { daemonInUnit(t, scrubd, unit, bad) })

		a := call(t, "/", scrubd, "units", "uninstall")
		assert.Zero(t, a.status, a.log)
		assert.NoFileExists(t, "/usr/local/lib/systemd/system/scrubd@.service")
	}, lab.WithSystemd(), lab.WithTimeout(10*time.Minute))
}

// analyze has systemd judge a unit.
func analyze(t *testing.T, unit, limit string) {
	t.Helper()
	out := host(t, "systemd-analyze", "verify", "--man=no", unit, "scrubd@two.timer", "scrubd.slice", "scrubd-fail@two.service")
	for line := range strings.Lines(out) { // it verifies the system's own units too
		assert.NotContains(t, line, "scrubd")
	}
	out = host(t, "systemd-analyze", "security", "--no-pager", unit)
	m := regexp.MustCompile(`Overall exposure level for .*: ([0-9.]+)`).FindStringSubmatch(out)
	require.NotNil(t, m, out)
	t.Logf("exposure of %s: %s", unit, m[1])
	got, err := strconv.ParseFloat(m[1], 64)
	require.NoError(t, err)
	most, err := strconv.ParseFloat(limit, 64)
	require.NoError(t, err)
	assert.LessOrEqual(t, got, most, out)
}

// startedUnit starts a unit and waits for its end. One that does not end is made to
// say where it stands.
func startedUnit(t *testing.T, unit string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "systemctl", "start", "--wait", unit).CombinedOutput(); err != nil {
		host(t, "systemctl", "kill", "--signal=ABRT", unit)
		time.Sleep(time.Second)
		t.Fatalf("start %s: %v: %s\n%s", unit, err, out, host(t, "journalctl", "--no-pager", "-q", "-o", "cat", "-u", unit))
	}
}

func repairInUnit(t *testing.T, unit string, fs *lab.LoopFS) {
	t.Helper()
	before, err := lab.TakeSnapshot(fs.Dir())
	require.NoError(t, err)
	startedUnit(t, unit)
	t.Log(host(t, "journalctl", "--no-pager", "-q", "-u", unit))
	assert.Equal(t, "success", property(t, unit, "Result"))
	assert.Equal(t, "0", property(t, unit, "ExecMainStatus"))
	assert.NoFileExists(t, "/run/failures", "OnFailure is for failures")
	after, err := lab.TakeSnapshot(fs.Dir())
	require.NoError(t, err)
	assert.Empty(t, lab.Diff(before, after))

	all := entries(t, "XFS_MOUNT="+fs.Dir())
	by := func(k *systemd.Kind) (list []map[string]any) {
		for _, e := range all {
			if e["MESSAGE_ID"] == k.ID {
				list = append(list, e)
			}
		}
		return list
	}
	start := by(systemd.KindRunStarted)
	require.Len(t, start, 1)
	assert.Nil(t, start[0]["SCRUBD_NOT_CHECKED"], "all works in the sandbox")
	assert.Equal(t, "scrubd", start[0]["SYSLOG_IDENTIFIER"])
	risk := by(systemd.KindDataAtRisk)
	require.Len(t, risk, 1)
	assert.Equal(t, "2", risk[0]["PRIORITY"], "crit")
	assert.Equal(t, "4", risk[0]["SCRUBD_ROW"])
	assert.NotEmpty(t, by(systemd.KindRepairDone))
	found := by(systemd.KindFinding)
	require.Len(t, found, 1)
	assert.Equal(t, "repaired", found[0]["SCRUBD_OUTCOME"])
	assert.Equal(t, "bnobt", found[0]["SCRUBD_VERDICT"])
	for _, field := range []string{"XFS_AGNO", "XFS_AGBNO", "XFS_BLOCKS", "SCRUBD_RUN_ID", "XFS_UUID", "XFS_DEVICE"} {
		assert.NotEmpty(t, risk[0][field], field)
		assert.Equal(t, risk[0][field], found[0][field], field)
	}
	end := by(systemd.KindRunFinished)
	require.Len(t, end, 1)
	assert.Equal(t, "0", end[0]["SCRUBD_EXIT_STATUS"])
	run, ok := end[0]["SCRUBD_RUN_ID"].(string)
	require.True(t, ok)
	assert.GreaterOrEqual(t, len(entries(t, "SCRUBD_RUN_ID="+run)), 5)
	assert.Contains(t, host(t, "journalctl", "--no-pager", "-q", "-x", "MESSAGE_ID="+systemd.KindDataAtRisk.ID),
		"Data on /data one-a are in danger of being overwritten now")

	uuid, ok := end[0]["XFS_UUID"].(string)
	require.True(t, ok)
	store := record.New("/var/lib/scrubd")
	runs, err := store.History(uuid)
	require.NoError(t, err)
	require.Len(t, runs, 1)
	assert.True(t, runs[0].Complete)
	assert.FileExists(t, filepath.Join(store.Reports(uuid), runs[0].Report))
}

func heldInUnit(t *testing.T, fs *lab.LoopFS) {
	t.Helper()
	const unit = "scrubd@two.service"
	err := exec.CommandContext(t.Context(), "systemctl", "start", "--wait", unit).Run()
	require.Error(t, err)
	assert.Equal(t, "exit-code", property(t, unit, "Result"))
	assert.Equal(t, "1", property(t, unit, "ExecMainStatus"))
	assert.Equal(t, "0", property(t, unit, "NRestarts"), "a verdict is not tried again")
	entry := entries(t, "MESSAGE_ID="+systemd.KindHeld.ID, "XFS_MOUNT="+fs.Dir())
	require.NotEmpty(t, entry)
	assert.NotEmpty(t, entry[0]["SCRUBD_REASON"])
	assert.Equal(t, "3", entry[0]["PRIORITY"])
	until(t, "the unit that is started on failure", func() bool {
		text, err := os.ReadFile("/run/failures")
		return err == nil && string(text) == "/two\n"
	})
	host(t, "systemctl", "reset-failed", unit)
}

// waiting starts a run that waits in its hook, and returns once it does.
func waiting(t *testing.T, unit, options string) {
	t.Helper()
	require.NoError(t, os.WriteFile("/etc/scrubd/hook", []byte("#!/bin/sh\ntouch /run/scrubd/waits\nexec sleep 60\n"), 0o700))
	dropIn(t, unit, "[Service]\nEnvironment='SCRUBD_RUN_FLAGS=--before-repair /etc/scrubd/hook'\n"+options)
	_ = os.Remove("/run/scrubd/waits")
	host(t, "systemctl", "start", "--no-block", unit)
	until(t, "a run that waits in its hook", func() bool {
		_, err := os.Stat("/run/scrubd/waits")
		return err == nil
	})
}

func stopUnit(t *testing.T, unit string, fs *lab.LoopFS) {
	t.Helper()
	require.NoError(t, fs.Unmount())
	_, err := lab.InjectImage(fs.Image(), lab.Fault{Class: lab.FaultRmapOffset, Seed: 1})
	require.NoError(t, err)
	require.NoError(t, fs.Mount())
	waiting(t, unit, "")
	assert.Contains(t, property(t, unit, "StatusText"), fs.Dir()+": ")
	host(t, "systemctl", "stop", unit)
	assert.Equal(t, "success", property(t, unit, "Result"), "that it was stopped is no failure")
	assert.Equal(t, "inactive", property(t, unit, "ActiveState"))
	last := entries(t, "MESSAGE_ID="+systemd.KindIncomplete.ID, "XFS_MOUNT="+fs.Dir())
	require.Len(t, last, 1)
	assert.Equal(t, "true", last[0]["SCRUBD_STOPPED"])
}

// stallUnit: a process that does nothing any more is ended by the watchdog, and
// started again.
func stallUnit(t *testing.T, unit string) {
	t.Helper()
	waiting(t, unit, "WatchdogSec=2s\nRestartSec=100ms\nTimeoutAbortSec=1s\n")
	host(t, "kill", "-STOP", property(t, unit, "MainPID"))
	// Nothing but the watchdog ends a stopped process.
	// On a slow machine the next one may be too slow for such a watchdog as well.
	until(t, "a restart", func() bool { return property(t, unit, "NRestarts") != "0" })
	host(t, "systemctl", "stop", unit)
}

// Whatever is killed of a unit that has frozen its filesystem, the supervisor of
// the freeze is in a scope of its own, locked in memory, and thaws. Nothing else
// does here.
func TestFrozenUnitInLab(t *testing.T) {
	lab.Require(t, lab.SidTools)
	image := labImage(t, lab.MkfsOptions{}, func(*lab.LoopFS) {})
	lab.InKernel(t, func(t *testing.T) {
		fs := mountAt(t, image, "/data one-a")
		unit, err := systemd.InstanceUnit("scrubd@.service", fs.Dir())
		require.NoError(t, err)
		killFrozenUnit(t, installed(t), unit, fs)
	}, lab.WithSystemd(), lab.WithTimeout(5*time.Minute))
}

func killFrozenUnit(t *testing.T, scrubd, unit string, fs *lab.LoopFS) {
	t.Helper()
	dropIn(t, unit, "[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=exec\nRestart=no\nExecStopPost=\nExecStart=\n"+
		"ExecStart="+scrubd+" "+freezeAndHang+" '"+fs.Dir()+"' 2s x\n")
	for _, c := range []struct{ name, signal string }{
		{"killed", "KILL"},
		{"ended by the watchdog", "ABRT"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := startProber(t, fs.Dir())
			host(t, "systemctl", "start", unit)
			var marker freeze.Marker
			require.Eventually(t, func() bool {
				list := markers(t)
				if len(list) != 1 {
					return false
				}
				text, err := os.ReadFile(list[0])
				return err == nil && json.Unmarshal(text, &marker) == nil && marker.Frozen
			}, 30*time.Second, time.Millisecond)
			status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", marker.PID))
			require.NoError(t, err)
			group := groupOf(t, marker.PID)
			parent := regexp.MustCompile(`(?m)^PPid:\s+([0-9]+)`).FindSubmatch(status)
			require.NotNil(t, parent, "%s", status)
			main, err := strconv.Atoi(string(parent[1]))
			require.NoError(t, err)
			killed := time.Now()
			if c.signal == "KILL" { // the whole control group, at once
				require.NoError(t, os.WriteFile(filepath.Join(groupOf(t, main), "cgroup.kill"), []byte("1"), 0))
			} else {
				host(t, "systemctl", "kill", "--kill-whom=all", "--signal="+c.signal, unit)
			}
			waited := p.end()
			after := time.Since(killed)
			t.Logf("a writer waited for %s, and %s of them after all was killed", waited, after)
			assert.Less(t, after, freeze.MaxLimit)
			assert.Less(t, waited, freeze.MaxLimit+time.Second, "the writer's own time in the lab comes on top")
			assert.Equal(t, fmt.Sprintf("scrubd-freezer-%d.scope", marker.PID), filepath.Base(group))
			locked := regexp.MustCompile(`(?m)^VmLck:\s+([0-9]+) kB`).FindSubmatch(status)
			require.NotNil(t, locked, "%s", status)
			kilobytes, err := strconv.Atoi(string(locked[1]))
			require.NoError(t, err)
			assert.Greater(t, kilobytes, 4096, "the program is in memory")
			gone(t, marker.PID)
			assert.Empty(t, markers(t))
			until(t, "the end of the unit", func() bool {
				state := property(t, unit, "ActiveState")
				return state == "failed" || state == "inactive" // the status of a Go program that aborts is 2
			})
		})
	}
}

// daemonInUnit: asked over its socket, the daemon starts the unit of a run; it
// holds no filesystem, and answers root only.
func daemonInUnit(t *testing.T, scrubd, unit string, idle *lab.LoopFS) {
	t.Helper()
	// A run as it comes, after more starts than the unit allows in an hour.
	dropIn(t, unit, "[Unit]\nStartLimitIntervalSec=0\n")
	host(t, "systemctl", "enable", "--now", "scrubd.service")
	list := jsonOf(t, host(t, scrubd, "status", "--json"))
	require.Len(t, list, 2)
	if list[0]["state"] == "skipped" {
		list[0], list[1] = list[1], list[0]
	}
	mount, ok := list[0]["mount"].(string)
	require.True(t, ok)
	assert.Equal(t, "it has the same UUID as "+mount, list[1]["waits"], "a copy with the same UUID cannot be told apart")
	before := len(entries(t, "MESSAGE_ID="+systemd.KindRunFinished.ID, "XFS_MOUNT="+mount))
	host(t, scrubd, "run", mount)
	a := call(t, "/", scrubd, "wait", mount)
	t.Log(a.log, host(t, "journalctl", "--no-pager", "-q", "-u", "scrubd.service"), host(t, scrubd, "status"), host(t, scrubd, "history", mount))
	assert.Len(t, entries(t, "MESSAGE_ID="+systemd.KindRunFinished.ID, "XFS_MOUNT="+mount), before+1)

	require.NoError(t, idle.Unmount(), "the daemon holds nothing")
	out, err := exec.CommandContext(t.Context(), "setpriv", "--reuid=1", "--regid=1", "--clear-groups", scrubd, "status").CombinedOutput()
	require.Error(t, err)
	assert.Contains(t, string(out), "user 1 may not ask")

	require.NoError(t, os.WriteFile("/etc/scrubd/scrubd.toml", []byte("[schedule]\nwhen = 1\n"), 0o600))
	host(t, "systemctl", "reload", "scrubd.service")
	until(t, "a complaint about the configuration", func() bool {
		return strings.Contains(host(t, "journalctl", "--no-pager", "-q", "-u", "scrubd.service"), "the configuration is wrong; the old one stays")
	})
	host(t, "systemctl", "stop", "scrubd.service", "scrubd.socket")
	assert.Equal(t, "success", property(t, "scrubd.service", "Result"))
}

func jsonOf(t *testing.T, text string) (list []map[string]any) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(text), &list), text)
	return list
}
