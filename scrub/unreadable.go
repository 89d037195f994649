package scrub

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/confirm"
	"github.com/scrubd/scrubd/scrub/kernel"
	"github.com/scrubd/scrubd/scrub/verdict"
	"github.com/scrubd/scrubd/scrub/witness"
	"github.com/scrubd/scrubd/shadow"
)

// findUnreadable is row 15: an rmapbt that GETFSMAP cannot read and that the
// kernel's scrub finds corrupt. It is rebuilt only if every allocated block
// that no readable record owns is claimed by a fork or known metadata, and no
// readable record stands without a claim.
func (p *pass) findUnreadable(ctx context.Context, fs *verdict.FS) error {
	for i := range p.groups {
		g := &p.groups[i]
		if errors.Is(g.rmapErr, witness.ErrStuck) {
			// The kernel's own way of going on after a full batch loses records.
			p.add(&finding{Finding: &Finding{
				AtFault: string(verdict.Undecided), Severity: Warning, Outcome: Unsettled, HasAG: true, AGNo: g.agno,
				Summary: fmt.Sprintf("the rmapbt of AG %d cannot be listed completely", g.agno), Reason: g.rmapErr.Error(),
			}, order: orderNone})
			continue
		}
		if g.headerLost {
			continue // nothing of the AG can be read without its AGF and AGI
		}
		if g.rmapErr == nil || errors.Is(g.rmapErr, errTooMany) {
			if g.rmapErr != nil {
				p.add(&finding{Finding: &Finding{
					AtFault: string(verdict.Undecided), Severity: Corruption, HasAG: true, AGNo: g.agno,
					Summary: fmt.Sprintf("forks and rmapbt of AG %d have next to nothing in common", g.agno),
					Reason:  g.rmapErr.Error(), WaysOut: offline(),
				}})
			}
			continue
		}
		if decided := verdict.DecideGroup(&verdict.GroupSeen{AG: p.facts(g, nil)}); decided.Held() && decided.AtFault == verdict.Refcountbt {
			if lost := p.lostRefcountRoot(g); len(lost) > 0 {
				p.add(p.refcountRoot(g, lost))
				continue
			}
			p.add(&finding{Finding: &Finding{
				AtFault: string(decided.AtFault), Row: decided.Row, Severity: Corruption, HasAG: true, AGNo: g.agno,
				ScrubTypes: badTypes(g, slices.Concat(headerTypes, spaceTypes)...),
				Summary:    fmt.Sprintf("the refcountbt of AG %d cannot be read, and without it not the rmapbt", g.agno),
				Witnesses: []Witness{
					{"rmapbt", g.rmapErr.Error()},
					{"kernel scrub", fmt.Sprintf("refcountbt: %s; rmapbt: %s",
						g.scrubs[ioctl.ScrubTypeREFCNTBT].Flags, g.scrubs[ioctl.ScrubTypeRMAPBT].Flags)},
				},
				Reason: decided.Reason, WaysOut: offline(),
			}, order: orderNone})
			continue
		}
		f := &finding{Finding: &Finding{
			AtFault: string(verdict.Rmapbt), Row: 15, Severity: Corruption, HasAG: true, AGNo: g.agno,
			ScrubTypes: badTypes(g, slices.Concat(headerTypes, spaceTypes)...),
			Summary:    fmt.Sprintf("the rmapbt of AG %d cannot be read", g.agno),
		}, order: orderRmapbt}
		f.Witnesses = []Witness{
			{"rmapbt", g.rmapErr.Error()},
			{"kernel scrub", fmt.Sprintf("rmapbt: %s", g.scrubs[ioctl.ScrubTypeRMAPBT].Flags)},
		}
		f.steps = []step{{obj: kernel.Object{Type: ioctl.ScrubTypeRMAPBT, AGNo: g.agno}, forced: true}}
		var err error
		if f.blockers, err = p.unreadableBlockers(ctx, fs, g, f.Finding); err != nil {
			return err
		}
		if len(f.blockers) > 0 {
			f.WaysOut = offline()
		}
		p.add(f)
	}
	return nil
}

