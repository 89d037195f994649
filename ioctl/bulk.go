package ioctl

import (
	"fmt"
	"math/bits"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl/internal/abi"
)

// BulkFlags say which inodes BULKSTAT and INUMBERS return (XFS_BULK_IREQ_*).
type BulkFlags uint32

// Flags of a bulk request.
const (
	// BulkAGNo keeps to the group in AGNo; with Ino 0 it begins at its start.
	BulkAGNo BulkFlags = 1 << iota
	// BulkSpecial makes Ino a code: 1 is the root directory.
	BulkSpecial
	// BulkNrext64 returns the extent count in Extents64 instead of Extents (Linux 5.19).
	BulkNrext64
	// BulkMetadir returns metadata inodes too, with little more than their numbers (BULKSTAT only, Linux 6.13).
	BulkMetadir
)

// BulkRequest is the place of a walk over inodes. Ino is where the next call begins, and is moved on
// by each call.
type BulkRequest struct {
	Ino   Ino
	Flags BulkFlags
	AGNo  AGNumber // 0 without BulkAGNo
	// Limit is how many records a call may return at most; 0 is as many as the buffer takes.
	Limit int
}

// BulkstatRecord is one inode as BULKSTAT sees it, laid out as the kernel writes it (struct xfs_bulkstat).
// The record of one inode is consistent in itself, a batch is not.
type BulkstatRecord struct {
	Ino Ino
	// Size is the file size in bytes.
	Size uint64
	// Blocks is in fs blocks: i_nblocks plus delayed allocations and CoW reservations for forks with
	// extents, 0 for inline data forks and device nodes even if they have attr blocks.
	Blocks uint64
	XFlags uint64 // FS_XFLAG_*
	// Seconds and nanoseconds since the epoch. CTime does not mark the inode's multigrain timestamp
	// as seen: it is no guard against changes, that of [FS.Statx] is.
	ATime, MTime, CTime, BTime                 int64
	Gen                                        Gen
	UID, GID, ProjectID                        uint32
	ATimeNsec, MTimeNsec, CTimeNsec, BTimeNsec uint32
	BlkSize                                    uint32 // bytes
	RDev                                       uint32
	CowExtSize, ExtSize                        uint32 // hints, fs blocks
	Nlink                                      uint32
	Extents                                    uint32 // extents of the data fork, without BulkNrext64
	AExtents                                   uint32 // extents of the attr fork
	Version                                    uint16 // 5
	ForkOff                                    uint16 // bytes of the data fork in the inode, 0 without attr fork
	Sick, Checked                              InodeHealth
	Mode                                       uint16 // as in stat(2)
	_                                          uint16
	Extents64                                  uint64 // extents of the data fork, with BulkNrext64
	_                                          [6]uint64
}

// Type returns the file type bits of Mode: unix.S_IFREG and the like.
func (r *BulkstatRecord) Type() uint32 {
	return uint32(r.Mode) & unix.S_IFMT
}

// Openable reports whether OPEN_BY_HANDLE takes such an inode: regular files and directories.
func (r *BulkstatRecord) Openable() bool {
	t := r.Type()
	return t == unix.S_IFREG || t == unix.S_IFDIR
}

// InumbersRecord is one record of the inobt: 64 inodes, laid out as the kernel writes it (struct
// xfs_inumbers).
type InumbersRecord struct {
	StartIno Ino
	// AllocMask has a bit for each inode that is allocated: bit i is inode StartIno+i. Holes of a
	// sparse chunk are clear.
	AllocMask  uint64
	AllocCount uint8
	Version    uint8 // 5
	_          [6]uint8
}

// Allocated reports whether an inode of this chunk is allocated.
func (r *InumbersRecord) Allocated(ino Ino) bool {
	return ino >= r.StartIno && ino-r.StartIno < InodesPerChunk && r.AllocMask>>(ino-r.StartIno)&1 != 0
}

// InodesPerChunk is how many inodes a record of the inobt covers.
const InodesPerChunk = 64

// BulkstatBuffer receives the records of one BULKSTAT call. It is reused from call to call.
type BulkstatBuffer struct{ bulkBuffer[BulkstatRecord] }

// NewBulkstatBuffer returns a buffer for up to n records, at least 1. The best batch sizes measured
// are 1024 to 4096.
func NewBulkstatBuffer(n int) *BulkstatBuffer {
	return &BulkstatBuffer{newBulkBuffer[BulkstatRecord](n)}
}

// InumbersBuffer receives the records of one INUMBERS call. It is reused from call to call.
type InumbersBuffer struct{ bulkBuffer[InumbersRecord] }

