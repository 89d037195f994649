package scrub

import (
	"encoding/binary"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/witness"
	"github.com/scrubd/scrubd/shadow"
)

// agTree is a btree of an AG as its blocks on the disk have it, wherever the header
// of the AG has its root.
type agTree struct {
	kind   witness.Kind
	root   ioctl.AGBlock
	levels uint32
	blocks map[ioctl.AGBlock]bool
	// sum is what its records add up to: free blocks, or inodes; longest is the largest
	// of them, and free how many of the inodes are free.
	sum, longest, free uint64
	// rmaps are the records of an rmapbt that no inode is the owner of, and gaps and gap
	// the blocks that none of its records covers, and most of these in a row.
	rmaps     []shadow.Rmap
	gaps, gap uint64
	reached   uint64
}

// The short form of btree blocks.
//
// Source: fs/xfs/libxfs/xfs_format.h (struct xfs_btree_block).
const (
	treeLevel, treeRecords, treeLeft, treeRight, treeHeader = 4, 6, 8, 12, 56
	noBlock                                                 = ^uint32(0)
)

// treeSizes are the bytes of a record, and of the keys of a child.
var treeSizes = map[witness.Kind]struct{ record, key int }{
	"bnobt": {8, 8}, "cntbt": {8, 8}, "rmapbt": {24, 40}, "inobt": {16, 4}, "finobt": {16, 4},
	"refcountbt": {12, 4},
}

// findTree finds the btree of a kind among blocks: it has the one block without
// siblings at the highest level that blocks of this kind are at. Nil if there is none,
// or several, or if it does not hang together.
func (c *contents) findTree(kind witness.Kind, among []ioctl.AGBlock) *agTree {
	t := &agTree{kind: kind, blocks: make(map[ioctl.AGBlock]bool)}
	roots := 0
	for _, b := range among {
		block := c.treeBlock(kind, b)
		if block == nil || len(block) < treeHeader {
			continue
		}
		be := binary.BigEndian
		levels := uint32(be.Uint16(block[treeLevel:])) + 1
		switch {
		case be.Uint32(block[treeLeft:]) != noBlock || be.Uint32(block[treeRight:]) != noBlock, levels < t.levels:
		case levels == t.levels:
			roots++
		default:
			t.root, t.levels, roots = b, levels, 1
		}
	}
	if roots != 1 || !c.descend(t, t.root, t.levels-1) {
		return nil
	}
	return t
}

// treeAt reads the btree that a header has the root of; nil if it does not hang
// together.
func (c *contents) treeAt(root witness.Root) *agTree {
	t := &agTree{kind: root.Kind, root: root.Block, levels: root.Levels, blocks: make(map[ioctl.AGBlock]bool)}
	if root.Levels == 0 || !c.descend(t, root.Block, root.Levels-1) {
		return nil
	}
	return t
}

// treeBlock reads a block that says it is one of that kind and that is not on the
// AGFL, nil if it is none.
func (c *contents) treeBlock(kind witness.Kind, b ioctl.AGBlock) []byte {
	block, is, err := c.read(b)
	if err != nil || is != kind {
		return nil
	}
	return block
}

// descend adds a block and all below it, each of which is in the tree once.
func (c *contents) descend(t *agTree, b ioctl.AGBlock, level uint32) bool {
	if t.blocks[b] {
		return false
	}
	block := c.treeBlock(t.kind, b)
	if block == nil || uint32(binary.BigEndian.Uint16(block[treeLevel:])) != level {
		return false
	}
	t.blocks[b] = true
	be, size := binary.BigEndian, treeSizes[t.kind]
	n := int(be.Uint16(block[treeRecords:]))
	body := block[treeHeader:]
	if level == 0 {
		if n*size.record > len(body) {
			return false
		}
		for i := range n {
			c.addRecord(t, body[i*size.record:])
		}
		return len(t.rmaps) <= maxOwnBlocks
	}
	most := len(body) / (size.key + 4)
	if n == 0 || n > most {
		return false
	}
	for i := range n {
		if !c.descend(t, ioctl.AGBlock(be.Uint32(body[most*size.key+4*i:])), level-1) {
			return false
		}
	}
	return true
}

func (c *contents) addRecord(t *agTree, r []byte) {
	be := binary.BigEndian
	switch t.kind {
	case "rmapbt":
		rec := shadow.Rmap{StartBlock: be.Uint32(r), BlockCount: be.Uint32(r[4:]) &^ (1 << 31), Owner: be.Uint64(r[8:])}
		t.leave(uint64(rec.StartBlock))
		t.reached = max(t.reached, rec.End())
		if !rec.IsInode() {
			t.rmaps = append(t.rmaps, rec)
		}
	case "bnobt", "cntbt":
		count := uint64(be.Uint32(r[4:]))
		t.sum += count
		t.longest = max(t.longest, count)
	case "inobt", "finobt":
		if c.geo.Has(ioctl.FlagSparseInodes) {
			t.sum, t.free = t.sum+uint64(r[6]), t.free+uint64(r[7])
		} else {
			t.sum, t.free = t.sum+64, t.free+uint64(be.Uint32(r[4:]))
		}
	}
}

// leave counts the blocks from where the records before reached to up to a block.
func (t *agTree) leave(to uint64) {
	if to > t.reached {
		t.gaps += to - t.reached
		t.gap = max(t.gap, to-t.reached)
	}
}

// of lists the blocks that an rmapbt gives to owner.
func (t *agTree) of(owner uint64) (out []ioctl.AGBlock) {
	for i := range t.rmaps {
		for b := uint64(t.rmaps[i].StartBlock); t.rmaps[i].Owner == owner && b < t.rmaps[i].End() && len(out) <= maxOwnBlocks; b++ {
			out = append(out, ioctl.AGBlock(b))
		}
	}
	return out
}

// at tells whether a header has the root of t right.
func (t *agTree) at(r witness.Root) bool { return t.root == r.Block && t.levels == r.Levels }

// allIn tells whether each of blocks that is not on the AGFL is in one of trees, and
// only in one, and no other is.
func (c *contents) allIn(blocks []ioctl.AGBlock, trees ...*agTree) bool {
	listed := make(map[ioctl.AGBlock]bool)
	for _, b := range c.self.AGFL {
		listed[b] = true
	}
	left := 0
	for _, t := range trees {
		left += len(t.blocks)
	}
	for _, b := range blocks {
		in := 0
		for _, t := range trees {
			if t.blocks[b] {
				in++
			}
		}
		if listed[b] && in > 0 || !listed[b] && in != 1 {
			return false
		}
		left -= in
	}
	return left == 0
}
