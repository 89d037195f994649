package walk_test

import (
	"context"
	"math/bits"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/internal/lab"
	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/walk"
	"github.com/scrubd/scrubd/scrub/witness"
	"github.com/scrubd/scrubd/shadow"
)

// On a healthy and idle filesystem the claims of the walk and the rmapbt agree,
// whatever the geometry.
func TestWalkAgreesWithRmapbt(t *testing.T) {
	lab.Require(t, lab.Root, lab.Loop)
	for name, c := range map[string]struct {
		args      []string
		noReflink bool
		size      int64
	}{
		"default":      {},
		"two AGs":      {args: []string{"-d", "agcount=2"}},
		"many AGs":     {args: []string{"-d", "agcount=70"}, size: 8 << 30},
		"1 KiB blocks": {args: []string{"-b", "size=1024"}},
		"big sectors":  {args: []string{"-s", "size=4096"}},
		"big inodes":   {args: []string{"-i", "size=2048"}},
		"no sparse":    {args: []string{"-i", "sparse=0"}},
		"no reflink":   {args: []string{"-m", "reflink=0"}, noReflink: true},
		"long forks":   {args: []string{"-i", "nrext64=1", "-n", "size=8192"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := lab.NewLoopFS(t, lab.MkfsOptions{Args: c.args, Size: c.size})
			require.NoError(t, lab.Sample(m.Dir(), lab.SampleSpec{Files: 1000, Extents: 4000, NoReflink: c.noReflink}))
			fill(t, m.Dir(), fillPlan{dirs: 2, files: 210, extents: 5, workers: 2})
			if !c.noReflink {
				makeCrowd(t, m.Path("crowd"))
			}
			require.NoError(t, m.Remount())
			checkAgreement(t, m.Dir())
		})
	}
}

// makeCrowd makes a file that maps one extent at many offsets, and one with a
// long extent cut up by sharing.
func makeCrowd(t *testing.T, name string) {
	t.Helper()
	const extent = 16 << 10
	src, err := os.Create(name)
	require.NoError(t, err)
	defer src.Close()
	_, err = src.Write(make([]byte, 1<<20))
	require.NoError(t, err)
	require.NoError(t, src.Sync())
	for _, suffix := range []string{".self", ".other"} {
		dst, err := os.Create(name + suffix)
		require.NoError(t, err)
		defer dst.Close()
		for i := range uint64(2500) {
			require.NoError(t, unix.IoctlFileCloneRange(int(dst.Fd()), &unix.FileCloneRange{
				Src_fd: int64(src.Fd()), Src_length: extent, Dest_offset: 2 * i * extent,
			}))
		}
	}
	// Every other block shared: GETBMAPX splits the source's one extent in 128.
	dst, err := os.Create(name + ".stripes")
	require.NoError(t, err)
	defer dst.Close()
	for i := range uint64(64) {
		require.NoError(t, unix.IoctlFileCloneRange(int(dst.Fd()), &unix.FileCloneRange{
			Src_fd: int64(src.Fd()), Src_offset: 512<<10 + i*8192, Src_length: 4096, Dest_offset: i * 8192,
		}))
	}
}

func checkAgreement(t *testing.T, dir string) {
	t.Helper()
	ctx := context.Background()
	fs, err := ioctl.Open(dir)
	require.NoError(t, err)
	defer fs.Close()
	for _, workers := range []int{1, 3} {
		res, err := walk.Run(ctx, fs, walk.Options{Workers: workers})
		require.NoError(t, err)
		require.Zero(t, res.UnreadableTotal, "%v", res.Unreadable)
		require.Zero(t, res.RefusedTotal, "%v", res.Refused)
		require.Zero(t, res.SickTotal)
		require.Zero(t, res.Vanished)
		require.Zero(t, res.Grown)
		for agno := range ioctl.AGNumber(fs.Geometry().AGCount) {
			for _, batch := range []int{17, ioctl.MaxFSMapRecords} {
				compareAG(t, fs, res, agno, batch)
			}
		}
		checkInodes(t, fs, res)
		checkOpaque(t, fs, res)
		require.NoError(t, res.Close())
		require.NoError(t, res.Close())
	}
}

// compareAG compares one group in batches of some size. Small batches cannot get
// past a crowd.
func compareAG(t *testing.T, fs *ioctl.FS, res *walk.Result, agno ioctl.AGNumber, batch int) {
	t.Helper()
	ctx := context.Background()
	kernel := witness.RmapView(ctx, fs, agno, ioctl.NewFSMapBuffer(batch))
	for d, err := range shadow.Diff(res.Claims[agno].Chunks(ctx), kernel) {
		if batch < ioctl.MaxFSMapRecords && fs.Geometry().Has(ioctl.FlagReflink) && err != nil {
			require.ErrorIs(t, err, witness.ErrStuck)
			return
		}
		require.NoError(t, err)
		strange, err := unexplained(res, &d)
		require.NoError(t, err)
		require.False(t, strange, "AG %d, batches of %d: %v", agno, batch, d)
	}
}

