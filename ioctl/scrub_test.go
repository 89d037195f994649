package ioctl_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/ioctl/ioctltest"
)

func TestScrubTypes(t *testing.T) {
	for typ := range ioctl.ScrubTypeCount {
		got, ok := ioctl.ParseScrubType(typ.String())
		assert.True(t, ok)
		assert.Equal(t, typ, got)
		assert.NotEmpty(t, typ.Since(), "%s", typ)
		if typ != ioctl.ScrubTypeProbe {
			assert.NotEqual(t, ioctl.ScrubObjectNone, typ.Object(), "%s", typ)
		}
	}
	_, ok := ioctl.ParseScrubType("barrier")
	assert.False(t, ok)
	assert.Equal(t, ioctl.ScrubObjectNone, ioctl.ScrubTypeCount.Object())
	assert.Empty(t, ioctl.ScrubTypeBarrier.Since())
}

func TestScrubPassesEverythingOn(t *testing.T) {
	fs, k := ioctltest.New(t)
	req := ioctl.ScrubRequest{
		Type: ioctl.ScrubTypeBMBTA, Flags: ioctl.ScrubRepair | ioctl.ScrubForceRebuild, Ino: 1 << 40, Gen: 0xfffffffe, AGNo: 9,
	}
	k.OnScrub = func(got ioctl.ScrubRequest) (ioctl.ScrubFlags, unix.Errno) {
		assert.Equal(t, req, got)
		return ioctl.ScrubXCorrupt | ioctl.ScrubWarning, 0
	}
	flags, err := fs.Scrub(req)
	require.NoError(t, err)
	assert.Equal(t, ioctl.ScrubXCorrupt|ioctl.ScrubWarning, flags, "what went in does not come out")
	assert.Len(t, k.Calls(ioctltest.OpScrub), 1)
}

func TestScrubAndRepairOfTheModel(t *testing.T) {
	fs, k := ioctltest.New(t)
	bad := ioctl.ScrubRequest{Type: ioctl.ScrubTypeBNOBT, AGNo: 2}
	k.Update(func(m *ioctltest.Model) { m.Verdicts[bad] = ioctl.ScrubCorrupt })
	flags, err := fs.Scrub(bad)
	require.NoError(t, err)
	assert.Equal(t, ioctl.ScrubCorrupt, flags)
	repair := bad
	repair.Flags = ioctl.ScrubRepair
	flags, err = fs.Scrub(repair)
	require.NoError(t, err)
	assert.Zero(t, flags)
	flags, err = fs.Scrub(repair)
	require.NoError(t, err)
	assert.Equal(t, ioctl.ScrubNoRepairNeeded, flags)

	for req, errno := range map[ioctl.ScrubRequest]unix.Errno{
		{Type: ioctl.ScrubTypeBNOBT, AGNo: 4}:                        unix.EINVAL,
		{Type: ioctl.ScrubTypeBNOBT, Ino: 1}:                         unix.EINVAL,
		{Type: ioctl.ScrubTypeFSCOUNTERS, AGNo: 1}:                   unix.EINVAL,
		{Type: ioctl.ScrubTypeINODE, Gen: 1}:                         unix.EINVAL,
		{Type: ioctl.ScrubTypeINODE, Ino: 128, Gen: 2}:               unix.ENOENT,
		{Type: ioctl.ScrubTypeBNOBT, Flags: ioctl.ScrubForceRebuild}: unix.EINVAL,
		{Type: ioctl.ScrubTypeRTRMAPBT}:                              unix.ENOENT,
		{Type: 99}:                                                   unix.ENOENT,
	} {
		_, err := fs.Scrub(req)
		require.ErrorIs(t, err, errno, "%+v", req)
	}
}

func TestScrubFD(t *testing.T) {
	fs, k := ioctltest.New(t)
	f, err := fs.OpenByHandle(128, 1)
	require.NoError(t, err)
	defer f.Close()
	_, err = fs.ScrubFD(f.FD(), ioctl.ScrubRequest{Type: ioctl.ScrubTypeBMBTD})
	require.NoError(t, err)
	_, err = fs.ScrubFD(12345, ioctl.ScrubRequest{Type: ioctl.ScrubTypeBMBTD})
	require.ErrorIs(t, err, unix.EBADF)
	v := []ioctl.ScrubVecEntry{{Type: ioctl.ScrubTypeINODE}, {Type: ioctl.ScrubTypeBMBTD}}
	require.NoError(t, fs.ScrubVecFD(f.FD(), 0, 0, 0, 0, v))
	assert.True(t, v[0].Ran && v[1].Ran)
	assert.Len(t, k.Calls(ioctltest.OpScrub), 3)
}

