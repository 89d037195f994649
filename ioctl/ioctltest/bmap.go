package ioctltest

import (
	"math"

	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
)

// BmapRequest is one GETBMAPX call.
type BmapRequest struct {
	Ino           ioctl.Ino
	Fork          ioctl.Fork
	Start, Length ioctl.DAddr
	Count         int // records that fit
}

// DefaultBmap answers from the model: the extents that touch the range, cut to it, split where SHARED
// begins and ends if the inode has the reflink flag. LAST is set on the last extent of the fork.
func (k *Kernel) DefaultBmap(req BmapRequest) ([]ioctl.BmapRecord, unix.Errno) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	m := k.model
	i := m.Inodes[req.Ino]
	switch {
	case m.Shutdown:
		return nil, unix.EIO
	case i == nil:
		return nil, unix.ESTALE
	case req.Fork == ioctl.DataFork && i.DamagedData, req.Fork == ioctl.AttrFork && i.DamagedAttr:
		return nil, unix.EUCLEAN
	}
	fork := i.Data
	if req.Fork == ioctl.AttrFork {
		fork = i.Attr
	}
	q := bmapQuery{m: m, inode: i, fork: req.Fork, count: req.Count, start: uint64(m.Geometry.DAddrToBlocks(req.Start))}
	q.end = q.start + m.Geometry.DAddrToBlocks(min(req.Length, math.MaxInt64-req.Start)+ioctl.DAddr(m.Geometry.BlockSize>>ioctl.SectorShift)-1)
	for n, e := range fork {
		if !q.extent(e) {
			return q.out, 0
		}
		if n == len(fork)-1 && len(q.out) > 0 {
			q.out[len(q.out)-1].Flags |= ioctl.BmapLast
		}
	}
	return q.out, 0
}

// bmapQuery is one call in the making. start and end are in fs blocks of the fork.
type bmapQuery struct {
	m          *Model
	inode      *Inode
	fork       ioctl.Fork
	count      int
	start, end uint64
	out        []ioctl.BmapRecord
}

// extent tells an extent, in pieces that are shared or not. It returns false when the range or the buffer ends.
func (q *bmapQuery) extent(e Extent) bool {
	if e.Offset >= q.end {
		return false
	}
	if cut := max(q.start, e.Offset) - e.Offset; cut > 0 {
		if cut >= uint64(e.Length) {
			return true
		}
		e.Offset, e.AGBno, e.Length = e.Offset+cut, e.AGBno+ioctl.AGBlock(cut), e.Length-ioctl.AGBlock(cut)
	}
	e.Length = ioctl.AGBlock(min(uint64(e.Length), q.end-e.Offset))
	for e.Length > 0 {
		if len(q.out) >= q.count {
			return false
		}
		length, shared := q.piece(e)
		q.out = append(q.out, q.record(e, length, shared))
		e.Offset, e.AGBno, e.Length = e.Offset+uint64(length), e.AGBno+length, e.Length-length
	}
	return len(q.out) < q.count
}

// piece returns how long the start of an extent is alike.
func (q *bmapQuery) piece(e Extent) (length ioctl.AGBlock, shared bool) {
	if e.Unwritten || e.Delalloc || !q.inode.Reflink || q.fork != ioctl.DataFork {
		return e.Length, false
	}
	is := func(agbno ioctl.AGBlock) bool { return q.m.isShared(Range{e.AGNo, agbno, 1}) }
	shared = is(e.AGBno)
	for length = 1; length < e.Length && is(e.AGBno+length) == shared; length++ {
	}
	return length, shared
}

func (q *bmapQuery) record(e Extent, length ioctl.AGBlock, shared bool) ioctl.BmapRecord {
	g := &q.m.Geometry
	r := ioctl.BmapRecord{
		Offset: g.BlocksToBytes(e.Offset).DAddr(),
		Block:  g.AGToDAddr(e.AGNo, e.AGBno),
		Length: g.BlocksToBytes(uint64(length)).DAddr(),
	}
	if e.Delalloc {
		r.Block = ioctl.BmapBlockDelalloc
		r.Flags |= ioctl.BmapDelalloc
	}
	if e.Unwritten {
		r.Flags |= ioctl.BmapPrealloc
	}
	if shared {
		r.Flags |= ioctl.BmapShared
	}
	return r
}
