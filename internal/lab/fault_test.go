package lab_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/scrubd/scrubd/internal/lab"
	"github.com/scrubd/scrubd/ioctl"
)

// sight is what a mounted kernel shows of a filesystem: the output of a
// program, or its error.
type sight func(t *testing.T, fs *lab.LoopFS, path string) string

func show(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil {
		require.ErrorAs(t, err, &exit, "run %s", name)
		return fmt.Sprintf("%s\n%v", out, err)
	}
	return string(out)
}

// seeFSMap shows the rmapbts, seeFree the bnobts (which is what a caller
// without CAP_SYS_ADMIN gets), seeBmap and seeAttr the forks of the victim,
// seeStat its block count, seeInumbers the inobts.
func seeFSMap(t *testing.T, fs *lab.LoopFS, _ string) string {
	return show(t, "xfs_io", "-r", "-c", "fsmap", fs.Dir())
}

func seeFree(t *testing.T, fs *lab.LoopFS, _ string) string {
	return show(t, "setpriv", "--bounding-set=-sys_admin", "xfs_io", "-r", "-c", "fsmap", fs.Dir())
}

func seeBmap(t *testing.T, fs *lab.LoopFS, path string) string {
	return show(t, "xfs_io", "-r", "-c", "bmap -elpv", fs.Path(path))
}

func seeAttr(t *testing.T, fs *lab.LoopFS, path string) string {
	return show(t, "xfs_io", "-r", "-c", "bmap -av", fs.Path(path))
}

func seeStat(t *testing.T, fs *lab.LoopFS, path string) string {
	return show(t, "stat", "-c", "%b", fs.Path(path))
}

func seeInumbers(t *testing.T, fs *lab.LoopFS, _ string) string {
	return show(t, "xfs_io", "-r", "-c", "inumbers", fs.Dir())
}

// faultRow says how one class shows: in a tree or header as xfs_db prints it,
// and in what a kernel shows after mounting, where anything at all does.
type faultRow struct {
	tree    string // "agf N" root, without the number, or "" for another place
	root    string
	field   string // of the header or the inode named by tree
	mounted sight  // differs from the clean image; nil: nothing outside the kernel shows it
	sector  bool   // the new record's first 512-byte sector stands in what mounted shows
}

