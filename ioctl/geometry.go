package ioctl

import (
	"context"
	"fmt"
	"math/bits"
	"unsafe"

	"github.com/scrubd/scrubd/ioctl/internal/abi"
)

// Geometry is the size and shape of a filesystem, with the arithmetic of its addresses.
//
// Invariants, checked when it is read: BlockSize is a power of two from 512 to 65536, InodeSize one
// from 256 to BlockSize; AGCount > 0; AGInoLog <= 32; (AGCount-1)*AGBlocks < DataBlocks <= AGCount*AGBlocks, so that only the
// last group may be short.
//
// Source: man 2 ioctl_xfs_fsgeometry; xfs/xfs_fs.h (struct xfs_fsop_geom).
type Geometry struct {
	BlockSize    uint32 // bytes of an fs block
	RTExtSize    uint32 // fs blocks of a realtime extent
	AGBlocks     AGBlock
	AGCount      uint32
	LogBlocks    uint32  // fs blocks of the log
	SectorSize   uint32  // bytes of a sector of the data device
	InodeSize    uint32  // bytes of an inode
	IMaxPct      uint32  // per cent of the space that inodes may take
	DataBlocks   uint64  // fs blocks of the data device
	RTBlocks     uint64  // fs blocks of the realtime device
	RTExtents    uint64  // realtime extents
	LogStart     FSBlock // first block of an internal log, 0 for an external one
	UUID         [16]byte
	SUnit        uint32 // stripe unit, fs blocks
	SWidth       uint32 // stripe width, fs blocks
	Version      int32
	Flags        GeometryFlags
	LogSectSize  uint32   // bytes
	RTSectSize   uint32   // bytes
	DirBlockSize uint32   // bytes of a directory block
	LogSUnit     uint32   // bytes
	Sick         FSHealth // what the kernel knows to be damaged
	Checked      FSHealth // what the kernel has checked
	RGExtents    uint32   // realtime extents of a realtime group
	RGCount      uint32   // realtime groups
	RTStart      uint64   // first realtime fs block inside the data device (zoned), or 0
	RTReserved   uint64   // realtime fs blocks kept back (zoned)
}

// Geometry returns the geometry as it was last read. It does not change; another pointer is returned
// after [FS.RefreshGeometry].
func (fs *FS) Geometry() *Geometry {
	return fs.geometry.Load()
}

// RefreshGeometry reads the geometry again: the filesystem may have grown, and its health changes.
//
// Errors: [ErrNotSupported] before Linux 5.2; [ErrGeometry].
func (fs *FS) RefreshGeometry(ctx context.Context) (*Geometry, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := fs.enter(); err != nil {
		return nil, err
	}
	defer fs.leave()
	raw := new(abi.FSGeometry)
	if _, errno := fs.ioctl(fs.fd, abi.ReqFSGeometry, unsafe.Pointer(raw)); errno != 0 {
		return nil, fs.fail(opGeometry, errno)
	}
	g := newGeometry(raw)
	if err := g.check(); err != nil {
		return nil, fmt.Errorf("geometry of %s: %w", fs.path, err)
	}
	fs.geometry.Store(g)
	return g, nil
}

func newGeometry(raw *abi.FSGeometry) *Geometry {
	return &Geometry{
		BlockSize:    raw.BlockSize,
		RTExtSize:    raw.RTExtSize,
		AGBlocks:     AGBlock(raw.AGBlocks),
		AGCount:      raw.AGCount,
		LogBlocks:    raw.LogBlocks,
		SectorSize:   raw.SectSize,
		InodeSize:    raw.InodeSize,
		IMaxPct:      raw.IMaxPct,
		DataBlocks:   raw.DataBlocks,
		RTBlocks:     raw.RTBlocks,
		RTExtents:    raw.RTExtents,
		LogStart:     FSBlock(raw.LogStart),
		UUID:         raw.UUID,
		SUnit:        raw.SUnit,
		SWidth:       raw.SWidth,
		Version:      raw.Version,
		Flags:        GeometryFlags(raw.Flags),
		LogSectSize:  raw.LogSectSize,
		RTSectSize:   raw.RTSectSize,
		DirBlockSize: raw.DirBlockSize,
		LogSUnit:     raw.LogSUnit,
		Sick:         FSHealth(raw.Sick),
		Checked:      FSHealth(raw.Checked),
		RGExtents:    raw.RGExtents,
		RGCount:      raw.RGCount,
		RTStart:      raw.RTStart,
		RTReserved:   raw.RTReserved,
	}
}

