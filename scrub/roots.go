package scrub

import (
	"fmt"
	"slices"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/kernel"
	"github.com/scrubd/scrubd/scrub/verdict"
	"github.com/scrubd/scrubd/scrub/witness"
	"github.com/scrubd/scrubd/shadow"
)

// A header with a wrong root hides a whole btree. The kernel's repair of the header
// finds btrees by their blocks, and believes what it finds. So the same is done here
// first, below the filesystem: of each kind there has to be one tree, all blocks that
// the rmapbt has for these trees have to be in them or on the AGFL, and what their
// records add up to has to be what the header counts, and what the rmapbt leaves. An
// old header, an old leaf, or a block that was a root once, does not. What was written
// in memory only does not either, and is waited for.

// ownedBy lists the blocks that the rmapbt of g gives to owner; false where it cannot
// be read to its end, or has too many.
func (p *pass) ownedBy(g *group, owner uint64) (out []ioctl.AGBlock, whole bool) {
	whole, err := p.eachRecord(p.r.ctx, g, func(r *shadow.Rmap) error {
		for i := uint32(0); r.Owner == owner && i < r.BlockCount && len(out) <= maxOwnBlocks; i++ {
			out = append(out, ioctl.AGBlock(r.StartBlock+i))
		}
		return p.r.ctx.Err()
	})
	return out, err == nil && whole && len(out) <= maxOwnBlocks
}

// lostSpaceRoots says which roots of the free space btrees in the AGF of g are none,
// nothing if they are all right or if the kernel might find others than these trees.
func (p *pass) lostSpaceRoots(g *group) []Witness {
	if g.rmapErr != nil {
		return nil
	}
	c := p.lookInto(g.agno)
	if c == nil {
		return nil
	}
	defer c.close()
	own, whole := p.ownedBy(g, shadow.OwnerAG)
	n, err := p.ownBlocks(p.r.ctx, g, nil)
	if err != nil || !whole || !n.countedBy(c.self) || !p.allOwnedByAG(g, c.self.AGFL) {
		return nil
	}
	var trees []*agTree
	var out []Witness
	for _, root := range c.self.Roots {
		t := c.findTree(root.Kind, own)
		if t == nil || root.Kind != "rmapbt" && (t.sum != uint64(c.self.FreeBlocks) || t.digest != n.digest) {
			return nil
		}
		trees = append(trees, t)
		if !t.at(root) {
			if root.Kind == "rmapbt" {
				return nil
			}
			out = append(out, sayRoot("agf", root, t))
		}
	}
	if !c.allIn(own, trees...) || !p.refcountRootRight(c, g) {
		return nil
	}
	return out
}

// refcountRootRight tells whether the AGF of g has the root of the refcountbt, which
// its repair looks for too.
func (p *pass) refcountRootRight(c *contents, g *group) bool {
	if !c.geo.Has(ioctl.FlagReflink) {
		return true
	}
	counts, whole := p.ownedBy(g, shadow.OwnerRefcbt)
	t := c.findTree("refcountbt", counts)
	return whole && t != nil && t.at(c.self.RefcountRoot) && c.allIn(counts, t) && !c.anyListed(counts)
}

// lostRefcountRoot is lostSpaceRoots for that of the refcountbt: without it the kernel
// does not list the rmapbt, which is read below the filesystem as well.
func (p *pass) lostRefcountRoot(g *group) []Witness {
	c := p.lookInto(g.agno)
	if c == nil {
		return nil
	}
	defer c.close()
	var trees []*agTree
	for _, root := range c.self.Roots {
		t := c.treeAt(root)
		if t == nil {
			return nil
		}
		trees = append(trees, t)
	}
	rmapbt := trees[2]
	rmapbt.leave(uint64(c.geo.AGLength(g.agno)))
	for _, t := range trees[:2] {
		if t.sum != rmapbt.gaps || t.digest != rmapbt.gapDigest {
			return nil
		}
	}
	own, refs := rmapbt.of(shadow.OwnerAG), rmapbt.of(shadow.OwnerRefcbt)
	found := c.findTree("refcountbt", refs)
	if rmapbt.gaps != uint64(c.self.FreeBlocks) || rmapbt.gap != uint64(c.self.Longest) || uint64(len(own)) != c.self.Own ||
		found == nil || uint32(len(refs)) != c.self.RefcountBlocks || !c.allIn(own, trees...) || !c.allIn(refs, found) || c.anyListed(refs) ||
		found.at(c.self.RefcountRoot) || !rightCounts(found, rmapbt) || !p.claimed(g, found) || !allOwnedIn(own, c.self.AGFL) {
		return nil
	}
	return []Witness{sayRoot("agf", c.self.RefcountRoot, found)}
}

