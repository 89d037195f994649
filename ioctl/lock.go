package ioctl

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// TryLock takes the lock that keeps two runs off one filesystem: flock(2) on its root directory, so
// that it holds across namespaces and mounts. It is given back by the function returned, which may be
// called twice, or when the process ends. The lock keeps its own descriptor, and so the filesystem busy.
//
// Errors: [ErrLocked] when somebody else, or this process already, holds it; [ErrPrivilege] when the
// root directory cannot be opened ([FS.AtRoot] is false).
func (fs *FS) TryLock() (unlock func(), err error) {
	if err := fs.enter(); err != nil {
		return nil, err
	}
	defer fs.leave()
	if !fs.rootOK {
		return nil, fs.fail(opLock, unix.EPERM)
	}
	fd, err := fs.OpenFD(fs.root, fs.rootGen)
	if err != nil {
		return nil, err
	}
	errno := unix.EINTR
	for i := 0; errno == unix.EINTR && i < maxInterrupts; i++ {
		errno = fs.kernel.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	}
	switch errno {
	case 0:
	case unix.EWOULDBLOCK:
		fs.CloseFD(fd)
		return nil, fmt.Errorf("lock %s: %w", fs.path, ErrLocked)
	default:
		fs.CloseFD(fd)
		return nil, fs.fail(opLock, errno)
	}
	return sync.OnceFunc(func() { fs.CloseFD(fd) }), nil
}