// check refuses what would make the arithmetic below divide by zero or overflow.
func (g *Geometry) check() error {
	powerOfTwo := func(v, low, high uint32) bool {
		return v >= low && v <= high && v&(v-1) == 0
	}
	agBlocks, agCount := uint64(g.AGBlocks), uint64(g.AGCount)
	switch {
	case !powerOfTwo(g.BlockSize, 512, 65536):
		return fmt.Errorf("%w: block size %d", ErrGeometry, g.BlockSize)
	case !powerOfTwo(g.InodeSize, 256, g.BlockSize):
		return fmt.Errorf("%w: inode size %d with block size %d", ErrGeometry, g.InodeSize, g.BlockSize)
	case agBlocks == 0 || agBlocks > 1<<31 || agCount == 0:
		return fmt.Errorf("%w: %d groups of %d blocks", ErrGeometry, agCount, agBlocks)
	case g.DataBlocks > agCount*agBlocks || g.DataBlocks <= (agCount-1)*agBlocks:
		return fmt.Errorf("%w: %d blocks in %d groups of %d", ErrGeometry, g.DataBlocks, agCount, agBlocks)
	case g.AGInoLog() > 32:
		return fmt.Errorf("%w: inode numbers of %d bits in a group", ErrGeometry, g.AGInoLog())
	case bits.Len64(g.DataBlocks)+g.BlockLog() > 64:
		return fmt.Errorf("%w: %d blocks of %d bytes", ErrGeometry, g.DataBlocks, g.BlockSize)
	}
	return nil
}

// Has reports whether all of the flags are set.
func (g *Geometry) Has(flags GeometryFlags) bool {
	return g.Flags&flags == flags
}

// BlockLog is log2 of BlockSize.
func (g *Geometry) BlockLog() int {
	return bits.TrailingZeros32(g.BlockSize)
}

// AGBlockLog is the width in bits of a group-relative block number inside an [FSBlock]: log2 of
// AGBlocks, rounded up. The kernel does not export it.
func (g *Geometry) AGBlockLog() int {
	return bits.Len32(uint32(g.AGBlocks) - 1)
}

// InodesPerBlock is how many inodes fit in an fs block, at least 1.
func (g *Geometry) InodesPerBlock() uint32 {
	return g.BlockSize / g.InodeSize
}

// InodesPerBlockLog is log2 of InodesPerBlock.
func (g *Geometry) InodesPerBlockLog() int {
	return bits.TrailingZeros32(g.InodesPerBlock())
}

// AGInoLog is the width in bits of a group-relative inode number inside an [Ino].
func (g *Geometry) AGInoLog() int {
	return g.AGBlockLog() + g.InodesPerBlockLog()
}

// AGLength returns the length of a group in fs blocks: AGBlocks, less for the last one, 0 for a
// group that does not exist.
func (g *Geometry) AGLength(agno AGNumber) AGBlock {
	switch {
	case uint32(agno) >= g.AGCount:
		return 0
	case uint32(agno) == g.AGCount-1:
		return AGBlock(g.DataBlocks - uint64(agno)*uint64(g.AGBlocks))
	}
	return g.AGBlocks
}

// AGByte returns the address in bytes of a block of a group.
func (g *Geometry) AGByte(agno AGNumber, agbno AGBlock) ByteOff {
	return ByteOff(uint64(agno)*uint64(g.AGBlocks)+uint64(agbno)) << g.BlockLog()
}

// AGRange returns the addresses in bytes of the first and the last byte of a group. A group that does
// not exist has first > last.
func (g *Geometry) AGRange(agno AGNumber) (first, last ByteOff) {
	first = g.AGByte(agno, 0)
	length := g.AGLength(agno)
	if length == 0 {
		return 1, 0
	}
	return first, g.AGByte(agno, length) - 1
}

// BytesToAG splits an address in bytes into the group and the block that contain it. Past the
// last group, agno >= AGCount.
func (g *Geometry) BytesToAG(off ByteOff) (AGNumber, AGBlock) {
	block := uint64(off) >> g.BlockLog()
	agno := block / uint64(g.AGBlocks)
	if agno >= uint64(NullAGNumber) {
		return NullAGNumber, NullAGBlock
	}
	return AGNumber(agno), AGBlock(block % uint64(g.AGBlocks))
}

