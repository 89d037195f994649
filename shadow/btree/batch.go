package btree

// undo lets a batch be cancelled: before a block is changed for the first time in
// a batch, its page is copied to another one. Batches nest.
type undo struct {
	marks  []mark
	saved  []savedPage
	fresh  []uint32 // pages of blocks made in a batch
	unused []uint32 // pages of blocks given up in a batch; kept until it commits
}

// savedPage says that page holds what copy held when it was saved.
type savedPage struct{ page, copy uint32 }

// mark is the beginning of a batch.
type mark struct {
	state
	saved, fresh, unused int
}

func (c *core[R, K, O]) inBatch() bool { return len(c.marks) != 0 }

// touch is called before each change of a block's bytes.
func (c *core[R, K, O]) touch(b *block) {
	if b.mark != c.epoch {
		c.save(b)
	}
}

func (c *core[R, K, O]) save(b *block) {
	if c.inBatch() {
		n := c.pool.take() // reserved by every operation
		*c.pool.pages.Page(int64(n)) = *c.pool.pages.Page(int64(b.self))
		c.saved = append(c.saved, savedPage{b.self, n})
	}
	b.mark = c.epoch
}

func (c *core[R, K, O]) allocated(n uint32) {
	if c.inBatch() {
		c.fresh = append(c.fresh, n)
	}
}

func (c *core[R, K, O]) freed(n uint32) {
	if c.inBatch() {
		c.unused = append(c.unused, n)
		return
	}
	c.pool.give(n)
}

func (c *core[R, K, O]) begin() {
	c.marks = append(c.marks, mark{c.state, len(c.saved), len(c.fresh), len(c.unused)})
	c.epoch++
}

// commit ends the innermost batch. What it did is undone with the batch around
// it, if there is one.
func (c *core[R, K, O]) commit() {
	c.marks = c.marks[:len(c.marks)-1]
	c.epoch++
	if c.inBatch() {
		return
	}
	for _, s := range c.saved {
		c.pool.give(s.copy)
	}
	for _, n := range c.unused {
		c.pool.give(n)
	}
	c.reset(mark{})
}

// cancel ends the innermost batch and restores all pages, the oldest copy last.
func (c *core[R, K, O]) cancel() {
	m := c.marks[len(c.marks)-1]
	c.marks = c.marks[:len(c.marks)-1]
	c.epoch++
	c.version++
	for i := len(c.saved) - 1; i >= m.saved; i-- {
		s := c.saved[i]
		*c.pool.pages.Page(int64(s.page)) = *c.pool.pages.Page(int64(s.copy))
		c.pool.give(s.copy)
	}
	for _, n := range c.fresh[m.fresh:] {
		c.pool.give(n)
	}
	c.state = m.state
	c.reset(m)
}

// reset forgets what happened since m.
func (c *core[R, K, O]) reset(m mark) {
	const keep = 1 << 12 // do not hold on to the lists of one huge batch
	if m.saved == 0 && m.fresh == 0 && m.unused == 0 && cap(c.saved)+cap(c.fresh)+cap(c.unused) > keep {
		c.saved, c.fresh, c.unused = nil, nil, nil
		return
	}
	c.saved, c.fresh, c.unused = c.saved[:m.saved], c.fresh[:m.fresh], c.unused[:m.unused]
}

// Batch is a number of changes to a tree of which all happen or none. While it is
// open, the tree belongs to it: other users wait, and the goroutine that holds
// the batch must go through the batch or wait for ever. Batches should be short.
type Batch[R any, K comparable, O Ops[R, K]] struct {
	t    *Tree[R, K, O]
	done bool
}

// Begin opens a batch, when no other is open. It must be ended with Commit or
// Cancel.
func (t *Tree[R, K, O]) Begin() *Batch[R, K, O] {
	t.mu.Lock()
	t.c.begin()
	return &Batch[R, K, O]{t: t}
}

// Commit ends the batch and keeps its changes. After Commit or Cancel it does
// nothing.
func (b *Batch[R, K, O]) Commit() {
	if b.done {
		return
	}
	b.done = true
	b.t.c.commit()
	b.t.mu.Unlock()
}

// Cancel ends the batch and brings the tree back to what it was at Begin. It
// cannot fail. After Commit or Cancel it does nothing.
func (b *Batch[R, K, O]) Cancel() {
	if b.done {
		return
	}
	b.done = true
	b.t.c.cancel()
	b.t.mu.Unlock()
}

// Update runs change in a batch, which is committed if change returns nil and
// cancelled otherwise.
func (t *Tree[R, K, O]) Update(change func(*Batch[R, K, O]) error) error {
	b := t.Begin()
	defer b.Cancel()
	if err := change(b); err != nil {
		return err
	}
	b.Commit()
	return nil
}

// Try runs change within the batch; if it fails, what it did is undone, and the
// batch goes on.
func (b *Batch[R, K, O]) Try(change func() error) error {
	c := &b.t.c
	c.begin()
	err := change()
	if err != nil {
		c.cancel()
		return err
	}
	c.commit()
	return nil
}

// Len is as [Tree.Len].
func (b *Batch[R, K, O]) Len() int64 { return b.t.c.count }

// Get is as [Tree.Get].
func (b *Batch[R, K, O]) Get(k K) (R, bool, error) { return b.t.c.get(&k) }

// GE is as [Tree.GE].
func (b *Batch[R, K, O]) GE(k K) (R, bool, error) { return b.t.c.found(b.t.c.seek(&k, false)) }

// LE is as [Tree.LE].
func (b *Batch[R, K, O]) LE(k K) (R, bool, error) { return b.t.c.found(b.t.c.seekBack(&k, false)) }

// First is as [Tree.First].
func (b *Batch[R, K, O]) First() (R, bool, error) { return b.t.c.edge(false) }

// Insert is as [Tree.Insert].
func (b *Batch[R, K, O]) Insert(r R) error { return b.t.c.insert(&r) }

// Replace is as [Tree.Replace].
func (b *Batch[R, K, O]) Replace(r R) (R, error) { return b.t.c.replace(&r) }

// Delete is as [Tree.Delete].
func (b *Batch[R, K, O]) Delete(k K) (R, error) { return b.t.c.remove(&k) }
