package kernel_test

import (
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/internal/lab"
	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/kernel"
)

// The tests of this file ask a real kernel that has online scrub and repair.

// openSample makes a filesystem with the varied sample in it and opens it.
func openSample(t *testing.T, opts lab.MkfsOptions) (*lab.LoopFS, *ioctl.FS) {
	t.Helper()
	loop := lab.NewLoopFS(t, opts)
	require.NoError(t, lab.Sample(loop.Dir(), lab.SampleSpec{Seed: 1, Files: 200}))
	return loop, open(t, loop)
}

func open(t *testing.T, loop *lab.LoopFS) *ioctl.FS {
	t.Helper()
	fs, err := ioctl.Open(loop.Dir())
	require.NoError(t, err)
	t.Cleanup(func() { _ = fs.Close() })
	return fs
}

// checkEverything runs every check and returns what is not clean.
func checkEverything(t *testing.T, s *kernel.Scrubber, fs *ioctl.FS) (found []kernel.Result, tally kernel.InodeTally) {
	t.Helper()
	keep := func(results []kernel.Result) {
		for _, r := range results {
			if r.Noteworthy() {
				found = append(found, r)
			}
		}
	}
	for agno := range ioctl.AGNumber(fs.Geometry().AGCount) {
		results, err := s.AG(t.Context(), agno)
		require.NoError(t, err)
		require.Len(t, results, 10)
		keep(results)
	}
	results, err := s.Filesystem(t.Context())
	require.NoError(t, err)
	keep(results)
	tally, err = s.Inodes(t.Context(), 2, func(r kernel.Result) { found = append(found, r) }, nil)
	require.NoError(t, err)
	results, err = s.Summary(t.Context(), true)
	require.NoError(t, err)
	keep(results)
	return found, tally
}

func TestLabHealthyFilesystemIsClean(t *testing.T) {
	lab.InKernel(t, func(t *testing.T) {
		_, fs := openSample(t, lab.MkfsOptions{})
		s := kernel.New(fs, kernel.Options{})
		found, tally := checkEverything(t, s, fs)
		assert.Empty(t, damage(found))
		assert.Empty(t, s.Uncovered())
		assert.Zero(t, tally.UnlistedTotal)
		assert.Zero(t, tally.Errors)
		assert.Greater(t, tally.Inodes, uint64(200))
		assert.Equal(t, allocated(t, fs), tally.Inodes+tally.Silent+tally.Vanished)
		assert.Equal(t, tally.Inodes+tally.Silent, tally.Calls, "one call an inode")
		r, err := s.ForgetSickness(t.Context())
		require.NoError(t, err)
		assert.True(t, r.Clean(), "%s", r)
		t.Logf("%d inodes, %d calls, %d silent; inode vectors %+v", tally.Inodes, s.Calls(), tally.Silent, s.Timing(ioctl.ScrubTypeINODE, false))
	})
}

// damage leaves out what could only be better: mkfs.xfs writes the secondary
// superblocks once, and an attribute leaf that was changed has holes. The kernel
// says PREEN to both.
func damage(found []kernel.Result) (out []string) {
	for _, r := range found {
		if !r.Clean() {
			out = append(out, r.String())
		}
	}
	return out
}

// allocated counts the inodes that the inobt has.
func allocated(t *testing.T, fs *ioctl.FS) (n uint64) {
	t.Helper()
	buf := ioctl.NewInumbersBuffer(64)
	for req := (ioctl.BulkRequest{}); ; {
		got, err := fs.Inumbers(&req, buf)
		require.NoError(t, err)
		if got == 0 {
			return n
		}
		for i := range buf.Records() {
			n += uint64(buf.Records()[i].AllocCount)
		}
	}
}

func TestLabVectorsAndSingleCallsAgree(t *testing.T) {
	lab.InKernel(t, func(t *testing.T) {
		_, fs := openSample(t, lab.MkfsOptions{})
		s := kernel.New(fs, kernel.Options{})
		buf := ioctl.NewBulkstatBuffer(4096)
		n, err := fs.Bulkstat(&ioctl.BulkRequest{}, buf)
		require.NoError(t, err)
		require.Greater(t, n, 200)
		for i := range buf.Records() {
			rec := &buf.Records()[i]
			results, err := s.Inode(t.Context(), rec.Ino, rec.Gen, rec.Mode, nil)
			require.NoError(t, err)
			for _, r := range results {
				one, err := s.One(t.Context(), r.Object)
				require.NoError(t, err)
				require.Equal(t, one, r, "%s", r.Object)
			}
		}
	})
}

func TestLabDrain(t *testing.T) {
	lab.InKernel(t, func(t *testing.T) {
		loop, fs := openSample(t, lab.MkfsOptions{})
		s := kernel.New(fs, kernel.Options{})
		// With somebody at work, so that there are intents to wait for.
		stop := churn(t, loop.Path("churn"))
		defer stop()
		for range 20 {
			for agno := range ioctl.AGNumber(fs.Geometry().AGCount) {
				require.NoError(t, s.Drain(t.Context(), agno))
			}
		}
	})
}

