package scrub

import (
	"context"
	"errors"
	"fmt"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/confirm"
	"github.com/scrubd/scrubd/scrub/kernel"
	"github.com/scrubd/scrubd/scrub/verdict"
	"github.com/scrubd/scrubd/scrub/walk"
	"github.com/scrubd/scrubd/scrub/witness"
	"github.com/scrubd/scrubd/shadow"
)

// fsmapBatch is the most records that one call gives as an atomic picture.
const fsmapBatch = 2048

// forkSick are the health bits of an inode whose fork may have been zapped.
const forkSick = ioctl.InodeHealthInode | ioctl.InodeHealthBMBTD | ioctl.InodeHealthBMBTA

// filesystemFacts gathers what stands against a rebuild of any rmapbt.
func (p *pass) filesystemFacts() *verdict.FS {
	fs := &verdict.FS{}
	p.refreshSick()
	for i := range p.walk.Sick {
		s := &p.walk.Sick[i]
		if s.Mask&forkSick != 0 {
			fs.SickInodes = append(fs.SickInodes, fmt.Sprintf("the kernel has marked inode %d as sick (%s)", s.Ino, s.Mask))
		}
	}
	if n := p.walk.SickTotal; n > uint64(len(p.walk.Sick)) {
		fs.SickInodes = append(fs.SickInodes, fmt.Sprintf("%d inodes are marked as sick", n))
	}
	for i := range p.walk.Unreadable {
		u := &p.walk.Unreadable[i]
		fs.Unreadable = append(fs.Unreadable, fmt.Sprintf("inode %d could not be read (%s)", u.Ino, u.Stage))
	}
	if n := p.walk.UnreadableTotal; n > uint64(len(p.walk.Unreadable)) {
		fs.Unreadable = append(fs.Unreadable, fmt.Sprintf("%d inodes could not be read", n))
	}
	if n := p.walk.RefusedTotal; n > 0 {
		fs.Unreadable = append(fs.Unreadable, fmt.Sprintf("%d inodes could not be opened because of leases or access scanners", n))
	}
	for i := range p.groups {
		ag := p.facts(&p.groups[i], nil)
		for _, t := range []ioctl.ScrubType{ioctl.ScrubTypeINOBT, ioctl.ScrubTypeFINOBT} {
			if why, ok := ag.Clean(t, ioctl.ScrubTypeRMAPBT); !ok {
				fs.InodeBtrees = append(fs.InodeBtrees, why)
			}
		}
	}
	return fs
}

// refreshSick takes over what the kernel has marked in the inodes that were sick
// at the walk: its scrubs have looked at them since.
func (p *pass) refreshSick() {
	buf := ioctl.NewBulkstatBuffer(1)
	for i := range p.walk.Sick {
		s := &p.walk.Sick[i]
		n, err := p.r.fs.Bulkstat(&ioctl.BulkRequest{Ino: s.Ino, Limit: 1, Flags: ioctl.BulkNrext64}, buf)
		if err == nil && n == 1 && buf.Records()[0].Ino == s.Ino {
			s.Mask = buf.Records()[0].Sick
		}
	}
}

// exempt leaves out of the sick inodes those of which disputes are the reason: a
// scrub marked the fork because of what it was compared with. A zapped fork is
// empty, and its counters or the kernel's scrub of it speak against it; these
// are not. Where it lost blocks in an AG all the same, the rmapbt there has
// records that no fork bears out, and these are disputes of their own.
func (p *pass) exempt(fs *verdict.FS) *verdict.FS {
	sound := make(map[ioctl.Ino]bool)
	for _, d := range p.rmapBad {
		for _, in := range d.Inodes {
			forks := (!in.DataRan || !in.DataScrub.Has(ioctl.ScrubCorrupt)) && (!in.AttrRan || !in.AttrScrub.Has(ioctl.ScrubCorrupt))
			if in.State == verdict.OwnerLive && in.Counters == verdict.CountersMatchFork && forks {
				sound[in.Ino] = true
			}
		}
	}
	for ino, results := range p.inodeBad {
		sound[ino] = sound[ino] || onlyDisagrees(results)
	}
	out := *fs
	out.SickInodes = nil
	for i := range p.walk.Sick {
		s := &p.walk.Sick[i]
		mask := s.Mask & forkSick
		if mask == 0 || sound[s.Ino] && notZapped(s, mask) {
			continue
		}
		out.SickInodes = append(out.SickInodes, fmt.Sprintf("the kernel has marked inode %d as sick (%s)", s.Ino, mask))
	}
	if n := p.walk.SickTotal; n > uint64(len(p.walk.Sick)) {
		out.SickInodes = append(out.SickInodes, fmt.Sprintf("%d inodes are marked as sick", n))
	}
	return &out
}

