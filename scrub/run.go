package scrub

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/confirm"
	"github.com/scrubd/scrubd/scrub/kernel"
	"github.com/scrubd/scrubd/scrub/state"
	"github.com/scrubd/scrubd/xfile"
)

// maxPasses bounds a run: one pass for each kind of repair, a second try for
// what failed, and the proof.
const maxPasses = 8

// Errors that keep a run from starting.
var (
	// ErrForbidden: the filesystem's autofsck property is none.
	ErrForbidden = errors.New("its autofsck property forbids any check")
	// ErrRequired: a part that the caller requires is missing; see [RequireError].
	ErrRequired = errors.New("a required part is missing")
)

// RequireError names the parts of [Options].Require that are missing here.
type RequireError struct {
	Path    string
	Missing []Uncovered
}

// Error names the first missing part and why it is missing.
func (e *RequireError) Error() string {
	return fmt.Sprintf("run on %s: required %s is missing: %s", e.Path, e.Missing[0].What, e.Missing[0].Why)
}

// Is reports whether target is [ErrRequired].
func (e *RequireError) Is(target error) bool { return target == ErrRequired }

// run is one run and what lasts as long as it does.
type run struct {
	ctx  context.Context // of the run, for what is asked for deep below
	fs   *ioctl.FS
	opts Options
	log  logrus.FieldLogger

	id         string
	mode       Mode
	coverage   Coverage
	workers    int
	budget     *xfile.Budget
	spill      string
	kern       *kernel.Scrubber
	bnobt      *ioctl.BnobtView
	multigrain bool
	progress   *progress
	sum        *Summary

	events sync.Mutex              // one event at a time
	known  map[string]*Finding     // by ID, over all passes
	told   map[confirm.Window]bool // of blocks at risk
	order  []string                // of known, as they were first seen
	tries  map[string]int          // repairs tried per finding
	places map[string]string       // by ID, of those known; see placeOf
	vetoed error
	asked  bool

	stateDir *state.Dir       // with intents, once there is something to repair
	intents  *state.IntentLog // nil before
	stateErr error            // why nothing more is repaired
	ownLog   *state.OwnLog    // the log on this filesystem, if the last pass vouches for it
	logDoubt string           // why it does not
	choice   choice           // of Options.Choice
	repeated int              // passes made again because somebody else repaired something

	scrubErrors, unlisted uint64 // of the last pass

	points    checkpoints
	resume    resumed
	judgedAll bool // a pass came to its end, with nothing left out that matters
}

// Run checks the filesystem once and repairs what its mode allows.
//
// Shape: the summary says what was found, done and left; it is nil only when
// the run could not start. A run that was stopped or gave up returns a summary
// with Complete false together with the error.
// Errors: [ErrForbidden], [ErrRequired]; ctx's; those of package ioctl that
// end a run ([ioctl.ErrShutdown], [ioctl.ErrPrivilege], …).
func Run(ctx context.Context, fs *ioctl.FS, o Options) (*Summary, error) {
	r, err := newRun(ctx, fs, o)
	if err != nil {
		return nil, err
	}
	defer r.close()
	if o.Only != nil {
		err = r.lookAt(ctx, o.Only)
	} else {
		err = r.checkpointed(ctx, r.all)
	}
	r.sum.Elapsed = time.Since(r.sum.Began)
	r.sum.Complete = err == nil
	if r.sum.Complete && o.Only == nil {
		r.noteWellAGs()
	}
	r.sum.KernelCalls, r.sum.KernelTimes = r.kern.Calls(), r.kern.Timings()
	r.sum.Throttled = o.Throttle.Throttled()
	if err != nil {
		r.sum.Incomplete = fmt.Sprintf("stopped in phase %s: %v", r.progress.phase(), err)
	}
	for _, id := range r.order {
		r.sum.Findings = append(r.sum.Findings, r.known[id])
	}
	_, r.sum.PeakPageableBytes = r.budget.Used(xfile.Memory)
	return r.sum, err
}

