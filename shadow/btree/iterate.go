package btree

import "iter"

// Batches yields all records in ascending order, a leaf's worth at a time. The
// slice is reused: copy what you keep.
//
// No lock is held while the consumer works, and others may change the tree:
// every record that was there throughout comes exactly once, every key yielded
// is greater than the one before.
// Errors: [ErrDamaged], after which nothing more comes.
func (t *Tree[R, K, O]) Batches() iter.Seq2[[]R, error] { return t.batches(nil) }

// BatchesFrom is as Batches from the first record on whose key is not less than
// k.
func (t *Tree[R, K, O]) BatchesFrom(k K) iter.Seq2[[]R, error] { return t.batches(&k) }

func (t *Tree[R, K, O]) batches(from *K) iter.Seq2[[]R, error] {
	return func(yield func([]R, error) bool) {
		w := walker[R, K, O]{t: t, buf: make([]R, 0, t.c.maxLeaf)}
		if from != nil {
			w.from, w.started = *from, true
		}
		for {
			if err := w.next(); err != nil {
				yield(nil, err)
				return
			}
			if len(w.buf) == 0 || !yield(w.buf, nil) {
				return
			}
		}
	}
}

// All yields all records in ascending order; see [Tree.Batches].
func (t *Tree[R, K, O]) All() iter.Seq2[R, error] { return flatten(t.batches(nil)) }

// From yields the records whose keys are not less than k; see [Tree.Batches].
func (t *Tree[R, K, O]) From(k K) iter.Seq2[R, error] { return flatten(t.batches(&k)) }

func flatten[R any](batches iter.Seq2[[]R, error]) iter.Seq2[R, error] {
	return func(yield func(R, error) bool) {
		for batch, err := range batches {
			if err != nil {
				var none R
				yield(none, err)
				return
			}
			for _, r := range batch {
				if !yield(r, nil) {
					return
				}
			}
		}
	}
}

// walker copies one leaf after another.
type walker[R any, K comparable, O Ops[R, K]] struct {
	t       *Tree[R, K, O]
	buf     []R
	from    K    // where to begin, if started and at is nil
	started bool // false: begin with the first record
	beyond  bool // from itself has been yielded
	at      *block
	version uint64
}

// next fills buf with the rest of the leaf in which the next record lies.
func (w *walker[R, K, O]) next() error {
	w.t.mu.RLock()
	defer w.t.mu.RUnlock()
	c := &w.t.c
	w.buf = w.buf[:0]
	s, ok, err := w.position(c)
	if err != nil || !ok {
		return err
	}
	w.buf = append(w.buf, c.recs(s.b, int(s.b.count))[s.i:]...)
	w.at, w.version = s.b, c.version
	w.from, w.started, w.beyond = c.ops.Key(w.buf[len(w.buf)-1]), true, true
	return nil
}

func (w *walker[R, K, O]) position(c *core[R, K, O]) (step, bool, error) {
	switch {
	case c.root == null:
		return step{}, false, nil
	case !w.started:
		b, err := c.edgeLeaf(false)
		return step{b, 0}, err == nil, err
	case w.at != nil && w.version == c.version:
		return c.right(w.at)
	default:
		return c.seek(&w.from, w.beyond)
	}
}
