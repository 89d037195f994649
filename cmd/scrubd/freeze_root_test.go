package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/internal/lab"
	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/freeze"
)

// freezeAndHang lets this test binary be a scrubd that freezes a filesystem and
// looks for as long as the freeze lasts, or for ever.
const freezeAndHang = "freeze-and-hang"

// hang freezes args[0] for args[1], says so, and looks until the time is up; a
// third argument makes it look for ever.
func hang(args []string) {
	limit, err := time.ParseDuration(args[1])
	if err != nil {
		panic(err)
	}
	fs, err := ioctl.Open(args[0])
	if err != nil {
		panic(err)
	}
	f := &freezer{
		target: &target{Path: args[0], MountPoint: args[0]}, fs: fs, limit: limit,
		quiet: func() func() { return func() {} },
	}
	err = f.frozen(context.Background(), func(ctx context.Context) {
		_, _ = fmt.Printf("frozen %d\n", f.cmd.Process.Pid)
		<-ctx.Done()
		if len(args) > 2 {
			select {}
		}
	})
	_, _ = fmt.Printf("over %v\n", err)
	f.close()
}

// stallProbe writes to a filesystem all the time and knows how long a write has
// waited at most.
type stallProbe struct {
	longest, began atomic.Int64 // nanoseconds; the time that the write that is under way began
	stop, stopped  chan struct{}
}

func startProber(t *testing.T, dir string) *stallProbe {
	t.Helper()
	p := &stallProbe{stop: make(chan struct{}), stopped: make(chan struct{})}
	file, err := os.Create(filepath.Join(dir, "probe"))
	require.NoError(t, err)
	go func() {
		defer close(p.stopped)
		defer func() { _ = file.Close() }()
		for {
			select {
			case <-p.stop:
				return
			case <-time.After(time.Millisecond):
			}
			began := time.Now()
			p.began.Store(began.UnixNano())
			_, err := file.WriteAt([]byte{1}, 0)
			p.began.Store(0)
			if err != nil {
				t.Errorf("write: %v", err)
				return
			}
			p.longest.Store(max(p.longest.Load(), int64(time.Since(began))))
		}
	}()
	return p
}

// waits tells whether a write waits at the moment.
func (p *stallProbe) waits() bool {
	began := p.began.Load()
	return began != 0 && time.Since(time.Unix(0, began)) > 20*time.Millisecond
}

func (p *stallProbe) end() time.Duration {
	close(p.stop)
	<-p.stopped
	return time.Duration(p.longest.Load())
}

// hung is a process that has frozen a filesystem.
type hung struct {
	cmd        *exec.Cmd
	out        *bufio.Reader
	supervisor int
}

func startHung(t *testing.T, attr *syscall.SysProcAttr, argv ...string) *hung {
	t.Helper()
	h := &hung{cmd: exec.Command(argv[0], argv[1:]...)}
	h.cmd.SysProcAttr = attr
	h.cmd.Env = commandEnv()
	h.cmd.Stderr = os.Stderr
	pipe, err := h.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, h.cmd.Start())
	t.Cleanup(func() {
		_ = h.cmd.Process.Kill()
		_ = h.cmd.Wait()
	})
	h.out = bufio.NewReader(pipe)
	line, err := h.out.ReadString('\n')
	require.NoError(t, err)
	pid, ok := strings.CutPrefix(strings.TrimSpace(line), "frozen ")
	require.True(t, ok, line)
	h.supervisor, err = strconv.Atoi(pid)
	require.NoError(t, err)
	return h
}

// over waits for what the process says of its freeze.
func (h *hung) over(t *testing.T) string {
	t.Helper()
	line, err := h.out.ReadString('\n')
	require.NoError(t, err)
	require.NoError(t, h.cmd.Wait())
	return strings.TrimSpace(line)
}

func kill(t *testing.T, pid int, signal syscall.Signal) {
	t.Helper()
	require.NoError(t, syscall.Kill(pid, signal))
}

// gone waits for the end of a process that is no child of this one.
func gone(t *testing.T, pid int) {
	t.Helper()
	require.Eventually(t, func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		_, state, _ := strings.Cut(string(stat), ") ")
		return err != nil || strings.HasPrefix(state, "Z")
	}, 10*time.Second, time.Millisecond)
}

// Whatever happens to scrubd in the midst of a freeze, writers go on within two
// seconds; and what even the supervisor's end leaves is thawed when asked for.
func TestFreezeEndsInAnyEvent(t *testing.T) {
	lab.Require(t, lab.Root, lab.Loop)
	freezeEnds(t, lab.NewLoopFS(t, lab.MkfsOptions{}), true)
}

