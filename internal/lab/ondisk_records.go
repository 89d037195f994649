package lab

import (
	"cmp"
	"encoding/binary"
	"fmt"

	"github.com/scrubd/scrubd/ioctl"
)

// Record is one of the record types of a btree: [FreeRec], [InodeRec],
// [RmapRec], [RefcountRec] or [ExtentRec].
type Record interface {
	comparable
	fmt.Stringer
	encode(b []byte)
	// compare orders two records of one kind as their tree does.
	compare(kind TreeKind, other any) int
}

// FreeRec is a record of the bnobt and the cntbt: free space.
type FreeRec struct {
	StartBlock ioctl.AGBlock
	BlockCount uint32
}

// String gives start and length in blocks.
func (r FreeRec) String() string {
	return fmt.Sprintf("{start %d, blocks %d}", r.StartBlock, r.BlockCount)
}

// End is the block behind the record.
func (r FreeRec) End() ioctl.AGBlock { return r.StartBlock + ioctl.AGBlock(r.BlockCount) }

func (r FreeRec) encode(b []byte) {
	binary.BigEndian.PutUint32(b, uint32(r.StartBlock))
	binary.BigEndian.PutUint32(b[4:], r.BlockCount)
}

func (r FreeRec) compare(kind TreeKind, other any) int {
	o := other.(FreeRec)
	if kind == CntBT {
		if c := cmp.Compare(r.BlockCount, o.BlockCount); c != 0 {
			return c
		}
	}
	return cmp.Compare(r.StartBlock, o.StartBlock)
}

// InodeRec is a record of the inobt and the finobt: a chunk of 64 inodes.
type InodeRec struct {
	StartIno  ioctl.AGIno
	HoleMask  uint16 // a bit for every four inodes that are not there; 0 without sparse chunks
	Count     uint8  // inodes that are there; 0 without the sparse feature, which means 64
	FreeCount uint8
	Free      uint64 // a bit for every free inode
}

// String gives all fields, the masks in hex.
func (r InodeRec) String() string {
	return fmt.Sprintf("{startino %d, holemask %#x, count %d, freecount %d, free %#x}", r.StartIno, r.HoleMask, r.Count, r.FreeCount, r.Free)
}

// inodesPerChunk is XFS_INODES_PER_CHUNK.
const inodesPerChunk = 64

// Exists tells whether inode i of the chunk (0 to 63) is there at all.
func (r InodeRec) Exists(i int) bool { return r.HoleMask>>(i/4)&1 == 0 }

// Allocated tells whether inode i of the chunk (0 to 63) is in use.
func (r InodeRec) Allocated(i int) bool { return r.Exists(i) && r.Free>>i&1 == 0 }

func (r InodeRec) encode(b []byte) {
	binary.BigEndian.PutUint32(b, uint32(r.StartIno))
	binary.BigEndian.PutUint16(b[4:], r.HoleMask)
	b[6], b[7] = r.Count, r.FreeCount
	binary.BigEndian.PutUint64(b[8:], r.Free)
}

func (r InodeRec) compare(_ TreeKind, other any) int {
	o := other.(InodeRec)
	return cmp.Compare(r.StartIno, o.StartIno)
}

// RmapRec is a record of the rmapbt.
type RmapRec struct {
	StartBlock ioctl.AGBlock
	BlockCount uint32
	Owner      uint64 // inode number, or one of the Owner constants
	Offset     uint64 // in the fork, in fs blocks; 0 for bmbt blocks and owners that are no inodes
	AttrFork   bool
	BMBTBlock  bool
	Unwritten  bool
}

// Owners of the rmapbt that are no inodes (XFS_RMAP_OWN_*).
const (
	OwnerFS     = ^uint64(0) - 2  // -3: AG headers
	OwnerLog    = ^uint64(0) - 3  // -4: the internal log
	OwnerAG     = ^uint64(0) - 4  // -5: bnobt, cntbt, rmapbt blocks and the AGFL
	OwnerInobt  = ^uint64(0) - 5  // -6: inobt and finobt blocks
	OwnerInodes = ^uint64(0) - 6  // -7: inode chunks
	OwnerRefcbt = ^uint64(0) - 7  // -8: refcountbt blocks
	OwnerCoW    = ^uint64(0) - 8  // -9: copy-on-write staging
	ownerMin    = ^uint64(0) - 10 // below: inodes
)

// Flags in the offset of an rmap record on disk.
const (
	rmapAttrFork   = 1 << 63
	rmapBMBTBlock  = 1 << 62
	rmapUnwritten  = 1 << 61
	rmapOffsetMask = 1<<54 - 1
)

// IsInode tells whether the owner is an inode.
func (r RmapRec) IsInode() bool { return r.Owner < ownerMin }

// End is the block behind the record.
func (r RmapRec) End() ioctl.AGBlock { return r.StartBlock + ioctl.AGBlock(r.BlockCount) }

// String gives all fields; the owner as a signed number when it is no inode.
func (r RmapRec) String() string {
	s := fmt.Sprintf("{start %d, blocks %d, owner ", r.StartBlock, r.BlockCount)
	if r.IsInode() {
		s += fmt.Sprintf("%d, offset %d", r.Owner, r.Offset)
	} else {
		s += fmt.Sprintf("%d", int64(r.Owner))
	}
	for _, f := range []struct {
		set  bool
		name string
	}{{r.AttrFork, "attr"}, {r.BMBTBlock, "bmbt"}, {r.Unwritten, "unwritten"}} {
		if f.set {
			s += ", " + f.name
		}
	}
	return s + "}"
}

