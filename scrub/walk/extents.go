package walk

import (
	"fmt"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/shadow"
)

// space is the geometry of a device, data or realtime, as the conversion of
// extents needs it.
type space struct {
	shift    uint   // log2 of the 512-byte sectors of a block
	agblocks uint64 // fs blocks of a group
	blocks   uint64 // fs blocks of the device
}

func spaceOf(g *ioctl.Geometry) space {
	return space{
		shift:    uint(g.BlockLog() - ioctl.SectorShift),
		agblocks: uint64(g.AGBlocks),
		blocks:   g.DataBlocks,
	}
}

// rtSpaceOf is the realtime device's. Blocks behind the last whole realtime
// extent belong to nobody.
func rtSpaceOf(g *ioctl.Geometry) space {
	return space{
		shift:    uint(g.BlockLog() - ioctl.SectorShift),
		agblocks: g.RGBlocks(),
		blocks:   g.RTExtents * uint64(g.RTExtSize),
	}
}

// extent is a mapping of a fork in fs blocks: offset in the fork, start on the
// device (linear, not XFS's encoding).
type extent struct{ offset, start, count uint64 }

// extent converts one record of GETBMAPX that has blocks.
//
// Errors: [ioctl.ErrMalformed] for what no fork can have; blocks beyond the
// device are none, see space.has.
func (s *space) extent(r *ioctl.BmapRecord) (extent, error) {
	part := ioctl.DAddr(1)<<s.shift - 1
	e := extent{
		offset: uint64(r.Offset >> s.shift),
		start:  uint64(r.Block >> s.shift),
		count:  uint64(r.Length >> s.shift),
	}
	var why string
	switch {
	case r.Offset>>63 != 0 || r.Block>>63 != 0 || r.Length>>63 != 0:
		why = "negative"
	case (r.Offset|r.Block|r.Length)&part != 0:
		why = "not made of whole blocks"
	case e.count == 0:
		why = "without blocks"
	case e.offset+e.count-1 > shadow.MaxOffset:
		why = "ends beyond the largest offset"
	case e.count > shadow.MaxBlock:
		why = "longer than any extent"
	default:
		return e, nil
	}
	return extent{}, fmt.Errorf("%w: extent of %d sectors at sector %d, offset %d: %s",
		ioctl.ErrMalformed, int64(r.Length), int64(r.Block), int64(r.Offset), why)
}

// has tells whether the extent lies on the device.
func (s *space) has(e extent) bool {
	return e.start < s.blocks && e.count <= s.blocks-e.start
}

// claim adds what an extent that lies on the device says, group by group. No
// extent of XFS crosses into another group; one that does is cut there, so that
// it is compared with what both groups have.
func (b *batcher) claim(s *space, e extent, owner, flags uint64) error {
	for {
		agno, agbno := e.start/s.agblocks, e.start%s.agblocks
		n := min(e.count, s.agblocks-agbno)
		err := b.add(uint32(agno), shadow.Rmap{
			StartBlock: uint32(agbno),
			BlockCount: uint32(n),
			Owner:      owner,
			Offset:     e.offset | flags,
		})
		if err != nil || n == e.count {
			return err
		}
		e.start, e.count, e.offset = e.start+n, e.count-n, e.offset+n
	}
}