// The same on the newest kernel, as far as it could differ.
func TestFreezeEndsInAnyEventInLab(t *testing.T) {
	lab.InKernel(t, func(t *testing.T) {
		freezeEnds(t, lab.NewLoopFS(t, lab.MkfsOptions{}), false)
	})
}

func freezeEnds(t *testing.T, fs *lab.LoopFS, all bool) {
	scrubd := program(t)
	for _, c := range []struct {
		name  string
		limit string
		more  string // look for ever
		do    func(t *testing.T, h *hung)
		said  string // "" where it is killed
		lab   bool
	}{
		{"nothing", "2s", "", func(*testing.T, *hung) {}, "over <nil>", true},
		{"scrubd looks for ever", "300ms", "x", func(*testing.T, *hung) { time.Sleep(400 * time.Millisecond) }, "", false},
		{"the longest", "2s", "x", func(*testing.T, *hung) { time.Sleep(2 * time.Second) }, "", false},
		{"scrubd is killed", "2s", "x", func(t *testing.T, h *hung) { kill(t, h.cmd.Process.Pid, syscall.SIGKILL) }, "", true},
		{"scrubd is stopped", "500ms", "x", func(t *testing.T, h *hung) { kill(t, h.cmd.Process.Pid, syscall.SIGSTOP) }, "", true},
		{"its process group is killed", "2s", "x", func(t *testing.T, h *hung) { kill(t, -h.cmd.Process.Pid, syscall.SIGKILL) }, "", false},
		{"everything of its control group is killed", "2s", "x", func(t *testing.T, h *hung) {
			require.NoError(t, os.WriteFile(filepath.Join(groupOf(t, h.cmd.Process.Pid), "cgroup.kill"), []byte("1"), 0))
		}, "", true},
		{
			"the supervisor is told to end", "2s", "", func(t *testing.T, h *hung) { kill(t, h.supervisor, syscall.SIGTERM) },
			"over freeze " + fs.Dir() + ": the freeze's supervisor is gone", false,
		},
		{
			"the watchdog ends all, and scrubd no more", "2s", "x", func(t *testing.T, h *hung) {
				kill(t, h.cmd.Process.Pid, syscall.SIGSTOP)
				kill(t, h.supervisor, syscall.SIGABRT)
			}, "", false,
		},
		{
			"the supervisor is asked how far it is", "2s", "", func(t *testing.T, h *hung) { kill(t, h.supervisor, syscall.SIGUSR1) },
			"over <nil>", false,
		},
		{
			"the supervisor is killed", "500ms", "", func(t *testing.T, h *hung) { kill(t, h.supervisor, syscall.SIGKILL) },
			"over freeze " + fs.Dir() + ": the freeze's supervisor is gone", false,
		},
		{
			"the supervisor is stopped", "500ms", "", func(t *testing.T, h *hung) { kill(t, h.supervisor, syscall.SIGSTOP) },
			"over freeze " + fs.Dir() + ": the freeze's supervisor is gone: it does not answer", false,
		},
		{
			"somebody else thaws", "300ms", "", func(t *testing.T, _ *hung) { require.NoError(t, fs.Thaw()) },
			"over freeze " + fs.Dir() + ": somebody else thawed it", false,
		},
	} {
		if !all && !c.lab {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			argv := []string{scrubd, freezeAndHang, fs.Dir(), c.limit}
			if c.more != "" {
				argv = append(argv, c.more)
			}
			p := startProber(t, fs.Dir())
			h := startHung(t, &syscall.SysProcAttr{Setpgid: true, UseCgroupFD: true, CgroupFD: newGroup(t)}, argv...)
			c.do(t, h)
			if c.said != "" {
				assert.Equal(t, c.said, h.over(t))
			}
			// What is thawed by now has an end: the last write comes back.
			waited := p.end()
			t.Logf("a writer waited for %s", waited)
			assert.Less(t, waited, freeze.MaxLimit+time.Second, "the writer's own time on a busy machine comes on top")
			_ = h.cmd.Process.Kill()
			gone(t, h.supervisor)
			assert.Empty(t, markers(t))
			require.NoError(t, fs.Freeze(), "it is not frozen")
			require.NoError(t, fs.Thaw())
		})
	}
	t.Run("both are killed", func(t *testing.T) {
		p := startProber(t, fs.Dir())
		h := startHung(t, nil, scrubd, freezeAndHang, fs.Dir(), "2s", "x")
		kill(t, h.supervisor, syscall.SIGSTOP) // or it would thaw first
		kill(t, h.cmd.Process.Pid, syscall.SIGKILL)
		a := call(t, "/", scrubd, "thaw", "--stale")
		assert.Zero(t, a.status)
		assert.Contains(t, a.log, fs.Dir()+": frozen until ")
		assert.Contains(t, a.log, fmt.Sprintf("by process %d\n", h.supervisor))
		require.True(t, p.waits())
		kill(t, h.supervisor, syscall.SIGKILL)
		gone(t, h.supervisor)
		require.True(t, p.waits(), "nobody is left to thaw it")
		assert.Equal(t, answer{out: fs.Dir() + ": thawed\n"}, call(t, "/", scrubd, "thaw", "--stale"))
		p.end()
		assert.Equal(t, answer{}, call(t, "/", scrubd, "thaw", "--stale"), "once")
	})
	t.Run("thawed by hand and frozen by somebody else", func(t *testing.T) {
		h := startHung(t, nil, scrubd, freezeAndHang, fs.Dir(), "2s", "x")
		kill(t, h.supervisor, syscall.SIGSTOP)
		kill(t, h.cmd.Process.Pid, syscall.SIGKILL)
		kill(t, h.supervisor, syscall.SIGKILL)
		gone(t, h.supervisor)
		require.Len(t, markers(t), 1)
		require.NoError(t, fs.Thaw())
		require.NoError(t, fs.Freeze())
		a := call(t, "/", scrubd, "thaw", "--stale")
		require.NoError(t, fs.Thaw(), "it was left alone")
		assert.Equal(t, answer{log: "scrubd: " + fs.Dir() + ": if it is frozen, it is left so: somebody else thawed it\n"}, a)
		assert.Empty(t, markers(t))
	})
	t.Run("somebody else's", func(t *testing.T) {
		require.NoError(t, fs.Freeze())
		defer func() { require.NoError(t, fs.Thaw(), "it was left alone") }()
		assert.Equal(t, answer{}, call(t, "/", scrubd, "thaw", "--stale"))
		out, err := exec.Command(scrubd, freezeAndHang, fs.Dir(), "300ms").Output()
		require.NoError(t, err)
		assert.Equal(t, "over freeze "+fs.Dir()+": somebody else has frozen it\n", string(out))
	})
	// The groups of the supervisors are gone as well.
	root, err := cgroupRoot()
	require.NoError(t, err)
	left, err := filepath.Glob(filepath.Join(root, freezerGroup+"*"))
	require.NoError(t, err)
	for _, dir := range left {
		_ = os.Remove(dir) // those of killed supervisors
	}
	assert.LessOrEqual(t, len(left), 4)
}

