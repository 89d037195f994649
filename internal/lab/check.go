package lab

import (
	"cmp"
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"github.com/scrubd/scrubd/ioctl"
)

// CheckImage compares everything that an unmounted image says twice, and
// returns a line for each contradiction. It is a witness of its own: it shares
// no code with scrubd and, unlike xfs_repair -n, sees records too many, lost
// space and wrong counts. It knows no realtime and no quota, and it reads no
// directories and no attributes.
//
// An empty list means that the space metadata tells the truth.
func CheckImage(img *Image) []string {
	c := &imageCheck{img: img, maps: make(map[ioctl.AGNumber][]RmapRec), flagged: make(map[ioctl.Ino]bool)}
	for agno := range ioctl.AGNumber(img.SB.AGCount) {
		c.inodes(agno)
	}
	for agno := range ioctl.AGNumber(img.SB.AGCount) {
		c.group(agno)
	}
	c.totals()
	return c.found
}

// CheckImageFile is CheckImage of the image at path.
func CheckImageFile(path string) ([]string, error) {
	img, err := OpenImage(path)
	if err != nil {
		return nil, err
	}
	return CheckImage(img), img.Close()
}

// shownProblems bounds the lines about one comparison.
const shownProblems = 3

type imageCheck struct {
	img   *Image
	found []string
	// maps has what forks, chunks, trees and headers say, as rmap records.
	maps map[ioctl.AGNumber][]RmapRec
	// flagged are the inodes that say that they may share blocks.
	flagged map[ioctl.Ino]bool

	free, icount, ifree uint64
}

func (c *imageCheck) say(format string, args ...any) {
	c.found = append(c.found, fmt.Sprintf(format, args...))
}

// failed notes an error and tells whether there was one.
func (c *imageCheck) failed(err error) bool {
	if err != nil {
		c.say("%v", err)
	}
	return err != nil
}

// claim notes that blocks belong to an owner.
func (c *imageCheck) claim(agno ioctl.AGNumber, r RmapRec) { c.maps[agno] = append(c.maps[agno], r) }

// claimBlocks notes single blocks of a short-form tree.
func (c *imageCheck) claimBlocks(agno ioctl.AGNumber, owner uint64, blocks []uint64) {
	for _, b := range blocks {
		c.claim(agno, RmapRec{StartBlock: ioctl.AGBlock(b), BlockCount: 1, Owner: owner})
	}
}

// inodes checks the inode btrees of a group and takes what its inodes claim.
func (c *imageCheck) inodes(agno ioctl.AGNumber) {
	agi, err := c.img.AGI(agno)
	if c.failed(err) {
		return
	}
	tree, err := c.img.InoBT(agno)
	if c.failed(err) {
		return
	}
	chunks, err := valuesOf(tree)
	if c.failed(err) {
		return
	}
	var count, free uint32
	var withFree []InodeRec
	for _, r := range chunks {
		there := 0
		for i := range inodesPerChunk {
			if !r.Exists(i) {
				continue
			}
			there++
			c.inode(c.img.AGToIno(agno, r.StartIno+ioctl.AGIno(i)), r.Allocated(i))
		}
		notThere := uint64(0)
		for i := range inodesPerChunk {
			if !r.Exists(i) {
				notThere |= 1 << i
			}
		}
		n := bits.OnesCount64(r.Free &^ notThere)
		if n != int(r.FreeCount) || c.img.SB.HasSparse() && (there != int(r.Count) || r.Free&notThere != notThere) {
			c.say("inobt of AG %d: %s contradicts itself", agno, r)
		}
		count, free = count+uint32(there), free+uint32(n)
		if n > 0 {
			withFree = append(withFree, r)
		}
		c.claimChunk(agno, r)
	}
	if agi.Count != count || agi.FreeCount != free {
		c.say("AGI of AG %d: count %d, freecount %d, but the inobt has %d and %d", agno, agi.Count, agi.FreeCount, count, free)
	}
	c.icount, c.ifree = c.icount+uint64(count), c.ifree+uint64(free)
	blocks, err := tree.Blocks(false)
	if c.failed(err) {
		return
	}
	c.claimBlocks(agno, OwnerInobt, blocks)
	counted := c.img.SB.ROCompat&rocompatInobtCount != 0
	if counted && int(agi.IBlocks) != len(blocks) {
		c.say("AGI of AG %d: ino_blocks %d, but the inobt has %d", agno, agi.IBlocks, len(blocks))
	}
	if agi.FreeLevel == 0 {
		return
	}
	fino, err := c.img.FinoBT(agno)
	if c.failed(err) {
		return
	}
	frees, err := valuesOf(fino)
	if c.failed(err) {
		return
	}
	compareLists(c, fmt.Sprintf("finobt of AG %d and inobt", agno), frees, withFree)
	if blocks, err = fino.Blocks(false); c.failed(err) {
		return
	}
	c.claimBlocks(agno, OwnerInobt, blocks)
	if counted && int(agi.FBlocks) != len(blocks) {
		c.say("AGI of AG %d: fino_blocks %d, but the finobt has %d", agno, agi.FBlocks, len(blocks))
	}
}

