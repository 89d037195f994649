package ioctl_test

import (
	"errors"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/internal/lab"
	"github.com/scrubd/scrubd/ioctl"
)

// newMkfs returns the newest mkfs.xfs, which knows options that this machine's may not.
func newMkfs(t *testing.T) string {
	t.Helper()
	lab.Require(t, lab.SidTools)
	bin, err := lab.SidBin()
	require.NoError(t, err)
	return filepath.Join(bin, "mkfs.xfs")
}

// openNew makes an XFS with the newest mkfs.xfs and opens it.
func openNew(t *testing.T, size int64, args ...string) (*lab.LoopFS, *ioctl.FS) {
	t.Helper()
	loop := lab.NewLoopFS(t, lab.MkfsOptions{Size: size, Binary: newMkfs(t), Args: args})
	return loop, openFS(t, loop.Dir())
}

// scrubAll scrubs everything on a healthy filesystem in vectors, and wants it to be clean. What is
// not there may be missing.
func scrubAll(t *testing.T, fs *ioctl.FS) {
	t.Helper()
	check := func(v []ioctl.ScrubVecEntry, ino ioctl.Ino, gen ioctl.Gen, agno ioctl.AGNumber) {
		t.Helper()
		require.NoError(t, fs.ScrubVec(ino, gen, agno, 0, v))
		for _, e := range v {
			require.True(t, e.Ran)
			if !errors.Is(e.Err, ioctl.ErrNoEntry) {
				require.NoError(t, e.Err)
				// Old mkfs versions leave something to optimize in the secondary superblocks.
				require.Zero(t, e.Flags&^ioctl.ScrubPreen, "%s of inode %d AG %d: %s", e.Type, ino, agno, e.Flags)
			}
		}
	}
	vector := func(object ioctl.ScrubObject) (v []ioctl.ScrubVecEntry) {
		for typ := range ioctl.ScrubTypeCount {
			if typ.Object() == object && fs.Features().ScrubType(typ) == nil {
				v = append(v, ioctl.ScrubVecEntry{Type: typ})
			}
		}
		return v
	}
	g := fs.Geometry()
	check(vector(ioctl.ScrubObjectFS), 0, 0, 0)
	for agno := range ioctl.AGNumber(g.AGCount) {
		check(vector(ioctl.ScrubObjectAG), 0, 0, agno)
	}
	for rgno := range ioctl.AGNumber(g.RGCount) {
		check(vector(ioctl.ScrubObjectRTGroup), 0, 0, rgno)
	}
	buf := ioctl.NewBulkstatBuffer(100)
	for req := (ioctl.BulkRequest{}); ; {
		n, err := fs.Bulkstat(&req, buf)
		require.NoError(t, err)
		if n == 0 {
			break
		}
		for _, r := range buf.Records() {
			check(vector(ioctl.ScrubObjectInode), r.Ino, r.Gen, 0)
		}
	}
}