// notZapped tells whether each fork that is marked still has extents.
func notZapped(s *walk.SickInode, mask ioctl.InodeHealth) bool {
	return mask&ioctl.InodeHealthInode == 0 &&
		(mask&ioctl.InodeHealthBMBTD == 0 || s.Extents > 0) &&
		(mask&ioctl.InodeHealthBMBTA == 0 || s.AExtents > 0)
}

// facts gathers what is known of an AG for weighing a repair that settles the
// given disputes.
func (p *pass) facts(g *group, settled []*dispute) *verdict.AG {
	ag := &verdict.AG{
		AGNo: g.agno, Scrubs: g.scrubs, Sick: g.sick,
		RmapReadable: g.rmapErr == nil, SpaceCompared: g.spaceCompared,
	}
	if g.rmapErr != nil {
		ag.Unsettled = append(ag.Unsettled, fmt.Sprintf("the rmapbt of AG %d could not be compared", g.agno))
	}
	ag.ForksUnproven, ag.ForksUncompared = p.unprovenForks(), p.open.uncomparedForksIn(g.agno)
	ag.AGBlocksCounted, ag.AGFLCrossed = g.agCounted, g.agflCrossed
	ag.SpaceDisputes = p.spaceDisputes(g, false)
	for _, d := range p.rmapBad {
		if !d.touches(g.agno) || contains(settled, d) {
			continue
		}
		what := fmt.Sprintf("blocks %d+%d of AG %d are in dispute", d.first().Start, d.first().Count, d.first().AGNo)
		ag.Open = append(ag.Open, verdict.OpenIn(&d.Dispute, g.agno, what))
		if d.decision.Held() || d.decision.Action == verdict.ActionRebuildFork {
			ag.Held = append(ag.Held, what)
		}
	}
	for _, c := range g.candidates {
		if c.Status == confirm.Unsettled {
			ag.Unsettled = append(ag.Unsettled, fmt.Sprintf("blocks %d+%d of AG %d could not be settled", c.Start, c.Count, g.agno))
		}
	}
	for _, s := range g.space {
		if s.Status == confirm.Unsettled {
			ag.Unsettled = append(ag.Unsettled, fmt.Sprintf("free space at block %d of AG %d could not be settled", s.Start, g.agno))
		}
	}
	return ag
}

// spaceDisputes names the blocks about which bnobt and rmapbt differ and no
// dispute is. A rebuild of the rmapbt does not mind blocks that nobody owns and
// that say of themselves that they are metadata: it is by their trees that it
// finds them, and were they in none, nothing of a user's would be freed.
func (p *pass) spaceDisputes(g *group, rebuildsRmapbt bool) []string {
	var out []string
	owned, leaked := p.spaceConflicts(g)
	if rebuildsRmapbt {
		leaked = p.notMetadata(g.agno, leaked)
	}
	for _, r := range owned {
		out = append(out, fmt.Sprintf("the bnobt has blocks %d+%d of AG %d free and the rmapbt does not", r.Start, r.Count, g.agno))
	}
	for _, r := range leaked {
		out = append(out, fmt.Sprintf("nobody owns blocks %d+%d of AG %d and the bnobt does not have them", r.Start, r.Count, g.agno))
	}
	return out
}

// unprovenForks lists forks whose mappings are not known to be in the rmapbts:
// the kernel's scrub of them, made again after everything that it compares
// with was marked, still complains, or nobody could read them.
func (p *pass) unprovenForks() []string {
	var out []string
	for _, ino := range sortedKeys(p.inodeBad) {
		for _, r := range p.inodeBad[ino] {
			fork := r.Type == ioctl.ScrubTypeBMBTD || r.Type == ioctl.ScrubTypeBMBTA
			if !fork && r.Type == ioctl.ScrubTypeINODE {
				// Forks of an inode that is bad itself were not looked at; those of
				// other inodes than these were compared here.
				_, opaque, err := p.walk.FindOpaque(ino)
				fork = opaque || err != nil
			}
			if fork && (r.Bad() || r.Err != nil) && !p.accounted[ino] {
				out = append(out, fmt.Sprintf("the kernel's scrub of the %s says %s", r.Object, r.Flags))
			}
		}
	}
	for i := range p.walk.Unreadable {
		if u := &p.walk.Unreadable[i]; !p.accounted[u.Ino] {
			out = append(out, fmt.Sprintf("inode %d could not be read (%s)", u.Ino, u.Stage))
		}
	}
	if n := p.walk.UnreadableTotal; n > uint64(len(p.walk.Unreadable)) {
		out = append(out, fmt.Sprintf("%s could not be read", plural(n, "inode")))
	}
	if n := p.walk.RefusedTotal; n > 0 {
		out = append(out, fmt.Sprintf("%s could not be opened because of leases or access scanners", plural(n, "inode")))
	}
	out = append(out, p.privateFiles()...)
	out = append(out, p.open.notFinished()...)
	return append(out, p.inodesLeftOut()...)
}

func contains(set []*dispute, d *dispute) bool {
	for _, s := range set {
		if s == d {
			return true
		}
	}
	return false
}

