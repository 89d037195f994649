package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	defaultMemMiB  = 1024
	defaultCPUs    = 2
	defaultTimeout = 5 * time.Minute

	// consoleLines is how much of the console a report of a lost kernel shows.
	consoleLines   = 40
	complaintLines = 10
	consoleLimit   = 1 << 20
	outputLimit    = 16 << 20
)

// ErrTimeLimit and ErrCrash are what [Result.Err] wraps.
var (
	ErrTimeLimit = errors.New("the kernel did not finish within its time limit")
	ErrCrash     = errors.New("the kernel stopped before the job's end")
)

// BootSpec says what one boot of the lab kernel runs. The kernel's root is the
// machine's own tree, so every path is as it is outside.
type BootSpec struct {
	// Argv is the job: a program and its arguments. Exactly one of Argv and
	// Script is set.
	Argv []string
	// Script is the job as text for /bin/sh.
	Script string
	// Dir is the job's working directory; empty means the caller's.
	Dir string
	// Env is the job's environment; nil means the caller's. TMPDIR is always
	// replaced by the boot's own scratch directory, which is in memory.
	Env []string
	// MemMiB and CPUs size the machine; zero means 1024 and 2.
	MemMiB, CPUs int
	// Timeout limits the boot and the job together; zero means five minutes. Waiting
	// for a free slot (see [Boot]) does not count.
	Timeout time.Duration
	// Disks are images on the host that the job sees as /dev/ubda, /dev/ubdb, ...
	// Their paths hold neither spaces nor commas.
	Disks []string
	// Systemd makes systemd the first process; see [WithSystemd].
	Systemd bool
	// Output gets what the job writes as it comes; may be nil.
	Output io.Writer
}

// Result is what one boot came to.
type Result struct {
	// Output is what the job wrote to stdout and stderr: the last 16 MiB.
	Output string
	// Console is what the kernel and its boot script wrote: the last MiB.
	// ConsoleTail is its last 40 lines, less those from before the job.
	Console, ConsoleTail string
	// ExitCode is the job's exit status, 128 and the signal's number where a
	// signal ended it, -1 where the job did not finish.
	ExitCode int
	// TimedOut and Crashed say why a job did not finish.
	TimedOut, Crashed bool
	Elapsed           time.Duration
}

// Finished says whether the job ran to its end, whatever its exit status.
func (r Result) Finished() bool { return !r.TimedOut && !r.Crashed }

// Err is nil where the job finished, else an error of [ErrTimeLimit] or
// [ErrCrash] with the end of the console.
func (r Result) Err() error {
	reason := ErrCrash
	switch {
	case r.TimedOut:
		reason = ErrTimeLimit
	case !r.Crashed:
		return nil
	}
	text := ""
	if complaints := r.Complaints(); len(complaints) > 0 {
		text = "; the kernel's complaints:\n" + strings.Join(complaints[:min(len(complaints), complaintLines)], "\n")
	}
	return fmt.Errorf("%w (after %s)%s; the console's last lines:\n%s",
		reason, r.Elapsed.Round(100*time.Millisecond), text, r.ConsoleTail)
}

// complaints are what the kernel prints when something is wrong with itself.
var complaints = []string{
	"WARNING: ", "BUG: ", "Oops", "Kernel panic", "Internal error", "blocked for more than",
	"possible recursive locking", "rcu_sched", "Assertion failed", "Unable to handle",
}

// Complaints returns the console's lines in which the kernel says that
// something is wrong with itself.
func (r Result) Complaints() []string {
	var found []string
	for line := range strings.Lines(r.Console) {
		for _, complaint := range complaints {
			if strings.Contains(line, complaint) {
				found = append(found, strings.TrimSpace(line))
				break
			}
		}
	}
	return found
}

// bootEnd is in the kernel's last line before it runs the boot script.
const bootEnd = " as init process"

// consoleTail is the end of the console that a report shows.
func consoleTail(console string) string {
	if at := strings.LastIndex(console, bootEnd); at >= 0 {
		console = strings.TrimLeft(console[at+len(bootEnd):], "\r\n")
	}
	return lastLines(console, consoleLines)
}

// Boot boots the lab kernel, runs the job as root in it and powers it off. It
// returns an error only where the job could not be started or ctx ended: a
// job that fails, a kernel that crashes or hangs are results.
//
// Several boots may run at once; all processes of the machine share one slot per
// CPU, so that a boot's time limit means the same on a busy machine. When the
// time limit is over, the kernel is asked where it hangs, which its console then
// shows, and killed with all its processes.
//
// What the job wrote to the host's tree is there when Boot returns. What it left
// mounted is not unmounted.
//
// Errors: [ErrNotBuilt] where labctl kernel has not been run.
func Boot(ctx context.Context, spec BootSpec) (Result, error) {
	kernel, err := KernelPath()
	if err != nil {
		return Result{}, err
	}
	if err := spec.complete(); err != nil {
		return Result{}, fmt.Errorf("boot the lab: %w", err)
	}
	release, err := takeSlot(ctx)
	if err != nil {
		return Result{}, err
	}
	defer release()
	dir, err := os.MkdirTemp("", "scrubd-lab-")
	if err != nil {
		return Result{}, fmt.Errorf("create the boot's directory: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	run, err := newMachine(kernel, dir, spec)
	if err != nil {
		return Result{}, fmt.Errorf("boot the lab: %w", err)
	}
	return run.wait(ctx)
}

// complete fills in defaults and refuses what cannot be booted.
func (s *BootSpec) complete() error {
	if (len(s.Argv) == 0) == (s.Script == "") {
		return errors.New("give either a program or a script")
	}
	if s.MemMiB == 0 {
		s.MemMiB = defaultMemMiB
	}
	if s.CPUs == 0 {
		s.CPUs = defaultCPUs
	}
	if s.Timeout == 0 {
		s.Timeout = defaultTimeout
	}
	if s.Env == nil {
		s.Env = os.Environ()
	}
	if s.Dir == "" {
		dir, err := os.Getwd()
		if err != nil {
			return fmt.Errorf("find the working directory: %w", err)
		}
		s.Dir = dir
	}
	for i, disk := range s.Disks {
		path, err := filepath.Abs(disk)
		if err != nil {
			return fmt.Errorf("find disk %s: %w", disk, err)
		}
		if strings.ContainsAny(path, ", \t\n") {
			return fmt.Errorf("disk %q: its path may hold neither spaces nor commas", path)
		}
		s.Disks[i] = path
	}
	return nil
}
