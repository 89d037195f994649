package witness_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/internal/lab"
	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/witness"
	"github.com/scrubd/scrubd/shadow"
)

// treeImage makes a filesystem with rmapbts of several leaves and leaves it
// unmounted.
func treeImage(t *testing.T, args ...string) *lab.LoopFS {
	t.Helper()
	lab.Require(t, lab.Root, lab.Loop)
	m := lab.NewLoopFS(t, lab.MkfsOptions{Args: args})
	spec := lab.SampleSpec{Files: 400, Extents: 6000, NoReflink: slices.Contains(args, "reflink=0")}
	require.NoError(t, lab.Sample(m.Dir(), spec))
	require.NoError(t, m.Unmount())
	m.SetMountOpts("ro")
	return m
}

// rmapsOnDisk returns the records of a group's rmapbt as they lie in the leaves.
func rmapsOnDisk(t *testing.T, img *lab.Image, agno ioctl.AGNumber) (*lab.Tree[lab.RmapRec], []lab.Entry[lab.RmapRec], []shadow.Rmap) {
	t.Helper()
	tree, err := img.RmapBT(agno)
	require.NoError(t, err)
	entries, err := tree.Records()
	require.NoError(t, err)
	all := make([]shadow.Rmap, len(entries))
	for i := range entries {
		all[i] = onDisk(entries[i].Rec)
	}
	return tree, entries, all
}

func onDisk(r lab.RmapRec) shadow.Rmap {
	m := shadow.Rmap{StartBlock: uint32(r.StartBlock), BlockCount: r.BlockCount, Owner: r.Owner, Offset: r.Offset}
	if r.AttrFork {
		m.Offset |= shadow.OffsetAttrFork
	}
	if r.BMBTBlock {
		m.Offset |= shadow.OffsetBmbtBlock
	}
	if r.Unwritten {
		m.Offset |= shadow.OffsetUnwritten
	}
	return m
}

// mounted runs f on the mounted filesystem.
func mounted(t *testing.T, m *lab.LoopFS, f func(fs *ioctl.FS)) {
	t.Helper()
	require.NoError(t, m.Mount())
	fs, err := ioctl.Open(m.Dir())
	require.NoError(t, err)
	f(fs)
	require.NoError(t, fs.Close())
	require.NoError(t, m.Unmount())
}

func openImage(t *testing.T, m *lab.LoopFS) *lab.Image {
	t.Helper()
	img, err := lab.OpenImage(m.Image())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, img.Close()) })
	return img
}

// The views are what lies on disk, record by record, also where records were
// moved within the tree.
func TestViewsReadTheTrees(t *testing.T) {
	for _, args := range [][]string{{"-d", "agcount=2"}, {"-m", "reflink=0"}} {
		t.Run(fmt.Sprint(args), func(t *testing.T) {
			m := treeImage(t, args...)
			img := openImage(t, m)
			mounted(t, m, func(fs *ioctl.FS) {
				v := openView(t, fs)
				for agno := range ioctl.AGNumber(fs.Geometry().AGCount) {
					_, _, want := rmapsOnDisk(t, img, agno)
					for _, batch := range []int{40, ioctl.MaxFSMapRecords} {
						got, err := view(fs, agno, batch)
						require.NoError(t, err)
						require.Equal(t, want, got)
					}
					compareFree(t, fs, v, img, agno)
				}
				require.NoError(t, v.Close())
			})
			for seed := range uint64(12) {
				strayOnDisk(t, m, img, seed)
			}
		})
	}
}

func compareFree(t *testing.T, fs *ioctl.FS, v *ioctl.BnobtView, img *lab.Image, agno ioctl.AGNumber) {
	t.Helper()
	tree, err := img.BnoBT(agno)
	require.NoError(t, err)
	entries, err := tree.Records()
	require.NoError(t, err)
	for _, batch := range []int{16, ioctl.MaxFSMapRecords} {
		var got []witness.Free
		for frees, err := range witness.FreeView(context.Background(), fs, v, agno, ioctl.NewFSMapBuffer(batch)) {
			require.NoError(t, err)
			got = append(got, frees...)
		}
		require.Len(t, got, len(entries))
		for i, e := range entries {
			require.Equal(t, witness.Free{Start: uint32(e.Rec.StartBlock), Count: e.Rec.BlockCount}, got[i])
		}
	}
}

