package xfile

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

var (
	_ io.ReaderAt = (*File)(nil)
	_ io.WriterAt = (*File)(nil)
)

// ReadAt reads like [io.ReaderAt]; holes read as zeros and stay holes. It goes
// through pread, so that a failing disk is an error here without a [Guard].
func (f *File) ReadAt(b []byte, off int64) (int, error) {
	if err := f.acquire(); err != nil {
		return 0, err
	}
	defer f.release()
	size := f.Size()
	if off < 0 {
		return 0, fmt.Errorf("read %s at %d: %w", f.name, off, ErrRange)
	}
	if off >= size {
		if len(b) == 0 {
			return 0, nil
		}
		return 0, io.EOF
	}
	want := b[:min(int64(len(b)), size-off)]
	for n := 0; n < len(want); {
		r, err := f.k.pread(f.fd, want[n:], off+int64(n))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return n, fmt.Errorf("read %d bytes of %s at %d: %w", len(want)-n, f.name, off+int64(n), err)
		}
		if r == 0 {
			// Size may lie above the kernel's end of file: a hole all the same.
			clear(want[n:])
			break
		}
		n += r
	}
	if len(want) < len(b) {
		return len(want), io.EOF
	}
	return len(want), nil
}

// WriteAt writes like [io.WriterAt] and grows the file as needed; the space is
// allocated before the first byte is written.
//
// Errors: [*BudgetError], [*SpaceError], [ErrClosed], [ErrRange].
func (f *File) WriteAt(b []byte, off int64) (int, error) {
	if err := f.acquire(); err != nil {
		return 0, err
	}
	defer f.release()
	if off < 0 || off > maxFile-int64(len(b)) {
		return 0, fmt.Errorf("write %d bytes of %s at %d: %w", len(b), f.name, off, ErrRange)
	}
	if len(b) == 0 {
		return 0, nil
	}
	if err := f.extend(off, off+int64(len(b))); err != nil {
		return 0, err
	}
	for n := 0; n < len(b); {
		w, err := f.k.pwrite(f.fd, b[n:], off+int64(n))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return n, fmt.Errorf("write %d bytes of %s at %d: %w", len(b)-n, f.name, off+int64(n), err)
		}
		n += w
	}
	return len(b), nil
}

// extend gives [off, end) space and moves Size to at least end.
func (f *File) extend(off, end int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return f.errClosed()
	}
	if err := f.ensure(off, end); err != nil {
		return err
	}
	f.setSize(max(f.size, end))
	return nil
}