// checkInodes checks that every allocated inode is accounted for, and that the
// chunks are what OWN_INODES says where there are no sparse ones.
func checkInodes(t *testing.T, fs *ioctl.FS, res *walk.Result) {
	t.Helper()
	ctx := context.Background()
	var allocated, chunks, owned uint64
	geo := fs.Geometry()
	buf := ioctl.NewFSMapBuffer(ioctl.MaxFSMapRecords)
	for agno := range ioctl.AGNumber(geo.AGCount) {
		prev := ioctl.Ino(0)
		for c, err := range res.Chunks[agno].All(ctx) {
			require.NoError(t, err)
			require.Greater(t, c.StartIno, prev)
			prev = c.StartIno
			allocated += uint64(bits.OnesCount64(c.AllocMask))
			chunks++
			found, ok, err := res.FindChunk(c.StartIno + 63)
			require.NoError(t, err)
			require.True(t, ok)
			require.Equal(t, c, found)
		}
		for recs, err := range witness.RmapView(ctx, fs, agno, buf) {
			require.NoError(t, err)
			for i := range recs {
				if recs[i].Owner == shadow.OwnerInodes {
					owned += uint64(recs[i].BlockCount)
				}
			}
		}
	}
	require.Equal(t, allocated, res.Inodes+uint64(res.Silent.Len()))
	require.LessOrEqual(t, res.Silent.Len(), int64(3), "the realtime bitmap and summary, and no more")
	require.LessOrEqual(t, owned*uint64(geo.InodesPerBlock()), chunks*ioctl.InodesPerChunk)
	_, ok, err := res.FindChunk(1 << 50)
	require.NoError(t, err)
	require.False(t, ok)
}

// checkOpaque checks that the blocks of opaque inodes are those that the rmapbt
// has for them.
func checkOpaque(t *testing.T, fs *ioctl.FS, res *walk.Result) {
	t.Helper()
	ctx := context.Background()
	mapped := map[uint64]uint64{}
	buf := ioctl.NewFSMapBuffer(ioctl.MaxFSMapRecords)
	for agno := range ioctl.AGNumber(fs.Geometry().AGCount) {
		for recs, err := range witness.RmapView(ctx, fs, agno, buf) {
			require.NoError(t, err)
			for i := range recs {
				mapped[recs[i].Owner] += uint64(recs[i].BlockCount)
			}
		}
	}
	inline := 0
	for o, err := range res.Opaque.All(ctx) {
		require.NoError(t, err)
		require.Equal(t, mapped[uint64(o.Ino)], o.Blocks, "inode %d", o.Ino)
		require.NotZero(t, o.Blocks)
		require.NotEqual(t, uint16(unix.S_IFREG), o.Mode&unix.S_IFMT)
		if o.Extents == 0 {
			inline++
		}
	}
	require.Positive(t, res.Opaque.Len())
	require.Positive(t, inline, "no inline inode with attribute blocks in the sample")
}

// An inode that somebody leases is refused, not waited for.
func TestWalkDoesNotWaitForLease(t *testing.T) {
	lab.Require(t, lab.Root, lab.Loop)
	m := lab.NewLoopFS(t, lab.MkfsOptions{})
	f, err := os.Create(m.Path("leased"))
	require.NoError(t, err)
	defer f.Close()
	_, err = f.Write(make([]byte, 8192))
	require.NoError(t, err)
	require.NoError(t, f.Sync())
	_, err = unix.FcntlInt(f.Fd(), unix.F_SETSIG, int(unix.SIGURG)) // which Go expects at any time
	require.NoError(t, err)
	_, err = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK)
	require.NoError(t, err)

	fs, err := ioctl.Open(m.Dir())
	require.NoError(t, err)
	defer fs.Close()
	began := time.Now()
	res, err := walk.Run(context.Background(), fs, walk.Options{})
	require.NoError(t, err)
	defer res.Close()
	require.Less(t, time.Since(began), 10*time.Second)
	require.Equal(t, uint64(1), res.RefusedTotal)
	require.ErrorIs(t, res.Refused[0].Err, ioctl.ErrBusy)
	require.Equal(t, uint64(1), res.Refused[0].Extents)
}

// Inodes that are unlinked and open are walked as any other.
func TestWalkReadsUnlinked(t *testing.T) {
	lab.Require(t, lab.Root, lab.Loop)
	m := lab.NewLoopFS(t, lab.MkfsOptions{})
	f, err := os.Create(m.Path("gone"))
	require.NoError(t, err)
	defer f.Close()
	_, err = f.Write(make([]byte, 64<<10))
	require.NoError(t, err)
	require.NoError(t, f.Sync())
	require.NoError(t, os.Remove(f.Name()))
	st, err := f.Stat()
	require.NoError(t, err)
	require.NotNil(t, st)
	fs, err := ioctl.Open(m.Dir())
	require.NoError(t, err)
	defer fs.Close()
	res, err := walk.Run(context.Background(), fs, walk.Options{})
	require.NoError(t, err)
	defer res.Close()
	require.Equal(t, uint64(2), res.Inodes)
	require.Equal(t, uint64(1), res.Extents)
	require.Equal(t, uint64(16), res.Blocks)
}

// A filesystem that is shut down ends the walk with an error that says so.
func TestWalkShutdown(t *testing.T) {
	lab.Require(t, lab.Root, lab.Loop)
	m := lab.NewLoopFS(t, lab.MkfsOptions{})
	require.NoError(t, os.WriteFile(m.Path("file"), make([]byte, 8192), 0o600))
	fs, err := ioctl.Open(m.Dir())
	require.NoError(t, err)
	defer fs.Close()
	root, err := os.Open(m.Dir())
	require.NoError(t, err)
	const goingDown, noLogFlush = 0x8004587d, 2 // XFS_IOC_GOINGDOWN, XFS_FSOP_GOING_FLAGS_NOLOGFLUSH
	err = unix.IoctlSetPointerInt(int(root.Fd()), goingDown, noLogFlush)
	require.NoError(t, root.Close())
	require.NoError(t, err)
	res, err := walk.Run(context.Background(), fs, walk.Options{})
	require.ErrorIs(t, err, ioctl.ErrShutdown)
	require.ErrorContains(t, err, m.Dir())
	require.Nil(t, res)
	require.NoError(t, fs.Close())
	require.NoError(t, m.Unmount())
}
