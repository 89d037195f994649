package lab

import (
	"encoding/binary"
	"maps"
	"slices"

	"github.com/scrubd/scrubd/ioctl"
)

// The classes of damage to the metadata of realtime groups. As the others, each
// changes one structure alone. Fault.AGNo is the number of a realtime group.
const (
	FaultRTRmapStart        FaultClass = "rtrmap-start"
	FaultRTRmapShorter      FaultClass = "rtrmap-shorter"
	FaultRTRmapLonger       FaultClass = "rtrmap-longer"
	FaultRTRmapOwner        FaultClass = "rtrmap-owner"
	FaultRTRmapOwnerMissing FaultClass = "rtrmap-owner-missing"
	FaultRTRmapOffset       FaultClass = "rtrmap-offset"
	FaultRTRmapUnwritten    FaultClass = "rtrmap-unwritten"
	FaultRTRmapRemoved      FaultClass = "rtrmap-removed"
	FaultRTRmapAddedFree    FaultClass = "rtrmap-added-free"
	FaultRTRmapCRC          FaultClass = "rtrmap-crc"
	FaultRTBitmapFree       FaultClass = "rtbitmap-free-used"
	FaultRTBitmapLeak       FaultClass = "rtbitmap-leak"
	FaultRTSummary          FaultClass = "rtsummary-count"
	FaultRTRefcountValue    FaultClass = "rtrefcount-value"
	FaultRTRefcountRemoved  FaultClass = "rtrefcount-removed"
	FaultRTForkLost         FaultClass = "rt-fork-lost"
)

var rtFaultClasses = map[FaultClass]faultClass{
	FaultRTRmapStart:        {"an rtrmap record begins at another block", (*injector).rtRmapStart},
	FaultRTRmapShorter:      {"an rtrmap record lost blocks at its end", (*injector).rtRmapShorter},
	FaultRTRmapLonger:       {"an rtrmap record got blocks at its end", (*injector).rtRmapLonger},
	FaultRTRmapOwner:        {"an rtrmap record names another file", (*injector).rtRmapOwner},
	FaultRTRmapOwnerMissing: {"an rtrmap record names an inode that does not exist", (*injector).rtRmapOwnerMissing},
	FaultRTRmapOffset:       {"an rtrmap record has another offset", (*injector).rtRmapOffset},
	FaultRTRmapUnwritten:    {"an rtrmap record of written blocks says unwritten", (*injector).rtRmapUnwritten},
	FaultRTRmapRemoved:      {"an rtrmap record is gone", (*injector).rtRmapRemoved},
	FaultRTRmapAddedFree:    {"an rtrmap record was added over free realtime space", (*injector).rtRmapAddedFree},
	FaultRTRmapCRC:          {"a block of an rtrmapbt has a wrong checksum", (*injector).rtRmapCRC},
	FaultRTBitmapFree:       {"a realtime extent in use is free in the rtbitmap", (*injector).rtBitmapFree},
	FaultRTBitmapLeak:       {"a free realtime extent is in use in the rtbitmap", (*injector).rtBitmapLeak},
	FaultRTSummary:          {"a count of free extents in the rtsummary is wrong", (*injector).rtSummary},
	FaultRTRefcountValue:    {"an rtrefcount record counts one owner too many", (*injector).rtRefcountValue},
	FaultRTRefcountRemoved:  {"an rtrefcount record is gone", (*injector).rtRefcountRemoved},
	FaultRTForkLost:         {"the last extent of a realtime file is gone, i_nblocks still counts it", (*injector).rtForkLost},
}

// RTFaultClasses returns the classes that need realtime groups, sorted.
func RTFaultClasses() []FaultClass { return slices.Sorted(maps.Keys(rtFaultClasses)) }

// rtgroups returns the realtime groups that the fault may touch.
func (in *injector) rtgroups() []ioctl.RGNumber {
	if in.f.AGNo != nil {
		return []ioctl.RGNumber{ioctl.RGNumber(*in.f.AGNo)}
	}
	var all []ioctl.RGNumber
	for rgno := range ioctl.RGNumber(in.img.SB.RGCount) {
		all = append(all, rgno)
	}
	return all
}