// refcountRoot is the finding that the AGF of g does not have the root of its
// refcountbt.
func (p *pass) refcountRoot(g *group, lost []Witness) *finding {
	t := ioctl.ScrubTypeAGF
	types := badTypes(g, slices.Concat(headerTypes, spaceTypes)...)
	f := &finding{Finding: &Finding{
		AtFault: t.String(), Row: 14, Severity: Corruption, HasAG: true, AGNo: g.agno, ScrubTypes: types,
		Summary:   fmt.Sprintf("the AGF of AG %d has lost the root of the refcountbt", g.agno),
		Witnesses: append(lost, Witness{"rmapbt", g.rmapErr.Error()}),
	}, order: orderHeaders, steps: []step{{obj: kernel.Object{Type: t, AGNo: g.agno}, forced: true}}}
	// The rmapbt and its free space were read to the end, and add up; nothing but what
	// needs the refcountbt may be found wrong.
	for _, t := range []ioctl.ScrubType{ioctl.ScrubTypeAGFL, ioctl.ScrubTypeBNOBT, ioctl.ScrubTypeCNTBT, ioctl.ScrubTypeRMAPBT} {
		if s := g.scrubs[t]; !s.Ran || s.Flags.Any(ioctl.ScrubCorrupt|ioctl.ScrubIncomplete) {
			f.blockers = append(f.blockers, verdict.Blocker{Clause: "vote", Why: fmt.Sprintf("the %s scrub of AG %d says %s", t, g.agno, s.Flags)})
		}
	}
	for _, why := range p.unprovenForks() {
		f.blockers = append(f.blockers, verdict.Blocker{Clause: "source", Why: why})
	}
	for _, o := range p.facts(g, nil).Open {
		f.blockers = append(f.blockers, verdict.Blocker{Clause: "proven", Why: o.What})
	}
	return f
}

func (p *pass) unreadableBlockers(ctx context.Context, fs *verdict.FS, g *group, f *Finding) ([]verdict.Blocker, error) {
	ag := p.facts(g, nil)
	if decided := verdict.DecideGroup(&verdict.GroupSeen{AG: ag}); decided.Held() {
		return []verdict.Blocker{{Clause: "row 15", Why: decided.Reason}}, nil
	}
	ag.Unsettled = nil // the comparison is made here, of what can be read
	ag.SpaceCompared = true
	sums, err := p.unowned(ctx, g)
	if err != nil {
		return nil, err
	}
	f.Extents = sums.extents
	ag.NoStaging = sums.noStaging
	ag.SpaceDisputes = sums.unowned
	ag.Reaped = sums.unclaimed
	// (b) cannot be asked of owners that cannot be read: every inode of the
	// filesystem has to pass instead.
	for ino, results := range p.inodeBad {
		if p.lostElsewhere(ino, g) {
			continue // its fork gets back what it lacks in another AG
		}
		for _, r := range results {
			noVerdict := r.Err != nil || r.Flags.Has(ioctl.ScrubIncomplete)
			if r.Type == ioctl.ScrubTypeINODE && (r.Bad() || noVerdict) {
				ag.OwnersUnscrubbed = append(ag.OwnersUnscrubbed, fmt.Sprintf("inode %d does not pass its scrub", ino))
			}
		}
	}
	ag.OwnersUncompared = p.open.uncomparedCores()
	ag.OwnersUnscrubbed = append(ag.OwnersUnscrubbed, p.open.notFinished()...)
	ag.OwnersUnscrubbed = append(ag.OwnersUnscrubbed, p.inodesLeftOut()...)
	ag.OwnersUnscrubbed = append(ag.OwnersUnscrubbed, p.privateFiles()...)
	return verdict.MayRebuildRmapbt(fs, ag), nil
}

// lostElsewhere tells whether what is wrong with an inode is decided: its fork
// lost blocks in other AGs than g. That it lost none in g is known from all
// allocated blocks there having an owner.
func (p *pass) lostElsewhere(ino ioctl.Ino, g *group) bool {
	return slices.ContainsFunc(p.rmapBad, func(d *dispute) bool {
		return d.decision.Action == verdict.ActionRebuildFork && d.decision.Ino == ino && !d.touches(g.agno)
	})
}