// Everything that Linux 7.2 has, on a filesystem that has nearly everything.
func TestLabFeaturesAndScrub(t *testing.T) {
	lab.InKernel(t, func(t *testing.T) {
		loop, fs := openNew(t, 0, "-m", "rmapbt=1,reflink=1", "-n", "parent=1", "-i", "exchange=1")
		populate(t, loop)
		missing := map[ioctl.Feature]bool{ioctl.FeatureMetadir: true, ioctl.FeatureRTGroups: true, ioctl.FeatureZoned: true}
		for _, f := range ioctl.AllFeatures() {
			if missing[f] {
				require.ErrorIs(t, fs.Features().Check(f), ioctl.ErrNotSupported, "%s", f)
			} else {
				require.NoError(t, fs.Features().Check(f), "%s", f)
			}
		}
		for typ := range ioctl.ScrubTypeCount {
			err := fs.Features().ScrubType(typ)
			switch typ {
			case ioctl.ScrubTypeMETAPATH, ioctl.ScrubTypeRGSUPER, ioctl.ScrubTypeRTRMAPBT, ioctl.ScrubTypeRTREFCBT:
				require.ErrorIs(t, err, ioctl.ErrNoEntry, "%s", typ)
				require.NotErrorIs(t, err, ioctl.ErrNotSupported, "%s", typ)
			default:
				require.NoError(t, err, "%s", typ)
			}
		}
		require.ErrorIs(t, fs.Features().ScrubType(ioctl.ScrubTypeCount), ioctl.ErrNotSupported)
		scrubAll(t, fs)

		// Wrong requests are refused as documented.
		base := stat(t, fs, inode(t, loop.Path("base")))
		for req, errno := range map[ioctl.ScrubRequest]unix.Errno{
			{Type: ioctl.ScrubTypeBNOBT, AGNo: 99}:                                        unix.EINVAL,
			{Type: ioctl.ScrubTypeBNOBT, Ino: 1}:                                          unix.EINVAL,
			{Type: ioctl.ScrubTypeFSCOUNTERS, AGNo: 1}:                                    unix.EINVAL,
			{Type: ioctl.ScrubTypeINODE, Gen: 1}:                                          unix.EINVAL,
			{Type: ioctl.ScrubTypeINODE, Ino: base.Ino, Gen: base.Gen + 1}:                unix.ENOENT,
			{Type: ioctl.ScrubTypeBNOBT, Flags: ioctl.ScrubForceRebuild}:                  unix.EINVAL,
			{Type: ioctl.ScrubTypeBNOBT, Flags: 1 << 20}:                                  unix.EINVAL,
			{Type: ioctl.ScrubTypeRTRMAPBT}:                                               unix.ENOENT,
			{Type: 99}:                                                                    unix.ENOENT,
			{Type: ioctl.ScrubTypeSB, Flags: ioctl.ScrubRepair | ioctl.ScrubForceRebuild}: unix.EOPNOTSUPP,
		} {
			_, err := fs.Scrub(req)
			require.ErrorIs(t, err, errno, "%+v", req)
		}
		_, err := fs.Scrub(ioctl.ScrubRequest{Type: ioctl.ScrubTypeINODE, Ino: base.Ino, Gen: base.Gen + 1})
		assert.Equal(t, ioctl.ClassSkip, ioctl.Classify(err))

		// A repair of what is well does nothing, unless forced.
		flags, err := fs.Scrub(ioctl.ScrubRequest{Type: ioctl.ScrubTypeRMAPBT, Flags: ioctl.ScrubRepair, AGNo: 1})
		require.NoError(t, err)
		assert.Equal(t, ioctl.ScrubNoRepairNeeded, flags)
		for _, typ := range []ioctl.ScrubType{ioctl.ScrubTypeRMAPBT, ioctl.ScrubTypeBNOBT, ioctl.ScrubTypeREFCNTBT} {
			flags, err = fs.Scrub(ioctl.ScrubRequest{Type: typ, Flags: ioctl.ScrubRepair | ioctl.ScrubForceRebuild, AGNo: 1})
			require.NoError(t, err)
			assert.Zero(t, flags, "%s", typ)
		}
		fd := mustOpen(t, fs, inode(t, loop.Path("holes")))
		flags, err = fs.ScrubFD(fd, ioctl.ScrubRequest{Type: ioctl.ScrubTypeBMBTD, Flags: ioctl.ScrubRepair | ioctl.ScrubForceRebuild})
		require.NoError(t, err)
		assert.Zero(t, flags)
		scrubAll(t, fs)
	})
}

