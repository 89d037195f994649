package lab

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Snapshot is what every file of a tree reads: names, types, sizes, owners,
// attributes and a checksum of every byte. Entries are sorted by path.
// Timestamps are left out, for a read changes them, and so is the layout.
type Snapshot struct {
	Entries []SnapshotEntry `json:"entries"`
}

// SnapshotEntry is one name. A part that cannot be read holds the error in
// angle brackets, such as "<structure needs cleaning>", so that it differs
// from every readable state and is equal to the same failure.
type SnapshotEntry struct {
	Path   string            `json:"path"` // relative to the tree, "." for its root
	Ino    uint64            `json:"ino"`  // for finding the file; not compared
	Type   string            `json:"type"` // file, directory, symlink, fifo, socket, block, character, or an error
	Mode   uint32            `json:"mode"` // permission bits with setuid, setgid and sticky
	UID    uint32            `json:"uid"`
	GID    uint32            `json:"gid"`
	Nlink  uint64            `json:"nlink"`
	Size   int64             `json:"size"`             // bytes; 0 for directories, whose size is layout
	Rdev   uint64            `json:"rdev,omitempty"`   // of device nodes
	Data   string            `json:"data,omitempty"`   // SHA-256 of the contents, of files
	Target string            `json:"target,omitempty"` // of symlinks
	List   string            `json:"list,omitempty"`   // error of reading the directory
	Attrs  map[string]string `json:"attrs,omitempty"`  // name to hex value, or its SHA-256 when longer than 64 bytes
}

// TakeSnapshot reads everything below dir, which stays on one filesystem.
// Files that cannot be read are recorded with the error as their content; an
// error is returned only if dir itself cannot be reached.
func TakeSnapshot(dir string) (Snapshot, error) {
	var snap Snapshot
	var top unix.Stat_t
	if err := unix.Lstat(dir, &top); err != nil {
		return snap, fmt.Errorf("take a snapshot of %s: %w", dir, err)
	}
	s := snapshotter{dir: dir, dev: top.Dev, buf: make([]byte, 1<<20), linked: make(map[uint64]contents)}
	s.visit(".", &snap.Entries)
	slices.SortFunc(snap.Entries, func(a, b SnapshotEntry) int { return strings.Compare(a.Path, b.Path) })
	return snap, nil
}

type snapshotter struct {
	dir    string
	dev    uint64
	buf    []byte
	linked map[uint64]contents // by inode number, of files that have several names
}

// contents is what every name of a file shares and what is slow to read.
type contents struct {
	data  string
	attrs map[string]string
}

// read returns what a name's inode holds, once for all names.
func (s *snapshotter) read(path string, st *unix.Stat_t) contents {
	if c, ok := s.linked[st.Ino]; ok {
		return c
	}
	c := contents{attrs: readAttrs(path)}
	if st.Mode&unix.S_IFMT == unix.S_IFREG {
		c.data = s.checksum(path)
	}
	if st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		s.linked[st.Ino] = c
	}
	return c
}

// visit records one name and what is below it.
func (s *snapshotter) visit(rel string, out *[]SnapshotEntry) {
	path := filepath.Join(s.dir, rel)
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		*out = append(*out, SnapshotEntry{Path: rel, Type: unreadable(err)})
		return
	}
	if st.Dev != s.dev {
		return
	}
	c := s.read(path, &st)
	e := SnapshotEntry{
		Path: rel, Ino: st.Ino, Mode: st.Mode &^ unix.S_IFMT, UID: st.Uid, GID: st.Gid, Nlink: uint64(st.Nlink), Size: st.Size,
		Data: c.data, Attrs: c.attrs,
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		e.Type = "file"
	case unix.S_IFDIR:
		e.Type, e.Size = "directory", 0
	case unix.S_IFLNK:
		e.Type = "symlink"
		target, err := os.Readlink(path)
		if err != nil {
			target = unreadable(err)
		}
		e.Target = target
	case unix.S_IFIFO:
		e.Type = "fifo"
	case unix.S_IFSOCK:
		e.Type = "socket"
	case unix.S_IFBLK:
		e.Type, e.Rdev = "block", st.Rdev
	case unix.S_IFCHR:
		e.Type, e.Rdev = "character", st.Rdev
	default:
		e.Type = fmt.Sprintf("<mode %#o>", st.Mode)
	}
	if e.Type != "directory" {
		*out = append(*out, e)
		return
	}
	// ReadDir returns the names it got before an error.
	children, err := os.ReadDir(path)
	if err != nil {
		e.List = unreadable(err)
	}
	*out = append(*out, e)
	for _, c := range children {
		s.visit(filepath.Join(rel, c.Name()), out)
	}
}