func newRun(ctx context.Context, fs *ioctl.FS, o Options) (*run, error) {
	r := &run{
		ctx: ctx, fs: fs, opts: o, log: o.Log, workers: o.Workers, spill: o.SpillDir,
		known: make(map[string]*Finding), tries: make(map[string]int), places: make(map[string]string),
		told: make(map[confirm.Window]bool),
	}
	if r.log == nil {
		discard := logrus.New()
		discard.SetOutput(io.Discard)
		r.log = discard
	}
	if r.workers <= 0 {
		r.workers = runtime.NumCPU()
	}
	property, err := fs.Autofsck()
	if err != nil {
		return nil, err
	}
	if o.Choice != nil {
		o.Mode, o.IgnoreAutofsck = ModeRepair, true // a person's own decision
	}
	if o.Only != nil {
		o.Mode = ModeCheck
		o.Require = append(slices.Clone(o.Require), PartKernelScrub)
		r.opts = o
	}
	if r.mode, err = ceiling(o, property); err != nil {
		return nil, fmt.Errorf("run on %s: %w", fs.Path(), err)
	}
	if r.budget, err = xfile.SystemBudget(); err != nil {
		return nil, err
	}
	if err := r.cover(); err != nil {
		return nil, err
	}
	if missing := r.missing(); len(missing) > 0 {
		return nil, &RequireError{Path: fs.Path(), Missing: missing}
	}
	if o.Only != nil {
		if err := o.Only.check(fs.Geometry()); err != nil {
			return nil, fmt.Errorf("run on %s: %w", fs.Path(), err)
		}
		o.Only.cover(&r.coverage)
	}
	var id [8]byte
	if _, err := rand.Read(id[:]); err != nil {
		return nil, fmt.Errorf("make a run id: %w", err)
	}
	r.id = hex.EncodeToString(id[:])
	r.kern = kernel.New(fs, kernel.Options{Log: r.log, Throttle: o.Throttle})
	r.sum = &Summary{
		RunID: r.id, Mode: r.mode, Coverage: r.coverage, Began: time.Now(), AGs: uint64(fs.Geometry().AGCount),
		Background: o.Throttle != nil, Only: o.Only.names(),
	}
	r.progress = newProgress(r)
	if o.Only == nil { // what is open is for a run to close that judges everything
		r.readInterrupted()
		r.loadCheckpoint()
	}
	r.emit(&StartEvent{
		Time: r.sum.Began, RunID: r.id, Path: fs.Path(), Device: deviceName(fs.Device()),
		UUID: uuidString(fs.Geometry().UUID), Mode: r.mode, Autofsck: property.String(), Coverage: r.coverage,
		Interrupted: slices.Clone(r.sum.Interrupted), Only: r.sum.Only, Resumed: clonePtr(r.sum.Resumed),
	})
	return r, nil
}

// ceiling is the mode that a run gets: what was asked for, but no more than
// the property allows.
func ceiling(o Options, property ioctl.AutofsckValue) (Mode, error) {
	allowed := ModeRepair
	if !o.IgnoreAutofsck {
		switch property {
		case ioctl.AutofsckNone:
			return 0, ErrForbidden
		case ioctl.AutofsckCheck, ioctl.AutofsckUnknown:
			allowed = ModeCheck
		case ioctl.AutofsckOptimize:
			allowed = ModeOptimize
		}
	}
	if o.Mode == 0 {
		return allowed, nil
	}
	return min(o.Mode, allowed), nil
}

func (r *run) close() {
	r.progress.stop()
	r.closeState()
	if r.bnobt != nil {
		r.bnobt.Close()
	}
}

func (r *run) emit(e Event) {
	r.events.Lock()
	defer r.events.Unlock()
	if r.opts.Events != nil {
		r.opts.Events(e)
	}
}

// drain is the AG drain barrier, nil without kernel scrub.
func (r *run) drain() func(context.Context, ioctl.AGNumber) error {
	if !r.coverage.KernelScrub {
		return nil
	}
	return r.kern.Drain
}

// all makes passes until one finds nothing that may be repaired. Each pass is
// the proof of the repairs before it.
func (r *run) all(ctx context.Context) error {
	for {
		before := r.sum.judged()
		if err := r.passes(ctx); err != nil {
			return err
		}
		err := r.summarize(ctx)
		if errors.Is(err, errAnew) {
			r.sum.forget(before)
			continue // once: from now on nothing is left out
		}
		if err != nil {
			return err
		}
		break
	}
	r.explainInterrupted()
	r.prepareState()
	if err := r.name(ctx); err != nil {
		return err
	}
	return r.stateErr
}

// passes makes passes up to one after which nothing is to be repaired.
func (r *run) passes(ctx context.Context) error {
	var before *forks
	defer func() { before.close() }()
	for n := 1; ; n++ {
		if _, err := r.standBack(ctx); err != nil {
			return err
		}
		p, err := r.check(ctx, n)
		if err != nil {
			return err
		}
		p.noteMarks()
		again, err := r.disturbed(ctx, p)
		if err == nil && !again {
			again = r.tooMuchLeftOut(p)
		}
		if err != nil || again {
			p.close()
			if err != nil {
				return err
			}
			n--
			continue
		}
		done, err := r.step(ctx, p, &before)
		p.close()
		if err != nil {
			return err
		}
		if done || n == maxPasses {
			return nil
		}
	}
}

