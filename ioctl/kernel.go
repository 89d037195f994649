package ioctl

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Kernel is the only seam between this package and the operating system. [SystemKernel] makes the
// system calls; package ioctltest plays the kernel.
//
// Every method returns 0 or the errno of the call, and no Go error, so that a call that succeeds
// or fails in the walk's inner loop allocates nothing. Pointers handed over are only used during
// the call.
type Kernel interface {
	// Open opens a path (open(2)). The flags are those of golang.org/x/sys/unix.
	Open(path string, flags int) (fd int, errno unix.Errno)
	// Close closes a descriptor that Open, Ioctl or OpenByHandleAt returned.
	Close(fd int) unix.Errno
	// Ioctl makes one ioctl(2), without repeating it. The result is what the call returned.
	Ioctl(fd int, req uintptr, arg unsafe.Pointer) (ret int, errno unix.Errno)
	// Statx fills in st for an open file (statx(2) with AT_EMPTY_PATH).
	Statx(fd, mask int, st *unix.Statx_t) unix.Errno
	// FSType returns the filesystem's magic number (fstatfs(2)).
	FSType(fd int) (magic int64, errno unix.Errno)
	// GetXattr reads an extended attribute (fgetxattr(2)).
	GetXattr(fd int, name string, value []byte) (n int, errno unix.Errno)
	// Flock takes or drops a lock (flock(2)).
	Flock(fd, how int) unix.Errno
	// OpenByHandleAt opens a file by a struct file_handle (open_by_handle_at(2)).
	OpenByHandleAt(mountFD int, handle unsafe.Pointer, flags int) (fd int, errno unix.Errno)
	// Release returns the kernel's release, as uname -r prints it.
	Release() string
	// DropAdmin takes CAP_SYS_ADMIN out of the effective capabilities of the calling thread, and
	// of no other, and returns the kernel to use from this thread. The caller has locked its
	// goroutine to the thread and never unlocks it.
	DropAdmin() (Kernel, unix.Errno)
}

// SystemKernel is the running kernel.
type SystemKernel struct{}

var _ Kernel = SystemKernel{}

// emptyPath is the NUL-terminated empty path of statx(2).
var emptyPath [1]byte

// Open opens path with O_CLOEXEC and O_LARGEFILE added.
func (SystemKernel) Open(path string, flags int) (int, unix.Errno) {
	errno := unix.EINTR
	fd := -1
	for i := 0; errno == unix.EINTR && i < maxInterrupts; i++ {
		var err error
		fd, err = unix.Open(path, flags|unix.O_CLOEXEC|unix.O_LARGEFILE, 0)
		errno = asErrno(err)
	}
	return fd, errno
}

// Close closes fd.
func (SystemKernel) Close(fd int) unix.Errno {
	_, _, errno := unix.Syscall(unix.SYS_CLOSE, uintptr(fd), 0, 0)
	return errno
}

// Ioctl makes one ioctl(2).
func (SystemKernel) Ioctl(fd int, req uintptr, arg unsafe.Pointer) (int, unix.Errno) {
	ret, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), req, uintptr(arg))
	return int(ret), errno
}

// Statx fills in st.
func (SystemKernel) Statx(fd, mask int, st *unix.Statx_t) unix.Errno {
	_, _, errno := unix.Syscall6(unix.SYS_STATX, uintptr(fd), uintptr(unsafe.Pointer(&emptyPath)),
		unix.AT_EMPTY_PATH|unix.AT_STATX_SYNC_AS_STAT, uintptr(mask), uintptr(unsafe.Pointer(st)), 0)
	return errno
}

// FSType returns the filesystem's magic number.
func (SystemKernel) FSType(fd int) (int64, unix.Errno) {
	var st unix.Statfs_t
	err := unix.Fstatfs(fd, &st)
	return int64(st.Type), asErrno(err) //nolint:unconvert // int32 on 386
}

// GetXattr reads an extended attribute.
func (SystemKernel) GetXattr(fd int, name string, value []byte) (int, unix.Errno) {
	n, err := unix.Fgetxattr(fd, name, value)
	return n, asErrno(err)
}

// Flock takes or drops a lock.
func (SystemKernel) Flock(fd, how int) unix.Errno {
	return asErrno(unix.Flock(fd, how))
}

// OpenByHandleAt opens a file by handle with O_CLOEXEC and O_LARGEFILE added.
func (SystemKernel) OpenByHandleAt(mountFD int, handle unsafe.Pointer, flags int) (int, unix.Errno) {
	fd, _, errno := unix.Syscall(unix.SYS_OPEN_BY_HANDLE_AT, uintptr(mountFD), uintptr(handle),
		uintptr(flags|unix.O_CLOEXEC|unix.O_LARGEFILE))
	return int(fd), errno
}

// Release returns the running kernel's release.
func (SystemKernel) Release() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

// DropAdmin takes CAP_SYS_ADMIN out of the effective set of this thread. The permitted set keeps
// it: GETFSMAP asks for the effective one, and the thread runs nothing but this package's calls.
func (k SystemKernel) DropAdmin() (Kernel, unix.Errno) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return nil, asErrno(err)
	}
	data[unix.CAP_SYS_ADMIN/32].Effective &^= 1 << (unix.CAP_SYS_ADMIN % 32)
	return k, asErrno(unix.Capset(&header, &data[0]))
}

// asErrno takes the errno out of an error of package unix, which returns nothing else.
func asErrno(err error) unix.Errno {
	if err == nil {
		return 0
	}
	if errno, ok := err.(unix.Errno); ok { //nolint:errorlint // package unix returns it bare
		return errno
	}
	return unix.EIO
}
