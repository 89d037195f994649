package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/scrubd/scrubd/service/config"
)

// configFlag adds the flag that names another configuration.
func configFlag(cmd *cobra.Command, path *string) {
	cmd.Flags().StringVar(path, "config", config.Path, "read the configuration in `FILE` and FILE.d/*.toml")
}

func newConfigCommand(std streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Check the configuration of the service",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var path string
	check := &cobra.Command{
		Use:   "check",
		Short: "Say what is wrong with the configuration, with file and line",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if _, err := config.Load(path); err != nil {
				return operational(err)
			}
			if _, err := fmt.Fprintf(std.out, "%s: good\n", printable(path)); err != nil {
				return operational(&outputError{Err: err})
			}
			return nil
		},
	}
	configFlag(check, &path)
	cmd.AddCommand(check)
	return cmd
}
