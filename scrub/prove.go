package scrub

import (
	"context"
	"fmt"
	"time"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/trees"
	"github.com/scrubd/scrubd/shadow"
)

// forks are the claims on the AGs of a repair as they were before it. After
// it every fork has to be as it was, except those that were to be rebuilt.
type forks struct {
	claims *trees.Set
	exempt map[uint64]bool // inodes whose forks were rebuilt on purpose
	since  time.Time       // the walk that read the claims began after it
}

func (f *forks) close() {
	if f == nil {
		return
	}
	_ = f.claims.Close() // memory, nothing can get lost
	f.claims = nil
}

// number is the number that a group has in the claims; false if it was not there.
func (f *forks) number(g *group) (ioctl.AGNumber, bool) {
	if !g.realtime {
		return g.agno, int(g.agno) < f.claims.AGs()
	}
	number := f.claims.RT(g.rgno())
	return number, int(number) < f.claims.Len()
}

// takeForks takes the claims of every AG over from the pass: a rebuild of a
// fork reads all AGs.
func (p *pass) takeForks(due []*finding) *forks {
	f := &forks{claims: p.trees, exempt: make(map[uint64]bool), since: p.began}
	p.trees = nil
	for _, d := range due {
		for _, s := range d.steps {
			if s.obj.Ino != 0 {
				f.exempt[uint64(s.obj.Ino)] = true
			}
		}
	}
	return f
}

// proveForks compares the claims of this pass with those of before the
// repairs. What a live filesystem changed itself has a newer ctime, or still
// maps the same offsets elsewhere; what is left was taken by a repair.
func (r *run) proveForks(ctx context.Context, p *pass, before *forks) error {
	if before == nil {
		return nil
	}
	r.progress.enter(PhaseProof, p.n)
	lost := make(map[uint64][]verdictExtent)
	for _, g := range p.everyGroup() {
		number, ok := before.number(g)
		if !ok {
			continue // the filesystem has grown since
		}
		old, err := before.claims.Rmaps(ctx, number)
		if err != nil {
			return err
		}
		now, err := p.trees.Rmaps(ctx, p.inTrees(g))
		if err != nil {
			return err
		}
		for d, err := range shadow.Diff(old.Batches(), now.Batches()) {
			if err != nil {
				return fmt.Errorf("compare forks of %s with those before the repair: %w", g, err)
			}
			if !d.HasClaim || !d.Claim.IsInode() || before.exempt[d.Claim.Owner] {
				continue
			}
			if len(lost[d.Claim.Owner]) < maxListed {
				lost[d.Claim.Owner] = append(lost[d.Claim.Owner], verdictExtent{g, d.Claim})
			}
		}
	}
	for ino, extents := range lost {
		if err := ctx.Err(); err != nil {
			return err
		}
		gone, err := p.settler.LostSince(ino, before.since, claimsOf(extents))
		if err != nil {
			return err
		}
		if len(gone) == 0 {
			continue
		}
		f := &finding{Finding: &Finding{
			AtFault: "fork", Severity: Critical, Outcome: Failed, HasAG: !extents[0].of.realtime, AGNo: extents[0].of.agno,
			Realtime: extents[0].of.realtime,
			Files:    []File{{Ino: ioctl.Ino(ino)}},
			Summary:  fmt.Sprintf("inode %d maps less than before the repair: %s", ino, describe(&gone[0])),
			Reason:   "a repair changed a file that it was not to change: stop writing to this filesystem and compare with a backup",
		}, order: orderNone}
		for _, e := range extents {
			if e.of.realtime != f.Realtime {
				continue // a file that lost blocks on both devices is named for one
			}
			f.Extents = append(f.Extents, Extent{e.of.agno, ioctl.AGBlock(e.claim.StartBlock), e.claim.BlockCount})
		}
		p.add(f)
	}
	return nil
}

type verdictExtent struct {
	of    *group
	claim shadow.Rmap
}

func claimsOf(extents []verdictExtent) []shadow.Rmap {
	out := make([]shadow.Rmap, len(extents))
	for i := range extents {
		out[i] = extents[i].claim
	}
	return out
}
