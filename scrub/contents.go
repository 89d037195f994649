package scrub

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/confirm"
	"github.com/scrubd/scrubd/scrub/state"
	"github.com/scrubd/scrubd/scrub/verdict"
	"github.com/scrubd/scrubd/scrub/witness"
	"github.com/scrubd/scrubd/shadow"
)

// maxContents bounds the blocks that are looked into for one finding.
const maxContents = 4096

// contents looks into blocks of an AG below the filesystem: metadata says of
// itself what it is (witness W10), and a block that does holds nothing that a
// user wrote, whoever owns it.
type contents struct {
	raw  *state.Raw
	self *witness.Self
	geo  *ioctl.Geometry
}

// lookInto opens the device for looks into blocks of g. Nil where it cannot be
// read, or where the AG's headers on disk are not what they should be.
func (p *pass) lookInto(agno ioctl.AGNumber) *contents {
	raw, err := state.OpenRaw(p.r.fs)
	if err != nil {
		p.r.log.WithError(err).Info("blocks cannot be looked into")
		return nil
	}
	c := &contents{raw: raw, geo: p.r.fs.Geometry()}
	start, sector := c.geo.AGByte(agno, 0), ioctl.ByteOff(c.geo.SectorSize)
	agf, errF := raw.Read(start+sector, sector)
	agfl, errL := raw.Read(start+3*sector, sector)
	var ok bool
	if c.self, ok = witness.ReadSelf(agno, agf, agfl); errors.Join(errF, errL) != nil || !ok {
		c.close()
		return nil
	}
	return c
}

// keptOfAGF lists what stands against repairing the AGF of g: what the repair takes
// over from it has to be in order. Where the kernel refuses to read it, nothing can be
// compared with it; but it has to be the AGF that is refused.
func (p *pass) keptOfAGF(g *group) []verdict.Blocker {
	no := func(format string) []verdict.Blocker {
		return []verdict.Blocker{{Clause: "source", Why: fmt.Sprintf(format, g.agno)}}
	}
	unseen := func() []verdict.Blocker {
		if !g.headerLost {
			return nil // it was compared with the rmapbt and its btrees
		}
		return no("the AGF of AG %d cannot be looked into")
	}
	raw, err := state.OpenRaw(p.r.fs)
	if err != nil {
		return unseen()
	}
	defer func() { _ = raw.Close() }() // nothing was written
	geo := p.r.fs.Geometry()
	sector := ioctl.ByteOff(geo.SectorSize)
	agf, err := raw.Read(geo.AGByte(g.agno, 0)+sector, sector)
	switch {
	case err != nil:
		return unseen()
	case g.headerLost && g.scrubs[ioctl.ScrubTypeAGI].Flags.Has(ioctl.ScrubCorrupt) && !witness.LostAGF(agf, g.agno, geo.AGLength(g.agno)):
		return no("the AGI of AG %d is corrupt, and may be what hides the rmapbt")
	case !witness.SoundAGFL(agf):
		return no("the AGF of AG %d does not agree with itself about the AGFL, and its repair keeps what it has of that")
	}
	return nil
}

func (c *contents) close() {
	_ = c.raw.Close() // nothing was written
}

// metadata tells whether every block of r says that it is metadata, or is on the
// AG's free list.
func (c *contents) metadata(r verdict.Range) bool {
	for i := range r.Count {
		if kind, err := c.kindOf(ioctl.AGBlock(r.Start + i)); err != nil || kind == "" {
			return false
		}
	}
	return true
}

// kindOf is what a block of the AG says that it is; "agfl" if it is on the AG's free
// list.
func (c *contents) kindOf(agbno ioctl.AGBlock) (witness.Kind, error) {
	_, kind, err := c.read(agbno)
	return kind, err
}

func (c *contents) read(agbno ioctl.AGBlock) ([]byte, witness.Kind, error) {
	at := c.geo.AGByte(c.self.AGNo, agbno)
	block, err := c.raw.Read(at, ioctl.ByteOff(c.geo.BlockSize))
	switch {
	case err != nil:
		return nil, "", err
	case slices.Contains(c.self.AGFL, agbno):
		return block, "agfl", nil
	}
	return block, c.self.KindOf(block, at, c.geo.AGToIno(c.self.AGNo, agbno, 0)), nil
}