// NewInumbersBuffer returns a buffer for up to n records, at least 1.
func NewInumbersBuffer(n int) *InumbersBuffer {
	return &InumbersBuffer{newBulkBuffer[InumbersRecord](n)}
}

// bulkBuffer is a struct xfs_bulk_ireq followed by records of type R. R holds 8-byte fields and no
// pointers.
type bulkBuffer[R any] struct {
	mem  []uint64
	n    int
	size int
}

const bulkHeadWords = int(unsafe.Sizeof(abi.BulkReq{}) / 8)

func newBulkBuffer[R any](n int) bulkBuffer[R] {
	n = max(n, 1)
	var r R
	return bulkBuffer[R]{mem: make([]uint64, bulkHeadWords+n*int(unsafe.Sizeof(r)/8)), size: n}
}

// Records returns the records of the last call that succeeded, in the order of inode numbers. They
// are overwritten by the next call.
func (b *bulkBuffer[R]) Records() []R {
	return unsafe.Slice((*R)(unsafe.Pointer(&b.mem[bulkHeadWords])), b.size)[:b.n]
}

// Cap returns how many records fit.
func (b *bulkBuffer[R]) Cap() int {
	return b.size
}

func (b *bulkBuffer[R]) head() *abi.BulkReq {
	return (*abi.BulkReq)(unsafe.Pointer(unsafe.SliceData(b.mem)))
}

// Bulkstat returns the next allocated inodes, and how many. 0 without an error is the end.
//
// Shape: inodes in the order of their numbers, from req.Ino on, which is then moved past the last one.
// Inodes waiting to be inactivated (nlink 0) and private ones (quota, realtime, repair) are left out.
// Errors: [ErrNotSupported] before Linux 5.3; [ErrPrivilege]; [ErrShutdown]; EINVAL for a group that
// does not exist. Never call it while the filesystem is frozen: it can wait for the thaw, uninterruptibly.
//
// Source: man 2 ioctl_xfs_bulkstat; fs/xfs/xfs_itable.c.
func (fs *FS) Bulkstat(req *BulkRequest, buf *BulkstatBuffer) (int, error) {
	var err error
	buf.n, err = fs.bulk(opBulkstat, abi.ReqBulkstat, req, buf.head(), buf.size)
	return buf.n, err
}

// Inumbers returns the next records of the inobt, and how many. 0 without an error is the end.
//
// Shape: records in the order of inode numbers, from the chunk of req.Ino on; those with no allocated
// inode are among them.
// Errors: as for [FS.Bulkstat]; EINVAL for BulkMetadir.
//
// Source: man 2 ioctl_xfs_inumbers; fs/xfs/xfs_itable.c.
func (fs *FS) Inumbers(req *BulkRequest, buf *InumbersBuffer) (int, error) {
	var err error
	buf.n, err = fs.bulk(opInumbers, abi.ReqInumbers, req, buf.head(), buf.size)
	return buf.n, err
}

// bulk fills the records behind head, of which size fit, and returns how many there are.
func (fs *FS) bulk(op *operation, ioc uintptr, req *BulkRequest, head *abi.BulkReq, size int) (int, error) {
	if err := fs.enter(); err != nil {
		return 0, err
	}
	defer fs.leave()
	count := size
	if req.Limit > 0 {
		count = min(count, req.Limit)
	}
	*head = abi.BulkReq{Ino: uint64(req.Ino), Flags: uint32(req.Flags), ICount: uint32(count), AGNo: uint32(req.AGNo)}
	_, errno := fs.ioctl(fs.fd, ioc, unsafe.Pointer(head))
	runtime.KeepAlive(head)
	if errno != 0 {
		if req.Flags&BulkAGNo != 0 {
			return 0, fs.failAG(op, req.AGNo, errno)
		}
		return 0, fs.fail(op, errno)
	}
	if int64(head.OCount) > int64(count) {
		return 0, fmt.Errorf("%s of %s: %w: %d records in a buffer for %d", op.name, fs.path, ErrMalformed, head.OCount, count)
	}
	req.Ino = Ino(head.Ino)
	return int(head.OCount), nil
}

// AllocatedInodes calls yield for each allocated inode of the record until it returns false.
func (r *InumbersRecord) AllocatedInodes(yield func(Ino) bool) {
	for mask := r.AllocMask; mask != 0; mask &= mask - 1 {
		if !yield(r.StartIno + Ino(bits.TrailingZeros64(mask))) {
			return
		}
	}
}
