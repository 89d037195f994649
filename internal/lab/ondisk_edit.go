package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/scrubd/scrubd/ioctl"
)

// Keys says what an edit does to the keys in the blocks above it.
type Keys bool

const (
	// FixKeys makes the keys of all parents right again.
	FixKeys Keys = true
	// KeepKeys leaves them, so that lookups may go astray as well.
	KeepKeys Keys = false
)

// mark and rollback make an edit of several writes all or nothing.
func (img *Image) mark() int { return len(img.writes) }

func (img *Image) rollback(mark int) error {
	var errs []error
	for _, w := range slices.Backward(img.writes[mark:]) {
		if _, err := img.file.WriteAt(w.old, w.off); err != nil {
			errs = append(errs, fmt.Errorf("undo the write at %d: %w", w.off, err))
		}
	}
	img.writes = img.writes[:mark]
	return errors.Join(append(errs, img.readSuper())...)
}

// atomically runs f and takes back what it wrote if it fails.
func (img *Image) atomically(f func() error) error {
	mark := img.mark()
	if err := f(); err != nil {
		return errors.Join(err, img.rollback(mark))
	}
	return nil
}

// leaf reads the block of a location again.
func (t *Tree[R]) leaf(loc Location) (*treeNode, error) {
	var n *treeNode
	var err error
	if len(loc.path) == 0 {
		n, err = t.rootNode()
	} else {
		n, err = t.node(loc.Block, 0)
	}
	if err != nil {
		return nil, err
	}
	if n.level != 0 || loc.Index >= n.count {
		return nil, fmt.Errorf("%s: block %d has no record %d any more", t, loc.Block, loc.Index)
	}
	return n, nil
}

// Set overwrites a record where it is, whether the order suffers or not.
func (t *Tree[R]) Set(loc Location, rec R, keys Keys) error {
	return t.set(loc, rec, keys, false)
}

// SetBadCRC is Set that leaves the block's old checksum, as bit rot does.
func (t *Tree[R]) SetBadCRC(loc Location, rec R) error {
	return t.set(loc, rec, KeepKeys, true)
}

func (t *Tree[R]) set(loc Location, rec R, keys Keys, badCRC bool) error {
	return t.img.atomically(func() error {
		n, err := t.leaf(loc)
		if err != nil {
			return err
		}
		rec.encode(t.rec(n, loc.Index))
		if err := t.img.write(n.object, badCRC); err != nil {
			return err
		}
		return t.fixPath(loc.path, n, keys)
	})
}

// Delete removes a record; those behind it move up. ErrLastRecord: the block
// would be empty, which no btree but an empty root allows.
func (t *Tree[R]) Delete(loc Location, keys Keys) error {
	return t.img.atomically(func() error {
		n, err := t.leaf(loc)
		if err != nil {
			return err
		}
		if n.count == 1 && len(loc.path) > 0 {
			return fmt.Errorf("%s: delete from block %d: %w", t, loc.Block, ErrLastRecord)
		}
		size := treeLayouts[t.kind].recLen
		copy(n.data[n.base+loc.Index*size:n.base+n.count*size], n.data[n.base+(loc.Index+1)*size:n.base+n.count*size])
		clear(t.rec(n, n.count-1))
		if err := t.resize(n, -1); err != nil {
			return err
		}
		return t.fixPath(loc.path, n, keys)
	})
}

// Insert adds a record in its place in the order. ErrLeafFull: its block has
// no room; blocks are never split.
func (t *Tree[R]) Insert(rec R, keys Keys) error {
	return t.img.atomically(func() error {
		n, path, at, err := t.search(rec)
		if err != nil {
			return err
		}
		if n.count == n.max && at == n.count {
			// Between two leaves: the other one may have room.
			next, nextPath, err := t.nextLeaf(path)
			if err != nil {
				return err
			}
			if next != nil {
				n, path, at = next, nextPath, 0
			}
		}
		if n.count == n.max {
			return fmt.Errorf("%s: insert %s into block %d: %w", t, rec, n.block, ErrLeafFull)
		}
		size := treeLayouts[t.kind].recLen
		copy(n.data[n.base+(at+1)*size:n.base+(n.count+1)*size], n.data[n.base+at*size:n.base+n.count*size])
		rec.encode(t.rec(n, at))
		if err := t.resize(n, 1); err != nil {
			return err
		}
		return t.fixPath(path, n, keys)
	})
}

// Move replaces a record by another and puts that one where the order wants it.
func (t *Tree[R]) Move(loc Location, rec R, keys Keys) error {
	n, _, at, err := t.search(rec)
	if err != nil {
		return err
	}
	if n.block == loc.Block && (at == loc.Index || at == loc.Index+1) {
		return t.Set(loc, rec, keys)
	}
	return t.img.atomically(func() error {
		if err := t.Delete(loc, keys); err != nil {
			return err
		}
		return t.Insert(rec, keys)
	})
}