// notMetadata leaves out of ranges those blocks that say of themselves that they
// are metadata. What it cannot look into stays.
func (p *pass) notMetadata(agno ioctl.AGNumber, ranges []verdict.Range) []verdict.Range {
	var blocks uint64
	for _, r := range ranges {
		blocks += uint64(r.Count)
	}
	if len(ranges) == 0 || blocks > maxContents {
		return ranges
	}
	c := p.lookInto(agno)
	if c == nil {
		return ranges
	}
	defer c.close()
	var out []verdict.Range
	for _, r := range ranges {
		for i := range r.Count {
			one := verdict.Range{Start: r.Start + i, Count: 1}
			if c.metadata(one) {
				continue
			}
			if n := len(out); n > 0 && out[n-1].Start+out[n-1].Count == one.Start {
				out[n-1].Count++
			} else {
				out = append(out, one)
			}
		}
	}
	return out
}

// crossedAGFL names blocks that are on the AGFL and that an inode's fork claims
// too, with the rmapbt's word for it; and tells whether the AGFL could be looked
// into.
func (p *pass) crossedAGFL(g *group) (out []string, looked bool) {
	c := p.lookInto(g.agno)
	if c == nil {
		return nil, false
	}
	defer c.close()
	for _, agbno := range c.self.AGFL {
		recs, err := witness.RmapWindow(p.r.fs, g.agno, agbno, 1, p.fsmapBuf, nil)
		if err != nil {
			continue // the rmapbt has no word on it
		}
		if len(recs) == 0 && p.r.bnobt != nil {
			free, err := witness.FreeWindow(p.r.fs, p.r.bnobt, g.agno, agbno, 1, p.freeBuf, nil)
			if err == nil && len(free) == 1 {
				out = append(out, fmt.Sprintf("names block %d, which the bnobt has free and the rmapbt too", agbno))
			}
			continue
		}
		for i := range recs {
			r := recs[i].Rmap
			if !r.HasOffset() {
				continue
			}
			w := confirm.Window{AGNo: g.agno, Start: uint32(agbno), Count: 1}
			if still, err := p.settler.StillClaims(w, r); err == nil && len(still) > 0 {
				out = append(out, fmt.Sprintf("names block %d, which inode %d and the rmapbt say is its own", agbno, r.Owner))
				break
			}
		}
	}
	return out, true
}

// maxOwnBlocks bounds the blocks of an AG's btrees that are looked into.
const maxOwnBlocks = 1 << 16

// undenied names blocks that the rmapbt of g gives to btrees or the AGFL, that do
// not say of themselves that they are metadata, and that the bnobt does not have
// free. Nobody denies such a record: were it wrong, it could be the only trace of
// a file's data, of which the owner was changed. A btree's block that was not
// written yet is among them.
// Errors: ctx's, those that end a run.
func (p *pass) undenied(ctx context.Context, g *group) ([]string, error) {
	c := p.lookInto(g.agno)
	if c == nil {
		return []string{fmt.Sprintf("the blocks of metadata in AG %d cannot be looked into", g.agno)}, nil
	}
	defer c.close()
	var out []string
	looked := uint64(0)
	_, err := p.eachRecord(ctx, g, func(r *shadow.Rmap) error {
		if r.Owner != shadow.OwnerAG && r.Owner != shadow.OwnerInobt && r.Owner != shadow.OwnerRefcbt || looked > maxOwnBlocks {
			return ctx.Err()
		}
		if looked += uint64(r.BlockCount); looked > maxOwnBlocks {
			out = append(out, fmt.Sprintf("AG %d has too many blocks of metadata to look into", g.agno))
			return nil
		}
		for i := range r.BlockCount {
			at := ioctl.AGBlock(r.StartBlock + i)
			if c.metadata(verdict.Range{Start: uint32(at), Count: 1}) {
				continue
			}
			if p.r.bnobt != nil {
				if free, err := witness.FreeWindow(p.r.fs, p.r.bnobt, g.agno, at, 1, p.freeBuf, nil); err == nil && len(free) > 0 {
					continue
				}
			}
			out = append(out, fmt.Sprintf("block %d of AG %d would be freed, which the rmapbt gives to metadata and which does not say that it is", at, g.agno))
		}
		return nil
	})
	return out, err
}

