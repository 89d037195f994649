package btree

import (
	"errors"
)

// Errors of operations on records.
var (
	ErrExists   = errors.New("a record with this key exists")
	ErrNotFound = errors.New("no record with this key")
)

// core is a tree without its lock.
type core[R any, K comparable, O Ops[R, K]] struct {
	layout[R, K]
	ops  O
	tag  uint64
	pool pool
	state
	version uint64 // counts changes; a position found at another version is stale
	epoch   uint64 // blocks whose mark differs have not been touched in this epoch
	undo
}

// state is what the tree knows about its blocks.
type state struct {
	root   uint32 // null if the tree is empty
	height int    // levels; the root's level is height-1
	count  int64  // records
	blocks int64
}

// step is one level of a path: a block and an index in it.
type step struct {
	b *block
	i int
}

// path leads from the leaf, path[0], to the root. The index in a node is that of
// the child below; in a leaf, that of a record or of the place for one.
type path [maxHeight]step

// descend finds the leaf for k and the number of records in it that are less
// than k. The tree is not empty.
func (c *core[R, K, O]) descend(k *K, p *path) error {
	n := c.root
	for level := c.height - 1; level > 0; level-- {
		b, err := c.view(n, level)
		if err != nil {
			return err
		}
		i := max(c.ops.Route(c.keys(b, int(b.count)), *k)-1, 0)
		p[level] = step{b, i}
		n = c.kids(b, int(b.count))[i]
	}
	b, err := c.view(n, 0)
	if err != nil {
		return err
	}
	p[0] = step{b, c.ops.Find(c.recs(b, int(b.count)), *k)}
	return nil
}

// leaf finds the same without the path.
func (c *core[R, K, O]) leaf(k *K) (step, error) {
	n := c.root
	for level := c.height - 1; level > 0; level-- {
		b, err := c.view(n, level)
		if err != nil {
			return step{}, err
		}
		n = c.kids(b, int(b.count))[max(c.ops.Route(c.keys(b, int(b.count)), *k)-1, 0)]
	}
	b, err := c.view(n, 0)
	if err != nil {
		return step{}, err
	}
	return step{b, c.ops.Find(c.recs(b, int(b.count)), *k)}, nil
}

// edgeLeaf finds the first or the last leaf.
func (c *core[R, K, O]) edgeLeaf(last bool) (*block, error) {
	n := c.root
	for level := c.height - 1; ; level-- {
		b, err := c.view(n, level)
		if err != nil || level == 0 {
			return b, err
		}
		i := 0
		if last {
			i = int(b.count) - 1
		}
		n = c.kids(b, int(b.count))[i]
	}
}

// at reports whether the step is at a record with key k.
func (c *core[R, K, O]) at(s step, k *K) bool {
	if s.i >= int(s.b.count) {
		return false
	}
	return c.ops.Compare(c.ops.Key(c.record(s)), *k) == 0
}

func (c *core[R, K, O]) get(k *K) (r R, ok bool, err error) {
	if c.root == null {
		return r, false, nil
	}
	s, err := c.leaf(k)
	if err != nil || !c.at(s, k) {
		return r, false, err
	}
	return c.recs(s.b, int(s.b.count))[s.i], true, nil
}

// seek finds the record with the least key >= k (or > k).
func (c *core[R, K, O]) seek(k *K, beyond bool) (step, bool, error) {
	if c.root == null {
		return step{}, false, nil
	}
	s, err := c.leaf(k)
	if err != nil {
		return s, false, err
	}
	if beyond && c.at(s, k) {
		s.i++
	}
	if s.i < int(s.b.count) {
		return s, true, nil
	}
	return c.right(s.b)
}

// seekBack finds the record with the greatest key <= k (or < k).
func (c *core[R, K, O]) seekBack(k *K, beyond bool) (step, bool, error) {
	if c.root == null {
		return step{}, false, nil
	}
	s, err := c.leaf(k)
	if err != nil {
		return s, false, err
	}
	if beyond || !c.at(s, k) {
		s.i--
	}
	if s.i >= 0 {
		return s, true, nil
	}
	return c.left(s.b)
}

// right finds the first record after a leaf.
func (c *core[R, K, O]) right(b *block) (step, bool, error) {
	if b.right == null {
		return step{}, false, nil
	}
	next, err := c.view(b.right, 0)
	if err != nil {
		return step{}, false, err
	}
	return step{next, 0}, true, c.ascending(b, next)
}

// left finds the last record before a leaf.
func (c *core[R, K, O]) left(b *block) (step, bool, error) {
	if b.left == null {
		return step{}, false, nil
	}
	prev, err := c.view(b.left, 0)
	if err != nil {
		return step{}, false, err
	}
	return step{prev, int(prev.count) - 1}, true, c.ascending(prev, b)
}

