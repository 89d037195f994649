package lab

import (
	"encoding/binary"
	"fmt"
	"iter"
	"slices"

	"github.com/scrubd/scrubd/ioctl"
)

// TreeKind names a btree.
type TreeKind uint8

// The btrees of an AG, that of an inode's fork, and those of a realtime group,
// which are rooted in an inode too.
const (
	BnoBT TreeKind = iota
	CntBT
	RmapBT
	InoBT
	FinoBT
	RefcountBT
	BmapBT
	RTRmapBT
	RTRefcountBT
)

// treeLayout says how the blocks of a tree look. Lengths are in bytes; keyLen
// counts a high key where there is one.
type treeLayout struct {
	name                   string
	magic                  uint32
	recLen, keyLen, oneKey int
	header, ptrLen, crc    int
}

var treeLayouts = [...]treeLayout{
	BnoBT:      {"bnobt", 0x41423342, 8, 8, 8, 56, 4, 52},       // AB3B
	CntBT:      {"cntbt", 0x41423343, 8, 8, 8, 56, 4, 52},       // AB3C
	RmapBT:     {"rmapbt", 0x524d4233, 24, 40, 20, 56, 4, 52},   // RMB3
	InoBT:      {"inobt", 0x49414233, 16, 4, 4, 56, 4, 52},      // IAB3
	FinoBT:     {"finobt", 0x46494233, 16, 4, 4, 56, 4, 52},     // FIB3
	RefcountBT: {"refcountbt", 0x52334643, 12, 4, 4, 56, 4, 52}, // R3FC
	BmapBT:     {"bmbt", 0x424d4133, 16, 8, 8, 72, 8, 64},       // BMA3

	RTRmapBT:     {"rtrmapbt", 0x4d415052, 24, 40, 20, 72, 8, 64},   // MAPR
	RTRefcountBT: {"rtrefcountbt", 0x52434e54, 12, 4, 4, 72, 8, 64}, // RCNT
}

// inInode tells whether a tree of this kind has its root in an inode.
func (k TreeKind) inInode() bool { return k >= BmapBT }

// String gives the name that the kernel uses.
func (k TreeKind) String() string { return treeLayouts[k].name }

// bmdrHeader is the length in bytes of the header of a btree root in an inode.
const bmdrHeader = 4

// maxTreeLevels bounds the descent into a damaged tree (XFS_BTREE_MAXLEVELS).
const maxTreeLevels = 16

// Tree is one btree of an image, or the extent list inside an inode, which is
// read and edited the same way. It holds no blocks: every call reads the image.
type Tree[R Record] struct {
	img  *Image
	kind TreeKind

	agno   ioctl.AGNumber // short form; the number of the realtime group for its trees
	root   uint64         // block number of the root
	levels int

	ino  ioctl.Ino // long form: rooted in an inode
	fork ioctl.Fork
}

// Location is the place of a record. It goes stale with every insertion and
// deletion in its tree.
type Location struct {
	Block   uint64 // agbno, fsbno for a bmbt, 0 inside the inode
	InInode bool
	Index   int // record of the block, from 0
	path    []treeStep
}

// treeStep is one block on the way from the root, and which child comes next.
type treeStep struct {
	block uint64
	child int
}

// Entry is a record and its place.
type Entry[R Record] struct {
	Location
	Rec R
}

// BnoBT opens the free space btree by block of a group.
func (img *Image) BnoBT(agno ioctl.AGNumber) (*Tree[FreeRec], error) {
	return img.freeTree(BnoBT, agno)
}

// CntBT opens the free space btree by length of a group.
func (img *Image) CntBT(agno ioctl.AGNumber) (*Tree[FreeRec], error) {
	return img.freeTree(CntBT, agno)
}

func (img *Image) freeTree(kind TreeKind, agno ioctl.AGNumber) (*Tree[FreeRec], error) {
	agf, err := img.AGF(agno)
	if err != nil {
		return nil, err
	}
	return newTree[FreeRec](img, kind, agno, agf.Roots[kind], agf.Levels[kind])
}

// RmapBT opens the reverse mapping btree of a group.
func (img *Image) RmapBT(agno ioctl.AGNumber) (*Tree[RmapRec], error) {
	agf, err := img.AGF(agno)
	if err != nil {
		return nil, err
	}
	return newTree[RmapRec](img, RmapBT, agno, agf.Roots[RmapBT], agf.Levels[RmapBT])
}