var faultRows = map[lab.FaultClass]faultRow{
	lab.FaultRmapStart:        {tree: "agf", root: "rmaproot", mounted: seeFSMap, sector: true},
	lab.FaultRmapShorter:      {tree: "agf", root: "rmaproot", mounted: seeFSMap, sector: true},
	lab.FaultRmapLonger:       {tree: "agf", root: "rmaproot", mounted: seeFSMap, sector: true},
	lab.FaultRmapOwner:        {tree: "agf", root: "rmaproot", mounted: seeFSMap, sector: true},
	lab.FaultRmapOwnerMissing: {tree: "agf", root: "rmaproot", mounted: seeFSMap, sector: true},
	lab.FaultRmapOwnerFree:    {tree: "agf", root: "rmaproot", mounted: seeFSMap, sector: true},
	lab.FaultRmapOffset:       {tree: "agf", root: "rmaproot", mounted: seeFSMap, sector: true},
	lab.FaultRmapUnwritten:    {tree: "agf", root: "rmaproot", mounted: seeFlags},
	lab.FaultRmapWritten:      {tree: "agf", root: "rmaproot", mounted: seeFlags},
	lab.FaultRmapAttr:         {tree: "agf", root: "rmaproot", mounted: seeFSMap, sector: true},
	lab.FaultRmapBMBT:         {tree: "agf", root: "rmaproot", mounted: seeFSMap, sector: true},
	lab.FaultRmapSpecial:      {tree: "agf", root: "rmaproot", mounted: seeFSMap, sector: true},
	lab.FaultRmapRemoved:      {tree: "agf", root: "rmaproot", mounted: seeFSMap},
	lab.FaultRmapAddedFree:    {tree: "agf", root: "rmaproot", mounted: seeFSMap, sector: true},
	lab.FaultRmapAddedUsed:    {tree: "agf", root: "rmaproot", mounted: seeFSMap, sector: true},
	lab.FaultRmapKey:          {},
	lab.FaultRmapInvalid:      {tree: "agf", root: "rmaproot", mounted: seeFSMap},
	lab.FaultRmapCRC:          {tree: "agf", root: "rmaproot", mounted: seeFSMap},

	lab.FaultRefcountValue:   {tree: "agf", root: "refcntroot"},
	lab.FaultRefcountRemoved: {tree: "agf", root: "refcntroot", mounted: seeBmap},
	lab.FaultRefcountAdded:   {tree: "agf", root: "refcntroot", mounted: seeFlags},
	lab.FaultRefcountCoW:     {tree: "agf", root: "refcntroot", mounted: seeBmap},
	lab.FaultRefcountLength:  {tree: "agf", root: "refcntroot", mounted: seeBmap},

	lab.FaultBnoStart:   {tree: "agf", root: "bnoroot", mounted: seeFree, sector: true},
	lab.FaultBnoShorter: {tree: "agf", root: "bnoroot", mounted: seeFree, sector: true},
	lab.FaultBnoLonger:  {tree: "agf", root: "bnoroot", mounted: seeFree, sector: true},
	lab.FaultFreeUsed:   {tree: "agf", root: "bnoroot", mounted: seeFree, sector: true},
	lab.FaultLeak:       {tree: "agf", root: "bnoroot", mounted: seeFree, sector: true},
	lab.FaultCntLength:  {tree: "agf", root: "cntroot"},

	lab.FaultForkStart:       {mounted: seeBmap, sector: true},
	lab.FaultForkLength:      {mounted: seeBmap, sector: true},
	lab.FaultForkUnwritten:   {mounted: seeBmap},
	lab.FaultForkWritten:     {mounted: seeBmap},
	lab.FaultForkLost:        {mounted: seeBmap},
	lab.FaultForkLostNBlocks: {mounted: seeBmap},
	lab.FaultNBlocks:         {tree: "inode", field: "core.nblocks", mounted: seeStat},
	lab.FaultReflinkFlag:     {tree: "inode", field: "v3.reflink"},
	lab.FaultCrossLink:       {mounted: seeBmap, sector: true},
	lab.FaultBMBTRecord:      {mounted: seeBmap, sector: true},
	lab.FaultBMBTPointer:     {tree: "inode"},
	lab.FaultAttrFork:        {tree: "inode", mounted: seeAttr, sector: true},

	lab.FaultInobtFreeCount: {tree: "agi", root: "root", mounted: seeInumbers},
	lab.FaultInobtFreed:     {tree: "agi", root: "root", mounted: seeInumbers},
	lab.FaultInobtUsed:      {tree: "agi", root: "root", mounted: seeInumbers},
	lab.FaultInobtHoleMask:  {tree: "agi", root: "root"},
	lab.FaultInobtCount:     {tree: "agi", root: "root", mounted: seeInumbers},
	lab.FaultInobtRemoved:   {tree: "agi", root: "root", mounted: seeInumbers},

	lab.FaultAGICount:     {tree: "agi", field: "count"},
	lab.FaultAGIFreeCount: {tree: "agi", field: "freecount"},
	lab.FaultAGFFreeBlks:  {tree: "agf", field: "freeblks"},
	lab.FaultAGFLongest:   {tree: "agf", field: "longest"},
	lab.FaultAGFBtreeBlks: {tree: "agf", field: "btreeblks"},
	lab.FaultSBFDBlocks:   {tree: "sb", field: "fdblocks"},
	lab.FaultSBICount:     {tree: "sb", field: "icount"},
	lab.FaultSBIFree:      {tree: "sb", field: "ifree"},
	lab.FaultAGFL:         {tree: "agfl"},
}

// seeFlags shows the flags of every mapping: unwritten and shared.
func seeFlags(t *testing.T, fs *lab.LoopFS, _ string) string {
	return show(t, "xfs_io", "-r", "-c", "fsmap -v", fs.Dir())
}

// faultImage is an image with everything that a fault may want to damage: the
// small blocks fill several levels of the trees.
func faultImage(t *testing.T) (string, lab.Snapshot) {
	t.Helper()
	return sampleImage(t, lab.SampleSpec{Seed: 11, Files: 2500, SmallFiles: true}, "-b", "size=1024", "-d", "agcount=2")
}

// TestEveryFaultClassShows does every class of damage to an image and looks for
// it with xfs_db and through a mount.
func TestEveryFaultClassShows(t *testing.T) {
	lab.Require(t, lab.Root, lab.Loop)
	path, snap := faultImage(t)
	clean := checksumFile(t, path)
	fs, err := lab.OpenLoopFS(path, filepath.Join(t.TempDir(), "mnt"), "ro", "norecovery")
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, fs.Close()) })
	img := openImage(t, path)

	for _, class := range lab.FaultClasses() {
		row, ok := faultRows[class]
		require.True(t, ok, "no row for %s", class)
		t.Run(string(class), func(t *testing.T) {
			for seed := range uint64(2) {
				checkFault(t, fs, img, snap, row, lab.Fault{Class: class, Seed: seed})
			}
		})
	}
	assert.Len(t, lab.FaultClasses(), len(faultRows))
	assert.Equal(t, clean, checksumFile(t, path), "every fault was taken back")
}

