package scrub

import (
	"context"
	"fmt"
	"slices"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/confirm"
	"github.com/scrubd/scrubd/scrub/kernel"
	"github.com/scrubd/scrubd/scrub/verdict"
)

// finding is a [Finding] with what a pass needs to act on it.
type finding struct {
	*Finding
	place    string // names the same fault alike, also while it changes; see placeOf
	order    int    // repairs go by ascending order, one order a pass
	steps    []step
	disputes []*dispute
	// rtDisputes are those of a finding about a realtime group.
	rtDisputes []*dispute
	blockers   []verdict.Blocker
	copyData   bool // the data in its blocks belongs to the evidence: it will be lost
}

// step is one repair call.
type step struct {
	obj    kernel.Object
	forced bool
}

// The order of repairs within a run: structures whose sources are proven come
// before those that need them as a source; an inode's core is never repaired
// before its forks are settled, because that takes its counters as a witness
// away, and before the rmapbts, which are rebuilt only from inodes in order.
const (
	orderHeaders = iota + 1
	orderFreeSpace
	orderInodeBtrees
	orderForks
	orderCores
	orderRmapbt
	orderRefcountbt
	orderOther
	orderNone = 99
)

// judge turns what was confirmed into findings, one for each fault, and weighs
// the repair of each.
func (p *pass) judge(ctx context.Context) error {
	if p.r.coverage.Rmapbt {
		if err := p.disputes(ctx); err != nil {
			return err
		}
	} else {
		p.findClaims()
	}
	if err := p.recheckInodes(ctx); err != nil {
		return err
	}
	if err := p.accountForks(ctx); err != nil {
		return err
	}
	if err := p.countAGBlocks(ctx); err != nil {
		return err
	}
	fs := p.filesystemFacts()
	if err := p.findInodeBtrees(ctx); err != nil {
		return err
	}
	p.findForks()
	if err := p.findRmapbts(ctx, fs); err != nil {
		return err
	}
	if err := p.findFreeSpace(ctx, fs); err != nil {
		return err
	}
	if err := p.findUnreadable(ctx, fs); err != nil {
		return err
	}
	if err := p.judgeRealtime(ctx, fs); err != nil {
		return err
	}
	p.findKernel(fs)
	p.findUnsettled()
	slices.SortStableFunc(p.findings, func(a, b *finding) int { return a.order - b.order })
	return nil
}

// add records a finding. A blocked repair is held, with the reasons.
func (p *pass) add(f *finding) *finding {
	f.place = p.placeOf(f)
	if f.ID = f.place; f.decidable() {
		f.ID = p.exactID(f)
	}
	for _, st := range f.steps {
		if why, denied := p.r.denies(st); denied {
			f.blockers = append([]verdict.Blocker{{Clause: "deny", Why: why}}, f.blockers...)
			f.WaysOut = offline()
		}
	}
	if f.Outcome == "" {
		f.Outcome = Repairable
		if len(f.steps) == 0 || len(f.blockers) > 0 {
			f.Outcome = Held
		}
	}
	if f.Reason == "" && len(f.blockers) > 0 {
		f.Reason = f.blockers[0].Why
		if n := len(f.blockers) - 1; n > 0 {
			f.Reason = fmt.Sprintf("%s, and %d more reasons", f.Reason, n)
		}
	}
	if f.Outcome == Held {
		f.order = orderNone
		for _, b := range f.blockers {
			f.Reasons = append(f.Reasons, b.Why)
		}
	}
	p.findings = append(p.findings, f)
	return f
}

// denies tells of calls that this kernel must not be asked for on this
// filesystem, whatever the verdict.
func (r *run) denies(s step) (string, bool) {
	return verdict.DenyCall(verdict.Call{
		Type: s.obj.Type, Forced: s.forced, NoSparse: !r.fs.Geometry().Has(ioctl.FlagSparseInodes),
	})
}

