package main

import (
	"io"
	"os"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
)

const exitStatusHelp = `Exit status, the sum of:
  0  all that this kernel and filesystem allow to check was checked and is
     well, also when everything was repaired
  1  corruption is left
  2  optimization is possible, or warnings are left
  4  the check could not be done or finished
  8  the command line is wrong`

// newRootCommand returns the command with all that hang below it.
func newRootCommand(std streams) *cobra.Command {
	root := &cobra.Command{
		Use:   "scrubd",
		Short: "Check and repair the space metadata of mounted XFS filesystems",
		Long: `scrubd proves that the space metadata of a mounted XFS filesystem tells the
truth. Where two structures disagree it decides which of them is wrong, has the
kernel rebuild that one, and proves the result. No file reads differently than
before; where the evidence does not allow that, scrubd holds and says what a
person can decide.

` + exitStatusHelp,
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := cmd.Help(); err != nil {
				return &exitError{status: exitOperational, err: &outputError{Err: err}}
			}
			return nil
		},
	}
	root.SetIn(std.in)
	root.SetOut(std.out)
	root.SetErr(std.err)
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(newRunCommand(std), newRepairCommand(std), newProbeCommand(std), newVersionCommand(std), newGenManCommand(std),
		newGenShellsCommand(std),
		newUnitsCommand(std), newConfigCommand(std), newDaemonCommand(std), newDueCommand(std),
		newThawCommand(std), newTryThawedCommand(), newFreezerCommand())
	root.AddCommand(newControlCommands(std)...)
	return root
}

// consistentOutput tells whether reports leave out all that differs between
// two runs on the same filesystem: golden tests compare them byte by byte.
func consistentOutput() bool { return os.Getenv("SCRUBD_CONSISTENT_OUTPUT") != "" }

// newLogger returns the logger of a command: text on standard error, warnings
// only unless the user wants to hear more.
func newLogger(w io.Writer, verbose bool) *logrus.Logger {
	log := logrus.New()
	log.SetOutput(w)
	log.SetFormatter(&logrus.TextFormatter{
		DisableColors: true, FullTimestamp: true, TimestampFormat: time.RFC3339,
		DisableTimestamp: consistentOutput(),
	})
	log.SetLevel(logrus.WarnLevel)
	if verbose {
		log.SetLevel(logrus.InfoLevel)
	}
	return log
}
