package witness

import (
	"context"
	"fmt"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/shadow"
)

// group is the geometry of one allocation group, or of a group of the realtime
// device, as the conversions need it.
type group struct {
	dev    uint32 // as GETFSMAP has it
	rt     bool   // agno is the number of a realtime group
	agno   ioctl.AGNumber
	first  uint64 // fs block of the device at which the group begins
	length uint64 // fs blocks
	shift  uint   // log2 of the block size in bytes
	unit   uint64 // fs blocks of a realtime extent, 0 for an AG
	// refresh asks how long the group is now. The last one of a filesystem grows
	// with it.
	refresh func() uint64
}

func groupOf(fs *ioctl.FS, agno ioctl.AGNumber) (group, error) {
	g := fs.Geometry()
	length := g.AGLength(agno)
	if length == 0 {
		return group{}, fmt.Errorf("AG %d of %d: %w", agno, g.AGCount, ErrRange)
	}
	return group{
		dev:    fs.FSMapDevice(),
		agno:   agno,
		first:  uint64(agno) * uint64(g.AGBlocks),
		length: uint64(length),
		shift:  uint(g.BlockLog()),
		refresh: func() uint64 {
			now, err := fs.RefreshGeometry(context.Background())
			if err != nil {
				return 0 // what the kernel said first stands
			}
			return uint64(now.AGLength(agno))
		},
	}, nil
}

// String names the group.
func (g *group) String() string { return groupName(g.rt, g.agno) }

func groupName(rt bool, number ioctl.AGNumber) string {
	if rt {
		return fmt.Sprintf("rtgroup %d", number)
	}
	return fmt.Sprintf("AG %d", number)
}

// byteOf is the device byte at which block agbno begins.
func (g *group) byteOf(agbno uint64) ioctl.ByteOff {
	return ioctl.ByteOff((g.first + agbno) << g.shift)
}

// extent returns the blocks of a record, relative to the group. Of one that
// reaches into what the filesystem has been grown by since its geometry was
// read, it returns what lies within that geometry.
//
// Errors: [ErrMalformed] if it is not made of whole blocks or not inside of the group.
func (g *group) extent(r *ioctl.FSMapRecord) (start, count uint32, err error) {
	part := uint64(1)<<g.shift - 1
	first, n := uint64(r.Physical)>>g.shift, uint64(r.Length)>>g.shift
	switch {
	case (uint64(r.Physical)|uint64(r.Length))&part != 0:
		return 0, 0, g.malformed(r, "not made of whole blocks")
	case n == 0:
		return 0, 0, g.malformed(r, "without blocks")
	case first < g.first, first-g.first >= g.length:
		return 0, 0, g.malformed(r, "not inside of the group")
	}
	first -= g.first
	if n > g.length-first {
		if now := g.refresh(); first >= now || n > now-first {
			return 0, 0, g.malformed(r, "not inside of the group")
		}
		n = g.length - first
	}
	return uint32(first), uint32(n), nil
}

func (g *group) malformed(r *ioctl.FSMapRecord, why string) error {
	return fmt.Errorf("%w: GETFSMAP record of %s at byte %d, length %d, owner %d, offset %d, flags %v: %s",
		ErrMalformed, g, r.Physical, r.Length, r.Owner, r.Offset, r.Flags, why)
}

// rmap converts a record of the privileged view. FREE must have been dropped.
func (g *group) rmap(r *ioctl.FSMapRecord) (shadow.Rmap, error) {
	start, count, err := g.extent(r)
	if err != nil {
		return shadow.Rmap{}, err
	}
	m := shadow.Rmap{StartBlock: start, BlockCount: count, Owner: r.Owner}
	if r.Flags&ioctl.FSMapSpecialOwner != 0 {
		owner, ok := specialOwner(ioctl.FSMapOwner(r.Owner))
		if !ok {
			return shadow.Rmap{}, g.malformed(r, "unknown special owner")
		}
		m.Owner = owner
		return m, nil
	}
	if r.Owner>>63 != 0 {
		return shadow.Rmap{}, g.malformed(r, "inode number out of range")
	}
	if r.Flags&ioctl.FSMapAttrFork != 0 {
		m.Offset |= shadow.OffsetAttrFork
	}
	if r.Flags&ioctl.FSMapExtentMap != 0 {
		m.Offset |= shadow.OffsetBmbtBlock
		return m, nil
	}
	if r.Flags&ioctl.FSMapPrealloc != 0 {
		m.Offset |= shadow.OffsetUnwritten
	}
	offset := uint64(r.Offset) >> g.shift
	if uint64(r.Offset)&(1<<g.shift-1) != 0 || offset > shadow.MaxOffset {
		return shadow.Rmap{}, g.malformed(r, "impossible offset")
	}
	m.Offset |= offset
	return m, nil
}

// specialOwner is the owner as the rmapbt has it.
//
// Source: fs/xfs/xfs_fsmap.c (xfs_fsmap_owner_from_frec).
func specialOwner(o ioctl.FSMapOwner) (uint64, bool) {
	switch o {
	case ioctl.FSMapOwnerUnknown:
		return shadow.OwnerUnknown, true
	case ioctl.FSMapOwnerFS:
		return shadow.OwnerFS, true
	case ioctl.FSMapOwnerLog:
		return shadow.OwnerLog, true
	case ioctl.FSMapOwnerAG:
		return shadow.OwnerAG, true
	case ioctl.FSMapOwnerInobt:
		return shadow.OwnerInobt, true
	case ioctl.FSMapOwnerInodes:
		return shadow.OwnerInodes, true
	case ioctl.FSMapOwnerRefcount:
		return shadow.OwnerRefcbt, true
	case ioctl.FSMapOwnerCoW:
		return shadow.OwnerCoW, true
	}
	return 0, false
}
