package scrub

import (
	"context"
	"slices"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/confirm"
	"github.com/scrubd/scrubd/scrub/kernel"
	"github.com/scrubd/scrubd/scrub/verdict"
	"github.com/scrubd/scrubd/shadow"
)

// recorded is what the rmapbts of all AGs have of an inode.
type recorded struct {
	blocks, btree uint64 // of both forks and their btrees, and of the btrees alone
	// contested: one of these has another record, or was seen to be free in the bnobt.
	contested bool
}

// recorded counts what the rmapbts have of each of the inodes, and notes which AGs
// have records of them at all. It tells whether every rmapbt was read to its end.
func (p *pass) recorded(ctx context.Context, of map[uint64]*recorded) (whole bool, err error) {
	if p.ownerIn == nil {
		p.ownerIn = make(map[ownerGroup]bool)
	}
	whole = true
	for i := range p.groups {
		g := &p.groups[i]
		agno := g.agno
		var far shadow.Rmap // the record that reaches farthest
		all, err := p.eachRecord(ctx, g, func(r *shadow.Rmap) error {
			before := far
			if r.End() > far.End() {
				far = *r
			}
			n, ok := of[r.Owner]
			if uint64(r.StartBlock) < before.End() {
				if o := of[before.Owner]; o != nil {
					o.contested = true
				}
				if ok {
					n.contested = true
				}
			}
			if !ok {
				return nil
			}
			n.contested = n.contested || g.seenFree(r)
			p.ownerIn[ownerGroup{r.Owner, agno}] = true
			n.blocks += uint64(r.BlockCount)
			if r.Offset&shadow.OffsetBmbtBlock != 0 {
				n.btree += uint64(r.BlockCount)
			}
			return nil
		})
		if err != nil {
			return false, err
		}
		whole = whole && all
	}
	return whole, nil
}

// seenFree tells whether the bnobt was seen to have blocks of r free.
func (g *group) seenFree(r *shadow.Rmap) bool { return g.seenFreeBut(r, nil) }

// seenFreeBut is seenFree, some blocks apart.
func (g *group) seenFreeBut(r *shadow.Rmap, but []ioctl.AGBlock) bool {
	return slices.ContainsFunc(g.space, func(s *confirm.SpaceCandidate) bool {
		if s.Conflict != confirm.OwnedFree || s.Status == confirm.Dropped {
			return false
		}
		from, to := uint64(max(s.Start, r.StartBlock)), min(uint64(s.Start)+uint64(s.Count), r.End())
		for b := from; b < to; b++ {
			if !slices.Contains(but, ioctl.AGBlock(b)) {
				return true
			}
		}
		return false
	})
}

// owned is what the rmapbts have of the disputed inodes: nblocks counts the
// blocks of forks' btrees, GETBMAPX does not show them.
type owned struct {
	of    map[uint64]*recorded
	whole bool
}

func (p *pass) ownedBlocks(ctx context.Context, diffs []verdict.Difference) (*owned, error) {
	p.ownerIn = nil
	o := &owned{of: make(map[uint64]*recorded)}
	for i := range diffs {
		for _, r := range []*shadow.Rmap{&diffs[i].Claim, &diffs[i].Kernel} {
			if r.BlockCount > 0 && r.IsInode() {
				o.of[r.Owner] = &recorded{}
			}
		}
	}
	var err error
	o.whole, err = p.recorded(ctx, o.of)
	return o, err
}

// ownerGroup is an inode and an AG that has records of it.
type ownerGroup struct {
	ino  uint64
	agno ioctl.AGNumber
}

