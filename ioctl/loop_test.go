package ioctl_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/internal/lab"
	"github.com/scrubd/scrubd/ioctl"
)

// openLoop makes an XFS with loop devices and opens it.
func openLoop(t *testing.T, args ...string) (*lab.LoopFS, *ioctl.FS) {
	t.Helper()
	lab.Require(t, lab.Root, lab.Loop)
	loop := lab.NewLoopFS(t, lab.MkfsOptions{Args: args})
	return loop, openFS(t, loop.Dir())
}

func openFS(t *testing.T, path string) *ioctl.FS {
	t.Helper()
	fs, err := ioctl.Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, fs.Close()) })
	return fs
}

// writeFile makes a file of n blocks of 4096 bytes and returns it open.
func writeFile(t *testing.T, path string, blocks int) *os.File {
	t.Helper()
	f, err := os.Create(path)
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.Close() })
	_, err = f.Write(make([]byte, blocks*4096))
	require.NoError(t, err)
	require.NoError(t, f.Sync())
	return f
}

// clone maps blocks of from into to, at an offset in blocks.
func clone(t *testing.T, to, from *os.File, fromBlock, blocks, toBlock uint64) {
	t.Helper()
	require.NoError(t, unix.IoctlFileCloneRange(int(to.Fd()), &unix.FileCloneRange{
		Src_fd: int64(from.Fd()), Src_offset: fromBlock * 4096, Src_length: blocks * 4096, Dest_offset: toBlock * 4096,
	}))
}