// claimChunk claims the blocks of an inode chunk; a sparse one has gaps.
func (c *imageCheck) claimChunk(agno ioctl.AGNumber, r InodeRec) {
	last := int64(-1)
	for i := range inodesPerChunk {
		agbno := int64(r.StartIno+ioctl.AGIno(i)) >> c.img.SB.InopBlog
		if r.Exists(i) && agbno != last {
			last = agbno
			c.claim(agno, RmapRec{StartBlock: ioctl.AGBlock(agbno), BlockCount: 1, Owner: OwnerInodes})
		}
	}
}

// inode checks an inode's counters and takes what its forks claim.
func (c *imageCheck) inode(ino ioctl.Ino, allocated bool) {
	core, err := c.img.Inode(ino)
	if err != nil {
		if allocated {
			c.say("%v", err)
		}
		return
	}
	if allocated != (core.Mode != 0) {
		c.say("inode %d has mode %#o, and the inobt says allocated: %t", ino, core.Mode, allocated)
	}
	if !allocated {
		return
	}
	c.flagged[ino] = core.Reflink()
	var blocks uint64
	for _, fork := range []ioctl.Fork{ioctl.DataFork, ioctl.AttrFork} {
		blocks += c.fork(ino, &core, fork)
	}
	if blocks != core.NBlocks {
		c.say("inode %d: nblocks %d, but its forks have %d", ino, core.NBlocks, blocks)
	}
}

// fork checks one fork and returns how many blocks it has.
func (c *imageCheck) fork(ino ioctl.Ino, core *DinodeCore, fork ioctl.Fork) (blocks uint64) {
	tree, err := c.img.BmapBT(ino, fork)
	if c.failed(err) {
		return 0
	}
	recs, err := valuesOf(tree)
	if c.failed(err) {
		return 0
	}
	var next uint64
	for _, r := range recs {
		agno, agbno := c.img.FSBToAG(r.StartBlock)
		if uint32(agno) >= c.img.SB.AGCount || uint64(agbno)+uint64(r.BlockCount) > uint64(c.img.AGLength(agno)) || r.BlockCount == 0 || r.Offset < next {
			c.say("inode %d, %s fork: %s is no good extent", ino, fork, r)
			continue
		}
		next = r.Offset + uint64(r.BlockCount)
		blocks += uint64(r.BlockCount)
		c.claim(agno, RmapRec{
			StartBlock: agbno, BlockCount: r.BlockCount, Owner: uint64(ino), Offset: r.Offset,
			AttrFork: fork == ioctl.AttrFork, Unwritten: r.Unwritten,
		})
	}
	if n := core.Extents(fork); n != uint64(len(recs)) && core.ForkFormat(fork) >= FormatExtents {
		c.say("inode %d, %s fork: %d extents, but it counts %d", ino, fork, len(recs), n)
	}
	own, err := tree.Blocks(false)
	if c.failed(err) {
		return blocks
	}
	for _, b := range own {
		agno, agbno := c.img.FSBToAG(ioctl.FSBlock(b))
		c.claim(agno, RmapRec{StartBlock: agbno, BlockCount: 1, Owner: uint64(ino), AttrFork: fork == ioctl.AttrFork, BMBTBlock: true})
	}
	return blocks + uint64(len(own))
}

