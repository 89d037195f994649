package shadow

import (
	"context"
	"fmt"
	"iter"

	"github.com/scrubd/scrubd/shadow/btree"
)

// RefcountTree is the reference counts of one allocation group in pageable
// memory, as a B+tree ordered by start block, shared domain first. A block
// without a record in the shared domain has at most one owner.
//
// Invariants: records of one domain do not overlap; neighbours with equal counts
// are merged.
type RefcountTree struct {
	t *btree.Tree[Refcount, uint32, refcountOps]
}

// NewRefcountTree makes an empty tree in pages, to which it has the sole right.
// The tag is written to every block.
func NewRefcountTree(pages btree.Pages, tag uint64) (*RefcountTree, error) {
	t, err := btree.New[Refcount, uint32, refcountOps](pages, tag)
	if err != nil {
		return nil, fmt.Errorf("make a refcount tree: %w", err)
	}
	return &RefcountTree{t}, nil
}

// Load fills an empty tree from records in ascending order.
// Errors: [ErrBadRecord], [ErrUnsorted] for records that overlap or could be one,
// [btree.ErrNotEmpty], the stream's own, lack of space; the tree is empty then.
func (t *RefcountTree) Load(records iter.Seq2[[]Refcount, error]) error {
	if err := t.t.Load(checkRefcounts(records)); err != nil {
		return fmt.Errorf("load the refcount tree: %w", err)
	}
	return nil
}

// Derive fills an empty tree from reverse mappings sorted by [Compare], which are
// read twice: the shared domain as [Refcounts] finds it, the staging domain as
// [CoWStaging] does. See Refcounts for bag and sharers.
// Errors: as for these and Load.
func (t *RefcountTree) Derive(rmaps iter.Seq2[[]Rmap, error], bag btree.Pages, sharers *InodeSet) error {
	return t.Load(func(yield func([]Refcount, error) bool) {
		for batch, err := range Refcounts(rmaps, bag, sharers) {
			if !yield(batch, err) {
				return
			}
		}
		for batch, err := range CoWStaging(rmaps) {
			if !yield(batch, err) {
				return
			}
		}
	})
}

