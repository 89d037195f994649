package soak

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// The writers of this file repeat one pair of changes on one file as fast as
// they can: what one reader sees of it is what another does not, again and again.

// hotFile is one file that is changed all the time.
type hotFile struct {
	*place
	f    *file
	once func(w *hotFile) error
}

func newHotFile(p *place, once func(w *hotFile) error) (writer, error) {
	f, err := createFile(filepath.Join(p.dir, "hot"))
	return &hotFile{place: p, f: f, once: once}, err
}

func (w *hotFile) turn(context.Context) error {
	err := w.once(w)
	if noSpace(err) {
		return errors.Join(err, w.room())
	}
	return err
}

func (w *hotFile) room() (err error) {
	w.f, err = w.f.renew()
	return err
}

func (w *hotFile) close() error { return w.f.Close() }
func (w *hotFile) check() error { return w.f.check() }

// hotUnits is 1 MiB.
const hotUnits = 1 << 20 / unitSize

func (w *hotFile) punchAll() error {
	err := w.f.allocate(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, hotUnits)
	w.f.holds.zero(0, hotUnits)
	return err
}

func newFallocPunch(p *place) (writer, error) {
	return newHotFile(p, func(w *hotFile) error {
		n := 128 * (1 + w.rng.IntN(8))
		if err := w.f.allocate(0, 0, n); err != nil {
			return err
		}
		if n > len(w.f.holds) {
			w.f.holds = w.f.holds.resize(n)
		}
		return w.punchAll()
	})
}

func newClonePunch(p *place) (writer, error) {
	return newHotFile(p, func(w *hotFile) error {
		n := 128
		if err := w.f.cloneRange(w.golden, n*w.rng.IntN(8), n, n*w.rng.IntN(8)); err != nil {
			return err
		}
		// A rewrite of some of it is copied first.
		if w.rng.IntN(4) == 0 {
			if err := w.f.write(n*w.rng.IntN(8), fresh(w.rng, 1+w.rng.IntN(n))); err != nil {
				return err
			}
			if err := w.f.Sync(); err != nil {
				return err
			}
		}
		return w.punchAll()
	})
}

func newAppendTruncate(p *place) (writer, error) {
	return newHotFile(p, func(w *hotFile) error {
		if err := w.f.write(len(w.f.holds), fresh(w.rng, 1+w.rng.IntN(400))); err != nil {
			return err
		}
		if w.rng.IntN(3) == 0 {
			if err := w.f.Sync(); err != nil {
				return err
			}
		}
		if len(w.f.holds) > 8*hotUnits || w.rng.IntN(5) == 0 {
			n := w.rng.IntN(200)
			if err := w.f.Truncate(int64(n) * unitSize); err != nil {
				return err
			}
			w.f.holds = w.f.holds.resize(n)
		}
		return nil
	})
}

func newSetRemove(p *place) (writer, error) {
	value := make([]byte, 12<<10)
	return newHotFile(p, func(w *hotFile) error {
		n := 3000
		if w.rng.IntN(4) == 0 {
			n = len(value)
		}
		if err := unix.Fsetxattr(w.f.fd(), "user.hot", value[:n], 0); err != nil {
			return err
		}
		return unix.Fremovexattr(w.f.fd(), "user.hot")
	})
}

// nameless has files without a name: made so, or unlinked while open.
type nameless struct {
	*place
	open []*file
}

const maxNameless = 12

func newNameless(p *place) (writer, error) { return &nameless{place: p}, nil }

func (w *nameless) turn(context.Context) error {
	if len(w.open) == maxNameless {
		return w.drop(w.rng.IntN(len(w.open)))
	}
	f, err := w.make()
	if err != nil {
		return err
	}
	w.open = append(w.open, f)
	for range 1 + w.rng.IntN(8) {
		if err := f.write(w.rng.IntN(hotUnits), fresh(w.rng, 1+w.rng.IntN(64))); err != nil {
			return err
		}
	}
	if w.rng.IntN(2) == 0 {
		return f.Sync()
	}
	return nil
}

func (w *nameless) make() (*file, error) {
	if w.rng.IntN(2) == 0 {
		f, err := createFile(filepath.Join(w.dir, "unlinked"))
		if err != nil {
			return nil, err
		}
		return f, os.Remove(f.path)
	}
	out, err := os.OpenFile(w.dir, unix.O_TMPFILE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	return &file{File: out, path: w.dir + " (O_TMPFILE)"}, nil
}

// drop compares a file with what it should hold, and closes it for good.
func (w *nameless) drop(i int) error {
	f := w.open[i]
	w.open = append(w.open[:i], w.open[i+1:]...)
	return errors.Join(f.checkOpen(f.File), f.Close())
}

func (w *nameless) room() error {
	for len(w.open) > 0 {
		last := len(w.open) - 1
		// A write that found no space may have left a part.
		if err := w.open[last].Close(); err != nil {
			return err
		}
		w.open = w.open[:last]
	}
	return nil
}

func (w *nameless) close() error {
	var errs []error
	for len(w.open) > 0 {
		errs = append(errs, w.drop(0))
	}
	return errors.Join(errs...)
}

func (w *nameless) check() error {
	left, err := os.ReadDir(w.dir)
	if err == nil && len(left) > 0 {
		err = errors.New(w.dir + ": a file that was unlinked is there")
	}
	return err
}

// smallFiles makes and removes many small files: inode chunks come and go.
type smallFiles struct {
	*place
	holds map[string]content
}

// maxSmall is how many names it uses.
const maxSmall = 1500

func newSmallFiles(p *place) (writer, error) {
	return &smallFiles{place: p, holds: make(map[string]content)}, nil
}

func (w *smallFiles) turn(context.Context) error {
	name := smallName(w.rng.IntN(maxSmall))
	path := filepath.Join(w.dir, name)
	if _, ok := w.holds[name]; ok {
		delete(w.holds, name)
		return os.Remove(path)
	}
	f, err := createFile(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.write(0, fresh(w.rng, w.rng.IntN(48))); err != nil {
		_ = os.Remove(path)
		return err
	}
	w.holds[name] = f.holds
	if w.rng.IntN(100) == 0 {
		return w.room()
	}
	return nil
}

func smallName(i int) string { return fmt.Sprintf("small%04d", i) }

// room removes all of them.
func (w *smallFiles) room() error {
	for i := range maxSmall {
		name := smallName(i)
		if _, ok := w.holds[name]; ok {
			delete(w.holds, name)
			if err := os.Remove(filepath.Join(w.dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *smallFiles) close() error { return nil }

func (w *smallFiles) check() error {
	var errs []error
	for name, holds := range w.holds {
		f := &file{path: filepath.Join(w.dir, name), holds: holds}
		errs = append(errs, f.check())
	}
	left, err := os.ReadDir(w.dir)
	if len(left) != len(w.holds) {
		errs = append(errs, errors.New(w.dir+": not as many files as were left"))
	}
	return errors.Join(append(errs, err)...)
}
