package kernel_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// writer changes a few files in a loop: allocation and punching, clones,
// attributes, appending and truncating, creating and unlinking.
type writer struct {
	dir   string
	file  *os.File
	round int
	data  []byte
}

func newWriter(dir string, id int) (*writer, error) {
	dir = filepath.Join(dir, fmt.Sprint(id))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	file, err := os.Create(filepath.Join(dir, "file"))
	if err != nil {
		return nil, err
	}
	data := make([]byte, 64<<10)
	for i := range data {
		data[i] = byte(i)
	}
	return &writer{dir: dir, file: file, data: data}, nil
}

func (w *writer) step() error {
	w.round++
	fd := int(w.file.Fd())
	off := int64(w.round%32) * int64(len(w.data))
	name := filepath.Join(w.dir, fmt.Sprintf("name%d", w.round%8))
	switch w.round % 6 {
	case 0:
		_, err := w.file.WriteAt(w.data, off)
		return err
	case 1:
		return unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, off, int64(len(w.data)))
	case 2:
		return unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE|unix.FALLOC_FL_PUNCH_HOLE, off, int64(len(w.data))/2)
	case 3:
		if err := unix.Fsetxattr(fd, "user.churn", w.data[:4<<10], 0); err != nil {
			return err
		}
		return unix.Fremovexattr(fd, "user.churn")
	case 4:
		if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		clone, err := os.Create(name)
		if err != nil {
			return err
		}
		err = unix.IoctlFileClone(int(clone.Fd()), fd)
		return errors.Join(err, clone.Close())
	default:
		return w.file.Truncate(off)
	}
}

func (w *writer) close() error { return w.file.Close() }
