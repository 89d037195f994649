package lab_test

import (
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/internal/lab"
	"github.com/scrubd/scrubd/ioctl"
)

// sampleImage makes an unmounted image with a sample in it.
func sampleImage(t *testing.T, spec lab.SampleSpec, mkfs ...string) (string, lab.Snapshot) {
	t.Helper()
	fs := lab.NewLoopFS(t, lab.MkfsOptions{Args: mkfs})
	require.NoError(t, lab.Sample(fs.Dir(), spec))
	snap, err := lab.TakeSnapshot(fs.Dir())
	require.NoError(t, err)
	require.NoError(t, fs.Unmount())
	return fs.Image(), snap
}

func openImage(t *testing.T, path string) *lab.Image {
	t.Helper()
	img, err := lab.OpenImage(path)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, img.Close()) })
	return img
}

func checksumFile(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	require.NoError(t, err)
	return fmt.Sprintf("%x", h.Sum(nil))
}

// dumpedRecord matches a record in the output of xfs_db's btdump, and
// dumpedExtent one of bmap.
var (
	dumpedRecord = regexp.MustCompile(`(?m)^\d+:\[([^]]*)\]`)
	dumpedExtent = regexp.MustCompile(`offset (\d+) startblock (\d+) \(\d+/\d+\) count (\d+) flag (\d)`)
)

func dumpNumbers(t *testing.T, out string, pattern *regexp.Regexp) [][]uint64 {
	t.Helper()
	var recs [][]uint64
	for _, m := range pattern.FindAllStringSubmatch(out, -1) {
		fields := m[1:]
		if len(fields) == 1 {
			fields = strings.Split(m[1], ",")
		}
		var rec []uint64
		for _, f := range fields {
			if n, err := strconv.ParseInt(f, 10, 64); err == nil {
				rec = append(rec, uint64(n))
				continue
			}
			n, err := strconv.ParseUint(f, 0, 64)
			require.NoError(t, err, "%q", m[0])
			rec = append(rec, n)
		}
		recs = append(recs, rec)
	}
	return recs
}

func bit(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// numbers gives a tree's records in the fields and the order of btdump.
func numbers[R lab.Record](t *testing.T, tree *lab.Tree[R]) [][]uint64 {
	t.Helper()
	recs, err := tree.Records()
	require.NoError(t, err)
	var out [][]uint64
	for _, e := range recs {
		switch r := any(e.Rec).(type) {
		case lab.FreeRec:
			out = append(out, []uint64{uint64(r.StartBlock), uint64(r.BlockCount)})
		case lab.InodeRec:
			out = append(out, []uint64{uint64(r.StartIno), uint64(r.HoleMask), uint64(r.Count), uint64(r.FreeCount), r.Free})
		case lab.RmapRec:
			out = append(out, []uint64{
				uint64(r.StartBlock), uint64(r.BlockCount), r.Owner, r.Offset, bit(r.Unwritten), bit(r.AttrFork), bit(r.BMBTBlock),
			})
		case lab.RefcountRec:
			out = append(out, []uint64{uint64(r.StartBlock), uint64(r.BlockCount), uint64(r.RefCount), bit(r.CoW)})
		case lab.ExtentRec:
			out = append(out, []uint64{r.Offset, uint64(r.StartBlock), uint64(r.BlockCount), bit(r.Unwritten)})
		}
	}
	require.NoError(t, tree.Check())
	return out
}

func TestImageReadsWhatXFSDBReads(t *testing.T) {
	lab.Require(t, lab.Root, lab.Loop)
	for _, tc := range []struct {
		name       string
		mkfs       []string
		spec       lab.SampleSpec
		rmapLevels uint32
		inoLevels  uint32
	}{
		{"defaults", nil, lab.SampleSpec{Seed: 3}, 2, 1},
		{"1k blocks, two AGs", []string{"-b", "size=1024", "-d", "agcount=2"}, lab.SampleSpec{Seed: 3, Files: 9000, SmallFiles: true}, 3, 2},
		{"odd AG size, 64-bit extent counts", []string{"-d", "agcount=3", "-i", "nrext64=1,size=1024"}, lab.SampleSpec{Seed: 3}, 2, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path, snap := sampleImage(t, tc.spec, tc.mkfs...)
			img := openImage(t, path)
			var rmapLevels, inoLevels uint32
			for agno := range ioctl.AGNumber(img.SB.AGCount) {
				compareTrees(t, img, path, agno)
				agf, err := img.AGF(agno)
				require.NoError(t, err)
				agi, err := img.AGI(agno)
				require.NoError(t, err)
				rmapLevels, inoLevels = max(rmapLevels, agf.Levels[lab.RmapBT]), max(inoLevels, agi.Level)
				compareHeaders(t, path, agno, agf, agi)
				compareAGFL(t, img, path, agno, agf)
			}
			assert.GreaterOrEqual(t, rmapLevels, tc.rmapLevels, "the sample fills several levels")
			assert.GreaterOrEqual(t, inoLevels, tc.inoLevels, "the sample fills several levels")
			compareInodes(t, img, path, snap)
		})
	}
}

