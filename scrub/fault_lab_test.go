package scrub_test

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/internal/lab"
	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub"
	"github.com/scrubd/scrubd/shadow"
)

// heldClasses are the faults of which no witness that scrubd has today decides
// without doubt; why is said beside each. All others are healed.
var heldClasses = map[lab.FaultClass]string{
	lab.FaultForkUnwritten:   "fork unwritten, rmap written: no third witness",
	lab.FaultRmapWritten:     "the same picture, the other way to get there",
	lab.FaultForkLostNBlocks: "the fork's own counters agree with it, and nobody denies the record",
}

// undecidedClasses are healed or held, as the victim goes.
var undecidedClasses = []lab.FaultClass{lab.FaultRmapKey, lab.FaultRmapCRC, lab.FaultForkUnwritten}

// envSeed draws other victims than the ones that the tests are run with every
// day: every class still has to show and to harm nothing, while some victims
// are rightly held that others of the class are not.
const envSeed = "SCRUBD_TEST_SEED"

func faultSeed(t *testing.T) uint64 {
	t.Helper()
	text, ok := os.LookupEnv(envSeed)
	if !ok {
		return 1
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	require.NoError(t, err)
	return seed
}

// TestLabFaults injects one fault of every class, each in a kernel of its own.
// Every fault shows as one finding; after the run no file reads otherwise than
// before it or in the clean image, and what was healed leaves nothing for
// offline repair to find.
func TestLabFaults(t *testing.T) {
	needBase(t)
	for _, class := range lab.FaultClasses() {
		t.Run(string(class), func(t *testing.T) {
			t.Parallel()
			lab.InKernel(t, func(t *testing.T) {
				r := newRig(t)
				done, err := lab.InjectImage(r.image, lab.Fault{Class: class, Seed: faultSeed(t)})
				if errors.Is(err, lab.ErrNoVictim) {
					t.Fatalf("the sample has no victim for %s", class)
				}
				require.NoError(t, err)
				t.Log(done.Describe())
				r.mount()
				r.healOrHold(class)
			}, lab.WithMem(1500))
		})
	}
}

// TestLabMetadataRecords removes the rmap record of metadata: blocks in use
// that nobody owns look like lost space, and giving them back would hand out
// inodes and btree blocks. They are healed or held, and stay what they are.
func TestLabMetadataRecords(t *testing.T) {
	needBase(t)
	for name, match := range map[string]func(r lab.RmapRec) bool{
		"inode chunk":      func(r lab.RmapRec) bool { return r.Owner == shadow.OwnerInodes },
		"free space btree": func(r lab.RmapRec) bool { return r.Owner == shadow.OwnerAG },
		"inode btree":      func(r lab.RmapRec) bool { return r.Owner == shadow.OwnerInobt },
		"refcount btree":   func(r lab.RmapRec) bool { return r.Owner == shadow.OwnerRefcbt },
		"fork btree":       func(r lab.RmapRec) bool { return r.BMBTBlock },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lab.InKernel(t, func(t *testing.T) {
				r := newRig(t)
				done, err := lab.InjectImage(r.image, lab.Fault{
					Class: lab.FaultRmapRemoved, Seed: faultSeed(t), Match: func(rec any) bool { return match(rec.(lab.RmapRec)) },
				})
				require.NoError(t, err)
				t.Log(done.Describe())
				r.mount()
				before := r.snapshot()
				sum := r.run(scrub.Options{})
				require.NoError(t, r.fs.Remount())
				assert.Empty(t, lab.Diff(before, r.snapshot()))
				require.NotEmpty(t, sum.Findings, "not noticed")
				again := r.run(scrub.Options{})
				healed := sum.Findings[0].Outcome == scrub.Repaired
				assert.Equal(t, healed, len(again.Findings) == 0)
				if healed {
					assert.Empty(t, r.offline())
				} else {
					assert.Zero(t, sum.Repairs)
				}
			}, lab.WithMem(1500))
		})
	}
}

// oneFinding runs scrubd on a filesystem with one fault: it is noticed, and no file
// is harmed. It returns what the files are after the run, too.
func (r *rig) oneFinding() (*scrub.Summary, *scrub.Finding, lab.Snapshot) {
	t := r.t
	t.Helper()
	before := r.snapshot()
	sum := r.run(scrub.Options{})
	require.NoError(t, r.fs.Remount())
	after := r.snapshot()
	assert.Empty(t, harmed(r.clean, before, after), "files harmed")
	require.Len(t, sum.Findings, 1)
	assert.NotEmpty(t, sum.Findings[0].Witnesses)
	return sum, sum.Findings[0], after
}

