package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/scrubd/scrubd/service/daemon"
	"github.com/scrubd/scrubd/systemd"
)

// newGenShellsCommand writes what shells complete the command with, below a
// directory as they lie below share/. It is hidden, as gen-man is.
func newGenShellsCommand(std streams) *cobra.Command {
	return &cobra.Command{
		Use:    "gen-shells DIR",
		Short:  "Write the completions of shells to a directory",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			for _, shell := range []struct {
				name  string
				write func(string) error
			}{
				{"bash-completion/completions/scrubd", func(name string) error { return root.GenBashCompletionFileV2(name, true) }},
				{"zsh/site-functions/_scrubd", root.GenZshCompletionFile},
				{"fish/vendor_completions.d/scrubd.fish", func(name string) error { return root.GenFishCompletionFile(name, true) }},
			} {
				name := filepath.Join(args[0], shell.name)
				err := os.MkdirAll(filepath.Dir(name), 0o755)
				if err == nil {
					err = shell.write(name)
				}
				if err != nil {
					return operational(fmt.Errorf("write completions: %w", err))
				}
			}
			_, _ = fmt.Fprintf(std.err, "scrubd: completions are in %s\n", args[0])
			return nil
		},
	}
}

// completeMounts completes the mount points of XFS filesystems. At most most of
// them can be given; 0 means any number.
func completeMounts(most int) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		mounts, err := daemon.ReadMounts()
		if err != nil || most > 0 && len(args) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var list []cobra.Completion
		for i := range mounts {
			list = append(list, cobra.CompletionWithDesc(mounts[i].Point, mounts[i].Source))
		}
		return list, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeUnits completes names of units.
func completeUnits(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	files, err := systemd.Files("/scrubd")
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var list []cobra.Completion
	for i := range files {
		list = append(list, files[i].Base())
	}
	return list, cobra.ShellCompDirectiveNoFileComp
}
