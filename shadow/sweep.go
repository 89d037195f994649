package shadow

import (
	"fmt"
	"iter"

	"github.com/scrubd/scrubd/shadow/btree"
)

// sweepBatch is how many records the sweeps yield at a time.
const sweepBatch = 512

// Refcounts derives the records of the shared domain of a refcount btree from
// reverse mappings sorted by [Compare]: for every run of blocks with at least two
// owners, how many. Only mappings that can be shared count: written blocks of
// data forks.
//
// Runs with the same count are one record also where one owner ends and another
// begins. Counts stop at [MaxRefcount]. The mappings need not be merged, and
// one that is there twice counts twice. The slice is reused.
//
// The bag of mappings that cover the sweep's position lives in pages, to which
// the sweep has the sole right until it ends. If sharers is not nil, the inodes
// with shared blocks are added to it: those that must carry the reflink flag.
// Errors: [ErrUnsorted], [ErrBadRecord], the stream's own, lack of space. After
// an error nothing more comes.
// Source: fs/xfs/scrub/refcount_repair.c.
func Refcounts(rmaps iter.Seq2[[]Rmap, error], pages btree.Pages, sharers *InodeSet) iter.Seq2[[]Refcount, error] {
	return func(yield func([]Refcount, error) bool) {
		bag, err := NewBag(pages)
		if err != nil {
			yield(nil, err)
			return
		}
		s := sweep{bag: bag, sharers: sharers, yield: yield, out: make([]Refcount, 0, sweepBatch)}
		if err := s.run(rmaps); err != nil && !s.stopped {
			yield(nil, fmt.Errorf("derive refcounts: %w", err))
		}
	}
}

// sweep walks over the blocks and stops where a mapping begins or ends.
type sweep struct {
	bag     *Bag
	sharers *InodeSet
	yield   func([]Refcount, error) bool
	out     []Refcount
	stopped bool

	start uint64 // of the run with the present height
	count uint64 // height of that run
	lone  uint64 // the owner of the only mapping in the bag
	noted bool   // that owner is among the sharers
}

func (s *sweep) run(rmaps iter.Seq2[[]Rmap, error]) error {
	var prev Rmap
	at := uint64(0) // mappings that begin here are being added
	for batch, err := range rmaps {
		if err != nil {
			return err
		}
		for i := range batch {
			r := &batch[i]
			if !r.IsShareable() {
				continue
			}
			if r.BlockCount == 0 || r.End() > maxRefcountBlock {
				return badRmap(*r, "no blocks, or blocks past the end of 31 bits")
			}
			if x := uint64(r.StartBlock); x != at {
				if err := s.settle(at); err != nil {
					return err
				}
				if x < at {
					return fmt.Errorf("%v comes after %v: %w", r, prev, ErrUnsorted)
				}
				if err := s.advance(x); err != nil {
					return err
				}
				at = x
			}
			if err := s.add(r); err != nil {
				return err
			}
			prev = *r
		}
	}
	if err := s.settle(at); err != nil {
		return err
	}
	if err := s.advance(noEdge); err != nil {
		return err
	}
	if len(s.out) > 0 {
		s.yield(s.out, nil)
	}
	return nil
}

// advance goes over all ends of mappings up to x. What ends at x itself leaves
// the bag, but the run goes on until it is known what begins there.
func (s *sweep) advance(x uint64) error {
	for {
		end, ok := s.bag.NextEnd()
		if !ok || end > x {
			return nil
		}
		if _, err := s.bag.RemoveEnding(end); err != nil {
			return err
		}
		if s.bag.Height() == 1 {
			s.noted = true // the one that is left was one of several
		}
		if end < x {
			if err := s.settle(end); err != nil {
				return err
			}
		}
	}
}

// add puts a mapping into the bag and notes its owner if it is not alone.
func (s *sweep) add(r *Rmap) error {
	if err := s.bag.Add(Range{r.StartBlock, r.BlockCount}); err != nil {
		return err
	}
	if s.sharers == nil {
		return nil
	}
	if s.bag.Height() == 1 {
		s.lone, s.noted = r.Owner, false
		return nil
	}
	if !s.noted {
		s.noted = true
		if err := s.sharers.Add(s.lone); err != nil {
			return err
		}
	}
	return s.sharers.Add(r.Owner)
}

// settle ends the run before x if the height has changed.
func (s *sweep) settle(x uint64) error {
	h := s.bag.Height()
	if h == s.count {
		return nil
	}
	if s.count >= 2 {
		r := Refcount{uint32(s.start), uint32(x - s.start), uint32(min(s.count, uint64(MaxRefcount)))}
		if err := s.emit(r); err != nil {
			return err
		}
	}
	s.start, s.count = x, h
	return nil
}

// emit yields a record; two with saturated counts may follow one another and are
// one.
func (s *sweep) emit(r Refcount) error {
	if n := len(s.out); n > 0 && s.out[n-1].joins(r) {
		s.out[n-1].BlockCount += r.BlockCount
		return nil
	}
	if n := len(s.out); n == cap(s.out) {
		if s.stopped = !s.yield(s.out[:n-1], nil); s.stopped {
			return errStopped
		}
		s.out[0] = s.out[n-1] // kept back: the next one may join it
		s.out = s.out[:1]
		return s.emit(r)
	}
	s.out = append(s.out, r)
	return nil
}

// CoWStaging derives the records of the staging domain of a refcount btree from
// reverse mappings sorted by [Compare]: the blocks of [OwnerCoW], neighbours
// joined. The slice is reused.
// Errors: [ErrUnsorted] also for mappings that overlap, [ErrBadRecord], the
// stream's own.
func CoWStaging(rmaps iter.Seq2[[]Rmap, error]) iter.Seq2[[]Refcount, error] {
	return func(yield func([]Refcount, error) bool) {
		s := sweep{yield: yield, out: make([]Refcount, 0, sweepBatch)}
		err := s.staging(rmaps)
		switch {
		case s.stopped:
		case err != nil:
			yield(nil, fmt.Errorf("derive staging extents: %w", err))
		case len(s.out) > 0:
			yield(s.out, nil)
		}
	}
}

func (s *sweep) staging(rmaps iter.Seq2[[]Rmap, error]) error {
	end := uint64(0)
	for batch, err := range rmaps {
		if err != nil {
			return err
		}
		for _, r := range batch {
			if r.Owner != OwnerCoW {
				continue
			}
			if r.BlockCount == 0 || r.End() > maxRefcountBlock {
				return badRmap(r, "no blocks, or blocks past the end of 31 bits")
			}
			if uint64(r.StartBlock) < end {
				return fmt.Errorf("%v: begins before the end of the one before: %w", r, ErrUnsorted)
			}
			end = r.End()
			if err := s.emit(Refcount{r.StartBlock | RefcountCoW, r.BlockCount, 1}); err != nil {
				return err
			}
		}
	}
	return nil
}
