package lab

import (
	"fmt"

	"github.com/scrubd/scrubd/ioctl"
)

// mostShift bounds how far a drawn start, length or offset moves, in blocks.
const mostShift = 16

// rmaps lists the records of the rmapbts that fit the fault's choice and keep.
func (in *injector) rmaps(keep func(RmapRec) bool) ([]victim[RmapRec], error) {
	meta := in.img.MetaInodes()
	var out []victim[RmapRec]
	for _, agno := range in.groups() {
		tree, err := in.img.RmapBT(agno)
		if err != nil {
			return nil, err
		}
		found, err := victimsOf(in, tree, agno, func(r RmapRec) bool {
			if in.f.Ino != 0 && r.Owner != uint64(in.f.Ino) || in.f.Ino == 0 && meta[ioctl.Ino(r.Owner)] {
				return false
			}
			return in.covers(r.StartBlock, r.BlockCount) && keep(r)
		})
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	return out, nil
}

// fileRmaps are the records of extents of inodes, not of bmbt blocks.
func (in *injector) fileRmaps(keep func(RmapRec) bool) ([]victim[RmapRec], error) {
	return in.rmaps(func(r RmapRec) bool { return r.IsInode() && !r.BMBTBlock && keep(r) })
}

func anyRmap(RmapRec) bool { return true }

// sayRmap fills in what was damaged: the record as it truly is.
func (in *injector) sayRmap(agno ioctl.AGNumber, truth RmapRec, wrongOwner uint64) {
	in.out.AGNo, in.out.AGBno, in.out.BlockCount = agno, truth.StartBlock, truth.BlockCount
	in.out.Offset, in.out.Owner = truth.Offset, wrongOwner
	if truth.IsInode() {
		in.out.Ino = ioctl.Ino(truth.Owner)
	}
	if truth.AttrFork {
		in.out.Fork = ioctl.AttrFork
	}
}

// changeRmap draws one of the victims and moves it to where change wants it.
func (in *injector) changeRmap(victims []victim[RmapRec], err error, change func(v victim[RmapRec]) (RmapRec, error)) error {
	if err != nil {
		return err
	}
	return forAny(in, victims, func(v victim[RmapRec]) error {
		to, err := change(v)
		if err != nil {
			return err
		}
		if to.compare(RmapBT, v.Rec) != 0 {
			// Two records of one key would be another fault as well.
			if same, err := in.rmapExists(v.tree, to); err != nil || same {
				return orSkip(err)
			}
		}
		in.sayRmap(v.agno, v.Rec, to.Owner)
		in.edited(v.where(), v.Rec, to)
		return v.tree.Move(v.Location, to, FixKeys)
	})
}

func orSkip(err error) error {
	if err != nil {
		return err
	}
	return errSkip
}

// rmapExists tells whether a tree has a record of the same key.
func (in *injector) rmapExists(tree *Tree[RmapRec], rec RmapRec) (bool, error) {
	n, _, at, err := tree.search(rec)
	if err != nil {
		return false, err
	}
	return at < n.count && decodeRecord[RmapRec](tree.rec(n, at)).compare(RmapBT, rec) == 0, nil
}

// behind is how many blocks of the group lie behind a record.
func (in *injector) behind(agno ioctl.AGNumber, end ioctl.AGBlock) int64 {
	return int64(in.img.AGLength(agno)) - int64(end)
}

func (in *injector) rmapStart() error {
	victims, err := in.fileRmaps(anyRmap)
	return in.changeRmap(victims, err, func(v victim[RmapRec]) (RmapRec, error) {
		d, err := in.amount(min(mostShift, in.behind(v.agno, v.Rec.End())))
		to := v.Rec
		to.StartBlock += ioctl.AGBlock(d)
		return to, err
	})
}

func (in *injector) rmapShorter() error {
	victims, err := in.fileRmaps(func(r RmapRec) bool { return r.BlockCount > 1 })
	return in.changeRmap(victims, err, func(v victim[RmapRec]) (RmapRec, error) {
		d, err := in.amount(int64(v.Rec.BlockCount) - 1)
		to := v.Rec
		to.BlockCount -= uint32(d)
		return to, err
	})
}

func (in *injector) rmapLonger() error {
	victims, err := in.fileRmaps(anyRmap)
	return in.changeRmap(victims, err, func(v victim[RmapRec]) (RmapRec, error) {
		d, err := in.amount(min(mostShift, in.behind(v.agno, v.Rec.End())))
		to := v.Rec
		to.BlockCount += uint32(d)
		return to, err
	})
}

// otherFile returns the fault's Owner, or draws a regular file that is not ino.
func (in *injector) otherFile(ino uint64) (uint64, error) {
	if in.f.Owner != 0 {
		return in.f.Owner, nil
	}
	files, err := in.files()
	if err != nil {
		return 0, err
	}
	for range 100 {
		if len(files) == 0 {
			break
		}
		if other := files[in.rng.IntN(len(files))]; uint64(other) != ino {
			return uint64(other), nil
		}
	}
	return 0, errSkip
}

func (in *injector) rmapOwner() error {
	victims, err := in.fileRmaps(anyRmap)
	return in.changeRmap(victims, err, func(v victim[RmapRec]) (RmapRec, error) {
		to := v.Rec
		var err error
		to.Owner, err = in.otherFile(v.Rec.Owner)
		return to, err
	})
}

func (in *injector) rmapOwnerMissing() error {
	victims, err := in.fileRmaps(anyRmap)
	return in.changeRmap(victims, err, func(v victim[RmapRec]) (RmapRec, error) {
		tree, err := in.img.InoBT(v.agno)
		if err != nil {
			return RmapRec{}, err
		}
		chunks, err := tree.Records()
		if err != nil {
			return RmapRec{}, err
		}
		inodes := int64(in.img.AGLength(v.agno)) << in.img.SB.InopBlog
	draw:
		for range 1000 {
			agino := ioctl.AGIno(inodes/2 + in.rng.Int64N(inodes/2)) // clear of the AG headers
			for _, c := range chunks {
				if agino >= c.Rec.StartIno && agino < c.Rec.StartIno+inodesPerChunk {
					continue draw
				}
			}
			to := v.Rec
			to.Owner = uint64(in.img.AGToIno(v.agno, agino))
			return to, nil
		}
		return RmapRec{}, errSkip
	})
}

func (in *injector) rmapOwnerFree() error {
	var free []ioctl.Ino
	for agno := range ioctl.AGNumber(in.img.SB.AGCount) {
		tree, err := in.img.InoBT(agno)
		if err != nil {
			return err
		}
		for e, err := range tree.All() {
			if err != nil {
				return err
			}
			for i := range inodesPerChunk {
				if e.Rec.Exists(i) && !e.Rec.Allocated(i) {
					free = append(free, in.img.AGToIno(agno, e.Rec.StartIno+ioctl.AGIno(i)))
				}
			}
		}
	}
	if len(free) == 0 {
		return ErrNoVictim
	}
	victims, err := in.fileRmaps(anyRmap)
	return in.changeRmap(victims, err, func(v victim[RmapRec]) (RmapRec, error) {
		to := v.Rec
		to.Owner = uint64(free[in.rng.IntN(len(free))])
		return to, nil
	})
}

func (in *injector) rmapOffset() error {
	victims, err := in.fileRmaps(anyRmap)
	return in.changeRmap(victims, err, func(v victim[RmapRec]) (RmapRec, error) {
		d, err := in.amount(mostShift)
		to := v.Rec
		to.Offset += uint64(d)
		return to, err
	})
}

// dataRmaps are the records of data of regular files.
func (in *injector) dataRmaps(keep func(RmapRec) bool) ([]victim[RmapRec], error) {
	cores, err := in.inodes()
	if err != nil {
		return nil, err
	}
	return in.fileRmaps(func(r RmapRec) bool {
		core, ok := cores[ioctl.Ino(r.Owner)]
		return ok && core.IsRegular() && !r.AttrFork && keep(r)
	})
}

func (in *injector) rmapUnwritten() error {
	victims, err := in.dataRmaps(func(r RmapRec) bool { return !r.Unwritten })
	return in.flipRmap(victims, err, func(r *RmapRec) { r.Unwritten = true })
}

func (in *injector) rmapWritten() error {
	victims, err := in.fileRmaps(func(r RmapRec) bool { return r.Unwritten })
	return in.flipRmap(victims, err, func(r *RmapRec) { r.Unwritten = false })
}

func (in *injector) rmapAttr() error {
	victims, err := in.fileRmaps(func(r RmapRec) bool { return !r.Unwritten })
	return in.flipRmap(victims, err, func(r *RmapRec) { r.AttrFork = !r.AttrFork })
}

func (in *injector) rmapBMBT() error {
	// A bmbt record has no offset and is not unwritten: others the kernel
	// refuses, which is FaultRmapInvalid.
	victims, err := in.rmaps(func(r RmapRec) bool { return r.IsInode() && !r.Unwritten && r.Offset == 0 })
	return in.changeRmap(victims, err, func(v victim[RmapRec]) (RmapRec, error) {
		// What others share is contested then, which is another matter.
		if shared, err := overlapped(v); err != nil || shared {
			return v.Rec, orSkip(err)
		}
		to := v.Rec
		to.BMBTBlock = !to.BMBTBlock
		return to, nil
	})
}

// overlapped tells whether another record has a block of the victim.
func overlapped(v victim[RmapRec]) (bool, error) {
	for e, err := range v.tree.All() {
		switch {
		case err != nil:
			return false, err
		case e.Rec.StartBlock >= v.Rec.End():
			return false, nil
		case e.Rec.End() > v.Rec.StartBlock && e.Rec != v.Rec:
			return true, nil
		}
	}
	return false, nil
}

func (in *injector) flipRmap(victims []victim[RmapRec], err error, flip func(*RmapRec)) error {
	return in.changeRmap(victims, err, func(v victim[RmapRec]) (RmapRec, error) {
		to := v.Rec
		flip(&to)
		return to, nil
	})
}

func (in *injector) rmapSpecial() error {
	wrong := map[uint64]uint64{OwnerInodes: OwnerAG, OwnerAG: OwnerInobt, OwnerInobt: OwnerAG, OwnerRefcbt: OwnerInobt}
	victims, err := in.rmaps(func(r RmapRec) bool { return wrong[r.Owner] != 0 })
	return in.flipRmap(victims, err, func(r *RmapRec) { r.Owner = wrong[r.Owner] })
}

func (in *injector) rmapRemoved() error {
	victims, err := in.rmaps(func(r RmapRec) bool { return r.IsInode() || in.f.Match != nil || in.f.AGBno != nil })
	if err != nil {
		return err
	}
	return forAny(in, victims, func(v victim[RmapRec]) error {
		in.sayRmap(v.agno, v.Rec, v.Rec.Owner)
		in.edited(v.where(), v.Rec, nil)
		return v.tree.Delete(v.Location, FixKeys)
	})
}

// bogusOffset is where an added record claims to be in its file, in blocks:
// behind everything that a sample has.
const bogusOffset = 1 << 20

func (in *injector) addRmap(agno ioctl.AGNumber, rec RmapRec) error {
	tree, err := in.img.RmapBT(agno)
	if err != nil {
		return err
	}
	in.out.AGNo, in.out.AGBno, in.out.BlockCount = agno, rec.StartBlock, rec.BlockCount
	in.out.Owner, in.out.Offset = rec.Owner, rec.Offset
	in.edited(tree.String(), nil, rec)
	return tree.Insert(rec, FixKeys)
}

func (in *injector) rmapAddedFree() error {
	victims, err := in.frees(BnoBT, func(FreeRec) bool { return true })
	if err != nil {
		return err
	}
	return forAny(in, victims, func(v victim[FreeRec]) error {
		d, err := in.amount(min(mostShift, int64(v.Rec.BlockCount)))
		if err != nil {
			return err
		}
		owner, err := in.otherFile(0)
		if err != nil {
			return err
		}
		at := v.Rec.StartBlock + ioctl.AGBlock(in.rng.Int64N(int64(v.Rec.BlockCount)-d+1))
		return in.addRmap(v.agno, RmapRec{StartBlock: at, BlockCount: uint32(d), Owner: owner, Offset: bogusOffset})
	})
}

func (in *injector) rmapAddedUsed() error {
	victims, err := in.dataRmaps(func(r RmapRec) bool { return !r.Unwritten })
	if err != nil {
		return err
	}
	return forAny(in, victims, func(v victim[RmapRec]) error {
		d, err := in.amount(int64(v.Rec.BlockCount))
		if err != nil {
			return err
		}
		owner, err := in.otherFile(v.Rec.Owner)
		if err != nil {
			return err
		}
		in.out.Ino = ioctl.Ino(v.Rec.Owner)
		return in.addRmap(v.agno, RmapRec{StartBlock: v.Rec.StartBlock, BlockCount: uint32(d), Owner: owner, Offset: bogusOffset})
	})
}

func (in *injector) rmapKey() error {
	type inner struct {
		tree *Tree[RmapRec]
		agno ioctl.AGNumber
		node *treeNode
		i    int
	}
	var victims []inner
	for _, agno := range in.groups() {
		tree, err := in.img.RmapBT(agno)
		if err != nil {
			return err
		}
		err = tree.blocks(func(_ []treeStep, n *treeNode) bool {
			for i := 0; n.level > 0 && i < n.count; i++ {
				victims = append(victims, inner{tree, agno, n, i})
			}
			return true
		})
		if err != nil {
			return err
		}
	}
	return forAny(in, victims, func(v inner) error {
		lay := treeLayouts[RmapBT]
		key := v.tree.key(v.node, v.i)
		low, high := decodeKey[RmapRec](key), decodeKey[RmapRec](key[lay.oneKey:])
		if high.StartBlock <= low.StartBlock+1 {
			return errSkip
		}
		to := high
		to.StartBlock = low.StartBlock + (high.StartBlock-low.StartBlock)/2
		in.out.AGNo, in.out.AGBno = v.agno, high.StartBlock
		in.edited(fmt.Sprintf("%s, block %d, high key %d", v.tree, v.node.block, v.i), high, to)
		return v.tree.setHighKey(v.node, v.i, to)
	})
}

func (in *injector) rmapInvalid() error {
	victims, err := in.fileRmaps(anyRmap)
	if err != nil {
		return err
	}
	return forAny(in, victims, func(v victim[RmapRec]) error {
		to := v.Rec
		to.BlockCount = 0
		in.sayRmap(v.agno, v.Rec, v.Rec.Owner)
		in.edited(v.where(), v.Rec, to)
		return v.tree.Set(v.Location, to, KeepKeys)
	})
}

func (in *injector) rmapCRC() error {
	victims, err := in.fileRmaps(anyRmap)
	if err != nil {
		return err
	}
	return forAny(in, victims, func(v victim[RmapRec]) error {
		to := v.Rec
		to.BlockCount ^= 2
		in.sayRmap(v.agno, v.Rec, v.Rec.Owner)
		in.edited(v.where(), v.Rec, to)
		return v.tree.SetBadCRC(v.Location, to)
	})
}
