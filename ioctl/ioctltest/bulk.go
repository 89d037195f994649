package ioctltest

import (
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/ioctl/internal/abi"
)

// BulkRequest is one BULKSTAT or INUMBERS call.
type BulkRequest struct {
	Ino   ioctl.Ino
	Flags ioctl.BulkFlags
	AGNo  ioctl.AGNumber
	Count int // records that fit
}

// setup checks a request as the kernel does. done says that there is nothing to return.
func (m *Model) bulkSetup(req *BulkRequest) (done bool, errno unix.Errno) {
	switch {
	case m.NoAdmin:
		return false, unix.EPERM
	case m.Shutdown:
		return false, unix.EIO
	case req.Count == 0, req.Flags&^(ioctl.BulkAGNo|ioctl.BulkSpecial|ioctl.BulkNrext64|ioctl.BulkMetadir) != 0:
		return false, unix.EINVAL
	}
	if req.Flags&ioctl.BulkSpecial != 0 {
		if req.Flags&ioctl.BulkAGNo != 0 || req.Ino != abi.BulkIReqSpecialRoot {
			return false, unix.EINVAL
		}
		req.Ino, req.Count = m.RootIno, 1
	}
	if req.Flags&ioctl.BulkAGNo != 0 {
		if uint32(req.AGNo) >= m.Geometry.AGCount {
			return false, unix.EINVAL
		}
		if req.Ino == 0 {
			req.Ino = m.Geometry.AGToIno(req.AGNo, 0, 0)
		}
		agno, _ := m.Geometry.InoToAGIno(req.Ino)
		if agno < req.AGNo {
			return false, unix.EINVAL
		}
		return agno > req.AGNo, 0
	}
	if req.AGNo != 0 {
		return false, unix.EINVAL
	}
	agno, _ := m.Geometry.InoToAGIno(req.Ino)
	return uint32(agno) >= m.Geometry.AGCount, 0
}

// inRequest says whether an inode lies where the request wants it.
func (m *Model) inRequest(req *BulkRequest, ino ioctl.Ino) bool {
	if req.Flags&ioctl.BulkAGNo == 0 {
		return true
	}
	agno, _ := m.Geometry.InoToAGIno(ino)
	return agno == req.AGNo
}

// DefaultBulkstat answers from the model. The second result is where the next call begins.
func (k *Kernel) DefaultBulkstat(req BulkRequest) ([]ioctl.BulkstatRecord, ioctl.Ino, unix.Errno) {
	if k.Frozen() {
		k.tb.Errorf("BULKSTAT while the filesystem is frozen: this can wait for the thaw for ever")
	}
	k.mu.RLock()
	defer k.mu.RUnlock()
	m := k.model
	done, errno := m.bulkSetup(&req)
	if done || errno != 0 {
		return nil, req.Ino, errno
	}
	var out []ioctl.BulkstatRecord
	next := req.Ino
	for _, ino := range m.InodeNumbers() {
		i := m.Inodes[ino]
		switch {
		case ino < req.Ino || !m.inRequest(&req, ino):
			continue
		case i.Private, i.Inactive, i.Metadir && req.Flags&ioctl.BulkMetadir == 0:
			continue
		}
		if len(out) == req.Count {
			break
		}
		out = append(out, m.bulkstat(i, req.Flags))
		next = ino + 1
	}
	if len(out) < req.Count {
		// The end: the kernel moves on to the next chunk that does not exist.
		next = max(next, next|(ioctl.InodesPerChunk-1)+1)
	}
	return out, next, 0
}

func (m *Model) bulkstat(i *Inode, flags ioctl.BulkFlags) ioctl.BulkstatRecord {
	if i.Metadir {
		return ioctl.BulkstatRecord{Ino: i.Ino, Gen: i.Gen, Mode: i.Mode & unix.S_IFMT, Sick: i.Sick, Checked: i.Checked, Version: 5}
	}
	r := ioctl.BulkstatRecord{
		Ino: i.Ino, Gen: i.Gen, Mode: i.Mode, Nlink: i.Nlink, Size: i.Size, Version: 5, Sick: i.Sick, Checked: i.Checked,
		CTime: i.CTime.Sec, CTimeNsec: i.CTime.Nsec, MTime: i.CTime.Sec, MTimeNsec: i.CTime.Nsec,
		ATime: i.CTime.Sec, BTime: i.CTime.Sec, BlkSize: m.Geometry.BlockSize,
		AExtents: uint32(realExtents(i.Attr)),
	}
	if !i.Inline {
		r.Blocks = uint64(m.blocks(i))
	}
	if i.HasAttrFork || len(i.Attr) > 0 {
		r.ForkOff = 176
	}
	extents := uint64(realExtents(i.Data) + i.ExtraExtents)
	if flags&ioctl.BulkNrext64 != 0 {
		r.Extents64 = extents
	} else {
		r.Extents = uint32(extents)
	}
	return r
}

// realExtents counts the extents that have blocks.
func realExtents(fork []Extent) int64 {
	var n int64
	for _, e := range fork {
		if !e.Delalloc {
			n++
		}
	}
	return n
}

// blocks returns what the inode occupies and reserves, in fs blocks.
func (m *Model) blocks(i *Inode) int64 {
	n := i.ExtraBlocks
	for _, fork := range [][]Extent{i.Data, i.Attr} {
		for _, e := range fork {
			n += int64(e.Length)
		}
	}
	for _, bmbt := range [][]Range{i.DataBmbt, i.AttrBmbt} {
		for _, b := range bmbt {
			n += int64(b.Length)
		}
	}
	return n
}

// DefaultInumbers answers from the model. The second result is where the next call begins.
func (k *Kernel) DefaultInumbers(req BulkRequest) ([]ioctl.InumbersRecord, ioctl.Ino, unix.Errno) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	m := k.model
	if req.Flags&ioctl.BulkMetadir != 0 {
		return nil, req.Ino, unix.EINVAL
	}
	done, errno := m.bulkSetup(&req)
	if done || errno != 0 {
		return nil, req.Ino, errno
	}
	var out []ioctl.InumbersRecord
	next := req.Ino
	for _, start := range m.chunkStarts() {
		if start+ioctl.InodesPerChunk <= req.Ino || !m.inRequest(&req, start) {
			continue
		}
		if len(out) == req.Count {
			break
		}
		r := ioctl.InumbersRecord{StartIno: start, Version: 5}
		for i := range ioctl.Ino(ioctl.InodesPerChunk) {
			if m.Inodes[start+i] != nil {
				r.AllocMask |= 1 << i
				r.AllocCount++
			}
		}
		out = append(out, r)
		next = start + ioctl.InodesPerChunk
	}
	return out, next, 0
}
