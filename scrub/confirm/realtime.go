package confirm

import (
	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/live"
	"github.com/scrubd/scrubd/scrub/witness"
	"github.com/scrubd/scrubd/shadow"
)

// A window of a realtime group is looked at as one of an AG is. What differs is
// where its records and its free space are read, which of an inode's forks may
// have blocks there (the data fork of a realtime file), who claims blocks without
// being an inode, and what waits for the intents of the group.

// records appends to out the records of the rmapbt, or of the rtrmapbt, that touch
// w.
func (s *Settler) records(w Window, out []witness.Record) ([]witness.Record, error) {
	start, count := ioctl.AGBlock(w.Start), ioctl.AGBlock(w.Count)
	if w.Realtime {
		return witness.RTRmapWindow(s.fs, ioctl.RGNumber(w.AGNo), start, count, s.fsmap, out)
	}
	return witness.RmapWindow(s.fs, w.AGNo, start, count, s.fsmap, out)
}

// oneCall is records in one call; whole is false where that does not hold all.
func (s *Settler) oneCall(w Window, out []witness.Record) (recs []witness.Record, whole bool, err error) {
	start, count := ioctl.AGBlock(w.Start), ioctl.AGBlock(w.Count)
	if w.Realtime {
		return witness.RTRmapPicture(s.fs, ioctl.RGNumber(w.AGNo), start, count, s.fsmap, out)
	}
	return witness.RmapPicture(s.fs, w.AGNo, start, count, s.fsmap, out)
}

// freeRecords returns the free extents that touch w.
func (s *Settler) freeRecords(w Window) ([]witness.Free, error) {
	start, count := ioctl.AGBlock(w.Start), ioctl.AGBlock(w.Count)
	if w.Realtime {
		return witness.RTFreeWindow(s.fs, s.bnobt, ioctl.RGNumber(w.AGNo), start, count, s.fsmap, nil)
	}
	return witness.FreeWindow(s.fs, s.bnobt, w.AGNo, start, count, s.fsmap, nil)
}

// inGroup returns the part of a mapping that lies in the group of w, in blocks,
// and how many blocks of the mapping come before it; count is 0 if there is none.
// No mapping of the data device reaches into another AG, while on the realtime
// device the groups follow one another.
func (s *Settler) inGroup(r *ioctl.BmapRecord, w Window) (start, count, skipped uint64) {
	count = uint64(r.Length) >> s.sectorsLog
	if !w.Realtime {
		agno, agbno := s.geo.DAddrToAG(r.Block)
		if agno != w.AGNo {
			return 0, 0, 0
		}
		return uint64(agbno), count, 0
	}
	size := s.geo.RGBlocks()
	begin := uint64(r.Block) >> s.sectorsLog
	lo, hi := max(begin, uint64(w.AGNo)*size), min(begin+count, (uint64(w.AGNo)+1)*size)
	if lo >= hi {
		return 0, 0, 0
	}
	return lo - uint64(w.AGNo)*size, hi - lo, lo - begin
}

// static returns the claims on a group that no inode makes.
func (s *Settler) static(g live.Group) []shadow.Rmap {
	switch {
	case g.Realtime && s.opts.RTStatic != nil:
		return s.opts.RTStatic(ioctl.RGNumber(g.AGNo))
	case !g.Realtime && s.opts.Static != nil:
		return s.opts.Static(g.AGNo)
	}
	return nil
}

// Realtime tells whether the data of an inode is on the realtime device.
func (in *Inode) Realtime() bool { return in.realtime }
