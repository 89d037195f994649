package lab

import (
	"github.com/scrubd/scrubd/ioctl"
)

// frees lists the records of free space that fit the fault's choice and keep.
// AGBno also chooses the record that begins behind or ends before the block.
func (in *injector) frees(kind TreeKind, keep func(FreeRec) bool) ([]victim[FreeRec], error) {
	var out []victim[FreeRec]
	for _, agno := range in.groups() {
		tree, err := in.img.freeTree(kind, agno)
		if err != nil {
			return nil, err
		}
		found, err := victimsOf(in, tree, agno, func(r FreeRec) bool {
			near := in.f.AGBno != nil && (*in.f.AGBno == r.End() || *in.f.AGBno+1 == r.StartBlock)
			return (near || in.covers(r.StartBlock, r.BlockCount)) && keep(r)
		})
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	return out, nil
}

// gapBefore and gapBehind are the numbers of used blocks next to a record of
// the bnobt.
func gapBefore(v victim[FreeRec]) int64 {
	if v.prev == nil {
		return 0 // the AG headers
	}
	return int64(v.Rec.StartBlock) - int64(v.prev.End())
}

func (in *injector) gapBehind(v victim[FreeRec]) int64 {
	if v.next == nil {
		return in.behind(v.agno, v.Rec.End())
	}
	return int64(v.next.StartBlock) - int64(v.Rec.End())
}

// changeFree draws a bnobt record that passes keep and changes it; with Both
// the cntbt follows, and the counters by as many blocks as the record grew.
func (in *injector) changeFree(both bool, keep func(FreeRec) bool, change func(v victim[FreeRec]) (FreeRec, error)) error {
	victims, err := in.frees(BnoBT, keep)
	if err != nil {
		return err
	}
	return forAny(in, victims, func(v victim[FreeRec]) error {
		to, err := change(v)
		if err != nil {
			return err
		}
		in.out.AGNo, in.out.AGBno, in.out.BlockCount = v.agno, v.Rec.StartBlock, v.Rec.BlockCount
		in.edited(v.where(), v.Rec, to)
		if err := v.tree.Move(v.Location, to, FixKeys); err != nil || !both {
			return err
		}
		if err := in.changeByLength(v.agno, v.Rec, to); err != nil {
			return err
		}
		return in.adjust(v.agno, int64(to.BlockCount)-int64(v.Rec.BlockCount))
	})
}

// changeByLength does to the cntbt what was done to the bnobt.
func (in *injector) changeByLength(agno ioctl.AGNumber, from, to FreeRec) error {
	tree, err := in.img.CntBT(agno)
	if err != nil {
		return err
	}
	found, err := victimsOf(&injector{}, tree, agno, func(r FreeRec) bool { return r == from })
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return errSkip // the trees differ already
	}
	in.edited(found[0].where(), from, to)
	return tree.Move(found[0].Location, to, FixKeys)
}

// adjust changes the counters of free blocks and notes them.
func (in *injector) adjust(agno ioctl.AGNumber, delta int64) error {
	old, err := in.img.AGF(agno)
	if err != nil {
		return err
	}
	fdblocks := in.img.SB.FDBlocks
	if err := in.img.AdjustFree(agno, delta); err != nil {
		return err
	}
	agf, err := in.img.AGF(agno)
	if err != nil {
		return err
	}
	where := "AGF of " + agName(agno)
	for _, c := range []struct {
		where    string
		from, to any
	}{
		{where + ", freeblks", old.FreeBlks, agf.FreeBlks},
		{where + ", longest", old.Longest, agf.Longest},
		{"superblock, fdblocks", fdblocks, in.img.SB.FDBlocks},
	} {
		if c.from != c.to {
			in.edited(c.where, c.from, c.to)
		}
	}
	return nil
}