func checkFault(t *testing.T, fs *lab.LoopFS, img *lab.Image, snap lab.Snapshot, row faultRow, fault lab.Fault) {
	t.Helper()
	done, err := fault.Inject(img)
	require.NoError(t, err)
	defer func() { require.NoError(t, done.Undo(img)) }()
	t.Logf("%s", done.Describe())
	require.NotEmpty(t, done.Edits)
	require.NotEmpty(t, done.Describe())

	var victim string
	ino := done.Ino
	if _, ok := done.Edits[0].Old.(lab.RefcountRec); ok {
		ino = sharer(t, img, done)
	}
	var openable bool
	if paths := snap.PathsOf(uint64(ino)); len(paths) > 0 {
		victim = paths[0]
		e, _ := snap.Get(victim)
		openable = e.Type == "file" || e.Type == "directory"
	}
	checkOnDisk(t, fs.Image(), row, done)
	if row.mounted == nil || fault.Class == lab.FaultAttrFork && !openable {
		return
	}
	look := func() string {
		require.NoError(t, fs.Mount())
		defer func() { require.NoError(t, fs.Unmount()) }()
		return row.mounted(t, fs, victim)
	}
	damaged := look()
	require.NoError(t, done.Undo(img))
	clean := look()
	gone, came := changedLines(clean, damaged)
	assert.NotEmpty(t, append(gone, came...), "%s shows", fault.Class)
	if row.sector {
		assert.Regexp(t, newRange(t, img, done), strings.Join(came, ""), "the damaged record shows")
	}
}

// sharer returns an inode whose data reaches into the first block of the damage.
func sharer(t *testing.T, img *lab.Image, done lab.Injected) ioctl.Ino {
	t.Helper()
	tree, err := img.RmapBT(done.AGNo)
	require.NoError(t, err)
	for e, err := range tree.All() {
		require.NoError(t, err)
		if e.Rec.StartBlock <= done.AGBno && done.AGBno < e.Rec.End() {
			return ioctl.Ino(e.Rec.Owner)
		}
	}
	require.Fail(t, "nobody owns the shared blocks")
	return 0
}

// lineCounter is the number that xfs_io puts before every mapping.
var lineCounter = regexp.MustCompile(`(?m)^\s*\d+: `)

// changedLines returns the lines that only one of two outputs has.
func changedLines(before, after string) (gone, came []string) {
	count := make(map[string]int)
	for line := range strings.Lines(lineCounter.ReplaceAllString(before, " ")) {
		count[line]++
	}
	for line := range strings.Lines(lineCounter.ReplaceAllString(after, " ")) {
		if count[line]--; count[line] < 0 {
			came = append(came, line)
		}
	}
	for line, n := range count {
		if n > 0 {
			gone = append(gone, line)
		}
	}
	return gone, came
}

// newRange matches the device sectors of the new record in the output of
// fsmap or bmap.
func newRange(t *testing.T, img *lab.Image, done lab.Injected) *regexp.Regexp {
	t.Helper()
	var start, count uint64
	switch r := done.Edits[0].New.(type) {
	case lab.RmapRec:
		start, count = uint64(r.StartBlock), uint64(r.BlockCount)
	case lab.FreeRec:
		start, count = uint64(r.StartBlock), uint64(r.BlockCount)
	case lab.ExtentRec:
		_, agbno := img.FSBToAG(r.StartBlock)
		start, count = uint64(agbno), uint64(r.BlockCount)
	default:
		require.Failf(t, "unexpected record", "%T", r)
	}
	perBlock := uint64(img.SB.BlockSize) / 512
	first := (uint64(done.AGNo)*uint64(img.SB.AGBlocks) + start) * perBlock
	return regexp.MustCompile(fmt.Sprintf(`[^0-9]%d\.\.%d[^0-9]`, first, first+count*perBlock-1))
}

