package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/spf13/cobra"

	"github.com/scrubd/scrubd/internal/lab"
	"github.com/scrubd/scrubd/internal/lab/campaign"
)

// statusMissed is the exit status of labctl campaign where a target was missed.
const statusMissed = 1

// campaignOptions are the flags of labctl campaign.
type campaignOptions struct {
	n             int
	seed          uint64
	kind, scrubd  string
	only, results string
	noPeer, keep  bool
	slots, batch  int
}

func newCampaignCommand() *cobra.Command {
	var options campaignOptions
	cmd := &cobra.Command{
		Use:   "campaign",
		Short: "Damage many filesystems at random; let scrubd and xfs_scrub repair a copy each, and judge",
		Long: "Draws faults by --seed, each on a filesystem of its own, with one filesystem in ten left\n" +
			"undamaged; runs scrubd on one copy and the newest xfs_scrub on another, each in a lab kernel of\n" +
			"its own; compares what every file reads before and after, and prints a table. One JSON line a\n" +
			"case goes to --results as it ends. The exit status is 1 where a target of docs/campaign.md is\n" +
			"missed. --only runs one case, by the name that the lines give it, and prints all of it.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runCampaign(cmd, options) },
	}
	flags := cmd.Flags()
	flags.IntVar(&options.n, "n", 20, "faults")
	flags.Uint64Var(&options.seed, "seed", 1, "draws the faults")
	flags.StringVar(&options.kind, "kind", string(campaign.Single), "single, double (two faults at once) or lost (a write)")
	flags.StringVar(&options.scrubd, "scrubd", "", "the scrubd program (default: build it from this tree)")
	flags.StringVar(&options.only, "only", "", "run this case alone, such as single-1-17")
	flags.StringVar(&options.results, "results", "", "file for one JSON line a case")
	flags.BoolVar(&options.noPeer, "no-peer", false, "leave xfs_scrub out")
	flags.BoolVar(&options.keep, "keep", false, "leave images, reports and consoles in the directory that is printed")
	flags.IntVar(&options.slots, "slots", runtime.NumCPU(), "boots at once")
	flags.IntVar(&options.batch, "batch", 1, "cases in one boot: faster where boots have to wait for each other")
	cmd.AddCommand(&cobra.Command{
		Use: "inside JOB...", Hidden: true, Args: cobra.MinimumNArgs(1),
		Short: "The part that runs inside the lab kernel",
		RunE:  func(_ *cobra.Command, args []string) error { return campaign.Inside(args...) },
	})
	return cmd
}

func runCampaign(cmd *cobra.Command, options campaignOptions) (err error) {
	kind := campaign.Kind(options.kind)
	if !slices.Contains(campaign.Kinds, kind) {
		return fmt.Errorf("there is no kind %q of cases", options.kind)
	}
	cases := campaign.Plan(kind, options.n, options.seed)
	if options.only != "" {
		one, err := campaign.ParseCase(options.only)
		if err != nil {
			return err
		}
		cases = []campaign.Case{one}
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find labctl: %w", err)
	}
	dir, err := os.MkdirTemp("", "scrubd-campaign-")
	if err != nil {
		return fmt.Errorf("make a directory for the images: %w", err)
	}
	if options.keep {
		fmt.Fprintf(cmd.ErrOrStderr(), "campaign: %s\n", dir)
	} else {
		defer func() { _ = os.RemoveAll(dir) }()
	}
	scrubd, err := buildScrubd(cmd, dir, options.scrubd)
	if err != nil {
		return err
	}
	c := &campaign.Campaign{
		Scrubd: scrubd, Inside: []string{self, "campaign", "inside"}, Peer: !options.noPeer,
		Dir: dir, Keep: options.keep, Slots: options.slots, Batch: options.batch, Log: cmd.ErrOrStderr(),
	}
	if options.results != "" {
		f, err := os.Create(options.results)
		if err != nil {
			return fmt.Errorf("make the file of results: %w", err)
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		c.Result = f
	}
	results, err := c.Run(cmd.Context(), cases)
	if err != nil {
		return err
	}
	return sayCampaign(cmd.OutOrStdout(), options, kind, results)
}

// sayCampaign prints the table, or all of a single case.
func sayCampaign(w io.Writer, options campaignOptions, kind campaign.Kind, results []campaign.Result) error {
	if options.only != "" {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		if err := enc.Encode(results[0]); err != nil {
			return err
		}
		if !results[0].Good() {
			return exitStatus(statusMissed)
		}
		return nil
	}
	if err := campaign.Table(w, results); err != nil {
		return err
	}
	missed := campaign.Targets(kind, results)
	for _, m := range missed {
		fmt.Fprintln(w, "target missed: "+m)
	}
	if len(missed) > 0 {
		return exitStatus(statusMissed)
	}
	return nil
}

// buildScrubd returns the program's absolute path, building it where none is named.
func buildScrubd(cmd *cobra.Command, dir, path string) (string, error) {
	if path != "" {
		abs, err := filepath.Abs(path)
		if err == nil {
			_, err = os.Stat(abs)
		}
		if err != nil {
			return "", fmt.Errorf("find scrubd: %w", err)
		}
		return abs, nil
	}
	root, err := lab.RepoRoot()
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, "scrubd")
	build := exec.CommandContext(cmd.Context(), "go", "build", "-trimpath", "-o", path, "./cmd/scrubd")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build scrubd: %w: %s", err, out)
	}
	return path, nil
}
