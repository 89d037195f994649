package scrub

import (
	"iter"

	"github.com/scrubd/scrubd/scrub/confirm"
	"github.com/scrubd/scrubd/scrub/verdict"
)

// sweepSpace compares what the rmapbt owns of an AG with what the bnobt has
// free and yields every stretch that both or neither of them has. Owned and
// free are sorted by start; owned may overlap, as shared extents do.
func sweepSpace(length uint32, owned, free iter.Seq2[verdict.Range, error]) iter.Seq2[conflict, error] {
	return func(yield func(conflict, error) bool) {
		nextOwned, stopOwned := iter.Pull2(joined(owned))
		defer stopOwned()
		nextFree, stopFree := iter.Pull2(joined(free))
		defer stopFree()
		o := stretch{next: nextOwned}
		f := stretch{next: nextFree}
		if !o.advance(yield) || !f.advance(yield) {
			return
		}
		for at := uint64(0); at < uint64(length); {
			end := min(o.edge(at), f.edge(at), uint64(length))
			inOwned, inFree := o.has(at), f.has(at)
			if inOwned == inFree {
				c := conflict{kind: confirm.Neither, Range: verdict.Range{Start: uint32(at), Count: uint32(end - at)}}
				if inOwned {
					c.kind = confirm.OwnedFree
				}
				if !yield(c, nil) {
					return
				}
			}
			at = end
			for o.end <= at && !o.done {
				if !o.advance(yield) {
					return
				}
			}
			for f.end <= at && !f.done {
				if !f.advance(yield) {
					return
				}
			}
		}
	}
}

// conflict is a stretch of blocks that rmapbt and bnobt disagree about.
type conflict struct {
	verdict.Range
	kind confirm.Conflict
}

// stretch is the current range of one side of a sweep.
type stretch struct {
	next       func() (verdict.Range, error, bool)
	start, end uint64
	done       bool
}

// advance moves to the next range; false means that the sweep is over.
func (s *stretch) advance(yield func(conflict, error) bool) bool {
	r, err, ok := s.next()
	if !ok {
		s.done = true
		return true
	}
	if err != nil {
		yield(conflict{}, err)
		return false
	}
	s.start, s.end = uint64(r.Start), uint64(r.Start)+uint64(r.Count)
	return true
}

func (s *stretch) has(at uint64) bool { return !s.done && s.start <= at && at < s.end }

// edge is the next block after at where the answer of has may change.
func (s *stretch) edge(at uint64) uint64 {
	switch {
	case s.done:
		return ^uint64(0)
	case at < s.start:
		return s.start
	default:
		return s.end
	}
}

// joined merges sorted ranges that overlap or touch.
func joined(in iter.Seq2[verdict.Range, error]) iter.Seq2[verdict.Range, error] {
	return func(yield func(verdict.Range, error) bool) {
		var start, end uint64
		for r, err := range in {
			if err != nil {
				yield(verdict.Range{}, err)
				return
			}
			lo, hi := uint64(r.Start), uint64(r.Start)+uint64(r.Count)
			if lo <= end && end > start {
				end = max(end, hi)
				continue
			}
			if end > start && !yield(verdict.Range{Start: uint32(start), Count: uint32(end - start)}, nil) {
				return
			}
			start, end = lo, hi
		}
		if end > start {
			yield(verdict.Range{Start: uint32(start), Count: uint32(end - start)}, nil)
		}
	}
}
