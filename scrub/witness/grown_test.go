package witness_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/ioctl/ioctltest"
	"github.com/scrubd/scrubd/scrub/witness"
	"github.com/scrubd/scrubd/shadow"
)

// A filesystem is grown while it is read: the records that reach into the new
// part of its last group are cut off at the geometry that the reader has. Without
// growth they are what no kernel may say.
func TestRecordsOfAGrownGroup(t *testing.T) {
	m := ioctltest.NewModel()
	m.Geometry.AGCount, m.Geometry.AGBlocks, m.Geometry.DataBlocks, m.Geometry.LogStart = 1, 1000, 500, 0
	fs, k := ioctltest.NewWithModel(t, m)
	v := openView(t, fs)
	rec := func(start, count uint64, owner ioctl.FSMapOwner) ioctl.FSMapRecord {
		r := ioctl.FSMapRecord{Physical: ioctl.ByteOff(start * 4096), Length: ioctl.ByteOff(count * 4096), Owner: uint64(owner)}
		if owner < 100 {
			r.Flags = ioctl.FSMapSpecialOwner
		}
		return r
	}
	require.EqualValues(t, 4096, fs.Geometry().BlockSize)
	k.OnFSMap = func(req ioctltest.FSMapRequest) ([]ioctl.FSMapRecord, unix.Errno) {
		if req.Unprivileged {
			return []ioctl.FSMapRecord{rec(480, 40, ioctl.FSMapOwnerFree)}, 0
		}
		return []ioctl.FSMapRecord{rec(490, 30, 131)}, 0
	}
	buf := ioctl.NewFSMapBuffer(16)
	free := func() (all []witness.Free, err error) {
		for recs, err := range witness.FreeView(context.Background(), fs, v, 0, buf) {
			if err != nil {
				return all, err
			}
			all = append(all, recs...)
		}
		return all, nil
	}
	_, err := view(fs, 0, 16)
	require.ErrorIs(t, err, witness.ErrMalformed)
	_, err = free()
	require.ErrorIs(t, err, witness.ErrMalformed)

	// It has grown, but not by that much.
	before := fs.Geometry()
	k.Update(func(m *ioctltest.Model) { m.Geometry.DataBlocks = 510 })
	_, err = view(fs, 0, 16)
	require.ErrorIs(t, err, witness.ErrMalformed)
	require.EqualValues(t, 500, before.DataBlocks)

	k.Update(func(m *ioctltest.Model) { m.Geometry.DataBlocks = 800 })
	recs, err := view(fs, 0, 16)
	require.NoError(t, err)
	require.Equal(t, []shadow.Rmap{{StartBlock: 490, BlockCount: 20, Owner: 131}}, recs)
	frees, err := free()
	require.NoError(t, err)
	require.Equal(t, []witness.Free{{Start: 480, Count: 40}}, frees, "the second reader knows the new geometry")
}
