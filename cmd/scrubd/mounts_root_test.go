package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/internal/lab"
	"github.com/scrubd/scrubd/ioctl"
)

// program is scrubd as a file that every user can run.
func program(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	dir, err := os.MkdirTemp("", "scrubd-cli-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	in, err := os.Open(self)
	require.NoError(t, err)
	defer func() { _ = in.Close() }()
	path := filepath.Join(dir, "scrubd")
	out, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o755)
	require.NoError(t, err)
	_, err = io.Copy(out, in)
	require.NoError(t, errors.Join(err, out.Close()))
	return path
}

// commandEnv is the environment of scrubd in tests. Under the race detector
// every process sleeps for a second at its end, unless it is told not to.
func commandEnv() []string {
	return append(os.Environ(), "SCRUBD_CONSISTENT_OUTPUT=1", "GORACE=atexit_sleep_ms=0 "+os.Getenv("GORACE"))
}

// answer is what a command gave.
type answer struct {
	status   int
	out, log string
}

// call runs a command in a directory.
func call(t *testing.T, dir string, argv ...string) answer {
	t.Helper()
	var out, log bytes.Buffer
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &log
	cmd.Env = commandEnv()
	err := cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	return answer{cmd.ProcessState.ExitCode(), out.String(), log.String()}
}

// refused checks that scrubd did not start, and said why and what to do.
func refused(t *testing.T, a answer, problem, todo string) {
	t.Helper()
	assert.Equal(t, exitOperational, a.status)
	assert.Empty(t, a.out)
	assert.Contains(t, a.log, problem)
	assert.Contains(t, a.log, "scrubd: what to do: ")
	assert.Contains(t, a.log, todo)
}

// Every path that cannot be scrubbed, on real mounts.
func TestPathsOnRealMounts(t *testing.T) {
	lab.Require(t, lab.Root, lab.Loop)
	scrubd := program(t)
	fs := lab.NewLoopFS(t, lab.MkfsOptions{})
	require.NoError(t, os.MkdirAll(fs.Path("sub", "dir"), 0o755))
	require.NoError(t, os.WriteFile(fs.Path("file"), nil, 0o600))
	run := func(path string) answer { return call(t, "/", scrubd, "run", "--now", path) }
	command := "type: scrubd run --now " + fs.Dir()

	t.Run("directory", func(t *testing.T) {
		refused(t, run(fs.Path("sub", "dir")), "not a mount point (it lies on the XFS filesystem at "+fs.Dir()+")", command)
	})
	t.Run("file", func(t *testing.T) {
		refused(t, run(fs.Path("file")), "not a mount point", command)
	})
	t.Run("link to a directory", func(t *testing.T) {
		link := filepath.Join(t.TempDir(), "link")
		require.NoError(t, os.Symlink(fs.Path("sub"), link))
		refused(t, run(link), "not a mount point", command)
	})
	t.Run("bind mount", func(t *testing.T) {
		dir := t.TempDir()
		require.NoError(t, unix.Mount(fs.Path("sub"), dir, "", unix.MS_BIND, ""))
		defer func() { assert.NoError(t, unix.Unmount(dir, 0)) }()
		refused(t, run(dir), "shows only a part of its filesystem (the directory /sub)", command)
	})
	t.Run("device", func(t *testing.T) {
		refused(t, run(deviceOf(t, fs.Dir())), "a block device, not a mount point", command)
	})
	t.Run("not readable", func(t *testing.T) {
		dir := t.TempDir()
		require.NoError(t, os.Chmod(dir, 0o700))
		a := call(t, "/", "setpriv", "--reuid", "65534", "--clear-groups", scrubd, "run", "--now", filepath.Join(dir, "mnt"))
		refused(t, a, "permission denied", "run scrubd as root")
	})
	t.Run("unmounted while it was the working directory", func(t *testing.T) {
		// The directory is looked up when the shell starts scrubd, and by then it
		// is nowhere in the mount table.
		other := lab.NewLoopFS(t, lab.MkfsOptions{})
		a := call(t, other.Dir(), "sh", "-c", `umount -l "$1" && exec "$0" run --now .`, scrubd, other.Dir())
		refused(t, a, ".: no longer mounted", "unmounted lazily")
	})
	t.Run("unmounted lazily", func(t *testing.T) {
		other := lab.NewLoopFS(t, lab.MkfsOptions{})
		held, err := os.Open(other.Dir())
		require.NoError(t, err)
		defer func() { _ = held.Close() }()
		require.NoError(t, unix.Unmount(other.Dir(), unix.MNT_DETACH))
		refused(t, run(other.Dir()), "not an XFS filesystem", "it is not mounted")
	})
}

