package btree

import (
	"context"
	"fmt"
	"strings"
)

// CheckError is the first broken invariant that [Tree.Check] met.
type CheckError struct {
	// Path is the pages from the root to the block, the block last. It is empty if
	// the tree as a whole is wrong.
	Path []uint32
	What string
	Err  error // what a read of the block gave, if one failed
}

// Error writes the path and what is wrong with its end.
func (e *CheckError) Error() string {
	var b strings.Builder
	for i, n := range e.Path {
		if i > 0 {
			b.WriteString(" -> ")
		}
		fmt.Fprintf(&b, "page %d", n)
	}
	if len(e.Path) > 0 {
		b.WriteString(": ")
	}
	b.WriteString(e.What)
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	return b.String()
}

// Unwrap makes every CheckError an [ErrDamaged].
func (e *CheckError) Unwrap() []error { return []error{ErrDamaged, e.Err} }

// Check walks the whole tree and compares it with the package's invariants.
// Errors: a [*CheckError] for the first one broken; the context's.
func (t *Tree[R, K, O]) Check(ctx context.Context) error {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.c.check(ctx)
}

// checker walks the tree depth first.
type checker[R any, K comparable, O Ops[R, K]] struct {
	*core[R, K, O]
	ctx    context.Context
	path   []uint32
	prev   [maxHeight]*block // the last block seen of each level
	used   []uint64          // a bit for each page met
	last   K                 // key of the last record
	count  int64
	blocks int64
}

func (c *core[R, K, O]) check(ctx context.Context) error {
	k := checker[R, K, O]{core: c, ctx: ctx}
	if c.root != null {
		if _, err := k.block(c.root, c.height-1); err != nil {
			return err
		}
		for level, b := range k.prev[:c.height] {
			if b.right != null {
				return k.wrong("the last block of level %d, page %d, has a right sibling %d", level, b.self, b.right)
			}
		}
	}
	switch {
	case (c.root == null) != (c.count == 0) || (c.root == null) != (c.height == 0):
		return k.wrong("%d levels and %d records in an empty tree, or none in one with a root", c.height, c.count)
	case k.count != c.count:
		return k.wrong("%d records in the leaves, %d counted", k.count, c.count)
	case k.blocks != c.blocks:
		return k.wrong("%d blocks found, %d counted", k.blocks, c.blocks)
	}
	for _, free := range [][]uint32{c.pool.warm, c.pool.cold, c.unused} {
		for _, n := range free {
			if err := k.use(n); err != nil {
				return err
			}
		}
	}
	for _, s := range c.saved {
		if err := k.use(s.copy); err != nil {
			return err
		}
	}
	return nil
}

func (k *checker[R, K, O]) wrong(format string, args ...any) error {
	return &CheckError{Path: append([]uint32(nil), k.path...), What: fmt.Sprintf(format, args...)}
}

// use notes a page, which must not have been met before.
func (k *checker[R, K, O]) use(n uint32) error {
	word, bit := int(n/64), uint64(1)<<(n%64)
	if word >= len(k.used) {
		k.used = append(k.used, make([]uint64, word+1-len(k.used))...)
	}
	if k.used[word]&bit != 0 {
		return k.wrong("page %d is used twice, or used and free", n)
	}
	k.used[word] |= bit
	return nil
}

// block checks the block n and all below it and returns its key.
func (k *checker[R, K, O]) block(n uint32, level int) (key K, err error) {
	if err := k.ctx.Err(); err != nil {
		return key, fmt.Errorf("check the tree: %w", err)
	}
	k.path = append(k.path, n)
	b, err := k.view(n, level)
	if err != nil {
		return key, &CheckError{Path: k.path, What: "the block cannot be used", Err: err}
	}
	if err := k.use(n); err != nil {
		return key, err
	}
	k.blocks++
	if b.mark == 0 && b.sum() != b.crc {
		return key, k.wrong("checksum %#x instead of %#x", b.crc, b.sum())
	}
	if err := k.header(b, level); err != nil {
		return key, err
	}
	k.prev[level] = b
	if level == 0 {
		err = k.leaf(b)
	} else {
		err = k.node(b, level)
	}
	if err != nil {
		return key, err
	}
	k.path = k.path[:len(k.path)-1]
	return k.cover(b), nil
}

// header checks siblings and how full the block is.
func (k *checker[R, K, O]) header(b *block, level int) error {
	left := null
	if p := k.prev[level]; p != nil {
		left = p.self
		if p.right != b.self {
			return k.wrong("the left neighbour, page %d, has page %d as right sibling", p.self, p.right)
		}
	}
	if b.left != left {
		return k.wrong("left sibling %d instead of %d", int32(b.left), int32(left))
	}
	least := k.min(level)
	if level == k.height-1 || b.right == null {
		least = 1
		if level > 0 {
			least = 2
		}
	}
	if int(b.count) < least {
		return k.wrong("%d records or entries, fewer than %d", b.count, least)
	}
	return nil
}

func (k *checker[R, K, O]) leaf(b *block) error {
	recs := k.recs(b, int(b.count))
	if n := k.ops.Ascending(recs); n < len(recs) {
		return k.wrong("record %d is not greater than the one before", n)
	}
	if first := k.ops.Key(recs[0]); k.count > 0 && k.ops.Compare(k.last, first) >= 0 {
		return k.wrong("the first record is not greater than the one before, in another leaf")
	}
	k.last = k.ops.Key(recs[len(recs)-1])
	k.count += int64(len(recs))
	return nil
}

func (k *checker[R, K, O]) node(b *block, level int) error {
	keys, kids := k.keys(b, int(b.count)), k.kids(b, int(b.count))
	for i := range keys {
		if i > 0 && k.ops.Compare(keys[i-1], keys[i]) >= 0 {
			return k.wrong("key %d is not greater than the one before", i)
		}
		key, err := k.block(kids[i], level-1)
		if err != nil {
			return err
		}
		if key != keys[i] {
			return k.wrong("key %d is %v, and the child, page %d, has %v", i, keys[i], kids[i], key)
		}
	}
	return nil
}
