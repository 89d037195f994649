package walk

import (
	"fmt"
	"iter"
	"sort"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/shadow"
	"github.com/scrubd/scrubd/xfile"
)

// Shared is a run of blocks of one group, of either device, that GETBMAPX has called shared, in the
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
func (d *device) addShared(e extent) error {
	m := Shared{
		AGNo:  ioctl.AGNumber(e.start / d.space.agblocks),
		Start: uint32(e.start % d.space.agblocks), Count: uint32(min(e.count, d.space.agblocks-e.start%d.space.agblocks)),
	}
	if n := len(d.marks); n > 0 {
		last := &d.marks[n-1]
		if last.AGNo == m.AGNo && uint64(last.Start)+uint64(last.Count) == uint64(m.Start) {
			last.Count += m.Count
			return nil
		}
	}
	if d.marks == nil {
		d.marks = make([]Shared, 0, sharedBatch)
	}
	d.marks = append(d.marks, m)
	if len(d.marks) < sharedBatch {
		return nil
	}
	return d.flushShared()
}

func (d *device) flushShared() error {
	if err := d.shared.Append(d.marks); err != nil {
		return fmt.Errorf("keep shared blocks: %w", err)
	}
	d.marks = d.marks[:0]
	return nil
}

// SharedIn yields the blocks of a group that GETBMAPX called shared, as
// [shadow.DiffShared] takes them: sorted by start, overlapping where several
// inodes have them. The slice is reused.
func (r *Result) SharedIn(agno ioctl.AGNumber) iter.Seq2[[]shadow.Range, error] {
	return sharedIn(r.Shared, agno)
}

// RTSharedIn is SharedIn of a realtime group.
func (r *Result) RTSharedIn(rgno ioctl.RGNumber) iter.Seq2[[]shadow.Range, error] {
	return sharedIn(r.RTShared, ioctl.AGNumber(rgno))
}

func sharedIn(marks *xfile.Array[Shared], agno ioctl.AGNumber) iter.Seq2[[]shadow.Range, error] {
	return func(yield func([]shadow.Range, error) bool) {
		var failed error
		at := int64(sort.Search(int(marks.Len()), func(i int) bool {
			m, err := marks.Get(int64(i))
			if err != nil {
				failed = err
			}
			return m.AGNo >= agno
		}))
		out := make([]shadow.Range, 0, sharedBatch)
		for more := true; more && failed == nil; {
			out = out[:0]
			for more && len(out) < cap(out) {
				if more = at < marks.Len(); !more {
					break
				}
				m, err := marks.Get(at)
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
			yield(nil, fmt.Errorf("read shared blocks of group %d: %w", agno, failed))
		}
	}
}
