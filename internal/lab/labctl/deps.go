package main

import (
	"github.com/spf13/cobra"

	"github.com/scrubd/scrubd/internal/lab"
)

func newDepsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "deps",
		Short: "Install the Debian packages that the rigs need, where they are missing, and get promtool and fio",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := lab.InstallPackages(cmd.Context(), cmd.ErrOrStderr()); err != nil {
				return err
			}
			// The rigs work without it; its tests say that it is missing.
			if _, err := lab.BuildPromtool(cmd.Context(), cmd.ErrOrStderr()); err != nil {
				cmd.PrintErrf("labctl: %v; tests that need promtool are skipped\n", err)
			}
			if _, err := lab.BuildFio(cmd.Context(), cmd.ErrOrStderr()); err != nil {
				cmd.PrintErrf("labctl: %v; the benchmark that needs fio is skipped\n", err)
			}
			return nil
		},
	}
}
