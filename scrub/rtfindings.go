package scrub

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/confirm"
	"github.com/scrubd/scrubd/scrub/kernel"
	"github.com/scrubd/scrubd/scrub/verdict"
	"github.com/scrubd/scrubd/scrub/witness"
	"github.com/scrubd/scrubd/shadow"
)

// judgeRealtime turns what was confirmed about realtime groups into findings, and
// weighs the repair of each.
func (p *pass) judgeRealtime(ctx context.Context, fs *verdict.FS) error {
	p.rt.explained = make(map[kernel.Object]bool)
	if len(p.rt.groups) == 0 {
		return nil
	}
	if !p.hasRmapbt(&p.rt.groups[0]) {
		p.findRTClaims()
		p.findRTUnsettled()
		return nil
	}
	if err := p.rtDisputes(ctx); err != nil {
		return err
	}
	if err := p.rtSharedPieces(ctx); err != nil {
		return err
	}
	fs = p.exempt(fs)
	for _, find := range []func(context.Context, *verdict.FS, *group) error{
		p.findRTRmapbt, p.findRTSpace, p.findRTUnreadable, p.findRTKernel,
	} {
		for i := range p.rt.groups {
			if err := find(ctx, fs, &p.rt.groups[i]); err != nil {
				return err
			}
		}
	}
	p.findRTUnsettled()
	return nil
}

// byGroup tells whether the finding is about one structure of a realtime group,
// which is one fault whatever files it touches.
func (f *finding) byGroup() bool {
	return f.Realtime && f.AtFault != string(verdict.Undecided)
}

// rtStep is the repair of metadata of a realtime group.
func rtStep(g *group, t ioctl.ScrubType) []step {
	return []step{{obj: kernel.Object{Type: t, AGNo: g.agno}, forced: true}}
}

// rtExplains notes complaints of the kernel about g that a finding accounts for:
// all of types, and of the others those that are mere disagreements.
func (p *pass) rtExplains(g *group, types ...ioctl.ScrubType) {
	for _, t := range rtTypes {
		if slices.Contains(types, t) || t != ioctl.ScrubTypeRTSUM && !g.scrubs[t].Flags.Has(ioctl.ScrubCorrupt) {
			p.rt.explained[kernel.Object{Type: t, AGNo: g.agno}] = true
		}
	}
}

// addRT records a finding about g. What stands against its repair is named, and
// the way out that is always there.
func (p *pass) addRT(g *group, f *finding) *finding {
	f.Realtime, f.AGNo = true, g.agno
	if len(f.blockers) > 0 && len(f.WaysOut) == 0 {
		f.WaysOut = offline()
	}
	return p.add(f)
}

// rtBad lists the complaints of the kernel about g.
func rtBad(g *group) []ioctl.ScrubType { return badTypes(g, rtTypes...) }

func rtSays(g *group, types []ioctl.ScrubType) []Witness {
	var out []Witness
	for _, t := range types {
		out = append(out, Witness{"kernel scrub", fmt.Sprintf("%s: %s", t, g.scrubs[t].Flags)})
	}
	return out
}

// findRTRmapbt makes one finding of all disputes that blame the rtrmapbt of g, and
// one of each that is held.
func (p *pass) findRTRmapbt(ctx context.Context, fs *verdict.FS, g *group) error {
	var blamed []*dispute
	for _, d := range p.rt.bad {
		if d.first().AGNo != g.agno {
			continue
		}
		if d.decision.Action == verdict.ActionRebuildRmapbt {
			blamed = append(blamed, d)
			continue
		}
		f := p.fromRTDisputes(g, d)
		f.Reason = d.decision.Reason
		f.WaysOut = p.rtWaysOut(d)
		p.addRT(g, f)
	}
	if len(blamed) == 0 {
		return nil
	}
	f := p.fromRTDisputes(g, blamed...)
	f.order = orderRmapbt
	if verdict.LostLeaf(evidenceOf(blamed)) {
		f.Row = 17
	}
	for _, agno := range groupsOf(blamed) {
		other := &p.rt.groups[agno]
		facts, err := p.rtRebuildFacts(ctx, other, blamed)
		if err != nil {
			return err
		}
		f.blockers = append(f.blockers, verdict.MayRebuildRTRmapbt(fs, facts, p.dataDevice())...)
		f.steps = append(f.steps, rtStep(other, ioctl.ScrubTypeRTRMAPBT)...)
	}
	p.addRT(g, f)
	return nil
}

