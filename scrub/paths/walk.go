package paths

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"golang.org/x/sys/unix"

	"github.com/scrubd/scrubd/ioctl"
)

// walker reads directories from the root down. It keeps open the directories
// on the way to the one that it reads, and no list of those still to come, so
// that the size of a directory does not matter.
type walker struct {
	fs     *ioctl.FS
	stat   *ioctl.BulkstatBuffer
	wanted map[ioctl.Ino]int // names still to be found
	found  map[ioctl.Ino][]string
	// above are the directories on the way, for loops.
	above map[ioctl.Ino]bool
	// left bounds the directories read.
	left uint64
}

// walkDepth bounds the directories kept open.
const walkDepth = 256

// errFound ends a walk that has found all that there is to find.
var errFound = errors.New("everything was found")

func byWalk(ctx context.Context, fs *ioctl.FS, inos map[ioctl.Ino]ioctl.Gen, found map[ioctl.Ino][]string) error {
	w := &walker{
		fs: fs, stat: ioctl.NewBulkstatBuffer(1), found: found,
		wanted: make(map[ioctl.Ino]int, len(inos)), above: make(map[ioctl.Ino]bool),
	}
	if err := w.want(ctx, inos); err != nil || len(w.wanted) == 0 {
		return err
	}
	counts, err := fs.Counts()
	if err != nil {
		return err
	}
	w.left = 2*counts.AllocIno + 1000
	fd, err := w.openRoot()
	if err != nil {
		return err
	}
	defer fs.CloseFD(fd)
	err = w.read(ctx, fd, fs.RootIno(), "", 1)
	if errors.Is(err, errFound) {
		return nil
	}
	return err
}

// openRoot opens the root directory, to be closed by the caller.
func (w *walker) openRoot() (int, error) {
	root, err := w.record(w.fs.RootIno())
	if err != nil {
		return -1, err
	}
	if root == nil {
		return -1, fmt.Errorf("look up the root directory: %w", ioctl.ErrNoEntry)
	}
	return w.fs.OpenFD(root.Ino, root.Gen)
}

// record returns what BULKSTAT says of an inode, nil when it says nothing.
func (w *walker) record(ino ioctl.Ino) (*ioctl.BulkstatRecord, error) {
	req := ioctl.BulkRequest{Ino: ino, Limit: 1}
	n, err := w.fs.Bulkstat(&req, w.stat)
	switch {
	case err != nil && endsRun(err):
		return nil, err
	case err != nil || n == 0 || w.stat.Records()[0].Ino != ino:
		return nil, nil
	}
	rec := w.stat.Records()[0]
	return &rec, nil
}

// want finds out how many names there are to be found. An inode that cannot be
// looked up may have names all the same, of which one is enough.
func (w *walker) want(ctx context.Context, inos map[ioctl.Ino]ioctl.Gen) error {
	for ino, gen := range inos {
		if err := ctx.Err(); err != nil {
			return err
		}
		if ino == w.fs.RootIno() {
			w.found[ino] = []string{"."}
			continue
		}
		rec, err := w.record(ino)
		switch {
		case err != nil:
			return err
		case rec == nil:
			w.wanted[ino] = 1
		case rec.Gen != gen:
			// Freed, and its number given to another file.
		case rec.Type() == unix.S_IFDIR:
			w.wanted[ino] = 1
		case rec.Nlink > 0:
			w.wanted[ino] = int(min(rec.Nlink, MaxNames))
		}
	}
	return nil
}

// read goes through one directory, and through those in it as it meets them.
// path ends in a slash, or is empty for the root.
func (w *walker) read(ctx context.Context, fd int, ino ioctl.Ino, path string, depth int) error {
	if w.left == 0 {
		return ErrTooManyEntries
	}
	w.left--
	w.above[ino] = true
	defer delete(w.above, ino)
	buf := make([]byte, 32<<10)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := unix.Getdents(fd, buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n <= 0 {
			// A directory that cannot be read: the scrub of it says so.
			return w.fatal(err)
		}
		for entry := range dirents(buf[:n]) {
			if err := w.entry(ctx, fd, entry, path, depth); err != nil {
				return err
			}
		}
	}
}

