package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/scrubd/scrubd/internal/lab"
)

func newKernelCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "kernel",
		Short: "Build the lab's User Mode Linux kernel, where it is not built, and print its path",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := lab.BuildKernel(cmd.Context(), cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), path)
			return err
		},
	}
}