// Realtime groups, metadata directories, and a zoned realtime section inside the data device.
func TestLabRealtime(t *testing.T) {
	lab.InKernel(t, func(t *testing.T) {
		loop, fs := openNew(t, 1<<30, "-m", "metadir=1,rmapbt=1,reflink=0", "-r", "zoned=1,size=512m,rgsize=64m")
		writeFile(t, loop.Path("f"), 100)
		require.NoError(t, loop.Sync())
		g := fs.Geometry()
		assert.NotZero(t, g.RTStart)
		assert.Positive(t, g.RGCount)
		for _, f := range []ioctl.Feature{ioctl.FeatureMetadir, ioctl.FeatureRTGroups, ioctl.FeatureZoned, ioctl.FeatureRmapView} {
			require.NoError(t, fs.Features().Check(f), "%s", f)
		}
		require.ErrorIs(t, fs.Features().ScrubType(ioctl.ScrubTypeRTBITMAP), ioctl.ErrNoEntry)
		require.NoError(t, fs.Features().ScrubType(ioctl.ScrubTypeRTRMAPBT))
		require.NoError(t, fs.Features().ScrubType(ioctl.ScrubTypeMETAPATH))
		rg, err := fs.RTGroupGeometry(0)
		require.NoError(t, err)
		assert.Positive(t, rg.Length)
		assert.True(t, rg.HasWritePointer)
		_, err = fs.RTGroupGeometry(ioctl.RGNumber(g.RGCount))
		require.ErrorIs(t, err, unix.EINVAL)
		scrubAll(t, fs)

		// The devices in GETFSMAP are synthetic, and the bnobt view is of the data device only.
		buf := ioctl.NewFSMapBuffer(2048)
		low, high := fs.FSMapAGKeys(0)
		require.NoError(t, fs.FSMap(low, high, buf))
		assert.False(t, buf.RealDevices())
		assert.Equal(t, uint32(ioctl.MediaData), buf.Records()[0].Device)
		view, err := fs.OpenBnobtView()
		require.NoError(t, err)
		require.NoError(t, view.FSMap(low, high, buf))
		assert.NotEmpty(t, buf.Records())
		require.NoError(t, view.Close())

		// Metadata inodes are shown on request, and cannot be opened.
		bulk := ioctl.NewBulkstatBuffer(1000)
		n, err := fs.Bulkstat(&ioctl.BulkRequest{}, bulk)
		require.NoError(t, err)
		seen := make(map[ioctl.Ino]bool)
		for _, r := range bulk.Records() {
			seen[r.Ino] = true
		}
		more, err := fs.Bulkstat(&ioctl.BulkRequest{Flags: ioctl.BulkMetadir}, bulk)
		require.NoError(t, err)
		assert.Greater(t, more, n)
		for _, r := range bulk.Records() {
			if !seen[r.Ino] {
				assert.Zero(t, r.Nlink)
				_, err := fs.OpenFD(r.Ino, r.Gen)
				require.ErrorIs(t, err, ioctl.ErrStale)
			}
		}
	})
}

func TestLabParents(t *testing.T) {
	lab.InKernel(t, func(t *testing.T) {
		loop, fs := openNew(t, 0, "-n", "parent=1")
		require.NoError(t, unix.Mkdir(loop.Path("dir"), 0o755))
		f := writeFile(t, loop.Path("dir", "name"), 1)
		want := map[string]ioctl.Ino{"name": inode(t, loop.Path("dir"))}
		for i := range 600 {
			name := string(slices.Repeat([]byte{'a' + byte(i%26)}, 200)) + "\xff" + string(rune('0'+i/26))
			require.NoError(t, unix.Link(f.Name(), loop.Path(name)))
			want[name] = fs.RootIno()
		}
		got := make(map[string]ioctl.Ino)
		r := stat(t, fs, inode(t, f.Name()))
		for p, err := range fs.Parents(r.Ino, r.Gen) {
			require.NoError(t, err)
			assert.NotContains(t, got, p.Name)
			got[p.Name] = p.Ino
			assert.Equal(t, stat(t, fs, p.Ino).Gen, p.Gen)
		}
		assert.Equal(t, want, got)
		byFD := make(map[string]ioctl.Ino)
		for p, err := range fs.ParentsFD(int(f.Fd())) {
			require.NoError(t, err)
			byFD[p.Name] = p.Ino
		}
		assert.Equal(t, want, byFD)
		parents, err := collect(fs.Parents(fs.RootIno(), stat(t, fs, fs.RootIno()).Gen))
		require.NoError(t, err)
		assert.Empty(t, parents)
		_, err = collect(fs.Parents(r.Ino, r.Gen+1))
		require.ErrorIs(t, err, ioctl.ErrStale)
	})
}

