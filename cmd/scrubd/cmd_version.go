package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// buildVersion is set by the Makefile (-ldflags -X) to what git describe says.
var buildVersion string

// version returns the version of this program.
func version() string {
	if buildVersion != "" {
		return buildVersion
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}

func newVersionCommand(std streams) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the version",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			name := fmt.Sprintf("scrubd %s (%s %s/%s)", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			if consistentOutput() {
				name = "scrubd VERSION"
			}
			if _, err := fmt.Fprintln(std.out, name); err != nil {
				return &exitError{status: exitOperational, err: &outputError{Err: err}}
			}
			return nil
		},
	}
}
