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

// findRTKernel judges what the kernel found in a realtime group, and what forks
// and rtrmapbt find wrong with its rtrefcountbt, as far as no other finding
// accounts for it: reference counts, the summary, and an rtrmapbt that nobody else
// complains of. What is wrong otherwise is left to the kernel's own word.
func (p *pass) findRTKernel(ctx context.Context, fs *verdict.FS, g *group) error {
	left := slices.DeleteFunc(rtBad(g), func(t ioctl.ScrubType) bool { return p.rt.explained[kernel.Object{Type: t, AGNo: g.agno}] })
	pieces := p.rtMiscounted(g)
	onlyDisagrees := func(t ioctl.ScrubType) bool { return !g.scrubs[t].Flags.Has(ioctl.ScrubCorrupt) }
	is := func(types ...ioctl.ScrubType) bool {
		return len(left) > 0 && !slices.ContainsFunc(left, func(t ioctl.ScrubType) bool { return !slices.Contains(types, t) })
	}
	switch {
	case slices.Contains(left, ioctl.ScrubTypeRTREFCBT) && is(ioctl.ScrubTypeRTREFCBT, ioctl.ScrubTypeRTRMAPBT) && onlyDisagrees(ioctl.ScrubTypeRTRMAPBT):
		return p.findRTRefcounts(ctx, g, left, pieces)
	case len(pieces) > 0 && len(left) == 0:
		p.r.log.WithField("rgno", g.agno).Info("reference counts: the kernel's own count does not bear out what scrubd sees")
	case is(ioctl.ScrubTypeRTSUM):
		p.findRTSummary(g)
	case is(ioctl.ScrubTypeRTRMAPBT):
		return p.findLoneRTRmapbt(ctx, fs, g)
	}
	return nil
}

// rtMiscounted are the confirmed stretches of g that blame its rtrefcountbt (row
// 6), apart from those that are in dispute (6b).
func (p *pass) rtMiscounted(g *group) []*verdict.SharedPiece {
	disputed := p.rtDisputed(g)
	var out []*verdict.SharedPiece
	for i := range p.rt.shared {
		piece := &p.rt.shared[i]
		if piece.AGNo != g.agno || slices.ContainsFunc(disputed, func(r verdict.Range) bool {
			return r.Start < piece.Start+piece.Count && piece.Start < r.Start+r.Count
		}) {
			continue
		}
		d := verdict.DecideRTShared(piece, g.scrubs[ioctl.ScrubTypeRTREFCBT])
		if d.Action == verdict.ActionRebuildRefcountbt {
			out = append(out, piece)
			continue
		}
		p.r.log.WithField("rgno", g.agno).WithField("rgbno", piece.Start).Infof("reference counts: %s", d.Reason)
	}
	return out
}

func (p *pass) findRTRefcounts(ctx context.Context, g *group, types []ioctl.ScrubType, pieces []*verdict.SharedPiece) error {
	f := &finding{Finding: &Finding{
		AtFault: string(verdict.RTRefcountbt), Row: 6, Severity: Corruption, ScrubTypes: types, Witnesses: rtSays(g, types),
		Summary: fmt.Sprintf("the kernel finds the rtrefcountbt of %s corrupt", g),
	}, order: orderRefcountbt, steps: rtStep(g, ioctl.ScrubTypeRTREFCBT)}
	p.sayMiscounted(f.Finding, pieces)
	if len(pieces) > 0 {
		f.Summary = fmt.Sprintf("the rtrefcountbt of %s is wrong about %s at block %d", g, countBlocks(f.Extents), pieces[0].Start)
	}
	for i := range f.Witnesses {
		switch f.Witnesses[i].Name {
		case "refcountbt":
			f.Witnesses[i].Name = string(verdict.RTRefcountbt)
		case "fork":
			f.Witnesses[i].Says = fmt.Sprintf("%s claim them, and the rtrmapbt has the same", plural(uint64(len(pieces[0].Claims)), "fork"))
		}
	}
	p.rtExplains(g, ioctl.ScrubTypeRTREFCBT)
	rg := p.rtFacts(g, nil)
	if err := p.rtRecords(ctx, g, rg, func(uint64) error { return nil }); err != nil {
		return err
	}
	f.blockers = verdict.MayRebuildRTRefcountbt(rg, p.dataDevice(), p.unheardSharers())
	p.addRT(g, f)
	return nil
}

func (p *pass) findRTSummary(g *group) {
	types := []ioctl.ScrubType{ioctl.ScrubTypeRTSUM}
	f := &finding{Finding: &Finding{
		AtFault: string(verdict.RTSummary), Severity: Corruption, ScrubTypes: types, Witnesses: rtSays(g, types),
		Summary: fmt.Sprintf("the rtsummary of %s does not count the free extents of its rtbitmap", g),
	}, order: orderOther, steps: rtStep(g, ioctl.ScrubTypeRTSUM)}
	p.rtExplains(g, ioctl.ScrubTypeRTSUM)
	f.blockers = append(p.needsExchange(), verdict.MayRebuildRTSummary(p.rtFacts(g, nil), p.dataDevice())...)
	p.addRT(g, f)
}

