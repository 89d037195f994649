package kernel_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/ioctl/ioctltest"
	"github.com/scrubd/scrubd/scrub/kernel"
)

func TestRepairOutcomes(t *testing.T) {
	object := kernel.Object{Type: ioctl.ScrubTypeRMAPBT, AGNo: 1}
	for _, c := range []struct {
		name     string
		flags    ioctl.ScrubFlags
		errno    unix.Errno
		forced   bool
		outcome  kernel.Outcome
		is       error
		attempts int
	}{
		{"rebuilt", 0, 0, false, kernel.Repaired, nil, 1},
		{"rebuilt by force", 0, 0, true, kernel.Repaired, nil, 1},
		{"rebuilt, could be better", ioctl.ScrubPreen, 0, false, kernel.Repaired, nil, 1},
		{"rebuilt, odd", ioctl.ScrubWarning, 0, false, kernel.Repaired, nil, 1},
		{"clean", ioctl.ScrubNoRepairNeeded, 0, false, kernel.NotNeeded, nil, 1},
		{"clean, not cross-referenced", ioctl.ScrubNoRepairNeeded | ioctl.ScrubXFail, 0, false, kernel.Unproven, kernel.ErrUnproven, 1},
		{"rebuilt, not cross-referenced", ioctl.ScrubXFail, 0, false, kernel.Unproven, kernel.ErrUnproven, 1},
		{"corrupt", ioctl.ScrubCorrupt, 0, false, kernel.StillBad, kernel.ErrStillBad, 1},
		{"in disagreement", ioctl.ScrubXCorrupt | ioctl.ScrubXFail, 0, false, kernel.StillBad, kernel.ErrStillBad, 1},
		{"incomplete", ioctl.ScrubIncomplete | ioctl.ScrubCorrupt, 0, false, kernel.Busy, kernel.ErrIncomplete, 6},
		{"EUCLEAN", 0, unix.EUCLEAN, false, kernel.StillBad, ioctl.ErrCorrupt, 1},
		{"EBADMSG", 0, unix.EBADMSG, false, kernel.StillBad, ioctl.ErrCorrupt, 1},
		{"EOPNOTSUPP", 0, unix.EOPNOTSUPP, false, kernel.Unsupported, ioctl.ErrNotSupported, 1},
		{"EINVAL by force", 0, unix.EINVAL, true, kernel.Unsupported, ioctl.ErrNotSupported, 1},
		{"EINVAL", 0, unix.EINVAL, false, kernel.Failed, unix.EINVAL, 1},
		{"ENOSPC", 0, unix.ENOSPC, false, kernel.NoSpace, ioctl.ErrNoSpace, 1},
		{"EBUSY", 0, unix.EBUSY, false, kernel.Busy, ioctl.ErrBusy, 6},
		{"EDEADLOCK", 0, unix.EDEADLK, false, kernel.Busy, ioctl.ErrBusy, 6},
		{"EINTR", 0, unix.EINTR, false, kernel.Busy, ioctl.ErrInterrupted, 6},
		{"ENOMEM", 0, unix.ENOMEM, false, kernel.Busy, unix.ENOMEM, 6},
		{"ENOENT", 0, unix.ENOENT, false, kernel.Gone, ioctl.ErrNoEntry, 1},
		{"EROFS", 0, unix.EROFS, false, kernel.ReadOnly, ioctl.ErrReadOnly, 1},
		{"EIO", 0, unix.EIO, false, kernel.Failed, unix.EIO, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, k, n := newFake(t)
			want := ioctl.ScrubRepair
			if c.forced {
				want |= ioctl.ScrubForceRebuild
			}
			k.OnScrub = func(req ioctl.ScrubRequest) (ioctl.ScrubFlags, unix.Errno) {
				assert.Equal(t, ioctl.ScrubRequest{Type: object.Type, AGNo: object.AGNo, Flags: want}, req)
				return c.flags, c.errno
			}
			r, err := s.Repair(t.Context(), object, c.forced)
			assert.Equal(t, c.outcome, r.Outcome)
			assert.Equal(t, c.attempts, r.Attempts)
			assert.Equal(t, c.errno == 0, r.Ran)
			assert.Len(t, n.all(), c.attempts-1)
			assert.Equal(t, object, r.Object)
			if c.is == nil {
				require.NoError(t, err)
				assert.True(t, r.Outcome.Good())
				return
			}
			require.ErrorIs(t, err, c.is)
			assert.False(t, r.Outcome.Good())
			var failed *kernel.RepairError
			require.ErrorAs(t, err, &failed)
			assert.Equal(t, c.outcome, failed.Outcome)
			assert.Equal(t, object, failed.Object)
			assert.Equal(t, c.forced, failed.Forced)
			assert.Contains(t, err.Error(), "rmapbt of AG 1")
			var dead *kernel.FatalError
			require.NotErrorAs(t, err, &dead)
		})
	}
}