// healOrHold runs scrubd on the damaged filesystem and checks what became of it.
func (r *rig) healOrHold(class lab.FaultClass) {
	t := r.t
	space := r.freeBlocks()
	sum, f, after := r.oneFinding()
	_, held := heldClasses[class]
	if slices.Contains(undecidedClasses, class) {
		held = f.Outcome == scrub.Held
	}
	if held {
		require.Equal(t, scrub.Held, f.Outcome)
		assert.Equal(t, 1, sum.ExitStatus())
		assert.NotEmpty(t, f.Reason)
		assert.NotEmpty(t, f.WaysOut)
		assert.Zero(t, sum.Repairs)
		assert.Equal(t, space, r.freeBlocks(), "blocks were freed on account of a held finding")
		return
	}
	require.Equal(t, scrub.Repaired, f.Outcome, f.Reason)
	assert.Zero(t, sum.ExitStatus())
	if f.AtFault != "fscounters" {
		assert.NotEmpty(t, f.EvidencePath)
	}
	assert.Empty(t, lab.Diff(r.clean, after), "differs from the clean image")
	assert.Empty(t, r.offline())
}

func (r *rig) freeBlocks() uint64 {
	r.t.Helper()
	require.NoError(r.t, r.fs.Sync())
	var st unix.Statfs_t
	require.NoError(r.t, unix.Statfs(r.fs.Dir(), &st))
	return st.Bfree
}

// TestLabHealthy: the sample itself is clean.
func TestLabHealthy(t *testing.T) {
	needBase(t)
	lab.InKernel(t, func(t *testing.T) {
		r := newRig(t)
		r.mount()
		sum := r.run(scrub.Options{})
		assert.Empty(t, sum.Findings)
		assert.Zero(t, sum.ExitStatus())
		assert.Zero(t, sum.Repairs)
		assert.Empty(t, lab.Diff(r.clean, r.snapshot()))
		assert.Empty(t, r.offline())
	}, lab.WithMem(1500))
}

// TestLabOldInode puts the old inode back after a synced append: fork, nblocks
// and size are stale together, and only rmapbt and bnobt know of the data. It
// is held, with both ways out, and nothing is freed; carrying out one of them
// brings the data back.
func TestLabOldInode(t *testing.T) {
	needBase(t)
	for name, gap := range map[string]int64{"contiguous": 0, "own extent": 1 << 20} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lab.InKernel(t, func(t *testing.T) {
				r := newRig(t)
				r.mount()
				ino, path := r.appended()
				done, err := lab.LostWrite(r.fs, func(img *lab.Image) (lab.ObjectRef, error) {
					return img.DinodeObject(ino)
				}, func() error { return appendAt(path, gap) })
				require.NoError(t, err)
				t.Log(done.Describe())
				before, space := r.snapshot(), r.freeBlocks()
				sum := r.run(scrub.Options{})
				require.Len(t, sum.Findings, 1)
				f := sum.Findings[0]
				require.Equal(t, scrub.Held, f.Outcome)
				assert.Equal(t, 2, f.Row)
				assert.Equal(t, 1, sum.ExitStatus())
				require.Len(t, f.WaysOut, 2)
				assert.ElementsMatch(t, []string{"rmap", "fork"}, []string{f.WaysOut[0].Trust, f.WaysOut[1].Trust})
				require.Len(t, f.Files, 1)
				assert.Equal(t, ino, f.Files[0].Ino)
				assert.NotEmpty(t, f.Files[0].Path)
				require.NoError(t, r.fs.Remount())
				assert.Empty(t, lab.Diff(before, r.snapshot()))
				assert.Equal(t, space, r.freeBlocks())
				r.trustRmap(f, ino)
			}, lab.WithMem(1500))
		})
	}
}

// appended makes a file of 64 KiB.
func (r *rig) appended() (ioctl.Ino, string) {
	r.t.Helper()
	path := r.fs.Path("appended")
	require.NoError(r.t, os.WriteFile(path, slices.Repeat([]byte("before "), 64<<10/7), 0o644))
	require.NoError(r.t, r.fs.Sync())
	var raw unix.Stat_t
	require.NoError(r.t, unix.Stat(path, &raw))
	return ioctl.Ino(raw.Ino), path
}

func appendAt(path string, gap int64) error {
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := file.WriteAt(slices.Repeat([]byte("after "), 64<<10/6), 64<<10+gap); err != nil {
		return err
	}
	return file.Sync()
}

// trustRmap does what the way out says, by the kernel, and looks again: the
// fork has its blocks back, and there is nothing left to find.
func (r *rig) trustRmap(f *scrub.Finding, ino ioctl.Ino) {
	t := r.t
	fs, err := ioctl.Open(r.fs.Dir())
	require.NoError(t, err)
	defer fs.Close()
	_, err = fs.Scrub(ioctl.ScrubRequest{
		Type: ioctl.ScrubTypeBMBTD, Flags: ioctl.ScrubRepair | ioctl.ScrubForceRebuild, Ino: ino, Gen: f.Files[0].Gen,
	})
	require.NoError(t, err)
	again := r.run(scrub.Options{})
	assert.Empty(t, again.Findings)
	assert.Zero(t, again.ExitStatus())
}
