package scrub_test

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/internal/lab"
	"github.com/scrubd/scrubd/scrub"
)

// TestLabRealtimeHealthy: nothing is found on a healthy filesystem, whatever its
// realtime device is made of, and the report says what was compared.
func TestLabRealtimeHealthy(t *testing.T) {
	for name, g := range map[string]rtGeometry{"groups": rtGroups, "large extents": rtLarge, "no groups": rtLegacy} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lab.InKernel(t, func(t *testing.T) {
				r := newRTRigOf(t, g)
				r.mount()
				sum := r.run(scrub.Options{})
				assert.Empty(t, sum.Findings)
				assert.Zero(t, sum.ExitStatus(), sum.Notes)
				assert.Zero(t, sum.Candidates)
				assert.Contains(t, sum.Coverage.Checked, scrub.PartRealtime)
				assert.Empty(t, lab.Diff(r.clean, r.snapshot()))
				assert.Empty(t, r.offlineRT())
			}, lab.WithMem(1500))
		})
	}
}

// rtHeld are the faults of realtime groups that are held, and why.
var rtHeld = map[lab.FaultClass]string{
	lab.FaultRTForkLost: "no fork of a realtime file is rebuilt on its own",
}

// TestLabRealtimeFaults injects one fault of every class about realtime groups, each
// into a copy of its own, those of one structure in one kernel. Every fault shows as
// one finding; no file reads otherwise afterwards, and what was healed leaves nothing
// for offline repair.
func TestLabRealtimeFaults(t *testing.T) {
	needRTBase(t)
	byStructure := make(map[string][]lab.FaultClass)
	for _, class := range lab.RTFaultClasses() {
		structure, _, _ := strings.Cut(string(class), "-")
		byStructure[structure] = append(byStructure[structure], class)
	}
	for structure, classes := range byStructure {
		t.Run(structure, func(t *testing.T) {
			t.Parallel()
			lab.InKernel(t, func(t *testing.T) {
				for _, class := range classes {
					t.Run(string(class), func(t *testing.T) {
						r := newRTRig(t)
						done, err := lab.InjectImage(r.image, lab.Fault{Class: class, Seed: faultSeed(t)})
						require.NoError(t, err)
						t.Log(done.Describe())
						r.mount()
						r.healOrHoldRT(class)
					})
				}
			}, lab.WithTimeout(time.Duration(60+60*len(classes))*time.Second), lab.WithMem(1500))
		})
	}
}

func (r *rig) healOrHoldRT(class lab.FaultClass) {
	t := r.t
	sum, f, after := r.oneFinding()
	assert.NotEmpty(t, f.Summary)
	if why, held := rtHeld[class]; held {
		require.Equal(t, scrub.Held, f.Outcome, why)
		assert.Equal(t, 1, sum.ExitStatus())
		assert.NotEmpty(t, f.Reason)
		assert.NotEmpty(t, f.WaysOut)
		assert.Zero(t, sum.Repairs)
		return
	}
	assert.True(t, f.Realtime)
	require.Equal(t, scrub.Repaired, f.Outcome, f.Reason)
	assert.Zero(t, sum.ExitStatus())
	files, err := os.ReadDir(f.EvidencePath)
	require.NoError(t, err)
	assert.True(t, slices.ContainsFunc(files, func(e os.DirEntry) bool { return e.Name() == "evidence.json" }), "%v", files)
	assert.Empty(t, lab.Diff(r.clean, after), "differs from the clean image")
	assert.Empty(t, r.offlineRT())
}
