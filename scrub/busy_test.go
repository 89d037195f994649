package scrub_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/internal/lab"
	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub"
)

// busyFor is how long a healthy filesystem is scrubbed under writers.
const busyFor = 60 * time.Second

// scrubWhileBusy runs scrubd without pause under all writers, following them in
// one run and not in the next. The result has to be the same; what differs is
// how much has to be looked at again.
func scrubWhileBusy(t *testing.T, fs *lab.LoopFS, length time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	wait := startWriters(ctx, t, fs.Dir())
	x, err := ioctl.Open(fs.Dir())
	require.NoError(t, err)
	size := uint64(x.Geometry().BlocksToBytes(x.Geometry().DataBlocks))
	require.NoError(t, x.Close())
	candidates := uint64(0)
	var share [2]struct {
		runs                                         int
		candidates, confirmed, extents, told, losses uint64
	}
	for n := 0; ctx.Err() == nil; n++ {
		sum := runOnce(t, fs, scrub.Options{StateDir: t.TempDir(), NoLive: n%2 == 1})
		s := &share[n%2]
		s.runs++
		s.candidates += sum.Candidates
		s.confirmed += sum.Candidates - sum.CaughtUp
		s.extents += sum.Extents
		s.told += sum.LiveChanges
		s.losses += sum.LiveLosses
		candidates += sum.Candidates
		if lab.Inside() {
			assert.Equal(t, n%2 == 0, sum.Coverage.Live, "%s", sum.Coverage.LiveWhy)
		}
		for _, f := range sum.Findings {
			t.Errorf("false alarm: %s %s: %s; %s; %v", f.Outcome, f.AtFault, f.Summary, f.Reason, f.Witnesses)
		}
		assert.Zero(t, sum.Repairs)
		assert.Zero(t, sum.ExitStatus(), "notes: %v", sum.Notes)
		assert.Equal(t, size, sum.ComparedBytes)
	}
	t.Logf("rounds of the writers: %v", wait())
	for i, name := range []string{"following the writers", "without"} {
		s := &share[i]
		t.Logf("%s: %d runs, %d changes told of, %d losses; of %d extents %d were candidates, and %d had to be confirmed",
			name, s.runs, s.told, s.losses, s.extents, s.candidates, s.confirmed)
	}
	assert.Positive(t, candidates, "the writers were too slow to show anything")
}

func runOnce(t *testing.T, fs *lab.LoopFS, o scrub.Options) *scrub.Summary {
	t.Helper()
	x, err := ioctl.Open(fs.Dir())
	require.NoError(t, err)
	defer x.Close()
	sum, err := scrub.Run(t.Context(), x, o)
	require.NoError(t, err)
	return sum
}

func TestBusyHealthyOnLoop(t *testing.T) {
	lab.Require(t, lab.Root, lab.Loop)
	fs := lab.NewLoopFS(t, lab.MkfsOptions{})
	require.NoError(t, lab.Sample(fs.Dir(), lab.SampleSpec{Files: 200}))
	scrubWhileBusy(t, fs, busyFor)
}

func TestLabBusyHealthy(t *testing.T) {
	needBase(t)
	lab.InKernel(t, func(t *testing.T) {
		r := newRig(t)
		r.mount()
		scrubWhileBusy(t, r.fs, busyFor)
		assert.Empty(t, r.offline())
	}, lab.WithMem(2048), lab.WithTimeout(busyFor+210*time.Second))
}

// TestLabBusyDamaged damages one record of a file that nobody writes to, below
// the mounted filesystem and under all writers; the next run finds and heals it.
func TestLabBusyDamaged(t *testing.T) {
	needBase(t)
	lab.InKernel(t, func(t *testing.T) {
		r := newRig(t)
		r.mount()
		before := r.snapshot()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		wait := startWriters(ctx, t, r.fs.Dir())
		done, err := lab.InjectLive(r.fs, lab.Fault{Class: lab.FaultRmapOwnerMissing, Seed: 1, Match: func(rec any) bool {
			return rec.(lab.RmapRec).BlockCount > 1 && r.cold(ioctl.Ino(rec.(lab.RmapRec).Owner))
		}})
		require.NoError(t, err)
		t.Log(done.Describe())
		sum := r.run(scrub.Options{})
		again := r.run(scrub.Options{})
		cancel()
		t.Logf("rounds of the writers: %v", wait())
		require.Len(t, sum.Findings, 1)
		f := sum.Findings[0]
		assert.Equal(t, scrub.Repaired, f.Outcome, f.Reason)
		assert.Equal(t, "rmapbt", f.AtFault)
		assert.Zero(t, sum.ExitStatus())
		assert.Empty(t, again.Findings)
		assert.Empty(t, r.harmedCold(before))
		assert.Empty(t, r.offline())
	}, lab.WithMem(2048), lab.WithTimeout(240*time.Second))
}
