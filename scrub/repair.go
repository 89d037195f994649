package scrub

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/kernel"
	"github.com/scrubd/scrubd/scrub/verdict"
)

// maxTries is how often the repair of one finding is run: once more after its
// sources were proven anew, then it is given up.
const maxTries = 2

// String says what a step does in words.
func (s step) String() string {
	what := "repair"
	if s.forced {
		what = "rebuild"
	}
	return what + " " + s.obj.String()
}

// consent asks whoever wants to be asked before the first repair of a run.
func (r *run) consent(ctx context.Context, due []*finding) error {
	if r.opts.BeforeRepair == nil || r.asked {
		return nil
	}
	r.asked = true
	var plan []string
	for _, f := range due {
		for _, s := range f.steps {
			plan = append(plan, s.String()+": "+f.Summary)
		}
	}
	err := r.opts.BeforeRepair(ctx, plan)
	if err == nil || ctx.Err() != nil {
		return err
	}
	r.vetoed = err
	for _, f := range due {
		f.Reason = fmt.Sprintf("the repair was vetoed: %v", err)
		r.publish(f.Finding)
	}
	return err
}

// repair makes the repairs of the findings, one call at a time. A repair that
// fails leaves its finding for the next pass to judge.
func (r *run) repair(ctx context.Context, due []*finding, saved map[string]string) error {
	r.progress.enter(PhaseRepair, 0)
	for i, f := range due {
		r.tries[f.ID]++
		f.EvidencePath = saved[f.ID]
		for _, s := range f.steps {
			if err := ctx.Err(); err != nil {
				return err
			}
			err := r.repairStep(ctx, f.ID, s, f.Finding)
			var unwritten *StateError
			if errors.As(err, &unwritten) {
				r.giveUp(due[i:], err)
				return nil
			}
			if err != nil {
				return err
			}
		}
		r.progress.step(uint64(i+1), uint64(len(due)))
	}
	return nil
}

// repairStep makes one repair call. Only what ends the run is an error.
func (r *run) repairStep(ctx context.Context, id string, s step, f *Finding) error {
	if _, err := r.intentLog(); err != nil {
		return err
	}
	ev := RepairEvent{
		FindingID: id, What: s.String(), Type: s.obj.Type, AGNo: s.obj.AGNo, Ino: s.obj.Ino, Forced: s.forced, Began: true,
	}
	r.emit(&ev)
	began := time.Now()
	res, err := r.callRepair(ctx, id, s, f)
	var unwritten *StateError
	if errors.As(err, &unwritten) {
		return err
	}
	ended := ev
	ended.Began, ended.Duration = false, time.Since(began)
	ended.Err = err
	if err == nil {
		ended.Err = res.Err
	}
	r.emit(&ended)
	r.sum.Repairs++
	if f != nil {
		done := s.String()
		f.Failure = ended.Err
		if ended.Err != nil {
			done += ": " + ended.Err.Error()
		}
		f.Done = append(f.Done, done)
	}
	if errors.Is(ended.Err, ioctl.ErrNotSupported) {
		r.tries[id] = maxTries // a second try would be no other
	}
	var fatal *kernel.FatalError
	if errors.As(err, &fatal) || ctx.Err() != nil {
		return err
	}
	if err != nil {
		r.log.WithError(err).WithField("repair", s.String()).Warn("repair")
	}
	return nil
}

// optimize makes the repairs that are no more than tidying up, when nothing is
// wrong any more.
func (r *run) optimize(ctx context.Context, p *pass) error {
	for _, results := range p.inodeBad {
		for _, res := range results {
			if res.Bad() || !res.Flags.Has(ioctl.ScrubPreen) || res.Type != ioctl.ScrubTypeINODE {
				continue // of other types scrubd tidies up nothing
			}
			possible, err := r.preens(ctx, p, res)
			if err != nil {
				return err
			}
			if !possible {
				continue
			}
			if r.mode >= ModeOptimize && r.coverage.Repair && !r.partial() && r.stateErr == nil && !r.mayChangeNothing() && !r.left() {
				done, err := r.optimizeInode(ctx, res)
				if err != nil {
					return err
				}
				if done {
					r.sum.Optimized++
					continue
				}
			}
			r.sum.OptimizationsPossible++
		}
	}
	return nil
}