// groupsOf are the groups that disputes have pieces in, in order.
func groupsOf(set []*dispute) []ioctl.AGNumber {
	var out []ioctl.AGNumber
	for _, d := range set {
		out = append(out, d.groupNumbers()...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// fromRTDisputes words one finding for disputes with one decision.
func (p *pass) fromRTDisputes(g *group, set ...*dispute) *finding {
	d := set[0]
	first := d.first()
	f := &finding{
		Finding: &Finding{
			AtFault: string(d.decision.AtFault), Row: d.decision.Row, Letter: d.decision.Letter, Severity: Corruption,
			Witnesses: []Witness{{"fork", saysFork(d)}, {"rtrmapbt", saysRmap(d)}, {"rtbitmap", first.Space.String()}},
		},
		order: orderNone, rtDisputes: set,
	}
	if d.decision.Critical {
		f.Severity = Critical
	}
	for _, d := range set {
		f.Extents = appendExtents(f.Extents, d)
		f.Files = appendFiles(f.Files, d)
		for _, in := range d.Inodes {
			for _, r := range p.inodeBad[in.Ino] {
				if r.Bad() && !slices.Contains(f.ScrubTypes, r.Type) {
					f.ScrubTypes = append(f.ScrubTypes, r.Type)
				}
			}
		}
	}
	for _, agno := range groupsOf(set) {
		other := &p.rt.groups[agno]
		for _, t := range badTypes(other, ioctl.ScrubTypeRTRMAPBT, ioctl.ScrubTypeRTBITMAP, ioctl.ScrubTypeRTREFCBT) {
			if !slices.Contains(f.ScrubTypes, t) {
				f.ScrubTypes = append(f.ScrubTypes, t)
			}
		}
		p.rtExplains(other, ioctl.ScrubTypeRTRMAPBT)
	}
	slices.Sort(f.ScrubTypes)
	if says := saysCounters(d); says != "" {
		f.Witnesses = append(f.Witnesses, Witness{"inode counters", strings.ReplaceAll(says, "the rmapbt", "the rtrmapbt")})
	}
	what := "fork and rtrmapbt disagree"
	if d.decision.AtFault == verdict.RTRmapbt {
		what = "the rtrmapbt is wrong"
	}
	f.Summary = fmt.Sprintf("%s about %s at block %d of %s", what, countBlocks(f.Extents), first.Start, g)
	return f
}

// rtWaysOut names what a person can decide about a held dispute. Neither is made
// online.
func (p *pass) rtWaysOut(d *dispute) []WayOut {
	if !d.decision.OnlyTrace {
		return offline()
	}
	blocks := countBlocks(appendExtents(nil, d))
	return []WayOut{{
		Trust:  TrustRmap,
		Effect: fmt.Sprintf("copy the %s named above from the realtime device: they may be what the file lost", blocks),
	}, {
		Trust:  TrustFork,
		Effect: fmt.Sprintf("give up the %s for good: unmount and run xfs_repair, which frees them", blocks),
	}}
}

// rtRebuildFacts adds to the facts what only a rebuild of the rtrmapbt asks for.
func (p *pass) rtRebuildFacts(ctx context.Context, g *group, settled []*dispute) (*verdict.RTGroup, error) {
	rg := p.rtFacts(g, settled)
	dead := make(map[uint64]bool)
	for _, d := range settled {
		for ino, in := range d.Inodes {
			dead[ino] = in.State == verdict.OwnerDead
		}
	}
	bulk := ioctl.NewBulkstatBuffer(1)
	err := p.rtRecords(ctx, g, rg, func(owner uint64) error {
		if dead[owner] {
			return nil
		}
		why, err := p.soundOwner(ctx, ioctl.Ino(owner), bulk)
		if why != "" {
			rg.OwnersUnscrubbed = append(rg.OwnersUnscrubbed, strings.Replace(why, "in this AG", "in this group", 1))
		}
		return err
	})
	return rg, err
}

// rtRecords adds to the facts what every record of g's rtrmapbt has to be read for,
// and calls each with every inode that it names. An inode of which BULKSTAT does not
// tell (waiting to be freed, or no file at all) makes no claim that its records could
// be held against: they were left out of the comparison.
func (p *pass) rtRecords(ctx context.Context, g *group, rg *verdict.RTGroup, each func(owner uint64) error) error {
	seen := make(map[uint64]bool)
	rg.NoStaging = true
	for recs, err := range p.rmapView(ctx, g) {
		if errors.Is(err, ioctl.ErrCorrupt) || errors.Is(err, witness.ErrStuck) {
			rg.NoStaging = false
			rg.Unheard = append(rg.Unheard, fmt.Sprintf("the records of %s cannot all be read", g))
			return nil
		}
		if err != nil {
			return err
		}
		for i := range recs {
			owner := recs[i].Owner
			rg.NoStaging = rg.NoStaging && owner != shadow.OwnerCoW
			if !recs[i].IsInode() || seen[owner] {
				continue
			}
			seen[owner] = true
			silent, err := p.stillSilent(ioctl.Ino(owner))
			if err != nil {
				return err
			}
			if silent {
				rg.Unheard = append(rg.Unheard, fmt.Sprintf("blocks %d+%d of %s are of inode %d, of which nothing is known", recs[i].StartBlock, recs[i].BlockCount, g, owner))
			}
			if err := each(owner); err != nil {
				return err
			}
		}
	}
	return nil
}

// stillSilent tells whether the walk found an inode in use of which BULKSTAT does
// not tell, and no file has its number by now.
func (p *pass) stillSilent(ino ioctl.Ino) (bool, error) {
	silent, err := p.walk.IsSilent(ino)
	if !silent || err != nil {
		return false, err
	}
	state, err := p.settler.StateOf(uint64(ino))
	return state != verdict.OwnerLive, err
}

// findRTSpace makes a finding of the blocks about which the rtbitmap of g is wrong
// (rows 4 and 7).
func (p *pass) findRTSpace(ctx context.Context, fs *verdict.FS, g *group) error {
	owned, leaked := p.rtSpaceConflicts(g)
	if len(owned) == 0 && len(leaked) == 0 {
		return nil
	}
	f := &finding{Finding: &Finding{AtFault: string(verdict.RTBitmap), Row: 7, Severity: Corruption}, order: orderFreeSpace}
	for _, r := range slices.Concat(owned, leaked) {
		if len(f.Extents) < maxListed {
			f.Extents = append(f.Extents, Extent{g.agno, ioctl.AGBlock(r.Start), r.Count})
		}
	}
	says := f.saySpace("rtbitmap", "rtrmapbt", owned, leaked, func() string { return p.rtOwnersAt(g, owned[0], f) })
	f.Summary = fmt.Sprintf("the rtbitmap of %s %s at block %d", g, says, f.Extents[0].StartBlock)
	f.ScrubTypes = rtBad(g)
	p.rtExplains(g, ioctl.ScrubTypeRTBITMAP, ioctl.ScrubTypeRTSUM)

	rg := p.rtFacts(g, nil)
	if err := p.rtRecords(ctx, g, rg, func(uint64) error { return nil }); err != nil {
		return err
	}
	rg.LeakProven, rg.Wanted = p.rtLeakProven(g), p.rtWanted(len(owned) > 0)
	f.blockers = append(p.needsExchange(), verdict.MayRebuildRTBitmap(fs, rg, p.dataDevice())...)
	f.steps = rtStep(g, ioctl.ScrubTypeRTBITMAP)
	if len(leaked) > 0 && len(owned) == 0 && !rg.LeakProven {
		f.Outcome, f.Severity = Unsettled, Warning
		f.Reason = "no moment without transactions under way in the group was seen, so that it may be a long one"
	}
	p.addRT(g, f)
	return nil
}

// rtOwnersAt says who owns the first of the blocks that the rtbitmap has free, and
// adds the inodes to the finding.
func (p *pass) rtOwnersAt(g *group, r verdict.Range, f *finding) string {
	recs, err := p.rmapWindow(g, r.Start, r.Count)
	if err != nil || len(recs) == 0 {
		return "their owner could not be read"
	}
	for i := range recs {
		if recs[i].IsInode() {
			f.Files = addFile(f.Files, ioctl.Ino(recs[i].Owner), 0)
		}
	}
	return describe(&recs[0].Rmap)
}

// needsExchange is what stands against repairs that swap the contents of a file.
func (p *pass) needsExchange() []verdict.Blocker {
	if p.r.fs.Geometry().Has(ioctl.FlagExchangeRange) {
		return nil
	}
	return []verdict.Blocker{{Clause: "deny", Why: "its repair needs the exchange-range feature, which this filesystem was made without"}}
}

// rtLeakProven tells whether realtime space that nobody owns and the rtbitmap does
// not have free was seen without doubt.
func (p *pass) rtLeakProven(g *group) bool {
	if g.scrubs[ioctl.ScrubTypeRTBITMAP].Flags.Any(ioctl.ScrubCorrupt | ioctl.ScrubXCorrupt) {
		return true
	}
	for _, s := range g.space {
		if s.Status == confirm.Confirmed && s.Conflict == confirm.Neither && !s.Quiet {
			return false
		}
	}
	return true
}

// rtWanted names whoever may have lost the realtime blocks that nobody owns: an
// inode that counts more blocks than its forks have, a dispute that looks like a
// lost write. Where blocks in use are free as well, these come first.
func (p *pass) rtWanted(urgent bool) []string {
	if urgent {
		return nil
	}
	var out []string
	for _, ino := range sortedKeys(p.inodeBad) {
		if why := p.countsMore(ino); why != "" {
			out = append(out, why+", and there are realtime blocks without an owner")
		}
	}
	for _, d := range p.rt.bad {
		if d.decision.Held() && d.decision.OnlyTrace {
			out = append(out, fmt.Sprintf("blocks %d+%d of rtgroup %d look like a lost write, and these may be of another", d.first().Start, d.first().Count, d.first().AGNo))
		}
	}
	return out
}

// countsMore tells of a realtime file of which the kernel's scrub complains and
// that counts more blocks than its forks have.
func (p *pass) countsMore(ino ioctl.Ino) string {
	bad := slices.ContainsFunc(p.inodeBad[ino], func(r kernel.Result) bool { return r.Type == ioctl.ScrubTypeINODE && r.Bad() })
	if !bad || !p.isRealtime(ino) {
		return ""
	}
	seen, err := p.settler.Measure(uint64(ino))
	if err != nil || seen.State != verdict.OwnerLive || seen.Blocks <= seen.ForkBlocks {
		return ""
	}
	return fmt.Sprintf("inode %d counts %s more than its forks have", ino, plural(seen.Blocks-seen.ForkBlocks, "block"))
}

// findRTUnreadable is row 15 for an rtrmapbt: it is rebuilt if every block that the
// rtbitmap does not have free is claimed by a fork, and none that it has free.
func (p *pass) findRTUnreadable(ctx context.Context, fs *verdict.FS, g *group) error {
	if g.rmapErr == nil {
		return nil
	}
	f := &finding{Finding: &Finding{
		AtFault: string(verdict.RTRmapbt), Row: 15, Severity: Corruption, ScrubTypes: rtBad(g),
		Summary: fmt.Sprintf("the rtrmapbt of %s cannot be read", g),
	}, order: orderRmapbt, steps: rtStep(g, ioctl.ScrubTypeRTRMAPBT)}
	f.Witnesses = append([]Witness{{"rtrmapbt", g.rmapErr.Error()}}, rtSays(g, rtBad(g))...)
	p.rtExplains(g, ioctl.ScrubTypeRTRMAPBT, ioctl.ScrubTypeRTBITMAP)
	if errors.Is(g.rmapErr, errTooMany) || errors.Is(g.rmapErr, witness.ErrStuck) {
		f.AtFault, f.steps = string(verdict.Undecided), nil
		f.Summary = fmt.Sprintf("forks and rtrmapbt of %s could not be compared", g)
		f.Reason, f.WaysOut = g.rmapErr.Error(), offline()
		p.addRT(g, f)
		return nil
	}
	rg := p.rtFacts(g, nil)
	rg.Unsettled = nil // the comparison is made here, without it
	var why string
	var err error
	if rg.ClaimsFill, why, err = p.rtClaimsFill(ctx, g); err != nil {
		return err
	}
	if !rg.ClaimsFill {
		f.blockers = append(f.blockers, verdict.Blocker{Clause: "row 15", Why: why})
	}
	if !g.scrubs[ioctl.ScrubTypeRTRMAPBT].Flags.Has(ioctl.ScrubCorrupt) {
		f.blockers = append(f.blockers, verdict.Blocker{Clause: "row 15", Why: "the kernel's scrub does not find the rtrmapbt corrupt in itself"})
	}
	for _, ino := range sortedKeys(p.inodeBad) {
		for _, r := range p.inodeBad[ino] {
			if r.Type == ioctl.ScrubTypeINODE && (r.Bad() || r.Err != nil || r.Flags.Has(ioctl.ScrubIncomplete)) {
				rg.OwnersUnscrubbed = append(rg.OwnersUnscrubbed, fmt.Sprintf("inode %d does not pass its scrub", ino))
			}
		}
	}
	rg.OwnersUnscrubbed = append(rg.OwnersUnscrubbed, rg.ForksUnproven...)
	if rg.Unheard, err = p.rtUnclaimed(ctx, g); err != nil {
		return err
	}
	f.blockers = append(f.blockers, verdict.MayRebuildRTRmapbt(fs, rg, p.dataDevice())...)
	p.addRT(g, f)
	return nil
}

// rtClaimsFill tells whether the rtbitmap has free just what no fork claims, and
// says what it has otherwise.
func (p *pass) rtClaimsFill(ctx context.Context, g *group) (bool, string, error) {
	if _, err := p.trees.Update(ctx, p.inTrees(g)); err != nil {
		return false, "", err
	}
	tree, err := p.trees.Rmaps(ctx, p.inTrees(g))
	if err != nil {
		return false, "", err
	}
	claimed := ranges(tree.Batches(), func(r *shadow.Rmap) verdict.Range {
		return verdict.Range{Start: r.StartBlock, Count: r.BlockCount}
	})
	free := ranges(p.freeView(ctx, g), func(f *witness.Free) verdict.Range {
		return verdict.Range{Start: f.Start, Count: f.Count}
	})
	for c, err := range sweepSpace(p.blocks(g), claimed, free) {
		if errors.Is(err, ioctl.ErrCorrupt) {
			return false, fmt.Sprintf("the rtbitmap of %s cannot be read either", g), nil
		}
		if err != nil {
			return false, "", err
		}
		if c.kind == confirm.OwnedFree {
			return false, fmt.Sprintf("forks claim blocks %d+%d of %s, and the rtbitmap has them free", c.Start, c.Count, g), nil
		}
		return false, fmt.Sprintf("blocks %d+%d of %s are allocated, and nothing that can be read owns them", c.Start, c.Count, g), nil
	}
	return true, "", nil
}

// rtUnclaimed lists what would be lost with an rtrmapbt that cannot be read as a
// whole although all blocks in use are claimed: the records of those that share
// blocks with a claimant, and make no claim. These are among the records that can
// still be read; or only the rtrefcountbt tells of them.
func (p *pass) rtUnclaimed(ctx context.Context, g *group) ([]string, error) {
	var readable []shadow.Rmap
	_, err := witness.RTReadableRmaps(ctx, p.r.fs, g.rgno(), p.fsmapBuf, func(recs []shadow.Rmap) error {
		readable = append(readable, recs...)
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(readable, func(a, b shadow.Rmap) int { return shadow.Compare(&a, &b) })
	tree, err := p.trees.Rmaps(ctx, p.inTrees(g))
	if err != nil {
		return nil, err
	}
	var out []string
	records := predictable(func(yield func([]shadow.Rmap, error) bool) { yield(readable, nil) })
	for d, err := range shadow.Diff(tree.Batches(), records) {
		if err != nil {
			return nil, err
		}
		if d.HasKernel { // else it is what the unreadable part would have said
			out = append(out, "the rtrmapbt has "+describe(&d.Kernel)+", and no fork does")
		}
	}
	for _, c := range g.shared {
		out = append(out, fmt.Sprintf("forks and rtrefcountbt of %s do not agree about who shares blocks %d+%d", g, c.Start, c.Count))
	}
	return out, nil
}
