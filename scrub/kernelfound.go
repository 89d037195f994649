package scrub

import (
	"fmt"
	"slices"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/kernel"
	"github.com/scrubd/scrubd/scrub/verdict"
	"github.com/scrubd/scrubd/scrub/witness"
)

// findKernel makes findings of what the kernel's own scrub found and no other
// finding accounts for.
func (p *pass) findKernel(fs *verdict.FS) {
	p.decideShared()
	e := p.explain()
	for i := range p.groups {
		p.findGroup(fs, &p.groups[i], e)
	}
	p.findUncounted(e)
	before := len(p.findings)
	e = p.explain()
	for _, ino := range sortedKeys(p.inodeBad) {
		if !e.inode(ino, agOf(p.r.fs, ino), p.inodeBad[ino]) {
			p.findInode(ino, p.inodeBad[ino], before > 0)
		}
	}
	for _, res := range p.fsBad {
		if res.Bad() && !p.rt.explained[res.Object] {
			p.add(&finding{Finding: &Finding{
				AtFault: res.Type.String(), Severity: Corruption, ScrubTypes: []ioctl.ScrubType{res.Type},
				Summary: fmt.Sprintf("the kernel finds %s corrupt", res.Object),
				Reason:  "its repair is not judged to be free of loss",
				WaysOut: offline(),
			}})
		}
	}
}

