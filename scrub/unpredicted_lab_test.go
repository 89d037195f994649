package scrub_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/internal/lab"
	"github.com/scrubd/scrubd/scrub"
)

// TestLabUnpredicted removes records that no fork list and no geometry predicts,
// beside a fault that calls for a rebuild of the free space from the rmapbt.
// What they were of must not be taken for free space with it.
func TestLabUnpredicted(t *testing.T) {
	needBase(t)
	for name, match := range map[string]func(*rig, lab.RmapRec) bool{
		"inodes":   func(_ *rig, r lab.RmapRec) bool { return r.Owner == lab.OwnerInodes },
		"bmbt":     func(_ *rig, r lab.RmapRec) bool { return r.BMBTBlock },
		"refcount": func(_ *rig, r lab.RmapRec) bool { return r.Owner == lab.OwnerRefcbt },
		"inobt":    func(_ *rig, r lab.RmapRec) bool { return r.Owner == lab.OwnerInobt },
		"ag":       func(_ *rig, r lab.RmapRec) bool { return r.Owner == lab.OwnerAG && r.StartBlock > 2 },
		"symlink": func(g *rig, r lab.RmapRec) bool {
			return slices.ContainsFunc(g.clean.Entries, func(e lab.SnapshotEntry) bool { return e.Ino == r.Owner && e.Type == "symlink" })
		},
	} {
		for beside, class := range map[string]lab.FaultClass{"alone": "", "with a leak": lab.FaultBnoShorter} {
			if class == "" && name != "symlink" {
				continue // see TestLabMetadataRecords
			}
			t.Run(name+" "+beside, func(t *testing.T) {
				t.Parallel()
				lab.InKernel(t, func(t *testing.T) {
					r := newRig(t)
					done, err := lab.InjectImage(r.image, lab.Fault{Class: lab.FaultRmapRemoved, Seed: faultSeed(t) + 2, Match: func(rec any) bool {
						one, ok := rec.(lab.RmapRec)
						return ok && match(r, one)
					}})
					require.NoError(t, err)
					t.Log(done.Describe())
					if class != "" {
						more, err := lab.InjectImage(r.image, lab.Fault{Class: class, Seed: faultSeed(t) + 4, AGNo: &done.AGNo})
						require.NoError(t, err)
						t.Log(more.Describe())
					}
					r.mount()
					before, space := r.snapshot(), r.freeBlocks()
					sum := r.run(scrub.Options{})
					require.NoError(t, r.fs.Remount())
					after := r.snapshot()
					assert.Empty(t, harmed(r.clean, before, after), "files harmed")
					assert.Empty(t, lab.Diff(before, after), "files changed")
					if class == "" {
						assert.LessOrEqual(t, r.freeBlocks(), space, "blocks were freed")
					}
					assert.NotEmpty(t, sum.Findings)
				}, lab.WithMem(1500))
			})
		}
	}
}
