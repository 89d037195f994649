package witness_test

import (
	"context"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/ioctl/ioctltest"
	"github.com/scrubd/scrubd/scrub/witness"
)

type errno = unix.Errno

func openView(t *testing.T, fs *ioctl.FS) *ioctl.BnobtView {
	v, err := fs.OpenBnobtView()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, v.Close()) })
	return v
}

// Free extents come as they are in the tree, also those that overlap because
// somebody damaged it, wherever batches end.
func TestFreeViewIsExact(t *testing.T) {
	fs, k := ioctltest.New(t)
	v := openView(t, fs)
	rapid.Check(t, func(rt *rapid.T) {
		var want []witness.Free
		var model []ioctltest.Range
		at := uint32(20)
		for range rapid.IntRange(0, 60).Draw(rt, "n") {
			f := witness.Free{Start: at, Count: rapid.Uint32Range(1, 9).Draw(rt, "count")}
			want = append(want, f)
			model = append(model, ioctltest.Range{AGNo: 1, AGBno: ioctl.AGBlock(f.Start), Length: ioctl.AGBlock(f.Count)})
			at += rapid.Uint32Range(1, 12).Draw(rt, "step")
		}
		k.Update(func(m *ioctltest.Model) { m.Free = model })
		var got []witness.Free
		buf := ioctl.NewFSMapBuffer(rapid.IntRange(30, 70).Draw(rt, "batch"))
		for frees, err := range witness.FreeView(context.Background(), fs, v, 1, buf) {
			require.NoError(rt, err)
			got = append(got, frees...)
		}
		require.Equal(rt, want, got)

		start, count := rapid.Uint32Range(0, 900).Draw(rt, "window"), rapid.Uint32Range(1, 99).Draw(rt, "blocks")
		got, err := witness.FreeWindow(fs, v, 1, ioctl.AGBlock(start), ioctl.AGBlock(count), buf, nil)
		require.NoError(rt, err)
		want = slices.DeleteFunc(want, func(f witness.Free) bool { return f.End() <= uint64(start) || f.Start >= start+count })
		if len(want) == 0 {
			want = nil
		}
		require.Equal(rt, want, got)
	})
}

func TestFreeViewErrors(t *testing.T) {
	fs, k := ioctltest.New(t)
	v := openView(t, fs)
	buf := ioctl.NewFSMapBuffer(16)
	_, err := witness.FreeWindow(fs, v, 9, 0, 1, buf, nil)
	require.ErrorIs(t, err, witness.ErrRange)
	_, err = witness.FreeWindow(fs, v, 0, 0, 0, buf, nil)
	require.ErrorIs(t, err, witness.ErrRange)

	k.OnFSMap = func(ioctltest.FSMapRequest) ([]ioctl.FSMapRecord, errno) { return nil, unix.EUCLEAN }
	var corrupt *witness.CorruptError
	_, err = witness.FreeWindow(fs, v, 2, 7, 1, buf, nil)
	require.ErrorAs(t, err, &corrupt)
	require.Equal(t, witness.CorruptError{AGNo: 2, Reached: 7, Err: corrupt.Err}, *corrupt)
	require.ErrorContains(t, err, "AG 2 from block 7")

	k.OnFSMap = func(ioctltest.FSMapRequest) ([]ioctl.FSMapRecord, errno) {
		return []ioctl.FSMapRecord{{Length: 4096, Owner: 131}}, 0
	}
	for _, err := range witness.FreeView(context.Background(), fs, v, 0, buf) {
		require.ErrorIs(t, err, witness.ErrMalformed)
	}
}
