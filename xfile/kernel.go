package xfile

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// kernel is the seam between the package and the system calls that can fail
// for want of space or because a kernel is old. Tests put faults here.
type kernel struct {
	memfdCreate func(name string, flags int) (int, error)
	open        func(path string, flags int, mode uint32) (int, error)
	unlink      func(path string) error
	fallocate   func(fd int, mode uint32, off, length int64) error
	mmap        func(fd int, off int64, length uintptr, prot, flags int) (unsafe.Pointer, error)
	madvise     func(b []byte, advice int) error
	pwrite      func(fd int, b []byte, off int64) (int, error)
	pread       func(fd int, b []byte, off int64) (int, error)
	fstat       func(fd int, st *unix.Stat_t) error
	fstatfs     func(fd int, st *unix.Statfs_t) error
}

// realKernel returns the system calls themselves.
func realKernel() *kernel {
	return &kernel{
		memfdCreate: unix.MemfdCreate,
		open:        unix.Open,
		unlink:      unix.Unlink,
		fallocate:   unix.Fallocate,
		mmap: func(fd int, off int64, length uintptr, prot, flags int) (unsafe.Pointer, error) {
			return unix.MmapPtr(fd, off, nil, length, prot, flags)
		},
		madvise: unix.Madvise,
		pwrite:  unix.Pwrite,
		pread:   unix.Pread,
		fstat:   unix.Fstat,
		fstatfs: unix.Fstatfs,
	}
}
