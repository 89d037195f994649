package scrub

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/confirm"
	"github.com/scrubd/scrubd/scrub/kernel"
	"github.com/scrubd/scrubd/scrub/verdict"
)

// findFreeSpace makes one finding per AG of the blocks about which the bnobt
// is wrong (rows 4 and 7). Blocks that a dispute is about are its own.
func (p *pass) findFreeSpace(ctx context.Context, fs *verdict.FS) error {
	for i := range p.groups {
		g := &p.groups[i]
		owned, leaked := p.spaceConflicts(g)
		if g.suspect == ioctl.ScrubTypeRMAPBT {
			leaked = p.notMetadata(g.agno, leaked) // lost records of metadata are the rmapbt's fault
		}
		if len(owned) == 0 && len(leaked) == 0 {
			continue
		}
		f := p.fromSpace(g, owned, leaked)
		f.order = orderFreeSpace
		facts, err := p.freeSpaceFacts(ctx, g)
		if err != nil {
			return err
		}
		decided := verdict.DecideGroup(&verdict.GroupSeen{
			AG: facts, OwnedFree: len(owned) > 0, Leaked: len(leaked) > 0, LeakProven: p.leakProven(g),
		})
		f.blockers = verdict.MayRebuildBnobt(facts)
		if len(leaked) > 0 && len(owned) == 0 {
			for _, why := range []string{p.wantsLeaked(), p.lostWrites()} {
				if why != "" {
					f.blockers = append(f.blockers, verdict.Blocker{Clause: "reap", Why: why})
				}
			}
		}
		if decided.Held() {
			why := decided.Reason
			if !p.r.coverage.KernelScrub {
				why = "only the kernel's scrub can tell a moment without transactions under way, and lost space looks like a long one"
			}
			f.blockers = append([]verdict.Blocker{{Clause: fmt.Sprintf("row %d", decided.Row), Why: why}}, f.blockers...)
			f.Outcome, f.Severity = Unsettled, Warning
		}
		f.steps = []step{{obj: kernel.Object{Type: ioctl.ScrubTypeBNOBT, AGNo: g.agno}, forced: true}}
		if len(owned) == 0 && !decided.Held() && p.lostMetadata(g, leaked) {
			if err := p.blameLostRecords(ctx, fs, g, f, leaked); err != nil {
				return err
			}
		}
		if len(f.blockers) > 0 && f.Outcome == "" {
			// Blocks in use whose rmap was lost look the same.
			f.AtFault, f.WaysOut = string(verdict.Undecided), offline()
		}
		p.add(f)
	}
	return nil
}

// freeSpaceFacts adds to the facts how the inode chunks stand to the rmapbt, where
// the inode btrees do not tell.
func (p *pass) freeSpaceFacts(ctx context.Context, g *group) (*verdict.AG, error) {
	ag := p.facts(g, nil)
	if len(badTypes(g, inodeTypes...)) == 0 {
		return ag, nil
	}
	ag.NoMetadataLeaked = !p.leaksMetadata(g)
	return ag, p.compareChunks(ctx, g, ag)
}

// maxInside is how many extents of a fork lie in an inode of any size.
const maxInside = 1

// wantsLeaked names an inode that counts more blocks than its forks have, so that
// some of those which nobody owns may be its: an extent that fork and rmapbt both
// lost. Then neither the space nor the counter is to be set right. Of one that has
// all that it counts in the rmapbts none is missing. Nor of those whose forks lie in
// the inode, so that no write of them alone can have been lost, where all of them
// together miss fewer blocks than lie in any one place without an owner, and these
// lie nowhere beside theirs.
func (p *pass) wantsLeaked() string {
	leaked, least := uint64(0), uint64(math.MaxUint64)
	for i := range p.groups {
		_, ranges := p.spaceConflicts(&p.groups[i])
		for _, r := range ranges {
			leaked += uint64(r.Count)
			least = min(least, uint64(r.Count))
		}
	}
	if leaked == 0 {
		return ""
	}
	var first ioctl.Ino
	missing, inside := uint64(0), true
	for _, ino := range sortedKeys(p.inodeBad) {
		badCore := func(r kernel.Result) bool { return r.Type == ioctl.ScrubTypeINODE && r.Bad() }
		if p.accounted[ino] || !slices.ContainsFunc(p.inodeBad[ino], badCore) {
			continue
		}
		seen, err := p.settler.Measure(uint64(ino))
		if err != nil || seen.State != verdict.OwnerLive || seen.Blocks <= seen.ForkBlocks {
			continue
		}
		if missing == 0 {
			first = ino
		}
		missing += seen.Blocks - seen.ForkBlocks
		inside = inside && seen.Extents <= maxInside && seen.AExtents <= maxInside && !p.touchesLeaked(ino)
	}
	if missing == 0 || inside && missing < least {
		return ""
	}
	return fmt.Sprintf("inode %d counts more than its forks have, %s in all such inodes, and %s have no owner", first,
		plural(missing, "block"), plural(leaked, "block"))
}