// RefcountBT opens the reference count btree of a group.
func (img *Image) RefcountBT(agno ioctl.AGNumber) (*Tree[RefcountRec], error) {
	agf, err := img.AGF(agno)
	if err != nil {
		return nil, err
	}
	return newTree[RefcountRec](img, RefcountBT, agno, agf.RefcountRoot, agf.RefcountLevel)
}

// InoBT opens the inode btree of a group.
func (img *Image) InoBT(agno ioctl.AGNumber) (*Tree[InodeRec], error) {
	agi, err := img.AGI(agno)
	if err != nil {
		return nil, err
	}
	return newTree[InodeRec](img, InoBT, agno, agi.Root, agi.Level)
}

// FinoBT opens the free inode btree of a group.
func (img *Image) FinoBT(agno ioctl.AGNumber) (*Tree[InodeRec], error) {
	agi, err := img.AGI(agno)
	if err != nil {
		return nil, err
	}
	return newTree[InodeRec](img, FinoBT, agno, agi.FreeRoot, agi.FreeLevel)
}

// BmapBT opens the extents of a fork, in the inode or in its bmbt. A fork of
// another format has none.
func (img *Image) BmapBT(ino ioctl.Ino, fork ioctl.Fork) (*Tree[ExtentRec], error) {
	t := &Tree[ExtentRec]{img: img, kind: BmapBT, ino: ino, fork: fork}
	if _, err := t.rootNode(); err != nil {
		return nil, err
	}
	return t, nil
}

func newTree[R Record](img *Image, kind TreeKind, agno ioctl.AGNumber, root, levels uint32) (*Tree[R], error) {
	t := &Tree[R]{img: img, kind: kind, agno: agno, root: uint64(root), levels: int(levels)}
	if levels == 0 {
		return nil, fmt.Errorf("AG %d has no %s", agno, kind)
	}
	if levels > maxTreeLevels {
		return nil, fmt.Errorf("%s of AG %d: %d levels", kind, agno, levels)
	}
	return t, nil
}

// treeNode is a block of a tree, or the part of it that lies in the inode.
type treeNode struct {
	*object
	block   uint64
	inode   *dinode // set for a root inside the inode
	base    int     // where records or keys begin
	count   int     // records, or children
	max     int
	level   int
	ptrBase int
}

// rootNode reads the root.
func (t *Tree[R]) rootNode() (*treeNode, error) {
	if !t.kind.inInode() {
		return t.node(t.root, t.levels-1)
	}
	d, err := t.img.dinode(t.ino)
	if err != nil {
		return nil, err
	}
	lay := treeLayouts[t.kind]
	off, size := d.fork(t.fork)
	n := &treeNode{object: d.object, inode: d, base: off}
	switch d.core.ForkFormat(t.fork) {
	case FormatExtents:
		n.max = size / lay.recLen
		n.count = int(min(d.core.Extents(t.fork), uint64(n.max)+1))
	case FormatBtree:
		n.level = int(binary.BigEndian.Uint16(n.data[off:]))
		n.count = int(binary.BigEndian.Uint16(n.data[off+2:]))
		n.max = (size - bmdrHeader) / (lay.keyLen + lay.ptrLen)
		n.base += bmdrHeader
		n.ptrBase = n.base + n.max*lay.keyLen
		if n.level == 0 || n.level > maxTreeLevels {
			return nil, fmt.Errorf("%s: root of level %d", t, n.level)
		}
	case FormatMetaBtree:
		n.level = int(binary.BigEndian.Uint16(n.data[off:]))
		n.count = int(binary.BigEndian.Uint16(n.data[off+2:]))
		n.base += bmdrHeader
		if n.max = (size - bmdrHeader) / lay.recLen; n.level > 0 {
			n.max = (size - bmdrHeader) / (lay.keyLen + lay.ptrLen)
			n.ptrBase = n.base + n.max*lay.keyLen
		}
		if n.level > maxTreeLevels {
			return nil, fmt.Errorf("%s: root of level %d", t, n.level)
		}
	}
	if n.count > n.max {
		return nil, fmt.Errorf("%s: %d entries in a root that holds %d", t, n.count, n.max)
	}
	return n, nil
}