// A damaged bnobt: the scrub says so, the vector stops at its barrier, the health monitor tells of it,
// and a repair mends it.
func TestLabDamage(t *testing.T) {
	lab.InKernel(t, func(t *testing.T) {
		loop := lab.NewLoopFS(t, lab.MkfsOptions{})
		populate(t, loop)
		require.NoError(t, loop.Unmount())
		agno := ioctl.AGNumber(1)
		_, err := lab.InjectImage(loop.Image(), lab.Fault{Class: lab.FaultBnoShorter, AGNo: &agno})
		require.NoError(t, err)
		require.NoError(t, loop.Mount())
		fs := openFS(t, loop.Dir())
		monitor, err := fs.HealthMonitor(false)
		require.NoError(t, err)
		defer monitor.Close()
		_, err = fs.HealthMonitor(false)
		require.ErrorIs(t, err, ioctl.ErrMonitored)
		root, err := fs.OpenFD(fs.RootIno(), stat(t, fs, fs.RootIno()).Gen)
		require.NoError(t, err)
		covers, err := monitor.Covers(root)
		require.NoError(t, err)
		fs.CloseFD(root)
		assert.True(t, covers)
		elsewhere, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY, 0)
		require.NoError(t, err)
		defer unix.Close(elsewhere)
		covers, err = monitor.Covers(elsewhere)
		require.NoError(t, err)
		assert.False(t, covers)

		v := []ioctl.ScrubVecEntry{
			{Type: ioctl.ScrubTypeSB},
			{Type: ioctl.ScrubTypeBarrier, Flags: ioctl.ScrubCorrupt},
			{Type: ioctl.ScrubTypeBNOBT},
			{Type: ioctl.ScrubTypeBarrier, Flags: ioctl.ScrubCorrupt | ioctl.ScrubXCorrupt},
			{Type: ioctl.ScrubTypeAGFL},
		}
		require.NoError(t, fs.ScrubVec(0, 0, agno, time.Millisecond, v))
		assert.True(t, v[0].Ran && v[1].Ran && v[2].Ran && v[3].Ran)
		require.NoError(t, v[1].Err)
		assert.True(t, v[2].Flags.Any(ioctl.ScrubCorrupt|ioctl.ScrubXCorrupt), "%s", v[2].Flags)
		require.ErrorIs(t, v[3].Err, unix.ECANCELED)
		assert.False(t, v[4].Ran)
		ag, err := fs.AGGeometry(agno)
		require.NoError(t, err)
		assert.True(t, ag.Sick.Has(ioctl.AGHealthBnobt), "%s", ag.Sick)
		assert.True(t, ag.Checked.Has(ioctl.AGHealthBnobt))

		flags, err := fs.Scrub(ioctl.ScrubRequest{Type: ioctl.ScrubTypeBNOBT, Flags: ioctl.ScrubRepair, AGNo: agno})
		require.NoError(t, err)
		assert.Zero(t, flags)
		ag, err = fs.AGGeometry(agno)
		require.NoError(t, err)
		assert.Zero(t, ag.Sick)
		scrubAll(t, fs)

		events := make(map[ioctl.HealthType]bool)
		require.NoError(t, fs.Close())
		require.NoError(t, loop.Unmount())
		for {
			some, err := monitor.Next(t.Context())
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err)
			for _, e := range some {
				assert.WithinDuration(t, time.Now(), e.Time, time.Minute)
				if e.Domain == ioctl.HealthMount || e.Domain == ioctl.HealthAG && e.AGNo == agno && ioctl.AGHealth(e.Mask).Has(ioctl.AGHealthBnobt) {
					events[e.Type] = true
				}
			}
		}
		assert.ElementsMatch(t, []ioctl.HealthType{ioctl.HealthRunning, ioctl.HealthCorrupt, ioctl.HealthHealthy, ioctl.HealthUnmount},
			slices.Collect(maps.Keys(events)))
	})
}

