package ioctl_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/ioctl/ioctltest"
)

// scrubError returns what a scrub of a group's rmapbt that failed with errno says.
func scrubError(t *testing.T, errno unix.Errno, flags ioctl.ScrubFlags) error {
	t.Helper()
	fs, k := ioctltest.New(t)
	k.OnScrub = func(ioctl.ScrubRequest) (ioctl.ScrubFlags, unix.Errno) { return 0, errno }
	_, err := fs.Scrub(ioctl.ScrubRequest{Type: ioctl.ScrubTypeRMAPBT, Flags: flags, AGNo: 3})
	require.Error(t, err)
	return err
}

func TestErrnosOfAScrub(t *testing.T) {
	all := []error{
		ioctl.ErrNotSupported, ioctl.ErrPrivilege, ioctl.ErrShutdown, ioctl.ErrReadOnly, ioctl.ErrNoRecovery, ioctl.ErrNotXFS,
		ioctl.ErrCorrupt, ioctl.ErrStale, ioctl.ErrBusy, ioctl.ErrNoSpace, ioctl.ErrNoEntry, ioctl.ErrInterrupted,
		ioctl.ErrAbortTarget, ioctl.ErrFrozen, ioctl.ErrNotFrozen, ioctl.ErrLocked, ioctl.ErrMonitored, ioctl.ErrMalformed,
	}
	tests := []struct {
		errno  unix.Errno
		flags  ioctl.ScrubFlags
		is     []error
		class  ioctl.Class
		reason string
	}{
		{unix.ENOTTY, 0, []error{ioctl.ErrNotSupported}, ioctl.ClassUnsupportedTarget, "online scrub is not supported: the kernel is built without CONFIG_XFS_ONLINE_SCRUB (needs Linux 4.15)"},
		{unix.EOPNOTSUPP, ioctl.ScrubRepair, []error{ioctl.ErrNotSupported}, ioctl.ClassUnsupportedItem, "repair of rmapbt is not supported: neither this kernel nor this filesystem offers one"},
		{unix.EINVAL, 0, nil, ioctl.ClassOther, "invalid argument"},
		{unix.ENOENT, 0, []error{ioctl.ErrNoEntry}, ioctl.ClassSkip, "no such object"},
		{unix.EBUSY, 0, []error{ioctl.ErrBusy}, ioctl.ClassRetry, "device or resource busy"},
		{unix.EDEADLK, 0, []error{ioctl.ErrBusy}, ioctl.ClassRetry, "resource deadlock avoided"},
		{unix.EAGAIN, 0, []error{ioctl.ErrBusy}, ioctl.ClassRetry, "resource temporarily unavailable"},
		{unix.EUSERS, 0, []error{ioctl.ErrBusy}, ioctl.ClassRetry, "too many users"},
		{unix.EUCLEAN, 0, []error{ioctl.ErrCorrupt}, ioctl.ClassCorrupt, "metadata is corrupt (EFSCORRUPTED)"},
		{unix.EBADMSG, 0, []error{ioctl.ErrCorrupt}, ioctl.ClassCorrupt, "metadata is corrupt: bad checksum (EFSBADCRC)"},
		{unix.EIO, 0, []error{ioctl.ErrAbortTarget}, ioctl.ClassAbortTarget, "input/output error"},
		{unix.ENOMEM, 0, []error{ioctl.ErrAbortTarget}, ioctl.ClassAbortTarget, "cannot allocate memory"},
		{unix.ESHUTDOWN, 0, []error{ioctl.ErrShutdown, ioctl.ErrAbortTarget}, ioctl.ClassAbortTarget, "filesystem is shut down"},
		{unix.ENOTRECOVERABLE, 0, []error{ioctl.ErrNoRecovery, ioctl.ErrAbortTarget}, ioctl.ClassAbortTarget, "filesystem is mounted without log recovery"},
		{unix.EROFS, ioctl.ScrubRepair, []error{ioctl.ErrReadOnly}, ioctl.ClassCheckOnly, "filesystem is read-only"},
		{unix.ENOSPC, ioctl.ScrubRepair, []error{ioctl.ErrNoSpace}, ioctl.ClassNoSpace, "no space for a repair to work in"},
		{unix.EPERM, 0, []error{ioctl.ErrPrivilege}, ioctl.ClassPrivilege, "not permitted (CAP_SYS_ADMIN is needed)"},
		{unix.EACCES, 0, []error{ioctl.ErrPrivilege}, ioctl.ClassPrivilege, "not permitted (CAP_SYS_ADMIN is needed)"},
		{unix.EINTR, 0, []error{ioctl.ErrInterrupted}, ioctl.ClassInterrupted, "interrupted system call"},
		{unix.ESTALE, 0, []error{ioctl.ErrStale}, ioctl.ClassSkip, "inode handle is stale"},
		{unix.ECANCELED, 0, nil, ioctl.ClassOther, "not run: a check before it failed"},
	}
	for _, test := range tests {
		t.Run(fmt.Sprint(int(test.errno)), func(t *testing.T) {
			err := scrubError(t, test.errno, test.flags)
			op := "scrub"
			if test.flags != 0 {
				op = "repair"
			}
			require.EqualError(t, err, op+" rmapbt AG 3 of /srv: "+test.reason)
			require.ErrorIs(t, err, test.errno)
			assert.NotEqual(t, error(test.errno), err, "an errno is never compared with ==")
			for _, sentinel := range all {
				want := false
				for _, s := range test.is {
					want = want || s == sentinel //nolint:errorlint // which sentinel it is
				}
				assert.Equal(t, want, errors.Is(err, sentinel), "%v", sentinel)
			}
			assert.Equal(t, test.class, ioctl.Classify(err))
			assert.Equal(t, test.class, ioctl.Classify(fmt.Errorf("wrapped: %w", err)))

			var e *ioctl.Error
			require.ErrorAs(t, err, &e)
			assert.Equal(t, op, e.Op)
			assert.Equal(t, "/srv", e.Path)
			assert.Equal(t, ioctl.ScrubTypeRMAPBT, e.Type)
			assert.Equal(t, ioctl.ScopeAG, e.Scope)
			assert.Equal(t, ioctl.AGNumber(3), e.AGNo)
			var errno unix.Errno
			require.ErrorAs(t, err, &errno)
			assert.Equal(t, test.errno, errno)
			var unsupported *ioctl.UnsupportedFeatureError
			assert.Equal(t, errors.Is(err, ioctl.ErrNotSupported), errors.As(err, &unsupported))
		})
	}
	assert.Equal(t, ioctl.ClassNone, ioctl.Classify(nil))
	assert.Equal(t, ioctl.ClassOther, ioctl.Classify(errors.New("anything")))
}

