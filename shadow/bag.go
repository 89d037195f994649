package shadow

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/scrubd/scrubd/shadow/btree"
)

// bagRec is one distinct extent of a bag.
type bagRec struct {
	end, start uint32
	count      uint64 // how many mappings of just this extent are in the bag
}

// bagKey orders extents by their end, so that those to leave next come first. An
// extent is found by its start and length as well: they give the end.
type bagKey struct{ end, start uint32 }

type bagPlain struct{}

func (bagPlain) Key(r bagRec) bagKey { return bagKey{r.end, r.start} }
func (bagPlain) Compare(a, b bagKey) int {
	if a.end != b.end {
		return cmp.Compare(a.end, b.end)
	}
	return cmp.Compare(a.start, b.start)
}

type bagOps struct {
	bagPlain
	btree.Plain[bagRec, bagKey, bagPlain]
}

func (k bagKey) word() uint64 { return uint64(k.end)<<32 | uint64(k.start) }

func (bagOps) Find(recs []bagRec, k bagKey) int {
	w, lo, n := k.word(), 0, len(recs)
	for n > 0 {
		half := n / 2
		if r := &recs[lo+half]; (bagKey{r.end, r.start}).word() < w {
			lo += half + 1
			n -= half + 1
		} else {
			n = half
		}
	}
	return lo
}

func (bagOps) Route(keys []bagKey, k bagKey) int {
	w, lo, n := k.word(), 0, len(keys)
	for n > 0 {
		half := n / 2
		if keys[lo+half].word() <= w {
			lo += half + 1
			n -= half + 1
		} else {
			n = half
		}
	}
	return lo
}

func (bagOps) Ascending(recs []bagRec) int {
	for i := 1; i < len(recs); i++ {
		if (bagKey{recs[i-1].end, recs[i-1].start}).word() >= (bagKey{recs[i].end, recs[i].start}).word() {
			return i
		}
	}
	return len(recs)
}

// bagFront is how many distinct extents a bag holds outside its tree.
const bagFront = 16

// Bag is a multiset of extents, for sweeps over mappings in order of their start:
// it holds those that cover the sweep's position. However many mappings of one
// extent are in it, they take one record, and leave with one deletion.
//
// The extents that end first are kept at hand, the others in a B+tree ordered by
// end: a step costs O(log m) for m distinct extents. It is for one goroutine.
type Bag struct {
	t      *btree.Tree[bagRec, bagKey, bagOps]
	front  [bagFront]bagRec // the last one ends first
	n      int              // of front
	behind uint64           // no extent in the tree ends before; MaxBlock+1: the tree is empty
	height uint64
	peak   int64
}

// ErrNotInBag means that an extent is not in the bag.
var ErrNotInBag = errors.New("the extent is not in the bag")

const noEdge = MaxBlock + 1

// NewBag makes an empty bag in pages, to which it has the sole right.
func NewBag(pages btree.Pages) (*Bag, error) {
	t, err := btree.New[bagRec, bagKey, bagOps](pages, 0)
	if err != nil {
		return nil, fmt.Errorf("make a bag: %w", err)
	}
	return &Bag{t: t, behind: noEdge}, nil
}

// Height returns how many mappings are in the bag.
func (b *Bag) Height() uint64 { return b.height }

// Distinct returns how many records the bag takes: one for each distinct extent,
// except that one that is at hand may be in the tree too.
func (b *Bag) Distinct() int64 { return int64(b.n) + b.t.Len() }

// Peak returns the most bytes that the blocks of the bag's tree have taken.
func (b *Bag) Peak() int64 { return b.peak }

// NextEnd returns the least end of an extent in the bag.
func (b *Bag) NextEnd() (uint64, bool) {
	end := b.behind
	if b.n > 0 {
		end = min(end, uint64(b.front[b.n-1].end))
	}
	return end, end != noEdge
}

// Add puts one mapping of an extent into the bag.
// Errors: [ErrBadRecord]; lack of space; the bag is as before then.
func (b *Bag) Add(r Range) error {
	if r.Len == 0 || r.End() > MaxBlock {
		return fmt.Errorf("add [%d,%d) to the bag: %w", r.Start, r.End(), ErrBadRecord)
	}
	k := bagKey{uint32(r.End()), r.Start}
	i := b.n
	for i > 0 && b.key(i-1).word() < k.word() {
		i--
	}
	if i > 0 && b.key(i-1) == k {
		b.front[i-1].count++
		b.height++
		return nil
	}
	rec := bagRec{k.end, k.start, 1}
	if b.n == bagFront {
		out := rec
		if i > 0 { // else the new one itself ends last
			out = b.front[0]
		}
		if err := b.spill(out); err != nil {
			return fmt.Errorf("add [%d,%d) to the bag: %w", r.Start, r.End(), err)
		}
		b.height++
		if i == 0 {
			return nil
		}
		copy(b.front[:i-1], b.front[1:i])
		b.front[i-1] = rec
		return nil
	}
	copy(b.front[i+1:b.n+1], b.front[i:b.n])
	b.front[i] = rec
	b.n++
	b.height++
	return nil
}

func (b *Bag) key(i int) bagKey { return bagKey{b.front[i].end, b.front[i].start} }

// spill moves a record to the tree.
func (b *Bag) spill(r bagRec) error {
	err := b.t.Insert(r)
	if errors.Is(err, btree.ErrExists) {
		var old bagRec
		if old, _, err = b.t.Get(bagKey{r.end, r.start}); err == nil {
			r.count += old.count
			_, err = b.t.Replace(r)
		}
	}
	if err != nil {
		return err
	}
	b.behind = min(b.behind, uint64(r.end))
	b.peak = max(b.peak, b.t.Bytes())
	return nil
}

// RemoveEnding takes all mappings out that end at a block and returns how many.
// Errors: [btree.ErrDamaged].
func (b *Bag) RemoveEnding(end uint64) (removed uint64, err error) {
	for b.n > 0 && uint64(b.front[b.n-1].end) == end {
		b.n--
		removed += b.front[b.n].count
	}
	for b.behind == end {
		first, _, err := b.t.First()
		if err == nil {
			_, err = b.t.Delete(bagKey{first.end, first.start})
		}
		if err == nil {
			removed += first.count
			err = b.refresh()
		}
		if err != nil {
			return 0, fmt.Errorf("take what ends at %d out of the bag: %w", end, err)
		}
	}
	b.height -= removed
	return removed, nil
}

// Remove takes one mapping of an extent out of the bag.
// Errors: [ErrNotInBag]; [btree.ErrDamaged].
func (b *Bag) Remove(r Range) error {
	k := bagKey{uint32(r.End()), r.Start}
	for i := range b.n {
		if b.key(i) != k {
			continue
		}
		if b.front[i].count--; b.front[i].count == 0 {
			copy(b.front[i:], b.front[i+1:b.n])
			b.n--
		}
		b.height--
		return nil
	}
	rec, ok, err := b.t.Get(k)
	switch {
	case err != nil:
	case !ok:
		err = ErrNotInBag
	case rec.count > 1:
		rec.count--
		_, err = b.t.Replace(rec)
	default:
		if _, err = b.t.Delete(k); err == nil {
			err = b.refresh()
		}
	}
	if err != nil {
		return fmt.Errorf("take [%d,%d) out of the bag: %w", r.Start, r.End(), err)
	}
	b.height--
	return nil
}

// refresh learns the least end in the tree.
func (b *Bag) refresh() error {
	first, ok, err := b.t.First()
	if err != nil {
		return err
	}
	b.behind = noEdge
	if ok {
		b.behind = uint64(first.end)
	}
	return nil
}
