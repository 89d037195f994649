package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/internal/lab"
)

// sampleImage is a varied filesystem in a file that has no name any more, made
// once: large enough that a run on it takes a while.
var sampleImage = sync.OnceValues(func() (image *os.File, err error) {
	fs, err := lab.CreateLoopFS(context.Background(), lab.MkfsOptions{Size: 1 << 30})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, fs.Close()) }()
	err = lab.Sample(fs.Dir(), lab.SampleSpec{Files: 10_000, SmallFiles: true, Workers: 4})
	if err := errors.Join(err, fs.Unmount()); err != nil {
		return nil, err
	}
	return os.Open(fs.Image())
})

// sampleFS is a copy of it, mounted.
func sampleFS(t *testing.T) *lab.LoopFS {
	t.Helper()
	from, err := sampleImage()
	require.NoError(t, err)
	dir := t.TempDir()
	image := filepath.Join(dir, "xfs.img")
	require.NoError(t, lab.CopyImage(image, fmt.Sprintf("/proc/self/fd/%d", from.Fd())))
	fs, err := lab.OpenLoopFS(image, filepath.Join(dir, "mnt"), "nouuid")
	require.NoError(t, err)
	require.NoError(t, fs.Mount())
	t.Cleanup(func() { assert.NoError(t, fs.Close()) })
	return fs
}

func TestRunOnAHealthyFilesystem(t *testing.T) {
	lab.Require(t, lab.Root, lab.Loop)
	scrubd := program(t)
	fs := sampleFS(t)

	text := call(t, "/", scrubd, "run", "--now", fs.Dir())
	assert.Zero(t, text.status, text.out+text.log)
	assert.Contains(t, text.out, fs.Dir()+": clean: all that this kernel and filesystem allow to check is well\n")
	assert.LessOrEqual(t, strings.Count(text.out, "\n"), 20)

	program := call(t, "/", scrubd, "run", "--now", "--json", "--check", fs.Dir())
	assert.Zero(t, program.status, program.log)
	lines := jsonLines(t, []byte(program.out))
	require.GreaterOrEqual(t, len(lines), 2)
	assert.Equal(t, "start", lines[0]["message_type"])
	assert.Equal(t, "check", lines[0]["mode"])
	last := lines[len(lines)-1]
	assert.Equal(t, "summary", last["message_type"])
	assert.Equal(t, true, last["complete"])
	assert.GreaterOrEqual(t, last["inodes"], 10_000.0)

	probe := call(t, "/", scrubd, "probe", fs.Dir())
	assert.Zero(t, probe.status, probe.log)
	assert.Contains(t, probe.out, "\nrmapbt            yes\n")
}

// A damaged rmap record is one finding, whatever this kernel can do about it,
// and a filesystem of ten thousand files makes its report no longer.
func TestRunOnADamagedFilesystem(t *testing.T) {
	lab.Require(t, lab.Root, lab.Loop)
	scrubd := program(t)
	fs := sampleFS(t)
	require.NoError(t, fs.Unmount())
	_, err := lab.InjectImage(fs.Image(), lab.Fault{Class: lab.FaultRmapOffset, Seed: 1})
	require.NoError(t, err)
	require.NoError(t, fs.Mount())

	a := call(t, "/", scrubd, "run", "--now", "--check", fs.Dir())
	assert.Equal(t, exitCorruption, a.status, a.out+a.log)
	assert.Contains(t, a.out, fs.Dir()+": 1 finding: ")
	assert.LessOrEqual(t, strings.Count(a.out, "\n"), 20, a.out)
	for _, want := range []string{"where: AG ", "block", "inode ", "fork: ", "rmapbt: ", "verdict: "} {
		assert.Contains(t, a.out, want)
	}
	for _, m := range jsonLines(t, []byte(call(t, "/", scrubd, "run", "--now", "--check", "--json", fs.Dir()).out)) {
		if m["message_type"] == "summary" {
			assert.Len(t, m["findings"], 1)
		}
	}
}

// sharedBuffer can be read while it is written to.
type sharedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *sharedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *sharedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// started is a run that has begun its report.
type started struct {
	cmd *exec.Cmd
	out chan string // the whole of standard output, at its end
	log *sharedBuffer
}