func compareTrees(t *testing.T, img *lab.Image, path string, agno ioctl.AGNumber) {
	t.Helper()
	dump := func(header, root string) [][]uint64 {
		return dumpNumbers(t, xfsDB(t, path, fmt.Sprintf("%s %d", header, agno), "addr "+root, "btdump"), dumpedRecord)
	}
	bno, err := img.BnoBT(agno)
	require.NoError(t, err)
	assert.Equal(t, dump("agf", "bnoroot"), numbers(t, bno), "bnobt of AG %d", agno)
	cnt, err := img.CntBT(agno)
	require.NoError(t, err)
	assert.Equal(t, dump("agf", "cntroot"), numbers(t, cnt), "cntbt of AG %d", agno)
	rmap, err := img.RmapBT(agno)
	require.NoError(t, err)
	assert.Equal(t, dump("agf", "rmaproot"), numbers(t, rmap), "rmapbt of AG %d", agno)
	refc, err := img.RefcountBT(agno)
	require.NoError(t, err)
	assert.Equal(t, dump("agf", "refcntroot"), numbers(t, refc), "refcountbt of AG %d", agno)
	ino, err := img.InoBT(agno)
	require.NoError(t, err)
	assert.Equal(t, dump("agi", "root"), numbers(t, ino), "inobt of AG %d", agno)
	fino, err := img.FinoBT(agno)
	require.NoError(t, err)
	assert.Equal(t, dump("agi", "free_root"), numbers(t, fino), "finobt of AG %d", agno)
}

// printed returns one number that xfs_db prints for a field.
func printed(t *testing.T, path, where, field string) uint64 {
	t.Helper()
	_, value, ok := strings.Cut(strings.TrimSpace(xfsDB(t, path, where, "p "+field)), " = ")
	require.True(t, ok)
	value, _, _ = strings.Cut(value, " ")
	n, err := strconv.ParseUint(value, 0, 64)
	require.NoError(t, err)
	return n
}

func compareHeaders(t *testing.T, path string, agno ioctl.AGNumber, agf lab.AGF, agi lab.AGI) {
	t.Helper()
	where := fmt.Sprintf("agf %d", agno)
	for field, got := range map[string]uint32{
		"length": agf.Length, "freeblks": agf.FreeBlks, "longest": agf.Longest, "btreeblks": agf.BtreeBlks,
		"rmapblocks": agf.RmapBlocks, "refcntblocks": agf.RefcountBlocks, "flcount": agf.FLCount,
	} {
		assert.EqualValues(t, printed(t, path, where, field), got, "%s %s", where, field)
	}
	where = fmt.Sprintf("agi %d", agno)
	for field, got := range map[string]uint32{
		"count": agi.Count, "freecount": agi.FreeCount, "newino": agi.NewIno, "ino_blocks": agi.IBlocks, "fino_blocks": agi.FBlocks,
	} {
		if out := xfsDB(t, path, where, "p "+field); !strings.Contains(out, "null") {
			assert.EqualValues(t, printed(t, path, where, field), got, "%s %s", where, field)
		}
	}
}

