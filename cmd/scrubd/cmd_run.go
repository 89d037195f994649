package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub"
	"github.com/scrubd/scrubd/scrub/freeze"
	"github.com/scrubd/scrubd/service/config"
	"github.com/scrubd/scrubd/service/daemon"
)

// runOptions are the flags of scrubd run, and what a test replaces.
type runOptions struct {
	now                     bool
	check, optimize, repair bool
	ignoreAutofsck          bool
	acceptLoss              bool
	require                 []string
	workers                 int
	stateDir, spillDir      string
	noLive                  bool
	beforeRepair            string
	freeze                  time.Duration
	json, noProgress        bool
	verbose                 bool
	choice                  *scrub.Choice // of scrubd repair
	places                  placeFlags
	patience                time.Duration
	service                 bool
	socket, config          string
	background, foreground  bool
	record                  bool // keep a record of each run
	resume, noResume        bool

	unit   *unitRun // with service
	mounts mountTable
	open   func(path string) (*ioctl.FS, error)
	thawed func(ctx context.Context, mountPoint string, say func(string)) error
	engine engine
}

// defaultFreeze is how long a freeze may last when only the flag is given.
const defaultFreeze = 500 * time.Millisecond

// requirable are the parts of the coverage that --require can name.
var requirable = []string{"kernel-scrub", "repair", "rmapbt"}

func (o *runOptions) addFlags(flags *pflag.FlagSet) {
	flags.BoolVar(&o.now, "now", false, "run in the foreground, now")
	flags.BoolVarP(&o.check, "check", "n", false, "check only; change nothing")
	flags.BoolVar(&o.optimize, "optimize", false, "check, and optimize what is legal but could be better")
	flags.BoolVar(&o.repair, "repair", false, "check, optimize and repair")
	flags.BoolVar(&o.ignoreAutofsck, "ignore-autofsck", false,
		"go beyond what the filesystem's autofsck property allows")
	flags.BoolVar(&o.acceptLoss, "accept-loss", false,
		"allow repairs that salvage: names, attributes or a link target can get lost, and files move to lost+found")
	flags.StringSliceVar(&o.require, "require", nil,
		"do not start without these `PARTS` of the check: "+strings.Join(requirable, ","))
	flags.IntVar(&o.workers, "workers", 0, "run `N` workers in parallel (0: one a CPU, in the background one for four)")
	flags.StringVar(&o.stateDir, "state-dir", "",
		"keep records, and evidence of repairs, in `DIR` (default /var/lib/scrubd)")
	flags.StringVar(&o.spillDir, "spill-dir", "",
		"keep records that memory has no room for in `DIR`, on another filesystem")
	flags.BoolVar(&o.noLive, "no-live", false,
		"do not follow what writers change meanwhile; the result is the same")
	flags.StringVar(&o.beforeRepair, "before-repair", "",
		"run the shell command `CMD` before the first repair, with the plan on its standard input; "+
			"any status but 0 is a veto")
	addPatienceFlag(flags, &o.patience)
	flags.DurationVar(&o.freeze, "freeze", 0,
		fmt.Sprintf("stop all writers for up to `TIME` (%s if none is given, at most %s) to look at what cannot be settled otherwise",
			defaultFreeze, freeze.MaxLimit))
	flags.Lookup("freeze").NoOptDefVal = defaultFreeze.String()
	o.addPolicyFlags(flags)
	flags.BoolVar(&o.resume, "resume", false,
		"leave out what the kernel had found well when an earlier run was stopped (with --service the default)")
	flags.BoolVar(&o.noResume, "no-resume", false, "check everything anew (without --service the default)")
	flags.BoolVar(&o.json, "json", false, "report one JSON object a line (see docs/json.md)")
	flags.BoolVar(&o.noProgress, "no-progress", false, "show no progress (SIGUSR1 still does)")
	flags.BoolVarP(&o.verbose, "verbose", "v", false, "say more on standard error")
	flags.BoolVar(&o.service, "service", false,
		"report to the service manager, the journal and the state directory, not to standard output")
	flags.StringVar(&o.socket, "socket", daemon.Socket, "ask the daemon at `PATH`; with --now, tell it of the run")
	o.places.add(flags)
}

