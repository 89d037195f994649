package shadow

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// The owners of blocks that belong to no inode.
//
// Source: fs/xfs/libxfs/xfs_format.h (XFS_RMAP_OWN_*), small negative numbers
// taken as unsigned 64-bit values.
const (
	OwnerNull    = ^uint64(0)     // -1, no owner, never stored
	OwnerUnknown = ^uint64(0) - 1 // -2, an owner that nobody could name
	OwnerFS      = ^uint64(0) - 2 // -3, headers of the allocation group
	OwnerLog     = ^uint64(0) - 3 // -4, the internal log
	OwnerAG      = ^uint64(0) - 4 // -5, free space and rmap btree blocks, AGFL
	OwnerInobt   = ^uint64(0) - 5 // -6, inode btree blocks
	OwnerInodes  = ^uint64(0) - 6 // -7, inode chunks
	OwnerRefcbt  = ^uint64(0) - 7 // -8, refcount btree blocks
	OwnerCoW     = ^uint64(0) - 8 // -9, copy-on-write staging extents
)

// ownerNonInode is set in every owner that is not an inode number: inode
// numbers have at most 56 bits (XFS_RMAP_NON_INODE_OWNER).
const ownerNonInode = uint64(1) << 63

// Flag bits of [Rmap.Offset], at their places in the on-disk record.
//
// Source: fs/xfs/libxfs/xfs_format.h (XFS_RMAP_OFF_*).
const (
	OffsetAttrFork  = uint64(1) << 63 // the extent belongs to the attribute fork
	OffsetBmbtBlock = uint64(1) << 62 // the block belongs to the fork's own btree
	OffsetUnwritten = uint64(1) << 61 // allocated and not yet written: reads as zeros

	offsetFlags = OffsetAttrFork | OffsetBmbtBlock | OffsetUnwritten
	offsetBits  = offsetFlags ^ ^uint64(0)

	// MaxOffset is the largest file offset, in file system blocks, that a
	// reverse mapping may carry: 54 bits.
	MaxOffset = uint64(1)<<54 - 1
)

// MaxBlock is the end of every extent at most: a start block and a block count
// never add up to more, so that each fits 32 bits. The number itself is XFS's
// NULLAGBLOCK and never names a block.
const MaxBlock = uint64(1)<<32 - 1

// RmapSize is the size of a record on disk and in this program's memory.
const RmapSize = 24

// ErrBadRecord is wrapped by every error about a record that cannot be: no
// blocks, blocks past the end of 32 bits, reserved bits.
var ErrBadRecord = errors.New("impossible record")

// Rmap is one reverse mapping: what one record of an rmap btree says.
//
// Units: file system blocks. StartBlock counts from the start of the allocation
// group. Offset packs the file offset and the flags as they are on disk:
// bit 63 attribute fork, bit 62 bmbt block, bit 61 unwritten, bits 0–53 the
// offset within the fork. Owners that are not inodes, and bmbt blocks, have no
// offset.
// Source: fs/xfs/libxfs/xfs_format.h (struct xfs_rmap_rec).
type Rmap struct {
	StartBlock uint32 // StartBlock + BlockCount <= MaxBlock
	BlockCount uint32 // >= 1
	Owner      uint64
	Offset     uint64
}

// PackOffset joins a file offset in blocks and flags to the form of
// [Rmap.Offset]. Bits of off at the places of flags are ignored.
func PackOffset(off, flags uint64) uint64 {
	return off&offsetBits | flags&offsetFlags
}

// End is the first block after the mapping.
func (r Rmap) End() uint64 { return uint64(r.StartBlock) + uint64(r.BlockCount) }

// FileOffset is the offset in the fork, in blocks, without the flags.
func (r Rmap) FileOffset() uint64 { return r.Offset & offsetBits }

// Flags are the flag bits of Offset alone.
func (r Rmap) Flags() uint64 { return r.Offset & offsetFlags }

// IsInode reports whether the owner is an inode number.
func (r Rmap) IsInode() bool { return r.Owner&ownerNonInode == 0 }

// HasOffset reports whether the offset means anything: only for blocks that an
// inode's fork maps, not for the blocks of the fork's own btree.
func (r Rmap) HasOffset() bool { return r.IsInode() && r.Offset&OffsetBmbtBlock == 0 }

// IsShareable reports whether the blocks may have several owners: written
// blocks of a data fork.
//
// Source: fs/xfs/scrub/rmap.c (xchk_rmapbt_is_shareable).
func (r Rmap) IsShareable() bool { return r.IsInode() && r.Flags() == 0 }

