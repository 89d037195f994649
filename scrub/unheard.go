package scrub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/confirm"
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
		err := p.eachRecord(ctx, &p.groups[i], func(r *shadow.Rmap) error {
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

// deniedOf counts the blocks of ino's records in g that the bnobt has free, or
// that somebody else claims.
func (p *pass) deniedOf(ctx context.Context, g *group, ino uint64) (uint64, error) {
	tree, err := p.trees.Rmaps(ctx, g.agno)
	if err != nil {
		return 0, err
	}
	var denied uint64
	err = p.eachRecord(ctx, g, func(r *shadow.Rmap) error {
		if r.Owner != ino {
			return nil
		}
		var others []verdict.Range
		for c, err := range tree.Overlaps(uint64(r.StartBlock), r.End()) {
			if err != nil {
				return err
			}
			others = append(others, verdict.Range{Start: c.StartBlock, Count: c.BlockCount})
		}
		if p.r.bnobt != nil {
			free, err := witness.FreeWindow(p.r.fs, p.r.bnobt, g.agno, ioctl.AGBlock(r.StartBlock), ioctl.AGBlock(r.BlockCount), p.freeBuf, nil)
			if err != nil && !errors.Is(err, ioctl.ErrCorrupt) {
				return err
			}
			for _, f := range free {
				others = append(others, verdict.Range{Start: f.Start, Count: f.Count})
			}
		}
		slices.SortFunc(others, func(a, b verdict.Range) int { return cmp.Compare(a.Start, b.Start) })
		left := uint64(0)
		for _, own := range confirm.Subtract([]verdict.Range{{Start: r.StartBlock, Count: r.BlockCount}}, others) {
			left += uint64(own.Count)
		}
		denied += uint64(r.BlockCount) - left
		return nil
	})
	return denied, err
}

// opaqueOwners returns the opaque inodes that g's rmapbt names, each with 0.
func (p *pass) opaqueOwners(ctx context.Context, g *group) (map[uint64]uint64, error) {
	owners := make(map[uint64]uint64)
	err := p.eachRecord(ctx, g, func(r *shadow.Rmap) error {
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
// to its end is left at that: it is in the way of every rebuild by itself.
func (p *pass) eachRecord(ctx context.Context, g *group, f func(*shadow.Rmap) error) error {
	for recs, err := range witness.RmapView(ctx, p.r.fs, g.agno, p.fsmapBuf) {
		if errors.Is(err, ioctl.ErrCorrupt) || errors.Is(err, witness.ErrStuck) {
			return nil
		}
		if err != nil {
			return err
		}
		for i := range recs {
			if err := f(&recs[i]); err != nil {
				return err
			}
		}
	}
	return nil
}
