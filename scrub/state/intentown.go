package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

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
	own, err := LiesOn(dir, fs.Device())
	if err != nil || !own {
		return err
	}
	path := filepath.Join(dir, UUID(fs))
	root, err := openPrivate(dir, path)
	if err != nil {
		return fmt.Errorf("prepare the state directory: %w", err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	file, _, err := openOwn(filepath.Join(path, IntentsFile), os.O_RDONLY, fs)
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

// OwnLog is the log of intents on the very filesystem under repair, fit to be
// overwritten in place. Whether its blocks are its own beyond doubt is for the run
// to say: to write it where they are not would overwrite what is somebody else's.
type OwnLog struct {
	Ino ioctl.Ino
	// Extents are the mappings of its data fork, without holes, in order.
	Extents []ioctl.BmapRecord
}

func (o *OwnLog) equal(other *OwnLog) bool {
	return other != nil && o.Ino == other.Ino && slices.Equal(o.Extents, other.Extents)
}

// FindOwnLog returns the log of intents on the filesystem itself; nil where the
// state directory dir (as in [Open]) lies elsewhere, or there is none that is fit.
// Nothing is created, and nothing is changed.
//
// Errors: those of the system calls.
func FindOwnLog(dir string, fs *ioctl.FS) (*OwnLog, error) {
	return places{DefaultDir, RuntimeDir}.findOwnLog(dir, fs)
}

func (p places) findOwnLog(dir string, fs *ioctl.FS) (*OwnLog, error) {
	if dir == "" {
		dir = p.standard
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("look for the log of intents: %w", err)
	}
	if own, err := LiesOn(dir, fs.Device()); err != nil || !own {
		return nil, err
	}
	file, own, err := openOwn(filepath.Join(dir, UUID(fs), IntentsFile), os.O_RDONLY, fs)
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, errNotFlat), errors.Is(err, ErrUnsafe):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("look for the log of intents: %w", err)
	}
	return own, file.Close()
}

// openOwn opens the log on the filesystem itself, if it can be overwritten
// without a new block: every block of it is there, written, and nobody else's.
//
// Errors: errNotFlat, [ErrUnsafe], and those of the system calls.
func openOwn(path string, flags int, fsys *ioctl.FS) (*os.File, *OwnLog, error) {
	file, err := openLog(path, flags)
	if err != nil {
		return nil, nil, err
	}
	own, err := flat(file, fsys)
	if err != nil {
		return nil, nil, errors.Join(&fs.PathError{Op: "use", Path: path, Err: err}, file.Close())
	}
	return file, own, nil
}

// flat describes a log that can be overwritten in place.
func flat(file *os.File, fsys *ioctl.FS) (*OwnLog, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		return nil, err
	}
	if uint64(st.Dev) != fsys.Device() { //nolint:unconvert // uint32 on some architectures
		return nil, errNotFlat
	}
	buf := ioctl.NewBmapBuffer(16)
	if err := fsys.Bmap(int(file.Fd()), ioctl.DataFork, buf); err != nil {
		return nil, err
	}
	own := &OwnLog{Ino: ioctl.Ino(st.Ino)}
	const sector = 512
	at := ioctl.DAddr(0)
	for _, r := range buf.Records() {
		if r.Offset != at || !r.HasBlocks() || r.Flags.Has(ioctl.BmapPrealloc) || r.Flags.Has(ioctl.BmapShared) {
			break
		}
		at += r.Length
		own.Extents = append(own.Extents, r)
	}
	if st.Size != logSize || at < logSize/sector {
		return nil, errNotFlat
	}
	return own, nil
}
