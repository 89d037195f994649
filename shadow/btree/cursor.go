package btree

// Cursor stands on a record of a tree and moves both ways. It is for one
// goroutine; others may change the tree: a cursor then goes on from the key it
// stood on, whether or not its record is still there.
type Cursor[R any, K comparable, O Ops[R, K]] struct {
	t       *Tree[R, K, O]
	s       step
	version uint64
	rec     R
	ok      bool
	err     error
}

// Cursor returns a cursor that stands nowhere.
func (t *Tree[R, K, O]) Cursor() *Cursor[R, K, O] { return &Cursor[R, K, O]{t: t} }

// Record returns the record the cursor stands on, as it was when the cursor came
// there. It means nothing after a move that returned false.
func (c *Cursor[R, K, O]) Record() R { return c.rec }

// Err returns the error that ended the last move, if one did.
func (c *Cursor[R, K, O]) Err() error { return c.err }

// First moves to the first record. Like all moves it reports whether there is
// one.
func (c *Cursor[R, K, O]) First() bool { return c.move(c.edge(false)) }

// Last moves to the last record.
func (c *Cursor[R, K, O]) Last() bool { return c.move(c.edge(true)) }

// SeekGE moves to the record with the least key that is not less than k.
func (c *Cursor[R, K, O]) SeekGE(k K) bool {
	return c.move(func(t *core[R, K, O]) (step, bool, error) { return t.seek(&k, false) })
}

// SeekLE moves to the record with the greatest key that is not greater than k.
func (c *Cursor[R, K, O]) SeekLE(k K) bool {
	return c.move(func(t *core[R, K, O]) (step, bool, error) { return t.seekBack(&k, false) })
}

// SeekEQ moves to the record with key k.
func (c *Cursor[R, K, O]) SeekEQ(k K) bool {
	return c.move(func(t *core[R, K, O]) (step, bool, error) {
		s, ok, err := t.seek(&k, false)
		return s, ok && t.at(s, &k), err
	})
}

// Next moves to the record after. It returns false on a cursor that stands
// nowhere.
func (c *Cursor[R, K, O]) Next() bool {
	if !c.ok {
		return false
	}
	return c.move(func(t *core[R, K, O]) (step, bool, error) {
		if c.version != t.version {
			k := t.ops.Key(c.rec)
			return t.seek(&k, true)
		}
		if c.s.i+1 < int(c.s.b.count) {
			return step{c.s.b, c.s.i + 1}, true, nil
		}
		return t.right(c.s.b)
	})
}

// Prev moves to the record before. It returns false on a cursor that stands
// nowhere.
func (c *Cursor[R, K, O]) Prev() bool {
	if !c.ok {
		return false
	}
	return c.move(func(t *core[R, K, O]) (step, bool, error) {
		if c.version != t.version {
			k := t.ops.Key(c.rec)
			return t.seekBack(&k, true)
		}
		if c.s.i > 0 {
			return step{c.s.b, c.s.i - 1}, true, nil
		}
		return t.left(c.s.b)
	})
}

func (c *Cursor[R, K, O]) edge(last bool) func(*core[R, K, O]) (step, bool, error) {
	return func(t *core[R, K, O]) (step, bool, error) {
		if t.root == null {
			return step{}, false, nil
		}
		b, err := t.edgeLeaf(last)
		if err != nil {
			return step{}, false, err
		}
		if last {
			return step{b, int(b.count) - 1}, true, nil
		}
		return step{b, 0}, true, nil
	}
}

func (c *Cursor[R, K, O]) move(find func(*core[R, K, O]) (step, bool, error)) bool {
	c.t.mu.RLock()
	defer c.t.mu.RUnlock()
	c.s, c.ok, c.err = find(&c.t.c)
	if c.ok = c.ok && c.err == nil; c.ok {
		c.rec = c.t.c.record(c.s)
		c.version = c.t.c.version
	}
	return c.ok
}
