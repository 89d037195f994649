package witness

import (
	"context"
	"fmt"
	"iter"
	"math"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/shadow"
)

// The views of a group of the realtime device. They are those of an AG, of
// another device: what GETFSMAP answers from the rtrmapbt, with the marks of the
// rtrefcountbt, and to a thread without CAP_SYS_ADMIN from the rtbitmap. One call
// holds the locks of the group's metadata files, so that its records are one
// picture as well. Free extents of the rtbitmap are cut to the window.
//
// Source: fs/xfs/xfs_fsmap.c (xfs_getfsmap_rtdev_rmapbt, xfs_getfsmap_rtdev_rtbitmap).

// RTRmapView streams the rtrmapbt of a realtime group, as [RmapView] does.
func RTRmapView(ctx context.Context, fs *ioctl.FS, rgno ioctl.RGNumber, buf *ioctl.FSMapBuffer) iter.Seq2[[]shadow.Rmap, error] {
	return viewOf(ctx, fs, func() (group, error) { return rtRmapGroup(fs, rgno) }, buf, (*group).rmap)
}

// RTRecordView is [RTRmapView] with the marks of the rtrefcountbt.
func RTRecordView(ctx context.Context, fs *ioctl.FS, rgno ioctl.RGNumber, buf *ioctl.FSMapBuffer) iter.Seq2[[]Record, error] {
	return viewOf(ctx, fs, func() (group, error) { return rtRmapGroup(fs, rgno) }, buf, (*group).record)
}

// RTRmapWindow is [RmapWindow] of a realtime group.
func RTRmapWindow(fs *ioctl.FS, rgno ioctl.RGNumber, start, count ioctl.AGBlock, buf *ioctl.FSMapBuffer, out []Record) ([]Record, error) {
	g, err := rtRmapGroup(fs, rgno)
	if err != nil {
		return out, err
	}
	out, _, err = rmapWindow(fs, g, start, count, buf, out, math.MaxInt)
	return out, err
}

// RTRmapPicture is [RmapPicture] of a realtime group.
func RTRmapPicture(fs *ioctl.FS, rgno ioctl.RGNumber, start, count ioctl.AGBlock, buf *ioctl.FSMapBuffer, out []Record) (recs []Record, whole bool, err error) {
	g, err := rtRmapGroup(fs, rgno)
	if err != nil {
		return out, false, err
	}
	return rmapWindow(fs, g, start, count, buf, out, 1)
}

// RTReadableRmaps is [ReadableRmaps] of a realtime group.
func RTReadableRmaps(ctx context.Context, fs *ioctl.FS, rgno ioctl.RGNumber, buf *ioctl.FSMapBuffer,
	emit func([]shadow.Rmap) error,
) ([]Range, error) {
	g, err := rtRmapGroup(fs, rgno)
	if err != nil {
		return nil, err
	}
	return readableRmaps(ctx, fs, g, buf, emit)
}

// RTFreeView streams the free space of a realtime group, as [FreeView] does.
// Errors: as for that; [*CorruptError] too for a group of a single realtime extent,
// of which the kernel tells nothing.
func RTFreeView(ctx context.Context, fs *ioctl.FS, view *ioctl.BnobtView, rgno ioctl.RGNumber, buf *ioctl.FSMapBuffer) iter.Seq2[[]Free, error] {
	return freeView(ctx, func() (group, error) { return rtFreeGroup(fs, rgno) }, view, buf)
}

// RTFreeWindow is [FreeWindow] of a realtime group.
//
// The kernel answers a query that lies in one realtime extent with nothing (Linux
// 7.2, fs/xfs/libxfs/xfs_rtbitmap.c, xfs_rtalloc_query_range), so that a window gets
// one more, and what touches only that is left out.
func RTFreeWindow(fs *ioctl.FS, view *ioctl.BnobtView, rgno ioctl.RGNumber, start, count ioctl.AGBlock,
	buf *ioctl.FSMapBuffer, out []Free,
) ([]Free, error) {
	g, err := rtFreeGroup(fs, rgno)
	if err != nil {
		return out, err
	}
	if err := g.checkWindow(start, count); err != nil {
		return out, err
	}
	lo, hi := uint64(start), uint64(start)+uint64(count)
	if hi += g.unit; hi > g.length {
		hi = g.length
		lo -= min(lo, g.unit)
	}
	all, err := freeWindow(view, g, ioctl.AGBlock(lo), ioctl.AGBlock(hi-lo), buf, nil)
	for _, f := range all {
		if f.End() > uint64(start) && uint64(f.Start) < uint64(start)+uint64(count) {
			out = append(out, f)
		}
	}
	return out, err
}

func rtRmapGroup(fs *ioctl.FS, rgno ioctl.RGNumber) (group, error) {
	if !fs.Geometry().HasRTRmapbt() {
		return group{}, fmt.Errorf("read rtrmapbt of rtgroup %d of %s: %w", rgno, fs.Path(),
			&ioctl.UnsupportedFeatureError{Feature: "rtrmapbt", Reason: "this filesystem was made without it"})
	}
	return rtGroupOf(fs, rgno)
}

// rtFreeGroup is a group whose free space GETFSMAP can be asked for. Of a single
// realtime extent it says nothing, which is not to be taken for no free space.
func rtFreeGroup(fs *ioctl.FS, rgno ioctl.RGNumber) (group, error) {
	g, err := rtGroupOf(fs, rgno)
	if err == nil && g.length <= g.unit {
		err = &CorruptError{AGNo: g.agno, Realtime: true, Err: fmt.Errorf("%w: GETFSMAP tells nothing of a single realtime extent", ioctl.ErrCorrupt)}
	}
	return g, err
}

func rtGroupOf(fs *ioctl.FS, rgno ioctl.RGNumber) (group, error) {
	geo := fs.Geometry()
	length := geo.RGLength(rgno)
	if length == 0 || !geo.RTGrouped() {
		return group{}, fmt.Errorf("rtgroup %d of %d: %w", rgno, geo.RTGroups(), ErrRange)
	}
	dev, err := fs.FSMapRTDevice()
	if err != nil {
		return group{}, err
	}
	return group{
		dev: dev, rt: true, agno: ioctl.AGNumber(rgno),
		first: uint64(rgno) * geo.RGBlocks(), length: length, shift: uint(geo.BlockLog()), unit: uint64(geo.RTExtSize),
		refresh: func() uint64 {
			now, err := fs.RefreshGeometry(context.Background())
			if err != nil {
				return 0 // what the kernel said first stands
			}
			return now.RGLength(rgno)
		},
	}, nil
}