// populate makes files of all sorts.
func populate(t *testing.T, loop *lab.LoopFS) {
	t.Helper()
	require.NoError(t, os.Mkdir(loop.Path("dir"), 0o755))
	var open []*os.File
	writeFile := func(t *testing.T, path string, blocks int) *os.File {
		f := writeFile(t, path, blocks)
		open = append(open, f)
		return f
	}
	base := writeFile(t, loop.Path("base"), 64)
	for i, name := range []string{"a", "b", "c"} {
		f := writeFile(t, loop.Path("dir", name), 8)
		clone(t, f, base, uint64(i)*4, 16, 20)
	}
	holes := writeFile(t, loop.Path("holes"), 64)
	for b := int64(1); b < 64; b += 2 {
		require.NoError(t, unix.Fallocate(int(holes.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, b*4096, 4096))
	}
	prealloc := writeFile(t, loop.Path("prealloc"), 2)
	require.NoError(t, unix.Fallocate(int(prealloc.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, 1<<20))
	attrs := writeFile(t, loop.Path("attrs"), 1)
	for _, name := range []string{"user.one", "user.two", "user.three"} {
		require.NoError(t, unix.Fsetxattr(int(attrs.Fd()), name, make([]byte, 3000), 0))
	}
	require.NoError(t, os.Symlink("dir/a", loop.Path("link")))
	require.NoError(t, os.Symlink(strings.Repeat("x/", 500), loop.Path("longlink")))
	require.NoError(t, unix.Mkfifo(loop.Path("fifo"), 0o600))
	for _, f := range open {
		require.NoError(t, f.Close())
	}
	require.NoError(t, loop.Sync())
}

func TestLoopOpen(t *testing.T) {
	loop, fs := openLoop(t, "-d", "agcount=3")
	g := fs.Geometry()
	assert.Equal(t, uint32(3), g.AGCount)
	assert.True(t, g.Has(ioctl.FlagRmapbt|ioctl.FlagReflink|ioctl.FlagV5))
	var st unix.Stat_t
	require.NoError(t, unix.Stat(loop.Dir(), &st))
	assert.Equal(t, uint64(st.Dev), fs.Device())
	assert.Equal(t, ioctl.Ino(st.Ino), fs.RootIno())
	assert.True(t, fs.AtRoot())

	// The groups add up, and each knows its length.
	var blocks uint64
	for agno := range ioctl.AGNumber(g.AGCount) {
		ag, err := fs.AGGeometry(agno)
		require.NoError(t, err)
		assert.Equal(t, g.AGLength(agno), ag.Length)
		blocks += uint64(ag.Length)
	}
	assert.Equal(t, g.DataBlocks, blocks)
	_, err := fs.AGGeometry(3)
	require.ErrorIs(t, err, unix.EINVAL)
	require.EqualError(t, err, "AG geometry AG 3 of "+loop.Dir()+": invalid argument")
	_, err = fs.RTGroupGeometry(0)
	require.ErrorIs(t, err, ioctl.ErrNotSupported)
	counts, err := fs.Counts()
	require.NoError(t, err)
	assert.Positive(t, counts.FreeData)

	// A subdirectory, a symlink to it and a bind mount of it lead to the same root.
	require.NoError(t, os.Mkdir(loop.Path("sub"), 0o755))
	require.NoError(t, os.Symlink("sub", loop.Path("tosub")))
	for _, name := range []string{"sub", "tosub"} {
		other := openFS(t, loop.Path(name))
		assert.Equal(t, fs.RootIno(), other.RootIno())
		assert.True(t, other.AtRoot())
		st, err := other.Statx(mustOpen(t, other, other.RootIno()))
		require.NoError(t, err)
		assert.Equal(t, fs.RootIno(), st.Ino)
	}
}

// mustOpen opens an inode by number and closes it with the test.
func mustOpen(t *testing.T, fs *ioctl.FS, ino ioctl.Ino) int {
	t.Helper()
	r := stat(t, fs, ino)
	fd, err := fs.OpenFD(r.Ino, r.Gen)
	require.NoError(t, err)
	t.Cleanup(func() { fs.CloseFD(fd) })
	return fd
}

// stat returns the BULKSTAT record of one inode.
func stat(t *testing.T, fs *ioctl.FS, ino ioctl.Ino) ioctl.BulkstatRecord {
	t.Helper()
	buf := ioctl.NewBulkstatBuffer(1)
	n, err := fs.Bulkstat(&ioctl.BulkRequest{Ino: ino, Flags: ioctl.BulkNrext64}, buf)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Equal(t, ino, buf.Records()[0].Ino)
	return buf.Records()[0]
}

// inode returns the inode number of a path, without following a symlink.
func inode(t *testing.T, path string) ioctl.Ino {
	t.Helper()
	var st unix.Stat_t
	require.NoError(t, unix.Lstat(path, &st))
	return ioctl.Ino(st.Ino)
}

func TestLoopOpenRefusesOtherFilesystems(t *testing.T) {
	lab.Require(t, lab.Root)
	_, err := ioctl.Open("/proc")
	require.ErrorIs(t, err, ioctl.ErrNotXFS)
	require.EqualError(t, err, "open /proc: not an XFS filesystem")
	_, err = ioctl.Open("/proc/version")
	require.ErrorIs(t, err, unix.ENOTDIR)
	_, err = ioctl.Open("/nonexistent/path")
	require.ErrorIs(t, err, ioctl.ErrNoEntry)
}

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
	assert.ErrorContains(t, err, "bulkstat AG 99 of ")
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

// readAll reads the whole data device with continuation, one buffer after the other, by next.
func readAll(t *testing.T, fs *ioctl.FS, n int, next func(last ioctl.FSMapRecord) ioctl.FSMapKey) []ioctl.FSMapRecord {
	t.Helper()
	var all []ioctl.FSMapRecord
	seen := make(map[ioctl.FSMapRecord]bool)
	buf := ioctl.NewFSMapBuffer(n)
	low, high := fs.FSMapKeys(0, fs.Geometry().BlocksToBytes(fs.Geometry().DataBlocks)-1)
	for {
		require.NoError(t, fs.FSMap(low, high, buf))
		fresh := 0
		for _, r := range buf.Records() {
			r.Flags &^= ioctl.FSMapLast
			if !seen[r] {
				seen[r] = true
				fresh++
				all = append(all, r)
			}
		}
		if !buf.Full() || fresh == 0 {
			return all
		}
		low = next(buf.Records()[len(buf.Records())-1])
	}
}

// The trap of continuing after a shareable record: what the same inode maps at the same block with
// a higher offset is left out. A fresh key, or one of the owner before, leaves nothing out.
func TestLoopFSMapContinuationLosesSelfClones(t *testing.T) {
	loop, fs := openLoop(t)
	f := writeFile(t, loop.Path("self"), 1)
	for block := uint64(2); block < 40; block += 2 {
		clone(t, f, f, 0, 1, block)
	}
	require.NoError(t, loop.Sync())
	want := readAll(t, fs, ioctl.MaxFSMapRecords, lastKey)
	shared := func(records []ioctl.FSMapRecord) (n int) {
		for _, r := range records {
			if r.Flags.Has(ioctl.FSMapShared) {
				n++
			}
		}
		return n
	}
	require.Equal(t, 20, shared(want))

	lossy := readAll(t, fs, 5, lastKey)
	assert.Less(t, shared(lossy), 20)

	fresh := readAll(t, fs, 24, func(last ioctl.FSMapRecord) ioctl.FSMapKey {
		return ioctl.FSMapKey{Device: last.Device, Physical: last.Physical}
	})
	assert.Equal(t, 20, shared(fresh))

	i := slices.IndexFunc(want, func(r ioctl.FSMapRecord) bool { return r.Flags.Has(ioctl.FSMapShared) })
	_, high := fs.FSMapKeys(0, fs.Geometry().BlocksToBytes(fs.Geometry().DataBlocks)-1)
	buf := ioctl.NewFSMapBuffer(20)
	low := ioctl.FSMapKey{Device: want[i].Device, Physical: want[i].Physical, Owner: want[i].Owner - 1, Length: 4096}
	require.NoError(t, fs.FSMap(low, high, buf))
	assert.Equal(t, 20, shared(buf.Records()))
}

func lastKey(last ioctl.FSMapRecord) ioctl.FSMapKey { return last.Key() }

// Keys with device 0 or ^0 return everything, whatever their address.
func TestLoopFSMapWildcardDevice(t *testing.T) {
	_, fs := openLoop(t)
	buf := ioctl.NewFSMapBuffer(ioctl.MaxFSMapRecords)
	low, high := fs.FSMapKeys(1<<24, 1<<24+4095)
	require.NoError(t, fs.FSMap(low, high, buf))
	narrow := len(buf.Records())
	assert.True(t, buf.RealDevices())
	assert.False(t, buf.Full())
	low.Device, high.Device = 0, ^uint32(0)
	require.NoError(t, fs.FSMap(low, high, buf))
	assert.Greater(t, len(buf.Records()), narrow)
	assert.Zero(t, buf.Records()[0].Physical)

	low, high = fs.FSMapKeys(8192, 4096)
	err := fs.FSMap(low, high, buf)
	require.ErrorIs(t, err, unix.EINVAL)
	assert.Empty(t, buf.Records())
	assert.ErrorContains(t, err, "fsmap AG 0 of ")
	n, err := fs.FSMapCount(fs.FSMapAGKeys(0))
	require.NoError(t, err)
	assert.Positive(t, n)
}

// Without CAP_SYS_ADMIN, the free space btree answers; nobody else loses the capability.
func TestLoopBnobtView(t *testing.T) {
	loop, fs := openLoop(t)
	populate(t, loop)
	view, err := fs.OpenBnobtView()
	require.NoError(t, err)
	defer view.Close()

	privileged, unprivileged := ioctl.NewFSMapBuffer(2048), ioctl.NewFSMapBuffer(2048)
	for agno := range ioctl.AGNumber(fs.Geometry().AGCount) {
		low, high := fs.FSMapAGKeys(agno)
		require.NoError(t, fs.FSMap(low, high, privileged))
		require.NoError(t, view.FSMap(low, high, unprivileged))
		var owned bool
		for i := range privileged.Records() {
			owned = owned || privileged.Records()[i].Is(ioctl.FSMapOwnerFS)
		}
		assert.True(t, owned)
		var free [2]ioctl.ByteOff
		for i, buf := range []*ioctl.FSMapBuffer{privileged, unprivileged} {
			for j := range buf.Records() {
				r := &buf.Records()[j]
				if r.Is(ioctl.FSMapOwnerFree) {
					free[i] += r.Length
				} else if i == 1 {
					assert.True(t, r.Is(ioctl.FSMapOwnerUnknown))
				}
			}
		}
		assert.Equal(t, free[0], free[1], "both btrees agree about the free space of AG %d", agno)
	}

	// Threads made while the view runs are privileged, and the view's thread is gone after Close.
	for range 50 {
		done := make(chan error)
		go func() {
			runtime.LockOSThread()
			low, high := fs.FSMapKeys(0, 0)
			buf := ioctl.NewFSMapBuffer(4)
			err := fs.FSMap(low, high, buf)
			if err == nil && !buf.Records()[0].Is(ioctl.FSMapOwnerFS) {
				err = errors.New("a thread lost CAP_SYS_ADMIN")
			}
			done <- err
		}()
		require.NoError(t, <-done)
	}
	assert.Equal(t, 1, threadsWithout(t, unix.CAP_SYS_ADMIN))
	require.NoError(t, view.Close())
	require.NoError(t, view.Close())
	assert.Eventually(t, func() bool { return threadsWithout(t, unix.CAP_SYS_ADMIN) == 0 }, 5*time.Second, 10*time.Millisecond)
	low, high := fs.FSMapAGKeys(0)
	require.ErrorIs(t, view.FSMap(low, high, unprivileged), ioctl.ErrClosed)
}

// threadsWithout counts this process's threads that lack an effective capability.
func threadsWithout(t *testing.T, capability uint) int {
	t.Helper()
	dirs, err := filepath.Glob("/proc/self/task/*")
	require.NoError(t, err)
	n := 0
	for _, dir := range dirs {
		b, err := os.ReadFile(filepath.Join(dir, "status"))
		if err != nil {
			continue // the thread has ended
		}
		_, rest, _ := strings.Cut(string(b), "CapEff:\t")
		var mask uint64
		for _, c := range rest[:16] {
			mask = mask<<4 | uint64(strings.IndexRune("0123456789abcdef", c))
		}
		if mask>>capability&1 == 0 {
			n++
		}
	}
	return n
}

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
	assert.ErrorContains(t, err, ": filesystem is shut down")
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

// What a kernel without online scrub, and a filesystem without this or that, answers.
func TestLoopFeatures(t *testing.T) {
	loop, fs := openLoop(t, "-m", "reflink=0")
	for _, f := range []ioctl.Feature{
		ioctl.FeatureFSMap, ioctl.FeatureRmapView, ioctl.FeatureBmap, ioctl.FeatureBulkstat, ioctl.FeatureInumbers,
		ioctl.FeatureOpenByHandle, ioctl.FeatureV5, ioctl.FeatureRmapbt,
	} {
		require.NoError(t, fs.Features().Check(f), "%s", f)
	}
	for _, f := range []ioctl.Feature{ioctl.FeatureReflink, ioctl.FeatureMetadir, ioctl.FeatureRTGroups, ioctl.FeatureZoned, ioctl.FeatureGetParents} {
		err := fs.Features().Check(f)
		require.ErrorIs(t, err, ioctl.ErrNotSupported, "%s", f)
		assert.ErrorContains(t, err, "this filesystem was made without ", "%s", f)
	}
	var unsupported *ioctl.UnsupportedFeatureError
	scrub := fs.Features().Check(ioctl.FeatureScrub)
	if scrub == nil {
		require.NoError(t, fs.Features().Check(ioctl.FeatureScrubVec))
		return
	}
	require.ErrorAs(t, scrub, &unsupported)
	assert.Equal(t, "online scrub", unsupported.Feature)
	require.ErrorIs(t, scrub, unix.ENOTTY)
	require.EqualError(t, scrub, "scrub probe of "+loop.Dir()+": online scrub is not supported: the kernel is built without CONFIG_XFS_ONLINE_SCRUB (needs Linux 4.15)")
	assert.Equal(t, ioctl.ClassUnsupportedTarget, ioctl.Classify(scrub))
	for _, f := range []ioctl.Feature{ioctl.FeatureScrubVec, ioctl.FeatureRepair, ioctl.FeatureForceRebuild} {
		require.ErrorIs(t, fs.Features().Check(f), ioctl.ErrNotSupported, "%s", f)
	}
	require.ErrorIs(t, fs.Features().ScrubType(ioctl.ScrubTypeRMAPBT), ioctl.ErrNotSupported)
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
