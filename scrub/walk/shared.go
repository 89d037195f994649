package walk

import (
	"fmt"
	"iter"
	"sort"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/shadow"
)

// Shared is a run of blocks of one group that GETBMAPX has called shared, in the
// fork of some inode: every block is in the refcountbt. Of inodes without the
// reflink flag the kernel never says so.
type Shared struct {
	AGNo         ioctl.AGNumber
	Start, Count uint32
	_            uint32
}

// sharedBatch is how many of them wait for one Append.
const sharedBatch = 512

// addShared notes an extent that lies on the device and is shared.
func (w *worker) addShared(e extent) error {
	m := Shared{
		AGNo:  ioctl.AGNumber(e.start / w.space.agblocks),
		Start: uint32(e.start % w.space.agblocks), Count: uint32(min(e.count, w.space.agblocks-e.start%w.space.agblocks)),
	}
	if n := len(w.marks); n > 0 {
		last := &w.marks[n-1]
		if last.AGNo == m.AGNo && uint64(last.Start)+uint64(last.Count) == uint64(m.Start) {
			last.Count += m.Count
			return nil
		}
	}
	w.marks = append(w.marks, m)
	if len(w.marks) < sharedBatch {
		return nil
	}
	return w.flushShared()
}

func (w *worker) flushShared() error {
	if err := w.res.Shared.Append(w.marks); err != nil {
		return fmt.Errorf("keep shared blocks: %w", err)
	}
	w.marks = w.marks[:0]
	return nil
}

// SharedIn yields the blocks of a group that GETBMAPX called shared, as
// [shadow.DiffShared] takes them: sorted by start, overlapping where several
// inodes have them. The slice is reused.
func (r *Result) SharedIn(agno ioctl.AGNumber) iter.Seq2[[]shadow.Range, error] {
	return func(yield func([]shadow.Range, error) bool) {
		var failed error
		at := int64(sort.Search(int(r.Shared.Len()), func(i int) bool {
			m, err := r.Shared.Get(int64(i))
			if err != nil {
				failed = err
			}
			return m.AGNo >= agno
		}))
		out := make([]shadow.Range, 0, sharedBatch)
		for more := true; more && failed == nil; {
			out = out[:0]
			for more && len(out) < cap(out) {
				if more = at < r.Shared.Len(); !more {
					break
				}
				m, err := r.Shared.Get(at)
				if err != nil {
					failed = err
					break
				}
				if more = m.AGNo == agno; more {
					out = append(out, shadow.Range{Start: m.Start, Len: m.Count})
					at++
				}
			}
			if failed == nil && len(out) > 0 && !yield(out, nil) {
				return
			}
		}
		if failed != nil {
			yield(nil, fmt.Errorf("read shared blocks of AG %d: %w", agno, failed))
		}
	}
}
