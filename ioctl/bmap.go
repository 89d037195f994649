package ioctl

import (
	"fmt"
	"math"
	"runtime"
	"unsafe"

	"github.com/scrubd/scrubd/ioctl/internal/abi"
)

// Fork is a fork of an inode.
type Fork uint8

// The forks that GETBMAPX shows. It refuses the CoW fork on kernels that are not for debugging.
const (
	DataFork Fork = iota
	AttrFork
)

// String returns "data" or "attr".
func (f Fork) String() string {
	if f == AttrFork {
		return "attr"
	}
	return "data"
}

// BmapFlags qualify a record of GETBMAPX (BMV_OF_*).
type BmapFlags uint32

// Flags of a record.
const (
	BmapPrealloc BmapFlags = 1 << iota // unwritten
	BmapDelalloc                       // not allocated yet; Block is [BmapBlockDelalloc]
	BmapLast                           // last extent of the range
	BmapShared                         // all blocks are in SHARED refcount records; only for inodes with the reflink flag
)

var bmapFlagNames = []string{"unwritten", "delalloc", "last", "shared"}

// Has reports whether all of the flags in want are set.
func (f BmapFlags) Has(want BmapFlags) bool { return f&want == want }

// String lists the flags; unknown ones in hex.
func (f BmapFlags) String() string { return flagString(uint64(f), bmapFlagNames) }

// Block of a record that has none.
const (
	BmapBlockHole     DAddr = math.MaxUint64     // -1
	BmapBlockDelalloc DAddr = math.MaxUint64 - 1 // -2
)

// BmapRecord is one extent of a fork, laid out as the kernel writes it (struct getbmapx). An extent
// is split where SHARED begins or ends.
type BmapRecord struct {
	Offset DAddr // in the fork, 512-byte sectors
	Block  DAddr // on the device, or a BmapBlock constant
	Length DAddr // 512-byte sectors
	_      [3]uint32
	Flags  BmapFlags
	_      [2]uint32
}

// HasBlocks reports whether the record is about blocks on the device, neither a hole nor a delayed
// allocation.
func (r *BmapRecord) HasBlocks() bool {
	return r.Block < BmapBlockDelalloc
}

// bmapRangeMax is a range beyond every fork. The range that -1 stands for ends at EOF and misses
// what is allocated after it.
const bmapRangeMax DAddr = 1 << 60

// MaxBmapRecords is how far a [BmapBuffer] grows. The kernel allocates the whole array and holds the
// inode's locks while it fills it.
const MaxBmapRecords = 64 << 10

// BmapBuffer receives the extents of a fork. It is reused from call to call, and grows.
type BmapBuffer struct {
	mem      []BmapRecord // the header, in the place of the first record, and the records
	n        int
	next     DAddr
	complete bool
}

// NewBmapBuffer returns a buffer for n records to begin with, at least 1 and at most [MaxBmapRecords].
func NewBmapBuffer(n int) *BmapBuffer {
	return &BmapBuffer{mem: make([]BmapRecord, 1+min(max(n, 1), MaxBmapRecords))}
}

// Records returns the extents of the last call that succeeded, in the order of their offsets. They
// are overwritten by the next call. Records of [BmapBlockDelalloc] are among them.
func (b *BmapBuffer) Records() []BmapRecord {
	return b.mem[1 : 1+b.n]
}

// Complete reports whether the records are all that the range has, and so one atomic picture of it.
// When not, go on with [FS.BmapRange] at Next.
func (b *BmapBuffer) Complete() bool {
	return b.complete
}

// Next returns the offset behind the last record.
func (b *BmapBuffer) Next() DAddr {
	return b.next
}

// Cap returns how many records fit now.
func (b *BmapBuffer) Cap() int {
	return len(b.mem) - 1
}

func (b *BmapBuffer) head() *abi.Bmapx {
	return (*abi.Bmapx)(unsafe.Pointer(unsafe.SliceData(b.mem)))
}

// Bmap reads all extents of a fork of an open file, unwritten ones, delayed allocations and those past
// EOF included, in one kernel call. A buffer that is too small is doubled, up to [MaxBmapRecords], and the
// call repeated; beyond that buf.Complete() is false.
//
// Shape: records in the order of their offsets, no holes; none for an inline fork or one that does
// not exist. A filesystem block may occur in several records of one file never.
// Units: 512-byte sectors. Blocks of realtime files are on the realtime device.
// Batch: one call is one atomic picture of the fork (the inode is locked while it is made).
// Errors: [ErrCorrupt] when the bmbt cannot be read.
//
// Source: man 2 ioctl_xfs_getbmapx; fs/xfs/xfs_bmap_util.c.
func (fs *FS) Bmap(fd int, fork Fork, buf *BmapBuffer) error {
	return fs.BmapRange(fd, fork, 0, bmapRangeMax, buf)
}

// BmapRange is [FS.Bmap] for the extents that touch length sectors of the fork from start on. Records
// are cut to the range, rounded out to fs blocks.
func (fs *FS) BmapRange(fd int, fork Fork, start, length DAddr, buf *BmapBuffer) error {
	if err := fs.enter(); err != nil {
		return err
	}
	defer fs.leave()
	for {
		err := fs.bmap(fd, fork, start, length, buf)
		if err != nil || buf.complete || buf.Cap() >= MaxBmapRecords {
			return err
		}
		buf.mem = make([]BmapRecord, 1+min(2*buf.Cap(), MaxBmapRecords))
	}
}

func (fs *FS) bmap(fd int, fork Fork, start, length DAddr, buf *BmapBuffer) error {
	buf.n, buf.complete, buf.next = 0, false, start
	iflags := int32(abi.BmapIFPrealloc | abi.BmapIFDelalloc | abi.BmapIFNoHoles)
	if fork == AttrFork {
		iflags |= abi.BmapIFAttrFork
	}
	head := buf.head()
	*head = abi.Bmapx{Offset: int64(start), Length: int64(length), Count: int32(len(buf.mem)), IFlags: iflags}
	_, errno := fs.ioctl(fd, abi.ReqGetBmapx, unsafe.Pointer(head))
	runtime.KeepAlive(buf)
	if errno != 0 {
		return fs.failFile(opBmap, errno)
	}
	if head.Entries < 0 || int(head.Entries) > buf.Cap() {
		return fmt.Errorf("bmap of a file of %s: %w: %d records in a buffer for %d", fs.path, ErrMalformed, head.Entries, buf.Cap())
	}
	full := int(head.Entries) == buf.Cap()
	// What lies just behind the range is told too, cut to no length at all.
	buf.n = int(head.Entries)
	for buf.n > 0 && buf.mem[buf.n].Length == 0 {
		buf.n--
		full = false
	}
	if buf.n == 0 {
		buf.complete = true
		return nil
	}
	last := &buf.mem[buf.n]
	buf.next = last.Offset + last.Length
	buf.complete = !full || last.Flags.Has(BmapLast) || buf.next >= start+length
	return nil
}
