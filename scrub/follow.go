package scrub

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/confirm"
	"github.com/scrubd/scrubd/scrub/trees"
	"github.com/scrubd/scrubd/scrub/witness"
	"github.com/scrubd/scrubd/shadow"
)

func (p *pass) treeOptions() trees.Options {
	return trees.Options{Budget: p.r.budget, Dir: p.r.spill, AvoidDevice: p.r.fs.Device(), Log: p.log, AGs: len(p.groups)}
}

// follow begins to listen to the kernel, for the trees that this pass makes.
// Where the kernel tells nothing the trees stay what the walk has read.
func (p *pass) follow() error {
	if !p.r.coverage.Live {
		return nil
	}
	var err error
	if p.log, err = trees.NewLog(len(p.everyGroup()), p.treeOptions()); err != nil {
		return fmt.Errorf("follow the kernel's changes: %w", err)
	}
	p.listen(p.log)
	if p.stream == nil {
		err = p.log.Close()
		p.log = nil
		return err
	}
	p.log.Sync = p.stream.Sync
	return nil
}

// catchUp brings the trees up to date once more and drops the candidates that
// are gone then: those that the kernel has changed between the reading of the
// forks and that of the rmapbt. The others are confirmed or dropped by looking
// at their owners.
func (p *pass) catchUp(ctx context.Context) error {
	if p.stream == nil {
		return nil
	}
	for _, g := range p.everyGroup() {
		if len(g.candidates) == 0 {
			continue
		}
		if _, err := p.trees.Update(ctx, p.inTrees(g)); err != nil {
			return err
		}
		tree, err := p.trees.Rmaps(ctx, p.inTrees(g))
		if err != nil {
			return err
		}
		for _, c := range g.candidates {
			gone, err := p.caughtUp(ctx, g, tree, c)
			if err != nil {
				return err
			}
			if gone {
				c.Status = confirm.Dropped
				p.r.sum.CaughtUp++
			}
		}
	}
	return nil
}

// caughtUp tells whether tree and rmapbt agree about the blocks of c and its
// owners now. What cannot be read agrees with nothing.
func (p *pass) caughtUp(ctx context.Context, g *group, tree *shadow.RmapTree, c *confirm.Candidate) (bool, error) {
	if c.Against != confirm.AgainstRmapbt || c.Status != confirm.Pending {
		return false, nil
	}
	w := window{uint64(c.Start), uint64(c.Start) + uint64(c.Count)}
	if slices.ContainsFunc(p.trees.Duplicates(p.inTrees(g)), func(r shadow.Rmap) bool { return uint64(r.StartBlock) < w.end && w.start < r.End() }) {
		return false, nil // not in the tree
	}
	var claims, kernel []shadow.Rmap
	for r, err := range tree.Overlaps(w.start, w.end) {
		if err != nil {
			return false, err
		}
		claims = append(claims, w.cut(r))
	}
	recs, err := p.rmapWindow(g, c.Start, c.Count)
	if err != nil {
		if errors.Is(err, ioctl.ErrCorrupt) || errors.Is(err, witness.ErrStuck) {
			err = nil
		}
		return false, err
	}
	for i := range recs {
		kernel = append(kernel, w.cut(recs[i].Rmap))
	}
	for d, err := range shadow.Diff(sorted(claims), predictable(sorted(kernel))) {
		if err != nil {
			return false, err
		}
		if skip, err := p.unjudged(g, &d); err != nil || !skip {
			return false, err
		}
	}
	return true, ctx.Err()
}

// window is blocks [start, end).
type window struct{ start, end uint64 }

// cut returns the part of r, which has one, in the window.
func (w window) cut(r shadow.Rmap) shadow.Rmap {
	lo, hi := max(uint64(r.StartBlock), w.start), min(r.End(), w.end)
	if r.HasOffset() {
		r.Offset += lo - uint64(r.StartBlock)
	}
	r.StartBlock, r.BlockCount = uint32(lo), uint32(hi-lo)
	return r
}

func sorted(recs []shadow.Rmap) iter.Seq2[[]shadow.Rmap, error] {
	slices.SortFunc(recs, func(a, b shadow.Rmap) int { return shadow.Compare(&a, &b) })
	return func(yield func([]shadow.Rmap, error) bool) {
		if len(recs) > 0 {
			yield(recs, nil)
		}
	}
}