func (in *injector) bnoStart() error {
	return in.changeFree(in.f.Both, func(FreeRec) bool { return true }, func(v victim[FreeRec]) (FreeRec, error) {
		to := v.Rec
		// A shift that keeps one used block on each side leaves the order and
		// the gaps between records as they must be.
		if room := in.gapBehind(v) - 1; room > 0 && in.f.Delta >= 0 {
			d, err := in.amount(min(mostShift, room))
			to.StartBlock += ioctl.AGBlock(d)
			return to, err
		}
		d, err := in.amount(min(mostShift, gapBefore(v)-1))
		to.StartBlock -= ioctl.AGBlock(d)
		return to, err
	})
}

func (in *injector) shorterFree(both bool) error {
	return in.changeFree(both, func(r FreeRec) bool { return r.BlockCount > 1 }, func(v victim[FreeRec]) (FreeRec, error) {
		d, err := in.amount(int64(v.Rec.BlockCount) - 1)
		to := v.Rec
		to.BlockCount -= uint32(d)
		return to, err
	})
}

func (in *injector) bnoShorter() error { return in.shorterFree(in.f.Both) }

func (in *injector) leak() error { return in.shorterFree(true) }

func (in *injector) bnoLonger() error {
	return in.changeFree(in.f.Both, func(FreeRec) bool { return true }, func(v victim[FreeRec]) (FreeRec, error) {
		to := v.Rec
		forward, backward := min(mostShift, in.gapBehind(v)-1), min(mostShift, gapBefore(v)-1)
		if v.next == nil {
			forward = min(mostShift, in.gapBehind(v)) // up to the end of the group
		}
		if forward > 0 && (backward <= 0 || in.rng.IntN(2) == 0) {
			d, err := in.amount(forward)
			to.BlockCount += uint32(d)
			return to, err
		}
		d, err := in.amount(backward)
		to.StartBlock -= ioctl.AGBlock(d)
		to.BlockCount += uint32(d)
		return to, err
	})
}

// freeUsed frees blocks in the middle of a file's extent, where no free space
// is that they would have to be joined with.
func (in *injector) freeUsed() error {
	victims, err := in.dataRmaps(func(r RmapRec) bool { return r.BlockCount > 2 })
	if err != nil {
		return err
	}
	return forAny(in, victims, func(v victim[RmapRec]) error {
		d, err := in.amount(min(mostShift, int64(v.Rec.BlockCount)-2))
		if err != nil {
			return err
		}
		at := 1 + in.rng.Int64N(int64(v.Rec.BlockCount)-1-d)
		rec := FreeRec{StartBlock: v.Rec.StartBlock + ioctl.AGBlock(at), BlockCount: uint32(d)}
		for _, kind := range []TreeKind{BnoBT, CntBT} {
			tree, err := in.img.freeTree(kind, v.agno)
			if err != nil {
				return err
			}
			in.edited(tree.String(), nil, rec)
			if err := tree.Insert(rec, FixKeys); err != nil {
				return err
			}
		}
		in.sayRmap(v.agno, v.Rec, v.Rec.Owner)
		in.out.AGBno, in.out.BlockCount, in.out.Offset = rec.StartBlock, rec.BlockCount, v.Rec.Offset+uint64(at)
		return in.adjust(v.agno, d)
	})
}

func (in *injector) cntLength() error {
	victims, err := in.frees(CntBT, func(r FreeRec) bool { return r.BlockCount > 1 })
	if err != nil {
		return err
	}
	return forAny(in, victims, func(v victim[FreeRec]) error {
		d, err := in.amount(int64(v.Rec.BlockCount) - 1)
		if err != nil {
			return err
		}
		to := v.Rec
		to.BlockCount -= uint32(d)
		in.out.AGNo, in.out.AGBno, in.out.BlockCount = v.agno, v.Rec.StartBlock, v.Rec.BlockCount
		in.edited(v.where(), v.Rec, to)
		return v.tree.Move(v.Location, to, FixKeys)
	})
}
