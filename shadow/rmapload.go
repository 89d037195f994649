package shadow

import (
	"fmt"
	"iter"
)

// Load fills an empty tree from records sorted by [Compare]. Neighbours in the
// stream that continue one another become one record, as in the kernel's tree.
//
// Two records with the same key, which no healthy file has, cannot both be held:
// the longer one stays, and duplicate is called with the other one; if
// duplicate is nil, Load fails with [ErrDuplicate]. Duplicates with different
// keys are kept; it is [Diff] that reports them all.
// Errors: [ErrUnsorted], [ErrBadRecord], [btree.ErrNotEmpty], the stream's own,
// lack of space; the tree is empty then.
func (t *RmapTree) Load(records iter.Seq2[[]Rmap, error], duplicate func(Rmap)) error {
	if err := t.t.Load(coalesce(records, duplicate)); err != nil {
		return fmt.Errorf("load the rmap tree: %w", err)
	}
	return nil
}

// continues reports whether b goes on where a ends, on the same line.
func continues(a, b *Rmap) bool {
	if a.Owner != b.Owner || uint64(b.StartBlock) != a.End() || a.BlockCount == 0 {
		return false
	}
	return lineOf(a) == lineOf(b)
}

// coalesce joins neighbours and drops duplicates.
func coalesce(records iter.Seq2[[]Rmap, error], duplicate func(Rmap)) iter.Seq2[[]Rmap, error] {
	return func(yield func([]Rmap, error) bool) {
		c := coalescer{duplicate: duplicate, out: make([]Rmap, 0, 1024)}
		for batch, err := range records {
			if err != nil {
				yield(nil, err)
				return
			}
			for i := range batch {
				r := &batch[i]
				if len(c.out) > 0 && r.Owner != c.last().Owner && r.StartBlock > c.last().StartBlock &&
					r.BlockCount != 0 && r.End() <= MaxBlock && len(c.out) < cap(c.out) {
					c.out = append(c.out, *r) // nearly all records
					continue
				}
				if err := c.add(*r, yield); err != nil {
					yield(nil, err)
					return
				}
				if c.stopped {
					return
				}
			}
		}
		if len(c.out) > 0 {
			yield(c.out, nil)
		}
	}
}

type coalescer struct {
	duplicate func(Rmap)
	out       []Rmap // the last one may still grow
	stopped   bool
}

func (c *coalescer) last() *Rmap { return &c.out[len(c.out)-1] }

func (c *coalescer) add(r Rmap, yield func([]Rmap, error) bool) error {
	if err := r.validBlocks(); err != nil {
		return err
	}
	if len(c.out) == 0 {
		c.out = append(c.out, r)
		return nil
	}
	last := c.last()
	order := Compare(last, &r)
	switch {
	case order > 0:
		return fmt.Errorf("%v comes after %v: %w", r, last, ErrUnsorted)
	case order == 0 && c.duplicate == nil:
		return fmt.Errorf("%v and %v: %w", last, r, ErrDuplicate)
	case order == 0:
		if r.BlockCount > last.BlockCount {
			*last, r = r, *last
		}
		c.duplicate(r)
		return nil
	case continues(last, &r):
		last.BlockCount += r.BlockCount
		return nil
	}
	if len(c.out) == cap(c.out) {
		// The last one stays back: what comes may continue it.
		n := len(c.out) - 1
		c.stopped = !yield(c.out[:n], nil)
		c.out[0] = c.out[n]
		c.out = c.out[:1]
	}
	c.out = append(c.out, r)
	return nil
}
