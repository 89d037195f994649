package scrub

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/confirm"
	"github.com/scrubd/scrubd/scrub/kernel"
	"github.com/scrubd/scrubd/scrub/verdict"
	"github.com/scrubd/scrubd/shadow"
)

// dispute is a confirmed disagreement between forks and rmapbts with all that
// the other witnesses say of it, and the verdict.
type dispute struct {
	verdict.Dispute
	diffs    []verdict.Difference
	decision verdict.Decision
}

// touches reports whether a piece of d lies in agno.
func (d *dispute) touches(agno ioctl.AGNumber) bool {
	return slices.ContainsFunc(d.Pieces, func(p verdict.Piece) bool { return p.AGNo == agno })
}

// groupNumbers are the AGs that d has pieces in, in order.
func (d *dispute) groupNumbers() []ioctl.AGNumber {
	var out []ioctl.AGNumber
	for i := range d.Pieces {
		if !slices.Contains(out, d.Pieces[i].AGNo) {
			out = append(out, d.Pieces[i].AGNo)
		}
	}
	slices.Sort(out)
	return out
}

// first is the first piece in order of AG and block.
func (d *dispute) first() *verdict.Piece { return &d.Pieces[0] }

// disputes groups the confirmed differences and asks every other witness
// about each group.
func (p *pass) disputes(ctx context.Context) error {
	diffs := confirmedDiffs(p.groups)
	if len(diffs) == 0 {
		return nil
	}
	others, err := p.otherClaims(ctx, diffs)
	if err != nil {
		return err
	}
	owned, err := p.ownedBlocks(ctx, diffs)
	if err != nil {
		return err
	}
	nothingLost := p.nothingLost()
	for _, diffs := range verdict.Group(diffs) {
		d := &dispute{diffs: diffs}
		d.NothingLost = nothingLost
		for i := range diffs {
			around, err := p.around(&diffs[i], others)
			if err != nil {
				return err
			}
			g := &p.groups[diffs[i].AGNo]
			if err := p.addPieces(d, &diffs[i], around, g, badTypes(g, ioctl.ScrubTypeREFCNTBT), badTypes(g, ioctl.ScrubTypeRMAPBT)); err != nil {
				return err
			}
		}
		if err := p.inodesOf(ctx, d, owned); err != nil {
			return err
		}
		d.decision = verdict.Decide(&d.Dispute)
		p.rmapBad = append(p.rmapBad, d)
	}
	return nil
}

// confirmedDiffs are the differences of groups that were confirmed.
func confirmedDiffs(groups []group) []verdict.Difference {
	var diffs []verdict.Difference
	for i := range groups {
		g := &groups[i]
		for _, c := range g.candidates {
			if c.Status != confirm.Confirmed {
				continue
			}
			for _, d := range c.Diffs {
				diffs = append(diffs, verdict.Difference{AGNo: g.agno, Difference: d})
			}
		}
	}
	return diffs
}

// addPieces adds a difference in g to a dispute, cut into pieces about each of
// which all witnesses around say one thing. counts and records are what the kernel
// finds bad of who counts owners and of who records them.
func (p *pass) addPieces(d *dispute, diff *verdict.Difference, around *verdict.Around, g *group, counts, records []ioctl.ScrubType) error {
	pieces := verdict.Pieces(diff, around)
	for j := range pieces {
		pieces[j].RefcountDenies, pieces[j].RmapbtBad = len(counts) > 0, len(records) > 0
		p.doubtUsed(g, &pieces[j])
	}
	if err := p.elsewhere(pieces); err != nil {
		return err
	}
	d.Pieces = append(d.Pieces, pieces...)
	return nil
}