func compareAGFL(t *testing.T, img *lab.Image, path string, agno ioctl.AGNumber, agf lab.AGF) {
	t.Helper()
	blocks, first, err := img.AGFL(agno)
	require.NoError(t, err)
	assert.Equal(t, agf.FLFirst, first)
	require.Len(t, blocks, int(agf.FLCount))
	assert.EqualValues(t, printed(t, path, fmt.Sprintf("agfl %d", agno), fmt.Sprintf("bno[%d]", first)), blocks[0])
}

func compareInodes(t *testing.T, img *lab.Image, path string, snap lab.Snapshot) {
	t.Helper()
	allocated := make(map[uint64]bool)
	for agno := range ioctl.AGNumber(img.SB.AGCount) {
		for core, err := range img.Inodes(agno) {
			require.NoError(t, err)
			if !img.MetaInodes()[ioctl.Ino(core.Ino)] {
				allocated[core.Ino] = true
			}
		}
	}
	named := make(map[uint64]bool)
	for _, e := range snap.Entries {
		named[e.Ino] = true
	}
	assert.Equal(t, named, allocated, "every named inode is allocated, and no other")

	for _, name := range []string{
		"clones/base", "clones/depth8", "clones/shifted", "fragmented/holes", "fragmented/left", "fragmented/punched",
		"unwritten/stripes", "unwritten/past-eof", "attrs/many", "attrs/large", "attrs/fifo", "symlinks/target1023", "dirs/node", "special/empty",
	} {
		e, ok := snap.Get(name)
		require.True(t, ok, name)
		for fork, flag := range map[ioctl.Fork]string{ioctl.DataFork: "-d", ioctl.AttrFork: "-a"} {
			tree, err := img.BmapBT(ioctl.Ino(e.Ino), fork)
			require.NoError(t, err)
			want := dumpNumbers(t, xfsDB(t, path, fmt.Sprintf("inode %d", e.Ino), "bmap "+flag), dumpedExtent)
			assert.Equal(t, want, numbers(t, tree), "%s %s", name, fork)
		}
		core, err := img.Inode(ioctl.Ino(e.Ino))
		require.NoError(t, err)
		where := fmt.Sprintf("inode %d", e.Ino)
		assert.Equal(t, printed(t, path, where, "core.nblocks"), core.NBlocks, name)
		assert.Equal(t, printed(t, path, where, "v3.reflink"), bit(core.Reflink()), name)
	}
}

