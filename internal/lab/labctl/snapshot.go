package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/scrubd/scrubd/internal/lab"
)

// statusDiffers is the exit status of labctl snapshot when files differ.
const statusDiffers = 1

func newSnapshotCommand() *cobra.Command {
	var save, compare string
	cmd := &cobra.Command{
		Use:   "snapshot DIR",
		Short: "Read every file of a tree; save what they read, or compare it with an earlier snapshot",
		Long: "Reads names, types, sizes, owners, attributes and all data below DIR. With --compare one\n" +
			"line is printed for each file that reads differently, and the exit status is 1 then.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			now, err := lab.TakeSnapshot(args[0])
			if err != nil {
				return err
			}
			if save != "" {
				if err := saveSnapshot(save, now); err != nil {
					return err
				}
			}
			if compare == "" {
				return nil
			}
			return compareSnapshot(cmd, compare, now)
		},
	}
	cmd.Flags().StringVar(&save, "save", "", "write the snapshot to this file")
	cmd.Flags().StringVar(&compare, "compare", "", "compare with the snapshot in this file")
	cmd.MarkFlagsOneRequired("save", "compare")
	return cmd
}

func saveSnapshot(path string, snap lab.Snapshot) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	err = snap.Save(f)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

func compareSnapshot(cmd *cobra.Command, path string, now lab.Snapshot) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	then, err := lab.LoadSnapshot(f)
	if err != nil {
		return err
	}
	diff := lab.Diff(then, now)
	for _, line := range diff {
		if _, err := fmt.Fprintln(cmd.OutOrStdout(), line); err != nil {
			return err
		}
	}
	if len(diff) > 0 {
		return exitStatus(statusDiffers)
	}
	return nil
}