func TestRepairThatEndsTheRun(t *testing.T) {
	for _, errno := range []unix.Errno{unix.ESHUTDOWN, unix.ENOTTY, unix.EPERM, unix.ENOTRECOVERABLE} {
		s, k, _ := newFake(t)
		k.OnScrub = func(ioctl.ScrubRequest) (ioctl.ScrubFlags, unix.Errno) { return 0, errno }
		r, err := s.Repair(t.Context(), kernel.Object{Type: ioctl.ScrubTypeBNOBT}, false)
		var dead *kernel.FatalError
		require.ErrorAs(t, err, &dead, "%v", errno)
		require.ErrorIs(t, err, errno)
		assert.Equal(t, kernel.Failed, r.Outcome)
		assert.Equal(t, 1, r.Attempts)
	}
}

// The free space btrees stay corrupt while there are busy extents, and the
// kernel says no more than that.
func TestRepairOfFreeSpaceIsRepeated(t *testing.T) {
	s, k, _ := newFake(t)
	calls := 0
	k.OnScrub = func(ioctl.ScrubRequest) (ioctl.ScrubFlags, unix.Errno) {
		if calls++; calls < 3 {
			return ioctl.ScrubCorrupt, 0
		}
		return 0, 0
	}
	r, err := s.Repair(t.Context(), kernel.Object{Type: ioctl.ScrubTypeBNOBT}, false)
	require.NoError(t, err)
	assert.Equal(t, kernel.Repaired, r.Outcome)
	calls = -100
	r, err = s.Repair(t.Context(), kernel.Object{Type: ioctl.ScrubTypeCNTBT}, false)
	require.ErrorIs(t, err, kernel.ErrStillBad)
	assert.Equal(t, 3, r.Attempts)
}

func TestRepairNeverBeginsUnderADoneContext(t *testing.T) {
	s, k, _ := newFake(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 50 {
		_, err := s.Repair(ctx, kernel.Object{Type: ioctl.ScrubTypeBNOBT}, false)
		require.ErrorIs(t, err, context.Canceled)
	}
	assert.Empty(t, k.Calls())
	_, err := s.Repair(t.Context(), kernel.Object{Type: ioctl.ScrubTypeBNOBT}, false)
	require.NoError(t, err, "and its turn was given back")
}

func TestRepairStopsRepeatingWithTheContext(t *testing.T) {
	s, k, _ := newFake(t)
	ctx, cancel := context.WithCancel(t.Context())
	k.OnScrub = func(ioctl.ScrubRequest) (ioctl.ScrubFlags, unix.Errno) {
		cancel()
		return 0, unix.EBUSY
	}
	r, err := s.Repair(ctx, kernel.Object{Type: ioctl.ScrubTypeBNOBT}, false)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, err, ioctl.ErrBusy)
	assert.Equal(t, 1, r.Attempts)
	assert.Equal(t, kernel.Busy, r.Outcome)
}

func TestRepairsRunOneAtATime(t *testing.T) {
	s, k, _ := newFake(t)
	var inside, most atomic.Int32
	k.OnScrub = func(ioctl.ScrubRequest) (ioctl.ScrubFlags, unix.Errno) {
		most.Store(max(most.Load(), inside.Add(1)))
		time.Sleep(time.Millisecond)
		inside.Add(-1)
		return 0, 0
	}
	errs := make(chan error)
	for agno := range ioctl.AGNumber(4) {
		go func() {
			_, err := s.Repair(t.Context(), kernel.Object{Type: ioctl.ScrubTypeBNOBT, AGNo: agno}, false)
			errs <- err
		}()
	}
	for range 4 {
		require.NoError(t, <-errs)
	}
	assert.Equal(t, int32(1), most.Load())
}