// findForks makes a finding of every dispute that blames a fork or is held.
func (p *pass) findForks() {
	for _, d := range p.rmapBad {
		switch d.decision.Action {
		case verdict.ActionRebuildFork:
			f := p.fromDisputes(d)
			f.order = orderForks
			t := ioctl.ScrubTypeBMBTD
			if d.decision.Attr {
				t = ioctl.ScrubTypeBMBTA
			}
			f.steps = []step{{obj: kernel.Object{Type: t, Ino: d.decision.Ino, Gen: d.decision.Gen}, forced: true}}
			f.blockers = p.forkBlockers(d, t)
			p.add(f)
		case verdict.ActionHold:
			f := p.fromDisputes(d)
			f.Reason = d.decision.Reason
			p.add(f)
			f.WaysOut = p.waysOut(d, f.ID)
		}
	}
}

// forkBlockers lists what stands against rebuilding a fork from the rmapbts:
// every AG that the rebuild reads has to be proven.
func (p *pass) forkBlockers(d *dispute, t ioctl.ScrubType) []verdict.Blocker {
	var out []verdict.Blocker
	for i := range p.groups {
		// The kernel scans all AGs for the owner's records, so that a bad one
		// of any AG that names this owner counts; the others are not read into
		// the fork.
		g := &p.groups[i]
		if !p.mayOwn(g, uint64(d.decision.Ino), d) {
			continue
		}
		facts := p.facts(g, []*dispute{d})
		out = append(out, verdict.RmapbtProven(facts, t, uint64(d.decision.Ino))...)
	}
	return out
}

// mayOwn tells whether inode ino has, or may have, records in g's rmapbt.
func (p *pass) mayOwn(g *group, ino uint64, d *dispute) bool {
	if g.rmapErr != nil || d.touches(g.agno) {
		return true
	}
	return p.ownerIn[ownerGroup{ino, g.agno}]
}

// findRmapbts makes one finding of all disputes that blame the same rmapbts.
func (p *pass) findRmapbts(ctx context.Context, fs *verdict.FS) error {
	var blamed []*dispute
	for _, d := range p.rmapBad {
		if d.decision.Action == verdict.ActionRebuildRmapbt {
			blamed = append(blamed, d)
		}
	}
	for len(blamed) > 0 {
		set := []*dispute{blamed[0]}
		blamed = blamed[1:]
		for i := 0; i < len(blamed); {
			if !slices.ContainsFunc(set, func(d *dispute) bool { return shareGroup(d, blamed[i]) }) {
				i++
				continue
			}
			set = append(set, blamed[i])
			blamed = slices.Delete(blamed, i, i+1)
			i = 0
		}
		f := p.fromDisputes(set...)
		f.order = orderRmapbt
		if verdict.LostLeaf(evidenceOf(set)) {
			f.Row = 17
		}
		var groups []ioctl.AGNumber
		for _, d := range set {
			groups = append(groups, d.groupNumbers()...)
		}
		slices.Sort(groups)
		for _, agno := range slices.Compact(groups) {
			facts, err := p.rebuildFacts(ctx, &p.groups[agno], set)
			if err != nil {
				return err
			}
			f.blockers = append(f.blockers, verdict.MayRebuildRmapbt(p.exempt(fs), facts)...)
			f.steps = append(f.steps, step{obj: kernel.Object{Type: ioctl.ScrubTypeRMAPBT, AGNo: agno}, forced: true})
		}
		p.add(f)
	}
	return nil
}

func evidenceOf(set []*dispute) []*verdict.Dispute {
	out := make([]*verdict.Dispute, len(set))
	for i, d := range set {
		out[i] = &d.Dispute
	}
	return out
}

func shareGroup(a, b *dispute) bool {
	return slices.ContainsFunc(a.groupNumbers(), b.touches)
}