// preens looks once more whether there is something to tidy up in an inode
// that scrubd would: the repair rewrites its counters from its forks, and an
// inode without blocks or extents is left alone ([verdict.DenyCall]). Files
// that are written to come and go in this.
func (r *run) preens(ctx context.Context, p *pass, res kernel.Result) (bool, error) {
	again, err := r.kern.One(ctx, res.Object)
	if err != nil || again.Absent || !again.Clean() || !again.Flags.Has(ioctl.ScrubPreen) {
		return false, err
	}
	seen, err := p.settler.Measure(uint64(res.Ino))
	if err != nil || seen.Gen != res.Gen {
		return false, err
	}
	_, denied := verdict.DenyCall(verdict.Call{Type: res.Type, NoBlocks: seen.Blocks == 0, NoExtents: seen.Extents == 0})
	return !denied, nil
}

// optimizeInode lets the kernel tidy up an inode and tells whether it did. A
// file that is written to may want it again at once.
func (r *run) optimizeInode(ctx context.Context, res kernel.Result) (bool, error) {
	_, err := r.callRepair(ctx, "", step{obj: res.Object}, nil)
	var fatal *kernel.FatalError
	if errors.As(err, &fatal) || ctx.Err() != nil {
		return false, err
	}
	var unwritten *StateError
	if errors.As(err, &unwritten) {
		r.stateErr = err
		return false, nil
	}
	r.closeIntents() // the check that followed the repair was its proof
	if err == nil {
		return true, nil
	}
	again, err := r.kern.One(ctx, res.Object)
	return err == nil && (again.Absent || !again.Flags.Has(ioctl.ScrubPreen)), err
}

// mayChangeNothing tells whether whoever was asked has said no: the hook, or the
// person whose decision the run was to carry out.
func (r *run) mayChangeNothing() bool {
	return r.vetoed != nil || r.opts.Choice != nil && !r.choice.done
}

// left tells whether any finding says that the filesystem is still damaged.
func (r *run) left() bool {
	for _, f := range r.known {
		if f.Left() || f.Outcome == Unsettled {
			return true
		}
	}
	return false
}

// summarize checks the sums over the whole filesystem, which a repair that
// freed or found blocks leaves wrong, and has them recounted.
func (r *run) summarize(ctx context.Context) error {
	if !r.coverage.KernelScrub {
		return nil
	}
	r.progress.enter(PhaseSummary, 0)
	why := r.inodesUnlisted()
	if why != "" {
		r.sum.Unchecked++
		r.sum.Notes = append(r.sum.Notes, "link counts and quotas were not checked: "+why)
	}
	results, err := r.kern.Summary(ctx, why == "")
	if err != nil {
		return err
	}
	if r.partial() && slices.ContainsFunc(results, kernel.Result.Bad) {
		r.anew("the kernel finds a sum wrong")
		return errAnew
	}
	for _, res := range results {
		if res.Absent || res.Unknown {
			continue
		}
		if res.Err != nil || !res.Ran || res.Flags.Has(ioctl.ScrubIncomplete) {
			r.sum.Unchecked++
			r.sum.Notes = append(r.sum.Notes, fmt.Sprintf("%s could not be checked", res.Object))
			continue
		}
		if !res.Bad() {
			continue
		}
		if err := r.recount(ctx, res); err != nil {
			return err
		}
	}
	if !r.left() && !r.partial() {
		if _, err := r.kern.ForgetSickness(ctx); err != nil {
			return err
		}
	}
	return nil
}

// inodesUnlisted says which finding that is left makes it pointless to have the
// kernel read every inode, "" if none does.
func (r *run) inodesUnlisted() string {
	for _, f := range r.known {
		if (f.Left() || f.Outcome == Unsettled) && slices.ContainsFunc(f.ScrubTypes, func(t ioctl.ScrubType) bool { return slices.Contains(inodeTypes, t) }) {
			return f.Summary
		}
	}
	return ""
}

