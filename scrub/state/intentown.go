package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
)

// errNotFlat is a log on the filesystem under repair that cannot be overwritten
// without changing where its blocks are.
var errNotFlat = errors.New("its blocks would move when it is written")

// PrepareOwn makes the log of intents on the filesystem itself, if the state
// directory dir (as in [Open]) lies there. To be called when the filesystem was
// just found well: a new file takes blocks and an inode from the very btrees
// that a repair is about, and where these are wrong that overwrites what is in
// use, or shuts the filesystem down. Afterwards the file is only overwritten in
// place.
//
// Errors: [ErrUnsafe], and those of the system calls.
func PrepareOwn(dir string, fs *ioctl.FS) error {
	return places{DefaultDir, RuntimeDir}.prepareOwn(dir, fs)
}

func (p places) prepareOwn(dir string, fs *ioctl.FS) (err error) {
	if dir == "" {
		dir = p.standard
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return fmt.Errorf("prepare the state directory: %w", err)
	}
	own, err := liesOn(dir, fs.Device())
	if err != nil || !own {
		return err
	}
	path := filepath.Join(dir, UUID(fs))
	root, err := openPrivate(dir, path)
	if err != nil {
		return fmt.Errorf("prepare the state directory: %w", err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	file, _, err := openOwn(filepath.Join(path, IntentsFile), fs)
	switch {
	case err == nil:
		return file.Close()
	case errors.Is(err, errNotFlat):
		// A snapshot shares its blocks, say: it gets new ones.
		if err := root.Remove(IntentsFile); err != nil {
			return fmt.Errorf("prepare the state directory: %w", err)
		}
	case !errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("prepare the state directory: %w", err)
	}
	if err := preallocate(root); err != nil {
		return fmt.Errorf("prepare the state directory: %w", err)
	}
	return nil
}

// openOwn opens the log on the filesystem itself, if it can be overwritten
// without a new block: every block of it is there, written, and nobody else's.
//
// Errors: errNotFlat, [ErrUnsafe], and those of the system calls.
func openOwn(path string, fsys *ioctl.FS) (*os.File, ioctl.Ino, error) {
	file, err := openLog(path, os.O_RDWR)
	if err != nil {
		return nil, 0, err
	}
	ino, err := flat(file, fsys)
	if err != nil {
		return nil, 0, errors.Join(&fs.PathError{Op: "use", Path: path, Err: err}, file.Close())
	}
	return file, ino, nil
}

// flat says which inode a log is that can be overwritten in place.
func flat(file *os.File, fsys *ioctl.FS) (ioctl.Ino, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		return 0, err
	}
	if uint64(st.Dev) != fsys.Device() { //nolint:unconvert // uint32 on some architectures
		return 0, errNotFlat
	}
	buf := ioctl.NewBmapBuffer(16)
	if err := fsys.Bmap(int(file.Fd()), ioctl.DataFork, buf); err != nil {
		return 0, err
	}
	const sector = 512
	at := ioctl.DAddr(0)
	for _, r := range buf.Records() {
		if r.Offset != at || !r.HasBlocks() || r.Flags.Has(ioctl.BmapPrealloc) || r.Flags.Has(ioctl.BmapShared) {
			break
		}
		at += r.Length
	}
	if st.Size != logSize || at < logSize/sector {
		return 0, errNotFlat
	}
	return ioctl.Ino(st.Ino), nil
}
