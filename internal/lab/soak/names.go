package soak

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// names makes, moves, links and removes names of files of every type.
type names struct {
	*place
	there map[string]named // by path below dir
}

// named is what a name stands for.
type named struct {
	mode uint32 // S_IFMT bits
	says string // target of a link; contents of a file
}

const (
	nameDirs = 4
	maxNames = 300
)

func newNames(p *place) (writer, error) {
	w := &names{place: p, there: make(map[string]named)}
	for i := range nameDirs {
		if err := os.Mkdir(filepath.Join(p.dir, fmt.Sprint("dir", i)), 0o755); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// draw draws a name, of one of several lengths.
func (w *names) draw() (name, path string) {
	n := w.rng.IntN(maxNames)
	name = fmt.Sprintf("dir%d/%d", w.rng.IntN(nameDirs), n)
	if n%3 > 0 {
		name += strings.Repeat("-a-longer-name", n%14)
	}
	return name, filepath.Join(w.dir, name)
}

func (w *names) turn(context.Context) error {
	name, path := w.draw()
	have, ok := w.there[name]
	if !ok {
		return w.add(name, path)
	}
	switch w.rng.IntN(3) {
	case 0:
		delete(w.there, name)
		return os.Remove(path)
	case 1:
		return w.move(name, path, have)
	}
	return w.link(path, have)
}

func (w *names) add(name, path string) error {
	var what named
	var err error
	switch w.rng.IntN(7) {
	case 0:
		what = named{unix.S_IFDIR, ""}
		err = os.Mkdir(path, 0o755)
	case 1:
		what = named{unix.S_IFIFO, ""}
		err = unix.Mkfifo(path, 0o600)
	case 2:
		what = named{unix.S_IFCHR, ""}
		err = unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5)))
	case 3:
		what = named{unix.S_IFLNK, "short"}
		err = os.Symlink(what.says, path)
	case 4:
		what = named{unix.S_IFLNK, longTarget(w.rng.IntN(1000))}
		err = os.Symlink(what.says, path)
	case 5:
		what = named{unix.S_IFSOCK, ""}
		err = unix.Mknod(path, unix.S_IFSOCK|0o600, 0)
	default:
		what = named{unix.S_IFREG, strings.Repeat(name, 1+w.rng.IntN(100))}
		if err = os.WriteFile(path, []byte(what.says), 0o644); err != nil {
			_ = os.Remove(path)
		}
	}
	if err == nil {
		w.there[name] = what
	}
	return err
}

// move renames, over what is there, or swaps the two.
func (w *names) move(name, path string, have named) error {
	to, toPath := w.draw()
	other, ok := w.there[to]
	switch {
	case to == name:
		return nil
	case ok && w.rng.IntN(2) == 0:
		if err := unix.Renameat2(unix.AT_FDCWD, path, unix.AT_FDCWD, toPath, unix.RENAME_EXCHANGE); err != nil {
			return err
		}
		w.there[name], w.there[to] = other, have
		return nil
	case ok && (other.mode == unix.S_IFDIR) != (have.mode == unix.S_IFDIR):
		return nil
	}
	// Two names of one inode: rename does nothing.
	if same, err := sameFile(path, toPath); same || err != nil {
		return err
	}
	// os.Rename refuses to replace a directory.
	if err := unix.Rename(path, toPath); err != nil {
		return err
	}
	delete(w.there, name)
	w.there[to] = have
	return nil
}

func sameFile(a, b string) (bool, error) {
	sa, err := os.Lstat(a)
	if err != nil {
		return false, err
	}
	sb, err := os.Lstat(b)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(sa, sb), err
}

func (w *names) link(path string, have named) error {
	to, toPath := w.draw()
	if _, ok := w.there[to]; ok || have.mode == unix.S_IFDIR {
		return nil
	}
	if err := os.Link(path, toPath); err != nil {
		return err
	}
	w.there[to] = have
	return nil
}

func (w *names) room() error {
	for i, name := range slices.Sorted(maps.Keys(w.there)) {
		if err := os.Remove(filepath.Join(w.dir, name)); err != nil {
			return err
		}
		delete(w.there, name)
		if i == 50 {
			break
		}
	}
	return nil
}

func (w *names) close() error { return nil }

func (w *names) check() error {
	var errs []error
	found := 0
	for i := range nameDirs {
		list, err := os.ReadDir(filepath.Join(w.dir, fmt.Sprint("dir", i)))
		errs = append(errs, err)
		found += len(list)
	}
	if found != len(w.there) {
		errs = append(errs, fmt.Errorf("%s: %d names, want %d", w.dir, found, len(w.there)))
	}
	for name, want := range w.there {
		if err := want.check(filepath.Join(w.dir, name)); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (n named) check(path string) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != n.mode {
		return fmt.Errorf("%s: mode %o, want %o", path, st.Mode, n.mode)
	}
	says := ""
	var err error
	switch n.mode {
	case unix.S_IFLNK:
		says, err = os.Readlink(path)
	case unix.S_IFREG:
		var data []byte
		data, err = os.ReadFile(path)
		says = string(data)
	}
	if err == nil && says != n.says {
		err = errors.New("says something else")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// bigDirectory grows a directory until its fork is a btree, and empties it. A
// file that is written in between keeps its blocks apart.
type bigDirectory struct {
	*place
	apart   *file
	names   int // how many there are
	growing bool
}

// maxBig is how many names the directory gets.
const maxBig = 6000

func newBigDirectory(p *place) (writer, error) {
	if err := os.Mkdir(filepath.Join(p.dir, "big"), 0o755); err != nil {
		return nil, err
	}
	f, err := createFile(filepath.Join(p.dir, "apart"))
	return &bigDirectory{place: p, apart: f, growing: true}, err
}

func (w *bigDirectory) path(i int) string {
	return filepath.Join(w.dir, "big", fmt.Sprintf("%06d-%s", i, strings.Repeat("x", 40+i%150)))
}

func (w *bigDirectory) turn(context.Context) error {
	if !w.growing {
		return w.shrink(20)
	}
	for range 20 {
		if err := unix.Mknod(w.path(w.names), unix.S_IFIFO|0o600, 0); err != nil {
			return err
		}
		w.names++
	}
	if w.names >= maxBig {
		w.growing = false
	}
	if len(w.apart.holds) > maxUnits {
		if err := w.apart.Truncate(0); err != nil {
			return err
		}
		w.apart.holds = nil
	}
	if err := w.apart.write(len(w.apart.holds), fresh(w.rng, w.block)); err != nil {
		return errors.Join(err, w.room())
	}
	return w.apart.Sync()
}

func (w *bigDirectory) shrink(n int) error {
	for ; n > 0 && w.names > 0; n-- {
		w.names--
		if err := os.Remove(w.path(w.names)); err != nil {
			return err
		}
	}
	w.growing = w.growing || w.names == 0
	return nil
}

func (w *bigDirectory) room() (err error) {
	w.apart, err = w.apart.renew()
	return errors.Join(err, w.shrink(w.names))
}

func (w *bigDirectory) close() error { return w.apart.Close() }

func (w *bigDirectory) check() error {
	list, err := os.ReadDir(filepath.Join(w.dir, "big"))
	if err == nil && len(list) != w.names {
		err = fmt.Errorf("%s: %d names, want %d", w.dir, len(list), w.names)
	}
	for i := range w.names {
		if _, serr := os.Lstat(w.path(i)); serr != nil {
			err = errors.Join(err, serr)
		}
	}
	return errors.Join(err, w.apart.check())
}
