package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/scrubd/scrubd/internal/lab"
	"github.com/scrubd/scrubd/internal/lab/soak"
)

const (
	// statusSoakFailed is the exit status where something was not as it should be.
	statusSoakFailed = 1
	// soakMemMiB is the memory of a kernel for each filesystem, images included.
	soakMemMiB = 2560
	// soakSlack is what a boot takes beyond the soak itself: making, checking, a
	// last run that takes long.
	soakSlack = 6 * time.Minute
)

// soakOptions are the flags of labctl soak.
type soakOptions struct {
	geometries []string
	time       time.Duration
	seed       uint64
	scrubd     string
	results    string
	here       bool
	ownKernel  bool
	perBoot    int
	reports    string
}

func newSoakCommand() *cobra.Command {
	var o soakOptions
	cmd := &cobra.Command{
		Use:   "soak",
		Short: "Run scrubd without pause on healthy filesystems under writers of every kind",
		Long: "Makes a filesystem of each geometry, lets writers of every kind change it, and runs scrubd on\n" +
			"it without pause. A finding, a repair or an exit status other than 0 is a false alarm. At the\n" +
			"end xfs_repair -n has to be content and the writers have to find what they wrote. Prints a\n" +
			"table, and everything that should not be; the exit status is 0 where there is nothing.\n\n" +
			"Each geometry has a lab kernel of its own, or this machine's own kernel with --here.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&o.geometries, "geometry", []string{"all"}, "which: all, telling, or names")
	flags.DurationVar(&o.time, "time", 2*time.Minute, "how long each is soaked")
	flags.Uint64Var(&o.seed, "seed", 1, "of the writers")
	flags.StringVar(&o.scrubd, "scrubd", "bin/scrubd", "the scrubd program")
	flags.StringVar(&o.results, "results", "", "append one JSON object for each run to this `FILE`")
	flags.BoolVar(&o.here, "here", false, "soak on this machine's kernel, one after the other")
	flags.IntVar(&o.perBoot, "per-boot", 1, "how many filesystems share a lab kernel at the same time")
	flags.BoolVar(&o.ownKernel, "own-kernel", false, "the machine is there for the soak alone: all together, caches dropped")
	flags.StringVar(&o.reports, "reports", "", "write the reports to this `FILE` instead of a table")
	for _, hidden := range []string{"own-kernel", "reports"} {
		_ = flags.MarkHidden(hidden)
	}
	return cmd
}

func (o *soakOptions) run(cmd *cobra.Command) error {
	list, err := soak.Geometries(o.geometries...)
	if err != nil {
		return err
	}
	for _, path := range []*string{&o.scrubd, &o.results} {
		if *path == "" {
			continue
		}
		if *path, err = filepath.Abs(*path); err != nil {
			return err
		}
	}
	if _, err := os.Stat(o.scrubd); err != nil {
		return fmt.Errorf("find scrubd (make build): %w", err)
	}
	var reports []soak.Report
	switch {
	case o.ownKernel:
		reports, err = o.soakHere(cmd.Context(), list, cmd.OutOrStdout())
	case o.here:
		for _, g := range list {
			more, err := o.soakHere(cmd.Context(), []soak.Geometry{g}, cmd.OutOrStdout())
			if err != nil {
				// This kernel cannot mount it, say: the others are not to blame.
				more = []soak.Report{{Geometry: g.Name, Wrong: []string{err.Error()}}}
			}
			reports = append(reports, more...)
		}
	default:
		reports, err = o.soakInLab(cmd.Context(), list, cmd.OutOrStdout())
	}
	if err != nil {
		return err
	}
	if o.reports != "" {
		text, err := json.Marshal(reports)
		if err != nil {
			return err
		}
		return os.WriteFile(o.reports, text, 0o600)
	}
	if err := soak.PrintTable(cmd.OutOrStdout(), reports); err != nil {
		return err
	}
	if !soak.Well(reports) {
		return exitStatus(statusSoakFailed)
	}
	return nil
}

// soakHere soaks on the running kernel.
func (o *soakOptions) soakHere(ctx context.Context, list []soak.Geometry, log io.Writer) (reports []soak.Report, err error) {
	c := soak.Config{Scrubd: o.scrubd, Geometries: list, Time: o.time, Seed: o.seed, OwnKernel: o.ownKernel, Log: log}
	if o.results != "" {
		file, err := os.OpenFile(o.results, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		c.Results = file
	}
	return soak.Run(ctx, c)
}

// soakInLab boots a kernel for so many geometries at a time; as many kernels run
// at once as the lab has slots.
func (o *soakOptions) soakInLab(ctx context.Context, list []soak.Geometry, log io.Writer) (reports []soak.Report, rerr error) {
	dir, err := os.MkdirTemp("", "scrubd-soak-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	reports = make([]soak.Report, len(list))
	group, ctx := errgroup.WithContext(ctx)
	if o.results != "" {
		// Two kernels cannot append to one file of the host: each has its own.
		defer func() { rerr = errors.Join(rerr, joinResults(dir, o.results)) }()
	}
	for at := 0; at < len(list); at += o.perBoot {
		part := reports[at:min(at+o.perBoot, len(list))]
		var names []string
		for _, g := range list[at : at+len(part)] {
			names = append(names, g.Name)
		}
		group.Go(func() error {
			out := filepath.Join(dir, strconv.Itoa(at)+".json")
			argv := []string{
				self, "soak", "--own-kernel", "--scrubd", o.scrubd, "--reports", out,
				"--geometry", strings.Join(names, ","), "--time", o.time.String(), "--seed", strconv.FormatUint(o.seed, 10),
			}
			if o.results != "" {
				argv = append(argv, "--results", out+resultsSuffix)
			}
			result, err := lab.Boot(ctx, lab.BootSpec{
				Argv: argv, MemMiB: soakMemMiB * len(names), Timeout: o.time + soakSlack, Output: log,
			})
			if err != nil {
				return err
			}
			return takeReports(out, names, result, part)
		})
	}
	return reports, group.Wait()
}

// resultsSuffix is of the files with a boot's runs.
const resultsSuffix = ".runs"

// joinResults appends what every boot has written to one file.
func joinResults(dir, to string) error {
	parts, err := filepath.Glob(filepath.Join(dir, "*"+resultsSuffix))
	if err != nil {
		return err
	}
	all, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	var errs []error
	for _, part := range parts {
		text, err := os.ReadFile(part)
		if err == nil {
			_, err = all.Write(text)
		}
		errs = append(errs, err)
	}
	return errors.Join(append(errs, all.Close())...)
}

// takeReports reads what a boot has left. Where it left nothing the kernel is lost.
func takeReports(path string, names []string, result lab.Result, to []soak.Report) error {
	for i, name := range names {
		to[i].Geometry = name
	}
	text, err := os.ReadFile(path)
	if err == nil {
		var have []soak.Report
		if err := json.Unmarshal(text, &have); err != nil {
			return fmt.Errorf("read the reports of a boot: %w", err)
		}
		copy(to, have)
	}
	if lost := result.Err(); lost != nil {
		err = lost
	}
	for i := range to {
		if err != nil {
			to[i].Wrong = append(to[i].Wrong, fmt.Sprintf("exit status %d: %v\n%s", result.ExitCode, err, result.ConsoleTail))
		}
	}
	return nil
}