// addPatienceFlag adds what a run and a repair have in common for standing back.
func addPatienceFlag(flags *pflag.FlagSet, patience *time.Duration) {
	flags.DurationVar(patience, "wait", 10*time.Minute,
		"wait that long for xfs_scrub and the like to be done with the filesystem")
}

func newRunCommand(std streams) *cobra.Command {
	o := &runOptions{mounts: systemMounts(), open: ioctl.Open, thawed: waitThawed, engine: scrub.Run, config: config.Path, record: true}
	cmd := &cobra.Command{
		Use:   "run [--now] PATH...",
		Short: "Check mounted XFS filesystems, and repair what is decided",
		Long: `run checks each mounted XFS filesystem whose mount point is given, one after
the other.

Without --check, --optimize or --repair it does what the filesystem's autofsck
property allows; when that is unset, it repairs. The property is a ceiling for
the flags too, unless --ignore-autofsck is given. Only decisive verdicts are
repaired: what could lose data, or free blocks that nobody else calls free, is
held and explained.

With --agno or --inode only the kernel's own check of these places is made, and
nothing is repaired: what is at fault, only a run over all of it can tell.

Without --now the daemon is asked to run soon, by itself as a unit of systemd. A
run with --now needs no daemon; where there is one, it knows of the run: its
history and status have it, it counts for the period, and pause and cancel end it.

With --background it uses a quarter of the CPUs at most, at a low priority, and rests
between its steps while others use the filesystem's disks, or wait for the CPUs or
memory. At worst that takes twenty times as long as with one worker that never rests
(--workers 1 --foreground). Once something is wrong it rests no
more, and never between confirming a fault and the proof of its repair.

SIGINT and SIGTERM stop it between two kernel calls; SIGUSR1 shows how far it is.
How far the kernel's checks had come is kept in the state directory, and a run with
--resume goes on from there; forks and rmapbts it reads and compares anew. If it
finds anything, it checks everything anew before it decides or repairs.

` + exitStatusHelp,
		Example: `  scrubd run --now -n /data          check /data, change nothing
  scrubd run --now /data /srv        check and repair
  scrubd run --now --json / | jq .   for programs`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageErrorf("run: name at least one mount point")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := onlyWithNow(cmd.Flags(), o.now); err != nil {
				return err
			}
			return runRun(cmd.Context(), o, args, std)
		},
	}
	o.addFlags(cmd.Flags())
	cmd.ValidArgsFunction = completeMounts(0)
	cmd.MarkFlagsMutuallyExclusive("check", "optimize", "repair")
	cmd.MarkFlagsMutuallyExclusive("background", "foreground")
	cmd.MarkFlagsMutuallyExclusive("resume", "no-resume")
	cmd.MarkFlagsMutuallyExclusive("check", "accept-loss")
	cmd.MarkFlagsMutuallyExclusive("optimize", "accept-loss")
	markPlacesCheckOnly(cmd)
	return cmd
}

// validate refuses what no run could act on.
func (o *runOptions) validate() error {
	for _, part := range o.require {
		if !slices.Contains(requirable, part) {
			return usageErrorf("--require: %q is none of %s", part, strings.Join(requirable, ", "))
		}
	}
	if err := o.places.parse(); err != nil {
		return err
	}
	if o.workers < 0 {
		return usageErrorf("--workers: %d is less than 0", o.workers)
	}
	if o.freeze < 0 || o.freeze > freeze.MaxLimit {
		return usageErrorf("--freeze: %s is not between 0 and %s", o.freeze, freeze.MaxLimit)
	}
	return nil
}

func (o *runOptions) mode() scrub.Mode {
	switch {
	case o.check:
		return scrub.ModeCheck
	case o.optimize:
		return scrub.ModeOptimize
	case o.repair:
		return scrub.ModeRepair
	default:
		return 0 // what the property allows
	}
}

