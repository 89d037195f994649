package lab

import (
	"math/bits"

	"github.com/scrubd/scrubd/ioctl"
)

// chunks lists the records of the inobts that fit the fault's choice and keep.
func (in *injector) chunks(keep func(agno ioctl.AGNumber, r InodeRec) bool) ([]victim[InodeRec], error) {
	var out []victim[InodeRec]
	for _, agno := range in.groups() {
		tree, err := in.img.InoBT(agno)
		if err != nil {
			return nil, err
		}
		found, err := victimsOf(in, tree, agno, func(r InodeRec) bool {
			if in.f.Ino != 0 {
				at, agino := in.img.InoToAG(in.f.Ino)
				if at != agno || agino < r.StartIno || agino >= r.StartIno+inodesPerChunk {
					return false
				}
			}
			agbno, blocks := in.chunkBlocks(r)
			return in.covers(agbno, blocks) && keep(agno, r)
		})
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	return out, nil
}

// chunkBlocks returns where a chunk lies.
func (in *injector) chunkBlocks(r InodeRec) (ioctl.AGBlock, uint32) {
	return ioctl.AGBlock(r.StartIno >> in.img.SB.InopBlog), max(1, uint32(inodesPerChunk)>>in.img.SB.InopBlog)
}

func anyChunk(ioctl.AGNumber, InodeRec) bool { return true }

func (in *injector) sayChunk(v victim[InodeRec], to any) {
	in.out.AGNo = v.agno
	in.out.AGBno, in.out.BlockCount = in.chunkBlocks(v.Rec)
	in.out.Owner = OwnerInodes
	in.edited(v.where(), v.Rec, to)
}

// changeChunk draws a record that passes keep and changes it.
func (in *injector) changeChunk(keep func(ioctl.AGNumber, InodeRec) bool, change func(v victim[InodeRec], to *InodeRec) error) error {
	victims, err := in.chunks(keep)
	if err != nil {
		return err
	}
	return forAny(in, victims, func(v victim[InodeRec]) error {
		to := v.Rec
		if err := change(v, &to); err != nil {
			return err
		}
		in.sayChunk(v, to)
		return v.tree.Set(v.Location, to, FixKeys)
	})
}

func (in *injector) inobtFreeCount() error {
	return in.changeChunk(anyChunk, func(_ victim[InodeRec], to *InodeRec) error {
		if to.FreeCount > 0 {
			to.FreeCount--
		} else {
			to.FreeCount++
		}
		return nil
	})
}

// flipInode draws an inode of a chunk that is in use, or is not, and says the
// opposite. The free count stays.
func (in *injector) flipInode(used bool) error {
	meta := in.img.MetaInodes()
	meta[ioctl.Ino(in.img.SB.RootIno)] = true
	return in.changeChunk(anyChunk, func(v victim[InodeRec], to *InodeRec) error {
		var fit []int
		for i := range inodesPerChunk {
			ino := in.img.AGToIno(v.agno, v.Rec.StartIno+ioctl.AGIno(i))
			if v.Rec.Exists(i) && v.Rec.Allocated(i) == used && !meta[ino] && (in.f.Ino == 0 || ino == in.f.Ino) {
				fit = append(fit, i)
			}
		}
		if len(fit) == 0 {
			return errSkip
		}
		i := fit[in.rng.IntN(len(fit))]
		to.Free ^= 1 << i
		in.out.Ino = in.img.AGToIno(v.agno, v.Rec.StartIno+ioctl.AGIno(i))
		return nil
	})
}

func (in *injector) inobtFreed() error { return in.flipInode(true) }

func (in *injector) inobtUsed() error { return in.flipInode(false) }

func (in *injector) inobtHoleMask() error {
	if !in.img.SB.HasSparse() {
		return ErrNoVictim
	}
	return in.changeChunk(anyChunk, func(_ victim[InodeRec], to *InodeRec) error {
		to.HoleMask ^= 0xff
		return nil
	})
}

func (in *injector) inobtCount() error {
	if !in.img.SB.HasSparse() {
		return ErrNoVictim
	}
	return in.changeChunk(anyChunk, func(_ victim[InodeRec], to *InodeRec) error {
		to.Count /= 2
		return nil
	})
}

// inobtRemoved keeps the chunk that mounting needs.
func (in *injector) inobtRemoved() error {
	victims, err := in.chunks(func(agno ioctl.AGNumber, r InodeRec) bool {
		rootAG, root := in.img.InoToAG(ioctl.Ino(in.img.SB.RootIno))
		return (agno != rootAG || root < r.StartIno || root >= r.StartIno+inodesPerChunk) && bits.OnesCount64(r.Free) < inodesPerChunk
	})
	if err != nil {
		return err
	}
	return forAny(in, victims, func(v victim[InodeRec]) error {
		in.sayChunk(v, nil)
		return v.tree.Delete(v.Location, FixKeys)
	})
}