// checkOnDisk looks for the edits with xfs_db.
func checkOnDisk(t *testing.T, path string, row faultRow, done lab.Injected) {
	t.Helper()
	at := fmt.Sprintf("%s %d", row.tree, done.AGNo)
	switch {
	case row.root != "":
		recs := dumpNumbers(t, xfsDB(t, path, at, "addr "+row.root, "btdump"), dumpedRecord)
		if done.Edits[0].Old != nil {
			assert.NotContains(t, recs, recordNumbers(t, done.Edits[0].Old), "the old record")
		}
		if done.Edits[0].New != nil {
			assert.Contains(t, recs, recordNumbers(t, done.Edits[0].New), "the new record")
		}
	case done.Class == lab.FaultBMBTPointer:
		at = fmt.Sprintf("inode %d", done.Ino)
		_, number, _ := strings.Cut(done.Edits[0].Where, "root pointer ")
		i, err := strconv.Atoi(number)
		require.NoError(t, err)
		assert.Equal(t, done.Edits[0].New, printed(t, path, at, fmt.Sprintf("u3.bmbt.ptrs[%d]", i+1)))
	case done.Class == lab.FaultAttrFork:
		exts := dumpNumbers(t, xfsDB(t, path, fmt.Sprintf("inode %d", done.Ino), "bmap -a"), dumpedExtent)
		assert.Contains(t, exts, recordNumbers(t, done.Edits[0].New), "the new extent")
	case row.tree == "inode":
		at = fmt.Sprintf("inode %d", done.Ino)
		fallthrough
	case row.field != "":
		want := done.Edits[0].New
		if want == false {
			want = 0
		}
		assert.EqualValues(t, want, printed(t, path, at, row.field), "%s %s", at, row.field)
	case row.tree == "agfl":
		assert.Contains(t, xfsDB(t, path, at, "p"), fmt.Sprintf(":%d", done.Edits[0].New))
	}
}

func recordNumbers(t *testing.T, rec any) []uint64 {
	t.Helper()
	switch r := rec.(type) {
	case lab.FreeRec:
		return []uint64{uint64(r.StartBlock), uint64(r.BlockCount)}
	case lab.InodeRec:
		return []uint64{uint64(r.StartIno), uint64(r.HoleMask), uint64(r.Count), uint64(r.FreeCount), r.Free}
	case lab.RmapRec:
		return []uint64{uint64(r.StartBlock), uint64(r.BlockCount), r.Owner, r.Offset, bit(r.Unwritten), bit(r.AttrFork), bit(r.BMBTBlock)}
	case lab.RefcountRec:
		return []uint64{uint64(r.StartBlock), uint64(r.BlockCount), uint64(r.RefCount), bit(r.CoW)}
	case lab.ExtentRec:
		return []uint64{r.Offset, uint64(r.StartBlock), uint64(r.BlockCount), bit(r.Unwritten)}
	default:
		require.Failf(t, "unexpected record", "%T", rec)
		return nil
	}
}

