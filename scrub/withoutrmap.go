package scrub

import (
	"context"
	"fmt"
	"slices"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/confirm"
	"github.com/scrubd/scrubd/scrub/verdict"
	"github.com/scrubd/scrubd/scrub/witness"
	"github.com/scrubd/scrubd/shadow"
)

// compareFree is what can be compared in an AG of a filesystem without
// rmapbt: no fork may use what the bnobt has free, and no two forks the same
// blocks, except where they may share them.
func (p *pass) compareFree(ctx context.Context, g *group) error {
	var free []witness.Free
	if p.r.bnobt != nil {
		turn := p.r.opts.Throttle.Turn()
		for recs, err := range paced(ctx, turn, p.freeView(ctx, g)) {
			if err != nil {
				return p.unreadable(g, err)
			}
			free = append(free, recs...)
		}
	}
	tree, err := p.trees.Rmaps(ctx, p.inTrees(g))
	if err != nil {
		return err
	}
	reflink := p.r.fs.Geometry().Has(ioctl.FlagReflink)
	var reach shadow.Rmap // the claim that reaches furthest so far
	at := 0
	for recs, err := range tree.Batches() {
		if err != nil {
			return err
		}
		for i := range recs {
			r := &recs[i]
			for at < len(free) && free[at].End() <= uint64(r.StartBlock) {
				at++
			}
			if at < len(free) && uint64(free[at].Start) < r.End() {
				p.addClaimCandidate(g, confirm.AgainstBnobt, r, r)
			}
			if uint64(r.StartBlock) < reach.End() && (!reflink || !r.IsShareable() || !reach.IsShareable()) {
				p.addClaimCandidate(g, confirm.AgainstForks, r, &reach)
			}
			if r.End() > reach.End() {
				reach = *r
			}
			if len(g.candidates) >= maxCandidates {
				return fmt.Errorf("compare %s: %w", g, errTooMany)
			}
		}
	}
	return nil
}

func (p *pass) addClaimCandidate(g *group, against confirm.Against, r, other *shadow.Rmap) {
	c := &confirm.Candidate{
		Window:  g.window(r.StartBlock, r.BlockCount),
		Against: against,
	}
	for _, o := range []*shadow.Rmap{r, other} {
		if o.IsInode() && !slices.Contains(c.Owners, o.Owner) {
			c.Owners = append(c.Owners, o.Owner)
		}
	}
	if len(c.Owners) == 0 {
		return // the geometry against itself
	}
	p.r.sum.Candidates++
	g.candidates = append(g.candidates, c)
}

// findClaims words what was confirmed without an rmapbt. Nothing of it can be
// repaired online.
func (p *pass) findClaims() {
	for i := range p.groups {
		g := &p.groups[i]
		for _, c := range g.candidates {
			if c.Status != confirm.Confirmed {
				continue
			}
			claim := &c.Diffs[0].Claim
			f := &finding{Finding: &Finding{
				AtFault: string(verdict.Undecided), Row: 5, Severity: Critical, HasAG: true, AGNo: g.agno,
				Witnesses: []Witness{{"fork", "maps " + describe(claim)}},
				Reason:    "without an rmapbt there is no third witness, and no online repair",
				WaysOut:   offline(),
			}}
			f.Summary = fmt.Sprintf("inode %d uses blocks of AG %d at block %d that the bnobt has free", claim.Owner, g.agno, claim.StartBlock)
			if c.Against == confirm.AgainstForks {
				f.Row, f.Severity = 9, Corruption
				f.Summary = fmt.Sprintf("two files use the same blocks of AG %d at block %d", g.agno, claim.StartBlock)
			} else {
				f.Witnesses = append(f.Witnesses, Witness{"bnobt", "free"})
			}
			f.sayClaims(g, c)
			p.add(f)
		}
	}
}

// sayClaims adds the claims of a candidate without a record to a finding: their
// blocks, their files, and, where they are against each other, the second fork's word.
func (f *finding) sayClaims(g *group, c *confirm.Candidate) {
	for j := range c.Diffs {
		d := &c.Diffs[j].Claim
		if j == 1 && c.Against == confirm.AgainstForks {
			f.Witnesses = append(f.Witnesses, Witness{"other fork", "maps " + describe(d)})
		}
		if ext := (Extent{g.agno, ioctl.AGBlock(d.StartBlock), d.BlockCount}); !slices.Contains(f.Extents, ext) {
			f.Extents = append(f.Extents, ext)
		}
		f.Files = addFile(f.Files, ioctl.Ino(d.Owner), 0)
	}
}
