package lab

import (
	"fmt"

	"github.com/scrubd/scrubd/ioctl"
)

func agName(agno ioctl.AGNumber) string { return fmt.Sprintf("AG %d", agno) }

// count changes a counter by the fault's Delta, or by the usual one, and notes
// it. It is modular, as the counter is.
func (in *injector) count(where string, value *uint32, usual int64) {
	old := *value
	if in.f.Delta != 0 {
		usual = in.f.Delta
	}
	*value = uint32(int64(old) + usual)
	in.edited(where, old, *value)
}

// anyGroup draws one of the groups that the fault may touch.
func (in *injector) anyGroup(damage func(agno ioctl.AGNumber) error) error {
	return forAny(in, in.groups(), func(agno ioctl.AGNumber) error {
		in.out.AGNo = agno
		return damage(agno)
	})
}

func (in *injector) agf(field string, usual int64, value func(*AGF) *uint32) error {
	return in.anyGroup(func(agno ioctl.AGNumber) error {
		return in.img.UpdateAGF(agno, func(agf *AGF) { in.count("AGF of "+agName(agno)+", "+field, value(agf), usual) })
	})
}

func (in *injector) agi(field string, usual int64, value func(*AGI) *uint32) error {
	return in.anyGroup(func(agno ioctl.AGNumber) error {
		return in.img.UpdateAGI(agno, func(agi *AGI) { in.count("AGI of "+agName(agno)+", "+field, value(agi), usual) })
	})
}

func (in *injector) super(field string, usual int64, value func(*Superblock) *uint64) error {
	if in.f.Delta != 0 {
		usual = in.f.Delta
	}
	return in.img.UpdateSB(func(sb *Superblock) {
		v := value(sb)
		old := *v
		*v = uint64(int64(old) + usual)
		in.edited("superblock, "+field, old, *v)
	})
}

func (in *injector) agiCount() error {
	return in.agi("count", inodesPerChunk, func(a *AGI) *uint32 { return &a.Count })
}

func (in *injector) agiFreeCount() error {
	return in.agi("freecount", 1, func(a *AGI) *uint32 { return &a.FreeCount })
}

func (in *injector) agfFreeBlks() error {
	return in.agf("freeblks", 1, func(a *AGF) *uint32 { return &a.FreeBlks })
}

// agfLongest goes down: above freeblks the kernel refuses the AGF.
func (in *injector) agfLongest() error {
	return in.agf("longest", -1, func(a *AGF) *uint32 { return &a.Longest })
}

func (in *injector) agfBtreeBlks() error {
	return in.agf("btreeblks", 1, func(a *AGF) *uint32 { return &a.BtreeBlks })
}

func (in *injector) sbFDBlocks() error {
	return in.super("fdblocks", -1, func(sb *Superblock) *uint64 { return &sb.FDBlocks })
}

func (in *injector) sbICount() error {
	return in.super("icount", inodesPerChunk, func(sb *Superblock) *uint64 { return &sb.ICount })
}

func (in *injector) sbIFree() error {
	return in.super("ifree", 1, func(sb *Superblock) *uint64 { return &sb.IFree })
}

func (in *injector) agflCrossLink() error {
	victims, err := in.dataRmaps(anyRmap)
	if err != nil {
		return err
	}
	return forAny(in, victims, func(v victim[RmapRec]) error {
		blocks, first, err := in.img.AGFL(v.agno)
		if err != nil {
			return err
		}
		if len(blocks) == 0 {
			return errSkip
		}
		i := in.rng.IntN(len(blocks))
		slot := (first + uint32(i)) % in.img.agflSlots()
		at := in.rng.Int64N(int64(v.Rec.BlockCount))
		to := v.Rec.StartBlock + ioctl.AGBlock(at)
		in.sayRmap(v.agno, v.Rec, OwnerAG)
		in.out.AGBno, in.out.BlockCount, in.out.Offset = to, 1, v.Rec.Offset+uint64(at)
		in.edited(fmt.Sprintf("AGFL of %s, slot %d", agName(v.agno), slot), blocks[i], to)
		return in.img.SetAGFL(v.agno, slot, to)
	})
}
