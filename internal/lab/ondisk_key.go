package lab

import (
	"encoding/binary"
	"fmt"

	"github.com/scrubd/scrubd/ioctl"
)

// encodeKey writes the key of a record into b: the part that orders it.
func encodeKey[R Record](rec R, b []byte) {
	switch r := any(rec).(type) {
	case FreeRec:
		r.encode(b)
	case InodeRec:
		binary.BigEndian.PutUint32(b, uint32(r.StartIno))
	case RmapRec:
		binary.BigEndian.PutUint32(b, uint32(r.StartBlock))
		binary.BigEndian.PutUint64(b[4:], r.Owner)
		// Linux before 6.4 left the unwritten flag in.
		binary.BigEndian.PutUint64(b[12:], r.packOffset()&^rmapUnwritten)
	case RefcountRec:
		binary.BigEndian.PutUint32(b, r.packStart())
	case ExtentRec:
		binary.BigEndian.PutUint64(b, r.Offset)
	}
}

// decodeKey reads a key as a record that has nothing else.
func decodeKey[R Record](b []byte) R {
	var r R
	full := make([]byte, 24)
	switch any(r).(type) {
	case RmapRec:
		copy(full, b[:4])
		copy(full[8:], b[4:20])
		return decodeRecord[R](full)
	case ExtentRec:
		return any(ExtentRec{Offset: binary.BigEndian.Uint64(b)}).(R)
	case FreeRec:
		copy(full, b[:8])
	default:
		copy(full, b[:4])
	}
	return decodeRecord[R](full)
}

// highOf returns the record whose key is the high key of rec. Only the rmapbt
// has high keys.
func highOf[R Record](rec R) R {
	r, ok := any(rec).(RmapRec)
	if !ok || r.BlockCount == 0 {
		return rec
	}
	r.StartBlock += ioctl.AGBlock(r.BlockCount - 1)
	if r.IsInode() && !r.BMBTBlock {
		r.Offset += uint64(r.BlockCount - 1)
	}
	return any(r).(R)
}

// span returns the lowest and the highest key of a block.
func (t *Tree[R]) span(n *treeNode) (low, high R) {
	lay := treeLayouts[t.kind]
	for i := range n.count {
		var l, h R
		if n.level == 0 {
			l = decodeRecord[R](t.rec(n, i))
			h = highOf(l)
		} else {
			l = decodeKey[R](t.key(n, i))
			h = decodeKey[R](t.key(n, i)[lay.keyLen-lay.oneKey:])
		}
		if i == 0 {
			low, high = l, h
		} else if h.compare(t.kind, high) > 0 {
			high = h
		}
	}
	return low, high
}

// Check walks the whole tree and tells whether its records are in order and
// every key says what is below it.
func (t *Tree[R]) Check() error {
	var prev *R
	var failure error
	lay := treeLayouts[t.kind]
	err := t.blocks(func(_ []treeStep, n *treeNode) bool {
		for i := range n.count {
			if n.level == 0 {
				rec := decodeRecord[R](t.rec(n, i))
				if prev != nil && (*prev).compare(t.kind, rec) >= 0 {
					failure = fmt.Errorf("%s: block %d: record %d %s does not come after %s", t, n.block, i, rec, *prev)
					return false
				}
				prev = &rec
				continue
			}
			child, err := t.node(t.ptr(n, i), n.level-1)
			if err != nil {
				failure = err
				return false
			}
			low, high := t.span(child)
			if key := decodeKey[R](t.key(n, i)); key.compare(t.kind, low) != 0 {
				failure = fmt.Errorf("%s: block %d: key %d is %s, but the child begins with %s", t, n.block, i, key, low)
				return false
			}
			if key := decodeKey[R](t.key(n, i)[lay.keyLen-lay.oneKey:]); lay.keyLen > lay.oneKey && key.compare(t.kind, high) != 0 {
				failure = fmt.Errorf("%s: block %d: high key %d is %s, but the child reaches %s", t, n.block, i, key, high)
				return false
			}
		}
		return true
	})
	if failure != nil {
		return failure
	}
	return err
}
