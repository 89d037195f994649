package ioctl

import (
	"fmt"
	"math"
)

// RTGroups returns how many groups the realtime device is made of: those of the filesystem, or one where
// it was made without realtime groups; 0 without a realtime device.
func (g *Geometry) RTGroups() uint32 {
	switch {
	case g.RTBlocks == 0:
		return 0
	case g.RGCount == 0:
		return 1
	default:
		return g.RGCount
	}
}

// RGBlocks returns the length of every realtime group but the last, in fs blocks.
func (g *Geometry) RGBlocks() uint64 {
	if g.RGCount == 0 {
		return g.RTExtents * uint64(g.RTExtSize)
	}
	return uint64(g.RGExtents) * uint64(g.RTExtSize)
}

// RGLength returns the length of a realtime group in fs blocks: whole realtime extents. It is 0 for a
// group that does not exist.
func (g *Geometry) RGLength(rgno RGNumber) uint64 {
	count := g.RTGroups()
	switch {
	case uint32(rgno) >= count:
		return 0
	case uint32(rgno)+1 == count:
		return g.RTExtents*uint64(g.RTExtSize) - uint64(rgno)*g.RGBlocks()
	}
	return g.RGBlocks()
}

// RTGrouped reports whether the addresses of realtime blocks can be split into groups here: groups that
// follow one another without gaps, none longer than a group can be. That leaves out zoned filesystems, and
// devices of 2^32 blocks or more without groups.
func (g *Geometry) RTGrouped() bool {
	return g.RTGroups() > 0 && g.RTStart == 0 && !g.Has(FlagZoned) && g.RGBlocks() > 0 && g.RGBlocks() < math.MaxUint32 &&
		uint64(g.RTGroups()-1)*g.RGBlocks() < g.RTExtents*uint64(g.RTExtSize)
}

// HasRTSuperblock reports whether the first realtime extent of group 0 holds a superblock.
//
// Source: fs/xfs/xfs_mount.h (xfs_has_rtsb).
func (g *Geometry) HasRTSuperblock() bool {
	return g.RGCount > 0 && g.RTBlocks > 0 && !g.Has(FlagZoned)
}

// HasRTRmapbt reports whether every realtime group has an rmapbt.
//
// Source: fs/xfs/xfs_mount.h (xfs_has_rtrmapbt).
func (g *Geometry) HasRTRmapbt() bool {
	return g.RGCount > 0 && g.RTBlocks > 0 && g.Has(FlagRmapbt)
}

// HasRTReflink reports whether every realtime group has a refcountbt.
//
// Source: fs/xfs/xfs_mount.h (xfs_has_rtreflink).
func (g *Geometry) HasRTReflink() bool {
	return g.RGCount > 0 && g.RTBlocks > 0 && g.Has(FlagReflink)
}

// DAddrToRG splits an address in sectors of the realtime device into the group and the block that contain
// it. Past the last group, rgno >= RTGroups.
func (g *Geometry) DAddrToRG(daddr DAddr) (RGNumber, AGBlock) {
	block := uint64(daddr) >> (g.BlockLog() - SectorShift)
	size := g.RGBlocks()
	if size == 0 || block/size >= math.MaxUint32 {
		return math.MaxUint32, NullAGBlock
	}
	return RGNumber(block / size), AGBlock(block % size)
}

// FSMapRTDevice returns the realtime device as GETFSMAP writes it: the kernel's 32-bit encoding of its
// number, or [MediaRT] where the realtime section lies inside the data device. No call tells it, so
// that GETFSMAP is asked for what lies before the data device, in the order of device numbers, and behind.
//
// Errors: [ErrNotSupported] without a realtime device, and where GETFSMAP shows nothing of it; those of
// [FS.FSMap].
//
// Source: fs/xfs/xfs_fsmap.c (xfs_getfsmap, xfs_getfsmap_device).
func (fs *FS) FSMapRTDevice() (uint32, error) {
	if known := fs.rtDevice.Load(); known != 0 {
		return known, nil
	}
	geo := fs.Geometry()
	if geo.RTBlocks == 0 {
		return 0, fmt.Errorf("find the realtime device of %s: %w", fs.path,
			&UnsupportedFeatureError{Feature: "realtime device", Reason: "this filesystem has none"})
	}
	if geo.RTStart != 0 {
		return uint32(MediaRT), nil
	}
	data := fs.FSMapDevice()
	all := FSMapKey{Flags: math.MaxUint32, Owner: math.MaxUint64, Offset: math.MaxUint64, Physical: math.MaxUint64}
	before, behind := all, all
	before.Device, before.Physical = data, 0
	behind.Device = math.MaxUint32
	buf := NewFSMapBuffer(16) // the log is one record
	for _, keys := range [][2]FSMapKey{
		{{Device: 0}, before},
		{{Device: data, Physical: geo.BlocksToBytes(geo.DataBlocks)}, behind},
	} {
		if err := fs.FSMap(keys[0], keys[1], buf); err != nil {
			return 0, err
		}
		for i := range buf.Records() {
			r := &buf.Records()[i]
			if r.Device == data || r.Is(FSMapOwnerLog) {
				continue
			}
			fs.rtDevice.Store(r.Device)
			return r.Device, nil
		}
	}
	return 0, fmt.Errorf("find the realtime device of %s: %w", fs.path,
		&UnsupportedFeatureError{Feature: "space of the realtime device", Reason: "GETFSMAP shows nothing of it"})
}

// failFSMap names the group that a query was about.
func (fs *FS) failFSMap(low *FSMapKey, err *Error) *Error {
	if dev := fs.rtDevice.Load(); dev != 0 && low.Device == dev {
		rgno, _ := fs.Geometry().DAddrToRG(low.Physical.DAddr())
		err.Scope, err.AGNo = ScopeRTGroup, AGNumber(rgno)
		return err
	}
	agno, _ := fs.Geometry().BytesToAG(low.Physical)
	err.Scope, err.AGNo = ScopeAG, agno
	return err
}
