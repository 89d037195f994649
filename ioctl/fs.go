package ioctl

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl/internal/abi"
)

// FS is a mounted XFS filesystem: an open descriptor of its root directory with what hardly ever
// changes about it. All methods may be called by several goroutines at once; buffers passed to them
// may not be shared between calls in flight.
type FS struct {
	kernel    Kernel
	path      string
	fd        int // the root directory, or a directory of a bind mount when privileges lack
	st        Statx
	fsid      [8]byte
	openedGen Gen // of the directory that was opened

	// root and rootGen are the root directory, 0 when it could not be looked up; rootOK says that fd
	// is open on it.
	root    Ino
	rootGen Gen
	rootOK  bool

	geometry atomic.Pointer[Geometry]
	rtDevice atomic.Uint32 // as GETFSMAP has it, once it is known; 0 before
	features *Features

	scrubs  sync.Pool // *scrubArgs
	handles sync.Pool // *handleArgs
	statxes sync.Pool // *unix.Statx_t

	// refs counts the calls in flight plus one for the open FS; the last one out closes fd.
	refs   atomic.Int64
	closed atomic.Bool
}

// Open opens the XFS filesystem that the directory path lies on. Any directory of it will do: what
// is opened is the root directory, by handle if path is another one (a bind mount of a subdirectory).
// Without the privilege to do that, it is path itself; [FS.AtRoot] tells.
//
// Errors: [ErrNotXFS]; [ErrNotSupported] before Linux 5.2; [ErrGeometry]; and those of open(2), such
// as [ErrNoEntry] and ENOTDIR.
func Open(path string) (*FS, error) {
	return New(SystemKernel{}, path)
}

// New is [Open] with another kernel; package ioctltest uses it.
func New(kernel Kernel, path string) (*FS, error) {
	fs := &FS{kernel: kernel, path: path, fd: -1}
	fs.refs.Store(1)
	fs.scrubs.New = func() any { return new(scrubArgs) }
	fs.handles.New = func() any { return new(handleArgs) }
	fs.statxes.New = func() any { return new(unix.Statx_t) }
	fs.features = &Features{fs: fs}

	fd, errno := kernel.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOATIME|unix.O_NONBLOCK)
	if errno == unix.EPERM { // O_NOATIME on a directory of somebody else's
		fd, errno = kernel.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK)
	}
	if errno != 0 {
		return nil, &Error{Op: opOpen.name, Path: path, Errno: errno}
	}
	fs.fd = fd
	if err := fs.identify(); err != nil {
		fs.kernel.Close(fs.fd)
		return nil, err
	}
	return fs, nil
}

// identify checks that this is XFS and learns what does not change while it is mounted.
func (fs *FS) identify() error {
	magic, errno := fs.kernel.FSType(fs.fd)
	if errno != 0 {
		return fs.fail(opOpen, errno)
	}
	if magic != abi.XFSSuperMagic {
		return fmt.Errorf("open %s: %w", fs.path, ErrNotXFS)
	}
	if _, err := fs.RefreshGeometry(context.Background()); err != nil {
		return err
	}
	st, err := fs.Statx(fs.fd)
	if err != nil {
		return err
	}
	fs.st = st
	if err := fs.loadFSID(); err != nil {
		return err
	}
	return fs.moveToRoot(st.Ino)
}

// moveToRoot replaces fd by the root directory if it is another one.
func (fs *FS) moveToRoot(opened Ino) error {
	root, gen, err := fs.lookupRoot()
	switch {
	case errors.Is(err, ErrPrivilege):
		return nil
	case errors.Is(err, ErrCorrupt) && fs.st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0:
		// One bad inobt record can keep BULKSTAT from all inodes of its group. What is
		// mounted here is then taken for the root: a bind mount of another directory
		// would be a wrong guess that costs the health monitor and the lock.
		root, gen = opened, fs.openedGen
	case err != nil:
		return err
	}
	fs.root, fs.rootGen = root, gen
	if root == opened {
		fs.rootOK = true
		return nil
	}
	fd, err := fs.OpenFD(root, gen)
	if err != nil {
		return err
	}
	fs.kernel.Close(fs.fd)
	fs.fd, fs.rootOK = fd, true
	return nil
}

