package scrub

import (
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

// maxCandidates bounds what is remembered of one AG. A busy AG reaches it with
// sightings that go away when looked at again, so they are, before it counts.
const maxCandidates = 1 << 14

// compareGroup finds the candidates of one group: differences between the claims
// and the rmapbt, and between the rmapbt and the free space. An unreadable rmapbt is
// recorded in the group, not returned.
func (p *pass) compareGroup(ctx context.Context, g *group) error {
	if !p.hasRmapbt(g) {
		return p.compareFree(ctx, g)
	}
	if err := p.compareClaims(ctx, g); err != nil {
		return p.unreadable(g, err)
	}
	if p.r.bnobt == nil {
		return nil
	}
	switch err := p.compareSpace(ctx, g); {
	case errors.Is(err, ioctl.ErrCorrupt):
		// The rmapbt was just read: it is the bnobt that cannot be, and what was read
		// of it says nothing of the rest.
		g.space = nil
		return nil
	case err != nil:
		return p.unreadable(g, err)
	}
	g.spaceCompared = true
	return nil
}

// unreadable turns metadata that cannot be read into a state of the group.
func (p *pass) unreadable(g *group, err error) error {
	if !errors.Is(err, ioctl.ErrCorrupt) && !errors.Is(err, witness.ErrStuck) {
		return err
	}
	g.rmapErr = err
	return nil
}

func (p *pass) compareClaims(ctx context.Context, g *group) error {
	number := p.inTrees(g)
	if _, err := p.trees.Update(ctx, number); err != nil {
		return err
	}
	tree, err := p.trees.Rmaps(ctx, number)
	if err != nil {
		return err
	}
	for _, r := range p.trees.Duplicates(number) {
		d := shadow.Difference{Kind: shadow.DiffDuplicate, HasClaim: true, Claim: r}
		if err := p.addCandidate(ctx, g, &d); err != nil {
			return err
		}
	}
	turn := p.r.opts.Throttle.Turn()
	defer turn.Leave()
	kernel := paced(ctx, turn, p.rmapView(ctx, g))
	if p.r.fs.Geometry().Has(ioctl.FlagReflink) {
		refs, err := p.trees.Refcounts(ctx, number)
		if err != nil {
			return err
		}
		if err := p.compareShared(g, refs); err != nil {
			return err
		}
		kernel = p.checkMarks(g, paced(ctx, turn, p.recordView(ctx, g)), refs.Shared())
	}
	kernel = predictable(kernel)
	for d, err := range shadow.Diff(tree.Batches(), kernel) {
		if err != nil {
			return err
		}
		skip, err := p.unjudged(g, &d)
		if err != nil {
			return err
		}
		if skip {
			continue
		}
		if err := p.addCandidate(ctx, g, &d); err != nil {
			return err
		}
	}
	return nil
}

// predictable leaves out the records that no claim can stand against: blocks
// of the AG's own btrees, inode chunks, CoW staging, and the blocks of forks'
// btrees. The kernel's scrub of the rmapbt checks those exactly.
func predictable(in iter.Seq2[[]shadow.Rmap, error]) iter.Seq2[[]shadow.Rmap, error] {
	return func(yield func([]shadow.Rmap, error) bool) {
		for recs, err := range in {
			if err == nil {
				recs = slices.DeleteFunc(recs, func(r shadow.Rmap) bool {
					if r.IsInode() {
						return r.Offset&shadow.OffsetBmbtBlock != 0
					}
					return r.Owner != shadow.OwnerFS && r.Owner != shadow.OwnerLog
				})
			}
			if (err != nil || len(recs) > 0) && !yield(recs, err) {
				return
			}
		}
	}
}

// unjudged reports a record whose owner's forks cannot be read by design:
// symbolic links and special files, quota and other private inodes. The
// kernel's scrub of these inodes is what there is.
func (p *pass) unjudged(g *group, d *shadow.Difference) (bool, error) {
	if g.realtime {
		return p.unjudgedRT(d)
	}
	if d.HasClaim || !d.Kernel.IsInode() {
		return false, nil
	}
	ino := ioctl.Ino(d.Kernel.Owner)
	if _, ok, err := p.walk.FindOpaque(ino); ok || err != nil {
		return ok, err
	}
	if ok, err := p.walk.IsSilent(ino); ok || err != nil {
		return ok, err
	}
	for i := range p.walk.Refused {
		if p.walk.Refused[i].Ino == ino {
			return true, nil
		}
	}
	return p.hiddenByInobt(ino, d), nil
}

// hiddenByInobt notes a record of an inode that the walk may have missed
// because the inode btrees of its AG are bad. Such records are judged when
// these are repaired; until then they count as part of that finding.
func (p *pass) hiddenByInobt(ino ioctl.Ino, d *shadow.Difference) bool {
	agno := agOf(p.r.fs, ino)
	if uint64(agno) >= uint64(len(p.groups)) || len(badTypes(&p.groups[agno], inodeTypes...)) == 0 {
		return false
	}
	state, err := p.settler.StateOf(uint64(ino))
	if err == nil && state != verdict.OwnerDead && state != verdict.OwnerUnknown && state != verdict.OwnerSilent {
		return false
	}
	p.groups[agno].hidden += uint64(d.Kernel.BlockCount)
	if _, ok := p.hidden[ino]; !ok && len(p.hidden) < maxListed {
		p.hidden[ino] = agno
	}
	return true
}

func (p *pass) addCandidate(ctx context.Context, g *group, d *shadow.Difference) error {
	start, end := d.Blocks()
	c := &confirm.Candidate{Window: g.window(uint32(start), uint32(end-start))}
	if d.HasClaim && d.Claim.IsInode() {
		c.Owners = append(c.Owners, d.Claim.Owner)
	}
	if d.HasKernel && d.Kernel.IsInode() && !slices.Contains(c.Owners, d.Kernel.Owner) {
		c.Owners = append(c.Owners, d.Kernel.Owner)
	}
	p.r.sum.Candidates++
	g.candidates = append(g.candidates, c)
	if len(g.candidates) < maxCandidates {
		return nil
	}
	if err := p.settler.Glance(ctx, g.candidates); err != nil {
		return err
	}
	g.candidates = slices.DeleteFunc(g.candidates, func(c *confirm.Candidate) bool { return c.Status == confirm.Dropped })
	if len(g.candidates) > maxCandidates*3/4 {
		return fmt.Errorf("compare %s: %w", g, errTooMany)
	}
	return nil
}

// errTooMany ends the comparison of a group whose rmapbt and forks have next to
// nothing in common.
var errTooMany = errors.New("too many differences between forks and rmapbt to judge one by one")

func (p *pass) compareSpace(ctx context.Context, g *group) error {
	turn := p.r.opts.Throttle.Turn()
	defer turn.Leave()
	owned := ranges(paced(ctx, turn, p.rmapView(ctx, g)), func(r *shadow.Rmap) verdict.Range {
		return verdict.Range{Start: r.StartBlock, Count: r.BlockCount}
	})
	free := ranges(p.freeView(ctx, g), func(f *witness.Free) verdict.Range {
		return verdict.Range{Start: f.Start, Count: f.Count}
	})
	for c, err := range sweepSpace(p.blocks(g), owned, free) {
		if err != nil {
			return err
		}
		if len(g.space) == maxCandidates {
			return fmt.Errorf("compare free space of %s: %w", g, errTooMany)
		}
		p.r.sum.Candidates++
		g.space = append(g.space, &confirm.SpaceCandidate{
			Window:   g.window(c.Start, c.Count),
			Conflict: c.kind,
		})
	}
	return nil
}

func ranges[T any](in iter.Seq2[[]T, error], of func(*T) verdict.Range) iter.Seq2[verdict.Range, error] {
	return func(yield func(verdict.Range, error) bool) {
		for batch, err := range in {
			if err != nil {
				yield(verdict.Range{}, err)
				return
			}
			for i := range batch {
				if !yield(of(&batch[i]), nil) {
					return
				}
			}
		}
	}
}