func TestLabForcedRebuildOfHealthyRmapbt(t *testing.T) {
	lab.InKernel(t, func(t *testing.T) {
		loop, fs := openSample(t, lab.MkfsOptions{})
		before, err := lab.TakeSnapshot(loop.Dir())
		require.NoError(t, err)
		s := kernel.New(fs, kernel.Options{})
		for agno := range ioctl.AGNumber(fs.Geometry().AGCount) {
			o := kernel.Object{Type: ioctl.ScrubTypeRMAPBT, AGNo: agno}
			r, err := s.Repair(t.Context(), o, true)
			require.NoError(t, err)
			assert.Equal(t, kernel.Repaired, r.Outcome, "%s", r)
			r, err = s.Repair(t.Context(), o, false)
			require.NoError(t, err)
			assert.Equal(t, kernel.NotNeeded, r.Outcome, "%s", r)
		}
		found, _ := checkEverything(t, s, fs)
		assert.Empty(t, damage(found))
		require.NoError(t, loop.DropCaches())
		after, err := lab.TakeSnapshot(loop.Dir())
		require.NoError(t, err)
		assert.Empty(t, lab.Diff(before, after))
	})
}

func TestLabFilesystemWithoutRmapbt(t *testing.T) {
	lab.InKernel(t, func(t *testing.T) {
		loop := lab.NewLoopFS(t, lab.MkfsOptions{Args: []string{"-m", "rmapbt=0,reflink=0"}})
		require.NoError(t, lab.Sample(loop.Dir(), lab.SampleSpec{Seed: 1, Files: 50, NoReflink: true}))
		fs := open(t, loop)
		s := kernel.New(fs, kernel.Options{})
		results, err := s.AG(t.Context(), 0)
		require.NoError(t, err)
		assert.Len(t, results, 8)
		for _, r := range results {
			assert.True(t, r.Clean(), "%s", r)
		}
		r, err := s.Repair(t.Context(), kernel.Object{Type: ioctl.ScrubTypeBNOBT}, true)
		require.ErrorIs(t, err, ioctl.ErrNotSupported)
		assert.Equal(t, kernel.Unsupported, r.Outcome)
	})
}

func TestLabReadOnlyMount(t *testing.T) {
	lab.InKernel(t, func(t *testing.T) {
		loop := lab.NewLoopFS(t, lab.MkfsOptions{})
		require.NoError(t, loop.Remount("ro"))
		fs := open(t, loop)
		s := kernel.New(fs, kernel.Options{})
		results, err := s.AG(t.Context(), 0)
		require.NoError(t, err)
		for _, r := range results {
			assert.True(t, r.Clean(), "%s", r)
		}
		r, err := s.Repair(t.Context(), kernel.Object{Type: ioctl.ScrubTypeBNOBT}, true)
		require.ErrorIs(t, err, ioctl.ErrReadOnly)
		assert.Equal(t, kernel.ReadOnly, r.Outcome)
	})
}

func TestLabWrongRmapIsFoundAndRebuilt(t *testing.T) {
	lab.InKernel(t, func(t *testing.T) {
		loop, fs := openSample(t, lab.MkfsOptions{})
		before, err := lab.TakeSnapshot(loop.Dir())
		require.NoError(t, err)
		done, err := lab.InjectLive(loop, lab.Fault{Class: lab.FaultRmapOwner, Seed: 3})
		require.NoError(t, err)
		s := kernel.New(fs, kernel.Options{})
		found, _ := checkEverything(t, s, fs)
		types := make(map[ioctl.ScrubType]kernel.Result)
		for _, r := range found {
			if r.Bad() && r.Ino == done.Ino {
				types[r.Type] = r
			}
		}
		assert.True(t, types[ioctl.ScrubTypeBMBTD].Flags.Has(ioctl.ScrubXCorrupt), "%v", found)
		r, err := s.Repair(t.Context(), kernel.Object{Type: ioctl.ScrubTypeRMAPBT, AGNo: done.AGNo}, true)
		require.NoError(t, err)
		assert.Equal(t, kernel.Repaired, r.Outcome)
		found, _ = checkEverything(t, s, fs)
		assert.Empty(t, damage(found))
		require.NoError(t, loop.DropCaches())
		after, err := lab.TakeSnapshot(loop.Dir())
		require.NoError(t, err)
		assert.Empty(t, lab.Diff(before, after))
	})
}

