package scrub_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/internal/lab"
	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub"
)

// TestLabMarkedBefore: the rmapbt lost the record of a link's target, which only
// the kernel's scrub of the link can tell, and was marked sick before the run for
// another reason, so that this scrub leaves the comparison out. The bnobt, which
// was the reason, must not be rebuilt from that rmapbt: the target would be free.
func TestLabMarkedBefore(t *testing.T) {
	needBase(t)
	lab.InKernel(t, func(t *testing.T) {
		r := newRig(t)
		link := func(e lab.SnapshotEntry) bool { return e.Type == "symlink" }
		done, err := lab.InjectImage(r.image, lab.Fault{Class: lab.FaultRmapRemoved, Seed: faultSeed(t), Match: func(rec any) bool {
			one, ok := rec.(lab.RmapRec)
			return ok && slices.ContainsFunc(r.clean.Entries, func(e lab.SnapshotEntry) bool { return e.Ino == one.Owner && link(e) })
		}})
		require.NoError(t, err)
		t.Log(done.Describe())
		more, err := lab.InjectImage(r.image, lab.Fault{Class: lab.FaultBnoLonger, Seed: faultSeed(t), AGNo: &done.AGNo})
		require.NoError(t, err)
		t.Log(more.Describe())
		r.mount()
		before, space := r.snapshot(), r.freeBlocks()
		r.mark(ioctl.ScrubTypeRMAPBT, done.AGNo)

		sum := r.run(scrub.Options{})
		require.NotEmpty(t, sum.Findings)
		require.NoError(t, r.fs.Remount())
		assert.Empty(t, lab.Diff(before, r.snapshot()))
		assert.LessOrEqual(t, r.freeBlocks(), space, "the target of a link was freed")
	}, lab.WithTimeout(200*time.Second), lab.WithMem(1500))
}

// mark has the kernel mark a structure of an AG that it finds at fault.
func (r *rig) mark(typ ioctl.ScrubType, agno ioctl.AGNumber) {
	r.t.Helper()
	fs, err := ioctl.Open(r.fs.Dir())
	require.NoError(r.t, err)
	defer fs.Close()
	flags, err := fs.Scrub(ioctl.ScrubRequest{Type: typ, AGNo: agno})
	require.NoError(r.t, err)
	require.True(r.t, flags.Any(ioctl.ScrubCorrupt|ioctl.ScrubXCorrupt), "%s", flags)
}