// step records what a pass found, holds the forks against what they were
// before the last repairs, and makes the repairs that are next.
func (r *run) step(ctx context.Context, p *pass, before **forks) (done bool, err error) {
	if err := r.proveForks(ctx, p, *before); err != nil {
		return false, err
	}
	(*before).close()
	*before = nil
	r.record(p)
	r.foundAll()
	if err := r.judgeOwnLog(ctx, p); err != nil {
		return false, err
	}
	r.closeIntents() // this pass was the proof
	if r.opts.Choice != nil {
		return r.stepChoice(ctx, p, before)
	}
	due := r.due(p)
	if len(due) == 0 {
		r.takeNotes(p)
		return true, r.optimize(ctx, p)
	}
	r.opts.Throttle.Hurry()
	if err := r.consent(ctx, due); err != nil {
		if ctx.Err() != nil { // nobody has said no
			return false, ctx.Err()
		}
		return true, nil //nolint:nilerr // a veto ends the repairs, not the run
	}
	saved, err := r.saveEvidence(ctx, p, due)
	if err != nil {
		r.giveUp(due, err)
		return true, nil //nolint:nilerr // without evidence nothing is repaired, and the run says why at its end
	}
	if again, err := r.overtaken(ctx, p); err != nil || again {
		return false, err
	}
	*before = p.takeForks(due)
	return false, r.repair(ctx, due, saved)
}

// record takes over what a pass found: new findings, and what became of those
// of earlier passes.
func (r *run) record(p *pass) {
	seen := make(map[string]bool)
	for _, f := range p.findings {
		seen[f.ID] = true
	}
	for _, f := range p.findings {
		r.renamed(f, seen)
		r.places[f.ID] = f.place
		old, again := r.known[f.ID]
		if !again {
			r.order = append(r.order, f.ID)
		} else {
			f.Done, f.EvidencePath, f.Failure = old.Done, old.EvidencePath, old.Failure
		}
		if r.tries[f.ID] >= maxTries && f.Outcome == Repairable {
			f.Outcome, f.Reason = Failed, "it was repaired and is still there: "+offline()[0].Effect
			if f.Failure != nil {
				f.Reason = fmt.Sprintf("its repair failed: %v", f.Failure)
			}
		}
		if f.Outcome == Repairable && r.mode != ModeRepair {
			f.Reason = fmt.Sprintf("this run may not repair (mode %s)", r.mode)
		}
		if f.Outcome == Repairable && r.opts.Choice != nil {
			f.Reason = "this run carries out one decision and nothing else"
		}
		r.known[f.ID] = f.Finding
		r.publish(f.Finding)
	}
	r.order = slices.DeleteFunc(r.order, func(id string) bool {
		f := r.known[id]
		if seen[id] || f.Outcome == Repaired {
			return false
		}
		if r.tries[id] == 0 {
			// Nothing was done on its account: it was part of what was repaired,
			// or of what a live filesystem has changed.
			delete(r.known, id)
			return true
		}
		if f.Failure != nil && p.stillComplains(f) {
			f.Outcome, f.Reason = Failed, fmt.Sprintf("its repair failed: %v", f.Failure)
			r.publish(f)
			return false
		}
		f.Outcome, f.Reason, f.Failure = Repaired, "", nil
		r.publish(f)
		return false
	})
}

// stillComplains tells whether what the kernel complained of in a finding of an
// earlier pass belongs to another finding by now.
func (p *pass) stillComplains(was *Finding) bool {
	return slices.ContainsFunc(p.findings, func(f *finding) bool {
		return was.HasAG == f.HasAG && f.AGNo == was.AGNo &&
			slices.ContainsFunc(f.ScrubTypes, func(t ioctl.ScrubType) bool { return slices.Contains(was.ScrubTypes, t) })
	})
}

// renamed takes over what is known of a fault that had another ID in an earlier
// pass, because what a person could decide about was not the same yet. seen are
// the IDs of this pass.
func (r *run) renamed(f *finding, seen map[string]bool) {
	if r.known[f.ID] != nil {
		return
	}
	at := slices.IndexFunc(r.order, func(id string) bool { return r.places[id] == f.place && !seen[id] && r.known[id].Outcome != Repaired })
	if at < 0 {
		return
	}
	was := r.order[at]
	r.order[at] = f.ID
	r.known[f.ID], r.tries[f.ID] = r.known[was], r.tries[was]
	delete(r.known, was)
	delete(r.tries, was)
}

// giveUp leaves the findings that were to be repaired as they are, because the
// state directory does not take what has to be written down before.
func (r *run) giveUp(due []*finding, err error) {
	var e *StateError
	if !errors.As(err, &e) {
		err = &StateError{err}
	}
	r.stateErr = err
	for _, f := range due {
		f.Reason = fmt.Sprintf("it was not repaired: %v", err)
		r.publish(f.Finding)
	}
}

// publish hands out the present state of a finding.
func (r *run) publish(f *Finding) {
	c := *f
	r.noteFound(&c)
	r.progress.found(len(r.known))
	r.emit(&FindingEvent{Finding: &c})
}

// due returns the findings whose repairs are next: all of the lowest order.
func (r *run) due(p *pass) []*finding {
	if r.mode != ModeRepair || r.partial() || r.vetoed != nil || r.stateErr != nil || !r.coverage.Repair {
		return nil
	}
	var due []*finding
	for _, f := range p.findings {
		if f.Outcome != Repairable || len(f.steps) == 0 {
			continue
		}
		if len(due) > 0 && f.order != due[0].order {
			break
		}
		due = append(due, f)
	}
	return due
}