// strayOnDisk gives a record another start block where it lies, and puts it back.
func strayOnDisk(t *testing.T, m *lab.LoopFS, img *lab.Image, seed uint64) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 1))
	agno := ioctl.AGNumber(rng.Uint32N(img.SB.AGCount))
	tree, entries, _ := rmapsOnDisk(t, img, agno)
	e := entries[1+rng.IntN(len(entries)-1)] // the first one, of the headers, is checked by itself
	rec := e.Rec
	if !rec.IsInode() {
		return
	}
	rec.StartBlock = ioctl.AGBlock(100 + rng.Uint32N(uint32(img.AGLength(agno))-rec.BlockCount-100))
	require.NoError(t, tree.Set(e.Location, rec, lab.FixKeys))
	stray := onDisk(rec)
	_, _, want := rmapsOnDisk(t, img, agno)
	slices.SortStableFunc(want, func(a, b shadow.Rmap) int { return shadow.Compare(&a, &b) })
	mounted(t, m, func(fs *ioctl.FS) {
		for _, batch := range []int{40, ioctl.MaxFSMapRecords} {
			got, err := view(fs, agno, batch)
			require.NoError(t, err)
			require.True(t, slices.IsSortedFunc(got, func(a, b shadow.Rmap) int { return shadow.Compare(&a, &b) }))
			if rec.StartBlock < e.Rec.StartBlock && !slices.Contains(got, stray) {
				// It sorts below what the query has gone past by then.
				got = append(got, stray)
				slices.SortStableFunc(got, func(a, b shadow.Rmap) int { return shadow.Compare(&a, &b) })
			}
			require.Equal(t, want, got, "seed %d, batches of %d: %v moved to %d", seed, batch, e.Rec, rec.StartBlock)
		}
	})
	require.NoError(t, tree.Set(e.Location, e.Rec, lab.FixKeys))
}

// Around a leaf that cannot be read, everything else is.
func TestReadableRmapsOnDisk(t *testing.T) {
	m := treeImage(t)
	img := openImage(t, m)
	for _, class := range []lab.FaultClass{lab.FaultRmapCRC, lab.FaultRmapInvalid} {
		for seed := range uint64(4) {
			t.Run(fmt.Sprint(class, " ", seed), func(t *testing.T) {
				// Read before it is damaged: the lab's reader stops at what is bad, too.
				clean := map[ioctl.AGNumber][]lab.Entry[lab.RmapRec]{}
				for agno := range ioctl.AGNumber(img.SB.AGCount) {
					_, clean[agno], _ = rmapsOnDisk(t, img, agno)
				}
				fault, err := lab.Fault{Class: class, Seed: seed}.Inject(img)
				require.NoError(t, err)
				mounted(t, m, func(fs *ioctl.FS) { checkReadable(t, fs, fault, clean[fault.AGNo]) })
				require.NoError(t, fault.Undo(img))
			})
		}
	}
}

func checkReadable(t *testing.T, fs *ioctl.FS, fault lab.Injected, clean []lab.Entry[lab.RmapRec]) {
	t.Helper()
	_, err := view(fs, fault.AGNo, ioctl.MaxFSMapRecords)
	var corrupt *witness.CorruptError
	require.ErrorAs(t, err, &corrupt)
	require.Equal(t, fault.AGNo, corrupt.AGNo)

	var got []shadow.Rmap
	bad, err := witness.ReadableRmaps(context.Background(), fs, fault.AGNo, ioctl.NewFSMapBuffer(ioctl.MaxFSMapRecords), func(r []shadow.Rmap) error {
		got = append(got, r...)
		return nil
	})
	require.NoError(t, err)
	require.NotEmpty(t, bad)
	var leaf uint64
	for _, e := range clean {
		if e.Rec.StartBlock == fault.AGBno && e.Rec.Owner == fault.Owner && e.Rec.Offset == fault.Offset {
			leaf = e.Block
		}
	}
	require.NotZero(t, leaf)
	unread := 0
	for _, e := range clean {
		rec := onDisk(e.Rec)
		if slices.Contains(got, rec) {
			continue
		}
		unread++
		require.True(t, witness.Unreadable(bad, rec.StartBlock, rec.BlockCount), "%v is missing in silence", rec)
	}
	require.Positive(t, unread)
	require.Less(t, unread, len(clean))
	require.Len(t, got, len(clean)-unread)
	t.Logf("%d of %d records unread, %d ranges", unread, len(clean), len(bad))
}