// ascending makes sure that a walk along damaged siblings ends.
func (c *core[R, K, O]) ascending(l, r *block) error {
	last := c.ops.Key(c.record(step{l, int(l.count) - 1}))
	if c.ops.Compare(last, c.ops.Key(c.record(step{r, 0}))) >= 0 {
		return c.damaged(r, "keys do not ascend from leaf to leaf")
	}
	return nil
}

func (c *core[R, K, O]) record(s step) R { return c.recs(s.b, int(s.b.count))[s.i] }

// cover is the key of a block with at least one record or entry.
func (c *core[R, K, O]) cover(b *block) K {
	if b.level == 0 {
		return c.ops.Cover(c.recs(b, int(b.count)))
	}
	return c.ops.CoverKeys(c.keys(b, int(b.count)))
}

// newBlock makes an empty block of a page that was reserved.
func (c *core[R, K, O]) newBlock(level int) *block {
	h := c.newHeader(level)
	b := blockOf(c.pool.pages.Page(int64(h.self)))
	b.header = h
	return b
}

// newHeader makes the header of an empty block for a page that was reserved.
func (c *core[R, K, O]) newHeader(level int) header {
	n := c.pool.take()
	c.blocks++
	c.allocated(n)
	return header{
		magic: blockMagic, level: uint8(level), left: null, right: null,
		self: n, tag: c.tag, mark: c.epoch,
	}
}

// freeBlock gives up a block that nothing points to any more.
func (c *core[R, K, O]) freeBlock(b *block) {
	c.blocks--
	c.freed(b.self)
}

// insertAt puts a record into a leaf with room.
func (c *core[R, K, O]) insertAt(b *block, i int, r *R) {
	n := int(b.count)
	recs := c.recs(b, n+1)
	copy(recs[i+1:], recs[i:n])
	recs[i] = *r
	b.count = uint16(n + 1)
}

// insertKid puts an entry into a node with room.
func (c *core[R, K, O]) insertKid(b *block, i int, k K, kid uint32) {
	n := int(b.count)
	keys, kids := c.keys(b, n+1), c.kids(b, n+1)
	copy(keys[i+1:], keys[i:n])
	copy(kids[i+1:], kids[i:n])
	keys[i], kids[i] = k, kid
	b.count = uint16(n + 1)
}

// removeAt takes a record or an entry out of a block.
func (c *core[R, K, O]) removeAt(b *block, i int) {
	n := int(b.count)
	if b.level == 0 {
		recs := c.recs(b, n)
		copy(recs[i:], recs[i+1:])
	} else {
		keys, kids := c.keys(b, n), c.kids(b, n)
		copy(keys[i:], keys[i+1:])
		copy(kids[i:], kids[i+1:])
	}
	b.count = uint16(n - 1)
}

// moveRight moves the last n records or entries of l to the front of r.
func (c *core[R, K, O]) moveRight(l, r *block, n int) {
	ln, rn := int(l.count), int(r.count)
	if l.level == 0 {
		from, to := c.recs(l, ln), c.recs(r, rn+n)
		copy(to[n:], to[:rn])
		copy(to[:n], from[ln-n:])
	} else {
		fromKeys, toKeys := c.keys(l, ln), c.keys(r, rn+n)
		copy(toKeys[n:], toKeys[:rn])
		copy(toKeys[:n], fromKeys[ln-n:])
		fromKids, toKids := c.kids(l, ln), c.kids(r, rn+n)
		copy(toKids[n:], toKids[:rn])
		copy(toKids[:n], fromKids[ln-n:])
	}
	l.count, r.count = uint16(ln-n), uint16(rn+n)
}

// moveLeft moves the first n records or entries of r to the end of l.
func (c *core[R, K, O]) moveLeft(l, r *block, n int) {
	ln, rn := int(l.count), int(r.count)
	if l.level == 0 {
		to, from := c.recs(l, ln+n), c.recs(r, rn)
		copy(to[ln:], from[:n])
		copy(from, from[n:])
	} else {
		toKeys, fromKeys := c.keys(l, ln+n), c.keys(r, rn)
		copy(toKeys[ln:], fromKeys[:n])
		copy(fromKeys, fromKeys[n:])
		toKids, fromKids := c.kids(l, ln+n), c.kids(r, rn)
		copy(toKids[ln:], fromKids[:n])
		copy(fromKids, fromKids[n:])
	}
	l.count, r.count = uint16(ln+n), uint16(rn-n)
}
