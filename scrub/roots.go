package scrub

import (
	"fmt"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/kernel"
	"github.com/scrubd/scrubd/scrub/verdict"
	"github.com/scrubd/scrubd/scrub/witness"
	"github.com/scrubd/scrubd/shadow"
)

// countedByAGF tells whether all that the AGF on the disk counts is what the rmapbt of
// g has: the blocks of its btrees and AGFL, and all free space and the longest of it.
// Only one of now does, whatever it has for roots.
func (p *pass) countedByAGF(g *group) bool {
	if g.rmapErr != nil {
		return false
	}
	c := p.lookInto(g.agno)
	if c == nil {
		return false
	}
	self := c.self
	c.close()
	n, err := p.ownBlocks(p.r.ctx, g, nil)
	return err == nil && n.countedBy(self) && p.allOwnedByAG(g, self.AGFL)
}

func (n *ownBlocks) countedBy(agf *witness.Self) bool {
	return n.alone && n.own == agf.Own && n.gaps == uint64(agf.FreeBlocks) && n.longest == uint64(agf.Longest)
}

// lostRoots is the finding that the AGI of g has a block for the root of an inode
// btree that is none, nil if it has not, or if the kernel has looked for the roots
// before and not found them. facts are those with the inode chunks compared.
func (p *pass) lostRoots(g *group, facts *verdict.AG, types []ioctl.ScrubType) *finding {
	wrong := p.wrongInodeRoots(g)
	if len(wrong) == 0 {
		return nil
	}
	t := ioctl.ScrubTypeAGI
	f := &finding{Finding: &Finding{
		AtFault: t.String(), Severity: Corruption, HasAG: true, AGNo: g.agno,
		ScrubTypes: append(badTypes(g, t, ioctl.ScrubTypeRMAPBT), types...),
		Summary:    fmt.Sprintf("the AGI of AG %d has lost the root of an inode btree", g.agno),
		Witnesses:  wrong,
	}, order: orderHeaders, steps: []step{{obj: kernel.Object{Type: t, AGNo: g.agno}, forced: true}}}
	f.Row = 14
	for _, t := range f.ScrubTypes {
		f.Witnesses = append(f.Witnesses, Witness{"kernel scrub", fmt.Sprintf("%s: %s", t, g.scrubs[t].Flags)})
	}
	if p.r.tries[p.placeOf(f)] > 0 || len(verdict.MayFindInodeRoots(facts)) > 0 {
		return nil
	}
	return f
}

// wrongInodeRoots says which roots in the AGI of g on the disk are none, by what the
// blocks say that they are, and the rmapbt of whose they are.
func (p *pass) wrongInodeRoots(g *group) []Witness {
	c := p.lookInto(g.agno)
	if c == nil {
		return nil
	}
	defer c.close()
	sector := ioctl.ByteOff(c.geo.SectorSize)
	agi, err := c.raw.Read(c.geo.AGByte(g.agno, 0)+2*sector, sector)
	if err != nil {
		return nil
	}
	var out []Witness
	for _, root := range c.self.InodeRoots(agi, c.geo.Has(ioctl.FlagFinobt)) {
		if why := p.notRoot(c, g, root); why != "" {
			out = append(out, Witness{"agi", fmt.Sprintf("has block %d for the root of the %s, %s", root.Block, root.Kind, why)})
		}
	}
	return out
}

func (p *pass) notRoot(c *contents, g *group, root witness.Root) string {
	if root.Block >= c.geo.AGLength(g.agno) {
		return "which is behind the end of the AG"
	}
	at := c.geo.AGByte(g.agno, root.Block)
	block, err := c.raw.Read(at, ioctl.ByteOff(c.geo.BlockSize))
	if err != nil {
		return ""
	}
	switch kind := c.self.KindOf(block, at, c.geo.AGToIno(g.agno, root.Block, 0)); {
	case kind == root.Kind && root.IsRoot(block):
		return ""
	case kind == root.Kind:
		return fmt.Sprintf("which is one of that btree, and not at level %d", root.Levels-1)
	}
	recs, err := witness.RmapWindow(p.r.fs, g.agno, root.Block, 1, p.fsmapBuf, nil)
	if err != nil || len(recs) == 1 && recs[0].Owner == shadow.OwnerInobt {
		return "" // it may be a root that was damaged
	}
	return "which does not say that it is one, and which the rmapbt has no inode btree in"
}
