package shadow

import (
	"fmt"
	"iter"
)

// Range is a run of blocks of one allocation group.
type Range struct {
	Start uint32
	Len   uint32 // >= 1, Start + Len <= MaxBlock
}

// End is the first block after the range.
func (r Range) End() uint64 { return uint64(r.Start) + uint64(r.Len) }

// RangeDifference is a maximal run of blocks that only one side has:
// DiffMissing if only the claims have it, DiffExtra if only the kernel has it.
type RangeDifference struct {
	Kind DiffKind
	Range
}

// String writes the difference in one line.
func (d RangeDifference) String() string {
	return fmt.Sprintf("%v: [%d,%d)", d.Kind, d.Start, d.End())
}

// DiffShared compares two sets of blocks, such as the blocks with several owners
// as the shadow counts them and as the kernel marks them, and yields the
// differences in order of start block.
//
// Shape: both streams are sorted by start; ranges may touch or overlap, each
// side stands for the union of its ranges.
// Errors: as for [Diff].
func DiffShared(claims, kernel iter.Seq2[[]Range, error]) iter.Seq2[RangeDifference, error] {
	return func(yield func(RangeDifference, error) bool) {
		var sides [2]rangeFeed
		sides[claimSide] = newRangeFeed("claims", claims)
		defer sides[claimSide].stop()
		sides[kernelSide] = newRangeFeed("kernel", kernel)
		defer sides[kernelSide].stop()
		if err := diffRanges(&sides, yield); err != nil {
			yield(RangeDifference{}, err)
		}
	}
}

func diffRanges(sides *[2]rangeFeed, yield func(RangeDifference, error) bool) error {
	a, b := &sides[claimSide], &sides[kernelSide]
	if err := a.advance(); err != nil {
		return err
	}
	if err := b.advance(); err != nil {
		return err
	}
	for a.ok || b.ok {
		// Of the two current intervals cut off what lies before the other one's
		// start or end; what is common to both is dropped.
		var d RangeDifference
		switch {
		case !b.ok || a.ok && a.start < b.start:
			d.Kind = DiffMissing
			d.Range = a.cut(limit(b))
		case !a.ok || b.start < a.start:
			d.Kind = DiffExtra
			d.Range = b.cut(limit(a))
		default:
			end := min(a.end, b.end)
			a.cut(end)
			b.cut(end)
		}
		if d.Kind != 0 && !yield(d, nil) {
			return nil
		}
		for _, f := range [...]*rangeFeed{a, b} {
			if f.ok && f.start == f.end {
				if err := f.advance(); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// limit is where the other side's current interval begins.
func limit(other *rangeFeed) uint64 {
	if !other.ok {
		return MaxBlock
	}
	return other.start
}

// rangeFeed turns one stream into maximal intervals.
type rangeFeed struct {
	name       string
	next       func() ([]Range, error, bool)
	stop       func()
	chunk      []Range
	prev       uint32
	start, end uint64 // the current interval, if ok
	ok         bool
}

func newRangeFeed(name string, seq iter.Seq2[[]Range, error]) rangeFeed {
	next, stop := iter.Pull2(seq)
	return rangeFeed{name: name, next: next, stop: stop}
}

// cut removes the blocks before end from the current interval.
func (f *rangeFeed) cut(end uint64) Range {
	end = min(end, f.end)
	r := Range{Start: uint32(f.start), Len: uint32(end - f.start)}
	f.start = end
	return r
}

// advance makes the next maximal interval current.
func (f *rangeFeed) advance() error {
	f.ok = false
	for {
		if len(f.chunk) == 0 {
			chunk, err, ok := f.next()
			if !ok {
				return nil
			}
			if err != nil {
				return fmt.Errorf("read %s: %w", f.name, err)
			}
			f.chunk = chunk
			continue
		}
		r := f.chunk[0]
		switch {
		case r.Len == 0:
			return fmt.Errorf("read %s: range at %d: no blocks: %w", f.name, r.Start, ErrBadRecord)
		case r.End() > MaxBlock:
			return fmt.Errorf("read %s: range [%d,%d): blocks past the end of 32 bits: %w", f.name, r.Start, r.End(), ErrBadRecord)
		case r.Start < f.prev:
			return fmt.Errorf("read %s: range at %d comes after one at %d: %w", f.name, r.Start, f.prev, ErrUnsorted)
		case f.ok && uint64(r.Start) > f.end:
			return nil
		case !f.ok:
			f.ok, f.start, f.end = true, uint64(r.Start), r.End()
		default:
			f.end = max(f.end, r.End())
		}
		f.prev = r.Start
		f.chunk = f.chunk[1:]
	}
}
