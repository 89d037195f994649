package btree

import "iter"

// Overlaps yields the records that touch [start, end), in ascending order of
// their keys. It visits leaves that hold such records and at most one other.
// Changes by others while it runs are seen or not, as for [Tree.Batches].
// Errors: [ErrDamaged], after which nothing more comes.
func Overlaps[R any, K comparable, O OverlapOps[R, K]](t *Tree[R, K, O], start, end uint64) iter.Seq2[R, error] {
	return func(yield func(R, error) bool) {
		q := query[R, K, O]{c: &t.c, start: start, end: end}
		for {
			t.mu.RLock()
			err := q.nextLeaf()
			t.mu.RUnlock()
			if err != nil {
				var none R
				yield(none, err)
				return
			}
			if len(q.buf) == 0 {
				return
			}
			for _, r := range q.buf {
				if !yield(r, nil) {
					return
				}
			}
		}
	}
}

// BatchOverlaps is as [Overlaps] within a batch. The loop's body may change the
// tree.
func BatchOverlaps[R any, K comparable, O OverlapOps[R, K]](b *Batch[R, K, O], start, end uint64) iter.Seq2[R, error] {
	return func(yield func(R, error) bool) {
		q := query[R, K, O]{c: &b.t.c, start: start, end: end}
		for {
			if err := q.nextLeaf(); err != nil {
				var none R
				yield(none, err)
				return
			}
			if len(q.buf) == 0 {
				return
			}
			for _, r := range q.buf {
				if !yield(r, nil) {
					return
				}
			}
		}
	}
}

// query walks down to every leaf that may hold a record touching [start, end).
type query[R any, K comparable, O OverlapOps[R, K]] struct {
	c          *core[R, K, O]
	start, end uint64
	buf        []R

	stack   path // the indexes are those to look at next
	level   int  // of the top of the stack; height when nothing is left
	version uint64
	started bool
	last    K // key of the last record in buf
	leaves  int64
}

// nextLeaf fills buf with the records of the next leaf that has some.
func (q *query[R, K, O]) nextLeaf() error {
	c := q.c
	q.buf = q.buf[:0]
	if err := q.position(); err != nil {
		return err
	}
	for q.level < c.height && len(q.buf) == 0 {
		s := &q.stack[q.level]
		n := int(s.b.count)
		if q.level == 0 {
			q.leaves++
			recs := c.recs(s.b, n)
			for i := c.ops.Touching(recs, s.i, q.start, q.end); i < n; i = c.ops.Touching(recs, i+1, q.start, q.end) {
				q.buf = append(q.buf, recs[i])
			}
			q.level++
			continue
		}
		i := c.ops.TouchingKeys(c.keys(s.b, n), s.i, q.start, q.end)
		if i >= n {
			q.level++
			continue
		}
		s.i = i + 1
		b, err := c.view(c.kids(s.b, n)[i], q.level-1)
		if err != nil {
			return err
		}
		q.level--
		q.stack[q.level] = step{b, 0}
	}
	if n := len(q.buf); n != 0 {
		k := c.ops.Key(q.buf[n-1])
		if q.started && c.ops.Compare(k, q.last) <= 0 {
			return c.damaged(q.stack[0].b, "keys do not ascend from leaf to leaf")
		}
		q.last, q.started = k, true
	}
	return nil
}

// position makes the stack good for the tree as it is now.
func (q *query[R, K, O]) position() error {
	c := q.c
	switch {
	case q.started && q.version == c.version:
		return nil
	case c.root == null:
		q.level = c.height
		return nil
	case q.started:
		if err := c.descend(&q.last, &q.stack); err != nil {
			return err
		}
		if c.at(q.stack[0], &q.last) {
			q.stack[0].i++
		}
		for level := 1; level < c.height; level++ {
			q.stack[level].i++
		}
		q.level = 0
	default:
		b, err := c.view(c.root, c.height-1)
		if err != nil {
			return err
		}
		q.level = c.height - 1
		q.stack[q.level] = step{b, 0}
	}
	q.version = c.version
	return nil
}