// node reads a block that must have the given level.
func (t *Tree[R]) node(block uint64, level int) (*treeNode, error) {
	agno, agbno := t.agno, ioctl.AGBlock(block)
	if t.kind.inInode() {
		agno, agbno = t.img.FSBToAG(ioctl.FSBlock(block))
	}
	off, err := t.img.blockStart(agno, agbno)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t, err)
	}
	lay := treeLayouts[t.kind]
	o, err := t.img.read(off, int(t.img.SB.BlockSize), lay.crc)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t, err)
	}
	n := &treeNode{
		object: o, block: block, base: lay.header,
		level: int(binary.BigEndian.Uint16(o.data[4:])), count: int(binary.BigEndian.Uint16(o.data[6:])),
	}
	if got := binary.BigEndian.Uint32(o.data); got != lay.magic {
		return nil, fmt.Errorf("%s: block %d has magic %#x: %w", t, block, got, ErrBadMagic)
	}
	if n.level != level {
		return nil, fmt.Errorf("%s: block %d has level %d, not %d", t, block, n.level, level)
	}
	if n.max = (len(o.data) - lay.header) / lay.recLen; level > 0 {
		n.max = (len(o.data) - lay.header) / (lay.keyLen + lay.ptrLen)
		n.ptrBase = n.base + n.max*lay.keyLen
	}
	if n.count > n.max {
		return nil, fmt.Errorf("%s: block %d has %d entries and holds %d", t, block, n.count, n.max)
	}
	return n, nil
}

// String names the tree.
func (t *Tree[R]) String() string {
	if t.kind == BmapBT {
		return fmt.Sprintf("%s fork of inode %d", t.fork, t.ino)
	}
	if t.kind.inInode() {
		return fmt.Sprintf("%s of rtgroup %d", t.kind, t.agno)
	}
	return fmt.Sprintf("%s of AG %d", t.kind, t.agno)
}

// Levels returns the number of levels; 1 for extents inside an inode.
func (t *Tree[R]) Levels() (int, error) {
	n, err := t.rootNode()
	if err != nil {
		return 0, err
	}
	return n.level + 1, nil
}

func (t *Tree[R]) rec(n *treeNode, i int) []byte {
	size := treeLayouts[t.kind].recLen
	return n.data[n.base+i*size:][:size]
}

func (t *Tree[R]) key(n *treeNode, i int) []byte {
	size := treeLayouts[t.kind].keyLen
	return n.data[n.base+i*size:][:size]
}

func (t *Tree[R]) ptr(n *treeNode, i int) uint64 {
	size := treeLayouts[t.kind].ptrLen
	p := n.data[n.ptrBase+i*size:]
	if size == 8 {
		return binary.BigEndian.Uint64(p)
	}
	return uint64(binary.BigEndian.Uint32(p))
}

// blocks visits every block from the root down, left to right, a parent
// before its children. It stops when visit returns false.
func (t *Tree[R]) blocks(visit func(path []treeStep, n *treeNode) bool) error {
	root, err := t.rootNode()
	if err != nil {
		return err
	}
	_, err = t.descend(nil, root, visit)
	return err
}

func (t *Tree[R]) descend(path []treeStep, n *treeNode, visit func([]treeStep, *treeNode) bool) (bool, error) {
	if !visit(path, n) {
		return false, nil
	}
	if n.level == 0 {
		return true, nil
	}
	for i := range n.count {
		child, err := t.node(t.ptr(n, i), n.level-1)
		if err != nil {
			return false, err
		}
		below := append(slices.Clip(path), treeStep{block: n.block, child: i})
		if more, err := t.descend(below, child, visit); err != nil || !more {
			return false, err
		}
	}
	return true, nil
}

// All yields every record in the order of the tree. An error ends it.
func (t *Tree[R]) All() iter.Seq2[Entry[R], error] {
	return func(yield func(Entry[R], error) bool) {
		err := t.blocks(func(path []treeStep, n *treeNode) bool {
			if n.level > 0 {
				return true
			}
			for i := range n.count {
				e := Entry[R]{
					Location: Location{Block: n.block, InInode: n.inode != nil, Index: i, path: path},
					Rec:      decodeRecord[R](t.rec(n, i)),
				}
				if !yield(e, nil) {
					return false
				}
			}
			return true
		})
		if err != nil {
			yield(Entry[R]{}, err)
		}
	}
}

// Records returns every record in the order of the tree.
func (t *Tree[R]) Records() ([]Entry[R], error) {
	var out []Entry[R]
	for e, err := range t.All() {
		if err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, nil
}

// Blocks returns the block numbers of the tree, leaves only or all.
func (t *Tree[R]) Blocks(leavesOnly bool) ([]uint64, error) {
	var out []uint64
	err := t.blocks(func(_ []treeStep, n *treeNode) bool {
		if n.inode == nil && (n.level == 0 || !leavesOnly) {
			out = append(out, n.block)
		}
		return true
	})
	return out, err
}