// inodesOf judges every inode that d names: whether it is there, how its
// counters stand to its forks, and what the kernel says of them.
func (p *pass) inodesOf(ctx context.Context, d *dispute, o *owned) error {
	d.Inodes = make(map[uint64]*verdict.Inode)
	missing := make(map[uint64]uint64) // blocks that only the rmapbt still has
	for i := range d.Pieces {
		pc := &d.Pieces[i]
		if pc.Record != nil && pc.Record.IsInode() && pc.Claim == nil && !d.Denied(pc) {
			missing[pc.Record.Owner] += uint64(pc.Count)
		}
	}
	for i := range d.diffs {
		for _, r := range []*shadow.Rmap{&d.diffs[i].Claim, &d.diffs[i].Kernel} {
			if r.BlockCount == 0 || !r.IsInode() || d.Inodes[r.Owner] != nil {
				continue
			}
			in, err := p.judgeInode(ctx, r.Owner, o, missing[r.Owner])
			if err != nil {
				return err
			}
			d.Inodes[r.Owner] = in
		}
	}
	for i := range d.Pieces {
		if pc := &d.Pieces[i]; pc.OffsetDiffers() {
			if err := p.judgeContents(ctx, d.Inodes[pc.Claim.Owner]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *pass) judgeInode(ctx context.Context, ino uint64, o *owned, missing uint64) (*verdict.Inode, error) {
	if err := p.settler.FlushInode(ctx, ino); err != nil {
		p.r.log.WithError(err).WithField("ino", ino).Warn("write back before judging")
	}
	seen, err := p.settler.Measure(ino)
	if err != nil {
		return nil, err
	}
	in := &verdict.Inode{
		Ino: seen.Ino, Gen: seen.Gen, State: seen.State, UnreadableAttr: seen.UnreadableAttr,
		Blocks: seen.Blocks, ForkBlocks: seen.ForkBlocks + o.of[ino].btree,
		Recorded: o.of[ino].blocks, RecordedKnown: o.whole,
	}
	if in.State != verdict.OwnerLive && in.State != verdict.OwnerUnreadable {
		return in, nil
	}
	core := verdict.Scrub{}
	if p.r.coverage.KernelScrub {
		if core, err = p.scrubInode(ctx, in, ioctl.ScrubTypeINODE); err != nil {
			return nil, err
		}
		data, err := p.scrubInode(ctx, in, ioctl.ScrubTypeBMBTD)
		if err != nil {
			return nil, err
		}
		attr, err := p.scrubInode(ctx, in, ioctl.ScrubTypeBMBTA)
		if err != nil {
			return nil, err
		}
		in.DataRan, in.DataScrub, in.AttrRan, in.AttrScrub = data.Ran, data.Flags, attr.Ran, attr.Flags
	}
	in.Counters = counters(in, core, missing)
	const bad = ioctl.ScrubCorrupt | ioctl.ScrubXCorrupt | ioctl.ScrubIncomplete
	in.BtreeMissing = int64(in.Blocks) - int64(in.ForkBlocks)
	in.BtreeKnown = in.State == verdict.OwnerLive && core.Ran && !core.Flags.Any(bad)
	return in, nil
}

// counters decides how nblocks stands to the forks. The read-only INODE scrub
// compares them under the inode's lock and is the exact form of this witness;
// where it complains, the sums tell of what.
func counters(in *verdict.Inode, core verdict.Scrub, missing uint64) verdict.Counters {
	const bad = ioctl.ScrubCorrupt | ioctl.ScrubXCorrupt | ioctl.ScrubIncomplete
	switch {
	case in.State != verdict.OwnerLive:
		return verdict.CountersUnknown
	case core.Ran && !core.Flags.Any(bad) && in.Blocks == in.ForkBlocks:
		return verdict.CountersMatchFork
	case core.Ran && !core.Flags.Any(bad|ioctl.ScrubXFail):
		// Exact, whatever the sums say: the bmbt blocks in them come from the rmapbt.
		return verdict.CountersMatchFork
	case !core.Ran && in.Blocks == in.ForkBlocks:
		return verdict.CountersMatchFork
	case in.Blocks == in.ForkBlocks:
		return verdict.CountersDoubted
	case core.Ran && !core.Flags.Any(bad):
		// What it counts does not hang on what it could not compare with: the
		// counters agree with the fork, and the sums do not say why they differ.
		return verdict.CountersUnknown
	case missing > 0 && in.Blocks == in.ForkBlocks+missing:
		return verdict.CountersMatchForkMissing
	default:
		return verdict.CountersMatchNeither
	}
}

// judgeContents asks the kernel about the directory and the attributes of in.
func (p *pass) judgeContents(ctx context.Context, in *verdict.Inode) error {
	if !p.r.coverage.KernelScrub || in.State != verdict.OwnerLive {
		return nil
	}
	for t, bad := range map[ioctl.ScrubType]*bool{ioctl.ScrubTypeDIR: &in.NamesBad, ioctl.ScrubTypeXATTR: &in.AttrsBad} {
		res, err := p.r.kern.One(ctx, kernel.Object{Type: t, Ino: in.Ino, Gen: in.Gen})
		if err != nil {
			return err
		}
		*bad = !res.Absent && (!res.Ran || res.Err != nil || res.Flags.Any(ioctl.ScrubCorrupt|ioctl.ScrubIncomplete))
	}
	return nil
}

func (p *pass) scrubInode(ctx context.Context, in *verdict.Inode, t ioctl.ScrubType) (verdict.Scrub, error) {
	res, err := p.r.kern.One(ctx, kernel.Object{Type: t, Ino: in.Ino, Gen: in.Gen})
	if err != nil {
		return verdict.Scrub{}, err
	}
	return verdict.Scrub{Ran: res.Ran && res.Err == nil && !res.Absent, Flags: res.Flags}, nil
}
