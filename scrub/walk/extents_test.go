package walk

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/shadow"
	"github.com/scrubd/scrubd/xfile"
)

// Whatever GETBMAPX answers: an extent is refused, lies outside, or becomes
// claims that cover just its blocks, each within its group.
func FuzzExtent(f *testing.F) {
	f.Add(uint64(0), uint64(800), uint64(8), uint32(0))
	f.Add(uint64(1<<57-8), uint64(7200), uint64(9600), uint32(1))
	f.Add(uint64(1)<<63, uint64(1)<<63, uint64(1)<<63, uint32(8))
	f.Add(uint64(8), uint64(8*3899), uint64(16), uint32(4))
	s := space{shift: 3, agblocks: 1000, blocks: 3900}
	f.Fuzz(func(t *testing.T, offset, block, length uint64, flags uint32) {
		r := ioctl.BmapRecord{
			Offset: ioctl.DAddr(offset), Block: ioctl.DAddr(block), Length: ioctl.DAddr(length), Flags: ioctl.BmapFlags(flags),
		}
		if !r.HasBlocks() {
			return
		}
		e, err := s.extent(&r)
		if err != nil {
			require.ErrorIs(t, err, ioctl.ErrMalformed)
			return
		}
		require.Equal(t, [3]uint64{offset, block, length}, [3]uint64{e.offset << 3, e.start << 3, e.count << 3})
		if !s.has(e) {
			require.Greater(t, e.start+e.count, s.blocks)
			return
		}
		arrays := make([]*xfile.Array[shadow.Rmap], 4)
		b := newBatcher(arrays, 1)
		require.NoError(t, b.claim(&s, e, 131, shadow.OffsetUnwritten))
		next := e.start
		for agno := range uint64(4) {
			for _, r := range b.slots[agno].recs {
				require.Equal(t, next, agno*s.agblocks+uint64(r.StartBlock))
				require.LessOrEqual(t, r.End(), s.agblocks)
				require.Equal(t, shadow.OffsetUnwritten|(e.offset+next-e.start), r.Offset)
				next += uint64(r.BlockCount)
			}
		}
		require.Equal(t, e.start+e.count, next)
	})
}

// What claims wait in is bounded, whatever the numbers of groups and workers.
func TestBatcherIsBounded(t *testing.T) {
	for _, groups := range []int{1, 2, 3, 4, 63, 64, 65, 1000, 100_000} {
		for _, workers := range []int{1, 2, 8, 64, 1000} {
			b := newBatcher(make([]*xfile.Array[shadow.Rmap], groups), workers)
			bytes := workers * len(b.slots) * b.size * shadow.RmapSize
			require.LessOrEqual(t, bytes, max(batchBytes, workers*len(b.slots)*minSlot*shadow.RmapSize))
			require.GreaterOrEqual(t, len(b.slots), min(groups, maxSlots))
			require.Equal(t, uint32(len(b.slots)-1), b.mask)
			require.Zero(t, len(b.slots)&(len(b.slots)-1))
		}
	}
}
