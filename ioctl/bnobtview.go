package ioctl

import (
	"fmt"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// BnobtView answers GETFSMAP as the kernel answers somebody without CAP_SYS_ADMIN: from the free
// space btree of each group, with FREE for what is in it and UNKNOWN for what is not. On a filesystem
// with rmapbt this is a view that is independent of the one [FS.FSMap] gives.
//
// It is a goroutine on an OS thread of its own that has dropped the capability. No other thread loses
// it, and the thread ends with the view.
type BnobtView struct {
	fs *FS

	mu     sync.Mutex // one call at a time
	closed bool
	low    FSMapKey
	high   FSMapKey
	buf    *FSMapBuffer
	err    error
	work   chan struct{}
	done   chan struct{}
}

// OpenBnobtView starts a view, and makes sure that it is one. Several views can work in parallel.
//
// Errors: [ErrStillPrivileged] when the thread still sees owners; [ErrNotSupported] where GETFSMAP shows
// nothing without the privilege (zoned filesystems).
//
// Source: capset(2); fs/xfs/xfs_fsmap.c (which back end answers whom).
func (fs *FS) OpenBnobtView() (*BnobtView, error) {
	v := &BnobtView{fs: fs, work: make(chan struct{}), done: make(chan struct{})}
	started := make(chan unix.Errno)
	go v.serve(started)
	if errno := <-started; errno != 0 {
		return nil, fs.fail(opBnobtView, errno)
	}
	if err := v.verify(); err != nil {
		v.Close()
		return nil, err
	}
	return v, nil
}

// serve answers calls on a thread that nothing else runs on. It returns without unlocking the
// thread, which makes the Go runtime end it.
func (v *BnobtView) serve(started chan<- unix.Errno) {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// The main thread would not end, and what others see of the process are its capabilities.
		// While it is locked here, another goroutine runs on another thread.
		moved := make(chan unix.Errno)
		go v.serve(moved)
		errno := <-moved
		runtime.UnlockOSThread()
		started <- errno
		return
	}
	kernel, errno := v.fs.kernel.DropAdmin()
	started <- errno
	if errno != 0 {
		return
	}
	for range v.work {
		v.err = v.fs.fsmap(kernel, v.low, v.high, v.buf)
		v.done <- struct{}{}
	}
}

// verify looks at the first records of the first group: the rmapbt begins with the owner of the
// superblock, the bnobt knows no owners.
func (v *BnobtView) verify() error {
	buf := NewFSMapBuffer(16)
	low, high := v.fs.FSMapAGKeys(0)
	if err := v.FSMap(low, high, buf); err != nil {
		return err
	}
	if len(buf.Records()) == 0 {
		return fmt.Errorf("bnobt view of %s: %w", v.fs.path, &UnsupportedFeatureError{
			Feature: "GETFSMAP without CAP_SYS_ADMIN",
			Reason:  "this filesystem shows nothing to it",
		})
	}
	for i := range buf.Records() {
		r := &buf.Records()[i]
		if !r.Is(FSMapOwnerFree) && !r.Is(FSMapOwnerUnknown) {
			return fmt.Errorf("bnobt view of %s: %w", v.fs.path, ErrStillPrivileged)
		}
	}
	return nil
}

// FSMap is [FS.FSMap] on the bnobt: every record has the special owner [FSMapOwnerFree] or
// [FSMapOwnerUnknown]. Calls on one view are made one after the other. Nothing is allocated.
func (v *BnobtView) FSMap(low, high FSMapKey, buf *FSMapBuffer) error {
	if err := v.fs.enter(); err != nil {
		return err
	}
	defer v.fs.leave()
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return fmt.Errorf("bnobt view of %s: %w", v.fs.path, ErrClosed)
	}
	v.low, v.high, v.buf = low, high, buf
	v.work <- struct{}{}
	<-v.done
	err := v.err
	v.buf, v.err = nil, nil
	return err
}

// Close ends the view and its thread, after the call in flight. Closing twice is fine.
func (v *BnobtView) Close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.closed {
		v.closed = true
		close(v.work)
	}
	return nil
}