// DAddrToAG splits an address in sectors into the group and the block that contain it.
func (g *Geometry) DAddrToAG(daddr DAddr) (AGNumber, AGBlock) {
	block := uint64(daddr) >> (g.BlockLog() - SectorShift)
	agno := block / uint64(g.AGBlocks)
	if agno >= uint64(NullAGNumber) {
		return NullAGNumber, NullAGBlock
	}
	return AGNumber(agno), AGBlock(block % uint64(g.AGBlocks))
}

// AGToDAddr returns the address in sectors of a block of a group.
func (g *Geometry) AGToDAddr(agno AGNumber, agbno AGBlock) DAddr {
	return g.AGByte(agno, agbno).DAddr()
}

// AGToFSB encodes a block of a group as XFS does.
func (g *Geometry) AGToFSB(agno AGNumber, agbno AGBlock) FSBlock {
	return FSBlock(agno)<<g.AGBlockLog() | FSBlock(agbno)
}

// FSBToAG splits a block number in XFS's encoding. The result is only as sane as the input:
// agno may be >= AGCount and agbno >= AGLength(agno).
func (g *Geometry) FSBToAG(fsbno FSBlock) (AGNumber, AGBlock) {
	log := g.AGBlockLog()
	agno := uint64(fsbno) >> log
	if agno >= uint64(NullAGNumber) {
		return NullAGNumber, NullAGBlock
	}
	return AGNumber(agno), AGBlock(uint64(fsbno) & (1<<log - 1))
}

// FSBToByte returns the address in bytes of a block number in XFS's encoding.
func (g *Geometry) FSBToByte(fsbno FSBlock) ByteOff {
	return g.AGByte(g.FSBToAG(fsbno))
}

// ByteToFSB encodes the block that contains an address in bytes.
func (g *Geometry) ByteToFSB(off ByteOff) FSBlock {
	return g.AGToFSB(g.BytesToAG(off))
}

// InoToAG splits an inode number into its group, the block that holds it, and its place among the
// InodesPerBlock inodes of that block.
func (g *Geometry) InoToAG(ino Ino) (agno AGNumber, agbno AGBlock, offset uint32) {
	perBlock := g.InodesPerBlockLog()
	agno, agbno = g.FSBToAG(FSBlock(ino >> perBlock))
	return agno, agbno, uint32(ino) & (1<<perBlock - 1)
}

// InoToAGIno splits an inode number into its group and the number inside the group.
func (g *Geometry) InoToAGIno(ino Ino) (AGNumber, AGIno) {
	log := g.AGInoLog()
	agno := uint64(ino) >> log
	if agno >= uint64(NullAGNumber) {
		return NullAGNumber, 0
	}
	return AGNumber(agno), AGIno(uint64(ino) & (1<<log - 1))
}

// AGToIno returns the number of the inode at a place in a block of a group.
func (g *Geometry) AGToIno(agno AGNumber, agbno AGBlock, offset uint32) Ino {
	return Ino(g.AGToFSB(agno, agbno))<<g.InodesPerBlockLog() | Ino(offset)
}

// BlocksToBytes returns a length in fs blocks in bytes.
func (g *Geometry) BlocksToBytes(blocks uint64) ByteOff {
	return ByteOff(blocks << g.BlockLog())
}

// BytesToBlocks returns a length in bytes in fs blocks, rounded down.
func (g *Geometry) BytesToBlocks(length ByteOff) uint64 {
	return uint64(length) >> g.BlockLog()
}

// DAddrToBlocks returns a length in sectors in fs blocks, rounded down.
func (g *Geometry) DAddrToBlocks(length DAddr) uint64 {
	return uint64(length) >> (g.BlockLog() - SectorShift)
}

// InternalLog returns where the log lies on the data device; ok is false for an external log.
func (g *Geometry) InternalLog() (agno AGNumber, agbno AGBlock, ok bool) {
	if g.LogStart == 0 {
		return NullAGNumber, NullAGBlock, false
	}
	agno, agbno = g.FSBToAG(g.LogStart)
	return agno, agbno, true
}