// Validate reports whether the record can be at all: at least one block, no
// block beyond [MaxBlock], an end of the file offset that fits 54 bits, flags
// only where they have a meaning. It does not know the size of the group.
// Errors: wraps [ErrBadRecord].
func (r Rmap) Validate() error {
	if err := r.validBlocks(); err != nil {
		return err
	}
	switch {
	case !r.IsInode() && r.Offset != 0:
		return badRmap(r, "an owner that is no inode has an offset or flags")
	case r.Offset&OffsetBmbtBlock != 0 && r.Offset&^(OffsetAttrFork|OffsetBmbtBlock) != 0:
		return badRmap(r, "a bmbt block has an offset or is unwritten")
	case r.Offset&OffsetAttrFork != 0 && r.Offset&OffsetUnwritten != 0:
		return badRmap(r, "an extent of the attribute fork is unwritten")
	case r.FileOffset() > MaxOffset || r.FileOffset()+uint64(r.BlockCount) > MaxOffset+1:
		return badRmap(r, "the offset does not fit 54 bits")
	}
	return nil
}

// validBlocks is the part of Validate that every algorithm relies on.
func (r Rmap) validBlocks() error {
	if r.BlockCount == 0 {
		return badRmap(r, "no blocks")
	}
	if r.End() > MaxBlock {
		return badRmap(r, "blocks past the end of 32 bits")
	}
	return nil
}

func badRmap(r Rmap, why string) error {
	return fmt.Errorf("rmap %v: %s: %w", r, why, ErrBadRecord)
}

// OwnerString names an owner as xfs_scrub's and the kernel's sources do; an
// inode is written as "inode N".
func OwnerString(owner uint64) string {
	switch owner {
	case OwnerNull:
		return "null"
	case OwnerUnknown:
		return "unknown"
	case OwnerFS:
		return "fs"
	case OwnerLog:
		return "log"
	case OwnerAG:
		return "ag"
	case OwnerInobt:
		return "inobt"
	case OwnerInodes:
		return "inodes"
	case OwnerRefcbt:
		return "refcbt"
	case OwnerCoW:
		return "cow"
	}
	if owner&ownerNonInode != 0 {
		return "owner " + strconv.FormatInt(int64(owner), 10)
	}
	return "inode " + strconv.FormatUint(owner, 10)
}

// String writes the mapping in one line: blocks, owner, offset, flags.
func (r Rmap) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "[%d,%d) %s", r.StartBlock, r.End(), OwnerString(r.Owner))
	if r.HasOffset() || r.FileOffset() != 0 {
		fmt.Fprintf(&b, " offset %d", r.FileOffset())
	}
	for _, f := range [...]struct {
		bit  uint64
		name string
	}{{OffsetAttrFork, "attr"}, {OffsetBmbtBlock, "bmbt"}, {OffsetUnwritten, "unwritten"}} {
		if r.Offset&f.bit != 0 {
			b.WriteString(" " + f.name)
		}
	}
	return b.String()
}

// Compare orders mappings as the keys of an rmap btree are ordered: by start
// block, then owner, then offset with the attr and bmbt bits. The unwritten bit
// is not part of the key, neither is the length.
//
// Source: fs/xfs/libxfs/xfs_rmap_btree.c (xfs_rmapbt_cmp_two_keys).
func Compare(a, b *Rmap) int {
	if a.StartBlock != b.StartBlock {
		return cmp.Compare(a.StartBlock, b.StartBlock)
	}
	if a.Owner != b.Owner {
		return cmp.Compare(a.Owner, b.Owner)
	}
	return cmp.Compare(a.Offset&^OffsetUnwritten, b.Offset&^OffsetUnwritten)
}

// AppendDisk appends the record in its on-disk form: four big-endian fields,
// [RmapSize] bytes.
func (r Rmap) AppendDisk(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, r.StartBlock)
	b = binary.BigEndian.AppendUint32(b, r.BlockCount)
	b = binary.BigEndian.AppendUint64(b, r.Owner)
	return binary.BigEndian.AppendUint64(b, r.Offset)
}

// ParseRmap reads a record in its on-disk form.
// Errors: wraps [ErrBadRecord] if b is too short or [Rmap.Validate] refuses the
// record, which is returned all the same when it could be read.
func ParseRmap(b []byte) (Rmap, error) {
	if len(b) < RmapSize {
		return Rmap{}, fmt.Errorf("rmap of %d bytes, want %d: %w", len(b), RmapSize, ErrBadRecord)
	}
	r := Rmap{
		StartBlock: binary.BigEndian.Uint32(b),
		BlockCount: binary.BigEndian.Uint32(b[4:]),
		Owner:      binary.BigEndian.Uint64(b[8:]),
		Offset:     binary.BigEndian.Uint64(b[16:]),
	}
	return r, r.Validate()
}
