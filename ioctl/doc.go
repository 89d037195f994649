// Package ioctl is the only room of scrubd that talks to the kernel about XFS: typed calls for the
// XFS ioctls that a scrubber needs, errors that say what failed on what, and probes of what this kernel
// and filesystem can do.
//
// # What it is not for
//
// It is no general XFS library: it cannot grow, tune, or swap extents. It holds no policy: it does not
// retry what is busy, does not continue a walk that filled a buffer, does not judge a record, and never
// repairs unless the flag is set. Continuing GETFSMAP in particular is more than handing the last record
// back, see [FSMapRecord.Shareable]; package scrub/witness does it. It does not log.
//
// # Kernels and headers
//
// Layouts and numbers are those of xfs/xfs_fs.h and linux/fsmap.h of Linux 7.2; the tests compare them with
// what testdata/abi/abi.c prints for the released header, on 64-bit machines and on 386. The structs are the same on
// both, but for the handle request, whose pointers are 4 bytes wide on 386; its request number follows, and a
// 64-bit kernel translates it for a 32-bit process. It builds on amd64, arm64 and 386.
//
// [Open] needs Linux 5.2 (geometry, version 5) and, with CAP_SYS_ADMIN, 5.3 (BULKSTAT, version 5). What
// came later is found out by [Features], which tries it; nothing is concluded from a version number where the kernel can
// be asked. The versions:
//
//	4.12  GETFSMAP
//	4.15  scrub, if built with CONFIG_XFS_ONLINE_SCRUB
//	5.2   AG_GEOMETRY, health in the geometry
//	5.3   BULKSTAT and INUMBERS, version 5
//	5.19  extent counts of more than 32 bits
//	6.6   forced rebuild
//	6.10  vectored scrub, parent pointers, repairs that can be relied on (CONFIG_XFS_ONLINE_REPAIR)
//	6.13  realtime groups, metadata directories, a ctime that changes with every change
//	7.0   health monitor, media verification
//
// # Errors
//
// A failed call returns an [*Error]: what was tried, on what object of which filesystem, and the errno. Use errors.Is with the
// sentinels ([ErrShutdown], [ErrCorrupt], ...) or with an errno, errors.As for an [*UnsupportedFeatureError], and
// [Classify] for what to do about it. An errno is never equal to the error by ==. Two things the kernel says in an odd way:
// most calls answer EIO when the filesystem is shut down, which is told apart from a failing device here; and a scrub
// answers ENOENT both for a type that it does not know and for metadata that is not there, see
// [Features.ScrubType].
//
// # Memory
//
// The calls that a walk over millions of inodes makes ([FS.FSMap], [FS.Bulkstat], [FS.Inumbers], [FS.Bmap],
// [FS.OpenFD], [FS.Statx], [FS.Scrub], [FS.ScrubVec]) allocate nothing when they succeed. Their buffers belong to the caller, are
// reused from call to call, and may not be shared by calls in flight; records are views into them. What the
// kernel writes to is on the heap, where nothing moves, and every address that it is handed is held as a pointer.
//
// # Four traps of GETFSMAP
//
// Measured on Linux 6.18, and read in 7.2:
//
//  1. There are two back ends. Whoever has CAP_SYS_ADMIN (and a filesystem with rmapbt) sees the rmapbt; everybody
//     else sees the bnobt, as FREE and UNKNOWN. [BnobtView] makes use of that.
//  2. Device 0 and ^0 in the keys mean "any", and then the addresses in the keys are ignored.
//  3. A low key with a length means "after this record". After a record that cannot be shared, everything that begins
//     inside it is skipped, and so is a bogus record that says it does.
//  4. After one that can be shared, the records of the same inode that begin at the same block with a higher
//     offset are skipped: all further mappings of a file that shares blocks with itself.
//
// After a full buffer, a fresh low key (the address of the last record, and nothing else) skips nothing;
// what comes twice has to be dropped. Where more records than a buffer holds begin at one block, a low key with the
// address, the owner minus one, and the length of one block begins at that owner's first record there.
// A low key with a length that leads past the high key within a group is refused with EINVAL.
//
// # The seam
//
// [Kernel] is the only way out of this package. Package ioctltest implements it with a kernel that tests can script.
package ioctl
