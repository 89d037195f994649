package ioctl

import (
	"fmt"
	"math"
	"runtime"
	"unsafe"

	"github.com/scrubd/scrubd/ioctl/internal/abi"
)

// FSMapFlags qualify a record of GETFSMAP (FMR_OF_*).
type FSMapFlags uint32

// Flags of a record.
const (
	FSMapPrealloc     FSMapFlags = 1 << iota // unwritten extent
	FSMapAttrFork                            // attr fork of an inode
	FSMapExtentMap                           // block of an inode's extent map btree (bmbt)
	FSMapShared                              // some of these blocks are in a SHARED refcount record
	FSMapSpecialOwner                        // Owner is an [FSMapOwner], not an inode number
	FSMapLast                                // last record of the query
)

var fsmapFlagNames = []string{"unwritten", "attr", "bmbt", "shared", "special", "last"}

// Has reports whether all of the flags in want are set.
func (f FSMapFlags) Has(want FSMapFlags) bool { return f&want == want }

// String lists the flags; unknown ones in hex.
func (f FSMapFlags) String() string { return flagString(uint64(f), fsmapFlagNames) }

// FSMapOwner is the owner of a record with FSMapSpecialOwner.
type FSMapOwner uint64

// Special owners (FMR_OWN_*, XFS_FMR_OWN_*).
const (
	FSMapOwnerFree      FSMapOwner = 1              // privileged: no rmap covers it; unprivileged: bnobt has it
	FSMapOwnerUnknown   FSMapOwner = 2              // unprivileged: not in bnobt
	FSMapOwnerMetadata  FSMapOwner = 3              // some metadata
	FSMapOwnerFS        FSMapOwner = 'X'<<32 | 1    // superblocks and AG headers
	FSMapOwnerLog       FSMapOwner = 'X'<<32 | 2    // the log
	FSMapOwnerAG        FSMapOwner = 'X'<<32 | 3    // free space btrees, rmapbt, AGFL
	FSMapOwnerInobt     FSMapOwner = 'X'<<32 | 4    // inode btrees
	FSMapOwnerInodes    FSMapOwner = 'X'<<32 | 5    // inode chunks
	FSMapOwnerRefcount  FSMapOwner = 'X'<<32 | 6    // refcount btree
	FSMapOwnerCoW       FSMapOwner = 'X'<<32 | 7    // CoW staging
	FSMapOwnerDefective FSMapOwner = 'X'<<32 | 8    // bad blocks
	FSMapOwnerHighest   FSMapOwner = math.MaxUint64 // of a high key only: above every owner
)

// String returns a short name of the owner.
func (o FSMapOwner) String() string {
	switch o {
	case FSMapOwnerFree:
		return "free"
	case FSMapOwnerUnknown:
		return "unknown"
	case FSMapOwnerMetadata:
		return "metadata"
	case FSMapOwnerFS:
		return "fs"
	case FSMapOwnerLog:
		return "log"
	case FSMapOwnerAG:
		return "ag"
	case FSMapOwnerInobt:
		return "inobt"
	case FSMapOwnerInodes:
		return "inodes"
	case FSMapOwnerRefcount:
		return "refcountbt"
	case FSMapOwnerCoW:
		return "cow"
	case FSMapOwnerDefective:
		return "defective"
	case FSMapOwnerHighest:
		return "highest"
	}
	return fmt.Sprintf("owner 0x%x", uint64(o))
}

// FSMapRecord is one record of GETFSMAP, laid out as the kernel writes it (struct fsmap). Records are
// neither merged nor cut to the query; they overlap where extents are shared.
type FSMapRecord struct {
	Device   uint32 // fmr_device: the kernel's 32-bit encoding, see [FS.FSMapDevice]
	Flags    FSMapFlags
	Physical ByteOff // fmr_physical: on the device
	Owner    uint64  // fmr_owner: an inode number, or an [FSMapOwner]
	Offset   ByteOff // fmr_offset: in the fork; 0 for bmbt blocks and special owners
	Length   ByteOff // fmr_length
	_        [3]uint64
}

// Is reports whether the owner is the special owner o.
func (r *FSMapRecord) Is(o FSMapOwner) bool {
	return r.Flags&FSMapSpecialOwner != 0 && r.Owner == uint64(o)
}

// Shareable reports whether GETFSMAP, continuing after this record as a low key, takes it for one
// that other records may share the start block with (on a filesystem with reflink). After one that is not, it
// skips what begins inside it; after one that is, it skips what else the same inode maps there with a higher
// offset. So neither is a safe way to continue: begin again at the record's address, with a key that has no
// length, and drop what comes twice.
func (r *FSMapRecord) Shareable() bool {
	return r.Flags&(FSMapSpecialOwner|FSMapAttrFork|FSMapExtentMap|FSMapPrealloc) == 0
}

// Key returns the record as a low key to continue after, as the manual page has it. Records may be left out
// so: see [FSMapRecord.Shareable].
func (r *FSMapRecord) Key() FSMapKey {
	return FSMapKey{
		Device: r.Device, Flags: r.Flags &^ FSMapLast, Physical: r.Physical,
		Owner: r.Owner, Offset: r.Offset, Length: r.Length,
	}
}

// FSMapKey is one end of a query.
//
// Device must be the real device number ([FS.FSMapDevice]): with 0 or ^0 the kernel ignores Physical
// and returns everything. A low key with Length > 0 means "after this record".
type FSMapKey struct {
	Device   uint32
	Flags    FSMapFlags
	Physical ByteOff // rounded down to fs blocks by the kernel
	Owner    uint64
	Offset   ByteOff
	Length   ByteOff
}

