package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/scrubd/scrubd/internal/lab"
)

// The exit statuses of a job that did not finish, as timeout(1) and the shell
// use them.
const (
	statusTimedOut = 124
	statusCrashed  = 125
)

// bootOptions are the flags of labctl boot.
type bootOptions struct {
	memMiB, cpus int
	timeout      time.Duration
	disks        []string
	newest       bool
	console      bool
}

func newBootCommand() *cobra.Command {
	var options bootOptions
	cmd := &cobra.Command{
		Use:   "boot -- COMMAND [ARGUMENT...]",
		Short: "Run one command in the lab kernel and exit with its status",
		Long: "Boots the lab kernel on the machine's own tree, runs the command there as root in the\n" +
			"current directory, prints what it writes and exits with its status: 124 where the time\n" +
			"limit was over, 125 where the kernel stopped before the command's end.",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return runBoot(cmd, options, args) },
	}
	flags := cmd.Flags()
	flags.IntVar(&options.memMiB, "mem", 0, "memory in MiB (default 1024)")
	flags.IntVar(&options.cpus, "cpus", 0, "CPUs (default 2)")
	flags.DurationVar(&options.timeout, "timeout", 0, "time limit (default 2m)")
	flags.StringArrayVar(&options.disks, "disk", nil, "image to show as /dev/ubda, /dev/ubdb, ...")
	flags.BoolVar(&options.newest, "newest", false, "put the newest xfsprogs first in $PATH")
	flags.BoolVar(&options.console, "console", false, "print the kernel's console to stderr afterwards")
	return cmd
}

func runBoot(cmd *cobra.Command, options bootOptions, args []string) error {
	env := os.Environ()
	if options.newest {
		bin, err := lab.SidBin()
		if err != nil {
			return err
		}
		env = append(env, "PATH="+bin+":"+os.Getenv("PATH"))
	}
	result, err := lab.Boot(cmd.Context(), lab.BootSpec{
		Argv: args, Env: env, Disks: options.disks,
		MemMiB: options.memMiB, CPUs: options.cpus, Timeout: options.timeout,
		Output: cmd.OutOrStdout(),
	})
	if err != nil {
		return err
	}
	if options.console {
		fmt.Fprintln(cmd.ErrOrStderr(), result.Console)
	}
	if err := result.Err(); err != nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "labctl: %v\n", err)
	}
	switch {
	case result.TimedOut:
		return exitStatus(statusTimedOut)
	case result.Crashed:
		return exitStatus(statusCrashed)
	case result.ExitCode != 0:
		return exitStatus(result.ExitCode)
	}
	return nil
}
