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

// lowKeyAfter is a low key that makes GETFSMAP go on behind a record on a
// filesystem with reflink, without its leaving out anything: see reader.
func lowKeyAfter(rec *ioctl.FSMapRecord, dev uint32, blockSize uint64) ioctl.FSMapKey {
	low := ioctl.FSMapKey{Device: dev, Physical: rec.Physical, Length: ioctl.ByteOff(blockSize)}
	switch {
	case rec.Flags&ioctl.FSMapSpecialOwner != 0:
		low.Owner = maxInodeOwner
	case rec.Flags&(ioctl.FSMapAttrFork|ioctl.FSMapExtentMap) != 0:
		// No data extent begins as far out as this; attr and bmbt bits sort
		// behind. One block more is still in range.
		low.Owner, low.Offset = rec.Owner, ioctl.ByteOff(1<<63-blockSize)
	default:
		low.Owner, low.Offset = rec.Owner, rec.Offset
	}
	return low
}
