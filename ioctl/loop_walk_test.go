package ioctl_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
)

func TestLoopWalk(t *testing.T) {
	loop, fs := openLoop(t)
	populate(t, loop)

	// INUMBERS says which inodes exist; BULKSTAT returns the same ones but for the metadata inodes.
	allocated := make(map[ioctl.Ino]bool)
	inumbers := ioctl.NewInumbersBuffer(1)
	var chunks uint32
	for req := (ioctl.BulkRequest{}); ; {
		n, err := fs.Inumbers(&req, inumbers)
		require.NoError(t, err)
		if n == 0 {
			break
		}
		for i := range inumbers.Records() {
			r := &inumbers.Records()[i]
			assert.Equal(t, uint8(5), r.Version)
			chunks++
			for ino := range r.AllocatedInodes {
				assert.True(t, r.Allocated(ino))
				allocated[ino] = true
			}
		}
	}
	var inodes uint32
	for agno := range ioctl.AGNumber(fs.Geometry().AGCount) {
		ag, err := fs.AGGeometry(agno)
		require.NoError(t, err)
		inodes += ag.InodeCount
	}
	assert.Equal(t, inodes, chunks*ioctl.InodesPerChunk)

	seen := make(map[ioctl.Ino]ioctl.BulkstatRecord)
	for agno := range ioctl.AGNumber(fs.Geometry().AGCount) {
		buf := ioctl.NewBulkstatBuffer(3)
		for req := (ioctl.BulkRequest{Flags: ioctl.BulkAGNo | ioctl.BulkNrext64, AGNo: agno}); ; {
			n, err := fs.Bulkstat(&req, buf)
			require.NoError(t, err)
			if n == 0 {
				break
			}
			for _, r := range buf.Records() {
				in, _, _ := fs.Geometry().InoToAG(r.Ino)
				assert.Equal(t, agno, in)
				assert.True(t, allocated[r.Ino])
				assert.NotContains(t, seen, r.Ino)
				seen[r.Ino] = r
			}
		}
	}
	assert.Len(t, allocated, len(seen)+2, "the realtime bitmap and summary inodes are hidden")

	link := seen[inode(t, loop.Path("longlink"))]
	assert.Equal(t, uint32(unix.S_IFLNK), link.Type())
	assert.Equal(t, uint64(1), link.Blocks)
	assert.Equal(t, uint64(32), seen[inode(t, loop.Path("holes"))].Extents64)

	_, err := fs.Bulkstat(&ioctl.BulkRequest{Flags: ioctl.BulkAGNo, AGNo: 99}, ioctl.NewBulkstatBuffer(1))
	require.ErrorIs(t, err, unix.EINVAL)
	require.ErrorContains(t, err, "bulkstat AG 99 of ")
	_, err = fs.Inumbers(&ioctl.BulkRequest{Flags: ioctl.BulkMetadir}, inumbers)
	require.ErrorIs(t, err, unix.EINVAL)
}

func TestLoopBmap(t *testing.T) {
	loop, fs := openLoop(t)
	populate(t, loop)
	buf := ioctl.NewBmapBuffer(1)
	bmap := func(name string, fork ioctl.Fork) []ioctl.BmapRecord {
		fd := mustOpen(t, fs, inode(t, loop.Path(name)))
		require.NoError(t, fs.Bmap(fd, fork, buf))
		require.True(t, buf.Complete())
		return slices.Clone(buf.Records())
	}

	holes := bmap("holes", ioctl.DataFork)
	require.Len(t, holes, 32)
	assert.GreaterOrEqual(t, buf.Cap(), 32, "the buffer has grown")
	for i, r := range holes {
		assert.Equal(t, ioctl.DAddr(i*16), r.Offset)
		assert.Equal(t, ioctl.DAddr(8), r.Length)
		assert.True(t, r.HasBlocks())
	}
	assert.True(t, holes[31].Flags.Has(ioctl.BmapLast))

	// Unwritten blocks past the end of the file are there.
	prealloc := bmap("prealloc", ioctl.DataFork)
	require.GreaterOrEqual(t, len(prealloc), 2)
	last := prealloc[len(prealloc)-1]
	assert.Equal(t, ioctl.DAddr(1<<20>>9), last.Offset+last.Length)
	assert.True(t, last.Flags.Has(ioctl.BmapPrealloc))

	// Shared parts are split off.
	shared, private := ioctl.DAddr(0), ioctl.DAddr(0)
	for _, r := range bmap("dir/b", ioctl.DataFork) {
		if r.Flags.Has(ioctl.BmapShared) {
			shared += r.Length
		} else {
			private += r.Length
		}
	}
	assert.Equal(t, ioctl.DAddr(16*8), shared)
	assert.Equal(t, ioctl.DAddr(8*8), private)

	assert.NotEmpty(t, bmap("attrs", ioctl.AttrFork))
	assert.Empty(t, bmap("base", ioctl.AttrFork))

	// A range is cut out, and a buffer at its limit can be continued.
	fd := mustOpen(t, fs, inode(t, loop.Path("holes")))
	require.NoError(t, fs.BmapRange(fd, ioctl.DataFork, 16*3, 16*2, buf))
	assert.Len(t, buf.Records(), 2)
	assert.Equal(t, holes[3].Block, buf.Records()[0].Block)
	base := mustOpen(t, fs, inode(t, loop.Path("base")))
	require.NoError(t, fs.BmapRange(base, ioctl.DataFork, 8, 8, buf))
	require.Len(t, buf.Records(), 1)
	assert.Equal(t, ioctl.DAddr(8), buf.Records()[0].Offset)
	assert.Equal(t, ioctl.DAddr(8), buf.Records()[0].Length)

	err := fs.Bmap(-1, ioctl.DataFork, buf)
	require.ErrorIs(t, err, unix.EBADF)
}

