package scrub

import (
	"cmp"
	"encoding/binary"
	"slices"

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
	// of them, and free how many of the inodes are free. digest is the same for the same
	// records in any order; of an inobt it has those with free inodes.
	sum, longest, free, digest uint64
	// rmaps are the records of an rmapbt that no inode is the owner of. Of the blocks
	// that none of its records covers there are gaps, and gap in a row, of this digest.
	rmaps                []shadow.Rmap
	gaps, gap, gapDigest uint64
	reached              uint64
	// shareable is where its records of blocks that may be shared begin (1) and end (-1).
	shareable []edge
	// refcounts are the records of a refcountbt.
	refcounts []shadow.Refcount
}

// edge is a block from which on there are more owners of blocks, or fewer.
type edge struct {
	block uint64
	by    int
}

// maxEdges bounds the memory for an rmapbt's records.
const maxEdges = 1 << 21

// counts are the records that a refcountbt has of blocks with these owners.
func counts(edges []edge) (out []shadow.Refcount) {
	slices.SortFunc(edges, func(a, b edge) int { return cmp.Or(cmp.Compare(a.block, b.block), a.by-b.by) })
	owners := 0
	for i, e := range edges {
		if i > 0 && owners > 1 && e.block > edges[i-1].block {
			from := edges[i-1].block
			out = append(out, shadow.Refcount{StartBlock: uint32(from), BlockCount: uint32(e.block - from), Count: uint32(owners)})
		}
		owners += e.by
	}
	return out
}

// digest is that of one record; those of several are added up.
func digest(a, b uint64) uint64 {
	// The finalizer of splitmix64, twice.
	mix := func(x uint64) uint64 {
		x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
		x = (x ^ x>>27) * 0x94d049bb133111eb
		return x ^ x>>31
	}
	return mix(mix(a+0x9e3779b97f4a7c15) + b)
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
		if len(block) < treeHeader {
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
	if t.blocks[b] || len(t.blocks) > maxOwnBlocks {
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
		return len(t.rmaps) <= maxOwnBlocks && len(t.refcounts) <= maxEdges && len(t.shareable) <= maxEdges
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
		rec.Offset = be.Uint64(r[16:])
		switch {
		case !rec.IsInode():
			t.rmaps = append(t.rmaps, rec)
		case rec.IsShareable():
			t.shareable = append(t.shareable, edge{uint64(rec.StartBlock), 1}, edge{rec.End(), -1})
		}
	case "bnobt", "cntbt":
		count := uint64(be.Uint32(r[4:]))
		t.sum += count
		t.longest = max(t.longest, count)
		t.digest += digest(uint64(be.Uint32(r)), count)
	case "refcountbt":
		t.refcounts = append(t.refcounts, shadow.Refcount{StartBlock: be.Uint32(r), BlockCount: be.Uint32(r[4:]), Count: be.Uint32(r[8:])})
	case "inobt", "finobt":
		count, free := uint64(64), uint64(be.Uint32(r[4:]))
		if c.geo.Has(ioctl.FlagSparseInodes) {
			count, free = uint64(r[6]), uint64(r[7])
		}
		t.sum, t.free = t.sum+count, t.free+free
		if free > 0 {
			t.digest += digest(be.Uint64(r), be.Uint64(r[8:]))
		}
	}
}

// leave counts the blocks from where the records before reached to up to a block.
func (t *agTree) leave(to uint64) {
	if to > t.reached {
		t.gaps += to - t.reached
		t.gap = max(t.gap, to-t.reached)
		t.gapDigest += digest(t.reached, to-t.reached)
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

// anyListed tells whether one of blocks is on the AGFL: the kernel may take it for a
// root all the same if it is to be none of the AG's own btrees.
func (c *contents) anyListed(blocks []ioctl.AGBlock) bool {
	return slices.ContainsFunc(blocks, func(b ioctl.AGBlock) bool { return slices.Contains(c.self.AGFL, b) })
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
	if len(listed) != len(c.self.AGFL) {
		return false
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
