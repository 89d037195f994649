package soak

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// file is a regular file that one writer has for itself, and what it holds.
type file struct {
	*os.File
	path  string
	holds content
}

// createFile makes an empty file, in the place of an older one.
func createFile(path string) (*file, error) {
	_ = os.Remove(path)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, err
	}
	return &file{File: f, path: path}, nil
}

// renew puts an empty file in the place of f. Where there is no space for
// another one it returns f, emptied, and the error.
func (f *file) renew() (*file, error) {
	if err := f.Truncate(0); err != nil {
		return f, err
	}
	f.holds = nil
	next, err := createFile(f.path + ".new")
	if err != nil {
		return f, err
	}
	if err := os.Rename(next.path, f.path); err != nil {
		return f, errors.Join(err, next.Close(), os.Remove(next.path))
	}
	next.path = f.path
	return next, f.Close()
}

func (f *file) fd() int { return int(f.Fd()) }

// reopen closes the file and opens it again: the last close gives
// preallocation past its end back.
func (f *file) reopen() error {
	if err := f.Close(); err != nil {
		return err
	}
	var err error
	f.File, err = os.OpenFile(f.path, os.O_RDWR, 0)
	return err
}

// again opens the file once more, with other flags, whether it has a name or not.
func (f *file) again(flags int) (*os.File, error) {
	return os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.fd()), os.O_RDWR|flags, 0)
}

// check opens the file anew and compares.
func (f *file) check() error {
	in, err := os.Open(f.path)
	if err != nil {
		return err
	}
	defer in.Close()
	return f.checkOpen(in)
}

func (f *file) checkOpen(in *os.File) error {
	st, err := in.Stat()
	if err != nil {
		return err
	}
	if st.Size() != f.holds.size() {
		return fmt.Errorf("%s: %d bytes, want %d", f.path, st.Size(), f.holds.size())
	}
	if err := f.holds.check(in); err != nil {
		return fmt.Errorf("%s: %w", f.path, err)
	}
	return nil
}

// wrote notes what was written at unit at.
func (f *file) wrote(at int, what content) { f.holds = f.holds.put(at, what) }

// write writes through the page cache.
func (f *file) write(at int, what content) error {
	buf := make([]byte, what.size())
	what.expand(buf)
	if _, err := f.WriteAt(buf, int64(at)*unitSize); err != nil {
		return err
	}
	f.wrote(at, what)
	return nil
}

// writeDirect writes around the page cache.
func (f *file) writeDirect(at int, what content) error {
	direct, err := f.again(unix.O_DIRECT)
	if err != nil {
		return err
	}
	defer direct.Close()
	// Pages of its own are aligned as the device wants it.
	buf, err := unix.Mmap(-1, 0, int(what.size()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Munmap(buf) }()
	what.expand(buf)
	if _, err := direct.WriteAt(buf, int64(at)*unitSize); err != nil {
		return err
	}
	f.wrote(at, what)
	return nil
}

// writeMapped stores into a mapping of what the file has already, and flushes
// it where sync says so.
func (f *file) writeMapped(at int, what content, sync bool) (err error) {
	if at+len(what) > len(f.holds) {
		return nil
	}
	page := unix.Getpagesize()
	from := int64(at) * unitSize
	start := from &^ int64(page-1)
	length := int(from + what.size() - start)
	mapped, err := unix.Mmap(f.fd(), start, length, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Munmap(mapped)) }()
	if err := store(mapped[from-start:], what); err != nil {
		return err
	}
	if sync {
		if err := unix.Msync(mapped, unix.MS_SYNC); err != nil {
			return err
		}
	}
	f.wrote(at, what)
	return nil
}

// store expands what into a mapping. The kernel has no other way than a fault
// to say that there is no space for it.
func store(mapped []byte, what content) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if recover() != nil {
			err = unix.ENOSPC
		}
	}()
	what.expand(mapped)
	return nil
}

// allocate is fallocate(2) over n units.
func (f *file) allocate(mode uint32, at, n int) error {
	return unix.Fallocate(f.fd(), mode, int64(at)*unitSize, int64(n)*unitSize)
}

// cloneRange makes n units share the blocks of another file, or of this one. Whole
// blocks only, except that it may end where the source ends.
func (f *file) cloneRange(from *file, src, n, at int) error {
	err := unix.IoctlFileCloneRange(f.fd(), &unix.FileCloneRange{
		Src_fd: int64(from.fd()), Src_offset: uint64(src) * unitSize,
		Src_length: uint64(n) * unitSize, Dest_offset: uint64(at) * unitSize,
	})
	if err != nil {
		return err
	}
	f.wrote(at, append(content(nil), from.holds[src:src+n]...))
	return nil
}

// clone makes the whole file share everything with another one.
func (f *file) clone(from *file) error {
	if err := unix.IoctlFileClone(f.fd(), from.fd()); err != nil {
		return err
	}
	if len(f.holds) < len(from.holds) {
		f.holds = f.holds.resize(len(from.holds))
	}
	copy(f.holds, from.holds)
	return nil
}

// dedupe makes n units of f that hold the same share the blocks of from.
func (f *file) dedupe(from *file, src, n, at int) error {
	arg := unix.FileDedupeRange{
		Src_offset: uint64(src) * unitSize, Src_length: uint64(n) * unitSize,
		Info: []unix.FileDedupeRangeInfo{{Dest_fd: int64(f.fd()), Dest_offset: uint64(at) * unitSize}},
	}
	if err := unix.IoctlFileDedupeRange(from.fd(), &arg); err != nil {
		return err
	}
	if status := arg.Info[0].Status; status < 0 {
		return unix.Errno(-status)
	} else if status != 0 {
		return errors.New("the kernel finds differences between the same contents")
	}
	return nil
}

// remove takes the file's name away, if it is there.
func remove(f *file) error { return ignore(os.Remove(f.path), os.ErrNotExist) }

// ignore makes one kind of error none.
func ignore(err, kind error) error {
	if errors.Is(err, kind) {
		return nil
	}
	return err
}

// files is a directory of files of one writer.
type files struct {
	dir  string
	list []*file
}

// newFiles makes n empty files below dir.
func newFiles(dir string, n int) (*files, error) {
	fs := &files{dir: dir}
	for i := range n {
		f, err := createFile(filepath.Join(dir, fmt.Sprintf("file%d", i)))
		if err != nil {
			return nil, errors.Join(err, fs.close())
		}
		fs.list = append(fs.list, f)
	}
	return fs, nil
}

// replace gives file i up for an empty one.
func (fs *files) replace(i int) (err error) {
	fs.list[i], err = fs.list[i].renew()
	return err
}

func (fs *files) any(rng *rand.Rand) (int, *file) {
	i := rng.IntN(len(fs.list))
	return i, fs.list[i]
}

func (fs *files) close() error {
	var errs []error
	for _, f := range fs.list {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

func (fs *files) check() error {
	var errs []error
	for _, f := range fs.list {
		errs = append(errs, f.check())
	}
	return errors.Join(errs...)
}