// findLoneRTRmapbt is an rtrmapbt of which the kernel alone complains, and nobody
// else has anything to complain of.
func (p *pass) findLoneRTRmapbt(ctx context.Context, fs *verdict.FS, g *group) error {
	types := []ioctl.ScrubType{ioctl.ScrubTypeRTRMAPBT}
	f := &finding{Finding: &Finding{
		AtFault: string(verdict.RTRmapbt), Row: 14, Severity: Corruption, ScrubTypes: types, Witnesses: rtSays(g, types),
		Summary: fmt.Sprintf("the kernel finds the rtrmapbt of %s corrupt", g),
	}, order: orderRmapbt, steps: rtStep(g, ioctl.ScrubTypeRTRMAPBT)}
	p.rtExplains(g, ioctl.ScrubTypeRTRMAPBT)
	rg, err := p.rtRebuildFacts(ctx, g, nil)
	if err != nil {
		return err
	}
	f.blockers = verdict.MayRebuildRTRmapbt(fs, rg, p.dataDevice())
	p.addRT(g, f)
	return nil
}

// rtInodeBlockers lists what stands against a repair of an inode whose data is on
// the realtime device: its counters and its data fork hang on the rtrmapbts.
func (p *pass) rtInodeBlockers(f *finding, res kernel.Result) []verdict.Blocker {
	ino := f.Files[0].Ino
	if !p.isRealtime(ino) {
		return nil
	}
	var out []verdict.Blocker
	if slices.ContainsFunc(f.steps, func(s step) bool { return s.obj.Type == ioctl.ScrubTypeBMBTD }) {
		out = append(out, verdict.Blocker{Clause: "realtime", Why: "the data fork of a realtime file is not rebuilt on its own"})
	}
	if res.Type != ioctl.ScrubTypeINODE {
		return out
	}
	if res.Flags.Has(ioctl.ScrubCorrupt) {
		out = append(out, verdict.Blocker{Clause: "realtime", Why: "more than the counters of a realtime file is wrong"})
	}
	if len(p.rt.groups) == 0 || !p.hasRmapbt(&p.rt.groups[0]) {
		return append(out, verdict.Blocker{Clause: "proven", Why: "its data was not compared with an rtrmapbt"})
	}
	leaked := false
	for i := range p.rt.groups {
		g := &p.rt.groups[i]
		_, free := p.rtSpaceConflicts(g)
		leaked = leaked || len(free) > 0
		for _, why := range p.rtFacts(g, nil).Unsettled {
			out = append(out, verdict.Blocker{Clause: "proven", Why: why})
		}
		if g.rmapErr == nil && !g.spaceCompared {
			out = append(out, verdict.Blocker{Clause: "proven", Why: fmt.Sprintf("rtbitmap and rtrmapbt of %s were not compared", g)})
		}
	}
	for _, d := range p.rt.bad {
		if d.Inodes[uint64(ino)] != nil {
			out = append(out, verdict.Blocker{Clause: "proven", Why: fmt.Sprintf("blocks %d+%d of rtgroup %d are in dispute", d.first().Start, d.first().Count, d.first().AGNo)})
		}
	}
	if why := p.countsMore(ino); why != "" && leaked {
		out = append(out, verdict.Blocker{Clause: "reap", Why: why + ", and there are realtime blocks without an owner"})
	}
	return out
}

// findRTClaims words what was confirmed of realtime files where there is no
// rtrmapbt. Nothing of it can be repaired online.
func (p *pass) findRTClaims() {
	for i := range p.rt.groups {
		g := &p.rt.groups[i]
		for _, c := range g.candidates {
			if c.Status != confirm.Confirmed {
				continue
			}
			claim := &c.Diffs[0].Claim
			f := &finding{Finding: &Finding{
				AtFault: string(verdict.Undecided), Row: 5, Severity: Critical,
				Witnesses: []Witness{{"fork", "maps " + describe(claim)}},
				Summary:   fmt.Sprintf("inode %d uses blocks of %s at block %d that the rtbitmap has free", claim.Owner, g, claim.StartBlock),
				Reason:    "without an rtrmapbt there is no third witness, and no online repair",
				WaysOut:   offline(),
			}}
			if c.Against == confirm.AgainstForks {
				f.Row, f.Severity = 9, Corruption
				f.Summary = fmt.Sprintf("two files use the same blocks of %s at block %d", g, claim.StartBlock)
			} else {
				f.Witnesses = append(f.Witnesses, Witness{"rtbitmap", "free"})
			}
			f.sayClaims(g, c)
			p.addRT(g, f)
		}
	}
}

// findRTUnsettled reports what could not be settled, one finding per group.
func (p *pass) findRTUnsettled() {
	for i := range p.rt.groups {
		g := &p.rt.groups[i]
		f := &finding{Finding: &Finding{AtFault: string(verdict.Undecided), Severity: Warning, Outcome: Unsettled}, order: orderNone}
		note := func(start, count uint32, why string) {
			f.Reason = why
			f.Extents = append(f.Extents, Extent{g.agno, ioctl.AGBlock(start), count})
		}
		for _, c := range g.candidates {
			if c.Status == confirm.Unsettled {
				note(c.Start, c.Count, c.Why)
				for _, ino := range c.Owners {
					f.Files = addFile(f.Files, ioctl.Ino(ino), 0)
				}
			}
		}
		for _, s := range g.space {
			if s.Status == confirm.Unsettled {
				note(s.Start, s.Count, s.Why)
			}
		}
		if s := g.scrubs[ioctl.ScrubTypeRTREFCBT]; !s.Ran || s.Flags.Any(ioctl.ScrubXFail|ioctl.ScrubIncomplete) {
			for _, c := range g.shared {
				if c.Status == confirm.Unsettled {
					note(c.Start, c.Count, c.Why)
				}
			}
		}
		if n := len(f.Extents); n > 0 {
			f.Summary = fmt.Sprintf("%d differences between forks, rtrmapbt and rtbitmap of %s could not be settled", n, g)
			p.addRT(g, f)
		}
	}
}
