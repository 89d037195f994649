package scrub

import (
	"cmp"
	"slices"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/confirm"
	"github.com/scrubd/scrubd/scrub/verdict"
)

// atRisk tells at once of blocks in use that are confirmed to be free in the
// bnobt (row 4). The finding about them has to wait for the scrubs of all AGs,
// and whoever owns the data for nothing: any write may overwrite it. What a
// difference between forks and rmapbt is about may be the rmapbt's fault, and
// waits for its verdict.
func (p *pass) atRisk() {
	for _, g := range p.everyGroup() {
		e := &RiskEvent{AGNo: g.agno, Realtime: g.realtime}
		for _, s := range g.space {
			if s.Status != confirm.Confirmed || s.Conflict != confirm.OwnedFree || p.r.told[s.Window] {
				continue
			}
			p.r.told[s.Window] = true
			for _, b := range confirm.Subtract(s.Parts, g.differing()) {
				e.Extents = append(e.Extents, Extent{g.agno, ioctl.AGBlock(b.Start), b.Count})
			}
		}
		if len(e.Extents) > 0 {
			p.r.emit(e)
		}
	}
}

// differing returns the blocks that forks and rmapbt were seen to differ about,
// sorted.
func (g *group) differing() []verdict.Range {
	var out []verdict.Range
	for _, c := range g.candidates {
		for i := range c.Diffs {
			start, end := c.Diffs[i].Blocks()
			out = append(out, verdict.Range{Start: uint32(start), Count: uint32(end - start)})
		}
	}
	slices.SortFunc(out, func(a, b verdict.Range) int { return cmp.Compare(a.Start, b.Start) })
	return out
}
