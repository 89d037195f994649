package verdict

import (
	"slices"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/shadow"
)

// GroupSeen is what is known of an AG beside disputes between forks and rmapbt.
type GroupSeen struct {
	AG *AG
	// OwnedFree: the bnobt has blocks free that the rmapbt gives to owners, whose
	// forks agree. Leaked: nobody owns blocks that the bnobt has not; LeakProven:
	// seen in a moment without transactions under way, or together with the
	// kernel's own complaint.
	OwnedFree, Leaked, LeakProven bool
	// InodeBtrees: the kernel complains of the inobt or finobt.
	InodeBtrees bool
	// Suspects are the btrees without which all other metadata agrees.
	Suspects []ioctl.ScrubType
}

// GroupRow is a line of the arbitration table about the metadata of an AG.
type GroupRow struct {
	Number  int
	Seen    string
	AtFault Structure
	Action  Action
	when    func(*GroupSeen) bool
	why     string
}

// GroupRows are the lines about the metadata of an AG, in the order in which they
// are tried: what is unreadable, what is being given away, inodes, the rest.
func GroupRows() []GroupRow { return slices.Clone(groupRows) }

var groupRows = []GroupRow{
	{
		Number: 15, Seen: "the rmapbt cannot be read, and the kernel finds it corrupt", AtFault: Rmapbt, Action: ActionRebuildRmapbt,
		when: func(g *GroupSeen) bool { return !g.AG.RmapReadable && g.AG.corrupt(ioctl.ScrubTypeRMAPBT) },
	},
	{
		// GETFSMAP asks of every record whether its blocks are shared, and tells of
		// none where that has no answer.
		Number: 15, Seen: "the rmapbt cannot be read, and the kernel finds the refcountbt corrupt instead", AtFault: Refcountbt,
		when: func(g *GroupSeen) bool {
			return !g.AG.RmapReadable && !g.AG.corrupt(ioctl.ScrubTypeRMAPBT) && g.AG.corrupt(ioctl.ScrubTypeREFCNTBT)
		},
		why: "the kernel lists no record of the rmapbt as long as the refcountbt cannot be read, so that nothing can prove the rmapbt, of which the refcountbt would be rebuilt",
	},
	{
		Number: 15, Seen: "the rmapbt cannot be read, and the kernel reads it", AtFault: Undecided,
		when: func(g *GroupSeen) bool { return !g.AG.RmapReadable },
		why:  "the kernel's scrub does not find the rmapbt corrupt in itself",
	},
	{
		Number: 4, Seen: "forks and rmapbt agree, and the bnobt has the blocks free", AtFault: Bnobt, Action: ActionRebuildBnobt,
		when: func(g *GroupSeen) bool { return g.OwnedFree },
	},
	{
		Number: 7, Seen: "nobody owns blocks that the bnobt does not have, in no moment known to be quiet", AtFault: Bnobt,
		when: func(g *GroupSeen) bool { return g.Leaked && !g.LeakProven },
		why:  "no moment without transactions under way in the AG was seen, so that it may be a long one",
	},
	{
		Number: 7, Seen: "nobody owns blocks that the bnobt does not have", AtFault: Bnobt, Action: ActionRebuildBnobt,
		when: func(g *GroupSeen) bool { return g.Leaked },
	},
	{
		Number: 10, Seen: "an inode btree is corrupt in itself", AtFault: InodeBtree, Action: ActionRebuildInobt,
		when: func(g *GroupSeen) bool {
			return g.InodeBtrees && (g.AG.corrupt(ioctl.ScrubTypeINOBT) || g.AG.corrupt(ioctl.ScrubTypeFINOBT))
		},
	},
	{
		Number: 10, Seen: "inode btrees and rmapbt disagree, and the AGI counts what INUMBERS lists", AtFault: Rmapbt, Action: ActionRebuildRmapbt,
		when: func(g *GroupSeen) bool { return g.InodeBtrees && BlameRmapbtForChunks(g.AG) },
	},
	{
		Number: 10, Seen: "inode btrees and something else disagree, and the AGI counts what the rmapbt has", AtFault: InodeBtree, Action: ActionRebuildInobt,
		when: func(g *GroupSeen) bool { return g.InodeBtrees && g.AG.InodesCounted },
	},
	{
		Number: 10, Seen: "inode btrees and something else disagree, and the AGI counts neither", AtFault: Undecided,
		when: func(g *GroupSeen) bool { return g.InodeBtrees },
		why:  "the inode btrees only disagree with another structure, and the AGI does not side with the rmapbt",
	},
	{
		Number: 14, Seen: "without the rmapbt all other metadata agrees, without any other btree it does not", AtFault: Rmapbt, Action: ActionRebuildRmapbt,
		when: func(g *GroupSeen) bool { return slices.Equal(g.Suspects, []ioctl.ScrubType{ioctl.ScrubTypeRMAPBT}) },
	},
	{
		Number: 14, Seen: "metadata disagrees, and no single structure explains it", AtFault: Undecided,
		when: func(*GroupSeen) bool { return true },
		why:  "no single structure explains what the kernel finds",
	},
}

func (ag *AG) corrupt(t ioctl.ScrubType) bool {
	s := ag.Scrubs[t]
	return s.Ran && s.Flags.Has(ioctl.ScrubCorrupt)
}

// DecideGroup applies rows 4, 7, 10, 14 and 15. What the decision asks for still
// has to be allowed, by MayRebuildBnobt, MayRebuildInobt or MayRebuildRmapbt.
func DecideGroup(g *GroupSeen) Decision {
	for i := range groupRows {
		if r := &groupRows[i]; r.when(g) {
			return Decision{Row: r.Number, AtFault: r.AtFault, Action: r.Action, Reason: r.why, Critical: r.Number == 4}
		}
	}
	return hold(14, "there is no evidence")
}

// leafInodes is how many inodes of an AG have to disagree by its rmapbt's fault
// for a whole leaf of it to be the likely one.
const leafInodes = 3

// LostLeaf is row 17: several inodes of one AG disagree with its rmapbt, and by
// its fault each: what was lost is not one record but a write of a leaf. That
// changes what a reader looks for, and nothing of what each dispute has to show.
func LostLeaf(set []*Dispute) bool {
	inodes := make(map[ioctl.AGNumber]map[uint64]bool)
	for _, d := range set {
		for i := range d.Pieces {
			p := &d.Pieces[i]
			m := p.Claim
			if m == nil {
				m = p.Record
			}
			if m == nil || !m.IsInode() {
				continue
			}
			if inodes[p.AGNo] == nil {
				inodes[p.AGNo] = make(map[uint64]bool)
			}
			inodes[p.AGNo][m.Owner] = true
		}
	}
	for _, in := range inodes {
		if len(in) >= leafInodes {
			return true
		}
	}
	return false
}

// LostInode is row 18: one inode disagrees in several AGs, and no other has a
// part in it: a write of the inode was lost, and not one of several rmapbts. What
// becomes of it is what rows 2, 3 and 3b say.
func LostInode(d *Dispute) bool {
	var ino uint64
	groups := make(map[ioctl.AGNumber]bool)
	for i := range d.Pieces {
		p := &d.Pieces[i]
		groups[p.AGNo] = true
		for _, m := range [2]*shadow.Rmap{p.Claim, p.Record} {
			switch {
			case m == nil:
			case !m.IsInode() || ino != 0 && m.Owner != ino:
				return false
			default:
				ino = m.Owner
			}
		}
	}
	return len(groups) > 1 && ino != 0
}
