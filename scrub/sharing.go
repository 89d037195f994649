package scrub

import (
	"fmt"
	"slices"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/verdict"
)

// decideShared applies rows 6, 6b and 9b to what was confirmed between forks and
// refcountbts. Where the rmapbt is in dispute, or where the kernel's own count
// contradicts, there is nothing to be said of the refcountbt.
func (p *pass) decideShared() {
	p.miscounted = make(map[ioctl.AGNumber][]*verdict.SharedPiece)
	p.unflagged = make(map[ioctl.Ino]bool)
	for i := range p.shared {
		piece := &p.shared[i]
		g := &p.groups[piece.AGNo]
		disputed := slices.ContainsFunc(p.disputed(piece.AGNo), func(r verdict.Range) bool {
			return r.Start < piece.Start+piece.Count && piece.Start < r.Start+r.Count
		})
		if disputed {
			continue // row 6b: the rmapbt first
		}
		switch d := verdict.DecideShared(piece, g.scrubs[ioctl.ScrubTypeREFCNTBT]); d.Action {
		case verdict.ActionRebuildRefcountbt:
			p.miscounted[piece.AGNo] = append(p.miscounted[piece.AGNo], piece)
		case verdict.ActionRepairInode:
			for _, ino := range piece.NoFlag {
				p.unflagged[ino] = true
			}
		default:
			p.r.log.WithField("agno", piece.AGNo).WithField("agbno", piece.Start).Infof("reference counts: %s", d.Reason)
		}
	}
}

// sayMiscounted adds to a finding about a refcountbt which blocks it counts
// otherwise than forks and rmapbt do, and whose they are.
func (p *pass) sayMiscounted(f *Finding, pieces []*verdict.SharedPiece) {
	if len(pieces) == 0 {
		return
	}
	var blocks uint64
	for _, piece := range pieces {
		blocks += uint64(piece.Count)
		if len(f.Extents) < maxListed {
			f.Extents = append(f.Extents, Extent{piece.AGNo, ioctl.AGBlock(piece.Start), piece.Count})
		}
		for i := range piece.Claims {
			if piece.Claims[i].IsInode() {
				f.Files = addFile(f.Files, ioctl.Ino(piece.Claims[i].Owner), 0)
			}
		}
	}
	first := pieces[0]
	mark := "does not have blocks %d+%d as shared"
	if first.Marked {
		mark = "has blocks %d+%d as shared"
	}
	if first.Coarse {
		mark = "has some of blocks %d+%d as shared"
	}
	f.Witnesses = append(f.Witnesses,
		Witness{"refcountbt", fmt.Sprintf(mark, first.Start, first.Count)},
		Witness{"fork", fmt.Sprintf("%s claim them, and the rmapbt has the same", plural(uint64(len(first.Claims)), "fork"))},
	)
	f.Summary = fmt.Sprintf("the refcountbt of AG %d is wrong about %s at block %d", f.AGNo, plural(blocks, "block"), first.Start)
}

// findUncounted makes findings of reference counts that the kernel was not asked
// about: without its scrub nobody else sees them.
func (p *pass) findUncounted(e *explained) {
	for agno, pieces := range p.miscounted {
		g := &p.groups[agno]
		if e.types[agno][ioctl.ScrubTypeREFCNTBT] || len(badTypes(g, ioctl.ScrubTypeREFCNTBT)) > 0 {
			continue
		}
		f := &finding{Finding: &Finding{
			AtFault: string(verdict.Refcountbt), Row: 6, Severity: Corruption, HasAG: true, AGNo: agno,
			Reason: "the kernel's own check of the refcountbt was not had, and comes before its repair", WaysOut: offline(),
		}}
		p.sayMiscounted(f.Finding, pieces)
		p.add(f)
	}
	if p.r.coverage.KernelScrub {
		return
	}
	for ino := range p.unflagged {
		p.add(&finding{Finding: &Finding{
			AtFault: string(verdict.ReflinkFlag), Row: 9, Letter: "b", Severity: Corruption, HasAG: true, AGNo: agOf(p.r.fs, ino),
			Files: []File{{Ino: ino}}, Summary: fmt.Sprintf("inode %d shares blocks with other files and lacks the reflink flag", ino),
			Reason: "online repair is not possible here", WaysOut: offline(),
		}})
	}
}
