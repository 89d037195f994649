package btree

// insert adds a record. Errors: ErrExists; no space.
func (c *core[R, K, O]) insert(r *R) error {
	k := c.ops.Key(*r)
	var p path
	if c.root != null {
		if err := c.descend(&k, &p); err != nil {
			return err
		}
		if c.at(p[0], &k) {
			return ErrExists
		}
	}
	if err := c.reserveInsert(&p); err != nil {
		return err
	}
	c.version++
	if c.root == null {
		b := c.newBlock(0)
		c.root, c.height = b.self, 1
		p[0] = step{b, 0}
	} else if int(p[0].b.count) == c.maxLeaf {
		if err := c.makeRoom(&p, 0); err != nil {
			return err
		}
	}
	c.touch(p[0].b)
	c.insertAt(p[0].b, p[0].i, r)
	c.count++
	c.widen(&p, &k)
	return nil
}

// reserveInsert takes the pages that inserting at p may need.
func (c *core[R, K, O]) reserveInsert(p *path) error {
	n := 0
	if c.root == null || int(p[0].b.count) == c.maxLeaf {
		if c.height == maxHeight {
			return ErrTooLarge
		}
		n = c.height + 1 // every level splits, and a new root
	}
	if c.inBatch() {
		n += 4 * (c.height + 1) // a block, both siblings and a parent of each level are saved
	}
	if n == 0 {
		return nil
	}
	return c.pool.reserve(n)
}

// widen makes the entries above p cover k.
func (c *core[R, K, O]) widen(p *path, k *K) {
	for level := 1; level < c.height; level++ {
		s := p[level]
		e := &c.keys(s.b, int(s.b.count))[s.i]
		wide := c.ops.Widen(*e, *k)
		if wide == *e {
			return
		}
		c.touch(s.b)
		*e = wide
	}
}

// makeRoom makes room in the full block p[level] for one more at its index: by
// moving some to a sibling, or by splitting. Afterwards p leads to the block with
// room and the index in it; the index is not 0 unless it was before, so that
// what stood before the index still stands in the same block.
func (c *core[R, K, O]) makeRoom(p *path, level int) error {
	if level == c.height-1 {
		c.growRoot(p)
	}
	done, err := c.shiftToSibling(p, level)
	if done || err != nil {
		return err
	}
	return c.split(p, level)
}

// growRoot puts a root with one entry above the root.
func (c *core[R, K, O]) growRoot(p *path) {
	old := p[c.height-1].b
	b := c.newBlock(c.height)
	c.insertKid(b, 0, c.cover(old), old.self)
	p[c.height] = step{b, 0}
	c.root = b.self
	c.height++
}

// shiftToSibling moves half of the room in a sibling to the full block p[level],
// if there is enough of it to be worth while.
func (c *core[R, K, O]) shiftToSibling(p *path, level int) (bool, error) {
	b, i := p[level].b, p[level].i
	up := &p[level+1]
	maxN := c.max(level)
	worth := maxN/8 + 2 // with less than 2, nothing would be left for the new one
	kids := c.kids(up.b, int(up.b.count))
	if up.i > 0 {
		l, err := c.view(kids[up.i-1], level)
		if err != nil {
			return false, err
		}
		if room := maxN - int(l.count); room >= worth {
			n := (room + 1) / 2
			c.touch(b)
			c.touch(l)
			c.moveLeft(l, b, n)
			c.recover2(up.b, up.i-1, l, b)
			if i <= n {
				p[level] = step{l, int(l.count) - n + i}
				up.i--
			} else {
				p[level].i = i - n
			}
			return true, nil
		}
	}
	if up.i+1 < len(kids) {
		r, err := c.view(kids[up.i+1], level)
		if err != nil {
			return false, err
		}
		if room := maxN - int(r.count); room >= worth && !c.appending(p, level) {
			n := (room + 1) / 2
			c.touch(b)
			c.touch(r)
			c.moveRight(b, r, n)
			c.recover2(up.b, up.i, b, r)
			if i > int(b.count) {
				p[level] = step{r, i - int(b.count)}
				up.i++
			}
			return true, nil
		}
	}
	return false, nil
}

// appending reports whether p[level] is the end of its level.
func (c *core[R, K, O]) appending(p *path, level int) bool {
	return p[level].b.right == null && p[level].i == int(p[level].b.count)
}

// recover2 sets the entries i and i+1 of a node for children that changed.
func (c *core[R, K, O]) recover2(up *block, i int, l, r *block) {
	c.touch(up)
	keys := c.keys(up, int(up.count))
	keys[i], keys[i+1] = c.cover(l), c.cover(r)
}

// split moves the second half of the full block p[level] to a new block; at the
// end of a level only the last one, so that ascending inserts fill blocks.
func (c *core[R, K, O]) split(p *path, level int) error {
	b, i := p[level].b, p[level].i
	var right *block
	if b.right != null {
		var err error
		if right, err = c.view(b.right, level); err != nil {
			return err
		}
	}
	n := int(b.count) / 2
	if c.appending(p, level) {
		n = 1
	}
	up := &p[level+1]
	up.i++ // where the new entry goes; the old one is just before
	if int(up.b.count) == c.maxNode {
		if err := c.makeRoom(p, level+1); err != nil {
			return err
		}
	}
	s := c.newBlock(level)
	c.touch(b)
	c.moveRight(b, s, n)
	s.left, s.right = b.self, b.right
	b.right = s.self
	if right != nil {
		c.touch(right)
		right.left = s.self
	}
	c.touch(up.b)
	c.insertKid(up.b, up.i, c.cover(s), s.self)
	c.keys(up.b, int(up.b.count))[up.i-1] = c.cover(b)
	if i > int(b.count) {
		p[level] = step{s, i - int(b.count)}
	} else {
		up.i--
	}
	return nil
}