// deviceOf returns the block device that is mounted at dir.
func deviceOf(t *testing.T, dir string) string {
	t.Helper()
	mounts, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(dir))
	require.NoError(t, err)
	require.Len(t, mounts, 1)
	return mounts[0].Source
}

// Every state of a mount in which no run can start.
func TestStatesOfRealMounts(t *testing.T) {
	lab.Require(t, lab.Root, lab.Loop)
	scrubd := program(t)
	fs := lab.NewLoopFS(t, lab.MkfsOptions{})
	run := func(flags ...string) answer {
		return call(t, "/", append(append([]string{scrubd, "run", "--now"}, flags...), fs.Dir())...)
	}

	t.Run("without CAP_SYS_ADMIN", func(t *testing.T) {
		a := call(t, "/", "setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin", scrubd, "run", "--now", fs.Dir())
		refused(t, a, "not permitted", "CAP_SYS_ADMIN")
	})
	t.Run("second run", func(t *testing.T) {
		first, err := ioctl.Open(fs.Dir())
		require.NoError(t, err)
		defer func() { _ = first.Close() }()
		unlock, err := first.TryLock()
		require.NoError(t, err)
		defer unlock()
		refused(t, run(), ioctl.ErrLocked.Error(), "another scrubd")
		// Another mount of it is the same filesystem.
		dir := t.TempDir()
		require.NoError(t, unix.Mount(fs.Dir(), dir, "", unix.MS_BIND, ""))
		defer func() { assert.NoError(t, unix.Unmount(dir, 0)) }()
		refused(t, call(t, "/", scrubd, "run", "--now", dir), ioctl.ErrLocked.Error(), "another scrubd")
	})
	t.Run("read-only", func(t *testing.T) {
		require.NoError(t, fs.Remount("ro"))
		refused(t, run("--require", "repair"), "filesystem is read-only", "remount,rw")
		require.NoError(t, fs.Remount("rw"))
	})
	t.Run("frozen", func(t *testing.T) {
		require.NoError(t, fs.Freeze())
		began := time.Now()
		refused(t, run(), "filesystem is already frozen", "xfs_freeze -u")
		assert.Less(t, time.Since(began), thawPatience+5*time.Second)
		require.NoError(t, fs.Thaw())
	})
	t.Run("norecovery", func(t *testing.T) {
		require.NoError(t, fs.Remount("ro", "norecovery"))
		refused(t, run(), "filesystem is mounted without log recovery", "without norecovery")
		require.NoError(t, fs.Remount("rw"))
	})
	t.Run("shut down", func(t *testing.T) {
		require.NoError(t, exec.Command("xfs_io", "-x", "-c", "shutdown", fs.Dir()).Run())
		refused(t, run(), "filesystem is shut down", "dmesg")
		refused(t, call(t, "/", scrubd, "probe", fs.Dir()), "filesystem is shut down", "dmesg")
		require.NoError(t, fs.Remount("rw"))
	})
}

// A mount that leaves the table is noticed although an open descriptor keeps
// the filesystem alive.
func TestWatchMountSeesALazyUnmount(t *testing.T) {
	lab.Require(t, lab.Root, lab.Loop)
	fs := lab.NewLoopFS(t, lab.MkfsOptions{})
	target, err := systemMounts().find(fs.Dir())
	require.NoError(t, err)
	assert.Equal(t, fs.Dir(), target.MountPoint)
	held, err := os.Open(fs.Dir())
	require.NoError(t, err)
	defer func() { _ = held.Close() }()

	gone := make(chan struct{})
	go systemMounts().watch(t.Context(), target.MountID, func() { close(gone) })
	select {
	case <-gone:
		t.Fatal("it is still mounted")
	case <-time.After(mountPoll / 5):
	}
	require.NoError(t, unix.Unmount(fs.Dir(), unix.MNT_DETACH))
	select {
	case <-gone:
	case <-time.After(5 * time.Second):
		t.Fatal("the unmount was not noticed")
	}
}

// The wait for a thaw ends with the thaw, and then the run starts.
func TestWaitThawedOnARealFreeze(t *testing.T) {
	lab.Require(t, lab.Root, lab.Loop)
	fs := lab.NewLoopFS(t, lab.MkfsOptions{})
	require.NoError(t, waitThawed(t.Context(), fs.Dir(), func(string) {}))

	require.NoError(t, fs.Freeze())
	thawed := time.AfterFunc(2*time.Second, func() { assert.NoError(t, fs.Thaw()) })
	defer thawed.Stop()
	var said []string
	began := time.Now()
	require.NoError(t, waitThawed(t.Context(), fs.Dir(), func(s string) { said = append(said, s) }))
	assert.GreaterOrEqual(t, time.Since(began), 1500*time.Millisecond)
	assert.Equal(t, []string{fs.Dir() + ": frozen; waiting for the thaw"}, said)
}
