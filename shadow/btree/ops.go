package btree

// Ops tells a tree about its records R and keys K. An implementation is an empty
// struct; its methods work on a whole block at once, so that the loops inside
// are compiled for the concrete types and a block costs one indirect call. Keys
// and records go by value: a pointer to them would send them to the heap.
//
// R and K must be of fixed size, without pointers, and aligned to at most 8
// bytes. All methods must be total: any bit pattern is a record or a key.
type Ops[R any, K comparable] interface {
	// Key returns the key of a record. In an overlapping tree it carries the
	// record's own end as its high key.
	Key(r R) K
	// Compare orders keys without regard to high keys.
	Compare(a, b K) int
	// Find returns the number of records with keys less than k.
	Find(recs []R, k K) int
	// Route returns the number of keys less than or equal to k.
	Route(keys []K, k K) int
	// Ascending returns how many records from the first one on have keys each
	// greater than the one before.
	Ascending(recs []R) int
	// Cover returns the key of a block with these records: the first one's, with
	// the greatest end. There is at least one.
	Cover(recs []R) K
	// CoverKeys does the same for a block with these keys.
	CoverKeys(keys []K) K
	// Widen returns e, the key of a block, changed so that it covers k too.
	Widen(e, k K) K
	// Holds reports whether e, the key of a block, could be different without the
	// record whose key is k: if k is its least key or reaches its greatest end.
	Holds(e, k K) bool
}

// OverlapOps is what an overlapping tree needs beyond [Ops]. A record touches
// [start, end) if it begins before end and ends after start.
type OverlapOps[R any, K comparable] interface {
	Ops[R, K]
	// Touching returns the first index i >= from of a record that touches [start,
	// end), or len(recs) if no later record does.
	Touching(recs []R, from int, start, end uint64) int
	// TouchingKeys returns the first index i >= from of a block that may hold
	// such a record, or len(keys).
	TouchingKeys(keys []K, from int, start, end uint64) int
}

// Plain gives the parts of [Ops] that need no high keys; embed it with the
// methods Key, Compare, Find, Route and Ascending.
type Plain[R any, K comparable, O interface {
	Key(r R) K
	Compare(a, b K) int
}] struct{}

// Cover is the first record's key.
func (Plain[R, K, O]) Cover(recs []R) K {
	var o O
	return o.Key(recs[0])
}

// CoverKeys is the first key.
func (Plain[R, K, O]) CoverKeys(keys []K) K { return keys[0] }

// Widen lowers e to k.
func (Plain[R, K, O]) Widen(e, k K) K {
	var o O
	if o.Compare(k, e) < 0 {
		return k
	}
	return e
}

// Holds reports whether k is the least key.
func (Plain[R, K, O]) Holds(e, k K) bool { return e == k }