// checkRefcounts passes records on as long as they are in order.
func checkRefcounts(records iter.Seq2[[]Refcount, error]) iter.Seq2[[]Refcount, error] {
	return func(yield func([]Refcount, error) bool) {
		var prev Refcount
		for batch, err := range records {
			for _, r := range batch {
				if err == nil {
					err = follows(prev, r)
				}
				prev = r
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(batch, nil) {
				return
			}
		}
	}
}

// follows reports whether r may stand after prev in a tree.
func follows(prev, r Refcount) error {
	switch err := r.Validate(); {
	case err != nil:
		return err
	case prev.BlockCount == 0 || !prev.IsCoW() && r.IsCoW():
		return nil
	case prev.IsCoW() != r.IsCoW() || prev.End() > uint64(r.Start()):
		return fmt.Errorf("%v comes after %v: %w", r, prev, ErrUnsorted)
	case prev.joins(r):
		return fmt.Errorf("%v and %v are not merged: %w", prev, r, ErrUnsorted)
	}
	return nil
}

// Len returns the number of records.
func (t *RefcountTree) Len() int64 { return t.t.Len() }

// Bytes returns the size of the blocks in use.
func (t *RefcountTree) Bytes() int64 { return t.t.Bytes() }

// Trim gives free pages back; see [btree.Tree.Trim].
func (t *RefcountTree) Trim() { t.t.Trim() }

// Seal writes checksums; see [btree.Tree.Seal].
func (t *RefcountTree) Seal() error { return t.t.Seal() }

// Batches yields all records, the shared domain first, many at a time. The slice
// is reused.
func (t *RefcountTree) Batches() iter.Seq2[[]Refcount, error] { return t.t.Batches() }

// All yields all records, the shared domain first.
func (t *RefcountTree) All() iter.Seq2[Refcount, error] { return t.t.All() }

// At returns the record of the shared domain that covers a block.
func (t *RefcountTree) At(block uint32) (Refcount, bool, error) {
	r, ok, err := t.t.LE(block &^ RefcountCoW)
	if err != nil || !ok || r.End() <= uint64(block) {
		return Refcount{}, false, err
	}
	return r, true, nil
}

// Shared yields the blocks with more than one owner, as [DiffShared] takes them:
// what is visible of the tree from outside the kernel. The slice is reused.
func (t *RefcountTree) Shared() iter.Seq2[[]Range, error] {
	return func(yield func([]Range, error) bool) {
		var out []Range
		for batch, err := range t.t.Batches() {
			if err != nil {
				yield(nil, err)
				return
			}
			out = out[:0]
			for _, r := range batch {
				if r.IsCoW() {
					break
				}
				out = append(out, Range{r.StartBlock, r.BlockCount})
			}
			if len(out) == 0 || !yield(out, nil) {
				return
			}
		}
	}
}

// Check compares the tree with its invariants.
func (t *RefcountTree) Check(ctx context.Context) error {
	if err := t.t.Check(ctx); err != nil {
		return fmt.Errorf("check the refcount tree: %w", err)
	}
	var prev Refcount
	for r, err := range t.t.All() {
		if err == nil {
			err = follows(prev, r)
		}
		if err != nil {
			return fmt.Errorf("check the refcount tree: %w: %w", err, btree.ErrDamaged)
		}
		prev = r
	}
	return nil
}

// Increase adds an owner to all blocks of a range that already have one: their
// count grows by one, to two where there was no record.
// Errors: [ErrBadRecord]; lack of space; the tree is as before then.
// Source: fs/xfs/libxfs/xfs_refcount.c (xfs_refcount_adjust).
func (t *RefcountTree) Increase(r Range) error { return t.adjust("increase", r, 1) }

// Decrease takes an owner away from all blocks of a range: the record goes where
// one owner remains, and where there was none, nothing changes.
// Errors: as Increase.
func (t *RefcountTree) Decrease(r Range) error { return t.adjust("decrease", r, -1) }

func (t *RefcountTree) adjust(what string, r Range, by int) error {
	if r.Len == 0 || r.End() > maxRefcountBlock {
		return fmt.Errorf("%s refcounts of [%d,%d): %w", what, r.Start, r.End(), ErrBadRecord)
	}
	err := t.t.Update(func(b *refcountBatch) error {
		for at := uint64(r.Start); at < r.End(); {
			next, err := adjustSome(b, at, r.End(), by)
			if err != nil {
				return err
			}
			at = next
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%s refcounts of [%d,%d): %w", what, r.Start, r.End(), err)
	}
	return nil
}

type refcountBatch = btree.Batch[Refcount, uint32, refcountOps]

// adjustRecords is how many records are rewritten at a time.
const adjustRecords = 256

// adjustSome adjusts the blocks from start to end, or fewer, and returns where it
// stopped.
func adjustSome(b *refcountBatch, start, end uint64, by int) (uint64, error) {
	old, err := recordsAround(b, start, end)
	if err != nil {
		return 0, err
	}
	if n := len(old); n == adjustRecords {
		end = min(end, old[n-1].End()) // the last one may have more after it
	}
	var now runs
	at := start
	for _, r := range old {
		lo, hi := max(uint64(r.Start()), start), min(r.End(), end)
		if lo >= hi { // a neighbour that only touches
			if uint64(r.Start()) >= end {
				now.gap(at, end, by)
				at = end
			}
			now.add(uint64(r.Start()), r.End(), r.Count)
			continue
		}
		now.add(uint64(r.Start()), lo, r.Count)
		now.gap(at, lo, by)
		now.add(lo, hi, adjusted(r.Count, by))
		now.add(hi, r.End(), r.Count)
		at = hi
	}
	now.gap(at, end, by)
	return end, exchange(b, old, now)
}

// adjusted is a count with one owner more or less.
func adjusted(count uint32, by int) uint32 {
	switch {
	case count == MaxRefcount:
		return count
	case by > 0:
		return count + 1
	}
	return count - 1
}

// recordsAround returns the shared records with blocks in [start, end) or just
// beside it, up to adjustRecords.
func recordsAround(b *refcountBatch, start, end uint64) ([]Refcount, error) {
	var out []Refcount
	var (
		r   Refcount
		ok  bool
		err error
	)
	if start > 0 {
		r, ok, err = b.LE(uint32(start - 1))
		if ok && r.End() >= start {
			out = append(out, r)
		}
	}
	from := start
	for err == nil && from <= end && from < maxRefcountBlock && len(out) < adjustRecords {
		r, ok, err = b.GE(uint32(from))
		if err != nil || !ok || r.IsCoW() || uint64(r.Start()) > end {
			break
		}
		out = append(out, r)
		from = uint64(r.Start()) + 1
	}
	return out, err
}

// runs is a list of records that is kept merged.
type runs []Refcount

// add appends the blocks [start, end) with a count; less than two owners leave
// no record.
func (l *runs) add(start, end uint64, count uint32) {
	if start >= end || count < 2 {
		return
	}
	r := Refcount{uint32(start), uint32(end - start), count}
	if n := len(*l); n > 0 && (*l)[n-1].joins(r) {
		(*l)[n-1].BlockCount += r.BlockCount
		return
	}
	*l = append(*l, r)
}

// gap appends blocks without a record, adjusted.
func (l *runs) gap(start, end uint64, by int) {
	if by > 0 {
		l.add(start, end, 2)
	}
}

// exchange puts now in the place of old, both sorted, touching what differs.
func exchange(b *refcountBatch, old, now []Refcount) error {
	for len(old) > 0 || len(now) > 0 {
		var err error
		switch {
		case len(now) == 0 || len(old) > 0 && old[0].StartBlock < now[0].StartBlock:
			_, err = b.Delete(old[0].StartBlock)
			old = old[1:]
		case len(old) == 0 || now[0].StartBlock < old[0].StartBlock:
			err = b.Insert(now[0])
			now = now[1:]
		default:
			if old[0] != now[0] {
				_, err = b.Replace(now[0])
			}
			old, now = old[1:], now[1:]
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// AddCoW adds a staging extent.
// Errors: [ErrMapped] if some of the blocks are in one; [ErrBadRecord]; lack of
// space; the tree is as before then.
// Source: fs/xfs/libxfs/xfs_refcount.c (xfs_refcount_adjust_cow).
func (t *RefcountTree) AddCoW(r Range) error {
	return t.cow("add", r, func(b *refcountBatch, add Refcount) error {
		left, ok, err := b.LE(add.StartBlock)
		if err != nil {
			return err
		}
		if ok = ok && left.IsCoW(); ok && left.End() > uint64(add.Start()) {
			return ErrMapped
		}
		right, more, err := b.GE(add.StartBlock)
		if err != nil {
			return err
		}
		if more && uint64(right.Start()) < add.End() {
			return ErrMapped
		}
		if more && add.joins(right) {
			if _, err := b.Delete(right.StartBlock); err != nil {
				return err
			}
			add.BlockCount += right.BlockCount
		}
		if ok && left.joins(add) {
			left.BlockCount += add.BlockCount
			_, err := b.Replace(left)
			return err
		}
		return b.Insert(add)
	})
}

// RemoveCoW takes blocks out of a staging extent.
// Errors: [ErrNotMapped] if some of the blocks are not in one; [ErrBadRecord];
// lack of space; the tree is as before then.
func (t *RefcountTree) RemoveCoW(r Range) error {
	return t.cow("remove", r, func(b *refcountBatch, gone Refcount) error {
		whole, ok, err := b.LE(gone.StartBlock)
		if err != nil {
			return err
		}
		if !ok || !whole.IsCoW() || whole.End() < gone.End() {
			return ErrNotMapped
		}
		if whole.StartBlock < gone.StartBlock {
			_, err = b.Replace(Refcount{whole.StartBlock, gone.StartBlock - whole.StartBlock, 1})
		} else {
			_, err = b.Delete(whole.StartBlock)
		}
		if err == nil && whole.End() > gone.End() {
			err = b.Insert(Refcount{RefcountCoW | uint32(gone.End()), uint32(whole.End() - gone.End()), 1})
		}
		return err
	})
}

func (t *RefcountTree) cow(what string, r Range, change func(*refcountBatch, Refcount) error) error {
	rec := Refcount{r.Start | RefcountCoW, r.Len, 1}
	err := rec.Validate()
	if r.Start&RefcountCoW != 0 {
		err = ErrBadRecord
	}
	if err == nil {
		err = t.t.Update(func(b *refcountBatch) error { return change(b, rec) })
	}
	if err != nil {
		return fmt.Errorf("%s the staging extent [%d,%d): %w", what, r.Start, r.End(), err)
	}
	return nil
}
