package btree

import (
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/scrubd/scrubd/xfile"
)

// Errors of Load.
var (
	ErrNotEmpty  = errors.New("tree is not empty")
	ErrUnordered = errors.New("records out of order, or two with one key")
)

// loadPages is how many pages Load takes, and writes, at a time.
const loadPages = 64

// Load fills an empty tree from records in ascending order, bottom-up and without
// a search. Blocks are filled to three quarters, so that later inserts find
// room: max minus half of the difference between max and min, as the kernel's
// bulk loading does; the last two blocks of a level share what is left. Blocks
// are sealed.
//
// The batches are copied and not kept.
// Errors: [ErrNotEmpty], [ErrUnordered], the stream's own, what [Pages] gives;
// the tree is empty then.
// Source: fs/xfs/libxfs/xfs_btree_staging.c (the rule for how full blocks are).
func (t *Tree[R, K, O]) Load(records iter.Seq2[[]R, error]) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := &t.c
	if c.root != null {
		return fmt.Errorf("load: %w", ErrNotEmpty)
	}
	c.begin()
	if err := c.load(records); err != nil {
		c.cancel()
		return fmt.Errorf("load: %w", err)
	}
	c.commit()
	c.pool.trim(min(growPages, len(c.pool.warm)))
	return nil
}

// loader builds one tree. Blocks are made on the heap, a few at a time, and
// written when they are finished: where the pages are a file, many in one call,
// which costs much less than to touch each new page for the first time.
type loader[R any, K comparable, O Ops[R, K]] struct {
	*core[R, K, O]
	levels [maxHeight]loadLevel
	idle   []*xfile.Page // on the heap
	file   io.WriterAt   // nil: pages are written one by one
	out    []byte        // finished blocks with consecutive numbers
	first  uint32        // number of the first of them
}

// loadLevel is the right end of one level. The last full block is held back until
// the one after it is full, so that the two can share if it stays small.
type loadLevel struct {
	held, cur *block
}

func (c *core[R, K, O]) load(records iter.Seq2[[]R, error]) error {
	l := loader[R, K, O]{core: c}
	l.file, _ = c.pool.pages.(io.WriterAt)
	var last K
	for batch, err := range records {
		if err != nil {
			return err
		}
		if len(batch) == 0 {
			continue
		}
		first := c.ops.Key(batch[0])
		if c.count > 0 && c.ops.Compare(last, first) >= 0 || c.ops.Ascending(batch) < len(batch) {
			return ErrUnordered
		}
		last = c.ops.Key(batch[len(batch)-1])
		if err := l.leaves(batch); err != nil {
			return err
		}
		c.count += int64(len(batch))
	}
	return l.finish()
}

// full is how many records or entries a block of the level gets.
func (l *layout[R, K]) full(level int) int {
	return l.max(level) - (l.max(level)-l.min(level))/2
}

// leaves appends records to the lowest level.
func (l *loader[R, K, O]) leaves(batch []R) error {
	full := l.full(0)
	for len(batch) > 0 {
		b, err := l.room(0)
		if err != nil {
			return err
		}
		n := min(len(batch), full-int(b.count))
		copy(l.recs(b, full)[b.count:], batch[:n])
		b.count += uint16(n)
		batch = batch[n:]
	}
	return nil
}

// room returns the block of a level that takes the next record or entry.
func (l *loader[R, K, O]) room(level int) (*block, error) {
	if level == maxHeight {
		return nil, ErrTooLarge
	}
	lv := &l.levels[level]
	if lv.cur != nil && int(lv.cur.count) < l.full(level) {
		return lv.cur, nil
	}
	if lv.held != nil {
		if err := l.emit(lv.held); err != nil {
			return nil, err
		}
	}
	if len(l.pool.warm) == 0 {
		if err := l.pool.reserve(loadPages); err != nil {
			return nil, err
		}
	}
	b := l.stage(level)
	if lv.cur != nil {
		lv.cur.right, b.left = b.self, lv.cur.self
	}
	lv.held, lv.cur = lv.cur, b
	return b, nil
}

// emit finishes a block and gives it an entry in the level above.
func (l *loader[R, K, O]) emit(b *block) error {
	level := int(b.level) + 1
	up, err := l.room(level)
	if err != nil {
		return err
	}
	l.insertKid(up, int(up.count), l.cover(b), b.self)
	return l.write(b)
}

// stage makes an empty block on the heap.
func (l *loader[R, K, O]) stage(level int) *block {
	var p *xfile.Page
	if n := len(l.idle); n > 0 {
		p, l.idle = l.idle[n-1], l.idle[:n-1]
	} else {
		p = new(xfile.Page)
	}
	b := blockOf(p)
	b.header = l.newHeader(level)
	return b
}

// write seals a finished block and puts it in its page, or with those that go
// there together.
func (l *loader[R, K, O]) write(b *block) error {
	b.seal()
	p := b.page()
	l.idle = append(l.idle, p)
	if l.file == nil {
		*l.pool.pages.Page(int64(b.self)) = *p
		return nil
	}
	n := uint32(len(l.out) / xfile.PageSize)
	if n == loadPages || n > 0 && b.self != l.first+n {
		if err := l.flush(); err != nil {
			return err
		}
	}
	if len(l.out) == 0 {
		l.first = b.self
	}
	l.out = append(l.out, p[:]...)
	return nil
}

func (l *loader[R, K, O]) flush() error {
	if len(l.out) == 0 {
		return nil
	}
	if _, err := l.file.WriteAt(l.out, int64(l.first)*xfile.PageSize); err != nil {
		return fmt.Errorf("write %d blocks at page %d: %w", len(l.out)/xfile.PageSize, l.first, err)
	}
	l.out = l.out[:0]
	return nil
}

// finish evens out the end of every level and makes the root.
func (l *loader[R, K, O]) finish() error {
	for level := range l.levels {
		lv := &l.levels[level]
		if lv.cur == nil {
			return nil // no records
		}
		if lv.held != nil && int(lv.cur.count) < l.min(level) {
			l.even(lv)
		}
		top := level+1 == maxHeight || l.levels[level+1].cur == nil
		if lv.held == nil && top {
			l.root, l.height = lv.cur.self, level+1
			return errors.Join(l.write(lv.cur), l.flush())
		}
		if lv.held != nil {
			if err := l.emit(lv.held); err != nil {
				return err
			}
		}
		if err := l.emit(lv.cur); err != nil {
			return err
		}
	}
	return ErrTooLarge
}

// even joins the last two blocks of a level, or divides what they have.
func (l *loader[R, K, O]) even(lv *loadLevel) {
	total := int(lv.held.count) + int(lv.cur.count)
	if total > l.max(int(lv.cur.level)) {
		l.moveRight(lv.held, lv.cur, int(lv.held.count)-total/2)
		return
	}
	l.moveLeft(lv.held, lv.cur, int(lv.cur.count))
	lv.held.right = null
	l.freeBlock(lv.cur)
	lv.held, lv.cur = nil, lv.held
}
