package lab_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/internal/lab"
	"github.com/scrubd/scrubd/ioctl"
)

// mountedSample is a mounted sample and what its files read.
func mountedSample(t *testing.T) (*lab.LoopFS, lab.Snapshot) {
	t.Helper()
	fs := lab.NewLoopFS(t, lab.MkfsOptions{Args: []string{"-d", "agcount=2"}})
	require.NoError(t, lab.Sample(fs.Dir(), lab.SampleSpec{Seed: 21}))
	snap, err := lab.TakeSnapshot(fs.Dir())
	require.NoError(t, err)
	return fs, snap
}

func inoOf(t *testing.T, snap lab.Snapshot, path string) ioctl.Ino {
	t.Helper()
	e, ok := snap.Get(path)
	require.True(t, ok, path)
	return ioctl.Ino(e.Ino)
}

// TestInjectLiveShowsWithoutRemount damages a mounted filesystem of which
// everything was in the caches, and sees the damage at once.
func TestInjectLiveShowsWithoutRemount(t *testing.T) {
	lab.Require(t, lab.Root, lab.Loop)
	fs, clean := mountedSample(t)
	large := inoOf(t, clean, "special/large")
	for _, tc := range []struct {
		fault lab.Fault
		see   sight
		lost  []string // files that read differently now
	}{
		{lab.Fault{Class: lab.FaultRmapOwnerMissing, Ino: large}, seeFSMap, nil},
		{lab.Fault{Class: lab.FaultRmapRemoved, Ino: inoOf(t, clean, "attrs/large")}, seeFSMap, nil},
		{lab.Fault{Class: lab.FaultBnoShorter}, seeFree, nil},
		{lab.Fault{Class: lab.FaultForkUnwritten, Ino: large}, seeBmap, []string{"special/large"}},
		{lab.Fault{Class: lab.FaultForkLost, Ino: inoOf(t, clean, "fragmented/left")}, seeBmap, []string{"fragmented/left"}},
		{lab.Fault{Class: lab.FaultInobtFreed, Ino: inoOf(t, clean, "special/odd")}, seeInumbers, nil},
	} {
		victim := "special/large"
		if len(tc.lost) > 0 {
			victim = tc.lost[0]
		}
		before := tc.see(t, fs, victim)
		done, err := lab.InjectLive(fs, tc.fault)
		require.NoError(t, err, "%s", tc.fault.Describe())
		gone, came := changedLines(before, tc.see(t, fs, victim))
		assert.NotEmpty(t, append(gone, came...), "%s", done.Describe())

		now, err := lab.TakeSnapshot(fs.Dir())
		require.NoError(t, err)
		var differ []string
		for _, line := range lab.Diff(clean, now) {
			path, _, _ := strings.Cut(line, ":")
			differ = append(differ, path)
		}
		assert.Equal(t, tc.lost, differ, "%s", done.Describe())

		require.NoError(t, lab.EditLive(fs, done.Undo))
		now, err = lab.TakeSnapshot(fs.Dir())
		require.NoError(t, err)
		assert.Empty(t, lab.Diff(clean, now), "after taking %s back", tc.fault.Class)
	}
	require.NoError(t, fs.Unmount())
	repairFindsNothing(t, fs.Image())
}

// TestInjectLiveUnderAWriter keeps the damage although somebody changes the
// neighbourhood all the time.
func TestInjectLiveUnderAWriter(t *testing.T) {
	lab.Require(t, lab.Root, lab.Loop)
	fs, snap := mountedSample(t)
	stop, stopped := make(chan struct{}), make(chan error, 1)
	go func() { stopped <- churn(fs.Path("special"), stop) }()

	done, err := lab.InjectLive(fs, lab.Fault{Class: lab.FaultRmapOffset, Ino: inoOf(t, snap, "special/large")})
	require.NoError(t, err)
	_, came := changedLines("", seeFSMap(t, fs, ""))
	close(stop)
	require.NoError(t, <-stopped)

	img := openImage(t, fs.Image())
	require.NoError(t, fs.Unmount())
	want := newRange(t, img, done)
	assert.Regexp(t, want, strings.Join(came, ""), "the running kernel sees it")
	tree, err := img.RmapBT(done.AGNo)
	require.NoError(t, err)
	require.NoError(t, tree.Check())
	recs, err := tree.Records()
	require.NoError(t, err)
	var found bool
	for _, e := range recs {
		found = found || e.Rec == done.Edits[0].New
	}
	assert.True(t, found, "the writer has not brought the old record back")
}

// churn makes, fills, punches and removes files until stop is closed.
func churn(dir string, stop <-chan struct{}) error {
	for i := 0; ; i++ {
		select {
		case <-stop:
			return nil
		default:
		}
		name := fmt.Sprintf("%s/churn%d", dir, i%5)
		f, err := os.Create(name)
		if err != nil {
			return err
		}
		_, err = f.Write(make([]byte, 100000))
		if err == nil {
			err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 8192, 4096)
		}
		if err == nil {
			err = f.Sync()
		}
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err == nil && i%3 == 0 {
			err = os.Remove(name)
		}
		if err != nil {
			return err
		}
	}
}

