package confirm

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/scrub/verdict"
	"github.com/scrubd/scrubd/shadow"
)

// FlushInode writes back what in has not allocated yet and finishes
// copy-on-write, so that nblocks can be compared with the forks.
func (s *Settler) FlushInode(_ context.Context, ino uint64) error {
	in, err := s.look(ino)
	if err != nil {
		return err
	}
	if in.file < 0 {
		return nil
	}
	if err := unix.Fsync(in.file); err != nil {
		return fmt.Errorf("write back inode %d: %w", ino, err)
	}
	return nil
}

// Measured is what an inode's counters and forks add up to.
type Measured struct {
	Inode
	// ForkBlocks are the blocks that both forks map, in fs blocks.
	ForkBlocks uint64
}

// Measure reads an inode's counters and sums its forks anew.
// Errors: those that end a run.
func (s *Settler) Measure(ino uint64) (Measured, error) {
	s.forget(ino)
	in, err := s.look(ino)
	if err != nil {
		return Measured{}, err
	}
	v, err := s.read(in, Window{Realtime: in.realtime}, true)
	if err != nil {
		return Measured{}, err
	}
	out := Measured{Inode: *in, ForkBlocks: v.blocks}
	if out.Blocks == 0 && in.file >= 0 {
		// BULKSTAT gives none where the data lies in the inode, whatever its attr
		// fork has.
		st, err := s.fs.Statx(in.file)
		if err != nil {
			return Measured{}, err
		}
		out.Blocks = st.Blocks >> s.sectorsLog
	}
	return out, nil
}

// StillClaims returns what is left of a claim on the blocks of w when its
// owner is asked again; a claim by known metadata stands as it is. An owner that
// cannot be asked any more claims nothing: no word against a record is taken
// that was not heard now.
// Errors: those that end a run.
func (s *Settler) StillClaims(w Window, claim shadow.Rmap) ([]shadow.Rmap, error) {
	if !claim.IsInode() {
		return []shadow.Rmap{claim}, nil
	}
	lo, hi := max(uint64(claim.StartBlock), uint64(w.Start)), min(claim.End(), w.end())
	if lo >= hi {
		return nil, nil
	}
	in, err := s.look(claim.Owner)
	if err != nil {
		return nil, err
	}
	w.Start, w.Count = uint32(lo), uint32(hi-lo)
	v, err := s.read(in, w, true)
	if err != nil {
		return nil, err
	}
	return v.claims, nil
}

// LostSince returns those of an inode's former mappings whose offsets it maps
// no more, or no more as written, although nothing has changed it since: neither
// freed nor reused, and no newer ctime. A mapping that moved (copy-on-write) is
// not lost; all are if the inode cannot be read any more.
// Errors: those that end a run.
func (s *Settler) LostSince(ino uint64, since time.Time, former []shadow.Rmap) ([]shadow.Rmap, error) {
	s.forget(ino)
	in, err := s.look(ino)
	switch {
	case err != nil:
		return nil, err
	case in.State == verdict.OwnerUnreadable, in.State == verdict.OwnerUnloadable:
		return slices.Clone(former), nil
	case in.file < 0:
		return nil, nil
	}
	st, err := s.fs.Statx(in.file)
	if err != nil {
		return nil, err
	}
	// Stamps of a coarse clock lie a little in the past.
	if st.Nlink == 0 || st.CTime.Time().After(since.Add(-clockGrain)) {
		return nil, nil
	}
	var lost []shadow.Rmap
	for _, r := range former {
		whole, err := s.stillMaps(in, &r)
		if err != nil {
			return nil, err
		}
		if !whole {
			lost = append(lost, r)
		}
	}
	return lost, nil
}

// stillMaps tells whether the fork that r was of maps all of its offsets, and
// none that was written as unwritten. A fork that cannot be read does not.
func (s *Settler) stillMaps(in *Inode, r *shadow.Rmap) (bool, error) {
	fork := forkOf(r)
	start := ioctl.DAddr(r.FileOffset() << s.sectorsLog)
	end := start + ioctl.DAddr(uint64(r.BlockCount)<<s.sectorsLog)
	for start < end {
		err := s.fs.BmapRange(in.file, fork, start, end-start, s.bmap)
		if unreadable(err) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		recs := s.bmap.Records()
		for i := range recs {
			zeroed := recs[i].Flags.Has(ioctl.BmapPrealloc) && r.Flags()&shadow.OffsetUnwritten == 0
			if recs[i].Offset > start || zeroed {
				return false, nil // a hole before it
			}
			start = recs[i].Offset + recs[i].Length
		}
		if len(recs) == 0 || s.bmap.Complete() {
			break
		}
	}
	return start >= end, nil
}

