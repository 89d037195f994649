package scrub_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/internal/lab"
	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub"
)

// A check of a few places says what is wrong there, as held, and nothing of the
// rest; it repairs nothing, whatever mode is asked for.
func TestLabPlaces(t *testing.T) {
	needSmall(t)
	lab.InKernel(t, func(t *testing.T) {
		r := newRig(t)
		agno := ioctl.AGNumber(1)
		_, err := lab.InjectImage(r.image, lab.Fault{Class: lab.FaultCntLength, Seed: 1, AGNo: &agno})
		require.NoError(t, err)
		fork, err := lab.InjectImage(r.image, lab.Fault{Class: lab.FaultNBlocks, Seed: 1})
		require.NoError(t, err)
		r.mount()
		before := r.snapshot()

		sum := r.run(scrub.Options{Mode: scrub.ModeRepair, Only: &scrub.Places{AGs: []ioctl.AGNumber{0, 1}}})
		require.Len(t, sum.Findings, 1)
		f := sum.Findings[0]
		assert.Equal(t, scrub.ModeCheck, sum.Mode)
		assert.Equal(t, []string{"AG 0", "AG 1"}, sum.Only)
		assert.Equal(t, scrub.Held, f.Outcome)
		assert.Equal(t, "undecided", f.AtFault)
		assert.True(t, f.HasAG)
		assert.Equal(t, agno, f.AGNo)
		assert.NotEmpty(t, f.ScrubTypes)
		assert.Equal(t, 1, sum.ExitStatus())
		assert.Zero(t, sum.Repairs)

		sum = r.run(scrub.Options{Only: &scrub.Places{AGs: []ioctl.AGNumber{0}}})
		assert.Empty(t, sum.Findings)
		assert.Zero(t, sum.ExitStatus(), sum.Notes)

		const unused = 1 << 18
		sum = r.run(scrub.Options{Only: &scrub.Places{Inodes: []scrub.InodeRef{{Ino: fork.Ino}, {Ino: unused}}}})
		require.Len(t, sum.Findings, 1)
		f = sum.Findings[0]
		assert.Equal(t, fork.Ino, f.Files[0].Ino)
		assert.NotZero(t, f.Files[0].Gen)
		assert.Contains(t, f.ScrubTypes, ioctl.ScrubTypeINODE)
		assert.Equal(t, []string{"inode 262144 is not in use"}, sum.Notes)
		assert.Equal(t, 1, sum.ExitStatus())

		x, err := ioctl.Open(r.fs.Dir())
		require.NoError(t, err)
		_, err = scrub.Run(t.Context(), x, scrub.Options{Only: &scrub.Places{AGs: []ioctl.AGNumber{2}}})
		require.ErrorIs(t, err, scrub.ErrNoPlace)
		_, err = scrub.Run(t.Context(), x, scrub.Options{Only: &scrub.Places{RTGroups: []ioctl.RGNumber{0}}})
		require.ErrorIs(t, err, scrub.ErrNoPlace)
		require.NoError(t, x.Close())

		assert.Empty(t, lab.Diff(before, r.snapshot()))
		assert.NotEmpty(t, r.offline(), "the faults are there still")
	}, lab.WithTimeout(5*time.Minute))
}

// Without the kernel's scrub there is nothing that could look at one place.
func TestPlacesWithoutScrub(t *testing.T) {
	lab.Require(t, lab.Root, lab.Loop)
	fs := lab.NewLoopFS(t, lab.MkfsOptions{})
	x, err := ioctl.Open(fs.Dir())
	require.NoError(t, err)
	defer x.Close()
	_, err = scrub.Run(t.Context(), x, scrub.Options{Only: &scrub.Places{AGs: []ioctl.AGNumber{0}}})
	if x.Features().Has(ioctl.FeatureScrub) {
		require.NoError(t, err)
		return
	}
	require.ErrorIs(t, err, scrub.ErrRequired)
}
