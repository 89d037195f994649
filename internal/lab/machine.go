package lab

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// powerOffPatience is what a kernel gets to power off once its job is done;
	// the job's result is known by then, so a longer wait has no use.
	powerOffPatience = 5 * time.Second
	// lastWordsPatience is what a hung kernel gets for each answer to where it hangs.
	lastWordsPatience = 2 * time.Second
)

// machine is one running lab kernel.
type machine struct {
	spec    BootSpec
	dir     string
	cmd     *exec.Cmd
	started time.Time

	exited   chan struct{} // closed when the kernel's main process is gone
	jobDone  chan struct{} // closed when the job's exit status has come
	exitCode int           // valid once jobDone is closed
	readers  sync.WaitGroup
	console  *lockedTail
	output   *tailBuffer
	pipes    []*os.File // our ends
}

// newMachine writes the boot's files into dir and starts the kernel.
func newMachine(kernel, dir string, spec BootSpec) (*machine, error) {
	nonce := rand.Text()
	job, boot := filepath.Join(dir, "job"), filepath.Join(dir, "boot")
	if err := os.WriteFile(job, []byte(jobText(spec)), 0o700); err != nil {
		return nil, fmt.Errorf("write the job: %w", err)
	}
	// A third of the limit leaves time for the report to reach the console.
	hung := max(int(spec.Timeout.Seconds()/3), 1)
	script := bootText(job, nonce, hung)
	if spec.Systemd {
		var err error
		if script, err = systemdText(dir, job, nonce, hung); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(boot, []byte(script), 0o700); err != nil {
		return nil, fmt.Errorf("write the boot script: %w", err)
	}
	m := &machine{
		spec: spec, dir: dir,
		exited: make(chan struct{}), jobDone: make(chan struct{}),
		console: &lockedTail{tail: newTailBuffer(consoleLimit)},
		output:  newTailBuffer(outputLimit),
	}
	args := []string{
		"mem=" + strconv.Itoa(spec.MemMiB) + "M",
		"ncpus=" + strconv.Itoa(spec.CPUs),
		"rootfstype=hostfs", "rootflags=/", "rw", "init=" + boot,
		// The kernel's console goes to our stdout pipe, the job's output to fd 3.
		"con=null", "con0=null,fd:1", "ssl=null", "ssl0=null,fd:3",
		"seccomp=auto", "uml_dir=" + dir, "umid=uml",
	}
	for i, disk := range spec.Disks {
		args = append(args, fmt.Sprintf("ubd%d=%s", i, disk))
	}
	m.cmd = exec.Command(kernel, args...) //nolint:noctx // wait kills it, with all its processes
	m.cmd.Dir = "/"
	m.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + memoryDir(dir, spec.MemMiB)}
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := m.start(nonce); err != nil {
		return nil, err
	}
	return m, nil
}

// start starts the kernel and the readers of its two channels.
func (m *machine) start(nonce string) error {
	consoleOurs, consoleTheirs, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("create the console's pipe: %w", err)
	}
	outputOurs, outputTheirs, err := os.Pipe()
	if err != nil {
		_ = consoleOurs.Close()
		_ = consoleTheirs.Close()
		return fmt.Errorf("create the output's pipe: %w", err)
	}
	m.pipes = []*os.File{consoleOurs, outputOurs}
	m.cmd.Stdout, m.cmd.Stderr, m.cmd.ExtraFiles = consoleTheirs, consoleTheirs, []*os.File{outputTheirs}

	started := make(chan error, 1)
	go func() {
		// The parent death signal is sent when the thread that started the kernel
		// ends, so that thread has to live as long as the kernel.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := m.cmd.Start()
		_ = consoleTheirs.Close()
		_ = outputTheirs.Close()
		started <- err
		if err == nil {
			// How the kernel's process ended says nothing: the job's end does.
			_ = m.cmd.Wait()
			close(m.exited)
		}
	}()
	m.started = time.Now()
	if err := <-started; err != nil {
		m.closePipes()
		return fmt.Errorf("start %s: %w", m.cmd.Path, err)
	}
	m.readers.Add(2)
	go func() {
		defer m.readers.Done()
		_, _ = io.Copy(m.console, consoleOurs)
	}()
	go func() {
		defer m.readers.Done()
		m.readOutput(outputOurs, nonce)
	}()
	return nil
}