// TestImageEditsAreExact changes records in many ways, takes every change back
// and has the same image again.
func TestImageEditsAreExact(t *testing.T) {
	lab.Require(t, lab.Root, lab.Loop)
	path, _ := sampleImage(t, lab.SampleSpec{Seed: 5, Files: 3000, SmallFiles: true}, "-b", "size=1024", "-d", "agcount=2")
	clean := checksumFile(t, path)
	img := openImage(t, path)
	rng := rand.New(rand.NewPCG(1, 2))
	for agno := range ioctl.AGNumber(2) {
		rmap, err := img.RmapBT(agno)
		require.NoError(t, err)
		editAndUndo(t, img, rmap, rng, func(r lab.RmapRec) lab.RmapRec { r.Owner++; return r }, func(r lab.RmapRec) lab.RmapRec {
			r.StartBlock += 1000
			return r
		})
		bno, err := img.BnoBT(agno)
		require.NoError(t, err)
		editAndUndo(t, img, bno, rng, func(r lab.FreeRec) lab.FreeRec { r.BlockCount++; return r }, func(r lab.FreeRec) lab.FreeRec {
			r.StartBlock++
			return r
		})
		cnt, err := img.CntBT(agno)
		require.NoError(t, err)
		editAndUndo(t, img, cnt, rng, func(r lab.FreeRec) lab.FreeRec { r.StartBlock++; return r }, func(r lab.FreeRec) lab.FreeRec {
			r.BlockCount += 100
			return r
		})
		ino, err := img.InoBT(agno)
		require.NoError(t, err)
		editAndUndo(t, img, ino, rng, func(r lab.InodeRec) lab.InodeRec { r.Free ^= 1; return r }, func(r lab.InodeRec) lab.InodeRec {
			r.StartIno += 3
			return r
		})
		refc, err := img.RefcountBT(agno)
		require.NoError(t, err)
		editAndUndo(t, img, refc, rng, func(r lab.RefcountRec) lab.RefcountRec { r.RefCount++; return r }, func(r lab.RefcountRec) lab.RefcountRec {
			r.CoW = true
			return r
		})
	}
	assert.Equal(t, clean, checksumFile(t, path), "every edit was taken back")
	repairFindsNothing(t, path)
}

// editAndUndo edits random records in every way, checks the tree and takes
// the edits back.
func editAndUndo[R lab.Record](t *testing.T, img *lab.Image, tree *lab.Tree[R], rng *rand.Rand, inPlace, moved func(R) R) {
	t.Helper()
	before, err := tree.Records()
	require.NoError(t, err)
	if len(before) < 2 {
		return
	}
	values := func() []R {
		recs, err := tree.Records()
		require.NoError(t, err)
		var out []R
		for _, e := range recs {
			out = append(out, e.Rec)
		}
		return out
	}
	want := values()
	for range 20 {
		i := rng.IntN(len(before))
		e := before[i]
		mark := img.Mark()

		require.NoError(t, tree.Set(e.Location, inPlace(e.Rec), lab.KeepKeys))
		require.NoError(t, img.Verify())
		changed := slices.Clone(want)
		changed[i] = inPlace(e.Rec)
		assert.Equal(t, changed, values(), "one record is different")
		require.NoError(t, tree.Set(e.Location, e.Rec, lab.FixKeys))
		assert.Equal(t, want, values(), "and has its old value again")

		if err := tree.Delete(e.Location, lab.FixKeys); err == nil {
			require.NoError(t, tree.Check())
			require.NoError(t, img.Verify())
			assert.Equal(t, slices.Delete(slices.Clone(want), i, i+1), values(), "one record is gone")
			require.NoError(t, tree.Insert(e.Rec, lab.FixKeys))
			require.NoError(t, tree.Check())
			assert.Equal(t, want, values(), "and back in its place")
		} else {
			require.ErrorIs(t, err, lab.ErrLastRecord)
		}

		if err := tree.Move(e.Location, moved(e.Rec), lab.FixKeys); err == nil {
			require.NoError(t, tree.Check(), "%s moved", e.Rec)
			got := values()
			assert.Len(t, got, len(want))
			assert.Contains(t, got, moved(e.Rec))
		} else {
			require.ErrorIs(t, err, lab.ErrLeafFull)
			assert.Equal(t, want, values(), "a failed edit leaves nothing behind")
		}
		require.NoError(t, img.Rollback(mark))
		assert.Equal(t, want, values())
	}
}

func TestOpenImageRefusesWhatIsNoXFS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, content := range map[string][]byte{
		"empty": nil, "short": []byte("XFSB"), "zeros": make([]byte, 1<<16),
		"magic only": append([]byte("XFSB"), make([]byte, 4096)...),
	} {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, content, 0o600))
		_, err := lab.OpenImage(path)
		require.ErrorIs(t, err, lab.ErrNotAnImage, name)
	}
	_, err := lab.OpenImage(filepath.Join(dir, "none"))
	require.ErrorIs(t, err, os.ErrNotExist)
}