// doubtUsed takes the bnobt's word back for blocks that it was seen not to have
// free in one look and that no record owns: in the middle of an allocation that
// looks the same. Where it is so for good, the comparison of rmapbt and bnobt has
// found it too, and it was confirmed.
func (p *pass) doubtUsed(g *group, pc *verdict.Piece) {
	if pc.Claim == nil || pc.Record != nil || len(pc.OtherRecords) > 0 || pc.Space != verdict.SpaceUsed {
		return
	}
	own := []verdict.Range{{Start: pc.Start, Count: pc.Count}}
	for _, s := range g.space {
		if s.Status == confirm.Confirmed && s.Conflict == confirm.Neither {
			own = confirm.Subtract(own, s.Parts)
		}
	}
	if len(own) > 0 {
		pc.Space = verdict.SpaceUnknown
	}
}

// otherClaims looks up the claims on the disputed blocks of every AG. The walk
// read them some time ago; around looks again.
func (p *pass) otherClaims(ctx context.Context, diffs []verdict.Difference) (map[ioctl.AGNumber][]shadow.Rmap, error) {
	byAG := make(map[ioctl.AGNumber][]verdict.Difference)
	for _, d := range diffs {
		byAG[d.AGNo] = append(byAG[d.AGNo], d)
	}
	out := make(map[ioctl.AGNumber][]shadow.Rmap)
	for agno, ds := range byAG {
		tree, err := p.trees.Rmaps(ctx, agno)
		if err != nil {
			return nil, err
		}
		for _, w := range extents(ds) {
			for r, err := range tree.Overlaps(uint64(w.Start), uint64(w.Start)+uint64(w.Count)) {
				if err != nil {
					return nil, err
				}
				out[agno] = append(out[agno], r)
			}
		}
		for c, err := range p.walk.Chunks[agno].All(ctx) {
			if err != nil {
				return nil, err
			}
			for _, r := range p.chunkClaims(c.StartIno, c.AllocMask) {
				if slices.ContainsFunc(ds, func(d verdict.Difference) bool { return overlaps(&d, &r) }) {
					out[agno] = append(out[agno], r)
				}
			}
		}
	}
	return out, nil
}

// extents are the blocks of differences in one AG, sorted, those that overlap or
// touch joined. One record may lie in several of them.
func extents(ds []verdict.Difference) []verdict.Range {
	var out []verdict.Range
	for i := range ds {
		start, count := ds[i].Extent()
		out = append(out, verdict.Range{Start: start, Count: count})
	}
	slices.SortFunc(out, func(a, b verdict.Range) int { return cmp.Compare(a.Start, b.Start) })
	n := 0
	for _, r := range out[1:] {
		last := &out[n]
		if end := uint64(last.Start) + uint64(last.Count); uint64(r.Start) <= end {
			last.Count = uint32(max(end, uint64(r.Start)+uint64(r.Count)) - uint64(last.Start))
			continue
		}
		n++
		out[n] = r
	}
	return out[:n+1]
}

func overlaps(d *verdict.Difference, r *shadow.Rmap) bool {
	start, count := d.Extent()
	return r.StartBlock < start+count && uint64(start) < r.End()
}

// chunkClaims are the blocks of a chunk that hold an allocated inode: those
// are inode blocks for sure, whatever holes a sparse chunk has.
func (p *pass) chunkClaims(start ioctl.Ino, mask uint64) []shadow.Rmap {
	geo := p.r.fs.Geometry()
	perBlock := uint64(geo.InodesPerBlock())
	var out []shadow.Rmap
	for i := uint64(0); i < 64; i += perBlock {
		held := mask >> i
		if perBlock < 64 {
			held &= 1<<perBlock - 1
		}
		if held == 0 {
			continue
		}
		_, agbno, _ := geo.InoToAG(start + ioctl.Ino(i))
		out = append(out, shadow.Rmap{StartBlock: uint32(agbno), BlockCount: 1, Owner: shadow.OwnerInodes})
	}
	return out
}

// around gathers what the other witnesses say of d's blocks now.
func (p *pass) around(d *verdict.Difference, others map[ioctl.AGNumber][]shadow.Rmap) (*verdict.Around, error) {
	var claims []shadow.Rmap
	for _, c := range others[d.AGNo] {
		if overlaps(d, &c) {
			claims = append(claims, c)
		}
	}
	return p.ask(&p.groups[d.AGNo], d, claims)
}

