package ioctl_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/ioctl/ioctltest"
)

func TestOpenIdentifiesTheFilesystem(t *testing.T) {
	fs, k := ioctltest.New(t)
	assert.Equal(t, ioctltest.Path, fs.Path())
	assert.True(t, fs.AtRoot())
	assert.Equal(t, ioctl.Ino(128), fs.RootIno())
	assert.Equal(t, unix.Mkdev(7, 300), fs.Device())
	assert.Equal(t, uint32(0x10072c), fs.FSMapDevice(), "minor 300 does not fit in 8 bits")
	assert.Equal(t, [8]byte{9, 8, 7, 6, 5, 4, 3, 2}, fs.FSID())
	assert.Equal(t, "7.2.13", fs.Release())
	assert.Equal(t, 1, k.OpenFiles())

	require.NoError(t, fs.Close())
	require.NoError(t, fs.Close())
	assert.Zero(t, k.OpenFiles())
	_, err := fs.Counts()
	require.ErrorIs(t, err, ioctl.ErrClosed)
	require.EqualError(t, err, "use of /srv: already closed")
}

func TestOpenOfASubdirectoryIsTheRoot(t *testing.T) {
	_, k := ioctltest.New(t)
	k.Update(func(m *ioctltest.Model) {
		m.AddInode(&ioctltest.Inode{Ino: 200, Gen: 3, Mode: unix.S_IFDIR | 0o755, Inline: true})
		m.AddInode(&ioctltest.Inode{Ino: 201, Gen: 3})
		m.Paths["/srv/sub"], m.Paths["/srv/file"] = 200, 201
	})
	fs, err := ioctl.New(k, "/srv/sub")
	require.NoError(t, err)
	assert.True(t, fs.AtRoot())
	assert.Equal(t, ioctl.Ino(128), fs.RootIno())
	assert.Equal(t, 2, k.OpenFiles(), "the subdirectory is closed again")
	require.NoError(t, fs.Close())
	_, err = ioctl.New(k, "/srv/file")
	require.EqualError(t, err, "open of /srv/file: not a directory")

	// Without the privilege, the subdirectory has to do.
	k.Update(func(m *ioctltest.Model) { m.NoAdmin = true })
	fs, err = ioctl.New(k, "/srv/sub")
	require.NoError(t, err)
	defer fs.Close()
	assert.False(t, fs.AtRoot())
}

// Each step of opening can fail; nothing stays open then.
func TestOpenFails(t *testing.T) {
	for op, want := range map[ioctltest.Op]string{
		ioctltest.OpOpen:     "open of /srv: no such object",
		ioctltest.OpGeometry: "geometry of /srv: no such object",
		ioctltest.OpStatx:    "statx an open file of /srv: no such object",
		ioctltest.OpHandle:   "get handle of /srv: no such object",
		ioctltest.OpBulkstat: "bulkstat of /srv: no such object",
	} {
		k := ioctltest.NewKernel(t, ioctltest.NewModel())
		k.OnCall = func(c ioctltest.Call) unix.Errno {
			if c.Op == op {
				return unix.ENOENT
			}
			return 0
		}
		_, err := ioctl.New(k, "/srv")
		require.EqualError(t, err, want)
		assert.Zero(t, k.OpenFiles())
	}
	k := ioctltest.NewKernel(t, ioctltest.NewModel())
	k.Update(func(m *ioctltest.Model) { m.FSType = unix.EXT4_SUPER_MAGIC })
	_, err := ioctl.New(k, "/srv")
	require.ErrorIs(t, err, ioctl.ErrNotXFS)
	assert.Zero(t, k.OpenFiles())

	k = ioctltest.NewKernel(t, ioctltest.NewModel())
	k.OnBulkstat = func(ioctltest.BulkRequest) ([]ioctl.BulkstatRecord, ioctl.Ino, unix.Errno) {
		return nil, 0, unix.EINVAL
	}
	_, err = ioctl.New(k, "/srv")
	require.ErrorIs(t, err, ioctl.ErrNotSupported)
	require.EqualError(t, err, "bulkstat of /srv: BULKSTAT here is not supported: the kernel refuses it on an idmapped mount")
	k.OnBulkstat = func(ioctltest.BulkRequest) ([]ioctl.BulkstatRecord, ioctl.Ino, unix.Errno) { return nil, 0, 0 }
	_, err = ioctl.New(k, "/srv")
	require.ErrorIs(t, err, ioctl.ErrNoEntry)
	assert.Zero(t, k.OpenFiles())
}

