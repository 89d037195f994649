// Command labctl makes what the test rigs need and runs programs in the lab
// kernel. It serves the Makefile and the curious; the tests use package lab.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// commands are the constructors of every subcommand, one a file.
var commands = []func() *cobra.Command{
	newDepsCommand,
	newKernelCommand,
	newRootCommand,
	newBootCommand,
	newSampleCommand,
	newSnapshotCommand,
	newFaultCommand,
	newDemoCommand,
	newSoakCommand,
	newCampaignCommand,
}

// exitStatus is an error that only sets the exit status: what there was to say
// has been said.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

func main() {
	os.Exit(run())
}

// run is main with its deferred calls, and returns the exit status.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := &cobra.Command{
		Use:           "labctl",
		Short:         "Make and use the lab: a real kernel with online repair, on any machine",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	for _, command := range commands {
		root.AddCommand(command())
	}
	err := root.ExecuteContext(ctx)
	var status exitStatus
	switch {
	case errors.As(err, &status):
		return int(status)
	case err != nil:
		fmt.Fprintf(os.Stderr, "labctl: %v\n", err)
		return 1
	}
	return 0
}
