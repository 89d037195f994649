package shadow

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/scrubd/scrubd/shadow/btree"
)

// Errors of changes to an [RmapTree].
var (
	// ErrMapped means that some of the blocks are mapped to the same place
	// already.
	ErrMapped = errors.New("blocks are mapped already")
	// ErrNotMapped means that some of the blocks are not mapped as said.
	ErrNotMapped = errors.New("blocks are not mapped like this")
	// ErrDuplicate means that two records have one key.
	ErrDuplicate = errors.New("two records with one key")
)

// RmapTree is the reverse mappings of one allocation group in pageable memory,
// as an overlapping B+tree: ordered by [Compare], searched by key and by block.
//
// Its methods may be called from several goroutines; see [btree.Tree] for what
// iterations and batches promise.
//
// Invariants: every record fits [MaxBlock]; what Map, Unmap and Convert leave
// is maximally merged: no two of the records they made could be one.
type RmapTree struct {
	t *btree.Tree[Rmap, rmapKey, rmapOps]
}

// NewRmapTree makes an empty tree in pages, to which the tree has the sole
// right. The tag, the group's number for example, is written to every block.
func NewRmapTree(pages btree.Pages, tag uint64) (*RmapTree, error) {
	t, err := btree.New[Rmap, rmapKey, rmapOps](pages, tag)
	if err != nil {
		return nil, fmt.Errorf("make an rmap tree: %w", err)
	}
	return &RmapTree{t}, nil
}

// Len returns the number of records.
func (t *RmapTree) Len() int64 { return t.t.Len() }

// Bytes returns the size of the blocks in use.
func (t *RmapTree) Bytes() int64 { return t.t.Bytes() }

// Height returns the number of levels.
func (t *RmapTree) Height() int { return t.t.Height() }

// Seal writes checksums; see [btree.Tree.Seal].
func (t *RmapTree) Seal() error { return t.t.Seal() }

// Trim gives free pages back; see [btree.Tree.Trim].
func (t *RmapTree) Trim() { t.t.Trim() }

// Check compares the tree with its invariants: those of [btree.Tree.Check], and
// that every record can be and no neighbours in key order should have been
// merged.
func (t *RmapTree) Check(ctx context.Context) error {
	if err := t.t.Check(ctx); err != nil {
		return fmt.Errorf("check the rmap tree: %w", err)
	}
	var prev Rmap
	for batch, err := range t.t.Batches() {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("check the rmap tree: %w", err)
		}
		for i := range batch {
			r := &batch[i]
			if err := r.validBlocks(); err != nil {
				return fmt.Errorf("check the rmap tree: %w: %w", err, btree.ErrDamaged)
			}
			if continues(&prev, r) {
				return fmt.Errorf("check the rmap tree: %v and %v are not merged: %w", prev, r, btree.ErrDamaged)
			}
			prev = *r
		}
	}
	return nil
}

// Batches yields all records in the order of [Compare], many at a time, as [Diff]
// takes them. The slice is reused.
func (t *RmapTree) Batches() iter.Seq2[[]Rmap, error] { return t.t.Batches() }

// All yields all records in the order of [Compare].
func (t *RmapTree) All() iter.Seq2[Rmap, error] { return t.t.All() }

// Overlaps yields the records with blocks in [start, end), in the order of
// [Compare]: with end = start + 1, all who own the block. It takes O(log n) steps
// and one for each record.
func (t *RmapTree) Overlaps(start, end uint64) iter.Seq2[Rmap, error] {
	return btree.Overlaps(t.t, start, end)
}

// OwnedBy yields all records of the given owners, in the order of [Compare]. It
// reads the whole tree, once for all owners.
func (t *RmapTree) OwnedBy(owners ...uint64) iter.Seq2[Rmap, error] {
	wanted := make(map[uint64]struct{}, len(owners))
	for _, o := range owners {
		wanted[o] = struct{}{}
	}
	return func(yield func(Rmap, error) bool) {
		for batch, err := range t.t.Batches() {
			if err != nil {
				yield(Rmap{}, err)
				return
			}
			for _, r := range batch {
				if _, ok := wanted[r.Owner]; ok && !yield(r, nil) {
					return
				}
			}
		}
	}
}

