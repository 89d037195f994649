package witness

import (
	"context"
	"fmt"
	"iter"
	"math"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/shadow"
)

// RmapView streams the rmapbt of one group.
//
// Shape: batches in the order of [shadow.Compare], neither coalesced nor cut;
// the slice is used again for the next batch. FREE stretches are left out. Every
// record comes once, wherever batches end and whatever overlaps. Records that
// a damaged tree has in the wrong place are sorted in.
// Batch: one kernel call of up to buf.Cap() records; each is one picture of the
// group, the stream is none.
// Errors: [*CorruptError] if the tree cannot be read there ([ReadableRmaps] reads
// around it); [ioctl.ErrNotSupported] without rmapbt; [ErrMalformed]; [ErrStuck];
// ctx's. An error is the last thing that comes, with no records.
// Source: man 2 ioctl_getfsmap.
func RmapView(ctx context.Context, fs *ioctl.FS, agno ioctl.AGNumber, buf *ioctl.FSMapBuffer) iter.Seq2[[]shadow.Rmap, error] {
	return viewOf(ctx, fs, func() (group, error) { return rmapGroup(fs, agno) }, buf, (*group).rmap)
}

// RecordView is [RmapView] with the marks of the refcountbt.
func RecordView(ctx context.Context, fs *ioctl.FS, agno ioctl.AGNumber, buf *ioctl.FSMapBuffer) iter.Seq2[[]Record, error] {
	return viewOf(ctx, fs, func() (group, error) { return rmapGroup(fs, agno) }, buf, (*group).record)
}

func viewOf[T any](ctx context.Context, fs *ioctl.FS, find func() (group, error), buf *ioctl.FSMapBuffer, convert func(*group, *ioctl.FSMapRecord) (T, error)) iter.Seq2[[]T, error] {
	return func(yield func([]T, error) bool) {
		g, err := find()
		if err != nil {
			yield(nil, err)
			return
		}
		r := newRmapReader(fs, g, 0, g.length, buf)
		out := make([]T, 0, buf.Cap())
		for !r.done {
			if err := ctx.Err(); err != nil {
				yield(nil, err)
				return
			}
			recs, err := r.next()
			out = out[:0]
			for i := 0; i < len(recs) && err == nil; i++ {
				var m T
				if m, err = convert(&g, &recs[i]); err == nil {
					out = append(out, m)
				}
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

// rmaps appends the conversions of recs to out.
func (g *group) rmaps(out []shadow.Rmap, recs []ioctl.FSMapRecord) ([]shadow.Rmap, error) {
	for i := range recs {
		m, err := g.rmap(&recs[i])
		if err != nil {
			return out, err
		}
		out = append(out, m)
	}
	return out, nil
}

// record converts a record with its mark.
func (g *group) record(r *ioctl.FSMapRecord) (Record, error) {
	m, err := g.rmap(r)
	return Record{Rmap: m, Shared: r.Flags&ioctl.FSMapShared != 0}, err
}

func rmapGroup(fs *ioctl.FS, agno ioctl.AGNumber) (group, error) {
	geo := fs.Geometry()
	if !geo.Has(ioctl.FlagRmapbt) {
		return group{}, fmt.Errorf("read rmapbt of AG %d of %s: %w", agno, fs.Path(),
			&ioctl.UnsupportedFeatureError{Feature: "rmapbt", Reason: "this filesystem was made without it"})
	}
	return groupOf(fs, agno)
}

// Record is what one rmapbt record says, and what the refcountbt says about its
// blocks.
type Record struct {
	shadow.Rmap
	// Shared is set if any block of the record is in a SHARED refcount record.
	// The kernel looks only for written data extents of inodes, and only on
	// filesystems with reflink.
	Shared bool
}

// RmapWindow appends to out every rmapbt record that touches blocks [start,
// start+count) of the group, whole, in the order of [shadow.Compare], and
// returns it.
//
// Batch: if no more than buf.Cap() records (FREE stretches included) answer,
// they are one picture of the group's rmapbt and refcountbt; else several
// calls are made.
// Errors: as for [RmapView]; [ErrRange] for a window that is empty or not inside
// of the group. out is returned with what was read before the error.
func RmapWindow(fs *ioctl.FS, agno ioctl.AGNumber, start, count ioctl.AGBlock, buf *ioctl.FSMapBuffer, out []Record) ([]Record, error) {
	g, err := rmapGroup(fs, agno)
	if err != nil {
		return out, err
	}
	out, _, err = rmapWindow(fs, g, start, count, buf, out, math.MaxInt)
	return out, err
}

// RmapPicture is [RmapWindow] in one call: whole is false where that does not hold
// all of the window.
func RmapPicture(fs *ioctl.FS, agno ioctl.AGNumber, start, count ioctl.AGBlock, buf *ioctl.FSMapBuffer, out []Record) (recs []Record, whole bool, err error) {
	g, err := rmapGroup(fs, agno)
	if err != nil {
		return out, false, err
	}
	return rmapWindow(fs, g, start, count, buf, out, 1)
}

func rmapWindow(fs *ioctl.FS, g group, start, count ioctl.AGBlock, buf *ioctl.FSMapBuffer, out []Record, calls int) (_ []Record, whole bool, err error) {
	if err := g.checkWindow(start, count); err != nil {
		return out, false, err
	}
	r := newRmapReader(fs, g, uint64(start), uint64(count), buf)
	for ; !r.done && calls > 0; calls-- {
		recs, err := r.next()
		if err != nil {
			return out, false, err
		}
		for i := range recs {
			m, err := g.record(&recs[i])
			if err != nil {
				return out, false, err
			}
			out = append(out, m)
		}
	}
	return out, r.done, nil
}

func (g *group) checkWindow(start, count ioctl.AGBlock) error {
	if count == 0 || uint64(start)+uint64(count) > g.length {
		return fmt.Errorf("window of %d blocks at block %d of %s (%d blocks): %w", count, start, g, g.length, ErrRange)
	}
	return nil
}
