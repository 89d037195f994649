package scrub

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/kernel"
	"github.com/scrubd/scrubd/scrub/verdict"
	"github.com/scrubd/scrubd/shadow"
)

// The witnesses that a person can choose to trust.
const (
	TrustFork = "fork"
	TrustRmap = "rmap"
)

// Choice is a person's decision about a held finding: one of its ways out.
type Choice struct {
	FindingID string
	Trust     string // [TrustFork] or [TrustRmap]
	// Confirm is asked once the finding was found again and confirmed, nothing
	// stands against the repair, and its price is known. An error means no.
	Confirm func(ctx context.Context, plan *Plan) error
}

// Plan is what a choice comes to.
type Plan struct {
	Finding *Finding
	Trust   string
	// Repairs are the calls in words and in order.
	Repairs []string
	// Freed are the blocks that go back to free space, with the data in them that
	// nothing else knows of; none when the rmap is trusted.
	Freed []Extent
	// Restored are the blocks that the file gets back; none when the fork is trusted.
	Restored []Extent
	// BlockBytes is the size of a block.
	BlockBytes uint32
}

// Blocks is the number of blocks of extents.
func Blocks(extents []Extent) uint64 {
	var n uint64
	for _, e := range extents {
		n += uint64(e.BlockCount)
	}
	return n
}

// ChoiceError is a choice that cannot be carried out; nothing was done.
type ChoiceError struct {
	FindingID, Trust string
	// Unknown tells that no such finding was made now, Changed that the plan was
	// another one when it was to be carried out.
	Unknown, Changed bool
	// Whys are the reasons.
	Whys []string
}

// Error names the choice and the reasons.
func (e *ChoiceError) Error() string {
	return fmt.Sprintf("trusting the %s in finding %s cannot be carried out: %s", e.Trust, e.FindingID, strings.Join(e.Whys, "; "))
}

// choice is how far the choice of a run has come.
type choice struct {
	agreed *Plan  // what the person agreed to
	place  string // of the finding
	done   bool   // the repairs were run
}

// confirmPatience is how old a pass may be when its verdicts are acted upon. A
// person may think for longer.
const confirmPatience = 20 * time.Second

// stepChoice is the step of a run that carries out a choice, and nothing else.
func (r *run) stepChoice(ctx context.Context, p *pass, before **forks) (done bool, err error) {
	f, way, err := r.findChoice(p)
	if r.choice.done && f == nil {
		return true, nil // the proof holds: record has said so
	}
	if err != nil {
		return true, err
	}
	if r.choice.done && r.tries[f.ID] >= maxTries {
		f.Outcome, f.Reason = Failed, "it was repaired as chosen and is still there"
		if f.Failure != nil {
			f.Reason = fmt.Sprintf("its repair failed: %v", f.Failure)
		}
		r.publish(f.Finding)
		return true, nil
	}
	if err := r.refuseChoice(p.weighChoice(ctx, f, way)); err != nil {
		return true, err
	}
	plan := p.plan(f, way)
	asked := time.Now()
	switch {
	case r.choice.agreed == nil:
		if err := r.nameFiles(ctx, []*Finding{f.Finding}); err != nil {
			return true, err
		}
		r.emit(&PlanEvent{plan})
		if err := r.opts.Choice.Confirm(ctx, plan); err != nil {
			r.sum.Notes = append(r.sum.Notes, fmt.Sprintf("nothing was repaired: %v", err))
			return true, ctx.Err()
		}
		r.choice.agreed, r.choice.place = plan, f.place
	case !samePlan(plan, r.choice.agreed):
		return true, r.refusal(&ChoiceError{Changed: true, Whys: []string{"what it would do is no longer what was agreed to"}})
	}
	due := []*finding{f}
	if err := r.consent(ctx, due); err != nil {
		return true, ctx.Err() // a veto ends the repair, not the run
	}
	saved, err := r.saveEvidence(ctx, p, due)
	if err != nil {
		r.giveUp(due, err)
		return true, nil //nolint:nilerr // the run says why at its end
	}
	if again, err := r.overtaken(ctx, p); err != nil || again {
		return false, err
	}
	if time.Since(asked) > confirmPatience {
		return false, nil // look again before anything is done
	}
	*before = p.takeForks(due)
	r.choice.done = true
	return false, r.repair(ctx, due, saved)
}