// A record that nobody but scrubd sees is looked at in a freeze where that is
// allowed, and never else.
func TestRunFreezes(t *testing.T) {
	lab.Require(t, lab.Root, lab.Loop)
	scrubd := program(t)
	fs := damagedCopy(t, sampleFS(t), lab.Fault{Class: lab.FaultRmapAddedFree, Seed: 1})
	a := call(t, "/", scrubd, "run", "--now", "-n", fs.Dir())
	assert.Equal(t, exitCorruption, a.status, a.out+a.log)
	assert.NotContains(t, a.out, "freeze")

	p := startProber(t, fs.Dir())
	a = call(t, "/", scrubd, "run", "--now", "-n", "--freeze=1s", fs.Dir())
	assert.Equal(t, exitCorruption, a.status, a.out+a.log)
	assert.Contains(t, a.out, ": 1 finding: ")
	assert.Contains(t, a.out, "\nnote: writers had to wait in 1 freeze, for ")
	assert.NotContains(t, a.log, "freeze")
	assert.Less(t, p.end(), freeze.MaxLimit+time.Second)
	assert.Empty(t, markers(t))
	require.NoError(t, fs.Unmount(), "nobody holds it")
}

// markers lists the markers of freezes that are there.
func markers(t *testing.T) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(freeze.Dir, "freeze-*"))
	require.NoError(t, err)
	return list
}

// newGroup makes a control group and returns a descriptor of it.
func newGroup(t *testing.T) int {
	t.Helper()
	root, err := cgroupRoot()
	require.NoError(t, err)
	dir, err := os.MkdirTemp(root, "scrubd-test-")
	require.NoError(t, err)
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = unix.Close(fd)
		require.Eventually(t, func() bool { return os.Remove(dir) == nil }, 10*time.Second, 10*time.Millisecond)
	})
	return fd
}

// groupOf is the directory of a process's control group.
func groupOf(t *testing.T, pid int) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	require.NoError(t, err)
	root, err := cgroupRoot()
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return filepath.Join(root, path)
		}
	}
	t.Fatalf("no group in %q", text)
	return ""
}
