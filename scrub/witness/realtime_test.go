package witness_test

import (
	"math/bits"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/ioctl/ioctltest"
	"github.com/scrubd/scrubd/scrub/witness"
)

const rtDevice = 0xfffffffe // behind the data device

// rtBitmap answers GETFSMAP of a realtime device from bitmaps, as Linux 7.2 does:
// nothing where a query lies in one extent, the end of a query is rounded up within
// the bits of a block number.
//
// Source: fs/xfs/xfs_fsmap.c (xfs_getfsmap_rtdev_rtbitmap), libxfs/xfs_rtbitmap.c
// (xfs_rtalloc_query_range).
type rtBitmap struct {
	geo  *ioctl.Geometry
	free [][]bool // by group and realtime extent
}

func (b *rtBitmap) answer(req ioctltest.FSMapRequest) ([]ioctl.FSMapRecord, unix.Errno) {
	record := func(begin, end uint64, owner ioctl.FSMapOwner) ioctl.FSMapRecord {
		return ioctl.FSMapRecord{
			Device: rtDevice, Flags: ioctl.FSMapSpecialOwner, Owner: uint64(owner),
			Physical: b.geo.BlocksToBytes(begin), Length: b.geo.BlocksToBytes(end - begin),
		}
	}
	if req.High.Device != rtDevice { // which device is it?
		return []ioctl.FSMapRecord{record(0, 1, ioctl.FSMapOwnerUnknown)}, 0
	}
	unit, group := uint64(b.geo.RTExtSize), b.geo.RGBlocks()
	mask := uint64(1)<<bits.Len64(group-1) - 1
	low, high := b.geo.BytesToBlocks(req.Low.Physical), b.geo.BytesToBlocks(req.High.Physical)
	rgno := high / group
	extents := uint64(len(b.free[rgno]))
	start, end := low%group/unit, (high%group+unit-1)&mask/unit
	next := low
	var out []ioctl.FSMapRecord
	gap := func(to uint64) {
		if to > next {
			out = append(out, record(next, to, ioctl.FSMapOwnerUnknown))
		}
	}
	if start > end {
		return nil, unix.EINVAL
	}
	end = min(end, extents-1)
	for at := start; start != end && at <= end; {
		n := at
		for n <= end && b.free[rgno][n] == b.free[rgno][at] {
			n++
		}
		if b.free[rgno][at] {
			gap(rgno*group + at*unit)
			out = append(out, record(rgno*group+at*unit, rgno*group+n*unit, ioctl.FSMapOwnerFree))
			next = rgno*group + n*unit
		}
		at = n
	}
	gap(high + 1)
	return out, 0
}

// What is free is told exactly, of groups whose size is a power of two as of others,
// to the last extent; of a group of one extent nothing is.
func TestRTFreeSpaceIsExact(t *testing.T) {
	for name, extents := range map[string]uint32{"a power of two": 16, "no power of two": 15} {
		t.Run(name, func(t *testing.T) {
			m := ioctltest.NewModel()
			g := &m.Geometry
			g.RTExtSize, g.RGExtents, g.RGCount = 4, extents, 3
			g.RTExtents = uint64(2*extents + 1)
			g.RTBlocks = g.RTExtents * 4
			b := &rtBitmap{geo: g, free: [][]bool{make([]bool, extents), make([]bool, extents), make([]bool, 1)}}
			for _, free := range b.free[:2] {
				for i := range free {
					free[i] = i%5 == 2 || i >= int(extents)-3
				}
			}
			fs, k := ioctltest.NewWithModel(t, m)
			k.OnFSMap = b.answer
			v := openView(t, fs)
			buf := ioctl.NewFSMapBuffer(64)
			for rgno := range ioctl.RGNumber(2) {
				var all []witness.Free
				for frees, err := range witness.RTFreeView(t.Context(), fs, v, rgno, buf) {
					require.NoError(t, err)
					all = append(all, slices.Clone(frees)...)
				}
				isFree := func(frees []witness.Free, block uint32) bool {
					return slices.ContainsFunc(frees, func(f witness.Free) bool { return f.Start <= block && uint64(block) < f.End() })
				}
				for block := range extents * 4 {
					want := b.free[rgno][block/4]
					require.Equal(t, want, isFree(all, block), "block %d", block)
					for count := uint32(1); count < 7 && block+count <= extents*4; count++ {
						some, err := witness.RTFreeWindow(fs, v, rgno, ioctl.AGBlock(block), ioctl.AGBlock(count), buf, nil)
						require.NoError(t, err)
						for i := range count {
							require.Equal(t, b.free[rgno][(block+i)/4], isFree(some, block+i), "block %d of %d+%d", block+i, block, count)
						}
					}
				}
			}
			var corrupt *witness.CorruptError
			_, err := witness.RTFreeWindow(fs, v, 2, 0, 4, buf, nil)
			require.ErrorAs(t, err, &corrupt)
			for _, err := range witness.RTFreeView(t.Context(), fs, v, 2, buf) {
				require.ErrorIs(t, err, ioctl.ErrCorrupt)
			}
		})
	}
}