// lookupRoot asks BULKSTAT for the root directory, whichever its number is.
func (fs *FS) lookupRoot() (Ino, Gen, error) {
	req := BulkRequest{Ino: abi.BulkIReqSpecialRoot, Flags: BulkSpecial}
	buf := NewBulkstatBuffer(1)
	n, err := fs.Bulkstat(&req, buf)
	var e *Error
	if errors.As(err, &e) && e.Errno == unix.EINVAL {
		e.Unsupported = &UnsupportedFeatureError{Feature: "BULKSTAT here", Reason: "the kernel refuses it on an idmapped mount"}
	}
	if err != nil {
		return 0, 0, err
	}
	if n != 1 {
		return 0, 0, fmt.Errorf("look up root directory of %s: %w", fs.path, ErrNoEntry)
	}
	r := &buf.Records()[0]
	return r.Ino, r.Gen, nil
}

// isShutdown asks for the root directory's inode, which is always in memory: an EIO for it means
// that nothing is read any more.
func (fs *FS) isShutdown() bool {
	var args struct {
		abi.BulkReq
		abi.Bulkstat
	}
	args.BulkReq = abi.BulkReq{Ino: abi.BulkIReqSpecialRoot, Flags: uint32(BulkSpecial), ICount: 1}
	_, errno := fs.ioctl(fs.fd, abi.ReqBulkstat, unsafe.Pointer(&args))
	return errno == unix.EIO || errno == unix.ESHUTDOWN
}

// enter keeps the descriptor open until leave. It fails with [ErrClosed] after Close.
func (fs *FS) enter() error {
	for {
		n := fs.refs.Load()
		if n == 0 || fs.closed.Load() {
			return fmt.Errorf("use of %s: %w", fs.path, ErrClosed)
		}
		if fs.refs.CompareAndSwap(n, n+1) {
			return nil
		}
	}
}

func (fs *FS) leave() {
	if fs.refs.Add(-1) == 0 {
		fs.kernel.Close(fs.fd)
	}
}

// Close releases the filesystem once the calls in flight are done. Closing twice is fine. Descriptors
// that OpenFD or OpenByHandle gave out stay open, and keep the filesystem busy, until they are closed.
func (fs *FS) Close() error {
	if fs.closed.CompareAndSwap(false, true) {
		fs.leave()
	}
	return nil
}

// Path returns the path that was opened.
func (fs *FS) Path() string {
	return fs.path
}

// AtRoot reports whether the open directory is the root directory of the filesystem, which the
// health monitor and the lock need. It is false only without CAP_SYS_ADMIN.
func (fs *FS) AtRoot() bool {
	return fs.rootOK
}

// RootIno returns the inode number of the root directory, 0 when it could not be asked for.
func (fs *FS) RootIno() Ino {
	return fs.root
}

// Device returns the number of the filesystem's data device as stat(2) gives it (dev_t).
func (fs *FS) Device() uint64 {
	return unix.Mkdev(fs.st.DevMajor, fs.st.DevMinor)
}

// FSMapDevice returns the data device as GETFSMAP writes it: the kernel's 32-bit encoding, or [MediaData]
// on a filesystem whose realtime section lies inside the data device.
//
// Source: include/linux/kdev_t.h (new_encode_dev); fs/xfs/xfs_fsmap.c (xfs_getfsmap_device).
func (fs *FS) FSMapDevice() uint32 {
	if fs.Geometry().RTStart != 0 {
		return uint32(MediaData)
	}
	major, minor := fs.st.DevMajor, fs.st.DevMinor
	return minor&0xff | major<<8 | minor&^0xff<<12
}

// Release returns the release of the kernel behind this filesystem, such as "6.12.9".
func (fs *FS) Release() string {
	return fs.kernel.Release()
}
