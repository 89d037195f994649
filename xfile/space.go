package xfile

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Space is asked for ahead of need, so that appending costs a system call per
// step and not per page, and in steps that grow with the file, so that a
// thousand small files stay small.
const (
	aheadFirst = 16 << 10
	aheadMin   = 64 << 10
	aheadMax   = 16 << 20
)

// ahead returns the size of the next step of a file that holds n bytes: it
// doubles up to aheadMin, then adds an eighth, and never more than aheadMax.
func ahead(n int64) int64 {
	if n < aheadMin {
		return max(n, aheadFirst)
	}
	return min(max(n/8, aheadMin), aheadMax)
}

func pageDown(n int64) int64 { return n &^ (sysPage - 1) }
func pageUp(n int64) int64   { return pageDown(n + sysPage - 1) }

// ensure makes every page of [off, end) held and mapped. The lock is held.
func (f *File) ensure(off, end int64) error {
	if end <= f.dense.Load() {
		return nil
	}
	if f.closed {
		return f.errClosed()
	}
	if off < 0 || end < off || end > maxFile {
		return fmt.Errorf("allocate bytes %d to %d of %s: %w", off, end, f.name, ErrRange)
	}
	off, end = pageDown(off), pageUp(end)
	if want := end + ahead(f.held.count*sysPage); end > f.end && want <= maxFile && off <= f.end {
		// The step ahead is a convenience: if it is refused, what is needed
		// now may still fit.
		if f.fill(off, pageUp(want)) == nil {
			return f.finish(off, end)
		}
	}
	if err := f.fill(off, end); err != nil {
		return err
	}
	return f.finish(off, end)
}

// finish maps [off, end) and moves the dense mark over it.
func (f *File) finish(off, end int64) error {
	if err := f.mapRange(off, end); err != nil {
		return err
	}
	if d := f.dense.Load(); off <= d {
		f.dense.Store(max(d, min(f.held.next(d/sysPage, f.end/sysPage, false)*sysPage, f.mappedFrom(d))))
	}
	return nil
}

// fill allocates the pages of [off, end) that are not held. It stops at the
// first refusal; what it has allocated until then stays held.
func (f *File) fill(off, end int64) error {
	for at := off / sysPage; at < end/sysPage; {
		at = f.held.next(at, end/sysPage, false)
		to := f.held.next(at, end/sysPage, true)
		if at == to {
			break
		}
		if err := f.obtain(at*sysPage, (to-at)*sysPage); err != nil {
			return err
		}
		f.held.set(at, to)
		f.end = max(f.end, to*sysPage)
		at = to
	}
	return nil
}

// obtain charges and allocates n bytes of hole at off, all or nothing.
func (f *File) obtain(off, n int64) error {
	if err := f.budget.take(f.name, f.place, n); err != nil {
		return err
	}
	err := f.allocate(off, n)
	f.budget.settle(f.place, n)
	if err == nil {
		return nil
	}
	// A filesystem may have given a part; tmpfs takes it back by itself.
	_ = f.k.fallocate(f.fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	f.budget.give(f.name, f.place, n)
	for _, noRoom := range []error{unix.ENOSPC, unix.EDQUOT, unix.EFBIG, unix.ENOMEM} {
		if errors.Is(err, noRoom) {
			return &SpaceError{Purpose: f.name, Dir: f.dir, Want: n, Held: f.held.count * sysPage, Free: f.free(), Err: err}
		}
	}
	return fmt.Errorf("allocate %d bytes at %d of %s: %w", n, off, f.name, err)
}

// allocate has the kernel give n bytes at off.
//
// tmpfs undoes the whole call when a signal arrives in the middle (EINTR), and
// the Go runtime sends signals, so that an interrupted piece is halved.
func (f *File) allocate(off, n int64) error {
	for piece := n; n > 0; {
		piece = min(piece, n)
		err := f.k.fallocate(f.fd, 0, off, piece)
		switch {
		case err == nil:
			off += piece
			n -= piece
		case errors.Is(err, unix.EINTR):
			piece = max(pageUp(piece/2), sysPage)
		case errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS):
			return f.writeZeros(off, n)
		default:
			return err
		}
	}
	return nil
}

