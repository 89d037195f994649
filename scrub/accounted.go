package scrub

import (
	"context"
	"slices"
	"time"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/confirm"
	"github.com/scrubd/scrubd/scrub/verdict"
)

// A fork of which the kernel complains, or that nobody can read, stands against
// giving the gaps of an rmapbt away: its blocks may be there. They are not where
// the rmapbts give the inode as many blocks as it counts itself, each of them to
// it alone, and none that the bnobt has free: one record that was lost, or moved,
// or given to another inode, breaks one of these. What the fork says is another
// matter, of which there is another finding.

// accountPause is longer than the tick of the clock that ctimes are taken from.
const accountPause = 20 * time.Millisecond

// accountForks finds out which inodes with a bad fork have all their blocks in
// the rmapbts.
// Errors: ctx's, those that end a run.
func (p *pass) accountForks(ctx context.Context) error {
	has := make(map[uint64]*recorded)
	for ino, results := range p.inodeBad {
		for i := range results {
			if ioctl.ScrubTypeINODE <= results[i].Type && results[i].Type <= ioctl.ScrubTypeBMBTA {
				has[uint64(ino)] = &recorded{}
			}
		}
	}
	for i := range p.walk.Unreadable {
		if u := &p.walk.Unreadable[i]; u.Gen != 0 && u.Ino == u.LastIno {
			has[uint64(u.Ino)] = &recorded{}
		}
	}
	p.accounted = make(map[ioctl.Ino]bool)
	if len(has) == 0 {
		return nil
	}
	if slices.ContainsFunc(p.groups, func(g group) bool { return !g.spaceCompared }) {
		return nil
	}
	// What the inode counts has to be the same before and after its records were
	// read, and its ctime: a writer may give and take as much as is missing. A change
	// after the pause has another ctime.
	before := make(map[uint64]confirm.Measured)
	for ino := range has {
		in, err := p.measure(ctx, ino)
		if err != nil {
			return err
		}
		before[ino] = in
	}
	time.Sleep(accountPause)
	if whole, err := p.recorded(ctx, has); err != nil || !whole {
		return err
	}
	for ino, o := range has {
		in, err := p.measure(ctx, ino)
		if err != nil {
			return err
		}
		known := in.State == verdict.OwnerLive || in.State == verdict.OwnerUnreadable
		still := in.Blocks == before[ino].Blocks && in.CTime == before[ino].CTime && in.Gen == before[ino].Gen
		p.accounted[ioctl.Ino(ino)] = known && still && !o.contested && in.Blocks == o.blocks
	}
	return nil
}

// measure takes an inode's counters after what it has not allocated yet was
// written; they are unknown where it cannot be asked.
func (p *pass) measure(ctx context.Context, ino uint64) (confirm.Measured, error) {
	if err := p.settler.FlushInode(ctx, ino); err != nil && endsRun(ctx, err) {
		return confirm.Measured{}, err
	}
	in, err := p.settler.Measure(ino)
	if err != nil && endsRun(ctx, err) {
		return confirm.Measured{}, err
	}
	return in, nil
}