// runRun runs over every path and adds the statuses up.
func runRun(ctx context.Context, o *runOptions, paths []string, std streams) error {
	if err := o.validate(); err != nil {
		return err
	}
	if !o.now {
		return queueRuns(ctx, o.socket, paths)
	}
	if o.service {
		o.unit = newUnitRun(stateDirOf(o.stateDir), std.err)
		std.err = io.Discard // all that a unit has to say goes to its log
	}
	term := newTerminal(std.err)
	ctx, signals := watchInterrupts(ctx, func(s string) { _, _ = fmt.Fprintf(term, "scrubd: %s\n", s) })
	defer signals.close()
	if o.unit != nil {
		defer o.unit.begin(ctx)()
	}

	status := 0
	seen := map[[2]int]string{} // device to the path that had it first
	for _, path := range paths {
		if err := ctx.Err(); err != nil {
			complain(term, fmt.Errorf("%s: not checked: %w", printable(path), context.Cause(ctx)))
			status |= exitOperational
			continue
		}
		t, err := o.mounts.find(path)
		if err != nil {
			status |= o.refuse(std.out, &target{Path: path, MountPoint: path}, err, term)
			continue
		}
		dev := [2]int{t.Major, t.Minor}
		if first, ok := seen[dev]; ok {
			_, _ = fmt.Fprintf(term, "scrubd: %s: the same filesystem as %s, checked once\n",
				printable(path), printable(first))
			continue
		}
		seen[dev] = path
		s, err := o.one(ctx, t, signals, std.out, term)
		status |= s
		if err != nil {
			complain(term, err)
		}
	}
	o.writeMetrics(ctx, term)
	if o.unit != nil {
		status = unitStatus(ctx, status, o.unit.skipped)
	}
	if status != 0 {
		return &exitError{status: status, reported: true}
	}
	return nil
}

// refuse reports a path that no run can start on.
func (o *runOptions) refuse(out io.Writer, t *target, err error, term *terminal) int {
	switch {
	case o.unit != nil:
		o.unit.reporter(t).end(nil, exitOperational, err)
	case o.json:
		newJSONReporter(out, t.Path, false, consistentOutput()).end(nil, exitOperational, err)
	}
	complain(term, err)
	return exitOperational
}

// one runs over one filesystem.
func (o *runOptions) one(ctx context.Context, t *target, signals *interrupts, out io.Writer, term *terminal) (int, error) {
	say := func(s string) { _, _ = fmt.Fprintf(term, "scrubd: %s\n", oneLine(s)) }
	o.thawStale(t, say)
	if err := o.thawed(ctx, t.MountPoint, say); err != nil {
		return o.refuse(out, t, err, term), nil
	}
	fs, release, err := o.openTarget(t)
	if err != nil {
		return o.refuse(out, t, err, term), nil
	}
	defer release()

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	prog := newProgress(term, printable(t.MountPoint), o.progressMode(term))
	signals.onUSR1(prog.print)
	defer signals.onUSR1(nil)

	s := &session{prog: prog, cancel: cancel, grace: grace}
	switch {
	case o.unit != nil:
		s.rep, s.late = o.unit.reporter(t), o.unit.late
	case o.json:
		s.rep = newJSONReporter(out, t.MountPoint, !o.noProgress, consistentOutput())
	default:
		s.rep = newTextReporter(out, *t, consistentOutput())
		s.onStart = func(e *scrub.StartEvent) {
			for _, g := range gaps(e.Coverage, fs.Geometry(), t, o.mode()) {
				prog.say("%s: %s", prog.path, g)
			}
		}
	}
	if o.record && o.unit == nil && o.choice == nil {
		s.rep = both{s.rep, o.recorder(t, say)}
	}
	if o.unit == nil { // the daemon sees units without being told
		attend(ctx, o.socket, t.MountPoint, cancel)
	}
	pace := o.pace(t, fs, say)
	if pace != nil && o.unit == nil { // a unit has its priority from systemd
		if err := lowerPriority(); err != nil {
			say(fmt.Sprintf("this run competes with others for CPUs and disks as any program does: %v", err))
		}
	}
	so := o.scrubOptions(t, term)
	so.Throttle = pace
	if o.freeze > 0 && !t.ReadOnly { // nobody writes to a read-only one
		f := &freezer{target: t, fs: fs, limit: o.freeze, quiet: hush(s, term)}
		defer f.close()
		so.Freeze = f.frozen
	}
	go o.mounts.watch(ctx, t.MountID, func() { cancel(&unmountedError{Path: t.Path}) })
	return s.run(ctx, signals.hurry, fs, so, o.engine)
}

