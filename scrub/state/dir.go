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

// Where the directories of the filesystems are.
const (
	// DefaultDir is used when the user has chosen no other.
	DefaultDir = "/var/lib/scrubd"
	// RuntimeDir is used instead of one on the filesystem under repair. What is
	// there is gone after a reboot.
	RuntimeDir = "/run/scrubd"
)

const (
	dirMode  = 0o700
	fileMode = 0o600
)

var (
	// ErrOwnFilesystem is a place for evidence that lies on the filesystem under
	// repair, with no other to go to.
	ErrOwnFilesystem = errors.New("the state directory lies on the filesystem under repair")
	// ErrUnsafe is a state directory that others could have prepared, or could
	// change: a symbolic link, another owner, or writable by others.
	ErrUnsafe = errors.New("the state directory is not safe")
	// ErrBadName is a name that would leave its directory, or be hidden in it.
	ErrBadName = errors.New("not a plain name")
)

// Dir is the state directory of one filesystem.
type Dir struct {
	fs   *ioctl.FS
	root *os.Root
	path string
	// moved is the directory that was asked for, if it is not this one.
	moved string
}

// places are those that Open tries; tests have their own.
type places struct{ standard, runtime string }

// Open makes and opens the state directory of a filesystem: <dir>/<uuid>, where
// an empty dir is [DefaultDir]. If dir lies on that filesystem, it is
// <[RuntimeDir]>/<uuid> instead, and [Dir.Moved] says so.
//
// Errors: [ErrOwnFilesystem], [ErrUnsafe], and those of the system calls, such
// as fs.ErrPermission and EROFS.
func Open(dir string, fs *ioctl.FS) (*Dir, error) {
	return places{DefaultDir, RuntimeDir}.open(dir, fs)
}

func (p places) open(dir string, fs *ioctl.FS) (*Dir, error) {
	if dir == "" {
		dir = p.standard
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open state directory: %w", err)
	}
	moved := ""
	own, err := LiesOn(dir, fs.Device())
	if err != nil {
		return nil, fmt.Errorf("open state directory: %w", err)
	}
	if own {
		moved, dir = dir, p.runtime
		if own, err = LiesOn(dir, fs.Device()); err != nil {
			return nil, fmt.Errorf("open state directory: %w", err)
		}
		if own {
			return nil, fmt.Errorf("open state directory: %s and %s: %w", moved, dir, ErrOwnFilesystem)
		}
	}
	path := filepath.Join(dir, UUID(fs))
	root, err := openPrivate(dir, path)
	if err != nil {
		return nil, fmt.Errorf("open state directory: %w", err)
	}
	return &Dir{fs: fs, root: root, path: path, moved: moved}, nil
}

// UUID returns the filesystem's UUID as xfs_admin prints it.
func UUID(fs *ioctl.FS) string {
	u := fs.Geometry().UUID
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:16])
}

// Path returns the directory.
func (d *Dir) Path() string { return d.path }

// Moved returns the directory that was asked for and that lies on the
// filesystem under repair; empty if this is the one that was asked for.
func (d *Dir) Moved() string { return d.moved }

// Close gives the directory back. Evidence that is still open stays usable.
func (d *Dir) Close() error {
	if err := d.root.Close(); err != nil {
		return fmt.Errorf("close state directory: %w", err)
	}
	return nil
}

// LiesOn says whether a path, or what there is of it, is on a device as stat(2)
// gives it.
func LiesOn(path string, device uint64) (bool, error) {
	for {
		var st unix.Stat_t
		err := unix.Stat(path, &st)
		switch {
		case err == nil:
			return uint64(st.Dev) == device, nil //nolint:unconvert // uint32 on some architectures
		case errors.Is(err, unix.ENOENT) && path != "/":
			path = filepath.Dir(path)
		default:
			return false, &fs.PathError{Op: "stat", Path: path, Err: err}
		}
	}
}

// openPrivate makes what is missing of parent, and below it the directory path,
// which has to be a directory of this user that nobody else can write to.
func openPrivate(parent, path string) (*os.Root, error) {
	if err := makeAll(parent); err != nil {
		return nil, err
	}
	err := os.Mkdir(path, dirMode)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	if err == nil {
		if err := syncDir(parent); err != nil {
			return nil, err
		}
	}
	// What is checked is what is opened, and not what has that name later.
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) {
		return nil, fmt.Errorf("%s is not a directory: %w", path, ErrUnsafe)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	if int(st.Uid) != os.Geteuid() {
		return nil, fmt.Errorf("%s belongs to user %d: %w", path, st.Uid, ErrUnsafe)
	}
	if st.Mode&0o022 != 0 {
		return nil, fmt.Errorf("%s is writable by others (mode %04o): %w", path, st.Mode&0o7777, ErrUnsafe)
	}
	if st.Mode&0o077 != 0 {
		if err := unix.Fchmod(fd, dirMode); err != nil {
			return nil, &fs.PathError{Op: "chmod", Path: path, Err: err}
		}
	}
	root, err := os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", fd))
	if errors.Is(err, fs.ErrNotExist) { // no /proc
		root, err = os.OpenRoot(path)
	}
	return root, err
}

// makeAll makes the missing directories of a path, and has each one's name on
// disk.
func makeAll(path string) error {
	err := os.Mkdir(path, dirMode)
	switch {
	case err == nil:
		return syncDir(filepath.Dir(path))
	case errors.Is(err, fs.ErrExist):
		return nil
	case errors.Is(err, fs.ErrNotExist) && path != "/":
		if err := makeAll(filepath.Dir(path)); err != nil {
			return err
		}
		// Once more, and no further: /proc says the same of a parent that is there.
		if err := os.Mkdir(path, dirMode); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		return syncDir(filepath.Dir(path))
	}
	return err
}

// syncDir has the names in a directory on disk.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// checkName accepts a file name of the usual characters that is not hidden.
func checkName(kind, name string) error {
	ok := name != "" && len(name) <= 128 && name[0] != '.'
	for i := 0; ok && i < len(name); i++ {
		switch c := name[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '-', c == '_':
		default:
			ok = false
		}
	}
	if !ok {
		return fmt.Errorf("%s %q: %w", kind, name, ErrBadName)
	}
	return nil
}