func TestTryLock(t *testing.T) {
	fs, k := ioctltest.New(t)
	unlock, err := fs.TryLock()
	require.NoError(t, err)
	_, err = fs.TryLock()
	require.EqualError(t, err, "lock /srv: locked already")
	unlock()
	unlock()
	k.Lock(true)
	_, err = fs.TryLock()
	require.ErrorIs(t, err, ioctl.ErrLocked)
	k.Lock(false)
	unlock, err = fs.TryLock()
	require.NoError(t, err)
	unlock()
	assert.Equal(t, 1, k.OpenFiles())
}

func TestAutofsck(t *testing.T) {
	fs, k := ioctltest.New(t)
	for text, want := range map[string]ioctl.AutofsckValue{
		"none": ioctl.AutofsckNone, "check": ioctl.AutofsckCheck, "optimize": ioctl.AutofsckOptimize, "repair": ioctl.AutofsckRepair,
		"unset": ioctl.AutofsckUnset, "": ioctl.AutofsckUnknown, "Repair": ioctl.AutofsckUnknown, "repair\x00": ioctl.AutofsckUnknown,
		"unknown": ioctl.AutofsckUnknown,
	} {
		k.Update(func(m *ioctltest.Model) { m.Xattrs["trusted.xfs:autofsck"] = text })
		got, err := fs.Autofsck()
		require.NoError(t, err)
		assert.Equal(t, want, got, "%q", text)
	}
	k.Update(func(m *ioctltest.Model) { clear(m.Xattrs) })
	got, err := fs.Autofsck()
	require.NoError(t, err)
	assert.Equal(t, ioctl.AutofsckUnset, got)
	k.OnGetXattr = func(string) (string, unix.Errno) { return "", unix.EIO }
	_, err = fs.Autofsck()
	require.ErrorIs(t, err, unix.EIO)
}

func TestFreezeAndThaw(t *testing.T) {
	fs, k := ioctltest.New(t)
	require.NoError(t, fs.Freeze())
	assert.True(t, k.Frozen())
	err := fs.Freeze()
	require.ErrorIs(t, err, ioctl.ErrFrozen)
	require.NotErrorIs(t, err, ioctl.ErrBusy)
	require.NoError(t, fs.Thaw())
	require.ErrorIs(t, fs.Thaw(), ioctl.ErrNotFrozen)
	assert.Len(t, k.Calls(ioctltest.OpFreeze, ioctltest.OpThaw), 4)

	k.Update(func(m *ioctltest.Model) {
		m.AddInode(&ioctltest.Inode{Ino: 140, Gen: 1, Unlinked: true, Inactive: true})
	})
	require.NoError(t, fs.FlushInodegc())
	k.View(func(m *ioctltest.Model) { assert.NotContains(t, m.Inodes, ioctl.Ino(140)) })
}

func TestMissingBnobtView(t *testing.T) {
	fs, k := ioctltest.New(t)
	k.OnDropAdmin = func() unix.Errno { return unix.EPERM }
	_, err := fs.OpenBnobtView()
	require.ErrorIs(t, err, ioctl.ErrPrivilege)
	k.OnDropAdmin = nil

	// A thread that still sees owners is no view.
	k.OnFSMap = func(req ioctltest.FSMapRequest) ([]ioctl.FSMapRecord, unix.Errno) {
		req.Unprivileged = false
		return k.DefaultFSMap(req)
	}
	_, err = fs.OpenBnobtView()
	require.ErrorIs(t, err, ioctl.ErrStillPrivileged)
	k.OnFSMap = func(ioctltest.FSMapRequest) ([]ioctl.FSMapRecord, unix.Errno) { return nil, 0 }
	_, err = fs.OpenBnobtView()
	require.ErrorIs(t, err, ioctl.ErrNotSupported)
	k.OnFSMap = func(ioctltest.FSMapRequest) ([]ioctl.FSMapRecord, unix.Errno) { return nil, unix.EUCLEAN }
	_, err = fs.OpenBnobtView()
	require.ErrorIs(t, err, ioctl.ErrCorrupt)

	k.OnFSMap = nil
	view, err := fs.OpenBnobtView()
	require.NoError(t, err)
	require.NoError(t, fs.Close())
	low, high := fs.FSMapAGKeys(0)
	require.ErrorIs(t, view.FSMap(low, high, ioctl.NewFSMapBuffer(1)), ioctl.ErrClosed)
	require.NoError(t, view.Close())
}
