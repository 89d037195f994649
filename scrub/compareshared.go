package scrub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/confirm"
	"github.com/scrubd/scrubd/scrub/verdict"
	"github.com/scrubd/scrubd/scrub/witness"
	"github.com/scrubd/scrubd/shadow"
)

// maxShared bounds the stretches of one AG about whose owners forks and
// refcountbt disagree. One refcountbt is rebuilt as a whole, so that the first
// ones tell what there is to tell.
const maxShared = 1 << 12

// compareShared compares the blocks that several forks claim with those that
// the refcountbt calls shared, as GETBMAPX told the walk: exact, but only of
// inodes with the reflink flag.
func (p *pass) compareShared(g *group, refs *shadow.RefcountTree) error {
	for d, err := range shadow.DiffShared(refs.Shared(), p.sharedIn(g)) {
		if err != nil {
			return err
		}
		p.addShared(g, g.window(d.Start, d.Len), d.Kind == shadow.DiffMissing)
	}
	return nil
}

func (p *pass) addShared(g *group, w confirm.Window, unmarked bool) {
	if len(g.shared) == maxShared {
		return
	}
	if n := len(g.shared); n > 0 && g.shared[n-1].Window == w && g.shared[n-1].Unmarked == unmarked {
		return // several records of one window
	}
	p.r.sum.Candidates++
	g.shared = append(g.shared, &confirm.SharedCandidate{Window: w, Unmarked: unmarked})
}

// checkMarks passes the records of the rmapbt on and compares the mark of each
// with the blocks of it that several forks claim. The mark stands for all blocks
// of the record together, and is there whatever flags the inode has.
func (p *pass) checkMarks(g *group, recs iter.Seq2[[]witness.Record, error], several iter.Seq2[[]shadow.Range, error]) iter.Seq2[[]shadow.Rmap, error] {
	return func(yield func([]shadow.Rmap, error) bool) {
		next, stop := iter.Pull2(several)
		defer stop()
		ahead := rangesAhead{next: next}
		var out []shadow.Rmap
		for batch, err := range recs {
			out = out[:0]
			for i := range batch {
				r := &batch[i]
				out = append(out, r.Rmap)
				if !r.IsShareable() || err != nil {
					continue
				}
				var first shadow.Range
				if first, err = ahead.from(r.StartBlock); err != nil {
					break
				}
				shared := first.Len > 0 && uint64(first.Start) < r.End()
				if shared != r.Shared {
					p.addShared(g, g.window(r.StartBlock, r.BlockCount), shared)
				}
			}
			if !yield(out, err) || err != nil {
				return
			}
		}
	}
}

// rangesAhead reads sorted, disjoint ranges along with something else.
type rangesAhead struct {
	next  func() ([]shadow.Range, error, bool)
	batch []shadow.Range
}

// from returns the first range with blocks at or after start, none if there is
// none. The starts that it is asked for never descend.
func (a *rangesAhead) from(start uint32) (shadow.Range, error) {
	for {
		for len(a.batch) > 0 {
			if a.batch[0].End() > uint64(start) {
				return a.batch[0], nil
			}
			a.batch = a.batch[1:]
		}
		batch, err, ok := a.next()
		if err != nil || !ok {
			return shadow.Range{}, err
		}
		a.batch = batch
	}
}

// sharedPieces gathers what forks and rmapbt say of every confirmed stretch.
func (p *pass) sharedPieces(ctx context.Context) error {
	for i := range p.groups {
		g := &p.groups[i]
		told := make(map[bool][]verdict.Range) // GETBMAPX and GETFSMAP tell of the same marks
		for _, c := range g.shared {
			if c.Status != confirm.Confirmed {
				continue
			}
			parts := confirm.Subtract(c.Parts, told[c.Unmarked])
			told[c.Unmarked] = append(told[c.Unmarked], parts...)
			slices.SortFunc(told[c.Unmarked], func(a, b verdict.Range) int { return cmp.Compare(a.Start, b.Start) })
			for _, part := range parts {
				piece, err := p.sharedPiece(ctx, c, part)
				if err != nil {
					return err
				}
				p.shared = append(p.shared, *piece)
			}
		}
	}
	return nil
}

// maxSharers bounds the owners of one stretch that are asked for their claims.
const maxSharers = 64

func (p *pass) sharedPiece(ctx context.Context, c *confirm.SharedCandidate, part verdict.Range) (*verdict.SharedPiece, error) {
	piece := &verdict.SharedPiece{AGNo: c.AGNo, Start: part.Start, Count: part.Count, Marked: !c.Unmarked || c.Coarse, Coarse: c.Coarse}
	w := confirm.Window{AGNo: c.AGNo, Start: part.Start, Count: part.Count}
	recs, err := witness.RmapWindow(p.r.fs, c.AGNo, ioctl.AGBlock(part.Start), ioctl.AGBlock(part.Count), p.fsmapBuf, nil)
	if err != nil && !errors.Is(err, ioctl.ErrCorrupt) {
		return nil, fmt.Errorf("look at shared blocks of AG %d: %w", c.AGNo, err)
	}
	for i := range recs {
		piece.Records = append(piece.Records, recs[i].Rmap)
	}
	tree, err := p.trees.Rmaps(ctx, c.AGNo)
	if err != nil {
		return nil, err
	}
	var owners []uint64
	for r, err := range tree.Overlaps(uint64(part.Start), uint64(part.Start)+uint64(part.Count)) {
		if err != nil {
			return nil, err
		}
		if !r.IsInode() || len(owners) == maxSharers || slices.Contains(owners, r.Owner) {
			continue
		}
		owners = append(owners, r.Owner)
		still, err := p.settler.StillClaims(w, shadow.Rmap{StartBlock: part.Start, BlockCount: part.Count, Owner: r.Owner})
		if err != nil {
			return nil, err
		}
		piece.Claims = append(piece.Claims, still...)
		if c.Coarse && c.Unmarked && len(still) > 0 {
			piece.NoFlag = append(piece.NoFlag, ioctl.Ino(r.Owner))
		}
	}
	return piece, nil
}

// unsettledShared are the stretches that could not be settled and that the
// kernel's scrub of the refcountbt does not settle either: it compares all counts
// of the AG with the rmapbt at a moment at which nothing is under way.
func unsettledShared(g *group) (extents []Extent, why string) {
	if s := g.scrubs[ioctl.ScrubTypeREFCNTBT]; s.Ran && !s.Flags.Any(ioctl.ScrubXFail|ioctl.ScrubIncomplete) {
		return nil, ""
	}
	for _, c := range g.shared {
		if c.Status == confirm.Unsettled {
			extents = append(extents, Extent{g.agno, ioctl.AGBlock(c.Start), c.Count})
			why = c.Why
		}
	}
	return extents, why
}
