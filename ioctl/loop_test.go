package ioctl_test

import (
	"os"
	"strings"
	"testing"

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
	require.EqualError(t, err, "geometry AG 3 of "+loop.Dir()+": invalid argument")
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
		require.ErrorContains(t, err, "this filesystem was made without ", "%s", f)
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