// packOffset is the offset with its flags as it is on disk.
func (r RmapRec) packOffset() uint64 {
	v := r.Offset & rmapOffsetMask
	if r.AttrFork {
		v |= rmapAttrFork
	}
	if r.BMBTBlock {
		v |= rmapBMBTBlock
	}
	if r.Unwritten {
		v |= rmapUnwritten
	}
	return v
}

func (r RmapRec) encode(b []byte) {
	binary.BigEndian.PutUint32(b, uint32(r.StartBlock))
	binary.BigEndian.PutUint32(b[4:], r.BlockCount)
	binary.BigEndian.PutUint64(b[8:], r.Owner)
	binary.BigEndian.PutUint64(b[16:], r.packOffset())
}

func (r RmapRec) compare(_ TreeKind, other any) int {
	o := other.(RmapRec)
	return cmp.Or(
		cmp.Compare(r.StartBlock, o.StartBlock),
		cmp.Compare(r.Owner, o.Owner),
		// The unwritten flag is no part of the key.
		cmp.Compare(r.packOffset()&^rmapUnwritten, o.packOffset()&^rmapUnwritten),
	)
}

// RefcountRec is a record of the refcountbt.
type RefcountRec struct {
	CoW        bool // staging domain, in which RefCount is 1
	StartBlock ioctl.AGBlock
	BlockCount uint32
	RefCount   uint32
}

// refcountCoW is the bit of the start block that marks the staging domain.
const refcountCoW = 1 << 31

// String gives all fields.
func (r RefcountRec) String() string {
	domain := "shared"
	if r.CoW {
		domain = "cow"
	}
	return fmt.Sprintf("{%s start %d, blocks %d, refcount %d}", domain, r.StartBlock, r.BlockCount, r.RefCount)
}

// End is the block behind the record.
func (r RefcountRec) End() ioctl.AGBlock { return r.StartBlock + ioctl.AGBlock(r.BlockCount) }

func (r RefcountRec) packStart() uint32 {
	if r.CoW {
		return uint32(r.StartBlock) | refcountCoW
	}
	return uint32(r.StartBlock)
}

func (r RefcountRec) encode(b []byte) {
	binary.BigEndian.PutUint32(b, r.packStart())
	binary.BigEndian.PutUint32(b[4:], r.BlockCount)
	binary.BigEndian.PutUint32(b[8:], r.RefCount)
}

func (r RefcountRec) compare(_ TreeKind, other any) int {
	o := other.(RefcountRec)
	return cmp.Compare(r.packStart(), o.packStart())
}

// ExtentRec is a record of a fork, in the inode or in its bmbt.
type ExtentRec struct {
	Offset     uint64        // in the fork, in fs blocks
	StartBlock ioctl.FSBlock // first block on the data device
	BlockCount uint32
	Unwritten  bool
}

// String gives all fields.
func (r ExtentRec) String() string {
	s := fmt.Sprintf("{offset %d, startblock %d, blocks %d", r.Offset, r.StartBlock, r.BlockCount)
	if r.Unwritten {
		s += ", unwritten"
	}
	return s + "}"
}

// encode packs 1 bit flag, 54 bits offset, 52 bits start and 21 bits length
// into two words (struct xfs_bmbt_rec).
func (r ExtentRec) encode(b []byte) {
	hi := r.Offset&(1<<54-1)<<9 | uint64(r.StartBlock)>>43&0x1ff
	if r.Unwritten {
		hi |= 1 << 63
	}
	binary.BigEndian.PutUint64(b, hi)
	binary.BigEndian.PutUint64(b[8:], uint64(r.StartBlock)<<21|uint64(r.BlockCount)&(1<<21-1))
}

func (r ExtentRec) compare(_ TreeKind, other any) int {
	o := other.(ExtentRec)
	return cmp.Compare(r.Offset, o.Offset)
}

// decodeRecord reads a record of the given type.
func decodeRecord[R Record](b []byte) R {
	var out any
	var r R
	u32 := binary.BigEndian.Uint32
	switch any(r).(type) {
	case FreeRec:
		out = FreeRec{StartBlock: ioctl.AGBlock(u32(b)), BlockCount: u32(b[4:])}
	case InodeRec:
		out = InodeRec{
			StartIno: ioctl.AGIno(u32(b)), HoleMask: binary.BigEndian.Uint16(b[4:]), Count: b[6], FreeCount: b[7],
			Free: binary.BigEndian.Uint64(b[8:]),
		}
	case RmapRec:
		packed := binary.BigEndian.Uint64(b[16:])
		out = RmapRec{
			StartBlock: ioctl.AGBlock(u32(b)), BlockCount: u32(b[4:]), Owner: binary.BigEndian.Uint64(b[8:]),
			Offset: packed & rmapOffsetMask, AttrFork: packed&rmapAttrFork != 0, BMBTBlock: packed&rmapBMBTBlock != 0,
			Unwritten: packed&rmapUnwritten != 0,
		}
	case RefcountRec:
		start := u32(b)
		out = RefcountRec{
			CoW: start&refcountCoW != 0, StartBlock: ioctl.AGBlock(start &^ refcountCoW), BlockCount: u32(b[4:]), RefCount: u32(b[8:]),
		}
	case ExtentRec:
		hi, lo := binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])
		out = ExtentRec{
			Offset: hi >> 9 & (1<<54 - 1), StartBlock: ioctl.FSBlock(hi&0x1ff<<43 | lo>>21), BlockCount: uint32(lo & (1<<21 - 1)),
			Unwritten: hi>>63 != 0,
		}
	}
	return out.(R)
}
