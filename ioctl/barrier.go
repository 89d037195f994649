package ioctl

import (
	"math"
	"unsafe"

	"github.com/scrubd/scrubd/ioctl/internal/abi"
)

// FlushInodegc waits until the inodes that were unlinked before the call are inactivated: their
// mappings are gone, and so are post-EOF and CoW preallocations that were queued for removal.
//
// It asks for the removal of the preallocations of files of at least 2^63-1 bytes, of which there are
// none, for the sake of the flush that follows. It waits for a thaw while the filesystem is frozen.
//
// Errors: [ErrReadOnly] on a read-only mount, where nothing is unlinked; [ErrPrivilege].
//
// Source: fs/xfs/xfs_icache.c (xfs_blockgc_free_space).
func (fs *FS) FlushInodegc() error {
	if err := fs.enter(); err != nil {
		return err
	}
	defer fs.leave()
	raw := &abi.EOFBlocks{Version: abi.EOFBlocksVersion, Flags: abi.EOFFlagMinFileSize, MinFileSize: math.MaxInt64}
	if _, errno := fs.ioctl(fs.fd, abi.ReqFreeEOFBlocks, unsafe.Pointer(raw)); errno != 0 {
		return fs.fail(opInodegc, errno)
	}
	return nil
}

// Freeze stops all writers and flushes the log, so that no intent is pending, until [FS.Thaw]. While
// it lasts, only FSMap and Bmap of files already open are safe: Bulkstat and opening files may wait for the thaw,
// uninterruptibly, and so does anything written to this filesystem by anybody.
//
// Errors: [ErrFrozen] when it is frozen already; [ErrPrivilege].
//
// Source: fs/super.c (freeze_super).
func (fs *FS) Freeze() error {
	return fs.freezeCall(opFreeze, abi.ReqFreeze)
}

// Thaw ends a freeze. Errors: [ErrNotFrozen].
func (fs *FS) Thaw() error {
	return fs.freezeCall(opThaw, abi.ReqThaw)
}

// freezeCall does not repeat an interrupted call: whether it has frozen is not known then.
func (fs *FS) freezeCall(op *operation, req uintptr) error {
	if err := fs.enter(); err != nil {
		return err
	}
	defer fs.leave()
	if _, errno := fs.kernel.Ioctl(fs.fd, req, nil); errno != 0 {
		return fs.fail(op, errno)
	}
	return nil
}
