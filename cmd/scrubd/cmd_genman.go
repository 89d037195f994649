package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// newGenManCommand writes the manual pages. It is hidden: `make install` and
// packagers call it.
func newGenManCommand(std streams) *cobra.Command {
	return &cobra.Command{
		Use:    "gen-man DIR",
		Short:  "Write the manual pages to a directory",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return &exitError{status: exitOperational, err: err}
			}
			root := cmd.Root()
			root.DisableAutoGenTag = true // the same source gives the same pages
			header := &doc.GenManHeader{Section: "8", Source: "scrubd " + version(), Manual: "System Administration"}
			if err := doc.GenManTree(root, header, args[0]); err != nil {
				return &exitError{status: exitOperational, err: fmt.Errorf("write manual pages: %w", err)}
			}
			for _, p := range pages() {
				if err := p.write(args[0]); err != nil {
					return operational(err)
				}
			}
			_, _ = fmt.Fprintf(std.err, "scrubd: manual pages are in %s\n", args[0])
			return nil
		},
	}
}
