package witness

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/shadow"
)

// Range is a run of blocks of a group.
type Range struct{ Start, Count uint32 }

// End is the block behind the range.
func (r Range) End() uint64 { return uint64(r.Start) + uint64(r.Count) }

// readableGrains is in how many windows a group is cut at most to look for what
// can still be read. Each window that cannot be read costs a call, and a line in
// the kernel's log; the edges are then looked for block by block.
const readableGrains = 256

// ReadableRmaps reads what can be read of a group's rmapbt when [RmapView] fails
// with a [*CorruptError]: it calls emit for the records and returns the block
// ranges that no query could cover.
//
// Shape: records as from [RmapView], in order, each once, those that reach into
// an unreadable range included. The ranges are sorted, apart from one another,
// and exact to the block at their outer edges; a range that is shorter than
// 1/256 of the group and lies inside of a longer unreadable one may hide in it.
// An empty result means that everything could be read.
// Errors: emit's; as for [RmapView], except [*CorruptError].
func ReadableRmaps(ctx context.Context, fs *ioctl.FS, agno ioctl.AGNumber, buf *ioctl.FSMapBuffer,
	emit func([]shadow.Rmap) error,
) ([]Range, error) {
	g, err := rmapGroup(fs, agno)
	if err != nil {
		return nil, err
	}
	return readableRmaps(ctx, fs, g, buf, emit)
}

func readableRmaps(ctx context.Context, fs *ioctl.FS, g group, buf *ioctl.FSMapBuffer, emit func([]shadow.Rmap) error) ([]Range, error) {
	s := &salvage{ctx: ctx, fs: fs, group: g, buf: buf, emit: emit, grain: max(1, g.length/readableGrains)}
	if err := s.read(0, g.length); err != nil {
		return nil, err
	}
	return s.bad, nil
}

// salvage reads a group window by window, in ascending order.
type salvage struct {
	ctx   context.Context
	fs    *ioctl.FS
	group group
	buf   *ioctl.FSMapBuffer
	emit  func([]shadow.Rmap) error
	grain uint64

	last recordKey // of the last record emitted
	any  bool
	out  []shadow.Rmap
	bad  []Range
}

// read emits what touches blocks [start, end), in halves if it must.
func (s *salvage) read(start, end uint64) error {
	reached, err := s.window(start, end)
	if err != nil || reached == end {
		return err
	}
	start = reached
	if end-start <= s.grain {
		return s.edges(start, end)
	}
	mid := start + (end-start)/2
	if err := s.read(start, mid); err != nil {
		return err
	}
	if err := s.border(mid); err != nil {
		return err
	}
	return s.read(mid, end)
}

// border marks the blocks on both sides of a cut if each can be read and both
// together cannot: a record without blocks begins there, which touches neither.
func (s *salvage) border(at uint64) error {
	if Unreadable(s.bad, uint32(at-1), 1) {
		return nil
	}
	if ok, err := s.probe(at-1, at+1); ok || err != nil {
		return err
	}
	ok, err := s.probe(at, at+1)
	if ok && err == nil {
		s.markBad(at-1, at+1)
	}
	return err
}

// window emits what touches blocks [start, end) and returns end, or the block
// from which on it could not be read.
func (s *salvage) window(start, end uint64) (reached uint64, err error) {
	if err := s.ctx.Err(); err != nil {
		return start, err
	}
	r := newRmapReader(s.fs, s.group, start, end-start, s.buf)
	// Known records sort at or before the last one emitted: an earlier window
	// that touches a record has emitted all that sort before it and reach here.
	r.last, r.any = s.last, s.any
	for !r.done {
		recs, err := r.next()
		var corrupt *CorruptError
		if errors.As(err, &corrupt) {
			return max(start, uint64(corrupt.Reached)), nil
		}
		if err != nil {
			return start, err
		}
		if len(recs) == 0 {
			continue
		}
		if s.out, err = s.group.rmaps(s.out[:0], recs); err != nil {
			return start, err
		}
		s.last, s.any = keyOf(&recs[len(recs)-1]), true
		if err := s.emit(s.out); err != nil {
			return start, fmt.Errorf("take readable rmaps of %s: %w", &s.group, err)
		}
	}
	return end, nil
}

// edges finds the unreadable run in a window of one grain, by halving: the
// longest prefix and the longest suffix that can be read. What lies between them
// counts as unreadable as a whole.
func (s *salvage) edges(start, end uint64) error {
	for start < end {
		first, err := s.firstBad(start, end)
		if err != nil {
			return err
		}
		if first > start {
			reached, err := s.window(start, first)
			if err != nil {
				return err
			}
			if reached < first {
				s.markBad(reached, end) // it has got worse meanwhile
				return nil
			}
		}
		if first == end {
			return nil // it has got better
		}
		alone, err := s.probe(first, first+1)
		if err != nil {
			return err
		}
		if alone && first > start {
			s.markBad(first-1, first+1) // a border, see there
			start = first
			continue
		}
		behind, err := s.firstGood(first+1, end)
		if err != nil {
			return err
		}
		s.markBad(first, behind)
		start = behind
	}
	return nil
}

// firstBad returns the last block of the shortest window from start on that
// cannot be read, end if all of it can.
func (s *salvage) firstBad(start, end uint64) (uint64, error) {
	low, high := start, end
	for low < high {
		mid := low + (high-low)/2
		ok, err := s.probe(start, mid+1)
		if err != nil {
			return 0, err
		}
		if ok {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low, nil
}

// firstGood returns the first block of the longest window up to end that can be
// read, end if there is none.
func (s *salvage) firstGood(start, end uint64) (uint64, error) {
	low, high := start, end
	for low < high {
		mid := low + (high-low)/2
		ok, err := s.probe(mid, end)
		if err != nil {
			return 0, err
		}
		if ok {
			high = mid
		} else {
			low = mid + 1
		}
	}
	return low, nil
}

// probe tells whether everything that touches blocks [start, end) can be read.
func (s *salvage) probe(start, end uint64) (bool, error) {
	if err := s.ctx.Err(); err != nil {
		return false, err
	}
	r := newRmapReader(s.fs, s.group, start, end-start, s.buf)
	for !r.done {
		if _, err := r.next(); err != nil {
			if errors.Is(err, ioctl.ErrCorrupt) {
				return false, nil
			}
			return false, err
		}
	}
	return true, nil
}

// markBad adds blocks [start, end), which begin at or behind the start of the last
// ones.
func (s *salvage) markBad(start, end uint64) {
	end = min(end, s.group.length)
	if n := len(s.bad); n > 0 && s.bad[n-1].End() >= start {
		last := &s.bad[n-1]
		last.Count = uint32(max(end, last.End()) - uint64(last.Start))
		return
	}
	s.bad = append(s.bad, Range{Start: uint32(start), Count: uint32(end - start)})
}

// Unreadable tells whether any block of [start, start+count) lies in one of the
// sorted ranges.
func Unreadable(ranges []Range, start, count uint32) bool {
	i, _ := slices.BinarySearchFunc(ranges, start, func(r Range, start uint32) int {
		if r.End() <= uint64(start) {
			return -1
		}
		return 1
	})
	return i < len(ranges) && uint64(ranges[i].Start) < uint64(start)+uint64(count)
}
