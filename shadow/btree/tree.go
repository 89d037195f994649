package btree

import (
	"fmt"
	"sync"

	"github.com/scrubd/scrubd/xfile"
)

// Tree is a sorted set of records R with keys K. Its methods may be called from
// several goroutines: changes and open batches exclude one another and readers;
// iterations hold no lock while their consumer works, see [Tree.Batches].
type Tree[R any, K comparable, O Ops[R, K]] struct {
	mu sync.RWMutex
	c  core[R, K, O]
}

// New makes an empty tree whose blocks lie in pages; nobody else may take or
// give pages there. The tag is written to every block and tells trees apart.
// The tree holds no resources of its own: closing the pages ends it.
// Errors: fails if a page holds too few records or keys.
func New[R any, K comparable, O Ops[R, K]](pages Pages, tag uint64) (*Tree[R, K, O], error) {
	l := newLayout[R, K]()
	if l.maxLeaf < minFanOut || l.maxNode < minFanOut {
		return nil, fmt.Errorf("make a tree of %T: %d records and %d keys fit a page, want %d", *new(R), l.maxLeaf, l.maxNode, minFanOut)
	}
	return newTree[R, K, O](pages, tag, l), nil
}

func newTree[R any, K comparable, O Ops[R, K]](pages Pages, tag uint64, l layout[R, K]) *Tree[R, K, O] {
	return &Tree[R, K, O]{c: core[R, K, O]{
		layout: l,
		tag:    tag,
		pool:   pool{pages: pages},
		state:  state{root: null},
		epoch:  1,
	}}
}

// Len returns the number of records.
func (t *Tree[R, K, O]) Len() int64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.c.count
}

// Bytes returns the size of the blocks in use. The pages hold a few more that
// are free.
func (t *Tree[R, K, O]) Bytes() int64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.c.blocks * xfile.PageSize
}

// Height returns the number of levels, 0 for an empty tree.
func (t *Tree[R, K, O]) Height() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.c.height
}

// Get returns the record with key k.
func (t *Tree[R, K, O]) Get(k K) (R, bool, error) {
	t.mu.RLock()
	r, ok, err := t.c.get(&k)
	t.mu.RUnlock()
	return r, ok, err
}

// GE returns the record with the least key that is not less than k.
func (t *Tree[R, K, O]) GE(k K) (R, bool, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.c.found(t.c.seek(&k, false))
}

// LE returns the record with the greatest key that is not greater than k.
func (t *Tree[R, K, O]) LE(k K) (R, bool, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.c.found(t.c.seekBack(&k, false))
}

// First returns the record with the least key.
func (t *Tree[R, K, O]) First() (R, bool, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.c.edge(false)
}

// Last returns the record with the greatest key.
func (t *Tree[R, K, O]) Last() (R, bool, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.c.edge(true)
}

// Insert adds a record.
// Errors: [ErrExists]; what [Pages] gives; the tree is as before then.
func (t *Tree[R, K, O]) Insert(r R) error {
	t.mu.Lock()
	err := t.c.insert(&r)
	t.mu.Unlock()
	return err
}

// Replace puts r in the place of the record with the same key and returns the
// one that was there.
// Errors: [ErrNotFound]; the tree is as before then.
func (t *Tree[R, K, O]) Replace(r R) (R, error) {
	t.mu.Lock()
	old, err := t.c.replace(&r)
	t.mu.Unlock()
	return old, err
}

// Delete removes the record with key k and returns it.
// Errors: [ErrNotFound]; the tree is as before then.
func (t *Tree[R, K, O]) Delete(k K) (R, error) {
	t.mu.Lock()
	r, err := t.c.remove(&k)
	t.mu.Unlock()
	return r, err
}

// Trim gives the space of all free pages back to the system. Most of it has been
// given back already.
func (t *Tree[R, K, O]) Trim() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.c.pool.trim(0)
}

// Seal writes the checksums of all blocks, so that [Tree.Check] finds damage of
// their bytes. A change of a block takes its seal off. [Tree.Load] seals.
// Errors: [ErrDamaged].
func (t *Tree[R, K, O]) Seal() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := &t.c
	if c.root == null {
		return nil
	}
	n, seen := c.root, int64(0)
	for level := c.height - 1; level >= 0; level-- {
		down := null
		for next := n; next != null; seen++ {
			b, err := c.view(next, level)
			if err != nil {
				return fmt.Errorf("seal: %w", err)
			}
			if down == null && level > 0 {
				down = c.kids(b, 1)[0]
			}
			if seen == c.blocks {
				return fmt.Errorf("seal: %w", c.damaged(b, "siblings go round in a ring"))
			}
			if b.mark != 0 {
				b.seal()
			}
			next = b.right
		}
		n = down
	}
	return nil
}

func (c *core[R, K, O]) found(s step, ok bool, err error) (r R, _ bool, _ error) {
	if !ok || err != nil {
		return r, false, err
	}
	return c.record(s), true, nil
}

func (c *core[R, K, O]) edge(last bool) (r R, _ bool, _ error) {
	if c.root == null {
		return r, false, nil
	}
	b, err := c.edgeLeaf(last)
	if err != nil {
		return r, false, err
	}
	i := 0
	if last {
		i = int(b.count) - 1
	}
	return c.record(step{b, i}), true, nil
}