// countAGBlocks finds out, where the AGFL or the rmapbt is in question, whether the
// rmapbt has as many blocks for the AG's own btrees and its AGFL as the AGF counts.
// It says nothing of their place; but one that was moved is free, or another's, or
// has left a block of metadata without an owner. One that is free and that the AGFL
// names too was not moved: it is the bnobt that is alone with its word. The AGF is read below the
// filesystem and may be older than the rmapbt: it is the one of now if it has just
// the free space that the rmapbt leaves.
// Errors: ctx's, those that end a run.
func (p *pass) countAGBlocks(ctx context.Context) error {
	for i := range p.groups {
		g := &p.groups[i]
		if len(badTypes(g, ioctl.ScrubTypeAGFL, ioctl.ScrubTypeRMAPBT)) == 0 || g.rmapErr != nil || !g.spaceCompared {
			continue
		}
		g.agflCrossed = true
		c := p.lookInto(g.agno)
		if c == nil {
			continue
		}
		self := c.self
		c.close()
		g.agflCrossed = !p.allOwnedByAG(g, self.AGFL)
		var named []ioctl.AGBlock
		// An AGF older than the rmapbt may still have a block on the AGFL that has
		// become one of a btree: what counts them would disagree.
		const not = ioctl.ScrubCorrupt | ioctl.ScrubXCorrupt | ioctl.ScrubXFail | ioctl.ScrubIncomplete
		if s := g.scrubs[ioctl.ScrubTypeAGF]; s.Ran && !s.Flags.Any(not) {
			named = self.AGFL
		}
		n, err := p.ownBlocks(ctx, g, named)
		if err != nil {
			return err
		}
		g.agCounted = n.countedBy(self) && !p.leaksMetadata(g)
	}
	return nil
}

// allOwnedByAG tells whether the rmapbt of g has every one of blocks for the AG's own
// btrees and AGFL, and for nobody else: whatever takes one from the AGFL writes over it.
func (p *pass) allOwnedByAG(g *group, blocks []ioctl.AGBlock) bool {
	for _, agbno := range blocks {
		recs, err := witness.RmapWindow(p.r.fs, g.agno, agbno, 1, p.fsmapBuf, nil)
		if err != nil || len(recs) != 1 || recs[0].Owner != shadow.OwnerAG {
			return false
		}
	}
	return true
}

// ownBlocks is what the rmapbt of an AG has for the AG's own btrees and AGFL, and
// what it leaves.
type ownBlocks struct {
	own           uint64
	alone         bool // no other record has one of these, and the bnobt has none free but of the AGFL
	gaps, longest uint64
	digest        uint64 // of the gaps
}

func (n *ownBlocks) countedBy(agf *witness.Self) bool {
	return n.alone && n.own == agf.Own && n.gaps == uint64(agf.FreeBlocks) && n.longest == uint64(agf.Longest)
}

func (p *pass) ownBlocks(ctx context.Context, g *group, agfl []ioctl.AGBlock) (ownBlocks, error) {
	n := ownBlocks{alone: true}
	var far shadow.Rmap // the record that reaches farthest
	gap := func(to uint64) {
		if to > far.End() {
			n.gaps += to - far.End()
			n.longest = max(n.longest, to-far.End())
			n.digest += digest(far.End(), to-far.End())
		}
	}
	whole, err := p.eachRecord(ctx, g, func(r *shadow.Rmap) error {
		gap(uint64(r.StartBlock))
		if r.Owner == shadow.OwnerAG {
			n.own += uint64(r.BlockCount)
			n.alone = n.alone && !g.seenFreeBut(r, agfl)
		}
		if uint64(r.StartBlock) < far.End() && (r.Owner == shadow.OwnerAG || far.Owner == shadow.OwnerAG) {
			n.alone = false
		}
		if r.End() > far.End() {
			far = *r
		}
		return nil
	})
	gap(uint64(p.r.fs.Geometry().AGLength(g.agno)))
	n.alone = n.alone && whole
	return n, err
}

// leaksMetadata tells whether a block of g that nobody owns and the bnobt does not
// have is, or may be, one of metadata.
func (p *pass) leaksMetadata(g *group) bool {
	_, leaked := p.spaceConflicts(g)
	var blocks uint64
	for _, r := range leaked {
		blocks += uint64(r.Count)
	}
	if blocks == 0 {
		return false
	}
	c := p.lookInto(g.agno)
	if c == nil || blocks > maxContents {
		return true
	}
	defer c.close()
	for _, r := range leaked {
		for i := range r.Count {
			if kind, err := c.kindOf(ioctl.AGBlock(r.Start + i)); err != nil || kind != "" {
				return true
			}
		}
	}
	return false
}
