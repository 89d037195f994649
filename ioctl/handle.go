package ioctl

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl/internal/abi"
)

// handleArgs is what one call with a handle hands to the kernel. Kept in a pool.
type handleArgs struct {
	req    abi.HandleReq
	handle abi.Handle
	size   uint32
	file   abi.FileHandle
}

// loadFSID learns the filesystem id that goes into handles.
func (fs *FS) loadFSID() error {
	args := fs.handles.Get().(*handleArgs)
	defer fs.handles.Put(args)
	*args = handleArgs{size: uint32(unsafe.Sizeof(args.handle))}
	args.req = abi.HandleReq{
		FD:         uint32(fs.fd),
		OHandle:    unsafe.Pointer(&args.handle),
		OHandleLen: unsafe.Pointer(&args.size),
	}
	_, errno := fs.ioctl(fs.fd, abi.ReqFDToHandle, unsafe.Pointer(&args.req))
	runtime.KeepAlive(args)
	if errno != 0 {
		return fs.fail(opHandle, errno)
	}
	fs.fsid, fs.openedGen = args.handle.FSID, Gen(args.handle.Gen)
	return nil
}

// FSID returns the filesystem id of handles.
func (fs *FS) FSID() [8]byte {
	return fs.fsid
}

func (fs *FS) handle(ino Ino, gen Gen) abi.Handle {
	return abi.Handle{FSID: fs.fsid, FIDLen: abi.HandleFIDLen, Gen: uint32(gen), Ino: uint64(ino)}
}

// openFlags are those of a handle open. O_NONBLOCK: never wait for a lease or a delegation to be
// given back; EWOULDBLOCK instead.
const openFlags = unix.O_RDONLY | unix.O_NOATIME | unix.O_NOFOLLOW | unix.O_NOCTTY | unix.O_NONBLOCK | unix.O_LARGEFILE | unix.O_CLOEXEC

// OpenFD opens a regular file or a directory by its inode number and generation and returns the
// descriptor, to be closed with [FS.CloseFD]. It never waits for a lease, and allocates nothing.
//
// Errors: [ErrStale] (free, another generation, or private), [ErrBusy] (a lease), [ErrPrivilege] (no
// CAP_SYS_ADMIN, a symlink, fifo, socket or device, or refused by an on-access scanner), [ErrCorrupt].
//
// Source: xfs(3) handle functions; fs/xfs/xfs_handle.c.
func (fs *FS) OpenFD(ino Ino, gen Gen) (int, error) {
	if err := fs.enter(); err != nil {
		return -1, err
	}
	defer fs.leave()
	args := fs.handles.Get().(*handleArgs)
	defer fs.handles.Put(args)
	args.handle = fs.handle(ino, gen)
	args.req = abi.HandleReq{
		OFlags:     openFlags,
		IHandle:    unsafe.Pointer(&args.handle),
		IHandleLen: uint32(unsafe.Sizeof(args.handle)),
	}
	fd, errno := fs.ioctl(fs.fd, abi.ReqOpenByHandle, unsafe.Pointer(&args.req))
	runtime.KeepAlive(args)
	if errno != 0 {
		return -1, fs.failIno(opOpenByHandle, ino, gen, errno)
	}
	return fd, nil
}

// OpenPathFD opens an inode of any type by its number and generation with O_PATH, and returns the
// descriptor, to be closed with [FS.CloseFD]. [FS.Statx] works on it, and nothing else of this package.
//
// Errors: as for [FS.OpenFD], except that any type can be opened.
//
// Source: man 2 open_by_handle_at; fs/xfs/xfs_export.c.
func (fs *FS) OpenPathFD(ino Ino, gen Gen) (int, error) {
	if err := fs.enter(); err != nil {
		return -1, err
	}
	defer fs.leave()
	args := fs.handles.Get().(*handleArgs)
	defer fs.handles.Put(args)
	args.file = abi.FileHandle{
		Bytes: abi.FileHandleBytes, Type: abi.FileHandleType,
		Ino: abi.Halves(uint64(ino)), Gen: uint32(gen),
	}
	fd, errno := fs.kernel.OpenByHandleAt(fs.fd, unsafe.Pointer(&args.file), unix.O_PATH|unix.O_NOFOLLOW)
	runtime.KeepAlive(args)
	if errno != 0 {
		return -1, fs.failIno(opPathByHandle, ino, gen, errno)
	}
	return fd, nil
}

// CloseFD closes a descriptor of [FS.OpenFD] or [FS.OpenPathFD].
func (fs *FS) CloseFD(fd int) {
	// A close of a file opened for reading has nothing to report, and must not be repeated.
	fs.kernel.Close(fd)
}

// File is an open regular file or directory.
type File struct {
	fs     *FS
	fd     int
	ino    Ino
	gen    Gen
	closed atomic.Bool
}

// OpenByHandle is [FS.OpenFD] with an object around the descriptor that knows what it is.
func (fs *FS) OpenByHandle(ino Ino, gen Gen) (*File, error) {
	fd, err := fs.OpenFD(ino, gen)
	if err != nil {
		return nil, err
	}
	return &File{fs: fs, fd: fd, ino: ino, gen: gen}, nil
}

// FD returns the descriptor, which is valid until Close.
func (f *File) FD() int { return f.fd }

// Ino returns the inode number.
func (f *File) Ino() Ino { return f.ino }

// Gen returns the generation.
func (f *File) Gen() Gen { return f.gen }

// Close closes the file. Closing twice is fine. No call on FD may be in flight.
func (f *File) Close() error {
	if f.closed.CompareAndSwap(false, true) {
		f.fs.CloseFD(f.fd)
	}
	return nil
}

// String names the inode.
func (f *File) String() string {
	return fmt.Sprintf("inode %d gen %d of %s", f.ino, f.gen, f.fs.path)
}