// group checks the space of a group.
func (c *imageCheck) group(agno ioctl.AGNumber) {
	agf, err := c.img.AGF(agno)
	if c.failed(err) {
		return
	}
	headers := (4*uint32(c.img.SB.SectSize) + c.img.SB.BlockSize - 1) / c.img.SB.BlockSize
	c.claim(agno, RmapRec{StartBlock: 0, BlockCount: headers, Owner: OwnerFS})
	if logAG, logBlock := c.img.FSBToAG(ioctl.FSBlock(c.img.SB.LogStart)); c.img.SB.LogStart != 0 && logAG == agno {
		c.claim(agno, RmapRec{StartBlock: logBlock, BlockCount: c.img.SB.LogBlocks, Owner: OwnerLog})
	}
	afl, _, err := c.img.AGFL(agno)
	if c.failed(err) {
		return
	}
	for _, b := range afl {
		c.claim(agno, RmapRec{StartBlock: b, BlockCount: 1, Owner: OwnerAG})
	}
	free, btree, ok := c.freeSpace(agno, agf)
	if !ok {
		return
	}
	rmap, err := c.img.RmapBT(agno)
	if c.failed(err) {
		return
	}
	recs, err := valuesOf(rmap)
	if c.failed(err) {
		return
	}
	own, err := rmap.Blocks(false)
	if c.failed(err) {
		return
	}
	c.claimBlocks(agno, OwnerAG, own)
	if int(agf.RmapBlocks) != len(own) {
		c.say("AGF of AG %d: rmapblocks %d, but there are %d", agno, agf.RmapBlocks, len(own))
	}
	if btree += len(own) - 1; int(agf.BtreeBlks) != btree {
		c.say("AGF of AG %d: btreeblks %d, but there are %d", agno, agf.BtreeBlks, btree)
	}
	c.free += uint64(agf.FreeBlks) + uint64(agf.FLCount) + uint64(agf.BtreeBlks)
	c.refcounts(agno, agf)
	compareLists(c, fmt.Sprintf("rmapbt of AG %d and what owns the blocks", agno), joinRmaps(recs), joinRmaps(c.maps[agno]))
	compareLists(c, fmt.Sprintf("bnobt of AG %d and the gaps between what is owned", agno), free, gaps(c.maps[agno], c.img.AGLength(agno)))
}

// freeSpace checks the trees of free space, and returns what is free and the
// blocks of both trees less their roots.
func (c *imageCheck) freeSpace(agno ioctl.AGNumber, agf AGF) (free []FreeRec, btree int, ok bool) {
	lists := make([][]FreeRec, 2)
	for i, kind := range []TreeKind{BnoBT, CntBT} {
		tree, err := c.img.freeTree(kind, agno)
		if c.failed(err) {
			return nil, 0, false
		}
		if lists[i], err = valuesOf(tree); c.failed(err) {
			return nil, 0, false
		}
		if !slices.IsSortedFunc(lists[i], func(a, b FreeRec) int { return a.compare(kind, b) }) {
			c.say("%s is out of order", tree)
		}
		blocks, err := tree.Blocks(false)
		if c.failed(err) {
			return nil, 0, false
		}
		c.claimBlocks(agno, OwnerAG, blocks)
		btree += len(blocks) - 1
	}
	slices.SortFunc(lists[1], func(a, b FreeRec) int { return cmp.Compare(a.StartBlock, b.StartBlock) })
	compareLists(c, fmt.Sprintf("bnobt and cntbt of AG %d", agno), lists[0], lists[1])
	var sum, longest uint32
	for _, r := range lists[0] {
		sum, longest = sum+r.BlockCount, max(longest, r.BlockCount)
	}
	if agf.FreeBlks != sum || agf.Longest != longest {
		c.say("AGF of AG %d: freeblks %d, longest %d, but the bnobt has %d and %d", agno, agf.FreeBlks, agf.Longest, sum, longest)
	}
	return lists[0], btree, true
}

// refcounts checks the refcountbt against the forks, and takes what it claims.
func (c *imageCheck) refcounts(agno ioctl.AGNumber, agf AGF) {
	if agf.RefcountLevel == 0 {
		return
	}
	tree, err := c.img.RefcountBT(agno)
	if c.failed(err) {
		return
	}
	recs, err := valuesOf(tree)
	if c.failed(err) {
		return
	}
	var shared []RefcountRec
	for _, r := range recs {
		if r.CoW {
			c.claim(agno, RmapRec{StartBlock: r.StartBlock, BlockCount: r.BlockCount, Owner: OwnerCoW})
		} else {
			shared = append(shared, r)
		}
	}
	blocks, err := tree.Blocks(false)
	if c.failed(err) {
		return
	}
	c.claimBlocks(agno, OwnerRefcbt, blocks)
	if int(agf.RefcountBlocks) != len(blocks) {
		c.say("AGF of AG %d: refcntblocks %d, but there are %d", agno, agf.RefcountBlocks, len(blocks))
	}
	compareLists(c, fmt.Sprintf("refcountbt of AG %d and the owners of the blocks", agno), shared, overlaps(c.maps[agno]))
	c.unflagged(agno, overlaps(c.maps[agno]))
}

// unflagged looks for owners of shared blocks that do not say that they share.
func (c *imageCheck) unflagged(agno ioctl.AGNumber, shared []RefcountRec) {
	for _, r := range c.maps[agno] {
		if !r.IsInode() || r.AttrFork || r.BMBTBlock || r.Unwritten || c.flagged[ioctl.Ino(r.Owner)] {
			continue
		}
		if slices.ContainsFunc(shared, func(s RefcountRec) bool { return s.StartBlock < r.End() && r.StartBlock < s.End() }) {
			c.say("inode %d shares blocks of AG %d and has no reflink flag", r.Owner, agno)
			c.flagged[ioctl.Ino(r.Owner)] = true // say it once
		}
	}
}