func TestLabVerifyMedia(t *testing.T) {
	lab.InKernel(t, func(t *testing.T) {
		loop := lab.NewLoopFS(t, lab.MkfsOptions{})
		fs := openFS(t, loop.Dir())
		size := fs.Geometry().BlocksToBytes(fs.Geometry().DataBlocks).DAddr()
		r, err := fs.VerifyMedia(ioctl.MediaRequest{Device: ioctl.MediaData, End: ^ioctl.DAddr(0), MaxIO: 1 << 20})
		require.NoError(t, err)
		assert.Equal(t, ioctl.MediaResult{Verified: size, End: size}, r)
		assert.True(t, r.Complete())
		_, err = fs.VerifyMedia(ioctl.MediaRequest{Device: ioctl.MediaLog, End: 8})
		require.ErrorIs(t, err, unix.ENODEV)
		_, err = fs.VerifyMedia(ioctl.MediaRequest{Device: 7, End: 8})
		require.ErrorIs(t, err, unix.EINVAL)
	})
}

// Mounts on which not everything is possible.
func TestLabMounts(t *testing.T) {
	lab.InKernel(t, func(t *testing.T) {
		loop := lab.NewLoopFS(t, lab.MkfsOptions{})
		populate(t, loop)
		scrub := func(flags ioctl.ScrubFlags) error {
			fs, err := ioctl.Open(loop.Dir())
			require.NoError(t, err)
			defer fs.Close()
			repair := fs.Features().Check(ioctl.FeatureRepair)
			_, err = fs.Scrub(ioctl.ScrubRequest{Type: ioctl.ScrubTypeAGF, Flags: flags})
			if flags != 0 && err != nil {
				require.ErrorIs(t, repair, errnoOf(t, err), "the probe says the same")
			}
			return err
		}
		require.NoError(t, loop.Remount("ro"))
		require.NoError(t, scrub(0))
		err := scrub(ioctl.ScrubRepair)
		require.ErrorIs(t, err, ioctl.ErrReadOnly)
		require.EqualError(t, err, "repair agf AG 0 of "+loop.Dir()+": filesystem is read-only")
		require.NoError(t, loop.Remount("ro", "norecovery"))
		err = scrub(0)
		require.ErrorIs(t, err, ioctl.ErrNoRecovery)
		assert.Equal(t, ioctl.ClassAbortTarget, ioctl.Classify(err))
		loop.SetMountOpts()
		require.NoError(t, loop.Remount())
		require.NoError(t, scrub(ioctl.ScrubRepair))

		fs := openFS(t, loop.Dir())
		shutDown(t, loop.Dir())
		_, err = fs.Scrub(ioctl.ScrubRequest{Type: ioctl.ScrubTypeRMAPBT, AGNo: 3})
		require.ErrorIs(t, err, ioctl.ErrShutdown)
		require.EqualError(t, err, "scrub rmapbt AG 3 of "+loop.Dir()+": filesystem is shut down")
		require.NoError(t, fs.Close())
		require.NoError(t, loop.Unmount())
	})
}

func errnoOf(t *testing.T, err error) unix.Errno {
	t.Helper()
	var errno unix.Errno
	require.ErrorAs(t, err, &errno)
	return errno
}

// The fake kernel is like Linux 7.2 too, and not only like the one of this machine.
func TestLabFakeAnswersLikeTheKernel(t *testing.T) {
	lab.InKernel(t, func(t *testing.T) {
		t.Run("fsmap", fakeFSMapAnswersLikeTheKernel)
		t.Run("bmap", fakeBmapAnswersLikeTheKernel)
		t.Run("bulk", fakeBulkAnswersLikeTheKernel)
	})
}
