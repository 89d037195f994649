package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub"
)

// repairOptions are the flags of scrubd repair; what it has in common with a
// run is in runOptions.
type repairOptions struct {
	runOptions
	finding, trust string
	yes, dryRun    bool
	// asks tells whether somebody can be asked.
	asks func(std streams) bool
}

func newRepairCommand(std streams) *cobra.Command {
	o := &repairOptions{
		runOptions: runOptions{mounts: systemMounts(), open: ioctl.Open, thawed: waitThawed, engine: scrub.Run},
		asks:       canAsk,
	}
	cmd := &cobra.Command{
		Use:   "repair PATH --finding ID --trust fork|rmap",
		Short: "Carry out what a person decided about a held finding",
		Long: `repair carries out one of the ways out that a run named for a finding that it
held, and nothing else. It checks the filesystem anew: the same finding has to
be there again, confirmed, and nothing but what is decided here may stand
against the repair. Then it shows what will be done and what will be lost, and
asks. Without a terminal to ask on it stops there, unless --yes is given.

  --trust rmap  the file gets back the blocks that only the rmapbt still gives it
  --trust fork  the blocks are freed, and the data in them is lost for good

The filesystem's autofsck property does not bind it: it is a person's decision.
Evidence, intents, --before-repair and the proof afterwards are those of a run.

` + exitStatusHelp + `

A decision that was refused is 4; one that was not confirmed leaves the
corruption, 1.`,
		Example: `  scrubd run --now -n /data                              name the held findings and their IDs
  scrubd repair /data --finding 1a2b3c4d --trust rmap    show what it comes to, and ask
  scrubd repair /data --finding 1a2b3c4d --trust rmap --yes --json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageErrorf("repair: name one mount point")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return runRepair(cmd.Context(), o, args[0], std)
		},
	}
	cmd.ValidArgsFunction = completeMounts(1)
	flags := cmd.Flags()
	flags.StringVar(&o.finding, "finding", "", "the `ID` of the held finding")
	flags.StringVar(&o.trust, "trust", "", "the `WITNESS` to believe: fork or rmap")
	flags.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	flags.BoolVarP(&o.dryRun, "dry-run", "n", false, "only show what it comes to")
	flags.IntVar(&o.workers, "workers", 0, "run `N` workers in parallel (0: one a CPU)")
	flags.StringVar(&o.stateDir, "state-dir", "", "save evidence and intents in `DIR` (default /var/lib/scrubd)")
	flags.StringVar(&o.spillDir, "spill-dir", "", "keep records that memory has no room for in `DIR`, on another filesystem")
	flags.StringVar(&o.beforeRepair, "before-repair", "",
		"run the shell command `CMD` before the repair, with the plan on its standard input; any status but 0 is a veto")
	addPatienceFlag(flags, &o.patience)
	flags.BoolVar(&o.json, "json", false, "report one JSON object a line (see docs/json.md)")
	flags.BoolVar(&o.noProgress, "no-progress", false, "show no progress (SIGUSR1 still does)")
	flags.BoolVarP(&o.verbose, "verbose", "v", false, "say more on standard error")
	cmd.MarkFlagsMutuallyExclusive("yes", "dry-run")
	return cmd
}

// runRepair carries out the decision on one filesystem.
func runRepair(ctx context.Context, o *repairOptions, path string, std streams) error {
	switch {
	case o.finding == "":
		return usageErrorf("repair: name the finding with --finding")
	case o.trust != scrub.TrustFork && o.trust != scrub.TrustRmap:
		return usageErrorf("repair: --trust is fork or rmap, not %q", o.trust)
	case o.workers < 0:
		return usageErrorf("--workers: %d is less than 0", o.workers)
	}
	o.choice = &scrub.Choice{FindingID: o.finding, Trust: o.trust, Confirm: o.confirm(std)}
	term := newTerminal(std.err)
	ctx, signals := watchInterrupts(ctx, func(s string) { _, _ = fmt.Fprintf(term, "scrubd: %s\n", s) })
	defer signals.close()
	status := 0
	t, err := o.mounts.find(path)
	if err != nil {
		status = o.refuse(std.out, &target{Path: path, MountPoint: path}, err, term)
	} else {
		status, err = o.one(ctx, t, signals, std.out, term)
		if err != nil {
			complain(term, err)
		}
	}
	if status != 0 {
		return &exitError{status: status, reported: true}
	}
	return nil
}

// confirm asks for the word that lets the repair go on.
func (o *repairOptions) confirm(std streams) func(context.Context, *scrub.Plan) error {
	return func(ctx context.Context, plan *scrub.Plan) error {
		switch {
		case o.dryRun:
			return errors.New("this was a dry run")
		case o.yes:
			return nil
		case !o.asks(std):
			return errors.New("nobody was there to confirm it; --yes goes without")
		}
		_, _ = fmt.Fprintf(std.err, "\n%s\nType yes to go on: ", oneLine(price(plan)))
		line := make(chan string, 1)
		go func() { // a read cannot be called off; the process ends soon
			text, _ := bufio.NewReader(std.in).ReadString('\n')
			line <- strings.TrimSpace(text)
		}()
		select {
		case text := <-line:
			if text == "yes" {
				return nil
			}
			return fmt.Errorf("it was not confirmed (%q is not yes)", text)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// canAsk tells whether there is a person at both ends.
func canAsk(std streams) bool {
	isTerminal := func(v any) bool {
		file, ok := v.(*os.File)
		return ok && terminalWidth(file) > 0
	}
	return isTerminal(std.in) && isTerminal(std.err)
}

// price says in one sentence what a plan costs or brings.
func price(plan *scrub.Plan) string {
	extents, what := plan.Restored, "the file gets back"
	if plan.Trust == scrub.TrustFork {
		extents, what = plan.Freed, "LOST FOR GOOD, freed with the data in them:"
	}
	blocks := scrub.Blocks(extents)
	return fmt.Sprintf("%s %s (%s bytes): %s", what, plural(blocks, "block"),
		comma(blocks*uint64(plan.BlockBytes)), where(&scrub.Finding{Extents: extents, Files: plan.Finding.Files}))
}

// plan prints what a decision comes to.
func (r *textReporter) plan(plan *scrub.Plan) {
	r.line("")
	r.line("finding: %s", plan.Finding.Summary)
	r.line("decision: trust the %s: %s", plan.Trust, price(plan))
	r.line("repairs: %s", strings.Join(plan.Repairs, "; "))
	if plan.Trust == scrub.TrustFork {
		r.line("before: a copy of these blocks goes to the evidence, where the device can be read")
	}
}