// start begins a run and returns once it has said what it checks.
func start(t *testing.T, argv ...string) *started {
	t.Helper()
	s := &started{cmd: exec.Command(argv[0], argv[1:]...), out: make(chan string, 1), log: &sharedBuffer{}}
	s.cmd.Env = commandEnv()
	s.cmd.Stderr = s.log
	pipe, err := s.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, s.cmd.Start())
	in := bufio.NewReader(pipe)
	first, err := in.ReadString('\n')
	require.NoError(t, err, s.log)
	go func() {
		rest, _ := io.ReadAll(in)
		s.out <- first + string(rest)
	}()
	return s
}

// end waits for the run to end.
func (s *started) end(t *testing.T) answer {
	t.Helper()
	out := <-s.out
	err := s.cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	return answer{s.cmd.ProcessState.ExitCode(), out, s.log.String()}
}

func TestRunEndsInOrder(t *testing.T) {
	lab.Require(t, lab.Root, lab.Loop)
	scrubd := program(t)
	fs := sampleFS(t)
	run := func(flags ...string) *started {
		return start(t, append(append([]string{scrubd, "run", "--now", "--workers", "1"}, flags...), fs.Dir())...)
	}

	// held is a run that is stopped in its midst; it may have been too fast.
	held := func() *started {
		for {
			s := run()
			require.NoError(t, s.cmd.Process.Signal(syscall.SIGSTOP))
			select {
			case out := <-s.out:
				s.out <- out
				s.end(t)
			case <-time.After(50 * time.Millisecond):
				return s
			}
		}
	}
	goOn := func(s *started) { require.NoError(t, s.cmd.Process.Signal(syscall.SIGCONT)) }

	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(signal.String(), func(t *testing.T) {
			s := held()
			began := time.Now()
			require.NoError(t, s.cmd.Process.Signal(signal))
			goOn(s)
			a := s.end(t)
			assert.Equal(t, exitOperational, a.status)
			assert.Contains(t, a.out, ": not finished: stopped by a signal ("+signal.String()+")")
			assert.Contains(t, a.log, "stopping after the kernel calls in flight")
			require.NoError(t, fs.Unmount(), "the mount is free")
			assert.Less(t, time.Since(began), 5*time.Second)
			require.NoError(t, fs.Mount())
		})
	}
	t.Run("SIGUSR1 is a question", func(t *testing.T) {
		s := held()
		require.NoError(t, s.cmd.Process.Signal(syscall.SIGUSR1))
		goOn(s)
		a := s.end(t)
		assert.Zero(t, a.status)
		assert.Contains(t, a.log, "scrubd: "+fs.Dir()+": ")
	})
	t.Run("nobody reads", func(t *testing.T) {
		a := call(t, "/", "sh", "-c", `("$0" run --now --json "$1"; echo status=$? >&2) | head -c 1`, scrubd, fs.Dir())
		assert.Contains(t, a.log, "status=4")
		assert.Contains(t, a.log, "write the report: ")
	})
	t.Run("second run", func(t *testing.T) {
		first := held()
		refused(t, call(t, "/", scrubd, "run", "--now", fs.Dir()), "locked", "another scrubd")
		goOn(first)
		assert.Zero(t, first.end(t).status, "the first one is not disturbed")
	})
	t.Run("lazy unmount", func(t *testing.T) {
		s := held()
		require.NoError(t, unix.Unmount(fs.Dir(), unix.MNT_DETACH))
		goOn(s)
		a := s.end(t)
		assert.Equal(t, exitOperational, a.status)
		assert.Contains(t, a.out, ": not finished: "+fs.Dir()+": no longer mounted")
		require.NoError(t, fs.Remount("rw"))
	})
	t.Run("shutdown", func(t *testing.T) {
		s := held()
		require.NoError(t, exec.Command("xfs_io", "-x", "-c", "shutdown", fs.Dir()).Run())
		goOn(s)
		a := s.end(t)
		assert.Equal(t, exitOperational, a.status)
		assert.Contains(t, a.log, "filesystem is shut down")
		assert.Contains(t, a.log, "dmesg")
		require.NoError(t, fs.Remount("rw"))
	})
}
