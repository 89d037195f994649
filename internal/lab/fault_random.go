package lab

import (
	"cmp"
	"maps"
	"slices"

	"github.com/scrubd/scrubd/ioctl"
)

// The classes of one random field of one random record of a structure. They
// have no shape of their own, so that nothing can be tuned to it: what they do
// may be small, absurd, or the very picture of another class.
const (
	FaultRandomRmap     FaultClass = "random-rmap"
	FaultRandomRefcount FaultClass = "random-refcount"
	FaultRandomBno      FaultClass = "random-bno"
	FaultRandomCnt      FaultClass = "random-cnt"
	FaultRandomIno      FaultClass = "random-ino"
	FaultRandomFino     FaultClass = "random-fino"
	FaultRandomFork     FaultClass = "random-fork"
	FaultRandomBMBT     FaultClass = "random-bmbt"
	FaultRandomAttr     FaultClass = "random-attr"
	FaultRandomInode    FaultClass = "random-inode"
	FaultRandomAGF      FaultClass = "random-agf"
	FaultRandomAGI      FaultClass = "random-agi"
	FaultRandomAGFL     FaultClass = "random-agfl"

	FaultCntRemoved    FaultClass = "cnt-removed"
	FaultRefcountStart FaultClass = "refcount-start"
	FaultFinoFreeCount FaultClass = "finobt-freecount"
	FaultFinoBits      FaultClass = "finobt-bits"
	FaultFinoRemoved   FaultClass = "finobt-removed"
	FaultBMBTUnwritten FaultClass = "bmbt-unwritten"
	FaultBMBTOffset    FaultClass = "bmbt-offset"
	FaultBMBTLength    FaultClass = "bmbt-length"
)

// randomClasses are the classes that only a campaign draws.
var randomClasses = map[FaultClass]faultClass{
	FaultRandomRmap:     {"one field of an rmap record is another", (*injector).randomRmap},
	FaultRandomRefcount: {"one field of a refcount record is another", (*injector).randomRefcount},
	FaultRandomBno:      {"one field of a bnobt record is another", func(in *injector) error { return in.randomFree(BnoBT) }},
	FaultRandomCnt:      {"one field of a cntbt record is another", func(in *injector) error { return in.randomFree(CntBT) }},
	FaultRandomIno:      {"one field of an inobt record is another", func(in *injector) error { return in.randomChunk(InoBT) }},
	FaultRandomFino:     {"one field of a finobt record is another", func(in *injector) error { return in.randomChunk(FinoBT) }},
	FaultRandomFork: {"one field of an extent inside an inode is another", func(in *injector) error {
		return in.randomExtent(ioctl.DataFork, FormatExtents)
	}},
	FaultRandomBMBT: {"one field of a record in a bmbt block is another", func(in *injector) error {
		return in.randomExtent(ioctl.DataFork, FormatBtree)
	}},
	FaultRandomAttr: {"one field of an extent of an attr fork is another", func(in *injector) error {
		return in.randomExtent(ioctl.AttrFork, FormatExtents, FormatBtree)
	}},
	FaultRandomInode: {"one counter of an inode is another", (*injector).randomInode},
	FaultRandomAGF:   {"one field of an AGF is another", (*injector).randomAGF},
	FaultRandomAGI:   {"one field of an AGI is another", (*injector).randomAGI},
	FaultRandomAGFL:  {"one active slot of an AGFL is another", (*injector).randomAGFL},

	FaultCntRemoved:    {"a cntbt record is gone", (*injector).cntRemoved},
	FaultRefcountStart: {"a refcount record begins at another block", (*injector).refcountStart},
	FaultFinoFreeCount: {"the free count of a finobt record is wrong", (*injector).finoFreeCount},
	FaultFinoBits:      {"a bit of a finobt record is flipped", (*injector).finoBits},
	FaultFinoRemoved:   {"a finobt record is gone", (*injector).finoRemoved},
	FaultBMBTUnwritten: {"the unwritten flag of a record in a bmbt block is flipped", (*injector).bmbtUnwritten},
	FaultBMBTOffset:    {"a record in a bmbt block has another offset", (*injector).bmbtOffset},
	FaultBMBTLength:    {"a record in a bmbt block lost blocks at its end", (*injector).bmbtLength},
}

