package lab

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/scrubd/scrubd/ioctl"
)

// extents lists the extents of forks that fit the fault's choice and keep. The
// data forks are those of regular files.
func (in *injector) extents(fork ioctl.Fork, keep func(core *DinodeCore, r ExtentRec) bool) ([]victim[ExtentRec], error) {
	cores, err := in.inodes()
	if err != nil {
		return nil, err
	}
	meta := in.img.MetaInodes()
	var out []victim[ExtentRec]
	for _, ino := range slices.SortedFunc(maps.Keys(cores), cmp.Compare) {
		core := cores[ino]
		if in.f.Ino != 0 && ino != in.f.Ino || meta[ino] || fork == ioctl.DataFork && !core.IsRegular() || core.Extents(fork) == 0 {
			continue
		}
		tree, err := in.img.BmapBT(ino, fork)
		if err != nil {
			return nil, err
		}
		found, err := victimsOf(in, tree, 0, func(r ExtentRec) bool {
			agno, agbno := in.img.FSBToAG(r.StartBlock)
			return (in.f.AGNo == nil || agno == *in.f.AGNo) && in.covers(agbno, r.BlockCount) && keep(&core, r)
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

func anyExtent(*DinodeCore, ExtentRec) bool { return true }

// sayExtent fills in what was damaged: the extent as it truly is.
func (in *injector) sayExtent(v victim[ExtentRec]) {
	in.out.AGNo, in.out.AGBno = in.img.FSBToAG(v.Rec.StartBlock)
	in.out.BlockCount, in.out.Offset = v.Rec.BlockCount, v.Rec.Offset
	in.out.Ino, in.out.Fork, in.out.Owner = v.tree.ino, v.tree.fork, uint64(v.tree.ino)
}

// changeExtent draws one of the victims and changes it where it is.
func (in *injector) changeExtent(victims []victim[ExtentRec], err error, change func(v victim[ExtentRec]) (ExtentRec, error)) error {
	if err != nil {
		return err
	}
	return forAny(in, victims, func(v victim[ExtentRec]) error {
		to, err := change(v)
		if err != nil {
			return err
		}
		in.sayExtent(v)
		in.edited(v.where(), v.Rec, to)
		return v.tree.Set(v.Location, to, FixKeys)
	})
}

// shiftExtent moves an extent's first block by up to most, inside its group.
func (in *injector) shiftExtent(v victim[ExtentRec], most int64) (ExtentRec, error) {
	agno, agbno := in.img.FSBToAG(v.Rec.StartBlock)
	to := v.Rec
	if room := in.behind(agno, agbno+ioctl.AGBlock(v.Rec.BlockCount)); room > 0 {
		d, err := in.amount(min(most, room))
		to.StartBlock += ioctl.FSBlock(d)
		return to, err
	}
	d, err := in.amount(min(most, int64(agbno)-mostShift))
	to.StartBlock -= ioctl.FSBlock(d)
	return to, err
}

func (in *injector) forkStart() error {
	victims, err := in.extents(ioctl.DataFork, func(core *DinodeCore, _ ExtentRec) bool { return core.Format == FormatExtents })
	return in.changeExtent(victims, err, func(v victim[ExtentRec]) (ExtentRec, error) { return in.shiftExtent(v, mostShift) })
}

func (in *injector) bmbtRecord() error {
	victims, err := in.extents(ioctl.DataFork, func(core *DinodeCore, _ ExtentRec) bool { return core.Format == FormatBtree })
	return in.changeExtent(victims, err, func(v victim[ExtentRec]) (ExtentRec, error) { return in.shiftExtent(v, 1000) })
}

func (in *injector) attrFork() error {
	victims, err := in.extents(ioctl.AttrFork, anyExtent)
	return in.changeExtent(victims, err, func(v victim[ExtentRec]) (ExtentRec, error) { return in.shiftExtent(v, mostShift) })
}

func (in *injector) forkLength() error {
	victims, err := in.extents(ioctl.DataFork, func(_ *DinodeCore, r ExtentRec) bool { return r.BlockCount > 1 })
	return in.changeExtent(victims, err, func(v victim[ExtentRec]) (ExtentRec, error) {
		d, err := in.amount(int64(v.Rec.BlockCount) - 1)
		to := v.Rec
		to.BlockCount -= uint32(d)
		return to, err
	})
}

func (in *injector) flipExtent(unwritten bool) error {
	victims, err := in.extents(ioctl.DataFork, func(_ *DinodeCore, r ExtentRec) bool { return r.Unwritten != unwritten })
	return in.changeExtent(victims, err, func(v victim[ExtentRec]) (ExtentRec, error) {
		to := v.Rec
		to.Unwritten = unwritten
		return to, nil
	})
}

func (in *injector) forkUnwritten() error { return in.flipExtent(true) }

func (in *injector) forkWritten() error { return in.flipExtent(false) }

// loseExtent removes the last extent of a file that has several, or any that
// the fault chooses.
func (in *injector) loseExtent(keepNBlocks bool) error {
	chosen := in.f.Ino != 0 || in.f.Match != nil || in.f.AGBno != nil
	victims, err := in.extents(ioctl.DataFork, func(core *DinodeCore, _ ExtentRec) bool { return chosen || core.Extents(ioctl.DataFork) > 1 })
	if err != nil {
		return err
	}
	if in.f.Match == nil && in.f.AGBno == nil {
		victims = slices.DeleteFunc(victims, func(v victim[ExtentRec]) bool { return v.next != nil })
	}
	return forAny(in, victims, func(v victim[ExtentRec]) error {
		in.sayExtent(v)
		in.edited(v.where(), v.Rec, nil)
		if err := v.tree.Delete(v.Location, FixKeys); err != nil || keepNBlocks {
			return err
		}
		return in.changeInode(v.tree.ino, "nblocks", func(core *DinodeCore) (from, to any) {
			old := core.NBlocks
			core.NBlocks -= uint64(v.Rec.BlockCount)
			return old, core.NBlocks
		})
	})
}

func (in *injector) forkLost() error { return in.loseExtent(true) }

func (in *injector) forkLostNBlocks() error { return in.loseExtent(false) }

// changeInode changes a field of an inode and notes it.
func (in *injector) changeInode(ino ioctl.Ino, field string, change func(*DinodeCore) (from, to any)) error {
	return in.img.UpdateInode(ino, func(core *DinodeCore) {
		from, to := change(core)
		in.edited(fmt.Sprintf("inode %d, %s", ino, field), from, to)
	})
}

// drawFile draws a regular file that passes keep and damages its core.
func (in *injector) drawFile(keep func(*DinodeCore) bool, field string, change func(*DinodeCore) (from, to any)) error {
	files, err := in.files()
	if err != nil {
		return err
	}
	files = slices.DeleteFunc(files, func(ino ioctl.Ino) bool {
		core := in.cores[ino]
		agno, _ := in.img.InoToAG(ino)
		return in.f.Ino != 0 && ino != in.f.Ino || in.f.AGNo != nil && agno != *in.f.AGNo || !keep(&core)
	})
	return forAny(in, files, func(ino ioctl.Ino) error {
		in.out.Ino, in.out.Owner = ino, uint64(ino)
		in.out.AGNo, _ = in.img.InoToAG(ino)
		return in.changeInode(ino, field, change)
	})
}

func (in *injector) nblocks() error {
	return in.drawFile(func(core *DinodeCore) bool { return core.NBlocks > 0 }, "nblocks", func(core *DinodeCore) (from, to any) {
		old := core.NBlocks
		if in.f.Delta == 0 {
			core.NBlocks++
		} else {
			core.NBlocks = uint64(int64(old) + in.f.Delta)
		}
		return old, core.NBlocks
	})
}

func (in *injector) reflinkFlag() error {
	return in.drawFile((*DinodeCore).Reflink, "reflink flag", func(core *DinodeCore) (from, to any) {
		core.Flags2 &^= dinodeReflink
		return true, false
	})
}

func (in *injector) crossLink() error {
	plain := func(core *DinodeCore, r ExtentRec) bool { return !core.Reflink() && !r.Unwritten }
	victims, err := in.extents(ioctl.DataFork, plain)
	if err != nil {
		return err
	}
	everywhere := &injector{img: in.img, cores: in.cores}
	targets, err := everywhere.extents(ioctl.DataFork, plain)
	if err != nil {
		return err
	}
	return in.changeExtent(victims, nil, func(v victim[ExtentRec]) (ExtentRec, error) {
		for _, i := range in.rng.Perm(len(targets)) {
			if other := targets[i]; other.tree.ino != v.tree.ino && other.Rec.BlockCount >= v.Rec.BlockCount {
				to := v.Rec
				to.StartBlock = other.Rec.StartBlock
				return to, nil
			}
		}
		return ExtentRec{}, errSkip
	})
}

func (in *injector) bmbtPointer() error {
	files, err := in.files()
	if err != nil {
		return err
	}
	files = slices.DeleteFunc(files, func(ino ioctl.Ino) bool {
		agno, _ := in.img.InoToAG(ino)
		return in.cores[ino].Format != FormatBtree || in.f.Ino != 0 && ino != in.f.Ino || in.f.AGNo != nil && agno != *in.f.AGNo
	})
	return forAny(in, files, func(ino ioctl.Ino) error {
		tree, err := in.img.BmapBT(ino, ioctl.DataFork)
		if err != nil {
			return err
		}
		root, err := tree.rootNode()
		if err != nil {
			return err
		}
		if root.count < 2 {
			return errSkip
		}
		i := in.rng.IntN(root.count)
		sibling := (i + 1 + in.rng.IntN(root.count-1)) % root.count
		from, to := tree.ptr(root, i), tree.ptr(root, sibling)
		in.out.Ino, in.out.Owner = ino, uint64(ino)
		in.out.AGNo, in.out.AGBno = in.img.FSBToAG(ioctl.FSBlock(from))
		in.out.BlockCount = 1
		in.edited(fmt.Sprintf("%s, root pointer %d", tree, i), from, to)
		return tree.setPtr(root, i, to)
	})
}