// appendTo makes a file longer by n bytes that are on disk then.
func appendTo(path string, n int) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.Write([]byte(strings.Repeat("appended", n/8)))
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

func punchHole(path string, off, n int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
}

// TestLostWritesShow loses a synced write to one object of each kind.
func TestLostWritesShow(t *testing.T) {
	lab.Require(t, lab.Root, lab.Loop)
	const large, many = "special/large", "fragmented/left"
	firstRmap := func(img *lab.Image, ino ioctl.Ino) (ioctl.AGNumber, lab.RmapRec, error) {
		for agno := range ioctl.AGNumber(img.SB.AGCount) {
			tree, err := img.RmapBT(agno)
			if err != nil {
				return 0, lab.RmapRec{}, err
			}
			for e, err := range tree.All() {
				if err != nil {
					return 0, lab.RmapRec{}, err
				}
				if e.Rec.Owner == uint64(ino) && !e.Rec.AttrFork && !e.Rec.BMBTBlock {
					return agno, e.Rec, nil
				}
			}
		}
		return 0, lab.RmapRec{}, lab.ErrNoVictim
	}
	for _, tc := range []struct {
		class  lab.FaultClass
		path   string
		find   func(img *lab.Image, ino ioctl.Ino) (lab.ObjectRef, error)
		change func(path string) error
		see    sight // as it was before the change
	}{
		{lab.FaultLostDinode, large, (*lab.Image).DinodeObject, func(p string) error { return appendTo(p, 3<<20) }, seeBmap},
		{lab.FaultLostRmapbt, large, func(img *lab.Image, ino ioctl.Ino) (lab.ObjectRef, error) {
			agno, rec, err := firstRmap(img, ino)
			if err != nil {
				return lab.ObjectRef{}, err
			}
			return img.RmapLeafObject(agno, rec)
		}, func(p string) error { return punchHole(p, 1<<20, 1<<20) }, nil},
		{lab.FaultLostBnobt, large, func(img *lab.Image, ino ioctl.Ino) (lab.ObjectRef, error) {
			agno, rec, err := firstRmap(img, ino)
			if err != nil {
				return lab.ObjectRef{}, err
			}
			return img.FreeLeafObject(lab.BnoBT, agno, lab.FreeRec{StartBlock: rec.StartBlock})
		}, func(p string) error { return punchHole(p, 1<<20, 1<<20) }, seeFree},
		{lab.FaultLostInobt, "special/odd", (*lab.Image).InobtLeafObject, os.Remove, seeInumbers},
		{lab.FaultLostBmbt, many, func(img *lab.Image, ino ioctl.Ino) (lab.ObjectRef, error) {
			return img.BmbtLeafObject(ino, ioctl.DataFork, 0)
		}, func(p string) error { return punchHole(p, 4096, 4096) }, nil},
		{lab.FaultLostRefcount, "clones/fan00", func(img *lab.Image, ino ioctl.Ino) (lab.ObjectRef, error) {
			agno, rec, err := firstRmap(img, ino)
			if err != nil {
				return lab.ObjectRef{}, err
			}
			return img.RefcountLeafObject(agno, lab.RefcountRec{StartBlock: rec.StartBlock})
		}, func(p string) error { return punchHole(p, 0, 65536) }, nil},
	} {
		t.Run(string(tc.class), func(t *testing.T) {
			fs, snap := mountedSample(t)
			ino := inoOf(t, snap, tc.path)
			require.NoError(t, fs.DropCaches()) // gives CoW staging back
			var before, changed string
			if tc.see != nil {
				before = tc.see(t, fs, tc.path)
			}
			done, err := lab.LostWrite(fs, func(img *lab.Image) (lab.ObjectRef, error) { return tc.find(img, ino) }, func() error {
				err := tc.change(fs.Path(tc.path))
				if tc.see != nil {
					changed = tc.see(t, fs, tc.path)
				}
				return err
			})
			require.NoError(t, err)
			t.Logf("%s", done.Describe())
			assert.Equal(t, tc.class, done.Class)
			require.NotEmpty(t, done.Edits)
			if tc.see == nil {
				return
			}
			if tc.class != lab.FaultLostInobt { // its file has no name any more
				_, came := changedLines(before, changed)
				assert.NotEmpty(t, came, "the change showed")
			}
			_, came := changedLines(before, tc.see(t, fs, tc.path))
			assert.Empty(t, came, "and is forgotten")
		})
	}

	t.Run("unchanged", func(t *testing.T) {
		fs, snap := mountedSample(t)
		_, err := lab.LostWrite(fs, func(img *lab.Image) (lab.ObjectRef, error) { return img.DinodeObject(inoOf(t, snap, large)) },
			func() error { return nil })
		require.ErrorIs(t, err, lab.ErrUnchanged)
	})
}