// writeZeros allocates on filesystems without fallocate, by writing.
func (f *File) writeZeros(off, n int64) error {
	zeros := make([]byte, min(n, 64<<10))
	for n > 0 {
		w, err := f.k.pwrite(f.fd, zeros[:min(n, int64(len(zeros)))], off)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		off += int64(w)
		n -= int64(w)
	}
	return nil
}

// free returns the bytes left in the file's filesystem, -1 if there is no
// such number.
func (f *File) free() int64 {
	var st unix.Statfs_t
	if f.dir == "" || f.k.fstatfs(f.fd, &st) != nil {
		return -1
	}
	return freeBytes(&st)
}

// Punch gives the space of [off, off+n) back to the system; the bytes read as
// zeros from then on. Whole pages are freed, the rest of the range is zeroed.
// A page that was punched must not be touched through Page or Window before
// [File.EnsurePages] or WriteAt has allocated it again.
//
// Errors: [ErrClosed], [ErrRange] if the range is not inside Size; else the
// errno of fallocate, wrapped, and nothing is given back.
// Source: man 2 fallocate (FALLOC_FL_PUNCH_HOLE).
func (f *File) Punch(off, n int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return f.errClosed()
	}
	if off < 0 || n < 0 || off > f.size || n > f.size-off {
		return fmt.Errorf("punch %d bytes at %d of %s (%d bytes): %w", n, off, f.name, f.size, ErrRange)
	}
	return f.punch(off, off+n)
}

// punch frees [off, end), which may reach over Size. The lock is held.
func (f *File) punch(off, end int64) error {
	end = min(end, f.end)
	if off >= end {
		return nil
	}
	first, last := pageUp(off)/sysPage, pageDown(end)/sysPage
	if first < last {
		f.dense.Store(min(f.dense.Load(), first*sysPage))
	}
	err := f.k.fallocate(f.fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, end-off)
	for errors.Is(err, unix.EINTR) {
		err = f.k.fallocate(f.fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, end-off)
	}
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		// No holes here: the bytes must still read as zeros, and the space stays held.
		for at := off / sysPage; at*sysPage < end; {
			at = f.held.next(at, (end+sysPage-1)/sysPage, true)
			to := f.held.next(at, (end+sysPage-1)/sysPage, false)
			if err := f.writeZeros(max(off, at*sysPage), min(end, to*sysPage)-max(off, at*sysPage)); err != nil {
				return fmt.Errorf("zero bytes %d to %d of %s: %w", off, end, f.name, err)
			}
			at = to
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("punch bytes %d to %d of %s: %w", off, end, f.name, err)
	}
	f.budget.give(f.name, f.place, f.held.clear(first, last)*sysPage)
	return nil
}

// Truncate makes the file end at size and gives back all space above,
// including what was allocated ahead.
//
// Errors: [ErrClosed]; [ErrRange] if size is larger than Size.
func (f *File) Truncate(size int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return f.errClosed()
	}
	if size < 0 || size > f.size {
		return fmt.Errorf("truncate %s (%d bytes) to %d: %w", f.name, f.size, size, ErrRange)
	}
	if err := f.punch(size, f.end); err != nil {
		return err
	}
	f.setSize(size)
	return nil
}

// setSize moves Size. The lock is held.
func (f *File) setSize(n int64) {
	f.size = n
	f.pages.Store(n / PageSize)
}

// holds says whether every byte of [off, end) is in a held page.
func (f *File) holds(off, end int64) bool {
	if end <= f.dense.Load() {
		return true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	last := (end + sysPage - 1) / sysPage
	return f.held.next(off/sysPage, last, false) == last
}

// nextHeld returns the first run of held bytes in [off, end), lo == hi if
// there is none.
func (f *File) nextHeld(off, end int64) (lo, hi int64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return 0, 0, f.errClosed()
	}
	last := (end + sysPage - 1) / sysPage
	at := f.held.next(off/sysPage, last, true)
	to := f.held.next(at, last, false)
	if at == to {
		return end, end, nil
	}
	return max(off, at*sysPage), min(end, to*sysPage), nil
}
