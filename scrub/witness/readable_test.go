package witness_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/witness"
	"github.com/scrubd/scrubd/shadow"
)

func readable(fs *ioctl.FS, batch int) (recs []shadow.Rmap, bad []witness.Range, err error) {
	bad, err = witness.ReadableRmaps(context.Background(), fs, 0, ioctl.NewFSMapBuffer(batch), func(r []shadow.Rmap) error {
		recs = append(recs, r...)
		return nil
	})
	return recs, bad, err
}

// What does not touch a bad record is read, once, in order; the ranges are the
// blocks of the bad records and nothing more, as long as they lie apart.
func TestReadableRmaps(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 300).Draw(rt, "n")
		const step = 1 << 20 / 400 // a bad record in every other grain at most
		records := make([]shadow.Rmap, n)
		for i := range records {
			records[i] = shadow.Rmap{
				StartBlock: uint32(step * i), BlockCount: rapid.Uint32Range(1, 2*step).Draw(rt, "count"),
				Owner: 131, Offset: uint64(i) << 20,
			}
		}
		fs, ag := newFakeAG(t, newest, true, records)
		var want []witness.Range
		good := slices.Clone(records)
		if i := rapid.IntRange(-1, n-1).Draw(rt, "bad"); i >= 0 {
			r := records[i]
			ag.bad[r.StartBlock] = true
			want = []witness.Range{{Start: r.StartBlock, Count: r.BlockCount}}
			// What lies wholly within the unreadable blocks cannot be read either.
			good = slices.DeleteFunc(good, func(g shadow.Rmap) bool { return g.StartBlock >= r.StartBlock && g.End() <= r.End() })
		}
		got, bad, err := readable(fs, rapid.IntRange(16, 400).Draw(rt, "batch"))
		require.NoError(rt, err)
		require.Equal(rt, want, bad)
		require.Equal(rt, good, append([]shadow.Rmap{}, got...))
		require.Less(rt, ag.calls, 2000)
	})
}

// A record without blocks touches no block: only windows with the blocks on both
// sides of its start fail.
func TestReadableRmapsEmptyRecord(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var records []shadow.Rmap
		for i := range uint32(200) {
			records = append(records, shadow.Rmap{StartBlock: 5000*i + 7, BlockCount: 4990, Owner: 131, Offset: uint64(i) << 20})
		}
		bad := &records[rapid.IntRange(0, len(records)-1).Draw(rt, "bad")]
		bad.StartBlock += rapid.Uint32Range(0, 4900).Draw(rt, "by")
		bad.BlockCount = 0
		fs, ag := newFakeAG(t, newest, true, records)
		ag.bad[bad.StartBlock] = true
		got, ranges, err := readable(fs, 64)
		require.NoError(rt, err)
		require.Equal(rt, []witness.Range{{Start: bad.StartBlock - 1, Count: 2}}, ranges)
		require.Len(rt, got, len(records)-1)
		require.True(rt, slices.IsSortedFunc(got, func(a, b shadow.Rmap) int { return shadow.Compare(&a, &b) }))
	})
}

func TestReadableRmapsManyBad(t *testing.T) {
	var records []shadow.Rmap
	for i := range uint32(4096) {
		records = append(records, shadow.Rmap{StartBlock: 256 * i, BlockCount: 200, Owner: 131, Offset: uint64(i) << 20})
	}
	fs, ag := newFakeAG(t, newest, true, records)
	for i := uint32(1000); i < 1100; i++ {
		ag.bad[256*i] = true
	}
	ag.bad[256*3000] = true
	got, bad, err := readable(fs, ioctl.MaxFSMapRecords)
	require.NoError(t, err)
	for i := range bad {
		first, last := bad[i].Start/256, (bad[i].End()-1)/256
		require.True(t, ag.bad[256*first] && ag.bad[uint32(256*last)], "%+v does not begin and end with a bad record", bad[i])
	}
	for start := range ag.bad {
		require.True(t, witness.Unreadable(bad, start, 200))
	}
	require.Len(t, got, 4096-101)
	require.Less(t, ag.calls, 600)
	require.True(t, witness.Unreadable(bad, 256*3000+199, 1))
	require.True(t, witness.Unreadable(bad, 256*2999, 257))
	require.False(t, witness.Unreadable(bad, 256*3000+200, 1))
	require.False(t, witness.Unreadable(bad, 0, 256*1000))
	require.True(t, witness.Unreadable(bad, 0, 256*1000+1))
	require.False(t, witness.Unreadable(nil, 0, 1))
}

func TestReadableRmapsAllBad(t *testing.T) {
	fs, ag := newFakeAG(t, newest, true, []shadow.Rmap{{StartBlock: 0, BlockCount: 1 << 20, Owner: 131}})
	ag.bad[0] = true
	got, bad, err := readable(fs, 64)
	require.NoError(t, err)
	require.Empty(t, got)
	require.Equal(t, []witness.Range{{Start: 0, Count: 1 << 20}}, bad)
	require.Less(t, ag.calls, 20_000)
}

func TestReadableRmapsEmitFails(t *testing.T) {
	fs, _ := newFakeAG(t, newest, true, []shadow.Rmap{{StartBlock: 5, BlockCount: 1, Owner: 131}})
	full := errors.New("full")
	_, err := witness.ReadableRmaps(context.Background(), fs, 0, ioctl.NewFSMapBuffer(8), func([]shadow.Rmap) error { return full })
	require.ErrorIs(t, err, full)
}