// Map adds a mapping. It is merged with the mappings just before and just after
// it on the same line, if there are any, also where other owners' records stand
// between them in key order.
// Errors: [ErrMapped] if some of the blocks are mapped to the same owner and
// offset, whether written or not; [ErrBadRecord]; lack of space. The tree is as
// before then.
// Source: fs/xfs/libxfs/xfs_rmap.c (xfs_rmap_map, xfs_rmap_map_shared).
func (t *RmapTree) Map(r Rmap) error { return t.update(func(b *RmapBatch) error { return b.Map(r) }) }

// Unmap removes the mapping of the blocks of r to its owner, offset and flags;
// what remains of the records that held it on either side stays. Of blocks that
// are mapped twice, which [RmapTree.Load] lets pass, one mapping may remain.
// Errors: [ErrNotMapped] if a block is not mapped so; [ErrBadRecord]; lack of
// space. The tree is as before then.
// Source: fs/xfs/libxfs/xfs_rmap.c (xfs_rmap_unmap, xfs_rmap_unmap_shared).
func (t *RmapTree) Unmap(r Rmap) error {
	return t.update(func(b *RmapBatch) error { return b.Unmap(r) })
}

// Convert turns the blocks of r, mapped as r says, from written to unwritten or
// back, and merges what can be merged then.
// Errors: as Unmap and Map.
// Source: fs/xfs/libxfs/xfs_rmap.c (xfs_rmap_convert, xfs_rmap_convert_shared).
func (t *RmapTree) Convert(r Rmap) error {
	return t.update(func(b *RmapBatch) error { return b.Convert(r) })
}

func (t *RmapTree) update(change func(*RmapBatch) error) error {
	b := t.Begin()
	defer b.Cancel()
	if err := change(b); err != nil {
		return err
	}
	b.Commit()
	return nil
}

// RmapBatch is a number of changes of which all happen or none. While it is open
// nobody else can use the tree; see [btree.Batch].
type RmapBatch struct {
	b *btree.Batch[Rmap, rmapKey, rmapOps]
}

// Begin opens a batch.
func (t *RmapTree) Begin() *RmapBatch { return &RmapBatch{t.t.Begin()} }

// Commit ends the batch and keeps its changes.
func (b *RmapBatch) Commit() { b.b.Commit() }

// Cancel ends the batch and undoes its changes. After Commit it does nothing.
func (b *RmapBatch) Cancel() { b.b.Cancel() }

// Overlaps is as [RmapTree.Overlaps].
func (b *RmapBatch) Overlaps(start, end uint64) iter.Seq2[Rmap, error] {
	return btree.BatchOverlaps(b.b, start, end)
}

// Map is as [RmapTree.Map]. If it fails, the batch is as before.
func (b *RmapBatch) Map(r Rmap) error {
	if err := r.Validate(); err != nil {
		return err
	}
	return b.try("map", r, b.mapOne)
}

// Unmap is as [RmapTree.Unmap]. If it fails, the batch is as before.
func (b *RmapBatch) Unmap(r Rmap) error {
	if err := r.Validate(); err != nil {
		return err
	}
	return b.try("unmap", r, b.unmapOne)
}

// Convert is as [RmapTree.Convert]. If it fails, the batch is as before.
func (b *RmapBatch) Convert(r Rmap) error {
	to := r
	to.Offset ^= OffsetUnwritten
	if err := errors.Join(r.Validate(), to.Validate()); err != nil {
		return err
	}
	return b.try("convert", r, func(r Rmap) error {
		if err := b.unmapOne(r); err != nil {
			return err
		}
		return b.mapOne(to)
	})
}

