package witness

import (
	"cmp"
	"math"

	"github.com/scrubd/scrubd/ioctl"
)

// recordKey is the place of a record in the order of its btree. Records with
// equal keys differ in nothing but their lengths and the unwritten flag; no
// healthy tree has two.
type recordKey struct {
	start  uint64 // device byte
	owner  uint64 // as on disk: special owners sort after all inodes
	offset uint64 // bytes, with the attr and bmbt bits on top
}

const (
	keyAttr = uint64(1) << 63
	keyBmbt = uint64(1) << 62

	// maxInodeOwner sorts after all inodes and before all special owners.
	maxInodeOwner = uint64(math.MaxInt64)
)

func keyOf(r *ioctl.FSMapRecord) recordKey {
	k := recordKey{start: uint64(r.Physical), owner: r.Owner, offset: uint64(r.Offset)}
	if r.Flags&ioctl.FSMapSpecialOwner != 0 {
		owner, ok := specialOwner(ioctl.FSMapOwner(r.Owner))
		if !ok { // an error when it is converted; FREE in the bnobt view
			owner = math.MaxUint64
		}
		return recordKey{start: k.start, owner: owner}
	}
	if r.Flags&ioctl.FSMapAttrFork != 0 {
		k.offset |= keyAttr
	}
	if r.Flags&ioctl.FSMapExtentMap != 0 {
		k.offset |= keyBmbt
	}
	return k
}

func (k recordKey) compare(o recordKey) int {
	if c := cmp.Compare(k.start, o.start); c != 0 {
		return c
	}
	if c := cmp.Compare(k.owner, o.owner); c != 0 {
		return c
	}
	return cmp.Compare(k.offset, o.offset)
}

// sameGroup tells whether the record is a data extent at the start block and of
// the owner of a key: the records that only their offsets tell apart.
func (k recordKey) sameGroup(o recordKey) bool {
	return k.start == o.start && k.owner == o.owner && (k.offset|o.offset)&(keyAttr|keyBmbt) == 0
}

// The low keys that follow take a length: GETFSMAP reads that as "after this
// record" and leaves out what sorts before it. If the flags say that others may
// share the start block (none is set here), it moves the offset on by the length
// and leaves the start alone.
//
// Since Linux 6.14 the kernel forgets the offsets of the records in that
// comparison: of those with the key's own start block and owner, all or none pass.
//
// Source: fs/xfs/xfs_fsmap.c (xfs_getfsmap, rmap_not_shareable,
// xfs_getfsmap_frec_before_start).

// atOwnerOf is a low key at the first record that has rec's start block and owner.
func atOwnerOf(rec *ioctl.FSMapRecord, dev uint32, blockSize uint64) ioctl.FSMapKey {
	owner := maxInodeOwner
	if rec.Flags&ioctl.FSMapSpecialOwner == 0 {
		owner = rec.Owner - 1 // no inode has the number 0
	}
	return afterOwner(rec.Physical, owner, dev, blockSize)
}

// afterOwner is a low key behind all data extents of an inode at a start block.
func afterOwner(start ioctl.ByteOff, owner uint64, dev uint32, blockSize uint64) ioctl.FSMapKey {
	return ioctl.FSMapKey{
		Device: dev, Physical: start, Owner: owner, Length: ioctl.ByteOff(blockSize),
		// No data extent begins as far out as this, and one block more is still
		// in range.
		Offset: ioctl.ByteOff(1<<63 - blockSize),
	}
}

// afterOffset is a low key behind a data extent, at the next offset.
func afterOffset(rec *ioctl.FSMapRecord, dev uint32, blockSize uint64) ioctl.FSMapKey {
	return ioctl.FSMapKey{
		Device: dev, Physical: rec.Physical, Owner: rec.Owner, Offset: rec.Offset, Length: ioctl.ByteOff(blockSize),
	}
}

// atEndOf is a low key without a length, in the last block of a data extent
// and behind it. Records are found by their ends, so this one finds those of the
// same owner that end in the same block and have a higher offset, and those that
// reach further.
func atEndOf(rec *ioctl.FSMapRecord, dev uint32, blockSize uint64) ioctl.FSMapKey {
	return ioctl.FSMapKey{
		Device: dev, Physical: rec.Physical + rec.Length - ioctl.ByteOff(blockSize),
		Owner: rec.Owner, Offset: rec.Offset + rec.Length,
	}
}