// FSMapKeys returns the keys of a query for what touches the bytes first to last (inclusive) of the
// data device.
func (fs *FS) FSMapKeys(first, last ByteOff) (low, high FSMapKey) {
	dev := fs.FSMapDevice()
	low = FSMapKey{Device: dev, Physical: first}
	high = FSMapKey{
		Device: dev, Flags: math.MaxUint32, Physical: last,
		Owner: math.MaxUint64, Offset: math.MaxUint64,
	}
	return low, high
}

// FSMapAGKeys returns the keys of a query for a whole group.
func (fs *FS) FSMapAGKeys(agno AGNumber) (low, high FSMapKey) {
	return fs.FSMapKeys(fs.Geometry().AGRange(agno))
}

// MaxFSMapRecords is how many records the kernel collects under one hold of an AG's locks: as many
// records of one group in one call are one atomic picture of its rmapbt, refcountbt and bnobt.
const MaxFSMapRecords = 2048

// fsmapHeadRecords is how many records the header takes the place of.
const fsmapHeadRecords = int(unsafe.Sizeof(abi.FSMapHead{}) / unsafe.Sizeof(FSMapRecord{}))

// FSMapBuffer receives the records of one call. It is reused from call to call.
type FSMapBuffer struct {
	mem []FSMapRecord // the header, in the place of the first records, and the records
	n   int
}

// NewFSMapBuffer returns a buffer for up to n records, at least 1 and at most [MaxFSMapRecords].
func NewFSMapBuffer(n int) *FSMapBuffer {
	return &FSMapBuffer{mem: make([]FSMapRecord, fsmapHeadRecords+min(max(n, 1), MaxFSMapRecords))}
}

// Records returns the records of the last call that succeeded, in the kernel's order (device, start,
// owner, offset with its flags). They are overwritten by the next call.
func (b *FSMapBuffer) Records() []FSMapRecord {
	return b.mem[fsmapHeadRecords : fsmapHeadRecords+b.n]
}

// Full reports whether the call filled the buffer, so that more may follow.
func (b *FSMapBuffer) Full() bool {
	return b.n == b.Cap()
}

// Cap returns how many records fit.
func (b *FSMapBuffer) Cap() int {
	return len(b.mem) - fsmapHeadRecords
}

// RealDevices reports whether Device of the records is a device number (true everywhere except on
// filesystems whose realtime section is inside the data device: there it is 1 data, 2 log, 3 realtime).
func (b *FSMapBuffer) RealDevices() bool {
	return b.head().OFlags&abi.FSMapOFDevT != 0
}

func (b *FSMapBuffer) head() *abi.FSMapHead {
	return (*abi.FSMapHead)(unsafe.Pointer(unsafe.SliceData(b.mem)))
}

// FSMap reads the space mappings between two keys, in one kernel call.
//
// Shape: up to buf.Cap() records, overlapping where extents are shared, neither merged nor cut to the
// keys. With rmapbt and CAP_SYS_ADMIN they come from the rmapbt, and FREE means "no rmap"; otherwise from
// the bnobt, and only FREE and UNKNOWN occur. On an internal realtime section (zoned) the devices are
// synthetic.
// Units: bytes.
// Batch: one call is one atomic picture of every group that it covers entirely in one kernel batch
// ([MaxFSMapRecords]). Continuing is the caller's affair: see [FSMapRecord.Shareable].
// Errors: [ErrCorrupt] for the whole call when one record or block of the rmapbt is bad (a finding in
// itself, which marks the group's rmapbt sick); EINVAL for keys out of order or an unknown device.
//
// Source: man 2 ioctl_getfsmap; linux/fsmap.h; fs/xfs/xfs_fsmap.c.
func (fs *FS) FSMap(low, high FSMapKey, buf *FSMapBuffer) error {
	if err := fs.enter(); err != nil {
		return err
	}
	defer fs.leave()
	return fs.fsmap(fs.kernel, low, high, buf)
}

func (fs *FS) fsmap(kernel Kernel, low, high FSMapKey, buf *FSMapBuffer) error {
	buf.n = 0
	head := buf.head()
	*head = abi.FSMapHead{Count: uint32(buf.Cap()), Keys: [2]abi.FSMap{low.raw(), high.raw()}}
	_, errno := repeat(kernel, fs.fd, abi.ReqGetFSMap, unsafe.Pointer(head))
	runtime.KeepAlive(buf)
	if errno != 0 {
		return fs.failFSMap(&low, fs.fail(opFSMap, errno))
	}
	if int64(head.Entries) > int64(buf.Cap()) {
		return fmt.Errorf("fsmap of %s: %w: %d records in a buffer for %d", fs.path, ErrMalformed, head.Entries, buf.Cap())
	}
	buf.n = int(head.Entries)
	return nil
}

// FSMapCount counts the records between two keys without reading them. The count is not atomic.
func (fs *FS) FSMapCount(low, high FSMapKey) (int, error) {
	if err := fs.enter(); err != nil {
		return 0, err
	}
	defer fs.leave()
	head := &abi.FSMapHead{Keys: [2]abi.FSMap{low.raw(), high.raw()}}
	if _, errno := fs.ioctl(fs.fd, abi.ReqGetFSMap, unsafe.Pointer(head)); errno != 0 {
		return 0, fs.failFSMap(&low, fs.fail(opFSMap, errno))
	}
	return int(min(head.Entries, math.MaxInt32)), nil
}

func (k FSMapKey) raw() abi.FSMap {
	return abi.FSMap{
		Device: k.Device, Flags: uint32(k.Flags), Physical: uint64(k.Physical),
		Owner: k.Owner, Offset: uint64(k.Offset), Length: uint64(k.Length),
	}
}
