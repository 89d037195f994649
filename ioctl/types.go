package ioctl

import "math"

// AGNumber is the number of an allocation group, 0 to Geometry.AGCount-1.
type AGNumber uint32

// NullAGNumber is no allocation group.
const NullAGNumber AGNumber = math.MaxUint32

// RGNumber is the number of a realtime group, 0 to Geometry.RGCount-1.
type RGNumber uint32

// AGBlock is a block number relative to the start of its allocation group, in fs blocks, or a length
// in fs blocks inside one group.
type AGBlock uint32

// NullAGBlock is no block.
const NullAGBlock AGBlock = math.MaxUint32

// FSBlock is a block number on the data device in XFS's own encoding: agno << AGBlockLog | agbno.
// It is not linear when the group size is not a power of two; [Geometry.FSBToByte] makes it so.
type FSBlock uint64

// NullFSBlock is no block.
const NullFSBlock FSBlock = math.MaxUint64

// DAddr is an address or a length in 512-byte sectors: on a device, or (BmapRecord.Offset) in a file.
type DAddr uint64

// SectorShift turns bytes into the 512-byte sectors of a [DAddr], whatever the device's sector size is.
const SectorShift = 9

// Bytes returns the address in bytes.
func (d DAddr) Bytes() ByteOff {
	return ByteOff(d << SectorShift)
}

// ByteOff is an address or a length in bytes on a device, or (FSMapRecord.Offset) in a file.
type ByteOff uint64

// DAddr returns the address in 512-byte sectors, rounded down.
func (b ByteOff) DAddr() DAddr {
	return DAddr(b >> SectorShift)
}

// Ino is an inode number: agno << (AGBlockLog+InodesPerBlockLog) | agino. 0 is no inode.
type Ino uint64

// AGIno is an inode number relative to its allocation group.
type AGIno uint32

// Gen is the generation of an inode number, which changes each time the inode is freed.
type Gen uint32