// totals checks the counters of the superblock.
func (c *imageCheck) totals() {
	sb := &c.img.SB
	if sb.ICount != c.icount || sb.IFree != c.ifree || sb.FDBlocks != c.free {
		c.say("superblock: icount %d, ifree %d, fdblocks %d, but the groups have %d, %d and %d", sb.ICount, sb.IFree, sb.FDBlocks, c.icount, c.ifree, c.free)
	}
}

// valuesOf returns the records of a tree without their places.
func valuesOf[R Record](tree *Tree[R]) ([]R, error) {
	if tree == nil {
		return nil, errors.New("no tree")
	}
	var out []R
	for e, err := range tree.All() {
		if err != nil {
			return out, err
		}
		out = append(out, e.Rec)
	}
	return out, nil
}

// compareLists notes what is in one of two lists alone.
func compareLists[R Record](c *imageCheck, what string, have, want []R) {
	in := func(list []R) map[R]int {
		m := make(map[R]int)
		for _, r := range list {
			m[r]++
		}
		return m
	}
	a, b := in(have), in(want)
	said := 0
	note := func(r R, how string) {
		if said++; said <= shownProblems {
			c.say("%s: %s %s", what, r, how)
		}
	}
	for _, r := range have {
		if b[r]--; b[r] < 0 {
			note(r, "is only in the first")
		}
	}
	for _, r := range want {
		if a[r]--; a[r] < 0 {
			note(r, "is only in the second")
		}
	}
}

// joinRmaps brings records to a form in which each owner's blocks are as few
// records as can be.
func joinRmaps(recs []RmapRec) []RmapRec {
	recs = slices.Clone(recs)
	line := func(r RmapRec) RmapRec { // what two records must have in common
		r.BlockCount = 0
		if r.IsInode() && !r.BMBTBlock {
			r.Offset -= uint64(r.StartBlock)
		}
		r.StartBlock = 0
		return r
	}
	slices.SortFunc(recs, func(a, b RmapRec) int {
		la, lb := line(a), line(b)
		return cmp.Or(cmp.Compare(la.Owner, lb.Owner), cmp.Compare(la.packOffset(), lb.packOffset()),
			cmp.Compare(la.Offset, lb.Offset), cmp.Compare(a.StartBlock, b.StartBlock))
	})
	var out []RmapRec
	for _, r := range recs {
		if n := len(out); n > 0 && line(out[n-1]) == line(r) && out[n-1].End() == r.StartBlock {
			out[n-1].BlockCount += r.BlockCount
			continue
		}
		out = append(out, r)
	}
	return out
}

// gaps returns what no record covers.
func gaps(recs []RmapRec, end ioctl.AGBlock) []FreeRec {
	recs = slices.SortedFunc(slices.Values(recs), func(a, b RmapRec) int { return cmp.Compare(a.StartBlock, b.StartBlock) })
	var out []FreeRec
	var at ioctl.AGBlock
	for _, r := range recs {
		if r.StartBlock > at {
			out = append(out, FreeRec{StartBlock: at, BlockCount: uint32(r.StartBlock - at)})
		}
		at = max(at, r.End())
	}
	if at < end {
		out = append(out, FreeRec{StartBlock: at, BlockCount: uint32(end - at)})
	}
	return out
}

// overlaps returns how many owners the blocks of data have, where more than one.
func overlaps(recs []RmapRec) []RefcountRec {
	type edge struct {
		at ioctl.AGBlock
		by int
	}
	var edges []edge
	for _, r := range recs {
		if r.IsInode() && !r.AttrFork && !r.BMBTBlock && !r.Unwritten {
			edges = append(edges, edge{r.StartBlock, 1}, edge{r.End(), -1})
		}
	}
	slices.SortFunc(edges, func(a, b edge) int { return cmp.Compare(a.at, b.at) })
	var out []RefcountRec
	height := 0
	for i := 0; i < len(edges); {
		at := edges[i].at
		was := height
		for ; i < len(edges) && edges[i].at == at; i++ {
			height += edges[i].by
		}
		if height == was {
			continue
		}
		if n := len(out); n > 0 && out[n-1].BlockCount == 0 {
			out[n-1].BlockCount = uint32(at - out[n-1].StartBlock)
		}
		if height > 1 {
			out = append(out, RefcountRec{StartBlock: at, RefCount: uint32(height)})
		}
	}
	return out
}
