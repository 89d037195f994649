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

func (c *contents) close() {
	_ = c.raw.Close() // nothing was written
}

// metadata tells whether every block of r says that it is metadata, or is on the
// AG's free list.
func (c *contents) metadata(r verdict.Range) bool {
	for i := range r.Count {
		agbno := ioctl.AGBlock(r.Start + i)
		if slices.Contains(c.self.AGFL, agbno) {
			continue
		}
		at := c.geo.AGByte(c.self.AGNo, agbno)
		block, err := c.raw.Read(at, ioctl.ByteOff(c.geo.BlockSize))
		if err != nil || c.self.KindOf(block, at, c.geo.AGToIno(c.self.AGNo, agbno, 0)) == "" {
			return false
		}
	}
	return true
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

// countAGBlocks finds out, where the AGFL or the rmapbt is in question, whether the rmapbt has as
// many blocks for the AG's own btrees and its AGFL as the AGF counts. The AGF on
// disk may be older than the rmapbt of now; that they are equal is then as good a
// sign as at one moment, and that they differ is none.
// Errors: ctx's, those that end a run.
func (p *pass) countAGBlocks(ctx context.Context) error {
	for i := range p.groups {
		g := &p.groups[i]
		if len(badTypes(g, ioctl.ScrubTypeAGFL, ioctl.ScrubTypeRMAPBT)) == 0 || g.rmapErr != nil {
			continue
		}
		c := p.lookInto(g.agno)
		if c == nil {
			continue
		}
		want := c.self.Own
		c.close()
		var has, end uint64
		alone, last := true, uint64(0)
		whole, err := p.eachRecord(ctx, g, func(r *shadow.Rmap) error {
			own := r.Owner == shadow.OwnerAG
			if uint64(r.StartBlock) < end && (own || last == shadow.OwnerAG) {
				alone = false
			}
			if own {
				has += uint64(r.BlockCount)
			}
			if r.End() > end {
				end, last = r.End(), r.Owner
			}
			return nil
		})
		if err != nil {
			return err
		}
		g.agCounted = whole && alone && has == want
	}
	return nil
}
