package shadow

import (
	"cmp"
	"fmt"
	"math"
	"sort"

	"github.com/scrubd/scrubd/shadow/btree"
)

const (
	// RefcountCoW is set in the start block of records about copy-on-write staging
	// extents, which have a domain of their own that sorts after the shared one.
	//
	// Source: fs/xfs/libxfs/xfs_format.h (XFS_REFC_COWFLAG).
	RefcountCoW = uint32(1) << 31

	// MaxRefcount is where counts stop. A count that got there stays there:
	// nobody knows any more how many owners there are.
	//
	// Source: fs/xfs/libxfs/xfs_format.h (MAXREFCOUNT).
	MaxRefcount = uint32(math.MaxUint32)

	// maxRefcountBlock bounds the end of an extent with a reference count: the
	// 32nd bit is the domain's.
	maxRefcountBlock = uint64(RefcountCoW)
)

// Refcount is one record of a refcount btree: how many owners the blocks have,
// if they have at least two; or that they are a staging extent.
//
// Units: file system blocks from the start of the allocation group.
// Source: fs/xfs/libxfs/xfs_format.h (struct xfs_refcount_rec).
type Refcount struct {
	StartBlock uint32 // with RefcountCoW in the staging domain
	BlockCount uint32 // >= 1
	Count      uint32 // >= 2; in the staging domain 1
}

// IsCoW reports whether the record is in the staging domain.
func (r Refcount) IsCoW() bool { return r.StartBlock&RefcountCoW != 0 }

// Start is the first block, without the domain.
func (r Refcount) Start() uint32 { return r.StartBlock &^ RefcountCoW }

// End is the first block after the extent, without the domain.
func (r Refcount) End() uint64 { return uint64(r.Start()) + uint64(r.BlockCount) }

// Validate reports whether the record can be at all.
// Errors: wraps [ErrBadRecord].
func (r Refcount) Validate() error {
	switch {
	case r.BlockCount == 0:
		return badRefcount(r, "no blocks")
	case r.End() > maxRefcountBlock:
		return badRefcount(r, "blocks past the end of 31 bits")
	case r.IsCoW() && r.Count != 1:
		return badRefcount(r, "a staging extent has a count other than 1")
	case !r.IsCoW() && r.Count < 2:
		return badRefcount(r, "shared by fewer than two")
	}
	return nil
}

func badRefcount(r Refcount, why string) error {
	return fmt.Errorf("refcount %v: %s: %w", r, why, ErrBadRecord)
}

// String writes the record in one line.
func (r Refcount) String() string {
	if r.IsCoW() {
		return fmt.Sprintf("[%d,%d) staging", r.Start(), r.End())
	}
	return fmt.Sprintf("[%d,%d) ×%d", r.Start(), r.End(), r.Count)
}

// joins reports whether b goes on where r ends, in the same domain and with the
// same count.
func (r Refcount) joins(b Refcount) bool {
	return r.BlockCount != 0 && r.Count == b.Count && r.IsCoW() == b.IsCoW() && r.End() == uint64(b.Start())
}

// refcountPlain gives refcountOps its keys.
type refcountPlain struct{}

func (refcountPlain) Key(r Refcount) uint32   { return r.StartBlock }
func (refcountPlain) Compare(a, b uint32) int { return cmp.Compare(a, b) }

// refcountOps orders the records of a refcount tree.
type refcountOps struct {
	refcountPlain
	btree.Plain[Refcount, uint32, refcountPlain]
}

func (refcountOps) Find(recs []Refcount, k uint32) int {
	return sort.Search(len(recs), func(i int) bool { return recs[i].StartBlock >= k })
}

func (refcountOps) Route(keys []uint32, k uint32) int {
	return sort.Search(len(keys), func(i int) bool { return keys[i] > k })
}

func (refcountOps) Ascending(recs []Refcount) int {
	for i := 1; i < len(recs); i++ {
		if recs[i-1].StartBlock >= recs[i].StartBlock {
			return i
		}
	}
	return len(recs)
}
