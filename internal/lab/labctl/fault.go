package main

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/internal/lab"
	"github.com/scrubd/scrubd/ioctl"
)

// faultOptions are the flags of labctl fault.
type faultOptions struct {
	class, image, live, path string
	seed, ino, owner         uint64
	agno, agbno              uint32
	delta                    int64
	both, list, json         bool
}

func newFaultCommand() *cobra.Command {
	var options faultOptions
	cmd := &cobra.Command{
		Use:   "fault --image IMG --class CLASS",
		Short: "Damage one piece of metadata of an XFS image, with a good checksum",
		Long: "Does one damage to an image that is not mounted, or with --live below a mounted one,\n" +
			"and prints exactly what it has changed. Without further flags the victim is drawn by\n" +
			"--seed from everything that fits; --list names the classes.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if options.list {
				return listFaults(cmd)
			}
			return runFault(cmd, options)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&options.image, "image", "", "the image")
	flags.StringVar(&options.class, "class", "", "what to damage")
	flags.StringVar(&options.live, "live", "", "the image is mounted on this directory: freeze, edit, thaw, drop caches")
	flags.StringVar(&options.path, "path", "", "a file on the mounted filesystem whose metadata to damage")
	flags.Uint64Var(&options.seed, "seed", 0, "draws the victim")
	flags.Uint64Var(&options.ino, "ino", 0, "inode whose metadata to damage")
	flags.Uint32Var(&options.agno, "agno", 0, "allocation group to damage")
	flags.Uint32Var(&options.agbno, "agbno", 0, "block that the damaged record covers")
	flags.Int64Var(&options.delta, "delta", 0, "how far a start, length, offset or counter moves")
	flags.Uint64Var(&options.owner, "owner", 0, "the wrong owner of an rmap record")
	flags.BoolVar(&options.both, "both", false, "free space: damage bnobt and cntbt alike and adapt the counters")
	flags.BoolVar(&options.list, "list", false, "name the classes and exit")
	flags.BoolVar(&options.json, "json", false, "print the damage as JSON")
	return cmd
}

func listFaults(cmd *cobra.Command) error {
	for _, class := range slices.Concat(lab.FaultClasses(), lab.RandomFaultClasses()) {
		if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%-20s %s\n", class, class.Summary()); err != nil {
			return err
		}
	}
	return nil
}

func runFault(cmd *cobra.Command, options faultOptions) error {
	if options.image == "" || options.class == "" {
		return fmt.Errorf("name --image and --class")
	}
	fault := lab.Fault{
		Class: lab.FaultClass(options.class), Seed: options.seed, Ino: ioctl.Ino(options.ino),
		Delta: options.delta, Owner: options.owner, Both: options.both,
	}
	// Group 0 and block 0 are choices too.
	if cmd.Flags().Changed("agno") {
		agno := ioctl.AGNumber(options.agno)
		fault.AGNo = &agno
	}
	if cmd.Flags().Changed("agbno") {
		agbno := ioctl.AGBlock(options.agbno)
		fault.AGBno = &agbno
	}
	if options.path != "" {
		var st unix.Stat_t
		if err := unix.Lstat(options.path, &st); err != nil {
			return fmt.Errorf("find the inode of %s: %w", options.path, err)
		}
		fault.Ino = ioctl.Ino(st.Ino)
	}
	done, err := injectFault(options, fault)
	if err != nil {
		return err
	}
	if options.json {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(done)
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), done.Describe())
	return err
}

func injectFault(options faultOptions, fault lab.Fault) (lab.Injected, error) {
	if options.live == "" {
		return lab.InjectImage(options.image, fault)
	}
	fs, err := lab.AdoptLoopFS(options.image, options.live)
	if err != nil {
		return lab.Injected{}, err
	}
	return lab.InjectLive(fs, fault)
}