// rightCounts tells whether a refcountbt has the shared blocks and the staging that the
// rmapbt has. With an old one, a write to what it does not know to be shared would go
// to all that share it.
func rightCounts(refcountbt, rmapbt *agTree) bool {
	var staging []shadow.Refcount
	for i := range rmapbt.rmaps {
		if r := &rmapbt.rmaps[i]; r.Owner == shadow.OwnerCoW {
			staging = append(staging, shadow.Refcount{StartBlock: r.StartBlock | shadow.RefcountCoW, BlockCount: r.BlockCount, Count: 1})
		}
	}
	of := func(recs []shadow.Refcount, cow bool) []shadow.Refcount {
		return slices.DeleteFunc(slices.Clone(recs), func(r shadow.Refcount) bool { return r.IsCoW() != cow })
	}
	return slices.Equal(joinedCounts(of(refcountbt.refcounts, false)), joinedCounts(counts(rmapbt.shareable))) &&
		slices.Equal(joinedCounts(of(refcountbt.refcounts, true)), joinedCounts(staging))
}

// claimed tells whether a refcountbt has the shared blocks that the forks have. Those
// that are shared can often not be read without the refcountbt, and lack then.
func (p *pass) claimed(g *group, refcountbt *agTree) bool {
	tree, err := p.trees.Refcounts(p.r.ctx, g.agno)
	if err != nil {
		return false
	}
	var forks []shadow.Refcount
	for rec, err := range tree.All() {
		if err != nil {
			return false
		}
		forks = append(forks, rec)
	}
	shared := slices.DeleteFunc(slices.Clone(refcountbt.refcounts), shadow.Refcount.IsCoW)
	return slices.Equal(joinedCounts(shared), joinedCounts(forks))
}

func allOwnedIn(own, agfl []ioctl.AGBlock) bool {
	return !slices.ContainsFunc(agfl, func(b ioctl.AGBlock) bool { return !slices.Contains(own, b) })
}

// joinedCounts makes one of records that continue one another.
func joinedCounts(recs []shadow.Refcount) (out []shadow.Refcount) {
	for _, r := range recs {
		if n := len(out); n > 0 && out[n-1].StartBlock+out[n-1].BlockCount == r.StartBlock && out[n-1].Count == r.Count {
			out[n-1].BlockCount += r.BlockCount
			continue
		}
		out = append(out, r)
	}
	return out
}

func sayRoot(header string, has witness.Root, t *agTree) Witness {
	return Witness{header, fmt.Sprintf("has block %d and %d levels for the %s, which has its root in block %d, %d levels high",
		has.Block, has.Levels, has.Kind, t.root, t.levels)}
}

// lostRoots is the finding that the AGI of g does not have the root of an inode btree,
// nil if it has. facts are those with the inode chunks compared.
func (p *pass) lostRoots(g *group, facts *verdict.AG, types []ioctl.ScrubType) *finding {
	if len(verdict.MayFindInodeRoots(facts)) > 0 {
		return nil
	}
	wrong := p.lostInodeRoots(g)
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
	return f
}

// lostInodeRoots says which roots in the AGI of g are none, as lostSpaceRoots does.
func (p *pass) lostInodeRoots(g *group) []Witness {
	c := p.lookInto(g.agno)
	if c == nil {
		return nil
	}
	defer c.close()
	sector := ioctl.ByteOff(c.geo.SectorSize)
	raw, err := c.raw.Read(c.geo.AGByte(g.agno, 0)+2*sector, sector)
	if err != nil {
		return nil
	}
	agi := c.self.ReadAGI(raw, c.geo.Has(ioctl.FlagFinobt))
	geo, err := p.r.fs.AGGeometry(g.agno)
	own, whole := p.ownedBy(g, shadow.OwnerInobt)
	if agi == nil || err != nil || !whole || geo.InodeCount != agi.Count || geo.FreeInodes != agi.Free {
		return nil
	}
	var trees []*agTree
	var out []Witness
	for _, root := range agi.Roots {
		t := c.findTree(root.Kind, own)
		if t == nil || t.free != uint64(agi.Free) || root.Kind == "inobt" && t.sum != uint64(agi.Count) {
			return nil
		}
		trees = append(trees, t)
		if !t.at(root) {
			out = append(out, sayRoot("agi", root, t))
		}
	}
	// The same inodes have to be free in both: one that is older would have the next
	// file made over one of these.
	if !c.allIn(own, trees...) || c.anyListed(own) || len(trees) == 2 && trees[0].digest != trees[1].digest {
		return nil
	}
	return out
}
