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
// begins and ends if the inode has the reflink flag. LAST is set on the last extent of the fork, unless
// the range or the buffer ends with it.
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
	g := &m.Geometry
	q := bmapQuery{m: m, inode: i, fork: req.Fork, count: req.Count, end: min(req.Length, math.MaxInt64-req.Start) + req.Start}
	q.first = g.DAddrToBlocks(req.Start)
	q.behind = q.first + g.DAddrToBlocks(q.end-req.Start+ioctl.DAddr(g.BlockSize>>ioctl.SectorShift)-1)
	for n, e := range fork {
		if e.Offset+uint64(e.Length) <= q.first {
			continue
		}
		e = q.cut(e)
		if q.extent(e) {
			break
		}
		if n == len(fork)-1 {
			q.out[len(q.out)-1].Flags |= ioctl.BmapLast
		}
		if e.Offset+uint64(e.Length) >= q.behind {
			break
		}
	}
	return q.out, 0
}

// bmapQuery is one call in the making.
type bmapQuery struct {
	m             *Model
	inode         *Inode
	fork          ioctl.Fork
	count         int
	first, behind uint64      // the range in fs blocks
	end           ioctl.DAddr // the end of the range in sectors
	out           []ioctl.BmapRecord
}

// cut limits an extent to the range. One behind it keeps no length, but is told nevertheless.
func (q *bmapQuery) cut(e Extent) Extent {
	if e.Offset >= q.behind {
		e.Length = 0
		return e
	}
	if e.Offset < q.first {
		n := q.first - e.Offset
		e.Offset, e.AGBno, e.Length = e.Offset+n, e.AGBno+ioctl.AGBlock(n), e.Length-ioctl.AGBlock(n)
	}
	e.Length = ioctl.AGBlock(min(uint64(e.Length), q.behind-e.Offset))
	return e
}

// extent tells an extent, in pieces that are shared or not. It returns whether the range or the buffer
// ended with a piece.
func (q *bmapQuery) extent(e Extent) (full bool) {
	for {
		length, shared := q.piece(e)
		r := q.record(e, length, shared)
		q.out = append(q.out, r)
		if r.Offset+r.Length >= q.end || len(q.out) >= q.count {
			return true
		}
		e.Offset, e.AGBno, e.Length = e.Offset+uint64(length), e.AGBno+length, e.Length-length
		if e.Length == 0 {
			return false
		}
	}
}

// piece returns how long the start of an extent is alike.
func (q *bmapQuery) piece(e Extent) (length ioctl.AGBlock, shared bool) {
	if e.Length == 0 || e.Unwritten || e.Delalloc || !q.inode.Reflink || q.fork != ioctl.DataFork {
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
