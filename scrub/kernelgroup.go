package scrub

import (
	"fmt"
	"slices"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/kernel"
	"github.com/scrubd/scrubd/scrub/verdict"
)

// findGroup judges what the kernel found in the metadata of an AG that no other
// finding accounts for. Headers of which nothing else hangs are faults of their
// own; of the rest the most likely culprit is.
func (p *pass) findGroup(fs *verdict.FS, g *group, e *explained) {
	types := e.leaves(g.agno, badTypes(g, slices.Concat(headerTypes, spaceTypes)...))
	take := func(alone ioctl.ScrubType, unless ...ioctl.ScrubType) {
		if slices.Contains(types, alone) && !slices.ContainsFunc(unless, func(t ioctl.ScrubType) bool { return slices.Contains(types, t) }) {
			p.findMetadata(fs, g, alone, []ioctl.ScrubType{alone})
			types = slices.DeleteFunc(types, func(t ioctl.ScrubType) bool { return t == alone })
		}
	}
	take(ioctl.ScrubTypeSB)
	take(ioctl.ScrubTypeAGI, inodeTypes...)
	take(ioctl.ScrubTypeAGF, ioctl.ScrubTypeBNOBT, ioctl.ScrubTypeCNTBT)
	if len(types) > 0 {
		p.findMetadata(fs, g, culprit(g, types), types)
	}
}

// findMetadata makes a finding of metadata t of g, of which the given scrubs
// complain.
func (p *pass) findMetadata(fs *verdict.FS, g *group, t ioctl.ScrubType, types []ioctl.ScrubType) {
	f := &finding{Finding: &Finding{
		AtFault: t.String(), Severity: Corruption, HasAG: true, AGNo: g.agno, ScrubTypes: types,
		Summary: fmt.Sprintf("the kernel finds the %s of AG %d corrupt", t, g.agno),
	}, steps: []step{{obj: kernel.Object{Type: t, AGNo: g.agno}, forced: true}}}
	for _, t := range types {
		f.Witnesses = append(f.Witnesses, Witness{"kernel scrub", fmt.Sprintf("%s: %s", t, g.scrubs[t].Flags)})
	}
	facts := p.facts(g, nil)
	switch t {
	case ioctl.ScrubTypeRMAPBT:
		f.Row, f.order = 14, orderRmapbt
		f.blockers = p.loneRmapbt(fs, g, facts, types)
	case ioctl.ScrubTypeBNOBT, ioctl.ScrubTypeCNTBT:
		f.order = orderFreeSpace
		f.blockers = verdict.MayRebuildBnobt(facts)
	case ioctl.ScrubTypeREFCNTBT:
		f.Row, f.order = 6, orderRefcountbt
		p.sayMiscounted(f.Finding, p.miscounted[g.agno])
		f.blockers = verdict.MayRebuildRefcountbt(facts, p.unheardSharers())
	case ioctl.ScrubTypeSB:
		f.order = orderOther
		if g.agno == 0 {
			f.blockers = []verdict.Blocker{{Clause: "source", Why: "the primary superblock has no source to be rebuilt from"}}
		} else if s := p.groups[0].scrubs[t]; !s.Ran || s.Flags.Any(ioctl.ScrubCorrupt|ioctl.ScrubXCorrupt) {
			f.blockers = []verdict.Blocker{{Clause: "source", Why: "the primary superblock is not clean"}}
		} else if bad := p.badSuperblocks(); bad > 1 && 2*bad >= len(p.groups)-1 {
			f.blockers = []verdict.Blocker{{Clause: "vote", Why: fmt.Sprintf("%d of %d secondary superblocks differ from the primary one, which may be the one that is wrong", bad, len(p.groups)-1)}}
		}
	case ioctl.ScrubTypeAGFL:
		f.Row, f.order = 14, orderHeaders
		crossed, _ := p.crossedAGFL(g)
		for _, c := range crossed {
			f.Witnesses = append(f.Witnesses, Witness{"agfl", c})
		}
		if f.blockers = verdict.MayRebuildAGFL(facts, crossed); len(f.blockers) > 0 {
			f.AtFault = string(verdict.Undecided)
		}
	default:
		f.order = orderHeaders
		// A header that the kernel refuses to read hides everything that it could
		// be held against. Its repair frees nothing and changes no file: it finds
		// the roots of btrees whose blocks say what they are, or gives up.
		if !g.headerLost || !g.scrubs[t].Flags.Has(ioctl.ScrubCorrupt) {
			f.blockers = verdict.RmapbtProven(facts, t, 0)
		}
		if len(f.blockers) > 0 && t == ioctl.ScrubTypeAGF {
			if lost := p.lostSpaceRoots(g); len(lost) > 0 {
				f.Witnesses = append(f.Witnesses, lost...)
				f.blockers = verdict.MayFindRoots(facts)
			}
		}
		if t == ioctl.ScrubTypeAGF {
			f.blockers = append(f.blockers, p.keptOfAGF(g)...)
		}
	}
	if len(f.blockers) > 0 {
		f.WaysOut = offline()
	}
	p.add(f)
}

// badSuperblocks counts the secondary superblocks that are not as the primary
// one has it.
func (p *pass) badSuperblocks() int {
	n := 0
	for i := range p.groups {
		if i > 0 && len(badTypes(&p.groups[i], ioctl.ScrubTypeSB)) > 0 {
			n++
		}
	}
	return n
}

// culprit picks the structure that most likely is bad of those that complain:
// one that is corrupt in itself before those that merely disagree, and among
// those the one that others are built from last.
func culprit(g *group, types []ioctl.ScrubType) ioctl.ScrubType {
	if g.suspect != 0 && slices.Contains(types, g.suspect) {
		return g.suspect
	}
	for _, t := range types {
		if g.scrubs[t].Flags.Has(ioctl.ScrubCorrupt) {
			return t
		}
	}
	last := func(t ioctl.ScrubType) int {
		return slices.Index([]ioctl.ScrubType{
			ioctl.ScrubTypeBNOBT, ioctl.ScrubTypeCNTBT, ioctl.ScrubTypeREFCNTBT, ioctl.ScrubTypeAGF,
			ioctl.ScrubTypeAGFL, ioctl.ScrubTypeAGI, ioctl.ScrubTypeSB, ioctl.ScrubTypeRMAPBT,
		}, t)
	}
	return slices.MinFunc(types, func(a, b ioctl.ScrubType) int { return last(a) - last(b) })
}
