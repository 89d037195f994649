package btree

import (
	"errors"
	"fmt"
	"hash/crc32"
	"unsafe"

	"github.com/scrubd/scrubd/xfile"
)

// ErrDamaged is wrapped by errors about blocks that are not what they should
// be.
var ErrDamaged = errors.New("damaged tree")

const (
	blockMagic = 0x53627434 // "Sbt4"
	headerSize = 40
	bodySize   = xfile.PageSize - headerSize
	minFanOut  = 14 // what New accepts; half of it to the 12th is more than 2^32 pages
	maxHeight  = 12
)

// header begins every block.
type header struct {
	magic uint32
	level uint8 // 0 for a leaf
	_     uint8
	count uint16
	left  uint32 // siblings, null at the ends
	right uint32
	self  uint32 // the block's own page
	crc   uint32 // CRC32C of the page without crc and mark, if mark is 0
	tag   uint64 // the owner of the tree
	mark  uint64 // 0: sealed; else the epoch in which the block was last touched
}

// block is the view of a page. The body of a leaf is an array of records; the
// body of a node is an array of keys, as many as fit, and after it an array of
// page numbers.
type block struct {
	header
	body [bodySize]byte
}

func blockOf(p *xfile.Page) *block { return (*block)(unsafe.Pointer(p)) }

func (b *block) page() *xfile.Page { return (*xfile.Page)(unsafe.Pointer(b)) }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sum is the checksum of the block: of all bytes but crc and mark.
func (b *block) sum() uint32 {
	p := b.page()
	s := crc32.Update(0, castagnoli, p[:unsafe.Offsetof(b.crc)])
	s = crc32.Update(s, castagnoli, p[unsafe.Offsetof(b.tag):unsafe.Offsetof(b.mark)])
	return crc32.Update(s, castagnoli, p[headerSize:])
}

func (b *block) seal() {
	b.crc = b.sum()
	b.mark = 0
}

// layout says how records and keys lie in blocks.
type layout[R any, K comparable] struct {
	maxLeaf, maxNode int // records of a leaf, entries of a node
	kidsAt           uintptr
}

func newLayout[R any, K comparable]() layout[R, K] {
	var (
		r R
		k K
	)
	n := (bodySize - 3) / (int(unsafe.Sizeof(k)) + 4) // children are aligned
	return layout[R, K]{
		maxLeaf: bodySize / int(unsafe.Sizeof(r)),
		maxNode: n,
		kidsAt:  (uintptr(n)*unsafe.Sizeof(k) + 3) &^ 3,
	}
}

func (l *layout[R, K]) max(level int) int {
	if level == 0 {
		return l.maxLeaf
	}
	return l.maxNode
}

func (l *layout[R, K]) min(level int) int { return l.max(level) / 2 }

// recs returns the first n records of a leaf, n <= maxLeaf.
func (l *layout[R, K]) recs(b *block, n int) []R {
	return unsafe.Slice((*R)(unsafe.Pointer(&b.body)), n)
}

// keys returns the first n keys of a node, n <= maxNode.
func (l *layout[R, K]) keys(b *block, n int) []K {
	return unsafe.Slice((*K)(unsafe.Pointer(&b.body)), n)
}

// kids returns the first n children of a node, n <= maxNode.
func (l *layout[R, K]) kids(b *block, n int) []uint32 {
	return unsafe.Slice((*uint32)(unsafe.Add(unsafe.Pointer(&b.body), l.kidsAt)), n)
}

// view returns block n after looking at its header: with it, all that is done
// to the block stays within the page, and a descent ends.
func (c *core[R, K, O]) view(n uint32, level int) (*block, error) {
	p := c.pool.pages.Page(int64(n))
	if p == nil {
		return nil, fmt.Errorf("page %d: no such page: %w", n, ErrDamaged)
	}
	b := blockOf(p)
	if b.magic != blockMagic || b.self != n || int(b.level) != level || b.tag != c.tag ||
		b.count == 0 || int(b.count) > c.max(level) {
		return nil, c.notBlock(b, n, level)
	}
	return b, nil
}

// notBlock says what is wrong with a header.
func (c *core[R, K, O]) notBlock(b *block, n uint32, level int) error {
	what := ""
	switch {
	case b.magic != blockMagic:
		what = fmt.Sprintf("magic %#x instead of %#x", b.magic, uint32(blockMagic))
	case b.self != n:
		what = fmt.Sprintf("says it is page %d", b.self)
	case int(b.level) != level:
		what = fmt.Sprintf("level %d instead of %d", b.level, level)
	case b.tag != c.tag:
		what = fmt.Sprintf("owner tag %#x instead of %#x", b.tag, c.tag)
	default:
		what = fmt.Sprintf("%d records or entries, not 1 to %d", b.count, c.max(level))
	}
	return fmt.Errorf("page %d: %s: %w", n, what, ErrDamaged)
}

func (c *core[R, K, O]) damaged(b *block, what string) error {
	return fmt.Errorf("page %d: %s: %w", b.self, what, ErrDamaged)
}
