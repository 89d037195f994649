package main

import (
	"github.com/spf13/cobra"

	"github.com/scrubd/scrubd/internal/lab"
)

func newDepsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "deps",
		Short: "Install the Debian packages that the rigs need, where they are missing",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return lab.InstallPackages(cmd.Context(), cmd.ErrOrStderr())
		},
	}
}