// findChoice finds the finding that the choice is about and the way out.
func (r *run) findChoice(p *pass) (*finding, *WayOut, error) {
	c := r.opts.Choice
	var found []*finding
	for _, f := range p.findings {
		// What is left of it after its repair may be less, and have another ID.
		if f.ID == c.FindingID || r.choice.done && f.place == r.choice.place {
			found = append(found, f)
		}
	}
	switch {
	case !r.coverage.Repair:
		return nil, nil, r.refusal(&ChoiceError{Whys: []string{"online repair is not possible here"}})
	case len(found) == 0:
		return nil, nil, r.refusal(&ChoiceError{Unknown: true, Whys: []string{"there is no such finding now"}})
	case len(found) > 1:
		return nil, nil, r.refusal(&ChoiceError{Whys: []string{"several findings have this ID"}})
	case found[0].Outcome != Held:
		return nil, nil, r.refusal(&ChoiceError{Whys: []string{fmt.Sprintf("the finding is not held but %s", found[0].Outcome)}})
	}
	f := found[0]
	i := slices.IndexFunc(f.WaysOut, func(w WayOut) bool { return w.Trust == c.Trust && w.Command != "" })
	if i < 0 || len(f.disputes) != 1 {
		return nil, nil, r.refusal(&ChoiceError{Whys: []string{"this way out is not one that scrubd can carry out"}})
	}
	return f, &f.WaysOut[i], nil
}

func (r *run) refusal(e *ChoiceError) error {
	e.FindingID, e.Trust = r.opts.Choice.FindingID, r.opts.Choice.Trust
	return e
}

// refuseChoice makes an error of what stands against the repairs.
func (r *run) refuseChoice(blockers []verdict.Blocker, err error) error {
	if err != nil || len(blockers) == 0 {
		return err
	}
	e := &ChoiceError{}
	for _, b := range blockers {
		e.Whys = append(e.Whys, b.Why)
	}
	return r.refusal(e)
}

// chosenSteps are the repairs that carry out a way out of a held dispute, or
// why there are none. For the rmap it is the rebuild of one fork, for the fork
// that of the rmapbts; settled are the disputes that it settles.
func (p *pass) chosenSteps(d *dispute, trust string) (steps []step, settled []*dispute, why string) {
	if !d.decision.OnlyTrace {
		return nil, nil, "the record is not the only trace of lost data"
	}
	switch trust {
	case TrustRmap:
		return p.restoreSteps(d)
	case TrustFork:
		return p.giveUpSteps(d)
	}
	return nil, nil, "there is no such witness"
}

// restoreSteps rebuild one fork of one live inode from records that nobody
// denies.
func (p *pass) restoreSteps(d *dispute) ([]step, []*dispute, string) {
	first := d.first().Record
	for i := range d.Pieces {
		pc := &d.Pieces[i]
		switch {
		case pc.Claim != nil || pc.Record == nil:
			return nil, nil, "a fork maps some of the blocks"
		case pc.Record.Owner != first.Owner || (pc.Record.Flags()^first.Flags())&shadow.OffsetAttrFork != 0:
			return nil, nil, "more than one fork lost something"
		case d.Denied(pc):
			return nil, nil, "another witness denies a record"
		}
	}
	in := d.Inodes[first.Owner]
	if in == nil || in.State != verdict.OwnerLive {
		return nil, nil, "no inode is there to give the blocks to"
	}
	t := ioctl.ScrubTypeBMBTD
	if first.Flags()&shadow.OffsetAttrFork != 0 {
		t = ioctl.ScrubTypeBMBTA
	}
	return []step{{obj: kernel.Object{Type: t, Ino: in.Ino, Gen: in.Gen}, forced: true}}, []*dispute{d}, ""
}

