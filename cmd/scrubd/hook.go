package main

import (
	"context"
	"io"
	"os"
	"os/exec"
	"strings"
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
		// A child of the command may hold the output open after it is gone.
		cmd.WaitDelay = 5 * time.Second
		if err := cmd.Run(); err != nil {
			return &vetoError{Command: command, Err: err}
		}
		return nil
	}
}