// entry notes a name that is wanted, and enters a directory.
func (w *walker) entry(ctx context.Context, fd int, e dirent, path string, depth int) error {
	if e.name == "." || e.name == ".." {
		return nil
	}
	if missing, ok := w.wanted[e.ino]; ok {
		w.found[e.ino] = append(w.found[e.ino], path+e.name)
		if missing > 1 {
			w.wanted[e.ino] = missing - 1
		} else if delete(w.wanted, e.ino); len(w.wanted) == 0 {
			return errFound
		}
	}
	if e.kind != unix.DT_DIR && e.kind != unix.DT_UNKNOWN || w.above[e.ino] || depth >= walkDepth {
		return nil
	}
	sub, err := w.open(fd, e)
	if err != nil || sub < 0 {
		return err
	}
	defer w.fs.CloseFD(sub)
	return w.read(ctx, sub, e.ino, path+e.name+"/", depth+1)
}

// open opens a directory by its name, or -1 where it cannot be. Where something
// is mounted on it, what lies below is opened by handle, which is slower: the
// kernel then has to find the way to it.
func (w *walker) open(fd int, e dirent) (int, error) {
	sub, err := unix.Openat2(fd, e.name, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_NOATIME | unix.O_NONBLOCK | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_SYMLINKS,
	})
	switch {
	case err == nil:
		return sub, nil
	case errors.Is(err, unix.EXDEV), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EPERM):
		// Mounted on; before Linux 5.6; filtered by a sandbox.
		return w.openByHandle(e.ino)
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
		return -1, fmt.Errorf("open directory inode %d: %w", e.ino, err)
	}
	return -1, w.fatal(err)
}

func (w *walker) openByHandle(ino ioctl.Ino) (int, error) {
	rec, err := w.record(ino)
	if err != nil || rec == nil || rec.Type() != unix.S_IFDIR {
		return -1, err
	}
	sub, err := w.fs.OpenFD(rec.Ino, rec.Gen)
	if err != nil {
		if endsRun(err) && !errors.Is(err, ioctl.ErrPrivilege) {
			return -1, err
		}
		return -1, nil // refused by somebody, or gone
	}
	return sub, nil
}

// fatal keeps an error of a system call only where the filesystem is down.
func (w *walker) fatal(err error) error {
	if errors.Is(err, unix.EIO) || errors.Is(err, unix.ESHUTDOWN) {
		if _, statErr := w.record(w.fs.RootIno()); statErr != nil {
			return statErr
		}
	}
	return nil
}

// dirent is one entry of a directory.
type dirent struct {
	ino  ioctl.Ino
	kind byte // unix.DT_*
	name string
}

// Offsets in struct linux_dirent64; after an inode number, a position and a
// length comes a type, then the name with a NUL behind it.
const (
	direntLen  = 16
	direntType = 18
	direntName = 19
)

// dirents are the entries of a buffer that getdents64(2) filled. It ends at the
// first one that is cut off.
func dirents(buf []byte) func(yield func(dirent) bool) {
	return func(yield func(dirent) bool) {
		for len(buf) > direntName {
			length := int(binary.NativeEndian.Uint16(buf[direntLen:]))
			if length <= direntName || length > len(buf) {
				return
			}
			name := buf[direntName:length]
			for i, c := range name {
				if c == 0 {
					name = name[:i]
					break
				}
			}
			ino := binary.NativeEndian.Uint64(buf)
			if ino != 0 && ino != math.MaxUint64 && !yield(dirent{ioctl.Ino(ino), buf[direntType], string(name)}) {
				return
			}
			buf = buf[length:]
		}
	}
}