// An inode that the kernel cannot load is not in BULKSTAT, and is found all the
// same.
func TestLabInodeThatCannotBeLoaded(t *testing.T) {
	lab.InKernel(t, func(t *testing.T) {
		loop := lab.NewLoopFS(t, lab.MkfsOptions{})
		require.NoError(t, lab.Sample(loop.Dir(), lab.SampleSpec{Seed: 1, Files: 100}))
		victim := loop.Path("broken")
		require.NoError(t, os.WriteFile(victim, []byte("data"), 0o644))
		info, err := os.Stat(victim)
		require.NoError(t, err)
		ino := ioctl.Ino(info.Sys().(*syscall.Stat_t).Ino)
		fs, err := ioctl.Open(loop.Dir())
		require.NoError(t, err)
		g := fs.Geometry()
		agno, agbno, slot := g.InoToAG(ino)
		at := int64(g.AGByte(agno, agbno)) + int64(slot)*int64(g.InodeSize)
		require.NoError(t, fs.Close())
		require.NoError(t, loop.Unmount())
		image, err := os.OpenFile(loop.Image(), os.O_RDWR, 0)
		require.NoError(t, err)
		_, err = image.WriteAt([]byte("x"), at+24) // in di_nlink, under the old checksum
		require.NoError(t, err)
		require.NoError(t, image.Close())
		require.NoError(t, loop.Mount())

		fs = open(t, loop)
		s := kernel.New(fs, kernel.Options{})
		found, tally := checkEverything(t, s, fs)
		var cores []kernel.Result
		for _, r := range found {
			if r.Type == ioctl.ScrubTypeINODE && r.Bad() {
				cores = append(cores, r)
			}
		}
		require.Len(t, cores, 1, "%v", damage(found))
		assert.Equal(t, ino, cores[0].Ino)
		require.Len(t, tally.Unlisted, 1)
		assert.Equal(t, ino, tally.Unlisted[0].First)
		require.ErrorIs(t, tally.Unlisted[0].Err, ioctl.ErrCorrupt)
		assert.Equal(t, allocated(t, fs), tally.Inodes+tally.Silent)
	})
}

// Realtime groups, quotas and the metadata directory, of which older systems
// know nothing.
func TestLabEverythingThatAFilesystemCanHave(t *testing.T) {
	disk := filepath.Join(t.TempDir(), "rt.img")
	if !lab.Inside() {
		file, err := os.Create(disk)
		require.NoError(t, err)
		require.NoError(t, file.Truncate(512<<20))
		require.NoError(t, file.Close())
	}
	lab.InKernel(t, func(t *testing.T) {
		lab.Require(t, lab.SidTools)
		bin, err := lab.SidBin()
		require.NoError(t, err)
		loop := lab.NewLoopFS(t, lab.MkfsOptions{
			Binary: filepath.Join(bin, "mkfs.xfs"),
			// The realtime device is the kernel's first disk.
			Args:      []string{"-m", "metadir=1", "-n", "parent=1", "-d", "rtinherit=1", "-r", "rtdev=/dev/ubda"},
			MountOpts: []string{"rtdev=/dev/ubda", "uquota", "gquota", "pquota"},
		})
		require.NoError(t, lab.Sample(loop.Dir(), lab.SampleSpec{Seed: 1, Files: 100}))
		fs := open(t, loop)
		s := kernel.New(fs, kernel.Options{})
		require.NotZero(t, s.RTGroups())
		found, _ := checkEverything(t, s, fs)
		assert.Empty(t, damage(found))
		assert.Empty(t, s.Uncovered())

		clean := make(map[ioctl.ScrubType]int)
		results, err := s.Filesystem(t.Context())
		require.NoError(t, err)
		for _, r := range results {
			if r.Clean() {
				clean[r.Type]++
			} else {
				assert.True(t, r.Absent, "%s", r)
			}
		}
		for _, typ := range []ioctl.ScrubType{
			ioctl.ScrubTypeUQUOTA, ioctl.ScrubTypeGQUOTA, ioctl.ScrubTypePQUOTA, ioctl.ScrubTypeMETAPATH, ioctl.ScrubTypeRGSUPER,
			ioctl.ScrubTypeRTBITMAP, ioctl.ScrubTypeRTSUM, ioctl.ScrubTypeRTRMAPBT, ioctl.ScrubTypeRTREFCBT,
		} {
			assert.Positive(t, clean[typ], "%s", typ)
		}
		assert.Equal(t, 5+4*int(s.RTGroups()), clean[ioctl.ScrubTypeMETAPATH])
	}, lab.WithDisk(disk), lab.WithTimeout(4*time.Minute))
}

// A busy filesystem is clean too, and nothing stays unchecked.
func TestLabCleanUnderWriters(t *testing.T) {
	lab.InKernel(t, func(t *testing.T) {
		loop, fs := openSample(t, lab.MkfsOptions{})
		stop := churn(t, loop.Path("churn"))
		s := kernel.New(fs, kernel.Options{})
		var tallies []kernel.InodeTally
		for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
			found, tally := checkEverything(t, s, fs)
			assert.Empty(t, damage(found))
			tallies = append(tallies, tally)
		}
		stop()
		t.Logf("%d passes, the last one %+v", len(tallies), tallies[len(tallies)-1])
	}, lab.WithTimeout(6*time.Minute))
}

// churn keeps changing files below dir until it is stopped.
func churn(t *testing.T, dir string) (stop func()) {
	t.Helper()
	quit := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 2 {
		w, err := newWriter(dir, i)
		require.NoError(t, err)
		wg.Go(func() {
			defer func() { assert.NoError(t, w.close()) }()
			for {
				select {
				case <-quit:
					return
				default:
				}
				if err := w.step(); err != nil {
					t.Errorf("writer: %v", err)
					return
				}
			}
		})
	}
	return sync.OnceFunc(func() {
		close(quit)
		wg.Wait()
	})
}