// touchesLeaked tells whether blocks that nobody owns lie right before or behind those
// of a fork of ino: its mapping may have been longer.
func (p *pass) touchesLeaked(ino ioctl.Ino) bool {
	for _, fork := range []ioctl.Fork{ioctl.DataFork, ioctl.AttrFork} {
		recs, err := p.settler.Fork(uint64(ino), fork)
		if err != nil {
			return true
		}
		for i := range recs {
			agno, agbno := p.r.fs.Geometry().DAddrToAG(recs[i].Block)
			if uint64(agno) >= uint64(len(p.groups)) {
				continue // not allocated yet
			}
			end := uint64(agbno) + uint64(recs[i].Length)*512/uint64(p.r.fs.Geometry().BlockSize)
			_, leaked := p.spaceConflicts(&p.groups[agno])
			for _, r := range leaked {
				if uint64(r.Start) == end || uint64(r.Start)+uint64(r.Count) == uint64(agbno) {
					return true
				}
			}
		}
	}
	return false
}

// lostWrites tells of a dispute in which a record may be the only trace of lost
// data. Where one write was lost, others may have been with it: blocks that
// nobody owns may then be data of which no trace at all is left in these two.
func (p *pass) lostWrites() string {
	for _, d := range p.rmapBad {
		if d.decision.Held() && d.decision.OnlyTrace {
			return fmt.Sprintf("blocks %d+%d of AG %d look like a lost write, and these may be of another", d.first().Start, d.first().Count, d.first().AGNo)
		}
	}
	return ""
}

// lostMetadata tells whether blocks that nobody owns and the bnobt does not have
// are metadata whose records were lost: each says of itself that it is, and the
// kernel finds that some metadata or the btree of some fork has no record.
func (p *pass) lostMetadata(g *group, leaked []verdict.Range) bool {
	complaint := len(badTypes(g, ioctl.ScrubTypeRMAPBT)) > 0 && !g.scrubs[ioctl.ScrubTypeRMAPBT].Flags.Has(ioctl.ScrubCorrupt)
	for _, results := range p.inodeBad {
		complaint = complaint || onlyDisagrees(results)
	}
	return complaint && len(p.notMetadata(g.agno, leaked)) == 0
}

// onlyDisagrees tells whether the kernel finds a fork at odds with something and
// nothing wrong with the inode itself.
func onlyDisagrees(results []kernel.Result) bool {
	forks := false
	for _, r := range results {
		if !r.Bad() {
			continue
		}
		if r.Type != ioctl.ScrubTypeBMBTD && r.Type != ioctl.ScrubTypeBMBTA || r.Flags.Has(ioctl.ScrubCorrupt) {
			return false
		}
		forks = true
	}
	return forks
}

// blameLostRecords turns a finding about lost space into one about the rmapbt
// that lost the records of metadata. Its rebuild finds them by their trees; and
// those that are in none it frees, as is right for what holds no data.
func (p *pass) blameLostRecords(ctx context.Context, fs *verdict.FS, g *group, f *finding, leaked []verdict.Range) error {
	facts, err := p.rebuildFacts(ctx, g, nil)
	if err != nil {
		return err
	}
	f.AtFault, f.Row, f.order, f.Outcome = string(verdict.Rmapbt), 14, orderRmapbt, ""
	f.Summary = fmt.Sprintf("the rmapbt of AG %d has no record of %s of metadata at block %d", g.agno, countRanges(leaked), leaked[0].Start)
	f.steps = []step{{obj: kernel.Object{Type: ioctl.ScrubTypeRMAPBT, AGNo: g.agno}, forced: true}}
	f.blockers = verdict.MayRebuildRmapbt(p.exempt(fs), facts)
	for _, ino := range sortedKeys(p.inodeBad) {
		if onlyDisagrees(p.inodeBad[ino]) {
			f.Files = addFile(f.Files, ino, 0)
		}
	}
	return nil
}

// spaceConflicts returns the confirmed conflicts of g that no dispute explains.
func (p *pass) spaceConflicts(g *group) (owned, leaked []verdict.Range) {
	for _, s := range g.space {
		if s.Status != confirm.Confirmed {
			continue
		}
		parts := confirm.Subtract(s.Parts, p.disputed(g.agno))
		if s.Conflict == confirm.OwnedFree {
			owned = append(owned, parts...)
		} else {
			leaked = append(leaked, parts...)
		}
	}
	return owned, leaked
}

// disputed returns the blocks of agno that disputes are about, sorted.
func (p *pass) disputed(agno ioctl.AGNumber) []verdict.Range {
	var out []verdict.Range
	for _, d := range p.rmapBad {
		for i := range d.Pieces {
			if pc := &d.Pieces[i]; pc.AGNo == agno {
				out = append(out, verdict.Range{Start: pc.Start, Count: pc.Count})
			}
		}
	}
	slices.SortFunc(out, func(a, b verdict.Range) int { return int(int64(a.Start) - int64(b.Start)) })
	return out
}

// leakProven tells whether space that nobody owns and the bnobt does not have
// was seen without doubt: in a moment without transactions under way, or
// together with a complaint of the kernel's own scrub of these btrees.
func (p *pass) leakProven(g *group) bool {
	const bad = ioctl.ScrubCorrupt | ioctl.ScrubXCorrupt
	if g.scrubs[ioctl.ScrubTypeBNOBT].Flags.Any(bad) || g.scrubs[ioctl.ScrubTypeCNTBT].Flags.Any(bad) {
		return true
	}
	for _, s := range g.space {
		if s.Status == confirm.Confirmed && s.Conflict == confirm.Neither && !s.Quiet {
			return false
		}
	}
	return true
}
