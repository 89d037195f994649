package shadow

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"math/bits"

	"github.com/scrubd/scrubd/shadow/btree"
)

// inodeChunk is the members among 64 inode numbers.
type inodeChunk struct {
	base uint64 // the least number, a multiple of 64
	mask uint64 // bit i: base + i is a member
}

type inodePlain struct{}

func (inodePlain) Key(c inodeChunk) uint64 { return c.base }
func (inodePlain) Compare(a, b uint64) int { return cmp.Compare(a, b) }

type inodeOps struct {
	inodePlain
	btree.Plain[inodeChunk, uint64, inodePlain]
}

func (inodeOps) Find(recs []inodeChunk, k uint64) int {
	lo, n := 0, len(recs)
	for n > 0 {
		half := n / 2
		if recs[lo+half].base < k {
			lo += half + 1
			n -= half + 1
		} else {
			n = half
		}
	}
	return lo
}

func (inodeOps) Route(keys []uint64, k uint64) int {
	lo, n := 0, len(keys)
	for n > 0 {
		half := n / 2
		if keys[lo+half] <= k {
			lo += half + 1
			n -= half + 1
		} else {
			n = half
		}
	}
	return lo
}

func (inodeOps) Ascending(recs []inodeChunk) int {
	for i := 1; i < len(recs); i++ {
		if recs[i-1].base >= recs[i].base {
			return i
		}
	}
	return len(recs)
}

// inodeCache is how many chunks an InodeSet has at hand.
const inodeCache = 1 << 10

// InodeSet is a set of inode numbers in pageable memory: one record of 16 bytes
// for each aligned 64 numbers with a member. It is for one goroutine at a time.
type InodeSet struct {
	t *btree.Tree[inodeChunk, uint64, inodeOps]
	// recent holds records as they are in the tree, each at the place its base
	// hashes to; owners come again and again.
	recent [inodeCache]inodeChunk
	n      int64
}

// NewInodeSet makes an empty set in pages, to which it has the sole right.
func NewInodeSet(pages btree.Pages) (*InodeSet, error) {
	t, err := btree.New[inodeChunk, uint64, inodeOps](pages, 0)
	if err != nil {
		return nil, fmt.Errorf("make a set of inodes: %w", err)
	}
	return &InodeSet{t: t}, nil
}

// Len returns the number of members.
func (s *InodeSet) Len() int64 { return s.n }

// Bytes returns the size of the blocks in use.
func (s *InodeSet) Bytes() int64 { return s.t.Bytes() }

// Add makes ino a member.
// Errors: lack of space; the set is as before then.
func (s *InodeSet) Add(ino uint64) error {
	base, bit := ino&^63, uint64(1)<<(ino&63)
	c := &s.recent[(base>>6*0x9e3779b97f4a7c15)>>(64-10)]
	if c.base == base && c.mask&bit != 0 {
		return nil
	}
	now := inodeChunk{base, bit}
	err := s.t.Insert(now)
	if errors.Is(err, btree.ErrExists) {
		if now, _, err = s.t.Get(base); err == nil && now.mask&bit != 0 {
			*c = now
			return nil
		}
		if err == nil {
			now.mask |= bit
			_, err = s.t.Replace(now)
		}
	}
	if err != nil {
		return fmt.Errorf("add inode %d to a set: %w", ino, err)
	}
	*c = now
	s.n++
	return nil
}

// Has reports whether ino is a member.
// Errors: [btree.ErrDamaged].
func (s *InodeSet) Has(ino uint64) (bool, error) {
	c, ok, err := s.t.Get(ino &^ 63)
	return ok && c.mask>>(ino&63)&1 != 0, err
}

// All yields the members in ascending order.
// Errors: [btree.ErrDamaged].
func (s *InodeSet) All() iter.Seq2[uint64, error] {
	return func(yield func(uint64, error) bool) {
		for c, err := range s.t.All() {
			if err != nil {
				yield(0, err)
				return
			}
			for m := c.mask; m != 0; m &= m - 1 {
				if !yield(c.base+uint64(bits.TrailingZeros64(m)), nil) {
					return
				}
			}
		}
	}
}
