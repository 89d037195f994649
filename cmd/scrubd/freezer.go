package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/freeze"
)

// freezer stops the writers of one filesystem for a moment, when a run wants
// to look at something in peace, through a process of its own (package freeze).
type freezer struct {
	target *target
	fs     *ioctl.FS
	limit  time.Duration
	// quiet keeps this process from writing anything until the function returned
	// is called: a report, or standard error, may lie on the frozen filesystem.
	quiet func() (release func())

	client *freeze.Client
	cmd    *exec.Cmd
	gone   chan struct{} // closed when the process is
	failed error         // why there is none, once it was tried
}

// Times that the supervisor is given, none of them while anything is frozen.
const (
	killPatience = time.Second
	endPatience  = time.Second
)

// frozen calls look while the filesystem is frozen; see [scrub.Options].
func (f *freezer) frozen(ctx context.Context, look func(context.Context)) error {
	if f.failed != nil {
		return f.failed
	}
	if f.client == nil {
		if err := f.start(ctx); err != nil {
			f.close()
			if ctx.Err() == nil {
				f.failed = fmt.Errorf("freeze %s: %w", printable(f.target.MountPoint), err)
				return f.failed
			}
			return err
		}
	}
	err := f.client.Frozen(ctx, f.limit, f.quiet, look)
	if err != nil {
		err = fmt.Errorf("freeze %s: %w", printable(f.target.MountPoint), err)
	}
	if errors.Is(err, freeze.ErrGone) || errors.Is(err, freeze.ErrBusy) {
		f.failed = err
	}
	return err
}

// start starts the supervisor and waits until it is ready, and out of reach of
// what may end this process.
func (f *freezer) start(ctx context.Context) error {
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("connect to the freeze's supervisor: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(ends[0]), "connection"), os.NewFile(uintptr(ends[1]), "connection")
	defer func() { _, _ = ours.Close(), theirs.Close() }() // copies are in use by then
	conn, err := net.FileConn(ours)
	if err != nil {
		return fmt.Errorf("connect to the freeze's supervisor: %w", err)
	}
	in, out, err := os.Pipe() // streams that lead nowhere; see waitThawed
	if err != nil {
		return fmt.Errorf("start the freeze's supervisor: %w", errors.Join(err, conn.Close()))
	}
	// The very program that runs, also when its file was replaced since.
	cmd := exec.Command("/proc/self/exe", freezerName, f.target.MountPoint,
		fmt.Sprintf("%d:%d", unix.Major(f.fs.Device()), unix.Minor(f.fs.Device())))
	cmd.Args[0] = os.Args[0]
	cmd.Dir = "/"
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, out
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	_, _ = in.Close(), out.Close() // the other process has its own
	if err != nil {
		return fmt.Errorf("start the freeze's supervisor: %w", errors.Join(err, conn.Close()))
	}
	f.cmd, f.gone = cmd, make(chan struct{})
	go func() {
		_ = cmd.Wait() // what it has to say it says on the connection
		close(f.gone)
	}()
	f.client = freeze.NewClient(conn)
	f.client.Wake = func() { _ = cmd.Process.Signal(syscall.SIGCONT) }
	f.client.Kill = func() {
		_ = cmd.Process.Kill() // it may be gone
		f.wait(killPatience)
	}
	f.client.Thaw = f.fs.Thaw
	f.client.Stale = func() error {
		stale, err := freeze.ThawStale(freeze.Dir, openMarked)
		for i := range stale {
			err = errors.Join(err, stale[i].Err)
		}
		return err
	}
	return f.client.Arm(ctx)
}

// wait waits for the supervisor's end.
func (f *freezer) wait(patience time.Duration) {
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-f.gone:
	case <-late.C:
	}
}

// close ends the supervisor, if there is one.
func (f *freezer) close() {
	if f.client != nil {
		_ = f.client.Close() // that is what tells it
		f.wait(endPatience)
		f.client = nil
	}
}

// hush returns what keeps a session and its terminal from writing.
func hush(s *session, term *terminal) func() func() {
	return func() func() {
		s.mu.Lock()
		term.mu.Lock()
		return sync.OnceFunc(func() {
			term.mu.Unlock()
			s.mu.Unlock()
		})
	}
}
