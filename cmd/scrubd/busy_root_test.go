package main

import (
	"encoding/binary"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/internal/lab"
)

// A file that somebody holds a lease on is not waited for: breaking the lease
// takes as long as its holder likes, 45 s by default. Where no kernel scrub can
// check such a file, the run says so and is not well.
func TestWalkNeverWaitsForALease(t *testing.T) {
	lab.Require(t, lab.Root, lab.Loop)
	scrubd := program(t)
	fs := lab.NewLoopFS(t, lab.MkfsOptions{})
	for _, name := range []string{"leased", "free"} {
		require.NoError(t, os.WriteFile(fs.Path(name), make([]byte, 16*4096), 0o600))
	}
	require.NoError(t, fs.Sync())
	// The lease ends with the descriptor. This process is another than scrubd,
	// and it does not answer the request to give the lease back.
	held, err := os.OpenFile(fs.Path("leased"), os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = unix.FcntlInt(held.Fd(), unix.F_SETLEASE, unix.F_WRLCK)
	require.NoError(t, err)

	began := time.Now()
	a := call(t, "/", scrubd, "run", "--now", fs.Dir())
	assert.Less(t, time.Since(began), 15*time.Second)
	assert.Contains(t, a.out, "note: 1 inode could not be opened because of leases")
	if kernelScrub(t, fs.Dir()) {
		assert.Zero(t, a.status, a.out+a.log)
	} else {
		assert.Equal(t, exitOperational, a.status, a.out+a.log)
		assert.Contains(t, a.out, fs.Dir()+": no fault in what was checked; 1 object could not be checked\n")
	}

	require.NoError(t, held.Close())
	a = call(t, "/", scrubd, "run", "--now", fs.Dir())
	assert.Zero(t, a.status, a.out+a.log)
}

// One run at a time on a filesystem, whatever way leads to it: a second mount
// of the device, or another mount namespace.
func TestSecondRunIsRefusedEverywhere(t *testing.T) {
	lab.Require(t, lab.Root, lab.Loop)
	scrubd := program(t)
	fs := lab.NewLoopFS(t, lab.MkfsOptions{})
	first, carryOn := pause(t, scrubd, "run", "--now", fs.Dir())
	again := t.TempDir()
	require.NoError(t, unix.Mount(deviceOf(t, fs.Dir()), again, "xfs", 0, ""))
	defer func() { assert.NoError(t, unix.Unmount(again, 0)) }()

	oneSentence(t, call(t, "/", scrubd, "run", "--now", again), "locked already", "another scrubd")
	oneSentence(t, call(t, "/", scrubd, "run", "--now", "-n", fs.Dir()), "locked already", "another scrubd")
	oneSentence(t, call(t, "/", "unshare", "--mount", scrubd, "run", "--now", fs.Dir()), "locked already", "another scrubd")
	assert.Zero(t, call(t, "/", scrubd, "probe", again).status, "a probe disturbs nobody")

	carryOn()
	a := first.end(t)
	assert.Zero(t, a.status, a.out+a.log)
	a = call(t, "/", scrubd, "run", "--now", again)
	assert.Zero(t, a.status, "the lock went with the first")
	// Both names in one command are one filesystem.
	a = call(t, "/", scrubd, "run", "--now", fs.Dir(), again)
	assert.Zero(t, a.status, a.out+a.log)
	assert.Equal(t, 1, strings.Count(a.out, ": clean"))
	assert.Contains(t, a.log, "scrubd: "+again+": the same filesystem as "+fs.Dir()+", checked once\n")
}

// pause starts a run and stops it in its middle, where it keeps what it has.
// The function returned lets it go on.
func pause(t *testing.T, argv ...string) (s *started, carryOn func()) {
	t.Helper()
	s = start(t, argv...)
	require.NoError(t, s.cmd.Process.Signal(syscall.SIGSTOP))
	waitState(t, s.cmd.Process.Pid, "T")
	return s, func() { require.NoError(t, s.cmd.Process.Signal(syscall.SIGCONT)) }
}

// waitState waits until a process is in a state of /proc/PID/stat.
func waitState(t *testing.T, pid int, want string) {
	t.Helper()
	require.Eventually(t, func() bool {
		stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
		_, state, _ := strings.Cut(string(stat), ") ")
		return err == nil && strings.HasPrefix(state, want)
	}, 10*time.Second, 5*time.Millisecond)
}

// A freeze in mid-run, before a fault is looked at a second time: after the thaw
// it comes to a good end. Until then it can
// be told to end, and its report comes in time, although the kernel keeps the
// process for as long as the freeze lasts.
func TestFreezeInMidRun(t *testing.T) {
	lab.Require(t, lab.Root, lab.Loop)
	scrubd := program(t)
	fs := damagedCopy(t, sampleFS(t), lab.Fault{Class: lab.FaultRmapOffset, Seed: 1})
	freeze := func() *started {
		s, carryOn := pause(t, scrubd, "run", "--now", "--workers", "1", fs.Dir())
		require.NoError(t, fs.Freeze())
		carryOn()
		require.Eventually(t, func() bool {
			return threadsWaitIn(filepath.Join("/proc", strconv.Itoa(s.cmd.Process.Pid), "task"), thawWaits...)
		}, 10*time.Second, 10*time.Millisecond, "it waits for the thaw")
		return s
	}

	s := freeze()
	require.NoError(t, fs.Thaw())
	a := s.end(t)
	assert.Equal(t, exitCorruption, a.status, a.out+a.log)
	assert.Contains(t, a.out, fs.Dir()+": 1 finding: ")

	s = freeze()
	require.NoError(t, s.cmd.Process.Signal(syscall.SIGTERM))
	waitReport(t, s)
	require.NoError(t, fs.Thaw())
	a = s.end(t)
	assert.Equal(t, exitOperational, a.status, "nothing was confirmed yet")
	assert.Contains(t, a.out, ": not finished: stopped while a kernel call had not come back: it waits because the filesystem is frozen")
	assert.Contains(t, a.log, "scrubd: what to do: wait for the snapshot that froze it, or thaw it with xfs_freeze -u "+fs.Dir())
}

// waitReport waits until the report of a run that was told to end is through.
func waitReport(t *testing.T, s *started) {
	t.Helper()
	select {
	case out := <-s.out:
		s.out <- out
	case <-time.After(5 * time.Second):
		t.Error("no report 5 s after the signal")
	}
}

// An on-access scanner that denies a file is an answer: the file counts as not
// checked. One that gives no answer is named when the run is told to end.
func TestAccessScanner(t *testing.T) {
	lab.Require(t, lab.Root, lab.Loop)
	scrubd := program(t)
	fs := lab.NewLoopFS(t, lab.MkfsOptions{})
	require.NoError(t, os.WriteFile(fs.Path("file"), make([]byte, 16*4096), 0o600))
	require.NoError(t, fs.Sync())

	scanner := newScanner(t, fs.Dir())
	s := start(t, scrubd, "run", "--now", fs.Dir())
	event := scanner.wait(t)
	require.NoError(t, s.cmd.Process.Signal(syscall.SIGTERM))
	waitReport(t, s)
	a := s.end(t)
	assert.Equal(t, exitOperational, a.status)
	assert.Contains(t, a.out, ": not finished: stopped while a kernel call had not come back: it waits for an on-access scanner")
	assert.Contains(t, a.log, "scrubd: what to do: see whether the scanner (fanotify) still works")
	scanner.deny(t, event)

	s = start(t, scrubd, "run", "--now", fs.Dir())
	go func() {
		for {
			event, err := scanner.next()
			if err != nil {
				return
			}
			scanner.deny(t, event)
		}
	}()
	a = s.end(t)
	assert.Contains(t, a.out, "note: 1 inode could not be opened because of leases, delegations or access scanners")
	if kernelScrub(t, fs.Dir()) {
		assert.Zero(t, a.status, a.out+a.log)
	} else {
		assert.Equal(t, exitOperational, a.status, a.out+a.log)
	}
}

// scanner decides who may open the files of a mount, directories left out.
type scanner struct{ file *os.File }

func newScanner(t *testing.T, mountPoint string) *scanner {
	t.Helper()
	fd, err := unix.FanotifyInit(unix.FAN_CLASS_CONTENT|unix.FAN_CLOEXEC|unix.FAN_NONBLOCK, unix.O_RDONLY|unix.O_CLOEXEC)
	require.NoError(t, err)
	s := &scanner{os.NewFile(uintptr(fd), "fanotify")}
	// Its end allows everything, so nobody is left waiting.
	t.Cleanup(func() { assert.NoError(t, s.file.Close()) })
	require.NoError(t, unix.FanotifyMark(fd, unix.FAN_MARK_ADD|unix.FAN_MARK_MOUNT, unix.FAN_OPEN_PERM, unix.AT_FDCWD, mountPoint))
	return s
}

// next waits for somebody to open a file and returns the question's descriptor.
func (s *scanner) next() (int32, error) {
	var event [24]byte // struct fanotify_event_metadata
	if _, err := io.ReadFull(s.file, event[:]); err != nil {
		return -1, err
	}
	return int32(binary.NativeEndian.Uint32(event[16:])), nil
}

func (s *scanner) wait(t *testing.T) int32 {
	t.Helper()
	require.NoError(t, s.file.SetReadDeadline(time.Now().Add(10*time.Second)))
	event, err := s.next()
	require.NoError(t, err)
	require.NoError(t, s.file.SetReadDeadline(time.Time{}))
	return event
}

// deny answers a question, also that of somebody who does not wait any more.
func (s *scanner) deny(t *testing.T, event int32) {
	t.Helper()
	answer := make([]byte, 8) // struct fanotify_response
	binary.NativeEndian.PutUint32(answer, uint32(event))
	binary.NativeEndian.PutUint32(answer[4:], unix.FAN_DENY)
	if _, err := s.file.Write(answer); err != nil {
		assert.ErrorIs(t, err, unix.ENOENT)
	}
	assert.NoError(t, unix.Close(int(event)))
}

// The report of a run that nobody can take ends it: a full disk, a closed
// descriptor.
func TestReportThatCannotBeWritten(t *testing.T) {
	lab.Require(t, lab.Root, lab.Loop)
	scrubd := program(t)
	fs := lab.NewLoopFS(t, lab.MkfsOptions{})
	for _, to := range []string{">/dev/full", "| true"} {
		t.Run(to, func(t *testing.T) {
			a := call(t, "/", "bash", "-c", `set -o pipefail; "$0" run --now "$1" `+to, scrubd, fs.Dir())
			assert.Equal(t, exitOperational, a.status, a.log)
			assert.Contains(t, a.log, "scrubd: write the report: ")
			assert.Contains(t, a.log, "scrubd: what to do: the run was stopped because nobody could read it")
		})
	}
	// Who closes it wants no report; the status still tells.
	a := call(t, "/", "bash", "-c", `"$0" run --now "$1" >&-`, scrubd, fs.Dir())
	assert.Zero(t, a.status, a.log)
	require.NoError(t, fs.Unmount(), "nobody holds it")
}

// The bar is drawn on a terminal, and taken away at the end.
func TestProgressOnATerminal(t *testing.T) {
	lab.Require(t, lab.Root, lab.Loop)
	scrubd := program(t)
	// A fault makes the run long enough to see it at work.
	fs := damagedCopy(t, sampleFS(t), lab.Fault{Class: lab.FaultRmapOffset, Seed: 1})
	if _, err := exec.LookPath("script"); err != nil {
		t.Fatalf("script(1) of util-linux: %v", err)
	}
	cmd := exec.Command("script", "-qec", shellQuote(scrubd)+" run --now --check "+shellQuote(fs.Dir()), "/dev/null")
	cmd.Env = append(os.Environ(), "SCRUBD_CONSISTENT_OUTPUT=")
	out, err := cmd.Output()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit, string(out))
	assert.Equal(t, exitCorruption, exit.ExitCode())
	text := string(out)
	assert.Contains(t, text, eraseLine+"[#")
	assert.Contains(t, text, "% confirm")
	assert.Contains(t, text, "1 finding")
	last := text[strings.LastIndex(text, eraseLine)+len(eraseLine):]
	assert.NotContains(t, last, "[#", "the bar is gone at the end")
}