// findInodeBtrees makes a finding of every AG whose inobt or finobt the kernel
// finds bad. Records of inodes that a wrong inobt hides are part of it.
func (p *pass) findInodeBtrees(ctx context.Context) error {
	for i := range p.groups {
		g := &p.groups[i]
		types := badTypes(g, inodeTypes...)
		if len(types) == 0 {
			continue
		}
		f := &finding{Finding: &Finding{
			AtFault: string(verdict.InodeBtree), Severity: Corruption, HasAG: true, AGNo: g.agno, ScrubTypes: types,
			Summary: fmt.Sprintf("the inode btrees of AG %d are corrupt", g.agno),
		}, order: orderInodeBtrees}
		f.Row = 10
		facts := p.facts(g, nil)
		if err := p.compareChunks(ctx, g, facts); err != nil {
			return err
		}
		if roots := p.lostRoots(g, facts, types); roots != nil {
			p.add(roots)
			continue
		}
		decided := verdict.DecideGroup(&verdict.GroupSeen{AG: facts, InodeBtrees: true})
		rmapbt := g.scrubs[ioctl.ScrubTypeRMAPBT]
		if rmapbt.Flags.Any(ioctl.ScrubCorrupt|ioctl.ScrubXCorrupt) && decided.Action != verdict.ActionRebuildInobt {
			f.AtFault = string(verdict.Undecided)
			f.Summary = fmt.Sprintf("the inode btrees and the rmapbt of AG %d disagree about inode chunks", g.agno)
			types = append(types, ioctl.ScrubTypeRMAPBT)
		}
		for _, t := range types {
			f.Witnesses = append(f.Witnesses, Witness{"kernel scrub", fmt.Sprintf("%s: %s", t, g.scrubs[t].Flags)})
		}
		if g.hidden > 0 {
			f.Witnesses = append(f.Witnesses, Witness{"rmapbt", fmt.Sprintf("has %s of inodes that the inobt does not have", plural(g.hidden, "block"))})
			for ino, agno := range p.hidden {
				if agno == g.agno {
					f.Files = addFile(f.Files, ino, 0)
				}
			}
			slices.SortFunc(f.Files, func(a, b File) int { return int(int64(a.Ino) - int64(b.Ino)) })
		}
		f.blockers = verdict.MayRebuildInobt(facts)
		f.steps = []step{{obj: kernel.Object{Type: ioctl.ScrubTypeINOBT, AGNo: g.agno}, forced: true}}
		if len(f.blockers) > 0 {
			f.WaysOut = offline()
		}
		p.add(f)
	}
	return nil
}

func badTypes(g *group, types ...ioctl.ScrubType) []ioctl.ScrubType {
	var out []ioctl.ScrubType
	for _, t := range types {
		if g.scrubs[t].Flags.Any(ioctl.ScrubCorrupt | ioctl.ScrubXCorrupt) {
			out = append(out, t)
		}
	}
	return out
}

// findUnsettled reports what could not be settled, one finding per AG.
func (p *pass) findUnsettled() {
	for i := range p.groups {
		g := &p.groups[i]
		f := &finding{Finding: &Finding{
			AtFault: string(verdict.Undecided), Severity: Warning, Outcome: Unsettled, HasAG: true, AGNo: g.agno,
		}, order: orderNone}
		n := 0
		for _, c := range g.candidates {
			if c.Status == confirm.Unsettled {
				n++
				f.Reason = c.Why
				f.Extents = append(f.Extents, Extent{g.agno, ioctl.AGBlock(c.Start), c.Count})
				for _, ino := range c.Owners {
					f.Files = addFile(f.Files, ioctl.Ino(ino), 0)
				}
			}
		}
		for _, s := range g.space {
			if s.Status == confirm.Unsettled {
				n++
				f.Reason = s.Why
				f.Extents = append(f.Extents, Extent{g.agno, ioctl.AGBlock(s.Start), s.Count})
			}
		}
		if extents, why := unsettledShared(g); len(extents) > 0 {
			n += len(extents)
			f.Reason = why
			f.Extents = append(f.Extents, extents...)
		}
		if n == 0 {
			continue
		}
		f.Summary = fmt.Sprintf("%d differences between forks, rmapbt and bnobt of AG %d could not be settled", n, g.agno)
		p.add(f)
	}
}

// agOf is the AG that an inode lies in.
func agOf(fs *ioctl.FS, ino ioctl.Ino) ioctl.AGNumber {
	agno, _, _ := fs.Geometry().InoToAG(ino)
	return agno
}