func TestLoopHandles(t *testing.T) {
	loop, fs := openLoop(t)
	populate(t, loop)
	for _, name := range []string{"base", "dir"} {
		r := stat(t, fs, inode(t, loop.Path(name)))
		assert.True(t, r.Openable())
		f, err := fs.OpenByHandle(r.Ino, r.Gen)
		require.NoError(t, err)
		st, err := fs.Statx(f.FD())
		require.NoError(t, err)
		assert.Equal(t, f.Ino(), st.Ino)
		assert.Equal(t, r.Gen, f.Gen())
		assert.Equal(t, r.Mode, st.Mode)
		require.NoError(t, f.Close())
		require.NoError(t, f.Close())

		_, err = fs.OpenByHandle(r.Ino, r.Gen+1)
		require.ErrorIs(t, err, ioctl.ErrStale)
		assert.Equal(t, ioctl.ClassSkip, ioctl.Classify(err))
	}
	for _, name := range []string{"link", "longlink", "fifo"} {
		r := stat(t, fs, inode(t, loop.Path(name)))
		assert.False(t, r.Openable())
		_, err := fs.OpenFD(r.Ino, r.Gen)
		require.ErrorIs(t, err, ioctl.ErrPrivilege)

		fd, err := fs.OpenPathFD(r.Ino, r.Gen)
		require.NoError(t, err)
		st, err := fs.Statx(fd)
		require.NoError(t, err)
		assert.Equal(t, r.Ino, st.Ino)
		assert.Equal(t, r.Type(), uint32(st.Mode)&unix.S_IFMT)
		assert.Equal(t, r.Blocks*8, st.Blocks)
		require.ErrorIs(t, fs.Bmap(fd, ioctl.DataFork, ioctl.NewBmapBuffer(1)), unix.EBADF)
		fs.CloseFD(fd)
		_, err = fs.OpenPathFD(r.Ino, r.Gen+1)
		require.ErrorIs(t, err, ioctl.ErrStale)
	}
}

// A lease on a file must not stop the walk.
func TestLoopOpenDoesNotWaitForALease(t *testing.T) {
	loop, fs := openLoop(t)
	f := writeFile(t, loop.Path("leased"), 1)
	_, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK)
	require.NoError(t, err)
	r := stat(t, fs, inode(t, loop.Path("leased")))
	start := time.Now()
	_, err = fs.OpenFD(r.Ino, r.Gen)
	require.ErrorIs(t, err, ioctl.ErrBusy)
	assert.Less(t, time.Since(start), 5*time.Second)
}

// The ctime seen by Statx differs after each change, however fast they come.
func TestLoopStatxCTime(t *testing.T) {
	loop, fs := openLoop(t)
	require.NoError(t, fs.Features().Check(ioctl.FeatureMultigrainCtime), "this test needs Linux 6.13")
	f := writeFile(t, loop.Path("f"), 1)
	fd := mustOpen(t, fs, inode(t, loop.Path("f")))
	last, err := fs.Statx(fd)
	require.NoError(t, err)
	for range 200 {
		require.NoError(t, f.Chmod(0o600))
		now, err := fs.Statx(fd)
		require.NoError(t, err)
		assert.NotEqual(t, last.CTime, now.CTime)
		last = now
	}
}

// Nothing is allocated by the calls of the walk's inner loop.
func TestLoopAllocations(t *testing.T) {
	loop, fs := openLoop(t)
	populate(t, loop)
	view, err := fs.OpenBnobtView()
	require.NoError(t, err)
	defer view.Close()
	r := stat(t, fs, inode(t, loop.Path("holes")))
	fd := mustOpen(t, fs, r.Ino)
	bmap, fsmap, bulk, inumbers := ioctl.NewBmapBuffer(64), ioctl.NewFSMapBuffer(2048), ioctl.NewBulkstatBuffer(64), ioctl.NewInumbersBuffer(64)
	low, high := fs.FSMapAGKeys(0)
	for name, call := range map[string]func() error{
		"FSMap":      func() error { return fs.FSMap(low, high, fsmap) },
		"bnobt view": func() error { return view.FSMap(low, high, fsmap) },
		"Bmap":       func() error { return fs.Bmap(fd, ioctl.DataFork, bmap) },
		"Bulkstat": func() error {
			req := ioctl.BulkRequest{}
			_, err := fs.Bulkstat(&req, bulk)
			return err
		},
		"Inumbers": func() error {
			req := ioctl.BulkRequest{}
			_, err := fs.Inumbers(&req, inumbers)
			return err
		},
		"OpenFD and CloseFD": func() error {
			fd, err := fs.OpenFD(r.Ino, r.Gen)
			fs.CloseFD(fd)
			return err
		},
		"Statx": func() error {
			_, err := fs.Statx(fd)
			return err
		},
	} {
		var failed error
		assert.Zero(t, testing.AllocsPerRun(100, func() {
			if err := call(); err != nil {
				failed = err
			}
		}), name)
		require.NoError(t, failed, name)
	}
}