// EIO is what most calls answer when the filesystem is down: the error tells the two apart.
func TestEIOOfAFilesystemThatIsDown(t *testing.T) {
	fs, k := ioctltest.New(t)
	k.Update(func(m *ioctltest.Model) { m.Shutdown = true })
	_, err := fs.AGGeometry(1)
	require.ErrorIs(t, err, unix.EIO)
	require.ErrorIs(t, err, ioctl.ErrShutdown)
	require.EqualError(t, err, "geometry AG 1 of /srv: filesystem is shut down")

	k.Update(func(m *ioctltest.Model) { m.Shutdown = false })
	k.OnAGGeometry = func(ioctl.AGNumber) (ioctl.AGGeometry, unix.Errno) { return ioctl.AGGeometry{}, unix.EIO }
	_, err = fs.AGGeometry(1)
	require.ErrorIs(t, err, ioctl.ErrAbortTarget)
	require.NotErrorIs(t, err, ioctl.ErrShutdown)
	require.EqualError(t, err, "geometry AG 1 of /srv: input/output error")
}

func TestErrorsNameTheirObject(t *testing.T) {
	fs, k := ioctltest.New(t)
	k.OnCall = func(ioctltest.Call) unix.Errno { return unix.EUCLEAN }
	buf := ioctl.NewFSMapBuffer(1)
	scrub := func(req ioctl.ScrubRequest) error { _, err := fs.Scrub(req); return err }
	low, high := fs.FSMapAGKeys(2)
	for want, err := range map[string]error{
		"scrub inode inode 131 gen 7 of /srv":         scrub(ioctl.ScrubRequest{Type: ioctl.ScrubTypeINODE, Ino: 131, Gen: 7}),
		"scrub bmapbtd an open file of /srv":          scrub(ioctl.ScrubRequest{Type: ioctl.ScrubTypeBMBTD}),
		"scrub fscounters of /srv":                    scrub(ioctl.ScrubRequest{Type: ioctl.ScrubTypeFSCOUNTERS}),
		"scrub rtrmapbt rtgroup 4 of /srv":            scrub(ioctl.ScrubRequest{Type: ioctl.ScrubTypeRTRMAPBT, AGNo: 4}),
		"scrub type 99 of /srv":                       scrub(ioctl.ScrubRequest{Type: 99}),
		"scrub vector inode 131 gen 7 of /srv":        fs.ScrubVec(131, 7, 0, 0, make([]ioctl.ScrubVecEntry, 1)),
		"fsmap AG 2 of /srv":                          fs.FSMap(low, high, buf),
		"geometry of /srv":                            second(fs.RefreshGeometry(t.Context())),
		"counts of /srv":                              second(fs.Counts()),
		"geometry rtgroup 5 of /srv":                  second(fs.RTGroupGeometry(5)),
		"bulkstat of /srv":                            second(fs.Bulkstat(&ioctl.BulkRequest{}, ioctl.NewBulkstatBuffer(1))),
		"inumbers AG 1 of /srv":                       second(fs.Inumbers(&ioctl.BulkRequest{Flags: ioctl.BulkAGNo, AGNo: 1}, ioctl.NewInumbersBuffer(1))),
		"open by handle inode 131 gen 7 of /srv":      second(fs.OpenFD(131, 7)),
		"open path by handle inode 131 gen 7 of /srv": second(fs.OpenPathFD(131, 7)),
		"flush inodegc of /srv":                       fs.FlushInodegc(),
		"freeze of /srv":                              fs.Freeze(),
		"thaw of /srv":                                fs.Thaw(),
		"health monitor of /srv":                      second(fs.HealthMonitor(false)),
		"verify media of /srv":                        second(fs.VerifyMedia(ioctl.MediaRequest{})),
		"read autofsck property of /srv":              second(fs.Autofsck()),
	} {
		require.EqualError(t, err, want+": metadata is corrupt (EFSCORRUPTED)")
	}
}