// checksum returns the SHA-256 of a file's bytes, or the first error and how
// many bytes came before it.
func (s *snapshotter) checksum(path string) string {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NOATIME|unix.O_NONBLOCK, 0)
	if err != nil {
		return unreadable(err)
	}
	defer unix.Close(fd)
	h := sha256.New()
	for off := int64(0); ; {
		n, err := unix.Pread(fd, s.buf, off)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Sprintf("%s after %d bytes", unreadable(err), off)
		case n == 0:
			return hex.EncodeToString(h.Sum(nil))
		default:
			_, _ = h.Write(s.buf[:n]) // a hash never fails
			off += int64(n)
		}
	}
}

// attrInline is the longest attribute value in bytes that is kept as it is.
const attrInline = 64

// readAttrs returns all extended attributes, ACLs included.
func readAttrs(path string) map[string]string {
	names, err := readSized(func(p []byte) (int, error) { return unix.Llistxattr(path, p) })
	if err != nil {
		return map[string]string{"": unreadable(err)}
	}
	if len(names) == 0 {
		return nil
	}
	attrs := make(map[string]string)
	for name := range bytes.SplitSeq(bytes.TrimSuffix(names, []byte{0}), []byte{0}) {
		value, err := readSized(func(p []byte) (int, error) { return unix.Lgetxattr(path, string(name), p) })
		switch {
		case err != nil:
			attrs[string(name)] = unreadable(err)
		case len(value) > attrInline:
			sum := sha256.Sum256(value)
			attrs[string(name)] = fmt.Sprintf("%d bytes sha256:%x", len(value), sum)
		default:
			attrs[string(name)] = hex.EncodeToString(value)
		}
	}
	return attrs
}

// readSized calls a getter of unknown size until its buffer is large enough.
func readSized(get func(p []byte) (int, error)) ([]byte, error) {
	for size := 1024; ; size *= 4 {
		buf := make([]byte, size)
		n, err := get(buf)
		if errors.Is(err, unix.ERANGE) && size < 1<<20 {
			continue
		}
		if err != nil {
			return nil, err
		}
		return buf[:n], nil
	}
}

// unreadable is how an error stands in the place of a value: without the
// path, so that snapshots of two mounts can be compared.
func unreadable(err error) string {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return "<" + errno.Error() + ">"
	}
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return "<" + err.Error() + ">"
}

// Get returns the entry at a relative path.
func (s Snapshot) Get(path string) (SnapshotEntry, bool) {
	i, ok := slices.BinarySearchFunc(s.Entries, path, func(e SnapshotEntry, p string) int { return strings.Compare(e.Path, p) })
	if !ok {
		return SnapshotEntry{}, false
	}
	return s.Entries[i], true
}

// PathsOf returns the names of an inode, sorted.
func (s Snapshot) PathsOf(ino uint64) []string {
	var paths []string
	for _, e := range s.Entries {
		if e.Ino == ino {
			paths = append(paths, e.Path)
		}
	}
	return paths
}

// Save writes the snapshot as JSON.
func (s Snapshot) Save(w io.Writer) error {
	if err := json.NewEncoder(w).Encode(s); err != nil {
		return fmt.Errorf("save snapshot: %w", err)
	}
	return nil
}

// LoadSnapshot reads what Save wrote.
func LoadSnapshot(r io.Reader) (Snapshot, error) {
	var s Snapshot
	if err := json.NewDecoder(r).Decode(&s); err != nil {
		return Snapshot{}, fmt.Errorf("load snapshot: %w", err)
	}
	return s, nil
}