// readOutput passes the job's output on until the job's end is announced.
func (m *machine) readOutput(from io.Reader, nonce string) {
	scanner := markScanner{head: []byte(markHead + nonce + " ")}
	pass := func(p []byte) {
		_, _ = m.output.Write(p)
		if m.spec.Output != nil && len(p) > 0 {
			_, _ = m.spec.Output.Write(p)
		}
	}
	buf := make([]byte, 64<<10)
	done := false
	for {
		n, err := from.Read(buf)
		if !done {
			out, code, found := scanner.feed(buf[:n])
			pass(out)
			if found {
				done = true
				m.exitCode = code
				close(m.jobDone)
			}
		}
		if err != nil {
			if !done {
				pass(scanner.rest())
			}
			return
		}
	}
}

// wait waits for the job's end, the kernel's end, or the end of patience, and
// leaves no process behind.
func (m *machine) wait(ctx context.Context) (Result, error) {
	defer m.closePipes()
	limit := time.NewTimer(m.spec.Timeout)
	defer limit.Stop()
	result := Result{ExitCode: -1}
	var failed error
	select {
	case <-m.jobDone:
		waitFor(m.exited, powerOffPatience)
	case <-m.exited:
		result.Crashed = true
	case <-limit.C:
		result.TimedOut = true
		m.askWhereItHangs()
	case <-ctx.Done():
		failed = fmt.Errorf("run in the lab: %w", ctx.Err())
	}
	m.kill()
	result.Elapsed = time.Since(m.started)
	m.drain()
	select {
	case <-m.jobDone:
		// The announcement may have been on its way when the kernel ended.
		result.ExitCode, result.Crashed, result.TimedOut, failed = m.exitCode, false, false, nil
	default:
	}
	result.Output = m.output.String()
	result.Console = m.console.String()
	result.ConsoleTail = consoleTail(result.Console)
	return result, failed
}

// kill ends the kernel's process group: the kernel itself and the processes
// that carry the address spaces of its programs.
func (m *machine) kill() {
	pid := m.cmd.Process.Pid
	// Until it is waited for, the process keeps its id, so the group is ours.
	err := syscall.Kill(-pid, syscall.SIGKILL)
	if err != nil && !errors.Is(err, syscall.ESRCH) {
		_ = m.cmd.Process.Kill()
	}
	<-m.exited
}

// drain waits for the readers to see the end of the pipes. A process that the
// kernel left behind could hold them open, so the wait is bounded.
func (m *machine) drain() {
	for _, pipe := range m.pipes {
		_ = pipe.SetReadDeadline(time.Now().Add(2 * time.Second))
	}
	m.readers.Wait()
}

func (m *machine) closePipes() {
	for _, pipe := range m.pipes {
		_ = pipe.Close()
	}
}

// waitFor waits until done is closed, at most that long.
func waitFor(done <-chan struct{}, patience time.Duration) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
}

// memoryDir picks where the kernel's memory lives: a sparse file on a tmpfs that
// has room for all of it and lets programs run from it, else the boot's own
// directory. A small /dev/shm, as containers have it, would end in SIGBUS.
func memoryDir(fallback string, memMiB int) string {
	const shm = "/dev/shm"
	var fs unix.Statfs_t
	if err := unix.Statfs(shm, &fs); err != nil {
		return fallback
	}
	free := int64(fs.Bavail) * int64(fs.Bsize) //nolint:unconvert // Bsize is 32 bits wide on 386
	if free < int64(memMiB)<<20 || fs.Flags&unix.ST_NOEXEC != 0 || unix.Access(shm, unix.W_OK) != nil {
		return fallback
	}
	return shm
}

// lockedTail is a tailBuffer that one goroutine writes while another reads.
type lockedTail struct {
	mu   sync.Mutex
	tail *tailBuffer
}

func (l *lockedTail) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tail.Write(p)
}

func (l *lockedTail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tail.String()
}
