package scrub_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/internal/lab"
	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub"
)

// choose makes a run that carries out a decision.
func (r *rig) choose(o scrub.Options, id, trust string, confirm func(*scrub.Plan) error) (*scrub.Summary, error) {
	r.t.Helper()
	fs, err := ioctl.Open(r.fs.Dir())
	require.NoError(r.t, err)
	defer fs.Close()
	o.StateDir = r.state
	o.Choice = &scrub.Choice{FindingID: id, Trust: trust, Confirm: func(_ context.Context, plan *scrub.Plan) error {
		return confirm(plan)
	}}
	sum, err := scrub.Run(r.t.Context(), fs, o)
	for _, f := range sum.Findings {
		r.t.Logf("finding %s %s %s row %d: %s; reason %q; done %v", f.ID, f.Outcome, f.AtFault, f.Row, f.Summary, f.Reason, f.Done)
	}
	r.t.Logf("choice %s %s: %v; exit status %d, notes %v", id, trust, err, sum.ExitStatus(), sum.Notes)
	return sum, err
}

func agree(*scrub.Plan) error { return nil }

// lostExtents is a copy of the base image on which n files of one AG have lost
// an extent each, without a trace in their own counters, mounted.
func lostExtents(t *testing.T, n int) *rig {
	t.Helper()
	r := newRig(t)
	var lost []lab.Injected
	for seed := uint64(1); len(lost) < n; seed++ {
		require.Less(t, seed, uint64(100), "the sample has too few victims in one AG")
		tried := r.image + ".try"
		require.NoError(t, lab.CopyImage(tried, r.image))
		done, err := lab.InjectImage(tried, lab.Fault{Class: lab.FaultForkLostNBlocks, Seed: seed})
		require.NoError(t, err)
		if slices.ContainsFunc(lost, func(o lab.Injected) bool { return o.Ino == done.Ino || o.AGNo != done.AGNo }) {
			continue
		}
		t.Log(done.Describe())
		require.NoError(t, os.Rename(tried, r.image))
		lost = append(lost, done)
	}
	r.mount()
	return r
}

func (r *rig) held(n int) []*scrub.Finding {
	r.t.Helper()
	sum := r.run(scrub.Options{Mode: scrub.ModeCheck})
	require.Len(r.t, sum.Findings, n)
	for _, f := range sum.Findings {
		require.Equal(r.t, scrub.Held, f.Outcome)
	}
	return sum.Findings
}

// TestLabChoice carries out each way out of a held finding on a copy of its own,
// and refuses everything that is not exactly that.
func TestLabChoice(t *testing.T) {
	needSmall(t)
	for name, try := range map[string]func(t *testing.T){
		"rmap": tryRestore, "refused": tryRefused, "fork": tryGiveUp,
	} {
		t.Run(name, func(t *testing.T) {
			// Much longer than it takes where the machine has nothing else to do.
			lab.InKernel(t, try, lab.WithTimeout(400*time.Second), lab.WithMem(1500))
		})
	}
}

func tryRefused(t *testing.T) {
	r := lostExtents(t, 1)
	before, space := r.snapshot(), r.freeBlocks()
	f := r.held(1)[0]
	require.NotEmpty(t, f.Files[0].Path)

	// Nothing is done for another finding, without a yes, or against a veto.
	_, err := r.choose(scrub.Options{}, "00000000", scrub.TrustRmap, agree)
	var refused *scrub.ChoiceError
	require.ErrorAs(t, err, &refused)
	assert.True(t, refused.Unknown)
	var plan *scrub.Plan
	sum, err := r.choose(scrub.Options{}, f.ID, scrub.TrustRmap, func(p *scrub.Plan) error {
		plan = p
		return errors.New("not today")
	})
	require.NoError(t, err)
	assert.Equal(t, 1, sum.ExitStatus())
	assert.Contains(t, strings.Join(sum.Notes, ""), "not today")
	require.NotNil(t, plan)
	assert.Equal(t, f.Extents, plan.Restored)
	assert.Empty(t, plan.Freed)
	sum, err = r.choose(scrub.Options{BeforeRepair: func(context.Context, []string) error { return errors.New("veto") }},
		f.ID, scrub.TrustRmap, agree)
	require.NoError(t, err)
	assert.Zero(t, sum.Repairs)
	assert.NoDirExists(t, r.state)

	// A state directory that takes nothing is an error, and no repair is run.
	r.state = "/proc/scrubd"
	sum, err = r.choose(scrub.Options{}, f.ID, scrub.TrustRmap, agree)
	var unwritten *scrub.StateError
	require.ErrorAs(t, err, &unwritten)
	assert.Zero(t, sum.Repairs)
	require.NoError(t, r.fs.Remount())
	assert.Empty(t, lab.Diff(before, r.snapshot()))
	assert.Equal(t, space, r.freeBlocks())

	// What has changed since is another finding.
	require.NoError(t, os.Remove(r.fs.Path(f.Files[0].Path)))
	require.NoError(t, r.fs.Sync())
	_, err = r.choose(scrub.Options{}, f.ID, scrub.TrustRmap, agree)
	require.ErrorAs(t, err, &refused)
}

func tryRestore(t *testing.T) {
	r := lostExtents(t, 1)
	require.NotEmpty(t, lab.Diff(r.clean, r.snapshot()), "the fault costs data")
	f := r.held(1)[0]
	require.Len(t, f.WaysOut, 2)
	for _, w := range f.WaysOut {
		assert.Equal(t, "scrubd repair "+r.fs.Dir()+" --finding "+f.ID+" --trust "+w.Trust, w.Command)
	}
	sum, err := r.choose(scrub.Options{}, f.ID, scrub.TrustRmap, agree)
	require.NoError(t, err)
	require.Len(t, sum.Findings, 1)
	assert.Equal(t, f.ID, sum.Findings[0].ID, "the same in the next run")
	assert.Equal(t, scrub.Repaired, sum.Findings[0].Outcome)
	assert.FileExists(t, filepath.Join(sum.Findings[0].EvidencePath, "evidence.json"))
	assert.Zero(t, sum.ExitStatus())
	require.NoError(t, r.fs.Remount())
	assert.Empty(t, lab.Diff(r.clean, r.snapshot()), "the data is back")
	_, err = r.choose(scrub.Options{}, f.ID, scrub.TrustRmap, agree)
	var refused *scrub.ChoiceError
	require.ErrorAs(t, err, &refused, "there is nothing to decide any more")
	assert.Empty(t, r.offline())
}

func tryGiveUp(t *testing.T) {
	r := lostExtents(t, 1)
	before, space := r.snapshot(), r.freeBlocks()
	f := r.held(1)[0]
	var plan *scrub.Plan
	sum, err := r.choose(scrub.Options{}, f.ID, scrub.TrustFork, func(p *scrub.Plan) error { plan = p; return nil })
	require.NoError(t, err)
	i := slices.IndexFunc(sum.Findings, func(o *scrub.Finding) bool { return o.ID == f.ID })
	require.GreaterOrEqual(t, i, 0)
	assert.Equal(t, scrub.Repaired, sum.Findings[i].Outcome)
	assert.Equal(t, f.Extents, plan.Freed)
	require.NoError(t, r.fs.Remount())
	assert.Empty(t, lab.Diff(before, r.snapshot()), "every file reads as it did before the decision")
	assert.GreaterOrEqual(t, r.freeBlocks(), space, "blocks that others share stay theirs")
	lost, err := os.Stat(filepath.Join(sum.Findings[i].EvidencePath, "blocks.img"))
	require.NoError(t, err)
	assert.Positive(t, lost.Size(), "a copy of what was given up")
}
