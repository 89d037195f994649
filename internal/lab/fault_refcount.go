package lab

import (
	"github.com/scrubd/scrubd/ioctl"
)

// refcounts lists the records of shared blocks that fit the fault's choice
// and keep. With Ino only those that the inode's data maps.
func (in *injector) refcounts(keep func(RefcountRec) bool) ([]victim[RefcountRec], error) {
	var out []victim[RefcountRec]
	for _, agno := range in.groups() {
		tree, err := in.img.RefcountBT(agno)
		if err != nil {
			return nil, err
		}
		var owned []victim[RmapRec]
		if in.f.Ino != 0 {
			only := &injector{img: in.img, f: Fault{Ino: in.f.Ino, AGNo: &agno}}
			if owned, err = only.fileRmaps(anyRmap); err != nil {
				return nil, err
			}
		}
		found, err := victimsOf(in, tree, agno, func(r RefcountRec) bool {
			if r.CoW || !in.covers(r.StartBlock, r.BlockCount) || !keep(r) {
				return false
			}
			for _, o := range owned {
				if o.Rec.StartBlock < r.End() && r.StartBlock < o.Rec.End() {
					return true
				}
			}
			return in.f.Ino == 0
		})
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	return out, nil
}

func (in *injector) sayRefcount(v victim[RefcountRec], to any) {
	in.out.AGNo, in.out.AGBno, in.out.BlockCount = v.agno, v.Rec.StartBlock, v.Rec.BlockCount
	in.edited(v.where(), v.Rec, to)
}

// changeRefcount draws a record that passes keep and changes it.
func (in *injector) changeRefcount(keep func(RefcountRec) bool, change func(*RefcountRec) error) error {
	victims, err := in.refcounts(keep)
	if err != nil {
		return err
	}
	return forAny(in, victims, func(v victim[RefcountRec]) error {
		to := v.Rec
		if err := change(&to); err != nil {
			return err
		}
		in.sayRefcount(v, to)
		return v.tree.Move(v.Location, to, FixKeys)
	})
}

func anyRefcount(RefcountRec) bool { return true }

func (in *injector) refcountValue() error {
	return in.changeRefcount(anyRefcount, func(r *RefcountRec) error {
		d, err := in.amount(mostShift)
		if in.f.Delta < 0 {
			d = -d
		}
		// A count of one would have no record; the kernel refuses it.
		if int64(r.RefCount)+d < 2 {
			return errSkip
		}
		r.RefCount = uint32(int64(r.RefCount) + d)
		return err
	})
}

func (in *injector) refcountCoW() error {
	return in.changeRefcount(anyRefcount, func(r *RefcountRec) error {
		r.CoW, r.RefCount = true, 1
		return nil
	})
}

func (in *injector) refcountLength() error {
	return in.changeRefcount(func(r RefcountRec) bool { return r.BlockCount > 1 }, func(r *RefcountRec) error {
		d, err := in.amount(int64(r.BlockCount) - 1)
		r.BlockCount -= uint32(d)
		return err
	})
}

func (in *injector) refcountRemoved() error {
	victims, err := in.refcounts(anyRefcount)
	if err != nil {
		return err
	}
	return forAny(in, victims, func(v victim[RefcountRec]) error {
		in.sayRefcount(v, nil)
		return v.tree.Delete(v.Location, FixKeys)
	})
}

func (in *injector) refcountAdded() error {
	victims, err := in.dataRmaps(func(r RmapRec) bool { return !r.Unwritten })
	if err != nil {
		return err
	}
	return forAny(in, victims, func(v victim[RmapRec]) error {
		tree, err := in.img.RefcountBT(v.agno)
		if err != nil {
			return err
		}
		for e, err := range tree.All() {
			if err != nil {
				return err
			}
			if e.Rec.StartBlock <= v.Rec.End() && v.Rec.StartBlock <= e.Rec.End() {
				return errSkip // shared in truth, or beside a record it would be joined with
			}
		}
		d, err := in.amount(int64(v.Rec.BlockCount))
		if err != nil {
			return err
		}
		rec := RefcountRec{StartBlock: v.Rec.StartBlock, BlockCount: uint32(d), RefCount: 2}
		in.out.AGNo, in.out.AGBno, in.out.BlockCount = v.agno, rec.StartBlock, rec.BlockCount
		in.out.Ino = ioctl.Ino(v.Rec.Owner)
		in.edited(tree.String(), nil, rec)
		return tree.Insert(rec, FixKeys)
	})
}
