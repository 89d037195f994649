package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/scrubd/scrubd/ioctl"
)

// How a frozen filesystem is met. XFS has no call that tells whether one is
// frozen without freezing it, and a thread that writes to one waits for the
// thaw uninterruptibly: not even SIGKILL ends it. So another process tries
// first, and only that one can get stuck.
const (
	thawPoll     = 20 * time.Millisecond
	thawPatience = 10 * time.Second // a snapshot is taken in much less
	// slowPatience ends the wait for a try that is slow but not stuck: it has to
	// flush what was unlinked, and the run has to do so anyway.
	slowPatience = 30 * time.Second
)

// newTryThawedCommand is what the other process runs.
func newTryThawedCommand() *cobra.Command {
	return &cobra.Command{
		Use:    tryThawed + " PATH",
		Short:  "Wait until a filesystem is not frozen",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			fs, err := ioctl.Open(args[0])
			if err == nil {
				err = errors.Join(fs.FlushInodegc(), fs.Close())
			}
			if err != nil {
				// What is wrong with the filesystem is for the run to say.
				return &exitError{status: exitOperational, reported: true}
			}
			return nil
		},
	}
}

const tryThawed = "try-thawed"

// waitThawed returns once the filesystem at a mount point is not frozen, or
// with [ioctl.ErrFrozen] when that takes too long.
func waitThawed(ctx context.Context, mountPoint string, say func(string)) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the program itself: %w", err)
	}
	// Neither /dev/null, which an emergency shell may not have, nor the streams of
	// this process: they would stay open for as long as the other one is stuck.
	in, out, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start %s: %w", tryThawed, err)
	}
	cmd := exec.Command(self, tryThawed, mountPoint)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, out
	err = cmd.Start()
	_, _ = in.Close(), out.Close() // the other process has its own
	if err != nil {
		return fmt.Errorf("start %s: %w", tryThawed, err)
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait() // it only had to come to its end
		close(done)
	}()
	tasks := fmt.Sprintf("/proc/%d/task", cmd.Process.Pid)
	stuck := func() bool { return threadsWaitIn(tasks, thawWaits...) }
	err = watchThaw(ctx, done, stuck, func() {
		say(mountPoint + ": frozen; waiting for the thaw")
	})
	if err != nil {
		_ = cmd.Process.Kill() // it may be gone, or stuck until the thaw
		return fmt.Errorf("%s: %w", printable(mountPoint), err)
	}
	return nil
}

// watchThaw waits for done. stuck tells whether the other process waits for a thaw.
func watchThaw(ctx context.Context, done <-chan struct{}, stuck func() bool, notice func()) error {
	began := time.Now()
	tick := time.NewTicker(thawPoll)
	defer tick.Stop()
	noticed := false
	for {
		select {
		case <-done:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		waited := time.Since(began)
		switch frozen := stuck(); {
		case !frozen && waited > slowPatience:
			return nil
		case frozen && waited > thawPatience:
			return ioctl.ErrFrozen
		case frozen && !noticed && waited > time.Second:
			noticed = true
			notice()
		}
	}
}

// thawWaits are the kernel functions in which a thread waits for a thaw.
//
// Source: include/linux/fs.h (sb_start_write), kernel/locking/percpu-rwsem.c.
var thawWaits = []string{"percpu_rwsem_wait", "__percpu_down_read"}

// hold is what keeps a call of this process in the kernel without being the
// call's own doing.
type hold struct {
	waits []string // kernel functions in which a thread sleeps meanwhile
	why   string
	todo  func(mountPoint string) string
}

// holds are those that can be told from outside.
//
// Source: fs/notify/fanotify/fanotify.c (fanotify_get_response).
var holds = []hold{
	{
		waits: thawWaits,
		why:   "it waits because the filesystem is frozen",
		todo: func(mountPoint string) string {
			return "wait for the snapshot that froze it, or thaw it with xfs_freeze -u " + shellQuote(mountPoint)
		},
	},
	{
		waits: []string{"fanotify_handle_event", "fanotify_get_response"},
		why:   "it waits for an on-access scanner to let it open a file",
		todo:  func(string) string { return "see whether the scanner (fanotify) still works, and restart it" },
	},
}

// heldBy returns what keeps a thread of this process in the kernel, nil when
// nothing does that is known.
func heldBy() *hold {
	for i := range holds {
		if threadsWaitIn("/proc/self/task", holds[i].waits...) {
			return &holds[i]
		}
	}
	return nil
}

// threadsWaitIn tells whether one of the threads below a task directory of
// /proc sleeps in one of the functions. The stack is asked too, because some
// kernels (User Mode Linux) name the wrong function in wchan. What cannot be
// read says nothing.
//
// Source: man 5 proc_pid_wchan, proc_pid_stack.
func threadsWaitIn(tasks string, functions ...string) bool {
	threads, err := os.ReadDir(tasks)
	if err != nil {
		return false
	}
	for _, thread := range threads {
		wchan, _ := os.ReadFile(filepath.Join(tasks, thread.Name(), "wchan"))
		stack, _ := os.ReadFile(filepath.Join(tasks, thread.Name(), "stack"))
		for _, function := range functions {
			if strings.TrimSpace(string(wchan)) == function || strings.Contains(string(stack), "] "+function+"+") {
				return true
			}
		}
	}
	return false
}
