package btree

// remove deletes the record with key k. Errors: ErrNotFound; no space, in a
// batch alone.
func (c *core[R, K, O]) remove(k *K) (r R, err error) {
	if c.root == null {
		return r, ErrNotFound
	}
	var p path
	if err := c.descend(k, &p); err != nil {
		return r, err
	}
	if !c.at(p[0], k) {
		return r, ErrNotFound
	}
	if err := c.reserveChange(); err != nil {
		return r, err
	}
	r = c.record(p[0])
	full := c.ops.Key(r)
	c.version++
	c.touch(p[0].b)
	c.removeAt(p[0].b, p[0].i)
	c.count--
	return r, c.settle(&p, &full)
}

// replace puts r in the place of the record with its key.
func (c *core[R, K, O]) replace(r *R) (old R, err error) {
	k := c.ops.Key(*r)
	if c.root == null {
		return old, ErrNotFound
	}
	var p path
	if err := c.descend(&k, &p); err != nil {
		return old, err
	}
	if !c.at(p[0], &k) {
		return old, ErrNotFound
	}
	if err := c.reserveChange(); err != nil {
		return old, err
	}
	old = c.record(p[0])
	was := c.ops.Key(old)
	c.version++
	c.touch(p[0].b)
	c.recs(p[0].b, int(p[0].b.count))[p[0].i] = *r
	c.widen(&p, &k)
	if was == k {
		return old, nil
	}
	return old, c.settle(&p, &was)
}

// reserveChange takes the pages that a change may need that makes no blocks.
func (c *core[R, K, O]) reserveChange() error {
	if !c.inBatch() {
		return nil
	}
	return c.pool.reserve(4 * (c.height + 1))
}

// settle mends what lies above a leaf from which the record with key gone, or
// the reach of it, was taken: entries that covered it, blocks with too little in
// them, a root with one child.
func (c *core[R, K, O]) settle(p *path, gone *K) error {
	for level := 0; level < c.height-1; level++ {
		b, up := p[level].b, p[level+1]
		if int(b.count) < c.min(level) {
			if err := c.refill(p, level); err != nil {
				return err
			}
			continue
		}
		e := &c.keys(up.b, int(up.b.count))[up.i]
		if !c.ops.Holds(*e, *gone) {
			break
		}
		now := c.cover(b)
		if *e == now {
			break
		}
		c.touch(up.b)
		*e = now
	}
	return c.shrinkRoot()
}

// refill mends block p[level], which has less than the minimum, with a sibling:
// together in one block if they fit, else in equal parts.
func (c *core[R, K, O]) refill(p *path, level int) error {
	up := p[level+1]
	kids := c.kids(up.b, int(up.b.count))
	li := max(up.i-1, 0)
	if li+1 >= len(kids) {
		return c.damaged(up.b, "one child alone")
	}
	l, r, err := c.siblings(p[level].b, up.i, li, kids, level)
	if err != nil {
		return err
	}
	if l == r {
		return c.damaged(up.b, "two entries for one child")
	}
	c.touch(l)
	c.touch(r)
	c.touch(up.b)
	if total := int(l.count) + int(r.count); total > c.max(level) {
		if n := total/2 - int(l.count); n > 0 {
			c.moveLeft(l, r, n)
		} else {
			c.moveRight(l, r, -n)
		}
		c.recover2(up.b, li, l, r)
		return nil
	}
	if r.right != null {
		next, err := c.view(r.right, level)
		if err != nil {
			return err
		}
		c.touch(next)
		next.left = l.self
	}
	c.moveLeft(l, r, int(r.count))
	l.right = r.right
	c.freeBlock(r)
	c.removeAt(up.b, li+1)
	c.keys(up.b, int(up.b.count))[li] = c.cover(l)
	return nil
}

// siblings returns the children li and li+1 of a node, one of which, child i,
// is b and may be empty.
func (c *core[R, K, O]) siblings(b *block, i, li int, kids []uint32, level int) (l, r *block, err error) {
	l, r = b, b
	if i == li {
		r, err = c.view(kids[li+1], level)
	} else {
		l, err = c.view(kids[li], level)
	}
	return l, r, err
}

// shrinkRoot takes away roots that are not needed.
func (c *core[R, K, O]) shrinkRoot() error {
	for c.root != null {
		p := c.pool.pages.Page(int64(c.root))
		if p == nil {
			return nil // seen by whoever looks at it next
		}
		b := blockOf(p)
		switch {
		case c.height > 1 && b.count == 1:
			c.root = c.kids(b, 1)[0]
			c.height--
		case c.height == 1 && b.count == 0:
			c.root = null
			c.height = 0
		default:
			return nil
		}
		c.freeBlock(b)
	}
	return nil
}