// rtRmaps lists the records of files in the rtrmapbts.
func (in *injector) rtRmaps(keep func(RmapRec) bool) ([]victim[RmapRec], error) {
	var out []victim[RmapRec]
	for _, rgno := range in.rtgroups() {
		tree, err := in.img.RTRmapBT(rgno)
		if err != nil {
			return nil, err
		}
		found, err := victimsOf(in, tree, ioctl.AGNumber(rgno), func(r RmapRec) bool {
			return r.IsInode() && (in.f.Ino == 0 || r.Owner == uint64(in.f.Ino)) && in.covers(r.StartBlock, r.BlockCount) && keep(r)
		})
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	return out, nil
}

// rtBehind is how many blocks of the realtime group lie behind a block.
func (in *injector) rtBehind(rgno ioctl.AGNumber, end ioctl.AGBlock) int64 {
	return int64(in.img.RGExtents(ioctl.RGNumber(rgno)))*int64(in.img.SB.RExtSize) - int64(end)
}

func (in *injector) rtRmapStart() error {
	victims, err := in.rtRmaps(anyRmap)
	return in.changeRmap(victims, err, func(v victim[RmapRec]) (RmapRec, error) {
		d, err := in.amount(min(mostShift, in.rtBehind(v.agno, v.Rec.End())))
		to := v.Rec
		to.StartBlock += ioctl.AGBlock(d)
		return to, err
	})
}

func (in *injector) rtRmapShorter() error {
	victims, err := in.rtRmaps(func(r RmapRec) bool { return r.BlockCount > 1 })
	return in.changeRmap(victims, err, func(v victim[RmapRec]) (RmapRec, error) {
		d, err := in.amount(int64(v.Rec.BlockCount) - 1)
		to := v.Rec
		to.BlockCount -= uint32(d)
		return to, err
	})
}

func (in *injector) rtRmapLonger() error {
	victims, err := in.rtRmaps(anyRmap)
	return in.changeRmap(victims, err, func(v victim[RmapRec]) (RmapRec, error) {
		d, err := in.amount(min(mostShift, in.rtBehind(v.agno, v.Rec.End())))
		to := v.Rec
		to.BlockCount += uint32(d)
		return to, err
	})
}

func (in *injector) rtRmapOwner() error {
	files, err := in.files()
	if err != nil {
		return err
	}
	victims, err := in.rtRmaps(anyRmap)
	return in.changeRmap(victims, err, func(v victim[RmapRec]) (RmapRec, error) {
		to := v.Rec
		to.Owner = in.f.Owner
		for range 8 {
			if to.Owner == 0 || to.Owner == v.Rec.Owner {
				to.Owner = uint64(files[in.rng.IntN(len(files))])
			}
		}
		if to.Owner == v.Rec.Owner {
			return to, errSkip
		}
		return to, nil
	})
}

func (in *injector) rtRmapOwnerMissing() error {
	victims, err := in.rtRmaps(anyRmap)
	return in.changeRmap(victims, err, func(v victim[RmapRec]) (RmapRec, error) {
		to := v.Rec
		last := ioctl.AGNumber(in.img.SB.AGCount - 1)
		to.Owner = uint64(in.img.AGToIno(last, ioctl.AGIno(in.img.AGLength(last)-1)<<in.img.SB.InopBlog))
		return to, nil
	})
}

func (in *injector) rtRmapOffset() error {
	victims, err := in.rtRmaps(anyRmap)
	return in.changeRmap(victims, err, func(v victim[RmapRec]) (RmapRec, error) {
		d, err := in.amount(mostShift)
		to := v.Rec
		to.Offset += uint64(d)
		return to, err
	})
}

func (in *injector) rtRmapUnwritten() error {
	victims, err := in.rtRmaps(func(r RmapRec) bool { return !r.Unwritten })
	return in.changeRmap(victims, err, func(v victim[RmapRec]) (RmapRec, error) {
		to := v.Rec
		to.Unwritten = true
		return to, nil
	})
}

func (in *injector) rtRmapRemoved() error {
	victims, err := in.rtRmaps(anyRmap)
	if err != nil {
		return err
	}
	return forAny(in, victims, func(v victim[RmapRec]) error {
		in.sayRmap(v.agno, v.Rec, 0)
		in.edited(v.where(), v.Rec, nil)
		return v.tree.Delete(v.Location, FixKeys)
	})
}

// rtRmapAddedFree gives blocks that are free to the owner of the record before
// them, far away in its file.
func (in *injector) rtRmapAddedFree() error {
	victims, err := in.rtRmaps(anyRmap)
	if err != nil {
		return err
	}
	return forAny(in, victims, func(v victim[RmapRec]) error {
		size := ioctl.AGBlock(in.img.SB.RExtSize)
		free, err := in.img.RTExtentFree(ioctl.RGNumber(v.agno), uint64(v.Rec.End()/size))
		if err != nil {
			return err
		}
		if !free || v.Rec.End()%size != 0 || in.rtBehind(v.agno, v.Rec.End()) < int64(size) {
			return errSkip
		}
		add := RmapRec{StartBlock: v.Rec.End(), BlockCount: uint32(size), Owner: v.Rec.Owner, Offset: v.Rec.Offset + 1<<20}
		in.out.AGNo, in.out.AGBno, in.out.BlockCount, in.out.Owner = v.agno, add.StartBlock, add.BlockCount, add.Owner
		in.edited(v.tree.String(), nil, add)
		return v.tree.Insert(add, FixKeys)
	})
}

func (in *injector) rtRmapCRC() error {
	victims, err := in.rtRmaps(anyRmap)
	if err != nil {
		return err
	}
	return forAny(in, victims, func(v victim[RmapRec]) error {
		if v.InInode {
			return errSkip // the checksum is the inode's
		}
		to := v.Rec
		to.Offset++
		in.sayRmap(v.agno, v.Rec, v.Rec.Owner)
		in.edited(v.where(), v.Rec, to)
		return v.tree.SetBadCRC(v.Location, to)
	})
}

func (in *injector) rtBitmapFree() error {
	victims, err := in.rtRmaps(func(r RmapRec) bool { return !r.Unwritten })
	if err != nil {
		return err
	}
	return forAny(in, victims, func(v victim[RmapRec]) error {
		rtx := uint64(v.Rec.StartBlock) / uint64(in.img.SB.RExtSize)
		in.sayRmap(v.agno, v.Rec, v.Rec.Owner)
		in.edited("rtbitmap", rtx, "free")
		return in.img.SetRTExtentFree(ioctl.RGNumber(v.agno), rtx, true)
	})
}

func (in *injector) rtBitmapLeak() error {
	rgnos := in.rtgroups()
	rgno := rgnos[in.rng.IntN(len(rgnos))]
	for rtx := in.img.RGExtents(rgno); rtx > 0; rtx-- {
		free, err := in.img.RTExtentFree(rgno, rtx-1)
		if err != nil {
			return err
		}
		if !free {
			continue
		}
		size := in.img.SB.RExtSize
		in.out.AGNo, in.out.AGBno, in.out.BlockCount = ioctl.AGNumber(rgno), ioctl.AGBlock(uint32(rtx-1)*size), size
		in.edited("rtbitmap", rtx-1, "used")
		return in.img.SetRTExtentFree(rgno, rtx-1, false)
	}
	return ErrNoVictim
}

// rtSummary adds one to the first count that is not zero.
func (in *injector) rtSummary() error {
	rgnos := in.rtgroups()
	rgno := rgnos[in.rng.IntN(len(rgnos))]
	o, err := in.img.rtbuf(rgno, MetafileRTSummary, 0)
	if err != nil {
		return err
	}
	for at := rtbufHeader; at+rtbufWord <= len(o.data); at += rtbufWord {
		if n := binary.BigEndian.Uint32(o.data[at:]); n != 0 {
			binary.BigEndian.PutUint32(o.data[at:], n+1)
			in.out.AGNo = ioctl.AGNumber(rgno)
			in.edited("rtsummary", n, n+1)
			return in.img.write(o, false)
		}
	}
	return ErrNoVictim
}

// rtRefcounts lists the records of shared blocks in the rtrefcountbts.
func (in *injector) rtRefcounts() ([]victim[RefcountRec], error) {
	var out []victim[RefcountRec]
	for _, rgno := range in.rtgroups() {
		tree, err := in.img.RTRefcountBT(rgno)
		if err != nil {
			return nil, err
		}
		found, err := victimsOf(in, tree, ioctl.AGNumber(rgno), func(r RefcountRec) bool {
			return !r.CoW && in.covers(r.StartBlock, r.BlockCount)
		})
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	return out, nil
}

func (in *injector) rtRefcountValue() error {
	victims, err := in.rtRefcounts()
	if err != nil {
		return err
	}
	return forAny(in, victims, func(v victim[RefcountRec]) error {
		to := v.Rec
		to.RefCount++
		in.sayRefcount(v, to)
		return v.tree.Set(v.Location, to, FixKeys)
	})
}

func (in *injector) rtRefcountRemoved() error {
	victims, err := in.rtRefcounts()
	if err != nil {
		return err
	}
	return forAny(in, victims, func(v victim[RefcountRec]) error {
		in.sayRefcount(v, nil)
		return v.tree.Delete(v.Location, FixKeys)
	})
}

// rtForkLost takes the last of several extents from the data fork of a realtime
// file.
func (in *injector) rtForkLost() error {
	victims, err := in.rtRmaps(anyRmap)
	if err != nil {
		return err
	}
	return forAny(in, victims, func(v victim[RmapRec]) error {
		tree, err := in.img.BmapBT(ioctl.Ino(v.Rec.Owner), ioctl.DataFork)
		if err != nil {
			return err
		}
		recs, err := tree.Records()
		if err != nil {
			return err
		}
		if len(recs) < 2 {
			return errSkip
		}
		last := recs[len(recs)-1]
		in.out.Ino, in.out.Offset, in.out.BlockCount = ioctl.Ino(v.Rec.Owner), last.Rec.Offset, last.Rec.BlockCount
		in.edited(tree.String(), last.Rec, nil)
		return tree.Delete(last.Location, FixKeys)
	})
}
