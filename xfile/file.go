package xfile

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Options say what a file is for and where it lives.
type Options struct {
	// Name is the purpose: the budget counts by it, errors and /proc/PID/fd
	// show it. Several files may share a name.
	Name string
	// Budget bounds the file together with others. Nil means no bound.
	Budget *Budget
	// Dir is empty for a memfd; otherwise the directory for an unnamed file.
	Dir string
	// AvoidDevice, if not zero, is the st_dev of a filesystem that Dir must not
	// lie on: the one being checked. New fails with [ErrSameDevice] then.
	AvoidDevice uint64

	kernel *kernel // tests only
}

// File is a run of bytes in pageable memory, mapped in windows that never
// move. Its methods may be called from several goroutines; bytes reached
// through [File.Page] or [File.Window] are the caller's to guard.
type File struct {
	name   string
	dir    string
	place  Place
	budget *Budget
	k      *kernel
	fd     int

	windowBytes int64 // a multiple of the system's page size

	pages atomic.Int64                     // whole tree pages in size, for Page; 0 when closed
	table atomic.Pointer[[]unsafe.Pointer] // window number -> first byte; nil: not mapped
	dense atomic.Int64                     // every byte below is in a held page

	mu      sync.Mutex
	size    int64
	end     int64 // bytes of the kernel's file, multiple of the page size; size <= end
	held    bitmap
	closed  bool
	users   int  // calls and views under way; the last one out after Close tears down
	settled bool // torn down
}

// sysPage is the unit in which the kernel gives and takes space.
var sysPage = int64(os.Getpagesize())

// New makes an empty file. It holds one descriptor and no space.
//
// Errors: [ErrSameDevice]; else the errno of memfd_create or open, wrapped.
// Source: man 2 memfd_create, man 2 open (O_TMPFILE).
func New(o Options) (*File, error) { return newFile(o, pageWindowBytes) }

func newFile(o Options, windowBytes int64) (*File, error) {
	k := o.kernel
	if k == nil {
		k = realKernel()
	}
	if o.Name == "" {
		o.Name = "xfile"
	}
	f := &File{name: o.Name, dir: o.Dir, budget: o.Budget, k: k, windowBytes: windowBytes}
	var err error
	if o.Dir == "" {
		f.fd, err = createMemfd(k, o.Name)
	} else {
		f.fd, err = createUnnamed(k, o.Dir, o.Name)
	}
	if err != nil {
		return nil, err
	}
	if o.Dir != "" {
		if err := f.checkDir(o.AvoidDevice); err != nil {
			_ = unix.Close(f.fd)
			return nil, err
		}
	}
	f.table.Store(new([]unsafe.Pointer))
	openFiles.Add(1)
	return f, nil
}

// checkDir learns where the file lies and refuses the device to be avoided.
func (f *File) checkDir(avoid uint64) error {
	var st unix.Stat_t
	if err := f.k.fstat(f.fd, &st); err != nil {
		return fmt.Errorf("stat unnamed file for %s in %s: %w", f.name, f.dir, err)
	}
	if avoid != 0 && uint64(st.Dev) == avoid {
		return fmt.Errorf("create unnamed file for %s in %s: %w", f.name, f.dir, ErrSameDevice)
	}
	place, err := placeOf(f.k, f.fd)
	if err != nil {
		return fmt.Errorf("create unnamed file for %s in %s: %w", f.name, f.dir, err)
	}
	f.place = place
	return nil
}

// openFiles counts files that exist.
var openFiles atomic.Int64

// OpenFiles returns how many files of this process are not closed yet. Tests
// compare it with zero at their end; see package xfiletest.
func OpenFiles() int { return int(openFiles.Load()) }

// Name returns the purpose.
func (f *File) Name() string { return f.name }

// Place says whether the file's bytes count as memory or as disk.
func (f *File) Place() Place { return f.place }

// Size returns the bytes in use: the end of what was written or allocated as
// pages, holes included.
func (f *File) Size() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.size
}

// Allocated returns the bytes that the file holds and that its budget counts:
// whole pages, without holes, with the space allocated ahead.
func (f *File) Allocated() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.held.count * sysPage
}

// acquire keeps the mapping and the descriptor alive until release.
func (f *File) acquire() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return f.errClosed()
	}
	f.users++
	return nil
}

func (f *File) release() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.users--
	if f.closed && f.users == 0 {
		_ = f.teardown()
	}
}

func (f *File) errClosed() error { return fmt.Errorf("%s: %w", f.name, ErrClosed) }

// Close gives everything back: windows, space, budget, descriptor. Bytes
// reached through Page or Window must not be touched any more. While calls or
// iterations are under way, the last of them does the work. A second Close is a
// no-op.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil
	}
	f.closed = true
	f.pages.Store(0)
	f.dense.Store(0)
	openFiles.Add(-1)
	if f.users > 0 {
		return nil
	}
	return f.teardown()
}

// teardown needs the lock, closed and no users.
func (f *File) teardown() error {
	if f.settled {
		return nil
	}
	f.settled = true
	var first error
	for i, w := range *f.table.Load() {
		if w == nil {
			continue
		}
		if err := f.unmapWindow(int64(i), w); err != nil && first == nil {
			first = err
		}
	}
	f.table.Store(new([]unsafe.Pointer))
	if err := unix.Close(f.fd); err != nil && first == nil {
		first = fmt.Errorf("close %s: %w", f.name, err)
	}
	f.budget.give(f.name, f.place, f.held.count*sysPage)
	f.held = bitmap{}
	f.size, f.end = 0, 0
	return first
}