// RandomFaultClasses returns the classes that Inject knows beside those of
// [FaultClasses], sorted: of random fields, and rarer shapes.
func RandomFaultClasses() []FaultClass { return slices.Sorted(maps.Keys(randomClasses)) }

// another draws a value that is not v: a little more or less, one bit flipped,
// zero, or one of others. bits bounds it.
func (in *injector) another(v uint64, bits int, others ...uint64) uint64 {
	mask := ^uint64(0) >> (64 - bits)
	for {
		to := v
		switch in.rng.IntN(8) {
		case 0, 1, 2:
			to = v + 1 + in.rng.Uint64N(mostShift)
		case 3, 4:
			to = v - 1 - in.rng.Uint64N(mostShift)
		case 5:
			to = v ^ 1<<in.rng.IntN(min(bits, 14))
		case 6:
			if len(others) == 0 {
				continue
			}
			to = others[in.rng.IntN(len(others))]
		case 7:
			if in.rng.IntN(4) > 0 {
				continue
			}
			to = 0
		}
		if to &= mask; to != v {
			return to
		}
	}
}

func (in *injector) another32(v uint32, others ...uint64) uint32 {
	return uint32(in.another(uint64(v), 32, others...))
}

func (in *injector) randomRmap() error {
	victims, err := in.rmaps(anyRmap)
	owners := []uint64{OwnerAG, OwnerInobt, OwnerInodes, OwnerRefcbt}
	files, ferr := in.files()
	for _, ino := range files {
		owners = append(owners, uint64(ino))
	}
	return in.changeRmap(victims, cmp.Or(err, ferr), func(v victim[RmapRec]) (RmapRec, error) {
		to := v.Rec
		fields := 3
		if to.IsInode() {
			fields = 7
		}
		switch in.rng.IntN(fields) {
		case 0:
			to.StartBlock = ioctl.AGBlock(in.another32(uint32(to.StartBlock)))
		case 1:
			to.BlockCount = in.another32(to.BlockCount)
		case 2:
			to.Owner = in.another(to.Owner, 64, owners...)
		case 3:
			to.Offset = in.another(to.Offset, 54)
		case 4:
			to.AttrFork = !to.AttrFork
		case 5:
			to.BMBTBlock = !to.BMBTBlock
		case 6:
			to.Unwritten = !to.Unwritten
		}
		return to, nil
	})
}

func (in *injector) randomRefcount() error {
	return in.changeRefcount(anyRefcount, func(r *RefcountRec) error {
		switch in.rng.IntN(3) {
		case 0:
			r.StartBlock = ioctl.AGBlock(in.another(uint64(r.StartBlock), 31))
		case 1:
			r.BlockCount = in.another32(r.BlockCount)
		case 2:
			r.RefCount = in.another32(r.RefCount)
		}
		return nil
	})
}

func (in *injector) refcountStart() error {
	return in.changeRefcount(anyRefcount, func(r *RefcountRec) error {
		d, err := in.amount(mostShift)
		if in.rng.IntN(2) == 0 {
			d = -d
		}
		if int64(r.StartBlock)+d < mostShift {
			return errSkip
		}
		r.StartBlock = ioctl.AGBlock(int64(r.StartBlock) + d)
		return err
	})
}

// randomFree changes one of the trees of free space alone.
func (in *injector) randomFree(kind TreeKind) error {
	victims, err := in.frees(kind, func(FreeRec) bool { return true })
	if err != nil {
		return err
	}
	return forAny(in, victims, func(v victim[FreeRec]) error {
		to := v.Rec
		if in.rng.IntN(2) == 0 {
			to.StartBlock = ioctl.AGBlock(in.another32(uint32(to.StartBlock)))
		} else {
			to.BlockCount = in.another32(to.BlockCount)
		}
		in.out.AGNo, in.out.AGBno, in.out.BlockCount = v.agno, v.Rec.StartBlock, v.Rec.BlockCount
		in.edited(v.where(), v.Rec, to)
		return v.tree.Move(v.Location, to, FixKeys)
	})
}

func (in *injector) cntRemoved() error {
	victims, err := in.frees(CntBT, func(FreeRec) bool { return true })
	if err != nil {
		return err
	}
	return forAny(in, victims, func(v victim[FreeRec]) error {
		in.out.AGNo, in.out.AGBno, in.out.BlockCount = v.agno, v.Rec.StartBlock, v.Rec.BlockCount
		in.edited(v.where(), v.Rec, nil)
		return v.tree.Delete(v.Location, FixKeys)
	})
}