// giveUpSteps rebuild the rmapbts from the forks. The disputes of these AGs
// that blame the rmapbt are settled by the same rebuild.
func (p *pass) giveUpSteps(d *dispute) ([]step, []*dispute, string) {
	for i := range d.Pieces {
		one := verdict.Decide(&verdict.Dispute{Pieces: d.Pieces[i : i+1], Inodes: d.Inodes})
		if !one.OnlyTrace && one.Action != verdict.ActionRebuildRmapbt {
			return nil, nil, "the forks are not beyond doubt for all of the blocks"
		}
	}
	set := []*dispute{d}
	for grown := true; grown; {
		grown = false
		for _, o := range p.rmapBad {
			if o.decision.Action != verdict.ActionRebuildRmapbt || contains(set, o) {
				continue
			}
			if slices.ContainsFunc(set, func(s *dispute) bool { return shareGroup(s, o) }) {
				set = append(set, o)
				grown = true
			}
		}
	}
	var groups []ioctl.AGNumber
	for _, o := range set {
		groups = append(groups, o.groupNumbers()...)
	}
	slices.Sort(groups)
	var steps []step
	for _, agno := range slices.Compact(groups) {
		steps = append(steps, step{obj: kernel.Object{Type: ioctl.ScrubTypeRMAPBT, AGNo: agno}, forced: true})
	}
	return steps, set, ""
}

// weighChoice lists what stands against carrying out a way out. What the
// person decides is left out, and nothing else: the rules for the rebuild stand,
// and so does every other doubt in the AGs that it touches.
func (p *pass) weighChoice(ctx context.Context, f *finding, way *WayOut) ([]verdict.Blocker, error) {
	d := f.disputes[0]
	steps, set, why := p.chosenSteps(d, way.Trust)
	if why != "" {
		return []verdict.Blocker{{Clause: "choice", Why: why}}, nil
	}
	f.steps, f.order = steps, orderForks
	if way.Trust == TrustRmap {
		return p.restoreBlockers(d, steps[0].obj), nil
	}
	fs := p.exempt(p.filesystemFacts())
	f.copyData = true
	var out []verdict.Blocker
	for _, s := range steps {
		g := &p.groups[s.obj.AGNo]
		facts, err := p.rebuildFacts(ctx, g, set)
		if err != nil {
			return nil, err
		}
		facts.Reaped = nil
		for _, o := range set {
			if o != d {
				facts.Reaped = append(facts.Reaped, reaped(g, o)...)
			}
		}
		out = append(out, verdict.MayRebuildRmapbt(fs, facts)...)
	}
	return out, nil
}

// restoreBlockers lists what stands against giving a fork what only the rmapbts
// have of it. They have to be proven, as for any rebuild of a fork.
func (p *pass) restoreBlockers(d *dispute, obj kernel.Object) []verdict.Blocker {
	var out []verdict.Blocker
	for i := range p.groups {
		if g := &p.groups[i]; p.mayOwn(g, uint64(obj.Ino), d) {
			out = append(out, verdict.RmapbtProven(p.facts(g, []*dispute{d}), obj.Type, uint64(obj.Ino))...)
		}
	}
	return out
}

// plan says what a choice comes to.
func (p *pass) plan(f *finding, way *WayOut) *Plan {
	d := f.disputes[0]
	plan := &Plan{Finding: f.Finding, Trust: way.Trust, BlockBytes: p.r.fs.Geometry().BlockSize}
	for _, s := range f.steps {
		plan.Repairs = append(plan.Repairs, s.String())
	}
	for i := range d.Pieces {
		pc := &d.Pieces[i]
		if pc.Record == nil || pc.Claim != nil || d.Denied(pc) {
			continue
		}
		to := &plan.Restored
		if way.Trust == TrustFork {
			to = &plan.Freed
		}
		if n := len(*to); n > 0 && (*to)[n-1].AGNo == pc.AGNo && uint32((*to)[n-1].StartBlock)+(*to)[n-1].BlockCount == pc.Start {
			(*to)[n-1].BlockCount += pc.Count
			continue
		}
		*to = append(*to, Extent{pc.AGNo, ioctl.AGBlock(pc.Start), pc.Count})
	}
	return plan
}

func samePlan(a, b *Plan) bool {
	return slices.Equal(a.Repairs, b.Repairs) && slices.Equal(a.Freed, b.Freed) && slices.Equal(a.Restored, b.Restored)
}
