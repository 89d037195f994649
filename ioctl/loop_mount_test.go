package ioctl_test

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/internal/lab"
	"github.com/scrubd/scrubd/ioctl"
)

func TestLoopFreeze(t *testing.T) {
	loop, fs := openLoop(t)
	populate(t, loop)
	fd := mustOpen(t, fs, inode(t, loop.Path("holes")))
	require.NoError(t, fs.FlushInodegc())
	require.ErrorIs(t, fs.Thaw(), ioctl.ErrNotFrozen)
	require.NoError(t, fs.Freeze())
	thaw := time.AfterFunc(20*time.Second, func() { _ = fs.Thaw() })
	defer thaw.Stop()
	err := fs.Freeze()
	require.ErrorIs(t, err, ioctl.ErrFrozen)
	require.EqualError(t, err, "freeze of "+loop.Dir()+": filesystem is already frozen")

	// These two calls work on a frozen filesystem.
	buf := ioctl.NewFSMapBuffer(2048)
	low, high := fs.FSMapAGKeys(0)
	require.NoError(t, fs.FSMap(low, high, buf))
	require.NoError(t, fs.Bmap(fd, ioctl.DataFork, ioctl.NewBmapBuffer(64)))
	require.NoError(t, fs.Thaw())
	require.ErrorIs(t, fs.Thaw(), ioctl.ErrNotFrozen)
}

// The log's head tells one freeze from another, and stays where it is in each.
func TestLoopLogHead(t *testing.T) {
	_, fs := openLoop(t)
	seen := map[ioctl.LogHead]bool{}
	for range 5 {
		before, err := fs.LogHead()
		require.NoError(t, err)
		require.NoError(t, fs.Freeze())
		thaw := time.AfterFunc(20*time.Second, func() { _ = fs.Thaw() })
		in, err := fs.LogHead()
		require.NoError(t, err)
		time.Sleep(50 * time.Millisecond)
		still, err := fs.LogHead()
		require.NoError(t, err)
		thaw.Stop()
		require.NoError(t, fs.Thaw())
		assert.NotEqual(t, before, in)
		assert.Equal(t, in, still)
		assert.False(t, seen[in], "%s was seen in an earlier freeze", in)
		seen[in] = true
	}
}

// After the barrier, nothing of a file that was unlinked before is left in the rmapbt.
func TestLoopFlushInodegc(t *testing.T) {
	loop, fs := openLoop(t)
	for i := range 20 {
		f := writeFile(t, loop.Path("doomed"), 32)
		ino := inode(t, loop.Path("doomed"))
		require.NoError(t, f.Close())
		require.NoError(t, os.Remove(loop.Path("doomed")))
		require.NoError(t, fs.FlushInodegc())
		for _, r := range readAll(t, fs, 2048, lastKey) {
			require.False(t, r.Flags&ioctl.FSMapSpecialOwner == 0 && r.Owner == uint64(ino), "round %d: %+v", i, r)
		}
	}
}

func TestLoopReadOnly(t *testing.T) {
	loop, fs := openLoop(t)
	require.NoError(t, fs.Close())
	require.NoError(t, loop.Remount("ro"))
	fs = openFS(t, loop.Dir())
	require.ErrorIs(t, fs.FlushInodegc(), ioctl.ErrReadOnly)
	require.NoError(t, fs.Features().Check(ioctl.FeatureRmapView))
}

// A filesystem that went down is recognized although most calls answer EIO.
func TestLoopShutdown(t *testing.T) {
	loop, fs := openLoop(t)
	populate(t, loop)
	r := stat(t, fs, inode(t, loop.Path("base")))
	shutDown(t, loop.Dir())
	low, high := fs.FSMapAGKeys(0)
	fd, err := fs.OpenFD(r.Ino, r.Gen)
	if err == nil { // a cached inode may still be opened
		fs.CloseFD(fd)
		err = fs.FSMap(low, high, ioctl.NewFSMapBuffer(8))
	}
	if err == nil {
		_, err = fs.Bulkstat(&ioctl.BulkRequest{}, ioctl.NewBulkstatBuffer(1))
	}
	require.ErrorIs(t, err, ioctl.ErrShutdown)
	require.ErrorIs(t, err, unix.EIO)
	assert.Equal(t, ioctl.ClassAbortTarget, ioctl.Classify(err))
	require.ErrorContains(t, err, ": filesystem is shut down")
	require.NoError(t, fs.Close())
	require.NoError(t, loop.Unmount())
}

// shutDown makes XFS give up at once (XFS_IOC_GOINGDOWN without flushing the log).
func shutDown(t *testing.T, dir string) {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	require.NoError(t, err)
	defer unix.Close(fd)
	require.NoError(t, unix.IoctlSetPointerInt(fd, 0x8004587d, 2))
}

func TestLoopLock(t *testing.T) {
	loop, fs := openLoop(t)
	require.NoError(t, os.Mkdir(loop.Path("sub"), 0o755))
	other := openFS(t, loop.Path("sub"))
	unlock, err := fs.TryLock()
	require.NoError(t, err)
	_, err = other.TryLock()
	require.ErrorIs(t, err, ioctl.ErrLocked)
	unlock()
	unlock()
	unlock, err = other.TryLock()
	require.NoError(t, err)
	unlock()
}

func TestLoopAutofsck(t *testing.T) {
	loop, fs := openLoop(t)
	value, err := fs.Autofsck()
	require.NoError(t, err)
	assert.Equal(t, ioctl.AutofsckUnset, value)
	for name, want := range map[string]ioctl.AutofsckValue{
		"none": ioctl.AutofsckNone, "check": ioctl.AutofsckCheck, "optimize": ioctl.AutofsckOptimize,
		"repair": ioctl.AutofsckRepair, "whatever": ioctl.AutofsckUnknown, strings.Repeat("x", 1000): ioctl.AutofsckUnknown,
	} {
		require.NoError(t, unix.Setxattr(loop.Dir(), "trusted.xfs:autofsck", []byte(name), 0))
		value, err := fs.Autofsck()
		require.NoError(t, err)
		assert.Equal(t, want, value)
	}
}

// A call in flight keeps the descriptor; Close does not wait for it and nothing is left over.
func TestLoopCloseWhileInUse(t *testing.T) {
	lab.Require(t, lab.Root, lab.Loop)
	loop := lab.NewLoopFS(t, lab.MkfsOptions{})
	for range 20 {
		fs, err := ioctl.Open(loop.Dir())
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		for range 4 {
			go func() {
				for {
					if _, err := fs.RefreshGeometry(ctx); err != nil {
						done <- err
						return
					}
				}
			}()
		}
		require.NoError(t, fs.Close())
		for range 4 {
			require.ErrorIs(t, <-done, ioctl.ErrClosed)
		}
		cancel()
		_, err = fs.RefreshGeometry(ctx)
		require.ErrorIs(t, err, context.Canceled)
	}
	require.NoError(t, loop.Unmount(), "nothing is open any more")
	require.NoError(t, loop.Mount())
}