// TestFaultsAreRepeatableAndSelectable draws the same victim from one seed,
// others from other seeds, and what the selectors ask for.
func TestFaultsAreRepeatableAndSelectable(t *testing.T) {
	lab.Require(t, lab.Root, lab.Loop)
	path, snap := sampleImage(t, lab.SampleSpec{Seed: 12}, "-d", "agcount=2")
	img := openImage(t, path)
	inject := func(f lab.Fault) lab.Injected {
		done, err := f.Inject(img)
		require.NoError(t, err, "%s", f.Describe())
		require.NoError(t, done.Undo(img))
		return done
	}
	for _, class := range lab.FaultClasses() {
		if class == lab.FaultBMBTPointer {
			continue // forks of several bmbt blocks need small blocks
		}
		first := inject(lab.Fault{Class: class, Seed: 1})
		assert.Equal(t, first, inject(lab.Fault{Class: class, Seed: 1}), "%s", class)
	}
	drawn := make(map[string]bool)
	for seed := range uint64(20) {
		drawn[inject(lab.Fault{Class: lab.FaultRmapOwner, Seed: seed}).Describe()] = true
	}
	assert.Greater(t, len(drawn), 10, "seeds differ")

	large, ok := snap.Get("special/large")
	require.True(t, ok)
	ino := ioctl.Ino(large.Ino)
	for _, class := range []lab.FaultClass{
		lab.FaultRmapStart, lab.FaultRmapOwner, lab.FaultRmapRemoved, lab.FaultForkStart, lab.FaultForkLost, lab.FaultNBlocks,
		lab.FaultFreeUsed, lab.FaultInobtFreed, lab.FaultAGFL,
	} {
		assert.Equal(t, ino, inject(lab.Fault{Class: class, Ino: ino}).Ino, "%s", class)
	}
	odd, ok := snap.Get("special/odd")
	require.True(t, ok)
	assert.EqualValues(t, odd.Ino, inject(lab.Fault{Class: lab.FaultCrossLink, Ino: ioctl.Ino(odd.Ino)}).Ino)
	for agno := range ioctl.AGNumber(2) {
		for _, class := range []lab.FaultClass{lab.FaultRmapLonger, lab.FaultBnoShorter, lab.FaultAGICount, lab.FaultForkLength} {
			assert.Equal(t, agno, inject(lab.Fault{Class: class, AGNo: &agno}).AGNo, "%s", class)
		}
	}
	whole := inject(lab.Fault{Class: lab.FaultRmapOffset, Ino: ino})
	mid := whole.AGBno + ioctl.AGBlock(whole.BlockCount/2)
	there := inject(lab.Fault{Class: lab.FaultRmapShorter, AGNo: &whole.AGNo, AGBno: &mid, Delta: 5})
	assert.Equal(t, whole.AGBno, there.AGBno)
	shorter, ok := there.Edits[0].New.(lab.RmapRec)
	require.True(t, ok)
	assert.Equal(t, whole.BlockCount-5, shorter.BlockCount)
	log := inject(lab.Fault{Class: lab.FaultRmapRemoved, Match: func(rec any) bool {
		r, ok := rec.(lab.RmapRec)
		return ok && r.Owner == lab.OwnerLog
	}})
	assert.Equal(t, lab.OwnerLog, log.Owner)
	wrong := inject(lab.Fault{Class: lab.FaultRmapOwner, Ino: ino, Owner: 4242})
	assert.EqualValues(t, 4242, wrong.Owner)

	for name, f := range map[string]lab.Fault{
		"no such inode":   {Class: lab.FaultRmapOwner, Ino: 1 << 40},
		"too long":        {Class: lab.FaultRmapShorter, Delta: 1 << 40},
		"nothing matches": {Class: lab.FaultBnoStart, Match: func(any) bool { return false }},
	} {
		_, err := f.Inject(img)
		require.ErrorIs(t, err, lab.ErrNoVictim, name)
	}
	_, err := lab.Fault{Class: "nonsense"}.Inject(img)
	require.ErrorIs(t, err, lab.ErrUnknownClass)
	none := ioctl.AGNumber(9)
	_, err = lab.Fault{Class: lab.FaultRmapOwner, AGNo: &none}.Inject(img)
	require.Error(t, err)
	repairFindsNothing(t, path)
}

// TestBothKeepsTheFreeSpaceTreesEqual checks that Both leaves a filesystem
// whose counters and trees agree with each other.
func TestBothKeepsTheFreeSpaceTreesEqual(t *testing.T) {
	lab.Require(t, lab.Root, lab.Loop)
	path, _ := sampleImage(t, lab.SampleSpec{Seed: 13}, "-d", "agcount=2")
	img := openImage(t, path)
	for _, fault := range []lab.Fault{
		{Class: lab.FaultBnoLonger, Both: true},
		{Class: lab.FaultBnoShorter, Both: true},
		{Class: lab.FaultBnoStart, Both: true},
		{Class: lab.FaultFreeUsed},
		{Class: lab.FaultLeak},
	} {
		before := img.SB.FDBlocks
		done, err := fault.Inject(img)
		require.NoError(t, err, "%s", fault.Describe())
		bno, err := img.BnoBT(done.AGNo)
		require.NoError(t, err)
		cnt, err := img.CntBT(done.AGNo)
		require.NoError(t, err)
		require.NoError(t, bno.Check())
		require.NoError(t, cnt.Check())
		assert.ElementsMatch(t, numbers(t, bno), numbers(t, cnt), "%s", fault.Class)
		agf, err := img.AGF(done.AGNo)
		require.NoError(t, err)
		var free, longest uint64
		for _, r := range numbers(t, bno) {
			free += r[1]
			longest = max(longest, r[1])
		}
		btrees := uint64(agf.BtreeBlks) + uint64(agf.FLCount)
		assert.EqualValues(t, free, agf.FreeBlks, "%s (btree blocks %d)", fault.Class, btrees)
		assert.EqualValues(t, longest, agf.Longest, "%s", fault.Class)
		if fault.Class != lab.FaultBnoStart {
			assert.NotEqual(t, before, img.SB.FDBlocks, "%s", fault.Class)
		}
		require.NoError(t, done.Undo(img))
		assert.Equal(t, before, img.SB.FDBlocks)
	}
}