// recorder keeps the record of a run that is no unit.
func (o *runOptions) recorder(t *target, say func(string)) *recorder {
	r := newRecorder(stateDirOf(o.stateDir), t, triggerPerson)
	r.sparing = o.check
	r.say = func(_ error, text string) { say(text) }
	return r
}

// thawStale ends a freeze of an earlier run that was killed together with its
// supervisor: this run would wait for that for ever.
func (o *runOptions) thawStale(t *target, say func(string)) {
	stale, err := freeze.ThawStale(freeze.Dir, openMarked)
	for i := range stale {
		if stale[i].Thawed {
			say(printable(stale[i].MountPoint) + ": thawed; an earlier run had left it frozen")
		}
		if left := stale[i].Left; left != nil {
			say(fmt.Sprintf("%s: if it is frozen, it is left so: %v", printable(stale[i].MountPoint), left))
		}
		err = errors.Join(err, stale[i].Err)
	}
	if err != nil {
		say(fmt.Sprintf("%s: look for freezes of earlier runs: %v", printable(t.MountPoint), err))
	}
}

// openTarget opens a filesystem for a run and locks it. The function returned
// gives both back.
func (o *runOptions) openTarget(t *target) (*ioctl.FS, func(), error) {
	if t.ReadOnly && slices.Contains(o.require, "repair") {
		return nil, nil, fmt.Errorf("%s: --require repair: %w", printable(t.Path), ioctl.ErrReadOnly)
	}
	if t.ReadOnly && o.choice != nil {
		return nil, nil, fmt.Errorf("repair %s: %w", printable(t.Path), ioctl.ErrReadOnly)
	}
	fs, err := o.open(t.MountPoint)
	if err != nil {
		return nil, nil, openError(t, err)
	}
	unlock, err := fs.TryLock()
	if err != nil {
		return nil, nil, errors.Join(err, fs.Close())
	}
	return fs, func() {
		unlock()
		_ = fs.Close() // opened for reading: nothing can get lost
	}, nil
}

// openError gives an EIO from opening a filesystem its meaning: the root
// directory is in memory as long as it is mounted, so nothing had to be read.
func openError(t *target, err error) error {
	if errors.Is(err, unix.EIO) && !errors.Is(err, ioctl.ErrShutdown) {
		return fmt.Errorf("open %s: %w", printable(t.Path), ioctl.ErrShutdown)
	}
	return err
}

// scrubOptions are the options of a run on t.
func (o *runOptions) scrubOptions(t *target, term *terminal) scrub.Options {
	so := scrub.Options{
		Mode:           o.mode(),
		IgnoreAutofsck: o.ignoreAutofsck,
		AcceptLoss:     o.acceptLoss,
		Workers:        o.workers,
		StateDir:       o.stateDir,
		SpillDir:       o.spillDir,
		NoLive:         o.noLive,
		Require:        o.require,
		Choice:         o.choice,
		Only:           o.places.only,
		Others:         others(t),
		Patience:       o.patience,
		Resume:         o.resume || o.unit != nil && !o.noResume,
		Log:            newLogger(term, o.verbose),
	}
	if t.ReadOnly {
		so.Mode = scrub.ModeCheck
	}
	if o.unit != nil {
		so.Log = o.unit.log
	}
	if o.beforeRepair != "" {
		so.BeforeRepair = beforeRepair(o.beforeRepair, t, term)
	}
	return so
}

func (o *runOptions) progressMode(term *terminal) progressMode {
	switch {
	case o.noProgress || consistentOutput():
		return progressNone
	case term.interactive() && !o.json:
		return progressBar
	case o.verbose:
		return progressLines
	default:
		return progressNone
	}
}

// gaps returns what a person could change so that more is checked or repaired.
func gaps(c scrub.Coverage, g *ioctl.Geometry, t *target, mode scrub.Mode) []gap {
	var list []gap
	if t.ReadOnly && mode != scrub.ModeCheck {
		list = append(list, gapReadOnly)
	}
	switch {
	case !g.Has(ioctl.FlagV5):
		list = append(list, gapV4)
	case !c.Rmapbt:
		list = append(list, gapRmapbt)
	}
	switch {
	case !c.KernelScrub:
		list = append(list, gapScrub)
	case !c.Repair && len(list) == 0 && !t.ReadOnly: // a read-only mount has no repair anywhere
		list = append(list, gapRepair)
	}
	return list
}
