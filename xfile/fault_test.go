package xfile

import (
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// faulty is a kernel whose calls fail on order. Each field holds what a call
// answers instead of being made; nil, or a nil answer, makes the call.
type faulty struct {
	memfd     func(flags int) error
	open      func(flags int) error
	unlink    func() error
	fallocate func(mode uint32, off, n int64) error
	mmap      func() error
	pwrite    func(n int) error
	pread     func(n int) error
	fstat     func() error
	fstatfs   func() error
	madvise   func(b []byte, advice int) error
	short     bool // pread and pwrite do one byte a call
}

func (f *faulty) kernel() *kernel {
	k := realKernel()
	made := *k
	k.memfdCreate = func(name string, flags int) (int, error) {
		if f.memfd != nil {
			if err := f.memfd(flags); err != nil {
				return -1, err
			}
		}
		return made.memfdCreate(name, flags)
	}
	k.open = func(path string, flags int, mode uint32) (int, error) {
		if f.open != nil {
			if err := f.open(flags); err != nil {
				return -1, err
			}
		}
		return made.open(path, flags, mode)
	}
	k.unlink = func(path string) error {
		err := made.unlink(path)
		if f.unlink != nil {
			return f.unlink()
		}
		return err
	}
	k.fallocate = func(fd int, mode uint32, off, n int64) error {
		if f.fallocate != nil {
			if err := f.fallocate(mode, off, n); err != nil {
				return err
			}
		}
		return made.fallocate(fd, mode, off, n)
	}
	k.mmap = func(fd int, off int64, n uintptr, prot, flags int) (unsafe.Pointer, error) {
		if f.mmap != nil {
			if err := f.mmap(); err != nil {
				return nil, err
			}
		}
		return made.mmap(fd, off, n, prot, flags)
	}
	k.madvise = func(b []byte, advice int) error {
		if f.madvise != nil {
			if err := f.madvise(b, advice); err != nil {
				return err
			}
		}
		return made.madvise(b, advice)
	}
	k.pwrite = func(fd int, b []byte, off int64) (int, error) {
		if f.pwrite != nil {
			if err := f.pwrite(len(b)); err != nil {
				return 0, err
			}
		}
		if f.short {
			b = b[:1]
		}
		return made.pwrite(fd, b, off)
	}
	k.pread = func(fd int, b []byte, off int64) (int, error) {
		if f.pread != nil {
			if err := f.pread(len(b)); err != nil {
				return 0, err
			}
		}
		if f.short {
			b = b[:1]
		}
		return made.pread(fd, b, off)
	}
	k.fstat = func(fd int, st *unix.Stat_t) error {
		if f.fstat != nil {
			return f.fstat()
		}
		return made.fstat(fd, st)
	}
	k.fstatfs = func(fd int, st *unix.Statfs_t) error {
		if f.fstatfs != nil {
			return f.fstatfs()
		}
		return made.fstatfs(fd, st)
	}
	return k
}

// once answers err to the first call alone.
func once(err error) func() error {
	var done atomic.Bool
	return func() error {
		if done.Swap(true) {
			return nil
		}
		return err
	}
}
