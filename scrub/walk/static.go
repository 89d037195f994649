package walk

import (
	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/shadow"
)

// headerBlocks is how many fs blocks the superblock, AGF, AGI and AGFL take at
// the start of a group, one sector each: up to the block that the AGFL begins in.
//
// Source: fs/xfs/libxfs/xfs_format.h (XFS_AGFL_BLOCK).
func headerBlocks(g *ioctl.Geometry) uint32 {
	return 3*g.SectorSize/g.BlockSize + 1
}

// claimStatic adds what the geometry alone tells: headers and internal log.
func claimStatic(b *batcher, g *ioctl.Geometry) error {
	for agno := range g.AGCount {
		if err := b.add(agno, shadow.Rmap{BlockCount: headerBlocks(g), Owner: shadow.OwnerFS}); err != nil {
			return err
		}
	}
	agno, agbno, ok := g.InternalLog()
	if !ok {
		return nil
	}
	s := spaceOf(g)
	log := extent{start: uint64(agno)*s.agblocks + uint64(agbno), count: uint64(g.LogBlocks)}
	if uint64(agbno) >= s.agblocks || log.count == 0 || !s.has(log) {
		return nil // the geometry contradicts itself; the comparison shows the rest
	}
	return b.claim(&s, log, shadow.OwnerLog, 0)
}

// claimRTStatic adds the superblock of the realtime device.
func claimRTStatic(b *batcher, g *ioctl.Geometry) error {
	if !g.RTGrouped() || !g.HasRTSuperblock() {
		return nil
	}
	return b.add(0, shadow.Rmap{BlockCount: g.RTExtSize, Owner: shadow.OwnerFS})
}