// ask gathers what the other witnesses in g say of d's blocks now: those of claims on
// them that still stand, the records, the free space.
func (p *pass) ask(g *group, d *verdict.Difference, claims []shadow.Rmap) (*verdict.Around, error) {
	start, count := d.Extent()
	w := g.window(start, count)
	a := &verdict.Around{}
	asked := make(map[uint64]bool) // a file may claim one block at several offsets
	for _, c := range claims {
		if asked[c.Owner] {
			continue
		}
		if c.IsInode() {
			asked[c.Owner] = true
			c.StartBlock, c.BlockCount = start, count
		}
		still, err := p.settler.StillClaims(w, c)
		if err != nil {
			return nil, err
		}
		a.Claims = append(a.Claims, still...)
	}
	recs, err := p.rmapWindow(g, start, count)
	if err != nil && !errors.Is(err, ioctl.ErrCorrupt) {
		return nil, err
	}
	for _, r := range recs {
		a.Records = append(a.Records, verdict.Record{Rmap: r.Rmap, Shared: r.Shared})
	}
	if p.r.bnobt == nil {
		return a, nil
	}
	free, err := p.freeWindow(g, start, count)
	if err != nil && !errors.Is(err, ioctl.ErrCorrupt) {
		return nil, err
	}
	a.FreeKnown = err == nil
	for _, f := range free {
		a.Free = append(a.Free, verdict.Range{Start: f.Start, Count: f.Count})
	}
	return a, nil
}

// elsewhere asks the forks that records without claims are of whether they map
// the same offsets to other blocks, and those of claims that differ, or have no
// record, whether they contradict themselves there.
func (p *pass) elsewhere(pieces []verdict.Piece) error {
	for i := range pieces {
		pc := &pieces[i]
		if pc.OffsetDiffers() && p.corruptFork(pc.Claim) {
			fits, err := p.settler.HasRoomOnlyFor(pc.Claim, pc.Record, pc.AGNo)
			if err != nil && !errors.Is(err, ioctl.ErrCorrupt) {
				return err
			}
			pc.RoomForRecord = fits
		}
		if pc.Claim != nil && pc.Record == nil && pc.Claim.HasOffset() && p.corruptFork(pc.Claim) {
			overruns, err := p.settler.OverrunsNext(pc.Claim, pc.AGNo)
			if err != nil && !errors.Is(err, ioctl.ErrCorrupt) {
				return err
			}
			pc.OverrunsNext = overruns
		}
		if pc.Record == nil || pc.Claim != nil || !pc.Record.HasOffset() {
			continue
		}
		maps, err := p.settler.MapsOffsets(pc.Record)
		if err != nil && !errors.Is(err, ioctl.ErrCorrupt) {
			return err
		}
		pc.Elsewhere = maps
	}
	return nil
}

// corruptFork tells whether the kernel finds the fork that m is of corrupt in itself.
// A whole fork is listed only then.
func (p *pass) corruptFork(m *shadow.Rmap) bool {
	t := ioctl.ScrubTypeBMBTD
	if m.Flags()&shadow.OffsetAttrFork != 0 {
		t = ioctl.ScrubTypeBMBTA
	}
	return slices.ContainsFunc(p.inodeBad[ioctl.Ino(m.Owner)], func(r kernel.Result) bool {
		return r.Type == t && r.Flags.Has(ioctl.ScrubCorrupt)
	})
}

// nothingLost tells whether every allocated block of every AG is known to have a
// record.
func (p *pass) nothingLost() bool {
	for i := range p.groups {
		g := &p.groups[i]
		if !g.spaceCompared || g.rmapErr != nil {
			return false
		}
		for _, s := range g.space {
			if s.Conflict == confirm.Neither {
				return false
			}
		}
	}
	return true
}
