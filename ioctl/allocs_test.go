package ioctl

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl/internal/abi"
)

// nullKernel answers everything with success and hands back what it was given, but for a geometry.
// Package ioctltest cannot be used from inside this package, and allocates.
type nullKernel struct {
	SystemKernel
	answer func(req uintptr, arg unsafe.Pointer)
}

func (nullKernel) Open(string, int) (int, unix.Errno)                        { return 1 << 20, 0 }
func (nullKernel) Close(int) unix.Errno                                      { return 0 }
func (nullKernel) Statx(int, int, *unix.Statx_t) unix.Errno                  { return 0 }
func (nullKernel) FSType(int) (int64, unix.Errno)                            { return abi.XFSSuperMagic, 0 }
func (nullKernel) OpenByHandleAt(int, unsafe.Pointer, int) (int, unix.Errno) { return 1 << 20, 0 }
func (k nullKernel) DropAdmin() (Kernel, unix.Errno)                         { return k, 0 }
func (k nullKernel) Ioctl(_ int, req uintptr, arg unsafe.Pointer) (int, unix.Errno) {
	if k.answer != nil {
		k.answer(req, arg)
		return 0, 0
	}
	switch req {
	case abi.ReqFSGeometry:
		*(*abi.FSGeometry)(arg) = abi.FSGeometry{BlockSize: 4096, InodeSize: 512, AGBlocks: 1000, AGCount: 4, DataBlocks: 4000}
	case abi.ReqBulkstat:
		(*abi.BulkReq)(arg).OCount = 1
	case abi.ReqGetFSMap:
		head := (*abi.FSMapHead)(arg)
		head.Entries = 1
		*(*FSMapRecord)(unsafe.Add(arg, unsafe.Sizeof(*head))) = FSMapRecord{Flags: FSMapSpecialOwner, Owner: uint64(FSMapOwnerFree)}
	}
	return 0, 0
}

func TestNothingIsAllocatedPerCall(t *testing.T) {
	fs, err := New(nullKernel{}, "/srv")
	require.NoError(t, err)
	defer fs.Close()
	view, err := fs.OpenBnobtView()
	require.NoError(t, err)
	defer view.Close()
	fsmap, bmap, bulk, inumbers := NewFSMapBuffer(2048), NewBmapBuffer(64), NewBulkstatBuffer(1024), NewInumbersBuffer(1024)
	low, high := fs.FSMapAGKeys(1)
	vector := make([]ScrubVecEntry, 10)
	for name, call := range map[string]func() error{
		"FSMap":      func() error { return fs.FSMap(low, high, fsmap) },
		"bnobt view": func() error { return view.FSMap(low, high, fsmap) },
		"Bmap":       func() error { return fs.Bmap(5, DataFork, bmap) },
		"BmapRange":  func() error { return fs.BmapRange(5, AttrFork, 8, 8, bmap) },
		"Bulkstat": func() error {
			req := BulkRequest{Flags: BulkAGNo}
			_, err := fs.Bulkstat(&req, bulk)
			return err
		},
		"Inumbers": func() error {
			req := BulkRequest{Flags: BulkAGNo}
			_, err := fs.Inumbers(&req, inumbers)
			return err
		},
		"OpenFD": func() error {
			fd, err := fs.OpenFD(131, 7)
			fs.CloseFD(fd)
			return err
		},
		"OpenPathFD": func() error {
			fd, err := fs.OpenPathFD(131, 7)
			fs.CloseFD(fd)
			return err
		},
		"Statx":    func() error { _, err := fs.Statx(5); return err },
		"Scrub":    func() error { _, err := fs.Scrub(ScrubRequest{Type: ScrubTypeINODE, Ino: 131, Gen: 7}); return err },
		"ScrubVec": func() error { return fs.ScrubVec(131, 7, 0, 0, vector) },
	} {
		var failed error
		assert.Zero(t, testing.AllocsPerRun(100, func() {
			if err := call(); err != nil {
				failed = err
			}
		}), name)
		require.NoError(t, failed, name)
	}
}

// The system calls themselves allocate nothing either, whether they succeed or fail.
func TestSystemCallsAllocateNothing(t *testing.T) {
	var k SystemKernel
	head := new(abi.FSMapHead)
	st := new(unix.Statx_t)
	handle := new(abi.FileHandle)
	var errnos [4]unix.Errno
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		_, errnos[0] = k.Ioctl(-1, abi.ReqGetFSMap, unsafe.Pointer(head))
		errnos[1] = k.Statx(-1, unix.STATX_BASIC_STATS, st)
		_, errnos[2] = k.OpenByHandleAt(-1, unsafe.Pointer(handle), unix.O_PATH)
		errnos[3] = k.Close(-1)
	}))
	assert.Equal(t, unix.EBADF, errnos[0])
	assert.Equal(t, unix.EBADF, errnos[1])
	assert.NotZero(t, errnos[2])
	assert.Equal(t, unix.EBADF, errnos[3])
}