// rebuildFacts adds to the facts what only a rebuild of the rmapbt asks for:
// what would be freed, and whether every owner that the old rmapbt names is
// sound.
func (p *pass) rebuildFacts(ctx context.Context, g *group, settled []*dispute) (*verdict.AG, error) {
	ag := p.facts(g, settled)
	ag.SpaceDisputes = p.spaceDisputes(g, true)
	for _, d := range settled {
		ag.Reaped = append(ag.Reaped, reaped(g, d)...)
	}
	var err error
	if ag.Unheard, err = p.unheardOwners(ctx, g); err != nil {
		return nil, err
	}
	if ag.NoStaging, err = p.noStaging(ctx, g); err != nil {
		return nil, err
	}
	if ag.OwnersUnscrubbed, err = p.unsoundOwners(ctx, g, settled); err != nil {
		return nil, err
	}
	ag.OwnersUnscrubbed = append(ag.OwnersUnscrubbed, p.privateFiles()...)
	return ag, nil
}

// reaped lists blocks of d in g that a rebuild of the rmapbt would free although
// no second witness denies the record that owns them.
func reaped(g *group, d *dispute) []string {
	var out []string
	for i := range d.Pieces {
		pc := &d.Pieces[i]
		if pc.AGNo == g.agno && pc.Record != nil && pc.Claim == nil && !d.Denied(pc) {
			out = append(out, fmt.Sprintf("blocks %d+%d of AG %d would be freed", pc.Start, pc.Count, g.agno))
		}
	}
	return out
}

// noStaging reads g's rmapbt to its end and tells whether it names no CoW
// staging.
func (p *pass) noStaging(ctx context.Context, g *group) (bool, error) {
	for recs, err := range witness.RmapView(ctx, p.r.fs, g.agno, p.fsmapBuf) {
		if errors.Is(err, ioctl.ErrCorrupt) || errors.Is(err, witness.ErrStuck) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		for i := range recs {
			if recs[i].Owner == shadow.OwnerCoW {
				return false, nil
			}
		}
	}
	return true, nil
}

// unsoundOwners scrubs the core of every inode that the rmapbt of g names and
// lists those that do not pass. Numbers of no inode and those of private
// inodes, which nobody can scrub by number, do not count.
func (p *pass) unsoundOwners(ctx context.Context, g *group, settled []*dispute) ([]string, error) {
	seen := make(map[uint64]struct{})
	dead := make(map[uint64]bool)
	for _, d := range settled {
		for ino, in := range d.Inodes {
			dead[ino] = in.State == verdict.OwnerDead
		}
	}
	bulk := ioctl.NewBulkstatBuffer(1)
	var out []string
	for recs, err := range witness.RmapView(ctx, p.r.fs, g.agno, p.fsmapBuf) {
		if errors.Is(err, ioctl.ErrCorrupt) {
			return append(out, fmt.Sprintf("the owners in AG %d cannot all be read", g.agno)), nil
		}
		if err != nil {
			return nil, err
		}
		for i := range recs {
			owner := recs[i].Owner
			if _, ok := seen[owner]; ok || !recs[i].IsInode() || dead[owner] {
				continue
			}
			seen[owner] = struct{}{}
			why, err := p.soundOwner(ctx, ioctl.Ino(owner), bulk)
			if err != nil {
				return nil, err
			}
			if why != "" {
				out = append(out, why)
			}
		}
	}
	return out, nil
}

func (p *pass) soundOwner(ctx context.Context, ino ioctl.Ino, bulk *ioctl.BulkstatBuffer) (string, error) {
	req := ioctl.BulkRequest{Ino: ino, Limit: 1, Flags: ioctl.BulkNrext64}
	n, err := p.r.fs.Bulkstat(&req, bulk)
	if errors.Is(err, ioctl.ErrCorrupt) {
		return fmt.Sprintf("inode %d cannot be read", ino), nil
	}
	if err != nil {
		return "", err
	}
	if n == 0 || bulk.Records()[0].Ino != ino {
		return "", nil
	}
	res, err := p.r.kern.One(ctx, kernel.Object{Type: ioctl.ScrubTypeINODE, Ino: ino, Gen: bulk.Records()[0].Gen})
	if err != nil {
		return "", err
	}
	if res.Absent {
		return "", nil
	}
	// Read afterwards: a mark that was taken off meanwhile excuses nothing.
	geo, err := p.r.fs.AGGeometry(agOf(p.r.fs, ino))
	if err != nil && !errors.Is(err, ioctl.ErrCorrupt) {
		return "", err
	}
	if why := verdict.SoundCore(verdict.Scrub{Ran: res.Ran && res.Err == nil, Flags: res.Flags}, geo.Sick); why != nil {
		return fmt.Sprintf("inode %d, an owner in this AG, does not pass its scrub (%s)", ino, why[0]), nil
	}
	return "", nil
}