// recount repairs a sum. Link counts are only as good as the directories and
// inodes that they are counted from, and setting them right changes names.
func (r *run) recount(ctx context.Context, res kernel.Result) error {
	f := &Finding{
		ID: "sum-" + res.Type.String(), AtFault: res.Type.String(), Severity: Corruption, Outcome: Repairable,
		ScrubTypes: []ioctl.ScrubType{res.Type},
		Summary:    fmt.Sprintf("the kernel finds %s wrong", res.Object),
		Witnesses:  []Witness{{"kernel scrub", fmt.Sprintf("%s: %s", res.Type, res.Flags)}},
	}
	expected := r.sum.Repairs > 0 && res.Type == ioctl.ScrubTypeFSCOUNTERS
	switch {
	case r.mode != ModeRepair:
		f.Reason = fmt.Sprintf("this run may not repair (mode %s)", r.mode)
	case !r.coverage.Repair:
		f.Outcome, f.Reason = Held, "online repair is not possible here"
	case r.mayChangeNothing():
		f.Reason = "this run was not allowed to repair anything"
	case res.Type == ioctl.ScrubTypeNLINKS && r.left():
		f.Outcome, f.Reason = Held, "what is counted is itself in question in another finding"
	case verdict.LossOf(res.Type) != verdict.LossNone && !r.opts.AcceptLoss:
		f.Outcome = Held
		f.Reason = "its repair makes a directory lost+found, and moves there or frees what no directory names"
		f.WaysOut = append([]WayOut{{
			Trust: "kernel", Effect: "let the kernel count anew, with lost+found for what it finds in no directory",
			Command: "scrubd run --now --accept-loss " + r.fs.Path(),
		}}, offline()...)
	default:
		err := r.repairStep(ctx, f.ID, step{obj: res.Object}, f)
		var unwritten *StateError
		if errors.As(err, &unwritten) {
			r.stateErr, f.Reason = err, fmt.Sprintf("it was not recounted: %v", err)
			break
		}
		if err != nil {
			return err
		}
		again, err := r.kern.One(ctx, res.Object)
		if err != nil {
			return err
		}
		r.closeIntents()
		f.Outcome = Repaired
		if again.Bad() {
			f.Outcome, f.Reason = Failed, "it was recounted and is still wrong"
		}
	}
	// In a filesystem that is damaged elsewhere the sums follow the damage.
	follows := f.Outcome == Repairable && r.left()
	if expected && f.Outcome == Repaired || follows {
		return nil
	}
	r.known[f.ID] = f
	r.order = append(r.order, f.ID)
	r.publish(f)
	return nil
}

// takeNotes records what could not be checked and what is merely odd.
func (r *run) takeNotes(p *pass) {
	r.noteUnchecked()
	r.noteFreezes()
	if p.open.parts > 0 && !r.left() {
		r.sum.Unchecked += p.open.parts
		r.sum.Notes = append(r.sum.Notes, fmt.Sprintf("%s could not be compared with everything, because something was marked sick before; run again", plural(p.open.parts, "part")+" of inodes"))
	}
	if n := p.badInodesLeftOut; n > 0 {
		r.sum.Notes = append(r.sum.Notes, fmt.Sprintf("%s more that the kernel finds bad are not listed", plural(n, "inode")))
	}
	if n := p.walk.RefusedTotal; n > 0 {
		note := fmt.Sprintf("%s could not be opened because of leases, delegations or access scanners", plural(n, "inode"))
		if r.coverage.KernelScrub {
			note += "; the kernel's scrub checked them"
		} else {
			r.sum.Unchecked += n
		}
		r.sum.Notes = append(r.sum.Notes, note)
	}
	if n := p.walk.RTSkipped; n > 0 {
		r.sum.Notes = append(r.sum.Notes, fmt.Sprintf("the data of %s on the realtime device was not compared", plural(n, "file")))
	}
	if n := p.walk.RTAttrs; n > 0 {
		r.sum.Notes = append(r.sum.Notes, fmt.Sprintf("attributes in blocks of %s with data on the realtime device were not compared: the kernel tells wrong addresses of them", plural(n, "file")))
	}
	for _, results := range p.inodeBad {
		for _, res := range results {
			if res.Flags.Has(ioctl.ScrubWarning) && !res.Bad() {
				r.sum.Warnings++
			}
		}
	}
}
