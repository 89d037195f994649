package scrub_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/internal/lab"
	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub"
)

// many is for runs that are to be stopped half way.
var many = baseImage{files: 3000}

// stopped makes a run and stops it once that many inodes have been scrubbed.
func (r *rig) stopped(o scrub.Options, inodes uint64) *scrub.Summary {
	r.t.Helper()
	fs, err := ioctl.Open(r.fs.Dir())
	require.NoError(r.t, err)
	defer fs.Close()
	ctx, cancel := context.WithCancel(r.t.Context())
	defer cancel()
	o.StateDir = r.state
	o.Events = func(e scrub.Event) {
		if p, ok := e.(*scrub.ProgressEvent); ok && p.Phase == scrub.PhaseInodes && p.Done >= inodes {
			cancel()
		}
	}
	log := logrus.New()
	log.SetOutput(r.t.Output())
	o.Log = log
	o.Workers = 1 // so that it is seen before it is through
	sum, err := scrub.Run(ctx, fs, o)
	require.ErrorIs(r.t, err, context.Canceled)
	require.False(r.t, sum.Complete)
	r.t.Logf("stopped: %s; checkpoint %t, notes %v", sum.Incomplete, sum.Checkpoint, sum.Notes)
	return sum
}

func (r *rig) checkpoint() string {
	r.t.Helper()
	found, err := filepath.Glob(filepath.Join(r.state, "*", "checkpoint"))
	require.NoError(r.t, err)
	if len(found) == 0 {
		return ""
	}
	return found[0]
}

// A run that was stopped in the middle of the inodes goes on there, after the
// filesystem was mounted anew, too; one that finds anything begins anew, and only then
// repairs.
func TestLabResume(t *testing.T) {
	if dir := many.make(t); dir != "" {
		t.Setenv(envBase, dir)
	}
	lab.InKernel(t, func(t *testing.T) {
		r := newRig(t)
		r.mount()
		whole := r.run(scrub.Options{})
		require.Zero(t, whole.ExitStatus())
		assert.Nil(t, whole.Resumed)
		assert.Empty(t, r.checkpoint(), "a run that got through leaves none")

		first := r.stopped(scrub.Options{}, 1200)
		assert.True(t, first.Checkpoint)
		require.NotEmpty(t, r.checkpoint())
		require.NoError(t, r.fs.Remount())
		require.NoError(t, os.WriteFile(r.fs.Path("new"), make([]byte, 100_000), 0o600))

		second := r.stopped(scrub.Options{Resume: true}, 2400)
		require.NotNil(t, second.Resumed)
		assert.GreaterOrEqual(t, second.Resumed.Inodes, uint64(1000))

		last := r.run(scrub.Options{Resume: true})
		require.NotNil(t, last.Resumed)
		assert.Greater(t, last.Resumed.Inodes, second.Resumed.Inodes)
		assert.Equal(t, second.RunID, last.Resumed.RunID)
		assert.Empty(t, last.Resumed.Anew)
		assert.Zero(t, last.ExitStatus())
		assert.Equal(t, whole.Inodes+1, last.Inodes, "the walk is whole")
		assert.Less(t, last.KernelCalls+last.Resumed.Inodes/2, whole.KernelCalls)
		assert.WithinDuration(t, first.Began, last.Resumed.Since, 10*time.Second, "the oldest check counts")
		require.Len(t, last.Well, 1)
		assert.Equal(t, last.Resumed.Since, last.Well[0].Since)
		assert.Empty(t, r.checkpoint())

		r.resumeDamaged()
	}, lab.WithTimeout(9*time.Minute), lab.WithMem(1500))
}

// resumeDamaged damages what had been checked. The comparison, which is never left
// out, finds it; the repair waits for a pass that leaves nothing out.
func (r *rig) resumeDamaged() {
	t := r.t
	r.stopped(scrub.Options{}, 2400)
	require.NoError(t, r.fs.Unmount())
	done, err := lab.InjectImage(r.image, lab.Fault{Class: lab.FaultRmapOffset, Seed: 1})
	require.NoError(t, err)
	t.Log(done.Describe())
	require.NoError(t, r.fs.Mount())
	sum := r.run(scrub.Options{Resume: true})
	require.NotNil(t, sum.Resumed)
	assert.Contains(t, sum.Resumed.Anew, "something was found")
	require.Len(t, sum.Findings, 1)
	assert.Equal(t, scrub.Repaired, sum.Findings[0].Outcome)
	assert.Zero(t, sum.ExitStatus())
	assert.Empty(t, r.checkpoint(), "none outlives a repair")
}
