package scrub

import (
	"context"
	"slices"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/confirm"
	"github.com/scrubd/scrubd/scrub/verdict"
	"github.com/scrubd/scrubd/shadow"
)

// rtDisputes groups the confirmed differences between realtime files and
// rtrmapbts, asks every other witness about each, and decides.
func (p *pass) rtDisputes(ctx context.Context) error {
	diffs := confirmedDiffs(p.rt.groups)
	if len(diffs) == 0 {
		return nil
	}
	// What is kept of the owners' records in AGs is for disputes there.
	kept := p.ownerIn
	bmbt, err := p.ownedBlocks(ctx, diffs)
	p.ownerIn = kept
	if err != nil {
		return err
	}
	for _, diffs := range verdict.Group(diffs) {
		d := &dispute{diffs: diffs}
		for i := range diffs {
			g := &p.rt.groups[diffs[i].AGNo]
			around, err := p.rtAround(ctx, g, &diffs[i])
			if err != nil {
				return err
			}
			counts, records := badTypes(g, ioctl.ScrubTypeRTREFCBT), badTypes(g, ioctl.ScrubTypeRTRMAPBT, ioctl.ScrubTypeRTBITMAP)
			if err := p.addPieces(d, &diffs[i], around, g, counts, records); err != nil {
				return err
			}
		}
		if err := p.inodesOf(ctx, d, bmbt); err != nil {
			return err
		}
		d.decision = verdict.DecideRealtime(&d.Dispute)
		p.rt.bad = append(p.rt.bad, d)
	}
	return nil
}

// rtAround is around of a realtime group: claims come from its tree.
func (p *pass) rtAround(ctx context.Context, g *group, d *verdict.Difference) (*verdict.Around, error) {
	start, count := d.Extent()
	tree, err := p.trees.Rmaps(ctx, p.inTrees(g))
	if err != nil {
		return nil, err
	}
	var claims []shadow.Rmap
	for c, err := range tree.Overlaps(uint64(start), uint64(start)+uint64(count)) {
		if err != nil {
			return nil, err
		}
		claims = append(claims, c)
	}
	return p.ask(g, d, claims)
}

// rtSharedPieces gathers what forks and rtrmapbt say of every confirmed stretch
// about which they and the rtrefcountbt disagree.
func (p *pass) rtSharedPieces(ctx context.Context) error {
	for i := range p.rt.groups {
		g := &p.rt.groups[i]
		told := make(map[bool][]verdict.Range) // GETBMAPX and GETFSMAP tell of the same marks
		for _, c := range g.shared {
			if c.Status != confirm.Confirmed {
				continue
			}
			parts := confirm.Subtract(c.Parts, told[c.Unmarked])
			told[c.Unmarked] = append(told[c.Unmarked], parts...)
			sortRanges(told[c.Unmarked])
			for _, part := range parts {
				piece, err := p.rtSharedPiece(ctx, g, c, part)
				if err != nil {
					return err
				}
				p.rt.shared = append(p.rt.shared, *piece)
			}
		}
	}
	return nil
}

func (p *pass) rtSharedPiece(ctx context.Context, g *group, c *confirm.SharedCandidate, part verdict.Range) (*verdict.SharedPiece, error) {
	piece := &verdict.SharedPiece{AGNo: g.agno, Start: part.Start, Count: part.Count, Marked: !c.Unmarked || c.Coarse, Coarse: c.Coarse}
	around, err := p.rtAround(ctx, g, &verdict.Difference{AGNo: g.agno, Difference: shadow.Difference{
		HasKernel: true, Kernel: shadow.Rmap{StartBlock: part.Start, BlockCount: part.Count},
	}})
	if err != nil {
		return nil, err
	}
	for i := range around.Records {
		piece.Records = append(piece.Records, around.Records[i].Rmap)
	}
	piece.Claims = around.Claims
	for i := range piece.Claims {
		ino := ioctl.Ino(piece.Claims[i].Owner)
		if c.Coarse && c.Unmarked && piece.Claims[i].IsInode() && !slices.Contains(piece.NoFlag, ino) {
			piece.NoFlag = append(piece.NoFlag, ino)
		}
	}
	return piece, nil
}
