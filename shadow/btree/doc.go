// Package btree is one B+tree for all of scrubd's sorted sets: page-size blocks
// in pageable memory, fixed-size records, plain or overlapping.
//
// It is not for data that must outlive the process, and not for Go values with
// pointers. It does no I/O of its own and knows nothing about what its records
// mean: an [Ops] type tells it how they are ordered.
//
// # Shape
//
// A leaf holds records in ascending order of their keys. A node holds, for each
// of its children, the child's key and page number. The key of a block is the
// key of its first record; in an overlapping tree it also carries the high key:
// the greatest end of any record below. Blocks of one level are linked to their
// siblings on both sides. A tree without records has no blocks.
//
// # Invariants
//
// What [Tree.Check] holds a tree to:
//
//	level of a child = level of its parent - 1
//	key of record or entry i < key of record or entry i+1
//	entry for a child = exactly the child's least key and greatest end
//	max/2 <= count <= max, where the right-most block of a level, which ascending
//	    inserts leave almost empty, may have as few as 1 record or 2 entries
//	2 <= count of a root that is a node
//	left and right siblings = the neighbours in key order
//	number of records in the leaves = Len
//	every page is used by one block, or free, or reserved, never two of these
//	a sealed block's checksum fits its bytes
//
// # Failure
//
// Every operation that changes the tree takes all the pages it may need before
// it changes a byte, so that a lack of space leaves the tree as it was. Several
// changes become all or nothing in a [Batch]. A block that is not what it
// should be, because memory was damaged, is an error that wraps [ErrDamaged],
// never a panic; after it the tree should be thrown away.
package btree
