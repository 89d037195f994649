package scrub

import (
	"cmp"
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

// unheardOwners lists the inodes with records in g whose forks nobody can list
// (links, special files) and that the rmapbts give more blocks than they count
// themselves. Such a record stands in no comparison with a fork, and may be the
// only trace of a link's target or of attributes whose inode was not written: a
// rebuild of the rmapbt would free it without another witness denying it (the
// reap rule). An inode that was written to since the walk can show here too; the
// next pass knows better.
// Errors: ctx's, those that end a run.
func (p *pass) unheardOwners(ctx context.Context, g *group) ([]string, error) {
	has, err := p.opaqueOwners(ctx, g)
	if err != nil || len(has) == 0 {
		return nil, err
	}
	for i := range p.groups {
		_, err := p.eachRecord(ctx, &p.groups[i], func(r *shadow.Rmap) error {
			if n, ok := has[r.Owner]; ok {
				has[r.Owner] = n + uint64(r.BlockCount)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	var out []string
	for ino, blocks := range has {
		o, _, err := p.walk.FindOpaque(ioctl.Ino(ino))
		if err != nil {
			return nil, err
		}
		if blocks <= o.Blocks {
			continue
		}
		denied, err := p.deniedOf(ctx, g, ino)
		if err != nil {
			return nil, err
		}
		if blocks-denied > o.Blocks {
			out = append(out, fmt.Sprintf("the rmapbt has %d blocks of inode %d, which counts %d", blocks, ino, o.Blocks))
		}
	}
	slices.Sort(out)
	return out, nil
}

// deniedOf counts the blocks of ino's records in g that the bnobt was confirmed to
// have free, or that somebody else claims beyond doubt.
func (p *pass) deniedOf(ctx context.Context, g *group, ino uint64) (uint64, error) {
	var free []verdict.Range
	for _, s := range g.space {
		if s.Status == confirm.Confirmed && s.Conflict == confirm.OwnedFree {
			free = append(free, s.Parts...)
		}
	}
	var own []verdict.Range
	_, err := p.eachRecord(ctx, g, func(r *shadow.Rmap) error {
		if r.Owner == ino {
			own = append(own, verdict.Range{Start: r.StartBlock, Count: r.BlockCount})
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	var denied uint64
	for _, r := range own {
		others, err := p.surelyClaimed(ctx, g, confirm.Window{AGNo: g.agno, Start: r.Start, Count: r.Count})
		if err != nil {
			return 0, err
		}
		others = append(others, free...)
		slices.SortFunc(others, func(a, b verdict.Range) int { return cmp.Compare(a.Start, b.Start) })
		denied += uint64(r.Count)
		for _, left := range confirm.Subtract([]verdict.Range{r}, others) {
			denied -= uint64(left.Count)
		}
	}
	return denied, nil
}

// surelyClaimed returns blocks of w, in no order, that forks claim beyond doubt:
// asked again now, and confirmed against the rmapbt or borne out by it. What the
// walk read of a fork is old, and the block may be another's since.
func (p *pass) surelyClaimed(ctx context.Context, g *group, w confirm.Window) ([]verdict.Range, error) {
	tree, err := p.trees.Rmaps(ctx, g.agno)
	if err != nil {
		return nil, err
	}
	var claims []shadow.Rmap
	var out []verdict.Range
	for c, err := range tree.Overlaps(uint64(w.Start), uint64(w.Start)+uint64(w.Count)) {
		if err != nil {
			return nil, err
		}
		if c.IsInode() {
			claims = append(claims, c)
		} else { // of the geometry
			out = append(out, verdict.Range{Start: c.StartBlock, Count: c.BlockCount})
		}
	}
	if len(claims) == 0 {
		return out, nil
	}
	var sure []shadow.Rmap
	for _, c := range g.candidates {
		if c.Status != confirm.Confirmed {
			continue
		}
		for i := range c.Diffs {
			if c.Diffs[i].HasClaim {
				sure = append(sure, c.Diffs[i].Claim)
			}
		}
	}
	recs, err := witness.RmapWindow(p.r.fs, g.agno, ioctl.AGBlock(w.Start), ioctl.AGBlock(w.Count), p.fsmapBuf, nil)
	if err != nil && !errors.Is(err, ioctl.ErrCorrupt) {
		return nil, err
	}
	for i := range recs {
		sure = append(sure, recs[i].Rmap)
	}
	for i := range claims {
		still, err := p.settler.StillClaims(w, claims[i])
		if err != nil {
			return nil, err
		}
		for j := range still {
			for k := range sure {
				out = append(out, sameMapping(&still[j], &sure[k])...)
			}
		}
	}
	return out, nil
}

// sameMapping returns the blocks that two mappings say the same of, none if there
// are none.
func sameMapping(a, b *shadow.Rmap) []verdict.Range {
	lo, hi := max(a.StartBlock, b.StartBlock), min(a.End(), b.End())
	if a.Owner != b.Owner || a.Flags() != b.Flags() || uint64(lo) >= hi ||
		a.FileOffset()+uint64(lo-a.StartBlock) != b.FileOffset()+uint64(lo-b.StartBlock) {
		return nil
	}
	return []verdict.Range{{Start: lo, Count: uint32(hi - uint64(lo))}}
}

// privateTypes are scrubs of files that belong to the filesystem itself. BULKSTAT
// does not tell of them, so that nothing but these speaks for their blocks.
var privateTypes = []ioctl.ScrubType{
	ioctl.ScrubTypeUQUOTA, ioctl.ScrubTypeGQUOTA, ioctl.ScrubTypePQUOTA, ioctl.ScrubTypeRTBITMAP, ioctl.ScrubTypeRTSUM,
	ioctl.ScrubTypeRTRMAPBT, ioctl.ScrubTypeRTREFCBT, ioctl.ScrubTypeMETAPATH,
}

// privateFiles lists the filesystem's own files with which the kernel finds
// something wrong, or that it could not check to the end.
func (p *pass) privateFiles() []string {
	var out []string
	for _, r := range p.fsBad {
		if slices.Contains(privateTypes, r.Type) && (r.Bad() || r.Err != nil || r.Flags.Has(ioctl.ScrubIncomplete)) {
			out = append(out, fmt.Sprintf("the kernel's scrub of %s says %s", r.Object, r.Flags))
		}
	}
	return out
}

// inodesLeftOut says how many inodes the kernel's scrub gave no verdict on that
// is known here.
func (p *pass) inodesLeftOut() []string {
	var out []string
	for _, n := range []struct {
		count uint64
		what  string
	}{
		{p.badInodesLeftOut, "more inodes do not pass their scrub"},
		{p.r.scrubErrors, "checks of inodes ended in an error"},
		{p.r.unlisted, "inodes could not be listed"},
	} {
		if n.count > 0 {
			out = append(out, fmt.Sprintf("%d %s", n.count, n.what))
		}
	}
	return out
}

// unheardSharers lists inodes that may own shared blocks and made no claim, and
// whose forks the kernel did not find in the rmapbts either: an rmapbt that lost
// a record of one of them counts an owner too few, and nobody would miss it.
func (p *pass) unheardSharers() []string {
	out := p.inodesLeftOut()
	for i := range p.walk.Unreadable {
		out = append(out, fmt.Sprintf("inode %d could not be read (%s)", p.walk.Unreadable[i].Ino, p.walk.Unreadable[i].Stage))
	}
	for i := range p.walk.Refused {
		ino := p.walk.Refused[i].Ino
		if slices.ContainsFunc(p.inodeBad[ino], kernel.Result.Bad) {
			out = append(out, fmt.Sprintf("inode %d could not be opened, and does not pass its scrub", ino))
		}
	}
	if n := p.walk.RefusedTotal; n > uint64(len(p.walk.Refused)) {
		out = append(out, fmt.Sprintf("%s could not be opened because of leases or access scanners", plural(n, "inode")))
	}
	if p.walk.RefusedTotal > 0 {
		out = append(out, p.open.uncomparedForks().Why(ioctl.ScrubTypeREFCNTBT, 0)...)
		out = append(out, p.open.notFinished()...)
	}
	return out
}

// opaqueOwners returns the opaque inodes that g's rmapbt names, each with 0.
func (p *pass) opaqueOwners(ctx context.Context, g *group) (map[uint64]uint64, error) {
	owners := make(map[uint64]uint64)
	_, err := p.eachRecord(ctx, g, func(r *shadow.Rmap) error {
		if _, ok := owners[r.Owner]; ok || !r.IsInode() {
			return nil
		}
		_, ok, err := p.walk.FindOpaque(ioctl.Ino(r.Owner))
		if ok {
			owners[r.Owner] = 0
		}
		return err
	})
	return owners, err
}

// eachRecord calls f with every record of g's rmapbt. One that cannot be read
// to its end is left at that, and is not whole.
func (p *pass) eachRecord(ctx context.Context, g *group, f func(*shadow.Rmap) error) (whole bool, err error) {
	for recs, err := range witness.RmapView(ctx, p.r.fs, g.agno, p.fsmapBuf) {
		if errors.Is(err, ioctl.ErrCorrupt) || errors.Is(err, witness.ErrStuck) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		for i := range recs {
			if err := f(&recs[i]); err != nil {
				return false, err
			}
		}
	}
	return true, nil
}
