package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/scrubd/scrubd/internal/lab"
)

func newRootCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "root",
		Short: "Make the root with the newest xfsprogs, where there is none, and print its path",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := lab.BuildSidRoot(cmd.Context(), cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), path)
			return err
		},
	}
}