// chunksOf lists the records of the inobts or the finobts. A filesystem
// without finobts has none of them.
func (in *injector) chunksOf(kind TreeKind) ([]victim[InodeRec], error) {
	var out []victim[InodeRec]
	for _, agno := range in.groups() {
		open := in.img.InoBT
		if kind == FinoBT {
			agi, err := in.img.AGI(agno)
			if err != nil {
				return nil, err
			}
			if agi.FreeLevel == 0 {
				continue
			}
			open = in.img.FinoBT
		}
		tree, err := open(agno)
		if err != nil {
			return nil, err
		}
		found, err := victimsOf(in, tree, agno, func(r InodeRec) bool {
			agbno, blocks := in.chunkBlocks(r)
			return in.covers(agbno, blocks)
		})
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	return out, nil
}

func (in *injector) changeChunkOf(kind TreeKind, change func(v victim[InodeRec], to *InodeRec) error) error {
	victims, err := in.chunksOf(kind)
	if err != nil {
		return err
	}
	return forAny(in, victims, func(v victim[InodeRec]) error {
		to := v.Rec
		if err := change(v, &to); err != nil {
			return err
		}
		in.sayChunk(v, to)
		return v.tree.Move(v.Location, to, FixKeys)
	})
}

func (in *injector) randomChunk(kind TreeKind) error {
	sparse := in.img.SB.HasSparse()
	return in.changeChunkOf(kind, func(_ victim[InodeRec], to *InodeRec) error {
		field := in.rng.IntN(5)
		if !sparse && field > 2 {
			field -= 2
		}
		switch field {
		case 0:
			to.StartIno = ioctl.AGIno(in.another32(uint32(to.StartIno)))
		case 1:
			to.FreeCount = uint8(in.another(uint64(to.FreeCount), 7))
		case 2:
			to.Free ^= 1 << in.rng.IntN(inodesPerChunk)
		case 3:
			to.HoleMask ^= 1 << in.rng.IntN(16)
		case 4:
			to.Count = uint8(in.another(uint64(to.Count), 7))
		}
		return nil
	})
}

func (in *injector) finoFreeCount() error {
	return in.changeChunkOf(FinoBT, func(_ victim[InodeRec], to *InodeRec) error {
		to.FreeCount = uint8(in.another(uint64(to.FreeCount), 6))
		return nil
	})
}

func (in *injector) finoBits() error {
	return in.changeChunkOf(FinoBT, func(_ victim[InodeRec], to *InodeRec) error {
		to.Free ^= 1 << in.rng.IntN(inodesPerChunk)
		return nil
	})
}

func (in *injector) finoRemoved() error {
	victims, err := in.chunksOf(FinoBT)
	if err != nil {
		return err
	}
	return forAny(in, victims, func(v victim[InodeRec]) error {
		in.sayChunk(v, nil)
		return v.tree.Delete(v.Location, FixKeys)
	})
}

// forks lists the extents of forks of any kind of inode but the filesystem's
// own, where the fork has one of the formats.
func (in *injector) forks(fork ioctl.Fork, formats ...uint8) ([]victim[ExtentRec], error) {
	cores, err := in.inodes()
	if err != nil {
		return nil, err
	}
	meta := in.img.MetaInodes()
	var out []victim[ExtentRec]
	for _, ino := range slices.SortedFunc(maps.Keys(cores), cmp.Compare) {
		core := cores[ino]
		if in.f.Ino != 0 && ino != in.f.Ino || meta[ino] || core.Extents(fork) == 0 || !slices.Contains(formats, core.ForkFormat(fork)) {
			continue
		}
		tree, err := in.img.BmapBT(ino, fork)
		if err != nil {
			return nil, err
		}
		found, err := victimsOf(in, tree, 0, func(r ExtentRec) bool {
			agno, agbno := in.img.FSBToAG(r.StartBlock)
			return (in.f.AGNo == nil || agno == *in.f.AGNo) && in.covers(agbno, r.BlockCount)
		})
		if err != nil {
			return nil, err
		}
		for i := range found {
			found[i].agno, _ = in.img.FSBToAG(found[i].Rec.StartBlock)
		}
		out = append(out, found...)
	}
	return out, nil
}

func (in *injector) randomExtent(fork ioctl.Fork, formats ...uint8) error {
	victims, err := in.forks(fork, formats...)
	// A file of many extents is not to be the victim of nearly every draw.
	victims = in.oneAFile(victims)
	return in.changeExtent(victims, err, func(v victim[ExtentRec]) (ExtentRec, error) {
		to := v.Rec
		switch in.rng.IntN(4) {
		case 0:
			to.Offset = in.another(to.Offset, 54)
		case 1:
			to.StartBlock = ioctl.FSBlock(in.another(uint64(to.StartBlock), 52))
		case 2:
			to.BlockCount = uint32(in.another(uint64(to.BlockCount), 21))
		case 3:
			to.Unwritten = !to.Unwritten
		}
		return to, nil
	})
}

// oneAFile keeps a random extent of each fork.
func (in *injector) oneAFile(victims []victim[ExtentRec]) []victim[ExtentRec] {
	var out []victim[ExtentRec]
	for len(victims) > 0 {
		n := 1
		for n < len(victims) && victims[n].tree.ino == victims[0].tree.ino {
			n++
		}
		out = append(out, victims[in.rng.IntN(n)])
		victims = victims[n:]
	}
	return out
}

func (in *injector) bmbtChange(change func(v victim[ExtentRec], to *ExtentRec) error) error {
	victims, err := in.forks(ioctl.DataFork, FormatBtree)
	return in.changeExtent(in.oneAFile(victims), err, func(v victim[ExtentRec]) (ExtentRec, error) {
		to := v.Rec
		err := change(v, &to)
		return to, err
	})
}

func (in *injector) bmbtUnwritten() error {
	return in.bmbtChange(func(_ victim[ExtentRec], to *ExtentRec) error {
		to.Unwritten = !to.Unwritten
		return nil
	})
}

// bmbtOffset moves a record into the hole before or behind it.
func (in *injector) bmbtOffset() error {
	return in.bmbtChange(func(v victim[ExtentRec], to *ExtentRec) error {
		if v.next == nil || v.next.Offset > to.Offset+uint64(to.BlockCount) {
			to.Offset++
			return nil
		}
		if v.prev != nil && v.prev.Offset+uint64(v.prev.BlockCount) < to.Offset {
			to.Offset--
			return nil
		}
		return errSkip
	})
}

func (in *injector) bmbtLength() error {
	return in.bmbtChange(func(_ victim[ExtentRec], to *ExtentRec) error {
		d, err := in.amount(int64(to.BlockCount) - 1)
		to.BlockCount -= uint32(d)
		return err
	})
}

// randomInode changes a counter of a file or a directory that owns blocks.
func (in *injector) randomInode() error {
	cores, err := in.inodes()
	if err != nil {
		return err
	}
	meta := in.img.MetaInodes()
	var inos []ioctl.Ino
	for _, ino := range slices.SortedFunc(maps.Keys(cores), cmp.Compare) {
		core := cores[ino]
		agno, _ := in.img.InoToAG(ino)
		if core.NBlocks == 0 || meta[ino] || in.f.Ino != 0 && ino != in.f.Ino || in.f.AGNo != nil && agno != *in.f.AGNo {
			continue
		}
		inos = append(inos, ino)
	}
	return forAny(in, inos, func(ino ioctl.Ino) error {
		in.out.Ino, in.out.Owner = ino, uint64(ino)
		in.out.AGNo, _ = in.img.InoToAG(ino)
		core := cores[ino]
		fork := ioctl.Fork(ioctl.DataFork)
		field := in.rng.IntN(4)
		if field == 2 && core.Extents(ioctl.AttrFork) == 0 {
			field = 1
		}
		switch field {
		case 2:
			fork = ioctl.AttrFork
			fallthrough
		case 1:
			return in.changeInode(ino, fork.String()+" extents", func(core *DinodeCore) (from, to any) {
				old := core.Extents(fork)
				core.SetExtents(fork, in.another(old, 16))
				return old, core.Extents(fork)
			})
		default:
			return in.changeInode(ino, "nblocks", func(core *DinodeCore) (from, to any) {
				old := core.NBlocks
				core.NBlocks = in.another(old, 30)
				return old, core.NBlocks
			})
		}
	})
}
