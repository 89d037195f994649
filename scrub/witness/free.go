package witness

import (
	"context"
	"fmt"
	"iter"

	"github.com/scrubd/scrubd/ioctl"
)

// Free is a free extent of a group, in fs blocks: what one bnobt record says.
type Free struct{ Start, Count uint32 }

// End is the block behind the extent.
func (f Free) End() uint64 { return uint64(f.Start) + uint64(f.Count) }

// FreeView streams the bnobt of one group, as GETFSMAP shows it to a thread
// without CAP_SYS_ADMIN: view must be one of fs.
//
// Shape: batches in the order of start block, as the records are in the tree:
// adjacent ones are not joined, and in a damaged tree they may overlap. The slice
// is used again for the next batch. Every record comes once.
// Batch: as for [RmapView].
// Errors: [*CorruptError] if the tree cannot be read; [ErrMalformed]; [ErrStuck];
// ctx's. An error is the last thing that comes.
func FreeView(ctx context.Context, fs *ioctl.FS, view *ioctl.BnobtView, agno ioctl.AGNumber, buf *ioctl.FSMapBuffer) iter.Seq2[[]Free, error] {
	return freeView(ctx, func() (group, error) { return groupOf(fs, agno) }, view, buf)
}

func freeView(ctx context.Context, find func() (group, error), view *ioctl.BnobtView, buf *ioctl.FSMapBuffer) iter.Seq2[[]Free, error] {
	return func(yield func([]Free, error) bool) {
		g, err := find()
		if err != nil {
			yield(nil, err)
			return
		}
		r := newFreeReader(view, g, 0, g.length, buf)
		out := make([]Free, 0, buf.Cap())
		for !r.done {
			if err := ctx.Err(); err != nil {
				yield(nil, err)
				return
			}
			recs, err := r.next()
			if err == nil {
				out, err = g.frees(out[:0], recs)
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if len(out) > 0 && !yield(out, nil) {
				return
			}
		}
	}
}

// FreeWindow appends to out every bnobt record that touches blocks [start,
// start+count) of the group, whole, and returns it.
//
// Batch: one picture of the group's bnobt if no more than buf.Cap() records
// answer.
// Errors: as for [FreeView]; [ErrRange].
func FreeWindow(fs *ioctl.FS, view *ioctl.BnobtView, agno ioctl.AGNumber, start, count ioctl.AGBlock,
	buf *ioctl.FSMapBuffer, out []Free,
) ([]Free, error) {
	g, err := groupOf(fs, agno)
	if err != nil {
		return out, err
	}
	return freeWindow(view, g, start, count, buf, out)
}

func freeWindow(view *ioctl.BnobtView, g group, start, count ioctl.AGBlock, buf *ioctl.FSMapBuffer, out []Free) ([]Free, error) {
	if err := g.checkWindow(start, count); err != nil {
		return out, err
	}
	r := newFreeReader(view, g, uint64(start), uint64(count), buf)
	for !r.done {
		recs, err := r.next()
		if err != nil {
			return out, err
		}
		if out, err = g.frees(out, recs); err != nil {
			return out, err
		}
	}
	return out, nil
}

// newFreeReader reads what touches blocks [start, start+count) in the bnobt.
//
// The kernel rounds the end of a query of the rtbitmap up, to the last realtime
// extent that it touches, by adding to its last block. From the last block of a group
// whose size is a power of two that leads to the begin of the group, and the answer is
// nothing, or EINVAL (Linux 7.2). So the query ends with the first block of that extent.
//
// Source: fs/xfs/xfs_fsmap.c (xfs_getfsmap_rtdev_rtbitmap).
func newFreeReader(view *ioctl.BnobtView, g group, start, count uint64, buf *ioctl.FSMapBuffer) *reader {
	r := &reader{fs: view, group: g, buf: buf, gap: ioctl.FSMapOwnerUnknown}
	if g.unit > 1 {
		last := start + count - 1
		count = max(last-last%g.unit, start) - start + 1
	}
	r.setWindow(start, count)
	return r
}

// frees appends the conversions of recs to out.
func (g *group) frees(out []Free, recs []ioctl.FSMapRecord) ([]Free, error) {
	for i := range recs {
		rec := &recs[i]
		if !rec.Is(ioctl.FSMapOwnerFree) {
			return out, fmt.Errorf("read the free space of %s: %w", g, g.malformed(rec, "neither free nor unknown"))
		}
		start, count, err := g.extent(rec)
		if err != nil {
			return out, err
		}
		out = append(out, Free{Start: start, Count: count})
	}
	return out, nil
}
