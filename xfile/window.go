package xfile

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// PageSize is the size of a [Page] in bytes, on every architecture.
const PageSize = 4096

// Page is one page of a file, in place.
type Page = [PageSize]byte

const (
	// pageWindowShift is the log of a window's pages: 64 MiB of address space
	// where there is plenty of it, 1 MiB where there is not.
	pageWindowShift = 8 + 6*(^uintptr(0)>>63)
	pageWindowBytes = PageSize << pageWindowShift
	pageWindowMask  = 1<<pageWindowShift - 1

	// maxFile bounds a file in bytes, so that the tables of windows and pages
	// stay small even if only its last byte is used: 16 TiB, or 1 TiB where
	// windows are small.
	maxFile = 1 << (40 + 4*(^uintptr(0)>>63))
)

// Page returns page i in place, or nil if i is not in [0, Pages) or the file is
// closed. The pointer stays valid until Close; it costs a few loads and no lock.
//
// Only pages with space may be touched: those that AllocPages has given or a
// write has covered, and that were not punched since, or were given space again
// by EnsurePages.
func (f *File) Page(i int64) *Page {
	if uint64(i) >= uint64(f.pages.Load()) {
		return nil
	}
	return (*Page)(unsafe.Add((*f.table.Load())[i>>pageWindowShift], (i&pageWindowMask)*PageSize))
}

// Pages returns how many whole pages the file has.
func (f *File) Pages() int64 { return f.pages.Load() }

// AllocPages adds n zeroed pages at the end of the file, with space, and
// returns the number of the first.
//
// Errors: [*BudgetError], [*SpaceError], [ErrClosed]; the file is as before then.
func (f *File) AllocPages(n int64) (first int64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return 0, f.errClosed()
	}
	first = (f.size + PageSize - 1) / PageSize
	if n < 0 || n > maxFile/PageSize-first {
		return 0, fmt.Errorf("allocate %d pages for %s: %w", n, f.name, ErrRange)
	}
	if err := f.ensure(f.size, (first+n)*PageSize); err != nil {
		return 0, err
	}
	f.setSize((first + n) * PageSize)
	return first, nil
}

// EnsurePages makes sure that n pages from first have space, so that pages that
// were punched can be used again. They read as zeros.
//
// Errors: as [File.AllocPages]; [ErrRange] if a page is not in the file.
func (f *File) EnsurePages(first, n int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.checkPages(first, n); err != nil {
		return err
	}
	return f.ensure(first*PageSize, (first+n)*PageSize)
}

// PunchPages gives the space of n pages from first back to the system. Where
// the system's pages are larger than [PageSize], only runs that fill whole ones
// are given back, and the rest is zeroed.
//
// Errors: as [File.Punch].
func (f *File) PunchPages(first, n int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.checkPages(first, n); err != nil {
		return err
	}
	return f.punch(first*PageSize, (first+n)*PageSize)
}

func (f *File) checkPages(first, n int64) error {
	if f.closed {
		return f.errClosed()
	}
	if pages := f.pages.Load(); first < 0 || n < 0 || first > pages || n > pages-first {
		return fmt.Errorf("pages %d to %d of %s (%d pages): %w", first, first+n, f.name, pages, ErrRange)
	}
	return nil
}

// Window returns the bytes from off to the end of the window that holds it, or
// to n bytes, or to Size, whichever comes first: in place, valid until Close.
// Holes in it are allocated first.
//
// Errors: [*BudgetError], [*SpaceError], [ErrClosed]; [ErrRange] if off is not
// in the file.
func (f *File) Window(off, n int64) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, f.errClosed()
	}
	if off < 0 || n < 0 || off > f.size {
		return nil, fmt.Errorf("window of %d bytes at %d of %s (%d bytes): %w", n, off, f.name, f.size, ErrRange)
	}
	n = min(n, f.size-off, f.windowBytes-off%f.windowBytes)
	if n == 0 {
		return nil, nil
	}
	if err := f.ensure(off, off+n); err != nil {
		return nil, err
	}
	return unsafe.Slice((*byte)(f.at(off)), n), nil
}

// at returns the address of a byte that ensure has covered.
func (f *File) at(off int64) unsafe.Pointer {
	return unsafe.Add((*f.table.Load())[off/f.windowBytes], off%f.windowBytes)
}

// mapRange maps the windows that [off, end) touches. The lock is held.
func (f *File) mapRange(off, end int64) error {
	for w := off / f.windowBytes; w*f.windowBytes < end; w++ {
		old := *f.table.Load()
		if w < int64(len(old)) && old[w] != nil {
			continue
		}
		p, err := f.k.mmap(f.fd, w*f.windowBytes, uintptr(f.windowBytes), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			return fmt.Errorf("map window %d of %s (%d bytes): %w", w, f.name, f.windowBytes, err)
		}
		grown := make([]unsafe.Pointer, max(int64(len(old)), w+1))
		copy(grown, old)
		grown[w] = p
		mapped.add(f, w*f.windowBytes, p, uintptr(f.windowBytes))
		f.table.Store(&grown)
	}
	return nil
}

// mappedFrom returns the end of the run of mapped windows from off on.
func (f *File) mappedFrom(off int64) int64 {
	t := *f.table.Load()
	w := off / f.windowBytes
	for w < int64(len(t)) && t[w] != nil {
		w++
	}
	return w * f.windowBytes
}

func (f *File) unmapWindow(w int64, p unsafe.Pointer) error {
	mapped.remove(p)
	if err := unix.MunmapPtr(p, uintptr(f.windowBytes)); err != nil {
		return fmt.Errorf("unmap window %d of %s: %w", w, f.name, err)
	}
	return nil
}