func TestScrubVec(t *testing.T) {
	fs, k := ioctltest.New(t)
	k.OnScrub = func(req ioctl.ScrubRequest) (ioctl.ScrubFlags, unix.Errno) {
		switch req.Type {
		case ioctl.ScrubTypeAGF:
			return ioctl.ScrubPreen, 0
		case ioctl.ScrubTypeAGFL:
			return 0, unix.ENOENT
		case ioctl.ScrubTypeRMAPBT:
			return ioctl.ScrubXCorrupt, 0
		}
		return 0, 0
	}
	v := []ioctl.ScrubVecEntry{
		{Type: ioctl.ScrubTypeAGF},
		{Type: ioctl.ScrubTypeAGFL},
		{Type: ioctl.ScrubTypeBarrier, Flags: ioctl.ScrubCorrupt},
		{Type: ioctl.ScrubTypeRMAPBT, Flags: ioctl.ScrubRepair},
		{Type: ioctl.ScrubTypeBarrier, Flags: ioctl.ScrubXCorrupt | ioctl.ScrubCorrupt},
		{Type: ioctl.ScrubTypeBNOBT, Flags: ioctl.ScrubRepair},
	}
	require.NoError(t, fs.ScrubVec(0, 0, 3, 5*time.Millisecond, v))

	assert.Equal(t, ioctl.ScrubVecEntry{Type: ioctl.ScrubTypeAGF, Flags: ioctl.ScrubPreen, Ran: true}, v[0])
	assert.True(t, v[1].Ran)
	require.EqualError(t, v[1].Err, "scrub agfl AG 3 of /srv: no such object")
	assert.Equal(t, ioctl.ScrubVecEntry{Type: ioctl.ScrubTypeBarrier, Flags: ioctl.ScrubCorrupt, Ran: true}, v[2])
	assert.Equal(t, ioctl.ScrubVecEntry{Type: ioctl.ScrubTypeRMAPBT, Flags: ioctl.ScrubXCorrupt, Ran: true}, v[3])
	assert.True(t, v[4].Ran)
	require.ErrorIs(t, v[4].Err, unix.ECANCELED)
	assert.Equal(t, ioctl.ScrubVecEntry{Type: ioctl.ScrubTypeBNOBT, Flags: ioctl.ScrubRepair}, v[5], "not run, as it was")

	// Used again, old results do not shine through.
	k.OnScrubVec = func(req ioctltest.ScrubVecRequest) unix.Errno {
		assert.Equal(t, ioctl.MaxScrubRest, req.Rest)
		assert.Equal(t, ioctl.AGNumber(1), req.AGNo)
		return 0
	}
	require.NoError(t, fs.ScrubVec(0, 0, 1, time.Hour, v))
	for i := range v {
		assert.False(t, v[i].Ran)
		require.NoError(t, v[i].Err)
	}

	k.OnScrubVec = nil
	k.ResetCalls()
	require.ErrorIs(t, fs.ScrubVec(0, 0, 0, 0, make([]ioctl.ScrubVecEntry, ioctl.MaxScrubVec+1)), unix.E2BIG)
	assert.Empty(t, k.Calls())
	require.NoError(t, fs.ScrubVec(0, 0, 0, -time.Second, make([]ioctl.ScrubVecEntry, ioctl.MaxScrubVec)))
	require.ErrorIs(t, fs.ScrubVec(0, 0, 0, 0, []ioctl.ScrubVecEntry{{Type: ioctl.ScrubTypeBarrier, Flags: ioctl.ScrubRepair}}), unix.EINVAL)
}

// Interrupted queries are made again, within reason; what changes something is not.
func TestInterruptedCalls(t *testing.T) {
	fs, k := ioctltest.New(t)
	left := 0
	k.OnCall = func(ioctltest.Call) unix.Errno {
		if left > 0 {
			left--
			return unix.EINTR
		}
		return 0
	}
	interrupted := func(times int, call func() error) error {
		left = times
		k.ResetCalls()
		return call()
	}
	scrub := func(flags ioctl.ScrubFlags) func() error {
		return func() error {
			_, err := fs.Scrub(ioctl.ScrubRequest{Type: ioctl.ScrubTypeAGF, Flags: flags})
			return err
		}
	}
	require.NoError(t, interrupted(3, scrub(0)))
	assert.Len(t, k.Calls(), 4)
	require.NoError(t, interrupted(3, func() error { _, err := fs.Statx(mustOpen(t, fs, 128)); return err }))
	require.NoError(t, interrupted(3, func() error { return fs.ScrubVec(0, 0, 1, 0, make([]ioctl.ScrubVecEntry, 1)) }))

	require.ErrorIs(t, interrupted(1, scrub(ioctl.ScrubRepair)), ioctl.ErrInterrupted)
	assert.Len(t, k.Calls(), 1)
	repairs := []ioctl.ScrubVecEntry{{Type: ioctl.ScrubTypeAGF, Flags: ioctl.ScrubRepair}}
	require.ErrorIs(t, interrupted(1, func() error { return fs.ScrubVec(0, 0, 1, 0, repairs) }), ioctl.ErrInterrupted)
	assert.Len(t, k.Calls(), 1)
	require.ErrorIs(t, interrupted(1, fs.Freeze), ioctl.ErrInterrupted)
	require.ErrorIs(t, interrupted(1, fs.Thaw), ioctl.ErrInterrupted)

	// A kernel that only ever says EINTR does not keep us for ever.
	require.ErrorIs(t, interrupted(1<<30, scrub(0)), ioctl.ErrInterrupted)
	assert.Less(t, len(k.Calls()), 1000)
}
