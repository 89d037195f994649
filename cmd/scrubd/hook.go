package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// beforeRepair returns what asks a command of the user before the first
// repair: the plan goes to its standard input, a step a line, and any status
// but 0 is a veto. What it prints goes to standard error.
func beforeRepair(command string, t *target, out io.Writer) func(context.Context, []string) error {
	return func(ctx context.Context, plan []string) error {
		var stdin strings.Builder
		for _, step := range plan {
			stdin.WriteString(oneLine(step) + "\n")
		}
		cmd := exec.CommandContext(ctx, "/bin/sh", "-c", command)
		cmd.Stdin = strings.NewReader(stdin.String())
		cmd.Stdout, cmd.Stderr = out, out
		cmd.Env = append(os.Environ(), "SCRUBD_MOUNT_POINT="+t.MountPoint, "SCRUBD_DEVICE="+t.Device)
		// It is a group of its own: a signal from the terminal is for the run, which
		// tells all of the group.
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
		// A child of the command may hold the output open after it is gone.
		cmd.WaitDelay = grace / 2
		err := cmd.Run()
		if err == nil {
			return nil
		}
		if bySignal(err) {
			// A signal to the whole group, from a terminal or a service manager, is for
			// the run as well, and may reach the command first: then it is no veto.
			select {
			case <-ctx.Done():
			case <-time.After(signalGrace):
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return &vetoError{Command: command, Err: err}
	}
}

// signalGrace is how long after the end of a command its signal may take to reach
// the run as well.
const signalGrace = 2 * time.Second

// bySignal tells whether a command was ended by a signal, itself or what its shell
// ran last.
func bySignal(err error) bool {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && (status.Signaled() || status.ExitStatus() > 128)
}