func TestNothingWaitsForOurOwnThaw(t *testing.T) {
	s, k, _ := newFake(t)
	release := s.HoldFreeze()
	_, err := s.Repair(t.Context(), kernel.Object{Type: ioctl.ScrubTypeBNOBT}, false)
	require.ErrorIs(t, err, kernel.ErrFreezeHeld)
	var failed *kernel.RepairError
	require.ErrorAs(t, err, &failed)
	results, err := s.Summary(t.Context(), true)
	require.NoError(t, err)
	for _, r := range results {
		require.ErrorIs(t, r.Err, kernel.ErrFreezeHeld, "%s", r)
	}
	r, err := s.One(t.Context(), kernel.Object{Type: ioctl.ScrubTypeFSCOUNTERS})
	require.NoError(t, err)
	require.ErrorIs(t, r.Err, kernel.ErrFreezeHeld)
	results, err = s.Inode(t.Context(), 128, 1, unix.S_IFDIR, nil)
	require.NoError(t, err)
	for _, r := range results {
		require.ErrorIs(t, r.Err, kernel.ErrFreezeHeld)
	}
	_, err = s.Inodes(t.Context(), 1, func(kernel.Result) {}, nil)
	require.ErrorIs(t, err, kernel.ErrFreezeHeld)
	assert.Empty(t, k.Calls())

	results, err = s.AG(t.Context(), 0)
	require.NoError(t, err)
	for _, r := range results {
		assert.True(t, r.Clean(), "%s", r)
	}
	release()
	release()
	r, err = s.One(t.Context(), kernel.Object{Type: ioctl.ScrubTypeFSCOUNTERS})
	require.NoError(t, err)
	assert.True(t, r.Clean())
}

func TestDrain(t *testing.T) {
	s, k, _ := newFake(t)
	require.NoError(t, s.Drain(t.Context(), 3))
	assert.Equal(t, []ioctl.ScrubType{ioctl.ScrubTypeAGFL}, scrubbed(k))

	// What it finds does not matter, but whether it got as far as the lock does.
	find(k, kernel.Object{Type: ioctl.ScrubTypeAGFL, AGNo: 3}, ioctl.ScrubXCorrupt)
	require.NoError(t, s.Drain(t.Context(), 3))
	find(k, kernel.Object{Type: ioctl.ScrubTypeAGFL, AGNo: 3}, ioctl.ScrubCorrupt)
	find(k, kernel.Object{Type: ioctl.ScrubTypeAGF, AGNo: 3}, ioctl.ScrubCorrupt)
	require.NoError(t, s.Drain(t.Context(), 3))
	find(k, kernel.Object{Type: ioctl.ScrubTypeAGI, AGNo: 3}, ioctl.ScrubCorrupt)
	require.ErrorIs(t, s.Drain(t.Context(), 3), ioctl.ErrCorrupt)
}

func TestDrainWhereItCannotBe(t *testing.T) {
	for _, release := range []string{"6.1.0-37-amd64", "6.3.9", "5.10.0", "", "rubbish"} {
		m := ioctltest.NewModel()
		m.Release = release
		s, k, _ := newFakeWith(t, m)
		err := s.Drain(t.Context(), 0)
		require.ErrorIs(t, err, ioctl.ErrNotSupported, "%q", release)
		assert.Empty(t, k.Calls(), "%q", release)
	}
	for _, release := range []string{"6.4.0", "6.18.44-rc1", "7.2.13", "10.0"} {
		m := ioctltest.NewModel()
		m.Release = release
		s, _, _ := newFakeWith(t, m)
		require.NoError(t, s.Drain(t.Context(), 0), "%q", release)
	}
	m := ioctltest.NewModel()
	m.NoScrub = true
	s, _, _ := newFakeWith(t, m)
	require.ErrorIs(t, s.Drain(t.Context(), 0), ioctl.ErrNotSupported)

	s, k, _ := newFake(t)
	k.OnScrub = func(ioctl.ScrubRequest) (ioctl.ScrubFlags, unix.Errno) { return 0, unix.EBUSY }
	require.ErrorIs(t, s.Drain(t.Context(), 0), ioctl.ErrBusy)
	k.OnScrub = func(ioctl.ScrubRequest) (ioctl.ScrubFlags, unix.Errno) { return 0, unix.ENOENT }
	require.ErrorIs(t, s.Drain(t.Context(), 0), ioctl.ErrNoEntry)
}