func sortedKeys(m map[ioctl.Ino][]kernel.Result) []ioctl.Ino {
	keys := make([]ioctl.Ino, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func offline() []WayOut {
	return []WayOut{{Trust: "fork", Effect: "unmount the filesystem and run xfs_repair -n to see what it would do, then xfs_repair"}}
}

// loneRmapbt weighs the rebuild of an rmapbt that only the kernel complains of.
// A disagreement alone is never a reason by itself: every other structure of
// the AG has to be clean, so that there is no other suspect.
func (p *pass) loneRmapbt(fs *verdict.FS, g *group, facts *verdict.AG, types []ioctl.ScrubType) []verdict.Blocker {
	if len(types) > 1 {
		return []verdict.Blocker{{Clause: "vote", Why: fmt.Sprintf("other structures of AG %d are not clean either", g.agno)}}
	}
	for _, t := range slices.Concat(headerTypes, spaceTypes) {
		if t == ioctl.ScrubTypeRMAPBT {
			continue
		}
		if why, ok := facts.Clean(t, ioctl.ScrubTypeRMAPBT); !ok {
			return []verdict.Blocker{{Clause: "vote", Why: why}}
		}
	}
	full, err := p.rebuildFacts(p.r.ctx, g, nil)
	if err != nil {
		return []verdict.Blocker{{Clause: "b", Why: err.Error()}}
	}
	undenied, err := p.undenied(p.r.ctx, g)
	if err != nil {
		return []verdict.Blocker{{Clause: "f", Why: err.Error()}}
	}
	full.Reaped = append(full.Reaped, undenied...)
	return verdict.MayRebuildRmapbt(fs, full)
}

// findInode judges what the kernel found in an inode that no dispute names.
func (p *pass) findInode(ino ioctl.Ino, results []kernel.Result, unsettledElsewhere bool) {
	var bad []kernel.Result
	for _, r := range results {
		if r.Bad() {
			bad = append(bad, r)
		}
	}
	if len(bad) == 0 {
		return
	}
	agno, agbno, _ := p.r.fs.Geometry().InoToAG(ino)
	res := slices.MinFunc(bad, func(a, b kernel.Result) int { return int(a.Type) - int(b.Type) })
	f := &finding{Finding: &Finding{
		AtFault: res.Type.String(), Severity: Corruption, HasAG: true, AGNo: agno,
		Extents: []Extent{{agno, agbno, 1}}, Files: []File{{Ino: ino, Gen: res.Gen}},
		Summary: fmt.Sprintf("the kernel finds %s corrupt", res.Object),
	}, order: orderOther}
	for _, r := range bad {
		f.ScrubTypes = append(f.ScrubTypes, r.Type)
		f.Witnesses = append(f.Witnesses, Witness{"kernel scrub", fmt.Sprintf("%s: %s", r.Type, r.Flags)})
	}
	f.steps = []step{{obj: kernel.Object{Type: res.Type, Ino: ino, Gen: res.Gen}}}
	switch res.Type {
	case ioctl.ScrubTypeBMBTD, ioctl.ScrubTypeBMBTA:
		if !res.Flags.Has(ioctl.ScrubCorrupt) {
			f.blockers = []verdict.Blocker{{Clause: "vote", Why: "the fork disagrees with something that scrubd finds in order"}}
			break
		}
		f.blockers = p.unreadBlockers(ino)
		for i := range p.groups {
			f.blockers = append(f.blockers, verdict.RmapbtProven(p.facts(&p.groups[i], nil), res.Type, uint64(ino))...)
		}
	case ioctl.ScrubTypeINODE:
		f.Row, f.order = 13, orderCores
		if res.Flags.Has(ioctl.ScrubCorrupt) && (p.unflagged[ino] || p.sharesUnflagged(ino)) {
			f.AtFault, f.Row, f.Letter = string(verdict.ReflinkFlag), 9, "b"
			f.Summary = fmt.Sprintf("inode %d shares blocks with other files and lacks the reflink flag", ino)
		}
		f.blockers = p.inodeBlockers(ino, res)
		if p.r.tries[p.placeOf(f)] > 0 {
			// The reflink flag is set by a rebuild of the data fork, not by a repair
			// of the core; its sources are the rmapbts, proven for both.
			fork := kernel.Object{Type: ioctl.ScrubTypeBMBTD, Ino: ino, Gen: res.Gen}
			f.steps = append([]step{{obj: fork, forced: true}}, f.steps...)
		}
	default:
		if verdict.LossOf(res.Type) != verdict.LossNone && !p.r.opts.AcceptLoss {
			f.blockers = []verdict.Blocker{{Clause: "loss", Why: "its repair salvages what it can and may lose names or attributes"}}
		} else if unsettledElsewhere {
			f.blockers = []verdict.Blocker{{Clause: "order", Why: "another finding comes first"}}
		}
	}
	f.blockers = append(f.blockers, p.rtInodeBlockers(f, res)...)
	if len(f.blockers) > 0 {
		f.WaysOut = offline()
		if verdict.LossOf(res.Type) == verdict.LossSalvage && res.Type != ioctl.ScrubTypeINODE {
			f.WaysOut = append([]WayOut{{Trust: "kernel", Effect: "let the kernel salvage it online", Command: "scrubd run --now --accept-loss " + p.r.fs.Path()}}, f.WaysOut...)
		}
	}
	p.add(f)
}

// unreadBlockers lists what stands against rebuilding a fork that the kernel finds
// corrupt and that no dispute is about: one that was compared with the rmapbts has
// no less than they, and of one that could not be only the inode's count tells.
func (p *pass) unreadBlockers(ino ioctl.Ino) []verdict.Blocker {
	of := map[uint64]*recorded{uint64(ino): {}}
	whole, err := p.recorded(p.r.ctx, of)
	if err != nil {
		return []verdict.Blocker{{Clause: "row 16", Why: err.Error()}}
	}
	if err := p.settler.FlushInode(p.r.ctx, uint64(ino)); err != nil {
		p.r.log.WithError(err).WithField("ino", ino).Warn("write back before judging")
	}
	seen, err := p.settler.Measure(uint64(ino))
	if err != nil {
		return []verdict.Blocker{{Clause: "row 16", Why: err.Error()}}
	}
	in := &verdict.Inode{Ino: ino, Blocks: seen.Blocks, Recorded: of[uint64(ino)].blocks, RecordedKnown: whole}
	if o, opaque, err := p.walk.FindOpaque(ino); err == nil && opaque && in.Blocks == 0 {
		in.Blocks = o.Blocks // BULKSTAT has none where the data lies in the inode
	}
	return verdict.MayRebuildUnread(in)
}

// inodeBlockers weighs an INODE repair: it rewrites the counters from the
// forks, which is right only where forks and rmapbts agree about all blocks of
// this inode, so that the counters are not needed as a witness any more. No
// dispute names it, or it would not be judged here.
func (p *pass) inodeBlockers(ino ioctl.Ino, res kernel.Result) []verdict.Blocker {
	seen, err := p.settler.Measure(uint64(ino))
	if err != nil || seen.State != verdict.OwnerLive {
		return []verdict.Blocker{{Clause: "loss", Why: "the inode cannot be loaded, and its repair would rewrite it"}}
	}
	call := verdict.Call{Type: res.Type, NoBlocks: seen.Blocks == 0, NoExtents: seen.Extents == 0}
	if why, denied := verdict.DenyCall(call); denied {
		return []verdict.Blocker{{Clause: "deny", Why: why}}
	}
	var out []verdict.Blocker
	if why := p.wantsLeaked(); why != "" {
		out = append(out, verdict.Blocker{Clause: "reap", Why: why})
	}
	for i := range p.groups {
		out = append(out, verdict.RmapbtProven(p.facts(&p.groups[i], nil), res.Type, uint64(ino))...)
	}
	return out
}

// sharesUnflagged tells whether the rmapbt has written blocks of ino marked as
// shared that its own fork does not show so, which it does for inodes without
// the reflink flag, and has another owner of them.
func (p *pass) sharesUnflagged(ino ioctl.Ino) bool {
	recs, err := p.settler.Fork(uint64(ino), ioctl.DataFork)
	if err != nil || p.isRealtime(ino) {
		return false
	}
	geo := p.r.fs.Geometry()
	for i := range recs[:min(len(recs), maxListed)] {
		b := &recs[i]
		if b.Flags.Has(ioctl.BmapShared) {
			return false
		}
		agno, agbno := geo.DAddrToAG(b.Block)
		count := ioctl.AGBlock(uint64(b.Length) * 512 / uint64(geo.BlockSize))
		owned, err := witness.RmapWindow(p.r.fs, agno, agbno, count, p.fsmapBuf, nil)
		if err != nil {
			return false
		}
		marked, others := false, false
		for j := range owned {
			marked = marked || owned[j].Owner == uint64(ino) && owned[j].Shared
			others = others || owned[j].Owner != uint64(ino) && owned[j].IsShareable()
		}
		if marked && others {
			return true
		}
	}
	return false
}