// second drops a result.
func second[T any](_ T, err error) error { return err }

func TestUnsupportedFeatureError(t *testing.T) {
	for want, err := range map[string]*ioctl.UnsupportedFeatureError{
		"x is not supported": {Feature: "x"},
		"x is not supported by this kernel (needs Linux 6.10)": {Feature: "x", MinimumVersion: "6.10"},
		"x is not supported: why":                              {Feature: "x", Reason: "why"},
		"x is not supported: why (needs Linux 6.10)":           {Feature: "x", MinimumVersion: "6.10", Reason: "why"},
	} {
		require.EqualError(t, err, want)
		require.ErrorIs(t, err, ioctl.ErrNotSupported)
		assert.NotErrorIs(t, err, ioctl.ErrBusy)
	}
}

// What an old kernel does not know is not blamed on its configuration.
func TestMissingIoctlOfAnOldKernel(t *testing.T) {
	fs, k := ioctltest.New(t)
	k.OnCall = func(ioctltest.Call) unix.Errno { return unix.ENOTTY }
	for release, want := range map[string]string{
		"6.1.0-37-amd64": "vectored scrub is not supported by this kernel (needs Linux 6.10)",
		"6.9.12":         "vectored scrub is not supported by this kernel (needs Linux 6.10)",
		"6.10.0-rc1":     "vectored scrub is not supported: the kernel is built without CONFIG_XFS_ONLINE_SCRUB (needs Linux 6.10)",
		"7.2":            "vectored scrub is not supported: the kernel is built without CONFIG_XFS_ONLINE_SCRUB (needs Linux 6.10)",
		"garbage":        "vectored scrub is not supported by this kernel (needs Linux 6.10)",
		"":               "vectored scrub is not supported by this kernel (needs Linux 6.10)",
	} {
		k.Update(func(m *ioctltest.Model) { m.Release = release })
		require.EqualError(t, fs.ScrubVec(0, 0, 1, 0, nil), "scrub vector of /srv: "+want, release)
	}
}