// search finds the leaf that a record belongs to, the way there, and the
// place in it.
func (t *Tree[R]) search(rec R) (*treeNode, []treeStep, int, error) {
	n, err := t.rootNode()
	if err != nil {
		return nil, nil, 0, err
	}
	var path []treeStep
	for n.level > 0 {
		child := 0
		for child+1 < n.count && decodeKey[R](t.key(n, child+1)).compare(t.kind, rec) <= 0 {
			child++
		}
		path = append(path, treeStep{block: n.block, child: child})
		if n, err = t.node(t.ptr(n, child), n.level-1); err != nil {
			return nil, nil, 0, err
		}
	}
	at := 0
	for at < n.count && decodeRecord[R](t.rec(n, at)).compare(t.kind, rec) < 0 {
		at++
	}
	return n, path, at, nil
}

// nextLeaf returns the leaf to the right of the one at the end of path, nil
// if there is none.
func (t *Tree[R]) nextLeaf(path []treeStep) (*treeNode, []treeStep, error) {
	for depth := len(path) - 1; depth >= 0; depth-- {
		n, err := t.parent(path, depth, len(path)-depth)
		if err != nil {
			return nil, nil, err
		}
		if path[depth].child+1 >= n.count {
			continue
		}
		next := append(slices.Clone(path[:depth]), treeStep{block: n.block, child: path[depth].child + 1})
		for {
			child, err := t.node(t.ptr(n, next[len(next)-1].child), n.level-1)
			if err != nil {
				return nil, nil, err
			}
			if child.level == 0 {
				return child, next, nil
			}
			n, next = child, append(next, treeStep{block: child.block})
		}
	}
	return nil, nil, nil
}

// resize changes the number of records of a leaf and writes it. The extent
// count of an inode follows.
func (t *Tree[R]) resize(n *treeNode, by int) error {
	n.count += by
	switch {
	case n.inode == nil:
		binary.BigEndian.PutUint16(n.data[6:], uint16(n.count))
	case t.kind != BmapBT:
		off, _ := n.inode.fork(t.fork)
		binary.BigEndian.PutUint16(n.data[off+2:], uint16(n.count))
	default:
		n.inode.core.SetExtents(t.fork, uint64(n.count))
		if err := n.inode.encode(&n.inode.core); err != nil {
			return err
		}
	}
	if err := t.img.write(n.object, false); err != nil || t.kind != BmapBT || n.inode != nil {
		return err
	}
	return t.img.UpdateInode(t.ino, func(core *DinodeCore) {
		core.SetExtents(t.fork, uint64(int64(core.Extents(t.fork))+int64(by)))
	})
}

// fixPath makes the keys above a changed block right, up to the root.
func (t *Tree[R]) fixPath(path []treeStep, child *treeNode, keys Keys) error {
	if keys == KeepKeys {
		return nil
	}
	lay := treeLayouts[t.kind]
	for depth := len(path) - 1; depth >= 0; depth-- {
		parent, err := t.parent(path, depth, child.level+1)
		if err != nil {
			return err
		}
		low, high := t.span(child)
		key := t.key(parent, path[depth].child)
		// An equal key stays as it is: its unwritten bit depends on the kernel.
		if decodeKey[R](key).compare(t.kind, low) != 0 {
			encodeKey(low, key)
		}
		if upper := key[lay.keyLen-lay.oneKey:]; lay.keyLen > lay.oneKey && decodeKey[R](upper).compare(t.kind, high) != 0 {
			encodeKey(high, upper)
		}
		if err := t.img.write(parent.object, false); err != nil {
			return err
		}
		child = parent
	}
	return nil
}

func (t *Tree[R]) parent(path []treeStep, depth, level int) (*treeNode, error) {
	if depth == 0 {
		return t.rootNode()
	}
	return t.node(path[depth].block, level)
}

// setHighKey overwrites the high key of child i of a block above the leaves.
func (t *Tree[R]) setHighKey(n *treeNode, i int, high R) error {
	lay := treeLayouts[t.kind]
	encodeKey(high, t.key(n, i)[lay.keyLen-lay.oneKey:])
	return t.img.write(n.object, false)
}

// setPtr overwrites the pointer to child i of a block above the leaves.
func (t *Tree[R]) setPtr(n *treeNode, i int, block uint64) error {
	lay := treeLayouts[t.kind]
	if lay.ptrLen == 8 {
		binary.BigEndian.PutUint64(n.data[n.ptrBase+i*8:], block)
	} else {
		binary.BigEndian.PutUint32(n.data[n.ptrBase+i*4:], uint32(block))
	}
	return t.img.write(n.object, false)
}

// AdjustFree changes the free space counters of a group and of the
// superblock by delta blocks, and makes agf_longest what the cntbt says.
func (img *Image) AdjustFree(agno ioctl.AGNumber, delta int64) error {
	tree, err := img.CntBT(agno)
	if err != nil {
		return err
	}
	var longest uint32
	for e, err := range tree.All() {
		if err != nil {
			return err
		}
		longest = max(longest, e.Rec.BlockCount)
	}
	return img.atomically(func() error {
		err := img.UpdateAGF(agno, func(agf *AGF) {
			agf.FreeBlks = uint32(int64(agf.FreeBlks) + delta)
			agf.Longest = longest
		})
		if err != nil {
			return err
		}
		return img.UpdateSB(func(sb *Superblock) { sb.FDBlocks = uint64(int64(sb.FDBlocks) + delta) })
	})
}
