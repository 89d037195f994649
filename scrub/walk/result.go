package walk

import (
	"errors"
	"slices"

	"github.com/scrubd/scrubd/ioctl"
	"github.com/scrubd/scrubd/shadow"
	"github.com/scrubd/scrubd/xfile"
)

// ListCap bounds each of the lists of a [Result]; the totals beside them count
// everything.
const ListCap = 4096

// Chunk is one record of the inode btree: 64 inodes from StartIno.
//
// AllocMask has bit i set if inode StartIno+i is allocated. Where AllocMask is
// clear there may be a free inode or, in a sparse chunk, no inode at all: the
// kernel does not tell.
// Source: xfs/xfs_fs.h (struct xfs_inumbers).
type Chunk struct {
	StartIno   ioctl.Ino
	AllocMask  uint64
	AllocCount uint8 // what the record says; not counted from AllocMask
	_          [7]uint8
}

// Opaque is an inode that owns blocks, or may own some, and whose forks cannot
// be read from userspace: a symbolic link, device, pipe or socket, which can be
// opened by no handle, or a realtime file with attributes in blocks. Only counts
// are known.
//
// Of the latter GETBMAPX turns the addresses in the attribute fork into others as
// if these blocks, too, were on the realtime device (Linux 7.2,
// fs/xfs/xfs_bmap_util.c, xfs_fsb_to_db), which cannot be undone for every
// size of realtime groups. On the data device such a file has nothing else.
type Opaque struct {
	Ino     ioctl.Ino
	Gen     ioctl.Gen
	Mode    uint16
	_       uint16
	Blocks  uint64 // fs blocks of both forks and their btrees, from statx where BULKSTAT has none
	Extents uint64 // data fork
	// AExtents counts the attribute fork's extents. Blocks is 0 with AExtents
	// above 0 if statx could not be had.
	AExtents uint32
	_        uint32
}

// SickInode is an inode that the kernel has marked as sick before the walk.
type SickInode struct {
	Ino      ioctl.Ino
	Gen      ioctl.Gen
	Mask     ioctl.InodeHealth
	Extents  uint64
	AExtents uint32
}

// Stage names the call of a walk that failed.
type Stage string

// The stages, in the order in which an inode goes through them.
const (
	StageInumbers Stage = "inumbers"
	StageBulkstat Stage = "bulkstat"
	StageOpen     Stage = "open"
	StageReach    Stage = "reach" // a directory whose way to the root is not found
	StageDataFork Stage = "data fork"
	StageAttrFork Stage = "attr fork"
)

// Unreadable is something that the walk could not read although it is there.
// What it owns is missing from the claims, wholly or in part.
type Unreadable struct {
	// Ino is the inode, or the first inode number of a range that INUMBERS could
	// not list.
	Ino ioctl.Ino
	// LastIno is the last inode number of that range; it equals Ino for one inode.
	LastIno ioctl.Ino
	// Gen is 0 where BULKSTAT has not told it.
	Gen   ioctl.Gen
	Stage Stage
	Err   error
}

// Refused is an inode whose opening was refused by something other than the
// metadata: a lease or delegation (EWOULDBLOCK), an access scanner (EPERM,
// EACCES). The walk does not wait for these.
type Refused struct {
	Ino ioctl.Ino
	Gen ioctl.Gen
	Err error
	// Extents and AExtents are what BULKSTAT counted in its forks.
	Extents  uint64
	AExtents uint32
}

// Result is what a walk has read. Its arrays are the caller's to close.
type Result struct {
	// Geometry is the geometry that the walk used throughout.
	Geometry *ioctl.Geometry

	// Claims has, by agno, what the forks of regular files and directories say,
	// the AG headers and the internal log, sorted by [shadow.Compare]. Adjacent
	// mappings are joined where that was cheap; [shadow.Diff] does the rest.
	Claims []*xfile.Array[shadow.Rmap]
	// RTClaims has, by the number of the realtime group, what the data forks of
	// realtime files say, and the superblock of group 0. It is empty where the
	// realtime device is not made of groups that can be told apart
	// ([ioctl.Geometry.RTGrouped]); then these forks are not read.
	RTClaims []*xfile.Array[shadow.Rmap]
	// Chunks has, by agno, the inode chunks in the order of their StartIno.
	Chunks []*xfile.Array[Chunk]
	// Opaque inodes, sorted by Ino.
	Opaque *xfile.Array[Opaque]
	// Silent inodes, sorted: allocated by INUMBERS, before and after, and yet
	// BULKSTAT says nothing: waiting for inodegc, quota, realtime metadata, or
	// private to a repair. Not a finding, only a reason to skip the owner.
	Silent *xfile.Array[ioctl.Ino]
	// Shared has what GETBMAPX called shared, sorted by AGNo and Start. Blocks
	// come once for each inode that has them. Empty without reflink.
	Shared *xfile.Array[Shared]
	// RTShared is the same of the realtime device: AGNo is a realtime group.
	RTShared *xfile.Array[Shared]

	Sick      []SickInode // at most ListCap
	SickTotal uint64
	SickMask  ioctl.InodeHealth // all masks of all sick inodes, or-ed

	Unreadable      []Unreadable // at most ListCap
	UnreadableTotal uint64

	Refused      []Refused // at most ListCap
	RefusedTotal uint64

	Inodes   uint64 // inodes that BULKSTAT told of
	Extents  uint64 // mappings read, before any joining
	Blocks   uint64 // fs blocks of these
	Opened   uint64 // inodes opened by handle
	Vanished uint64 // inodes gone between two calls: normal
	RTInodes uint64 // files whose data is on the realtime device
	// RTSkipped are those of them whose data forks were not read, RTAttrs those
	// with attributes in blocks, which are not in Claims (see [Opaque]).
	RTSkipped, RTAttrs uint64
	Reread             uint64 // inodes read once more for a [Watcher]
	// Grown counts mappings beyond the walk's geometry but within the one of
	// now: the filesystem was grown meanwhile. They are not in Claims.
	Grown uint64
}

// Close gives the arrays back. It can be called twice, and on a nil result.
func (r *Result) Close() error {
	if r == nil {
		return nil
	}
	var errs []error
	for _, a := range slices.Concat(r.Claims, r.RTClaims) {
		if a != nil {
			errs = append(errs, a.Close())
		}
	}
	for _, a := range r.Chunks {
		if a != nil {
			errs = append(errs, a.Close())
		}
	}
	if r.Opaque != nil {
		errs = append(errs, r.Opaque.Close())
	}
	if r.Silent != nil {
		errs = append(errs, r.Silent.Close())
	}
	for _, a := range []*xfile.Array[Shared]{r.Shared, r.RTShared} {
		if a != nil {
			errs = append(errs, a.Close())
		}
	}
	return errors.Join(errs...)
}
