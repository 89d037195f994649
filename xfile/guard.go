package xfile

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"unsafe"
)

// FaultError says that a mapped page could not be had: the disk under an
// unnamed file failed, or someone cut the file short.
type FaultError struct {
	Purpose string // the [Options.Name] of the file
	Offset  int64  // of the page in bytes
}

func (e *FaultError) Error() string {
	return fmt.Sprintf("access the page at %d of %s: cannot be read or written", e.Offset, e.Purpose)
}

// Guard calls work and returns its error; a fault on a page of any xfile in
// the course of it comes back as a [*FaultError] instead of ending the process.
//
// Every goroutine that touches xfile bytes (pages, windows, records, iterations)
// should have one Guard at its outermost edge, where an error of the worker is
// handled anyway:
//
//	group.Go(func() error {
//		return xfile.Guard(func() error { return walkAG(ctx, agno) })
//	})
//
// It holds for the calling goroutine alone, not for goroutines that work
// starts. What the worker was changing is in an unknown state after a fault:
// throw the file away. Deferred functions of work run. Any other panic, also a
// nil dereference, goes on as it was.
//
// Source: runtime/debug.SetPanicOnFault; man 2 mmap (SIGBUS).
func Guard(work func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		r := recover()
		if r == nil {
			return
		}
		fault := faultOf(r)
		if fault == nil {
			panic(r)
		}
		err = fault
	}()
	return work()
}

// faultOf returns the fault behind a recovered value, nil if it is none of ours.
func faultOf(r any) *FaultError {
	e, ok := r.(interface {
		runtime.Error
		Addr() uintptr
	})
	if !ok {
		return nil
	}
	return mapped.find(e.Addr())
}

// mapping is one mapped range of a file.
type mapping struct {
	file   *File
	off    int64 // of its first byte in the file
	length uintptr
}

// mappings knows every mapped range of the process, so that a fault can be
// told from a bug. It is touched when a window comes or goes, and at a fault.
type mappings struct {
	mu  sync.Mutex
	all map[uintptr]mapping
}

var mapped = mappings{all: map[uintptr]mapping{}}

func (m *mappings) add(f *File, off int64, p unsafe.Pointer, length uintptr) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all[uintptr(p)] = mapping{f, off, length}
}

func (m *mappings) remove(p unsafe.Pointer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.all, uintptr(p))
}

func (m *mappings) find(addr uintptr) *FaultError {
	m.mu.Lock()
	defer m.mu.Unlock()
	for start, r := range m.all {
		if addr >= start && addr-start < r.length {
			return &FaultError{Purpose: r.file.name, Offset: pageDown(r.off + int64(addr-start))}
		}
	}
	return nil
}
