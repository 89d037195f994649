package soak

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// attributes sets, changes and removes attributes of files of every type: some
// within the inode, some in blocks of the attr fork, some with blocks for a
// value alone.
type attributes struct {
	*place
	things []*attributed
}

// attributed is a file and the attributes that it has.
type attributed struct {
	path  string
	attrs map[string][]byte
	isDir bool
	reg   bool
}

// maxAttrs is how many attributes a file gets at most: enough for a btree of names.
const maxAttrs = 120

func newAttributes(p *place) (writer, error) {
	w := &attributes{place: p}
	add := func(name string, create func(path string) error) error {
		t := &attributed{path: filepath.Join(p.dir, name), attrs: map[string][]byte{}}
		if err := create(t.path); err != nil {
			return err
		}
		st, err := os.Lstat(t.path)
		if err != nil {
			return err
		}
		t.isDir, t.reg = st.IsDir(), st.Mode().IsRegular()
		w.things = append(w.things, t)
		return nil
	}
	var errs []error
	for i := range 6 {
		errs = append(errs, add(fmt.Sprint("file", i), func(path string) error { return os.WriteFile(path, []byte("data"), 0o644) }))
	}
	for i := range 2 {
		errs = append(errs,
			add(fmt.Sprint("dir", i), func(path string) error { return os.Mkdir(path, 0o755) }),
			add(fmt.Sprint("link", i), func(path string) error { return os.Symlink("target", path) }),
			add(fmt.Sprint("remote", i), func(path string) error { return os.Symlink(longTarget(i), path) }),
			add(fmt.Sprint("fifo", i), func(path string) error { return unix.Mkfifo(path, 0o644) }),
			add(fmt.Sprint("device", i), func(path string) error { return unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))) }))
	}
	return w, errors.Join(errs...)
}

// longTarget is a link target that does not fit into an inode.
func longTarget(i int) string { return strings.Repeat("/directory", 60) + fmt.Sprint(i) }

func (w *attributes) turn(context.Context) error {
	t := w.things[w.rng.IntN(len(w.things))]
	switch pick := w.rng.IntN(20); {
	case pick == 0:
		return w.clear(t)
	case pick == 1 && (t.reg || t.isDir):
		return w.setACL(t)
	case pick == 2:
		return unix.Lchown(t.path, 1000+w.rng.IntN(4), 1000+w.rng.IntN(4))
	case pick < 7:
		if names := t.names(); len(names) > 0 {
			return w.remove(t, names[w.rng.IntN(len(names))])
		}
	}
	// Only root's names are allowed on everything.
	name := fmt.Sprintf("trusted.attribute-%03d", w.rng.IntN(maxAttrs))
	n := 1 + w.rng.IntN(40)
	switch w.rng.IntN(6) {
	case 0:
		n = 3000 + w.rng.IntN(20_000) // blocks of its own
	case 1, 2:
		n = 200 + w.rng.IntN(600)
	}
	value := make([]byte, (n+unitSize-1)/unitSize*unitSize)
	fresh(w.rng, len(value)/unitSize).expand(value)
	value = value[:n]
	if err := unix.Lsetxattr(t.path, name, value, 0); err != nil {
		return err // the old value is there as before
	}
	t.attrs[name] = value
	return nil
}

func (w *attributes) remove(t *attributed, name string) error {
	if err := unix.Lremovexattr(t.path, name); err != nil {
		return err
	}
	delete(t.attrs, name)
	return nil
}

func (w *attributes) clear(t *attributed) error {
	for _, name := range t.names() {
		if err := w.remove(t, name); err != nil {
			return err
		}
	}
	return nil
}

// names lists the attributes in an order that a seed repeats.
func (t *attributed) names() []string { return slices.Sorted(maps.Keys(t.attrs)) }

func (w *attributes) room() error { return w.clear(w.things[w.rng.IntN(len(w.things))]) }

// The version and the tags of an ACL as an attribute.
//
// Source: include/uapi/linux/posix_acl_xattr.h, posix_acl.h.
const (
	aclVersion   = 2
	aclUserObj   = 0x01
	aclUser      = 0x02
	aclGroupObj  = 0x04
	aclMask      = 0x10
	aclOther     = 0x20
	aclUndefined = 0xffffffff
)

// setACL gives a file or directory an access ACL for some users.
func (w *attributes) setACL(t *attributed) error {
	acl := binary.LittleEndian.AppendUint32(nil, aclVersion)
	entry := func(tag, perm uint16, id uint32) {
		acl = binary.LittleEndian.AppendUint16(acl, tag)
		acl = binary.LittleEndian.AppendUint16(acl, perm)
		acl = binary.LittleEndian.AppendUint32(acl, id)
	}
	entry(aclUserObj, 7, aclUndefined)
	for i := range 1 + w.rng.IntN(20) {
		entry(aclUser, uint16(w.rng.IntN(8)), uint32(1000+i))
	}
	entry(aclGroupObj, 5, aclUndefined)
	entry(aclMask, 7, aclUndefined)
	entry(aclOther, 4, aclUndefined)
	if err := unix.Setxattr(t.path, aclName, acl, 0); err != nil {
		return err
	}
	t.attrs[aclName] = acl
	return nil
}

const aclName = "system.posix_acl_access"

func (w *attributes) close() error { return nil }

func (w *attributes) check() error {
	var errs []error
	for _, t := range w.things {
		if err := t.check(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", t.path, err))
		}
	}
	return errors.Join(errs...)
}

func (t *attributed) check() error {
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(t.path, buf)
	if err != nil {
		return err
	}
	// XFS lists an ACL a second time, by the name that it is stored under.
	there := bytes.Count(buf[:n], []byte{0}) - bytes.Count(buf[:n], []byte("trusted.SGI_ACL_"))
	if there != len(t.attrs) {
		return fmt.Errorf("%d attributes, want %d", there, len(t.attrs))
	}
	for name, want := range t.attrs {
		n, err := unix.Lgetxattr(t.path, name, buf)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if !bytes.Equal(buf[:n], want) {
			return fmt.Errorf("%s has another value", name)
		}
	}
	return nil
}
