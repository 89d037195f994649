// Package walk reads what every inode of a mounted filesystem says about the
// space it uses, once, in parallel, and leaves it sorted in pageable memory.
//
// It is not for judging: it reports what it read and what it could not read.
// It is not for small questions either; a few blocks or one inode are asked
// directly (package witness, [ioctl.FS.Bmap]).
//
// # Shape of a walk
//
// INUMBERS gives the inode chunks of an allocation group, in takes of
// [takeChunks] chunks; a worker that has got a take owns its range of inode
// numbers and reads it by BULKSTAT. Inodes of regular files and directories
// that have extents outside of the inode are opened by handle and asked by
// GETBMAPX; all others cost nothing beyond their share of BULKSTAT. Workers
// start on groups of their own and then help in groups that are not done, so
// that one huge group keeps all of them busy.
//
// # What a walk is not
//
// Not a snapshot: every fork is consistent in itself (one call, up to
// [maxForkRecords] records), two forks are not consistent with one another.
// Differences between the claims and the rmapbt are candidates and no more.
package walk