func (b *RmapBatch) try(what string, r Rmap, change func(Rmap) error) error {
	if err := b.b.Try(func() error { return change(r) }); err != nil {
		return fmt.Errorf("%s %v: %w", what, r, err)
	}
	return nil
}

// mapOne adds r, which is valid.
func (b *RmapBatch) mapOne(r Rmap) error {
	l := lineOf(&r)
	left, err := b.leftOf(r, l)
	if err != nil {
		return err
	}
	right, joined, err := b.b.Get(keyOf(l.rmap(r.End(), r.End()))) // a key does not depend on the length
	if err != nil {
		return err
	}
	if joined && lineOf(&right) == l {
		if _, err := b.b.Delete(keyOf(right)); err != nil {
			return err
		}
		r.BlockCount += right.BlockCount
	}
	if left.BlockCount != 0 {
		left.BlockCount += r.BlockCount
		_, err := b.b.Replace(left)
		return err
	}
	return b.b.Insert(r)
}

// leftOf returns the record on the line that ends where r begins, or no blocks.
// It refuses r if the blocks are mapped already.
func (b *RmapBatch) leftOf(r Rmap, l line) (left Rmap, err error) {
	for o, err := range b.Overlaps(max(uint64(r.StartBlock), 1)-1, r.End()) {
		if err != nil {
			return left, err
		}
		if o.Owner != r.Owner {
			continue
		}
		switch ol := lineOf(&o); {
		case o.End() == uint64(r.StartBlock):
			if ol == l {
				left = o
			}
		case ol.place&^OffsetUnwritten == l.place&^OffsetUnwritten && o.End() > uint64(r.StartBlock):
			return left, fmt.Errorf("%v: %w", o, ErrMapped)
		}
	}
	return left, nil
}

// unmapOne removes r, which is valid.
func (b *RmapBatch) unmapOne(r Rmap) error {
	l := lineOf(&r)
	pieces, err := b.pieces(r, l)
	if err != nil {
		return err
	}
	at := uint64(r.StartBlock)
	for _, p := range pieces {
		if uint64(p.StartBlock) > at {
			break
		}
		at = max(at, p.End())
	}
	if at < r.End() {
		return fmt.Errorf("block %d: %w", at, ErrNotMapped)
	}
	for _, p := range pieces {
		if p.StartBlock < r.StartBlock {
			_, err = b.b.Replace(l.rmap(uint64(p.StartBlock), uint64(r.StartBlock)))
		} else if _, err = b.b.Delete(keyOf(p)); err == nil {
			err = b.closeUp(p)
		}
		if err == nil && p.End() > r.End() {
			err = b.b.Insert(l.rmap(r.End(), p.End()))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// closeUp merges the records between which p stood in key order, if they
// continue one another: [RmapTree.Load] joins only what nothing stands between.
func (b *RmapBatch) closeUp(p Rmap) error {
	left, ok, err := b.b.LE(keyOf(p))
	if err != nil || !ok {
		return err
	}
	l := lineOf(&left)
	right, ok, err := b.b.Get(keyOf(l.rmap(left.End(), left.End())))
	if err != nil || !ok || lineOf(&right) != l {
		return err
	}
	if _, err := b.b.Delete(keyOf(right)); err != nil {
		return err
	}
	left.BlockCount += right.BlockCount
	_, err = b.b.Replace(left)
	return err
}

// pieces returns the records of the line with blocks of r, in order.
func (b *RmapBatch) pieces(r Rmap, l line) ([]Rmap, error) {
	// Mostly there is one, and it is the last one not greater than r.
	o, ok, err := b.b.LE(keyOf(r))
	if err != nil {
		return nil, err
	}
	if ok && lineOf(&o) == l && o.End() >= r.End() {
		return []Rmap{o}, nil
	}
	var all []Rmap
	for o, err := range b.Overlaps(uint64(r.StartBlock), r.End()) {
		if err != nil {
			return nil, err
		}
		if lineOf(&o) == l {
			all = append(all, o)
		}
	}
	return all, nil
}