// MapsOffsets tells whether the fork that r is of maps any of its file offsets
// now, wherever to.
// Errors: [ioctl.ErrCorrupt]; those that end a run.
func (s *Settler) MapsOffsets(r *shadow.Rmap) (bool, error) {
	in, err := s.look(r.Owner)
	if err != nil || in.file < 0 {
		return false, err
	}
	fork := forkOf(r)
	start := ioctl.DAddr(r.FileOffset() << s.sectorsLog)
	length := ioctl.DAddr(uint64(r.BlockCount) << s.sectorsLog)
	if err := s.fs.BmapRange(in.file, fork, start, length, s.bmap); err != nil {
		return false, err
	}
	return len(s.bmap.Records()) > 0, nil
}

// HasRoomOnlyFor tells whether the fork that claim, of agno, is a whole mapping of is
// out of order there: between the mappings before and after it only the offsets of
// record have room, not its own. Attributes begin with the root of their tree at
// offset 0: no other is in order as that of the first mapping of their fork.
// Errors: [ioctl.ErrCorrupt]; those that end a run.
func (s *Settler) HasRoomOnlyFor(claim, record *shadow.Rmap, agno ioctl.AGNumber) (bool, error) {
	recs, found, err := s.mappingsOf(claim, agno)
	if err != nil || len(found) != 1 {
		return false, err
	}
	i := found[0]
	at, length := s.sectors(claim.FileOffset()), s.sectors(uint64(claim.BlockCount))
	if recs[i].Offset != at || recs[i].Length != length {
		return false, nil
	}
	attrs := claim.Flags()&shadow.OffsetAttrFork != 0
	room := func(start ioctl.DAddr) bool {
		return (i > 0 || !attrs || start == 0) && (i == 0 || recs[i-1].Offset+recs[i-1].Length <= start) &&
			(i+1 == len(recs) || start+length <= recs[i+1].Offset)
	}
	return room(s.sectors(record.FileOffset())) && !room(at), nil
}

// OverrunsNext tells whether a mapping of a fork that claim, of agno, is a part of
// reaches into the offsets of the mapping that follows.
// Errors: [ioctl.ErrCorrupt]; those that end a run.
func (s *Settler) OverrunsNext(claim *shadow.Rmap, agno ioctl.AGNumber) (bool, error) {
	recs, found, err := s.mappingsOf(claim, agno)
	return slices.ContainsFunc(found, func(i int) bool {
		return i+1 < len(recs) && recs[i].Offset+recs[i].Length > recs[i+1].Offset
	}), err
}

func (s *Settler) sectors(blocks uint64) ioctl.DAddr { return ioctl.DAddr(blocks << s.sectorsLog) }

// mappingsOf reads the fork that claim, of agno, is of, in the order in which it has
// its mappings, and returns which of them claim is, or is a part of: none if there are
// more than one call gives.
func (s *Settler) mappingsOf(claim *shadow.Rmap, agno ioctl.AGNumber) (recs []ioctl.BmapRecord, found []int, err error) {
	in, err := s.look(claim.Owner)
	if err != nil || in.file < 0 {
		return nil, nil, err
	}
	fork := forkOf(claim)
	if err := s.fs.Bmap(in.file, fork, s.bmap); err != nil || !s.bmap.Complete() {
		return nil, nil, err
	}
	recs = s.bmap.Records()
	from, to := s.sectors(claim.FileOffset()), s.sectors(claim.FileOffset()+uint64(claim.BlockCount))
	for i := range recs {
		r := &recs[i]
		if r.Offset > from || r.Offset+r.Length < to {
			continue
		}
		ag, agbno := s.fs.Geometry().DAddrToAG(r.Block + from - r.Offset)
		if ag == agno && uint32(agbno) == claim.StartBlock {
			found = append(found, i)
		}
	}
	return recs, found, nil
}

// forkOf is the fork that a mapping is of.
func forkOf(r *shadow.Rmap) ioctl.Fork {
	if r.Flags()&shadow.OffsetAttrFork != 0 {
		return ioctl.AttrFork
	}
	return ioctl.DataFork
}

// Fork returns the mappings of one fork, as many as one call gives. They are
// the caller's. None for an inode that cannot be opened.
// Errors: [ioctl.ErrCorrupt]; those that end a run.
func (s *Settler) Fork(ino uint64, fork ioctl.Fork) ([]ioctl.BmapRecord, error) {
	in, err := s.look(ino)
	if err != nil || in.file < 0 {
		return nil, err
	}
	if err := s.fs.Bmap(in.file, fork, s.bmap); err != nil {
		return nil, err
	}
	return slices.Clone(s.bmap.Records()), nil
}

// StateOf finds out what an owner is now.
// Errors: those that end a run.
func (s *Settler) StateOf(ino uint64) (verdict.OwnerState, error) {
	in, err := s.look(ino)
	if err != nil {
		return verdict.OwnerUnknown, err
	}
	return in.State, nil
}