type unreadableSums struct {
	extents            []Extent
	unowned, unclaimed []string
	noStaging          bool // nothing that can be read is CoW staging
}

// unowned compares what can be read of g's rmapbt with the claims, and both
// with the bnobt.
func (p *pass) unowned(ctx context.Context, g *group) (unreadableSums, error) {
	var sums unreadableSums
	if p.r.bnobt == nil {
		sums.unowned = []string{"the bnobt could not be asked"}
		return sums, nil
	}
	var readable []shadow.Rmap
	holes, err := witness.ReadableRmaps(ctx, p.r.fs, g.agno, p.fsmapBuf, func(recs []shadow.Rmap) error {
		readable = append(readable, recs...)
		return nil
	})
	if err != nil {
		return sums, err
	}
	for _, h := range holes {
		sums.extents = append(sums.extents, Extent{g.agno, ioctl.AGBlock(h.Start), h.Count})
	}
	sums.noStaging = !slices.ContainsFunc(readable, func(r shadow.Rmap) bool { return r.Owner == shadow.OwnerCoW })
	slices.SortFunc(readable, func(a, b shadow.Rmap) int { return shadow.Compare(&a, &b) })
	var claimed []verdict.Range
	tree, err := p.trees.Rmaps(ctx, g.agno)
	if err != nil {
		return sums, err
	}
	for recs, err := range tree.Batches() {
		if err != nil {
			return sums, err
		}
		for i := range recs {
			claimed = append(claimed, verdict.Range{Start: recs[i].StartBlock, Count: recs[i].BlockCount})
		}
	}
	for c, err := range p.walk.Chunks[g.agno].All(ctx) {
		if err != nil {
			return sums, err
		}
		for _, r := range p.chunkClaims(c.StartIno, c.AllocMask) {
			claimed = append(claimed, verdict.Range{Start: r.StartBlock, Count: r.BlockCount})
		}
	}
	known := slices.Clone(claimed)
	for i := range readable {
		known = append(known, verdict.Range{Start: readable[i].StartBlock, Count: readable[i].BlockCount})
	}
	slices.SortFunc(known, func(a, b verdict.Range) int { return int(int64(a.Start) - int64(b.Start)) })
	free := ranges(witness.FreeView(ctx, p.r.fs, p.r.bnobt, g.agno, p.freeBuf), func(f *witness.Free) verdict.Range {
		return verdict.Range{Start: f.Start, Count: f.Count}
	})
	owned := func(yield func(verdict.Range, error) bool) {
		for _, r := range known {
			if !yield(r, nil) {
				return
			}
		}
	}
	var unowned []verdict.Range
	for c, err := range sweepSpace(uint32(p.r.fs.Geometry().AGLength(g.agno)), owned, free) {
		if errors.Is(err, ioctl.ErrCorrupt) {
			sums.unowned = []string{fmt.Sprintf("the bnobt of AG %d cannot be read either", g.agno)}
			return sums, nil
		}
		if err != nil {
			return sums, err
		}
		if c.kind != confirm.OwnedFree {
			unowned = append(unowned, verdict.Range{Start: c.Start, Count: c.Count})
			continue
		}
		sums.unowned = append(sums.unowned, fmt.Sprintf("blocks %d+%d of AG %d are owned, and the bnobt has them free", c.Start, c.Count, g.agno))
	}
	for _, r := range p.notMetadata(g.agno, unowned) {
		sums.unowned = append(sums.unowned, fmt.Sprintf("blocks %d+%d of AG %d are allocated, and nothing that can be read owns them", r.Start, r.Count, g.agno))
	}
	kernelSide := predictable(func(yield func([]shadow.Rmap, error) bool) { yield(readable, nil) })
	for d, err := range shadow.Diff(tree.Batches(), kernelSide) {
		if err != nil {
			return sums, err
		}
		if !d.HasKernel {
			continue // what the unreadable part would have said
		}
		skip, err := p.unjudged(g, &d)
		if err != nil {
			return sums, err
		}
		if !skip {
			sums.unclaimed = append(sums.unclaimed, "the rmapbt has "+describe(&d.Kernel)+", and no fork does")
		}
	}
	return sums, nil
}
